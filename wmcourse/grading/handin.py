"""Read a learner's notebook as data: its imports and definitions, and its answers by exercise, wherever the cells are.

An answer is found by the name of the function that a cell defines, else by the exercise that the cell is marked with:
cells may be moved, retyped, split or stripped of their metadata. Nothing here runs a learner's code but `load`.
"""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from wmcourse.grading.exercise import Exercise


class UnreadableNotebook(ValueError):
    """The file is no notebook, or holds no exercise; the message names the path and the reason."""


class DefinedTwice(ValueError):
    """A notebook holds two different answers to one exercise; the message names both cells."""


@dataclass(frozen=True)
class HandIn:
    """A notebook's answers.

    Args:
        path: where it was read.
        support: the source of every import and definition outside the answers, in order.
        answers: source of the answer by exercise id; exercises without a cell are absent.
        twice: for an id with two different answers, where they stand.
    """

    path: Path
    support: str
    answers: dict[str, str]
    twice: dict[str, str]

    def load(self, id: str) -> Any:
        """Run the imports, the definitions and the answers in a new module, and give the answer of this id.

        The other answers are there, too, since one may call another; what they raise when defined is their affair.

        Raises:
            DefinedTwice: the notebook answers this exercise twice, differently.
            Exception: whatever the learner's own code raises.
        """
        if id in self.twice:
            raise DefinedTwice(f"{self.path} answers {id} twice, differently: {self.twice[id]}; keep one of them")
        module = types.ModuleType("handin")
        for other, source in [("imports", self.support), *self.answers.items()]:
            if other != id:
                try:
                    self._run(source, other, module)
                except Exception:
                    continue
        self._run(self.answers[id], id, module)
        return getattr(module, id)

    def _run(self, source: str, name: str, module: types.ModuleType) -> None:
        filename = f"<{self.path.name}: {name}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)  # for tracebacks
        exec(compile(source, filename, "exec"), module.__dict__)


def read_notebook(path: Path) -> NotebookNode:
    """A notebook file, upgraded to format 4; UnreadableNotebook, with the path and the reason, where it is none."""
    try:
        return nbformat.read(str(path), as_version=4)  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        raise UnreadableNotebook(f"{path}: there is no such file") from None
    except OSError as error:
        raise UnreadableNotebook(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # nbformat raises many kinds on files that are no notebooks
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:80]
        raise UnreadableNotebook(f"{path}: is not a Jupyter notebook ({reason})") from None


def read_handin(path: Path, exercises: Sequence[Exercise]) -> HandIn:
    """The answers in a notebook.

    Raises:
        UnreadableNotebook: the file is no notebook, or no exercise is found in it.
    """
    notebook = read_notebook(path)
    ids = {exercise.id for exercise in exercises}
    answers: dict[str, str] = {}
    twice: dict[str, str] = {}
    support: list[str] = []
    for number, cell in enumerate(notebook.cells, start=1):
        source = code_of(cell)
        answered = answered_by(cell, source, ids)
        for id in answered:
            if id in answers and is_stub(answers[id]):
                del answers[id]
            if id not in answers:
                answers[id] = source
            elif answers[id].strip() != source.strip() and not is_stub(source):
                twice[id] = f"the second is in cell {number}"
        if not answered:
            support.append(definitions_in(source))
    if not answers:
        raise UnreadableNotebook(f"{path}: holds no exercise of this course")
    return HandIn(path, "\n".join(part for part in support if part), answers, twice)


def code_of(cell: NotebookNode) -> str:
    """A cell's Python, magics and shell lines taken out; a cell retyped to text keeps its source if that is Python."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in str(cell.source).splitlines()]
    source = "\n".join(lines)
    return source if cell.cell_type == "code" or _parse(source) else ""


def answered_by(cell: NotebookNode, source: str, ids: set[str]) -> list[str]:
    """The exercises a cell answers: those whose function or class it defines, else the one it is marked with."""
    defined = [node.name for node in _parse(source) if isinstance(node, _DEFINITIONS) and node.name in ids]
    assigned = [name for node in _parse(source) for name in _lambda_names(node) if name in ids]
    marked = cell.metadata.get("exercise") or cell.metadata.get("nbgrader", {}).get("grade_id")
    if found := list(dict.fromkeys(defined + assigned)):
        return found
    # A marked cell that defines nothing of its name is a broken answer, a syntax error say: still the answer.
    return [marked] if marked in ids and cell.cell_type == "code" and source.strip() else []


def definitions_in(source: str) -> str:
    """The imports, functions, classes and constants at the top level of a cell: what an answer may rely on."""
    kept = [
        node
        for node in _parse(source)
        if isinstance(node, (ast.Import, ast.ImportFrom, *_DEFINITIONS)) or _constant(node)
    ]
    return "\n".join(ast.unparse(node) for node in kept)


def is_stub(source: str) -> bool:
    """Whether an answer is still `raise NotImplementedError` after its docstring."""
    for node in _parse(source):
        if isinstance(node, _DEFINITIONS):
            body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            if len(body) == 1 and isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.unparse(body[0]):
                return True
    return False


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _parse(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _lambda_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _constant(node: ast.stmt) -> bool:
    """An assignment of a literal, or of a lambda."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return False
    if isinstance(node.value, ast.Lambda):
        return True
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return False
    return True
