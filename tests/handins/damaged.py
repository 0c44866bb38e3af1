"""Hand-ins that are hard to read: broken files, links, pipes, and source that parsers choke on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from nbformat.v4 import new_code_cell

from tests.handins.case import HandInCase, file_of, notebook, save, text_of, with_paths
from tests.handins.recipes import ALL_PASSED, RIGHT_03, WRONG_03, right_03

FILE = file_of("03")


def _unreadable(name: str, content: Callable[[], bytes | str], file: str = FILE) -> HandInCase:
    """A folder with one file that is no notebook."""

    def build(folder: Path) -> None:
        (folder / name).mkdir()
        data = content()
        (folder / name / file).write_bytes(data.encode() if isinstance(data, str) else data)

    return HandInCase(name, build, {}, status="unreadable", needs="any")


def _folder(name: str, fill: Callable[[Path], None], wanted: dict[str, str | int] | None = None) -> HandInCase:
    """A folder that `fill` fills; unreadable unless something is wanted."""

    def build(folder: Path) -> None:
        (folder / name).mkdir()
        fill(folder / name)

    return HandInCase(name, build, wanted or {}, "graded" if wanted else "unreadable", needs="any")


def _format_3(folder: Path) -> None:
    from nbformat import v3

    cells = [
        v3.new_code_cell(source) for source in ("import torch\nimport torch.nn.functional as F", *RIGHT_03.values())
    ]
    made = v3.new_notebook(worksheets=[v3.new_worksheet(cells=cells)])
    (folder / "old.ipynb").write_text(v3.writes_json(made))


def _copies(folder: Path) -> None:
    """A checkpoint and a Mac's leftovers, which do not count, and a cell whose source is no text."""
    save(notebook("03", WRONG_03), folder / ".ipynb_checkpoints" / "03_reparameterization-checkpoint.ipynb")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._03_reparameterization.ipynb").write_bytes(b"\x00\x05\x16\x07")
    made = json.loads(text_of(right_03()))
    made["cells"] += [None, 7, {"cell_type": "code", "source": 7, "metadata": []}, {"cell_type": ["code"]}]
    (folder / "final FINAL (2).ipynb").write_text(
        "\ufeff" + json.dumps(made).replace("\\n", "\\r\\n"), encoding="utf-8"
    )


def _shadows(folder: Path) -> None:
    """Modules beside the notebook that would be imported by whoever runs Python in this folder."""
    save(right_03(), folder / FILE)
    trap = with_paths("open('@canary@/shadowed', 'w').write(__name__)\n", folder.parent)
    for name in ("torch", "json", "sitecustomize", "usercustomize", "conftest", "wmcourse", "nbformat"):
        (folder / f"{name}.py").write_text(trap)
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-p conftest'\n")


def _pipe_and_links(folder: Path) -> None:
    """Nothing in here is a notebook: a pipe that blocks whoever opens it, links to others' work and to devices."""
    os.mkfifo(folder / "pipe.ipynb")
    neighbor = folder.parent / "ada, by reference"
    (folder / "hers.ipynb").symlink_to(neighbor / FILE)
    (folder / "relative.ipynb").symlink_to(f"../{neighbor.name}/{FILE}")
    (folder / "her folder").symlink_to(neighbor)
    (folder / "zero.ipynb").symlink_to("/dev/zero")
    (folder / "loop.ipynb").symlink_to("loop.ipynb")
    (folder / "folder.ipynb").mkdir()
    with (folder / "sparse.ipynb").open("wb") as file:
        file.truncate(8 << 30)


def _odd_file_names(folder: Path) -> None:
    """A right notebook and broken ones, under names that end up in notes and reports."""
    save(right_03(), folder / "<script>alert(1)<img src=x onerror=alert(1)>.ipynb")
    for name in ("=cmd|' !C calc'!A0.ipynb", "two\nlines\r\x1b[31m.ipynb", "\u202egpj.ipynb", "%s{0}.IPYNB"):
        (folder / name).write_text("not a notebook, </pre><script>alert(1)</script>")
    (folder / os.fsdecode(b"\xff\xfe.ipynb")).write_bytes(b"{}")


def _deep(folder: Path) -> None:
    for _ in range(12):
        folder /= "a"
    save(right_03(), folder / FILE)


NESTED = "(" * 100_000 + ")" * 100_000


HARD_TO_PARSE = [
    "-" * 200_000 + "1",
    NESTED,
    "total = " + " + ".join(["1"] * 3_000),
    "total = " + " + ".join(["1"] * 800),
    "x = " + "[" * 90 + "]" * 90 + "\n" + "y" + ".y" * 20_000,
    "text = '''" + "x" * 3_000_000 + "'''",
    "\x00",
    "lone = '\ud800'",
    "if " + " and ".join(["x"] * 5_000) + ": pass",
]


def _hard_to_parse(folder: Path) -> None:
    made = right_03({"leave_one_out": "def leave_one_out(value):\n    return " + NESTED})
    made.cells += [new_code_cell(source) for source in HARD_TO_PARSE]
    text = json.dumps(made)  # which escapes the surrogate, as a browser would
    (folder / FILE).write_text(text)


def _leaning_on_megabytes(folder: Path) -> None:
    """Each answer relies on 30 MB of text, which an unwary grader copies for each of them."""
    answers = {id: source.replace("return", "BIG\n    return", 1) for id, source in WRONG_03.items()}
    save(notebook("03", answers, before=[f"BIG = '{'x' * 30_000_000}'"]), folder / FILE)


CASES = [
    _unreadable("broken JSON", lambda: text_of(right_03())[:-4000]),
    _unreadable("empty file", lambda: b""),
    _unreadable("a picture", lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100),
    _unreadable("JSON without cells", lambda: '{"nbformat": 4, "cells": {"a": [1]}, "worksheets": 3}'),
    _unreadable("nested without end", lambda: "[" * 2_000_000),
    _unreadable("a script", lambda: "\n\n".join(RIGHT_03.values()), "03_reparameterization.py"),
    _unreadable(
        "another course", lambda: json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []})
    ),
    _folder("empty folder", lambda folder: None),
    _folder("format 3", _format_3, ALL_PASSED),
    _folder("copies and leftovers", _copies, ALL_PASSED),
    _folder("shadows modules", _shadows, ALL_PASSED),
    _folder("pipes and links", _pipe_and_links),
    _folder("odd file names", _odd_file_names, ALL_PASSED),
    _folder("deep down", _deep),
    _folder("hard to parse", _hard_to_parse, ALL_PASSED | {"leave_one_out": 0}),
    _folder("leans on megabytes", _leaning_on_megabytes),
    HandInCase(
        "a link for a folder",
        lambda folder: (folder / "a link for a folder").symlink_to("ada, by reference"),
        {},
        status="unreadable",
        needs="any",
    ),
]
