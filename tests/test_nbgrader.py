"""The notebooks go through nbgrader unchanged, and honest hand-ins get the scores there that they get from us.

solutions/NN_*.ipynb is nbgrader's source notebook. With WMCOURSE_STRICT=1 `check` runs the hidden cases and raises,
which is how nbgrader tells that a graded cell has failed. The functions here are importable: a timing uses them, too.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from wmcourse.authoring.build import COMPARED, sources
from wmcourse.exercises import catalogue, grade
from wmcourse.grading.handin import read_handin

ROOT = Path(__file__).parents[1]
LESSON = "03_reparameterization"
EXERCISES = [exercise for exercise in catalogue() if exercise.lesson == LESSON]
IDS = [exercise.id for exercise in EXERCISES]
CELL_SECONDS = 120
NBGRADERS_STUB = re.compile(r"# YOUR CODE HERE\n +raise NotImplementedError\(\)")
OUR_STUB = "raise NotImplementedError  # your code here"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed: pip install wmcourse[test]"
)

RIGHT = {
    "reparameterize": "def reparameterize(mean, std, noise):\n    return torch.addcmul(mean, std, noise)",
    "pathwise_gradient": "def pathwise_gradient(slope, noise):\n    return slope.clone(), noise * slope",
    "score_function_gradient": """
def score_function_gradient(value, mean, std, z):
    d = z - mean
    return value * d / std**2, value * (d**2 / std**3 - 1 / std)
""",
    "leave_one_out": "def leave_one_out(value):\n    return len(value) / (len(value) - 1) * (value - value.mean())",
    "straight_through": """
def straight_through(logits, uniform):
    probs = logits.softmax(-1)
    choice = (-torch.log(uniform) / logits.exp()).argmin(-1)
    return torch.eye(logits.shape[-1])[choice] + probs - probs.detach()
""",
}
MIXED = {
    "reparameterize": "def reparameterize(mean, std, noise):\n    return mean + std**2 * noise",  # the variance
    "pathwise_gradient": RIGHT["pathwise_gradient"],
    "score_function_gradient": "def score_function_gradient(value, mean, std, z):\n    return value * (z - mean",
    # Clipped where no visible case looks: only a hidden one, of large values, fails.
    "leave_one_out": "def leave_one_out(value):\n    clipped = value.clamp(-5, 5)\n"
    "    return clipped - (clipped.sum() - clipped) / (len(value) - 1)",
    "straight_through": RIGHT["straight_through"],
}


def nbgrader(course: Path, *arguments: str) -> str:
    """Run an nbgrader command in a course folder, strictly; what it printed. Its failure is an AssertionError."""
    own = {
        "WMCOURSE_STRICT": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # nbgrader calls alembic by name
        "JUPYTER_CONFIG_DIR": str(course / ".jupyter"),
        "IPYTHONDIR": str(course / ".ipython"),
    }
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, env=os.environ | own, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def release(course: Path, assignment: str, lessons: list[Path]) -> Path:
    """Make a course of the executed solutions and release it; the folder of the learners' notebooks."""
    source = course / "source" / assignment
    source.mkdir(parents=True)
    for lesson in lessons:
        shutil.copy(lesson, source)
    nbgrader(course, "generate_assignment", assignment)
    return course / "release" / assignment


def answered(notebook: NotebookNode, answers: dict[str, str]) -> NotebookNode:
    """A learner's notebook with these answers written into it, by exercise."""
    for cell in notebook.cells:
        if cell.metadata.get("exercise") in answers:
            cell.source = answers[cell.metadata["exercise"]].strip("\n")
    return notebook


def submit(course: Path, assignment: str, student: str, notebook: NotebookNode, name: str) -> Path:
    """Put a notebook where nbgrader collects a student's; the file."""
    path = course / "submitted" / student / assignment / name
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    return path


def autograde(course: Path, assignment: str) -> None:
    """Run and grade every hand-in."""
    nbgrader(course, "autograde", assignment, f"--Execute.timeout={CELL_SECONDS}")


def exported(course: Path, assignment: str) -> dict[str, tuple[float, float]]:
    """Score and highest score by student, as `nbgrader export` writes them."""
    nbgrader(course, "export")
    with (course / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["assignment"] == assignment]
    return {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in rows}


def points_by_check(autograded: Path) -> dict[str, int]:
    """Points by exercise, read off an autograded notebook as nbgrader does: a graded cell without an error has all."""
    notebook = nbformat.read(autograded, 4)
    graded = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    failed = [any(out.output_type == "error" for out in cell.outputs) for cell in graded]
    return {
        cell.metadata.nbgrader.grade_id.removeprefix("check-"): 0 if bad else cell.metadata.nbgrader.points
        for cell, bad in zip(graded, failed, strict=True)
    }


def our_points(path: Path) -> dict[str, int]:
    """Points by exercise, as `wmcourse.exercises.grade` gives them for the answers in a notebook."""
    handin = read_handin(path, IDS)
    points = {}
    for exercise in EXERCISES:
        try:
            answer = handin.load(exercise.id)
        except SyntaxError:  # the cell does not run, so there is nothing to grade
            points[exercise.id] = 0
        else:
            points[exercise.id] = grade(exercise.id, answer).points
    return points


def our_gradebook(course: Path) -> dict[str, dict[str, int]]:
    """Points by student and exercise, as `wmcourse grade` writes them into grades.csv for the same hand-ins."""
    out = course / "graded"
    arguments = ["--lesson", LESSON[:2], "--seed", "0", "--allow-process-only", "--out", str(out)]
    command = [sys.executable, "-m", "wmcourse", "grade", str(course / "submitted"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        return {row["student"]: {id: int(row[id]) for id in IDS} for row in csv.DictReader(file)}


def as_ours(source: str) -> str:
    """A cell of nbgrader's release in our words: its stub is ours, and the line that nbval looks for is gone."""
    return NBGRADERS_STUB.sub(OUR_STUB, source).removeprefix(f"{COMPARED}\n")


def test_what_nbgrader_releases_is_what_we_hand_out(tmp_path: Path) -> None:
    lessons = [script.with_suffix(".ipynb") for script in sources(ROOT)]
    released = release(tmp_path, "course", lessons)
    assert sorted(path.name for path in released.glob("*.ipynb")) == [path.name for path in lessons]
    for lesson in lessons:
        theirs = nbformat.read(released / lesson.name, 4)
        ours = nbformat.read(ROOT / "notebooks" / lesson.name, 4)
        assert [cell.id for cell in theirs.cells] == [cell.id for cell in ours.cells]
        assert [as_ours(cell.source) for cell in theirs.cells] == [cell.source for cell in ours.cells]
        for their, our in zip(theirs.cells, ours.cells, strict=True):
            assert their.get("outputs", []) == []
            added = {"deletable", "editable", "nbgrader"}  # nbgrader locks cells and adds a checksum to its own
            assert {k: v for k, v in their.metadata.items() if k not in added} == {
                k: v for k, v in our.metadata.items() if k not in {"nbgrader", "shipped"}
            }
            assert our.metadata.get("nbgrader", {}).items() <= their.metadata.get("nbgrader", {}).items()


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lesson 03, released by nbgrader, handed in by three students, autograded and exported."""
    course = tmp_path_factory.mktemp("course")
    name = f"{LESSON}.ipynb"
    released = release(course, "lesson", [ROOT / "solutions" / name])
    submit(course, "lesson", "right", answered(nbformat.read(released / name, 4), RIGHT), name)
    submit(course, "lesson", "mixed", answered(nbformat.read(released / name, 4), MIXED), name)
    submit(course, "lesson", "blank", nbformat.read(ROOT / "notebooks" / name, 4), name)  # from `wmcourse start`
    autograde(course, "lesson")
    return course


def handed_in(course: Path) -> dict[str, Path]:
    return {path.parts[-3]: path for path in sorted((course / "submitted").glob("*/lesson/*.ipynb"))}


def test_honest_hand_ins_get_the_scores_of_our_own_grading(course: Path) -> None:
    theirs = exported(course, "lesson")
    gradebook = our_gradebook(course)
    assert sorted(theirs) == sorted(gradebook) == ["blank", "mixed", "right"]
    for student, path in handed_in(course).items():
        ours = our_points(path)
        autograded = course / "autograded" / student / "lesson" / path.name
        assert points_by_check(autograded) == ours == gradebook[student], student
        assert theirs[student] == (sum(ours.values()), sum(exercise.points for exercise in EXERCISES)), student


def test_the_hand_ins_are_what_they_are_called(course: Path) -> None:
    full = {exercise.id: exercise.points for exercise in EXERCISES}
    ours = {student: our_points(path) for student, path in handed_in(course).items()}
    assert ours["right"] == full
    assert not any(ours["blank"].values())
    assert [id for id, points in ours["mixed"].items() if points] == ["pathwise_gradient", "straight_through"]
    clipped = read_handin(handed_in(course)["mixed"], IDS).load("leave_one_out")
    assert grade("leave_one_out", clipped, hidden=False).passed  # so that only a strict check can tell
