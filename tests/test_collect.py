"""Hand-ins are found in folders and zips of every kind; no student's files make a row or a word in another's name."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from wmcourse.grading import collect
from wmcourse.grading.collect import HandIns, NoHandIns, Submission, slug_of


def put(path: Path, data: bytes | str = b"{}") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def zipped(path: Path, files: Mapping[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def students(place: Path) -> dict[str, Submission]:
    return {submission.student: submission for submission in HandIns(place)}


def test_a_notebook_a_folder_or_a_zip_a_student(tmp_path) -> None:
    put(tmp_path / "alice.ipynb", "a")
    put(tmp_path / "bob" / "deep" / "03.ipynb", "b")
    zipped(tmp_path / "carol.zip", {"work/03.ipynb": "c"})
    (tmp_path / "dan").mkdir()
    put(tmp_path / "notes.txt")
    put(tmp_path / ".ipynb_checkpoints" / "x.ipynb")
    found = students(tmp_path)
    assert list(found) == ["alice", "bob", "carol", "dan"]
    assert found["alice"].notebooks == {"alice.ipynb": b"a"}
    assert found["bob"].notebooks == {"deep/03.ipynb": b"b"}
    assert found["carol"].notebooks == {"carol.zip/work/03.ipynb": b"c"}
    assert found["dan"].notebooks == {}


def test_an_export_of_canvas(tmp_path) -> None:
    files = {"lovelaceada_111_222_03-1.ipynb": "a", "bob_LATE_112_223_x.ipynb": "b", "de_la_cruz_113_1_x.ipynb": "c"}
    for place in (tmp_path / "folder", zipped(tmp_path / "submissions.zip", files)):
        if place.suffix != ".zip":
            for name, data in files.items():
                put(place / name, data)
        found = students(place)
        assert list(found) == ["bob", "de_la_cruz", "lovelaceada"]
        assert found["lovelaceada"].external == {"canvas_user_id": "111"}
        assert found["lovelaceada"].notebooks == {"03-1.ipynb": b"a"}


def test_an_export_of_moodle(tmp_path) -> None:
    files = {"Ada Lovelace_77_assignsubmission_file_/03.ipynb": "a", "Bob_78_assignsubmission_file_03.ipynb": "b"}
    found = students(zipped(tmp_path / "Course-03.zip", files))
    assert found["Ada Lovelace"].external == {"moodle_participant": "77"}
    assert found["Ada Lovelace"].notebooks == {"03.ipynb": b"a"}
    assert found["Bob"].external == {"moodle_participant": "78"}


def test_an_export_of_gradescope(tmp_path) -> None:
    listed = """submission_7:
  :submitters:
  - {":name": Ada, ":email": ada@x.org, ":sid": "1"}
  - {":name": Bob, ":email": bob@x.org}
"""
    export = {"submission_metadata.yml": listed, "submission_7/03.ipynb": "a", "submission_8/03.ipynb": "b"}
    found = students(zipped(tmp_path / "export.zip", {f"assignment_1_export/{k}": v for k, v in export.items()}))
    assert list(found) == ["Ada, Bob", "submission_8"]
    assert found["Ada, Bob"].external == {"gradescope_submission": "7", "email": "ada@x.org", "sid": "1"}


def test_what_a_student_packs_makes_no_other_row(tmp_path) -> None:
    for name in ("bob_1_2_03.ipynb", "submission_7/03.ipynb", "Bob_1_assignsubmission_file_/03.ipynb"):
        put(tmp_path / "class" / "mallory" / name)
    put(tmp_path / "class" / "mallory" / "submission_metadata.yml", "submission_7: {':submitters': [{':name': Bob}]}")
    assert list(students(tmp_path / "class")) == ["mallory"]
    zipped(tmp_path / "zips" / "mallory.zip", {"bob_1_2_03.ipynb": "x", "alice/03.ipynb": "y"})
    assert list(students(tmp_path / "zips")) == ["mallory"]
    export = {
        "submission_7/..\\03.ipynb": "a",
        "submission_7/../submission_8/b.ipynb": "b",
        "submission_8/b.ipynb": "c",
    }
    found = students(zipped(tmp_path / "export.zip", export))
    assert list(found) == ["submission_7", "submission_8"]
    assert found["submission_8"].notebooks == {"b.ipynb": b"c"}
    assert not found["submission_8"].trouble
    assert found["submission_7"].trouble


def test_links_pipes_and_paths_that_lead_out_are_told_and_not_followed(tmp_path) -> None:
    put(tmp_path / "secret.txt", "secret")
    put(tmp_path / "class" / "alice" / "03.ipynb", "a")
    folder = tmp_path / "class" / "mallory"
    folder.mkdir()
    (folder / "link.ipynb").symlink_to(tmp_path / "class" / "alice" / "03.ipynb")
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.ipynb")
    link = zipfile.ZipInfo("link.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../../out.ipynb", "x")
        archive.writestr("/root.ipynb", "x")
    (tmp_path / "class" / "trudy").symlink_to(tmp_path / "class" / "alice")
    found = students(tmp_path / "class")
    assert found["mallory"].notebooks == {}
    assert len(found["mallory"].trouble) == 6
    assert found["trudy"].notebooks == {}
    assert "symbolic link" in found["trudy"].trouble[0]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_common_packing_is_read(tmp_path, method) -> None:
    zipped(tmp_path / "mallory.zip", {"03.ipynb": "x" * 99}, method)
    assert students(tmp_path)["mallory"].notebooks == {}


def test_bombs_are_bounded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(collect, "MAX_NOTEBOOK", 1000)
    monkeypatch.setattr(collect, "MAX_HANDIN", 2500)
    monkeypatch.setattr(collect, "MAX_FILES", 5)
    zipped(tmp_path / "large.zip", {f"{i}.ipynb": b"0" * 900 for i in range(4)})
    zipped(tmp_path / "many.zip", {f"{i}.ipynb": b"0" for i in range(50)})
    zipped(tmp_path / "one.zip", {"1.ipynb": b"0" * 5000})
    found = students(tmp_path)
    assert len(found["large"].notebooks) == 2
    assert len(found["many"].notebooks) <= 5
    assert found["one"].notebooks == {}
    assert all(submission.trouble for submission in found.values())


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"hello" * 100])
def test_a_broken_zip_is_its_students_trouble(tmp_path, data) -> None:
    put(tmp_path / "class" / "mallory.zip", data)
    put(tmp_path / "class" / "alice.ipynb")
    found = students(tmp_path / "class")
    assert found["alice"].notebooks
    assert not found["mallory"].notebooks
    put(tmp_path / "all.zip", data)
    with pytest.raises(NoHandIns):
        HandIns(tmp_path / "all.zip")


def test_a_zip_with_a_damaged_entry(tmp_path) -> None:
    path = zipped(tmp_path / "class" / "mallory.zip", {"03.ipynb": os.urandom(500), "04.ipynb": "fine"})
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(data)
    found = students(tmp_path / "class")["mallory"]
    assert list(found.notebooks.values()) == [b"fine"]
    assert "cannot be read" in found.trouble[0]


def test_the_outermost_notebook_comes_last(tmp_path) -> None:
    put(tmp_path / "alice" / "old" / "03.ipynb")
    put(tmp_path / "alice" / "03.ipynb")
    assert list(students(tmp_path)["alice"].notebooks) == ["old/03.ipynb", "03.ipynb"]


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_what_holds_no_hand_ins_is_said(tmp_path, name) -> None:
    put(tmp_path / "file.txt")
    with pytest.raises(NoHandIns, match=name):
        HandIns(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoHandIns, match="holds no hand-in"):
        HandIns(tmp_path / "empty")


def test_slugs_are_plain_and_tell_students_apart() -> None:
    assert slug_of("alice-2") == "alice-2"
    names = ["Alice", "ALICE", "alice ", "../alice", "alice\n", "=alice()", "älice", "\udcff", "a" * 300, "CON", "-"]
    slugs = {slug_of(name) for name in names} | {slug_of("alice", "1"), slug_of("alice", "2")}
    assert len(slugs) == len(names) + 2
    assert all(len(slug) < 61 and slug.isascii() and "/" not in slug for slug in slugs)
    assert slug_of(slug_of("Alice")) != slug_of("Alice")
