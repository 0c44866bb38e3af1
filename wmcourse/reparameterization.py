"""Reparameterization: gradients through a random draw (lesson 03).

z ~ N(mean, std²) hides mean and std behind a dice roll; z = mean + std * noise, noise ~ N(0, 1), puts the dice roll
outside, and the gradient flows (Kingma & Welling, arXiv:1312.6114, section 2.4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def reparameterize(mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
    """A draw from N(mean, std²) through which gradients flow: z = mean + std * noise. Shapes (..., Z).

    Args:
        mean: any shape.
        std: standard deviation, above 0, shape of mean.
        noise: standard normal numbers, shape of mean.
    """
    return mean + std * noise


def pathwise_gradient(slope: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Per-sample gradients of f(mean + std * noise) with respect to mean and std, by the chain rule.

    Kingma & Welling, arXiv:1312.6114, section 2.4.

    Args:
        slope: f'(z) at every sample, (N,).
        noise: the noise that made z, (N,).

    Returns:
        d f / d mean and d f / d std, (N,) each; their averages estimate the gradient of E[f(z)].
    """
    return slope, slope * noise


def score_function_gradient(value: Tensor, mean: Tensor, std: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Per-sample REINFORCE gradients of E[f(z)], z ~ N(mean, std²), with respect to mean and std.

    f(z) times the gradient of log N(z; mean, std²) (Williams 1992, section 6). f needs no slope, only values.

    Args:
        value: f(z) at every sample, (N,).
        mean: scalar tensor.
        std: scalar tensor, above 0.
        z: the samples, (N,).

    Returns:
        The estimates with respect to mean and to std, (N,) each.
    """
    standardized = (z - mean) / std
    return value * standardized / std, value * (standardized.square() - 1) / std


def leave_one_out(value: Tensor) -> Tensor:
    """Values less the mean of all the others: value_i - mean_{j != i} value_j. Shape (N,), N at least 2.

    As a baseline for the score function it lowers the variance and adds no bias, since no sample's baseline depends
    on the sample itself (Kool et al. 2019, Buy 4 REINFORCE samples, get a baseline for free).
    """
    others = (value.sum() - value) / (len(value) - 1)
    return value - others


def straight_through(logits: Tensor, uniform: Tensor) -> Tensor:
    """A one-hot draw from softmax(logits), with the gradient of the probabilities: one_hot + (probs - stop(probs)).

    Bengio et al., arXiv:1308.3432; for categorical latents Hafner et al., arXiv:2010.02193, algorithm 1.

    Args:
        logits: (..., K).
        uniform: numbers in (0, 1), (..., K); argmax(logits - log(-log(uniform))) is the draw (the Gumbel-max trick).

    Returns:
        One-hot vectors, (..., K), whose gradient with respect to logits is that of softmax(logits).
    """
    probs = logits.softmax(-1)
    choice = (logits - torch.log(-torch.log(uniform))).argmax(-1)
    one_hot = F.one_hot(choice, logits.shape[-1]).to(probs.dtype)
    return one_hot + (probs - probs.detach())
