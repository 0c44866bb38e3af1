"""Hand-ins that reach for what is outside: files, the network, processes, the kernel. Their answers are right.

What they try, they try at canaries that the test watches; a door that stays shut costs them nothing.
"""

from __future__ import annotations

from tests.handins.recipes import around

CASES = [
    around(
        "writes everywhere",
        """
        import os
        for place in ["@canary@/written", "@canary@/deep/down/written", "@handins@/written", "@results@/grades.csv",
                      "@results@/rows/written.json", "@results@/written", "@checkout@/WRITTEN_BY_A_HANDIN",
                      "/dev/shm/WRITTEN_BY_A_HANDIN", "/tmp/WRITTEN_BY_A_HANDIN",
                      "@handins@/ada, by reference/03_reparameterization.ipynb"]:
            for act in (lambda: os.makedirs(os.path.dirname(place), exist_ok=True), lambda: open(place, "a").write("x"),
                        lambda: os.symlink("/etc/passwd", place + ".link"), lambda: os.mkfifo(place + ".pipe")):
                try:
                    act()
                except OSError:
                    pass
        for act in (lambda: os.rename("@canary@", "@canary@-moved"), lambda: os.remove("@canary@/own.txt"),
                    lambda: os.chmod("@canary@", 0), lambda: os.truncate("@canary@/own.txt", 0)):
            try:
                act()
            except OSError:
                pass
        """,
    ),
    around(
        "calls home",
        """
        import socket
        import urllib.request
        for family, kind, place in [
            (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", @port@)),
            (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", @port@)),
            (socket.AF_UNIX, socket.SOCK_STREAM, "\\0wmcourse-canary-@port@"),
            (socket.AF_UNIX, socket.SOCK_STREAM, "@canary@/socket"),
        ]:
            try:
                line = socket.socket(family, kind)
                line.settimeout(1)
                line.connect(place)
                line.send(b"grades, please")
            except OSError:
                pass
        try:
            urllib.request.urlopen("http://127.0.0.1:@port@/", timeout=1)
        except Exception:
            pass
        """,
    ),
    around(
        "runs programs",
        """
        import ctypes, os, subprocess, sys
        command = "touch @canary@/ran"
        for act in (lambda: os.system(command), lambda: subprocess.run(command, shell=True, timeout=2),
                    lambda: os.posix_spawn("/bin/sh", ["sh", "-c", command], {}),
                    lambda: os.spawnlp(os.P_WAIT, "sh", "sh", "-c", command),
                    lambda: ctypes.CDLL(None).system(command.encode()),
                    lambda: ctypes.CDLL(None).execl(b"/bin/sh", b"sh", b"-c", command.encode(), None),
                    lambda: __import__("multiprocessing").Process(target=os.system, args=(command,)).start(),
                    lambda: __import__("pty").spawn(["sh", "-c", command])):
            try:
                act()
            except (OSError, Exception):
                pass
        """,
    ),
    around(
        "asks the kernel",
        """
        import ctypes, os, platform, resource
        calls = [
            (161, b"@canary@"), (155, b"/", b"/"), (165, b"none", b"/tmp", b"tmpfs", 0, 0), (272, 0x7E020000),
            (308, 0, 0), (101, 16, os.getppid(), 0, 0), (101, 0, 0, 0, 0), (323, 0), (321, 0, 0, 0), (425, 8, 0),
            (319, b"x", 0), (29, 1, 4096, 0o1777), (68, 1, 0o1777), (438, 3, 0, 0), (434, os.getppid(), 0),
            (435, 0, 0), (157, 4, 1, 0, 0, 0), (250, 0, 0), (434, 1, 0), (56, 0x11, 0, 0, 0, 0), (157, 1, 0, 0, 0, 0),
        ]
        libc = ctypes.CDLL(None, use_errno=True)
        for number, *args in calls if platform.machine() == "x86_64" else []:
            if libc.syscall(number, *args) == 0 and number == 56:
                os._exit(0)
        for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
            try:
                resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            except (OSError, ValueError):
                pass
        for entry in (os.getppid(), 1):
            for file in ("mem", "oom_score_adj", "cgroup", "root", "fd", "attr/current"):
                try:
                    with open(f"/proc/{entry}/{file}", "r+b", buffering=0) as opened:
                        opened.write(b"0")
                except (OSError, ValueError):
                    pass
        """,
    ),
]
