"""Charts as inline SVG, drawn from the data: a histogram of scores, a bar of a share, a bar of reasons."""

from __future__ import annotations

from collections.abc import Sequence

from wmcourse.grading.records import REASONS
from wmcourse.grading.reports.text import in_html

_BINS = 12  # at most
_LEFT, _TOP, _WIDE, _HIGH = 56, 22, 640, 220  # the plot's corner and size inside the picture


def bins(scores: Sequence[int], most: int) -> list[tuple[int, int, int]]:
    """Scores counted in bins of equal width: (first, last, count), the last bin cut off at `most`.

    Args:
        scores: whole numbers from 0 to `most`.
        most: the highest score there can be.
    """
    width = -(-(most + 1) // _BINS)
    firsts = range(0, most + 1, width)
    return [(first, min(first + width - 1, most), sum(first <= s < first + width for s in scores)) for first in firsts]


def histogram(scores: Sequence[int], most: int) -> str:
    """A histogram of scores with axes, labels and a number on each bar."""
    counted = bins(scores, most)
    top = max((count for *_, count in counted), default=0)
    step = max(1, -(-top // 5))
    ceiling = max(step, -(-top // step) * step)
    marks = [_mark(value, ceiling) for value in range(0, ceiling + 1, step)]
    slot = _WIDE / len(counted)
    bars = [_bar(place, slot, one, ceiling) for place, one in enumerate(counted)]
    said = "; ".join(f"{_span(first, last)} points: {count}" for first, last, count in counted)
    low, right = _TOP + _HIGH, _LEFT + _WIDE
    size = f'viewBox="0 0 {right + 16} {low + 52}" width="{right + 16}"'
    return f"""<svg {size} role="img" aria-label="{in_html(said, 1000)}">
{"".join(marks)}
{"".join(bars)}
<line class="axis" x1="{_LEFT}" y1="{low}" x2="{right}" y2="{low}"/>
<text x="{_LEFT + _WIDE / 2:g}" y="{low + 44}" text-anchor="middle">score in points (of {most})</text>
<text transform="translate(14 {_TOP + _HIGH / 2:g}) rotate(-90)" text-anchor="middle">hand-ins</text>
</svg>"""


def _mark(value: int, ceiling: int) -> str:
    y = f"{_TOP + _HIGH * (1 - value / ceiling):.1f}"
    return (
        f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_LEFT + _WIDE}" y2="{y}"/>'
        f'<text x="{_LEFT - 8}" y="{y}" dy="4" text-anchor="end">{value}</text>'
    )


def _bar(place: int, slot: float, one: tuple[int, int, int], ceiling: int) -> str:
    first, last, count = one
    x, tall = _LEFT + place * slot, _HIGH * count / ceiling
    middle, y = f"{x + slot / 2:.1f}", _TOP + _HIGH - tall
    label = f'<text x="{middle}" y="{_TOP + _HIGH + 20}" text-anchor="middle">{_span(first, last)}</text>'
    if not count:
        return label
    return (
        f'<rect class="bar" x="{x + slot * 0.08:.1f}" y="{y:.1f}" width="{slot * 0.84:.1f}" height="{tall:.1f}"/>'
        f'<text x="{middle}" y="{y - 5:.1f}" text-anchor="middle">{count}</text>{label}'
    )


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"


def share_bar(part: int, whole: int) -> str:
    """A part of a whole as a bar across the page; the number stands beside it in words."""
    width = f"{100 * part / whole:.1f}" if whole else "0"
    return (
        '<svg class="earned" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="ground" width="100" height="10"/><rect class="r-passed" width="{width}" height="10"/></svg>'
    )


def reasons_bar(reasons: dict[str, int]) -> str:
    """How the hand-ins ended, as one bar in parts and as words."""
    total = sum(reasons.values()) or 1
    parts, start = [], 0.0
    for reason, count in reasons.items():
        wide = 300 * count / total
        parts.append(f'<rect class="{_tone(reason)}" x="{start:.1f}" y="0" width="{wide:.1f}" height="14"/>')
        start += wide
    legend = "".join(f"<li>{_key(reason)}{in_html(reason)} {count}</li>" for reason, count in reasons.items())
    bar = f'<svg viewBox="0 0 300 14" width="300" height="14" aria-hidden="true">{"".join(parts)}</svg>'
    return f'{bar}<ul class="legend">{legend}</ul>'


def _key(reason: str) -> str:
    patch = f'<rect class="{_tone(reason)}" width="10" height="10"/>'
    return f'<svg width="10" height="10" aria-hidden="true">{patch}</svg>'


def _tone(reason: str) -> str:
    return "r-" + reason.replace(" ", "-") if reason in REASONS else "r-not-run"
