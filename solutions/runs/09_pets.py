"""Lesson 09's learning curves: the PETS agent on Pendulum-v1 and on the CartPole swing-up, several seeds each.

    python solutions/runs/09_pets.py                                   # both tasks, seeds 0 to 4
    python solutions/runs/09_pets.py --only pendulum --seeds 0 --out quick.json
    python solutions/runs/09_pets.py --merge FOLDER                    # what was run in pieces, into one file

Writes one JSON file into the package (wmcourse/runs), where the lesson finds it: per task and seed the mean return of 20
(swing-up: 10) evaluation episodes after so many real steps and so many seconds of CPU (evaluations not counted), each
episode's own return, and the share of them in which the pole stands through the last 50 steps. A run that is in the file
already is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor
from tqdm import tqdm

import wmcourse
from wmcourse.evaluation import evaluate
from wmcourse.planners import MPC
from wmcourse.planning import PETSConfig, pets, pets_policy, search_for
from wmcourse.replay import random_policy
from wmcourse.simulators import UPRIGHT, make_swingup, pendulum, swingup
from wmcourse.worlds import make_pendulum

OUT = Path(wmcourse.__file__).parent / "runs" / "09_pets.json"


class Task(NamedTuple):
    make: Callable[[], gym.Env]
    simulator: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    search: dict[str, int]
    hidden: tuple[int, ...]
    episodes: int  # real ones, the first at random
    every: int  # so many of them between two evaluations
    judged: int  # episodes of an evaluation


TASKS = {
    "pendulum": Task(
        make_pendulum, pendulum, {"horizon": 15, "candidates": 30}, (64, 64), 4, 1, 20
    ),
    "swing-up": Task(
        make_swingup, swingup, {"horizon": 25, "candidates": 40}, (128, 128), 14, 2, 10
    ),
}


def judge(policy: Callable[[Tensor], Any], task: Task) -> dict[str, Any]:
    """Returns of the evaluation episodes, and in which the pole stood through the last 50 steps."""
    seen: list[Tensor] = []

    def watched(obs: Tensor) -> Any:
        seen.append(obs)
        return policy(obs)

    returns = evaluate(watched, task.make, task.judged)
    cos = torch.stack(seen[-50:])[..., 2 if task.make is make_swingup else 0]
    return {
        "return": returns.mean().item(),
        "returns": returns.tolist(),
        "stands": (cos > UPRIGHT).all(0).float().mean().item(),
    }


def ceiling(name: str) -> dict[str, Any]:
    """The same search in the true simulator, and actions drawn at random."""
    task = TASKS[name]
    env = task.make()
    search = search_for(env, **task.search)
    found = {
        "true model": judge(MPC(task.simulator, search, torch.Generator().manual_seed(0)), task)
    }
    draw = random_policy(env, 0)
    found["random"] = judge(lambda obs: torch.stack([torch.as_tensor(draw(o)) for o in obs]), task)
    return found


def learn(name: str, seed: int) -> list[dict[str, Any]]:
    """One agent's life: a point an evaluation."""
    task = TASKS[name]
    env, config = task.make(), PETSConfig(hidden=task.hidden)
    search, points = search_for(env, **task.search), []
    spent, since = 0.0, time.process_time()
    life = tqdm(
        pets(env, config, search, task.episodes, seed),
        total=task.episodes,
        desc=f"{name}, seed {seed}",
    )
    for k, progress in enumerate(life):
        spent += time.process_time() - since
        if k % task.every == 0 or k == task.episodes - 1:
            point = judge(pets_policy(progress.model, env, config, search, seed), task)
            episode = progress.episode.reward.sum().item()
            points.append({"steps": progress.steps, "seconds": spent, "episode": episode, **point})
            life.set_postfix(
                steps=progress.steps, mean=f"{point['return']:.1f}", stands=point["stands"]
            )
        since = time.process_time()
    return points


def merged(into: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Two nests of results as one; what both hold stays as in the first."""
    for key, value in more.items():
        into[key] = (
            merged(into[key], value) if isinstance(into.get(key), dict) else into.get(key, value)
        )
    return into


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(5)))
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--merge", type=Path, nargs="*", default=[], help="files, or folders of files, to take in"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    for path in args.merge:
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            merged(found, json.loads(file.read_text()))
    if args.merge:
        args.out.write_text(json.dumps(found))
        return
    for name in args.only:
        kept = found.setdefault(name, {})
        if "true model" not in kept:
            kept |= ceiling(name)
        for seed in args.seeds:
            if str(seed) not in kept.setdefault("PETS", {}):
                kept["PETS"][str(seed)] = learn(name, seed)
            args.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
