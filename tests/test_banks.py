"""The proof of the checks: every wrong answer fails in the case that names its mistake, every right one passes."""

from __future__ import annotations

import pytest

from tests.banks.bank import Bank, Wrong
from tests.banks.proof import all_banks, first_failure
from wmcourse.exercises import catalogue, grade

BANKS = all_banks()
WRONGS = [pytest.param(bank, entry, id=f"{bank.id}: {entry.mistake}") for bank in BANKS for entry in bank.wrongs]
RIGHTS = [pytest.param(bank, answer, id=f"{bank.id}: {answer.__name__}") for bank in BANKS for answer in bank.rights]


def test_every_exercise_has_its_bank() -> None:
    assert sorted(bank.id for bank in BANKS) == sorted(exercise.id for exercise in catalogue())


@pytest.mark.parametrize("bank", BANKS, ids=lambda bank: bank.id)
def test_a_bank_holds_enough(bank: Bank) -> None:
    assert len(bank.wrongs) >= 6
    assert len(bank.rights) >= 2
    assert len({entry.mistake for entry in bank.wrongs}) == len(bank.wrongs)


@pytest.mark.parametrize(("bank", "entry"), WRONGS)
def test_a_wrong_answer_is_told_its_mistake(bank: Bank, entry: Wrong) -> None:
    case = first_failure(bank, entry)
    assert case is not None, "accepted"
    assert entry.case in case.name, f"caught by another case: {case}"
    assert entry.says in case.message, f"told something else: {case.message}"


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("bank", "entry"), WRONGS)
def test_a_wrong_answer_is_rejected_whatever_the_seed(bank: Bank, entry: Wrong, seed: int) -> None:
    assert not grade(bank.id, entry.answer, seed=seed).passed


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("bank", "answer"), RIGHTS)
def test_a_right_answer_passes(bank: Bank, answer, seed: int) -> None:
    verdict = grade(bank.id, answer, seed=seed)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("exercise", catalogue(), ids=lambda exercise: exercise.id)
def test_an_exercise_is_well_made(exercise) -> None:
    assert exercise.points > 0
    assert exercise.minutes > 0
    assert exercise.difficulty in range(1, 6)
    assert len(exercise.hints) == 3
    assert all(len(hint) > 20 for hint in exercise.hints)
    names = [case.name for case in exercise.cases]
    assert len(set(names)) == len(names)
    assert sum(not case.hidden for case in exercise.cases) >= 3, "contract and at least two visible properties"
    for seed in range(5):
        assert grade(exercise.id, exercise.reference, seed=seed).passed
