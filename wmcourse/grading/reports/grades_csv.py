"""grades.csv: the class on one sheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from wmcourse.grading.exercise import Exercise
from wmcourse.grading.records import Row
from wmcourse.grading.reports.text import NOTE, cell


def table(lines: Iterable[Sequence[str | int]]) -> str:
    """Lines of cells as CSV: commas, UTF-8 without a mark, a line feed behind each line."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def render(rows: Sequence[Row], exercises: Sequence[Exercise]) -> str:
    """A line per student, in the order of the slugs.

    Columns: student; a column per exercise, named by its id, with the points; total; max; status (graded or
    unreadable); for each exercise `ID reason`, one of records.REASONS; wall (bubblewrap or process only); slug, by
    which feedback/ and gradescope/ name the student; note.
    """
    ids = [exercise.id for exercise in exercises]
    reasons = [f"{id} reason" for id in ids]
    return table([["student", *ids, "total", "max", "status", *reasons, "wall", "slug", "note"], *map(_line, rows)])


def _line(row: Row) -> list[str | int]:
    points = [result.points for result in row.results]
    reasons = [cell(result.reason) for result in row.results]
    ends = [cell(row.wall), cell(row.slug), cell(row.note, NOTE)]
    return [cell(row.student), *points, row.points, row.max_points, cell(row.status), *reasons, *ends]
