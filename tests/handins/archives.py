"""Zip files that lead out, explode or break, and the exports of three platforms."""

from __future__ import annotations

import io
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.handins.case import HandInCase, canaries, text_of
from tests.handins.damaged import FILE
from tests.handins.recipes import ALL_PASSED, right_03


def _zip(
    name: str, fill: Callable[[zipfile.ZipFile, Path], None], wanted: dict[str, str | int] | None = None
) -> HandInCase:
    """A student's zip; unreadable unless something is wanted."""

    def build(folder: Path) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            warnings.simplefilter("ignore")  # of duplicate names
            fill(archive, folder)

    return HandInCase(name, build, wanted or {}, "graded" if wanted else "unreadable", needs="any")


def _traversal(archive: zipfile.ZipFile, folder: Path) -> None:
    """Paths that lead out, into a neighbor's folder, to the canaries; and a link to a neighbor's notebook."""
    neighbor = folder / "ada, by reference" / FILE
    places = ["../traversed.ipynb", f"../{neighbor.parent.name}/{FILE}", str(canaries(folder) / "absolute.ipynb")]
    places += ["..\\backslash.ipynb", "C:\\drive.ipynb", "a/../../up.ipynb"]
    for place in places:
        archive.writestr(place, text_of(right_03()))
    link = zipfile.ZipInfo("link.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, str(neighbor))


def _bomb(archive: zipfile.ZipFile, folder: Path) -> None:
    blank = b" " * (42 << 20)
    archive.compresslevel = 1
    for number in range(4):
        with archive.open(f"{number}.ipynb", "w") as entry:
            for _ in range(5):
                entry.write(blank)


def _zip_in_zip(archive: zipfile.ZipFile, folder: Path) -> None:
    """The notebook is two zips deep, where nobody looks; beside it a zip that holds itself by name."""
    data = text_of(right_03()).encode()
    for _ in range(3):
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as nested:
            nested.writestr("inner.ipynb" if data[:2] != b"PK" else "inner.zip", data)
        data = inner.getvalue()
    archive.writestr("outer.zip", data)


def _broken_entries(archive: zipfile.ZipFile, folder: Path) -> None:
    """A right notebook, and beside it entries that each break a reader in another way."""
    archive.writestr(f"lesson/{FILE}", text_of(right_03()))
    for kind in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        place = archive.fp.tell()  # type: ignore[union-attr]
        info = zipfile.ZipInfo(f"broken{kind}.ipynb")
        archive.writestr(info, bytes(range(256)) * 100, compress_type=kind)
        archive.fp.seek(place + 60)  # type: ignore[union-attr]
        archive.fp.write(b"\xff" * 40)  # type: ignore[union-attr]
        archive.fp.seek(archive.start_dir)  # type: ignore[union-attr]
    encrypted = zipfile.ZipInfo("secret.ipynb")
    archive.writestr(encrypted, "x")
    archive.filelist[-1].flag_bits |= 1


def _export(name: str, student: str, entries: Callable[[], dict[str, str]], wanted: dict[str, str | int]) -> HandInCase:
    def build(folder: Path) -> None:
        for path, text in entries().items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)

    return HandInCase(name, build, wanted, needs="any", student=student)


CASES = [
    _zip("zipped", lambda archive, folder: archive.writestr(f"my work/{FILE}", text_of(right_03())), ALL_PASSED),
    _zip("zip that leads out", _traversal),
    _zip("zip bomb", _bomb),
    _zip("zip in zip", _zip_in_zip),
    _zip("zip with broken entries", _broken_entries, ALL_PASSED),
    HandInCase(
        "no zip at all",
        lambda folder: (folder / "no zip at all.zip").write_bytes(b"PK\x03\x04" + b"\xff" * 500),
        {},
        status="unreadable",
        needs="any",
    ),
    _export(
        "from Canvas",
        "doejane",
        lambda: {f"doejane_LATE_1234_567890_{FILE}": text_of(right_03())},
        ALL_PASSED,
    ),
    _export(
        "from Moodle",
        "Søren Å_B",
        lambda: {f"Søren Å_B_9876_assignsubmission_file_/{FILE}": text_of(right_03())},
        ALL_PASSED,
    ),
    _export("from Gradescope", "submission_4711", lambda: {f"submission_4711/{FILE}": text_of(right_03())}, ALL_PASSED),
]
