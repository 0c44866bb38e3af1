"""What a learner may see of a result. Every learner-facing format is written from this, so that none can show more."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from wmcourse.grading.records import Result, Row
from wmcourse.grading.reports.text import MESSAGE, NOTE, PRINTED, visible
from wmcourse.grading.verdict import CaseResult

PROCESS_ONLY = (
    "WARNING, process only: graded without the bubblewrap sandbox. Limits on time and memory held, but the code of a "
    "hand-in was not kept away from files, the network or the grader, so this result is no proof against cheating."
)

_SAID = {
    "passed": "Every case passed.",
    "failed": "Some cases did not pass.",
    "error": "The answer raised an error.",
    "timed out": "The answer used up its time.",
    "out of memory": "The answer used up its memory.",
    "crashed": "The process that ran the answer died.",
    "missing": "No answer was found.",
    "unreadable": "No notebook could be read.",
    "not run": "This exercise did not run.",
}


@dataclass(frozen=True)
class Shown:
    """One exercise as its learner may see it.

    Args:
        id, reason, points, max_points, note, printed: as in `Result`.
        cases: the visible ones. Of the hidden ones nothing stays but their numbers:
        hidden_passed, hidden_failed, hidden_open: how many passed, did not pass, did not run.
    """

    id: str
    reason: str
    points: int
    max_points: int
    cases: tuple[CaseResult, ...]
    hidden_passed: int
    hidden_failed: int
    hidden_open: int
    note: str
    printed: str

    @property
    def verdict(self) -> str:
        """One sentence on how it ended."""
        if self.reason == "failed" and self.cases and all(case.passed for case in self.cases):
            return "Every visible case passed, but a hidden one did not."
        return _SAID.get(self.reason, self.reason)

    @property
    def hidden(self) -> str:
        """One sentence on the hidden cases; empty where there were none."""
        counts = (self.hidden_passed, "passed"), (self.hidden_failed, "did not pass"), (self.hidden_open, "did not run")
        if not (total := sum(count for count, _ in counts)):
            return ""
        told = ", ".join(f"{count} {what}" for count, what in counts if count)
        return f"{total} hidden case{'' if total == 1 else 's'}: {told}."


def shown(result: Result) -> Shown:
    """A result without its hidden cases."""
    hidden = [case for case in result.cases if case.hidden]
    passed = sum(case.passed for case in hidden)
    idle = sum(case.kind == "not run" for case in hidden)
    return Shown(
        id=result.id,
        reason=result.reason,
        points=result.points,
        max_points=result.max_points,
        cases=tuple(case for case in result.cases if not case.hidden),
        hidden_passed=passed,
        hidden_failed=len(hidden) - passed - idle,
        hidden_open=idle,
        note=result.note,
        printed=result.printed,
    )


def weak(row: Row) -> bool:
    """Whether anything less than bubblewrap stood between the hand-in and the grader."""
    return row.wall != "bubblewrap"


def warning(wall_note: str) -> str:
    """What every report of a process-only run says, with the grader's own remark behind it."""
    return f"{PROCESS_ONLY} {visible(wall_note, NOTE)}".strip()


def points(number: int) -> str:
    """A number of points in words: 1 point, 2 points."""
    return f"{number} point{'' if number == 1 else 's'}"


def plain(exercise: Shown) -> str:
    """An exercise's feedback as plain text, every line of it safe to print."""
    parts = [exercise.verdict, visible(exercise.note, NOTE)]
    for case in exercise.cases:
        parts.append(f"[{case.kind}] {visible(case.name)}")
        if case.message and not case.passed:
            parts.append(textwrap.indent(visible(case.message, MESSAGE, lines=True), "    "))
    parts.append(exercise.hidden)
    if exercise.printed:
        head = visible(exercise.printed.rstrip(), PRINTED, lines=True)
        parts += ["Your code printed:", textwrap.indent(head, "    ")]
    return "\n".join(part for part in parts if part)
