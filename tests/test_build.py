"""The notebooks that are committed are the ones that would be built."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from wmcourse.authoring.build import COMPARED, LessonError, learner_notebook, read_lesson, sources
from wmcourse.exercises import catalogue, grade
from wmcourse.grading.handin import read_handin

ROOT = Path(__file__).parents[1]
LESSONS = sources(ROOT)
IDS = [exercise.id for exercise in catalogue()]
pytestmark = pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)


def cells(notebook) -> list[dict]:
    kept = ("id", "cell_type", "source", "metadata")
    return [{key: json.loads(json.dumps(cell[key])) for key in kept} for cell in notebook.cells]


def test_the_learners_notebook_is_the_one_that_would_be_built(source: Path) -> None:
    committed = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", 4)
    assert cells(committed) == cells(learner_notebook(read_lesson(source))), "run make notebooks"
    assert all(not cell.outputs for cell in committed.cells if cell.cell_type == "code")


def test_the_solution_is_the_one_that_would_be_built_and_was_run(source: Path) -> None:
    committed = nbformat.read(source.with_suffix(".ipynb"), 4)
    assert cells(committed) == cells(read_lesson(source)), "run make notebooks"
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_notebooks_are_valid_and_small(source: Path) -> None:
    for path in (ROOT / "notebooks" / f"{source.stem}.ipynb", source.with_suffix(".ipynb")):
        nbformat.validate(nbformat.read(path, 4))
        assert path.stat().st_size < 2_000_000


def test_the_learners_notebook_holds_no_answer(source: Path) -> None:
    text = (ROOT / "notebooks" / f"{source.stem}.ipynb").read_text(encoding="utf-8")
    assert "SOLUTION" not in text
    assert COMPARED not in text
    handin = read_handin(ROOT / "notebooks" / f"{source.stem}.ipynb", IDS)
    assert handin.stubs == list(handin.answers)


def test_every_exercise_of_the_lesson_is_in_it_solved_and_checked(source: Path) -> None:
    notebook = nbformat.read(source.with_suffix(".ipynb"), 4)
    handin = read_handin(source.with_suffix(".ipynb"), IDS)
    wanted = [exercise.id for exercise in catalogue() if exercise.lesson == source.stem]
    assert list(handin.answers) == wanted, "an exercise is missing, or stands in another order than in its file"
    assert 3 <= len(wanted) <= 6
    for id in wanted:
        verdict = grade(id, handin.load(id))
        assert verdict.passed, str(verdict)
        check = next(cell for cell in notebook.cells if cell.id == f"check-{id}")
        assert check.source.startswith(COMPARED)


def test_an_exercise_without_markers_is_refused(source: Path, tmp_path: Path) -> None:
    text = source.read_text(encoding="utf-8").replace("### END SOLUTION", "")
    broken = tmp_path / source.name
    broken.write_text(text, encoding="utf-8")
    with pytest.raises(LessonError, match="BEGIN SOLUTION"):
        read_lesson(broken)
