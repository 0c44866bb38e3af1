"""A learner's notebook as tests: one item a case, failures in the learner's words."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
LESSON = ROOT / "notebooks" / "03_reparameterization.ipynb"


@pytest.fixture
def notebook(pytester: pytest.Pytester):
    def write(**answers: str) -> Path:
        learner = nbformat.read(LESSON, 4)
        for cell in learner.cells:
            if cell.id.removeprefix("exercise-") in answers:
                cell.source = answers[cell.id.removeprefix("exercise-")]
        path = pytester.path / "mine.ipynb"
        nbformat.write(learner, path)
        return path

    return write


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:nbval", *args)


def test_the_solution_passes_hidden_cases_included(pytester) -> None:
    solution = ROOT / "solutions" / "03_reparameterization.ipynb"
    result = run(pytester, "--wmcourse", "--wmcourse-hidden", str(solution))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*passed*"])


def test_each_case_is_an_item_and_says_the_mistake(pytester, notebook) -> None:
    path = notebook(reparameterize="def reparameterize(mean, std, noise):\n    return mean + std**2 * noise")
    result = run(pytester, "--wmcourse", str(path), "-v", "--junitxml", "results.xml")
    result.stdout.fnmatch_lines(
        [
            "*::reparameterize: noise of 0 gives the mean PASSED*",
            "*::reparameterize: the noise is stretched by the standard deviation FAILED*",
            "*::straight_through: * FAILED*",
            "*likely: the noise is stretched by the variance: std is already the standard deviation*",
            "straight_through is open: not written yet",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    assert 'name="reparameterize: noise of 0 gives the mean"' in (pytester.path / "results.xml").read_text()


def test_an_answer_that_does_not_run_is_said(pytester, notebook) -> None:
    path = notebook(reparameterize="def reparameterize(mean, std, noise):\n    return mean +")
    run(pytester, "--wmcourse", str(path)).stdout.fnmatch_lines(
        ["the cell of reparameterize does not run", "*SyntaxError*"]
    )


def test_a_deleted_exercise_fails_with_its_name(pytester, notebook) -> None:
    path = notebook(reparameterize="")
    run(pytester, "--wmcourse", str(path)).stdout.fnmatch_lines(
        ["*mine.ipynb holds no cell that defines reparameterize"]
    )


def test_what_is_no_notebook_is_said_with_its_path(pytester) -> None:
    path = pytester.path / "broken.ipynb"
    path.write_text("{")
    result = run(pytester, "--wmcourse", str(path))
    result.stdout.fnmatch_lines(["*broken.ipynb: is not a Jupyter notebook*"])
    assert result.ret == 2


def test_without_the_option_notebooks_are_left_alone(pytester, notebook) -> None:
    assert run(pytester, str(notebook())).ret in (4, 5)
