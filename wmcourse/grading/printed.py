"""What an answer prints: its head is kept, the rest is counted."""

from __future__ import annotations

import io

SHOWN = 600  # characters


class Head(io.TextIOBase):
    """A text stream that keeps its first characters and counts the rest."""

    def __init__(self, limit: int = SHOWN):
        self.limit, self.kept, self.total = limit, "", 0

    def writable(self) -> bool:
        """True: it is there to be written to."""
        return True

    def write(self, text: str, /) -> int:
        """Take a text in."""
        self.kept += text[: max(0, self.limit - len(self.kept))]
        self.total += len(text)
        return len(text)

    def text(self) -> str:
        """What was kept, and how much more there was."""
        more = self.total - len(self.kept)
        return self.kept + (f"... and {more:,} more characters" if more else "")
