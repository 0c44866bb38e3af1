"""Play: a learned world model dreams beside the true world, under the same actions, and you steer.

`Sleepwalk` is the plain core: a few frames seen, then the prior alone, beside a simulator told the same actions. `play`
is its panel. After the dream that Ha & Schmidhuber let you play (worldmodels.github.io, arXiv:1803.10122). In a lesson,
with the functions that `check` returned:

    panel = play(model, make_env, observe=observe, imagine=imagine_ahead, hold=4)
    panel

and in a later cell, whatever was played: `save_gif("dream.gif", panel.walk.history)`. For those who only read, let a
policy play: call `follow(policy)` of a Sleepwalk until it is `over`, and save its history.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, flatdim, flatten
from torch import Tensor

from wmcourse.recurrence import State
from wmcourse.views import Moment, View, as_floats, choices, compare, draw, save_gif, view_of
from wmcourse.worlds import MissingDependency

__all__ = ["Panel", "Sleepwalk", "by_steps", "play", "save_gif"]


class Sleepwalk:
    """A world model that dreams beside the true world, under the same actions.

    It watches the first `context` observations of an episode, under random actions. From then on it sees nothing:
    `step` tells both worlds one action. `wake` lets it watch the last `context` observations.

    Args:
        model: a wmcourse.rssm.WorldModel, or anything with `rssm`, `encoder` and `decoder` that behave alike.
        make_env: makes the world it was trained on.
        context: how many observations are watched, at least 1; one alone shows no velocity.
        view: how to show the world's observations; view_of knows those of this course.
        prepare: from observations (K, *O) to what the encoder was trained on.
        decoded: from what the decoder gives to observations as as_floats has them; torch.sigmoid where it gives logits.
        noise: from a shape and a generator to the draws' noise, (*shape, S); zeros are a Gaussian's likeliest dream.
        observe: a function as lesson 07's `observe`; without it the model's own.
        imagine: a function as lesson 07's `imagine_ahead`, or by_steps of one step; without it the model's own parts.
    """

    def __init__(
        self,
        model: Any,
        make_env: Callable[[], gym.Env],
        *,
        context: int = 5,
        view: View | None = None,
        prepare: Callable[[Tensor], Tensor] = as_floats,
        decoded: Callable[[Tensor], Tensor] = lambda x: x,
        noise: Callable[[Sequence[int], torch.Generator], Tensor] | None = None,
        observe: Callable[..., Any] | None = None,
        imagine: Callable[..., Any] | None = None,
    ):
        self.model, self.env, self.context = model, make_env(), context
        self.view, self.prepare, self.decoded = view or view_of(self.env), prepare, decoded
        self.noise = noise or model.rssm.latent.noise
        self.observe = functools.partial(observe, model.rssm) if observe else model.rssm.observe
        self.imagine = functools.partial(imagine or by_steps(dream_step), model.rssm)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """A new episode, from this seed: the world's start, the first actions and the dice of the dream."""
        self.generator = torch.Generator().manual_seed(seed)
        self.env.action_space.seed(seed)
        self.over, self.told = False, []  # told[t], (1, A), was taken after observed[t], (*O)
        self.observed = [torch.as_tensor(self.env.reset(seed=seed)[0]).clone()]
        while len(self.observed) < self.context and not self.over:
            self._tell(self.env.action_space.sample())
        self.history = self._watch()

    @torch.no_grad()
    def step(self, action: Any) -> Moment:
        """Tell both worlds one action of the world's action space; the dream goes on without seeing.

        Raises:
            ValueError: the episode is over.
        """
        if self.over:
            raise ValueError("the episode is over: reset(seed) begins another")
        told = self._tell(action)
        state, _ = self.imagine(self.state, told[:, None], self.noise((1, 1), self.generator))
        self.history += self._compare(state, seen=False)
        return self.history[-1]

    @torch.no_grad()
    def follow(self, policy: Callable[[Tensor], Tensor]) -> Moment:
        """A step with the action (1, A) that a policy takes for the dream's features (1, D + S): it lives in the dream.

        Of discrete actions the one with the greatest entry is taken.
        """
        space, chosen = self.env.action_space, policy(self.state.features())[0]
        if isinstance(space, Discrete):
            return self.step(int(space.start) + int(chosen.argmax()))
        return self.step(chosen.numpy())

    def wake(self) -> Moment:
        """Let the dreamer watch the last `context` observations; what it makes of the newest replaces the dream's."""
        self.history[-1] = self._watch()[-1]
        return self.history[-1]

    def _tell(self, action: Any) -> Tensor:
        """Take an action in the true world; and as the model is told it, (1, A), one-hot where it is discrete."""
        space = self.env.action_space
        if isinstance(space, Box):
            action = np.clip(np.asarray(action, space.dtype).reshape(space.shape), space.low, space.high)
        obs, _, terminated, truncated, _ = self.env.step(action)
        self.over = terminated or truncated
        self.observed.append(torch.as_tensor(obs).clone())
        self.told.append(torch.as_tensor(flatten(space, action), dtype=torch.float32)[None])
        return self.told[-1]

    @torch.no_grad()
    def _watch(self) -> list[Moment]:
        """Watch the last `context` observations, K, from nothing, by the posterior."""
        obs = self.prepare(torch.stack(self.observed[-self.context :]))[None]  # (1, K, *O)
        count = obs.shape[1]
        led = self.told[len(self.told) - count + 1 :]  # none is taken after the newest
        action = torch.stack([*led, torch.zeros(1, flatdim(self.env.action_space))], 1)  # (1, K, A)
        none = torch.zeros(1, count, dtype=torch.bool)
        noise = self.noise((1, count), self.generator)
        return self._compare(self.observe(self.model.encoder(obs), action, none, noise)[0], seen=True)

    def _compare(self, states: Any, seen: bool) -> list[Moment]:
        """K moments, the newest last, from the dream's (1, K, D) and (1, K, S); its state is the last of them."""
        states = State(*states)
        self.state = State(*(part[:, -1] for part in states))
        dreamed = self.decoded(self.model.decoder(states.features()))[0]  # (K, *O)
        truth = as_floats(torch.stack(self.observed[-len(dreamed) :]))  # (K, *O)
        return [compare(self.view, *pair, seen) for pair in zip(truth, dreamed, strict=True)]


def dream_step(model: Any, state: State, action: Tensor, noise: Tensor) -> State:
    """One step without seeing: h' = f(h, z, a), z' ~ p(z' | h'). (1, D) and (1, S), (1, A), (1, S) to a State."""
    deter = model.transition(*state, action)
    return State(deter, model.draw(model.prior(deter), noise))


def by_steps(step: Callable[..., Any]) -> Callable[..., Any]:
    """Lesson 07's `imagine_ahead`, for one action, of a step like `dream_step`, perhaps a learner's own."""

    def imagine(model: Any, state: State, actions: Tensor, noise: Tensor) -> tuple[State, Tensor]:
        return State(*(part[:, None] for part in step(model, state, actions[:, 0], noise[:, 0]))), actions

    return imagine


class Panel:
    """The dream's panel: the last expression of a cell shows it.

    `buttons` act at once, or, while the `clock` runs, hold their action, as the slider `steer` does; click it, and the
    arrow keys move it. `autopilot` steers by the policy instead, and starts the clock. `wake` lets the dreamer look,
    `again` begins another episode.
    """

    def __init__(
        self,
        walk: Sleepwalk,
        *,
        policy: Callable[[Tensor], Tensor] | None = None,
        moves: dict[str, Any] | None = None,
        hold: int = 1,
        interval: int = 100,
        side: int = 240,
        seed: int = 0,
    ):
        try:
            import ipywidgets as widgets
        except ImportError:
            raise MissingDependency('play needs ipywidgets: run `pip install "ipywidgets>=8,<9"`') from None
        self.walk, self.policy, self.hold, self.side, self.seed = walk, policy, hold, side, seed
        self.moves, named = (moves, list(moves)) if moves else choices(walk.env.action_space, walk.view.moves)
        self.image, self.status = widgets.Image(format="png"), widgets.Label()
        self.buttons = {label: widgets.Button(description=label) for label in named}
        self.steer = widgets.SelectionSlider(options=[*self.moves], value=named[len(named) // 2], description="steer")
        self.clock = widgets.Play(interval=interval, max=10**9, show_repeat=False)
        self.autopilot = widgets.ToggleButton(description="autopilot", disabled=policy is None)
        self.wake, self.again = widgets.Button(description="wake up"), widgets.Button(description="new episode")
        for label, button in self.buttons.items():
            button.on_click(functools.partial(self._press, label))
        self.wake.on_click(lambda _: self._show(self.walk.wake()))
        self.again.on_click(lambda _: self.reset(self.seed + 1))
        self.clock.observe(self._tick, "value")
        self.autopilot.observe(self._start, "value")
        rows = [*self.buttons.values(), self.wake, self.again], [self.clock, self.steer, self.autopilot]
        self.box = widgets.VBox([self.image, *map(widgets.HBox, rows), self.status])
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Another episode, from this seed."""
        self.seed = seed
        self.walk.reset(seed)
        self._show()

    def _press(self, label: str, _: Any) -> None:
        self.steer.value = label
        if not self.clock.playing:
            for _ in range(self.hold):
                self._act(label)

    def _tick(self, change: Any) -> None:
        if change.new > change.old:  # the clock's stop button sets it to 0
            self._act(self.steer.value, self.policy if self.autopilot.value else None)

    def _start(self, change: Any) -> None:
        self.clock.playing = not self.walk.over and (change.new or self.clock.playing)

    def _act(self, label: str, policy: Callable[[Tensor], Tensor] | None = None) -> None:
        if not self.walk.over:
            self.walk.follow(policy) if policy else self.walk.step(self.moves[label])
            self._show()

    def _show(self, _: Any = None) -> None:
        """The picture now; drawn whole in some milliseconds, so that a click feels like a key."""
        draw(self.walk.history, self.side).save(png := io.BytesIO(), "png", compress_level=1)
        self.image.value, over = png.getvalue(), self.walk.over
        self.status.value = f"step {len(self.walk.told)}, seed {self.seed}" + ("; the episode is over" if over else "")
        for widget in (*self.buttons.values(), self.clock):
            widget.disabled = over
        self.clock.playing = self.clock.playing and not over

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.box._repr_mimebundle_(**options)


def play(model: Any, make_env: Callable[[], gym.Env], **options: Any) -> Panel:
    """The panel of a new dream.

    Args:
        model, make_env: a trained world model, and what makes the world that it was trained on.
        options: Sleepwalk's (context, view, observe, imagine, ...) and Panel's: policy, from features (1, D + S) to an
            action (1, A), for the autopilot; moves, labels and their actions; hold, how many steps a click lasts;
            interval, milliseconds between two ticks of the clock; side of a frame, pixels; seed of the first episode.

    Raises:
        MissingDependency: ipywidgets is not installed.
        ValueError: how to show or to steer this world is not known.
    """
    of_panel = {k: options.pop(k) for k in ("policy", "moves", "hold", "interval", "side", "seed") if k in options}
    return Panel(Sleepwalk(model, make_env, **options), **of_panel)
