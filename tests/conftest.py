"""Tests run on one thread a process, draw no window, and keep the developer's own progress file out of play."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["MPLBACKEND"] = "agg"

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("WMCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("WMCOURSE_STRICT", raising=False)
