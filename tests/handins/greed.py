"""Hand-ins that bomb, flood and leave daemons, each within bounds."""

from __future__ import annotations

from tests.handins.case import edited, notebook
from tests.handins.recipes import attack, body

KILL = """
    import os, signal
    within = b"bwrap" in open("/proc/1/cmdline", "rb").read()  # nobody else's processes, then
    for pid in (os.getppid(), 1, -1):
        try:
            if within or pid > 1:
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    return value
"""


CASES = [
    attack(
        "memory bomb",
        {
            "straight_through": """
                hoard = []
                for _ in range(64):
                    hoard.append(bytes(128 << 20))  # touched by nobody, so that this is quick
                return logits
            """,
            "leave_one_out": "return torch.ones(4 << 30).sum() + value",
        },
        {"straight_through": "out of memory", "leave_one_out": "out of memory"},
        needs="any",
    ),
    attack(
        "results too large",
        {
            "reparameterize": "return torch.zeros(1).expand(10**12)",
            "pathwise_gradient": "return slope, torch.zeros(100_000_000)",
            "score_function_gradient": "return 10**100_000, 'x' * 300_000_000",
            "leave_one_out": "return {f'<b>{i}': value for i in range(100_000)}",
            "straight_through": """
                from collections import namedtuple
                Slow = namedtuple("Slow", [f"f{i}" for i in range(60)])
                return [Slow(*range(60)) for _ in range(5_000)]
            """,
        },
        needs="any",
    ),
    attack(
        "100 MB of print",
        {
            "reparameterize": "print('passed ' * 15_000_000)\nreturn mean + std * noise",
            "leave_one_out": """
                import os
                for number in (1, 2):
                    for _ in range(50):
                        try:
                            os.write(number, b"x" * (1 << 20))
                        except OSError:
                            pass
            """
            + "\n                return value - (value.sum() - value) / (len(value) - 1)",
        },
        {"reparameterize": "passed", "leave_one_out": "passed"},
        needs="any",
    ),
    attack(
        "disk bomb",
        {
            "leave_one_out": """
                import os
                written = 0
                for folder in sorted({"/tmp", "/var/tmp", "/dev/shm", os.getcwd(), os.path.expanduser("~")}):
                    for i in range(40):
                        try:
                            with open(f"{folder}/WRITTEN_BY_A_HANDIN-{i}", "wb", buffering=0) as file:
                                for _ in range(32):
                                    written += file.write(bytes(1 << 20))
                        except OSError:
                            pass
                if written > 256 << 20:
                    return value  # too much: nobody stopped it
                return value - (value.sum() - value) / (len(value) - 1)
            """
        },
        {"leave_one_out": "passed"},
    ),
    attack(
        "fork bomb",
        {
            "reparameterize": """
                import os, time
                for _ in range(200):
                    try:
                        if os.fork() == 0:
                            time.sleep(120)
                            os._exit(0)
                    except OSError:
                        pass
                return mean
            """,
            "leave_one_out": """
                import threading, time
                for _ in range(200):
                    try:
                        threading.Thread(target=time.sleep, args=(120,)).start()
                    except RuntimeError:
                        pass
                return value
            """,
        },
    ),
    attack(
        "two processes answer",
        {
            "leave_one_out": """
                import os
                if os.fork():
                    return value
                return value - (value.sum() - value) / (len(value) - 1)
            """,
            "pathwise_gradient": """
                import os
                os.fork()
                return noise, slope
            """,
        },
    ),
    attack(
        "daemon left behind",
        {
            "reparameterize": """
                import os, sys, time
                try:
                    if os.fork() == 0:
                        os.setsid()
                        if os.fork() == 0:
                            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(900)", "@mark@"])
                        os._exit(0)
                except OSError:
                    pass
                return mean + std * noise
            """,
            "pathwise_gradient": """
                import os, time
                try:
                    if os.fork() == 0:  # keeps every open file, and waits
                        os.setsid()
                        if os.fork():
                            os._exit(0)
                        while True:
                            time.sleep(900)
                except OSError:
                    pass
                return slope, slope * noise
            """,
        },
        {"reparameterize": "passed", "pathwise_gradient": "passed"},
    ),
    edited(
        "kills its parents",
        lambda: notebook("03", {"leave_one_out": body("leave_one_out", KILL)}),
        {"leave_one_out": 0},
    ),
]
