"""junit.xml: the class as a test report, for a CI that shows such."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from wmcourse.grading.exercise import Exercise
from wmcourse.grading.records import Row
from wmcourse.grading.reports.shown import plain, shown, warning, weak
from wmcourse.grading.reports.text import visible

_KINDS = {"passed": "", "failed": "failure", "missing": "skipped", "not run": "skipped"}  # the rest are errors


def render(rows: Sequence[Row], exercises: Sequence[Exercise], wall_note: str = "") -> str:
    """A suite per student and a case per exercise; hidden cases are as little in it as in the learners' own pages.

    A failed exercise is a failure; a missing one, or one that did not run, is skipped; every other end is an error.
    """
    root = Element("testsuites", name="wmcourse")
    for row in rows:
        root.append(_suite(row, exercises, wall_note))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(row: Row, exercises: Sequence[Exercise], wall_note: str) -> Element:
    kinds = [_KINDS.get(result.reason, "error") for result in row.results]
    suite = Element("testsuite", name=visible(row.student), tests=str(len(kinds)))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(kinds.count(kind)))
    properties = SubElement(suite, "properties")
    for name, value in (("slug", row.slug), ("status", row.status), ("wall", row.wall), ("seed", str(row.seed))):
        SubElement(properties, "property", name=name, value=visible(value))
    for exercise, result, kind in zip(exercises, row.results, kinds, strict=True):
        case = SubElement(suite, "testcase", classname=visible(exercise.lesson), name=visible(result.id))
        if kind:
            seen = shown(result)
            SubElement(case, kind, message=visible(f"{result.reason}: {seen.verdict}")).text = plain(seen)
    if weak(row):
        SubElement(suite, "system-err").text = warning(wall_note)
    return suite
