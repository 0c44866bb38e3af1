"""Lesson 03's mathematics by truth: closed-form gradients, unbiasedness, the law of a categorical draw."""

from __future__ import annotations

import torch

from wmcourse import reparameterization as rp

N = 400_000
MEAN, STD = torch.tensor(0.6), torch.tensor(0.7)
NOISE = torch.randn(N, generator=torch.Generator().manual_seed(0))


def within(estimate: torch.Tensor, wanted: float) -> bool:
    return bool(abs(estimate.mean() - wanted) < 3 * estimate.std() / len(estimate) ** 0.5)


def test_draws_have_the_mean_and_spread_asked_for() -> None:
    z = rp.reparameterize(MEAN, STD, NOISE)
    assert within(z, 0.6)
    assert within((z - MEAN).square(), 0.49)


def test_both_estimators_give_the_gradient_of_a_known_expectation() -> None:
    z = rp.reparameterize(MEAN, STD, NOISE)
    # E[z³] = mean³ + 3 mean std², so its gradient is 3 mean² + 3 std² and 6 mean std.
    wanted = (3 * 0.36 + 3 * 0.49, 6 * 0.6 * 0.7)
    centered = rp.leave_one_out(z**3)
    for parts in (
        rp.pathwise_gradient(3 * z**2, NOISE),
        rp.score_function_gradient(z**3, MEAN, STD, z),
        rp.score_function_gradient(centered, MEAN, STD, z),
    ):
        assert all(within(part, gradient) for part, gradient in zip(parts, wanted, strict=True))


def test_the_score_has_mean_zero_and_the_fisher_information_as_variance() -> None:
    z = rp.reparameterize(MEAN, STD, NOISE)
    by_mean, by_std = rp.score_function_gradient(torch.ones(N), MEAN, STD, z)
    assert within(by_mean, 0.0)
    assert within(by_std, 0.0)
    assert within(by_mean.square(), 1 / 0.49)
    assert within(by_std.square(), 2 / 0.49)


def test_leave_one_out_sums_to_zero_and_a_samples_own_baseline_ignores_it() -> None:
    value = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    result = rp.leave_one_out(value)
    assert torch.allclose(result, torch.tensor([-3.0, -1.5, 4.5]))
    (slope,) = torch.autograd.grad((result - value)[0], value)
    assert slope[0] == 0


def test_straight_through_draws_the_softmax_and_passes_its_gradient() -> None:
    logits = torch.tensor([[1.0, -0.5, 0.2, 2.0]])
    uniform = torch.rand(N, 4, generator=torch.Generator().manual_seed(1)).clamp(1e-6, 1 - 1e-6)
    y = rp.straight_through(logits.expand(N, 4), uniform)
    assert torch.all((y == 0) | (y == 1))
    assert all(within(y[:, k], logits.softmax(-1)[0, k].item()) for k in range(4))
    weight = torch.tensor([0.3, -1.0, 2.0, 0.7])
    jacobian = torch.autograd.functional.jacobian(lambda x: rp.straight_through(x, uniform[:1]) @ weight, logits)
    probs = logits.softmax(-1)[0]
    assert torch.allclose(jacobian.flatten(), probs * (weight - (probs * weight).sum()), atol=1e-6)
