"""Replay: recorded episodes, and the one alignment that the whole course obeys.

obs[t] is seen, then action[t] is taken, then reward[t], terminated[t], truncated[t] and obs[t + 1] come back. So an
episode of T steps has T actions and T + 1 observations. In a stream of many episodes first[t] marks the first
observation of each, and the step from the last observation of one to the first of the next never happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

Policy = Callable[[Any], Any]


class Episode(NamedTuple):
    """One episode of T steps."""

    obs: Tensor  # (T + 1, *O)
    action: Tensor  # (T, *A)
    reward: Tensor  # (T,) float32
    terminated: Tensor  # (T,) bool: the world ended, nothing can follow
    truncated: Tensor  # (T,) bool: the recording ended, the world did not


class Transitions(NamedTuple):
    """N single steps (obs, action, reward, next_obs, terminated), in any order."""

    obs: Tensor  # (N, *O)
    action: Tensor  # (N, *A)
    reward: Tensor  # (N,)
    next_obs: Tensor  # (N, *O)
    terminated: Tensor  # (N,) bool


class Sequences(NamedTuple):
    """B windows of T consecutive rows of a stream; a window may run over the end of an episode into the next."""

    obs: Tensor  # (B, T, *O)
    action: Tensor  # (B, T, *A); zero at the last observation of an episode, where none was taken
    reward: Tensor  # (B, T)
    terminated: Tensor  # (B, T) bool
    first: Tensor  # (B, T) bool


def record_episode(env: gym.Env, policy: Policy, seed: int) -> Episode:
    """Play one episode to its end, terminated or truncated.

    Args:
        env: a Gymnasium environment that ends, by itself or by a time limit.
        policy: from an observation (a numpy array) to an action that env.step takes.
        seed: handed to env.reset, so that the same seed gives the same start.
    """
    obs, action, reward, terminated, truncated = [], [], [], [], []
    seen, _ = env.reset(seed=seed)
    obs.append(np.array(seen))  # a copy: an environment may fill the same array anew at every step
    over = False
    while not over:
        taken = policy(seen)
        seen, earned, ended, cut, _ = env.step(taken)
        obs.append(np.array(seen))
        action.append(np.array(taken))
        reward.append(earned)
        terminated.append(ended)
        truncated.append(cut)
        over = ended or cut
    return Episode(
        _stacked(obs),
        _stacked(action),
        torch.as_tensor(np.array(reward, np.float32)),
        torch.as_tensor(np.array(terminated, bool)),
        torch.as_tensor(np.array(truncated, bool)),
    )


def _stacked(parts: list[np.ndarray]) -> Tensor:
    """Numbers with a fraction as float32; frames and discrete actions keep their type."""
    array = np.stack(parts)
    return torch.as_tensor(array.astype(np.float32) if array.dtype.kind == "f" else array)


def record_episodes(env: gym.Env, policy: Policy, count: int, seed: int) -> list[Episode]:
    """`count` episodes, from the seeds seed, seed + 1, ...; no two start alike."""
    return [record_episode(env, policy, seed + i) for i in range(count)]


def random_policy(env: gym.Env, seed: int, hold: int = 1) -> Policy:
    """Actions drawn uniformly from the environment's action space, each held for `hold` steps.

    A torque that changes at every step mostly cancels itself out; one that is held swings the pendulum.
    """
    space = env.action_space
    space.seed(seed)
    held: list[Any] = []

    def act(obs: Any) -> Any:
        if not held:
            held.extend([space.sample()] * hold)
        return held.pop()

    return act


def episode_transitions(episode: Episode) -> Transitions:
    """The T transitions of an episode of T steps: obs[t], action[t], reward[t] go with obs[t + 1] and terminated[t]."""
    return Transitions(episode.obs[:-1], episode.action, episode.reward, episode.obs[1:], episode.terminated)


class Memory:
    """The latest `capacity` transitions; adding and drawing never copy the rest."""

    def __init__(self, capacity: int):
        self.capacity, self.count = capacity, 0
        self.columns: Transitions | None = None

    def add(self, new: Transitions) -> None:
        """Keep these, over the oldest where there is no room."""
        if self.columns is None:
            self.columns = Transitions(*(part.new_zeros(self.capacity, *part.shape[1:]) for part in new))
        at = torch.arange(self.count, self.count + len(new.obs)) % self.capacity
        for column, part in zip(self.columns, new, strict=True):
            column[at] = part
        self.count += len(new.obs)

    def all(self) -> Transitions:
        """What is kept, in any order."""
        assert self.columns is not None, "add something first"
        return Transitions(*(column[: self.count] for column in self.columns))


class Replay:
    """Whole episodes, from which transitions and sequences are drawn.

    Args:
        capacity: the most steps to keep; the oldest episodes leave first, the newest always stays.
    """

    def __init__(self, capacity: int = 1_000_000):
        self.capacity = capacity
        self.episodes: list[Episode] = []
        self._transitions: Transitions | None = None
        self._stream: Sequences | None = None

    def __len__(self) -> int:
        """The number of steps kept."""
        return sum(len(episode.action) for episode in self.episodes)

    def add(self, *episodes: Episode) -> None:
        """Keep these episodes; ValueError, and none kept, where one is not aligned or goes on after its end."""
        for episode in episodes:
            steps = len(episode.action)
            if len(episode.obs) != steps + 1 or any(len(part) != steps for part in episode[2:]):
                lengths = {name: len(part) for name, part in episode._asdict().items()}
                raise ValueError(f"an episode of T steps has T + 1 observations and T of the rest, and {lengths} came")
            ended = (episode.terminated | episode.truncated).nonzero().flatten()
            if len(ended) and ended[0] < steps - 1:
                raise ValueError(
                    f"this episode ended at step {int(ended[0])}, and {steps - 1 - int(ended[0])} more follow"
                )
        self.episodes += episodes
        while len(self.episodes) > 1 and len(self) > self.capacity:
            self.episodes.pop(0)
        self._transitions = self._stream = None

    def transitions(self) -> Transitions:
        """Every transition kept, N = len(self); none crosses from one episode to the next."""
        if self._transitions is None:
            self._expect_some()
            parts = [episode_transitions(episode) for episode in self.episodes]
            self._transitions = Transitions(*(torch.cat(column) for column in zip(*parts, strict=True)))
        return self._transitions

    def sample_transitions(self, batch: int, generator: torch.Generator) -> Transitions:
        """`batch` transitions, drawn with replacement."""
        kept = self.transitions()
        index = torch.randint(len(kept.obs), (batch,), generator=generator)
        return Transitions(*(part[index] for part in kept))

    def stream(self) -> Sequences:
        """All episodes end to end as one window, (1, N, ...); N counts T + 1 rows for an episode of T steps."""
        if self._stream is None:
            self._expect_some()
            rows = [_rows(episode) for episode in self.episodes]
            self._stream = Sequences(*(torch.cat(column)[None] for column in zip(*rows, strict=True)))
        return self._stream

    def sample_sequences(self, batch: int, length: int, generator: torch.Generator) -> Sequences:
        """`batch` windows of `length` rows, drawn with replacement from anywhere in the stream.

        Raises:
            ValueError: the stream is shorter than `length`.
        """
        stream = self.stream()
        rows = stream.obs.shape[1]
        if rows < length:
            raise ValueError(f"a window of {length} rows was asked for, and the replay holds {rows}")
        start = torch.randint(rows - length + 1, (batch, 1), generator=generator)
        index = start + torch.arange(length)
        return Sequences(*(part[0, index] for part in stream))

    def _expect_some(self) -> None:
        if not self.episodes:
            raise ValueError("the replay is empty: add an episode first")


def _rows(episode: Episode) -> tuple[Tensor, ...]:
    """An episode as T + 1 rows; the last holds the last observation, and no action."""
    first = torch.zeros(len(episode.obs), dtype=torch.bool)
    first[0] = True

    def pad(part: Tensor) -> Tensor:
        return torch.cat([part, torch.zeros_like(part[:1])])

    return episode.obs, pad(episode.action), pad(episode.reward), pad(episode.terminated), first
