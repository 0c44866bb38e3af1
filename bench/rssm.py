"""How long an RSSM takes to learn from a batch, and to dream: this package beside torchrl, sheeprl and mbrl-lib.

    python -m bench.rssm --threads 1 2 --rounds 30

The contenders take turns, round by round, so that whatever else the machine does meets all of them alike. Reported are
medians, the best, and the median over rounds of the ratio to `wmcourse, quick` in the same round, by the clock on the
wall and by the processor's (which other work on the machine disturbs less). The share of the machine's peak (a product
of two 1024 x 1024 matrices, also taking its turn) compares the best CPU times.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from torch import nn
from tqdm import tqdm

from bench.contenders import Course, Sizes, available, make_data
from wmcourse.elbo import free_nats, gaussian_kl
from wmcourse.nets import mlp
from wmcourse.plots import figure

QUICK, WARM_UP = "wmcourse, quick", 3
FREE = 1.0  # nats of KL at no cost
RESULTS = Path(__file__).parent / "results"
Times = dict[str, list[tuple[float, float]]]  # of each contender, round by round: seconds by the wall, and by the CPU


def training_step(model: nn.Module, sizes: Sizes, seed: int) -> Callable[[], None]:
    """One update of a world model: -log p(x) - log p(r) + KL with free nats; backward; Adam. A function to time."""
    torch.manual_seed(seed)
    data, features = make_data(sizes, seed), sizes.deter + sizes.stoch
    decoder, reward = mlp(features, sizes.hidden, sizes.embed), mlp(features, sizes.hidden, 1)
    optimizer = torch.optim.Adam([*model.parameters(), *decoder.parameters(), *reward.parameters()], lr=1e-4)

    def step() -> None:
        watched = model.observe(data)
        kl = free_nats(gaussian_kl(*watched.posterior, *watched.prior)[..., None], FREE)
        missed = (decoder(watched.features) - data.embed).square().sum(-1)
        missed = missed + (reward(watched.features)[..., 0] - data.reward).square()
        optimizer.zero_grad(set_to_none=True)
        (kl + 0.5 * missed.mean()).backward()
        optimizer.step()

    return step


def imagination_step(model: nn.Module, sizes: Sizes, seed: int) -> Callable[[], None]:
    """One update of a policy by the gradient of the reward that it dreams of; world model and reward are frozen."""
    torch.manual_seed(seed)
    data, features = make_data(sizes, seed), sizes.deter + sizes.stoch
    reward = mlp(features, sizes.hidden, 1).requires_grad_(False)
    actor = nn.Sequential(mlp(features, sizes.hidden, sizes.action), nn.Tanh())
    optimizer = torch.optim.Adam(actor.parameters(), lr=1e-4)

    def step() -> None:
        model.requires_grad_(False)
        optimizer.zero_grad(set_to_none=True)
        (-reward(model.imagine(data, actor)).mean()).backward()
        optimizer.step()
        model.requires_grad_(True)

    return step


def matrix_product(size: int = 1024) -> Callable[[], None]:
    """One product of two square matrices: what the machine can do at best."""
    a = torch.randn(size, size)

    def step() -> None:
        torch.mm(a, a)

    return step


def take_turns(steps: Mapping[str, Callable[[], None]], rounds: int, label: str) -> Times:
    """Time each step `rounds` times, one step after another in every round."""
    times: Times = {name: [] for name in steps}
    for i in tqdm(range(rounds + WARM_UP), desc=label):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if i >= WARM_UP:
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def multiply_adds(sizes: Sizes) -> int:
    """Multiplications in all matrices for one observation, forward: what every contender must do at least."""
    d, s, h, features = sizes.deter, sizes.stoch, sizes.hidden, sizes.deter + sizes.stoch
    recurrent = (s + sizes.action) * h + 3 * d * (h + d)
    heads = (d + sizes.embed) * h + d * h + 2 * (h * 2 * s)  # posterior and prior
    return recurrent + heads + features * h + h * sizes.embed + features * h + h


def rows(task: str, threads: int, times: Times, flops: float | None) -> list[dict[str, str]]:
    """The table's lines for one task."""
    peak = 2 * 1024**3 / min(cpu for _, cpu in times["matrix product"])  # of one core
    table = []
    for name, measured in times.items():
        if name == "matrix product":
            continue
        walls, cpus = zip(*measured, strict=True)
        ratios = [
            statistics.median(mine[clock] / quick[clock] for mine, quick in zip(measured, times[QUICK], strict=True))
            for clock in (0, 1)
        ]
        share = f"{flops / min(cpus) / peak:.2f}" if flops else ""
        milliseconds = (statistics.median(walls), min(walls), statistics.median(cpus))
        cells = (
            task,
            str(threads),
            name,
            *(f"{1e3 * x:.1f}" for x in milliseconds),
            *(f"{x:.2f}" for x in ratios),
            share,
        )
        table.append(dict(zip(HEAD, cells, strict=True)))
    return table


HEAD = ("task", "threads", "who", "median ms", "best ms", "median CPU ms", "ratio", "CPU ratio", "share of peak")


def compare(threads: int, rounds: int, seed: int) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Both tasks, everyone."""
    torch.set_num_threads(threads)
    sizes = Sizes()
    made, skipped = available(sizes)
    table = []
    flops = 3 * 2 * multiply_adds(sizes) * sizes.batch * sizes.time
    for task, make, work in (("training step", training_step, flops), ("imagination", imagination_step, None)):
        who = {
            n: m
            for n, m in made.items()
            if task == "training step" or n not in ("wmcourse, plain", "wmcourse, as taught")
        }
        steps = {name: make(model, sizes, seed) for name, model in who.items()}
        times = take_turns({**steps, "matrix product": matrix_product()}, rounds, f"{task}, {threads} thread(s)")
        table += rows(task, threads, times, work)
    return table, skipped


def growth(rounds: int, seed: int) -> dict[str, tuple[Sequence[int], list[float]]]:
    """The quick way's best CPU time in ms as T, B and H grow, one thread."""
    torch.set_num_threads(1)
    cases = {"T": (8, 16, 32, 64, 128), "B": (4, 8, 16, 32, 64), "H": (4, 8, 15, 30, 60)}
    fields = {"T": "time", "B": "batch", "H": "horizon"}
    found = {}
    for letter, values in cases.items():
        steps = {}
        for value in values:
            sizes = replace(Sizes(starts=128), **{fields[letter]: value})
            make = imagination_step if letter == "H" else training_step
            steps[str(value)] = make(Course(sizes, "quick"), sizes, seed)
        times = take_turns(steps, rounds, f"growth in {letter}")
        found[letter] = (values, [1e3 * min(cpu for _, cpu in times[str(v)]) for v in values])
    return found


def draw(table: list[dict[str, str]], grown: dict[str, tuple[Sequence[int], list[float]]], path: Path) -> None:
    """Bars of the training step, and the growth with T, B and H beside the straight line through it."""
    fig, axes = figure(1, 4, width=3.6, height=3.2)
    shown = [row for row in table if row["task"] == "training step"]
    threads = sorted({row["threads"] for row in shown})
    names = [row["who"] for row in shown if row["threads"] == threads[0]]
    for k, (count, shade) in enumerate(zip(threads, ("#0072B2", "#E69F00"), strict=False)):
        medians = [float(row["median CPU ms"]) for row in shown if row["threads"] == count]
        places = [i + 0.4 * k for i in range(len(medians))]
        axes[0].barh(places, medians, height=0.38, color=shade, label=f"{count} thread(s)")
    axes[0].set(yticks=[i + 0.2 for i in range(len(names))], yticklabels=names, xlabel="training step, CPU ms (median)")
    axes[0].invert_yaxis()
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.3, 1.0), ncols=2)
    units = {"T": "T, steps of a sequence", "B": "B, sequences", "H": "H, steps dreamed"}
    for axis, (letter, (values, milliseconds)) in zip(axes[1:], grown.items(), strict=True):
        slope, intercept = statistics.linear_regression(values, milliseconds)
        axis.plot(values, milliseconds, "o", color="#0072B2", label="best of CPU time")
        axis.plot(values, [intercept + slope * v for v in values], "--", color="#999999", label=f"{slope:.2f} ms each")
        axis.set(xlabel=units[letter], ylabel="CPU ms, one thread", ylim=(0, None), xlim=(0, None))
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)
    fig.savefig(path, dpi=120)


def write(table: list[dict[str, str]], grown: Mapping[str, tuple[Sequence[int], list[float]]], notes: list[str]) -> str:
    """Write rssm.csv and rssm.md below bench/results; gives what rssm.md holds."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "rssm.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HEAD)
        writer.writeheader()
        writer.writerows(table)
    lines = ["# RSSM bench", "", *(f"- {note}" for note in notes), ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(row.values()) + " |" for row in table]
    for letter, (values, milliseconds) in grown.items():
        cells = ", ".join(f"{v}: {ms:.1f}" for v, ms in zip(values, milliseconds, strict=True))
        r = statistics.correlation(values, milliseconds)
        lines += [
            "",
            f"Growth with {letter}, quick, one thread, best CPU ms: {cells} (correlation with a line {r:.4f}).",
        ]
    text = "\n".join(lines) + "\n"
    (RESULTS / "rssm.md").write_text(text, encoding="utf-8")
    return text


def main() -> None:
    """Read the command line, measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    table, skipped, load = [], {}, os.getloadavg()[0]
    for threads in options.threads:
        lines, skipped = compare(threads, options.rounds, options.seed)
        table += lines
    grown = growth(max(3, options.rounds // 2), options.seed)
    notes = [
        "command: python -m bench.rssm " + " ".join(sys.argv[1:]),
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, load {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end",
        f"sizes: {Sizes()}; decoder and reward head of one hidden layer; free nats {FREE:g}; Adam",
        "imagination: policy of one hidden layer, world model and reward head frozen for everyone",
        *(f"skipped {name}: {reason}" for name, reason in skipped.items()),
    ]
    print(write(table, grown, notes))
    draw(table, grown, RESULTS / "rssm.png")


if __name__ == "__main__":
    main()
