"""One pass over a picture too large for memory: the same result, strip by strip.

Instance normalization needs the statistics of the whole picture. So each layer's statistics are gathered first, over all
strips, before the layers above it are computed. No strip is normalized on its own: no seams and no shifts of colour. Feature
maps at a quarter of the size are kept, in half precision. Larger ones are computed again, strip by strip, whenever a layer
above them asks for their rows.

Strips run across the longer side, so that a long and thin picture has short ones. A picture wider than high is turned for
that: rows become columns, in the picture and in each filter.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst.errors import UserError
from fastnst.models.regions import ColorsByRegion, NormByRegion
from fastnst.models.transform_net import HalvingConv2d, Residual, TransformNet

Rows = Callable[[int, int], Tensor]  # rows first to last (exclusive) of a feature map, (N, C, last - first, W)


# Layers that make each value of that value alone; batch normalization does so by its running statistics.
POINTWISE = (
    nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Softplus,
    nn.Tanh, nn.Sigmoid, nn.Identity,
)  # fmt: skip


class Layer:
    """A layer's output, `height` rows of which any can be asked for by calling it with (first, last)."""

    def __init__(self, rows: Rows, height: int, kept: Tensor | None = None):
        self.rows, self.height, self.kept = rows, height, kept

    def __call__(self, first: int, last: int) -> Tensor:
        return self.rows(first, last)

    def strips(self, size: int) -> Iterator[tuple[int, int]]:
        for first in range(0, self.height, size):
            yield first, min(first + size, self.height)


def restyle_in_strips(
    net: TransformNet, picture: np.ndarray, strip: int, progress: Callable[[float], object] = lambda share: None
) -> np.ndarray:
    """The net's result for a picture, (H, W, 3) uint8, as the same; equal to the untiled pass within 1/255.

    strip: rows of the picture at a time, or columns where it is wider than high. progress: called with the share of the work
    done so far, ever nearer to 1. Raises UserError for a net with a layer that strips do not know.
    """
    height, width, _ = picture.shape
    if width > height:
        return restyle_in_strips(turned(net), picture.transpose(1, 0, 2), strip, progress).transpose(1, 0, 2)
    device = next(net.parameters()).device
    extra = -width % 4

    def read(first: int, last: int) -> Tensor:
        index = np.arange(first, last)
        index = np.where(index < height, index, 2 * (height - 1) - index)  # the net's reflection to a multiple of 4
        rows = torch.from_numpy(picture[index]).to(device).permute(2, 0, 1).unsqueeze(0)
        return F.pad(rows.float().div(255), (0, extra, 0, 0), mode="reflect") * 2 - 1

    work = _Work(net, strip, progress)
    layer = Layer(read, height + -height % 4)
    for module in net.layers:
        layer = work.apply(module, layer)
        # Once it is a quarter of the size a map is kept, as long as maps stay so small.
        if layer.height * 4 <= height + 3 and isinstance(module, nn.Conv2d):
            layer = work.keep(layer)
    result = np.empty_like(picture)
    for first, last in work.over(layer):
        rows = net.output(layer(first, last))[0, :, : height - first, :width]
        result[first:last] = rows.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return result


@torch.no_grad()
def turned(net: TransformNet) -> TransformNet:
    """A net whose result for a picture with rows and columns exchanged is that of `net`, with rows and columns exchanged.

    Normalization, averaging and enlarging treat both alike; only the filters must be exchanged, and the masks of regions.
    """
    net = copy.deepcopy(net)
    for weight in net.parameters():
        if weight.dim() == 4:
            weight.copy_(weight.transpose(2, 3).clone())
    for module in net.modules():
        if isinstance(module, (NormByRegion, ColorsByRegion)):
            module.shares = module.shares.transpose(0, 1)
    return net


class _Work:
    """Applies modules to layers, and counts the passes over them for `progress`."""

    def __init__(self, net: TransformNet, strip: int, progress: Callable[[float], object]):
        self.strip, self.progress, self.passes = strip, progress, 0
        modules = list(net.modules())
        norms, blocks = (sum(isinstance(m, kind) for m in modules) for kind in (nn.InstanceNorm2d, Residual))
        self.expected = norms + 1 + 3 * blocks + 1  # statistics; the maps kept of the head and of each block; the result

    def over(self, layer: Layer) -> Iterator[tuple[int, int]]:
        for first, last in layer.strips(self.strip):
            yield first, last
            self.progress((self.passes + last / layer.height) / self.expected)
        self.passes += 1

    def apply(self, module: nn.Module, below: Layer) -> Layer:
        if isinstance(module, HalvingConv2d):
            means = Layer(lambda a, b: F.avg_pool2d(below(2 * a, 2 * b), 2), below.height // 2)
            return _convolution(module, means)
        if isinstance(module, nn.Conv2d):
            return _convolution(module, below)
        if isinstance(module, nn.ConvTranspose2d):
            return _transposed(module, below)
        if isinstance(module, nn.Upsample):
            return _enlarged(module, below)
        if isinstance(module, POINTWISE):
            return Layer(lambda a, b: module(below(a, b)), below.height)
        if isinstance(module, NormByRegion):
            statistics = self._statistics(below)
            return Layer(lambda a, b: module.rows(below(a, b), a, *statistics), below.height)
        if isinstance(module, ColorsByRegion):
            return Layer(lambda a, b: module.rows(below(a, b), a), below.height)
        if isinstance(module, nn.InstanceNorm2d):
            return self._instance_norm(module, below)
        if isinstance(module, Residual):
            inner, kept = below, None
            for step in module.layers:
                inner = self.apply(step, inner)
                if isinstance(step, nn.Conv2d):
                    inner = self.keep(inner, kept)
                    kept = inner.kept
            return self.keep(Layer(lambda a, b: below(a, b) + inner(a, b), below.height), kept)
        if not isinstance(module, nn.Sequential):
            raise UserError(
                f"tile: strips cannot be computed through {type(module).__name__}; give tile=null, "
                "or teach them in fastnst/inference/tiling.py"
            )
        for step in module:
            below = self.apply(step, below)
        return below

    def keep(self, layer: Layer, kept: Tensor | None = None) -> Layer:
        """The same layer, computed now and held in half precision, in a new map or in the map `kept`.

        `kept` may be what the layer is computed from, as no row is asked for again once those of two strips on are
        computed: each strip is written one strip late.
        """
        late = None
        for first, last in self.over(layer):
            rows = layer(first, last)
            if kept is None:
                kept = rows.new_empty((*rows.shape[:2], layer.height, rows.shape[3]), dtype=torch.float16)
            if late is not None:
                kept[..., late[0] : late[1], :] = late[2]
            late = first, last, rows
        assert kept is not None and late is not None  # a layer has rows
        kept[..., late[0] : late[1], :] = late[2]
        return Layer(lambda a, b: kept[..., a:b, :].float(), layer.height, kept)

    def _statistics(self, below: Layer) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel over all rows, (N, C)."""
        shares, found = [], []
        for first, last in self.over(below):
            rows = below(first, last)
            mean = rows.mean((2, 3), keepdim=True)
            found.append(torch.stack([mean[..., 0, 0], (rows - mean).square().mean((2, 3))]))
            shares.append((last - first) / below.height)
        # Of the strips: summed in double precision, on the CPU, as not all GPUs have it.
        means, variances = torch.stack(found, -1).cpu().double()
        share = torch.tensor(shares, dtype=torch.float64)
        mean = means @ share
        variance = (variances + (means - mean[..., None]).square()) @ share
        return mean.float().to(found[0].device), variance.float().to(found[0].device)

    def _instance_norm(self, module: nn.InstanceNorm2d, below: Layer) -> Layer:
        mean, variance = self._statistics(below)
        scale = module.weight * (variance + module.eps).rsqrt()
        shift = module.bias - mean * scale
        scale, shift = scale[..., None, None], shift[..., None, None]
        return Layer(lambda a, b: below(a, b).mul_(scale).add_(shift), below.height)


def _convolution(module: nn.Conv2d, below: Layer) -> Layer:
    """Reflects at the picture's own border alone; elsewhere the rows beyond a strip are the picture's."""
    (stride, _), (pad, _) = module.stride, (module.kernel_size[0] // 2,) * 2

    def rows(a: int, b: int) -> Tensor:
        first, last = a * stride - pad, (b - 1) * stride + pad + 1
        inside = below(max(first, 0), min(last, below.height))
        x = F.pad(inside, (pad, pad, max(-first, 0), max(last - below.height, 0)), mode="reflect")
        return F.conv2d(x, module.weight, module.bias, stride)

    return Layer(rows, (below.height + stride - 1) // stride)


def _enlarged(module: nn.Upsample, below: Layer) -> Layer:
    def rows(a: int, b: int) -> Tensor:
        # One row more on each side: bilinear interpolation looks at the neighbours.
        first, last = max(0, a // 2 - 1), min(below.height, (b + 1) // 2 + 1)
        start = a - 2 * first
        return module(below(first, last))[..., start : start + b - a, :]

    return Layer(rows, 2 * below.height)


def _transposed(module: nn.ConvTranspose2d, below: Layer) -> Layer:
    """Row o of the output takes the input's rows i with o = 2 i - 1 + k, k in 0, 1, 2."""

    def rows(a: int, b: int) -> Tensor:
        first, last = max(0, (a - 1) // 2), min(below.height, b // 2 + 1)
        x = F.conv_transpose2d(below(first, last), module.weight, None, 2, padding=(0, 1), output_padding=(0, 1))
        start = a - (2 * first - 1)
        return x[..., start : start + b - a, :]

    return Layer(rows, 2 * below.height)
