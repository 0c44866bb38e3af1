# %% [markdown]
# # 03 Reparameterization: gradients through a roll of the dice
#
# **Claim.** Move the randomness out of the way and a random draw has a gradient, one that is many times less noisy than
# the one you get by trial and error.

# %%
import torch
from torch import Tensor

from wmcourse.exercises import check, hint

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

# %% [markdown]
# Text.

# %% exercise="reparameterize"
def reparameterize(mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
    """A draw from N(mean, std²) through which gradients flow.

    Args:
        mean: (..., Z).
        std: standard deviation, above 0, (..., Z).
        noise: standard normal numbers, (..., Z).

    Returns:
        z, (..., Z).
    """
    ### BEGIN SOLUTION
    return mean + std * noise
    ### END SOLUTION

# %%
# NBVAL_CHECK_OUTPUT
reparameterize = check("reparameterize", reparameterize)

# %% [markdown]
# The end.
