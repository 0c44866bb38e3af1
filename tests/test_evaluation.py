"""The harness: the same starts for every policy, returns as an episode played by hand gives them."""

from __future__ import annotations

import torch

from wmcourse.evaluation import evaluate, steps_to_reach
from wmcourse.replay import record_episode
from wmcourse.worlds import make_cartpole, make_pendulum


def test_returns_are_those_of_episodes_played_one_by_one() -> None:
    returns = evaluate(lambda obs: -obs[:, 2:], make_pendulum, episodes=3, seed=5)
    env = make_pendulum()
    alone = [record_episode(env, lambda obs: -obs[2:].clip(-2, 2), seed=5 + i).reward.sum() for i in range(3)]
    torch.testing.assert_close(returns, torch.stack(alone), rtol=1e-4, atol=1e-3)


def test_an_episode_that_is_over_earns_no_more() -> None:
    def lean(obs: torch.Tensor) -> torch.Tensor:
        seen.append(obs)
        return (obs[:, 2] > 0).long()

    seen: list[torch.Tensor] = []
    returns = evaluate(lean, make_cartpole, episodes=4, seed=0)
    env = make_cartpole()
    alone = [record_episode(env, lambda obs: int(obs[2] > 0), seed=i).reward.sum() for i in range(4)]
    assert returns.tolist() == [float(reward) for reward in alone]
    assert len(set(returns.tolist())) > 1  # they end at different times
    assert all(len(obs) == 4 for obs in seen)
    assert len(seen) == max(returns)


def test_same_seed_same_returns_other_seed_others() -> None:
    def still(obs: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(obs), 1)

    first, again, other = (evaluate(still, make_pendulum, episodes=2, seed=seed) for seed in (0, 0, 9))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_steps_to_reach() -> None:
    assert steps_to_reach([200, 400, 600], [-900.0, -200.0, -950.0], goal=-200) == 400
    assert steps_to_reach([200, 400], [-900.0, -300.0], goal=-200) == float("inf")
