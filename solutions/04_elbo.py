# %% [markdown]
# # 04 The ELBO: a bound that you can touch
#
# **Claim.** The ELBO never exceeds the log-probability of your data, touches it when the encoder tells the truth, and goes
# silent when one word of your loss is wrong.
#
# Here is a variational autoencoder (VAE) for pendulum frames: an encoder, a random latent z, a decoder, and a loss of two
# terms. You find this loss in many tutorials. Train it.

# %%
import itertools

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from wmcourse import plots
from wmcourse.elbo import VAE, probabilistic_pca, warm_up
from wmcourse.encoder_decoder import (
    MLPDecoder,
    MLPEncoder,
    collect_clips,
    frames_to_float,
    nearest_distance,
    reconstruction_error,
)
from wmcourse.exercises import check, hint
from wmcourse.nets import fit
from wmcourse.reparameterization import reparameterize

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

LATENTS = 4
frames = frames_to_float(collect_clips(600, 1, seed=0).frames[:, 0])  # (600, 1, 32, 32), ink is 1
held_out = frames_to_float(collect_clips(300, 1, seed=100_000).frames[:, 0])
held_out = held_out[nearest_distance(held_out, frames) > 1e-2]  # no copies of training frames

vae = VAE(MLPEncoder(2 * LATENTS), MLPDecoder(LATENTS))
generator = torch.Generator().manual_seed(0)


def tutorial_loss() -> Tensor:
    """Reconstruction plus KL, as it is often written."""
    x = frames[torch.randint(len(frames), (64,), generator=generator)]
    mean, std = vae.encode(x)
    z = reparameterize(mean, std, torch.randn(64, LATENTS, generator=generator))
    reconstruction = F.binary_cross_entropy_with_logits(vae.decode(z), x)
    kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(-1).mean()
    return reconstruction + kl


losses = fit(vae.parameters(), tutorial_loss, steps=500, learning_rate=3e-3, label="tutorial")

# %%
with torch.no_grad():
    drawn = vae.decode(vae.encode(held_out[:8])[0]).sigmoid()
fig, (left, right) = plots.figure(1, 2, width=4.8, height=2.2)
left.plot(losses, color=plots.METHODS["collapsed"][0])
left.set(title="The loss falls", xlabel="update", ylabel="loss")
plots.frames(right, torch.cat([held_out[:8], drawn], 2))
right.set(title="Real frames, and what the model draws of them")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(f"the loss fell by more than half: {bool(losses[-1] < losses[0] / 2)}")
print(f"all drawings are alike, to 2 % of full ink: {bool(drawn.std(0).max() < 0.02)}")

# %% [markdown]
# The loss falls, nothing warns, and every frame becomes the same gray blur. The encoder says nothing and the decoder does
# not listen. This is *posterior collapse*. One word in the code above is to blame, and it is not written there: it is a
# default argument. By the end of this lesson you will have found it, measured it and cured it.
#
# **What you will be able to do**
#
# - write the KL between Gaussians and the two likelihoods that world models use for frames, in nats;
# - prove on a model with a known answer that your ELBO is a lower bound, and use that proof to catch bugs;
# - read the KL of each latent as an instrument, and tell a collapsed model from a healthy one;
# - choose between beta, free nats and warm-up, and know what each can and cannot repair.
#
# **Time:** about 80 minutes. **Before:** lessons 02 and 03.
#
# ## The idea
#
# A model that generates frames draws z from a prior p(z) and then a frame from p(x | z). How likely does it think a real
# frame x is? You would have to average p(x | z) over all z, and almost every z draws another picture. That average is the
# *evidence*, and for a neural decoder nobody can compute it.
#
# So ask an encoder which z are worth a look. It answers with a distribution q(z | x). Two things are now worth paying for.
# The z from q should draw the frame well. And q should not stray from the prior without need, because a frame that only a
# very special z can draw is a frame the model seldom draws. Reward the first, charge the second:
#
# $$ \log p(x) \;=\; \underbrace{\mathbb{E}_{q}[\log p(x \mid z)] - \mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big)}_{\text{ELBO}}
#    \;+\; \mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x)\big) $$
#
# The last term is the gap, and a KL is never negative. So the ELBO is at most the evidence (*evidence lower bound*), and
# equal to it where q is the true posterior p(z | x). Raise the ELBO and you do two jobs at once: the decoder makes the data
# more likely, the encoder comes closer to the truth.
#
# | symbol | variable | shape |
# |---|---|---|
# | $x$ | `x`, a frame | (B, C, H, W) |
# | $q(z \mid x)$ | `mean`, `std` from `vae.encode(x)` | (B, Z) each |
# | $p(z)$, the prior | N(0, I) | |
# | $\log p(x \mid z)$ | `log_likelihood` | (B,), in nats |
# | $\mathrm{KL}(q \,\Vert\, p)$ | `kl` | (B,), in nats |
#
# One nat is the information in an event of probability 1/e. Nats of independent pixels add up, and so do nats of independent
# latents. **Sum over pixels, sum over latents, average over the batch, and nothing else.**
#
# ## The price: KL between Gaussians
#
# $\mathrm{KL}(q\,\|\,p) = \mathbb{E}_{z \sim q}[\log q(z) - \log p(z)]$. For Gaussians the average has a closed form. Take
# one dimension, write down both log-densities, and use that $(z - \mu_q)^2$ averages to $\sigma_q^2$ and $(z - \mu_p)^2$ to
# $\sigma_q^2 + (\mu_q - \mu_p)^2$. You get three parts: a logarithm, a fraction, and a constant. Against N(0, 1) it must
# reduce to $\frac12(\mu^2 + \sigma^2 - 1) - \log \sigma$. Keep p general: in lesson 07 the prior is learned, too.


# %% exercise="gaussian_kl"
def gaussian_kl(mean_q: Tensor, std_q: Tensor, mean_p: Tensor, std_p: Tensor) -> Tensor:
    """KL(q || p) of diagonal Gaussians, in nats.

    Args:
        mean_q, mean_p: (..., Z).
        std_q, std_p: standard deviations, above 0, (..., Z).

    Returns:
        (...), summed over the Z latents.
    """
    ### BEGIN SOLUTION
    variance = std_q**2 + (mean_q - mean_p) ** 2  # of q, around the mean of p
    return (torch.log(std_p / std_q) + variance / (2 * std_p**2) - 0.5).sum(-1)
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
gaussian_kl = check("gaussian_kl", gaussian_kl)

# %% [markdown]
# The order of the arguments is not a matter of taste. Averaging over q means that q pays where it goes and p does not. A q
# that is too wide spills into places where p is tiny, and that is expensive. A q that is too narrow is cheaper.

# %%
# NBVAL_CHECK_OUTPUT
zero, one = torch.zeros(1), torch.ones(1)
print(f"q five times as wide as p:   {gaussian_kl(zero, 5 * one, zero, one):.2f} nats")
print(f"q five times as narrow as p: {gaussian_kl(zero, one / 5, zero, one):.2f} nats")

# %% [markdown]
# ## The reward: how likely is this frame?
#
# Let the decoder draw the mean of a Gaussian, with one fixed spread $s$ (`std`) for all pixels:
#
# $$ \log p(x \mid z) = \sum_{\text{pixels}} \Big[ -\frac{(x - \hat x)^2}{2 s^2} - \log s - \tfrac12 \log 2\pi \Big] $$
#
# People call this "the MSE loss" and drop $s$. But $s$ is an exchange rate: it says how many nats a wrong pixel costs, and
# nats are what the KL is paid in. A plain sum of squared errors is a choice, $s = 1/\sqrt2$: no pixel of a frame in [0, 1]
# can then cost more than 1 nat. Keep the normalizer as well. It moves no gradient while $s$ is fixed. Without it, though,
# your number is no log-likelihood and the proof below fails.


# %% exercise="gaussian_log_likelihood"
def gaussian_log_likelihood(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """log N(x; mean, std²) of frames, in nats.

    Args:
        x: frames, (..., C, H, W).
        mean: what the decoder draws, (..., C, H, W).
        std: standard deviation of every pixel, above 0, a Python float.

    Returns:
        (...), summed over channels and pixels; whatever axes come before the frame stay.
    """
    ### BEGIN SOLUTION
    variance = torch.tensor(std**2, dtype=x.dtype, device=x.device)
    per_pixel = -((x - mean) ** 2) / (2 * variance) - 0.5 * torch.log(2 * torch.pi * variance)
    return per_pixel.sum((-3, -2, -1))
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
gaussian_log_likelihood = check("gaussian_log_likelihood", gaussian_log_likelihood)

# %% [markdown]
# ## The proof: a model whose evidence is known
#
# Is your ELBO a lower bound? On a neural decoder you cannot tell, because nobody knows the evidence. So take a decoder
# simple enough to know everything: a linear one.
#
# $$ p(z) = \mathcal{N}(0, I), \qquad p(x \mid z) = \mathcal{N}(W z + b,\; s^2 I) $$
#
# A sum of Gaussians is Gaussian, so the evidence is $\log \mathcal{N}(x;\, b,\, W W^\top + s^2 I)$. The posterior is
# Gaussian, too. $\log p(z \mid x)$ is $\log p(z) + \log p(x \mid z)$ up to a constant, which is a quadratic in z. Collect
# the terms. The matrix in front of $z^2$ is the *precision*, the inverse of the covariance. The prior gives $I$ to it, the
# frame gives $W^\top W / s^2$. The mean is the covariance times what stands in front of z.


# %% exercise="linear_gaussian_posterior"
def linear_gaussian_posterior(
    x: Tensor, weight: Tensor, bias: Tensor, noise_std: float
) -> tuple[Tensor, Tensor]:
    """The exact posterior of p(z) = N(0, I), p(x | z) = N(weight z + bias, noise_std² I).

    Args:
        x: (B, D), one sample a row.
        weight: (D, Z).
        bias: (D,).
        noise_std: standard deviation, above 0, a Python float.

    Returns:
        Two tensors of the dtype of x: the mean, (B, Z), and the covariance, (Z, Z), which all x share.
    """
    ### BEGIN SOLUTION
    eye = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
    covariance = torch.linalg.inv(eye + weight.T @ weight / noise_std**2)
    return (x - bias) @ weight @ covariance / noise_std**2, covariance
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
linear_gaussian_posterior = check("linear_gaussian_posterior", linear_gaussian_posterior)

# %% [markdown]
# Now give it real frames. The linear-Gaussian model under which the training frames are most likely is known in closed
# form: probabilistic PCA. Its columns of W are orthogonal, so its posterior is diagonal, and your `gaussian_kl` can measure
# distances to it. The referee is torch's own multivariate normal. Nothing of yours is in it.

# %%
pixels, tested = frames.flatten(1).double(), held_out[:10].flatten(1).double()  # (600, D), (10, D)
weight, bias, noise_std = probabilistic_pca(pixels, LATENTS)  # (D, Z), (D,), float
spread = weight @ weight.T + noise_std**2 * torch.eye(len(bias), dtype=torch.float64)
evidence = MultivariateNormal(bias, spread).log_prob(tested)  # (10,), exact

posterior_mean, covariance = linear_gaussian_posterior(tested, weight, bias, noise_std)
posterior_std = covariance.diagonal().sqrt().expand_as(posterior_mean)  # (10, Z)


def linear_elbo(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The ELBO of x (B, D) at q = N(mean, std²), (B, Z) each, without sampling: (B,).

    z strays from its mean by std, so the drawing strays by std² |column of W|², summed over latents.
    """
    drawing = mean @ weight.T + bias
    strays = std**2 @ (weight**2).sum(0) / (2 * noise_std**2)
    at_mean = gaussian_log_likelihood(x.view(-1, 1, 32, 32), drawing.view(-1, 1, 32, 32), noise_std)
    return at_mean - strays - gaussian_kl(mean, std, torch.zeros_like(mean), torch.ones_like(std))


# %%
# NBVAL_CHECK_OUTPUT
touch = (linear_elbo(tested, posterior_mean, posterior_std) - evidence).abs().max()
print(f"at the exact posterior the ELBO equals the log evidence to 1e-4 nats: {bool(touch < 1e-4)}")

# %% [markdown]
# Ten real frames, a sum over 1,024 pixels each, and the two numbers agree. Now leave the posterior: 1,000 random q for each
# frame, from very close to far away. The equation above makes a sharper claim than "below". The gap should be
# $\mathrm{KL}(q \,\|\, p(z \mid x))$, to the last digit.

# %%
generator = torch.Generator().manual_seed(1)
found_gap, found_kl = [], []
for frame, center, width, ceiling in zip(
    tested, posterior_mean, posterior_std, evidence, strict=True
):
    size = 10 ** (torch.rand(1000, 1, generator=generator, dtype=torch.float64) * 3 - 2)
    shift, stretch = torch.randn(2, 1000, LATENTS, generator=generator, dtype=torch.float64)
    mean = center + width * size * shift
    std = width * (size.clamp(max=1) * stretch).exp()
    found_gap.append(ceiling - linear_elbo(frame.expand(1000, -1), mean, std))
    found_kl.append(gaussian_kl(mean, std, center.expand_as(mean), width.expand_as(std)))
gap, kl_to_posterior = torch.cat(found_gap), torch.cat(found_kl)

# %%
# NBVAL_CHECK_OUTPUT
print(f"of {len(gap)} random q, above the evidence: {(gap < 0).sum().item()}")
print(f"gap = KL(q || posterior) to 1e-4 nats: {bool((gap - kl_to_posterior).abs().max() < 1e-4)}")

# %%
steps = torch.linspace(-8, 8, 161, dtype=torch.float64)
scales = torch.logspace(-0.8, 0.8, 161, dtype=torch.float64)
frame, center, width = tested[:1].expand(161, -1), posterior_mean[:1], posterior_std[:1]
first = torch.eye(LATENTS, dtype=torch.float64)[0]
curves = [
    (steps, linear_elbo(frame, center + steps[:, None] * first * width, width.expand(161, -1))),
    (scales, linear_elbo(frame, center.expand(161, -1), width * scales[:, None])),
]
fig, axes = plots.figure(1, 3, width=3.6, height=3.0)
labels = ["mean of latent 0, in posterior stds from the truth", "std of q / std of the posterior"]
for axis, (x, y), label in zip(axes, curves, labels, strict=False):
    axis.axhline(evidence[0], color=plots.METHODS["exact"][0], label="log evidence")
    plots.curve(axis, x, y, "learned model", "ELBO")
    axis.fill_between(x, y, evidence[0], color=plots.METHODS["learned model"][0], alpha=0.12)
    axis.set_xlabel(label, fontsize=8)
axes[0].set(title="Move q: you fall", ylabel="nats")
axes[1].set(title="Stretch q: you fall", xscale="log")
axes[1].set_xticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
axes[1].minorticks_off()
axes[0].legend(fontsize=7, loc="lower center")
axes[2].loglog(kl_to_posterior, gap, ".", markersize=1.5, color=plots.METHODS["learned model"][0])
axes[2].set(title="The gap is a KL", ylabel="log evidence - ELBO, nats")
axes[2].set_xlabel("KL(q || posterior), nats", fontsize=8)
plt.show()

# %% [markdown]
# The ceiling holds, and you touch it at one point. This is also the best bug detector you can own. A wrong ELBO breaks
# through its ceiling, or never reaches it. Break it on purpose:

# %%
# NBVAL_CHECK_OUTPUT
exact = linear_elbo(tested, posterior_mean, posterior_std)
prior = torch.zeros_like(posterior_mean), torch.ones_like(posterior_std)
kl_to_prior = gaussian_kl(posterior_mean, posterior_std, *prior)
reversed_kl = gaussian_kl(*prior, posterior_mean, posterior_std)
over_latents = exact + kl_to_prior - kl_to_prior / LATENTS
wrong_way = exact + kl_to_prior - reversed_kl
print(f"KL averaged over latents: above the evidence for {(over_latents > evidence).sum()} of 10")
print(f"KL(p || q) by mistake: below by more than 10 nats for {(wrong_way < evidence - 10).sum()}")

# %% [markdown]
# ## Pixels that are on or off
#
# Pendulum frames are ink on paper. A natural likelihood is a coin for each pixel: on with probability $p = \sigma(\ell)$,
# where the decoder draws the *logit* $\ell$. Gray counts as a share of on.
#
# $$ \log p(x \mid z) = \sum_{\text{pixels}} \big[ x \log \sigma(\ell) + (1 - x) \log(1 - \sigma(\ell)) \big] $$
#
# Do not take the sigmoid first and the logarithm second. At $\ell = 100$ float32 says $\sigma = 1$, and $\log(1 - 1)$ ends
# your training. Stay with the logits: $\log \sigma(\ell)$ and $\log(1 - \sigma(\ell)) = \log \sigma(-\ell)$ each have a form
# that no number overflows.


# %% exercise="bernoulli_log_likelihood"
def bernoulli_log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x | logits) of frames whose pixels are independently on or off, in nats.

    Args:
        x: frames in [0, 1], (..., C, H, W).
        logits: what the decoder draws, any real numbers, (..., C, H, W).

    Returns:
        (...), summed over channels and pixels; whatever axes come before the frame stay.
    """
    ### BEGIN SOLUTION
    per_pixel = x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)
    return per_pixel.sum((-3, -2, -1))
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
bernoulli_log_likelihood = check("bernoulli_log_likelihood", bernoulli_log_likelihood)

# %% [markdown]
# ## The loss
#
# Both terms are there. Put them together, one number per frame, then one average over the batch. `beta` is the price of a
# nat of KL: with 1 you have the ELBO.
#
# $$ L = -\frac1B \sum_{i=1}^{B} \big( \log p(x_i \mid z_i) - \beta\, \mathrm{KL}_i \big), \qquad z_i \sim q(z \mid x_i) $$


# %% exercise="negative_elbo"
def negative_elbo(log_likelihood: Tensor, kl: Tensor, beta: float) -> Tensor:
    """The loss of a VAE.

    Args:
        log_likelihood: log p(x | z) at one draw of z, (B,) nats.
        kl: KL(q || p), (B,) nats.
        beta: the price of a nat of KL.

    Returns:
        Scalar tensor, to be minimized.
    """
    ### BEGIN SOLUTION
    return -(log_likelihood - beta * kl).mean()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
negative_elbo = check("negative_elbo", negative_elbo)

# %% [markdown]
# Train a VAE with your functions. `kl_per_latent` calls your KL on vectors of length 1, so that you see each latent's share.
# Ignore `free` and `warm` for now.


# %%
def kl_per_latent(mean: Tensor, std: Tensor) -> Tensor:
    """KL to the prior of each latent: (B, Z) twice to (B, Z)."""
    mean, std = mean[..., None], std[..., None]
    return gaussian_kl(mean, std, torch.zeros_like(mean), torch.ones_like(std))


def train(*, likelihood=None, beta=1.0, free=0.0, warm=0, steps=500, seed=0) -> VAE:
    """A VAE trained on `frames`; the likelihood is Bernoulli unless another is given."""
    likelihood = likelihood or bernoulli_log_likelihood
    torch.manual_seed(seed)
    vae = VAE(MLPEncoder(2 * LATENTS), MLPDecoder(LATENTS))
    generator, count = torch.Generator().manual_seed(seed), itertools.count()

    def loss() -> Tensor:
        x = frames[torch.randint(len(frames), (64,), generator=generator)]
        mean, std = vae.encode(x)
        z = reparameterize(mean, std, torch.randn(64, LATENTS, generator=generator))
        kl = kl_per_latent(mean, std)
        kl = free_nats(kl, free).expand(64) if free else kl.sum(-1)
        price = warm_up(next(count), warm, beta) if warm else beta
        return negative_elbo(likelihood(x, vae.decode(z)), kl, price)

    fit(vae.parameters(), loss, steps=steps, learning_rate=3e-3, label=f"{beta=} {free=} {warm=}")
    return vae.requires_grad_(False)


mean_frame = frames.mean(0, keepdim=True)
worst = reconstruction_error(held_out, mean_frame)  # squared error a frame, of the mean frame


def error(vae: VAE) -> float:
    """Held-out reconstruction error, in units of the mean frame's."""
    drawn = vae.decode(vae.encode(held_out)[0]).sigmoid()
    return (reconstruction_error(held_out, drawn) / worst).item()


def held_out_kl(vae: VAE) -> Tensor:
    """KL of each latent, averaged over held-out frames, largest first: (Z,)."""
    return kl_per_latent(*vae.encode(held_out)).mean(0).sort(descending=True).values


vae = train(steps=1200)

# %%
centered = held_out.flatten(1) - bias.float()
axes_of_z = F.normalize(weight.float(), dim=0)
linear = centered - centered @ axes_of_z @ axes_of_z.T
nearest = nearest_distance(held_out, frames).square().mean() / worst
print(f"squared error per held-out frame, mean frame = 1   ({len(held_out)} frames)")
print(f"best linear model with {LATENTS} latents: {linear.square().sum(1).mean() / worst:.3f}")
print(f"your VAE:                         {error(vae):.3f}")
print(f"copying the nearest of 600:       {nearest:.3f}")
print("KL per latent, nats:", [round(v, 1) for v in held_out_kl(vae).tolist()])

# %%
# NBVAL_CHECK_OUTPUT
print(f"held-out error at most 1/10 of the mean frame's: {error(vae) <= 0.1}")

# %% [markdown]
# Look at the honest rows. The linear model with as many latents is far behind. Copying the nearest training frame does as
# well as you: a picture of a pendulum holds one number, its angle, and 600 frames cover the circle. What your VAE has and
# the copy has not is four numbers with a known prior. Turn them one at a time.

# %%
order = kl_per_latent(*vae.encode(held_out)).mean(0).argsort(descending=True).tolist()
start = vae.encode(held_out[3:4])[0]
fig, axes = plots.figure(LATENTS, 1, width=7.6, height=0.85)
for axis, j in zip(axes, order, strict=True):
    z = start.repeat(9, 1)
    z[:, j] = torch.linspace(-2.5, 2.5, 9)
    share = kl_per_latent(*vae.encode(held_out)).mean(0)[j]
    plots.frames(axis, vae.decode(z).sigmoid(), f"latent {j}\n{share:.1f} nats")
axes[0].set_title("One latent from -2.5 to 2.5, the others at one real frame's values", fontsize=10)
plt.show()

# %% [markdown]
# A latent that carries nats moves the rod. One that carries few moves little. The KL per latent is your instrument: it
# reads how much each latent says, in a unit that needs no scale. In some frames the rod is a ghost, or there are two. The
# angles form a ring in the latent space, and a straight line soon leaves a ring.
#
# ## What went wrong at the start
#
# The cold open called `binary_cross_entropy_with_logits`, whose default is `reduction="mean"`. It averages over the batch,
# as it should, *and over 1,024 pixels*. The likelihood is divided by 1,024 and the KL is not:
#
# $$ \frac{1}{1024} \log p(x \mid z) - \mathrm{KL} \;=\; \frac{1}{1024}\big( \log p(x \mid z) - 1024\, \mathrm{KL} \big) $$
#
# You asked for beta = 1 and trained with beta = 1,024. At that price every nat of the latent costs more than it saves, and
# the best encoder is a silent one. A beta of 20 is enough to do the same here, but for another reason. There are two kinds
# of collapse, and they need different medicine:
#
# - **The objective wants silence.** Then only another objective helps.
# - **The start is bad.** In the first updates z is noise to the decoder, which learns to ignore it. The KL then pulls q
#   onto the prior, and training does not come back, although a better point exists. Here *warm-up* helps: begin with beta
#   at 0 and raise it slowly.
#
# And there is a third way: **free nats**. Below a floor, KL costs nothing, so a latent has no reason to fall silent.
# Take the average of each latent's KL over the batch first. Then put the floor under each, then sum:
#
# $$ \sum_{j=1}^{Z} \max\Big(\lambda,\; \frac1B \sum_{i=1}^{B} \mathrm{KL}_{ij}\Big) $$
#
# The order matters. A floor under each *sample* gives every frame the same allowance. A floor under the average lets an
# easy frame say little and a hard one much. Dreamer puts one such floor under the sum of all latents.


# %% exercise="free_nats"
def free_nats(kl: Tensor, free: float) -> Tensor:
    """The KL with a floor under each latent's batch average.

    Args:
        kl: KL of each latent, (..., Z) nats; all axes before the last are batch (and time).
        free: the floor, nats per latent, 0 or more.

    Returns:
        Scalar tensor: average over everything but latents, floor, sum over latents.
    """
    ### BEGIN SOLUTION
    average = kl.reshape(-1, kl.shape[-1]).mean(0)
    return average.clamp(min=free).sum()
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
free_nats = check("free_nats", free_nats)

# %% [markdown]
# ## The experiment: cause it, cure it
#
# Two diseases: the mean over pixels, and a beta of 20. For each, its medicines. Collapse by a bad start depends on the
# start, so beta 20 runs on three seeds.


# %%
def mean_over_pixels(x: Tensor, logits: Tensor) -> Tensor:
    """The bug: a frame's log-likelihood, divided by its number of pixels."""
    return bernoulli_log_likelihood(x, logits) / x[0].numel()


recipes = {
    "mean over pixels": dict(likelihood=mean_over_pixels),
    "same, warm-up": dict(likelihood=mean_over_pixels, warm=400),
    "sum over pixels": dict(),
    "beta 20": dict(beta=20.0),
    "beta 20, warm-up": dict(beta=20.0, warm=400),
    "beta 20, 2 free nats": dict(beta=20.0, free=2.0),
}
trained = {
    name: [train(**recipe, seed=seed) for seed in range(3 if "beta" in name else 1)]
    for name, recipe in recipes.items()
}
errors = {
    name: torch.tensor([error(v) for v in runs]).median().item() for name, runs in trained.items()
}
kls = {
    name: torch.stack([held_out_kl(v) for v in runs]).median(0).values
    for name, runs in trained.items()
}

# %%
fig, axes = plots.figure(len(recipes) + 1, 2, width=4.4, height=0.72)
axes[0, 0].get_gridspec().set_width_ratios([2.6, 1])
plots.frames(axes[0, 0], held_out[:10], "real")
axes[0, 1].axis("off")
for (left, right), name in zip(axes[1:], recipes, strict=True):
    state = "collapsed" if kls[name].sum() < 0.5 else "cured"
    drawn = trained[name][0]
    plots.frames(left, drawn.decode(drawn.encode(held_out[:10])[0]).sigmoid(), name)
    right.bar(range(LATENTS), kls[name], color=plots.METHODS[state][0])
    right.set(ylim=(0, 3), xticks=[], ylabel="nats")
    right.text(3.5, 2.9, f"error {errors[name]:.2f}", ha="right", va="top", fontsize=8)
axes[1, 1].set_title("KL of each latent", fontsize=10)
axes[0, 0].set_title("Silent latents draw the average frame", fontsize=10)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
for name in recipes:
    silent = bool(kls[name].sum() < 0.5)
    print(f"{name:<21} silent: {silent!s:<5}  error at most 0.9: {errors[name] <= 0.9}")

# %% [markdown]
# Bars and errors are medians over the seeds, the drawings are seed 0; an error of 1 is the mean frame's.
#
# - **Mean over pixels.** Warm-up does not help: the objective itself wants silence. The word `sum` cures it.
# - **Beta 20, warm-up.** The objective is the same at the end, and the outcome is not. So part of that collapse was a bad
#   start. The cure is partial: beta 20 still pays for one or two latents only.
# - **Beta 20, free nats.** Every latent speaks, up to its allowance of 2 nats, whatever beta says. That is a guarantee, not a
#   fit: it fills latents that a better objective would leave empty.
#
# Is it truly a better point of the *same* objective? Ask the objective.


# %%
def price_of(vae: VAE, beta: float) -> float:
    """The negative ELBO at this beta, on the training frames, same noise for all."""
    mean, std = vae.encode(frames)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(9))
    log_likelihood = bernoulli_log_likelihood(frames, vae.decode(mean + std * noise))
    return negative_elbo(log_likelihood, kl_per_latent(mean, std).sum(-1), beta).item()


# %%
# NBVAL_CHECK_OUTPUT
pairs = zip(trained["beta 20"], trained["beta 20, warm-up"], strict=True)
better = [price_of(cold, 20.0) - price_of(warm, 20.0) for cold, warm in pairs]
print(f"warm-up ends lower in the same loss, by at least 3 nats: {min(better) > 3} (3 seeds)")

# %% [markdown]
# ## What beta buys
#
# If beta above 1 costs so much, why does anybody use it? Because an encoder that says less stays closer to the prior, and
# then the prior is a better place to draw from. Put both on the table: how well the model sees (reconstruction), and how
# well it dreams (draw z from N(0, I), decode, and measure the distance to the nearest real frame). With beta = 0 it is the
# plain autoencoder of lesson 02. Give that one a fair chance, too: draw from a Gaussian fitted to its codes.

# %%
betas = [0.0, 1.0, 3.0, 10.0, 30.0]
swept = {beta: train(beta=beta, steps=600) for beta in betas}
noise = torch.randn(300, LATENTS, generator=torch.Generator().manual_seed(3))


def dream_distance(vae: VAE, z: Tensor) -> float:
    """Median distance of decoded z (N, Z) to the nearest real frame."""
    return nearest_distance(vae.decode(z).sigmoid(), torch.cat([frames, held_out])).median().item()


codes = swept[0.0].encode(frames)[0]
fitted = codes.mean(0) + noise @ torch.linalg.cholesky(codes.T.cov()).T
fair = dream_distance(swept[0.0], fitted)
blur = nearest_distance(mean_frame, frames).item()

fig, (left, right) = plots.figure(1, 2, width=4.4, height=2.8)
plots.curve(
    left, range(len(betas)), torch.tensor([error(v) for v in swept.values()]), "learned model"
)
dreams = torch.tensor([dream_distance(v, noise) for v in swept.values()])
plots.curve(right, range(len(betas)), dreams, "learned model", "z from the prior")
references = {
    "autoencoder": (fair, "beta = 0, z from a fitted Gaussian"),
    "mean frame": (blur, "mean frame"),
}
for method, (height, label) in references.items():
    color, style = plots.METHODS[method]
    right.axhline(height, color=color, linestyle=style, label=label)
left.set(title="Seeing: worse with beta", ylabel="held-out error / mean frame's", yscale="log")
right.set(title="Dreaming: best in between", ylabel="distance to the nearest real frame")
right.set_ylim(0)
right.legend(fontsize=7, loc="lower left")
for axis in (left, right):
    axis.set_xticks(range(len(betas)), [f"{beta:g}" for beta in betas])
    axis.set_xlabel("beta")
plt.show()

# %%
fig, axes = plots.figure(4, 1, width=7.6, height=0.85)
plots.frames(axes[0], held_out[:9], "real frames")
for axis, beta in zip(axes[1:], [0.0, 1.0, 3.0], strict=True):
    plots.frames(axis, swept[beta].decode(noise[:9]).sigmoid(), f"dreams,\nbeta {beta:g}")
axes[0].set_title(
    "Draw z from the prior, decode: beta = 0 never learned where to look", fontsize=10
)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(f"seeing: beta 0 beats beta 3: {error(swept[0.0]) < error(swept[3.0])}")
print(f"dreaming: beta 3 beats beta 0: {bool(dreams[2] < dreams[0])}")
print(f"beta 30 dreams the mean frame, to 10 %: {bool(abs(dreams[4] - blur) < 0.1 * blur)}")

# %% [markdown]
# The dreams are not perfect. Some are rods, some are ghosts from off the ring, at any beta. The autoencoder with its fitted
# Gaussian is a fair rival: at beta = 1 you only draw level with it. This is one dataset, one small network and one seed,
# and says nothing of the best beta for another. What it shows is the trade. In a world model it
# weighs more: there the prior is where *imagination* draws its z. A model that sees perfectly and cannot dream is of no use
# to a planner.
#
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | mean over pixels | all KLs near 0, every frame drawn alike, and a loss that looks small and healthy |
# | mean over latents in the KL | no collapse, but beta is really beta / Z, and the "ELBO" breaks its ceiling |
# | KL(p, q) for KL(q, p) | the encoder keeps std too large; against the linear model you never touch the evidence |
# | log-variance taken for std | negative "std", nan within a few updates, or a KL below 0 |
# | log(sigmoid(x)) in two steps | nan or infinity as soon as the model is sure of a pixel |
# | free nats per sample | every frame sits at the floor, also those with little to say |
# | reading the total KL only | one busy latent hides three silent ones: look at each |
#
# ## Links
#
# - Kingma and Welling, *Auto-Encoding Variational Bayes*, arXiv:1312.6114: the ELBO, and the KL in appendix B.
# - Kingma and others, *Improving Variational Inference with Inverse Autoregressive Flow*, arXiv:1606.04934: free nats,
#   equation 15.
# - Bowman and others, *Generating Sentences from a Continuous Space*, arXiv:1511.06349: collapse, and warm-up against it.
# - Lucas, Tucker, Grosse and Norouzi, *Don't Blame the ELBO*, arXiv:1911.02469: collapse in the linear model that you used.
# - Alemi and others, *Fixing a Broken ELBO*, arXiv:1711.00464: the trade between seeing and dreaming, drawn as a curve.
# - Hafner and others, *Dream to Control*, arXiv:1912.01603: this loss at work in a world model, with free nats.
#
# **Next.** You can encode a frame and charge for it. Lesson 05 adds what makes it a *world*: an action, a next latent, and a
# reward, as two more terms of the same bound.
