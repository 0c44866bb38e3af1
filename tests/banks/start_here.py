"""Answers to lesson 00's exercises."""

import numpy as np
import torch

from tests.banks.bank import CONTRACT, Bank

discounted_return = Bank("discounted_return")
AFAR, GONE = "seen from afar", "gone after the first step"


def backward(reward, step):
    out, later = [], torch.zeros(())
    for r in reward.flip(0):
        later = step(r, later)
        out.append(later)
    return torch.stack(out).flip(0)


@discounted_return.wrong("runs forward", AFAR, "looks back, not ahead")
def _(reward, discount):
    out, past = [], torch.zeros(())
    for r in reward:
        past = r + discount * past
        out.append(past)
    return torch.stack(out)


@discounted_return.wrong("forgets to turn the list around", AFAR, "last step first")
def _(reward, discount):
    return backward(reward, lambda r, later: r + discount * later).flip(0)


@discounted_return.wrong("does not discount", AFAR, "nothing is discounted")
def _(reward, discount):
    return reward.flip(0).cumsum(0).flip(0)


@discounted_return.wrong("discounts the reward of now", AFAR, "of the step itself is discounted")
def _(reward, discount):
    return backward(reward, lambda r, later: discount * (r + later))


@discounted_return.wrong("counts the power from the start", AFAR, "from the start of the episode")
def _(reward, discount):
    weighted = reward * discount ** torch.arange(len(reward))
    return weighted.flip(0).cumsum(0).flip(0)


@discounted_return.wrong("the first return for all", AFAR, "from the start of the episode")
def _(reward, discount):
    return (reward * discount ** torch.arange(len(reward))).sum().expand_as(reward).clone()


@discounted_return.wrong("an average", AFAR, "an average, a return is a sum")
def _(reward, discount):
    return backward(reward, lambda r, later: (1 - discount) * r + discount * later)


@discounted_return.wrong("divides by the discount", AFAR, "divided by the discount")
def _(reward, discount):
    return backward(reward, lambda r, later: r + later / discount)


@discounted_return.wrong("a fixed discount", AFAR, "discount to the power of k")
def _(reward, discount):
    return backward(reward, lambda r, later: r + 0.99 * later)


@discounted_return.wrong("the past counts, too", GONE, "a reward of the past still counts")
def _(reward, discount):
    away = (torch.arange(len(reward))[:, None] - torch.arange(len(reward))).abs()
    return (discount**away) @ reward


@discounted_return.wrong("one step ahead only", AFAR, "discount to the power of k")
def _(reward, discount):
    return reward + discount * torch.cat([reward[1:], torch.zeros(1)])


@discounted_return.wrong("the reward now only", AFAR, "looks back, not ahead")
def _(reward, discount):
    return reward.clone()


@discounted_return.wrong("the total", CONTRACT, "should have shape")
def _(reward, discount):
    return (reward * discount ** torch.arange(len(reward))).sum()


@discounted_return.wrong("a list", CONTRACT, "should be a torch tensor")
def _(reward, discount):
    return backward(reward, lambda r, later: r + discount * later).tolist()


@discounted_return.wrong("in place", CONTRACT, "edited in place")
def _(reward, discount):
    for t in range(len(reward) - 2, -1, -1):
        reward[t] += discount * reward[t + 1]
    return reward


@discounted_return.wrong("float64", CONTRACT, "should be float32")
def _(reward, discount):
    out = np.zeros(len(reward) + 1)
    for t in range(len(reward) - 1, -1, -1):
        out[t] = float(reward[t]) + discount * out[t + 1]
    return torch.tensor(out[:-1])


@discounted_return.right
def by_filling_in(reward, discount):
    out = reward.clone()
    for t in reversed(range(len(reward) - 1)):
        out[t] = reward[t] + discount * out[t + 1]
    return out


@discounted_return.right
def by_a_matrix(reward, discount):
    ahead = torch.arange(len(reward)) - torch.arange(len(reward))[:, None]
    weight = torch.where(ahead >= 0, torch.tensor(float(discount)) ** ahead.clamp(min=0), torch.tensor(0.0))
    return weight @ reward


@discounted_return.right
def by_python_numbers(reward, discount):
    out, later = [], 0.0
    for r in reversed(reward.tolist()):
        later = r + discount * later
        out.insert(0, later)
    return torch.tensor(out)


record_episode = Bank("record_episode")
KEPT, SEED, CUT, ENDED = (
    "every observation is kept",
    "seed is handed",
    "cut by a time limit",
    "an episode that terminates",
)
PAIRED, ASKED = "chosen from obs[t]", "asked once a step"


def packed(*columns):
    """obs, action, reward, terminated, truncated as tensors."""
    kinds = (np.float32, np.float32, np.float32, bool, bool)
    return tuple(torch.as_tensor(np.array(column, kind)) for column, kind in zip(columns, kinds, strict=True))


def played(env, policy, seed, *, until=lambda ended, cut: ended or cut, reset=None):
    """Five honest lists; the wrong answers spoil one thing each."""
    seen, _ = reset(env) if reset else env.reset(seed=seed)
    obs, action, reward, terminated, truncated = [seen], [], [], [], []
    ended = cut = False
    while not until(ended, cut):
        action.append(policy(seen))
        seen, earned, ended, cut, _ = env.step(action[-1])
        obs.append(seen)
        reward.append(earned)
        terminated.append(ended)
        truncated.append(cut)
    return obs, action, reward, terminated, truncated


@record_episode.wrong("runs on after truncated", CUT, "after the episode was truncated")
def _(env, policy, seed):
    return packed(*played(env, policy, seed, until=lambda ended, cut: ended))


@record_episode.wrong("runs on after terminated", CONTRACT, "after the episode was terminated")
def _(env, policy, seed):
    return packed(*played(env, policy, seed, until=lambda ended, cut: cut))


@record_episode.wrong("waits for both flags", CONTRACT, "which of the two flags")
def _(env, policy, seed):
    return packed(*played(env, policy, seed, until=lambda ended, cut: ended and cut))


@record_episode.wrong("200 steps, whatever happens", CONTRACT, "which of the two flags")
def _(env, policy, seed):
    count = iter(range(201))
    return packed(*played(env, policy, seed, until=lambda ended, cut: next(count) == 200))


@record_episode.wrong("swallows the error of one step too many", KEPT, "which of the two flags")
def _(env, policy, seed):
    obs, _ = env.reset(seed=seed)
    rows = []
    try:
        for _ in range(200):
            action = policy(obs)
            after, reward, ended, cut, _ = env.step(action)
            rows.append((obs, action, reward, ended, cut))
            obs = after
    except Exception:
        pass
    seen, *rest = zip(*rows, strict=True)
    return packed([*seen, obs], *rest)


@record_episode.wrong("the first observation is missing", CONTRACT, "should have shape")
def _(env, policy, seed):
    obs, *rest = played(env, policy, seed)
    return packed(obs[1:], *rest)


@record_episode.wrong("the last observation is missing", CONTRACT, "should have shape")
def _(env, policy, seed):
    obs, *rest = played(env, policy, seed)
    return packed(obs[:-1], *rest)


@record_episode.wrong("the first is missing and the last is doubled", KEPT, "from reset, is missing")
def _(env, policy, seed):
    obs, *rest = played(env, policy, seed)
    return packed([*obs[1:], obs[-1]], *rest)


@record_episode.wrong("stores what was seen before the step, twice the first", KEPT, "after the last step, is missing")
def _(env, policy, seed):
    obs, *rest = played(env, policy, seed)
    return packed([obs[0], *obs[:-1]], *rest)


@record_episode.wrong("one array stored again and again", KEPT, "one array stored again and again")
def _(env, policy, seed):
    obs, *rest = played(env, policy, seed)
    return packed([obs[-1]] * len(obs), *rest)


@record_episode.wrong("no seed", SEED, "reset got no seed")
def _(env, policy, seed):
    return packed(*played(env, policy, seed, reset=lambda env: env.reset()))


@record_episode.wrong("seed 0", SEED, "seed 0")
def _(env, policy, seed):
    return packed(*played(env, policy, 0))


@record_episode.wrong("seeds torch and not the world", SEED, "reset got no seed")
def _(env, policy, seed):
    torch.manual_seed(seed)
    return packed(*played(env, policy, seed, reset=lambda env: env.reset()))


@record_episode.wrong("flags swapped", CUT, "swapped or mixed")
def _(env, policy, seed):
    *rest, terminated, truncated = played(env, policy, seed)
    return packed(*rest, truncated, terminated)


@record_episode.wrong("one done flag for both", CUT, "swapped or mixed")
def _(env, policy, seed):
    *rest, terminated, truncated = played(env, policy, seed)
    done = [a or b for a, b in zip(terminated, truncated, strict=True)]
    return packed(*rest, done, done)


@record_episode.wrong("truncated at every end", ENDED, "swapped or mixed")
def _(env, policy, seed):
    *rest, terminated, truncated = played(env, policy, seed)
    return packed(*rest, terminated, [a or b for a, b in zip(terminated, truncated, strict=True)])


@record_episode.wrong("never truncated", CUT, "cut by the time limit")
def _(env, policy, seed):
    *rest, truncated = played(env, policy, seed)
    return packed(*rest, [False] * len(truncated))


@record_episode.wrong("never terminated", ENDED, "ended the world")
def _(env, policy, seed):
    *rest, terminated, truncated = played(env, policy, seed)
    return packed(*rest, [False] * len(terminated), truncated)


@record_episode.wrong("every step truncated", CUT, "only the last step is truncated")
def _(env, policy, seed):
    *rest, truncated = played(env, policy, seed)
    return packed(*rest, [truncated[-1]] * len(truncated))


@record_episode.wrong("asks the policy after the step", PAIRED, "obs[t + 1]")
def _(env, policy, seed):
    obs, _action, *rest = played(env, policy, seed)
    return packed(obs, [policy(seen) for seen in obs[1:]], *rest)


@record_episode.wrong("actions shifted by one", PAIRED, "of the step before")
def _(env, policy, seed):
    obs, action, *rest = played(env, policy, seed)
    return packed(obs, [action[0], *action[:-1]], *rest)


@record_episode.wrong("the policy sees the first observation for ever", PAIRED, "does the policy see the new one")
def _(env, policy, seed):
    first = env.reset(seed=seed)[0]
    return packed(*played(env, lambda seen: policy(first), seed))


@record_episode.wrong("rewards shifted by one", PAIRED, "of the step before")
def _(env, policy, seed):
    obs, action, reward, *rest = played(env, policy, seed)
    return packed(obs, action, [0.0, *reward[:-1]], *rest)


@record_episode.wrong("rewards summed up", PAIRED, "summed up")
def _(env, policy, seed):
    obs, action, reward, *rest = played(env, policy, seed)
    return packed(obs, action, np.cumsum(reward), *rest)


@record_episode.wrong("asks the policy twice", ASKED, "do you ask the policy twice")
def _(env, policy, seed):
    seen, _ = env.reset(seed=seed)
    obs, action, reward, terminated, truncated = [seen], [], [], [], []
    over = False
    while not over:
        action.append(policy(seen))
        seen, earned, ended, cut, _ = env.step(policy(seen))
        obs.append(seen)
        reward.append(earned)
        terminated.append(ended)
        truncated.append(cut)
        over = ended or cut
    return packed(obs, action, reward, terminated, truncated)


@record_episode.wrong("asks the policy once more at the end", ASKED, "not after the end")
def _(env, policy, seed):
    obs, *rest = played(env, policy, seed)
    policy(obs[-1])
    return packed(obs, *rest)


@record_episode.wrong("lists", CONTRACT, "should be a torch tensor")
def _(env, policy, seed):
    return played(env, policy, seed)


@record_episode.wrong("rewards in float64", CONTRACT, "should be float32")
def _(env, policy, seed):
    obs, action, reward, terminated, truncated = played(env, policy, seed)
    kept = packed(obs, action, reward, terminated, truncated)
    return (*kept[:2], torch.tensor(np.array(reward)), *kept[3:])


@record_episode.wrong("flags as numbers", CONTRACT, "should be bool")
def _(env, policy, seed):
    *rest, terminated, truncated = packed(*played(env, policy, seed))
    return (*rest, terminated.float(), truncated.float())


@record_episode.wrong("no observations of one step more: a dict", CONTRACT, "of 5")
def _(env, policy, seed):
    return dict(
        zip(["obs", "action", "reward", "terminated", "truncated"], packed(*played(env, policy, seed)), strict=True)
    )


@record_episode.right
def by_rows(env, policy, seed):
    seen, _info = env.reset(seed=seed)
    obs, rows = [torch.tensor(seen)], []
    while True:
        action = policy(seen)
        seen, reward, terminated, truncated, _info = env.step(action)
        obs.append(torch.tensor(seen))
        rows.append((torch.as_tensor(action), float(reward), terminated, truncated))
        if terminated or truncated:
            break
    action, reward, terminated, truncated = zip(*rows, strict=True)
    return (
        torch.stack(obs),
        torch.stack(action),
        torch.tensor(reward),
        torch.tensor(terminated),
        torch.tensor(truncated),
    )


@record_episode.right
def by_concatenation(env, policy, seed):
    seen, _ = env.reset(seed=seed)
    obs = torch.as_tensor(seen)[None]
    action, reward = torch.zeros(0, 1), torch.zeros(0)
    flags = torch.zeros(0, 2, dtype=torch.bool)
    while not flags.any():
        chosen = policy(seen)
        seen, earned, *ends, _ = env.step(chosen)
        obs = torch.cat([obs, torch.as_tensor(seen)[None]])
        action = torch.cat([action, torch.as_tensor(chosen)[None]])
        reward = torch.cat([reward, torch.tensor([float(earned)])])
        flags = torch.cat([flags, torch.tensor([ends])])
    return obs, action, reward, flags[:, 0], flags[:, 1]


stream_transitions = Bank("stream_transitions")
PAIRS, CROSSES, TOGETHER = "what came after it", "no step crosses", "dropped with their steps"
FLAGS = "only first tells"


@stream_transitions.wrong("keeps every step", CROSSES, "no step was dropped")
def _(obs, action, first):
    return obs[:-1], action[:-1], obs[1:]


@stream_transitions.wrong("drops where the row itself is first", PAIRS, "good beginning of a step")
def _(obs, action, first):
    keep = ~first[:-1]
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("drops both", PAIRS, "good beginning of a step")
def _(obs, action, first):
    keep = ~first[:-1] & ~first[1:]
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("keeps the boundaries only", CONTRACT, "should have shape")
def _(obs, action, first):
    keep = first[1:]
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("as many steps as rows", CONTRACT, "should have shape")
def _(obs, action, first):
    return obs, action, obs.roll(-1, 0)


@stream_transitions.wrong("action of the next row", PAIRS, "the action of the row after")
def _(obs, action, first):
    keep = ~first[1:]
    return obs[:-1][keep], action[1:][keep], obs[1:][keep]


@stream_transitions.wrong("obs and next_obs swapped", PAIRS, "now and next are swapped")
def _(obs, action, first):
    keep = ~first[1:]
    return obs[1:][keep], action[:-1][keep], obs[:-1][keep]


@stream_transitions.wrong("next is now", PAIRS, "how far is next")
def _(obs, action, first):
    keep = ~first[1:]
    return obs[:-1][keep], action[:-1][keep], obs[:-1][keep]


@stream_transitions.wrong("drops the last step of each episode, not the one across", CROSSES, "begins in one episode")
def _(obs, action, first):
    keep = ~torch.cat([first[2:], torch.zeros(1, dtype=torch.bool)])
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("one boundary only", CROSSES, "hold")
def _(obs, action, first):
    cut = first[1:].nonzero().flatten()[:1]
    keep = torch.ones(len(obs) - 1, dtype=torch.bool)
    keep[cut] = False
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("filters first, pairs afterwards", PAIRS, "good beginning of a step")
def _(obs, action, first):
    obs, action = obs[~first], action[~first]
    return obs[:-1], action[:-1], obs[1:]


@stream_transitions.wrong("filters the next observations alone, in another order", PAIRS, "one step after obs[i]")
def _(obs, action, first):
    keep = ~first[1:]
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep].flip(0)


@stream_transitions.wrong("tells boundaries by actions that are zero", CROSSES, "too much was dropped")
def _(obs, action, first):
    keep = action[:-1, 1] != 0  # a real action can be 0, too
    if first.sum() <= 1:
        keep = ~first[1:]
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("takes an action of 0 for no action", FLAGS, "say nothing of boundaries")
def _(obs, action, first):
    keep = ~first[1:] & (action[:-1] != 0).any(-1)
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("tells episodes apart by a number in obs", FLAGS, "say nothing of boundaries")
def _(obs, action, first):
    keep = obs[1:, 0] == obs[:-1, 0]
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("the actions are cut by other flags", TOGETHER, "no longer belong together")
def _(obs, action, first):
    keep = ~first[1:]
    return obs[:-1][keep], action[: int(keep.sum())], obs[1:][keep]


@stream_transitions.wrong("a believer in whole streams: row 0 is always a boundary", PAIRS, "good beginning of a step")
def _(obs, action, first):
    keep = ~first[1:]
    if first[0]:
        keep[0] = False
    return obs[:-1][keep], action[:-1][keep], obs[1:][keep]


@stream_transitions.wrong("two results", CONTRACT, "should be a tuple of 3")
def _(obs, action, first):
    keep = ~first[1:]
    return obs[:-1][keep], action[:-1][keep]


@stream_transitions.wrong("zeroes instead of dropping", CROSSES, "no step was dropped")
def _(obs, action, first):
    keep = (~first[1:])[:, None]
    return obs[:-1] * keep, action[:-1] * keep, obs[1:] * keep


@stream_transitions.right
def by_loop(obs, action, first):
    rows = [(obs[i], action[i], obs[i + 1]) for i in range(len(obs) - 1) if not first[i + 1]]
    if not rows:
        return obs[:0], action[:0], obs[:0]
    return tuple(torch.stack(part) for part in zip(*rows, strict=True))


@stream_transitions.right
def by_index(obs, action, first):
    index = torch.nonzero(first[1:].logical_not()).squeeze(1)
    return obs[index], action[index], obs[index + 1]


@stream_transitions.right
def by_episode_number(obs, action, first):
    episode = first.long().cumsum(0)
    same = episode[1:] == episode[:-1]
    return [obs[:-1][same], action[:-1][same], obs[1:][same]]


swap_ratio = Bank("swap_ratio")
BLIND, DIVIDED = "blind to actions", "divided by the true one"


def mse(a, b):
    return (a - b).square().mean()


def swap(change):
    """A right answer with one thing changed: what it makes of the swapped and the true predictions."""

    def answer(predict, obs, action, next_obs, order):
        return change(predict(obs, action[order]), predict(obs, action), next_obs)

    return answer


swap_ratio.wrong("upside down", DIVIDED, "upside down")(swap(lambda s, t, n: mse(t, n) / mse(s, n)))
swap_ratio.wrong("root mean squares", DIVIDED, "leave the square root out")(
    swap(lambda s, t, n: (mse(s, n) / mse(t, n)).sqrt())
)
swap_ratio.wrong("absolute errors", DIVIDED, "absolute errors")(
    swap(lambda s, t, n: (s - n).abs().mean() / (t - n).abs().mean())
)
swap_ratio.wrong("a difference", BLIND, "a difference?")(swap(lambda s, t, n: mse(s, n) - mse(t, n)))
swap_ratio.wrong("the swapped error alone", BLIND, "one error only")(swap(lambda s, t, n: mse(s, n)))
swap_ratio.wrong("a share of both", BLIND, "a half")(swap(lambda s, t, n: mse(s, n) / (mse(s, n) + mse(t, n))))
swap_ratio.wrong("a mean of ratios", DIVIDED, "averaged over ratios: average")(
    swap(lambda s, t, n: ((s - n).square().mean(0) / (t - n).square().mean(0)).mean())
)
swap_ratio.wrong("a mean of ratios by row", DIVIDED, "row by row")(
    swap(lambda s, t, n: ((s - n).square().mean(1) / (t - n).square().mean(1)).mean())
)
swap_ratio.wrong("how far the prediction moves", BLIND, "a difference?")(swap(lambda s, t, n: mse(s, t) / mse(t, n)))
swap_ratio.wrong("a ratio per sample", CONTRACT, "should have shape")(
    swap(lambda s, t, n: (s - n).square().mean(1) / (t - n).square().mean(1))
)
swap_ratio.wrong("a Python number", CONTRACT, "should be a torch tensor")(
    swap(lambda s, t, n: (mse(s, n) / mse(t, n)).item())
)
swap_ratio.wrong("constant 1", DIVIDED, "always 1")(swap(lambda s, t, n: torch.ones(())))
swap_ratio.wrong("the ratio less 1", BLIND, "a difference?")(swap(lambda s, t, n: mse(s, n) / mse(t, n) - 1))


@swap_ratio.wrong("swaps the whole batch", DIVIDED, "reordered whole")
def _(predict, obs, action, next_obs, order):
    return mse(predict(obs[order], action[order]), next_obs[order]) / mse(predict(obs, action), next_obs)


@swap_ratio.wrong("swaps the observations, too", BLIND, "the observations change places")
def _(predict, obs, action, next_obs, order):
    return mse(predict(obs[order], action[order]), next_obs) / mse(predict(obs, action), next_obs)


@swap_ratio.wrong("swaps what came next", BLIND, "what came next changes places")
def _(predict, obs, action, next_obs, order):
    return mse(predict(obs, action[order]), next_obs[order]) / mse(predict(obs, action), next_obs)


@swap_ratio.wrong("shuffles by its own dice", DIVIDED, "with swapped actions")
def _(predict, obs, action, next_obs, order):
    order = torch.randperm(len(obs))
    return mse(predict(obs, action[order]), next_obs) / mse(predict(obs, action), next_obs)


@swap_ratio.wrong("turns the order around", DIVIDED, "the order is turned around")
def _(predict, obs, action, next_obs, order):
    return mse(predict(obs, action[order.argsort()]), next_obs) / mse(predict(obs, action), next_obs)


@swap_ratio.wrong("shifts by one row", DIVIDED, "shifted by one row")
def _(predict, obs, action, next_obs, order):
    return mse(predict(obs, action.roll(1, 0)), next_obs) / mse(predict(obs, action), next_obs)


@swap_ratio.wrong("swaps in place", CONTRACT, "edited in place")
def _(predict, obs, action, next_obs, order):
    true = mse(predict(obs, action), next_obs)
    action[:] = action[order]
    return mse(predict(obs, action), next_obs) / true


@swap_ratio.wrong("negates the actions", DIVIDED, "with swapped actions")
def _(predict, obs, action, next_obs, order):
    return mse(predict(obs, -action), next_obs) / mse(predict(obs, action), next_obs)


@swap_ratio.wrong("no action at all", DIVIDED, "with swapped actions")
def _(predict, obs, action, next_obs, order):
    return mse(predict(obs, 0 * action), next_obs) / mse(predict(obs, action), next_obs)


@swap_ratio.right
def by_sums(predict, obs, action, next_obs, order):
    swapped = ((predict(obs, torch.index_select(action, 0, order)) - next_obs) ** 2).sum()
    return swapped / ((predict(obs, action) - next_obs) ** 2).sum()


@swap_ratio.right
def by_functional(predict, obs, action, next_obs, order):
    loss = torch.nn.functional.mse_loss
    with torch.no_grad():
        errors = [loss(predict(obs, taken), next_obs) for taken in (action[order], action)]
    return errors[0] / errors[1]


@swap_ratio.right
def row_by_row(predict, obs, action, next_obs, order):
    n = len(obs)
    top = sum(((predict(obs[i : i + 1], action[order[i]][None]) - next_obs[i]) ** 2).mean() for i in range(n)) / n
    return top / mse(predict(obs, action), next_obs)


bootstrap_target = Bank("bootstrap_target")
MIDDLE, TERMINATED, TRUNCATED = "in the middle", "terminated: nothing follows", "truncated: the world goes on"


@bootstrap_target.wrong("truncated as terminated", TRUNCATED, "treated as terminated")
def _(reward, next_value, terminated, truncated, discount):
    return reward + discount * next_value * ~(terminated | truncated)


@bootstrap_target.wrong("never stops", TERMINATED, "is terminated used")
def _(reward, next_value, terminated, truncated, discount):
    return reward + discount * next_value


@bootstrap_target.wrong("stops at truncated only", TERMINATED, "is terminated used")
def _(reward, next_value, terminated, truncated, discount):
    return reward + discount * next_value * ~truncated


@bootstrap_target.wrong("the flag turned around", MIDDLE, "the reward alone")
def _(reward, next_value, terminated, truncated, discount):
    return reward + discount * next_value * terminated


@bootstrap_target.wrong("no discount", MIDDLE, "not discounted")
def _(reward, next_value, terminated, truncated, discount):
    return reward + next_value * ~terminated


@bootstrap_target.wrong("discounts the reward", MIDDLE, "the reward is discounted, too")
def _(reward, next_value, terminated, truncated, discount):
    return discount * (reward + next_value * ~terminated)


@bootstrap_target.wrong("forgets the reward", MIDDLE, "the reward is missing")
def _(reward, next_value, terminated, truncated, discount):
    return discount * next_value * ~terminated


@bootstrap_target.wrong("an average", MIDDLE, "this is an average")
def _(reward, next_value, terminated, truncated, discount):
    return (1 - discount) * reward + discount * next_value * ~terminated


@bootstrap_target.wrong("loses the last reward", TERMINATED, "the last reward is lost")
def _(reward, next_value, terminated, truncated, discount):
    return (reward + discount * next_value) * ~terminated


@bootstrap_target.wrong("one end ends all", TERMINATED, "silences the whole batch")
def _(reward, next_value, terminated, truncated, discount):
    return reward if terminated.any() else reward + discount * next_value


@bootstrap_target.wrong("the reward alone", MIDDLE, "the reward alone")
def _(reward, next_value, terminated, truncated, discount):
    return reward.clone()


@bootstrap_target.wrong("bootstraps only where truncated", MIDDLE, "the reward alone")
def _(reward, next_value, terminated, truncated, discount):
    return reward + discount * next_value * truncated


@bootstrap_target.wrong("truncated wins over terminated", "both at once", "stays ended")
def _(reward, next_value, terminated, truncated, discount):
    return reward + discount * next_value * (~terminated | truncated)


@bootstrap_target.wrong("no discount where truncated", TRUNCATED, "loses its discount")
def _(reward, next_value, terminated, truncated, discount):
    return reward + torch.where(truncated, torch.tensor(1.0), torch.tensor(discount)) * next_value * ~terminated


@bootstrap_target.wrong("drops the reward of a truncated step", TRUNCATED, "of a truncated step is lost")
def _(reward, next_value, terminated, truncated, discount):
    return reward * ~truncated + discount * next_value * ~terminated


@bootstrap_target.wrong("a fixed discount", MIDDLE, "no flag is up")
def _(reward, next_value, terminated, truncated, discount):
    return reward + 0.99 * next_value * ~terminated


@bootstrap_target.wrong("in place", CONTRACT, "edited in place")
def _(reward, next_value, terminated, truncated, discount):
    next_value[terminated] = 0
    return reward + discount * next_value


@bootstrap_target.wrong("subtracts from a bool", CONTRACT, "raised this error")
def _(reward, next_value, terminated, truncated, discount):
    return reward + discount * next_value * (1 - terminated)


@bootstrap_target.wrong("the mean", CONTRACT, "should have shape")
def _(reward, next_value, terminated, truncated, discount):
    return (reward + discount * next_value * ~terminated).mean()


@bootstrap_target.right
def by_where(reward, next_value, terminated, truncated, discount):
    return torch.where(terminated, reward, reward + discount * next_value)


@bootstrap_target.right
def by_float(reward, next_value, terminated, truncated, discount):
    goes_on = 1.0 - terminated.float()
    return reward + discount * goes_on * next_value.detach()


@bootstrap_target.right
def one_by_one(reward, next_value, terminated, truncated, discount):
    rows = zip(reward, next_value, terminated, strict=True)
    return torch.stack([r if end else r + discount * v for r, v, end in rows])
