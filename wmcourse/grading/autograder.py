"""Write the zip that Gradescope builds an autograder from: https://gradescope-autograders.readthedocs.io

In it are setup.sh and run_autograder (gradescope/ beside this module), their settings, the package itself, which holds
the answers, and its requirements. On Gradescope, run_autograder grades one submission with `wmcourse grade`.

    python -m wmcourse.grading.autograder GRADED RESULTS_JSON     hand over the one result that a grading left
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shlex
import stat
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "gradescope"
LEFT_OUT = {"notebooks", "__pycache__"}
NOT_FOR_GRADING = {"jupyterlab"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can tell: the same files give the same bytes


class UnknownLesson(ValueError):
    """The course has no such lesson; the message names those it has."""


class NoResult(ValueError):
    """A grading left no result for Gradescope, or more than one; the message says where it was looked for."""


def write_autograder(lesson: str, out: Path, *, seed: int | None = None, cases: Path | None = None) -> None:
    """Write the autograder of a lesson.

    Args:
        lesson: its two digits or its whole name.
        out: the zip file; its folder is made where it is missing.
        seed: the cases draw their inputs from it; without it every grading draws a secret one.
        cases: a file with hidden cases of the instructor's own.

    Raises:
        UnknownLesson: there is no such lesson.
        OSError: `out` cannot be written, or `cases` cannot be read.
    """
    settings = {
        "LESSON": _digits(lesson),
        "SEED": "" if seed is None else str(seed),
        "PYTHON_VERSION": "{}.{}".format(*sys.version_info),
    }
    files = {f"wmcourse/{name}": data for name, data in _package().items()}
    for name in ("setup.sh", "run_autograder"):
        files[name] = (SCRIPTS / name).read_bytes().replace(b"\r\n", b"\n")  # a checkout on Windows has both
    files["settings.sh"] = "".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items()).encode()
    files["requirements.txt"] = "\n".join([*requirements(pinned=True), ""]).encode()
    files["ranges.txt"] = "\n".join([*requirements(pinned=False), ""]).encode()
    if cases:
        files["cases.py"] = cases.read_bytes()
    _write_zip(out, files)


def _digits(lesson: str) -> str:
    from wmcourse.exercises import catalogue

    known = {exercise.lesson for exercise in catalogue()}
    found = [name for name in known if lesson in (name, name[:2])]
    if not found:
        raise UnknownLesson(f"no lesson is called {lesson!r}; there are {', '.join(sorted(known))}")
    return found[0][:2]


def _package() -> dict[str, bytes]:
    """The package's files by their path in it, from a checkout or from an installed wheel alike."""
    found: dict[str, bytes] = {}
    for path in sorted(PACKAGE.rglob("*")):
        parts = path.relative_to(PACKAGE).parts
        if path.is_file() and not LEFT_OUT & set(parts) and not any(part.startswith(".") for part in parts):
            found["/".join(parts)] = path.read_bytes()
    return found


def requirements(*, pinned: bool) -> list[str]:
    """What grading needs beside the package: each library at the version at hand, or in the range that we support."""
    lines: list[str] = []
    for stated in importlib.metadata.requires("wmcourse") or ():
        requirement, _, marker = stated.partition(";")
        name = re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]
        if "extra ==" in marker or name in NOT_FOR_GRADING:
            continue
        if pinned:
            extras = "".join(re.findall(r"\[.*\]", requirement))
            version = importlib.metadata.version(name).partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0
            requirement = f"{name}{extras}=={version}"
        lines.append(";".join(part for part in (requirement.strip(), marker) if part))
    return sorted(lines)


def _write_zip(out: Path, files: dict[str, bytes]) -> None:
    """Write the files in the order of their names; scripts may be executed."""
    with _whole(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, so that the permissions count
            mode = 0o755 if files[name].startswith(b"#!") else 0o644
            info.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(info, files[name], zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place where the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def publish(graded: Path, out: Path) -> None:
    """Hand over the one result of a grading as Gradescope's results.json.

    Raises:
        NoResult: there is none, or more than one, or it is no result.
    """
    found = sorted(graded.glob("gradescope/*/results.json"))
    if len(found) != 1:
        raise NoResult(f"{len(found)} results in {graded / 'gradescope'}, and one is wanted")
    text = found[0].read_text(encoding="utf-8")
    try:
        results = json.loads(text)
    except ValueError:
        raise NoResult(f"{found[0]} is not JSON") from None
    if not isinstance(results, dict) or not {"score", "tests"} <= results.keys():
        raise NoResult(f"{found[0]} has no score or no tests")
    with _whole(out) as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        publish(*map(Path, sys.argv[1:]))
    except (OSError, ValueError) as error:
        sys.exit(f"wmcourse: {error}")
