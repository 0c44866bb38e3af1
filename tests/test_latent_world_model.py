"""Lesson 05's mathematics by truth: densities, a bound that holds, masks, and a class whose dream is its own step."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from wmcourse import latent_world_model as lwm
from wmcourse.elbo import kl_to_standard_normal

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def test_the_reward_term_is_a_density_in_the_reward() -> None:
    z, action = normal(1, 2, 3), normal(1, 2, 2)
    grid = torch.linspace(-12, 12, 4001)
    values = lwm.reward_term(
        lambda z, a: z.sum(-1) * a.sum(-1),
        z.expand(4001, -1, -1),
        action.expand(4001, -1, -1),
        grid[:, None].expand(-1, 2),
        0.7,
    )
    mass = values[:, 0].exp().sum() * (grid[1] - grid[0])
    best = grid[values[:, 0].argmax()]
    assert abs(mass - 1) < 1e-3
    assert abs(best - z[0, 0].sum() * action[0, 0].sum()) < 0.01


def test_the_dynamics_term_of_an_exact_model_is_minus_the_entropy() -> None:
    std = torch.tensor([0.3, 1.5])
    z0, action = normal(60_000, 2), normal(60_000, 2, 1)
    mean = 0.8 * z0 + action[:, 0]
    z = torch.stack([z0, mean + std * normal(60_000, 2)], 1)
    value = lwm.dynamics_term(lambda z, a: (0.8 * z + a, (2 * std.log()).expand_as(z)), z, action)[:, 0]
    entropy = Normal(0.0, std).entropy().sum()
    assert abs(value.mean() + entropy) < 4 * value.std() / 60_000**0.5


def test_the_dynamics_term_is_largest_at_the_true_spread() -> None:
    z = torch.stack([torch.zeros(50_000, 1), 0.4 * normal(50_000, 1)], 1)
    action = torch.zeros(50_000, 2, 1)

    def mean_value(std: float) -> float:
        log_var = 2 * math.log(std)
        return (
            lwm.dynamics_term(lambda z, a: (torch.zeros_like(z), torch.full_like(z, log_var)), z, action).mean().item()
        )

    assert max([0.2, 0.3, 0.4, 0.5, 0.8], key=mean_value) == 0.4


def test_the_loss_of_a_batch_without_cuts_is_the_mean_of_its_windows() -> None:
    parts = normal(5, 4), normal(5, 4), normal(5, 3), normal(5, 3)
    none = torch.zeros(5, 4, dtype=torch.bool)
    whole = lwm.world_model_loss(*parts, first=none, beta=1.7)
    each = [lwm.world_model_loss(*(part[b : b + 1] for part in parts), first=none[:1], beta=1.7) for b in range(5)]
    assert torch.allclose(whole, torch.stack(each).mean(), atol=1e-5)


def test_the_gradient_of_a_step_that_never_happened_is_zero() -> None:
    parts = [normal(3, 4), normal(3, 4), normal(3, 3).requires_grad_(), normal(3, 3).requires_grad_()]
    first = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1]], dtype=torch.bool)
    lwm.world_model_loss(*parts, first=first, beta=1.0).backward()
    for part in parts[2:]:
        assert part.grad is not None
        assert torch.equal(part.grad != 0, ~first[:, 1:])
        assert torch.allclose(part.grad.sum(), torch.tensor(-1.0))


def linear_window() -> tuple[MultivariateNormal, float, torch.Tensor]:
    """p(s) of s_t = z_t + noise under the prior that the objective uses, made a density; log C; and a window s.

    z_1 ~ N(0, 1), z_2 ~ N(0, 1) N(0.9 z_1, 0.5²) / C: a Gaussian with the precision matrix below.
    """
    slope, spread, pixel = 0.9, 0.5, 0.3
    precision = torch.eye(2, dtype=torch.float64)
    precision += torch.tensor([[slope**2, -slope], [-slope, 1.0]], dtype=torch.float64) / spread**2
    prior = torch.linalg.inv(precision)
    log_c = 0.5 * torch.logdet(prior).item() - 0.5 * math.log(2 * math.pi) - math.log(spread)
    evidence = MultivariateNormal(torch.zeros(2, dtype=torch.float64), prior + pixel**2 * torch.eye(2))
    return evidence, log_c, torch.tensor([0.4, -0.7], dtype=torch.float64)


@pytest.mark.parametrize("seed", range(5))
def test_the_objective_is_a_bound_and_loose_by_the_constant(seed: int) -> None:
    evidence, log_c, s = linear_window()
    generator = torch.Generator().manual_seed(seed)
    mean = s + 0.3 * torch.randn(2, generator=generator, dtype=torch.float64)
    std = 0.05 + 0.4 * torch.rand(2, generator=generator, dtype=torch.float64)
    z = mean + std * torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    dynamics = lwm.dynamics_term(
        lambda z, a: (0.9 * z, torch.full_like(z, 2 * math.log(0.5))), z[..., None], torch.zeros(200_000, 2, 1)
    )
    objective = Normal(z, 0.3).log_prob(s).sum(-1) - kl_to_standard_normal(mean, std).sum() + dynamics[:, 0]
    assert log_c < -0.5 * math.log(2 * math.pi)
    assert objective.mean() < evidence.log_prob(s) + log_c  # so below the evidence, by at least half log 2 pi


def model(hidden: int = 24) -> lwm.WorldModel:
    torch.manual_seed(0)
    return lwm.WorldModel(12, 2, 4, hidden)


def test_a_dream_goes_on_where_it_was_left() -> None:
    dreamer, z, actions = model(), normal(5, 4), normal(5, 9, 2)
    latents, rewards = dreamer.imagine(z, actions, 9)
    early, first = dreamer.imagine(z, actions, 4)
    late, rest = dreamer.imagine(early[:, -1], actions[:, 4:], 5)
    assert torch.allclose(latents, torch.cat([early, late], 1), atol=1e-6)
    assert torch.allclose(rewards, torch.cat([first, rest], 1), atol=1e-6)


def test_the_dreams_gradient_agrees_with_finite_differences() -> None:
    dreamer = model().double()
    z, actions = normal(2, 4).double(), normal(2, 4, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: dreamer.imagine(z, a, 4)[1], actions)


def test_per_row_is_a_loop_over_time() -> None:
    dreamer, z, action = model(), normal(3, 5, 4), normal(3, 5, 2)
    mean, log_var = lwm.per_row(dreamer.step, z, action)
    for t in range(5):
        alone = dreamer.step(z[:, t], action[:, t])
        assert torch.allclose(mean[:, t], alone[0], atol=1e-6)
        assert torch.allclose(log_var[:, t], alone[1], atol=1e-6)


@pytest.fixture(scope="module")
def films() -> lwm.Films:
    return lwm.record_films(12, 10, seed=0)


def test_films_show_the_state_that_they_carry(films: lwm.Films) -> None:
    frame = films.frames[:, :, 0].float().clone()
    frame[..., :2, :] = 0
    side = torch.arange(16) - 7.5
    seen = torch.atan2(-(frame * side).sum((-1, -2)), -(frame * side[:, None]).sum((-1, -2)))
    true = torch.atan2(films.state[..., 1], films.state[..., 0])
    gap = seen - true
    assert torch.atan2(gap.sin(), gap.cos()).abs().median() < 0.02


def test_the_left_lamp_costs_and_the_right_one_does_not(films: lwm.Films) -> None:
    for lamp, column in ((0, slice(0, 2)), (1, slice(-2, None))):
        ink = films.frames[..., 0, :2, column].float().mean((2, 3))
        assert torch.equal(ink > 20, films.lamps[:, lamp, None].expand_as(ink))
    angle, velocity = torch.atan2(films.state[..., 1], films.state[..., 0])[:, :-1], films.state[:, :-1, 2]
    cost = torch.zeros_like(angle)
    for _ in range(lwm.REPEAT):  # the physics of Pendulum-v1
        turned = torch.atan2(angle.sin(), angle.cos())
        cost += (turned**2 + 0.1 * velocity**2 + 0.001 * films.action[..., 0] ** 2) / lwm.REPEAT
        velocity = (velocity + (15 * angle.sin() + 3 * films.action[..., 0]) * 0.05).clamp(-8, 8)
        angle = angle + velocity * 0.05
    assert torch.allclose(films.reward, -cost - lwm.FINE * films.lamps[:, :1].float(), atol=1e-2)


def test_a_replay_of_films_and_a_few_updates(films: lwm.Films) -> None:
    pairs = lwm.pairs_of_frames(films)
    assert pairs.shape == (12, 11, 512)
    assert torch.equal(pairs[:, 1:, :256], pairs[:, :-1, 256:])  # the frame before is the one before
    replay = lwm.film_replay(films, pairs)
    assert len(replay) == 120
    assert int(replay.stream().first.sum()) == 12
    one, two = (lwm.fit_world_model(replay, 4, seed=1, steps=3, hidden=16) for _ in range(2))
    z, actions = normal(2, 4), normal(2, 3, 1)
    assert torch.equal(one.imagine(z, actions, 3)[0], two.imagine(z, actions, 3)[0])


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    films = lwm.record_films(20, 12, seed=1)
    pairs = lwm.pairs_of_frames(films)
    replay = lwm.film_replay(films, (pairs - pairs.mean((0, 1))) / 0.15)

    def price(trained: lwm.WorldModel) -> float:
        generator = torch.Generator().manual_seed(3)
        batch = replay.sample_sequences(64, 4, generator)
        noise = torch.randn(64, 4, 4, generator=generator)
        return lwm.world_model_loss(*lwm.objective_terms(trained, batch, noise), batch.first, 1.0).item()

    before, after = (price(lwm.fit_world_model(replay, 4, seed=0, steps=n, hidden=32)) for n in (1, 60))
    assert after < before - 50
