# %% [markdown]
# # 11 Dreamer: an agent that practices in its sleep
#
# **Claim.** After 1,600 real steps of Pendulum-v1, eighty seconds of the pendulum's time, an agent that learns inside its
# own world model swings the rod up and holds it: a mean return of at least -200 over 20 episodes. Every gradient its policy
# ever saw came out of a dream.
#
# Meet a relative first. It comes with the course, the best of five seeds, trained by the same few functions that you are about
# to write. It sees frames of 16 x 16 pixels, nothing else: no angle, no velocity.

# %%
import copy
import json
import math
import tempfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Image, Markdown
from torch import Tensor
from tqdm import tqdm

from wmcourse import plots
from wmcourse.dreamer import PENDULUM, PIXELS, Dreamer, actor_gradient
from wmcourse.evaluation import steps_to_reach
from wmcourse.exercises import check
from wmcourse.linear_quadratic import double_integrator, exact_gradient, finite_differences
from wmcourse.play import Sleepwalk, by_steps, play, save_gif
from wmcourse.recurrence import State
from wmcourse.replay import Episode, record_episode
from wmcourse.rssm import WorldModel
from wmcourse.training import Player, Run, Schedule, unit_actions
from wmcourse.worlds import make_pendulum

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread
RUNS = files("wmcourse").joinpath("runs")
DT = 0.05  # seconds a real step


def make_pixels():
    """Pendulum-v1 from frames, actions in [-1, 1]."""
    return unit_actions(make_pendulum(pixels=True, frame_size=PIXELS.obs[-1]))


def make_state():
    """Pendulum-v1 from state, actions in [-1, 1]."""
    return unit_actions(make_pendulum())


with RUNS.joinpath("11_pixels.pt").open("rb") as file:
    shipped = torch.load(file, weights_only=True)
veteran = Dreamer(PIXELS)
veteran.load_state_dict(shipped["modules"])
life = record_episode(make_pixels(), Player(veteran, greedy=True).alone, seed=3)

fig, axis = plots.figure(1, 1, width=9.0, height=1.1)
plots.frames(axis, life.obs[:80:5], "it sees")
axis.set_title(f"The first four seconds, a frame every {5 * DT:.2f} s")
plt.show()
print(
    f"It has lived {shipped['steps']:,} real steps, {shipped['steps'] * DT / 60:.0f} minutes.",
    f"This episode returns {life.reward.sum():.0f}; its mean over 20 is {shipped['final']:.0f}.",
)

# %% [markdown]
# The motor is too weak to lift the rod in one go: it must swing it back and forth, and nobody told the agent so. And one
# frame shows no velocity: what it acts on is the memory of lesson 07's RSSM.
#
# **What you will be able to do**
#
# - dream on from any state, with a policy that acts in the dream;
# - say what a dream is worth: lambda-returns, and the mistakes that bend them silently;
# - compute the gradient of a policy through a trajectory by hand, and prove it four ways;
# - train an actor by that gradient, or by REINFORCE, and say which to take where;
# - run the whole loop: live a little, learn the world, dream a lot; and notice when the dream is a lie.
#
# **Time:** about 100 minutes. **Before:** lessons 03 and 07; 09 and 10 for what it is compared with.
#
# ## The idea
#
# Lesson 09 planned anew at every step and forgot it. Lesson 10 asked the model for short trips and handed them to a
# learner that does not know it is a model. Dreamer does two things differently. It keeps what it found in a **policy**,
# so that acting costs one small network. And it uses what no real world offers: the model is differentiable. A dreamed
# reward can be asked: *which action should have been a little larger for you to be larger?*
#
# Three learners take turns on every batch:
#
# 1. **The world model** watches 32 real windows of 8 steps and improves, exactly as in lesson 07.
# 2. **The actor** dreams: from 128 of the states just seen, 15 steps on, its own actions, no frames. Then it follows the
#    gradient of what the dreams return.
# 3. **The critic** learns what a state will return, for what lies behind the dream's end.
#
# | symbol | variable | shape |
# |---|---|---|
# | $s_k = (h_k, z_k)$, $k = 0 .. H$: the states of a dream | `features`, h and z end to end | (N, H, D + S) for $s_0 .. s_{H-1}$ |
# | $a_k$, chosen in $s_k$; $\pi$ the policy | `action`; `log_prob`, `entropy` in nats | (N, H, A); (N, H) |
# | $r_k$, of the step from $s_k$ to $s_{k+1}$ | `reward[:, k]` | (N, H) |
# | $v_{k+1}$, what the critic says of $s_{k+1}$ | `value[:, k]` | (N, H) |
# | $d_k = \gamma \, p(s_{k+1}$ is not the end$)$ | `discount[:, k]` | (N, H) |
# | $R_k$, the return from $s_k$ on; `Dreamer` multiplies dreamed rewards by $1 - \gamma$, so that it reads as a reward a step | `returns[:, k]` | (N, H) |
# | $w_k$, how much $s_k$ counts: $\gamma^k$ times the chance that the dream got there | `weight[:, k]` | (N, H) |
#
# ## One step of a dream
#
# Lesson 07's step, with closed eyes. The action moves h; then z is drawn from the prior, the guess, since no frame comes.


# %% exercise="dream_step"
def dream_step(
    model, state: tuple[Tensor, Tensor], action: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One step without seeing: h' = f(h, z, a), z' ~ p(z' | h').

    Args:
        model: gives `transition(deter, stoch, action)`, the next h, (N, D); `prior(deter)`, the parameters of p,
            (N, P); and `draw(parameters, noise)`, a z, (N, S).
        state: (h, z), (N, D) and (N, S).
        action: taken in this state, (N, A).
        noise: for the draw, (N, S).

    Returns:
        (h', z'); gradients reach action, h and z.
    """
    ### BEGIN SOLUTION
    deter = model.transition(*state, action)
    return deter, model.draw(model.prior(deter), noise)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
dream_step = check("dream_step", dream_step)

# %% [markdown]
# ## What a dream is worth
#
# A dream is short, the future is not. You can trust the critic after one step: little noise, but the critic's error counts in
# full. Or add up all H dreamed rewards and ask the critic only at the end: its error is discounted, and the dream's adds up.
# The **lambda-return** takes all lengths at once, the longer the less:
#
# $$ R_k = r_k + d_k \big( (1 - \lambda)\, v_{k+1} + \lambda\, R_{k+1} \big), \qquad R_H = v_H $$
#
# Read it from the right: behind the last step there is only the critic. Watch two things. The columns are aligned already:
# `value[:, k]` belongs to $s_{k+1}$, as `reward[:, k]` does. And $d_k$ is 0 where $s_{k+1}$ is an end: nothing behind it counts.


# %% exercise="lambda_return"
def lambda_return(reward: Tensor, value: Tensor, discount: Tensor, decay: float) -> Tensor:
    """R_k = r_k + d_k ((1 - lambda) v_{k+1} + lambda R_{k+1}), and R_H = v_H.

    Args:
        reward: r_k, of the step from s_k to s_{k+1}, (N, H).
        value: v_{k+1}, what the critic says of s_{k+1}, (N, H).
        discount: d_k, gamma times the probability that s_{k+1} is not the end, (N, H).
        decay: lambda, in [0, 1].

    Returns:
        R_k for k = 0 .. H-1, (N, H); gradients reach reward, value and discount.
    """
    ### BEGIN SOLUTION
    following, returns = value[:, -1], []
    for k in reversed(range(reward.shape[1])):
        following = reward[:, k] + discount[:, k] * ((1 - decay) * value[:, k] + decay * following)
        returns.append(following)
    return torch.stack(returns[::-1], 1)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
lambda_return = check("lambda_return", lambda_return)

# %% [markdown]
# Which lambda? Try it where the truth is known. Every step pays 1, the discount is 0.9, so every state is worth 10. The dreamed
# rewards are noisy, and the critic says 7.

# %%
# NBVAL_CHECK_OUTPUT
noisy = 1 + torch.randn(20_000, 15, generator=torch.Generator().manual_seed(0))
says, ninety = torch.full_like(noisy, 7.0), torch.full_like(noisy, 0.9)
errors = {
    decay: (lambda_return(noisy, says, ninety, decay)[:, 0] - 10).square().mean().sqrt().item()
    for decay in (0.0, 0.5, 0.8, 0.95, 1.0)
}
best = min(errors, key=errors.__getitem__)
print("error of R_0:", ", ".join(f"{error:.2f} at {decay}" for decay, error in errors.items()))
print("it is smallest strictly between lambda 0 and 1:", 0 < best < 1)

# %% [markdown]
# ## The gradient through a trajectory, by hand
#
# Now the heart of it. The simplest world with a policy is linear: a mass on a rail, pushed by a force.
#
# $$ s_{k+1} = A s_k + B a_k, \qquad a_k = K s_k, \qquad r_k = -\big( s_{k+1}^\top Q\, s_{k+1} + a_k^\top R\, a_k \big), \qquad
#    J = \sum_{k=0}^{H-1} \gamma^k r_k $$
#
# The policy is one matrix, $K$. You want $dJ/dK$. An action taken now pays for itself now. It also moves the next state, which
# is paid for, and which moves the next action, and so on to the end. Do not follow all these paths forward. Stand at the end
# and walk back with one vector in your hands: $dJ/ds$ of the state that you stand in, by all that comes after it. This is
# what autograd does in every dream of this lesson. Do it once without: the check cannot tell, but you can.


# %% exercise="trajectory_gradient"
def trajectory_gradient(
    dynamics: Tensor,
    control: Tensor,
    state_cost: Tensor,
    action_cost: Tensor,
    gain: Tensor,
    start: Tensor,
    horizon: int,
    gamma: float,
) -> Tensor:
    """dJ / dK of one trajectory, by the chain rule from its end to its start.

    Args:
        dynamics: A, (S, S).
        control: B, (S, A).
        state_cost: Q, (S, S), symmetric.
        action_cost: R, (A, A), symmetric.
        gain: K, (A, S).
        start: s_0, (S,).
        horizon: H, how many actions are taken.
        gamma: the discount; r_k counts gamma^k.

    Returns:
        (A, S).
    """
    ### BEGIN SOLUTION
    states = [start]
    for _ in range(horizon):
        states.append(dynamics @ states[-1] + control @ (gain @ states[-1]))
    gradient, by_state = torch.zeros_like(gain), torch.zeros_like(start)
    for k in reversed(range(horizon)):
        by_next = by_state - 2 * gamma**k * state_cost @ states[k + 1]
        by_action = control.T @ by_next - 2 * gamma**k * action_cost @ (gain @ states[k])
        gradient = gradient + torch.outer(by_action, states[k])
        by_state = dynamics.T @ by_next + gain.T @ by_action
    return gradient
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
trajectory_gradient = check("trajectory_gradient", trajectory_gradient)

# %% [markdown]
# ## The actor's loss
#
# In a dream the same path leads from every reward back to every action: through the reward head, through h and z (by the
# reparameterization of lesson 03), into the actor's weights. Autograd walks it, and the loss is nearly nothing:
#
# $$ \mathcal{L}_{\text{actor}} = -\frac{1}{N H} \sum_{n, k} w_k \Big( \frac{R_k}{\text{scale}} + \eta\, \mathcal{H}[\pi(\cdot \mid s_k)] \Big) $$
#
# The entropy $\mathcal{H}$, at a small price $\eta$ (`bonus`), keeps the dice in the policy alive. Its price should mean the same
# in every world, so returns are first divided by `scale`, the range from their 5th to their 95th percentile, averaged over
# time. `weight`, `baseline` and `scale` come detached: the actor should earn more, not make bad states count less. `returns`
# does not: its graph is the road to the actor.


# %% exercise="analytic_loss"
def analytic_loss(
    returns: Tensor,
    baseline: Tensor,
    log_prob: Tensor,
    entropy: Tensor,
    weight: Tensor,
    scale: Tensor,
    bonus: float,
) -> Tensor:
    """Minus the mean of weight * (returns / scale + bonus * entropy).

    Args:
        returns: R_k, (N, H), with the graph of the dream.
        baseline: v(s_k), (N, H); not needed here.
        log_prob: of the action taken in s_k, (N, H) nats; not needed here.
        entropy: of the policy in s_k, (N, H) nats.
        weight: how much s_k counts, (N, H).
        scale: what returns are divided by, a scalar tensor.
        bonus: what a nat of entropy is worth.

    Returns:
        Scalar.
    """
    ### BEGIN SOLUTION
    return -(weight * (returns / scale + bonus * entropy)).mean()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
analytic_loss = check("analytic_loss", analytic_loss)

# %% [markdown]
# **The proof.** The mass on its rail behaves like an RSSM: `transition` gives $A s + B a$, and what is drawn is the world's noise,
# here zero. So *your* step dreams in it, *your* lambda-return adds up ($\lambda = 1$), *your* loss is differentiated. Beside
# it: your gradient by hand; the closed form, from second moments, without any trajectory (Fazel and others,
# arXiv:1801.05039); and central differences, which know no calculus.

# %%
# NBVAL_CHECK_OUTPUT
RAIL, STEPS, GAMMA = double_integrator(), 20, 0.97
starts = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
still, ones = torch.zeros(8, 2, dtype=torch.float64), torch.ones(8, 1, dtype=torch.float64)


def rail_returns(gain: Tensor) -> Tensor:
    """R_0 of dreams in the linear world from 8 starts, under a = K s, (8, 1)."""
    state, paid = (starts, still), []
    for _ in range(STEPS):
        action = (state[0] + state[1]) @ gain.T
        state = dream_step(RAIL, state, action, still)
        paid.append(RAIL.reward(action, state[0] + state[1]))
    reward = torch.stack(paid, 1)
    return lambda_return(reward, 0 * reward, torch.full_like(reward, GAMMA), 1.0)[:, :1]


gain = torch.tensor([[-0.6, -0.8]], dtype=torch.float64, requires_grad=True)
loss = analytic_loss(rail_returns(gain), *[0 * ones] * 3, ones, ones[0, 0], 0.0)
(slope,) = torch.autograd.grad(-loss, gain)
K, moment = gain.detach(), starts.T @ starts / 8
facts = RAIL.dynamics, RAIL.control, RAIL.state_cost, RAIL.action_cost
others = {
    "by hand": torch.stack([trajectory_gradient(*facts, K, s, STEPS, GAMMA) for s in starts]).mean(
        0
    ),
    "closed form": exact_gradient(RAIL, K, moment, STEPS, GAMMA),
    "finite differences": finite_differences(lambda k: rail_returns(k).mean(), K),
}
gaps = {name: ((slope - other).norm() / other.norm()).item() for name, other in others.items()}
for name, gap in gaps.items():
    print(f"through the dream, and {name}: relative error below 1e-4: {gap < 1e-4}")

# %%
print({name: f"{gap:.0e}" for name, gap in gaps.items()})

# %% [markdown]
# ## The other road: REINFORCE
#
# Lesson 03's score function needs no road at all. Do what went better than expected more often:
#
# $$ \mathcal{L}_{\text{REINFORCE}} = -\frac{1}{N H} \sum_{n, k} w_k \Big( \log \pi(a_k \mid s_k)\,
#    \mathrm{stop}\Big[\frac{R_k - v(s_k)}{\text{scale}}\Big] + \eta\, \mathcal{H}[\pi(\cdot \mid s_k)] \Big) $$
#
# No gradient may enter the returns or the baseline: the model is asked for numbers only, as the real world is. That is why it
# also works where there is no road, with actions that are picked from a list.


# %% exercise="reinforce_loss"
def reinforce_loss(
    returns: Tensor,
    baseline: Tensor,
    log_prob: Tensor,
    entropy: Tensor,
    weight: Tensor,
    scale: Tensor,
    bonus: float,
) -> Tensor:
    """Minus the mean of weight * (log_prob * stop((returns - baseline) / scale) + bonus * entropy).

    Arguments and result as in analytic_loss; gradients reach log_prob and entropy, and nothing else.
    """
    ### BEGIN SOLUTION
    advantage = ((returns - baseline) / scale).detach()
    return -(weight * (log_prob * advantage + bonus * entropy)).mean()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
reinforce_loss = check("reinforce_loss", reinforce_loss)

# %% [markdown]
# ## The critic
#
# The critic is plain regression onto the lambda-returns. But its target contains its own words, $v_{k+1}$, and a critic that
# chases its own tail can run away. Two guards. The target stands still: returns are detached. And $v_{k+1}$ is asked of a **slow** copy,
# which follows by 2 % at every update.


# %% exercise="critic_loss"
def critic_loss(value: Tensor, returns: Tensor, weight: Tensor) -> Tensor:
    """The mean of weight * (value - stop(returns))² / 2.

    Args:
        value: v(s_k), (N, H): it learns.
        returns: R_k, (N, H): they stand still.
        weight: how much s_k counts, (N, H).

    Returns:
        Scalar.
    """
    ### BEGIN SOLUTION
    return 0.5 * (weight * (value - returns.detach()).square()).mean()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
critic_loss = check("critic_loss", critic_loss)

# %% [markdown]
# ## Live a little, dream a lot
#
# Now let it live. Three episodes with an actor that knows nothing; 300 updates; then an episode, 200 updates, an episode, and
# so on. Every update is one batch for all three learners. Your step dreams, your lambda-return judges, your loss climbs, your
# critic learns. After every episode the policy is judged, without dice, on 20 starts of its own.

# %%
MINE = {
    "lambda_return": lambda_return,
    "actor_loss": analytic_loss,
    "critic_loss": critic_loss,
    "dream_step": dream_step,
}
agent = Dreamer(PENDULUM, seed=0, **MINE)
run = Run(agent, make_state, Schedule(steps=1_600), seed=0)
run.train(label="living and dreaming")

for row in run.rows[2:]:
    print(
        f"{row['steps']:5,.0f} real steps, {row['updates'] * PENDULUM.starts * PENDULUM.horizon:9,.0f} dreamed:",
        f"mean return {row['evaluation']:6.0f}",
    )
fresh_starts = run.evaluate(seed=20_000)
print(f"on 20 starts never used before: {fresh_starts.mean():.0f}")

# %%
# NBVAL_CHECK_OUTPUT
reached = steps_to_reach(
    [row["steps"] for row in run.rows], [row["evaluation"] for row in run.rows], -200
)
print("a mean return of at least -200 within 1,600 real steps:", reached <= 1_600)
print("after it, on starts never used before, at least -250:", bool(fresh_starts.mean() >= -250))

# %% [markdown]
# For scale: random torques return about -1,150. An agent that balances from the start pays next to nothing; the swing itself
# costs a few hundred at most, depending on where the rod begins. Early on it may do *worse* than random: judged without dice,
# a policy that knows nothing yet leans to one side.
#
# ## Which road is smoother
#
# Take 16 of the states that it has seen, dream from them 24 times with 24 sets of dice, and ask for the gradient of the same
# thing, the return from the first state, both ways *in the same dreams*. How much does the answer jump from one set of dice
# to the next? The variance, summed over all weights of the actor, says it. You ask twice: with the actor that you have just
# trained, and with one that has learned nothing.

# %%
DICE = 24


@torch.no_grad()
def states_seen(world: WorldModel, seed: int) -> State:
    """The states that a world model sees in 32 real windows, (256, D) and (256, S)."""
    batch = run.replay.sample_sequences(32, 8, torch.Generator().manual_seed(seed))
    noise = PENDULUM.latent.noise((32, 8), torch.Generator().manual_seed(seed))
    embed = world.encoder(batch.obs / agent.obs_scale)
    state = world.rssm.observe(embed, batch.action, batch.first, noise).state
    return State(*(part.flatten(0, 1) for part in state))


def analytic(returns, baseline, log_prob, entropy, weight, scale, bonus):
    """Your loss, for the return from s_0 alone, without entropy."""
    parts = (x[:, :1] for x in (returns, baseline, log_prob, entropy, weight))
    return analytic_loss(*parts, scale, 0.0)


def score(returns, baseline, log_prob, entropy, weight, scale, bonus):
    """Yours, summed over the steps: its mean is the gradient of the same return."""
    loss = reinforce_loss(returns, baseline, log_prob, entropy, weight, scale, 0.0)
    return returns.shape[1] * loss


def gradients(actor, horizon: int, loss) -> Tensor:
    """24 gradients of an actor in the trained world, (24, W): the same dice for either loss."""
    dreamer = copy.deepcopy(agent)
    dreamer.actor.load_state_dict(actor.state_dict())
    dreamer.config = replace(PENDULUM, horizon=horizon, decay=1.0)
    found = []
    for seed in range(DICE):
        dreamer.generator.manual_seed(seed)
        found.append(actor_gradient(dreamer, begin, loss))
    return torch.stack(found)


begin = State(*(part[::16] for part in states_seen(agent.world, 0)))  # 16 states
HORIZONS = (1, 5, 15, 40)
ACTORS = {"trained": agent.actor, "untrained": Dreamer(PENDULUM, seed=5).actor}
ROADS = {"reparameterized": analytic, "score function with baseline": score}
slopes = {
    (who, road): [gradients(actor, h, loss) for h in HORIZONS]
    for who, actor in ACTORS.items()
    for road, loss in ROADS.items()
}
variance = {key: torch.stack([g.var(0).sum() for g in found]) for key, found in slopes.items()}
gain_of = {
    who: variance[who, "score function with baseline"] / variance[who, "reparameterized"]
    for who in ACTORS
}
spread = {}
for who, actor in ACTORS.items():
    chosen = actor(begin.features()).detach()
    dice = PENDULUM.policy.noise((400, len(chosen)), torch.Generator().manual_seed(0))
    spread[who] = PENDULUM.policy.draw(chosen, dice).std(0).mean().item()
    times = ", ".join(
        f"H = {h}: {x:,.2g}" for h, x in zip(HORIZONS, gain_of[who].tolist(), strict=True)
    )
    print(f"{who:<9} actor, variance of REINFORCE over analytic: {times}")
print("std of an action, of 1:", {who: round(x, 2) for who, x in spread.items()})

# %% [markdown]
# The trained actor's dice have become smaller. That is where REINFORCE starves: it learns from what dice change, and the smaller
# they are, the less it sees in the noise. The untrained actor throws wild dice. There, too, the analytic gradient is smoother in
# short dreams; but as dreams grow longer the advantage melts, and turns around.
#
# Why? The analytic gradient is a product of H slopes. A policy that balances damps whatever happens to the rod: left, the product
# shrinks. Where world and policy amplify, as a falling rod does, it grows with every step. In a **chaotic** world it explodes. The smallest one is a rotor, kicked at every turn: $p' = p + 3 \sin\theta + a$,
# $\theta' = \theta + p'$, paid $\cos \theta'$, with the one-number policy $a = w \sin\theta$ and small dice. No network, no error
# of a model: the exact world, and your functions.

# %%
ROTORS = 4_000


def rotor_variance(horizon: int, kick: float = 3.0, std: float = 0.1) -> tuple[float, float]:
    """The variance of dR_0 / dw over 4,000 dreams, each with a copy of w of its own: analytic, and REINFORCE."""
    generator = torch.Generator().manual_seed(0)
    w = torch.zeros(ROTORS, requires_grad=True)
    angle, speed = torch.full((ROTORS,), 1.0), torch.zeros(ROTORS)
    reward, log_prob = [], []
    for _ in range(horizon):
        action = w * angle.sin() + std * torch.randn(ROTORS, generator=generator)
        mean = w * angle.detach().sin()
        log_prob.append(-0.5 * ((action.detach() - mean) / std).square())
        speed = speed + kick * angle.sin() + action
        angle = angle + speed
        reward.append(angle.cos())
    paid, log_prob = torch.stack(reward, 1), torch.stack(log_prob, 1)
    none, one = torch.zeros_like(paid), torch.ones(())
    returns = lambda_return(paid, none, none + 1, 1.0)
    parts = returns, returns.detach().mean(0).expand_as(returns), log_prob, none, none + 1, one, 0.0
    found = [torch.autograd.grad(road(*parts), w, retain_graph=True)[0] for road in ROADS.values()]
    return tuple((ROTORS * x).var().item() for x in found)


TURNS = (1, 2, 3, 5, 8, 12, 16, 20)
rotor = torch.tensor([rotor_variance(h) for h in TURNS])

fig, axes = plots.figure(1, 3, width=3.6, height=3.0)
for axis, who in zip(axes, ACTORS, strict=False):
    for road, label in zip(ROADS, ("analytic", "REINFORCE"), strict=True):
        plots.curve(axis, HORIZONS, variance[who, road], road, label)
    axis.set(title=f"learned pendulum, {who} actor", xlabel="steps of the dream, H", yscale="log")
for i, (road, label) in enumerate(zip(ROADS, ("analytic", "REINFORCE"), strict=True)):
    plots.curve(axes[2], TURNS, rotor[:, i], road, label)
axes[2].set(title="kicked rotor", xlabel="steps of the dream, H", yscale="log")
axes[0].set_ylabel("variance of the gradient")
axes[0].legend(fontsize=8)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
means = [slopes["untrained", road][1].mean(0) for road in ROADS]
print("both roads lead the same way (cosine above 0.7, untrained actor, H = 5):", end=" ")
print(bool(torch.cosine_similarity(*means, dim=0) > 0.7))
at = HORIZONS.index(15)
print(
    "trained actor, H = 15: REINFORCE varies more than 10 times as much:",
    bool(gain_of["trained"][at] > 10),
)
print("untrained actor: the advantage shrinks by more than 10 times from H = 1 to H = 40:", end=" ")
print(bool(gain_of["untrained"][0] > 10 * gain_of["untrained"][-1]))
print(
    "kicked rotor, H = 20: the analytic gradient varies more than a million times as much:", end=" "
)
print(bool(rotor[-1, 0] > 1e6 * rotor[-1, 1]))

# %% [markdown]
# So the analytic gradient is no free lunch. It wins in short dreams, in smooth worlds, with small dice: the pendulum, most
# robots in the air. It loses where the world is chaotic, or where the reward is a step (1 if the door is open: flat nearly
# everywhere, so the slope is 0 nearly everywhere), or at contacts. And a discrete action has no slope at all: a
# straight-through estimate, as in lesson 03, gives one, and it is biased. DreamerV2 and V3 take REINFORCE there, and V3,
# in its final version, takes it everywhere. It is one argument of `Dreamer`.
#
# ## Controls: what should fail, and does
#
# An actor needs the real world only for its world model. So keep yours as it is, put a *new* actor and critic into it, and
# let them dream 250 updates from the recorded states. Not one real step more.
#
# Then two controls. In the first the returns are detached before they reach your loss: the value of the loss is the same,
# the road is cut. In the second the *world* is broken: a new model learns from the same steps, but each window is told the
# actions of another.


# %%
def detached_loss(returns, *rest):
    """Your loss with the road cut."""
    return analytic_loss(returns.detach(), *rest)


def raised_in(world: WorldModel, updates: int = 250, **parts) -> Dreamer:
    """A new actor and critic that know a world from dreams alone."""
    pupil = Dreamer(PENDULUM, seed=100, **{**MINE, **parts})
    pupil.world = world
    for i in tqdm(range(updates), desc="dreaming", leave=False, mininterval=2):
        pupil.learn_behavior(states_seen(world, i))
    return pupil


shuffled, generator = Dreamer(PENDULUM, seed=200), torch.Generator().manual_seed(0)
for _ in tqdm(range(400), desc="a broken world", leave=False, mininterval=2):
    batch = run.replay.sample_sequences(32, 8, generator)
    others = torch.randperm(32, generator=generator)
    shuffled.learn_world(batch._replace(action=batch.action[others]))

pupils = {
    "dreams alone, in your world": raised_in(agent.world),
    "detached returns": raised_in(agent.world, actor_loss=detached_loss),
    "a world of shuffled actions": raised_in(shuffled.world),
}
paid = {name: Run(who, make_state, Schedule(0)).evaluate() for name, who in pupils.items()}
for name, returns in paid.items():
    print(f"{name:<28} mean return in the real world {returns.mean():6.0f}")

# %% [markdown]
# Your dreams alone were enough. Would you have noticed that the other world is broken, without the real one to ask? Look at how
# well each reconstructs what it sees, and at what each actor's dreams return, from states that its world has seen.

# %%
foretold, misdrawn = {}, {}
looked_at = (
    run.replay.sample_sequences(32, 8, torch.Generator().manual_seed(1)).obs / agent.obs_scale
)
for name in ("dreams alone, in your world", "a world of shuffled actions"):
    with torch.no_grad():
        states = states_seen(pupils[name].world, 1)  # of the same windows
        drawn = pupils[name].world.decoder(states.features())
        dream = pupils[name].dream(states)
    misdrawn[name] = (drawn - looked_at.flatten(0, 1)).square().mean().sqrt().item()
    foretold[name] = dream.returns.mean().item()
    print(
        f"{name:<28} reconstructs within {misdrawn[name]:.3f};",
        f"foretold {foretold[name]:5.2f} a step, paid {paid[name].mean() / 200:5.2f}",
    )

# %% [markdown]
# The two numbers are not quite of a kind: foretold is from recorded states, mostly upright, and paid is over whole episodes from
# random starts. So your own world, too, foretells less cost than is paid. Compare the proportions.
#
# With open eyes the broken world sees as well as yours, and its dream promises a good life. It has watched a pendulum that mostly
# stood upright, was told torques that had nothing to do with it, and concluded that rods rise by themselves. What tells,
# before you pay, is lesson 07's swap: the same state, the torque turned around for three steps. The real pendulum's speed then
# differs by about 1.8 rad/s, by Gymnasium's equations: 3 steps, each 3 / (m l²) x 0.05 s x 4 Nm, with m = l = 1. What does
# each dream say?


# %%
@torch.no_grad()
def answer(world: WorldModel) -> float:
    """How much faster the dreamed rod turns after three steps of full torque left than right, rad/s."""
    speeds = []
    for torque in (1.0, -1.0):
        state = states_seen(world, 1)
        for _ in range(3):
            push, noise = torch.full((256, 1), torque), torch.zeros(256, PENDULUM.latent.size)
            state = dream_step(world.rssm, state, push, noise)
        speeds.append(8 * world.decoder(torch.cat([*state], -1))[:, 2])
    return (speeds[0] - speeds[1]).mean().item()


answers = {"your world": answer(agent.world), "shuffled": answer(shuffled.world)}
print({name: round(x, 2) for name, x in answers.items()}, "of 1.8 rad/s")

# %%
# NBVAL_CHECK_OUTPUT
mean = {name: returns.mean().item() for name, returns in paid.items()}
print(
    "an actor raised on dreams alone: at least -250:", mean["dreams alone, in your world"] >= -250
)
print("detached returns: below -500:", mean["detached returns"] < -500)
print("a world of shuffled actions: below -500:", mean["a world of shuffled actions"] < -500)
kept = {name: 200 * foretold[name] / mean[name] for name in foretold}
print("its dreams foretell less than a third of the cost that is paid:", end=" ")
print(kept["a world of shuffled actions"] < 1 / 3)
print("yours foretell more than a third:", kept["dreams alone, in your world"] > 1 / 3)
shuffled_error, own_error = (misdrawn[name] for name in reversed(misdrawn))
print("it reconstructs at most twice as badly:", shuffled_error <= 2 * own_error)
print("the swap is answered within a third:", abs(answers["your world"] / 1.8 - 1) < 1 / 3)
print("the broken world answers less than half:", answers["shuffled"] < 0.9)

# %% [markdown]
# ## Every method so far
#
# Now the honest question: does it pay? Below are the methods of lessons 09, 10 and this one, five seeds each, judged by the same
# 20 starts. (The repository's `solutions/runs/11_table.py` makes the table.) Seconds are of one core's work, for acting and
# learning, not for being judged.

# %%
GOAL = -200
table = json.loads(RUNS.joinpath("11_table.json").read_text(encoding="utf-8"))
KNOWN = "random", "SAC", "SAC, 20 updates", "PETS", "MBPO", "Dreamer", "Dreamer from pixels"
METHODS = [method for method in KNOWN if method in table]


def reach(method: str, axis: str) -> Tensor:
    """When each seed first reached the goal, in "steps" or "seconds", (seeds,); infinity where it never did."""
    runs = table[method].values()
    return torch.tensor([steps_to_reach(r[axis], r["evaluation"], GOAL) for r in runs])


def told(x: Tensor, unit: str = "") -> str:
    """Median, and the range between the seeds."""
    low, middle, high = (
        f"{v:,.0f}{unit}" if math.isfinite(v) else "never"
        for v in (x.min().item(), x.median().item(), x.max().item())
    )
    return middle if low == high else f"{middle} ({low} to {high})"


lines = ["| method | real steps to -200 | CPU to -200 | final return |", "|---|---|---|---|"]
for method in METHODS:
    final = torch.tensor([r["final"] for r in table[method].values()])
    steps, seconds = reach(method, "steps"), reach(method, "seconds")
    lines.append(f"| {method} | {told(steps)} | {told(seconds, ' s')} | {told(final)} |")
Markdown("\n".join(lines))

# %%
fig, axes = plots.figure(1, 2, width=5.4, height=3.8)
for axis, unit in zip(axes, ("steps", "seconds"), strict=True):
    for method in METHODS[1:]:
        for i, found in enumerate(table[method].values()):
            color, style = plots.METHODS[method]
            label = None if i else method
            is_veteran = method == "Dreamer from pixels" and i == shipped["seed"]
            look = {"lw": 2.5, "alpha": 0.9} if is_veteran else {"lw": 1, "alpha": 0.5}
            axis.plot(found[unit], found["evaluation"], style, color=color, label=label, **look)
    rows = run.rows
    axis.plot(
        [row[unit] for row in rows], [row["evaluation"] for row in rows], "o-", color="black", lw=2,
        markersize=4, label="yours, just now",
    )  # fmt: skip
    axis.axhline(GOAL, color="black", ls=":", lw=1)
    axis.set(xscale="log", ylabel="mean return, 20 episodes", ylim=(-1_800, 0))
axes[0].set(xlabel="real steps", title="What a method asks of the world")
axes[1].set(xlabel="seconds of one core", title="What it asks of the machine")
axes[0].set_xticks([200, 500, 1_000, 2_000, 5_000], ["200", "500", "1,000", "2,000", "5,000"])
axes[0].minorticks_off()
axes[0].legend(fontsize=8, loc="lower right")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
rivals = "Dreamer", "MBPO", "PETS", "SAC, 20 updates", "SAC"
state, mbpo, pets, updates, plain = (reach(method, "steps").median().item() for method in rivals)
print("Dreamer on state reaches -200 within 2,000 real steps, median:", state <= 2_000)
print("that is fewer than half of SAC's at one update a step:", state < plain / 2)
print("and more than MBPO's, PETS', and SAC's at twenty:", state > max(mbpo, pets, updates))

# %% [markdown]
# Read both panels. On three numbers Dreamer does not win: MBPO and PETS need fewer real steps, and so does SAC with 20 updates a
# step, though not with every seed. Models of three numbers are learned in no time. What Dreamer buys is the last row. The
# models of lessons 09 and 10 predict the next observation from this one, and one frame is not enough to start from; Dreamer goes
# from numbers to frames by another encoder, another decoder and a few settings.
#
# One world more: CartPole-v1 from state, where actions are picked from a list and the actor learns by `reinforce_loss`; there
# the reward is always 1, so all that the dream can teach is the continuation: when the pole falls.

# %%
cartpole = table["Dreamer on CartPole"]
goal = torch.tensor([steps_to_reach(r["steps"], r["evaluation"], 450) for r in cartpole.values()])
print(f"CartPole-v1: a mean return of 450 (of 500 possible) after {told(goal)} real steps")

# %% [markdown]
# ## From pixels
#
# The veteran from the start goes on living: two episodes more, with 20 updates for each, through your functions. Its whole life
# is the bold light blue curve above. Only its last three episodes came with it, and its optimizers begin anew: what you see is
# that it goes on, no more.

# %%
veteran = Dreamer(PIXELS, seed=1, **MINE)
veteran.load_state_dict(shipped["modules"])
later = Run(
    veteran, make_pixels, Schedule(steps=10_000, ratio=0.1, evaluate_every=0, batch=16, length=16)
)
later.replay.add(*(Episode(*parts) for parts in shipped["episodes"]))
before = later.evaluate(episodes=5)
for _ in range(2):
    later.advance()
after = later.evaluate(episodes=5)
print(f"mean return of 5 episodes: {before.mean():.0f} before, {after.mean():.0f} after")

# %% [markdown]
# And here is its dream beside the world. It watches five real frames under random torques. Then its eyes are closed, and its
# policy acts on what it dreams; the real pendulum is told the same torques. Watch for the moment where they part: from there on
# the dreamed rod swings up and stands, and the real one, told the same torques, does not.


# %%
def by_pixels(features: Tensor) -> Tensor:
    """The veteran's action in a dreamed state."""
    return PIXELS.policy.mode(veteran.actor(features))


blind = Sleepwalk(veteran.world, make_pixels, imagine=by_steps(dream_step))
blind.reset(3)
while len(blind.history) < 65:
    blind.follow(by_pixels)
truth, dreamt = (
    torch.stack([getattr(moment, name) for moment in blind.history[4::4]])
    for name in ("truth", "dream")
)
fig, axes = plots.figure(2, 1, width=9.0, height=0.9)
plots.frames(axes[0], truth, "real")
plots.frames(axes[1], dreamt, "dreamed")
axes[0].set_title(f"Sixty steps with closed eyes, a frame every {4 * DT:.1f} s")
plt.show()

# %% [markdown]
# ## Play in the dream
#
# Your turn. This is *your* world model, trained above, with your step. Left, the true pendulum; right, the dream, told the same
# torques and seeing nothing. The curves say how far they have drifted apart. `wake up` lets the dreamer look. Try: a steady
# torque; a swing right through the top; then the autopilot, your policy, steering with closed eyes, until you wake it.

# %%
scale = torch.tensor(PENDULUM.obs_scale)
EYES = {
    "prepare": lambda obs: obs / scale,
    "decoded": lambda x: x * scale,
    "imagine": by_steps(dream_step),
}


def autopilot(features: Tensor) -> Tensor:
    """Your policy in a dreamed state."""
    return PENDULUM.policy.mode(agent.actor(features))


panel = play(agent.world, make_state, policy=autopilot, hold=4, **EYES)
panel

# %% [markdown]
# An upright rod doubles every small error within a few steps, and nobody balances long with closed eyes. But how often must
# your agent look? Let the autopilot steer four episodes with eyes closed all the way, and four with a glance at every fourth
# step.


# %%
def sleepwalk(seed: int, glance: int = 1_000) -> Sleepwalk:
    """A hundred steps by the autopilot, which sees the dream alone; the dreamer looks at every `glance`-th step."""
    walk = Sleepwalk(agent.world, make_state, **EYES)
    walk.reset(seed)
    for k in range(100):
        walk.follow(autopilot)
        if (k + 1) % glance == 0:
            walk.wake()
    return walk


def upright(walk: Sleepwalk) -> float:
    """The share of the last 30 steps in which the true rod stands within 26 degrees of the top."""
    return (torch.stack(walk.observed[-30:])[:, 0] > 0.9).float().mean().item()


closed, glancing = ([sleepwalk(seed, n) for seed in range(4)] for n in (1_000, 4))
shares = [sum(map(upright, walks)) / 4 for walks in (closed, glancing)]
print(
    f"true rod upright at the end: eyes closed {shares[0]:.0%}, a glance in four steps {shares[1]:.0%}"
)

# %%
# NBVAL_CHECK_OUTPUT
print("a glance in four steps holds the rod up, at least 70 % of the time:", shares[1] >= 0.7)
print("closed eyes hold it less:", shares[0] < shares[1])

# %% [markdown]
# If you only read: this is the last of these episodes, true world and dream, a glance in four steps.

# %%
with tempfile.TemporaryDirectory() as folder:
    gif = save_gif(Path(folder) / "dream.gif", glancing[-1].history[:90], fps=12, side=120)
    picture = Image(gif.read_bytes(), format="gif")
picture

# %% [markdown]
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | returns detached on the way to the loss | a loss of the right value, entropy that rises, returns that never do |
# | rewards or values one column late | nothing: in a run (seed 0) an actor raised on dreams reached the same return. Only a check on known numbers tells |
# | REINFORCE without the stop | a second gradient through the dream that nobody asked for; no error, only noise |
# | the critic's target not detached, no slow copy | values that run away; watch the mean value beside the mean return |
# | no continuation in the discount | in worlds that end: an actor that does not mind dying |
# | weights not detached | an actor that ends episodes, since states that do not count cannot cost |
# | no normalization of returns | a bonus that is all or nothing: another world, and the same setting never explores, or never stops |
# | a world model that ignores actions | dreams as pretty as ever; swap an action and look |
# | a dream that is too long for its model | foretold return above the paid one: the actor has found where the model is wrong |
#
# What this lesson does not show: the pendulum is small, smooth and always visited anew. Nothing here explores on purpose; in a
# world with one distant reward this agent would dream of nothing. And five seeds are five seeds.
#
# ## Links
#
# - Hafner, Lillicrap, Ba and Norouzi, *Dream to Control*, arXiv:1912.01603: this agent, equations 4 to 8.
# - Hafner, Lillicrap, Norouzi and Ba, *Mastering Atari with Discrete World Models*, arXiv:2010.02193: REINFORCE, slow critic.
# - Hafner, Pasukonis, Ba and Lillicrap, *Mastering Diverse Domains through World Models*, arXiv:2301.04104: scaled returns, one
#   setting for 150 worlds.
# - Ha and Schmidhuber, *World Models*, arXiv:1803.10122: the dream that you can play, and lesson 12.
# - Metz, Freeman, Schoenholz and Kachman, *Gradients are Not All You Need*, arXiv:2111.05803: chaos, and what it does to slopes.
# - Parmas, Rasmussen, Peters and Doya, *PIPPS*, arXiv:1902.01240: the same, found in a learned model, and a cure.
#
# **Next.** Lesson 12 goes back to where the dreams began: V, M and C, and a controller of 867 numbers that was evolved, not
# derived.
