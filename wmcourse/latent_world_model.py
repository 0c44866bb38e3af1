"""A latent world model: four terms that teach one latent to draw, to be cheap, to earn and to move (lesson 05).

E_q[log p(s | z)] - beta KL(q(z | s) || N(0, I)) + E_q[log p(r | z, a)] + E_q[log p(z' | z, a)], in nats; frames and
rewards after Ha & Schmidhuber, arXiv:1803.10122, a dynamics trained jointly with its latent after Watter et al.,
arXiv:1506.07365. Row t of a window: obs[t] is seen, action[t] taken, reward[t] and obs[t + 1] come back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wmcourse.elbo import gaussian_kl, gaussian_log_likelihood
from wmcourse.encoder_decoder import frames_to_float, stack_frames
from wmcourse.nets import fit, mlp
from wmcourse.one_step_dynamics import gaussian_log_prob
from wmcourse.reparameterization import reparameterize
from wmcourse.replay import Episode, Replay, Sequences
from wmcourse.worlds import TORQUE, make_pendulum, render_angles

FRAME_SIZE = 16  # pixels; enough for the angle, and cheap
ANGLES = 1440  # frames are drawn for every quarter of a degree, once
REPEAT = 3  # world steps (0.05 s each) that one action acts for: a step of the film is 0.15 s
HOLD = 2  # steps of the film that a torque lasts
START_SPEED = 4.0  # the fastest start, radian per second
GLOW = 40  # ink of a lamp that is on, of 255: a seventh of the rod's
FINE = 3.0  # what a step under the left lamp costs
LOG_VAR_RANGE = (-8.0, 4.0)  # a latent's log-variance stays between these, so that no spread reaches 0


def reward_term(
    predict_reward: Callable[[Tensor, Tensor], Tensor], z: Tensor, action: Tensor, reward: Tensor, std: float
) -> Tensor:
    """log p(r_t | z_t, a_t) = log N(r_t; predict_reward(z_t, a_t), std²) of every step inside a window, in nats.

    Args:
        predict_reward: the mean, from z (..., Z) and action (..., A) to (...).
        z: (B, T, Z).
        action: (B, T, A).
        reward: (B, T).
        std: standard deviation of every reward, above 0.

    Returns:
        (B, T - 1): a window's last row has no step inside the window.
    """
    mean = predict_reward(z[:, :-1], action[:, :-1])
    error = (reward[:, :-1] - mean) / std
    return -0.5 * error.square() - math.log(std) - 0.5 * math.log(2 * math.pi)


def dynamics_term(predict_next: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], z: Tensor, action: Tensor) -> Tensor:
    """log p(z_{t+1} | z_t, a_t) of every step inside a window, in nats, summed over the latent dimensions.

    Args:
        predict_next: mean and log_var of a diagonal Gaussian, from z (..., Z) and action (..., A) to (..., Z) each.
        z: (B, T, Z), draws of q; gradients reach both sides of a step.
        action: (B, T, A).

    Returns:
        (B, T - 1).
    """
    mean, log_var = predict_next(z[:, :-1], action[:, :-1])
    return gaussian_log_prob(z[:, 1:], mean, (0.5 * log_var).exp())


def world_model_loss(
    reconstruction: Tensor, kl: Tensor, reward: Tensor, dynamics: Tensor, first: Tensor, beta: float
) -> Tensor:
    """Minus the four-term objective: frames averaged over rows, steps averaged over the steps that happened.

    A step from the last observation of one episode to the first of the next never happened; its entries may hold
    anything, nan included, and count for nothing.

    Args:
        reconstruction: log p(s_t | z_t), (B, T) nats.
        kl: KL(q(z_t | s_t) || N(0, I)), (B, T) nats.
        reward: log p(r_t | z_t, a_t), (B, T - 1) nats.
        dynamics: log p(z_{t+1} | z_t, a_t), (B, T - 1) nats.
        first: true at the first observation of an episode, (B, T) bool.
        beta: the price of a nat of KL.

    Returns:
        Scalar.
    """
    happened = ~first[:, 1:]
    steps = torch.where(happened, reward + dynamics, 0.0).sum() / happened.sum().clamp(min=1)
    return (beta * kl - reconstruction).mean() - steps


class WorldModel(nn.Module):
    """Encoder, decoder, latent dynamics and reward, and the dream that they make together. B is a batch of any size.

    Args:
        obs_size: numbers in an observation, O.
        action_size: A.
        latent_size: Z.
        hidden_size: width of the hidden layers and of the GRU cell.
    """

    def __init__(self, obs_size: int, action_size: int, latent_size: int, hidden_size: int):
        super().__init__()
        self.encoder = mlp(obs_size, hidden_size, hidden_size, 2 * latent_size)
        self.decoder = mlp(latent_size, hidden_size, hidden_size, obs_size)
        self.lift = nn.Linear(latent_size, hidden_size)
        self.cell = nn.GRUCell(latent_size + action_size, hidden_size)
        self.transition = nn.Linear(hidden_size, 2 * latent_size)
        self.rewards = mlp(latent_size + action_size, hidden_size, 1)

    def encode(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log_var of q(z | s): (B, O) to (B, Z) each."""
        mean, log_var = self.encoder(obs).chunk(2, -1)
        return mean, log_var.clamp(*LOG_VAR_RANGE)

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(s | z): (B, Z) to (B, O)."""
        return self.decoder(z)

    def step(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log_var of p(z' | z, a): (B, Z) and (B, A) to (B, Z) each. The cell's state is made anew from z."""
        state = self.cell(torch.cat([z, action], -1), self.lift(z).tanh())
        change, log_var = self.transition(state).chunk(2, -1)
        return z + change, log_var.clamp(*LOG_VAR_RANGE)

    def reward(self, z: Tensor, action: Tensor) -> Tensor:
        """The mean of p(r | z, a): (B, Z) and (B, A) to (B,)."""
        return self.rewards(torch.cat([z, action], -1))[..., 0]

    def imagine(self, z: Tensor, actions: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        """Follow the mean of the dynamics for `horizon` steps; no observation is seen and no noise is drawn.

        Args:
            z: where the dream starts, z_0, (B, Z).
            actions: a_0, a_1, ..., (B, T, A) with T at least horizon; the rest is not used.
            horizon: H, at least 1.

        Returns:
            z_1 to z_H, (B, H, Z), and the rewards of (z_0, a_0) to (z_{H-1}, a_{H-1}), (B, H).
        """
        latents, rewards = [], []
        for action in actions[:, :horizon].unbind(1):
            rewards.append(self.reward(z, action))
            z, _ = self.step(z, action)
            latents.append(z)
        return torch.stack(latents, 1), torch.stack(rewards, 1)


def per_row(function: Callable[..., Any], *windows: Tensor) -> Any:
    """Call a function of rows (N, ...) on windows (B, T, ...): (B, T, ...) comes back, from each part of a tuple."""
    result, shape = function(*(window.flatten(0, 1) for window in windows)), windows[0].shape[:2]
    return result.unflatten(0, shape) if isinstance(result, Tensor) else tuple(x.unflatten(0, shape) for x in result)


class Terms(NamedTuple):
    """The four terms of a batch of windows, in nats; `world_model_loss` takes them in this order."""

    reconstruction: Tensor  # (B, T)
    kl: Tensor  # (B, T)
    reward: Tensor  # (B, T - 1)
    dynamics: Tensor  # (B, T - 1)


def objective_terms(
    model: WorldModel, batch: Sequences, noise: Tensor, *, pixel_std: float = 1.0, reward_std: float = 0.5
) -> Terms:
    """Every term at one draw of q. Observations are floats, (B, T, O), one pixel a number; noise is (B, T, Z)."""
    mean, log_var = per_row(model.encode, batch.obs)
    std = (0.5 * log_var).exp()
    z = reparameterize(mean, std, noise)
    seen, drawn = (frames[..., None, None] for frames in (batch.obs, per_row(model.decode, z)))
    return Terms(
        gaussian_log_likelihood(seen, drawn, pixel_std),
        gaussian_kl(mean, std, torch.zeros_like(mean), torch.ones_like(std)),
        reward_term(lambda *rows: per_row(model.reward, *rows), z, batch.action, batch.reward, reward_std),
        dynamics_term(lambda *rows: per_row(model.step, *rows), z, batch.action),
    )


def fit_world_model(
    replay: Replay, latent_size: int, *, seed: int, steps: int = 800, beta: float = 1.0, hidden: int = 128
) -> WorldModel:
    """A world model trained on windows of 4 rows of a replay whose observations are floats (T + 1, O)."""
    stream, generator = replay.stream(), torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WorldModel(stream.obs.shape[-1], stream.action.shape[-1], latent_size, hidden)

    def loss() -> Tensor:
        batch, noise = replay.sample_sequences(32, 4, generator), torch.randn(32, 4, latent_size, generator=generator)
        return world_model_loss(*objective_terms(model, batch, noise), batch.first, beta)

    fit(model.parameters(), loss, steps=steps, learning_rate=1e-2)
    return model


class Films(NamedTuple):
    """N episodes of T steps in the world of two lamps, with what its frames are made of."""

    frames: Tensor  # (N, T + 1, 1, 16, 16) uint8
    action: Tensor  # (N, T, 1): torque, newton meter
    reward: Tensor  # (N, T)
    state: Tensor  # (N, T + 1, 3): cos and sin of the angle, velocity in radian per second
    lamps: Tensor  # (N, 2) bool: left, right


def record_films(count: int, steps: int, seed: int) -> Films:
    """Film Pendulum-v1 with a lamp in each upper corner, under random torques that are held for HOLD steps.

    An episode starts at an angle uniform on the circle and a velocity uniform in [-4, 4]. The reward of a step is the
    mean over its REPEAT world steps. Each lamp is on or off for a whole episode, by a coin of its own: under the left
    one every step costs FINE, the right one means nothing.
    """
    generator = np.random.default_rng(seed)
    lamps = generator.random((count, 2)) < 0.5
    torque = generator.uniform(-TORQUE, TORQUE, (count, -(-steps // HOLD), 1)).repeat(HOLD, 1)[:, :steps]
    action, fine = torch.as_tensor(torque, dtype=torch.float32), torch.as_tensor(FINE * lamps[:, :1]).float()
    env: Any = make_pendulum()
    states, rewards = [], []
    for n in range(count):
        env.reset(seed=seed + n, options={"x_init": math.pi, "y_init": START_SPEED})
        states.append(env.unwrapped.state)
        for push in action[n].numpy():
            rewards.append(sum(float(env.step(push)[1]) for _ in range(REPEAT)) / REPEAT)
            states.append(env.unwrapped.state)
    env.close()
    angle, velocity = torch.as_tensor(np.stack(states), dtype=torch.float32).view(count, steps + 1, 2).unbind(-1)
    gallery = render_angles(torch.arange(ANGLES) * 2 * math.pi / ANGLES, FRAME_SIZE)
    frames = gallery[(angle * ANGLES / (2 * math.pi)).round().long() % ANGLES].clone()
    light = torch.as_tensor(GLOW * lamps, dtype=torch.uint8)[:, :, None, None, None, None]
    frames[..., :2, :2], frames[..., :2, -2:] = light[:, 0], light[:, 1]
    state = torch.stack([angle.cos(), angle.sin(), velocity], -1)
    return Films(frames, action, torch.tensor(rewards).view(count, steps) - fine, state, torch.as_tensor(lamps))


def pairs_of_frames(films: Films) -> Tensor:
    """What a world model observes: each frame and the one before it, flattened, (N, T + 1, 2 · 16 · 16) in [0, 1]."""
    return frames_to_float(stack_frames(films.frames, torch.zeros(films.frames.shape[:2], dtype=torch.bool))).flatten(2)


def film_replay(films: Films, obs: Tensor) -> Replay:
    """The films as episodes of a replay, with observations (N, T + 1, O) of your making; each was cut, none ended."""
    replay, steps = Replay(), films.action.shape[1]
    over = torch.zeros(steps, dtype=torch.bool)
    for seen, action, reward in zip(obs, films.action, films.reward, strict=True):
        replay.add(Episode(seen, action, reward, over, torch.arange(steps) == steps - 1))
    return replay
