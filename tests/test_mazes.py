"""Mazes: the shortest way counted by hand, values by value iteration, and what planning does to a table."""

from __future__ import annotations

import pytest
import torch

from wmcourse.dyna import dyna_loop
from wmcourse.mazes import (
    DYNA_MAZE,
    GAP_BOTH,
    GAP_LEFT,
    GAP_RIGHT,
    DynaQ,
    curious_reward,
    greedy_path,
    maze,
    optimal_values,
    q_update,
    shortest_path,
)


@pytest.mark.parametrize(("drawing", "moves"), [(DYNA_MAZE, 14), (GAP_RIGHT, 10), (GAP_LEFT, 16), (GAP_BOTH, 10)])
def test_the_shortest_ways_are_the_textbooks(drawing: str, moves: int) -> None:
    world = maze(drawing)
    assert shortest_path(world) == moves
    assert len(greedy_path(world, optimal_values(world, 0.95))) - 1 == moves


def test_a_wall_and_the_edge_leave_you_where_you_are() -> None:
    world = maze("S#G")
    state, action = torch.tensor([0, 0, 0, 0]), torch.arange(4)
    assert world.step(state, action)[0].tolist() == [0, 0, 0, 0]


def test_only_the_goal_earns_and_it_terminates() -> None:
    world = maze("S.G")
    next_state, reward, terminated = world.step(torch.tensor([0, 1]), torch.tensor([3, 3]))
    assert next_state.tolist() == [1, 2]
    assert reward.tolist() == [0.0, 1.0]
    assert terminated.tolist() == [False, True]


def test_values_satisfy_bellmans_equation_and_fall_with_the_distance() -> None:
    world = maze(DYNA_MAZE)
    values = optimal_values(world, 0.9)
    assert values[world.start].max() == pytest.approx(0.9**13)
    state = torch.arange(world.states)[:, None].expand(-1, 4)
    next_state, reward, ended = world.step(state, torch.arange(4).expand_as(state))
    right = reward + 0.9 * torch.where(ended, 0.0, values.amax(-1)[next_state])
    right[world.goal] = 0.0
    torch.testing.assert_close(values, right)


def test_a_far_learner_is_led_to_the_exact_values_by_planning_alone() -> None:
    world = maze("S..\n..G")
    agent = DynaQ(world, 4, 40, rate=1.0, discount=0.9, explore=1.0, seed=0)
    agent.run(300, dyna_loop)
    exact = optimal_values(world, 0.9).float()
    torch.testing.assert_close(agent.q, exact.expand_as(agent.q), rtol=0, atol=1e-4)


def test_planning_saves_real_steps() -> None:
    world = maze("S....\n.###.\n....G")
    goals = [float(DynaQ(world, 20, n, seed=0).run(250, dyna_loop).sum(0).mean()) for n in (0, 10)]
    assert goals[1] > 1.4 * goals[0]


def test_a_wrong_table_spoils_what_planning_learns() -> None:
    class Liar(DynaQ):
        def train_model(self) -> None:
            super().train_model()
            dice = torch.Generator().manual_seed(self.time)
            self.model[0][self.row, self.latest.obs, self.latest.action] = torch.randint(
                self.world.states, (len(self.row),), generator=dice
            )

    world = maze("S....\n.###.\n....G")
    honest, lying = (float(kind(world, 20, 10, seed=0).run(250, dyna_loop).sum(0).mean()) for kind in (DynaQ, Liar))
    assert honest > 1.4 * lying


def test_the_bonus_alone_makes_untried_moves_thinkable() -> None:
    world = maze("S.G")
    plain, curious = (DynaQ(world, 1, 5, bonus=bonus, seed=0) for bonus in (0.0, 0.1))
    for agent in (plain, curious):
        agent.run(1, dyna_loop)
    assert plain.known.sum() == 1
    assert curious.known.sum() == 4


def test_the_bonus_grows_with_the_root_of_time() -> None:
    torch.testing.assert_close(
        curious_reward(torch.tensor([1.0, 1.0]), torch.tensor([0, 100]), 0.1), torch.tensor([1.0, 2.0])
    )


def test_an_update_leaves_the_old_tables_alone() -> None:
    q = torch.zeros(2, 3, 2)
    s, a, n = torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([2, 2])
    new = q_update(q, s, a, torch.ones(2), n, torch.tensor([False, True]), 0.5, 0.9)
    assert q.abs().max() == 0
    assert new[0, 0, 1] == new[1, 1, 0] == 0.5
    assert new.count_nonzero() == 2
