"""Answers to lesson 07's exercises."""

import torch
import torch.nn.functional as F

from tests.banks.bank import CONTRACT, Bank

previous = Bank("previous")
SHIFT, START, KINDS = "what the step before left", "nothing led to the first", "as many axes as x"


def _shifted(x):
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)


def _wide(first, x):
    return first.reshape(*first.shape, *[1] * (x.dim() - 2))


@previous.wrong("pairs the action with the observation before it", SHIFT, "nothing is shifted")
def _(x, first):
    return x.masked_fill(_wide(first, x), 0)


@previous.wrong("leaves x alone", SHIFT, "nothing is shifted")
def _(x, first):
    return x.clone()


@previous.wrong("shifts towards the past", SHIFT, "shifted the wrong way")
def _(x, first):
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1).masked_fill(_wide(first, x), 0) + 0 * x


@previous.wrong("rolls and forgets t = 0", SHIFT, "makes a circle")
def _(x, first):
    return x.roll(1, 1)


@previous.wrong("repeats the first entry", SHIFT, "is repeated")
def _(x, first):
    return torch.cat([x[:, :1], x[:, :-1]], 1)


@previous.wrong("shifts the batch", SHIFT, "time is the second axis")
def _(x, first):
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]], 0)


@previous.wrong("ignores first", START, "leads into the next")
def _(x, first):
    return _shifted(x)


@previous.wrong("zeroes before it shifts", START, "zeroed before it is shifted")
def _(x, first):
    return _shifted(x.masked_fill(_wide(first, x), 0))


@previous.wrong("zeroes the step before a start", START, "one step before the start")
def _(x, first):
    starts = torch.cat([first[:, 1:], torch.zeros_like(first[:, :1])], 1)
    return _shifted(x).masked_fill(_wide(starts, x), 0)


@previous.wrong("keeps the starts only", SHIFT, "is first turned around")
def _(x, first):
    return _shifted(x).masked_fill(~_wide(first, x), 0)


@previous.wrong("takes the new episode's action at a start", START, "new episode's own action")
def _(x, first):
    return torch.where(_wide(first, x), x, _shifted(x))


@previous.wrong("trusts first at t = 0", SHIFT, "the last step comes round")
def _(x, first):
    return x.roll(1, 1).masked_fill(_wide(first, x), 0)


@previous.wrong("one axis for all", KINDS, "came:")
def _(x, first):
    return _shifted(x).masked_fill(first.unsqueeze(-1), 0) if x.dim() == 3 else _shifted(x)


@previous.wrong("gives first one axis more, whatever x has", KINDS, "raised this error")
def _(x, first):
    return torch.where(first[..., None], 0, _shifted(x))


@previous.wrong("makes everything a float", KINDS, "should be bool")
def _(x, first):
    return _shifted(x).float() * (~_wide(first, x)).float()


@previous.wrong("edits x in place", CONTRACT, "edited in place")
def _(x, first):
    with torch.no_grad():
        x[:, 1:] = x[:, :-1].clone()
        x[:, 0] = 0
    return x * ~_wide(first, x)


@previous.right
def by_loop(x, first):
    out = []
    for t in range(x.shape[1]):
        before = x[:, t - 1] if t else torch.zeros_like(x[:, 0])
        keep = ~first[:, t].reshape(-1, *[1] * (x.dim() - 2))
        out.append(torch.where(keep, before, torch.zeros_like(before)))
    return torch.stack(out, 1)


@previous.right
def by_roll(x, first):
    first = first.clone()
    first[:, 0] = True
    out = x.roll(1, dims=1).clone()
    out[first] = 0
    return out


@previous.right
def by_empty(x, first):
    out = torch.zeros_like(x)
    out[:, 1:] = x[:, :-1]
    return torch.where(_wide(first, x).expand_as(x), torch.zeros_like(x), out)


observe_step = Bank("observe_step")
MOVES, LOOKS, DRAWS, FORGETS = "h comes from", "posterior looks at", "draw from the posterior", "there is nothing"


def _forget(first, *parts):
    return [torch.where(first[:, None], torch.zeros_like(part), part) for part in parts]


@observe_step.wrong("forgets the action", MOVES, "action is left out")
def _(model, state, action, embed, first, noise):
    h, z = _forget(first, *state)
    h = model.transition(h, z, torch.zeros_like(action))
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("draws z before h moves", MOVES, "z is drawn before h moves on")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    q = model.posterior(h, embed)
    z = model.draw(q, noise)
    return (model.transition(h, z, action), z), q


@observe_step.wrong("resets the rows that go on", MOVES, "everything is forgotten")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(~first, *state, action)
    h = model.transition(h, z, action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("hands action and z over in the wrong order", MOVES, "another order")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    h = model.transition(h, action, z)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("keeps the old h", MOVES, "h did not move")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    q = model.posterior(model.transition(h, z, action), embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("shows the posterior the old h", LOOKS, "the old h")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    q = model.posterior(h, embed)
    return (model.transition(h, z, action), model.draw(q, noise)), q


@observe_step.wrong("returns the prior's parameters", LOOKS, "this is the prior")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    h = model.transition(h, z, action)
    return (h, model.draw(model.posterior(h, embed), noise)), model.prior(h)


@observe_step.wrong("draws from the prior", DRAWS, "drawn from the prior")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    h = model.transition(h, z, action)
    return (h, model.draw(model.prior(h), noise)), model.posterior(h, embed)


@observe_step.wrong("takes the posterior's mean", DRAWS, "posterior's mean")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    h = model.transition(h, z, action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, torch.zeros_like(noise))), q


@observe_step.wrong("rolls dice of its own", DRAWS, "model.draw(posterior, noise)")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    h = model.transition(h, z, action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, torch.randn_like(noise))), q


@observe_step.wrong("ignores first", FORGETS, "first is not used")
def _(model, state, action, embed, first, noise):
    h = model.transition(*state, action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("keeps the action of the old episode", FORGETS, "action before is kept")
def _(model, state, action, embed, first, noise):
    h = model.transition(*_forget(first, *state), action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("resets h only", FORGETS, "only h is forgotten")
def _(model, state, action, embed, first, noise):
    h = model.transition(*_forget(first, state[0]), state[1], action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("clears the new h", FORGETS, "cleared")
def _(model, state, action, embed, first, noise):
    (h,) = _forget(first, model.transition(*state, action))
    q = model.posterior(h, embed)
    z = model.draw(q, noise)
    return (h, *_forget(first, z)), q


@observe_step.wrong("resets h after it moved", FORGETS, "reset before h moves")
def _(model, state, action, embed, first, noise):
    h = model.transition(*state, action) * (~first).float()[:, None]
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("resets the whole batch", FORGETS, "one start resets every row")
def _(model, state, action, embed, first, noise):
    if first.any():
        state, action = [torch.zeros_like(part) for part in state], torch.zeros_like(action)
    h = model.transition(*state, action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("resets in place", CONTRACT, "edited in place")
def _(model, state, action, embed, first, noise):
    for part in (*state, action):
        part[first] = 0
    h = model.transition(*state, action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.wrong("forgets the posterior's parameters", CONTRACT, "should be a")
def _(model, state, action, embed, first, noise):
    h = model.transition(*_forget(first, *state, action))
    return h, model.draw(model.posterior(h, embed), noise)


@observe_step.wrong("detaches the memory", "gradients flow back", "detached")
def _(model, state, action, embed, first, noise):
    h, z, action = _forget(first, *state, action)
    h = model.transition(h.detach(), z, action)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.right
def by_multiplication(model, state, action, embed, first, noise):
    keep = 1.0 - first.float().unsqueeze(-1)
    h = model.transition(state[0] * keep, state[1] * keep, action * keep)
    q = model.posterior(h, embed)
    return (h, model.draw(q, noise)), q


@observe_step.right
def by_masked_fill(model, state, action, embed, first, noise):
    mask = first[:, None]
    deter, stoch = (part.masked_fill(mask, 0.0) for part in state)
    deter = model.transition(deter, stoch, action.masked_fill(mask, 0.0))
    parameters = model.posterior(deter, embed)
    return [[deter, model.draw(parameters, noise)], parameters]


@observe_step.right
def row_by_row(model, state, action, embed, first, noise):
    rows = []
    for i in range(len(action)):
        h, z, a = state[0][i : i + 1], state[1][i : i + 1], action[i : i + 1]
        if bool(first[i]):
            h, z, a = 0 * h, 0 * z, 0 * a
        h = model.transition(h, z, a)
        q = model.posterior(h, embed[i : i + 1])
        rows.append((h, model.draw(q, noise[i : i + 1]), q))
    h, z, q = (torch.cat(part) for part in zip(*rows, strict=True))
    return (h, z), q


observe = Bank("observe")
WALKS, SWAP, BLIND = "walks through the sequence", "changes the h after it", "blind to the future"
FRESH, SAME = "as if nothing had been before", "h of the same time"


def _watch(model, embed, led, first, noise):
    """The right loop; `led` are the actions said to have led to each observation."""
    h, z = model.initial(len(embed))
    hs, zs, qs = [], [], []
    for t in range(embed.shape[1]):
        h, z, a = _forget(first[:, t], h, z, led[:, t])
        h = model.transition(h, z, a)
        q = model.posterior(h, embed[:, t])
        z = model.draw(q, noise[:, t])
        hs.append(h)
        zs.append(z)
        qs.append(q)
    h, z, q = (torch.stack(part, 1) for part in (hs, zs, qs))
    return (h, z), q, model.prior(h)


def _led(action, first):
    return torch.where(first[..., None], torch.zeros_like(action), _shifted(action))


@observe.wrong("pairs the action with its own observation", WALKS, "taken after obs")
def _(model, embed, action, first, noise):
    return _watch(model, embed, action, first, noise)


@observe.wrong("shifts the actions twice", WALKS, "shifted twice")
def _(model, embed, action, first, noise):
    return _watch(model, embed, _led(_led(action, first), first), first, noise)


@observe.wrong("rolls the actions", WALKS, "circle of time")
def _(model, embed, action, first, noise):
    return _watch(model, embed, action.roll(1, 1), first, noise)


@observe.wrong("forgets the actions", WALKS, "no action reaches")
def _(model, embed, action, first, noise):
    return _watch(model, embed, 0 * action, first, noise)


@observe.wrong("starts every step anew", WALKS, "hand the state on")
def _(model, embed, action, first, noise):
    return _anew(model, embed, _led(action, first), noise)


def _anew(model, embed, led, noise):
    hs, zs, qs = [], [], []
    for t in range(embed.shape[1]):
        h = model.transition(*model.initial(len(embed)), led[:, t])
        q = model.posterior(h, embed[:, t])
        hs.append(h)
        zs.append(model.draw(q, noise[:, t]))
        qs.append(q)
    h, z, q = (torch.stack(part, 1) for part in (hs, zs, qs))
    return (h, z), q, model.prior(h)


@observe.wrong("uses one noise for all times", WALKS, "one noise for all times")
def _(model, embed, action, first, noise):
    return _watch(model, embed, _led(action, first), first, noise[:, :1].expand_as(noise))


@observe.wrong("takes means for draws", WALKS, "noise is not used")
def _(model, embed, action, first, noise):
    return _watch(model, embed, _led(action, first), first, torch.zeros_like(noise))


@observe.wrong("reverses time", WALKS, "backwards")
def _(model, embed, action, first, noise):
    (h, z), q, p = _watch(model, embed, _led(action, first), first, noise)
    return (h.flip(1), z.flip(1)), q.flip(1), p.flip(1)


@observe.wrong("ignores first", FRESH, "first is not used")
def _(model, embed, action, first, noise):
    return _watch(model, embed, _shifted(action), torch.zeros_like(first), noise)


@observe.wrong("resets the actions and not the state", FRESH, "only the action before is forgotten")
def _(model, embed, action, first, noise):
    return _watch(model, embed, _led(action, first), torch.zeros_like(first), noise)


@observe.wrong("resets one step late", FRESH, "one step too late")
def _(model, embed, action, first, noise):
    return _watch(model, embed, _shifted(action), first.roll(1, 1), noise)


@observe.wrong("makes the prior of the posterior's input", BLIND, "the prior p(z_t | h_t) knows x_t")
def _(model, embed, action, first, noise):
    state, q, _ = _watch(model, embed, _led(action, first), first, noise)
    return state, q, q


@observe.wrong("makes the prior of the next h", BLIND, "the prior p(z_t | h_t) knows x_t")
def _(model, embed, action, first, noise):
    (h, z), q, p = _watch(model, embed, _led(action, first), first, noise)
    return (h, z), q, torch.cat([p[:, 1:], p[:, :1]], 1)


@observe.wrong("swaps prior and posterior", BLIND, "knows x_t")
def _(model, embed, action, first, noise):
    state, q, p = _watch(model, embed, _led(action, first), first, noise)
    return state, p, q


@observe.wrong("makes the prior of the h before", SAME, "one step late")
def _(model, embed, action, first, noise):
    (h, z), q, _ = _watch(model, embed, _led(action, first), first, noise)
    return (h, z), q, model.prior(_shifted(h))


@observe.wrong("stacks time first", CONTRACT, "should have shape")
def _(model, embed, action, first, noise):
    (h, z), q, p = _watch(model, embed, _led(action, first), first, noise)
    return (h.transpose(0, 1), z.transpose(0, 1)), q.transpose(0, 1), p.transpose(0, 1)


@observe.wrong("returns the last state only", CONTRACT, "should have shape")
def _(model, embed, action, first, noise):
    (h, z), q, p = _watch(model, embed, _led(action, first), first, noise)
    return (h[:, -1], z[:, -1]), q, p


@observe.wrong("zeroes the actions it was given", CONTRACT, "edited in place")
def _(model, embed, action, first, noise):
    action[first] = 0
    return _watch(model, embed, _led(action, first), first, noise)


@observe.wrong("cuts the gradient between steps", "back through time", "detached between steps")
def _(model, embed, action, first, noise):
    led, (h, z), out = _led(action, first), model.initial(len(embed)), []
    for t in range(embed.shape[1]):
        h, z, a = _forget(first[:, t], h.detach(), z.detach(), led[:, t])
        h = model.transition(h, z, a)
        q = model.posterior(h, embed[:, t])
        z = model.draw(q, noise[:, t])
        out.append((h, z, q))
    h, z, q = (torch.stack(part, 1) for part in zip(*out, strict=True))
    return (h, z), q, model.prior(h)


@observe.wrong("puts the mean into the memory and returns the draw", WALKS, "each step should start")
def _(model, embed, action, first, noise):
    led, state, out = _led(action, first), model.initial(len(embed)), []
    for t in range(embed.shape[1]):
        h = model.transition(*_forget(first[:, t], *state), led[:, t])
        q = model.posterior(h, embed[:, t])
        state = (h, model.draw(q, torch.zeros_like(noise[:, t])))
        out.append((h, model.draw(q, noise[:, t]), q))
    h, z, q = (torch.stack(part, 1) for part in zip(*out, strict=True))
    return (h, z), q, model.prior(h)


@observe.wrong("keeps the prior from training h", "back through time", "carries no gradient")
def _(model, embed, action, first, noise):
    (h, z), q, _ = _watch(model, embed, _led(action, first), first, noise)
    return (h, z), q, model.prior(h.detach())


@observe.right
def with_the_prior_inside(model, embed, action, first, noise):
    h, z = model.initial(embed.size(0))
    hs, zs, qs, ps = [], [], [], []
    for t in range(embed.size(1)):
        keep = (~first[:, t, None]).float()
        before = action[:, t - 1] if t > 0 else torch.zeros_like(action[:, 0])
        h = model.transition(h * keep, z * keep, before * keep)
        ps.append(model.prior(h))
        qs.append(model.posterior(h, embed[:, t]))
        z = model.draw(qs[-1], noise[:, t])
        hs.append(h)
        zs.append(z)
    return (torch.stack(hs, 1), torch.stack(zs, 1)), torch.stack(qs, 1), torch.stack(ps, 1)


@observe.right
def with_the_posterior_after(model, embed, action, first, noise):
    (h, z), _, p = _watch(model, embed, _led(action, first), first, noise)
    return ((h, z), model.posterior(h, embed), p)


@observe.right
def growing_with_cat(model, embed, action, first, noise):
    state, whole = model.initial(len(embed)), []
    for t in range(embed.shape[1]):
        led = _led(action, first)[:, t]
        h = model.transition(*_forget(first[:, t], *state), led)
        q = model.posterior(h, embed[:, t])
        state = (h, model.draw(q, noise[:, t]))
        new = [part[:, None] for part in (*state, q)]
        whole = [torch.cat(pair, 1) for pair in zip(whole, new, strict=True)] if whole else new
    return (whole[0], whole[1]), whole[2], model.prior(whole[0])


kl_balance = Bank("kl_balance")
VALUE, SPLIT, FLOOR, ABOVE = "its value is the KL", "dyn moves the prior", "below the floor", "above the floor"


def _clamped(value, free):
    return value.mean().clamp(min=free)


@kl_balance.wrong("turns both KLs around", VALUE, "both KLs are turned around")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = _clamped(kl(prior, posterior.detach()), free)
    return dyn * forward + rep * _clamped(kl(prior.detach(), posterior), free)


@kl_balance.wrong("turns the second KL around", VALUE, "the second KL is turned around")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = _clamped(kl(posterior.detach(), prior), free)
    return dyn * forward + rep * _clamped(kl(prior.detach(), posterior), free)


@kl_balance.wrong("sums over batch and time", VALUE, "summed over batch and time")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = kl(posterior.detach(), prior).sum().clamp(min=free)
    return dyn * forward + rep * kl(posterior, prior.detach()).sum().clamp(min=free)


@kl_balance.wrong("makes the weights add up to 1", VALUE, "made to add up to 1")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    share = dyn / (dyn + rep)
    forward = _clamped(kl(posterior.detach(), prior), free)
    return share * forward + (1 - share) * _clamped(kl(posterior, prior.detach()), free)


@kl_balance.wrong("treats dyn as a share", VALUE, "made to add up to 1")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = _clamped(kl(posterior.detach(), prior), free)
    return dyn * forward + (1 - dyn) * _clamped(kl(posterior, prior.detach()), free)


@kl_balance.wrong("returns one KL per step", CONTRACT, "should have shape")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    return dyn * kl(posterior.detach(), prior) + rep * kl(posterior, prior.detach())


@kl_balance.wrong("swaps the stops", SPLIT, "the stops are swapped")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = _clamped(kl(posterior, prior.detach()), free)
    return dyn * forward + rep * _clamped(kl(posterior.detach(), prior), free)


@kl_balance.wrong("stops nothing", SPLIT, "nothing is stopped")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    return (dyn + rep) * _clamped(kl(posterior, prior), free)


@kl_balance.wrong("stops the posterior twice", SPLIT, "do not reach posterior")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    return (dyn + rep) * _clamped(kl(posterior.detach(), prior), free)


@kl_balance.wrong("stops the KL, too", SPLIT, "do not reach posterior")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = _clamped(kl(posterior.detach(), prior), free)
    return dyn * forward + rep * _clamped(kl(posterior, prior.detach()).detach(), free)


@kl_balance.wrong("ignores free", FLOOR, "the floor is not used")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    return dyn * kl(posterior.detach(), prior).mean() + rep * kl(posterior, prior.detach()).mean()


@kl_balance.wrong("takes free nats off", FLOOR, "taken off")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = (kl(posterior.detach(), prior).mean() - free).clamp(min=0)
    return dyn * forward + rep * (kl(posterior, prior.detach()).mean() - free).clamp(min=0)


@kl_balance.wrong("puts the floor under each entry", FLOOR, "under each entry")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = kl(posterior.detach(), prior).clamp(min=free).mean()
    return dyn * forward + rep * kl(posterior, prior.detach()).clamp(min=free).mean()


@kl_balance.wrong("puts the floor under the sum of both", FLOOR, "one under each term")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    both = dyn * kl(posterior.detach(), prior).mean() + rep * kl(posterior, prior.detach()).mean()
    return both.clamp(min=free)


@kl_balance.wrong("takes Python's max of each term", FLOOR, "use clamp(min=free)")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    return dyn * max(free, kl(posterior.detach(), prior).mean()) + rep * max(free, kl(posterior, prior.detach()).mean())


@kl_balance.wrong("takes Python's max of the sum of both", FLOOR, "under the weighted sum")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    return max(free, dyn * kl(posterior.detach(), prior).mean() + rep * kl(posterior, prior.detach()).mean())


@kl_balance.wrong("takes a ceiling for the floor", VALUE, "came:")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = kl(posterior.detach(), prior).mean().clamp(max=free)
    return dyn * forward + rep * kl(posterior, prior.detach()).mean().clamp(max=free)


@kl_balance.wrong("pulls below the floor", FLOOR, "left in peace")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    def floored(value):
        return value + (value.clamp(min=free) - value).detach()

    return dyn * floored(kl(posterior.detach(), prior).mean()) + rep * floored(kl(posterior, prior.detach()).mean())


@kl_balance.wrong("floors each sequence", ABOVE, "under each sequence")
def _(kl, posterior, prior, dyn, rep, free=0.0):
    forward = kl(posterior.detach(), prior).mean(1).clamp(min=free).mean()
    return dyn * forward + rep * kl(posterior, prior.detach()).mean(1).clamp(min=free).mean()


@kl_balance.right
def with_torch_maximum(kl, posterior, prior, dyn, rep, free=0.0):
    floor = torch.tensor(float(free))
    forward = torch.maximum(kl(posterior.detach(), prior).mean(), floor)
    return dyn * forward + rep * torch.maximum(kl(posterior, prior.detach()).mean(), floor)


@kl_balance.right
def with_relu(kl, posterior, prior, dyn, rep, free=0.0):
    terms = [(dyn, kl(posterior.detach(), prior)), (rep, kl(posterior, prior.detach()))]
    return sum(weight * (free + F.relu(value.mean() - free)) for weight, value in terms)


@kl_balance.right
def with_clones(kl, posterior, prior, dyn, rep, free=0.0):
    fixed_q, fixed_p = posterior.clone().detach(), prior.clone().detach()
    dynamics, representation = kl(fixed_q, prior), kl(posterior, fixed_p)
    dynamics = dynamics.sum() / dynamics.numel()
    representation = representation.sum() / representation.numel()
    return torch.clamp(dynamics, free).mul(dyn) + torch.clamp(representation, free).mul(rep)


rssm_loss = Bank("rssm_loss")
SIGNS, MASK, SHARE = "rewarded", "it has a picture", "weight of its share"


@rssm_loss.wrong("turns the loss around", SIGNS, "the sign is turned around")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return (log_obs + known * (log_reward + log_continue)).mean() - beta * kl


@rssm_loss.wrong("rewards the KL", SIGNS, "the KL is rewarded")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return -(log_obs + known * (log_reward + log_continue)).mean() - beta * kl


@rssm_loss.wrong("adds the likelihoods", SIGNS, "are added")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return (log_obs + known * (log_reward + log_continue)).mean() + beta * kl


@rssm_loss.wrong("forgets beta", SIGNS, "beta is not used")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return kl - (log_obs + known * (log_reward + log_continue)).mean()


@rssm_loss.wrong("prices everything", SIGNS, "beta prices everything")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * (kl - (log_obs + known * (log_reward + log_continue)).mean())


@rssm_loss.wrong("forgets the reward", SIGNS, "the reward is missing")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + known * log_continue).mean()


@rssm_loss.wrong("forgets the continuation", SIGNS, "the continuation is missing")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + known * log_reward).mean()


@rssm_loss.wrong("sums over batch and time", SIGNS, "summed over batch and time")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + known * (log_reward + log_continue)).sum()


@rssm_loss.wrong("sums over time", SIGNS, "summed over time")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + known * (log_reward + log_continue)).sum(1).mean()


@rssm_loss.wrong("ignores known", MASK, "known is not used")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + log_reward + log_continue).mean()


@rssm_loss.wrong("masks the frames, too", MASK, "the frame is masked")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (known * (log_obs + log_reward + log_continue)).mean()


@rssm_loss.wrong("masks the reward only", MASK, "only the reward is masked")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + known * log_reward + log_continue).mean()


@rssm_loss.wrong("divides by the known steps", MASK, "divide by all")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - log_obs.mean() - (known * (log_reward + log_continue)).sum() / known.sum()


@rssm_loss.wrong("turns known around", SIGNS, "came:")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + (1 - known) * (log_reward + log_continue)).mean()


@rssm_loss.wrong("takes beta for a switch", "beta is the price", "goes wrong at beta 1.0")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    price = beta * kl if beta < 1 else 0 * kl
    return price - (log_obs + known * (log_reward + log_continue)).mean()


@rssm_loss.wrong("weighs the KL by what is known", MASK, "known weighs the KL")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl * known.mean() - (log_obs + known * (log_reward + log_continue)).mean()


@rssm_loss.wrong("detaches the reward", SHARE, "do not reach log_reward")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + known * (log_reward.detach() + log_continue)).mean()


@rssm_loss.wrong("returns one loss per step", CONTRACT, "should have shape")
def _(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return beta * kl - (log_obs + known * (log_reward + log_continue))


@rssm_loss.right
def term_by_term(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    return -log_obs.mean() - (known * log_reward).mean() - (known * log_continue).mean() + kl * beta


@rssm_loss.right
def by_sums(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    batch, time = log_obs.shape
    total = log_obs.sum() + torch.einsum("bt,bt->", known, log_reward) + torch.einsum("bt,bt->", known, log_continue)
    return beta * kl - total / (batch * time)


@rssm_loss.right
def by_where(log_obs, log_reward, log_continue, kl, known, beta=1.0):
    extra = torch.where(known.bool(), log_reward + log_continue, torch.zeros_like(log_reward))
    return torch.stack([-log_obs.mean(), -extra.mean(), beta * kl]).sum()


imagine_ahead = Bank("imagine_ahead")
ONE, CHAIN, POLICY = "one step: act", "follows from the one dreamed", "a policy acts"
END = "the dream ends where the noise ends"


def _act(actions, k, h, z):
    return actions[:, k] if isinstance(actions, torch.Tensor) else actions(torch.cat([h, z], -1))


def _roll(model, state, actions, noise, step):
    """The loop around one step: (h, z, action, noise) to the next (h, z)."""
    (h, z), out = state, []
    for k in range(noise.shape[1]):
        action = _act(actions, k, h, z)
        h, z = step(h, z, action, noise[:, k])
        out.append((h, z, action))
    h, z, action = (torch.stack(part, 1) for part in zip(*out, strict=True))
    return (h, z), action


def _next(model):
    def step(h, z, action, noise):
        h = model.transition(h, z, action)
        return h, model.draw(model.prior(h), noise)

    return step


@imagine_ahead.wrong("begins with the start", ONE, "this is the start")
def _(model, state, actions, noise):
    (h, z), action = _roll(model, state, actions, noise, _next(model))
    h, z = (torch.cat([s[:, None], x[:, :-1]], 1) for s, x in zip(state, (h, z), strict=True))
    return (h, z), action


@imagine_ahead.wrong("forgets the action", ONE, "action is left out")
def _(model, state, actions, noise):
    step = _next(model)
    return _roll(model, state, actions, noise, lambda h, z, a, n: step(h, z, 0 * a, n))


@imagine_ahead.wrong("draws z before h moves", ONE, "z is drawn before h moves")
def _(model, state, actions, noise):
    def step(h, z, action, noise):
        z = model.draw(model.prior(h), noise)
        return model.transition(h, z, action), z

    return _roll(model, state, actions, noise, step)


@imagine_ahead.wrong("draws from the prior of the old h", ONE, "prior of the old h")
def _(model, state, actions, noise):
    def step(h, z, action, noise):
        return model.transition(h, z, action), model.draw(model.prior(h), noise)

    return _roll(model, state, actions, noise, step)


@imagine_ahead.wrong("takes the prior's mean", ONE, "prior's mean")
def _(model, state, actions, noise):
    return _roll(model, state, actions, 0 * noise, _next(model))


@imagine_ahead.wrong("keeps z", ONE, "the start's z")
def _(model, state, actions, noise):
    return _roll(model, state, actions, noise, lambda h, z, a, n: (model.transition(h, z, a), z))


@imagine_ahead.wrong("rolls dice of its own", ONE, "with the noise given")
def _(model, state, actions, noise):
    return _roll(model, state, actions, torch.randn_like(noise), _next(model))


@imagine_ahead.wrong("starts every step from the start", CHAIN, "hand the state on")
def _(model, state, actions, noise):
    step = _next(model)
    return _roll(model, state, actions, noise, lambda h, z, a, n: step(state[0], state[1], a, n))


@imagine_ahead.wrong("repeats the first action", CHAIN, "first action is taken at every step")
def _(model, state, actions, noise):
    fixed = actions if callable(actions) else actions[:, :1].expand_as(actions)
    return _roll(model, state, fixed, noise, _next(model))


@imagine_ahead.wrong("starts with the second action", CHAIN, "one step early")
def _(model, state, actions, noise):
    later = actions if callable(actions) else actions.roll(-1, 1)
    return _roll(model, state, later, noise, _next(model))


@imagine_ahead.wrong("takes the actions one step late", ONE, "action is left out")
def _(model, state, actions, noise):
    late = actions if callable(actions) else _shifted(actions)
    return _roll(model, state, late, noise, _next(model))


@imagine_ahead.wrong("uses one noise for all steps", CHAIN, "one noise for all steps")
def _(model, state, actions, noise):
    return _roll(model, state, actions, noise[:, :1].expand_as(noise), _next(model))


@imagine_ahead.wrong("asks the policy once", POLICY, "about the start only")
def _(model, state, actions, noise):
    once = torch.stack([actions(torch.cat(list(state), -1))] * noise.shape[1], 1) if callable(actions) else actions
    return _roll(model, state, once, noise, _next(model))


@imagine_ahead.wrong("hands the policy z before h", POLICY, "h comes first")
def _(model, state, actions, noise):
    def swapped(features):
        wide = state[0].shape[-1]
        return actions(torch.cat([features[:, wide:], features[:, :wide]], -1))

    return _roll(model, state, swapped if callable(actions) else actions, noise, _next(model))


@imagine_ahead.wrong("asks the policy about the state after", POLICY, "state after")
def _(model, state, actions, noise):
    (h, z), action = _roll(model, state, actions, noise, _next(model))
    return (h, z), actions(torch.cat([h, z], -1)) if callable(actions) else action


@imagine_ahead.wrong("dreams on for all actions", END, "raised this error")
def _(model, state, actions, noise):
    (h, z), out = state, []
    for k in range(noise.shape[1] if callable(actions) else actions.shape[1]):
        action = _act(actions, k, h, z)
        h, z = _next(model)(h, z, action, noise[:, k])
        out.append((h, z, action))
    h, z, action = (torch.stack(part, 1) for part in zip(*out, strict=True))
    return (h, z), action


@imagine_ahead.wrong("returns all actions uncut", END, "should have shape")
def _(model, state, actions, noise):
    dreamed, taken = _roll(model, state, actions, noise, _next(model))
    return dreamed, taken if callable(actions) else actions


@imagine_ahead.wrong("takes the last actions", END, "from the first on")
def _(model, state, actions, noise):
    last = actions if callable(actions) else actions[:, -noise.shape[1] :]
    return _roll(model, state, last, noise, _next(model))


@imagine_ahead.wrong("takes policies only", CONTRACT, "not callable")
def _(model, state, actions, noise):
    h, z = state
    return (h, z), actions(torch.cat([h, z], -1))


@imagine_ahead.wrong("dreams without gradients", "gradients flow through the whole dream", "no gradient")
def _(model, state, actions, noise):
    with torch.no_grad():
        return _roll(model, state, actions, noise, _next(model))


@imagine_ahead.wrong("detaches what the policy sees", "gradients flow through the whole dream", "reach the policy")
def _(model, state, actions, noise):
    shy = (lambda features: actions(features.detach())) if callable(actions) else actions
    return _roll(model, state, shy, noise, _next(model))


@imagine_ahead.wrong("cuts the gradient between steps", "gradients flow through the whole dream", "detached between")
def _(model, state, actions, noise):
    step = _next(model)
    return _roll(model, state, actions, noise, lambda h, z, a, n: step(h.detach(), z, a, n))


@imagine_ahead.right
def one_loop(model, state, actions, noise):
    return _roll(model, state, actions, noise, _next(model))


@imagine_ahead.right
def with_full_tensors(model, state, actions, noise):
    deter, stoch = state
    hs, zs, acts = [], [], []
    for k, dice in enumerate(noise.unbind(1)):
        if isinstance(actions, torch.Tensor):
            action = actions[:, k]
        else:
            action = actions(torch.cat((deter, stoch), dim=-1))
        deter = model.transition(deter, stoch, action)
        stoch = model.draw(model.prior(deter), dice)
        hs += [deter]
        zs += [stoch]
        acts += [action]
    return (torch.stack(hs, dim=1), torch.stack(zs, dim=1)), torch.stack(acts, dim=1)


@imagine_ahead.right
def by_recursion(model, state, actions, noise):
    h, z = state
    action = _act(actions, 0, h, z)
    h = model.transition(h, z, action)
    z = model.draw(model.prior(h), noise[:, 0])
    first = [part.unsqueeze(1) for part in (h, z, action)]
    if noise.shape[1] == 1:
        return (first[0], first[1]), first[2]
    rest = actions if callable(actions) else actions[:, 1:]
    (hs, zs), taken = by_recursion(model, (h, z), rest, noise[:, 1:])
    whole = [torch.cat(pair, 1) for pair in zip(first, (hs, zs, taken), strict=True)]
    return (whole[0], whole[1]), whole[2]
