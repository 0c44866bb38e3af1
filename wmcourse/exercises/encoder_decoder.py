"""Lesson 02's exercises: frames, convolutions, and rulers for what a latent holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from wmcourse import encoder_decoder as reference
from wmcourse.grading.exercise import Draw, Exercise, Mistake
from wmcourse.grading.expect import describe, expect, expect_close, gradients

LESSON = "02_encoder_decoder"


def _uint8(draw: Draw, *shape: int, low: int = 0, high: int = 256) -> Tensor:
    return draw.integers(*shape, low=low, high=high).to(torch.uint8)


frames_to_float = Exercise(
    reference=reference.frames_to_float,
    lesson=LESSON,
    points=1,
    minutes=4,
    difficulty=1,
    hints=(
        "A stored pixel is a whole number from 0 to 255. Which two steps make it a fraction from 0 to 1?",
        "First another type, then another scale. The largest value that a uint8 can hold sets the scale, not the data.",
        "Make the frames float32, then divide by the value of a pixel full of ink.",
    ),
    example=lambda draw: (_uint8(draw, 3, 2, 1, 8, 6),),
)


@frames_to_float.case("a pixel becomes its share of full ink")
def _(answer: Callable, draw: Draw) -> None:
    frames = _uint8(draw, 4, 1, 5, 7, low=20, high=200)
    x = frames.float()
    each = x.flatten(1)
    expect_close(
        answer(frames),
        x / 255,
        "0 should become 0, 255 should become 1, and everything between in proportion",
        tolerance=1e-5,
        mistakes={
            "divided by 256: what would a pixel of 255 become?": x / 256,
            "still on the scale of 0 to 255: what is the largest value of a uint8?": x,
            "divided by the brightest pixel of these frames: a dark frame should stay dark": x / x.max(),
            "each frame is divided by its own brightest pixel: a dark frame should stay dark": x
            / each.amax(1)[:, None, None, None],
            "stretched from the darkest to the brightest pixel that came: the scale should not depend on the data": (
                x - x.min()
            )
            / (x.max() - x.min()),
            "the range is -1 to 1: the decoder's target should lie in 0 to 1": x / 127.5 - 1,
            "centered on 0: the decoder's target should lie in 0 to 1": x / 255 - 0.5,
            "rounded: was something divided before it became a float?": torch.zeros_like(x),
            "turned around: ink is 1 and paper is 0": 1 - x / 255,
            "divided twice": x / 255**2,
            "standardized: the scale should not depend on the data": (x - x.mean()) / x.std(),
        },
    )


@frames_to_float.case("no ink is 0 and full ink is 1")
def _(answer: Callable, draw: Draw) -> None:
    frames = torch.tensor([0, 255, 255, 0, 255], dtype=torch.uint8, device=draw.device).view(5, 1, 1, 1)
    likely = "a pixel of 0 should give 0 and one of 255 should give 1, exactly"
    expect_close(answer(frames), (frames > 0).float(), likely, tolerance=1e-6)


@frames_to_float.case("frames of any number of axes, empty ones included", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in [(1, 9, 4), (2, 3, 1, 5, 4), (6,)]:
        frames = _uint8(draw, *shape)
        expect_close(answer(frames), frames.float() / 255, f"something goes wrong for shape {shape}", tolerance=1e-5)
    blank = torch.zeros(2, 1, 4, 3, dtype=torch.uint8, device=draw.device)
    expect_close(answer(blank), blank.float(), "a frame without any ink should be all 0")


def _layers(draw: Draw) -> tuple[int, list[tuple[int, int, int]]]:
    def one(low: int, high: int) -> int:
        return int(draw.integers(1, low=low, high=high).item())

    return one(80, 140), [(one(2, 6), one(1, 4), one(0, 3)) for _ in range(3)]


def _expect_side(value: Any, wanted: int, likely: str, mistakes: Mapping[str, float] | None = None) -> None:
    if value == wanted and isinstance(value, int):
        return
    if value == wanted:
        raise Mistake("a side is a whole number: which division gives whole numbers?", came=describe(value))
    for sentence, wrong in (mistakes or {}).items():
        if value == wrong:
            likely = sentence
            break
    raise Mistake(likely, came=f"{value}, wanted {wanted}")


conv_size = Exercise(
    reference=reference.conv_size,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "Slide a window along one padded row by hand. How many places can its left edge take?",
        "The padded side is size + 2 padding. The window's left edge goes from 0 to padded side - kernel, "
        "in steps of stride, and both ends count.",
        "Per layer: whole-number division of (size + 2 padding - kernel) by stride, plus 1; the result is the next "
        "layer's size.",
    ),
    example=_layers,
)


@conv_size.case("one layer of stride 1")
def _(answer: Callable, draw: Draw) -> None:
    size = int(draw.integers(1, low=20, high=60).item())
    _expect_side(
        answer(size, [(7, 1, 2)]),
        size - 2,
        f"a side of {size}, kernel 7, stride 1, padding 2: on how many places can the kernel lie?",
        {
            "padding is added on one side only: there is some on the left and on the right": size - 4,
            "padding is left out": size - 6,
            "the kernel's first place is not counted: from 0 to 2 there are 3 places": size - 3,
            "the kernel's size is not taken away: it has to fit inside": size + 5,
            "padding is taken away instead of added": size - 10,
            "this is the side before the layer": size,
            "the side before the first layer plus the padding: where does the kernel come in?": size + 4,
            "kernel, stride and padding seem to be in another order": (size + 2 - 7) // 2 + 1,
        },
    )


@conv_size.case("a stride skips places, and the rest is dropped")
def _(answer: Callable, draw: Draw) -> None:
    size = 3 * int(draw.integers(1, low=8, high=20).item()) + 1  # (size + 2 - 4) / 3 leaves a rest of 2
    room = size + 2 - 4
    _expect_side(
        answer(size, [(4, 3, 1)]),
        room // 3 + 1,
        f"a side of {size}, kernel 4, stride 3, padding 1: on how many places can the kernel lie?",
        {
            "a side is a whole number: a last step that does not fit is not taken": room / 3 + 1,
            "rounded up: a last step that does not fit is not taken": -(-room // 3) + 1,
            "the stride is ignored": room + 1,
            "the kernel's first place is not counted: from 0 to 2 there are 3 places": room // 3,
            "the 1 for the first place is added before the division": (room + 1) // 3,
            "this is the side divided by the stride: kernel and padding matter, too": size // 3,
        },
    )
    _expect_side(
        answer(size + 1, [(4, 3, 1)]),
        (room + 1) // 3 + 1,
        "try (size + 2 padding - kernel) that the stride divides: how many places are there?",
        {
            "the 1 for the first place is added before the division": (room + 2) // 3,
        },
    )


@conv_size.case("layers follow one another")
def _(answer: Callable, draw: Draw) -> None:
    size = int(draw.integers(1, low=70, high=110).item())
    layers = [(5, 2, 0), (3, 1, 1), (4, 3, 2)]

    def after(some: list[tuple[int, int, int]]) -> int:
        return reference.conv_size(size, some)

    _expect_side(
        answer(size, layers),
        after(layers),
        "each layer's side is made from the side that the layer before it gave",
        {
            "only the first layer is applied: is the return inside the loop?": after(layers[:1]),
            "only the last layer is applied: does every layer start again from the full picture?": after(layers[-1:]),
            "the layers are applied from last to first": after(layers[::-1]),
            "the last layer is left out": after(layers[:-1]),
        },
    )


@conv_size.case("agrees with torch's own convolutions", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for _ in range(3):
        size, layers = _layers(draw)
        x = torch.zeros(1, 1, size, size)
        for kernel, stride, padding in layers:
            x = torch.nn.functional.conv2d(x, torch.zeros(1, 1, kernel, kernel), stride=stride, padding=padding)
        _expect_side(answer(size, layers), x.shape[-1], f"torch gives another side for {size} and {layers}")
    _expect_side(answer(32, []), 32, "no layer at all leaves the side as it was")


def _frames_decoded(draw: Draw) -> tuple[Tensor, Tensor]:
    return draw.uniform(6, 2, 5, 7), draw.uniform(6, 2, 5, 7, low=-0.3, high=1.4, grad=True)


reconstruction_error = Exercise(
    reference=reference.reconstruction_error,
    lesson=LESSON,
    points=2,
    minutes=6,
    difficulty=2,
    hints=(
        "A frame is one observation; its pixels are parts of it. The batch holds many observations.",
        "Parts of one observation are added. Observations are averaged. So the two are not treated alike.",
        "Square the difference, flatten each frame to one row, sum over the row, and take the mean of what is left.",
    ),
    example=_frames_decoded,
)


@reconstruction_error.case("summed over a frame's channels and pixels, averaged over the batch")
def _(answer: Callable, draw: Draw) -> None:
    frames, decoded = _frames_decoded(draw)
    gap = (decoded - frames).detach()
    square = gap.square()
    expect_close(
        answer(frames, decoded).detach(),
        square.sum() / 6,
        "square the difference, add it up over each frame, then average over the frames",
        mistakes={
            "averaged over the pixels, too: a frame is one observation, so its errors add up": square.mean(),
            "summed over the batch, too: the loss grows with the batch": square.sum(),
            "summed over the batch and averaged over the pixels: which of the two is the observation?": square.sum()
            / 70,
            "the channels are averaged: they are parts of the frame, as pixels are": square.sum() / 12,
            "the height is averaged: it is part of the frame": square.sum() / 30,
            "the width is averaged: it is part of the frame": square.sum() / 42,
            "only the width is summed: height and channels are parts of the frame, too": square.sum() / 60,
            "only the channels are summed": square.sum(1).mean(),
            "a root too many: the squared error is asked for": square.flatten(1).sum(1).sqrt().mean(),
            "a root too many: the squared error, without a root, is asked for": (square.sum() / 6).sqrt(),
            "the absolute difference: it should be squared": gap.abs().sum() / 6,
            "not squared: errors up and down cancel": gap.sum() / 6,
            "not squared, and turned around": -gap.sum() / 6,
            "squared after the sum: errors up and down cancel": gap.flatten(1).sum(1).square().mean(),
            "half of it: no 1/2 is asked for": square.sum() / 12,
            "the sign is turned around: an error is above 0": -square.sum() / 6,
            "only the first frame counts": square[0].sum(),
        },
    )


@reconstruction_error.case("its gradient pulls every pixel towards the frame")
def _(answer: Callable, draw: Draw) -> None:
    frames, decoded = _frames_decoded(draw)
    grad = gradients(answer(frames, decoded), {"decoded": decoded})["decoded"]
    likely = "d error / d decoded should be 2 (decoded - frames) / B: is a part detached, clamped or rounded?"
    expect_close(grad, 2 * (decoded - frames).detach() / 6, likely)


@reconstruction_error.case("one wrong pixel costs the same in a small frame and in a large one", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for shape in [(4, 1, 3, 5), (4, 1, 16, 12), (4, 3, 8, 8)]:
        frames = draw.uniform(*shape)
        decoded = frames.clone()
        decoded[1, 0, 2, 1] += 0.5
        expect_close(answer(frames, decoded), torch.tensor(0.0625), f"0.5² / 4 frames is asked for at shape {shape}")


@reconstruction_error.case("the batch seen twice has the same error", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    frames, decoded = (x.detach() for x in _frames_decoded(draw))
    twice = answer(torch.cat([frames, frames]), torch.cat([decoded, decoded]))
    expect_close(twice, answer(frames, decoded), "twice the batch should leave the average as it is")


def _prediction_target(draw: Draw) -> tuple[Tensor, Tensor]:
    target = draw.normal(40, 3) * torch.tensor([0.6, 3.0, 1.5]) + torch.tensor([2.0, -5.0, 0.7])
    noise = draw.normal(40, 3) * torch.tensor([0.3, 1.2, 1.1]) + torch.tensor([0.25, -0.8, 0.4])
    return 0.8 * (target - 1) + 1 + noise, target


def _spread(x: Tensor, middle: Tensor) -> Tensor:
    return (x - middle).square().sum(0)


r_squared = Exercise(
    reference=reference.r_squared,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "Compare two sums of squares: what the prediction misses, and what the target's own mean would miss.",
        "Both sums run over the N rows, separately for each of the D columns, and both are about the target.",
        "1 - SSE / SST with SSE from target - prediction and SST from target - target.mean(0), each squared and summed "
        "over axis 0.",
    ),
    example=_prediction_target,
)


@r_squared.case("one, less what is missed over what there was to predict")
def _(answer: Callable, draw: Draw) -> None:
    prediction, target = _prediction_target(draw)
    missed, there = _spread(target, prediction), _spread(target, target.mean(0))
    p, t = prediction - prediction.mean(0), target - target.mean(0)
    correlation = (p * t).sum(0) / (p.square().sum(0) * t.square().sum(0)).sqrt()
    expect_close(
        answer(prediction, target),
        1 - missed / there,
        "R² is 1 - SSE / SST, column by column, with the target's own mean in SST",
        mistakes={
            "this is the share that is missed: take it from 1": missed / there,
            "the squared correlation: it forgives a prediction that is off by a constant or a factor": correlation**2,
            "the correlation: it forgives a prediction that is off by a constant or a factor": correlation,
            "the target is measured from 0: how far would its own mean miss?": 1
            - missed / _spread(target, torch.zeros(3)),
            "prediction and target are swapped: the target's spread is to be predicted": 1
            - missed / _spread(prediction, prediction.mean(0)),
            "the target's spread is taken around the prediction's mean": 1
            - missed / _spread(target, prediction.mean(0)),
            "the spread of the prediction over that of the target: it can be large and wrong": _spread(
                prediction, prediction.mean(0)
            )
            / there,
            "a constant error is forgiven: do not center the error": 1 - _spread(p, t) / there,
            "one sum is divided by N and the other by N - 1": 1 - missed / 40 / (there / 39),
            "all columns are thrown together: each has its own R²": (1 - missed.sum() / there.sum()).expand(3),
            "one mean for all columns: each has its own": 1 - missed / _spread(target, target.mean()),
            "the average of all columns: each has its own R²": (1 - missed / there).mean().expand(3),
            "roots instead of squares: R² compares squared errors": 1 - (missed / there).sqrt(),
            "absolute errors: R² compares squared ones": 1
            - (p * 0 + target - prediction).abs().sum(0) / t.abs().sum(0),
            "the fraction stands on its head": 1 - there / missed,
            "the 1 is taken from the fraction: it is the other way around": missed / there - 1,
            "the mean squared error, on the target's own scale: divide it by the target's variance": missed / 40,
            "only 1 less the mean squared error: where is the target's own variance?": 1 - missed / 40,
        },
    )


@r_squared.case("always saying the mean scores 0, and the truth scores 1")
def _(answer: Callable, draw: Draw) -> None:
    _, target = _prediction_target(draw)
    mean = target.mean(0).expand_as(target).clone()
    expect_close(
        answer(mean, target), torch.zeros(3), "the target's mean, said every time, should score 0", tolerance=1e-3
    )
    expect_close(answer(target.clone(), target), torch.ones(3), "a perfect prediction should score 1", tolerance=1e-3)


@r_squared.case("worse than the mean is below 0")
def _(answer: Callable, draw: Draw) -> None:
    _, target = _prediction_target(draw)
    wanted = 1 - _spread(target, -target) / _spread(target, target.mean(0))
    expect_close(
        answer(-target, target),
        wanted,
        "a prediction worse than the mean scores below 0",
        mistakes={"a score below 0 is cut off at 0: it says that the probe misleads": wanted.clamp(min=0)},
    )


@r_squared.case("the target's unit does not matter", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    prediction, target = _prediction_target(draw)
    scale, shift = torch.tensor([100.0, 0.01, 7.0]), torch.tensor([3.0, 0.02, -50.0])
    moved = answer(prediction * scale + shift, target * scale + shift)
    expect_close(
        moved, answer(prediction, target), "another unit and another zero should change nothing", tolerance=1e-3
    )


def _stream(draw: Draw) -> tuple[Tensor, Tensor]:
    first = draw.flags(3, 7, p=0.35)
    first[0, 0], first[1, 0] = True, False
    return draw.normal(3, 7, 1, 4, 5), first


stack_frames = Exercise(
    reference=reference.stack_frames,
    lesson=LESSON,
    points=3,
    minutes=12,
    difficulty=3,
    hints=(
        "Make a tensor that holds, at each t, the frame of t - 1. What stands at t = 0, and where `first` is true?",
        "Shift by one along axis 1 and repeat the first column. Then, where `first` is true, take the frame itself.",
        "Shift with torch.cat on axis 1, choose with torch.where (give `first` three more axes), join on axis 2 with "
        "torch.cat, previous before current.",
    ),
    example=_stream,
)


@stack_frames.case("the second channel is the frame itself")
def _(answer: Callable, draw: Draw) -> None:
    frames, first = _stream(draw)
    expect_close(
        answer(frames, first)[:, :, 1],
        frames[:, :, 0],
        "channel 1 should hold the frame of the same t, untouched",
        mistakes={
            "the two channels are swapped: the previous frame comes first": reference.stack_frames(frames, first)[
                :, :, 0
            ]
        },
    )


@stack_frames.case("inside an episode the first channel is the frame before")
def _(answer: Callable, draw: Draw) -> None:
    frames, first = draw.normal(3, 7, 1, 4, 5), torch.zeros(3, 7, dtype=torch.bool, device=draw.device)
    first[:, 0] = True
    plain = frames[:, :, 0]
    expect_close(
        answer(frames, first)[:, 2:-1, 0],
        plain[:, 1:-2],
        "channel 0 at t should be the frame of t - 1 of the same row",
        mistakes={
            "this is the next frame: a model would be told the future": plain[:, 3:],
            "this is the frame itself: is `first` read the wrong way around?": plain[:, 2:-1],
            "this is the frame two steps back": plain[:, :-3],
            "the rows are shifted, not the time: which axis is T?": plain.roll(1, 0)[:, 2:-1],
            "this is the difference of the two frames: the frame before is asked for": plain[:, 2:-1] - plain[:, 1:-2],
            "this is 0: is `first` read the wrong way around?": torch.zeros(3, 4, 4, 5),
        },
    )


@stack_frames.case("the first frame of an episode is repeated")
def _(answer: Callable, draw: Draw) -> None:
    frames, first = draw.normal(3, 7, 1, 4, 5), torch.zeros(3, 7, dtype=torch.bool, device=draw.device)
    first[:, 0], first[0, 2], first[1, 4], first[2, 5] = True, True, True, True
    plain, row, t = frames[:, :, 0], torch.arange(3), torch.tensor([2, 4, 5])
    likely = "where `first` is true there is no frame before: channel 0 should hold the frame itself"
    expect_close(
        answer(frames, first)[row, t, 0],
        plain[row, t],
        likely,
        mistakes={
            "the last frame of the episode before leaks in: is `first` used?": plain[row, t - 1],
            "zeros: a black frame that jumps to a pendulum looks like a motion": torch.zeros(3, 4, 5),
            "the frame after: an encoder would see the future": plain[row, t + 1],
        },
    )
    after = "one step after the first frame channel 0 should hold the frame before again: is `first` shifted?"
    expect_close(answer(frames, first)[row, t + 1, 0], plain[row, t], after)
    expect_close(
        answer(frames, first)[row, t - 1, 0], plain[row, t - 2], "one step before `first`: is `first` shifted?"
    )
    expect_close(answer(frames, first)[:, 0, 0], plain[:, 0], "at t = 0 channel 0 should hold the frame itself")


@stack_frames.case("a window that begins in the middle of an episode")
def _(answer: Callable, draw: Draw) -> None:
    frames, first = draw.normal(3, 7, 1, 4, 5), torch.zeros(3, 7, dtype=torch.bool, device=draw.device)
    plain = frames[:, :, 0]
    expect_close(
        answer(frames, first)[:, 0, 0],
        plain[:, 0],
        "the frame before the window is not known: at t = 0 the frame itself is repeated, whatever `first` says",
        mistakes={
            "the window's last frame comes around to its start: torch.roll wraps": plain[:, -1],
            "the frame before the window is not known: repeat the frame itself, not zeros": torch.zeros(3, 4, 5),
        },
    )


@stack_frames.case("stored frames stay uint8, windows of one step included", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    for length in (1, 4):
        frames, first = _uint8(draw, 2, length, 1, 3, 6), draw.flags(2, length)
        likely = f"something goes wrong for uint8 frames in windows of {length}"
        expect_close(answer(frames, first).float(), reference.stack_frames(frames, first).float(), likely)


def _frames_real(draw: Draw) -> tuple[Tensor, Tensor]:
    return draw.uniform(5, 1, 4, 6), draw.uniform(8, 1, 4, 6)


nearest_distance = Exercise(
    reference=reference.nearest_distance,
    lesson=LESSON,
    points=2,
    minutes=8,
    difficulty=2,
    hints=(
        "There are N times M pairs of a frame and a real frame: first their distances, (N, M), then one for each.",
        "The distance of two frames: square the differences, sum over all pixels, take the root. torch.cdist knows it.",
        "Flatten both to rows, make the (N, M) table of distances, take the smallest along the axis of real frames.",
    ),
    example=_frames_real,
)


@nearest_distance.case("the smallest Euclidean distance over the real frames")
def _(answer: Callable, draw: Draw) -> None:
    frames, real = _frames_real(draw)
    gap = frames[:, None] - real[None]
    table = gap.square().flatten(2).sum(-1).sqrt()
    expect_close(
        answer(frames, real),
        table.amin(1),
        "per frame: the root of the summed squares to each real frame, and of those the smallest",
        tolerance=1e-3,
        mistakes={
            "the average over the real frames: nearest means the smallest": table.mean(1),
            "the farthest real frame: nearest means the smallest": table.amax(1),
            "the square of the distance: a root is missing": table.amin(1).square(),
            "the mean over the pixels: distances add up over them": table.amin(1) / 24**0.5,
            "the mean of the squares, without a root: distances add up, and a root follows": table.amin(1) ** 2 / 24,
            "absolute differences: Euclidean distance squares them": gap.abs().flatten(2).sum(-1).amin(1),
            "mean absolute differences: Euclidean distance squares them": gap.abs().flatten(2).mean(-1).amin(1),
            "the largest difference of a pixel: Euclidean distance sums the squares": gap.abs()
            .flatten(2)
            .amax(-1)
            .amin(1),
            "the nearest value is sought pixel by pixel: compare whole frames": gap.square()
            .amin(1)
            .flatten(1)
            .sum(1)
            .sqrt(),
            "frames are compared with their average: the average of real frames is not a real frame": (
                frames - real.mean(0)
            )
            .flatten(1)
            .norm(dim=1),
            "only the first real frame is compared": table[:, 0],
            "frames are compared with the real frame of the same number": table.diagonal(),
            "the distance of every frame to all: one smallest for each is asked for": table.amin().expand(5),
        },
    )


@nearest_distance.case("a real frame is at distance 0 from the real ones")
def _(answer: Callable, draw: Draw) -> None:
    _, real = _frames_real(draw)
    frames = torch.cat([real[[6, 0, 3]], real[[2]] + 0.25])
    likely = "a frame that is in the real set should be at distance 0, one that is 0.25 off at 24 pixels at 0.25 √24"
    expect_close(answer(frames, real), torch.tensor([0.0, 0.0, 0.0, 0.25 * 24**0.5]), likely, tolerance=5e-3)


@nearest_distance.case("one more real frame never makes it farther", hidden=True)
def _(answer: Callable, draw: Draw) -> None:
    frames, real = draw.uniform(6, 2, 5, 3), draw.uniform(9, 2, 5, 3)
    few, many = answer(frames, real[:4]), answer(frames, real)
    expect((many <= few + 1e-4).all(), "a larger real set should bring the nearest frame nearer, or leave it")
    order = real[torch.arange(8, -1, -1)]
    expect_close(answer(frames, order), many, "the order of the real frames should not matter", tolerance=1e-3)
