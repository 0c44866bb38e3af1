"""Answers to lesson 02's exercises."""

import torch
import torch.nn.functional as F

from tests.banks.bank import CONTRACT, Bank

frames_to_float = Bank("frames_to_float")
SHARE = "share of full ink"


@frames_to_float.wrong("divides by 256", SHARE, "divided by 256")
def _(frames):
    return frames.float() / 256


@frames_to_float.wrong("changes the type only", SHARE, "still on the scale")
def _(frames):
    return frames.float()


@frames_to_float.wrong("divides by the largest pixel", SHARE, "dark frame should stay dark")
def _(frames):
    return frames.float() / frames.max()


@frames_to_float.wrong("divides each frame by its own largest pixel", SHARE, "each frame is divided")
def _(frames):
    return frames.float() / frames.flatten(-3).amax(-1)[..., None, None, None]


@frames_to_float.wrong("min and max", SHARE, "from the darkest to the brightest")
def _(frames):
    x = frames.float()
    return (x - x.min()) / (x.max() - x.min())


@frames_to_float.wrong("-1 to 1", SHARE, "-1 to 1")
def _(frames):
    return frames.float() / 127.5 - 1


@frames_to_float.wrong("centered", SHARE, "centered on 0")
def _(frames):
    return frames.float() / 255 - 0.5


@frames_to_float.wrong("whole-number division", SHARE, "rounded")
def _(frames):
    return (frames // 255).float()


@frames_to_float.wrong("ink and paper swapped", SHARE, "turned around")
def _(frames):
    return 1 - frames.float() / 255


@frames_to_float.wrong("swapped while still uint8", SHARE, "turned around")
def _(frames):
    return (255 - frames).float() / 255


@frames_to_float.wrong("standardizes", SHARE, "standardized")
def _(frames):
    x = frames.float()
    return (x - x.mean()) / x.std()


@frames_to_float.wrong("float64", CONTRACT, "should be float32")
def _(frames):
    return frames.double() / 255


@frames_to_float.wrong("numpy", CONTRACT, "should be a torch tensor")
def _(frames):
    return frames.numpy().astype("float32") / 255


@frames_to_float.wrong("forgets to return", CONTRACT, "forget to return")
def _(frames):
    frames.float() / 255


@frames_to_float.wrong("loses the channel", CONTRACT, "should have shape")
def _(frames):
    return frames.squeeze(-3).float() / 255


@frames_to_float.right
def by_true_division(frames):
    return frames / 255


@frames_to_float.right
def by_factor(frames):
    return frames.to(torch.float32).mul_(1 / 255)


conv_size = Bank("conv_size")
ONE, STRIDE, CHAIN = "one layer of stride 1", "a stride skips places", "layers follow one another"


@conv_size.wrong("padding on one side", ONE, "one side only")
def _(size, layers):
    for k, s, p in layers:
        size = (size + p - k) // s + 1
    return size


@conv_size.wrong("no padding", ONE, "padding is left out")
def _(size, layers):
    for k, s, _ in layers:
        size = (size - k) // s + 1
    return size


@conv_size.wrong("no + 1", ONE, "first place is not counted")
def _(size, layers):
    for k, s, p in layers:
        size = (size + 2 * p - k) // s
    return size


@conv_size.wrong("kernel forgotten", ONE, "has to fit inside")
def _(size, layers):
    for _, s, p in layers:
        size = (size + 2 * p) // s + 1
    return size


@conv_size.wrong("padding taken away", ONE, "instead of added")
def _(size, layers):
    for k, s, p in layers:
        size = (size - 2 * p - k) // s + 1
    return size


@conv_size.wrong("stride and padding swapped", ONE, "in another order")
def _(size, layers):
    for k, p, s in layers:
        size = (size + 2 * p - k) // s + 1
    return size


@conv_size.wrong("divides by the stride only", ONE, "side before the layer")
def _(size, layers):
    for _, s, _ in layers:
        size = size // s
    return size


@conv_size.wrong("true division", ONE, "whole number")
def _(size, layers):
    for k, s, p in layers:
        size = (size + 2 * p - k) / s + 1
    return size


@conv_size.wrong("rounds up", STRIDE, "rounded up")
def _(size, layers):
    for k, s, p in layers:
        size = -((k - size - 2 * p) // s) + 1
    return size


@conv_size.wrong("ignores the stride", STRIDE, "stride is ignored")
def _(size, layers):
    for k, _, p in layers:
        size = size + 2 * p - k + 1
    return size


@conv_size.wrong("+ 1 before the division", STRIDE, "before the division")
def _(size, layers):
    for k, s, p in layers:
        size = (size + 2 * p - k + 1) // s
    return size


@conv_size.wrong("returns inside the loop", CHAIN, "only the first layer")
def _(size, layers):
    for k, s, p in layers:
        return (size + 2 * p - k) // s + 1


@conv_size.wrong("starts again from the picture", CHAIN, "only the last layer")
def _(size, layers):
    side = size
    for k, s, p in layers:
        side = (size + 2 * p - k) // s + 1
    return side


@conv_size.wrong("last to first", CHAIN, "from last to first")
def _(size, layers):
    for k, s, p in reversed(layers):
        size = (size + 2 * p - k) // s + 1
    return size


@conv_size.wrong("leaves the last layer out", ONE, "side before the layer")
def _(size, layers):
    for k, s, p in layers[:-1]:
        size = (size + 2 * p - k) // s + 1
    return size


@conv_size.wrong("a tensor", CONTRACT, "should be a whole number")
def _(size, layers):
    for k, s, p in layers:
        size = (size + 2 * p - k) // s + 1
    return torch.tensor(size)


@conv_size.wrong("a list of all sides", CONTRACT, "should be a whole number")
def _(size, layers):
    sides = [size]
    for k, s, p in layers:
        sides.append((sides[-1] + 2 * p - k) // s + 1)
    return sides


@conv_size.right
def by_counting(size, layers):
    for k, s, p in layers:
        size = len(range(0, size + 2 * p - k + 1, s))
    return size


@conv_size.right
def by_asking_torch(size, layers):
    x = torch.zeros(1, 1, size)
    for k, s, p in layers:
        x = F.conv1d(x, torch.zeros(1, 1, k), stride=s, padding=p)
    return x.shape[-1]


@conv_size.right
def by_recursion(size, layers):
    if not layers:
        return size
    k, s, p = layers[0]
    return by_recursion(int((size + 2 * p - k) / s) + 1, layers[1:])


reconstruction_error = Bank("reconstruction_error")
SUMMED = "summed over a frame's channels and pixels"


@reconstruction_error.wrong("mean over everything", SUMMED, "averaged over the pixels, too")
def _(frames, decoded):
    return F.mse_loss(decoded, frames)


@reconstruction_error.wrong("sum over everything", SUMMED, "summed over the batch, too")
def _(frames, decoded):
    return F.mse_loss(decoded, frames, reduction="sum")


@reconstruction_error.wrong("sum over the batch, mean over pixels", SUMMED, "which of the two is the observation")
def _(frames, decoded):
    return (decoded - frames).square().sum(0).mean()


@reconstruction_error.wrong("mean over channels", SUMMED, "channels are averaged")
def _(frames, decoded):
    return (decoded - frames).square().mean(1).sum((1, 2)).mean()


@reconstruction_error.wrong("sums over the width only", SUMMED, "only the width is summed")
def _(frames, decoded):
    return (decoded - frames).square().sum(-1).mean()


@reconstruction_error.wrong("the norm", SUMMED, "a root too many")
def _(frames, decoded):
    return (decoded - frames).flatten(1).norm(dim=1).mean()


@reconstruction_error.wrong("absolute", SUMMED, "absolute difference")
def _(frames, decoded):
    return (decoded - frames).abs().flatten(1).sum(1).mean()


@reconstruction_error.wrong("not squared", SUMMED, "not squared")
def _(frames, decoded):
    return (decoded - frames).flatten(1).sum(1).mean()


@reconstruction_error.wrong("squared after the sum", SUMMED, "squared after the sum")
def _(frames, decoded):
    return (decoded - frames).flatten(1).sum(1).square().mean()


@reconstruction_error.wrong("negative", SUMMED, "sign is turned around")
def _(frames, decoded):
    return -(decoded - frames).square().flatten(1).sum(1).mean()


@reconstruction_error.wrong("clamps the decoded frames", SUMMED, "square the difference")
def _(frames, decoded):
    return (decoded.clamp(0, 1) - frames).square().flatten(1).sum(1).mean()


@reconstruction_error.wrong("the gradient of half of it", "pulls every pixel", "2 (decoded - frames)")
def _(frames, decoded):
    gap = torch.where(decoded > frames, decoded, decoded.detach()) - frames
    return gap.square().flatten(1).sum(1).mean()


@reconstruction_error.wrong("one number a frame", CONTRACT, "should have shape")
def _(frames, decoded):
    return (decoded - frames).square().flatten(1).sum(1)


@reconstruction_error.wrong("a Python number", CONTRACT, "should be a torch tensor")
def _(frames, decoded):
    return (decoded - frames).square().flatten(1).sum(1).mean().item()


@reconstruction_error.wrong("detached", CONTRACT, "carries no gradient")
def _(frames, decoded):
    return (decoded.detach() - frames).square().flatten(1).sum(1).mean()


@reconstruction_error.right
def by_sum_over_axes(frames, decoded):
    return ((frames - decoded) ** 2).sum(dim=(1, 2, 3)).mean()


@reconstruction_error.right
def by_loop(frames, decoded):
    total = sum(((x - y) ** 2).sum() for x, y in zip(frames, decoded, strict=True))
    return total / len(frames)


@reconstruction_error.right
def by_mse(frames, decoded):
    return F.mse_loss(decoded, frames, reduction="sum") / frames.shape[0]


r_squared = Bank("r_squared")
SHARE_MISSED, WORSE = "one, less what is missed", "worse than the mean"


def sse(prediction, target):
    return ((target - prediction) ** 2).sum(0)


def sst(target):
    return ((target - target.mean(0)) ** 2).sum(0)


@r_squared.wrong("the share that is missed", SHARE_MISSED, "take it from 1")
def _(prediction, target):
    return sse(prediction, target) / sst(target)


@r_squared.wrong("squared correlation", SHARE_MISSED, "squared correlation")
def _(prediction, target):
    pairs = zip(prediction.T, target.T, strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] ** 2 for pair in pairs])


@r_squared.wrong("no mean", SHARE_MISSED, "measured from 0")
def _(prediction, target):
    return 1 - sse(prediction, target) / (target**2).sum(0)


@r_squared.wrong("arguments swapped", SHARE_MISSED, "swapped")
def _(target, prediction):
    return 1 - sse(prediction, target) / sst(target)


@r_squared.wrong("the prediction's mean", SHARE_MISSED, "around the prediction's mean")
def _(prediction, target):
    return 1 - sse(prediction, target) / ((target - prediction.mean(0)) ** 2).sum(0)


@r_squared.wrong("explained variance", SHARE_MISSED, "a constant error is forgiven")
def _(prediction, target):
    return 1 - (target - prediction).var(0) / target.var(0)


@r_squared.wrong("spread of the prediction", SHARE_MISSED, "large and wrong")
def _(prediction, target):
    return prediction.var(0) / target.var(0)


@r_squared.wrong("MSE over the unbiased variance", SHARE_MISSED, "N - 1")
def _(prediction, target):
    return 1 - ((target - prediction) ** 2).mean(0) / target.var(0)


@r_squared.wrong("all columns together, spread out again", SHARE_MISSED, "thrown together")
def _(prediction, target):
    return (1 - sse(prediction, target).sum() / sst(target).sum()).expand(target.shape[1])


@r_squared.wrong("one mean for all columns", SHARE_MISSED, "one mean for all")
def _(prediction, target):
    return 1 - sse(prediction, target) / ((target - target.mean()) ** 2).sum(0)


@r_squared.wrong("roots", SHARE_MISSED, "roots instead of squares")
def _(prediction, target):
    return 1 - (target - prediction).norm(dim=0) / (target - target.mean(0)).norm(dim=0)


@r_squared.wrong("absolute errors", SHARE_MISSED, "absolute errors")
def _(prediction, target):
    return 1 - (target - prediction).abs().sum(0) / (target - target.mean(0)).abs().sum(0)


@r_squared.wrong("fraction on its head", SHARE_MISSED, "on its head")
def _(prediction, target):
    return 1 - sst(target) / sse(prediction, target)


@r_squared.wrong("1 less the mean squared error", SHARE_MISSED, "own variance")
def _(prediction, target):
    return 1 - ((target - prediction) ** 2).mean(0)


@r_squared.wrong("cut off at 0", WORSE, "cut off at 0")
def _(prediction, target):
    return (1 - sse(prediction, target) / sst(target)).clamp(min=0)


@r_squared.wrong("its absolute value", WORSE, "scores below 0")
def _(prediction, target):
    return (1 - sse(prediction, target) / sst(target)).abs()


@r_squared.wrong("over the columns", CONTRACT, "should have shape")
def _(prediction, target):
    return 1 - sse(prediction.T, target.T) / sst(target.T)


@r_squared.wrong("one number", CONTRACT, "should have shape")
def _(prediction, target):
    return (1 - sse(prediction, target) / sst(target)).mean()


@r_squared.right
def by_variances(prediction, target):
    return 1 - F.mse_loss(prediction, target, reduction="none").mean(0) / target.var(0, unbiased=False)


@r_squared.right
def by_loop_over_columns(prediction, target):
    scores = []
    for p, t in zip(prediction.T, target.T, strict=True):
        scores.append(1 - ((t - p) ** 2).sum() / ((t - t.mean()) ** 2).sum())
    return torch.stack(scores)


stack_frames = Bank("stack_frames")
ITSELF, BEFORE, REPEATED, MIDDLE = "second channel", "inside an episode", "is repeated", "begins in the middle"


def shifted(frames):
    return torch.cat([frames[:, :1], frames[:, :-1]], 1)


def wide(first):
    return first[:, :, None, None, None]


@stack_frames.wrong("channels swapped", ITSELF, "swapped")
def _(frames, first):
    return torch.cat([frames, torch.where(wide(first), frames, shifted(frames))], 2)


@stack_frames.wrong("the next frame", BEFORE, "told the future")
def _(frames, first):
    after = torch.cat([frames[:, 1:], frames[:, -1:]], 1)
    return torch.cat([torch.where(wide(first), frames, after), frames], 2)


@stack_frames.wrong("the same frame twice", BEFORE, "this is the frame itself")
def _(frames, first):
    return torch.cat([frames, frames], 2)


@stack_frames.wrong("first read the wrong way around", BEFORE, "wrong way around")
def _(frames, first):
    return torch.cat([torch.where(wide(first), shifted(frames), frames), frames], 2)


@stack_frames.wrong("two steps back", BEFORE, "two steps back")
def _(frames, first):
    return torch.cat([torch.where(wide(first), frames, shifted(shifted(frames))), frames], 2)


@stack_frames.wrong("shifts the batch", BEFORE, "which axis is T")
def _(frames, first):
    return torch.cat([torch.where(wide(first), frames, frames.roll(1, 0)), frames], 2)


@stack_frames.wrong("the difference", BEFORE, "the difference of the two")
def _(frames, first):
    return torch.cat([frames - torch.where(wide(first), frames, shifted(frames)), frames], 2)


@stack_frames.wrong("ignores first", REPEATED, "leaks in")
def _(frames, first):
    return torch.cat([shifted(frames), frames], 2)


@stack_frames.wrong("zeros at the first", REPEATED, "looks like a motion")
def _(frames, first):
    return torch.cat([torch.where(wide(first), torch.zeros_like(frames), shifted(frames)), frames], 2)


@stack_frames.wrong("first one step late", REPEATED, "leaks in")
def _(frames, first):
    late = torch.cat([torch.ones_like(first[:, :1]), first[:, :-1]], 1)
    return torch.cat([torch.where(wide(late), frames, shifted(frames)), frames], 2)


@stack_frames.wrong("first one step early", REPEATED, "leaks in")
def _(frames, first):
    early = torch.cat([first[:, 1:], first[:, -1:]], 1)
    return torch.cat([torch.where(wide(early), frames, shifted(frames)), frames], 2)


@stack_frames.wrong("first of the first row only", REPEATED, "should hold the frame itself")
def _(frames, first):
    return torch.cat([torch.where(wide(first[:1]), frames, shifted(frames)), frames], 2)


@stack_frames.wrong("rolls the end around", MIDDLE, "torch.roll wraps")
def _(frames, first):
    return torch.cat([torch.where(wide(first), frames, frames.roll(1, 1)), frames], 2)


@stack_frames.wrong("zeros before the window", MIDDLE, "not zeros")
def _(frames, first):
    before = torch.cat([torch.zeros_like(frames[:, :1]), frames[:, :-1]], 1)
    return torch.cat([torch.where(wide(first), frames, before), frames], 2)


@stack_frames.wrong("floats from uint8", "stay uint8", "should be uint8")
def _(frames, first):
    mask = wide(first).float()
    return torch.cat([mask * frames + (1 - mask) * shifted(frames), frames.float()], 2)


@stack_frames.wrong("drops the first step", CONTRACT, "should have shape")
def _(frames, first):
    return torch.cat([frames[:, :-1], frames[:, 1:]], 2)


@stack_frames.wrong("stacked on a new axis", CONTRACT, "should have shape")
def _(frames, first):
    return torch.stack([torch.where(wide(first), frames, shifted(frames)), frames], 2)


@stack_frames.wrong("joined in time", CONTRACT, "should have shape")
def _(frames, first):
    return torch.cat([torch.where(wide(first), frames, shifted(frames)), frames], 1)


@stack_frames.wrong("sets column 0 of first", CONTRACT, "edited in place")
def _(frames, first):
    first[:, 0] = True
    return torch.cat([torch.where(wide(first), frames, frames.roll(1, 1)), frames], 2)


@stack_frames.right
def by_loop_over_all(frames, first):
    out = frames.repeat(1, 1, 2, 1, 1)
    for b in range(frames.shape[0]):
        for t in range(1, frames.shape[1]):
            if not first[b, t]:
                out[b, t, 0] = frames[b, t - 1, 0]
    return out


@stack_frames.right
def by_index(frames, first):
    steps = torch.arange(frames.shape[1]).expand(first.shape)
    source = torch.where(first, steps, (steps - 1).clamp(min=0))
    previous = frames[torch.arange(len(frames))[:, None], source]
    return torch.stack([previous[:, :, 0], frames[:, :, 0]], 2)


nearest_distance = Bank("nearest_distance")
SMALLEST, ZERO = "smallest Euclidean distance", "distance 0"


@nearest_distance.wrong("average over the real frames", SMALLEST, "average over the real")
def _(frames, real):
    return torch.cdist(frames.flatten(1), real.flatten(1)).mean(1)


@nearest_distance.wrong("the farthest", SMALLEST, "farthest")
def _(frames, real):
    return torch.cdist(frames.flatten(1), real.flatten(1)).amax(1)


@nearest_distance.wrong("squared", SMALLEST, "root is missing")
def _(frames, real):
    return (frames[:, None] - real).square().sum((2, 3, 4)).amin(1)


@nearest_distance.wrong("root mean square", SMALLEST, "mean over the pixels")
def _(frames, real):
    return (frames[:, None] - real).square().mean((2, 3, 4)).sqrt().amin(1)


@nearest_distance.wrong("mean square", SMALLEST, "without a root")
def _(frames, real):
    return (frames[:, None] - real).square().mean((2, 3, 4)).amin(1)


@nearest_distance.wrong("absolute", SMALLEST, "absolute differences")
def _(frames, real):
    return torch.cdist(frames.flatten(1), real.flatten(1), p=1).amin(1)


@nearest_distance.wrong("largest pixel", SMALLEST, "largest difference of a pixel")
def _(frames, real):
    return torch.cdist(frames.flatten(1), real.flatten(1), p=float("inf")).amin(1)


@nearest_distance.wrong("pixel by pixel", SMALLEST, "compare whole frames")
def _(frames, real):
    return (frames[:, None] - real).abs().amin(1).flatten(1).norm(dim=1)


@nearest_distance.wrong("the mean real frame", SMALLEST, "is not a real frame")
def _(frames, real):
    return (frames - real.mean(0)).flatten(1).norm(dim=1)


@nearest_distance.wrong("row by row", SMALLEST, "same number")
def _(frames, real):
    return (frames - real[: len(frames)]).flatten(1).norm(dim=1)


@nearest_distance.wrong("one for all", SMALLEST, "one smallest for each")
def _(frames, real):
    return torch.cdist(frames.flatten(1), real.flatten(1)).amin().expand(len(frames))


@nearest_distance.wrong("leaves out a distance of 0", ZERO, "at distance 0")
def _(frames, real):
    table = torch.cdist(frames.flatten(1), real.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    return table.masked_fill(table < 1e-3, float("inf")).amin(1)


@nearest_distance.wrong("per real frame", CONTRACT, "should have shape")
def _(frames, real):
    return torch.cdist(frames.flatten(1), real.flatten(1)).amin(0)


@nearest_distance.wrong("the number of the nearest", CONTRACT, "should be float32")
def _(frames, real):
    return torch.cdist(frames.flatten(1), real.flatten(1)).argmin(1)


@nearest_distance.wrong("values and indices", CONTRACT, "should be a torch tensor")
def _(frames, real):
    return torch.cdist(frames.flatten(1), real.flatten(1)).min(1)


@nearest_distance.right
def by_broadcast(frames, real):
    return (frames[:, None] - real[None]).pow(2).flatten(2).sum(-1).min(1).values.sqrt()


@nearest_distance.right
def by_loop_over_frames(frames, real):
    return torch.stack([min((frame - other).norm() for other in real) for frame in frames])


@nearest_distance.right
def by_cdist(frames, real):
    return torch.cdist(frames.reshape(len(frames), -1), real.reshape(len(real), -1)).min(dim=1).values
