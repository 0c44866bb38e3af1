"""The rules of the house: who may import whom, names that match, one environment told twice alike."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

try:
    import tomllib  # type: ignore[import-not-found]
except ModuleNotFoundError:  # Python 3.10; pytest itself brings tomli there
    import tomli as tomllib  # type: ignore[import-not-found,no-redef]

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wmcourse"
SHARED = {
    "behavior",
    "evaluation",
    "exploration",
    "linear_quadratic",
    "mazes",
    "nets",
    "planners",
    "play",
    "plots",
    "policies",
    "recurrence",
    "replay",
    "sac",
    "simulators",
    "training",
    "views",
    "worlds",
}
SCHOOL = {"exercises", "grading", "authoring"}
LESSONS = [path.stem for path in sorted((ROOT / "solutions").glob("[0-9][0-9]_*.py"))]
MODULES = [lesson[3:] for lesson in LESSONS]


def imported(path: Path) -> set[str]:
    """The wmcourse modules that a file imports, by their first name below wmcourse."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "wmcourse":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wmcourse."):
            names.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("wmcourse.")}
    return names


@pytest.mark.parametrize("name", MODULES)
def test_a_lessons_module_imports_only_earlier_ones(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    if path.exists():
        assert imported(path) <= SHARED | set(MODULES[: MODULES.index(name)])


@pytest.mark.parametrize("name", sorted(SHARED))
def test_a_shared_module_imports_no_lesson(name: str) -> None:
    assert imported(PACKAGE / f"{name}.py") <= SHARED


def test_no_reference_module_is_a_stranger() -> None:
    flat = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert flat <= SHARED | set(MODULES)


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_exercises_bank_and_test_share_one_name(lesson: str) -> None:
    name = lesson[3:]
    for path in (PACKAGE / "exercises", ROOT / "tests" / "banks"):
        assert (path / f"{name}.py").exists()
    assert (ROOT / "tests" / f"test_{name}.py").exists()


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_a_reference_module_fits_its_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250
    if path.stem != "__main__":
        assert not imported(path) & SCHOOL


def split(requirement: str) -> tuple[str, str]:
    name, versions = re.fullmatch(r"([\w.-]+(?:\[[\w,-]+\])?)(.*)", requirement.replace(" ", "")).groups()  # type: ignore[union-attr]
    return {"torch": "pytorch"}.get(name, name), versions


def test_the_conda_environment_states_the_same_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = dict(map(split, project["dependencies"] + project["optional-dependencies"]["test"]))
    wanted["gymnasium"] = wanted["gymnasium[classic-control]"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    by_pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    stated = dict(split(entry) for entry in conda if isinstance(entry, str) and entry != "pip")
    assert stated.pop("python") == project["requires-python"]
    assert by_pip[-1] == "-e ."
    assert stated | dict(map(split, by_pip[:-1])) == wanted


def test_the_readmes_table_lists_every_lesson() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [lesson for lesson in LESSONS if f"solutions/{lesson}.ipynb" not in readme] == []
