"""Lesson 01's mathematics by truth: densities, linear systems rolled forward, a linear world learned exactly."""

from __future__ import annotations

import torch

from wmcourse import one_step_dynamics as osd
from wmcourse.replay import Transitions

GENERATOR = torch.Generator().manual_seed(0)
MATRIX = torch.tensor([[0.9, 0.2, 0.0], [-0.2, 0.9, 0.1], [0.0, 0.0, 0.8]])
PUSH = torch.tensor([[0.0, 0.5, 1.0]])


def world(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return obs @ MATRIX + action @ PUSH + 0.1


def transitions(count: int) -> Transitions:
    obs = torch.randn(count, 3, generator=GENERATOR) * torch.tensor([1.0, 0.1, 5.0])
    action = torch.randn(count, 1, generator=GENERATOR)
    return Transitions(obs, action, obs[:, 0] + action[:, 0], world(obs, action), torch.zeros(count, dtype=torch.bool))


def test_the_density_integrates_to_one_and_is_torchs() -> None:
    x = torch.linspace(-12, 12, 20_001)[:, None]
    log_prob = osd.gaussian_log_prob(x, torch.tensor([0.7]), torch.tensor([1.3]))
    assert abs(log_prob.exp().sum() * (24 / 20_000) - 1).item() < 1e-4
    mean, std = torch.randn(5, 4, generator=GENERATOR), torch.rand(5, 4, generator=GENERATOR) + 0.1
    wanted = torch.distributions.Normal(mean, std).log_prob(mean + 1).sum(-1)
    assert torch.allclose(osd.gaussian_log_prob(mean + 1, mean, std), wanted, atol=1e-4)


def test_the_likelihood_is_highest_at_the_true_mean_and_spread() -> None:
    x = 2.0 + 0.5 * torch.randn(50_000, 1, generator=GENERATOR)
    mean, raw = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([mean, raw], lr=0.05)
    for _ in range(400):
        head = osd.gaussian_head(torch.cat([mean, raw]), floor=1e-3)
        loss = -osd.gaussian_log_prob(x, *head).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mean_found, std_found = osd.gaussian_head(torch.cat([mean, raw]), floor=1e-3)
    assert abs(mean_found.item() - 2.0) < 0.02
    assert abs(std_found.item() - 0.5) < 0.02


def test_least_squares_finds_a_linear_world_and_rolls_it_forward() -> None:
    linear = osd.fit_linear(transitions(200))
    obs, actions = torch.randn(4, 3, generator=GENERATOR), torch.randn(4, 10, 1, generator=GENERATOR)
    true = osd.rollout(world, obs, actions)
    assert torch.allclose(osd.rollout(linear, obs, actions), true, atol=1e-3)
    assert torch.allclose(osd.open_loop_error(true + 2.0, true, torch.full((3,), 2.0)), torch.ones(10), atol=1e-5)
    assert osd.rollout(osd.copy_last, obs, actions).eq(obs[:, None]).all()


def test_the_model_learns_a_linear_world_and_its_reward() -> None:
    data, test = transitions(2_000), transitions(200)
    model = osd.fit_one_step(data, seed=0, steps=600)
    with torch.no_grad():
        error = (model.step(test.obs, test.action) - test.next_obs) / (data.next_obs - data.obs).std(0)
        assert error.square().mean().sqrt() < 0.1
        assert (model.reward(test.obs, test.action) - test.reward).abs().mean() < 0.1
        assert model.spread(test.obs, test.action).shape == (200, 3)


def test_the_same_seed_gives_the_same_model_and_leaves_global_randomness_alone() -> None:
    data = transitions(300)
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    one, two = (osd.fit_one_step(data, seed=1, steps=20) for _ in range(2))
    assert torch.equal(torch.rand(1), wanted)
    assert torch.equal(one.step(data.obs, data.action), two.step(data.obs, data.action))


def test_the_statistics_travel_with_the_model() -> None:
    model = osd.OneStepModel(transitions(100))
    other = osd.OneStepModel(transitions(50))
    other.load_state_dict(model.state_dict())
    probe = transitions(5)
    assert torch.equal(other.step(probe.obs, probe.action), model.step(probe.obs, probe.action))
