# %% [markdown]
# # 00 Start here: an agent that practices in its head
#
# **Claim.** A model of the world, learned from 100 seconds of aimless motion, is enough to swing up a pendulum that nobody
# has ever seen stand. One list shifted by one place is enough to ruin it, without any error message.
#
# The pendulum of this course hangs on a motor that is too weak to lift it. It has to swing to and fro, and gather speed.
# First record ten episodes of random torques. Then fit two models of the world to them: given an observation and an
# action, what is observed next, and what reward comes? The two models see the same data, with the same method, least
# squares. They differ in one place only, and you will be told where.

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from wmcourse import plots, worlds
from wmcourse.exercises import check, grade, hint
from wmcourse.replay import Episode, Replay, random_policy, record_episodes
from wmcourse.start_here import draw_components, fit_pendulum, imagine, planner

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

pendulum = worlds.make_pendulum()
recorded = record_episodes(pendulum, random_policy(pendulum, seed=0), count=10, seed=0)
held_out = record_episodes(pendulum, random_policy(pendulum, seed=1), count=5, seed=100)


def transitions(episodes: list[Episode], late: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All (obs, action, next_obs, reward); `late` pairs each action with what was seen later."""
    parts = []
    for obs, action, reward, *_ in episodes:
        steps = len(action) - late
        parts.append((obs[late:-1], action[:steps], obs[late + 1 :], reward[late:]))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


model = {
    "aligned": fit_pendulum(*transitions(recorded)),
    "misaligned": fit_pendulum(*transitions(recorded, late=1)),
}

# %%
# NBVAL_CHECK_OUTPUT
print(f"recorded: {sum(len(e.action) for e in recorded)} steps of 0.05 s, random torques")
for late, (name, step) in enumerate(model.items()):
    obs, action, next_obs, reward = transitions(held_out, late)  # paired as it was trained
    seen, earned = step(obs, action)
    unexplained = ((seen - next_obs).var(0) / next_obs.var(0)).max().item()
    missed = ((earned - reward).var() / reward.var()).item()
    print(
        f"{name:<10}  explains over 99 % of the next observation: {unexplained < 0.01},"
        f" of the reward: {missed < 0.01}"
    )

# %% [markdown]
# Both look excellent on episodes they have not seen. Now let each of them think. Before it acts, an agent imagines 64
# random futures of 24 steps inside its model, takes the first two actions of the best one, and thinks again. It has never
# practiced. All that it knows of the world is in the model.

# %%
STARTS = range(900, 905)  # seeds of five starts that no model has seen


def play(policy) -> list[Episode]:
    """An episode from each of the five starts."""
    return [record_episodes(pendulum, policy, 1, seed)[0] for seed in STARTS]


played = {name: play(planner(step, seed=0)) for name, step in model.items()}
played["random"] = play(random_policy(pendulum, seed=2))


def mean_return(episodes: list[Episode]) -> float:
    """The sum of the rewards of an episode, on average over the episodes."""
    return torch.stack([episode.reward.sum() for episode in episodes]).mean().item()


# %%
# NBVAL_CHECK_OUTPUT
print(
    f"plans with the aligned model, mean return above -400: {mean_return(played['aligned']) > -400}"
)
print(f"plans with the misaligned model, below -1000: {mean_return(played['misaligned']) < -1000}")
print(f"random torques, below -800: {mean_return(played['random']) < -800}")

# %%
fig, (left, right) = plots.figure(1, 2, width=5.2, height=3)
for name in ["aligned", "misaligned", "random"]:
    height = torch.stack([episode.obs[:, 0] for episode in played[name]])
    plots.curve(left, torch.arange(201) * 0.05, height, name)
left.set(
    title="One of two good models can act", xlabel="time (s)", ylabel="height of the tip (1 = up)"
)
left.legend(fontsize=7, loc="lower right")
for name in ["aligned", "misaligned", "random"]:
    value = mean_return(played[name])
    right.barh(name, value, color=plots.METHODS[name][0])
    right.text(value, name, f"{value:.0f} ", ha="right", va="center", fontsize=8)
right.set(title="Mean return of five episodes", xlabel="return (0 is best)", xlim=(-2100, 0))
right.invert_yaxis()
plt.show()

# %% [markdown]
# The line is the median of five episodes, the band their range. The aligned model lifts the pendulum on every start. Its
# twin does no better than chance. In its training data each action stood beside the observation that came one step too
# late. The losses did not tell. By the end of this lesson you have a test that does.
#
# **What you will be able to do**
#
# - say what a world model is made of, and what it buys;
# - drive any Gymnasium environment, and record it so that nothing is lost or shifted;
# - cut a stream of episodes where no step happened, and tell an ended world from an ended recording;
# - catch a model that is blind to actions.
#
# **Time:** about 60 minutes. **Before:** Python, and a first meeting with PyTorch tensors.
#
# ## The idea
#
# A world model is a learned copy of how the world answers. Give it a state and an action, and it says what comes next. It
# buys two things. *Sample efficiency*: real steps are slow, dear or dangerous, and each one can be used again and again to
# train the model. *Imagination*: inside the model you may try a thousand futures, fall a thousand times, and pick the one
# you like. It has four components.
#
# | component | formula | in words | taught in |
# |---|---|---|---|
# | encoder | $z = E(s)$ | from what is seen (a frame, noisy numbers) to a small latent state | 02 to 04 |
# | dynamics | $z' = f(z, a)$ | what the latent state becomes under an action | 01, 05 to 07 |
# | reward | $r = g(z, a)$ | what the step earns | 01, 05 |
# | decoder, optional | $\hat s = D(z)$ | back to what is seen, to train by and for you to look at | 02, 04 |

# %%
fig, axis = plots.figure(width=7.2, height=2.9)
draw_components(axis)
axis.set_title("Two steps of imagination from one real observation")
plt.show()

# %% [markdown]
# After the first box nothing real comes in. The model lives on its own predictions, and on the actions that somebody picks.
# The pendulum above already shows its state, so its encoder and its decoder are the identity: z = s.
#
# Picking actions needs a goal. It is the *return*: the reward now, and all that is still to come, where each step of
# waiting multiplies by a discount $\gamma$.
#
# $$ G_t = r_t + \gamma\, r_{t+1} + \gamma^2 r_{t+2} + \dots = r_t + \gamma\, G_{t+1} $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $s_t$, $s_{t+1}$ | `obs`, `next_obs` | (N, O): N steps, O numbers each |
# | $a_t$ | `action` | (N, A) |
# | $r_t$ | `reward` | (T,) in an episode of T steps |
# | $\gamma$ | `discount`, in [0, 1] | a number |
# | $G_t$ | the result | (T,) |
#
# ## How exercises work here
#
# An exercise is a function with its body left out. Write it, run the cell, then run the check below it. The check tries
# your function on cases that each have a name, and says what it found. Here is what it says to a wrong answer.


# %%
# NBVAL_CHECK_OUTPUT
def forgets_the_discount(reward: Tensor, discount: float) -> Tensor:
    """A wrong discounted_return."""
    return reward.flip(0).cumsum(0).flip(0)


print(grade("discounted_return", forgets_the_discount, hidden=False))

# %% [markdown]
# The first failing case has the message to read: what came, what the mistake probably is, and a question. Stuck? Each
# exercise has three hints, and each says more than the last. Run the next cell again for the next hint.

# %%
hint("discounted_return")

# %% [markdown]
# As long as an exercise is open or wrong, the check hands back the course's own function, and says so. So the lesson always
# runs to its end, and you can come back later. Once your answer is right, everything below runs on your code. Your turn.


# %% exercise="discounted_return"
def discounted_return(reward: Tensor, discount: float) -> Tensor:
    """The return at every step of an episode: G_t = r_t + discount * G_{t+1}.

    Args:
        reward: the rewards of an episode, (T,) float32.
        discount: in [0, 1].

    Returns:
        G, (T,) float32. After the last step nothing is to come.
    """
    ### BEGIN SOLUTION
    to_come = torch.zeros(())
    returns = []
    for r in reward.flip(0):
        to_come = r + discount * to_come
        returns.append(to_come)
    return torch.stack(returns).flip(0)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
discounted_return = check("discounted_return", discounted_return)

# %% [markdown]
# Hand it the first swing-up from above. The return looks ahead, so it rises before the reward does.

# %%
swing = played["aligned"][0]
value = discounted_return(swing.reward, 0.95)

fig, axis = plots.figure(width=5.6, height=2.8)
time = torch.arange(len(swing.reward)) * 0.05
axis.plot(time, swing.reward, color="#999999", label="reward $r_t$")
axis.plot(time, value * 0.05, color="#0072B2", label="return $G_t$, scaled by 1 - discount")
axis.set(
    title="The return sees the swing-up coming", xlabel="time (s)", ylabel="reward, scaled return"
)
axis.legend(fontsize=7, loc="lower right")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
halfway = -4.0


def first_above(x: Tensor) -> int:
    """The first step from which x stays above halfway."""
    return int((x <= halfway).nonzero().max()) + 1


lead = first_above(swing.reward) - first_above(value * 0.05)
print(f"the return passes the halfway mark before the reward: {lead > 0}")

# %% [markdown]
# Your solved exercises are remembered. In a terminal `wmcourse progress` prints them for the whole course; here it is for
# this lesson. `wmcourse start FOLDER` copies the lessons into a folder of your own. When the course has moved on,
# `wmcourse start FOLDER --update` brings the new version and carries your answers over. What you wrote is never lost.

# %%
from wmcourse.exercises import catalogue
from wmcourse.grading.progress import progress_table

print(progress_table([e for e in catalogue() if e.lesson == "00_start_here"]))

# %% [markdown]
# ## The loop
#
# Every world in this course speaks Gymnasium. `reset` begins an episode and gives the first observation. `step` takes an
# action and gives back five things.

# %%
# NBVAL_CHECK_OUTPUT
cartpole = worlds.make_cartpole()
for name, env in {"Pendulum-v1": pendulum, "CartPole-v1": cartpole}.items():
    obs, info = env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    next_obs, reward, terminated, truncated, info = env.step(action)
    print(f"{name}: observation {obs.shape}, action {np.shape(action)}")
    print(f"  terminated {terminated}, truncated {truncated}, one reward: {np.ndim(reward) == 0}")

# %% [markdown]
# The pendulum shows (cos, sin) of its angle and its angular velocity; the action is a torque from -2 to 2. The cart shows
# its position and velocity, and the angle and angular velocity of its pole; the action is 0, push left, or 1, push right.
# Both can be seen as frames, too. Frames are what lesson 02 learns from.

# %%
pixels = worlds.make_pendulum(pixels=True)
film = record_episodes(pixels, random_policy(pixels, seed=0, hold=10), 1, seed=3)[0]
filmed = worlds.make("CartPole-v1", render_mode="rgb_array")
filmed.reset(seed=0)
pictures = []
for _ in range(12):
    pictures.append(filmed.render()[150:350, 200:400].min(axis=2))  # crop to the cart
    filmed.step(1)  # always push right

fig, (top, bottom) = plots.figure(2, 1, width=7.2, height=1.1)
plots.frames(top, film.obs[:40:5], "Pendulum-v1\n32 x 32")
ink = 255 - torch.as_tensor(np.stack(pictures))[::2, None]
plots.frames(bottom, ink[:6, :, ::2, ::2], "CartPole-v1\npushed right")
fig.suptitle("What a camera sees: every 5th step, and every 2nd", fontsize=10)
plt.show()

# %% [markdown]
# Two flags can end an episode. `terminated`: the world is over, for instance the pole has fallen. `truncated`: somebody
# stopped the recording, for instance a limit of 200 steps. They mean different things, as you will see. Either of them
# ends the loop.
#
# Now record. The convention of the whole course is this: `obs[t]` is seen, then `action[t]` is taken, then `reward[t]`,
# `terminated[t]`, `truncated[t]` and `obs[t + 1]` come back. Count them on your fingers: how many observations does an
# episode of T steps have?


# %% exercise="record_episode"
def record_episode(env, policy, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Play one episode to its end.

    Args:
        env: a Gymnasium environment: env.reset(seed=seed) gives (obs, info),
            env.step(action) gives (obs, reward, terminated, truncated, info).
        policy: from an observation, a numpy array (O,), to an action for env.step.
        seed: handed to env.reset.

    Returns:
        obs (T + 1, O) float32, action (T, A) float32 (whole numbers (T,) stay whole),
        reward (T,) float32, terminated (T,) bool and truncated (T,) bool.
    """
    ### BEGIN SOLUTION
    seen, _ = env.reset(seed=seed)
    obs, action, reward, terminated, truncated = [seen], [], [], [], []
    over = False
    while not over:
        action.append(policy(seen))
        seen, earned, ended, cut, _ = env.step(action[-1])
        obs.append(seen)
        reward.append(earned)
        terminated.append(ended)
        truncated.append(cut)
        over = ended or cut
    return (
        torch.as_tensor(np.array(obs)),
        torch.as_tensor(np.array(action)),
        torch.as_tensor(np.array(reward, np.float32)),
        torch.as_tensor(np.array(terminated)),
        torch.as_tensor(np.array(truncated)),
    )
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
record_episode = check("record_episode", record_episode)

# %% [markdown]
# Put it to work: 20 episodes of each world by random actions, and 20 of the cart in good hands.


# %%
def steady(obs) -> int:
    """Push towards the side to which the pole falls."""
    return int(3 * obs[2] + obs[3] + 0.1 * obs[1] + 0.05 * obs[0] > 0)


runs = {
    "Pendulum-v1, random": (pendulum, random_policy(pendulum, seed=3)),
    "CartPole-v1, random": (cartpole, random_policy(cartpole, seed=3)),
    "CartPole-v1, steady": (cartpole, steady),
}
tapes = {
    name: [Episode(*record_episode(env, policy, seed)) for seed in range(20)]
    for name, (env, policy) in runs.items()
}

# %%
# NBVAL_CHECK_OUTPUT
for name, tape in tapes.items():
    ended = sum(bool(e.terminated[-1]) for e in tape)
    cut = sum(bool(e.truncated[-1]) for e in tape)
    complete = all(len(e.obs) == len(e.action) + 1 for e in tape)
    print(f"{name}: ended by the world {ended} times, by the time limit {cut} times")
    print(f"  one observation more than actions, always: {complete}")

# %% [markdown]
# ## Where one episode ends and the next begins
#
# Training likes one long array, so episodes are laid end to end in a *stream*. The flag `first` marks the first row of
# each. The last row of an episode holds its last observation. No action was taken there: its row in `action` is filled
# with zeros. So not every row and the row after it make a step.
#
# | row | 0 | 1 | 2 | 3 | 4 | 5 |
# |---|---|---|---|---|---|---|
# | `obs` | $s_0$ | $s_1$ | $s_2$ | $s_0$ | $s_1$ | $s_2$ |
# | `action` | $a_0$ | $a_1$ | none | $a_0$ | $a_1$ | none |
# | `first` | True | False | False | True | False | False |
#
# Which of the five neighboring pairs happened?


# %% exercise="stream_transitions"
def stream_transitions(obs: Tensor, action: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The steps of a stream that happened.

    Args:
        obs: episodes end to end, (N, O). The stream may begin in the middle of an episode.
        action: taken at obs, (N, A); no action was taken at the last row of an episode.
        first: whether a row is the first of its episode, (N,) bool.

    Returns:
        obs (M, O), action (M, A) and next_obs (M, O) of the M steps, in order.
    """
    ### BEGIN SOLUTION
    same = ~first[1:]
    return obs[:-1][same], action[:-1][same], obs[1:][same]
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
stream_transitions = check("stream_transitions", stream_transitions)

# %% [markdown]
# Does it matter? Random actions drop the pole after some twenty steps, so only every twentieth pair is wrong. Fit a linear
# model of the cart with your function, and one on all neighboring rows. Test both on real steps of fresh episodes.


# %%
def stream_of(env, seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """obs (N, 4), action (N, 1) and first (N,) of `count` random episodes, end to end."""
    replay = Replay()
    replay.add(*record_episodes(env, random_policy(env, seed), count, 1000 * seed))
    rows = replay.stream()
    return rows.obs[0], rows.action[0].float()[:, None], rows.first[0]


def fit_linear(obs: Tensor, action: Tensor, next_obs: Tensor):
    """The best linear model of the change, by least squares: predict(obs, action)."""

    def features(obs: Tensor, action: Tensor) -> Tensor:
        return torch.cat([obs, action, torch.ones(len(obs), 1)], 1)

    weight = torch.linalg.lstsq(features(obs, action), next_obs - obs).solution
    return lambda obs, action: obs + features(obs, action) @ weight


obs, action, first = stream_of(cartpole, seed=1, count=200)
cut_model = fit_linear(*stream_transitions(obs, action, first))
careless_model = fit_linear(obs[:-1], action[:-1], obs[1:])
now, taken, after = stream_transitions(*stream_of(cartpole, seed=2, count=50))
error = {
    name: (predict(now, taken) - after).square().mean().item()
    for name, predict in [
        ("cut", cut_model),
        ("careless", careless_model),
        ("copy last", lambda obs, action: obs),
    ]
}
falling = torch.tensor([[0.0, 0.0, 0.15, 1.0]])  # 0.15 rad to the right, and 1 rad/s more
push = torch.zeros(1, 1)

# %%
# NBVAL_CHECK_OUTPUT
crossing = int(first[1:].sum()) / (len(obs) - 1)
print(f"steps that never happened, of all pairs: {100 * crossing:.0f} %")
print(f"they make the error at least 1000 times larger: {error['careless'] > 1000 * error['cut']}")
print("a pole at 0.15 rad falls at 1 rad/s; where will it be in 0.02 s?")
print(f"  cut at the boundaries: {cut_model(falling, push)[0, 2]:.2f} rad")
print(f"  careless:              {careless_model(falling, push)[0, 2]:.2f} rad")

# %% [markdown]
# The careless model believes that falling poles get up again. In its data they did, once in every episode: a new one began
# upright. An agent that plans with this model learns to fall, and hopes.
#
# ## The test that catches the shift
#
# Back to the twins of the cold open. Why did the losses not tell? One torque of one step turns the pendulum only a little.
# A model may ignore the action altogether and still predict well, because the rest of the physics explains nearly
# everything. The shifted pairs made it do just that: under random torques the action beside an observation had
# nothing to do with what came next.
#
# So ask a counterfactual question. What would the model have said, had somebody else's action been taken? Let the actions
# change places among the batch. The prediction of a model that heeds actions must get much worse. That of a blind model
# stays as it is.
#
# $$ \text{swap ratio} = \frac{\operatorname{mean}\,\lVert f(s, a_{\pi}) - s' \rVert^2}
#    {\operatorname{mean}\,\lVert f(s, a) - s' \rVert^2} $$
#
# Here $f$ is `predict`, $\pi$ is `order`, a permutation (N,) of the rows, and $a_\pi$ gives row i the action of row
# `order[i]`. Both means run over all numbers of `next_obs` (N, O).


# %% exercise="swap_ratio"
def swap_ratio(predict, obs: Tensor, action: Tensor, next_obs: Tensor, order: Tensor) -> Tensor:
    """How many times the mean squared error grows when the actions change places.

    Args:
        predict: the model, predict(obs, action) gives the predicted next_obs, (N, O).
        obs: (N, O).
        action: the actions really taken, (N, A).
        next_obs: what really came next, (N, O).
        order: a permutation of the rows, (N,) int64; row i gets the action of row order[i].

    Returns:
        The error with swapped actions over the error with the true ones, a scalar tensor.
    """

    ### BEGIN SOLUTION
    def error(taken: Tensor) -> Tensor:
        return (predict(obs, taken) - next_obs).square().mean()

    return error(action[order]) / error(action)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
swap_ratio = check("swap_ratio", swap_ratio)

# %% [markdown]
# Now question the twins, on transitions that are paired as they happened. Copying the last observation is the control: it
# looks at no action, so its ratio must be 1. Five pairs of twins, each trained on data of their own.


# %%
def next_obs_of(step):
    """A model's prediction of the next observation alone, without the reward."""
    return lambda obs, action: step(obs, action)[0]


ratios = {"aligned": [], "misaligned": [], "copy last": []}
obs, action, next_obs, _ = transitions(held_out)
order = torch.randperm(len(obs), generator=torch.Generator().manual_seed(0))
for seed in range(5):
    policy = random_policy(pendulum, seed=10 + seed)
    data = record_episodes(pendulum, policy, count=10, seed=1000 * (1 + seed))
    for late, name in enumerate(["aligned", "misaligned"]):
        predict = next_obs_of(fit_pendulum(*transitions(data, late)))
        ratio = swap_ratio(predict, obs, action, next_obs, order)
        ratios[name].append(ratio.item())
    ratios["copy last"].append(
        swap_ratio(lambda obs, action: obs, obs, action, next_obs, order).item()
    )

# %%
# NBVAL_CHECK_OUTPUT
print(f"aligned: above 50 in all five: {min(ratios['aligned']) > 50}")
print(
    f"misaligned: between 0.7 and 1.3 in all five: {all(0.7 < r < 1.3 for r in ratios['misaligned'])}"
)
print(f"copy last: {ratios['copy last'][0]:.2f}")

# %% [markdown]
# What does blindness look like? Take the torques of a real swing-up, and let both twins imagine the same two seconds from
# its first observation, each on its own predictions, with no correction on the way. The baseline stands still.

# %%
HORIZON = 40  # steps of 0.05 s
real = swing.obs[: HORIZON + 1]
rows = {"real": real}
for name, step in model.items():
    rows[name] = imagine(step, real[0], swing.action[:HORIZON])[0]
rows["copy last"] = real[:1].expand(HORIZON + 1, 3)

fig, axes = plots.figure(len(rows), 1, width=7.2, height=0.72)
for axis, (name, path) in zip(axes, rows.items(), strict=True):
    plots.frames(axis, worlds.render_angles(worlds.angle_of(path[::4])), name)
fig.suptitle("Two seconds of a real swing-up, and the same two seconds imagined", fontsize=10)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
for name in ["aligned", "misaligned"]:
    gap = (worlds.angle_of(rows[name]) - worlds.angle_of(real) + torch.pi) % (2 * torch.pi)
    print(f"{name}: ends within 0.3 rad of the truth: {bool((gap[-1] - torch.pi).abs() < 0.3)}")

# %% [markdown]
# The aligned twin dreams what happens. The blind one dreams a pendulum without a motor: it swings as a free pendulum would,
# and no torque in its dream does anything. Every plan looks alike to it. This is why it cannot act.
#
# ## What the model bought, and what it did not
#
# How much of the success was the model's? Three more agents play the same five starts. One plans in the true physics
# instead of the learned: that is the best this search can do. One is model-free and has the same 2,000 real steps: it tries
# ten random linear controllers, an episode each, and keeps the best. And one is the misaligned twin again, whose data now
# hold each torque for three steps.


# %%
def physics(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Gymnasium's own pendulum, in torch: the next observation and the reward."""
    angle, velocity, torque = worlds.angle_of(obs), obs[..., 2], action[..., 0]
    reward = -(angle**2 + 0.1 * velocity**2 + 0.001 * torque**2)
    velocity = (velocity + 0.05 * (15 * angle.sin() + 3 * torque)).clamp(-8, 8)
    angle = angle + 0.05 * velocity
    return torch.stack([angle.cos(), angle.sin(), velocity], -1), reward


def controller(weight: np.ndarray):
    """A linear controller: torque = weight · obs, within the motor's limits."""
    return lambda obs: np.clip([weight @ obs], -2, 2).astype(np.float32)


weights = np.random.default_rng(0).normal(0, 4, (10, 3))
tried = [mean_return(record_episodes(pendulum, controller(w), 1, i)) for i, w in enumerate(weights)]
played["ten linear controllers"] = play(controller(weights[int(np.argmax(tried))]))
played["true physics"] = play(planner(physics, seed=0))

held = record_episodes(pendulum, random_policy(pendulum, seed=0, hold=3), count=10, seed=0)
held_step = fit_pendulum(*transitions(held, late=1))
played["misaligned, torques held"] = play(planner(held_step, seed=0))
held_ratio = swap_ratio(next_obs_of(held_step), obs, action, next_obs, order).item()

# %%
for name, episodes in played.items():
    print(f"{name:<26} mean return {mean_return(episodes):6.0f}")

# %%
# NBVAL_CHECK_OUTPUT
gap = mean_return(played["true physics"]) - mean_return(played["aligned"])
print(f"the learned model plays within 50 of the true physics: {abs(gap) < 50}")
linear = mean_return(played["ten linear controllers"])
print(f"the best of ten linear controllers stays below -1000: {linear < -1000}")
held_return = mean_return(played["misaligned, torques held"])
print(f"misaligned, but torques held for three steps: above -400: {held_return > -400}")
print(
    f"  its swap ratio is below a tenth of the aligned one's: {held_ratio < 0.1 * min(ratios['aligned'])}"
)

# %% [markdown]
# Read it with care. The features of this small model were chosen by people who know how a pendulum moves. Lesson 01 learns
# without that help. The ten controllers are a weak opponent; lessons 10 and 11 bring strong model-free ones and count their
# real steps. And look at the last row: where torques are held, the neighbor's action is mostly the right one, and the bug
# costs nothing that a return would show. It waits for the day on which the policy gets quicker. The swap ratio sees it
# already.
#
# ## When the recording ends and the world does not
#
# One more flag to get right. A *value* V(s) is the return you expect from a state. It can be learned without waiting for
# the end of an episode: one real reward, and the value of where you are now stands in for the rest. This is called
# *bootstrapping*, and the sum is a *target*. Where the world has ended, nothing stands in. Where only the recording has
# ended, the future is still worth something. You just did not film it.
#
# Write the target. `reward` (N,) is $r$, `next_value` (N,) is $V(s')$.


# %% exercise="bootstrap_target"
def bootstrap_target(
    reward: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, discount: float
) -> Tensor:
    """What the value of a state should be, seen one step later.

    Args:
        reward: what the step earned, (N,).
        next_value: the value of the state it led to, (N,).
        terminated: whether the world ended there, (N,) bool.
        truncated: whether only the recording ended there, (N,) bool.
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
# The steady hand balances the pole for as long as you let it. Every step earns 1, so with discount 0.99 standing is worth
# 1 + 0.99 + 0.99² + ... = 100. Record it with a time limit of 50 steps, and learn its value, one number, by taking the
# mean of your targets again and again. Then make the common mistake: hand in "truncated" as "terminated".

# %%
short = gym.make("CartPole-v1", max_episode_steps=50)
tape = [Episode(*record_episode(short, steady, seed)) for seed in range(20)]
reward, terminated, truncated = (
    torch.cat([getattr(e, part) for e in tape]) for part in ("reward", "terminated", "truncated")
)


def learned_value(terminated: Tensor, truncated: Tensor) -> float:
    """The value that agrees with its own targets."""
    value = torch.tensor(0.0)
    for _ in range(2000):
        next_value = value.expand(len(reward))
        value = bootstrap_target(reward, next_value, terminated, truncated, 0.99).mean()
    return value.item()


# %%
# NBVAL_CHECK_OUTPUT
print(
    f"episodes that the world ended: {int(terminated.sum())}, that the time limit cut: {int(truncated.sum())}"
)
print(f"value of balancing, flags as recorded: {learned_value(terminated, truncated):.0f}")
print(f"truncated taken for terminated: {learned_value(terminated | truncated, truncated):.0f}")

# %% [markdown]
# The same 1,000 perfect steps, and two thirds of their worth are gone. Nothing crashed. The agent just learned that the
# world ends after 50 steps, for no reason that it can see.
#
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | an action paired with the wrong observation | good losses, a swap ratio near 1, plans that do nothing |
# | pairs across an episode boundary | a model in which failures undo themselves; errors that come from few rows |
# | the last observation of an episode dropped | the model never sees where an episode ends, nor what ended it |
# | `truncated` taken for `terminated` | values far too low, and lower the shorter the time limit |
# | one array stored again and again, where an environment reuses it | every observation equals the last one |
# | no seed for `reset` | nobody can repeat your result, you included |
# | a model judged by its loss alone | nothing at all, until something has to act |
#
# ## Links
#
# - Ha and Schmidhuber, *World Models*, arXiv:1803.10122: a car that learns to drive in its own dream. Lesson 12 builds it.
# - Sutton, *Dyna, an Integrated Architecture for Learning, Planning, and Reacting* (1991): the idea, decades before.
# - Hafner and others, *Dream to Control*, arXiv:1912.01603: Dreamer, which learns its actions by imagination alone.
# - Pardo and others, *Time Limits in Reinforcement Learning*, arXiv:1712.00378: terminated against truncated.
# - Towers and others, *Gymnasium*, arXiv:2407.17032: the interface.
#
# **Next.** Lesson 01 replaces the hand-picked features by a network, gives its predictions a spread, and asks how far ahead
# a model can be trusted.
