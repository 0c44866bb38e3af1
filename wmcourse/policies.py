"""Policies: what an actor's numbers mean. Two kinds of action behind one interface, as the latents of an RSSM have it.

parameters (..., P) come from a network; `draw` makes an action of them and of given noise, with a gradient; `mode` is
the action without dice; `log_prob` and `entropy` are in nats, summed over the A numbers of an action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_MEAN = 5.0  # of u, where tanh still has a slope of 2e-4
NEARLY_ONE = 1 - 1e-6  # the largest action whose atanh is taken


def log_slope(u: Tensor) -> Tensor:
    """log(1 - tanh²(u)), exact for large u, too."""
    return 2 * (math.log(2) - u - F.softplus(-2 * u))


@dataclass(frozen=True)
class TanhNormal:
    """a = tanh(u), u ~ N(mean, std²): actions (..., A) in (-1, 1); P = 2 A, means first."""

    size: int  # A
    floor: float = 0.1  # the smallest std of u

    @property
    def parameters(self) -> int:
        """P."""
        return 2 * self.size

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Standard normal numbers for `draw`, (*shape, A)."""
        return torch.randn(*shape, self.size, generator=generator, device=generator.device)

    def head(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std of u, (..., A) each."""
        mean, raw = parameters.chunk(2, -1)
        return LARGEST_MEAN * (mean / LARGEST_MEAN).tanh(), F.softplus(raw) + self.floor

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """(..., P), (..., A) to (..., A)."""
        mean, std = self.head(parameters)
        return (mean + std * noise).tanh()

    def mode(self, parameters: Tensor) -> Tensor:
        """(..., P) to (..., A)."""
        return self.head(parameters)[0].tanh()

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """(..., P), (..., A) to (...)."""
        mean, std = self.head(parameters)
        u = action.clamp(-NEARLY_ONE, NEARLY_ONE).atanh()
        log_normal = -0.5 * (((u - mean) / std).square() + math.log(2 * math.pi)) - std.log()
        return (log_normal - log_slope(u)).sum(-1)

    def entropy(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Estimated at one draw: the entropy of u, and the log of tanh's slope there. (..., P), (..., A) to (...)."""
        mean, std = self.head(parameters)
        return (std.log() + 0.5 * math.log(2 * math.pi * math.e) + log_slope(mean + std * noise)).sum(-1)


@dataclass(frozen=True)
class OneHot:
    """One of A actions as a one-hot vector, with the straight-through gradient (arXiv:1308.3432); P = A logits."""

    size: int  # A
    unimix: float = 0.01  # the share of a uniform distribution mixed in, so that no action is impossible (2301.04104)

    @property
    def parameters(self) -> int:
        """P."""
        return self.size

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Uniform numbers for `draw`, (*shape, A)."""
        return torch.rand(*shape, self.size, generator=generator, device=generator.device)

    def log_probs(self, parameters: Tensor) -> Tensor:
        """Of each action, (..., A)."""
        return ((1 - self.unimix) * parameters.softmax(-1) + self.unimix / self.size).log()

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """(..., P), (..., A) to (..., A); the Gumbel-max trick picks."""
        log_probs = self.log_probs(parameters)
        chosen = self._one_hot(log_probs - torch.log(-torch.log(noise)))
        return chosen + (log_probs.exp() - log_probs.exp().detach())

    def mode(self, parameters: Tensor) -> Tensor:
        """(..., P) to (..., A)."""
        return self._one_hot(parameters)

    def _one_hot(self, scores: Tensor) -> Tensor:
        return F.one_hot(scores.argmax(-1), self.size).to(scores.dtype)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """(..., P), (..., A) to (...)."""
        return (self.log_probs(parameters) * action).sum(-1)

    def entropy(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Exact, whatever the noise. (..., P), (..., A) to (...)."""
        log_probs = self.log_probs(parameters)
        return -(log_probs.exp() * log_probs).sum(-1)
