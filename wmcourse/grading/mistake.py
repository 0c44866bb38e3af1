"""How a case or an answer can go wrong: the exceptions that everything else in grading speaks of. Imports nothing."""

from __future__ import annotations


class Mistake(Exception):
    """What a case found wrong, in the learner's words.

    Args:
        likely: the likely mistake, and best a question to think about; never the answer.
        came: what came instead of what was asked (shape, value, largest difference).
    """

    def __init__(self, likely: str, *, came: str = ""):
        super().__init__(likely)
        self.likely, self.came = likely, came

    def __str__(self) -> str:
        return "\n".join(line for line in (self.came and f"came:   {self.came}", f"likely: {self.likely}") if line)


EDITED = "an input was edited in place: work on a new tensor (x = x + 1, not x += 1)"


class Stopped(BaseException):
    """An answer had to be stopped; not an Exception, so that no `except Exception` can hold it."""

    kind = "error"


class TimeUp(Stopped):
    """The answer used up its time."""

    kind = "timed out"


class Crashed(Stopped):
    """The process that ran the answer is gone."""

    kind = "crashed"
