"""Worlds: seeds repeat, frames do not tell the action, noise has the spread it says, and errors say what to install."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from wmcourse import worlds
from wmcourse.worlds import angle_of, make, make_cartpole, make_pendulum, render_angles

MAKERS = {
    "state": lambda: make_pendulum(),
    "noisy": lambda: make_pendulum(noise_std=0.3),
    "hidden velocity": lambda: make_pendulum(hide_velocity=True),
    "noisy with hidden velocity": lambda: make_pendulum(hide_velocity=True, noise_std=0.1),
    "pixels": lambda: make_pendulum(pixels=True, frame_size=16),
    "cart pole": lambda: make_cartpole(),
    "noisy cart pole": lambda: make_cartpole(noise_std=0.1),
}


def played(env: gym.Env, seed: int, steps: int = 6) -> np.ndarray:
    seen = [env.reset(seed=seed)[0]]
    env.action_space.seed(0)
    seen += [env.step(env.action_space.sample())[0] for _ in range(steps)]
    return np.stack(seen)


@pytest.mark.parametrize("make_world", MAKERS.values(), ids=MAKERS)
def test_a_seed_repeats_and_another_differs(make_world) -> None:
    once, again, other = (played(make_world(), seed) for seed in (3, 3, 4))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


@pytest.mark.parametrize("make_world", MAKERS.values(), ids=MAKERS)
def test_observations_are_what_the_space_says(make_world) -> None:
    env = make_world()
    for obs in played(env, seed=0):
        assert obs.dtype == env.observation_space.dtype
        assert env.observation_space.contains(obs)


def test_the_pendulum_is_truncated_after_200_steps_and_never_terminated() -> None:
    env = make_pendulum()
    env.reset(seed=0)
    flags = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(200)]
    assert flags == [(False, False)] * 199 + [(False, True)]


def test_the_velocity_is_hidden_and_the_rest_is_not() -> None:
    seen, hidden = played(make_pendulum(), 5), played(make_pendulum(hide_velocity=True), 5)
    assert hidden.shape == (7, 2)
    assert np.array_equal(hidden, seen[:, :2])


@pytest.mark.parametrize("std", [0.05, 0.4])
def test_the_noise_has_its_spread_no_bias_and_leaves_the_world_exact(std: float) -> None:
    exact, noisy = make_pendulum(), make_pendulum(noise_std=std)
    gaps, rewards = [], []
    for seed in range(5):
        gaps.append([noisy.reset(seed=seed)[0] - exact.reset(seed=seed)[0]])
        for _ in range(200):
            torque = np.array([1.0], np.float32)
            (a, reward_a, *_), (b, reward_b, *_) = noisy.step(torque), exact.step(torque)
            gaps.append([a - b])
            rewards.append(float(reward_a) - float(reward_b))
    gap = np.concatenate(gaps)
    assert np.allclose(gap.std(0), std, rtol=0.08)
    assert np.all(np.abs(gap.mean(0)) < 4 * std / len(gap) ** 0.5)
    assert not np.any(rewards)


def test_noise_is_drawn_anew_at_every_step() -> None:
    env = make_pendulum(noise_std=0.5)
    env.reset(seed=0)
    world: Any = env.unwrapped
    world.state = np.array([np.pi, 0.0])  # hangs still
    seen = np.stack([env.step(np.zeros(1, np.float32))[0] for _ in range(5)])
    assert len(np.unique(seen[:, 0])) == 5


def frame_after(torque: float) -> np.ndarray:
    """The frame of one and the same state, reached with this torque last."""
    env = make_pendulum(pixels=True)
    env.reset(seed=0)
    env.step(np.array([torque], np.float32))
    world: Any = env.unwrapped
    world.state = np.array([0.7, 0.0])
    return env.observation(None)  # type: ignore[attr-defined]


def test_a_frame_carries_no_trace_of_the_action() -> None:
    assert np.array_equal(frame_after(2.0), frame_after(-2.0))
    assert np.array_equal(frame_after(2.0), frame_after(0.0))


def test_gymnasiums_own_picture_does_carry_one() -> None:
    pictures = []
    for torque in (2.0, -2.0):
        env = make("Pendulum-v1", render_mode="rgb_array")
        env.reset(seed=0)
        env.step(np.array([torque], np.float32))
        world: Any = env.unwrapped
        world.state = np.array([0.7, 0.0])
        pictures.append(env.render())
    assert not np.array_equal(*pictures)


def test_drawing_leaves_the_world_as_it_was() -> None:
    env = make_pendulum(pixels=True)
    env.reset(seed=0)
    env.step(np.array([1.5], np.float32))
    world: Any = env.unwrapped
    assert world.last_u == 1.5
    seen = make_pendulum()
    seen.reset(seed=0)
    wanted = [seen.step(np.array([1.5], np.float32))[0] for _ in range(4)][-1]
    for _ in range(3):
        env.step(np.array([1.5], np.float32))
    assert np.allclose([np.cos(world.state[0]), np.sin(world.state[0]), world.state[1]], wanted, atol=1e-5)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_the_rod_lies_where_the_angle_says(size: int) -> None:
    angles = torch.tensor([0.0, torch.pi / 2, torch.pi, -torch.pi / 2, 0.6])
    ink = render_angles(angles, size)[:, 0].double()
    assert ink.shape == (5, size, size)
    assert ink.amax() > 150
    across = torch.linspace(-1, 1, size, dtype=torch.float64)
    weight = ink.sum((1, 2))
    right, up = (ink.sum(1) * across).sum(1) / weight, -(ink.sum(2) * across).sum(1) / weight
    # angle 0 is up and grows to the left: the center of the ink lies on the rod
    assert torch.allclose(torch.atan2(-right, up).cos(), angles.cos().double(), atol=0.05)
    assert torch.allclose(torch.atan2(-right, up).sin(), angles.sin().double(), atol=0.05)


@pytest.mark.parametrize("angle", [0.0, 0.8, 1.6, 3.1, -2.3])
def test_nothing_of_the_rod_is_cropped_away(angle: float) -> None:
    env = make_pendulum(pixels=True)
    env.reset(seed=0)
    world: Any = env.unwrapped
    world.state = np.array([angle, 0.0])
    ink = 255.0 - world.render().mean(axis=2)
    side = len(ink)
    inside = ink[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4].sum()
    assert inside > 0.99 * ink.sum()


def test_the_angle_is_read_back() -> None:
    angle = torch.linspace(-3, 3, 9)
    assert torch.allclose(angle_of(torch.stack([angle.cos(), angle.sin(), 0 * angle], -1)), angle, atol=1e-6)


@pytest.mark.parametrize("size", [0, 24, 100])
def test_a_frame_size_that_does_not_fit_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"and {size} came"):
        make_pendulum(pixels=True, frame_size=size)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        make_pendulum(noise_std=-0.1)
    with pytest.raises(ValueError, match="one frame shows no velocity"):
        make_pendulum(pixels=True, hide_velocity=True)


def test_a_missing_renderer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    make_pendulum()  # states need no renderer
    with pytest.raises(worlds.MissingDependency, match=r'pip install "gymnasium\[classic-control\]"'):
        make_pendulum(pixels=True)


def test_a_missing_simulator_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Box2D", None)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(worlds.MissingDependency, match=r'pip install "gymnasium\[box2d\]"'):
        make("CarRacing-v3")
