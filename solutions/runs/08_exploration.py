"""Lesson 08's exploration: how much of the rusty pendulum's states is seen in 1,000 steps, by what drives it.

    python solutions/runs/08_exploration.py                                  # all drives, seeds 0 to 9; resumes
    python solutions/runs/08_exploration.py --only disagreement --seeds 0 1 --out part.json
    python solutions/runs/08_exploration.py --merge part.json other.json

Writes one JSON file into the package (wmcourse/runs), where the lesson finds it: per drive and seed the number of
cells visited after every 50 steps. A run that is in the file already is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import wmcourse
from wmcourse.ensembles import EnsembleModel, Prediction, disagreement, fit_ensemble
from wmcourse.exploration import cells_seen, explore, on_the_circle
from wmcourse.replay import Transitions
from wmcourse.worlds import make_rusty_pendulum

STEPS, EVERY = 1_000, 50
SETTINGS = dict(hidden=(64, 64), steps=300, batch=128, learning_rate=3e-3, gain=3**0.5)


def learn(data: Transitions, seed: int) -> EnsembleModel:
    return fit_ensemble(data, seed=seed, **SETTINGS)


def clones(data: Transitions, seed: int) -> EnsembleModel:
    """The negative control: one member, five times."""
    model = learn(data, seed)
    with torch.no_grad():
        for part in model.net.parameters():
            part.copy_(part[:1].expand_as(part).clone())
    return model


def driven(bonus: Callable[[EnsembleModel, Prediction], Tensor]) -> Callable[[EnsembleModel], Any]:
    """Plans are made in the members' mean, and earn what `bonus` says."""

    def model_of(model: EnsembleModel):
        def step(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
            said = model.predict(obs, action)
            return on_the_circle(said.mean.mean(0)), bonus(model, said)

        return step

    return model_of


def doubt(model: EnsembleModel, said: Prediction) -> Tensor:
    return disagreement(said.mean, model.target_std[:-1])


def noise(model: EnsembleModel, said: Prediction) -> Tensor:
    return (said.std / model.target_std[:-1]).mean((0, -1))


def reward(model: EnsembleModel, said: Prediction) -> Tensor:
    return said.reward.mean(0)


DRIVES = {
    "random, every step": (None, doubt, 1),
    "random, held": (None, doubt, 5),
    "disagreement": (learn, doubt, 5),
    "disagreement of clones": (clones, doubt, 5),
    "predicted noise": (learn, noise, 5),
    "reward": (learn, reward, 5),
}
ALL = [*DRIVES, "random, held, no rust", "disagreement, no rust"]


def run(drive: str, seed: int, steps: int = STEPS) -> list[int]:
    """The cells visited after every EVERY steps."""
    how, bonus, hold = DRIVES[drive.removesuffix(", no rust")]
    env = make_rusty_pendulum(**({"rust": 0.0} if drive.endswith(", no rust") else {}))
    life = explore(env, how, driven(bonus), steps=steps, seed=seed, hold=hold)
    return cells_seen(life.next_obs)[EVERY - 1 :: EVERY].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10)))
    parser.add_argument("--only", nargs="*", default=ALL, choices=ALL)
    parser.add_argument("--merge", type=Path, nargs="*", default=[])
    parser.add_argument(
        "--out", type=Path, default=Path(wmcourse.__file__).parent / "runs" / "08_exploration.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[int]]] = (
        json.loads(options.out.read_text()) if options.out.exists() else {}
    )
    for part in options.merge:
        for drive, runs in json.loads(part.read_text()).items():
            found.setdefault(drive, {}).update(runs)
    todo = [] if options.merge else [(d, s) for s in options.seeds for d in options.only]
    for drive, seed in (bar := tqdm(todo)):
        bar.set_description(f"{drive}, seed {seed}")
        if str(seed) not in found.setdefault(drive, {}):
            found[drive][str(seed)] = run(drive, seed)
            options.out.write_text(json.dumps(found) + "\n")
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
