"""The wall between the grader and a submission: ordinary calls, with a process boundary in the middle.

Both sides run a `Peer` on one end of a socket. The two are alike: each can ask, and each answers what it is asked while
it waits for its own reply. There are three questions, each answered by "done" or "fail":

    call    call one of your objects, or a method of it, with these arguments
    get     read one attribute of one of your objects
    pull    here is the gradient of the loss with respect to what you returned in that call; give me the one with
            respect to what I sent (a vector-Jacobian product)

Values cross as copies (see wire.py). What is no value, a function or a world model, stays where it is; the other side
gets a `Remote` that stands for it. So a planner on one side can be handed a model that lives on the other:

    grader                               submission
      | -- call plan(model=Remote, x) -->  |
      | <------- call model(x, a) -------- |
      | -------- done x' ----------------> |
      | <------- done action ------------- |

Gradients cross, too. Tensors that want a gradient arrive as leaves. The callee keeps the graph from them to its result;
the caller hangs a `Crossing` into its own graph, whose backward pass asks to pull. A pull under create_graph is itself
such a crossing, so that second derivatives work. Where the callee called functions of the caller's on the way, a policy
with weights say, the weights that they reached are inputs of the crossing, too, and the pulls that come back during its
backward pass bring their gradients. The grader needs not know any of this: to a case,

    z = student(mean, std, noise); z.sum().backward()

reads the same on both sides of the wall.

What the grader may rely on: it never runs code that came over the wall, never writes a reply into a tensor of its own,
and takes only the reply to the question it asked, within the deadline. Everything in a reply may be a lie, but it is a
lie about what the submission's own function returns. What it lets the submission ask is decided by `exposes`.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from wmcourse.grading.crossing import Crossing, Graph, Kept, leaves_of
from wmcourse.grading.mistake import EDITED, Mistake, Stopped
from wmcourse.grading.remote import Raised, Remote, RemoteCallable, line_of, raised, signature_of, text_of
from wmcourse.grading.wire import Blobs, Line, Packer, Unpacker, WireError, tensors_of, to_bytes

MAX_HELD, MAX_GRAPHS = 1 << 30, 20_000
ROOT = 0  # the number of the object that a Peer is born with


class Peer:
    """One side of the wall.

    Args:
        line: the connection.
        root: the object that the other side can ask first.
        exposes: the names of methods and attributes of an object of ours that the other side may use besides calling
            it; by default every public one.
        seconds: how long a question of ours may take, questions within it included; `until`, which may be set at any
            time, is the moment (time.monotonic) at which every one of them ends.
        dice: whether a call takes the state of our torch random numbers with it, so that torch.manual_seed here holds
            there; else the other side's are taken.
    """

    def __init__(
        self,
        line: Line,
        root: Any = None,
        *,
        exposes: Callable[[Any], Collection[str]] | None = None,
        seconds: float = math.inf,
        dice: bool = False,
    ):
        self.line, self.seconds, self.until, self.dice = line, seconds, math.inf, dice
        self.exposes = exposes or dir
        self._own: dict[int, Any] = {ROOT: root}
        self._numbers: dict[int, int] = {}  # id of an object of ours to its number; _own keeps the object alive
        self._graphs: dict[int, Kept] = {}  # of calls we answered
        self._held = 0  # bytes of them
        self._reached: list[dict[int, Tensor]] = []  # per question that waits: leaves of ours that answers to it use
        self._collected: dict[int, Tensor] | None = None  # their gradients, while we wait for a pull
        self._errors: deque[tuple[int, BaseException]] = deque(maxlen=64)
        self._forgotten: list[int] = []  # graphs of the other side that nobody here can pull any more
        self._count = 0

    # Asking

    def call(self, of: int, name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the other side's object `of`, or its method `name`; what it raises is raised here as `Raised`."""
        packer = Packer(self._export)
        question = {"of": of, "name": name, "args": packer.pack(args), "kwargs": packer.pack(kwargs)}
        question["grad"] = torch.is_grad_enabled()
        if self.dice:
            question["dice"] = packer.pack(torch.default_generator)
            torch.rand(1)  # the next call gets other numbers
        return self._ask("call", question, packer)

    def get(self, of: int, name: str) -> Any:
        """Read an attribute of the other side's object `of`."""
        return self._ask("get", {"of": of, "name": name}, Packer(self._export))

    def pull(
        self, graph: Graph, slopes: list[Tensor | None], inputs: list[Tensor]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """The gradients with respect to a call's inputs, and to the leaves of ours that it used, given its outputs'."""
        packer = Packer(self._export)
        packed = [packer.pack(slope) for slope in slopes]
        again = torch.is_grad_enabled()  # in a backward pass this says create_graph
        before, self._collected = self._collected, {}
        try:
            pulled = self._ask("pull", {"graph": graph.number, "slopes": packed, "again": again}, packer, inputs)
            return pulled, [self._collected.get(id(leaf)) for leaf in graph.leaves]
        finally:
            self._collected = before

    def _ask(self, what: str, question: dict[str, Any], packer: Packer, more: list[Tensor] | None = None) -> Any:
        self._count += 1
        number = self._count
        forgotten, self._forgotten = self._forgotten, []
        if not self._reached:
            self.line.deadline = min(time.monotonic() + self.seconds, self.until)
        self._reached.append({})
        try:
            header = {"ask": what, "number": number, "forget": forgotten, "tensors": packer.rows, **question}
            self.line.send(header, packer.blobs)
            header, blobs = self._reply(number)
        finally:
            reached = self._reached.pop()
        if "fail" in header:
            raise self._error(header["fail"])
        if header.get("edited"):
            raise Mistake(EDITED, came="an input that is not what it was before the call")
        tensors = tensors_of(header, blobs)
        if header.get("graph") is not None:
            sources = [x for x in (*packer.tensors, *(more or [])) if x.requires_grad]
            graph = Graph(self, header["graph"], list(reached.values()))
            tensors = self._cross(graph, header["tensors"], tensors, sources)
        return Unpacker(blobs, self._find, tensors).unpack(header.get("done"))

    def _reply(self, number: int) -> tuple[dict[str, Any], Blobs]:
        while True:
            header, blobs = self.line.receive()
            if "ask" in header:
                self._answer(header, blobs)
            elif header.get("number") == number:
                return header, blobs
            else:
                raise WireError("a reply to something that was not asked")

    def _cross(self, graph: Graph, rows: list[Any], tensors: list[Tensor], sources: list[Tensor]) -> list[Tensor]:
        """Put the results of a call into our graph: those that hang on it come out of a `Crossing`."""
        hangs = [bool(row.get("hangs")) and x.requires_grad for row, x in zip(rows, tensors, strict=True)]
        values = [x.detach() for x, on_it in zip(tensors, hangs, strict=True) if on_it]
        anchor = torch.zeros((), requires_grad=True)  # so that a result wants a gradient even where no input does
        crossed = iter(Crossing.apply(graph, values, anchor, *sources, *graph.leaves))  # type: ignore[misc]
        return [next(crossed) if on_it else x for x, on_it in zip(tensors, hangs, strict=True)]

    def forget(self, number: int) -> None:
        """Nobody here can pull this graph of the other side's any more; it is told with the next question."""
        self._forgotten.append(number)

    # Answering

    def serve(self) -> None:
        """Answer until the other side hangs up (Crashed) or breaks the protocol (WireError)."""
        while True:
            header, blobs = self.line.receive()
            if "ask" not in header:
                raise WireError("a reply to something that was not asked")
            self._answer(header, blobs)

    def _answer(self, header: dict[str, Any], blobs: Blobs) -> None:
        packer = Packer(self._export)
        try:
            reply = self._performed(header, blobs, packer)
        except (Stopped, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit, say, from an answer
            packer = Packer(self._export)
            reply = {"fail": self._failure(error)}
        reply |= {"number": header.get("number"), "tensors": packer.rows}
        try:
            self.line.send(reply, packer.blobs)
        except WireError as error:
            self.line.send({"number": header.get("number"), "fail": self._failure(error)}, [])

    def _performed(self, header: dict[str, Any], blobs: Blobs, packer: Packer) -> dict[str, Any]:
        for graph in header.get("forget", []):
            if graph in self._graphs:
                self._held -= self._graphs.pop(graph).size
        what, inputs = header["ask"], tensors_of(header, blobs)
        unpacker = Unpacker(blobs, self._find, inputs)
        if what == "pull":
            return self._pulled(header, inputs, unpacker, packer)
        target, name = self._own[header["of"]], header.get("name")
        if name is not None:
            target = self._attribute(target, name)
        if what == "get":
            return {"done": packer.pack(target)}
        args, kwargs = unpacker.unpack(header["args"]), unpacker.unpack(header["kwargs"])
        before = [to_bytes(x) for x in inputs]
        with torch.set_grad_enabled(header["grad"] is True):
            if "dice" in header and not self.dice:  # who gives its dice away takes none
                torch.set_rng_state(unpacker.unpack(header["dice"]).get_state())
            packed = packer.pack(target(*args, **kwargs))
        edited = any(to_bytes(x) != old for x, old in zip(inputs, before, strict=True))
        return {"done": packed, "edited": edited, "graph": self._kept(inputs, packer)}

    def _attribute(self, target: Any, name: str) -> Any:
        if name.startswith("_") or name not in self.exposes(target):
            raise AttributeError(
                f"{type(target).__name__!r} object has no attribute {name!r} that can be used from here"
            )
        return getattr(target, name)

    def _pulled(self, header: dict, slopes: list[Tensor], unpacker: Unpacker, packer: Packer) -> dict[str, Any]:
        kept = self._graphs[header["graph"]]
        wanted = [unpacker.unpack(slope) for slope in header["slopes"]]
        pairs = [(out, slope) for out, slope in zip(kept.outputs, wanted, strict=True) if slope is not None]
        again, found = bool(header["again"]), []
        if pairs and (into := [*kept.inputs, *kept.leaves]):
            outs, ins = zip(*pairs, strict=True)
            found = torch.autograd.grad(outs, into, ins, allow_unused=True, retain_graph=True, create_graph=again)
            self._arrived(kept.leaves, found[len(kept.inputs) :])
        packed = [packer.pack(slope) for slope in (found or [None] * len(kept.inputs))[: len(kept.inputs)]]
        return {"done": packed, "graph": self._kept([*slopes, *kept.inputs], packer) if again else None}

    def _arrived(self, leaves: list[Tensor], slopes: Sequence[Tensor | None]) -> None:
        """Gradients of leaves of ours: part of a pull of ours, or of the other side's own backward pass."""
        for leaf, slope in zip(leaves, slopes, strict=True):
            if slope is None:
                continue
            if self._collected is not None:
                before = self._collected.get(id(leaf))
                self._collected[id(leaf)] = slope if before is None else before + slope
            elif not self._reached:  # as loss.backward() does; what an answer pulls by itself stays with it
                leaf.grad = slope if leaf.grad is None else leaf.grad + slope

    def _kept(self, inputs: list[Tensor], packer: Packer) -> int | None:
        """Keep the graph of a call we answered, if there is one; its number.

        A result hangs on the graph unless it is a leaf of its own: a parameter crosses as a copy, with its `.grad`.
        """
        given = {id(x) for x in inputs}
        outputs = []
        for x, row in zip(packer.tensors, packer.rows, strict=True):
            if x.requires_grad and (not x.is_leaf or id(x) in given):
                row["hangs"] = True
                outputs.append(x)
        if not outputs:
            return None
        leaves = [x for x in leaves_of(outputs) if id(x) not in given]
        if self._reached:
            self._reached[-1] |= {id(x): x for x in leaves}
        self._count += 1
        self._graphs[self._count] = kept = Kept([x for x in inputs if x.requires_grad], outputs, leaves)
        self._held += kept.size
        if self._held > MAX_HELD or len(self._graphs) > MAX_GRAPHS:
            raise WireError("too many calls whose gradients are still wanted")
        return self._count

    # Objects and errors

    def _export(self, x: Any) -> dict[str, Any]:
        if isinstance(x, Remote) and x._peer is self:
            return {"yours": x._number}
        number = self._numbers.get(id(x))
        if number is None:
            number = self._numbers[id(x)] = len(self._own)
            self._own[number] = x
        facts = {"number": number, "kind": type(x).__name__}
        return {"mine": {**facts, "signature": signature_of(x)} if callable(x) else facts}

    def _find(self, kind: str, facts: Any) -> Any:
        if kind == "yours":
            return self._own[facts]
        number, name = facts["number"], str(facts["kind"])[:80]
        if "signature" not in facts:
            return Remote(self, number, name)
        return RemoteCallable(self, number, name, facts["signature"])

    def _failure(self, error: BaseException) -> dict[str, Any]:
        if isinstance(error, Raised) and error.peer is self:
            return {"yours": error.number}
        self._count += 1
        facts = {"type": type(error).__name__, "text": text_of(error), "line": line_of(error)}
        error.__traceback__ = error.__context__ = error.__cause__ = None  # they would keep a call's tensors alive
        self._errors.append((self._count, error))
        return {"number": self._count, **facts}

    def _error(self, facts: Any) -> BaseException:
        try:
            for number, error in self._errors:
                if number == facts.get("yours"):
                    return error  # an error of ours went through the other side and came home
            return raised(self, facts["number"], *(str(facts[key])[:600] for key in ("type", "text", "line")))
        except (KeyError, AttributeError):
            raise WireError("no error") from None
