"""Read a learner's notebook as data: its answers by exercise, and the definitions that each of them relies on.

An answer is found by the name that a cell defines, else by the exercise that the cell is marked with: cells may be
moved, retyped, split or stripped of their metadata. From other cells only imports, definitions and assignments are
taken, and of those only the ones whose names an answer uses. Nothing here runs a learner's code but `load`.

Standard library only: the grader runs this module inside its sandbox, since no parser is safe from every input.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import json
import linecache
import re
import symtable
import sys
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UnreadableNotebook(ValueError):
    """The file is no notebook, or holds no exercise; the message names the path and the reason."""


@dataclass(frozen=True)
class HandIn:
    """A notebook's answers.

    Args:
        name: what to call the notebook.
        answers: source of the answer's cell by exercise id; exercises without a cell are absent.
        relies_on: by id, the sources of the definitions in other cells that the answer uses, in order.
        stubs: the ids whose answer is not written yet.
        twice: for an id with two different answers, a sentence on which of them counts.
    """

    name: str
    answers: dict[str, str]
    relies_on: dict[str, list[str]]
    stubs: list[str]
    twice: dict[str, str]

    def load(self, id: str) -> Any:
        """The answer itself, a function or a class; raises whatever the learner's own code raises."""
        return load(id, self.answers[id], self.relies_on[id])


def read_handin(path: Path, ids: Collection[str]) -> HandIn:
    """The answers to the exercises `ids` in a notebook.

    Raises:
        UnreadableNotebook: the file is no notebook, or no exercise is found in it.
    """
    try:
        return parse_handin(path.name, path.read_bytes(), ids)
    except FileNotFoundError:
        raise UnreadableNotebook(f"{path}: there is no such file") from None
    except OSError as error:
        raise UnreadableNotebook(f"{path}: cannot be read ({error.strerror})") from None
    except UnreadableNotebook as error:
        raise UnreadableNotebook(f"{path}: {error}") from None


def parse_handin(name: str, data: bytes, ids: Collection[str]) -> HandIn:
    """The answers in the bytes of a notebook; UnreadableNotebook, with the reason, where there are none."""
    cells = [(cell, code_of(cell)) for cell in cells_of(data)]
    sources = [source for _, source in cells]
    chosen, twice = _choose(cells, ids)
    if not chosen:
        raise UnreadableNotebook("holds no exercise of this course")
    answers = {id: sources[number] for id, number in chosen.items()}
    units = [(number, unit) for number, source in enumerate(sources) for unit in definitions_in(source)]
    relies_on = {}
    for id, own in chosen.items():
        others = [unit for number, unit in units if number != own and id not in unit.binds]
        relies_on[id] = [unit.source for unit in _reachable(_names_used(answers[id]), others)]
    return HandIn(name, answers, relies_on, [id for id in answers if is_stub(answers[id])], twice)


def cells_of(data: bytes) -> list[dict[str, Any]]:
    """The cells of a notebook of format 3 or 4, each a dict with cell_type, source (one string) and metadata."""
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
        sheets = notebook.get("worksheets", [notebook])  # format 3 has sheets of cells
        cells = [cell for sheet in sheets for cell in sheet["cells"] if isinstance(cell, dict)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:80] if isinstance(error, ValueError) else "it has no cells"
        raise UnreadableNotebook(f"is not a Jupyter notebook ({reason})") from None
    return [_tidy(cell) for cell in cells]


def _tidy(cell: dict[str, Any]) -> dict[str, Any]:
    source = cell.get("source", cell.get("input", ""))  # format 3 calls a code cell's source its input
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    metadata = cell.get("metadata")
    return {
        "cell_type": str(cell.get("cell_type")),
        "source": text,
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


_MAGIC = re.compile(r"^(\s*)(?:[%!?].*|\w[\w, ]*=\s*[%!].*|[\w.]+\?{1,2}\s*)$")


def code_of(cell: Mapping[str, Any]) -> str:
    """A cell's Python, magics and shell lines taken out; a cell retyped to text keeps its source if that is Python."""
    source = str(cell["source"])
    if not _parse(source):
        if source.lstrip().startswith("%%") and not re.match(r"\s*%%(time|timeit|capture|prun)\b", source):
            return ""  # the whole cell is in another language
        source = "\n".join(_MAGIC.sub(r"\1pass", line) for line in source.splitlines())
    return source if cell["cell_type"] == "code" or _parse(source) else ""


def answered_by(cell: Mapping[str, Any], source: str, ids: Collection[str]) -> list[str]:
    """The exercises a cell answers: those whose function or class it defines, else the one it is marked with."""
    defined = [name for node in _parse(source) for name in _answers(node) if name in ids]
    if found := list(dict.fromkeys(defined)):
        return found
    # A marked cell that defines nothing of its name is a broken answer, a syntax error say: still the answer.
    marked = _mark(cell)
    return [marked] if marked in ids and cell["cell_type"] == "code" and source.strip() else []


def _mark(cell: Mapping[str, Any]) -> str:
    nbgrader = cell["metadata"].get("nbgrader")
    marked = cell["metadata"].get("exercise") or (nbgrader.get("grade_id") if isinstance(nbgrader, dict) else "")
    return marked if isinstance(marked, str) else ""


def _choose(cells: list[tuple[dict[str, Any], str]], ids: Collection[str]) -> tuple[dict[str, int], dict[str, str]]:
    """For each exercise the number of the cell that counts, and a sentence where others were passed over.

    A stub gives way to an answer, an answer in a cell that is not the exercise's own to one that is, and otherwise the
    earlier to the later, as when the notebook is run from top to bottom.
    """
    found: dict[str, list[tuple[int, int, int]]] = {}
    for number, (cell, source) in enumerate(cells):
        for id in answered_by(cell, source, ids):
            found.setdefault(id, []).append((not is_stub(source), _mark(cell) == id, number))
    chosen, twice = {}, {}
    for id, ranked in found.items():
        chosen[id] = max(ranked)[2]
        different = {cells[number][1].strip() for written, _, number in ranked if written}
        if len(different) > 1:
            places = ", ".join(str(number + 1) for written, _, number in ranked if written)
            twice[id] = f"{id} is answered differently in cells {places}; cell {chosen[id] + 1} counts"
    return chosen, twice


def is_stub(source: str) -> bool:
    """Whether an answer is still `raise NotImplementedError` after its docstring."""
    for node in _parse(source):
        if isinstance(node, _DEFINITIONS):
            body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            if len(body) == 1 and isinstance(body[0], ast.Raise) and _says_not_implemented(body[0].exc):
                return True
    return False


def _says_not_implemented(error: ast.expr | None) -> bool:
    name = error.func if isinstance(error, ast.Call) else error
    return isinstance(name, ast.Name) and name.id == "NotImplementedError"


@dataclass(frozen=True)
class Unit:
    """One statement of a cell that an answer may rely on: its source, and the names it binds and uses."""

    source: str
    binds: frozenset[str]
    uses: frozenset[str]


def definitions_in(source: str) -> list[Unit]:
    """The imports, functions, classes and assignments at the top level of a cell."""
    units = []
    for node in _parse(source):
        if isinstance(node, _TAKEN) and not _future(node):
            with contextlib.suppress(RecursionError):  # too deep for Python's own tools; nobody's answer relies on it
                text = ast.unparse(node)
                units.append(Unit(text, frozenset(_binds(node)), frozenset(_names_used(text))))
    return units


def load(id: str, source: str, relies_on: Collection[str] = ()) -> Any:
    """Run definitions, then an answer's cell, in a new module, and give what the cell calls `id`.

    A statement that fails is passed over unless it is what defines the answer: a plot or a print in an answer's cell
    must not cost its points.

    Raises:
        Exception: whatever the learner's own code raises.
    """
    module = types.ModuleType("answer")
    sys.modules[module.__name__] = module  # dataclasses look there
    for number, unit in enumerate(relies_on):
        _run(unit, f"<answer: definition {number}>", module.__dict__, needed=())
    _run(source, f"<answer: {id}>", module.__dict__, needed=(id,))
    if id not in module.__dict__:
        raise NameError(f"the cell of {id} defines no {id}")
    return module.__dict__[id]


def _run(source: str, filename: str, names: dict[str, Any], needed: Collection[str]) -> None:
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)  # for tracebacks
    late = __future__.annotations.compiler_flag  # a type that is not there is no reason to fail
    for node in ast.parse(source).body:
        if _future(node):
            continue
        code = compile(ast.Module([node], []), filename, "exec", flags=late, dont_inherit=True)
        try:
            exec(code, names)
        except Exception:
            if any(name in needed for name in _answers(node)):
                raise


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_TAKEN = (ast.Import, ast.ImportFrom, *_DEFINITIONS, ast.Assign, ast.AnnAssign, ast.If, ast.Try)


def _parse(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _answers(node: ast.stmt) -> Iterator[str]:
    """The names that a statement may define as an answer; `f = check("f", f)` defines none."""
    if isinstance(node, _DEFINITIONS):
        yield node.name
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda | ast.Name | ast.Attribute | ast.Call):
        called = node.value.func if isinstance(node.value, ast.Call) else None
        checked = isinstance(called, ast.Name) and called.id == "check"
        yield from (target.id for target in node.targets if isinstance(target, ast.Name) and not checked)


def _binds(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds at the top level of its cell; "*" for a star import."""
    if isinstance(node, _DEFINITIONS):
        yield node.name
    elif isinstance(node, ast.alias):
        yield node.asname or node.name.split(".")[0]
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, ast.Lambda | ast.expr_context):
        for child in ast.iter_child_nodes(node):
            yield from _binds(child)


def _names_used(source: str) -> set[str]:
    """The names that a piece of source looks up outside its own functions."""
    try:
        tables = [symtable.symtable(source, "answer", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    while tables:
        table = tables.pop()
        top = table.get_type() == "module"
        names |= {s.get_name() for s in table.get_symbols() if s.is_global() or (top and s.is_referenced())}
        tables += table.get_children()
    return names


def _reachable(names: set[str], units: list[Unit]) -> list[Unit]:
    """Those units that bind one of the names, or a name that such a unit uses, and so on; in their own order."""
    taken: set[int] = set()
    while True:
        more = {i for i, unit in enumerate(units) if i not in taken and unit.binds & (names | {"*"})}
        if not more:
            return [units[i] for i in sorted(taken)]
        taken |= more
        names = names.union(*(units[i].uses for i in more))
