"""Values as bytes: all that can cross the wall between the grader and a submission, and nothing that can run.

A frame is a header and blobs: four bytes (the header's length, little endian), the header (JSON), then the blobs, whose
lengths the header lists under "blobs". JSON carries None, booleans, numbers, strings and lists as they are; everything
else is an object with one key:

    {"tensor": i}           row i of the header's "tensors": {dtype, shape, blob, grad}
    {"array": [dtype, shape, blob]} · {"scalar": the same}     numpy
    {"tuple": [...]} · {"named": [name, fields, items]} · {"dict": [[key, value], ...]} · {"bytes": blob}
    {"dtype": name} · {"device": name} · {"generator": blob}   torch
    {"mine": {...}}         an object that stays with the sender; calls to it travel back
    {"yours": number}       the receiver's own object, come home

There is no pickle and no class to look up. Whoever reads checks every length, shape and type, takes each blob once, and
raises WireError.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections import namedtuple
from collections.abc import Callable
from types import GeneratorType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmcourse.grading.mistake import Crashed, TimeUp

MAX_HEADER, MAX_BLOBS = 4 << 20, 256 << 20  # bytes
MAX_VALUES, MAX_KEYS, MAX_NAMED, MAX_AXES = 500_000, 5_000, 500, 64  # in a frame: each costs more time than bytes
_KINDS = ("float", "bfloat16", "int", "uint8", "bool", "complex")
DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if isinstance(d, torch.dtype)}
DTYPES = {name: d for name, d in DTYPES.items() if name.startswith(_KINDS)}
_ITERATORS = (GeneratorType, map, zip, filter, type({}.keys()), type({}.values()), type({}.items()))


class WireError(RuntimeError):
    """What came is no frame of this protocol, or what should go does not fit into one."""


class Line:
    """Frames over a socket, with a deadline (in time.monotonic's seconds) that holds for both directions."""

    def __init__(self, link: socket.socket):
        self.link, self.deadline = link, math.inf

    def send(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        """Send a frame. Raises WireError (too large), TimeUp (the deadline passed), Crashed (nobody is there)."""
        text = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
        if len(text) > MAX_HEADER or sum(map(len, blobs)) > MAX_BLOBS:
            raise WireError(f"too large to hand over: {len(text) + sum(map(len, blobs)):,} bytes")
        self._within(self.link.sendall, b"".join([struct.pack("<I", len(text)), text, *blobs]))

    def receive(self) -> tuple[dict[str, Any], Blobs]:
        """The next frame. Raises WireError (no frame), TimeUp, Crashed."""
        (length,) = struct.unpack("<I", self._exactly(4))
        if length > MAX_HEADER:
            raise WireError(f"a header of {length:,} bytes")
        try:
            header = json.loads(self._exactly(length))
            lengths = [size for size in header["blobs"] if isinstance(size, int) and size >= 0]
            if len(lengths) != len(header["blobs"]) or sum(lengths) > MAX_BLOBS:
                raise WireError("blobs of impossible length")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise WireError(f"no header: {type(error).__name__}") from None
        return header, Blobs([self._exactly(size) for size in lengths])

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        missing = memoryview(data)
        while missing:
            got = self._within(self.link.recv_into, missing)
            if not got:
                raise Crashed("the process of this answer ended")
            missing = missing[got:]
        return data

    def _within(self, act: Callable[[Any], Any], data: Any) -> Any:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeUp
        try:
            self.link.settimeout(None if left == math.inf else left)
            return act(data)
        except TimeoutError:
            raise TimeUp from None
        except OSError:
            raise Crashed("the process of this answer ended") from None


class Packer:
    """Turns values into a header's JSON, collecting tensors and blobs on the way.

    Args:
        export: names an object that stays here; gives the JSON that stands for it.
    """

    def __init__(self, export: Callable[[Any], dict[str, Any]]):
        self.export = export
        self.rows: list[dict[str, Any]] = []
        self.tensors: list[Tensor] = []  # one for each row: a tensor that is there twice crosses once
        self.blobs: list[bytes] = []

    def pack(self, x: Any) -> Any:
        """The JSON for a value."""
        if isinstance(x, np.generic | np.ndarray):
            return self._array(x)
        if x is None or isinstance(x, bool | int | float | str):
            return x
        if isinstance(x, Tensor):
            return {"tensor": self._tensor(x)}
        if isinstance(x, tuple) and (fields := getattr(x, "_fields", None)):
            return {"named": [type(x).__name__, list(fields), [self.pack(item) for item in x]]}
        if isinstance(x, tuple):
            return {"tuple": [self.pack(item) for item in x]}
        if isinstance(x, dict):
            return {"dict": [[self.pack(key), self.pack(item)] for key, item in x.items()]}
        if isinstance(x, (list, *_ITERATORS)):
            return [self.pack(item) for item in x]
        if isinstance(x, bytes | bytearray):
            return {"bytes": self._blob(bytes(x))}
        if isinstance(x, torch.dtype):
            return {"dtype": str(x).removeprefix("torch.")}
        if isinstance(x, torch.device):
            return {"device": str(x)}
        if isinstance(x, torch.Generator):
            return {"generator": self._blob(to_bytes(x.get_state()))}
        return self.export(x)

    def _blob(self, data: bytes) -> int:
        self.blobs.append(data)
        return len(self.blobs) - 1

    def _array(self, x: np.generic | np.ndarray) -> dict[str, Any]:
        if x.dtype.kind not in "biufc":
            raise WireError(f"a numpy array of {x.dtype} cannot be handed over")
        facts = [x.dtype.str, list(x.shape), self._blob(np.ascontiguousarray(x).tobytes())]
        return {"array" if isinstance(x, np.ndarray) else "scalar": facts}

    def _tensor(self, x: Tensor) -> int:
        for i, known in enumerate(self.tensors):
            if known is x:
                return i
        name = str(x.dtype).removeprefix("torch.")
        if x.layout is not torch.strided or name not in DTYPES:
            raise WireError(f"a {x.layout} tensor of {x.dtype} cannot be handed over")
        if x.numel() * x.element_size() > MAX_BLOBS:
            raise WireError(f"a tensor of shape {tuple(x.shape)} is too large to hand over")
        row = {"dtype": name, "shape": list(x.shape), "blob": self._blob(to_bytes(x)), "grad": x.requires_grad}
        self.tensors.append(x)
        self.rows.append(row)
        if x.is_leaf and x.grad is not None:  # a parameter brings what a backward pass left in it
            row["slope"] = self._blob(to_bytes(x.grad))
        return len(self.tensors) - 1


def to_bytes(x: Tensor) -> bytes:
    """A tensor's numbers, row by row."""
    flat = x.detach().cpu().resolve_conj().resolve_neg().reshape(-1)
    # A copy: a tensor of one number may have a stride of 0, which no view as bytes takes.
    return flat.clone(memory_format=torch.contiguous_format).view(torch.uint8).numpy().tobytes()


class Blobs:
    """A frame's blobs, each of which can be taken once: so a frame unpacks to no more than it weighs."""

    def __init__(self, blobs: list[bytearray]):
        self._blobs: list[bytearray | None] = [*blobs]

    def take(self, number: int) -> bytearray:
        """The blob of this number."""
        blob, self._blobs[number] = self._blobs[number], None
        if blob is None:
            raise WireError("a blob that was taken before")
        return blob


def to_tensor(dtype: str, shape: list[int], data: bytearray) -> Tensor:
    """The tensor of these numbers, in memory of its own."""
    kind = DTYPES[dtype]
    if len(shape) > MAX_AXES or not all(isinstance(n, int) and 0 <= n <= MAX_BLOBS for n in shape):
        raise WireError("no shape of a tensor")  # before anything is computed with it
    if math.prod(shape) * kind.itemsize != len(data):
        raise WireError(f"{len(data)} bytes for a {dtype} tensor of shape {shape}"[:200])
    if not data:
        return torch.empty(shape, dtype=kind)
    if kind is torch.bool:  # a byte that is neither 0 nor 1 would be true and not equal to true
        return (torch.frombuffer(data, dtype=torch.uint8) != 0).reshape(shape)
    return torch.frombuffer(data, dtype=kind).clone().reshape(shape)


class Unpacker:
    """Turns a frame back into values.

    Args:
        blobs: what `Line.receive` gave.
        find: gives the object for {"mine": ...} and {"yours": ...}.
        tensors: the tensors of the header's rows; from `tensors_of`, or those that take their place.
    """

    def __init__(self, blobs: Blobs, find: Callable[[str, Any], Any], tensors: list[Tensor]):
        self.blobs, self.find, self.tensors = blobs, find, tensors
        self.left = {"values": MAX_VALUES, "dict": MAX_KEYS, "named": MAX_NAMED}

    def unpack(self, x: Any) -> Any:
        """The value of a piece of JSON; WireError where it is none."""
        try:
            return self._value(x)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, RecursionError) as error:
            raise WireError(f"no value: {type(error).__name__}") from None

    def _count(self, what: str, number: int = 1) -> None:
        self.left[what] -= number
        if self.left[what] < 0:
            raise WireError("too many values in one frame")

    def _value(self, x: Any) -> Any:
        self._count("values")
        if isinstance(x, list):
            return [self._value(item) for item in x]
        if not isinstance(x, dict):
            return x
        ((kind, facts),) = x.items()
        if kind == "tensor":
            return self.tensors[facts]
        if kind == "tuple":
            return tuple(self._value(item) for item in facts)
        if kind == "dict":
            self._count("dict", len(facts))
            return {self._value(key): self._value(item) for key, item in facts}
        if kind == "named":
            name, fields, items = facts
            self._count("named", len(fields))
            return namedtuple(name, fields)(*map(self._value, items))  # which checks that they are identifiers
        if kind in ("array", "scalar"):
            return self._array(kind, *facts)
        if kind == "bytes":
            return bytes(self.blobs.take(facts))
        if kind == "dtype":
            return DTYPES[facts]
        if kind == "device":
            return torch.device(facts)
        if kind == "generator":
            state = self.blobs.take(facts)
            return torch.Generator().set_state(to_tensor("uint8", [len(state)], state))
        return self.find(kind, facts)

    def _array(self, kind: str, dtype: str, shape: list[int], blob: int) -> Any:
        if np.dtype(dtype).kind not in "biufc":
            raise WireError("an array of objects")
        array = np.frombuffer(self.blobs.take(blob), np.dtype(dtype)).reshape(shape).copy()
        if array.dtype.kind == "b":
            array = array.view(np.uint8) != 0
        return array if kind == "array" else array[()]


def tensors_of(header: dict[str, Any], blobs: Blobs) -> list[Tensor]:
    """The tensors of a frame, as leaves that want a gradient where the sender's did."""
    try:
        found = []
        for row in header.get("tensors", []):
            x = to_tensor(row["dtype"], row["shape"], blobs.take(row["blob"])).requires_grad_(bool(row["grad"]))
            if "slope" in row:
                x.grad = to_tensor(row["dtype"], row["shape"], blobs.take(row["slope"]))
            found.append(x)
        return found
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise WireError(f"no tensor: {type(error).__name__} {error}"[:200]) from None
