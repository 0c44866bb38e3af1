"""Lesson 00's mathematics by truth: a known return, a known ratio, a value in closed form, a model of known physics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wmcourse import start_here
from wmcourse.replay import Replay, episode_transitions, random_policy, record_episode, record_episodes
from wmcourse.worlds import make_cartpole, make_pendulum


def test_the_return_of_a_constant_reward_is_a_geometric_sum() -> None:
    value = start_here.discounted_return(torch.full((50,), 2.0), 0.9)
    left = torch.arange(50, 0, -1)
    assert torch.allclose(value, 2 * (1 - 0.9**left) / (1 - 0.9), atol=1e-5)


def test_the_cut_stream_is_what_the_episodes_hold() -> None:
    env = make_cartpole()
    episodes = record_episodes(env, random_policy(env, seed=0), count=8, seed=0)
    replay = Replay()
    replay.add(*episodes)
    rows = replay.stream()
    cut = start_here.stream_transitions(rows.obs[0], rows.action[0], rows.first[0])
    kept = replay.transitions()
    assert all(torch.equal(a, b) for a, b in zip(cut, (kept.obs, kept.action, kept.next_obs), strict=True))


def test_the_swap_ratio_of_a_linear_world_is_known() -> None:
    g = torch.Generator().manual_seed(0)
    obs, action = torch.randn(100_000, 1, generator=g), 0.7 * torch.randn(100_000, 1, generator=g)
    next_obs = obs + 2 * action + 0.3 * torch.randn(100_000, 1, generator=g)
    order = torch.randperm(100_000, generator=g)
    ratio = start_here.swap_ratio(lambda o, a: o + 2 * a, obs, action, next_obs, order)
    assert ratio.item() == pytest.approx((4 * 2 * 0.49 + 0.09) / 0.09, rel=0.03)
    assert start_here.swap_ratio(lambda o, a: o, obs, action, next_obs, order).item() == pytest.approx(1, abs=1e-6)


def test_the_fixed_point_of_the_targets_is_the_value_of_a_life_that_ends_by_chance() -> None:
    ends = torch.arange(100) < 4  # a chance of 4 % to end at every step
    value = torch.zeros(())
    for _ in range(3000):
        value = start_here.bootstrap_target(torch.ones(100), value.expand(100), ends, ~ends, 0.95).mean()
    assert value.item() == pytest.approx(1 / (1 - 0.95 * 0.96), rel=1e-4)


@pytest.fixture(scope="module")
def pendulum():
    env = make_pendulum()
    replay = Replay()
    replay.add(*record_episodes(env, random_policy(env, seed=0), count=5, seed=0))
    kept = replay.transitions()
    predict = start_here.fit_dynamics(kept.obs, kept.action, kept.next_obs)
    return env, predict, start_here.fit_reward(kept.obs, kept.action, kept.reward)


def test_the_least_squares_model_knows_the_pendulum(pendulum) -> None:
    env, predict, reward = pendulum
    test = episode_transitions(record_episode(env, random_policy(env, seed=1), seed=50))
    assert (predict(test.obs, test.action) - test.next_obs).square().mean() < 1e-3
    assert (reward(test.obs, test.action) - test.reward).square().mean() < 0.01 * test.reward.var()
    # the torque moves the velocity by 3 / (m l²) * dt = 0.15 radian per second for each newton meter
    obs = torch.tensor([[0.0, 1.0, 0.5]])
    push = predict(obs, torch.tensor([[1.0]])) - predict(obs, torch.tensor([[0.0]]))
    assert push[0, 2].item() == pytest.approx(0.15, abs=0.01)


def test_predictions_stay_on_the_circle_and_within_the_speed_limit(pendulum) -> None:
    _, predict, _ = pendulum
    g = torch.Generator().manual_seed(0)
    future = start_here.imagine(predict, torch.tensor([[-1.0, 0.0, 7.0]]), torch.randn(40, 1, 1, generator=g) * 2)
    assert future.shape == (41, 1, 3)
    assert torch.allclose(future[..., :2].norm(dim=-1), torch.ones(41, 1), atol=1e-5)
    assert future[..., 2].abs().max() <= 8


def test_imagining_feeds_predictions_back() -> None:
    future = start_here.imagine(lambda o, a: 2 * o + a, torch.tensor([1.0]), torch.tensor([[0.0], [1.0], [0.0]]))
    assert future.flatten().tolist() == [1, 2, 5, 10]


def test_the_planner_takes_the_torque_that_pays() -> None:
    def heeds(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return obs + action

    act = start_here.planner(heeds, lambda obs, action: action[..., 0], seed=0, candidates=200, horizon=2, hold=2)
    taken = [act(np.zeros(1, np.float32)) for _ in range(3)]
    assert all(t.shape == (1,) and t.dtype == np.float32 and t[0] > 1.8 for t in taken)
    assert taken[0] == taken[1] != taken[2]  # planned anew after two steps


def test_the_planner_swings_the_real_pendulum_up(pendulum) -> None:
    env, predict, reward = pendulum
    episode = record_episode(env, start_here.planner(predict, reward, seed=0), seed=1001)
    assert episode.obs[-50:, 0].min() > 0.95
