"""Mazes: small worlds whose answer is known exactly, as tables, for many learners side by side.

Sutton & Barto, Reinforcement Learning, 2nd edition, sections 8.2 and 8.3. A maze is drawn as text; a move into a
wall or out of the drawing leaves you where you are. Reaching the goal earns 1 and terminates; every other step earns 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wmcourse.replay import Transitions

MOVES = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])  # up, down, left, right: (row, column)

DYNA_MAZE = """
.......#G
..#....#.
S.#....#.
..#......
.....#...
.........
"""
GAP_RIGHT = """
........G
.........
.........
########.
.........
...S.....
"""
GAP_LEFT = """
........G
.........
.........
.########
.........
...S.....
"""
GAP_BOTH = """
........G
.........
.........
.#######.
.........
...S.....
"""


@dataclass(frozen=True)
class Maze:
    """A world of S cells and 4 moves; the cells are numbered row by row, walls included."""

    wall: Tensor  # (rows, columns) bool
    start: int
    goal: int
    following: Tensor  # the cell that a move leads to, (S, 4) int64

    @property
    def states(self) -> int:
        """S, the number of cells."""
        return self.wall.numel()

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next state, reward and terminated, (B,) each, of B learners' states and actions, (B,) int64 each."""
        next_state = self.following[state, action]
        terminated = next_state == self.goal
        return next_state, terminated.float(), terminated


def maze(drawing: str) -> Maze:
    """A maze from a drawing: `#` a wall, `S` the start, `G` the goal, anything else free."""
    cells = [list(line) for line in drawing.strip().splitlines()]
    flat, columns = [cell for line in cells for cell in line], len(cells[0])
    wall = torch.tensor([[cell == "#" for cell in line] for line in cells])
    rows, cols = torch.meshgrid(torch.arange(len(cells)), torch.arange(columns), indexing="ij")
    here = torch.stack([rows, cols], -1).view(-1, 1, 2)
    there = here + MOVES
    inside = ((there >= 0) & (there < torch.tensor([len(cells), columns]))).all(-1)
    r, c = there.clamp(min=0).minimum(torch.tensor([len(cells) - 1, columns - 1])).unbind(-1)
    stay = torch.arange(len(flat))[:, None].expand(-1, len(MOVES))
    return Maze(wall, flat.index("S"), flat.index("G"), torch.where(inside & ~wall[r, c], r * columns + c, stay))


def optimal_values(world: Maze, discount: float) -> Tensor:
    """The value of every move under the best policy, (S, 4), by value iteration; 0 at the goal."""
    every = torch.arange(world.states)[:, None].expand(-1, len(MOVES))
    next_state, reward, terminated = world.step(every, torch.arange(len(MOVES)).expand_as(every))
    values = torch.zeros(world.states, len(MOVES), dtype=torch.float64)
    over = terminated | (every == world.goal)
    while True:
        best = torch.where(over, 0.0, discount * values.amax(-1)[next_state])
        improved = torch.where(every == world.goal, 0.0, reward + best)
        if torch.allclose(improved, values, rtol=0, atol=1e-12):
            return improved
        values = improved


def shortest_path(world: Maze, discount: float = 0.95) -> int:
    """How many moves the best way from start to goal takes: its value is discount^(moves - 1)."""
    return 1 + round(math.log(float(optimal_values(world, discount)[world.start].max())) / math.log(discount))


def greedy_path(world: Maze, values: Tensor) -> list[int]:
    """The cells that a learner who trusts `values` (S, 4) walks through, from the start; it gives up after S moves."""
    path = [world.start]
    while path[-1] != world.goal and len(path) <= world.states:
        path.append(int(world.following[path[-1], int(values[path[-1]].argmax())]))
    return path


def q_update(
    q: Tensor,
    state: Tensor,
    action: Tensor,
    reward: Tensor,
    next_state: Tensor,
    terminated: Tensor,
    rate: float,
    discount: float,
) -> Tensor:
    """One Q-learning update of B learners' tables, each at one transition; Sutton & Barto, equation 6.8.

    Args:
        q: (B, S, A); learner b's table is q[b].
        state, action, next_state: (B,) int64.
        reward: (B,).
        terminated: (B,) bool; where true, nothing follows.
        rate: share of the way towards the target, in [0, 1].
        discount: in [0, 1].

    Returns:
        New tables, (B, S, A), float32; q stays as it is.
    """
    row = torch.arange(len(q))
    target = reward + discount * torch.where(terminated, 0.0, q[row, next_state].amax(-1))
    new = q.clone()
    new[row, state, action] += rate * (target - q[row, state, action])
    return new


def curious_reward(reward: Tensor, elapsed: Tensor, bonus: float) -> Tensor:
    """Dyna-Q+: an imagined reward plus bonus * sqrt(steps since this was last tried for real); section 8.3.

    Args:
        reward: (...).
        elapsed: real steps since the pair was tried, at least 0, (...), whole numbers.
        bonus: at least 0.

    Returns:
        (...), float32.
    """
    return reward + bonus * elapsed.float().sqrt()


class DynaQ:
    """Dyna-Q on a maze, for B learners side by side, each with its own table, model and dice; section 8.2.

    Args:
        world: the maze; may be exchanged while the learners run.
        learners: B.
        planning: imagined updates a real step.
        bonus: above 0 makes it Dyna-Q+: in imagination moves that were never made are thinkable, too (they lead
            nowhere and earn nothing), and moves long not made earn more.
        rate, discount, explore: of Q-learning, and the share of random moves.
        seed: of all dice.
        update, curious: the two formulas.
    """

    def __init__(
        self,
        world: Maze,
        learners: int = 30,
        planning: int = 0,
        *,
        bonus: float = 0.0,
        rate: float = 0.1,
        discount: float = 0.95,
        explore: float = 0.1,
        seed: int = 0,
        update: Callable[..., Tensor] = q_update,
        curious: Callable[..., Tensor] = curious_reward,
    ):
        self.world, self.planning, self.bonus, self.explore = world, planning, bonus, explore
        self.rate, self.discount, self.update, self.curious = rate, discount, update, curious
        self.generator = torch.Generator().manual_seed(seed)
        shape = learners, world.states, world.following.shape[1]
        self.row, self.time, self.state = torch.arange(learners), 0, torch.full((learners,), world.start)
        self.q, self.tried = torch.zeros(shape), torch.zeros(shape, dtype=torch.long)
        self.known = torch.zeros(shape, dtype=torch.bool)
        nowhere = torch.arange(world.states)[None, :, None].expand(shape).clone()
        self.model = nowhere, torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)  # s', r, terminated
        self.latest: Transitions
        self.dreams: list[Transitions] = []
        self.rewards: list[Tensor] = []  # one (B,) a step

    def act(self) -> Transitions:
        """A greedy move, ties broken by dice, or a random one; back to the start after the goal."""
        values = self.q[self.row, self.state]
        wander = torch.rand(len(values), 1, generator=self.generator) < self.explore
        choice = ((values == values.amax(-1, keepdim=True)) | wander).float()
        action = torch.multinomial(choice, 1, generator=self.generator)[:, 0]
        next_state, reward, terminated = self.world.step(self.state, action)
        came = Transitions(self.state, action, reward, next_state, terminated)
        self.state = torch.where(terminated, self.world.start, next_state)
        self.time += 1
        self.rewards.append(reward)
        return came

    def store(self, came: Transitions) -> None:
        """Remember what was met, and when."""
        at = self.row, came.obs, came.action
        self.latest, self.tried[at], self.known[at] = came, self.time, True
        if self.bonus:
            self.known[self.row, came.obs] = True

    def train_model(self) -> None:
        """The model is a table: what came last is what will come."""
        for table, value in zip(self.model, (self.latest.next_obs, *self.latest[2::2]), strict=True):
            table[self.row, self.latest.obs, self.latest.action] = value

    def imagine(self) -> None:
        """For each learner `planning` pairs that it knows, drawn evenly, and what its model says of them."""
        self.dreams = []
        if not self.planning:
            return
        drawn = torch.multinomial(self.known.flatten(1).float(), self.planning, True, generator=self.generator)
        state, action = drawn // self.q.shape[2], drawn % self.q.shape[2]  # (B, planning), asked all at once
        pair = self.row[:, None], state, action
        next_state, reward, terminated = (table[pair] for table in self.model)
        reward = self.curious(reward, self.time - self.tried[pair], self.bonus) if self.bonus else reward
        columns = state, action, reward, next_state, terminated
        self.dreams = [Transitions(*row) for row in zip(*(column.unbind(1) for column in columns), strict=True)]

    def train_policy(self) -> None:
        """One and the same update from what happened and from what was imagined."""
        for step in (self.latest, *self.dreams):
            self.q = self.update(self.q, *step, self.rate, self.discount)

    def run(self, steps: int, loop: Callable[..., None]) -> Tensor:
        """Go on for `steps` real steps, by `dyna.dyna_loop`; the rewards of all so far, (T, B)."""
        loop(self.act, self.store, self.train_model, self.imagine, self.train_policy, steps, 1)
        return torch.stack(self.rewards)
