"""Lesson 11's exercises: a step of a dream, its return, its gradient by hand, and the losses of actor and critic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wmcourse import behavior, linear_quadratic
from wmcourse import dreamer as reference
from wmcourse.exercises.rssm import A, D, S, Toy
from wmcourse.grading.exercise import Draw, Exercise, Mistake
from wmcourse.grading.expect import expect, expect_close, gradients

LESSON = "11_dreamer"
Pair = tuple[Tensor, Tensor]


def _step_inputs(draw: Draw) -> tuple[Toy, Pair, Tensor, Tensor]:
    """Model, state, action, noise."""
    return Toy(draw), (draw.normal(6, D), draw.normal(6, S)), draw.normal(6, A), draw.normal(6, S)


dream_step = Exercise(
    reference=reference.dream_step,
    lesson=LESSON,
    points=2,
    minutes=6,
    difficulty=2,
    hints=(
        "It is lesson 07's step with the eyes closed. Which of the two distributions of z is left?",
        "First h moves on, by the old h, the old z and the action. Then z is drawn, given the new h and nothing else.",
        "model.transition gives the new h; model.prior of it gives parameters; model.draw makes z of these and noise.",
    ),
    example=_step_inputs,
)


@dream_step.case("h moves on by h, z and the action")
def _(answer: Callable, draw: Draw) -> None:
    model, (h, z), action, noise = _step_inputs(draw)
    deter, _ = answer(model, (h, z), action, noise)
    expect_close(
        deter,
        model.transition(h, z, action),
        "h should be model.transition of the old h, the old z and the action",
        mistakes={
            "h did not move": h,
            "the action is left out": model.transition(h, z, 0 * action),
            "the old z is left out": model.transition(h, 0 * z, action),
            "z is drawn before h moves: it is drawn from the prior of the new h": model.transition(
                h, model.draw(model.prior(h), noise), action
            ),
        },
    )


@dream_step.case("z is drawn from the prior of the new h")
def _(answer: Callable, draw: Draw) -> None:
    model, (h, z), action, noise = _step_inputs(draw)
    _, stoch = answer(model, (h, z), action, noise)
    new = model.transition(h, z, action)
    blind = torch.zeros(len(h), 4, device=draw.device)
    expect_close(
        stoch,
        model.draw(model.prior(new), noise),
        "z should be model.draw of the prior of the new h, with the noise given",
        mistakes={
            "z did not move": z,
            "drawn from the prior of the old h": model.draw(model.prior(h), noise),
            "the noise is not used: this is the prior's mean": model.draw(model.prior(new), 0 * noise),
            "drawn from a posterior that saw nothing: in a dream there is no observation": model.draw(
                model.posterior(new, blind), noise
            ),
        },
    )


@dream_step.case("the gradient of the next state reaches action, h and z")
def _(answer: Callable, draw: Draw) -> None:
    model, state, action, noise = _step_inputs(draw)
    given = {"the action": action, "h": state[0], "z": state[1]}
    for x in given.values():
        x.requires_grad_()
    weight = draw.normal(6, D + S)
    steps: tuple[Callable, Callable] = (answer, reference.dream_step)
    found, right = (
        gradients((torch.cat([*step(model, state, action, noise)], -1) * weight).sum(), given, LOST) for step in steps
    )
    for name, wanted in right.items():
        expect_close(found[name], wanted, f"part of the gradient does not reach {name}: {LOST}")


LOST = "is something detached, or made under no_grad? The actor learns by this very gradient"
H = 7


def _return_inputs(draw: Draw, steps: int = H) -> tuple[Tensor, Tensor, Tensor, float]:
    """Reward, value, discount, decay; value and discount far apart, so that no index can be mistaken."""
    reward, value = draw.normal(5, steps, std=2.0, grad=True), draw.normal(5, steps, std=3.0, grad=True)
    discount = draw.uniform(5, steps, low=0.3, high=0.99).requires_grad_()
    return reward, value, discount, float(draw.uniform(1, low=0.2, high=0.9))


def _by_loop(reward: Tensor, value: Tensor, discount: Tensor, decay: float, last: Tensor | None = None) -> Tensor:
    following, out = value[:, -1] if last is None else last, []
    for k in reversed(range(reward.shape[1])):
        following = reward[:, k] + discount[:, k] * ((1 - decay) * value[:, k] + decay * following)
        out.append(following)
    return torch.stack(out[::-1], 1)


def _ahead(x: Tensor) -> Tensor:
    """One column to the left, the last one twice: x[:, k + 1] at k."""
    return torch.cat([x[:, 1:], x[:, -1:]], 1)


def _behind(x: Tensor) -> Tensor:
    """One column to the right, the first one twice."""
    return torch.cat([x[:, :1], x[:, :-1]], 1)


BACKWARDS = "the returns run backwards: turn the list around"
LAST_IS_VALUE = "the last column is the critic's value itself: R_{H-1}, too, is a reward and what comes after it"
DOUBLE = "double in, double out: a buffer made without dtype= is float32, so use zeros_like, new_zeros or a list"


lambda_return = Exercise(
    reference=behavior.lambda_return,
    lesson=LESSON,
    points=3,
    minutes=15,
    difficulty=4,
    hints=(
        "Write R_{H-1} down first: after it only v_H is known. Then R_{H-2} with it. Which way does the loop run?",
        "A variable holds the return of the state after; before the loop it is the critic's word on the last state. "
        "Each turn mixes it with the critic's value of the same state, discounts, and adds the reward.",
        "Loop over k from the last column to the first; value[:, k] already belongs to s_{k+1}. Collect in a list, "
        "turn the list around, stack along axis 1.",
    ),
    example=_return_inputs,
)


@lambda_return.case("lambda = 0: one reward, then the critic")
def _(answer: Callable, draw: Draw) -> None:
    reward, value, discount, _ = _return_inputs(draw)
    expect_close(
        answer(reward, value, discount, 0.0),
        reward + discount * value,
        "R_k should be r_k + d_k v_{k+1}, and v_{k+1} is in column k",
        mistakes={
            "column k + 1 of value is taken: value[:, k] already belongs to s_{k+1}": reward + discount * _ahead(value),
            "value is shifted to the past: value[:, k] already belongs to s_{k+1}": reward + discount * _behind(value),
            "the critic's word is not discounted": reward + value,
            "the discount of another step": reward + _ahead(discount) * value,
            "the reward is discounted, too": discount * (reward + value),
            "lambda and 1 - lambda have changed places: this adds up the whole dream": _by_loop(
                reward, value, discount, 1.0
            ),
            "the critic is not asked": reward,
            "the last state's value stands for every other's": reward + discount * value[:, -1:],
            LAST_IS_VALUE: torch.cat([(reward + discount * value)[:, :-1], value[:, -1:]], 1),
            BACKWARDS: (reward + discount * value).flip(1),
        },
    )


@lambda_return.case("lambda = 1: every reward, and the critic at the very end")
def _(answer: Callable, draw: Draw) -> None:
    reward, value, discount, _ = _return_inputs(draw)
    right = _by_loop(reward, value, discount, 1.0)
    but_last = reward[:, :-1], value[:, :-1], discount[:, :-1]
    expect_close(
        answer(reward, value, discount, 1.0),
        right,
        "R_k should be r_k + d_k R_{k+1}, and at the end R_H = v_H",
        mistakes={
            "nothing comes after the dream: begin with the critic's value of the last state": _by_loop(
                reward, value, discount, 1.0, torch.zeros_like(value[:, 0])
            ),
            "begun with the last reward instead of the last value": _by_loop(
                reward, value, discount, 1.0, reward[:, -1]
            ),
            "the last value is counted twice, or discounted twice": _by_loop(
                reward, value, discount, 1.0, discount[:, -1] * value[:, -1]
            ),
            LAST_IS_VALUE: torch.cat([_by_loop(*but_last, 1.0, value[:, -1]), value[:, -1:]], 1),
            BACKWARDS: right.flip(1),
            "the loop runs from the first step on: the return of s_k needs that of s_{k+1}": _by_loop(
                reward.flip(1), value.flip(1), discount.flip(1), 1.0
            ).flip(1),
            "this is one step only": reward + discount * value,
            "the discount is not used": _by_loop(reward, value, torch.ones_like(discount), 1.0),
            "every step has the first step's discount": _by_loop(
                reward, value, discount[:, :1].expand_as(discount), 1.0
            ),
        },
    )


@lambda_return.case("between them, the mix")
def _(answer: Callable, draw: Draw) -> None:
    reward, value, discount, decay = _return_inputs(draw)
    expect_close(
        answer(reward, value, discount, decay),
        _by_loop(reward, value, discount, decay),
        "R_k should be r_k + d_k ((1 - lambda) v_{k+1} + lambda R_{k+1})",
        mistakes={
            "lambda and 1 - lambda have changed places": _by_loop(reward, value, discount, 1 - decay),
            "the critic's share is not 1 - lambda: the two shares should add up to 1": _unshared(
                reward, value, discount, decay
            ),
            "lambda is not used: this is lambda = 1": _by_loop(reward, value, discount, 1.0),
            "lambda is not used: this is lambda = 0": _by_loop(reward, value, discount, 0.0),
            "only R_{k+1} is discounted: the critic's share is, too": _half(reward, value, discount, decay),
            "the last return is mixed twice: at the end R_H is v_H": _by_loop(
                reward, value, discount, decay, decay * value[:, -1]
            ),
        },
    )


def _unshared(reward: Tensor, value: Tensor, discount: Tensor, decay: float) -> Tensor:
    following, out = value[:, -1], []
    for k in reversed(range(reward.shape[1])):
        following = reward[:, k] + discount[:, k] * (value[:, k] + decay * following)
        out.append(following)
    return torch.stack(out[::-1], 1)


def _half(reward: Tensor, value: Tensor, discount: Tensor, decay: float) -> Tensor:
    following, out = value[:, -1], []
    for k in reversed(range(reward.shape[1])):
        following = reward[:, k] + (1 - decay) * value[:, k] + discount[:, k] * decay * following
        out.append(following)
    return torch.stack(out[::-1], 1)


@lambda_return.case("behind an end nothing counts")
def _(answer: Callable, draw: Draw) -> None:
    *parts, decay = _return_inputs(draw)
    reward, value, discount = (x.detach() for x in parts)
    discount[:, 3] = 0
    right = _by_loop(reward, value, discount, decay)
    later = torch.arange(H, device=draw.device)
    changed = answer(reward + 9 * (later > 3), value + 9 * (later >= 3), discount, decay)
    likely = "discount[:, 3] is 0: what comes after step 3 should not move R_0 to R_3; is another step's discount used?"
    expect_close(changed[:, :4], right[:, :4], likely)


@lambda_return.case("double precision stays double")
def _(answer: Callable, draw: Draw) -> None:
    reward, value, discount, decay = _return_inputs(draw)
    parts = reward.detach().double(), value.detach().double(), discount.detach().double()
    expect_close(answer(*parts, decay), _by_loop(*parts, decay), DOUBLE, tolerance=1e-9)


@lambda_return.case("gradients reach every reward, value and discount")
def _(answer: Callable, draw: Draw) -> None:
    reward, value, discount, decay = _return_inputs(draw)
    given = {"reward": reward, "value": value, "discount": discount}
    weight = draw.normal(5, H)
    found = gradients((answer(reward, value, discount, decay) * weight).sum(), given)
    right = gradients((_by_loop(reward, value, discount, decay) * weight).sum(), given)
    for name, wanted in right.items():
        expect_close(found[name], wanted, f"part of the gradient does not reach {name}: what is detached on the way?")


@lambda_return.case("any horizon", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for steps in (1, 2, 31):
        reward, value, discount, decay = _return_inputs(draw, steps)
        wanted = _by_loop(reward, value, discount, decay)
        expect_close(answer(reward, value, discount, decay), wanted, f"something goes wrong for a horizon of {steps}")


@lambda_return.case("rows do not see each other", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    reward, value, discount, decay = _return_inputs(draw)
    alone = answer(reward[2:3], value[2:3], discount[2:3], decay)
    together = answer(reward, value, discount, decay)[2:3]
    expect_close(together, alone.detach(), "a dream should return the same, whatever is dreamed beside it")


Linear = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, float]


def _linear_inputs(draw: Draw, horizon: int = 6) -> Linear:
    """Dynamics, control, costs, gain, start, horizon and gamma of a world of 3 numbers and 2 actions."""
    dynamics = torch.eye(3, device=draw.device) + draw.normal(3, 3, std=0.2)
    costs = [0.3 * torch.eye(n, device=draw.device) + x @ x.T / n for n, x in ((n, draw.normal(n, n)) for n in (3, 2))]
    gain, start = draw.normal(2, 3, std=0.4), draw.normal(3)
    gamma = float(draw.uniform(1, low=0.7, high=0.95))
    return dynamics, draw.normal(3, 2, std=0.5), costs[0], costs[1], gain, start, horizon, gamma


def _linear_return(
    dynamics: Tensor,
    control: Tensor,
    state_cost: Tensor,
    action_cost: Tensor,
    gain: Tensor,
    start: Tensor,
    horizon: int,
    gamma: float,
    *,
    open_loop: bool = False,
    undiscounted: bool = False,
    late: bool = False,
    transposed: bool = False,
) -> Tensor:
    """The return of one trajectory, in double precision; with the mistakes that are easily made."""
    total, state = start.new_zeros((), dtype=torch.float64), start.double()
    for k in range(horizon):
        action = gain @ (state.detach() if open_loop else state)
        moved = dynamics.double() @ state
        if transposed:  # the same number, with the gradient of the transpose
            moved = dynamics.double().T @ state + (moved - dynamics.double().T @ state).detach()
        following = moved + control.double() @ action
        paid = state if late else following
        cost = paid @ state_cost.double() @ paid + action @ action_cost.double() @ action
        total = total - (1.0 if undiscounted else gamma**k) * cost
        state = following
    return total


def _slope(inputs: Linear, **changed: bool) -> Tensor:
    gain = inputs[4].detach().double().requires_grad_()
    value = _linear_return(*inputs[:4], gain, *inputs[5:], **changed)
    return torch.autograd.grad(value, gain)[0].float()


trajectory_gradient = Exercise(
    reference=linear_quadratic.trajectory_gradient,
    lesson=LESSON,
    points=4,
    minutes=25,
    difficulty=5,
    hints=(
        "Walk forward once and keep every state. Then walk back, and carry one vector with you: how J changes when the "
        "state you stand in is nudged.",
        "Standing between s_{k+1} and s_k: s_{k+1} is paid for itself, and carries what comes later. Through B it "
        "answers to a_k, which has a price of its own. a_k answers to K through s_k. And s_k? It moves s_{k+1} through "
        "A, and a_k through the policy.",
        "by_next = carried - 2 gamma^k Q s_{k+1}; by_action is Bᵀ by_next less what a_k costs at the margin; add the "
        "outer product of by_action and s_k. The new carried has two parts, one through Aᵀ and one through Kᵀ.",
    ),
    example=_linear_inputs,
)


@trajectory_gradient.case("one step, by hand")
def _(answer: Callable, draw: Draw) -> None:
    inputs = _linear_inputs(draw, 1)
    dynamics, control, state_cost, action_cost, gain, start, _, _ = inputs
    following = dynamics @ start + control @ (gain @ start)
    by_state, by_cost = control.T @ state_cost @ following, action_cost @ gain @ start
    right = -2 * torch.outer(by_state + by_cost, start)
    expect_close(
        answer(*inputs),
        right,
        "with H = 1, J = -(s_1ᵀ Q s_1 + a_0ᵀ R a_0), s_1 = A s_0 + B K s_0; what is dJ/dK?",
        mistakes={
            "the sign: this is the gradient of the cost, and J is minus that": -right,
            "a factor 2 is missing: the costs are squares": right / 2,
            "a factor 2 is missing where the action costs": -torch.outer(2 * by_state + by_cost, start),
            "a factor 2 is missing where the state costs": -torch.outer(by_state + 2 * by_cost, start),
            "what the action costs is left out": -2 * torch.outer(by_state, start),
            "what the action does to s_1 is left out": -2 * torch.outer(by_cost, start),
            "a step is missing: H actions are taken": torch.zeros_like(right),
            "a step too many: H actions are taken": _slope((*inputs[:6], 2, inputs[7])),
            "gamma has one power too many: r_0 counts in full": inputs[7] * right,
            "s_0 is paid instead of s_1": -2 * torch.outer(control.T @ state_cost @ start + by_cost, start),
            "the outer product is with s_1: a_0 = K s_0": -2 * torch.outer(by_state + by_cost, following),
        },
    )


@trajectory_gradient.case("the whole way back")
def _(answer: Callable, draw: Draw) -> None:
    inputs = _linear_inputs(draw)
    expect_close(
        answer(*inputs),
        _slope(inputs),
        "H steps back: what is carried from s_{k+1} to s_k?",
        mistakes={
            "a nudge of s_k also changes what the policy does in it: carry Kᵀ dJ/da_k along": _slope(
                inputs, open_loop=True
            ),
            "the discount is left out: r_k counts gamma^k": _slope(inputs, undiscounted=True),
            "s_k is paid at step k: r_k is paid for s_{k+1}": _slope(inputs, late=True),
            "the sign: this is the gradient of the cost": -_slope(inputs),
            "only the last step is looked at": _slope(inputs) - _slope((*inputs[:6], inputs[6] - 1, inputs[7])),
            "back through A goes its transpose: s_{k+1} = A s_k, so dJ/ds_k takes Aᵀ": _slope(inputs, transposed=True),
            "nothing is carried: each step is blamed for its own costs alone": _no_carry(inputs),
        },
        tolerance=1e-3,
    )


def _no_carry(inputs: Linear) -> Tensor:
    dynamics, control, state_cost, action_cost, gain, state, horizon, gamma = inputs
    total = torch.zeros_like(gain)
    for k in range(horizon):
        action = gain @ state
        following = dynamics @ state + control @ action
        by_action = -2 * gamma**k * (control.T @ state_cost @ following + action_cost @ action)
        total, state = total + torch.outer(by_action, state), following
    return total


@trajectory_gradient.case("double precision stays double")
def _(answer: Callable, draw: Draw) -> None:
    *parts, horizon, gamma = inputs = _linear_inputs(draw)
    found = answer(*(x.double() for x in parts), horizon, gamma)
    expect_close(found.float(), _slope(inputs), DOUBLE, tolerance=1e-5)


@trajectory_gradient.case("it is the slope of the return: finite differences")
def _(answer: Callable, draw: Draw) -> None:
    inputs = _linear_inputs(draw, 9)

    def value(gain: Tensor) -> Tensor:
        return _linear_return(*inputs[:4], gain, *inputs[5:])

    wanted = linear_quadratic.finite_differences(value, inputs[4].double(), 1e-5).float()
    likely = "nudge one entry of K by 1e-5 and see how J moves: the gradient says something else"
    expect_close(answer(*inputs), wanted, likely, tolerance=1e-3)


@trajectory_gradient.case("any horizon, any discount", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for horizon, gamma in ((2, 0.5), (15, 1.0), (12, 0.9)):
        inputs = (*_linear_inputs(draw, horizon)[:7], gamma)
        likely = f"something goes wrong for H = {horizon}, gamma = {gamma}"
        expect_close(answer(*inputs), _slope(inputs), likely, tolerance=1e-3)


@trajectory_gradient.case("one number, one action", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    dynamics, control, state_cost, action_cost, gain = (draw.uniform(1, 1, low=0.2, high=1.1) for _ in range(5))
    inputs = dynamics, control, state_cost, action_cost, -gain, draw.normal(1), 8, 0.9
    expect_close(answer(*inputs), _slope(inputs), "something goes wrong where S = A = 1", tolerance=1e-3)


def _loss_inputs(draw: Draw) -> tuple[Tensor, ...]:
    """Returns, baseline, log_prob, entropy, weight, scale, and the bonus."""
    parts = [draw.normal(4, H, mean=mean, std=2.0, grad=True) for mean in (3.0, 1.0, -1.0, 0.5)]
    scale = draw.uniform(1, low=0.2, high=0.7)[0]
    return (*parts, draw.uniform(4, H, low=0.1, high=1.0), scale, 0.3)  # type: ignore[return-value]


analytic_loss = Exercise(
    reference=behavior.analytic_loss,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "The returns already hang on the actions, through the dream. What does autograd need of you? An optimizer "
        "makes a loss smaller.",
        "In brackets: the scaled return and the entropy at its price. Outside: the weight of the state. Then the mean, "
        "and the sign. Nothing is detached.",
        "Two of the arguments stay unused here: both losses take the same seven, so that either can train the agent.",
    ),
    example=_loss_inputs,
)


@analytic_loss.case("minus the weighted returns, and the entropy at its price")
def _(answer: Callable, draw: Draw) -> None:
    returns, baseline, log_prob, entropy, weight, scale, bonus = parts = _loss_inputs(draw)
    gain = returns / scale + bonus * entropy
    expect_close(
        answer(*parts),
        -(weight * gain).mean(),
        "the loss should be minus the mean of weight (returns / scale + bonus entropy)",
        mistakes={
            "the sign: an optimizer makes this smaller, and returns should grow": (weight * gain).mean(),
            "the sign of the entropy: more of it should make the loss smaller": -(
                weight * (returns / scale - bonus * entropy)
            ).mean(),
            "summed, not averaged": -(weight * gain).sum(),
            "summed over the dream and averaged over dreams": -(weight * gain).sum(1).mean(),
            "a weighted mean: divide by how many there are, not by the weights": -(weight * gain).sum() / weight.sum(),
            "weight is not used": -gain.mean(),
            "the entropy is not weighted": -(weight * returns / scale + bonus * entropy).mean(),
            "the returns are not weighted": -(returns / scale + bonus * weight * entropy).mean(),
            "scale is not used": -(weight * (returns + bonus * entropy)).mean(),
            "multiplied by scale, not divided": -(weight * (returns * scale + bonus * entropy)).mean(),
            "the entropy is scaled, too": -(weight * (returns + bonus * entropy) / scale).mean(),
            "the entropy is left out": -(weight * returns / scale).mean(),
            "bonus is not used": -(weight * (returns / scale + entropy)).mean(),
            "the baseline is subtracted: it has no gradient of the actor, and is not asked for here": -(
                weight * ((returns - baseline) / scale + bonus * entropy)
            ).mean(),
            "this is REINFORCE: here the returns themselves are differentiated": -(
                weight * (log_prob * (returns - baseline) / scale + bonus * entropy)
            ).mean(),
        },
    )


@analytic_loss.case("the gradient flows back through the returns")
def _(answer: Callable, draw: Draw) -> None:
    returns, baseline, log_prob, entropy, weight, scale, bonus = parts = _loss_inputs(draw)
    likely = "the returns are all that tells the actor how it did: are they detached?"
    found = gradients(answer(*parts), {"the returns": returns}, likely)
    found |= gradients(
        answer(*parts), {"the entropy": entropy}, "its price is to be paid by the actor: is it detached?"
    )
    share = weight / weight.numel()
    expect_close(found["the returns"], -share / scale, "d loss / d returns has another size than its share")
    expect_close(found["the entropy"], -bonus * share, "d loss / d entropy has another size than its share")
    others = torch.autograd.grad(answer(*parts), [baseline, log_prob], allow_unused=True)
    for name, grad in zip(("baseline", "log_prob"), others, strict=True):
        expect(grad is None or not grad.any(), f"{name} should have no part in this loss, and a gradient reaches it")


@analytic_loss.case("any price of entropy, any scale", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    returns, baseline, log_prob, entropy, weight, _, _ = _loss_inputs(draw)
    for factor, bonus in ((0.5, 0.0), (1.0, 2.0), (20.0, 1e-3)):
        scale = torch.tensor(factor, device=draw.device)
        wanted = -(weight * (returns / scale + bonus * entropy)).mean()
        likely = f"something goes wrong with scale {factor} and bonus {bonus}"
        expect_close(answer(returns, baseline, log_prob, entropy, weight, scale, bonus), wanted, likely)


reinforce_loss = Exercise(
    reference=behavior.reinforce_loss,
    lesson=LESSON,
    points=3,
    minutes=10,
    difficulty=3,
    hints=(
        "Here nothing flows through the dream: its returns are numbers. What makes an action likelier that did well?",
        "How much better than the baseline, in units of scale, is a factor that stands still. It multiplies the log "
        "probability. The rest is as in the analytic loss.",
        "Detach (returns - baseline) / scale as a whole; if part of it keeps its graph, the model or the critic is "
        "trained by the actor's loss.",
    ),
    example=_loss_inputs,
)


@reinforce_loss.case("better than the baseline makes likelier")
def _(answer: Callable, draw: Draw) -> None:
    returns, baseline, log_prob, entropy, weight, scale, bonus = parts = _loss_inputs(draw)
    better = (returns - baseline) / scale
    gain = log_prob * better + bonus * entropy
    expect_close(
        answer(*parts),
        -(weight * gain).mean(),
        "the loss should be minus the mean of weight (log_prob (returns - baseline) / scale + bonus entropy)",
        mistakes={
            "the sign: actions that did well become less likely": (weight * gain).mean(),
            "the sign of the advantage: it is returns less baseline": -(
                weight * (-log_prob * better + bonus * entropy)
            ).mean(),
            "the sign of the entropy: more of it should make the loss smaller": -(
                weight * (log_prob * better - bonus * entropy)
            ).mean(),
            "the baseline is not used": -(weight * (log_prob * returns / scale + bonus * entropy)).mean(),
            "scale is not used": -(weight * (log_prob * (returns - baseline) + bonus * entropy)).mean(),
            "only the returns are scaled: the baseline is of their size": -(
                weight * (log_prob * (returns / scale - baseline) + bonus * entropy)
            ).mean(),
            "summed, not averaged": -(weight * gain).sum(),
            "summed over the dream and averaged over dreams": -(weight * gain).sum(1).mean(),
            "weight is not used": -gain.mean(),
            "the entropy is not weighted": -(weight * log_prob * better + bonus * entropy).mean(),
            "the entropy is left out": -(weight * log_prob * better).mean(),
            "probabilities stand where their logarithms should": -(
                weight * (log_prob.exp() * better + bonus * entropy)
            ).mean(),
            "this is the analytic loss: the log probability has no part in it": -(
                weight * (returns / scale + bonus * entropy)
            ).mean(),
            "the advantage is standardized: it is divided by scale alone": -(
                weight * (log_prob * (better - better.mean()) / better.std() + bonus * entropy)
            ).mean(),
        },
    )


@reinforce_loss.case("the gradient reaches the log probability, and stops there")
def _(answer: Callable, draw: Draw) -> None:
    returns, baseline, log_prob, entropy, weight, scale, bonus = parts = _loss_inputs(draw)
    found = gradients(answer(*parts), {"log_prob": log_prob, "the entropy": entropy})
    share = weight / weight.numel()
    wanted = -share * ((returns - baseline) / scale).detach()
    expect_close(found["log_prob"], wanted, "d loss / d log_prob should be the advantage, at the weight of the state")
    expect_close(found["the entropy"], -bonus * share, "d loss / d entropy has another size than its share")
    for name, x in (("returns", returns), ("baseline", baseline)):
        (grad,) = torch.autograd.grad(answer(*parts), [x], allow_unused=True)
        expect(
            grad is None or not grad.any(),
            f"a gradient flows into {name}: returns and baseline are mere numbers in REINFORCE; what stands still?",
        )


@reinforce_loss.case("as good as the baseline: nothing to learn but entropy", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    returns, _, log_prob, entropy, weight, scale, bonus = _loss_inputs(draw)
    loss = answer(returns, returns.detach().clone(), log_prob, entropy, weight, scale, bonus)
    (grad,) = torch.autograd.grad(loss, [log_prob], allow_unused=True)
    expect(grad is None or grad.abs().max() < 1e-6, "where returns equal the baseline, log_prob should not be moved")
    expect_close(loss, -(bonus * weight * entropy).mean(), "only the entropy is left in the loss then")


@reinforce_loss.case("any price of entropy, any scale", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    returns, baseline, log_prob, entropy, weight, _, _ = _loss_inputs(draw)
    for factor, bonus in ((0.5, 0.0), (1.0, 2.0), (20.0, 1e-3)):
        scale = torch.tensor(factor, device=draw.device)
        wanted = -(weight * (log_prob * (returns - baseline) / scale + bonus * entropy)).mean()
        likely = f"something goes wrong with scale {factor} and bonus {bonus}"
        expect_close(answer(returns, baseline, log_prob, entropy, weight, scale, bonus), wanted, likely)


@reinforce_loss.case("on average it is the analytic gradient", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    count, std = 20_000, 0.5
    mean = torch.tensor(float(draw.uniform(1, low=-1.0, high=1.0)), device=draw.device, requires_grad=True)
    action = (mean + std * draw.normal(count, 1)).detach()
    log_prob = -0.5 * ((action - mean) / std).square()
    returns, zero = -(action - 1.0).square(), torch.zeros(count, 1, device=draw.device)
    one = torch.ones((), device=draw.device)
    loss = answer(returns, zero - 0.5, log_prob, zero, zero + 1, one, 0.0)
    (grad,) = torch.autograd.grad(loss, mean)
    noise = (returns + 0.5) * (action - mean.detach()) / std**2
    error = 5 * float(noise.std()) / count**0.5
    exact = 2 * (mean.detach() - 1.0)  # of minus E[returns]
    gap = f"{float(grad):.3f}, wanted {float(exact):.3f} give or take {error:.3f}"
    expect((grad - exact).abs() < error, "its mean is not the slope of the expected return", came=gap)


def _critic_inputs(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Value, returns, weight."""
    value, returns = draw.normal(4, H, std=2.0, grad=True), draw.normal(4, H, mean=1.0, std=2.0, grad=True)
    return value, returns, draw.uniform(4, H, low=0.1, high=1.0)


critic_loss = Exercise(
    reference=behavior.critic_loss,
    lesson=LESSON,
    points=1,
    minutes=5,
    difficulty=2,
    hints=(
        "The critic is to say beforehand what the dream returns. Which of the two should move towards the other?",
        "Half the square of the difference, times the weight of the state, averaged. One side is a target.",
        "Detach the returns, not the value.",
    ),
    example=_critic_inputs,
)


@critic_loss.case("half the weighted square of the difference")
def _(answer: Callable, draw: Draw) -> None:
    value, returns, weight = _critic_inputs(draw)
    square = (value - returns).square()
    expect_close(
        answer(value, returns, weight),
        0.5 * (weight * square).mean(),
        "the loss should be the mean of weight times half the squared difference",
        mistakes={
            "half is missing": (weight * square).mean(),
            "the sign: the critic is to come closer": -0.5 * (weight * square).mean(),
            "weight is not used": 0.5 * square.mean(),
            "summed, not averaged": 0.5 * (weight * square).sum(),
            "summed over the dream and averaged over dreams": 0.5 * (weight * square).sum(1).mean(),
            "the weight is squared, too": 0.5 * (weight * (value - returns)).square().mean(),
            "a weighted mean: divide by how many there are, not by the weights": 0.5
            * (weight * square).sum()
            / weight.sum(),
            "the square of the mean, not the mean of the square": 0.5 * (weight * (value - returns)).mean().square(),
            "the distance, not its square": 0.5 * (weight * (value - returns).abs()).mean(),
        },
    )


@critic_loss.case("the value moves, the target stands still")
def _(answer: Callable, draw: Draw) -> None:
    value, returns, weight = _critic_inputs(draw)
    loss = answer(value, returns, weight)
    likely = "the critic learns by this gradient: which side is detached?"
    found = gradients(loss, {"value": value}, likely)["value"]
    wanted = weight * (value - returns).detach() / weight.numel()
    expect_close(found, wanted, "d loss / d value should be the weighted difference, shared out over all states")
    (grad,) = torch.autograd.grad(answer(value, returns, weight), [returns], allow_unused=True)
    if grad is not None and grad.any():
        raise Mistake("a gradient flows into the returns: a critic that moves its own target learns to want less")


@critic_loss.case("where a state cannot be reached nothing is asked", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    value, returns, weight = _critic_inputs(draw)
    weight[:, 3:] = 0
    moved = returns.detach() + 9 * (torch.arange(H, device=draw.device) >= 3)
    right = answer(value, returns, weight).detach()
    expect_close(answer(value, moved, weight), right, "a weight of 0 should silence a state")
