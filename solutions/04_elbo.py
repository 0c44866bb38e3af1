# %% [markdown]
# # 04 The ELBO: a bound that you can touch
#
# **Claim.** The ELBO never exceeds the log-probability of your data, touches it when the encoder tells the truth, and falls
# silent when one word in your loss is wrong.
#
# Here is a variational autoencoder for pendulum frames: an encoder, a random latent z, a decoder, and a loss of two terms.
# You find this loss in many tutorials. Train it.

# %%
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
)
from wmcourse.exercises import check, hint
from wmcourse.nets import fit
from wmcourse.reparameterization import reparameterize

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

LATENTS = 4
frames = frames_to_float(collect_clips(600, 1, seed=0).frames[:, 0])  # (600, 1, 32, 32), ink = 1
held_out = frames_to_float(collect_clips(300, 1, seed=100_000).frames[:, 0])
held_out = held_out[nearest_distance(held_out, frames) > 0]  # no exact copy of a training frame

# %%
vae = VAE(MLPEncoder(2 * LATENTS), MLPDecoder(LATENTS))
generator = torch.Generator().manual_seed(0)


def tutorial_loss() -> Tensor:
    x = frames[torch.randint(len(frames), (64,), generator=generator)]
    mean, std = vae.encode(x)
    z = reparameterize(mean, std, torch.randn(64, LATENTS, generator=generator))
    reconstruction = F.binary_cross_entropy_with_logits(vae.decode(z), x)
    kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(-1).mean()
    return reconstruction + kl


losses = fit(vae.parameters(), tutorial_loss, steps=500, learning_rate=3e-3, label="tutorial")

# %%
with torch.no_grad():
    drawn = vae.decode(vae.encode(held_out[:10])[0]).sigmoid()
fig, (left, top) = plots.figure(1, 2, width=5.2, height=2.2)
left.plot(losses, color=plots.METHODS["collapsed"][0])
left.set(title="The loss falls", xlabel="update", ylabel="loss")
plots.frames(top, torch.cat([held_out[:10], drawn]).reshape(2, 10, 32, 32).transpose(1, 2).reshape(1, 1, 32 * 2, 320)
             if False else torch.cat([held_out[:10], drawn], 2))
top.set(title="Real frames above, what the model draws below")
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(f"the loss fell by more than half: {bool(losses[-1] < losses[0] / 2)}")
print(f"all ten drawings are alike to 1 % of full ink: {bool(drawn.std(0).max() < 0.01)}")
