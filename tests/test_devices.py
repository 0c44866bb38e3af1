"""Everything also runs on a GPU: each exercise's reference gives there what it gives on the processor."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wmcourse.elbo import bernoulli_log_likelihood
from wmcourse.exercises import catalogue
from wmcourse.grading.contract import copied, leaves
from wmcourse.grading.exercise import Draw
from wmcourse.nets import mlp
from wmcourse.replay import Sequences
from wmcourse.rssm import Categorical, Gaussian, RSSMConfig, WorldModel

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
ELSEWHERE = {"record_episode": "plays an environment", "WorldModel": "a class: its own test is below"}


def moved(x: Any, device: str) -> Any:
    """Nested values with every tensor on a device, and functions that take and give tensors there."""
    if isinstance(x, Tensor):
        return x.detach().to(device).requires_grad_(x.requires_grad)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(moved(item, device) for item in x))
    if isinstance(x, (tuple, list)):
        return type(x)(moved(item, device) for item in x)
    if isinstance(x, nn.Module):
        return x.to(device)
    if type(x).__module__.startswith("wmcourse.exercises"):  # a model that a case made up: its weights go along
        x = copy.copy(x)
        vars(x).update(moved(vars(x), device))
        return x
    if isinstance(x, dict):
        return {key: moved(item, device) for key, item in x.items()}
    if callable(x):
        return lambda *args: moved(x(*(moved(arg, "cpu") for arg in args)), device)
    return x


@pytest.mark.parametrize("exercise", catalogue(), ids=lambda exercise: exercise.id)
def test_a_reference_gives_the_same_on_a_gpu(exercise) -> None:
    if exercise.id in ELSEWHERE:
        pytest.skip(ELSEWHERE[exercise.id])
    args = exercise.example(Draw(0, exercise.id))
    here = exercise.reference(*copied(args))
    there = exercise.reference(*moved(copied(args), "cuda"))
    for value, wanted in zip(leaves(there), leaves(here), strict=True):
        if isinstance(wanted, Tensor):
            assert value.device.type == "cuda"
            assert torch.allclose(value.detach().cpu().double(), wanted.detach().double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("latent", [Gaussian(6), Categorical(3, 4)], ids=["gaussian", "categorical"])
def test_an_rssm_trains_on_a_gpu_as_on_the_processor(latent) -> None:
    torch.manual_seed(0)
    config = RSSMConfig(action=2, embed=8, deter=16, hidden=16, latent=latent)
    decoder = nn.Sequential(mlp(16 + latent.size, 16, 12), nn.Unflatten(-1, (1, 3, 4)))
    model = WorldModel(config, nn.Sequential(nn.Flatten(2), mlp(12, 16, 8)), decoder, bernoulli_log_likelihood)
    first = torch.zeros(3, 6, dtype=torch.bool)
    first[1, 2] = True
    batch = Sequences(torch.rand(3, 6, 1, 3, 4), torch.randn(3, 6, 2), torch.randn(3, 6), first.roll(-1, 1), first)
    noise = latent.noise((3, 6), torch.Generator().manual_seed(1))
    found = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        loss, _ = model.loss(moved(batch, device), noise.to(device))
        loss.backward()
        found.append([loss.item(), *(p.grad.abs().sum().item() for p in model.parameters() if p.grad is not None)])
    assert found[1] == pytest.approx(found[0], rel=1e-2, abs=1e-3)
