"""Regions: masks choose each pixel's style, for nets that take embeddings.

Styles share all convolutions, and differ in their embeddings alone. So each normalization can scale and shift each pixel by
its own style's numbers. Statistics are those of the whole picture here too: each style's are those that its own pass over
the whole picture has. Were they those of the picture with regions, a style would look different beside another one.

So one pass computes K + 1 pictures, for K styles: each style's own, for its statistics, and the one with regions.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fastnst.models.transform_net import TransformNet


class NormByRegion(nn.InstanceNorm2d):
    """Instance normalization of K + 1 pictures: of K styles each, and of all styles, mixed by their shares in each pixel.

    shares: (H, W, K), with a sum of 1 in each pixel. scales, shifts: (K, C).
    """

    def __init__(self, shares: Tensor, scales: Tensor, shifts: Tensor):
        super().__init__(scales.shape[1])
        self.shares, self.scales, self.shifts = shares, scales, shifts

    def forward(self, x: Tensor) -> Tensor:
        """x: (K + 1, C, H, W), or (1, C, H, W) where all pictures are still alike. Returns (K + 1, C, H, W)."""
        variances, means = torch.var_mean(x, (2, 3), correction=0)
        return self.rows(x, 0, means, variances)

    def rows(self, x: Tensor, first: int, means: Tensor, variances: Tensor) -> Tensor:
        """The same for some of the rows, from the row `first` on. means, variances: (K + 1, C) or (1, C), of all rows."""
        styles = len(self.scales)
        scales = self.scales * (variances[:styles] + self.eps).rsqrt()
        shifts = self.shifts - means[:styles] * scales
        scales, shifts = scales.to(x), shifts.to(x)
        own = x[:styles] * scales[..., None, None] + shifts[..., None, None]
        shares = self.shares[first : first + x.shape[2]]
        return torch.cat([own, x[-1:] * chosen(scales, shares) + chosen(shifts, shares)])


class ColorsByRegion(nn.Module):
    """The colour matrix and shift of `ConditionalColors`, mixed by the styles' shares in each pixel.

    shares: as above. matrices: (K, 9), row by row. shifts: (K, 3).
    """

    def __init__(self, shares: Tensor, matrices: Tensor, shifts: Tensor):
        super().__init__()
        self.shares, self.matrices, self.shifts = shares, matrices, shifts

    def forward(self, x: Tensor) -> Tensor:
        """x: (K + 1, 3, H, W). Returns the picture with regions, (1, 3, H, W)."""
        return self.rows(x, 0)

    def rows(self, x: Tensor, first: int) -> Tensor:
        """The same for some of the rows, from the row `first` on."""
        shares = self.shares[first : first + x.shape[2]]
        matrices = chosen(self.matrices, shares).unflatten(0, (3, 3))
        return torch.einsum("ijhw,njhw->nihw", matrices, x[-1:]) + chosen(self.shifts, shares)


def chosen(numbers: Tensor, shares: Tensor) -> Tensor:
    """The styles' numbers, (K, C), mixed in each pixel by shares, (H, W, K): (C, H, W)."""
    return (shares @ numbers).permute(2, 0, 1)


class RegionNet(TransformNet):
    """The net that `Regions` makes for pictures of one size."""

    def forward(self, photographs: Tensor) -> Tensor:
        """As `TransformNet`'s: each photograph with statistics of its own."""
        return torch.cat([super(RegionNet, self).forward(photograph) for photograph in photographs.split(1)])


class Regions(nn.Module):
    """Several styles of a `StyledNet`, each where its mask says. It has what inference asks of a net of one style.

    body, parts: the `StyledNet`'s. embeddings: (K, numbers). masks: K gray pictures (mode L) of any size, white where
    the style is wanted. In each pixel they are scaled to a sum of 1; where all are black the styles have equal shares.
    """

    embeddings: Tensor

    def __init__(self, body: TransformNet, parts: Sequence[int], embeddings: Tensor, masks: Sequence[Image.Image]):
        super().__init__()
        self.body, self.parts, self.masks = body, parts, masks
        self.architecture = body.architecture
        self.register_buffer("embeddings", embeddings.detach())

    @property
    def channels(self) -> int:
        """Channels of the first layer: those of K + 1 pictures. See `TransformNet.channels`."""
        return (len(self.masks) + 1) * self.body.channels

    def at(self, strength: float) -> "Regions":
        """The net itself, whatever the strength: see `TransformNet.at`."""
        return self

    def sized(self, height: int, width: int) -> RegionNet:
        """The net for pictures of this size, in eval mode."""
        net = RegionNet(**self.architecture).to(self.embeddings.device).to(memory_format=torch.channels_last)
        net.load_state_dict(self.body.state_dict(), strict=False)
        shares = self._shares(height, width)
        *parts, matrices, colors = self.embeddings.split(self.parts, dim=1)
        norms = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.InstanceNorm2d)]
        for (name, norm), scales, shifts in zip(norms, parts[::2], parts[1::2], strict=True):
            reduction = norm.num_features // self.body.channels  # twice the channels at half the size
            net.set_submodule(name, NormByRegion(shares[reduction], scales, shifts))
        net.layers.append(ColorsByRegion(shares[1], matrices, colors))
        return net.eval()

    def _shares(self, height: int, width: int) -> dict[int, Tensor]:
        """The masks as shares, (H, W, K), at the size of the picture and at a half and a quarter of it."""
        resized = [np.asarray(mask.resize((width, height), Image.Resampling.BILINEAR)) for mask in self.masks]
        masks = torch.from_numpy(np.stack(resized)).to(self.embeddings.device).float()
        total = masks.sum(0)
        shares = masks.div_(total.clamp_min(1)).masked_fill_(total == 0, 1 / len(masks)).unsqueeze(0)
        # Reflected as the picture is, see `TransformNet.framed`.
        shares = F.pad(shares, (0, -width % 4, 0, -height % 4), mode="reflect")
        return {r: F.avg_pool2d(shares, r)[0].permute(1, 2, 0).contiguous() for r in (1, 2, 4)}
