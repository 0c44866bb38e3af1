"""Text that students wrote, made fit to show: whatever a format could take for a command becomes a visible letter.

Names, file names, notes, messages and printed text pass through here before they enter any report.
"""

from __future__ import annotations

import html
import re
import unicodedata

NAME, NOTE, MESSAGE, PRINTED = 200, 1000, 2000, 4000  # characters of each that a report shows

_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
# Control, format and line-breaking characters, and lone halves of a pair. Format characters hold the overrides that
# turn text around; two of them are spared below, since Persian, Hindi and others are written with them.
_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_SPARED = "\u200c\u200d"
_NOT_XML = "\ufffe\uffff"

_FORMULA = "=+\\-@＝＋－＠"
# A spreadsheet that takes ";" for the separator sees a new cell behind it, quoted or not.
_CELL_STARTS = re.compile(rf"(^|;)(?=[\s\"]*[{_FORMULA}])")
_STARTS_HIDDEN = re.compile(rf"[\t\r\n\v\f]|\s*[{_FORMULA}]")


def visible(text: str, limit: int = NAME, *, lines: bool = False) -> str:
    """The text with every character that is invisible, or that could act, written out as an escape such as \\u202e.

    Args:
        text: anything, lone surrogates included.
        limit: characters that are kept; a longer text ends in a remark on how much there was.
        lines: whether line feeds and tabs stay what they are.

    Returns:
        Text that UTF-8 can write and XML 1.0 allows.
    """
    kept = "\n\t" if lines else ""
    shown = "".join(char if char in kept else _letter(char) for char in text[:limit])
    return shown if len(text) <= limit else f"{shown}… (cut: {len(text):,} characters in all)"


def _letter(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char not in _NOT_XML and (char in _SPARED or unicodedata.category(char) not in _ESCAPED):
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cell(text: str, limit: int = NAME) -> str:
    """Text for a cell of a CSV file that a spreadsheet may open: an apostrophe stands before what would be a formula.

    Numbers of our own do not pass through here, and stay numbers.
    """
    shown = visible(text, limit)
    shown = _CELL_STARTS.sub(r"\1'", shown)
    if _STARTS_HIDDEN.match(text) and not shown.startswith("'"):
        shown = "'" + shown
    # PHP's reader, and so Moodle, takes a backslash before a quote for an escape: part the two, also at the cell's end.
    shown = shown.replace('\\"', '\\ "')
    return shown + " " if shown.endswith("\\") else shown


def in_html(text: str, limit: int = NAME, *, lines: bool = False) -> str:
    """Text for an HTML element or a quoted attribute."""
    return html.escape(visible(text, limit, lines=lines), quote=True)


def in_code(text: str, limit: int = NAME) -> str:
    """Text as a Markdown code span: nothing in it is markup, not even an address."""
    shown = visible(text, limit).strip() or "(empty)"
    ticks = "`" * (_longest_run(shown) + 1)
    pad = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def in_fence(text: str, limit: int = MESSAGE) -> str:
    """Text as a Markdown code block, its fence longer than any run of backticks in it."""
    shown = visible(text, limit, lines=True).strip("\n")
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}text\n{shown}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
