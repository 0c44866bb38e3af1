"""gradescope/SLUG/results.json: what Gradescope's harness reads from an autograder."""

from __future__ import annotations

import json
from typing import Any

from wmcourse.grading.records import Row
from wmcourse.grading.reports.shown import Shown, plain, shown, warning, weak
from wmcourse.grading.reports.text import NOTE, visible


def render(row: Row, wall_note: str = "") -> str:
    """A student's results as gradescope-autograders.readthedocs.io/en/latest/specs describes them.

    One test per exercise, its output the feedback as plain text (`text`: Gradescope escapes it; its default for the
    output of the whole, `simple_format`, would read it as HTML). Nothing of a hidden case is in here, so all of it is
    visible; what the autograder itself prints stays the instructor's.
    """
    results: dict[str, Any] = {
        "score": row.points,
        "output": _overall(row, wall_note),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [_test(shown(result)) for result in row.results],
    }
    return json.dumps(results, indent=1, ensure_ascii=True) + "\n"


def _overall(row: Row, wall_note: str) -> str:
    parts = [warning(wall_note) if weak(row) else "", visible(row.note, NOTE)]
    parts += [f"{row.points} of {row.max_points} points. Status: {visible(row.status)}."]
    return "\n".join(part for part in parts if part)


def _test(exercise: Shown) -> dict[str, Any]:
    return {
        "name": visible(exercise.id),
        "score": exercise.points,
        "max_score": exercise.max_points,
        "status": "passed" if exercise.reason == "passed" else "failed",
        "output": plain(exercise),
        "output_format": "text",
        "visibility": "visible",
    }
