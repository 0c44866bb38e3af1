"""How long an ensemble takes to learn from a batch, and to predict: stacked, in a plain loop, and in mbrl-lib.

    python -m bench.ensembles --threads 1 2 --rounds 30

Seven members of four layers of 200, a batch of 256 for each, sizes of HalfCheetah. The contenders take turns as in
bench/rssm.py, and are given the same network (SiLU, bounded log-variance with learned bounds), the same likelihood and
Adam. Ours uses its fused kernel, as fit_ensemble does; mbrl-lib uses Adam as torch makes it, as its own trainer does.
The plain loop trains one network after the other, each with an Adam of its own; the other loop has one for all.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.rssm import HEAD, RESULTS, matrix_product, rows, take_turns
from wmcourse.ensembles import BOUND_PULL, Ensemble, bounded_log_var
from wmcourse.nets import mlp
from wmcourse.one_step_dynamics import gaussian_log_prob

MEMBERS, INPUTS, OUTPUTS, WIDTHS, BATCH, PARTICLES = 7, 23, 18, (200,) * 4, 256, 8_000
Step = Callable[[], None]


class Loop(nn.Module):
    """What one writes first: a list of networks, one after the other."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(mlp(INPUTS, *WIDTHS, 2 * OUTPUTS) for _ in range(MEMBERS))
        self.low = nn.Parameter(torch.full((MEMBERS, OUTPUTS), -10.0))
        self.high = nn.Parameter(torch.full((MEMBERS, OUTPUTS), 1.0))

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each member's mean and log-variance, (B, O), of x (M, B, I)."""
        said = (net(part).chunk(2, -1) for net, part in zip(self.nets, x, strict=True))
        bounds = zip(self.low, self.high, strict=True)
        return [(mean, bounded_log_var(raw, *bound)) for (mean, raw), bound in zip(said, bounds, strict=True)]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """As Ensemble.loss."""
        nll = [
            -gaussian_log_prob(t, mean, torch.exp(0.5 * log_var)).mean()
            for t, (mean, log_var) in zip(y, self(x), strict=True)
        ]
        return torch.stack(nll).sum() + BOUND_PULL * (self.high - self.low).sum()


def mbrl() -> Any:
    """mbrl-lib's GaussianMLP."""
    from mbrl.models import GaussianMLP

    silu = {"_target_": "torch.nn.SiLU"}
    return GaussianMLP(
        INPUTS, OUTPUTS, "cpu", len(WIDTHS), MEMBERS, WIDTHS[0], learn_logvar_bounds=True, activation_fn_cfg=silu
    )


def contenders() -> tuple[dict[str, Any], dict[str, str]]:
    """Everyone that can be made here, and why the others cannot."""
    made: dict[str, Any] = {
        "wmcourse, quick": Ensemble(MEMBERS, INPUTS, OUTPUTS, WIDTHS),
        "plain loop over members": Loop(),
        "loop, one Adam": Loop(),
    }
    try:
        return {**made, "mbrl-lib": mbrl()}, {}
    except Exception as reason:
        return made, {"mbrl-lib": f"{type(reason).__name__}: {reason}"}


def training_step(name: str, model: Any) -> Step:
    """One update of all members."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(MEMBERS, BATCH, INPUTS, generator=g), torch.randn(MEMBERS, BATCH, OUTPUTS, generator=g)
    if name == "plain loop over members":
        return one_by_one(model, x, y)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True if name == "wmcourse, quick" else None)

    def step() -> None:
        loss = model.loss(x, y)
        adam.zero_grad(set_to_none=True)
        (loss[0] if isinstance(loss, tuple) else loss).backward()  # mbrl-lib gives a pair
        adam.step()

    return step


def one_by_one(model: Loop, x: Tensor, y: Tensor) -> Step:
    """One update of each member after the other."""
    members = []
    for net, low, high in zip(model.nets, model.low, model.high, strict=True):
        bounds = [nn.Parameter(bound.detach().clone()) for bound in (low, high)]
        members.append((net, *bounds, torch.optim.Adam([*net.parameters(), *bounds], lr=1e-4)))

    def step() -> None:
        for (net, low, high, adam), seen, wanted in zip(members, x, y, strict=True):
            mean, raw = net(seen).chunk(2, -1)
            nll = -gaussian_log_prob(wanted, mean, torch.exp(0.5 * bounded_log_var(raw, low, high))).mean()
            adam.zero_grad(set_to_none=True)
            (nll + BOUND_PULL * (high - low).sum()).backward()
            adam.step()

    return step


def prediction_step(model: Any) -> Step:
    """What a planner asks: every member on the same particles, no gradient."""
    x = torch.randn(PARTICLES, INPUTS, generator=torch.Generator().manual_seed(0)).expand(MEMBERS, -1, -1)

    @torch.no_grad()
    def step() -> None:
        model(x)

    return step


def compare(threads: int, rounds: int) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Both tasks, everyone."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    made, skipped = contenders()
    sizes = (INPUTS, *WIDTHS, 2 * OUTPUTS)
    flops = 2 * MEMBERS * sum(i * o for i, o in itertools.pairwise(sizes))
    tasks: dict[str, tuple[Callable[[str, Any], Step], float]] = {
        "training step": (training_step, 3 * BATCH * flops),
        f"{PARTICLES} particles": (lambda _, model: prediction_step(model), PARTICLES * flops),
    }
    table = []
    for task, (make, work) in tasks.items():
        who = {n: m for n, m in made.items() if task == "training step" or n != "loop, one Adam"}
        steps = {name: make(name, model) for name, model in who.items()}
        times = take_turns({**steps, "matrix product": matrix_product()}, rounds, f"{task}, {threads} thread(s)")
        table += rows(task, threads, times, work)
    return table, skipped


def main() -> None:
    """Read the command line, measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    table, skipped, load = [], {}, os.getloadavg()[0]
    for threads in options.threads:
        lines, skipped = compare(threads, options.rounds)
        table += lines
    notes = [
        "command: python -m bench.ensembles " + " ".join(sys.argv[1:]),
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, load {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end",
        f"{MEMBERS} members, {INPUTS} inputs, {OUTPUTS} outputs, hidden {WIDTHS}, batch {BATCH}; SiLU for everyone",
        *(f"skipped {name}: {reason}" for name, reason in skipped.items()),
    ]
    lines = ["# Ensemble bench", "", *(f"- {note}" for note in notes), ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    text = "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in table)]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ensembles.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
