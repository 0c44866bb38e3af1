"""Answers to lesson 04's exercises."""

import math

import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

from tests.banks.bank import CONTRACT, Bank

FRAME = (-3, -2, -1)
LOG_2PI = math.log(2 * math.pi)

gaussian_kl = Bank("gaussian_kl")
TEXTBOOK, ANY, REACH, EQUAL = "to the standard normal", "any Gaussian", "reach both", "two equal distributions"


def kl_terms(mq, sq, mp, sp):
    return torch.log(sp / sq) + (sq**2 + (mq - mp) ** 2) / (2 * sp**2) - 0.5


@gaussian_kl.wrong("mean over dimensions", TEXTBOOK, "average over dimensions")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p).mean(-1)


@gaussian_kl.wrong("the other direction", TEXTBOOK, "this is KL(p || q)")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_p, std_p, mean_q, std_q).sum(-1)


@gaussian_kl.wrong("sign", TEXTBOOK, "sign is turned around")
def _(mean_q, std_q, mean_p, std_p):
    return -kl_terms(mean_q, std_q, mean_p, std_p).sum(-1)


@gaussian_kl.wrong("forgets -1/2", TEXTBOOK, "the -1/2 is missing")
def _(mean_q, std_q, mean_p, std_p):
    return (kl_terms(mean_q, std_q, mean_p, std_p) + 0.5).sum(-1)


@gaussian_kl.wrong("squares without 1/2", TEXTBOOK, "squares need their 1/2")
def _(mean_q, std_q, mean_p, std_p):
    return (torch.log(std_p / std_q) + (std_q**2 + (mean_q - mean_p) ** 2) / std_p**2 - 1).sum(-1)


@gaussian_kl.wrong("no 1/2 at all", TEXTBOOK, "twice too large")
def _(mean_q, std_q, mean_p, std_p):
    return 2 * kl_terms(mean_q, std_q, mean_p, std_p).sum(-1)


@gaussian_kl.wrong("log of the variance without 1/2", TEXTBOOK, "log of the variance")
def _(mean_q, std_q, mean_p, std_p):
    return (2 * torch.log(std_p / std_q) + (std_q**2 + (mean_q - mean_p) ** 2) / (2 * std_p**2) - 0.5).sum(-1)


@gaussian_kl.wrong("1/2 on log std as well", TEXTBOOK, "half of log std")
def _(mean_q, std_q, mean_p, std_p):
    return 0.5 * (torch.log(std_p / std_q) + (std_q**2 + (mean_q - mean_p) ** 2) / std_p**2 - 1).sum(-1)


@gaussian_kl.wrong("std for its square", TEXTBOOK, "std stands where its square belongs")
def _(mean_q, std_q, mean_p, std_p):
    return (torch.log(std_p / std_q) + (std_q + (mean_q - mean_p) ** 2) / (2 * std_p) - 0.5).sum(-1)


@gaussian_kl.wrong("std taken for a variance", TEXTBOOK, "std is taken for a variance")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q.sqrt(), mean_p, std_p.sqrt()).sum(-1)


@gaussian_kl.wrong("std taken for a log-variance", TEXTBOOK, "std is taken for a log-variance")
def _(mean_q, log_var, mean_p, std_p):
    return 0.5 * (mean_q**2 + log_var.exp() - 1 - log_var).sum(-1) + 0 * (mean_p + std_p).sum(-1)


@gaussian_kl.wrong("log ratio upside down", TEXTBOOK, "enters with the other sign")
def _(mean_q, std_q, mean_p, std_p):
    return (torch.log(std_q / std_p) + (std_q**2 + (mean_q - mean_p) ** 2) / (2 * std_p**2) - 0.5).sum(-1)


@gaussian_kl.wrong("mean not squared", TEXTBOOK, "mean is not squared")
def _(mean_q, std_q, mean_p, std_p):
    return (torch.log(std_p / std_q) + (std_q**2 + (mean_q - mean_p)) / (2 * std_p**2) - 0.5).sum(-1)


@gaussian_kl.wrong("forgets the means", TEXTBOOK, "mean does not count")
def _(mean_q, std_q, mean_p, std_p):
    return (torch.log(std_p / std_q) + std_q**2 / (2 * std_p**2) - 0.5).sum(-1)


@gaussian_kl.wrong("p is always N(0, 1)", ANY, "p is ignored")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, torch.zeros_like(mean_p), torch.ones_like(std_p)).sum(-1)


@gaussian_kl.wrong("ignores mean_p", ANY, "mean_p is ignored")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, 0 * mean_p, std_p).sum(-1)


@gaussian_kl.wrong("ignores std_p", ANY, "std_p is ignored")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, torch.ones_like(std_p)).sum(-1)


@gaussian_kl.wrong("means divided by std_p once", ANY, "not by its square")
def _(mean_q, std_q, mean_p, std_p):
    ratio = std_q / std_p
    return (-ratio.log() + 0.5 * (ratio**2 + (mean_q - mean_p) ** 2 / std_p - 1)).sum(-1)


@gaussian_kl.wrong("distance in units of q", ANY, "units of q's std")
def _(mean_q, std_q, mean_p, std_p):
    narrow = torch.where(std_p == 1, std_p, std_q)  # right for the prior N(0, 1) only
    ratio = std_q / std_p
    return (-ratio.log() + 0.5 * (ratio**2 + ((mean_q - mean_p) / narrow) ** 2 - 1)).sum(-1)


@gaussian_kl.wrong("distance not divided", ANY, "not divided by the variance")
def _(mean_q, std_q, mean_p, std_p):
    ratio = std_q / std_p
    return (-ratio.log() + 0.5 * (ratio**2 + (mean_q - mean_p) ** 2 - 1)).sum(-1)


@gaussian_kl.wrong("means added", ANY, "the means are added")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, -mean_p, std_p).sum(-1)


@gaussian_kl.wrong("forgets log std_p", ANY, "log std_p is missing")
def _(mean_q, std_q, mean_p, std_p):
    return (kl_terms(mean_q, std_q, mean_p, std_p) - std_p.log()).sum(-1)


@gaussian_kl.wrong("detaches p", REACH, "do not reach mean_p")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p.detach(), std_p.detach()).sum(-1)


@gaussian_kl.wrong("detaches q", REACH, "do not reach mean_q")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q.detach(), std_q.detach(), mean_p, std_p).sum(-1)


@gaussian_kl.wrong("pads the std", EQUAL, "off for extreme stds")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q + 1e-5, mean_p, std_p + 1e-5).sum(-1)


@gaussian_kl.wrong("clamps the std", EQUAL, "padded or clamped")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q.clamp(min=0.1), mean_p, std_p).sum(-1)


@gaussian_kl.wrong("average of both directions", TEXTBOOK, "should give")
def _(mean_q, std_q, mean_p, std_p):
    return (kl_terms(mean_q, std_q, mean_p, std_p) + kl_terms(mean_p, std_p, mean_q, std_q)).sum(-1) / 2


@gaussian_kl.wrong("sums over axis 1", "any shape", "should have shape")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p).sum(min(1, mean_q.dim() - 1))


@gaussian_kl.wrong("sum over the batch", CONTRACT, "should have shape")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p).sum(0)


@gaussian_kl.wrong("sum over everything", CONTRACT, "should have shape")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p).sum()


@gaussian_kl.wrong("no sum", CONTRACT, "should have shape")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p)


@gaussian_kl.wrong("one sample for the expectation", TEXTBOOK, "should give")
def _(mean_q, std_q, mean_p, std_p):
    q, p = Normal(mean_q, std_q), Normal(mean_p, std_p)
    z = q.rsample()
    return (q.log_prob(z) - p.log_prob(z)).sum(-1)


@gaussian_kl.wrong("clamped from below at 1", TEXTBOOK, "should give")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p).clamp(min=1).sum(-1)


@gaussian_kl.wrong("returns a float", CONTRACT, "should be a torch tensor")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p).sum().item()


@gaussian_kl.wrong("squares std in place", CONTRACT, "edited in place")
def _(mean_q, std_q, mean_p, std_p):
    with torch.no_grad():
        std_q.pow_(2)
    return kl_terms(mean_q, std_q.sqrt(), mean_p, std_p).sum(-1)


@gaussian_kl.wrong("detached", CONTRACT, "carries no gradient")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p).sum(-1).detach()


@gaussian_kl.wrong("numpy", CONTRACT, "should be a torch tensor")
def _(mean_q, std_q, mean_p, std_p):
    return kl_terms(mean_q, std_q, mean_p, std_p).sum(-1).detach().numpy()


@gaussian_kl.right
def by_distributions(mean_q, std_q, mean_p, std_p):
    return kl_divergence(Normal(mean_q, std_q), Normal(mean_p, std_p)).sum(dim=-1)


@gaussian_kl.right
def by_independent(mean_q, std_q, mean_p, std_p):
    return kl_divergence(Independent(Normal(mean_q, std_q), 1), Independent(Normal(mean_p, std_p), 1))


@gaussian_kl.right
def by_variances(mean_q, std_q, mean_p, std_p):
    var_q, var_p = std_q**2, std_p**2
    return 0.5 * (var_p.log() - var_q.log() + (var_q + (mean_q - mean_p) ** 2) / var_p - 1).sum(-1)


@gaussian_kl.right
def by_loop(mean_q, std_q, mean_p, std_p):
    total = torch.zeros_like(mean_q[..., 0])
    for d in range(mean_q.shape[-1]):
        total = total + kl_terms(mean_q[..., d], std_q[..., d], mean_p[..., d], std_p[..., d])
    return total


gaussian_log_likelihood = Bank("gaussian_log_likelihood")
PERFECT, ERROR, AXES = "a perfect reconstruction", "a squared error costs", "axes before the frame"


def pixels(x, mean, std):
    return -((x - mean) ** 2) / (2 * std**2) - math.log(std) - LOG_2PI / 2


@gaussian_log_likelihood.wrong("no normalizer", PERFECT, "normalizer is missing")
def _(x, mean, std):
    return -((x - mean) ** 2 / (2 * std**2)).sum(FRAME)


@gaussian_log_likelihood.wrong("negative mean squared error", PERFECT, "normalizer is missing")
def _(x, mean, std):
    return -((x - mean) ** 2).mean(FRAME)


@gaussian_log_likelihood.wrong("forgets log(2 pi) / 2", PERFECT, "log(2 pi) / 2 is missing")
def _(x, mean, std):
    return (pixels(x, mean, std) + LOG_2PI / 2).sum(FRAME)


@gaussian_log_likelihood.wrong("forgets log std", PERFECT, "log std is missing")
def _(x, mean, std):
    return (pixels(x, mean, std) + math.log(std)).sum(FRAME)


@gaussian_log_likelihood.wrong("normalizer once a frame", PERFECT, "once a frame")
def _(x, mean, std):
    return -((x - mean) ** 2 / (2 * std**2)).sum(FRAME) - math.log(std) - LOG_2PI / 2


@gaussian_log_likelihood.wrong("mean over pixels", PERFECT, "once a frame")
def _(x, mean, std):
    return pixels(x, mean, std).mean(FRAME)


@gaussian_log_likelihood.wrong("mean over pixels of the error alone", ERROR, "average over pixels")
def _(x, mean, std):
    error = ((x - mean) ** 2 / (2 * std**2)).mean(FRAME)
    return -error - x[0].numel() * (math.log(std) + LOG_2PI / 2)


@gaussian_log_likelihood.wrong("the loss, not the likelihood", PERFECT, "other sign")
def _(x, mean, std):
    return -pixels(x, mean, std).sum(FRAME)


@gaussian_log_likelihood.wrong("log(2 pi) without 1/2", PERFECT, "needs its 1/2")
def _(x, mean, std):
    return (pixels(x, mean, std) - LOG_2PI / 2).sum(FRAME)


@gaussian_log_likelihood.wrong("log of the variance", PERFECT, "log of the variance")
def _(x, mean, std):
    return (pixels(x, mean, std) - math.log(std)).sum(FRAME)


@gaussian_log_likelihood.wrong("half of log std", PERFECT, "not to log std")
def _(x, mean, std):
    return (pixels(x, mean, std) + math.log(std) / 2).sum(FRAME)


@gaussian_log_likelihood.wrong("std taken for a variance", PERFECT, "not to log std")
def _(x, mean, std):
    return Normal(mean, math.sqrt(std)).log_prob(x).sum(FRAME)


@gaussian_log_likelihood.wrong("error without 1/2", ERROR, "1/2 is missing")
def _(x, mean, std):
    return (-((x - mean) ** 2) / std**2 - math.log(std) - LOG_2PI / 2).sum(FRAME)


@gaussian_log_likelihood.wrong("error over std", ERROR, "density holds std²")
def _(x, mean, std):
    return (-((x - mean) ** 2) / (2 * std) - math.log(std) - LOG_2PI / 2).sum(FRAME)


@gaussian_log_likelihood.wrong("std ignored in the error", ERROR, "std is ignored")
def _(x, mean, std):
    return (-((x - mean) ** 2) / 2 - math.log(std) - LOG_2PI / 2).sum(FRAME)


@gaussian_log_likelihood.wrong("std 1 everywhere", PERFECT, "log std is missing")
def _(x, mean, std):
    return Normal(mean, 1.0).log_prob(x).sum(FRAME)


@gaussian_log_likelihood.wrong("absolute error", ERROR, "not squared")
def _(x, mean, std):
    return (-(x - mean).abs() / (2 * std**2) - math.log(std) - LOG_2PI / 2).sum(FRAME)


@gaussian_log_likelihood.wrong("sign of the error", ERROR, "larger error should be less likely")
def _(x, mean, std):
    return ((x - mean) ** 2 / (2 * std**2) - math.log(std) - LOG_2PI / 2).sum(FRAME)


@gaussian_log_likelihood.wrong("number of pixels fixed", "is a density", "number of pixels fixed")
def _(x, mean, std):
    return -((x - mean) ** 2 / (2 * std**2)).sum(FRAME) - 24 * (math.log(std) + LOG_2PI / 2)


@gaussian_log_likelihood.wrong("in float32 whatever comes", "float64", "rounded to float32")
def _(x, mean, std):
    return pixels(x.float(), mean.float(), std).sum(FRAME).to(x.dtype)


@gaussian_log_likelihood.wrong("average over channels", PERFECT, "each pixel leaves")
def _(x, mean, std):
    return pixels(x, mean, std).sum((-2, -1)).mean(-1)


@gaussian_log_likelihood.wrong("sum over axes 1 to 3", AXES, "should have shape")
def _(x, mean, std):
    return pixels(x, mean, std).sum((1, 2, 3))


@gaussian_log_likelihood.wrong("flattens all but the first axis", AXES, "should have shape")
def _(x, mean, std):
    return pixels(x, mean, std).flatten(1).sum(1)


@gaussian_log_likelihood.wrong("sum over the batch, too", CONTRACT, "should have shape")
def _(x, mean, std):
    return pixels(x, mean, std).sum()


@gaussian_log_likelihood.wrong("sum over the last axis only", CONTRACT, "should have shape")
def _(x, mean, std):
    return pixels(x, mean, std).sum(-1)


@gaussian_log_likelihood.wrong("detaches the reconstruction", CONTRACT, "carries no gradient")
def _(x, mean, std):
    return pixels(x, mean.detach(), std).sum(FRAME)


@gaussian_log_likelihood.wrong("gradient of a clamped error", "gradients reach", "should pull mean")
def _(x, mean, std):
    with torch.no_grad():
        rest = pixels(x, mean, std).sum(FRAME) - mean.sum(FRAME)
    return rest + mean.sum(FRAME)


@gaussian_log_likelihood.right
def normal_by_distribution(x, mean, std):
    return Normal(mean, std).log_prob(x).sum(FRAME)


@gaussian_log_likelihood.right
def normal_by_independent(x, mean, std):
    return Independent(Normal(mean, std), 3).log_prob(x)


@gaussian_log_likelihood.right
def normal_by_flattening(x, mean, std):
    error = (x - mean).flatten(-3).pow(2).sum(-1)
    return -error / (2 * std * std) - x[0].numel() / x[0, ..., 0, 0, 0].numel() * math.log(std * math.sqrt(2 * math.pi))


@gaussian_log_likelihood.right
def normal_by_torch_log(x, mean, std):
    spread = torch.tensor(std, dtype=x.dtype)
    return (-0.5 * ((x - mean) / spread) ** 2 - torch.log(spread) - 0.5 * math.log(2 * math.pi)).sum(dim=[-1, -2, -3])


linear_gaussian_posterior = Bank("linear_gaussian_posterior")
COVARIANCE, MEAN, SEVERAL = "the covariance", "in one dimension, the mean", "many pixels"


def solved(x, weight, bias, s):
    precision = torch.eye(weight.shape[1], dtype=x.dtype) + weight.T @ weight / s**2
    covariance = torch.linalg.inv(precision)
    return precision, covariance, (x - bias) @ weight / s**2


@linear_gaussian_posterior.wrong("returns the precision", COVARIANCE, "this is the precision")
def _(x, weight, bias, noise_std):
    precision, covariance, pull = solved(x, weight, bias, noise_std)
    return pull @ covariance, precision


@linear_gaussian_posterior.wrong("no prior", COVARIANCE, "prior is missing")
def _(x, weight, bias, noise_std):
    covariance = torch.linalg.pinv(weight.T @ weight) * noise_std**2
    return (x - bias) @ weight @ covariance / noise_std**2, covariance


@linear_gaussian_posterior.wrong("noise_std for its square", COVARIANCE, "its square belongs")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std**0.5)
    return pull @ covariance, covariance


@linear_gaussian_posterior.wrong("ignores the noise", COVARIANCE, "noise is ignored")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, 1.0)
    return pull @ covariance, covariance


@linear_gaussian_posterior.wrong("returns a standard deviation", COVARIANCE, "covariance is its square")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return pull @ covariance, torch.linalg.cholesky(covariance)


@linear_gaussian_posterior.wrong("noise multiplies", COVARIANCE, "multiplies where it should divide")
def _(x, weight, bias, noise_std):
    covariance = torch.linalg.inv(torch.eye(weight.shape[1]) + weight.T @ weight * noise_std**2)
    return (x - bias) @ weight @ covariance * noise_std**2, covariance


@linear_gaussian_posterior.wrong("ignores the bias", MEAN, "bias is not subtracted")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, 0 * bias, noise_std)
    return pull @ covariance, covariance


@linear_gaussian_posterior.wrong("adds the bias", MEAN, "bias is added")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, -bias, noise_std)
    return pull @ covariance, covariance


@linear_gaussian_posterior.wrong("least squares", MEAN, "this is least squares")
def _(x, weight, bias, noise_std):
    _, covariance, _ = solved(x, weight, bias, noise_std)
    return (x - bias) @ torch.linalg.pinv(weight).T, covariance


@linear_gaussian_posterior.wrong("mean without noise_std²", MEAN, "noise_std² is missing")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return pull @ covariance * noise_std**2, covariance


@linear_gaussian_posterior.wrong("mean over noise_std once", MEAN, "divided by noise_std once")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return pull @ covariance * noise_std, covariance


@linear_gaussian_posterior.wrong("mean without covariance", MEAN, "not multiplied by the covariance")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return pull, covariance


@linear_gaussian_posterior.wrong("mean times precision", MEAN, "multiplied by the precision")
def _(x, weight, bias, noise_std):
    precision, covariance, pull = solved(x, weight, bias, noise_std)
    return pull @ precision, covariance


@linear_gaussian_posterior.wrong("bias - x", MEAN, "sign is turned around")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return -pull @ covariance, covariance


@linear_gaussian_posterior.wrong("subtracts the batch's mean", MEAN, "covariance times weight")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, x.mean(0), noise_std)
    return pull @ covariance, covariance


@linear_gaussian_posterior.wrong("diagonal only", SEVERAL, "off-diagonal entries are missing")
def _(x, weight, bias, noise_std):
    precision, _, pull = solved(x, weight, bias, noise_std)
    covariance = torch.diag(1 / precision.diagonal())
    return pull @ covariance, covariance


@linear_gaussian_posterior.wrong("diagonal of the covariance", SEVERAL, "the diagonal alone")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return pull @ covariance, torch.diag(covariance.diagonal())


@linear_gaussian_posterior.wrong("inverse entry by entry", SEVERAL, "entry by entry")
def _(x, weight, bias, noise_std):
    precision, _, pull = solved(x, weight, bias, noise_std)
    return pull @ (1 / precision), 1 / precision


@linear_gaussian_posterior.wrong("1 added to every entry", SEVERAL, "the identity matrix")
def _(x, weight, bias, noise_std):
    covariance = torch.linalg.inv(1 + weight.T @ weight / noise_std**2)
    return (x - bias) @ weight @ covariance / noise_std**2, covariance


@linear_gaussian_posterior.wrong("mean of the first sample for all", MEAN, "the first one's mean")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return (pull @ covariance)[:1].expand(len(x), -1), covariance


@linear_gaussian_posterior.wrong("mean transposed", CONTRACT, "part 0 of the result should have shape")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return (pull @ covariance).T, covariance


@linear_gaussian_posterior.wrong("covariance per sample", CONTRACT, "part 1 of the result should have shape")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return pull @ covariance, covariance.expand(len(x), -1, -1)


@linear_gaussian_posterior.wrong("mean only", CONTRACT, "should be a tuple")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return pull @ covariance


@linear_gaussian_posterior.wrong("swapped", CONTRACT, "should have shape")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x, weight, bias, noise_std)
    return covariance, pull @ covariance


@linear_gaussian_posterior.wrong("in float32 whatever comes", "more latents than pixels", "should be float64")
def _(x, weight, bias, noise_std):
    _, covariance, pull = solved(x.float(), weight.float(), bias.float(), noise_std)
    return pull @ covariance, covariance


@linear_gaussian_posterior.right
def posterior_by_gain(x, weight, bias, noise_std):
    spread = weight @ weight.T + noise_std**2 * torch.eye(len(weight), dtype=x.dtype)
    gain = torch.linalg.solve(spread, weight).T
    return (x - bias) @ gain.T, torch.eye(weight.shape[1], dtype=x.dtype) - gain @ weight


@linear_gaussian_posterior.right
def posterior_by_solve(x, weight, bias, noise_std):
    scaled = weight.T @ weight + noise_std**2 * torch.eye(weight.shape[1], dtype=x.dtype)
    mean = torch.linalg.solve(scaled, weight.T @ (x - bias).T).T
    return mean, noise_std**2 * torch.linalg.inv(scaled)


@linear_gaussian_posterior.right
def posterior_by_loop(x, weight, bias, noise_std):
    precision = torch.eye(weight.shape[1]).to(x) + (1 / noise_std**2) * torch.einsum("dz,dk->zk", weight, weight)
    covariance = precision.inverse()
    means = [covariance @ (weight.T @ (row - bias)) / noise_std**2 for row in x]
    return torch.stack(means), covariance


@linear_gaussian_posterior.right
def posterior_by_torch_distribution(x, weight, bias, noise_std):
    prior = MultivariateNormal(torch.zeros(weight.shape[1], dtype=x.dtype), torch.eye(weight.shape[1], dtype=x.dtype))
    covariance = torch.cholesky_inverse(
        torch.linalg.cholesky(prior.precision_matrix + weight.T @ weight / noise_std**2)
    )
    return (x - bias) @ (weight @ covariance) / noise_std**2, covariance


bernoulli_log_likelihood = Bank("bernoulli_log_likelihood")
LOG_2, BOTH, FAR = "at logits of 0", "ink and paper", "plus and minus 200"


@bernoulli_log_likelihood.wrong("mean over pixels", LOG_2, "average over pixels")
def _(x, logits):
    return (x * logits - F.softplus(logits)).mean(FRAME)


@bernoulli_log_likelihood.wrong("the loss", LOG_2, "this is the loss")
def _(x, logits):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(FRAME)


@bernoulli_log_likelihood.wrong("the loss, averaged", LOG_2, "this is the loss, averaged over pixels")
def _(x, logits):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").mean(FRAME)


@bernoulli_log_likelihood.wrong("ink only", LOG_2, "only x log p")
def _(x, logits):
    return (x * F.logsigmoid(logits)).sum(FRAME)


@bernoulli_log_likelihood.wrong("paper only", LOG_2, "only (1 - x)")
def _(x, logits):
    return ((1 - x) * F.logsigmoid(-logits)).sum(FRAME)


@bernoulli_log_likelihood.wrong("bits", LOG_2, "base 2")
def _(x, logits):
    return (x * logits - F.softplus(logits)).sum(FRAME) / math.log(2)


@bernoulli_log_likelihood.wrong("the likelihood without log", LOG_2, "its logarithm")
def _(x, logits):
    return (x * logits - F.softplus(logits)).sum(FRAME).exp()


@bernoulli_log_likelihood.wrong("reduction left at mean", CONTRACT, "should have shape")
def _(x, logits):
    return -F.binary_cross_entropy_with_logits(logits, x)


@bernoulli_log_likelihood.wrong("sum over the batch, too", CONTRACT, "should have shape")
def _(x, logits):
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


@bernoulli_log_likelihood.wrong("x and 1 - x swapped", BOTH, "changed places")
def _(x, logits):
    return (x * F.logsigmoid(-logits) + (1 - x) * F.logsigmoid(logits)).sum(FRAME)


@bernoulli_log_likelihood.wrong("same sign in both halves", BOTH, "in one half")
def _(x, logits):
    return (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(logits)).sum(FRAME)


@bernoulli_log_likelihood.wrong("gray rounded", BOTH, "rounded")
def _(x, logits):
    return Bernoulli(logits=logits).log_prob((x > 0.5).float()).sum(FRAME)


@bernoulli_log_likelihood.wrong("sigmoid twice", LOG_2, "sigmoid is taken twice")
def _(x, logits):
    return -F.binary_cross_entropy_with_logits(logits.sigmoid(), x, reduction="none").sum(FRAME)


@bernoulli_log_likelihood.wrong("squared error", LOG_2, "-log 2")
def _(x, logits):
    return -((x - logits.sigmoid()) ** 2).sum(FRAME)


@bernoulli_log_likelihood.wrong("log of the mixture", BOTH, "before the shares")
def _(x, logits):
    p = logits.sigmoid()
    return (x * p + (1 - x) * (1 - p)).log().sum(FRAME)


@bernoulli_log_likelihood.wrong("logits taken for probabilities", CONTRACT, "holds nan")
def _(x, logits):
    return (x * logits.log() + (1 - x) * (1 - logits).log()).sum(FRAME)


@bernoulli_log_likelihood.wrong("log of sigmoid in two steps", FAR, "holds infinity")
def _(x, logits):
    p = logits.sigmoid()
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(FRAME)


@bernoulli_log_likelihood.wrong("padded logarithm", FAR, "hides what a wrong, certain pixel costs")
def _(x, logits):
    p = logits.sigmoid()
    return (x * (p + 1e-8).log() + (1 - x) * (1 - p + 1e-8).log()).sum(FRAME)


@bernoulli_log_likelihood.wrong("clamped probability", FAR, "a probability clamped")
def _(x, logits):
    p = logits.sigmoid().clamp(1e-7, 1 - 1e-7)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(FRAME)


@bernoulli_log_likelihood.wrong("binary_cross_entropy, which clamps", FAR, "taken in two steps")
def _(x, logits):
    return -F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(FRAME)


@bernoulli_log_likelihood.wrong("clamped logits", FAR, "should cost |logit| nats")
def _(x, logits):
    return (x * logits - F.softplus(logits)).clamp(min=-50).sum(FRAME)


@bernoulli_log_likelihood.wrong("clamps the sum", FAR, "should cost |logit| nats")
def _(x, logits):
    return (x * logits - F.softplus(logits)).sum(FRAME).clamp(min=-1e4)


@bernoulli_log_likelihood.wrong("clamps large logits", FAR, "should cost |logit| nats")
def _(x, logits):
    logits = logits.clamp(-150, 150)
    return (x * logits - F.softplus(logits)).sum(FRAME)


@bernoulli_log_likelihood.wrong("continuous Bernoulli", LOG_2, "nearly 0")
def _(x, logits):
    return torch.distributions.ContinuousBernoulli(logits=logits).log_prob(x).sum(FRAME)


@bernoulli_log_likelihood.wrong("log(1 + exp(logits))", FAR, "holds infinity")
def _(x, logits):
    return (x * logits - torch.log(1 + logits.exp())).sum(FRAME)


@bernoulli_log_likelihood.wrong("flattens all but the first axis", "axes before the frame", "should have shape")
def _(x, logits):
    return (x * logits - F.softplus(logits)).flatten(1).sum(1)


@bernoulli_log_likelihood.wrong("detached", CONTRACT, "carries no gradient")
def _(x, logits):
    return (x * logits - F.softplus(logits)).sum(FRAME).data


@bernoulli_log_likelihood.wrong("arguments in another order", LOG_2, "changed places")
def _(logits, x):
    return (x * logits - F.softplus(logits)).sum(FRAME)


@bernoulli_log_likelihood.right
def bernoulli_by_loss(x, logits):
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(FRAME)


@bernoulli_log_likelihood.right
def bernoulli_by_logsigmoid(x, logits):
    return (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).flatten(-3).sum(-1)


@bernoulli_log_likelihood.right
def bernoulli_by_distribution(x, logits):
    return Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(dim=(-1, -2, -3))


@bernoulli_log_likelihood.right
def bernoulli_by_logaddexp(x, logits):
    return torch.einsum("...chw->...", x * logits - torch.logaddexp(logits, torch.zeros_like(logits)))


negative_elbo = Bank("negative_elbo")
ONLY, PRICE = "with beta = 0", "price of a nat"


@negative_elbo.wrong("the ELBO itself", ONLY, "to be maximized")
def _(log_likelihood, kl, beta):
    return (log_likelihood - beta * kl).mean()


@negative_elbo.wrong("sum over the batch", ONLY, "sum over the batch")
def _(log_likelihood, kl, beta):
    return (beta * kl - log_likelihood).sum()


@negative_elbo.wrong("the ELBO, summed", ONLY, "to be maximized, and it is a sum")
def _(log_likelihood, kl, beta):
    return (log_likelihood - beta * kl).sum()


@negative_elbo.wrong("beta on both terms", ONLY, "multiplies both terms")
def _(log_likelihood, kl, beta):
    return beta * (kl - log_likelihood).mean()


@negative_elbo.wrong("beta on the likelihood", ONLY, "sits on the likelihood")
def _(log_likelihood, kl, beta):
    return (kl - beta * log_likelihood).mean()


@negative_elbo.wrong("beta ignored", ONLY, "beta is ignored")
def _(log_likelihood, kl, beta):
    return (kl - log_likelihood).mean()


@negative_elbo.wrong("KL rewarded", PRICE, "KL is rewarded")
def _(log_likelihood, kl, beta):
    return (-beta * kl - log_likelihood).mean()


@negative_elbo.wrong("KL forgotten", PRICE, "KL is ignored")
def _(log_likelihood, kl, beta):
    return -log_likelihood.mean() + 0 * beta * kl.mean()


@negative_elbo.wrong("KL summed over the batch", PRICE, "KL is summed over the batch")
def _(log_likelihood, kl, beta):
    return beta * kl.sum() - log_likelihood.mean()


@negative_elbo.wrong("beta squared", PRICE, "beta is squared")
def _(log_likelihood, kl, beta):
    return (beta**2 * kl - log_likelihood).mean()


@negative_elbo.wrong("beta cut off at 1", PRICE, "cut off at 1")
def _(log_likelihood, kl, beta):
    return (min(beta, 1.0) * kl - log_likelihood).mean()


@negative_elbo.wrong("KL detached", "gradients reach both", "do not reach kl")
def _(log_likelihood, kl, beta):
    return (beta * kl.detach() - log_likelihood).mean()


@negative_elbo.wrong("likelihood detached", "gradients reach both", "do not reach log_likelihood")
def _(log_likelihood, kl, beta):
    return (beta * kl - log_likelihood.detach()).mean()


@negative_elbo.wrong("size of the likelihood", "any batch size", "above 0")
def _(log_likelihood, kl, beta):
    return (beta * kl + log_likelihood.abs()).mean()


@negative_elbo.wrong("batch size fixed", "any batch size", "number of frames fixed")
def _(log_likelihood, kl, beta):
    return (beta * kl - log_likelihood).sum() / 7


@negative_elbo.wrong("median over the batch", ONLY, "minus the average log-likelihood")
def _(log_likelihood, kl, beta):
    return (beta * kl - log_likelihood).median()


@negative_elbo.wrong("per frame", CONTRACT, "should have shape")
def _(log_likelihood, kl, beta):
    return beta * kl - log_likelihood


@negative_elbo.wrong("a float", CONTRACT, "should be a torch tensor")
def _(log_likelihood, kl, beta):
    return (beta * kl - log_likelihood).mean().item()


@negative_elbo.wrong("forgets to return", CONTRACT, "forget to return")
def _(log_likelihood, kl, beta):
    (beta * kl - log_likelihood).mean()


@negative_elbo.right
def elbo_by_parts(log_likelihood, kl, beta):
    return beta * kl.mean() - log_likelihood.mean()


@negative_elbo.right
def elbo_by_minus(log_likelihood, kl, beta):
    elbo = log_likelihood - torch.mul(kl, beta)
    return -elbo.sum() / elbo.numel()


@negative_elbo.right
def elbo_by_loop(log_likelihood, kl, beta):
    return sum(beta * k - ll for ll, k in zip(log_likelihood, kl, strict=True)) / len(kl)


free_nats = Bank("free_nats")
ABOVE, BELOW, FIRST, FLAT = "above the floor", "below the floor every", "average over the batch", "no gradient below"


@free_nats.wrong("subtracts the free nats", ABOVE, "subtracted")
def _(kl, free):
    return (kl.mean(0) - free).clamp(min=0).sum()


@free_nats.wrong("subtracts them once", ABOVE, "subtracted once")
def _(kl, free):
    return (kl.mean(0).sum() - free).clamp(min=0)


@free_nats.wrong("mean over dimensions", ABOVE, "average over dimensions")
def _(kl, free):
    return kl.mean(0).clamp(min=free).mean()


@free_nats.wrong("sum over the batch", ABOVE, "sum over the batch")
def _(kl, free):
    return kl.sum(0).clamp(min=free).sum()


@free_nats.wrong("a ceiling", ABOVE, "a ceiling")
def _(kl, free):
    return kl.mean(0).clamp(max=free).sum() + 0 * kl.sum()


@free_nats.wrong("a ceiling for the sum", ABOVE, "one ceiling")
def _(kl, free):
    return kl.mean(0).sum().clamp(max=free)


@free_nats.wrong("no floor", BELOW, "no effect")
def _(kl, free):
    return kl.mean(0).sum()


@free_nats.wrong("floor under the sum", BELOW, "one floor for the sum")
def _(kl, free):
    return kl.mean(0).sum().clamp(min=free)


@free_nats.wrong("floor under each sample's sum", BELOW, "one floor for the sum")
def _(kl, free):
    return kl.sum(-1).clamp(min=free).mean()


@free_nats.wrong("zero below the floor", BELOW, "set to 0")
def _(kl, free):
    mean = kl.mean(0)
    return torch.where(mean > free, mean, 0 * mean).sum()


@free_nats.wrong("floor under each sample", FIRST, "each sample has its own floor")
def _(kl, free):
    return kl.clamp(min=free).mean(0).sum()


@free_nats.wrong("floor under the average sum, Z times as high", FIRST, "each dimension has its own")
def _(kl, free):
    return kl.mean(0).sum().clamp(min=free * kl.shape[-1])


@free_nats.wrong("free counted once", ABOVE, "above the floor")
def _(kl, free):
    return (kl.mean(0) - free).clamp(min=0).sum() + free


@free_nats.wrong("leaky floor", BELOW, "should count as free")
def _(kl, free):
    return (F.leaky_relu(kl.mean(0) - free, 0.01) + free).sum()


@free_nats.wrong("floor of 1 whatever free is", BELOW, "count as free")
def _(kl, free):
    return kl.mean(0).clamp(min=1.0).sum()


@free_nats.wrong("averages over dimensions, sums over the batch", ABOVE, "wanted")
def _(kl, free):
    return kl.mean(-1).clamp(min=free).sum()


@free_nats.wrong("floor in the value only", FLAT, "only in the value")
def _(kl, free):
    mean = kl.mean(0)
    return (mean + (mean.clamp(min=free) - mean).detach()).sum()


@free_nats.wrong("smooth floor", ABOVE, "above the floor")
def _(kl, free):
    return (free + F.softplus(kl.mean(0) - free)).sum()


@free_nats.wrong("averages over the first axis only", "sequences", "should have shape")
def _(kl, free):
    return kl.mean(0).clamp(min=free).sum(-1)


@free_nats.wrong("sums over time", "sequences", "average over all axes")
def _(kl, free):
    return kl.mean(0).clamp(min=free).sum()


@free_nats.wrong("per dimension", CONTRACT, "should have shape")
def _(kl, free):
    return kl.mean(0).clamp(min=free)


@free_nats.wrong("clamps in place", CONTRACT, "edited in place")
def _(kl, free):
    with torch.no_grad():
        kl.clamp_(min=free)
    return kl.mean(0).sum()


@free_nats.wrong("detached", CONTRACT, "carries no gradient")
def _(kl, free):
    return kl.detach().mean(0).clamp(min=free).sum()


@free_nats.wrong("a float", CONTRACT, "should be a torch tensor")
def _(kl, free):
    return kl.mean(0).clamp(min=free).sum().item()


@free_nats.right
def free_by_maximum(kl, free):
    mean = kl.flatten(end_dim=-2).mean(dim=0)
    return torch.maximum(mean, torch.full_like(mean, free)).sum()


@free_nats.right
def free_by_relu(kl, free):
    mean = kl.mean(tuple(range(kl.dim() - 1)))
    return (F.relu(mean - free) + free).sum()


@free_nats.right
def free_by_loop(kl, free):
    total = torch.zeros(())
    for d in range(kl.shape[-1]):
        mean = kl[..., d].mean()
        total = total + (mean if mean > free else torch.tensor(float(free)))
    return total
