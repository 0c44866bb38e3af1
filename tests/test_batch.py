"""A class is graded: whole rows, resumable, the same for the same seed, here and on a Dask cluster."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import nbformat
import pytest

from wmcourse.__main__ import main
from wmcourse.grading import batch
from wmcourse.grading.batch import grade_class
from wmcourse.grading.bubblewrap import PROCESS_ONLY, find_wall
from wmcourse.grading.collect import Submission
from wmcourse.grading.grader import CannotGrade, Plan
from wmcourse.grading.sandbox import Limits

ROOT = Path(__file__).parents[1]
LESSON = "03_reparameterization"
RIGHT = "def reparameterize(mean, std, noise):\n    return mean + std * noise"
WRONG = RIGHT.replace("+", "-")
LIMITS = Limits(call=5, exercise=30)
TRUSTED = {"process_only": True, "lesson": "03", "limits": LIMITS}  # with bubblewrap where there is one


def hand_in(path: Path, answer: str = RIGHT) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / f"{LESSON}.ipynb", 4)
    next(cell for cell in notebook.cells if cell.id == "exercise-reparameterize").source = answer
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def handins(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("handins")
    hand_in(folder / "alice" / "03.ipynb")
    hand_in(folder / "bob.ipynb", WRONG)
    hand_in(folder / "carol.ipynb", "def reparameterize(mean, std, noise):\n    while True: pass")
    return folder


@pytest.fixture(scope="module")
def graded(handins, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("graded")
    grade_class(handins, out, seed=5, jobs=2, **TRUSTED)
    return out


def points(out: Path) -> dict[str, str]:
    with (out / "grades.csv").open(newline="", encoding="utf-8") as file:
        return {row["student"]: row["total"] for row in csv.DictReader(file)}


def rows(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "rows").glob("*.json"))}


def test_every_report_is_there(graded) -> None:
    assert points(graded) == {"alice": "1", "bob": "0", "carol": "0"}
    names = {path.relative_to(graded).as_posix() for path in graded.rglob("*") if path.is_file()}
    for name in ("canvas.csv", "moodle.csv", "class.html", "junit.xml", "run.json", "gradescope/bob/results.json"):
        assert name in names
    assert "feedback/alice.html" in names
    assert not any("partial" in name for name in names)
    assert "the sign of the noise is turned around" in (graded / "feedback" / "bob.md").read_text()
    assert json.loads((graded / "run.json").read_text())["seed"] == 5


def test_the_same_seed_gives_the_same_bytes_whoever_else_is_there(graded, handins, tmp_path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "bob.ipynb").write_bytes((handins / "bob.ipynb").read_bytes())
    grade_class(tmp_path / "one", tmp_path / "out", seed=5, **TRUSTED)
    assert rows(tmp_path / "out")["bob.json"] == rows(graded)["bob.json"]


def test_a_run_goes_on_where_it_was(graded, handins, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    (out / "rows").mkdir(parents=True)
    (out / "run.json").write_bytes((graded / "run.json").read_bytes())
    for name in ("alice.json", "carol.json"):
        (out / "rows" / name).write_bytes(rows(graded)[name])
    (out / "rows" / "bob.json").write_text("{ half a row")
    asked: list[str] = []
    real = batch._on_this_machine
    monkeypatch.setattr(
        batch,
        "_on_this_machine",
        lambda jobs: lambda tasks, plan: real(jobs)((asked.append(t[0].slug) or t for t in tasks), plan),
    )
    grade_class(handins, out, **TRUSTED)  # the seed is the earlier run's
    assert asked == ["bob"]
    assert rows(out) == rows(graded)
    grade_class(handins, out, seed=6, **{**TRUSTED, "lesson": "00"})
    assert len(asked) == 4


def test_another_hand_in_draws_other_inputs(graded, tmp_path) -> None:
    notebooks = [Submission("a", "a", notebooks={"x": data}).fingerprint() for data in (b"1", b"2")]
    assert notebooks[0] != notebooks[1]


def test_on_a_dask_cluster_the_same_rows(graded, handins, tmp_path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the package distributed: the extra 'dask'")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        grade_class(handins, tmp_path / "out", seed=5, dask=cluster.scheduler_address, **TRUSTED)
    assert rows(tmp_path / "out") == rows(graded)


def test_a_worker_that_dies_costs_no_row(handins, tmp_path) -> None:
    class_folder = tmp_path / "class"
    for name in "abcd":
        hand_in(class_folder / f"{name}.ipynb")
    command = [sys.executable, "-m", "wmcourse", "grade", str(class_folder), "--out", str(tmp_path / "out")]
    run = subprocess.Popen([*command, "--lesson", "03", "--allow-process-only"], stderr=subprocess.DEVNULL)
    killed = False
    while run.poll() is None:
        if not killed and (workers := spawned_by(run.pid)) and list((tmp_path / "out").glob("rows/*.json")):
            os.kill(workers[0], signal.SIGKILL)
            killed = True
        time.sleep(0.05)
    assert killed
    assert run.returncode == 0
    assert points(tmp_path / "out") == dict.fromkeys("abcd", "1")


def test_workers_end_with_the_command(handins, tmp_path) -> None:
    command = [sys.executable, "-m", "wmcourse", "grade", str(handins), "--out", str(tmp_path / "out")]
    run = subprocess.Popen([*command, "--lesson", "03", "--allow-process-only"], stderr=subprocess.DEVNULL)
    while not (workers := spawned_by(run.pid)):
        time.sleep(0.05)
    time.sleep(1)
    run.kill()
    run.wait()
    until = time.monotonic() + 60
    while any(Path("/proc", str(worker)).exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path("/proc", str(worker)).exists() for worker in workers)


def spawned_by(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            up = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if up == parent and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


CASES = """
from wmcourse.exercises import find
from wmcourse.grading.expect import expect_close

@find("reparameterize").case("my own: a large spread", hidden=True)
def _(answer, draw):
    mean, std, noise = draw.normal(3), draw.uniform(3, low=50, high=90), draw.normal(3)
    expect_close(answer(mean, std, noise), mean + std * noise, "a secret of mine")
"""


def test_an_instructors_own_cases_count_and_stay_hidden(tmp_path) -> None:
    (tmp_path / "cases.py").write_text(CASES)
    hand_in(tmp_path / "class" / "alice.ipynb")
    hand_in(tmp_path / "class" / "bob.ipynb", RIGHT.replace("std *", "std.clamp(max=40) *"))
    command = [sys.executable, "-m", "wmcourse", "grade", str(tmp_path / "class"), "--out", str(tmp_path / "out")]
    command += ["--lesson", "03", "--allow-process-only", "--cases", str(tmp_path / "cases.py")]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert points(tmp_path / "out") == {"alice": "1", "bob": "0"}
    for path in (tmp_path / "out" / "feedback").iterdir():
        assert "my own" not in path.read_text()
        assert "secret" not in path.read_text()
    assert "my own: a large spread" in (tmp_path / "out" / "class.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lesson": "77"}, "no lesson '77'"),
        ({"cases": "raise ValueError('oops')"}, "does not run: ValueError: oops"),
        ({"out": "inside"}, "name another folder"),
    ],
)
def test_what_cannot_be_graded_is_said(handins, tmp_path, options, said) -> None:
    out = handins / "inside" if options.pop("out", "") else tmp_path / "out"
    if "cases" in options:
        (tmp_path / "cases.py").write_text(options["cases"])
        options["cases"] = tmp_path / "cases.py"
    with pytest.raises(CannotGrade, match=said):
        grade_class(handins, out, **{**TRUSTED, **options})


def test_a_failure_of_the_graders_own_earns_nothing_and_is_not_kept() -> None:
    failed: Future = Future()
    failed.set_exception(RuntimeError("ours"))
    row = batch._row_of((Submission("alice", "alice"), "key"), Plan((LESSON,), 5, process_only=True), failed)
    assert row.key == ""
    assert {result.reason for result in row.results} == {"not run"}
    assert "the grader failed" in row.note


def test_two_runs_do_not_mix(graded, handins) -> None:
    import fcntl

    with (graded / "rows" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CannotGrade, match="another run"):
            grade_class(handins, graded, seed=5, **TRUSTED)


def test_without_bubblewrap_it_takes_a_word(handins, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WMCOURSE_BWRAP", "none")
    find_wall.cache_clear()
    try:
        assert find_wall().mode == PROCESS_ONLY
        assert main(["grade", str(handins), "--out", str(tmp_path / "out"), "--lesson", "03"]) == 1
        assert "--allow-process-only" in capsys.readouterr().err
        assert not (tmp_path / "out" / "grades.csv").exists()
    finally:
        find_wall.cache_clear()
