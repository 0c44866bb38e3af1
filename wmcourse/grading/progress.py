"""Which exercises a learner has solved: a small JSON file that can never stop a lesson."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import platformdirs

from wmcourse.grading.exercise import Exercise


def progress_path() -> Path:
    """The progress file: $WMCOURSE_PROGRESS where it is set, else the user's data folder."""
    named = os.environ.get("WMCOURSE_PROGRESS")
    return Path(named) if named else Path(platformdirs.user_data_dir("wmcourse")) / "progress.json"


def read_progress() -> tuple[dict[str, str], str]:
    """The solved exercises (id to the time it was solved, ISO 8601) and a sentence on what is wrong with the file."""
    path = progress_path()
    try:
        solved = json.loads(path.read_text(encoding="utf-8"))["solved"]
        return {str(key): str(when) for key, when in solved.items()}, ""
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"progress could not be read from {path}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, f"the progress file {path} is damaged; it is kept as {path.name}.damaged and a new one begun"


def remember(id: str) -> str:
    """Note an exercise as solved; the sentence that comes back says what went wrong, and is empty where nothing did."""
    path = progress_path()
    solved, trouble = read_progress()
    if id in solved:
        return trouble
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if "damaged" in trouble:
            path.replace(path.with_name(path.name + ".damaged"))
        solved[id] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        _write_whole(path, json.dumps({"solved": solved}, indent=1))
    except OSError as error:
        return f"progress could not be written to {path}: {error.strerror or error}; the lesson goes on without it"
    return trouble


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees the old file or the new one, never half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def progress_table(exercises: Sequence[Exercise]) -> str:
    """The table that `wmcourse progress` prints: a line per exercise, and a sum."""
    solved, trouble = read_progress()
    lines = [f"{'lesson':<28} {'exercise':<28} {'level':<5} {'points':>6}  solved"]
    for exercise in exercises:
        level = "*" * exercise.difficulty
        when = solved.get(exercise.id, "")[:10] or "open"
        lines.append(f"{exercise.lesson:<28} {exercise.id:<28} {level:<5} {exercise.points:>6}  {when}")
    done = [exercise for exercise in exercises if exercise.id in solved]
    points, total = sum(e.points for e in done), sum(e.points for e in exercises)
    lines.append(f"{len(done)} of {len(exercises)} exercises, {points} of {total} points")
    return "\n".join([trouble, *lines] if trouble else lines)
