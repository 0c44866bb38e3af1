"""feedback/SLUG.html: a learner's feedback as a page."""

from __future__ import annotations

from wmcourse.grading.records import Row
from wmcourse.grading.reports.charts import share_bar
from wmcourse.grading.reports.page import badge, banner, page
from wmcourse.grading.reports.shown import Shown, points, shown, warning, weak
from wmcourse.grading.reports.text import MESSAGE, NOTE, PRINTED, in_html, visible
from wmcourse.grading.verdict import CaseResult


def render(row: Row, wall_note: str = "") -> str:
    """The page: the score, a table of the exercises, and for each its visible cases and why they did not pass."""
    exercises = [shown(result) for result in row.results]
    parts = [_head(row, wall_note), _overview(exercises), *map(_exercise, exercises)]
    return page(f"Feedback for {visible(row.student)}", "\n".join(part for part in parts if part))


def _head(row: Row, wall_note: str) -> str:
    names = ", ".join(f"<bdi>{in_html(name)}</bdi>" for name in row.files)
    lines = [
        '<p class="kind">World models: feedback</p>',
        f"<h1><bdi>{in_html(row.student)}</bdi></h1>",
        banner(warning(wall_note)) if weak(row) else "",
        f'<p class="score"><strong>{row.points}</strong> of {points(row.max_points)}</p>',
        share_bar(row.points, row.max_points),
        "" if row.status == "graded" else f"<p>{badge(row.status)}</p>",
        f"<pre>{in_html(row.note, NOTE, lines=True)}</pre>" if row.note else "",
        f'<p class="soft">Notebooks read: {names}</p>' if names else "",
    ]
    return "\n".join(line for line in lines if line)


def _overview(exercises: list[Shown]) -> str:
    if not exercises:
        return ""
    lines = "\n".join(
        f'<tr><th scope="row"><a href="#exercise-{in_html(exercise.id)}">{in_html(exercise.id)}</a></th>'
        f'<td>{badge(exercise.reason)}</td><td class="number">{exercise.points} of {exercise.max_points}</td></tr>'
        for exercise in exercises
    )
    heads = '<th scope="col">exercise</th><th scope="col">result</th><th scope="col" class="number">points</th>'
    return f"""<section class="card" aria-label="overview">
<table>
<caption>An exercise gives all of its points, or none.</caption>
<thead><tr>{heads}</tr></thead>
<tbody>
{lines}
</tbody>
</table>
</section>"""


def _exercise(exercise: Shown) -> str:
    title = f"exercise-{in_html(exercise.id)}"
    cases = "\n".join(map(_case, exercise.cases))
    parts = [
        f'<section class="card" aria-labelledby="{title}">',
        f'<div class="top"><h2 id="{title}">{in_html(exercise.id)}</h2>',
        f"<span>{badge(exercise.reason)} {exercise.points} of {points(exercise.max_points)}</span></div>",
        f'<p class="soft">{in_html(exercise.verdict)}</p>',
        f"<pre>{in_html(exercise.note, NOTE, lines=True)}</pre>" if exercise.note else "",
        f'<ul class="cases">\n{cases}\n</ul>' if cases else "",
        f"<p>{exercise.hidden}</p>" if exercise.hidden else "",
        _printed(exercise.printed),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _case(case: CaseResult) -> str:
    why = ""
    if case.message and not case.passed:
        why = f"\n<pre>{in_html(case.message, MESSAGE, lines=True)}</pre>"
    return f'<li><div class="case">{badge(case.kind)} <span>{in_html(case.name)}</span></div>{why}</li>'


def _printed(printed: str) -> str:
    if not printed:
        return ""
    return f"<h3>Your code printed</h3>\n<pre>{in_html(printed.rstrip(), PRINTED, lines=True)}</pre>"
