"""Start here: returns, episode boundaries, bootstrapping, the action swap, and a first world model (lesson 00).

The model is the smallest one that works: s' = f(s, a) and r = g(s, a) by least squares on a handful of features. Its
actions come from a search in imagination, random shooting. Lesson 01 learns the features, lesson 09 betters the search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from wmcourse.replay import Policy
from wmcourse.worlds import MAX_SPEED, TORQUE

Predict = Callable[[Tensor, Tensor], Tensor]  # from (..., O) and (..., A)


def discounted_return(reward: Tensor, discount: float) -> Tensor:
    """What is still to come at every step: G_t = r_t + discount * G_{t+1}, and nothing after the last. (T,) to (T,).

    Sutton & Barto 2018, Reinforcement Learning, equation 3.9.
    """
    to_come = reward.new_zeros(())
    returns = []
    for r in reward.flip(0):
        to_come = r + discount * to_come
        returns.append(to_come)
    return torch.stack(returns).flip(0)


def stream_transitions(obs: Tensor, action: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of a stream that happened: obs[i], action[i], obs[i + 1], unless row i + 1 begins an episode.

    Args:
        obs: episodes end to end, (N, O).
        action: taken at obs, (N, A); nothing was taken at the last observation of an episode.
        first: whether a row is the first of its episode, (N,) bool.

    Returns:
        obs (M, O), action (M, A) and next_obs (M, O), in the order of the stream.
    """
    same = ~first[1:]
    return obs[:-1][same], action[:-1][same], obs[1:][same]


def swap_ratio(predict: Predict, obs: Tensor, action: Tensor, next_obs: Tensor, order: Tensor) -> Tensor:
    """How many times a model's mean squared error grows when the actions are swapped among the batch; a scalar.

    1 for a model that is blind to actions; far above 1 for one that heeds them and learned them aligned.

    Args:
        predict: from (N, O) and (N, A) to the predicted next observation, (N, O).
        obs, action, next_obs: real transitions, (N, O), (N, A), (N, O).
        order: a permutation of 0..N-1, (N,) int64: row i gets the action of row order[i].
    """

    def error(taken: Tensor) -> Tensor:
        return (predict(obs, taken) - next_obs).square().mean()

    return error(action[order]) / error(action)


def bootstrap_target(
    reward: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, discount: float
) -> Tensor:
    """What a value should be, seen one step later: r + discount * V(s'), and r alone where the world ended.

    `truncated` changes nothing: the recording ended there, the world did not (Pardo et al., arXiv:1712.00378).

    Args:
        reward: r, (N,).
        next_value: V(s'), (N,).
        terminated: nothing can follow s', (N,) bool.
        truncated: the recording stopped at s', (N,) bool.
        discount: in [0, 1].
    """
    return reward + discount * next_value * ~terminated


def dynamics_features(obs: Tensor, action: Tensor) -> Tensor:
    """What the pendulum's next state is a weighted sum of: (..., 3) and (..., 1) to (..., 13)."""
    cos, sin, velocity = obs.unbind(-1)
    torque = action[..., 0]
    single = [torch.ones_like(cos), cos, sin, velocity, torque]
    twice = [cos * cos, cos * sin, cos * velocity, sin * velocity, cos * torque, sin * torque]
    return torch.stack([*single, *twice, cos * velocity**2, sin * velocity**2], -1)


def reward_features(obs: Tensor, action: Tensor) -> Tensor:
    """What the pendulum's reward is a weighted sum of: (..., 3) and (..., 1) to (..., 8)."""
    cos, _, velocity = obs.unbind(-1)
    powers = [torch.ones_like(cos), cos, cos**2, cos**3, cos**4, cos**5]
    return torch.stack([*powers, velocity**2, action[..., 0] ** 2], -1)


def fit_dynamics(obs: Tensor, action: Tensor, next_obs: Tensor) -> Predict:
    """f of Pendulum-v1 by least squares on the change of state.

    Args:
        obs, next_obs: (N, 3).
        action: (N, 1), whatever is to be believed of its alignment.

    Returns:
        A function from (..., 3) and (..., 1) to the predicted next observation, (..., 3).
    """
    weight = _least_squares(dynamics_features(obs, action), next_obs - obs)

    def predict(obs: Tensor, action: Tensor) -> Tensor:
        moved = obs + dynamics_features(obs, action) @ weight
        pointing = moved[..., :2] / moved[..., :2].norm(dim=-1, keepdim=True)  # back onto the circle
        return torch.cat([pointing, moved[..., 2:].clamp(-MAX_SPEED, MAX_SPEED)], -1)

    return predict


def fit_reward(obs: Tensor, action: Tensor, reward: Tensor) -> Predict:
    """g of Pendulum-v1 by least squares: from (N, 3), (N, 1) and (N,); gives (..., 3) and (..., 1) to (...)."""
    weight = _least_squares(reward_features(obs, action), reward[:, None])[:, 0]
    return lambda obs, action: reward_features(obs, action) @ weight


def _least_squares(features: Tensor, target: Tensor) -> Tensor:
    """Weights (K, D) from (N, K) and (N, D), with a touch of ridge: features of few data are nearly dependent."""
    x, y = features.double(), target.double()
    ridge = 1e-3 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return torch.linalg.solve(x.T @ x + ridge, x.T @ y).to(target.dtype)


def imagine(predict: Predict, obs: Tensor, action: Tensor) -> Tensor:
    """Roll a model forward on its own predictions: from (..., O) and T actions (T, ..., A) to (T + 1, ..., O)."""
    seen = [obs]
    for taken in action:
        seen.append(predict(seen[-1], taken))
    return torch.stack(seen)


def planner(
    predict: Predict,
    reward: Predict,
    seed: int,
    *,
    candidates: int = 64,
    horizon: int = 24,
    hold: int = 6,
    replan: int = 2,
) -> Policy:
    """A policy that tries random torques in imagination and begins with the best: random shooting, again and again.

    Args:
        predict, reward: the world model, f and g.
        seed: draws the candidates.
        candidates: how many futures are imagined at a time.
        horizon: how many steps each lasts, a multiple of hold.
        hold: steps for which a torque is held.
        replan: real steps taken before the next plan, at most horizon.
    """
    generator = torch.Generator().manual_seed(seed)
    plan: list[np.ndarray] = []

    def act(obs: Any) -> np.ndarray:
        if not plan:
            torque = torch.rand(horizon // hold, candidates, 1, generator=generator) * 2 * TORQUE - TORQUE
            torque = torque.repeat_interleave(hold, 0)
            future = imagine(predict, torch.as_tensor(obs).expand(candidates, -1), torque)
            best = reward(future[:-1], torque).sum(0).argmax()
            plan.extend(torque[:replan, best].numpy())
        return plan.pop(0)

    return act


def draw_components(axis: Axes) -> None:
    """The four components of a world model as boxes: two steps of imagination from one real observation."""
    axis.set(xlim=(0, 10), ylim=(-0.1, 4.1), xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)

    def box(x: float, y: float, text: str, color: str) -> None:
        style = {"boxstyle": "round,pad=0.35", "facecolor": color, "edgecolor": "black", "linewidth": 0.8}
        axis.text(x, y, text, ha="center", va="center", fontsize=9, bbox=style)

    def arrow(start: tuple[float, float], end: tuple[float, float], dashed: bool = False) -> None:
        style = {"arrowstyle": "->", "linestyle": "--" if dashed else "-", "shrinkA": 2, "shrinkB": 2}
        axis.annotate("", end, start, arrowprops=style)

    box(0.8, 2.0, "observation\n$s_0$", "white")
    box(2.7, 2.0, "encoder\n$E$", "#D9E8F5")
    arrow((1.5, 2.0), (2.15, 2.0))
    for i, (left, x) in enumerate([(3.25, 4.9), (5.55, 8.1)]):
        box(x, 2.0, "dynamics\n$f$", "#FCE3C5")
        arrow((left, 2.0), (x - 0.65, 2.0))
        z = (left + x - 0.65) / 2
        axis.text(z, 2.12, f"$z_{i}$", ha="center", fontsize=11)
        box(x - 0.55, 0.35, f"action\n$a_{i}$", "white")
        arrow((x - 0.4, 0.75), (x - 0.1, 1.6))
        box(x + 0.85, 0.35, f"reward\n$g$: $r_{i}$", "#D5F0E4")
        arrow((z + 0.05, 1.95), (x + 0.45, 0.75))
        arrow((x - 0.05, 0.35), (x + 0.25, 0.35))
    box(6.5, 3.6, "decoder\n$D$ (optional)", "#F3DDEA")
    arrow((6.4, 2.45), (6.5, 3.15), dashed=True)
    arrow((8.75, 2.0), (9.6, 2.0))
    axis.text(9.3, 2.12, "$z_2$", ha="center", fontsize=11)
