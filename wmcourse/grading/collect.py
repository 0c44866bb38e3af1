"""Find the hand-ins in a folder or a zip file, whoever exported it, and read their bytes; nothing is followed or run.

    alice.ipynb · alice/ · alice.zip                a notebook, a folder or a zip a student
    name_[LATE_]123_456_file                        Canvas's submissions.zip, flat
    Full Name_123_assignsubmission_file_/file       Moodle's zip
    submission_7/file, submission_metadata.yml      Gradescope's export

An export is unpacked by itself where it is all there is: as HANDINS, or alone in it. A zip that lies among others is
one student's, whatever is in it: what a student packs must not make rows in another's name.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO

MAX_NOTEBOOK = 200 << 20  # bytes; a notebook with 50 MB of outputs is still a notebook
MAX_HANDIN = 400 << 20  # bytes of all notebooks of one student
MAX_FILES = 2_000
MAX_DEPTH = 8
SKIPPED = {"__MACOSX", "before-update"}

CANVAS = re.compile(r"^(?P<student>[^_]+)_(?:LATE_)?(?P<canvas_user_id>\d+)_\d+_(?P<file>.+)$", re.DOTALL)
MOODLE = re.compile(r"^(?P<student>.+)_(?P<moodle_participant>\d+)_assignsubmission_\w+$", re.DOTALL)
GRADESCOPE = re.compile(r"^(?P<student>submission_(?P<gradescope_submission>\d+))$")


class NoHandIns(ValueError):
    """There is nothing to grade; the message says where it was looked for."""


@dataclass
class Submission:
    """One student's hand-in, as bytes.

    Args:
        student: the name, as it came.
        slug: the same, fit for a file's name; no two students of a batch share one.
        external: numbers by which a platform knows the student.
        notebooks: the bytes of each notebook, by its path within the hand-in.
        trouble: what could not be taken in, a sentence each.
    """

    student: str
    slug: str
    external: dict[str, str] = field(default_factory=dict)
    notebooks: dict[str, bytes] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    def fingerprint(self) -> str:
        """Changes when anything that was handed in does."""
        digest = sha256()
        for name, data in (*self.notebooks.items(), *((sentence, b"") for sentence in self.trouble)):
            for part in (name.encode("utf-8", "surrogateescape"), data):
                digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()


@dataclass(frozen=True)
class Found:
    """A file below the hand-ins: the parts of its path, and how to open it; or what is wrong with it."""

    parts: tuple[str, ...]
    open: Callable[[], IO[bytes]] = BytesIO
    trouble: str = ""


class HandIns:
    """What there is to grade: `len()` of it, and iteration reads one submission after another, in the order of slugs.

    Raises:
        NoHandIns: there is no such folder or zip file, or nothing in it.
    """

    def __init__(self, place: Path):
        files, names = _listed(place)
        self._students: dict[str, tuple[str, dict[str, str], list[Found]]] = {}
        for found in files:
            student, external, rest = _whose(found.parts, names)
            slug = slug_of(student, *external.values())
            mine = self._students.setdefault(slug, (student, external, []))[2]
            mine.append(Found(rest, found.open, found.trouble))
        if not self._students:
            raise NoHandIns(f"{place} holds no hand-in: a folder, a notebook or a zip for each student is looked for")

    def __len__(self) -> int:
        return len(self._students)

    def __iter__(self) -> Iterator[Submission]:
        for slug in sorted(self._students):
            student, external, files = self._students[slug]
            submission = Submission(student, slug, external)
            _take(files, submission)
            yield submission


def slug_of(student: str, *more: str) -> str:
    """A name fit for a file: plain names as they are, others made plain and told apart by a hash."""
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,59}", student) and not re.search(r"-[0-9a-f]{12}$", student) and not more:
        return student
    plain = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40] or "student"
    key = "\0".join((student, *more)).encode("utf-8", "surrogateescape")
    return f"{plain}-{sha256(key).hexdigest()[:12]}"


def _listed(place: Path) -> tuple[list[Found], dict[str, dict[str, str]]]:
    """Every file below a folder or in a zip, and what a Gradescope export's list says of its submissions."""
    if not place.exists():
        raise NoHandIns(f"{place}: there is no such folder")
    if place.is_file():
        try:
            files = list(_in_zip(place.open("rb")))
        except Exception as error:
            raise NoHandIns(f"{place} is neither a folder nor a zip file that can be read: {error}") from None
    else:
        files = list(_in_folder(place, ()))
        if len(files) == 1 and len(files[0].parts) == 1 and files[0].parts[0].lower().endswith(".zip"):
            with contextlib.suppress(Exception):  # what cannot be read is a student's, who is told
                inside = list(_in_zip(files[0].open()))
                files = inside if any(_export(found.parts) for found in inside) else files
    tops = {found.parts[0] for found in files}
    if len(tops) == 1 and any(_export(found.parts[1:]) for found in files):  # an export in a folder of its own
        files = [Found(found.parts[1:], found.open, found.trouble) for found in files if len(found.parts) > 1]
    listed = next((found for found in files if found.parts == ("submission_metadata.yml",)), None)
    names = _gradescope_names(listed) if listed else {}
    return [found for found in files if _may_hold_an_answer(found)], names


def _export(parts: tuple[str, ...]) -> bool:
    top = next(iter(parts), "")
    return any(kind.match(top) for kind in (CANVAS, MOODLE, GRADESCOPE))


def _may_hold_an_answer(found: Found) -> bool:
    return bool(found.trouble) or len(found.parts) > 1 or found.parts[0].lower().endswith((".ipynb", ".zip"))


def _gradescope_names(listed: Found) -> dict[str, dict[str, str]]:
    try:
        import yaml

        with listed.open() as file:
            submissions = yaml.safe_load(file.read(MAX_NOTEBOOK))
        people = {folder: facts[":submitters"][0] for folder, facts in submissions.items()}
        keys = {"student": ":name", "email": ":email", "sid": ":sid"}
        return {
            folder: {name: str(person[key]) for name, key in keys.items() if person.get(key)}
            for folder, person in people.items()
        }
    except Exception:  # no PyYAML, or a list that is not what it was: the folders' names will do
        return {}


def _whose(parts: tuple[str, ...], names: dict[str, dict[str, str]]) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """The student, the platform's numbers, and the path that is left."""
    top, rest = parts[0], parts[1:]
    found = (MOODLE.match(top) or GRADESCOPE.match(top)) if rest else CANVAS.match(top)
    if found:
        external = found.groupdict() | names.get(top, {})
        return external.pop("student"), external, rest or (external.pop("file"),)
    return (top, {}, rest) if rest else (os.path.splitext(top)[0], {}, parts)


def _take(files: list[Found], submission: Submission, nested: bool = False) -> None:
    """Read a student's notebooks into their submission, those in zips, too."""
    for found in sorted(files, key=lambda found: found.parts):
        name = "/".join(found.parts)
        kind = found.parts[-1].lower() if found.parts else ""
        if found.trouble:
            submission.trouble.append(f"{name}: {found.trouble}")
        elif len(submission.notebooks) >= MAX_FILES:
            submission.trouble.append(f"more than {MAX_FILES} notebooks: the rest was left out")
            return
        elif kind.endswith(".ipynb"):
            _read(found, name, submission)
        elif kind.endswith(".zip") and not nested:
            try:
                inside = list(_in_zip(found.open()))
            except Exception as error:  # a zip can be broken in more ways than its module names
                submission.trouble.append(f"{name}: is not a zip file that can be read ({error})"[:200])
                continue
            _take([Found((*found.parts, *f.parts), f.open, f.trouble) for f in inside], submission, nested=True)


def _read(found: Found, name: str, submission: Submission) -> None:
    room = min(MAX_NOTEBOOK, MAX_HANDIN - sum(map(len, submission.notebooks.values())))
    try:
        with found.open() as file:
            data = file.read(room + 1)
    except Exception as error:  # of a zip's many kinds of compression each raises its own
        submission.trouble.append(f"{name}: cannot be read ({error})"[:200])
        return
    if len(data) > room:
        submission.trouble.append(f"{name}: larger than the {room >> 20} MB that are left for this hand-in")
    else:
        submission.notebooks[name] = data


def _in_folder(folder: Path, parts: tuple[str, ...]) -> Iterator[Found]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        here = (*parts, entry.name)
        if entry.name.startswith(".") or entry.name in SKIPPED:
            continue
        if entry.is_symlink():
            yield Found(here, trouble="is a symbolic link, which is not followed")
        elif entry.is_file():
            yield Found(here, lambda path=entry.path: _open(path))
        elif not entry.is_dir() or len(here) > MAX_DEPTH:
            yield Found(here, trouble="is neither a file nor a folder that is looked into")
        else:
            yield Found((*here, ""))  # an empty folder is a hand-in, too
            yield from _in_folder(Path(entry.path), here)


def _open(path: str) -> IO[bytes]:
    """Open a regular file and nothing else: no link put there meanwhile, no pipe that never ends."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("not a regular file")
    return os.fdopen(handle, "rb")


def _in_zip(file: IO[bytes]) -> Iterator[Found]:
    archive = zipfile.ZipFile(file)
    for info in archive.infolist()[: 10 * MAX_FILES]:
        parts = tuple(part for part in info.filename.split("/") if part not in ("", "."))
        if not parts or info.is_dir() or any((p.startswith(".") and p != "..") or p in SKIPPED for p in parts):
            continue
        if info.filename.startswith("/") or ".." in parts or "\\" in info.filename:
            yield Found((parts[-1],), trouble="has a path that leads out of the zip file")
        elif stat.S_ISLNK(info.external_attr >> 16):
            yield Found(parts, trouble="is a symbolic link, which is not followed")
        else:
            yield Found(parts, lambda info=info: archive.open(info))
