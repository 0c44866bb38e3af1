"""Run somebody's code so that nothing it does stops the notebook: not an error, a loop, a flood of prints or a mess.

This guard is for a learner's own process, against accidents. Against malice the grader has a wall of its own.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch

from wmcourse.grading.mistake import Mistake, Stopped, TimeUp
from wmcourse.grading.printed import Head


@dataclass(frozen=True)
class Outcome:
    """How a guarded call ended: `kind` is passed, failed, error, open or timed out; `message` says why."""

    kind: str
    message: str = ""
    printed: str = ""


def run_guarded(call: Callable[[], Any], seconds: float) -> Outcome:
    """Call and catch everything: errors, exits, endless loops and recursion; keep what it prints, undo what it sets.

    The time limit needs a Unix alarm and the main thread (Jupyter's cells run there). Elsewhere, on Windows for
    instance, an endless answer is ended by interrupting the kernel; the verdict then says so.
    """
    out = Head()
    with _undone(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        outcome = _outcome(call, seconds)
    return Outcome(outcome.kind, outcome.message[:2000], out.text())


def _outcome(call: Callable[[], Any], seconds: float) -> Outcome:
    try:
        _call_within(call, seconds)
    except NotImplementedError:
        return Outcome("open", "not written yet")
    except Mistake as mistake:
        return Outcome("failed", str(mistake))
    except TimeUp:
        return Outcome("timed out", "likely: no answer within the time limit: does a loop or a wait never end?")
    except Stopped as stopped:
        return Outcome(stopped.kind, f"came:   {stopped}")
    except RecursionError:
        return Outcome("error", "likely: the function calls itself without end: which call should stop the recursion?")
    except KeyboardInterrupt:
        return Outcome("timed out", "likely: you interrupted the kernel while this answer ran")
    except BaseException as error:  # SystemExit included: an answer must not end the kernel
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return Outcome("out of memory", "likely: no memory is left: is a tensor far too large, or kept every step?")
        return Outcome("error", explain(error))
    return Outcome("passed")


def explain(error: BaseException) -> str:
    """An error in the learner's words: its type and text, and the learner's own line if the traceback has one."""
    said = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
    own = getattr(error, "line", "") or _own_line(error)  # an error that came over the wall brings its line along
    line = f"\nline:   {own}" if own else ""
    return f"came:   {text}{line}\nlikely: your code raised this error: which of its inputs did it not expect?"


def _own_line(error: BaseException) -> str:
    steps = traceback.extract_tb(error.__traceback__)
    own = [step for step in steps if "wmcourse" not in step.filename and not _is_library(step.filename)]
    return (own[-1].line or "") if own else ""


def _is_library(filename: str) -> bool:
    return "site-packages" in filename or filename.startswith((sys.base_prefix, "<frozen"))


@contextlib.contextmanager
def _undone() -> Iterator[None]:
    """Put back what an answer could leave changed: random states, gradient mode, default dtype."""
    python, numpy, limit = random.getstate(), np.random.get_state(), sys.getrecursionlimit()
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        sys.setrecursionlimit(limit)


def _importing(frame: FrameType | None, home: FrameType) -> bool:
    """Whether the code that `home` called is in the midst of an import."""
    while frame is not None and frame is not home and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None and frame is not home


def _call_within(call: Callable[[], Any], seconds: float) -> None:
    """Call, and after `seconds` raise TimeUp in the main thread, again and again until the code gives way.

    The first torch.func.grad of a kernel imports for seconds: an import is let end, and then the clock starts anew.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        call()
        return
    home = sys._getframe()
    tracer = sys.gettrace()

    def insist(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":  # raised at "exception" it would only replace the first one
            raise TimeUp
        return insist

    def ring(signum: int, frame: FrameType | None) -> None:
        if frame is home:  # the call is over, only the clean-up below is left
            return
        if _importing(frame, home):  # a module half imported stays broken, and its time is not the answer's
            signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
            return
        # A bare `except:` in the answer would swallow one TimeUp, so its next line, in the handler, raises another.
        sys.settrace(insist)
        while frame is not None and frame is not home:
            frame.f_trace = insist
            frame = frame.f_back
        raise TimeUp

    # No context manager here: its __exit__ is a Python function, and `insist` would stop it, too.
    handler = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(tracer)
        signal.signal(signal.SIGALRM, handler)
