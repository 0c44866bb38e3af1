"""How long grading takes: per hand-in against one import of torch, two jobs against one, and beside nbgrader autograde.

    python -m bench.grader --handins 12 --rounds 3           writes bench/results/grader.md

Everything is honest: a lesson's executed solution, handed in under many names. Rounds are interleaved and medians of
their ratios reported, since the machine may have other things to do.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tqdm import tqdm

ROOT = Path(__file__).parents[1]


def seconds(act: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.monotonic()
    act()
    return time.monotonic() - start


def import_torch() -> None:
    """What every process that grades must pay: a fresh Python that imports torch."""
    subprocess.run([sys.executable, "-c", "import torch"], check=True)


def classroom(folder: Path, lesson: Path, count: int) -> Path:
    """A folder of `count` honest hand-ins."""
    for number in range(count):
        (folder / f"student{number:03}").mkdir(parents=True)
        shutil.copy(lesson, folder / f"student{number:03}")
    return folder


def grade(handins: Path, lesson: str, jobs: int) -> float:
    """Seconds that `wmcourse grade` takes, from the shell and back."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "wmcourse", "grade", str(handins), "--out", out, "--lesson", lesson]
        command += ["--jobs", str(jobs)]
        taken = seconds(lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=sys.stderr))
        grades = Path(out, "grades.csv").read_text(encoding="utf-8").splitlines()
        assert all(",passed," in line and ",failed," not in line for line in grades[1:]), (
            "an honest hand-in lost points"
        )
        return taken


def nbgrader_seconds(lesson: Path) -> float | None:
    """Seconds of `nbgrader autograde` for one hand-in; None where nbgrader is not installed."""
    if importlib.util.find_spec("nbgrader") is None:
        return None
    from tests.test_nbgrader import autograde, release

    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        release(course, "lesson", [lesson])
        handed_in = course / "submitted" / "ada" / "lesson"
        handed_in.mkdir(parents=True)
        shutil.copy(lesson, handed_in)
        return seconds(lambda: autograde(course, "lesson"))


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handins", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lesson", default="03")
    options = parser.parse_args()
    lesson = next((ROOT / "solutions").glob(f"{options.lesson}_*.ipynb"))
    few = max(2, options.handins // 3)
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        many_in = classroom(Path(folder, "many"), lesson, options.handins)
        few_in = classroom(Path(folder, "few"), lesson, few)
        for _ in tqdm(range(options.rounds), unit=" rounds"):
            torch_in = median(seconds(import_torch) for _ in range(3))
            start, one, two = (
                grade(few_in, options.lesson, 1),
                grade(many_in, options.lesson, 1),
                grade(many_in, options.lesson, 2),
            )
            start_two = grade(few_in, options.lesson, 2)
            each, each_two = ((t - s) / (options.handins - few) for t, s in ((one, start), (two, start_two)))
            found = {"import torch": torch_in, "one job": each, "two jobs": each_two, "two jobs, all in": one / two}
            found |= {"nbgrader": beside} if (beside := nbgrader_seconds(lesson)) else {}
            rounds.append(found)
    report = table(rounds, options, lesson.stem)
    print(report)
    (ROOT / "bench" / "results" / "grader.md").write_text(report, encoding="utf-8")


def table(rounds: list[dict[str, float]], options: argparse.Namespace, lesson: str) -> str:
    """The results in Markdown."""

    def ratio(of: str, to: str) -> str:
        ratios = [found[of] / found[to] for found in rounds if of in found]
        return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "not installed"

    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)) / 2**20
    lines = [
        f"# The grader, {options.handins} honest hand-ins of {lesson}, {options.rounds} rounds",
        "",
        f"`python -m bench.grader --lesson {options.lesson} --handins {options.handins} --rounds {options.rounds}`; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}. Medians over rounds, and their range.",
        "",
        "| what | |",
        "|---|---|",
        f"| one import of torch | {median(found['import torch'] for found in rounds):.2f} s |",
        f"| a hand-in, one job, over one import of torch | {ratio('one job', 'import torch')} |",
        f"| hand-ins a minute, two jobs over one | {ratio('one job', 'two jobs')} |",
        f"| the same with start-up included | {median(found['two jobs, all in'] for found in rounds):.2f} |",
        f"| nbgrader autograde, one hand-in, over one of ours (one job) | {ratio('nbgrader', 'one job')} |",
        f"| largest process | {peak:.2f} GB |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
