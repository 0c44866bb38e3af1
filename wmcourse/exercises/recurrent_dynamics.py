"""Lesson 06's exercises: a memory, a mixture of futures, episodes of different lengths, and a dream with memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from wmcourse import recurrent_dynamics as reference
from wmcourse.grading.exercise import Draw, Exercise, Mistake
from wmcourse.grading.expect import expect, expect_close, gradients

LESSON = "06_recurrent_dynamics"


def _finite(likely: str, answer: Callable, *args: Tensor) -> Tensor:
    """The answer's value; where it is not finite, `likely` says why, and not the contract's guess."""
    try:
        return answer(*args)
    except Mistake as mistake:
        if "holds nan" not in mistake.likely and "holds infinity" not in mistake.likely:
            raise
        raise Mistake(likely, came=mistake.came) from None


def _gru(draw: Draw, batch: int = 5, inputs: int = 3, hidden: int = 4, grad: bool = False) -> tuple[Tensor, ...]:
    return (
        draw.normal(batch, inputs, grad=grad),
        draw.normal(batch, hidden, grad=grad),
        draw.normal(3 * hidden, inputs, std=0.7, grad=grad),
        draw.normal(3 * hidden, hidden, std=0.7, grad=grad),
        draw.normal(3 * hidden, std=0.7, grad=grad),
        draw.normal(3 * hidden, std=0.7, grad=grad),
    )


def _gru_parts(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    """What comes from x and what comes from h, each for the three rows r, z, n."""
    return (x @ w.T + b).chunk(3, -1), (h @ u.T + c).chunk(3, -1)


def _torch_gru(*args: Tensor) -> Tensor:
    return torch.gru_cell(*args)


gru_cell = Exercise(
    reference=reference.gru_cell,
    lesson=LESSON,
    points=3,
    minutes=12,
    difficulty=3,
    hints=(
        "First all that comes from x, W x + b, and all that comes from h, U h + c: two matrix products, (B, 3 D) each.",
        "Cut both into three along the last axis: r, u, n. Sigmoids for r and u; in the tanh the reset r multiplies "
        "only the part that comes from h, its bias c_n included.",
        "h @ weight_hh.T + bias_hh, chunk(3, -1), then (1 - u) times the new content plus u times the old memory h.",
    ),
    example=_gru,
)


@gru_cell.case("with all weights 0 half of the memory stays")
def _(answer: Callable, draw: Draw) -> None:
    x, h, *weights = _gru(draw)
    expect_close(
        answer(x, h, *(torch.zeros_like(w) for w in weights)),
        h / 2,
        "all gates stand at sigmoid(0) = 1/2 and the new content is tanh(0) = 0: what is left of h?",
        mistakes={
            "the new content goes through a sigmoid: it should be a tanh, which can be negative": h / 2 + 0.25,
            "the old memory is gone: where does u * h come in, and is u a sigmoid?": torch.zeros_like(h),
            "the whole old memory is added: how much of it does u keep?": h,
        },
    )


@gru_cell.case("an update gate near 1 keeps the old memory")
def _(answer: Callable, draw: Draw) -> None:
    x, h, w, u, b, c = _gru(draw)
    kept = b + F.pad(torch.full((4,), 60.0), (4, 4))  # u near 1
    (x_1, _, x_3), (h_1, _, h_3) = _gru_parts(x, h, w, u, kept, c)
    new = torch.tanh(x_3 + torch.sigmoid(x_1 + h_1) * h_3)
    misread = torch.sigmoid(x_1 + h_1)
    expect_close(
        answer(x, h, w, u, kept, c),
        h,
        "with u near 1 the next memory should be the old one: h' = (1 - u) n + u h",
        mistakes={
            "u near 1 brings the new content: here u is the share of the old memory that is kept": new,
            "the rows are read as u, r, n: the order is r, u, n": (1 - misread) * torch.tanh(x_3 + h_3) + misread * h,
        },
    )


@gru_cell.case("a closed reset gate shuts out the old memory, and only that")
def _(answer: Callable, draw: Draw) -> None:
    x, h, w, u, b, c = _gru(draw)
    shut = b - F.pad(torch.full((8,), 60.0), (0, 4))  # r and u near 0
    (_, _, x_n), (_, _, h_n) = _gru_parts(x, h, w, u, b, c)
    expect_close(
        answer(x, h, w, u, shut, c),
        torch.tanh(x_n),
        "with r and u near 0 the next memory should be tanh(W_n x + b_n)",
        mistakes={
            "bias_hh slips past the reset gate: r multiplies U h + c, bias and all (torch's way)": torch.tanh(
                x_n + c[8:]
            ),
            "r is on the input: it should be on what comes from h": torch.tanh(h_n),
            "r is on both: only what comes from h is reset": torch.zeros_like(h),
            "r is not used: the old memory still gets into the new content": torch.tanh(x_n + h_n),
        },
    )


@gru_cell.case("equals torch's own cell to 1e-6")
def _(answer: Callable, draw: Draw) -> None:
    args = _gru(draw)
    x, h, w, u, b, c = args
    (x_r, x_z, x_n), (h_r, h_z, h_n) = _gru_parts(*args)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    early = torch.tanh(x_n + (r * h) @ u[8:].T + c[8:])
    expect_close(
        answer(*args),
        _torch_gru(*args),
        "with torch's weights the result should be torch's",
        tolerance=1e-6,
        mistakes={
            "r multiplies h before the matrix product (Cho's way): torch's r multiplies U h + c": (1 - z) * early
            + z * h,
            "the biases of h are missing": reference.gru_cell(x, h, w, u, b, torch.zeros_like(c)),
            "the biases of x are missing": reference.gru_cell(x, h, w, u, torch.zeros_like(b), c),
            "one bias is used twice": reference.gru_cell(x, h, w, u, b, b),
            "one bias is used twice, bias_hh": reference.gru_cell(x, h, w, u, c, c),
            "the gates do not look at the memory": (1 - torch.sigmoid(x_z)) * torch.tanh(x_n + torch.sigmoid(x_r) * h_n)
            + torch.sigmoid(x_z) * h,
        },
    )


@gru_cell.case("gradients reach every argument")
def _(answer: Callable, draw: Draw) -> None:
    args = _gru(draw, grad=True)
    names = ("x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    came = gradients(answer(*args), dict(zip(names, args, strict=True)))
    wanted = torch.autograd.grad(_torch_gru(*args).sum(), args)
    for name, right in zip(names, wanted, strict=True):
        expect_close(came[name], right, f"the gradient of {name} is cut off in part: is something detached?")


@gru_cell.case("works for other sizes, and over many steps", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for batch, inputs, hidden in [(1, 1, 1), (2, 7, 3), (3, 2, 6), (4, 5, 5)]:
        args = _gru(draw, batch, inputs, hidden)
        likely = f"something goes wrong for B = {batch}, I = {inputs}, D = {hidden}"
        expect_close(answer(*args), _torch_gru(*args), likely, tolerance=1e-5)
    x, h, *weights = _gru(draw)
    mine, right = h, h
    for _ in range(20):
        mine, right = answer(x, mine, *weights), _torch_gru(x, right, *weights)
    expect_close(mine, right, "twenty steps in a row drift away from torch's")


def _masked(draw: Draw, nan: bool = False) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([7, 2, 4, 1, 6])
    mask = torch.arange(7) < lengths[:, None]
    values = draw.normal(5, 7, mean=2.0)
    return torch.where(mask, values, torch.nan) if nan else values, mask


masked_mean = Exercise(
    reference=reference.masked_mean,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "A mean is a sum over a count. Which values are summed, and what is counted?",
        "0 times nan is nan, so multiplying with the mask does not shut a nan out. Choose instead of multiplying.",
        "torch.where(mask, values, 0.0) chooses; its sum goes over the number of true entries, which must not "
        "become 0 (clamp has a min).",
    ),
    example=_masked,
)


@masked_mean.case("only real steps are summed, and only they are counted")
def _(answer: Callable, draw: Draw) -> None:
    values, mask = _masked(draw)
    real = torch.where(mask, values, 0.0)
    by_row = real.sum(1) / mask.sum(1)
    expect_close(
        answer(values, mask),
        values[mask].mean(),
        "the sum of the values where mask is true, over how many are true",
        mistakes={
            "padding is averaged, too: where is the mask?": values.mean(),
            "divided by all B T entries: count only the real ones": real.mean(),
            "each episode is averaged first: then a step of a short episode weighs more": by_row.mean(),
            "summed, not averaged": real.sum(),
            "summed over steps and averaged over episodes: count the steps": real.sum(1).mean(),
            "the mask is turned around: true means that the step is real": values[~mask].mean(),
            "padding is summed, though not counted": values.sum() / mask.sum(),
        },
    )


@masked_mean.case("without padding it is the plain mean")
def _(answer: Callable, draw: Draw) -> None:
    values = draw.normal(4, 6)
    likely = "with a mask of all true the result should be values.mean()"
    expect_close(answer(values, torch.ones(4, 6, dtype=torch.bool)), values.mean(), likely)


@masked_mean.case("nan and infinity in the padding do not leak")
def _(answer: Callable, draw: Draw) -> None:
    values, mask = _masked(draw)
    wanted = values[mask].mean()
    for filler in (torch.nan, torch.inf, 1e30):
        likely = (
            f"padding of {filler} gets into the result: 0 times nan is nan, and so is 0 times inf. Choose the real "
        )
        value = _finite(likely + "values, do not multiply", answer, torch.where(mask, values, filler), mask)
        expect_close(value, wanted, f"padding of {filler} changes the result: it should count for nothing")
    low = values - 10.0
    likely = "with negative values the result is wrong: are values cut off, or is padding replaced by something not 0?"
    expect_close(answer(torch.where(mask, low, torch.nan), mask), low[mask].mean(), likely)


@masked_mean.case("the gradient is shared by the real steps, and is 0 in the padding")
def _(answer: Callable, draw: Draw) -> None:
    values, mask = _masked(draw, nan=True)
    values.requires_grad_()
    grad = gradients(answer(values, mask), {"values": values})["values"]
    expect(grad.isfinite().all(), "nan in the padding makes the gradient nan: choose, do not multiply", "nan")
    wanted = mask / mask.sum()
    expect_close(
        grad, wanted, "each real step should get 1 / (number of real steps), padding exactly 0", tolerance=1e-6
    )
    expect((grad[~mask] == 0).all(), "the padding gets a gradient: it should get exactly 0")


@masked_mean.case("nothing real at all gives 0, and a gradient of 0")
def _(answer: Callable, draw: Draw) -> None:
    values, nothing = draw.normal(3, 4, grad=True), torch.zeros(3, 4, dtype=torch.bool)
    likely = "where mask is true nowhere this is 0 / 0, and the result should be 0: keep the count from becoming 0"
    value = _finite(likely, answer, values, nothing)
    expect_close(value, torch.zeros(()), "where mask is true nowhere the result should be 0")
    expect_close(gradients(value, {"values": values})["values"], torch.zeros(3, 4), "the gradient should be 0 there")


@masked_mean.case("real values are left as they are, nan too", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    values, mask = _masked(draw)
    values = values.clone()
    values[0, 0] = torch.nan
    likely = "a nan in a real step is an accident that should show: do not clean it away with nan_to_num or nanmean"
    expect(answer(values, mask).isnan(), likely, "a finite number")


@masked_mean.case("holes anywhere, and other shapes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in [(1, 1), (6, 1), (1, 9), (8, 5)]:
        values, mask = draw.normal(*shape), draw.flags(*shape, p=0.6)
        mask[0, 0] = True
        expect_close(answer(values, mask), values[mask].mean(), f"something goes wrong for shape {shape}")


def _mixture(
    draw: Draw, *shape: int, components: int = 4, dims: int = 3, grad: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = shape or (6,)
    return (
        draw.normal(*shape, dims),
        draw.normal(*shape, components, std=1.5, grad=grad),
        draw.normal(*shape, components, dims, grad=grad),
        draw.uniform(*shape, components, dims, low=0.4, high=1.8, grad=grad),
    )


def _exact_log_prob(y: Tensor, logits: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """By torch.distributions, in float64."""
    y, logits, mean, std = (part.detach().double() for part in (y, logits, mean, std))
    mixture = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, std), 1))
    return mixture.log_prob(y).float()


mixture_log_prob = Exercise(
    reference=reference.mixture_log_prob,
    lesson=LESSON,
    points=3,
    minutes=12,
    difficulty=3,
    hints=(
        "For each component: the log of its weight, plus the log-density of y under its Gaussian. Then the log of the "
        "sum of what these are the logs of.",
        "y[..., None, :] lines y up with the K components. Sum the Gaussian over Y first, then logsumexp over K.",
        "logits.log_softmax(-1) plus the Gaussians, (..., K), into torch.logsumexp(..., -1). Nothing is exponentiated "
        "by hand.",
    ),
    example=lambda draw: _mixture(draw, 2, 3, grad=True),
)


@mixture_log_prob.case("one component is a Gaussian, whatever its logit")
def _(answer: Callable, draw: Draw) -> None:
    y, logits, mean, std = _mixture(draw, components=1)
    each = Normal(mean[:, 0], std[:, 0]).log_prob(y)
    u = (y - mean[:, 0]) / std[:, 0]
    constant = 0.5 * math.log(2 * math.pi)
    expect_close(
        answer(y, logits, mean, std),
        each.sum(-1),
        "with K = 1 the result should be log N(y; mean, std²), summed over Y",
        mistakes={
            "the logit adds to the result: softmax turns logits into weights, and a single one weighs 1": each.sum(-1)
            + logits[:, 0],
            "averaged over Y: sum it": each.mean(-1),
            "the constant -1/2 log 2 pi of each dimension is missing": (each + constant).sum(-1),
            "the constant counts once for each dimension": each.sum(-1) + 2 * constant,
            "-log std is missing: a wide Gaussian is thin": (-0.5 * u.square() - constant).sum(-1),
            "std is taken for a variance": Normal(mean[:, 0], std[:, 0].sqrt()).log_prob(y).sum(-1),
            "std is taken for a log-std": Normal(mean[:, 0], std[:, 0].exp()).log_prob(y).sum(-1),
            "the sign is turned around: the log-likelihood is asked for, not the loss": -each.sum(-1),
            "the density, not its logarithm": each.sum(-1).exp(),
        },
    )


@mixture_log_prob.case("several components: the log of the weighted sum of densities")
def _(answer: Callable, draw: Draw) -> None:
    y, logits, mean, std = _mixture(draw)
    each = Normal(mean, std).log_prob(y[:, None]).sum(-1)
    by_dim = Normal(mean, std).log_prob(y[:, None])
    log_weight = logits.log_softmax(-1)
    expect_close(
        answer(y, logits, mean, std),
        _exact_log_prob(y, logits, mean, std),
        "log sum_k softmax(logits)_k N(y; mean_k, std_k)",
        mistakes={
            "the weighted average of logs: the log of the weighted sum is asked for, and is larger": (
                log_weight.exp() * each
            ).sum(-1),
            "the best component alone: all of them count": (log_weight + each).amax(-1),
            "the weights are missing: every component counts fully": torch.logsumexp(each, -1),
            "all components weigh the same: where do the logits come in?": torch.logsumexp(each, -1) - math.log(4),
            "the logits are added as they are: they are not yet logarithms of weights that sum to 1": torch.logsumexp(
                logits + each, -1
            ),
            "each dimension picks a component of its own: a component is a whole vector, so sum over Y first": (
                torch.logsumexp(log_weight[..., None] + by_dim, 1).sum(-1)
            ),
            "the logarithms are summed over K: it is densities that add": (log_weight + each).sum(-1),
            "the softmax runs over the batch: weights sum to 1 over K": torch.logsumexp(
                logits.log_softmax(0) + each, -1
            ),
            "weights are added to log-densities: take their logarithm": torch.logsumexp(log_weight.exp() + each, -1),
            "one Gaussian with the average mean and std: that is no mixture": Normal(
                (log_weight.exp()[..., None] * mean).sum(1), (log_weight.exp()[..., None] * std).sum(1)
            )
            .log_prob(y)
            .sum(-1),
        },
    )


@mixture_log_prob.case("a constant added to all logits changes nothing")
def _(answer: Callable, draw: Draw) -> None:
    y, logits, mean, std = _mixture(draw)
    likely = "logits matter only by their differences: are they normalized, and stably, with log_softmax?"
    for constant in (5.0, -200.0, 200.0):
        lost = f"with {constant:+.0f} on all logits exp() overflows or becomes 0: stay in logarithms, with log_softmax"
        value = _finite(lost, answer, y, logits + constant, mean, std)
        expect_close(value, _exact_log_prob(y, logits, mean, std), likely)


@mixture_log_prob.case("stays exact where every density underflows")
def _(answer: Callable, draw: Draw) -> None:
    y, logits, mean, std = _mixture(draw)
    far = y + 60.0 * draw.normal(6, 3).sign()
    likely = "60 away from every mean every density underflowed to 0, and log(0) is -inf: use torch.logsumexp"
    value = _finite(likely, answer, far, logits, mean, std)
    expect_close(value, _exact_log_prob(far, logits, mean, std), f"far away the value is wrong: {likely}")
    logits, mean = torch.tensor([[0.0, -150.0]]), torch.tensor([[[0.0], [60.0]]])
    likely = "a weight of exp(-150) is small, but it is all there is at this y: softmax and log in one, log_softmax"
    value = _finite(likely, answer, mean[:, 1], logits, mean, torch.ones(1, 2, 1))
    expect_close(value, torch.tensor([-150 - 0.5 * math.log(2 * math.pi)]), likely)


@mixture_log_prob.case("narrow components are exact", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    _, logits, mean, std = _mixture(draw)
    narrow = torch.full_like(std, 1e-4)
    value = answer(mean[:, 2], logits, mean, narrow)
    expect_close(value, _exact_log_prob(mean[:, 2], logits, mean, narrow), "with std 1e-4 the value is wrong: a clamp?")


@mixture_log_prob.case("the logits learn from who was responsible")
def _(answer: Callable, draw: Draw) -> None:
    y, logits, mean, std = _mixture(draw, grad=True)
    grads = gradients(answer(y, logits, mean, std), {"logits": logits, "mean": mean, "std": std})
    inputs = [part.detach().double().requires_grad_() for part in (logits, mean, std)]
    mixture = MixtureSameFamily(Categorical(logits=inputs[0]), Independent(Normal(inputs[1], inputs[2]), 1))
    wanted = torch.autograd.grad(mixture.log_prob(y.double()).sum(), inputs)
    weight = logits.detach().softmax(-1)
    expect_close(
        grads["logits"],
        wanted[0].float(),
        "d / d logits should be each component's share in explaining y, less its weight",
        mistakes={"the weights are detached": torch.zeros_like(weight), "only the shares": wanted[0].float() + weight},
    )
    expect_close(grads["mean"], wanted[1].float(), "the gradient of mean is cut off in part: is something detached?")
    expect_close(grads["std"], wanted[2].float(), "the gradient of std is cut off in part: is something detached?")


@mixture_log_prob.case("the density integrates to 1", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    _, logits, mean, std = _mixture(draw, 1, components=3, dims=1)
    y = torch.linspace(-30, 30, 60_001)[:, None]
    many = (part.expand(len(y), *part.shape[1:]) for part in (logits, mean, std))
    total = answer(y, *many).exp().sum() * 0.001
    expect((total - 1).abs() < 1e-3, "the density should integrate to 1", f"{total:.4f}")


@mixture_log_prob.case("works for any shape, and for one weight near 1", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape, components, dims in [((2, 7), 5, 1), ((3,), 3, 3), ((1,), 1, 1), ((4, 2, 2), 2, 4), ((5,), 5, 2)]:
        args = _mixture(draw, *shape, components=components, dims=dims)
        likely = f"something goes wrong for batch shape {shape}, K = {components}, Y = {dims}"
        expect_close(answer(*args), _exact_log_prob(*args), likely)
    y, logits, mean, std = _mixture(draw)
    sure = (F.one_hot(logits.argmax(-1), 4) * 300.0).requires_grad_()
    value = answer(y, sure, mean, std)
    expect_close(value, _exact_log_prob(y, sure, mean, std), "logits of 300 break it: a log of 0?")
    grad = gradients(value, {"logits": sure})["logits"]
    expect(grad.isfinite().all(), "logits of 300 make the gradient nan: softmax and log in one, log_softmax", "nan")


Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _memory_step(draw: Draw, hidden: int = 4, obs: int = 2, action: int = 1) -> Step:
    keep, look, push = (draw.normal(n, hidden, std=0.7) for n in (hidden, obs, action))
    read, hold = draw.normal(hidden, obs), draw.normal(obs, obs, std=0.5)

    def step(h: Tensor, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(h @ keep + z @ look + a @ push)
        return h, h @ read + z @ hold

    return step


def _dream(draw: Draw, batch: int = 3, context: int = 4, horizon: int = 5) -> tuple:
    step = _memory_step(draw)
    return step, draw.normal(batch, 4), draw.normal(batch, context, 2), draw.normal(batch, context - 1 + horizon, 1)


rollout_with_memory = Exercise(
    reference=reference.rollout_with_memory,
    lesson=LESSON,
    points=3,
    minutes=15,
    difficulty=3,
    hints=(
        "One loop over all actions. What differs between listening and dreaming is only which observation goes in.",
        "While t is below L, the length of the context, the real obs[:, t] goes in; after that the prediction of the "
        "step before. The memory is handed on in both.",
        "Keep every prediction in a list. The first L - 1 of them are of observations you were shown: leave those out "
        "before torch.stack(..., dim=1).",
    ),
    example=lambda draw: _dream(draw, context=1),  # where what was shown adds no prediction: a case tells of that
)


def _predictions(answer: Callable, *args: Step | Tensor) -> Tensor:
    """The answer to 4 observations and 8 actions; who keeps the predictions of what was shown is told so."""
    try:
        return answer(*args)
    except Mistake as mistake:
        if "shape" not in mistake.likely or "(3, 8, 2)" not in mistake.came:
            raise
        likely = "the first L - 1 predictions are of observations you were shown: they do not belong in the result"
        raise Mistake(likely, came=f"{mistake.came}, wanted shape (3, 5, 2)") from None


def _run(step: Step, memory: Tensor, obs: list[Tensor], actions: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The memory and the last prediction after real observations and their actions."""
    predicted = obs[0]
    for z, a in zip(obs, actions, strict=True):
        memory, predicted = step(memory, z, a)
    return memory, predicted


@rollout_with_memory.case("the first prediction follows the whole context")
def _(answer: Callable, draw: Draw) -> None:
    step, memory, obs, actions = _dream(draw)
    seen, taken = list(obs.unbind(1)), list(actions.unbind(1))
    listened, wanted = _run(step, memory, seen, taken[:4])
    blind_memory, blind = memory, seen[0]
    for a in taken[:4]:
        blind_memory, blind = step(blind_memory, blind, a)
    expect_close(
        _predictions(answer, step, memory, obs, actions)[:, 0],
        wanted,
        "[:, 0] should come after obs[:, 0] ... obs[:, 3], each with the action taken there",
        mistakes={
            "only the last observation counts: is the memory handed on, so that it hears all of the context?": step(
                memory, seen[3], taken[3]
            )[1],
            "the context is dreamed, too: while there are real observations, they go in": blind,
            "the last observation goes in twice: step has already heard it": step(listened, seen[3], taken[3])[1],
            "the context's actions are one step early": _run(step, memory, seen, taken[1:5])[1],
            "the context's actions are one step late": _run(
                step, memory, seen, [torch.zeros_like(taken[0]), *taken[:3]]
            )[1],
            "the first future action is the first action of all": step(
                _run(step, memory, seen[:3], taken[:3])[0], seen[3], taken[0]
            )[1],
            "this is the second prediction: the first is missing": step(listened, wanted, taken[4])[1],
            "this predicts what you were shown: the context's own predictions do not belong in the result": _run(
                step, memory, seen[:1], taken[:1]
            )[1],
            "the last observation of the context is never used": _run(step, memory, seen[:3], taken[:3])[1],
            "the memory you are given is not used: it is where the dream begins": _run(
                step, torch.zeros_like(memory), seen, taken[:4]
            )[1],
        },
    )


@rollout_with_memory.case("each prediction is fed back, with the next memory and the next action")
def _(answer: Callable, draw: Draw) -> None:
    step, memory, obs, actions = _dream(draw)
    seen, taken = list(obs.unbind(1)), list(actions.unbind(1))
    listened, first = _run(step, memory, seen, taken[:4])
    expect_close(
        answer(step, memory, obs, actions)[:, 1],
        step(listened, first, taken[4])[1],
        "[:, 1] should be what step says from the memory after [:, 0], from [:, 0] itself, and the fifth action",
        mistakes={
            "the last real observation goes in again: feed the prediction back": step(listened, seen[3], taken[4])[1],
            "the memory stands still after the context": step(
                _run(step, memory, seen[:3], taken[:3])[0], first, taken[4]
            )[1],
            "the memory is the one you were given: hand the new one on": step(memory, first, taken[4])[1],
            "the same action again: the next one is due": step(listened, first, taken[3])[1],
            "the actions start from the front again: the future's come after the context's": step(
                listened, first, taken[1]
            )[1],
            "the memory is wiped: hand it on": step(torch.zeros_like(memory), first, taken[4])[1],
        },
    )


@rollout_with_memory.case("the last prediction uses the last action")
def _(answer: Callable, draw: Draw) -> None:
    step, memory, obs, actions = _dream(draw)
    h, z = _run(step, memory, list(obs.unbind(1)), list(actions[:, :4].unbind(1)))
    for action in actions[:, 4:].unbind(1):
        h, z = step(h, z, action)
    likely = "eight actions and four observations give five predictions, the last from the last action"
    expect_close(answer(step, memory, obs, actions)[:, -1], z, likely)


@rollout_with_memory.case("gradients run back to the first observation and the first action")
def _(answer: Callable, draw: Draw) -> None:
    step, memory, obs, actions = _dream(draw)
    inputs = {"memory": memory, "obs": obs, "actions": actions}
    for part in inputs.values():
        part.requires_grad_()
    likely = "is something detached, or computed under no_grad, on the way?"
    came = gradients(answer(step, memory, obs, actions), inputs, likely)
    wanted = gradients(reference.rollout_with_memory(step, memory, obs, actions), inputs)
    for name in inputs:
        expect_close(came[name], wanted[name], f"the gradient of {name} is cut off in part: {likely}")


@rollout_with_memory.case("works for a context of one, a horizon of one, one row, and other sizes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for batch, context, horizon in [(2, 1, 4), (3, 5, 1), (1, 2, 3), (2, 1, 1), (4, 2, 9)]:
        args = _dream(draw, batch, context, horizon)
        likely = f"something goes wrong for a batch of {batch}, a context of {context} and a horizon of {horizon}"
        expect_close(answer(*args), reference.rollout_with_memory(*args), likely)


def _sampling(draw: Draw, rows: int = 40, temperature: float = 0.7) -> tuple:
    """Uniform numbers kept off the steps of the cumulative weights, where rounding would decide."""
    _, logits, mean, std = _mixture(draw, rows, components=4, dims=2)
    uniform = _off_the_steps(draw, logits / temperature)
    return logits, mean + 4 * draw.normal(rows, 4, 2), std, uniform, draw.normal(rows, 2), temperature


def _in_two_axes(*args: Tensor | float) -> tuple:
    """The same arguments with 40 rows as (B, T) = (4, 10)."""
    return tuple(part.unflatten(0, (4, 10)) if isinstance(part, Tensor) else part for part in args)


def _off_the_steps(draw: Draw, logits: Tensor) -> Tensor:
    """A uniform number a row, in the middle 96 % of a component drawn uniformly among those above 0.001."""
    weight = logits.double().softmax(-1)
    pick = torch.where(weight > 1e-3, draw.uniform(*logits.shape), -1.0).argmax(-1, keepdim=True)
    low = (weight.cumsum(-1) - weight).gather(-1, pick)
    place = draw.uniform(*pick.shape, low=0.02, high=0.98)
    return (low + weight.gather(-1, pick) * place)[..., 0].float()


def _component(logits: Tensor, uniform: Tensor) -> Tensor:
    cumulative = logits.double().softmax(-1).cumsum(-1)
    return (cumulative <= uniform.double()[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)


def _take(parts: Tensor, choice: Tensor) -> Tensor:
    return parts[torch.arange(len(choice)), choice]


mixture_sample = Exercise(
    reference=reference.mixture_sample,
    lesson=LESSON,
    points=3,
    minutes=15,
    difficulty=4,
    hints=(
        "Two rolls of the dice: `uniform` says which component, `noise` says where in it.",
        "Lay the weights softmax(logits / temperature) end to end on [0, 1): cumsum. The component is the one in whose "
        "stretch `uniform` falls. Then pick its row of mean and std: gather, or indexing.",
        "The index is the number of cumulative weights that are <= uniform, and at most K - 1. The noise is stretched "
        "by std times the square root of the temperature.",
    ),
    example=lambda draw: _in_two_axes(*_sampling(draw)),
)


@mixture_sample.case("noise of 0 lands on the mean of the component that uniform points at")
def _(answer: Callable, draw: Draw) -> None:
    logits, mean, std, uniform, noise, _ = _sampling(draw, temperature=1.0)
    weight = logits.softmax(-1)
    choice = _component(logits, uniform)
    expect_close(
        answer(logits, mean, std, uniform, torch.zeros_like(noise), 1.0),
        _take(mean, choice),
        "the first component whose cumulative weight exceeds uniform",
        mistakes={
            "always the likeliest component: where is the dice roll?": _take(mean, logits.argmax(-1)),
            "the average of all means: that is a point where there may be no future at all": (
                weight[..., None] * mean
            ).sum(1),
            "one component too late: off by one": _take(mean, (choice + 1).clamp(max=3)),
            "one component too early: off by one": _take(mean, (choice - 1).clamp(min=0)),
            "the stretches are laid out from the other end: the first component begins at 0": _take(
                mean, _component(logits, 1 - uniform)
            ),
            "all components are drawn alike: where do the logits come in?": _take(
                mean, (uniform * 4).long().clamp(max=3)
            ),
            "uniform is held against the weights themselves, not against their running sum": _take(
                mean, (weight > uniform[..., None]).int().argmax(-1)
            ),
        },
    )


@mixture_sample.case("the noise is stretched by the chosen component's std")
def _(answer: Callable, draw: Draw) -> None:
    logits, mean, std, uniform, noise, _ = _sampling(draw, temperature=1.0)
    choice = _component(logits, uniform)
    middle, spread = _take(mean, choice), _take(std, choice)
    weight = logits.softmax(-1)[..., None]
    expect_close(
        answer(logits, mean, std, uniform, noise, 1.0) - middle,
        spread * noise,
        "at temperature 1 the draw should be mean_k + std_k * noise",
        mistakes={
            "no noise: the draw should spread around the mean": torch.zeros_like(noise),
            "the noise is stretched by the variance: std is a standard deviation": spread**2 * noise,
            "the noise is stretched by the square root of std": spread.sqrt() * noise,
            "the noise is stretched by exp(std): std is not a logarithm": spread.exp() * noise,
            "the noise is stretched by the average std: the chosen component has its own": (weight * std).sum(1)
            * noise,
            "the first component's std is used for all": std[:, 0] * noise,
            "the sign of the noise is turned around": -spread * noise,
            "one noise for all dimensions: each has its own": spread * noise[:, :1],
            "the noise is not stretched": noise,
        },
    )


@mixture_sample.case("the temperature divides the logits, and its root stretches the std")
def _(answer: Callable, draw: Draw) -> None:
    for tau in (0.25, 3.0):
        logits, mean, std, uniform, noise, _ = _sampling(draw, temperature=tau)

        def drawn(
            scaled: Tensor,
            stretch: float,
            parts: tuple[Tensor, ...] = (mean, std, uniform, noise),
        ) -> Tensor:
            mean, std, uniform, noise = parts
            choice = _component(scaled, uniform)
            return _take(mean, choice) + stretch * _take(std, choice) * noise

        root = math.sqrt(tau)
        expect_close(
            answer(logits, mean, std, uniform, noise, tau),
            drawn(logits / tau, root),
            f"at temperature {tau}: weights softmax(logits / temperature), spread sqrt(temperature) * std",
            mistakes={
                "the temperature is not used": drawn(logits, 1.0),
                "the temperature does nothing to the choice: logits / temperature": drawn(logits, root),
                "the temperature does nothing to the spread: sqrt(temperature) * std": drawn(logits / tau, 1.0),
                "the logits are multiplied: a low temperature should make the choice surer": drawn(logits * tau, root),
                "std is stretched by the temperature itself: it is the variance that is": drawn(logits / tau, tau),
                "std is divided: a low temperature should make the spread smaller": drawn(logits / tau, 1 / root),
                "the root belongs to std alone: the logits are divided by the temperature itself": drawn(
                    logits / root, root
                ),
                "the logits are multiplied, and std is stretched by the temperature": drawn(logits * tau, tau),
                "temperature squared on std: the variance is what grows with the temperature": drawn(
                    logits / tau, tau**2
                ),
            },
        )


@mixture_sample.case("gradients reach the chosen component's mean and std")
def _(answer: Callable, draw: Draw) -> None:
    logits, mean, std, uniform, noise, tau = _sampling(draw)
    mean.requires_grad_()
    std.requires_grad_()
    likely = "is the draw made by .sample(), or something detached?"
    grads = gradients(answer(logits, mean, std, uniform, noise, tau), {"mean": mean, "std": std}, likely)
    hot = F.one_hot(_component(logits / tau, uniform), 4)[..., None].float()
    expect_close(grads["mean"], hot.expand(40, 4, 2), "the chosen component's mean should get 1, the others' 0")
    wanted = math.sqrt(tau) * hot * noise[:, None]
    expect_close(grads["std"], wanted, "the chosen component's std should get sqrt(temperature) * noise")


@mixture_sample.case("a uniform number at either end finds a component that can be")
def _(answer: Callable, draw: Draw) -> None:
    logits = torch.tensor([[-300.0, 0.0, 1.0, -300.0]]).expand(5, 4)
    mean, std, zeros = draw.normal(5, 4, 2), torch.ones(5, 4, 2), torch.zeros(5, 2)
    value = answer(logits, mean, std, torch.zeros(5), zeros, 1.0)
    likely = "uniform = 0 picks a component of weight 0: the first whose cumulative weight *exceeds* uniform"
    expect_close(value, mean[:, 1], likely)
    many = draw.normal(300, 97)
    middles = torch.arange(97.0)[:, None].expand(300, 97, 1)
    ends = torch.full((300,), 1 - 2**-24)
    value = answer(many, middles, torch.ones(300, 97, 1), ends, torch.zeros(300, 1), 1.0)
    likely = "with uniform just below 1, rounding can leave the last cumulative weight below it: stay within K - 1"
    expect((value > 80).all() and (value < 97).all(), likely, f"a draw at {value.min().item():.3g}")


@mixture_sample.case("over evenly spread uniform numbers components come up as often as they should", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    count = 2_000
    uniform = ((torch.arange(count) + 0.5) / count)[torch.randperm(count, generator=draw.generator)]
    logits = torch.tensor([1.0, 0.0, -1.0])
    mean, std = torch.tensor([[-20.0], [0.0], [20.0]]), torch.tensor([[0.5], [1.0], [2.0]])
    for tau in (0.5, 1.0, 2.0):
        rows = (part.expand(count, *part.shape) for part in (logits, mean, std))
        value = answer(*rows, uniform, draw.normal(count, 1).clamp(-3, 3), tau)[:, 0]
        wanted = (logits / tau).softmax(-1)
        often = torch.stack(
            [(value < -10).float().mean(), (value.abs() <= 10).float().mean(), (value > 10).float().mean()]
        )
        came = f"{[round(v, 3) for v in often.tolist()]}, wanted {[round(v, 3) for v in wanted.tolist()]}"
        expect((often - wanted).abs().amax() < 0.002, f"at temperature {tau} the frequencies are off", came)


@mixture_sample.case("works for any shape", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape, components, dims in [((2, 5), 3, 2), ((1,), 1, 1), ((3,), 3, 3), ((4, 2), 5, 1)]:
        _, logits, mean, std = _mixture(draw, *shape, components=components, dims=dims)
        args = (logits, mean, std, _off_the_steps(draw, logits / 0.8), draw.normal(*shape, dims), 0.8)
        likely = f"something goes wrong for batch shape {shape}, K = {components}, Y = {dims}"
        expect_close(answer(*args), reference.mixture_sample(*args), likely)
