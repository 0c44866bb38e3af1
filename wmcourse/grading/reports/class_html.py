"""class.html: item statistics, for the instructor. Hidden cases have names here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from urllib.parse import quote

from wmcourse.grading.exercise import Exercise
from wmcourse.grading.records import Row
from wmcourse.grading.reports.charts import histogram, reasons_bar
from wmcourse.grading.reports.items import CaseCount, Item, items
from wmcourse.grading.reports.page import badge, banner, page
from wmcourse.grading.reports.shown import warning, weak
from wmcourse.grading.reports.text import NOTE, in_html, visible

_TROUBLE = ("unreadable", "timed out", "out of memory", "crashed")


def render(rows: Sequence[Row], exercises: Sequence[Exercise], wall_note: str = "") -> str:
    """The page: the scores, the exercises and their cases, the hand-ins that want a look, and everyone."""
    found = items(rows, exercises)
    parts = [_head(rows, wall_note), _scores(rows, exercises), _exercises(found), _cases(found), _trouble(rows)]
    return page("Class results", "\n".join([*parts, _everyone(rows)]), wide=True)


def _head(rows: Sequence[Row], wall_note: str) -> str:
    count = sum(map(weak, rows))
    lines = ['<p class="kind">World models: for the instructor, not for the class</p>', "<h1>Class results</h1>"]
    if count:
        lines.append(banner(warning(f"This holds for {count} of {len(rows)} hand-ins. {wall_note}")))
    elif wall_note:
        lines.append(f'<p class="soft">{in_html(wall_note, NOTE)}</p>')
    return "\n".join(lines)


def _scores(rows: Sequence[Row], exercises: Sequence[Exercise]) -> str:
    if not rows:
        return '<section class="card"><p>There are no hand-ins.</p></section>'
    most = sum(exercise.points for exercise in exercises)
    scores = [row.points for row in rows]
    figures = {
        "hand-ins": str(len(rows)),
        "mean": f"{statistics.fmean(scores):.1f} of {most}",
        "median": f"{statistics.median(scores):g}",
        "full marks": str(sum(row.points == row.max_points for row in rows)),
        "no points": str(scores.count(0)),
        "seed": visible(", ".join(map(str, sorted({row.seed for row in rows})))),
    }
    told = "".join(f"<div><dt>{name}</dt><dd>{in_html(value)}</dd></div>" for name, value in figures.items())
    chart = histogram(scores, max(most, *scores))  # rows of an older run may hold more than the exercises now give
    return _section("scores", "Scores", f'<dl class="figures">{told}</dl>\n{chart}')


def _table(heads: Sequence[str], lines: Sequence[str]) -> str:
    """A table; a head that ends in # is a column of numbers."""
    tops = "".join(map(_top, heads))
    body = "\n".join(lines)
    return f'<div class="scroll"><table>\n<thead><tr>{tops}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _top(head: str) -> str:
    return f'<th scope="col" class="number">{head[:-1]}</th>' if head[-1] == "#" else f'<th scope="col">{head}</th>'


def _section(name: str, title: str, body: str) -> str:
    return f'<section class="card" aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{body}\n</section>'


def _exercises(found: Sequence[Item]) -> str:
    lines = [
        f'<tr><th scope="row" class="whole">{in_html(item.id)}<br><span class="soft">{in_html(item.lesson)}</span></th>'
        f'<td class="number">{_share(item.passed, item.total)}</td><td>{reasons_bar(item.reasons)}</td>'
        f"<td>{_hardest(item.hardest)}</td></tr>"
        for item in found
    ]
    heads = ["exercise", "passed#", "how the hand-ins ended", "case that fails most"]
    return _section("exercises", "Exercises", _table(heads, lines))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "none ran"


def _hardest(case: CaseCount | None) -> str:
    return f"{_named(case)}: {case.failed} of {case.ran}" if case else "none failed"


def _named(case: CaseCount) -> str:
    return in_html(case.name) + (' <span class="badge">hidden</span>' if case.hidden else "")


def _cases(found: Sequence[Item]) -> str:
    parts = []
    for item in found:
        lines = [
            f'<tr><th scope="row">{_named(case)}</th><td class="number">{case.failed}</td>'
            f'<td class="number">{case.ran}</td><td class="number">{_share(case.failed, case.ran)}</td></tr>'
            for case in item.cases
        ]
        table = _table(["case", "failed#", "ran#", "share failed#"], lines) if lines else "<p>No case ran.</p>"
        parts.append(f"<details><summary>{in_html(item.id)}</summary>\n{table}</details>")
    return _section("cases", "Cases", "\n".join(parts))


def _trouble(rows: Sequence[Row]) -> str:
    lines = [_named_row(row, told) for row in rows if (told := _what(row))]
    body = _table(["student", "what, where and why"], lines) if lines else "<p>None.</p>"
    return _section("trouble", "Unreadable, out of time or memory, crashed", body)


def _what(row: Row) -> str:
    if row.status == "unreadable":
        return f"{badge('unreadable')} {in_html(row.note, NOTE)}"
    bad = [result for result in row.results if result.reason in _TROUBLE]
    return "<br>".join(f"{badge(one.reason)} {in_html(one.id)} {in_html(one.note, NOTE)}".strip() for one in bad)


def _named_row(row: Row, *cells: str) -> str:
    name = f'<a href="feedback/{quote(row.slug)}.html"><bdi>{in_html(row.student)}</bdi></a>'
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{one}</td>" for one in cells)}</tr>'


def _everyone(rows: Sequence[Row]) -> str:
    lines = [_named_row(row, badge(row.status), f"{row.points} of {row.max_points}", in_html(row.wall)) for row in rows]
    return _section("everyone", "Everyone", _table(["student", "status", "points", "wall"], lines))
