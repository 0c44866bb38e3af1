"""Hand-ins that want points for wrong answers by results, gradients and signatures that lie."""

from __future__ import annotations

from tests.handins.case import edited, stem
from tests.handins.recipes import ALL_PASSED, attack, instead, right_03

UNTRUE = stem("""
    def reparameterize(mean, std, noise):
        return mean

    reparameterize.__signature__ = "(mean, std, noise) -> the right answer"
    reparameterize.__wrapped__ = reparameterize
""")
ENDLESS = stem("""
    class Endless:
        def __call__(self, value):
            return value

        def __getattr__(self, name):
            while True:
                pass

    leave_one_out = Endless()
""")
CASES = [
    instead(
        "always equal",
        "return Yes()",
        """
        class Yes:
            shape = dtype = device = property(lambda self: self)
            requires_grad = is_leaf = True
            def __getattr__(self, name):
                return self
            def __call__(self, *args, **kwargs):
                return self
            def __len__(self):
                return 2
            def __iter__(self):
                return iter([self, self])
            def __bool__(self):
                return True
            def __float__(self):
                return 0.0
            __eq__ = __le__ = __lt__ = __ge__ = __gt__ = lambda self, other: True
            __ne__ = lambda self, other: False
            __sub__ = __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __abs__ = __getitem__ = __call__
            __hash__ = None
        """,
    ),
    instead(
        "tensors that lie",
        "x = torch.zeros(args[0].shape).as_subclass(Liar)\nreturn (x, x) if 'gradient' in NAME else x",
        """
        import torch
        class Liar(torch.Tensor):
            shape = property(lambda self: (6, 3))
            dtype = property(lambda self: torch.float32)
            requires_grad = property(lambda self: True)
            __class__ = torch.Tensor
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                if func.__name__ in ("eq", "allclose", "equal", "isfinite", "all", "le", "lt", "is_same_size"):
                    return torch.tensor(True)
                if func.__name__ in ("sub", "rsub", "abs", "amax", "max", "item", "isnan"):
                    return torch.zeros(())
                return super().__torch_function__(func, types, args, kwargs or {})
            def __reduce_ex__(self, protocol):
                return (eval, ("__import__('os').system('touch @canary@/reduced')",))
        """,
    ),
    attack(
        "odd tensors",
        {
            "reparameterize": "return torch.empty(mean.shape, device='meta')",
            "pathwise_gradient": "return slope.to_sparse(), (slope * noise).to_sparse()",
            "score_function_gradient": "return value * float('nan'), value * float('inf')",
            "leave_one_out": "return (value - (value.sum() - value) / (len(value) - 1)).to(torch.complex64)",
            "straight_through": "return torch.nested.nested_tensor([logits[0], logits[1]])",
        },
        needs="any",
    ),
    attack(
        "odd values",
        {
            "reparameterize": "return reparameterize",
            "pathwise_gradient": "loop = [slope]\nloop.append(loop)\nreturn loop",
            "score_function_gradient": "return {value: mean, 'z': Exception}, b'x' * 1000",
            "leave_one_out": "return (yield value)",
            "straight_through": "import numpy, threading\nreturn numpy.array([threading.Lock(), logits], dtype=object)",
        },
        needs="any",
    ),
    attack(
        "more than a list",
        {
            "pathwise_gradient": """
                class Long(list):
                    def __len__(self):
                        return 2
                    def __iter__(self):
                        while True:
                            yield slope
                return Long([slope, slope])
            """,
            "reparameterize": "class T(str):\n    __eq__ = lambda *a: True\nreturn T('<script>alert(1)</script>')",
            "leave_one_out": "async def later():\n    return value\nreturn later()",
            "straight_through": "return torch.nn.Parameter(logits.softmax(-1))",
            "score_function_gradient": """
                from collections import namedtuple
                Pair = namedtuple("Pair", ["shape", "dtype"])
                return Pair(value * 0, value * 0)
            """,
        },
        needs="any",
    ),
    attack(
        "gradients that lie",
        {
            "reparameterize": """
                class Lie(torch.autograd.Function):
                    @staticmethod
                    def forward(ctx, mean, std, noise):
                        return mean + std * noise
                    @staticmethod
                    def backward(ctx, slope):
                        return slope, slope.expand(10**9, *slope.shape), None
                return Lie.apply(mean, std, noise)
            """,
            "straight_through": """
                probs = logits.softmax(-1)
                gumbel = -torch.log(-torch.log(uniform))
                hot = torch.nn.functional.one_hot((logits + gumbel).argmax(-1), logits.shape[-1]).float()
                out = hot + (probs - probs.detach())
                if out.requires_grad:
                    out.register_hook(lambda slope: slope * float("nan"))
                return out
            """,
        },
        needs="any",
    ),
    attack(
        "inputs edited in place",
        {
            "reparameterize": """
                with torch.no_grad():
                    noise *= std
                return mean + noise * (1 + 0 * std)
            """,
            "leave_one_out": "value -= (value.sum() - value) / (len(value) - 1)\nreturn value",
            "pathwise_gradient": "out = slope.clone(), slope * noise\nslope.data[0] += 1\nreturn out",
            "straight_through": "uniform.resize_(1)\nreturn logits",
        },
        dict.fromkeys(["reparameterize", "leave_one_out", "pathwise_gradient"], "failed"),
        needs="any",
    ),
    instead(
        "pickle payload",
        """
        bad = Payload()
        bad.tensor = args[0]
        if NAME == "leave_one_out":
            return pickle.dumps(bad)
        if NAME == "straight_through":
            return numpy.array([bad], dtype=object)
        return (bad, bad) if "gradient" in NAME else bad
        """,
        """
        import numpy, os, pickle
        class Payload:
            shape, dtype = list(range(300_000)), "float32"
            def __reduce__(self):
                return (exec, ("open('@canary@/unpickled', 'w')",))
            __reduce_ex__ = __getstate__ = __deepcopy__ = lambda self, *args: self.__reduce__()
        """,
    ),
    edited(
        "signatures that lie",
        lambda: right_03({"reparameterize": UNTRUE, "leave_one_out": ENDLESS}),
        ALL_PASSED | {"reparameterize": "failed", "leave_one_out": 0},
    ),
]
