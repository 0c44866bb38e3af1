"""Answers to lesson 01's exercises."""

import math

import torch
import torch.nn.functional as F

from tests.banks.bank import CONTRACT, Bank

standardize = Bank("standardize")
SPREAD, CONSTANT = "mean and spread become", "never changes"


def wrong_formula(bank, case):
    """A bank entry of one line: `add(mistake, says, function)`."""

    def add(mistake, says, answer, case=case):
        bank.wrong(mistake, case, says)(answer)

    return add


add = wrong_formula(standardize, SPREAD)
add("variance for std", "divided by the variance", lambda x, mean, std: (x - mean) / (std**2).clamp(min=1e-6))
add("root of std", "square root of std", lambda x, mean, std: (x - mean) / std.sqrt().clamp(min=1e-6))
add("mean not subtracted", "mean is not subtracted", lambda x, mean, std: x / std.clamp(min=1e-6))
add("spread left as it was", "left as it was", lambda x, mean, std: x - mean + 0 * std)
add("mean added", "mean is added", lambda x, mean, std: (x + mean) / std.clamp(min=1e-6))
add("precedence", "in which order", lambda x, mean, std: x / std.clamp(min=1e-6) - mean)
add("the way back", "the way back", lambda x, mean, std: (x - mean) * std)
add(
    "statistics of the batch", "batch's own statistics", lambda x, mean, std: (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
)
add("no guard", "a division by 0", lambda x, mean, std: (x - mean) / std, CONSTANT)
add("a guard that is too strong", "should become 1", lambda x, mean, std: (x - mean) / std.clamp(min=1.0))
add("adds a tenth", "should become 1", lambda x, mean, std: (x - mean) / (std + 0.1))
add(
    "replaces nan by 0 everywhere",
    "should have shape",
    lambda x, mean, std: ((x - mean) / std).nan_to_num()[:1],
    CONTRACT,
)


@standardize.wrong("edits x in place", CONTRACT, "edited in place")
def _(x, mean, std):
    x -= mean
    return x / std


@standardize.wrong("float64", CONTRACT, "should be float32")
def _(x, mean, std):
    return (x.double() - mean) / std.clamp(min=1e-6)


@standardize.right
def with_epsilon(x, mean, std):
    return (x - mean) / (std + 1e-8)


@standardize.right
def with_where(x, mean, std):
    return (x - mean) / torch.where(std > 0, std, torch.ones_like(std))


gaussian_head = Bank("gaussian_head")
FIRST, SECOND, REACH = "first half", "second half", "reach every feature"


def head(mean, std):
    return lambda features, floor: (mean(*features.chunk(2, -1)), std(*features.chunk(2, -1), floor))


def keep(first, second):
    return first


def soft(first, second, floor):
    return F.softplus(second) + floor


add = wrong_formula(gaussian_head, SECOND)
add("halves swapped", "second half: first the mean", head(lambda a, b: b, lambda a, b, f: F.softplus(a) + f), FIRST)
add("std first", "swapped", lambda features, floor: head(keep, soft)(features, floor)[::-1], FIRST)
add("mean through softplus", "mean is squashed", head(lambda a, b: F.softplus(a), soft), FIRST)
add("mean through tanh", "squashed by tanh", head(lambda a, b: a.tanh(), soft), FIRST)
add(
    "every other number",
    "every other number",
    lambda features, floor: (features[..., 0::2], F.softplus(features[..., 1::2]) + floor),
    FIRST,
)
add("no floor", "floor is missing", head(keep, lambda a, b, f: F.softplus(b)))
add("clamped at the floor", "clamped at the floor", head(keep, lambda a, b, f: F.softplus(b).clamp(min=f)))
add("exp", "exp instead of softplus", head(keep, lambda a, b, f: b.exp() + f))
add("log-variance", "log-variance", head(keep, lambda a, b, f: (b / 2).exp() + f))
add("relu", "relu has no gradient", head(keep, lambda a, b, f: b.relu() + f))
add("abs", "kink", head(keep, lambda a, b, f: b.abs() + f))
add("raw", "can be negative", head(keep, lambda a, b, f: b + f))
add("sigmoid", "sigmoid", head(keep, lambda a, b, f: b.sigmoid() + f))
add("floor inside", "inside softplus", head(keep, lambda a, b, f: F.softplus(b + f)))
add(
    "detached std",
    "part 1 of the result carries no gradient",
    head(keep, lambda a, b, f: F.softplus(b.detach()) + f),
    CONTRACT,
)
add("splits the batch", "should have shape", lambda features, floor: features.chunk(2, 0), CONTRACT)
add("one tensor", "should be a tuple of 2", lambda features, floor: features, CONTRACT)


@gaussian_head.right
def by_slices(features, floor):
    half = features.shape[-1] // 2
    return features[..., :half], torch.nn.Softplus()(features[..., half:]) + floor


@gaussian_head.right
def by_logaddexp(features, floor):
    mean, raw = torch.split(features, features.shape[-1] // 2, dim=-1)
    return [mean, torch.logaddexp(raw, torch.zeros_like(raw)) + floor]


gaussian_log_prob = Bank("gaussian_log_prob")
ONE, ADD, GRAD = "one dimension", "dimensions add up", "gradients reach mean and std"
HALF_LOG = 0.5 * math.log(2 * math.pi)


def terms(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2, std.log()


add = wrong_formula(gaussian_log_prob, ONE)
add("sign", "that is the loss", lambda x, mean, std: -(terms(x, mean, std)[0] - std.log() - HALF_LOG).sum(-1))
add(
    "no constant",
    "constant log(2 pi) / 2 is missing",
    lambda x, mean, std: (terms(x, mean, std)[0] - std.log()).sum(-1),
)
add(
    "the constant whole",
    "without the half",
    lambda x, mean, std: (terms(x, mean, std)[0] - std.log() - 2 * HALF_LOG).sum(-1),
)
add("no log std", "-log std is missing", lambda x, mean, std: (terms(x, mean, std)[0] - HALF_LOG).sum(-1))
add("+ log std", "+ log std", lambda x, mean, std: (terms(x, mean, std)[0] + std.log() - HALF_LOG).sum(-1))
add(
    "std as variance",
    "std is taken for a variance",
    lambda x, mean, std: (-0.5 * (x - mean) ** 2 / std - 0.5 * std.log() - HALF_LOG).sum(-1),
)
add(
    "log of the variance",
    "log of the variance",
    lambda x, mean, std: (terms(x, mean, std)[0] - (std**2).log() - HALF_LOG).sum(-1),
)
add(
    "no half", "1/2 before the square", lambda x, mean, std: (2 * terms(x, mean, std)[0] - std.log() - HALF_LOG).sum(-1)
)
add(
    "density",
    "not its logarithm",
    lambda x, mean, std: torch.distributions.Normal(mean, std).log_prob(x).exp().prod(-1),
)
add(
    "mean over dimensions",
    "the mean over dimensions",
    lambda x, mean, std: torch.distributions.Normal(mean, std).log_prob(x).mean(-1),
    ADD,
)
add(
    "one constant for all dimensions",
    "constant counts once for each",
    lambda x, mean, std: (terms(x, mean, std)[0] - std.log()).sum(-1) - HALF_LOG,
    ADD,
)
add("not summed", "should have shape", lambda x, mean, std: torch.distributions.Normal(mean, std).log_prob(x), CONTRACT)
add(
    "summed over the batch",
    "should have shape",
    lambda x, mean, std: torch.distributions.Normal(mean, std).log_prob(x).sum(),
    CONTRACT,
)
add(
    "detached std",
    "do not reach std",
    lambda x, mean, std: torch.distributions.Normal(mean, std.detach()).log_prob(x).sum(-1),
    GRAD,
)
add(
    "detached mean",
    "do not reach mean",
    lambda x, mean, std: torch.distributions.Normal(mean.detach(), std).log_prob(x).sum(-1),
    GRAD,
)
add(
    "log of a density",
    "underflows",
    lambda x, mean, std: (torch.distributions.Normal(mean, std).log_prob(x).exp() + 1e-12).log().sum(-1),
    "in the tail",
)


@gaussian_log_prob.right
def by_independent(x, mean, std):
    return torch.distributions.Independent(torch.distributions.Normal(mean, std), 1).log_prob(x)


@gaussian_log_prob.right
def expanded(x, mean, std):
    dims = x.shape[-1]
    square = torch.sum((x - mean) ** 2 / (2 * std**2), dim=-1)
    return -square - torch.log(std).sum(dim=-1) - dims * HALF_LOG


predict_next = Bank("predict_next")
ZERO, UNITS = "says 0", "stretched back"
add = wrong_formula(predict_next, UNITS)
add("obs missing", "observation is missing", lambda f, s, a, mean, std: mean + std * f(s, a), ZERO)
add("mean missing", "mean difference is missing", lambda f, s, a, mean, std: s + std * f(s, a), ZERO)
add("mean subtracted", "subtracted", lambda f, s, a, mean, std: s - mean + std * f(s, a), ZERO)
add("standardized again", "done again", lambda f, s, a, mean, std: s + (f(s, a) - mean) / std, ZERO)
add("mean stretched", "mean is stretched", lambda f, s, a, mean, std: s + std * (mean + f(s, a)), ZERO)
add("not stretched", "not stretched", lambda f, s, a, mean, std: s + mean + f(s, a))
add("divided", "standardizes once more", lambda f, s, a, mean, std: s + mean + f(s, a) / std)
add("variance", "by the variance", lambda f, s, a, mean, std: s + mean + std**2 * f(s, a))
add("ignores the model", "prediction is not used", lambda f, s, a, mean, std: s + mean + 0 * std)
add("minus", "difference is next less now", lambda f, s, a, mean, std: s + mean - std * f(s, a))
add("blind to actions", "action is not handed", lambda f, s, a, mean, std: s + mean + std * f(s, 0 * a))


@predict_next.wrong("in place", CONTRACT, "edited in place")
def _(f, obs, action, mean, std):
    obs += mean + std * f(obs, action)
    return obs


@predict_next.wrong("standardizes the input of the model", UNITS, "counts in units")
def _(f, obs, action, mean, std):
    return obs + mean + std * f((obs - mean) / std, action)


@predict_next.right
def step_by_step(predict_delta, obs, action, delta_mean, delta_std):
    delta = predict_delta(obs, action)
    delta = delta * delta_std + delta_mean
    return torch.add(delta, obs)


@predict_next.right
def by_addcmul(predict_delta, obs, action, delta_mean, delta_std):
    return torch.addcmul(obs + delta_mean, predict_delta(obs, action), delta_std.expand_as(obs))


rollout = Bank("rollout")
START, BACK, LAST = "first action acts on the first", "from the one before", "last prediction"


@rollout.wrong("the start is in the result", START, "the start itself")
def _(step, obs, actions):
    out = [obs]
    for action in actions[:, :-1].unbind(1):
        out.append(step(out[-1], action))
    return torch.stack(out, 1)


@rollout.wrong("start and all predictions", CONTRACT, "should have shape")
def _(step, obs, actions):
    out = [obs]
    for action in actions.unbind(1):
        out.append(step(out[-1], action))
    return torch.stack(out, 1)


@rollout.wrong("actions one late", START, "second action acts first")
def _(step, obs, actions):
    out = []
    for action in actions.roll(-1, 1).unbind(1):
        obs = step(obs, action)
        out.append(obs)
    return torch.stack(out, 1)


@rollout.wrong("actions backwards", START, "last action acts first")
def _(step, obs, actions):
    out = []
    for action in actions.flip(1).unbind(1):
        obs = step(obs, action)
        out.append(obs)
    return torch.stack(out, 1)


@rollout.wrong("teacher forcing from the start", BACK, "starts from obs again")
def _(step, obs, actions):
    return torch.stack([step(obs, action) for action in actions.unbind(1)], 1)


@rollout.wrong("one action for all steps", BACK, "first action is used at every step")
def _(step, obs, actions):
    out = []
    for _ in range(actions.shape[1]):
        obs = step(obs, actions[:, 0])
        out.append(obs)
    return torch.stack(out, 1)


@rollout.wrong("adds the prediction to the observation", START, "[:, 0] should be")
def _(step, obs, actions):
    out = []
    for action in actions.unbind(1):
        obs = obs + step(obs, action)
        out.append(obs)
    return torch.stack(out, 1)


@rollout.wrong("axes (H, B, O)", CONTRACT, "should have shape")
def _(step, obs, actions):
    out = []
    for action in actions.unbind(1):
        obs = step(obs, action)
        out.append(obs)
    return torch.stack(out)


@rollout.wrong("loops over the batch", CONTRACT, "came")
def _(step, obs, actions):
    out = []
    for action in actions:
        obs = step(obs, action)
        out.append(obs)
    return torch.stack(out, 1)


@rollout.wrong("no_grad", "gradients run back", "carries no gradient")
def _(step, obs, actions):
    out = []
    with torch.no_grad():
        for action in actions.unbind(1):
            obs = step(obs, action)
            out.append(obs)
    return torch.stack(out, 1)


@rollout.wrong("detaches between steps", "gradients run back", "predictions detached")
def _(step, obs, actions):
    out = []
    for action in actions.unbind(1):
        obs = step(obs.detach(), action)
        out.append(obs)
    return torch.stack(out, 1)


@rollout.wrong("the last step is repeated, not taken", LAST, "six actions")
def _(step, obs, actions):
    out = []
    for action in actions[:, :-1].unbind(1):
        obs = step(obs, action)
        out.append(obs)
    return torch.stack([*out, obs], 1)


@rollout.right
def by_cat(step, obs, actions):
    out = step(obs, actions[:, 0]).unsqueeze(1)
    for t in range(1, actions.shape[1]):
        out = torch.cat([out, step(out[:, -1], actions[:, t])[:, None]], dim=1)
    return out


@rollout.right
def by_recursion(step, obs, actions):
    one = step(obs, actions[:, 0])[:, None]
    return one if actions.shape[1] == 1 else torch.cat([one, by_recursion(step, one[:, 0], actions[:, 1:])], 1)


open_loop_error = Bank("open_loop_error")
SCALE, EACH = "units of its scale", "stands for itself"


def gap(predicted, true, scale):
    return (predicted - true) / scale


add = wrong_formula(open_loop_error, SCALE)
add("no scale", "scale is not used", lambda p, t, s: (p - t).square().mean((0, 2)).sqrt() + 0 * s[0])
add("times scale", "multiplied by scale", lambda p, t, s: ((p - t) * s).square().mean((0, 2)).sqrt())
add("scale after squaring", "unit squared", lambda p, t, s: ((p - t) ** 2 / s).mean((0, 2)).sqrt())
add("no root", "root is missing", lambda p, t, s: gap(p, t, s).square().mean((0, 2)))
add("absolute", "mean of sizes", lambda p, t, s: gap(p, t, s).abs().mean((0, 2)))
add("root too early", "before the batch", lambda p, t, s: gap(p, t, s).square().mean(2).sqrt().mean(0))
add("sum over dimensions", "summed over dimensions", lambda p, t, s: gap(p, t, s).square().sum(2).mean(0).sqrt())
add("norm over everything", "root of the mean", lambda p, t, s: gap(p, t, s).norm(dim=(0, 2)))
add("signed", "cancel", lambda p, t, s: gap(p, t, s).mean((0, 2)).abs())
add("one number", "should have shape", lambda p, t, s: gap(p, t, s).square().mean().sqrt(), CONTRACT)
add("one number per sequence", "should have shape", lambda p, t, s: gap(p, t, s).square().mean((1, 2)).sqrt(), CONTRACT)
add(
    "running mean over steps",
    "root of the mean",
    lambda p, t, s: gap(p, t, s).square().mean((0, 2)).cumsum(0).div(torch.arange(1, p.shape[1] + 1)).sqrt(),
)


@open_loop_error.right
def by_mse(predicted, true, scale):
    return torch.stack([F.mse_loss(predicted[:, k] / scale, true[:, k] / scale).sqrt() for k in range(true.shape[1])])


@open_loop_error.right
def by_norm(predicted, true, scale):
    each = ((predicted - true) / scale).transpose(0, 1).flatten(1)
    return each.norm(dim=1) / each.shape[1] ** 0.5


# Found by attack: each of these passed once.


@standardize.wrong("detaches x", "gradients reach x", "carries no gradient")
def _(x, mean, std):
    return (x.detach() - mean) / std.clamp(min=1e-6)


@standardize.wrong("a guard of 1e-3", "small spreads", "too strong")
def _(x, mean, std):
    return (x - mean) / std.clamp(min=1e-3)


@predict_next.wrong("the model under no_grad", "gradients flow", "do not reach action")
def _(predict_delta, obs, action, delta_mean, delta_std):
    with torch.no_grad():
        delta = predict_delta(obs, action)
    return obs + delta_mean + delta_std * delta


@predict_next.wrong("obs detached", "gradients flow", "does not reach obs")
def _(predict_delta, obs, action, delta_mean, delta_std):
    return obs.detach() + delta_mean + delta_std * predict_delta(obs, action)


@gaussian_head.wrong("bounded above", "very negative and very large", "grow on")
def _(features, floor):
    mean, raw = features.chunk(2, -1)
    return mean, F.softplus(raw.clamp(max=20)) + floor


@gaussian_head.wrong("bounded below", "very negative and very large", "is the feature bounded")
def _(features, floor):
    mean, raw = features.chunk(2, -1)
    return mean, F.softplus(raw.clamp(min=-15)) + floor


@gaussian_head.wrong("splits axis 1", "any shape", "likely")
def _(features, floor):
    mean, raw = features.chunk(2, 1)
    return mean, F.softplus(raw) + floor


@gaussian_log_prob.wrong("std clamped", "narrow", "is something clamped")
def _(x, mean, std):
    return torch.distributions.Normal(mean, std.clamp(min=0.1)).log_prob(x).sum(-1)


@gaussian_log_prob.wrong("the tail clamped", "narrow", "is something clamped")
def _(x, mean, std):
    return torch.distributions.Normal(mean, std).log_prob(x).clamp(min=-2000).sum(-1)


@rollout.wrong("six steps whatever comes", "other sizes", "likely")
def _(step, obs, actions):
    rows = []
    for k in range(6):
        obs = step(obs, actions[:, k])
        rows.append(obs)
    return torch.stack(rows, 1)


@open_loop_error.wrong("the first seven windows", "every window counts", "does every window count")
def _(predicted, true, scale):
    return ((predicted - true) / scale)[:7].square().mean((0, 2)).sqrt()
