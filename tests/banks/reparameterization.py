"""Answers to lesson 03's exercises."""

import torch
import torch.nn.functional as F

from tests.banks.bank import CONTRACT, Bank

reparameterize = Bank("reparameterize")
STRETCH = "stretched by the standard deviation"


@reparameterize.wrong("variance for std", STRETCH, "stretched by the variance")
def _(mean, std, noise):
    return mean + std**2 * noise


@reparameterize.wrong("takes std for a variance", STRETCH, "square root of std")
def _(mean, std, noise):
    return mean + std.sqrt() * noise


@reparameterize.wrong("takes std for a log-std", STRETCH, "std is not a logarithm")
def _(mean, std, noise):
    return mean + std.exp() * noise


@reparameterize.wrong("takes std for a log-variance", STRETCH, "not a log-variance")
def _(mean, std, noise):
    return mean + (std / 2).exp() * noise


@reparameterize.wrong("sign of the noise", STRETCH, "sign of the noise")
def _(mean, std, noise):
    return mean - std * noise


@reparameterize.wrong("forgets std", STRETCH, "where does std come in")
def _(mean, std, noise):
    return mean + noise + 0 * std


@reparameterize.wrong("samples with torch.normal", CONTRACT, "carries no gradient")
def _(mean, std, noise):
    return torch.normal(mean.detach(), std.detach())


@reparameterize.wrong("draws its own noise", "no dice of its own", "do you draw your own")
def _(mean, std, noise):
    return mean + std * torch.randn_like(std)


@reparameterize.wrong("returns the mean", "no dice of its own", "is noise used")
def _(mean, std, noise):
    return mean + 0 * std * noise


@reparameterize.wrong("forgets the mean", "noise of 0 gives the mean", "should sit at the mean")
def _(mean, std, noise):
    return 0 * mean + std * noise


@reparameterize.wrong("detaches std", "gradients reach mean and std", "do not reach std")
def _(mean, std, noise):
    return mean + std.detach() * noise


@reparameterize.wrong("detaches mean", "gradients reach mean and std", "do not reach mean")
def _(mean, std, noise):
    return mean.data + std * noise


@reparameterize.wrong("edits the noise in place", CONTRACT, "edited in place")
def _(mean, std, noise):
    with torch.no_grad():
        noise *= std
    return mean + noise + 0 * std


@reparameterize.wrong("returns numpy", CONTRACT, "should be a torch tensor")
def _(mean, std, noise):
    return (mean + std * noise).detach().numpy()


@reparameterize.wrong("forgets to return", CONTRACT, "forget to return")
def _(mean, std, noise):
    mean + std * noise  # pyright: ignore[reportUnusedExpression]


@reparameterize.wrong("float64", CONTRACT, "should be float32")
def _(mean, std, noise):
    return mean.double() + std * noise


@reparameterize.wrong("one number a row", CONTRACT, "should have shape")
def _(mean, std, noise):
    return (mean + std * noise).sum(-1)


@reparameterize.wrong("arguments in another order", "noise of 0 gives the mean", "should sit at the mean")
def _(std, mean, noise):
    return mean + std * noise


@reparameterize.right
def by_methods(mean, std, noise):
    return noise.mul(std).add(mean)


@reparameterize.right
def by_addcmul(mean, std, noise):
    return torch.addcmul(mean, std, noise)


pathwise_gradient = Bank("pathwise_gradient")
MEAN, STD = "part for the mean", "part for std"


@pathwise_gradient.wrong("swapped", MEAN, "swapped")
def _(slope, noise):
    return slope * noise, slope


@pathwise_gradient.wrong("averaged over samples", CONTRACT, "should have shape")
def _(slope, noise):
    return slope.mean(), (slope * noise).mean()


@pathwise_gradient.wrong("averaged, then spread out again", MEAN, "wanted per sample")
def _(slope, noise):
    return slope.mean().expand_as(slope), (slope * noise).mean().expand_as(slope)


@pathwise_gradient.wrong("slope for both", STD, "when std grows")
def _(slope, noise):
    return slope, slope


@pathwise_gradient.wrong("noise squared", STD, "linear in std")
def _(slope, noise):
    return slope, slope * noise**2


@pathwise_gradient.wrong("noise without slope", STD, "where is the slope")
def _(slope, noise):
    return slope, noise


@pathwise_gradient.wrong("size of the noise only", STD, "sign matters")
def _(slope, noise):
    return slope, slope * noise.abs()


@pathwise_gradient.wrong("divides by the noise", STD, "multiplies")
def _(slope, noise):
    return slope, slope / noise


@pathwise_gradient.wrong("one tensor for both", CONTRACT, "the result should be a tuple of 2")
def _(slope, noise):
    return torch.stack([slope, slope * noise])


@pathwise_gradient.right
def as_a_list(slope, noise):
    return [slope.clone(), noise * slope]


@pathwise_gradient.right
def by_autograd(slope, noise):
    mean, std = torch.zeros_like(slope, requires_grad=True), torch.ones_like(slope, requires_grad=True)
    return torch.autograd.grad((slope * (mean + std * noise)).sum(), [mean, std])


score_function_gradient = Bank("score_function_gradient")
SCORE_MEAN, SCORE_STD = "the score of the mean", "the score of std"


@score_function_gradient.wrong("std for variance", SCORE_MEAN, "divided by std once")
def _(value, mean, std, z):
    u = (z - mean) / std
    return value * u, value * (u**2 - 1) / std


@score_function_gradient.wrong("sign", SCORE_MEAN, "sign is turned around")
def _(value, mean, std, z):
    u = (mean - z) / std
    return value * u / std, value * (u**2 - 1) / std


@score_function_gradient.wrong("value forgotten", SCORE_MEAN, "where does f(z) come in")
def _(value, mean, std, z):
    u = (z - mean) / std
    return u / std, (u**2 - 1) / std


@score_function_gradient.wrong("unit variance", SCORE_MEAN, "not divided by std at all")
def _(value, mean, std, z):
    return value * (z - mean), value * ((z - mean) ** 2 - 1)


@score_function_gradient.wrong("a half left over", SCORE_MEAN, "1/2")
def _(value, mean, std, z):
    u = (z - mean) / std
    return value * u / std / 2, value * (u**2 - 1) / std


@score_function_gradient.wrong("-log std forgotten", SCORE_STD, "-1 is missing")
def _(value, mean, std, z):
    u = (z - mean) / std
    return value * u / std, value * u**2 / std


@score_function_gradient.wrong("score of log std", SCORE_STD, "score of the variance, or of log std")
def _(value, mean, std, z):
    u = (z - mean) / std
    return value * u / std, value * (u**2 - 1)


@score_function_gradient.wrong("score of the variance", SCORE_STD, "score of the variance: std itself")
def _(value, mean, std, z):
    u = (z - mean) / std
    return value * u / std, value * (u**2 - 1) / (2 * std**2)


@score_function_gradient.wrong("centers the values by their mean", SCORE_MEAN, "is your log-density the normal one")
def _(value, mean, std, z):
    u, value = (z - mean) / std, value - value.mean()
    return value * u / std, value * (u**2 - 1) / std


@score_function_gradient.wrong("averages", CONTRACT, "should have shape")
def _(value, mean, std, z):
    u = (z - mean) / std
    return (value * u / std).mean(), (value * (u**2 - 1) / std).mean()


@score_function_gradient.right
def by_autograd_of_log_prob(value, mean, std, z):
    means = mean.detach().expand_as(z).clone().requires_grad_()
    stds = std.detach().expand_as(z).clone().requires_grad_()
    log_prob = torch.distributions.Normal(means, stds).log_prob(z)
    return torch.autograd.grad((value * log_prob).sum(), [means, stds])


@score_function_gradient.right
def expanded(value, mean, std, z):
    d = z - mean
    return value * d / std**2, value * (d**2 / std**3 - 1 / std)


leave_one_out = Bank("leave_one_out")
TWO, OTHERS = "two samples", "N - 1"


@leave_one_out.wrong("mean of all", TWO, "itself is in its own baseline")
def _(value):
    return value - value.mean()


@leave_one_out.wrong("the baseline alone", TWO, "only the baseline")
def _(value):
    return (value.sum() - value) / (len(value) - 1)


@leave_one_out.wrong("sign", TWO, "sign is turned around")
def _(value):
    return (value.sum() - value) / (len(value) - 1) - value


@leave_one_out.wrong("divides by N", TWO, "how many others")
def _(value):
    return value - (value.sum() - value) / len(value)


@leave_one_out.wrong("standardizes", TWO, "simply the other one")
def _(value):
    return (value - value.mean()) / value.std()


@leave_one_out.wrong("the neighbor", OTHERS, "only the sample before")
def _(value):
    return value - value.roll(1)


@leave_one_out.wrong("nothing", TWO, "nothing is subtracted")
def _(value):
    return value.clone()


@leave_one_out.wrong("in place", CONTRACT, "edited in place")
def _(value):
    value -= (value.sum() - value) / (len(value) - 1)
    return value


@leave_one_out.right
def by_loop(value):
    rows = [value[i] - torch.cat([value[:i], value[i + 1 :]]).mean() for i in range(len(value))]
    return torch.stack(rows)


@leave_one_out.right
def by_scaling(value):
    n = len(value)
    return n / (n - 1) * (value - value.mean())


straight_through = Bank("straight_through")
ONE_HOT, GUMBEL, SLOPE = "one-hot vector", "Gumbel-max", "probabilities' own"


def gumbel(uniform):
    return -torch.log(-torch.log(uniform))


def hot(scores):
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).float()


@straight_through.wrong("no gradient", CONTRACT, "carries no gradient")
def _(logits, uniform):
    return hot(logits + gumbel(uniform))


@straight_through.wrong("the probabilities", ONE_HOT, "is the soft sample returned")
def _(logits, uniform):
    return logits.softmax(-1)


@straight_through.wrong("Gumbel-softmax", ONE_HOT, "is the soft sample returned")
def _(logits, uniform):
    return (logits + gumbel(uniform)).softmax(-1)


@straight_through.wrong("detaches nothing", ONE_HOT, "is the soft sample returned")
def _(logits, uniform):
    return hot(logits + gumbel(uniform)) + logits.softmax(-1)


@straight_through.wrong("argmax without noise", GUMBEL, "where is the dice roll")
def _(logits, uniform):
    probs = logits.softmax(-1)
    return hot(logits) + (probs - probs.detach())


@straight_through.wrong("sign of the Gumbel noise", GUMBEL, "sign of the Gumbel")
def _(logits, uniform):
    probs = logits.softmax(-1)
    return hot(logits - gumbel(uniform)) + (probs - probs.detach())


@straight_through.wrong("uniform noise as it is", GUMBEL, "added as they are")
def _(logits, uniform):
    probs = logits.softmax(-1)
    return hot(logits + uniform) + (probs - probs.detach())


@straight_through.wrong("noise on the probabilities", GUMBEL, "belongs to the logits")
def _(logits, uniform):
    probs = logits.softmax(-1)
    return hot(probs + gumbel(uniform)) + (probs - probs.detach())


@straight_through.wrong("ignores the logits", GUMBEL, "only the noise decides")
def _(logits, uniform):
    probs = logits.softmax(-1)
    return hot(gumbel(uniform)) + (probs - probs.detach())


@straight_through.wrong("draws its own noise", GUMBEL, "should be argmax")
def _(logits, uniform):
    probs = logits.softmax(-1)
    return hot(logits + gumbel(torch.rand_like(uniform))) + (probs - probs.detach())


@straight_through.wrong("the gradient of the logits", SLOPE, "gradient of the logits")
def _(logits, uniform):
    return hot(logits + gumbel(uniform)) + (logits - logits.detach())


@straight_through.wrong("the gradient of Gumbel-softmax", SLOPE, "another estimator")
def _(logits, uniform):
    soft = (logits + gumbel(uniform)).softmax(-1)
    return hot(soft) + (soft - soft.detach())


@straight_through.wrong("softmax over the batch", SLOPE, "wrong axis")
def _(logits, uniform):
    probs = logits.softmax(0)
    return hot(logits + gumbel(uniform)) + (probs - probs.detach())


@straight_through.right
def detach_the_gap(logits, uniform):
    probs = torch.softmax(logits, dim=-1)
    return probs + (hot(logits + gumbel(uniform)) - probs).detach()


@straight_through.right
def exponential_race(logits, uniform):
    probs = logits.softmax(-1)
    choice = (-torch.log(uniform) / logits.exp()).argmin(-1)
    return torch.eye(logits.shape[-1])[choice] + probs - probs.detach()
