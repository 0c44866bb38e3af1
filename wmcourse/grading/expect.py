"""What cases say of tensors: close to a value, a gradient that arrives. Each failure shows what came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmcourse.grading.exercise import Mistake


def describe(x: Any) -> str:
    """A value in a few words: shape and dtype for arrays, a short repr for the rest.

    >>> describe(torch.zeros(2, 3))
    'a float32 tensor of shape (2, 3)'
    """
    return _shortened(_described(x))


def _shortened(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _described(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"a {str(x.dtype).removeprefix('torch.')} tensor of shape {tuple(x.shape)}"
    if x is None:
        return "None"
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"a numpy {type(x).__name__} of shape {tuple(x.shape)}"
    if isinstance(x, (tuple, list)):
        return f"a {type(x).__name__} of {len(x)}: ({', '.join(describe(item) for item in x[:4])})"
    if isinstance(x, dict):
        return f"a dict with keys {sorted(map(str, x))}"
    return f"a {type(x).__name__}: {_shortened(repr(x), 60)}"


def difference(value: Tensor, wanted: Tensor) -> tuple[float, str]:
    """The largest absolute difference of two tensors of one shape, and where it is, in words."""
    if not value.numel():
        return 0.0, "nothing to compare"
    value, wanted = value.detach(), wanted.detach()
    gap = (value.double() - wanted.double()).abs()
    gap = torch.where(gap.isnan(), torch.inf, gap)
    if value.dim() == 0:
        return gap.item(), f"yours {value.item():.4g}, wanted {wanted.item():.4g}"
    # Numpy's, since torch's own loads sympy at its first use: seconds, in the middle of a learner's first verdict.
    at = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), tuple(gap.shape)))
    where = f"at {list(at)}: yours {float(value[at]):.4g}, wanted {float(wanted[at]):.4g}"
    return gap.max().item(), f"largest difference {gap.max().item():.3g} {where}"


def is_close(value: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors of one shape differ by at most `tolerance`, in units of the wanted tensor's scale."""
    if value.shape != wanted.shape:
        return False
    scale = max(1.0, wanted.detach().double().abs().max().item()) if wanted.numel() else 1.0
    return difference(value, wanted)[0] <= tolerance * scale


def expect_close(
    value: Any,
    wanted: Tensor,
    likely: str,
    *,
    tolerance: float = 1e-4,
    mistakes: Mapping[str, Tensor] | None = None,
) -> None:
    """Raise Mistake unless `value` equals `wanted` within `tolerance` times its scale.

    Args:
        value: what the learner's code gave; anything at all.
        wanted: the right tensor.
        likely: what to say when no known mistake explains the difference.
        mistakes: what known wrong formulas would give, each under the sentence that names its mistake; the first
            that matches is said instead of `likely`.
    """
    if not isinstance(value, Tensor):
        raise Mistake(likely, came=describe(value))
    if value.shape != wanted.shape:
        raise Mistake(likely, came=f"{describe(value)}, wanted shape {tuple(wanted.shape)}")
    if is_close(value, wanted, tolerance):
        return
    for sentence, wrong in (mistakes or {}).items():
        if is_close(value, wrong, tolerance):
            likely = sentence
            break
    raise Mistake(likely, came=difference(value, wanted)[1])


def expect(holds: bool | Tensor, likely: str, came: str = "") -> None:
    """Raise Mistake unless the condition holds."""
    if not bool(holds):
        raise Mistake(likely, came=came)


def gradients(output: Tensor, inputs: Mapping[str, Tensor], likely: str = "") -> dict[str, Tensor]:
    """d sum(output) / d input for each named input; raise Mistake, naming the input, where no gradient arrives."""
    hint = likely or "is something detached, taken out with .item() or .data, drawn anew, or rounded on the way?"
    if not output.requires_grad:
        names = " or ".join(inputs)
        raise Mistake(f"gradients do not reach {names}: {hint}", came="a tensor without a gradient")
    grads = torch.autograd.grad(output.sum(), list(inputs.values()), allow_unused=True)
    for name, grad in zip(inputs, grads, strict=True):
        if grad is None:
            raise Mistake(f"gradients do not reach {name}: {hint}", came=f"no gradient for {name}")
    return dict(zip(inputs, (g for g in grads if g is not None), strict=True))
