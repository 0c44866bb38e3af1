"""Tests run on one thread a process, draw no window, and keep the developer's own progress file out of play.

Set here, in the environment, so that the kernels of the notebooks under nbval inherit it.
"""

import os
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["WMCOURSE_PROGRESS"] = os.path.join(tempfile.mkdtemp(prefix="wmcourse-"), "progress.json")
os.environ.pop("WMCOURSE_STRICT", None)

import matplotlib
import pytest
import torch

matplotlib.use("agg")  # not by MPLBACKEND: the notebooks' kernels must keep their inline figures
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("WMCOURSE_PROGRESS", str(tmp_path / "progress.json"))
