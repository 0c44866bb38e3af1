"""Lesson 07's table: the RSSM and its ablations, open loop on pendulum frames, several seeds each.

    python solutions/runs/07_open_loop.py            # all variants, seeds 0 to 4
    python solutions/runs/07_open_loop.py --seeds 1 --steps 200 --out quick.json

Writes one JSON file into the package (wmcourse/runs), where the lesson finds it: per variant and seed the errors over the horizon and the answer to a counterfactual
action swap. A run that is in the file already is not made again.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import wmcourse
from wmcourse import rssm
from wmcourse.elbo import gaussian_log_likelihood
from wmcourse.encoder_decoder import MLPDecoder, MLPEncoder, fit_probe, frames_to_float
from wmcourse.nets import fit
from wmcourse.replay import Replay, random_policy, record_episode
from wmcourse.worlds import make_pendulum

SIZE, HOLD, TRAIN, TEST = 16, 4, 60, 16  # pixels, steps a torque is held, episodes
CONTEXT, HORIZON = 5, 25
BATCH, LENGTH = 16, 20
SWAP, SWAPPED, LATER = 8, 4, 16  # torques 8 to 11 are turned around; the answer is read at frame 16


class Point:
    """A latent without noise. Its KL is that of two Gaussians of one fixed std: a squared distance."""

    def __init__(self, size: int, std: float = 0.3):
        self.size, self.parameters, self.std = size, size, std

    def noise(self, shape, generator: torch.Generator) -> Tensor:
        return torch.zeros(*shape, self.size)

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        return parameters

    def kl(self, q: Tensor, p: Tensor) -> Tensor:
        return 0.5 * ((q - p) / self.std).square().sum(-1)


class Silent(rssm.Gaussian):
    """The Gaussian latent with its dice taken away: the same loss, noise 0 in training."""

    def noise(self, shape, generator: torch.Generator) -> Tensor:
        return torch.zeros(*shape, self.size)


class WithoutMemory(rssm.RSSM):
    """Only z goes from one step to the next: h_t = f(z_{t-1}, a_{t-1})."""

    def transition(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        return super().transition(torch.zeros_like(deter), stoch, action)

    def observe(self, *args: Tensor) -> rssm.Beliefs:
        return rssm.observe(self, *args)  # the plain loop, which asks transition


LATENTS = {
    "RSSM": rssm.Gaussian(8),
    "RSSM, categorical": rssm.Categorical(8, 8),
    "deterministic only": Silent(8),
    "deterministic, distance": Point(8),
    "stochastic only": rssm.Gaussian(8),
    "misaligned actions": rssm.Gaussian(8),
}


def film(count: int, seed: int) -> tuple[Replay, Tensor]:
    """`count` episodes of pendulum frames under random held torques, and the true angle and velocity, (count, 201, 2)."""
    env = make_pendulum(pixels=True, frame_size=SIZE)
    policy = random_policy(env, seed, hold=HOLD)
    replay, states = Replay(), []

    def act(obs):
        states.append(env.unwrapped.state)
        return policy(obs)

    for i in tqdm(range(count), desc="filming", leave=False):
        replay.add(record_episode(env, act, seed + i))
        states.append(env.unwrapped.state)
    env.close()
    return replay, torch.as_tensor(np.stack(states), dtype=torch.float32).view(count, -1, 2)


def as_floats(replay: Replay) -> rssm.Sequences:
    """Every episode as one row: (N, 201, ...)."""
    stream, count = replay.stream(), len(replay.episodes)
    rows = rssm.Sequences(*(part[0].unflatten(0, (count, -1)) for part in stream))
    return rows._replace(obs=frames_to_float(rows.obs))


def angle_reader(frames: Tensor, angle: Tensor):
    """Lesson 02's probe on real frames (N, 1, H, W): a function from frames (..., 1, H, W) to angles (...).

    Only pixels that ever see ink: the probe divides by each pixel's spread, and a corner has none.
    """
    ink = frames.flatten(1).std(0) > 0.05
    probe = fit_probe(
        frames.flatten(1)[:, ink], torch.stack([angle.cos(), angle.sin()], -1), seed=0
    )

    def read(pictures: Tensor) -> Tensor:
        pixels = pictures.reshape(-1, ink.numel())[:, ink].clamp(0, 1)
        cos, sin = probe(pixels).view(*pictures.shape[:-3], 2).unbind(-1)
        return torch.atan2(sin, cos)

    return read


def turn(a: Tensor, b: Tensor) -> Tensor:
    """The angle from b to a, the short way round."""
    return torch.atan2((a - b).sin(), (a - b).cos())


def make(variant: str, seed: int) -> rssm.WorldModel:
    """A world model that has learned nothing."""
    torch.manual_seed(seed)
    latent = LATENTS[variant]
    config = rssm.RSSMConfig(action=1, embed=64, deter=128, hidden=128, latent=latent)
    decoder = MLPDecoder(128 + latent.size, size=SIZE)
    likelihood = functools.partial(gaussian_log_likelihood, std=0.2)
    model = rssm.WorldModel(config, MLPEncoder(64, size=SIZE), decoder, likelihood)
    if variant == "stochastic only":
        model.rssm = WithoutMemory(config)
    return model


def shown(variant: str, action: Tensor) -> Tensor:
    """The actions (B, T, A) as a variant gets them: misaligned, h_t is told action[:, t] and not the one that led here."""
    if variant != "misaligned actions":
        return action
    return torch.cat([action[:, 1:], torch.zeros_like(action[:, :1])], 1)


def train(variant: str, replay: Replay, seed: int, steps: int) -> rssm.WorldModel:
    """Train on windows from anywhere in the stream, over the ends of episodes, too."""
    model, generator = make(variant, seed), torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        batch = replay.sample_sequences(BATCH, LENGTH, generator)
        batch = batch._replace(obs=frames_to_float(batch.obs), action=shown(variant, batch.action))
        return model.loss(batch, model.rssm.latent.noise((BATCH, LENGTH), generator), free=0.0)[0]

    fit(model.parameters(), loss, steps=steps, learning_rate=6e-3, label=f"{variant}, seed {seed}")
    return model.requires_grad_(False)


def dream(
    variant: str, model: rssm.WorldModel, obs: Tensor, action: Tensor, sampled: bool
) -> Tensor:
    """Frames (B, T - CONTEXT, 1, H, W) dreamed from the first CONTEXT of obs and the actions (B, T, A) alone."""
    core, batch, horizon = model.rssm, len(obs), action.shape[1] - CONTEXT
    first = torch.zeros(batch, CONTEXT, dtype=torch.bool)
    action = shown(variant, action)
    still = (
        0.5 if isinstance(core.latent, rssm.Categorical) else 0.0
    )  # the noise whose draw is the likeliest z
    generator = torch.Generator().manual_seed(0)
    seen, noise = (core.latent.noise((batch, n), generator) for n in (CONTEXT, horizon))
    if not sampled:
        seen, noise = torch.full_like(seen, still), torch.full_like(noise, still)
    beliefs = core.observe(model.encoder(obs[:, :CONTEXT]), action[:, :CONTEXT], first, seen)
    start = rssm.State(*(part[:, -1] for part in beliefs.state))
    states, _ = rssm.imagine_ahead(core, start, action[:, CONTEXT - 1 :], noise)
    return model.decoder(states.features())


def simulate(state: Tensor, action: Tensor) -> Tensor:
    """The true angles (B, H) after each of the torques (B, H, 1), from states (B, 2)."""
    env = make_pendulum()
    env.reset(seed=0)
    angles = []
    for begin, torques in zip(state.double().numpy(), action.numpy(), strict=True):
        env.unwrapped.state = begin
        for torque in torques:
            env.unwrapped.step(torque)
            angles.append(env.unwrapped.state[0])
    env.close()
    return torch.tensor(angles, dtype=torch.float32).view(len(state), -1)


def cut(x: Tensor, length: int) -> Tensor:
    """Rows (N, 201, ...) cut into windows of `length`, end to end."""
    pieces = [x[:, k : k + length] for k in range(0, x.shape[1] - length, length)]
    return torch.cat(pieces)


def evaluate(
    variant: str, model: rssm.WorldModel, rows: rssm.Sequences, state: Tensor, read
) -> dict:
    """Errors over the horizon, dreamed along the likeliest z and sampled; and the answer to a swap of torques."""
    length = CONTEXT + HORIZON
    obs, action, truth = (cut(x, length) for x in (rows.obs, rows.action, state))
    real, angle = obs[:, CONTEXT:], truth[:, CONTEXT:, 0]
    found = {}
    for name, sampled in (("", False), ("sampled ", True)):
        dreamed = dream(variant, model, obs, action, sampled)
        found[name + "angle"] = turn(read(dreamed), angle).abs().mean(0).tolist()
        found[name + "pixel"] = (dreamed - real).square().mean((0, 2, 3, 4)).tolist()
    last = obs[:, CONTEXT - 1 : CONTEXT].expand_as(real)
    found["copy angle"] = turn(read(last), angle).abs().mean(0).tolist()
    found["copy pixel"] = (last - real).square().mean((0, 2, 3, 4)).tolist()

    core, told = model.rssm, shown(variant, action)
    noise = core.latent.noise(obs.shape[:2], torch.Generator().manual_seed(0))
    beliefs = core.observe(
        model.encoder(obs), told, torch.zeros(obs.shape[:2], dtype=torch.bool), noise
    )
    seen = model.decoder(beliefs.state.features())[:, CONTEXT:]
    found["reconstruction"] = (seen - real).square().mean().item()
    found["kl"] = core.latent.kl(beliefs.posterior, beliefs.prior)[:, CONTEXT:].mean().item()

    swapped = action.clone()
    swapped[:, SWAP : SWAP + SWAPPED] *= -1
    world = [simulate(truth[:, SWAP], a[:, SWAP:-1]) for a in (swapped, action)]
    moved = turn(*world)[:, LATER - SWAP - 1]
    dreams = [read(dream(variant, model, obs, a, False)) for a in (swapped, action)]
    answer = turn(*dreams)
    dreamed = answer[:, LATER - CONTEXT]
    found["swap correlation"] = torch.corrcoef(torch.stack([moved, dreamed]))[0, 1].item()
    found["swap slope"] = ((moved * dreamed).sum() / moved.square().sum()).item()
    found["swap before"] = (
        answer[:, : SWAP - CONTEXT + 1].abs().amax().item()
    )  # frames up to SWAP cannot know
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--variants", nargs="*", default=list(LATENTS))
    parser.add_argument(
        "--out", type=Path, default=Path(wmcourse.__file__).parent / "runs" / "07_open_loop.json"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    replay, state = film(TRAIN, 0)
    test, test_state = film(TEST, 100_000)
    rows, test_rows = as_floats(replay), as_floats(test)
    some = torch.randperm(
        rows.obs.shape[0] * rows.obs.shape[1], generator=torch.Generator().manual_seed(0)
    )[:3000]
    read = angle_reader(rows.obs.flatten(0, 1)[some], state.flatten(0, 1)[some, 0])
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    found["probe"] = turn(read(test_rows.obs), test_state[..., 0]).abs().mean().item()
    for seed in range(args.seeds):
        for variant in args.variants:
            if str(seed) not in found.setdefault(variant, {}):
                model = train(variant, replay, seed, args.steps)
                one = found[variant][str(seed)] = evaluate(
                    variant, model, test_rows, test_state, read
                )
                args.out.write_text(json.dumps(found))
                for key in ("angle", "sampled angle", "pixel", "sampled pixel"):
                    print(
                        f"{key} {sum(one[key]) / sum(one[f'copy {key.split()[-1]}']):.3f}", end="  "
                    )
                rest = (f"{key} {one[key]:.3f}" for key in ("swap correlation", "swap slope", "kl"))
                print(*rest, variant, seed, sep="  ", flush=True)


if __name__ == "__main__":
    main()
