"""Lesson 04's exercises: the ELBO, term by term."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from wmcourse import elbo as reference
from wmcourse.grading.exercise import Draw, Exercise
from wmcourse.grading.expect import expect, expect_close, gradients

LESSON = "04_elbo"
FRAME = (-3, -2, -1)
LOG_2PI = math.log(2 * math.pi)
OWN_FRAME = "each frame needs its own number: which axes are summed when there are axes before the frame?"


def _two_gaussians(draw: Draw, *shape: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = shape or (6, 3)
    return (
        draw.normal(*shape, grad=True),
        draw.uniform(*shape, low=0.3, high=0.8, grad=True),
        draw.normal(*shape, grad=True),
        draw.uniform(*shape, low=1.2, high=2.5, grad=True),
    )


def _kl(mean_q: Tensor, std_q: Tensor, mean_p: Tensor, std_p: Tensor) -> Tensor:
    return (std_p / std_q).log() + (std_q**2 + (mean_q - mean_p) ** 2) / (2 * std_p**2) - 0.5


gaussian_kl = Exercise(
    reference=reference.gaussian_kl,
    lesson=LESSON,
    points=2,
    minutes=12,
    difficulty=3,
    hints=(
        "KL(q || p) is the average of log q(z) - log p(z) over draws z of q. Write both log-densities down first.",
        "Under q, (z - mean_q)² averages to std_q², and (z - mean_p)² averages to std_q² + (mean_q - mean_p)².",
        "Per dimension there are three parts: a log of the ratio of the stds, half of the averaged squared distance "
        "to mean_p in units of std_p², and -1/2. Then one sum over the last axis.",
    ),
    example=_two_gaussians,
)


@gaussian_kl.case("to the standard normal it is the textbook formula")
def _(answer: Callable, draw: Draw) -> None:
    mean, std = draw.normal(5, 3), draw.uniform(5, 3, low=0.3, high=0.8)
    zero, one = torch.zeros_like(mean), torch.ones_like(std)
    parts = _kl(mean, std, zero, one)
    square, variance = mean**2, std**2
    expect_close(
        answer(mean, std, zero, one),
        parts.sum(-1),
        "for p = N(0, 1) each dimension should give (mean² + std² - 1) / 2 - log std",
        mistakes={
            "an average over dimensions: nats of independent dimensions add up": parts.mean(-1),
            "this is KL(p || q): the average is taken over draws of q": _kl(zero, one, mean, std).sum(-1),
            "the sign is turned around: a KL is never negative": -parts.sum(-1),
            "the -1/2 is missing: what should the KL of p to itself be?": (parts + 0.5).sum(-1),
            "the squares need their 1/2: it stands in the exponent of the density": (
                square + variance - 1 - std.log()
            ).sum(-1),
            "twice too large: the 1/2 of the exponent is missing": 2 * parts.sum(-1),
            "log of the variance where log of the std belongs: they differ by a factor of 2": (
                0.5 * (square + variance - 1) - variance.log()
            ).sum(-1),
            "half of log std: 1/2 belongs to the log of the variance": (0.5 * (square + variance - 1 - std.log())).sum(
                -1
            ),
            "std stands where its square belongs: which of the two is a variance?": (
                0.5 * (square + std - 1) - std.log()
            ).sum(-1),
            "std is taken for a variance: it is already the standard deviation": (
                0.5 * (square + std - 1 - std.log())
            ).sum(-1),
            "std is taken for a log-variance: it is already the standard deviation": (
                0.5 * (square + std.exp() - 1 - std)
            ).sum(-1),
            "the log of std enters with the other sign: a narrow q should cost more, not less": (
                0.5 * (square + variance - 1) + std.log()
            ).sum(-1),
            "the mean is not squared: a mean left of 0 should cost as much as one right of it": (
                0.5 * (mean + variance - 1) - std.log()
            ).sum(-1),
            "the mean does not count: how far is q from p?": (0.5 * (variance - 1) - std.log()).sum(-1),
        },
    )


@gaussian_kl.case("p may be any Gaussian")
def _(answer: Callable, draw: Draw) -> None:
    mean_q, std_q, mean_p, std_p = (x.detach() for x in _two_gaussians(draw))
    zero, one = torch.zeros_like(mean_q), torch.ones_like(std_q)
    shift, ratio = mean_q - mean_p, std_q / std_p
    expect_close(
        answer(mean_q, std_q, mean_p, std_p),
        _kl(mean_q, std_q, mean_p, std_p).sum(-1),
        "right for p = N(0, 1), not for another p: every distance is measured in units of std_p",
        mistakes={
            "this is KL(p || q): the average is taken over draws of q": _kl(mean_p, std_p, mean_q, std_q).sum(-1),
            "p is ignored: this is the KL to N(0, 1)": _kl(mean_q, std_q, zero, one).sum(-1),
            "mean_p is ignored": _kl(mean_q, std_q, zero, std_p).sum(-1),
            "std_p is ignored": _kl(mean_q, std_q, mean_p, one).sum(-1),
            "the means are divided by std_p, not by its square": (
                0.5 * (ratio**2 + shift**2 / std_p - 1) - ratio.log()
            ).sum(-1),
            "the distance of the means is measured in units of q's std: whose exponent is it in?": (
                0.5 * (ratio**2 + (shift / std_q) ** 2 - 1) - ratio.log()
            ).sum(-1),
            "the distance of the means is not divided by the variance of p": (
                0.5 * (ratio**2 + shift**2 - 1) - ratio.log()
            ).sum(-1),
            "the means are added: their distance counts": _kl(mean_q, std_q, -mean_p, std_p).sum(-1),
            "log std_p is missing: p's density has a normalizer, too": (0.5 * (ratio**2 + (shift / std_p) ** 2 - 1))
            .sub(std_q.log())
            .sum(-1),
            "the variances' ratio is turned around": (
                0.5 * (1 / ratio**2 + (shift / std_p) ** 2 - 1) - ratio.log()
            ).sum(-1),
        },
    )


@gaussian_kl.case("gradients reach both distributions")
def _(answer: Callable, draw: Draw) -> None:
    inputs: dict[str, Tensor] = dict(zip(("mean_q", "std_q", "mean_p", "std_p"), _two_gaussians(draw), strict=True))
    wanted = torch.autograd.grad(_kl(*inputs.values()).sum(), list(inputs.values()))
    got = gradients(answer(*inputs.values()), inputs)
    for name, right in zip(inputs, wanted, strict=True):
        expect_close(got[name], right, f"the gradient of {name} is off: is a part of the formula cut off from it?")


@gaussian_kl.case("is 0 for two equal distributions, and stays finite far away", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    mean, std = draw.normal(7, 4), draw.uniform(7, 4, low=0.1, high=3.0)
    expect_close(answer(mean, std, mean.clone(), std.clone()), torch.zeros(7), "KL(q || q) should be 0")
    narrow, wide = torch.full((2, 3), 1e-4), torch.full((2, 3), 30.0)
    for std_q, std_p in ((narrow, torch.ones(2, 3)), (torch.ones(2, 3), wide), (narrow, wide)):
        zero = torch.zeros(2, 3)
        likely = "off for extreme stds: is something padded or clamped on the way?"
        expect_close(answer(zero, std_q, zero, std_p), _kl(zero, std_q, zero, std_p).sum(-1), likely)


@gaussian_kl.case("takes any shape, and float64", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in ((4,), (2, 5, 3), (3, 1)):
        args = [x.detach().double() for x in _two_gaussians(draw, *shape)]
        expect_close(answer(*args), _kl(*args).sum(-1), f"something goes wrong for shape {shape}", tolerance=1e-9)


def _frames_mean_std(draw: Draw, *lead: int) -> tuple[Tensor, Tensor, float]:
    shape = (*(lead or (5,)), 2, 3, 4)
    return draw.uniform(*shape), draw.uniform(*shape, grad=True), 0.3 + 0.4 * draw.uniform().item()


gaussian_log_likelihood = Exercise(
    reference=reference.gaussian_log_likelihood,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "Write the log of the density of one pixel, N(x; mean, std²). It has three parts; one of them holds x.",
        "log N = -(x - mean)² / (2 std²) - log std - log(2 pi) / 2. Pixels are independent: what happens to logs?",
        "Make the per-pixel formula a tensor of the shape of x, then sum over the last three axes and no other.",
    ),
    example=_frames_mean_std,
)


@gaussian_log_likelihood.case("a perfect reconstruction gives the normalizer, once per pixel")
def _(answer: Callable, draw: Draw) -> None:
    x, _, std = _frames_mean_std(draw)
    pixels, one = 24, torch.ones(5)
    expect_close(
        answer(x, x.clone(), std),
        -pixels * (math.log(std) + LOG_2PI / 2) * one,
        "with x = mean, each pixel leaves -log std - log(2 pi) / 2",
        mistakes={
            "the normalizer is missing: a narrow Gaussian is also a high one": 0 * one,
            "log(2 pi) / 2 is missing": -pixels * math.log(std) * one,
            "log std is missing: a narrow Gaussian is also a high one": -pixels * LOG_2PI / 2 * one,
            "the normalizer is counted once a frame, and every pixel has one": -(math.log(std) + LOG_2PI / 2) * one,
            "the normalizer enters with the other sign": pixels * (math.log(std) + LOG_2PI / 2) * one,
            "log(2 pi) needs its 1/2: the density divides by the square root of 2 pi": (
                -pixels * (math.log(std) + LOG_2PI) * one
            ),
            "log of the variance where log of the std belongs": -pixels * (2 * math.log(std) + LOG_2PI / 2) * one,
            "the 1/2 belongs to log(2 pi), not to log std as well": -pixels * (math.log(std) + LOG_2PI) / 2 * one,
            "2 pi stands under no logarithm": -pixels * (math.log(std) + math.pi) * one,
        },
    )


@gaussian_log_likelihood.case("a squared error costs 1 / (2 std²) nats, and pixels add up")
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = _frames_mean_std(draw)
    mean = mean.detach()
    square, size = (x - mean) ** 2, (x - mean).abs()
    expect_close(
        answer(x, x.clone(), std) - answer(x, mean, std),
        (square / (2 * std**2)).sum(FRAME),
        "compare a perfect reconstruction with this one: what does an error of 1 at one pixel cost?",
        mistakes={
            "an average over pixels: this frame's likelihood is scaled down by its number of pixels": (
                square / (2 * std**2)
            ).mean(FRAME),
            "the 1/2 is missing": (square / std**2).sum(FRAME),
            "divided by std, and the density holds std²": (square / (2 * std)).sum(FRAME),
            "std is ignored in the error: it sets what an error costs": (square / 2).sum(FRAME),
            "only the squared error: what does std do to it?": square.sum(FRAME),
            "the sign is turned around: a larger error should be less likely": -(square / (2 * std**2)).sum(FRAME),
            "the error is not squared": (size / (2 * std**2)).sum(FRAME),
            "the sum is squared, not each error": (x - mean).sum(FRAME) ** 2 / (2 * std**2),
        },
    )


@gaussian_log_likelihood.case("axes before the frame are kept")
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = _frames_mean_std(draw, 3, 6)
    per_pixel = -((x - mean) ** 2) / (2 * std**2) - math.log(std) - LOG_2PI / 2
    expect_close(answer(x, mean, std), per_pixel.sum(FRAME), OWN_FRAME)


@gaussian_log_likelihood.case("gradients reach the reconstruction")
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = _frames_mean_std(draw)
    got = gradients(answer(x, mean, std), {"mean": mean})["mean"]
    expect_close(got, (x - mean.detach()) / std**2, "the gradient should pull mean towards x with strength 1 / std²")


@gaussian_log_likelihood.case("is a density: over all x it integrates to 1", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    grid = torch.linspace(-9, 9, 6001)[:, None, None, None]
    for std in (0.05, 0.9, 1.7):
        total = answer(grid, torch.zeros_like(grid), std).double().exp().sum() * 18 / 6000
        likely = "the density of one pixel does not integrate to 1: is the number of pixels fixed?"
        expect((total - 1).abs() < 1e-3, likely, f"{total:.4g} at {std=}")


@gaussian_log_likelihood.case("works in float64", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    x, mean, std = _frames_mean_std(draw, 2)
    x, mean = 1e5 + x.double(), 1e5 + mean.detach().double()  # far out, where float32 has no digits left
    wanted = (-((x - mean) ** 2) / (2 * std**2) - math.log(std) - LOG_2PI / 2).sum(FRAME)
    expect_close(answer(x, mean, std), wanted, "something is rounded to float32 on the way", tolerance=1e-6)


def _model(draw: Draw, latents: int = 2, size: int = 5, batch: int = 4) -> tuple[Tensor, Tensor, Tensor, float]:
    std = 0.4 + 0.3 * draw.uniform().item()
    return draw.normal(batch, size, std=2.0), draw.normal(size, latents), draw.normal(size), std


def _posterior(x: Tensor, weight: Tensor, bias: Tensor, noise_std: float) -> tuple[Tensor, Tensor]:
    """By conditioning the joint Gaussian of z and x, another way than the reference's."""
    dtype = x.dtype
    x, weight, bias = x.double(), weight.double(), bias.double()
    spread = weight @ weight.T + noise_std**2 * torch.eye(len(weight), dtype=x.dtype, device=x.device)
    gain = torch.linalg.solve(spread, weight).T
    eye = torch.eye(weight.shape[1], dtype=x.dtype, device=x.device)
    return ((x - bias) @ gain.T).to(dtype), (eye - gain @ weight).to(dtype)


linear_gaussian_posterior = Exercise(
    reference=reference.linear_gaussian_posterior,
    lesson=LESSON,
    points=3,
    minutes=15,
    difficulty=4,
    hints=(
        "log p(z | x) is log p(z) + log p(x | z) up to a constant: a quadratic in z. Collect z² terms, then z terms.",
        "The matrix of the z² terms is the precision, the inverse of the covariance: one part from the prior, one from "
        "the data. The mean is covariance times what stands with z once.",
        "precision: identity + weightᵀ weight / noise_std². The data pulls with weightᵀ (x - bias) / noise_std²: "
        "rows of x are samples, so mind the side from which you multiply.",
    ),
    example=_model,
)


@linear_gaussian_posterior.case("in one dimension, the covariance")
def _(answer: Callable, draw: Draw) -> None:
    x, w, b = draw.normal(3, 1), draw.uniform(1, 1, low=0.8, high=1.6), draw.normal(1)
    s = 0.5 + 0.3 * draw.uniform().item()
    expect_close(
        answer(x, w, b, s)[1],
        1 / (1 + w**2 / s**2),
        "with one latent and one pixel it is 1 / (1 + weight² / noise_std²)",
        mistakes={
            "this is the precision: the covariance is its inverse": 1 + w**2 / s**2,
            "the prior is missing: N(0, I) adds 1 to the precision": s**2 / w**2,
            "noise_std stands where its square belongs": 1 / (1 + w**2 / s),
            "the noise is ignored: a noisy pixel says less of z": 1 / (1 + w**2),
            "the standard deviation: the covariance is its square": (1 / (1 + w**2 / s**2)).sqrt(),
            "the noise multiplies where it should divide": 1 / (1 + w**2 * s**2),
            "the weight enters once: it is squared in the exponent": 1 / (1 + w / s**2),
            "this is the covariance of x, not of z": w**2 + s**2,
        },
    )


@linear_gaussian_posterior.case("in one dimension, the mean")
def _(answer: Callable, draw: Draw) -> None:
    x, w, b = draw.normal(3, 1, std=2.0), draw.uniform(1, 1, low=0.8, high=1.6), draw.normal(1, mean=1.5)
    s = 0.5 + 0.3 * draw.uniform().item()
    precision = 1 + w**2 / s**2
    right = w * (x - b) / s**2 / precision
    expect_close(
        answer(x, w, b, s)[0],
        right,
        "with one latent and one pixel it is covariance times weight (x - bias) / noise_std²",
        mistakes={
            "the bias is not subtracted: what does x look like at z = 0?": w * x / s**2 / precision,
            "the bias is added: what does x look like at z = 0?": w * (x + b) / s**2 / precision,
            "this is least squares: the prior pulls the mean towards 0": (x - b) / w,
            "noise_std² is missing: what does the data pull with?": w * (x - b) / precision,
            "divided by noise_std once": w * (x - b) / s / precision,
            "not multiplied by the covariance": w * (x - b) / s**2,
            "multiplied by the precision, not by the covariance": w * (x - b) / s**2 * precision,
            "the weight is missing: how does x turn into a statement on z?": (x - b) / s**2 / precision,
            "this is the decoder's mean, of x given z": w * x + b,
            "the sign is turned around: x - bias, not bias - x": -right,
            "every sample gets the first one's mean": right[:1].expand(3, 1),
        },
    )


@linear_gaussian_posterior.case("many pixels, several latents")
def _(answer: Callable, draw: Draw) -> None:
    x, weight, bias, std = _model(draw)
    mean, covariance = answer(x, weight, bias, std)
    wanted = _posterior(x, weight, bias, std)
    gram = weight.T @ weight / std**2
    diagonal = torch.diag_embed(1 / (1 + gram.diagonal()))
    expect_close(
        covariance,
        wanted[1],
        "right in one dimension, wrong in several: which product of weight with itself is (Z, Z), and which inverse?",
        mistakes={
            "latents that share pixels are correlated: the off-diagonal entries are missing": diagonal,
            "the diagonal alone: latents that share pixels are correlated": torch.diag(wanted[1].diagonal()),
            "inverted entry by entry: a matrix needs torch.linalg.inv or solve": 1 / (torch.eye(2) + gram),
            "1 is added to every entry: the prior's precision is the identity matrix": torch.linalg.inv(1 + gram),
        },
    )
    expect_close(mean, wanted[0], "the covariance is right, the mean is not: in which order are the products taken?")


@linear_gaussian_posterior.case("noise so loud that the prior is all that is left", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    x, weight, bias, _ = _model(draw, latents=3, size=4)
    mean, covariance = answer(x, weight, bias, 1e3)
    expect_close(mean, torch.zeros(4, 3), "a frame that says nothing should leave the mean at 0", tolerance=1e-3)
    expect_close(covariance, torch.eye(3), "a frame that says nothing should leave the prior", tolerance=1e-3)


@linear_gaussian_posterior.case("more latents than pixels, one sample, float64", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for latents, size, batch in ((5, 3, 2), (4, 7, 1), (1, 6, 3)):
        x, weight, bias, std = _model(draw, latents, size, batch)
        args = x.double(), weight.double(), bias.double(), std
        for value, wanted in zip(answer(*args), _posterior(*args), strict=True):
            expect_close(value, wanted, f"off for {latents} latents and {size} pixels", tolerance=1e-8)


def _frames_logits(draw: Draw, *lead: int) -> tuple[Tensor, Tensor]:
    shape = (*(lead or (5,)), 2, 3, 4)
    return draw.uniform(*shape), draw.normal(*shape, std=2.0, grad=True)


def _bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """Per pixel."""
    return x * logits - logits.clamp(min=0) - (-logits.abs()).exp().log1p()


bernoulli_log_likelihood = Exercise(
    reference=reference.bernoulli_log_likelihood,
    lesson=LESSON,
    points=2,
    minutes=10,
    difficulty=3,
    hints=(
        "A pixel is on with probability p = sigmoid(logit). Its log-likelihood has a part for x and one for 1 - x.",
        "log sigmoid(l) and log(1 - sigmoid(l)) both overflow when taken in two steps. torch has a function that takes "
        "both steps at once, and 1 - sigmoid(l) is sigmoid(-l).",
        "Look at torch.nn.functional: logsigmoid, softplus, or binary_cross_entropy_with_logits (a loss: mind its sign "
        "and its reduction). Then sum over the last three axes.",
    ),
    example=_frames_logits,
)


@bernoulli_log_likelihood.case("at logits of 0 every pixel costs log 2, and pixels add up")
def _(answer: Callable, draw: Draw) -> None:
    x, logits = _frames_logits(draw)
    one, cost = torch.ones(5), math.log(2.0)
    expect_close(
        answer(x, torch.zeros_like(logits)),
        -24 * cost * one,
        "sigmoid(0) is 1/2, so that each of the 24 pixels has a log-likelihood of -log 2, black or white or gray",
        mistakes={
            "an average over pixels: this frame's likelihood is scaled down by its number of pixels": -cost * one,
            "this is the loss: a log-likelihood of pixels that are on or off is at most 0": 24 * cost * one,
            "this is the loss, averaged over pixels": cost * one,
            "only x log p: white pixels have a likelihood, too": -cost * x.sum(FRAME),
            "only (1 - x) log(1 - p): inked pixels have a likelihood, too": -cost * (1 - x).sum(FRAME),
            "logarithms of base 2 give bits, and nats are asked for": -24 * one,
            "this is nearly 0: is it the likelihood itself, and not its logarithm?": 0.5**24 * one,
            "the sigmoid is taken twice: the loss with logits takes its own": _bernoulli(
                x, one.view(5, 1, 1, 1) / 2
            ).sum(FRAME),
            "x and the logits have changed places: the frame comes first": _bernoulli(0 * x, x).sum(FRAME),
        },
    )


@bernoulli_log_likelihood.case("ink and paper both count, gray as a share of each")
def _(answer: Callable, draw: Draw) -> None:
    x, logits = _frames_logits(draw)
    logits = logits.detach()
    p = logits.sigmoid()
    expect_close(
        answer(x, logits),
        _bernoulli(x, logits).sum(FRAME),
        "each pixel should give x log p + (1 - x) log(1 - p) with p = sigmoid(logit)",
        mistakes={
            "x and 1 - x have changed places": _bernoulli(1 - x, logits).sum(FRAME),
            "the sign of the logits is turned around in one half": (
                x * torch.nn.functional.logsigmoid(logits) + (1 - x) * torch.nn.functional.logsigmoid(logits)
            ).sum(FRAME),
            "gray pixels are rounded to black or white": _bernoulli(x.round(), logits).sum(FRAME),
            "the sigmoid is taken twice: what comes in are logits, and the loss with logits takes its own": _bernoulli(
                x, p
            ).sum(FRAME),
            "this is a squared error: what does a Bernoulli pixel cost?": -((x - p) ** 2).sum(FRAME),
            "this is half a squared error: what does a Bernoulli pixel cost?": -0.5 * ((x - p) ** 2).sum(FRAME),
            "log of (x p + (1 - x)(1 - p)): the logarithm comes before the shares": (x * p + (1 - x) * (1 - p))
            .log()
            .sum(FRAME),
        },
    )


@bernoulli_log_likelihood.case("logits of plus and minus 200 are no problem")
def _(answer: Callable, draw: Draw) -> None:
    x, logits = draw.uniform(3, 2, 4, 5, low=0.2, high=0.8), 200 * draw.flags(3, 2, 4, 5).float() - 100
    p = logits.sigmoid()
    for scale in (1.0, 2.0, 100.0):
        clamped = {
            f"log(p + {eps:g}) or a clamp hides what a wrong, certain pixel costs: stay with the logits": (
                x * (p + eps).log() + (1 - x) * (1 - p + eps).log()
            ).sum(FRAME)
            for eps in (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
        }
        expect_close(
            answer(x, scale * logits),
            _bernoulli(x, scale * logits).sum(FRAME),
            "for large logits a wrong pixel should cost |logit| nats: is log(sigmoid) taken in two steps, or a "
            "probability clamped?",
            tolerance=1e-5,
            mistakes=clamped,
        )


@bernoulli_log_likelihood.case("axes before the frame are kept")
def _(answer: Callable, draw: Draw) -> None:
    x, logits = _frames_logits(draw, 3, 6)
    expect_close(answer(x, logits), _bernoulli(x, logits).sum(FRAME), OWN_FRAME)


@bernoulli_log_likelihood.case("gradients reach the logits")
def _(answer: Callable, draw: Draw) -> None:
    x, logits = _frames_logits(draw)
    got = gradients(answer(x, logits), {"logits": logits})["logits"]
    expect_close(got, x - logits.detach().sigmoid(), "the gradient should be x - sigmoid(logits)")


@bernoulli_log_likelihood.case("the likelihoods of all black and white pictures sum to 1", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    pictures = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6))).view(-1, 1, 2, 3)
    total = answer(pictures, draw.normal(1, 2, 3).expand(64, 1, 2, 3)).exp().sum()
    expect((total - 1).abs() < 1e-3, "all pictures together should have probability 1", f"{total:.4f}")


negative_elbo = Exercise(
    reference=reference.negative_elbo,
    lesson=LESSON,
    points=1,
    minutes=5,
    difficulty=1,
    hints=(
        "The ELBO is to be as large as possible. A loss is to be as small as possible.",
        "The ELBO is the log-likelihood less the KL; beta is the price of the KL and of nothing else.",
        "Work out one number per frame, then take one average over the batch.",
    ),
    example=lambda draw: (
        draw.normal(7, mean=-40.0, std=9.0, grad=True),
        draw.uniform(7, low=1.0, high=6.0, grad=True),
        0.5 + 3 * draw.uniform().item(),
    ),
)


def _terms(draw: Draw) -> tuple[Tensor, Tensor]:
    return draw.normal(7, mean=-40.0, std=9.0), draw.uniform(7, low=1.0, high=6.0)


@negative_elbo.case("with beta = 0 only the reconstruction is left, averaged over the batch")
def _(answer: Callable, draw: Draw) -> None:
    log_likelihood, kl = _terms(draw)
    expect_close(
        answer(log_likelihood, kl, 0.0),
        -log_likelihood.mean(),
        "with beta = 0 the loss should be minus the average log-likelihood",
        mistakes={
            "a sum over the batch: the learning rate would depend on the batch size": -log_likelihood.sum(),
            "this is to be maximized, and an optimizer minimizes": log_likelihood.mean(),
            "this is to be maximized, and it is a sum over the batch": log_likelihood.sum(),
            "beta is ignored: it is the price of the KL": (kl - log_likelihood).mean(),
            "beta sits on the likelihood: it is the price of the KL": kl.mean(),
            "beta multiplies both terms: it is the price of the KL": torch.tensor(0.0),
            "the KL is weighed with 1 - beta": (kl - log_likelihood).mean(),
        },
    )


@negative_elbo.case("beta is the price of a nat of KL")
def _(answer: Callable, draw: Draw) -> None:
    log_likelihood, kl = _terms(draw)
    beta = 2.5
    expect_close(
        answer(log_likelihood, kl, beta),
        (beta * kl - log_likelihood).mean(),
        "each nat of KL should add beta to the loss",
        mistakes={
            "the KL is rewarded: it should cost": (-beta * kl - log_likelihood).mean(),
            "beta is ignored, or cut off at 1": (kl - log_likelihood).mean(),
            "the KL is ignored": -log_likelihood.mean(),
            "the KL is summed over the batch while the likelihood is averaged": beta * kl.sum() - log_likelihood.mean(),
            "beta divides the KL": (kl / beta - log_likelihood).mean(),
            "beta is squared": (beta**2 * kl - log_likelihood).mean(),
        },
    )


@negative_elbo.case("gradients reach both terms")
def _(answer: Callable, draw: Draw) -> None:
    log_likelihood, kl = (x.requires_grad_() for x in _terms(draw))
    got = gradients(answer(log_likelihood, kl, 1.7), {"log_likelihood": log_likelihood, "kl": kl})
    expect_close(got["log_likelihood"], torch.full((7,), -1 / 7), "a nat of likelihood should lower the loss by 1 / B")
    expect_close(got["kl"], torch.full((7,), 1.7 / 7), "a nat of KL should raise the loss by beta / B")


@negative_elbo.case("any batch size, positive log-likelihoods, float64", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for batch in (1, 64):
        log_likelihood, kl = -30 - draw.uniform(batch).double(), 5 * draw.uniform(batch).double()
        likely = f"off for a batch of {batch}: is the number of frames fixed?"
        expect_close(answer(log_likelihood, kl, 1.0), (kl - log_likelihood).mean(), likely, tolerance=1e-9)
        likely = "off where log-likelihoods are above 0, as those of densities may be"
        expect_close(answer(-log_likelihood, kl, 1.0), (kl + log_likelihood).mean(), likely, tolerance=1e-9)


def _kls(draw: Draw) -> Tensor:
    """(8, 4): the averages of two dimensions are below 1, of two above; two have samples on both sides of it."""
    share = torch.cat([draw.uniform(4, 4, low=0.15, high=0.6), draw.uniform(4, 4, low=1.4, high=1.8)])
    return torch.tensor([0.75, 1.6, 0.1, 6.0]) * share


free_nats = Exercise(
    reference=reference.free_nats,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=3,
    hints=(
        "Three steps, and their order is the exercise: average, floor, sum.",
        "First average every latent dimension over all axes before the last; then no dimension counts less than free.",
        "After the average you hold (Z,) numbers. The larger of each and free, then the sum of the Z results.",
    ),
    example=lambda draw: (_kls(draw).requires_grad_(), 0.7 + 0.5 * draw.uniform().item()),
)


@free_nats.case("above the floor nothing changes")
def _(answer: Callable, draw: Draw) -> None:
    kl = draw.uniform(6, 4, low=2.0, high=5.0)
    free = 0.5
    expect_close(
        answer(kl, free),
        kl.mean(0).sum(),
        "when every dimension is above the floor, this is the KL summed over dimensions and averaged over the batch",
        mistakes={
            "the free nats are subtracted: here they are a floor": (kl - free).mean(0).sum(),
            "the free nats are subtracted once": kl.mean(0).sum() - free,
            "an average over dimensions: nats of independent dimensions add up": kl.mean(),
            "a sum over the batch": kl.sum(),
            "a ceiling, not a floor: information beyond free is not charged": torch.tensor(4 * free),
            "one ceiling for the sum: is free a floor or a ceiling?": torch.tensor(free),
            "the axes have changed places: (B, Z), and Z is the last": kl.sum(0).mean(),
            "dimensions above the floor are dropped": torch.tensor(0.0),
        },
    )


@free_nats.case("below the floor every dimension counts as free")
def _(answer: Callable, draw: Draw) -> None:
    kl, free = draw.uniform(6, 4, low=0.01, high=0.15), 0.9
    expect_close(
        answer(kl, free),
        torch.tensor(4 * free),
        "when every dimension is below the floor, each of the 4 should count as free",
        mistakes={
            "one floor for the sum: here each dimension has its own": torch.tensor(free),
            "the floor has no effect: is it a maximum or a minimum?": kl.mean(0).sum(),
            "dimensions below the floor are set to 0, and the floor is free": torch.tensor(0.0),
            "one floor for the average of all dimensions": torch.tensor(free),
        },
    )


@free_nats.case("the average over the batch comes before the floor")
def _(answer: Callable, draw: Draw) -> None:
    kl = _kls(draw)
    expect_close(
        answer(kl, 1.0),
        kl.mean(0).clamp(min=1.0).sum(),
        "average over the batch, then the floor for each dimension, then the sum",
        mistakes={
            "each sample has its own floor: average over the batch first": kl.clamp(min=1.0).mean(0).sum(),
            "one floor for each sample's sum: each dimension has its own": kl.sum(-1).clamp(min=1.0).mean(),
            "one floor for the sum: each dimension has its own": kl.mean(0).sum().clamp(min=1.0),
            "the floor is under the averages over dimensions: which axis is the batch?": kl.mean(-1)
            .clamp(min=1.0)
            .sum(),
        },
    )


@free_nats.case("no gradient below the floor, the usual one above")
def _(answer: Callable, draw: Draw) -> None:
    kl = _kls(draw).requires_grad_()
    got = gradients(answer(kl, 1.0), {"kl": kl})["kl"]
    wanted = torch.tensor([0.0, 1 / 8, 0.0, 1 / 8]).expand(8, 4)
    expect_close(
        got,
        wanted,
        "a dimension below the floor should not be pushed, one above it should feel 1 / B per sample",
        mistakes={
            "dimensions below the floor are still pushed to 0: the floor is only in the value": wanted * 0 + 1 / 8
        },
    )


@free_nats.case("sequences (B, T, Z), and a floor of 0", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    kl = torch.stack([_kls(draw), 3 * _kls(draw), _kls(draw)], 1)
    for free in (0.0, 1.0, 2.5):
        wanted = kl.mean((0, 1)).clamp(min=free).sum()
        expect_close(answer(kl, free), wanted, f"average over all axes but the last, also for {tuple(kl.shape)}")
