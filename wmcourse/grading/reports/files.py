"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

_MARK = ".wmcourse-tmp"


def write_whole(path: Path, text: str) -> None:
    """Write text as UTF-8 so that a reader sees the old file or the new one, never half of it.

    The folder is made where it is missing. The file gets the permissions that any new file gets (unlike one of
    tempfile's, which only its owner may read).

    Raises:
        OSError: the file cannot be written; then the old one stands, and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{secrets.token_hex(8)}{_MARK}"
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed run left directly in a folder."""
    for leftover in folder.glob(f".*{_MARK}"):
        with contextlib.suppress(OSError):
            leftover.unlink()
