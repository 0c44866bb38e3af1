"""Contenders: one RSSM in four libraries, behind one small interface, at the same sizes.

A contender watches a sequence and dreams; nothing more. Decoder, reward head, loss, optimizer and policy are the same
code for all (bench/rssm.py), so that what is compared is the RSSM. The peers' modules are their own, unchanged; where a
library's training loop does more inside the loop than its RSSM needs (mbrl-lib encodes and decodes there), that part is
left out, in the peer's favor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wmcourse import rssm
from wmcourse.one_step_dynamics import gaussian_head

Policy = Callable[[Tensor], Tensor]  # features, (N, D + S), to actions, (N, A)


@dataclass(frozen=True)
class Sizes:
    """What all contenders share: Dreamer's sizes (arXiv:1912.01603)."""

    batch: int = 16  # B
    time: int = 32  # T
    action: int = 6  # A
    embed: int = 32  # E, also what the decoder gives back
    deter: int = 200  # D
    stoch: int = 30  # S
    hidden: int = 200
    floor: float = 0.1  # the smallest std
    starts: int = 512  # of imagination
    horizon: int = 15  # H


class Data(NamedTuple):
    """A batch of sequences, and states to dream on from."""

    embed: Tensor  # (B, T, E)
    action: Tensor  # (B, T, A): the one that led to embed
    reward: Tensor  # (B, T)
    first: Tensor  # (B, T) bool
    deter: Tensor  # (N, D)
    stoch: Tensor  # (N, S)


class Watched(NamedTuple):
    """What a contender makes of the sequences."""

    features: Tensor  # (B, T, D + S)
    posterior: tuple[Tensor, Tensor]  # mean and std, (B, T, S) each
    prior: tuple[Tensor, Tensor]


def make_data(sizes: Sizes, seed: int) -> Data:
    """Standard normal numbers; an episode starts at the head of every window."""
    g = torch.Generator().manual_seed(seed)
    shape = (sizes.batch, sizes.time)
    first = torch.zeros(shape, dtype=torch.bool)
    first[:, 0] = True
    embed, action = (torch.randn(*shape, n, generator=g) for n in (sizes.embed, sizes.action))
    reward = torch.randn(shape, generator=g)
    deter, stoch = (torch.randn(sizes.starts, n, generator=g).tanh() for n in (sizes.deter, sizes.stoch))
    return Data(embed, action, reward, first, deter, stoch)


class Course(nn.Module):
    """This package: `quick`, `plain` (the same loop by autograd), or `as taught` (the function that learners write)."""

    def __init__(self, sizes: Sizes, way: str):
        super().__init__()
        latent = rssm.Gaussian(sizes.stoch, sizes.floor)
        self.sizes, self.way = sizes, way
        self.rssm = rssm.RSSM(rssm.RSSMConfig(sizes.action, sizes.embed, sizes.deter, sizes.hidden, latent))

    def observe(self, data: Data) -> Watched:
        """Watch."""
        # rssm wants the action taken after each observation: the one that led to the next.
        action = torch.cat([data.action[:, 1:], data.action[:, :1]], 1)
        noise = torch.randn(*data.reward.shape, self.sizes.stoch)
        if self.way == "as taught":
            beliefs = rssm.observe(self.rssm, data.embed, action, data.first, noise)
        else:
            beliefs = self.rssm.observe(data.embed, action, data.first, noise, deferred=self.way == "quick")
        heads = (gaussian_head(x, self.sizes.floor) for x in (beliefs.posterior, beliefs.prior))
        return Watched(beliefs.state.features(), *heads)

    def imagine(self, data: Data, policy: Policy) -> Tensor:
        """Dream: (N, H, D + S)."""
        noise = torch.randn(len(data.deter), self.sizes.horizon, self.sizes.stoch)
        return rssm.imagine_ahead(self.rssm, rssm.State(data.deter, data.stoch), policy, noise)[0].features()


class TorchRL(nn.Module):
    """torchrl's RSSMPrior, RSSMPosterior and RSSMRollout."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        from tensordict.nn import TensorDictModule
        from torchrl.data import Unbounded
        from torchrl.modules import RSSMPosterior, RSSMPrior, RSSMRollout

        self.sizes, (hidden, deter, stoch) = sizes, (sizes.hidden, sizes.deter, sizes.stoch)
        self.prior = RSSMPrior(Unbounded((sizes.action,)), hidden, deter, stoch, sizes.floor, action_dim=sizes.action)
        posterior = RSSMPosterior(hidden, stoch, sizes.floor, deter, sizes.embed)
        after = [("next", name) for name in ("prior_mean", "prior_std", "belief", "encoded_latents", "state")]
        seen = [("next", "posterior_mean"), ("next", "posterior_std"), after[4]]
        self.rollout = RSSMRollout(
            TensorDictModule(
                self.prior, in_keys=["state", "belief", "action"], out_keys=[after[0], after[1], "_", after[2]]
            ),
            TensorDictModule(posterior, in_keys=[after[2], after[3]], out_keys=seen),
        )

    def observe(self, data: Data) -> Watched:
        """Watch."""
        from tensordict import TensorDict

        shape = data.reward.shape
        zeros = {"state": torch.zeros(*shape, self.sizes.stoch), "belief": torch.zeros(*shape, self.sizes.deter)}
        given = {"action": data.action, "next": {"encoded_latents": data.embed}, **zeros}
        out = self.rollout(TensorDict(given, shape))["next"]
        features = torch.cat([out["belief"], out["state"]], -1)
        posterior, prior = ((out[f"{name}_mean"], out[f"{name}_std"]) for name in ("posterior", "prior"))
        return Watched(features, posterior, prior)

    def imagine(self, data: Data, policy: Policy) -> Tensor:
        """Dream: (N, H, D + S)."""
        deter, stoch, dreamed = data.deter, data.stoch, []
        for _ in range(self.sizes.horizon):
            *_, stoch, deter = self.prior(stoch, deter, policy(torch.cat([deter, stoch], -1)))
            dreamed.append(torch.cat([deter, stoch], -1))
        return torch.stack(dreamed, 1)


class SheepRL(nn.Module):
    """sheeprl's DreamerV1: RSSM, RecurrentModel and MLP."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        from sheeprl.algos.dreamer_v1.agent import RSSM, RecurrentModel
        from sheeprl.models.models import MLP

        self.sizes = sizes
        heads = (
            MLP(n, 2 * sizes.stoch, [sizes.hidden], activation=nn.ELU) for n in (sizes.deter + sizes.embed, sizes.deter)
        )
        self.rssm = RSSM(RecurrentModel(sizes.stoch + sizes.action, sizes.deter), *heads, {}, sizes.floor)

    def observe(self, data: Data) -> Watched:
        """Watch: the loop of sheeprl.algos.dreamer_v1.dreamer_v1.world_model_loss, which puts time first."""
        action, embed, first = (x.transpose(0, 1) for x in (data.action, data.embed, data.first.float()[..., None]))
        deter = torch.zeros(1, action.shape[1], self.sizes.deter)
        stoch = torch.zeros(1, action.shape[1], self.sizes.stoch)
        seen = []
        for t in range(len(action)):
            now = slice(t, t + 1)
            deter, stoch, _, q, p = self.rssm.dynamic(stoch, deter, action[now], embed[now], first[now])
            seen.append((deter, stoch, *q, *p))
        deter, stoch, *heads = (torch.cat(parts).transpose(0, 1) for parts in zip(*seen, strict=True))
        return Watched(torch.cat([deter, stoch], -1), (heads[0], heads[1]), (heads[2], heads[3]))

    def imagine(self, data: Data, policy: Policy) -> Tensor:
        """Dream: (N, H, D + S)."""
        deter, stoch, dreamed = data.deter[None], data.stoch[None], []
        for _ in range(self.sizes.horizon):
            stoch, deter = self.rssm.imagination(stoch, deter, policy(torch.cat([deter, stoch], -1)))
            dreamed.append(torch.cat([deter, stoch], -1)[0])
        return torch.stack(dreamed, 1)


class MBRL(nn.Module):
    """mbrl-lib's PlaNetModel, less its convolutions and its reward head."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        from mbrl.models.planet import PlaNetModel, StatesAndBeliefs

        frames: Any = ((3, 64, 64), sizes.embed, ((3, 4, 4, 2),), ((1, 1, 1), ((1, 3, 64, 1),)))
        widths = (sizes.stoch, sizes.action, sizes.deter, sizes.hidden)
        self.sizes, self.collect = sizes, StatesAndBeliefs
        self.planet = PlaNetModel(*frames, *widths, "cpu", sizes.floor)
        self.planet.encoder, self.planet.decoder, self.planet.reward_model = nn.Identity(), None, None

    def observe(self, data: Data) -> Watched:
        """Watch: the loop of PlaNetModel.forward."""
        stoch = torch.zeros(len(data.embed), self.sizes.stoch)
        deter, seen = torch.zeros(len(data.embed), self.sizes.deter), self.collect()
        for t in range(data.embed.shape[1]):
            step = self.planet._forward_transition_models(data.embed[:, t], data.action[:, t], stoch, deter)
            seen.append(*step)
            *_, stoch, deter = step
        prior, _, posterior, stoch, deter = seen.as_stacked_tuple()
        return Watched(torch.cat([deter, stoch], -1), posterior.chunk(2, -1), prior.chunk(2, -1))

    def imagine(self, data: Data, policy: Policy) -> Tensor:
        """Dream: PlaNetModel.sample with its gradient, (N, H, D + S)."""
        deter, stoch, dreamed, planet = data.deter, data.stoch, [], self.planet
        for _ in range(self.sizes.horizon):
            deter = planet.belief_model(stoch, policy(torch.cat([deter, stoch], -1)), deter)
            stoch = planet._sample_state_from_params(planet.prior_transition_model(deter), planet.rng)
            dreamed.append(torch.cat([deter, stoch], -1))
        return torch.stack(dreamed, 1)


OURS = {f"wmcourse, {way}": lambda sizes, way=way: Course(sizes, way) for way in ("quick", "plain", "as taught")}
PEERS: dict[str, Callable[[Sizes], nn.Module]] = {"torchrl": TorchRL, "sheeprl": SheepRL, "mbrl-lib": MBRL}


def available(sizes: Sizes) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Every contender that can be made here, and why the others cannot."""
    made, skipped = {}, {}
    for name, make in {**OURS, **PEERS}.items():
        torch.manual_seed(0)
        try:
            made[name] = make(sizes)
        except Exception as reason:  # a peer that is missing, or that does not fit the rest, is no reason to stop
            if name in OURS:
                raise
            skipped[name] = f"{type(reason).__name__}: {reason}"
    return made, skipped
