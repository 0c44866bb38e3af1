"""The grader's side of the sandbox: have it read a notebook, get an answer to call, end everything in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from wmcourse.grading.bubblewrap import BUBBLEWRAP, ENVIRONMENT, Wall
from wmcourse.grading.cells import UnreadableNotebook
from wmcourse.grading.handin import HandIn
from wmcourse.grading.inside import END, FORK, MAX_ANSWERS, RUNNING
from wmcourse.grading.mistake import Crashed
from wmcourse.grading.wall import ROOT, Peer
from wmcourse.grading.wire import Line

START_SECONDS = 120  # a cold disk can take its time over torch
READ_SECONDS = 60


@dataclass(frozen=True)
class Limits:
    """How much a submission may use.

    Args:
        call: seconds for one call of an answer.
        exercise: seconds for all cases of one exercise.
        handin: seconds for a student's whole hand-in.
        memory: bytes that an answer may use on top of Python and torch.
    """

    call: float = 10.0
    exercise: float = 60.0
    handin: float = 300.0
    memory: int = 2 << 30


def read(wall: Wall, view: Path, notebook: bytes, ids: Collection[str]) -> HandIn:
    """The answers in a notebook, parsed behind the wall; UnreadableNotebook where there are none."""
    command = wall.command(view, ["read", json.dumps(sorted(ids))])
    with tempfile.TemporaryFile() as out, _started(command, wall=wall, stdin=subprocess.PIPE, stdout=out) as process:
        try:
            process.communicate(notebook, timeout=READ_SECONDS)
        except subprocess.TimeoutExpired:
            raise UnreadableNotebook("takes too long to read") from None
        out.seek(0)
        text = out.read(MAX_ANSWERS + 1)
    try:
        found = json.loads(text)
        if "unreadable" in found:
            raise UnreadableNotebook(str(found["unreadable"]))
        statements = found.pop("statements")
        found["relies_on"] = {id: [statements[i] for i in places] for id, places in found["relies_on"].items()}
        return HandIn(**found)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        if isinstance(error, UnreadableNotebook):
            raise
        raise UnreadableNotebook("cannot be read: it is too large, or Python's own parser gave up on it") from None


class Sandbox:
    """One student's sandbox for one lesson: torch is imported once, then each answer gets a process of its own.

    Args:
        wall, view: see Wall and build_view.
        limits: how much the submission may use.
        until: the moment (time.monotonic) at which the hand-in's time is up.
    """

    def __init__(self, wall: Wall, view: Path, limits: Limits, until: float):
        self.limits, self.until = limits, until
        self._stack = contextlib.ExitStack()
        ours, theirs = socket.socketpair()
        self._control = ours
        options = json.dumps({"seconds": limits.exercise, "memory": limits.memory})
        with theirs:
            command = wall.command(view, ["serve", str(theirs.fileno()), options])
            started = _started(command, stdin=subprocess.DEVNULL, wall=wall, pass_fds=(theirs.fileno(),))
            self._stack.enter_context(started)

    def start(self) -> Sandbox:
        """Wait until torch is there; Crashed where it never comes."""
        try:
            self._replied(START_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End every process in the sandbox."""
        self._control.close()
        self._stack.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def answer(self) -> Iterator[tuple[Peer, Any]]:
        """A fresh process for one answer: a peer whose root can load it. It ends with the block."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._order(FORK, theirs.fileno())
            theirs.close()
            peer = Peer(Line(ours), exposes=exposed, seconds=self.limits.call, dice=True)
            peer.until = min(time.monotonic() + self.limits.exercise, self.until)
            yield peer, ROOT

    def how_it_ended(self) -> str:
        """How the last answer's process ended, in words; nothing where it was still there."""
        status = self._order(END)
        if status == RUNNING:
            return ""
        if status < 0:
            return f"its process was ended by {signal.strsignal(-status) or f'signal {-status}'}"
        return "its process ended itself"

    def _order(self, order: bytes, *files: int) -> int:
        """Order something of the forking process, where no submission's code runs: its reply is soon there."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [order], files)
        return self._replied(10.0)

    def _replied(self, seconds: float) -> int:
        self._control.settimeout(seconds)
        try:
            reply = self._control.recv(4, socket.MSG_WAITALL)
        except OSError:
            reply = b""
        if len(reply) < 4:
            raise Crashed("the sandbox is gone")
        return struct.unpack("<i", reply)[0]


@contextlib.contextmanager
def _started(
    command: list[str], *, wall: Wall, stdin: int, stdout: Any = subprocess.DEVNULL, pass_fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen]:
    """Run a command; with the block, all that it has started is gone."""
    reads, writes = os.pipe()
    try:
        if wall.mode == BUBBLEWRAP:
            command = [command[0], "--info-fd", str(writes), *command[1:]]
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            pass_fds=(*pass_fds, writes),
            env={"PATH": os.defpath, "HOME": "/nonexistent", **ENVIRONMENT},
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(writes)
    try:
        with os.fdopen(reads) as info:
            first = _first_process(info.read()) if wall.mode == BUBBLEWRAP else None
        yield process
    finally:
        _end(process, first)


def _first_process(info: str) -> int | None:
    """The sandbox's first process, as seen from here: when it ends, the kernel ends all others in there."""
    with contextlib.suppress(ValueError, KeyError):
        return int(json.loads(info)["child-pid"])
    return None


def _end(process: subprocess.Popen, first: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        if first is None:
            os.killpg(process.pid, signal.SIGKILL)
        elif process.poll() is None:
            os.kill(first, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


SHARED_BY_KIND: tuple[tuple[type, frozenset[str]], ...] = (
    (gym.Env, frozenset({"reset", "step", "action_space", "observation_space"})),
    (gym.Space, frozenset({"sample", "contains", "shape", "low", "high", "n"})),
    (torch.distributions.Distribution, frozenset({"sample", "rsample", "log_prob", "entropy", "mean", "stddev"})),
)


def exposed(x: Any) -> frozenset[str]:
    """The names of a case's object that a submission may use, besides calling it.

    Of an environment, a space and a distribution what their interfaces promise; of a class of the course's own its
    public methods and fields, but nothing it inherits from torch or Gymnasium: load_state_dict, say, would let a
    submission change what it is compared with.
    """
    for kind, names in SHARED_BY_KIND:
        if isinstance(x, kind):
            return names
    own = [kind for kind in type(x).__mro__ if kind.__module__.startswith(("wmcourse.", "cases", "tests."))]
    names = {name for kind in own for name in (*vars(kind), *getattr(kind, "__annotations__", ()))}
    return frozenset(name for name in names if not name.startswith("_"))
