"""What the grader knows of a hand-in when it is done: a row of results, which every report is written from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from wmcourse.grading.verdict import CaseResult

# Every way an exercise can end. Only "passed" earns points.
REASONS = (
    "passed",
    "failed",
    "error",
    "timed out",
    "out of memory",
    "crashed",
    "missing",
    "unreadable",
    "not run",
)


@dataclass(frozen=True)
class Result:
    """One exercise of one hand-in.

    Args:
        id: the exercise.
        reason: how it ended, one of REASONS.
        points, max_points: points is max_points where the reason is passed, else 0.
        cases: in the order they ran; empty where nothing ran.
        note: a sentence for the learner, such as why nothing ran; may be empty.
        printed: the head of what the answer printed.
    """

    id: str
    reason: str
    points: int
    max_points: int
    cases: tuple[CaseResult, ...] = ()
    note: str = ""
    printed: str = ""


@dataclass(frozen=True)
class Row:
    """One student's hand-in, graded.

    Args:
        student: the name as it came: a folder's or a file's name, or what an export of Canvas, Moodle or Gradescope
            says. Anything at all may stand in it.
        slug: the same, fit for a file's name and unlike every other student's.
        status: "graded", or "unreadable" where no notebook could be read.
        note: what to say of the hand-in as a whole; may be empty.
        files: the names of the notebooks that were read.
        results: in the order of the course.
        wall: "bubblewrap", or "process only".
        seed: the cases drew their inputs from it.
        external: numbers by which the platform that exported the hand-in knows the student, such as canvas_user_id.
        key: changes when the hand-in, the seed, the limits or the course does; a row with another key is out of date.
    """

    student: str
    slug: str
    status: str
    note: str
    files: tuple[str, ...]
    results: tuple[Result, ...]
    wall: str
    seed: int
    external: dict[str, str]
    key: str = ""

    @property
    def points(self) -> int:
        """The sum over exercises."""
        return sum(result.points for result in self.results)

    @property
    def max_points(self) -> int:
        """What a hand-in without a fault earns."""
        return sum(result.max_points for result in self.results)


def to_json(row: Row) -> str:
    """A row as JSON text; the same row gives the same bytes."""
    return json.dumps(asdict(row), indent=1, ensure_ascii=True, sort_keys=True)


def from_json(text: str) -> Row:
    """The row that `to_json` wrote; ValueError where the text is something else."""
    try:
        raw: dict[str, Any] = json.loads(text)
        results = tuple(
            Result(**{**result, "cases": tuple(CaseResult(**case) for case in result["cases"])})
            for result in raw["results"]
        )
        return Row(**{**raw, "results": results, "files": tuple(raw["files"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a row of results: {error}") from None
