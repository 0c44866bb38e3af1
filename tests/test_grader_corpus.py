"""The hostile corpus, graded in one run: every score is right, no other row changes, and nothing is left behind."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from tests.handins import WITNESSES, HandInCase, corpus
from tests.handins.batch import Batch, grade_all
from tests.handins.case import CHECKOUT
from wmcourse.exercises import catalogue
from wmcourse.grading.records import REASONS

EVERYONE = [*WITNESSES, *corpus()]  # graded in the order of their names, which spreads the witnesses
PROCESS_ONLY = [case for case in corpus("hostile patches forgeries") if case.needs == "any"]
OPTIONS = ("--jobs", "2", "--seed", "7")
RESULT_BYTES = 500_000  # of one student's row
no_bubblewrap = shutil.which("bwrap") is None
needs_bubblewrap = pytest.mark.skipif(no_bubblewrap, reason="bubblewrap is not installed")


def git_status() -> str:
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", "status", "--porcelain"], cwd=CHECKOUT, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    before = git_status()
    made = grade_all(tmp_path_factory.mktemp("corpus"), EVERYONE, *OPTIONS)
    made.changed += [] if git_status() == before else ["the checkout"]
    return made


@pytest.fixture(scope="session")
def process_only(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    options = (*OPTIONS, "--allow-process-only")
    cases = [*WITNESSES[:1], *PROCESS_ONLY]
    return grade_all(tmp_path_factory.mktemp("process-only"), cases, *options, env={"WMCOURSE_BWRAP": "none"})


def differences(case: HandInCase, graded: Batch) -> list[str]:
    """Where a row is not what it should be, a line each."""
    row = graded.rows[case.student or case.name]
    default = "unreadable" if case.status == "unreadable" else "missing"
    found = [] if row.status == case.status else [f"status {row.status}, wanted {case.status} ({row.note})"]
    for result in row.results:
        wanted = case.wanted.get(result.id, default)
        right = result.points == wanted if isinstance(wanted, int) else result.reason == wanted
        whole = result.points == (result.max_points if result.reason == "passed" else 0)
        if not right or not whole or result.reason not in REASONS:
            why = next((c.message for c in result.cases if not c.passed), result.note)
            found.append(f"{result.id}: {result.reason}, {result.points} points, wanted {wanted} ({why[:300]})")
    return found


@needs_bubblewrap
@pytest.mark.parametrize("case", EVERYONE, ids=lambda case: case.name)
def test_the_score_is_right(case: HandInCase, batch: Batch) -> None:
    assert differences(case, batch) == []


@needs_bubblewrap
def test_every_hand_in_has_one_row_and_every_exercise_one_result(batch: Batch) -> None:
    assert batch.code == 0, batch.out
    assert sorted(batch.rows) == sorted(case.student or case.name for case in EVERYONE)
    ids = [exercise.id for exercise in catalogue()]
    assert {student for student, row in batch.rows.items() if [r.id for r in row.results] != ids} == set()
    assert {row.wall for row in batch.rows.values()} == {"bubblewrap"}


@needs_bubblewrap
def test_honest_rows_are_byte_for_byte_what_they_are_alone(batch: Batch, tmp_path) -> None:
    alone = grade_all(tmp_path, WITNESSES, "--jobs", "1", "--seed", "7")
    assert {case.name: alone.texts[case.name] == batch.texts[case.name] for case in WITNESSES} == dict.fromkeys(
        (case.name for case in WITNESSES), True
    )


@needs_bubblewrap
def test_nothing_is_left_running_written_or_called(batch: Batch) -> None:
    assert batch.left == []
    assert batch.changed == []
    assert batch.callers == []


@needs_bubblewrap
def test_the_batch_ends_within_its_limits_and_its_memory(batch: Batch) -> None:
    assert batch.seconds < 900  # a quiet machine with two cores takes a sixth of that
    assert batch.peak < 3 << 30


@needs_bubblewrap
def test_reports_hold_no_script_no_formula_and_no_flood(batch: Batch) -> None:
    assert {student: len(text) for student, text in batch.texts.items() if len(text) > RESULT_BYTES} == {}
    pages = list(batch.results.rglob("*.html"))
    assert len(pages) > len(batch.rows)
    for page in pages:
        text = page.read_text(encoding="utf-8").lower()
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page
    for path in batch.results.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert {len(row) for row in rows} == {len(rows[0])}, path
        assert [cell for row in rows for cell in row if cell[:1] in set("=@\t\r")] == [], path
    ElementTree.parse(batch.results / "junit.xml")


@pytest.mark.parametrize("case", [*WITNESSES[:1], *PROCESS_ONLY], ids=lambda case: case.name)
def test_the_documented_subset_without_bubblewrap(case: HandInCase, process_only: Batch) -> None:
    assert differences(case, process_only) == []


def test_without_bubblewrap_every_report_says_so(process_only: Batch) -> None:
    assert process_only.code == 0, process_only.out
    assert process_only.left == []
    assert process_only.changed == []
    assert {row.wall for row in process_only.rows.values()} == {"process only"}
    for page in process_only.results.rglob("*.html"):
        assert "process only" in page.read_text(encoding="utf-8").lower(), page


@pytest.mark.parametrize("how", ["the variable", "an empty PATH"])
def test_without_bubblewrap_and_without_leave_it_refuses(how: str, tmp_path) -> None:
    WITNESSES[0].build(tmp_path / "handins") if (tmp_path / "handins").mkdir() is None else None
    env = {"WMCOURSE_BWRAP": "none"} if how == "the variable" else {"PATH": str(tmp_path)}
    command = [sys.executable, "-m", "wmcourse", "grade", str(tmp_path / "handins"), "--out", str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env={**os.environ, **env})
    assert ran.returncode != 0
    assert "--allow-process-only" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.rglob("*.json"))
