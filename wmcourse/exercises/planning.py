"""Lesson 09's exercises: imagine plans, improve them, act and plan anew, particles, a price on doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wmcourse import planners
from wmcourse import planning as reference
from wmcourse.grading.exercise import Draw, Exercise, Mistake
from wmcourse.grading.expect import describe, expect, expect_close, gradients

LESSON = "09_planning"


class Line:
    """A world with drawn weights: s' = s K + a L, and the reward s . w + a . v of the step from s."""

    def __init__(self, draw: Draw, size: int = 3, action: int = 2):
        self.keep, self.push = draw.normal(size, size, std=0.5), draw.normal(action, size)
        self.worth, self.cost = draw.normal(size), draw.normal(action)
        self.states: list[Tensor] = []  # in which it was asked

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """(R, O), (R, A) to (R, O), (R,)."""
        self.states.append(state.detach())
        return state @ self.keep + action @ self.push, state @ self.worth + action @ self.cost

    def rewards(self, state: Tensor, actions: Tensor) -> Tensor:
        """Of every step of the plans (R, H, A): (R, H)."""
        rewards = []
        for action in actions.unbind(1):
            rewards.append(state @ self.worth + action @ self.cost)
            state = state @ self.keep + action @ self.push
        return torch.stack(rewards, 1)


def _imagined(draw: Draw) -> tuple[Any, ...]:
    return Line(draw).step, draw.normal(5, 3), draw.normal(5, 4, 2, grad=True), 0.9


imagined_return = Exercise(
    reference=planners.imagined_return,
    lesson=LESSON,
    points=2,
    minutes=10,
    difficulty=2,
    hints=(
        "Walk along the horizon, one action at a time. What goes into the model at the second step?",
        "Keep two things from step to step, the state and the total so far. The first reward counts in full.",
        "For t and actions[:, t]: ask the model for (next state, reward), add discount ** t times the reward, and go "
        "on from the next state.",
    ),
    example=_imagined,
)


@imagined_return.case("the rewards of all steps are summed")
def _(answer: Callable, draw: Draw) -> None:
    actions = draw.normal(4, 5, 1)
    worth = actions[..., 0]

    def still(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        return state, action[:, 0]

    expect_close(
        answer(still, draw.normal(4, 3), actions, 1.0),
        worth.sum(1),
        "with a reward equal to the action and discount 1 a plan is worth the sum of its actions",
        mistakes={
            "averaged over the horizon: a return is a sum": worth.mean(1),
            "only the last reward came back: add them up": worth[:, -1],
            "only the first reward came back: walk along the horizon": worth[:, 0],
            "the last action is never taken: H actions make H rewards": worth[:, :-1].sum(1),
            "the first reward is left out": worth[:, 1:].sum(1),
            "the sign is turned around: a return, not a cost": -worth.sum(1),
            "summed over the plans, too: each row is a plan of its own": worth.sum().expand(4),
        },
    )


@imagined_return.case("each action acts in the state that the last one led to")
def _(answer: Callable, draw: Draw) -> None:
    line, state, actions = Line(draw), draw.normal(5, 3), draw.normal(5, 6, 2)
    stuck = torch.stack([state @ line.worth + a @ line.cost for a in actions.unbind(1)], 1)
    expect_close(
        answer(line.step, state, actions, 1.0),
        line.rewards(state, actions).sum(1),
        "the model's next state should go into its next step, with the next action",
        mistakes={
            "every action acts in the first state: hand the next state on": stuck.sum(1),
            "the actions are taken from the last to the first": line.rewards(state, actions.flip(1)).sum(1),
        },
    )


@imagined_return.case("the reward of step t counts discount to the power t")
def _(answer: Callable, draw: Draw) -> None:
    line, state, actions, discount = Line(draw), draw.normal(5, 3), draw.normal(5, 4, 2), 0.7
    rewards = line.rewards(state, actions)
    power = discount ** torch.arange(4, device=rewards.device)
    expect_close(
        answer(line.step, state, actions, discount),
        (power * rewards).sum(1),
        "step 0 counts 1, step 1 counts discount, step 2 discount squared",
        mistakes={
            "the first reward is discounted, too: discount to the power 0 is 1": discount * (power * rewards).sum(1),
            "discounted from the wrong end: later rewards count less": (power.flip(0) * rewards).sum(1),
            "nothing is discounted": rewards.sum(1),
            "every reward is discounted alike": discount * rewards.sum(1),
            "the discount falls linearly: it is a power": (discount * torch.arange(4) * rewards).sum(1),
            "all rewards after the first are discounted alike: it is a power": rewards[:, 0]
            + discount * rewards[:, 1:].sum(1),
        },
    )


@imagined_return.case("the state is the model's own business: it may be a pair")
def _(answer: Callable, draw: Draw) -> None:
    line, state, count, actions = Line(draw), draw.normal(5, 3), draw.normal(5, 1), draw.normal(5, 4, 2)

    def step(pair: tuple[Tensor, Tensor], action: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        after, reward = line.step(pair[0], action)
        return (after, pair[1] + 1), reward + pair[1][:, 0]

    wanted = line.rewards(state, actions).sum(1) + 4 * count[:, 0] + 6
    expect_close(answer(step, (state, count), actions, 1.0), wanted, "hand a pair on to the model as it came")


@imagined_return.case("gradients reach the actions")
def _(answer: Callable, draw: Draw) -> None:
    line, state, actions = Line(draw), draw.normal(5, 3), draw.normal(5, 4, 2, grad=True)
    slope = gradients(answer(line.step, state, actions, 0.8), {"actions": actions})["actions"]
    power = 0.8 ** torch.arange(4, device=state.device)
    (wanted,) = torch.autograd.grad((power * line.rewards(state, actions)).sum(), actions)
    expect_close(slope, wanted, "the gradient with respect to the actions is cut off in part: nothing may be detached")


@imagined_return.case("the model is asked once a step", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    line, actions = Line(draw), draw.normal(3, 7, 2)
    answer(line.step, draw.normal(3, 3), actions, 0.9)
    asked = len(line.states) - 7  # the contract asks the reference, too
    expect(asked == 7, "a model is slow: ask it once a step, for all rows together", came=f"{asked} calls for H = 7")


def _population(draw: Draw) -> tuple[Any, ...]:
    scores = torch.randperm(12, generator=draw.generator).view(2, 6).to(draw.device) + draw.uniform(2, 6, high=0.5)
    return draw.normal(2, 6, 3, 2), scores, draw.normal(2, 3, 2), draw.uniform(2, 3, 2, low=0.5), 3, 0.3, 0.05


def _best(plans: Tensor, scores: Tensor, elites: int) -> Tensor:
    index = scores.argsort(-1, descending=True)[:, :elites]
    return torch.stack([p[i] for p, i in zip(plans, index, strict=True)])


cem_update = Exercise(
    reference=planners.cem_update,
    lesson=LESSON,
    points=3,
    minutes=15,
    difficulty=3,
    hints=(
        "Three steps: find the best plans of each start, take their mean and their spread, blend with the old ones.",
        "scores.topk(elites, -1) gives row numbers (B, elites); plans are (B, N, H, A), so the numbers need two more "
        "axes before they can gather along axis 1.",
        "new = momentum * old + (1 - momentum) * of the elites, for mean and std (correction=0, over the elites' axis) "
        "alike; last, the std is kept at least `floor`.",
    ),
    example=_population,
)


@cem_update.case("the mean moves to the best plans of each start")
def _(answer: Callable, draw: Draw) -> None:
    plans, scores, mean, std, elites, _, _ = _population(draw)
    scores[0] += 20  # one start is better than the other, whatever is done there
    together = plans.flatten(0, 1)[scores.flatten().topk(2 * elites).indices].mean(0).expand_as(mean)
    expect_close(
        answer(plans, scores, mean, std, elites, 0.0, 0.0)[0],
        _best(plans, scores, elites).mean(1),
        "without momentum the new mean should be the mean of the plans with the highest scores, start by start",
        mistakes={
            "the worst plans are taken: scores are returns, higher is better": _best(plans, -scores, elites).mean(1),
            "all plans count: choose the elites first": plans.mean(1),
            "the single best plan is taken: average all elites": _best(plans, scores, 1)[:, 0],
            "one elite too few": _best(plans, scores, elites - 1).mean(1),
            "one elite too many": _best(plans, scores, elites + 1).mean(1),
            "std came first: the new mean, then the new std": _best(plans, scores, elites).std(1, correction=0),
            "the plans are weighted by their scores: every elite counts alike": (
                plans * scores.softmax(-1)[..., None, None]
            ).sum(1),
            "the first plans are taken, whatever their scores": plans[:, :elites].mean(1),
            "one start's elites stand in for the other's: choose along axis 1, each start for itself": together,
            "summed over the elites, not averaged": _best(plans, scores, elites).sum(1),
            "the old mean is still in it although momentum is 0: which share is kept?": mean,
        },
    )


@cem_update.case("std is the spread of the elites")
def _(answer: Callable, draw: Draw) -> None:
    plans, scores, mean, std, elites, _, _ = _population(draw)
    best = _best(plans, scores, elites)
    spread = best.std(1, correction=0)
    expect_close(
        answer(plans, scores, mean, std, elites, 0.0, 0.0)[1],
        spread,
        "without momentum and floor the new std should be the elites' standard deviation, for each action of the plan",
        mistakes={
            "divided by elites - 1: here the correction is 0": best.std(1),
            "the variance, not its root": best.var(1, correction=0),
            "the spread of all plans, not of the elites": plans.std(1, correction=0),
            "one spread for the whole plan: each step has its own": best.std((1, 2), correction=0, keepdim=True)[
                :, 0
            ].expand_as(spread),
            "the spread over time, not over the elites": best.std(2, correction=0)
            .mean(1, keepdim=True)
            .expand_as(spread),
            "measured around the old mean: a spread is around the elites' own": (best - mean[:, None])
            .square()
            .mean(1)
            .sqrt(),
            "the old std came back": std,
            "cut off above: the floor is a lower bound": torch.zeros_like(std),
        },
    )


@cem_update.case("momentum is the share of the old that is kept")
def _(answer: Callable, draw: Draw) -> None:
    plans, scores, mean, std, elites, _, _ = _population(draw)
    best = _best(plans, scores, elites)
    new_mean, new_std, m = best.mean(1), best.std(1, correction=0), 0.2
    came_mean, came_std = answer(plans, scores, mean, std, elites, m, 0.0)
    likely = {
        "the shares are swapped: momentum belongs to the old": (
            m * new_mean + (1 - m) * mean,
            m * new_std + (1 - m) * std,
        ),
        "momentum is not used": (new_mean, new_std),
        "the old is added in full: the two shares sum to 1": (new_mean + m * mean, new_std + m * std),
    }
    for name, came, old, new, part in (("mean", came_mean, mean, new_mean, 0), ("std", came_std, std, new_std, 1)):
        expect_close(
            came,
            m * old + (1 - m) * new,
            f"the new {name} should be momentum * old + (1 - momentum) * of the elites",
            mistakes={f"{text} ({name})": pair[part] for text, pair in likely.items()},
        )


@cem_update.case("std never falls below the floor")
def _(answer: Callable, draw: Draw) -> None:
    plans, scores, mean, std, elites, _, _ = _population(draw)
    best, floor, m = _best(plans, scores, elites), 0.6, 0.5
    blended = m * std + (1 - m) * best.std(1, correction=0)
    came_mean, came_std = answer(plans, scores, mean, std, elites, m, floor)
    expect_close(
        came_std,
        blended.clamp(min=floor),
        "a std below the floor should be lifted to it, the others left alone; last of all",
        mistakes={
            "no floor: plans that agree end the search for good": blended,
            "the floor is added: it is a lower bound": blended + floor,
            "the floor comes before the blending": m * std + (1 - m) * best.std(1, correction=0).clamp(min=floor),
            "cut off above: it is a lower bound": blended.clamp(max=floor),
            "every std is the floor": torch.full_like(std, floor),
        },
    )
    expect_close(came_mean, m * mean + (1 - m) * best.mean(1), "the floor is for the std; it should not touch the mean")


@cem_update.case("one elite has no spread", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    plans, scores, mean, std, *_ = _population(draw)
    came = answer(plans, scores, mean, std, 1, 0.0, 0.1)
    expect_close(came[0], _best(plans, scores, 1)[:, 0], "with one elite the mean is that plan")
    expect_close(came[1], torch.full_like(std, 0.1), "with one elite the spread is 0, and the floor is left")


@cem_update.case("only the order of the scores counts", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    plans, scores, *rest = _population(draw)
    once, again = answer(plans, scores, *rest), answer(plans, 5 * scores - 700, *rest)
    for name, one, other in zip(("mean", "std"), once, again, strict=True):
        expect_close(other, one.detach(), f"scores of another scale changed the {name}: only who is best should count")


def _plan_for(draw: Draw) -> tuple[Any, ...]:
    shift = draw.normal(3)

    def search(state: Tensor, warm: Tensor) -> Tensor:
        return warm + (state * shift).sum(-1)[:, None, None]

    return search, draw.normal(4, 3), draw.normal(4, 5, 2)


mpc_step = Exercise(
    reference=planners.mpc_step,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "Search from where you are and from what you have. Of the plan that comes back, one action is for now.",
        "Tomorrow this plan's second action is the first. So all moves up by one, and a place at the end is free.",
        "plan = search(state, warm); act by plan[:, 0]; put plan[:, 1:] and plan[:, -1:] end to end.",
    ),
    example=_plan_for,
)


@mpc_step.case("the search begins at the state and the plan that are given, once")
def _(answer: Callable, draw: Draw) -> None:
    search, state, warm = _plan_for(draw)
    asked: list[tuple[Tensor, Tensor]] = []

    def watched(s: Tensor, w: Tensor) -> Tensor:
        asked.append((s, w))
        return search(s, w)

    answer(watched, state, warm)
    asked.pop()  # the contract's own
    expect(len(asked) == 1, "search once a step", came=f"{len(asked)} searches")
    expect_close(asked[0][0], state, "search from the state where the world is now")
    expect_close(
        asked[0][1],
        warm,
        "hand `warm` to search as it came: it was moved up at the end of the step before",
        mistakes={
            "`warm` is moved up before the search, though it is already": torch.cat([warm[:, 1:], warm[:, -1:]], 1),
            "the search begins from nothing, and all that the last step found is lost": torch.zeros_like(warm),
        },
    )


@mpc_step.case("acts by the first action of the new plan")
def _(answer: Callable, draw: Draw) -> None:
    search, state, warm = _plan_for(draw)
    plan = search(state, warm)
    expect_close(
        answer(search, state, warm)[0],
        plan[:, 0],
        "the action should be the first one of the plan that search gives",
        mistakes={
            "the old plan's first action: was the new plan used?": warm[:, 0],
            "the plan's last action: the first is for now": plan[:, -1],
            "the plan's second action: the first is not done yet": plan[:, 1],
            "the average action of the plan: only the first is for now": plan.mean(1),
        },
    )


@mpc_step.case("the rest of the new plan moves up, the last action is repeated")
def _(answer: Callable, draw: Draw) -> None:
    search, state, warm = _plan_for(draw)
    plan = search(state, warm)
    zero = torch.zeros_like(plan[:, :1])
    expect_close(
        answer(search, state, warm)[1],
        torch.cat([plan[:, 1:], plan[:, -1:]], 1),
        "the next warm start should be actions 1, 2, ..., H - 1 of the new plan, and the last once more",
        mistakes={
            "not moved up: what was action 1 today is action 0 tomorrow": plan,
            "the old plan is moved up, not the new one": torch.cat([warm[:, 1:], warm[:, -1:]], 1),
            "the old plan goes on: start from the new one": warm,
            "moved the wrong way: the first action is done, it should leave": torch.cat([plan[:, :1], plan[:, :-1]], 1),
            "zeros at the end: repeat the last action": torch.cat([plan[:, 1:], zero], 1),
            "the first action comes round to the end: roll makes a circle of time": plan.roll(-1, 1),
            "everything is forgotten: that is a cold start": torch.zeros_like(plan),
            "moved along the starts, not along time": plan.roll(-1, 0),
            "moved up twice": torch.cat([plan[:, 2:], plan[:, -1:], plan[:, -1:]], 1),
        },
    )


@mpc_step.case("the state is the model's own business: it may be a pair", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    search, state, warm = _plan_for(draw)
    came = answer(lambda pair, w: search(pair[0], w) + pair[1][:, None], (state, draw.normal(4, 2)), warm)
    expect(came[0].shape == (4, 2), "hand a pair on to search as it came", came=describe(came[0]))


@mpc_step.case("a horizon of one", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    search, state, warm = _plan_for(draw)
    plan = search(state, warm[:, :1])
    came = answer(search, state, warm[:, :1])
    expect_close(came[1], plan, "with one action in the plan there is only that one to repeat")


carriers = Exercise(
    reference=reference.carriers,
    lesson=LESSON,
    points=2,
    minutes=10,
    difficulty=3,
    hints=(
        "One of the two needs no random numbers at all.",
        "A shuffle of 0 ... M - 1 is what argsort makes of M random numbers. Every group gets a shuffle of its own.",
        "TS-infinity: arange(M), repeated for every group. TS1: argsort along the last axis. Both flat in the end.",
    ),
    example=lambda draw: (draw.uniform(4, 5), bool(draw.integers(1, high=2).item())),
)


@carriers.case("TS-infinity: particle i of a group stays with member i")
def _(answer: Callable, draw: Draw) -> None:
    uniform = draw.uniform(4, 5)
    expect_close(
        answer(uniform, True),
        torch.arange(5, device=draw.device).repeat(4),
        "should be 0, 1, ..., M - 1 in every group, whatever the random numbers",
        mistakes={
            "shuffled: with TS-infinity nobody changes; is `infinite` turned around?": uniform.argsort(-1).flatten(),
            "a whole group is carried by one member: the particles of a group stand side by side": torch.arange(20)
            // 5,
            "one member after the other, G rows each: group after group": torch.arange(5).repeat_interleave(4),
            "each row a member of its own: there are only M": torch.arange(20),
        },
    )
    expect_close(
        answer(draw.uniform(2, 7), True),
        torch.arange(7, device=draw.device).repeat(2),
        "right for 5 members, wrong for 7: M is the number of columns of `uniform`",
    )


@carriers.case("every member carries one particle of every group")
def _(answer: Callable, draw: Draw) -> None:
    for groups, members in ((6, 4), (3, 7)):
        came = answer(draw.uniform(groups, members), False).view(groups, members)
        wanted = torch.arange(members, device=came.device).expand(groups, members)
        expect_close(
            came.sort(-1).values,
            wanted,
            "in each group every member should come up exactly once: a shuffle, not M draws; and along the last axis",
            mistakes={
                "all particles of a group go to one member": came[:, :1].expand(groups, members),
            },
        )


@carriers.case("TS1: the order of the random numbers, each group its own")
def _(answer: Callable, draw: Draw) -> None:
    uniform = draw.uniform(5, 6)
    order = uniform.argsort(-1)
    expect_close(
        answer(uniform, False),
        order.flatten(),
        "particle i of a group should go to the member whose number is the i-th smallest there",
        mistakes={
            "nobody is shuffled: is `infinite` turned around, or not used?": torch.arange(6).repeat(5),
            "every group has the first one's shuffle": order[0].repeat(5),
            "from the largest to the smallest": uniform.argsort(-1, descending=True).flatten(),
            "these are the ranks, the shuffle read backwards": order.argsort(-1).flatten(),
            "flattened member by member: group after group": order.T.flatten(),
        },
    )


@carriers.case("over many steps each particle meets every member equally often", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    came = answer(draw.uniform(6_000, 4), False).view(6_000, 4)
    share = torch.stack([(came == m).float().mean(0) for m in range(4)])
    expect_close(share, torch.full_like(share, 0.25), "some member comes up more often than another", tolerance=0.04)


class Members:
    """M members, each with a step, a spread and a reward of its own."""

    def __init__(self, draw: Draw, members: int, spread: bool = True, size: int = 2, action: int = 2):
        self.shift, self.push = draw.normal(members, 1, size, std=2), draw.normal(members, action, size)
        self.spread = draw.uniform(members, 1, size, low=0.3, high=2.0) * spread
        self.worth = draw.normal(members, size, 1)
        self.asked: list[torch.Size] = []

    def predict(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """obs (M, N, O), or (N, O) shown to all: mean and std of s', (M, N, O), mean and std of r, (M, N)."""
        self.asked.append(obs.shape)
        mean = obs + self.shift + action @ self.push
        reward = (obs @ self.worth)[..., 0] + self.shift[..., 0]
        return mean, self.spread.expand_as(mean), reward, torch.ones_like(reward)


def _uneven(draw: Draw, members: int, groups: int) -> Tensor:
    """A shuffle of the members in every group, never its own inverse over all rows."""
    shuffles = torch.rand(groups, members, generator=draw.generator).argsort(-1)
    shuffles[0], shuffles[1] = torch.arange(members).roll(1), torch.arange(members).roll(2)
    return shuffles.flatten().to(draw.device)


def _particles(draw: Draw) -> tuple[Any, ...]:
    members = Members(draw, 4)
    obs, action = draw.normal(12, 2, grad=True), draw.normal(12, 2, grad=True)
    return members.predict, obs, action, _uneven(draw, 4, 3), draw.normal(12, 2)


def _own(x: Tensor, carrier: Tensor) -> Tensor:
    """From what every member says of every row, (M, R, ...), what the row's member says, (R, ...)."""
    return x[carrier, torch.arange(len(carrier), device=carrier.device)]


particle_step = Exercise(
    reference=reference.particle_step,
    lesson=LESSON,
    points=4,
    minutes=20,
    difficulty=4,
    hints=(
        "predict wants the rows sorted by member. So: sort, ask, and put everything back where it was.",
        "carrier.argsort() lists the rows of member 0, then those of member 1, and so on. Each has R / M of them, so "
        "x[order] unflattens to (M, R / M, ...). The argsort of an argsort undoes it.",
        "order = carrier.argsort(); back = order.argsort(); of what predict says take .flatten(0, 1)[back]. The noise "
        "was never sorted.",
    ),
    example=_particles,
)


@particle_step.case("every particle is moved by its own member")
def _(answer: Callable, draw: Draw) -> None:
    members, carrier = Members(draw, 4, spread=False), _uneven(draw, 4, 3)
    obs, action = draw.normal(12, 2), draw.normal(12, 2)
    every = members.predict(obs, action)[0]  # (M, R, O)
    order = carrier.argsort(stable=True)
    sorted_rows = _own(every[:, order], carrier[order])
    blocks = torch.arange(4, device=carrier.device).repeat_interleave(3)
    expect_close(
        answer(members.predict, obs, action, carrier, draw.normal(12, 2))[0],
        _own(every, carrier),
        "with std 0 row i should come out where member carrier[i] says, and stay row i",
        mistakes={
            "the rows come out sorted by member: put each back in its place": sorted_rows,
            "put back by `order` itself: the way back is the argsort of it": sorted_rows[order],
            "moved to the mean of all members: each particle has one": every.mean(0),
            "all rows are moved by member 0": every[0],
            "obs is added to it: predict gives s' itself, not the change": obs + _own(every, carrier),
            "carrier is not used: the rows are cut into blocks, a member each": _own(every, blocks),
            "carrier is not used: the members come in turn": _own(every, torch.arange(12) % 4),
            "sorted by member, but not asked so: which member gets which block?": _own(every[:, order], blocks)[order],
        },
    )


@particle_step.case("its own member's std spreads it")
def _(answer: Callable, draw: Draw) -> None:
    members, carrier = Members(draw, 4), _uneven(draw, 4, 3)
    obs, action, noise = draw.normal(12, 2), draw.normal(12, 2), draw.normal(12, 2)
    mean, std, *_ = (_own(x, carrier) for x in members.predict(obs, action))
    order = carrier.argsort(stable=True)
    expect_close(
        answer(members.predict, obs, action, carrier, noise)[0],
        mean + std * noise,
        "s' should be mean + std * noise, all three of the same row",
        mistakes={
            "the mean came back: nothing was drawn": mean,
            "the std is squared: it is a standard deviation already": mean + std.square() * noise,
            "the root of std is taken: it is a standard deviation already": mean + std.sqrt() * noise,
            "the noise of another row: noise was never sorted": mean + std * noise[order],
            "the noise is sorted back, though it was never sorted": mean + std * noise[order.argsort()],
            "the std of another row: put std back in its place, too": mean + std[order] * noise,
            "one std for all members": mean + members.spread.mean(0) * noise,
            "noise without std": mean + noise,
            "the noise is subtracted": mean - std * noise,
        },
    )


@particle_step.case("the reward is its own member's")
def _(answer: Callable, draw: Draw) -> None:
    members, carrier = Members(draw, 4), _uneven(draw, 4, 3)
    obs, action = draw.normal(12, 2), draw.normal(12, 2)
    every = members.predict(obs, action)[2]
    order = carrier.argsort(stable=True)
    expect_close(
        answer(members.predict, obs, action, carrier, draw.normal(12, 2))[1],
        _own(every, carrier),
        "the reward of row i should be the mean that member carrier[i] gives",
        mistakes={
            "the rewards stay sorted by member: put them back, too": _own(every, carrier)[order],
            "the mean of all members' rewards": every.mean(0),
            "the std of the reward, not its mean": torch.ones_like(every[0]),
        },
    )


@particle_step.case("each member is asked about its own rows only, once")
def _(answer: Callable, draw: Draw) -> None:
    members, carrier = Members(draw, 3), _uneven(draw, 3, 4)
    answer(members.predict, draw.normal(12, 2), draw.normal(12, 2), carrier, draw.normal(12, 2))
    members.asked.pop()  # the contract's own
    shapes = [tuple(shape) for shape in members.asked]
    expect(
        shapes == [(3, 4, 2)],
        "ask predict once, with (M, R / M, O): asking every member about every row is M times the work",
        came=f"predict was asked with obs of shape {', '.join(map(str, shapes)) or 'nothing'}"[:120],
    )


@particle_step.case("gradients go through the right member")
def _(answer: Callable, draw: Draw) -> None:
    members, carrier = Members(draw, 4), _uneven(draw, 4, 3)
    obs, action = draw.normal(12, 2, grad=True), draw.normal(12, 2, grad=True)
    after, _ = answer(members.predict, obs, action, carrier, draw.normal(12, 2))
    slope = gradients(after, {"obs": obs, "action": action})
    expect_close(slope["obs"], torch.ones_like(obs), "the gradient with respect to obs is cut off in part")
    expect_close(slope["action"], members.push.sum(-1)[carrier], "an action's gradient should come by its own member")


@particle_step.case("one member, and one particle each", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for count, rows in ((1, 5), (5, 5)):
        members, noise = Members(draw, count), draw.normal(rows, 2)
        carrier = (torch.arange(rows, device=draw.device) * 2 + 1) % count
        obs, action = draw.normal(rows, 2), draw.normal(rows, 2)
        mean, std, reward, _ = (_own(x, carrier) for x in members.predict(obs, action))
        came = answer(members.predict, obs, action, carrier, noise)
        expect_close(came[0], mean + std * noise, f"something goes wrong with M = {count} members and R = {rows} rows")
        expect_close(came[1], reward, f"the reward goes wrong with M = {count} members and R = {rows} rows")


def _doubtful(draw: Draw) -> tuple[Any, ...]:
    members = Members(draw, 4, size=3)
    obs, action = draw.normal(6, 3, grad=True), draw.normal(6, 2, grad=True)
    return members.predict, obs, action, draw.uniform(3, low=0.5, high=2.0), 0.7


class Stated:
    """Members that say what they are told to, whatever they are asked."""

    def __init__(self, mean: Tensor, reward: Tensor, std: float = 1.0):
        self.said = mean, torch.full_like(mean, std), reward, torch.full_like(reward, std)

    def predict(self, obs: Tensor, action: Tensor) -> tuple[Tensor, ...]:
        """As told: (M, R, O) twice, (M, R) twice."""
        return self.said


penalized_step = Exercise(
    reference=reference.penalized_step,
    lesson=LESSON,
    points=3,
    minutes=12,
    difficulty=3,
    hints=(
        "Two results, and only the second has to do with doubt. Which of the members' four statements do you need?",
        "Doubt is how far the members' means lie apart, in units of scale; their own std is the world's noise and "
        "costs nothing. The members are on axis 0.",
        "Variance over members (correction 0) of mean / scale, averaged over the dimensions, then the root. Lesson "
        "08's penalized_reward, which you may import, does this and takes weight times it from the mean reward.",
    ),
    example=_doubtful,
)


@penalized_step.case("it moves to the members' mean")
def _(answer: Callable, draw: Draw) -> None:
    mean, reward, obs = draw.normal(5, 6, 3), draw.normal(5, 6), draw.normal(6, 3)
    said = Stated(mean, reward)
    came = answer(said.predict, obs, draw.normal(6, 2), draw.uniform(3, low=0.5), 0.4)
    expect_close(
        came[0],
        mean.mean(0),
        "the next obs should be the mean of the members' means",
        mistakes={
            "the first member's word, not the mean of all": mean[0],
            "summed over the members, not averaged": mean.sum(0),
            "averaged over the rows: members are axis 0": mean.mean(1).mean(0).expand(6, 3),
            "the median, not the mean": mean.median(0).values,
            "obs is added to it: predict gives s' itself, not the change": obs + mean.mean(0),
        },
    )


@penalized_step.case("weight 0 trusts: the members' mean reward")
def _(answer: Callable, draw: Draw) -> None:
    mean, reward = draw.normal(5, 6, 3), draw.normal(5, 6)
    said = Stated(mean, reward)
    came = answer(said.predict, draw.normal(6, 3), draw.normal(6, 2), draw.uniform(3, low=0.5), 0.0)
    expect_close(
        came[1],
        reward.mean(0),
        "with weight 0 the reward should be the members' mean, nothing taken off",
        mistakes={
            "the first member's reward": reward[0],
            "summed over the members, not averaged": reward.sum(0),
            "the lowest member's reward": reward.amin(0),
            "the penalty is there although its weight is 0": reward.mean(0) - reward.std(0, correction=0),
        },
    )


@penalized_step.case("members that agree cost nothing, however noisy they say the world is")
def _(answer: Callable, draw: Draw) -> None:
    mean, reward = draw.normal(1, 6, 3).expand(5, 6, 3).contiguous(), draw.normal(5, 6)
    came = answer(
        Stated(mean, reward, 3.0).predict, draw.normal(6, 3), draw.normal(6, 2), draw.uniform(3, low=0.5), 2.0
    )
    expect_close(
        came[1],
        reward.mean(0),
        "all members say the same next obs: where does a penalty come from?",
        mistakes={
            "the spread of the rewards is the price: it should be that of the next obs": reward.mean(0)
            - 2 * reward.std(0, correction=0),
        },
        tolerance=2e-3,
    )


@penalized_step.case("a disagreement of 1 costs weight")
def _(answer: Callable, draw: Draw) -> None:
    mean, reward, scale, weight = draw.normal(5, 6, 3, std=2), draw.normal(5, 6), draw.uniform(3, low=0.3, high=3), 0.6
    said, base = Stated(mean, reward), reward.mean(0)

    def doubt(x: Tensor, correction: int = 0) -> Tensor:
        return x.var(0, correction=correction).mean(-1).sqrt()

    right, spread = doubt(mean / scale), (mean / scale).std(0, correction=0)
    expect_close(
        answer(said.predict, draw.normal(6, 3), draw.normal(6, 2), scale, weight)[1],
        base - weight * right,
        "the price should be weight times the disagreement: variance over members in units of scale, mean over O, root",
        mistakes={
            "the sign is turned around: this pays for doubt": base + weight * right,
            "no price at all": base,
            "weight is not used": base - right,
            "scale is not used: metres and radians per second are added up": base - weight * doubt(mean),
            "multiplied by scale: divide": base - weight * doubt(mean * scale),
            "the variance, not its root": base - weight * right.square(),
            "divided by M - 1: here the correction is 0": base - weight * doubt(mean / scale, 1),
            "summed over the dimensions, not averaged": base - weight * 3**0.5 * right,
            "stds summed over the dimensions": base - weight * spread.sum(-1),
            "stds averaged over the dimensions: average variances, then the root": base - weight * spread.mean(-1),
            "the largest dimension alone": base - weight * spread.amax(-1),
            "the world's noise is the price, not the members' disagreement": base
            - weight / scale.square().mean().sqrt(),
        },
    )


@penalized_step.case("gradients reach obs and action, through the price, too")
def _(answer: Callable, draw: Draw) -> None:
    predict, obs, action, scale, weight = _doubtful(draw)
    came = answer(predict, obs, action, scale, weight)
    slope = gradients(came[1], {"obs": obs, "action": action})
    wanted = torch.autograd.grad(reference.penalized_step(predict, obs, action, scale, weight)[1].sum(), [obs, action])
    for name, grad in zip(("obs", "action"), wanted, strict=True):
        expect_close(
            slope[name], grad, f"the gradient with respect to {name} is cut off in part: nothing may be detached"
        )


@penalized_step.case("predict is asked once, about the rows as they came", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    members = Members(draw, 4, size=3)
    answer(members.predict, draw.normal(6, 3), draw.normal(6, 2), draw.uniform(3, low=0.5), 0.5)
    members.asked.pop()  # the contract's own
    if [tuple(shape) for shape in members.asked] != [(6, 3)]:
        raise Mistake(
            "ask predict once, with obs (R, O): it shows them to every member itself", came=str(members.asked)
        )
