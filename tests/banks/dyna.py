"""Answers to lesson 10's exercises."""

import itertools
import math

import torch

from tests.banks.bank import CONTRACT, Bank
from wmcourse.replay import Transitions

q_update = Bank("q_update")
WAY, ENDED = "goes `rate` of the way", "where the world ended"


def learn(q, s, a, change):
    """A copy of q, changed at each learner's pair."""
    new = q.clone()
    new[torch.arange(len(q)), s, a] += change
    return new


def parts(q, s, a, n):
    """Old value, and the row of next values, of each learner."""
    row = torch.arange(len(q))
    return q[row, s, a], q[row, n]


@q_update.wrong("set to the target", WAY, "only `rate` of the way")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, reward + discount * following.amax(-1) * ~terminated - old)


@q_update.wrong("old value not taken off", WAY, "not taken off")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    _, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (reward + discount * following.amax(-1) * ~terminated))


@q_update.wrong("descends instead of ascends", WAY, "turned around")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (old - reward - discount * following.amax(-1) * ~terminated))


@q_update.wrong("no discount", WAY, "discount is missing")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (reward + following.amax(-1) * ~terminated - old))


@q_update.wrong("discounts the reward, too", WAY, "before the reward")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (discount * (reward + following.amax(-1) * ~terminated) - old))


@q_update.wrong("next value of the same move", WAY, "take the best one")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    same = following[torch.arange(len(q)), action]
    return learn(q, state, action, rate * (reward + discount * same * ~terminated - old))


@q_update.wrong("mean over next moves", WAY, "mean over moves")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (reward + discount * following.mean(-1) * ~terminated - old))


@q_update.wrong("best move at state", WAY, "not at next_state")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, here = parts(q, state, action, state)
    return learn(q, state, action, rate * (reward + discount * here.amax(-1) * ~terminated - old))


@q_update.wrong("best of the whole table", WAY, "the whole table")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, _ = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (reward + discount * q.amax((1, 2)) * ~terminated - old))


@q_update.wrong("every learner learns from every transition", WAY, "every learner's table")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    new = q.clone()
    new[:, state, action] += rate * (reward + discount * following.amax(-1) * ~terminated - old)
    return new


@q_update.wrong("next state learns", WAY, "the pair that was left")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, next_state, action, rate * (reward + discount * following.amax(-1) * ~terminated - old))


@q_update.wrong("terminated turned around", WAY, "turned around")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (reward + discount * following.amax(-1) * terminated - old))


@q_update.wrong("bootstraps behind the end", ENDED, "terminated is not used")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (reward + discount * following.amax(-1) - old))


@q_update.wrong("last reward lost", ENDED, "last reward is lost")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * ((reward + discount * following.amax(-1)) * ~terminated - old))


@q_update.wrong("nothing learned at the end", ENDED, "nothing is learned")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    return learn(q, state, action, rate * (reward + discount * following.amax(-1) - old) * ~terminated)


@q_update.wrong("one end stops all", ENDED, "per learner")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    follows = 0.0 if terminated.any() else following.amax(-1)
    return learn(q, state, action, rate * (reward + discount * follows - old))


@q_update.wrong("in place", CONTRACT, "")
def _(q, state, action, reward, next_state, terminated, rate, discount):
    old, following = parts(q, state, action, next_state)
    q[torch.arange(len(q)), state, action] += rate * (reward + discount * following.amax(-1) * ~terminated - old)
    return q


@q_update.right
def learner_by_learner(q, state, action, reward, next_state, terminated, rate, discount):
    new = q.clone()
    for b in range(len(q)):
        s, a, n = int(state[b]), int(action[b]), int(next_state[b])
        target = reward[b] if terminated[b] else reward[b] + discount * q[b, n].max()
        new[b, s, a] = (1 - rate) * q[b, s, a] + rate * target
    return new


@q_update.right
def one_hot(q, state, action, reward, next_state, terminated, rate, discount):
    here = torch.nn.functional.one_hot(state * q.shape[2] + action, q.shape[1] * q.shape[2]).view_as(q).float()
    best = q.gather(1, next_state[:, None, None].expand(-1, 1, q.shape[2]))[:, 0].max(-1).values
    target = reward + discount * best.masked_fill(terminated, 0.0)
    return q + rate * here * (target[:, None, None] - q)


@q_update.right
def index_put(q, state, action, reward, next_state, terminated, rate, discount):
    row = torch.arange(q.shape[0])
    target = reward + (1 - terminated.float()) * discount * torch.max(q[row, next_state], dim=1)[0]
    return q.index_put((row, state, action), torch.lerp(q[row, state, action], target, rate))


curious_reward = Bank("curious_reward")
FOUR, ADDED = "four times the steps", "added to the reward"


@curious_reward.wrong("linear", FOUR, "square root")
def _(reward, elapsed, bonus):
    return reward + bonus * elapsed.float()


@curious_reward.wrong("root of everything", FOUR, "of everything")
def _(reward, elapsed, bonus):
    return reward + (bonus * elapsed).sqrt()


@curious_reward.wrong("count bonus", FOUR, "1 / sqrt")
def _(reward, elapsed, bonus):
    return reward + bonus / elapsed.float().clamp(min=1).sqrt()


@curious_reward.wrong("sign", FOUR, "the sign")
def _(reward, elapsed, bonus):
    return reward - bonus * elapsed.float().sqrt()


@curious_reward.wrong("logarithm", FOUR, "a logarithm")
def _(reward, elapsed, bonus):
    return reward + bonus * elapsed.float().clamp(min=1).log()


@curious_reward.wrong("no weight", FOUR, "weight is missing")
def _(reward, elapsed, bonus):
    return reward + elapsed.float().sqrt()


@curious_reward.wrong("no elapsed", FOUR, "not used")
def _(reward, elapsed, bonus):
    return reward + bonus * torch.ones_like(elapsed).float()


@curious_reward.wrong("multiplied", FOUR, "added, not multiplied")
def _(reward, elapsed, bonus):
    return reward * (1 + bonus * elapsed.float().sqrt())


@curious_reward.wrong("reward missing", ADDED, "reward is missing")
def _(reward, elapsed, bonus):
    return bonus * elapsed.float().sqrt()


@curious_reward.wrong("larger of the two", ADDED, "larger of the two")
def _(reward, elapsed, bonus):
    return torch.maximum(reward, bonus * elapsed.float().sqrt())


@curious_reward.wrong("in place", CONTRACT, "")
def _(reward, elapsed, bonus):
    reward += bonus * elapsed.float().sqrt()
    return reward


@curious_reward.right
def power(reward, elapsed, bonus):
    return torch.add(reward, elapsed**0.5, alpha=bonus)


@curious_reward.right
def by_torch(reward, elapsed, bonus):
    return bonus * torch.sqrt(elapsed.to(reward.dtype)) + reward


soft_target = Bank("soft_target")
SOFT, STOPS, AIM = "smaller value - temperature", "terminated stops the sum", "number to aim at"


def soft(reward, terminated, low, cost, discount):
    return (reward + discount * (low - cost) * ~terminated).detach()


@soft_target.wrong("larger value", SOFT, "larger value")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, terminated, next_values.amax(0), temperature * next_log_prob, discount)


@soft_target.wrong("mean of critics", SOFT, "mean of both")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, terminated, next_values.mean(0), temperature * next_log_prob, discount)


@soft_target.wrong("first critic", SOFT, "first critic")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, terminated, next_values[0], temperature * next_log_prob, discount)


@soft_target.wrong("sign of the entropy", SOFT, "sign of the entropy")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, terminated, next_values.amin(0), -temperature * next_log_prob, discount)


@soft_target.wrong("no entropy", SOFT, "entropy is missing")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, terminated, next_values.amin(0), 0.0, discount)


@soft_target.wrong("no temperature", SOFT, "temperature is missing")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, terminated, next_values.amin(0), next_log_prob, discount)


@soft_target.wrong("no discount", SOFT, "discount is missing")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, terminated, next_values.amin(0), temperature * next_log_prob, 1.0)


@soft_target.wrong("entropy outside of the discount", SOFT, "outside of the discount")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    follows = discount * next_values.amin(0) - temperature * next_log_prob
    return (reward + follows * ~terminated).detach()


@soft_target.wrong("probability for its logarithm", SOFT, "not its logarithm")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, terminated, next_values.amin(0), temperature * next_log_prob.exp(), discount)


@soft_target.wrong("terminated turned around", SOFT, "turned around")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return soft(reward, ~terminated, next_values.amin(0), temperature * next_log_prob, discount)


@soft_target.wrong("terminated ignored", STOPS, "terminated is not used")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    return (reward + discount * (next_values.amin(0) - temperature * next_log_prob)).detach()


@soft_target.wrong("entropy goes on", STOPS, "never taken")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    value = next_values.amin(0) * ~terminated
    return (reward + discount * (value - temperature * next_log_prob)).detach()


@soft_target.wrong("last reward lost", STOPS, "last reward is lost")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    target = reward + discount * (next_values.amin(0) - temperature * next_log_prob)
    return torch.where(terminated, 0.0, target).detach()


@soft_target.wrong("not detached", AIM, "detach it")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    follows = next_values.amin(0) - temperature * next_log_prob
    return reward + discount * torch.where(terminated, 0.0, follows)


@soft_target.wrong("smaller over the batch", CONTRACT, "")
def _(reward, terminated, next_values, next_log_prob, temperature, discount):
    follows = next_values.amin(1) - temperature * next_log_prob
    return (reward + discount * torch.where(terminated, 0.0, follows)).detach()


@soft_target.right
def by_numbers(reward, terminated, next_values, next_log_prob, temperature, discount):
    with torch.no_grad():
        worse = torch.min(next_values[0], next_values[1])
        return reward + discount * (1 - terminated.float()) * (worse - temperature * next_log_prob)


@soft_target.right
def filled(reward, terminated, next_values, next_log_prob, temperature, discount):
    soft_values = next_values.detach() - (temperature * next_log_prob).detach()
    return reward + (discount * soft_values.min(dim=0).values).masked_fill(terminated, 0)


branched_rollouts = Bank("branched_rollouts")
GOES, ENDS, ASKED = "goes on from where", "ends where either flag", "about the branches that go on"


def stacked(steps):
    return Transitions(*(torch.cat(column) for column in zip(*steps, strict=True)))


def roll(step, policy, starts, horizon, over=lambda ended, cut: ended | cut, flag=lambda ended, cut: ended):
    """A right rollout, but for what `over` and `flag` make of the two flags."""
    obs, steps = starts, []
    for _ in range(horizon):
        action = policy(obs)
        after, reward, ended, cut = step(obs, action)
        steps.append((obs, action, reward, after, flag(ended, cut)))
        obs = after[~over(ended, cut)]
        if not len(obs):
            break
    return stacked(steps)


@branched_rollouts.wrong("obs and next_obs exchanged", GOES, "exchanged")
def _(step, policy, starts, horizon):
    obs, action, reward, after, ended = roll(step, policy, starts, horizon)
    return Transitions(after, action, reward, obs, ended)


@branched_rollouts.wrong("obs kept too late", GOES, "before it moves on")
def _(step, policy, starts, horizon):
    _, action, reward, after, ended = roll(step, policy, starts, horizon)
    return Transitions(after, action, reward, after, ended)


@branched_rollouts.wrong("one step too few", CONTRACT, "fewer than horizon")
def _(step, policy, starts, horizon):
    return roll(step, policy, starts, horizon - 1)


@branched_rollouts.wrong("one step too many", CONTRACT, "more than horizon")
def _(step, policy, starts, horizon):
    return roll(step, policy, starts, horizon + 1)


@branched_rollouts.wrong("horizon ignored", CONTRACT, "more than horizon")
def _(step, policy, starts, horizon):
    return roll(step, policy, starts, 1_000)


@branched_rollouts.wrong("ends where both flags say so", ENDS, "either flag")
def _(step, policy, starts, horizon):
    return roll(step, policy, starts, horizon, over=lambda ended, cut: ended & cut)


@branched_rollouts.wrong("one end stops all branches", ENDS, "each ends for itself")
def _(step, policy, starts, horizon):
    obs, steps = starts, []
    for _ in range(horizon):
        action = policy(obs)
        after, reward, ended, cut = step(obs, action)
        steps.append((obs, action, reward, after, ended))
        obs = after
        if (ended | cut).any():
            break
    return stacked(steps)


@branched_rollouts.wrong("never moves on", GOES, "starts again")
def _(step, policy, starts, horizon):
    steps = []
    for _ in range(horizon):
        action = policy(starts)
        after, reward, ended, _ = step(starts, action)
        steps.append((starts, action, reward, after, ended))
    return stacked(steps)


@branched_rollouts.wrong("one action for the whole branch", GOES, "at every step")
def _(step, policy, starts, horizon):
    obs, action, alive, steps = starts, policy(starts), torch.ones(len(starts), dtype=torch.bool), []
    for _ in range(horizon):
        after, reward, ended, cut = step(obs, action)
        steps.append((obs, action, reward, after, ended))
        alive = ~(ended | cut)
        obs, action = after[alive], action[alive]
        if not len(obs):
            break
    return stacked(steps)


@branched_rollouts.wrong("the horizon terminates", GOES, "a horizon is no end")
def _(step, policy, starts, horizon):
    obs, steps = starts, []
    for t in range(horizon):
        action = policy(obs)
        after, reward, ended, cut = step(obs, action)
        steps.append((obs, action, reward, after, ended | (t == horizon - 1)))
        obs = after[~(ended | cut)]
        if not len(obs):
            break
    return stacked(steps)


@branched_rollouts.wrong("looks at terminated only", ENDS, "behind truncated")
def _(step, policy, starts, horizon):
    return roll(step, policy, starts, horizon, over=lambda ended, cut: ended)


@branched_rollouts.wrong("looks at truncated only", ENDS, "behind terminated")
def _(step, policy, starts, horizon):
    return roll(step, policy, starts, horizon, over=lambda ended, cut: cut)


@branched_rollouts.wrong("last step dropped", ENDS, "is lost")
def _(step, policy, starts, horizon):
    obs, steps = starts, []
    for _ in range(horizon):
        action = policy(obs)
        after, reward, ended, cut = step(obs, action)
        on = ~(ended | cut)
        steps.append([x[on] for x in (obs, action, reward, after, ended)])
        obs = after[on]
        if not len(obs):
            break
    return stacked(steps)


@branched_rollouts.wrong("truncated stored as terminated", ENDS, "stored as terminated")
def _(step, policy, starts, horizon):
    return roll(step, policy, starts, horizon, flag=lambda ended, cut: ended | cut)


@branched_rollouts.wrong("terminated not stored", ENDS, "not stored")
def _(step, policy, starts, horizon):
    return roll(step, policy, starts, horizon, flag=lambda ended, cut: torch.zeros_like(ended))


@branched_rollouts.wrong("ended branches asked, their rows left out", ASKED, "have ended, too")
def _(step, policy, starts, horizon):
    obs, alive, steps = starts, torch.ones(len(starts), dtype=torch.bool), []
    for _ in range(horizon):
        action = policy(obs)
        after, reward, ended, cut = step(obs, action)
        steps.append([x[alive] for x in (obs, action, reward, after, ended)])
        obs, alive = after, alive & ~(ended | cut)
    return stacked(steps)


@branched_rollouts.wrong("asks about no branch", ASKED, "no branch at all")
def _(step, policy, starts, horizon):
    obs, steps = starts, []
    for _ in range(horizon):
        action = policy(obs)
        after, reward, ended, cut = step(obs, action)
        steps.append((obs, action, reward, after, ended))
        obs = after[~(ended | cut)]
    return stacked(steps)


@branched_rollouts.right
def by_rows(step, policy, starts, horizon):
    columns, rows, t = [[] for _ in range(5)], starts, 0
    while t < horizon and rows.shape[0] > 0:
        action = policy(rows)
        after, reward, ended, cut = step(rows, action)
        for column, x in zip(columns, (rows, action, reward, after, ended), strict=True):
            column.append(x)
        go_on = torch.logical_and(torch.logical_not(ended), torch.logical_not(cut))
        rows, t = after[go_on.nonzero()[:, 0]], t + 1
    return Transitions(*(torch.concat(column, 0) for column in columns))


@branched_rollouts.right
def recursive(step, policy, starts, horizon):
    action = policy(starts)
    came = step(starts, action)
    here = (starts, action, came[1], came[0], came[2])
    left = came[0][~came[2] & ~came[3]]
    if horizon == 1 or len(left) == 0:
        return Transitions(*here)
    later = recursive(step, policy, left, horizon - 1)
    return Transitions(*(torch.cat(pair) for pair in zip(here, later, strict=True)))


mix = Bank("mix")
RATIO, ROWS, EVERY = "one real to", "from the same rows", "every row can come"


def mixed(real, synthetic, count, uniform, floor=torch.floor):
    halves = []
    for source, share in ((real, uniform[:count]), (synthetic, uniform[count:])):
        size = len(source[0])
        halves.append([x[floor(share * size).long().clamp(0, size - 1)] for x in source])
    return Transitions(*(torch.cat(pair) for pair in zip(*halves, strict=True)))


@mix.wrong("ratio turned around", RATIO, "the other way round")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, len(uniform) - round(len(uniform) / (1 + ratio)), uniform)


@mix.wrong("divided by ratio", RATIO, "divide by 1 + ratio")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, min(len(uniform), round(len(uniform) / ratio)), uniform)


@mix.wrong("half and half", RATIO, "half and half")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, len(uniform) // 2, uniform)


@mix.wrong("share of the real ones cut off", RATIO, "is cut off")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, int(len(uniform) / (1 + ratio)), uniform)


@mix.wrong("share of the real ones rounded up", RATIO, "is rounded up")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, math.ceil(len(uniform) / (1 + ratio)), uniform)


@mix.wrong("always a real one", RATIO, "at least one")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, max(1, round(len(uniform) / (1 + ratio))), uniform)


@mix.wrong("synthetic first", RATIO, "come first")
def _(real, synthetic, ratio, uniform):
    count = round(len(uniform) / (1 + ratio))
    both = mixed(real, synthetic, count, uniform)
    return Transitions(*(torch.cat([x[count:], x[:count]]) for x in both))


@mix.wrong("pools exchanged", RATIO, "exchanged")
def _(real, synthetic, ratio, uniform):
    return mixed(synthetic, real, round(len(uniform) / (1 + ratio)), uniform)


@mix.wrong("all real", RATIO, "everything is real")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, len(uniform), uniform)


@mix.wrong("all synthetic", RATIO, "nothing is real")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, 0, uniform)


@mix.wrong("one number of rows for both", RATIO, "each source its own")
def _(real, synthetic, ratio, uniform):
    count, size = round(len(uniform) / (1 + ratio)), len(real[0])
    rows = (uniform * size).long()
    return Transitions(*(torch.cat([r[rows[:count]], s[rows[count:]]]) for r, s in zip(real, synthetic, strict=True)))


@mix.wrong("the first rows", RATIO, "uniform chooses")
def _(real, synthetic, ratio, uniform):
    count = round(len(uniform) / (1 + ratio))
    rows = [torch.arange(count) % len(real[0]), torch.arange(len(uniform) - count) % len(synthetic[0])]
    return Transitions(*(torch.cat([r[rows[0]], s[rows[1]]]) for r, s in zip(real, synthetic, strict=True)))


@mix.wrong("the last row never comes", RATIO, "uniform chooses")
def _(real, synthetic, ratio, uniform):
    count = round(len(uniform) / (1 + ratio))
    rows = [(u * (len(x[0]) - 1)).long() for u, x in ((uniform[:count], real), (uniform[count:], synthetic))]
    return Transitions(*(torch.cat([r[rows[0]], s[rows[1]]]) for r, s in zip(real, synthetic, strict=True)))


@mix.wrong("rounded to the nearest row", RATIO, "uniform chooses")
def _(real, synthetic, ratio, uniform):
    return mixed(real, synthetic, round(len(uniform) / (1 + ratio)), uniform, floor=torch.round)


@mix.wrong("ratio 0 divides by 0", "ratio 0", "")
def _(real, synthetic, ratio, uniform):
    count = round(len(uniform) / (1 + ratio))
    return mixed(real, synthetic, count if ratio >= 0.5 else count // 2, uniform)


@mix.right
def joined(real, synthetic, ratio, uniform):
    batch, size, other = len(uniform), len(real.obs), len(synthetic.obs)
    is_real = torch.arange(batch) < round(batch / (1 + ratio))
    rows = torch.where(
        is_real, (uniform * size).floor().clamp(max=size - 1), size + (uniform * other).floor().clamp(max=other - 1)
    )
    return Transitions(*(torch.cat(pair)[rows.long()] for pair in zip(real, synthetic, strict=True)))


@mix.right
def without_a_limit(real, synthetic, ratio, uniform):
    count = round(len(uniform) / (1 + ratio))
    first = [x[(uniform[:count] * len(x)).long()] for x in real]
    return Transitions(
        *(torch.cat([a, x[(uniform[count:] * len(x)).long()]]) for a, x in zip(first, synthetic, strict=True))
    )


@mix.right
def by_share(real, synthetic, ratio, uniform):
    count = int(len(uniform) * (1 / (1 + ratio)) + 0.5)
    first, second = uniform.split([count, len(uniform) - count])
    r = torch.clamp((first * real.obs.size(0)).to(torch.int64), max=real.obs.size(0) - 1)
    s = torch.clamp((second * synthetic.obs.size(0)).to(torch.int64), max=synthetic.obs.size(0) - 1)
    return Transitions(*[torch.cat((real[i][r], synthetic[i][s])) for i in range(5)])


dyna_loop = Bank("dyna_loop")
ALL, ONCE, TURN = "with every = 1", "goes into store", "the model's turn"


@dyna_loop.wrong("imagines before it learns", ALL, "imagine before the model")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        store(act())
        if step % every == 0:
            imagine()
            train_model()
        train_policy()


@dyna_loop.wrong("policy before imagination", ALL, "before there is anything imagined")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        store(act())
        train_policy()
        if step % every == 0:
            train_model()
            imagine()


@dyna_loop.wrong("nothing stored", ALL, "not stored")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        act()
        if step % every == 0:
            train_model()
            imagine()
        train_policy()


@dyna_loop.wrong("one step too few", ALL, "real steps were asked for")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps):
        store(act())
        if step % every == 0:
            train_model()
            imagine()
        train_policy()


@dyna_loop.wrong("acts twice", ALL, "real steps were asked for")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        act()
        store(act())
        if step % every == 0:
            train_model()
            imagine()
        train_policy()


@dyna_loop.wrong("never imagines", ALL, "trained and asked")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        store(act())
        if step % every == 0:
            train_model()
        train_policy()


@dyna_loop.wrong("policy trained at the end only", ALL, "once after each")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        store(act())
        if step % every == 0:
            train_model()
            imagine()
    train_policy()


@dyna_loop.wrong("all collected first", ALL, "in this order")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for _ in range(steps):
        store(act())
    for _ in range(steps):
        train_model()
        imagine()
        train_policy()


@dyna_loop.wrong("stores what is not there", ONCE, "what act gave")
def _(act, store, train_model, imagine, train_policy, steps, every):
    came = None
    for step in range(1, steps + 1):
        before, came = came, act()
        store(before if before is not None else came)
        if step % every == 0:
            train_model()
            imagine()
        train_policy()


@dyna_loop.wrong("counts from 0", TURN, "count steps from 1")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(steps):
        store(act())
        if step % every == 0:
            train_model()
            imagine()
        train_policy()


@dyna_loop.wrong("every ignored", TURN, "at every step")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for _ in range(steps):
        store(act())
        train_model()
        imagine()
        train_policy()


@dyna_loop.wrong("policy trained with the model only", TURN, "not only when the model was")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        store(act())
        if step % every == 0:
            train_model()
            imagine()
            train_policy()


@dyna_loop.wrong("policy trained in bursts", TURN, "several times at once")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        store(act())
        if step % every == 0:
            train_model()
            imagine()
            for _ in range(every):
                train_policy()


@dyna_loop.wrong("store called without what came", CONTRACT, "store() missing 1")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        act()
        store()
        if step % every == 0:
            train_model()
            imagine()
        train_policy()


@dyna_loop.wrong("imagines at every step", TURN, "imagine once after")
def _(act, store, train_model, imagine, train_policy, steps, every):
    for step in range(1, steps + 1):
        store(act())
        if step % every == 0:
            train_model()
        imagine()
        train_policy()


@dyna_loop.right
def counting_down(act, store, train_model, imagine, train_policy, steps, every):
    left, to_go = steps, every
    while left > 0:
        came = act()
        store(came)
        left, to_go = left - 1, to_go - 1
        if to_go == 0:
            train_model()
            imagine()
            to_go = every
        train_policy()


@dyna_loop.right
def counted(act, store, train_model, imagine, train_policy, steps, every):
    for step in itertools.islice(itertools.count(), steps):
        store(act())
        if (step + 1) % every == 0:
            for turn in (train_model, imagine):
                turn()
        train_policy()
