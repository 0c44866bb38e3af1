"""Exploration: one long life in a world, planned in a model that is learned on the way, and how much of it was seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from wmcourse.planners import Model, imagined_return
from wmcourse.replay import Transitions
from wmcourse.worlds import MAX_SPEED, TORQUE, angle_of

GRID = 20  # the pendulum's angle and velocity are cut into this many cells each


def held_actions(count: int, horizon: int, hold: int, reach: float, generator: torch.Generator) -> Tensor:
    """`count` action sequences, (count, horizon, 1), uniform in [-reach, reach], each number held for `hold` steps."""
    drawn = torch.rand(count, -(-horizon // hold), 1, generator=generator)
    return ((2 * drawn - 1) * reach).repeat_interleave(hold, 1)[:, :horizon]


def best_sequence(model: Model, state: Tensor, actions: Tensor) -> Tensor:
    """Play N action sequences in a model and keep the one that earns the most.

    Args:
        model: from states (N, S) and actions (N, A) to the next states (N, S) and rewards (N,).
        state: where all begin, (S,).
        actions: (N, H, A).

    Returns:
        (H, A).
    """
    return actions[imagined_return(model, state.expand(len(actions), -1), actions).argmax()]


def explore(
    env: gym.Env,
    learn: Callable[[Transitions, int], Any] | None,
    model_of: Callable[[Any], Model],
    *,
    steps: int,
    seed: int,
    refit: int = 100,
    hold: int = 5,
    horizon: int = 30,
    candidates: int = 200,
) -> Transitions:
    """One life of `steps` steps: random at first, then by the plan that earns most in what was learned so far.

    Args:
        env: a pendulum, not truncated on the way.
        learn: from all transitions so far and a seed to what was learned; None stays random for life.
        model_of: from what was learned to the model that plans are made in, its reward included.
        steps, seed: how long, and what the world and the draws follow.
        refit: how often to learn again, in steps; the first so many are random.
        hold, horizon, candidates: steps that a torque is held, steps of a plan, plans compared.
    """
    generator, model = torch.Generator().manual_seed(seed), None
    obs, actions, rewards, queue = [torch.as_tensor(env.reset(seed=seed)[0])], [], [], []
    for t in range(steps):
        if learn is not None and t and t % refit == 0:
            taken = Transitions(*_columns(obs, actions, rewards))
            model, queue = model_of(learn(taken, seed + t)), []
        if not queue:
            many = held_actions(candidates if model else 1, horizon, hold, TORQUE, generator)
            with torch.no_grad():
                queue = list((best_sequence(model, obs[-1], many) if model else many[0])[:hold])
        actions.append(queue.pop(0))
        seen, reward, *_ = env.step(actions[-1].numpy())
        obs.append(torch.as_tensor(np.array(seen)))
        rewards.append(float(reward))
    return Transitions(*_columns(obs, actions, rewards))


def _columns(obs: list[Tensor], actions: list[Tensor], rewards: list[float]) -> tuple[Tensor, ...]:
    seen = torch.stack(obs)
    never = torch.zeros(len(actions), dtype=torch.bool)
    return seen[:-1], torch.stack(actions), torch.tensor(rewards), seen[1:], never


def cells_seen(obs: Tensor) -> Tensor:
    """How many of the GRID² cells of (angle, velocity) were visited up to each of T observations (T, 3): (T,) int64."""
    column = ((angle_of(obs) / (2 * math.pi) + 0.5) * GRID).long().clamp(0, GRID - 1)
    row = ((obs[:, 2] / (2 * MAX_SPEED) + 0.5) * GRID).long().clamp(0, GRID - 1)
    known: set[int] = set()
    counts = []
    for cell in (row * GRID + column).tolist():
        known.add(cell)
        counts.append(len(known))
    return torch.tensor(counts)


def on_the_circle(obs: Tensor) -> Tensor:
    """Imagined pendulum observations (..., 3) brought back to what can be: cos² + sin² = 1, a velocity in its range."""
    direction = obs[..., :2] / obs[..., :2].norm(dim=-1, keepdim=True).clamp(min=1e-3)
    return torch.cat([direction, obs[..., 2:].clamp(-MAX_SPEED, MAX_SPEED)], -1)
