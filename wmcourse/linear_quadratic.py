"""A linear-quadratic world: the one place where the gradient of a policy is known exactly (lesson 11's proof).

s_{k+1} = A s_k + B a_k + w_k with w_k ~ N(0, noise_std² I); r_k = -(s_{k+1}ᵀ Q s_{k+1} + a_kᵀ R a_k), k = 0 .. H-1;
the policy is a matrix, a_k = K s_k + action_std e_k with e_k ~ N(0, I); J = E[sum over k of gamma^k r_k].
Letters for axes: N rollouts, H horizon, S state, A action. Any float dtype; the proof is in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearQuadratic:
    """The world. It also behaves as an RSSM does: the computed half is A s + B a, the drawn half is the noise w."""

    dynamics: Tensor  # A, (S, S)
    control: Tensor  # B, (S, A)
    state_cost: Tensor  # Q, (S, S), symmetric
    action_cost: Tensor  # R, (A, A), symmetric
    noise_std: float = 0.0

    def transition(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """The computed half of the next state, from both halves of this one: (N, S) twice, (N, A) to (N, S)."""
        return (deter + stoch) @ self.dynamics.T + action @ self.control.T

    def prior(self, deter: Tensor) -> Tensor:
        """The mean of the drawn half: zero, whatever the state. (N, S) to (N, S)."""
        return torch.zeros_like(deter)

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """The drawn half: (N, S) twice to (N, S)."""
        return parameters + self.noise_std * noise

    def reward(self, action: Tensor, following: Tensor) -> Tensor:
        """Of actions (..., A) and of the states that they led to, (..., S): (...)."""
        return -((following @ self.state_cost) * following).sum(-1) - ((action @ self.action_cost) * action).sum(-1)


def double_integrator(noise_std: float = 0.0, dtype: torch.dtype = torch.float64) -> LinearQuadratic:
    """A mass on a rail, position and velocity, pushed by a force; a step takes 0.2 s. S = 2, A = 1."""
    return LinearQuadratic(
        dynamics=torch.tensor([[1.0, 0.2], [0.0, 1.0]], dtype=dtype),
        control=torch.tensor([[0.02], [0.2]], dtype=dtype),
        state_cost=torch.tensor([[1.0, 0.0], [0.0, 0.1]], dtype=dtype),
        action_cost=torch.tensor([[0.1]], dtype=dtype),
        noise_std=noise_std,
    )


def roll_out(
    world: LinearQuadratic, gain: Tensor, start: Tensor, noise: Tensor, dice: Tensor, action_std: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Act and follow, with the graph: states s_0 .. s_{H-1}, (N, H, S), actions, (N, H, A), and rewards, (N, H).

    Args:
        world: moves.
        gain: K, (A, S).
        start: s_0, (N, S).
        noise: of the world, (N, H, S).
        dice: of the policy, (N, H, A).
        action_std: what the dice are worth.
    """
    deter, stoch, steps = start, torch.zeros_like(start), []
    for w, e in zip(noise.unbind(1), dice.unbind(1), strict=True):
        state = deter + stoch
        action = state @ gain.T + action_std * e
        deter = world.transition(deter, stoch, action)
        stoch = world.draw(world.prior(deter), w)
        steps.append((state, action, world.reward(action, deter + stoch)))
    states, actions, rewards = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
    return states, actions, rewards


def expected_return(
    world: LinearQuadratic, gain: Tensor, moment: Tensor, horizon: int, gamma: float, action_std: float = 0.0
) -> Tensor:
    """J exactly, a scalar, from second moments alone: no state is ever drawn.

    moment: E[s_0 s_0ᵀ], (S, S).
    """
    closed = world.dynamics + world.control @ gain
    total, action_spread = moment.new_zeros(()), action_std**2 * torch.eye(len(gain), dtype=gain.dtype)
    spread = world.control @ action_spread @ world.control.T + world.noise_std**2 * torch.eye(
        len(moment), dtype=gain.dtype
    )
    for k in range(horizon):
        acted = gain @ moment @ gain.T + action_spread  # E[a_k a_kᵀ]
        moment = closed @ moment @ closed.T + spread  # E[s_{k+1} s_{k+1}ᵀ]
        total = total - gamma**k * ((world.state_cost * moment).sum() + (world.action_cost * acted).sum())
    return total


def exact_gradient(
    world: LinearQuadratic, gain: Tensor, moment: Tensor, horizon: int, gamma: float, action_std: float = 0.0
) -> Tensor:
    """dJ / dK in closed form, (A, S): -2 sum over k of gamma^k (R K + Bᵀ G_k (A + B K)) E[s_k s_kᵀ].

    G_k = Q + gamma P_{k+1} is what a state s_{k+1} costs from then on, with P_k = Kᵀ R K + (A + B K)ᵀ G_k (A + B K) and
    P_H = 0 (Fazel et al., arXiv:1801.05039, lemma 1, for a finite horizon and with a discount).
    """
    closed = world.dynamics + world.control @ gain
    costs, later = [], torch.zeros_like(moment)
    for _ in range(horizon):
        costs.append(world.state_cost + gamma * later)
        later = gain.T @ world.action_cost @ gain + closed.T @ costs[-1] @ closed
    spread = world.noise_std**2 * torch.eye(len(moment), dtype=gain.dtype)
    spread = spread + action_std**2 * world.control @ world.control.T
    total = torch.zeros_like(gain)
    for k, cost in enumerate(reversed(costs)):
        slope = world.action_cost @ gain + world.control.T @ cost @ closed
        total = total - 2 * gamma**k * slope @ moment
        moment = closed @ moment @ closed.T + spread
    return total


def trajectory_gradient(
    dynamics: Tensor,
    control: Tensor,
    state_cost: Tensor,
    action_cost: Tensor,
    gain: Tensor,
    start: Tensor,
    horizon: int,
    gamma: float,
) -> Tensor:
    """dJ / dK of one trajectory without noise, by the chain rule from its end to its start: what autograd does.

    Going back, dJ/ds_{k+1} collects what s_{k+1} costs itself and what it causes later. Through a_k it reaches K:
    ds_{k+1}/da_k = B and da_k/dK = s_k; through A and through the policy, da_k/ds_k = K, it reaches s_k.

    Args:
        dynamics: A, (S, S).
        control: B, (S, A).
        state_cost: Q, (S, S), symmetric.
        action_cost: R, (A, A), symmetric.
        gain: K, (A, S).
        start: s_0, (S,).
        horizon: H, how many actions are taken.
        gamma: the discount; r_k counts gamma^k.

    Returns:
        (A, S).
    """
    states = [start]
    for _ in range(horizon):
        states.append(dynamics @ states[-1] + control @ (gain @ states[-1]))
    gradient, by_state = torch.zeros_like(gain), torch.zeros_like(start)
    for k in reversed(range(horizon)):
        action = gain @ states[k]
        by_next = by_state - 2 * gamma**k * state_cost @ states[k + 1]  # dJ / ds_{k+1}
        by_action = control.T @ by_next - 2 * gamma**k * action_cost @ action  # dJ / da_k
        gradient = gradient + torch.outer(by_action, states[k])
        by_state = dynamics.T @ by_next + gain.T @ by_action  # dJ / ds_k, by what comes after it
    return gradient


def finite_differences(function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> Tensor:
    """The gradient of a scalar function by central differences, entry by entry: the shape of x."""
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        nudge = torch.zeros_like(x).view(-1)
        nudge[i] = step
        gradient.view(-1)[i] = (function(x + nudge.view_as(x)) - function(x - nudge.view_as(x))) / (2 * step)
    return gradient
