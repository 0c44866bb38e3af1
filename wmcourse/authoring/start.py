"""A learner's own copy of the lessons: made by `wmcourse start FOLDER`, renewed by `--update`, never overwritten."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from wmcourse.authoring.build import fingerprint, write
from wmcourse.exercises import catalogue
from wmcourse.grading.cells import code_of
from wmcourse.grading.handin import answered_by, is_stub

BACKUPS = "before-update"


class NoLessons(FileNotFoundError):
    """The package holds no learner notebooks; the message says where they were looked for."""


def shipped_notebooks() -> list[Path]:
    """The learner notebooks that came with the package: inside the wheel, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if found := sorted(folder.glob("[0-9][0-9]_*.ipynb")):
            return found
    raise NoLessons(f"no lessons in {package / 'notebooks'} nor in {package.parent / 'notebooks'}")


def start(folder: Path, *, update: bool = False) -> list[str]:
    """Copy the lessons into a folder; those already there stay as they are, or with `update` take in the newer version.

    Returns:
        A line for each notebook: what was done.

    Raises:
        NotADirectoryError: `folder` is a file.
        NoLessons: the package holds no lessons.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder for your lessons")
    folder.mkdir(parents=True, exist_ok=True)
    return [_bring(shipped, folder / shipped.name, update) for shipped in shipped_notebooks()]


def _bring(shipped: Path, own: Path, update: bool) -> str:
    if not own.exists():
        shutil.copyfile(shipped, own)
        return f"{own.name}: new"
    if not update:
        return f"{own.name}: kept as it is"
    try:
        before = nbformat.read(own, as_version=4)
    except Exception as error:  # nbformat raises many kinds on files that are no notebooks
        return f"left alone: {own}: is not a Jupyter notebook ({(str(error).splitlines() or ['empty'])[0][:80]})"
    after, carried, kept = updated(before, nbformat.read(shipped, as_version=4))
    if [cell.source for cell in after.cells] == [cell.source for cell in before.cells]:
        return f"{own.name}: already the newest"
    backup = own.parent / BACKUPS / f"{own.stem}.{datetime.now():%Y%m%d-%H%M%S-%f}.ipynb"
    backup.parent.mkdir(exist_ok=True)
    shutil.copyfile(own, backup)
    write(after, own)
    return (
        f"{own.name}: updated; carried over: answers {carried}, other cells {kept}; as it was: {BACKUPS}/{backup.name}"
    )


def updated(before: NotebookNode, newer: NotebookNode) -> tuple[NotebookNode, int, int]:
    """A newer version of a lesson with the learner's work in it.

    An answer goes into the newer exercise cell of its name. Every other cell that the learner wrote or changed is put
    after the cell it stood behind, or at the end where that cell is gone. Cells as they were shipped are replaced.

    Returns:
        The notebook, the number of answers and the number of other cells carried over.
    """
    ids = {exercise.id for exercise in catalogue()}
    slots = {cell.id.removeprefix("exercise-"): cell for cell in newer.cells if cell.metadata.get("exercise")}
    shipped_now = {fingerprint(cell.source) for cell in newer.cells}
    filled: set[str] = set()
    behind: dict[str, list[NotebookNode]] = {}
    anchor = ""
    for cell in before.cells:
        if cell.id in {other.id for other in newer.cells} and _is_shipped(cell):
            anchor = cell.id
        slot = _slot(cell, slots, ids)
        if slot is not None and slot not in filled and not is_stub(cell.source, slot):
            slots[slot].source = cell.source
            filled.add(slot)
            anchor = slots[slot].id
        elif slot is not None and is_stub(cell.source, slot):
            anchor = slots[slot].id
        elif not _is_shipped(cell) and fingerprint(cell.source) not in shipped_now and cell.source.strip():
            behind.setdefault(anchor, []).append(cell)
    kept = sum(map(len, behind.values()))
    cells = list(_woven(newer.cells, behind))
    taken: set[str] = set()
    for number, cell in enumerate(cells):
        if cell.id in taken:  # ids must be unique; the learner's cell gives way
            cell.id = f"own-{number}-{fingerprint(cell.source)}"
        taken.add(cell.id)
    newer.cells = cells
    return newer, len(filled), kept


def _is_shipped(cell: NotebookNode) -> bool:
    """Whether a cell still reads as it did when it was shipped."""
    return cell.metadata.get("shipped") == fingerprint(cell.source)


def _slot(cell: NotebookNode, slots: dict[str, NotebookNode], ids: set[str]) -> str | None:
    """The exercise of the newer lesson that this cell answers, if any."""
    if cell.cell_type != "code":
        return None
    return next((id for id in answered_by(cell, code_of(cell), ids) if id in slots), None)


def _woven(newer: list[NotebookNode], behind: dict[str, list[NotebookNode]]) -> Iterator[NotebookNode]:
    yield from behind.pop("", [])
    for cell in newer:
        yield cell
        yield from behind.pop(cell.id, [])
    for rest in behind.values():
        yield from rest
