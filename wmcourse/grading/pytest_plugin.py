"""`pytest --wmcourse NOTEBOOK.ipynb`: a learner's saved notebook as tests, one item for each case of each exercise.

    pytest --wmcourse my-lessons/03_reparameterization.ipynb --junitxml results.xml

Answers are taken by name, not by cell position. Pytest loads this at every start, so nothing heavy is imported before
the option is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wmcourse.grading.exercise import Exercise
    from wmcourse.grading.handin import HandIn
    from wmcourse.grading.verdict import Verdict


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --wmcourse and --wmcourse-hidden."""
    group = parser.getgroup("wmcourse", "world-models course")
    group.addoption("--wmcourse", action="store_true", help="collect notebooks of the course, one test a case")
    group.addoption("--wmcourse-hidden", action="store_true", help="run the hidden cases, too")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> NotebookFile | None:
    """Collect *.ipynb when --wmcourse is given."""
    if parent.config.getoption("--wmcourse") and file_path.suffix == ".ipynb":
        return NotebookFile.from_parent(parent, path=file_path)
    return None


class NotebookFile(pytest.File):
    """One notebook."""

    def collect(self) -> Iterator[CaseItem]:
        """An item for each case of each exercise of this notebook's lesson, answered or not."""
        from wmcourse.exercises import catalogue
        from wmcourse.grading.cells import UnreadableNotebook
        from wmcourse.grading.handin import read_handin

        try:
            handin = read_handin(self.path, [exercise.id for exercise in catalogue()])
        except UnreadableNotebook as error:
            raise self.CollectError(str(error)) from None
        lessons = {exercise.lesson for exercise in catalogue() if exercise.id in handin.answers}
        hidden = bool(self.config.getoption("--wmcourse-hidden"))
        for exercise in catalogue():
            if exercise.lesson in lessons:
                answer = AnswerUnderTest(exercise, handin, hidden)
                for case in exercise.cases:
                    if hidden or not case.hidden:
                        yield CaseItem.from_parent(
                            self, name=f"{exercise.id}: {case.name}", answer=answer, case=case.name
                        )


class AnswerUnderTest:
    """One answer, graded once, at the first of its cases that runs."""

    def __init__(self, exercise: Exercise, handin: HandIn, hidden: bool):
        self.exercise, self.handin, self.hidden = exercise, handin, hidden
        self._verdict: Verdict | str = ""

    def verdict(self) -> Verdict | str:
        """The verdict, or a sentence that says why there is none."""
        from wmcourse.grading.guard import run_guarded
        from wmcourse.grading.verdict import grade_answer

        id, found = self.exercise.id, []
        if self._verdict:
            return self._verdict
        if id not in self.handin.answers:
            self._verdict = f"{self.handin.name} holds no cell that defines {id}"
            return self._verdict
        loading = run_guarded(lambda: found.append(self.handin.load(id)), self.exercise.seconds)
        if found:
            self._verdict = grade_answer(self.exercise, found[0], hidden=self.hidden)
        else:
            self._verdict = f"the cell of {id} does not run\n{loading.message}"
        return self._verdict


class CaseItem(pytest.Item):
    """One case of one exercise."""

    def __init__(self, *, answer: AnswerUnderTest, case: str, **kwargs):
        super().__init__(**kwargs)
        self.answer, self.case = answer, case

    def runtest(self) -> None:
        """Fail with the case's message where the answer lacks the property."""
        verdict = self.answer.verdict()
        if isinstance(verdict, str):
            raise CaseFailed(verdict)
        result = next(result for result in verdict.cases if result.name == self.case)
        if verdict.open:
            raise CaseFailed(f"{verdict.id} is open: not written yet")
        if not result.passed:
            raise CaseFailed(result.message or result.kind)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style=None) -> str:  # type: ignore[override]
        """A failure in the learner's words, without a traceback of ours."""
        if isinstance(excinfo.value, CaseFailed):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """What the report calls this item."""
        return self.path, None, self.name


class CaseFailed(Exception):
    """A case that an answer failed."""
