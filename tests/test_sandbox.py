"""What an answer can see and do behind the wall, in both modes: as little as it needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wmcourse.exercises import catalogue
from wmcourse.grading.bubblewrap import BUBBLEWRAP, PROCESS_ONLY, Wall, find_wall
from wmcourse.grading.cells import UnreadableNotebook
from wmcourse.grading.mistake import Crashed, TimeUp
from wmcourse.grading.remote import Raised
from wmcourse.grading.sandbox import Limits, Sandbox, read
from wmcourse.grading.view import build_view, without

ROOT_FOLDER = Path(__file__).parents[1]
TURTLE = Path(os.__file__).parent / "turtle.py"  # a file of Python's that nothing needs
LESSON = "03_reparameterization"
NEEDS_BWRAP = pytest.mark.skipif(
    find_wall().mode != BUBBLEWRAP, reason=f"no bubblewrap: {find_wall().why or 'apt-get install bubblewrap'}"
)
MODES = [pytest.param(BUBBLEWRAP, marks=NEEDS_BWRAP), PROCESS_ONLY]


@pytest.fixture(scope="module", params=MODES)
def box(request, tmp_path_factory) -> Iterator[Sandbox]:
    view = build_view(tmp_path_factory.mktemp("view"), LESSON)
    limits = Limits(call=3, exercise=20, memory=1 << 30)
    with Sandbox(Wall(request.param, secrets=(ROOT_FOLDER,)), view, limits, time.monotonic() + 600).start() as box:
        yield box


@pytest.fixture(scope="module")
def bwrapped(tmp_path_factory) -> Iterator[Sandbox]:
    view = build_view(tmp_path_factory.mktemp("view"), LESSON)
    secrets = (ROOT_FOLDER, TURTLE)
    with Sandbox(Wall(BUBBLEWRAP, secrets=secrets), view, Limits(call=5), time.monotonic() + 600).start() as box:
        yield box


@contextmanager
def loaded(box: Sandbox, source: str) -> Iterator[Callable[..., Any]]:
    """A function `f` of this source, living in the sandbox."""
    with box.answer() as (peer, root):
        yield peer.call(root, "load", ("f", source, []), {})


def run(box: Sandbox, body: str) -> Any:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    with loaded(box, f"def f():\n{lines}\n") as f:
        return f()


def test_an_answer_works_with_torch_and_gradients(box) -> None:
    import torch

    x = torch.ones(3, requires_grad=True)
    with loaded(box, "import torch\ndef f(x):\n    return torch.exp(x) * x") as f:
        f(x).sum().backward()
    assert torch.allclose(x.grad, 2 * torch.e * torch.ones(3))  # type: ignore[arg-type]


REFUSED = {
    "fork": "import os; os.fork()",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "a command": "import subprocess; subprocess.run(['true'])",
    "a process pool": "import multiprocessing as m; m.Process(target=print).start()",
    "a thread": "import threading; threading.Thread(target=print).start()",
    "a signal through a file": "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, 1)",
    "another scheduler": "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))",
    "a socket": "import socket; socket.socket()",
    "a kill": "import os; os.kill(1, 9)",
    "a kill of the parent": "import os; os.kill(os.getppid(), 9)",
    "a higher limit": "import resource as r; r.setrlimit(r.RLIMIT_AS, (-1, -1))",
    "a memory file": "import os; os.memfd_create('x')",
    "a namespace": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "a word in a file": "import os\nwith open('/tmp/word-of-an-answer', 'w') as f: f.write('word')",
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_an_answer_does_not_need_is_refused(box, body) -> None:
    with pytest.raises(Raised):
        run(box, body)


@pytest.mark.parametrize(
    ("body", "error", "how"),
    [
        ("import os; os._exit(0)", Crashed, "ended itself"),
        ("import ctypes; ctypes.string_at(0)", Crashed, "Segmentation"),
        ("import os; os.abort()", Crashed, "ended by"),
        ("while True: pass", TimeUp, ""),
        ("import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass", TimeUp, ""),
    ],
)
def test_an_answer_that_ends_or_never_does_harms_nobody(box, body, error, how) -> None:
    with box.answer() as (peer, root):
        f = peer.call(
            root, "load", ("f", "def f():\n" + "\n".join("    " + line for line in body.splitlines()), []), {}
        )
        start = time.monotonic()
        with pytest.raises(error):
            f()
        assert time.monotonic() - start < 6
        assert how in box.how_it_ended()
    assert run(box, "return 5") == 5


def test_memory_has_an_end(box) -> None:
    with pytest.raises(MemoryError):
        run(box, "return len(bytearray(3 << 30))")


def test_a_flood_of_prints_is_counted_not_kept(box) -> None:
    with box.answer() as (peer, root):
        f = peer.call(root, "load", ("f", "def f():\n    print('ab' * 5_000_000)\n    return 1", []), {})
        assert f() == 1
        assert peer.call(root, "printed", (), {}).endswith("more characters")


@NEEDS_BWRAP
@pytest.mark.parametrize(
    "path",
    [
        str(ROOT_FOLDER / "wmcourse"),
        str(ROOT_FOLDER / "tests"),
        str(ROOT_FOLDER / "solutions"),
        str(ROOT_FOLDER / "pyproject.toml"),
        str(Path.home() / ".bashrc"),
        *("/etc/passwd", "/root/.ssh", "/home", "/var", str(ROOT_FOLDER.parent / "shared")),
    ],
)
def test_no_file_of_the_machine_is_there(bwrapped, path) -> None:
    look = f"import os; return os.listdir({path!r}) if os.path.isdir({path!r}) else os.path.exists({path!r})"
    assert not run(bwrapped, look)


@NEEDS_BWRAP
def test_a_secret_within_the_system_is_hidden(bwrapped) -> None:
    assert TURTLE.stat().st_size
    with pytest.raises(Raised, match="denied"):
        run(bwrapped, f"return open({str(TURTLE)!r}, 'rb').read()")


@NEEDS_BWRAP
def test_no_case_and_no_answer_of_the_course_is_there(bwrapped) -> None:
    body = """
import os, sys
names = set()
for top in sys.path:
    for folder, _, files in os.walk(os.path.join(top, 'wmcourse')):
        names |= {os.path.relpath(os.path.join(folder, name), top) for name in files}
return sorted(names)"""
    names = run(bwrapped, body)
    assert "wmcourse/nets.py" in names
    assert "wmcourse/encoder_decoder.py" in names
    for gone in ("reparameterization", "elbo", "exercises/reparameterization", "grading/contract", "grading/verdict"):
        assert f"wmcourse/{gone}.py" not in names


PROC = ["/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/self/oom_score_adj"]


@NEEDS_BWRAP
@pytest.mark.parametrize("path", ["/course/x", "/usr/x", "/dev/x", "/dev/shm/x", "/tmp/x", "/x", *PROC])
def test_nothing_can_be_written(bwrapped, path) -> None:
    with pytest.raises(OSError, match=r"Read-only|denied"):
        run(bwrapped, f"open({path!r}, 'r+' if {path in PROC} else 'w').write('1')")


@NEEDS_BWRAP
def test_the_forking_process_cannot_be_read(bwrapped) -> None:
    with pytest.raises(Raised, match="denied"):
        run(bwrapped, "import os; open(f'/proc/{os.getppid()}/mem', 'rb')")


@NEEDS_BWRAP
def test_other_processes_and_the_environment_are_out_of_sight(bwrapped, monkeypatch) -> None:
    assert run(bwrapped, "import os; return sum(name.isdigit() for name in os.listdir('/proc'))") <= 4
    assert "WMCOURSE_PROGRESS" not in run(bwrapped, "import os; return list(os.environ)")


def test_all_ends_with_the_sandbox(tmp_path) -> None:
    wall, view = find_wall((ROOT_FOLDER,)), build_view(tmp_path / "view", LESSON)
    before = set(children())
    with Sandbox(wall, view, Limits(), time.monotonic() + 600).start() as box:
        run(box, "return 1")
        mine = set(children()) - before
        assert mine
    assert not mine & set(children())


def children() -> Iterator[int]:
    """Every process that descends from this one."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(Path("/proc", name, "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    for child in parents:
        up = child
        while up := parents.get(up, 0):
            if up == os.getpid():
                yield child
                break


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "notebook",
    [
        *(b"", b"\x00", b"[" * 100_000, b'{"cells": 3}', b"{}", b"null", "{}".encode("utf-16")),
        b'{"cells": [{"cell_type": "code", "source": "' + b"(" * 50_000 + b'"}]}',
    ],
)
def test_what_is_no_notebook_is_unreadable_and_no_more(tmp_path, mode, notebook) -> None:
    view = build_view(tmp_path / "view", LESSON)
    with pytest.raises(UnreadableNotebook):
        read(Wall(mode), view, notebook, [exercise.id for exercise in catalogue()])


def test_the_view_of_a_lesson_leaves_out_what_it_asks_for(tmp_path) -> None:
    view = build_view(tmp_path, "00_start_here") / "wmcourse"
    text = (view / "replay.py").read_text()
    assert "class Episode" in text
    body = text[text.index("def record_episode(") :].split("\n\n")[0]
    assert "NotImplementedError" in body
    assert "env.step" not in body
    assert not (view / "start_here.py").exists()
    assert not (view / "elbo.py").exists()


def test_a_module_that_a_later_lesson_brings_is_not_there_before(tmp_path) -> None:
    for lesson in ("06_recurrent_dynamics", "07_rssm"):
        view = build_view(tmp_path / lesson, lesson) / "wmcourse"
        assert (view / "elbo.py").exists()
        assert not (view / "recurrence.py").exists()  # a GRU's gates and the RSSM's loop


def test_a_name_is_taken_out_wherever_it_is_defined() -> None:
    source = (
        "def a():\n    return 1\n\n\nclass B:\n    def a(self):\n        return 2\n    def c(self):\n        return 3\n"
    )
    left = without({"a"}, source)
    assert "return 3" in left
    assert "return 1" not in left
    assert "return 2" not in left
    assert without({"zzz"}, source) == source
