# %% [markdown]
# # 01 One-step dynamics: predict the next state, then predict from your predictions
#
# **Claim.** A network that learns how the state *changes* can be rolled 25 steps into the future on nothing but actions,
# where the best linear model is lost.
#
# Begin with a model that looks excellent. It is linear, it is fitted by least squares on real pendulum data, and on
# episodes it has never seen it explains almost all of the next state.

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wmcourse import plots
from wmcourse.exercises import check, hint
from wmcourse.nets import fit, mlp
from wmcourse.one_step_dynamics import copy_last, fit_linear, fit_one_step, keep_in_range, windows
from wmcourse.replay import Replay, Transitions, random_policy, record_episodes
from wmcourse.worlds import make_pendulum

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread


def record(env: gym.Env, episodes: int, seed: int) -> Replay:
    """Real episodes of 200 steps under random torques, each held for 5 steps."""
    replay = Replay()
    replay.add(*record_episodes(env, random_policy(env, seed, hold=5), episodes, seed))
    return replay


env = make_pendulum()
training, held_out = record(env, 20, seed=0), record(env, 50, seed=1000)
data, test = training.transitions(), held_out.transitions()
linear = fit_linear(data)
missed = (linear(test.obs, test.action) - test.next_obs).square().sum(0)
explained = 1 - missed / (test.next_obs - test.next_obs.mean(0)).square().sum(0)

# %%
# NBVAL_CHECK_OUTPUT
print(f"{len(training)} real transitions to learn from, {len(held_out)} held out")
print(
    "linear model, share of the next state explained: above 0.95 in each of",
    test.obs.shape[1],
    end=" ",
)
print("dimensions:", bool((explained > 0.95).all()))

# %% [markdown]
# More than 95 % of every number. By the end of this lesson you will see what that is worth: 25 steps later this model knows
# hardly more than the average of the data. One step ahead, the next state is nearly the last one, and almost any model
# looks good. The question is what happens when a model lives on its own predictions.
#
# **What you will be able to do**
#
# - learn $s' = f(s, a)$ and $r = R(s, a)$ from transitions, and say why differences and standardizing matter;
# - give a model a spread of its own, and train it by likelihood;
# - roll a model forward with the right action at every step;
# - measure its error many steps ahead, against baselines that cost nothing.
#
# **Time:** about 60 minutes. **Before:** lesson 00.
#
# ## The idea
#
# A one-step model answers one question: you are here, you do this, where are you next? Ask it again from its own answer and
# it becomes a simulator. Two things make the question easier. Ask for the *change*, since most of the next state is the last
# one and need not be learned. And measure every number in units of its own spread, since the pendulum's cosine moves by
# hundredths while its velocity moves by tenths.
#
# $$ s_{t+1} = s_t + \mu_\Delta + \sigma_\Delta \odot f_\theta(\tilde s_t, \tilde a_t), \qquad r_t = R_\phi(s_t, a_t) $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $s_t$, the observation (cos, sin, angular velocity) | `obs` | (B, 3) |
# | $a_t$, torque taken at $s_t$ | `action` | (B, 1) |
# | $\tilde s, \tilde a$, standardized | results of `standardize` | as above |
# | $\mu_\Delta, \sigma_\Delta$, mean and spread of $s_{t+1} - s_t$ | `delta_mean`, `delta_std` | (3,) |
# | $f_\theta$ | `predict_delta` | (B, 3) |
#
# First the units. A column that never changes (an unused sensor, say) has spread 0; see to it that it becomes 0.


# %% exercise="standardize"
def standardize(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Columns brought to mean 0 and spread 1; a column that never changes becomes 0.

    Args:
        x: (..., D).
        mean: per column, (D,).
        std: standard deviation per column, 0 where the column never changes, (D,).

    Returns:
        (..., D).
    """
    ### BEGIN SOLUTION
    return (x - mean) / std.clamp(min=1e-6)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
standardize = check("standardize", standardize)

# %% [markdown]
# Now the other way. The network says by how many spreads the change exceeds the average change. Turn that into the next
# observation.


# %% exercise="predict_next"
def predict_next(
    predict_delta, obs: Tensor, action: Tensor, delta_mean: Tensor, delta_std: Tensor
) -> Tensor:
    """The next observation, from a model of the standardized difference.

    Args:
        predict_delta: function from obs (B, O) and action (B, A) to the standardized difference
            between the next obs and obs, (B, O). It takes obs and action as they are.
        obs: (B, O).
        action: (B, A).
        delta_mean: mean of next_obs - obs in the training data, (O,).
        delta_std: its standard deviation, (O,).

    Returns:
        The predicted next observation, (B, O).
    """
    ### BEGIN SOLUTION
    return obs + delta_mean + delta_std * predict_delta(obs, action)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
predict_next = check("predict_next", predict_next)

# %% [markdown]
# Does it matter? Train the same network twice, with the same number of updates on the same batches: once through your two
# functions, once on raw numbers, from (s, a) straight to s'.

# %%
inputs = torch.cat([data.obs, data.action], -1)
delta = data.next_obs - data.obs
delta_mean, delta_std = delta.mean(0), delta.std(0)
input_mean, input_std = inputs.mean(0), inputs.std(0)


def train(net: torch.nn.Module, predict) -> float:
    """Squared error training of predict(obs, action) -> next obs; RMS error on held-out steps."""
    generator = torch.Generator().manual_seed(0)

    def loss() -> Tensor:
        i = torch.randint(len(data.obs), (256,), generator=generator)
        return F.mse_loss(
            predict(data.obs[i], data.action[i]) / delta_std, data.next_obs[i] / delta_std
        )

    fit(net.parameters(), loss, steps=1_000, learning_rate=3e-3, label="ablation")
    with torch.no_grad():
        gap = (predict(test.obs, test.action) - test.next_obs) / delta_std
    return gap.square().mean().sqrt().item()


torch.manual_seed(0)
raw_net = mlp(4, 64, 64, 3)
torch.manual_seed(0)
net = mlp(4, 64, 64, 3)


def predict_raw(obs: Tensor, action: Tensor) -> Tensor:
    return raw_net(torch.cat([obs, action], -1))


def predict_by_difference(obs: Tensor, action: Tensor) -> Tensor:
    def predict_delta(s: Tensor, a: Tensor) -> Tensor:
        return net(standardize(torch.cat([s, a], -1), input_mean, input_std))

    return predict_next(predict_delta, obs, action, delta_mean, delta_std)


raw_error, difference_error = train(raw_net, predict_raw), train(net, predict_by_difference)

# %%
# NBVAL_CHECK_OUTPUT
print(f"raw numbers in and out: at least 1.3 times the error: {raw_error > 1.3 * difference_error}")

# %% [markdown]
# ## A model that knows its own spread
#
# A single number as a prediction hides how sure the model is. Let the network put out a whole Gaussian,
# $p_\theta(s' \mid s, a) = \mathcal{N}(\mu, \mathrm{diag}(\sigma^2))$: twice as many outputs, half of them means, the other
# half turned into standard deviations. A standard deviation must be positive. And it needs a floor: one transition that the
# network predicts exactly would let $\sigma$ shrink to 0 and the likelihood grow without end.


# %% exercise="gaussian_head"
def gaussian_head(features: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Split a network's output into mean and standard deviation.

    Args:
        features: (..., 2 D).
        floor: the smallest standard deviation, above 0.

    Returns:
        mean: the first half of the last axis, as it is, (..., D).
        std: softplus(the second half) + floor, (..., D).
    """
    ### BEGIN SOLUTION
    mean, raw = features.chunk(2, dim=-1)
    return mean, F.softplus(raw) + floor
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
gaussian_head = check("gaussian_head", gaussian_head)

# %% [markdown]
# How good is a Gaussian prediction? Ask how probable it made what then happened. In nats, and for D independent dimensions:
#
# $$ \log \mathcal{N}(x; \mu, \sigma) = \sum_{d=1}^{D} \Big[ -\frac{(x_d - \mu_d)^2}{2 \sigma_d^2} - \log \sigma_d
#    - \tfrac{1}{2} \log 2\pi \Big] $$
#
# The first term rewards being close, and forgives more where $\sigma$ is large. The second makes that forgiveness cost
# something. Dimensions are summed, not averaged: this convention holds to the end of the course.


# %% exercise="gaussian_log_prob"
def gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, std²) in nats, summed over the last axis.

    Args:
        x: (..., D).
        mean: (..., D).
        std: standard deviation, above 0, (..., D).

    Returns:
        (...).
    """
    ### BEGIN SOLUTION
    u = (x - mean) / std
    return (-0.5 * u**2 - std.log() - 0.5 * np.log(2 * np.pi)).sum(-1)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
gaussian_log_prob = check("gaussian_log_prob", gaussian_log_prob)

# %% [markdown]
# Put it to a test whose answer you know. Give the real pendulum a bad motor: it does half of what it is asked (so that the
# torque limit stays out of the way) and adds normal noise of 0.5 newton meter. By the physics, a torque u changes the velocity by 0.15 u, so the next velocity has a spread of exactly
# 0.075 rad/s. The model is told none of this. It sees transitions, and maximizes your log-likelihood.


# %%
class NoisyMotor(gym.ActionWrapper):
    """A motor that adds normal noise of 0.5 newton meter to half the torque it is asked for."""

    def action(self, action: np.ndarray) -> np.ndarray:
        return 0.5 * action + self.unwrapped.np_random.normal(0, 0.5, action.shape)


noisy = record(NoisyMotor(make_pendulum()), 30, seed=5).transitions()
noisy_delta = noisy.next_obs - noisy.obs
noisy_mean, noisy_std = noisy_delta.mean(0), noisy_delta.std(0)
torch.manual_seed(1)
noisy_net = mlp(4, 64, 64, 6)
generator = torch.Generator().manual_seed(1)


def distribution(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    x = standardize(torch.cat([obs, action], -1), input_mean, input_std)
    return gaussian_head(noisy_net(x), floor=1e-3)


def negative_log_likelihood() -> Tensor:
    i = torch.randint(len(noisy.obs), (256,), generator=generator)
    target = standardize(noisy_delta[i], noisy_mean, noisy_std)
    return -gaussian_log_prob(target, *distribution(noisy.obs[i], noisy.action[i])).mean()


fit(
    noisy_net.parameters(),
    negative_log_likelihood,
    steps=1_500,
    learning_rate=3e-3,
    label="noisy motor",
)
with torch.no_grad():
    learned = (distribution(noisy.obs, noisy.action)[1] * noisy_std)[:, 2].median().item()

# %%
# NBVAL_CHECK_OUTPUT
print(
    f"spread of the next velocity, truth 0.075 rad/s; learned within 15 %: {abs(learned / 0.075 - 1) < 0.15}"
)

# %% [markdown]
# A squared error has no place to put this number. Note which uncertainty it is: the motor's, which no amount of data
# removes. What the model does not know because it has seen too little is another story, and lesson 08's.
#
# ## Living on its own predictions
#
# Now roll the model forward. `obs` (B, O) is where you start. `actions` (B, H, A) are the actions taken from there on, and
# nothing else from the real world is shown. The first action acts on `obs`.


# %% exercise="rollout"
def rollout(step, obs: Tensor, actions: Tensor) -> Tensor:
    """Open loop: feed each prediction back into the model.

    Args:
        step: function from obs (B, O) and action (B, A) to the next obs (B, O).
        obs: the observations to start from, (B, O).
        actions: (B, H, A).

    Returns:
        The H predictions, (B, H, O); [:, k] is what comes after actions[:, k].
    """
    ### BEGIN SOLUTION
    predictions = []
    for action in actions.unbind(1):
        obs = step(obs, action)
        predictions.append(obs)
    return torch.stack(predictions, dim=1)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
rollout = check("rollout", rollout)

# %% [markdown]
# And the yardstick. Cosine, sine and velocity have different units, so each error is divided by that dimension's spread in
# the training data. An error of 1 then means: as far off as the data's own spread.


# %% exercise="open_loop_error"
def open_loop_error(predicted: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """Root mean square error at each step ahead, over batch and dimensions.

    Args:
        predicted: (B, H, O).
        true: (B, H, O).
        scale: the size of each dimension; an error of one scale counts 1, (O,).

    Returns:
        (H,).
    """
    ### BEGIN SOLUTION
    return ((predicted - true) / scale).square().mean(dim=(0, 2)).sqrt()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
open_loop_error = check("open_loop_error", open_loop_error)

# %% [markdown]
# ## The experiment
#
# The full model of this lesson (`fit_one_step` in the package) is a network with your head, trained by your likelihood,
# with a second network for the reward. It also keeps each prediction within the range that the training data spans: the real
# pendulum stops at 8 rad/s, and a network that overshoots there runs away. The linear model gets the same help. Train with
# five seeds. Then take windows of 25 steps from held-out episodes, show
# each model the first state and the 25 actions, and compare.
#
# Three others walk along. *Copy last* says that nothing changes. The linear model is the one you began with. And as a
# negative control, the same network trained on data whose actions were shuffled among the transitions: it has the same
# states and the same size. If the experiment is worth anything, that one must fail.

# %%
H, SEEDS, UPDATES = 25, 5, 1_500
start, actions, truth = windows(held_out.episodes, H)
scale = data.obs.std(0)


def error_of(step) -> Tensor:
    with torch.no_grad():
        return open_loop_error(rollout(step, start, actions), truth, scale)


models = [
    fit_one_step(data, seed=seed, steps=UPDATES, label=f"seed {seed}") for seed in range(SEEDS)
]
order = torch.randperm(len(data.obs), generator=torch.Generator().manual_seed(0))
blind = fit_one_step(
    data._replace(action=data.action[order]), seed=0, steps=UPDATES, label="control"
)
errors = {
    "learned model": torch.stack([error_of(model.step) for model in models]),
    "linear model": error_of(keep_in_range(linear, data.obs.amin(0), data.obs.amax(0))),
    "copy last": error_of(copy_last),
    "shuffled actions": error_of(blind.step),
}

# %%
ahead = torch.arange(1, H + 1)
fig, axis = plots.figure(width=6.4, height=3.8)
for method, error in errors.items():
    plots.curve(axis, ahead, error, method)
axis.set(
    title="25 steps on its own predictions", xlabel="steps ahead (0.05 s each)", ylim=(0, None)
)
axis.set_ylabel("RMS error (spreads of the data)")
axis.legend()
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
final = {m: e[..., -1].median().item() for m, e in errors.items()}
print(f"after 25 steps, median of {SEEDS} seeds")
print("at most 1/4 of copy-the-last-state:", final["learned model"] <= final["copy last"] / 4)
print("at most 1/2 of the best linear model:", final["learned model"] <= final["linear model"] / 2)
print(
    "the control with shuffled actions at least twice as bad:",
    final["shuffled actions"] > 2 * final["learned model"],
)

# %%
for method, error in final.items():
    print(f"{method:<18} {error:.2f}")

# %% [markdown]
# The band around the blue line is the range of five seeds. The line bends upwards: each prediction starts from the error
# of the one before, and near the top of its swing the pendulum amplifies small differences. That is *compounding error*. It
# never goes away; the rest of the course is about living with it: short rollouts (lesson 10), knowing when to doubt
# (lesson 08), planning again after every step (lesson 09).
#
# Look at one window as the pendulum's angle.

# %%
worst_first = (
    ((rollout(models[0].step, start, actions).detach() - truth) / scale).square().sum((1, 2))
)
middle = worst_first.argsort()[len(start) // 2]
fig, axis = plots.figure(width=6.4, height=3.2)


def angle(obs: Tensor) -> Tensor:
    return torch.from_numpy(np.unwrap(torch.atan2(obs[:, 1], obs[:, 0]).numpy()))


axis.plot(ahead, angle(truth[middle]), "o", color="black", markersize=4, label="real")
for method, step in [("learned model", models[0].step), ("linear model", linear)]:
    with torch.no_grad():
        path = rollout(step, start[middle][None], actions[middle][None])[0]
    plots.curve(axis, ahead, angle(path), method)
axis.set(title="A window of median error", xlabel="steps ahead", ylabel="angle (rad, 0 is the top)")
axis.legend()
plt.show()

# %% [markdown]
# ## The reward
#
# $R_\phi(s, a)$ is regression and nothing more, and it is what will make imagination useful: a dream without rewards
# cannot teach a policy.

# %%
with torch.no_grad():
    predicted_reward = models[0].reward(test.obs, test.action)
unexplained = (predicted_reward - test.reward).square().mean() / test.reward.var()

# %%
# NBVAL_CHECK_OUTPUT
print(f"reward, share explained on held-out steps, above 0.95: {1 - unexplained.item() > 0.95}")

# %% [markdown]
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | judging a model by its one-step error | everything looks good, copy-the-last-state included; always print a baseline |
# | forgetting to standardize | training is slow, and the dimension with the largest numbers wins |
# | no floor under std | the loss dives, then turns to nan |
# | the action paired with the wrong state | with held torques only a somewhat larger error; the swap test of lesson 00 is the sharper one |
# | rolling out on true states instead of predictions | errors that do not grow with the horizon |
# | an angle as input | a jump at pi that no smooth network can follow; use cosine and sine |
#
# What this lesson does not show: the windows start where random torques lead. A policy that goes elsewhere meets a model
# that has never been there.
#
# ## Links
#
# - Chua, Calandra, McAllister and Levine, *Deep Reinforcement Learning in a Handful of Trials*, arXiv:1805.12114: networks
#   that put out Gaussians, and ensembles of them.
# - Janner, Fu, Zhang and Levine, *When to Trust Your Model*, arXiv:1906.08253: how far to roll a model, and why not further.
# - Nagabandi, Kahn, Fearing and Levine, *Neural Network Dynamics for Model-Based Deep RL*, arXiv:1708.02596: predicting
#   differences.
# - Talvitie, *Self-Correcting Models for Model-Based Reinforcement Learning*, arXiv:1612.06018: compounding error, and a
#   way to train against it.
#
# **Next.** The state was handed to you in three numbers. Lesson 02 takes it away and leaves you the picture.
