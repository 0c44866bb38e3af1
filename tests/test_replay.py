"""Replay: alignment proved in a counting world, episode boundaries, capacity, and what is refused."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from wmcourse.replay import (
    Episode,
    Replay,
    episode_transitions,
    random_policy,
    record_episode,
    record_episodes,
)
from wmcourse.worlds import make_cartpole, make_pendulum


class CountingWorld(gym.Env):
    """obs is (episode seed, step); the action is the step it was chosen at, which the policy reads off obs."""

    observation_space = gym.spaces.Box(0, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(0, 1, (1,), np.float32)

    def __init__(self, steps: int, ends: str = "terminated", reuse: bool = False):
        self.steps, self.ends = steps, ends
        self.buffer = np.zeros(2) if reuse else None

    def reset(self, *, seed: int | None = None, options: Any = None):
        self.seed, self.now = seed, 0
        return self._obs(), {}

    def step(self, action):
        earned = 10 * self.now + float(action[0])
        self.now += 1
        over = self.now == self.steps
        return self._obs(), earned, over and self.ends == "terminated", over and self.ends == "truncated", {}

    def _obs(self) -> np.ndarray:
        if self.buffer is None:
            return np.array([self.seed, self.now], np.float64)
        self.buffer[:] = self.seed, self.now
        return self.buffer


def chosen_at(obs: np.ndarray) -> np.ndarray:
    return np.array([obs[1]])


def counted(steps: int, seed: int, **kwargs: Any) -> Episode:
    return record_episode(CountingWorld(steps, **kwargs), chosen_at, seed)


def filled(*steps: int, **kwargs: Any) -> Replay:
    replay = Replay(**kwargs)
    replay.add(*(counted(n, seed) for seed, n in enumerate(steps)))
    return replay


@pytest.mark.parametrize("reuse", [False, True], ids=["new arrays", "one array filled anew"])
def test_an_episode_is_aligned(reuse: bool) -> None:
    episode = counted(5, seed=3, reuse=reuse)
    assert episode.obs.tolist() == [[3, t] for t in range(6)]
    assert episode.action[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert episode.reward.tolist() == [0, 11, 22, 33, 44]
    assert episode.terminated.tolist() == [False] * 4 + [True]
    assert not episode.truncated.any()
    assert [part.dtype for part in episode] == [torch.float32] * 3 + [torch.bool] * 2


def test_a_time_limit_is_truncated_and_not_terminated() -> None:
    episode = counted(4, seed=0, ends="truncated")
    assert episode.truncated.tolist() == [False] * 3 + [True]
    assert not episode.terminated.any()


def test_the_real_worlds_end_as_they_say() -> None:
    env = make_pendulum()
    swing = record_episode(env, random_policy(env, seed=0), seed=0)
    assert swing.obs.shape == (201, 3)
    assert swing.action.shape == (200, 1)
    assert bool(swing.truncated[-1])
    assert not swing.terminated.any()
    env = make_cartpole()
    fall = record_episode(env, random_policy(env, seed=0), seed=0)
    assert bool(fall.terminated[-1])
    assert fall.action.dtype == torch.int64


def test_frames_keep_their_type() -> None:
    env = gym.wrappers.TimeLimit(make_pendulum(pixels=True, frame_size=8), 3)
    assert record_episode(env, random_policy(env, seed=0), seed=0).obs.dtype == torch.uint8


def test_the_recorded_pendulum_obeys_its_physics_only_as_aligned() -> None:
    env = make_pendulum()
    episode = record_episode(env, random_policy(env, seed=0), seed=0)

    def velocity_after(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return (obs[:, 2] + 0.05 * (15 * obs[:, 1] + 3 * action[:, 0])).clamp(-8, 8)

    aligned = velocity_after(episode.obs[:-1], episode.action) - episode.obs[1:, 2]
    late = velocity_after(episode.obs[1:-1], episode.action[:-1]) - episode.obs[2:, 2]
    assert aligned.abs().max() < 1e-5
    assert late.abs().mean() > 0.1


def test_seeds_give_starts_that_differ_and_repeat() -> None:
    env = make_pendulum()
    once = record_episodes(env, random_policy(env, seed=0), count=3, seed=7)
    again = record_episodes(env, random_policy(env, seed=0), count=3, seed=7)
    assert all(torch.equal(a, b) for x, y in zip(once, again, strict=True) for a, b in zip(x, y, strict=True))
    assert len({tuple(episode.obs[0].tolist()) for episode in once}) == 3


def test_a_random_policy_holds_its_actions() -> None:
    act = random_policy(make_pendulum(), seed=0, hold=3)
    drawn = [float(act(None)[0]) for _ in range(9)]
    assert len(set(drawn)) == 3
    assert drawn[:3] == [drawn[0]] * 3


def test_transitions_are_one_step_of_one_episode() -> None:
    kept = filled(4, 1, 6).transitions()
    assert len(kept.obs) == 11
    assert torch.equal(kept.next_obs, kept.obs + torch.tensor([0.0, 1.0]))
    assert torch.equal(kept.action[:, 0], kept.obs[:, 1])
    assert torch.equal(kept.reward, 11 * kept.obs[:, 1])
    assert kept.terminated.nonzero().flatten().tolist() == [3, 4, 10]


def test_sampled_transitions_are_kept_ones_and_follow_the_generator() -> None:
    replay = filled(4, 3)
    draws = [replay.sample_transitions(200, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(draws[0].obs, draws[1].obs)
    assert not torch.equal(draws[0].obs, draws[2].obs)
    assert torch.equal(draws[0].next_obs - draws[0].obs, torch.tensor([[0.0, 1.0]]).expand(200, 2))
    assert len(draws[0].obs.unique(dim=0)) == 7  # every one of them, sooner or later


def test_the_stream_marks_first_and_takes_no_action_at_an_end() -> None:
    rows = filled(2, 3).stream()
    assert rows.obs[0, :, 1].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert rows.first[0].tolist() == [True, False, False, True, False, False, False]
    assert rows.action[0, :, 0].tolist() == [0, 1, 0, 0, 1, 2, 0]
    assert rows.reward[0].tolist() == [0, 11, 0, 0, 11, 22, 0]
    assert rows.terminated[0].tolist() == [False, True, False, False, False, True, False]


def test_windows_that_cross_a_boundary_say_where() -> None:
    windows = filled(3, 5, 2).sample_sequences(300, 6, torch.Generator().manual_seed(0))
    assert windows.obs.shape == (300, 6, 2)
    jumps = windows.obs[:, 1:, 0] != windows.obs[:, :-1, 0]
    assert jumps.any()
    assert torch.equal(windows.first[:, 1:], jumps)
    assert torch.equal(windows.first, windows.obs[..., 1] == 0)
    steps = windows.obs[:, 1:] - windows.obs[:, :-1]
    assert torch.equal(steps[~jumps], torch.tensor([[0.0, 1.0]]).expand(int((~jumps).sum()), 2))


def test_every_window_can_be_drawn_and_none_reaches_past_the_end() -> None:
    replay = filled(3)
    starts = replay.sample_sequences(200, 3, torch.Generator().manual_seed(0)).obs[:, 0, 1]
    assert sorted(set(starts.tolist())) == [0, 1]
    assert replay.sample_sequences(5, 4, torch.Generator()).obs[0, :, 1].tolist() == [0, 1, 2, 3]


def test_the_oldest_episodes_leave_first_and_the_newest_always_stays() -> None:
    replay = filled(4, 4, 4, capacity=9)
    assert len(replay) == 8
    assert replay.transitions().obs[:, 0].unique().tolist() == [1, 2]
    replay.add(counted(20, seed=9))
    assert len(replay) == 20
    assert replay.stream().obs[0, :, 0].unique().tolist() == [9]  # what was cached is renewed


def test_misaligned_episodes_are_refused_and_nothing_is_kept() -> None:
    good = counted(4, seed=0)
    replay = Replay()
    for bad in (
        good._replace(obs=good.obs[:-1]),
        good._replace(action=good.action[1:]),
        good._replace(reward=torch.zeros(5)),
        good._replace(truncated=torch.zeros(3, dtype=torch.bool)),
    ):
        with pytest.raises(ValueError, match=r"T \+ 1 observations and T of the rest, and .*'obs'"):
            replay.add(good, bad)
    assert len(replay) == 0


def test_two_episodes_glued_together_are_refused() -> None:
    one, two = counted(3, seed=0), counted(4, seed=1, ends="truncated")
    glued = Episode(torch.cat([one.obs[:-1], two.obs]), *(torch.cat(p) for p in zip(one[1:], two[1:], strict=True)))
    with pytest.raises(ValueError, match="ended at step 2, and 4 more follow"):
        Replay().add(glued)


def test_a_part_of_an_episode_is_welcome() -> None:
    whole = counted(5, seed=0)
    part = Episode(whole.obs[:4], *(column[:3] for column in whole[1:]))
    replay = Replay()
    replay.add(part)
    assert torch.equal(replay.transitions().next_obs, episode_transitions(part).next_obs)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ValueError, match="empty"):
        Replay().sample_transitions(3, torch.Generator())
    with pytest.raises(ValueError, match="window of 7 rows was asked for, and the replay holds 4"):
        filled(3).sample_sequences(2, 7, torch.Generator())
