"""Lesson 07's mathematics by truth: KL by sampling, gradients by differences, causality, resets, the way back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wmcourse import rssm
from wmcourse.nets import mlp
from wmcourse.replay import Sequences
from wmcourse.rssm import RSSM, Beliefs, Categorical, Gaussian, RSSMConfig, State, WorldModel

B, T, A, E = 3, 7, 2, 5
LATENTS = [Gaussian(4), Categorical(3, 4)]
Latent = Gaussian | Categorical


class Given:
    """A small model in double precision, and a batch in which one episode ends inside a window."""

    def __init__(self, latent: Latent, seed: int = 0):
        torch.manual_seed(seed)
        self.model = RSSM(RSSMConfig(A, E, deter=6, hidden=8, latent=latent)).double()
        self.generator = torch.Generator().manual_seed(seed)
        self.embed, self.action = self.normal(B, T, E), self.normal(B, T, A)
        self.noise = latent.noise((B, T), self.generator).double()
        self.first = torch.zeros(B, T, dtype=torch.bool)
        self.first[0, 3] = self.first[1, 0] = True

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def observe(self, **changed: Tensor) -> Beliefs:
        parts = {"embed": self.embed, "action": self.action, "first": self.first, "noise": self.noise} | changed
        return rssm.observe(self.model, **parts)


@pytest.fixture(params=LATENTS, ids=["gaussian", "categorical"])
def given(request: pytest.FixtureRequest) -> Given:
    return Given(request.param)


def flat(beliefs: Beliefs) -> Tensor:
    """Everything that observe gives, end to end, (B, T, ...)."""
    return torch.cat([*beliefs.state, beliefs.posterior, beliefs.prior], -1)


def differs(one: Tensor, other: Tensor) -> list[bool]:
    """At which steps the first row differs."""
    return ((one - other)[0].abs().amax(-1) > 1e-9).tolist()


@pytest.mark.parametrize("latent", LATENTS, ids=["gaussian", "categorical"])
def test_the_kl_is_the_mean_log_ratio_of_draws(latent: Latent) -> None:
    generator = torch.Generator().manual_seed(0)
    q, p = torch.randn(2, latent.parameters, generator=generator)
    z = latent.draw(q.expand(200_000, -1), latent.noise((200_000,), generator))

    def log_prob(parameters: Tensor) -> Tensor:
        if isinstance(latent, Categorical):
            return (z.unflatten(-1, (3, 4)) * latent.log_probs(parameters)).sum((-2, -1))
        mean, raw = parameters.chunk(2)
        return torch.distributions.Normal(mean, nn.functional.softplus(raw) + 0.1).log_prob(z).sum(-1)

    ratio = log_prob(q) - log_prob(p)
    assert abs(ratio.mean() - latent.kl(q, p)) < 4 * ratio.std() / 200_000**0.5
    assert latent.kl(q, q).abs() < 1e-6


def test_unimix_keeps_every_class_possible() -> None:
    latent = Categorical(1, 4, unimix=0.2)
    assert torch.allclose(
        latent.log_probs(torch.tensor([100.0, 0, 0, 0])).exp(), torch.tensor([[0.85, 0.05, 0.05, 0.05]])
    )
    assert torch.allclose(Categorical(1, 4, unimix=0).log_probs(torch.zeros(4)).exp(), torch.full((1, 4), 0.25))


def test_a_categorical_draw_is_one_hot_with_the_gradient_of_its_probabilities() -> None:
    latent, generator = Categorical(2, 3), torch.Generator().manual_seed(0)
    parameters = torch.randn(6, generator=generator, requires_grad=True)
    z, weight = latent.draw(parameters, latent.noise((), generator)), torch.randn(6, generator=generator)
    assert sorted(z.detach().unflatten(-1, (2, 3)).sum(-1).round().tolist()) == [1.0, 1.0]
    (by_draw,) = torch.autograd.grad((z * weight).sum(), parameters)
    (by_probs,) = torch.autograd.grad((latent.log_probs(parameters).exp().flatten() * weight).sum(), parameters)
    assert torch.allclose(by_draw, by_probs, atol=1e-6)


def test_the_transition_is_a_gru_behind_a_layer() -> None:
    given = Given(Gaussian(4))
    model, cell = given.model, nn.GRUCell(8, 6).double()
    halves = {"ih": model.gru_input, "hh": model.gru_deter}
    cell.load_state_dict(
        {f"{kind}_{end}": getattr(layer, kind) for end, layer in halves.items() for kind in ("weight", "bias")}
    )
    h, z, a = given.normal(B, 6), given.normal(B, 4), given.normal(B, A)
    inputs = nn.functional.silu(model.from_stoch(z) + model.from_action(a))
    assert torch.allclose(model.transition(h, z, a), cell(inputs, h))


def test_previous_is_the_step_before_and_nothing_where_an_episode_starts() -> None:
    first = torch.tensor([[False, False, True, False]])
    assert rssm.previous(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), first).tolist() == [[0.0, 1.0, 0.0, 3.0]]
    assert rssm.previous(torch.ones(1, 4, 2), first)[..., 1].tolist() == [[0.0, 1.0, 0.0, 1.0]]
    assert rssm.previous(torch.ones(1, 4, dtype=torch.bool), first).tolist() == [[False, True, False, True]]


@pytest.mark.parametrize("deferred", [True, False])
def test_every_way_to_observe_agrees_in_values_and_gradients(given: Given, deferred: bool) -> None:
    weight = given.normal(B, T, flat(given.observe()).shape[-1])
    inputs = [given.embed.requires_grad_(), given.action.requires_grad_()]
    wanted = given.observe()
    came = given.model.observe(given.embed, given.action, given.first, given.noise, deferred)
    assert torch.allclose(flat(came), flat(wanted), atol=1e-12)
    targets = [*inputs, *given.model.parameters()]
    pairs = zip(*(torch.autograd.grad((flat(b) * weight).sum(), targets) for b in (came, wanted)), strict=True)
    assert all(torch.allclose(x, y, rtol=1e-9, atol=1e-11) for x, y in pairs)


def test_a_latent_that_draws_nothing_has_a_gradient_too() -> None:
    class Nothing(Gaussian):
        def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
            return torch.zeros_like(noise)

    given = Given(Nothing(4))
    ways = (given.model.observe, lambda *parts: rssm.observe(given.model, *parts))
    parts = given.embed, given.action, given.first, given.noise
    weights = [given.model.gru_deter.weight, given.model.posterior_head.weight]
    one, other = (torch.autograd.grad(flat(way(*parts)).square().sum(), weights) for way in ways)
    assert all(torch.allclose(x, y) for x, y in zip(one, other, strict=True))


def test_in_single_precision_they_agree_to_one_in_100_000() -> None:
    torch.manual_seed(0)
    generator, model = torch.Generator().manual_seed(0), RSSM(RSSMConfig(A, E, 32, 32, Gaussian(8)))
    embed, action = (torch.randn(4, 16, n, generator=generator) for n in (E, A))
    first, noise = torch.rand(4, 16, generator=generator) < 0.2, torch.randn(4, 16, 8, generator=generator)
    found = []
    for way in (model.observe, lambda *parts: rssm.observe(model, *parts)):
        model.zero_grad()
        value = flat(way(embed, action, first, noise))
        value.square().mean().backward()
        found.append([value, *(p.grad for p in model.parameters())])
    for x, y in zip(*found, strict=True):
        assert (x - y).abs().max() <= 1e-5 * max(1.0, y.abs().max().item())


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    given = Given(Gaussian(4))
    weight = given.normal(B, T, flat(given.observe()).shape[-1])

    def loss() -> Tensor:
        b = given.model.observe(given.embed, given.action, given.first, given.noise)
        return (flat(b) * weight).sum() + given.model.latent.kl(b.posterior, b.prior).sum()

    gradients = torch.autograd.grad(loss(), list(given.model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(given.model.parameters(), gradients, strict=True):
            direction, kept, ends = given.normal(*parameter.shape), parameter.clone(), []
            for side in (1, -1):
                parameter.copy_(kept + side * 1e-6 * direction)
                ends.append(loss())
            parameter.copy_(kept)
            assert torch.isclose((ends[0] - ends[1]) / 2e-6, (gradient * direction).sum(), rtol=1e-5, atol=1e-6)


def test_rows_of_a_batch_do_not_see_each_other(given: Given) -> None:
    order = torch.tensor([2, 0, 1])
    embed, action, first, noise = (x[order] for x in (given.embed, given.action, given.first, given.noise))
    assert torch.allclose(flat(given.model.observe(embed, action, first, noise)), flat(given.observe())[order])


def test_blind_to_the_future_and_the_prior_to_the_present(given: Given) -> None:
    embed = given.embed.clone()
    embed[0, 4] += 1
    before, after = given.observe(), given.observe(embed=embed)
    assert not any(differs(flat(before), flat(after))[:4])
    assert differs(before.posterior, after.posterior)[4]
    assert not differs(before.prior, after.prior)[4]


def test_an_action_moves_the_step_it_led_to_and_none_before(given: Given) -> None:
    action = given.action.clone()
    action[0, [4, 5]] = action[0, [5, 4]]
    moved = differs(given.observe().state.deter, given.observe(action=action).state.deter)
    assert moved == [False] * 5 + [True] * 2
    action = given.action.clone()
    action[0, 2] += 1  # taken after the last observation of an episode: leads nowhere
    assert not any(differs(flat(given.observe()), flat(given.observe(action=action))))


def test_an_episode_that_starts_inside_a_window_starts_afresh(given: Given) -> None:
    alone = given.observe(**{k: getattr(given, k)[:, 3:] for k in ("embed", "action", "noise", "first")})
    assert torch.allclose(flat(given.observe())[0, 3:], flat(alone)[0])
    assert differs(flat(given.observe())[1:, 3:], flat(alone)[1:]) == [True] * 4


def test_dreams_start_where_the_belief_stands_and_follow_the_prior(given: Given) -> None:
    beliefs = given.observe()
    start = State(*(x[:, 3] for x in beliefs.state))
    dream, taken = rssm.imagine_ahead(given.model, start, given.action[:, 3:6], given.noise[:, 3:6])
    assert taken.equal(given.action[:, 3:6])
    assert torch.allclose(dream.deter[:, 0], beliefs.state.deter[:, 4])
    assert torch.allclose(given.model.prior(dream.deter[:, 0]), beliefs.prior[:, 4])
    # Where the posterior is the prior, watching and dreaming are the same.
    given.model.posterior = lambda deter, embed: given.model.prior(deter)  # type: ignore[method-assign]
    watched = given.observe(first=torch.zeros(B, T, dtype=torch.bool))
    start = State(*(x[:, 3] for x in watched.state))
    dream, _ = rssm.imagine_ahead(given.model, start, given.action[:, 3:6], given.noise[:, 4:])
    assert torch.allclose(dream.features(), watched.state.features()[:, 4:])


def test_a_policy_sees_the_state_it_acts_in_and_gets_a_gradient(given: Given) -> None:
    policy = nn.Linear(6 + given.model.latent.size, A).double()
    start = State(given.normal(B, 6), given.normal(B, given.model.latent.size))
    dream, taken = rssm.imagine_ahead(given.model, start, policy, given.noise[:, :4])
    assert torch.allclose(taken[:, 0], policy(start.features()))
    assert torch.allclose(taken[:, 1:], policy(dream.features())[:, :-1])
    dream.features()[:, -1].sum().backward()
    assert policy.weight.grad is not None
    assert policy.weight.grad.abs().min() > 0


def test_kl_balance_shares_one_gradient_out_and_has_a_floor() -> None:
    latent = Gaussian(4)
    q, p = (torch.randn(B, T, 8, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in (0, 1))
    plain = torch.autograd.grad(latent.kl(q, p).mean(), [q, p])
    balanced = torch.autograd.grad(rssm.kl_balance(latent.kl, q, p, dyn=0.8, rep=0.2), [q, p])
    assert torch.allclose(balanced[0], 0.2 * plain[0])
    assert torch.allclose(balanced[1], 0.8 * plain[1])
    assert torch.isclose(rssm.kl_balance(latent.kl, q, p, 0.8, 0.2), latent.kl(q, p).mean())
    floored = rssm.kl_balance(latent.kl, q, p, 0.8, 0.2, free=1e3)
    assert floored == 1e3
    assert not any(g.any() for g in torch.autograd.grad(floored, [q, p]))


def make_world(seed: int = 0) -> tuple[WorldModel, Sequences, Tensor]:
    torch.manual_seed(seed)
    config = RSSMConfig(A, E, deter=6, hidden=8, latent=Gaussian(4))
    model = WorldModel(config, mlp(3, 8, E), mlp(10, 8, 3), lambda x, mean: -0.5 * (x - mean).square().sum(-1))
    first = torch.zeros(B, T, dtype=torch.bool)
    first[0, 3] = True
    ended = torch.zeros(B, T, dtype=torch.bool)
    ended[1, 2] = True
    return (
        model,
        Sequences(torch.randn(B, T, 3), torch.randn(B, T, A), torch.randn(B, T), ended, first),
        torch.randn(B, T, 4),
    )


def test_the_loss_is_its_four_terms_and_knows_what_arrived() -> None:
    model, batch, noise = make_world()
    loss, parts = model.loss(batch, noise, free=0.0, beta=0.5)
    known = torch.ones(B, T)
    known[:, 0] = known[0, 3] = 0
    likelihood = parts["obs"] + known * (parts["reward"] + parts["continue"])
    assert torch.isclose(loss, 0.5 * parts["kl"] - likelihood.mean())
    logits = model.continuation(parts["beliefs"].state.features())[..., 0]
    ended = torch.zeros(B, T, dtype=torch.bool)
    ended[1, 3] = True  # one step after the action that ended it
    wanted = torch.where(ended, 1 - logits.sigmoid(), logits.sigmoid()).log()
    assert torch.allclose(parts["continue"], wanted, atol=1e-6)
    # A reward that came with no observation of the window changes nothing; one that did, does.
    for step, matters in ((2, False), (T - 1, False), (1, True)):
        reward = batch.reward.clone()
        reward[0, step] += 5
        changed, _ = model.loss(batch._replace(reward=reward), noise, free=0.0, beta=0.5)
        assert bool((changed - loss).abs() > 1e-4) == matters


def test_a_little_training_lowers_the_loss() -> None:
    model, batch, noise = make_world()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss, _ = model.loss(batch, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("deferred", [True, False])
def test_the_number_of_operations_grows_linearly_with_time(deferred: bool) -> None:
    model = RSSM(RSSMConfig(A, E, 6, 8, Gaussian(4)))

    def operations(length: int) -> int:
        with torch.profiler.profile() as profile:
            parts = torch.zeros(2, length, E), torch.zeros(2, length, A), torch.zeros(2, length, dtype=torch.bool)
            flat(model.observe(*parts, torch.zeros(2, length, 4), deferred)).sum().backward()
        return sum(event.count for event in profile.key_averages())

    one, two, three = (operations(n) for n in (8, 16, 24))
    assert abs((three - two) - (two - one)) <= 0.02 * one
