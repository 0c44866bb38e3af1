"""Evaluation: one harness for every agent of the course, so that all are judged on the same episodes.

Episode i starts from env.reset(seed=seed + i). All episodes are played side by side, so that a policy is called once a
step on a batch of observations, row i for episode i from the first step to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

BatchPolicy = Callable[[Tensor], Any]  # observations (N, *O) to actions (N, *A): a tensor, or an array

EPISODES = 20
SEED = 10_000  # far from the seeds that agents collect with


def evaluate(
    policy: BatchPolicy, make_env: Callable[[], gym.Env], episodes: int = EPISODES, seed: int = SEED
) -> Tensor:
    """The return of each episode, (episodes,), undiscounted.

    Args:
        policy: called without gradients on float32 observations (episodes, *O); rows of episodes that are over are
            still there, and what it answers for them is not used. A policy that remembers starts anew with every call:
            hand in a fresh one.
        make_env: makes one environment that ends, by itself or by a time limit; called once an episode.
        seed: episode i starts from seed + i, so the same seed gives the same starts to every policy.
    """
    envs = [make_env() for _ in range(episodes)]
    obs = np.stack([env.reset(seed=seed + i)[0] for i, env in enumerate(envs)])
    returns, running = torch.zeros(episodes, dtype=torch.float64), set(range(episodes))
    while running:
        with torch.no_grad():
            actions = np.asarray(policy(torch.as_tensor(obs.astype(np.float32))))
        obs = obs.copy()  # a policy may have kept the last ones
        for i in sorted(running):
            obs[i], reward, terminated, truncated, _ = envs[i].step(actions[i])
            returns[i] += float(reward)
            if terminated or truncated:
                running.discard(i)
    for env in envs:
        env.close()
    return returns.float()


def steps_to_reach(steps: Sequence[int], returns: Sequence[float], goal: float) -> float:
    """The first of `steps` at which the mean return is at least `goal`; infinity where it never is.

    `steps` and `returns` are one agent's learning curve, a point an evaluation.
    """
    return next((float(step) for step, reached in zip(steps, returns, strict=True) if reached >= goal), float("inf"))
