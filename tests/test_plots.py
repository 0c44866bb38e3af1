"""A curve of several seeds is their median, and its band their range."""

from __future__ import annotations

import torch

from wmcourse import plots


def test_the_line_of_an_even_number_of_seeds_lies_halfway() -> None:
    _, axis = plots.figure()
    plots.curve(axis, [0, 1], torch.tensor([[188, 1], [271, 4], [203, 2], [255, 3]]), "random, held")
    assert axis.lines[0].get_ydata().tolist() == [229.0, 2.5]
    (band,) = axis.collections
    assert band.get_paths()[0].get_extents().intervaly.tolist() == [1.0, 271.0]
