"""The grader's side of the sandbox: start it, have it read a notebook, get an answer to call, end everything in it.

With bubblewrap the sandbox has a file system of its own (the system and Python, read-only, and a small /tmp), no
network, its own processes, and no name but nobody's. Without it, the mode is "process only": the same processes with
the same limits and the same filter of system calls (confine.py), but with the files of whoever grades within reach.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

import wmcourse
from wmcourse.grading.handin import HandIn, UnreadableNotebook
from wmcourse.grading.inside import END, FORK, RUNNING
from wmcourse.grading.mistake import Crashed
from wmcourse.grading.wall import ROOT, Peer
from wmcourse.grading.wire import Line

BUBBLEWRAP, PROCESS_ONLY = "bubblewrap", "process only"
START_SECONDS = 120  # a cold disk can take its time over torch
READ_SECONDS = 60
SCRATCH = 64 << 20  # bytes of /tmp


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


@dataclass(frozen=True)
class Wall:
    """What stands between a submission and the rest of the machine.

    Args:
        mode: BUBBLEWRAP or PROCESS_ONLY.
        why: in process-only mode, why there is no bubblewrap.
        secrets: files and folders that a submission must not see, wherever they are.
    """

    mode: str
    why: str = ""
    secrets: tuple[Path, ...] = field(default=())

    def command(self, view: Path, arguments: Sequence[str]) -> list[str]:
        """The command line that runs `inside.main(arguments)` behind this wall."""
        course = "/course" if self.mode == BUBBLEWRAP else str(view)
        paths = [course, *map(str, _libraries())]
        start = f"import sys; sys.path += {paths!r}; from wmcourse.grading.inside import main; main(sys.argv[1:])"
        python = [sys.executable, "-I", "-S", "-B", "-c", start, *arguments]
        if self.mode == PROCESS_ONLY:
            return python
        return [*_bubblewrap(), *self._files(view), "--", *python]

    def _files(self, view: Path) -> Iterator[str]:
        """The sandbox's file system: outer folders first, so that what is inside one can be shown or hidden."""
        show = {Path("/usr"), Path(sys.base_prefix).resolve(), Path(sys.prefix), *_libraries()}
        hide = {*self.secrets, Path(wmcourse.__file__).parent} - show
        for path in sorted(show | hide, key=lambda path: len(path.parts)):
            if path in show:
                yield from ("--ro-bind", str(path), str(path))
            elif path.is_dir():
                yield from ("--size", "4096", "--tmpfs", str(path))
            elif path.exists():
                yield from ("--ro-bind", os.devnull, str(path))
        for name in ("bin", "lib", "lib32", "lib64", "sbin"):
            path = Path("/", name)
            if path.is_symlink():
                yield from ("--symlink", os.readlink(path), str(path))
            elif path.exists():
                yield from ("--ro-bind", str(path), str(path))
        for path in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"):
            yield from ("--ro-bind-try", path, path)
        yield from ("--ro-bind", str(view), "/course")
        for path in (*(path for path in hide if path.is_dir()), Path("/dev"), Path("/")):
            yield from ("--remount-ro", str(path))


def _bubblewrap() -> list[str]:
    clear = {"PATH": "/usr/bin", "HOME": "/tmp", "USER": "nobody", **_ENVIRONMENT}
    return [
        *("bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *(word for name, value in clear.items() for word in ("--setenv", name, value)),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--size", str(SCRATCH), "--tmpfs", "/tmp", "--chdir", "/tmp"),
    ]


_ENVIRONMENT = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "SDL_VIDEODRIVER": "dummy"}


def _libraries() -> list[Path]:
    """The folders with installed packages; a checkout that is installed in place is not among them."""
    found = [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return [path for path in dict.fromkeys(found) if path.is_dir()]


def find_wall(secrets: Collection[Path] = ()) -> Wall:
    """The best wall this machine has: bubblewrap where it works, else process only, with the reason."""
    hidden = tuple(path.resolve() for path in secrets)
    if os.environ.get("WMCOURSE_BWRAP") == "none":
        return Wall(PROCESS_ONLY, "WMCOURSE_BWRAP=none is set", hidden)
    if not shutil.which("bwrap"):
        return Wall(PROCESS_ONLY, "bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)", hidden)
    wall = Wall(BUBBLEWRAP, secrets=hidden)
    with tempfile.TemporaryDirectory() as view:
        command = [*_bubblewrap(), *wall._files(Path(view)), "--", "/usr/bin/env", "true"]
        tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode:
        return Wall(PROCESS_ONLY, f"bubblewrap does not work here: {tried.stderr.strip()[:200]}", hidden)
    return wall


def read(wall: Wall, view: Path, notebook: bytes, ids: Collection[str]) -> HandIn:
    """The answers in a notebook, parsed behind the wall; UnreadableNotebook where there are none."""
    with _started(wall.command(view, ["read", json.dumps(sorted(ids))]), stdin=subprocess.PIPE, wall=wall) as process:
        try:
            out, _ = process.communicate(notebook, timeout=READ_SECONDS)
        except subprocess.TimeoutExpired:
            raise UnreadableNotebook("takes too long to read") from None
    try:
        found = json.loads(out)
        if "unreadable" in found:
            raise UnreadableNotebook(str(found["unreadable"]))
        return HandIn("", found["answers"], found["relies_on"], found["twice"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, UnreadableNotebook):
            raise
        raise UnreadableNotebook("cannot be read: Python's own parser gave up on it") from None


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
            self._process = self._stack.enter_context(started)

    def __enter__(self) -> Sandbox:
        """Wait until torch is there; Crashed where it never comes."""
        try:
            self._replied(START_SECONDS)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End every process in the sandbox."""
        self._control.close()
        self._stack.close()

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
            return f"its process was ended by {signal.Signals(-status).name}"
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
    command: list[str], *, wall: Wall, stdin: int, pass_fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen]:
    """Run a command; with the block, all that it has started is gone."""
    reads, writes = os.pipe()
    try:
        if wall.mode == BUBBLEWRAP:
            command = [command[0], "--info-fd", str(writes), *command[1:]]
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(*pass_fds, writes),
            env={"PATH": os.defpath, "HOME": "/nonexistent", **_ENVIRONMENT},
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
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


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
