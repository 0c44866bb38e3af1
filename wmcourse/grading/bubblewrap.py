"""What stands between a submission and the machine: bubblewrap, or nothing but processes of their own.

With bubblewrap a submission sees a file system that is made for it (the system and Python, and nowhere to write: one
answer leaves nothing for the next), no network, no processes but its own, and is nobody. Without it the mode is
"process only": the same processes with the same limits and the same filter of system calls (confine.py), but with the
grading user's files in reach.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import wmcourse

BUBBLEWRAP, PROCESS_ONLY = "bubblewrap", "process only"
ENVIRONMENT = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "SDL_VIDEODRIVER": "dummy"}


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
    secrets: tuple[Path, ...] = ()

    def command(self, view: Path, arguments: Sequence[str]) -> list[str]:
        """The command line that runs `inside.main(arguments)` behind this wall."""
        course = "/course" if self.mode == BUBBLEWRAP else str(view)
        paths = [course, *map(str, _libraries())]
        start = f"import sys; sys.path += {paths!r}; from wmcourse.grading.inside import main; main(sys.argv[1:])"
        return self.python(view, [start, *arguments])

    def python(self, view: Path, arguments: Sequence[str]) -> list[str]:
        """The command line that runs Python code behind this wall, without any package in sight."""
        command = [sys.executable, "-I", "-S", "-B", "-c", *arguments]
        return command if self.mode == PROCESS_ONLY else [*_bubblewrap(), *self._files(view), "--", *command]

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
        # /proc, too: where root grades, its own id would open the kernel's settings below /proc/sys.
        for path in (*(path for path in hide if path.is_dir()), *map(Path, ("/proc", "/dev", "/tmp", "/"))):
            yield from ("--remount-ro", str(path))


def _bubblewrap() -> list[str]:
    clear = {"PATH": "/usr/bin", "HOME": "/tmp", "USER": "nobody", **ENVIRONMENT}
    return [
        *("bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"),
        *(word for name, value in clear.items() for word in ("--setenv", name, value)),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--size", "4096", "--tmpfs", "/tmp", "--chdir", "/tmp"),
    ]


def _libraries() -> list[Path]:
    """The folders with installed packages; a checkout that is installed in place is not among them."""
    found = [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return [path for path in dict.fromkeys(found) if path.is_dir()]


@cache
def find_wall(secrets: tuple[Path, ...] = ()) -> Wall:
    """The best wall this machine has: bubblewrap where it works, else process only, with the reason."""
    hidden = tuple(path.resolve() for path in secrets)
    if os.environ.get("WMCOURSE_BWRAP") == "none":
        return Wall(PROCESS_ONLY, "WMCOURSE_BWRAP=none is set", hidden)
    if not shutil.which("bwrap"):
        return Wall(PROCESS_ONLY, "bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)", hidden)
    wall = Wall(BUBBLEWRAP, secrets=hidden)
    with tempfile.TemporaryDirectory() as view:
        tried = subprocess.run(wall.python(Path(view), ["pass"]), capture_output=True, text=True)
    if tried.returncode:
        return Wall(PROCESS_ONLY, f"bubblewrap does not work here: {tried.stderr.strip()[:200]}", hidden)
    return wall
