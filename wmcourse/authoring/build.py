"""Build a lesson's two notebooks from its one source, solutions/NN_topic.py (a jupytext percent script).

notebooks/NN_topic.ipynb is the learner's: stubs, no outputs. solutions/NN_topic.ipynb is the same lesson executed.
Both carry nbgrader's cell metadata (schema 3).

    python -m wmcourse.authoring.build            every lesson
    python -m wmcourse.authoring.build 03 04      these
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from wmcourse.exercises import find
from wmcourse.grading.exercise import Exercise

SOLUTION = re.compile(r"^(?P<indent> *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION\n?", re.MULTILINE | re.DOTALL)
COMPARED = "# NBVAL_CHECK_OUTPUT"  # nbval compares the output of a cell that says so
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
CELL_SECONDS = 300


class LessonError(ValueError):
    """A lesson's source breaks a rule; the message names the file and the rule."""


def sources(root: Path) -> list[Path]:
    """The lessons' scripts below a checkout, in the order of the course."""
    return sorted((root / "solutions").glob("[0-9][0-9]_*.py"))


def read_lesson(source: Path) -> NotebookNode:
    """A lesson as the notebook of its solution, not yet executed: cell ids, exercise headers, nbgrader metadata.

    Raises:
        LessonError: an exercise cell without solution markers, or a check of something that is no exercise.
    """
    import jupytext

    cells: list[NotebookNode] = []
    for cell in jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent").cells:
        id = cell.metadata.get("exercise")
        if id:
            exercise = _exercise_of(source, cell, id)
            cells.append(new_markdown_cell(header(exercise), id=f"header-{id}"))
            cell.metadata = {"exercise": id, "nbgrader": _nbgrader(id, solution=True)}
            cell.id = f"exercise-{id}"
        elif checked := re.search(r"^\w+ = check\(\"(\w+)\", ", cell.source, re.MULTILINE):
            id = checked[1]
            cell.metadata = {"nbgrader": _nbgrader(f"check-{id}", points=find(id).points)}
            cell.id = f"check-{id}"
        else:
            cell.metadata = {}
            cell.id = f"cell-{fingerprint(cell.source)}"  # the same in the next version, if the text is
        while cell.id in {other.id for other in cells}:
            cell.id += "-again"
        cells.append(cell)
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.pop("outputs", None)
    return nbformat.from_dict(new_notebook(cells=cells, metadata=KERNEL))  # type: ignore[return-value]


def _exercise_of(source: Path, cell: NotebookNode, id: str) -> Exercise:
    if len(SOLUTION.findall(cell.source)) != 1:
        raise LessonError(f"{source}: exercise {id} should have one ### BEGIN SOLUTION and one ### END SOLUTION")
    exercise = find(id)
    if exercise.lesson != source.stem:
        raise LessonError(f"{source}: exercise {id} says that it belongs to lesson {exercise.lesson}")
    return exercise


def header(exercise: Exercise) -> str:
    """The markdown line above an exercise: difficulty in dots, minutes, points, and where help is."""
    dots = "●" * exercise.difficulty + "○" * (5 - exercise.difficulty)
    points = "1 point" if exercise.points == 1 else f"{exercise.points} points"
    facts = f"{dots} · {exercise.minutes} min · {points}"
    return f'**Exercise `{exercise.id}`** · {facts} · stuck? `hint("{exercise.id}")`'


def _nbgrader(grade_id: str, *, solution: bool = False, points: int | None = None) -> dict[str, Any]:
    graded = points is not None
    data = {"schema_version": 3, "grade_id": grade_id, "grade": graded, "solution": solution, "locked": graded}
    return {**data, "task": False, **({"points": points} if graded else {})}


def learner_notebook(solution: NotebookNode) -> NotebookNode:
    """The learner's notebook: solutions become stubs, outputs go, and each cell notes how it was shipped."""
    notebook: Any = nbformat.from_dict(solution)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = SOLUTION.sub(r"\g<indent>raise NotImplementedError  # your code here\n", cell.source)
            cell.source = re.sub(rf"^{COMPARED}\n?", "", cell.source, flags=re.MULTILINE).rstrip("\n")
            cell.outputs, cell.execution_count = [], None
        cell.metadata["shipped"] = fingerprint(cell.source)
    return notebook


def fingerprint(source: str) -> str:
    """Twelve hex digits of a cell's source: whether a learner has changed the cell since it was shipped."""
    return hashlib.sha256(source.strip().encode()).hexdigest()[:12]


def execute(notebook: NotebookNode, name: str) -> NotebookNode:
    """Run a notebook in a fresh kernel and an empty folder; keep its outputs but not its progress bars."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        runs_on = {"WMCOURSE_PROGRESS": f"{folder}/progress.json", "SDL_VIDEODRIVER": "dummy"}
        client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", record_timing=False)
        client.resources = {"metadata": {"path": folder}}
        before = dict(os.environ)
        os.environ.update(runs_on)
        try:
            client.execute()
        except Exception as error:
            raise LessonError(f"{name} does not run to its end:\n{error}") from None
        finally:
            os.environ.clear()
            os.environ.update(before)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata = nbformat.from_dict(KERNEL)
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook whole, or not at all."""
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_suffix(".partial")
    nbformat.write(notebook, str(scratch))
    scratch.replace(path)


def build(root: Path, only: list[str]) -> None:
    """Build both notebooks of every lesson, or of those whose names begin with one of `only`."""
    chosen = [source for source in sources(root) if not only or source.name.startswith(tuple(only))]
    if not chosen:
        raise LessonError(f"no lesson in {root / 'solutions'} begins with {' or '.join(only) or 'two digits'}")
    for source in chosen:
        lesson = read_lesson(source)
        write(learner_notebook(lesson), root / "notebooks" / f"{source.stem}.ipynb")
        print(f"{source.stem}: running the solution", flush=True)
        write(execute(lesson, source.name), source.with_suffix(".ipynb"))


if __name__ == "__main__":
    try:
        build(Path.cwd(), sys.argv[1:])
    except LessonError as error:
        sys.exit(f"build: {error}")
