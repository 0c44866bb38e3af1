"""Encoder and decoder: frames to a latent z and back, and what can be read off z (lesson 02).

z_t = E_psi(s_t), s_t ~ D_omega(z_t); convolutional pairs after Ha & Schmidhuber, arXiv:1803.10122, appendix A.1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmcourse.nets import fit, mlp
from wmcourse.worlds import FRAME_SIZE, MAX_SPEED, TORQUE, make_pendulum

SMALLEST = 4  # the side of the feature maps between convolutions and the latent


class Clips(NamedTuple):
    """N short recordings of T frames each, with the true state that the frames show."""

    frames: Tensor  # (N, T, 1, H, W) uint8
    state: Tensor  # (N, T, 3): cos and sin of the angle, velocity in radian per second
    action: Tensor  # (N, T - 1, 1): the torque between two frames, newton meter


def collect_clips(count: int, length: int, seed: int, frame_size: int = FRAME_SIZE) -> Clips:
    """Record `count` clips of Pendulum-v1 of `length` frames each, under random torques.

    A clip starts at an angle uniform on the circle and, drawn apart from it, a velocity uniform in [-8, 8].
    """
    env = make_pendulum(pixels=True, frame_size=frame_size)
    world: Any = env.unwrapped
    torque = np.random.default_rng(seed).uniform(-TORQUE, TORQUE, (count, length - 1, 1)).astype(np.float32)
    frames, states = [], []
    for i in range(count):
        frame, _ = env.reset(seed=seed + i, options={"x_init": math.pi, "y_init": MAX_SPEED})
        for t in range(length):
            frame = env.step(torque[i, t - 1])[0] if t else frame
            frames.append(frame)
            states.append(world.state)
    env.close()
    angle, velocity = torch.as_tensor(np.stack(states), dtype=torch.float32).view(count, length, 2).unbind(-1)
    pictures = torch.as_tensor(np.stack(frames)).view(count, length, 1, frame_size, frame_size)
    return Clips(pictures, torch.stack([angle.cos(), angle.sin(), velocity], -1), torch.as_tensor(torque))


def frames_to_float(frames: Tensor) -> Tensor:
    """uint8 frames in 0..255 to float32 in [0, 1]; any shape."""
    return frames.float() / 255


def stack_frames(frames: Tensor, first: Tensor) -> Tensor:
    """Each frame with the one before it as two channels; the first of an episode, which has none before, twice.

    Mnih et al., arXiv:1312.5602, section 4.1, stack four.

    Args:
        frames: (B, T, 1, H, W), any dtype.
        first: (B, T) bool, true at the first frame of an episode; the first column counts as true.

    Returns:
        (B, T, 2, H, W): channel 0 is the previous frame, channel 1 the frame itself.
    """
    previous = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    previous = torch.where(first[:, :, None, None, None], frames, previous)
    return torch.cat([previous, frames], 2)


def conv_size(size: int, layers: Sequence[tuple[int, int, int]]) -> int:
    """The side of what a stack of convolutions makes of a square picture of side `size`.

    Dumoulin & Visin, arXiv:1603.07285, relationship 6: floor((size + 2 padding - kernel) / stride) + 1 per layer.

    Args:
        size: side of the picture, pixels.
        layers: (kernel, stride, padding) of each convolution, first to last.
    """
    for kernel, stride, padding in layers:
        size = (size + 2 * padding - kernel) // stride + 1
    return size


def reconstruction_error(frames: Tensor, decoded: Tensor) -> Tensor:
    """Squared error summed over a frame's channels and pixels, averaged over the batch: (B, C, H, W) twice to ()."""
    return (decoded - frames).square().flatten(1).sum(1).mean()


def r_squared(prediction: Tensor, target: Tensor) -> Tensor:
    """The share of the target's variance that is predicted, 1 - SSE / SST, per column: (N, D) twice to (D,).

    1 is perfect, 0 as good as always saying the target's mean; below 0 worse than that.
    """
    missed = (target - prediction).square().sum(0)
    spread = (target - target.mean(0)).square().sum(0)
    return 1 - missed / spread


def nearest_distance(frames: Tensor, real: Tensor) -> Tensor:
    """How far each frame is from the real frame nearest to it: (N, C, H, W) and (M, C, H, W) to (N,).

    Euclidean over channels and pixels. Exact: the quicker matrix product would find identical frames apart.
    """
    return torch.cdist(frames.flatten(1), real.flatten(1), compute_mode="donot_use_mm_for_euclid_dist").amin(1)


def next_hops(points: Tensor) -> Tensor:
    """Where to go first on the way from each point to each other, so that the sum of squared hops is smallest.

    Squares make one leap dearer than many short hops, so the way follows the points, as a geodesic on a graph of
    neighbors does (Tenenbaum et al. 2000, Isomap). Floyd & Warshall's algorithm: (N, Z) to (N, N), int64.
    """
    cost = torch.cdist(points, points).square()
    first = torch.arange(len(points), device=points.device).expand(len(points), -1)
    for k in range(len(points)):
        by_k = cost[:, k, None] + cost[k]
        first = torch.where(by_k < cost, first[:, k, None], first)
        cost = torch.minimum(by_k, cost)
    return first


def follow(hops: Tensor, start: int, end: int) -> list[int]:
    """The points on the way from start to end, both included, by the table of `next_hops`."""
    way = [start]
    while way[-1] != end:
        way.append(int(hops[way[-1], end]))
    return way


class ConvEncoder(nn.Module):
    """Frames (..., C, size, size) to (..., outputs) by convolutions that halve the side until it is 4.

    Args:
        outputs: how many numbers a frame becomes: a latent, or an embedding, or a mean and a spread end to end.
        channels: C.
        size: side of the frame, 4 times a power of 2.
        depth: channels of the first convolution; each next one has twice as many.
    """

    def __init__(self, outputs: int, channels: int = 1, size: int = FRAME_SIZE, depth: int = 8):
        super().__init__()
        widths = [channels, *layer_widths(size, depth)]
        layers: list[nn.Module] = []
        for inputs, width in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, width, kernel_size=4, stride=2, padding=1), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * SMALLEST**2, outputs)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode float frames."""
        maps = self.convolutions(frames.reshape(-1, *frames.shape[-3:]))
        return self.head(maps.flatten(1)).view(*frames.shape[:-3], -1)


class ConvDecoder(nn.Module):
    """Latents (..., inputs) to frames (..., C, size, size): the encoder run backwards.

    The frames are not squashed into [0, 1]: they are the mean of a Gaussian, or the logits of a Bernoulli.
    """

    def __init__(self, inputs: int, channels: int = 1, size: int = FRAME_SIZE, depth: int = 8):
        super().__init__()
        widths = [*reversed(layer_widths(size, depth)), channels]
        self.head = nn.Linear(inputs, widths[0] * SMALLEST**2)
        layers: list[nn.Module] = []
        for wide, width in itertools.pairwise(widths):
            layers += [nn.SiLU(), nn.ConvTranspose2d(wide, width, kernel_size=4, stride=2, padding=1)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Decode latents."""
        frames = self.convolutions(self.head(z).view(z.shape[:-1].numel(), -1, SMALLEST, SMALLEST))
        return frames.view(*z.shape[:-1], *frames.shape[1:])


def layer_widths(size: int, depth: int) -> list[int]:
    """Channels after each convolution that halves a side of `size` until it is 4.

    Raises:
        ValueError: size is not 4 times a power of 2.
    """
    halvings = round(math.log2(max(size, 1) / SMALLEST))
    if halvings < 1 or SMALLEST * 2**halvings != size:
        raise ValueError(f"the side of a frame should be 8, 16, 32, 64, ... and {size} came")
    return [depth * 2**i for i in range(halvings)]


class MLPEncoder(nn.Sequential):
    """Frames (..., C, H, W) to (..., outputs): every pixel is an input, and where it lies is forgotten."""

    def __init__(self, outputs: int, channels: int = 1, size: int = FRAME_SIZE, hidden: int = 128):
        super().__init__(nn.Flatten(-3), mlp(channels * size**2, hidden, hidden, outputs))


class MLPDecoder(nn.Sequential):
    """Latents (..., inputs) to frames (..., C, H, W)."""

    def __init__(self, inputs: int, channels: int = 1, size: int = FRAME_SIZE, hidden: int = 128):
        super().__init__(mlp(inputs, hidden, hidden, channels * size**2), nn.Unflatten(-1, (channels, size, size)))


def fit_autoencoder(
    encoder: nn.Module, decoder: nn.Module, frames: Tensor, *, steps: int, seed: int, batch: int = 64, label: str = ""
) -> Tensor:
    """Train both on the reconstruction error of float frames (N, C, H, W); returns the loss at each step, (steps,)."""
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        seen = frames[torch.randint(len(frames), (batch,), generator=generator)]
        return reconstruction_error(seen, decoder(encoder(seen)))

    return fit([*encoder.parameters(), *decoder.parameters()], loss, steps=steps, learning_rate=3e-3, label=label)


def fit_probe(z: Tensor, target: Tensor, *, seed: int, steps: int = 400) -> Callable[[Tensor], Tensor]:
    """A small MLP that reads a target off frozen latents: (N, Z) and (N, D) to a function from (M, Z) to (M, D).

    Alain & Bengio, arXiv:1610.01644. Latents and targets are standardized with the mean and spread of these.

    Args:
        z: no gradient goes back into it.
        target: what to read.
        seed: draws the first weights and the batches.
        steps: updates of 256 each.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = mlp(z.shape[-1], 64, 64, target.shape[-1]).to(z.device)
    generator = torch.Generator().manual_seed(seed)
    middle, spread = z.detach().mean(0), z.detach().std(0) + 1e-6
    inputs, wanted = (z.detach() - middle) / spread, (target - target.mean(0)) / target.std(0)

    def loss() -> Tensor:
        index = torch.randint(len(inputs), (256,), generator=generator)
        return F.mse_loss(net(inputs[index]), wanted[index])

    with torch.enable_grad():
        fit(net.parameters(), loss, steps=steps, learning_rate=3e-3)
    net.requires_grad_(False)
    return lambda other: net((other.detach() - middle) / spread) * target.std(0) + target.mean(0)


def probe(z: Tensor, target: Tensor, test_z: Tensor, test_target: Tensor, *, seed: int, steps: int = 400) -> Tensor:
    """R² per target, (D,), of a probe fitted on (N, Z) and (N, D) and asked about held-out (M, Z) and (M, D)."""
    return r_squared(fit_probe(z, target, seed=seed, steps=steps)(test_z), test_target)
