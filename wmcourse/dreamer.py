"""Dreamer: an actor and a critic that learn inside the dreams of an RSSM (lesson 11).

Watch real sequences and train the world model; dream on from every state that was seen, with the actor choosing; train
the critic on the returns of the dream, and the actor by the gradient of those returns through the dream itself (Hafner
et al., arXiv:1912.01603; slow critic and REINFORCE after arXiv:2010.02193, scaled returns after arXiv:2301.04104).

Letters for axes: N dreams, H horizon, F features (D + S), A action, P parameters of a policy; B, T, O as everywhere.
Alignment of a dream: in state s_k action a_k is taken, and s_{k+1} follows, with k = 0 .. H-1. What belongs to s_{k+1}
(reward[:, k], value[:, k] and discount[:, k] of lambda_return) has index k, as reward[:, t] comes with obs[:, t + 1].
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wmcourse import rssm
from wmcourse.encoder_decoder import MLPDecoder, MLPEncoder
from wmcourse.nets import mlp
from wmcourse.policies import OneHot, TanhNormal
from wmcourse.replay import Sequences
from wmcourse.rssm import RSSM, Beliefs, RSSMConfig, State, WorldModel


def lambda_return(reward: Tensor, value: Tensor, discount: Tensor, decay: float) -> Tensor:
    """R_k = r_k + d_k ((1 - lambda) v_{k+1} + lambda R_{k+1}), from the end backwards; beyond it R_H is v_H.

    arXiv:1912.01603, equation 6, written as the recursion that it is. lambda = 0 looks one step ahead, lambda = 1 adds
    up the whole dream and asks the critic at its end only; every lambda between averages over all lengths.

    Args:
        reward: of the step from s_k to s_{k+1}, (N, H).
        value: v(s_{k+1}), (N, H).
        discount: gamma times the probability that s_{k+1} is not the end, (N, H).
        decay: lambda, in [0, 1].

    Returns:
        The return from s_k on, (N, H); gradients flow.
    """
    following, returns = value[:, -1], []
    for k in reversed(range(reward.shape[1])):
        following = reward[:, k] + discount[:, k] * ((1 - decay) * value[:, k] + decay * following)
        returns.append(following)
    return torch.stack(returns[::-1], 1)


def reach(going_on: Tensor, gamma: float) -> Tensor:
    """How much each state of a dream counts: gamma^k times the probability that the dream got to s_k and goes on.

    going_on: the probability that s_k is not the end, (N, H), to weights (N, H), detached: the actor shall earn more,
    not count less.
    """
    discount = torch.cat([going_on[:, :1], gamma * going_on[:, 1:]], 1)
    return discount.cumprod(1).detach()


def analytic_loss(
    returns: Tensor, baseline: Tensor, log_prob: Tensor, entropy: Tensor, weight: Tensor, scale: Tensor, bonus: float
) -> Tensor:
    """Minus the returns: their gradient flows back through the dream into every action. Scalar.

    arXiv:1912.01603, equation 7. Takes what reinforce_loss takes, and has no use for baseline and log_prob.

    Args:
        returns: R_k, (N, H), with a gradient.
        baseline: v(s_k), (N, H).
        log_prob: of the action taken in s_k, (N, H) nats.
        entropy: of the policy in s_k, (N, H) nats.
        weight: how much s_k counts, (N, H).
        scale: what returns are divided by, a scalar.
        bonus: what a nat of entropy is worth.
    """
    return -(weight * (returns / scale + bonus * entropy)).mean()


def reinforce_loss(
    returns: Tensor, baseline: Tensor, log_prob: Tensor, entropy: Tensor, weight: Tensor, scale: Tensor, bonus: float
) -> Tensor:
    """The score function: actions that turned out better than the baseline become likelier. Scalar.

    Williams 1992; arXiv:2301.04104, equation 11. Arguments as in analytic_loss; no gradient flows into returns.
    """
    advantage = ((returns - baseline) / scale).detach()
    return -(weight * (log_prob * advantage + bonus * entropy)).mean()


def critic_loss(value: Tensor, returns: Tensor, weight: Tensor) -> Tensor:
    """Half the squared distance of v(s_k) to R_k, which stands still: (N, H) three times to a scalar."""
    return 0.5 * (weight * (value - returns.detach()).square()).mean()


def spread(returns: Tensor, low: float = 0.05, high: float = 0.95) -> Tensor:
    """From the 5th to the 95th percentile of all returns: (N, H) to a scalar, detached (arXiv:2301.04104, eq. 12)."""
    ends = torch.quantile(returns.detach().flatten(), returns.new_tensor([low, high]))
    return ends[1] - ends[0]


@torch.no_grad()
def follow(slow: nn.Module, quick: nn.Module, rate: float) -> None:
    """Move every weight of `slow` by a share `rate` of its way to that of `quick`, in place."""
    torch._foreach_lerp_(list(slow.parameters()), list(quick.parameters()), rate)


@dataclass(frozen=True)
class DreamerConfig:
    """All settings of an agent."""

    obs: tuple[int, ...]  # shape of an observation: (O,), or (1, size, size) for frames
    obs_scale: tuple[float, ...]  # what observations are divided by: one number for each, or one for all
    policy: TanhNormal | OneHot
    embed: int = 64  # E
    deter: int = 64  # D
    hidden: int = 64
    latent: rssm.Gaussian | rssm.Categorical = rssm.Gaussian(8)
    obs_std: float = 0.1  # of the decoder's Gaussian, in scaled units
    reward_scale: float = 1.0  # the model's rewards are the world's times this
    dyn: float = 0.5
    rep: float = 0.1
    free: float = 1.0
    starts: int = 256  # N
    horizon: int = 15  # H
    gamma: float = 0.99
    decay: float = 0.95  # lambda
    bonus: float = 1e-3
    slow: float = 0.02
    smallest_scale: float = 0.1
    through: bool = True  # whether the dream keeps the graph that analytic_loss needs
    world_rate: float = 1e-3
    actor_rate: float = 3e-4
    critic_rate: float = 1e-3
    clip: float = 100.0


class Dream(NamedTuple):
    """N dreams of H steps."""

    features: Tensor  # of s_0 .. s_H, (N, H + 1, F)
    action: Tensor  # a_0 .. a_{H-1}, (N, H, A)
    noise: Tensor  # the dice of the actions, (N, H, A)


class SteppingRSSM(RSSM):
    """The RSSM, watching by a step that is handed in."""

    def __init__(self, config: RSSMConfig, step: Callable):
        super().__init__(config)
        self.step = step

    def observe(self, embed: Tensor, action: Tensor, first: Tensor, noise: Tensor, deferred: bool = True) -> Beliefs:
        """A plain loop over the step."""
        led, state, seen = rssm.previous(action, first), self.initial(len(embed)), []
        for t in range(embed.shape[1]):
            state, posterior = self.step(self, state, led[:, t], embed[:, t], first[:, t], noise[:, t])
            seen.append((*state, posterior))
        deter, stoch, posterior = (torch.stack(parts, 1) for parts in zip(*seen, strict=True))
        return Beliefs(State(deter, stoch), posterior, self.prior(deter))


def make_world(config: DreamerConfig, step: Callable = rssm.observe_step) -> WorldModel:
    """A world model with decoder and encoder for vectors or frames."""
    c, features = config, config.deter + config.latent.size
    if len(c.obs) == 1:
        encoder, decoder = mlp(*c.obs, c.hidden, c.embed), mlp(features, c.hidden, *c.obs)
    else:
        encoder, decoder = MLPEncoder(c.embed, c.obs[0], c.obs[1]), MLPDecoder(features, c.obs[0], c.obs[1])
    sizes = RSSMConfig(c.policy.size, c.embed, c.deter, c.hidden, c.latent)
    world = WorldModel(sizes, encoder, decoder, functools.partial(log_likelihood, std=c.obs_std))
    if step is not rssm.observe_step:
        world.rssm = SteppingRSSM(sizes, step)
    return world


def log_likelihood(obs: Tensor, mean: Tensor, std: float) -> Tensor:
    """log N(obs; mean, std²) less its constant, in nats: (B, T, ...) twice to (B, T)."""
    return -0.5 * ((obs - mean) / std).square().flatten(2).sum(-1)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Gradients flow through these modules and not into their weights."""
    for module in modules:
        module.requires_grad_(False)
    yield
    for module in modules:
        module.requires_grad_(True)


class Dreamer(nn.Module):
    """The agent."""

    def __init__(
        self,
        config: DreamerConfig,
        seed: int,
        *,
        lambda_return: Callable[..., Tensor] = lambda_return,
        actor_loss: Callable[..., Tensor] = analytic_loss,
        observe_step: Callable = rssm.observe_step,
    ):
        super().__init__()
        c = self.config = config
        self.lambda_return, self.actor_loss = lambda_return, actor_loss
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.world = make_world(c, observe_step)
            features = c.deter + c.latent.size
            self.actor = mlp(features, c.hidden, c.hidden, c.policy.parameters)
            self.critic = mlp(features, c.hidden, c.hidden, 1)
        self.slow = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("scale", torch.tensor(0.0))
        self.register_buffer("obs_scale", torch.tensor(c.obs_scale))
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizers = [
            torch.optim.Adam(module.parameters(), rate, fused=True)
            for module, rate in (
                (self.world, c.world_rate),
                (self.actor, c.actor_rate),
                (self.critic, c.critic_rate),
            )
        ]

    def learn(self, batch: Sequences) -> dict[str, float]:
        """One update of everything."""
        start, found = self.learn_world(batch)
        return found | self.learn_behavior(start)

    def learn_world(self, batch: Sequences):
        c = self.config
        batch = batch._replace(obs=batch.obs / self.obs_scale, reward=batch.reward * c.reward_scale)
        noise = c.latent.noise(batch.reward.shape, self.generator)
        loss, parts = self.world.loss(batch, noise, c.dyn, c.rep, c.free)
        self._step(0, loss)
        state = parts["beliefs"].state
        found = {k: parts[k].detach().mean() for k in ("obs", "reward", "kl")}
        return State(*(x.detach().flatten(0, 1) for x in state)), found

    def dream(self, start: State) -> Dream:
        c = self.config
        noise = c.latent.noise((len(start.deter), c.horizon), self.generator)
        dice = c.policy.noise((len(start.deter), c.horizon), self.generator)
        rest = iter(dice.unbind(1))
        states, action = rssm.imagine_ahead(
            self.world.rssm, start, lambda features: c.policy.draw(self.actor(features), next(rest)), noise
        )
        return Dream(torch.cat([start.features()[:, None], states.features()], 1), action, dice)

    def learn_behavior(self, start: State) -> dict[str, Tensor]:
        c = self.config
        if c.starts < len(start.deter):
            some = torch.randperm(len(start.deter), generator=self.generator)[: c.starts]
            start = State(*(x[some] for x in start))
        with frozen(self.world):
            with torch.set_grad_enabled(c.through):
                dream = self.dream(start)
                features = dream.features
                reward = (1 - c.gamma) * self.world.reward(features[:, 1:])[..., 0]
                going_on = self.world.continuation(features)[..., 0].sigmoid()
                value = self.slow(features)[..., 0]
                returns = self.lambda_return(reward, value[:, 1:], c.gamma * going_on[:, 1:], c.decay)
            weight = reach(going_on[:, :-1], c.gamma)
            wide = spread(returns)
            self.scale = wide if self.scale == 0 else torch.lerp(self.scale, wide, 0.01)
            seen = features[:, :-1].detach()
            parameters = self.actor(seen)
            entropy = c.policy.entropy(parameters, dream.noise)
            log_prob = c.policy.log_prob(parameters, dream.action.detach())
            loss = self.actor_loss(
                returns, value[:, :-1].detach(), log_prob, entropy, weight, self.scale.clamp(min=c.smallest_scale), c.bonus
            )
            self._step(1, loss)
        value = self.critic(seen)[..., 0]
        miss = critic_loss(value, returns, weight)
        self._step(2, miss)
        follow(self.slow, self.critic, c.slow)
        return {"return": returns.detach().mean(), "entropy": entropy.detach().mean(), "critic": miss.detach(), "scale": self.scale}

    def _step(self, which: int, loss: Tensor) -> None:
        optimizer = self.optimizers[which]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.config.clip)
        optimizer.step()


class Player:
    """A policy that remembers: from observations (N, *O) to actions (N, A), begun anew with every Player."""

    def __init__(self, agent: Dreamer, greedy: bool = False):
        self.agent, self.greedy, self.memory = agent, greedy, None

    @torch.no_grad()
    def __call__(self, obs: Tensor) -> Tensor:
        agent, c, core = self.agent, self.agent.config, self.agent.world.rssm
        embed = agent.world.encoder(torch.as_tensor(obs) / agent.obs_scale)
        first = torch.full((len(embed),), self.memory is None)
        if self.memory is None:
            self.memory = core.initial(len(embed)), embed.new_zeros(len(embed), c.policy.size)
        noise = c.latent.noise((len(embed),), agent.generator)
        state, _ = rssm.observe_step(core, self.memory[0], self.memory[1], embed, first, noise)
        parameters = agent.actor(torch.cat([*state], -1))
        if self.greedy:
            action = c.policy.mode(parameters)
        else:
            action = c.policy.draw(parameters, c.policy.noise((len(embed),), agent.generator))
        self.memory = state, action
        return action
