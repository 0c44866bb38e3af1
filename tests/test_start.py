"""A learner's folder: copied once, never overwritten, brought up to date without losing a cell."""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from wmcourse.__main__ import main
from wmcourse.authoring import start as module
from wmcourse.authoring.build import fingerprint
from wmcourse.authoring.start import shipped_notebooks, start

NAME = "03_reparameterization.ipynb"
ANSWER = "def reparameterize(mean, std, noise):\n    return mean + std * noise  # mine"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    start(tmp_path / "lessons")
    return tmp_path / "lessons"


@pytest.fixture
def newer(tmp_path: Path, monkeypatch) -> Path:
    """A newer release of lesson 03: a changed text, a new one, a changed docstring, one exercise gone."""
    notebook = nbformat.read(next(path for path in shipped_notebooks() if path.name == NAME), 4)
    notebook.cells = [cell for cell in notebook.cells if "leave_one_out" not in cell.id]
    notebook.cells[0].source += "\n\nA newer text."
    notebook.cells.insert(1, new_markdown_cell("A new paragraph."))
    for cell in notebook.cells:
        if cell.id == "exercise-reparameterize":
            cell.source = cell.source.replace("A draw from", "One draw from")
        cell.metadata["shipped"] = fingerprint(cell.source)
    path = tmp_path / "release" / NAME
    path.parent.mkdir()
    nbformat.write(notebook, path)
    monkeypatch.setattr(module, "shipped_notebooks", lambda: [path])
    return path


def edit(path: Path, change) -> None:
    notebook = nbformat.read(path, 4)
    change(notebook)
    nbformat.write(notebook, path)


def sources(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, 4).cells]


def solve(notebook) -> None:
    next(cell for cell in notebook.cells if cell.id == "exercise-reparameterize").source = ANSWER


def test_every_lesson_is_copied_and_kept(folder: Path) -> None:
    assert [path.name for path in sorted(folder.iterdir())] == [path.name for path in shipped_notebooks()]
    edit(folder / NAME, solve)
    assert f"{NAME}: kept as it is" in start(folder)
    assert ANSWER in sources(folder / NAME)


def test_an_update_of_the_same_version_changes_nothing(folder: Path) -> None:
    edit(folder / NAME, solve)
    before = (folder / NAME).read_bytes()
    assert f"{NAME}: already the newest" in start(folder, update=True)
    assert (folder / NAME).read_bytes() == before


def test_an_update_carries_answers_and_own_cells(folder: Path, newer: Path) -> None:
    def work(notebook) -> None:
        solve(notebook)
        cells = notebook.cells
        at = next(i for i, cell in enumerate(cells) if cell.id == "exercise-reparameterize")
        cells.insert(at + 1, new_code_cell("my_experiment = 1"))
        cells.insert(0, new_markdown_cell("My notes."))
        cells[-1].source += "\n\nAnd my remark."
        gone = next(cell for cell in cells if cell.id == "exercise-leave_one_out")
        gone.source = "def leave_one_out(value):\n    return value - value.flip(0)"

    edit(folder / NAME, work)
    as_it_was = (folder / NAME).read_bytes()
    (line,) = start(folder, update=True)
    assert line.startswith(f"{NAME}: updated; carried over: answers 1, other cells 4;")
    found = sources(folder / NAME)
    assert ANSWER in found
    assert "A new paragraph." in found
    assert found.index("my_experiment = 1") == found.index(ANSWER) + 1
    assert found[0] == "My notes."
    assert any("And my remark." in source for source in found)
    assert "def leave_one_out(value):\n    return value - value.flip(0)" in found
    assert sum("A newer text." in source for source in found) == 1
    (backup,) = (folder / "before-update").iterdir()
    assert backup.read_bytes() == as_it_was
    nbformat.validate(nbformat.read(folder / NAME, 4))
    assert start(folder, update=True) == [f"{NAME}: already the newest"]


def test_an_update_finds_answers_in_moved_and_stripped_cells(folder: Path, newer: Path) -> None:
    def scramble(notebook) -> None:
        solve(notebook)
        for cell in notebook.cells:
            cell.metadata = {}
            cell.id = "x" + str(abs(hash(cell.id)))
        notebook.cells.reverse()

    edit(folder / NAME, scramble)
    before = [source for source in sources(folder / NAME)]
    start(folder, update=True)
    found = sources(folder / NAME)
    assert ANSWER in found
    stub_like = {source for source in before if "raise NotImplementedError" in source or "# your code" in source}
    shipped = set(sources(newer))
    lost = [source for source in before if source not in found and source not in stub_like and source not in shipped]
    assert lost == []


def test_two_answers_to_one_exercise_are_both_kept(folder: Path, newer: Path) -> None:
    def twice(notebook) -> None:
        solve(notebook)
        second = copy.deepcopy(next(cell for cell in notebook.cells if cell.id == "exercise-reparameterize"))
        second.source, second.id = ANSWER.replace("mine", "second try"), "second"
        notebook.cells.append(second)

    edit(folder / NAME, twice)
    start(folder, update=True)
    assert {ANSWER, ANSWER.replace("mine", "second try")} <= set(sources(folder / NAME))


def test_a_damaged_notebook_is_left_alone(folder: Path, newer: Path) -> None:
    (folder / NAME).write_text("{ half")
    (line,) = start(folder, update=True)
    assert line.startswith("left alone: ")
    assert "is not a Jupyter notebook" in line
    assert (folder / NAME).read_text() == "{ half"


def test_a_file_in_the_way_is_said(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert main(["start", str(tmp_path / "file")]) == 1
    assert "is a file: name a folder" in capsys.readouterr().err
    assert main(["start", str(tmp_path / "new" / "lessons")]) == 0
