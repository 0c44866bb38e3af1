"""Progress is remembered, and no state of its file can stop a lesson."""

from __future__ import annotations

import os

import pytest

from wmcourse.__main__ import main
from wmcourse.exercises import check
from wmcourse.grading import progress


def right(mean, std, noise):
    return mean + std * noise


def test_the_table_shows_what_is_solved(capsys) -> None:
    check("reparameterize", right)
    assert main(["progress"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert "open" not in next(row for row in rows if " reparameterize " in row and "03_" in row)
    assert "open" in next(row for row in rows if "straight_through" in row)
    assert rows[-1].startswith("1 of ")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"solved": 3}', "\x00\xff", '{"solved": ["a"]}'])
def test_a_damaged_file_is_set_aside(text, capsys) -> None:
    path = progress.progress_path()
    path.write_text(text, encoding="latin-1")
    assert check("reparameterize", right) is right
    assert "is damaged" in capsys.readouterr().out
    assert path.with_name(path.name + ".damaged").read_text(encoding="latin-1") == text
    assert list(progress.read_progress()[0]) == ["reparameterize"]


def test_a_folder_that_cannot_be_written_is_said_and_passed_over(capsys, monkeypatch, tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("WMCOURSE_PROGRESS", str(blocked / "below" / "progress.json"))
    assert check("reparameterize", right) is right
    assert "the lesson goes on without it" in capsys.readouterr().out
    assert main(["progress"]) == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_file_is_said_and_passed_over(capsys) -> None:
    path = progress.progress_path()
    path.parent.chmod(0o500)
    try:
        assert check("reparameterize", right) is right
        assert "could not be written" in capsys.readouterr().out
    finally:
        path.parent.chmod(0o700)


def test_nothing_is_left_half_written(monkeypatch) -> None:
    check("reparameterize", right)
    before = progress.progress_path().read_text()

    def fails(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress.os, "replace", fails)
    assert "No space left" in progress.remember("straight_through")
    assert progress.progress_path().read_text() == before
    assert [path.name for path in progress.progress_path().parent.iterdir()] == ["progress.json"]
