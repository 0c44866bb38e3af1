"""What a learner meets: verdicts in plain words, whatever the answer does, and a notebook that goes on."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest
import torch

from wmcourse import reparameterization as reference
from wmcourse.exercises import NotPassed, UnknownExercise, catalogue, check, find, grade, hint
from wmcourse.grading.guard import run_guarded
from wmcourse.grading.progress import progress_path


def right(mean, std, noise):
    return mean + std * noise


def none(mean, std, noise):
    pass


def shape(mean, std, noise):
    return (mean + std * noise)[0]


def dtype(mean, std, noise):
    return mean.double() + std * noise


def nan(mean, std, noise):
    return mean + std * noise / 0 * 0


def numpy_array(mean, std, noise):
    return (mean + std * noise).detach().numpy()


def no_gradient(mean, std, noise):
    return (mean + std * noise).detach()


def in_place(mean, std, noise):
    noise.mul_(2).div_(3)
    return mean + std * noise


def chatty(mean, std, noise):
    print("x" * 1_000_000)
    return mean


def raises(mean, std, noise):
    return mean + std * noise[99]


def exits(mean, std, noise):
    sys.exit(3)


def recurses(mean, std, noise):
    return recurses(mean, std, noise)


def stubborn(mean, std, noise):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def sleeps(mean, std, noise):
    time.sleep(60)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (none, "did you forget to return"),
        (shape, "should have shape (6, 3)"),
        (dtype, "should be float32"),
        (nan, "holds nan"),
        (numpy_array, "should be a torch tensor"),
        (no_gradient, "carries no gradient"),
        (in_place, "edited in place"),
        (chatty, "and 999,401 more characters"),
        (raises, "IndexError"),
        (raises, "return mean + std * noise[99]"),
        (exits, "SystemExit: 3"),
        (recurses, "calls itself without end"),
        (lambda mean, std: mean, "the arguments should be (mean, std, noise)"),
        (torch.zeros(3), "hand the function itself to check"),
        (None, "hand the function itself to check"),
    ],
)
def test_bad_answers_get_a_verdict_in_plain_words(answer, says, capsys) -> None:
    assert check("reparameterize", answer) is reference.reparameterize
    out = capsys.readouterr().out
    assert says in out
    assert "The lesson goes on with the reference" in out
    assert "Traceback" not in out
    assert "wmcourse/" not in out


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm on this system")
def test_an_import_is_let_end_and_takes_no_time_from_the_answer(tmp_path, monkeypatch) -> None:
    (tmp_path / "slow_to_import.py").write_text(
        "import time\nfor _ in range(60):\n    time.sleep(0.01)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def answer() -> None:
        import slow_to_import  # type: ignore[import-not-found]

        assert slow_to_import.whole

    def endless() -> None:
        answer()
        while True:
            pass

    assert run_guarded(answer, 0.3).kind == "passed"
    monkeypatch.delitem(sys.modules, "slow_to_import")
    assert run_guarded(endless, 0.3).kind == "timed out"


@pytest.mark.parametrize("answer", [stubborn, sleeps])
def test_an_endless_answer_ends(answer) -> None:
    began = time.monotonic()
    verdict = grade("reparameterize", answer)
    assert time.monotonic() - began < find("reparameterize").seconds + 2
    assert [case.kind for case in verdict.cases] == ["timed out"] + ["not run"] * (len(verdict.cases) - 1)
    assert sys.gettrace() is None or "insist" not in repr(sys.gettrace())


def test_outside_the_main_thread_there_is_a_verdict_too() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(grade("reparameterize", right)))
    thread.start()
    thread.join()
    assert found[0].passed


def test_a_right_answer_is_handed_back_and_remembered(capsys) -> None:
    assert check("reparameterize", right) is right
    assert "passed, 1 point" in capsys.readouterr().out
    assert '"reparameterize"' in progress_path().read_text()


def test_the_stub_is_open(capsys) -> None:
    def stub(mean, std, noise):
        raise NotImplementedError

    assert check("reparameterize", stub) is reference.reparameterize
    assert "open, not written yet" in capsys.readouterr().out


def test_the_reference_handed_back_by_check_is_not_an_answer(capsys) -> None:
    check("reparameterize", check("reparameterize", none))
    assert "the course's own function" in capsys.readouterr().out
    assert not progress_path().exists()


def test_a_check_leaves_the_notebooks_random_numbers_and_settings_alone() -> None:
    def meddles(mean, std, noise):
        torch.manual_seed(5)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        sys.setrecursionlimit(50_000)
        return mean

    torch.manual_seed(1)
    wanted, limit = torch.rand(3), sys.getrecursionlimit()
    torch.manual_seed(1)
    check("reparameterize", meddles)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert sys.getrecursionlimit() == limit


def test_it_works_inside_no_grad() -> None:
    with torch.no_grad():
        assert grade("reparameterize", right).passed


def test_an_unknown_id_names_the_nearest(capsys) -> None:
    assert check("reparametrise", right) is right
    hint("reparametrise")
    assert capsys.readouterr().out.count("the nearest: reparameterize") == 2
    with pytest.raises(UnknownExercise, match="reparameterize"):
        grade("reparametrise", right)


def test_strict_mode_raises_and_runs_the_hidden_cases(monkeypatch) -> None:
    monkeypatch.setenv("WMCOURSE_STRICT", "1")
    assert check("reparameterize", right) is right
    with pytest.raises(NotPassed, match="forget to return"):
        check("reparameterize", none)
    with pytest.raises(NotPassed, match="own function"):
        check("reparameterize", reference.reparameterize)

    def only_two_axes(mean, std, noise):
        return mean + std * noise if mean.dim() == 2 else mean

    with pytest.raises(NotPassed, match="works for any shape"):
        check("reparameterize", only_two_axes)


def test_hints_say_more_each_time_and_stop_at_three(capsys) -> None:
    for _ in range(4):
        hint("straight_through")
    hint("straight_through", 1)
    hint("straight_through", 9)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0][-6:] for line in lines[:5]] == ["1 of 3", "2 of 3", "3 of 3", "3 of 3", "1 of 3"]
    assert "should be 1 to 3" in lines[5]


def test_the_catalogue_is_in_the_order_of_the_course() -> None:
    lessons = [exercise.lesson for exercise in catalogue()]
    assert lessons == sorted(lessons)
    assert len({exercise.id for exercise in catalogue()}) == len(catalogue())


def test_points_are_whole_or_none() -> None:
    assert grade("straight_through", reference.straight_through).points == find("straight_through").points
    verdict = grade("straight_through", lambda logits, uniform: logits.softmax(-1))
    assert (verdict.points, verdict.max_points) == (0, find("straight_through").points)


def test_the_same_seed_gives_the_same_verdict() -> None:
    assert str(grade("reparameterize", shape, seed=7)) == str(grade("reparameterize", shape, seed=7))


@pytest.mark.parametrize("exercise", catalogue(), ids=lambda exercise: exercise.id)
def test_a_check_is_quick(exercise) -> None:
    grade(exercise.id, exercise.reference, hidden=False)  # the first of a kernel may take longer
    began = time.process_time()
    grade(exercise.id, exercise.reference, hidden=False)
    assert time.process_time() - began < 2.0
