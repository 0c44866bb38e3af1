# %% [markdown]
# # 10 Dyna: one loop, from a table to networks
#
# **Claim.** Ten seconds of a pendulum under random torques, in four pieces, are enough to learn to swing it up and hold it
# there, if you learn a model from them and practice in your imagination. The same learner with as many updates, but
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
    "the rod is ever there and slower than 1 radian a second:",
    bool(((height > 0.9) & (velocity.abs() < 1)).any()),
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
# **Time:** about 90 minutes. **Before:** lessons 01 and 08; Q-learning you need to have seen once.
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
        New tables, (B, S, A); q stays as it is.
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
# Now the six steps. They come to you as functions, so your loop knows nothing of mazes or networks: it will drive both.
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
axes[0].legend()
path = greedy_path(world, agents[50][0].q.mean(0))
row, column = torch.tensor(path) // 9, torch.tensor(path) % 9
axes[1].imshow(world.wall, cmap="gray_r", vmax=1.5)
axes[1].plot(column, row, color=plots.METHODS["50 planned"][0], marker="o", markersize=3)
axes[1].set(xticks=[], yticks=[])
axes[1].set_title("the way that 50 planned updates found", fontsize=10)
axes[1].grid(False)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
early = {
    planning: steps[:, 1:5].mean() for planning, (_, steps) in agents.items()
}  # episodes 2 to 5
exact = shortest_path(world)
found = min(len(greedy_path(world, q)) - 1 for q in agents[50][0].q)
print("shortest way by value iteration, moves:", exact)
print("Dyna-Q with 50 planned updates found one as short:", found == exact)
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
# **Negative control.** Was it the model, or just more updates? Give the table away: let the model remember a *random* cell
# as what followed. The updates are as many as before.


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
goals = {
    name: agent.run(3_000, dyna_loop).sum()
    for name, agent in (("honest", honest), ("confused", confused))
}

# %%
# NBVAL_CHECK_OUTPUT
print("times at the goal in 3,000 steps, true table over confused one, more than 3 times:", end=" ")
print(bool(goals["honest"] > 3 * goals["confused"]))

# %% [markdown]
# ## When the world changes
#
# A model can also be wrong because the world moved on. In the next maze a wall has its gap on the right. After 1,000 steps
# that gap closes and another opens on the left. Then the other way round: a gap on the left, and after 3,000 steps a
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
        maze(before), 10, 10, bonus=bonus, rate=1.0, seed=1, update=q_update, curious=curious_reward
    )
    agent.run(at, dyna_loop)
    agent.world = maze(after)
    return agent.run(steps - at, dyna_loop).cumsum(0)


BONUS = 1e-3
blocked = {
    name: change(GAP_RIGHT, GAP_LEFT, 1_000, 2_500, b)
    for name, b in (("Dyna-Q", 0.0), ("Dyna-Q+", BONUS))
}
shortcut = {
    name: change(GAP_LEFT, GAP_BOTH, 2_000, 4_500, b)
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

# %%
# NBVAL_CHECK_OUTPUT
after = {name: (total[-1] - total[999]).mean() for name, total in blocked.items()}
pace = {name: (total[-1] - total[-1_001]).mean() for name, total in shortcut.items()}
print("after the way was blocked Dyna-Q+ is at the goal more often, by over 30 %:", end=" ")
print(bool(after["Dyna-Q+"] > 1.3 * after["Dyna-Q"]))
print("in the last 1,000 steps after the shortcut opened, by over 10 %:", end=" ")
print(bool(pace["Dyna-Q+"] > 1.1 * pace["Dyna-Q"]))

# %% [markdown]
# Shaded is the range over the learners. This bonus is optimism about what was long not seen. Lesson 08's disagreement does
# the same with networks, which have no table of times.
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

    round(B / (1 + ratio)) are real. Row i is the floor of uniform[i] times the number of rows to draw from, and at most
    the last (float32 may round a product up).

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
        parts.append([column[(share * size).long().clamp(max=size - 1)] for column in source])
    return Transitions(*(torch.cat(pair) for pair in zip(*parts, strict=True)))
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
mix = check("mix", mix)

# %% [markdown]
# ## Ten seconds, and no more
#
# All six parts are yours. `MBPO` holds them together: `act`, `store`, `train_model`, `imagine` and `train_policy` are its
# methods, each a few lines (`wmcourse/dyna.py`). First the experiment of the claim: steps 1 and 2 happened once, above.
# From the 200 recorded steps the ensemble is trained once. Then only imagination and the policy take turns: 50 steps ahead
# from the recorded states, 100 branches at a time. Beside it, the same agent at ratio 1:0.

# %%
UPDATES = 4_000
parts = {"target": soft_target, "mixed": mix, "branch": branched_rollouts}


def study(config, **other) -> MBPO:
    """An agent that has learned from the recorded steps alone, in UPDATES updates of its policy."""
    agent = MBPO(make_pendulum, config, SEED, **parts, **other)
    agent.study(recorded, UPDATES // config.updates, dyna_loop)
    return agent


def judged(agent: MBPO) -> float:
    """Its mean return over 20 episodes that start where no agent has started before."""
    return float(evaluate(functools.partial(agent.policy.act, greedy=True), make_pendulum).mean())


with_model, without = study(FIXED), study(replace(FIXED, ratio=0))
returns = {"MBPO": judged(with_model), "SAC": judged(without)}
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
        env, lambda obs, act=act: act(torch.as_tensor(obs), greedy=True).numpy(), seed=1
    )
    plots.curve(axis, 0.05 * torch.arange(len(played.obs)), played.obs[:, 0], name)
axis.set(
    xlabel="time, s, from a start that nobody has seen",
    ylabel="height of the tip",
    ylim=(-1.1, 1.2),
)
axis.legend(loc="lower right")
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

# %%
# NBVAL_CHECK_OUTPUT
print("with a model that ignores actions, below -800:", broken < -800)

# %% [markdown]
# ## Five seeds, and what goes wrong
#
# One run proves little. `solutions/runs/10_mbpo.py` makes the same comparison with five recordings and agents, and two
# mistakes beside them: the actions dealt out anew, and every branch's last step stored as terminated. What follows is
# read from its file, `wmcourse/runs/10_mbpo.json`.

# %%
runs = json.loads((files("wmcourse") / "runs" / "10_mbpo.json").read_text())


def rows(group: str, name: str, seeds=None) -> list[dict]:
    """The runs of a variant: of all seeds, or of these, in the order of the seeds."""
    found = runs[group][name]
    return [found[seed] for seed in sorted(found, key=int) if seeds is None or seed in seeds]


def finals(group: str, name: str, key: str = "final", seeds=None) -> Tensor:
    """What the agents reached in the end, (seeds,)."""
    return torch.tensor([row[key] for row in rows(group, name, seeds)])


def curves(group: str, name: str) -> tuple[list[int], Tensor]:
    """At which steps they were evaluated, and the mean returns, (seeds, points), as far as all of them went."""
    found = rows(group, name)
    points = min(len(row["steps"]) for row in found)
    return found[0]["steps"][:points], torch.tensor([row["evaluation"][:points] for row in found])


def in_all(variants) -> set[str]:
    """The seeds that all of these (group, name) were run with."""
    return set.intersection(*(set(runs[group][name]) for group, name in variants))


fig, axes = plots.figure(1, 2)
for name in ("MBPO", "SAC", "MBPO, actions shuffled", "MBPO, ends terminate"):
    plots.curve(axes[0], *curves("recorded", name), name)
axes[0].set(xlabel="updates, all from 200 recorded steps", ylabel="mean return")
axes[0].set_title("the model pays: four short recordings", fontsize=10)
axes[0].legend(fontsize=7)
tried = {int(name): ("horizon", name) for name in runs["horizon"]}
tried |= {FIXED.horizon: ("recorded", "MBPO")}
seeds = in_all(tried.values())
reached = torch.stack([finals(*tried[horizon], seeds=seeds) for horizon in sorted(tried)], 1)
plots.curve(axes[1], sorted(tried), reached, "MBPO")
axes[1].set(
    xlabel="imagined steps a branch (as many rows in all)",
    ylabel="mean return in the end",
    xscale="log",
)
axes[1].set_title("how far to imagine", fontsize=10)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
model, plain = finals("recorded", "MBPO"), finals("recorded", "SAC")
print("seeds:", len(model))
print(
    "median with the model over median without, by over 400:",
    bool(model.median() > plain.median() + 400),
)
print("seeds in which the model is better:", int((model > plain).sum()))
both = in_all(
    [("recorded", name) for name in ("MBPO", "MBPO, actions shuffled", "MBPO, ends terminate")]
)
right, shuffled = (
    finals("recorded", "MBPO", seeds=both),
    finals("recorded", "MBPO, actions shuffled", seeds=both),
)
print("with its actions shuffled the model is worth at least 400 less, in every seed:", end=" ")
print(bool((right - shuffled >= 400).all()))
late = [
    torch.tensor([row["evaluation"] for row in rows("recorded", name, both)]).mean()
    for name in ("MBPO", "MBPO, ends terminate")
]
print(
    "ends that terminate, over all evaluations at least 100 below:", bool(late[1] < late[0] - 100)
)

# %% [markdown]
# Left: median and range of the seeds. The third line is the negative control above. The fourth is the mistake of this
# chapter: the rows at a horizon's end say "terminated". All rewards of the pendulum are negative, so an end is the best
# thing that can be imagined. One row in fifty lies so, and that is enough for an agent that learns late, or not at all.
#
# Right: every agent imagined equally much, only in branches of another length. A short branch hardly leaves the 200 states
# that were recorded. A long one follows the policy to places where no real step was. That speaks for *long* branches, and
# MBPO's paper for *short* ones. Both are right. It depends on how far your model can be believed.
#
# Where it does *not* pay, we looked, too. Two hundred steps from a single episode are a lottery: in recordings in which the
# rod never rose, the model had not seen enough of the law either, and both agents failed. And with 600 recorded steps SAC
# managed alone. The model wins where there is enough for a law and not enough for values.
#
# ## The policy that fools its model
#
# The pendulum's law is smooth, and ten seconds show it. Take a harder world, lesson 09's cart with a pole to swing up:
# five numbers, and a track at whose ends the cart stops dead, a kink that no smooth network draws right. Record three
# episodes of random forces, and learn from these 300 steps alone. The world pays between 0 and 1 a step, at most 100 an
# episode. Then ask twice what the policy earns: the model, and the world.

# %%
fig, axis = plots.figure(width=6.5, height=2.8)
names = [name for name in runs["swing-up"] if name != "SAC"]
names.sort(key=lambda name: (int(name.split(",")[0]), name))
seeds = in_all([("swing-up", name) for name in names])
for key, color, label in (
    ("promised", "#D55E00", "the model promises"),
    ("final", "#0072B2", "the world pays"),
):
    for i, name in enumerate(names):
        values = finals("swing-up", name, key, seeds)
        axis.plot(torch.full_like(values, i), values, "o", color=color, alpha=0.4)
        axis.plot(i, values.mean(), "_", color=color, markersize=22, label=None if i else label)
axis.set(xticks=range(len(names)), xticklabels=names, ylabel="return over 100 steps")
axis.tick_params(axis="x", labelrotation=15, labelsize=8)
axis.set_xlabel("imagined steps a branch, and cures")
axis.legend(fontsize=8)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
promised, paid = (
    {name: finals("swing-up", name, key, seeds) for name in names} for key in ("promised", "final")
)
print(
    "with branches of 50 steps the model promises over twice what the world pays, in every seed:",
    end=" ",
)
print(bool((promised["50"] > 2 * paid["50"]).all()))
print(
    "the promise grows from 5 steps a branch to 50 (mean):",
    bool(promised["50"].mean() > promised["5"].mean()),
)
gap = {name: promised[name] - paid[name] for name in names}
print(
    "penalized, the gap is smaller in every seed:", bool((gap["50, penalized"] < gap["50"]).all())
)
print("threefold, it is below 5:", bool((gap["50, penalized threefold"].abs() < 5).all()))

# %% [markdown]
# That is what it means to exploit a model. The longer the policy may follow the model, the better it learns to live in the
# model's mistakes: the promise rises, and the pay does not. No loss curve shows it. From 300 such steps nobody learns to
# swing up, and SAC without a model earns as little; but the agent with a long horizon believes that it did.
#
# Three cures are drawn. *Short branches* come back to what was real before an error has grown. *Penalized*: lesson 08's
# disagreement is taken off each imagined reward. *Truncated*: a branch stops where the members disagree by more than 0.3
# standard deviations of a step; there the model should not be asked further, and the world goes on, the second row of the
# table of ends. The penalty narrows the gap, and three times the
# penalty closes it, at a price: an agent may then dare nothing at all. This truncation hardly ever sets in: where all
# members are wrong together, their disagreement says nothing. Doubt is a witness, not a judge. To learn more, the agent has
# to go there and look.
#
# ## When real steps keep coming
#
# Back to the whole loop: act, store, train the model every 50 steps, imagine, 20 updates, repeat, from no experience at
# all. The first 200 steps are random torques, each held for eight steps. Beside MBPO two agents in the very same harness:
# SAC with one update a step, as it is usually run, and SAC with 20.

# %%
fig, axes = plots.figure(1, 2)
for name in ("MBPO", "SAC, 20 updates", "SAC"):
    plots.curve(axes[0], *curves("pendulum", name), name)
axes[0].axhline(-200, color="gray", linestyle=":")
axes[0].set(xlabel="real steps", ylabel="mean return", xscale="log")
ticks = [250, 500, 1_000, 2_000, 4_000]
axes[0].set_xticks(ticks, [str(tick) for tick in ticks])
axes[0].minorticks_off()
axes[0].legend(fontsize=8)
axes[0].set_title("steps that keep coming", fontsize=10)

AT = 400  # real steps
ratios = {int(name[2:]): ("ratio", name) for name in runs["ratio"]}
ratios |= {0: ("pendulum", "SAC, 20 updates"), 20: ("pendulum", "MBPO")}
seeds = in_all(ratios.values())
reached = torch.tensor(
    [
        [row["evaluation"][row["steps"].index(AT)] for row in rows(*ratios[ratio], seeds)]
        for ratio in sorted(ratios)
    ]
).T
plots.curve(axes[1], range(len(ratios)), reached, "MBPO", f"{len(seeds)} seeds: median and range")
axes[1].set(xticks=range(len(ratios)), xticklabels=[f"1:{ratio}" for ratio in sorted(ratios)])
axes[1].set(xlabel="real to imagined", ylabel=f"mean return at {AT} real steps")
axes[1].set_title("the ratio, at 20 updates a step", fontsize=10)
axes[1].legend(fontsize=8)
plt.show()


def reach(name: str, goal: float = -200) -> Tensor:
    """At which real step each seed's mean return first is at least `goal`, (seeds,); inf where it never is."""
    found = rows("pendulum", name)
    return torch.tensor([steps_to_reach(row["steps"], row["evaluation"], goal) for row in found])


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
# On the right: already one imagined row to one real brings most of what there is to gain here. With so few seeds no
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
# What this lesson does not show: one small world, whose law is smooth and has no dice. Worlds with contacts or pictures are harder
# to foretell where nobody has been. In the worlds of this lesson nothing terminates; where something does, the model has to
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
