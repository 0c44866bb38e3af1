"""Lesson 10's sweeps: MBPO beside SAC on Pendulum-v1, the ratio, one recorded episode, the horizon and what cures it.

    python solutions/runs/10_mbpo.py --list                             # the variants, GROUP/NAME
    python solutions/runs/10_mbpo.py --seeds 0 1 2 3 4                  # all of them, one after the other
    python solutions/runs/10_mbpo.py --only pendulum/MBPO --seeds 3 --out parts/a.json
    python solutions/runs/10_mbpo.py --merge parts                      # a folder of such files, into the lesson's

A run is one variant and one seed, on one thread; one that the file holds already is not made again. The file is
{group: {name: {seed: row}}}; a row holds `steps` (real ones, or updates where no more real steps come), `evaluation` (the
mean return of 20 episodes at each), `seconds` (of CPU, evaluations not counted) and `final`.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import wmcourse
from wmcourse.dyna import (
    FIXED,
    MBPO,
    ONLINE,
    MBPOConfig,
    branched_rollouts,
    imagination,
    promised_return,
)
from wmcourse.ensembles import fit_ensemble
from wmcourse.evaluation import EPISODES, SEED, evaluate
from wmcourse.replay import (
    Replay,
    Transitions,
    episode_transitions,
    random_policy,
    record_episodes,
)
from wmcourse.sac import SACConfig
from wmcourse.simulators import make_swingup
from wmcourse.worlds import make_pendulum

Row = dict[str, Any]
COS = {make_pendulum: 0, make_swingup: 2}  # where an observation holds the cosine of the angle
LENGTH = {make_pendulum: 200, make_swingup: 100}  # steps of an episode
OUT = Path(wmcourse.__file__).parent / "runs" / "10_mbpo.json"


class Clock:
    """A learning curve with the seconds that learning took."""

    def __init__(self) -> None:
        self.row: Row = {"steps": [], "evaluation": [], "seconds": []}
        self.spent, self.since = 0.0, time.process_time()

    def note(self, steps: int, agent: MBPO, make_env: Callable = make_pendulum) -> float:
        """Evaluate the agent now; the mean return of the 20 episodes."""
        self.spent += time.process_time() - self.since
        mean = float(evaluate(functools.partial(agent.policy.act, greedy=True), make_env).mean())
        now = {"steps": steps, "evaluation": round(mean, 2), "seconds": round(self.spent, 2)}
        for name, value in now.items():
            self.row[name].append(value)
        self.row["final"] = round(mean, 2)
        self.since = time.process_time()
        return mean


def online(seed: int, *, config: MBPOConfig, steps: int, every: int) -> Row:
    """Act and learn for `steps` real steps; evaluated after every `every`."""
    agent, clock = MBPO(make_pendulum, config, seed), Clock()
    for step in range(every, steps + 1, every):
        agent.run(step)
        if step > config.warmup:
            clock.note(step, agent)
    return clock.row


CLIPS = 4  # recordings, so many that some begin high and some low


def recorded(seed: int, steps: int) -> Transitions:
    """`steps` in four short recordings, from starts of their own, under random torques held for five steps each."""
    env = make_pendulum()
    episodes = record_episodes(env, random_policy(env, seed, hold=5), CLIPS, 1_000 * seed)
    clips = [
        Transitions(*(part[: steps // CLIPS] for part in episode_transitions(episode)))
        for episode in episodes
    ]
    return Transitions(*(torch.cat(column) for column in zip(*clips, strict=True)))


def pushed(seed: int, steps: int) -> Transitions:
    """The first `steps` of swing-ups under random forces, each held for five steps."""
    env, replay = make_swingup(), Replay()
    replay.add(
        *record_episodes(env, random_policy(env, seed, hold=5), -(-steps // 100), 1_000 * seed)
    )
    return Transitions(*(column[:steps] for column in replay.transitions()))


def without_actions(data: Transitions, **settings: Any):
    """An ensemble that cannot know what actions do: in what it is shown they are dealt out anew."""
    deal = torch.randperm(len(data.obs), generator=torch.Generator().manual_seed(0))
    return fit_ensemble(data._replace(action=data.action[deal]), **settings)


def ends_terminate(step, policy, starts, horizon: int) -> Transitions:
    """The mistake: where a branch stops the world is said to end. No branch stops early here, so these rows come last."""
    steps = branched_rollouts(step, policy, starts, horizon)
    return steps._replace(terminated=torch.arange(len(steps.obs)) >= len(steps.obs) - len(starts))


def fixed(
    seed: int,
    *,
    config: MBPOConfig,
    make_env: Callable = make_pendulum,
    record: Callable[[int, int], Transitions] = recorded,
    steps: int = 200,
    updates: int = 5_000,
    **parts: Any,
) -> Row:
    """Learn from `steps` recorded steps alone, for `updates` updates; evaluated after every 1,000."""
    agent, clock, data = MBPO(make_env, config, seed, **parts), Clock(), record(seed, steps)
    for update in range(1_000, updates + 1, 1_000):
        agent.study(data, 1_000 // config.updates)
        clock.note(update, agent, make_env)
    if agent.model is not None:
        starts = torch.stack(
            [torch.as_tensor(make_env().reset(seed=SEED + i)[0]) for i in range(EPISODES)]
        )
        plain = replace(config, penalty=0.0)  # a promise in the world's own rewards
        dream = imagination(
            agent.model, torch.Generator().manual_seed(seed), plain, agent.env.observation_space
        )
        policy = functools.partial(agent.policy.act, greedy=True)
        clock.row["promised"] = round(promised_return(dream, policy, starts, LENGTH[make_env]), 2)
    clock.row["highest"] = round(
        float(data.obs[:, COS[make_env]].max()), 3
    )  # cos of the angle nearest to the top
    return clock.row


def random_row(seed: int) -> Row:
    """What dice earn."""
    dice = torch.Generator().manual_seed(seed)
    returns = evaluate(lambda obs: 4 * torch.rand(len(obs), 1, generator=dice) - 2, make_pendulum)
    mean = round(float(returns.mean()), 2)
    return {"steps": [0], "evaluation": [mean], "seconds": [0.0], "final": mean}


def long(horizon: int, config: MBPOConfig = FIXED) -> MBPOConfig:
    """Branches of another length, as many imagined steps in all."""
    return replace(config, horizon=horizon, branches=FIXED.horizon * FIXED.branches // horizon)


SWING = replace(FIXED, sac=SACConfig(limit=10.0, discount=0.98, slowness=0.99))
swing = functools.partial(fixed, make_env=make_swingup, record=pushed, steps=300)
VARIANTS: dict[str, Callable[[int], Row]] = {
    "pendulum/random": random_row,
    "pendulum/MBPO": functools.partial(online, config=ONLINE, steps=600, every=50),
    "pendulum/SAC, 20 updates": functools.partial(
        online, config=replace(ONLINE, ratio=0), steps=600, every=50
    ),
    "pendulum/SAC": functools.partial(
        online, config=replace(ONLINE, ratio=0, updates=1), steps=7_000, every=250
    ),
    **{
        f"ratio/1:{ratio}": functools.partial(
            online, config=replace(ONLINE, ratio=ratio), steps=400, every=50
        )
        for ratio in (1, 5, 10)  # 1:0 and 1:20 stand in "pendulum"
    },
    "recorded/SAC": functools.partial(fixed, config=replace(FIXED, ratio=0)),
    "recorded/MBPO": functools.partial(fixed, config=FIXED),
    "recorded/MBPO, actions shuffled": functools.partial(fixed, config=FIXED, fit=without_actions),
    "recorded/MBPO, ends terminate": functools.partial(fixed, config=FIXED, branch=ends_terminate),
    **{
        f"horizon/{horizon}": functools.partial(fixed, config=long(horizon))
        for horizon in (1, 5, 15, 100)  # 50 stands in "recorded"
    },
    **{
        f"swing-up/{horizon}": functools.partial(swing, config=long(horizon, SWING))
        for horizon in (1, 5, 20, 50)
    },
    "swing-up/50, penalized": functools.partial(swing, config=replace(SWING, penalty=1.0)),
    "swing-up/50, penalized threefold": functools.partial(
        swing, config=replace(SWING, penalty=3.0)
    ),
    "swing-up/50, truncated": functools.partial(swing, config=replace(SWING, doubt=0.3)),
    "swing-up/SAC": functools.partial(swing, config=replace(SWING, ratio=0)),
}


def merge(found: dict, other: dict) -> None:
    """Take over what `found` lacks."""
    for group, variants in other.items():
        for name, seeds in variants.items():
            for seed, row in seeds.items():
                found.setdefault(group, {}).setdefault(name, {}).setdefault(seed, row)


def main() -> None:
    """See the file's head."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), metavar="GROUP/NAME")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--merge", type=Path, nargs="*", default=[], help="files, or folders of files, to take over"
    )
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        print("\n".join(VARIANTS))
        return
    torch.set_num_threads(1)
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    for path in args.merge:
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            merge(found, json.loads(file.read_text()))
    wanted = [] if args.merge else [(variant, seed) for seed in args.seeds for variant in args.only]
    for variant, seed in tqdm(wanted):
        group, name = variant.split("/")
        if str(seed) not in found.get(group, {}).get(name, {}):
            begin = time.process_time()
            row = VARIANTS[variant](seed)
            merge(found, {group: {name: {str(seed): row}}})
            tqdm.write(
                f"{variant}, seed {seed}: {row['evaluation']}, {time.process_time() - begin:.0f} s of CPU"
            )
            args.out.write_text(json.dumps(found))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
