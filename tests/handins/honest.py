"""Hand-ins without malice: right in several styles, half right, wrong, blank."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.handins.case import CHECKOUT, LESSONS, HandInCase, edited, file_of, ids_of, notebook, save, stem
from tests.handins.recipes import ALL_PASSED, IDS, IMPORTS_03, RIGHT_03, WRONG_03, right_03
from tests.handins.rights import rights


def _solved(name: str, *lessons: str, style: int = -1) -> HandInCase:
    """A folder with one or more lessons, solved as the references or the banks do."""

    def build(folder: Path) -> None:
        for lesson in lessons:
            answers, cells = rights(lesson, style)
            save(notebook(lesson, answers, before=cells), folder / name / file_of(lesson))

    wanted: dict[str, str | int] = {id: "passed" for lesson in lessons for id in ids_of(lesson)}
    return HandInCase(name, build, wanted, needs="any")


def _executed(name: str) -> HandInCase:
    """The five lessons as their authors solved and ran them, outputs, figures, experiments and all."""

    def build(folder: Path) -> None:
        (folder / name).mkdir()
        for path in LESSONS.values():
            shutil.copy(CHECKOUT / "solutions" / path.name, folder / name)

    wanted: dict[str, str | int] = {id: "passed" for lesson in LESSONS for id in ids_of(lesson)}
    return HandInCase(name, build, wanted, needs="any")


def _variant(name: str, answers: dict[str, str], **cells: Sequence[str]) -> HandInCase:
    """Lesson 03 in another style, all of it right."""
    return edited(name, lambda: right_03(answers, **cells), ALL_PASSED)


DECORATED = stem("""
    import functools

    def shout(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            print("called", function.__name__)
            return function(*args, **kwargs)
        return inner
""")


TRY_IMPORT = "try:\n    import einops_that_nobody_has as einops\nexcept ImportError:\n    einops = None"


CUSTOM_GRADIENT = stem("""
    class Hot(torch.autograd.Function):
        @staticmethod
        def forward(ctx, probs, score):
            return torch.eye(probs.shape[-1])[score.argmax(-1)]

        @staticmethod
        def backward(ctx, slope):
            return slope, None

    def straight_through(logits, uniform):
        gumbel = -torch.log(-torch.log(uniform))
        return Hot.apply(logits.softmax(-1), logits.detach() + gumbel)
""")


SCALED = stem("""
    class Scaled:
        def __init__(self, k):
            self.k = k

        def __call__(self, mean, std, noise):
            return mean + self.k * std * noise


    reparameterize = Scaled(1.0)
""")
OTHERS = stem("""
    def _others(n_less, value):
        return value - (value.sum() - value) / (len(value) - n_less)


    leave_one_out = functools.partial(_others, 1)
""")


ODD_STYLES = {
    "reparameterize": SCALED,
    "pathwise_gradient": "pathwise_gradient = lambda slope, noise: (slope, slope * noise)",
    "leave_one_out": OTHERS,
    "score_function_gradient": "@shout\n" + RIGHT_03["score_function_gradient"],
    "straight_through": CUSTOM_GRADIENT,
}


RENAMED = {
    "reparameterize": "def reparameterize(mean, std, noise):\n    return t.addcmul(mean, std, noise)",
    "leave_one_out": "def leave_one_out(value):\n    n = len(value)\n    return mul(value - mean(value), n / (n - 1))",
    "straight_through": stem("""
        def straight_through(logits, uniform):
            probs = softmax(logits, dim=-1)
            pick = argmax(logits - log(-log(uniform)), dim=-1)
            hard = nn.functional.one_hot(pick, logits.size(-1)).float()
            return (hard - probs).detach() + probs
    """),
}


CONSTANTS = {
    "reparameterize": "def reparameterize(mean, std, noise):\n    return UNIT * mean + (2 * HALF * std + ZERO) * noise",
    "leave_one_out": "def leave_one_out(value):\n    return value - (value.sum() - value) / (len(value) - TABLE[0])",
    "score_function_gradient": stem("""
        def score_function_gradient(value, mean, std, z):
            def log_prob(m, s):
                return -0.5 * LOG_2PI - s.log() - (z - m) ** 2 / (2 * s**2)
            m = mean.detach().expand_as(z).clone().requires_grad_()
            s = std.detach().expand_as(z).clone().requires_grad_()
            return torch.autograd.grad((value * log_prob(m, s)).sum(), [m, s])
    """),
}


CONSTANT_CELLS = [
    "import math\nLOG_2PI = math.log(2 * math.pi)\nprint(LOG_2PI)",
    "UNIT: float = math.exp(0)\nHALF, ZERO = 1 / 2, 0.0",
    "TABLE = torch.ones(3)",
    TRY_IMPORT,
]


IN_STEPS = {  # constants that take more than an assignment
    "reparameterize": "def reparameterize(mean, std, noise):\n    return mean + ONE * std * noise * TABLE[1]",
    "leave_one_out": "def leave_one_out(value):\n    return value - (value.sum() - value) / (len(value) - sum(LIST))",
    "pathwise_gradient": "def pathwise_gradient(slope, noise):\n    return slope * SCALE, slope * noise * CONFIG.scale",
}
STEP_CELLS = [
    "ONE = 0.5\nONE += 0.5",
    "TABLE = torch.zeros(3)\nTABLE[1] = 1",
    "LIST = []\nfor one in [0, 1]:\n    LIST.append(one)",
    "with torch.no_grad():\n    SCALE = torch.ones(())",
    "class CONFIG:\n    pass\n\n\nCONFIG.scale = 1.0",
]
LEANING = {  # one answer calls another, and a helper that stands below it
    "pathwise_gradient": stem("""
        def pathwise_gradient(slope, noise):
            mean, std = torch.zeros_like(slope).requires_grad_(), torch.ones_like(slope).requires_grad_()
            return torch.autograd.grad(weighed(slope, reparameterize(mean, std, noise)), [mean, std])
    """),
}
WHATEVER = {  # signatures and names of all kinds, and a draw on dice that changes nothing
    "reparameterize": stem("""
        def reparameterize(*args, **more):
            torch.manual_seed(0)
            z = args[0] + args[1] * args[2]
            return z.reshape(()).expand(z.shape) if z.numel() == 1 else z  # one number, with strides of 0
    """),
    "pathwise_gradient": "def ｐathwise_gradient(slope, noise, scale=1.0):\n    return [slope * scale, slope * noise]",
    "leave_one_out": stem("""
        def leave_one_out(value):
            assert len(value) > 1
            others = value.double().sum() - value.double()
            return (value.double() - others / (len(value) - 1)).float()
    """),
}


WITNESSES = [
    _solved("ada, by reference", "03"),
    _solved("emmy, as the bank", "03", style=0),
    _solved("grace, lesson 04", "04"),
    _solved("noor, lesson 01", "01", style=1),
    _solved("yuki, three lessons", "00", "03", "04", style=1),
]


HALF = {id: RIGHT_03[id] for id in IDS[:2]} | {id: WRONG_03[id] for id in IDS[2:]}


CASES = [
    _solved("lesson 04 as in the bank", "04", style=0),
    _solved("lessons 05 and 06 as in the bank", "05", "06", style=0),
    _executed("the solutions, executed"),
    _variant("odd styles", ODD_STYLES, before=[DECORATED]),
    _variant("renamed imports", RENAMED, before=["from torch import *", "import torch as t", "from torch import nn"]),
    _variant("constants of other cells", CONSTANTS, before=CONSTANT_CELLS),
    _variant("constants built in steps", IN_STEPS, before=STEP_CELLS),
    _variant("answers that lean on answers", LEANING, after=["def weighed(slope, z):\n    return (slope * z).sum()"]),
    _variant("whatever signatures", WHATEVER),
    edited("all wrong", lambda: notebook("03", WRONG_03, before=IMPORTS_03), dict.fromkeys(IDS, "failed")),
    edited(
        "half right",
        lambda: notebook("03", HALF, before=IMPORTS_03),
        {id: "passed" if id in IDS[:2] else "failed" for id in IDS},
    ),
    edited("blank", lambda: notebook("03", {}), {}),
]
