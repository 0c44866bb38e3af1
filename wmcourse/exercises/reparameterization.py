"""Lesson 03's exercises: gradients through a random draw."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wmcourse import reparameterization as reference
from wmcourse.grading.exercise import Draw, Exercise
from wmcourse.grading.expect import expect, expect_close, gradients

LESSON = "03_reparameterization"


def _mean_std_noise(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    shape = (6, 3)
    return draw.normal(*shape, grad=True), draw.uniform(*shape, low=0.3, high=2.5, grad=True), draw.normal(*shape)


reparameterize = Exercise(
    reference=reference.reparameterize,
    lesson=LESSON,
    points=1,
    minutes=5,
    difficulty=1,
    hints=(
        "A normal number with mean m and standard deviation s is a standard normal number, stretched and shifted.",
        "Stretch the noise by the standard deviation (not by the variance), then shift it by the mean.",
        "One line of tensor arithmetic on the three arguments. Draw nothing yourself: noise is the only dice roll.",
    ),
    example=_mean_std_noise,
)


@reparameterize.case("uses the noise it is given, and no dice of its own")
def _(answer: Callable, draw: Draw) -> None:
    mean, std, noise = _mean_std_noise(draw)
    likely = "the same noise should give the same z: do you draw your own with torch.randn or torch.normal?"
    expect_close(answer(mean, std, noise), answer(mean, std, noise).detach(), likely)
    moved = (answer(mean, std, noise) - answer(mean, std, -noise)).abs().amax()
    expect(moved > 1e-3, "turning the noise around changes nothing: is noise used?", "the same z for noise and -noise")


@reparameterize.case("noise of 0 gives the mean")
def _(answer: Callable, draw: Draw) -> None:
    mean, std, noise = _mean_std_noise(draw)
    expect_close(
        answer(mean, std, torch.zeros_like(noise)),
        mean.detach(),
        "without noise z should sit at the mean: what is added to it, or what becomes of it?",
    )


@reparameterize.case("the noise is stretched by the standard deviation")
def _(answer: Callable, draw: Draw) -> None:
    mean, std, noise = (x.detach() for x in _mean_std_noise(draw))
    expect_close(
        answer(mean, std, noise) - mean,
        std * noise,
        "z - mean should be the noise, std times as large",
        mistakes={
            "the noise is stretched by the variance: std is already the standard deviation": std**2 * noise,
            "the noise is stretched by the square root of std: std is not a variance": std.sqrt() * noise,
            "the noise is stretched by exp(std): std is not a logarithm": std.exp() * noise,
            "the noise is stretched by exp(std / 2): std is not a log-variance": (0.5 * std).exp() * noise,
            "the sign of the noise is turned around": -std * noise,
            "the noise is not stretched at all: where does std come in?": noise,
            "std is added to the noise, not multiplied with it": std + noise,
        },
    )


@reparameterize.case("gradients reach mean and std")
def _(answer: Callable, draw: Draw) -> None:
    mean, std, noise = _mean_std_noise(draw)
    hint = "did you detach, or sample with torch.normal?"
    grads = gradients(answer(mean, std, noise), {"mean": mean, "std": std}, hint)
    expect_close(grads["mean"], torch.ones_like(mean), "d z / d mean should be 1 everywhere: is part of mean cut off?")
    expect_close(grads["std"], noise, "d z / d std should be the noise: is part of the gradient cut off?")


@reparameterize.case("works for any shape", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in [(5,), (2, 7, 4), (1, 1)]:
        mean, std, noise = draw.normal(*shape), draw.uniform(*shape, low=0.1), draw.normal(*shape)
        expect_close(answer(mean, std, noise), mean + std * noise, f"something goes wrong for shape {shape}")


pathwise_gradient = Exercise(
    reference=reference.pathwise_gradient,
    lesson=LESSON,
    points=1,
    minutes=5,
    difficulty=2,
    hints=(
        "f(mean + std * noise) is f of something: the chain rule says slope times the derivative of that something.",
        "How much does z move when mean moves by 1? And when std moves by 1, for one given noise?",
        "dz/dmean is 1 and dz/dstd is the noise; multiply each by the slope, sample by sample, and return both.",
    ),
    example=lambda draw: (draw.normal(64), draw.normal(64)),
)


@pathwise_gradient.case("the part for the mean is the slope")
def _(answer: Callable, draw: Draw) -> None:
    slope, noise = draw.normal(64), draw.normal(64)
    expect_close(
        answer(slope, noise)[0],
        slope,
        "moving the mean by 1 moves z by 1: what is d f / d mean then?",
        mistakes={
            "the two parts seem swapped: first mean, then std": slope * noise,
            "one average for all samples: the gradient is wanted per sample": slope.mean().expand(64),
        },
    )


@pathwise_gradient.case("the part for std carries the noise")
def _(answer: Callable, draw: Draw) -> None:
    slope, noise = draw.normal(64), draw.normal(64)
    expect_close(
        answer(slope, noise)[1],
        slope * noise,
        "moving std by 1 moves z by the noise: what is d f / d std then?",
        mistakes={
            "the slope alone: how far does z move when std grows?": slope,
            "the noise squared: z is linear in std": slope * noise**2,
            "the noise alone: where is the slope of f?": noise,
            "only the size of the noise counts here: its sign matters too": slope * noise.abs(),
            "divided by the noise: the chain rule multiplies": slope / noise,
        },
    )


@pathwise_gradient.case("agrees with autograd on a curved function", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    mean, std = draw.normal(1, grad=True), draw.uniform(1, low=0.5, grad=True)
    noise = draw.normal(200)
    z = mean + std * noise
    wanted = torch.autograd.grad(torch.sin(z).mean(), [mean, std])
    parts = answer(torch.cos(z).detach(), noise)
    for part, right, name in zip(parts, wanted, ("mean", "std"), strict=True):
        expect_close(part.mean()[None], right, f"the average differs from autograd's gradient with respect to {name}")


def _score_inputs(draw: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, std = draw.normal(), draw.uniform(low=0.4, high=1.8)
    z = mean + std * draw.normal(64)
    return z.square(), mean, std, z


score_function_gradient = Exercise(
    reference=reference.score_function_gradient,
    lesson=LESSON,
    points=2,
    minutes=10,
    difficulty=3,
    hints=(
        "The gradient of E[f(z)] is E[f(z) times the gradient of log p(z)]. Write log N(z; mean, std²) down first.",
        "log p = -log std - (z - mean)² / (2 std²) + constant. Differentiate it by mean, then by std, z held fixed.",
        "With u = (z - mean) / std the scores are u / std and (u² - 1) / std; each is multiplied by the value of f.",
    ),
    example=_score_inputs,
)


@score_function_gradient.case("the part for the mean is value times the score of the mean")
def _(answer: Callable, draw: Draw) -> None:
    value, mean, std, z = _score_inputs(draw)
    score = (z - mean) / std.square()
    expect_close(
        answer(value, mean, std, z)[0],
        value * score,
        "the score of the mean is (z - mean) / std²: is your log-density the normal one?",
        mistakes={
            "divided by std once: the density has the variance in its exponent": value * (z - mean) / std,
            "the sign is turned around: samples above the mean should push it up when f is large": -value * score,
            "the score alone: where does f(z) come in?": score,
            "not divided by std at all: the density has the variance in its exponent": value * (z - mean),
            "the 1/2 of the exponent is left over: the square brings a factor of 2 with it": value * score / 2,
            "one average for all samples: the gradient is wanted per sample": (value * score).mean().expand(64),
        },
    )


@score_function_gradient.case("the part for std is value times the score of std")
def _(answer: Callable, draw: Draw) -> None:
    value, mean, std, z = _score_inputs(draw)
    u = (z - mean) / std
    expect_close(
        answer(value, mean, std, z)[1],
        value * (u.square() - 1) / std,
        "differentiate -log std - (z - mean)² / (2 std²) by std: two terms, each over std",
        mistakes={
            "the -1 is missing: log N holds -log std, too": value * u.square() / std,
            "this is the score of the variance, or of log std: std itself is asked for": value * (u.square() - 1),
            "this is the score of the variance: std itself is asked for": value * (u.square() - 1) / (2 * std.square()),
            "the sign is turned around": value * (1 - u.square()) / std,
            "the score alone: where does f(z) come in?": (u.square() - 1) / std,
        },
    )


@score_function_gradient.case("is unbiased: 200,000 samples average to the exact gradient", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    mean, std = torch.tensor(0.7), torch.tensor(0.8)
    z = mean + std * draw.normal(200_000)
    for part, wanted in zip(answer(z.square(), mean, std, z), (2 * mean, 2 * std), strict=True):
        error = part.std() / len(z) ** 0.5
        came = f"{part.mean():.3f}, wanted {wanted:.3f} within {4 * error:.3f}"
        expect((part.mean() - wanted).abs() < 4 * error, "biased on f(z) = z²", came)


leave_one_out = Exercise(
    reference=reference.leave_one_out,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=3,
    hints=(
        "Each sample is compared with the others; itself it must not see.",
        "The mean of the others is (the sum of all less this one) over (N - 1): no loop is needed.",
        "others is one line from value.sum(), value and len(value); what is returned is value less others.",
    ),
    example=lambda draw: (draw.normal(16, mean=3.0),),
)


@leave_one_out.case("two samples are compared with each other")
def _(answer: Callable, draw: Draw) -> None:
    value = draw.normal(2, mean=1.0)
    expect_close(
        answer(value),
        value - value.flip(0),
        "with two samples the mean of the others is simply the other one",
        mistakes={
            "the sample itself is in its own baseline, which biases the gradient": value - value.mean(),
            "only the baseline is returned: subtract it from the value": value.flip(0),
            "the sign is turned around: value less baseline is asked for": value.flip(0) - value,
            "the sum without this sample, divided by N: how many others are there?": value - value.flip(0) / 2,
            "nothing is subtracted": value,
        },
    )


@leave_one_out.case("the others' mean is taken over N - 1")
def _(answer: Callable, draw: Draw) -> None:
    value = draw.normal(9, mean=3.0)
    wanted = torch.stack([value[i] - torch.cat([value[:i], value[i + 1 :]]).mean() for i in range(9)])
    expect_close(
        answer(value),
        wanted,
        "subtract from each value the mean of the other N - 1",
        mistakes={
            "the sample itself is in its own baseline, which biases the gradient": value - value.mean(),
            "standardized: dividing by the spread changes the gradient's size": (value - value.mean()) / value.std(),
            "divided by N: how many others are there?": value - (value.sum() - value) / 9,
            "only the sample before is used: the baseline is the mean of all the others": value - value.roll(1),
        },
    )


@leave_one_out.case("a constant added to every value changes nothing", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    value = draw.normal(12)
    expect_close(answer(value + 5.0), answer(value), "a constant should cancel: it tells no sample from another")


def _logits_uniform(draw: Draw) -> tuple[Tensor, Tensor]:
    return draw.normal(60, 5, std=1.5, grad=True), draw.uniform(60, 5, low=0.01, high=0.99)


straight_through = Exercise(
    reference=reference.straight_through,
    lesson=LESSON,
    points=3,
    minutes=15,
    difficulty=4,
    hints=(
        "Forward, the result is a one-hot draw; backward, it should look as if it had been the probabilities.",
        "Draw with argmax(logits - log(-log(uniform))) over the last axis. A term that is 0 in value, but not in "
        "gradient, can then be added: something less a detached copy of itself.",
        "F.one_hot(choice, K) gives whole numbers: make them floats. Then add (probs - probs.detach()).",
    ),
    example=_logits_uniform,
)


@straight_through.case("every row is a one-hot vector")
def _(answer: Callable, draw: Draw) -> None:
    y = answer(*_logits_uniform(draw)).detach()
    sums = (y.sum(-1) - 1).abs().amax()
    edges = torch.minimum(y.abs(), (y - 1).abs()).amax()
    came = f"a row like {[round(v, 2) for v in y[0].tolist()]}"
    likely = "forward it should be one-hot over the last axis: is the soft sample returned, or the wrong axis used?"
    expect(torch.maximum(sums, edges) < 1e-4, likely, came)


@straight_through.case("the draw follows the Gumbel-max trick")
def _(answer: Callable, draw: Draw) -> None:
    logits, uniform = _logits_uniform(draw)

    def hot(scores: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(scores.argmax(-1), 5).float()

    gumbel = -torch.log(-torch.log(uniform))
    expect_close(
        answer(logits, uniform).detach(),
        hot(logits.detach() + gumbel),
        "the draw should be argmax(logits - log(-log(uniform)))",
        mistakes={
            "always the likeliest class: where is the dice roll?": hot(logits.detach()),
            "the sign of the Gumbel noise is turned around": hot(logits.detach() - gumbel),
            "the uniform numbers are added as they are: they should become Gumbel noise": hot(
                logits.detach() + uniform
            ),
            "the Gumbel noise is added to the probabilities: it belongs to the logits": hot(
                logits.softmax(-1) + gumbel
            ),
            "only the noise decides: where do the logits come in?": hot(gumbel),
        },
    )


@straight_through.case("the gradient is the probabilities' own")
def _(answer: Callable, draw: Draw) -> None:
    logits, uniform = _logits_uniform(draw)
    weight = draw.normal(60, 5)
    y = answer(logits, uniform)
    grad = gradients(y * weight, {"logits": logits}, "a one-hot vector alone has no slope")["logits"]
    wanted = torch.autograd.grad((logits.softmax(-1) * weight).sum(), logits)[0]
    expect_close(
        grad,
        wanted,
        "backward it should be softmax(logits), with nothing of the draw",
        mistakes={
            "this is the gradient of the logits, not of the probabilities": weight,
            "the softmax runs over the wrong axis": torch.autograd.grad(
                (logits.softmax(0) * weight).sum(), logits, retain_graph=True
            )[0],
            "the noise is in the probabilities, too: that is Gumbel-softmax, another estimator": torch.autograd.grad(
                ((logits - torch.log(-torch.log(uniform))).softmax(-1) * weight).sum(), logits
            )[0],
        },
    )


@straight_through.case("over many draws the classes come up as often as they should", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    logits = torch.tensor([1.0, 0.0, -1.0]).expand(60_000, 3)
    often = answer(logits, draw.uniform(60_000, 3).clamp(1e-6, 1 - 1e-6)).mean(0)
    came = f"{[round(v, 3) for v in often.tolist()]}, wanted {[round(v, 3) for v in logits[0].softmax(-1).tolist()]}"
    expect((often - logits[0].softmax(-1)).abs().amax() < 0.01, "the frequencies are not softmax(logits)", came)
