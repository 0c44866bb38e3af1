"""What a bank is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wmcourse.grading.exercise import CONTRACT

__all__ = ["CONTRACT", "Bank", "Wrong"]


@dataclass(frozen=True)
class Wrong:
    """A wrong answer; the first case that it fails must be `case`, and the message there must say `says`."""

    mistake: str
    answer: Callable[..., Any]
    case: str
    says: str


@dataclass(frozen=True)
class Bank:
    """One exercise's answers: `@bank.wrong(mistake, case, says)` and `@bank.right` add to it."""

    id: str
    wrongs: list[Wrong] = field(default_factory=list)
    rights: list[Callable[..., Any]] = field(default_factory=list)

    def wrong(self, mistake: str, case: str, says: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add a wrong answer. `case` and `says` are parts of the case's name and of its message."""

        def add(answer: Callable[..., Any]) -> Callable[..., Any]:
            self.wrongs.append(Wrong(mistake, answer, case, says))
            return answer

        return add

    def right(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """Add a right answer, written in another way than the reference."""
        self.rights.append(answer)
        return answer
