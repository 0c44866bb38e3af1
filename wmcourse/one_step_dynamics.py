"""One-step dynamics: s' = f(s, a) and r = R(s, a), learned from transitions, and rolled forward (lesson 01).

The network sees standardized inputs and predicts the standardized difference s' - s as a Gaussian, and the reward
(Chua et al., arXiv:1805.12114, section 4; Janner et al., arXiv:1906.08253, appendix).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmcourse.nets import fit, mlp
from wmcourse.replay import Episode, Transitions

Step = Callable[[Tensor, Tensor], Tensor]
SMALLEST_SPREAD = 1e-6
STD_FLOOR = 1e-3  # of a standardized difference; without a floor one exact prediction makes the likelihood infinite


def standardize(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Columns brought to mean 0 and spread 1; one that hardly changes (std below 1e-6) is centered, not divided.

    Args:
        x: (..., D).
        mean: per column, (D,).
        std: standard deviation per column, at least 0, (D,).
    """
    return (x - mean) / torch.where(std < SMALLEST_SPREAD, 1.0, std)


def predict_next(predict_delta: Step, obs: Tensor, action: Tensor, delta_mean: Tensor, delta_std: Tensor) -> Tensor:
    """The next observation, from a model of the standardized difference: obs + delta_mean + delta_std * delta.

    Args:
        predict_delta: from obs (B, O) and action (B, A) to the standardized difference (B, O).
        obs: (B, O).
        action: (B, A).
        delta_mean: mean of next_obs - obs in the training data, (O,).
        delta_std: its standard deviation, (O,).

    Returns:
        (B, O).
    """
    return obs + delta_mean + delta_std * predict_delta(obs, action)


def gaussian_head(features: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Split a network's output into the mean and the standard deviation of a diagonal Gaussian.

    Args:
        features: (..., 2 D); the first half becomes the mean as it is.
        floor: the smallest standard deviation, above 0.

    Returns:
        mean and std = softplus(second half) + floor, (..., D) each.
    """
    mean, raw = features.chunk(2, dim=-1)
    return mean, F.softplus(raw) + floor


def gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, diag(std²)) in nats, summed over the last axis: (..., D) to (...).

    Bishop, Pattern Recognition and Machine Learning, equation 2.43.

    Args:
        x: (..., D).
        mean: (..., D).
        std: standard deviation, above 0, (..., D).
    """
    standardized = (x - mean) / std
    return (-0.5 * standardized.square() - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


def rollout(step: Step, obs: Tensor, actions: Tensor) -> Tensor:
    """Open loop: feed each prediction back into the model. actions[:, 0] acts on obs.

    Args:
        step: from obs (B, O) and action (B, A) to the next obs (B, O).
        obs: the observations to start from, (B, O).
        actions: (B, H, A).

    Returns:
        The predictions, (B, H, O); [:, k] is what comes after actions[:, k].
    """
    predictions = []
    for action in actions.unbind(1):
        obs = step(obs, action)
        predictions.append(obs)
    return torch.stack(predictions, dim=1)


def open_loop_error(predicted: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """Root mean square error at each step ahead, over the batch and the dimensions in units of their scale.

    Args:
        predicted: (B, H, O).
        true: (B, H, O).
        scale: the size of each dimension, its standard deviation in the data say, (O,).

    Returns:
        (H,), 0 for a perfect model.
    """
    return ((predicted - true) / scale).square().mean(dim=(0, 2)).sqrt()


def windows(episodes: list[Episode], horizon: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut episodes into windows of `horizon` steps, end to end; what is left over at an episode's end is dropped.

    Returns:
        The observation before each window (B, O), its actions (B, H, A), and what really came after each, (B, H, O).
    """
    starts = [(e, k) for e in episodes for k in range(0, len(e.action) - horizon + 1, horizon)]
    obs = torch.stack([e.obs[k] for e, k in starts])
    actions = torch.stack([e.action[k : k + horizon] for e, k in starts])
    return obs, actions, torch.stack([e.obs[k + 1 : k + horizon + 1] for e, k in starts])


def keep_in_range(step: Step, low: Tensor, high: Tensor) -> Step:
    """The same model, its predictions held between `low` and `high`, (O,) each: it never imagines the unheard of."""
    return lambda obs, action: step(obs, action).clamp(low, high)


class OneStepModel(nn.Module):
    """p(s' | s, a), a diagonal Gaussian around s plus a predicted difference, and the reward's mean R(s, a).

    What it learned of the data's scale and range is part of the model: it is saved, loaded and moved with it.

    Args:
        data: the transitions to take shapes, statistics and device from; obs (N, O) and action (N, A), both floats.
        hidden: width of the two hidden layers.
    """

    input_mean: Tensor  # of (s, a), (O + A,)
    input_std: Tensor
    delta_mean: Tensor  # of s' - s, (O,)
    delta_std: Tensor
    reward_mean: Tensor  # (1,)
    reward_std: Tensor
    obs_low: Tensor  # the range of the observations seen, (O,)
    obs_high: Tensor

    def __init__(self, data: Transitions, hidden: int = 64):
        super().__init__()
        inputs = torch.cat([data.obs, data.action], -1)
        for name, x in {"input": inputs, "delta": data.next_obs - data.obs, "reward": data.reward[:, None]}.items():
            self.register_buffer(f"{name}_mean", x.mean(0))
            self.register_buffer(f"{name}_std", x.std(0))
        seen = torch.cat([data.obs, data.next_obs])
        self.register_buffer("obs_low", seen.amin(0))
        self.register_buffer("obs_high", seen.amax(0))
        self.dynamics = mlp(inputs.shape[-1], hidden, hidden, 2 * data.obs.shape[-1])
        self.rewards = mlp(inputs.shape[-1], hidden, hidden, 1)
        self.to(data.obs.device)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and std of the standardized difference, (..., O) each, and the standardized reward, (...)."""
        inputs = standardize(torch.cat([obs, action], -1), self.input_mean, self.input_std)
        mean, std = gaussian_head(self.dynamics(inputs), STD_FLOOR)
        return mean, std, self.rewards(inputs)[..., 0]

    def predict(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std of p(s' | s, a) in the observation's own units: (..., O), (..., A) to (..., O) each."""
        mean, std, _ = self(obs, action)
        return predict_next(lambda *_: mean, obs, action, self.delta_mean, self.delta_std), std * self.delta_std

    def step(self, obs: Tensor, action: Tensor) -> Tensor:
        """s' = f(s, a): the mean, held within the range of the observations seen. (..., O), (..., A) to (..., O)."""
        return self.predict(obs, action)[0].clamp(self.obs_low, self.obs_high)

    def spread(self, obs: Tensor, action: Tensor) -> Tensor:
        """The standard deviation of the next observation, in its own units: (..., O)."""
        return self.predict(obs, action)[1]

    def reward(self, obs: Tensor, action: Tensor) -> Tensor:
        """r = R(s, a): (..., O), (..., A) to (...)."""
        return self.reward_mean[0] + self.reward_std[0] * self(obs, action)[2]

    def targets(self, batch: Transitions) -> tuple[Tensor, Tensor]:
        """What forward should give for N transitions: standardized difference (N, O) and reward (N,)."""
        delta = standardize(batch.next_obs - batch.obs, self.delta_mean, self.delta_std)
        return delta, standardize(batch.reward[:, None], self.reward_mean, self.reward_std)[:, 0]


def likelihood_loss(model: OneStepModel, batch: Transitions) -> Tensor:
    """-log p(s' | s, a) in nats of the standardized difference, plus half the squared error of the reward: a scalar."""
    mean, std, reward = model(batch.obs, batch.action)
    delta, wanted = model.targets(batch)
    return -gaussian_log_prob(delta, mean, std).mean() + 0.5 * (reward - wanted).square().mean()


def fit_one_step(
    data: Transitions,
    *,
    seed: int,
    steps: int = 2_000,
    batch: int = 256,
    hidden: int = 64,
    label: str = "",
) -> OneStepModel:
    """A model trained on batches of `data`; the seed decides its first weights and the order of the batches.

    Args:
        data: transitions, N of them.
        seed: the same seed, data and settings give the same model.
        steps, batch: updates, and transitions an update.
        hidden: width of the model's layers.
        label: for the progress bar; none without it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OneStepModel(data, hidden)
    generator = torch.Generator().manual_seed(seed)

    def batch_loss() -> Tensor:
        index = torch.randint(len(data.obs), (batch,), generator=generator)
        return likelihood_loss(model, Transitions(*(part[index] for part in data)))

    fit(model.parameters(), batch_loss, steps=steps, learning_rate=3e-3, label=label)
    return model


def fit_linear(data: Transitions) -> Step:
    """The best linear model of the next observation, by least squares on (s, a, 1)."""

    def features(obs: Tensor, action: Tensor) -> Tensor:
        return torch.cat([obs, action, torch.ones_like(obs[..., :1])], -1)

    weight = torch.linalg.lstsq(features(data.obs, data.action), data.next_obs).solution
    return lambda obs, action: features(obs, action) @ weight


def copy_last(obs: Tensor, action: Tensor) -> Tensor:
    """The baseline that every model should beat: nothing changes."""
    return obs
