"""Build hand-ins into a folder, grade them in one run, and see what changed, who called, and what was left."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.handins.case import CHECKOUT, PORT, SECONDS, HandInCase, canaries
from wmcourse.grading.records import Row, from_json

WATCH = Path(__file__).with_name("watch.py")


@dataclass
class Batch:
    """What one run of `wmcourse grade` did.

    Args:
        rows: by student.
        texts: the rows as they were written, by student.
        code: the exit status; None where the run had to be ended.
        seconds, cpu: how long it took, and how much processor time.
        out: the end of what it printed.
        left: command lines of processes that it left behind.
        peak: bytes of memory of its largest process.
        changed: files that appeared, went or changed outside the results.
        callers: what reached the listener.
        results: the folder of results.
    """

    rows: dict[str, Row]
    texts: dict[str, str]
    code: int | None
    seconds: float
    cpu: float
    out: str
    left: list[str]
    peak: int
    changed: list[str]
    results: Path
    callers: list[str] = field(default_factory=list)


def grade_all(
    root: Path, cases: Iterable[HandInCase], *options: str, limit: float = 1200, env: dict[str, str] | None = None
) -> Batch:
    """Build the cases below `root` and grade them with `wmcourse grade handins --out results OPTIONS`."""
    handins, results = root / "handins", root / "results"
    handins.mkdir(parents=True)
    canaries(handins).mkdir()
    (canaries(handins) / "own.txt").write_text("nobody else's business\n")
    with _listening(handins) as callers:
        for case in cases:
            case.build(handins)
        before = _snapshot(handins)
        command = [sys.executable, "-m", "wmcourse", "grade", str(handins), "--out", str(results), *options]
        watched = [sys.executable, str(WATCH), str(limit), *command, "--seconds", str(SECONDS)]
        ran = subprocess.run(watched, capture_output=True, text=True, cwd=CHECKOUT, env={**os.environ, **(env or {})})
        after = _snapshot(handins)
    said = json.loads(ran.stdout)
    changed = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    for path in after.keys() - before.keys():
        Path(path).unlink()  # outside the test's own folder nothing stays
    texts = [path.read_text(encoding="utf-8") for path in sorted((results / "rows").glob("*.json"))]
    rows = {row.student: (row, text) for row, text in ((from_json(text), text) for text in texts)}
    return Batch(
        rows={student: row for student, (row, _) in rows.items()},
        texts={student: text for student, (_, text) in rows.items()},
        changed=sorted(changed),
        results=results,
        callers=callers,
        **{key: said[key] for key in ("code", "seconds", "cpu", "out", "left", "peak")},
    )


@contextmanager
def _listening(handins: Path):
    """A loopback listener, by TCP, UDP and a socket without a file, that notes whoever calls."""
    tcp = socket.create_server(("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", port))
    nameless = socket.socket(socket.AF_UNIX)
    nameless.bind(f"\0wmcourse-canary-{port}")
    nameless.listen()
    (canaries(handins) / PORT).write_text(str(port))
    callers: list[str] = []

    def wait(line: socket.socket, kind: str) -> None:
        with suppress(OSError):
            while True:
                if kind == "udp":
                    line.recv(100)
                else:
                    line.accept()
                callers.append(kind)

    lines = {"tcp": tcp, "udp": udp, "nameless": nameless}
    for kind, line in lines.items():
        threading.Thread(target=wait, args=(line, kind), daemon=True).start()
    try:
        yield callers
    finally:
        for line in lines.values():
            line.close()


def _snapshot(handins: Path) -> dict[str, str]:
    """Every file that hand-ins reach for, by path, with what is in it; links are not followed."""
    found = {}
    for place in (handins, canaries(handins)):
        for folder, _, files in os.walk(place):
            for name in files:
                found[os.path.join(folder, name)] = _content(os.path.join(folder, name))
    for place in (Path("/tmp"), Path("/dev/shm"), Path.home(), CHECKOUT):
        found |= {str(path): "there" for path in place.glob("WRITTEN_BY_A_HANDIN*")}
    return found


def _content(path: str) -> str:
    if os.path.islink(path):
        return os.readlink(path)
    if not os.path.isfile(path) or os.path.getsize(path) > 1 << 30:
        return oct(os.lstat(path).st_mode)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
