"""Hand-ins that stall and crash: what they cost is their own points and nothing else."""

from __future__ import annotations

from tests.handins.case import edited
from tests.handins.recipes import ALL_PASSED, RIGHT_03, attack, right_03

RIGHT_BODY = {
    "reparameterize": "return mean + std * noise",
    "pathwise_gradient": "return slope, slope * noise",
    "leave_one_out": "return value - (value.sum() - value) / (len(value) - 1)",
}


STALLS = [
    attack("endless loop", {"reparameterize": "while True:\n    pass"}, {"reparameterize": "timed out"}, needs="any"),
    attack(
        "loop that swallows interrupts",
        {
            "leave_one_out": """
                while True:
                    try:
                        while True:
                            pass
                    except BaseException:
                        pass
            """
        },
        {"leave_one_out": "timed out"},
        needs="any",
    ),
    attack(
        "deaf to signals",
        {
            "pathwise_gradient": """
                import re, signal
                for number in range(1, 65):
                    try:
                        signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError):
                        pass
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
                re.match("(a+)+$", "a" * 64 + "b")  # hours in C, the interpreter's lock held
            """
        },
        {"pathwise_gradient": "timed out"},
        needs="any",
    ),
    attack(
        "stops itself",
        {"straight_through": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nreturn logits"},
        needs="any",
    ),
    attack(
        "a little less than the limit, every time",
        {"leave_one_out": "import time\ntime.sleep(0.9 * @seconds@)\n" + RIGHT_BODY["leave_one_out"]},
        {"leave_one_out": "timed out"},
        needs="any",
    ),
    attack(
        "never-ending generator", {"pathwise_gradient": "import itertools\nreturn (slope for _ in itertools.count())"}
    ),
    attack(
        "hangs in the backward pass",
        {
            "reparameterize": """
                def hang(slope):
                    while True:
                        pass
                z = mean + std * noise
                if z.requires_grad:
                    z.register_hook(hang)
                return z
            """
        },
        {"reparameterize": "timed out"},
        needs="any",
    ),
    edited(
        "endless import",
        lambda: right_03(
            {"leave_one_out": "while True:\n    pass\n\n" + RIGHT_03["leave_one_out"]},
            before=["def spin():\n    while True:\n        pass\n\n\nNEVER = spin()"],
        ),
        ALL_PASSED | {"leave_one_out": "timed out"},
    ),
]


CRASHES = [
    attack(
        "exits of every kind",
        {
            "reparameterize": "import sys\nsys.exit(0)",
            "pathwise_gradient": "import os\nos._exit(0)",
            "score_function_gradient": "raise SystemExit('passed')",
            "leave_one_out": "import ctypes\nctypes.string_at(0)",
            "straight_through": "import os\nos.abort()",
        },
        {
            "reparameterize": "error",
            "pathwise_gradient": "crashed",
            "score_function_gradient": "error",
            "leave_one_out": "crashed",
            "straight_through": "crashed",
        },
        needs="any",
    ),
    attack(
        "recursion without end",
        {
            "reparameterize": "return reparameterize(mean, std, noise)",
            "leave_one_out": """
                import sys, threading
                sys.setrecursionlimit(10**9)
                def down(n):
                    return [down(n + 1)]
                return down(0)
            """,
            "pathwise_gradient": """
                nest = slope
                for _ in range(200_000):
                    nest = (nest,)
                return nest
            """,
        },
        {"reparameterize": "error"},
        needs="any",
    ),
    attack(
        "errors that lie",
        {
            "reparameterize": """
                class Mistake(Exception):
                    def __str__(self):
                        raise self
                raise Mistake()
            """,
            "pathwise_gradient": "raise StopIteration((slope, slope * noise))",
            "score_function_gradient": "raise type('passed\\n2 points', (BaseException,), {'__str__': lambda e: 3})()",
            "leave_one_out": "raise KeyboardInterrupt",
            "straight_through": "raise GeneratorExit",
        },
        needs="any",
    ),
    attack(
        "errors that inject",
        {
            "reparameterize": "raise ValueError('</pre><script>alert(1)</script><img src=x onerror=alert(1)>')",
            "pathwise_gradient": "raise ValueError('lone \\ud800 surrogate, \\x00 nul, \\x1b[31m, ]]>, \\uffff')",
            "score_function_gradient": "raise ValueError('=cmd|\\' /C calc\\'!A0\\n# [passed](javascript:alert(1))')",
            "leave_one_out": "print('\\ud800</pre><script>alert(1)</script>\\x00\\x1b]0;title\\x07')\nreturn 0",
            "straight_through": "raise type('</b><script>alert(1)</script>', (Exception,), {})('x' * 10_000_000)",
        },
        needs="any",
    ),
    attack(
        "not implemented, on purpose",
        {
            "reparameterize": "if len(mean) == 6:\n    raise NotImplementedError\nreturn mean + std * noise",
            "leave_one_out": "raise NotImplementedError('but not a stub')",
            "pathwise_gradient": "raise AssertionError",
        },
        needs="any",
    ),
]

CASES = [*STALLS, *CRASHES]
