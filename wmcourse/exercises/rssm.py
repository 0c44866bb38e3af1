"""Lesson 07's exercises: one step of the RSSM, a sequence of them, its loss, and its dreams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wmcourse import rssm as reference
from wmcourse.grading.exercise import Draw, Exercise, Mistake
from wmcourse.grading.expect import describe, expect, expect_close, gradients

LESSON = "07_rssm"

D, S, A, E = 5, 3, 2, 4  # deter, stoch, action, embedding of the cases
Pair = tuple[Tensor, Tensor]


class Toy:
    """The four parts of an RSSM with drawn weights, small and lively: every input moves every output."""

    def __init__(self, draw: Draw):
        self.from_state = draw.normal(D + S + A, D, std=0.6)
        self.from_memory = draw.normal(D, 2 * S, std=0.6)
        self.from_both = draw.normal(D + E, 2 * S, std=0.6)
        self.bias = draw.normal(D, std=0.5)

    def initial(self, batch: int) -> Pair:
        """Zeros, (B, D) and (B, S)."""
        return torch.zeros(batch, D, device=self.bias.device), torch.zeros(batch, S, device=self.bias.device)

    def transition(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """The next h, (B, D)."""
        return torch.tanh(torch.cat([deter, stoch, action], -1) @ self.from_state + self.bias)

    def prior(self, deter: Tensor) -> Tensor:
        """Parameters of p(z | h), (..., P)."""
        return deter @ self.from_memory

    def posterior(self, deter: Tensor, embed: Tensor) -> Tensor:
        """Parameters of q(z | h, x), (..., P)."""
        return torch.cat([deter, embed], -1) @ self.from_both

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """z = mean + std * noise, (..., S)."""
        mean, raw = parameters.chunk(2, -1)
        return mean + (F.softplus(raw) + 0.1) * noise


def _moved(value: Tensor, other: Tensor) -> bool:
    return (value - other).detach().abs().amax().item() > 1e-4


def _few_firsts(draw: Draw, batch: int, time: int) -> Tensor:
    """Flags with an episode's start inside every row, the last column included in one of them."""
    first = torch.zeros(batch, time, dtype=torch.bool, device=draw.device)
    first[torch.arange(batch), draw.integers(batch, low=1, high=time)] = True
    first[0, time - 1] = True
    return first


def _shift(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)


def _mask(first: Tensor, x: Tensor) -> Tensor:
    return first.view(*first.shape, *[1] * (x.dim() - 2))


previous = Exercise(
    reference=reference.previous,
    lesson=LESSON,
    points=1,
    minutes=6,
    difficulty=2,
    hints=(
        "Write down for t = 0, 1, 2 which action led to obs[:, t]. What led to obs[:, 0]?",
        "Move everything one place to the right along the time axis; the last entry falls out, a zero comes in. Then "
        "look at where an episode starts.",
        "Put zeros_like of one column before all columns but the last, then torch.where or masked_fill with first, "
        "which needs as many axes as x.",
    ),
    example=lambda draw: (draw.normal(3, 7, A, grad=True), _few_firsts(draw, 3, 7)),
)


@previous.case("at t stands what the step before left")
def _(answer: Callable, draw: Draw) -> None:
    x = draw.normal(3, 6, A)
    first = torch.zeros(3, 6, dtype=torch.bool, device=draw.device)  # a window from the middle of an episode
    later = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1)
    expect_close(
        answer(x, first),
        _shift(x),
        "where no episode starts, x[:, t - 1] should stand at t, and zero at t = 0",
        mistakes={
            "nothing is shifted: action[:, t] is taken after obs[:, t], so which action led to obs[:, t]?": x,
            "shifted the wrong way: this is what comes after, not what came before": later,
            "shifted the wrong way, and round": x.roll(-1, 1),
            "the last step comes round to t = 0: roll makes a circle of time": x.roll(1, 1),
            "at t = 0 the first entry is repeated: nothing led there": torch.cat([x[:, :1], x[:, :-1]], 1),
            "shifted by two": _shift(_shift(x)),
            "shifted along the batch: time is the second axis": torch.cat([torch.zeros_like(x[:1]), x[:-1]]),
            "everything is zero although no episode starts: is first turned around?": 0 * x,
        },
    )


@previous.case("nothing led to the first observation of an episode")
def _(answer: Callable, draw: Draw) -> None:
    x = draw.normal(4, 7, A)
    first = _few_firsts(draw, 4, 7)
    mask = first[..., None]
    expect_close(
        answer(x, first),
        torch.where(mask, 0, _shift(x)),
        "zero at t = 0 and where first is true, x[:, t - 1] elsewhere",
        mistakes={
            "the last action of one episode leads into the next: look at first": _shift(x),
            "zeroed before it is shifted: the zeros stand one step after the start": _shift(torch.where(mask, 0, x)),
            "the flags are shifted, too: the zeros stand one step after the start": torch.where(
                _shift(mask), 0, _shift(x)
            ),
            "the zeros stand one step before the start": torch.where(mask.roll(-1, 1), 0, _shift(x)),
            "turned around: only the starts are kept": torch.where(mask, _shift(x), 0),
            "at a start the new episode's own action stands: it is taken later": torch.where(mask, x, _shift(x)),
            "nothing is shifted: action[:, t] is taken after obs[:, t]": torch.where(mask, 0, x),
        },
    )


@previous.case("rewards and flags, too: x keeps its dtype, and first needs as many axes as x")
def _(answer: Callable, draw: Draw) -> None:
    first = _few_firsts(draw, 3, 6)
    for x in (draw.normal(3, 6), draw.flags(3, 6), draw.integers(3, 6, high=9) + 1, draw.normal(3, 6, 2, 4)):
        wanted = torch.where(_mask(first, x), torch.zeros_like(x), _shift(x))
        likely = f"something goes wrong for {str(x.dtype)[6:]} of shape {tuple(x.shape)}: first needs as many axes as x"
        expect_close(answer(x, first), wanted, likely)


@previous.case("gradients go back one step, and none across a start", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    x, first = draw.normal(3, 6, A, grad=True), _few_firsts(draw, 3, 6)
    grad = gradients(answer(x, first), {"x": x})["x"]
    led = torch.cat([~first[:, 1:], torch.zeros_like(first[:, :1])], 1)
    expect_close(grad, led[..., None].expand(3, 6, A).float(), "each x[:, t] should reach t + 1, if no episode starts")


def _step_inputs(draw: Draw, batch: int = 6, firsts: bool = True) -> tuple[Toy, Pair, Tensor, Tensor, Tensor, Tensor]:
    """Model, state, action, embed, first, noise."""
    first = torch.zeros(batch, dtype=torch.bool, device=draw.device)
    if firsts:
        first[1::3] = True
    state = (draw.normal(batch, D), draw.normal(batch, S))
    return Toy(draw), state, draw.normal(batch, A), draw.normal(batch, E), first, draw.normal(batch, S)


observe_step = Exercise(
    reference=reference.observe_step,
    lesson=LESSON,
    points=2,
    minutes=12,
    difficulty=3,
    hints=(
        "Three things happen in order: what lies before a first observation is forgotten, h moves on, z is drawn.",
        "h moves on by model.transition, from all three things of the step before. Only then does the observation "
        "come in, and it comes in beside the new h.",
        "Zero h, z and action in the rows where first is true (first[:, None] fits them); then transition, then "
        "posterior of the new h and embed, then draw with the noise. Return ((h, z), posterior).",
    ),
    example=_step_inputs,
)


@observe_step.case("h comes from the h, z and action before")
def _(answer: Callable, draw: Draw) -> None:
    model, (h, z), action, embed, first, noise = _step_inputs(draw, firsts=False)
    none = torch.zeros_like
    params = model.posterior(h, embed)
    expect_close(
        answer(model, (h, z), action, embed, first, noise)[0][0],
        model.transition(h, z, action),
        "h should be model.transition of the h, z and action of the step before",
        mistakes={
            "h did not move: where is model.transition?": h,
            "the action is left out: the state would not know what was done": model.transition(h, z, none(action)),
            "z is left out: h would not know what was seen": model.transition(h, none(z), action),
            "h is left out: nothing would be remembered": model.transition(none(h), z, action),
            "z is drawn before h moves on: the z of the step before belongs here": model.transition(
                h, model.draw(params, noise), action
            ),
            "h and z are forgotten although no episode starts": model.transition(none(h), none(z), action),
            "everything is forgotten although no episode starts: is first turned around?": model.transition(
                none(h), none(z), none(action)
            ),
            "the arguments of transition are in another order: deter, stoch, action": model.transition(h, action, z),
            "the transition runs twice": model.transition(model.transition(h, z, action), z, action),
        },
    )


@observe_step.case("the posterior looks at the new h and at the observation")
def _(answer: Callable, draw: Draw) -> None:
    model, (h, z), action, embed, first, noise = _step_inputs(draw, firsts=False)
    new = model.transition(h, z, action)
    expect_close(
        answer(model, (h, z), action, embed, first, noise)[1],
        model.posterior(new, embed),
        "the second result should be the posterior's parameters, given the new h and embed",
        mistakes={
            "this is the prior: it has not seen the observation": model.prior(new),
            "the posterior looks at the old h": model.posterior(h, embed),
            "the observation is left out": model.posterior(new, torch.zeros_like(embed)),
            "h is left out: the posterior is q(z | h, x)": model.posterior(torch.zeros_like(new), embed),
            "the memory is cut: h should not be detached": model.posterior(new.detach() * 0, embed),
        },
    )


@observe_step.case("z is a draw from the posterior, with the noise given")
def _(answer: Callable, draw: Draw) -> None:
    model, (h, z), action, embed, first, noise = _step_inputs(draw, firsts=False)
    new = model.transition(h, z, action)
    params = model.posterior(new, embed)
    expect_close(
        answer(model, (h, z), action, embed, first, noise)[0][1],
        model.draw(params, noise),
        "z should be model.draw(posterior, noise)",
        mistakes={
            "z did not move: where is model.draw?": z,
            "drawn from the prior: after the observation the posterior is better": model.draw(model.prior(new), noise),
            "the noise is not used: this is the posterior's mean": params.chunk(2, -1)[0],
            "the noise is used with its sign turned around": model.draw(params, -noise),
            "drawn from a posterior that looked at the old h": model.draw(model.posterior(h, embed), noise),
            "z is the noise itself": noise,
        },
    )


@observe_step.case("before a first observation there is nothing")
def _(answer: Callable, draw: Draw) -> None:
    model, (h, z), action, embed, first, noise = _step_inputs(draw)
    keep = (~first).float()[:, None]

    def after(h: Tensor, z: Tensor, action: Tensor) -> Tensor:
        new = model.transition(h, z, action)
        return torch.cat([new, model.draw(model.posterior(new, embed), noise)], -1)

    (new, drawn), params = answer(model, (h, z), action, embed, first, noise)
    right = after(keep * h, keep * z, keep * action)
    cleared = right * keep  # what became of resetting the result and not the past
    late = keep * model.transition(h, z, action)
    late_z = model.draw(model.posterior(late, embed), noise)
    expect_close(
        torch.cat([new, drawn], -1),
        right,
        "where first is true, h, z and action before should count as zero; the other rows stay as they are",
        mistakes={
            "first is not used: the old episode leaks into the new one": after(h, z, action),
            "the action before is kept: it was taken in the old episode": after(keep * h, keep * z, action),
            "z is kept: it belongs to the old episode": after(keep * h, z, keep * action),
            "h is kept: it belongs to the old episode": after(h, keep * z, keep * action),
            "only h is forgotten: z and action belong to the old episode, too": after(keep * h, z, action),
            "only z is forgotten: h and action belong to the old episode, too": after(h, keep * z, action),
            "only the action is forgotten: h and z belong to the old episode, too": after(h, z, keep * action),
            "one start resets every row: first is per row": after(0 * h, 0 * z, 0 * action),
            "turned around: the rows that go on are reset": after((1 - keep) * h, (1 - keep) * z, (1 - keep) * action),
            "h is reset after it moved on: reset before h moves": torch.cat([late, late_z], -1),
            "h and z are cleared after they moved on: reset before h moves": cleared,
            "the new state is cleared: forget what lies before, not what was just seen": torch.where(
                first[:, None], 0, after(h, z, action)
            ),
        },
    )
    likely = "the posterior's parameters should come from the h that was reset"
    expect_close(params, model.posterior(new.detach(), embed), likely)


@observe_step.case("gradients flow back through the step, except into a reset", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model, state, action, embed, first, noise = _step_inputs(draw)
    given = {"deter": state[0], "stoch": state[1], "action": action, "embed": embed}
    for x in given.values():
        x.requires_grad_()

    def total(answer: Callable) -> Tensor:
        (h, z), params = answer(model, state, action, embed, first, noise)
        return h.sum() + z.square().sum() + params.sum()

    likely = "is something detached, or a no_grad left over?"
    found, right = gradients(total(answer), given, likely), gradients(total(reference.observe_step), given)
    for name in given:
        expect_close(found[name], right[name], f"part of the gradient does not reach {name}: {likely}")


@observe_step.case("one row knows nothing of another", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model, (h, z), action, embed, first, noise = _step_inputs(draw)
    (whole, _), _ = answer(model, (h, z), action, embed, first, noise)
    for i in range(6):
        row = slice(i, i + 1)
        (alone, _), _ = answer(model, (h[row], z[row]), action[row], embed[row], first[row], noise[row])
        expect_close(alone, whole[row], "a row alone should give what it gives in a batch")


T = 7  # time in the cases of observe


def _sequence(draw: Draw, firsts: bool = True, time: int = T) -> tuple[Toy, Tensor, Tensor, Tensor, Tensor]:
    """Model, embed, action, first, noise."""
    first = _few_firsts(draw, 4, time) if firsts else torch.zeros(4, time, dtype=torch.bool, device=draw.device)
    return Toy(draw), draw.normal(4, time, E), draw.normal(4, time, A), first, draw.normal(4, time, S)


def _walk(model: Toy, embed: Tensor, led: Tensor, first: Tensor, noise: Tensor) -> Tensor:
    """h and z (B, T, D + S) by the reference's single steps, from the actions said to have led to each observation."""
    state, out = model.initial(len(embed)), []
    for t in range(embed.shape[1]):
        state, _ = reference.observe_step(model, state, led[:, t], embed[:, t], first[:, t], noise[:, t])  # type: ignore[arg-type]
        out.append(torch.cat(list(state), -1))
    return torch.stack(out, 1)


def _parts(beliefs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """deter, stoch, posterior, prior of what observe returns."""
    return beliefs[0][0], beliefs[0][1], beliefs[1], beliefs[2]


observe = Exercise(
    reference=reference.observe,
    lesson=LESSON,
    points=3,
    minutes=18,
    difficulty=4,
    hints=(
        "A loop over time that hands the state of one step to the next. Which action does the step at t need?",
        "previous(action, first) holds at t the action that led to obs[:, t]. Start from model.initial(B), collect "
        "the results in lists, stack each list once, along axis 1.",
        "At t: observe_step(model, state, led[:, t], embed[:, t], first[:, t], noise[:, t]). The prior needs no loop: "
        "it is model.prior of all h at once.",
    ),
    example=_sequence,
)


@observe.case("the state walks through the sequence")
def _(answer: Callable, draw: Draw) -> None:
    model, embed, action, first, noise = _sequence(draw, firsts=False)
    led = _shift(action)
    h, z, _, _ = _parts(answer(model, embed, action, first, noise))
    alone = [_walk(model, embed[:, [t]], led[:, [t]], first[:, [t]], noise[:, [t]]) for t in range(T)]
    later = torch.cat([led[:, 1:], led[:, :1]], 1)
    expect_close(
        torch.cat([h, z], -1),
        _walk(model, embed, led, first, noise),
        "each step should start from the state of the step before, and from the action that led here",
        mistakes={
            "action[:, t] is handed to the step at t: it is taken after obs[:, t]. Which action led here?": _walk(
                model, embed, action, first, noise
            ),
            "the actions come one step too early": _walk(model, embed, later, first, noise),
            "the actions are shifted twice: one step too late": _walk(model, embed, _shift(led), first, noise),
            "at t = 0 the last action comes round: roll makes a circle of time": _walk(
                model, embed, action.roll(1, 1), first, noise
            ),
            "no action reaches the state": _walk(model, embed, 0 * led, first, noise),
            "every step starts from the initial state: hand the state on": torch.cat(alone, 1),
            "one noise for all times": _walk(model, embed, led, first, noise[:, :1].expand_as(noise)),
            "the noise is not used": _walk(model, embed, led, first, 0 * noise),
            "the first observation is fed in at every step": _walk(
                model, embed[:, :1].expand_as(embed), led, first, noise
            ),
            "time runs backwards: is the list reversed?": _walk(model, embed, led, first, noise).flip(1),
        },
    )


@observe.case("an action changes the h after it, and no h before")
def _(answer: Callable, draw: Draw) -> None:
    model, embed, action, first, noise = _sequence(draw, firsts=False)
    k = int(draw.integers(1, low=2, high=T - 2).item())
    swapped = action.clone()
    swapped[:, k] = -action[:, k] + 1
    h, z, *_ = _parts(answer(model, embed, action, first, noise))
    other, other_z, *_ = _parts(answer(model, embed, swapped, first, noise))
    came = f"another action at t = {k}"
    early = _moved(h[:, : k + 1], other[:, : k + 1]) or _moved(z[:, : k + 1], other_z[:, : k + 1])
    expect(not early, "h_t or z_t knows action[:, t], which is taken only after obs[:, t] was seen", came)
    expect(_moved(h[:, k + 1], other[:, k + 1]), f"{came} should change h at t = {k + 1}", "the same h")


@observe.case("is blind to the future, and the prior to the present")
def _(answer: Callable, draw: Draw) -> None:
    model, embed, action, first, noise = _sequence(draw, firsts=False)
    k = int(draw.integers(1, low=2, high=T - 2).item())
    changed = embed.clone()
    changed[:, k] = embed[:, k] + 1
    before, after = (_parts(answer(model, e, action, first, noise)) for e in (embed, changed))
    came = f"another observation at t = {k}"
    for a, b, name in zip(before, after, ("h", "z", "the posterior", "the prior"), strict=True):
        expect(not _moved(a[:, :k], b[:, :k]), f"{name} before t = {k} knows an observation of t = {k}", came)
    expect(not _moved(before[0][:, k], after[0][:, k]), "h_t knows x_t: only z_t may", came)
    likely = "the prior p(z_t | h_t) knows x_t, which it should foretell: is it made of z, or of the next h?"
    expect(not _moved(before[3][:, k], after[3][:, k]), likely, came)
    for a, b, name in zip(before[1:3], after[1:3], ("z", "the posterior"), strict=True):
        expect(_moved(a[:, k], b[:, k]), f"{name} at t = {k} should know the observation of t = {k}", "no change")
    expect(_moved(before[0][:, k + 1], after[0][:, k + 1]), "h_{t+1} should know x_t through z_t", "no change")


@observe.case("a new episode starts as if nothing had been before")
def _(answer: Callable, draw: Draw) -> None:
    model, embed, action, _, noise = _sequence(draw)
    first = torch.zeros(4, T, dtype=torch.bool, device=draw.device)
    first[:, 3] = True
    led, mask = _shift(action), first[..., None]
    none = torch.zeros_like(first)
    h, z, _, _ = _parts(answer(model, embed, action, first, noise))
    cut = torch.cat([_walk(model, embed[:, s], _shift(action[:, s]), none[:, s], noise[:, s]) for s in _halves()], 1)
    expect_close(
        torch.cat([h, z], -1),
        cut,
        "from a first observation on, the states should be those of a sequence that begins there",
        mistakes={
            "first is not used: the old episode leaks into the new one": _walk(model, embed, led, none, noise),
            "only the action before is forgotten: h and z belong to the old episode, too": _walk(
                model, embed, torch.where(mask, 0, led), none, noise
            ),
            "the reset comes one step too late": _walk(model, embed, led, first.roll(1, 1), noise),
            "the reset comes one step too early": _walk(model, embed, led, first.roll(-1, 1), noise),
        },
    )


def _halves() -> tuple[slice, slice]:
    return slice(0, 3), slice(3, T)


@observe.case("posterior and prior belong to the h of the same time")
def _(answer: Callable, draw: Draw) -> None:
    model, embed, action, first, noise = _sequence(draw)
    h, _, posterior, prior = _parts(answer(model, embed, action, first, noise))
    h = h.detach()
    expect_close(
        prior,
        model.prior(h),
        "the prior at t should be model.prior(h_t)",
        mistakes={
            "this is the posterior: posterior first, prior second, please, and not twice the same": model.posterior(
                h, embed
            ),
            "the prior is one step late": model.prior(_shift(h)),
            "the prior is one step early": model.prior(torch.cat([h[:, 1:], torch.zeros_like(h[:, :1])], 1)),
        },
    )
    expect_close(
        posterior,
        model.posterior(h, embed),
        "the posterior at t should be model.posterior(h_t, embed[:, t])",
        mistakes={"this is the prior: posterior first, prior second": model.prior(h)},
    )


@observe.case("gradients flow back through time", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model, embed, action, first, noise = _sequence(draw)
    given = {"embed": embed.requires_grad_(), "action": action.requires_grad_()}

    def total(answer: Callable) -> Tensor:
        h, z, posterior, prior = _parts(answer(model, embed, action, first, noise))
        return h.square().sum() + z.sum() + posterior.square().sum() + prior.sum()

    likely = "is the state detached between steps?"
    found, right = gradients(total(answer), given, likely), gradients(total(reference.observe), given)
    for name in given:
        expect_close(found[name], right[name], f"part of the gradient does not reach {name}: {likely}")


@observe.case("the order of the batch is kept", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model, embed, action, first, noise = _sequence(draw)
    order = torch.tensor([2, 0, 3, 1], device=draw.device)
    straight = _parts(answer(model, embed, action, first, noise))
    mixed = _parts(answer(model, embed[order], action[order], first[order], noise[order]))
    for a, b in zip(straight, mixed, strict=True):
        expect_close(b, a[order], "rows in another order should give the same results in that order")


@observe.case("sequences of any length, one step included", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for time in (1, 2, 12):
        model, embed, action, first, noise = _sequence(draw, firsts=time > 2, time=time)
        h, z, _, _ = _parts(answer(model, embed, action, first, noise))
        led = torch.where(first[..., None], 0, _shift(action))
        wanted = _walk(model, embed, led, first, noise)
        expect_close(torch.cat([h, z], -1), wanted, f"something goes wrong for {time} steps")


def _normal_kl(q: Tensor, p: Tensor) -> Tensor:
    """KL of Gaussians with parameters (mean, log std) end to end: (..., P) twice to (...)."""
    (mean_q, log_q), (mean_p, log_p) = q.chunk(2, -1), p.chunk(2, -1)
    spread = (2 * (log_q - log_p)).exp() + ((mean_q - mean_p) / log_p.exp()).square()
    return (0.5 * (spread - 1) - (log_q - log_p)).sum(-1)


def _balance_inputs(draw: Draw) -> tuple[Callable, Tensor, Tensor, float, float, float]:
    posterior, prior = draw.normal(5, 4, 6, std=0.5, grad=True), draw.normal(5, 4, 6, std=0.5, grad=True)
    return _normal_kl, posterior, prior, 0.8, 0.2, 0.0


kl_balance = Exercise(
    reference=reference.kl_balance,
    lesson=LESSON,
    points=2,
    minutes=12,
    difficulty=4,
    hints=(
        "There are two KLs of the same value. They differ in what they train: one the prior, the other the posterior.",
        "detach() is the stop. The term with weight dyn may move the prior only; the term with weight rep the "
        "posterior only. Both are KL(posterior || prior), in this order.",
        "For each of the two: kl of (one of them detached), mean over batch and time, then clamp(min=free). Then the "
        "weighted sum.",
    ),
    example=_balance_inputs,
)


@kl_balance.case("its value is the KL, dyn + rep times")
def _(answer: Callable, draw: Draw) -> None:
    kl, posterior, prior, *_ = _balance_inputs(draw)
    value, other = kl(posterior, prior).detach(), kl(prior, posterior).detach()
    expect_close(
        answer(kl, posterior, prior, 0.5, 0.1, 0.0),
        0.6 * value.mean(),
        "both terms are the mean of KL(posterior || prior), weighted with dyn and rep and added",
        mistakes={
            "both KLs are turned around: the posterior comes first": 0.6 * other.mean(),
            "the second KL is turned around: only the stop moves": 0.5 * value.mean() + 0.1 * other.mean(),
            "the first KL is turned around: only the stop moves": 0.5 * other.mean() + 0.1 * value.mean(),
            "summed over batch and time: average": 0.6 * value.sum(),
            "summed over time: average": 0.6 * value.sum(1).mean(),
            "the weights are not used": 2 * value.mean(),
            "the weights are made to add up to 1: take them as they are": value.mean(),
            "dyn is the share, rep is ignored": value.mean() + 0 * value.mean(),
            "the term with rep is missing": 0.5 * value.mean(),
            "the term with dyn is missing": 0.1 * value.mean(),
            "averaged over the two terms: they add": 0.3 * value.mean(),
            "subtracted: the terms add": 0.4 * value.mean(),
        },
    )


@kl_balance.case("dyn moves the prior, rep moves the posterior")
def _(answer: Callable, draw: Draw) -> None:
    kl, posterior, prior, dyn, rep, _ = _balance_inputs(draw)
    grads = gradients(
        answer(kl, posterior, prior, dyn, rep, 0.0),
        {"posterior": posterior, "prior": prior},
        "each of the two is stopped in one term only; is the wrong one, or the KL itself, detached?",
    )
    whole = gradients(kl(posterior, prior).mean(), {"posterior": posterior, "prior": prior})
    for name, weight, swapped in (("prior", dyn, rep), ("posterior", rep, dyn)):
        expect_close(
            grads[name],
            weight * whole[name],
            f"the gradient that reaches the {name} should be {weight} of the KL's",
            tolerance=1e-5,
            mistakes={
                f"the stops are swapped: {swapped} of the gradient reaches the {name}": swapped * whole[name],
                f"nothing is stopped: all of the gradient reaches the {name}": (dyn + rep) * whole[name],
                f"the {name} is stopped in both terms": 0 * whole[name],
            },
        )


@kl_balance.case("below the floor a term costs free nats and pulls at nothing")
def _(answer: Callable, draw: Draw) -> None:
    kl, posterior, prior, *_ = _balance_inputs(draw)
    dyn, rep = 0.5, 0.1
    value = kl(posterior, prior).detach()
    free = value.mean().item() * 1.5
    try:
        cost = answer(kl, posterior, prior, dyn, rep, free)
    except Mistake as mistake:
        if not mistake.came.startswith("a float"):
            raise
        likely = "max(free, ...) hands back free itself, a Python float without a gradient: use clamp(min=free)"
        if mistake.came == describe(free):
            likely += "; and the floor stands under the weighted sum: put one under each term"
        raise Mistake(likely, came=mistake.came) from None
    expect_close(
        cost,
        torch.tensor((dyn + rep) * free, device=draw.device),
        "where the mean KL is below free, each term counts as free times its weight",
        mistakes={
            "the floor is not used": (dyn + rep) * value.mean(),
            "free nats are taken off: below the floor the KL counts as free, not as 0": 0 * value.mean(),
            "the floor stands under each entry: average over batch and time first": (dyn + rep)
            * value.clamp(min=free).mean(),
            "the floor stands under the weighted sum: put one under each term": ((dyn + rep) * value.mean()).clamp(
                min=free
            ),
        },
    )
    if cost.requires_grad:
        grads = torch.autograd.grad(cost, [posterior, prior], allow_unused=True)
        for grad in grads:
            likely = "below the floor the KL should be left in peace, with a gradient of 0"
            expect(grad is None or not _moved(grad, 0 * grad), likely, "a gradient")


@kl_balance.case("above the floor the floor changes nothing")
def _(answer: Callable, draw: Draw) -> None:
    kl, posterior, prior, *_ = _balance_inputs(draw)
    dyn, rep = 0.5, 0.1
    value = kl(posterior, prior).detach()
    free = value.mean().item() * 0.9
    expect_close(
        answer(kl, posterior, prior, dyn, rep, free),
        (dyn + rep) * value.mean(),
        "where the mean KL is above free, free should not be seen",
        mistakes={
            "the floor stands under each entry: average over batch and time first": (dyn + rep)
            * value.clamp(min=free).mean(),
            "free nats are taken off: the floor is a maximum of the two": (dyn + rep) * (value.mean() - free),
            "the floor stands under the weighted sum: put one under each term": ((dyn + rep) * value.mean()).clamp(
                min=free
            ),
            "this is a ceiling: the floor is the larger of the two": torch.tensor((dyn + rep) * free),
            "the floor stands under each sequence: average over the batch, too, first": (dyn + rep)
            * value.mean(1).clamp(min=free).mean(),
            "the floor stands under each step: average over time, too, first": (dyn + rep)
            * value.mean(0).clamp(min=free).mean(),
        },
    )


@kl_balance.case("with dyn and rep far apart the floors are still two", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    kl, posterior, prior, *_ = _balance_inputs(draw)
    value = kl(posterior, prior).mean().detach()
    for dyn, rep, free in ((1.0, 0.0, 0.0), (0.0, 1.0, 2.0 * value.item()), (0.3, 2.0, 0.5 * value.item())):
        wanted = (dyn + rep) * value.clamp(min=free)
        expect_close(answer(kl, posterior, prior, dyn, rep, free), wanted, f"at dyn {dyn}, rep {rep}, free {free:.2f}")


@kl_balance.case("the KL is the one it is handed", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    q, p = draw.normal(7, 4, grad=True), draw.normal(7, 4, grad=True)

    def odd(posterior: Tensor, prior: Tensor) -> Tensor:
        return (posterior - 2 * prior + 0.5).square().sum(-1)

    wanted = reference.kl_balance(odd, q, p, 0.7, 0.4, 0.0)
    value = answer(odd, q, p, 0.7, 0.4, 0.0)
    expect_close(value, wanted.detach(), "kl(posterior, prior) is to be called, whatever it computes")
    grads, right = gradients(value, {"posterior": q, "prior": p}), gradients(wanted, {"posterior": q, "prior": p})
    for name in right:
        expect_close(grads[name], right[name], f"part of the gradient does not reach the {name}")


def _loss_inputs(draw: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, float]:
    """log_obs, log_reward, log_continue, kl, known, beta."""
    known = 1 - _few_firsts(draw, 4, 6).float()
    known[:, 0] = 0
    logs = (draw.normal(4, 6, mean=mean, std=std, grad=True) for mean, std in ((-9, 3), (-2, 1), (-0.8, 0.3)))
    log_obs, log_reward, log_continue = logs
    return log_obs, log_reward, log_continue, draw.uniform(low=2, high=4, grad=True), known, 0.7


rssm_loss = Exercise(
    reference=reference.rssm_loss,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "A loss falls when a log-likelihood grows. Which terms are likelihoods, and which one is a price?",
        "Every observation is to be drawn, the first of an episode included. A reward and an end can only be asked for "
        "where the step that led to the observation is in the window: there known is 1.",
        "Add log_obs and known times the two others, take the mean over batch and time, turn the sign around, add "
        "beta times kl.",
    ),
    example=_loss_inputs,
)


@rssm_loss.case("likelihoods are rewarded, the KL is paid for")
def _(answer: Callable, draw: Draw) -> None:
    *tensors, beta = _loss_inputs(draw)
    log_obs, log_reward, log_continue, kl, known = (x.detach() for x in tensors)
    known = torch.ones_like(known)
    o, r, c = log_obs.mean(), log_reward.mean(), log_continue.mean()
    expect_close(
        answer(log_obs, log_reward, log_continue, kl, known, beta),
        beta * kl - o - r - c,
        "where every step is known, the loss is beta KL less the mean of the three log-likelihoods",
        mistakes={
            "the sign is turned around: a likely frame should cost little": o + r + c - beta * kl,
            "the KL is rewarded: it is a price": -beta * kl - o - r - c,
            "the likelihoods are added, not subtracted: a likely frame should cost little": beta * kl + o + r + c,
            "beta is not used": kl - o - r - c,
            "beta prices the frame: it belongs to the KL": kl - beta * o - r - c,
            "beta prices all likelihoods: it belongs to the KL": kl - beta * (o + r + c),
            "beta prices everything: it belongs to the KL alone": beta * (kl - o - r - c),
            "the KL is missing": -o - r - c,
            "the reward is missing": beta * kl - o - c,
            "the continuation is missing": beta * kl - o - r,
            "the frame is missing": beta * kl - r - c,
            "the reward's sign is turned around": beta * kl - o + r - c,
            "the continuation's sign is turned around": beta * kl - o - r + c,
            "summed over batch and time: average": beta * kl - 24 * (o + r + c),
            "summed over time: average over both": beta * kl - 6 * (o + r + c),
            "summed over the batch: average over both": beta * kl - 4 * (o + r + c),
            "the three likelihoods are averaged: they add": beta * kl - (o + r + c) / 3,
        },
    )


@rssm_loss.case("a first observation has no reward and no end, but it has a picture")
def _(answer: Callable, draw: Draw) -> None:
    *tensors, beta = _loss_inputs(draw)
    log_obs, log_reward, log_continue, kl, known = (x.detach() for x in tensors)
    o, r, c, n = log_obs, log_reward, log_continue, known
    share = n.mean()
    expect_close(
        answer(o, r, c, kl, n, beta),
        beta * kl - (o + n * (r + c)).mean(),
        "known masks reward and continuation, and nothing else; the average runs over all times",
        mistakes={
            "known is not used: a first observation has no reward": beta * kl - (o + r + c).mean(),
            "the frame is masked, too: a first frame is to be drawn like any other": beta * kl
            - (n * (o + r + c)).mean(),
            "only the reward is masked: no end can be foretold there either": beta * kl - (o + n * r + c).mean(),
            "only the continuation is masked: there is no reward there either": beta * kl - (o + r + n * c).mean(),
            "known is turned around": beta * kl - (o + (1 - n) * (r + c)).mean(),
            "everything is averaged over the known steps only": beta * kl - (n * (o + r + c)).sum() / n.sum(),
            "reward and continuation are averaged over the known steps only: divide by all B T": beta * kl
            - o.mean()
            - (n * (r + c)).mean() / share,
            "only the frame is masked: known is about reward and end": beta * kl - (n * o + r + c).mean(),
            "known weighs the KL, too: it is an average already": share * beta * kl - (o + n * (r + c)).mean(),
        },
    )


@rssm_loss.case("every log-likelihood pulls with the weight of its share")
def _(answer: Callable, draw: Draw) -> None:
    log_obs, log_reward, log_continue, kl, known, beta = _loss_inputs(draw)
    given = {"log_obs": log_obs, "log_reward": log_reward, "log_continue": log_continue, "kl": kl}
    grads = gradients(answer(log_obs, log_reward, log_continue, kl, known, beta), given)
    wanted = {
        "log_obs": torch.full_like(log_obs, -1 / 24),
        "log_reward": -known / 24,
        "log_continue": -known / 24,
        "kl": torch.tensor(beta, device=draw.device),
    }
    for name, right in wanted.items():
        expect_close(grads[name], right, f"d loss / d {name} has another size than its share", tolerance=1e-5)


@rssm_loss.case("beta is the price of a nat, whatever it is", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    *logs, kl, known, _ = _loss_inputs(draw)
    free = answer(*logs, kl, known, 0.0).detach()
    for beta in (0.1, 1.0, 2.5):
        expect_close(answer(*logs, kl, known, beta), free + beta * kl.detach(), f"something goes wrong at beta {beta}")


@rssm_loss.case("twice the batch, or twice the time, costs the same", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    *logs, kl, known, beta = _loss_inputs(draw)
    once = answer(*logs, kl, known, beta).detach()
    for axis in (0, 1):
        twice = [torch.cat([x, x], axis) for x in (*logs, known)]
        likely = "a batch seen twice should cost what it costs once: which axis is summed?"
        expect_close(answer(*twice[:3], kl, twice[3], beta), once, likely)


H = 5  # horizon of the cases


def _dream_inputs(draw: Draw) -> tuple[Toy, Pair, Tensor, Tensor]:
    """Model, state, actions, noise."""
    return Toy(draw), (draw.normal(4, D), draw.normal(4, S)), draw.normal(4, H, A), draw.normal(4, H, S)


def _dream(model: Toy, state: Pair, actions: Tensor, noise: Tensor) -> Tensor:
    """h and z after each action, (B, H, D + S)."""
    out = []
    for k in range(noise.shape[1]):
        h = model.transition(*state, actions[:, k])
        state = (h, model.draw(model.prior(h), noise[:, k]))
        out.append(torch.cat(state, -1))
    return torch.stack(out, 1)


def _policy(draw: Draw) -> Callable[[Tensor], Tensor]:
    weight = draw.normal(D + S, A)
    return lambda features: torch.tanh(features @ weight)


imagine_ahead = Exercise(
    reference=reference.imagine_ahead,
    lesson=LESSON,
    points=3,
    minutes=15,
    difficulty=4,
    hints=(
        "The same loop as observe without observations. Where does z come from, if nothing is seen?",
        "In each step: choose the action in the state you have, move h on, draw z from the prior of the new h. The "
        "start is given, not dreamed: it is not part of the result.",
        "k counts the noise's steps. actions[:, k] for a tensor; for a policy, policy(cat of h and z along the last "
        "axis), asked before h moves. "
        "Collect h, z and actions in lists; stack each along axis 1.",
    ),
    example=_dream_inputs,
)


@imagine_ahead.case("one step: act, move h, draw z from the prior")
def _(answer: Callable, draw: Draw) -> None:
    model, (h, z), actions, noise = _dream_inputs(draw)
    actions, noise = actions[:, :1], noise[:, :1]
    (deter, stoch), _ = answer(model, (h, z), actions, noise)
    new = model.transition(h, z, actions[:, 0])
    none = torch.zeros_like
    expect_close(
        deter[:, 0],
        new,
        "h should be model.transition of the start's h and z and the first action",
        mistakes={
            "this is the start: the result begins after the first action": h,
            "the action is left out": model.transition(h, z, none(actions[:, 0])),
            "z is left out": model.transition(h, none(z), actions[:, 0]),
            "z is drawn before h moves: draw it from the prior of the new h": model.transition(
                h, model.draw(model.prior(h), noise[:, 0]), actions[:, 0]
            ),
            "the start is forgotten: dream on from it": model.transition(none(h), none(z), actions[:, 0]),
        },
    )
    params = model.prior(new)
    expect_close(
        stoch[:, 0],
        model.draw(params, noise[:, 0]),
        "z should be drawn from the prior of the new h, with the noise given",
        mistakes={
            "the noise is not used: this is the prior's mean": params.chunk(2, -1)[0],
            "drawn from the prior of the old h": model.draw(model.prior(h), noise[:, 0]),
            "this is the start's z": z,
            "drawn from a posterior that saw nothing": model.draw(
                model.posterior(new, torch.zeros(4, E, device=draw.device)), noise[:, 0]
            ),
        },
    )


@imagine_ahead.case("each state follows from the one dreamed before")
def _(answer: Callable, draw: Draw) -> None:
    model, state, actions, noise = _dream_inputs(draw)
    (deter, stoch), taken = answer(model, state, actions, noise)
    right = _dream(model, state, actions, noise)
    restarted = [_dream(model, state, actions[:, [k]], noise[:, [k]]) for k in range(H)]
    expect_close(
        torch.cat([deter, stoch], -1),
        right,
        f"{H} steps, each from the state before, with the action and the noise of its own step",
        mistakes={
            "the start is part of the result, and the last state is missing": torch.cat(
                [torch.cat(state, -1)[:, None], right[:, :-1]], 1
            ),
            "every step starts from the start: hand the state on": torch.cat(restarted, 1),
            "the first action is taken at every step": _dream(model, state, actions[:, :1].expand_as(actions), noise),
            "the actions are one step late: actions[:, 0] is taken in the start": _dream(
                model, state, _shift(actions), noise
            ),
            "the actions are one step early: actions[:, 0] is taken in the start": _dream(
                model, state, torch.cat([actions[:, 1:], 0 * actions[:, :1]], 1), noise
            ),
            "the actions are one step early: actions[:, 0] acts on the start": _dream(
                model, state, actions.roll(-1, 1), noise
            ),
            "the actions run backwards": _dream(model, state, actions.flip(1), noise),
            "one noise for all steps": _dream(model, state, actions, noise[:, :1].expand_as(noise)),
            "the noise is not used": _dream(model, state, actions, 0 * noise),
        },
    )
    expect_close(taken, actions, "the second result should be the actions that were taken")


@imagine_ahead.case("a policy acts in the state that it sees")
def _(answer: Callable, draw: Draw) -> None:
    model, state, _, noise = _dream_inputs(draw)
    policy = _policy(draw)

    def play(view: Callable[[Pair], Tensor], again: bool = True) -> tuple[Tensor, Tensor]:
        """The dream when the policy is asked about view(state): features and actions."""
        now, seen, out, did = state, view(state), [], []
        for k in range(H):
            seen = view(now) if again else seen
            did.append(policy(seen))
            h = model.transition(*now, did[-1])
            now = (h, model.draw(model.prior(h), noise[:, k]))
            out.append(torch.cat(now, -1))
        return torch.stack(out, 1), torch.stack(did, 1)

    def both(pair: Pair) -> Tensor:
        return torch.cat(pair, -1)

    dreamed, did = play(both)
    (deter, stoch), taken = answer(model, state, policy, noise)
    expect_close(
        taken,
        did,
        "actions[:, k] should be policy(features of the state in which it is taken), features being h and z end to end",
        mistakes={
            "the policy is asked about the start only": play(both, again=False)[1],
            "the policy gets z and h: h comes first": play(lambda pair: torch.cat(pair[::-1], -1))[1],
            "the policy is asked about the state after: actions[:, 0] is taken in the start": policy(dreamed),
            "the policy gets only h: where is z?": play(lambda p: torch.cat([p[0], 0 * p[1]], -1))[1],
        },
    )
    expect_close(torch.cat([deter, stoch], -1), dreamed, "the policy's actions should drive the dream")


@imagine_ahead.case("gradients flow through the whole dream", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model, state, actions, noise = _dream_inputs(draw)
    given = {"deter": state[0], "stoch": state[1], "actions": actions}
    for x in given.values():
        x.requires_grad_()
    scale = draw.normal(1, grad=True)

    def total(answer: Callable, acts: Any) -> Tensor:
        (h, z), taken = answer(model, state, acts, noise)
        return h.square().sum() + z[:, -1].sum() + taken.square().sum()

    likely = "is the state detached between steps, or the dream made under no_grad?"
    found = gradients(total(answer, actions), given, likely)
    right = gradients(total(reference.imagine_ahead, actions), given)
    for name in given:
        expect_close(found[name], right[name], f"part of the gradient does not reach {name}: {likely}")
    policy = _policy(draw)

    def scaled(features: Tensor) -> Tensor:
        return scale * policy(features)

    grad = gradients(total(answer, scaled), {"the policy": scale}, likely)["the policy"]
    wanted = gradients(total(reference.imagine_ahead, scaled), {"the policy": scale})["the policy"]
    likely = "part of the gradient does not reach the policy: are its actions, or what it looks at, detached?"
    expect_close(grad, wanted, likely)


@imagine_ahead.case("the dream ends where the noise ends, even if more actions are given")
def _(answer: Callable, draw: Draw) -> None:
    model, state, _, noise = _dream_inputs(draw)
    more = draw.normal(4, H + 3, A)
    (deter, stoch), taken = answer(model, state, more, noise)
    wanted = _dream(model, state, more[:, :H], noise)
    expect_close(torch.cat([deter, stoch], -1), wanted, f"{H} of {H + 3} actions should be taken, from the first on")
    likely = "the actions that were taken are asked for, not those that were left over"
    expect_close(taken, more[:, :H], likely)


@imagine_ahead.case("a policy dreams as far as the noise goes", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    model, state, _, _ = _dream_inputs(draw)
    policy = _policy(draw)
    for horizon in (1, 2, 11):
        noise = draw.normal(4, horizon, S)
        (deter, stoch), taken = answer(model, state, policy, noise)
        wanted = _dream(model, state, taken.detach(), noise)
        expect_close(torch.cat([deter, stoch], -1), wanted, f"something goes wrong for a horizon of {horizon}")
