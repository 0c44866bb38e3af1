"""The frame of an HTML page: one file, no script, nothing fetched, dark or light as the reader's system is."""

from __future__ import annotations

import base64
import hashlib

from wmcourse.grading.reports.text import in_html

# The colors of the reasons keep apart in grey and for the color-blind (after Okabe and Ito); words stand beside them.
STYLE = """
:root { color-scheme: light dark; --page: #f7f7f5; --card: #fff; --ink: #1c1d20; --soft: #565a63; --line: #dcdcd6;
  --link: #0b57a4; --good: #00684a; --goodbg: #e0f3ea; --bad: #9a3200; --badbg: #fdebdf; --idle: #4c505a;
  --idlebg: #ececea; --warn: #6b1400; --warnbg: #ffe3d6; --warnline: #d5421a; --code: #f1f1ee; --bar: #0072b2;
  --r-passed: #009e73; --r-failed: #e69f00; --r-error: #d55e00; --r-timed-out: #cc79a7; --r-out-of-memory: #8a5fa8;
  --r-crashed: #50407a; --r-missing: #9aa0a8; --r-unreadable: #5e646c; --r-not-run: #c6cacf; }
@media (prefers-color-scheme: dark) { :root { --page: #16171a; --card: #1f2125; --ink: #e9e9e6; --soft: #a9adb6;
  --line: #363940; --link: #86bdf5; --good: #6fdcb4; --goodbg: #12352a; --bad: #ffae7d; --badbg: #43240f;
  --idle: #bcc0c8; --idlebg: #33363c; --warn: #ffd3c2; --warnbg: #4a1a0b; --warnline: #ff7a4d; --code: #17181b;
  --bar: #4aa3df;  --r-crashed: #7f6cb8; --r-unreadable: #7d838b; --r-not-run: #555a61; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 50rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; overflow-wrap: anywhere; }
main.wide { max-width: 68rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.kind, .soft { color: var(--soft); margin: 0 0 .25rem; }
.score { font-size: 1.15rem; margin: 0; }
.score strong { font-size: 2rem; }
.earned { width: 100%; height: .7rem; margin: .3rem 0 .9rem; }
svg .ground { fill: var(--line); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.25rem 1.1rem;
  margin: 1rem 0; }
.top { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; justify-content: space-between; }
.warning { background: var(--warnbg); color: var(--warn); border: 2px solid var(--warnline);
  border-left-width: .6rem; border-radius: .6rem; padding: .8rem 1.1rem; margin: 1.25rem 0; font-weight: 650; }
.badge { display: inline-block; border-radius: 1rem; padding: .05rem .7rem; font-size: .875rem; font-weight: 650;
  white-space: nowrap; background: var(--idlebg); color: var(--idle); }
.badge.good { background: var(--goodbg); color: var(--good); }
.badge.bad { background: var(--badbg); color: var(--bad); }
.cases { list-style: none; margin: .6rem 0; padding: 0; }
.cases > li { border-top: 1px solid var(--line); padding: .45rem 0; }
.case { display: flex; gap: .7rem; align-items: baseline; }
.case > .badge { flex: none; min-width: 5.6rem; text-align: center; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem;
  margin: .5rem 0; white-space: pre-wrap; overflow-wrap: anywhere; overflow: hidden;
  font: .875rem/1.45 ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; }
.scroll { overflow-x: auto; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0; border-top: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; border-top: 0; white-space: nowrap; }
tbody th { font-weight: 600; }
.whole { white-space: nowrap; }
.whole .soft { font-weight: 400; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
.figures { display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; margin: 0; }
.figures dt { color: var(--soft); font-size: .875rem; }
.figures dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .bar { fill: var(--bar); }
.r-passed { fill: var(--r-passed); } .r-failed { fill: var(--r-failed); } .r-error { fill: var(--r-error); }
.r-timed-out { fill: var(--r-timed-out); } .r-out-of-memory { fill: var(--r-out-of-memory); }
.r-crashed { fill: var(--r-crashed); } .r-missing { fill: var(--r-missing); }
.r-unreadable { fill: var(--r-unreadable); } .r-not-run { fill: var(--r-not-run); }
.legend { display: flex; flex-wrap: wrap; gap: .15rem .9rem; list-style: none; margin: .3rem 0 0; padding: 0;
  font-size: .875rem; }
.legend svg { display: inline-block; vertical-align: -1px; margin-right: .3rem; }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""

# The style is allowed by its hash, so that no other, and no style attribute, takes effect; scripts are not at all.
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def page(title: str, body: str, *, wide: bool = False) -> str:
    """A whole HTML page.

    Args:
        title: plain text.
        body: HTML.
        wide: whether the page holds tables that want more room than a text.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>{in_html(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main{' class="wide"' if wide else ""}>
{body}
</main>
</body>
</html>
"""


def badge(kind: str) -> str:
    """A result as a word on a colored ground."""
    tone = {"passed": " good", "graded": " good", "not run": "", "missing": ""}.get(kind, " bad")
    return f'<span class="badge{tone}">{in_html(kind)}</span>'


def banner(text: str) -> str:
    """A warning that cannot be overlooked; `text` is plain text."""
    return f'<p class="warning" role="note">{in_html(text, 3000)}</p>'
