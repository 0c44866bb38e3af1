"""The ELBO: a lower bound on log p(x), in nats, that an encoder and a decoder climb together (lesson 04).

log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z)), Kingma & Welling, arXiv:1312.6114, equation 3. Every quantity is
in nats, summed over event dimensions (pixels, latent dimensions); only the loss averages, over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from wmcourse.reparameterization import reparameterize

FRAME_AXES = (-3, -2, -1)  # channels, height, width
SMALLEST_STD = 1e-3  # an encoder's std stays above this, so that its logarithm stays finite


def gaussian_kl_terms(mean_q: Tensor, std_q: Tensor, mean_p: Tensor, std_p: Tensor) -> Tensor:
    """KL(q || p) of each pair of one-dimensional Gaussians, in nats: (...) four times to (...)."""
    ratio = (std_q / std_p).square()
    shift = ((mean_q - mean_p) / std_p).square()
    return 0.5 * (ratio + shift - 1) - (std_q / std_p).log()


def gaussian_kl(mean_q: Tensor, std_q: Tensor, mean_p: Tensor, std_p: Tensor) -> Tensor:
    """KL(q || p) of diagonal Gaussians q = N(mean_q, std_q²) and p = N(mean_p, std_p²), in nats.

    Kingma & Welling, arXiv:1312.6114, appendix B, for any p.

    Args:
        mean_q, mean_p: (..., Z).
        std_q, std_p: standard deviations, above 0, (..., Z).

    Returns:
        (...), summed over the Z latent dimensions.
    """
    return gaussian_kl_terms(mean_q, std_q, mean_p, std_p).sum(-1)


def kl_to_standard_normal(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std²) || N(0, 1)) of each latent dimension, in nats: (..., Z) twice to (..., Z).

    Not summed: per dimension it shows which latents carry anything (`gaussian_kl` sums, `free_nats` takes it so).
    """
    return 0.5 * (mean.square() + std.square() - 1) - std.log()


def gaussian_log_likelihood(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """log N(x; mean, std²) of frames whose pixels all have one fixed spread, in nats.

    Args:
        x: frames, (..., C, H, W).
        mean: the decoder's frames, (..., C, H, W).
        std: standard deviation of every pixel, above 0.

    Returns:
        (...), summed over channels and pixels, the normalizer included.
    """
    error = (x - mean).square() / (2 * std**2)
    return -(error + math.log(std) + 0.5 * math.log(2 * math.pi)).sum(FRAME_AXES)


def bernoulli_log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x | logits) of frames whose pixels are independently on with probability sigmoid(logits), in nats.

    x log p + (1 - x) log(1 - p) = x logits - softplus(logits), which no logit overflows. A gray pixel counts as a share
    of on; as a density over grays it would need another normalizer, the continuous Bernoulli's, arXiv:1907.06845.

    Args:
        x: frames in [0, 1], (..., C, H, W).
        logits: the decoder's frames, any real numbers, (..., C, H, W).

    Returns:
        (...), summed over channels and pixels.
    """
    return (x * logits - F.softplus(logits)).sum(FRAME_AXES)


def negative_elbo(log_likelihood: Tensor, kl: Tensor, beta: float) -> Tensor:
    """The loss of a VAE: minus E_q[log p(x | z)] plus beta times the KL, averaged over the batch.

    With beta = 1 it is minus the ELBO; beta from Higgins et al. 2017, beta-VAE, equation 4.

    Args:
        log_likelihood: log p(x | z) at a draw z of q, (B,) nats.
        kl: KL(q || p), (B,) nats.
        beta: the price of a nat of KL.

    Returns:
        Scalar.
    """
    return (beta * kl - log_likelihood).mean()


def free_nats(kl: Tensor, free: float) -> Tensor:
    """The KL with a floor under each latent dimension: below `free` nats it counts as `free`, and has no gradient.

    Kingma et al., arXiv:1606.04934, equation 15: the average over the batch is taken first, then the floor, then the
    sum over dimensions. Dreamer (arXiv:1912.01603) puts one floor under the sum: free_nats(kl.sum(-1, True), 3.0).

    Args:
        kl: per dimension, (..., Z) nats.
        free: the floor, nats per dimension, 0 or more.

    Returns:
        Scalar.
    """
    return kl.reshape(-1, kl.shape[-1]).mean(0).clamp(min=free).sum()


def warm_up(step: int, steps: int, beta: float = 1.0) -> float:
    """Beta on its way from 0 at step 0 up a straight line to `beta` at step `steps`, where it stays.

    Bowman et al., arXiv:1511.06349, section 3.1; Sønderby et al., arXiv:1602.02282.
    """
    return beta * min(1.0, step / steps)


class VAE(nn.Module):
    """A variational autoencoder with a diagonal Gaussian posterior and the prior N(0, I).

    Args:
        encoder: frames (..., C, H, W) to (..., 2 Z), which become Z means and Z standard deviations.
        decoder: latents (..., Z) to (..., C, H, W), the mean or the logits of the likelihood.
        log_likelihood: of frames given the decoder's output, (..., C, H, W) twice to (...).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        log_likelihood: Callable[[Tensor, Tensor], Tensor] = bernoulli_log_likelihood,
    ):
        super().__init__()
        self.encoder, self.decoder, self.log_likelihood = encoder, decoder, log_likelihood

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std of q(z | x): (..., C, H, W) to (..., Z) twice."""
        mean, raw = self.encoder(x).chunk(2, -1)
        return mean, F.softplus(raw) + SMALLEST_STD

    def decode(self, z: Tensor) -> Tensor:
        """What the likelihood takes: (..., Z) to (..., C, H, W)."""
        return self.decoder(z)

    def terms(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x | z) at one draw of z, (...), and the KL per latent dimension, (..., Z), in nats.

        Args:
            x: frames, (..., C, H, W).
            noise: standard normal numbers, (..., Z).
        """
        mean, std = self.encode(x)
        z = reparameterize(mean, std, noise)
        return self.log_likelihood(x, self.decode(z)), kl_to_standard_normal(mean, std)

    def loss(self, x: Tensor, noise: Tensor, *, beta: float = 1.0, free: float = 0.0) -> Tensor:
        """Minus the ELBO, averaged over the batch, with beta and free as in negative_elbo and free_nats. Scalar."""
        log_likelihood, kl = self.terms(x, noise)
        return beta * free_nats(kl, free) - log_likelihood.mean()


def linear_gaussian_posterior(x: Tensor, weight: Tensor, bias: Tensor, noise_std: float) -> tuple[Tensor, Tensor]:
    """The exact p(z | x) of p(z) = N(0, I), p(x | z) = N(weight z + bias, noise_std² I).

    Bishop, Pattern Recognition and Machine Learning, equations 2.116 and 12.42.

    Args:
        x: (B, D).
        weight: (D, Z).
        bias: (D,).
        noise_std: standard deviation, above 0.

    Returns:
        The mean, (B, Z), and the covariance, (Z, Z), which is the same for every x.
    """
    eye = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
    covariance = torch.linalg.inv(eye + weight.T @ weight / noise_std**2)
    return (x - bias) @ weight @ covariance / noise_std**2, covariance


def log_evidence(x: Tensor, weight: Tensor, bias: Tensor, noise_std: float) -> Tensor:
    """log p(x) of the same model, exactly, in nats: x ~ N(bias, weight weightᵀ + noise_std² I). (B, D) to (B,)."""
    eye = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    return MultivariateNormal(bias, weight @ weight.T + noise_std**2 * eye).log_prob(x)


def linear_gaussian_elbo(
    x: Tensor, weight: Tensor, bias: Tensor, noise_std: float, mean: Tensor, std: Tensor
) -> Tensor:
    """The ELBO of the same model at q = N(mean, std²), without sampling, in nats.

    Drawing z from q instead of standing at its mean costs the sum over latents of std² |column of weight|², over
    2 noise_std², on top of the likelihood at the mean.

    Args:
        x: (B, D).
        weight, bias, noise_std: as in linear_gaussian_posterior.
        mean, std: of q for each x, (B, Z).

    Returns:
        (B,).
    """
    frame = mean @ weight.T + bias
    at_mean = gaussian_log_likelihood(x[:, :, None, None], frame[:, :, None, None], noise_std)
    spread = std.square() @ weight.square().sum(0) / (2 * noise_std**2)
    return at_mean - spread - kl_to_standard_normal(mean, std).sum(-1)


def probabilistic_pca(x: Tensor, latents: int) -> tuple[Tensor, Tensor, float]:
    """The linear-Gaussian model under which the data is most likely: weight (D, Z), bias (D,), noise_std.

    Tipping & Bishop 1999, Probabilistic principal component analysis, equations 7 and 8. The columns of weight are
    orthogonal, so the exact posterior is diagonal.

    Args:
        x: (N, D), with N > latents.
        latents: Z, less than D.
    """
    bias = x.mean(0)
    _, scale, directions = torch.linalg.svd(x - bias, full_matrices=False)
    variance = scale.square() / len(x)
    noise = variance[latents:].sum() / (x.shape[1] - latents)
    weight = directions[:latents].T * (variance[:latents] - noise).sqrt()
    return weight, bias, noise.sqrt().item()
