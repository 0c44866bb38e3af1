"""Dreamer: an actor and a critic that learn inside the dreams of an RSSM (lesson 11).

Watch real sequences, and train the world model on them. From every state that was seen dream on, the actor choosing.
Train the critic on what the dreams return, and the actor by the gradient of those returns through the dream itself
(Hafner et al., arXiv:1912.01603; slow critic and REINFORCE as in arXiv:2010.02193, scaled returns as in 2301.04104).

The formulas, and the alignment of a dream, are in wmcourse.behavior. Letters for axes: N dreams, H horizon, F features
(D + S), A action, W weights of the actor; B, T, O, D, S as everywhere.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wmcourse import rssm
from wmcourse.behavior import analytic_loss, continuation_weights, critic_loss, follow, lambda_return, return_range
from wmcourse.encoder_decoder import MLPDecoder, MLPEncoder
from wmcourse.nets import mlp
from wmcourse.policies import OneHot, TanhNormal
from wmcourse.replay import Sequences
from wmcourse.rssm import RSSM, Beliefs, RSSMConfig, State, WorldModel


def dream_step(model: RSSM, state: State, action: Tensor, noise: Tensor) -> State:
    """One step without seeing: h' = f(h, z, a), z' ~ p(z' | h'). (N, D) and (N, S), (N, A), (N, S) to a State."""
    deter = model.transition(*state, action)
    return State(deter, model.draw(model.prior(deter), noise))


def watch(
    step: Callable[..., Any], model: RSSM, embed: Tensor, action: Tensor, first: Tensor, noise: Tensor
) -> Beliefs:
    """RSSM.observe with a step that is handed in, and autograd's way back: slower, and any right step will do."""
    led, state, seen = rssm.previous(action, first), model.initial(len(embed)), []
    for t in range(embed.shape[1]):
        state, posterior = step(model, state, led[:, t], embed[:, t], first[:, t], noise[:, t])
        seen.append((*state, posterior))
    deter, stoch, posterior = (torch.stack(parts, 1) for parts in zip(*seen, strict=True))
    return Beliefs(State(deter, stoch), posterior, model.prior(deter))


class Dream(NamedTuple):
    """N dreams of H steps, seen from the states s_0 .. s_{H-1} in which an action was taken."""

    features: Tensor  # h and z of s_k, (N, H, F), detached
    returns: Tensor  # R_k, (N, H), with the graph of the dream
    value: Tensor  # v(s_k) by the slow critic, (N, H), detached
    log_prob: Tensor  # of a_k, (N, H), with the gradient of the actor in s_k
    entropy: Tensor  # of the policy in s_k, likewise
    weight: Tensor  # how much s_k counts, (N, H)


LATENT = rssm.Gaussian(8)


@dataclass(frozen=True)
class DreamerConfig:
    """All settings of an agent. Actions are in [-1, 1] or one-hot."""

    obs: tuple[int, ...]  # the shape of an observation: (O,), or (C, size, size) for frames
    obs_scale: tuple[float, ...]  # what observations are divided by: a number for each of O, or one for all
    policy: TanhNormal | OneHot
    embed: int = 64  # E
    deter: int = 64  # D
    hidden: int = 64  # width of all layers between
    latent: rssm.Gaussian | rssm.Categorical = LATENT
    obs_std: float = 0.1  # of the decoder's Gaussian, in scaled units
    dyn: float = 0.5  # KL balancing, and its free nats
    rep: float = 0.1
    free: float = 1.0
    starts: int = 128  # N
    horizon: int = 15  # H
    gamma: float = 0.99
    decay: float = 0.95  # lambda
    bonus: float = 1e-3  # what a nat of entropy is worth, in scaled returns
    smallest_scale: float = 0.1  # returns are not blown up by more than its inverse
    slow: float = 0.02  # how quickly the slow critic follows
    through: bool = True  # whether dreams keep the graph that analytic_loss needs; reinforce_loss is quicker without
    world_rate: float = 2e-3  # learning rates
    actor_rate: float = 1e-3
    critic_rate: float = 2e-3
    clip: float = 100.0  # the largest norm of a gradient


def make_world(c: DreamerConfig) -> WorldModel:
    """Lesson 07's world model between an encoder and a decoder of vectors or of frames."""
    features = c.deter + c.latent.size
    if len(c.obs) == 1:
        encoder, decoder = mlp(*c.obs, c.hidden, c.embed), mlp(features, c.hidden, *c.obs)
    else:
        encoder, decoder = MLPEncoder(c.embed, *c.obs[:2]), MLPDecoder(features, *c.obs[:2])

    def log_likelihood(obs: Tensor, mean: Tensor) -> Tensor:  # less its constant, (B, T)
        return -0.5 * ((obs - mean) / c.obs_std).square().flatten(2).sum(-1)

    return WorldModel(RSSMConfig(c.policy.size, c.embed, c.deter, c.hidden, c.latent), encoder, decoder, log_likelihood)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through a module and not into its weights, which would cost a third more time."""
    module.requires_grad_(False)
    yield
    module.requires_grad_(True)


class Dreamer(nn.Module):
    """The agent. What a learner of lesson 11 writes can be handed in; what is handed in is what runs."""

    scale: Tensor
    obs_scale: Tensor

    def __init__(
        self,
        config: DreamerConfig,
        seed: int = 0,
        device: str = "cpu",
        *,
        lambda_return: Callable[..., Tensor] = lambda_return,
        actor_loss: Callable[..., Tensor] = analytic_loss,
        critic_loss: Callable[..., Tensor] = critic_loss,
        dream_step: Callable[..., State] = dream_step,
        observe_step: Callable[..., Any] = rssm.observe_step,
    ):
        super().__init__()
        self.config = c = config
        self.lambda_return, self.actor_loss, self.critic_loss = lambda_return, actor_loss, critic_loss
        self.dream_step, self.observe_step = dream_step, observe_step
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.world = make_world(c)
            features = c.deter + c.latent.size
            self.actor = mlp(features, c.hidden, c.hidden, c.policy.parameters)
            self.critic = mlp(features, c.hidden, c.hidden, 1)
        if observe_step is not rssm.observe_step:
            self.world.rssm.observe = functools.partial(watch, observe_step, self.world.rssm)  # type: ignore[method-assign]
        self.slow = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("scale", torch.tensor(0.0))
        self.register_buffer("obs_scale", torch.tensor(c.obs_scale))
        self.to(device)
        self.generator = torch.Generator(device).manual_seed(seed)
        rates = {"world": c.world_rate, "actor": c.actor_rate, "critic": c.critic_rate}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(getattr(self, name).parameters(), rate, fused=True) for name, rate in rates.items()
        }

    def learn(self, batch: Sequences) -> dict[str, Tensor]:
        """One update of world model, actor and critic. Gives scalars to log."""
        start, seen = self.learn_world(batch)
        return seen | self.learn_behavior(start)

    def learn_world(self, batch: Sequences) -> tuple[State, dict[str, Tensor]]:
        """One update of the world model; the states that it saw, (B T, D) and (B T, S), detached."""
        c = self.config
        batch = Sequences(*(x.to(self.obs_scale.device) for x in batch))
        noise = c.latent.noise(batch.reward.shape, self.generator)
        loss, parts = self.world.loss(batch._replace(obs=batch.obs / self.obs_scale), noise, c.dyn, c.rep, c.free)
        self._descend("world", loss)
        state = State(*(x.detach().flatten(0, 1) for x in parts["beliefs"].state))
        return state, {name: parts[name].detach().mean() for name in ("obs", "reward", "kl")}

    def dream(self, start: State) -> Dream:
        """Dream on from N states, (N, D) and (N, S), the actor choosing."""
        c, world, shape = self.config, self.world, (len(start.deter), self.config.horizon)
        noise, dice = c.latent.noise(shape, self.generator), c.policy.noise(shape, self.generator)
        with torch.set_grad_enabled(c.through):
            state, action, seen = start, [], [start.features()]
            for k in range(c.horizon):
                action.append(c.policy.draw(self.actor(seen[-1]), dice[:, k]))
                state = State(*self.dream_step(world.rssm, state, action[-1], noise[:, k]))
                seen.append(state.features())
            features = torch.stack(seen, 1)  # of s_0 .. s_H, (N, H + 1, F)
            # Times 1 - gamma, returns and values are of the size of one reward, whatever gamma is.
            reward = (1 - c.gamma) * world.reward(features[:, 1:])[..., 0]
            going_on, value = world.continuation(features)[..., 0].sigmoid(), self.slow(features)[..., 0]
            returns = self.lambda_return(reward, value[:, 1:], c.gamma * going_on[:, 1:], c.decay)
        features = features[:, :-1].detach()
        chosen = self.actor(features)
        log_prob = c.policy.log_prob(chosen, torch.stack(action, 1).detach())
        weight = continuation_weights(going_on[:, :-1], c.gamma)
        return Dream(features, returns, value[:, :-1].detach(), log_prob, c.policy.entropy(chosen, dice), weight)

    def learn_behavior(self, start: State) -> dict[str, Tensor]:
        """One update of actor and critic, from dreams that begin in some of these states, (..., D) and (..., S)."""
        c = self.config
        some = torch.randperm(len(start.deter), generator=self.generator, device=self.generator.device)[: c.starts]
        with frozen(self.world):
            dream = self.dream(State(*(x[some] for x in start)))
            spread = return_range(dream.returns)
            self.scale.copy_(torch.where(self.scale == 0, spread, self.scale.lerp(spread, 0.01)))
            self._descend("actor", self.loss_of(dream, self.actor_loss))
        missed = self.critic_loss(self.critic(dream.features)[..., 0], dream.returns, dream.weight)
        self._descend("critic", missed)
        follow(self.slow, self.critic, c.slow)
        found = {"dreamed": dream.returns, "entropy": dream.entropy, "critic": missed, "scale": self.scale}
        return {name: x.detach().mean() for name, x in found.items()}

    def loss_of(self, dream: Dream, actor_loss: Callable[..., Tensor]) -> Tensor:
        """What an actor loss says of a dream, a scalar."""
        scale, (_, *parts) = self.scale.clamp(min=self.config.smallest_scale), dream
        return actor_loss(*parts, scale, self.config.bonus)

    @torch.no_grad()
    def act(self, obs: Tensor, memory: Any = None, greedy: bool = False) -> tuple[Tensor, Any]:
        """At play: observations (N, *O), and what the call before left, to actions (N, A), and what to remember."""
        c, core = self.config, self.world.rssm
        embed = self.world.encoder(obs.to(self.obs_scale.device) / self.obs_scale)
        first = torch.full((len(embed),), memory is None, device=embed.device)
        state, action = memory or (core.initial(len(embed)), embed.new_zeros(len(embed), c.policy.size))
        noise, dice = (kind.noise((len(embed),), self.generator) for kind in (c.latent, c.policy))
        state, _ = self.observe_step(core, state, action, embed, first, noise)
        chosen = self.actor(torch.cat([*state], -1))
        action = c.policy.mode(chosen) if greedy else c.policy.draw(chosen, dice)
        return action, (state, action)

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer, parameters = self.optimizers[name], list(getattr(self, name).parameters())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, self.config.clip)
        optimizer.step()


def actor_gradient(agent: Dreamer, start: State, actor_loss: Callable[..., Tensor]) -> Tensor:
    """The gradient of the actor's weights by one dream from each of N states, (W,). Draws from the agent's dice."""
    with frozen(agent.world):
        loss = agent.loss_of(agent.dream(start), actor_loss)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.actor.parameters()))])


PENDULUM = DreamerConfig(obs=(3,), obs_scale=(1.0, 1.0, 8.0), policy=TanhNormal(1))
PIXELS = DreamerConfig(
    obs=(1, 16, 16), obs_scale=(255.0,), policy=TanhNormal(1), obs_std=0.2, dyn=0.8, rep=0.2, world_rate=4e-3
)
CARTPOLE = DreamerConfig(
    obs=(4,), obs_scale=(2.4, 3.0, 0.2, 3.0), policy=OneHot(2), bonus=1e-2, free=0.1, through=False
)
