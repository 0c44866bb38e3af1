"""Blank notebooks, handed in under names that break CSV files, web pages, spreadsheets and file systems."""

from __future__ import annotations

import os
from pathlib import Path

from tests.handins.case import HandInCase, notebook, text_of
from tests.handins.damaged import FILE


def _named(label: str, student: str) -> HandInCase:
    """A notebook without an answer, so that a name costs little; its row must be there, and in every report."""

    def build(folder: Path) -> None:
        (folder / student).mkdir()
        (folder / student / FILE).write_text(text_of(notebook("03", {})))

    return HandInCase(label, build, {}, needs="any", student=student)


CASES = [
    _named("name: formula", "=cmd|' !C calc'!A0"),
    _named("name: plus, at", "+1+1@SUM(A1)"),
    _named("name: script", "<script>alert(1)<img src=x onerror=alert(1)>"),
    _named("name: quotes", 'Robert\'); DROP TABLE "students";--, &amp; {{7*7}} %s'),
    _named("name: line break", "two\nlines\r\tand;a,tab"),
    _named("name: option", "--out=@canary@"),
    _named("name: long", "long " * 50),
    _named("name: right to left", "\u202egpj.exe\u202c\u200b\ufeff ünïcödé 学生"),
    _named("name: not UTF-8", os.fsdecode(b"caf\xe9 \xff\xfe")),
    _named("name: NFC", "Zo\u00eb"),
    _named("name: NFD", "Zoe\u0308"),
    _named("name: upper case", "ADA, BY REFERENCE"),
    _named("name: dots", "grades.csv.."),
]
