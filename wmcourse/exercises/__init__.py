"""The course's exercises and the four things one does with them: check, hint, catalogue, grade.

A lesson's exercises live in the module of the lesson's name; a new file here is found by itself.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import pkgutil
from collections import Counter
from typing import Any, TypeVar

from wmcourse.grading.exercise import Case, Draw, Exercise, Mistake
from wmcourse.grading.progress import remember
from wmcourse.grading.verdict import Verdict, grade_answer

__all__ = [
    "Case",
    "Draw",
    "Exercise",
    "Mistake",
    "UnknownExercise",
    "Verdict",
    "catalogue",
    "check",
    "find",
    "grade",
    "hint",
]

Answer = TypeVar("Answer")


class UnknownExercise(ValueError):
    """No exercise has this id; the message names the nearest ids."""


class NotPassed(AssertionError):
    """Raised by `check` in strict mode (WMCOURSE_STRICT=1), with the verdict as its message."""


@functools.cache
def _by_id() -> dict[str, Exercise]:
    found: list[Exercise] = []
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        found += [member for member in members if isinstance(member, Exercise)]
    found.sort(key=lambda exercise: exercise.lesson)  # stable: within a lesson, in the order of the file
    return {exercise.id: exercise for exercise in found}


def catalogue() -> list[Exercise]:
    """Every exercise, in the order of the course."""
    return list(_by_id().values())


def find(id: str) -> Exercise:
    """The exercise of this id; UnknownExercise, with the nearest ids, where there is none."""
    if id in _by_id():
        return _by_id()[id]
    near = difflib.get_close_matches(str(id), _by_id(), n=3, cutoff=0.4)
    known = f"the nearest: {', '.join(near)}" if near else "wmcourse.exercises.catalogue() lists them all"
    raise UnknownExercise(f"no exercise is called {id!r}; {known}")


def grade(id: str, answer: Any, *, seed: int = 0, hidden: bool = True) -> Verdict:
    """Grade an answer: a verdict with .passed, .points, .max_points and .cases (.name, .passed, .message).

    Args:
        id: the exercise's id, which is the name of the function it asks for.
        answer: the learner's function or class.
        seed: the cases draw their inputs from it.
        hidden: whether the hidden cases run, too.

    Raises:
        UnknownExercise: no exercise has this id.
    """
    return grade_answer(find(id), answer, seed=seed, hidden=hidden)


def check(id: str, answer: Answer) -> Answer:
    """Print the verdict on an answer; return the answer where it passes, else the reference, and say so.

    With WMCOURSE_STRICT=1 in the environment the hidden cases run, too, and a verdict short of passed raises.
    """
    strict = os.environ.get("WMCOURSE_STRICT", "") not in ("", "0")
    try:
        exercise = find(id)
    except UnknownExercise as error:
        if strict:
            raise
        print(f"check: {error}")
        return answer
    if answer is exercise.reference:
        message = f"{id}: this is the course's own function; run the cell with yours first, then this one"
        if strict:
            raise NotPassed(message)
        print(message)
        return answer
    verdict = grade_answer(exercise, answer, hidden=strict)
    print(verdict)
    if verdict.passed:
        if trouble := remember(id):
            print(f"  ({trouble})")
        return answer
    if strict:
        raise NotPassed(str(verdict))
    print(f'  The lesson goes on with the reference {id}. Stuck? hint("{id}")')
    return exercise.reference  # type: ignore[return-value]


_hints_shown: Counter[str] = Counter()


def hint(id: str, level: int | None = None) -> None:
    """Print the next of an exercise's three hints, or the one of this level (1 to 3)."""
    try:
        exercise = find(id)
    except UnknownExercise as error:
        print(f"hint: {error}")
        return
    count = len(exercise.hints)
    if level is None:
        level = min(_hints_shown[id] + 1, count)
        _hints_shown[id] = level
    if level not in range(1, count + 1):
        print(f"hint: level should be 1 to {count}, and {level!r} came")
        return
    print(f"{id}, hint {level} of {count}: {exercise.hints[level - 1]}")
