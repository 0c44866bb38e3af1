"""Dyna: branches against the exact pendulum, who ends what, and an agent that takes each of its six steps."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wmcourse import dyna
from wmcourse.dyna import FIXED, MBPO, ONLINE, Imagined, branched_rollouts, imagination, mix, promised_return
from wmcourse.ensembles import disagreement, fit_ensemble
from wmcourse.replay import Memory, Transitions, episode_transitions, random_policy, record_episode
from wmcourse.simulators import pendulum
from wmcourse.worlds import make_pendulum

SPACE = make_pendulum().observation_space
SMALL = replace(ONLINE, warmup=30, updates=2, every=10, model_steps=5, horizon=3, branches=8, hidden=(16,), members=3)


def exact(obs: Tensor, action: Tensor) -> Imagined:
    """The pendulum itself as a model."""
    next_obs, reward = pendulum(obs, action)
    never = torch.zeros(len(obs), dtype=torch.bool)
    return Imagined(next_obs, reward, never, never)


def brake(obs: Tensor) -> Tensor:
    return (-obs[:, 2:]).clamp(-2, 2)


@functools.cache
def recorded() -> Transitions:
    env = make_pendulum()
    return episode_transitions(record_episode(env, random_policy(env, 0), 0))


@functools.cache
def ensemble():
    return fit_ensemble(recorded(), seed=0, members=3, hidden=(32, 32), steps=300, batch=64)


def test_branches_under_the_exact_model_are_the_world() -> None:
    rows = branched_rollouts(exact, brake, recorded().obs[:5], 4)
    assert rows.obs.shape == (20, 3)
    env = make_pendulum()
    env.reset(seed=0)
    for i in range(5):
        cos, sin, velocity = recorded().obs[i].double().tolist()
        env.unwrapped.state = torch.tensor([torch.atan2(torch.tensor(sin), torch.tensor(cos)), velocity]).numpy()  # type: ignore[attr-defined]
        for t in range(4):
            obs, reward, *_ = env.unwrapped.step(rows.action[5 * t + i].numpy())
            torch.testing.assert_close(rows.next_obs[5 * t + i], torch.as_tensor(obs), rtol=1e-3, atol=1e-3)
            assert float(rows.reward[5 * t + i]) == pytest.approx(float(reward), abs=1e-2)


def test_terminated_and_truncated_end_a_branch_and_only_one_ends_the_world() -> None:
    def step(obs: Tensor, action: Tensor) -> Imagined:
        return Imagined(obs + 1, action[:, 0], obs[:, 0] == 1, obs[:, 0] == 11)

    rows = branched_rollouts(step, lambda obs: obs[:, :1], torch.tensor([[0.0], [10.0], [20.0]]), 4)
    assert rows.obs[:, 0].tolist() == [0, 10, 20, 1, 11, 21, 22, 23]
    assert rows.obs[rows.terminated, 0].tolist() == [1]


def test_mixed_batches_hold_the_share_that_was_asked_for() -> None:
    real, other = recorded(), recorded()._replace(reward=torch.ones(200))
    uniform = torch.rand(126, generator=torch.Generator().manual_seed(0))
    for ratio in (0, 1, 5, 20):
        batch = mix(real, other, ratio, uniform)
        assert len(batch.obs) == 126
        assert int((batch.reward < 0.5).sum()) == round(126 / (1 + ratio))


def test_the_ensemble_as_a_model_says_what_a_member_says() -> None:
    model, obs, action = ensemble(), recorded().obs[:64], recorded().action[:64]
    came = imagination(model, torch.Generator().manual_seed(0), FIXED, SPACE)(obs, action)
    said = model.predict(obs, action)
    near = ((came.next_obs - said.mean).abs() < 5 * said.std + 1e-6).all(-1).any(0)
    assert near.float().mean() > 0.95
    wild = imagination(model, torch.Generator().manual_seed(0), FIXED, SPACE)(100 * obs, action)
    assert wild.next_obs[:, :2].abs().max() <= 1
    assert (came.reward == said.reward).any(0).all()
    assert not came.terminated.any()
    assert not came.truncated.any()


def test_doubt_truncates_and_a_penalty_costs_where_the_members_disagree() -> None:
    model = ensemble()
    far = torch.tensor([[1.0, 0.0, 8.0]]).repeat(20, 1)
    obs, action = torch.cat([recorded().obs[:20], far]), torch.zeros(40, 1)
    apart = disagreement(model.predict(obs, action).mean, model.target_std[:-1])
    limit = float(apart.detach().median())
    plain, careful = (
        imagination(model, torch.Generator().manual_seed(0), replace(FIXED, penalty=p, doubt=limit), SPACE)(obs, action)
        for p in (0.0, 2.0)
    )
    assert torch.equal(plain.truncated, apart > limit)
    torch.testing.assert_close(plain.reward - careful.reward, 2 * apart)
    assert not plain.terminated.any()


def test_what_the_exact_model_promises_is_what_the_world_pays() -> None:
    from wmcourse.evaluation import evaluate

    starts = torch.stack([torch.as_tensor(make_pendulum().reset(seed=i)[0]) for i in range(4)])
    promised = promised_return(exact, brake, starts, 200)
    assert promised == pytest.approx(float(evaluate(brake, make_pendulum, episodes=4, seed=0).mean()), abs=5.0)


def test_memory_keeps_the_latest() -> None:
    memory = Memory(5)
    for i in range(4):
        memory.add(Transitions(*(x[2 * i : 2 * i + 2] for x in recorded())))
    assert memory.count == 8
    assert sorted(memory.all().reward.tolist()) == sorted(recorded().reward[3:8].tolist())


def test_the_agent_takes_each_step_as_often_as_it_should() -> None:
    agent, calls = MBPO(make_pendulum, SMALL, seed=0), Counter()

    def counted(name, method, *args):
        calls[name] += 1
        return method(*args)

    for name in ("act", "store", "train_model", "imagine", "train_policy"):
        setattr(agent, name, functools.partial(counted, name, getattr(agent, name)))
    agent.run(60)
    assert calls == {"act": 60, "store": 60, "train_model": 1 + 3, "imagine": 1 + 3, "train_policy": 30}
    assert agent.real.count == 60
    assert agent.synthetic.count == 4 * 8 * 3


def test_without_a_ratio_there_is_no_model() -> None:
    def never(*args, **kwargs):
        raise AssertionError("a model was trained")

    agent = MBPO(make_pendulum, replace(SMALL, ratio=0), seed=0, fit=never)
    agent.run(40)
    assert agent.synthetic.count == 0


def test_from_a_recording_nothing_real_is_added() -> None:
    agent = MBPO(make_pendulum, replace(FIXED, updates=2, model_steps=5, branches=4), seed=0)
    agent.study(recorded(), 3)
    agent.study(recorded(), 3)
    assert agent.real.count == 200
    assert agent.steps == 0


def test_one_seed_one_agent() -> None:
    actions = []
    for seed in (0, 0, 1):
        agent = MBPO(make_pendulum, SMALL, seed)
        agent.run(45)
        actions.append(agent.policy.act(recorded().obs, greedy=True))
    assert torch.equal(actions[0], actions[1])
    assert not torch.equal(actions[0], actions[2])


def test_the_formulas_that_are_handed_in_are_those_that_run() -> None:
    used = Counter()

    def noted(name, function):
        def call(*args):
            used[name] += 1
            return function(*args)

        return call

    parts = {"target": dyna.soft_target, "mixed": mix, "branch": branched_rollouts}
    agent = MBPO(make_pendulum, SMALL, 0, **{name: noted(name, f) for name, f in parts.items()})
    agent.run(40, noted("loop", dyna.dyna_loop))
    assert used["loop"] == 1
    assert used["target"] == used["mixed"] == 20
    assert used["branch"] == 2
