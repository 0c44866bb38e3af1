"""Print the table of kills: a line per wrong answer, the case that catches it and what the learner is told."""

from tests.banks.proof import all_banks, first_failure
from wmcourse.exercises import grade


def main() -> None:
    wrong = killed = named = right = accepted = 0
    for bank in all_banks():
        print(f"\n{bank.id}")
        for entry in bank.wrongs:
            case = first_failure(bank, entry)
            hit = case is not None and entry.case in case.name and entry.says in case.message
            told = case.message.splitlines()[-1].removeprefix("likely: ") if case and case.message else "ACCEPTED"
            print(f"  {'killed' if hit else 'MISSED'}  {entry.mistake:<58.58}  {told:.110}")
            wrong, killed, named = wrong + 1, killed + (case is not None), named + hit
        for answer in bank.rights:
            right, accepted = right + 1, accepted + grade(bank.id, answer).passed
    print(f"\n{killed} of {wrong} wrong answers rejected, {named} with their mistake named; ", end="")
    print(f"{accepted} of {right} right answers accepted")


main()
