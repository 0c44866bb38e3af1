"""The dream beside the truth: blind after its context, told the same actions, woken by the posterior; and its panel."""

from __future__ import annotations

import io
import math
import sys
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from wmcourse.encoder_decoder import MLPDecoder, MLPEncoder
from wmcourse.nets import mlp
from wmcourse.play import Panel, Sleepwalk, by_steps, dream_step, play, save_gif
from wmcourse.recurrence import State
from wmcourse.rssm import Categorical, Gaussian, RSSMConfig, WorldModel, imagine_ahead, observe
from wmcourse.views import Moment, View, as_floats, choices, compare, draw, match_angle, rods, view_of
from wmcourse.worlds import MissingDependency, make_cartpole, make_pendulum, render_angles

SIZE, CONTEXT = 16, 4


def frames() -> gym.Env:
    return make_pendulum(pixels=True, frame_size=SIZE)


def pixel_model(seed: int = 0) -> WorldModel:
    torch.manual_seed(seed)
    config = RSSMConfig(action=1, embed=16, deter=24, hidden=24, latent=Gaussian(4))
    return WorldModel(config, MLPEncoder(16, size=SIZE, hidden=16), MLPDecoder(28, size=SIZE, hidden=16))


def state_model(obs: int, action: int) -> WorldModel:
    torch.manual_seed(0)
    config = RSSMConfig(action=action, embed=16, deter=16, hidden=16, latent=Categorical(4, 4))
    return WorldModel(config, mlp(obs, 16), mlp(32, 16, obs))


class Recorded(gym.Wrapper):
    """Notes every action and observation; `spoil` is added to the observations from now on."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.actions: list[Any] = []
        self.seen: list[np.ndarray] = []
        self.spoil = 0

    def reset(self, **kwargs: Any) -> Any:
        obs, info = self.env.reset(**kwargs)
        self.actions, self.seen = [], [obs]
        return obs, info

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(action)
        self.actions.append(action)
        self.seen.append((obs + self.spoil).astype(obs.dtype))
        return self.seen[-1], *rest


class Physics:
    """A world model of the pendulum's state that is right: h is (angle, velocity), and nothing is drawn."""

    def __init__(self) -> None:
        self.rssm, self.encoder = self, nn.Identity()
        self.latent = SimpleNamespace(noise=lambda shape, generator: torch.zeros(*shape, 1))

    def observe(self, embed: Tensor, action: Tensor, first: Tensor, noise: Tensor) -> tuple[State]:
        return (State(torch.stack([torch.atan2(embed[..., 1], embed[..., 0]), embed[..., 2]], -1), noise),)

    def transition(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        angle, velocity = deter.unbind(-1)
        velocity = (velocity + (15 * angle.sin() + 3 * action[:, 0]) * 0.05).clamp(-8, 8)
        return torch.stack([angle + 0.05 * velocity, velocity], -1)

    def prior(self, deter: Tensor) -> Tensor:
        return deter[:, :1]

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        return noise

    def decoder(self, features: Tensor) -> Tensor:
        return torch.stack([features[..., 0].cos(), features[..., 0].sin(), features[..., 1]], -1)


def dream_of_frames(**options: Any) -> tuple[Sleepwalk, Recorded]:
    dream = Sleepwalk(pixel_model(), lambda: Recorded(frames()), context=CONTEXT, **options)
    assert isinstance(dream.env, Recorded)
    return dream, dream.env


def pictures(dream: Sleepwalk) -> Tensor:
    return torch.stack([moment.dream for moment in dream.history])


def truths(dream: Sleepwalk) -> Tensor:
    return torch.stack([moment.truth for moment in dream.history])


TORQUES = [2.0, -1.0, 0.5, 2.0, -2.0, 0.0]


def test_the_dream_of_a_model_that_is_right_does_not_drift() -> None:
    dream = Sleepwalk(Physics(), make_pendulum)
    for torque in np.random.default_rng(0).uniform(-2, 2, 100):
        dream.step(torque)
    assert len(dream.history) == 105
    assert max(moment.angle_error for moment in dream.history) < 0.05
    wrong = Physics()
    wrong.transition = lambda deter, stoch, action: Physics.transition(wrong, deter, stoch, -action)  # type: ignore[method-assign]
    dream = Sleepwalk(wrong, make_pendulum)
    assert max(dream.step(2.0).angle_error for _ in range(20)) > 10
    assert dream.history[-1].pixel_error > 0.01


def test_after_its_context_the_dream_sees_nothing() -> None:
    (dream, _), (other, spoiled) = dream_of_frames(), dream_of_frames()
    spoiled.spoil = 100
    for torque in TORQUES:
        dream.step(torque)
        other.step(torque)
    assert torch.equal(pictures(dream), pictures(other))
    assert not torch.equal(truths(dream)[CONTEXT:], truths(other)[CONTEXT:])
    assert [moment.seen for moment in dream.history] == [True] * CONTEXT + [False] * len(TORQUES)


def test_the_dream_is_lesson_07s_observe_and_imagine_ahead_under_the_worlds_own_actions() -> None:
    dream, world = dream_of_frames()
    for torque in TORQUES:
        dream.step(torque)
    model, generator = dream.model, torch.Generator().manual_seed(0)
    action = torch.as_tensor(np.stack(world.actions))[None].float()
    assert action.shape == (1, CONTEXT - 1 + len(TORQUES), 1)
    assert action[0, CONTEXT - 1 :, 0].tolist() == TORQUES
    seen = as_floats(torch.as_tensor(np.stack(world.seen)))[None]
    assert torch.equal(truths(dream), seen[0])
    with torch.no_grad():
        watched = torch.cat([action[:, : CONTEXT - 1], torch.full((1, 1, 1), 77.0)], 1)  # the last is not used
        noise = model.rssm.latent.noise((1, CONTEXT), generator)
        first = torch.zeros(1, CONTEXT, dtype=torch.bool)
        state = observe(model.rssm, model.encoder(seen[:, :CONTEXT]), watched, first, noise).state
        start = State(*(part[:, -1] for part in state))
        noise = torch.cat([model.rssm.latent.noise((1, 1), generator) for _ in TORQUES], 1)
        ahead, _ = imagine_ahead(model.rssm, start, action[:, CONTEXT - 1 :], noise)
        expected = model.decoder(torch.cat([state.features(), ahead.features()], 1))[0].clamp(0, 1)
    assert torch.allclose(pictures(dream), expected, atol=1e-5)


def test_the_learners_own_functions_dream() -> None:
    calls = []

    def their_observe(*args: Any) -> Any:
        calls.append("observe")
        (deter, stoch), posterior, prior = observe(*args)
        return (deter, stoch), posterior, prior

    def their_imagine(model: Any, state: Any, actions: Any, noise: Tensor) -> Any:
        calls.append("imagine")
        (deter, stoch), taken = imagine_ahead(model, State(*state), actions, noise)
        return (deter, stoch), taken

    (dream, _), (theirs, _) = dream_of_frames(), dream_of_frames(observe=their_observe, imagine=their_imagine)
    for torque in TORQUES:
        dream.step(torque)
        theirs.step(torque)
    dream.wake()
    theirs.wake()
    assert torch.allclose(pictures(dream), pictures(theirs), atol=1e-5)
    assert calls == ["observe", *["imagine"] * len(TORQUES), "observe"]
    stepped, _ = dream_of_frames(imagine=by_steps(lambda *args: tuple(dream_step(*args))))
    for torque in TORQUES:
        stepped.step(torque)
    assert torch.allclose(pictures(stepped)[:-1], pictures(theirs)[:-1], atol=1e-5)


def test_what_is_scaled_for_the_model_is_scaled_back_for_the_eye() -> None:
    class Scaled(Physics):
        def observe(self, embed: Tensor, action: Tensor, first: Tensor, noise: Tensor) -> tuple[State]:
            return super().observe(embed * scale, 2 * action, first, noise)

        def transition(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
            return super().transition(deter, stoch, 2 * action)  # the world takes [-1, 1] for [-2, 2]

        def decoder(self, features: Tensor) -> Tensor:
            return super().decoder(features) / scale

    scale = torch.tensor([1.0, 2.0, 8.0])
    dream = Sleepwalk(
        Scaled(),
        lambda: gym.wrappers.RescaleAction(make_pendulum(), np.float32(-1), np.float32(1)),
        prepare=lambda obs: obs / scale,
        decoded=lambda obs: obs * scale,
    )
    errors = [dream.follow(lambda features: features[:, :1].sin()).angle_error for _ in range(50)]
    assert max(errors) < 0.05
    assert [*choices(dream.env.action_space, dream.view.moves)[0].values()][::4] == [-1.0, 0.0, 1.0]


def test_waking_is_the_posterior_of_the_last_observations() -> None:
    dream, world = dream_of_frames()
    for torque in TORQUES:
        dream.step(torque)
    before = dream.history[-1]
    generator = torch.Generator()
    generator.set_state(dream.generator.get_state())
    woken = dream.wake()
    assert woken is dream.history[-1]
    assert (before.seen, woken.seen, len(dream.history)) == (False, True, CONTEXT + len(TORQUES))
    with torch.no_grad():
        model = dream.model
        obs = as_floats(torch.as_tensor(np.stack(world.seen[-CONTEXT:])))[None]
        led = torch.tensor([*TORQUES[-CONTEXT + 1 :], 0.0]).view(1, CONTEXT, 1)
        noise = model.rssm.latent.noise((1, CONTEXT), generator)
        first = torch.zeros(1, CONTEXT, dtype=torch.bool)
        state = observe(model.rssm, model.encoder(obs), led, first, noise).state
        assert torch.allclose(woken.dream, model.decoder(state.features())[0, -1].clamp(0, 1), atol=1e-5)
    for mine, theirs in zip(dream.state, state, strict=True):
        assert torch.allclose(mine, theirs[:, -1], atol=1e-5)


def test_a_dream_of_the_right_model_with_a_wrong_start_is_mended_by_waking() -> None:
    dream = Sleepwalk(Physics(), make_pendulum)
    dream.state = State(dream.state.deter + 1.0, dream.state.stoch)
    assert dream.step(0.0).angle_error > 30
    assert dream.wake().angle_error < 0.05
    assert dream.step(1.0).angle_error < 0.05


def test_an_action_swapped_moves_both_worlds_after_it_and_not_before() -> None:
    (dream, _), (other, _) = dream_of_frames(), dream_of_frames()
    swapped = [*TORQUES[:3], -TORQUES[3], *TORQUES[4:]]
    for mine, theirs in zip(TORQUES, swapped, strict=True):
        dream.step(mine)
        other.step(theirs)
    same = CONTEXT + 3
    for shown in (pictures, truths):
        assert torch.equal(shown(dream)[:same], shown(other)[:same])
        assert not torch.equal(shown(dream)[same:], shown(other)[same:])


def test_a_seed_is_an_episode() -> None:
    dream, _ = dream_of_frames()
    seen = []
    for seed in (3, 4, 3):
        dream.reset(seed)
        for torque in TORQUES:
            dream.step(torque)
        seen.append((pictures(dream), truths(dream)))
    assert all(torch.equal(x, y) for x, y in zip(seen[0], seen[2], strict=True))
    assert not any(torch.equal(x, y) for x, y in zip(seen[0], seen[1], strict=True))


def test_discrete_actions_are_told_one_hot_and_the_end_of_an_episode_is_final() -> None:
    dream = Sleepwalk(state_model(4, 2), lambda: Recorded(make_cartpole()), context=2)
    world: Any = dream.env
    while not dream.over:
        dream.step(1)
    assert len(world.actions) < 20  # the pole has fallen; it is truncated after 500 only
    assert [int(told.argmax()) for told in dream.told] == [int(action) for action in world.actions]
    assert all(told.tolist() in ([[0.0, 1.0]], [[1.0, 0.0]]) for told in dream.told)
    with pytest.raises(ValueError, match="the episode is over"):
        dream.step(1)
    dream.reset(1)
    assert dream.step(0).truth.shape == (1, 100, 150)


def test_a_policy_sees_the_dream_alone_and_steers_both() -> None:
    dream, world = dream_of_frames()
    asked = []

    def policy(features: Tensor) -> Tensor:
        asked.append(features)
        return torch.tensor([[5.0]])  # beyond the world's range: both are told its end

    features = dream.state.features()
    dream.follow(policy)
    assert torch.equal(asked[0], features)
    assert asked[0].shape == (1, 28)
    assert world.actions[-1].tolist() == [2.0] == dream.told[-1][0].tolist()
    cart = Sleepwalk(state_model(4, 2), make_cartpole, context=2)
    cart.follow(lambda features: torch.tensor([[-3.0, -1.0]]))
    assert cart.told[-1].tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("size", [16, 32])
def test_the_angle_is_read_off_a_picture(size: int) -> None:
    angles = torch.rand(40, generator=torch.Generator().manual_seed(0)) * 2 * math.pi - math.pi
    shown = render_angles(angles, size).float() / 255
    read = torch.tensor([match_angle(frame) for frame in shown])
    assert torch.atan2((read - angles).sin(), (read - angles).cos()).abs().max() < math.radians(1)
    every_rod = rods(size)[1].mean(0)
    for nothing in (torch.zeros(1, size, size), every_rod, torch.full((1, size, size), math.nan)):
        assert math.isnan(match_angle(nothing))
    assert math.isnan(match_angle(torch.rand(1, size, size, generator=torch.Generator().manual_seed(0))))


def test_drift_is_the_short_way_round_in_degrees() -> None:
    view = view_of(make_pendulum())
    almost, past = (torch.tensor([math.cos(x), math.sin(x), 0.0]) for x in (math.pi - 0.1, -math.pi + 0.1))
    moment = compare(view, almost, past, False)
    assert moment.angle_error == pytest.approx(math.degrees(0.2), abs=1e-3)
    assert compare(view, almost, almost, True)[2:] == (0.0, 0.0, True)
    lost = compare(view, almost, torch.full((3,), math.nan), False)
    assert math.isnan(lost.angle_error)
    assert lost.dream.max() == 0
    assert draw([moment, lost, moment]).size == (960, 288)


def test_the_pendulums_buttons_turn_as_they_say() -> None:
    actions, named = choices(make_pendulum().action_space, view_of(make_pendulum()).moves)
    assert named == ["left ↻", "none", "right ↺"]
    assert [actions[name] for name in named] == [-2.0, 0.0, 2.0]
    assert len(actions) == 9
    columns = torch.arange(SIZE).float()
    for name, side in (("left ↻", -1), ("right ↺", 1)):
        env: Any = frames()
        env.reset(seed=0)
        env.unwrapped.state = np.array([math.pi, 0.0])  # hanging
        ink = torch.zeros(1)
        for _ in range(4):
            ink = torch.as_tensor(env.step([actions[name]])[0][0]).float().sum(0)
        assert side * ((ink * columns).sum() / ink.sum() - columns.mean()) > 0.3


def test_what_has_no_picture_or_no_button_says_so() -> None:
    with pytest.raises(ValueError, match="view="):
        view_of(make_mountain())
    view = View(lambda obs: obs.abs().clamp(max=1).expand(1, 1, 2))
    dream = Sleepwalk(state_model(2, 3), make_mountain, view=view)
    assert math.isnan(dream.step(2).angle_error)
    assert draw(dream.history, side=100).size == (400, 128)
    red = torch.tensor([0.8, 0.0, 0.0]).view(3, 1, 1).expand(3, 4, 4)
    sheet = draw([Moment(red, red, math.nan, 0.0, True)], side=100)
    assert sheet.convert("RGB").getpixel((50, 50)) == (204, 0, 0)
    assert list(choices(dream.env.action_space, ())[0]) == ["0", "1", "2"]
    with pytest.raises(ValueError, match="moves="):
        choices(gym.spaces.Box(-1, 1, (2,)), ())
    with pytest.raises(ValueError, match="moves="):
        choices(gym.spaces.Box(-np.inf, np.inf, (1,)), ())


def make_mountain() -> gym.Env:
    return gym.make("MountainCar-v0")


def shown(panel: Panel) -> Image.Image:
    return Image.open(io.BytesIO(panel.image.value))


def test_the_panel_is_driven_by_its_buttons() -> None:
    panel = play(pixel_model(), frames, context=CONTEXT, hold=3)
    dream = panel.walk
    assert shown(panel).size == (960, 288)
    before = panel.image.value
    panel.buttons["left ↻"].click()
    assert [told.item() for told in dream.told[CONTEXT - 1 :]] == [-2.0] * 3
    assert panel.image.value != before
    panel.buttons["right ↺"].click()
    assert dream.told[-1].item() == 2.0
    assert not dream.history[-1].seen
    panel.wake.click()
    assert dream.history[-1].seen
    assert len(dream.history) == CONTEXT + 6
    start = truths(dream)[0]
    panel.again.click()
    assert (len(dream.history), panel.seed) == (CONTEXT, 1)
    assert not torch.equal(truths(dream)[0], start)
    assert set(panel._repr_mimebundle_()) >= {"text/plain", "application/vnd.jupyter.widget-view+json"}


def test_while_the_clock_runs_the_slider_steers_and_a_button_holds_its_action() -> None:
    panel = play(pixel_model(), frames, context=CONTEXT, hold=3)
    panel.clock.playing = True
    panel.buttons["right ↺"].click()
    assert len(panel.walk.history) == CONTEXT
    panel.clock.value += 1
    panel.steer.value = "-0.5"
    panel.clock.value += 1
    panel.clock.value = 0  # the clock's own stop button
    assert [told.item() for told in panel.walk.told[CONTEXT - 1 :]] == [2.0, -0.5]


def test_the_autopilot_steers_by_the_policy_until_the_episode_is_over() -> None:
    panel = play(state_model(4, 2), make_cartpole, context=2, policy=lambda features: torch.tensor([[1.0, 0.0]]))
    assert not panel.clock.playing
    panel.autopilot.value = True
    assert panel.clock.playing
    while not panel.walk.over:
        panel.clock.value += 1
    assert [int(told.argmax()) for told in panel.walk.told[1:]] == [0] * (len(panel.walk.told) - 1)
    steps = len(panel.walk.history)
    panel.clock.value += 1
    panel.buttons["left"].click()
    assert (len(panel.walk.history), panel.clock.playing) == (steps, False)
    assert "over" in panel.status.value
    assert panel.buttons["left"].disabled
    panel.again.click()
    assert not panel.buttons["left"].disabled
    assert play(state_model(4, 2), make_cartpole).autopilot.disabled


def test_moves_of_ones_own() -> None:
    panel = play(state_model(3, 1), make_pendulum, moves={"push": [1.5], "pull": [-1.5]})
    panel.buttons["push"].click()
    assert panel.walk.told[-1].item() == 1.5


def test_without_ipywidgets_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(MissingDependency, match=r"pip install .ipywidgets>=8,<9"):
        play(state_model(3, 1), make_pendulum)
    Sleepwalk(state_model(3, 1), make_pendulum).step(0.0)  # the core needs none


def test_a_gif_holds_every_moment(tmp_path: Any) -> None:
    dream, _ = dream_of_frames()
    for torque in TORQUES:
        dream.step(torque)
    path = save_gif(tmp_path / "dream.gif", dream.history, fps=20, side=80)
    with Image.open(path) as gif:
        film: Any = gif
        assert (film.n_frames, film.size, film.info["duration"], film.info["loop"]) == (
            len(dream.history),
            (320, 108),
            50,
            0,
        )
        colors = {tuple(color) for color in np.asarray(film.convert("RGB")).reshape(-1, 3).tolist()}
    assert {(255, 255, 255), (0, 114, 178)} <= colors
    with pytest.raises(ValueError, match="nothing to show"):
        save_gif(tmp_path / "none.gif", list[Moment]())
