"""Plots: one look for every lesson, and one color for a method wherever it appears (Okabe & Ito's palette)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# A method's color and line style. The colors stay apart for the color-blind, the styles in grey print, too.
METHODS = {
    "real": ("#000000", "-"),
    "exact": ("#000000", "-"),
    "learned model": ("#0072B2", "-"),
    "linear model": ("#E69F00", "--"),
    "copy last": ("#999999", ":"),
    "shuffled actions": ("#D55E00", "-."),
    "random": ("#999999", ":"),
    "model-free": ("#CC79A7", "-."),
    "RSSM": ("#0072B2", "-"),
    "deterministic only": ("#D55E00", "--"),
    "stochastic only": ("#009E73", "-."),
    "aligned": ("#0072B2", "-"),
    "misaligned": ("#D55E00", "--"),
    "two frames": ("#0072B2", "-"),
    "one frame": ("#D55E00", "--"),
    "convolutional": ("#009E73", "-"),
    "MLP": ("#0072B2", "-"),
    "pixel average": ("#999999", ":"),
    "straight line": ("#D55E00", "--"),
    "walk over real latents": ("#0072B2", "-"),
    "reparameterized": ("#0072B2", "-"),
    "score function": ("#D55E00", "--"),
    "score function with baseline": ("#E69F00", "-."),
    "cured": ("#009E73", "-"),
    "collapsed": ("#D55E00", "--"),
    "autoencoder": ("#E69F00", "--"),
    "mean frame": ("#999999", ":"),
    "pixel model": ("#E69F00", "--"),
    "GRU": ("#0072B2", "-"),
    "memoryless": ("#D55E00", "--"),
    "memory wiped": ("#E69F00", "-."),
    "mixture": ("#009E73", "-"),
    "single Gaussian": ("#CC79A7", "--"),
    "ensemble": ("#0072B2", "-"),
    "one member": ("#E69F00", "--"),
    "inflated": ("#D55E00", "-."),
    "no noise of their own": ("#CC79A7", "--"),
    "epistemic": ("#0072B2", "-"),
    "aleatoric": ("#E69F00", "--"),
    "disagreement": ("#0072B2", "-"),
    "disagreement of clones": ("#D55E00", "--"),
    "predicted noise": ("#E69F00", "-."),
    "random, held": ("#999999", ":"),
    "no planning": ("#CC79A7", "-."),
    "5 planned": ("#E69F00", "--"),
    "50 planned": ("#0072B2", "-"),
    "Dyna-Q": ("#0072B2", "-"),
    "Dyna-Q+": ("#009E73", "--"),
    "SAC": ("#CC79A7", "-."),
    "SAC, 20 updates": ("#D55E00", ":"),
    "MBPO": ("#009E73", "-"),
    "MBPO, actions shuffled": ("#D55E00", ":"),
    "MBPO, ends terminate": ("#E69F00", "--"),
    "PETS": ("#E69F00", "--"),
    "Dreamer": ("#0072B2", "-"),
    "Dreamer from pixels": ("#56B4E9", "-"),
    "true model": ("#000000", "-"),
    "MPC": ("#0072B2", "-"),
    "open loop": ("#D55E00", "--"),
    "CEM": ("#0072B2", "-"),
    "random shooting": ("#E69F00", "--"),
    "TS-infinity": ("#0072B2", "-"),
    "TS1": ("#E69F00", "--"),
    "trusting": ("#D55E00", "--"),
    "careful": ("#009E73", "-"),
    "careful without doubt": ("#CC79A7", "-."),
}


def figure(rows: int = 1, columns: int = 1, *, width: float = 4.2, height: float = 3.0) -> tuple[Figure, Any]:
    """A figure and its axes (one, or a numpy array) with the course's plain look; sizes in inches a panel."""
    fig, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), layout="constrained")
    for axis in fig.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return fig, axes


def curve(axis: Axes, x: Sequence[float] | Tensor, y: Tensor, method: str, label: str | None = None) -> None:
    """A method's line, (T,), or for several seeds, (S, T), its median and the range between the seeds."""
    color, style = METHODS[method]
    y = torch.as_tensor(y).detach().cpu()
    if y.dim() == 2:
        axis.fill_between(x, y.amin(0), y.amax(0), color=color, alpha=0.2, linewidth=0)
        y = y.double().quantile(0.5, dim=0)  # of an even number halfway; torch.median takes the lower one
    axis.plot(x, y, color=color, linestyle=style, label=label or method)


def frames(axis: Axes, row: Tensor, title: str = "", gap: int = 1) -> None:
    """Frames (T, 1, H, W) in a row, ink dark on white; floats in [0, 1] or uint8."""
    row = torch.as_tensor(row).detach().cpu().float() / (255.0 if row.dtype == torch.uint8 else 1.0)
    padded = torch.nn.functional.pad(row[:, 0], (0, gap), value=0.35)
    axis.imshow(torch.cat(list(padded), dim=1)[:, :-gap], cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.set_ylabel(title, rotation=0, ha="right", va="center")
    axis.spines[:].set_visible(False)
