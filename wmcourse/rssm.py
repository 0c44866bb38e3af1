"""The RSSM: a world model whose state is a pair, a long memory h and an uncertain z (lesson 07).

h_t = f(h_{t-1}, z_{t-1}, a_{t-1}) is computed, z_t is drawn: from the prior p(z_t | h_t) before the observation comes,
from the posterior q(z_t | h_t, x_t) after it (Hafner et al., arXiv:1811.04551, section 3; arXiv:1912.01603).
Letters for axes: B batch, T time, H horizon, A action, E embedding, D deter (h), S stoch (z), P parameters of a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmcourse.elbo import bernoulli_log_likelihood, free_nats, gaussian_kl
from wmcourse.nets import mlp
from wmcourse.one_step_dynamics import gaussian_head
from wmcourse.reparameterization import reparameterize, straight_through
from wmcourse.replay import Sequences


@dataclass(frozen=True)
class Gaussian:
    """z ~ N(mean, std²), all of whose parameters lie end to end in one tensor, (..., P)."""

    size: int = 30  # S
    floor: float = 0.1  # the smallest std

    @property
    def parameters(self) -> int:
        """P: S means and S raw spreads."""
        return 2 * self.size

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Standard normal numbers for `draw`, (*shape, S)."""
        return torch.randn(*shape, self.size, generator=generator, device=generator.device)

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """(..., P), (..., S) to z, (..., S)."""
        return reparameterize(*gaussian_head(parameters, self.floor), noise)

    def kl(self, q: Tensor, p: Tensor) -> Tensor:
        """KL(q || p) in nats, from the parameters of both: (..., P) twice to (...)."""
        return gaussian_kl(*gaussian_head(q, self.floor), *gaussian_head(p, self.floor))


@dataclass(frozen=True)
class Categorical:
    """z is `groups` one-hot vectors of `classes` entries, end to end (arXiv:2010.02193, section 2.1)."""

    groups: int = 8
    classes: int = 8
    unimix: float = 0.01  # the share of a uniform distribution mixed in, so that no class is impossible (2301.04104)

    @property
    def size(self) -> int:
        """S: every entry of every one-hot vector."""
        return self.groups * self.classes

    @property
    def parameters(self) -> int:
        """P: a logit for each entry."""
        return self.size

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Uniform numbers for `draw`, (*shape, S)."""
        return torch.rand(*shape, self.size, generator=generator, device=generator.device)

    def log_probs(self, parameters: Tensor) -> Tensor:
        """Log-probabilities, uniform share included: (..., P) to (..., groups, classes)."""
        probs = parameters.unflatten(-1, (self.groups, self.classes)).softmax(-1)
        return ((1 - self.unimix) * probs + self.unimix / self.classes).log()

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """(..., P), (..., S) to z, (..., S), one-hot with the gradient of the probabilities."""
        uniform = noise.unflatten(-1, (self.groups, self.classes))
        return straight_through(self.log_probs(parameters), uniform).flatten(-2)

    def kl(self, q: Tensor, p: Tensor) -> Tensor:
        """KL(q || p) in nats, from the parameters of both: (..., P) twice to (...)."""
        log_q, log_p = self.log_probs(q), self.log_probs(p)
        return (log_q.exp() * (log_q - log_p)).sum((-2, -1))


class State(NamedTuple):
    """What the model knows at one moment, or at many."""

    deter: Tensor  # h, (..., D)
    stoch: Tensor  # z, (..., S)

    def features(self) -> Tensor:
        """h and z end to end, (..., D + S): what decoder, reward head and policy look at."""
        return torch.cat(self, -1)


class Beliefs(NamedTuple):
    """What `observe` makes of a sequence."""

    state: State  # (B, T, D) and (B, T, S), z from the posterior
    posterior: Tensor  # parameters of q(z_t | h_t, x_t), (B, T, P)
    prior: Tensor  # parameters of p(z_t | h_t), (B, T, P)


def reset_where_first(x: Tensor, first: Tensor) -> Tensor:
    """Zero where an episode starts: (B, ...) and (B,) bool to (B, ...). Not in place."""
    return x.masked_fill(first.view(-1, *[1] * (x.dim() - 1)), 0)


def previous(x: Tensor, first: Tensor) -> Tensor:
    """What the step before left: x[:, t - 1] at t; zero at t = 0, and where first, since no step led there.

    Action a_{t-1}, reward r_{t-1} and terminated_{t-1} all belong to the observation x_t that they led to.

    Args:
        x: (B, T, ...).
        first: (B, T) bool.
    """
    shifted = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    return reset_where_first(shifted.flatten(0, 1), first.flatten()).view_as(x)


def observe_step(
    model: RSSM, state: State, action: Tensor, embed: Tensor, first: Tensor, noise: Tensor
) -> tuple[State, Tensor]:
    """One observation more: from (h_{t-1}, z_{t-1}), a_{t-1} and x_t to (h_t, z_t).

    Args:
        model: gives `transition`, `posterior` and `draw`.
        state: (B, D) and (B, S), of the step before.
        action: a_{t-1}, the one that led here, (B, A).
        embed: of x_t, (B, E).
        first: true where x_t is the first of an episode, (B,) bool: state and action before it count as zero.
        noise: for the draw, (B, S).

    Returns:
        The state after x_t, and the posterior's parameters, (B, P).
    """
    deter, stoch, action = (reset_where_first(x, first) for x in (*state, action))
    deter = model.transition(deter, stoch, action)
    posterior = model.posterior(deter, embed)
    return State(deter, model.draw(posterior, noise)), posterior


def observe(model: RSSM, embed: Tensor, action: Tensor, first: Tensor, noise: Tensor) -> Beliefs:
    """Watch a sequence: `observe_step` once for each observation, from nothing.

    Args:
        model: gives `initial`, `transition`, `posterior`, `prior` and `draw`.
        embed: of the observations, (B, T, E).
        action: action[:, t] is taken after obs[:, t], (B, T, A).
        first: true where an episode starts, (B, T) bool.
        noise: for the draws, (B, T, S).
    """
    before = previous(action, first)
    state, states, posteriors = model.initial(len(embed)), [], []
    for t in range(embed.shape[1]):
        state, posterior = observe_step(model, state, before[:, t], embed[:, t], first[:, t], noise[:, t])
        states.append(state)
        posteriors.append(posterior)
    deter, stoch = (torch.stack(parts, 1) for parts in zip(*states, strict=True))
    return Beliefs(State(deter, stoch), torch.stack(posteriors, 1), model.prior(deter))


def imagine_ahead(
    model: RSSM, state: State, actions: Tensor | Callable[[Tensor], Tensor], noise: Tensor
) -> tuple[State, Tensor]:
    """Dream on from `state` without seeing: act, h' = f(h, z, a), z' ~ p(z' | h'), H times.

    Args:
        model: gives `transition`, `prior` and `draw`.
        state: where to start, (B, D) and (B, S).
        actions: (B, H, A), actions[:, 0] being taken in `state`; or a policy, from features (B, D + S) to (B, A).
        noise: for the draws, (B, H, S); its length is the horizon.

    Returns:
        The H states after each action, (B, H, D) and (B, H, S), without the start; and the actions, (B, H, A).
    """
    states, taken = [], []
    for k in range(noise.shape[1]):
        action = actions[:, k] if isinstance(actions, Tensor) else actions(torch.cat([*state], -1))
        deter = model.transition(*state, action)
        state = State(deter, model.draw(model.prior(deter), noise[:, k]))
        states.append(state)
        taken.append(action)
    deters, stochs = zip(*states, strict=True)
    return State(torch.stack(deters, 1), torch.stack(stochs, 1)), torch.stack(taken, 1)


def kl_balance(
    kl: Callable[[Tensor, Tensor], Tensor], posterior: Tensor, prior: Tensor, dyn: float, rep: float, free: float = 0.0
) -> Tensor:
    """dyn KL(stop(q) || p) + rep KL(q || stop(p)), each with a floor of `free` nats: a scalar.

    The first trains the prior to foresee the posterior, the second keeps the posterior foreseeable
    (arXiv:2010.02193, algorithm 2: 0.8 and 0.2; arXiv:2301.04104, equation 5: 0.5 and 0.1, free 1).

    Args:
        kl: from the parameters of two distributions, (..., P) each, to nats, (...).
        posterior, prior: parameters of q and of p, (..., P).
    """
    dynamics = free_nats(kl(posterior.detach(), prior)[..., None], free)
    representation = free_nats(kl(posterior, prior.detach())[..., None], free)
    return dyn * dynamics + rep * representation


def rssm_loss(
    log_obs: Tensor, log_reward: Tensor, log_continue: Tensor, kl: Tensor, known: Tensor, beta: float = 1.0
) -> Tensor:
    """-log p(x | z, h) - log p(r | z, h) - log p(continue | z, h) + beta KL, averaged over batch and time: a scalar.

    Args:
        log_obs, log_reward, log_continue: log-likelihoods in nats, (B, T).
        kl: scalar, from kl_balance.
        known: 1 where a step led to x_t, 0 where there is no reward and no end to predict, (B, T).
        beta: the price of a nat of KL.
    """
    return beta * kl - (log_obs + known * (log_reward + log_continue)).mean()


@dataclass(frozen=True)
class RSSMConfig:
    """Sizes of an RSSM."""

    action: int  # A
    embed: int  # E
    deter: int = 200  # D
    hidden: int = 200  # width of the layers between
    latent: Gaussian | Categorical = Gaussian()


class RSSM(nn.Module):
    """The recurrent state-space model."""

    def __init__(self, config: RSSMConfig):
        super().__init__()
        self.config, self.latent = config, config.latent
        self.from_stoch = nn.Linear(self.latent.size, config.hidden, bias=False)
        self.from_action = nn.Linear(config.action, config.hidden)
        self.cell = nn.GRUCell(config.hidden, config.deter)
        self.prior = mlp(config.deter, config.hidden, self.latent.parameters)
        self.from_deter = nn.Linear(config.deter, config.hidden, bias=False)
        self.from_embed = nn.Linear(config.embed, config.hidden)
        self.posterior_head = nn.Linear(config.hidden, self.latent.parameters)

    def initial(self, batch: int) -> State:
        """The state before anything was seen: zeros, (B, D) and (B, S)."""
        like = self.cell.weight_hh
        return State(like.new_zeros(batch, self.config.deter), like.new_zeros(batch, self.latent.size))

    def transition(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """h_t = f(h_{t-1}, z_{t-1}, a_{t-1}): (B, D), (B, S), (B, A) to (B, D)."""
        return self.cell(F.silu(self.from_stoch(stoch) + self.from_action(action)), deter)

    def posterior(self, deter: Tensor, embed: Tensor) -> Tensor:
        """Parameters of q(z_t | h_t, x_t): (..., D), (..., E) to (..., P)."""
        return self.posterior_head(F.silu(self.from_deter(deter) + self.from_embed(embed)))

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """A z with gradient: (..., P), (..., S) to (..., S)."""
        return self.latent.draw(parameters, noise)

    def observe(self, embed: Tensor, action: Tensor, first: Tensor, noise: Tensor) -> Beliefs:
        """Watch a sequence. embed (B, T, E), action (B, T, A), first (B, T) bool, noise (B, T, S)."""
        return observe(self, embed, action, first, noise)


class WorldModel(nn.Module):
    """An RSSM with an encoder before it and three heads behind it.

    Args:
        encoder: observations (B, T, ...) to embeddings (B, T, E).
        decoder: features (B, T, D + S) to what log_likelihood takes.
        log_likelihood: of observations given the decoder's output, to (B, T) nats.
    """

    def __init__(
        self,
        config: RSSMConfig,
        encoder: nn.Module,
        decoder: nn.Module,
        log_likelihood: Callable[[Tensor, Tensor], Tensor] = bernoulli_log_likelihood,
    ):
        super().__init__()
        self.rssm, self.encoder, self.decoder, self.log_likelihood = RSSM(config), encoder, decoder, log_likelihood
        features = config.deter + config.latent.size
        self.reward = mlp(features, config.hidden, 1)
        self.continuation = mlp(features, config.hidden, 1)

    def loss(
        self,
        batch: Sequences,
        noise: Tensor,
        *,
        dyn: float = 0.8,
        rep: float = 0.2,
        free: float = 1.0,
        beta: float = 1.0,
    ) -> tuple[Tensor, dict[str, Any]]:
        """The loss of rssm_loss at one draw of the posterior, and its parts; reward with unit variance."""
        beliefs = self.rssm.observe(self.encoder(batch.obs), batch.action, batch.first, noise)
        features = beliefs.state.features()
        reward, terminated = previous(batch.reward, batch.first), previous(batch.terminated, batch.first)
        known = previous(torch.ones_like(batch.reward), batch.first)
        log_obs = self.log_likelihood(batch.obs, self.decoder(features))
        log_reward = -0.5 * (self.reward(features)[..., 0] - reward).square()
        log_continue = -F.binary_cross_entropy_with_logits(
            self.continuation(features)[..., 0], 1 - terminated.to(reward.dtype), reduction="none"
        )
        kl = kl_balance(self.rssm.latent.kl, beliefs.posterior, beliefs.prior, dyn, rep, free)
        loss = rssm_loss(log_obs, log_reward, log_continue, kl, known, beta)
        return loss, {"obs": log_obs, "reward": log_reward, "continue": log_continue, "kl": kl, "beliefs": beliefs}
