"""Grade one student's hand-in: read it, and try each answer in a process of its own, behind the wall."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from wmcourse.exercises import catalogue
from wmcourse.grading.bubblewrap import PROCESS_ONLY, Wall, find_wall
from wmcourse.grading.cells import UnreadableNotebook
from wmcourse.grading.collect import Submission
from wmcourse.grading.exercise import Exercise
from wmcourse.grading.guard import Outcome, run_guarded
from wmcourse.grading.mistake import Crashed
from wmcourse.grading.records import Result, Row
from wmcourse.grading.sandbox import Limits, Sandbox, read
from wmcourse.grading.verdict import CaseResult, Verdict, grade_answer
from wmcourse.grading.view import build_view
from wmcourse.grading.wall import Peer


class CannotGrade(ValueError):
    """Grading cannot begin; the message says why and what to do."""


@dataclass(frozen=True)
class Plan:
    """What to grade and how; the same for every hand-in of a run.

    Args:
        lessons: the names of the lessons whose exercises count.
        seed: of the run. The cases draw their inputs from it and from the hand-in's own bytes, so that a hand-in
            which was made to fit the inputs of an earlier one gets others.
        process_only: whether grading may go on without bubblewrap.
        cases: Python source that adds cases of the instructor's own, or nothing.
        hidden: paths that no submission may see.
        limits: how much a submission may use.
    """

    lessons: tuple[str, ...]
    seed: int
    process_only: bool = False
    cases: str = ""
    hidden: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def exercises(self) -> list[Exercise]:
        """The exercises that count, in the order of the course."""
        add_cases(self.cases)
        return [exercise for exercise in catalogue() if exercise.lesson in self.lessons]

    def wall(self) -> Wall:
        """What stands between a submission and this machine; CannotGrade where that is too little."""
        wall = find_wall(tuple(Path(path) for path in self.hidden))
        if wall.mode == PROCESS_ONLY and not self.process_only:
            raise CannotGrade(
                f"{wall.why}. Without it a submission can read the files of whoever grades. Install it, or say "
                "--allow-process-only where every hand-in comes from someone you trust"
            )
        return wall


@cache
def add_cases(source: str) -> None:
    """Run an instructor's cases, once a process: `@find("exercise").case("the property", hidden=True)`."""
    try:
        exec(compile(source, "<cases>", "exec"), {"__name__": "cases"})
    except (Exception, SystemExit) as error:
        raise CannotGrade(f"the file of cases does not run: {type(error).__name__}: {error}") from None


@dataclass
class Answers:
    """A student's answers, from all their notebooks: by exercise the cell, what it relies on, and what to say of it.

    Args:
        found: the answers that are written.
        stubs: the exercises with a cell, but no answer in it.
    """

    found: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    stubs: set[str] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def grade_submission(submission: Submission, plan: Plan) -> Row:
    """One student's row.

    Raises:
        CannotGrade: there is no wall, or the instructor's cases do not run; nothing is wrong with the hand-in.
    """
    torch.set_num_threads(1)
    _warm(plan)
    exercises, wall = plan.exercises(), plan.wall()
    until = time.monotonic() + plan.limits.handin
    seed = int(sha256(f"{plan.seed}/{submission.fingerprint()}".encode()).hexdigest()[:15], 16)
    with tempfile.TemporaryDirectory(prefix="wmcourse-") as folder:
        os.chmod(folder, 0o755)  # in process-only mode nobody reads it
        views = {lesson: build_view(Path(folder, lesson), lesson) for lesson in plan.lessons}
        answers = _read_all(submission, wall, views[plan.lessons[0]], until)
        results: list[Result] = []
        for lesson, view in views.items():
            asked = [exercise for exercise in exercises if exercise.lesson == lesson]
            results += _grade_lesson(asked, answers, wall, view, plan.limits, seed, until)
    return Row(
        student=submission.student,
        slug=submission.slug,
        status="graded" if answers.files else "unreadable",
        note="; ".join(answers.trouble) or ("" if answers.files else "holds no notebook"),
        files=tuple(answers.files),
        results=tuple(results),
        wall=wall.mode,
        seed=plan.seed,
        external=submission.external,
    )


def _read_all(submission: Submission, wall: Wall, view: Path, until: float) -> Answers:
    """Every notebook's answers; of two to one exercise the later file's, of those that check it if any does.

    Lesson 12 may call some number `mix`, as lesson 10 calls an exercise: that must not cost the answer in lesson 10.
    """
    ids = [exercise.id for exercise in catalogue()]
    answers, checked = Answers(trouble=list(submission.trouble)), set[str]()
    for name, data in submission.notebooks.items():
        if time.monotonic() > until:
            answers.trouble.append(f"{name} and what follows: not read, the time for this hand-in is up")
            break
        try:
            handin = read(wall, view, data, ids)
        except UnreadableNotebook as error:
            answers.trouble.append(f"{name}: {error}")
            continue
        answers.files.append(name)
        answers.said |= handin.twice
        answers.stubs |= set(handin.stubs)
        for id in handin.answers.keys() - set(handin.stubs):
            source, before = handin.answers[id], answers.found.get(id)
            checked_here, checked_before = id in handin.checked, id in checked
            if before and checked_before and not checked_here:
                continue
            if before and checked_before == checked_here and before[0].strip() != source.strip():
                answers.said[id] = f"{id} is answered differently in two notebooks; the one in {name} counts"
            answers.found[id] = source, handin.relies_on[id]
        checked.update(handin.checked)
    return answers


def _grade_lesson(
    asked: Sequence[Exercise], answers: Answers, wall: Wall, view: Path, limits: Limits, seed: int, until: float
) -> Iterator[Result]:
    """The results of one lesson's exercises; a sandbox is started only where there is something to run."""
    box: Sandbox | None = None
    with contextlib.ExitStack() as stack:
        for exercise in asked:
            if not answers.files:
                yield _unrun(exercise, "unreadable", "no notebook of this hand-in could be read")
            elif exercise.id not in answers.found:
                yield _unrun(exercise, "missing", "not written yet" if exercise.id in answers.stubs else "no such cell")
            elif time.monotonic() > until:
                yield _unrun(exercise, "not run", "the time for this hand-in was used up by what came before")
            else:
                box = box or stack.enter_context(_sandbox(wall, view, limits, until))
                try:
                    result = _grade_one(exercise, answers, box, seed)
                    if not result.points and _nobody_passes(exercise, seed, limits):
                        result = _grade_one(exercise, answers, box, seed + 1)
                    yield result
                except Crashed as crashed:  # the sandbox as a whole; the next exercise gets a new one
                    box = None
                    yield _unrun(exercise, "crashed", str(crashed))


def _nobody_passes(exercise: Exercise, seed: int, limits: Limits) -> bool:
    """Whether this seed is the one in many thousands with which a case of chance fails even the course's answer."""
    verdict = grade_answer(exercise, exercise.reference, seed=seed, seconds=limits.exercise)
    return any(case.kind == "failed" for case in verdict.cases)


def prove(exercises: Sequence[Exercise], limits: Limits) -> None:
    """See that the course's own answers pass, the instructor's cases included; CannotGrade where one does not.

    It also has torch load, once in a process, whatever it loads at its first use; that takes nobody's time later.
    """
    torch.set_num_threads(1)
    for exercise in exercises:
        verdict = grade_answer(exercise, exercise.reference, seconds=10 * limits.exercise)
        if not verdict.passed:
            raise CannotGrade(f"the course's own answer fails, so that no hand-in could pass:\n{verdict}")


@cache
def _warm(plan: Plan) -> None:
    prove(plan.exercises(), plan.limits)


def _sandbox(wall: Wall, view: Path, limits: Limits, until: float) -> Sandbox:
    """A sandbox that has started; nothing of the submission's has run yet, so that a failure is the machine's."""
    for _ in range(2):
        with contextlib.suppress(Crashed):
            return Sandbox(wall, view, limits, until).start()
    raise CannotGrade("the sandbox does not start: is torch installed where this Python looks, and is memory left?")


def _unrun(exercise: Exercise, reason: str, note: str) -> Result:
    return Result(exercise.id, reason, 0, exercise.points, note=note)


def _grade_one(exercise: Exercise, answers: Answers, box: Sandbox, seed: int) -> Result:
    id, limits = exercise.id, box.limits
    loaded: list[Any] = []
    printed: list[str] = []
    with box.answer() as (peer, root):
        load = lambda: loaded.append(peer.call(root, "load", (id, *answers.found[id]), {}))  # noqa: E731
        outcome = run_guarded(load, limits.exercise)
        if loaded:
            look = lambda: printed.append(_printed(peer, root))  # noqa: E731
            verdict = grade_answer(exercise, loaded[0], seed=seed, seconds=limits.exercise, before_hidden=look)
        else:
            verdict = _does_not_load(exercise, outcome)
        cases = tuple(map(_not_open, verdict.cases))
        failed = next((case for case in cases if not case.passed), None)
        ended = box.how_it_ended() if failed and failed.kind == "crashed" and not failed.hidden else ""
    note = "; ".join(sentence for sentence in (answers.said.get(id, ""), ended) if sentence)
    reason = failed.kind if failed else "passed"
    return Result(id, reason, verdict.points, exercise.points, cases, note, "".join(printed))


def _not_open(case: CaseResult) -> CaseResult:
    """An answer that is written is not open; but what it calls may be."""
    likely = "came:   NotImplementedError\nlikely: does it call another exercise's answer, which is not written yet?"
    return replace(case, kind="error", message=likely) if case.kind == "open" else case


def _does_not_load(exercise: Exercise, outcome: Outcome) -> Verdict:
    first = CaseResult("the answer's cell runs", outcome.kind, outcome.message)
    rest = [CaseResult(case.name, "not run", hidden=case.hidden) for case in exercise.cases]
    return Verdict(exercise.id, exercise.points, (first, *rest))


def _printed(peer: Peer, root: int) -> str:
    """What the answer printed, where it still says so; whatever it does now, its grade stands."""
    said: list[Any] = []
    run_guarded(lambda: said.append(peer.call(root, "printed", (), {})), peer.seconds)
    return said[0][:1000] if said and isinstance(said[0], str) else ""
