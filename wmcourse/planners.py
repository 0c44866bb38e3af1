"""Planners: search for actions in imagination, act once, search anew. They know nothing of networks.

A model is a plain function from a state and an action to the next state and the reward, so that one planner serves the
exact simulator and every model of the course (lesson 09 has the adapters).
Letters for axes: B starts, N candidate plans, P particles, H horizon, A action, R rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Model = Callable[[Any, Tensor], tuple[Any, Tensor]]  # state (R, ...), action (R, A) to next state and reward (R,)
Score = Callable[[Tensor], Tensor]  # plans (B, N, H, A) to how good each is, (B, N)


def imagined_return(model: Model, state: Any, actions: Tensor, discount: float = 1.0) -> Tensor:
    """The sum of discount^t times the reward of step t, imagined: a row for each plan.

    Args:
        model: from state and action (R, A) to the next state and the reward (R,) of this step.
        state: where every row starts: a tensor (R, ...), or whatever the model takes for a state.
        actions: (R, H, A); actions[:, 0] acts in `state`.
        discount: of a step, in (0, 1].

    Returns:
        (R,).
    """
    total = torch.zeros_like(actions[:, 0, 0])
    for t, action in enumerate(actions.unbind(1)):
        state, reward = model(state, action)
        total = total + discount**t * reward
    return total


def cem_update(
    plans: Tensor, scores: Tensor, mean: Tensor, std: Tensor, elites: int, momentum: float, floor: float
) -> tuple[Tensor, Tensor]:
    """One step of the cross-entropy method: move the distribution of plans to its best draws.

    De Boer et al. 2005, A tutorial on the cross-entropy method; smoothed, and std kept off 0.

    Args:
        plans: (B, N, H, A).
        scores: how good each plan is, (B, N).
        mean, std: of the distribution that the plans were drawn from, (B, H, A).
        elites: how many of the best plans count, each start for itself.
        momentum: the share of the old mean and std that is kept, in [0, 1).
        floor: the smallest std.

    Returns:
        The new mean and std, (B, H, A) each; std over the elites with correction 0.
    """
    best = scores.topk(elites, -1).indices[..., None, None].expand(-1, -1, *plans.shape[2:])
    chosen = plans.gather(1, best)  # (B, elites, H, A)
    mean = momentum * mean + (1 - momentum) * chosen.mean(1)
    std = momentum * std + (1 - momentum) * chosen.std(1, correction=0)
    return mean, std.clamp(min=floor)


def mpc_step(search: Callable[[Any, Tensor], Tensor], state: Any, warm: Tensor) -> tuple[Tensor, Tensor]:
    """One step of model-predictive control: plan from here, act once, keep the rest to start from next time.

    Args:
        search: from a state and a plan to begin with, (B, H, A), to a better plan, (B, H, A).
        state: where the world is now.
        warm: what is left of the last plan, (B, H, A).

    Returns:
        The action to take now, (B, A); and the next warm start, (B, H, A): the new plan one step on,
        its last action twice.
    """
    plan = search(state, warm)
    return plan[:, 0], torch.cat([plan[:, 1:], plan[:, -1:]], 1)


@dataclass(frozen=True)
class Search:
    """How plans are searched for; actions lie in [low, high], (A,)."""

    low: Tensor
    high: Tensor
    horizon: int = 15  # H
    candidates: int = 40  # N, in each of the iterations
    iterations: int = 3
    elites: int = 5
    momentum: float = 0.1
    floor: float = 0.05


def score_plans(
    model: Model, state: Any, plans: Tensor, particles: int = 1, rollout: Callable[..., Tensor] = imagined_return
) -> Tensor:
    """The mean return over P imagined futures of each plan: state (B, ...) and plans (B, N, H, A) to (B, N).

    The model sees B N P rows: the P particles of a plan side by side, then the next plan, then the next start.
    """
    times = plans.shape[1] * particles
    rows = plans.flatten(0, 1).repeat_interleave(particles, 0)  # (B N P, H, A)
    start = tuple(part.repeat_interleave(times, 0) for part in (state if isinstance(state, tuple) else (state,)))
    returns = rollout(model, start if isinstance(state, tuple) else start[0], rows)
    returns = returns.view(*plans.shape[:2], particles).mean(-1)
    return returns.nan_to_num(nan=-torch.inf, posinf=-torch.inf)  # else topk takes a model that blew up for the best


def random_shooting(score: Score, warm: Tensor, search: Search, generator: torch.Generator) -> Tensor:
    """The best of candidates times iterations plans drawn uniformly; of `warm` (B, H, A) only the shape is used."""
    count = search.candidates * search.iterations
    uniform = torch.rand(len(warm), count, *warm.shape[1:], generator=generator)
    plans = search.low + (search.high - search.low) * uniform
    return plans[torch.arange(len(plans)), score(plans).argmax(-1)]


def cem(
    score: Score, warm: Tensor, search: Search, generator: torch.Generator, update: Callable[..., Any] = cem_update
) -> Tensor:
    """The cross-entropy method, begun at `warm` (B, H, A) with a std of half the actions' reach; its last mean."""
    half = (search.high - search.low) / 2
    mean, std = warm / half, torch.full_like(warm, 0.5)  # in units of half the range
    low, high = search.low / half, search.high / half
    for _ in range(search.iterations):
        noise = torch.randn(len(mean), search.candidates, *mean.shape[1:], generator=generator)
        plans = (mean[:, None] + std[:, None] * noise).clamp(low, high)
        mean, std = update(plans, score(plans * half), mean, std, search.elites, search.momentum, search.floor)
    return mean * half


class MPC:
    """A policy that plans anew at every step, for B worlds at once: state (B, ...) to actions (B, A). It remembers its
    last plan, so take a fresh one for new episodes.
    """

    def __init__(
        self,
        model: Model,
        search: Search,
        generator: torch.Generator,
        particles: int = 1,
        planner: Callable[..., Tensor] = cem,
        step: Callable[..., tuple[Tensor, Tensor]] = mpc_step,
        rollout: Callable[..., Tensor] = imagined_return,
    ):
        self.search, self.step = search, step
        self.warm: Tensor | None = None

        def better(state: Any, warm: Tensor) -> Tensor:
            return planner(lambda plans: score_plans(model, state, plans, particles, rollout), warm, search, generator)

        self.better = better

    @torch.no_grad()
    def __call__(self, state: Any) -> Tensor:
        """Act once."""
        if self.warm is None:
            rows = len(state[0] if isinstance(state, tuple) else state)
            self.warm = ((self.search.low + self.search.high) / 2).expand(rows, self.search.horizon, -1)
        action, self.warm = self.step(self.better, state, self.warm)
        return action
