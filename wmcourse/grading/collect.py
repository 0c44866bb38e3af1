"""Find the hand-ins in a folder or a zip file, whoever exported it, and read their bytes; nothing is followed or run.

    alice.ipynb · alice/ · alice.zip                  a notebook, a folder or a zip a student
    name_[LATE_]123_456_file                          Canvas's submissions.zip
    Name_123_assignsubmission_file_[/]file            Moodle's zip
    submission_7/file, submission_metadata.yml        Gradescope's export

These names count at the top level only. A zip or a folder that lies among the hand-ins is one student's, whatever is in
it: what a student packs makes no rows in another's name.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO

MAX_NOTEBOOK = 128 << 20  # bytes; a notebook with 50 MB of outputs is still a notebook
MAX_HANDIN = 256 << 20  # bytes that are read for one student
MAX_FILES = 500  # notebooks and zips of one student
MAX_DIRECTORY = 4 << 20  # bytes of a student's zip that list its files
MAX_DEPTH = 8
SKIPPED = {"__MACOSX", "before-update"}

CANVAS = re.compile(r"(?P<student>.+?)_(?:LATE_)?(?P<canvas_user_id>\d+)_\d+_(?P<file>.+)", re.DOTALL)
MOODLE = re.compile(r"(?P<student>.+?)_(?P<moodle_participant>\d+)_assignsubmission_[a-z]+_?(?P<file>.*)", re.DOTALL)
GRADESCOPE = re.compile(r"(?P<student>submission_(?P<gradescope_submission>\d+))(?P<file>)")


class NoHandIns(ValueError):
    """There is nothing to grade; the message says where it was looked for."""


@dataclass
class Submission:
    """One student's hand-in, as bytes.

    Args:
        student: the name, as it came.
        slug: the same, fit for a file's name; no two students of a batch share one.
        external: numbers by which a platform knows the student.
        notebooks: the bytes of each notebook, by its path within the hand-in; the outermost come last.
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
            for part in (name.encode("utf-8", "surrogatepass"), data):
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
        files = _listed(place)
        names = _gradescope_names(next((f for f in files if f.parts == ("submission_metadata.yml",)), None))
        self._students: dict[str, tuple[str, dict[str, str], list[Found]]] = {}
        for found in files:
            top = found.parts[0].lower()
            if found.trouble or len(found.parts) > 1 or top.endswith((".ipynb", ".zip")):
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
            _Reader(submission).take(files)
            yield submission


def slug_of(student: str, *more: str) -> str:
    """A name fit for a file: plain names as they are, others made plain and told apart by a hash."""
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,59}", student) and not re.search(r"-[0-9a-f]{16}$", student) and not more:
        return student
    plain = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40] or "student"
    key = "\0".join((student, *more)).encode("utf-8", "surrogatepass")
    return f"{plain}-{sha256(key).hexdigest()[:16]}"


def _listed(place: Path) -> list[Found]:
    """Every file below a folder, or in a zip, where a single folder that holds all the rest is left out."""
    if not place.exists():
        raise NoHandIns(f"{place}: there is no such folder")
    if place.is_dir():
        return list(_in_folder(place, ()))
    try:
        files = list(_in_zip(place.open("rb"), place.stat().st_size))
    except Exception as error:
        raise NoHandIns(f"{place} is neither a folder nor a zip file that can be read: {error}") from None
    tops = {top for top, *_ in (found.parts for found in files)}
    if len(tops) == 1 and all(len(found.parts) > 1 for found in files) and not _match(tops.pop(), inside=True):
        files = [Found(found.parts[1:], found.open, found.trouble) for found in files if found.parts[1]]
    return files


def _match(top: str, inside: bool) -> re.Match[str] | None:
    """What a top-level name says of its student; `inside` where it is a folder's."""
    return (
        (MOODLE.fullmatch(top) or GRADESCOPE.fullmatch(top))
        if inside
        else (MOODLE.fullmatch(top) or CANVAS.fullmatch(top))
    )


def _whose(parts: tuple[str, ...], names: dict[str, dict[str, str]]) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """The student, the platform's numbers, and the path that is left."""
    top, rest = parts[0], parts[1:]
    if found := _match(top, inside=bool(rest)):
        external = found.groupdict() | names.get(top, {})
        file = external.pop("file")
        return external.pop("student"), external, rest or (file,)
    return (top, {}, rest) if rest else (os.path.splitext(top)[0], {}, parts)


def _gradescope_names(listed: Found | None) -> dict[str, dict[str, str]]:
    """By folder of a Gradescope export, who handed it in; a group's names stand together."""
    if listed is None or listed.trouble:
        return {}
    try:
        import yaml

        with listed.open() as file:
            submissions = yaml.safe_load(file.read(MAX_NOTEBOOK))
        names = {}
        for folder, facts in submissions.items():
            people = facts[":submitters"]
            names[folder] = {"student": ", ".join(str(person[":name"]) for person in people)}
            names[folder] |= {key: str(people[0][f":{key}"]) for key in ("email", "sid") if people[0].get(f":{key}")}
        return names
    except Exception:  # no PyYAML, or a list that is not what it was: the folders' names will do
        return {}


class _Reader:
    """Reads one student's files into their submission, within limits on what is read at all."""

    def __init__(self, submission: Submission):
        self.submission = submission
        self.room, self.files = MAX_HANDIN, MAX_FILES

    def take(self, files: list[Found], nested: bool = False) -> None:
        for found in sorted(files, key=lambda found: (-len(found.parts), found.parts)):
            kind = os.path.splitext(found.parts[-1])[1].lower()
            name = "/".join(found.parts)
            if found.trouble:
                self.say(name, found.trouble)
            elif kind == ".zip" and nested:
                self.say(name, "is a zip in a zip, which is not looked into")
            elif kind in (".ipynb", ".zip"):
                data = self.read(found, name)
                if data is not None and kind == ".ipynb":
                    self.submission.notebooks[name] = data
                elif data is not None:
                    self.take(self.unzipped(found.parts, data, name), nested=True)

    def say(self, name: str, trouble: str) -> None:
        if len(self.submission.trouble) < 20:
            self.submission.trouble.append(f"{name[:200]}: {trouble}"[:400])

    def read(self, found: Found, name: str) -> bytes | None:
        if self.files <= 0 or self.room <= 0:
            self.say(name, f"left out: no more than {MAX_FILES} files and {MAX_HANDIN >> 20} MB are read of a hand-in")
            return None
        limit = min(MAX_NOTEBOOK, self.room)
        try:
            with found.open() as file:
                data = file.read(limit + 1)
        except Exception as error:  # a zip can be broken in more ways than its module names
            self.files -= 1
            self.say(name, f"cannot be read ({error})")
            return None
        self.files, self.room = self.files - 1, self.room - len(data)
        if len(data) > limit:
            self.say(name, f"larger than {limit >> 20} MB, or than what is left for this hand-in")
            return None
        return data

    def unzipped(self, parts: tuple[str, ...], data: bytes, name: str) -> list[Found]:
        try:
            return [Found((*parts, *f.parts), f.open, f.trouble) for f in _in_zip(BytesIO(data), len(data))]
        except Exception as error:
            self.say(name, f"is not a zip file that can be read ({error})")
            return []


def _in_folder(folder: Path, parts: tuple[str, ...]) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if not parts:
            raise NoHandIns(f"{folder} cannot be read: {error.strerror}") from None
        yield Found(parts, trouble=f"cannot be read ({error.strerror})")
        return
    for entry in entries:
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


def _in_zip(file: IO[bytes], size: int) -> Iterator[Found]:
    """The files in a zip; ValueError where it lists far too many."""
    file.seek(max(0, size - 66_000))
    end = file.read()[-22 - 65_535 :]
    at = end.rfind(b"PK\5\6")
    if at < 0 or struct.unpack("<I", end[at + 12 : at + 16])[0] > MAX_DIRECTORY:
        raise ValueError("it is no zip, or lists far too many files")
    archive = zipfile.ZipFile(file)
    for info in archive.infolist():
        parts = tuple(part for part in info.filename.split("/") if part not in ("", ".", ".."))
        if not parts or parts[0].startswith(".") or parts[0] in SKIPPED:
            continue
        if info.is_dir() or any(part.startswith(".") or part in SKIPPED for part in parts):
            yield Found((parts[0], ""))
        elif info.filename.startswith("/") or ".." in info.filename.split("/") or "\\" in info.filename:
            yield Found(parts, trouble="has a path that leads out of the zip file")
        elif stat.S_ISLNK(info.external_attr >> 16):
            yield Found(parts, trouble="is a symbolic link, which is not followed")
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > MAX_NOTEBOOK:
            yield Found(parts, trouble=f"larger than {MAX_NOTEBOOK >> 20} MB, or packed in a way that is not read")
        else:
            yield Found(parts, lambda info=info: archive.open(info))
