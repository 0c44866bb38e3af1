"""The mathematics of lesson 04, by truth: closed forms, Monte Carlo, and a model whose evidence is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from wmcourse import elbo
from wmcourse.encoder_decoder import MLPDecoder, MLPEncoder


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussians(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    g = generator()
    mean_q, mean_p = torch.randn(2, *shape, generator=g, dtype=dtype)
    std_q, std_p = torch.rand(2, *shape, generator=g, dtype=dtype) + 0.3
    return mean_q, std_q, mean_p, std_p


def linear_model(latents: int = 3, size: int = 7) -> tuple[torch.Tensor, torch.Tensor, float]:
    g = generator(1)
    return (
        torch.randn(size, latents, generator=g, dtype=torch.float64),
        torch.randn(size, generator=g, dtype=torch.float64),
        0.6,
    )


def test_kl_is_the_expected_log_ratio() -> None:
    mean_q, std_q, mean_p, std_p = gaussians(4)
    z = mean_q + std_q * torch.randn(400_000, 4, generator=generator(), dtype=torch.float64)
    ratio = (Normal(mean_q, std_q).log_prob(z) - Normal(mean_p, std_p).log_prob(z)).sum(-1)
    error = ratio.std() / len(ratio) ** 0.5
    assert (ratio.mean() - elbo.gaussian_kl(mean_q, std_q, mean_p, std_p)).abs() < 4 * error


def test_kl_per_dimension_sums_to_the_kl_and_is_never_negative() -> None:
    mean_q, std_q, mean_p, std_p = gaussians(50, 4)
    wanted = kl_divergence(Normal(mean_q, std_q), Normal(mean_p, std_p))
    torch.testing.assert_close(elbo.gaussian_kl_terms(mean_q, std_q, mean_p, std_p), wanted)
    torch.testing.assert_close(elbo.gaussian_kl(mean_q, std_q, mean_p, std_p), wanted.sum(-1))
    prior = torch.zeros_like(mean_q), torch.ones_like(std_q)
    terms = elbo.kl_to_standard_normal(mean_q, std_q)
    torch.testing.assert_close(terms, elbo.gaussian_kl_terms(mean_q, std_q, *prior))
    assert (terms >= 0).all()


def test_gaussian_likelihood_is_a_density() -> None:
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)[:, None, None, None]
    density = elbo.gaussian_log_likelihood(grid, torch.full_like(grid, 0.3), 0.4).exp()
    assert density.sum() * 0.001 == pytest.approx(1, abs=1e-6)


def test_bernoulli_likelihoods_of_all_pictures_sum_to_one() -> None:
    pictures = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6))).view(-1, 1, 2, 3)
    logits = torch.randn(1, 2, 3, generator=generator()).expand_as(pictures)
    assert elbo.bernoulli_log_likelihood(pictures, logits).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_bernoulli_likelihood_survives_any_logit() -> None:
    logits = torch.tensor([1e4, -1e4]).view(1, 1, 1, 2)
    assert elbo.bernoulli_log_likelihood(torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), logits).item() == 0
    assert elbo.bernoulli_log_likelihood(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), logits).item() == -2e4


def test_likelihoods_keep_every_axis_before_the_frame() -> None:
    x, decoded = torch.rand(2, 4, 5, 1, 3, 6, generator=generator())
    for log_likelihood in (elbo.bernoulli_log_likelihood, lambda x, mean: elbo.gaussian_log_likelihood(x, mean, 0.2)):
        whole = log_likelihood(x, decoded)
        assert whole.shape == (4, 5)
        torch.testing.assert_close(whole[2, 3], log_likelihood(x[2, 3], decoded[2, 3]))


def test_posterior_is_bayes_rule() -> None:
    """log p(x | z) + log p(z) - log p(z | x) is log p(x), whatever z."""
    weight, bias, noise_std = linear_model()
    x = torch.randn(5, 7, generator=generator(2), dtype=torch.float64) * 2
    mean, covariance = elbo.linear_gaussian_posterior(x, weight, bias, noise_std)
    evidence = elbo.log_evidence(x, weight, bias, noise_std)
    for _ in range(4):
        z = torch.randn(5, 3, generator=generator(3), dtype=torch.float64)
        likelihood = Normal(z @ weight.T + bias, noise_std).log_prob(x).sum(-1)
        prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
        posterior = torch.distributions.MultivariateNormal(mean, covariance).log_prob(z)
        torch.testing.assert_close(likelihood + prior - posterior, evidence)


def test_elbo_touches_the_evidence_at_the_posterior_and_stays_below_elsewhere() -> None:
    weight = torch.linalg.qr(linear_model()[0]).Q * torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    _, bias, noise_std = linear_model()
    x = torch.randn(200, 7, generator=generator(4), dtype=torch.float64) * 2
    mean, covariance = elbo.linear_gaussian_posterior(x, weight, bias, noise_std)
    std = covariance.diagonal().sqrt().expand_as(mean)
    evidence = elbo.log_evidence(x, weight, bias, noise_std)
    at_posterior = elbo.linear_gaussian_elbo(x, weight, bias, noise_std, mean, std)
    assert (at_posterior - evidence).abs().max() < 1e-9
    g = generator(5)
    far = torch.randn(200, 3, generator=g, dtype=torch.float64)
    wide = std * torch.randn(200, 3, generator=g, dtype=torch.float64).exp()
    elsewhere = elbo.linear_gaussian_elbo(x, weight, bias, noise_std, far, wide)
    assert (elsewhere < evidence).all()
    torch.testing.assert_close(evidence - elsewhere, elbo.gaussian_kl(far, wide, mean, std))


def test_closed_elbo_is_the_average_over_draws() -> None:
    weight, bias, noise_std = linear_model()
    x, mean, std = torch.ones(1, 7).double(), torch.full((1, 3), 0.4).double(), torch.full((1, 3), 0.3).double()
    z = mean + std * torch.randn(200_000, 3, generator=generator(6), dtype=torch.float64)
    likelihood = Normal(z @ weight.T + bias, noise_std).log_prob(x).sum(-1)
    estimate = likelihood.mean() - elbo.kl_to_standard_normal(mean, std).sum()
    error = likelihood.std() / len(z) ** 0.5
    exact = elbo.linear_gaussian_elbo(x, weight, bias, noise_std, mean, std)[0]
    assert (estimate - exact).abs() < 4 * error


def test_probabilistic_pca_beats_its_neighbors_in_likelihood() -> None:
    g = generator(7)
    x = torch.randn(300, 3, generator=g, dtype=torch.float64) @ torch.randn(3, 8, generator=g, dtype=torch.float64)
    x = x + 0.3 * torch.randn(300, 8, generator=g, dtype=torch.float64) + 1
    weight, bias, noise_std = elbo.probabilistic_pca(x, 3)
    gram = weight.T @ weight
    assert (gram - gram.diagonal().diag()).abs().max() < 1e-9
    best = elbo.log_evidence(x, weight, bias, noise_std).sum()
    for _ in range(10):
        moved = weight + 0.05 * torch.randn(8, 3, generator=g, dtype=torch.float64)
        assert elbo.log_evidence(x, moved, bias, noise_std).sum() < best
    for factor in (0.95, 1.05):
        assert elbo.log_evidence(x, weight, bias, noise_std * factor).sum() < best


def test_free_nats_floors_the_average_of_each_dimension() -> None:
    kl = torch.tensor([[0.0, 5.0, 0.1], [4.0, 7.0, 0.3]], requires_grad=True)
    value = elbo.free_nats(kl, 1.0)
    assert value.item() == pytest.approx(2 + 6 + 1)
    value.backward()
    torch.testing.assert_close(kl.grad, torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]))
    assert elbo.free_nats(kl[:, None].expand(2, 4, 3), 0.0).item() == pytest.approx(kl.mean(0).sum().item())


def test_beta_warms_up_along_a_line() -> None:
    assert [elbo.warm_up(step, 10, 4.0) for step in (0, 5, 10, 50)] == [0, 2, 4, 4]


def test_the_loss_of_a_vae_is_its_negative_elbo() -> None:
    torch.manual_seed(0)
    vae = elbo.VAE(MLPEncoder(6, size=8), MLPDecoder(3, size=8))
    x, noise = torch.rand(5, 1, 8, 8), torch.randn(5, 3)
    log_likelihood, kl = vae.terms(x, noise)
    assert log_likelihood.shape == (5,)
    assert kl.shape == (5, 3)
    torch.testing.assert_close(vae.loss(x, noise, beta=2.0), elbo.negative_elbo(log_likelihood, kl.sum(-1), 2.0))
    vae.loss(x, noise).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vae.parameters())


def test_a_vae_takes_sequences_and_another_likelihood() -> None:
    vae = elbo.VAE(
        MLPEncoder(6, size=8),
        MLPDecoder(3, size=8),
        lambda x, mean: elbo.gaussian_log_likelihood(x, mean, 0.1),
    )
    log_likelihood, kl = vae.terms(torch.rand(2, 4, 1, 8, 8), torch.randn(2, 4, 3))
    assert log_likelihood.shape == (2, 4)
    assert kl.shape == (2, 4, 3)
    assert (vae.encode(torch.rand(2, 4, 1, 8, 8))[1] > 0).all()
