"""Soft actor-critic: the model-free agent that model-based ones of this course build on and are compared with.

Haarnoja et al., arXiv:1801.01290 and, with the tuned temperature, arXiv:1812.05905. The actor is a Gaussian squashed by
tanh, two critics (their smaller value counts) and a slow copy of both give the target. `terminated` ends the sum of
rewards; `truncated` is not even asked for, since a recording that ends says nothing of the world's future.
Built for speed on one thread: both critics are one batched product, and gradients are taken only where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wmcourse.nets import mlp
from wmcourse.replay import Transitions

Target = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class SACConfig:
    """What SAC takes besides shapes and a seed."""

    limit: float = 1.0  # actions lie in [-limit, limit]
    hidden: int = 64  # width of the two hidden layers, of the actor and of each critic
    discount: float = 0.99
    learning_rate: float = 1e-3  # of actor, critics and temperature
    slowness: float = 0.995  # the target critics keep this share of themselves at every update
    temperature: float = 0.2  # the first one; it is tuned from there
    target_entropy: float | None = None  # nats, of actions scaled to [-1, 1]; None is -A, the papers' choice


def soft_target(
    reward: Tensor, terminated: Tensor, next_values: Tensor, next_log_prob: Tensor, temperature: Tensor, discount: float
) -> Tensor:
    """What a critic should say: reward + discount * (smaller next value - temperature * next log-probability).

    arXiv:1812.05905, equations 3 and 5.

    Args:
        reward: (B,).
        terminated: (B,) bool; where true nothing follows, and the target is the reward alone.
        next_values: both target critics at the next observation and an action drawn there, (2, B).
        next_log_prob: that action's log-probability in nats, (B,).
        temperature: weight of the entropy, at least 0, ().
        discount: in [0, 1].

    Returns:
        (B,), detached.
    """
    soft_value = next_values.amin(0) - temperature * next_log_prob
    return (reward + discount * torch.where(terminated, 0.0, soft_value)).detach()


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(mean + std * noise) in (-1, 1), (B, A), and its log-probability in nats, (B,); arXiv:1812.05905, appendix C.

    The change of variables, -log(1 - tanh(u)²), is written as 2 log cosh(u), which does not overflow.
    """
    raw = mean + log_std.exp() * noise
    log_normal = -0.5 * (noise.square() + math.log(2 * math.pi)) - log_std
    return raw.tanh(), (log_normal + 2 * (torch.logaddexp(raw, -raw) - math.log(2))).sum(-1)


class TwinCritic(nn.Module):
    """Two MLPs from (s, a) to a value, their weights stacked (2, inputs, outputs): (B, O), (B, A) to (2, B)."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        sizes = [(inputs, hidden), (hidden, hidden), (hidden, 1)]
        self.weights = nn.ParameterList(torch.empty(2, i, o).uniform_(-(i**-0.5), i**-0.5) for i, o in sizes)
        self.biases = nn.ParameterList(torch.zeros(2, 1, o) for _, o in sizes)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Both values, (2, B)."""
        x = torch.cat([obs, action], -1).expand(2, -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.baddbmm(bias, x, weight).relu()
        return torch.baddbmm(self.biases[-1], x, self.weights[-1])[..., 0]


class SAC:
    """The agent: `act` on observations, `update` on a batch of transitions, wherever they come from.

    Args:
        obs, action: how many numbers in each, O and A.
        config: the settings.
        seed: decides the first weights and every draw.
        target: what the critics are trained towards.
    """

    def __init__(
        self, obs: int, action: int, config: SACConfig = SACConfig(), seed: int = 0, target: Target = soft_target
    ):
        self.config, self.target = config, target
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = mlp(obs, config.hidden, config.hidden, 2 * action, activation=nn.ReLU)
            self.critic, self.slow_critic = (TwinCritic(obs + action, config.hidden) for _ in range(2))
        self.slow_critic.load_state_dict(self.critic.state_dict())
        self.slow_critic.requires_grad_(False)
        self.generator = torch.Generator().manual_seed(seed)
        self.log_temperature = torch.tensor(math.log(config.temperature), requires_grad=True)
        self.target_entropy = -float(action) if config.target_entropy is None else config.target_entropy
        self._actor, self._critic = list(self.actor.parameters()), list(self.critic.parameters())
        self._slow, self._fast = list(self.slow_critic.parameters()), [p.detach() for p in self._critic]
        self._all = [*self._actor, *self._critic, self.log_temperature]
        self._optimizer = torch.optim.Adam(self._all, lr=config.learning_rate, fused=True)

    def draw(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """An action in [-limit, limit], (B, A), with gradient, and its log-probability when scaled to [-1, 1], (B,)."""
        mean, log_std = self.actor(obs).chunk(2, -1)
        noise = torch.randn(mean.shape, generator=self.generator)
        action, log_prob = squashed_gaussian(mean, log_std.clamp(-5.0, 2.0), noise)
        return self.config.limit * action, log_prob

    @torch.no_grad()
    def act(self, obs: Tensor, greedy: bool = False) -> Tensor:
        """Actions (..., A) for observations (..., O): drawn, or without noise where greedy."""
        if greedy:
            return self.config.limit * self.actor(obs).chunk(2, -1)[0].tanh()
        return self.draw(obs)[0]

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        """One step of actor, critics and temperature, all from where they stand; then the slow critics follow.

        Args:
            batch: obs (B, O), action (B, A), reward (B,), next_obs (B, O), terminated (B,).

        Returns:
            What to watch: the critics' loss, their mean value at the batch, the actor's entropy, the temperature.
        """
        drawn, log_probs = self.draw(torch.cat([batch.obs, batch.next_obs]))
        (action, next_action), (log_prob, next_log_prob) = drawn.chunk(2), log_probs.chunk(2)
        temperature = self.log_temperature.detach().exp()
        with torch.no_grad():
            next_values = self.slow_critic(batch.next_obs, next_action)
            wanted = self.target(
                batch.reward, batch.terminated, next_values, next_log_prob, temperature, self.config.discount
            )
        values = self.critic(batch.obs, batch.action)
        critic_loss = (values - wanted).square().sum(0).mean()
        actor_loss = (temperature * log_prob - self.critic(batch.obs, action).amin(0)).mean()
        entropy = -log_prob.detach().mean()
        grads = (
            *torch.autograd.grad(actor_loss, self._actor),  # of the actor alone, though the critics take part
            *torch.autograd.grad(critic_loss, self._critic),
            entropy - self.target_entropy,  # of log temperature * (entropy - target entropy)
        )
        for parameter, grad in zip(self._all, grads, strict=True):
            parameter.grad = grad
        self._optimizer.step()
        for slow, fast in zip(self._slow, self._fast, strict=True):
            slow.lerp_(fast, 1 - self.config.slowness)
        return {
            "critic_loss": critic_loss.detach(),
            "value": values.detach().mean(),
            "entropy": entropy,
            "temperature": temperature,
        }
