"""Worlds: Gymnasium makers for every variant of Pendulum-v1 that the course uses, and CartPole-v1.

Observations are float32 (or uint8 frames), rewards are Gymnasium's own. A world is made of wrappers, each one idea.
"""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

TORQUE = 2.0  # the pendulum's action range is [-TORQUE, TORQUE], newton meter
MAX_SPEED = 8.0  # and its angular velocity stays within [-MAX_SPEED, MAX_SPEED], radian per second
FRAME_SIZE = 32


class MissingDependency(ImportError):
    """A package that a world needs is not installed; the message says what to install."""


def make_pendulum(
    *, hide_velocity: bool = False, noise_std: float = 0.0, pixels: bool = False, frame_size: int = FRAME_SIZE
) -> gym.Env:
    """Pendulum-v1: a rod on a motor too weak to lift it in one go; truncated after 200 steps, never terminated.

    The observation is (cos, sin) of the angle, 0 at the top, and the angular velocity in radian per second: shape (3,).
    The action is a torque in [-2, 2], shape (1,). The reward is
    -(angle² + 0.1 velocity² + 0.001 torque²), in [-16.3, 0].

    Args:
        hide_velocity: leave the velocity out: shape (2,).
        noise_std: standard deviation of Gaussian noise added to every observed number.
        pixels: observe the rendered frame instead: uint8, shape (1, frame_size, frame_size).
        frame_size: side of the frame; 64 must be a multiple of it or it a multiple of 64.

    Raises:
        MissingDependency: pixels were asked for and pygame is not installed.
        ValueError: a negative noise_std, a frame size that does not fit, or a velocity to hide in a frame.
    """
    if pixels and hide_velocity:
        raise ValueError("one frame shows no velocity: leave hide_velocity out with pixels")
    env = make("Pendulum-v1", render_mode="rgb_array" if pixels else None)
    if pixels:
        env = PixelObservation(env, frame_size)
    if hide_velocity:
        env = HideVelocity(env)
    if noise_std:
        env = NoisyObservation(env, noise_std)
    return env


def make_rusty_pendulum(rust: float = 0.025) -> gym.Env:
    """Pendulum-v1 with friction and gusts, see RustyPendulum; it begins hanging down and is never truncated."""
    return RustyPendulum(make("Pendulum-v1").unwrapped, rust)


def make_cartpole(*, noise_std: float = 0.0) -> gym.Env:
    """CartPole-v1: position, velocity, pole angle and its velocity, shape (4,); actions 0 (left) and 1 (right).

    Reward 1 a step; terminated when the pole falls or the cart leaves, truncated after 500 steps.
    """
    env = make("CartPole-v1")
    return NoisyObservation(env, noise_std) if noise_std else env


def make(name: str, **kwargs: Any) -> gym.Env:
    """`gymnasium.make`, which says what to install where a renderer or a simulator is missing."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        if kwargs.get("render_mode") == "rgb_array":
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # frames need no screen
            import pygame  # noqa: F401
        return gym.make(name, **kwargs)
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        extra = "box2d" if "CarRacing" in name or "Box2D" in str(error) else "classic-control"
        raise MissingDependency(
            f'{name} needs a package that is not installed ({error}): run `pip install "gymnasium[{extra}]"`'
        ) from None


class HideVelocity(gym.ObservationWrapper):
    """Leave the pendulum's velocity out: observations (cos, sin), shape (2,)."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.observation_space = Box(-1.0, 1.0, (2,), np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """(cos, sin, velocity) to (cos, sin)."""
        return observation[:2]


class NoisyObservation(gym.ObservationWrapper):
    """Add Gaussian noise to every observed number; the world itself stays exact. Seeded by reset(seed=...)."""

    def __init__(self, env: gym.Env, std: float):
        super().__init__(env)
        if std < 0:
            raise ValueError(f"noise_std should be at least 0, and {std} came")
        self.std = std
        space = env.observation_space
        self.observation_space = Box(-np.inf, np.inf, space.shape, np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Add noise from the environment's own generator."""
        noise = self.unwrapped.np_random.normal(0.0, self.std, observation.shape)
        return (observation + noise).astype(np.float32)


class RustyPendulum(gym.Wrapper):
    """Pendulum-v1 with friction and gusts of known strength; it begins at rest, hanging down.

    Each step the velocity loses a share `rust` of itself, then a gust kicks it by a normal number of std
    gust_std(angle), then Pendulum-v1 does what it does. So the std of the next velocity is gust_std of the angle
    before, while it stays below MAX_SPEED.
    """

    def __init__(self, env: gym.Env, rust: float):
        super().__init__(env)
        self.rust = rust

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Hanging down, at rest."""
        self.env.reset(seed=seed, options=options)
        world: Any = self.unwrapped
        world.state = np.array([np.pi, 0.0])
        return np.array([-1.0, 0.0, 0.0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Friction, one draw of the wind, then 0.05 s of Pendulum-v1."""
        world: Any = self.unwrapped
        angle, velocity = world.state
        kick = world.np_random.normal(0.0, float(gust_std(torch.tensor(angle))))
        world.state = np.array([angle, (1 - self.rust) * velocity + kick])
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, float(reward), terminated, truncated, info


def gust_std(angle: Tensor) -> Tensor:
    """Of the rusty pendulum's wind at an angle (...), in rad/s: 0.05 at the top, 0.15 at the bottom."""
    return 0.05 + 0.05 * (1 - angle.cos())


class PixelObservation(gym.ObservationWrapper):
    """The pendulum's rendered frame: uint8 (1, size, size), 0 for the background, cropped to the disc the rod sweeps.

    Gymnasium draws the last torque into its picture as an arrow; a frame that shows the action would leak it to every
    encoder, so the arrow is left out.
    """

    def __init__(self, env: gym.Env, size: int = FRAME_SIZE):
        super().__init__(env)
        if size < 1 or (64 % size and size % 64):
            raise ValueError(f"frame_size should divide 64 or be a multiple of it, and {size} came")
        self.size = size
        self.observation_space = Box(0, 255, (1, size, size), np.uint8)
        # Half of Gymnasium's picture is margin; drawn twice as fine as needed, or more, it averages to smooth edges.
        pendulum: Any = env.unwrapped
        pendulum.screen_dim = 4 * max(64, size)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The frame of the environment's state now."""
        pendulum: Any = self.unwrapped
        torque, pendulum.last_u = pendulum.last_u, None
        picture = pendulum.render()
        pendulum.last_u = torque
        side = picture.shape[0]
        disc = slice(side // 4, 3 * side // 4)
        ink = 255.0 - picture[disc, disc].mean(axis=2)
        step = side // 2 // self.size
        frame = ink.reshape(self.size, step, self.size, step).mean(axis=(1, 3))
        return np.clip(frame * 1.6, 0, 255).astype(np.uint8)[None]  # the rod's red reaches nearly full scale


def render_angles(angle: Tensor, frame_size: int = FRAME_SIZE) -> Tensor:
    """The pendulum's frame at each of T angles (T,) in radian, 0 at the top: uint8 (T, 1, frame_size, frame_size).

    Raises:
        MissingDependency: pygame is not installed.
    """
    env = make_pendulum(pixels=True, frame_size=frame_size)
    env.reset(seed=0)
    pendulum: Any = env.unwrapped
    frames = []
    for radian in angle.tolist():
        pendulum.state = np.array([radian, 0.0])
        frames.append(env.observation(None))  # type: ignore[attr-defined]
    env.close()
    return torch.as_tensor(np.stack(frames))


def angle_of(obs: Tensor) -> Tensor:
    """The pendulum's angle (...) in radian, 0 at the top, from observations (..., O) that begin with (cos, sin)."""
    return torch.atan2(obs[..., 1], obs[..., 0])
