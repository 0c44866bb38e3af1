"""Lesson 11 by truth: returns by a slow loop, gradients by closed form and differences, and an agent that learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wmcourse import dreamer, linear_quadratic, rssm
from wmcourse.behavior import (
    analytic_loss,
    continuation_weights,
    critic_loss,
    follow,
    lambda_return,
    reinforce_loss,
    return_range,
)
from wmcourse.dreamer import CARTPOLE, PENDULUM, PIXELS, Dreamer, actor_gradient
from wmcourse.replay import Sequences
from wmcourse.rssm import State

N, H = 4, 6
GAMMA, STD = 0.97, 0.3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def n_step(reward: Tensor, value: Tensor, discount: Tensor, start: int, steps: int) -> float:
    """`steps` rewards from s_start on, then the critic; one row."""
    total, factor = 0.0, 1.0
    for k in range(start, start + steps):
        total += factor * reward[k].item()
        factor *= discount[k].item()
    return total + factor * value[start + steps - 1].item()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95, 1.0])
def test_the_lambda_return_is_the_weighted_mean_of_all_lengths(decay: float) -> None:
    reward, value, discount = drawn(N, H), drawn(N, H, seed=1), torch.sigmoid(drawn(N, H, seed=2))
    found = lambda_return(reward, value, discount, decay)
    for i in range(N):
        for k in range(H):
            lengths = [n_step(reward[i], value[i], discount[i], k, n) for n in range(1, H - k + 1)]
            wanted = decay ** (H - k - 1) * lengths[-1]
            wanted += (1 - decay) * sum(decay**n * x for n, x in enumerate(lengths[:-1]))
            assert found[i, k].item() == pytest.approx(wanted, abs=1e-9)


def test_its_limits() -> None:
    reward, value, discount = drawn(N, H), drawn(N, H, seed=1), torch.sigmoid(drawn(N, H, seed=2))
    assert torch.allclose(lambda_return(reward, value, discount, 0.0), reward + discount * value)
    whole = lambda_return(reward, value, discount, 1.0)
    assert torch.allclose(
        whole[:, 0], torch.tensor([n_step(*x, 0, H) for x in zip(reward, value, discount, strict=True)]).double()
    )
    # What the critic says of states before the last plays no part; nothing behind an end does.
    assert torch.equal(whole, lambda_return(reward, torch.cat([0 * value[:, :-1], value[:, -1:]], 1), discount, 1.0))
    ended = discount.clone()
    ended[:, 2] = 0
    later = torch.arange(H) > 2
    same = lambda_return(reward + 5 * later, value + 7 * (torch.arange(H) >= 2), ended, 0.9)
    assert torch.allclose(same[:, :3], lambda_return(reward, value, ended, 0.9)[:, :3])


def test_a_critic_that_is_right_is_left_alone_whatever_lambda() -> None:
    value, discount = drawn(N, H + 1), torch.sigmoid(drawn(N, H, seed=2))
    reward = value[:, :-1] - discount * value[:, 1:]  # the Bellman equation, holding
    for decay in (0.0, 0.3, 1.0):
        assert torch.allclose(lambda_return(reward, value[:, 1:], discount, decay), value[:, :-1])


def test_the_weight_of_a_state_is_the_chance_of_getting_there() -> None:
    going_on = torch.tensor([[1.0, 1.0, 0.5, 1.0], [0.0, 1.0, 1.0, 1.0]], requires_grad=True)
    weight = continuation_weights(going_on, 0.5)
    assert torch.allclose(weight, torch.tensor([[1.0, 0.5, 0.125, 0.0625], [0.0, 0.0, 0.0, 0.0]]))
    assert not weight.requires_grad


def loss_parts() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    returns, value, log_prob, entropy = (drawn(N, H, seed=i).requires_grad_() for i in range(4))
    return returns, value, log_prob, entropy, torch.sigmoid(drawn(N, H, seed=4)), torch.tensor(2.0)


def test_where_the_gradient_of_each_loss_goes() -> None:
    parts = loss_parts()
    returns, value, weight = parts[0], parts[1], parts[4]
    share, inputs = weight / (N * H), parts[:4]
    by = torch.autograd.grad(analytic_loss(*parts, 0.1), inputs, allow_unused=True)
    assert torch.allclose(by[0], -share / 2)
    assert by[1] is None and by[2] is None  # noqa: PT018
    assert torch.allclose(by[3], -0.1 * share)
    by = torch.autograd.grad(reinforce_loss(*parts, 0.1), inputs, allow_unused=True)
    assert by[0] is None and by[1] is None  # noqa: PT018
    assert torch.allclose(by[2], -share * (returns - value).detach() / 2)
    assert torch.allclose(by[3], -0.1 * share)
    by = torch.autograd.grad(critic_loss(value, returns, weight), [value, returns], allow_unused=True)
    assert torch.allclose(by[0], share * (value - returns).detach())
    assert by[1] is None


def test_the_range_leaves_out_the_outliers() -> None:
    returns = torch.linspace(0, 100, 101)[torch.randperm(101)].view(1, -1)
    assert return_range(returns).item() == pytest.approx(90, abs=1e-3)
    returns[0, returns[0].argmax()] = 1e6
    assert return_range(returns).item() == pytest.approx(90, abs=1e-3)


def test_the_slow_critic_follows() -> None:
    slow, quick = nn.Linear(2, 2), nn.Linear(2, 2)
    before, goal = slow.weight.clone(), quick.weight.clone()
    follow(slow, quick, 0.25)
    assert torch.allclose(slow.weight, 0.75 * before + 0.25 * goal)
    assert torch.equal(quick.weight, goal)


# The gradient itself, on a linear-quadratic world.


class Given:
    """A world, a policy and what they are rolled out on; `noise_std` for the world's dice."""

    def __init__(self, noise_std: float, count: int, seed: int = 0, horizon: int = 20):
        self.world, self.gain = linear_quadratic.double_integrator(noise_std), torch.tensor([[-0.6, -0.8]]).double()
        self.start, self.noise = drawn(count, 2, seed=seed), drawn(count, horizon, 2, seed=seed + 1)
        self.dice, self.horizon = drawn(count, horizon, 1, seed=seed + 2), horizon
        self.moment = self.start.T @ self.start / count

    def dreamed(self, gain: Tensor, action_std: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """States, actions and the return of every state, by the parts that train the agent."""
        states, actions, reward = linear_quadratic.roll_out(
            self.world, gain, self.start, self.noise, self.dice, action_std
        )
        returns = lambda_return(reward, torch.zeros_like(reward), torch.full_like(reward, GAMMA), 1.0)
        return states, actions, returns


def relative(x: Tensor, y: Tensor) -> float:
    return ((x - y).norm() / y.norm()).item()


def test_the_analytic_gradient_is_the_closed_form_and_the_differences() -> None:
    given = Given(noise_std=0.0, count=8)
    gain = given.gain.clone().requires_grad_()
    (analytic,) = torch.autograd.grad(given.dreamed(gain)[2][:, 0].mean(), gain)
    facts = given.world, given.gain, given.moment, given.horizon, GAMMA
    assert relative(analytic, linear_quadratic.exact_gradient(*facts)) < 1e-10
    by_moments = linear_quadratic.finite_differences(
        lambda k: linear_quadratic.expected_return(given.world, k, given.moment, given.horizon, GAMMA), given.gain
    )
    by_dreams = linear_quadratic.finite_differences(lambda k: given.dreamed(k)[2][:, 0].mean(), given.gain)
    assert relative(analytic, by_moments) < 1e-6
    assert relative(analytic, by_dreams) < 1e-6
    world = given.world
    parts = world.dynamics, world.control, world.state_cost, world.action_cost
    by_hand = [linear_quadratic.trajectory_gradient(*parts, given.gain, s, given.horizon, GAMMA) for s in given.start]
    assert relative(torch.stack(by_hand).mean(0), analytic) < 1e-10


def test_with_dice_the_closed_form_is_the_mean_of_both_estimates() -> None:
    given = Given(noise_std=0.2, count=20_000)
    exact = linear_quadratic.exact_gradient(given.world, given.gain, given.moment, given.horizon, GAMMA, STD)
    differences = linear_quadratic.finite_differences(
        lambda k: linear_quadratic.expected_return(given.world, k, given.moment, given.horizon, GAMMA, STD), given.gain
    )
    assert relative(differences, exact) < 1e-6
    gain = given.gain.expand(len(given.start), 1, 2).clone().requires_grad_()
    single = _each_its_own(given, gain)
    (analytic,) = torch.autograd.grad(single[2][:, 0].sum(), gain)
    states, actions, returns = (x.detach() for x in single)
    reward_from_here = returns * GAMMA ** torch.arange(given.horizon)
    score = (actions - states @ given.gain.T) / STD**2  # d log p(a) / d (K s)
    reinforce = (score * reward_from_here[..., None]).transpose(1, 2) @ states
    for found in (analytic, reinforce):
        error = found.std(0) / len(found) ** 0.5
        assert ((found.mean(0) - exact).abs() < 4 * error).all()
    assert reinforce.var(0).sum() > 100 * analytic.var(0).sum()


def _each_its_own(given: Given, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As Given.dreamed with a gain for each rollout, (N, A, S), so that one pass back gives N gradients."""
    state, steps = given.start, []
    for w, e in zip(given.noise.unbind(1), given.dice.unbind(1), strict=True):
        action = (gain @ state[..., None])[..., 0] + STD * e
        after = given.world.transition(state, torch.zeros_like(state), action) + given.world.noise_std * w
        steps.append((state, action, given.world.reward(action, after)))
        state = after
    states, actions, reward = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
    return states, actions, lambda_return(reward, torch.zeros_like(reward), torch.full_like(reward, GAMMA), 1.0)


# The agent.

SMALL = replace(PENDULUM, embed=8, deter=8, hidden=8, latent=rssm.Gaussian(3), starts=16, horizon=5)


def batch(config: dreamer.DreamerConfig, seed: int = 0) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    shape, first = (4, 6), torch.zeros(4, 6, dtype=torch.bool)
    first[0, 3] = True
    ended = torch.zeros(4, 6, dtype=torch.bool)
    ended[0, 1] = True
    obs = torch.rand(*shape, *config.obs, generator=generator)
    if len(config.obs) == 3:
        obs = (255 * obs).to(torch.uint8)
    action = torch.rand(*shape, config.policy.size, generator=generator)
    return Sequences(obs, action, torch.randn(*shape, generator=generator), ended, first)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("config", [PENDULUM, PIXELS, CARTPOLE], ids=["pendulum", "pixels", "cartpole"])
@pytest.mark.parametrize("loss", [analytic_loss, reinforce_loss])
def test_an_update_moves_every_part(config: dreamer.DreamerConfig, loss) -> None:
    agent = Dreamer(replace(config, starts=16, through=True), actor_loss=loss)
    parts = agent.world.rssm, agent.world.reward, agent.world.decoder, agent.actor, agent.critic, agent.slow
    before = [weights(part) for part in parts]
    found = agent.learn(batch(config))
    assert all(torch.isfinite(x) for x in found.values())
    assert all((weights(part) != old).any() for part, old in zip(parts, before, strict=True))


def test_behavior_leaves_the_world_alone_and_it_can_learn_again() -> None:
    agent = Dreamer(SMALL)
    start, _ = agent.learn_world(batch(SMALL))
    world = weights(agent.world)
    agent.learn_behavior(start)
    assert torch.equal(weights(agent.world), world)
    agent.learn_world(batch(SMALL))
    assert not torch.equal(weights(agent.world), world)


def test_a_dream_is_what_its_parts_say() -> None:
    agent = Dreamer(SMALL)
    generator = torch.Generator().manual_seed(5)
    start = State(torch.randn(N, 8, generator=generator).tanh(), torch.randn(N, 3, generator=generator))
    agent.generator.manual_seed(3)
    dream = agent.dream(start)
    agent.generator.manual_seed(3)
    noise, dice = (kind.noise((N, SMALL.horizon), agent.generator) for kind in (SMALL.latent, SMALL.policy))
    turns = iter(dice.unbind(1))

    def choose(features: Tensor) -> Tensor:
        return SMALL.policy.draw(agent.actor(features), next(turns))

    states, action = rssm.imagine_ahead(agent.world.rssm, start, choose, noise)
    assert torch.allclose(dream.features, torch.cat([start.features()[:, None], states.features()[:, :-1]], 1))
    assert torch.allclose(dream.value[:, 1:], agent.slow(states.features()[:, :-1])[..., 0])
    assert torch.allclose(dream.log_prob, SMALL.policy.log_prob(agent.actor(dream.features), action), atol=1e-4)
    reward = agent.world.reward(states.features())[..., 0] * (1 - SMALL.gamma)
    discount = SMALL.gamma * agent.world.continuation(states.features())[..., 0].sigmoid()
    wanted = lambda_return(reward, agent.slow(states.features())[..., 0], discount, SMALL.decay)
    assert torch.allclose(dream.returns, wanted, atol=1e-6)


def test_the_actors_gradient_is_the_slope_of_the_dreamed_return() -> None:
    agent = Dreamer(replace(SMALL, bonus=0.0)).double()
    agent.scale.fill_(1.0)
    generator = torch.Generator().manual_seed(5)
    start = State(*(torch.randn(N, n, generator=generator, dtype=torch.float64) for n in (8, 3)))
    direction = torch.randn(len(weights(agent.actor)), generator=generator, dtype=torch.float64)
    agent.generator.manual_seed(3)
    slope = (actor_gradient(agent, start, analytic_loss) * direction).sum()
    here, ends = weights(agent.actor), []
    with torch.no_grad():
        # The weight of a state is detached: hold it still where the differences are taken, too.
        agent.generator.manual_seed(3)
        weight = agent.dream(start).weight
        for side in (1, -1):
            nn.utils.vector_to_parameters(here + side * 1e-6 * direction, agent.actor.parameters())
            agent.generator.manual_seed(3)
            ends.append(-(weight * agent.dream(start).returns).mean())
    assert torch.isclose((ends[0] - ends[1]) / 2e-6, slope, rtol=1e-5)


def test_what_is_handed_in_is_what_runs() -> None:
    called = []

    def spy(name, function):
        def run(*args):
            called.append(name)
            return function(*args)

        return run

    plain = Dreamer(SMALL, seed=1)
    handed: dict[str, Any] = {
        "lambda_return": lambda_return,
        "actor_loss": analytic_loss,
        "critic_loss": critic_loss,
        "dream_step": dreamer.dream_step,
        "observe_step": rssm.observe_step,
    }
    spied_on: dict[str, Any] = {name: spy(name, function) for name, function in handed.items()}
    spied = Dreamer(SMALL, seed=1, **spied_on)
    one, other = (agent.learn(batch(SMALL)) for agent in (plain, spied))
    assert set(called) == set(handed)
    assert all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-5) for name in one)
    assert torch.allclose(weights(plain.actor), weights(spied.actor), atol=1e-4)
    # Any right step will do, and one that gives plain tuples is right.
    bare = Dreamer(SMALL, dream_step=lambda *args: tuple(dreamer.dream_step(*args)))  # type: ignore[arg-type]
    assert all(torch.isfinite(x) for x in bare.learn(batch(SMALL)).values())


def test_at_play_it_remembers_and_watches_as_in_training() -> None:
    agent = Dreamer(SMALL)
    seen = batch(SMALL).obs[:, :3]
    memory, actions, states = None, [], []
    agent.generator.manual_seed(0)
    for t in range(3):
        action, memory = agent.act(seen[:, t], memory)
        actions.append(action)
        states.append(memory[0])
    agent.generator.manual_seed(0)
    noise = []
    for _ in range(3):
        noise.append(SMALL.latent.noise((4,), agent.generator))
        SMALL.policy.noise((4,), agent.generator)
    first = torch.zeros(4, 3, dtype=torch.bool)
    embed = agent.world.encoder(seen / agent.obs_scale)
    beliefs = agent.world.rssm.observe(embed, torch.stack(actions, 1), first, torch.stack(noise, 1))
    assert torch.allclose(torch.stack([s[0] for s in states], 1), beliefs.state.deter, atol=1e-6)
    again, _ = agent.act(seen[:, 0], None, greedy=True)
    assert ((again >= -1) & (again <= 1)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize("config", [PENDULUM, PIXELS, CARTPOLE], ids=["pendulum", "pixels", "cartpole"])
def test_it_learns_and_plays_on_a_gpu(config: dreamer.DreamerConfig) -> None:
    agent = Dreamer(replace(config, starts=16), device="cuda")
    found = agent.learn(batch(config))
    assert all(x.device.type == "cuda" and torch.isfinite(x) for x in found.values())
    action, memory = agent.act(batch(config).obs[:, 0])
    again, _ = agent.act(batch(config).obs[:, 1], memory)
    assert action.shape == again.shape == (4, config.policy.size)


def test_in_a_dream_the_analytic_gradient_varies_less_than_reinforce() -> None:
    agent = Dreamer(replace(SMALL, bonus=0.0))
    start, _ = agent.learn_world(batch(SMALL))
    spread = {}
    for loss in (analytic_loss, reinforce_loss):
        agent.generator.manual_seed(0)
        gradients = torch.stack([actor_gradient(agent, start, loss) for _ in range(30)])
        spread[loss.__name__] = gradients.var(0).sum() / gradients.mean(0).square().sum()
    assert spread["reinforce_loss"] > 10 * spread["analytic_loss"]
