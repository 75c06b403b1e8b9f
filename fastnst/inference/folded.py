"""One pass on a CPU with normalization folded into the convolutions: the same result in less time, in float32 or bfloat16.

An instance normalization and its ReLU are relu(s x + b), with numbers for each channel. Where s is positive that is
s max(x, -b / s) + b: one maximum, in place of several passes over memory. The factor s goes into the filters of the next
convolution. The constant b is left out, as the next normalization subtracts it again: reflection, averages and enlargement
keep constants. (Where s would be negative, filters of the other sign make it positive.)

As any constant may be added before a normalization, each convolution's bias brings its result's mean near zero. Rounded to
bfloat16, a number loses as much as it is large, and means far from zero would drown what lies between the values.

A convolution behind an enlargement is computed on the small map, with four times the filters: each set for one place in
2 x 2 px. The last convolution gives 2 x 2 px at a time, too: its three outputs alone would leave a CPU's vectors idle.
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst.models.transform_net import HalvingConv2d, Residual, TransformNet

LEAST_SCALE = 1e-6  # a smaller one, of a normalization, counts as this

# A map (h, k, w, k, C) has h k x w k px. With k = 2 they lie in memory as a convolution on the small map gives them, 2 x 2
# together. Values x stand for scale max(x, low), or scale x where low is None, up to a constant for each channel.
State = tuple[Tensor, Tensor | None, Tensor]  # map, low (C,), scale (C,)


def folds(net: nn.Module) -> bool:
    """Whether `Folded` takes the net: its layers must keep constants, and each picture have its own statistics."""
    if type(net) is not TransformNet or next(net.parameters()).device.type != "cpu":
        return False
    return net.architecture["norm"] == "instance" and net.architecture["upsample"] != "transposed"


class Folded:
    """A net that `folds`, for pictures of any size.

    dtype: of convolutions and maps; but the first convolution's and statistics are float32, as smooth pictures want it.
    """

    @torch.inference_mode()
    def __init__(self, net: TransformNet, dtype: torch.dtype = torch.float32):
        *layers, last = net.layers
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        self.net, self.dtype, self.steps, self.pad = net, dtype, [*_steps(layers, dtype)], last.kernel_size[0] // 2
        self.last = torch.cat([F.pad(last.weight, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)])
        self.bias = last.bias.repeat(4)

    @torch.inference_mode()
    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """A picture, (H, W, 3) uint8, restyled: the same shape."""
        height, width, _ = picture.shape
        if (picture == picture[:1, :1]).all():
            pixels = torch.from_numpy(np.broadcast_to(picture[0, 0], (16, 16, 3)).copy()).permute(2, 0, 1)[None] / 255
            colors = _shifts(self.net)(pixels)[0, :, 8, 8].clamp(0, 1).mul(255).round().byte()
            return np.broadcast_to(colors.numpy(), picture.shape).copy()
        picture = np.pad(picture, ((0, -height % 4), (0, -width % 4), (0, 0)), "reflect")
        # From 0-255 to -1-1 is a factor and a constant.
        state: State = torch.from_numpy(picture).float()[:, None, :, None], None, torch.full((3,), 2 / 255)
        for step in self.steps:
            state = step(*state)
        y, low, scale = state
        assert low is not None  # of the last normalization
        low = low.to(self.dtype).float()
        y = _convolved(_framed(y, low, self.pad, self.dtype), self.last, scale, 2, low, self.bias)
        y = self.net.output(y).mul_(255).clamp_(0, 255).round_().byte()
        return y.unflatten(2, (2, 2, 3)).transpose(1, 2).reshape(*picture.shape)[:height, :width].numpy()


def _shifts(net: TransformNet) -> TransformNet:
    """What a picture of one colour goes through: of that, normalization leaves its shift alone.

    The net itself would enlarge what rounding leaves between px, up to 300 times a layer: on some CPUs to other colours.
    """
    net = copy.deepcopy(net)
    for norm in net.instance_norms():
        nn.init.zeros_(norm.weight)
    return net


def _steps(layers: list[nn.Module], dtype: torch.dtype) -> Iterator["_Step | _Blocks"]:
    blocks = [layer for layer in layers if isinstance(layer, Residual)]
    for layer, norm in zip(layers, layers[1:], strict=False):
        if isinstance(layer, (nn.Conv2d, nn.Sequential)):
            yield _Step(layer, norm, torch.float32 if layer is layers[0] else dtype)
        elif blocks and layer is blocks[0]:
            yield _Blocks(blocks, dtype)


class _Step:
    """A convolution, the change of size before it and the normalization behind it, with a ReLU or without."""

    def __init__(self, layer: nn.Module, norm: nn.Module, dtype: torch.dtype, rectified: bool = True):
        self.dtype = dtype
        upsample, conv = layer if isinstance(layer, nn.Sequential) else (None, layer)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.InstanceNorm2d)
        self.upsample, self.halves, self.stride = upsample, isinstance(conv, HalvingConv2d), conv.stride[0]
        self.pad, self.eps = conv.kernel_size[0] // 2, norm.eps
        self.weight, self.scale, self.shift = conv.weight.detach(), norm.weight.detach(), norm.bias.detach()
        if rectified:
            self.weight = torch.where(self.scale < 0, -1.0, 1.0)[:, None, None, None] * self.weight
            self.scale = self.scale.abs().clamp_min(LEAST_SCALE)
        if isinstance(upsample, nn.Upsample):
            self.small = _on_the_small_map(self.weight, upsample.mode)

    def __call__(self, y: Tensor, low: Tensor | None, scale: Tensor) -> State:
        if self.upsample is not None:
            return self.normalized(self.enlarged(_framed(y, low, 1, self.dtype, mirror=False), scale, self.upsample))
        if self.halves:
            pooled = F.avg_pool2d(_nchw((y if low is None else _raised(y, low, y))[:, 0, :, 0]), 2)
            y, low = _hwc(pooled)[:, None, :, None], None
        return self.normalized(self.convolved(_framed(y, low, self.pad, self.dtype), scale))

    def convolved(self, x: Tensor, scale: Tensor) -> Tensor:
        """Of a map with its border, (H, W, C)."""
        return _convolved(x, self.weight, scale, self.stride)[:, None, :, None]

    def normalized(self, y: Tensor) -> State:
        flat, kept = y.transpose(1, 2).reshape(1, -1, y.shape[-1]), torch.zeros(2, y.shape[-1])  # float32, as they are
        mean, variance = torch.batch_norm_update_stats(_nchw(flat), kept[0], kept[1], 1.0)
        scale = self.scale / (variance + self.eps).sqrt()
        return y, mean - self.shift / scale, scale

    def enlarged(self, x: Tensor, scale: Tensor, upsample: nn.Module) -> Tensor:
        center = _center(x)
        y = _convolved(x, self.small, scale, 1, center).unflatten(2, (2, 2, -1)).transpose(1, 2)
        # The large map is reflected at its border, which no border of the small one amounts to.
        x = x[1:-1, 1:-1]
        for ends, edges in (
            ((x[:2], x[-2:]), (y[0, 0], y[-1, 1])),
            ((x[:, :2], x[:, -2:]), (y[:, :, 0, 0], y[:, :, -1, 1])),
        ):
            for end, edge, at in zip(ends, edges, (0, -1), strict=True):
                strip = F.pad(upsample(_nchw(end)), (1, 1, 1, 1), mode="reflect")
                strip = _convolved(_hwc(strip), self.weight, scale, 1, center)
                edge.copy_((strip[at] if end.shape[0] == 2 else strip[:, at]).view_as(edge))
        return y


class _Blocks:
    """Residual blocks, whose sums are kept in one map."""

    def __init__(self, blocks: list[Residual], dtype: torch.dtype):
        self.dtype = dtype
        self.blocks = []
        for block in blocks:
            conv, norm, _, second, last = block.layers
            self.blocks.append((_Step(conv, norm, dtype), _Step(second, last, dtype, rectified=False)))

    def __call__(self, y: Tensor, low: Tensor | None, scale: Tensor) -> State:
        x = _framed(y, low, 1, self.dtype)
        inside = x[1:-1, 1:-1]
        for first, second in self.blocks:
            y, low, own = first.normalized(first.convolved(x, scale))
            y, _, own = second.normalized(second.convolved(_framed(y, low, 1, self.dtype), own))
            inside.flatten(1).addcmul_(y.flatten(1), (own / scale).to(y).repeat(y.shape[2]))
            _mirror(x, 1)
        return inside[:, None, :, None], None, scale


def _framed(y: Tensor, low: Tensor | None, pad: int, dtype: torch.dtype, mirror: bool = True) -> Tensor:
    """max(y, low) as (H + 2 pad, W + 2 pad, C), with its border reflected or, of one px, repeated."""
    h, k, w, _, c = y.shape
    x = torch.empty(h * k + 2 * pad, w * k + 2 * pad, c, dtype=dtype)
    inside = x[pad:-pad, pad:-pad].unflatten(1, (w, k)).unflatten(0, (h, k))
    if low is None or y.dtype != dtype:
        inside.copy_(y if low is None else _raised(y, low, y))
    else:
        _raised(y, low, inside)
    return _mirror(x, pad) if mirror else _repeat(x)


def _raised(y: Tensor, low: Tensor, out: Tensor) -> Tensor:
    """max(y, low), written to `out`."""
    first = 1 if y.shape[1] == 1 else 3  # what lies together in both is one long vector, not many short ones
    rows = y.flatten(first)
    torch.clamp(rows, min=low.to(y).repeat(rows.shape[-1] // len(low)), out=out.flatten(first))
    return out


def _mirror(x: Tensor, pad: int) -> Tensor:
    """Reflects (H, W, C) in its border."""
    for side in (x, x.transpose(0, 1)):
        side[:pad] = side[pad + 1 : 2 * pad + 1].flip(0)
        side[-pad:] = side[-2 * pad - 1 : -pad - 1].flip(0)
    return x


def _repeat(x: Tensor) -> Tensor:
    for side in (x, x.transpose(0, 1)):
        side[0], side[-1] = side[1], side[-2]
    return x


def _convolved(
    x: Tensor, weight: Tensor, scale: Tensor, stride: int, center: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The convolution of scale (x - center), (H, W, C), with filters (O, C, k, k): (h, w, O).

    center: (C,); None: about the mean, so that the result's is near zero.
    """
    weight = (weight * scale[:, None, None]).to(x.dtype, memory_format=torch.channels_last)
    shift = -weight.float().sum((2, 3)) @ (_center(x) if center is None else center)
    if bias is not None:
        shift = shift + bias
    rounded = shift.to(x.dtype)
    y = _hwc(F.conv2d(_nchw(x), weight, rounded, stride))
    return y if bias is None else y + (shift - rounded)


def _center(x: Tensor) -> Tensor:
    return x[::4, ::4].float().mean((0, 1))


def _nchw(x: Tensor) -> Tensor:
    return x[None].permute(0, 3, 1, 2)


def _hwc(x: Tensor) -> Tensor:
    return x[0].permute(1, 2, 0)


def _on_the_small_map(weight: Tensor, mode: str) -> Tensor:
    """Filters, (O, C, 3, 3), for an enlarged map, as (4 O, C, 3, 3) for the small one: for each of 2 x 2 px O of them."""
    # What the middle px of three, enlarged, and their neighbours are made of: from the left neighbour's second px on.
    parts = F.interpolate(torch.eye(3)[None], scale_factor=2, mode="linear" if mode == "bilinear" else mode)[0, :, 1:5]
    taps = parts.unfold(1, 3, 1)  # (px of the small map, place, tap)
    return torch.einsum("ocuv,apu,bqv->pqocab", weight, taps, taps).flatten(0, 2).contiguous()
