"""Lesson 02's mathematics by truth: shapes against torch, rulers against worked numbers, clips against physics."""

from __future__ import annotations

import math

import pytest
import torch

from wmcourse import encoder_decoder as ed
from wmcourse.worlds import MAX_SPEED


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def clips() -> ed.Clips:
    return ed.collect_clips(40, 3, seed=5)


def test_clips_obey_the_pendulums_physics(clips: ed.Clips) -> None:
    assert clips.frames.shape == (40, 3, 1, 32, 32)
    assert clips.frames.dtype == torch.uint8
    cos, sin, velocity = clips.state.unbind(-1)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones(40, 3))
    pushed = velocity[:, :-1] + (15 * sin[:, :-1] + 3 * clips.action[..., 0]) * 0.05
    torch.testing.assert_close(velocity[:, 1:], pushed.clamp(-MAX_SPEED, MAX_SPEED), atol=1e-4, rtol=0)
    turned = torch.atan2(sin, cos).diff(dim=1)
    moved = torch.remainder(turned + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(moved / 0.05, velocity[:, 1:], atol=1e-3, rtol=0)  # two angles hold the velocity


def test_clips_follow_their_seed_and_spread_over_the_states(clips: ed.Clips) -> None:
    again = ed.collect_clips(4, 3, seed=5)
    assert torch.equal(again.frames, clips.frames[:4])
    assert torch.equal(again.state, clips.state[:4])
    assert not torch.equal(ed.collect_clips(4, 3, seed=900).state, again.state)
    cos, sin, velocity = clips.state[:, 0].unbind(-1)
    assert min(cos.min(), sin.min()) < -0.8 < 0.8 < max(cos.max(), sin.max())
    assert velocity.min() < -5 < 5 < velocity.max()


def test_conv_size_agrees_with_torch() -> None:
    for size in range(9, 30):
        for layers in ([(4, 2, 1)], [(3, 2, 1), (5, 1, 0)], [(2, 3, 2), (3, 1, 1), (2, 2, 0)]):
            x = torch.zeros(1, 1, size, size)
            for kernel, stride, padding in layers:
                x = torch.nn.functional.conv2d(x, torch.zeros(1, 1, kernel, kernel), stride=stride, padding=padding)
            assert ed.conv_size(size, layers) == x.shape[-1]


def test_stack_frames_never_crosses_an_episode() -> None:
    frames = torch.arange(1, 11).view(2, 5, 1, 1, 1)
    first = torch.tensor([[True, False, False, True, False], [False, False, True, False, False]])
    wanted = [[1, 1, 2, 4, 4], [6, 6, 8, 8, 9]]
    stacked = ed.stack_frames(frames, first)
    assert stacked[:, :, 0, 0, 0].tolist() == wanted
    assert torch.equal(stacked[:, :, 1:], frames)


def test_reconstruction_error_is_a_gaussians_log_likelihood_up_to_a_constant() -> None:
    frames, decoded = torch.rand(2, 5, 1, 4, 6, generator=generator())
    log_p = torch.distributions.Normal(decoded, 1.0).log_prob(frames).flatten(1).sum(1).mean()
    constant = 24 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(ed.reconstruction_error(frames, decoded), -2 * (log_p + constant))


def test_r_squared_of_a_noisy_reading_is_the_known_share() -> None:
    target = 3 * torch.randn(200_000, 2, generator=generator()) + 1
    noise = torch.randn(200_000, 2, generator=generator(1)) * torch.tensor([1.0, 6.0])
    score = ed.r_squared(target + noise, target)
    torch.testing.assert_close(score, torch.tensor([1 - 1 / 9, 1 - 36 / 9]), atol=0.03, rtol=0)


def test_nearest_distance_on_a_line() -> None:
    real = torch.tensor([0.0, 3.0, 10.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    frames = torch.tensor([1.0, 9.0, 3.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    assert ed.nearest_distance(frames, real).tolist() == [2.0, 2.0, 0.0]  # four pixels off by 1 each


def test_the_shortest_walk_follows_the_circle() -> None:
    angle = torch.arange(60) * 2 * math.pi / 60
    points = torch.stack([angle.cos(), angle.sin()], -1)
    hops = ed.next_hops(points)
    assert ed.follow(hops, 3, 20) == list(range(3, 21))
    assert ed.follow(hops, 2, 57) == [2, 1, 0, 59, 58, 57]
    assert ed.follow(hops, 7, 7) == [7]


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (2, 16), (3, 64)])
def test_every_pair_keeps_leading_axes_and_makes_frames_again(channels: int, size: int) -> None:
    frames = torch.rand(2, 3, channels, size, size)
    for encoder, decoder in (
        (ed.ConvEncoder(5, channels, size), ed.ConvDecoder(5, channels, size)),
        (ed.MLPEncoder(5, channels, size), ed.MLPDecoder(5, channels, size)),
    ):
        z = encoder(frames)
        assert z.shape == (2, 3, 5)
        assert decoder(z).shape == frames.shape
        torch.testing.assert_close(encoder(frames[1, 2:]), z[1, 2:])  # no frame sees another
        torch.testing.assert_close(decoder(encoder(frames[1, 2])), decoder(z)[1, 2])


def test_a_side_that_does_not_halve_to_four_is_refused() -> None:
    for size in (4, 28, 33):
        with pytest.raises(ValueError, match=f"and {size} came"):
            ed.ConvEncoder(5, size=size)


def test_an_autoencoder_learns_and_repeats_itself(clips: ed.Clips) -> None:
    frames = ed.frames_to_float(clips.frames.flatten(0, 1))

    def trained() -> torch.Tensor:
        torch.manual_seed(0)
        return ed.fit_autoencoder(ed.MLPEncoder(4), ed.MLPDecoder(4), frames, steps=60, seed=1)

    losses = trained()
    assert losses[-5:].mean() < 0.7 * losses[:5].mean()
    assert torch.equal(losses, trained())


def test_the_probe_finds_what_is_there_and_nothing_else() -> None:
    z = torch.randn(1200, 3, generator=generator())
    target = torch.stack([z[:, 0] * z[:, 1], torch.randn(1200, generator=generator(1))], -1)
    with torch.no_grad():  # latents often come from such a block
        score = ed.probe(z[:900], target[:900], z[900:], target[900:], seed=0)
    assert score[0] > 0.9
    assert score[1] < 0.1
