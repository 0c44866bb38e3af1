"""Grade a class: on the cores of this machine or on a Dask cluster, a row a student, resumable.

A row is a function of the hand-in, the seed and the course alone. It is written as soon as it is there, whole or not at
all; a run that was stopped goes on with the rows that are missing or out of date.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from hashlib import sha256
from multiprocessing import get_context, parent_process
from pathlib import Path

from tqdm import tqdm

import wmcourse
from wmcourse.exercises import catalogue
from wmcourse.grading.bubblewrap import PROCESS_ONLY, Wall
from wmcourse.grading.collect import HandIns, Submission
from wmcourse.grading.confine import die_with_parent, keep_out, limit_memory
from wmcourse.grading.grader import CannotGrade, Plan, grade_submission, prove
from wmcourse.grading.records import Result, Row, from_json, to_json
from wmcourse.grading.reports import write_reports
from wmcourse.grading.reports.files import write_whole
from wmcourse.grading.sandbox import Limits

PACKAGE = Path(wmcourse.__file__).parent
WORKER_MEMORY = 2 << 30  # bytes on top of Python and torch


def grade_class(
    handins: Path,
    out: Path,
    *,
    lesson: str = "",
    jobs: int = 1,
    seed: int | None = None,
    dask: str = "",
    process_only: bool = False,
    cases: Path | None = None,
    limits: Limits | None = None,
) -> list[Row]:
    """Grade every hand-in in a folder or zip, and write all reports.

    Args:
        handins: see `collect.HandIns`.
        out: the folder for rows and reports; made where it is missing.
        lesson: two digits or a lesson's name; without it all lessons count.
        jobs: how many hand-ins are graded at once on this machine.
        seed: for the cases' inputs; without it the seed of the run that is resumed, else a secret one.
        dask: the address of a Dask scheduler, instead of `jobs`.
        process_only: whether grading may go on without bubblewrap.
        cases: a Python file with cases of the instructor's own.
        limits: how much a submission may use.

    Raises:
        CannotGrade, NoHandIns: with the reason and what to do.
    """
    handins, out = handins.resolve(), out.resolve()
    if out == handins or handins in out.parents:
        raise CannotGrade(f"{out} lies in {handins}: the results would be taken for a hand-in; name another folder")
    found = HandIns(handins)
    plan = Plan(
        lessons=_lessons(lesson),
        seed=-1,
        process_only=process_only,
        cases=_text(cases) if cases else "",
        hidden=tuple(str(path) for path in (handins, out, cases and cases.resolve(), PACKAGE.parent) if path),
        limits=limits or Limits(),
    )
    plan = replace(plan, seed=_seed(out, seed))
    wall = plan.wall()
    prove(plan.exercises(), plan.limits)
    (out / "rows").mkdir(parents=True, exist_ok=True)
    with _alone(out):
        write_whole(out / "run.json", _facts(plan, wall))
        rows = sorted(_rows(found, plan, out, jobs, dask), key=lambda row: row.slug)
        write_reports(rows, plan.exercises(), out, wall_note=wall.why)
    return rows


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """No two runs write to one folder at once."""
    with (out / "rows" / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotGrade(f"another run is writing to {out}") from None
        yield


def _text(cases: Path) -> str:
    try:
        return cases.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CannotGrade(f"{cases} is no Python file in UTF-8: {error}") from None


def _facts(plan: Plan, wall: Wall) -> str:
    """What a run was: for whoever wonders later, and for the run that goes on where this one stopped."""
    facts = {**asdict(replace(plan, hidden=())), "wall": wall.mode, "why": wall.why, "version": wmcourse.__version__}
    return json.dumps(facts, indent=1)


def _lessons(asked: str) -> tuple[str, ...]:
    lessons = list(dict.fromkeys(exercise.lesson for exercise in catalogue()))
    chosen = tuple(lesson for lesson in lessons if not asked or lesson in (asked, f"{asked}{lesson[2:]}"))
    if not chosen:
        raise CannotGrade(f"there is no lesson {asked!r}; the lessons are {', '.join(lessons)}")
    return chosen


def _seed(out: Path, asked: int | None) -> int:
    """The seed of this run: the one that is asked for, that of the run which is resumed, or a secret one."""
    if asked is None:
        try:
            asked = int(json.loads((out / "run.json").read_text(encoding="utf-8"))["seed"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            asked = secrets.randbits(63)
    return asked


def _rows(handins: HandIns, plan: Plan, out: Path, jobs: int, dask: str) -> Iterator[Row]:
    """Every hand-in's row: those that are there already, then the others as they are done."""
    with tqdm(total=len(handins), unit=" hand-ins", desc="grading", smoothing=0) as bar:
        course = _course(plan)

        def to_do() -> Iterator[Task]:
            for submission in handins:
                who = ascii((submission.student, submission.external))
                key = sha256(f"{course}/{who}/{submission.fingerprint()}".encode()).hexdigest()
                row = _kept(out, submission.slug, key)
                if row is None:
                    yield submission, key
                else:
                    ready.append(row)

        ready: list[Row] = []
        spread = _on_dask(dask) if dask else _on_this_machine(max(1, jobs))
        for row in spread(to_do(), plan):
            write_whole(out / "rows" / f"{row.slug}.json", to_json(row))
            bar.update(1 + len(ready))
            yield from (row, *ready)
            ready.clear()
        bar.update(len(ready))
        yield from ready


Task = tuple[Submission, str]  # and the key that its row will have
Spread = Callable[[Iterable[Task], Plan], Iterator[Row]]


def _on_this_machine(jobs: int) -> Spread:
    def spread(tasks: Iterable[Task], plan: Plan) -> Iterator[Row]:
        tasks = iter(tasks)
        lost: list[Task] = []
        while not lost:  # a worker that dies takes its pool along; what it held is graded alone, the rest in a new one
            with _pool(jobs) as pool:
                submit = lambda submission: pool.submit(grade_submission, submission, plan)  # noqa: E731
                for task, future in _in_turn(tasks, submit, 2 * jobs, lost):
                    if isinstance(future.exception(), BrokenProcessPool):
                        lost.append(task)
                    else:
                        yield _row_of(task, plan, future)
            if not lost:
                return
            for task in lost:
                with _pool(1) as pool:
                    yield _row_of(task, plan, pool.submit(grade_submission, task[0], plan))
            lost.clear()

    return spread


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin_worker)


def _begin_worker() -> None:
    """Leave Ctrl-C to the main process and end when it does; whatever a submission sends, memory has an end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    keep_out()
    parent = parent_process()
    if parent and parent.pid != os.getppid():  # it ended before the kernel was asked
        os._exit(1)
    limit_memory(WORKER_MEMORY)


def _in_turn(
    tasks: Iterator[Task], submit: Callable[[Submission], Future[Row]], window: int, lost: list[Task]
) -> Iterator[tuple[Task, Future[Row]]]:
    """Futures as they are done, no more than `window` hand-ins in memory at once; what cannot be begun is lost."""
    running: dict[Future[Row], Task] = {}
    while True:
        while len(running) < window and not lost and (task := next(tasks, None)):
            try:
                running[submit(task[0])] = task
            except BrokenProcessPool:
                lost.append(task)
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future


def _row_of(task: Task, plan: Plan, future: Future[Row]) -> Row:
    """A future's row; where the grader itself failed, one without points that says so and that no later run keeps."""
    submission, key = task
    error = future.exception()
    if error is None:
        return replace(future.result(), key=key)
    if isinstance(error, CannotGrade):
        raise error
    note = f"the grader failed on this hand-in ({type(error).__name__}): please tell whoever runs it"
    return Row(
        student=submission.student,
        slug=submission.slug,
        status="unreadable",
        note=note,
        files=(),
        results=tuple(Result(e.id, "not run", 0, e.points, note=note) for e in plan.exercises()),
        wall=plan.wall().mode,
        seed=plan.seed,
        external=submission.external,
    )


_ONE_AT_A_TIME = threading.Lock()  # a Dask worker has threads; grading sets what belongs to the whole process


def _grade_on_worker(submission: Submission, plan: Plan) -> Row:
    with _ONE_AT_A_TIME:
        return grade_submission(submission, plan)


def _on_dask(address: str) -> Spread:
    try:
        from distributed import Client
    except ImportError:
        raise CannotGrade("--dask needs the package distributed: pip install 'wmcourse[dask]'") from None

    def spread(tasks: Iterable[Task], plan: Plan) -> Iterator[Row]:
        from distributed import as_completed

        try:
            client = Client(address, timeout="15s")
        except OSError as error:
            raise CannotGrade(f"no Dask scheduler answers at {address}: {error}") from None
        with client:
            window = 2 * max(1, len(client.scheduler_info()["workers"]))
            submit = lambda submission: client.submit(_grade_on_worker, submission, plan, pure=False)  # noqa: E731
            queue, running = as_completed(), {}
            tasks = iter(tasks)
            while True:
                while len(running) < window and (task := next(tasks, None)):
                    future = submit(task[0])
                    running[future.key] = task
                    queue.add(future)
                if not running:
                    return
                future = next(queue)
                task = running.pop(future.key)
                yield _row_of(task, plan, future)

    return spread


def _course(plan: Plan) -> str:
    """Changes when the course, the plan or the instructor's cases do, but not with the machine."""
    digest = sha256(repr(replace(plan, hidden=())).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _kept(out: Path, slug: str, key: str) -> Row | None:
    """The row of an earlier run, where it is up to date."""
    try:
        row = from_json((out / "rows" / f"{slug}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return row if row.key == key else None


def summary(rows: list[Row], out: Path) -> str:
    """What a run says at its end."""
    unread = sum(row.status == "unreadable" for row in rows)
    full = sum(row.points == row.max_points for row in rows)
    lines = [f"{len(rows)} hand-ins graded, {full} with all points, {unread} that could not be read: {out}"]
    if any(row.wall == PROCESS_ONLY for row in rows):
        lines.append("PROCESS ONLY: graded without bubblewrap; a submission could read this user's files.")
    return "\n".join(lines)
