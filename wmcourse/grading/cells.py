"""A notebook's cells as Python source: whatever its format, and without what only Jupyter understands."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any


class UnreadableNotebook(ValueError):
    """The file is no notebook, or holds no exercise; the message names the path and the reason."""


def cells_of(data: bytes) -> list[dict[str, Any]]:
    """The cells of a notebook of format 3 or 4, each a dict with cell_type, source (one string) and metadata."""
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
        sheets = notebook.get("worksheets", [notebook])  # format 3 has sheets of cells
        cells = [cell for sheet in sheets for cell in sheet["cells"] if isinstance(cell, dict)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error)[:80] if isinstance(error, ValueError) else "it has no cells"
        raise UnreadableNotebook(f"is not a Jupyter notebook ({reason})") from None
    return [_tidy(cell) for cell in cells]


def _tidy(cell: dict[str, Any]) -> dict[str, Any]:
    source = cell.get("source", cell.get("input", ""))  # format 3 calls a code cell's source its input
    metadata = cell.get("metadata")
    return {
        "cell_type": str(cell.get("cell_type")),
        "source": "".join(map(str, source)) if isinstance(source, list) else str(source),
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def code_of(cell: Mapping[str, Any]) -> str:
    """A cell's Python, with magics and shell lines made harmless; of a cell retyped to text, what is Python."""
    source = str(cell["source"])
    if cell["cell_type"] != "code":
        return source if parse(source) else ""
    if is_python(source):
        return source
    plain = without_magics(source)
    return plain if is_python(plain) else source


def without_magics(source: str) -> str:
    """The source as IPython would hand it to Python: `%magic`, `!command` and `help?` become calls."""
    source = re.sub(r"\A\s*%%(time|timeit|capture|prun)\b.*\n", "", source)
    try:
        from IPython.core.inputtransformer2 import TransformerManager  # half a second, and seldom needed

        return TransformerManager().transform_cell(source)
    except Exception:  # no IPython, or a cell that is no Python in any way
        return source


def parse(source: str) -> list[ast.stmt]:
    """The statements of a cell; none where it is not Python."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def is_python(source: str) -> bool:
    """Whether Python's parser takes a source, be it only comments."""
    return bool(parse(source + "\npass"))
