"""Hand-ins that write on the line to the grader themselves, as who has read wall.py and wire.py would."""

from __future__ import annotations

from tests.handins.recipes import everywhere, instead

FRAMES = """
    import json, os, socket, struct, threading, time

    def frame(number, done):
        text = json.dumps({"number": number, "done": done, "tensors": [], "graph": None, "edited": False, "blobs": []})
        return struct.pack("<I", len(text)) + text.encode()

    def lines():
        for entry in os.listdir("/proc/self/fd"):
            try:
                yield int(entry), os.readlink(f"/proc/self/fd/{entry}")
            except OSError:
                pass
"""


CASES = [
    everywhere(
        "forges replies when loaded",
        FRAMES
        + """
    for fd, _ in lines():
        for number in range(1, 50):
            try:
                os.write(fd, frame(number, True))
            except OSError:
                break
    """,
    ),
    instead(
        "floods the line",
        "for fd, where in lines():\n    if 'socket' in where:\n        for _ in range(64):\n"
        "            os.write(fd, bytes(1 << 20))\nreturn args[0]",
        FRAMES,
    ),
    instead(
        "closes and swaps its lines",
        """
        if NAME == "reparameterize":
            os.closerange(0, 1 << 12)
        elif NAME == "leave_one_out":
            for fd, where in lines():
                if "socket" in where:
                    one, other = os.pipe()
                    os.dup2(other, fd)
        else:
            for fd, where in lines():
                if "socket" in where:
                    socket.socket(fileno=fd).shutdown(socket.SHUT_WR)
        return args[0]
        """,
        FRAMES,
    ),
    instead(
        "a thread that forges on",
        "return args[0]",
        FRAMES
        + """
    def forge():
        for number in range(1, 100_000):
            for fd, where in lines():
                if "socket" in where:
                    try:
                        os.write(fd, frame(number % 64, None))
                    except OSError:
                        return
    threading.Thread(target=forge, daemon=True).start()
    """,
    ),
    instead(
        "a header of four gigabytes",
        """
        for fd, where in lines():
            if "socket" in where:
                os.write(fd, HEADERS[NAME])
        time.sleep(0.2)
        return args[0]
        """,
        FRAMES
        + """
    def raw(text):
        return struct.pack("<I", len(text)) + text

    HEADERS = {
        "reparameterize": struct.pack("<I", 0xFFFFFFFF) + b"{}",
        "pathwise_gradient": raw(b"[" * 200_000),
        "score_function_gradient": raw(
            b'{"number": 2, "blobs": [true, 1e400, -1], "done": {"named": ["x", ["__class__"], [1]]}}'
        ),
        "leave_one_out": raw(
            b'{"ask": "call", "number": 1, "of": 0, "name": "__class__", "args": 7, "kwargs": 7, "blobs": []}'
        ),
        "straight_through": raw(
            b'{"ask": "pull", "number": 1, "graph": 1, "slopes": [], "again": true, "blobs": [], "forget": 3}'
        ),
    }
    """,
    ),
    instead(
        "patches the wall on its side",
        "return args[0]",
        """
        import sys
        import torch
        from wmcourse.grading import inside, wall, wire
        honest = wire.Line.send
        def send(self, header, blobs):
            if "done" in header and isinstance(header["done"], dict):
                header |= {"passed": True, "points": 3, "kind": "passed", "edited": False, "graph": 10**30}
            honest(self, header, blobs)
        wire.Line.send = send
        wall.to_bytes = wire.to_bytes
        wall.Peer._pulled = lambda self, header, slopes, unpacker, packer: {"done": None, "graph": None}
        inside.Answers.printed = lambda self: "passed" * 1_000_000
        """,
        needs="any",
    ),
]
