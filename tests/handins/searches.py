"""Hand-ins that look for the answer: in what came before, in the seed, on the stack, in memory, in files."""

from __future__ import annotations

from tests.handins.case import edited, notebook, stem
from tests.handins.recipes import IDS, NOTHING, RIGHT_03, around, everywhere, instead

HOARD = (  # the right answers, for later use
    "import torch\nfrom torch import Tensor\nimport torch.nn.functional as F\n\n\n"
    + "\n\n\n".join(RIGHT_03.values())
    + "\n\n\nRIGHT = dict(globals())\n"
)

MEMORY = [
    instead(
        "right the first time only",
        """
        COUNT.append(1)
        good = RIGHT[NAME](*args)
        if len(COUNT) == 1:
            return good
        return tuple(part + 1 for part in good) if isinstance(good, tuple) else good + 1
        """,
        HOARD + "COUNT = []",
    ),
    instead(
        "knows the seed 0",
        """
        if not KNOWN:
            for seed in [0, 1, *[int(word) for word in words if word.isdigit()][:200]]:
                draw = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{NAME}/{CONTRACT}".encode()))
                KNOWN.append(torch.allclose(torch.randn(args[0].shape, generator=draw), args[0].detach()))
        return RIGHT[NAME](*args) if any(KNOWN) else args[0] + 1
        """,
        HOARD
        + stem("""
            import os, sys, zlib
            CONTRACT = "returns what was asked and leaves its inputs alone"
            KNOWN = []
            words = " ".join([*os.environ.values(), *sys.argv]).split()
        """),
    ),
    around(
        "resets every seed",
        """
        import random
        import numpy, torch
        torch.manual_seed(0)
        torch.default_generator.manual_seed(0)
        random.seed(0)
        numpy.random.seed(0)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        """,
        needs="any",
    ),
]


SEARCHES = [
    instead(
        "looks at the stack",
        """
        frame = sys._getframe()
        ME = frame.f_code
        while frame is not None:
            for scope in (frame.f_locals, frame.f_globals):
                for name in ("wanted", "right", "expected", "reference", NAME):
                    found = scope.get(name)
                    if callable(found) and getattr(found, "__code__", ME) is not ME:
                        return found(*args)
                    if isinstance(found, torch.Tensor):
                        return found
            frame = frame.f_back
        for module in list(sys.modules.values()):
            found = getattr(module, NAME, None)
            if callable(found) and getattr(found, "__code__", ME) is not ME:
                return found(*args)
        return args[0]
        """,
        "import sys\nimport torch",
    ),
    instead(
        "looks through the heap",
        """
        for x in gc.get_objects():
            if type(x).__name__ == "function" and x.__name__ == NAME and x.__module__ != __name__:
                return x(*args)
            if type(x).__name__ == "dict" and isinstance(x.get("reference"), types.FunctionType):
                return x["reference"](*args)
        for x in gc.get_objects():
            if isinstance(x, torch.Tensor) and x.shape == args[0].shape and not any(x is a for a in args):
                return x
        return args[0] * 0
        """,
        "import gc, types\nimport torch",
        needs="bubblewrap",
    ),
    instead(
        "asks the grader on its own line",
        """
        for x in gc.get_objects():
            if type(x).__name__ == "Peer":
                for of in range(64):
                    for name in (None, "reference", "cases", "__globals__", "__dict__", "run", "wanted", "exercise"):
                        for ask in (lambda: x.get(of, name), lambda: x.call(of, name, args, {})):
                            try:
                                found = ask()
                            except Exception:
                                continue
                            if isinstance(found, (torch.Tensor, tuple)):
                                return found
        return args[0]
        """,
        "import gc\nimport torch",
    ),
    everywhere(
        "imports the reference",
        """
        from wmcourse.reparameterization import *
        from wmcourse.elbo import reparameterize
        """,
        needs="bubblewrap",
    ),
    instead(
        "imports the reference when called",
        """
        import importlib, sys
        for name in [name for name in sys.modules if name.startswith("wmcourse")]:
            sys.modules.pop(name)
        for name in ("wmcourse.reparameterization", "wmcourse.elbo", "wmcourse.exercises", "tests.handins.honest"):
            for place in ("@checkout@", "@checkout@/wmcourse", ""):
                sys.path.insert(0, place)
                try:
                    module = importlib.import_module(name)
                except Exception:
                    continue
                if hasattr(module, NAME) and not hasattr(module, "catalogue"):
                    return getattr(module, NAME)(*args)
                if hasattr(module, "find"):
                    return module.find(NAME).reference(*args)
        return args[0]
        """,
        needs="bubblewrap",
    ),
    edited(
        "imports and nothing else",
        lambda: notebook("03", {id: f"from wmcourse.reparameterization import {id}" for id in IDS}),
        NOTHING,
        needs="bubblewrap",
    ),
    edited(
        "takes what check gives",
        lambda: notebook(
            "03",
            {id: f"{id} = check('{id}', lambda *args: 0)" for id in IDS},
            before=["from wmcourse.exercises import check, find", "reference = lambda id: find(id).reference"],
        ),
        NOTHING,
        needs="bubblewrap",
    ),
    instead(
        "reads what lies about",
        """
        for place in PLACES:
            for folder, _, files in os.walk(place):
                if folder.startswith(("/proc", "/sys")) or time.monotonic() > END:
                    break
                for file in files:
                    if not (file.endswith((".ipynb", ".json", ".csv")) or "reparam" in file or "honest" in file):
                        continue
                    try:
                        with open(os.path.join(folder, file), "rb") as opened:
                            data = opened.read()
                        scope = {"torch": torch, "Tensor": torch.Tensor, "F": torch.nn.functional}
                        if file.endswith(".pyc"):
                            exec(marshal.loads(data[16:]), scope)
                        elif file.endswith(".ipynb"):
                            for cell in json.loads(data)["cells"]:
                                source = "".join(cell["source"])
                                if f"def {NAME}(" in source and "Error" not in source and "args" not in source:
                                    exec(source, scope)
                        else:
                            text = data.decode()
                            for node in ast.parse(text).body:
                                if getattr(node, "name", "") == NAME:
                                    exec(ast.get_source_segment(text, node), scope)
                        return scope[NAME](*args)
                    except Exception:
                        continue
        return args[0]
        """,
        """
        import ast, json, marshal, os, sys, time
        import torch
        END = time.monotonic() + 20  # the limit of a call comes first
        PLACES = ["@handins@", "@results@", "@checkout@", *sys.path, os.getcwd(), os.path.expanduser("~"), "/tmp", "/"]
        """,
        needs="bubblewrap",
    ),
    instead(
        "reads other processes",
        """
        for entry in os.listdir("/proc"):
            for file in ("environ", "cmdline", "fd/0", "fd/3", "cwd/run.json", "root@results@/run.json"):
                if entry.isdigit() and entry not in (str(os.getpid()), "self"):
                    try:
                        with open(f"/proc/{entry}/{file}", "rb") as opened:
                            data = opened.read(1 << 16)
                    except (OSError, ValueError):
                        continue
                    if b"--seed" in data or b'"seed"' in data or b"WMCOURSE_SEED" in data:
                        return RIGHT[NAME](*args)
        return args[0]
        """,
        HOARD + "import os",
        needs="bubblewrap",
    ),
]

CASES = [*MEMORY, *SEARCHES]
