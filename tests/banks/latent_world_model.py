"""Answers to lesson 05's exercises."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Independent, Normal

from tests.banks.bank import CONTRACT, Bank
from wmcourse.latent_world_model import WorldModel as Reference
from wmcourse.nets import mlp

LOG_TAU = math.log(2 * math.pi)

reward_term = Bank("reward_term")
EXACT, ROW = "leaves the normalizer", "judged by z[:, t] and action[:, t]"


def _density(error, std):
    return -0.5 * (error / std) ** 2 - math.log(std) - 0.5 * LOG_TAU


@reward_term.wrong("squared error", EXACT, "normalizer is missing")
def _(predict, z, action, reward, std):
    return -0.5 * ((reward[:, :-1] - predict(z[:, :-1], action[:, :-1])) / std) ** 2


@reward_term.wrong("negative log-probability", EXACT, "sign is turned around")
def _(predict, z, action, reward, std):
    return -_density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std)


@reward_term.wrong("std for variance", EXACT, "taken for a variance")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std**0.5)


@reward_term.wrong("variance for std", EXACT, "half of it is log std")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std**2)


@reward_term.wrong("no log std", EXACT, "log std is missing")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std) + math.log(std)


@reward_term.wrong("no log 2 pi", EXACT, "log(2 pi) / 2 is missing")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std) + 0.5 * LOG_TAU


@reward_term.wrong("latent after the step", EXACT, "belong to the same t")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, 1:], action[:, :-1]), std)


@reward_term.wrong("action of the next row", EXACT, "belong to the same t")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1], action[:, 1:]), std)


@reward_term.wrong("reward of the next row", EXACT, "belong to the same t")
def _(predict, z, action, reward, std):
    return _density(reward[:, 1:] - predict(z[:, :-1], action[:, :-1]), std)


@reward_term.wrong("first row left out instead of the last", ROW, "first row is left out")
def _(predict, z, action, reward, std):
    return _density(reward[:, 1:] - predict(z[:, 1:], action[:, 1:]), std)


@reward_term.wrong("square not halved", ROW, "not halved")
def _(predict, z, action, reward, std):
    error = reward[:, :-1] - predict(z[:, :-1], action[:, :-1])
    return _density(error * 2**0.5, std)


@reward_term.wrong("divided by std once", ROW, "divided by std once")
def _(predict, z, action, reward, std):
    error = reward[:, :-1] - predict(z[:, :-1], action[:, :-1])
    return -0.5 * error**2 / std - math.log(std) - 0.5 * LOG_TAU


@reward_term.wrong("all rows", CONTRACT, "should have shape")
def _(predict, z, action, reward, std):
    return _density(reward - predict(z, action), std)


@reward_term.wrong("averaged", CONTRACT, "should have shape")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std).mean()


@reward_term.wrong("summed over time", CONTRACT, "should have shape")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std).sum(-1)


@reward_term.wrong("an axis of 1 broadcast", CONTRACT, "must match the size")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1])[..., None], std)


@reward_term.wrong("latent detached", CONTRACT, "carries no gradient")
def _(predict, z, action, reward, std):
    return _density(reward[:, :-1] - predict(z[:, :-1].detach(), action[:, :-1]), std)


@reward_term.wrong("averaged, then spread out again", ROW, "one average for all steps")
def _(predict, z, action, reward, std):
    value = _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std)
    return value.mean().expand_as(value)


@reward_term.wrong("a reward of 0 taken for a missing one", "for two rows", "wrong for 1 windows")
def _(predict, z, action, reward, std):
    value = _density(reward[:, :-1] - predict(z[:, :-1], action[:, :-1]), std)
    return torch.where(reward[:, :-1] == 0, 0.0, value)


@reward_term.wrong("small errors only: a Huber loss", ROW, "should hold log N")
def _(predict, z, action, reward, std):
    off = F.huber_loss(predict(z, action) / std, reward / std, reduction="none")[:, :-1]
    return -off - math.log(std) - 0.5 * LOG_TAU


@reward_term.right
def by_distribution(predict, z, action, reward, std):
    return Normal(predict(z, action), std).log_prob(reward)[:, :-1]


@reward_term.right
def by_rows(predict, z, action, reward, std):
    rows = [Normal(predict(z[:, t], action[:, t]), std).log_prob(reward[:, t]) for t in range(z.shape[1] - 1)]
    return torch.stack(rows, dim=1)


@reward_term.right
def by_nll_loss(predict, z, action, reward, std):
    mean, target = predict(z[:, :-1], action[:, :-1]), reward[:, :-1]
    return -F.gaussian_nll_loss(mean, target, torch.full_like(mean, std**2), full=True, reduction="none", eps=1e-12)


@reward_term.right
def one_window_at_a_time(predict, z, action, reward, std):
    return torch.stack(
        [_density(r[:-1] - predict(x[:-1], a[:-1]), std) for x, a, r in zip(z, action, reward, strict=True)]
    )


dynamics_term = Bank("dynamics_term")
OBEYED, FORETOLD, BOTH = "obeys the mean", "what z[:, t] and action[:, t] foretell", "both ends"


def _gaussian(x, mean, std):
    return (-0.5 * ((x - mean) / std) ** 2 - torch.log(std) - 0.5 * LOG_TAU).sum(-1)


@dynamics_term.wrong("squared error", OBEYED, "normalizer is missing")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return (-0.5 * (z[:, 1:] - mean) ** 2 / log_var.exp()).sum(-1)


@dynamics_term.wrong("mean over latents", OBEYED, "averaged over the latent dimensions")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return _gaussian(z[:, 1:], mean, (0.5 * log_var).exp()) / z.shape[-1]


@dynamics_term.wrong("the constant once instead of Z times", OBEYED, "constant counted once")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return (-0.5 * (z[:, 1:] - mean) ** 2 / log_var.exp() - 0.5 * log_var).sum(-1) - 0.5 * LOG_TAU


@dynamics_term.wrong("negative log-probability", OBEYED, "sign is turned around")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return -_gaussian(z[:, 1:], mean, (0.5 * log_var).exp())


@dynamics_term.wrong("the row itself as target", OBEYED, "which rows do you compare")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return _gaussian(z[:, :-1], mean, (0.5 * log_var).exp())


@dynamics_term.wrong("action of the next row", OBEYED, "which rows do you compare")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, 1:])
    return _gaussian(z[:, 1:], mean, (0.5 * log_var).exp())


@dynamics_term.wrong("time backwards", OBEYED, "which rows do you compare")
def _(predict, z, action):
    mean, log_var = predict(z[:, 1:], action[:, :-1])
    return _gaussian(z[:, :-1], mean, (0.5 * log_var).exp())


@dynamics_term.wrong("variance as std", FORETOLD, "used as a standard deviation")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return _gaussian(z[:, 1:], mean, log_var.exp())


@dynamics_term.wrong("log_var as std", CONTRACT, "holds")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return _gaussian(z[:, 1:], mean, log_var)


@dynamics_term.wrong("spread ignored", FORETOLD, "log_var is not used")
def _(predict, z, action):
    mean, _ = predict(z[:, :-1], action[:, :-1])
    return _gaussian(z[:, 1:], mean, torch.ones_like(mean))


@dynamics_term.wrong("normalizer counts log_var whole", FORETOLD, "counts half in the normalizer")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return (-0.5 * (z[:, 1:] - mean) ** 2 / log_var.exp() - log_var - 0.5 * LOG_TAU).sum(-1)


@dynamics_term.wrong("square not halved", FORETOLD, "not halved")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return (-((z[:, 1:] - mean) ** 2) / log_var.exp() - 0.5 * log_var - 0.5 * LOG_TAU).sum(-1)


@dynamics_term.wrong("target detached", BOTH, "is the target detached")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return _gaussian(z[:, 1:].detach(), mean, (0.5 * log_var).exp())


@dynamics_term.wrong("source detached", BOTH, "no gradient reaches the latent that is asked")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1].detach(), action[:, :-1])
    return _gaussian(z[:, 1:], mean, (0.5 * log_var).exp())


@dynamics_term.wrong("not summed", CONTRACT, "should have shape")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return Normal(mean, (0.5 * log_var).exp()).log_prob(z[:, 1:])


@dynamics_term.wrong("wraps around with roll", CONTRACT, "should have shape")
def _(predict, z, action):
    mean, log_var = predict(z, action)
    return _gaussian(z.roll(-1, 1), mean, (0.5 * log_var).exp())


@dynamics_term.wrong("summed over time instead of latents", CONTRACT, "should have shape")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return Normal(mean, (0.5 * log_var).exp()).log_prob(z[:, 1:]).sum(1)


@dynamics_term.wrong("distance from a draw instead of a density", OBEYED, "which rows do you compare")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    drawn = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
    return _gaussian(z[:, 1:], drawn, (0.5 * log_var).exp())


@dynamics_term.wrong("the mean taken for a change", OBEYED, "which rows do you compare")
def _(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return _gaussian(z[:, 1:], z[:, :-1] + mean, (0.5 * log_var).exp())


@dynamics_term.wrong("rolled on its own predictions", FORETOLD, "row t should hold log N")
def _(predict, z, action):
    now, values = z[:, 0], []
    for t in range(z.shape[1] - 1):
        mean, log_var = predict(now, action[:, t])
        values.append(_gaussian(z[:, t + 1], mean, (0.5 * log_var).exp()))
        now = mean
    return torch.stack(values, 1)


@dynamics_term.right
def by_independent(predict, z, action):
    mean, log_var = predict(z[:, :-1], action[:, :-1])
    return Independent(Normal(mean, log_var.exp().sqrt()), 1).log_prob(z[:, 1:])


@dynamics_term.right
def all_rows_then_cut(predict, z, action):
    mean, log_var = (part[:, :-1] for part in predict(z, action))
    return -0.5 * ((z[:, 1:] - mean) ** 2 / log_var.exp() + log_var + LOG_TAU).sum(-1)


@dynamics_term.right
def step_by_step(predict, z, action):
    values = []
    for t in range(z.shape[1] - 1):
        mean, log_var = predict(z[:, t], action[:, t])
        values.append(_gaussian(z[:, t + 1], mean, torch.exp(log_var / 2)))
    return torch.stack(values, 1)


@dynamics_term.right
def flattened(predict, z, action):
    mean, log_var = predict(z[:, :-1].reshape(-1, z.shape[-1]), action[:, :-1].reshape(-1, action.shape[-1]))
    return _gaussian(z[:, 1:].reshape(-1, z.shape[-1]), mean, (log_var / 2).exp()).view(len(z), -1)


world_model_loss = Bank("world_model_loss")
SIGNS, OVER, JUNK = "its sign and its price", "over the end of an episode", "nan included"


def _steps(step, first):
    happened = ~first[:, 1:]
    return torch.where(happened, step, 0.0).sum() / happened.sum().clamp(min=1)


@world_model_loss.wrong("the objective itself", SIGNS, "an optimizer goes down")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (reconstruction - beta * kl).mean() + _steps(reward + dynamics, first)


@world_model_loss.wrong("KL rewarded", SIGNS, "the KL is rewarded")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return -(reconstruction + beta * kl).mean() - _steps(reward + dynamics, first)


@world_model_loss.wrong("dynamics of the wrong sign", SIGNS, "dynamics term raises the loss")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - _steps(reward - dynamics, first)


@world_model_loss.wrong("reward of the wrong sign", SIGNS, "reward term raises the loss")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - _steps(dynamics - reward, first)


@world_model_loss.wrong("beta forgotten", SIGNS, "beta is not used")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (kl - reconstruction).mean() - _steps(reward + dynamics, first)


@world_model_loss.wrong("beta on the reconstruction", SIGNS, "beta multiplies the reconstruction")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * (kl - reconstruction)).mean() - _steps(reward + dynamics, first)


@world_model_loss.wrong("beta on the dynamics", SIGNS, "only the KL to N(0, I) has a price")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - _steps(reward + beta * dynamics, first)


@world_model_loss.wrong("dynamics forgotten", SIGNS, "dynamics term is missing")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - _steps(reward, first) + 0 * dynamics.sum()


@world_model_loss.wrong("no mask", OVER, "no step is left out")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - (reward + dynamics).mean()


@world_model_loss.wrong("mask one row early", OVER, "ends at a first row")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - (reward + dynamics)[~first[:, :-1]].mean()


@world_model_loss.wrong("mask turned around", SIGNS, "every step happened here")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - _steps(reward + dynamics, ~first)


@world_model_loss.wrong("divided by all steps", OVER, "divided by all steps")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - torch.where(first[:, 1:], 0.0, reward + dynamics).mean()


@world_model_loss.wrong("only the dynamics masked", OVER, "only the dynamics is masked")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - reward.mean() - _steps(dynamics, first)


@world_model_loss.wrong("first frames masked, too", OVER, "the frames are masked")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction)[~first].mean() - _steps(reward + dynamics, first)


@world_model_loss.wrong("each window by itself", OVER, "averaged by itself")
def _(reconstruction, kl, reward, dynamics, first, beta):
    happened = ~first[:, 1:]
    rows = torch.where(happened, reward + dynamics, 0.0).sum(1) / happened.sum(1).clamp(min=1)
    return (beta * kl - reconstruction).mean() - rows.mean()


@world_model_loss.wrong("multiplied by the mask", JUNK, "holds nan")
def _(reconstruction, kl, reward, dynamics, first, beta):
    happened = ~first[:, 1:]
    steps = ((reward + dynamics) * happened).sum() / happened.sum().clamp(min=1)
    return (beta * kl - reconstruction).mean() - steps


@world_model_loss.wrong("0 / 0 without a step", "no step happened", "holds nan")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return (beta * kl - reconstruction).mean() - (reward + dynamics)[~first[:, 1:]].mean()


@world_model_loss.wrong("summed over rows", SIGNS, "summed over a window's rows")
def _(reconstruction, kl, reward, dynamics, first, beta):
    steps = torch.where(first[:, 1:], 0.0, reward + dynamics)
    return (beta * kl - reconstruction).sum(1).mean() - steps.sum(1).mean()


@world_model_loss.wrong("a loss per window", CONTRACT, "should have shape")
def _(reconstruction, kl, reward, dynamics, first, beta):
    steps = torch.where(first[:, 1:], 0.0, reward + dynamics)
    return (beta * kl - reconstruction).mean(1) - steps.mean(1)


@world_model_loss.wrong("a Python number", CONTRACT, "should be a torch tensor")
def _(reconstruction, kl, reward, dynamics, first, beta):
    return ((beta * kl - reconstruction).mean() - _steps(reward + dynamics, first)).item()


@world_model_loss.right
def selected(reconstruction, kl, reward, dynamics, first, beta):
    happened = torch.logical_not(first[:, 1:])
    loss = beta * kl.mean() - reconstruction.mean()
    if happened.any():
        loss = loss - reward[happened].mean() - dynamics[happened].mean()
    return loss


@world_model_loss.right
def filled(reconstruction, kl, reward, dynamics, first, beta):
    ends = first[:, 1:]
    count = max(int((~ends).sum()), 1)
    steps = (reward + dynamics).masked_fill(ends, 0.0).sum() / count
    return -(reconstruction.mean() - beta * kl.mean() + steps)


@world_model_loss.right
def by_loops(reconstruction, kl, reward, dynamics, first, beta):
    batch, rows = reconstruction.shape
    frames = sum(beta * kl[b, t] - reconstruction[b, t] for b in range(batch) for t in range(rows)) / (batch * rows)
    steps = [reward[b, t] + dynamics[b, t] for b in range(batch) for t in range(rows - 1) if not bool(first[b, t + 1])]
    return frames - (torch.stack(steps).mean() if steps else 0.0)


@world_model_loss.right
def means_of_selected(reconstruction, kl, reward, dynamics, first, beta):
    rows, columns = (~first[:, 1:]).nonzero(as_tuple=True)
    both = (reward + dynamics)[rows, columns]
    return -reconstruction.mean() + kl.mul(beta).mean() - both.sum() / max(len(rows), 1)


world_model = Bank("WorldModel")
ENCODE, STEP, LOGS = "encode gives a mean", "step gives the next latent", "every log_var is a logarithm"
REWARD, SHAPES, DREAM = (
    "the reward is a number per row",
    "as many steps as asked",
    "step and reward, one after the other",
)
MATTERS, ALONE, STATE = "matters from its own step on", "dreams on its own", "by state_dict"


@world_model.wrong("multi-step GRU as a cell", STEP, "your batch becomes time")
class _SequenceGRU(Reference):
    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__(obs_size, action_size, latent_size, hidden_size)
        self.cell = nn.GRU(latent_size + action_size, hidden_size)

    def step(self, z, action):
        out, _ = self.cell(torch.cat([z, action], -1))
        mean, log_var = self.transition(out).chunk(2, -1)
        return mean, log_var.clamp(-8, 4)


@world_model.wrong("action forgotten in the dynamics", STEP, "does the action reach it")
class _ActionBlind(Reference):
    def step(self, z, action):
        return super().step(z, torch.zeros_like(action))


@world_model.wrong("no transition: the cell's output is the latent", STEP, "should return two tensors")
class _NoTransition(Reference):
    def step(self, z, action):
        return self.cell(torch.cat([z, action], -1))


@world_model.wrong("transition never defined", STEP, "has no attribute")
class _Undefined(Reference):
    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__(obs_size, action_size, latent_size, hidden_size)
        del self.transition


@world_model.wrong("a state nobody makes", STEP, "UnboundLocalError")
class _NoState(Reference):
    def step(self, z, action):
        for _ in range(1):
            h = self.cell(torch.cat([z, action], -1), h)  # noqa: F821
        return self.transition(h).chunk(2, -1)


@world_model.wrong("GRU's own range for the mean", STEP, "never leaves [-1, 1]")
class _Squashed(Reference):
    def step(self, z, action):
        mean, log_var = super().step(z, action)
        return mean.tanh(), log_var


@world_model.wrong("one state kept over calls", STEP, "another result the second time")
class _Kept(Reference):
    def step(self, z, action):
        state = getattr(self, "state", None)
        state = state if state is not None and len(state) == len(z) else None
        self.state = self.cell(torch.cat([z, action], -1), state)
        mean, log_var = self.transition(self.state).chunk(2, -1)
        return z + mean, log_var.clamp(-8, 4)


@world_model.wrong("a hidden state carried through the dream", DREAM, "anything but z carried")
class _Carried(Reference):
    def imagine(self, z, actions, horizon):
        h, latents, rewards = self.lift(z).tanh(), [], []
        for k in range(horizon):
            rewards.append(self.reward(z, actions[:, k]))
            h = self.cell(torch.cat([z, actions[:, k]], -1), h)
            z = z + self.transition(h).chunk(2, -1)[0]
            latents.append(z)
        return torch.stack(latents, 1), torch.stack(rewards, 1)


@world_model.wrong("reward after the step", DREAM, "read after the step")
class _LateReward(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = [], []
        for k in range(horizon):
            z = self.step(z, actions[:, k])[0]
            latents.append(z)
            rewards.append(self.reward(z, actions[:, k]))
        return torch.stack(latents, 1), torch.stack(rewards, 1)


@world_model.wrong("the start in the dream", DREAM, "start is in the dream")
class _WithStart(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = super().imagine(z, actions, horizon)
        return torch.cat([z[:, None], latents[:, :-1]], 1), rewards


@world_model.wrong("actions[t] is a row of the batch", SHAPES, "index 5 is out of bounds")
class _TimeFirst(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = [], []
        for t in range(horizon):
            rewards.append(self.reward(z, actions[t][: len(z)]))
            z = self.step(z, actions[t][: len(z)])[0]
            latents.append(z)
        return torch.stack(latents, 1), torch.stack(rewards, 1)


@world_model.wrong("time first comes out", SHAPES, "should return the latents (B, H, Z)")
class _TimeFirstOut(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = super().imagine(z, actions, horizon)
        return latents.transpose(0, 1), rewards.transpose(0, 1)


@world_model.wrong("horizon ignored", SHAPES, "the horizon is 3 here")
class _NoHorizon(Reference):
    def imagine(self, z, actions, horizon):
        return super().imagine(z, actions, actions.shape[1])


@world_model.wrong("one step too many", SHAPES, "the horizon is 8 here")
class _OneMore(Reference):
    def imagine(self, z, actions, horizon):
        actions = torch.cat([actions, actions[:, -1:]], 1)
        return super().imagine(z, actions, horizon + 1)


@world_model.wrong("the first action at every step", DREAM, "takes the first action")
class _FirstAction(Reference):
    def imagine(self, z, actions, horizon):
        return super().imagine(z, actions[:, :1].expand(-1, horizon, -1), horizon)


@world_model.wrong("every step from the start", DREAM, "every step starts from z")
class _FromStart(Reference):
    def imagine(self, z, actions, horizon):
        latents = [self.step(z, actions[:, k])[0] for k in range(horizon)]
        return torch.stack(latents, 1), torch.stack([self.reward(z, actions[:, k]) for k in range(horizon)], 1)


@world_model.wrong("actions one step late", DREAM, "one step late")
class _Late(Reference):
    def imagine(self, z, actions, horizon):
        return super().imagine(z, actions.roll(1, 1), horizon)


@world_model.wrong("noise in the dream", SHAPES, "is noise drawn")
class _Noisy(Reference):
    def imagine(self, z, actions, horizon):
        return super().imagine(z + 0.1 * torch.randn_like(z), actions, horizon)


@world_model.wrong("in place", SHAPES, "in place")
class _InPlace(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = super().imagine(z, actions, horizon)
        with torch.no_grad():
            z += latents[:, -1]
        return latents, rewards


@world_model.wrong("dream without gradient", MATTERS, "made under no_grad")
class _NoGrad(Reference):
    @torch.no_grad()
    def imagine(self, z, actions, horizon):
        return super().imagine(z, actions, horizon)


@world_model.wrong("latent detached between steps", MATTERS, "does not feel the start z")
class _Detached(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = [], []
        for k in range(horizon):
            rewards.append(self.reward(z, actions[:, k]))
            mean = self.step(z, actions[:, k])[0]
            latents.append(mean)
            z = mean.detach() + 0 * z
        return torch.stack(latents, 1), torch.stack(rewards, 1)


@world_model.wrong("reward of the latent alone", REWARD, "the action does not move the reward")
class _StateReward(Reference):
    def reward(self, z, action):
        return super().reward(z, 0 * action)


@world_model.wrong("reward with an axis of 1", REWARD, "is an axis of 1 left")
class _WideReward(Reference):
    def reward(self, z, action):
        return super().reward(z, action)[:, None]


@world_model.wrong("std instead of log_var", LOGS, "is it a std")
class _Std(Reference):
    def encode(self, obs):
        mean, raw = self.encoder(obs).chunk(2, -1)
        return mean, (F.softplus(raw) + 1e-3).clamp(max=4)


@world_model.wrong("log_var runs free", LOGS, "encode's log_var runs away")
class _Free(Reference):
    def encode(self, obs):
        mean, log_var = self.encoder(obs).chunk(2, -1)
        return mean, log_var


@world_model.wrong("log_var of the dynamics runs free", LOGS, "step's log_var runs away")
class _FreeStep(Reference):
    def step(self, z, action):
        change, log_var = self.transition(self.cell(torch.cat([z, action], -1), self.lift(z).tanh())).chunk(2, -1)
        return z + change, log_var


@world_model.wrong("log_var squashed to [-4, 4]", LOGS, "does not reach -8 or 4")
class _Narrow(Reference):
    def encode(self, obs):
        mean, log_var = self.encoder(obs).chunk(2, -1)
        return mean, 4 * log_var.tanh()


@world_model.wrong("one learned spread for all steps", STEP, "log_var is the same for every z and action")
class _Spread(Reference):
    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__(obs_size, action_size, latent_size, hidden_size)
        self.spread = nn.Parameter(torch.zeros(latent_size))

    def step(self, z, action):
        return super().step(z, action)[0], self.spread.expand_as(z).clamp(-8, 4)


@world_model.wrong("a draw at each step of the dream", SHAPES, "is noise drawn")
class _DrawnSteps(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = [], []
        for k in range(horizon):
            rewards.append(self.reward(z, actions[:, k]))
            mean, log_var = self.step(z, actions[:, k])
            z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
            latents.append(z)
        return torch.stack(latents, 1), torch.stack(rewards, 1)


@world_model.wrong("encode draws a sample", ENCODE, "another result the second time")
class _Drawn(Reference):
    def encode(self, obs):
        mean, log_var = super().encode(obs)
        return mean + (0.5 * log_var).exp() * torch.randn_like(mean), log_var


@world_model.wrong("the same numbers as mean and log_var", ENCODE, "one and the same")
class _Twice(Reference):
    def encode(self, obs):
        mean, _ = super().encode(obs)
        return mean.clamp(-8, 4), mean.clamp(-8, 4)


@world_model.wrong("decoder squashed", ENCODE, "is its output squashed")
class _Sigmoid(Reference):
    def decode(self, z):
        return super().decode(z).sigmoid()


@world_model.wrong("normalized over the batch", ENCODE, "is a batch axis mixed")
class _BatchNorm(Reference):
    def encode(self, obs):
        return super().encode((obs - obs.mean(0)) / (obs.std(0, correction=0) + 1e-5))


@world_model.wrong("a layer made anew in every call", REWARD, "another result the second time")
class _FreshLayer(Reference):
    def reward(self, z, action):
        return nn.Linear(z.shape[-1] + action.shape[-1], 1)(torch.cat([z, action], -1))[..., 0]


@world_model.wrong("layers in a plain list", STATE, "kept in a plain list")
class _PlainList(Reference):
    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__(obs_size, action_size, latent_size, hidden_size)
        self.layers = [self.encoder]
        del self.encoder

    def encode(self, obs):
        mean, log_var = self.layers[0](obs).chunk(2, -1)
        return mean, (30 * log_var).clamp(-8, 4)


@world_model.wrong("sizes written down", "works for other sizes", "mat1")
class _Fixed(Reference):
    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__(obs_size, action_size, latent_size, hidden_size)
        self.rewards = mlp(3 + 2, 16, 1)


@world_model.wrong("arguments in another order", ENCODE, "of shape (64, 3)")
class _Order(Reference):
    def __init__(self, obs_size, latent_size, action_size, hidden_size):
        super().__init__(obs_size, action_size, latent_size, hidden_size)


@world_model.wrong("reward squashed", REWARD, "is it squashed")
class _SquashedReward(Reference):
    def reward(self, z, action):
        return super().reward(z, action).tanh()


@world_model.wrong("dream clamped on the way", "a wild dream", "cut off on the way")
class _ClampedDream(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = super().imagine(z, actions, horizon)
        return latents.clamp(-20, 20), rewards


@world_model.wrong("encodes its own drawings on the way", DREAM, "anything but z carried")
class _Encoded(Reference):
    def imagine(self, z, actions, horizon):
        latents, rewards = [], []
        for k in range(horizon):
            rewards.append(self.reward(z, actions[:, k]))
            latents.append(self.step(z, actions[:, k])[0])
            z = self.encode(self.decode(latents[-1]))[0]
        return torch.stack(latents, 1), torch.stack(rewards, 1)


@world_model.right
class CellFromZeros(nn.Module):
    """The sketch, mended with as little as possible."""

    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(obs_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 2 * latent_size))
        self.dec = nn.Sequential(nn.Linear(latent_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, obs_size))
        self.gru = nn.GRUCell(latent_size + action_size, hidden_size)
        self.to_mean = nn.Linear(hidden_size, latent_size)
        self.to_log_var = nn.Linear(hidden_size, latent_size)
        self.head = nn.Linear(latent_size + action_size, 1)

    def encode(self, obs):
        mean, log_var = self.enc(obs).chunk(2, dim=-1)
        return mean, torch.clamp(log_var, -8, 4)

    def decode(self, z):
        return self.dec(z)

    def step(self, z, action):
        h = self.gru(torch.cat([z, action], dim=-1))
        return self.to_mean(h), torch.clamp(self.to_log_var(h), -8, 4)

    def reward(self, z, action):
        return self.head(torch.cat([z, action], dim=-1)).squeeze(-1)

    def imagine(self, z, actions, horizon):
        latents, rewards = [], []
        for k in range(horizon):
            rewards.append(self.reward(z, actions[:, k]))
            z, _ = self.step(z, actions[:, k])
            latents.append(z)
        return torch.stack(latents, dim=1), torch.stack(rewards, dim=1)


@world_model.right
class ActionAsInput(nn.Module):
    """The latent, lifted, is the cell's state; the action is its input. Soft limits, one tensor filled in place."""

    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__()
        self.latent_size = latent_size
        self.body = nn.Linear(obs_size, hidden_size)
        self.mean, self.log_var = nn.Linear(hidden_size, latent_size), nn.Linear(hidden_size, latent_size)
        self.draw = nn.Linear(latent_size, obs_size)
        self.into, self.cell = nn.Linear(latent_size, hidden_size), nn.GRUCell(action_size, hidden_size)
        self.out = nn.Linear(hidden_size, 2 * latent_size)
        self.earn = nn.Bilinear(latent_size, action_size, 1)
        self.earn_alone = nn.Linear(latent_size + action_size, 1)

    def encode(self, obs):
        h = torch.relu(self.body(obs))
        return self.mean(h), -2 + 6 * torch.tanh(self.log_var(h))

    def decode(self, z):
        return self.draw(z)

    def step(self, z, action):
        parts = self.out(self.cell(action, self.into(z)))
        change, raw = parts[:, : self.latent_size], parts[:, self.latent_size :]
        return z + change, -8 + 12 * torch.sigmoid(raw)

    def reward(self, z, action):
        return (self.earn(z, action) + self.earn_alone(torch.cat([z, action], -1))).flatten()

    def imagine(self, z, actions, horizon):
        latents = z.new_zeros(len(z), horizon + 1, self.latent_size)
        latents[:, 0] = z
        for k in range(horizon):
            latents[:, k + 1] = self.step(latents[:, k].clone(), actions[:, k])[0]
        rewards = [self.reward(latents[:, k], actions[:, k]) for k in range(horizon)]
        return latents[:, 1:], torch.stack(rewards, 1)


@world_model.right
class OneStepOfAGRU(Reference):
    """nn.GRU is allowed, if it is handed sequences of length 1."""

    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__(obs_size, action_size, latent_size, hidden_size)
        self.cell = nn.GRU(latent_size + action_size, hidden_size, batch_first=True)

    def step(self, z, action):
        out, _ = self.cell(torch.cat([z, action], -1)[:, None], self.lift(z)[None])
        mean, log_var = self.transition(out[:, 0]).chunk(2, -1)
        return mean, log_var.clamp(-8, 4)


@world_model.right
class NoCellAtAll(Reference):
    """A plain network does, too: what counts is p(z' | z, a)."""

    def __init__(self, obs_size, action_size, latent_size, hidden_size):
        super().__init__(obs_size, action_size, latent_size, hidden_size)
        self.network = mlp(latent_size + action_size, hidden_size, 2 * latent_size)

    def step(self, z, action):
        mean, log_var = torch.split(self.network(torch.cat([z, action], -1)), z.shape[-1], dim=-1)
        return mean, log_var.clamp(-8.0, 4.0)
