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
from wmcourse.replay import Transitions

Step = Callable[[Tensor, Tensor], Tensor]
SMALLEST_SPREAD = 1e-6
STD_FLOOR = 1e-3  # of a standardized difference; without a floor one exact prediction makes the likelihood infinite


def standardize(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Columns brought to mean 0 and spread 1; a column that never changes becomes 0.

    Args:
        x: (..., D).
        mean: per column, (D,).
        std: standard deviation per column, at least 0, (D,).
    """
    return (x - mean) / std.clamp(min=SMALLEST_SPREAD)


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


class OneStepModel(nn.Module):
    """A probabilistic one-step model: p(s' | s, a) Gaussian around s + difference, and the mean reward.

    The statistics of the training data are part of the model: they are saved and loaded with it.

    Args:
        data: the transitions to take shapes and statistics from; actions (N, A).
        hidden: width of the two hidden layers.
    """

    def __init__(self, data: Transitions, hidden: int = 64):
        super().__init__()
        inputs = torch.cat([data.obs, data.action], -1)
        delta = data.next_obs - data.obs
        for name, x in {"input": inputs, "delta": delta, "reward": data.reward[:, None]}.items():
            self.register_buffer(f"{name}_mean", x.mean(0))
            self.register_buffer(f"{name}_std", x.std(0))
        self.net = mlp(inputs.shape[-1], hidden, hidden, 2 * delta.shape[-1] + 1)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standardized difference: mean and std (B, O), and standardized reward (B,)."""
        inputs = torch.cat([obs, action], -1)
        out = self.net(standardize(inputs, self.get_buffer("input_mean"), self.get_buffer("input_std")))
        mean, std = gaussian_head(out[..., :-1], STD_FLOOR)
        return mean, std, out[..., -1]

    def step(self, obs: Tensor, action: Tensor) -> Tensor:
        """The mean of the next observation, s' = f(s, a): (B, O), (B, A) to (B, O)."""
        mean, std = self.get_buffer("delta_mean"), self.get_buffer("delta_std")
        return predict_next(lambda s, a: self(s, a)[0], obs, action, mean, std)

    def spread(self, obs: Tensor, action: Tensor) -> Tensor:
        """The standard deviation of the next observation, in the observation's units: (B, O)."""
        return self(obs, action)[1] * self.get_buffer("delta_std")

    def reward(self, obs: Tensor, action: Tensor) -> Tensor:
        """The mean reward, r = R(s, a): (B,)."""
        return self(obs, action)[2] * self.get_buffer("reward_std")[0] + self.get_buffer("reward_mean")[0]

    def loss(self, batch: Transitions) -> Tensor:
        """Negative log-likelihood of the standardized difference plus half the squared error of the reward; scalar."""
        mean, std, reward = self(batch.obs, batch.action)
        delta = batch.next_obs - batch.obs
        target = standardize(delta, self.get_buffer("delta_mean"), self.get_buffer("delta_std"))
        wanted = standardize(batch.reward[:, None], self.get_buffer("reward_mean"), self.get_buffer("reward_std"))[:, 0]
        return -gaussian_log_prob(target, mean, std).mean() + 0.5 * (reward - wanted).square().mean()


def fit_one_step(data: Transitions, *, seed: int, steps: int = 2_000, batch: int = 256, label: str = "") -> OneStepModel:
    """A model trained on batches of `data`, from the seed's first weights and in the seed's order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OneStepModel(data)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        index = torch.randint(len(data.obs), (batch,), generator=generator)
        return model.loss(Transitions(*(part[index] for part in data)))

    fit(model.parameters(), loss, steps=steps, learning_rate=3e-3, label=label)
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
