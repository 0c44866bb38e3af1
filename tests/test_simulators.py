"""Simulators: step by step what Gymnasium does, from many states, at the limits, too; and gradients through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wmcourse.simulators import FORCE, HOLD, STEPS, TRACK, UPRIGHT, make_swingup, pendulum, swingup, swingup_reward
from wmcourse.worlds import TORQUE, make_pendulum


def drawn(seed: int, *limits: float, count: int = 300) -> Tensor:
    """Numbers (count, len(limits)), each column within its limit of 0."""
    numbers = torch.rand(count, len(limits), generator=torch.Generator().manual_seed(seed))
    return (2 * numbers - 1) * torch.tensor(limits)


def stepped(env: Any, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an environment from each of the states, set by hand."""
    env.reset(seed=0)
    obs, reward = [], []
    for s, a in zip(state.double().numpy(), action.numpy(), strict=True):
        env.reset()
        env.unwrapped.state = s
        seen, earned, terminated, _, _ = env.step(a)
        assert not terminated
        obs.append(seen)
        reward.append(earned)
    return torch.as_tensor(np.stack(obs)), torch.tensor(reward, dtype=torch.float32)


def seen_of(state: Tensor) -> Tensor:
    """What the swing-up shows of (x, x_dot, theta, theta_dot)."""
    x, x_dot, theta, theta_dot = state.unbind(-1)
    return torch.stack([x, x_dot, theta.cos(), theta.sin(), theta_dot], -1)


def test_the_pendulum_steps_as_gymnasiums() -> None:
    state, torque = drawn(0, 3 * torch.pi, 8.0), drawn(1, 1.5 * TORQUE)
    obs = torch.stack([state[:, 0].cos(), state[:, 0].sin(), state[:, 1]], -1)
    wanted_obs, wanted_reward = stepped(make_pendulum(), state, torque)
    came_obs, came_reward = pendulum(obs, torque)
    assert torch.allclose(came_obs, wanted_obs, atol=2e-5)
    assert torch.allclose(came_reward, wanted_reward, atol=2e-4)
    assert (came_obs[:, 2].abs() == 8.0).sum() > 5  # the speed limit was met


@pytest.mark.parametrize("sparse", [False, True])
def test_the_swing_up_steps_as_gymnasiums(sparse: bool) -> None:
    state, force = drawn(2, TRACK, 3.0, 2 * torch.pi, 6.0), drawn(3, 1.5 * FORCE)
    wanted_obs, wanted_reward = stepped(make_swingup(sparse=sparse), state, force)
    came_obs, came_reward = swingup(seen_of(state), force, sparse)
    assert torch.allclose(came_obs, wanted_obs, atol=2e-5)
    assert torch.allclose(came_reward, wanted_reward, atol=2e-5)
    assert (came_obs[:, 0].abs() == TRACK).sum() > 2  # the ends of the track were met
    assert 0 < wanted_reward.max() <= 1


def test_whole_episodes_stay_together() -> None:
    for env, model, scale in ((make_pendulum(), pendulum, TORQUE), (make_swingup(), swingup, FORCE)):
        obs = torch.as_tensor(env.reset(seed=3)[0])
        for action in drawn(4, scale, count=40):
            seen, reward, *_ = env.step(action.numpy())
            obs, imagined = model(obs, action)
            assert torch.allclose(obs, torch.as_tensor(seen), atol=2e-3)
            assert abs(float(reward) - imagined.item()) < 2e-3


def test_the_swing_up_is_gymnasiums_cart_pole_twice() -> None:
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv

    env, plain = make_swingup(), CartPoleEnv()
    env.reset(seed=0)
    plain.reset(seed=0)
    world: Any = env.unwrapped
    plain.state = np.array(world.state)
    for push in (1, 1, 0):
        seen = env.step(np.array([FORCE if push else -FORCE], np.float32))[0]
        for _ in range(HOLD):
            plain.steps_beyond_terminated = None
            plain.step(push)
    assert np.allclose(world.state, plain.state)
    assert np.allclose(seen, seen_of(torch.as_tensor(np.array(plain.state))), atol=1e-6)


def test_the_swing_up_is_seeded_starts_hanging_and_is_truncated() -> None:
    env = make_swingup()
    first, again, other = (env.reset(seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[2] < -0.99
    assert env.observation_space.contains(first)
    flags = [env.step(env.action_space.sample())[2:4] for _ in range(STEPS)]
    assert flags == [(False, False)] * (STEPS - 1) + [(False, True)]


def test_rewards_of_known_states() -> None:
    standing, hanging = seen_of(torch.zeros(4)), seen_of(torch.tensor([0.0, 0.0, torch.pi, 0.0]))
    at_the_end = seen_of(torch.tensor([TRACK, 0.0, 0.0, 0.0]))
    for sparse, wanted in ((False, [1.0, 0.0, 0.0]), (True, [1.0, 0.0, 1.0])):
        came = swingup_reward(torch.stack([standing, hanging, at_the_end]), sparse)
        assert torch.allclose(came, torch.tensor(wanted), atol=1e-6)
    just, past = (seen_of(torch.tensor([0.0, 0.0, angle, 0.0])) for angle in (0.2, 0.22))
    assert just[2] > UPRIGHT > past[2]


@pytest.mark.parametrize(("model", "obs"), [(pendulum, (1.0, 0.5, 0.2)), (swingup, (0.3, 0.1, -0.8, 0.6, 0.5))])
def test_gradients_are_finite_differences(model: Any, obs: tuple[float, ...]) -> None:
    def after(action: Tensor) -> Tensor:
        state, total = torch.tensor(obs, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for a in action.unbind(0):
            state, reward = model(state, a)
            total = total + reward
        return total + state.sum()

    actions = torch.tensor([[0.5], [-0.3], [1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(after, actions)


def test_any_batch_shape_goes_through() -> None:
    obs, action = seen_of(drawn(5, 1.0, 1.0, 3.0, 1.0, count=12)), drawn(6, FORCE, count=12)
    flat = swingup(obs, action)
    shaped = swingup(obs.view(3, 4, 5), action.view(3, 4, 1))
    assert torch.equal(shaped[0].view(12, 5), flat[0])
    assert torch.equal(shaped[1].view(12), flat[1])
