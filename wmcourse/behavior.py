"""Behavior: what an actor and a critic learn from a dream, as formulas; the agent is in wmcourse.dreamer.

A dream is N rows of H steps: in s_k the action a_k is taken, and s_{k+1} follows, k = 0 .. H-1. The reward of that
step, and value and discount of s_{k+1}, stand in column k, as reward[:, t] comes back with obs[:, t + 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lambda_return(reward: Tensor, value: Tensor, discount: Tensor, decay: float) -> Tensor:
    """R_k = r_k + d_k ((1 - lambda) v_{k+1} + lambda R_{k+1}), from the end of the dream backwards; R_H is v_H.

    arXiv:1912.01603, equation 6, as the recursion that it is. lambda = 0 looks one step ahead; lambda = 1 adds up the
    whole dream and asks the critic at its end alone; between them every length counts, the longer the less.

    Args:
        reward: r_k, of the step from s_k to s_{k+1}, (N, H).
        value: v_{k+1}, what the critic says of s_{k+1}, (N, H).
        discount: d_k, gamma times the probability that s_{k+1} is not the end, (N, H).
        decay: lambda, in [0, 1].

    Returns:
        R_k, from s_k on, (N, H); gradients reach all three.
    """
    following, returns = value[:, -1], []
    for k in reversed(range(reward.shape[1])):
        following = reward[:, k] + discount[:, k] * ((1 - decay) * value[:, k] + decay * following)
        returns.append(following)
    return torch.stack(returns[::-1], 1)


def continuation_weights(going_on: Tensor, gamma: float) -> Tensor:
    """How much s_k counts: gamma^k times the probability that neither s_k nor a state before it was the end.

    Args:
        going_on: the probability that s_k is not the end, k = 0 .. H-1, (N, H).
        gamma: the discount of a step.

    Returns:
        (N, H), detached: an actor is to earn more, not to make bad states count less.
    """
    return torch.cat([going_on[:, :1], gamma * going_on[:, 1:]], 1).cumprod(1).detach()


def analytic_loss(
    returns: Tensor, baseline: Tensor, log_prob: Tensor, entropy: Tensor, weight: Tensor, scale: Tensor, bonus: float
) -> Tensor:
    """Minus the returns: their gradient flows back through the dream into every action on the way. Scalar.

    arXiv:1912.01603, equation 7. Takes what reinforce_loss takes, so that each can stand for the other.

    Args:
        returns: R_k, (N, H), with the graph of the dream.
        baseline: v(s_k), (N, H); not needed here.
        log_prob: of the action taken in s_k, (N, H) nats; not needed here.
        entropy: of the policy in s_k, (N, H) nats.
        weight: how much s_k counts, (N, H).
        scale: what returns are divided by, a scalar.
        bonus: what a nat of entropy is worth.
    """
    return -(weight * (returns / scale + bonus * entropy)).mean()


def reinforce_loss(
    returns: Tensor, baseline: Tensor, log_prob: Tensor, entropy: Tensor, weight: Tensor, scale: Tensor, bonus: float
) -> Tensor:
    """Actions that turned out better than the baseline become likelier. Scalar; arguments as in analytic_loss.

    Williams 1992; arXiv:2301.04104, equation 11. No gradient goes into returns or baseline: the model is asked for
    numbers only.
    """
    advantage = ((returns - baseline) / scale).detach()
    return -(weight * (log_prob * advantage + bonus * entropy)).mean()


def critic_loss(value: Tensor, returns: Tensor, weight: Tensor) -> Tensor:
    """Half the squared distance of v(s_k) from R_k, which stands still: (N, H) three times to a scalar."""
    return 0.5 * (weight * (value - returns.detach()).square()).mean()


def return_range(returns: Tensor, low: float = 0.05, high: float = 0.95) -> Tensor:
    """From the 5th to the 95th percentile: (N, H) to a scalar, detached (arXiv:2301.04104, equation 12)."""
    ends = torch.quantile(returns.detach().flatten(), returns.new_tensor([low, high]))
    return ends[1] - ends[0]


@torch.no_grad()
def follow(slow: nn.Module, quick: nn.Module, rate: float) -> None:
    """Move each weight of `slow` by a share `rate` of its way to that of `quick`, in place."""
    for weight, goal in zip(slow.parameters(), quick.parameters(), strict=True):
        weight.lerp_(goal, rate)
