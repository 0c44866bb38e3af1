"""moodle.csv: an offline grading worksheet for Moodle's assignment, also good for its gradebook's CSV import."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wmcourse.grading.records import Row
from wmcourse.grading.reports.grades_csv import table
from wmcourse.grading.reports.shown import Shown, points, shown, warning, weak
from wmcourse.grading.reports.text import NOTE, cell, in_html

_HEAD = (
    "Identifier",
    "Full name",
    "Email address",
    "ID number",
    "Grade",
    "Maximum Grade",
    "Last modified (grade)",
    "Feedback comments",
)
_SHORT = 500  # characters of a message: the page in feedback/ has the rest


def render(rows: Sequence[Row], wall_note: str = "") -> str:
    """A line per student.

    Columns: Identifier, "Participant 123456", by which the assignment knows the student (it stands in the names of
    "Download all submissions"; empty where the hand-in came another way, and the assignment then skips the line); Full
    name; Email address and ID number (from `email` and `sid`), which the gradebook's import can match by; Grade, the
    points; Maximum Grade, which must be the assignment's own maximum grade; Last modified (grade), empty; Feedback
    comments, a short HTML text. Moodle reads the heads in English: set the site's language so while you import.
    """
    return table([_HEAD, *(_line(row, wall_note) for row in rows)])


def _line(row: Row, wall_note: str) -> list[str | int]:
    known = row.external
    number = re.fullmatch(r"(?:Participant )?([0-9]+)", known.get("moodle_participant", ""))
    name = cell(known.get("moodle_name") or row.student)
    return [
        f"Participant {number.group(1)}" if number else "",
        name,
        cell(known.get("email", "")),
        cell(known.get("sid", "")),
        row.points,
        row.max_points,
        "",
        _comments(row, wall_note),
    ]


def _comments(row: Row, wall_note: str) -> str:
    """The feedback as HTML in one line; Moodle stores it as it comes."""
    parts = [warning(wall_note)] if weak(row) else []
    parts += [row.note] if row.note else []
    lines = [_in_moodle(part) for part in parts]
    for result in row.results:
        lines += _exercise(shown(result))
    return "<br>".join(lines)


def _exercise(exercise: Shown) -> list[str]:
    head = f"{exercise.id}: {exercise.reason}, {exercise.points} of {points(exercise.max_points)}."
    told = [_in_moodle(head), _in_moodle(exercise.note)]
    for case in exercise.cases:
        if case.message and not case.passed:
            told.append(_in_moodle(f"{case.name}: {case.kind}"))
            told += [_in_moodle(line) for line in _head(case.message).splitlines()]
            break  # the first is enough here
    return [line for line in (*told, _in_moodle(exercise.hidden)) if line]


def _head(message: str) -> str:
    return message if len(message) <= _SHORT else message[:_SHORT] + "…"


def _in_moodle(text: str) -> str:
    """Text for HTML in a cell: a sheet finds no formula in it, wherever it cuts, and Moodle no address to link."""
    apart = re.sub(r"(?i)(www)\.", r"\1[.]", text.replace("://", "[:]//"))
    return re.sub(r"[-=+@\\＝＋－＠]", lambda found: f"&#{ord(found.group())};", in_html(apart, NOTE))
