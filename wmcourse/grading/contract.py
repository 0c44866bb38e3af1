"""What every answer owes, whatever the exercise: the reference's kind of result, and inputs left alone.

The contract is not written down per exercise: it is read off the reference, called with the same arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from wmcourse.grading.exercise import Draw, Exercise, Mistake
from wmcourse.grading.expect import describe, difference, expect, expect_close
from wmcourse.grading.mistake import EDITED
from wmcourse.grading.wire import to_bytes


class Answer:
    """The learner's function as a case sees it: an ordinary callable whose every call is held to the contract."""

    def __init__(self, function: Callable[..., Any], reference: Callable[..., Any]):
        self.function, self.reference = function, reference

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the learner's function; raise Mistake where the result or the inputs break the contract."""
        before = copied((args, kwargs))
        value = self.function(*args, **kwargs)
        expect_untouched(before, (args, kwargs))
        if inspect.isclass(self.reference):
            return value  # an object with methods: its cases look at what the methods give
        again, again_kw = copied(before)
        expect_same_kind(value, self.reference(*again, **again_kw))
        return value


def keeps_contract(exercise: Exercise, answer: Callable[..., Any], draw: Draw) -> None:
    """The first case of every exercise: one call, where the contract speaks for itself."""
    answer(*exercise.example(draw))


def agrees(exercise: Exercise, answer: Callable[..., Any], draw: Draw) -> None:
    """The last case of every exercise: the reference's values on three more draws."""
    if inspect.isclass(exercise.reference):
        return
    for _ in range(3):
        args = exercise.example(draw)
        wanted = exercise.reference(*copied(args))
        for value, right in pairs(answer(*args), wanted):
            if isinstance(right, Tensor):
                likely = "the value differs from the reference: try a small input of your own by hand"
                expect_close(value, right.to(value.device), likely, tolerance=exercise.tolerance)
            elif isinstance(right, (int, float)):
                close = abs(value - right) <= exercise.tolerance * max(1, abs(right))
                expect(close, "the value differs from the reference", came=f"{value}, wanted {right}")
            else:
                expect(value == right, "the value differs from the reference", came=describe(value))


def expect_signature(function: Any, reference: Callable[..., Any]) -> None:
    """Raise Mistake unless `function` can be called as the reference is."""
    if not callable(function):
        kind = "class" if inspect.isclass(reference) else "function"
        raise Mistake(f"hand the {kind} itself to check, without calling it", came=describe(function))
    try:
        wanted = inspect.signature(reference)
        came = inspect.signature(function)
        came.bind(*(object() for _ in wanted.parameters))
    except ValueError:  # a builtin that hides its signature: the call itself will tell
        return
    except TypeError:
        raise Mistake(
            f"the arguments should be ({', '.join(wanted.parameters)}), in this order",
            came=f"a function that takes ({', '.join(came.parameters)})"[:300],
        ) from None


def expect_same_kind(value: Any, wanted: Any, where: str = "the result") -> None:
    """Raise Mistake unless `value` has the type, shape, dtype, finiteness and gradient of `wanted`."""
    if isinstance(wanted, (tuple, list)):
        if not isinstance(value, (tuple, list)) or len(value) != len(wanted):
            raise Mistake(f"{where} should be {describe(wanted)}", came=describe(value))
        for i, (v, w) in enumerate(zip(value, wanted, strict=True)):
            expect_same_kind(v, w, f"part {i} of {where}")
    elif isinstance(wanted, dict):
        if not isinstance(value, dict) or set(value) != set(wanted):
            raise Mistake(f"{where} should be {describe(wanted)}", came=describe(value))
        for key in wanted:
            expect_same_kind(value[key], wanted[key], f"{key!r} of {where}")
    elif isinstance(wanted, Tensor):
        _expect_same_tensor(value, wanted, where)
    elif isinstance(wanted, (bool, int, float, str)):
        numbers = isinstance(wanted, (int, float)) and isinstance(value, (int, float))
        if not numbers and not isinstance(value, type(wanted)):
            kind = {bool: "True or False", int: "a whole number", float: "a number", str: "a string"}[type(wanted)]
            raise Mistake(f"{where} should be {kind}", came=describe(value))
    elif type(value) is not type(wanted):
        raise Mistake(f"{where} should be {describe(wanted)}", came=describe(value))


def _expect_same_tensor(value: Any, wanted: Tensor, where: str) -> None:
    if value is None:
        raise Mistake(f"{where} is None: did you forget to return?", came="None")
    if not isinstance(value, Tensor):
        raise Mistake(f"{where} should be a torch tensor of shape {tuple(wanted.shape)}", came=describe(value))
    if value.shape != wanted.shape:
        likely = f"{where} should have shape {tuple(wanted.shape)}: which axis is summed, kept, broadcast or swapped?"
        raise Mistake(likely, came=describe(value))
    if value.dtype != wanted.dtype:
        likely = f"{where} should be {str(wanted.dtype).removeprefix('torch.')}: where does the other dtype come in?"
        raise Mistake(likely, came=describe(value))
    if value.device != wanted.device:
        likely = f"{where} should be on {wanted.device}: make new tensors on the device of the inputs"
        raise Mistake(likely, came=f"a tensor on {value.device}")
    if wanted.isfinite().all() and not value.isfinite().all():
        kind = "nan" if value.isnan().any() else "infinity"
        raise Mistake(f"{where} holds {kind}: a logarithm of 0, a division by 0, an overflow?", came=describe(value))
    if wanted.requires_grad and not value.requires_grad:
        likely = f"{where} carries no gradient: is something detached, taken out with .item() or .data, or built anew?"
        raise Mistake(likely, came="a tensor without a gradient")


def expect_untouched(before: Any, after: Any) -> None:
    """Raise Mistake where an input tensor was changed by the call."""
    for old, new in zip(leaves(before), leaves(after), strict=True):
        if isinstance(old, Tensor) and (old.shape != new.shape or to_bytes(old) != to_bytes(new)):
            came = difference(new, old)[1] if old.shape == new.shape else describe(new)
            raise Mistake(EDITED, came=came)


def leaves(x: Any) -> Iterator[Any]:
    """The values inside nested tuples, lists and dicts, in order."""
    if isinstance(x, dict):
        for key in x:
            yield from leaves(x[key])
    elif isinstance(x, (tuple, list)):
        for item in x:
            yield from leaves(item)
    else:
        yield x


def pairs(value: Any, wanted: Any) -> Iterator[tuple[Any, Any]]:
    """The values inside two nests of one structure, side by side; a dict's by key, whatever their order."""
    if isinstance(wanted, dict):
        for key in wanted:
            yield from pairs(value[key], wanted[key])
    elif isinstance(wanted, (tuple, list)):
        for one, other in zip(value, wanted, strict=True):
            yield from pairs(one, other)
    else:
        yield value, wanted


def copied(x: Any) -> Any:
    """Nested tuples, lists and dicts with every tensor and generator copied; other objects are shared."""
    if isinstance(x, dict):
        return {key: copied(item) for key, item in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(copied, x))
    if isinstance(x, (tuple, list)):
        return type(x)(map(copied, x))
    if isinstance(x, Tensor):
        return x.detach().clone().requires_grad_(x.requires_grad)
    if isinstance(x, torch.Generator):
        return x.clone_state()
    return x
