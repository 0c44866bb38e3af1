"""Simulators: the exact equations of two worlds in torch, batched and differentiable, and a CartPole that swings up.

A planner that is given these plans with a perfect model. What they compute is what Gymnasium computes, in float32: the
tests play both side by side. Shapes: obs (..., O), action (..., A); reward (...).
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.spaces import Box
from torch import Tensor

from wmcourse.worlds import MAX_SPEED, TORQUE, angle_of

FORCE = 10.0  # newton; CartPole's own
TRACK = 2.4  # meter from the middle to either end; CartPole's own
STEPS, HOLD = 100, 2  # of a swing-up: steps an episode, and steps of 0.02 s that a force is held
UPRIGHT = math.cos(math.radians(12.0))  # CartPole's own limit for a pole that has not fallen


def pendulum(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """One step of Pendulum-v1: obs (..., 3) and torque (..., 1) to the next obs (..., 3) and the reward (...).

    The reward is that of the state before the step: -(angle² + 0.1 velocity² + 0.001 torque²).
    """
    angle, velocity, torque = angle_of(obs), obs[..., 2], action[..., 0].clamp(-TORQUE, TORQUE)
    reward = -(angle.square() + 0.1 * velocity.square() + 0.001 * torque.square())
    velocity = (velocity + 0.05 * (15.0 * obs[..., 1] + 3.0 * torque)).clamp(-MAX_SPEED, MAX_SPEED)
    angle = angle + 0.05 * velocity
    return torch.stack([angle.cos(), angle.sin(), velocity], -1), reward


def swingup(obs: Tensor, action: Tensor, sparse: bool = False) -> tuple[Tensor, Tensor]:
    """One step of `make_swingup`: obs (..., 5) and force (..., 1) to the next obs (..., 5) and its reward (...).

    obs is (x, x_dot, cos, sin, theta_dot); theta is 0 where the pole stands.
    """
    x, x_dot, _, _, theta_dot = obs.unbind(-1)
    theta = torch.atan2(obs[..., 3], obs[..., 2])
    force = action[..., 0].clamp(-FORCE, FORCE)
    for _ in range(HOLD):  # Florian 2007, as in Gymnasium: cart 1 kg, pole 0.1 kg and 1 m, Euler's steps of 0.02 s
        cos, sin = theta.cos(), theta.sin()
        push = (force + 0.05 * theta_dot.square() * sin) / 1.1
        theta_acc = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos.square() / 1.1))
        x_acc = push - 0.05 * theta_acc * cos / 1.1
        x, x_dot = x + 0.02 * x_dot, x_dot + 0.02 * x_acc
        theta, theta_dot = theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc
        stopped = x.abs() > TRACK
        x, x_dot = x.clamp(-TRACK, TRACK), torch.where(stopped, 0.0, x_dot)
    after = torch.stack([x, x_dot, theta.cos(), theta.sin(), theta_dot], -1)
    return after, swingup_reward(after, sparse)


def swingup_reward(obs: Tensor, sparse: bool = False) -> Tensor:
    """What a state earns, in [0, 1]: obs (..., 5) to (...).

    Dense: (1 + cos theta) / 2, times 1 - (x / 2.4)². Sparse: 1 where the pole is within 12 degrees of upright, else 0.
    """
    if sparse:
        return (obs[..., 2] > UPRIGHT).to(obs.dtype)
    return 0.5 * (1 + obs[..., 2]) * (1 - (obs[..., 0] / TRACK).square())


class SwingUp(gym.Wrapper):
    """Gymnasium's CartPole with the pole hanging at first, and a force of any size instead of left and right.

    A step holds the force for two steps of CartPole, 0.04 s. At the ends of the track the cart stops dead; the pole's
    velocity is left as it is. Nothing terminates.
    """

    def __init__(self, sparse: bool = False, render_mode: str | None = None):
        super().__init__(CartPoleEnv(render_mode=render_mode))
        self.sparse = sparse
        high = np.array([TRACK, np.inf, 1.0, 1.0, np.inf], np.float32)
        self.observation_space = Box(-high, high, dtype=np.float32)
        self.action_space = Box(-FORCE, FORCE, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Hanging nearly still in the middle: each number within 0.05."""
        self.env.reset(seed=seed, options=options)
        world: Any = self.unwrapped
        world.state = world.state + np.array([0.0, 0.0, math.pi, 0.0])
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """0.04 s under a force in newton, shape (1,)."""
        world: Any = self.unwrapped
        world.force_mag = float(np.clip(action, -FORCE, FORCE)[0])  # CartPole pushes by force_mag where the action is 1
        for _ in range(HOLD):
            world.steps_beyond_terminated = None  # a fallen pole is no end here
            world.step(1)
            x, _, theta, theta_dot = world.state
            if abs(x) > TRACK:
                world.state = np.array([np.clip(x, -TRACK, TRACK), 0.0, theta, theta_dot])
        obs = self._obs()
        return obs, float(swingup_reward(torch.from_numpy(obs), self.sparse)), False, False, {}

    def _obs(self) -> np.ndarray:
        world: Any = self.unwrapped
        x, x_dot, theta, theta_dot = world.state
        return np.array([x, x_dot, np.cos(theta), np.sin(theta), theta_dot], np.float32)


def make_swingup(*, sparse: bool = False, render_mode: str | None = None) -> gym.Env:
    """A CartPole to swing up: obs (5,), see `swingup`, and a force in [-10, 10] newton, shape (1,).

    Truncated after 100 steps of 0.04 s, never terminated. Reward in [0, 1], see `swingup_reward`.
    """
    return gym.wrappers.TimeLimit(SwingUp(sparse, render_mode), STEPS)
