"""What stands for the other side of the wall on this one: its objects, and the errors they raise."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmcourse.grading.wall import Peer


class Remote:
    """An object on the other side of the wall: its public attributes and methods can be used as if it were here."""

    def __init__(self, peer: Peer, number: int, kind: str):
        self._peer, self._number, self._kind = peer, number, kind

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._peer.get(self._number, name)

    def __repr__(self) -> str:
        return f"<{self._kind} of the answer's>"


class RemoteCallable(Remote):
    """A function, a class or another callable on the other side of the wall."""

    def __init__(self, peer: Peer, number: int, kind: str, signature: Any):
        super().__init__(peer, number, kind)
        if isinstance(signature, list):
            with contextlib.suppress(ValueError, TypeError):
                self.__signature__ = inspect.Signature([_parameter(*facts) for facts in signature])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it over there."""
        return self._peer.call(self._number, None, args, kwargs)


class Raised(Exception):
    """An error of the other side's. `line` is the line of the answer that raised it, where one is known."""

    peer: Peer
    number: int
    line: str


def signature_of(x: Any) -> list[Any] | None:
    """The parameters of a callable, as [name, kind, has a default] each; None where they cannot be told."""
    try:
        parameters = inspect.signature(x).parameters.values()
    except (ValueError, TypeError):
        return None
    return [[p.name, int(p.kind), p.default is not p.empty] for p in parameters]


def _parameter(name: str, kind: int, has_default: bool) -> inspect.Parameter:
    default = None if has_default else inspect.Parameter.empty
    return inspect.Parameter(name, inspect._ParameterKind(kind), default=default)


def line_of(error: BaseException) -> str:
    """The line of an answer that raised an error, where one did."""
    steps = reversed(traceback.extract_tb(error.__traceback__))
    return next((step.line or "" for step in steps if step.filename.startswith("<answer")), "")


def text_of(error: BaseException) -> str:
    """What an error says."""
    try:
        return str(error)[:600]
    except Exception:  # an error of an answer's own making can fail at this, too
        return ""


_PLAIN = (
    *(ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, LookupError, MemoryError, NameError),
    *(NotImplementedError, OSError, OverflowError, RecursionError, RuntimeError, TypeError, ValueError),
    ZeroDivisionError,
)
_BASES = {base.__name__: base for base in _PLAIN}  # StopIteration, say, would end a loop of the caller's


def raised(peer: Peer, number: int, kind: str, text: str, line: str) -> Raised:
    """The error here for an error there: of the same name, and of its kind where that is a plain one."""
    kind = kind if kind.isidentifier() else "Exception"
    bases = (Raised, _BASES[kind]) if kind in _BASES else (Raised,)
    error = type(kind, bases, {})(text)
    error.peer, error.number, error.line = peer, number, line
    return error
