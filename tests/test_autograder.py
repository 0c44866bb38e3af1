"""The zip for Gradescope: what is in it, how it installs, and that a submission always ends with a results.json."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest

from tests.test_nbgrader import LESSON, MIXED, ROOT, answered
from wmcourse.grading.autograder import UnknownLesson, requirements, write_autograder

METADATA = {"id": 1, "users": [{"name": "A Student", "email": "a@example.com", "id": 7}], "previous_submissions": []}


def laid_out(root: Path, archive: Path) -> Path:
    """Unpack an autograder as Gradescope does; the folder that stands for /autograder."""
    source = root / "source"
    with zipfile.ZipFile(archive) as files:
        files.extractall(source)
        for info in files.infolist():
            (source / info.filename).chmod(info.external_attr >> 16 & 0o777)
    shutil.copy(source / "run_autograder", root / "run_autograder")
    (root / "submission").mkdir()
    (root / "results").mkdir()
    (root / "submission_metadata.json").write_text(json.dumps(METADATA), encoding="utf-8")
    return root


@pytest.fixture
def autograder(tmp_path: Path) -> Path:
    """The autograder of lesson 03 with a case of the instructor's own, where Gradescope would put it."""
    cases = tmp_path / "mine.py"
    cases.write_text("# none\n", encoding="utf-8")
    write_autograder("03", tmp_path / "autograder.zip", seed=7, cases=cases)
    root = laid_out(tmp_path / "autograder", tmp_path / "autograder.zip")
    (root / "submission" / "answers.ipynb").write_text("{}", encoding="utf-8")
    return root


def run(root: Path, **environment: str) -> str:
    """Run run_autograder as the harness does; what only instructors see."""
    environment = {"AUTOGRADER_ROOT": str(root), **environment}
    command = [str(root / "run_autograder")]
    done = subprocess.run(command, cwd=root, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def results(root: Path) -> dict:
    return json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def fake_python(folder: Path, grade: str) -> dict[str, str]:
    """Stand in for the grader: `-m wmcourse grade HANDINS --out OUT …` runs these lines of bash, all else is Python."""
    text = f"""
if [ "$2" = wmcourse ]; then
    printf '%s\\n' "$@" > "{folder}/arguments"
    OUT="$6"
    {grade}
else
    exec {sys.executable} "$@"
fi
"""
    return {"WMCOURSE_PYTHON": str(script(folder / "fake" / "python", text))}


GIVES = "mkdir -p \"$OUT/gradescope/{0}\" && printf '%s' '{1}' > \"$OUT/gradescope/{0}/results.json\""
RESULT = '{"score": 3, "tests": []}'


def test_the_zip_holds_what_gradescope_wants_and_no_more(tmp_path: Path) -> None:
    out = tmp_path / "made" / "autograder.zip"
    write_autograder("03", out)
    with zipfile.ZipFile(out) as archive:
        files = {info.filename: info for info in archive.infolist()}
        settings = archive.read("settings.sh").decode()
        requirements_txt = archive.read("requirements.txt").decode().split()
    for name in ("setup.sh", "run_autograder"):
        assert stat.S_IMODE(files[name].external_attr >> 16) == 0o755
    assert {name.split("/")[0] for name in files} == {
        *("setup.sh", "run_autograder", "settings.sh", "requirements.txt", "ranges.txt", "wmcourse")
    }
    package = {name for name in files if name.startswith("wmcourse/")}
    assert {"wmcourse/__main__.py", "wmcourse/exercises/reparameterization.py"} <= package
    assert not [name for name in package if name.endswith((".ipynb", ".pyc"))]
    assert settings.splitlines()[:2] == ["LESSON=03", "SEED=''"]  # no seed: each grading draws a secret one
    assert requirements_txt == requirements(pinned=True)
    assert [path.name for path in out.parent.iterdir()] == ["autograder.zip"]


def test_the_same_package_gives_the_same_bytes(tmp_path: Path) -> None:
    write_autograder("03", tmp_path / "one.zip")
    write_autograder(LESSON, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_requirements_are_the_versions_at_hand() -> None:
    pinned = requirements(pinned=True)
    numpy = importlib.metadata.version("numpy")
    assert f"numpy=={numpy}" in pinned
    assert all("==" in line and "+" not in line for line in pinned)
    assert any(line.startswith("gymnasium[classic-control]==") for line in pinned)
    assert not [line for line in pinned if line.startswith(("pytest", "nbgrader", "jupyterlab"))]
    assert [line.split(">")[0] for line in requirements(pinned=False) if line.startswith("torch")] == ["torch"]


def test_an_unknown_lesson_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownLesson, match=f"no lesson is called '99'; there are .*{LESSON}"):
        write_autograder("99", tmp_path / "autograder.zip")


@pytest.mark.parametrize("name", ["setup.sh", "run_autograder"])
def test_the_scripts_are_bash(autograder: Path, name: str) -> None:
    subprocess.run(["bash", "-n", str(autograder / "source" / name)], check=True)


def test_the_graders_result_is_handed_over(autograder: Path, tmp_path: Path) -> None:
    look = f'cp -r "$4" "{tmp_path}/seen"; pwd > "{tmp_path}/where"; '
    printed = run(autograder, **fake_python(tmp_path, look + GIVES.format("submission", RESULT)))
    assert results(autograder) == json.loads(RESULT), printed
    arguments = (tmp_path / "arguments").read_text().splitlines()
    source = autograder / "source"
    assert arguments[6:] == f"--lesson 03 --allow-process-only --seed 7 --cases {source}/cases.py".split()
    assert [str(path.relative_to(tmp_path / "seen")) for path in (tmp_path / "seen").rglob("*.ipynb")] == [
        "submission/answers.ipynb"
    ]
    assert (tmp_path / "where").read_text().strip() == str(source)  # where Python finds the package first
    for path in (source, source / "wmcourse" / "elbo.py", autograder / "results"):
        assert not path.stat().st_mode & 0o077, path
    assert not Path(arguments[5]).parent.exists()  # its work is cleared away


@pytest.mark.parametrize(
    ("grade", "says"),
    [
        ("exit 3", "it ended with code 3"),
        ("kill -SEGV $$", "it ended with code 139"),
        ("exec sleep 60", "it took longer than 2 seconds"),
        ("true", "it left no result"),
        (GIVES.format("a", RESULT) + " && " + GIVES.format("b", RESULT), "it left no result"),
        (GIVES.format("a", "{broken"), "it left no result"),
        (GIVES.format("a", "[]"), "it left no result"),
        (GIVES.format("a", RESULT) + " && exit 1", "it ended with code 1"),
        ("kill -KILL $(awk '/^PPid/ {print $2}' /proc/$PPID/status)", "was stopped before its end"),
    ],
)
def test_a_failure_of_ours_is_said_and_scores_nothing(autograder: Path, tmp_path: Path, grade: str, says: str) -> None:
    environment = {"AUTOGRADER_ROOT": str(autograder), "WMCOURSE_SECONDS": "2", **fake_python(tmp_path, grade)}
    command = [str(autograder / "run_autograder")]
    subprocess.run(command, cwd=autograder, env=os.environ | environment, capture_output=True, timeout=60)
    came = results(autograder)
    assert came["score"] == 0
    assert came["visibility"] == "visible"
    assert came["output"].startswith("NOT GRADED: the autograder ")
    assert says in came["output"]
    assert [path.name for path in (autograder / "results").iterdir()] == ["results.json"]


def test_without_python_settings_or_source_there_is_a_result_all_the_same(autograder: Path) -> None:
    assert "it ended with code 127" in run(autograder)  # no venv: setup.sh never ran
    assert results(autograder)["score"] == 0
    (autograder / "source" / "settings.sh").unlink()
    run(autograder)
    assert "its settings are missing" in results(autograder)["output"]
    shutil.rmtree(autograder / "source")
    shutil.rmtree(autograder / "results")
    run(autograder)
    assert results(autograder)["score"] == 0


def test_an_empty_submission_is_the_students_affair(autograder: Path, tmp_path: Path) -> None:
    (autograder / "submission" / "answers.ipynb").unlink()
    run(autograder, **fake_python(tmp_path, "exit 1"))
    assert results(autograder)["output"].startswith("Your submission holds no file.")


@pytest.fixture
def installing(autograder: Path, tmp_path: Path):
    """Run setup.sh where no command is real; `broken` is a pattern of commands that fail. What was called, in order."""

    def install(broken: str = "nothing") -> list[str]:
        log = tmp_path / "log"
        log.write_text("")
        # Each command logs how it was called, fails where it is told to, and makes an environment where it is asked to.
        text = f"""
CALL="$(basename "$0") $*"
echo "$CALL" >> {log}
[[ ! "$CALL" =~ $BROKEN ]] || exit 1
case "$CALL" in
    *" -m venv "* | "uv venv "*)
        VENV="${{@: -1}}"; mkdir -p "$VENV/bin"
        for name in pip python uv; do cp "$0" "$VENV/bin/$name"; done ;;
esac
"""
        for name in ("apt-get", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"):
            script(tmp_path / "bin" / name, text)
        environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "AUTOGRADER_ROOT": str(autograder)}
        command = ["bash", str(autograder / "source" / "setup.sh")]
        environment |= {"BROKEN": broken}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0) == ("ready to grade lesson 03" in done.stdout), done.stderr
        return [line.replace(str(autograder), "ROOT") for line in log.read_text().splitlines()]

    return install


TORCH = next(line for line in requirements(pinned=True) if line.startswith("torch"))
RANGE = next(line for line in requirements(pinned=False) if line.startswith("torch"))
VERSION = "{}.{}".format(*sys.version_info)
FROM_CPU = "--index-url https://download.pytorch.org/whl/cpu"


def test_setup_installs_the_sandbox_the_same_python_and_torch_without_cuda(installing, autograder: Path) -> None:
    calls = installing()
    assert calls == [
        "apt-get update",
        "apt-get install -y --no-install-recommends bubblewrap python3 python3-pip python3-venv",
        f"python{VERSION} -m venv ROOT/venv",
        f"pip install {TORCH} {FROM_CPU}",
        "pip install -r ROOT/source/requirements.txt",
        "python -m wmcourse grade --help",
    ]
    assert not (autograder / "source" / "wmcourse" / "elbo.py").stat().st_mode & 0o077
    assert (autograder / "venv" / "bin" / "python").stat().st_mode & 0o005


def test_setup_falls_back_step_by_step(installing) -> None:
    assert f"uv venv --seed --python {VERSION} ROOT/venv" in installing(f"^python{VERSION}")
    assert "python3 -m venv ROOT/venv" in installing(f"^python{VERSION}|^uv")
    assert f"pip install {TORCH}" in installing("index-url")
    assert installing(f"{TORCH}")[-3:] == [
        f"pip install {RANGE} {FROM_CPU}",
        "pip install -r ROOT/source/ranges.txt",
        "python -m wmcourse grade --help",
    ]


@pytest.mark.parametrize("broken", ["apt-get", "venv", "^pip", "--help"])
def test_a_setup_that_cannot_grade_fails_the_build(installing, broken: str) -> None:
    installing(broken)


def real(tmp_path: Path) -> Path:
    """An autograder whose environment has this one's libraries, but the course only in source/."""
    write_autograder("03", tmp_path / "autograder.zip")
    root = laid_out(tmp_path / "autograder", tmp_path / "autograder.zip")
    venv.create(root / "venv", symlinks=True, with_pip=False)
    packages = sysconfig.get_path("purelib", vars={"base": str(root / "venv")})
    Path(packages, "here.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return root


@pytest.mark.parametrize("wall", ["bubblewrap", "process only"])
def test_a_submission_from_end_to_end(tmp_path: Path, wall: str) -> None:
    if wall == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    root = real(tmp_path)
    notebook = answered(nbformat.read(ROOT / "notebooks" / f"{LESSON}.ipynb", 4), MIXED)
    nbformat.write(notebook, root / "submission" / "my lesson.ipynb")
    printed = run(root, **({} if wall == "bubblewrap" else {"WMCOURSE_BWRAP": "none"}))
    came = results(root)
    assert {test["name"]: test["score"] for test in came["tests"]} == {
        "reparameterize": 0,
        "pathwise_gradient": 1,
        "score_function_gradient": 0,
        "leave_one_out": 0,
        "straight_through": 3,
    }, printed
    assert came["score"] == 4
    assert ("process only" in came["output"]) == (wall == "process only")


def test_a_submission_without_a_notebook_gets_its_reason(tmp_path: Path) -> None:
    root = real(tmp_path)
    (root / "submission" / "homework.pdf").write_bytes(b"%PDF-1.7")
    printed = run(root)
    assert results(root)["score"] == 0, printed
    assert "NOT GRADED" not in results(root)["output"], printed
