"""Run a command as the parent of every orphan that it leaves, then say what it left: one line of JSON.

    python watch.py SECONDS COMMAND ...

A process that forks twice and begins a session of its own escapes its parents, but not a "child subreaper".
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

SUBREAPER, GRACE = 36, 3.0


def main(seconds: float, command: list[str]) -> None:
    """Run, end what is left, and print {code, seconds, cpu, left, peak, out}; the code is null where time was up."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        out = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out = process.communicate()[0]
    took = time.monotonic() - began
    left = _left()
    while left and time.monotonic() < began + took + GRACE:
        time.sleep(0.1)
        left = _left()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = None if process.returncode == -signal.SIGKILL else process.returncode
    text = out.decode("utf-8", "replace")[-20_000:]
    facts = {"code": code, "seconds": took, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss << 10}
    print(json.dumps({**facts, "left": list(left.values()), "out": text}))


def _left() -> dict[int, str]:
    """The command lines of our children that still run; those that ended are waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    left = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                left[int(entry.name)] = words[:300]
    return left


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
