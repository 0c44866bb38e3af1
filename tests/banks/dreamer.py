"""Answers to lesson 11's exercises."""

import torch

from tests.banks.bank import CONTRACT, Bank

dream_step = Bank("dream_step")
MOVES, DRAWN, FLOWS = "h moves on by", "drawn from the prior", "reaches action, h and z"


@dream_step.wrong("forgets the action", MOVES, "the action is left out")
def _(model, state, action, noise):
    h = model.transition(*state, 0 * action)
    return h, model.draw(model.prior(h), noise)


@dream_step.wrong("forgets the old z", MOVES, "the old z is left out")
def _(model, state, action, noise):
    h = model.transition(state[0], 0 * state[1], action)
    return h, model.draw(model.prior(h), noise)


@dream_step.wrong("draws z first", MOVES, "z is drawn before h moves")
def _(model, state, action, noise):
    z = model.draw(model.prior(state[0]), noise)
    return model.transition(state[0], z, action), z


@dream_step.wrong("keeps the old h", MOVES, "h did not move")
def _(model, state, action, noise):
    h = model.transition(*state, action)
    return state[0], model.draw(model.prior(h), noise)


@dream_step.wrong("hands z and action over in the wrong order", CONTRACT, "")
def _(model, state, action, noise):
    h = model.transition(state[1], state[0], action)[:, :2]
    return h, model.draw(model.prior(h), noise)


@dream_step.wrong("draws from the prior of the old h", DRAWN, "prior of the old h")
def _(model, state, action, noise):
    return model.transition(*state, action), model.draw(model.prior(state[0]), noise)


@dream_step.wrong("takes the mean", DRAWN, "the noise is not used")
def _(model, state, action, noise):
    h = model.transition(*state, action)
    return h, model.draw(model.prior(h), torch.zeros_like(noise))


@dream_step.wrong("rolls dice of its own", DRAWN, "with the noise given")
def _(model, state, action, noise):
    h = model.transition(*state, action)
    return h, model.draw(model.prior(h), torch.randn_like(noise))


@dream_step.wrong("keeps the old z", DRAWN, "z did not move")
def _(model, state, action, noise):
    return model.transition(*state, action), state[1].clone()


@dream_step.wrong("asks the posterior", DRAWN, "posterior that saw nothing")
def _(model, state, action, noise):
    h = model.transition(*state, action)
    return h, model.draw(model.posterior(h, torch.zeros(len(h), 4)), noise)


@dream_step.wrong("detaches the new h before the draw", FLOWS, "carries no gradient")
def _(model, state, action, noise):
    h = model.transition(*state, action)
    return h, model.draw(model.prior(h.detach()), noise)


@dream_step.wrong("detaches the action", FLOWS, "gradients do not reach the action")
def _(model, state, action, noise):
    h = model.transition(*state, action.detach())
    return h, model.draw(model.prior(h), noise)


@dream_step.wrong("forgets z in the result", CONTRACT, "")
def _(model, state, action, noise):
    return model.transition(*state, action)


@dream_step.right
def in_two_lines(model, state, action, noise):
    h = model.transition(state[0], state[1], action)
    return h, model.draw(model.prior(h), noise)


@dream_step.right
def as_a_list(model, state, action, noise):
    deter, stoch = state
    after = model.transition(deter, stoch, action)
    parameters = model.prior(after)
    return [after, model.draw(parameters, noise)]


lambda_return = Bank("lambda_return")
DOUBLE = "double precision stays double"
ZERO, ONE, MIX, END, GRADS = (
    "lambda = 0",
    "lambda = 1",
    "between them",
    "behind an end",
    "gradients reach every reward",
)


def _back(reward, value, discount, decay, last=None, mix=None):
    following = value[:, -1] if last is None else last
    out = []
    for k in reversed(range(reward.shape[1])):
        v, d = value[:, k], discount[:, k]
        following = mix(reward[:, k], v, d, following) if mix else reward[:, k] + d * (v + decay * (following - v))
        out.append(following)
    return torch.stack(out[::-1], 1)


def _left(x):
    return torch.cat([x[:, 1:], x[:, -1:]], 1)


@lambda_return.wrong("takes the value of the state after next", ZERO, "column k + 1 of value")
def _(reward, value, discount, decay):
    return _back(reward, _left(value), discount, decay)


@lambda_return.wrong("takes the value of the state before", ZERO, "shifted to the past")
def _(reward, value, discount, decay):
    return _back(reward, torch.cat([value[:, :1], value[:, :-1]], 1), discount, decay)


@lambda_return.wrong("does not discount", ZERO, "not discounted")
def _(reward, value, discount, decay):
    return _back(reward, value, torch.ones_like(discount), decay)


@lambda_return.wrong("discounts the reward", ZERO, "reward is discounted, too")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, decay, mix=lambda r, v, d, f: d * (r + (1 - decay) * v + decay * f))


@lambda_return.wrong("takes the next step's discount", ZERO, "discount of another step")
def _(reward, value, discount, decay):
    return _back(reward, value, _left(discount), decay)


@lambda_return.wrong("swaps lambda and 1 - lambda", ZERO, "changed places")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, 1 - decay)


@lambda_return.wrong("ignores lambda, as Monte Carlo", ZERO, "changed places")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, 1.0)


@lambda_return.wrong("never asks the critic", ZERO, "critic is not asked")
def _(reward, value, discount, decay):
    return _back(reward, torch.zeros_like(value), discount, decay)


@lambda_return.wrong("one step, whatever lambda", ONE, "one step only")
def _(reward, value, discount, decay):
    return reward + discount * value


@lambda_return.wrong("nothing after the dream", ONE, "begin with the critic's value")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, decay, torch.zeros_like(value[:, 0]))


@lambda_return.wrong("begins with the last reward", ONE, "begun with the last reward")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, decay, reward[:, -1])


@lambda_return.wrong("forgets to turn the list around", ZERO, "turn the list around")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, decay).flip(1)


@lambda_return.wrong("puts the critic's value into the last column", ZERO, "the last column is the critic's value")
def _(reward, value, discount, decay):
    columns = [value[:, -1]]
    for k in reversed(range(reward.shape[1] - 1)):
        columns.append(reward[:, k] + discount[:, k] * ((1 - decay) * value[:, k] + decay * columns[-1]))
    return torch.stack(columns[::-1], 1)


@lambda_return.wrong("a buffer of float32", DOUBLE, "should be float64")
def _(reward, value, discount, decay):
    out = torch.zeros(len(reward), reward.shape[1])
    following = value[:, -1]
    for k in reversed(range(reward.shape[1])):
        following = reward[:, k] + discount[:, k] * ((1 - decay) * value[:, k] + decay * following)
        out[:, k] = following
    return out


@lambda_return.wrong("shares that add up to more than one", MIX, "add up to 1")
def _(reward, value, discount, decay):
    if decay == 1.0:
        return _back(reward, value, discount, decay)
    return _back(reward, value, discount, decay, mix=lambda r, v, d, f: r + d * (v + decay * f))


@lambda_return.wrong("discounts one share only", ZERO, "not discounted")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, decay, mix=lambda r, v, d, f: r + (1 - decay) * v + d * decay * f)


@lambda_return.wrong("runs forwards", ONE, "runs from the first step on")
def _(reward, value, discount, decay):
    following, out = value[:, 0], []
    for k in range(reward.shape[1]):
        following = reward[:, k] + discount[:, k] * ((1 - decay) * value[:, k] + decay * following)
        out.append(following)
    return torch.stack(out, 1)


@lambda_return.wrong("looks behind an end", END, "discount[:, 3] is 0")
def _(reward, value, discount, decay):
    return _back(reward, value, discount.clamp(min=0.2), decay)


@lambda_return.wrong("detaches the target", CONTRACT, "")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, decay).detach()


@lambda_return.wrong("detaches the critic", GRADS, "value")
def _(reward, value, discount, decay):
    return _back(reward, value.detach(), discount, decay)


@lambda_return.wrong("detaches what follows", GRADS, "part of the gradient")
def _(reward, value, discount, decay):
    following, out = value[:, -1], []
    for k in reversed(range(reward.shape[1])):
        following = reward[:, k] + discount[:, k] * ((1 - decay) * value[:, k] + decay * following.detach())
        out.append(following)
    return torch.stack(out[::-1], 1)


@lambda_return.wrong("stacks time first", CONTRACT, "shape")
def _(reward, value, discount, decay):
    return _back(reward, value, discount, decay).T


@lambda_return.wrong("writes into the rewards", CONTRACT, "edited in place")
def _(reward, value, discount, decay):
    with torch.no_grad():
        reward[:, -1] += discount[:, -1] * value[:, -1]
    return _back(reward, value, discount, decay)


@lambda_return.right
def by_recursion(reward, value, discount, decay):
    last = reward[:, 0] + discount[:, 0] * value[:, 0]
    if reward.shape[1] == 1:
        return last.unsqueeze(1)
    rest = by_recursion(reward[:, 1:], value[:, 1:], discount[:, 1:], decay)
    here = reward[:, 0] + discount[:, 0] * (value[:, 0] * (1 - decay) + decay * rest[:, 0])
    return torch.cat([here[:, None], rest], 1)


@lambda_return.right
def by_advantages(reward, value, discount, decay):
    one_step = reward + discount * value
    horizon = reward.shape[1]
    columns = [None] * horizon
    columns[-1] = one_step[:, -1]
    for k in range(horizon - 2, -1, -1):
        columns[k] = one_step[:, k] + discount[:, k] * decay * (columns[k + 1] - value[:, k])
    return torch.stack(columns, dim=1)


@lambda_return.right
def by_a_weighted_sum(reward, value, discount, decay):
    horizon, columns = reward.shape[1], []
    for k in range(horizon):
        total, reached, factor = 0, 0, torch.ones_like(reward[:, 0])
        for n in range(1, horizon - k + 1):
            reached = reached + factor * reward[:, k + n - 1]
            factor = factor * discount[:, k + n - 1]
            share = decay ** (n - 1) * (1 - decay if n < horizon - k else 1)
            total = total + share * (reached + factor * value[:, k + n - 1])
        columns.append(total)
    return torch.stack(columns, 1)


trajectory_gradient = Bank("trajectory_gradient")
BY_HAND, WHOLE, SLOPE = "one step, by hand", "whole way back", "finite differences"


def _adjoint(a, b, q, r, k, s, horizon, gamma, *, own=2.0, act=2.0, policy=1.0, model=1.0, carry=1.0, sign=1.0):
    states = [s]
    for _ in range(horizon):
        states.append(a @ states[-1] + b @ (k @ states[-1]))
    gradient, later = torch.zeros_like(k), torch.zeros_like(s)
    for t in reversed(range(horizon)):
        by_next = carry * later - own * gamma**t * q @ states[t + 1]
        by_action = model * b.T @ by_next - act * gamma**t * r @ (k @ states[t])
        gradient = gradient + torch.outer(by_action, states[t])
        later = a.T @ by_next + policy * k.T @ by_action
    return sign * gradient


@trajectory_gradient.wrong("descends", BY_HAND, "the sign")
def _(*world):
    return _adjoint(*world, sign=-1.0)


@trajectory_gradient.wrong("forgets the 2 of the squares", BY_HAND, "factor 2")
def _(*world):
    return _adjoint(*world, own=1.0, act=1.0)


@trajectory_gradient.wrong("forgets the 2 where the action costs", BY_HAND, "where the action costs")
def _(*world):
    return _adjoint(*world, act=1.0)


@trajectory_gradient.wrong("forgets the 2 where the state costs", BY_HAND, "where the state costs")
def _(*world):
    return _adjoint(*world, own=1.0)


@trajectory_gradient.wrong("a buffer of float32", DOUBLE, "")
def _(a, b, q, r, k, s, horizon, gamma):
    states, later, gradient = [s], torch.zeros(len(s)), torch.zeros(k.shape)
    for _ in range(horizon):
        states.append(a @ states[-1] + b @ (k @ states[-1]))
    for t in reversed(range(horizon)):
        later -= 2 * gamma**t * (q @ states[t + 1])
        by_action = b.T @ later - 2 * gamma**t * (r @ (k @ states[t]))
        gradient += torch.outer(by_action, states[t])
        later = a.T @ later + k.T @ by_action
    return gradient


@trajectory_gradient.wrong("forgets what actions cost", BY_HAND, "what the action costs is left out")
def _(*world):
    return _adjoint(*world, act=0.0)


@trajectory_gradient.wrong("forgets the model", BY_HAND, "what the action does to s_1")
def _(*world):
    return _adjoint(*world, model=0.0)


@trajectory_gradient.wrong("stops the gradient in front of the policy", WHOLE, "what the policy does in it")
def _(*world):
    return _adjoint(*world, policy=0.0)


@trajectory_gradient.wrong("carries nothing", WHOLE, "nothing is carried")
def _(*world):
    return _adjoint(*world, carry=0.0)


@trajectory_gradient.wrong("forgets the discount", WHOLE, "discount is left out")
def _(a, b, q, r, k, s, horizon, gamma):
    return _adjoint(a, b, q, r, k, s, horizon, 1.0)


@trajectory_gradient.wrong("discounts one step too much", BY_HAND, "one power too many")
def _(a, b, q, r, k, s, horizon, gamma):
    return gamma * _adjoint(a, b, q, r, k, s, horizon, gamma)


@trajectory_gradient.wrong("one step too few", BY_HAND, "a step is missing")
def _(a, b, q, r, k, s, horizon, gamma):
    return _adjoint(a, b, q, r, k, s, horizon - 1, gamma)


@trajectory_gradient.wrong("one step too many", BY_HAND, "a step too many")
def _(a, b, q, r, k, s, horizon, gamma):
    return _adjoint(a, b, q, r, k, s, horizon + 1, gamma)


@trajectory_gradient.wrong("pays for s_k at step k", BY_HAND, "s_0 is paid")
def _(a, b, q, r, k, s, horizon, gamma):
    gain = k.detach().clone().requires_grad_()
    total, state = torch.zeros(()), s
    for t in range(horizon):
        action = gain @ state
        following = a @ state + b @ action
        # what step t is paid for: the state it begins in, whose slope is taken where it ends
        total = total - gamma**t * (2 * (q @ state).detach() @ following + action @ r @ action)
        state = following
    return torch.autograd.grad(total, gain)[0]


@trajectory_gradient.wrong("transposes A", WHOLE, "takes Aᵀ")
def _(a, b, q, r, k, s, horizon, gamma):
    states = [s]
    for _ in range(horizon):
        states.append(a @ states[-1] + b @ (k @ states[-1]))
    gradient, later = torch.zeros_like(k), torch.zeros_like(s)
    for t in reversed(range(horizon)):
        by_next = later - 2 * gamma**t * q @ states[t + 1]
        by_action = b.T @ by_next - 2 * gamma**t * r @ k @ states[t]
        gradient = gradient + torch.outer(by_action, states[t])
        later = a @ by_next + k.T @ by_action
    return gradient


@trajectory_gradient.wrong("looks at the last step only", WHOLE, "")
def _(a, b, q, r, k, s, horizon, gamma):
    for _ in range(horizon - 1):
        s = a @ s + b @ (k @ s)
    return gamma ** (horizon - 1) * _adjoint(a, b, q, r, k, s, 1, gamma)


@trajectory_gradient.wrong("gives the transpose", CONTRACT, "shape")
def _(*world):
    return _adjoint(*world).T


@trajectory_gradient.wrong("a constant", BY_HAND, "what is dJ/dK")
def _(a, b, q, r, k, s, horizon, gamma):
    return torch.ones_like(k)


@trajectory_gradient.wrong("walks in place", CONTRACT, "edited in place")
def _(a, b, q, r, k, s, horizon, gamma):
    gradient = _adjoint(a, b, q, r, k, s.clone(), horizon, gamma)
    for _ in range(horizon):
        s += b @ (k @ s)
    return gradient


@trajectory_gradient.right
def by_hand(*world):
    return _adjoint(*world)


@trajectory_gradient.right
def by_autograd(a, b, q, r, k, s, horizon, gamma):
    with torch.enable_grad():
        gain, state, total = k.detach().clone().requires_grad_(), s, torch.zeros(())
        for t in range(horizon):
            action = gain @ state
            state = a @ state + b @ action
            total = total - gamma**t * (state @ q @ state + action @ r @ action)
        return torch.autograd.grad(total, gain)[0]


@trajectory_gradient.right
def by_costs_to_go(a, b, q, r, k, s, horizon, gamma):
    closed, later, costs = a + b @ k, torch.zeros_like(q), []
    for _ in range(horizon):
        costs.insert(0, q + gamma * later)
        later = k.T @ r @ k + closed.T @ costs[0] @ closed
    total = torch.zeros_like(k)
    for t, cost in enumerate(costs):
        total = total - 2 * gamma**t * torch.outer((r @ k + b.T @ cost @ closed) @ s, s)
        s = closed @ s
    return total


analytic_loss = Bank("analytic_loss")
VALUE, BACK = "minus the weighted returns", "flows back through the returns"


def _analytic(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns / scale + bonus * entropy)).mean()


@analytic_loss.wrong("climbs down", VALUE, "the sign: an optimizer")
def _(*parts):
    return -_analytic(*parts)


@analytic_loss.wrong("punishes entropy", VALUE, "the sign of the entropy")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns / scale - bonus * entropy)).mean()


@analytic_loss.wrong("sums", VALUE, "summed, not averaged")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns / scale + bonus * entropy)).sum()


@analytic_loss.wrong("ignores the weight", VALUE, "weight is not used")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(returns / scale + bonus * entropy).mean()


@analytic_loss.wrong("weights the returns only", VALUE, "entropy is not weighted")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * returns / scale).mean() - bonus * entropy.mean()


@analytic_loss.wrong("never divides by less than 1", VALUE, "scale is not used")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns / scale.clamp(min=1) + bonus * entropy)).mean()


@analytic_loss.wrong("ignores the scale", VALUE, "scale is not used")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns + bonus * entropy)).mean()


@analytic_loss.wrong("multiplies by the scale", VALUE, "multiplied by scale")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns * scale + bonus * entropy)).mean()


@analytic_loss.wrong("scales the entropy", VALUE, "entropy is scaled")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns + bonus * entropy) / scale).mean()


@analytic_loss.wrong("forgets the entropy", CONTRACT, "")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * returns / scale).sum(1)


@analytic_loss.wrong("leaves the entropy out", VALUE, "entropy is left out")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * returns / scale).mean()


@analytic_loss.wrong("subtracts the baseline", VALUE, "baseline is subtracted")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * ((returns - baseline) / scale + bonus * entropy)).mean()


@analytic_loss.wrong("is REINFORCE", VALUE, "this is REINFORCE")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * ((returns - baseline) / scale).detach() + bonus * entropy)).mean()


@analytic_loss.wrong("divides by the weights", VALUE, "a weighted mean")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns / scale + bonus * entropy)).sum() / weight.sum()


@analytic_loss.wrong("detaches the returns", BACK, "are they detached")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns.detach() / scale + bonus * entropy)).mean()


@analytic_loss.wrong("detaches the entropy", BACK, "paid by the actor")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns / scale + bonus * entropy.detach())).mean()


@analytic_loss.wrong("lets the log probability in by the back door", BACK, "log_prob should have no part")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    extra = (log_prob - log_prob.detach()).mean()
    return -(weight * (returns / scale + bonus * entropy)).mean() + extra


@analytic_loss.right
def in_one_line(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (returns / scale + bonus * entropy)).mean()


@analytic_loss.right
def in_two_terms(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * returns).mean() / scale - bonus * torch.mean(entropy * weight)


@analytic_loss.right
def by_a_sum(returns, baseline, log_prob, entropy, weight, scale, bonus):
    gain = (weight * returns).div(scale) + (weight * entropy).mul(bonus)
    return gain.sum().neg() / gain.numel()


reinforce_loss = Bank("reinforce_loss")
LIKELIER, STOPS = "better than the baseline", "and stops there"


def _score(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * ((returns - baseline) / scale).detach() + bonus * entropy)).mean()


@reinforce_loss.wrong("climbs down", LIKELIER, "less likely")
def _(*parts):
    return -_score(*parts)


@reinforce_loss.wrong("subtracts the wrong way", LIKELIER, "sign of the advantage")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * ((baseline - returns) / scale).detach() + bonus * entropy)).mean()


@reinforce_loss.wrong("punishes entropy", LIKELIER, "sign of the entropy")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * ((returns - baseline) / scale).detach() - bonus * entropy)).mean()


@reinforce_loss.wrong("has no baseline", LIKELIER, "baseline is not used")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * (returns / scale).detach() + bonus * entropy)).mean()


@reinforce_loss.wrong("never divides by less than 1", LIKELIER, "scale is not used")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * ((returns - baseline) / scale.clamp(min=1)).detach() + bonus * entropy)).mean()


@reinforce_loss.wrong("ignores the scale", LIKELIER, "scale is not used")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * (returns - baseline).detach() + bonus * entropy)).mean()


@reinforce_loss.wrong("scales the returns only", LIKELIER, "only the returns are scaled")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * (returns / scale - baseline).detach() + bonus * entropy)).mean()


@reinforce_loss.wrong("sums", LIKELIER, "summed, not averaged")
def _(*parts):
    return _score(*parts) * parts[0].numel()


@reinforce_loss.wrong("ignores the weight", LIKELIER, "weight is not used")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(log_prob * ((returns - baseline) / scale).detach() + bonus * entropy).mean()


@reinforce_loss.wrong("takes probabilities", LIKELIER, "logarithms")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob.exp() * ((returns - baseline) / scale).detach() + bonus * entropy)).mean()


@reinforce_loss.wrong("is the analytic loss", LIKELIER, "analytic loss")
def _(*parts):
    return _analytic(*parts)


@reinforce_loss.wrong("standardizes", LIKELIER, "standardized")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    better = ((returns - baseline) / scale).detach()
    better = (better - better.mean()) / better.std()
    return -(weight * (log_prob * better + bonus * entropy)).mean()


@reinforce_loss.wrong("leaves the entropy out", LIKELIER, "entropy is left out")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * log_prob * ((returns - baseline) / scale).detach()).mean()


@reinforce_loss.wrong("detaches nothing", STOPS, "flows into returns")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * (returns - baseline) / scale + bonus * entropy)).mean()


@reinforce_loss.wrong("detaches the returns only", STOPS, "flows into baseline")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob * (returns.detach() - baseline) / scale + bonus * entropy)).mean()


@reinforce_loss.wrong("detaches the log probability", STOPS, "gradients do not reach log_prob")
def _(returns, baseline, log_prob, entropy, weight, scale, bonus):
    return -(weight * (log_prob.detach() * ((returns - baseline) / scale).detach() + bonus * entropy)).mean()


@reinforce_loss.right
def as_asked(*parts):
    return _score(*parts)


@reinforce_loss.right
def under_no_grad(returns, baseline, log_prob, entropy, weight, scale, bonus):
    with torch.no_grad():
        better = weight * (returns - baseline) / scale
    return -(better * log_prob).mean() - (bonus * weight * entropy).mean()


@reinforce_loss.right
def detached_one_by_one(returns, baseline, log_prob, entropy, weight, scale, bonus):
    returns, baseline = returns.detach() / scale, baseline.detach() / scale
    gain = (returns - baseline) * log_prob + entropy * bonus
    return torch.mean(-weight * gain)


critic_loss = Bank("critic_loss")
SQUARE, STILL = "half the weighted square", "target stands still"


@critic_loss.wrong("forgets the half", SQUARE, "half is missing")
def _(value, returns, weight):
    return (weight * (value - returns.detach()).square()).mean()


@critic_loss.wrong("climbs", SQUARE, "the sign")
def _(value, returns, weight):
    return -0.5 * (weight * (value - returns.detach()).square()).mean()


@critic_loss.wrong("ignores the weight", SQUARE, "weight is not used")
def _(value, returns, weight):
    return 0.5 * (value - returns.detach()).square().mean()


@critic_loss.wrong("sums", SQUARE, "summed, not averaged")
def _(value, returns, weight):
    return 0.5 * (weight * (value - returns.detach()).square()).sum()


@critic_loss.wrong("squares the weight", SQUARE, "weight is squared")
def _(value, returns, weight):
    return 0.5 * (weight * (value - returns.detach())).square().mean()


@critic_loss.wrong("takes distances", SQUARE, "not its square")
def _(value, returns, weight):
    return 0.5 * (weight * (value - returns.detach()).abs()).mean()


@critic_loss.wrong("squares the mean", SQUARE, "square of the mean")
def _(value, returns, weight):
    return 0.5 * (weight * (value - returns.detach())).mean().square()


@critic_loss.wrong("divides by the weights", SQUARE, "a weighted mean")
def _(value, returns, weight):
    return 0.5 * (weight * (value - returns.detach()).square()).sum() / weight.sum()


@critic_loss.wrong("one loss a dream", CONTRACT, "shape")
def _(value, returns, weight):
    return 0.5 * (weight * (value - returns.detach()).square()).mean(1)


@critic_loss.wrong("moves its own target", STILL, "flows into the returns")
def _(value, returns, weight):
    return 0.5 * (weight * (value - returns).square()).mean()


@critic_loss.wrong("detaches the value", STILL, "which side is detached")
def _(value, returns, weight):
    return 0.5 * (weight * (value.detach() - returns).square()).mean()


@critic_loss.right
def as_asked_for(value, returns, weight):
    return 0.5 * (weight * (value - returns.detach()).square()).mean()


@critic_loss.right
def with_a_target(value, returns, weight):
    with torch.no_grad():
        target = returns.clone()
    return (weight * (target - value) ** 2).sum() / (2 * value.numel())


@critic_loss.right
def by_torch(value, returns, weight):
    missed = torch.nn.functional.mse_loss(value, returns.detach(), reduction="none")
    return torch.mean(missed * weight) / 2
