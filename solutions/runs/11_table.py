"""Lesson 11's table: every method of the course on Pendulum-v1, five seeds each, in one file.

    python solutions/runs/11_table.py FOLDER            # Dreamer's runs, and those of lessons 09 and 10
    python solutions/runs/11_table.py FOLDER --show     # and print the table

FOLDER holds what `11_dreamer.py train ... --out FOLDER/NAME.json` wrote, one file a run. The other methods come from the
files of lessons 09 and 10 in wmcourse/runs, and `random` is played here. Writes wmcourse/runs/11_table.json:
{method: {seed: {"steps", "evaluation", "seconds", "final"}}}; evaluation is the mean return of 20 episodes without
dice, at so many real steps, after so many seconds of CPU spent on training. Nothing that is there already is lost.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import wmcourse
from wmcourse.evaluation import evaluate, steps_to_reach
from wmcourse.replay import random_policy
from wmcourse.worlds import make_pendulum

RUNS = Path(wmcourse.__file__).parent / "runs"
NAMES = {"pendulum": "Dreamer", "pixels": "Dreamer from pixels", "cartpole": "Dreamer on CartPole"}
OTHERS = ("random", "SAC", "SAC, 20 updates", "PETS", "MBPO")
GOALS = {"Dreamer from pixels": -250.0, "Dreamer on CartPole": 450.0}  # -200 for all others
KEPT = ("steps", "evaluation", "seconds", "final", "updates")


def dreamed(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs that 11_dreamer.py wrote into a folder, by method and seed."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("**/*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(NAMES[run["task"]], {})[str(run["seed"])] = {
            name: run[name] for name in KEPT
        }
    return found


def others(name: str) -> dict[str, dict[str, Any]]:
    """The runs on Pendulum-v1 of another lesson's file, by method and seed; none where the file is not there."""
    path = RUNS / name
    group = (
        json.loads(path.read_text(encoding="utf-8")).get("pendulum", {}) if path.exists() else {}
    )
    return {
        method: {seed: as_run(run) for seed, run in group[method].items()}
        for method in OTHERS
        if _has_runs(group, method)
    }


def _has_runs(group: dict[str, Any], method: str) -> bool:
    return all(key.isdigit() for key in group.get(method, ["none"]))


def as_run(run: Any) -> dict[str, Any]:
    """A run as this table has it; lesson 09 keeps a list of points, each with `steps` and `return`."""
    if isinstance(run, dict):
        return {name: run[name] for name in KEPT if name in run}
    found = {
        "steps": [point["steps"] for point in run],
        "evaluation": [point["return"] for point in run],
    }
    seconds = [point["seconds"] for point in run if "seconds" in point]
    return {**found, "seconds": seconds, "final": run[-1]["return"]}


def at_random(seed: int) -> dict[str, Any]:
    """Actions that know nothing."""
    act = random_policy(make_pendulum(), seed)
    final = evaluate(lambda obs: [act(row) for row in obs], make_pendulum).mean().item()
    return {"steps": [0], "evaluation": [final], "seconds": [0.0], "final": final, "updates": 0}


def line(method: str, runs: dict[str, Any]) -> str:
    """A line of the table: medians over the seeds."""
    goal = GOALS.get(method, -200.0)
    reached, seconds = [], []
    for run in runs.values():
        reached.append(steps_to_reach(run["steps"], run["evaluation"], goal=goal))
        spent = [
            s
            for step, s in zip(run["steps"], run.get("seconds", []), strict=False)
            if step <= reached[-1]
        ]
        seconds.append(spent[-1] if spent else float("nan"))
    finals = [run.get("final", run["evaluation"][-1]) for run in runs.values()]
    parts = f"{statistics.median(reached):>8.0f}  {statistics.median(seconds):>7.0f}  {statistics.median(finals):>7.0f}"
    return (
        f"{method:<22}{len(runs):>6}  {goal:>5.0f}  {parts}  {min(finals):.0f} to {max(finals):.0f}"
    )


def main() -> None:
    """Collect, write, show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=RUNS / "11_table.json")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    table = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    fresh = [dreamed(args.folder)] if args.folder else []
    fresh += [others(name) for name in ("09_pets.json", "10_mbpo.json")]
    for found in fresh:
        for method, runs in found.items():
            table.setdefault(method, {}).update(runs)
    if "random" not in table:
        table["random"] = {str(seed): at_random(seed) for seed in range(5)}
    args.out.write_text(json.dumps(table), encoding="utf-8")
    if args.show:
        print(
            f"{'method':<22}{'seeds':>6}  {'goal':>5}  {'steps':>8}  {'seconds':>7}  {'final':>7}  from to"
        )
        print("\n".join(line(method, runs) for method, runs in table.items()))


if __name__ == "__main__":
    main()
