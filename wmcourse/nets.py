"""Nets: the two building blocks that every lesson shares, an MLP and a training loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from tqdm import tqdm


def mlp(*sizes: int, activation: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Linear layers with an activation between them, none after the last: (..., sizes[0]) to (..., sizes[-1]).

    >>> mlp(3, 64, 2)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def fit(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[], Tensor],
    *,
    steps: int,
    learning_rate: float = 1e-3,
    clip: float = 100.0,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    label: str = "",
) -> Tensor:
    """Minimize a loss, with Adam unless told otherwise (arXiv:1412.6980); the learning rate falls to 0 along a cosine.

    Args:
        parameters: what to train.
        loss: draws its own batch and gives a scalar.
        steps: how many updates.
        learning_rate: the first one.
        clip: the largest norm of the gradient that is let through; with infinity it is not even measured.
        optimizer: from the parameters and lr to what updates them.
        label: what to call this in the progress bar; no bar without a label.

    Returns:
        The loss before each update, (steps,), detached.
    """
    kept = list(parameters)
    updates = optimizer(kept, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(updates, steps)
    losses = torch.empty(steps)
    for step in tqdm(range(steps), desc=label, leave=False, disable=not label):
        value = loss()
        updates.zero_grad(set_to_none=True)
        value.backward()
        if clip < math.inf:
            nn.utils.clip_grad_norm_(kept, clip)
        updates.step()
        schedule.step()
        losses[step] = value.detach()
    return losses
