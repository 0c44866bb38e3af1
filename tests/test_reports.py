"""Reports from rows in which every text is hostile: each is parsed back by a reader that knows nothing of us."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import random
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import mistune
import pytest

from wmcourse.grading.exercise import Draw, Exercise
from wmcourse.grading.records import REASONS, Result, Row, to_json
from wmcourse.grading.reports import class_html, files, read_rows, write_reports
from wmcourse.grading.reports.charts import bins
from wmcourse.grading.reports.items import items
from wmcourse.grading.reports.shown import plain, shown
from wmcourse.grading.reports.text import cell, in_code, in_fence, visible
from wmcourse.grading.verdict import CaseResult

SECRET_NAME = "hidden-name-4711"
SECRET_MESSAGE = "hidden-message-0815"

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "</pre></style></title><svg onload=alert(1)>",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    '  "=1+1',
    "＝1+1",
    'a;=1+1;"+2',
    'x\\",100,"y\\',
    "two\nlines\r\nand\x0bmore\u2028lines",
    "a,b;c\td",
    "```\n# heading\n<b>bold</b>\n[link](http://evil.example) ![image](http://evil.example/x.png)",
    "~~~\n````\n`````html",
    "`code` ``more`` <http://evil.example> https://evil.example www.evil.example a@evil.example",
    "[ok]: javascript:alert(1)",
    "&lt;script&gt; &#0; &amp",
    "]]> <!-- <![CDATA[ <?xml ?> <!DOCTYPE x>",
    os.fsdecode(b"caf\xe9\xff"),
    "nul\x00bell\x07escape\x1b[31m\x7f\x85",
    "\u202etxt.exe\u202c \u2066x\u2069 \ufeff \u200b \ufffe \uffff",
    "x" * 300_000,
    "محمد علي, Zoë, 李, \u0928\u094d\u200d",
    "Points Possible",
    "Student",
    "$x$ $$y$$ \\(z\\) {{ 7*7 }} ${7*7}",
    "",
    "   ",
]


def exercise(name: str, lesson: str, points: int) -> Exercise:
    def reference(x):
        return x

    reference.__name__ = name
    made = Exercise(reference, lesson, points, 5, 1, ("", "", ""), lambda draw: (draw.normal(2),))

    @made.case("first <b>property</b> & *more*")
    def _(answer, draw: Draw) -> None: ...

    return made


EXERCISES = [exercise("alpha", "03_one", 2), exercise("beta", "03_one", 3), exercise("gamma", "04_two", 5)]


def result(one: Exercise, reason: str, text: str = "plain") -> Result:
    kind = reason if reason in ("passed", "failed", "error", "timed out") else "failed"
    cases = (
        CaseResult("first <b>property</b> & *more*", kind, "" if kind == "passed" else text),
        CaseResult("second", "passed", text),
        CaseResult(SECRET_NAME, kind, SECRET_MESSAGE, hidden=True),
        CaseResult(SECRET_NAME + " too", "not run", SECRET_MESSAGE, hidden=True),
    )
    ran = reason not in ("missing", "unreadable", "not run")
    points = one.points if reason == "passed" else 0
    return Result(one.id, reason, points, one.points, cases if ran else (), text, text)


def row(number: int, student: str, reasons: tuple[str, ...], wall: str = "bubblewrap", **more) -> Row:
    results = tuple(result(one, reason, student) for one, reason in zip(EXERCISES, reasons, strict=True))
    known = {
        "canvas_user_id": str(number),
        "moodle_participant": f"Participant {1000 + number}",
        "moodle_name": student,
        "email": student,
        "sid": student,
    }
    status = "unreadable" if set(reasons) == {"unreadable"} else "graded"
    made = Row(student, f"s{number:03d}", status, student, (student + ".ipynb",), results, wall, 0, known)
    return replace(made, **more)


def rows() -> list[Row]:
    dice = random.Random(0)
    made = [row(i, text, tuple(dice.choices(REASONS, k=3))) for i, text in enumerate(HOSTILE)]
    made[3] = replace(made[3], wall="process only")
    made.append(row(len(made), "Ada", ("unreadable",) * 3))
    return made


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_reports(rows(), EXERCISES, folder, wall_note="bwrap <was> not found")
    return folder


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def learner_files(folder: Path) -> list[Path]:
    found = [*folder.glob("feedback/*"), *folder.glob("gradescope/*/*"), *folder.glob("*.csv"), folder / "junit.xml"]
    assert len(found) == 3 * len(rows()) + 4
    return found


def sheet(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


# Every file


def test_the_order_of_the_rows_changes_no_byte(out: Path, tmp_path: Path) -> None:
    mixed = rows()
    random.Random(1).shuffle(mixed)
    write_reports(mixed, EXERCISES, tmp_path, wall_note="bwrap <was> not found")
    assert written(tmp_path) == written(out)
    write_reports(mixed[::-1], EXERCISES, tmp_path, wall_note="bwrap <was> not found")
    assert written(tmp_path) == written(out)


def test_hidden_cases_reach_no_learner(out: Path) -> None:
    for path in learner_files(out):
        text = path.read_text(encoding="utf-8")
        assert SECRET_NAME not in text, path
        assert SECRET_MESSAGE not in text, path
    assert SECRET_NAME in (out / "class.html").read_text(encoding="utf-8")


def test_invisible_characters_become_visible(out: Path) -> None:
    for name, content in written(out).items():
        text = content.decode("utf-8")  # lone surrogates could not have been written
        bad = set(text) & {chr(c) for c in (*range(9), *range(11, 32), *range(127, 160))}
        bad |= set(text) & set(
            "\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202d\u202e\u2066\u2067\u2069\ufeff\ufffe\uffff"
        )
        assert not bad, name


def test_long_texts_are_cut(out: Path) -> None:
    assert max(map(len, written(out).values())) < 200_000
    assert "(cut: 300,000 characters in all)" in (out / "feedback" / "s024.html").read_text(encoding="utf-8")


def test_a_weak_wall_is_said_in_every_report_that_can_say_it(out: Path) -> None:
    student = ("feedback/s003.html", "feedback/s003.md", "gradescope/s003/results.json")
    for name in (*student, "grades.csv", "moodle.csv", "class.html", "junit.xml"):
        assert "process only" in (out / name).read_text(encoding="utf-8"), name
    assert "process only" not in (out / "feedback" / "s004.html").read_text(encoding="utf-8")


def test_no_temporary_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("", "feedback", "gradescope/gone"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / ".0123456789abcdef.wmcourse-tmp").write_text("half")
    kept = tmp_path / "feedback" / "gone.html"
    kept.write_text("of an earlier run")
    write_reports(rows()[:2], EXERCISES, tmp_path)
    assert [name for name in written(tmp_path) if "tmp" in name] == []
    assert kept.read_text() == "of an earlier run"

    def refuse(*_):
        raise OSError("no room")

    before = written(tmp_path)
    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(OSError, match="no room"):
        write_reports(rows()[:3], EXERCISES, tmp_path)
    assert written(tmp_path) == before


@pytest.mark.parametrize(
    "slug", ["", ".", "..", ".x", "../x", "a/b", "a\\b", "a\x00", "a\nb", "\udcff", "C:x", "y" * 300]
)
def test_a_slug_that_is_no_file_name_is_refused(slug: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not fit"):
        write_reports([replace(rows()[0], slug=slug)], EXERCISES, tmp_path)
    assert written(tmp_path) == {}


def test_two_students_never_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share"):
        write_reports(
            [replace(one, slug=slug) for one, slug in zip(rows(), ("ada", "Ada"), strict=False)], [], tmp_path
        )


def test_rows_come_back(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for one in rows():
        (tmp_path / "rows" / f"{one.slug}.json").write_text(to_json(one), encoding="utf-8")
    assert read_rows(tmp_path) == rows()
    (tmp_path / "rows" / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.json"):
        read_rows(tmp_path)


def test_no_rows_and_no_exercises_are_fine(tmp_path: Path) -> None:
    write_reports([], EXERCISES, tmp_path / "a")
    write_reports(rows()[:1], [], tmp_path / "b")
    assert sheet(tmp_path / "a" / "grades.csv") == []
    assert sheet(tmp_path / "b" / "grades.csv")[0]["total"] == "0"


def test_results_follow_the_exercises(tmp_path: Path) -> None:
    one = rows()[0]
    stray = Result("stray", "passed", 7, 7)
    write_reports([replace(one, results=(stray, result(EXERCISES[1], "passed")))], EXERCISES, tmp_path)
    line = sheet(tmp_path / "grades.csv")[0]
    assert [line[key] for key in ("alpha", "beta", "gamma", "total", "max")] == ["0", "3", "0", "3", "10"]
    assert line["alpha reason"] == "not run"


# Text


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t1", "\r1", "\n=1", " =1", '"=1', "＝1", "＠x"])
def test_a_cell_never_begins_a_formula(text: str) -> None:
    assert cell(text).startswith("'")
    assert "'" in cell("a;" + text).split(";")[1][:1] or text[0] in "\t\r\n"


def test_a_cell_of_honest_text_stays_as_it_is() -> None:
    for text in ("Ada Lovelace", "a-b", "x = 1", "O'Neil", "1.5", "Zoë, 李"):
        assert cell(text) == text


def test_visible_text() -> None:
    assert visible("a\x00\u202e\udcff\U000e0041\n") == "a\\x00\\u202e\\udcff\\U000e0041\\n"
    assert visible("a\n\tb\r", lines=True) == "a\n\tb\\r"
    assert visible("abc", 2) == "ab… (cut: 3 characters in all)"


# Tables


def test_no_cell_of_any_sheet_is_a_formula(out: Path) -> None:
    for name in ("grades.csv", "canvas.csv", "moodle.csv"):
        for delimiter in ",;\t|":
            with open(out / name, encoding="utf-8", newline="") as file:
                cells = [one for line in csv.reader(file, delimiter=delimiter) for one in line]
            bad = [one for one in cells if re.match(r'[\s"]*[=+@\t\r＝＋－＠]|[\s"]*-(?!\d+$)', one)]
            assert bad == [], (name, delimiter)
        assert '\\"' not in (out / name).read_text(encoding="utf-8")  # which PHP would take for an escape


def test_grades(out: Path) -> None:
    lines = sheet(out / "grades.csv")
    assert list(lines[0])[:7] == ["student", "alpha", "beta", "gamma", "total", "max", "status"]
    assert [line["slug"] for line in lines] == [f"s{i:03d}" for i in range(len(rows()))]
    for line, one in zip(lines, rows(), strict=True):
        assert int(line["total"]) == one.points == sum(int(line[e.id]) for e in EXERCISES)
        assert int(line["max"]) == 10
        assert [line[f"{e.id} reason"] for e in EXERCISES] == [r.reason for r in one.results]
        assert line["status"] == one.status
    assert lines[3]["student"] == "'=cmd|' /C calc'!A0"
    assert lines[3]["wall"] == "process only"


def test_canvas(out: Path) -> None:
    lines = sheet(out / "canvas.csv")
    assert list(lines[0]) == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "03_one", "04_two"]
    assert lines[0]["Student"].strip() == "Points Possible"
    assert (lines[0]["03_one"], lines[0]["04_two"]) == ("5", "5")
    assert len(lines) == len(rows()) + 1
    for line, one in zip(lines[1:], rows(), strict=True):
        assert line["ID"] == one.external["canvas_user_id"]
        assert int(line["03_one"]) + int(line["04_two"]) == one.points
        assert "Points Possible" not in line["Student"]  # Canvas would read such a line as the points


def test_moodle(out: Path) -> None:
    lines = sheet(out / "moodle.csv")
    for line, one in zip(lines, rows(), strict=True):
        assert line["Identifier"] == one.external["moodle_participant"]
        assert (line["Grade"], line["Maximum Grade"]) == (str(one.points), "10")
        seen = parse(line["Feedback comments"])
        assert set(seen.tags) <= {"br"}
        assert "://" not in seen.text
        assert "www." not in seen.text
    assert len((out / "moodle.csv").read_text(encoding="utf-8").splitlines()) == len(lines) + 1


def test_moodle_without_a_participant_names_nobody(tmp_path: Path) -> None:
    for known in ({}, {"moodle_participant": "=1"}, {"moodle_participant": "12x"}):
        write_reports([replace(rows()[0], external=known)], EXERCISES, tmp_path)
        assert sheet(tmp_path / "moodle.csv")[0]["Identifier"] == ""


# Pages


class Reader(HTMLParser):
    """What a browser would make of a page: its tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text, self.style, self._in, self.open = "", "", "", []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._in = tag
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.style += data
        else:
            self.text += data


def parse(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def pages(out: Path) -> list[Path]:
    return [*sorted((out / "feedback").glob("*.html")), out / "class.html"]


TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "section",
    "div",
    "span",
    "p",
    "br",
    "pre",
    "a",
    "bdi",
}
TAGS |= {"h1", "h2", "h3", "strong", "ul", "li", "dl", "dt", "dd", "details", "summary", "table", "caption", "thead"}
TAGS |= {"tbody", "tr", "th", "td", "svg", "rect", "line", "text"}


def test_pages_hold_no_script_and_fetch_nothing(out: Path) -> None:
    for path in pages(out):
        seen = parse(path.read_text(encoding="utf-8"))
        assert set(seen.tags) <= TAGS, path
        names = {name for _, name, _ in seen.attributes}
        assert not [name for name in names if name.startswith("on") or name in ("src", "srcdoc", "style", "xlink:href")]
        for _, name, value in seen.attributes:
            if name == "href":
                assert re.fullmatch(r"#exercise-\w+|feedback/s\d+\.html", value or "")
        assert "url(" not in seen.style
        assert "@import" not in seen.style


def test_the_policy_allows_the_one_style_and_nothing_else(out: Path) -> None:
    for path in pages(out):
        seen = parse(path.read_text(encoding="utf-8"))
        policy = next(value for tag, name, value in seen.attributes if tag == "meta" and "default-src" in (value or ""))
        digest = base64.b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in (policy or "")
        assert "default-src 'none'" in (policy or "")
        assert "script-src" not in (policy or "")  # default-src 'none' forbids them


def test_hostile_texts_are_read_as_text(out: Path) -> None:
    seen = parse((out / "feedback" / "s000.html").read_text(encoding="utf-8"))
    assert "<script>alert(1)</script>" in seen.text
    assert "first <b>property</b> & *more*" in seen.text
    everyone = parse((out / "class.html").read_text(encoding="utf-8")).text
    for one in rows():
        assert visible(one.student) in everyone


def test_ids_on_a_page_are_unique_and_labels_point_at_them(out: Path) -> None:
    for path in pages(out):
        seen = parse(path.read_text(encoding="utf-8"))
        ids = [value for _, name, value in seen.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        pointed = {value for _, name, value in seen.attributes if name == "aria-labelledby"}
        assert pointed <= set(ids)


def test_markdown_holds_no_markup_of_a_learner(out: Path) -> None:
    render = mistune.create_markdown(escape=False, plugins=["url", "strikethrough", "table", "task_lists", "math"])
    for path in sorted((out / "feedback").glob("*.md")):
        seen = parse(str(render(path.read_text(encoding="utf-8"))))
        assert set(seen.tags) <= {"h1", "h2", "p", "strong", "code", "pre", "ul", "li", "blockquote"}, path
        assert seen.tags["h1"] == 1
        assert seen.tags["h2"] == len(EXERCISES)
        assert not [value for _, name, value in seen.attributes if name != "class"]


@pytest.mark.parametrize("text", ["`", "``", "a`b``c```", "```\n````\n`` `", "~~~", "\n```", "    x", "> x", "- [ ] x"])
def test_fences_and_code_spans_hold(text: str) -> None:
    for made in (f"a {in_code(text)} b\n\n# end", f"{in_fence(text)}\n\n# end"):
        seen = parse(str(mistune.html(made)))
        assert seen.tags["code"] == 1
        assert seen.tags["h1"] == 1


# Platforms


def test_gradescope(out: Path) -> None:
    for one in rows():
        path = out / "gradescope" / one.slug / "results.json"
        told = json.loads(path.read_text(encoding="ascii"))
        assert told["score"] == one.points == sum(test["score"] for test in told["tests"])
        assert told["output_format"] == told["test_output_format"] == "text"
        assert told["stdout_visibility"] == "hidden"
        assert [test["name"] for test in told["tests"]] == [e.id for e in EXERCISES]
        for test, graded in zip(told["tests"], one.results, strict=True):
            assert (test["score"], test["max_score"]) == (graded.points, graded.max_points)
            assert test["status"] == ("passed" if graded.reason == "passed" else "failed")
            assert (test["visibility"], test["output_format"]) == ("visible", "text")


def test_junit(out: Path) -> None:
    root = ElementTree.parse(out / "junit.xml").getroot()
    kinds = {"passed": None, "failed": "failure", "missing": "skipped", "not run": "skipped"}
    assert len(root) == len(rows())
    for suite, one in zip(root, rows(), strict=True):
        assert suite.get("name") == (visible(one.student) if one.student.strip() else "(no name)")
        cases = suite.findall("testcase")
        for case, graded in zip(cases, one.results, strict=True):
            inside = [child.tag for child in case]
            wanted = kinds.get(graded.reason, "error")
            assert inside == ([wanted] if wanted else [])
            assert case.get("name") == graded.id
    for where in (root, *root):
        assert where.get("tests") == str(len(list(where.iter("testcase"))))
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert where.get(name) == str(len(list(where.iter(tag))))


# What is said


def test_hidden_cases_are_counted() -> None:
    seen = shown(result(EXERCISES[0], "failed"))
    assert seen.hidden == "2 hidden cases: 1 did not pass, 1 did not run."
    assert seen.verdict == "Some cases did not pass."
    only = Result("alpha", "failed", 0, 2, (CaseResult("a", "passed"), CaseResult("b", "failed", "why", hidden=True)))
    assert shown(only).verdict == "Every visible case passed, but a hidden one did not."
    assert plain(shown(only)).splitlines()[1:] == ["[passed] a", "1 hidden case: 1 did not pass."]


def test_the_feedback_says_why(out: Path) -> None:
    one = row(0, "Ada", ("failed", "passed", "missing"))
    write_reports([one], EXERCISES, out.parent / "why")
    for name in ("feedback/s000.html", "feedback/s000.md", "gradescope/s000/results.json"):
        text = (out.parent / "why" / name).read_text(encoding="utf-8")
        assert "Ada" in text
        assert "Some cases did not pass." in text
        assert "No answer was found." in text
        assert "2 hidden cases: 1 passed, 1 did not run." in text


def test_item_statistics() -> None:
    class_rows = [row(i, "x", (reason, "passed", "missing")) for i, reason in enumerate(["passed", "failed", "failed"])]
    alpha, beta, gamma = items(class_rows, EXERCISES)
    assert (alpha.passed, alpha.total, alpha.reasons) == (1, 3, {"passed": 1, "failed": 2})
    assert alpha.hardest is not None
    assert (alpha.hardest.name[:5], alpha.hardest.failed, alpha.hardest.ran) == ("first", 2, 3)
    assert beta.hardest is None
    assert (gamma.passed, gamma.cases) == (0, ())
    assert [(case.ran, case.failed) for case in alpha.cases] == [(3, 2), (3, 2), (0, 0), (3, 0)]


@pytest.mark.parametrize("most", [0, 1, 11, 12, 13, 40, 100])
def test_the_histogram_counts_every_score_once(most: int) -> None:
    counted = bins([0, most, *range(most + 1)], most)
    assert len(counted) <= 12
    assert sum(count for *_, count in counted) == most + 3
    assert [first for first, *_ in counted][1:] == [last + 1 for _, last, _ in counted][:-1]
    assert counted[-1][1] == most


def test_the_class_page_says_the_figures() -> None:
    class_rows = [row(0, "Ada", ("passed",) * 3), row(1, "Bob", ("timed out",) * 3), row(2, "Cy", ("unreadable",) * 3)]
    seen = parse(class_html.render(class_rows, EXERCISES)).text
    for told in ("3.3 of 10", "33 %", "timed out", "score in points (of 10)", "unreadable"):
        assert told in seen
    older = replace(class_rows[0], results=(replace(class_rows[0].results[0], points=99), *class_rows[0].results[1:]))
    assert "of 107" in parse(class_html.render([older], EXERCISES)).text
