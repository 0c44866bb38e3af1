"""Lesson 06's mathematics by truth: torch's own cell, a mixture asked back, padding that counts for nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wmcourse import recurrent_dynamics as rd
from wmcourse.nets import fit
from wmcourse.one_step_dynamics import gaussian_log_prob
from wmcourse.replay import Episode, record_episode, record_episodes
from wmcourse.worlds import angle_of, make_pendulum

WEIGHT, MEAN, STD = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([0.3, 0.8, 0.5])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, *parts: Tensor) -> list[Tensor]:
    return [part.expand(count, *part.shape) for part in parts]


@pytest.mark.parametrize("sizes", [(3, 64), (1, 1), (20, 200)])
def test_the_cell_is_torchs_in_value_and_gradient(sizes: tuple[int, int]) -> None:
    inputs, hidden = sizes
    torch.manual_seed(0)
    cell = nn.GRUCell(inputs, hidden)
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    x, h = torch.randn(7, inputs, requires_grad=True), torch.randn(7, hidden, requires_grad=True)
    mine, theirs = rd.gru_cell(x, h, *weights), cell(x, h)
    assert (mine - theirs).abs().max() <= 1e-6
    probe = torch.randn(7, hidden)
    for a, b in zip(
        torch.autograd.grad((mine * probe).sum(), [x, h, *weights]),
        torch.autograd.grad((theirs * probe).sum(), [x, h, *weights]),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-5)


def test_one_component_is_the_gaussian_of_lesson_01() -> None:
    x, mean, std = torch.randn(4, 3), torch.randn(4, 1, 3), torch.rand(4, 1, 3) + 0.1
    assert torch.allclose(
        rd.mixture_log_prob(x, torch.randn(4, 1), mean, std), gaussian_log_prob(x, mean[:, 0], std[:, 0])
    )


def test_equal_components_are_one_gaussian_whatever_their_weights() -> None:
    x, mean, std = torch.randn(4, 2), torch.randn(4, 1, 2), torch.rand(4, 1, 2) + 0.1
    many = rd.mixture_log_prob(x, torch.randn(4, 5), mean.expand(4, 5, 2), std.expand(4, 5, 2))
    assert torch.allclose(many, gaussian_log_prob(x, mean[:, 0], std[:, 0]), atol=1e-5)


def test_the_gradient_is_the_finite_difference() -> None:
    generator = seeded(0)
    x = torch.randn(1, 2, generator=generator, dtype=torch.float64)
    logits = torch.randn(1, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    mean = torch.randn(1, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    std = (torch.rand(1, 3, 2, generator=generator, dtype=torch.float64) + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda *p: rd.mixture_log_prob(x, *p), (logits, mean, std))


def test_at_extremes_the_log_likelihood_is_a_number_and_so_is_its_gradient() -> None:
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    mean, std = torch.zeros(1, 2, 1, requires_grad=True), torch.full((1, 2, 1), 1e-3, requires_grad=True)
    value = rd.mixture_log_prob(torch.tensor([[1.0]]), logits, mean, std)
    assert torch.allclose(value, torch.tensor([-0.5e6 - math.log(1e-3) - 0.5 * math.log(2 * math.pi)]))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(value.sum(), [logits, mean, std]))


def test_a_fit_gives_a_known_mixture_back() -> None:
    generator = seeded(0)
    which = torch.multinomial(WEIGHT, 4000, replacement=True, generator=generator)
    sample = (MEAN[which] + STD[which] * torch.randn(4000, generator=generator))[:, None]
    logits, log_std = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3, 1))
    mean = nn.Parameter(torch.tensor([[-3.0], [0.0], [3.0]]))

    def loss() -> Tensor:
        return -rd.mixture_log_prob(sample, *rows(4000, logits, mean, log_std.exp())).mean()

    fit([logits, mean, log_std], loss, steps=200, learning_rate=0.05)
    assert (logits.softmax(0) - WEIGHT).abs().max() < 0.03
    assert (mean[:, 0] - MEAN).abs().max() < 0.1
    assert (log_std[:, 0].exp() - STD).abs().max() < 0.1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_have_the_mixtures_moments(temperature: float) -> None:
    count, generator = 400_000, seeded(1)
    uniform, noise = torch.rand(count, generator=generator), torch.randn(count, 1, generator=generator)
    logits, means, stds = rows(count, WEIGHT.log(), MEAN[:, None], STD[:, None])
    draws = rd.mixture_sample(logits, means, stds, uniform, noise, temperature)[:, 0]
    weight = WEIGHT ** (1 / temperature) / (WEIGHT ** (1 / temperature)).sum()
    mean = (weight * MEAN).sum()
    variance = (weight * (temperature * STD**2 + MEAN**2)).sum() - mean**2
    assert abs(draws.mean() - mean) < 4 * (variance / count).sqrt()
    assert abs(draws.var() / variance - 1) < 0.02


def test_a_draw_scores_best_under_the_mixture_it_came_from() -> None:
    generator = seeded(2)
    uniform, noise = torch.rand(20_000, generator=generator), torch.randn(20_000, 1, generator=generator)
    logits, means, stds = rows(20_000, WEIGHT.log(), MEAN[:, None], STD[:, None])
    draws = rd.mixture_sample(logits, means, stds, uniform, noise, 1.0)
    right = rd.mixture_log_prob(draws, logits, means, stds).mean()
    assert right > rd.mixture_log_prob(draws, logits, means, 1.3 * stds).mean()
    assert right > gaussian_log_prob(draws, draws.mean(0).expand_as(draws), draws.std(0).expand_as(draws)).mean()


def episodes() -> list[Episode]:
    """Three episodes of 9, 4 and 6 steps."""
    env = make_pendulum(hide_velocity=True)
    rng = np.random.default_rng(0)
    whole = record_episodes(env, lambda _: rng.uniform(-2, 2, 1).astype(np.float32), 3, seed=0)
    return [Episode(e.obs[: n + 1], *(part[:n] for part in e[1:])) for e, n in zip(whole, (9, 4, 6), strict=True)]


def gradient(model: rd.RecurrentModel, data: rd.Padded) -> list[Tensor]:
    log_prob = rd.mixture_log_prob(rd.turns(data.obs)[..., None], *model(data.obs[:, :-1], data.action))
    return list(torch.autograd.grad(rd.masked_mean(log_prob, data.mask), list(model.parameters())))


@pytest.mark.parametrize("kind", [rd.RecurrentModel, rd.MemorylessModel])
def test_padding_contributes_nothing_to_any_gradient(kind: type[rd.RecurrentModel]) -> None:
    padded = rd.pad_episodes(episodes())
    assert padded.mask.sum(1).tolist() == [9, 4, 6]
    model = kind(padded, components=3, hidden=8)
    together = gradient(model, padded)
    alone = [gradient(model, rd.pad_episodes([e])) for e in episodes()]
    for parts in zip(together, *alone, strict=True):
        weighted = (9 * parts[1] + 4 * parts[2] + 6 * parts[3]) / 19
        assert torch.allclose(parts[0], weighted, atol=1e-5)
    other = padded._replace(action=torch.where(padded.mask[..., None], padded.action, 7.0))
    assert all(torch.equal(a, b) for a, b in zip(together, gradient(model, other), strict=True))


def test_nan_behind_the_mask_reaches_neither_value_nor_gradient() -> None:
    values = torch.tensor([[1.0, torch.nan], [3.0, torch.inf]], requires_grad=True)
    mean = rd.masked_mean(values, torch.tensor([[True, False], [True, False]]))
    assert mean == 2
    assert torch.equal(torch.autograd.grad(mean, values)[0], torch.tensor([[0.5, 0.0], [0.5, 0.0]]))


def test_a_model_is_blind_to_the_future_and_its_rollout_agrees_with_the_sequence() -> None:
    padded = rd.pad_episodes(episodes()[:1])
    model = rd.RecurrentModel(padded, hidden=8)
    obs, action = padded.obs[:, :-1], padded.action
    before = model(obs, action)
    changed = action.clone()
    changed[:, 5] *= -1
    after = model(obs, changed)
    assert all(torch.equal(a[:, :5], b[:, :5]) for a, b in zip(before[:2], after[:2], strict=True))
    assert not torch.equal(before[1][:, 5], after[1][:, 5])  # the turn from z_5 to z_6 follows a_5
    predicted = rd.rollout_with_memory(model.step, model.start(1), obs, action)  # all is context but the last
    assert torch.allclose(predicted[:, 0], rd.turned(obs[:, -1], before[1][:, -1, 0, 0]), atol=1e-5)


def test_without_memory_the_past_changes_nothing() -> None:
    padded = rd.pad_episodes(episodes()[:1])
    model = rd.MemorylessModel(padded, hidden=8)
    obs = padded.obs[:, :-1].clone()
    before = model(obs, padded.action)[1]
    obs[:, :5] *= -1
    assert torch.equal(model(obs, padded.action)[1][:, 5:], before[:, 5:])


def test_turns_lead_from_each_frame_to_the_next() -> None:
    obs = episodes()[0].obs
    assert torch.allclose(rd.turned(obs[:-1], rd.turns(obs)), obs[1:], atol=1e-5)
    behind = torch.tensor([[math.cos(3.0), math.sin(3.0)], [math.cos(-3.0), math.sin(-3.0)]])
    assert torch.allclose(rd.turns(behind), torch.tensor([2 * math.pi - 6]), atol=1e-5)


def test_a_gust_kicks_the_velocity_and_calm_is_five_steps_of_gymnasium() -> None:
    push = np.array([1.0], np.float32)
    calm, plain = rd.GustyPendulum(make_pendulum(), lambda rng: 0.0), make_pendulum()
    calm.reset(seed=3)
    plain.reset(seed=3)
    obs, reward, *_ = calm.step(push)
    steps = [plain.step(push) for _ in range(rd.HOLD)]
    assert np.array_equal(obs, steps[-1][0])
    assert reward == pytest.approx(sum(float(step[1]) for step in steps))
    calm.reset(seed=3)
    kicked, *_ = calm.swing(push, 1.0)
    moved = rd.turns(torch.as_tensor(np.stack([obs[:2], kicked[:2]])))
    assert 0.2 < moved < 0.35  # 1 rad/s for 0.25 s, and a little of gravity


def test_the_wind_follows_the_seed_and_episodes_end_in_time() -> None:
    windy = rd.GustyPendulum(make_pendulum(), lambda rng: rng.normal())
    push = np.array([0.5], np.float32)
    first, again, other = (record_episode(windy, lambda _: push, seed) for seed in (4, 4, 5))
    assert len(first.action) == 200 // rd.HOLD
    assert torch.equal(first.obs, again.obs)
    assert not torch.equal(angle_of(first.obs)[1:], angle_of(other.obs)[1:])
