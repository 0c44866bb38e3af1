"""What an exercise is: a reference, three hints, and cases that each name one property."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wmcourse.grading.mistake import Mistake

__all__ = ["AGREEMENT", "CONTRACT", "Case", "Draw", "Exercise", "Mistake"]


class Draw:
    """Inputs for one case, drawn from a seed: the same seed, exercise and case give the same numbers."""

    def __init__(self, seed: int, name: str = "", device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0, grad: bool = False) -> Tensor:
        """Normal numbers of this shape, float32; with `grad` a leaf that gradients reach."""
        x = torch.randn(shape, generator=self.generator) * std + mean
        return x.to(self.device).requires_grad_(grad)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0, grad: bool = False) -> Tensor:
        """Uniform numbers in [low, high), float32; for a standard deviation take low > 0."""
        x = torch.rand(shape, generator=self.generator) * (high - low) + low
        return x.to(self.device).requires_grad_(grad)

    def integers(self, *shape: int, low: int = 0, high: int) -> Tensor:
        """Whole numbers in [low, high), int64."""
        return torch.randint(low, high, shape, generator=self.generator).to(self.device)

    def flags(self, *shape: int, p: float = 0.5) -> Tensor:
        """Booleans, each true with probability p."""
        return (torch.rand(shape, generator=self.generator) < p).to(self.device)


CaseFunction = Callable[[Callable[..., Any], Draw], None]


@dataclass(frozen=True)
class Case:
    """One named property of a right answer; `run(answer, draw)` raises Mistake where the answer lacks it."""

    name: str
    run: CaseFunction
    hidden: bool = False


@dataclass(frozen=True)
class Exercise:
    """One exercise, told once for the notebook, for pytest and for the grader.

    Args:
        reference: the right answer, a public function or class of the package; its name is the exercise's id.
        lesson: the lesson's name, for example "03_reparameterization".
        points, minutes, difficulty: difficulty runs from 1 to 5.
        hints: three, each saying more than the last, and none the code.
        example: draws one tuple of arguments. Two cases come from it for every exercise: the first checks that the
            answer returns what the reference returns (type, shape, dtype, finite, gradient) and leaves its arguments
            alone; the last, hidden, that it agrees with the reference on more draws.
        tolerance: largest absolute difference from the reference that the last case lets pass, in units of the
            result's own scale.
        seconds: how long one case may take.
    """

    reference: Callable[..., Any]
    lesson: str
    points: int
    minutes: int
    difficulty: int
    hints: tuple[str, str, str]
    example: Callable[[Draw], tuple[Any, ...]]
    tolerance: float = 1e-4
    seconds: float = 5.0
    written: list[Case] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The name of the function or class that the learner writes."""
        return self.reference.__name__

    def case(self, name: str, *, hidden: bool = False) -> Callable[[CaseFunction], CaseFunction]:
        """Decorate a function `(answer, draw) -> None` into a case of this exercise. Order is the order of showing."""

        def add(run: CaseFunction) -> CaseFunction:
            self.written.append(Case(name, run, hidden))
            return run

        return add

    @property
    def cases(self) -> tuple[Case, ...]:
        """The contract, the written cases with the hidden ones last, and the hidden agreement with the reference.

        Nothing that a learner is shown comes after a hidden case: an answer could put into it what it saw there.
        """
        from wmcourse.grading.contract import agrees, keeps_contract

        first = Case(CONTRACT, lambda answer, draw: keeps_contract(self, answer, draw))
        last = Case(AGREEMENT, lambda answer, draw: agrees(self, answer, draw), hidden=True)
        return (first, *sorted(self.written, key=lambda case: case.hidden), last)


CONTRACT = "returns what was asked and leaves its inputs alone"
AGREEMENT = "agrees with the reference on inputs it has not seen"
