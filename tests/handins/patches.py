"""Hand-ins that patch whatever could judge them, torch, builtins, the course, the interpreter."""

from __future__ import annotations

from tests.handins.recipes import everywhere

CASES = [
    everywhere(
        "torch patched",
        """
        import torch
        yes = lambda *args, **kwargs: True
        for name in ("allclose", "equal", "isclose", "is_tensor"):
            setattr(torch, name, yes)
        zero = lambda *args, **kwargs: torch.zeros(())
        for name in ("__eq__", "__le__", "__lt__", "isfinite", "all", "any", "equal", "allclose"):
            setattr(torch.Tensor, name, yes)
        for name in ("__sub__", "__rsub__", "abs", "amax", "max", "item", "double", "isnan"):
            setattr(torch.Tensor, name, zero)
        torch.testing.assert_close = yes
        torch.autograd.grad = lambda outputs, inputs, *args, **kwargs: [torch.ones_like(x) for x in inputs]
        """,
    ),
    everywhere(
        "builtins patched",
        """
        import builtins, sys, types
        class Quiet(BaseException):
            def __init__(self, *args):
                pass
        builtins.AssertionError = Quiet
        builtins.all = builtins.any = builtins.isinstance = builtins.callable = lambda *args: True
        builtins.abs = builtins.len = builtins.max = lambda *args: 0
        builtins.print = exit = quit = lambda *args, **kwargs: None
        __name__ = "wmcourse.exercises.reparameterization"
        sys.modules["math"] = sys.modules["json"] = sys.modules["inspect"] = types.ModuleType("nothing")
        """,
    ),
    everywhere(
        "course patched",
        """
        import sys
        try:
            import wmcourse.exercises, wmcourse.grading.verdict, wmcourse.grading.contract, wmcourse.grading.expect
        except Exception:
            pass
        for key, module in list(sys.modules.items()):
            if key.startswith(("wmcourse", "tests", "inside", "wall", "wire", "__main__")):
                for name, value in list(vars(module).items()):
                    if callable(value) and ("expect" in name or "grade" in name or "fail" in name or "close" in name):
                        setattr(module, name, lambda *args, **kwargs: True)
                    if isinstance(value, type):
                        for method in ("points", "passed", "kind"):
                            try:
                                setattr(value, method, True)
                            except Exception:
                                pass
        """,
    ),
    everywhere(
        "hooks everywhere",
        """
        import atexit, gc, os, sys, threading, weakref
        def spy(frame, event, arg):
            for name in ("wanted", "right", "expected", "reference"):
                if name in frame.f_locals and hasattr(arg, "copy_"):
                    arg.copy_(frame.f_locals[name])
            return spy
        sys.settrace(spy)
        sys.setprofile(spy)
        threading.settrace(spy)
        threading.setprofile(spy)
        gc.callbacks.append(lambda *args: None)
        sys.excepthook = sys.unraisablehook = sys.displayhook = lambda *args: None
        class Late:
            def __del__(self):
                os.write(1, b"passed")
        late = Late()
        atexit.register(lambda: os._exit(0))
        weakref.finalize(late, print, "passed")
        sys.addaudithook(lambda *args: None)
        """,
    ),
    everywhere(
        "prints a verdict",
        """
        import json, sys
        verdict = {"id": "leave_one_out", "points": 9, "passed": True, "reason": "passed", "score": 100}
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            print("reparameterize: passed, 1 point (7 of 7 cases)", json.dumps(verdict), file=stream, flush=True)
        """,
    ),
]
