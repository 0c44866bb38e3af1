"""Lesson 01's exercises: a one-step model, its likelihood, and its error many steps ahead."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from wmcourse import one_step_dynamics as reference
from wmcourse.grading.exercise import Draw, Exercise
from wmcourse.grading.expect import expect, expect_close, gradients

LESSON = "01_one_step_dynamics"


def _columns(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    mean, std = (
        draw.normal(3, mean=2.0),
        torch.cat([draw.uniform(1, low=0.3, high=0.6), draw.uniform(2, low=2, high=4)]),
    )
    return mean + std * draw.normal(7, 3), mean, std


standardize = Exercise(
    reference=reference.standardize,
    lesson=LESSON,
    points=1,
    minutes=5,
    difficulty=1,
    hints=(
        "First move each column's middle to 0, then shrink its spread to 1.",
        "Subtract the mean, divide by the standard deviation. What if a column never changes, so that std is 0?",
        "Keep the divisor away from 0: torch.clamp has a min argument, and 1e-6 is small enough.",
    ),
    example=_columns,
)


@standardize.case("mean and spread become 0 and 1")
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = _columns(draw)
    expect_close(
        answer(x, mean, std),
        (x - mean) / std,
        "a value one std above the mean should become 1",
        mistakes={
            "divided by the variance: std is already a standard deviation": (x - mean) / std**2,
            "divided by the square root of std: std is not a variance": (x - mean) / std.sqrt(),
            "the mean is not subtracted": x / std,
            "the spread is left as it was: divide by std": x - mean,
            "the mean is added": (x + mean) / std,
            "divided before the mean is subtracted: in which order?": x / std - mean,
            "multiplied by std: that is the way back": (x - mean) * std,
            "the batch's own statistics: use the ones you are given": (x - x.mean(0)) / x.std(0),
            "the batch's own statistics: use the ones given": (x - x.mean(0)) / x.std(0, correction=0),
        },
    )


@standardize.case("a column that never changes becomes 0")
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = _columns(draw)
    x[:, 1], std[1] = mean[1], 0.0
    likely = "with std 0 the division gives 0 / 0: keep the divisor above a tiny number"
    value = answer(x, mean, std)
    expect(value.isfinite().all(), likely, "nan in the constant column")
    expect_close(value[:, 1], torch.zeros(7), likely)
    wanted = ((x - mean) / std)[:, [0, 2]]
    likely = "the guard against 0 should leave the other columns alone: is the floor too high?"
    expect_close(value[:, [0, 2]], wanted, likely)


@standardize.case("small spreads are standardized, too", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    mean, std = draw.normal(4, std=0.1), draw.uniform(4, low=2e-4, high=9e-4)
    u = draw.normal(2, 5, 4)
    likely = "a spread of a few ten-thousandths is a real one: is the guard against 0 too strong?"
    expect_close(answer(mean + std * u, mean, std), u, likely, tolerance=0.02)


@standardize.case("gradients reach x", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = _columns(draw)
    x.requires_grad_()
    grad = gradients(answer(x, mean, std), {"x": x})["x"]
    expect_close(grad, (1 / std).expand(7, 3), "d result / d x should be 1 / std: is a part of it cut off?")


def _linear_delta(draw: Draw) -> Callable[[Tensor, Tensor], Tensor]:
    weight = draw.normal(4, 3)
    return lambda obs, action: torch.cat([obs, action], -1) @ weight


def _next_inputs(draw: Draw) -> tuple:
    delta = _linear_delta(draw)
    return delta, draw.normal(6, 3), draw.normal(6, 1), draw.normal(3, mean=1.0), draw.uniform(3, low=0.3, high=3.0)


predict_next = Exercise(
    reference=reference.predict_next,
    lesson=LESSON,
    points=1,
    minutes=6,
    difficulty=2,
    hints=(
        "The model speaks of a difference, and of one that was standardized. Undo both.",
        "Undo the standardizing first: times the spread, plus the mean. Then the difference goes on top of something.",
        "obs plus delta_mean plus delta_std times what predict_delta(obs, action) says.",
    ),
    example=_next_inputs,
)


@predict_next.case("a model that says 0 moves by the mean difference")
def _(answer: Callable, draw: Draw) -> None:
    _, obs, action, mean, std = _next_inputs(draw)
    expect_close(
        answer(lambda s, a: torch.zeros_like(s), obs, action, mean, std),
        obs + mean,
        "0, in standardized units, is the average difference",
        mistakes={
            "the observation is missing: the model predicts a difference": mean.expand(6, 3),
            "the mean difference is missing": obs,
            "the mean difference is subtracted": obs - mean,
            "the standardizing is done again, not undone": obs - mean / std,
            "the mean is stretched, too: only the prediction is in standardized units": obs + std * mean,
        },
    )


@predict_next.case("the prediction is stretched back to its own units")
def _(answer: Callable, draw: Draw) -> None:
    delta, obs, action, mean, std = _next_inputs(draw)
    said = delta(obs, action)
    expect_close(
        answer(delta, obs, action, mean, std),
        obs + mean + std * said,
        "the prediction counts in units of delta_std",
        mistakes={
            "not stretched: the prediction counts in units of delta_std": obs + mean + said,
            "divided by delta_std: that standardizes once more": obs + mean + said / std,
            "stretched by the variance": obs + mean + std**2 * said,
            "the prediction is not used": obs + mean,
            "subtracted: the difference is next less now": obs + mean - std * said,
            "the action is not handed to the model": obs + mean + std * delta(obs, torch.zeros_like(action)),
        },
    )


@predict_next.case("the model sees obs and action as they are", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    _, obs, action, mean, std = _next_inputs(draw)

    def delta(s: Tensor, a: Tensor) -> Tensor:
        expect_close(s, obs, "predict_delta should get obs as it is, first")
        expect_close(a, action, "predict_delta should get action as it is, second")
        return torch.ones_like(s)

    expect_close(answer(delta, obs, action, mean, std), obs + mean + std, "a prediction of 1 is one spread more")


@predict_next.case("gradients flow through the model, and around it", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    delta, obs, action, mean, std = _next_inputs(draw)
    given = {"obs": obs.requires_grad_(), "action": action.requires_grad_()}
    right = gradients(obs + mean + std * delta(obs, action), given)
    likely = "is something detached, or the model called under no_grad?"
    found = gradients(answer(delta, obs, action, mean, std), given, likely)
    for name in given:
        expect_close(found[name], right[name], f"part of the gradient does not reach {name}: {likely}")


def _head(draw: Draw) -> tuple[Tensor, float]:
    return draw.normal(5, 6, std=2.0, grad=True), 0.05


gaussian_head = Exercise(
    reference=reference.gaussian_head,
    lesson=LESSON,
    points=1,
    minutes=7,
    difficulty=2,
    hints=(
        "One network gives twice as many numbers as there are dimensions: half of them for each part.",
        "The mean may be any number; the standard deviation must be above 0, so it goes through softplus.",
        "Split the last axis in two halves (chunk), softplus the second, then add the floor to it.",
    ),
    example=_head,
)


@gaussian_head.case("the first half of the last axis is the mean")
def _(answer: Callable, draw: Draw) -> None:
    features, floor = _head(draw)
    first, second = features.chunk(2, -1)
    expect_close(
        answer(features, floor)[0],
        first,
        "the mean should be the first half of the features, as it is",
        mistakes={
            "that is the second half: first the mean, then the spread": second,
            "every other number is taken: the first half is asked for": features[..., 0::2],
            "the mean is squashed: it may be any number": F.softplus(first),
            "the mean is squashed by tanh: it may be any number": first.tanh(),
            "std and mean seem swapped": F.softplus(second) + floor,
        },
    )


@gaussian_head.case("the second half becomes a standard deviation above the floor")
def _(answer: Callable, draw: Draw) -> None:
    features, floor = _head(draw)
    raw = features.chunk(2, -1)[1]
    soft = F.softplus(raw)
    expect_close(
        answer(features, floor)[1],
        soft + floor,
        "std should be softplus(second half) + floor",
        mistakes={
            "the floor is missing: std can come arbitrarily close to 0": soft,
            "clamped at the floor: below it no gradient arrives, so add the floor": soft.clamp(min=floor),
            "exp instead of softplus: a large feature makes it explode": raw.exp() + floor,
            "exp(raw / 2) takes the feature for a log-variance: softplus is asked for": (raw / 2).exp() + floor,
            "relu has no gradient below 0, and std sticks at the floor": raw.relu() + floor,
            "the absolute value has a kink at 0: softplus is smooth": raw.abs() + floor,
            "as it is, the second half can be negative": raw + floor,
            "the square root is taken: softplus gives a standard deviation already": soft.sqrt() + floor,
            "a sigmoid holds std below 1 + floor: softplus has no ceiling": raw.sigmoid() + floor,
            "the floor goes inside softplus, where it is no floor": F.softplus(raw + floor),
        },
    )


@gaussian_head.case("gradients reach every feature")
def _(answer: Callable, draw: Draw) -> None:
    features, floor = _head(draw)
    mean, std = answer(features, floor)
    grad = gradients(mean.sum() + std.sum(), {"features": features})["features"]
    came = f"{int((grad == 0).sum())} features without a gradient"
    expect((grad != 0).all(), "some features get no gradient: is something clamped?", came)


@gaussian_head.case("very negative and very large features stay finite and above 0", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    features = torch.tensor([[0.0, 1.0, -200.0, 200.0]])
    std = answer(features, 0.01)[1]
    expect(std.isfinite().all() and (std >= 0.01).all(), "std should lie between the floor and infinity", str(std))
    expect_close(
        std, torch.tensor([[0.01, 200.01]]), "far below 0 std should be the floor, far above 0 it should grow on"
    )
    tiny = answer(torch.tensor([[0.0, -18.0]], requires_grad=True), 0.0)[1]
    expect_close(
        1e8 * tiny, torch.tensor([[1.523]]), "softplus(-18) is 1.5e-8: is the feature bounded?", tolerance=0.01
    )


@gaussian_head.case("splits the last axis of any shape", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in [(8,), (2, 4, 10), (3, 2)]:
        features = draw.normal(*shape)
        mean, raw = features.chunk(2, -1)
        for value, right in zip(answer(features, 0.5), (mean, F.softplus(raw) + 0.5), strict=True):
            expect_close(value, right, f"something goes wrong for features of shape {shape}")


def _gaussian(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    shape = (4, 5, 3)
    return draw.normal(*shape), draw.normal(*shape, grad=True), draw.uniform(*shape, low=0.3, high=3.0, grad=True)


gaussian_log_prob = Exercise(
    reference=reference.gaussian_log_prob,
    lesson=LESSON,
    points=2,
    minutes=10,
    difficulty=2,
    hints=(
        "Independent dimensions: the log-probabilities of one-dimensional Gaussians add up.",
        "One dimension: -(x - mean)² / (2 std²) - log std - log(2 pi) / 2.",
        "Compute that for every number, then sum over the last axis only; math.log(2 * math.pi) is the constant.",
    ),
    example=_gaussian,
)


@gaussian_log_prob.case("one dimension: the density of the bell curve")
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = (t.detach()[..., :1] for t in _gaussian(draw))
    square = ((x - mean) / std).square()
    constant = 0.5 * math.log(2 * math.pi)
    wanted = -0.5 * square - std.log() - constant
    expect_close(
        answer(x, mean, std),
        wanted[..., 0],
        "the log-density is -(x - mean)² / (2 std²) - log std - log(2 pi) / 2",
        mistakes={
            message: wrong[..., 0]
            for message, wrong in {
                "the sign is turned around: that is the loss": -wanted,
                "the constant log(2 pi) / 2 is missing": wanted + constant,
                "the constant is log(2 pi), without the half": wanted - constant,
                "-log std is missing: a wide bell curve is a low one": wanted + std.log(),
                "+ log std: a wide bell curve is a low one": wanted + 2 * std.log(),
                "std is taken for a variance": -0.5 * (x - mean).square() / std - 0.5 * std.log() - constant,
                "log of the variance without the half": wanted - std.log(),
                "the 1/2 before the square is missing": wanted - 0.5 * square,
                "the exponent is divided by std once, not twice": -0.5 * (x - mean).square() / std
                - std.log()
                - constant,
                "this is the density, not its logarithm": wanted.exp(),
            }.items()
        },
    )


@gaussian_log_prob.case("dimensions add up")
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = (t.detach() for t in _gaussian(draw))
    each = torch.distributions.Normal(mean, std).log_prob(x)
    expect_close(
        answer(x, mean, std),
        each.sum(-1),
        "sum over the last axis: the log of a product is a sum",
        mistakes={
            "the mean over dimensions: the log of a product is a sum": each.mean(-1),
            "one dimension only": each[..., 0],
            "the constant counts once for each dimension": each.sum(-1) + math.log(2 * math.pi),
        },
    )


@gaussian_log_prob.case("gradients reach mean and std")
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = _gaussian(draw)
    grads = gradients(answer(x, mean, std), {"mean": mean, "std": std})
    u = (x - mean.detach()) / std.detach()
    expect_close(grads["mean"], u / std.detach(), "the gradient of the mean is cut off in part: is something detached?")
    likely = "the gradient of std is cut off in part: is something detached?"
    expect_close(grads["std"], (u.square() - 1) / std.detach(), likely)


@gaussian_log_prob.case("far out in the tail it stays finite", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = torch.full((2, 3), 60.0), torch.zeros(2, 3), torch.ones(2, 3)
    wanted = torch.full((2,), 3 * (-1800.0 - 0.5 * math.log(2 * math.pi)))
    expect_close(answer(x, mean, std), wanted, "work with logarithms from the start: the density itself underflows")


@gaussian_log_prob.case("a narrow Gaussian is exact, at its mean and 70 std away", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    mean, std = draw.normal(4, 3), torch.full((4, 3), 0.01)
    for x in (mean, mean + draw.uniform(4, 3, low=0.7, high=1.3)):
        wanted = torch.distributions.Normal(mean, std).log_prob(x).sum(-1)
        expect_close(answer(x, mean, std), wanted, "for std 0.01 the formula is the same: is something clamped?")


def _rollout_inputs(draw: Draw) -> tuple:
    return _linear_step(draw), draw.normal(4, 3), draw.normal(4, 6, 1)


def _linear_step(draw: Draw) -> Callable[[Tensor, Tensor], Tensor]:
    matrix, push = 0.6 * draw.normal(3, 3), draw.normal(1, 3)
    return lambda obs, action: torch.tanh(obs @ matrix) + action @ push


rollout = Exercise(
    reference=reference.rollout,
    lesson=LESSON,
    points=2,
    minutes=10,
    difficulty=2,
    hints=(
        "Predict, then let the prediction be what you predict from.",
        "Loop over the H actions. Keep each new prediction in a list; the start is not a prediction.",
        "actions[:, k] is (B, A). After the loop torch.stack the list along axis 1.",
    ),
    example=_rollout_inputs,
)


@rollout.case("the first action acts on the first observation")
def _(answer: Callable, draw: Draw) -> None:
    step, obs, actions = _rollout_inputs(draw)
    expect_close(
        answer(step, obs, actions)[:, 0],
        step(obs, actions[:, 0]),
        "[:, 0] should be what comes after actions[:, 0]",
        mistakes={
            "the start itself is in the result: only predictions are asked for": obs,
            "the second action acts first: off by one": step(obs, actions[:, 1]),
            "the last action acts first": step(obs, actions[:, -1]),
            "[:, 0] is already the second prediction: off by one": step(step(obs, actions[:, 0]), actions[:, 1]),
            "the first prediction is made without an action": step(obs, torch.zeros(4, 1)),
        },
    )


@rollout.case("each prediction is made from the one before")
def _(answer: Callable, draw: Draw) -> None:
    step, obs, actions = _rollout_inputs(draw)
    one = step(obs, actions[:, 0])
    expect_close(
        answer(step, obs, actions)[:, 1],
        step(one, actions[:, 1]),
        "[:, 1] should be step([:, 0], actions[:, 1])",
        mistakes={
            "every prediction starts from obs again: feed predictions back": step(obs, actions[:, 1]),
            "the first action is used at every step": step(one, actions[:, 0]),
            "the prediction is added to the observation: step gives the next one whole": one + step(one, actions[:, 1]),
        },
    )


@rollout.case("the last prediction uses the last action")
def _(answer: Callable, draw: Draw) -> None:
    step, obs, actions = _rollout_inputs(draw)
    last = obs
    for action in actions.unbind(1):
        last = step(last, action)
    expect_close(answer(step, obs, actions)[:, -1], last, "six steps from the start, six actions")


@rollout.case("gradients run back through every step to the first action")
def _(answer: Callable, draw: Draw) -> None:
    step, obs, actions = _rollout_inputs(draw)
    actions = actions.clone().requires_grad_()
    last = answer(step, obs, actions)[:, -1]
    likely = "are predictions detached, or computed under no_grad, on the way?"
    grad = gradients(last, {"actions": actions}, likely)["actions"]
    expect((grad[:, 0] != 0).any(), f"no gradient reaches the first action: {likely}")


@rollout.case("works for one step, for one row, and for other sizes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    step = _linear_step(draw)
    for batch, horizon in [(3, 1), (1, 4), (2, 9)]:
        obs, actions = draw.normal(batch, 3), draw.normal(batch, horizon, 1)
        likely = f"something goes wrong for a batch of {batch} and a horizon of {horizon}"
        expect_close(answer(step, obs, actions), reference.rollout(step, obs, actions), likely)


def _errors(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    return draw.normal(7, 5, 3), draw.normal(7, 5, 3), draw.uniform(3, low=0.4, high=4.0)


open_loop_error = Exercise(
    reference=reference.open_loop_error,
    lesson=LESSON,
    points=1,
    minutes=6,
    difficulty=2,
    hints=(
        "A velocity in radian per second and a cosine cannot be added before each is measured in its own unit.",
        "Divide by the scale, square, average over batch and dimensions, and take the root last.",
        "Of the axes (B, H, O) only H stays: mean over dim=(0, 2).",
    ),
    example=_errors,
)


@open_loop_error.case("each dimension counts in units of its scale")
def _(answer: Callable, draw: Draw) -> None:
    predicted, true, scale = _errors(draw)
    gap = predicted - true

    def rms(x: Tensor) -> Tensor:
        return x.square().mean(dim=(0, 2)).sqrt()

    expect_close(
        answer(predicted, true, scale),
        rms(gap / scale),
        "root of the mean of ((predicted - true) / scale)² over batch and dimensions",
        mistakes={
            "scale is not used": rms(gap),
            "multiplied by scale: an error of one scale should count 1": rms(gap * scale),
            "divided by scale after squaring: the square has the unit squared": (gap.square() / scale)
            .mean((0, 2))
            .sqrt(),
            "the root is missing": rms(gap / scale).square(),
            "mean of sizes, not root mean square": (gap / scale).abs().mean((0, 2)),
            "the root is taken before the batch is averaged": (gap / scale).square().mean(2).sqrt().mean(0),
            "summed over dimensions: average them": (gap / scale).square().sum(2).mean(0).sqrt(),
            "summed over the batch: average it": (gap / scale).square().mean(2).sum(0).sqrt(),
            "errors of opposite sign cancel: square first": (gap / scale).mean((0, 2)).abs(),
            "divided by the scale's square: divide once, then square": rms(gap / scale**2),
        },
    )


@open_loop_error.case("an error of one scale everywhere is 1 at every step")
def _(answer: Callable, draw: Draw) -> None:
    _, true, scale = _errors(draw)
    likely = "if every prediction misses by one scale, the error should be 1"
    expect_close(answer(true + scale, true, scale), torch.ones(5), likely)


@open_loop_error.case("each step ahead stands for itself")
def _(answer: Callable, draw: Draw) -> None:
    _, true, scale = _errors(draw)
    late = true.clone()
    late[:, 3] += scale
    likely = "an error at step 3 alone should show at step 3 alone: are steps averaged or accumulated?"
    expect_close(answer(late, true, scale), torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]), likely)


@open_loop_error.case("every window counts, and other units change nothing", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    predicted, true, scale = draw.normal(19, 4, 3), draw.normal(19, 4, 3), draw.uniform(3, low=0.4, high=4.0)
    wanted = reference.open_loop_error(predicted, true, scale)
    likely = "something goes wrong for 19 windows of 4 steps: does every window count?"
    expect_close(answer(predicted, true, scale), wanted, likely)
    units = torch.tensor([10.0, 0.1, 57.3])
    likely = "other units should not change the error"
    expect_close(answer(predicted * units, true * units, scale * units), wanted, likely)
