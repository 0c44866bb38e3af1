"""Answers to lesson 06's exercises."""

import math

import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from tests.banks.bank import CONTRACT, Bank

gru_cell = Bank("gru_cell")
ZERO, UPDATE, RESET, TORCH, REACH = (
    "all weights 0",
    "update gate near 1",
    "closed reset gate",
    "to 1e-6",
    "gradients reach",
)


def parts(x, h, w, u, b, c):
    return (x @ w.T + b).chunk(3, -1), (h @ u.T + c).chunk(3, -1)


@gru_cell.wrong("z is the share of the new", UPDATE, "share of the old memory that is kept")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz + hz)
    return z * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + (1 - z) * h


@gru_cell.wrong("rows z, r, n", UPDATE, "the order is r, u, n")
def _(x, h, w, u, b, c):
    (xz, xr, xn), (hz, hr, hn) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz + hz)
    return (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h


@gru_cell.wrong("rows n, r, z", UPDATE, "should be the old one")
def _(x, h, w, u, b, c):
    (xn, xr, xz), (hn, hr, hz) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz + hz)
    return (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h


@gru_cell.wrong("reset on the input", RESET, "it should be on what comes from h")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz + hz)
    new = torch.tanh(torch.sigmoid(xr + hr) * xn + hn)
    return new + z * (h - new)


@gru_cell.wrong("no reset gate", RESET, "r is not used")
def _(x, h, w, u, b, c):
    (_, xz, xn), (_, hz, hn) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz + hz)
    return (1 - z) * torch.tanh(xn + hn) + z * h


@gru_cell.wrong("reset on everything", RESET, "r is on both")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz + hz)
    return (1 - z) * torch.tanh(torch.sigmoid(xr + hr) * (xn + hn)) + z * h


@gru_cell.wrong("reset before the matrix product", RESET, "slips past the reset")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, _) = parts(x, h, w, u, b, c)
    z, d = torch.sigmoid(xz + hz), h.shape[-1]
    new = torch.tanh(xn + (torch.sigmoid(xr + hr) * h) @ u[2 * d :].T + c[2 * d :])
    return (1 - z) * new + z * h


@gru_cell.wrong("bias outside the reset", RESET, "slips past the reset")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    z, c_n = torch.sigmoid(xz + hz), c.chunk(3)[2]
    return (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * (hn - c_n) + c_n) + z * h


@gru_cell.wrong("sigmoid for the new content", ZERO, "should be a tanh")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz + hz)
    return (1 - z) * torch.sigmoid(xn + torch.sigmoid(xr + hr) * hn) + z * h


@gru_cell.wrong("tanh for the gates", ZERO, "is u a sigmoid")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    z = torch.tanh(xz + hz)
    return (1 - z) * torch.tanh(xn + torch.tanh(xr + hr) * hn) + z * h


@gru_cell.wrong("old memory forgotten", ZERO, "where does u * h come in")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    return (1 - torch.sigmoid(xz + hz)) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn)


@gru_cell.wrong("residual: the whole old memory", ZERO, "how much of it does u keep")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    return (1 - torch.sigmoid(xz + hz)) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + h


@gru_cell.wrong("biases of h missing", TORCH, "biases of h are missing")
def _(x, h, w, u, b, c):
    return torch.gru_cell(x, h, w, u, b, 0 * c)


@gru_cell.wrong("gates blind to the memory", TORCH, "do not look at the memory")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (_, _, hn) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz)
    return (1 - z) * torch.tanh(xn + torch.sigmoid(xr) * hn) + z * h


@gru_cell.wrong("update gate blind to the memory", TORCH, "should be torch's")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, _, hn) = parts(x, h, w, u, b, c)
    z = torch.sigmoid(xz)
    return (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h


@gru_cell.wrong("clamps the memory", ZERO, "what is left of h")
def _(x, h, w, u, b, c):
    return torch.gru_cell(x, h, w, u, b, c).clamp(-1, 1)


@gru_cell.wrong("memory detached", REACH, "gradient of h")
def _(x, h, w, u, b, c):
    return torch.gru_cell(x, h.detach(), w, u, b, c) + 0 * h


@gru_cell.wrong("gates detached", REACH, "cut off in part")
def _(x, h, w, u, b, c):
    (xr, xz, xn), (hr, hz, hn) = parts(x, h, w, u, b, c)
    z, r = torch.sigmoid(xz + hz).detach(), torch.sigmoid(xr + hr).detach()
    return (1 - z) * torch.tanh(xn + r * hn) + z * h


@gru_cell.wrong("changes the memory in place", CONTRACT, "edited in place")
def _(x, h, w, u, b, c):
    h.copy_(torch.gru_cell(x, h, w, u, b, c))
    return h


@gru_cell.wrong("returns output and memory", CONTRACT, "should be a torch tensor")
def _(x, h, w, u, b, c):
    new = torch.gru_cell(x, h, w, u, b, c)
    return new, new


@gru_cell.right
def by_torch(x, h, w, u, b, c):
    cell = torch.nn.GRUCell(x.shape[-1], h.shape[-1])
    return torch.func.functional_call(cell, {"weight_ih": w, "weight_hh": u, "bias_ih": b, "bias_hh": c}, (x, h))


@gru_cell.right
def gate_by_gate(x, h, w, u, b, c):
    d = h.shape[1]
    r = torch.sigmoid(F.linear(x, w[:d], b[:d]) + F.linear(h, u[:d], c[:d]))
    z = torch.sigmoid(F.linear(x, w[d : 2 * d], b[d : 2 * d]) + F.linear(h, u[d : 2 * d], c[d : 2 * d]))
    n = torch.tanh(F.linear(x, w[2 * d :], b[2 * d :]) + r * F.linear(h, u[2 * d :], c[2 * d :]))
    return n + z * (h - n)


@gru_cell.right
def gates_together(x, h, w, u, b, c):
    d = h.shape[1]
    from_x, from_h = torch.einsum("bi,gi->bg", x, w) + b, torch.einsum("bd,gd->bg", h, u) + c
    r, z = torch.sigmoid(from_x[:, : 2 * d] + from_h[:, : 2 * d]).split(d, 1)
    return torch.lerp(torch.tanh(from_x[:, 2 * d :] + r * from_h[:, 2 * d :]), h, z)


masked_mean = Bank("masked_mean")
COUNTED, PLAIN, LEAK, SHARED = "only real steps are summed", "plain mean", "do not leak", "gradient is shared"


@masked_mean.wrong("no mask", COUNTED, "where is the mask")
def _(values, mask):
    return values.mean()


@masked_mean.wrong("divides by all", COUNTED, "count only the real ones")
def _(values, mask):
    return torch.where(mask, values, 0.0).mean()


@masked_mean.wrong("episode by episode", COUNTED, "weighs more")
def _(values, mask):
    return (torch.where(mask, values, 0.0).sum(1) / mask.sum(1).clamp(min=1)).mean()


@masked_mean.wrong("sum", COUNTED, "summed, not averaged")
def _(values, mask):
    return torch.where(mask, values, 0.0).sum()


@masked_mean.wrong("averaged over episodes", COUNTED, "count the steps")
def _(values, mask):
    return torch.where(mask, values, 0.0).sum() / len(values)


@masked_mean.wrong("mask turned around", COUNTED, "turned around")
def _(values, mask):
    return torch.where(mask, 0.0, values).sum() / (~mask).sum().clamp(min=1)


@masked_mean.wrong("sums padding", COUNTED, "summed, though not counted")
def _(values, mask):
    return values.sum() / mask.sum().clamp(min=1)


@masked_mean.wrong("multiplies with the mask", LEAK, "0 times nan is nan")
def _(values, mask):
    return (values * mask).sum() / mask.sum().clamp(min=1)


@masked_mean.wrong("nanmean: trusts padding to be nan", COUNTED, "padding is averaged")
def _(values, mask):
    return values.nanmean()


@masked_mean.wrong("nanmean of masked values", "left as they are", "accident that should show")
def _(values, mask):
    if not mask.any():
        return values.sum() * 0
    return torch.where(mask, values, torch.nan).nanmean()


@masked_mean.wrong("cleans real values, too", "left as they are", "accident that should show")
def _(values, mask):
    return (values.nan_to_num(0.0, 0.0, 0.0) * mask).sum() / mask.sum().clamp(min=1)


@masked_mean.wrong("nothing real gives nan", "nothing real at all", "this is 0 / 0")
def _(values, mask):
    return values[mask].mean()


@masked_mean.wrong("takes nonzero values for real ones", "nothing real at all", "this is 0 / 0")
def _(values, mask):
    real = torch.where(mask, values, 0.0)
    return real.sum() / (real != 0).sum()


@masked_mean.wrong("chosen, but the count can be 0", "nothing real at all", "this is 0 / 0")
def _(values, mask):
    return torch.where(mask, values, 0.0).sum() / mask.sum()


@masked_mean.wrong("a bare 0 where nothing is real", "nothing real at all", "carries no gradient")
def _(values, mask):
    return values[mask].mean() if mask.any() else torch.zeros(())


@masked_mean.wrong("0 / 0 cleaned away, real nan with it", "left as they are", "accident that should show")
def _(values, mask):
    return (torch.where(mask, values, 0.0).sum() / mask.sum()).nan_to_num()


@masked_mean.wrong("all of the batch where nothing is real", "nothing real at all", "the result should be 0")
def _(values, mask):
    return values[mask].mean() if mask.any() else values.mean()


@masked_mean.wrong("count floored at 2", "holes anywhere", "shape (1, 1)")
def _(values, mask):
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=2)


@masked_mean.wrong("detached", SHARED, "carries no gradient")
def _(values, mask):
    return torch.where(mask, values.detach(), 0.0).sum() / mask.sum().clamp(min=1)


@masked_mean.wrong("cuts negative values off", COUNTED, "over how many are true")
def _(values, mask):
    return torch.where(mask, values, 0.0).relu().sum() / mask.sum().clamp(min=1)


@masked_mean.wrong("fills the padding in place", LEAK, "edited in place")
def _(values, mask):
    with torch.no_grad():
        values[~mask & ~values.isfinite()] = 0.0
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


@masked_mean.wrong("a number", CONTRACT, "should be a torch tensor")
def _(values, mask):
    return values[mask].mean().item()


@masked_mean.wrong("one mean an episode", CONTRACT, "should have shape")
def _(values, mask):
    return torch.where(mask, values, 0.0).sum(1) / mask.sum(1).clamp(min=1)


@masked_mean.right
def by_index(values, mask):
    return values[mask].sum() / max(int(mask.sum()), 1)


@masked_mean.right
def by_masked_fill(values, mask):
    return values.masked_fill(~mask, 0).sum() / mask.float().sum().clamp(min=1.0)


@masked_mean.right
def by_loop(values, mask):
    total, count = values.new_zeros(()) + 0 * torch.where(mask, values, 0.0).sum(), 0
    for row, real in zip(values, mask, strict=True):
        for value, is_real in zip(row, real, strict=True):
            if is_real:
                total, count = total + value, count + 1
    return total / max(count, 1)


@masked_mean.right
def either_mean_or_zero(values, mask):
    total = torch.where(mask, values, 0.0).sum()
    return torch.where(mask.any(), total / mask.sum(), 0.0)


@masked_mean.right
def by_masked_select(values, mask):
    return torch.masked_select(values, mask).mean() if mask.any() else torch.where(mask, values, 0.0).sum()


mixture_log_prob = Bank("mixture_log_prob")
ONE, MANY, CONSTANT, FAR, LEARN = (
    "one component is a Gaussian",
    "several components",
    "constant added to all logits",
    "stays exact",
    "who was responsible",
)


def gauss(y, mean, std):
    return Normal(mean, std).log_prob(y[..., None, :]).sum(-1)


@mixture_log_prob.wrong("logits not normalized", ONE, "a single one weighs 1")
def _(y, logits, mean, std):
    return torch.logsumexp(logits + gauss(y, mean, std), -1)


@mixture_log_prob.wrong("averaged over Y", ONE, "averaged over Y")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.log_softmax(-1) + gauss(y, mean, std) / y.shape[-1], -1)


@mixture_log_prob.wrong("constant forgotten", ONE, "1/2 log 2 pi")
def _(y, logits, mean, std):
    each = gauss(y, mean, std) + 0.5 * y.shape[-1] * math.log(2 * math.pi)
    return torch.logsumexp(logits.log_softmax(-1) + each, -1)


@mixture_log_prob.wrong("log std forgotten", ONE, "-log std is missing")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.log_softmax(-1) + gauss(y, mean, std) + std.log().sum(-1), -1)


@mixture_log_prob.wrong("std as variance", ONE, "taken for a variance")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.log_softmax(-1) + gauss(y, mean, std.sqrt()), -1)


@mixture_log_prob.wrong("std as log-std", ONE, "taken for a log-std")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.log_softmax(-1) + gauss(y, mean, std.exp()), -1)


@mixture_log_prob.wrong("the loss", ONE, "sign is turned around")
def _(y, logits, mean, std):
    return -torch.logsumexp(logits.log_softmax(-1) + gauss(y, mean, std), -1)


@mixture_log_prob.wrong("average of logs", MANY, "weighted average of logs")
def _(y, logits, mean, std):
    return (logits.softmax(-1) * gauss(y, mean, std)).sum(-1)


@mixture_log_prob.wrong("best component", MANY, "best component alone")
def _(y, logits, mean, std):
    return (logits.log_softmax(-1) + gauss(y, mean, std)).amax(-1)


@mixture_log_prob.wrong("weights forgotten", MANY, "weights are missing")
def _(y, logits, mean, std):
    return torch.logsumexp(gauss(y, mean, std) + 0 * logits, -1)


@mixture_log_prob.wrong("equal weights", MANY, "where do the logits come in")
def _(y, logits, mean, std):
    return torch.logsumexp(gauss(y, mean, std) + 0 * logits, -1) - math.log(logits.shape[-1])


@mixture_log_prob.wrong("a mixture for each dimension", MANY, "a component is a whole vector")
def _(y, logits, mean, std):
    each = Normal(mean, std).log_prob(y[..., None, :])
    return torch.logsumexp(logits.log_softmax(-1)[..., None] + each, -2).sum(-1)


@mixture_log_prob.wrong("softmax over the batch", ONE, "log N(y; mean, std²)")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.log_softmax(0) + gauss(y, mean, std), -1)


@mixture_log_prob.wrong("probabilities for log-probabilities", ONE, "log N(y; mean, std²)")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.softmax(-1) + gauss(y, mean, std), -1)


@mixture_log_prob.wrong("logs summed over K", MANY, "densities that add")
def _(y, logits, mean, std):
    return (logits.log_softmax(-1) + gauss(y, mean, std)).sum(-1)


@mixture_log_prob.wrong("moments of the mixture", MANY, "no mixture")
def _(y, logits, mean, std):
    weight = logits.softmax(-1)[..., None]
    return Normal((weight * mean).sum(-2), (weight * std).sum(-2)).log_prob(y).sum(-1)


@mixture_log_prob.wrong("log of sum of exp, by hand", FAR, "every density underflowed")
def _(y, logits, mean, std):
    return (logits.softmax(-1) * gauss(y, mean, std).exp()).sum(-1).log()


@mixture_log_prob.wrong("by hand, with a guard", FAR, "use torch.logsumexp")
def _(y, logits, mean, std):
    return ((logits.softmax(-1) * gauss(y, mean, std).exp()).sum(-1) + 1e-20).log()


@mixture_log_prob.wrong("softmax by hand", CONSTANT, "overflows or becomes 0")
def _(y, logits, mean, std):
    weight = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return torch.logsumexp((weight + 1e-30).log() + gauss(y, mean, std), -1)


@mixture_log_prob.wrong("a product of densities, by hand", FAR, "every density underflowed")
def _(y, logits, mean, std):
    density = (-0.5 * ((y[..., None, :] - mean) / std) ** 2).exp() / (std * math.sqrt(2 * math.pi))
    return torch.log((logits.softmax(-1) * density.prod(-1)).sum(-1))


@mixture_log_prob.wrong("std clamped", "narrow components", "a clamp")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.log_softmax(-1) + gauss(y, mean, std.clamp(min=1e-2)), -1)


@mixture_log_prob.wrong("log of softmax", FAR, "it is all there is")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.softmax(-1).log() + gauss(y, mean, std), -1)


@mixture_log_prob.wrong("log of softmax, with a guard", FAR, "it is all there is")
def _(y, logits, mean, std):
    return torch.logsumexp((logits.softmax(-1) + 1e-30).log() + gauss(y, mean, std), -1)


@mixture_log_prob.wrong("weights detached", LEARN, "weights are detached")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.log_softmax(-1).detach() + gauss(y, mean, std) + 0 * logits, -1)


@mixture_log_prob.wrong("takes the batch for one axis", CONTRACT, "raised this error")
def _(y, logits, mean, std):
    each = Normal(mean, std).log_prob(y.unsqueeze(1)).sum(-1)
    return torch.logsumexp(logits.log_softmax(-1) + each, 1)


@mixture_log_prob.wrong("averaged over the batch", CONTRACT, "should have shape")
def _(y, logits, mean, std):
    return torch.logsumexp(logits.log_softmax(-1) + gauss(y, mean, std), -1).mean()


@mixture_log_prob.right
def by_distributions(y, logits, mean, std):
    return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, std), 1)).log_prob(y)


@mixture_log_prob.right
def two_logsumexps(y, logits, mean, std):
    each = -0.5 * ((y.unsqueeze(-2) - mean) / std) ** 2 - torch.log(std * math.sqrt(2 * math.pi))
    return torch.logsumexp(logits + each.sum(-1), -1) - torch.logsumexp(logits, -1)


@mixture_log_prob.right
def by_the_largest(y, logits, mean, std):
    joint = F.log_softmax(logits, -1) + gauss(y, mean, std)
    top = joint.amax(-1, keepdim=True).detach()
    return top[..., 0] + (joint - top).exp().sum(-1).log()


@mixture_log_prob.right
def component_by_component(y, logits, mean, std):
    weight, total = logits.log_softmax(-1), None
    for k in range(logits.shape[-1]):
        joint = weight[..., k] + Normal(mean[..., k, :], std[..., k, :]).log_prob(y).sum(-1)
        total = joint if total is None else torch.logaddexp(total, joint)
    return total


mixture_sample = Bank("mixture_sample")
LANDS, STRETCH, TEMPERATURE, CHOSEN, ENDS = (
    "lands on the mean",
    "stretched by the chosen",
    "temperature divides",
    "gradients reach the chosen",
    "at either end",
)


def pick(logits, uniform):
    return (logits.softmax(-1).cumsum(-1) <= uniform[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)


def take(x, choice):
    return x.take_along_dim(choice[..., None, None], -2).squeeze(-2)


@mixture_sample.wrong("argmax", LANDS, "where is the dice roll")
def _(logits, mean, std, uniform, noise, temperature):
    k = logits.argmax(-1)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("average of the means", LANDS, "no future at all")
def _(logits, mean, std, uniform, noise, temperature):
    weight = (logits / temperature).softmax(-1)[..., None]
    return (weight * mean).sum(-2) + math.sqrt(temperature) * (weight * std).sum(-2) * noise


@mixture_sample.wrong("off by one", LANDS, "one component too late")
def _(logits, mean, std, uniform, noise, temperature):
    k = (pick(logits / temperature, uniform) + 1).clamp(max=logits.shape[-1] - 1)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("counts from 1", LANDS, "one component too early")
def _(logits, mean, std, uniform, noise, temperature):
    k = (pick(logits / temperature, uniform) - 1).clamp(min=0)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("from the other end", LANDS, "laid out from the other end")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, 1 - uniform)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("equal weights", LANDS, "drawn alike")
def _(logits, mean, std, uniform, noise, temperature):
    k = (uniform * logits.shape[-1]).long()
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("uniform against the weights", LANDS, "running sum")
def _(logits, mean, std, uniform, noise, temperature):
    k = ((logits / temperature).softmax(-1) > uniform[..., None]).int().argmax(-1)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("dice of its own", LANDS, "the first component whose cumulative")
def _(logits, mean, std, uniform, noise, temperature):
    k = Categorical(logits=logits / temperature).sample()
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("no noise", STRETCH, "no noise")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, uniform)
    return take(mean, k) + 0 * take(std, k) * noise


@mixture_sample.wrong("variance for std", STRETCH, "stretched by the variance")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, uniform)
    return take(mean, k) + temperature * take(std, k) ** 2 * noise


@mixture_sample.wrong("average std", STRETCH, "has its own")
def _(logits, mean, std, uniform, noise, temperature):
    k, weight = pick(logits / temperature, uniform), (logits / temperature).softmax(-1)[..., None]
    return take(mean, k) + math.sqrt(temperature) * (weight * std).sum(-2) * noise


@mixture_sample.wrong("one noise for all dimensions", STRETCH, "one noise for all dimensions")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, uniform)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise[..., :1]


@mixture_sample.wrong("temperature ignored", TEMPERATURE, "the temperature is not used")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits, uniform)
    return take(mean, k) + take(std, k) * noise


@mixture_sample.wrong("temperature on the spread alone", TEMPERATURE, "does nothing to the choice")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits, uniform)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("temperature on the choice alone", TEMPERATURE, "does nothing to the spread")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, uniform)
    return take(mean, k) + take(std, k) * noise


@mixture_sample.wrong("std times the temperature", TEMPERATURE, "it is the variance that is")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, uniform)
    return take(mean, k) + temperature * take(std, k) * noise


@mixture_sample.wrong("logits times the temperature", TEMPERATURE, "the logits are multiplied")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits * temperature, uniform)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("root of the temperature on both", TEMPERATURE, "the root belongs to std alone")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / math.sqrt(temperature), uniform)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("std divided by the root", TEMPERATURE, "std is divided")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, uniform)
    return take(mean, k) + take(std, k) * noise / math.sqrt(temperature)


@mixture_sample.wrong("softmax twice", LANDS, "whose cumulative weight exceeds")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits.softmax(-1) / temperature, uniform)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("takes the batch for one axis", CONTRACT, "raised this error")
def _(logits, mean, std, uniform, noise, temperature):
    k, row = pick(logits / temperature, uniform), torch.arange(len(logits))
    return mean[row, k] + math.sqrt(temperature) * std[row, k] * noise


@mixture_sample.wrong("scales the whole draw", TEMPERATURE, "spread sqrt(temperature)")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, uniform)
    return math.sqrt(temperature) * (take(mean, k) + take(std, k) * noise)


@mixture_sample.wrong("drawn under no_grad", CHOSEN, "carries no gradient")
def _(logits, mean, std, uniform, noise, temperature):
    with torch.no_grad():
        k = pick(logits / temperature, uniform)
        return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("std detached", CHOSEN, "do not reach std")
def _(logits, mean, std, uniform, noise, temperature):
    k = pick(logits / temperature, uniform)
    return take(mean, k) + math.sqrt(temperature) * take(std.detach(), k) * noise


@mixture_sample.wrong("below instead of at most", ENDS, "weight 0")
def _(logits, mean, std, uniform, noise, temperature):
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)
    k = (cumulative < uniform[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("argmax of a comparison that can be all false", ENDS, "stay within K - 1")
def _(logits, mean, std, uniform, noise, temperature):
    k = ((logits / temperature).softmax(-1).cumsum(-1) > uniform[..., None]).int().argmax(-1)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("can count to K: gather", ENDS, "out of bounds")
def _(logits, mean, std, uniform, noise, temperature):
    k = ((logits / temperature).softmax(-1).cumsum(-1) <= uniform[..., None]).sum(-1)
    index = k[..., None, None].expand(*k.shape, 1, mean.shape[-1])
    return mean.gather(-2, index)[..., 0, :] + temperature**0.5 * std.gather(-2, index)[..., 0, :] * noise


@mixture_sample.wrong("can count to K: take_along_dim begins anew", ENDS, "stay within K - 1")
def _(logits, mean, std, uniform, noise, temperature):
    k = ((logits / temperature).softmax(-1).cumsum(-1) <= uniform[..., None]).sum(-1)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.wrong("can count to K: one-hot by comparison", ENDS, "stay within K - 1")
def _(logits, mean, std, uniform, noise, temperature):
    k = ((logits / temperature).softmax(-1).cumsum(-1) <= uniform[..., None]).sum(-1, keepdim=True)
    hot = (k == torch.arange(logits.shape[-1])).float()[..., None]
    return (hot * mean).sum(-2) + math.sqrt(temperature) * (hot * std).sum(-2) * noise


@mixture_sample.wrong("searchsorted from the left", ENDS, "weight 0")
def _(logits, mean, std, uniform, noise, temperature):
    cumulative = (logits / temperature).softmax(-1).cumsum(-1).contiguous()
    k = torch.searchsorted(cumulative, uniform[..., None])[..., 0].clamp(max=logits.shape[-1] - 1)
    return take(mean, k) + math.sqrt(temperature) * take(std, k) * noise


@mixture_sample.right
def by_searchsorted(logits, mean, std, uniform, noise, temperature):
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)
    k = torch.searchsorted(cumulative.contiguous(), uniform[..., None], right=True)[..., 0]
    k = k.clamp(max=logits.shape[-1] - 1)
    return take(mean, k) + temperature**0.5 * take(std, k) * noise


@mixture_sample.right
def by_one_hot(logits, mean, std, uniform, noise, temperature):
    hot = F.one_hot(pick(logits / temperature, uniform), logits.shape[-1])[..., None].to(mean.dtype)
    return (hot * mean).sum(-2) + (hot * std).sum(-2) * noise * math.sqrt(temperature)


@mixture_sample.right
def row_by_row(logits, mean, std, uniform, noise, temperature):
    shape, (components, dims) = uniform.shape, mean.shape[-2:]
    rows = []
    flat = zip(
        (logits / temperature).softmax(-1).reshape(-1, components),
        mean.reshape(-1, components, dims),
        std.reshape(-1, components, dims),
        uniform.reshape(-1),
        noise.reshape(-1, dims),
        strict=True,
    )
    for weight, m, s, u, e in flat:
        running = weight.cumsum(0).tolist()
        k = next((i for i, total in enumerate(running) if total > u.item()), components - 1)
        rows.append(m[k] + math.sqrt(temperature) * s[k] * e)
    return torch.stack(rows).reshape(*shape, dims)


rollout_with_memory = Bank("rollout_with_memory")
FIRST, FED, LAST, BACK = "first prediction follows", "fed back", "last prediction", "gradients run back"


@rollout_with_memory.wrong("only the last observation", FIRST, "only the last observation counts")
def _(step, memory, obs, actions):
    z, out = obs[:, -1], []
    for a in actions[:, obs.shape[1] - 1 :].unbind(1):
        memory, z = step(memory, z, a)
        out.append(z)
    return torch.stack(out, 1)


@rollout_with_memory.wrong("dreams the context, too", FIRST, "they go in")
def _(step, memory, obs, actions):
    z, out = obs[:, 0], []
    for a in actions.unbind(1):
        memory, z = step(memory, z, a)
        out.append(z)
    return torch.stack(out[obs.shape[1] - 1 :], 1)


@rollout_with_memory.wrong("the last observation twice", CONTRACT, "should have shape")
def _(step, memory, obs, actions):
    for z, a in zip(obs.unbind(1), actions.unbind(1), strict=False):
        memory, _ = step(memory, z, a)
    z, out = obs[:, -1], []
    for a in actions[:, obs.shape[1] :].unbind(1):
        memory, z = step(memory, z, a)
        out.append(z)
    return torch.stack(out, 1) if out else obs[:, :0]


@rollout_with_memory.wrong("the last observation twice, right length", FIRST, "already heard it")
def _(step, memory, obs, actions):
    for z, a in zip(obs.unbind(1), actions.unbind(1), strict=False):
        memory, _ = step(memory, z, a)
    z, out = obs[:, -1], []
    for a in actions[:, obs.shape[1] - 1 :].unbind(1):
        memory, z = step(memory, z, a)
        out.append(z)
    return torch.stack(out, 1)


@rollout_with_memory.wrong("returns what it was shown", FIRST, "observations you were shown")
def _(step, memory, obs, actions):
    out, z = [], obs[:, 0]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < obs.shape[1] else z
        memory, z = step(memory, z, actions[:, t])
        out.append(z)
    return torch.stack(out, 1)


@rollout_with_memory.wrong("the first H predictions", FIRST, "predicts what you were shown")
def _(step, memory, obs, actions):
    out, z = [], obs[:, 0]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < obs.shape[1] else z
        memory, z = step(memory, z, actions[:, t])
        out.append(z)
    return torch.stack(out[: actions.shape[1] - obs.shape[1] + 1], 1)


@rollout_with_memory.wrong("dreams one step early", FIRST, "never used")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < max(c - 1, 1) else z
        memory, z = step(memory, z, actions[:, t])
        out.append(z)
    return torch.stack([out[max(c - 2, 0)], *out[c:]], 1)


@rollout_with_memory.wrong("context without actions", FIRST, "should come after obs")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        memory, z = step(memory, z, actions[:, t] if t >= c - 1 else torch.zeros_like(actions[:, t]))
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("actions one step late", FIRST, "one step late")
def _(step, memory, obs, actions):
    shifted = torch.cat([torch.zeros_like(actions[:, :1]), actions[:, :-1]], 1)
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        memory, z = step(memory, z, shifted[:, t])
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("actions one step early", FIRST, "one step early")
def _(step, memory, obs, actions):
    shifted = torch.cat([actions[:, 1:], actions[:, -1:]], 1)
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        memory, z = step(memory, z, shifted[:, t])
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("its own first memory", FIRST, "where the dream begins")
def _(step, memory, obs, actions):
    memory = torch.zeros_like(memory)
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        memory, z = step(memory, z, actions[:, t])
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("memory not handed on", FIRST, "is the memory handed on")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        z = step(memory, z, actions[:, t])[1]
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("memory stands still in the dream", FED, "the memory stands still")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        new, z = step(memory, z, actions[:, t])
        memory = new if t < c - 1 else memory
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("memory wiped where the dream begins", FED, "the memory is wiped")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        memory, z = step(memory if t < c else torch.zeros_like(memory), z, actions[:, t])
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("does not feed back", FED, "last real observation goes in again")
def _(step, memory, obs, actions):
    out, c = [], obs.shape[1]
    for t in range(actions.shape[1]):
        memory, z = step(memory, obs[:, min(t, c - 1)], actions[:, t])
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("future actions from the front", FED, "start from the front again")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        memory, z = step(memory, z, actions[:, t if t < c else t - c + 1])
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("repeats the last of the context's actions", FED, "the next one is due")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        memory, z = step(memory, z, actions[:, min(t, c - 1)])
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("stops one early, repeats the last", LAST, "the last from the last action")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z
        memory, z = step(memory, z, actions[:, t])
        out.append(z)
    return torch.stack([*out[c - 1 : -1], out[-2]], 1) if len(out) > c else torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("detaches predictions", BACK, "cut off in part")
def _(step, memory, obs, actions):
    out, z, c = [], obs[:, 0], obs.shape[1]
    for t in range(actions.shape[1]):
        z = obs[:, t] if t < c else z.detach()
        memory, z = step(memory, z, actions[:, t])
        out.append(z)
    return torch.stack(out[c - 1 :], 1)


@rollout_with_memory.wrong("listens under no_grad", BACK, "gradients do not reach")
def _(step, memory, obs, actions):
    c = obs.shape[1]
    with torch.no_grad():
        for t in range(c - 1):
            memory, _ = step(memory, obs[:, t], actions[:, t])
    out, z = [], obs[:, -1]
    for t in range(c - 1, actions.shape[1]):
        memory, z = step(memory, z, actions[:, t])
        out.append(z)
    return torch.stack(out, 1)


@rollout_with_memory.right
def two_loops(step, memory, obs, actions):
    c = obs.shape[1]
    for t in range(c - 1):
        memory = step(memory, obs[:, t], actions[:, t])[0]
    z, out = obs[:, c - 1], []
    for a in actions[:, c - 1 :].unbind(1):
        memory, z = step(memory, z, a)
        out.append(z)
    return torch.stack(out, dim=1)


@rollout_with_memory.right
def by_recursion(step, memory, obs, actions):
    memory, z = step(memory, obs[:, 0], actions[:, 0])
    rest = actions[:, 1:]
    if obs.shape[1] > 1:
        return by_recursion(step, memory, obs[:, 1:], rest)
    if not rest.shape[1]:
        return z[:, None]
    return torch.cat([z[:, None], by_recursion(step, memory, z[:, None], rest)], 1)


@rollout_with_memory.right
def into_a_tensor(step, memory, obs, actions):
    context, total = obs.shape[1], actions.shape[1]
    stream = list(obs.unbind(1))
    for t in range(total):
        memory, z = step(memory, stream[t], actions[:, t])
        if t >= context - 1:
            stream.append(z)
    return torch.stack(stream[context:], 1)
