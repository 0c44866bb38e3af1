"""Views: how a world's observations are shown, and a dream beside the truth: as pictures, and as a GIF.

A picture is (C, H, W) in [0, 1]: ink, 0 for the background, with C = 1; RGB with C = 3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete, flatdim
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from wmcourse.plots import METHODS
from wmcourse.worlds import angle_of, make, render_angles

TRUTH, DREAM, SEEN = METHODS["real"][0], METHODS["RSSM"][0], "#FBE5BF"
NO_ROD = 0.6  # a picture that resembles no rod better than this shows none; the average of all rods reaches 0.5


def as_floats(obs: Tensor) -> Tensor:
    """Frames of bytes to [0, 1], all else to float32: what the models of this course look at."""
    return obs.float() / 255 if obs.dtype == torch.uint8 else obs.float()


class View(NamedTuple):
    """How a world's observation is shown, and the angle that tells how far a dream has drifted."""

    picture: Callable[[Tensor], Tensor]  # an observation to (C, H, W) in [0, 1]; C = 1 is ink, C = 3 is RGB
    angle: Callable[[Tensor], float] | None = None  # an observation to radian, nan where it shows none
    moves: tuple[str, ...] = ()  # names: of the discrete actions, or of the least, the middle and the greatest


@functools.lru_cache
def rods(size: int) -> tuple[Tensor, Tensor]:
    """The pendulum all around, at every second degree: angles (180,) in radian, pictures (180, 1, size, size)."""
    angles = torch.arange(180) * (math.pi / 90)
    return angles, render_angles(angles, size).float() / 255


def match_angle(picture: Tensor) -> float:
    """The angle of a pendulum's picture (1, size, size), radian, by the rod that it resembles most; nan if by none.

    On real frames of 16 pixels it errs by 0.2 degrees in the mean: a parabola through the three best correlations.
    """
    angles, known = rods(picture.shape[-1])
    known, seen = (F.normalize(x - x.mean(-1, keepdim=True), dim=-1) for x in (known.flatten(1), picture.reshape(-1)))
    alike = known @ seen  # (180,)
    best = int(alike.argmax())
    if not alike[best] >= NO_ROD:
        return math.nan
    before, top, after = (float(alike[(best + k) % len(angles)]) for k in (-1, 0, 1))
    return float(angles[best]) + 0.5 * (before - after) / (before - 2 * top + after) * float(angles[1])


def draw_rod(obs: Tensor, size: int = 64) -> Tensor:
    """A pendulum's state (cos, sin, ...) as a picture (1, size, size), to the nearest second degree."""
    angles, known = rods(size)
    angle = float(angle_of(obs))
    return known[round(angle / float(angles[1])) % len(angles)] if math.isfinite(angle) else torch.zeros(1, size, size)


def draw_cart(position: float, angle: float) -> Tensor:
    """A cart, its position in meter, and its pole, radian from upright, by Gymnasium's own hand: (1, 100, 150)."""
    if not math.isfinite(position + angle):
        return torch.zeros(1, 100, 150)
    world: Any = _cartpole().unwrapped
    world.state = np.array([np.clip(position, -4.8, 4.8), 0.0, angle, 0.0])
    ink = 1 - torch.tensor(world.render()).float().mean(-1) / 255
    return F.avg_pool2d(ink[None] * 1.6, 4).clamp(max=1)


@functools.lru_cache
def _cartpole() -> gym.Env:
    env = make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    return env


def view_of(env: gym.Env) -> View:
    """The view of a world that this course knows: the pendulum, its frames or its state; CartPole-v1; any frames.

    Raises:
        ValueError: how to show this world's observations is not known.
    """
    name, shape = env.unwrapped.spec.id if env.unwrapped.spec else "", env.observation_space.shape or ()
    turns = ("left ↻", "none", "right ↺")  # as the tip moves while it hangs; Gymnasium's torque turns against the clock
    frames = len(shape) == 3
    if name == "Pendulum-v1":
        return View(within, match_angle, turns) if frames else View(draw_rod, lambda obs: float(angle_of(obs)), turns)
    if name == "CartPole-v1" and not frames:
        return View(lambda obs: draw_cart(float(obs[0]), float(obs[2])), lambda obs: float(obs[2]), ("left", "right"))
    if frames:
        return View(within)
    raise ValueError(f"observations {shape} of {name or env} have no picture here: hand in a View as view=")


def within(frame: Tensor) -> Tensor:
    """A frame (C, H, W) as it is, but within [0, 1]: a decoder may leave it."""
    return frame.nan_to_num(0.0).clamp(0, 1)


def choices(space: gym.Space, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The actions to steer by, with labels, in order; and which of the labels get a button.

    A Box of one number is offered in nine steps from its least to its greatest; the ends and the middle get buttons.

    Raises:
        ValueError: an action is more than one number, or has no bounds.
    """
    if isinstance(space, Discrete):
        labels = names or [str(int(space.start) + i) for i in range(int(space.n))]
        return {label: int(space.start) + i for i, label in enumerate(labels)}, list(labels)
    if isinstance(space, Box) and flatdim(space) == 1 and space.is_bounded():
        steps = np.linspace(space.low.item(), space.high.item(), 9)
        buttons: dict[int, str] = dict(zip((0, 4, 8), names or ("left", "none", "right"), strict=True))
        return {buttons.get(i, f"{value:+.3g}"): float(value) for i, value in enumerate(steps)}, [*buttons.values()]
    raise ValueError(f"actions of {space} fit no button: hand in moves=, a dict from labels to actions")


class Moment(NamedTuple):
    """One step of both worlds."""

    truth: Tensor  # (C, H, W) in [0, 1]
    dream: Tensor  # (C, H, W) in [0, 1]
    angle_error: float  # degrees, the short way round; nan where one of them shows no angle
    pixel_error: float  # mean squared difference of the two pictures
    seen: bool  # whether the dreamer saw the true world here


def compare(view: View, truth: Tensor, dream: Tensor, seen: bool) -> Moment:
    """A moment from the two observations, the true one and the one that is dreamed, (*O) each."""
    pictures = view.picture(truth), view.picture(dream)
    apart = view.angle(dream) - view.angle(truth) if view.angle else math.nan
    angle = abs(math.remainder(apart, 2 * math.pi)) if math.isfinite(apart) else math.nan
    return Moment(*pictures, math.degrees(angle), float((pictures[0] - pictures[1]).square().mean()), seen)


def draw(history: Sequence[Moment], side: int = 240, steps: int | None = None) -> Image.Image:
    """Truth, dream, and the drift since the episode's start, as one picture.

    Args:
        history: the moments of an episode, at least one.
        side: of a frame, pixels; the picture is four times as wide.
        steps: how many of the moments have passed, all if left out; the curves' scales are those of the whole history.
    """
    passed = history[:steps]
    now, blind = passed[-1], next((k for k, moment in enumerate(reversed(passed)) if moment.seen), len(passed))
    small, head, gap = max(9, side // 18), max(14, side // 10), side // 16
    sheet = Image.new("RGB", (4 * side, 2 * head + side), "white")
    pen, font = ImageDraw.Draw(sheet), _font(small)
    words = f"the dream, blind for {blind}" if blind else "the dream, seeing"
    for i, (picture, title, color) in enumerate(((now.truth, "the true world", TRUTH), (now.dream, words, DREAM))):
        left = gap + i * (side + gap)
        sheet.paste(_enlarged(picture, side), (left, head))
        pen.rectangle((left - 1, head - 1, left + side, head + side), outline=color, width=1)
        pen.text((left, head // 4), title, color, font)
    curves, seen = _curves(history), [moment.seen for moment in passed]
    tall, left = (side + head) // len(curves), 2 * side + 2 * gap + 3 * small + 8
    for i, curve in enumerate(curves):
        area = (left, head + i * tall, 4 * side - gap, i * tall + tall)
        _plot(pen, font, area, curve._replace(values=curve.values[: len(seen)]), seen, max(50, len(history)))
    pen.text((4 * side - gap, head + side + 2), f"step {len(seen) - 1}; shaded: seen", "#666666", font, "rt")
    return sheet.quantize(palette=_palette(), dither=Image.Dither.NONE) if len(now.truth) == 1 else sheet


class _Curve(NamedTuple):
    title: str
    values: list[float]
    top: float  # of the axis, which begins at 0
    form: str


def _curves(history: Sequence[Moment]) -> list[_Curve]:
    """The drift in angle, where there is one, and in pixels."""
    angles, pixels = [moment.angle_error for moment in history], [moment.pixel_error for moment in history]
    curves = [_Curve("pixel error", pixels, max([0.01, *filter(math.isfinite, pixels)]), "{:.3f}")]
    if (largest := max(filter(math.isfinite, angles), default=None)) is not None:
        limit = next(limit for limit in (15.0, 45.0, 180.0) if largest <= limit + 1e-6)
        curves.insert(0, _Curve("angle error", angles, limit, "{:.0f}°"))
    return curves


def _plot(pen: ImageDraw.ImageDraw, font: Any, area: tuple, curve: _Curve, seen: list[bool], span: int) -> None:
    """A curve in the area (left, top, right, bottom), `span` moments wide; shaded where the dreamer saw."""
    left, high, right, low = area
    width = (right - left) / span
    for k, was in enumerate(seen):
        if was:
            pen.rectangle((left + k * width, high, left + (k + 1) * width, low), SEEN)
    line: list[tuple[float, float]] = []
    for k, value in enumerate([*curve.values, math.nan]):
        if math.isfinite(value):
            line.append((left + (k + 0.5) * width, low - (low - high) * value / curve.top))
        elif line:  # a gap where the dream shows no angle
            pen.line(line * 2 if len(line) == 1 else line, DREAM, 2, "curve")
            line = []
    pen.line((left, high, left, low, right, low), "#666666")
    for value, y in ((curve.top, high), (0, low)):
        pen.text((left - 4, y), curve.form.format(value), "#666666", font, "rm")
    last = curve.form.format(curve.values[-1]) if math.isfinite(curve.values[-1]) else "none to be seen"
    pen.text((left + 4, high - 2), f"{curve.title} {last}", DREAM, font, "lb")


@functools.lru_cache
def _palette() -> Image.Image:
    """Grays as Pillow rounds them, in fours, white, and the fading blue: a PNG is written in a sixth of the time."""
    grays = [tone for k in range(63) for tone in (4 * k,) * 3]
    fade = [round(255 + (tone - 255) * k / 23) for k in range(24) for tone in ImageColor.getrgb(DREAM)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fade, *grays, *ImageColor.getrgb(SEEN)])
    return palette


@functools.lru_cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _enlarged(picture: Tensor, side: int) -> Image.Image:
    """A picture (C, H, W) as pixels that can be counted; ink is dark on white."""
    rgb = (1 - picture).expand(3, -1, -1) if len(picture) == 1 else picture
    image = Image.fromarray((255 * rgb.clamp(0, 1)).byte().permute(1, 2, 0).numpy())
    return ImageOps.pad(image, (side, side), Image.Resampling.NEAREST, color="white")


def save_gif(path: str | Path, history: Sequence[Moment], *, fps: float = 20, side: int = 120) -> Path:
    """Write what was played as a GIF that repeats, a frame a moment, some 5 KB each; gives the path.

    Raises:
        ValueError: nothing was played.
    """
    if not history:
        raise ValueError("there is nothing to show: the history is empty")
    sheets = [draw(history, side, k + 1) for k in range(len(history))]
    if sheets[0].mode == "RGB":  # one palette for all, so that still parts cost nothing
        palette = sheets[-1].quantize()
        sheets = [sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets]
    first, *rest = sheets
    first.save(path, save_all=True, append_images=rest, duration=1000 / fps, loop=0, optimize=False)
    return Path(path)
