"""The RSSM: a world model whose state is a pair, a long memory h and an uncertain z (lesson 07).

h_t = f(h_{t-1}, z_{t-1}, a_{t-1}) is computed, z_t is drawn: from the prior p(z_t | h_t) before the observation comes,
from the posterior q(z_t | h_t, x_t) after it (Hafner et al., arXiv:1811.04551, section 3; arXiv:1912.01603).
Letters for axes: B batch, T time, H horizon, A action, E embedding, D deter (h), S stoch (z), P parameters of a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmcourse.elbo import bernoulli_log_likelihood, free_nats, gaussian_kl
from wmcourse.nets import mlp
from wmcourse.one_step_dynamics import gaussian_head
from wmcourse.recurrence import Beliefs, State, Weights, gru_gates, reset_where_first, unroll
from wmcourse.reparameterization import reparameterize, straight_through
from wmcourse.replay import Sequences


@dataclass(frozen=True)
class Gaussian:
    """z ~ N(mean, std²); parameters (..., P): S means, then S raw spreads."""

    size: int = 30  # S
    floor: float = 0.1  # the smallest std

    @property
    def parameters(self) -> int:
        """P."""
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
    """z is `groups` one-hot vectors of `classes` entries, end to end (arXiv:2010.02193, section 2.1); P = S logits."""

    groups: int = 8
    classes: int = 8
    unimix: float = 0.01  # the share of a uniform distribution mixed in, so that no class is impossible (2301.04104)

    @property
    def size(self) -> int:
        """S."""
        return self.groups * self.classes

    parameters = size

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Uniform numbers for `draw`, (*shape, S)."""
        return torch.rand(*shape, self.size, generator=generator, device=generator.device)

    def log_probs(self, parameters: Tensor) -> Tensor:
        """(..., P) to (..., groups, classes), the uniform share included."""
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


def previous(x: Tensor, first: Tensor) -> Tensor:
    """What the step before left: x[:, t - 1] at t; zero at t = 0, and where first. (B, T, ...), (B, T) to (B, T, ...).

    Action a_{t-1}, reward r_{t-1} and terminated_{t-1} all belong to the observation x_t that they led to.
    """
    shifted = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    return reset_where_first(shifted.flatten(0, 1), first.flatten()).view_as(x)


def observe_step(
    model: RSSM, state: State, action: Tensor, embed: Tensor, first: Tensor, noise: Tensor
) -> tuple[State, Tensor]:
    """One observation more: from (h_{t-1}, z_{t-1}), a_{t-1} and x_t to (h_t, z_t), and the posterior's parameters.

    Args:
        model: gives `transition`, `posterior` and `draw`.
        state, action: h_{t-1}, (B, D), and z_{t-1}, (B, S); and a_{t-1}, which led here, (B, A).
        embed, noise: of x_t, (B, E), and for the draw, (B, S).
        first: true where x_t is the first of an episode, (B,) bool: state and action before it count as zero.
    """
    deter, stoch, action = (reset_where_first(x, first) for x in (*state, action))
    deter = model.transition(deter, stoch, action)
    posterior = model.posterior(deter, embed)
    return State(deter, model.draw(posterior, noise)), posterior


def observe(model: RSSM, embed: Tensor, action: Tensor, first: Tensor, noise: Tensor) -> Beliefs:
    """Watch a sequence: `observe_step` once for each observation, from model.initial on.

    Args:
        embed, noise: of the observations, (B, T, E), and for the draws, (B, T, S).
        action, first: action[:, t] is taken after obs[:, t], (B, T, A); true where an episode starts, (B, T) bool.
    """
    led = previous(action, first)
    state, seen = model.initial(len(embed)), []
    for t in range(embed.shape[1]):
        state, posterior = observe_step(model, state, led[:, t], embed[:, t], first[:, t], noise[:, t])
        seen.append((*state, posterior))
    deter, stoch, posterior = (torch.stack(parts, 1) for parts in zip(*seen, strict=True))
    return Beliefs(State(deter, stoch), posterior, model.prior(deter))


def imagine_ahead(
    model: RSSM, state: State, actions: Tensor | Callable[[Tensor], Tensor], noise: Tensor
) -> tuple[State, Tensor]:
    """Dream on from `state` without seeing: act, h' = f(h, z, a), z' ~ p(z' | h'), H times.

    Gives the H states after each action, (B, H, D) and (B, H, S), without the start; and the actions, (B, H, A).

    Args:
        model: gives `transition`, `prior` and `draw`.
        state, noise: where to start, (B, D) and (B, S); for the draws, (B, H, S), its length being the horizon.
        actions: (B, H, A), actions[:, 0] being taken in `state`; or a policy, from features (B, D + S) to (B, A).
    """
    steps = []
    for k in range(noise.shape[1]):
        action = actions[:, k] if isinstance(actions, Tensor) else actions(torch.cat([*state], -1))
        deter = model.transition(*state, action)
        state = State(deter, model.draw(model.prior(deter), noise[:, k]))
        steps.append((*state, action))
    deters, stochs, taken = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
    return State(deters, stochs), taken


def kl_balance(
    kl: Callable[[Tensor, Tensor], Tensor], posterior: Tensor, prior: Tensor, dyn: float, rep: float, free: float = 0.0
) -> Tensor:
    """dyn KL(stop(q) || p) + rep KL(q || stop(p)), each with a floor of `free` nats under its mean: a scalar.

    The first trains the prior to foresee the posterior, the second keeps the posterior foreseeable
    (arXiv:2010.02193, algorithm 2: 0.8 and 0.2; arXiv:2301.04104, equation 5: 0.5 and 0.1, free 1). kl takes the
    parameters of two distributions, as posterior and prior are, (..., P) each, to nats, (...).
    """
    dynamics = free_nats(kl(posterior.detach(), prior)[..., None], free)
    representation = free_nats(kl(posterior, prior.detach())[..., None], free)
    return dyn * dynamics + rep * representation


def rssm_loss(
    log_obs: Tensor, log_reward: Tensor, log_continue: Tensor, kl: Tensor, known: Tensor, beta: float = 1.0
) -> Tensor:
    """-log p(x | z, h) - log p(r | z, h) - log p(continue | z, h) + beta KL, averaged over batch and time: a scalar.

    Log-likelihoods in nats and known, (B, T): 0 at an episode's start and at the window's (no reward there); kl scalar.
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
        stoch, deter, hidden = config.latent.size, config.deter, config.hidden
        self.from_stoch, self.from_action = nn.Linear(stoch, hidden, bias=False), nn.Linear(config.action, hidden)
        self.gru_input, self.gru_deter = nn.Linear(hidden, 3 * deter), nn.Linear(deter, 3 * deter)
        self.prior = mlp(deter, hidden, self.latent.parameters)
        self.from_deter, self.from_embed = nn.Linear(deter, hidden, bias=False), nn.Linear(config.embed, hidden)
        self.posterior_head = nn.Linear(hidden, self.latent.parameters)

    def initial(self, batch: int) -> State:
        """The state before anything was seen: zeros, (B, D) and (B, S)."""
        return State(*(self.from_stoch.weight.new_zeros(batch, n) for n in (self.config.deter, self.latent.size)))

    def transition(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """h_t = f(h_{t-1}, z_{t-1}, a_{t-1}): (B, D), (B, S), (B, A) to (B, D)."""
        inputs = F.silu(self.from_stoch(stoch) + self.from_action(action))  # (B, hidden)
        return gru_gates(self.gru_input(inputs), self.gru_deter(deter), deter)

    def posterior(self, deter: Tensor, embed: Tensor) -> Tensor:
        """Parameters of q(z_t | h_t, x_t): (..., D), (..., E) to (..., P)."""
        return self.posterior_head(F.silu(self.from_deter(deter) + self.from_embed(embed)))

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """A z through which gradients flow: (..., P), (..., S) to (..., S)."""
        return self.latent.draw(parameters, noise)

    def observe(self, embed: Tensor, action: Tensor, first: Tensor, noise: Tensor, deferred: bool = True) -> Beliefs:
        """The function `observe`, with as little as can be inside the loop; for `deferred` see wmcourse.recurrence."""
        led, seen = self.from_action(previous(action, first)), self.from_embed(embed)  # (B, T, hidden)
        loop = (self.from_stoch, self.gru_input, self.gru_deter, self.from_deter, self.posterior_head)
        weights = Weights(*(p for layer in loop for p in layer.parameters()))
        state, posterior = unroll(self.draw, led, seen, noise, first, weights, deferred)
        return Beliefs(state, posterior, self.prior(state.deter))


class WorldModel(nn.Module):
    """An RSSM between an encoder, obs (B, T, ...) to (B, T, E), and three heads that see features (B, T, D + S).

    log_likelihood: of the observations given what the decoder made of the features, (B, T) nats.
    """

    def __init__(
        self, config: RSSMConfig, encoder: nn.Module, decoder: nn.Module, log_likelihood: Any = bernoulli_log_likelihood
    ):
        super().__init__()
        self.rssm, self.encoder, self.decoder, self.log_likelihood = RSSM(config), encoder, decoder, log_likelihood
        self.reward, self.continuation = (mlp(config.deter + config.latent.size, config.hidden, 1) for _ in range(2))

    def loss(
        self, batch: Sequences, noise: Tensor, dyn: float = 0.8, rep: float = 0.2, free: float = 1.0, beta: float = 1.0
    ) -> tuple[Tensor, dict[str, Any]]:
        """The loss of rssm_loss at one draw of the posterior, and its parts; reward with unit variance."""
        beliefs = self.rssm.observe(self.encoder(batch.obs), batch.action, batch.first, noise)
        features = beliefs.state.features()
        reward, terminated = previous(batch.reward, batch.first), previous(batch.terminated, batch.first)
        log_obs = self.log_likelihood(batch.obs, self.decoder(features))
        log_reward = -0.5 * (self.reward(features)[..., 0] - reward).square()
        sign = 1 - 2 * terminated.to(reward.dtype)  # log sigmoid(logit) where it goes on, log sigmoid(-logit) where not
        log_continue = F.logsigmoid(sign * self.continuation(features)[..., 0])
        kl = kl_balance(self.rssm.latent.kl, beliefs.posterior, beliefs.prior, dyn, rep, free)
        loss = rssm_loss(log_obs, log_reward, log_continue, kl, previous(torch.ones_like(reward), batch.first), beta)
        return loss, {"obs": log_obs, "reward": log_reward, "continue": log_continue, "kl": kl, "beliefs": beliefs}
