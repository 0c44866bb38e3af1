# %% [markdown]
# # 06 Recurrent dynamics: remember what is hidden, keep apart what is open
#
# **Claim.** A memory tells a model what the last frame hides, and a mixture lets it imagine several futures where a single
# Gaussian imagines a cloud around their average, which never happens.
#
# Record a pendulum that shows its angle and keeps its velocity to itself. Then look for two moments that look alike: the
# same angle, the same torque.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmcourse import plots
from wmcourse.exercises import check, hint
from wmcourse.nets import fit
from wmcourse.recurrent_dynamics import (
    GustyPendulum,
    MemorylessModel,
    RecurrentModel,
    pad_episodes,
    turned,
    turns,
)
from wmcourse.replay import Episode, random_policy, record_episode, record_episodes
from wmcourse.worlds import angle_of, make_cartpole, make_pendulum, render_angles

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

env = make_pendulum(hide_velocity=True)  # observations are (cos, sin) of the angle, no more
# hold=5: a random torque that changed at every step would mostly cancel itself out
training = record_episodes(env, random_policy(env, seed=0, hold=5), count=40, seed=0)
held_out = record_episodes(env, random_policy(env, seed=1, hold=5), count=60, seed=1000)

some = training[:10]
shown = torch.cat([torch.cat([e.obs[:-4], e.action[:-3]], -1) for e in some])  # what a model sees
turn = torch.cat([turns(e.obs)[:-3] for e in some])  # what comes next: by how many radian it turns
unlike = torch.cdist(shown, shown) + 10 * (
    (turn[:, None] - turn).abs() < 0.5
)  # 10: they go on alike
first, second = (int(i) for i in torch.unravel_index(unlike.argmin(), unlike.shape))

# %%
after = torch.cat([angle_of(e.obs).unfold(0, 5, 1) for e in some])  # the angle now and four more
fig, axes = plots.figure(2, 1, width=6, height=1.3)
for axis, row, name in zip(axes, (first, second), "AB", strict=True):
    plots.frames(axis, render_angles(after[row]), f"moment {name}  ")
axes[0].set_title("now, and the next four frames (counterclockwise is +)", loc="left", fontsize=10)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(f"difference in what the two show: below 0.1: {bool(unlike[first, second] < 0.1)}")
print(f"turn of A and of B, radian: {turn[first]:+.1f}, {turn[second]:+.1f}")

# %% [markdown]
# The first frames agree, and so do the torques. Then the two go apart. No function of what you see and what you do can be
# right both times, whatever its size and however long you train it. The best it can do is the average of the two, and the
# average is nearly to stand still.
#
# **What you will be able to do**
#
# - write a GRU cell that takes torch's weights, and say which action goes in with which observation;
# - train on episodes of different lengths, so that padding counts for nothing;
# - write the likelihood of a mixture, stably, and draw from it at any temperature;
# - roll a model with memory forward, and measure what memory and mixture each are worth.
#
# **Time:** about 90 minutes. **Before:** lessons 01 and 03.
#
# ## The idea
#
# Two different things can be missing. What is *hidden* has already been decided, and the past tells: two frames ago the
# pendulum was to the left, so it is moving right. For this you need a memory. What is *open* has not been decided: the wind
# may come from the left or from the right, and no past tells. For this you need a distribution with room for several
# answers. A larger network helps with neither.
#
# $$ h_t = \mathrm{RNN}(h_{t-1}, z_{t-1}, a_{t-1}), \qquad z_t \sim p(z \mid h_t) $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $z_t$, what is seen at time t; here (cos, sin), in lesson 07 a latent | `obs[:, t]` | (B, 2) |
# | $a_t$, torque taken at $z_t$ | `action[:, t]` | (B, 1) |
# | $h_t$, the memory of everything before $z_t$ | `memory` | (B, D) |
# | $p(z \mid h_t)$, a mixture of K Gaussians for the turn from $z_{t-1}$ to $z_t$ | `logits`, `mean`, `std` | (B, K), (B, K, 1), (B, K, 1) |
#
# Read the indices slowly. $h_t$ is there *before* $z_t$ is seen. It has heard $z_{t-1}$ and the action taken there, and it
# predicts $z_t$. The state of the world in such a model is the pair $(h_t, z_t)$: memory, and what was drawn. As in lesson
# 01 the network predicts a change: the pendulum's turn in radian. A turn by any angle leads from a point of the circle to a
# point of the circle. `turns(obs)` reads the turns off a sequence of observations, and `turned(obs, turn)` is the (cos, sin)
# after a turn.
#
# ## A cell with gates
#
# A plain recurrent network overwrites its memory at every step. A gated one decides, number by number, how much to keep.
# All products with $x = (z_{t-1}, a_{t-1})$ and with $h = h_{t-1}$ are matrix products; $\odot$ is number by number.
#
# $$ r = \mathrm{sigmoid}(W_r x + b_r + U_r h + c_r), \qquad u = \mathrm{sigmoid}(W_u x + b_u + U_u h + c_u) $$
# $$ n = \tanh\big(W_n x + b_n + r \odot (U_n h + c_n)\big), \qquad h' = (1 - u) \odot n + u \odot h $$
#
# Torch calls the update gate $u$ by the name z; here z is taken. `weight_ih` (3 D, I) holds $W_r$, $W_u$, $W_n$ on top of each
# other, in this order; `weight_hh` (3 D, D) holds the $U$, `bias_ih` and `bias_hh` (3 D,) the $b$ and the $c$.


# %% exercise="gru_cell"
def gru_cell(
    x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> Tensor:
    """One step of a gated recurrent unit. The three blocks of D rows stand in the order r, u, n.

    Args:
        x: input, (B, I).
        h: memory, (B, D).
        weight_ih: W, (3 D, I).
        weight_hh: U, (3 D, D).
        bias_ih: b, (3 D,).
        bias_hh: c, (3 D,).

    Returns:
        The next memory, (B, D).
    """
    ### BEGIN SOLUTION
    from_x = (x @ weight_ih.T + bias_ih).chunk(3, -1)
    from_h = (h @ weight_hh.T + bias_hh).chunk(3, -1)
    reset = torch.sigmoid(from_x[0] + from_h[0])
    keep = torch.sigmoid(from_x[1] + from_h[1])
    new = torch.tanh(from_x[2] + reset * from_h[2])
    return (1 - keep) * new + keep * h
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
gru_cell = check("gru_cell", gru_cell)

# %% [markdown]
# Since the layout is torch's, a cell of torch's can lend you its weights.

# %%
cell = nn.GRUCell(3, 48)
x, h = torch.randn(32, 3), torch.randn(32, 48)
mine = gru_cell(x, h, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)

# %%
# NBVAL_CHECK_OUTPUT
print(f"equal to torch's GRUCell to 1e-6: {bool((mine - cell(x, h)).abs().max() < 1e-6)}")

# %% [markdown]
# ## Episodes of different lengths
#
# A memory needs sequences, and sequences end when they end. Here are eight episodes of CartPole under random pushes. To
# stand in one tensor they are filled up with zeros to the longest. `pad_episodes` does it. Its `obs` (B, T + 1, O) has one
# entry more than its `action` (B, T, A), for what was seen after the last action. Its `mask` (B, T) is true where a step
# really happened.

# %%
cartpole = make_cartpole()
fallen = record_episodes(cartpole, random_policy(cartpole, seed=0), count=8, seed=0)
mask = pad_episodes(fallen).mask

# %%
# NBVAL_CHECK_OUTPUT
print(f"steps in each episode: {mask.sum(1).tolist()}")
print(f"share of the batch that is padding: {1 - mask.float().mean():.2f}")

# %% [markdown]
# Most of this batch never happened. A plain mean of the loss would be an average over zeros, and its gradient would teach
# the model to predict padding. The mean you want runs over the real steps, each with the same weight:
#
# $$ \bar v = \frac{\sum_{b,t} m_{bt}\, v_{bt}}{\sum_{b,t} m_{bt}} $$
#
# where $v$ is `values` and $m$ is `mask`, both (B, T). The formula has a trap. If padding holds nan, $0 \cdot v$ is nan.


# %% exercise="masked_mean"
def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the entries where mask is true. The others count for nothing, even if they hold nan.

    Args:
        values: (B, T).
        mask: (B, T) bool.

    Returns:
        Scalar; 0, with a gradient of 0, where mask is true nowhere.
    """
    ### BEGIN SOLUTION
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
masked_mean = check("masked_mean", masked_mean)

# %% [markdown]
# One warning. The mask at the end protects the end. If nan enters a network at its *input*, the loss is clean and the
# gradient of the weights is not: on the way back 0 meets nan once more. So padding is filled with zeros at the start, and
# masked at the end. Both.

# %%
# NBVAL_CHECK_OUTPUT
for filler in (torch.nan, 0.0):
    weight = torch.ones((), requires_grad=True)
    loss = masked_mean((weight * torch.tensor([[3.0, filler]])) ** 2, torch.tensor([[True, False]]))
    loss.backward()
    print(
        f"padding {filler}: loss finite: {bool(loss.isfinite())},",
        f"gradient finite: {bool(weight.grad.isfinite())}",
    )

# %% [markdown]
# ## A distribution with room for several answers
#
# The head puts out K Gaussians and K logits. The logits become weights $\pi = \mathrm{softmax}(\ell)$. The density is the
# weighted sum of the K densities; in nats:
#
# $$ \log p(y) = \log \sum_{k=1}^{K} \pi_k\, \mathcal{N}(y; \mu_k, \sigma_k)
#    = \operatorname{logsumexp}_k \Big[ \log \pi_k + \sum_{i=1}^{Y} \log \mathcal{N}(y_i; \mu_{ki}, \sigma_{ki}) \Big] $$
#
# $\ell$ is `logits` (..., K), $\mu$ and $\sigma$ are `mean` and `std` (..., K, Y), y is `y` (..., Y). A component is a whole
# vector: sum over Y first, then mix. (World Models, arXiv:1803.10122, mixes each dimension by itself, which is cheaper, and
# cannot say that two dimensions jump together.) Stay in logarithms: 60 standard deviations away every density is 0 in
# float32, while its logarithm is an ordinary number with a slope that leads back.


# %% exercise="mixture_log_prob"
def mixture_log_prob(y: Tensor, logits: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log p(y) in nats under a mixture of K diagonal Gaussians.

    Args:
        y: (..., Y).
        logits: of the components, not normalized, (..., K).
        mean: (..., K, Y).
        std: standard deviations, above 0, (..., K, Y).

    Returns:
        (...), summed over the Y dimensions.
    """
    ### BEGIN SOLUTION
    u = (y[..., None, :] - mean) / std
    each = (-0.5 * u**2 - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)  # (..., K)
    return torch.logsumexp(logits.log_softmax(-1) + each, -1)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
mixture_log_prob = check("mixture_log_prob", mixture_log_prob)

# %% [markdown]
# A test with a known answer: draw 4,000 numbers from a mixture that you chose, forget it, and climb your likelihood from
# equal weights, equal spreads and rough means. Does it come back?

# %%
TRUE_WEIGHT, TRUE_MEAN, TRUE_STD = (
    torch.tensor(v) for v in ([0.2, 0.5, 0.3], [-2.0, 0.5, 3.0], [0.3, 0.8, 0.5])
)
generator = torch.Generator().manual_seed(0)
which = torch.multinomial(TRUE_WEIGHT, 4000, replacement=True, generator=generator)
sample = TRUE_MEAN[which] + TRUE_STD[which] * torch.randn(4000, generator=generator)

logits = torch.zeros(3, requires_grad=True)
means = torch.tensor([-3.0, 0.0, 3.0], requires_grad=True)
log_stds = torch.zeros(3, requires_grad=True)


def minus_log_likelihood() -> Tensor:
    parts = (p.expand(4000, *p.shape) for p in (logits, means[:, None], log_stds.exp()[:, None]))
    return -mixture_log_prob(sample[:, None], *parts).mean()


losses = fit([logits, means, log_stds], minus_log_likelihood, steps=200, learning_rate=0.05)

# %%
# NBVAL_CHECK_OUTPUT
print(f"weights within 0.03: {bool((logits.softmax(0) - TRUE_WEIGHT).abs().max() < 0.03)}")
print(f"means within 0.1: {bool((means - TRUE_MEAN).abs().max() < 0.1)}")
print(f"standard deviations within 0.1: {bool((log_stds.exp() - TRUE_STD).abs().max() < 0.1)}")

# %% [markdown]
# ## Listening, then dreaming
#
# A memory starts empty. Before a model dreams, let it listen: L real observations go in, one after the other, each with the
# action taken there. From then on its own predictions go in. `step` takes memory, observation and action, and gives the next
# memory and the next observation as the model sees it.


# %% exercise="rollout_with_memory"
def rollout_with_memory(step, memory: Tensor, obs: Tensor, actions: Tensor) -> Tensor:
    """Listen to L real observations, then feed each prediction back. actions[:, t] is taken at obs t.

    Args:
        step: function from memory (B, D), obs (B, O) and action (B, A) to a pair: the next memory
            and the predicted next obs.
        memory: before anything was seen, (B, D).
        obs: the context, (B, L, O), L at least 1.
        actions: (B, L - 1 + H, A): those taken in the context, then those of the future.

    Returns:
        The H predictions after the context, (B, H, O); [:, 0] is what comes after obs[:, -1].
    """
    ### BEGIN SOLUTION
    context, predictions = obs.shape[1], []
    for t, action in enumerate(actions.unbind(1)):
        now = obs[:, t] if t < context else predictions[-1]
        memory, predicted = step(memory, now, action)
        predictions.append(predicted)
    return torch.stack(predictions[context - 1 :], dim=1)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
rollout_with_memory = check("rollout_with_memory", rollout_with_memory)

# %% [markdown]
# ## What is memory worth?
#
# Two models learn from the same recordings, with the same head, batches, updates and learning rate. `RecurrentModel` puts
# your cell before the head. `MemorylessModel` puts an ordinary network there, with a fifth more weights, that sees
# $(z_{t-1}, a_{t-1})$ and nothing else. Each head has one component for now: a Gaussian. The recordings are cut into pieces of 10
# to 20 steps, so that your mask has work to do.
#
# Four methods of a model are used below. `start(B)` is the empty memory. `update` makes the next memory of memory,
# observation and action. `distribution` reads `logits`, `mean` and `std` of the next turn off a memory. `step` is what your
# rollout asks for. And `model(obs, action)` goes along whole sequences, (B, T, 2) and (B, T, 1), and gives the distribution
# of each turn: (B, T, K), and twice (B, T, K, 1).
#
# Then 20 steps open loop from held-out episodes: 10 frames to listen to, and after that the actions alone. In the figure a
# line is the median of five seeds, and its band reaches, at each step, from the best seed to the worst.

# %%
CONTEXT, HORIZON, SEEDS = 10, 20, 5


def pieces(episodes: list[Episode], shortest: int, longest: int, seed: int) -> list[Episode]:
    """Cut episodes into pieces of random length, end to end."""
    rng, cut = np.random.default_rng(seed), []
    for e in episodes:
        k = 0
        while k + shortest <= len(e.action):
            n = int(rng.integers(shortest, longest + 1))
            cut.append(Episode(e.obs[k : k + n + 1], *(part[k : k + n] for part in e[1:])))
            k += n
    return cut


def train(model: RecurrentModel, data, seed: int, steps: int, label: str) -> RecurrentModel:
    """Maximize the likelihood of every turn that really happened."""
    generator, target = torch.Generator().manual_seed(seed), turns(data.obs)[..., None]

    def loss() -> Tensor:
        i = torch.randint(len(target), (32,), generator=generator)
        distribution = model(data.obs[i, :-1], data.action[i])
        return -masked_mean(mixture_log_prob(target[i], *distribution), data.mask[i])

    fit(model.parameters(), loss, steps=steps, learning_rate=1e-2, label=label)
    return model.requires_grad_(False)


def fresh(kind, data, seed: int, components: int = 1) -> RecurrentModel:
    torch.manual_seed(seed)
    return kind(data, components, hidden=48, cell=gru_cell)


data = pad_episodes(pieces(training, 10, 20, seed=0))
models = {
    name: [
        train(fresh(kind, data, seed), data, seed, 700, f"{name}, seed {seed}")
        for seed in range(SEEDS)
    ]
    for name, kind in [("GRU", RecurrentModel), ("memoryless", MemorylessModel)]
}

# %%
START = 60  # each held-out window begins at this step of its episode
seen = torch.stack([e.obs[START : START + CONTEXT] for e in held_out])
taken = torch.stack([e.action[START : START + CONTEXT - 1 + HORIZON] for e in held_out])
truth = torch.stack([e.obs[START + CONTEXT : START + CONTEXT + HORIZON] for e in held_out])


def wrapped(angle: Tensor) -> Tensor:
    """The same angle in (-pi, pi]."""
    return torch.atan2(angle.sin(), angle.cos())


def angle_error(predicted: Tensor) -> Tensor:
    """Root mean square error of the angle at each step ahead, radian: (B, H, 2) to (H,)."""
    return wrapped(angle_of(predicted) - angle_of(truth)).square().mean(0).sqrt()


def dream(model: RecurrentModel, step=None) -> Tensor:
    return rollout_with_memory(step or model.step, model.start(len(seen)), seen, taken)


def wiped(model: RecurrentModel):
    """The same weights, the memory set to 0 before every step."""
    return lambda memory, obs, action: model.step(torch.zeros_like(memory), obs, action)


errors = {name: torch.stack([angle_error(dream(m)) for m in models[name]]) for name in models}
errors["memory wiped"] = torch.stack([angle_error(dream(m, wiped(m))) for m in models["GRU"]])
errors["copy last"] = angle_error(seen[:, -1:].expand_as(truth))

fig, axis = plots.figure(width=6.4, height=3.6)
for method, error in errors.items():
    plots.curve(axis, range(1, HORIZON + 1), error, method)
chance = math.pi / 3**0.5  # of an angle drawn at random from the whole circle
axis.axhline(chance, color="black", linewidth=0.8, label="an angle at random")
axis.set(title="Open loop with a hidden velocity", xlabel="steps ahead (0.05 s each)")
axis.set(ylabel="RMS error of the angle (rad)", xticks=[1, 5, 10, 15, 20], ylim=(0, None))
axis.legend()
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
final = {method: error[..., -1].median() for method, error in errors.items()}
ratio = final["GRU"] / final["memoryless"]
print(f"20 steps ahead, median of {SEEDS} seeds, {len(held_out)} held-out episodes")
print(f"GRU's error at most 1/3 of the memoryless model's: {bool(ratio <= 1 / 3)}")
print(
    f"in every single seed: {bool((errors['GRU'][:, -1] <= errors['memoryless'][:, -1] / 3).all())}"
)
print(f"memory wiped: at least 3 times the GRU's: {bool(final['memory wiped'] > 3 * final['GRU'])}")

# %%
for method, error in final.items():
    print(f"{method:<13} {error:.2f} rad")
for name in models:
    print(f"{name}: {sum(p.numel() for p in models[name][0].parameters())} weights")

# %% [markdown]
# The memoryless model is hardly better than saying that nothing moves: to stand still *is* nearly the best answer to its
# question. The dash-dotted line, *memory wiped*, is the control. It is the very same GRU, and all that it lost is h. What it
# knew of the velocity was there.
#
# What this does not show: that you need a GRU. Here nothing disturbs the frames, so two of them hold the velocity, as in
# lesson 02, and a network fed with both has it, too. You need memory when you cannot say beforehand how far back to look.
#
# ## Is the action in the right place?
#
# A common bug in this line of work: the model hears $(z_{t-1}, a_{t-2})$, each frame with the action *before* it. Train one
# like that, on the same recordings. Then ask the question of lesson 00: what if I had acted otherwise? The pendulum can be
# asked as well. The same seed and the same actions give the same episode again. So replay each held-out episode, turn the
# torque around from one moment on, and see what the change does.

# %%
SWAP = 15  # in the window: five steps into the dream the torques change sign


def late(episodes: list[Episode]) -> list[Episode]:
    """The bug: each observation with the action before the one that was taken there."""
    return [Episode(e.obs[1:], *(part[:-1] for part in e[1:])) for e in episodes]


def replay(seed: int, actions: Tensor) -> Episode:
    """The held-out episode again, with these actions."""
    queue = iter(actions.numpy())
    return record_episode(env, lambda _: next(queue), seed)


late_data = pad_episodes(pieces(late(training), 10, 20, seed=0))
misaligned = train(fresh(RecurrentModel, late_data, 0), late_data, 0, 700, "misaligned")

turned_around = [e.action.clone() for e in held_out]
for action in turned_around:
    action[START + SWAP :] *= -1
otherwise = [replay(1000 + i, action) for i, action in enumerate(turned_around)]
same = all(torch.equal(replay(1000 + i, held_out[i].action).obs, held_out[i].obs) for i in range(5))
real_effect = wrapped(
    torch.stack(
        [angle_of(o.obs) - angle_of(e.obs) for o, e in zip(otherwise, held_out, strict=True)]
    )
)[:, START + CONTEXT : START + CONTEXT + HORIZON]


def effect(model: RecurrentModel, shift: int) -> Tensor:
    """How the dreamed angle changes when the torques do, (B, H)."""
    angles = []
    for actions in (turned_around, [e.action for e in held_out]):
        window = slice(START + shift, START + shift + CONTEXT - 1 + HORIZON)
        chosen = torch.stack([a[window] for a in actions])
        angles.append(
            angle_of(rollout_with_memory(model.step, model.start(len(seen)), seen, chosen))
        )
    return wrapped(angles[0] - angles[1])


effects = {
    "real": real_effect,
    "aligned": effect(models["GRU"][0], 0),
    "misaligned": effect(misaligned, -1),
}
step_after = torch.arange(HORIZON) + CONTEXT - SWAP  # 0: the frame at which the torque changes

fig, axis = plots.figure(width=6.4, height=3.4)
for method, by_step in effects.items():
    plots.curve(axis, step_after[:13], by_step.abs().mean(0)[:13], method)
axis.axvline(0, color="#999999", linewidth=1)
axis.set(title="What turning the torque around changes", ylim=(0, None))
axis.set(xlabel="steps after the swap", ylabel="mean change of the angle (rad)")
axis.legend()
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(f"the same seed and actions give the same episode: {same}")
soon, wrong = (step_after >= 1) & (step_after <= 6), {}
for method in ("aligned", "misaligned"):
    too_soon = bool((effects[method][:, step_after <= 0].abs() > 1e-5).any())
    at_once = bool((effects[method][:, step_after == 1].abs() > 1e-5).any())
    gap = (effects[method] - real_effect)[:, soon].square().mean().sqrt()
    wrong[method] = (gap / real_effect[:, soon].square().mean().sqrt()).item()
    print(
        f"{method}: acts before the swap: {too_soon}; acts on the first frame after it: {at_once}"
    )

# %%
for method, late_by, model in [("aligned", 0, models["GRU"][0]), ("misaligned", 1, misaligned)]:
    test = pad_episodes(pieces(late(held_out) if late_by else held_out, 10, 20, seed=1))
    target = turns(test.obs)
    missed = (model(test.obs[:, :-1], test.action)[1][..., 0, 0] - target)[:, 2:][test.mask[:, 2:]]
    explained = 1 - missed.square().mean() / target[:, 2:][test.mask[:, 2:]].var()
    print(f"{method}: share of the next turn explained, held out: {explained:.3f};", end=" ")
    print(f"error of the effect, in units of the effect: {wrong[method]:.2f}")

# %% [markdown]
# One step ahead both models look fine, since a torque that is held is mostly the one before. The swap tells them apart: the
# misaligned model answers one frame late. (Hearing $a_t$ instead, one step early, does less harm to the dream: a memory
# can keep it until it is due. But then $h_t$ asks for an action that you cannot have chosen before $z_t$ is seen.)
#
# ## A world with several futures
#
# Now the second thing. Put the pendulum into the wind. You see it every quarter of a second; just after you chose your
# torque a gust kicks it. Three times out of ten the kick is +1.4 rad/s, seven times out of ten it is -0.6. On average that is
# no kick at all. `GustyPendulum` is a wrapper of ten lines around Gymnasium's Pendulum-v1, and the velocity stays hidden.
#
# A dream of this world needs draws. First which component, then where in it. A *temperature* $\tau$ makes dreams tamer or wilder:
#
# $$ k \sim \mathrm{softmax}(\ell / \tau), \qquad y = \mu_k + \sqrt{\tau}\, \sigma_k \odot \varepsilon $$
#
# Both dice come in from outside, as in lesson 03: `uniform` (...) in [0, 1) picks the component, $\varepsilon$ is `noise`
# (..., Y). To pick, lay the K weights end to end on [0, 1) and see into whose stretch `uniform` falls.


# %% exercise="mixture_sample"
def mixture_sample(
    logits: Tensor, mean: Tensor, std: Tensor, uniform: Tensor, noise: Tensor, temperature: float
) -> Tensor:
    """A draw from a mixture of K Gaussians, at a temperature.

    Component k is the first whose cumulative weight exceeds `uniform`, the last one if rounding
    leaves none; the weights are softmax(logits / temperature). The draw is
    mean_k + sqrt(temperature) * std_k * noise.

    Args:
        logits: (..., K).
        mean: (..., K, Y).
        std: standard deviations, above 0, (..., K, Y).
        uniform: numbers in [0, 1), (...).
        noise: standard normal numbers, (..., Y).
        temperature: above 0.

    Returns:
        (..., Y).
    """
    ### BEGIN SOLUTION
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)
    choice = (cumulative <= uniform[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)
    hot = F.one_hot(choice, logits.shape[-1])[..., None].to(mean.dtype)  # (..., K, 1)
    return (hot * mean).sum(-2) + temperature**0.5 * (hot * std).sum(-2) * noise
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
mixture_sample = check("mixture_sample", mixture_sample)

# %% [markdown]
# Train pairs of models on the wind, with the same seed, data and updates: one with a single Gaussian, one with five
# components.

# %%
RARE, GAP = 0.3, 2.0  # how often the strong gust comes, and how far the two are apart, rad/s
KICKS = ((1 - RARE) * GAP, -RARE * GAP)


def forked(rng: np.random.Generator) -> float:
    return KICKS[0] if rng.random() < RARE else KICKS[1]


def record_wind(gust, count: int, seed: int):
    """Pieces of 10 to 16 quarters of a second; the velocity is recorded as well, and shown to no model."""
    windy = GustyPendulum(make_pendulum(), gust)
    episodes = record_episodes(windy, random_policy(windy, seed), count, seed)
    padded = pad_episodes(pieces(episodes, 10, 16, seed))
    return padded._replace(obs=padded.obs[..., :2]), padded.obs[..., 2]


def held_out_log_prob(model: RecurrentModel, test) -> float:
    """Nats a step."""
    target = turns(test.obs)[..., None]
    return masked_mean(
        mixture_log_prob(target, *model(test.obs[:, :-1], test.action)), test.mask
    ).item()


COMPONENTS = {"single Gaussian": 1, "mixture": 5}


def train_pairs(gust, seeds: int) -> tuple[dict[str, list[RecurrentModel]], Tensor]:
    """Models of each kind for a wind, and what the mixture gains over the single Gaussian, (seeds,)."""
    data, _ = record_wind(gust, 400, seed=0)
    test, _ = record_wind(gust, 60, seed=5000)
    pairs, score = {}, {}
    for method, k in COMPONENTS.items():
        pairs[method] = [
            train(fresh(RecurrentModel, data, s, k), data, s, 800, f"{method}, seed {s}")
            for s in range(seeds)
        ]
        score[method] = torch.tensor([held_out_log_prob(m, test) for m in pairs[method]])
    return pairs, score["mixture"] - score["single Gaussian"]


forked_wind, gain = train_pairs(forked, seeds=3)

# %%
# NBVAL_CHECK_OUTPUT
print("what five components gain over one on held-out steps,")
print(f"at least 0.5 nats a step in each of 3 seeds: {bool((gain >= 0.5).all())}")

# %% [markdown]
# Is that because there are several futures, or would five components gain anywhere? The negative control: a wind of the same
# mean and the same strength that is *bell-shaped*. It is just as uncertain, but it has one future with a spread around it.


# %%
def bell(rng: np.random.Generator) -> float:
    return rng.normal(0, GAP * (RARE * (1 - RARE)) ** 0.5)


_, control = train_pairs(bell, seeds=2)

# %%
# NBVAL_CHECK_OUTPUT
print(
    f"bell-shaped wind: below 0.1 nats a step in each of 2 seeds: {bool((control.abs() < 0.1).all())}"
)

# %%
print("gain on the forked wind     ", [round(g, 2) for g in gain.tolist()])
print("gain on the bell-shaped wind", [round(g, 2) for g in control.tolist()])

# %% [markdown]
# ### Is every mode found?
#
# The simulator can tell what the two futures of a moment are: set it to the true state and let each gust come. Do this at
# one moment of every held-out piece. A mode counts as *found* if the model, told only the frames and torques before, puts
# at least half of its true probability (0.3 or 0.7) within a sixth of the distance between the two. Where the two are less
# than 0.4 rad apart, the pendulum was at its speed limit of 8 rad/s, which swallowed part of a gust. These moments are left out.

# %%
MOMENT = 8  # the memory has heard eight frames and eight torques
fork_test, fork_velocity = record_wind(forked, 60, seed=5000)  # the held-out pieces again
world = GustyPendulum(make_pendulum(), forked)


def swing_from(angle: float, velocity: float, torque: Tensor, kick: float) -> tuple[float, float]:
    """Angle (not wrapped) and velocity a quarter of a second later, from Gymnasium."""
    world.reset(seed=0)
    world.unwrapped.state = np.array([angle, velocity])
    world.swing(torque.numpy(), kick)
    return tuple(float(v) for v in world.unwrapped.state)


moment = fork_test.obs[:, MOMENT - 1]
futures = torch.tensor(  # the two turns that can come, (B, 2)
    [
        [swing_from(a, v, u, kick)[0] - a for kick in KICKS]
        for a, v, u in zip(
            angle_of(moment).tolist(),
            fork_velocity[:, MOMENT - 1].tolist(),
            fork_test.action[:, MOMENT - 1],
            strict=True,
        )
    ]
)


apart = (futures[:, 0] - futures[:, 1]).abs() > 0.4


TRUE_SHARE = torch.tensor([RARE, 1 - RARE])


def next_turn(model: RecurrentModel) -> tuple[Tensor, Tensor, Tensor]:
    """What the model says of the turn after the moment: logits (B, K), mean and std (B, K, 1)."""
    said = model(fork_test.obs[:, :MOMENT], fork_test.action[:, :MOMENT])
    return tuple(part[:, -1] for part in said)


def mass_near_modes(model: RecurrentModel) -> Tensor:
    """The probability that the model gives to the neighborhood of each true future, (B, 2)."""
    logits, mean, std = next_turn(model)
    component = torch.distributions.Normal(mean, std)  # (B, K, 1), against futures (B, 1, 2)
    near = (futures[:, :1] - futures[:, 1:]).abs()[:, None] / 6
    within = component.cdf(futures[:, None] + near) - component.cdf(futures[:, None] - near)
    return (logits.softmax(-1)[..., None] * within).sum(1)


def nats(model: RecurrentModel) -> Tensor:
    """The expected log-likelihood at each moment, over its two futures, (B,)."""
    each = [mixture_log_prob(turn[:, None], *next_turn(model)) for turn in futures.unbind(1)]
    return torch.stack(each, 1) @ TRUE_SHARE


mass = {m: torch.stack([mass_near_modes(x)[apart] for x in forked_wind[m]]) for m in COMPONENTS}
found = {m: (mass[m] >= TRUE_SHARE / 2).float().mean((0, 1)) for m in COMPONENTS}

# %%
# NBVAL_CHECK_OUTPUT
print(
    f"{int(apart.sum())} of {len(futures)} moments, 3 seeds; found in over 90 % (rare mode, frequent mode):"
)
for method in COMPONENTS:
    print(f"{method:<16}", (found[method] > 0.9).tolist())

# %%
for method in COMPONENTS:
    print(
        f"{method:<16} found (rare, frequent): {[round(f, 2) for f in found[method].tolist()]},",
        f"probability near: {[round(p, 2) for p in mass[method].mean((0, 1)).tolist()]},",
        "truth: 0.3 and 0.7;",
        f"nats: {torch.stack([nats(m)[apart] for m in forked_wind[method]]).mean():.2f}",
    )
spread = (futures[:, 0] - futures[:, 1]).abs()[apart] * (RARE * (1 - RARE)) ** 0.5
best = -spread.log().mean() - 0.5 * math.log(2 * math.pi * math.e)
print(f"the best that any single Gaussian could do at these moments: {best:.2f} nats")

# %% [markdown]
# The single Gaussian is not badly trained. It comes close to the best that one Gaussian can do, and the best is poor.
#
# Do not read the mixture's nats as a size. The two futures are points, and a component on a point gains nats without end as
# it narrows. What ends it is the floor under std in `RecurrentModel`, a hundredth of the spread of all turns, and how well
# the memory knows the velocity.
#
# ### The fan of futures
#
# Take one moment and let the wind blow four times. That makes 16 futures, and the simulator can play them all: the black
# tree, the thicker a branch the likelier. Each model listened to the same eight frames and now dreams 300 futures of its own.

# %%
GUSTS, DREAMS = 4, 300
long_enough = fork_test.mask.sum(1) >= MOMENT - 1 + GUSTS  # no torque of the tree is padding
from_low = (angle_of(moment).abs() - math.pi).abs()
ONE = int(torch.where(long_enough, from_low, torch.inf).argmin())  # a moment when the rod hangs low
future_torques = fork_test.action[ONE, MOMENT - 1 : MOMENT - 1 + GUSTS]


def tree() -> list[tuple[int, float, float, float]]:
    """Every branch: after how many gusts it begins, its two angles, and its probability."""
    tips = [(angle_of(moment)[ONE].item(), fork_velocity[ONE, MOMENT - 1].item(), 1.0)]
    branches = []
    for t, torque in enumerate(future_torques):
        grown = []
        for angle, velocity, p in tips:
            for kick, share in zip(KICKS, (RARE, 1 - RARE), strict=True):
                a, v = swing_from(angle, velocity, torque, kick)
                grown.append((a, v, p * share))
                branches.append((t, angle, a, p * share))
        tips = grown
    return branches


def fan(model: RecurrentModel, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """Dreamed angles (not wrapped) after 1 ... GUSTS gusts, (DREAMS, GUSTS)."""
    generator = torch.Generator().manual_seed(seed)

    def step(memory: Tensor, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        memory = model.update(memory, obs, action)
        uniform = torch.rand(len(obs), generator=generator)
        noise = torch.randn(len(obs), 1, generator=generator)
        turn = mixture_sample(*model.distribution(memory), uniform, noise, temperature)
        return memory, turned(obs, turn[:, 0])

    context = fork_test.obs[ONE, :MOMENT].expand(DREAMS, MOMENT, 2)
    actions = fork_test.action[ONE, : MOMENT - 1 + GUSTS].expand(DREAMS, -1, 1)
    dreamed = rollout_with_memory(step, model.start(DREAMS), context, actions)
    steps = turns(torch.cat([context[:, -1:], dreamed], 1))
    return angle_of(moment)[ONE] + steps.cumsum(1)


true_tree = tree()


def draw_fan(axis, dreamed: Tensor, method: str) -> None:
    for t, begin, end, p in true_tree:
        axis.plot([t, t + 1], [begin, end], color="black", linewidth=0.4 + 6 * p, zorder=1)
    jitter = 0.16 * (torch.rand(DREAMS, GUSTS, generator=torch.Generator().manual_seed(1)) - 0.5)
    at = torch.arange(1, GUSTS + 1) + jitter
    axis.plot(at, dreamed, ".", color=plots.METHODS[method][0], markersize=3, alpha=0.5, zorder=2)
    axis.plot([], [], "-", color="black", label="real futures")
    axis.plot([], [], ".", color=plots.METHODS[method][0], label=f"dreamed: {method}")
    ends = [end for *_, end, _ in true_tree]
    axis.set(xlabel="gusts from now (0.25 s each)", xticks=range(GUSTS + 1))
    axis.set_ylim(min(ends) - 0.8, max(ends) + 0.8)


fig, axes = plots.figure(1, 2, width=5, height=4.2)
for axis, method in zip(axes, COMPONENTS, strict=True):
    draw_fan(axis, fan(forked_wind[method][0]), method)
    axis.legend(loc="upper left", fontsize=8)
axes[0].set(
    title="One Gaussian dreams between the futures", ylabel="angle (rad, 0 is the top; not wrapped)"
)
axes[1].set(title="The mixture dreams the futures")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
after_one = torch.tensor(sorted(end for t, _, end, _ in true_tree if t == 0))
reach = (after_one[1] - after_one[0]) / 8
first_gust = {method: fan(forked_wind[method][0])[:, 0] for method in COMPONENTS}
near, middle = {}, {}
for method, dreamed in first_gust.items():
    near[method] = ((dreamed[:, None] - after_one).abs().amin(1) < reach).float().mean()
    middle[method] = ((dreamed - after_one.mean()).abs() < reach).float().mean()
    print(
        f"{method:<16} after one gust: over 80 % of dreams near a real future: {bool(near[method] > 0.8)},",
        end=" ",
    )
    print(f"more than 10 % halfway between the two: {bool(middle[method] > 0.1)}")

# %%
real_mean = after_one @ torch.tensor([1 - RARE, RARE])
real_std = (after_one[1] - after_one[0]) * (RARE * (1 - RARE)) ** 0.5
for method, dreamed in first_gust.items():
    print(
        f"{method:<16} near a real future: {near[method]:.2f}, halfway: {middle[method]:.2f};",
        end=" ",
    )
    print(f"mean {dreamed.mean():.2f}, real {real_mean:.2f};", end=" ")
    print(f"spread {dreamed.std():.2f}, real {real_std:.2f}")

# %% [markdown]
# This is the figure to keep. The single Gaussian has about the right mean and spread, and dreams mostly of things that
# cannot happen. After four gusts its cloud looks better: sums of many kicks are nearly bell-shaped, whatever one kick is. A
# planner, however, acts on the next step.
#
# What this does not show: that a mixture finds a future which the data hardly holds. The rare gust is three tenths of what
# these models saw. And five components were enough for two futures; nobody tells you the number in advance.
#
# ### Temperature
#
# A low temperature gives nearly all draws to the heaviest components, and keeps them close to their middles. A high one evens
# out the weights, and lets dreams stray off the tree. World Models trains a controller in dreams at a temperature above 1, so
# that it cannot live off the model's mistakes (arXiv:1803.10122; lesson 12).

# %%
TEMPERATURES = (0.1, 1.0, 3.0)
fig, axes = plots.figure(1, 3, width=3.6, height=3.6)
share, stray = [], []
for axis, tau in zip(axes, TEMPERATURES, strict=True):
    dreamed = fan(forked_wind["mixture"][0], tau)
    draw_fan(axis, dreamed, "mixture")
    share.append((dreamed[:, 0] > after_one.mean()).float().mean().item())
    stray.append((dreamed[:, :1] - after_one).abs().amin(1).mean().item())
    axis.set_title(f"temperature {tau:g}: {share[-1]:.0%} rare gusts first", fontsize=11)
axes[0].set_ylabel("angle (rad, 0 is the top; not wrapped)")
axes[0].legend(loc="upper left", fontsize=9)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(f"share of the rare gust at temperature 1 is 0.3 to within 0.1: {abs(share[1] - 0.3) < 0.1}")
print(
    f"the higher the temperature, the farther from a real future: {stray[0] < stray[1] < stray[2]}"
)


# %%
def rare_share(model: RecurrentModel, tau: float) -> float:
    """The weight of the components nearer to the rare future, mean over all moments."""
    logits, mean, _ = next_turn(model)
    rare = (mean[..., 0] - futures[:, :1]).abs() < (mean[..., 0] - futures[:, 1:]).abs()
    return ((logits / tau).softmax(-1) * rare)[apart].sum(-1).mean().item()


for tau in (*TEMPERATURES, 1000.0):
    by_seed = [round(rare_share(m, tau), 2) for m in forked_wind["mixture"]]
    print(f"temperature {tau:6g}: weight of the rare future at all moments, by seed: {by_seed}")

# %% [markdown]
# What a temperature evens out is components, not futures. The hotter, the closer a future's share comes to its share of the
# five components, and how many of them went to which future is an accident of training. Nor does a low temperature always
# choose the likelier future: where several components share it, the heaviest one may belong to the other.

# %% [markdown]
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | the action one step late or early | a fine one-step loss; swap an action, and the dream answers a frame late, or before it is taken |
# | padding in the loss | a loss that looks too good, and better the shorter the episodes; compare one long episode alone |
# | nan in padded inputs | the loss is finite, and after one update every weight is nan |
# | log of a sum of exp | infinities in the first updates, when the data is far from every component |
# | no floor under std | one component collapses onto one data point; its likelihood grows without bound |
# | too little data for a memory | the single Gaussian's training likelihood rises while the held-out one falls: it learns the gusts by heart |
# | every component in the same place | no gain over one; look at the weights and means, and start the means apart |
# | judging a dream by its mean | the mean of two futures is neither |
#
# ## Links
#
# - Ha and Schmidhuber, *World Models*, arXiv:1803.10122: the MDN-RNN, and temperature in dreams.
# - Bishop, *Mixture Density Networks*, 1994, Aston University NCRG/94/004: the head of this lesson.
# - Cho and others, *Learning Phrase Representations using RNN Encoder-Decoder*, arXiv:1406.1078: the gated unit.
# - Ha and Eck, *A Neural Representation of Sketch Drawings*, arXiv:1704.03477: an MDN-RNN that draws, with temperature.
# - Graves, *Generating Sequences With Recurrent Neural Networks*, arXiv:1308.0850: mixtures on top of a memory.
#
# **Next.** Your memory is deterministic, and what it does not know it must put into one draw at the very end. Lesson 07
# makes the draw part of the state: the RSSM.
