"""Answers are read from notebooks by name, wherever the cells are; what cannot be read is said with its path."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from wmcourse.exercises import catalogue, grade
from wmcourse.grading.cells import UnreadableNotebook
from wmcourse.grading.handin import HandIn, is_stub, read_handin

ANSWER = "def reparameterize(mean, std, noise):\n    return mean + std * noise"
IDS = [exercise.id for exercise in catalogue()]
STUB = 'def reparameterize(mean, std, noise):\n    """Doc."""\n    raise NotImplementedError  # your code here'


def handin(tmp_path: Path, *cells) -> HandIn:
    path = tmp_path / "03.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(c) if isinstance(c, str) else c for c in cells]), path)
    return read_handin(path, IDS)


@pytest.mark.parametrize(
    "cells",
    [
        (ANSWER,),
        ("x = 1\n" + ANSWER + "\nprint(3)",),
        ("%matplotlib inline\n!ls\n" + ANSWER,),
        (
            "import torch as t",
            "def helper(a, b):\n    return t.mul(a, b)",
            ANSWER.replace("std * noise", "helper(std, noise)"),
        ),
        ("SCALE = 1.0", ANSWER.replace("std *", "SCALE * std *")),
        ("reparameterize = lambda mean, std, noise: mean + std * noise",),
        (STUB, ANSWER),
        (ANSWER, STUB),
        (ANSWER, ANSWER),
        (new_markdown_cell(ANSWER),),
        ("raise ValueError('an experiment')", ANSWER),
        ("def straight_through(logits, uniform:\n    broken", ANSWER),
    ],
)
def test_an_answer_is_found(tmp_path, cells) -> None:
    assert grade("reparameterize", handin(tmp_path, *cells).load("reparameterize")).passed


def test_a_marked_cell_with_a_syntax_error_is_an_answer_that_does_not_run(tmp_path) -> None:
    cell = new_code_cell("def reparameterize(:", metadata={"exercise": "reparameterize"})
    found = handin(tmp_path, cell)
    with pytest.raises(SyntaxError):
        found.load("reparameterize")


def marked(source: str):
    return new_code_cell(source, metadata={"exercise": "reparameterize"})


WRONG = ANSWER.replace("+", "-")
CHECK = 'reparameterize = check("reparameterize", reparameterize)'


@pytest.mark.parametrize(
    "cells",
    [
        (WRONG, ANSWER),
        (marked(WRONG), marked(ANSWER)),
        (marked(STUB), WRONG, ANSWER),
        (WRONG, marked(ANSWER), CHECK),
        (marked(ANSWER), CHECK, WRONG),
        (marked(WRONG), ANSWER, CHECK),
        (marked(WRONG), CHECK, ANSWER, CHECK),
    ],
)
def test_of_different_answers_the_last_before_the_last_check_counts(tmp_path, cells) -> None:
    found = handin(tmp_path, *cells)
    assert grade("reparameterize", found.load("reparameterize")).passed
    assert "answered differently in cells" in found.twice["reparameterize"]


SCALED = ANSWER.replace("std *", "one * std *")


@pytest.mark.parametrize(
    "cells",
    [
        ("one = 1.0", SCALED, "one = 3.0"),
        (SCALED, "one = 1.0"),
        (SCALED, "one = 1.0", "one = 3.0"),
        ("one = 0.0", "for _ in range(4):\n    one += 0.25", SCALED),
        ("c = {}\nc['k'] = 1.0", "one = c['k']", SCALED),
        ("xs = []", "xs.append(1.0)", ANSWER.replace("std *", "xs[0] * std *")),
        ("print(one := 1.0)", SCALED),
        ("with open('/dev/null') as f:\n    one = 1.0", SCALED),
        ("def helper(x):\n    return helper.one * x\nhelper.one = 1.0", ANSWER.replace("std *", "helper(std) *")),
        ("import nobody_has_this, torch", ANSWER.replace("std *", "torch.ones(()) * std *")),
        ("from torch import *", ANSWER.replace("std *", "ones(()) * std *")),
        ("one, two = 1.0, 2.0", SCALED),
        ("try:\n    import nobody_has_this as lib\nexcept ImportError:\n    one = 1.0", SCALED),
        ("one = 1.0", "torch.manual_seed(0)\nraise ValueError", SCALED + "\nawait something()"),
        (SCALED + "\n\ndef straight_through(logits, uniform):\n    raise NotImplementedError", "one = 1.0"),
    ],
)
def test_what_an_answer_relies_on_is_there(tmp_path, cells) -> None:
    found = handin(tmp_path, *cells)
    verdict = grade("reparameterize", found.load("reparameterize"))
    assert verdict.passed, f"{found.relies_on}\n{verdict}"


def test_what_an_answer_does_not_use_is_not_run(tmp_path) -> None:
    helper = "import torch as t\nK = t.tensor(1.0)\nraise SystemExit\ndef scale(x): return K * x"
    found = handin(tmp_path, helper, "while True: pass\nunused = [0] * 10", ANSWER.replace("std *", "scale(std) *"))
    assert found.relies_on["reparameterize"] == [
        "import torch as t",
        "K = t.tensor(1.0)",
        "def scale(x):\n    return K * x",
    ]


def test_a_constant_worked_out_in_another_cell_is_there(tmp_path) -> None:
    found = handin(tmp_path, "import math\nONE = math.log(math.e)", ANSWER.replace("std *", "ONE * std *"))
    assert grade("reparameterize", found.load("reparameterize")).passed


@pytest.mark.parametrize(
    "cell",
    [
        "%%time\n" + ANSWER,
        "files = !ls\n" + ANSWER,
        "torch.randn?\n" + ANSWER,
        ANSWER + "\nplt.plot([1, 2])\nraise ValueError",
        "def other(mean, std, noise):\n    return mean + std * noise\nreparameterize = other",
        "%matplotlib inline\nHALF = (5\n    % 2) / 2\n" + ANSWER.replace("std *", "2 * HALF * std *"),
        "!pip install \\\n  nothing\n" + ANSWER,
        ">>> x = 1\n>>> def reparameterize(mean, std, noise):\n...     return mean + std * noise",
        "from typing import Callable\nreparameterize: Callable = lambda mean, std, noise: mean + std * noise",
        "if True:\n    def reparameterize(mean, std, noise):\n        return mean + std * noise",
        "reparameterize, other = (lambda mean, std, noise: mean + std * noise), 1",
        ANSWER + "\nraise SystemExit",
        "class Plus:\n    def __call__(self, a, b, c):\n        return a + b * c\nreparameterize = Plus()",
        ANSWER + '\nreparameterize = check("reparameterize", reparameterize)',
        "def reparameterize(mean: Tensor, std: Tensor, noise: Missing) -> Gone:\n    return mean + std * noise",
    ],
)
def test_what_notebooks_are_full_of_costs_no_points(tmp_path, cell) -> None:
    assert grade("reparameterize", handin(tmp_path, cell).load("reparameterize")).passed


@pytest.mark.parametrize(
    "text", ["", "hello", "{}", "[1, 2]", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5}', "\x00"]
)
def test_what_is_no_notebook_is_said_with_its_path(tmp_path, text) -> None:
    path = tmp_path / "mine.ipynb"
    path.write_text(text)
    with pytest.raises(UnreadableNotebook, match=r"mine\.ipynb: (is not a Jupyter notebook|holds no exercise)"):
        read_handin(path, IDS)


def test_a_notebook_without_exercises_and_a_missing_one_are_said(tmp_path) -> None:
    with pytest.raises(UnreadableNotebook, match="holds no exercise"):
        handin(tmp_path, "x = 1")
    with pytest.raises(UnreadableNotebook, match="no such file"):
        read_handin(tmp_path / "gone.ipynb", IDS)


def test_a_format_3_notebook_is_read(tmp_path) -> None:
    from nbformat import v3

    notebook = v3.new_notebook(worksheets=[v3.new_worksheet(cells=[v3.new_code_cell(ANSWER)])])
    path = tmp_path / "old.ipynb"
    path.write_text(v3.writes_json(notebook))
    assert grade("reparameterize", read_handin(path, IDS).load("reparameterize")).passed


def test_stubs_are_told_from_answers() -> None:
    assert is_stub(STUB, "reparameterize")
    assert not is_stub(STUB, "other")
    assert not is_stub(ANSWER, "reparameterize")
    assert not is_stub(f"{STUB}\n{ANSWER}", "reparameterize")
    assert not is_stub(f"def todo():\n    raise NotImplementedError\n{ANSWER}", "reparameterize")
    assert not is_stub("def f(x):\n    if x < 0:\n        raise NotImplementedError\n    return x", "f")
    assert is_stub("class M:\n    raise NotImplementedError", "M")
    assert is_stub(
        "class M:\n    a = 1\n    def f(self):\n        'Doc.'\n        raise NotImplementedError('todo')", "M"
    )
