# %% [markdown]
# # 02 Encoder and decoder: from pixels to a latent and back
#
# **Claim.** A picture of the pendulum, 1,024 pixels, fits into 16 numbers from which you can draw it again and read its
# angle. Its velocity is in there only if you encode two pictures.
#
# Lesson 01 had it easy: the world handed you cosine, sine and velocity. A robot has a camera. Here are two pendulums seen
# by a camera, both 1 radian off the top. What does each do in the next third of a second?

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from wmcourse import plots
from wmcourse.encoder_decoder import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    collect_clips,
    fit_probe,
    follow,
    next_hops,
)
from wmcourse.exercises import check, hint
from wmcourse.nets import fit
from wmcourse.worlds import make_pendulum, render_angles

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread


def film(angle: float, velocity: float, steps: int = 6) -> Tensor:
    """The pendulum's frames from a given state, without torque: uint8 (steps + 1, 1, 32, 32)."""
    env = make_pendulum(pixels=True)
    env.reset(seed=0)
    env.unwrapped.state = np.array([angle, velocity])
    seen = [env.observation(None)] + [env.step([0.0])[0] for _ in range(steps)]
    env.close()
    return torch.as_tensor(np.stack(seen))


up, down = film(1.0, -4.0), film(1.0, 4.0)
fig, axes = plots.figure(2, 1, width=7.5, height=1.1)
plots.frames(axes[0], up, "velocity -4 rad/s")
plots.frames(axes[1], down, "velocity +4 rad/s")
axes[0].set_title("One picture, two futures (one frame every 0.05 s)")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print("first pictures equal, pixel by pixel:", torch.equal(up[0], down[0]))
print("pictures 0.3 s later equal:", torch.equal(up[6], down[6]))

# %% [markdown]
# The left pictures are the same, bit by bit. One rod goes up, the other falls. No network, however large, can tell them
# apart from that picture. It is not there.
#
# **What you will be able to do**
#
# - build an encoder and a decoder, convolutional or not, and know the shape of every layer;
# - train them on reconstruction, with a loss on the right scale;
# - measure what a latent holds with a probe, instead of believing that it holds what you need;
# - give an encoder the memory of one frame without leaking across episodes;
# - tell when a walk through latent space leaves the world.
#
# **Time:** about 60 minutes. **Before:** lessons 00 and 01.
#
# ## The idea
#
# An encoder turns a picture into a few numbers. A decoder turns the numbers back into a picture. Train both together to
# make the second picture equal the first. There is no label and no teacher: the picture is its own target. All that the
# decoder knows about the picture must pass through the few numbers. So the numbers must say what varies from picture to
# picture, and for a pendulum that is the angle.
#
# $$ z = E_\psi(s), \qquad \hat{s} = D_\omega(z), \qquad
#    \mathcal{L}(\psi, \omega) = \frac{1}{B} \sum_{b=1}^{B} \; \sum_{c,i,j} \big(\hat{s}_{b,c,i,j} - s_{b,c,i,j}\big)^2 $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $s$, the picture | `frames` | (B, C, H, W), here C = 1 and H = W = 32 |
# | $E_\psi$, with weights $\psi$ | `encoder` | |
# | $z$, the latent | `z` | (B, Z), here Z = 16 |
# | $D_\omega$, with weights $\omega$ | `decoder` | |
# | $\hat{s}$, the decoded picture | `decoded` | (B, C, H, W) |
#
# A world model then predicts in z, where it is cheap, instead of in pixels (lesson 05). First: what does z hold?
#
# ## Frames, and a picture that says too much
#
# Gymnasium will draw the pendulum for you. Look closely at what it draws.

# %%
raw = gym.make("Pendulum-v1", render_mode="rgb_array")
ours = make_pendulum(pixels=True, frame_size=64)


def photograph(env: gym.Env, torque: float) -> np.ndarray:
    """A picture of a pendulum at 2.5 rad that has just been pushed with this torque."""
    env.reset(seed=0)
    env.unwrapped.state, env.unwrapped.last_u = np.array([2.5, 0.0]), torque
    return env.observation(None)[0] if env is ours else env.render()


pushes = [-2.0, -1.0, 2.0]
fig, axes = plots.figure(1, 6, width=1.5, height=1.8)
for i, push in enumerate(pushes):
    axes[i].imshow(photograph(raw, push)[125:375, 125:375])
    axes[i].set_title(f"Gymnasium\n{push:+.1f} N m", fontsize=8)
    axes[3 + i].imshow(photograph(ours, push), cmap="gray_r")
    axes[3 + i].set_title(f"this course\n{push:+.1f} N m", fontsize=8)
for axis in axes:
    axis.axis("off")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
for name, env in (("Gymnasium's picture", raw), ("this course's frame", ours)):
    same = np.array_equal(photograph(env, -2.0), photograph(env, 2.0))
    print(f"{name}: the same for a torque of -2 and of +2: {same}")

# %% [markdown]
# There is an arrow around the axle. Its direction and its size are the torque that was just applied: **the action is
# written in the picture**. Train on such frames and everything looks better than it is. A model that was told the wrong
# action can read the right one off the picture. A probe for the torque succeeds, although no camera sees a torque. So
# this course's frames leave the arrow out, crop to the disc that the rod sweeps, and keep one channel: 0 is paper, 255 is
# ink.
#
# Frames are stored as uint8, a quarter of the memory of float32. They must not be computed with. Here is why.

# %%
# NBVAL_CHECK_OUTPUT
ten, twenty = torch.tensor([10, 20], dtype=torch.uint8)
print("10 - 20 in uint8:", (ten - twenty).item())


# %% exercise="frames_to_float"
def frames_to_float(frames: Tensor) -> Tensor:
    """Stored frames to numbers that a network can learn from.

    Args:
        frames: uint8, 0 (paper) to 255 (ink), any shape, for example (B, T, 1, 32, 32).

    Returns:
        float32 in [0, 1], the same shape.
    """
    ### BEGIN SOLUTION
    return frames.float() / 255
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
frames_to_float = check("frames_to_float", frames_to_float)

# %% [markdown]
# Now record. `collect_clips` starts Pendulum-v1 again and again at an angle uniform on the circle and a velocity drawn
# apart from it, uniform between -8 and 8 rad/s, pushes once with a random torque, and keeps both frames with the true
# state. Why so careful? In ordinary episodes angle and velocity go together: a pendulum at the bottom is usually fast. A
# probe would guess the velocity from the angle and you would believe that the picture shows it. Each clip is an episode of
# its own, so held-out clips are held-out episodes.

# %%
train = collect_clips(1400, 2, seed=0)
test = collect_clips(400, 2, seed=100_000)
clips, test_clips = frames_to_float(train.frames), frames_to_float(test.frames)  # (N, 2, 1, 32, 32)
state, test_state = train.state[:, 1], test.state[:, 1]  # (N, 3): cos, sin, velocity of frame 1
one, test_one = clips[:, 1], test_clips[:, 1]  # (N, 1, 32, 32)

# %% [markdown]
# ## Layers that halve the picture
#
# A convolution slides one small window over the picture and asks the same question everywhere. An MLP has a weight of its
# own for every pixel. Before you can wire convolutions to a latent you must know how large their output is. A window of
# side `kernel` slides in steps of `stride` over a picture with `padding` blank pixels added on every side:
#
# $$ n' = \Big\lfloor \frac{n + 2 \cdot \text{padding} - \text{kernel}}{\text{stride}} \Big\rfloor + 1 $$


# %% exercise="conv_size"
def conv_size(size: int, layers: list[tuple[int, int, int]]) -> int:
    """The side of what a stack of convolutions makes of a square picture.

    Args:
        size: side of the picture, in pixels.
        layers: (kernel, stride, padding) of each convolution, first to last.

    Returns:
        Side of the last layer's output, a whole number.
    """
    ### BEGIN SOLUTION
    for kernel, stride, padding in layers:
        size = (size + 2 * padding - kernel) // stride + 1
    return size
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
conv_size = check("conv_size", conv_size)

# %%
# NBVAL_CHECK_OUTPUT
for kernel in (3, 4):
    sides = [conv_size(32, [(kernel, 2, 1)] * n) for n in range(4)]
    print(f"kernel {kernel}, stride 2, padding 1: sides {sides}")
back = [nn.ConvTranspose2d(1, 1, k, 2, 1)(torch.zeros(1, 1, 4, 4)).shape[-1] for k in (3, 4)]
print(f"transposed, from a side of 4: kernel 3 gives {back[0]}, kernel 4 gives {back[1]}")

# %% [markdown]
# Both kernels halve the side. Only kernel 4 doubles it again on the way back without extra arguments, which is why decoders
# like even kernels. Our convolutional encoder takes kernel 4 three times, 8, 16 and 32 channels, so that 32 x 4 x 4 = 512
# numbers reach one linear layer. The decoder is the same in reverse. The MLP pair has two hidden layers of 128.
#
# ## The loss
#
# One frame is one observation. Its pixels are parts of it, so their errors **add**. The batch holds many observations,
# so they are **averaged**. `F.mse_loss` averages both, which makes the loss 1,024 times smaller. Alone that only rescales
# it. Beside a second term, such as the KL of lesson 04, it decides which term wins.


# %% exercise="reconstruction_error"
def reconstruction_error(frames: Tensor, decoded: Tensor) -> Tensor:
    """Squared error summed over each frame's channels and pixels, averaged over the batch.

    Args:
        frames: (B, C, H, W).
        decoded: (B, C, H, W); gradients flow into it.

    Returns:
        Scalar.
    """
    ### BEGIN SOLUTION
    return (decoded - frames).square().flatten(1).sum(1).mean()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
reconstruction_error = check("reconstruction_error", reconstruction_error)

# %% [markdown]
# Train both pairs, three seeds each, on your loss. Three opponents keep them honest: the mean frame; PCA, the best *linear*
# encoder and decoder with as many numbers; and the nearest of the 1,400 training frames, which is no model at all but a
# good memory.

# %%
SEEDS, Z = range(3), 16
PAIRS = {"convolutional": (ConvEncoder, ConvDecoder), "MLP": (MLPEncoder, MLPDecoder)}


def train_pair(kind: str, frames: Tensor, steps: int, seed: int) -> tuple:
    """A new encoder and decoder of this kind, trained on frames (N, C, 32, 32), and their losses (steps,)."""
    torch.manual_seed(seed)
    channels = frames.shape[1]
    encoder, decoder = PAIRS[kind][0](Z, channels), PAIRS[kind][1](Z, channels)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        seen = frames[torch.randint(len(frames), (64,), generator=generator)]
        return reconstruction_error(seen, decoder(encoder(seen)))

    parameters = [*encoder.parameters(), *decoder.parameters()]
    losses = fit(parameters, loss, steps=steps, learning_rate=3e-3, label=f"{kind}, seed {seed}")
    return encoder.requires_grad_(False), decoder.requires_grad_(False), losses


models = {kind: [train_pair(kind, one, 400, seed) for seed in SEEDS] for kind in PAIRS}

mean_frame = one.mean(0, keepdim=True)
axes_of_pca = torch.linalg.svd((one - mean_frame).flatten(1), full_matrices=False).Vh[
    :Z
]  # (Z, 1024)
flat = (test_one - mean_frame).flatten(1)
by_pca = (flat @ axes_of_pca.T @ axes_of_pca).view_as(test_one) + mean_frame
nearest = one[torch.cdist(test_one.flatten(1), one.flatten(1)).argmin(1)]
error = {
    "mean frame": reconstruction_error(test_one, mean_frame.expand_as(test_one)).item(),
    "PCA": reconstruction_error(test_one, by_pca).item(),
    "nearest training frame": reconstruction_error(test_one, nearest).item(),
}
size = {"mean frame": 1024, "PCA": (Z + 1) * 1024, "nearest training frame": one.numel()}
for kind, runs in models.items():
    found = [reconstruction_error(test_one, d(e(test_one))).item() for e, d, _ in runs]
    error[kind] = sorted(found)[1]  # the median of three
    size[kind] = sum(p.numel() for part in runs[0][:2] for p in part.parameters())
for name in error:
    print(f"{name:<24} {size[name]:>9,} numbers stored   held-out error {error[name]:5.2f}")

# %%
# NBVAL_CHECK_OUTPUT
for kind in PAIRS:
    print(
        f"{kind}: error at most 1/8 of the mean frame's: {error[kind] < error['mean frame'] / 8}",
        end="",
    )
    print(f", at most 1/2 of PCA's: {error[kind] < error['PCA'] / 2}")
print("the MLP pair has about", round(size["MLP"] / size["convolutional"]), "times the weights")

# %%
picked = [3, 30, 57, 84, 111, 138, 165, 192]
fig, axes = plots.figure(4, 1, width=7.0, height=0.95)
shown = {"real": test_one, "PCA": by_pca.clamp(0, 1)}
shown |= {kind: models[kind][0][1](models[kind][0][0](test_one)) for kind in PAIRS}
for axis, (name, pictures) in zip(axes, shown.items(), strict=True):
    plots.frames(axis, pictures[picked].clamp(0, 1), name)
axes[0].set_title("Held-out frames, and what 16 numbers keep of them")
plt.show()

# %% [markdown]
# Both pairs beat PCA, which can only blend and leaves wings around the rod. The convolutional pair needs an eighth of the
# weights and a few times the seconds on a CPU, because each weight is used at every place. At this size neither wins. At
# 64 x 64 pixels and three channels the MLP's first layer alone has 1.6 million weights, and lesson 12 will use
# convolutions. The memory of real frames beats everybody: 1,400 frames of a world with one angle cover it. But it offers no
# latent to predict in, and it fails when a picture combines two things that were never seen together.
#
# ## What does the latent hold? Ask a probe
#
# A low error does not say what is in z. So freeze the encoder, encode the training frames, and fit a small MLP that reads
# the true state off z. This is a *probe*. Score it on held-out frames by the share of the target's variance that it
# explains:
#
# $$ R^2 = 1 - \frac{\sum_n (y_n - \hat{y}_n)^2}{\sum_n (y_n - \bar{y})^2} $$
#
# Here $y$ is `target`, $\hat{y}$ is `prediction`, both (N, D), and $\bar{y}$ is the target's own mean, per column. 1 is
# perfect. 0 is what you get for always saying the mean. Below 0 is worse than that.


# %% exercise="r_squared"
def r_squared(prediction: Tensor, target: Tensor) -> Tensor:
    """The share of each column's variance that is predicted.

    Args:
        prediction: (N, D).
        target: (N, D), the truth.

    Returns:
        (D,), at most 1; 0 for always saying the mean; below 0 for worse.
    """
    ### BEGIN SOLUTION
    missed = (target - prediction).square().sum(0)
    spread = (target - target.mean(0)).square().sum(0)
    return 1 - missed / spread
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
r_squared = check("r_squared", r_squared)


# %%
def read(encoder: nn.Module, frames: Tensor, test_frames: Tensor, seed: int) -> Tensor:
    """What a probe on this encoder's latents says of the held-out states: (M, 3)."""
    with torch.no_grad():
        z, test_z = encoder(frames), encoder(test_frames)
    return fit_probe(z, state, seed=seed)(test_z)


def show(name: str, scores: Tensor) -> None:
    """Print the median over seeds of R² (seeds, 3)."""
    cos, sin, velocity = scores.median(0).values
    print(f"{name:<34} cos {cos:5.2f}   sin {sin:5.2f}   velocity {velocity:5.2f}")


score = {}
for kind, runs in models.items():
    readings = [read(e, one, test_one, seed) for seed, (e, _, _) in enumerate(runs)]
    score[kind] = torch.stack([r_squared(reading, test_state) for reading in readings])
    show(f"{kind}, one frame", score[kind])

# %%
# NBVAL_CHECK_OUTPUT
for kind in PAIRS:
    median = score[kind].median(0).values
    print(f"{kind}: angle, R2 at least 0.95: {bool(median[:2].min() >= 0.95)}", end="")
    print(f"; velocity, R2 at most 0.1: {bool(median[2] <= 0.1)}")

# %% [markdown]
# Nobody told the encoder about angles, and the probe reads them almost perfectly. Nobody can read the velocity. (A perfect
# probe would reach about 0.01: gravity has pulled for one step, so each side leans a little towards falling.)
#
# ## Two frames
#
# The velocity is the angle's change. So hand the encoder two frames, as two channels: the one before and the one now. In a
# recorded stream this is a shift by one, and a shift by one has edges. At the first frame of an episode the row before
# belongs to *another* episode, and to use it would show a jump that never happened. There, and at the start of a window
# whose past you do not have, repeat the frame itself: "nothing moved" is the best neutral guess.


# %% exercise="stack_frames"
def stack_frames(frames: Tensor, first: Tensor) -> Tensor:
    """Each frame with the one before it, as two channels.

    Args:
        frames: (B, T, 1, H, W), float32 or uint8.
        first: bool, (B, T), true at the first frame of an episode.

    Returns:
        (B, T, 2, H, W), dtype of frames. Channel 0 is the previous frame, channel 1 the frame itself. Where
        `first` is true, and at t = 0 whatever `first` says, channel 0 is the frame itself, too.
    """
    ### BEGIN SOLUTION
    previous = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    previous = torch.where(first[:, :, None, None, None], frames, previous)
    return torch.cat([previous, frames], 2)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
stack_frames = check("stack_frames", stack_frames)

# %% [markdown]
# Stack the clips, train the MLP pair on two channels, and probe again. The negative control goes through the same code with
# `first` true everywhere: every frame is stacked with itself. If *that* read a velocity, something would leak.

# %%
first = torch.zeros(len(clips), 2, dtype=torch.bool)
first[:, 0] = True
test_first = first[: len(test_clips)]
two, test_two = stack_frames(clips, first)[:, 1], stack_frames(test_clips, test_first)[:, 1]
ones = torch.ones_like(first)
twice = stack_frames(clips, ones)[:, 1]
test_twice = stack_frames(test_clips, ones[: len(test_clips)])[:, 1]

memory = [train_pair("MLP", two, 500, seed) for seed in SEEDS]
control = [train_pair("MLP", twice, 200, seed) for seed in SEEDS]
readings = [read(e, two, test_two, seed) for seed, (e, _, _) in enumerate(memory)]
score["two frames"] = torch.stack([r_squared(reading, test_state) for reading in readings])
repeated = [read(e, twice, test_twice, seed) for seed, (e, _, _) in enumerate(control)]
score["one frame twice"] = torch.stack([r_squared(reading, test_state) for reading in repeated])
show("MLP, one frame", score["MLP"])
show("MLP, one frame stacked with itself", score["one frame twice"])
show("MLP, two frames", score["two frames"])
# %%
# NBVAL_CHECK_OUTPUT
median = score["two frames"].median(0).values
print(f"two frames: angle, R2 at least 0.95: {bool(median[:2].min() >= 0.95)}", end="")
print(f"; velocity, R2 at least 0.7: {bool(median[2] >= 0.7)}")
median = score["one frame twice"].median(0).values
print(f"one frame stacked with itself: velocity, R2 at most 0.1: {bool(median[2] <= 0.1)}")

# %%
single = read(models["MLP"][0][0], one, test_one, 0)
fig, axes = plots.figure(1, 2, width=3.6, height=3.2)
for axis, name, reading in zip(
    axes, ["one frame", "two frames"], [single, readings[0]], strict=True
):
    axis.plot(test_state[:, 2], reading[:, 2], ".", color=plots.METHODS[name][0], markersize=4)
    axis.plot([-8, 8], [-8, 8], color=plots.METHODS["exact"][0], linewidth=1)
    axis.set(xlabel="true velocity (rad/s)", xlim=(-9, 9), ylim=(-9, 9), aspect="equal")
    found = round(r_squared(reading, test_state)[2].item(), 2)
    axis.set_title(f"{name}: R² = {found + 0.0:.2f}")
axes[0].set_ylabel("velocity read off the latent (rad/s)")
plt.show()

# %% [markdown]
# This is the picture to remember. Each dot is a held-out clip. On the left the latent cannot know and the probe says the
# mean. On the right it knows.
#
# ## A low loss that knows nothing
#
# Now give the same two frames to the convolutional pair, for as many steps.

# %%
conv_memory = train_pair("convolutional", two, 500, 0)
stuck = r_squared(read(conv_memory[0], two, test_two, 0), test_state)
mean_two = two.mean(0, keepdim=True).expand_as(test_two)
loss_mean = reconstruction_error(test_two, mean_two).item()
loss_conv = reconstruction_error(test_two, conv_memory[1](conv_memory[0](test_two))).item()


def smooth(losses: Tensor) -> Tensor:
    """Average of each 10 steps."""
    return losses[: len(losses) // 10 * 10].view(-1, 10).mean(1)


fig, axis = plots.figure(width=5.6, height=3.0)
curves = torch.stack([smooth(losses) for _, _, losses in memory])
plots.curve(axis, torch.arange(curves.shape[1]) * 10, curves, "MLP", "MLP (3 seeds)")
curve = smooth(conv_memory[2])
plots.curve(axis, torch.arange(len(curve)) * 10, curve, "convolutional")
axis.axhline(loss_mean, color=plots.METHODS["copy last"][0], linestyle=":", label="mean frame")
axis.set(xlabel="training step", ylabel="reconstruction error", yscale="log")
axis.set_yticks([5, 10, 20, 50], ["5", "10", "20", "50"])
axis.set_yticks([], minor=True)
axis.set_title("The angle comes first, the velocity much later")
axis.legend(fontsize=8)
plt.show()

# %%
fig, axes = plots.figure(3, 1, width=6.0, height=0.95)
chosen = test_two[test_state[:, 2].abs() > 6][:4]  # fast ones
rows = {"real": chosen, "MLP": memory[0][1](memory[0][0](chosen))}
rows["convolutional"] = conv_memory[1](conv_memory[0](chosen))
for axis, (name, pair) in zip(axes, rows.items(), strict=True):
    plots.frames(axis, pair.flatten(0, 1)[:, None].clamp(0, 1), name)
axes[0].set_title("Four fast clips: the frame before and the frame now")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(
    "convolutional, two frames: error at most 0.4 of the mean frame's:", loss_conv < 0.4 * loss_mean
)
print("angle, R2 at least 0.95:", bool(stuck[:2].min() >= 0.95))
print("velocity, R2 at most 0.3:", bool(stuck[2] <= 0.3))

# %% [markdown]
# It sits on a plateau. It draws the right angle, with the rod smeared over all velocities. Most of the ink is right, the
# error is a third of the mean frame's, and the latent holds no velocity. The MLP hardly pauses there. The convolutional
# pair leaves, too, if you are patient: raise 500 steps to 2,000 and see.
#
# Is the velocity hard to see, then? Ask two that have learned nothing. The first is the same convolutional encoder with its
# random first weights. The second is no network at all: the angle from the ink's center of mass, in each of the two frames,
# and the velocity from their difference.


# %%
def untrained(frames: Tensor, test_frames: Tensor, seed: int) -> Tensor:
    """R² (3,) of the probe on a convolutional encoder that nobody trained."""
    torch.manual_seed(seed)
    encoder = ConvEncoder(Z, frames.shape[1])
    return r_squared(read(encoder, frames, test_frames, seed), test_state)


def center_of_mass_angle(frames: Tensor) -> Tensor:
    """The angle of the ink's center of mass around the middle of the frame: (N, H, W) to (N,)."""
    side = torch.arange(frames.shape[-1]) - (frames.shape[-1] - 1) / 2
    right = (frames * side).sum((1, 2))
    down = (frames * side[:, None]).sum((1, 2))
    return torch.atan2(-right, -down)  # 0 at the top, growing to the left, as Gymnasium counts


fresh = torch.stack([untrained(two, test_two, seed) for seed in SEEDS])
show("convolutional, untrained, two frames", fresh)
turned = center_of_mass_angle(test_two[:, 1]) - center_of_mass_angle(test_two[:, 0])
turned = torch.atan2(turned.sin(), turned.cos())  # the short way round
by_hand = r_squared(turned[:, None] / 0.05, test_state[:, 2:])[0].item()
print(f"center of mass, two frames: velocity {by_hand:.2f}")

# %%
# NBVAL_CHECK_OUTPUT
print("untrained: angle, R2 at least 0.9:", bool(fresh.median(0).values[:2].min() >= 0.9))
print("untrained: velocity, R2 at least 0.5:", bool(fresh.median(0).values[2] >= 0.5))
print("center of mass: velocity, R2 at least 0.99:", by_hand >= 0.99)

# %% [markdown]
# Two lessons in one table. First, a probe's score alone proves no learning: random weights carry most of what is in a
# picture, and two lines of arithmetic beat every network here. What a probe proves is what a latent *holds*. Second, training
# can throw away: the convolutional encoder could read the velocity before it was trained, and cannot after 500 steps of
# reconstruction. Reconstruction asks for ink, in order of how much ink it moves. What matters to you may be small: a ball, a
# traffic light, a velocity. This is why later lessons add losses that ask for more: predict the reward and predict the next
# latent (lesson 05), or do without pixels altogether (MuZero, lesson 14).
#
# ## Between two latents
#
# Encode two frames, walk from one latent to the other in a straight line, and decode on the way. Does the rod turn? To
# measure it you need all real frames: 720 of them, half a degree apart. A decoded frame is as good as its distance to the
# *nearest* of them:
#
# $$ d(\hat{s}) = \min_m \; \lVert \hat{s} - s_m \rVert_2 $$


# %% exercise="nearest_distance"
def nearest_distance(frames: Tensor, real: Tensor) -> Tensor:
    """How far each frame is from the real frame that is nearest to it.

    Args:
        frames: (N, C, H, W).
        real: (M, C, H, W).

    Returns:
        Euclidean distances over all channels and pixels, (N,).
    """
    ### BEGIN SOLUTION
    table = torch.cdist(
        frames.flatten(1), real.flatten(1), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return table.amin(1)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
nearest_distance = check("nearest_distance", nearest_distance)

# %% [markdown]
# Three ways from one frame to another. *Pixel average*: blend the pictures. *Straight line*: blend the latents, decode.
# *Walk over real latents*: hop along the latents of 400 real frames so that the sum of the squared hops is smallest (squares
# make one leap dearer than many small steps), blend within a hop, decode. The walk knows no angles, only distances in z.

# %%
dense = frames_to_float(render_angles(torch.arange(720) * torch.pi / 360))
KNOWN = 400  # training frames that the walk may step on
angle = torch.atan2(state[:KNOWN, 1], state[:KNOWN, 0])
gaps = [5, 10, 20, 30, 60, 90, 120, 150, 175]  # degrees between the two ends


def partner(start: int, gap: float) -> int:
    """The known frame nearest to `gap` degrees further on than frame `start`."""
    off = angle - angle[start] - gap * torch.pi / 180
    return int(torch.cos(off).argmax())


def ways(encoder: nn.Module, decoder: nn.Module) -> tuple[dict[str, Tensor], Tensor]:
    """Median distance to the real frames, halfway, for each way and gap; and for decoded real frames."""
    z = encoder(one[:KNOWN])
    hops = next_hops(z)
    found = {"pixel average": [], "straight line": [], "walk over real latents": []}
    for gap in gaps:
        pairs = [(start, partner(start, gap)) for start in range(24)]
        a, b = torch.tensor(pairs).T
        found["pixel average"].append(nearest_distance((one[a] + one[b]) / 2, dense).median())
        found["straight line"].append(nearest_distance(decoder((z[a] + z[b]) / 2), dense).median())
        walks = [follow(hops, *pair) for pair in pairs]
        middle = [walk[(len(walk) - 1) // 2 : (len(walk) - 1) // 2 + 2] for walk in walks]
        halfway = torch.stack([z[pair].mean(0) for pair in middle])
        found["walk over real latents"].append(nearest_distance(decoder(halfway), dense).median())
    floor = nearest_distance(decoder(encoder(test_one)), dense).median()
    return {way: torch.stack(values) for way, values in found.items()}, floor


runs = [ways(encoder, decoder) for encoder, decoder, _ in models["convolutional"]]
distance = {way: torch.stack([found[way] for found, _ in runs]) for way in runs[0][0]}
floor = torch.stack([f for _, f in runs]).median().item()

encoder, decoder, _ = models["convolutional"][0]
z = encoder(one[:KNOWN])
start, end = 0, partner(0, 150)
walk = follow(next_hops(z), start, end)
steps = torch.linspace(0, 1, 9)
line = z[start] + steps[:, None] * (z[end] - z[start])
blend = one[start] + steps[:, None, None, None] * (one[end] - one[start])
on_walk = z[[walk[round(s * (len(walk) - 1))] for s in steps.tolist()]]
rows = {
    "pixel average": blend,
    "straight line": decoder(line),
    "walk over\nreal latents": decoder(on_walk),
}
nearest_real = dense[torch.cdist(decoder(on_walk).flatten(1), dense.flatten(1)).argmin(1)]

fig, axes = plots.figure(4, 1, width=7.0, height=0.95)
for axis, (name, row) in zip(
    axes, (rows | {"nearest real,\nto the walk": nearest_real}).items(), strict=True
):
    plots.frames(axis, row.clamp(0, 1), name)
axes[0].set_title("From one frame to another, 150 degrees apart")
plt.show()

# %%
fig, (left, right) = plots.figure(1, 2, width=4.3, height=3.4)
plane = torch.linalg.svd(z - z.mean(0), full_matrices=False).Vh[:2]
flat = (z - z.mean(0)) @ plane.T
dots = left.scatter(*flat.T, c=angle * 180 / torch.pi, cmap="twilight", s=6)
fig.colorbar(dots, ax=left, label="angle (degrees)")
left.plot(*flat[walk].T, color=plots.METHODS["walk over real latents"][0], label="walk")
left.plot(
    *flat[[start, end]].T, color=plots.METHODS["straight line"][0], linestyle="--", label="line"
)
left.set(
    title="400 real frames in latent space", xlabel="first axis of z", ylabel="second axis of z"
)
left.legend(fontsize=8, loc="upper left")
for way, values in distance.items():
    plots.curve(right, gaps, values, way)
right.axhline(floor, color=plots.METHODS["real"][0], linewidth=1, label="real frames, decoded")
right.set(title="A straight line leaves the real frames", ylim=(0, None))
right.set(xlabel="angle between the ends (degrees)", ylabel="distance to the nearest real frame")
right.legend(fontsize=7)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
halfway = {way: values.median(0).values for way, values in distance.items()}
far, near = gaps.index(150), gaps.index(10)
print("10 degrees apart: the line decodes nearer to a real frame than the blend:", end=" ")
print(bool(halfway["straight line"][near] < halfway["pixel average"][near]))
print("150 degrees apart: the line is no better than the blend of pixels:", end=" ")
print(bool(halfway["straight line"][far] > 0.9 * halfway["pixel average"][far]))
print("150 degrees apart: the walk is at most half as far off as the line:", end=" ")
print(bool(halfway["walk over real latents"][far] < 0.5 * halfway["straight line"][far]))

# %% [markdown]
# All angles make a circle, so the latents of all frames make a closed loop, bent through 16 dimensions. A straight line
# between neighbors stays close to the loop. Between far frames it cuts across the hole, where the decoder has never been,
# and it draws ghosts. The walk along the loop draws pendulums all the way.
#
# Keep this in mind for lesson 05. A dynamics model that is a little wrong steps a little off the loop, and the decoder's
# picture of it, and the reward read off it, mean nothing there. Lesson 04 gives the latent noise and a prior, which fills
# the gaps between neighbors. It does not fill the hole.
#
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | the action is drawn in the picture | a probe reads the torque off one frame; imagined rollouts look too good |
# | angle and velocity go together in the data | a probe "reads" velocity from one frame; use spread starts |
# | a loss averaged over pixels | fine here; in lesson 04 the KL wins and the latent collapses |
# | stacking across an episode's end | a few wild velocities, always on the first frame; check `first` |
# | trusting a low loss | blurred rods and a probe at 0 for what you need |
# | frames of one episode in both train and test | held-out scores that fall on a new seed |
# | frames computed as uint8 | losses that never fall, differences of 246 where -10 belongs |
#
# A probe has a limit of its own. It shows that a small network *can* read something off z. It does not show that your
# dynamics model will use it.
#
# ## Links
#
# - Ha and Schmidhuber, *World Models*, arXiv:1803.10122: appendix A.1 has the convolutional pair.
# - Alain and Bengio, *Understanding Intermediate Layers Using Linear Classifier Probes*, arXiv:1610.01644.
# - Dumoulin and Visin, *A Guide to Convolution Arithmetic for Deep Learning*, arXiv:1603.07285: every size, drawn.
# - Mnih and others, *Playing Atari with Deep Reinforcement Learning*, arXiv:1312.5602: four frames stacked, section 4.1.
# - Arvanitidis, Hansen and Hauberg, *Latent Space Oddity*, arXiv:1710.11379: which line in a latent space is straight.
#
# **Next.** Lesson 03 puts dice between the encoder and the decoder, and asks how a gradient passes through them.
