"""Grade one answer to one exercise, and say the result so that the next step is clear."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wmcourse.grading.contract import Answer, expect_signature
from wmcourse.grading.exercise import Case, Draw, Exercise
from wmcourse.grading.guard import Outcome, run_guarded


@dataclass(frozen=True)
class CaseResult:
    """One case's result; `kind` is passed, open, not run, or how it went wrong; `message` says why."""

    name: str
    kind: str
    message: str = ""
    hidden: bool = False

    @property
    def passed(self) -> bool:
        """Whether the answer has the property."""
        return self.kind == "passed"


@dataclass(frozen=True)
class Verdict:
    """What grading said of one answer. An exercise's points are given whole or not at all."""

    id: str
    max_points: int
    cases: tuple[CaseResult, ...]
    printed: str = ""

    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return all(case.passed for case in self.cases)

    @property
    def open(self) -> bool:
        """Whether the answer is still the stub that came with the notebook."""
        return any(case.kind == "open" for case in self.cases)

    @property
    def points(self) -> int:
        """max_points where every case passed, else 0."""
        return self.max_points if self.passed else 0

    def __str__(self) -> str:
        if self.open:
            waiting = "1 point waits" if self.max_points == 1 else f"{self.max_points} points wait"
            return f"{self.id}: open, not written yet ({waiting})"
        good = sum(case.passed for case in self.cases)
        points = "1 point" if self.points == 1 else f"{self.points} points"
        state = f"passed, {points}" if self.passed else "not yet"
        lines = [f"{self.id}: {state} ({good} of {len(self.cases)} cases)"]
        told = False
        for case in self.cases:
            shown = "a hidden case: " + case.name if case.hidden and not case.passed else case.name
            lines.append(f"  {_MARKS.get(case.kind, '[no]')} {shown}")
            if not case.passed and not told and case.message:
                lines.append(textwrap.indent(case.message, "       "))
                told = True
        if self.printed and not self.passed:
            lines += ["  your code printed:", textwrap.indent(self.printed.rstrip(), "       ")]
        return "\n".join(lines)

    __repr__ = __str__


_MARKS = {"passed": "[ok]", "not run": "[--]"}


def grade_answer(
    exercise: Exercise,
    answer: Any,
    *,
    seed: int = 0,
    hidden: bool = True,
    seconds: float | None = None,
    before_hidden: Callable[[], object] = lambda: None,
) -> Verdict:
    """Run an exercise's cases against an answer.

    Args:
        exercise: the exercise.
        answer: the learner's function or class; anything else fails the first case, and says so.
        seed: the cases draw their inputs from it.
        hidden: whether the hidden cases run, too.
        seconds: how long a case may take, instead of what the exercise says.
        before_hidden: called once before the first hidden case, where one runs.
    """
    results: list[CaseResult] = []
    printed = ""
    stopped = False
    for case in exercise.cases:
        if case.hidden and not hidden:
            continue
        if stopped:
            results.append(CaseResult(case.name, "not run", hidden=case.hidden))
            continue
        if case.hidden and not any(result.hidden for result in results):
            before_hidden()
        outcome = _run_case(exercise, case, answer, seed, seconds or exercise.seconds)
        printed = printed or outcome.printed
        results.append(CaseResult(case.name, outcome.kind, outcome.message, case.hidden))
        stopped = outcome.kind in ("open", "timed out", "crashed")  # one endless loop is enough to wait for
    return Verdict(exercise.id, exercise.points, tuple(results), printed)


def _run_case(exercise: Exercise, case: Case, answer: Any, seed: int, seconds: float) -> Outcome:
    def run() -> None:
        expect_signature(answer, exercise.reference)
        case.run(Answer(answer, exercise.reference), Draw(seed, f"{exercise.id}/{case.name}"))

    return run_guarded(run, seconds)
