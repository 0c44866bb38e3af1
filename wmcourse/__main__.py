"""The command `wmcourse`: start a folder of lessons, bring it up to date, look at your progress."""

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
    arguments = parser.parse_args(argv)
    try:
        return {"start": _start, "progress": _progress}[arguments.command](arguments)
    except OSError as error:
        print(f"wmcourse: {error}", file=sys.stderr)
        return 1


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
