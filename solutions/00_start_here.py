# %% [markdown]
# # 00 Start here: a world you carry in your head
#
# **Claim.** A model of what your actions do lets you try a thousand futures before you take one step, and one index in
# the wrong place ruins it while every loss still looks fine.
#
# Here is a pendulum on a motor too weak to lift it in one go. It has to be swung up. You record twenty episodes of
# random twitching, 4,000 steps in all, and fit two models of what comes next. They see the same data. One pairs each
# observation with the action taken there. The other is off by one: it pairs it with the action before.

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from wmcourse import plots
from wmcourse.exercises import check, hint
from wmcourse.replay import Episode, Replay, random_policy, record_episodes
from wmcourse.start_here import draw_components, fit_dynamics, fit_reward, imagine, planner
from wmcourse.worlds import angle_of, make, make_cartpole, make_pendulum, render_angles

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

env = make_pendulum()
practice = record_episodes(env, random_policy(env, seed=0), count=20, seed=0)
unseen = record_episodes(env, random_policy(env, seed=1), count=5, seed=100)


def pairs(episodes: list[Episode], late: int) -> tuple[Tensor, Tensor, Tensor]:
    """(obs, action, next_obs), where the action is `late` steps old: 0 is right, 1 is the bug."""
    obs = torch.cat([e.obs[1:-1] for e in episodes])
    action = torch.cat([e.action[1 - late : len(e.action) - late] for e in episodes])
    return obs, action, torch.cat([e.obs[2:] for e in episodes])


LATE = {"aligned": 0, "misaligned": 1}
models = {name: fit_dynamics(*pairs(practice, late)) for name, late in LATE.items()}
explained = {}
for name, late in LATE.items():
    obs, action, next_obs = pairs(unseen, late)
    missed = (models[name](obs, action) - next_obs).square().mean()
    explained[name] = 1 - missed / next_obs.var(0).mean()

# %%
# NBVAL_CHECK_OUTPUT
for name in models:
    print(f"{name}: explains over 99 % of what comes next, unseen: {bool(explained[name] > 0.99)}")

# %% [markdown]
# Two fine losses. Now let each model steer the real pendulum. At every turn it imagines 64 futures, each with other
# torques, and begins the one that looks best.

# %%
kept = [
    torch.cat(column)
    for column in zip(*((e.obs[:-1], e.action, e.reward) for e in practice), strict=True)
]
guess_reward = fit_reward(*kept)
steered = {"random": record_episodes(env, random_policy(env, seed=2), 1, 1001)[0]}
for name, model in models.items():
    steered[name] = record_episodes(env, planner(model, guess_reward, seed=0), 1, 1001)[0]

fig, axes = plots.figure(3, 1, width=9.0, height=0.62)
for axis, (name, episode) in zip(axes, steered.items(), strict=True):
    plots.frames(axis, render_angles(angle_of(episode.obs[:120:8])), name)
axes[0].set_title("Same data, same loss, one index apart: the first 6 seconds, a frame every 0.4 s")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
for name, episode in steered.items():
    up = episode.obs[-50:, 0].min() > 0.95  # cos of the angle, 1 at the top
    print(f"{name}: stands upright for the last 50 steps: {bool(up)}")

# %% [markdown]
# The aligned model has never seen a swing-up, only twitches. It does one anyway, because it knows what a torque does.
# The misaligned model has learned that torques do nothing. Neither loss told you which was which. By the end of this
# lesson you will own the test that does.
#
# **What you will be able to do**
#
# - name the four components of a world model and say which of them you can leave out;
# - record episodes from any Gymnasium environment, aligned;
# - cut a stream of episodes into steps that really happened;
# - tell a model that heeds its actions from one that ignores them;
# - say where a value stops: at `terminated`, not at `truncated`.
#
# **Time:** about 60 minutes. **Before:** Python, a little PyTorch, and the idea of a reward.
#
# ## The idea
#
# An *environment* takes your action and answers with an observation and a reward. To learn by trial and error alone you
# need a great many answers, and real ones are slow, dear or dangerous. A **world model** is a learned copy of the
# environment that answers instead. It buys you two things:
#
# - **Sample efficiency.** Each real step trains the model, and the model gives back as many imagined steps as you like.
# - **Imagination.** You can ask "what if?" from one and the same moment, for a thousand different actions. The real
#   world lets you try only one.
#
# $$ z_t = E(s_t), \qquad z_{t+1} = f(z_t, a_t), \qquad r_t = g(z_t, a_t), \qquad \hat{s}_t = D(z_t) $$
#
# | component | what it does | in this lesson | learned in |
# |---|---|---|---|
# | encoder $E$ | observation $s_t$ to latent $z_t$, which keeps what matters | nothing to do: `obs` (N, 3) is its own latent | 02 |
# | dynamics $f$ | latent and action $a_t$ to the next latent | `predict(obs, action)`, least squares | 01, 05 to 07 |
# | reward $g$ | latent and action to the reward $r_t$ | `guess_reward(obs, action)`, least squares | 01, 05 |
# | decoder $D$, optional | latent back to something you can look at | the simulator's own drawing, `render_angles` | 02, 05 |
#
# In general the dynamics is a distribution, $p_\theta(s_{t+1} \mid s_t, a_t)$: the world may be noisy and your knowledge
# of it incomplete. Here, one predicted value will do.

# %%
fig, axis = plots.figure(width=8.4, height=3.0)
draw_components(axis)
axis.set_title("One real observation, then imagination: no new observation comes in")
plt.show()

# %% [markdown]
# Follow the arrows. One real observation is encoded. From then on, the dynamics feeds on its own output. That is what a
# dream is: `imagine` in this lesson is a loop of four lines. The decoder hangs off to the side. Planning never asks it;
# only you do, when you want to see.
#
# So look at a dream. A real pendulum is pumped for two seconds, by a torque in the direction of its velocity. Each model
# gets the first observation and the list of torques, and nothing more.


# %%
def pump(obs: np.ndarray) -> np.ndarray:
    """The strongest torque in the direction of the velocity."""
    return np.array([2.0 if obs[2] > 0 else -2.0], np.float32)


real = record_episodes(env, pump, count=1, seed=12)[0]
dreams = {name: imagine(model, real.obs[0], real.action[:40]) for name, model in models.items()}

fig, axes = plots.figure(3, 1, width=9.0, height=0.78)
for axis, (name, obs) in zip(axes, {"real": real.obs[:41], **dreams}.items(), strict=True):
    plots.frames(axis, render_angles(angle_of(obs[::4])), name)
axes[0].set_title(
    "The aligned dream keeps to the world; the misaligned one does not feel the torque"
)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
for name, obs in dreams.items():
    apart = (obs[:, :2] - real.obs[:41, :2]).norm(dim=-1).max()  # tips of the rod, in rod lengths
    print(f"{name}: within 0.3 rod lengths of the real tip for 2 s: {bool(apart < 0.3)}")

# %% [markdown]
# ## How this course works
#
# Each lesson has a few exercises. You write the lines that matter, run the cell, and run the check below it. A warm-up:
# the **return**. It is what is still to come when you stand at step t, and it counts a reward less the further away it
# is:
#
# $$ G_t = r_t + \gamma G_{t+1}, \qquad G_{T-1} = r_{T-1} $$
#
# Here $r_t$ is `reward[t]` from `reward` (T,), $\gamma$ is `discount`, a number in [0, 1], and the answer holds $G_0$ to
# $G_{T-1}$, shape (T,). The formula reads from the end, and so does the fast way to compute it.


# %% exercise="discounted_return"
def discounted_return(reward: Tensor, discount: float) -> Tensor:
    """What is still to come at every step of an episode, each step of waiting discounted once.

    Args:
        reward: (T,), float32.
        discount: in [0, 1].

    Returns:
        G_t for every t, (T,).
    """
    ### BEGIN SOLUTION
    returns, to_come = [], 0.0
    for r in reward.flip(0):
        to_come = r + discount * to_come
        returns.append(to_come)
    return torch.stack(returns).flip(0)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
discounted_return = check("discounted_return", discounted_return)

# %% [markdown]
# **What a check says.** An exercise that you have not written yet is *open*. A right answer is *passed* and is yours from
# then on: the cells below run your code. A wrong answer is told what came, the likely mistake, and one question. The lesson
# goes on in every case: where your answer is open or wrong, `check` hands back the course's own function. So you can skip,
# read on, and come back.
#
# Here is a wrong answer on purpose. It runs the recursion from the wrong end. (`grade` gives the same verdict as `check`
# and remembers nothing.)

# %%
# NBVAL_CHECK_OUTPUT
from wmcourse.exercises import grade


def from_the_front(reward: Tensor, discount: float) -> Tensor:
    """The recursion, run forward: a common mistake."""
    returns, so_far = [], 0.0
    for r in reward:
        so_far = r + discount * so_far
        returns.append(so_far)
    return torch.stack(returns)


print(grade("discounted_return", from_the_front, hidden=False))

# %% [markdown]
# **Stuck?** Each exercise has three hints. Each call of `hint` says more than the one before.

# %%
# NBVAL_CHECK_OUTPUT
hint("discounted_return")

# %% [markdown]
# **Progress.** A passed exercise is remembered. In a terminal, `wmcourse progress` shows the whole course. This is the
# part for this lesson:

# %%
from wmcourse.exercises import catalogue
from wmcourse.grading.progress import progress_table

print(progress_table([e for e in catalogue() if e.lesson == "00_start_here"]))

# %% [markdown]
# **Updates.** Your notebooks are copies and belong to you. When a newer version of the course is installed,
# `wmcourse start FOLDER --update` brings it into your folder. It carries your answers over, keeps the cells you added,
# and puts your old file aside.
#
# ## The loop
#
# Gymnasium is the common tongue of environments. `reset(seed=...)` begins an episode and gives the first observation.
# `step(action)` gives five things: the next observation, the reward, `terminated`, `truncated`, and a dictionary that we
# leave aside.

# %%
# NBVAL_CHECK_OUTPUT
obs, info = env.reset(seed=0)
print("obs", tuple(obs.shape), obs.dtype)
print("actions from", env.action_space.low, "to", env.action_space.high)
for t in range(2):
    obs, reward, terminated, truncated, info = env.step(np.array([1.0], np.float32))
    print(f"step {t}: reward {reward:.0f}, terminated {terminated}, truncated {truncated}")

# %% [markdown]
# The three numbers of `obs` are the cosine and the sine of the angle (0 at the top) and the angular velocity in radian
# per second. The action is a torque in newton meter. The reward is −(angle² + 0.1 velocity² + 0.001 torque²): best is 0,
# upright and at rest.
#
# The same world can also be seen as pictures, 32 by 32 pixels. Gymnasium draws the torque into its picture as an arrow.
# Our frames leave the arrow out. A frame that shows the action would tell every encoder the answer.

# %%
camera = make_pendulum(pixels=True)
frame, _ = camera.reset(seed=5)
film = [frame] + [camera.step(np.array([2.0], np.float32))[0] for _ in range(9)]
print("frame", frame.shape, frame.dtype)

fig, axis = plots.figure(width=9.0, height=0.9)
plots.frames(axis, torch.as_tensor(np.stack(film)))
axis.set_title("What the camera sees: ten steps of 0.05 s")
plt.show()

# %% [markdown]
# And here is the second world of this lesson, CartPole-v1: a pole on a cart. You push left (0) or right (1), and each
# step that the pole stands earns 1. The two worlds end in different ways:
#
# - `terminated`: the **world** ended. The pole fell, and nothing can follow.
# - `truncated`: the **recording** ended. The time limit came (200 steps for the pendulum, 500 for the pole), and the
#   world would have gone on.
#
# Now write the loop. An episode of T steps has T actions and **T + 1** observations, because the last step returns an
# observation, too. This is the alignment of the whole course:
#
# | row t | `obs[t]` | `action[t]` | `reward[t]`, `terminated[t]`, `truncated[t]` | `obs[t + 1]` |
# |---|---|---|---|---|
# | when | you see it | then you take it | then these come back | together with this |


# %% exercise="record_episode"
def record_episode(
    env: gym.Env, policy, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Play one episode to its end and keep all of it.

    Args:
        env: a Gymnasium environment; only reset and step are needed.
        policy: a function from an observation to an action, both numpy arrays.
        seed: for env.reset.

    Returns:
        obs (T + 1, O) float32, action (T, A) float32, reward (T,) float32,
        terminated (T,) bool, truncated (T,) bool.
    """
    ### BEGIN SOLUTION
    seen, _ = env.reset(seed=seed)
    obs, action, reward, terminated, truncated = [seen], [], [], [], []
    over = False
    while not over:
        taken = policy(seen)
        seen, earned, ended, cut, _ = env.step(taken)
        obs.append(seen)
        action.append(taken)
        reward.append(earned)
        terminated.append(ended)
        truncated.append(cut)
        over = ended or cut
    return (
        torch.tensor(np.array(obs), dtype=torch.float32),
        torch.tensor(np.array(action), dtype=torch.float32),
        torch.tensor(np.array(reward), dtype=torch.float32),
        torch.tensor(terminated),
        torch.tensor(truncated),
    )
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
record_episode = check("record_episode", record_episode)

# %% [markdown]
# Your recorder at work, in both worlds. The return below is yours, too: `discounted_return` with discount 1, at step 0.

# %%
# NBVAL_CHECK_OUTPUT
swing = Episode(*record_episode(env, random_policy(env, seed=3), 0))
print(f"pendulum: {len(swing.action)} steps, {len(swing.obs)} observations", end="; ")
print(f"ends terminated {bool(swing.terminated[-1])}, truncated {bool(swing.truncated[-1])}")

cart = make_cartpole()
push = random_policy(cart, seed=0)
falls = [Episode(*record_episode(cart, push, seed)) for seed in range(60)]
fell = all(bool(e.terminated[-1]) for e in falls)
counted = all(discounted_return(e.reward, 1.0)[0] == len(e.reward) for e in falls)
print(f"cart pole, 60 episodes: all terminated: {fell}; return is the number of steps: {counted}")

# %% [markdown]
# ## Where one episode ends and the next begins
#
# To train on many episodes you lay them end to end in one long *stream*. `first` (N,) marks the first row of each. An
# episode fills T + 1 rows. Its last row holds an observation after which no action was taken.
#
# ```
# row      0      1      2      3   |   4      5      6
# obs     s0     s1     s2     s3   |  s0'    s1'    s2'
# action  a0     a1     a2      -   |  a0'    a1'     -
# first  True  False  False  False  | True  False  False
# ```
#
# From row 3 to row 4 the pendulum seems to jump. That step never happened. Somebody called `reset`. Cut the stream into
# the steps that did happen.


# %% exercise="stream_transitions"
def stream_transitions(obs: Tensor, action: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The steps of a stream that really happened, in order.

    Args:
        obs: (N, O).
        action: taken at obs, (N, A).
        first: (N,) bool, True at the first row of each episode.

    Returns:
        obs (M, O), action (M, A), next_obs (M, O); M is N - 1 less the steps across a boundary.
    """
    ### BEGIN SOLUTION
    same_episode = ~first[1:]
    return obs[:-1][same_episode], action[:-1][same_episode], obs[1:][same_episode]
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
stream_transitions = check("stream_transitions", stream_transitions)

# %% [markdown]
# What do a few impossible steps cost? Random pushes drop the pole after about twenty steps, so about one step in twenty
# crosses a boundary. Fit one linear model on the steps that you cut out, and one on every neighboring pair of rows. Judge both on real steps
# of new episodes.


# %%
def stream_of(episodes: list[Episode]) -> tuple[Tensor, Tensor, Tensor]:
    """obs (N, O), action (N, 1), first (N,) of episodes end to end."""
    replay = Replay()
    replay.add(*episodes)
    rows = replay.stream()
    return rows.obs[0], rows.action[0].float()[:, None], rows.first[0]


def linear_fit(obs: Tensor, action: Tensor, next_obs: Tensor):
    """Least squares for the change of state, on the observation, the action and a constant."""

    def inputs(obs: Tensor, action: Tensor) -> Tensor:
        return torch.cat([obs, action, torch.ones_like(action)], -1)

    weight = torch.linalg.lstsq(inputs(obs, action), next_obs - obs).solution
    return lambda obs, action: obs + inputs(obs, action) @ weight


obs, action, first = stream_of(falls)
cut = linear_fit(*stream_transitions(obs, action, first))
uncut = linear_fit(obs[:-1], action[:-1], obs[1:])

later = [Episode(*record_episode(cart, push, seed)) for seed in range(1000, 1020)]
test = stream_transitions(*stream_of(later))
errors = [(model(*test[:2]) - test[2]).square().mean() for model in (cut, uncut, lambda o, a: o)]

# %%
# NBVAL_CHECK_OUTPUT
print(f"steps across a boundary: {int(first.sum()) - 1} of {len(obs) - 1} pairs of rows")
print(
    f"keeping them makes the error at least 1,000 times larger: {bool(errors[1] > 1000 * errors[0])}"
)
print(f"the uncut model still beats copying the last observation: {bool(errors[1] < errors[2])}")

# %% [markdown]
# The last line is why such a bug survives. The uncut model beats the simple baseline, so it looks as if it had learned.
#
# ## The counterfactual: swap the actions
#
# Back to the two models of the opening. A small loss did not tell them apart, because in 0.05 seconds a pendulum moves
# almost as it would have moved anyway. The torque is a small part of what comes next, and it is the only part that you
# control. So ask about that part alone. Keep every observation, give each step the action of *another* step, and see
# how much worse the model gets:
#
# $$ \text{swap ratio} = \frac{\sum_i \lVert f(s_i, a_{\pi(i)}) - s_i' \rVert^2}
#    {\sum_i \lVert f(s_i, a_i) - s_i' \rVert^2} $$
#
# Here $s_i, a_i, s_i'$ are the rows of `obs` (N, O), `action` (N, A) and `next_obs` (N, O), $\pi$ is `order` (N,), a
# permutation of row numbers, and $f$ is `predict`. A model blind to actions scores about 1: it does not notice. A model
# that heeds them scores far above 1, since it predicts, faithfully, what a wrong action would have done.


# %% exercise="swap_ratio"
def swap_ratio(predict, obs: Tensor, action: Tensor, next_obs: Tensor, order: Tensor) -> Tensor:
    """How many times the mean squared error grows when actions are swapped among the rows.

    Args:
        predict: a function from obs (N, O) and action (N, A) to the predicted next obs (N, O).
        obs, action, next_obs: real steps, (N, O), (N, A), (N, O).
        order: (N,) int64, a permutation: row i gets the action of row order[i].

    Returns:
        A scalar tensor, shape ().
    """
    ### BEGIN SOLUTION
    true = (predict(obs, action) - next_obs).square().mean()
    swapped = (predict(obs, action[order]) - next_obs).square().mean()
    return swapped / true
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
swap_ratio = check("swap_ratio", swap_ratio)

# %% [markdown]
# Now put the question to four models. Two are the models of the opening. The third is misaligned the other way: it
# pairs each observation with the action of the step *after*. The fourth is the negative control, a model that is given no action
# at all. Each model is tested on unseen data that is paired as its own training data was, because whoever has the bug
# has it in both places.

# %%
candidates = {"aligned": 0, "one step late": 1, "one step early": -1, "no action": 0}


def pairs_early(episodes: list[Episode]) -> tuple[Tensor, Tensor, Tensor]:
    """(obs, action of the step after, next_obs)."""
    parts = [(e.obs[:-2], e.action[1:], e.obs[1:-1]) for e in episodes]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def data_for(name: str, episodes: list[Episode]) -> tuple[Tensor, Tensor, Tensor]:
    """The data as a model of this name believes them to be paired."""
    late = candidates[name]
    obs, action, next_obs = pairs_early(episodes) if late < 0 else pairs(episodes, late)
    return obs, (0 * action if name == "no action" else action), next_obs


shares, ratios = [], []
for name in candidates:
    model = fit_dynamics(*data_for(name, practice))
    obs, action, next_obs = data_for(name, unseen)
    order = torch.randperm(len(obs), generator=torch.Generator().manual_seed(0))
    shares.append(
        (1 - (model(obs, action) - next_obs).square().mean() / next_obs.var(0).mean()).item()
    )
    ratios.append(swap_ratio(model, obs, action, next_obs, order).item())

color = (
    [plots.METHODS["aligned"][0]]
    + [plots.METHODS["misaligned"][0]] * 2
    + [plots.METHODS["random"][0]]
)
fig, (left, right) = plots.figure(1, 2, width=4.8, height=2.4)
left.barh(list(candidates), shares, color=color)
left.set(
    xlim=(0, 1.02),
    xlabel="share of variance explained, unseen steps",
    title="The loss sees no difference",
)
right.barh(list(candidates), ratios, color=color)
right.axvline(1, color="black", linewidth=0.8)
right.set(xscale="log", xlabel="error with swapped actions / error", title="The swap does")
right.set_yticks([])
left.invert_yaxis()
right.invert_yaxis()
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
for name, share, ratio in zip(candidates, shares, ratios, strict=True):
    heeds = (
        "above 100" if ratio > 100 else "within 5 % of 1" if abs(ratio - 1) < 0.05 else "in between"
    )
    print(f"{name:<14} explains over 99 %: {share > 0.99}; swap ratio {heeds}")

# %% [markdown]
# One model stands out, and it is the one that swings the pendulum up. The two misaligned ones do not differ from the
# model that never saw an action.
#
# The test has a limit, and you should know it. It needs actions that vary from step to step. If each torque is held for four
# steps, the action before is mostly the action of now, and the misaligned model is right three times out of four. Its ratio then lies
# in between. So compare with an aligned model on the same data, not only with 1.

# %%
steady = record_episodes(env, random_policy(env, seed=0, hold=4), count=20, seed=0)
between = []
for late in (0, 1):
    data = pairs(steady, late)
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(0))
    between.append(swap_ratio(fit_dynamics(*data), *data, order).item())

# %%
# NBVAL_CHECK_OUTPUT
print(f"torques held for 4 steps: aligned above 20: {between[0] > 20}")
print(f"torques held for 4 steps: misaligned between 1.5 and 10: {1.5 < between[1] < 10}")

# %% [markdown]
# ## Where a value stops
#
# Soon you will learn values: V(s) is the return that can be expected from s on. A value is learned from the value one
# step later, which is called *bootstrapping*:
#
# $$ \text{target} = r + \gamma\, V(s') \;\; \text{unless the world ended at } s', \quad \text{then} \;\;
#    \text{target} = r $$
#
# Here $r$ is `reward` (N,), $V(s')$ is `next_value` (N,), and $\gamma$ is `discount`. The world ended where `terminated` (N,) is
# True. Where only `truncated` (N,) is True, the recording stopped in the middle of a life that goes on.


# %% exercise="bootstrap_target"
def bootstrap_target(
    reward: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, discount: float
) -> Tensor:
    """What the value of each row should be, seen from one step later.

    Args:
        reward: (N,), float32.
        next_value: V(s'), (N,), float32.
        terminated: (N,) bool, the world ended at s'.
        truncated: (N,) bool, the recording ended at s'.
        discount: in [0, 1].

    Returns:
        The targets, (N,).
    """
    ### BEGIN SOLUTION
    return reward + discount * next_value * ~terminated
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
bootstrap_target = check("bootstrap_target", bootstrap_target)

# %% [markdown]
# Measure what the mistake costs. A simple rule, pushing to the side the pole leans and falls to, balances it for as long
# as anybody watches. You watch for 50 steps. With a reward of 1 a step and a discount of 0.99, a life without end is worth
# 1 / (1 − 0.99) = 100. The smallest value function there is, one number for every state, is set again and again to the
# mean of your targets. Beside it stands the same for random pushes, where the pole does fall.


# %%
def one_value(episodes: list[Episode], target) -> float:
    """The single number that equals the mean of its own targets."""
    columns = zip(*((e.reward, e.terminated, e.truncated) for e in episodes), strict=True)
    reward, terminated, truncated = (torch.cat(column) for column in columns)
    value = torch.zeros(())
    for _ in range(1500):
        value = target(reward, value.expand(len(reward)), terminated, truncated, 0.99).mean()
    return value.item()


rules = {
    "yours": bootstrap_target,
    "truncated treated as terminated": lambda r, v, end, cut, d: bootstrap_target(
        r, v, end | cut, cut, d
    ),
    "nothing ever ends": lambda r, v, end, cut, d: bootstrap_target(r, v, end & ~end, cut, d),
}
watched = make("CartPole-v1", max_episode_steps=50)


def balance(obs: np.ndarray) -> int:
    """Push to the side where the pole leans, or is about to."""
    return int(obs[2] + 0.5 * obs[3] > 0)


stands = [Episode(*record_episode(watched, balance, seed)) for seed in range(20)]
values = {name: (one_value(stands, rule), one_value(falls, rule)) for name, rule in rules.items()}

# %%
# NBVAL_CHECK_OUTPUT
print(f"balancing: all 20 recordings truncated: {all(bool(e.truncated[-1]) for e in stands)}")
print(
    f"balancing: watched for longer, stands all 500: {len(record_episode(cart, balance, 0)[1]) == 500}"
)
print(f"{'rule':<34}{'balancing':>10}{'falling':>10}")
for name, (up, down) in values.items():
    print(f"{name:<34}{up:>10.1f}{down:>10.1f}")

# %% [markdown]
# The middle row thinks a perfect balancer is worth a third of what it is, because somebody stopped watching. The last row
# thinks that falling is as good as standing. Neither raises an error. In the pendulum, treating truncated as
# terminated spoils every single episode, because none of them ever terminates.
#
# ## What the model buys
#
# Now count. How many real steps does a model need before its dreams are good enough to act on? Fit dynamics and reward on the
# first 20, 50, 200 or 1,000 random steps, and let the planner steer from a new start. Two opponents: random
# torques, and an honest, simple *model-free* search that never models anything. It draws linear rules "torque = weights ·
# observation", tries each for one real episode, and keeps the best. Five seeds each.

# %%
SIZES, SEEDS, TRIES = [20, 50, 200, 1000], range(5), [1, 5, 20]


def score(policy, seed: int) -> float:
    """The return of one real episode from a start that no model has seen."""
    return discounted_return(record_episode(env, policy, 1000 + seed)[2], 1.0)[0].item()


def by_imagination(steps: int, seed: int) -> float:
    """Learn from this many random steps, then plan."""
    episodes = record_episodes(env, random_policy(env, seed), max(1, steps // 200), 10 * seed)
    columns = zip(*((e.obs[:-1], e.action, e.obs[1:], e.reward) for e in episodes), strict=True)
    obs, action, next_obs, reward = (torch.cat(column)[:steps] for column in columns)
    model, reward_model = fit_dynamics(obs, action, next_obs), fit_reward(obs, action, reward)
    return score(planner(model, reward_model, seed), seed)


def by_trying(tries: int, seed: int) -> float:
    """The best of `tries` random linear rules, each tried for one real episode of 200 steps."""
    weights = np.random.default_rng(seed).normal(size=(tries, 3)) * [3, 3, 1]
    rules = [lambda obs, w=w: np.clip([obs @ w], -2, 2).astype(np.float32) for w in weights]
    tried = [record_episode(env, rule, 10 * seed + i)[2].sum() for i, rule in enumerate(rules)]
    return score(rules[int(np.argmax(tried))], seed)


planned = torch.tensor([[by_imagination(steps, seed) for steps in SIZES] for seed in SEEDS])
tried = torch.tensor([[by_trying(tries, seed) for tries in TRIES] for seed in SEEDS])
chance = torch.tensor([[score(random_policy(env, seed), seed)] for seed in SEEDS])

# %%
fig, axis = plots.figure(width=6.2, height=3.4)
plots.curve(axis, SIZES, planned, "aligned", "world model and planning")
plots.curve(
    axis, [200 * tries for tries in TRIES], tried, "model-free", "model-free: best of random rules"
)
plots.curve(axis, [20, 4000], chance.expand(5, 2), "random", "random torques")
axis.set(
    xscale="log", xlabel="real steps used (0.05 s each)", ylabel="return of one episode (best: 0)"
)
axis.set_title("Ten seconds of twitching are enough to swing up\n(median and range of 5 seeds)")
axis.legend(fontsize=8, loc="lower right")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
middle, worst = planned.median(0).values, planned.min(0).values
print(f"planning after 20 real steps: median above -200: {middle[0] > -200}", end="; ")
print(f"every seed above -600: {worst[0] > -600}")
print(f"planning after 200 real steps: median above -200: {middle[2] > -200}", end="; ")
print(f"every seed above -600: {worst[2] > -600}")
print(f"model-free after 4,000 real steps: median below -600: {tried[:, -1].median() < -600}")
print(f"random torques: median below -600: {chance.median() < -600}")

# %% [markdown]
# Two hundred steps are ten seconds of a pendulum's life. Between two real actions the planner then lives through 64 futures.
# That is what imagination buys.
#
# **What this does not show.** The features of this model were picked by somebody who knows pendulums; lesson 01 learns
# them from data. The model-free opponent is the simplest there is; lessons 10 and 11 bring strong ones. And the
# range at few steps is wide: a model that has seen one corner of the world dreams badly of the rest. Lesson 08 asks how a
# model could know that.
#
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | the action is one step late or early | a fine loss, a swap ratio near 1, and plans that do nothing |
# | actions hardly vary in your data | the swap ratio is low even when all is aligned: compare with an aligned model, and vary the actions |
# | steps across episode boundaries are kept | a few huge errors; the median error is small and the mean is not |
# | `truncated` treated as `terminated` | values are too low, the more so the shorter the recordings |
# | `terminated` ignored | values of states just before the end are too high |
# | the action is visible in the frame | an encoder that seems to know the future: draw two frames of one state after different actions, and compare them |
# | an episode recorded without a seed | nobody can repeat it, you included |
#
# ## Links
#
# - Ha and Schmidhuber, *World Models*, arXiv:1803.10122: the paper that named the field; lesson 12 rebuilds it.
# - Sutton, *Dyna, an Integrated Architecture for Learning, Planning, and Reacting*, 1991: learning from imagined steps,
#   thirty years earlier; lesson 10.
# - Towers and others, *Gymnasium: A Standard Interface for Reinforcement Learning Environments*, arXiv:2407.17032.
# - Pardo and others, *Time Limits in Reinforcement Learning*, arXiv:1712.00378: terminated against truncated.
# - Hafner and others, *Dream to Control*, arXiv:1912.01603: where this course is heading; lesson 11.
#
# **Next.** Lesson 01 replaces the hand-picked features by a network, gives its predictions an uncertainty, and measures how
# the error of a dream grows with every step.
