# %% [markdown]
# # 10 Dyna: one loop, from a table to networks
#
# **Claim.** Ten seconds of a pendulum under random torques, in four pieces, can be enough to learn to swing it up and hold
# it there, if you learn a model from them and practice in your imagination. The same learner with as many updates, but
# without a model, fails.
#
# Here are the ten seconds.

# %%
import functools
import json
from dataclasses import replace
from importlib.resources import files

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from wmcourse import plots
from wmcourse.dyna import FIXED, MBPO
from wmcourse.ensembles import fit_ensemble
from wmcourse.evaluation import evaluate, steps_to_reach
from wmcourse.exercises import check, hint
from wmcourse.mazes import (
    DYNA_MAZE,
    GAP_BOTH,
    GAP_LEFT,
    GAP_RIGHT,
    DynaQ,
    greedy_path,
    maze,
    shortest_path,
)
from wmcourse.replay import (
    Transitions,
    episode_transitions,
    random_policy,
    record_episode,
    record_episodes,
)
from wmcourse.worlds import make_pendulum

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

SEED = 2  # of the recording, and of the agents that learn from it
env = make_pendulum()
episodes = record_episodes(env, random_policy(env, SEED, hold=5), count=4, seed=1_000 * SEED)
clips = [Transitions(*(part[:50] for part in episode_transitions(e))) for e in episodes]
recorded = Transitions(*(torch.cat(column) for column in zip(*clips, strict=True)))

fig, axis = plots.figure(width=6.5, height=2.4)
for i, clip in enumerate(clips):
    time = 2.8 * i + 0.05 * torch.arange(50)
    axis.plot(time, clip.obs[:, 0], color=plots.METHODS["real"][0])
axis.axhline(1, color="gray", linestyle=":")
axis.set(xlabel="time, s (a gap between recordings)", ylabel="height of the tip", ylim=(-1.1, 1.2))
axis.set_title("All that will ever be seen of the world (dotted: upright)", fontsize=10)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
height, velocity = recorded.obs[:, 0], recorded.obs[:, 2]
print("real steps:", len(recorded.obs))
print(
    "share of them with the tip near the top (above 0.9), below a tenth:",
    bool((height > 0.9).float().mean() < 0.1),
)
print(
    "it is never there and slower than 1 radian a second:",
    not ((height > 0.9) & (velocity.abs() < 1)).any(),
)

# %% [markdown]
# A model of lesson 08 is in your hands, and a planner of lesson 09, which thinks anew at every step. Dyna is the other way
# to use a model: think ahead of time, and keep what you thought. What the model imagines becomes experience, and a policy
# learns from it as if it had happened.
#
# **What you will be able to do**
#
# - write the loop that all of model-based reinforcement learning shares, and run it on a table and on networks;
# - say exactly what an end is to a learner: `terminated` stops the sum of rewards, `truncated` and a horizon do not;
# - branch imagined rollouts off real states, and mix what they bring with what was real;
# - tell whether it is the model that helps, or only the updates;
# - see a policy exploit its model, and stop it.
#
# **Time:** about 90 minutes. **Before:** lessons 01, 08 and 09; Q-learning you need to have seen once.
#
# ## The idea
#
# Six steps (Sutton, 1991):
#
# 1. **act** in the world, and get $(s, a, r, s')$;
# 2. **store** it;
# 3. **train the model** on what is stored;
# 4. **imagine**: ask the model what would follow;
# 5. **train the policy** on what was real and on what was imagined, with one and the same update;
# 6. **repeat**.
#
# A real step is dear, an imagined one is nearly free. So usually there are ten or more imagined to one real.
#
# | symbol | variable | shape |
# |---|---|---|
# | $Q(s, a)$, a table for each of B learners side by side | `q` | (B, S, A) |
# | $s, a, r, s'$ of one step each | `state`, `action`, `reward`, `next_state` | (B,) |
# | has the world ended with this step | `terminated` | (B,), bool |
# | learning rate $\alpha$, discount $\gamma$ | `rate`, `discount` | numbers |
#
# ## The update
#
# Begin where everything can be checked: a maze, and a table. Q-learning moves the value of the pair you left towards what
# you got, plus what the next state promises:
#
# $$ Q(s, a) \leftarrow Q(s, a) + \alpha \big( r + \gamma \, [\text{not terminated}] \max_{a'} Q(s', a') - Q(s, a) \big) $$
#
# The bracket matters. Where the world ended nothing follows, and a value read there is a fairy tale.


# %% exercise="q_update"
def q_update(
    q: Tensor,
    state: Tensor,
    action: Tensor,
    reward: Tensor,
    next_state: Tensor,
    terminated: Tensor,
    rate: float,
    discount: float,
) -> Tensor:
    """One Q-learning update of B learners' tables, each at one transition.

    Args:
        q: (B, S, A); learner b's table is q[b].
        state, action, next_state: (B,) int64.
        reward: (B,).
        terminated: (B,) bool; where true, nothing follows.
        rate: share of the way towards the target, in [0, 1].
        discount: in [0, 1].

    Returns:
        New tables, (B, S, A), float32; q stays as it is.
    """
    ### BEGIN SOLUTION
    row = torch.arange(len(q))
    target = reward + discount * torch.where(terminated, 0.0, q[row, next_state].amax(-1))
    new = q.clone()
    new[row, state, action] += rate * (target - q[row, state, action])
    return new
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
q_update = check("q_update", q_update)

# %% [markdown]
# ## The loop
#
# Now the six steps. Five come to you as functions, and *repeat* is the loop itself. So it knows nothing of mazes or
# networks, and will drive both.
# With a table the model learns at every step; with networks only now and then, every `every` steps.


# %% exercise="dyna_loop"
def dyna_loop(act, store, train_model, imagine, train_policy, steps: int, every: int) -> None:
    """The six steps: act, store, train the model, imagine, train the policy, repeat.

    Args:
        act: takes one real step and gives what happened.
        store: keeps what act gave.
        train_model, imagine: called after every `every`-th real step has been stored, in this order.
        train_policy: called once after each real step, last.
        steps: how many real steps.
        every: at least 1.
    """
    ### BEGIN SOLUTION
    for step in range(1, steps + 1):
        store(act())
        if step % every == 0:
            train_model()
            imagine()
        train_policy()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
dyna_loop = check("dyna_loop", dyna_loop)

# %% [markdown]
# ## A maze whose answer is known
#
# This is the maze of Sutton and Barto's figure 8.2. Its exact values follow from its drawing, by value iteration, so you
# know the shortest way before anybody learns. `DynaQ` holds a table `q`, and as its model a second table: what followed
# when this move was last made here. Its methods are the steps; `imagine` draws pairs that were met before, evenly, and
# asks the model. `planning` is how many for each real step. Your update learns from both kinds.

# %%
world = maze(DYNA_MAZE)
EPISODES = 10


def lengths(rewards: Tensor, count: int) -> Tensor:
    """Steps of each learner's first `count` episodes, (B, count), from rewards (T, B): an episode ends with its 1."""
    ends = torch.stack([column.nonzero()[:count, 0] + 1 for column in rewards.T])
    return ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1])).float()


def wander(planning: int, learners: int = 10, kind=DynaQ) -> tuple[DynaQ, Tensor]:
    """Learners in the maze until each has been at the goal EPISODES times; their episodes' lengths, (B, EPISODES)."""
    agent = kind(world, learners, planning, seed=0, update=q_update)
    rewards = agent.run(500, dyna_loop)
    while rewards.sum(0).min() < EPISODES:
        rewards = agent.run(100, dyna_loop)
    return agent, lengths(rewards, EPISODES)


agents = {planning: wander(planning) for planning in (0, 5, 50)}

# %%
fig, axes = plots.figure(1, 2, width=4.4, height=3.0)
for (_, steps), name in zip(
    agents.values(), ("no planning", "5 planned", "50 planned"), strict=True
):
    plots.curve(axes[0], range(1, EPISODES + 1), steps.mean(0), name)
axes[0].axhline(shortest_path(world), color="gray", linestyle=":")
axes[0].set(xlabel="episode", ylabel="real steps to the goal, mean", yscale="log")
axes[0].legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.12))
paths = [greedy_path(world, q) for q in agents[50][0].q]
best = torch.tensor(min(paths, key=len))
axes[1].imshow(world.wall, cmap="gray_r", vmax=1.5)
axes[1].plot(best % 9, best // 9, color=plots.METHODS["50 planned"][0], linewidth=2)
for letter, cell in (("S", world.start), ("G", world.goal)):
    axes[1].text(cell % 9, cell // 9, letter, ha="center", va="center", weight="bold", fontsize=12)
axes[1].set(xticks=[], yticks=[])
axes[1].set_title("50 planned: the best of ten learners", fontsize=10)
axes[1].grid(False)
plt.show()
exact = shortest_path(world)
found = sum(len(path) - 1 == exact for path in paths)
print(f"learners of ten with 50 planned updates whose way takes {exact} moves: {found}")

# %%
# NBVAL_CHECK_OUTPUT
early = {
    planning: steps[:, 1:5].mean() for planning, (_, steps) in agents.items()
}  # episodes 2 to 5
print("shortest way by value iteration, moves:", exact)
print("some of the ten with 50 planned updates found one as short:", found > 0)
print(
    "episodes 2 to 5, no planning over 5 planned, more than 2 times:", bool(early[0] > 2 * early[5])
)
print(
    "episodes 2 to 5, 5 planned over 50 planned, more than 1.5 times:",
    bool(early[5] > 1.5 * early[50]),
)

# %% [markdown]
# The first episode is blind for all: no reward was seen, so there is nothing to spread. After it the plain learner knows
# one good move, the last one. Fifty imagined updates a step carry that knowledge back along the whole way before the
# second episode is half over. No real step was added: the maze gave the same, it was only thought about more.
#
# **Negative control.** Does it matter what the model says, or do more updates help whatever they are made of? Let the
# model remember a *random* cell as what followed. The updates are as many as before.


# %%
class Confused(DynaQ):
    """A model that remembers rewards and ends, and any cell at all as what followed."""

    def train_model(self) -> None:
        """Write a cell drawn by dice into the table."""
        super().train_model()
        dice = torch.randint(world.states, self.latest.action.shape, generator=self.generator)
        self.model[0][self.row, self.latest.obs, self.latest.action] = dice


confused = Confused(world, 10, 5, seed=0, update=q_update)
honest = DynaQ(world, 10, 5, seed=0, update=q_update)
rewards = {
    "honest": honest.run(3_000, dyna_loop),
    "confused": confused.run(3_000, dyna_loop),
    "no planning": torch.stack(agents[0][0].rewards)[:3_000],
}
goals = {name: int(reward.sum()) for name, reward in rewards.items()}
print("times at the goal in 3,000 steps, ten learners together:", goals)

# %%
# NBVAL_CHECK_OUTPUT
print("an honest table is worth more than 3 times a confused one:", end=" ")
print(goals["honest"] > 3 * goals["confused"])
print("a confused one is worse than none:", goals["confused"] < goals["no planning"])

# %% [markdown]
# So a wrong model is worse than none. What this does not show is that a *model* was needed. A table that repeats what
# happened last is nearly a replay buffer, from which each transition is learned again and again. How far that carries is
# the question of van Hasselt and others, below, and of this lesson, once there are networks.

# %% [markdown]
# ## When the world changes
#
# A model can also be wrong because the world moved on. In the next maze a wall has its gap on the right. After 1,000 steps
# that gap closes and another opens on the left. Then the other way round: a gap on the left, and after 2,000 steps a
# second, better one opens on the right. A closed way is noticed: you bump into it. A new way is never noticed by one who
# is content with the old.
#
# **Dyna-Q+** is curious. Each imagined reward gets a bonus for the time $\tau$ since the move was last tried for real:
#
# $$ r + \kappa \sqrt{\tau} $$
#
# and moves that were never tried are thinkable, too.


# %% exercise="curious_reward"
def curious_reward(reward: Tensor, elapsed: Tensor, bonus: float) -> Tensor:
    """An imagined reward plus bonus * sqrt(steps since this was last tried for real).

    Args:
        reward: (...).
        elapsed: real steps since the pair was tried, at least 0, (...), whole numbers.
        bonus: at least 0.

    Returns:
        (...), float32.
    """
    ### BEGIN SOLUTION
    return reward + bonus * elapsed.float().sqrt()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
curious_reward = check("curious_reward", curious_reward)


# %%
def change(before: str, after: str, at: int, steps: int, bonus: float) -> Tensor:
    """Rewards summed up over time, (T, B), of learners whose maze changes at step `at`."""
    agent = DynaQ(
        maze(before), 10, 5, bonus=bonus, rate=1.0, seed=1, update=q_update, curious=curious_reward
    )
    agent.run(at, dyna_loop)
    agent.world = maze(after)
    return agent.run(steps - at, dyna_loop).cumsum(0)


BONUS = 1e-3
blocked = {
    name: change(GAP_RIGHT, GAP_LEFT, 1_000, 2_000, b)
    for name, b in (("Dyna-Q", 0.0), ("Dyna-Q+", BONUS))
}
shortcut = {
    name: change(GAP_LEFT, GAP_BOTH, 2_000, 3_500, b)
    for name, b in (("Dyna-Q", 0.0), ("Dyna-Q+", BONUS))
}

# %%
fig, axes = plots.figure(1, 2)
for axis, runs, at, title in (
    (axes[0], blocked, 1_000, "a way is blocked"),
    (axes[1], shortcut, 2_000, "a shortcut opens"),
):
    for name, total in runs.items():
        plots.curve(axis, range(len(total)), total.T, name)
    axis.axvline(at, color="gray", linestyle=":")
    axis.set(xlabel="real steps", ylabel="times at the goal")
    axis.set_title(f"{title} (dotted line)", fontsize=10)
axes[0].legend()
plt.show()
for name, total in blocked.items():
    again, begin = (total[-1] > total[999]).sum(), (total == 0).sum(0).max() + 1
    print(f"{name}: the last of ten learners is first at the goal at step {begin},", end=" ")
    print(f"and {again} of them find the new way within 1,000 steps")

# %%
# NBVAL_CHECK_OUTPUT
after = {name: (total[-1] - total[999]).mean() for name, total in blocked.items()}
pace = {name: (total[-1] - total[-1_001]).mean() for name, total in shortcut.items()}
print("after the way was blocked Dyna-Q+ is at the goal more often, by over 30 %:", end=" ")
print(bool(after["Dyna-Q+"] > 1.3 * after["Dyna-Q"]))
print("in the last 1,000 steps after the shortcut opened, by over 10 %:", end=" ")
print(bool(pace["Dyna-Q+"] > 1.1 * pace["Dyna-Q"]))

# %% [markdown]
# Shaded is the range over the learners. Some of Dyna-Q's are near 0 for long, and some stop where the way closes: as long
# as no reward is known, only dice lead to one. To Dyna-Q+ every move that was not tried for long promises a bonus, from
# the first step on.
#
# This bonus is optimism about what was long not seen. Lesson 08's disagreement does the same with networks, which have no
# table of times.
#
# ## From a table to networks: the target
#
# Now the pendulum: numbers, not cells. Two tables go. $Q$ becomes a network, and the policy another one: **SAC**, the soft
# actor-critic, which you are handed (`wmcourse/sac.py`, 170 lines). It draws its actions from a squashed Gaussian, likes
# to keep its options open, and trains two critics and believes the gloomier one. Their target is the heart of it:
#
# $$ y = r + \gamma \, [\text{not terminated}] \big( \min_i Q_i(s', a') - \beta \log \pi(a' \mid s') \big), \qquad a' \sim \pi(\cdot \mid s') $$
#
# It is the update from above with two changes: an action is drawn where the maximum was, and an unlikely action is worth
# a bonus, weighted by the temperature $\beta$. The pendulum's episodes are *truncated* after 200 steps. The rod swings on,
# only the recording stops, so the bracket is 1 there. For that reason `truncated` is not even an argument.


# %% exercise="soft_target"
def soft_target(
    reward: Tensor,
    terminated: Tensor,
    next_values: Tensor,
    next_log_prob: Tensor,
    temperature: Tensor,
    discount: float,
) -> Tensor:
    """What a critic should say: reward + discount * (smaller next value - temperature * next log-probability).

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
    ### BEGIN SOLUTION
    soft_value = next_values.amin(0) - temperature * next_log_prob
    return (reward + discount * torch.where(terminated, 0.0, soft_value)).detach()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
soft_target = check("soft_target", soft_target)

# %% [markdown]
# ## Imagine: branches off what was real
#
# The second table to go is the model. In its place stands lesson 08's ensemble. A table was asked for single steps. A network
# can be asked for the step after, too, but its errors add up. So **MBPO** (Janner and others, 2019) starts many short
# rollouts, each at a real state, and follows *the policy as it is now*: it imagines what the policy would meet, not what
# dice once met.
#
# A branch can stop for three reasons, and they are not the same:
#
# | why it stops | what it means to the learner |
# |---|---|
# | the model says `terminated` | nothing follows; the target is the reward alone |
# | `truncated`: the model should not be asked further | the world goes on; bootstrap |
# | the horizon is reached | the world goes on; bootstrap |


# %% exercise="branched_rollouts"
def branched_rollouts(step, policy, starts: Tensor, horizon: int) -> Transitions:
    """Short imagined rollouts that branch off from real states.

    Args:
        step: the model, a function from the observations (N, O) and actions (N, A) of the branches that go on to
            four things: next_obs (N, O), reward (N,), terminated (N,) bool and truncated (N,) bool.
        policy: from observations (N, O) to actions (N, A), called on the same branches.
        starts: real observations, (N, O).
        horizon: the most steps of a branch, at least 1.

    Returns:
        Transitions(obs, action, reward, next_obs, terminated), all steps of all branches, those of one time together,
        at most N * horizon. A branch's last step is kept. terminated is the model's; neither `truncated` nor the
        horizon ends the world. The model is never asked about no branch at all.
    """
    ### BEGIN SOLUTION
    obs, steps = starts, []
    for _ in range(horizon):
        action = policy(obs)
        next_obs, reward, terminated, truncated = step(obs, action)
        steps.append(Transitions(obs, action, reward, next_obs, terminated))
        obs = next_obs[~(terminated | truncated)]
        if not len(obs):
            break
    return Transitions(*(torch.cat(column) for column in zip(*steps, strict=True)))
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
branched_rollouts = check("branched_rollouts", branched_rollouts)

# %% [markdown]
# ## Train on both
#
# One batch for one update: a part real, the rest imagined. At a ratio of 1:20 about every twentieth row is real; at 1:0 all
# are, no model is needed, and MBPO *is* SAC. So one number turns the model off and changes nothing else. Keep that in mind:
# it is the negative control of all that follows.


# %% exercise="mix"
def mix(real: Transitions, synthetic: Transitions, ratio: float, uniform: Tensor) -> Transitions:
    """A batch of B transitions, one real to `ratio` synthetic ones; the real ones first.

    round(B / (1 + ratio)) are real. Row i of the batch is row floor(uniform[i] * n) of its source, which has n rows.

    Args:
        real, synthetic: any number of transitions each; columns obs, action, reward, next_obs, terminated.
        ratio: synthetic transitions to one real, at least 0.
        uniform: in [0, 1), (B,).
    """
    ### BEGIN SOLUTION
    count = round(len(uniform) / (1 + ratio))
    parts = []
    for source, share in ((real, uniform[:count]), (synthetic, uniform[count:])):
        size = len(source.obs)
        parts.append([column[(share * size).long()] for column in source])
    return Transitions(*(torch.cat(pair) for pair in zip(*parts, strict=True)))
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
mix = check("mix", mix)

# %% [markdown]
# ## Ten seconds, and no more
#
# Four of your six parts go on: loop, target, branches, mix. `MBPO` holds them together: `act`, `store`, `train_model`,
# `imagine` and `train_policy` are its methods, each a few lines (`wmcourse/dyna.py`). First the experiment of the claim:
# steps 1 and 2 happened once, above. From the 200 recorded steps an ensemble of five is trained once. Then only
# imagination and the policy take turns: 3,000 updates, 20 at each of 150 turns. At every twelfth turn 100 branches set out
# from recorded states, 50 steps each, and a batch holds 20 imagined rows to one real. Beside it, the same agent at 1:0.
#
# To read a return: 200 steps cost 0 to 16.3 each, nothing where the rod stands still at the top. Dice lose over 1,000. Who
# swings it up from wherever it hangs and holds it loses some 120: the way up is not free.

# %%
UPDATES = 3_000
parts = {"target": soft_target, "mixed": mix, "branch": branched_rollouts}


def study(config, **other) -> MBPO:
    """An agent that has learned from the recorded steps alone, in UPDATES updates, some at each turn."""
    agent = MBPO(make_pendulum, config, SEED, **parts, **other)
    agent.study(recorded, UPDATES // config.updates, dyna_loop)
    return agent


def judged(agent: MBPO) -> float:
    """Its mean return over 20 episodes that start where no agent has started before."""
    return float(evaluate(functools.partial(agent.policy.act, greedy=True), make_pendulum).mean())


def dice(obs: Tensor) -> Tensor:
    """Random torques, (B, 1)."""
    return 4 * torch.rand(len(obs), 1) - 2


with_model, without = study(FIXED), study(replace(FIXED, ratio=0))
returns = {"MBPO": judged(with_model), "SAC": judged(without)}
returns["dice"] = float(evaluate(dice, make_pendulum).mean())
print({name: round(value) for name, value in returns.items()})

# %%
# NBVAL_CHECK_OUTPUT
print("with the model, mean return at least -400:", returns["MBPO"] >= -400)
print("without it, at equal updates, below -800:", returns["SAC"] < -800)

# %%
env = make_pendulum()
fig, axis = plots.figure(width=6.5, height=2.6)
for name, agent in (("MBPO", with_model), ("SAC", without)):
    act = agent.policy.act
    played = record_episode(
        env, lambda obs, act=act: act(torch.as_tensor(obs), greedy=True).numpy(), seed=4
    )
    plots.curve(axis, 0.05 * torch.arange(len(played.obs)), played.obs[:, 0], name)
axis.set(
    xlabel="time, s, from a start that nobody has seen: it hangs",
    ylabel="height of the tip",
    ylim=(-1.1, 1.2),
)
axis.legend(loc="center right")
plt.show()

# %% [markdown]
# **Why the model pays here.** Both saw the same 200 steps, and both made the same number of updates. But they must learn
# different things from them. How gravity and torque turn a rod is one smooth law, the same at the top as at the bottom: an
# ensemble gets it nearly right everywhere from few steps. What a state is *worth* is no such law: it hangs on all that the
# policy does afterwards, and 200 steps under random torques hold hardly any of that. Nobody ever stood at the top. A
# critic can only make something up, and the policy goes wherever what was made up is best. In imagination the policy goes
# there, too, meets what the law says, and the critic learns better.
#
# **Negative control.** If that is the reason, a model that does not know what actions do must be useless. Deal the recorded
# actions out anew before the ensemble sees them.


# %%
def without_actions(data: Transitions, **settings):
    """An ensemble shown actions that belong to other steps."""
    deal = torch.randperm(len(data.obs), generator=torch.Generator().manual_seed(0))
    return fit_ensemble(data._replace(action=data.action[deal]), **settings)


broken = judged(study(FIXED, fit=without_actions))
print("with a model that ignores actions:", round(broken))

# %%
# NBVAL_CHECK_OUTPUT
print("with a model that ignores actions, below -800:", broken < -800)

# %% [markdown]
# ## Five seeds, and what goes wrong
#
# One run proves little, and this recording is the luckiest of five. `solutions/runs/10_mbpo.py` makes the same comparison with
# five recordings and agents, and goes on to 5,000 updates (yours stopped at 3,000). It makes two mistakes, too: the actions
# dealt out anew, and every branch's last step stored as terminated. What follows is read from its file,
# `wmcourse/runs/10_mbpo.json`.

# %%
stored = json.loads((files("wmcourse") / "runs" / "10_mbpo.json").read_text())
runs = {
    f"{group}/{name}": seeds for group, found in stored.items() for name, seeds in found.items()
}


def numbers(*names: str, of=lambda run: run["final"]) -> Tensor:
    """A number of each run, (names, seeds), of the seeds that all of these variants were run with."""
    seeds = sorted(set.intersection(*(set(runs[name]) for name in names)))
    return torch.tensor([[of(runs[name][seed]) for seed in seeds] for name in names])


def learning(axis, name: str, method: str) -> None:
    """Draw a variant's mean returns, median and range, as far as all of its seeds went."""
    found = list(runs[name].values())
    points = min(len(run["steps"]) for run in found)
    returns = torch.tensor([run["evaluation"][:points] for run in found])
    plots.curve(axis, found[0]["steps"][:points], returns, method, f"{method} ({len(found)} seeds)")


def middle(x: Tensor) -> Tensor:
    """The median over the last axis."""
    return x.quantile(0.5, dim=-1)


def dots(axis, x: float, values: Tensor, color: str, label: str | None = None) -> None:
    """A dot for each seed, a bar for their median."""
    axis.plot([x] * len(values), values, "o", color=color, alpha=0.4, markersize=5)
    axis.plot(x, middle(values), "_", color=color, markersize=20, label=label)


fig, axes = plots.figure(1, 2, width=4.6, height=3.6)
for name in ("MBPO", "SAC", "MBPO, actions shuffled", "MBPO, ends terminate"):
    learning(axes[0], f"recorded/{name}", name)
axes[0].axhline(returns["dice"], color="gray", linestyle=":", label="dice")
axes[0].set(xlabel="updates, all from 200 recorded steps", ylabel="mean return")
axes[0].set_title("the model pays: four short recordings", fontsize=10)
axes[0].legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
far = {1: "horizon/1", 5: "horizon/5", 15: "horizon/15", 50: "recorded/MBPO", 100: "horizon/100"}
for horizon, name in far.items():
    dots(axes[1], horizon, numbers(name)[0], plots.METHODS["MBPO"][0])
axes[1].set(xlabel="imagined steps a branch (as many rows in all)", xscale="log", xlim=(0.7, 150))
axes[1].set_xticks(list(far), [str(horizon) for horizon in far])
axes[1].minorticks_off()
axes[1].set_ylabel("mean return after 5,000 updates")
axes[1].set_title("how far to imagine: seeds, and their median", fontsize=10)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
model, plain = numbers("recorded/MBPO", "recorded/SAC")
print("with the model, seed by seed:   ", model.round().int().tolist())
print("without:                        ", plain.round().int().tolist())
print("median with over median without, by over 400:", bool(middle(model) > middle(plain) + 400))
print("seeds in which the model is better:", f"{int((model > plain).sum())} of {len(model)}")
plain, thrown = numbers("recorded/SAC", "pendulum/random")
print("without, seeds in which dice earn more:", f"{int((plain < thrown).sum())} of {len(plain)}")
right, shuffled = numbers("recorded/MBPO", "recorded/MBPO, actions shuffled")
print("actions shuffled, seeds in which that costs:", end=" ")
print(f"{int((right > shuffled).sum())} of {len(right)}, over 400 in the median:", end=" ")
print(bool(middle(right) > middle(shuffled) + 400))
right, late = numbers(
    "recorded/MBPO", "recorded/MBPO, ends terminate", of=lambda run: run["evaluation"]
).mean(-1)
print("ends that terminate, seeds in which that costs, over all evaluations:", end=" ")
print(f"{int((right > late).sum())} of {len(right)}")

# %% [markdown]
# Left: median and range of the seeds. The third line is the negative control above. The fourth is the mistake of this
# chapter: the rows at a horizon's end say "terminated". All rewards of the pendulum are negative, so an end is the best
# thing that can be imagined. One row in fifty lies so, and that is enough for an agent that learns late, or not at all.
#
# SAC from a recording ends worse than dice: its critic makes up what lies beyond the 200 steps, and its policy believes it.
#
# Right: every agent imagined equally much, only in branches of another length. A short branch hardly leaves the 200 states
# that were recorded, and only the luckiest recording is enough for it. A long one follows the policy to places where no
# real step was. That speaks for *long* branches, and MBPO's paper for *short* ones. Both are right. It depends on how far
# your model can be believed.
#
# And that can be asked. Let the model say what the policy earns, and let the world say it.

# %%
asked = {
    "highest tip recorded": "highest",
    "the model promises": "promised",
    "the world pays": "final",
}
for label, key in asked.items():
    print(f"{label:22}", [run[key] for _, run in sorted(runs["recorded/MBPO"].items())])

# %% [markdown]
# Look at seed 3, the fourth. Its recording never shows the rod as nearly upright as the others do; whether that is the
# reason, five seeds cannot say. The policy is promised -176, almost a pendulum that stands, and gets -803. Ten seconds were
# not enough there, and the model does not know. A model pays where there is enough for a law and not enough for values.
#
# ## The policy that fools its model
#
# To see more of this take a harder world, lesson 09's cart with a pole to swing up: five numbers, and a track at whose ends
# the cart stops dead, a kink that no smooth network draws right. Record three episodes of random forces, and learn from
# these 300 steps alone. The world pays between 0 and 1 a step, at most 100 an episode. Dice earn about 3, and lesson 09's
# planner on the true simulator about 70. Again ask twice what the policy earns.

# %%
names = {
    "1": "1",
    "5": "5",
    "20": "20",
    "50": "50",
    "50, penalized": "50,\npenalized",
    "50, penalized threefold": "50,\npenalized\nthreefold",
    "50, truncated": "50,\ntruncated",
    "SAC": "SAC,\nno model",
}
fig, axis = plots.figure(width=8.4, height=3.2)
for key, color, label in (
    ("promised", "#D55E00", "the model promises"),
    ("final", "#0072B2", "the world pays"),
):
    for i, name in enumerate(names):
        if key in runs[f"swing-up/{name}"]["0"]:
            values = numbers(f"swing-up/{name}", of=lambda run, key=key: run[key])[0]
            dots(axis, i, values, color, None if i else label)
axis.axhline(100, color="gray", linestyle=":", label="more cannot be paid")
axis.set(xticks=range(len(names)), ylabel="return over 100 steps", ylim=(0, 125))
axis.set_xticklabels(names.values(), fontsize=8)
axis.set_xlabel("imagined steps a branch, and cures")
axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
promised = {
    name: numbers(f"swing-up/{name}", of=lambda run: run["promised"])[0]
    for name in names
    if name != "SAC"
}
paid = {name: numbers(f"swing-up/{name}")[0] for name in names}
for name in names:
    claim = f"promised {middle(promised[name]):5.1f}, " if name in promised else 16 * " "
    print(f"{name:24} {claim}paid {middle(paid[name]):5.1f}  (medians of {len(paid[name])} seeds)")
print("50 steps: the model promises over twice what the world pays, seeds:", end=" ")
print(f"{int((promised['50'] > 2 * paid['50']).sum())} of {len(paid['50'])}")
gap = {name: promised[name] - paid[name] for name in promised}
print("the gap grows from 1 step a branch to 50 (medians):", end=" ")
print(bool(middle(gap["50"]) > middle(gap["1"])))
print("penalized, it is smaller, seeds:", end=" ")
print(f"{int((gap['50, penalized'] < gap['50']).sum())} of {len(gap['50'])}")
print("threefold, it is below 5, seeds:", end=" ")
print(f"{int((gap['50, penalized threefold'].abs() < 5).sum())} of {len(gap['50'])}")
dared = paid["50, penalized threefold"].round().int().tolist()
print("penalized threefold, what the world pays, seed by seed:", dared)

# %% [markdown]
# That is what it means to exploit a model. The longer the policy may follow the model, the better it learns to live in the
# model's mistakes: the promise about doubles, and the pay hardly moves. No loss curve shows it. One model even promises
# more than the world can pay. From 300 such steps nobody learns to swing up, and SAC without a model earns no more; but the
# agent with a long horizon believes that it did.
#
# Three cures are drawn. *Short branches* come back to what was real before an error has grown. *Penalized*: lesson 08's
# disagreement is taken off each imagined reward. *Truncated*: a branch stops where the members disagree by more than 0.3
# standard deviations of a step; there the model should not be asked further, and the world goes on, the second row of the
# table of ends. The penalty narrows the gap, and three times the penalty closes it for most. What that does to the pay is
# open: one of these agents earns the most of all in the figure, another dares nothing and earns what dice earn. This
# truncation hardly ever sets in: where all members are wrong together, their disagreement says nothing. Doubt is a witness,
# not a judge. To learn more, the agent has to go there and look.
#
# ## When real steps keep coming
#
# Back to the whole loop: act, store, train the model every 50 steps, imagine, 20 updates, repeat, from no experience at
# all. The first 200 steps are random torques, each held for eight steps (for the recording it was five). Beside MBPO two
# agents in the very same harness: SAC with one update a step, as it is usually run, and SAC with 20.

# %%
fig, axes = plots.figure(1, 2, width=4.6, height=3.2)
for name in ("MBPO", "SAC, 20 updates", "SAC"):
    learning(axes[0], f"pendulum/{name}", name)
axes[0].axhline(-200, color="gray", linestyle=":")
axes[0].set(xlabel="real steps", ylabel="mean return", xscale="log")
ticks = [250, 500, 1_000, 2_000, 4_000]
axes[0].set_xticks(ticks, [str(tick) for tick in ticks])
axes[0].minorticks_off()
axes[0].legend(fontsize=8)
axes[0].set_title("steps that keep coming (dotted: -200)", fontsize=10)

AT = 400  # real steps
ratios = {0: "pendulum/SAC, 20 updates", 1: "ratio/1:1", 5: "ratio/1:5", 10: "ratio/1:10"}
ratios[20] = "pendulum/MBPO"


def then(run: dict) -> float:
    """The mean return after AT real steps."""
    return run["evaluation"][run["steps"].index(AT)]


at_ratio = {ratio: numbers(name, of=then)[0] for ratio, name in ratios.items()}
for i, values in enumerate(at_ratio.values()):
    dots(axes[1], i, values, plots.METHODS["MBPO" if i else "SAC, 20 updates"][0])
axes[1].set(xticks=range(len(ratios)), xticklabels=[f"1:{ratio}" for ratio in ratios])
axes[1].set(xlabel="real to imagined", ylabel=f"mean return at {AT} real steps")
axes[1].set_title("the ratio, at 20 updates a step: seeds, median", fontsize=10)
plt.show()

for ratio, values in at_ratio.items():
    print(f"1:{ratio}, at {AT} real steps, seed by seed: {values.round().int().tolist()}")


def reach(name: str, goal: float = -200) -> Tensor:
    """At which real step each seed's mean return first is at least `goal`, (seeds,); inf where it never is."""
    return numbers(
        f"pendulum/{name}", of=lambda run: steps_to_reach(run["steps"], run["evaluation"], goal)
    )[0]


for name in ("MBPO", "SAC, 20 updates", "SAC"):
    print(f"{name}: real steps to -200, seed by seed: {sorted(reach(name).tolist())}")

# %%
# NBVAL_CHECK_OUTPUT
median = {name: reach(name).median() for name in ("MBPO", "SAC, 20 updates", "SAC")}
print("MBPO reaches -200 within 600 real steps (median):", bool(median["MBPO"] <= 600))
print(
    "at least 6 times fewer than SAC with one update a step:",
    bool(6 * median["MBPO"] <= median["SAC"]),
)
print("SAC with 20 updates, too, needs at most half of what SAC with one needs:", end=" ")
print(bool(2 * median["SAC, 20 updates"] <= median["SAC"]))

# %% [markdown]
# The first two lines are what papers print. The third is the honest question. Most of the gain over ordinary SAC comes with
# 20 updates instead of one, without any model; what the model adds to that is the distance between the first two curves.
# While real steps keep coming, exploring brings the critic to the places that it must know, and there it can learn from
# what is real. A comparison at unequal updates cannot tell you which of the two it was. The recording above could: there
# the updates were equal, and no more steps came.
#
# On the right: already one imagined row to one real brings all that there is to gain here. The seeds lie far apart, so no
# more can be said than that more is not always better.
#
# So ask, before you build a model: what does it know that the data does not say to a critic? If the answer is "the law, from
# far fewer steps than values need", it will pay, and the more so, the dearer a step is. If it is "nothing, but I can make
# more updates", make more updates.
#
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | `truncated` or a horizon's end stored as terminated | values near one reward, not near a sum of many; a policy that seeks the ends |
# | `terminated` ignored | values that grow without bound where nothing can be earned any more |
# | imagining before the model saw the latest steps | all works, a little worse, for ever |
# | old imagined rows kept for long | the policy learns from what an older policy would do: keep only the latest |
# | branches from the start states only | the policy is good where episodes begin, and nowhere else |
# | model and policy trained on one schedule | the wall clock goes to the model; a few trainings are enough |
# | a model trusted too far | imagined return climbs, real return does not: always draw both |
# | MBPO at 20 updates beside SAC at one | a superb table, which proves nothing about the model |
#
# What this lesson does not show: its worlds are small and have no dice. Worlds with contacts or pictures are harder to
# foretell where nobody has been. In the pendulum and the cart nothing terminates; where something does, the model has to
# say so, by a formula (as MBPO does) or by a head that learns it (lesson 11).
#
# ## Links
#
# - Sutton, *Dyna, an Integrated Architecture for Learning, Planning, and Reacting*, SIGART Bulletin 2(4), 1991; and Sutton
#   and Barto, *Reinforcement Learning*, 2nd edition, chapter 8: the mazes.
# - Janner, Fu, Zhang and Levine, *When to Trust Your Model: Model-Based Policy Optimization*, arXiv:1906.08253.
# - Haarnoja and others, *Soft Actor-Critic Algorithms and Applications*, arXiv:1812.05905.
# - Yu and others, *MOPO: Model-based Offline Policy Optimization*, arXiv:2005.13239: the penalty, for recordings.
# - Chen, Wang, Zhou and Ross, *Randomized Ensembled Double Q-Learning*, arXiv:2101.05982: as many updates as MBPO, no model.
# - van Hasselt, Hessel and Aslanides, *When to Use Parametric Models in Reinforcement Learning?*, arXiv:1906.05243.
#
# **Next.** Here the policy learns from what the model imagines, as if it were real. Lesson 11 uses more of the model: it is
# differentiable, so the gradient of what will be earned can flow back through the dream itself.
