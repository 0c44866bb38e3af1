"""Lesson 00's exercises: returns, recording, episode boundaries, the action swap, and how a world ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmcourse import replay
from wmcourse import start_here as reference
from wmcourse.grading.exercise import Draw, Exercise, Mistake
from wmcourse.grading.expect import expect, expect_close
from wmcourse.worlds import make_pendulum

LESSON = "00_start_here"


discounted_return = Exercise(
    reference=reference.discounted_return,
    lesson=LESSON,
    points=1,
    minutes=5,
    difficulty=1,
    hints=(
        "Stand at the last step: what is still to come there? Then take one step back in time.",
        "Each return is the reward now plus discount times the return one step later. Which end do you know first?",
        "Loop over the rewards from last to first and carry one number; collect, turn the order around, stack once.",
    ),
    example=lambda draw: (draw.normal(7, mean=1.0), 0.8),
)


@discounted_return.case("a single reward at the end is seen from afar, discounted once for each step between")
def _(answer: Callable, draw: Draw) -> None:
    reward = torch.zeros(6)
    reward[-1] = prize = 2.0 + draw.uniform().item()
    away = torch.arange(5, -1, -1)
    expect_close(
        answer(reward, 0.7),
        prize * 0.7**away,
        "a reward k steps away counts discount to the power of k",
        mistakes={
            "looks back, not ahead: what was earned before does not count, what is still to come does": reward,
            "the returns come last step first: turn them around": prize * 0.7 ** torch.arange(6.0),
            "nothing is discounted: how much is a reward worth that is a step away?": torch.full((6,), prize),
            "the reward of the step itself is discounted, too: how far away is it?": prize * 0.7 ** (away + 1),
            "the power counts from the start of the episode: it should count from the step where you stand": (
                torch.full((6,), prize * 0.7**5)
            ),
            "weighed with 1 - discount: this is an average, a return is a sum": 0.3 * prize * 0.7**away,
            "divided by the discount: what is far away should count less": prize * 0.7 ** -away.float(),
        },
    )


@discounted_return.case("a single reward at the start is gone after the first step")
def _(answer: Callable, draw: Draw) -> None:
    reward = torch.zeros(6)
    reward[0] = prize = 2.0 + draw.uniform().item()
    expect_close(
        answer(reward, 0.7),
        reward,
        "what was earned before a step is no part of what is still to come",
        mistakes={
            "a reward of the past still counts: the return looks ahead only": prize * 0.7 ** torch.arange(6.0),
            "every step has the return of the first: each has its own, from there on": torch.full((6,), prize),
        },
    )


@discounted_return.case("each return is the reward plus the discounted next return")
def _(answer: Callable, draw: Draw) -> None:
    reward, discount = draw.normal(9, mean=1.0), 0.85
    value = answer(reward, discount)
    later = torch.cat([value[1:], torch.zeros(1)])
    wanted = reward + discount * later
    expect_close(
        value,
        wanted,
        "G_t should be r_t + discount * G_{t+1}, and r_t alone at the last step: which step breaks that?",
    )


@discounted_return.case("works for one step, for discount 0 and for discount 1", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    reward = draw.normal(5)
    expect_close(answer(reward[:1], 0.9), reward[:1], "an episode of one step returns its reward")
    expect_close(answer(reward, 0.0), reward, "with discount 0 only the reward of the step itself counts")
    expect_close(answer(reward, 1.0), reward.flip(0).cumsum(0).flip(0), "with discount 1 all that follow count in full")


class ScriptedWorld:
    """A world whose every number is known: obs is (the seed it began from, steps taken).

    Args:
        steps: when the episode ends.
        ends: "terminated", "truncated" or "both".
    """

    def __init__(self, steps: int, ends: str):
        self.steps, self.ends = steps, ends
        self.now, self.start = 0, -1.0
        self.trouble: Mistake | None = None
        self.asked: list[int] = []  # questions to a policy, by episode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Begin; without a seed somewhere else every time, as a real world does."""
        self.now, self.start = 0, float(seed) if seed is not None else self.start - 1.0
        self.asked.append(0)
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray, np.float64, bool, bool, dict]:
        """The reward is 100 * (steps taken before) + action, float64 as Gymnasium's own often is."""
        if self.now >= self.steps:
            how = "terminated or truncated" if self.ends == "both" else self.ends
            self.trouble = Mistake(
                f"step was called after the episode was {how}: which of the two flags does your loop not look at?",
                came=f"a step after the last of {self.steps}",
            )
            raise self.trouble
        earned = np.float64(100 * self.now + float(np.asarray(action).reshape(-1)[0]))
        self.now += 1
        over = self.now == self.steps
        ends, cuts = self.ends in ("terminated", "both"), self.ends in ("truncated", "both")
        return self._obs(), earned, over and ends, over and cuts, {}

    def _obs(self) -> np.ndarray:
        return np.array([self.start, self.now], np.float32)


def _act(obs: Any) -> np.ndarray:
    """An action that tells which observation it was chosen from."""
    return np.array([0.5 + obs[1] / 8], np.float32)


def _played(answer: Callable, world: ScriptedWorld, policy: Callable, seed: int) -> tuple:
    try:
        return answer(world, policy, seed)
    finally:
        if world.trouble is not None:
            raise world.trouble


record_episode = Exercise(
    reference=replay.record_episode,
    lesson=LESSON,
    points=2,
    minutes=12,
    difficulty=2,
    hints=(
        "reset gives the first observation, every step gives one more: how many are there after T steps?",
        "Keep five lists. Before the loop, store what reset gave. In the loop: ask the policy once, step, store all.",
        "Loop while neither flag has been true; then np.array(list) and torch.as_tensor, with dtype where it says so.",
    ),
    example=lambda draw: (ScriptedWorld(5, "terminated"), _act, int(draw.integers(low=1, high=90))),
)


@record_episode.case("every observation is kept, from the one that reset gave to the one after the last step")
def _(answer: Callable, draw: Draw) -> None:
    seed = int(draw.integers(low=1, high=90))
    obs = _played(answer, ScriptedWorld(6, "terminated"), _act, seed)[0]
    steps = torch.arange(7.0)
    expect_close(
        obs[:, 1],
        steps,
        "obs[t] should be what was seen before step t: print what your list holds after two steps",
        mistakes={
            "the first observation, from reset, is missing, and the last is there twice": (steps + 1).clamp(max=6),
            "the last observation, after the last step, is missing, and the first is there twice": (steps - 1).clamp(
                min=0
            ),
            "every row holds the last observation: is one array stored again and again?": torch.full((7,), 6.0),
            "every row holds the first observation: does what step returns reach your loop?": torch.zeros(7),
            "the observations run backwards": steps.flip(0),
        },
    )


@record_episode.case("the seed is handed to reset")
def _(answer: Callable, draw: Draw) -> None:
    seed = int(draw.integers(low=2, high=90))
    began = _played(answer, ScriptedWorld(3, "terminated"), _act, seed)[0][:, 0]
    expect_close(
        began,
        torch.full((4,), float(seed)),
        "the same seed should give the same start",
        mistakes={
            "reset got no seed: nobody can repeat this episode": torch.full((4,), -2.0),
            "reset got the seed 0, whatever was asked for": torch.zeros(4),
        },
    )


@record_episode.case("an episode that is cut by a time limit ends there, and says truncated")
def _(answer: Callable, draw: Draw) -> None:
    seed = int(draw.integers(low=1, high=90))
    *_, terminated, truncated = _played(answer, ScriptedWorld(4, "truncated"), _act, seed)
    expect(
        not terminated.any(), "a time limit is no end of the world: are the two flags swapped or mixed?", "terminated"
    )
    expect(bool(truncated[-1]), "the last step was cut by the time limit: where is that kept?", "truncated all False")
    expect(not truncated[:-1].any(), "only the last step is truncated", f"truncated {truncated.tolist()}")


@record_episode.case("an episode that terminates says terminated, and not truncated")
def _(answer: Callable, draw: Draw) -> None:
    seed = int(draw.integers(low=1, high=90))
    *_, terminated, truncated = _played(answer, ScriptedWorld(4, "terminated"), _act, seed)
    expect(
        not truncated.any(), "the world ended, nobody cut the recording: are the flags swapped or mixed?", "truncated"
    )
    expect(bool(terminated[-1]), "the last step ended the world: where is that kept?", "terminated all False")
    expect(not terminated[:-1].any(), "only the last step is terminated", f"terminated {terminated.tolist()}")


@record_episode.case("action[t] is the one that was chosen from obs[t], and reward[t] what it earned")
def _(answer: Callable, draw: Draw) -> None:
    steps = int(draw.integers(low=4, high=8))
    t = torch.arange(float(steps))
    chosen, earned = 0.5 + t / 8, 100 * t + 0.5 + t / 8
    _, action, reward, *_ = _played(answer, ScriptedWorld(steps, "terminated"), _act, 7)
    expect_close(
        action[:, 0],
        chosen,
        "action[t] should be what the policy said when it saw obs[t]",
        mistakes={
            "action[t] was chosen from obs[t + 1]: in which order do you ask, step and store?": 0.5 + (t + 1) / 8,
            "action[t] is the action of the step before: is the list shifted?": 0.5 + (t - 1).clamp(min=0) / 8,
            "every action was chosen from the first observation: does the policy see the new one?": chosen[:1].expand(
                steps
            ),
        },
    )
    expect_close(
        reward,
        earned,
        "reward[t] should be what step returned for action[t]",
        mistakes={
            "reward[t] is the reward of the step before: is the list shifted?": torch.cat(
                [torch.zeros(1), earned[:-1]]
            ),
            "reward[t] is the reward of the step after: is the list shifted?": torch.cat([earned[1:], torch.zeros(1)]),
            "the rewards are summed up as they come: one reward a step is asked for": earned.cumsum(0),
        },
    )


@record_episode.case("the policy is asked once a step, and what it said is what is stored")
def _(answer: Callable, draw: Draw) -> None:
    world = ScriptedWorld(5, "terminated")

    def moody(obs: Any) -> np.ndarray:
        world.asked[-1] += 1
        return np.array([float(world.asked[-1])], np.float32)

    _, action, reward, *_ = _played(answer, world, moody, 3)
    taken = reward - 100 * torch.arange(5.0)
    likely = "the stored action is not the one that was taken: do you ask the policy twice? It may answer differently"
    expect_close(action[:, 0], taken, likely)
    likely = "ask the policy once a step, and not after the end"
    expect(world.asked[0] == 5, likely, f"{world.asked[0]} questions in 5 steps")


@record_episode.case("episodes of one step, and ends that are both at once", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    obs, *_ = _played(answer, ScriptedWorld(1, "truncated"), _act, 4)
    expect_close(obs[:, 1], torch.tensor([0.0, 1.0]), "an episode of one step has two observations")
    *_, terminated, truncated = _played(answer, ScriptedWorld(3, "both"), _act, 4)
    both = bool(terminated[-1]) and bool(truncated[-1])
    expect(both, "a world can end at the very step of the time limit: keep both flags as they came")


@record_episode.case("records a real pendulum: 200 steps that obey its physics", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    world = make_pendulum()
    seed = int(draw.integers(low=1, high=90))
    asked = 0

    def swing(seen: Any) -> np.ndarray:
        nonlocal asked
        asked += 1
        if asked > 450:  # 200 for the answer, 200 for the reference
            raise Mistake("the loop goes on after the time limit of 200 steps", came=f"{asked} questions to the policy")
        return np.array([1.5 * np.sin(3 * seen[2])], np.float32)

    obs, action, *_ = answer(world, swing, seed)
    speed = obs[:-1, 2] + 0.05 * (15 * obs[:-1, 1] + 3 * action[:, 0])
    expect_close(obs[1:, 2], speed.clamp(-8, 8), "obs[t], action[t] and obs[t + 1] do not belong together")


def _stream(lengths: list[int], draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """A counting world: obs is (episode, step), the action tells which step it was taken at; 0 at an episode's end."""
    obs, action, first = [], [], []
    for episode, length in enumerate(lengths):
        for step in range(length + 1):
            obs.append([float(episode), float(step)])
            action.append([0.0, 0.0, 0.0] if step == length else [float(episode), float(step), 0.0])
            first.append(step == 0)
    noise = torch.rand(len(action), 1, generator=draw.generator) + 1
    action = torch.tensor(action)
    action[:, 2:] = noise
    return torch.tensor(obs), action, torch.tensor(first)


def _lengths(draw: Draw, count: int, low: int = 2, high: int = 6) -> list[int]:
    return [int(n) for n in draw.integers(count, low=low, high=high)]


def _cut(answer: Callable, lengths: list[int], draw: Draw) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    """The answer to a stream, and the numbers of rows it should have kept."""
    obs, action, first = _stream(lengths, draw)
    happened = (~first[1:]).nonzero().flatten()
    rows, count, kept = len(obs), len(lengths), len(happened)
    try:
        return answer(obs, action, first), happened, action
    except Mistake as mistake:
        if "shape" not in mistake.likely:
            raise
        likely = f"{count} episodes in {rows} rows hold {kept} steps: which rows are no step, because nothing follows?"
        if f"shape ({rows - 1}, " in mistake.came:
            likely = "no step was dropped: the one from an episode's last row to the next one's first never happened"
        elif f"shape ({rows - count - 1}, " in mistake.came or f"shape ({kept - count}, " in mistake.came:
            likely = "too much was dropped: the first row of an episode is a good beginning of a step"
        elif f"shape ({rows}, " in mistake.came:
            likely = "as many steps as rows: what follows the last row, and what follows an episode's last?"
        elif f"shape ({count - 1}, " in mistake.came or f"shape ({count}, " in mistake.came:
            likely = "the steps across the boundaries were kept and the real ones dropped: is the flag turned around?"
        raise Mistake(likely, came=mistake.came) from None


def _within(lengths: list[int], draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """A window that begins at an episode's second row."""
    obs, action, first = _stream(lengths, draw)
    return obs[1:], action[1:], first[1:]


stream_transitions = Exercise(
    reference=reference.stream_transitions,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "Row i and row i + 1 make a step. Draw two short episodes on paper; cross out the step that never happened.",
        "The step from row i to row i + 1 never happened when row i + 1 is the first of an episode.",
        "Slice obs and action without their last row, obs and first without their first; keep where the flag is False.",
    ),
    example=lambda draw: _within([8], draw),
)


@stream_transitions.case("one episode: each observation goes with what came after it, in order")
def _(answer: Callable, draw: Draw) -> None:
    (now, taken, after), _happened, action = _cut(answer, [8], draw)
    expect_close(
        now[:, 1],
        torch.arange(8.0),
        "the first part holds the observations 0 to T - 1, in order",
        mistakes={"now and next are swapped: return obs, action, next_obs": torch.arange(1.0, 9.0)},
    )
    expect_close(
        after[:, 1],
        torch.arange(1.0, 9.0),
        "next_obs[i] should be one step after obs[i]",
        mistakes={
            "next_obs is the same as obs: how far is next?": torch.arange(8.0),
            "next_obs is one step before obs: did you shift the wrong way?": torch.arange(-1.0, 7.0).clamp(min=0),
        },
    )
    expect_close(
        taken,
        action[:-1],
        "the action at row i was taken at obs[i]",
        mistakes={"the action of the row after: action[i] goes with obs[i], then comes obs[i + 1]": action[1:]},
    )


@stream_transitions.case("no step crosses from one episode to the next")
def _(answer: Callable, draw: Draw) -> None:
    lengths = [6, *_lengths(draw, 2), 7]
    (now, _taken, after), happened, _ = _cut(answer, lengths, draw)
    crossing = (now[:, 0] != after[:, 0]).sum()
    expect(
        crossing == 0,
        "a step begins in one episode and ends in another: which row tells you?",
        f"{int(crossing)} such steps",
    )
    obs, _action, _first = _stream(lengths, draw)
    likely = "the wrong steps were dropped: is it the row that is first, or the one before it, that leads nowhere?"
    expect_close(now, obs[happened], likely)
    expect_close(after, obs[happened + 1], likely)


@stream_transitions.case("the actions are dropped with their steps")
def _(answer: Callable, draw: Draw) -> None:
    lengths = [5, *_lengths(draw, 3)]
    (_now, taken, _after), happened, action = _cut(answer, lengths, draw)
    likely = "the actions and the observations no longer belong together: are both cut by the same flags?"
    expect_close(taken, action[happened], likely)


@stream_transitions.case("only first tells where an episode begins", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    obs, action = draw.normal(30, 2), draw.normal(30, 1)
    action[::3] = 0  # an action that was taken can be 0: CartPole's push to the left is
    first = torch.zeros(30, dtype=torch.bool)
    first[[0, 5, 12, 14, 23]] = True
    likely = "the numbers in obs and action say nothing of boundaries: which argument does?"
    try:
        found = answer(obs, action, first)
    except Mistake as mistake:
        raise Mistake(likely, came=mistake.came) from None
    for part, right in zip(found, reference.stream_transitions(obs, action, first), strict=True):
        expect_close(part, right, likely)


@stream_transitions.case("a window that begins within an episode, and episodes of one step", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    obs, action, first = _stream([4, 1, 1, 5], draw)
    for begin in (0, 2, 4, 5):
        window = obs[begin:], action[begin:], first[begin:]
        wanted = reference.stream_transitions(*window)
        likely = "a window that begins in the middle of an episode, or right at its end, has no row before it"
        for part, right in zip(answer(*window), wanted, strict=True):
            expect_close(part, right, likely)


def _swap_inputs(draw: Draw) -> tuple[Callable, Tensor, Tensor, Tensor, Tensor]:
    weight = draw.normal(2, 3)
    obs, action = draw.normal(12, 3), draw.normal(12, 2)
    noise = draw.normal(12, 3) * torch.tensor([0.3, 0.6, 1.2])
    next_obs = obs + action @ weight + noise
    order = torch.randperm(12, generator=draw.generator)
    while bool((order == torch.arange(12)).any()) or torch.equal(order.argsort(), order):
        order = torch.randperm(12, generator=draw.generator)
    return lambda obs, action: obs + action @ weight, obs, action, next_obs, order


swap_ratio = Exercise(
    reference=reference.swap_ratio,
    lesson=LESSON,
    points=3,
    minutes=10,
    difficulty=3,
    hints=(
        "Ask the model twice: once with the actions that were taken, once with somebody else's. Which error is larger?",
        "The observations and what really came next stay as they are. Only the actions change places, by order.",
        "Mean squared error over all numbers, with action[order] in place of action; divide it by the error without.",
    ),
    example=_swap_inputs,
)


@swap_ratio.case("a model that is blind to actions scores exactly 1")
def _(answer: Callable, draw: Draw) -> None:
    _predict, obs, action, next_obs, order = _swap_inputs(draw)
    gap, moved = ((obs - wanted).square().mean() for wanted in (next_obs, next_obs[order]))
    moved_obs = (obs[order] - next_obs).square().mean()
    expect_close(
        answer(lambda obs, action: obs, obs, action, next_obs, order),
        torch.tensor(1.0),
        "swapping actions that nobody looks at should change nothing",
        mistakes={
            "a difference? How many times the error grows is asked for: 1 means not at all": torch.tensor(0.0),
            "the observations change places, too: swap the actions alone": moved_obs / gap,
            "what came next changes places: only the actions should": moved / gap,
            "one error only: divide the swapped one by the true one": gap,
            "a half: the swapped error is part of what you divide by": torch.tensor(0.5),
        },
    )


@swap_ratio.case("the swapped error is divided by the true one, both mean squares")
def _(answer: Callable, draw: Draw) -> None:
    predict, obs, action, next_obs, order = _swap_inputs(draw)
    true, swapped = predict(obs, action) - next_obs, predict(obs, action[order]) - next_obs
    ratio = swapped.square().mean() / true.square().mean()
    other = predict(obs, action[order.argsort()]) - next_obs
    between = (predict(obs, action[order]) - predict(obs, action)).square().mean()
    turned = predict(obs[order], action) - next_obs
    expect_close(
        answer(predict, obs, action, next_obs, order),
        ratio,
        "the mean squared error with swapped actions, divided by the mean squared error with the true ones",
        mistakes={
            "upside down: a model that heeds its actions should score above 1": 1 / ratio,
            "a ratio of root mean squares: leave the square root out": ratio.sqrt(),
            "absolute errors: squares are asked for": swapped.abs().mean() / true.abs().mean(),
            "always 1: the batch was reordered whole, or not at all; only the actions should move": torch.ones(()),
            "averaged over ratios: average the errors first, then divide": (
                swapped.square().mean(0) / true.square().mean(0)
            ).mean(),
            "averaged over ratios, row by row: average the errors first, then divide": (
                swapped.square().mean(1) / true.square().mean(1)
            ).mean(),
            "the order is turned around: row i gets the action of row order[i]": (
                other.square().mean() / true.square().mean()
            ),
            "the actions are turned end to end: order says who gets whose": (
                (predict(obs, action.flip(0)) - next_obs).square().mean() / true.square().mean()
            ),
            "the actions are shifted by one row: order says who gets whose": (
                (predict(obs, action.roll(1, 0)) - next_obs).square().mean() / true.square().mean()
            ),
            "how far the predictions move is no error: compare both with what really came next": (
                between / true.square().mean()
            ),
            "the observations changed places: swap the actions alone": turned.square().mean() / true.square().mean(),
            "the ratio less 1: how many times larger is asked for": ratio - 1,
            "the logarithm of the ratio: leave it as it is": ratio.log(),
        },
    )


@swap_ratio.case("an order that leaves everything in place scores 1, whatever the model", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    predict, obs, action, next_obs, _order = _swap_inputs(draw)
    likely = "the actions go where order says: is order used, or are they shuffled by other means?"
    expect_close(answer(predict, obs, action, next_obs, torch.arange(12)), torch.tensor(1.0), likely)


@swap_ratio.case("on many samples it finds the ratio that theory gives", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    count = 4_000  # no more: an answer may well ask the model row by row
    obs, action = draw.normal(count, 1), draw.normal(count, 1)
    next_obs = obs + 3 * action + draw.normal(count, 1, std=0.5)
    order = torch.randperm(count, generator=draw.generator)
    wanted = torch.tensor((9 * 2 + 0.25) / 0.25)  # two independent actions differ by twice their variance
    value = answer(lambda o, a: o + 3 * a, obs, action, next_obs, order)
    expect_close(value, wanted, "(2 * 9 + 0.25) / 0.25 = 73 is the exact ratio here", tolerance=0.15)


def _target_inputs(draw: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    terminated, truncated = torch.tensor([0, 1, 0, 1] * 3).bool(), torch.tensor([0, 0, 1, 1] * 3).bool()
    return draw.normal(12, mean=2.0), draw.normal(12, mean=-3.0), terminated, truncated, 0.8


bootstrap_target = Exercise(
    reference=reference.bootstrap_target,
    lesson=LESSON,
    points=2,
    minutes=5,
    difficulty=2,
    hints=(
        "The target is the reward plus what is still to come. When is nothing to come?",
        "After terminated nothing can follow. After truncated the world goes on, only the camera is off.",
        "Multiply the discounted next value by 0 where terminated is True and by 1 elsewhere (~ turns a bool around).",
    ),
    example=_target_inputs,
)


@bootstrap_target.case("in the middle of an episode: the reward and the discounted next value")
def _(answer: Callable, draw: Draw) -> None:
    reward, value, *_ = _target_inputs(draw)
    never = torch.zeros(12, dtype=torch.bool)
    expect_close(
        answer(reward, value, never, never, 0.8),
        reward + 0.8 * value,
        "no flag is up: what does one step earn, and what is the rest worth?",
        mistakes={
            "the next value is not discounted": reward + value,
            "the reward alone: in the middle of an episode something is still to come": reward,
            "the reward is discounted, too: it comes now": 0.8 * (reward + value),
            "the reward is missing": 0.8 * value,
            "discount and 1 - discount share one between them: this is an average, a return is a sum": (
                0.2 * reward + 0.8 * value
            ),
            "discounted twice": reward + 0.64 * value,
            "the sign of the next value is turned around": reward - 0.8 * value,
        },
    )


@bootstrap_target.case("terminated: nothing follows")
def _(answer: Callable, draw: Draw) -> None:
    reward, value, _, _, discount = _target_inputs(draw)
    ends = torch.arange(12) % 3 == 1
    never = torch.zeros(12, dtype=torch.bool)
    wanted = torch.where(ends, reward, reward + discount * value)
    expect_close(
        answer(reward, value, ends, never, discount),
        wanted,
        "where the world has ended only the reward is left, and elsewhere all is as before",
        mistakes={
            "the next value counts though the world has ended: is terminated used?": reward + discount * value,
            "the last reward is lost: it was earned before the world ended": torch.where(ends, 0.0, wanted),
            "turned around: the value counts only where the world has ended": torch.where(
                ends, reward + discount * value, reward
            ),
            "one end silences the whole batch: each row has its own flag": reward,
            "the next value comes back without its discount": torch.where(ends, reward, reward + value),
        },
    )


@bootstrap_target.case("truncated: the world goes on, and so does its value")
def _(answer: Callable, draw: Draw) -> None:
    reward, value, _, _, discount = _target_inputs(draw)
    cut = torch.arange(12) % 3 == 1
    never = torch.zeros(12, dtype=torch.bool)
    wanted = reward + discount * value
    expect_close(
        answer(reward, value, never, cut, discount),
        wanted,
        "a time limit should change nothing here",
        mistakes={
            "truncated is treated as terminated: did the world end, or only the recording?": torch.where(
                cut, reward, wanted
            ),
            "the value counts only where the recording was cut": torch.where(cut, wanted, reward),
            "the reward of a truncated step is lost": torch.where(cut, discount * value, wanted),
            "a truncated step is left out: its reward and the value after it both count": torch.where(cut, 0.0, wanted),
            "the next value loses its discount where the recording was cut": torch.where(cut, reward + value, wanted),
        },
    )


@bootstrap_target.case("both at once: terminated decides", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    reward, value, _, _, discount = _target_inputs(draw)
    both = torch.arange(12) % 2 == 0
    wanted = torch.where(both, reward, reward + discount * value)
    expect_close(answer(reward, value, both, both, discount), wanted, "a world that has ended stays ended, cut or not")


@bootstrap_target.case("discount 0 and 1", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    reward, value, terminated, truncated, _ = _target_inputs(draw)
    likely = "the discount should be the one that was given"
    expect_close(answer(reward, value, terminated, truncated, 0.0), reward, likely)
    wanted = torch.where(terminated, reward, reward + value)
    expect_close(answer(reward, value, terminated, truncated, 1.0), wanted, likely)
