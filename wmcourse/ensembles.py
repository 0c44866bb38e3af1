"""Ensembles: several models that agree where there was data and differ where there was none (lesson 08).

Each member is a Gaussian, trained on a bootstrap of its own: its variance is the noise of the world (aleatoric), the
spread of the members' means is what the data has left open (epistemic). Lakshminarayanan et al., arXiv:1612.01474;
Chua et al., arXiv:1805.12114 (PETS). All members train in one batched product.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmcourse.nets import fit
from wmcourse.one_step_dynamics import SMALLEST_SPREAD, gaussian_log_prob, standardize
from wmcourse.replay import Transitions

LOWEST_LOG_VAR, HIGHEST_LOG_VAR = -10.0, 1.0  # of standardized targets, before training moves them
BOUND_PULL = 0.01  # how hard the loss draws the two bounds together


def bootstrap_rows(uniform: Tensor) -> Tensor:
    """Which rows of the data each member learns from: N draws with replacement, its own for every member (Efron 1979).

    Args:
        uniform: numbers in [0, 1), (M, N), for M members and N rows of data.

    Returns:
        Row numbers in [0, N), int64, (M, N): N * uniform, rounded down.
    """
    return (uniform * uniform.shape[-1]).long()


def batched_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One linear layer of every member at once: y_m = x_m W_m + b_m.

    Args:
        x, weight, bias: (M, B, I), (M, I, O) and (M, O).

    Returns:
        (M, B, O); member m sees only x[m].
    """
    return torch.baddbmm(bias[:, None], x, weight)


def bounded_log_var(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A log-variance kept softly below `high`, then softly above `low`: high - softplus(high - raw), and likewise.

    Chua et al., arXiv:1805.12114, appendix A.1. It has a gradient everywhere.

    Args:
        raw: a network's output, (..., O).
        low, high: low < high, (O,), or what broadcasts.
    """
    below = high - F.softplus(high - raw)
    return low + F.softplus(below - low)


def split_variance(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """The law of total variance: Var(y) = Var over members of their means + mean over members of their variances.

    Args:
        mean, var: of each member, (M, ..., O).

    Returns:
        epistemic and aleatoric, (..., O) each; their sum is the variance of the members' equal mixture.
    """
    return mean.var(0, correction=0), var.mean(0)


def disagreement(mean: Tensor, scale: Tensor) -> Tensor:
    """How far the members' means lie apart: their standard deviation in units of `scale`, root mean square over O.

    Args:
        mean, scale: of each member, (M, ..., O), and the size of each dimension, above 0, (O,).

    Returns:
        (...); 0 where all agree. As a bonus for exploring: Pathak et al., arXiv:1906.04161.
    """
    return (mean / scale).var(0, correction=0).mean(-1).sqrt()


def penalized_reward(reward: Tensor, mean: Tensor, scale: Tensor, weight: float) -> Tensor:
    """The members' mean reward, less `weight` times their disagreement about where it leads, (...).

    A negative weight makes it a bonus. Yu et al., arXiv:2005.13239 (MOPO), charge for the largest predicted std.

    Args:
        reward, mean: reward and next observation by each member, (M, ...) and (M, ..., O).
        scale, weight: the size of each dimension, (O,), and the price of doubt, in units of reward.
    """
    return reward.mean(0) - weight * disagreement(mean, scale)


def coverage(y: Tensor, mean: Tensor, std: Tensor, level: float) -> Tensor:
    """The share of y that lies in the central interval of this probability, under the mixture of the members.

    Args:
        y, mean, std: (..., O), and of each member, (M, ..., O).
        level: between 0 and 1; a calibrated model gives about this number back, a scalar.
    """
    below = torch.special.ndtr((y - mean) / std).mean(0)
    return ((below - 0.5).abs() <= level / 2).float().mean()


class Ensemble(nn.Module):
    """M Gaussian MLPs side by side, the weights of each layer stacked, (M, I, O). SiLU between the layers.

    Args:
        members, inputs, outputs, hidden: M, I, O, and the widths of the hidden layers.
        linear, bound: the layer and the bound on the log-variance.
        gain: of the first weights. The larger, the farther apart members begin, and where no data moves them they stay.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        outputs: int,
        hidden: tuple[int, ...] = (200, 200, 200, 200),
        linear: Callable[..., Tensor] = batched_linear,
        bound: Callable[..., Tensor] = bounded_log_var,
        gain: float = 1.0,
    ):
        super().__init__()
        self.members, self.linear, self.bound = members, linear, bound
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, o in itertools.pairwise((inputs, *hidden, 2 * outputs)):
            reach = gain / math.sqrt(i)  # gain 1 is torch.nn.Linear's
            self.weights.append(torch.empty(members, i, o).uniform_(-reach, reach))
            self.biases.append(torch.empty(members, o).uniform_(-reach, reach))
        self.low = nn.Parameter(torch.full((members, 1, outputs), LOWEST_LOG_VAR))
        self.high = nn.Parameter(torch.full((members, 1, outputs), HIGHEST_LOG_VAR))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, (M, B, O) each, of x (M, B, I), or of x (B, I) shown to every member."""
        if x.dim() == 2:
            x = x.expand(self.members, *x.shape)
        if x.shape[1] > 256 and not torch.is_grad_enabled() and x.device.type == "cpu":
            mean, log_var = zip(*map(self, x.split(256, 1)), strict=True)  # a planner's rows, by what fits the cache
            return torch.cat(mean, 1), torch.cat(log_var, 1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = self.linear(F.silu(x) if i else x, weight, bias)
        mean, raw = x.chunk(2, -1)
        return mean, self.bound(raw, self.low, self.high)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Each member's mean nats on its own (x, y), (M, B, I) and (M, B, O), summed: each learns as if alone."""
        mean, log_var = self(x)
        nll = -gaussian_log_prob(y, mean, torch.exp(0.5 * log_var)).mean(1)  # (M,)
        return nll.sum() + BOUND_PULL * (self.high - self.low).sum()


class Prediction(NamedTuple):
    """What each of M members says of N transitions, in the world's own units."""

    mean: Tensor  # of s', (M, N, O)
    std: Tensor  # (M, N, O)
    reward: Tensor  # its mean, (M, N)
    reward_std: Tensor  # (M, N)


class EnsembleModel(nn.Module):
    """M members' p(s', r | s, a): Gaussians around s plus a predicted difference, and of the reward.

    Args:
        data: the transitions to take shapes, statistics and device from; obs (N, O) and action (N, A), both floats.
        members, hidden: how many, and the widths of their hidden layers.
        parts: `linear`, `bound` and `gain` of the Ensemble.
    """

    input_mean: Tensor  # of (s, a), (O + A,)
    input_std: Tensor
    target_mean: Tensor  # of (s' - s, r), (O + 1,)
    target_std: Tensor
    obs_low: Tensor  # the range of the observations seen, (O,)
    obs_high: Tensor

    def __init__(self, data: Transitions, members: int = 5, hidden: tuple[int, ...] = (200, 200, 200), **parts):
        super().__init__()
        inputs, targets = columns(data)
        for name, x in {"input": inputs, "target": targets}.items():
            self.register_buffer(f"{name}_mean", x.mean(0))
            self.register_buffer(f"{name}_std", torch.where(x.std(0) < SMALLEST_SPREAD, 1.0, x.std(0)))
        self.register_buffer("obs_low", torch.cat([data.obs, data.next_obs]).amin(0))
        self.register_buffer("obs_high", torch.cat([data.obs, data.next_obs]).amax(0))
        self.net = Ensemble(members, inputs.shape[-1], targets.shape[-1], hidden, **parts)
        self.to(data.obs.device)

    def predict(self, obs: Tensor, action: Tensor) -> Prediction:
        """Of obs (N, O) and action (N, A), shown to all, or (M, N, O) and (M, N, A), each member its own."""
        x = standardize(torch.cat([obs, action], -1), self.input_mean, self.input_std)
        mean, log_var = self.net(x)
        mean, std = self.target_mean + self.target_std * mean, self.target_std * torch.exp(0.5 * log_var)
        return Prediction(obs + mean[..., :-1], std[..., :-1], mean[..., -1], std[..., -1])


def columns(data: Transitions) -> tuple[Tensor, Tensor]:
    """What a model is given, (s, a), (N, O + A), and what it should say, (s' - s, r), (N, O + 1)."""
    return torch.cat([data.obs, data.action], -1), torch.cat([data.next_obs - data.obs, data.reward[:, None]], -1)


def fit_ensemble(
    data: Transitions,
    *,
    seed: int,
    steps: int = 2_000,
    batch: int = 256,
    members: int = 5,
    hidden: tuple[int, ...] = (200, 200, 200),
    learning_rate: float = 1e-3,
    model: EnsembleModel | None = None,
    bootstrap: Callable[[Tensor], Tensor] = bootstrap_rows,
    label: str = "",
    **parts,
) -> EnsembleModel:
    """A model whose members are each trained on batches from a bootstrap of their own.

    Args:
        data, seed: N transitions; the seed decides the first weights, the bootstraps and the order of the batches.
        steps, batch, learning_rate: updates, transitions an update and member, first step size.
        members, hidden, parts: of a new EnsembleModel.
        model: train this one on instead, in place; its scales stay as they are.
        bootstrap, label: from uniform numbers (M, N) to each member's rows, (M, N); and of the progress bar.
    """
    if model is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = EnsembleModel(data, members, hidden, **parts)
    generator, net = torch.Generator().manual_seed(seed), model.net
    inputs, targets = columns(data)
    inputs = standardize(inputs, model.input_mean, model.input_std)
    targets = standardize(targets, model.target_mean, model.target_std)
    rows = bootstrap(torch.rand(net.members, len(inputs), generator=generator))

    def loss() -> Tensor:
        index = rows.gather(1, torch.randint(rows.shape[1], (net.members, batch), generator=generator))
        return net.loss(inputs[index], targets[index])

    adam = functools.partial(torch.optim.Adam, fused=True)
    # No clipping: a norm over all members would let one member's bad batch slow down the others.
    fit(net.parameters(), loss, steps=steps, learning_rate=learning_rate, clip=math.inf, optimizer=adam, label=label)
    return model
