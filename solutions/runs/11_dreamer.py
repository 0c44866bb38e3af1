"""Lesson 11's agent as a command: train it, go on after a kill, and see what a checkpoint earns.

    python solutions/runs/11_dreamer.py train pendulum --seed 0 --folder runs/pendulum-0
    python solutions/runs/11_dreamer.py evaluate pendulum runs/pendulum-0 --episodes 20

Tasks: pendulum (from state), pixels (Pendulum from frames of 16 x 16, no velocity given), cartpole. A folder holds
checkpoint.pt and log.csv, written after every episode; the same command goes on from there, and the table is the same,
to the last digit, as that of a run which nothing stopped. `--enough R` ends when an evaluation reaches R; `--set
steps=2000 horizon=10` changes the settings of the agent and of the schedule.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import gymnasium as gym
import torch

from wmcourse.behavior import analytic_loss, reinforce_loss
from wmcourse.dreamer import CARTPOLE, PENDULUM, PIXELS, Dreamer
from wmcourse.training import Run, Schedule, unit_actions
from wmcourse.worlds import make_cartpole, make_pendulum


def pendulum() -> gym.Env:
    """Pendulum-v1 from state."""
    return unit_actions(make_pendulum())


def pixels() -> gym.Env:
    """Pendulum-v1 from frames."""
    return unit_actions(make_pendulum(pixels=True, frame_size=PIXELS.obs[-1]))


def cartpole() -> gym.Env:
    """CartPole-v1 from state."""
    return unit_actions(make_cartpole())


TASKS = {
    "pendulum": (pendulum, PENDULUM, analytic_loss, Schedule(4_000)),
    "pixels": (
        pixels,
        PIXELS,
        analytic_loss,
        Schedule(6_000, prefill=5, warm_up=500, batch=16, length=16),
    ),
    "cartpole": (
        cartpole,
        CARTPOLE,
        reinforce_loss,
        Schedule(6_000, prefill=20, batch=16, length=16, evaluate_every=5),
    ),
}


def make(task: str, seed: int, device: str, changes: Sequence[str] = ()) -> Run:
    """A run that has not begun; changes are NAME=VALUE of the task's DreamerConfig and Schedule.

    Raises:
        ValueError: a change that is not NAME=VALUE, or a name that neither has.
    """
    make_env, config, loss, schedule = TASKS[task]
    for name, _, value in (change.partition("=") for change in changes):
        try:
            if hasattr(schedule, name):
                schedule = replace(schedule, **{name: json.loads(value)})
            else:
                config = replace(config, **{name: json.loads(value)})
        except (TypeError, json.JSONDecodeError):
            names = ", ".join(field.name for kind in (schedule, config) for field in fields(kind))
            raise ValueError(
                f"--set {name}={value}: expected NAME=NUMBER (or true, false) with a NAME of: {names}"
            ) from None
    return Run(Dreamer(config, seed, device, actor_loss=loss), make_env, schedule, seed)


def train(args: argparse.Namespace) -> None:
    """Train; the summary goes to stdout and, with --out, into a JSON file."""
    run = make(args.task, args.seed, args.device, args.set)
    rows = run.train(args.folder, args.enough, f"{args.task}, seed {args.seed}")
    seen = [row for row in rows if "evaluation" in row]
    final = run.evaluate()
    found = {
        "task": args.task,
        "seed": args.seed,
        "device": args.device,
        "steps": [row["steps"] for row in seen],
        "evaluation": [row["evaluation"] for row in seen],
        "seconds": [row["seconds"] for row in seen],
        "updates": rows[-1]["updates"],
        "final": final.mean().item(),
    }
    if args.ship:
        kept = {
            "modules": run.agent.state_dict(),
            "steps": len(run.replay),
            "seed": args.seed,
            "final": found["final"],
        }
        torch.save(
            kept | {"episodes": [tuple(episode) for episode in run.replay.episodes[-3:]]}, args.ship
        )
    print(
        f"{args.task}, seed {args.seed}: {found['final']:.1f} after {rows[-1]['steps']} steps, {run.seconds:.0f} s"
    )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found), encoding="utf-8")


def evaluate(args: argparse.Namespace) -> None:
    """The returns of a checkpoint, on starts of its own."""
    run = make(args.task, 0, args.device)
    run.resume(args.folder)
    returns = run.evaluate(args.episodes, args.start)
    print(f"{len(returns)} episodes from seed {args.start}, after {len(run.replay)} real steps:")
    print(f"mean {returns.mean():.1f}, least {returns.min():.1f}, most {returns.max():.1f}")


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    learn, look = commands.add_parser("train"), commands.add_parser("evaluate")
    for command in (learn, look):
        command.add_argument("task", choices=list(TASKS))
        command.add_argument("--device", default="cpu", help="cpu, or cuda")
    learn.add_argument("--seed", type=int, default=0)
    learn.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="settings, steps=2000 for example",
    )
    learn.add_argument(
        "--enough", type=float, default=float("inf"), help="end when an evaluation reaches this"
    )
    learn.add_argument(
        "--folder", type=Path, help="where checkpoint.pt and log.csv are kept, and found"
    )
    learn.add_argument("--out", type=Path, help="a JSON file for the curve")
    learn.add_argument(
        "--ship",
        type=Path,
        metavar="FILE",
        help="the agent and its last three episodes, in one file",
    )
    look.add_argument("folder", type=Path)
    look.add_argument("--episodes", type=int, default=20)
    look.add_argument("--start", type=int, default=10_000, help="the first episode's seed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        {"train": train, "evaluate": evaluate}[args.command](args)
    except ValueError as error:  # what the user asked for cannot be done
        parser.error(str(error))


if __name__ == "__main__":
    main()
