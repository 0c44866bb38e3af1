"""Item statistics: how the class did on each exercise and on each of its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from wmcourse.grading.exercise import Exercise
from wmcourse.grading.records import REASONS, Row


@dataclass(frozen=True)
class CaseCount:
    """How often a case ran, and how often it did not pass."""

    name: str
    hidden: bool
    ran: int
    failed: int


@dataclass(frozen=True)
class Item:
    """One exercise across the class.

    Args:
        id, lesson, points: of the exercise.
        reasons: how many hand-ins ended how, in the order of records.REASONS, without zeros.
        cases: in the order of showing.
    """

    id: str
    lesson: str
    points: int
    reasons: dict[str, int]
    cases: tuple[CaseCount, ...]

    @property
    def passed(self) -> int:
        """How many passed."""
        return self.reasons.get("passed", 0)

    @property
    def total(self) -> int:
        """How many hand-ins there are."""
        return sum(self.reasons.values())

    @property
    def hardest(self) -> CaseCount | None:
        """The case that fails most, the first of equals; None where none fails."""
        worst = max(self.cases, key=lambda case: case.failed, default=None)
        return worst if worst and worst.failed else None


def items(rows: Sequence[Row], exercises: Sequence[Exercise]) -> list[Item]:
    """The statistics, an item per exercise, from rows whose results stand in the order of the exercises."""
    return [_item(rows, exercise, number) for number, exercise in enumerate(exercises)]


def _item(rows: Sequence[Row], exercise: Exercise, number: int) -> Item:
    results = [row.results[number] for row in rows]
    counted = Counter(result.reason for result in results)
    reasons = {reason: counted[reason] for reason in REASONS if counted[reason]}
    ran, failed = Counter(), Counter()
    for case in (case for result in results for case in result.cases):
        ran[case.name, case.hidden] += case.kind != "not run"
        failed[case.name, case.hidden] += case.kind != "not run" and not case.passed
    order = {case.name: place for place, case in enumerate(exercise.cases)}
    keys = sorted(ran, key=lambda key: (order.get(key[0], len(order)), key))  # not in the order of the rows
    cases = tuple(CaseCount(name, hidden, ran[name, hidden], failed[name, hidden]) for name, hidden in keys)
    return Item(exercise.id, exercise.lesson, exercise.points, reasons, cases)
