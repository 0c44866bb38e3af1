"""Lesson 08's exercises: bootstraps, a batched layer, a bounded variance, two kinds of doubt, and what they are for."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from wmcourse import ensembles as reference
from wmcourse.grading.exercise import Draw, Exercise
from wmcourse.grading.expect import expect, expect_close, gradients, is_close

LESSON = "08_ensembles"


def _floor(uniform: Tensor) -> Tensor:
    return (uniform * uniform.shape[-1]).floor().long()


bootstrap_rows = Exercise(
    reference=reference.bootstrap_rows,
    lesson=LESSON,
    points=2,
    minutes=6,
    difficulty=2,
    hints=(
        "A number in [0, 1) times N is a number in [0, N). Which whole number stands for its row?",
        "Round down, always: then every row owns a piece of [0, 1) of the same width 1 / N.",
        "N is the last entry of uniform.shape. Row numbers are int64: .long() also rounds positive numbers down.",
    ),
    example=lambda draw: (draw.uniform(3, 8),),
)


@bootstrap_rows.case("every row owns an equal piece of [0, 1)")
def _(answer: Callable, draw: Draw) -> None:
    count = 8
    wanted = torch.stack([torch.randperm(count, generator=draw.generator) for _ in range(3)])
    uniform = (wanted + draw.uniform(3, count, low=0.05, high=0.95)) / count
    expect_close(
        answer(uniform),
        wanted,
        "row k belongs to the numbers from k / N to (k + 1) / N",
        mistakes={
            "rounded to the nearest: row 0 gets half a piece, and N is no row. Round down": (uniform * count).round(),
            "rounded up: rows are counted from 0": wanted + 1,
            "times N - 1: the last row is never drawn": (uniform * (count - 1)).long(),
            "times N - 1, then rounded: the first and the last row get half a piece each": (
                (uniform * (count - 1)).round()
            ),
            "times M, the number of members: the rows are counted along the last axis": (uniform * 3).long(),
            "argsort deals every row exactly once: that is a permutation. A bootstrap draws, with replacement": (
                uniform.argsort(-1)
            ),
            "all members share the first one's rows: then the data cannot make them differ": wanted[:1].expand(
                3, count
            ),
            "the rows come in order: row i of uniform says what stands at place i": wanted.sort(-1).values,
        },
    )


@bootstrap_rows.case("with replacement: some rows come twice, others never")
def _(answer: Callable, draw: Draw) -> None:
    uniform = draw.uniform(2, 10) * 0.5
    expect_close(
        answer(uniform),
        _floor(uniform),
        "all numbers lie below one half, so only rows of the first half may come up",
        mistakes={
            "every row comes exactly once: that is a permutation, no bootstrap": uniform.argsort(-1),
            "these are ranks, every one exactly once: that is a permutation, no bootstrap": uniform.argsort(-1).argsort(
                -1
            ),
        },
    )


@bootstrap_rows.case("every member draws for itself")
def _(answer: Callable, draw: Draw) -> None:
    uniform = draw.uniform(4, 50)
    wanted = _floor(uniform)
    expect_close(
        answer(uniform),
        wanted,
        "member m's rows come from uniform[m]",
        mistakes={
            "all members share the first one's rows: then the data cannot make them differ": wanted[:1].expand(4, 50),
            "the rows are sorted: harmless here, but row i of uniform should stay at place i": wanted.sort(-1).values,
            "the rows of all members are mixed": _floor(uniform.flip(0)),
        },
    )


@bootstrap_rows.case("about 63 % of the rows come up, as 1 - 1/e says", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    rows = answer(draw.uniform(5, 4000))
    for member in rows:
        share = len(torch.unique(member)) / 4000
        expect(abs(share - (1 - math.exp(-1))) < 0.04, "the rows are not drawn with replacement", f"{share:.2f}")


@bootstrap_rows.case("works for other sizes, up to the last row", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for members, count in [(1, 1), (1, 7), (6, 2), (2, 1000)]:
        uniform = draw.uniform(members, count)
        expect_close(answer(uniform), _floor(uniform), f"something goes wrong for M = {members}, N = {count}")
    edge = torch.tensor([[0.0, 1 - 2**-24, 0.5, 0.25]])
    expect_close(answer(edge), torch.tensor([[0, 3, 2, 1]]), "0 is row 0, and just below 1 is the last row, N - 1")


def _layer(draw: Draw, m: int = 3, b: int = 4, i: int = 5, o: int = 2, grad: bool = False) -> tuple[Tensor, ...]:
    return draw.normal(m, b, i, grad=grad), draw.normal(m, i, o, grad=grad), draw.normal(m, o, grad=grad)


def _member_by_member(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.stack([x[m] @ weight[m] + bias[m] for m in range(len(x))])


batched_linear = Exercise(
    reference=reference.batched_linear,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "Tensors with three axes multiply as batches of matrices: torch.bmm, or @, pairs x[m] with weight[m].",
        "The bias (M, O) has to meet (M, B, O). Broadcasting lines axes up from the right: which axis is missing, and "
        "where?",
        "bias[:, None] is (M, 1, O). torch.baddbmm adds while it multiplies.",
    ),
    example=lambda draw: _layer(draw, b=3, grad=True),  # M = B: a bias in the wrong place fails where it is named
)


@batched_linear.case("each member multiplies by its own weights")
def _(answer: Callable, draw: Draw) -> None:
    x, weight, _ = _layer(draw, b=3, i=4, o=4)
    zero = torch.zeros(3, 4)
    expect_close(
        answer(x, weight, zero),
        _member_by_member(x, weight, zero),
        "y[m] should be x[m] @ weight[m]",
        mistakes={
            "the weights of the first member are used for all": x @ weight[0],
            "the members' weights are averaged: then there is one model, not M": x @ weight.mean(0),
            "the weights are transposed: they are (I, O), not torch.nn.Linear's (O, I)": x @ weight.mT,
            "the members are summed over": (x @ weight).sum(0).expand(3, 3, 4),
            "the input of the first member is used for all": x[0] @ weight,
        },
    )


@batched_linear.case("each member adds its own bias, once to every row")
def _(answer: Callable, draw: Draw) -> None:
    x, weight, bias = _layer(draw, m=3, b=3)
    right = _member_by_member(x, weight, bias)
    expect_close(
        answer(x, weight, bias),
        right,
        "with M = B = 3 only the axis's place tells which bias goes where",
        mistakes={
            "the bias is missing": x @ weight,
            "bias[b] is added to row b: broadcasting took the members' axis for the batch. Put an axis of length 1 "
            "in the middle": x @ weight + bias,
            "the bias is subtracted": x @ weight - bias[:, None],
            "the first member's bias is used for all": x @ weight + bias[0],
            "the biases are averaged over the members": x @ weight + bias.mean(0),
        },
    )


@batched_linear.case("no member sees another one's input, and gradients reach everything")
def _(answer: Callable, draw: Draw) -> None:
    args = _layer(draw, grad=True)
    names: dict[str, Tensor] = dict(zip(("x", "weight", "bias"), args, strict=True))
    came = gradients(answer(*args), names)
    wanted = torch.autograd.grad(_member_by_member(*args).sum(), args)
    for name, right in zip(names, wanted, strict=True):
        expect_close(came[name], right, f"the gradient of {name} is not the layer's: is something detached or shared?")


@batched_linear.case("works for other sizes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for m, b, i, o in [(1, 1, 1, 1), (1, 6, 2, 3), (5, 1, 3, 4), (2, 2, 2, 2), (7, 9, 4, 4)]:
        args = _layer(draw, m, b, i, o)
        likely = f"something goes wrong for M = {m}, B = {b}, I = {i}, O = {o}"
        expect_close(answer(*args), _member_by_member(*args), likely)


def _bound(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    below = high - F.softplus(high - raw)
    return low + F.softplus(below - low)


bounded_log_var = Exercise(
    reference=reference.bounded_log_var,
    lesson=LESSON,
    points=3,
    minutes=10,
    difficulty=3,
    hints=(
        "softplus(d) is almost d where d is large, and almost 0 where d is very negative: a soft max(d, 0).",
        "So high - softplus(high - raw) is a soft min of raw and high. Then do the same upside down for low.",
        "Two lines: the first gives `below`, and the second is low + softplus(below - low). F.softplus, not "
        "log(1 + exp), which overflows.",
    ),
    example=lambda draw: (
        draw.normal(4, 3, std=3.0, grad=True),
        draw.uniform(3, low=-4.0, high=-3.0, grad=True),
        draw.uniform(3, low=1.0, high=2.0, grad=True),
    ),
)


@bounded_log_var.case("far from both bounds nothing changes")
def _(answer: Callable, draw: Draw) -> None:
    raw, low, high = draw.normal(6, 3), torch.full((3,), -25.0), torch.full((3,), 25.0)
    expect_close(
        answer(raw, low, high),
        raw,
        "between distant bounds the result should be raw",
        mistakes={
            "a sigmoid stretches raw over the whole range: bound it, do not squash it": low
            + (high - low) * torch.sigmoid(raw),
            "a tanh stretches raw over the whole range: bound it, do not squash it": (high - low) / 2 * torch.tanh(raw),
            "the variance comes back, not its logarithm": raw.exp(),
            "the sign is turned around": -raw,
            "this is high, whatever raw says: are low and high swapped, or was softplus given raw - high?": (
                high.expand(6, 3)
            ),
        },
    )


@bounded_log_var.case("far above it is high, far below it is low")
def _(answer: Callable, draw: Draw) -> None:
    low, high = draw.uniform(3, low=-20.0, high=-15.0), draw.uniform(3, low=5.0, high=9.0)
    raw = torch.stack([high + 60, low - 60, high + 3e4, low - 3e4])
    wanted = torch.stack([high, low, high, low])
    expect_close(
        answer(raw, low, high),
        wanted,
        "60 beyond a bound the result should be the bound",
        mistakes={
            "nothing holds it above low: the second bound is missing": torch.minimum(raw, high),
            "nothing holds it below high: the first bound is missing": torch.maximum(raw, low),
            "the bounds are swapped": torch.stack([low, high, low, high]),
        },
    )


@bounded_log_var.case("softly: at a bound it is log 2 inside")
def _(answer: Callable, draw: Draw) -> None:
    low, high = draw.uniform(3, low=-20.0, high=-15.0), draw.uniform(3, low=5.0, high=9.0)
    raw = torch.stack([high, low])
    expect_close(
        answer(raw, low, high),
        torch.stack([high - math.log(2), low + math.log(2)]),
        "softplus(0) = log 2: at a bound the result should be log 2 inside of it",
        mistakes={
            "a hard clamp: beyond it no gradient leads back": raw,
            "relu is the hard version of softplus: beyond it no gradient leads back": raw,
        },
    )


@bounded_log_var.case("first high, then low, when both are near")
def _(answer: Callable, draw: Draw) -> None:
    raw, low, high = draw.normal(5, 3, std=2.0), torch.full((3,), -1.0), torch.full((3,), 0.5)
    above = low + F.softplus(raw - low)
    expect_close(
        answer(raw, low, high),
        _bound(raw, low, high),
        "the formula has two lines; the second works on what the first one gave",
        mistakes={
            "first low, then high: the order is the other way round": high - F.softplus(high - above),
            "both bounds work on raw: the second should take what the first one gave": low + F.softplus(raw - low),
        },
    )


@bounded_log_var.case("a gradient everywhere, for the bounds as well")
def _(answer: Callable, draw: Draw) -> None:
    raw = torch.tensor([[-200.0], [-6.0], [0.0], [5.0], [200.0]]) + draw.uniform(5, 1)
    args = raw.requires_grad_(), torch.tensor([-3.0]).requires_grad_(), torch.tensor([2.0]).requires_grad_()
    names: dict[str, Tensor] = dict(zip(("raw", "low", "high"), args, strict=True))
    came = gradients(answer(*args), names, "are the bounds taken out with .item() or .detach()? They are learned, too")
    wanted = torch.autograd.grad(_bound(*args).sum(), args)
    for name, right in zip(names, wanted, strict=True):
        overflow = "exp of a large number is infinite, and its gradient nan: torch.nn.functional.softplus avoids it"
        expect(came[name].isfinite().all(), overflow, f"a gradient of {name} that is nan or infinite")
        expect_close(came[name], right, f"the gradient of {name} is not that of the two softplus")


@bounded_log_var.case("bounds of one number, or of one for each member", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in [(1,), (4, 1, 3), (4, 5, 3), (3,)]:
        raw, low, high = draw.normal(4, 5, 3, std=4.0), -2 - draw.uniform(*shape), 1 + draw.uniform(*shape)
        expect_close(
            answer(raw, low, high), _bound(raw, low, high), f"something goes wrong for bounds of shape {shape}"
        )


def _moments(draw: Draw, *shape: int, grad: bool = False) -> tuple[Tensor, Tensor]:
    shape = shape or (5, 4, 3)
    return draw.normal(*shape, std=2.0, grad=grad), draw.uniform(*shape, low=0.2, high=3.0, grad=grad)


split_variance = Exercise(
    reference=reference.split_variance,
    lesson=LESSON,
    points=3,
    minutes=8,
    difficulty=2,
    hints=(
        "Two questions, both asked along the members' axis, the first: how far do the means spread, and how large are "
        "the variances?",
        "Epistemic: the mean squared deviation of the means from their mean, divided by M and not by M - 1. "
        "Aleatoric: the mean of the variances.",
        "torch.var divides by M - 1 unless you pass correction=0; give both functions the axis 0.",
    ),
    example=lambda draw: _moments(draw, grad=True),
)


def _both(answer: Callable, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    epistemic, aleatoric = answer(mean, var)
    return epistemic, aleatoric


@split_variance.case("members that agree leave nothing epistemic")
def _(answer: Callable, draw: Draw) -> None:
    mean, var = _moments(draw)
    mean = mean[:1].expand_as(mean).contiguous()
    epistemic, aleatoric = _both(answer, mean, var)
    noise = var.mean(0)
    total = "the members' noise is in epistemic, too: is it the total?"
    expect_close(
        epistemic,
        torch.zeros(4, 3),
        "all members have the same mean, so epistemic should be 0",
        mistakes={
            total if is_close(aleatoric, noise) else "the two are swapped: epistemic comes first": noise,
            "the members' variances differ, but that is no epistemic variance: look at the means": var.var(
                0, correction=0
            ),
            "this is the spread of the members' variances: epistemic is that of their means": var.var(0),
            "this is the mean square: subtract the members' mean first": mean.square().mean(0),
        },
    )
    expect_close(
        aleatoric,
        noise,
        "aleatoric should be the mean of the members' variances",
        mistakes={
            "summed over the members: take the mean": var.sum(0),
            "this is a standard deviation: variances add up, standard deviations do not": noise.sqrt(),
            "the standard deviations were averaged, then squared: average the variances": var.sqrt().mean(0).square(),
            "var was squared: it is a variance already": var.square().mean(0),
            "divided by M twice: the noise of one future is asked for, not that of the members' average": noise / 5,
            "the median of the variances: take the mean": var.median(0).values,
            "one member's variance came: take the mean over all": var[0],
            "the largest variance came: take the mean": var.amax(0),
        },
    )


@split_variance.case("members without noise: everything is epistemic")
def _(answer: Callable, draw: Draw) -> None:
    mean, var = _moments(draw)
    epistemic, aleatoric = _both(answer, mean, torch.zeros_like(var))
    right, off = mean.var(0, correction=0), mean - mean.mean(0)
    expect_close(
        epistemic,
        right,
        "epistemic should be the mean squared deviation of the members' means from their mean",
        mistakes={
            "divided by M - 1: the members are the whole mixture, not a sample of it. Divide by M": mean.var(0),
            "this is a standard deviation: the variance is asked for": right.sqrt(),
            "this is a standard deviation, and divided by M - 1: a variance is asked for, divided by M": mean.std(0),
            "summed over the members: take the mean": off.square().sum(0),
            "absolute deviations: square them": off.abs().mean(0),
            "the deviation from the first member: take that from the members' mean": (mean - mean[0]).square().mean(0),
            "this is the mean square: subtract the members' mean first": mean.square().mean(0),
            "the variance is taken over all axes, or over the wrong one: over the members, axis 0": (
                mean.var(correction=0).expand(4, 3)
            ),
        },
    )
    expect_close(
        aleatoric,
        torch.zeros(4, 3),
        "no member predicts noise, so aleatoric should be 0",
        mistakes={"the total came where aleatoric should be": right},
    )


@split_variance.case("the two add up to the variance of the mixture")
def _(answer: Callable, draw: Draw) -> None:
    mean, var = _moments(draw)
    epistemic, aleatoric = _both(answer, mean, var)
    mixture = (var + mean.square()).mean(0) - mean.mean(0).square()
    likely = "E[y²] - E[y]² of a draw from a random member is the sum of both: is something counted twice?"
    expect_close(
        epistemic + aleatoric,
        mixture,
        likely,
    )


FROM_THE_END = "the members' axis is counted from the end: it is axis 0, however many follow"


@split_variance.case("the members are axis 0, however many follow")
def _(answer: Callable, draw: Draw) -> None:
    mean, var = _moments(draw, 4, 4, 3, 2)
    epistemic, aleatoric = _both(answer, mean, var)
    likely = "with inputs (M, A, B, O) both results are (A, B, O): ask along axis 0"
    wrong = {FROM_THE_END: mean.var(-3, correction=0)}
    expect_close(epistemic, mean.var(0, correction=0), likely, mistakes=wrong)
    expect_close(aleatoric, var.mean(0), likely, mistakes={FROM_THE_END: var.mean(-3)})


@split_variance.case("gradients reach mean and var")
def _(answer: Callable, draw: Draw) -> None:
    mean, var = _moments(draw, grad=True)
    epistemic, aleatoric = _both(answer, mean, var)
    slopes = gradients(epistemic + aleatoric, {"mean": mean, "var": var})
    off = (mean - mean.mean(0)).detach()
    expect_close(slopes["mean"], 2 * off / 5, "the gradient of epistemic should be 2 (mean_m - mean) / M")
    expect_close(slopes["var"], torch.full((5, 4, 3), 0.2), "the gradient of aleatoric should be 1 / M for each member")


@split_variance.case("works for one member, and for any axes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in [(1, 4, 3), (2, 1), (3, 3, 3), (7, 2, 5, 2), (4, 1, 1)]:
        mean, var = _moments(draw, *shape)
        epistemic, aleatoric = _both(answer, mean, var)
        expect_close(epistemic, mean.var(0, correction=0), f"epistemic goes wrong for shape {shape}")
        expect_close(aleatoric, var.mean(0), f"aleatoric goes wrong for shape {shape}")


def _inside(y: Tensor, mean: Tensor, std: Tensor, level: float) -> Tensor:
    """In float64, by the error function."""
    below = 0.5 * (1 + torch.erf((y - mean).double() / (std.double() * math.sqrt(2)))).mean(0)
    return ((below - 0.5).abs() <= level / 2).float().mean()


def _mixture_draws(draw: Draw, count: int, members: int = 3, apart: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """y, drawn from one of the members at random, and the members' means and stds, (M, count, 2)."""
    mean = draw.normal(members, count, 2, std=apart)
    std = draw.uniform(members, count, 2, low=0.3, high=1.5)
    who = draw.integers(1, count, 2, high=members)
    y = (mean.gather(0, who) + std.gather(0, who) * draw.normal(1, count, 2))[0]
    return y, mean, std


coverage = Exercise(
    reference=reference.coverage,
    lesson=LESSON,
    points=3,
    minutes=10,
    difficulty=3,
    hints=(
        "First the distribution function of the mixture at y: how much of its probability lies below? A mixture's is "
        "the mean of its members'.",
        "The central 90 % leave 5 % on each side. So y is inside where its number lies between 0.05 and 0.95: within "
        "level / 2 of one half.",
        "torch.special.ndtr((y - mean) / std) is a Gaussian's distribution function. Mean over axis 0, then compare, "
        "then the share as a float.",
    ),
    example=lambda draw: (*_mixture_draws(draw, 400), 0.8),
    tolerance=3e-3,
)


def _gaussian_interval(y: Tensor, mean: Tensor, std: Tensor, level: float) -> Tensor:
    """The share inside when the mixture is taken for the Gaussian of its mean and variance."""
    total = (mean.var(0, correction=0) + std.square().mean(0)).sqrt()
    return _inside(y, mean.mean(0)[None], total[None], level)


@coverage.case("one Gaussian: the central interval, both tails cut alike")
def _(answer: Callable, draw: Draw) -> None:
    y, mean, std = _mixture_draws(draw, 2000, members=1)
    u = ((y - mean) / std)[0]
    below = torch.special.ndtr(u)
    expect_close(
        answer(y, mean, std, 0.6),
        _inside(y, mean, std, 0.6),
        "the share of y for which the distribution function lies between 0.2 and 0.8",
        tolerance=2e-3,
        mistakes={
            "one tail only: the central interval leaves half of the rest on each side": (below <= 0.6).float().mean(),
            "the level is taken for a number of standard deviations": (u.abs() <= 0.6).float().mean(),
            "within level of one half: it should be within level / 2": ((below - 0.5).abs() <= 0.6).float().mean(),
            "one tail only: how far from one half is an absolute value": (below <= 0.8).float().mean(),
            "in percent: a share lies between 0 and 1": 100 * _inside(y, mean, std, 0.6),
            "this is a count: divide by how many there are": ((below - 0.5).abs() <= 0.3).float().sum(),
            "the distribution functions are averaged over the last axis: average over the members, axis 0": (
                ((below.mean(-1) - 0.5).abs() <= 0.3).float().mean()
            ),
            "this is the share outside": ((below - 0.5).abs() > 0.3).float().mean(),
            "std is taken for a variance": _inside(y, mean, std.sqrt(), 0.6),
            "std was squared": _inside(y, mean, std.square(), 0.6),
            "always 90 %: level says how much": _inside(y, mean, std, 0.9),
            "always 95 %: level says how much": _inside(y, mean, std, 0.95),
        },
    )


@coverage.case("several members are one mixture")
def _(answer: Callable, draw: Draw) -> None:
    y, mean, std = _mixture_draws(draw, 3000, apart=4.0)
    each = torch.special.ndtr((y - mean) / std)
    expect_close(
        answer(y, mean, std, 0.7),
        _inside(y, mean, std, 0.7),
        "the mixture's distribution function is the mean of the members'",
        tolerance=2e-3,
        mistakes={
            "the mixture is taken for a Gaussian of its mean and variance: between far members it has a hole": (
                _gaussian_interval(y, mean, std, 0.7)
            ),
            "each member's own interval, then averaged: average the distribution functions first": (
                ((each - 0.5).abs() <= 0.35).float().mean()
            ),
            "the members' means and stds are averaged first: what the members disagree about is lost": _inside(
                y, mean.mean(0)[None], std.mean(0)[None], 0.7
            ),
            "only the first member counts": _inside(y, mean[:1], std[:1], 0.7),
            "inside the interval of any member: average the distribution functions": (
                ((each - 0.5).abs() <= 0.35).any(0).float().mean()
            ),
            "inside the intervals of all members: average the distribution functions": (
                ((each - 0.5).abs() <= 0.35).all(0).float().mean()
            ),
        },
    )


@coverage.case("the members are axis 0, however many follow")
def _(answer: Callable, draw: Draw) -> None:
    mean, std = draw.normal(4, 4, 50, 3, std=2.0), draw.uniform(4, 4, 50, 3, low=0.3, high=1.5)
    y = draw.normal(4, 50, 3, std=1.5)
    askew = torch.special.ndtr((y - mean) / std).mean(-3)
    expect_close(
        answer(y, mean, std, 0.5),
        _inside(y, mean, std, 0.5),
        "with inputs (M, A, B, O) the members are still axis 0",
        tolerance=3e-3,
        mistakes={FROM_THE_END: ((askew - 0.5).abs() <= 0.25).float().mean()},
    )


@coverage.case("it is the level where the members tell the truth")
def _(answer: Callable, draw: Draw) -> None:
    y, mean, std = _mixture_draws(draw, 20_000)
    for level in (0.2, 0.5, 0.9):
        share = answer(y, mean, std, level)
        likely = f"of draws from the mixture itself {level:.0%} should lie in its {level:.0%} interval"
        expect(abs(share - level) < 0.02, likely, f"{float(share):.3f}")


@coverage.case("nothing lies in an interval of 0 %, and everything in one of 100 %")
def _(answer: Callable, draw: Draw) -> None:
    y, mean, std = _mixture_draws(draw, 200)
    expect_close(answer(y, mean, std, 0.0), torch.zeros(()), "an interval of 0 % is a point")
    expect_close(answer(y, mean, std, 1.0), torch.ones(()), "an interval of 100 % is the whole line")


@coverage.case("every number counts, whatever the axes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in [(1, 60), (2, 40, 3), (4, 5, 7, 2), (3, 80, 1)]:
        mean, std = draw.normal(*shape), draw.uniform(*shape, low=0.3, high=1.5)
        y = draw.normal(*shape[1:], std=1.5)
        wanted = _inside(y, mean, std, 0.5)
        expect_close(answer(y, mean, std, 0.5), wanted, f"something goes wrong for shape {shape}", tolerance=0.02)


def _futures(draw: Draw, *shape: int, members: int = 5, dims: int = 3) -> tuple[Tensor, Tensor, Tensor, float]:
    shape = shape or (6,)
    scale, weight = draw.uniform(dims, low=0.4, high=3.0), 0.5 + 2 * float(draw.uniform(1))
    return draw.normal(members, *shape, mean=1.0), draw.normal(members, *shape, dims), scale, weight


GUARD = 5e-4  # lets sqrt(x + 1e-8) pass, a guard against the infinite slope of a root at 0


def _rms(mean: Tensor, scale: Tensor) -> Tensor:
    return (mean / scale).var(0, correction=0).mean(-1).sqrt()


penalized_reward = Exercise(
    reference=reference.penalized_reward,
    lesson=LESSON,
    points=3,
    minutes=10,
    difficulty=3,
    hints=(
        "Two steps: the disagreement, one number for each future, and then the mean reward less weight times it.",
        "Measure each dimension in units of its scale first. Then variance over the members (divided by M), mean over "
        "the dimensions, root.",
        "(mean / scale).var(0, correction=0) is (..., O). After mean(-1) and sqrt() its shape is that of "
        "reward.mean(0).",
    ),
    example=_futures,
)


@penalized_reward.case("members that agree: the mean reward, whatever the weight")
def _(answer: Callable, draw: Draw) -> None:
    reward, mean, scale, weight = _futures(draw)
    mean = mean[:1].expand_as(mean).contiguous()
    expect_close(
        answer(reward, mean, scale, weight),
        reward.mean(0),
        "without disagreement about the future the members' mean reward should come back",
        tolerance=GUARD,
        mistakes={
            "averaged over the futures, too: each of them has a reward of its own": reward.mean().expand(6),
            "the rewards are summed over the members: take the mean": reward.sum(0),
            "the worst member's reward: take the mean, the penalty is for doubt": reward.amin(0),
            "the best member's reward: that is what a planner would exploit. Take the mean": reward.amax(0),
            "the first member's reward: take the mean": reward[0],
            "the reward's own spread is subtracted: the disagreement is about where it leads": reward.mean(0)
            - weight * reward.std(0, correction=0),
            "the size of the future is subtracted: its spread over the members is asked for": reward.mean(0)
            - weight * (mean / scale).square().mean((0, -1)).sqrt(),
        },
    )


@penalized_reward.case("disagreement costs its weight, in units of the scale")
def _(answer: Callable, draw: Draw) -> None:
    reward, mean, scale, weight = _futures(draw)
    reward = torch.zeros_like(reward)
    spread, u = mean.var(0, correction=0), mean / scale
    each, off = u.std(0, correction=0), u - u.mean(0)
    expect_close(
        answer(reward, mean, scale, weight),
        -weight * _rms(mean, scale),
        "with a reward of 0 the result should be -weight * disagreement",
        mistakes={
            "doubt is rewarded: a positive weight should cost": weight * _rms(mean, scale),
            "the weight is not used": -_rms(mean, scale),
            "the scale is not used: a dimension with large numbers would decide alone": -weight
            * spread.mean(-1).sqrt(),
            "multiplied by the scale: divide by it": -weight * (mean * scale).var(0, correction=0).mean(-1).sqrt(),
            "the scale is squared: divide before the variance, or divide the variance by scale²": -weight
            * (mean / scale.square()).var(0, correction=0).mean(-1).sqrt(),
            "the variance is divided by scale: divide it by scale²": -weight * (spread / scale).mean(-1).sqrt(),
            "this is a variance: take its root": -weight * u.var(0, correction=0).mean(-1),
            "divided by M - 1: divide by M": -weight * u.var(0).mean(-1).sqrt(),
            "the stds are averaged over the dimensions: average the variances, then take the root": -weight
            * each.mean(-1),
            "the members' distances are averaged: average their squares, then take the root": -weight
            * off.square().mean(-1).sqrt().mean(0),
            "the members' distances are averaged, and summed over the dimensions: mean of squares, then root": -weight
            * off.norm(dim=-1).mean(0),
            "summed over the dimensions: take the mean": -weight * u.var(0, correction=0).sum(-1).sqrt(),
            "the largest dimension: take the mean over all": -weight * each.amax(-1),
        },
    )


@penalized_reward.case("the members are axis 0 and the dimensions the last, whatever lies between")
def _(answer: Callable, draw: Draw) -> None:
    reward, mean, scale, weight = _futures(draw, 4, 3, members=4)
    square = (mean / scale - (mean / scale).mean(0)).square()
    expect_close(
        answer(reward, mean, scale, weight),
        reward.mean(0) - weight * _rms(mean, scale),
        "with rewards (M, A, B) the result is (A, B): axis 0 and the last one go",
        mistakes={
            FROM_THE_END: reward.mean(0) - weight * square.mean((-3, -1)).sqrt(),
            "the dimensions' axis is counted from the front: it is the last, -1": reward.mean(0)
            - weight * square.mean(0).mean(1).sqrt(),
        },
    )


@penalized_reward.case("a negative weight makes it a bonus")
def _(answer: Callable, draw: Draw) -> None:
    reward, mean, scale, weight = _futures(draw)
    expect_close(
        answer(reward, mean, scale, -weight),
        reward.mean(0) + weight * _rms(mean, scale),
        "with a negative weight the disagreement should be added",
        mistakes={
            "the sign of the weight is lost": reward.mean(0) - weight * _rms(mean, scale),
            "a negative weight is taken for none": reward.mean(0),
            "cut off at 0: rewards may be negative, and larger than any bound": (
                reward.mean(0) + weight * _rms(mean, scale)
            ).clamp(min=0),
        },
    )


@penalized_reward.case("each future is judged by itself", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    reward, mean, scale, weight = _futures(draw, 8)
    whole = answer(reward, mean, scale, weight)
    part = answer(reward[:, :3], mean[:, :3], scale, weight)
    expect_close(part, whole[:3], "a future's value depends on the other futures in the batch")


@penalized_reward.case("works for any axes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape, members, dims in [((1,), 1, 1), ((4, 3), 2, 2), ((5,), 5, 5), ((2, 3, 2), 3, 1)]:
        reward, mean, scale, weight = _futures(draw, *shape, members=members, dims=dims)
        wanted = reward.mean(0) - weight * _rms(mean, scale)
        likely = f"something goes wrong for M = {members}, axes {shape}, O = {dims}"
        expect_close(answer(reward, mean, scale, weight), wanted, likely, tolerance=GUARD)
