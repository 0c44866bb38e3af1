"""Answers to lesson 09's exercises."""

import torch

from tests.banks.bank import CONTRACT, Bank

imagined_return = Bank("imagined_return")
SUM, CHAIN, POWER, PAIR, SLOPE, ONCE = (
    "rewards of all steps are summed",
    "the state that the last one led to",
    "discount to the power t",
    "may be a pair",
    "gradients reach the actions",
    "asked once a step",
)


def walked(model, state, actions):
    rewards = []
    for action in actions.unbind(1):
        state, reward = model(state, action)
        rewards.append(reward)
    return torch.stack(rewards, 1)


def powers(rewards, discount):
    return rewards * discount ** torch.arange(rewards.shape[1])


@imagined_return.wrong("averages", SUM, "a return is a sum")
def _(model, state, actions, discount):
    return powers(walked(model, state, actions), discount).mean(1)


@imagined_return.wrong("the last reward only", SUM, "only the last reward")
def _(model, state, actions, discount):
    return powers(walked(model, state, actions), discount)[:, -1]


@imagined_return.wrong("returns inside the loop", SUM, "only the first reward")
def _(model, state, actions, discount):
    for action in actions.unbind(1):
        return model(state, action)[1]


@imagined_return.wrong("stops one step early", SUM, "last action is never taken")
def _(model, state, actions, discount):
    return powers(walked(model, state, actions), discount)[:, :-1].sum(1)


@imagined_return.wrong("leaves the first reward out", SUM, "first reward is left out")
def _(model, state, actions, discount):
    return powers(walked(model, state, actions), discount)[:, 1:].sum(1)


@imagined_return.wrong("a cost", SUM, "sign is turned around")
def _(model, state, actions, discount):
    return -powers(walked(model, state, actions), discount).sum(1)


@imagined_return.wrong("sums over the rows, too", CONTRACT, "should have shape")
def _(model, state, actions, discount):
    return powers(walked(model, state, actions), discount).sum()


@imagined_return.wrong("all actions in the first state", CHAIN, "hand the next state on")
def _(model, state, actions, discount):
    rewards = torch.stack([model(state, action)[1] for action in actions.unbind(1)], 1)
    return powers(rewards, discount).sum(1)


@imagined_return.wrong("backwards in time", CHAIN, "from the last to the first")
def _(model, state, actions, discount):
    return powers(walked(model, state, actions.flip(1)), discount).sum(1)


@imagined_return.wrong("the first action over and over", SUM, "sum of its actions")
def _(model, state, actions, discount):
    return powers(walked(model, state, actions[:, :1].expand_as(actions)), discount).sum(1)


@imagined_return.wrong("discounts from the first reward on", POWER, "discount to the power 0 is 1")
def _(model, state, actions, discount):
    return discount * powers(walked(model, state, actions), discount).sum(1)


@imagined_return.wrong("total = discount * total + reward", POWER, "from the wrong end")
def _(model, state, actions, discount):
    total = 0
    for reward in walked(model, state, actions).unbind(1):
        total = discount * total + reward
    return total


@imagined_return.wrong("no discount", POWER, "nothing is discounted")
def _(model, state, actions, discount):
    return walked(model, state, actions).sum(1)


@imagined_return.wrong("one discount for all", POWER, "discounted alike")
def _(model, state, actions, discount):
    return discount * walked(model, state, actions).sum(1)


@imagined_return.wrong("one discount after the first", POWER, "it is a power")
def _(model, state, actions, discount):
    rewards = walked(model, state, actions)
    return rewards[:, 0] + discount * rewards[:, 1:].sum(1)


@imagined_return.wrong("clones the state", PAIR, "has no attribute")
def _(model, state, actions, discount):
    return powers(walked(model, state.clone(), actions), discount).sum(1)


@imagined_return.wrong("total without its history", CONTRACT, "carries no gradient")
def _(model, state, actions, discount):
    with torch.no_grad():
        return powers(walked(model, state, actions), discount).sum(1)


@imagined_return.wrong("detaches the state between steps", SLOPE, "cut off in part")
def _(model, state, actions, discount):
    total = 0.0
    for t, action in enumerate(actions.unbind(1)):
        state, reward = model(state, action)
        state = tuple(x.detach() for x in state) if isinstance(state, tuple) else state.detach()
        total = total + discount**t * reward
    return total


@imagined_return.wrong("asks twice, for state and for reward", ONCE, "once a step")
def _(model, state, actions, discount):
    total = 0.0
    for t, action in enumerate(actions.unbind(1)):
        total = total + discount**t * model(state, action)[1]
        state = model(state, action)[0]
    return total


@imagined_return.right
def by_stack(model, state, actions, discount):
    return powers(walked(model, state, actions), discount).sum(1)


@imagined_return.right
def by_weight(model, state, actions, discount):
    total, weight = torch.zeros(len(actions)), 1.0
    for t in range(actions.shape[1]):
        state, reward = model(state, actions[:, t])
        total, weight = total + weight * reward, weight * discount
    return total


@imagined_return.right
def backwards(model, state, actions, discount):
    total = 0.0
    for reward in reversed(walked(model, state, actions).unbind(1)):
        total = reward + discount * total
    return total


cem_update = Bank("cem_update")
BEST, SPREAD, SHARE, FLOOR, ALONE, ORDER = (
    "mean moves to the best",
    "spread of the elites",
    "share of the old",
    "never falls below",
    "one elite has no spread",
    "only the order",
)


def chosen(plans, scores, elites):
    index = scores.topk(elites, -1).indices[..., None, None]
    return plans.gather(1, index.expand(-1, -1, *plans.shape[2:]))


def blended(best, mean, std, momentum, floor, correction=0):
    mean = momentum * mean + (1 - momentum) * best.mean(1)
    return mean, (momentum * std + (1 - momentum) * best.std(1, correction=correction)).clamp(min=floor)


@cem_update.wrong("the worst", BEST, "worst plans")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, -scores, elites), mean, std, momentum, floor)


@cem_update.wrong("sorts upwards and takes the first", BEST, "worst plans")
def _(plans, scores, mean, std, elites, momentum, floor):
    index = scores.argsort(-1)[:, :elites, None, None].expand(-1, -1, *plans.shape[2:])
    return blended(plans.gather(1, index), mean, std, momentum, floor)


@cem_update.wrong("everybody", BEST, "all plans count")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(plans, mean, std, momentum, floor)


@cem_update.wrong("the best alone", BEST, "single best plan")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, 1), mean, std, momentum, floor)


@cem_update.wrong("one elite too few", BEST, "one elite too few")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, elites - 1), mean, std, momentum, floor)


@cem_update.wrong("one elite too many", BEST, "one elite too many")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, elites + 1), mean, std, momentum, floor)


@cem_update.wrong("std, then mean", BEST, "std came first")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, elites), mean, std, momentum, floor)[::-1]


@cem_update.wrong("weighted by scores", BEST, "every elite counts alike")
def _(plans, scores, mean, std, elites, momentum, floor):
    new = (plans * scores.softmax(-1)[..., None, None]).sum(1)
    best = chosen(plans, scores, elites)
    return momentum * mean + (1 - momentum) * new, blended(best, mean, std, momentum, floor)[1]


@cem_update.wrong("the first few", BEST, "whatever their scores")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(plans[:, :elites], mean, std, momentum, floor)


@cem_update.wrong("one ranking for all starts", BEST, "each start for itself")
def _(plans, scores, mean, std, elites, momentum, floor):
    index = scores.flatten().topk(elites * len(plans)).indices
    best = plans.flatten(0, 1)[index][None].expand(len(plans), -1, -1, -1)
    return blended(best, mean, std, momentum, floor)


@cem_update.wrong("the first start's elites for all", BEST, "start by start")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(plans[:, scores[0].topk(elites).indices], mean, std, momentum, floor)


@cem_update.wrong("sums the elites", BEST, "summed over the elites")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    return momentum * mean + (1 - momentum) * best.sum(1), blended(best, mean, std, momentum, floor)[1]


@cem_update.wrong("correction 1", SPREAD, "elites - 1")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, elites), mean, std, momentum, floor, correction=1)


@cem_update.wrong("variance", SPREAD, "variance, not its root")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    new = momentum * std + (1 - momentum) * best.var(1, correction=0)
    return blended(best, mean, std, momentum, floor)[0], new.clamp(min=floor)


@cem_update.wrong("spread of all", SPREAD, "all plans, not of the elites")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    return blended(best, mean, std, momentum, floor)[0], blended(plans, mean, std, momentum, floor)[1]


@cem_update.wrong("one spread a plan", SPREAD, "each step has its own")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    spread = best.std((1, 2), correction=0)[:, None].expand_as(std)
    return blended(best, mean, std, momentum, floor)[0], (momentum * std + (1 - momentum) * spread).clamp(min=floor)


@cem_update.wrong("around the old mean", SPREAD, "around the old mean")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    spread = (best - mean[:, None]).square().mean(1).sqrt()
    return blended(best, mean, std, momentum, floor)[0], (momentum * std + (1 - momentum) * spread).clamp(min=floor)


@cem_update.wrong("the old std", SPREAD, "old std came back")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, elites), mean, std, momentum, floor)[0], std.clamp(min=floor)


@cem_update.wrong("momentum on the new", BEST, "which share is kept")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, elites), mean, std, 1 - momentum, floor)


@cem_update.wrong("no momentum", SHARE, "momentum is not used (mean)")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, elites), mean, std, 0.0, floor)


@cem_update.wrong("momentum for the mean only", SHARE, "momentum is not used (std)")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    return blended(best, mean, std, momentum, floor)[0], best.std(1, correction=0).clamp(min=floor)


@cem_update.wrong("adds momentum times the old", SHARE, "the two shares sum to 1")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    return best.mean(1) + momentum * mean, (best.std(1, correction=0) + momentum * std).clamp(min=floor)


@cem_update.wrong("no floor", FLOOR, "end the search for good")
def _(plans, scores, mean, std, elites, momentum, floor):
    return blended(chosen(plans, scores, elites), mean, std, momentum, 0.0)


@cem_update.wrong("the floor as a ceiling", SPREAD, "lower bound")
def _(plans, scores, mean, std, elites, momentum, floor):
    mean, std = blended(chosen(plans, scores, elites), mean, std, momentum, 0.0)
    return mean, std.clamp(max=floor)


@cem_update.wrong("adds the floor", FLOOR, "floor is added")
def _(plans, scores, mean, std, elites, momentum, floor):
    mean, std = blended(chosen(plans, scores, elites), mean, std, momentum, 0.0)
    return mean, std + floor


@cem_update.wrong("floor before the blend", FLOOR, "before the blending")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    new = momentum * std + (1 - momentum) * best.std(1, correction=0).clamp(min=floor)
    return blended(best, mean, std, momentum, floor)[0], new


@cem_update.wrong("floor under the mean", BEST, "mean of the plans")
def _(plans, scores, mean, std, elites, momentum, floor):
    mean, std = blended(chosen(plans, scores, elites), mean, std, momentum, floor)
    return mean.clamp(min=floor), std


@cem_update.wrong("nan with one elite", ALONE, "nan")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    factor = ((elites - 1) / elites) ** 0.5
    new = momentum * std + (1 - momentum) * factor * best.std(1)
    return blended(best, mean, std, momentum, floor)[0], new.clamp(min=floor)


@cem_update.wrong("changes mean in place", CONTRACT, "edited in place")
def _(plans, scores, mean, std, elites, momentum, floor):
    best = chosen(plans, scores, elites)
    mean.mul_(momentum).add_((1 - momentum) * best.mean(1))
    return mean, blended(best, mean, std, momentum, floor)[1]


@cem_update.wrong("the elites themselves", CONTRACT, "should have shape")
def _(plans, scores, mean, std, elites, momentum, floor):
    return chosen(plans, scores, elites), std


@cem_update.right
def by_loop(plans, scores, mean, std, elites, momentum, floor):
    means, stds = [], []
    for b in range(len(plans)):
        best = plans[b, scores[b].argsort(descending=True)[:elites]]
        means.append(momentum * mean[b] + (1 - momentum) * best.mean(0))
        stds.append(torch.clamp(momentum * std[b] + (1 - momentum) * best.std(0, unbiased=False), min=floor))
    return torch.stack(means), torch.stack(stds)


@cem_update.right
def by_mask(plans, scores, mean, std, elites, momentum, floor):
    limit = scores.topk(elites, -1).values[:, -1:]
    keep = (scores >= limit).float()[..., None, None] / elites
    new = (keep * plans).sum(1)
    spread = (keep * (plans - new[:, None]).square()).sum(1).sqrt()
    return torch.lerp(new, mean, momentum), torch.lerp(spread, std, momentum).clamp_min(floor)


@cem_update.right
def by_take_along(plans, scores, mean, std, elites, momentum, floor):
    rows = torch.arange(len(plans))[:, None]
    best = plans[rows, scores.sort(-1, descending=True).indices[:, :elites]]
    return blended(best, mean, std, momentum, floor)


mpc_step = Bank("mpc_step")
ACT, UP, FROM, HORIZON = "first action of the new plan", "moves up", "the search begins", "horizon of one"


def moved(plan):
    return torch.cat([plan[:, 1:], plan[:, -1:]], 1)


@mpc_step.wrong("acts by the old plan", ACT, "was the new plan used")
def _(search, state, warm):
    return warm[:, 0], moved(search(state, warm))


@mpc_step.wrong("acts by the last action", ACT, "the plan's last action")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, -1], moved(plan)


@mpc_step.wrong("moves up first, then acts", ACT, "second action")
def _(search, state, warm):
    plan = moved(search(state, warm))
    return plan[:, 0], plan


@mpc_step.wrong("acts by the average", ACT, "average action")
def _(search, state, warm):
    plan = search(state, warm)
    return plan.mean(1), moved(plan)


@mpc_step.wrong("gives the whole plan", CONTRACT, "should have shape")
def _(search, state, warm):
    plan = search(state, warm)
    return plan, moved(plan)


@mpc_step.wrong("does not move up", UP, "not moved up")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, 0], plan


@mpc_step.wrong("moves the old plan up", UP, "old plan is moved up")
def _(search, state, warm):
    return search(state, warm)[:, 0], moved(warm)


@mpc_step.wrong("keeps the old plan", UP, "old plan goes on")
def _(search, state, warm):
    return search(state, warm)[:, 0], warm.clone()


@mpc_step.wrong("moves the wrong way", UP, "moved the wrong way")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, 0], torch.cat([plan[:, :1], plan[:, :-1]], 1)


@mpc_step.wrong("zeros at the end", UP, "zeros at the end")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, 0], torch.cat([plan[:, 1:], torch.zeros_like(plan[:, :1])], 1)


@mpc_step.wrong("rolls", UP, "roll makes a circle")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, 0], plan.roll(-1, 1)


@mpc_step.wrong("starts cold", UP, "cold start")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, 0], torch.zeros_like(plan)


@mpc_step.wrong("a plan one shorter", CONTRACT, "should have shape")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, 0], plan[:, 1:]


@mpc_step.wrong("moves along the starts", UP, "along the starts")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, 0], plan.roll(-1, 0)


@mpc_step.wrong("searches from nothing", FROM, "from nothing")
def _(search, state, warm):
    plan = search(state, torch.zeros_like(warm))
    return plan[:, 0], moved(plan)


@mpc_step.wrong("moves up before the search", FROM, "moved up before the search")
def _(search, state, warm):
    plan = search(state, moved(warm))
    return plan[:, 0], plan


@mpc_step.wrong("moves up before the search and after it", FROM, "moved up before the search")
def _(search, state, warm):
    plan = search(state, moved(warm))
    return plan[:, 0], moved(plan)


@mpc_step.wrong("searches twice", FROM, "search once")
def _(search, state, warm):
    return search(state, warm)[:, 0], moved(search(state, warm))


@mpc_step.wrong("refines a second time", FROM, "search once")
def _(search, state, warm):
    plan = search(state, search(state, warm))
    return plan[:, 0], moved(plan)


@mpc_step.wrong("changes the plan in place", CONTRACT, "edited in place")
def _(search, state, warm):
    plan = search(state, warm)
    warm[:, :-1] = plan[:, 1:]
    warm[:, -1] = plan[:, -1]
    return plan[:, 0], warm


@mpc_step.wrong("repeats the action before the last", UP, "the last once more")
def _(search, state, warm):
    plan = search(state, warm)
    return plan[:, 0], torch.cat([plan[:, 1:], plan[:, -2:-1]], 1)


@mpc_step.right
def by_index(search, state, warm):
    plan = search(state, warm)
    later = (torch.arange(plan.shape[1]) + 1).clamp(max=plan.shape[1] - 1)
    return plan[:, 0], plan[:, later]


@mpc_step.right
def by_roll(search, state, warm):
    plan = search(state, warm)
    later = plan.roll(-1, 1)
    later[:, -1] = plan[:, -1]
    return plan[:, 0], later


@mpc_step.right
def by_list(search, state, warm):
    first, *rest = search(state, warm).unbind(1)
    return first, torch.stack([*rest, rest[-1] if rest else first], 1)


carriers = Bank("carriers")
STAY, EVERY, ONE = "stays with member i", "every member carries one", "order of the random numbers"


@carriers.wrong("turned around", STAY, "turned around")
def _(uniform, infinite):
    return uniform.argsort(-1).flatten() if infinite else torch.arange(uniform.shape[1]).repeat(len(uniform))


@carriers.wrong("always TS1", STAY, "with TS-infinity nobody changes")
def _(uniform, infinite):
    return uniform.argsort(-1).flatten()


@carriers.wrong("always TS-infinity", ONE, "nobody is shuffled")
def _(uniform, infinite):
    return torch.arange(uniform.shape[1]).repeat(len(uniform))


@carriers.wrong("a group a member", STAY, "a whole group is carried by one")
def _(uniform, infinite):
    groups, members = uniform.shape
    return torch.arange(groups).repeat_interleave(members) if infinite else uniform.argsort(-1).flatten()


@carriers.wrong("member after member", STAY, "group after group")
def _(uniform, infinite):
    groups, members = uniform.shape
    return torch.arange(members).repeat_interleave(groups) if infinite else uniform.argsort(-1).flatten()


@carriers.wrong("rows for members", STAY, "there are only M")
def _(uniform, infinite):
    return torch.arange(uniform.numel()) if infinite else uniform.argsort(-1).flatten()


def stay(uniform):
    return torch.arange(uniform.shape[1]).repeat(len(uniform))


@carriers.wrong("five members, always", STAY, "should have shape (14,)")
def _(uniform, infinite):
    return torch.arange(5).repeat(len(uniform)) if infinite else uniform.argsort(-1).flatten()


@carriers.wrong("draws with replacement", EVERY, "a shuffle, not M draws")
def _(uniform, infinite):
    return stay(uniform) if infinite else (uniform * uniform.shape[1]).long().flatten()


@carriers.wrong("sorts along the groups", EVERY, "along the last axis")
def _(uniform, infinite):
    return stay(uniform) if infinite else uniform.argsort(0).flatten()


@carriers.wrong("shuffles all rows together", EVERY, "exactly once")
def _(uniform, infinite):
    return stay(uniform) if infinite else uniform.flatten().argsort() % uniform.shape[1]


@carriers.wrong("one member a step for the whole group", EVERY, "to one member")
def _(uniform, infinite):
    best = uniform.argmax(-1, keepdim=True).expand_as(uniform).flatten()
    return stay(uniform) if infinite else best


@carriers.wrong("one shuffle for all groups", ONE, "first one's shuffle")
def _(uniform, infinite):
    return stay(uniform) if infinite else uniform[0].argsort().repeat(len(uniform))


@carriers.wrong("descending", ONE, "largest to the smallest")
def _(uniform, infinite):
    return stay(uniform) if infinite else uniform.argsort(-1, descending=True).flatten()


@carriers.wrong("ranks", ONE, "ranks")
def _(uniform, infinite):
    return stay(uniform) if infinite else uniform.argsort(-1).argsort(-1).flatten()


@carriers.wrong("its own dice", ONE, "i-th smallest")
def _(uniform, infinite):
    return stay(uniform) if infinite else torch.rand_like(uniform).argsort(-1).flatten()


@carriers.wrong("not flat", CONTRACT, "should have shape")
def _(uniform, infinite):
    return torch.arange(uniform.shape[1]).expand(uniform.shape) if infinite else uniform.argsort(-1)


@carriers.wrong("floats", CONTRACT, "should be int64")
def _(uniform, infinite):
    return stay(uniform).float() if infinite else uniform.argsort(-1).flatten().float()


@carriers.right
def by_sort(uniform, infinite):
    groups, members = uniform.shape
    order = torch.arange(members).expand(groups, members) if infinite else uniform.sort(-1).indices
    return order.reshape(-1)


@carriers.right
def by_remainder(uniform, infinite):
    if infinite:
        return torch.arange(uniform.numel()) % uniform.shape[-1]
    return torch.cat([torch.argsort(row) for row in uniform])


particle_step = Bank("particle_step")
OWN, STD, PAID, ROWS, REACH = (
    "moved by its own member",
    "own member's std",
    "reward is its own",
    "its own rows only",
    "right member",
)


def asked(predict, obs, action, carrier):
    members = int(carrier.max()) + 1
    order = carrier.argsort(stable=True)
    said = predict(*(x[order].unflatten(0, (members, -1)) for x in (obs, action)))
    return order, [x.flatten(0, 1) for x in said]


@particle_step.wrong("leaves the rows sorted", OWN, "sorted by member")
def _(predict, obs, action, carrier, noise):
    _, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    return mean + std * noise, reward


@particle_step.wrong("undoes the order by the order", OWN, "argsort of it")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    return mean[order] + std[order] * noise, reward[order]


@particle_step.wrong("mean of all members", OWN, "mean of all members")
def _(predict, obs, action, carrier, noise):
    every = int(carrier.max()) + 1
    mean, std, reward, _ = predict(*(x.expand(every, *x.shape) for x in (obs, action)))
    return mean.mean(0) + std.mean(0) * noise, reward.mean(0)


@particle_step.wrong("member 0", OWN, "by member 0")
def _(predict, obs, action, carrier, noise):
    every = int(carrier.max()) + 1
    mean, std, reward, _ = predict(*(x.expand(every, *x.shape) for x in (obs, action)))
    return mean[0] + std[0] * noise, reward[0]


@particle_step.wrong("blocks, carrier unused", OWN, "cut into blocks")
def _(predict, obs, action, carrier, noise):
    every = int(carrier.max()) + 1
    mean, std, reward, _ = predict(*(x.unflatten(0, (every, -1)) for x in (obs, action)))
    return mean.flatten(0, 1) + std.flatten(0, 1) * noise, reward.flatten()


@particle_step.wrong("in turn, carrier unused", OWN, "come in turn")
def _(predict, obs, action, carrier, noise):
    every = int(carrier.max()) + 1
    rows = [x.unflatten(0, (-1, every)).transpose(0, 1) for x in (obs, action)]
    mean, std, reward, _ = (x.transpose(0, 1).flatten(0, 1) for x in predict(*rows))
    return mean + std * noise, reward


@particle_step.wrong("a change, not a state", OWN, "s' itself")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return obs + mean[back] + std[back] * noise, reward[back]


@particle_step.wrong("no noise", STD, "nothing was drawn")
def _(predict, obs, action, carrier, noise):
    order, (mean, _, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back], reward[back]


@particle_step.wrong("variance", STD, "std is squared")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + std[back] ** 2 * noise, reward[back]


@particle_step.wrong("root of std", STD, "root of std")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + std[back].sqrt() * noise, reward[back]


@particle_step.wrong("draws while sorted", STD, "sorted back, though it was never sorted")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return (mean + std * noise)[back], reward[back]


@particle_step.wrong("sorts the noise", STD, "noise of another row")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + std[back] * noise[order], reward[back]


@particle_step.wrong("std stays sorted", STD, "put std back")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + std * noise, reward[back]


@particle_step.wrong("noise alone", OWN, "with std 0")
def _(predict, obs, action, carrier, noise):
    order, (mean, _, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + noise, reward[back]


@particle_step.wrong("its own dice", STD, "all three of the same row")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + std[back] * torch.randn_like(noise), reward[back]


@particle_step.wrong("rewards stay sorted", PAID, "put them back")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + std[back] * noise, reward


@particle_step.wrong("the std of the reward", CONTRACT, "carries no gradient")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, _, spread) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + std[back] * noise, spread[back]


@particle_step.wrong("asks every member about every row", ROWS, "M times the work")
def _(predict, obs, action, carrier, noise):
    every, rows = int(carrier.max()) + 1, torch.arange(len(carrier))
    mean, std, reward, _ = predict(*(x.expand(every, *x.shape) for x in (obs, action)))
    return mean[carrier, rows] + std[carrier, rows] * noise, reward[carrier, rows]


@particle_step.wrong("no graph", CONTRACT, "carries no gradient")
def _(predict, obs, action, carrier, noise):
    with torch.no_grad():
        order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
        back = order.argsort()
        return mean[back] + std[back] * noise, reward[back]


@particle_step.wrong("detaches the action", REACH, "gradients do not reach action")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action.detach(), carrier)
    back = order.argsort()
    return mean[back] + std[back] * noise, reward[back]


@particle_step.wrong("only the state", CONTRACT, "")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, _, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return mean[back] + std[back] * noise


@particle_step.wrong("fills obs in place", CONTRACT, "edited in place")
def _(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    with torch.no_grad():
        obs.copy_(mean[back] + std[back] * noise)
    return mean[back] + std[back] * noise, reward[back]


@particle_step.right
def by_scatter(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return mean[back] + std[back] * noise, reward[back]


@particle_step.right
def drawn_while_sorted(predict, obs, action, carrier, noise):
    order, (mean, std, reward, _) = asked(predict, obs, action, carrier)
    back = order.argsort()
    return (mean + std * noise[order])[back], reward[back]


@particle_step.right
def by_lists(predict, obs, action, carrier, noise):
    rows = torch.stack([(carrier == m).nonzero()[:, 0] for m in range(int(carrier.max()) + 1)])
    mean, std, reward, _ = predict(obs[rows], action[rows])
    after = torch.zeros_like(obs).index_put((rows,), mean) + torch.zeros_like(obs).index_put((rows,), std) * noise
    return after, torch.zeros(len(obs)).index_put((rows,), reward)


penalized_step = Bank("penalized_step")
MIDDLE, TRUST, AGREE, PRICE, THROUGH, ASKED = (
    "moves to the members' mean",
    "weight 0 trusts",
    "members that agree",
    "disagreement of 1",
    "through the price",
    "asked once",
)


def doubt(mean, scale, correction=0):
    return (mean / scale).var(0, correction=correction).mean(-1).sqrt()


@penalized_step.wrong("the first member", MIDDLE, "first member's word")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean[0], reward.mean(0) - weight * doubt(mean, scale)


@penalized_step.wrong("sums the members", MIDDLE, "summed over the members")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.sum(0), reward.mean(0) - weight * doubt(mean, scale)


@penalized_step.wrong("the median", MIDDLE, "median")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.median(0).values, reward.mean(0) - weight * doubt(mean, scale)


@penalized_step.wrong("a change, not a state", MIDDLE, "s' itself")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return obs + mean.mean(0), reward.mean(0) - weight * doubt(mean, scale)


@penalized_step.wrong("no graph", CONTRACT, "carries no gradient")
def _(predict, obs, action, scale, weight):
    with torch.no_grad():
        mean, _, reward, _ = predict(obs, action)
        return mean.mean(0), reward.mean(0) - weight * doubt(mean, scale)


@penalized_step.wrong("every member's word", CONTRACT, "should have shape")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean, reward.mean(0) - weight * doubt(mean, scale)


@penalized_step.wrong("the first member's reward", TRUST, "first member's reward")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward[0] - weight * doubt(mean, scale)


@penalized_step.wrong("sums the rewards", TRUST, "summed over the members")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.sum(0) - weight * doubt(mean, scale)


@penalized_step.wrong("the most pessimistic member", TRUST, "lowest member's")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.amin(0) - weight * doubt(mean, scale)


@penalized_step.wrong("prices the rewards' spread", AGREE, "spread of the rewards")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * reward.std(0, correction=0)


@penalized_step.wrong("prices the noise, too", AGREE, "where does a penalty come from")
def _(predict, obs, action, scale, weight):
    mean, std, reward, _ = predict(obs, action)
    total = ((mean / scale).var(0, correction=0) + (std / scale).square().mean(0)).mean(-1).sqrt()
    return mean.mean(0), reward.mean(0) - weight * total


@penalized_step.wrong("prices the noise", AGREE, "where does a penalty come from")
def _(predict, obs, action, scale, weight):
    mean, std, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * (std / scale).square().mean((0, -1)).sqrt()


@penalized_step.wrong("a bonus", PRICE, "pays for doubt")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) + weight * doubt(mean, scale)


@penalized_step.wrong("no price", PRICE, "no price")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0)


@penalized_step.wrong("ignores scale", PRICE, "scale is not used")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * doubt(mean, 1.0)


@penalized_step.wrong("multiplies by scale", PRICE, "divide")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * doubt(mean * scale, 1.0)


@penalized_step.wrong("variance", PRICE, "variance, not its root")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * doubt(mean, scale) ** 2


@penalized_step.wrong("correction 1", PRICE, "M - 1")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * doubt(mean, scale, 1)


@penalized_step.wrong("sums over the dimensions", PRICE, "summed over the dimensions")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * (mean / scale).var(0, correction=0).sum(-1).sqrt()


@penalized_step.wrong("averages stds", PRICE, "average variances")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * (mean / scale).std(0, correction=0).mean(-1)


@penalized_step.wrong("the largest dimension", PRICE, "largest dimension")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * (mean / scale).std(0, correction=0).amax(-1)


@penalized_step.wrong("a price without a gradient", THROUGH, "do not reach action")
def _(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * doubt(mean, scale).detach()


@penalized_step.wrong("asks twice", ASKED, "once")
def _(predict, obs, action, scale, weight):
    return predict(obs, action)[0].mean(0), right(predict, obs, action, scale, weight)[1]


@penalized_step.right
def right(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    return mean.mean(0), reward.mean(0) - weight * doubt(mean, scale)


@penalized_step.right
def by_hand(predict, obs, action, scale, weight):
    mean, _, reward, _ = predict(obs, action)
    middle = sum(mean.unbind(0)) / len(mean)
    squared = torch.stack([((m - middle) / scale).square() for m in mean.unbind(0)]).mean(0)
    return middle, reward.mean(0) - weight * squared.mean(-1).sqrt()


@penalized_step.right
def by_lesson_08(predict, obs, action, scale, weight):
    from wmcourse.ensembles import penalized_reward

    said = predict(obs, action)
    return said[0].mean(0), penalized_reward(said[2], said[0], scale, weight)
