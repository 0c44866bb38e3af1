"""The command `wmcourse`: start a folder of lessons, bring it up to date, look at your progress, grade a class."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; 0 where it worked, 1 where it could not, with a line that says why."""
    parser = argparse.ArgumentParser(prog="wmcourse", description="World models, built by you.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="copy the lessons into a folder of your own")
    start.add_argument("folder", type=Path)
    start.add_argument("--update", action="store_true", help="bring newer lessons in; your answers are carried over")
    commands.add_parser("progress", help="which exercises you have solved")
    _add_grade(commands.add_parser("grade", help="grade a folder of hand-ins"))
    zipped = commands.add_parser("gradescope", help="write the autograder zip that Gradescope wants")
    zipped.add_argument("--lesson", required=True, metavar="NN")
    zipped.add_argument("--out", type=Path, required=True, metavar="FILE.zip")
    zipped.add_argument("--seed", type=int, help="for the cases' inputs; without it every grading draws its own")
    zipped.add_argument("--cases", type=Path, metavar="FILE.py", help="hidden cases of your own")
    arguments = parser.parse_args(argv)
    run = {"start": _start, "progress": _progress, "grade": _grade, "gradescope": _gradescope}[arguments.command]
    try:
        return run(arguments)
    except (OSError, ValueError) as error:
        print(f"wmcourse: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("wmcourse: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def _add_grade(command: argparse.ArgumentParser) -> None:
    command.add_argument("handins", type=Path, help="a folder or a zip with a folder or a notebook for each student")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where grades and feedback go")
    command.add_argument("--lesson", default="", metavar="NN", help="grade this lesson alone, 03 for example")
    command.add_argument("--jobs", type=int, default=1, metavar="N", help="hand-ins graded at once on this machine")
    command.add_argument("--seed", type=int, help="for the cases' inputs; secret and new where it is not given")
    command.add_argument("--dask", default="", metavar="ADDRESS", help="grade on a Dask cluster: tcp://host:8786")
    command.add_argument("--cases", type=Path, metavar="FILE.py", help="hidden cases of your own")
    command.add_argument("--seconds", type=_seconds, default=10.0, help="for one call of an answer (default 10)")
    command.add_argument(
        "--allow-process-only",
        action="store_true",
        help="grade even without bubblewrap, when hand-ins could read your files",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 3600:
        raise argparse.ArgumentTypeError(f"should be above 0 and below 3600, and {text} came")
    return seconds


def _grade(arguments: argparse.Namespace) -> int:
    if sys.platform == "win32":
        raise ValueError("grading needs Linux (or macOS, process only); on Windows use WSL 2")
    from wmcourse.grading.batch import grade_class, summary
    from wmcourse.grading.sandbox import Limits

    seconds = arguments.seconds
    rows = grade_class(
        arguments.handins,
        arguments.out,
        lesson=arguments.lesson,
        jobs=arguments.jobs,
        seed=arguments.seed,
        dask=arguments.dask,
        process_only=arguments.allow_process_only,
        cases=arguments.cases,
        limits=Limits(call=seconds, exercise=6 * seconds, handin=30 * seconds),
    )
    print(summary(rows, arguments.out))
    return 0


def _gradescope(arguments: argparse.Namespace) -> int:
    from wmcourse.grading.autograder import write_autograder

    write_autograder(arguments.lesson, arguments.out, seed=arguments.seed, cases=arguments.cases)
    print(f"{arguments.out}: upload it on Gradescope under Configure Autograder")
    return 0


def _start(arguments: argparse.Namespace) -> int:
    from wmcourse.authoring.start import start

    print("\n".join(start(arguments.folder, update=arguments.update)))
    print(f"Your lessons are in {arguments.folder}. Open 00_start_here.ipynb there: jupyter lab {arguments.folder}")
    return 0


def _progress(arguments: argparse.Namespace) -> int:
    from wmcourse.exercises import catalogue
    from wmcourse.grading.progress import progress_table

    print(progress_table(catalogue()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
