"""Gradients over the wall: a call to the other side as one node of our graph, and what each side keeps for it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wmcourse.grading.wire import WireError

if TYPE_CHECKING:
    from wmcourse.grading.wall import Peer


@dataclass(frozen=True)
class Kept:
    """The graph of a call that was answered here: what came, what went, and the leaves of ours between them."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    leaves: list[Tensor]

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return sum(x.nbytes for x in (*self.inputs, *self.outputs))


class Graph:
    """The other side's graph of one call; when nothing here refers to it any more, the other side may drop it."""

    def __init__(self, peer: Peer, number: Any, leaves: list[Tensor]):
        if not isinstance(number, int):
            raise WireError("no number of a graph")
        self.peer, self.number, self.leaves = peer, number, leaves
        weakref.finalize(self, peer.forget, number)


class Crossing(torch.autograd.Function):
    """A call to the other side as one node of our graph."""

    @staticmethod
    def forward(ctx: Any, graph: Graph, outputs: list[Tensor], anchor: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Hand on what the call gave. The last inputs are the leaves of ours that it used."""
        ctx.graph = graph
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[: len(inputs) - len(graph.leaves)])
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Any, ...]:
        """Ask the other side to pull the gradient back to the call's inputs."""
        inputs = list(ctx.saved_tensors)
        pulled, collected = ctx.graph.peer.pull(ctx.graph, list(slopes), inputs)
        if not isinstance(pulled, list) or len(pulled) != len(inputs):
            raise WireError("not one gradient for each input")
        for slope, x in zip(pulled, inputs, strict=True):
            if slope is not None and (not isinstance(slope, Tensor) or slope.shape != x.shape):
                raise WireError("a gradient that is not of its input's shape")
        return None, None, None, *pulled, *collected


def leaves_of(outputs: list[Tensor]) -> list[Tensor]:
    """The tensors without a history of their own that a gradient of the outputs reaches."""
    found: dict[int, Tensor] = {}
    nodes, seen = [x.grad_fn for x in outputs], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found[id(leaf)] = leaf
        nodes += [following for following, _ in node.next_functions]
    return list(found.values())
