"""What crosses the wall, and that a call on the other side of it is the same as a call on this one."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.banks.proof import all_banks
from wmcourse.exercises import find
from wmcourse.grading.mistake import Crashed, Mistake, TimeUp
from wmcourse.grading.remote import Raised
from wmcourse.grading.sandbox import Limits, exposed
from wmcourse.grading.verdict import grade_answer
from wmcourse.grading.wall import ROOT, Peer
from wmcourse.grading.wire import Blobs, Line, Packer, Unpacker, WireError, tensors_of


@contextmanager
def other_side(root: Any, **options: Any) -> Iterator[Peer]:
    """A peer whose other side is a forked process that holds `root`."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        try:
            ours.close()
            Peer(Line(theirs), root).serve()
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield Peer(Line(ours), **({"seconds": 20.0, "exposes": exposed} | options))
    finally:
        ours.close()
        os.waitpid(child, 0)


@contextmanager
def remote(function: Any, **options: Any) -> Iterator[Any]:
    with other_side(function, **options) as peer:
        yield lambda *args, **kwargs: peer.call(ROOT, None, args, kwargs)


class Pair(NamedTuple):
    left: Any
    right: Any


def crossed(x: Any) -> Any:
    """A value packed into bytes and back, without a process."""
    ours, theirs = socket.socketpair()
    packer = Packer(lambda thing: {"mine": {"number": 1, "kind": type(thing).__name__}})
    Line(ours).send({"value": packer.pack(x), "tensors": packer.rows}, packer.blobs)
    header, blobs = Line(theirs).receive()
    return Unpacker(blobs, lambda kind, facts: (kind, facts), tensors_of(header, blobs)).unpack(header["value"])


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, -(2**70), 1.5, "text ü\ud800"[:6], b"\x00\xff", [], (), {}, [1, [2, (3,)]]),
        {"a": (1, 2), 3: [None], (4, 5): {"b": "c"}},
        *(torch.float64, torch.device("cpu"), np.float32(0.1), np.bool_(True)),
    ],
    ids=repr,
)
def test_values_come_out_as_they_went_in(value) -> None:
    back = crossed(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_tensors_come_out_as_they_went_in(dtype, shape) -> None:
    x = (torch.randn(shape) * 3).to(dtype)
    back = crossed(x)
    assert back.dtype == dtype
    assert torch.equal(back, x)
    assert torch.equal(crossed(x.mT if x.dim() > 1 else x), x.mT if x.dim() > 1 else x)


def test_a_number_that_is_spread_over_a_shape_crosses() -> None:
    assert crossed(torch.ones(()).expand(1)).tolist() == [1]
    assert crossed(torch.ones(()).expand(2, 3)).tolist() == [[1] * 3] * 2
    assert crossed(torch.arange(6.0)[::2]).tolist() == [0, 2, 4]


def test_special_numbers_named_tuples_and_generators_cross() -> None:
    assert crossed([float("inf"), float("-inf")]) == [float("inf"), float("-inf")]
    assert np.isnan(crossed(float("nan")))
    pair = crossed(Pair(torch.ones(2), "b"))
    assert pair.right == "b"
    assert pair[0].tolist() == [1, 1]
    array = np.arange(6).reshape(2, 3)[:, ::-1]
    assert np.array_equal(crossed(array), array)
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(torch.rand(3, generator=crossed(generator)), torch.rand(3, generator=generator))
    assert crossed(x for x in range(3)) == [0, 1, 2]


def test_a_tensor_that_is_there_twice_is_one_tensor() -> None:
    x = torch.ones(3)
    left, right = crossed((x, [x]))
    assert left is right[0]


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("<I", 2**31),
        struct.pack("<I", 5) + b"hello",
        struct.pack("<I", 2) + b"{}",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 14) + b'{"blobs": [-1]',
        struct.pack("<I", 24) + b'{"blobs": [999999999999]}'[:24],
        struct.pack("<I", 100_000) + b"[" * 100_000,
    ],
)
def test_what_is_no_frame_is_refused(frame) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(frame)
    theirs.close()
    with pytest.raises((WireError, Crashed)):
        Line(ours).receive()


@pytest.mark.parametrize(
    "value",
    [
        *({"tensor": 0}, {"tensor": -9}, {"tensor": "a"}, {"unknown": 1}, {"a": 1, "b": 2}, {}, {"dict": [[1]]}),
        *({"dict": [[[], 1]]}, {"named": ["a b", ["x"], [1]]}, {"named": ["P", ["__class__"], [1]]}, {"bytes": 7}),
        *({"dict": [[i * (2**61 - 1), 0] for i in range(6000)]}, [{"named": ["P", ["x"], [1]]}] * 501, [0] * 500_001),
        *({"named": ["P", ["x"] * 99, []]}, {"array": ["|O", [1], 0]}, {"dtype": "__class__"}, {"generator": 0}),
        {"device": "import os"},
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_no_value_is_refused(value) -> None:
    def find(kind: str, facts: Any) -> Any:
        raise KeyError(kind)

    with pytest.raises(WireError):
        Unpacker(Blobs([bytearray(b"12345678")]), find, []).unpack(value)


@pytest.mark.parametrize(
    "row",
    [
        {"dtype": "float32", "shape": [3], "blob": 0, "grad": False},
        {"dtype": "float32", "shape": [-2], "blob": 0, "grad": False},
        {"dtype": "float32", "shape": [2], "blob": 5, "grad": False},
        {"dtype": "int64", "shape": [1], "blob": 0, "grad": True},
        {"dtype": "__class__", "shape": [2], "blob": 0, "grad": False},
        {"dtype": "float32", "shape": "2", "blob": 0, "grad": False},
        {"dtype": "float32", "shape": [1] * 65 + [2], "blob": 0, "grad": False},
        {"dtype": "float32", "shape": [10**4000] * 900, "blob": 0, "grad": False},
    ],
    ids=lambda row: repr(row)[:60],
)
def test_what_is_no_tensor_is_refused(row) -> None:
    with pytest.raises(WireError):
        tensors_of({"tensors": [row]}, Blobs([bytearray(8)]))


def test_a_frame_unpacks_to_no_more_than_it_weighs() -> None:
    row = {"dtype": "float32", "shape": [2], "blob": 0, "grad": False}
    with pytest.raises(WireError, match="taken before"):
        tensors_of({"tensors": [row, row]}, Blobs([bytearray(8)]))


def test_a_bool_is_0_or_1_whatever_its_byte() -> None:
    row = {"dtype": "bool", "shape": [3], "blob": 0, "grad": False}
    assert torch.equal(
        tensors_of({"tensors": [row]}, Blobs([bytearray(b"\x00\x01\x07")]))[0], torch.tensor([0, 1, 1]).bool()
    )


def test_a_call_and_its_gradient_read_the_same_on_both_sides() -> None:
    def reparameterize(mean: Tensor, std: Tensor, *, noise: Tensor) -> tuple[Tensor, Tensor]:
        return mean + std * noise, noise

    leaves = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3, requires_grad=True)
    noise = torch.randn(4, 3)
    with remote(reparameterize) as student:
        found = []
        for function in (student, reparameterize):
            z, same = function(*leaves, noise=noise)
            assert torch.equal(same, noise)
            assert not same.requires_grad
            found.append(torch.autograd.grad((z**2).sum(), leaves))
        for crossed_over, here in zip(*found, strict=True):
            assert torch.allclose(crossed_over, here)
        z, _ = student(*leaves, noise=noise)
        z.sum().backward()
        assert torch.equal(leaves[1].grad, noise)  # type: ignore[arg-type]


def test_second_derivatives_cross() -> None:
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    with remote(lambda x: (x**3, x.sin())) as student:
        assert torch.autograd.gradcheck(student, (x,))
        assert torch.autograd.gradgradcheck(student, (x,))


def test_an_input_that_is_cut_off_has_no_gradient() -> None:
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with remote(lambda a, b: a.detach() + b) as student:
        grads = torch.autograd.grad(student(a, b).sum(), (a, b), allow_unused=True)
    assert grads[0] is None
    assert grads[1].tolist() == [1, 1]


def test_no_graph_is_kept_under_no_grad_and_graphs_are_dropped() -> None:
    x = torch.ones(3, requires_grad=True)
    with other_side(lambda x: 2 * x) as peer:
        with torch.no_grad():
            assert not peer.call(ROOT, None, (x,), {}).requires_grad
        for _ in range(3):
            peer.call(ROOT, None, (x,), {}).sum().backward()
        assert peer._forgotten


def test_a_function_of_ours_is_called_from_there_and_gradients_go_through_both() -> None:
    weight = torch.randn(3, 3, requires_grad=True)
    asked = []

    def model(obs: Tensor, action: Tensor) -> Tensor:
        asked.append(obs.shape)
        return torch.tanh(obs @ weight + action)

    def rollout(step: Any, obs: Tensor, actions: Tensor) -> Tensor:
        for action in actions.unbind(1):
            obs = step(obs, action)
        return obs

    obs, actions = torch.randn(2, 3), torch.randn(2, 4, 3, requires_grad=True)
    with remote(rollout) as student:
        here, there = rollout(model, obs, actions), student(model, obs, actions)
        assert torch.allclose(here, there)
        slopes = torch.autograd.grad(here.sum(), [actions, weight])
        there.sum().backward()
    assert len(asked) == 8
    assert torch.allclose(actions.grad, slopes[0])  # type: ignore[arg-type]
    assert torch.allclose(weight.grad, slopes[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["backward", "grad"])
def test_gradients_reach_the_weights_of_a_function_of_ours(how) -> None:
    policy, world = nn.Linear(3, 2), nn.Linear(5, 3)

    def imagine(policy: Any, step: Any, obs: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
        total = torch.zeros(())
        for _ in range(horizon):
            action = policy(obs)
            obs = step(obs, action.tanh())
            total = total + obs.square().sum() + action.sum()
        return total, obs

    def step(obs: Tensor, action: Tensor) -> Tensor:
        return torch.tanh(world(torch.cat([obs, action], -1)))

    weights = [*policy.parameters(), *world.parameters()]
    obs = torch.randn(4, 3, requires_grad=True)
    with remote(imagine) as student:
        found = []
        for function in (imagine, student):
            total, last = function(policy, step, obs, 5)
            loss = total * 0.1 + last.sum()
            if how == "grad":
                found.append(torch.autograd.grad(loss, [obs, *weights]))
            else:
                policy.zero_grad()
                world.zero_grad()
                obs.grad = None
                loss.backward()
                found.append([x.grad for x in (obs, *weights)])
    for here, there in zip(*found, strict=True):
        assert torch.allclose(here, there, atol=1e-6)


def test_what_an_answer_pulls_by_itself_leaves_no_gradient_in_our_weights() -> None:
    weight = torch.ones(3, requires_grad=True)

    def curious(model: Any, x: Tensor) -> Tensor:
        y = model(x)
        y.sum().backward()
        return y.detach()

    with remote(curious) as student:
        student(lambda x: x * weight, torch.ones(3, requires_grad=True))
    assert weight.grad is None


class Model(nn.Module):
    """A class that a learner may write."""

    def __init__(self, size: int):
        super().__init__()
        self.size, self.net = size, nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def imagine(self, x: Tensor, horizon: int) -> list[Tensor]:
        return [x := self(x) for _ in range(horizon)]


def test_a_class_is_constructed_called_and_asked_for_its_state() -> None:
    torch.manual_seed(3)
    wanted = Model(2)
    with remote(Model, dice=True) as student:
        torch.manual_seed(3)
        model = student(2)
        assert model.size == 2
        x = torch.randn(4, 2)
        assert torch.allclose(model(x), wanted(x))
        assert len(model.imagine(x, 3)) == 3
        state = model.state_dict()
        assert torch.equal(state["net.weight"], wanted.net.weight)
        model.load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
        assert model(x).abs().sum() == 0
        model(x).sum().backward()
        weight = dict(model.named_parameters())["net.weight"]
        assert weight.is_leaf
        assert torch.allclose(weight.grad, x.sum(0).expand(2, 2))
        with pytest.raises(AttributeError):
            model.gone
        with pytest.raises(AttributeError):
            model._modules


def test_the_signature_crosses() -> None:
    import inspect

    with other_side(lambda: Model) as peer:
        model = peer.call(ROOT, None, (), {})
        assert list(inspect.signature(model).parameters) == ["size"]


def test_an_object_that_comes_home_is_itself() -> None:
    thing = lambda: 1  # noqa: E731
    with remote(lambda x: [x]) as student:
        assert student(thing)[0] is thing


def test_errors_cross_with_their_kind_and_ours_come_home() -> None:
    def careless(what: Any) -> Any:
        if callable(what):
            return what()
        raise (what and ValueError("no such value")) or SystemExit(3)

    def ours() -> None:
        raise mistake

    mistake = Mistake("the real one")
    with remote(careless) as student:
        with pytest.raises(ValueError, match="no such value") as caught:
            student(1)
        assert isinstance(caught.value, Raised)
        with pytest.raises(Raised):
            student(0)
        with pytest.raises(Mistake) as home:
            student(ours)
        assert home.value is mistake


def test_an_error_that_would_end_a_callers_loop_does_not() -> None:
    def stop(x: int) -> int:
        raise StopIteration

    with remote(stop) as student, pytest.raises(Raised):
        list(map(student, [1, 2]))


def test_an_input_edited_in_place_is_a_mistake_and_stays_as_it_was() -> None:
    x = torch.ones(3)
    with remote(lambda x: x.mul_(2)) as student, pytest.raises(Mistake, match="edited in place"):
        student(x)
    assert x.tolist() == [1, 1, 1]


def test_time_is_up_for_a_call_and_for_one_within_it() -> None:
    with remote(lambda f: f(), seconds=0.5) as student:
        start = time.monotonic()
        with pytest.raises(TimeUp):
            student(lambda: time.sleep(0.7))
        assert time.monotonic() - start < 2


def test_a_process_that_ends_has_crashed() -> None:
    with remote(lambda: os._exit(0)) as student, pytest.raises(Crashed):
        student()


def test_only_what_is_shared_can_be_used_from_there() -> None:
    class Env:
        secret = 7

        def step(self) -> int:
            return 1

        def _hidden(self) -> int:
            return 2

    def snoop(thing: Any, name: str) -> Any:
        return thing._peer.get(thing._number, name)

    with remote(snoop) as student:
        assert student(Env(), "step")() == 1
        for name in ("__class__", "_hidden", "__init__"):
            with pytest.raises(AttributeError):
                student(Env(), name)
        for name in ("load_state_dict", "register_forward_hook", "_parameters", "forward"):
            with pytest.raises(AttributeError):
                student(nn.Linear(1, 1), name)
        from wmcourse.worlds import make_pendulum

        world = make_pendulum()
        assert student(world, "step")
        for name in ("set_wrapper_attr", "get_wrapper_attr", "unwrapped", "np_random"):
            with pytest.raises(AttributeError):
                student(world, name)


def test_a_reply_that_nobody_asked_for_breaks_the_line() -> None:
    ours, theirs = socket.socketpair()
    text = json.dumps({"number": 99, "done": 1, "blobs": []}).encode()
    theirs.sendall(struct.pack("<I", len(text)) + text)
    with pytest.raises(WireError):
        Peer(Line(ours), seconds=5).call(ROOT, None, (), {})


def test_what_is_too_large_is_said_and_the_next_call_works() -> None:
    with remote(lambda n: "x" * n) as student:
        with pytest.raises(Raised, match="too large"):
            student(5 << 20)
        assert student(3) == "xxx"


@pytest.mark.parametrize("bank", all_banks(), ids=lambda bank: bank.id)
def test_an_answer_gets_the_same_verdict_on_both_sides(bank) -> None:
    exercise, seconds = find(bank.id), Limits().exercise  # as the grader has it: each call over the wall takes its time
    for answer in [*bank.rights, *(entry.answer for entry in bank.wrongs[::4])]:
        here = grade_answer(exercise, answer, seed=3, seconds=seconds)
        with other_side(lambda answer=answer: answer, dice=True) as peer:
            there = grade_answer(exercise, peer.call(ROOT, None, (), {}), seed=3, seconds=seconds)
        kinds = [[(case.name, case.kind) for case in verdict.cases] for verdict in (here, there)]
        assert kinds[0] == kinds[1], f"{answer.__name__}\nhere: {here}\nthere: {there}"
