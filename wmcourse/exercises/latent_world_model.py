"""Lesson 05's exercises: the reward and the dynamics term, the four-term loss, and a world model that can dream."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wmcourse import latent_world_model as reference
from wmcourse.grading.exercise import Draw, Exercise
from wmcourse.grading.expect import describe, expect, expect_close, gradients

LESSON = "05_latent_world_model"
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def _reward_model(draw: Draw, latents: int = 3, actions: int = 2) -> Callable[[Tensor, Tensor], Tensor]:
    """A mean reward that needs both z and action, (..., Z) and (..., A) to (...)."""
    of_z, of_action, of_both = draw.normal(latents), draw.normal(actions), draw.normal(latents, actions)
    return lambda z, action: z @ of_z + action @ of_action + ((z @ of_both) * action).sum(-1)


def _reward_inputs(draw: Draw) -> tuple:
    z, action = draw.normal(4, 6, 3, grad=True), draw.normal(4, 6, 2)
    return _reward_model(draw), z, action, draw.normal(4, 6, std=2.0), round(float(draw.uniform(low=0.3, high=0.8)), 2)


reward_term = Exercise(
    reference=reference.reward_term,
    lesson=LESSON,
    points=2,
    minutes=10,
    difficulty=2,
    hints=(
        "Which rows of a window have a whole step inside it, and which latent and action belong to that step's reward?",
        "Leave the last row out of z, action and reward alike. Then it is log N(reward; mean, std²) of single numbers: "
        "there is nothing to sum over.",
        "Three parts: the squared error over 2 std², log std, and half of log 2 pi. All three count against you.",
    ),
    example=_reward_inputs,
)


@reward_term.case("a reward that is foretold exactly leaves the normalizer")
def _(answer: Callable, draw: Draw) -> None:
    predict, z, action, _, std = _reward_inputs(draw)
    z = z.detach()
    ones = torch.ones(4, 5)
    wanted = ones * (-math.log(std) - HALF_LOG_TAU)
    expect_close(
        answer(predict, z, action, predict(z, action), std),
        wanted,
        "each reward equals predict_reward(z[:, t], action[:, t]) here, so only -log std - log(2 pi) / 2 should be "
        "left: do all your rows belong to the same t?",
        mistakes={
            "the normalizer is missing: a density with a small std is higher": 0 * ones,
            "log std is missing": -HALF_LOG_TAU * ones,
            "log(2 pi) / 2 is missing": -math.log(std) * ones,
            "the sign is turned around: this is the negative log-probability": -wanted,
            "log(2 pi) counts half: log sqrt(2 pi)": ones * (-math.log(std) - 2 * HALF_LOG_TAU),
            "std is taken for a variance": ones * (-0.5 * math.log(std) - HALF_LOG_TAU),
            "the logarithm of the variance: half of it is log std": ones * (-2 * math.log(std) - HALF_LOG_TAU),
            "the sign of log std is turned around": ones * (math.log(std) - HALF_LOG_TAU),
        },
    )


@reward_term.case("reward[:, t] is judged by z[:, t] and action[:, t]")
def _(answer: Callable, draw: Draw) -> None:
    predict, z, action, reward, std = _reward_inputs(draw)
    z = z.detach()

    def by(z: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        return -0.5 * ((reward - predict(z, action)) / std).square() - math.log(std) - HALF_LOG_TAU

    now, after = slice(None, -1), slice(1, None)
    right = by(z[:, now], action[:, now], reward[:, now])
    error = reward[:, now] - predict(z[:, now], action[:, now])
    rest = -math.log(std) - HALF_LOG_TAU
    expect_close(
        answer(predict, z, action, reward, std),
        right,
        "row t should hold log N(reward[:, t]; predict_reward(z[:, t], action[:, t]), std²): compute one by hand",
        mistakes={
            "the latent after the step: the reward belongs to z[:, t], where the action was taken": by(
                z[:, after], action[:, now], reward[:, now]
            ),
            "the action of the next row: action[:, t] earns reward[:, t]": by(
                z[:, now], action[:, after], reward[:, now]
            ),
            "the reward of the next row: reward[:, t] comes back with obs[:, t + 1]": by(
                z[:, now], action[:, now], reward[:, after]
            ),
            "the first row is left out instead of the last: the last row's step is not in the window": by(
                z[:, after], action[:, after], reward[:, after]
            ),
            "the error is not squared": -0.5 * error.abs() / std + rest,
            "the square is not halved": -(error / std).square() + rest,
            "the squared error is divided by std once: the density has the variance there": -0.5 * error**2 / std
            + rest,
            "the squared error is not divided by the variance": -0.5 * error**2 + rest,
            "the sign of the error's part is turned around": 0.5 * (error / std).square() + rest,
            "one average for all steps: a number per step is wanted": right.mean().expand(4, 5),
        },
    )


@reward_term.case("gradients reach the latent", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    predict, z, action, reward, std = _reward_inputs(draw)
    grad = gradients(answer(predict, z, action, reward, std), {"z": z})["z"]
    mean = predict(z[:, :-1], action[:, :-1])
    log_prob = -0.5 * ((reward[:, :-1] - mean) / std).square()
    expect_close(grad, torch.autograd.grad(log_prob.sum(), z)[0], "the gradient is not the log-probability's own")


@reward_term.case("works for one window, for two rows, and for as many windows as steps", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for batch, rows in [(1, 5), (3, 2), (4, 5)]:
        predict, std = _reward_model(draw), 0.7
        z, action, reward = draw.normal(batch, rows, 3), draw.normal(batch, rows, 2), draw.normal(batch, rows)
        reward[:, 0] = 0.0  # a reward of 0 is a reward
        error = (reward - predict(z, action))[:, :-1]
        wanted = -0.5 * (error / std).square() - math.log(std) - HALF_LOG_TAU
        expect_close(answer(predict, z, action, reward, std), wanted, f"wrong for {batch} windows of {rows} rows")


Dynamics = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _latent_dynamics(draw: Draw, latents: int = 3, actions: int = 2) -> Dynamics:
    """A Gaussian whose mean and log_var need both z and action."""
    of_z, of_action = draw.normal(latents, latents), draw.normal(actions, latents)
    spread, spread_of_action = draw.normal(latents, latents, std=0.3), draw.normal(actions, latents, std=0.3)

    def predict(z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(z @ of_z + action @ of_action), torch.tanh(z @ spread + action @ spread_of_action) - 0.5

    return predict


def _dynamics_inputs(draw: Draw) -> tuple:
    return _latent_dynamics(draw), draw.normal(4, 6, 3, grad=True), draw.normal(4, 6, 2)


def _log_density(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return -0.5 * ((x - mean) / std).square() - std.log() - HALF_LOG_TAU


dynamics_term = Exercise(
    reference=reference.dynamics_term,
    lesson=LESSON,
    points=3,
    minutes=12,
    difficulty=3,
    hints=(
        "The latent itself is the target now. Which row of z is the question, and which row is the answer?",
        "Ask predict_next with all rows but the last, compare with all rows but the first. Turn log_var into what your "
        "density takes.",
        "std = exp(log_var / 2). Take the log-density of each latent number and sum over the last axis, nothing else.",
    ),
    example=_dynamics_inputs,
)


@dynamics_term.case("a window that obeys the mean, at log_var 0, leaves the normalizer")
def _(answer: Callable, draw: Draw) -> None:
    weight, push = draw.normal(3, 3, std=0.5), draw.normal(2, 3)
    action, rows = draw.normal(4, 6, 2), [draw.normal(4, 3)]
    for t in range(5):
        rows.append(rows[t] @ weight + action[:, t] @ push)
    z = torch.stack(rows, 1)

    def obeyed(z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        mean = z @ weight + action @ push
        return mean, torch.zeros_like(mean)

    ones = torch.ones(4, 5)
    expect_close(
        answer(obeyed, z, action),
        -3 * HALF_LOG_TAU * ones,
        "here z[:, t + 1] is exactly what predict_next says of z[:, t] and action[:, t]: which rows do you compare?",
        mistakes={
            "the normalizer is missing": 0 * ones,
            "averaged over the latent dimensions (their log-probabilities add), or is the constant counted once "
            "instead of Z times?": -HALF_LOG_TAU * ones,
            "the sign is turned around: this is the negative log-probability": 3 * HALF_LOG_TAU * ones,
        },
    )


@dynamics_term.case("z[:, t + 1] is judged by what z[:, t] and action[:, t] foretell")
def _(answer: Callable, draw: Draw) -> None:
    predict, z, action = _dynamics_inputs(draw)
    z = z.detach()
    now, after = slice(None, -1), slice(1, None)

    def by(asked: slice, pushed: slice, target: slice, power: float = 0.5) -> Tensor:
        mean, log_var = predict(z[:, asked], action[:, pushed])
        return _log_density(z[:, target], mean, (power * log_var).exp()).sum(-1)

    mean, log_var = predict(z[:, now], action[:, now])
    error = (z[:, after] - mean).square()
    right = by(now, now, after)
    expect_close(
        answer(predict, z, action),
        right,
        "row t should hold log N(z[:, t + 1]; mean, var) with mean and log_var from z[:, t] and action[:, t]",
        mistakes={
            "the target is the latent that was asked about: z[:, t] should foretell z[:, t + 1]": by(now, now, now),
            "the action of the next row: action[:, t] leads from z[:, t] to z[:, t + 1]": by(now, after, after),
            "time runs backwards: z[:, t + 1] is asked about z[:, t]": by(after, now, now),
            "the next latent is asked about itself": by(after, after, after),
            "exp(log_var) is the variance, and it is used as a standard deviation": by(now, now, after, 1.0),
            "log_var is taken for log std squared twice: which power of exp(log_var) is the std?": by(
                now, now, after, 0.25
            ),
            "log_var is not used: the spread is the model's own": by(now, now, after, 0.0),
            "the sign of log_var is turned around": by(now, now, after, -0.5),
            "averaged over the latent dimensions: their log-probabilities add": right / 3,
            "the sign is turned around: this is the negative log-probability": -right,
            "log std is missing": (-0.5 * error / log_var.exp() - HALF_LOG_TAU).sum(-1),
            "log(2 pi) is missing": (-0.5 * error / log_var.exp() - 0.5 * log_var).sum(-1),
            "the constant is counted once instead of Z times": right + 2 * HALF_LOG_TAU,
            "log_var counts half in the normalizer: log std is log_var / 2": (
                -0.5 * error / log_var.exp() - log_var - HALF_LOG_TAU
            ).sum(-1),
            "the square is not halved": (-error / log_var.exp() - 0.5 * log_var - HALF_LOG_TAU).sum(-1),
        },
    )


@dynamics_term.case("gradients reach both ends of a step")
def _(answer: Callable, draw: Draw) -> None:
    predict, z, action = _dynamics_inputs(draw)
    grad = gradients(answer(predict, z, action), {"z": z})["z"]
    asked, target = z[:, :-1], z[:, 1:]

    def wanted(asked: Tensor, target: Tensor) -> Tensor:
        mean, log_var = predict(asked, action[:, :-1])
        value = _log_density(target, mean, (0.5 * log_var).exp()).sum()
        return torch.autograd.grad(value, z, retain_graph=True)[0]

    expect_close(
        grad,
        wanted(asked, target),
        "the gradient is not the log-probability's own: where is it cut?",
        mistakes={
            "no gradient reaches the next latent: is the target detached? E_q covers both draws": wanted(
                asked, target.detach()
            ),
            "no gradient reaches the latent that is asked about": wanted(asked.detach(), target),
        },
    )


@dynamics_term.case("works for one window, two rows, one latent, and as many windows as steps", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for batch, rows, latents in [(1, 5, 3), (3, 2, 4), (4, 5, 1), (5, 6, 5)]:
        predict = _latent_dynamics(draw, latents)
        z, action = draw.normal(batch, rows, latents), draw.normal(batch, rows, 2)
        mean, log_var = predict(z[:, :-1], action[:, :-1])
        wanted = _log_density(z[:, 1:], mean, (0.5 * log_var).exp()).sum(-1)
        likely = f"wrong for {batch} windows of {rows} rows and {latents} latents"
        expect_close(answer(predict, z, action), wanted, likely)


def _loss_inputs(draw: Draw) -> tuple:
    """Six windows of five rows; three of them run over the end of an episode."""
    first = torch.zeros(6, 5, dtype=torch.bool, device=draw.device)
    first[0, 0] = first[1, 2] = first[2, 4] = first[3, 0] = first[3, 3] = True
    terms = draw.normal(6, 5, mean=-20.0, std=5.0, grad=True), draw.uniform(6, 5, low=1.0, high=9.0, grad=True)
    steps = draw.normal(6, 4, mean=-3.0, std=2.0, grad=True), draw.normal(6, 4, mean=2.0, std=3.0, grad=True)
    # Times 1: no leaves, so that a term edited in place is named as that, not as torch's own error.
    return *(1 * x for x in (*terms, *steps)), first, round(float(draw.uniform(low=1.5, high=3.0)), 2)


world_model_loss = Exercise(
    reference=reference.world_model_loss,
    lesson=LESSON,
    points=3,
    minutes=12,
    difficulty=3,
    hints=(
        "Three terms are log-probabilities, to be large; one is a price, to be small. And the optimizer goes down.",
        "A frame is a frame, wherever it stands: average those two terms over all rows. A step from row t to t + 1 "
        "happened unless row t + 1 begins an episode: average those two over the steps that happened.",
        "first[:, 1:] says which steps did not happen. Select the others (a mask times nan is still nan), and divide "
        "by how many there are, at least 1.",
    ),
    example=_loss_inputs,
)


def _assembled(inputs: tuple, signs: tuple = (-1, 1, -1, -1), prices: tuple = (1, None, 1, 1)) -> Tensor:
    """The loss with other signs, or with beta (None) at other places."""
    *terms, first, beta = inputs
    happened = ~first[:, 1:]
    means = [terms[0].mean(), terms[1].mean(), terms[2][happened].mean(), terms[3][happened].mean()]
    weights = [sign * (beta if price is None else price) for sign, price in zip(signs, prices, strict=True)]
    return sum((weight * mean for weight, mean in zip(weights, means, strict=True)), torch.zeros(()))


@world_model_loss.case("each term has its sign and its price")
def _(answer: Callable, draw: Draw) -> None:
    inputs = tuple(x.detach() if isinstance(x, Tensor) else x for x in _loss_inputs(draw))
    inputs = (*inputs[:4], torch.zeros(6, 5, dtype=torch.bool), inputs[5])
    reconstruction, kl, reward, dynamics, _, beta = inputs
    expect_close(
        answer(*inputs),
        _assembled(inputs),
        "every step happened here: the loss should be minus (reconstruction - beta KL + reward + dynamics), each "
        "averaged over all that it has",
        mistakes={
            "the sign is turned around: this is the objective, and an optimizer goes down": -_assembled(inputs),
            "the KL is rewarded: it is a price, and a high one should raise the loss": _assembled(
                inputs, (-1, -1, -1, -1)
            ),
            "the reconstruction raises the loss: a likely frame should lower it": _assembled(inputs, (1, 1, -1, -1)),
            "the reward term raises the loss: a likely reward should lower it": _assembled(inputs, (-1, 1, 1, -1)),
            "the dynamics term raises the loss: a likely next latent should lower it": _assembled(
                inputs, (-1, 1, -1, 1)
            ),
            "the two step terms raise the loss: a likely step should lower it": _assembled(inputs, (-1, 1, 1, 1)),
            "beta is not used": _assembled(inputs, prices=(1, 1, 1, 1)),
            "beta multiplies every term: it is the price of the KL alone": _assembled(inputs, prices=(None,) * 4),
            "beta multiplies the reconstruction: it is the price of the KL alone": _assembled(
                inputs, prices=(None, None, 1, 1)
            ),
            "beta multiplies the reconstruction instead of the KL": _assembled(inputs, prices=(None, 1, 1, 1)),
            "beta divides the KL": _assembled(inputs, prices=(1, 1 / beta, 1, 1)),
            "beta prices the dynamics, too: only the KL to N(0, I) has a price": _assembled(
                inputs, prices=(1, None, 1, None)
            ),
            "the dynamics term is missing": _assembled(inputs, (-1, 1, -1, 0)),
            "the reward term is missing": _assembled(inputs, (-1, 1, 0, -1)),
            "the KL is missing": _assembled(inputs, (-1, 0, -1, -1)),
            "the reconstruction is missing": _assembled(inputs, (0, 1, -1, -1)),
            "summed over a window's rows: the loss is an average over batch and time": (
                (beta * kl - reconstruction).sum(1).mean() - (reward + dynamics).sum(1).mean()
            ),
            "the two step terms are divided by the number of rows: how many steps are there?": (
                (beta * kl - reconstruction).mean() - (reward + dynamics).sum() / 30
            ),
        },
    )


@world_model_loss.case("a step over the end of an episode counts for nothing")
def _(answer: Callable, draw: Draw) -> None:
    inputs = tuple(x.detach() if isinstance(x, Tensor) else x for x in _loss_inputs(draw))
    reconstruction, kl, reward, dynamics, first, beta = inputs
    reward, dynamics = (torch.where(first[:, 1:], -50.0, x) for x in (reward, dynamics))  # leaps are unlikely
    reconstruction = torch.where(first, reconstruction - 30.0, reconstruction)
    inputs = reconstruction, kl, reward, dynamics, first, beta
    step, happened = reward + dynamics, ~first[:, 1:]
    frames = (beta * kl - reconstruction).mean()
    expect_close(
        answer(*inputs),
        _assembled(inputs),
        "a step from row t to t + 1 never happened where first[:, t + 1] is true: leave it out of the average",
        mistakes={
            "no step is left out: what leads from one episode's end into the next one's start?": frames - step.mean(),
            "first[:, t] marks the step from t: the step that never happened ends at a first row": frames
            - step[~first[:, :-1]].mean(),
            "the mask is turned around: only the steps that never happened are counted": frames
            - step[first[:, 1:]].mean(),
            "divided by all steps: the average is over those that happened": frames - (step * happened).sum() / 24,
            "divided by the number of rows: the average is over the steps that happened": frames
            - (step * happened).sum() / 30,
            "only the dynamics is masked: no reward was earned there, either": frames
            - reward.mean()
            - dynamics[happened].mean(),
            "only the reward is masked: no step led to that latent, either": frames
            - reward[happened].mean()
            - dynamics.mean(),
            "the frames are masked, too: the first frame of an episode is a frame like any other": (
                (beta * kl - reconstruction)[~first].mean() - step[happened].mean()
            ),
            "each window is averaged by itself: a window with few steps should count less": frames
            - ((step * happened).sum(1) / happened.sum(1)).mean(),
        },
    )


@world_model_loss.case("what stands at a step that never happened does not matter, nan included")
def _(answer: Callable, draw: Draw) -> None:
    inputs = _loss_inputs(draw)
    reconstruction, kl, reward, dynamics, first, beta = (x.detach() if isinstance(x, Tensor) else x for x in inputs)
    wanted = _assembled((reconstruction, kl, reward, dynamics, first, beta))
    for junk in (1e6, math.inf, math.nan):
        spoiled = [torch.where(first[:, 1:], junk, x).requires_grad_() for x in (reward, dynamics)]
        value = answer(reconstruction, kl, *spoiled, first, beta)
        likely = f"{junk} stands at the steps that never happened: 0 times nan is nan, so select instead of multiplying"
        expect(value.isfinite(), likely, f"{value.item()}")
        expect_close(value, wanted, likely)
        grads = torch.autograd.grad(value, spoiled)
        expect(all(g.isfinite().all() for g in grads), "the gradient is nan where no step happened", "nan")


@world_model_loss.case("a batch in which no step happened leaves the frames' part")
def _(answer: Callable, draw: Draw) -> None:
    reconstruction, kl, reward, dynamics, first, beta = _loss_inputs(draw)
    value = answer(reconstruction, kl, reward, dynamics, torch.ones_like(first), beta)
    likely = "an average over no step at all: 0 / 0? Divide by at least 1"
    expect(value.isfinite(), likely, f"{value.item()}")
    expect_close(value, (beta * kl - reconstruction).mean().detach(), likely)


@world_model_loss.case("gradients reach every term", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    inputs = _loss_inputs(draw)
    terms: dict[str, Tensor] = dict(zip(("reconstruction", "kl", "reward", "dynamics"), inputs[:4], strict=True))
    grads = gradients(answer(*inputs), terms)
    wanted = torch.autograd.grad(_assembled(inputs), list(terms.values()))
    for (name, grad), right in zip(grads.items(), wanted, strict=True):
        expect_close(100 * grad, 100 * right, f"the gradient of {name} is not what its share in the loss says")


OBS, ACTIONS, LATENTS, HIDDEN = 7, 2, 3, 16

WorldModel = Exercise(
    reference=reference.WorldModel,
    lesson=LESSON,
    points=6,
    minutes=30,
    difficulty=4,
    hints=(
        "Begin with encode, decode and reward: mlp(in, W, W, out) for the first two, mlp(Z + A, W, 1) for the reward. "
        "Then step: what must go into the cell, and which layer turns the cell's output into the next latent? Last, "
        "imagine: a loop that calls step and reward.",
        "nn.GRUCell takes one step of a batch, (B, inputs) and a state (B, hidden). step knows only z and the action, "
        "so it must make the cell's state itself, from z: a linear layer from Z to hidden, and tanh. Another linear "
        "layer leads from the cell's output to 2 Z: the change of z, and log_var.",
        "In imagine, for each k below horizon: the reward of z and actions[:, k] first, then z becomes the mean that "
        "step gives, and is kept. Stack both lists along axis 1. Clamp each log_var to -8 and 4.",
    ),
    example=lambda draw: (OBS, ACTIONS, LATENTS, HIDDEN),
)


def _gaussian_of(pair: Any, rows: int, latents: int, where: str) -> tuple[Tensor, Tensor]:
    """The two parts of a Gaussian, their shapes checked."""
    wanted = f"{where} should return two tensors, mean and log_var, of shape {(rows, latents)} each"
    expect(isinstance(pair, (tuple, list)) and len(pair) == 2, wanted, describe(pair))
    for part in pair:
        _shaped(part, (rows, latents), wanted)
    return pair[0], pair[1]


def _shaped(value: Any, shape: tuple[int, ...], likely: str) -> Tensor:
    expect(isinstance(value, Tensor) and tuple(value.shape) == shape, likely, describe(value))
    expect(value.dtype == torch.float32 and bool(value.isfinite().all()), f"{likely}, float32 and finite", "others")
    return value


def _rows_alone(function: Callable, rows: tuple[Tensor, ...], likely: str) -> None:
    """Each part of a function's result depends, row by row, on that row alone, and is the same every time."""
    whole = function(*rows)
    again, alone = function(*rows), function(*(x[2:3] for x in rows))
    some = function(*(x[[4, 2, 0]] for x in rows))
    parts = [whole, again, alone, some]
    if isinstance(whole, Tensor):
        parts = [(part,) for part in parts]
    for one, same, single, few in zip(*parts, strict=True):
        drawn = "the same input gives another result the second time: is a state kept, dropout on, or noise drawn?"
        expect_close(same, one, drawn)
        expect_close(single[0], one[2], likely)
        expect_close(few, one[[4, 2, 0]], likely)


def _loud(model: Any) -> Any:
    """The same model with every weight 30 times as large: what its layers can put out, whatever they began with."""
    model.load_state_dict({name: 30 * weight for name, weight in model.state_dict().items()})
    return model


SEQUENCE = (
    "a row gives another result when it stands alone: nn.GRU takes a 2-D input for ONE sequence, so your batch "
    "becomes time; nn.GRUCell takes one step of a batch"
)


@WorldModel.case("encode gives a mean and a log-variance, decode a picture")
def _(answer: Callable, draw: Draw) -> None:
    model = answer(OBS, ACTIONS, LATENTS, HIDDEN)
    obs = draw.normal(64, OBS, std=3.0)
    mean, log_var = _gaussian_of(model.encode(obs), 64, LATENTS, "encode(obs)")
    expect(not torch.allclose(mean, log_var), "mean and log_var are one and the same", "two equal tensors")
    for part, name in ((mean, "mean"), (log_var, "log_var")):
        expect(part.std(0).max() > 1e-5, f"{name} is the same for every observation", "no change over 64 rows")
        expect(part.requires_grad, f"encode's {name} carries no gradient: is it detached?", "no gradient")
    _rows_alone(model.encode, (obs,), "encode: a row gives another result when it stands alone: is a batch axis mixed?")
    picture = _shaped(model.decode(mean), (64, OBS), f"decode(z) should have shape {(64, OBS)}")
    expect(picture.std(0).max() > 1e-5, "decode gives the same picture for every z", "no change over 64 rows")
    gradients(picture, {"the encoder's mean": mean}, "decode cuts them: is something detached?")
    _rows_alone(model.decode, (mean,), "decode: a row gives another result when it stands alone")
    picture = _loud(model).decode(10 * mean.detach())
    likely = "decode should be able to draw any number: is its output squashed into [0, 1] or [-1, 1], or cut at 0?"
    came = f"from {picture.min().item():.3g} to {picture.max().item():.3g} with 30 times the weights"
    expect(bool((picture > 1.01).any() and (picture < -1.01).any()), likely, came)


@WorldModel.case("step gives the next latent's mean and log-variance, from z and the action, row by row")
def _(answer: Callable, draw: Draw) -> None:
    model = answer(OBS, ACTIONS, LATENTS, HIDDEN)
    z, action = draw.normal(9, LATENTS, grad=True), draw.normal(9, ACTIONS, grad=True)
    mean, log_var = _gaussian_of(model.step(z, action), 9, LATENTS, "step(z, action)")
    _rows_alone(model.step, (z, action), SEQUENCE)
    expect(not torch.allclose(mean, log_var), "mean and log_var are one and the same", "two equal tensors")
    for part, name in ((mean, "mean"), (log_var, "log_var")):
        likely = f"step's {name} is the same for every z and action: it should be made of both"
        expect(part.std(0).max() > 1e-6, likely, "no change over 9 rows")
    for i, name in enumerate(("mean", "log_var")):
        hint = f"does the action reach it, and does z, and is the {name} of step never detached?"
        grads = gradients(model.step(z, action)[i], {"z": z, "the action": action}, hint)
        for which, grad in grads.items():
            expect(grad.abs().max() > 1e-7, f"{which} does not move step's {name}: does it enter the cell?", "0")
    moved = _loud(model).step(draw.normal(64, LATENTS), draw.normal(64, ACTIONS))[0]
    likely = "step's mean never leaves [-1, 1], where a GRU's output lives, and a latent is not so tame: which layer "
    likely += "leads from the cell to the latent?"
    expect(bool((moved.abs() > 1.01).any()), likely, "nothing beyond 1 with 30 times the weights")


@WorldModel.case("every log_var is a logarithm, and stays within -8 and 4")
def _(answer: Callable, draw: Draw) -> None:
    model = _loud(answer(OBS, ACTIONS, LATENTS, HIDDEN))
    obs, z, action = draw.normal(64, OBS, std=9.0), draw.normal(64, LATENTS, std=9.0), draw.normal(64, ACTIONS, std=9.0)
    for log_var, name in ((model.encode(obs)[1], "encode"), (model.step(z, action)[1], "step")):
        low, high = log_var.min().item(), log_var.max().item()
        came = f"from {low:.3g} to {high:.3g} with 30 times the weights"
        likely = f"{name}'s log_var is never below 0: is it a std, or a variance? A logarithm may have either sign"
        expect(low < 0, likely, came)
        expect(low > -8.001 and high < 4.001, f"{name}'s log_var runs away: hold it between -8 and 4", came)
        likely = f"{name}'s log_var does not reach -8 or 4: which range is left to it?"
        expect(low < -4 and high > 0, likely, came)


@WorldModel.case("the reward is a number per row, made of z and the action")
def _(answer: Callable, draw: Draw) -> None:
    model = answer(OBS, ACTIONS, LATENTS, HIDDEN)
    z, action = draw.normal(9, LATENTS, grad=True), draw.normal(9, ACTIONS, grad=True)
    reward = _shaped(model.reward(z, action), (9,), "reward(z, action) should have shape (B,): is an axis of 1 left?")
    grads = gradients(reward, {"z": z, "the action": action}, "the reward belongs to the pair (z, a)")
    for which, grad in grads.items():
        expect(grad.abs().max() > 1e-7, f"{which} does not move the reward, which belongs to the pair (z, a)", "0")
    _rows_alone(model.reward, (z, action), "reward: a row gives another result when it stands alone")
    large = _loud(model).reward(draw.normal(64, LATENTS, std=9.0), draw.normal(64, ACTIONS, std=9.0)).abs().max()
    likely = "a reward may be any number: is it squashed into [0, 1] or [-1, 1]?"
    expect(large > 1.01, likely, f"{large.item():.3g} at most, with 30 times the weights")


@WorldModel.case("imagine dreams as many steps as asked, and no further")
def _(answer: Callable, draw: Draw) -> None:
    model = answer(OBS, ACTIONS, LATENTS, HIDDEN)
    z, actions = draw.normal(5, LATENTS), draw.normal(5, 8, ACTIONS)
    before = z.clone(), actions.clone()
    full = model.imagine(z, actions, 8)
    edited = "imagine changes its inputs in place: z = ... makes a new tensor, z += ... does not"
    expect(torch.equal(z, before[0]) and torch.equal(actions, before[1]), edited, "z or actions changed")
    wanted = "imagine should return the latents (B, H, Z) and the rewards (B, H)"
    expect(isinstance(full, (tuple, list)) and len(full) == 2, wanted, describe(full))
    for horizon in (8, 3, 1):
        latents, rewards = model.imagine(z, actions, horizon)
        said = f"{wanted}; the horizon is {horizon} here, and there are 8 actions"
        _shaped(latents, (5, horizon, LATENTS), said)
        _shaped(rewards, (5, horizon), said)
        likely = "a shorter dream should be the beginning of the longer one"
        if horizon == 8:
            likely = (
                "the same call gives another dream the second time: is noise drawn? Follow the mean that step gives"
            )
        expect_close(latents, full[0][:, :horizon].detach(), likely)
        expect_close(rewards, full[1][:, :horizon].detach(), likely)


@WorldModel.case("a dream is step and reward, one after the other")
def _(answer: Callable, draw: Draw) -> None:
    model = answer(OBS, ACTIONS, LATENTS, HIDDEN)
    z, actions = draw.normal(5, LATENTS), draw.normal(5, 5, ACTIONS)
    latents, rewards = model.imagine(z, actions, 5)

    def roll(pushes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        now, seen, earned, late = z, [], [], []
        for k in range(5):
            earned.append(model.reward(now, pushes[:, k]))
            now = model.step(now, pushes[:, k])[0]
            late.append(model.reward(now, pushes[:, k]))
            seen.append(now)
        return torch.stack(seen, 1).detach(), torch.stack(earned, 1).detach(), torch.stack(late, 1).detach()

    wanted, earned, late = roll(actions)
    swapped, other_rewards, _ = roll(actions.transpose(0, 1))
    expect_close(
        latents,
        wanted,
        "latents[:, k] should be the mean that step gives for the latent before and actions[:, k]: is anything but z "
        "carried from step to step, or another action used?",
        mistakes={
            "the start is in the dream: latents[:, 0] should be what comes after actions[:, 0]": torch.cat(
                [z[:, None], wanted[:, :-1]], 1
            ),
            "actions[t] is row t of the batch: the time axis is the second one": swapped,
            "every step takes the first action": roll(actions[:, :1].expand(-1, 5, -1))[0],
            "every step starts from z: hand the new latent to the next step": torch.stack(
                [model.step(z, actions[:, k])[0] for k in range(5)], 1
            ).detach(),
            "the actions are used from the last to the first": roll(actions.flip(1))[0],
            "the actions are used one step late": roll(actions.roll(1, 1))[0],
            "the actions are used one step early": roll(actions.roll(-1, 1))[0],
            "the action is forgotten": roll(torch.zeros_like(actions))[0],
        },
    )
    expect_close(
        rewards,
        earned,
        "rewards[:, k] should be the reward of the latent BEFORE actions[:, k], with actions[:, k]",
        mistakes={
            "the reward is read after the step: it belongs to the latent in which the action was taken": late,
            "actions[t] is row t of the batch: the time axis is the second one": other_rewards,
            "every reward is the first one: does the loop hand on the new latent?": earned[:, :1].expand(-1, 5),
        },
    )


@WorldModel.case("an action matters from its own step on, and never before")
def _(answer: Callable, draw: Draw) -> None:
    model = answer(OBS, ACTIONS, LATENTS, HIDDEN)
    z, actions = draw.normal(4, LATENTS, grad=True), draw.normal(4, 5, ACTIONS, grad=True)
    for i, name in enumerate(("latent", "reward")):
        for k in range(4):
            cut = "is the dream detached, or made under no_grad? Lesson 11 needs its gradient"
            result = model.imagine(z, actions, 4)[i][:, k]
            grads = gradients(result, {"actions": actions, "the start z": z}, cut)
            by_step = grads["actions"].abs().amax((0, 2))
            expect(by_step[k] > 0, f"{name} {k} does not feel actions[:, {k}]", f"gradient {by_step[k].item():.2g}")
            came = f"gradient {by_step[k + 1 :].max().item():.2g}"
            expect(by_step[k + 1 :].max() == 0, f"{name} {k} feels an action that comes after it", came)
            expect(grads["the start z"].abs().max() > 0, f"{name} {k} does not feel the start z", "gradient 0")


@WorldModel.case("a wild dream is step and reward, too", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model = _loud(answer(OBS, ACTIONS, LATENTS, HIDDEN))
    z, actions = draw.normal(5, LATENTS, std=20.0), draw.normal(5, 3, ACTIONS)
    latents, rewards = model.imagine(z, actions, 3)
    likely = (
        "with 30 times the weights the dream is no longer what step and reward say: is something cut off on the way?"
    )
    for k in range(3):
        expect_close(rewards[:, k], model.reward(z, actions[:, k]).detach(), likely)
        expect_close(latents[:, k], model.step(z, actions[:, k])[0].detach(), likely)
        z = latents[:, k].detach()


@WorldModel.case("each row of a batch dreams on its own", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model = answer(OBS, ACTIONS, LATENTS, HIDDEN)
    for rows in (6, 9):
        z, actions = draw.normal(rows, LATENTS), draw.normal(rows, 6, ACTIONS)
        _rows_alone(lambda z, actions: model.imagine(z, actions, 6), (z, actions), SEQUENCE)


@WorldModel.case("its weights are its whole state: a copy by state_dict dreams the same", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model, other = answer(OBS, ACTIONS, LATENTS, HIDDEN), answer(OBS, ACTIONS, LATENTS, HIDDEN)
    expect(len(list(model.parameters())) > 0, "the model has no parameters: are its layers attributes?", "none")
    z, actions, obs = draw.normal(5, LATENTS), draw.normal(5, 6, ACTIONS), draw.normal(5, OBS)
    model.imagine(draw.normal(3, LATENTS), draw.normal(3, 6, ACTIONS), 6)  # whatever it leaves behind must not matter
    other.load_state_dict(model.state_dict())
    likely = "the same weights should dream the same: are layers kept in a plain list, or made anew in every call?"
    for mine, theirs in zip(model.imagine(z, actions, 6), other.imagine(z, actions, 6), strict=True):
        expect_close(theirs, mine.detach(), likely)
    for mine, theirs in zip(model.encode(obs), other.encode(obs), strict=True):
        expect_close(theirs, mine.detach(), likely)
    expect_close(other.decode(z), model.decode(z).detach(), likely)


@WorldModel.case("works for other sizes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for obs_size, action_size, latent_size, hidden_size in [(4, 1, 1, 8), (3, 3, 6, 5), (12, 2, 2, 32)]:
        model = answer(obs_size, action_size, latent_size, hidden_size)
        sizes = f"sizes {(obs_size, action_size, latent_size, hidden_size)}"
        mean, _ = _gaussian_of(model.encode(draw.normal(2, obs_size)), 2, latent_size, f"{sizes}: encode(obs)")
        _shaped(model.decode(mean), (2, obs_size), f"{sizes}: decode(z) should have shape (B, O)")
        latents, rewards = model.imagine(mean, draw.normal(2, 3, action_size), 3)
        _shaped(latents, (2, 3, latent_size), f"{sizes}: the latents should have shape (B, H, Z)")
        _shaped(rewards, (2, 3), f"{sizes}: the rewards should have shape (B, H)")
