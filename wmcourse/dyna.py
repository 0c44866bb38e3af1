"""Dyna: act, store, train the model, imagine, train the policy on both, repeat (lesson 10).

Sutton 1991; Sutton & Barto, Reinforcement Learning, 2nd edition, chapter 8, for the table; Janner et al.,
arXiv:1906.08253 (MBPO), for networks. One loop, `dyna_loop`, drives both agents, and their methods are its steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from wmcourse.ensembles import EnsembleModel, disagreement, fit_ensemble
from wmcourse.replay import Memory, Transitions, random_policy
from wmcourse.sac import SAC, SACConfig, soft_target

Actor = Callable[[Tensor], Tensor]
Turn = Callable[..., Any]


class Imagined(NamedTuple):
    """What a model answers to N observations and actions. A branch ends at either flag; only one ends the world."""

    next_obs: Tensor  # (N, O)
    reward: Tensor  # (N,)
    terminated: Tensor  # (N,) bool: the world would end here
    truncated: Tensor  # (N,) bool: the model should not be asked further, the world would go on


ModelStep = Callable[[Tensor, Tensor], Imagined]


def dyna_loop(
    act: Turn, store: Turn, train_model: Turn, imagine: Turn, train_policy: Turn, steps: int, every: int
) -> None:
    """The six steps: act, store, train the model, imagine, train the policy, repeat.

    Args:
        act: takes one real step and gives what happened.
        store: keeps what act gave.
        train_model, imagine: called after every `every`-th real step has been stored, in this order.
        train_policy: called once after each real step, last.
        steps: how many real steps.
        every: at least 1.
    """
    for step in range(1, steps + 1):
        store(act())
        if step % every == 0:
            train_model()
            imagine()
        train_policy()


def branched_rollouts(step: ModelStep, policy: Actor, starts: Tensor, horizon: int) -> Transitions:
    """Short imagined rollouts that branch off from real states; arXiv:1906.08253, algorithm 2.

    Args:
        step: the model, called on the branches that go on; see Imagined.
        policy: from observations (N, O) to actions (N, A), called on the same branches.
        starts: real observations, (N, O).
        horizon: the most steps of a branch, at least 1.

    Returns:
        All steps of all branches, those of one time together, at most N * horizon. A branch's last step is kept.
        terminated is the model's; neither `truncated` nor the horizon ends the world.
    """
    obs, steps = starts, []
    for _ in range(horizon):
        action = policy(obs)
        next_obs, reward, terminated, truncated = step(obs, action)
        steps.append(Transitions(obs, action, reward, next_obs, terminated))
        obs = next_obs[~(terminated | truncated)]
        if not len(obs):
            break
    return Transitions(*(torch.cat(column) for column in zip(*steps, strict=True)))


def mix(real: Transitions, synthetic: Transitions, ratio: float, uniform: Tensor) -> Transitions:
    """A batch of B transitions, one real to `ratio` synthetic ones; the real ones first.

    round(B / (1 + ratio)) are real. Row i of the batch is row floor(uniform[i] * n) of its source, which has n rows.

    Args:
        real, synthetic: any number of transitions each, R and S.
        ratio: synthetic transitions to one real, at least 0.
        uniform: in [0, 1), (B,).
    """
    count = round(len(uniform) / (1 + ratio))
    parts = []
    for source, share in ((real, uniform[:count]), (synthetic, uniform[count:])):
        size = len(source.obs)
        parts.append([column[(share * size).long()] for column in source])
    return Transitions(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


@dataclass(frozen=True)
class MBPOConfig:
    """What MBPO takes besides a world and a seed."""

    sac: SACConfig
    warmup: int = 200  # real steps with random actions, each held for `hold` steps
    hold: int = 8
    updates: int = 20  # of the policy, a real step
    batch: int = 128  # transitions an update
    ratio: float = 20.0  # synthetic transitions to one real; 0 is plain SAC, and no model is trained
    horizon: int = 50  # imagined steps a branch
    branches: int = 100  # started whenever the agent imagines
    every: int = 50  # real steps from one model to the next
    memory: int = 10_000  # synthetic transitions kept: older ones follow older policies
    members: int = 5
    hidden: tuple[int, ...] = (64, 64)
    model_steps: int = 500  # updates of the model at a time
    penalty: float = 0.0  # taken off an imagined reward for each unit of disagreement
    doubt: float = math.inf  # a branch is truncated where the members disagree more than this


PENDULUM = SACConfig(limit=2.0, discount=0.97, slowness=0.99)
ONLINE = MBPOConfig(PENDULUM)
FIXED = MBPOConfig(PENDULUM, model_steps=2_000, every=12)  # no more real steps come: one model, trained once


def imagination(model: EnsembleModel, generator: torch.Generator, config: MBPOConfig, space: Any) -> ModelStep:
    """An ensemble as the model of branched rollouts: each step a member drawn by dice, and a draw from its Gaussian.

    Args:
        model, generator: the ensemble, and the dice.
        config: its `penalty` and `doubt` count.
        space: the world's observation space; what is imagined stays within its bounds.
    """
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)

    @torch.no_grad()
    def step(obs: Tensor, action: Tensor) -> Imagined:
        said, row = model.predict(obs, action), torch.arange(len(obs))
        member = torch.randint(len(said.mean), (len(obs),), generator=generator)
        noise = torch.randn(obs.shape, generator=generator)
        next_obs = (said.mean[member, row] + said.std[member, row] * noise).clamp(low, high)
        apart = disagreement(said.mean, model.target_std[:-1])
        never = torch.zeros(len(obs), dtype=torch.bool)  # neither the pendulum nor the cart ends
        return Imagined(next_obs, said.reward[member, row] - config.penalty * apart, never, apart > config.doubt)

    return step


def promised_return(step: ModelStep, policy: Actor, starts: Tensor, horizon: int) -> float:
    """What the model says that a policy earns in `horizon` steps from observations (N, O), on average."""
    obs, total = starts, torch.zeros(len(starts))
    for _ in range(horizon):
        obs, reward, _, _ = step(obs, policy(obs))
        total = total + reward
    return float(total.mean())


class MBPO:
    """Model-based policy optimization; Janner et al., arXiv:1906.08253. With ratio 0 it is SAC, in the same harness.

    Args:
        make_env: makes the real world.
        config: the settings.
        seed: of weights, dice and the world.
        target, mixed, branch: the formulas: `soft_target`, `mix` and `branched_rollouts`.
        fit: gets the real transitions and makes a model of them: `fit_ensemble`, or something broken.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env],
        config: MBPOConfig,
        seed: int,
        *,
        target=soft_target,
        mixed=mix,
        branch=branched_rollouts,
        fit=fit_ensemble,
    ):
        self.env, self.config, self.seed = make_env(), config, seed
        self.mixed, self.branch, self.fit = mixed, branch, fit
        self.generator = torch.Generator().manual_seed(seed)
        obs, action = self.env.observation_space.sample(), self.env.action_space.sample()
        self.policy = SAC(len(obs), len(action), config.sac, seed, target)
        self.real, self.synthetic = Memory(100_000), Memory(config.memory)
        self.model: EnsembleModel | None = None
        self.random = random_policy(self.env, seed, config.hold)
        self.steps = 0
        self.obs = self.env.reset(seed=1_000 * seed)[0]

    def act(self) -> Transitions:
        """Step 1: one real step, by dice in the warm-up, then by the policy."""
        obs = torch.as_tensor(self.obs)
        action = torch.as_tensor(self.random(obs)) if self.steps < self.config.warmup else self.policy.act(obs[None])[0]
        after, reward, terminated, truncated, _ = self.env.step(action.numpy())
        self.steps += 1
        self.obs = self.env.reset()[0] if terminated or truncated else after
        reward, terminated = torch.tensor([reward], dtype=torch.float32), torch.tensor([terminated])
        return Transitions(obs[None], action[None], reward, torch.as_tensor(after)[None], terminated)

    def store(self, came: Transitions) -> None:
        """Step 2: keep it. `truncated` is not kept: it says nothing of what would follow."""
        self.real.add(came)

    def train_model(self) -> None:
        """Step 3: train the ensemble on, on all that is real."""
        c = self.config
        if c.ratio:
            sizes = {"members": c.members, "hidden": c.hidden, "steps": c.model_steps, "batch": 128}
            self.model = self.fit(self.real.all(), seed=self.seed + self.steps, model=self.model, **sizes)

    def imagine(self) -> None:
        """Step 4: branch off from real states, with the policy as it is now."""
        if self.model is None:
            return
        c, obs = self.config, self.real.all().obs
        starts = obs[torch.randint(len(obs), (c.branches,), generator=self.generator)]
        step = imagination(self.model, self.generator, c, self.env.observation_space)
        self.synthetic.add(Transitions(*self.branch(step, self.policy.act, starts, c.horizon)))

    def train_policy(self) -> None:
        """Step 5: SAC's update, `updates` times, on real and imagined transitions alike."""
        real = self.real.all()
        synthetic = self.synthetic.all() if self.config.ratio else real
        for _ in range(self.config.updates):
            uniform = torch.rand(self.config.batch, generator=self.generator)
            self.policy.update(Transitions(*self.mixed(real, synthetic, self.config.ratio, uniform)))

    def run(self, steps: int, loop: Callable[..., None] = dyna_loop) -> None:
        """Go on until `steps` real steps in all; the warm-up comes first."""
        while self.steps < self.config.warmup:
            self.store(self.act())
        self.prepare()
        turns = self.act, self.store, self.train_model, self.imagine, self.train_policy
        loop(*turns, steps - self.steps, self.config.every)

    def study(self, recorded: Transitions, turns: int, loop: Callable[..., None] = dyna_loop) -> None:
        """Learn from what was recorded, and from nothing else that is real: steps 1 to 3 are done once, before."""
        if not self.real.count:
            self.real.add(recorded)
        self.prepare()
        loop(lambda: None, lambda came: None, lambda: None, self.imagine, self.train_policy, turns, self.config.every)

    def prepare(self) -> None:
        """A first model and first dreams, so that the policy never trains without."""
        if self.config.ratio and self.model is None:
            self.train_model()
            self.imagine()
