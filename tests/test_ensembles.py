"""Lesson 08's mathematics by truth: a known mixture, a known noise, a gap, members that never meet."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from wmcourse import ensembles as en
from wmcourse.exploration import best_sequence, cells_seen, explore, held_actions, on_the_circle
from wmcourse.replay import Transitions
from wmcourse.worlds import angle_of, gust_std, make_rusty_pendulum


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_std(x: Tensor) -> Tensor:
    return 0.05 + 0.2 * torch.sigmoid(2 * x)


def recordings(count: int, seed: int, low: float = 1.0) -> Transitions:
    """s' = s + sin(2 s) + 0.3 a + noise, s in [-3, 3] where |s| > low, and a noisy reward."""
    g = seeded(seed)
    obs = torch.rand(4 * count, 1, generator=g) * 6 - 3
    obs = obs[(obs.abs() > low)[:, 0]][:count]
    action = 2 * torch.rand(count, 1, generator=g) - 1
    after = obs + torch.sin(2 * obs) + 0.3 * action + noise_std(obs) * torch.randn(count, 1, generator=g)
    reward = obs[:, 0] + 0.2 * torch.randn(count, generator=g)
    return Transitions(obs, action, reward, after, torch.zeros(count, dtype=torch.bool))


@pytest.fixture(scope="module")
def model() -> en.EnsembleModel:
    data = recordings(1500, 0)
    return en.fit_ensemble(data, seed=0, hidden=(64, 64), steps=800, batch=128, learning_rate=1e-2, gain=3**0.5)


@torch.no_grad()
def test_known_noise_the_gap_and_the_intervals(model: en.EnsembleModel) -> None:
    where = torch.linspace(-2.9, 2.9, 117)[:, None]
    inside, gap = (where.abs() > 1.1)[:, 0], (where.abs() < 0.6)[:, 0]
    said = model.predict(where, torch.zeros_like(where))
    epistemic, aleatoric = en.split_variance(said.mean, said.std**2)
    assert (aleatoric.sqrt() / noise_std(where) - 1)[inside].abs().mean() < 0.1
    share = epistemic / (epistemic + aleatoric)
    assert share[gap].mean() > 10 * share[inside].mean()
    fresh = recordings(2000, 1)
    said = model.predict(fresh.obs, fresh.action)
    assert 0.85 < en.coverage(fresh.next_obs, said.mean, said.std, 0.9) < 0.95
    assert (said.reward.mean(0) - fresh.obs[:, 0]).abs().mean() < 0.1


def test_training_on_goes_on_in_place_and_keeps_the_scales(model: en.EnsembleModel) -> None:
    before, scale = [p.clone() for p in model.net.parameters()], model.target_std.clone()
    copy = en.EnsembleModel(recordings(50, 0), 5, (64, 64))
    copy.load_state_dict(model.state_dict())
    again = en.fit_ensemble(recordings(300, 3), seed=1, steps=2, batch=16, model=copy)
    assert again is copy
    assert torch.equal(copy.target_std, scale)
    assert any(not torch.equal(a, b) for a, b in zip(before, copy.net.parameters(), strict=True))


def test_the_seed_decides() -> None:
    data = recordings(100, 0)
    state = torch.get_rng_state()
    first, again, other = (en.fit_ensemble(data, seed=s, hidden=(8,), steps=3, batch=16) for s in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.net.weights[0], other.net.weights[0])


def test_a_stacked_member_learns_as_if_alone() -> None:
    torch.manual_seed(0)
    stack, alone = en.Ensemble(3, 2, 1, (16,)), en.Ensemble(1, 2, 1, (16,))
    with torch.no_grad():
        for mine, theirs in zip(alone.parameters(), stack.parameters(), strict=True):
            mine.copy_(theirs[1:2])
    x, y = torch.randn(3, 32, 2), torch.randn(3, 32, 1)
    for net, part in ((stack, slice(None)), (alone, slice(1, 2))):
        adam = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(20):
            adam.zero_grad()
            net.loss(x[part], y[part]).backward()
            adam.step()
    for mine, theirs in zip(alone.parameters(), stack.parameters(), strict=True):
        assert torch.allclose(mine[0], theirs[1], atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 60, 1_023, 2**20 + 1, 3_999_999])
def test_the_largest_share_below_1_is_the_last_row_and_is_not_rounded_behind_it(count: int) -> None:
    share = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))  # in float32, the largest that torch.rand draws
    rows = en.bootstrap_rows(share.expand(1, count))
    assert rows.unique().tolist() == [count - 1]


def test_each_member_has_its_own_bootstrap_and_start() -> None:
    rows = en.bootstrap_rows(torch.rand(4, 2000, generator=seeded(0)))
    assert all(abs(len(torch.unique(r)) / 2000 - (1 - math.exp(-1))) < 0.03 for r in rows)
    assert not torch.equal(rows[0], rows[1])
    seen = []
    data = recordings(60, 0)

    def spy(uniform: Tensor) -> Tensor:
        seen.append(uniform)
        return en.bootstrap_rows(uniform)

    model = en.fit_ensemble(data, seed=0, members=3, hidden=(8,), steps=1, batch=8, bootstrap=spy)
    assert seen[0].shape == (3, 60)
    assert not torch.equal(seen[0][0], seen[0][1])
    assert not torch.equal(model.net.weights[0][0], model.net.weights[0][1])


def test_a_member_learns_only_from_its_own_rows() -> None:
    data = recordings(40, 0)
    broken = data._replace(next_obs=torch.where(torch.arange(40)[:, None] < 20, data.next_obs, torch.nan))
    model = en.EnsembleModel(data, 2, (8,))
    halves = torch.stack([torch.arange(20).repeat(2), torch.arange(20, 40).repeat(2)])
    en.fit_ensemble(broken, seed=0, steps=2, batch=8, model=model, bootstrap=lambda _: halves)
    assert model.net.weights[0][0].isfinite().all()
    assert model.net.weights[0][1].isnan().any()


def test_the_parts_add_up_to_the_mixtures_variance() -> None:
    mean, std = torch.randn(5, 3, generator=seeded(0)), torch.rand(5, 3, generator=seeded(1)) + 0.1
    epistemic, aleatoric = en.split_variance(mean, std**2)
    for k in range(3):
        mixture = MixtureSameFamily(Categorical(torch.ones(5)), Normal(mean[:, k], std[:, k]))
        assert torch.allclose(epistemic[k] + aleatoric[k], mixture.variance, atol=1e-6)


def test_coverage_is_the_mixtures_own() -> None:
    mean, std = torch.tensor([-3.0, 0.0, 4.0]), torch.tensor([0.5, 1.0, 0.2])
    mixture = MixtureSameFamily(Categorical(torch.ones(3)), Normal(mean, std))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = mixture.sample((50_000, 1))
    for level in (0.1, 0.5, 0.9):
        share = en.coverage(y, mean[:, None, None], std[:, None, None], level)
        assert abs(share - level) < 0.01
    wide = en.coverage(y, mean[:, None, None], 3 * std[:, None, None], 0.9)
    assert wide > 0.93


def test_the_log_variance_is_bounded_and_moves() -> None:
    low, high = torch.tensor([-10.0]), torch.tensor([1.0])
    raw = torch.linspace(-50, 50, 101)[:, None].requires_grad_()
    bounded = en.bounded_log_var(raw, low, high)
    assert bounded.amin() >= -10
    assert bounded.amax() <= 1 + 1e-4
    assert (bounded.diff(dim=0) >= 0).all()
    assert torch.autograd.grad(bounded.sum(), raw)[0][40:60].min() > 0


def test_disagreement_is_a_distance_in_units_of_the_scale() -> None:
    mean = torch.tensor([[[0.0, 0.0]], [[2.0, 20.0]]])  # two members, one future
    scale = torch.tensor([1.0, 10.0])
    assert torch.allclose(en.disagreement(mean, scale), torch.tensor([1.0]))
    reward = torch.tensor([[1.0], [3.0]])
    assert torch.allclose(en.penalized_reward(reward, mean, scale, 0.5), torch.tensor([1.5]))
    assert torch.allclose(en.penalized_reward(reward, mean, scale, -0.5), torch.tensor([2.5]))


def test_members_may_each_have_their_own_states(model: en.EnsembleModel) -> None:
    obs, action = torch.randn(7, 1), torch.rand(7, 1)
    shared = model.predict(obs, action)
    own = model.predict(obs.expand(5, 7, 1), action.expand(5, 7, 1))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(shared, own, strict=True))
    assert shared.mean.shape == (5, 7, 1)
    assert shared.reward.shape == (5, 7)


def test_many_rows_go_in_pieces_and_come_back_whole() -> None:
    torch.manual_seed(0)
    net, x = en.Ensemble(3, 2, 1, (16,)), torch.randn(700, 2)
    with torch.no_grad():
        pieces = net(x)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(pieces, net(x), strict=True))


def test_a_column_that_never_changes_is_no_trouble() -> None:
    data = recordings(80, 0)
    data = data._replace(reward=torch.ones(80), action=torch.zeros(80, 1))
    said = en.fit_ensemble(data, seed=0, hidden=(8,), steps=5, batch=16).predict(data.obs, data.action)
    assert all(part.isfinite().all() for part in said)


def test_the_rusty_pendulum_is_kicked_as_strongly_as_it_says() -> None:
    env, kicks = make_rusty_pendulum(), []
    obs, _ = env.reset(seed=0)
    assert obs.tolist() == [-1.0, 0.0, 0.0]
    for _ in range(3000):
        env.unwrapped.state = torch.tensor([2.0, 1.0]).numpy()  # type: ignore[attr-defined]
        after, *_ = env.step(torch.tensor([0.5]).numpy())
        kicks.append(float(after[2]) - 0.975 - 0.05 * (15 * math.sin(2.0) + 3 * 0.5))
    std = torch.tensor(kicks).std()
    assert abs(std / gust_std(torch.tensor(2.0)) - 1) < 0.05
    assert abs(torch.tensor(kicks).mean()) < 0.01


def test_the_best_sequence_is_the_best() -> None:
    actions = held_actions(50, horizon=6, hold=4, reach=2.0, generator=seeded(0))
    assert actions.shape == (50, 6, 1)
    assert actions.abs().max() <= 2
    assert torch.equal(actions[:, 0], actions[:, 3])
    assert not torch.equal(actions[:, 3], actions[:, 4])
    best = best_sequence(lambda s, a: (s + a, -(s + a - 3).abs()[:, 0]), torch.zeros(1), actions)
    reached = actions.cumsum(1)[..., 0]
    assert torch.equal(best, actions[(-(reached - 3).abs()).sum(1).argmax()])


def test_a_life_follows_its_seed_and_its_model() -> None:
    asked = []

    def learn(data: Transitions, seed: int) -> int:
        asked.append((len(data.obs), seed))
        return len(data.obs)

    def right(_: int):
        return lambda obs, action: (obs, action[:, 0])  # the more torque the better

    lives = [explore(make_rusty_pendulum(), learn, right, steps=50, seed=3, refit=20, candidates=64) for _ in range(2)]
    assert torch.equal(lives[0].obs, lives[1].obs)
    assert asked[:2] == [(20, 23), (40, 43)]
    assert lives[0].action[20:].mean() > 1 > lives[0].action[:20].mean()
    assert torch.equal(lives[0].obs[1:], lives[0].next_obs[:-1])
    counts = cells_seen(lives[0].next_obs)
    assert (counts.diff() >= 0).all()
    assert counts[-1] == len(
        {
            (int((a / (2 * math.pi) + 0.5) * 20), int((v / 16 + 0.5) * 20))
            for a, v in zip(angle_of(lives[0].next_obs).tolist(), lives[0].next_obs[:, 2].tolist(), strict=True)
        }
    )


def test_imagined_states_are_brought_back_to_the_circle() -> None:
    back = on_the_circle(torch.tensor([[3.0, 4.0, 9.0], [0.6, 0.8, -2.0]]))
    assert torch.allclose(back, torch.tensor([[0.6, 0.8, 8.0], [0.6, 0.8, -2.0]]))
