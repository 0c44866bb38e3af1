"""Recurrence: a state (h, z), a GRU's gates, the loop of an RSSM, and a quick way back through it.

The quick way, `DeferredGradients`. Autograd goes back through a loop of T steps one operation at a time, and at every
step forms the gradient of each weight, a matrix as large as the weight, and adds it to the sum so far. Not needed:
- The gradient of W in y_t = x_t Wᵀ is the sum over t of (dL/dy_t)ᵀ x_t. Keep x_t and dL/dy_t of all steps, put them
  under each other, and the sum is one matrix product, after the loop instead of inside it.
- Between its matrices a step acts on each coordinate alone (silu, the gates), so that the slopes of all T steps are
  known before the loop back begins. Left for it is what is linear: a product with each matrix, one with each slope.
The loop forward is the same both ways, and so are the gradients, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class State(NamedTuple):
    """What an RSSM knows at one moment, or at many."""

    deter: Tensor  # h, (..., D)
    stoch: Tensor  # z, (..., S)

    def features(self) -> Tensor:
        """h and z end to end, (..., D + S): what decoder, reward head and policy look at."""
        return torch.cat(self, -1)


class Beliefs(NamedTuple):
    """What an RSSM makes of a sequence."""

    state: State  # (B, T, D) and (B, T, S), z from the posterior
    posterior: Tensor  # parameters of q(z_t | h_t, x_t), (B, T, P)
    prior: Tensor  # parameters of p(z_t | h_t), (B, T, P)


def reset_where_first(x: Tensor, first: Tensor) -> Tensor:
    """Zero where an episode starts: (B, ...) and (B,) bool to (B, ...). Not in place."""
    return x.masked_fill(first.view(-1, *[1] * (x.dim() - 1)), 0)


def gru_gates(from_input: Tensor, from_deter: Tensor, deter: Tensor) -> Tensor:
    """A GRU's next state, given what its two matrices made of input and state: (B, 3 D) twice, (B, D) to (B, D).

    Cho et al., arXiv:1406.1078, with the reset gate behind the matrix, as torch.nn.GRUCell has it.
    """
    size = deter.shape[-1]
    gates, candidate = from_input.split([2 * size, size], -1)
    own_gates, own_candidate = from_deter.split([2 * size, size], -1)
    reset, keep = (gates + own_gates).sigmoid().chunk(2, -1)
    return torch.lerp(torch.addcmul(candidate, reset, own_candidate).tanh(), deter, keep)


class Weights(NamedTuple):
    """The matrices, (outputs, inputs), and biases, (outputs,), inside an RSSM's loop; H is the width of its layers."""

    stoch: Tensor  # (H, S)
    inputs: Tensor  # (3 D, H)
    inputs_bias: Tensor
    deter: Tensor  # (3 D, D)
    deter_bias: Tensor
    posterior: Tensor  # (H, D)
    head: Tensor  # (P, H)
    head_bias: Tensor


class Trace(NamedTuple):
    """All that the loop computed, T steps each."""

    deter_before: Tensor  # h_{t-1} after the reset, (T, B, D)
    stoch_before: Tensor  # z_{t-1} after the reset, (T, B, S)
    x: Tensor  # before the silu in front of the GRU, (T, B, H)
    from_input: Tensor  # (T, B, 3 D)
    from_deter: Tensor  # (T, B, 3 D)
    deter: Tensor  # h_t, (T, B, D)
    y: Tensor  # before the silu in the posterior, (T, B, H)
    parameters: Tensor  # of the posterior, (T, B, P)
    stoch: Tensor  # z_t, (T, B, S)


Draw = Callable[[Tensor, Tensor], Tensor]


def unroll(
    draw: Draw, led: Tensor, seen: Tensor, noise: Tensor, first: Tensor, weights: Weights, deferred: bool = True
) -> tuple[State, Tensor]:
    """All that an RSSM must do in a loop over a sequence: its states, and the posterior's parameters.

    Args:
        draw: from parameters (..., P) and noise (..., S) to z, (..., S).
        led: what its matrix made of the actions that led to each step, bias included, (B, T, H).
        seen: what its matrix made of the embeddings, bias included, (B, T, H).
        noise: (B, T, S).
        first: (B, T) bool: state before it counts as zero.
        deferred: whether to go back by DeferredGradients, or by autograd.
    """
    led, seen, noise, first = (x.transpose(0, 1).contiguous() for x in (led, seen, noise, first))  # (T, B, ...)
    if deferred:
        deter, stoch, parameters = DeferredGradients.apply(draw, led, seen, noise, first, *weights)
    else:
        trace = run(draw, led, seen, noise, first, weights)
        deter, stoch, parameters = trace.deter, trace.stoch, trace.parameters
    return State(deter.transpose(0, 1), stoch.transpose(0, 1)), parameters.transpose(0, 1)  # (B, T, ...)


def run(draw: Draw, led: Tensor, seen: Tensor, noise: Tensor, first: Tensor, w: Weights) -> Trace:
    """The loop forward, with as little as possible inside it. As unroll, but (T, B, ...)."""
    deter, stoch = noise.new_zeros(len(noise[0]), w.deter.shape[1]), torch.zeros_like(noise[0])
    steps, starts = [], first.any(1).tolist()
    for t, (a, e, n) in enumerate(zip(led.unbind(), seen.unbind(), noise.unbind(), strict=True)):
        if starts[t]:
            deter, stoch = reset_where_first(deter, first[t]), reset_where_first(stoch, first[t])
        x = torch.addmm(a, stoch, w.stoch.T)  # (B, H)
        from_input = torch.addmm(w.inputs_bias, F.silu(x), w.inputs.T)  # (B, 3 D)
        from_deter = torch.addmm(w.deter_bias, deter, w.deter.T)  # (B, 3 D)
        after = gru_gates(from_input, from_deter, deter)  # (B, D)
        y = torch.addmm(e, after, w.posterior.T)  # (B, H)
        parameters = torch.addmm(w.head_bias, F.silu(y), w.head.T)  # (B, P)
        z = draw(parameters, n)  # (B, S)
        steps.append((deter, stoch, x, from_input, from_deter, after, y, parameters, z))
        deter, stoch = after, z
    return Trace(*(torch.stack(column) for column in zip(*steps, strict=True)))


def slopes(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The derivative of a function that acts on each coordinate alone, with respect to each input, same shapes."""
    with torch.enable_grad():
        inputs = tuple(x.detach().requires_grad_() for x in inputs)
        return torch.autograd.grad(function(*inputs).sum(), inputs)


def pull_back(draw: Draw, parameters: Tensor, noise: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a draw's parameters, (B, P), given that of the draw, (B, S)."""
    with torch.enable_grad():
        parameters = parameters.detach().requires_grad_()
        z = draw(parameters, noise)
    return torch.autograd.grad(z, parameters, gradient)[0] if z.requires_grad else torch.zeros_like(parameters)


class DeferredGradients(torch.autograd.Function):
    """`run` with the quick way back: h, (T, B, D), z, (T, B, S), and the posterior's parameters, (T, B, P)."""

    @staticmethod
    def forward(ctx: Any, draw: Draw, led: Tensor, seen: Tensor, noise: Tensor, first: Tensor, *weights: Tensor):
        """Run the loop without a graph, and keep what it computed."""
        trace = run(draw, led, seen, noise, first, Weights(*weights))
        ctx.draw = draw
        ctx.save_for_backward(noise, first, *weights, *trace)
        return trace.deter, trace.stoch, trace.parameters

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_deter: Tensor, by_stoch: Tensor, by_parameters: Tensor):
        """Slopes of all steps at once, then the linear loop back, then one product for each weight."""
        noise, first, *saved = ctx.saved_tensors
        w, trace = Weights(*saved[:8]), Trace(*saved[8:])
        (x,), (y,) = slopes(F.silu, trace.x), slopes(F.silu, trace.y)
        inputs, deters, carried = slopes(gru_gates, trace.from_input, trace.from_deter, trace.deter_before)
        heads = torch.empty_like(trace.parameters)
        # From here on x, y, inputs and deters turn from slopes into gradients, step by step and in place.
        deter, stoch, starts = torch.zeros_like(carried[0]), torch.zeros_like(noise[0]), first.any(1).tolist()
        for t in reversed(range(len(x))):
            by_draw = pull_back(ctx.draw, trace.parameters[t], noise[t], by_stoch[t] + stoch)
            torch.add(by_draw, by_parameters[t], out=heads[t])  # (B, P)
            y[t] *= heads[t] @ w.head  # (B, H)
            deter = torch.addmm(by_deter[t] + deter, y[t], w.posterior)  # (B, D): the whole gradient of h_t
            inputs[t].unflatten(-1, (3, -1)).mul_(deter[:, None])  # (B, 3 D)
            deters[t].unflatten(-1, (3, -1)).mul_(deter[:, None])  # (B, 3 D)
            x[t] *= inputs[t] @ w.inputs  # (B, H)
            stoch = x[t] @ w.stoch  # (B, S): for z_{t-1}
            deter = torch.addmm(carried[t] * deter, deters[t], w.deter)  # (B, D): for h_{t-1}
            if starts[t]:
                deter, stoch = reset_where_first(deter, first[t]), reset_where_first(stoch, first[t])

        def product(gradient: Tensor, into: Tensor) -> Tensor:
            return gradient.flatten(0, 1).T @ into.flatten(0, 1)  # (outputs, T B) (T B, inputs)

        by_weights = Weights(
            stoch=product(x, trace.stoch_before),
            inputs=product(inputs, F.silu(trace.x)),
            inputs_bias=inputs.sum((0, 1)),
            deter=product(deters, trace.deter_before),
            deter_bias=deters.sum((0, 1)),
            posterior=product(y, trace.deter),
            head=product(heads, F.silu(trace.y)),
            head_bias=heads.sum((0, 1)),
        )
        return None, x, y, None, None, *by_weights  # of draw, led, seen, noise, first and the weights
