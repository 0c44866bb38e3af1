# %% [markdown]
# # 03 Reparameterization: gradients through a roll of the dice
#
# **Claim.** Move the randomness out of the way, and a random draw has a gradient that is many times less noisy than the
# one you get by trial and error.
#
# You hold a pendulum that starts half a radian off the top. For half a second you push with one torque, drawn from a
# normal distribution. Which mean and which spread keep the cost low? To answer by gradient descent you need the
# gradient of an average over random draws. Here is the first idea that everybody has.

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from wmcourse import plots
from wmcourse.exercises import check, hint

torch.manual_seed(0)
torch.set_num_threads(1)  # small models run fastest on one thread

mean = torch.tensor(0.0, requires_grad=True)
std = torch.tensor(0.4, requires_grad=True)
torque = torch.normal(mean.expand(1000), std.expand(1000))  # 1000 random torques
(torque**2).mean().backward()  # any loss at all

# %%
# NBVAL_CHECK_OUTPUT
print(f"gradient of the mean: {mean.grad.item()}, gradient of std: {std.grad.item()}")

# %% [markdown]
# No error, no warning, and gradients of exactly zero. The loss is E[torque²] = mean² + std², whose gradient with respect
# to std is 0.8. `torch.normal` rolled its dice inside, and nothing that comes out remembers how it depends on `mean` and
# `std`. A world model trained like this learns a decoder and leaves its encoder as it was. The loss still falls. This is
# why the bug lives long.
#
# **What you will be able to do**
#
# - write a random draw through which gradients flow, and say where they are cut;
# - derive two estimators of the gradient of an expectation, and measure the bias and the variance of each;
# - know when the better one is wrong;
# - pass a gradient through a categorical draw, as the RSSM of lesson 07 will need.
#
# **Time:** about 60 minutes. **Before:** lesson 01.
#
# ## The idea
#
# A normal number with mean 3 and standard deviation 2 is a standard normal number, stretched by 2 and shifted by 3. So
# roll the dice first, with no parameter anywhere near them. Then stretch and shift. Stretching and shifting are ordinary
# arithmetic, and arithmetic has gradients. The dice have become an input, like data.
#
# $$ z = \mu + \sigma \odot \varepsilon, \qquad \varepsilon \sim \mathcal{N}(0, I) $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $\mu$ | `mean` | (..., Z) |
# | $\sigma$, a standard deviation, not a variance | `std` | (..., Z) |
# | $\varepsilon$ | `noise` | (..., Z) |
# | $z$ | the result | (..., Z) |
#
# Write it. The noise comes in as an argument, so that the same noise gives the same z.


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
# Try the opening example again, through your function. The exact gradients are 2 mean = 0 and 2 std = 0.8.

# %%
generator = torch.Generator().manual_seed(0)
mean.grad = std.grad = None
torque = reparameterize(mean.expand(1000), std.expand(1000), torch.randn(1000, generator=generator))
(torque**2).mean().backward()

# %%
# NBVAL_CHECK_OUTPUT
print(f"gradient of std is within 10 % of 0.8: {abs(std.grad.item() - 0.8) < 0.08}")
print(f"gradient of the mean is within 0.1 of 0: {abs(mean.grad.item()) < 0.1}")

# %% [markdown]
# ## A real question to ask: the pendulum
#
# The gradient of a square is a toy. Here is the pendulum's own cost: hold one torque for ten steps (half a second) from
# 0.5 rad off the top, and add up angle² + 0.1 velocity² + 0.001 torque². The physics is written in torch, so that it can
# be differentiated. First make sure that it is the physics of Gymnasium's Pendulum-v1.

# %%
START, STEPS = 0.5, 10  # radian off the top; steps of 0.05 s


def swing(torque: Tensor) -> tuple[Tensor, Tensor]:
    """Hold each torque (N,), in newton meter, for STEPS steps from rest at START: the last angle and the cost, (N,)."""
    push = torque.clamp(-2, 2)
    angle, velocity = torch.full_like(torque, START), torch.zeros_like(torque)
    cost = torch.zeros_like(torque)
    for _ in range(STEPS):
        wrapped = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
        cost = cost + wrapped**2 + 0.1 * velocity**2 + 0.001 * push**2
        velocity = (velocity + (15 * torch.sin(angle) + 3 * push) * 0.05).clamp(-8, 8)
        angle = angle + velocity * 0.05
    return angle, cost


def pendulum_cost(torque: Tensor) -> Tensor:
    """The cost of holding each torque: (N,) to (N,)."""
    return swing(torque)[1]


def simulator_cost(torque: float) -> float:
    """The same by Gymnasium."""
    env = gym.make("Pendulum-v1")
    env.reset(seed=0)
    env.unwrapped.state = torch.tensor([START, 0.0]).numpy()
    return -sum(float(env.step([torque])[1]) for _ in range(STEPS))


torques = torch.linspace(-2.5, 2.5, 11)
gap = max(abs(pendulum_cost(t[None]).item() - simulator_cost(t.item())) for t in torques)

# %%
# NBVAL_CHECK_OUTPUT
print(f"torch and Gymnasium agree on the cost to 1e-4: {gap < 1e-4}")

# %% [markdown]
# ## Two gradients for one average
#
# Let f be the cost and z the torque. You want the gradient of $J(\mu, \sigma) = \mathbb{E}_{z \sim \mathcal{N}(\mu,
# \sigma^2)}[f(z)]$.
#
# **Through the path.** Write z = mean + std * noise. The average is now over the noise, which knows no parameters, so the
# gradient moves inside, and the chain rule does the rest: move the mean a little, z moves; z moves, f moves by its slope.
#
# $$ \nabla_\mu J = \mathbb{E}\Big[f'(z) \frac{\partial z}{\partial \mu}\Big], \qquad
#    \nabla_\sigma J = \mathbb{E}\Big[f'(z) \frac{\partial z}{\partial \sigma}\Big] $$
#
# Your function receives $f'(z)$ as `slope` (N,) and $\varepsilon$ as `noise` (N,). It returns one estimate per sample for
# each parameter: no averaging yet, because soon you will look at how much the samples disagree.


# %% exercise="pathwise_gradient"
def pathwise_gradient(slope: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Per-sample gradients of f(mean + std * noise) with respect to mean and to std, by the chain rule.

    Args:
        slope: f'(z) at every sample, (N,).
        noise: the noise that made z, (N,).

    Returns:
        Two tensors: d f / d mean, (N,), and d f / d std, (N,).
    """
    ### BEGIN SOLUTION
    return slope, slope * noise
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
pathwise_gradient = check("pathwise_gradient", pathwise_gradient)

# %% [markdown]
# **By trial and error.** Suppose f has no slope to offer: it is a game, a robot, a person. Then leave f alone and ask
# the distribution. How would the chance of drawing this very z change? Push the mean towards the draws that had a large
# f, away from the others. This is the *score function* estimator. With a policy in place of the normal distribution it is
# called REINFORCE.
#
# $$ \nabla_\theta J = \mathbb{E}\big[f(z)\, \nabla_\theta \log \mathcal{N}(z; \mu, \sigma^2)\big], \qquad
#    \log \mathcal{N}(z; \mu, \sigma^2) = -\log \sigma - \frac{(z - \mu)^2}{2 \sigma^2} + \text{const} $$
#
# Differentiate the log-density by $\mu$ and by $\sigma$ on paper, with z held fixed. `value` holds $f(z)$, shape (N,).


# %% exercise="score_function_gradient"
def score_function_gradient(
    value: Tensor, mean: Tensor, std: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Per-sample score function (REINFORCE) gradients of E[f(z)], z ~ N(mean, std²).

    Args:
        value: f(z) at every sample, (N,).
        mean: scalar tensor.
        std: scalar tensor, above 0.
        z: the samples, (N,).

    Returns:
        Two tensors: the estimates with respect to mean, (N,), and to std, (N,).
    """
    ### BEGIN SOLUTION
    standardized = (z - mean) / std
    return value * standardized / std, value * (standardized**2 - 1) / std
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
score_function_gradient = check("score_function_gradient", score_function_gradient)

# %% [markdown]
# **An honest opponent.** Nobody uses the bare score function. The cost here is always positive, so every draw, good or
# bad, shouts "more of me" or "less of me" at full voice. Compare each draw with the others instead: subtract the mean of
# the *other* draws. A draw must not be part of its own baseline. If it is, the estimate becomes biased.


# %% exercise="leave_one_out"
def leave_one_out(value: Tensor) -> Tensor:
    """Each value less the mean of all the others.

    Args:
        value: (N,), N at least 2.

    Returns:
        value_i - mean of value_j over j != i, (N,).
    """
    ### BEGIN SOLUTION
    others = (value.sum() - value) / (len(value) - 1)
    return value - others
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
leave_one_out = check("leave_one_out", leave_one_out)

# %% [markdown]
# ## The experiment
#
# Both estimators see the same 200,000 draws at mean 0 and std 0.4. In one dimension the exact gradient is a sum over a
# fine grid, so you can ask two questions of each: is it right on average, and how far does one sample stray?

# %%
MEAN, STD, SAMPLES = torch.tensor(0.0), torch.tensor(0.4), 200_000


def exact_gradient(f) -> tuple[float, float]:
    """d E[f(z)] / d mean and / d std at (MEAN, STD), by a sum over a fine grid in float64."""
    z = torch.linspace(-6, 6, 400_001, dtype=torch.float64)
    u = (z - MEAN) / STD
    weight = torch.exp(-0.5 * u**2) / (STD * (2 * torch.pi) ** 0.5) * (z[1] - z[0]) * f(z)
    return (weight * u / STD).sum().item(), (weight * (u**2 - 1) / STD).sum().item()


def estimates(f, samples: int, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
    """Per-sample gradient estimates of each method on the same draws."""
    noise = torch.randn(samples, generator=generator)
    z = reparameterize(MEAN.expand(samples), STD.expand(samples), noise).requires_grad_()
    value = f(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    z, value = z.detach(), value.detach()
    return {
        "reparameterized": pathwise_gradient(slope, noise),
        "score function": score_function_gradient(value, MEAN, STD, z),
        "score function with baseline": score_function_gradient(leave_one_out(value), MEAN, STD, z),
    }


def report(f) -> dict[str, list[Tensor]]:
    """Print each method's error in standard errors; return its variances."""
    exact, found = exact_gradient(f), {}
    for method, parts in estimates(f, SAMPLES, torch.Generator().manual_seed(1)).items():
        within = all(
            abs(part.mean() - e) < 3 * part.std() / SAMPLES**0.5
            for part, e in zip(parts, exact, strict=True)
        )
        print(f"{method:<29} within three standard errors of the exact gradient: {within}")
        found[method] = [part.var() for part in parts]
    return found


# %%
# NBVAL_CHECK_OUTPUT
variance = report(pendulum_cost)
print("\nvariance, in units of the reparameterized estimate's")
for i, name in enumerate(["mean", "std"]):
    for method in ["score function", "score function with baseline"]:
        ratio = (variance[method][i] / variance["reparameterized"][i]).item()
        print(f"d/d{name}: {method:<28} about {float(f'{ratio:.1g}'):g}, at least 20: {ratio > 20}")

# %% [markdown]
# All three are right on average. They differ in what a single draw is worth. The bare score function is about two thousand
# times noisier for the mean and fifty times for std: it needs that many times more draws for the same precision. The
# baseline buys back most of it, and on the gradient of std it brings the gap down to about ten. So the honest sentence is:
# through the path, one sample says what ten to a hundred say by trial and error *with* a good baseline.
#
# In one dimension that is. The score function's variance grows with the number of dimensions that are drawn at once,
# because every dimension's noise disturbs every other's estimate. A latent z with 30 numbers makes the gap wider.

# %%
counts = [4, 16, 64, 256, 1024]
found = {method: [] for method in variance}  # 300 estimates for each number of draws
generator = torch.Generator().manual_seed(2)
for count in counts:
    repeats = [estimates(pendulum_cost, count, generator) for _ in range(300)]
    for method in found:
        found[method].append(torch.stack([parts[method][0].mean() for parts in repeats]))

fig, (left, right) = plots.figure(1, 2, width=5.2, height=3.2)
for row, (method, by_count) in enumerate(found.items()):
    jitter = row + 0.5 * (torch.rand(300, generator=generator) - 0.5)
    left.plot(by_count[2], jitter, ".", markersize=3, color=plots.METHODS[method][0])
    plots.curve(right, counts, torch.stack(by_count).std(1), method)
left.axvline(exact_gradient(pendulum_cost)[0], color=plots.METHODS["exact"][0], linewidth=1)
left.set_yticks(range(3), ["through\nthe path", "score\nfunction", "with\nbaseline"])
left.set(title="Each dot: the average of 64 draws", xlabel="estimate of d cost / d mean")
left.invert_yaxis()
right.set(title="The gap stays at every number of draws", xscale="log", yscale="log")
right.set(xlabel="draws", ylabel="standard deviation of the estimate")
right.legend(fontsize=7)
plt.show()

# %% [markdown]
# The left panel is the one to remember. The black line is the exact gradient. One blue dot is worth a crowd of the
# others.
#
# ## When the better one is wrong
#
# The path needs a slope. Replace the cost by a prize: nothing to pay if the pendulum ends within 1.8 rad of the top, 1 if
# it does not. Such a prize is flat almost everywhere, so its slope is 0 almost everywhere. The jump, where everything
# happens, has no slope at all.

# %%
REACH = 1.8  # radian


def missed_prize(torque: Tensor) -> Tensor:
    """1 where the pendulum ends out of reach, 0 where it wins: (N,)."""
    lost = (swing(torque)[0].abs() > REACH).to(torque.dtype)
    return lost + 0 * torque  # a slope of 0 for autograd to find


# %%
# NBVAL_CHECK_OUTPUT
variance = report(missed_prize)
print("variance of the reparameterized estimate:", variance["reparameterized"][0].item())

# %% [markdown]
# The reparameterized estimate is exactly 0, every time, with no variance and no warning. Low variance is not enough. The score function does not care
# and stays right. Remember this in lesson 11, where a policy learns through an imagined reward: a reward that jumps gives
# no gradient, and one learned by a smooth network gives the network's gradient, which is something else again.
#
# ## Categorical draws
#
# A one-hot draw jumps, too. The RSSM of lesson 07 can use latents that are one-hot vectors, and there is a trick that
# keeps them trainable. Forward, hand on the one-hot draw. Backward, pretend that you had handed on the probabilities:
#
# $$ y = \text{one\_hot}(k) + p - \text{stop}(p), \qquad p = \text{softmax}(\ell), \qquad
#    k = \arg\max_i \big(\ell_i - \log(-\log u_i)\big) $$
#
# Here $\ell$ is `logits` (..., K), $u$ is `uniform` (..., K), numbers in (0, 1), and stop means `detach()`. The argmax
# over logits plus this noise is a draw from softmax(logits). It is called the Gumbel-max trick, and it is
# reparameterization once more: the dice come first.


# %% exercise="straight_through"
def straight_through(logits: Tensor, uniform: Tensor) -> Tensor:
    """A one-hot draw from softmax(logits) with the gradient of the probabilities.

    Args:
        logits: (..., K).
        uniform: numbers in (0, 1), (..., K).

    Returns:
        One-hot vectors, float, (..., K).
    """
    ### BEGIN SOLUTION
    probs = logits.softmax(-1)
    choice = (logits - torch.log(-torch.log(uniform))).argmax(-1)
    one_hot = torch.nn.functional.one_hot(choice, logits.shape[-1]).to(probs.dtype)
    return one_hot + (probs - probs.detach())
    ### END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
straight_through = check("straight_through", straight_through)

# %% [markdown]
# Pretending has a price: bias. Let the latent pick one of five torques, and look at the pendulum's cost. With five
# choices the exact gradient of the average cost is a sum of five terms, so the bias can be measured. The straight line
# through the same five torques is the control: there, pretending is exact.

# %%
CHOICES = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])


def bias(f) -> tuple[float, bool]:
    """Relative bias of the straight-through gradient at equal logits, and whether it points downhill."""
    logits = torch.zeros(5, requires_grad=True)
    (exact,) = torch.autograd.grad((logits.softmax(-1) * f(CHOICES)).sum(), logits)
    uniform = torch.rand(100_000, 5, generator=torch.Generator().manual_seed(3)).clamp(
        1e-6, 1 - 1e-6
    )
    picked = straight_through(logits.expand(100_000, 5), uniform) @ CHOICES
    (mean_estimate,) = torch.autograd.grad(f(picked).mean(), logits)
    return ((mean_estimate - exact).norm() / exact.norm()).item(), bool(mean_estimate @ exact > 0)


straight, _ = bias(lambda torque: 3.0 * torque)
curved, downhill = bias(pendulum_cost)

# %%
# NBVAL_CHECK_OUTPUT
print(f"a straight line: bias below 2 %: {straight < 0.02}")
print(f"the pendulum's cost: bias above 5 %: {curved > 0.05}, and still downhill: {downhill}")

# %%
logits = torch.zeros(5, requires_grad=True)
optimizer = torch.optim.Adam([logits], lr=0.1)
generator = torch.Generator().manual_seed(4)
history = []
for _ in range(150):
    uniform = torch.rand(16, 5, generator=generator).clamp(1e-6, 1 - 1e-6)
    cost = pendulum_cost(straight_through(logits.expand(16, 5), uniform) @ CHOICES).mean()
    optimizer.zero_grad()
    cost.backward()
    optimizer.step()
    history.append(logits.detach().softmax(-1))

fig, axis = plots.figure(width=5.6, height=3.2)
for i, choice in enumerate(CHOICES):
    axis.plot(torch.stack(history)[:, i], color=plt.cm.viridis(i / 4.5), label=f"{choice:+.0f} N m")
axis.set(
    title="A one-hot latent learns which torque to pick",
    xlabel="update",
    ylabel="probability",
    ylim=(0, 1.02),
)
axis.legend(title="torque", fontsize=7)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
best = CHOICES[pendulum_cost(CHOICES).argmin()].item()
learned = CHOICES[logits.argmax()].item()
print(f"cheapest of the five torques: {best:+.0f} N m; the latent picks {learned:+.0f} N m")

# %% [markdown]
# Biased and useful. On a smooth problem the estimate points downhill and that is enough; nothing here shows that it always
# does.
#
# ## What could go wrong, and how you would see it
#
# | mistake | what you see |
# |---|---|
# | drawing with `torch.normal(mean, std)` or `.sample()` | the encoder's gradients are exactly 0 or missing; `dist.rsample()` is the one that flows |
# | a variance where the standard deviation belongs | samples too wide or too narrow; check their spread against std |
# | drawing noise once and keeping it for the whole training | the loss falls, and the model fails on fresh noise |
# | a sample inside its own baseline | the gradient is a little too small, by a factor (N - 1) / N |
# | a reward or a threshold that jumps | a reparameterized gradient of 0, without any warning |
#
# ## Links
#
# - Kingma and Welling, *Auto-Encoding Variational Bayes*, arXiv:1312.6114: the trick, section 2.4.
# - Rezende, Mohamed and Wierstra, *Stochastic Backpropagation*, arXiv:1401.4082: the same idea, found independently.
# - Mohamed, Rosca, Figurnov and Mnih, *Monte Carlo Gradient Estimation in Machine Learning*, arXiv:1906.10652: all
#   estimators side by side.
# - Bengio, Léonard and Courville, *Estimating or Propagating Gradients Through Stochastic Neurons*, arXiv:1308.3432: the
#   straight-through estimator.
# - Hafner and others, *Mastering Atari with Discrete World Models*, arXiv:2010.02193: straight-through latents at work.
#
# **Next.** Lesson 04 puts your draw between an encoder and a decoder, and asks what the encoder should be punished for.
