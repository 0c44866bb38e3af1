"""canvas.csv: for Canvas, Grades, Import."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wmcourse.grading.exercise import Exercise
from wmcourse.grading.records import Row
from wmcourse.grading.reports.grades_csv import table
from wmcourse.grading.reports.text import cell


def render(rows: Sequence[Row], exercises: Sequence[Exercise]) -> str:
    """A line per student behind the line "Points Possible", as Canvas' own export has it.

    Columns: Student; ID, the number by which Canvas knows the user (it stands in the file names of a submissions
    download); SIS User ID, from `sid`; SIS Login ID, from `email`; Section, empty; a column per lesson, its points.
    Canvas looks for a student by ID, then by the SIS columns, last by name. It looks for an assignment by its title:
    name yours as the column, or write the column as "TITLE (NUMBER)" with the assignment's number, or let Canvas make
    a new one.
    """
    lessons = list(dict.fromkeys(exercise.lesson for exercise in exercises))
    possible = [sum(e.points for e in exercises if e.lesson == lesson) for lesson in lessons]
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    return table(
        [
            [*head, *map(cell, lessons)],
            ["    Points Possible", "", "", "", "", *possible],
            *(_line(row, exercises, lessons) for row in rows),
        ]
    )


def _line(row: Row, exercises: Sequence[Exercise], lessons: Sequence[str]) -> list[str | int]:
    known = row.external
    number = known.get("canvas_user_id") or known.get("canvas_id", "")
    who = [_name(row.student), cell(number), cell(known.get("sid", "")), cell(known.get("email", "")), ""]
    earned = dict.fromkeys(lessons, 0)
    for exercise, result in zip(exercises, row.results, strict=True):
        earned[exercise.lesson] += result.points
    return [*who, *earned.values()]


def _name(student: str) -> str:
    """A name that Canvas cannot take for the line of the points: it looks for these words anywhere in the cell."""
    return re.sub(r"(Points)(\s)(?=Possible)", r"\1_", cell(student))
