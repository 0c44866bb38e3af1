# %% [markdown]
# # 08 Ensembles: know what you do not know
#
# **Claim.** Several models, each trained on a bootstrap of its own, tell two kinds of doubt apart: the noise of the world,
# which no data removes, and the gaps in the data, which data fills. A planner can seek the second kind, or keep away from it.
#
# A raft with a motor drifts along a river full of eddies, from -3 to 3 km. There are recordings from everywhere except the
# 2 km in the middle. At -2 km a camp pays a little, at 2 km a camp pays three times as much. What nobody recorded: in the
# middle grow reeds, and a raft that enters them stays there. Here is the river.

# %%
import json
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wmcourse import plots
from wmcourse.ensembles import fit_ensemble
from wmcourse.exercises import check, hint
from wmcourse.exploration import best_sequence, cells_seen, explore, held_actions, on_the_circle
from wmcourse.replay import Transitions
from wmcourse.worlds import angle_of, gust_std, make_rusty_pendulum

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

GAP, REEDS, THRUST = 1.0, 0.7, 0.6  # km: no recordings below GAP from the middle, reeds below REEDS


def current(position: Tensor) -> Tensor:
    return 0.3 * torch.sin(2 * position)


def gust(position: Tensor) -> Tensor:
    """The standard deviation of the wind, km a step: we made this world, so we know it."""
    return 0.03 + 0.09 * torch.sigmoid(2 * position)


def river(position: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The true world: (N, 1) three times to the next position (N, 1) and the pay there (N,)."""
    moved = position + current(position) + THRUST * action.clamp(-1, 1) + gust(position) * noise
    reached = torch.where(position.abs() < REEDS, position, moved)
    pay = 0.5 * torch.exp(-2 * (reached + 2) ** 2) + 1.5 * torch.exp(-2 * (reached - 2) ** 2)
    return reached, pay[:, 0]


def record(count: int, seed: int, everywhere: bool = False) -> Transitions:
    """Single steps from positions all over the river, without the gap unless everywhere."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(2 * count, 1, generator=generator) * 6 - 3
    position = position[everywhere | (position.abs() > GAP)[:, 0]][:count]
    action = 2 * torch.rand(count, 1, generator=generator) - 1
    reached, pay = river(position, action, torch.randn(count, 1, generator=generator))
    return Transitions(position, action, pay, reached, torch.zeros(count, dtype=torch.bool))


# %% [markdown]
# And here is a model of it: one Gaussian network, trained as in lesson 01 and tested on held-out steps. A planner tries 300
# action sequences of 20 steps in it and keeps the one that earns most, then acts on the true river.


# %%
@torch.no_grad()
def play(model, seed: int, steps: int = 40) -> Tensor:
    """Plan in `model`, act on the true river, plan again after every second step: positions and pay, (steps, 2)."""
    generator = torch.Generator().manual_seed(seed)
    position, log = torch.tensor([[-2.5]]), []
    for t in range(steps):
        if t % 2 == 0:
            tries = held_actions(300, horizon=20, hold=4, reach=1.0, generator=generator)
            plan = best_sequence(model, position[0], tries)
        noise = torch.randn(1, 1, generator=generator)
        position, pay = river(position, plan[t % 2][None], noise)
        log.append(torch.stack([position[0, 0], pay[0]]))
    return torch.stack(log)


SETTINGS = dict(hidden=(64, 64), steps=1200, batch=128, learning_rate=1e-2, gain=3**0.5)
recorded, held_out = record(1500, seed=0), record(2000, seed=100)
single = fit_ensemble(recorded, seed=0, members=1, **SETTINGS)


def trusting(position: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    said = single.predict(position, action)
    return said.mean[0], said.reward[0]


def truth(position: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    return river(position, action, torch.zeros_like(position))


with torch.no_grad():
    tested = single.predict(held_out.obs, held_out.action)
    within = ((held_out.next_obs - tested.mean[0]).abs() < 1.645 * tested.std[0]).float().mean()
rafts = {name: play(m, seed=0) for name, m in (("truth", truth), ("single", trusting))}

# %%
fig, axis = plots.figure(width=6, height=2.6)
axis.axhspan(-REEDS, REEDS, color="#009E73", alpha=0.2, label="reeds")
plots.curve(axis, range(1, 41), rafts["truth"][:, 0], "real", "planned in the true river")
plots.curve(axis, range(1, 41), rafts["single"][:, 0], "one member", "planned in the model")
axis.set(xlabel="step", ylabel="position (km)", ylim=(-3, 3))
axis.legend(loc="upper right")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
ratio = rafts["single"][:, 1].sum() / rafts["truth"][:, 1].sum()
print(
    f"held-out steps inside the model's 90 % interval: between 85 and 95 %: {bool(0.85 < within < 0.95)}"
)
print(
    f"earned by planning in it, of what planning in the true river earns: below a fifth: {bool(ratio < 0.2)}"
)

# %% [markdown]
# The model passes its test, and its planner sails straight into the reeds. The test was honest: it asked about places that
# had been recorded. In the gap the model had nothing to go by, drew a smooth line, and put its usual small spread around it. It
# does not know that it does not know.
#
# **What you will be able to do**
#
# - train M models at once, each on its own bootstrap, in one batched product;
# - split a variance into what data can remove and what it cannot;
# - test whether a model's doubt deserves its name, and tell it from a look-alike;
# - use doubt twice: as a bonus for an explorer, as a penalty for a planner.
#
# **Time:** about 80 minutes. **Before:** lesson 01.
#
# ## The idea
#
# You cannot ask one model what it has never seen. But you can ask several. Give each its own first weights and its own
# sample of the data. Where there was data, the data forces them to agree. Where there was none, nothing does, and they go
# apart. Their *disagreement* is doubt of the kind that more data removes: **epistemic**. Each one's *own* variance says how
# noisy the world is there: **aleatoric**. The wind will not calm down because you recorded it more often.
#
# $$ \mu = \frac1M \sum_m \mu_m, \qquad
#    \underbrace{\mathrm{Var}(s')}_{\text{total}} =
#    \underbrace{\frac1M \sum_m (\mu_m - \mu)^2}_{\text{epistemic}} + \underbrace{\frac1M \sum_m \sigma_m^2}_{\text{aleatoric}} $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $\mu_m$, mean of the next state by member m | `mean` | (M, N, O) |
# | $\sigma_m^2$, the noise that member m predicts | `var`, or `std` for its root | (M, N, O) |
# | M, members; N, transitions; O, observed numbers | | |
#
# ## Each member its own data
#
# A bootstrap of N rows is N draws from them, with replacement. Some rows come twice or three times, and about 37 % never.
# You get uniform numbers in [0, 1), N for each member, and turn each into the number of a data row.


# %% exercise="bootstrap_rows"
def bootstrap_rows(uniform: Tensor) -> Tensor:
    """The rows of the data that each member learns from: N draws with replacement for each of M members.

    Args:
        uniform: numbers in [0, 1), (M, N).

    Returns:
        Row numbers from 0 to N - 1, int64, (M, N). Every row owns a piece of [0, 1) of width 1 / N, in order.
    """
    ### BEGIN SOLUTION
    return (uniform * uniform.shape[-1]).long()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
bootstrap_rows = check("bootstrap_rows", bootstrap_rows)

# %%
# NBVAL_CHECK_OUTPUT
rows = bootstrap_rows(torch.rand(5, 1500, generator=torch.Generator().manual_seed(0)))
met = [len(torch.unique(r)) / 1500 for r in rows]
print(f"share of the rows that a member meets: {min(met):.2f} to {max(met):.2f}")

# %% [markdown]
# ## All members at once
#
# Five networks in a Python loop are five times as many small operations. Stack the weights instead: layer by layer
# (M, I, O), one batched product does all members. Member m must meet its own weights and nothing else.


# %% exercise="batched_linear"
def batched_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One linear layer of all members at once: y[m] = x[m] @ weight[m] + bias[m].

    Args:
        x: (M, B, I).
        weight: (M, I, O).
        bias: (M, O).

    Returns:
        (M, B, O).
    """
    ### BEGIN SOLUTION
    return torch.baddbmm(bias[:, None], x, weight)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
batched_linear = check("batched_linear", batched_linear)

# %% [markdown]
# ## A variance that cannot run away
#
# Each member puts out a mean and a log-variance $\ell$, and is trained by its likelihood. Two accidents wait. Far from the
# data nothing holds $\ell$, and `exp` of it explodes. And on a number that never varies, like a reward of 0, the likelihood
# is unbounded: $\ell$ falls forever. So it is kept between two bounds, softly, since a clamp has no gradient beyond them
# (Chua and others, arXiv:1805.12114). With $\mathrm{softplus}(d) = \log(1 + e^d)$, a soft $\max(d, 0)$:
#
# $$ b = \ell_{\text{high}} - \mathrm{softplus}(\ell_{\text{high}} - \ell), \qquad
#    \text{bounded} = \ell_{\text{low}} + \mathrm{softplus}(b - \ell_{\text{low}}) $$
#
# $\ell$ is `raw`, (..., O), and the bounds are `low` and `high`, (O,). They are learned, too: the loss pulls them gently
# together, the data pushes them apart.


# %% exercise="bounded_log_var"
def bounded_log_var(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A log-variance held softly below high, and then softly above low.

    Args:
        raw: (..., O).
        low: (O,), or anything that broadcasts to raw.
        high: likewise; low < high.

    Returns:
        (..., O); gradients reach all three.
    """
    ### BEGIN SOLUTION
    below = high - F.softplus(high - raw)
    return low + F.softplus(below - low)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
bounded_log_var = check("bounded_log_var", bounded_log_var)

# %% [markdown]
# Now five members learn the river, from the same recordings as the single model, with your three functions inside. A second
# ensemble gets the same and 1,500 steps from everywhere, reeds included: what the first one would give to know.
# `model.predict(obs, action)` gives four things for M members and N transitions: `mean` and `std` of the next
# observation, (M, N, O), and `reward` and `reward_std`, (M, N).

# %%
YOURS = dict(bootstrap=bootstrap_rows, linear=batched_linear, bound=bounded_log_var)
visited_too = record(1500, seed=50, everywhere=True)
everything = Transitions(*(torch.cat(parts) for parts in zip(recorded, visited_too, strict=True)))
ensemble = fit_ensemble(recorded, seed=0, members=5, **SETTINGS, **YOURS, label="with the gap")
informed = fit_ensemble(everything, seed=0, members=5, **SETTINGS, **YOURS, label="without")

# %% [markdown]
# ## Two kinds of doubt
#
# The formula above is the law of total variance. It holds exactly for the mixture of the members: first draw one of them,
# then draw from it. Divide by M, not by M - 1: the members are the whole mixture, not a sample of it.


# %% exercise="split_variance"
def split_variance(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of the variance of an equal mixture of the members.

    Args:
        mean: of each member, (M, ..., O).
        var: of each member, at least 0, (M, ..., O).

    Returns:
        epistemic: the mean squared deviation of the members' means from their mean, (..., O);
        aleatoric: the mean of the members' variances, (..., O).
    """
    ### BEGIN SOLUTION
    epistemic = (mean - mean.mean(0)).square().mean(0)
    return epistemic, var.mean(0)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
split_variance = check("split_variance", split_variance)

# %%
where = torch.linspace(-2.9, 2.9, 233)[:, None]
recorded_there, gap = (where.abs() > GAP + 0.1)[:, 0], (where.abs() < 0.6)[:, 0]
reeds = (where.abs() < REEDS)[:, 0]
with torch.no_grad():
    drift = ensemble.predict(where, torch.zeros_like(where))
    epistemic, aleatoric = split_variance(drift.mean, drift.std**2)

# %%
fig, (left, right) = plots.figure(1, 2, width=4.6, height=3.2)  # left and right
step = drift.mean - where
total = (epistemic + aleatoric).sqrt()
idle = recorded.action[:, 0].abs() < 0.1
left.plot(
    recorded.obs[idle],
    (recorded.next_obs - recorded.obs - THRUST * recorded.action)[idle],
    ".",
    color="#999999",
    markersize=3,
)
for k, member in enumerate(step):
    plots.curve(left, where[:, 0], member[:, 0], "ensemble", "_" if k else "the members' means")
middle = step.mean(0)
low, high = (middle - 2 * total)[:, 0], (middle + 2 * total)[:, 0]
left.fill_between(where[:, 0], low, high, alpha=0.2, linewidth=0, label="two std, total")
true_drift = torch.where(reeds, 0.0, current(where)[:, 0])
left.plot(where[:, 0], true_drift, color="#000000", linewidth=0.8, label="the true drift")
left.set(xlabel="position (km)", ylabel="drift in a step (km)", ylim=(-0.8, 1.0))
left.legend(fontsize=8, loc="upper center", ncols=2)
plots.curve(right, where[:, 0], epistemic[:, 0].sqrt(), "epistemic")
plots.curve(right, where[:, 0], aleatoric[:, 0].sqrt(), "aleatoric")
wind = torch.where(reeds, torch.nan, gust(where)[:, 0])  # none blows in the reeds
right.plot(where[:, 0], wind, color="#000000", linewidth=0.8, label="the true wind")
for axis in (left, right):
    axis.axvspan(-GAP, GAP, color="#999999", alpha=0.15)
    axis.axvspan(-REEDS, REEDS, color="#009E73", alpha=0.15)
right.set(
    xlabel="position (km); gray and green: no data; green: reeds", ylabel="std (km)", yscale="log"
)
right.legend(loc="lower right", fontsize=8)
plt.show()

# %% [markdown]
# Left: where there is data the five lines are one. In the strip they part, and each draws the current on through the reeds,
# where the true drift is 0. Right: the aleatoric std follows the wind that we put into this world, and the epistemic one rises
# where nobody has been. In the strip the aleatoric line is as much a guess as the means are. That it goes on like the wind is
# luck: in the reeds there is no wind.

# %%
# NBVAL_CHECK_OUTPUT
beyond = ((middle[:, 0] - true_drift).abs() > 2 * total[:, 0])[reeds].float().mean()
print(f"the true drift lies outside two std in over a third of the reeds: {bool(beyond > 1 / 3)}")

# %% [markdown]
# ## Is the doubt the right size?
#
# A model that says "90 %" should be right nine times of ten. Take the central interval that holds 90 % of the mixture's
# probability, 5 % cut off on each side, and count how many held-out values lie in it. A mixture has no handy formula for
# its interval, but its distribution function is easy: the mean of the members'. A value y is inside the central interval of
# probability p exactly where
#
# $$ \Big| \frac1M \sum_m \Phi\Big(\frac{y - \mu_m}{\sigma_m}\Big) - \frac12 \Big| \le \frac p2 $$
#
# with $\Phi$ the standard normal distribution function, `torch.special.ndtr`. p is `level`.


# %% exercise="coverage"
def coverage(y: Tensor, mean: Tensor, std: Tensor, level: float) -> Tensor:
    """The share of all numbers in y that lie in the mixture's central interval of this probability.

    Args:
        y: (..., O).
        mean: of each member, (M, ..., O).
        std: of each member, above 0, (M, ..., O).
        level: the probability of the interval, between 0 and 1.

    Returns:
        A scalar tensor, float32.
    """
    ### BEGIN SOLUTION
    below = torch.special.ndtr((y - mean) / std).mean(0)
    return ((below - 0.5).abs() <= level / 2).float().mean()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
coverage = check("coverage", coverage)

# %% [markdown]
# Beside your ensemble stand three models made from it. *One member* is the first member alone. *Inflated* is the same with
# its std tripled: it buys safety by being unsure of everything. *No noise of their own* keeps the members' means and drops
# their variances, as an ensemble of plain regressors would.

# %%
LOOKALIKES = {
    "ensemble": lambda mean, std: (mean, std),
    "one member": lambda mean, std: (mean[:1], std[:1]),
    "inflated": lambda mean, std: (mean[:1], 3 * std[:1]),
    "no noise of their own": lambda mean, std: (mean, 0.01 * std),
}
levels = torch.linspace(0.05, 0.95, 19)
with torch.no_grad():
    told = ensemble.predict(held_out.obs, held_out.action)
shares = {
    name: torch.stack(
        [
            coverage(held_out.next_obs, *view(told.mean, told.std), level)
            for level in levels.tolist()
        ]
    )
    for name, view in LOOKALIKES.items()
}

# %%
fig, axis = plots.figure(width=5.6, height=3.2)
axis.plot([0, 1], [0, 1], color="#000000", linewidth=0.8, label="calibrated")
for name, share in shares.items():
    plots.curve(axis, levels, share, name)
axis.set(xlabel="nominal probability of the interval", ylabel="share of held-out steps in it")
axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()

# %% [markdown]
# Calibration catches two of the three. It does not catch *one member*, which you saw steer into the reeds: the held-out
# steps come from where the training steps came from, and a test cannot ask what its data does not ask.
#
# ## An examination for doubt
#
# So what would tell real doubt from a look-alike? Four questions, each of them with an answer that we know:
#
# 1. Is the aleatoric std the wind's, to 10 % on average, where there was data?
# 2. Is the epistemic share of the variance at least 10 times as large in the gap as outside?
# 3. Does the epistemic variance in the gap fall, at least twofold, once the gap has been recorded?
# 4. Do the 90 % intervals hold 85 to 95 % of held-out steps?
#
# Three more candidates take it. *Clones* are five copies of one member: what you get from the same first weights, the same
# bootstrap and the same batches, the most common accident with ensembles. *Scattered* members put fixed offsets around one
# mean: disagreement everywhere, doubt nowhere. *Constant noise* ignores what the members say of their variance, but for its
# average. Remember the third question above all: doubt that data cannot remove was never epistemic.

# %%
apart = torch.linspace(-0.2, 0.2, 5)[:, None, None]
LOOKALIKES["clones"] = lambda mean, std: (mean[:1].expand_as(mean), std[:1].expand_as(std))
LOOKALIKES["scattered"] = lambda mean, std: (mean[:1] + apart, std[:1].expand_as(std))
LOOKALIKES["constant noise"] = lambda mean, std: (mean, std.mean().expand_as(std))


@torch.no_grad()
def examine(model, informed, view) -> list[bool]:
    """The four questions, put to `model` and to the same kind of model that has recordings of the gap."""

    def say(who, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        said = who.predict(obs, action)
        return view(said.mean, said.std)

    (mean, std), (mean_after, std_after) = (say(m, where, 0 * where) for m in (model, informed))
    epistemic, aleatoric = split_variance(mean, std**2)
    after, _ = split_variance(mean_after, std_after**2)
    share = epistemic / (epistemic + aleatoric)
    wrong = (aleatoric.sqrt() / gust(where) - 1)[recorded_there].abs().mean()
    covered = coverage(held_out.next_obs, *say(model, held_out.obs, held_out.action), 0.9)
    return [
        bool(wrong < 0.1),
        bool(share[gap].mean() > 10 * share[recorded_there].mean()),
        bool(epistemic[gap].mean() > 2 * after[gap].mean() + 1e-6),  # km²; less is rounding
        bool(0.85 < covered < 0.95),
    ]


# %%
# NBVAL_CHECK_OUTPUT
table = [f"{'':24}noise  gap  falls  90 %"]
for name, view in LOOKALIKES.items():
    answers = ["yes" if passed else "-" for passed in examine(ensemble, informed, view)]
    table.append(f"{name:24}{answers[0]:7}{answers[1]:5}{answers[2]:7}{answers[3]}")
print("\n".join(table))

# %% [markdown]
# Read the table by its rows. Only the ensemble answers yes four times. *Inflated* is the trap of this lesson: it covers
# everything, it looks careful in the gap, and it is just as careful everywhere else, before and after you went to look. And
# *one member* shows why two questions about noise are not enough.
#
# What this does not show: that the doubt in a gap has the right *size*. Here it is too small, as you saw in the reeds. Nothing
# in the data says how far the members should part there. That depends on their first weights (here they are drawn wider than
# usual, `gain`), and on how strongly the world bends: the members of an ensemble that learns a straight line draw the same
# straight line through any gap.
#
# ## The same on a pendulum
#
# A pendulum that is rusty (its velocity loses 2.5 % a step) and stands in the wind. The wind kicks its velocity by a normal number
# whose std depends on the angle, `gust_std`, from 0.05 rad/s at the top to 0.15 at the bottom. Does an ensemble find this out
# from single steps, taken anywhere?


# %%
def shaken(count: int, seed: int) -> Transitions:
    """Single steps of the rusty pendulum from random angles, velocities up to 6 rad/s and torques."""
    env, rows = make_rusty_pendulum(), []
    env.reset(seed=seed)
    for angle, velocity, torque in np.random.default_rng(seed).uniform(-1, 1, (count, 3)):
        angle, velocity = np.pi * angle, 6 * velocity
        env.unwrapped.state = np.array([angle, velocity])
        action = np.array([2 * torque], np.float32)
        after, pay, *_ = env.step(action)
        obs = np.array([np.cos(angle), np.sin(angle), velocity], np.float32)
        rows.append((obs, action, np.float32(pay), after, False))
    return Transitions(*(torch.as_tensor(np.stack(column)) for column in zip(*rows, strict=True)))


pendulum = fit_ensemble(shaken(4000, 0), seed=0, members=5, **SETTINGS, **YOURS, label="pendulum")
fresh = shaken(2000, 1)
with torch.no_grad():
    swung = pendulum.predict(fresh.obs, fresh.action)
    _, noise = split_variance(swung.mean, swung.std**2)
known = gust_std(angle_of(fresh.obs))

angles = torch.linspace(-np.pi, np.pi, 101)
at_rest = torch.stack([angles.cos(), angles.sin(), torch.zeros(101)], -1)
with torch.no_grad():
    there = pendulum.predict(at_rest, torch.zeros(101, 1))
    _, learned = split_variance(there.mean, there.std**2)

# %%
fig, axis = plots.figure(width=4.6, height=2.6)
plots.curve(axis, angles, learned[:, 2].sqrt(), "aleatoric")
axis.plot(angles, gust_std(angles), color="#000000", linewidth=0.8, label="the true wind")
axis.set(
    xlabel="angle (rad), 0 is the top; at rest, no torque", ylabel="std (rad/s)", ylim=(0, None)
)
axis.legend()
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
off = (noise[:, 2].sqrt() / known - 1).abs().mean()
print(f"std of the wind, mean error below 10 %: {bool(off < 0.1)}")
covered = coverage(fresh.next_obs, swung.mean, swung.std, 0.9)
print(f"90 % intervals hold 85 to 95 % of held-out numbers: {bool(0.85 < covered < 0.95)}")

# %% [markdown]
# ## Doubt as a price, and as a prize
#
# Now use it. A planner looks for the actions that the model praises most, so it finds the places where the model errs in its
# favor. Charge it for doubt:
#
# $$ \tilde r = \frac1M \sum_m r_m - \lambda\, d, \qquad
#    d = \sqrt{\frac1O \sum_{i=1}^{O} \frac1M \sum_m \Big(\frac{\mu_{mi} - \mu_i}{\text{scale}_i}\Big)^2} $$
#
# $r_m$ is `reward` (M, ...), $\mu_m$ is `mean` (M, ..., O), and $\lambda$ is `weight`. The scale makes meters and radians
# comparable: the spread of each number's change in the data. The price is in the spirit of Yu and others (arXiv:2005.13239),
# who charge for the largest std that a member predicts. With a negative weight it becomes a prize, and the same line drives an
# explorer (Pathak and others, arXiv:1906.04161).


# %% exercise="penalized_reward"
def penalized_reward(reward: Tensor, mean: Tensor, scale: Tensor, weight: float) -> Tensor:
    """The members' mean reward less weight times their disagreement d about the next observation.

    Args:
        reward: of each member, (M, ...).
        mean: next observation by each member, (M, ..., O).
        scale: size of each of the O dimensions, above 0, (O,).
        weight: negative for a bonus.

    Returns:
        (...).
    """
    ### BEGIN SOLUTION
    off = (mean - mean.mean(0)) / scale
    return reward.mean(0) - weight * off.square().mean(0).mean(-1).sqrt()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
penalized_reward = check("penalized_reward", penalized_reward)

# %% [markdown]
# ### The price: back on the river
#
# The planner is the one from the beginning. The model is the members' mean, and its reward is yours. The clones get the same
# planner, the same price, and three lives each.


# %%
def careful(model, weight: float, view=LOOKALIKES["ensemble"]):
    """A model for the planner: the members' mean, and your penalized reward."""
    scale = model.target_std[:-1]  # the spread of each number's change; the last is the reward's

    def step(position: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        said = model.predict(position, action)
        mean, _ = view(said.mean, said.std)
        return mean.mean(0), penalized_reward(said.reward, mean, scale, weight)

    return step


def earned(model) -> float:
    return sum(play(model, seed)[:, 1].sum().item() for seed in range(3)) / 3


WEIGHTS = (0, 5, 20, 80, 320, 2000)
best = earned(truth)
pay = torch.tensor([earned(careful(ensemble, weight)) for weight in WEIGHTS])
fooled = earned(careful(ensemble, 80, LOOKALIKES["clones"]))
knowing = earned(careful(informed, 0))

# %%
fig, axis = plots.figure(width=4.6, height=3)
axis.axhline(best, color="#000000", label="planned in the true river")
axis.axhline(0.8 * best, color="#000000", linewidth=0.8, linestyle=":", label="80 % of it")
plots.curve(axis, range(len(WEIGHTS)), pay, "ensemble")
axis.plot(WEIGHTS.index(80), fooled, "X", color="#D55E00", label="clones, weight 80")
axis.set(
    xticks=range(len(WEIGHTS)), xticklabels=WEIGHTS, xlabel="weight of the penalty (not to scale)"
)
axis.set(ylabel="pay in 40 steps, mean of 3", ylim=(0, None))
axis.legend(fontsize=8, loc="center left")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(
    f"without a penalty, below a fifth of what the true river's planner earns: {bool(pay[0] < 0.2 * best)}"
)
print(f"with weight 80, at least 80 %: {bool(pay[3] >= 0.8 * best)}")
print(f"clones with weight 80, below a fifth: {bool(fooled < 0.2 * best)}")
print(f"no penalty, but recordings of the gap, at least 80 %: {bool(knowing >= 0.8 * best)}")

# %% [markdown]
# Too small a price is paid, and the planner sails on. A very large one costs little here: around the camp at -2 km there was
# data, and the members agree. What is too small and what is too much depends on the ensemble. One trained with seed 1 earns
# 17.5 with weight 20 and 12.7, less than 80 %, with weight 320. The last line is the other cure: go there and look.
#
# ### The prize: going there to look
#
# The rusty pendulum hangs at rest. Random torques hardly move it, and what they move the rust eats up. The explorer earns
# nothing but disagreement: every 100 steps it learns its ensemble again from all it has seen, then plans 30 steps ahead for
# `penalized_reward` with reward 0 and weight -1. `explore` is this loop. What counts is how many of 400 cells of (angle, velocity) were
# visited. First one life of 500 steps, with your functions:


# %%
def learn(data: Transitions, seed: int):
    quick = SETTINGS | dict(steps=300, learning_rate=3e-3)
    return fit_ensemble(data, seed=seed, members=5, **quick, **YOURS)


def curious(model):
    """A model for the planner whose only reward is the members' disagreement."""
    scale = model.target_std[:-1]  # the spread of each number's change; the last is the reward's

    def step(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        said = model.predict(obs, action)
        bonus = penalized_reward(torch.zeros_like(said.reward), said.mean, scale, -1.0)
        return on_the_circle(said.mean.mean(0)), bonus

    return step


walks = {
    name: explore(make_rusty_pendulum(), how, curious, steps=500, seed=0)
    for name, how in (("random, held", None), ("disagreement", learn))
}
cells = {name: cells_seen(walk.next_obs) for name, walk in walks.items()}

# %%
# NBVAL_CHECK_OUTPUT
times = cells["disagreement"][-1] / cells["random, held"][-1]
print(f"cells visited by disagreement, at least twice those of random torques: {bool(times >= 2)}")

# %% [markdown]
# One seed is an anecdote. `solutions/runs/08_exploration.py` lived several lives of 1,000 steps with each drive, and the
# lines are medians over its seeds, the bands reach from the least to the most. *Random, held* holds each torque for 5 steps,
# and sees more than twice as much as *random, every step*. *Predicted noise* is a planner paid by the wrong kind of doubt, the
# members' own std: for 500 steps it sees no more than random torques, then it gets away. *Disagreement of clones* gets the
# bonus of five copies of one member: none.

# %%
results = json.loads(files("wmcourse").joinpath("runs/08_exploration.json").read_text())
SHOWN = ("disagreement", "predicted noise", "disagreement of clones", "random, held")
visited = {
    name: torch.tensor(list(results[name].values()), dtype=torch.float)
    for name in (*SHOWN, "random, every step")
}
fig, axis = plots.figure(width=5.4, height=3.2)
for name in SHOWN:
    plots.curve(axis, range(50, 1001, 50), visited[name], name)
axis.set(xlabel="real steps", ylabel="cells visited, of 400", ylim=(0, None))
axis.legend(fontsize=8)
plt.show()
for name, counts in visited.items():
    print(f"{name}: {counts[:, -1].quantile(0.5):g} of 400, median of {len(counts)} seeds")

# %%
# NBVAL_CHECK_OUTPUT
least, chance = visited["disagreement"][:, -1].min(), visited["random, held"][:, -1]
print(f"the worst seed of disagreement beats the best random one: {bool(least > chance.max())}")
print(f"and visits at least twice the median of random: {bool(least >= 2 * chance.quantile(0.5))}")
median = {name: counts.quantile(0.5, dim=0) for name, counts in visited.items()}
print(
    "clones, the median, below half of disagreement's:",
    bool(median["disagreement of clones"][-1] < 0.5 * median["disagreement"][-1]),
)
print(
    "random torques held see more than twice what new ones at every step see:",
    bool(median["random, held"][-1] > 2 * median["random, every step"][-1]),
)
print(
    "predicted noise sees no more than random at 500 steps, and twice as much at 1,000:",
    bool(median["predicted noise"][9] <= median["random, held"][9])
    and bool(median["predicted noise"][-1] > 2 * median["random, held"][-1]),
)

# %% [markdown]
# The numbers are of this world. Take the rust away, and random torques swing the rod over the top by luck.

# %%
plain = {
    name: torch.tensor(list(results[f"{name}, no rust"].values()), dtype=torch.float)[:, -1]
    for name in ("random, held", "disagreement")
}
for name, counts in plain.items():
    print(f"{name}, no rust: {counts.quantile(0.5):g} of 400, median of {len(counts)} seeds")

# %%
# NBVAL_CHECK_OUTPUT
luckier = plain["random, held"].quantile(0.5) > 2 * chance.quantile(0.5)
print(f"without rust random torques visit more than twice as much: {bool(luckier)}")

# %% [markdown]
# A bonus pays most where looking around takes a plan.
#
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | one bootstrap and one start for all members | epistemic exactly 0 everywhere: question 2; print it once at a place far from all data |
# | too many passes over too few data: the members learn the noise by heart | the aleatoric std is too small, the intervals hold too little: questions 1 and 4 |
# | a variance without bounds | a loss that falls and falls, then infinity; or a huge std a little outside the data |
# | dividing by M - 1, or adding standard deviations | epistemic and aleatoric do not add up to the mixture's variance |
# | inflating the std until the intervals hold | all is covered, nothing is told apart: questions 2 and 3 |
# | testing on data from where the training data came from | every answer is yes, and the planner is in the reeds |
# | a bonus on the predicted noise | the explorer hangs where the wind blows, hundreds of steps long: a noisy television |
# | a bonus or a price in raw units | the dimension with the largest numbers decides alone |
# | a simple world, or members that start alike | no disagreement in a gap that deserves it; the price does nothing |
#
# ## Links
#
# - Lakshminarayanan, Pritzel and Blundell, *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*,
#   arXiv:1612.01474: different first weights alone often suffice.
# - Chua, Calandra, McAllister and Levine, *Deep Reinforcement Learning in a Handful of Trials*, arXiv:1805.12114: PETS, the
#   bootstrapped probabilistic ensemble of this lesson.
# - Pathak, Gandhi and Gupta, *Self-Supervised Exploration via Disagreement*, arXiv:1906.04161.
# - Yu and others, *MOPO: Model-based Offline Policy Optimization*, arXiv:2005.13239: a price on the members' own std.
# - Osband, Aslanides and Cassirer, *Randomized Prior Functions for Deep Reinforcement Learning*, arXiv:1806.03335: how to keep
#   members apart in a gap.
#
# **Next.** Your planner tried 300 random sequences and kept one. Lesson 09 plans better with as many, and lets each imagined
# future follow a member of its own.
