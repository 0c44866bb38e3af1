"""Find every bank, and the first case that a wrong answer fails."""

from __future__ import annotations

import importlib
import pkgutil

import tests.banks
from tests.banks.bank import Bank, Wrong
from wmcourse.exercises import grade
from wmcourse.grading.verdict import CaseResult


def all_banks() -> list[Bank]:
    """Every Bank in the modules of this package, in the order of the files."""
    banks: list[Bank] = []
    for module in pkgutil.iter_modules(tests.banks.__path__):
        if module.name not in ("bank", "proof", "__main__"):
            members = vars(importlib.import_module(f"tests.banks.{module.name}")).values()
            banks += [member for member in members if isinstance(member, Bank)]
    return banks


def first_failure(bank: Bank, entry: Wrong) -> CaseResult | None:
    """The case whose message a learner with this wrong answer reads; None where the answer passes."""
    return next((case for case in grade(bank.id, entry.answer).cases if not case.passed), None)
