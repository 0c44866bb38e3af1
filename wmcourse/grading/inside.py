"""The part of the grader that runs inside the sandbox, where there is neither a case nor an answer of the course's.

    python -I -S -c "..." read '["reparameterize", ...]'     a notebook on standard input, its answers as JSON out
    python -I -S -c "..." serve 7                            fork a process for each answer, on orders from socket 7

`serve` imports torch once and then forks at every order, so that an answer costs milliseconds. The process that forks
never runs a submission's code; its children do, each confined and alone with its socket to the grader.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from wmcourse.grading import handin
from wmcourse.grading.cells import UnreadableNotebook
from wmcourse.grading.confine import MIB, confine, keep_out
from wmcourse.grading.printed import Head

FORK, END = b"F", b"E"  # what the grader orders; the reply is four bytes, a whole number
RUNNING = 1000  # the reply to END where the child had to be killed; otherwise its exit code, or minus its signal
MAX_ANSWERS = 16 * MIB  # of JSON that says what is in a notebook
NOBODY = 65534


def main(arguments: list[str]) -> None:
    """Run one of the two commands."""
    if arguments[0] == "read":
        read(json.loads(arguments[1]))
    else:
        serve(int(arguments[1]), **json.loads(arguments[2]))


def read(ids: Collection[str]) -> None:
    """Print the answers of the notebook that comes on standard input as JSON, or why there are none."""
    become_nobody()
    confine(seconds=30, memory=2048 * MIB, written=MAX_ANSWERS)
    data = sys.stdin.buffer.read()
    try:
        found: dict[str, Any] = vars(handin.parse_handin("", data, ids))
        places = {text: place for place, text in enumerate({t for texts in found["relies_on"].values() for t in texts})}
        found["statements"] = list(places)
        found["relies_on"] = {id: [places[text] for text in texts] for id, texts in found["relies_on"].items()}
    except UnreadableNotebook as error:
        found = {"unreadable": str(error)}
    json.dump(found, sys.stdout)


def serve(number: int, *, seconds: float, memory: int) -> None:
    """Fork and end children on orders until the socket closes."""
    import torch

    from wmcourse.grading import wall  # noqa: F401  loaded once, for every child

    torch.set_num_threads(1)
    torch.ones(1, requires_grad=True).sum().backward()  # what torch sets up at its first gradient is forked, too
    control = socket.socket(fileno=number)
    keep_out()
    gc.freeze()
    child = 0
    control.sendall(struct.pack("<i", 0))
    while True:
        order, files, *_ = socket.recv_fds(control, 1, 1)
        if order == FORK:
            _ended(child)
            child = os.fork()
            if not child:
                control.close()
                answer(files[0], seconds, memory)
            os.close(files[0])
            control.sendall(struct.pack("<i", 0))
        else:
            status, child = _ended(child, patience=0.5), 0
            if not order:
                return
            control.sendall(struct.pack("<i", status))


def _ended(child: int, patience: float = 0.0) -> int:
    """How a child ended; it is ended here where it has not within `patience` seconds."""
    if not child:
        return 0
    until = time.monotonic() + patience
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return RUNNING
        time.sleep(0.01)  # its socket closes a moment before the kernel knows how it ended


def become_nobody() -> None:
    """Where root grades without bubblewrap, and Python can be read by everyone: go on as nobody."""
    if os.geteuid() == 0 and all(os.stat(path).st_mode & 0o1 for top in sys.path for path in _folders(top)):
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _folders(top: str) -> list[Path]:
    return [path for path in (Path(top), *Path(top).parents) if path.is_dir()]


def answer(number: int, seconds: float, memory: int) -> None:
    """Serve one answer over a socket, confined; never returns."""
    from wmcourse.grading.wall import Peer
    from wmcourse.grading.wire import Line

    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        sys.stdout = sys.stderr = shown = Head()
        become_nobody()
        confine(seconds=seconds, memory=memory)
        Peer(Line(socket.socket(fileno=number)), Answers(shown)).serve()
    finally:
        os._exit(0)


class Answers:
    """What the grader can ask of a child: load an answer, and say what was printed."""

    def __init__(self, shown: Head):
        self._shown = shown

    def load(self, id: str, source: str, relies_on: list[str]) -> Any:
        """Run an answer's cell and what it relies on; the function or class."""
        return handin.load(id, source, relies_on)

    def printed(self) -> str:
        """The head of what the answer has printed."""
        return self._shown.text()
