"""The course as a submission may see it while a lesson is graded: a copy of the package without what is asked for.

In it are the modules that all lessons share and those of earlier lessons, with every function or class that this lesson
or a later one asks for taken out of them; `check` and `hint`, which do nothing; and the sandbox's side of the wall. The
lesson's own module, all exercises and everything else are not there.
"""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import wmcourse
from wmcourse.exercises import catalogue

PACKAGE = Path(wmcourse.__file__).parent
SHARED = ("worlds", "replay", "nets", "plots")
INSIDE = ("mistake", "printed", "confine", "cells", "handin", "wire", "remote", "crossing", "wall", "inside")

EXERCISES = '''"""While a submission is graded, nothing is checked and no hint is given."""


def check(id, answer):
    """The answer, as it came."""
    return answer


def hint(id, level=None):
    """Nothing."""
'''


def build_view(folder: Path, lesson: str) -> Path:
    """Write the view for a lesson into a folder; the path that goes in front of sys.path is `folder`."""
    package = folder / "wmcourse"
    for name in ("grading", "exercises"):
        (package / name).mkdir(parents=True)
    (package / "__init__.py").write_text('"""What a submission may use of the course."""\n', encoding="utf-8")
    (package / "exercises" / "__init__.py").write_text(EXERCISES, encoding="utf-8")
    (package / "grading" / "__init__.py").write_text("", encoding="utf-8")
    for name in INSIDE:
        shutil.copyfile(PACKAGE / "grading" / f"{name}.py", package / "grading" / f"{name}.py")
    asked = {exercise.id for exercise in catalogue() if exercise.lesson >= lesson}
    for source in _allowed(lesson):
        (package / source.name).write_text(without(asked, source.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def _allowed(lesson: str) -> list[Path]:
    """What every lesson shares, the modules of earlier lessons, and what those import."""
    taught = {exercise.lesson[3:] for exercise in catalogue() if exercise.lesson < lesson}
    names = {*SHARED, *taught}
    for name in taught:
        names |= _imports(PACKAGE / f"{name}.py")
    return [path for path in sorted(PACKAGE.glob("*.py")) if path.stem in names]


def _imports(source: Path) -> set[str]:
    nodes = ast.walk(ast.parse(source.read_text(encoding="utf-8")))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {module.removeprefix("wmcourse.") for module in modules if module.startswith("wmcourse.")}


def without(names: set[str], source: str) -> str:
    """Python source in which the functions and classes of these names are no more than their names."""
    tree = ast.parse(source)
    found = False
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            found = True
            node.body = ast.parse('raise NotImplementedError("this is what you are asked to write")').body
            if isinstance(node, ast.ClassDef):
                node.body = ast.parse("def __init__(self, *args, **kwargs): raise NotImplementedError").body
    return ast.unparse(tree) if found else source
