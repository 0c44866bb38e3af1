"""Lesson 09's mathematics by truth: planners on problems whose best plan is known, particles that keep their member."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wmcourse import planning
from wmcourse.ensembles import EnsembleModel, fit_ensemble
from wmcourse.evaluation import evaluate
from wmcourse.nets import mlp
from wmcourse.one_step_dynamics import fit_one_step
from wmcourse.planners import MPC, Search, cem, cem_update, imagined_return, mpc_step, random_shooting, score_plans
from wmcourse.planning import (
    Believing,
    PETSConfig,
    by_mean,
    by_one_step,
    by_particles,
    by_rssm,
    carriers,
    limits_of,
    particle_step,
    pets,
    pets_policy,
    search_for,
)
from wmcourse.replay import Transitions
from wmcourse.rssm import Gaussian, RSSMConfig, WorldModel
from wmcourse.simulators import make_swingup, pendulum, swingup
from wmcourse.worlds import make_pendulum

SEARCH = Search(torch.tensor([-2.0]), torch.tensor([2.0]), horizon=6, candidates=200, iterations=6, elites=20)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cart(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """A cart without friction, (x, v): quadratic cost, so that the best plan is linear in the state."""
    x, v = state.unbind(-1)
    reward = -(x.square() + 0.1 * v.square() + 0.05 * action[..., 0].square())
    return torch.stack([x + 0.3 * v, v + 0.3 * action[..., 0]], -1), reward


def best_plan(state: Tensor, horizon: int) -> Tensor:
    """The best plan for the cart, by the normal equations: (B, 2) to (B, H, 1)."""
    plan = torch.zeros(len(state), horizon, 1, dtype=torch.float64)

    def total(flat: Tensor) -> Tensor:
        return imagined_return(cart, state.double(), flat.view_as(plan)).sum()

    hessian = torch.autograd.functional.hessian(total, plan.flatten())
    slope = torch.autograd.functional.jacobian(total, plan.flatten())
    return -torch.linalg.solve(hessian, slope).view_as(plan).float()  # type: ignore[operator]


def test_cem_finds_the_best_plan_of_a_quadratic_world() -> None:
    state = torch.tensor([[0.6, 0.0], [-0.5, 0.5], [0.0, 0.3]])
    warm = torch.zeros(3, 6, 1)
    plan = cem(lambda plans: score_plans(cart, state, plans), warm, SEARCH, dice())
    wanted = best_plan(state, 6)
    assert wanted.abs().max() < 2.0
    best = imagined_return(cart, state, wanted)
    assert (best - imagined_return(cart, state, plan) < 0.02).all()
    assert (plan - wanted).abs().max() < 0.35


def test_cem_beats_random_shooting_at_equal_model_calls() -> None:
    state = torch.randn(20, 2, generator=dice(1))
    warm = torch.zeros(20, 6, 1)
    came = {}
    for planner in (cem, random_shooting):
        plan = planner(lambda plans: score_plans(cart, state, plans), warm, SEARCH, dice())
        assert plan.shape == warm.shape
        assert plan.abs().max() <= 2.0
        came[planner] = imagined_return(cart, state, plan).mean()
    assert came[cem] > came[random_shooting]


def test_plans_stay_within_bounds_that_are_not_symmetric() -> None:
    search = Search(torch.tensor([0.0, -3.0]), torch.tensor([1.0, 5.0]), horizon=4, candidates=300)
    middle = torch.tensor([0.5, 1.0]).expand(2, 4, 2)
    seen: list[Tensor] = []

    def score(plans: Tensor) -> Tensor:
        seen.append(plans)
        return plans.sum((-2, -1))  # the upper corner is best

    for planner in (cem, random_shooting):
        plan = planner(score, middle, search, dice())
        assert (plan.mean(1) > torch.tensor([0.5, 3.0])).all()
    for plans in seen:
        assert (plans >= search.low - 1e-6).all()
        assert (plans <= search.high + 1e-6).all()
    assert (seen[0].std((0, 1, 2)) / (search.high - search.low)).min() > 0.2


def test_scores_belong_to_their_start_and_plan() -> None:
    state, plans = torch.randn(3, 2, generator=dice()), torch.randn(3, 5, 4, 1, generator=dice(1))
    came = score_plans(cart, state, plans)
    for b in range(3):
        for n in range(5):
            alone = imagined_return(cart, state[b : b + 1], plans[b : b + 1, n])
            assert torch.allclose(came[b, n], alone[0], atol=1e-5)


def test_a_models_nan_is_the_worst_plan_and_not_the_best() -> None:
    def broken(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        reward = torch.where(action[:, 0] > 1.5, torch.nan, action[:, 0])
        return state, torch.where(action[:, 0] < -1.5, torch.inf, reward)

    plans = torch.tensor([1.9, 1.0, -1.9]).view(1, 3, 1, 1)
    assert score_plans(broken, torch.zeros(1, 2), plans).argmax() == 1


def test_mpc_plans_anew_and_corrects_what_an_open_loop_does_not() -> None:
    """In a world that is pushed aside after the first step, replanning earns more than going on with the old plan."""
    search = Search(torch.tensor([-2.0]), torch.tensor([2.0]), horizon=10, candidates=100, iterations=5, elites=10)
    start = torch.tensor([[1.0, 0.0]])
    open_loop = cem(lambda p: score_plans(cart, start, p), torch.zeros(1, 10, 1), search, dice())
    earned = []
    for policy in (MPC(cart, search, dice()), None):
        state, total = start, 0.0
        for t in range(10):
            state, reward = cart(state, policy(state) if policy else open_loop[:, t])
            total += reward.item()
            if t == 0:
                state = state - torch.tensor([[2.0, 0.0]])
        earned.append(total)
    assert earned[0] > earned[1] + 1.0


def test_mpc_starts_in_the_middle_and_hands_its_plan_on() -> None:
    warm_starts: list[Tensor] = []

    def step(better: Any, state: Tensor, warm: Tensor) -> tuple[Tensor, Tensor]:
        warm_starts.append(warm)
        return mpc_step(better, state, warm)

    policy = MPC(cart, SEARCH, dice(), step=step)
    for _ in range(3):
        assert policy(torch.zeros(4, 2)).shape == (4, 1)
    assert torch.equal(warm_starts[0], torch.zeros(4, 6, 1))
    assert not torch.equal(warm_starts[1], warm_starts[2])


@pytest.mark.parametrize("infinite", [True, False])
def test_with_ts_infinity_a_particle_never_changes_its_member_and_with_ts1_it_does(infinite: bool) -> None:
    """Members that write their number into the state: how many different ones has a particle met after 6 steps?"""
    model = toy_ensemble()
    seen: list[Tensor] = []

    def move(predict: Any, obs: Tensor, action: Tensor, carrier: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(carrier)
        return particle_step(predict, obs, action, carrier, noise)

    imagined = by_particles(model, *WIDE, dice(), infinite, move=move)
    state = torch.zeros(40, 2)
    for _ in range(6):
        state, _ = imagined(state, torch.zeros(40, 1))
    met = torch.tensor([len(set(column)) for column in torch.stack(seen, 1).tolist()])
    assert (met == 1).all() if infinite else met.float().mean() > 2.5
    assert all(torch.equal(c.bincount(minlength=4), torch.full((4,), 10)) for c in seen)


WIDE = torch.full((2,), -1e6), torch.full((2,), 1e6)


def toy_ensemble(members: int = 4) -> EnsembleModel:
    """Members that differ, untrained, on a world of two numbers and one action."""
    torch.manual_seed(0)
    obs, action = torch.randn(50, 2, generator=dice()), torch.randn(50, 1, generator=dice(1))
    after, reward = cart(obs, action)
    return EnsembleModel(Transitions(obs, action, reward, after, torch.zeros(50, dtype=torch.bool)), members, (16,))


@torch.no_grad()
def test_particles_have_the_members_moments() -> None:
    model, count = toy_ensemble(), 4000
    obs, action = torch.tensor([[0.3, -0.2]]), torch.tensor([[0.5]])
    said = model.predict(obs, action)
    rows = obs.expand(4 * count, -1), action.expand(4 * count, -1)
    after, reward = particle_step(
        model.predict, *rows, carriers(torch.zeros(count, 4), True), torch.randn(4 * count, 2, generator=dice())
    )
    after = after.view(count, 4, 2)
    assert torch.allclose(after.mean(0), said.mean[:, 0], atol=0.15 * said.std.max().item())
    assert torch.allclose(after.std(0), said.std[:, 0], rtol=0.1)
    assert torch.allclose(reward.view(count, 4)[0], said.reward[:, 0], atol=1e-5)


@torch.no_grad()
def test_the_penalized_model_is_the_trusting_one_less_the_price_of_doubt() -> None:
    model = toy_ensemble()
    obs, action = torch.randn(7, 2, generator=dice()), torch.randn(7, 1, generator=dice(1))
    after, trusting = by_mean(model, *WIDE)(obs, action)
    again, careful = by_mean(model, *WIDE, 0.5)(obs, action)
    assert torch.equal(after, again)
    spread = (model.predict(obs, action).mean / model.target_std[:-1]).numpy()
    assert np.allclose(trusting - careful, 0.5 * np.sqrt(spread.var(0).mean(-1)), atol=1e-5)
    for parameter in model.net.parameters():
        parameter.copy_(parameter[:1].expand_as(parameter))  # all members say the same: no doubt is left
    same = by_mean(model, *WIDE, 100.0)(obs, action)[1] - by_mean(model, *WIDE)(obs, action)[1]
    assert same.abs().max() < 1e-3


def test_one_planner_runs_on_every_kind_of_model() -> None:
    env = make_pendulum()
    search, limits = search_for(env, horizon=4, candidates=8), limits_of(env)
    obs, torque = torch.randn(20, 3, generator=dice()), torch.randn(20, 1, generator=dice(1))
    after, reward = pendulum(obs, torque)
    data = Transitions(obs, torque, reward, after, torch.zeros(20, dtype=torch.bool))
    ensemble = fit_ensemble(data, seed=0, steps=2, hidden=(8,), members=3)
    torch.manual_seed(0)
    world = WorldModel(RSSMConfig(1, 3, 8, 8, Gaussian(2)), nn.Identity(), mlp(10, 3))
    models: list[tuple[Any, int]] = [
        (pendulum, 1),
        (by_one_step(fit_one_step(data, seed=0, steps=2), *limits), 1),
        (by_mean(ensemble, *limits, 0.5), 1),
        (by_particles(ensemble, *limits, dice()), 6),
    ]
    policies: list[Any] = [MPC(model, search, dice(), particles) for model, particles in models]
    policies.append(Believing(world, MPC(by_rssm(world, dice()), search, dice(), 2), dice()))
    for policy in policies:
        for _ in range(2):
            action = policy(obs[:2])
            assert action.shape == (2, 1)
            assert action.abs().max() <= 2.0


def test_a_belief_takes_in_every_observation_and_the_action_that_led_to_it() -> None:
    torch.manual_seed(0)
    world = WorldModel(RSSMConfig(1, 3, 8, 8, Gaussian(2)), nn.Identity(), mlp(10, 3))
    believed: list[Any] = []

    def policy(state: Any) -> Tensor:
        believed.append(state)
        return torch.full((1, 1), float(len(believed)))

    obs, believing = torch.randn(1, 4, 3, generator=dice()), Believing(world, policy, dice(3))
    for t in range(4):
        believing(obs[:, t])
    actions, first = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]), torch.zeros(1, 4, dtype=torch.bool)
    generator = dice(3)
    noise = torch.cat([world.rssm.latent.noise((1,), generator)[None] for _ in range(4)], 1)
    wanted = world.rssm.observe(obs, actions, first, noise).state
    assert torch.allclose(torch.stack([s.deter for s in believed], 1), wanted.deter, atol=1e-5)
    assert torch.allclose(torch.stack([s.stoch for s in believed], 1), wanted.stoch, atol=1e-5)


def test_planning_in_the_true_simulator_swings_up() -> None:
    """The ceiling of the lesson's tables, on two starts each."""
    for make, simulator, sizes, wanted in (
        (make_pendulum, pendulum, {"horizon": 15, "candidates": 30}, -300.0),
        (make_swingup, swingup, {"horizon": 25, "candidates": 40}, 55.0),
    ):
        policy = MPC(simulator, search_for(make(), **sizes), dice())
        assert evaluate(policy, make, episodes=2).min() > wanted


def test_the_agents_life_repeats_and_has_its_steps() -> None:
    config = PETSConfig(members=2, hidden=(16,), particles=2, updates=20)
    env = make_swingup()
    search = search_for(env, horizon=3, candidates=6, elites=2, iterations=1)
    lives = [list(pets(env, config, search, episodes=3, seed=4)) for _ in range(2)]
    assert [p.steps for p in lives[0]] == [100, 200, 300]
    for one, again in zip(*lives, strict=True):
        assert torch.equal(one.episode.obs, again.episode.obs)
    assert not torch.equal(lives[0][1].episode.action, lives[0][2].episode.action)
    policy = pets_policy(lives[0][-1].model, env, config, search, seed=0)
    assert policy(lives[0][0].episode.obs[:5]).shape == (5, 1)


def test_the_lessons_formulas_are_there_by_name() -> None:
    from wmcourse.exercises import catalogue

    names = {exercise.id for exercise in catalogue() if exercise.lesson == "09_planning"}
    own = {planning.carriers, planning.particle_step, planning.penalized_step, imagined_return, cem_update, mpc_step}
    assert names == {function.__name__ for function in own}
