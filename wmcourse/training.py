"""Training: real steps and updates in turn, a table of what happened, checkpoints that go on exactly.

Episode by episode: play one with the policy as it is, add it to the replay, make as many updates as its steps are
worth, and from time to time look how well it does without dice. Everything random hangs on the seed: episode number i
starts from a seed of its own, and the generators are part of a checkpoint. So a run that was killed and resumed writes
the same table, to the last digit, as one that was not (on one machine, seconds aside).
"""

from __future__ import annotations

import csv
import os
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor
from tqdm import tqdm

from wmcourse.evaluation import evaluate
from wmcourse.replay import Episode, Replay, Sequences, record_episode

Row = dict[str, float]
NEVER = float("inf")
CHECKPOINT = "checkpoint.pt"


class BadCheckpoint(ValueError):
    """A folder holds no checkpoint, or one that this run cannot go on from; the message names the file and why."""


class Agent(Protocol):
    """What `Run` asks of an agent; wmcourse.dreamer.Dreamer is one."""

    generator: torch.Generator
    optimizers: dict[str, torch.optim.Optimizer]

    def learn(self, batch: Sequences) -> dict[str, Tensor]:
        """One update; scalars to log."""
        ...

    def act(self, obs: Tensor, memory: Any = None, greedy: bool = False) -> tuple[Tensor, Any]:
        """Actions (N, A) for observations (N, *O), and what to remember until the next call."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As torch.nn.Module has it."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """As torch.nn.Module has it."""
        ...


def unit_actions(env: gym.Env) -> gym.Env:
    """The same world with actions as agents have them: continuous ones in [-1, 1], discrete ones as one-hot vectors."""
    space = env.action_space
    if isinstance(space, Discrete):
        box = Box(0.0, 1.0, (int(space.n),), np.float32)
        return gym.wrappers.TransformAction(env, lambda one_hot: int(np.argmax(one_hot)), box)
    return gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))


class Player:
    """An agent at play, for one row of episodes from their first observation on: observations (N, *O) to (N, A)."""

    def __init__(self, agent: Agent, greedy: bool = False):
        self.agent, self.greedy, self.memory = agent, greedy, None

    def __call__(self, obs: Tensor) -> Tensor:
        """One step more; it remembers, so a new row of episodes wants a new player."""
        action, self.memory = self.agent.act(obs, self.memory, self.greedy)
        return action.cpu()

    def alone(self, obs: np.ndarray) -> np.ndarray:
        """For one episode without a batch axis, as wmcourse.replay.record_episode asks."""
        return self(torch.as_tensor(obs)[None])[0].numpy()


@dataclass(frozen=True)
class Schedule:
    """How much of what."""

    steps: int  # real ones, in all
    prefill: int = 3  # episodes before the first update
    warm_up: int = 300  # updates made at once then
    ratio: float = 1.0  # updates a real step from then on
    batch: int = 32  # B
    length: int = 8  # T
    evaluate_every: int = 1  # episodes; 0 is never
    episodes: int = 20  # of an evaluation


class Run:
    """One training run.

    Args:
        agent: it is trained in place.
        make_env: makes the world, its actions as unit_actions has them.
        schedule: how much of what.
        seed: the first episode's world starts from it, and the batches are drawn by it.
    """

    def __init__(self, agent: Agent, make_env: Callable[[], gym.Env], schedule: Schedule, seed: int = 0):
        self.agent, self.make_env, self.schedule, self.seed = agent, make_env, schedule, seed
        self.env, self.replay = make_env(), Replay()
        self.generator = torch.Generator().manual_seed(seed)
        self.rows: list[Row] = []
        self.owed, self.updates = 0.0, 0
        self.seconds = 0.0  # of CPU, evaluations not counted: other work on the machine does not lengthen them

    @property
    def over(self) -> bool:
        """Whether all real steps are made."""
        return len(self.replay) >= self.schedule.steps

    def advance(self) -> Row:
        """One episode, the updates that it is worth, and an evaluation where one is due. The table's new row."""
        began, s = time.process_time(), self.schedule
        player = Player(self.agent)
        number = len(self.replay.episodes)
        episode = record_episode(self.env, player.alone, seed=1_000_000 * (1 + self.seed) + number)
        self.replay.add(episode)
        self.owed += s.ratio * len(episode.action)
        if number + 1 <= s.prefill:
            self.owed = s.warm_up if number + 1 == s.prefill else 0.0
        found = self._learn(int(self.owed))
        self.owed -= int(self.owed)
        self.seconds += time.process_time() - began
        row = {"steps": len(self.replay), "updates": self.updates, "seconds": self.seconds}
        row["return"] = episode.reward.sum().item()
        if s.evaluate_every and (number + 1) % s.evaluate_every == 0:
            row["evaluation"] = self.evaluate(s.episodes).mean().item()
        self.rows.append(row | found)
        return self.rows[-1]

    def _learn(self, updates: int) -> Row:
        s, logged = self.schedule, []
        for _ in range(updates):
            logged.append(self.agent.learn(self.replay.sample_sequences(s.batch, s.length, self.generator)))
        self.updates += updates
        names = logged[0] if logged else ()
        return {name: torch.stack([found[name] for found in logged]).mean().item() for name in names}

    def evaluate(self, episodes: int = 20, seed: int = 10_000) -> Tensor:
        """Returns without dice of action, (episodes,), on starts of their own; leaves the agent's dice as they were."""
        kept = self.agent.generator.get_state()
        self.agent.generator.manual_seed(seed)
        returns = evaluate(Player(self.agent, greedy=True), self.make_env, episodes, seed)
        self.agent.generator.set_state(kept)
        return returns

    def train(self, folder: Path | None = None, enough: float = NEVER, label: str = "training") -> list[Row]:
        """Advance to the last step, or until an evaluation reaches `enough`. With a folder: resume, keep, log there.

        Raises:
            BadCheckpoint: the folder holds another agent's run, or a file that is no checkpoint; it is left as it is.
        """
        if folder and (folder / CHECKPOINT).exists():
            self.resume(folder)
        bar = tqdm(total=self.schedule.steps, initial=len(self.replay), desc=label, unit="step")
        while not self.over and self.best() < enough:
            row = self.advance()
            bar.update(len(self.replay) - bar.n)
            bar.set_postfix({name: f"{row[name]:.0f}" for name in ("return", "evaluation") if name in row})
            if folder:
                self.save(folder)
        bar.close()
        return self.rows

    def best(self) -> float:
        """The highest mean return of an evaluation so far."""
        return max((row["evaluation"] for row in self.rows if "evaluation" in row), default=-NEVER)

    def save(self, folder: Path) -> None:
        """Write checkpoint.pt, all that `restore` needs, and log.csv, the table; each whole, or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        agent = {
            "modules": self.agent.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.agent.optimizers.items()},
            "generator": self.agent.generator.get_state(),
        }
        counts = {"owed": self.owed, "updates": self.updates, "seconds": self.seconds, "rows": self.rows}
        episodes = [tuple(episode) for episode in self.replay.episodes]
        torch.save(
            {"agent": agent, "episodes": episodes, "generator": self.generator.get_state(), **counts},
            folder / "checkpoint.new",
        )
        os.replace(folder / "checkpoint.new", folder / CHECKPOINT)
        with (folder / "log.new").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in self.rows for name in row)))
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(folder / "log.new", folder / "log.csv")

    def resume(self, folder: Path) -> None:
        """`restore` from a folder.

        Raises:
            BadCheckpoint: there is none, it cannot be read, or it is of another agent.
        """
        path = folder / CHECKPOINT
        if not path.exists():
            raise BadCheckpoint(f"{path}: there is no such file; a run of `train` with this folder writes it")
        try:
            self.restore(torch.load(path, weights_only=True, map_location="cpu"))
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            why = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
            raise BadCheckpoint(f"{path}: not a checkpoint of this agent and these settings ({why})") from error

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on where a checkpoint was made; agent, world, schedule and seed have to be those of that run.

        The world itself needs no state: a checkpoint is made between episodes, and each starts from a seed of its own.
        """
        self.agent.load_state_dict(kept["agent"]["modules"])
        self.agent.generator.set_state(kept["agent"]["generator"])
        for name, optimizer in self.agent.optimizers.items():
            optimizer.load_state_dict(kept["agent"]["optimizers"][name])
        self.replay = Replay()
        self.replay.add(*(Episode(*parts) for parts in kept["episodes"]))
        self.generator.set_state(kept["generator"])
        self.owed, self.updates, self.seconds = kept["owed"], kept["updates"], kept["seconds"]
        self.rows = list(kept["rows"])
