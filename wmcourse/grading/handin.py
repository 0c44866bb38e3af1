"""Read a learner's notebook as data: its answers by exercise, and the statements that each of them relies on.

An answer is found by the name that a cell binds, else by the exercise that the cell is marked with: cells may be moved,
retyped, split or stripped of their metadata. Of other cells only the statements are taken that bind or change a name
which the answer uses, as they stand when the notebook is run from top to bottom. Nothing here runs a learner's code but
`load`.

Standard library only: the grader runs this module inside its sandbox, since no parser is safe from every input.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import linecache
import re
import symtable
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmcourse.grading.cells import UnreadableNotebook, cells_of, code_of, parse


@dataclass(frozen=True)
class HandIn:
    """A notebook's answers.

    Args:
        name: what to call the notebook.
        answers: source of the answer's cell by exercise id; exercises without a cell are absent.
        relies_on: by id, the sources of the statements in other cells that the answer relies on, in order.
        stubs: the ids whose answer is not written yet.
        twice: for an id with different answers, a sentence on which of them counts.
        checked: the ids that the notebook checks.
    """

    name: str
    answers: dict[str, str]
    relies_on: dict[str, list[str]]
    stubs: list[str]
    twice: dict[str, str]
    checked: list[str]

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
    cells = cells_of(data)
    sources = [code_of(cell) for cell in cells]
    checks = {id: number for number, source in enumerate(sources) for id in re.findall(r"check\(\s*[\"'](\w+)", source)}
    chosen, twice = _choose(cells, sources, ids, checks)
    if not chosen:
        raise UnreadableNotebook("holds no exercise of this course")
    answers = {id: sources[number] for id, number in chosen.items()}
    units = [unit for number, source in enumerate(sources) for unit in _units(number, source)]
    relies_on = {id: _reachable(id, chosen, units) for id in chosen}
    stubs = [id for id in answers if is_stub(answers[id], id)]
    return HandIn(name, answers, relies_on, stubs, twice, [id for id in checks if id in ids])


# Which cell answers which exercise


def answered_by(cell: Mapping[str, Any], source: str, ids: Collection[str]) -> list[str]:
    """The exercises a cell answers: those whose names it binds, else the one it is marked with."""
    bound = [name for node in parse(source) if not _comes_from_elsewhere(node) for name in _binds(node) if name in ids]
    if found := list(dict.fromkeys(bound)):
        return found
    # A marked cell that binds nothing of its name is a broken answer, a syntax error say: still the answer.
    nbgrader = cell["metadata"].get("nbgrader")
    marked = cell["metadata"].get("exercise") or (nbgrader.get("grade_id") if isinstance(nbgrader, dict) else "")
    is_code = cell["cell_type"] == "code" and bool(source.strip())
    return [marked] if is_code and isinstance(marked, str) and marked in ids else []


def _choose(
    cells: list[dict[str, Any]], sources: list[str], ids: Collection[str], checks: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, str]]:
    """For each exercise the number of the cell that counts, and a sentence where others were passed over.

    It is the last one that is written before the exercise's last check (`checks` has those cells' numbers), as when the
    notebook is run from top to bottom; without such a one, the last that is written at all.
    """
    found: dict[str, list[tuple[bool, bool, int]]] = {}
    for number, (cell, source) in enumerate(zip(cells, sources, strict=True)):
        for id in answered_by(cell, source, ids):
            rank = not is_stub(source, id), number <= checks.get(id, -1), number
            found.setdefault(id, []).append(rank)
    chosen, twice = {}, {}
    for id, ranked in found.items():
        chosen[id] = max(ranked)[2]
        written = [number for is_written, _, number in ranked if is_written]
        if len({sources[number].strip() for number in written}) > 1:
            places = ", ".join(str(number + 1) for number in written)
            twice[id] = f"{id} is answered differently in cells {places}; cell {chosen[id] + 1} counts"
    return chosen, twice


def is_stub(source: str, id: str) -> bool:
    """Whether a cell's answer to `id` is still `raise NotImplementedError`, as a whole or in one of its methods."""
    answer = next(
        (node for node in reversed(parse(source)) if id in _binds(node) and not _comes_from_elsewhere(node)), None
    )
    if isinstance(answer, ast.ClassDef):
        return _only_raises(answer) or any(_only_raises(node) for node in answer.body)
    return answer is not None and _only_raises(answer)


def _only_raises(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    if len(body) != 1 or not isinstance(body[0], ast.Raise):
        return False
    error = body[0].exc
    name = error.func if isinstance(error, ast.Call) else error
    return isinstance(name, ast.Name) and name.id == "NotImplementedError"


def _comes_from_elsewhere(node: ast.stmt) -> bool:
    """Whether a statement binds what it did not make: an import, or `f = check("f", f)`."""
    called = node.value.func if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
    checked = isinstance(called, ast.Name) and called.id == "check"
    return checked or isinstance(node, ast.Import | ast.ImportFrom)


# What an answer relies on


@dataclass(frozen=True)
class Unit:
    """One top-level statement: its cell and source, the names it binds, changes in place, and uses."""

    cell: int
    source: str
    binds: frozenset[str]
    changes: frozenset[str]
    uses: frozenset[str]


def _units(number: int, source: str) -> Iterator[Unit]:
    for node in parse(source):
        for part in _apart(node):
            if not _future(part):
                with contextlib.suppress(RecursionError):  # too deep for Python's own tools
                    text = ast.unparse(part)
                    yield Unit(number, text, frozenset(_binds(part)), frozenset(_changes(part)), frozenset(_uses(text)))


def _apart(node: ast.stmt) -> Iterable[ast.stmt]:
    """`import a, b` as two statements: what is not installed must not take the other along."""
    if isinstance(node, ast.Import):
        return [ast.Import([alias]) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [ast.ImportFrom(node.module, [alias], node.level) for alias in node.names]
    return [node]


def _reachable(id: str, chosen: dict[str, int], units: list[Unit]) -> list[str]:
    """The statements of other cells that an answer relies on, in the notebook's order.

    For each name those before the answer's cell count, or else those of the first cell after it that binds the name;
    for the name of another exercise those of the cell that answers it.
    """
    own = chosen[id]
    imported = {name for unit in units if unit.source.startswith(("import ", "from ")) for name in unit.binds}
    taken: set[int] = set()
    names, looked_up = {id, "*"}, set[str]()
    while names:
        name = names.pop()
        looked_up.add(name)
        # Calls of a module's functions change nothing that an answer relies on.
        touch = [i for i, unit in enumerate(units) if name in unit.binds or name in unit.changes - imported]
        cells = {units[i].cell for i in touch if name in units[i].binds and id not in units[i].binds}
        if name in chosen:
            cells = {chosen[name]}
        elif any(cell < own for cell in cells):
            cells = set(range(own))
        else:
            cells = {min((cell for cell in cells if cell > own), default=own)}
        found = [i for i in touch if units[i].cell in cells | {own}]
        taken |= {i for i in found if units[i].cell != own}
        names |= {used for i in found for used in units[i].uses} - looked_up
    return [units[i].source for i in sorted(taken)]


def _binds(node: ast.stmt) -> set[str]:
    """The names that a statement binds at the top level of its cell; "*" for a star import."""
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        return {"*"}
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    try:
        symbols = symtable.symtable(ast.unparse(node), "cell", "exec").get_symbols()
        return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()


def _changes(node: ast.stmt) -> set[str]:
    """The names whose objects a statement may change without binding them: `x[0] = 1`, `x.y = 1`, `x += 1`, `x.f()`."""
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store | ast.Del):
            names.add(_root(part))
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            names.add(_root(part.func))
    return names


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _uses(source: str) -> set[str]:
    """The names that a piece of source looks up outside its own functions."""
    try:
        tables = [symtable.symtable(source, "answer", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # `await` at the top level, say
        return {part.id for node in parse(source) for part in ast.walk(node) if isinstance(part, ast.Name)}
    names: set[str] = set()
    while tables:
        table = tables.pop()
        top = table.get_type() == "module"
        names |= {s.get_name() for s in table.get_symbols() if s.is_global() or (top and s.is_referenced())}
        tables += table.get_children()
    return names


# Running it


def load(id: str, source: str, relies_on: Collection[str] = ()) -> Any:
    """Run what an answer relies on, then its cell, in a new module, and give what the cell calls `id`.

    A statement that fails is passed over unless it is what binds the answer: a plot or a print in an answer's cell must
    not cost its points.

    Raises:
        Exception: whatever the learner's own code raises.
    """
    module = types.ModuleType("answer")
    sys.modules[module.__name__] = module  # dataclasses look there
    for number, unit in enumerate(relies_on):
        _run(unit, f"<answer: statement {number}>", module.__dict__, needed="")
    _run(source, f"<answer: {id}>", module.__dict__, needed=id)
    if id not in module.__dict__:
        raise NameError(f"the cell of {id} defines no {id}")
    return module.__dict__[id]


def _run(source: str, filename: str, names: dict[str, Any], needed: str) -> None:
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)  # for tracebacks
    late = __future__.annotations.compiler_flag  # a type that is not there is no reason to fail
    for node in ast.parse(source).body:
        for part in () if _future(node) else _apart(node):
            try:
                tree = ast.fix_missing_locations(ast.Module([part], []))
                exec(compile(tree, filename, "exec", flags=late, dont_inherit=True), names)
            except (Exception, SystemExit):
                if needed in _binds(part) and not _comes_from_elsewhere(part):
                    raise


def _future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
