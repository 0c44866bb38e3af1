"""Recurrent dynamics: memory for what is hidden, a mixture for what is open (lesson 06).

h_t = GRU(h_{t-1}, z_{t-1}, a_{t-1}) and z_t ~ p(z | h_t), a mixture of Gaussians: the MDN-RNN of Ha & Schmidhuber,
arXiv:1803.10122, section 2.2. Here z is what the pendulum shows of itself, and p(z | h) speaks of its next turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmcourse.nets import mlp
from wmcourse.one_step_dynamics import gaussian_log_prob
from wmcourse.replay import Episode
from wmcourse.worlds import angle_of

Cell = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
MemoryStep = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Gust = Callable[[np.random.Generator], float]
STD_FLOOR = 0.01  # in units of the data's spread
HOLD = 5  # steps of 0.05 s from one gust to the next


def gru_cell(x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """One step of a gated recurrent unit, with torch.nn.GRUCell's weights: rows in the order r, u, n (torch's r, z, n).

    r = sigmoid(W_r x + b_r + U_r h + c_r), u likewise, n = tanh(W_n x + b_n + r * (U_n h + c_n)),
    h' = (1 - u) * n + u * h. Cho et al., arXiv:1406.1078, who apply r to h before the matrix product; torch does after.

    Args:
        x: input, (B, I).
        h: memory, (B, D).
        weight_ih: W, (3 D, I).
        weight_hh: U, (3 D, D).
        bias_ih, bias_hh: b and c, (3 D,).

    Returns:
        The next memory, (B, D).
    """
    from_x = (x @ weight_ih.T + bias_ih).chunk(3, -1)  # three times (B, D)
    from_h = (h @ weight_hh.T + bias_hh).chunk(3, -1)
    reset = torch.sigmoid(from_x[0] + from_h[0])
    keep = torch.sigmoid(from_x[1] + from_h[1])
    new = torch.tanh(from_x[2] + reset * from_h[2])
    return (1 - keep) * new + keep * h


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values where mask is true; the others count for nothing, whatever they hold, nan included.

    Args:
        values: (B, T).
        mask: (B, T) bool.

    Returns:
        Scalar; 0, with a gradient of 0, where mask is true nowhere.
    """
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def mixture_log_prob(y: Tensor, logits: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log of the sum over k of softmax(logits)_k N(y; mean_k, diag(std_k²)), in nats.

    Bishop 1994, Mixture density networks.

    Args:
        y: (..., Y).
        logits: of the K components, not normalized, (..., K).
        mean: (..., K, Y).
        std: standard deviations, above 0, (..., K, Y).

    Returns:
        (...), summed over the Y dimensions.
    """
    each = gaussian_log_prob(y[..., None, :], mean, std)  # (..., K)
    return torch.logsumexp(logits.log_softmax(-1) + each, -1)


def mixture_sample(
    logits: Tensor, mean: Tensor, std: Tensor, uniform: Tensor, noise: Tensor, temperature: float
) -> Tensor:
    """A draw: a component first, then a point of it. Temperature 1 draws from the mixture, lower is tamer.

    Component k is the first whose cumulative weight exceeds `uniform`, the last if rounding leaves none; weights are
    softmax(logits / temperature). The draw: mean_k + sqrt(temperature) * std_k * noise. Ha & Eck, arXiv:1704.03477.

    Args:
        logits: (..., K).
        mean: (..., K, Y).
        std: standard deviations, above 0, (..., K, Y).
        uniform: numbers in [0, 1), (...).
        noise: standard normal numbers, (..., Y).
        temperature: above 0.

    Returns:
        (..., Y); gradients reach mean and std.
    """
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)
    choice = (cumulative <= uniform[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)
    index = choice[..., None, None].expand(*choice.shape, 1, mean.shape[-1])
    chosen_mean, chosen_std = mean.gather(-2, index)[..., 0, :], std.gather(-2, index)[..., 0, :]
    return chosen_mean + math.sqrt(temperature) * chosen_std * noise


def rollout_with_memory(step: MemoryStep, memory: Tensor, obs: Tensor, actions: Tensor) -> Tensor:
    """Listen to L real observations, then feed each prediction back.

    Args:
        step: from memory (B, D), obs (B, O) and action (B, A) to the next memory and the predicted next obs.
        memory: before anything was seen, (B, D).
        obs: the context, (B, L, O), L at least 1.
        actions: (B, L - 1 + H, A): the context's, then the future's; [:, t] is taken at the observation at t.

    Returns:
        The H predictions after the context, (B, H, O); [:, 0] is what comes after obs[:, -1].
    """
    seen, predictions = list(obs.unbind(1)), []
    for t, action in enumerate(actions.unbind(1)):
        now = seen[t] if t < len(seen) else predictions[-1]
        memory, predicted = step(memory, now, action)
        predictions.append(predicted)
    return torch.stack(predictions[len(seen) - 1 :], dim=1)


class Padded(NamedTuple):
    """B episodes of different lengths in one batch, zeros after the end of each; T is the longest one's steps."""

    obs: Tensor  # (B, T + 1, O)
    action: Tensor  # (B, T, A)
    mask: Tensor  # (B, T) bool: this step happened


def pad_episodes(episodes: list[Episode]) -> Padded:
    """Episodes side by side, padded with zeros to the longest."""

    happened = [torch.ones_like(e.terminated) for e in episodes]
    columns = [e.obs for e in episodes], [e.action for e in episodes], happened
    return Padded(*(nn.utils.rnn.pad_sequence(column, batch_first=True) for column in columns))


def turns(obs: Tensor) -> Tensor:
    """By how much the pendulum turned at each step, in (-pi, pi]: (..., T + 1, O) to (..., T), in radian."""
    angle = angle_of(obs)
    moved = angle[..., 1:] - angle[..., :-1]
    return torch.atan2(moved.sin(), moved.cos())


def turned(obs: Tensor, turn: Tensor) -> Tensor:
    """(cos, sin) after a turn by an angle in radian: (..., 2) and (...) to (..., 2)."""
    angle = angle_of(obs) + turn
    return torch.stack([angle.cos(), angle.sin()], -1)


class GustyPendulum(gym.Wrapper):
    """Pendulum-v1 in the wind: every 0.25 s, just after you chose a torque, a gust kicks its velocity.

    A step holds the torque for 5 steps of Pendulum-v1 and sums their rewards. `gust` draws the kick, rad/s.
    """

    def __init__(self, env: gym.Env, gust: Gust):
        super().__init__(env)
        self.gust = gust

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """One draw of the wind, then 0.25 s."""
        return self.swing(action, self.gust(self.unwrapped.np_random))

    def swing(self, action: Any, kick: float) -> tuple[Any, float, bool, bool, dict]:
        """The same with the kick given: what would have come."""
        world: Any = self.unwrapped
        world.state = np.asarray(world.state) + np.array([0.0, kick])
        total = 0.0
        for _ in range(HOLD):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
        return obs, total, terminated, truncated, info


class RecurrentModel(nn.Module):
    """h' = GRU(h, (z, a)) and p(turn | h'), a mixture of K Gaussians; z is (cos, sin) of the pendulum's angle.

    Args:
        data: recordings, to take shapes and the spread of the turns from.
        components, hidden: K (1 is a single Gaussian) and D.
        cell: the GRU's equations.
    """

    turn_std: Tensor

    def __init__(self, data: Padded, components: int = 1, hidden: int = 64, cell: Cell = gru_cell):
        super().__init__()
        self.hidden, self.components, self.cell = hidden, components, cell
        self.register_buffer("turn_std", turns(data.obs)[data.mask].std())
        self.build(2 + data.action.shape[-1])
        self.head = mlp(hidden, hidden, 3 * components)

    def build(self, inputs: int) -> None:
        """The weights of the memory, in torch's layout."""
        self.gates = nn.GRUCell(inputs, self.hidden)

    def update(self, memory: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """The next memory: (B, D), (B, 2), (B, A) to (B, D)."""
        g = self.gates
        return self.cell(torch.cat([obs, action], -1), memory, g.weight_ih, g.weight_hh, g.bias_ih, g.bias_hh)

    def distribution(self, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the next turn, in radian: logits (..., K), mean and std (..., K, 1)."""
        logits, mean, raw = self.head(memory).chunk(3, -1)
        return logits, (mean * self.turn_std)[..., None], ((F.softplus(raw) + STD_FLOOR) * self.turn_std)[..., None]

    def start(self, batch: int) -> Tensor:
        """The memory before anything was seen, (B, D)."""
        return torch.zeros(batch, self.hidden, device=self.turn_std.device)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The distribution of every turn of a sequence: (B, T, 2) and (B, T, A) to (B, T, K), twice (B, T, K, 1)."""
        memory, memories = self.start(len(obs)), []
        for seen, taken in zip(obs.unbind(1), action.unbind(1), strict=True):
            memory = self.update(memory, seen, taken)
            memories.append(memory)
        return self.distribution(torch.stack(memories, 1))

    def step(self, memory: Tensor, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The next memory, and the next (cos, sin) by the mean of the mixture."""
        memory = self.update(memory, obs, action)
        logits, mean, _ = self.distribution(memory)
        return memory, turned(obs, (logits.softmax(-1) * mean[..., 0]).sum(-1))


class MemorylessModel(RecurrentModel):
    """The same head on a network that sees (z, a) and nothing of what was before; about as many weights."""

    def build(self, inputs: int) -> None:
        """Layers instead of gates."""
        self.net = mlp(inputs, 3 * self.hidden, self.hidden, self.hidden)

    def update(self, memory: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """What (z, a) says, whatever the memory: (B, D), (B, 2), (B, A) to (B, D)."""
        return self.net(torch.cat([obs, action], -1))

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As above; without memory all T steps are done at once."""
        return self.distribution(self.update(self.start(len(obs)), obs, action))
