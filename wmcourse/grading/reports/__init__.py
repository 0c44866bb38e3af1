"""Every report that is written from rows: for the gradebook, for each learner, for the platforms, for the class.

The texts in a row are a stranger's: `text` makes them fit for each format. What a learner may see is cut out once, by
`shown`: hidden cases are counted there, and neither named nor explained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from wmcourse.grading.exercise import Exercise
from wmcourse.grading.records import Result, Row, from_json
from wmcourse.grading.reports import (
    canvas_csv,
    class_html,
    feedback_html,
    feedback_md,
    grades_csv,
    gradescope_json,
    junit_xml,
    moodle_csv,
)
from wmcourse.grading.reports.files import sweep, write_whole
from wmcourse.grading.reports.text import visible

__all__ = ["read_rows", "write_reports"]


def write_reports(rows: Sequence[Row], exercises: Sequence[Exercise], out: Path, *, wall_note: str = "") -> None:
    """Write grades.csv, canvas.csv, moodle.csv, class.html, junit.xml, and each student's feedback and Gradescope file.

    The same rows, in whatever order, give the same bytes. Each file is written whole or not at all. Files of students
    who are not among the rows are left alone.

    Args:
        rows: the class. A result of an exercise that is not asked for is left out; one that lacks counts as not run.
        exercises: what was graded, in the order of the course.
        out: the folder RESULTS; made where it is missing.
        wall_note: a sentence on the wall; every report repeats it where a row was graded behind processes only.

    Raises:
        ValueError: two rows share a slug, or one is no name for a file.
        OSError: a file cannot be written.
    """
    rows = sorted((_aligned(row, exercises) for row in rows), key=lambda row: row.slug)
    _refuse_bad_slugs(rows)
    for folder in (out, out / "feedback", *(out / "gradescope").glob("*")):
        sweep(folder)
    for path, text in _reports(rows, exercises, wall_note):
        write_whole(out / path, text)


def read_rows(out: Path) -> list[Row]:
    """The rows that a run has written to out/rows so far, in the order of their slugs.

    Raises:
        ValueError: a file there is no row; the message names it.
        OSError: a file cannot be read.
    """
    rows = []
    for path in (out / "rows").glob("*.json"):
        try:
            rows.append(from_json(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return sorted(rows, key=lambda row: row.slug)


def _reports(rows: Sequence[Row], exercises: Sequence[Exercise], wall_note: str) -> Iterator[tuple[str, str]]:
    """Every report, as its path below RESULTS and its text."""
    for row in rows:
        yield f"feedback/{row.slug}.html", feedback_html.render(row, wall_note)
        yield f"feedback/{row.slug}.md", feedback_md.render(row, wall_note)
        yield f"gradescope/{row.slug}/results.json", gradescope_json.render(row, wall_note)
    yield "grades.csv", grades_csv.render(rows, exercises)
    yield "canvas.csv", canvas_csv.render(rows, exercises)
    yield "moodle.csv", moodle_csv.render(rows, wall_note)
    yield "junit.xml", junit_xml.render(rows, exercises, wall_note)
    yield "class.html", class_html.render(rows, exercises, wall_note)


def _aligned(row: Row, exercises: Sequence[Exercise]) -> Row:
    """The row with a name, and with exactly one result per exercise, in their order."""
    known = {result.id: result for result in row.results}
    empty = (Result(exercise.id, "not run", 0, exercise.points) for exercise in exercises)
    results = tuple(known.get(result.id, result) for result in empty)
    return replace(row, student=row.student if row.student.strip() else "(no name)", results=results)


def _refuse_bad_slugs(rows: Sequence[Row]) -> None:
    taken: set[str] = set()
    for row in rows:
        slug = row.slug
        if not slug or slug.startswith(".") or set(slug) & set('/\\:*?"<>|') or visible(slug) != slug:
            raise ValueError(f"not fit for a file's name: {slug!r}")
        if slug.casefold() in taken:
            raise ValueError(f"two students share the slug {slug!r}")
        taken.add(slug.casefold())
