"""Hand-ins whose answer is a class: objects that stay with the student, and what they can do to whoever asks them."""

from __future__ import annotations

from tests.handins.case import HandInCase, edited, ids_of, notebook, stem
from tests.handins.rights import rights

RIGHT, CELLS = rights("05", 0)


def _class(name: str, above: str, reason: str | int = 0) -> HandInCase:
    """Lesson 05 solved, with something in front of the right WorldModel, or instead of it."""
    cell = f"{RIGHT['WorldModel']}\n\n\n{stem(above)}"
    wanted: dict[str, str | int] = dict.fromkeys(ids_of("05"), "passed")
    return edited(
        name,
        lambda: notebook("05", RIGHT | {"WorldModel": cell}, before=CELLS),
        wanted | {"WorldModel": reason},
        lesson="05",
        needs="any",
    )


CASES = [
    _class(
        "a class in another dress", "Good = WorldModel\n\n\ndef WorldModel(*sizes):\n    return Good(*sizes)", "passed"
    ),
    _class(
        "weights without end",
        """
        class Endless(WorldModel):
            def state_dict(self, *args, **kwargs):
                return {f"weight {i}": "x" * 1000 for i in range(3000)}

            def load_state_dict(self, weights):
                while True:
                    pass

        WorldModel = Endless
        """,
    ),
    _class(
        "an object that is everything",
        """
        class Anything:
            def __init__(self, *sizes):
                self.sizes = sizes

            def __getattr__(self, name):
                return self

            def __call__(self, *args):
                return self

            def __iter__(self):
                while True:
                    yield self

            __getitem__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __abs__ = __call__
            __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True

        WorldModel = Anything
        """,
    ),
    _class(
        "a model that learns the checks",
        """
        class Copycat(WorldModel):
            seen = {}

            def imagine(self, z, actions, horizon):
                for model in [x for x in __import__("gc").get_objects() if type(x).__name__ == "Peer"]:
                    for number in range(20):
                        try:
                            model.call(number, "load_state_dict", ({},), {})
                        except Exception:
                            pass
                noise = torch.rand(len(z), horizon)
                return torch.zeros(len(z), horizon, z.shape[1]) + noise[..., None], noise

        WorldModel = Copycat
        """,
        "failed",
    ),
]
