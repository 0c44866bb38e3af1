"""Right answers as cells: the references' own sources, and those of the banks, with what they rely on."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import types
from collections.abc import Iterator, Sequence

from tests.banks.proof import all_banks
from tests.handins.case import ids_of, renamed
from wmcourse.exercises import find


@functools.cache
def _banks() -> dict[str, list]:
    return {bank.id: bank.rights for bank in all_banks()}


def rights(lesson: str, style: int = -1) -> tuple[dict[str, str], list[str]]:
    """Right answers to every exercise of a lesson, by id, and the cells that they rely on.

    Args:
        lesson: "03", say.
        style: -1 the reference, else which of the bank's right answers (the last one, where there are fewer).
    """
    answers: dict[str, str] = {}
    needed: dict[str, None] = {}
    for id in ids_of(lesson):
        function = find(id).reference if style < 0 else _banks()[id][min(style, len(_banks()[id]) - 1)]
        answers[id] = renamed(inspect.getsource(function), id)
        module = importlib.import_module(function.__module__)
        needed.update(dict.fromkeys(relied_on(module, answers[id])))
    return answers, list(needed)


def reference(id: str) -> str:
    """The reference's own source."""
    return renamed(inspect.getsource(find(id).reference), id)


def relied_on(module: types.ModuleType, source: str) -> list[str]:
    """The imports, constants and helpers of a module that a source reaches, each a cell, in the module's order."""
    statements = ast.parse(inspect.getsource(module)).body
    wanted, taken = set(_names(source)), set()
    while True:
        new = {i for i, node in enumerate(statements) if i not in taken and wanted & _bound(node)}
        if not new:
            return [ast.unparse(statements[i]) for i in sorted(taken)]
        taken |= new
        wanted |= {name for i in new for name in _names(ast.unparse(statements[i]))}


def _names(source: str) -> Iterator[str]:
    return (node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.decorator_list:
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("tests", "wmcourse", "__future__"):
        return set()
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    return set()


def rest(lesson: str, answers: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Right answers to the exercises of a lesson that are not among `answers`."""
    sources, cells = rights(lesson)
    return {id: source for id, source in sources.items() if id not in answers}, cells
