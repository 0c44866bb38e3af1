"""How a hand-in to lesson 03 is cooked: right but for an answer, the same cheat above or in all of its answers."""

from __future__ import annotations

from collections.abc import Sequence

from nbformat import NotebookNode

from tests.handins.case import HandInCase, edited, ids_of, notebook, stem
from tests.handins.rights import rights

IDS = ids_of("03")


ALL_PASSED: dict[str, str | int] = dict.fromkeys(IDS, "passed")


NOTHING: dict[str, str | int] = dict.fromkeys(IDS, 0)


RIGHT_03, IMPORTS_03 = rights("03")


WRONG_03 = {
    "reparameterize": "def reparameterize(mean, std, noise):\n    return mean + std**2 * noise",
    "pathwise_gradient": "def pathwise_gradient(slope, noise):\n    return slope * noise, slope",
    "score_function_gradient": stem("""
        def score_function_gradient(value, mean, std, z):
            u = (z - mean) / std
            return value * u / std, value * u**2 / std
    """),
    "leave_one_out": "def leave_one_out(value):\n    return value - value.mean()",
    "straight_through": stem("""
        def straight_through(logits, uniform):
            probs = logits.softmax(-1)
            hot = torch.nn.functional.one_hot(probs.argmax(-1), probs.shape[-1]).float()
            return hot + (probs - probs.detach())
    """),
}


def right_03(answers: dict[str, str] | None = None, **cells: Sequence[str]) -> NotebookNode:
    """Lesson 03 solved, some answers replaced."""
    return notebook(
        "03", RIGHT_03 | (answers or {}), before=[*IMPORTS_03, *cells.get("before", [])], after=cells.get("after", ())
    )


def body(id: str, source: str, above: str = "") -> str:
    """An exercise's cell whose function has this body, with statements above it."""
    names = {
        "reparameterize": "mean, std, noise",
        "pathwise_gradient": "slope, noise",
        "score_function_gradient": "value, mean, std, z",
        "leave_one_out": "value",
        "straight_through": "logits, uniform",
    }
    inner = "\n".join(f"    {line}" for line in stem(source).splitlines())
    return "\n\n".join(part for part in (stem(above), f"def {id}({names[id]}):\n{inner}") if part)


def attack(
    name: str, answers: dict[str, str], wanted: dict[str, str | int] | None = None, *, needs: str = "bubblewrap"
) -> HandInCase:
    """Lesson 03 with the bodies of some answers replaced; the others are right, and must stay so.

    Args:
        name: the student.
        answers: a function's body by exercise id.
        wanted: where it isn't 0 points.
        needs: as in HandInCase.
    """
    cells = {id: body(id, source) for id, source in answers.items()}
    true: dict[str, str | int] = ALL_PASSED | dict.fromkeys(answers, 0) | (wanted or {})
    return edited(name, lambda: right_03(cells), true, needs=needs)


def around(
    name: str, above: str, wanted: dict[str, str | int] | None = None, *, needs: str = "bubblewrap"
) -> HandInCase:
    """Lesson 03 solved, with statements above every answer."""
    cells = {id: f"{stem(above)}\n\n{source}" for id, source in RIGHT_03.items()}
    return edited(name, lambda: right_03(cells), ALL_PASSED | (wanted or {}), needs=needs)


def everywhere(name: str, above: str, *, needs: str = "any") -> HandInCase:
    """Wrong answers to all of lesson 03, with the same cheat above each."""
    cells = {id: f"{stem(above)}\n\n\n{source}" for id, source in WRONG_03.items()}
    return edited(name, lambda: notebook("03", cells, before=IMPORTS_03), NOTHING, needs=needs)


def instead(name: str, bodies: str, above: str = "", *, needs: str = "any") -> HandInCase:
    """Every answer of lesson 03 has this body; `args` are its arguments."""
    cells = {
        id: body(id, f"args = tuple(locals().values())\n{stem(bodies)}", f"NAME = '{id}'\n{stem(above)}") for id in IDS
    }
    return edited(name, lambda: notebook("03", cells, before=IMPORTS_03), NOTHING, needs=needs)
