"""Lesson 10's exercises: one update for what happened and what was imagined, and the loop that holds them together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wmcourse import dyna, mazes, sac
from wmcourse.grading.exercise import Draw, Exercise, Mistake
from wmcourse.grading.expect import difference, expect, expect_close, is_close
from wmcourse.replay import Transitions

LESSON = "10_dyna"
S, A, OBS = 6, 3, 2  # states and moves of a table; numbers in an observation


def _table(draw: Draw, learners: int = 4, ended: bool = False) -> tuple[Any, ...]:
    """q, state, action, reward, next_state, terminated, rate, discount; no pair leads to itself."""
    state = draw.integers(learners, high=S)
    next_state = (state + draw.integers(learners, low=1, high=S)) % S
    flags = torch.arange(learners) % 2 == 0 if ended else torch.zeros(learners, dtype=torch.bool)
    q, action, reward = draw.normal(learners, S, A), draw.integers(learners, high=A), draw.normal(learners)
    rate = float(draw.uniform(1, low=0.2, high=0.8))
    return q, state, action, reward, next_state, flags, rate, float(draw.uniform(1, low=0.6, high=0.9))


def _moved(q: Tensor, state: Tensor, action: Tensor, change: Tensor) -> Tensor:
    new, row = q.clone(), torch.arange(len(q))
    new[row, state, action] += change
    return new


q_update = Exercise(
    reference=mazes.q_update,
    lesson=LESSON,
    points=2,
    minutes=10,
    difficulty=2,
    hints=(
        "Three numbers for each learner: what its table says now of (state, action), what it should say, and the "
        "difference. What should it say where the world ended?",
        "It should say reward + discount * the largest entry of the row of next_state, or the reward alone where "
        "terminated. Go `rate` of the way there, in a copy of q.",
        "With row = torch.arange(B) you read q[row, next_state], (B, A), and q[row, state, action], (B,), and you can "
        "add to the latter in a clone. torch.where(terminated, 0.0, best) stops the sum.",
    ),
    example=lambda draw: _table(draw, ended=True),
)


@q_update.case("the pair's value goes `rate` of the way to reward + discount * the best next value")
def _(answer: Callable, draw: Draw) -> None:
    q, s, a, r, n, flags, rate, discount = _table(draw)
    row = torch.arange(len(q))
    now, following = q[row, s, a], q[row, n]
    target = r + discount * following.amax(-1)
    change = {
        "the table is set to the target: go only `rate` of the way": target - now,
        "the old value is not taken off: rate * (target - old)": rate * target,
        "turned around: rate * (target - old), not (old - target)": rate * (now - target),
        "the discount is missing": rate * (r + following.amax(-1) - now),
        "the reward is missing": rate * (discount * following.amax(-1) - now),
        "discount stands before the reward, too": rate * (discount * (r + following.amax(-1)) - now),
        "the next value is that of the same move: take the best one": rate * (r + discount * following[row, a] - now),
        "the next value is the mean over moves: take the best one": rate * (r + discount * following.mean(-1) - now),
        "the next value is the sum over moves: take the best one": rate * (r + discount * following.sum(-1) - now),
        "the next value is the worst one: take the best": rate * (r + discount * following.amin(-1) - now),
        "the best is taken at state, not at next_state": rate * (r + discount * q[row, s].amax(-1) - now),
        "the best of the whole table is taken: only the row of next_state follows": rate
        * (r + discount * q.amax((1, 2)) - now),
        "learner 0's table is asked for everyone's next value": rate * (r + discount * q[0][n].amax(-1) - now),
        "nothing follows anywhere: is terminated turned around?": rate * (r - now),
        "rate and 1 - rate are exchanged": (1 - rate) * (target - now),
    }
    mistakes = {sentence: _moved(q, s, a, step) for sentence, step in change.items()}
    mistakes["next_state's entry moved: it is the pair that was left that learns"] = _moved(
        q, n, a, rate * (target - now)
    )
    mistakes["every learner's table moved at every pair: learner b learns from transition b"] = _everywhere(
        q, s, a, rate * (target - now)
    )
    mistakes["all moves of the state moved: only the one that was made learns"] = q.index_put(
        (row, s), (rate * (target - now))[:, None].expand(-1, A), accumulate=True
    )
    expect_close(
        answer(q, s, a, r, n, flags, rate, discount),
        _moved(q, s, a, rate * (target - now)),
        "the entry (state, action) of each table should be old + rate * (target - old), all others as they were",
        mistakes=mistakes,
    )


def _everywhere(q: Tensor, s: Tensor, a: Tensor, change: Tensor) -> Tensor:
    new = q.clone()
    new[:, s, a] += change
    return new


@q_update.case("where the world ended, nothing follows")
def _(answer: Callable, draw: Draw) -> None:
    q, s, a, r, n, flags, rate, discount = _table(draw, ended=True)
    row = torch.arange(len(q))
    now, best = q[row, s, a], q[row, n].amax(-1)
    go_on = (~flags).float()
    expect_close(
        answer(q, s, a, r, n, flags, rate, discount),
        _moved(q, s, a, rate * (r + discount * best * go_on - now)),
        "where terminated is true the target is the reward alone",
        mistakes={
            "terminated is not used: the value of a state that never came counts": _moved(
                q, s, a, rate * (r + discount * best - now)
            ),
            "turned around: the sum stops where the world goes on": _moved(
                q, s, a, rate * (r + discount * best * flags - now)
            ),
            "the last reward is lost: only what follows is 0": _moved(
                q, s, a, rate * ((r + discount * best) * go_on - now)
            ),
            "nothing is learned at the end: the last reward counts": _moved(
                q, s, a, rate * (r + discount * best - now) * go_on
            ),
            "one end stops everyone's sum: terminated is per learner": _moved(q, s, a, rate * (r - now)),
        },
    )


@q_update.case("many updates find a maze's exact values", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    world = mazes.maze("S.G")
    exact, q = mazes.optimal_values(world, 0.9).float(), torch.zeros(1, 3, 4)
    for _ in range(5):  # sweeps over the six pairs that can be met
        for pair in range(8):
            state, action = torch.tensor([pair // 4]), torch.tensor([pair % 4])
            next_state, reward, terminated = world.step(state, action)
            q = answer(q, state, action, reward, next_state, terminated, 1.0, 0.9)
    expect_close(q[0], exact, "after many updates the table should hold the exact values", tolerance=1e-3)


@q_update.case("a move that leads nowhere, a single learner", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    q, state, action = draw.normal(1, S, A), draw.integers(1, high=S), draw.integers(1, high=A)
    args = (q, state, action, draw.normal(1), state, torch.tensor([False]), 0.5, 0.9)
    expect_close(answer(*args), mazes.q_update(*args), "something goes wrong where next_state is state")


def _turns(log: list[str]) -> tuple[Callable, ...]:
    """The loop's five functions, which note in `log` that they were called; an error calls them by their own names."""

    def act() -> int:
        log.append("act")
        return log.count("act")

    def store(came: int) -> None:
        log.append(f"store {came}")

    def train_model() -> None:
        log.append("train_model")

    def imagine() -> None:
        log.append("imagine")

    def train_policy() -> None:
        log.append("train_policy")

    turns = act, store, train_model, imagine, train_policy
    for turn in turns:
        turn.__qualname__ = turn.__name__
    return turns


dyna_loop = Exercise(
    reference=dyna.dyna_loop,
    lesson=LESSON,
    points=1,
    minutes=5,
    difficulty=1,
    hints=(
        "Say the six steps aloud, in order. Two of them do not happen at every real step.",
        "What act gives goes into store. After the steps number `every`, 2 * every, ... the model is trained and then "
        "asked; the policy is trained after each step.",
        "A for loop over range(1, steps + 1); step % every == 0 tells when the model's turn is.",
    ),
    example=lambda draw: (*_turns([]), 4, 2),
)


def _told(answer: Callable, steps: int, every: int) -> list[str]:
    """What an answer calls, in order, and what it stores. The contract calls the reference after it, with the same."""
    log: list[str] = []
    answer(*_turns(log), steps, every)
    return log


def _order(steps: int, every: int) -> list[str]:
    return [name.split()[0] for name in _told(dyna.dyna_loop, steps, every)]


def _calls(answer: Callable, steps: int, every: int) -> tuple[list[str], list[str]]:
    """The names that an answer calls, in order, and what it stored."""
    told = _told(answer, steps, every)
    told = told[: len(told) - len(_order(steps, every))]
    return [name.split()[0] for name in told], [name.split()[1] for name in told if name.startswith("store")]


@dyna_loop.case("with every = 1 all steps follow one another, `steps` times")
def _(answer: Callable, draw: Draw) -> None:
    steps = int(draw.integers(1, low=3, high=6))
    came, _ = _calls(answer, steps, 1)
    right = _order(steps, 1)
    first = came[: came.index("act", 1)] if came.count("act") > 1 else came
    says = "act, store, train_model, imagine, train_policy should come, in this order, and again"
    if not came:
        says = "nothing is called"
    elif came.count("act") != steps:
        says = f"{steps} real steps were asked for, and {came.count('act')} taken"
    elif "store" not in came:
        says = "what act gives is not stored"
    elif sorted(came) == sorted(right) and "imagine" in first and "train_model" in first:
        if first.index("imagine") < first.index("train_model"):
            says = "you imagine before the model has learned from what was stored"
        elif first.index("train_policy") < first.index("imagine"):
            says = "the policy is trained before there is anything imagined"
    elif came.count("train_policy") != steps:
        says = f"the policy should be trained once after each of {steps} steps"
    elif came.count("train_model") != steps or came.count("imagine") != steps:
        says = "with every = 1 the model is trained and asked after each step, the first and the last, too"
    expect(came == right, says, came=", ".join(came)[:120])


@dyna_loop.case("what act gives goes into store, once")
def _(answer: Callable, draw: Draw) -> None:
    _, stored = _calls(answer, 4, 1)
    expect(stored == ["1", "2", "3", "4"], "hand on to store what act gave, each once", came=", ".join(stored)[:120])


@dyna_loop.case("the model's turn comes after every `every`-th step, the policy's after each")
def _(answer: Callable, draw: Draw) -> None:
    for steps, every in ((6, 3), (7, 2), (2, 5)):
        came, _ = _calls(answer, steps, every)
        right = _order(steps, every)
        at, policy_at = (
            [came[: i + 1].count("act") for i, called in enumerate(came) if called == name]
            for name in ("train_model", "train_policy")
        )
        says = "the model should be trained, and then asked, after the steps number `every`, 2 * every, ..."
        if came.count("train_policy") != steps:
            says = "the policy should be trained after each real step, not only when the model was"
        elif at == list(range(1, steps + 1)):
            says = "the model is trained at every step: only every `every`-th"
        elif at[:1] == [1]:
            says = "the model's first turn comes after the first step: count steps from 1"
        elif came.count("imagine") != came.count("train_model"):
            says = "imagine once after each time that the model was trained"
        elif policy_at != list(range(1, steps + 1)):
            says = "the policy is trained several times at once: once after each real step, please"
        expect(came == right, says, came=", ".join(came)[:120])


@dyna_loop.case("no steps, no calls", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    expect(not _calls(answer, 0, 1)[0], "with steps = 0 nothing should be called")


curious_reward = Exercise(
    reference=mazes.curious_reward,
    lesson=LESSON,
    points=1,
    minutes=4,
    difficulty=1,
    hints=(
        "The longer a move was not made, the more its imagined reward is worth, but with less and less haste.",
        "Four times the steps give twice the bonus.",
        "The square root is of the steps alone; the bonus' weight stands before it. Whole numbers need .float() first.",
    ),
    example=lambda draw: (draw.normal(5), draw.integers(5, low=0, high=400), float(draw.uniform(1, low=0.1, high=1))),
)


@curious_reward.case("four times the steps give twice the bonus")
def _(answer: Callable, draw: Draw) -> None:
    elapsed = draw.integers(4, low=2, high=30)
    zero, bonus = torch.zeros(4), float(draw.uniform(1, low=0.2, high=0.7))
    steps = elapsed.float()
    expect_close(
        answer(zero, 4 * elapsed, bonus),
        2 * bonus * steps.sqrt(),
        "with reward 0, bonus * sqrt(elapsed) should be left",
        mistakes={
            "the bonus grows with the steps themselves: take their square root": 4 * bonus * steps,
            "the square root is of everything: it is of the steps alone": (4 * bonus * steps).sqrt(),
            "rare pairs get less: this is 1 / sqrt, a bonus for counts": bonus / (2 * steps.sqrt()),
            "the sign: what was long not tried should become more attractive": -2 * bonus * steps.sqrt(),
            "a logarithm: it should be a square root": bonus * (4 * steps).log(),
            "the weight is missing": 2 * steps.sqrt(),
            "the elapsed steps are not used": torch.full((4,), bonus),
            "squared: it should be the root": bonus * (4 * steps).square(),
            "with reward 0 nothing is left: the bonus is added, not multiplied": zero,
        },
    )


@curious_reward.case("it is added to the reward")
def _(answer: Callable, draw: Draw) -> None:
    reward, elapsed = draw.normal(2, 3), draw.integers(2, 3, low=1, high=50)
    extra = 0.3 * elapsed.float().sqrt()
    expect_close(
        answer(reward, elapsed, 0.3),
        reward + extra,
        "reward + bonus * sqrt(elapsed) should come",
        mistakes={
            "the reward is missing": extra,
            "the reward is multiplied": reward * (1 + extra),
            "the larger of the two is taken: add them": torch.maximum(reward, extra),
        },
    )


@curious_reward.case("nothing for what was tried just now, or for a bonus of 0", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    reward = draw.normal(5)
    expect_close(answer(reward, torch.zeros(5, dtype=torch.long), 0.5), reward, "elapsed 0 should leave the reward")
    expect_close(answer(reward, draw.integers(5, low=1, high=90), 0.0), reward, "bonus 0 should leave the reward")


def _target(draw: Draw, ended: bool = True) -> tuple[Any, ...]:
    """reward, terminated, next_values (2, B), next_log_prob, temperature, discount."""
    flags = torch.arange(6) % 3 == 1 if ended else torch.zeros(6, dtype=torch.bool)
    values = draw.normal(2, 6, mean=5.0, std=2.0)
    log_prob, temperature = draw.normal(6, mean=-1.0), draw.uniform(low=0.2, high=0.6)
    return draw.normal(6), flags, values, log_prob, temperature, float(draw.uniform(1, low=0.7, high=0.95))


soft_target = Exercise(
    reference=sac.soft_target,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "From inside out: what the next state is worth to an agent that also likes to keep its options open; then the "
        "step before it.",
        "The smaller of the two critics, less temperature * next_log_prob: an unlikely action is a bonus. All of that "
        "is discounted, and none of it counts where terminated.",
        "next_values.amin(0), then torch.where with terminated around the whole soft value, then reward + discount "
        "times that, and detach.",
    ),
    example=_target,
)


@soft_target.case("reward + discount * (smaller value - temperature * log-probability)")
def _(answer: Callable, draw: Draw) -> None:
    r, _, values, log_prob, temperature, discount = args = _target(draw, ended=False)
    low, cost = values.amin(0), temperature * log_prob
    expect_close(
        answer(*args),
        r + discount * (low - cost),
        "where nothing ended: reward + discount * (smaller value - temperature * next_log_prob)",
        mistakes={
            "the larger value is taken: errors that flatter would be believed": r + discount * (values.amax(0) - cost),
            "the mean of both critics is taken: the smaller one counts": r + discount * (values.mean(0) - cost),
            "only the first critic is asked": r + discount * (values[0] - cost),
            "only the second critic is asked": r + discount * (values[1] - cost),
            "the sign of the entropy: a likely action costs": r + discount * (low + cost),
            "the entropy is missing": r + discount * low,
            "the temperature is missing": r + discount * (low - log_prob),
            "the discount is missing": r + low - cost,
            "the entropy is outside of the discount: it belongs to the next step": r + discount * low - cost,
            "the reward is discounted, too": discount * (r + low - cost),
            "the reward is missing": discount * (low - cost),
            "the probability is taken, not its logarithm": r + discount * (low - temperature * log_prob.exp()),
            "nothing follows anywhere: is terminated turned around?": r,
        },
    )


@soft_target.case("terminated stops the sum, entropy and all")
def _(answer: Callable, draw: Draw) -> None:
    r, flags, values, log_prob, temperature, discount = args = _target(draw)
    low, cost, go_on = values.amin(0), temperature * log_prob, (~flags).float()
    expect_close(
        answer(*args),
        r + discount * go_on * (low - cost),
        "where terminated is true the target is the reward alone",
        mistakes={
            "terminated is not used": r + discount * (low - cost),
            "turned around: the sum stops where the world goes on": r + discount * (1 - go_on) * (low - cost),
            "the entropy of an action that is never taken counts": r + discount * (go_on * low - cost),
            "only the entropy stops: the value has to stop, too": r + discount * (low - go_on * cost),
            "the last reward is lost": go_on * (r + discount * (low - cost)),
            "one end stops every sum: terminated is per row": r,
        },
    )


@soft_target.case("a target is a number to aim at: no gradient goes through it")
def _(answer: Callable, draw: Draw) -> None:
    r, flags, values, log_prob, temperature, discount = _target(draw)
    value = answer(r, flags, values.requires_grad_(), log_prob.requires_grad_(), temperature, discount)
    expect(not value.requires_grad, "detach it: else the critic also moves the target towards its own value")


@soft_target.case("a value that is no number behind an end does no harm", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    r, flags, values, log_prob, temperature, discount = _target(draw)
    right = sac.soft_target(r, flags, values, log_prob, temperature, discount)
    spoiled = torch.where(flags, 1e30, values)
    expect_close(
        answer(r, flags, spoiled, log_prob, temperature, discount), right, "nothing behind an end should count"
    )


class _World:
    """A toy model: it moves by the action, earns by where it was, terminates and truncates by where it goes."""

    def __init__(self, draw: Draw, ends: bool = True):
        self.matrix, self.push = draw.normal(OBS, OBS, std=0.6), draw.normal(1, OBS)
        self.wall = draw.uniform(low=0.6, high=0.9) if ends else torch.tensor(1e9)

    def policy(self, obs: Tensor) -> Tensor:
        """(N, OBS) to (N, 1)."""
        return (obs.sum(-1, keepdim=True) * 2).sin()

    def step(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Next observation, reward, terminated, truncated."""
        after = obs @ self.matrix + action * self.push
        reward = obs[:, 0] - 0.3 * action[:, 0]
        return after, reward, after[:, 0] > self.wall, after[:, 1] > self.wall

    def walk(self, starts: Tensor, horizon: int, stop: str = "both", **change: Any) -> Transitions:
        """The right rollout, with `stop` at "both", "terminated", "truncated" or "neither", and mistakes by name."""
        obs, parts = starts, []
        for _ in range(horizon):
            action = self.policy(starts if change.get("stale") and len(obs) == len(starts) else obs)
            after, reward, ended, cut = self.step(obs, action)
            over = {"both": ended | cut, "terminated": ended, "truncated": cut, "neither": ended & False}[stop]
            flag = {"or": ended | cut, "none": ended & False}.get(str(change.get("flag")), ended)
            keep = ~over if change.get("drop_last") else torch.ones_like(over)
            parts.append(Transitions(*(x[keep] for x in (obs, action, reward, after, flag))))
            obs = after[~over]
            if not len(obs):
                break
        if change.get("end_is_terminal"):
            parts[-1] = parts[-1]._replace(terminated=torch.ones_like(parts[-1].terminated))
        return Transitions(*(torch.cat(x) for x in zip(*parts, strict=True)))


def _branches(draw: Draw, ends: bool = True, count: int = 12, horizon: int = 4) -> tuple[Any, ...]:
    """step, policy, starts, horizon; with ends, some branch stops by each flag and some goes on."""
    for _ in range(100):
        world, starts = _World(draw, ends), draw.normal(count, OBS)
        _, _, ended, cut = world.step(starts, world.policy(starts))
        if not ends or ((ended & ~cut).any() and (cut & ~ended).any() and (~ended & ~cut).sum() > 2):
            break
    return world.step, world.policy, starts, horizon


def _bounded(step: Callable, policy: Callable, starts: Tensor, horizon: int) -> tuple[Any, ...]:
    """The same, with a model that notices how often it is asked. The contract calls the reference after the answer."""
    asked = [0]

    def bounded(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if len(obs) == len(starts):
            begins = torch.equal(obs, starts)
            few = begins and 1 < asked[0] < horizon
            expect(not few, f"fewer than horizon steps: {asked[0]} instead of {horizon}")
            asked[0] = 1 if begins else asked[0] + 1
            expect(asked[0] <= horizon, "more than horizon steps: the model was asked once too often")
        return step(obs, action)

    return bounded, policy, starts, horizon


def _flat(steps: Any) -> Tensor:
    """Transitions as one matrix (N, ...), to compare all at once; Mistake where they do not fit together."""
    obs, action, reward, next_obs, terminated = steps
    return torch.cat([obs, action, reward[:, None], next_obs, terminated.float()[:, None]], -1)


branched_rollouts = Exercise(
    reference=dyna.branched_rollouts,
    lesson=LESSON,
    points=3,
    minutes=12,
    difficulty=3,
    hints=(
        "One loop over time, all branches side by side. What does the next turn of the loop start from, and for which "
        "branches?",
        "Ask the policy at obs, the model at obs and action; keep (obs, action, reward, next_obs, terminated) of every "
        "branch that was alive. Then obs becomes next_obs, of those branches where neither flag is set.",
        "Collect Transitions in a list, select with next_obs[~(terminated | truncated)], break when no row is left, "
        "and torch.cat each of the five columns once at the end.",
    ),
    example=lambda draw: _bounded(*_branches(draw, ends=False, count=5, horizon=3)),
)


@branched_rollouts.case("a branch goes on from where the model led, by the policy's action there")
def _(answer: Callable, draw: Draw) -> None:
    step, policy, starts, _ = _branches(draw, ends=False, count=5)
    world = policy.__self__
    got = answer(step, policy, starts, 3)
    right = world.walk(starts, 3)
    mistakes = {
        "obs and next_obs are exchanged": right._replace(obs=right.next_obs, next_obs=right.obs),
        "every step starts at starts again: hand next_obs on": Transitions(
            *(torch.cat([x] * 3) for x in world.walk(starts, 1))
        ),
        "the action is chosen once, at the start: ask the policy at every step": world.walk(starts, 3, stale=True),
        "obs is where the branch stands after the step: keep it before it moves on": right._replace(obs=right.next_obs),
        "the last observation counts as the end of the world: a horizon is no end": world.walk(
            starts, 3, end_is_terminal=True
        ),
        "one branch after the other: all branches of one time together, please": Transitions(
            *(x.unflatten(0, (3, 5)).transpose(0, 1).flatten(0, 1) for x in right)
        ),
    }
    _compare(got, right, "obs, action, reward, next_obs, terminated of each step of each branch should come", mistakes)


def _compare(got: Any, right: Transitions, likely: str, mistakes: dict[str, Transitions]) -> None:
    """As expect_close, of Transitions: a mistake shows in all columns at once, a difference is told of the first."""
    mine = _flat(got)
    if is_close(mine, _flat(right)):
        return
    likely = next((says for says, wrong in mistakes.items() if is_close(mine, _flat(wrong))), likely)
    for name, column, wanted in zip(Transitions._fields, got, right, strict=True):
        if not is_close(column, wanted):
            raise Mistake(likely, came=f"{name}, {difference(column, wanted)[1]}")


@branched_rollouts.case("a branch ends where either flag says so, and its last step is kept")
def _(answer: Callable, draw: Draw) -> None:
    step, policy, starts, horizon = _branches(draw)
    world = policy.__self__
    try:
        got = answer(step, policy, starts, horizon)
    except Mistake as mistake:
        count = _rows_in(mistake.came)
        for says, wrong in _endings(world, starts, horizon).items():
            if len(wrong.obs) == count:
                raise Mistake(says, came=mistake.came) from None
        raise
    right = world.walk(starts, horizon)
    _compare(got, right, "the steps of the branches that are alive should come", _endings(world, starts, horizon))


def _rows_in(came: str) -> int:
    """How many rows a described tensor has, -1 where none is described."""
    _, found, rest = came.partition("shape (")
    digits = rest.split(",")[0].rstrip(")")
    return int(digits) if found and digits.isdigit() else -1


def _endings(world: _World, starts: Tensor, horizon: int) -> dict[str, Transitions]:
    return {
        "no branch ends where only one flag is set: either flag ends it": world.walk(starts, horizon, "neither"),
        "branches go on behind truncated: the model should not be asked there": world.walk(
            starts, horizon, "terminated"
        ),
        "branches go on behind terminated: there is nothing": world.walk(starts, horizon, "truncated"),
        "the last step of a branch is lost: it happened, keep it": world.walk(starts, horizon, drop_last=True),
        "one branch's end stopped the others: each ends for itself": world.walk(starts, 1),
        "truncated is stored as terminated: the world goes on there, only the model does not": world.walk(
            starts, horizon, flag="or"
        ),
        "terminated is not stored": world.walk(starts, horizon, flag="none"),
    }


@branched_rollouts.case("truncated ends a branch, and not the world")
def _(answer: Callable, draw: Draw) -> None:
    def step(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return obs + 1, action[:, 0], torch.zeros(len(obs), dtype=torch.bool), torch.ones(len(obs), dtype=torch.bool)

    got = answer(step, lambda obs: obs[:, :1], draw.normal(4, OBS), 3)
    expect(not bool(got[4].any()), "terminated should be what the model says: only it stops bootstrapping")


@branched_rollouts.case("the model and the policy are asked about the branches that go on, never about none")
def _(answer: Callable, draw: Draw) -> None:
    count = torch.arange(4.0)  # branch i ends with its step number 4 - i
    starts, asked, acted = torch.stack([count, draw.normal(4)], -1), [], []

    def policy(obs: Tensor) -> Tensor:
        acted.append(len(obs))
        return obs[:, 1:]

    def step(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        expect(len(obs) > 0, "the model is asked about no branch at all: stop when none is left")
        asked.append(len(obs))
        over, kind = obs[:, 0] > 2, obs[:, 1] > 0
        return obs + torch.tensor([1.0, 0.0]), action[:, 0], over & kind, over & ~kind

    answer(step, policy, starts, 6)
    for who, rows in (("model", asked), ("policy", [n for n in acted if n])):
        came = rows[:-4]  # the contract calls the reference after the answer
        says = f"the {who} is asked about branches that have ended, too: hand on those that go on"
        expect(came == [4, 3, 2, 1], says, came=f"branches asked about, one call after the other: {came}")


@branched_rollouts.case("when every branch has ended, it is over", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    def step(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        expect(len(obs) > 0, "the model is asked about no branch at all: stop when none is left")
        return obs + 1, action[:, 0], torch.ones(len(obs), dtype=torch.bool), torch.zeros(len(obs), dtype=torch.bool)

    starts = draw.normal(4, OBS)
    got = answer(step, lambda obs: obs[:, :1], starts, 5)
    expect_close(got[0], starts, "one step of each branch should come")
    expect(bool(got[4].all()), "each of them terminated")


def _stock(draw: Draw, size: int, sign: float) -> Transitions:
    """Transitions that can be told apart: numbers above 0 for the real, below for the synthetic."""
    obs, action, reward = draw.uniform(size, OBS) + 0.1, draw.uniform(size, 1), draw.uniform(size)
    return Transitions(sign * obs, sign * action, sign * reward, sign * obs + 3, draw.flags(size))


def _pools(draw: Draw, batch: int = 24, ratio: float = 3.0) -> tuple[Any, ...]:
    """real (5 rows), synthetic (9 rows), ratio, uniform."""
    return _stock(draw, 5, 1.0), _stock(draw, 9, -1.0), ratio, draw.uniform(batch)


def _mixed(real: Transitions, synthetic: Transitions, count: int, uniform: Tensor, turn: bool = False) -> Transitions:
    parts = []
    for source, share in ((real, uniform[:count]), (synthetic, uniform[count:])):
        parts.append([x[(share * len(x)).long()] for x in source])
    return Transitions(*(torch.cat(pair[::-1] if turn else pair) for pair in zip(*parts, strict=True)))


mix = Exercise(
    reference=dyna.mix,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "One real to `ratio` synthetic: of 1 + ratio transitions, how many are real? Of B?",
        "The first `count` uniform numbers choose real rows, the others synthetic ones. Each kind has its own number "
        "of rows to choose from.",
        "count = round(B / (1 + ratio)); row numbers (share * size).long(); index all five columns with the same "
        "rows, and torch.cat real and synthetic column by column.",
    ),
    example=_pools,
)


@mix.case("one real to `ratio` synthetic, the real ones first")
def _(answer: Callable, draw: Draw) -> None:
    real, synthetic, _, uniform = _pools(draw)
    for ratio, right in ((3.0, 6), (5.0, 4), (0.5, 16), (2.7, 6), (3.2, 6), (100.0, 0)):
        share = len(uniform) / (1 + ratio)
        others = {
            "ratio real to one synthetic: it is the other way round": len(uniform) - right,
            "of 1 + ratio transitions one is real: divide by 1 + ratio": round(len(uniform) / ratio),
            "half and half: where does ratio come in?": len(uniform) // 2,
            "nothing is real": 0,
            "everything is real": len(uniform),
            "B / (1 + ratio) is cut off: round it": int(share),
            "at least one is made real: round(B / (1 + ratio)) may be 0": max(1, round(share)),
            "B / (1 + ratio) is rounded up: round it to the nearest": math.ceil(share),
        }
        mistakes = {says: _mixed(real, synthetic, min(n, len(uniform)), uniform) for says, n in others.items()}
        mistakes["the synthetic ones come first"] = _mixed(real, synthetic, right, uniform, turn=True)
        mistakes["real and synthetic are exchanged"] = _mixed(synthetic, real, right, uniform)
        got = answer(real, synthetic, ratio, uniform)
        came = int((got[0][:, 0] > 0).sum())
        likely = f"at ratio {ratio:g} of {len(uniform)} transitions {right} should be real, and {came} are"
        if came == right:
            likely = "the rows are not those that uniform chooses: floor(uniform * number of rows), each source its own"
        _compare(got, _mixed(real, synthetic, right, uniform), likely, mistakes)


@mix.case("all five columns come from the same rows")
def _(answer: Callable, draw: Draw) -> None:
    size = 40
    number = torch.arange(size, dtype=torch.float32)
    stock = Transitions(
        number[:, None].expand(-1, OBS), number[:, None], number, number[:, None] + torch.zeros(1, OBS), number > 19
    )
    obs, action, reward, next_obs, terminated = answer(stock, stock, 1.0, draw.uniform(30))
    same = (obs[:, 0] == action[:, 0]) & (obs[:, 0] == reward) & (obs[:, 0] == next_obs[:, 0])
    expect(
        bool((same & (terminated == (reward > 19))).all()), "the columns are torn apart: index all with the same rows"
    )


@mix.case("every row can come, and each as often as another")
def _(answer: Callable, draw: Draw) -> None:
    size, batch = 8, 1600
    number = torch.arange(size, dtype=torch.float32)
    stock = Transitions(number[:, None], number[:, None], number, number[:, None], number > 99)
    even = (torch.arange(batch) % 400 + 0.5) / 400
    reward = answer(stock, stock, 1.0, even)[2]
    counts = torch.bincount(reward.long(), minlength=size).float() / batch
    likely = "evenly spread uniform numbers should bring every row equally often"
    expect_close(counts, torch.full((size,), 1 / size), likely, tolerance=0.02)


@mix.case("ratio 0 is all real; a share of 0.9999999 is the last row", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    real, synthetic, _, uniform = _pools(draw)
    expect_close(
        _flat(answer(real, synthetic, 0.0, uniform)),
        _flat(_mixed(real, synthetic, len(uniform), uniform)),
        "at ratio 0 nothing synthetic should come",
    )
    last = torch.full((6,), 1 - 2**-24)
    expect_close(answer(real, synthetic, 1.0, last)[2][:3], real.reward[-1:].expand(3), "the last row should come")
