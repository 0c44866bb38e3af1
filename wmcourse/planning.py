"""Planning with learned models: particles over an ensemble, a penalty for doubt, and the PETS agent (lesson 09).

The planners are in wmcourse.planners; here are the models as the plain functions that they take. Chua et al.,
arXiv:1805.12114 (PETS). Letters for axes: M members, G groups of M particles, R rows, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from wmcourse.ensembles import EnsembleModel, fit_ensemble, penalized_reward
from wmcourse.one_step_dynamics import OneStepModel
from wmcourse.planners import MPC, Model, Search
from wmcourse.recurrence import State
from wmcourse.replay import Episode, Replay, Transitions, random_policy, record_episode
from wmcourse.rssm import WorldModel, observe_step


def carriers(uniform: Tensor, infinite: bool) -> Tensor:
    """Which member carries each particle through one step. Each group of M particles has every member once.

    TS-infinity: particle i of a group belongs to member i, at every step. TS1: a new shuffle at every step,
    the order of the uniform numbers. Chua et al., arXiv:1805.12114, section 5.1.

    Args:
        uniform: numbers in [0, 1), (G, M), for G groups of M particles.
        infinite: TS-infinity, else TS1.

    Returns:
        int64 in [0, M), (G M,), group after group.
    """
    groups, members = uniform.shape
    if infinite:
        return torch.arange(members, device=uniform.device).repeat(groups)
    return uniform.argsort(-1).flatten()


def particle_step(
    predict: Callable[..., Any], obs: Tensor, action: Tensor, carrier: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Every particle is moved by its own member, which draws: s' = mean_m + std_m * noise.

    Args:
        predict: from obs (M, R / M, O) and action (M, R / M, A), each member its own rows, to mean and std of s',
            (M, R / M, O), mean and std of the reward, (M, R / M).
        obs: (R, O).
        action: (R, A).
        carrier: the member of each row, int64 (R,); every member has R / M rows.
        noise: standard normal numbers, (R, O).

    Returns:
        The next obs (R, O), and the mean of the reward by the row's member, (R,).
    """
    members = int(carrier.max()) + 1
    order = carrier.argsort(stable=True)  # rows of member 0 first, then those of member 1, ...
    back = order.argsort()
    mean, std, reward, _ = predict(*(x[order].unflatten(0, (members, -1)) for x in (obs, action)))
    return mean.flatten(0, 1)[back] + std.flatten(0, 1)[back] * noise, reward.flatten()[back]


def penalized_step(
    predict: Callable[..., Any], obs: Tensor, action: Tensor, scale: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """An ensemble as one careful model: it moves to the members' mean, and pays for what they do not agree about.

    Args:
        predict: from obs (R, O) and action (R, A) to mean and std of s', (M, R, O), mean and std of the reward, (M, R).
        obs, action: (R, O), (R, A).
        scale: the size of each dimension, here of a step in it, (O,).
        weight: reward paid for a disagreement of 1; see `disagreement` in lesson 08. 0 is a trusting model.

    Returns:
        The next obs (R, O) and the reward (R,).
    """
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), penalized_reward(reward, mean, scale, weight)


# Models as plain functions. Learned ones are held between `low` and `high`, (O,), as the world states them.


def by_one_step(model: OneStepModel, low: Tensor, high: Tensor) -> Model:
    """Lesson 01's model; a state is an observation (R, O)."""
    return lambda obs, action: (model.predict(obs, action)[0].clamp(low, high), model.reward(obs, action))


def by_mean(
    model: EnsembleModel, low: Tensor, high: Tensor, weight: float = 0.0, step: Callable[..., Any] = penalized_step
) -> Model:
    """Lesson 08's ensemble as one model, trusting, or careful by `weight`."""

    def moved(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        after, reward = step(model.predict, obs, action, model.target_std[:-1], weight)
        return after.clamp(low, high), reward

    return moved


def by_particles(
    model: EnsembleModel,
    low: Tensor,
    high: Tensor,
    generator: torch.Generator,
    infinite: bool = True,
    assign: Callable[[Tensor, bool], Tensor] = carriers,
    move: Callable[..., tuple[Tensor, Tensor]] = particle_step,
) -> Model:
    """Lesson 08's ensemble by trajectory sampling; rows come in groups of M, see `carriers`."""
    members = model.net.members

    def moved(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        uniform = torch.rand(len(obs) // members, members, generator=generator)
        noise = torch.randn(obs.shape, generator=generator)
        after, reward = move(model.predict, obs, action, assign(uniform, infinite), noise)
        return after.clamp(low, high), reward

    return moved


def by_rssm(model: WorldModel, generator: torch.Generator) -> Model:
    """Lesson 07's model; a state is a pair (h, z), z is drawn from the prior, and the reward is the next state's."""
    core = model.rssm

    def moved(state: State, action: Tensor) -> tuple[State, Tensor]:
        deter = core.transition(*state, action)
        after = State(deter, core.draw(core.prior(deter), core.latent.noise((len(deter),), generator)))
        return after, model.reward(after.features())[..., 0]

    return moved


class Believing:
    """A policy over observations (B, O), from one over an RSSM's states: it watches, believes, and asks the other."""

    def __init__(self, model: WorldModel, policy: Callable[[State], Tensor], generator: torch.Generator):
        self.model, self.policy, self.generator = model, policy, generator
        self.last: tuple[State, Tensor] | None = None

    @torch.no_grad()
    def __call__(self, obs: Tensor) -> Tensor:
        """Take the observation in, and act once: (B, O) to (B, A)."""
        core = self.model.rssm
        first = torch.full((len(obs),), self.last is None)
        state, action = self.last or (core.initial(len(obs)), obs.new_zeros(len(obs), core.config.action))
        noise = core.latent.noise((len(obs),), self.generator)
        state, _ = observe_step(core, state, action, self.model.encoder(obs), first, noise)
        action = self.policy(state)
        self.last = state, action
        return action


@dataclass(frozen=True)
class PETSConfig:
    """The agent's sizes; what it searches with is a Search."""

    members: int = 5
    hidden: tuple[int, ...] = (128, 128)
    particles: int = 5  # a multiple of members
    infinite: bool = True  # TS-infinity, else TS1
    updates: int = 1_000  # of the model after each episode
    batch: int = 128
    learning_rate: float = 3e-3
    hold: int = 4  # steps that a random action is held in the first episode


class Progress(NamedTuple):
    """Where a PETS agent is after an episode."""

    steps: int  # real ones so far
    episode: Episode
    model: EnsembleModel  # fitted to everything so far


def search_for(env: gym.Env, **sizes: int) -> Search:
    """A search over all the actions that a world takes."""
    space: Any = env.action_space
    return Search(torch.as_tensor(space.low), torch.as_tensor(space.high), **sizes)


def limits_of(env: gym.Env) -> tuple[Tensor, Tensor]:
    """What a world says of its observations: the lowest and the highest, (O,) each, which may be infinite."""
    space: Any = env.observation_space
    return torch.as_tensor(space.low), torch.as_tensor(space.high)


def refit(data: Transitions, config: PETSConfig, seed: int) -> EnsembleModel:
    """A new model of everything seen so far.

    New, and not the old one trained on: its scales are those of the data, and old weights under new scales are wrong.
    """
    shape = {"members": config.members, "hidden": config.hidden}
    rate = config.learning_rate
    return fit_ensemble(data, seed=seed, steps=config.updates, batch=config.batch, learning_rate=rate, **shape)


def pets_policy(
    model: EnsembleModel,
    env: gym.Env,
    config: PETSConfig,
    search: Search,
    seed: int,
    assign: Callable[[Tensor, bool], Tensor] = carriers,
    move: Callable[..., tuple[Tensor, Tensor]] = particle_step,
    **parts: Any,
) -> MPC:
    """PETS as a policy from observations (B, O) to actions (B, A); `parts` are those of MPC."""
    generator = torch.Generator().manual_seed(seed)
    imagined = by_particles(model, *limits_of(env), generator, config.infinite, assign, move)
    return MPC(imagined, search, generator, config.particles, **parts)


def pets(
    env: gym.Env, config: PETSConfig, search: Search, episodes: int, seed: int, **parts: Any
) -> Iterator[Progress]:
    """The PETS agent's life, episode by episode, the first one at random: act, store, refit."""
    replay, model = Replay(), None
    for k in range(episodes):
        if model is None:
            act = random_policy(env, seed, config.hold)
        else:
            policy = pets_policy(model, env, config, search, 1000 * seed + k, **parts)
            act = lambda obs, policy=policy: policy(torch.as_tensor(obs)[None])[0].numpy()  # noqa: E731
        episode = record_episode(env, act, 1000 * seed + k)
        replay.add(episode)
        model = refit(replay.transitions(), config, seed + k)
        yield Progress(len(replay), episode, model)
