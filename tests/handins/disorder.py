"""Right answers in every disorder that learners leave: cells moved, retyped, stripped, doubled, and notes between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell

from tests.handins.case import HandInCase, edited, file_of, notebook, save
from tests.handins.recipes import ALL_PASSED, IDS, RIGHT_03, WRONG_03, right_03


def _disordered(name: str, disorder: Callable[[NotebookNode], None], **wanted: str | int) -> HandInCase:
    """Lesson 03 solved, then put into disorder."""

    def make() -> NotebookNode:
        made = right_03()
        disorder(made)
        return made

    return edited(name, make, ALL_PASSED | wanted)


def _cell(made: NotebookNode, id: str) -> int:
    return next(i for i, cell in enumerate(made.cells) if cell.metadata.get("exercise") == id)


def _stripped(made: NotebookNode) -> None:
    for number, cell in enumerate(made.cells):
        cell.metadata, cell.id = {}, f"c{number}"


def _reversed_cells(made: NotebookNode) -> None:
    made.cells.reverse()


def _duplicated(made: NotebookNode) -> None:
    made.cells += [new_code_cell(made.cells[_cell(made, id)].source) for id in IDS]


def _deleted(made: NotebookNode) -> None:
    gone = {"exercise-leave_one_out", "check-leave_one_out", "header-straight_through", "check-reparameterize"}
    made.cells = [cell for cell in made.cells if cell.id not in gone]


def _retyped(made: NotebookNode) -> None:
    for id, new in (("reparameterize", new_markdown_cell), ("leave_one_out", new_raw_cell)):
        old = made.cells[_cell(made, id)]
        made.cells[_cell(made, id)] = new(old.source, metadata=old.metadata, id=old.id)


def _swapped_marks(made: NotebookNode) -> None:
    """Each of two cells carries the other's metadata: what a cell defines decides."""
    one, other = made.cells[_cell(made, "reparameterize")], made.cells[_cell(made, "straight_through")]
    one.metadata, other.metadata = other.metadata, one.metadata


def _boasting(made: NotebookNode) -> None:
    """Metadata is the student's: points, grades and a kernel of another language mean nothing."""
    made.metadata = {"kernelspec": {"name": "bash", "language": "bash", "display_name": "Bash"}, "points": 1000}
    for cell in made.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader |= {"points": 1000, "grade": True, "locked": False}


def _merged(made: NotebookNode) -> None:
    """Every answer in one cell, in the first exercise's place."""
    sources = [made.cells[_cell(made, id)].source for id in IDS]
    made.cells = [c for c in made.cells if c.metadata.get("exercise") in (None, IDS[0])]
    made.cells[_cell(made, IDS[0])].source = "\n\n\n".join(sources)


def _merged_with_a_stub(made: NotebookNode) -> None:
    """Every answer in one cell, and among them one that is not written yet."""
    open_one = f"def {IDS[-1]}(logits, uniform):\n    raise NotImplementedError  # your code here"
    _merged(made)
    made.cells[_cell(made, IDS[0])].source = "\n\n\n".join([*(RIGHT_03[id] for id in IDS[:-1]), open_one])


def _below_the_stubs(made: NotebookNode) -> None:
    """The exercise cells are as they came; each answer stands in a cell below, with its check."""
    for id in IDS:
        place = _cell(made, id)
        own = new_code_cell(f'{made.cells[place].source}\n\n\n{id} = check("{id}", {id})')
        made.cells[place].source = f'def {id}(*args):\n    """What to do."""\n    raise NotImplementedError'
        made.cells.insert(place + 1, own)


def _twice(made: NotebookNode) -> None:
    """A wrong second attempt lies below the check; the answer that was checked counts."""
    made.cells.append(new_code_cell(WRONG_03["leave_one_out"]))


def _twice_unmarked(made: NotebookNode) -> None:
    """Two attempts, no marked cell and no check: the last counts."""
    made.cells = [cell for cell in made.cells if cell.id != "check-leave_one_out"]
    gone = _cell(made, "leave_one_out")
    made.cells[gone] = new_code_cell(RIGHT_03["leave_one_out"])
    made.cells.append(new_code_cell(WRONG_03["leave_one_out"]))


def _heavy(made: NotebookNode) -> None:
    """50 MB of outputs, as a loop that prints leaves them."""
    text = ("0123456789" * 10 + "\n") * 10_000
    made.cells[2].outputs = [new_output("stream", name="stdout", text=text) for _ in range(50)]


def _magics(made: NotebookNode) -> None:
    slots = {id: made.cells[_cell(made, id)] for id in IDS}
    slots["reparameterize"].source = "%%time\n" + RIGHT_03["reparameterize"]
    slots["leave_one_out"].source = "%matplotlib inline\n!pip install numpy\n" + RIGHT_03["leave_one_out"]
    slots["pathwise_gradient"].source = "x = !ls\n" + RIGHT_03["pathwise_gradient"] + "\npathwise_gradient?"
    slots["straight_through"].source = "?torch.where\nfiles = %who_ls\n" + RIGHT_03["straight_through"]
    slots["score_function_gradient"].source = "!date\nSAID = ('%s'\n    % 7)\n" + RIGHT_03["score_function_gradient"]
    made.cells.append(new_code_cell("%%bash\necho 'def reparameterize(mean, std, noise): return 0'\nexit 1"))
    made.cells.append(new_code_cell("%%html\n<b>def leave_one_out(value): pass</b>"))


def _experiments(made: NotebookNode) -> None:
    """Cells that fail, draw and reuse an exercise's name; lines below an answer that only run in the notebook."""
    made.cells[_cell(made, "leave_one_out")].source += "\n\nprint(leave_one_out(frames))\nplt.show()"
    made.cells[
        _cell(made, "reparameterize")
    ].source += "\n\nreparameterize(mean, std, torch.zeros(1000)).sum().backward()"
    for source in ("1 / 0", "assert False", "straight_through = 3", "def broken(:", "raise SystemExit"):
        made.cells.append(new_code_cell(source))


def _beside_another_lesson(folder: Path) -> None:
    """Lesson 03 solved, and a later lesson's notebook in which some number bears the name of one of 03's exercises."""
    save(right_03(), folder / BESIDE / file_of("03"))
    save(notebook("04", {}, after=["leave_one_out = 3.0"]), folder / BESIDE / file_of("04"))


BESIDE = "a name of another lesson"
CASES = [
    HandInCase(BESIDE, _beside_another_lesson, ALL_PASSED, needs="any"),
    _disordered("stripped of metadata", _stripped),
    _disordered("cells reversed", _reversed_cells),
    _disordered("cells duplicated", _duplicated),
    _disordered("cells deleted", _deleted, leave_one_out="missing"),
    _disordered("cells retyped", _retyped),
    _disordered("marks swapped", _swapped_marks),
    _disordered("metadata that boasts", _boasting),
    _disordered("all in one cell", _merged),
    _disordered("all in one cell, one open", _merged_with_a_stub, straight_through="missing"),
    _disordered("below the stubs", _below_the_stubs),
    _disordered("a second attempt below", _twice),
    _disordered("two attempts, unmarked", _twice_unmarked, leave_one_out="failed"),
    _disordered("50 MB of outputs", _heavy),
    _disordered("magics and shell lines", _magics),
    _disordered("experiments that fail", _experiments),
]
