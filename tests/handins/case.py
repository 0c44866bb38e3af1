"""What a hand-in of the corpus is made of: a learner's own notebook, answers put into it, and its true score."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from wmcourse.exercises import catalogue

CHECKOUT = Path(__file__).parents[2]
LESSONS = {path.stem[:2]: path for path in sorted((CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
MARK = "wmcourse-corpus-daemon"  # on the command line of what hand-ins leave behind
SECONDS = 5  # a call's limit in the test's run
PORT = "port"  # a file beside the canaries: where the listener waits that nobody should reach


@dataclass(frozen=True)
class HandInCase:
    """One hand-in and its true score.

    Args:
        name: what the corpus calls it; also the student's name, unless `student` says otherwise.
        build: writes the student's folder, notebook or zip into the folder of all hand-ins.
        wanted: a reason, or the points where several reasons would do, by exercise id; exercises that are not named
            are missing, or unreadable where the whole hand-in is.
        status: of the row.
        needs: "bubblewrap", or "any" where the process-only mode stops it, too.
        student: the row's student, where that is not the name.
    """

    name: str
    build: Callable[[Path], object]
    wanted: dict[str, str | int]
    status: str = "graded"
    needs: str = "bubblewrap"
    student: str = ""


def canaries(handins: Path) -> Path:
    """The folder that hand-ins try to write to; the test makes it beside the folder of all hand-ins."""
    return handins.parent / "canaries"


def with_paths(source: str, handins: Path) -> str:
    """A source with @canary@, @handins@, @results@, @checkout@ and @port@ filled in."""
    port = canaries(handins) / PORT
    places = {
        "@canary@": canaries(handins),
        "@handins@": handins,
        "@results@": handins.parent / "results",
        "@checkout@": CHECKOUT,
        "@mark@": MARK,
        "@seconds@": SECONDS,
        "@port@": port.read_text() if port.exists() else "9",
    }
    return functools.reduce(lambda text, name: text.replace(name, str(places[name])), places, source)


@functools.cache
def _shipped(lesson: str) -> NotebookNode:
    return nbformat.read(str(LESSONS[lesson]), as_version=4)  # type: ignore[no-untyped-call]


def ids_of(lesson: str) -> list[str]:
    """The exercises of a lesson, "03" say."""
    return [exercise.id for exercise in catalogue() if exercise.lesson.startswith(lesson)]


def notebook(
    lesson: str, answers: dict[str, str], *, before: Sequence[str] = (), after: Sequence[str] = ()
) -> NotebookNode:
    """The learner's notebook of a lesson with answers in its exercise cells.

    Args:
        lesson: "03", say.
        answers: the whole source of an exercise's cell, by id; other exercises stay stubs.
        before: cells that stand after the notebook's first imports.
        after: cells at its end.
    """
    made: NotebookNode = copy.deepcopy(_shipped(lesson))
    slots = {cell.metadata.get("exercise"): cell for cell in made.cells}
    for id, source in answers.items():
        slots[id].source = source
    first = next(i for i, cell in enumerate(made.cells) if cell.cell_type == "code") + 1
    made.cells[first:first] = [_own_cell(f"own-before-{i}", source) for i, source in enumerate(before)]
    made.cells += [_own_cell(f"own-after-{i}", source) for i, source in enumerate(after)]
    return made


def _own_cell(id: str, source: str) -> NotebookNode:
    return new_code_cell(source, id=id)  # type: ignore[no-any-return]


def save(made: NotebookNode, path: Path) -> None:
    """Write a notebook, paths filled in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for cell in made.cells:
        cell.source = with_paths(cell.source, path.parent.parent)
    path.write_text(text_of(made), encoding="utf-8")


def text_of(made: NotebookNode) -> str:
    """A notebook as the text of its file."""
    return nbformat.writes(made)  # type: ignore[no-untyped-call,no-any-return]


def file_of(lesson: str) -> str:
    """The file name of a lesson's notebook."""
    return LESSONS[lesson].name


def edited(
    name: str,
    make: Callable[[], NotebookNode],
    wanted: dict[str, str | int],
    *,
    lesson: str = "03",
    needs: str = "any",
) -> HandInCase:
    """A folder that holds one notebook, which `make` gives."""
    return HandInCase(name, lambda folder: save(make(), folder / name / file_of(lesson)), wanted, needs=needs)


def stem(source: str) -> str:
    """A block of source without its first line break and its common indent."""
    lines = source.strip("\n").splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)


def renamed(source: str, id: str) -> str:
    """A function's or a class's source under another name, without decorators."""
    source = re.sub(r"\A(?:@.*\n)+", "", source)
    name = re.match(r"(?:def|class) (\w+)", source)
    return re.sub(rf"\b{name[1]}\b", id, source) if name else source
