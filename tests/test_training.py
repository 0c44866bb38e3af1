"""Training: updates as many as are owed, tables that a kill does not change, and actions as worlds want them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from wmcourse import rssm
from wmcourse.dreamer import CARTPOLE, PENDULUM, Dreamer, DreamerConfig
from wmcourse.training import CHECKPOINT, BadCheckpoint, Player, Row, Run, Schedule, unit_actions
from wmcourse.worlds import make_cartpole, make_pendulum

TINY = {"embed": 8, "deter": 8, "hidden": 8, "latent": rssm.Gaussian(3), "starts": 8, "horizon": 3}
SCHEDULE = Schedule(steps=100, prefill=2, warm_up=4, ratio=0.16, batch=4, length=5, episodes=2)


def make(config: DreamerConfig = PENDULUM, schedule: Schedule = SCHEDULE, seed: int = 0) -> Run:
    def make_env() -> gym.Env:
        return unit_actions(gym.wrappers.TimeLimit(make_pendulum() if config is PENDULUM else make_cartpole(), 25))

    return Run(Dreamer(replace(config, **TINY), seed), make_env, schedule, seed)


def curve(rows: list[Row]) -> list[Row]:
    return [{name: x for name, x in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("config", [PENDULUM, CARTPOLE], ids=["pendulum", "cartpole"])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(config: DreamerConfig, tmp_path: Path) -> None:
    schedule = SCHEDULE if config is PENDULUM else replace(SCHEDULE, steps=150, ratio=0.3)
    whole = make(config, schedule)
    whole.train()
    killed = make(config, schedule)
    while len(killed.rows) < len(whole.rows) // 2 + 1:
        killed.advance()
        killed.save(tmp_path)
    killed.advance()  # never saved: lost, and made again
    resumed = make(config, schedule, seed=0)
    resumed.agent.generator.manual_seed(99)  # whatever it was, the checkpoint knows better
    resumed.train(tmp_path)
    assert len(resumed.rows) == len(whole.rows)
    assert curve(resumed.rows) == curve(whole.rows)
    mine, other = resumed.agent.state_dict(), whole.agent.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in other)
    with (tmp_path / "log.csv").open(encoding="utf-8") as file:
        assert [float(row["return"]) for row in csv.DictReader(file)] == [row["return"] for row in whole.rows]


def test_a_folder_that_holds_no_run_of_this_agent_is_named_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="no such file"):
        make().resume(tmp_path)
    other = make(CARTPOLE)
    other.save(tmp_path)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(BadCheckpoint, match="not a checkpoint of this agent"):
        make().train(tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
    for content in (b"", kept[:-50], b"no checkpoint"):
        (tmp_path / CHECKPOINT).write_bytes(content)
        with pytest.raises(BadCheckpoint, match=CHECKPOINT):
            make().train(tmp_path)


def test_a_row_holds_what_the_episode_earned_beside_what_was_learned() -> None:
    run = make()
    rows = [run.advance() for _ in range(2)]
    assert [row["return"] for row in rows] == [episode.reward.sum().item() for episode in run.replay.episodes]
    assert {"dreamed", "kl", "entropy"} <= set(rows[1])


def test_another_seed_is_another_run() -> None:
    one, other = make(), make(seed=1)
    assert one.advance()["return"] != other.advance()["return"]


def test_updates_are_made_as_they_are_owed() -> None:
    run = make()
    assert [run.advance()["updates"] for _ in range(4)] == [0, 4, 8, 12]
    assert run.over


def test_looking_changes_nothing() -> None:
    one, other = make(), make(schedule=replace(SCHEDULE, evaluate_every=0))
    for _ in range(3):
        shown, hidden = one.advance(), other.advance()
    assert "evaluation" in shown
    assert shown["return"] == hidden["return"]
    assert torch.equal(one.evaluate(3), one.evaluate(3))


def test_enough_is_enough() -> None:
    run = make()
    run.train(enough=-1e9)
    assert len(run.rows) == 1


def test_actions_arrive_as_the_world_wants_them() -> None:
    env = unit_actions(make_pendulum())
    env.reset(seed=0)
    env.step(np.array([0.5], np.float32))
    assert env.unwrapped.last_u == pytest.approx(1.0)  # type: ignore[attr-defined]
    carts = [unit_actions(make_cartpole()) for _ in range(2)]
    lefts = [env.reset(seed=0)[0] for env in carts]
    lefts = [env.step(np.eye(2, dtype=np.float32)[i])[0] for i, env in enumerate(carts)]
    assert lefts[0][1] < 0 < lefts[1][1]  # pushed left, pushed right


def test_a_player_plays_one_row_of_episodes_and_remembers() -> None:
    agent = Dreamer(replace(PENDULUM, **TINY))
    player = Player(agent, greedy=True)
    seen = torch.tensor([[1.0, 0.0, 0.5]])
    one, other = player(seen), player(seen)
    assert one.shape == (1, 1)
    assert not torch.equal(one, other)  # the same picture, another memory
    assert player.alone(seen[0].numpy()).shape == (1,)
