"""SAC: its formulas against torch.distributions, what an update moves, and that it learns what a bandit is."""

from __future__ import annotations

import copy

import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from wmcourse.replay import Transitions
from wmcourse.sac import SAC, SACConfig, TwinCritic, soft_target, squashed_gaussian


def batch(count: int, seed: int = 0) -> Transitions:
    generator = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, count, 3, generator=generator).unbind()
    action = torch.rand(count, 1, generator=generator) * 2 - 1
    return Transitions(obs, action, -((action[:, 0] - 0.5) ** 2), next_obs, torch.ones(count, dtype=torch.bool))


def test_log_prob_is_that_of_a_squashed_normal() -> None:
    mean, log_std, noise = torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0)).unbind()
    action, log_prob = squashed_gaussian(mean, log_std, noise)
    exact = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    kept = (mean + log_std.exp() * noise).abs().amax(-1) < 4  # beyond, the inverse of tanh is not exact
    torch.testing.assert_close(action, (mean + log_std.exp() * noise).tanh())
    torch.testing.assert_close(log_prob[kept], exact.log_prob(action).sum(-1)[kept], rtol=1e-3, atol=1e-3)


def test_log_prob_is_finite_where_tanh_is_one() -> None:
    action, log_prob = squashed_gaussian(torch.full((1, 1), 40.0), torch.zeros(1, 1), torch.zeros(1, 1))
    assert action.item() == 1.0
    assert log_prob.isfinite().all()


def test_target_stops_where_the_world_ends() -> None:
    reward, next_values = torch.tensor([1.0, 1.0]), torch.tensor([[10.0, 10.0], [8.0, 12.0]])
    ended = torch.tensor([False, True])
    got = soft_target(reward, ended, next_values, torch.tensor([-2.0, -2.0]), torch.tensor(0.5), 0.9)
    torch.testing.assert_close(got, torch.tensor([1 + 0.9 * (8 + 1), 1.0]))


def test_the_stacked_critics_are_two() -> None:
    critic, obs, action = TwinCritic(4, 8), torch.randn(5, 3), torch.randn(5, 1)
    first, second = critic(obs, action)
    with torch.no_grad():
        for weight in critic.weights:
            weight[1] += 1.0
    again, moved = critic(obs, action)
    torch.testing.assert_close(again, first)
    assert not torch.allclose(moved, second)


def test_an_update_moves_all_parts_and_the_slow_critics_slowly() -> None:
    agent = SAC(3, 1, SACConfig(hidden=16), seed=0)
    before = copy.deepcopy((agent.actor, agent.critic, agent.slow_critic))
    watched = agent.update(batch(32))
    moved = [
        max(
            float((new - old).abs().max().detach())
            for new, old in zip(part.parameters(), was.parameters(), strict=True)
        )
        for part, was in zip((agent.actor, agent.critic, agent.slow_critic), before, strict=True)
    ]
    assert moved[0] > 1e-4
    assert moved[1] > 1e-4
    assert 0 < moved[2] < 0.1 * moved[1]
    assert set(watched) == {"critic_loss", "value", "entropy", "temperature"}


def test_it_learns_the_best_action_of_a_bandit() -> None:
    agent = SAC(3, 1, SACConfig(hidden=32, learning_rate=3e-3, target_entropy=-3.0), seed=1)
    for seed in range(300):
        agent.update(batch(128, seed))
    greedy = agent.act(torch.randn(64, 3, generator=torch.Generator().manual_seed(5)), greedy=True)
    assert (greedy - 0.5).abs().mean() < 0.25  # drawn uniformly it would be 0.6


def test_one_seed_one_agent() -> None:
    obs = torch.ones(1, 3)
    first, again, other = (SAC(3, 1, seed=seed).act(obs) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
