"""Wrong and right answers to lesson 08's exercises."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from tests.banks.bank import CONTRACT, Bank

bootstrap_rows = Bank("bootstrap_rows")
PIECE, TWICE, ITSELF = "an equal piece", "with replacement", "draws for itself"


@bootstrap_rows.wrong("rounds to the nearest", PIECE, "Round down")
def _(uniform):
    return (uniform * uniform.shape[1]).round().long()


@bootstrap_rows.wrong("rounds up", PIECE, "counted from 0")
def _(uniform):
    return (uniform * uniform.shape[1]).ceil().long()


@bootstrap_rows.wrong("times N - 1", PIECE, "the last row is never drawn")
def _(uniform):
    return (uniform * (uniform.shape[1] - 1)).long()


@bootstrap_rows.wrong("times N - 1, rounded", PIECE, "half a piece each")
def _(uniform):
    return (uniform * (uniform.shape[1] - 1)).round().long()


@bootstrap_rows.wrong("k / N belongs to the row before", "up to the last row", "0 is row 0")
def _(uniform):
    count = uniform.shape[1]
    return torch.bucketize(uniform, torch.arange(1, count) / count)


@bootstrap_rows.wrong("times M", PIECE, "the number of members")
def _(uniform):
    return (uniform * len(uniform)).long()


@bootstrap_rows.wrong("a permutation", PIECE, "A bootstrap draws")
def _(uniform):
    return uniform.argsort(-1)


@bootstrap_rows.wrong("ranks", TWICE, "ranks")
def _(uniform):
    return uniform.argsort(-1).argsort(-1)


@bootstrap_rows.wrong("floats", CONTRACT, "should be int64")
def _(uniform):
    return (uniform * uniform.shape[1]).floor()


@bootstrap_rows.wrong("one bootstrap for all", PIECE, "share the first one")
def _(uniform):
    return (uniform[:1] * uniform.shape[1]).long().expand(uniform.shape)


@bootstrap_rows.wrong("draws of its own", PIECE, "row k belongs")
def _(uniform):
    return torch.randint(uniform.shape[1], uniform.shape)


@bootstrap_rows.wrong("all of the data for everyone", PIECE, "come in order")
def _(uniform):
    return torch.arange(uniform.shape[1]).expand(uniform.shape)


@bootstrap_rows.wrong("sorts", PIECE, "come in order")
def _(uniform):
    return (uniform * uniform.shape[1]).long().sort(-1).values


@bootstrap_rows.wrong("edits its input", CONTRACT, "edited")
def _(uniform):
    return uniform.mul_(uniform.shape[1]).long()


@bootstrap_rows.right
def floored(uniform):
    return torch.floor(uniform * uniform.size(-1)).to(torch.int64)


@bootstrap_rows.right
def row_by_row(uniform):
    count = uniform.shape[1]
    return torch.tensor([[min(int(u * count), count - 1) for u in row] for row in uniform])


@bootstrap_rows.right
def by_numpy(uniform):
    return torch.from_numpy((uniform.numpy() * uniform.shape[1]).astype("int64"))


batched_linear = Bank("batched_linear")
WEIGHTS, BIAS, GRADS = "own weights", "own bias", "no member sees"


@batched_linear.wrong("first member's weights", WEIGHTS, "weights of the first member")
def _(x, weight, bias):
    return x @ weight[0] + bias[:, None]


@batched_linear.wrong("averages the weights", WEIGHTS, "averaged")
def _(x, weight, bias):
    return x @ weight.mean(0) + bias[:, None]


@batched_linear.wrong("torch.nn.Linear's layout, where it fits", WEIGHTS, "transposed")
def _(x, weight, bias):
    square = weight.shape[1] == weight.shape[2]
    return x @ (weight.mT if square else weight) + bias[:, None]


@batched_linear.wrong("mixes the members by einsum", WEIGHTS, "x[m] @ weight[m]")
def _(x, weight, bias):
    return torch.einsum("mbi,nio->mbo", x, weight) + bias[:, None]


@batched_linear.wrong("first member's input", WEIGHTS, "input of the first member")
def _(x, weight, bias):
    return x[0] @ weight + bias[:, None]


@batched_linear.wrong("no bias", BIAS, "missing")
def _(x, weight, bias):
    return torch.bmm(x, weight)


@batched_linear.wrong("bias along the batch, where it fits", BIAS, "took the members")
def _(x, weight, bias):
    return x @ weight + (bias if len(x) == x.shape[1] else bias[:, None])


@batched_linear.wrong("bias along the batch, and an error where it does not fit", BIAS, "took the members")
def _(x, weight, bias):
    return x @ weight + bias


@batched_linear.wrong("first member's bias", BIAS, "first member's bias")
def _(x, weight, bias):
    return x @ weight + bias[0]


@batched_linear.wrong("subtracts the bias", BIAS, "subtracted")
def _(x, weight, bias):
    return x @ weight - bias[:, None]


@batched_linear.wrong("averages the biases", BIAS, "averaged over the members")
def _(x, weight, bias):
    return x @ weight + bias.mean(0)


@batched_linear.wrong("detaches the bias", GRADS, "gradients do not reach bias")
def _(x, weight, bias):
    return torch.baddbmm(bias.detach()[:, None], x, weight)


@batched_linear.wrong("sums over the members", CONTRACT, "which axis")
def _(x, weight, bias):
    return (x @ weight + bias[:, None]).sum(0)


@batched_linear.wrong("an activation too many", WEIGHTS, "x[m] @ weight[m]")
def _(x, weight, bias):
    return F.silu(x @ weight + bias[:, None])


@batched_linear.right
def by_einsum(x, weight, bias):
    return torch.einsum("mbi,mio->mbo", x, weight) + bias.unsqueeze(1)


@batched_linear.right
def a_loop(x, weight, bias):
    return torch.stack([x[m] @ weight[m] + bias[m] for m in range(x.shape[0])])


@batched_linear.right
def by_vmap(x, weight, bias):
    return torch.vmap(lambda a, w, b: a @ w + b)(x, weight, bias)


bounded_log_var = Bank("bounded_log_var")
NOTHING, BEYOND, SOFT, ORDER, EVERYWHERE = (
    "nothing changes",
    "far above it is high",
    "log 2 inside",
    "first high, then low",
    "a gradient everywhere",
)


@bounded_log_var.wrong("a sigmoid", NOTHING, "a sigmoid")
def _(raw, low, high):
    return low + (high - low) * torch.sigmoid(raw)


@bounded_log_var.wrong("a tanh", NOTHING, "a tanh")
def _(raw, low, high):
    return (high + low) / 2 + (high - low) / 2 * torch.tanh(raw)


@bounded_log_var.wrong("the variance", NOTHING, "not its logarithm")
def _(raw, low, high):
    below = high - F.softplus(high - raw)
    return (low + F.softplus(below - low)).exp()


@bounded_log_var.wrong("softplus of the wrong difference", NOTHING, "raw - high")
def _(raw, low, high):
    below = high - F.softplus(raw - high)
    return low + F.softplus(below - low)


@bounded_log_var.wrong("low and high swapped", NOTHING, "swapped")
def _(raw, low, high):
    below = low - F.softplus(low - raw)
    return high + F.softplus(below - high)


@bounded_log_var.wrong("only from above", BEYOND, "above low")
def _(raw, low, high):
    return high - F.softplus(high - raw)


@bounded_log_var.wrong("only from below", BEYOND, "below high")
def _(raw, low, high):
    return low + F.softplus(raw - low)


@bounded_log_var.wrong("softplus by hand", EVERYWHERE, "exp of a large number")
def _(raw, low, high):
    below = high - torch.log(1 + torch.exp(high - raw))
    return low + torch.log(1 + torch.exp(below - low))


@bounded_log_var.wrong("a clamp", SOFT, "hard clamp")
def _(raw, low, high):
    return torch.minimum(torch.maximum(raw, low), high)


@bounded_log_var.wrong("relu", SOFT, "no gradient leads back")
def _(raw, low, high):
    below = high - F.relu(high - raw)
    return low + F.relu(below - low)


@bounded_log_var.wrong("low first", ORDER, "the other way round")
def _(raw, low, high):
    above = low + F.softplus(raw - low)
    return high - F.softplus(high - above)


@bounded_log_var.wrong("bounds are constants", EVERYWHERE, "gradients do not reach")
def _(raw, low, high):
    low, high = low.detach(), high.detach()
    return low + F.softplus(high - F.softplus(high - raw) - low)


@bounded_log_var.wrong("returns raw", BEYOND, "60 beyond")
def _(raw, low, high):
    return raw + 0 * (low + high)


@bounded_log_var.wrong("sharper softplus", SOFT, "log 2 inside")
def _(raw, low, high):
    below = high - F.softplus(high - raw, beta=3)
    return low + F.softplus(below - low, beta=3)


@bounded_log_var.right
def by_logaddexp(raw, low, high):
    zero = torch.zeros_like(raw)
    below = high - torch.logaddexp(zero, high - raw)
    return low + torch.logaddexp(zero, below - low)


@bounded_log_var.right
def by_logsigmoid(raw, low, high):
    below = high + F.logsigmoid(raw - high)
    return low - F.logsigmoid(low - below)


@bounded_log_var.right
def in_one_line(raw, low, high):
    return F.softplus(high - low - F.softplus(high - raw)) + low


split_variance = Bank("split_variance")
AGREE, NOISELESS, TOTAL, SLOPES = "that agree", "without noise", "add up", "gradients reach"


@split_variance.wrong("swapped", AGREE, "swapped")
def _(mean, var):
    return var.mean(0), mean.var(0, correction=0)


@split_variance.wrong("the total first", AGREE, "is it the total")
def _(mean, var):
    return mean.var(0, correction=0) + var.mean(0), var.mean(0)


@split_variance.wrong("the total second", NOISELESS, "where aleatoric should be")
def _(mean, var):
    return mean.var(0, correction=0), var.mean(0) + mean.var(0, correction=0)


@split_variance.wrong("divides by M - 1", NOISELESS, "Divide by M")
def _(mean, var):
    return mean.var(0), var.mean(0)


@split_variance.wrong("standard deviations", AGREE, "standard deviations do not")
def _(mean, var):
    return mean.std(0, correction=0), var.mean(0).sqrt()


@split_variance.wrong("a standard deviation for epistemic", NOISELESS, "the variance is asked for")
def _(mean, var):
    return mean.std(0, correction=0), var.mean(0)


@split_variance.wrong("averages the stds", AGREE, "then squared")
def _(mean, var):
    return mean.var(0, correction=0), var.sqrt().mean(0).square()


@split_variance.wrong("takes var for a std", AGREE, "var was squared")
def _(mean, var):
    return mean.var(0, correction=0), var.square().mean(0)


@split_variance.wrong("sums", AGREE, "summed over the members")
def _(mean, var):
    return (mean - mean.mean(0)).square().sum(0), var.sum(0)


@split_variance.wrong("spread of the variances", AGREE, "look at the means")
def _(mean, var):
    return var.var(0, correction=0), var.mean(0)


@split_variance.wrong("the mean square", AGREE, "subtract the members' mean")
def _(mean, var):
    return mean.square().mean(0), var.mean(0)


@split_variance.wrong("absolute deviations", NOISELESS, "square them")
def _(mean, var):
    return (mean - mean.mean(0)).abs().mean(0), var.mean(0)


@split_variance.wrong("over the last axis", CONTRACT, "which axis")
def _(mean, var):
    return mean.var(-1, correction=0), var.mean(-1)


@split_variance.wrong("the third axis from the end", "axis 0", "counted from the end")
def _(mean, var):
    return mean.var(-3, correction=0), var.mean(-3)


@split_variance.wrong("the third axis from the end, for the noise", "axis 0", "counted from the end")
def _(mean, var):
    return mean.var(0, correction=0), var.mean(-3)


@split_variance.wrong("noise of the average", AGREE, "divided by M twice")
def _(mean, var):
    return mean.var(0, correction=0), var.mean(0) / len(var)


@split_variance.wrong("one member's noise", AGREE, "one member's variance")
def _(mean, var):
    return mean.var(0, correction=0), var[0]


@split_variance.wrong("detached", CONTRACT, "no gradient")
def _(mean, var):
    return mean.detach().var(0, correction=0), var.mean(0)


@split_variance.wrong("centers its input", CONTRACT, "in-place")
def _(mean, var):
    mean -= mean.mean(0)
    return mean.square().mean(0), var.mean(0)


@split_variance.right
def by_hand(mean, var):
    middle = sum(mean) / len(mean)
    return sum((m - middle) ** 2 for m in mean) / len(mean), sum(var) / len(var)


@split_variance.right
def by_moments(mean, var):
    mean64 = mean.double()
    return (mean64.square().mean(0) - mean64.mean(0).square()).float(), torch.mean(var, dim=0)


@split_variance.right
def unbiased_off(mean, var):
    return [torch.var(mean, dim=0, unbiased=False), var.sum(0) / var.shape[0]]


coverage = Bank("coverage")
ONE, MIXTURE, TRUTH, ENDS = "one Gaussian", "one mixture", "tell the truth", "an interval of 0 %"


@coverage.wrong("one tail", ONE, "one tail only")
def _(y, mean, std, level):
    return (torch.special.ndtr((y - mean) / std).mean(0) <= level).float().mean()


@coverage.wrong("level stds", ONE, "number of standard deviations")
def _(y, mean, std, level):
    return (((y - mean) / std).abs().mean(0) <= level).float().mean()


@coverage.wrong("level for level / 2", ONE, "within level / 2")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(0) - 0.5).abs() <= level).float().mean()


@coverage.wrong("the share outside", ONE, "share outside")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(0) - 0.5).abs() > level / 2).float().mean()


@coverage.wrong("std for a variance", ONE, "std is taken for a variance")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std.sqrt()).mean(0) - 0.5).abs() <= level / 2).float().mean()


@coverage.wrong("always 90 %", ONE, "always 90 %")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(0) - 0.5).abs() <= 0.45).float().mean()


@coverage.wrong("no absolute value", ONE, "an absolute value")
def _(y, mean, std, level):
    return (torch.special.ndtr((y - mean) / std).mean(0) - 0.5 <= level / 2).float().mean()


@coverage.wrong("percent", ONE, "in percent")
def _(y, mean, std, level):
    return 100 * ((torch.special.ndtr((y - mean) / std).mean(0) - 0.5).abs() <= level / 2).float().mean()


@coverage.wrong("a count", ONE, "a count")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(0) - 0.5).abs() <= level / 2).float().sum()


@coverage.wrong("a count in whole numbers", CONTRACT, "should be float32")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(0) - 0.5).abs() <= level / 2).sum()


@coverage.wrong("averages over the last axis", ONE, "over the last axis")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(-1) - 0.5).abs() <= level / 2).float().mean()


@coverage.wrong("averages over the third axis from the end", "axis 0", "counted from the end")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(-3) - 0.5).abs() <= level / 2).float().mean()


@coverage.wrong("moments", MIXTURE, "taken for a Gaussian")
def _(y, mean, std, level):
    total = (mean.var(0, correction=0) + std.square().mean(0)).sqrt()
    return ((torch.special.ndtr((y - mean.mean(0)) / total) - 0.5).abs() <= level / 2).float().mean()


@coverage.wrong("each member's interval", MIXTURE, "each member's own interval")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std) - 0.5).abs() <= level / 2).float().mean()


@coverage.wrong("averages mean and std", MIXTURE, "averaged first")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean.mean(0)) / std.mean(0)) - 0.5).abs() <= level / 2).float().mean()


@coverage.wrong("the first member", MIXTURE, "only the first member")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean[0]) / std[0]) - 0.5).abs() <= level / 2).float().mean()


@coverage.wrong("any member", MIXTURE, "any member")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std) - 0.5).abs() <= level / 2).any(0).float().mean()


@coverage.wrong("a share of each row", CONTRACT, "should have shape ()")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(0) - 0.5).abs() <= level / 2).float().mean(-1)


@coverage.wrong("the level itself", ONE, "the share of y")
def _(y, mean, std, level):
    return torch.tensor(level)


@coverage.wrong("a number", CONTRACT, "torch tensor")
def _(y, mean, std, level):
    return ((torch.special.ndtr((y - mean) / std).mean(0) - 0.5).abs() <= level / 2).float().mean().item()


@coverage.right
def by_two_tails(y, mean, std, level):
    below = torch.distributions.Normal(mean, std).cdf(y).mean(0)
    tail = (1 - level) / 2
    return ((below >= tail) & (below <= 1 - tail)).float().mean()


@coverage.right
def by_erf(y, mean, std, level):
    centered = torch.erf((y - mean) / std / math.sqrt(2)).mean(0)  # twice the distance from one half
    return torch.where(centered.abs() <= level, 1.0, 0.0).mean()


@coverage.right
def by_counting(y, mean, std, level):
    below = torch.special.ndtr((y - mean) / std).mean(0).flatten()
    inside = (2 * below - 1).abs() <= level
    return inside.sum() / inside.numel()


penalized_reward = Bank("penalized_reward")
SAME, COSTS, BONUS = "that agree", "costs its weight", "a bonus"


def _doubt(mean, scale):
    return (mean / scale).var(0, correction=0).mean(-1).sqrt()


@penalized_reward.wrong("sums the rewards", SAME, "summed over the members")
def _(reward, mean, scale, weight):
    return reward.sum(0) - weight * _doubt(mean, scale)


@penalized_reward.wrong("one reward for all futures", SAME, "averaged over the futures")
def _(reward, mean, scale, weight):
    return reward.mean() - weight * _doubt(mean, scale)


@penalized_reward.wrong("the third axis from the end", "axis 0", "counted from the end")
def _(reward, mean, scale, weight):
    off = (mean - mean.mean(0)) / scale
    return reward.mean(0) - weight * off.square().mean((-3, -1)).sqrt()


@penalized_reward.wrong("the second axis for the last", "axis 0", "counted from the front")
def _(reward, mean, scale, weight):
    off = (mean - mean.mean(0)) / scale
    return reward.mean(0) - weight * off.square().mean(0).mean(1).sqrt()


@penalized_reward.wrong("the members' distances, averaged", COSTS, "average their squares")
def _(reward, mean, scale, weight):
    off = (mean - mean.mean(0)) / scale
    return reward.mean(0) - weight * off.square().mean(-1).sqrt().mean(0)


@penalized_reward.wrong("the members' norms, averaged", COSTS, "mean of squares, then root")
def _(reward, mean, scale, weight):
    off = (mean - mean.mean(0)) / scale
    return reward.mean(0) - weight * off.norm(dim=-1).mean(0)


@penalized_reward.wrong("the worst member", SAME, "worst member")
def _(reward, mean, scale, weight):
    return reward.amin(0) - weight * _doubt(mean, scale)


@penalized_reward.wrong("doubt about the reward", SAME, "the reward's own spread")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * reward.std(0, correction=0)


@penalized_reward.wrong("size of the future", SAME, "the size of the future")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * (mean / scale).square().mean((0, -1)).sqrt()


@penalized_reward.wrong("plus", COSTS, "doubt is rewarded")
def _(reward, mean, scale, weight):
    return reward.mean(0) + weight * _doubt(mean, scale)


@penalized_reward.wrong("no weight", COSTS, "the weight is not used")
def _(reward, mean, scale, weight):
    return reward.mean(0) - _doubt(mean, scale)


@penalized_reward.wrong("no scale", COSTS, "the scale is not used")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * mean.var(0, correction=0).mean(-1).sqrt()


@penalized_reward.wrong("times the scale", COSTS, "multiplied by the scale")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * _doubt(mean * scale, torch.ones_like(scale))


@penalized_reward.wrong("variance over scale", COSTS, "divide it by scale²")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * (mean.var(0, correction=0) / scale).mean(-1).sqrt()


@penalized_reward.wrong("a variance", COSTS, "take its root")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * (mean / scale).var(0, correction=0).mean(-1)


@penalized_reward.wrong("divides by M - 1", COSTS, "divide by M")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * (mean / scale).var(0).mean(-1).sqrt()


@penalized_reward.wrong("mean of the stds", COSTS, "average the variances")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * (mean / scale).std(0, correction=0).mean(-1)


@penalized_reward.wrong("sum over dimensions", COSTS, "summed over the dimensions")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * (mean / scale).var(0, correction=0).sum(-1).sqrt()


@penalized_reward.wrong("the worst dimension", COSTS, "the largest dimension")
def _(reward, mean, scale, weight):
    return reward.mean(0) - weight * (mean / scale).std(0, correction=0).amax(-1)


@penalized_reward.wrong("only a penalty", BONUS, "sign of the weight")
def _(reward, mean, scale, weight):
    return reward.mean(0) - abs(weight) * _doubt(mean, scale)


@penalized_reward.wrong("no negative weight", BONUS, "taken for none")
def _(reward, mean, scale, weight):
    return reward.mean(0) - max(weight, 0.0) * _doubt(mean, scale)


@penalized_reward.wrong("each member's reward", CONTRACT, "which axis")
def _(reward, mean, scale, weight):
    return reward - weight * _doubt(mean, scale)


@penalized_reward.right
def in_steps(reward, mean, scale, weight):
    off = (mean - mean.mean(0)) / scale
    return reward.mean(0) - weight * off.pow(2).mean(dim=(0, -1)).sqrt()


@penalized_reward.right
def variance_over_scale_squared(reward, mean, scale, weight):
    doubt = torch.var(mean, 0, unbiased=False) / scale**2
    return torch.sub(reward.mean(0), doubt.mean(-1) ** 0.5, alpha=weight)


@penalized_reward.right
def by_norm(reward, mean, scale, weight):
    off = ((mean - mean.mean(0, keepdim=True)) / scale).movedim(0, -1).flatten(-2)
    return sum(reward) / len(reward) - weight * off.norm(dim=-1) / math.sqrt(off.shape[-1])


@penalized_reward.right
def guarded(reward, mean, scale, weight):
    off = (mean - mean.mean(0)) / scale
    return reward.mean(0) - weight * (off.square().mean((0, -1)) + 1e-8).sqrt()
