"""feedback/SLUG.md: a learner's feedback as Markdown, for those who answer in an issue, a pull request or a mail."""

from __future__ import annotations

import re
from collections.abc import Iterator

from wmcourse.grading.records import Row
from wmcourse.grading.reports.shown import Shown, points, shown, warning, weak
from wmcourse.grading.reports.text import MESSAGE, NOTE, PRINTED, in_code, in_fence, visible


def render(row: Row, wall_note: str = "") -> str:
    """The page. What a learner wrote stands in code spans and code blocks only, where nothing is markup."""
    return "\n\n".join([*_head(row, wall_note), *(part for r in row.results for part in _exercise(shown(r)))]) + "\n"


def _head(row: Row, wall_note: str) -> Iterator[str]:
    yield f"# Feedback for {in_code(row.student)}"
    yield f"**{row.points} of {points(row.max_points)}**, {_plain(row.status)}"
    if weak(row):
        yield f"> **{_plain(warning(wall_note), NOTE)}**"
    if row.note:
        yield in_fence(row.note, NOTE)
    if row.files:
        yield "Notebooks read: " + ", ".join(in_code(name) for name in row.files)


def _exercise(exercise: Shown) -> Iterator[str]:
    yield f"## {_plain(exercise.id)}: {_plain(exercise.reason)}, {exercise.points} of {points(exercise.max_points)}"
    yield _plain(exercise.verdict)
    if exercise.note:
        yield in_fence(exercise.note, NOTE)
    for case in exercise.cases:
        yield f"- {_plain(case.kind)}: {_plain(case.name)}"
        if case.message and not case.passed:
            yield in_fence(case.message, MESSAGE)
    if exercise.hidden:
        yield exercise.hidden
    if exercise.printed:
        yield "Your code printed:"
        yield in_fence(exercise.printed, PRINTED)


def _plain(text: str, limit: int = NOTE) -> str:
    """The course's or the instructor's own words, which may hold letters that Markdown takes for markup."""
    return re.sub(r"([\\`*_\[\]<>#|~&$!])", r"\\\1", visible(text, limit))
