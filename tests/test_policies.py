"""Policies: densities that add up to one, draws that follow them, gradients, and entropies by sampling."""

from __future__ import annotations

import pytest
import torch

from wmcourse.policies import OneHot, TanhNormal, log_slope

KINDS = [TanhNormal(2), OneHot(3)]


@pytest.mark.parametrize("policy", KINDS, ids=["tanh-normal", "one-hot"])
def test_the_entropy_is_minus_the_mean_log_prob_of_draws(policy) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(policy.parameters, generator=generator).expand(100_000, -1)
    noise = policy.noise((100_000,), generator)
    surprise = -policy.log_prob(parameters, policy.draw(parameters, noise))
    assert abs(surprise.mean() - policy.entropy(parameters, noise).mean()) < 5 * surprise.std() / 100_000**0.5


def test_a_density_adds_up_to_one() -> None:
    policy, parameters = TanhNormal(1), torch.tensor([0.3, 0.2])
    grid = torch.linspace(-1, 1, 20_001)[1:-1]
    density = policy.log_prob(parameters.expand(len(grid), 2), grid[:, None]).exp()
    assert density.sum() * 1e-4 == pytest.approx(1.0, abs=1e-3)
    every = OneHot(3).log_prob(torch.randn(3).expand(3, 3), torch.eye(3)).exp()
    assert every.sum() == pytest.approx(1.0)


def test_one_hot_draws_are_as_frequent_as_they_should_be() -> None:
    policy, generator = OneHot(3, unimix=0.3), torch.Generator().manual_seed(0)
    parameters = torch.tensor([8.0, 0.0, -8.0])
    drawn = policy.draw(parameters.expand(50_000, 3), policy.noise((50_000,), generator))
    assert torch.allclose(drawn.mean(0), policy.log_probs(parameters).exp(), atol=0.01)
    assert drawn.sum(-1).allclose(torch.ones(50_000))
    assert policy.mode(parameters).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("policy", KINDS, ids=["tanh-normal", "one-hot"])
def test_gradients_reach_the_parameters_through_a_draw(policy) -> None:
    parameters = torch.randn(5, policy.parameters, generator=torch.Generator().manual_seed(0)).requires_grad_()
    drawn = policy.draw(parameters, policy.noise((5,), torch.Generator().manual_seed(1)))
    (by,) = torch.autograd.grad((drawn * torch.arange(1, policy.size + 1)).sum(), parameters)
    assert (by != 0).all()


def test_far_out_it_stays_finite() -> None:
    assert log_slope(torch.tensor([0.0, 40.0, -40.0])).tolist() == pytest.approx([0.0, -78.6137, -78.6137], abs=1e-3)
    policy, parameters = TanhNormal(1), torch.tensor([[100.0, 0.0], [-100.0, 0.0]])
    assert torch.isfinite(policy.log_prob(parameters, policy.mode(parameters))).all()
    assert policy.mode(parameters).abs().max() <= 1
