"""Figures of a trained net: equivalent L-BFGS iterations, measures that compare across implementations, and artefacts.

Pictures are RGB in 0-1, (1, 3, H, W).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.losses.terms import gram_matrix
from fastnst.losses.vgg import LossNetwork
from fastnst.losses.vgg_layers import STYLE_LAYERS

PAINTING_SIZE = 256  # px, the painting's short side in relative_style


@torch.no_grad()
def relative_content(network: LossNetwork, restyled: Tensor, photograph: Tensor) -> float:
    """||phi(y) - phi(x)||^2 / ||phi(m) - phi(x)||^2 at relu3_3, where m is a picture of the photograph's mean colour.

    0: the photograph's features; 1: as far from them as a picture that shows nothing.
    """
    flat = photograph.mean((2, 3), keepdim=True).expand_as(photograph)
    y, x, m = (network(p, ["relu3_3"])["relu3_3"] for p in (restyled, photograph, flat))
    return ((y - x).square().sum() / (m - x).square().sum()).item()


@torch.no_grad()
def relative_style(network: LossNetwork, restyled: Tensor, painting: Tensor) -> float:
    """Mean over relu1_2, relu2_2, relu3_3, relu4_3 of ||G(y) - G(s)||_F^2 / ||G(s)||_F^2.

    painting: with a short side of PAINTING_SIZE px, whatever it was in training, so that nets can be compared. 0: the
    painting's statistics; 1: none.
    """
    y, s = network(restyled, STYLE_LAYERS), network(painting, STYLE_LAYERS)
    grams = [(gram_matrix(y[layer]), gram_matrix(s[layer])) for layer in STYLE_LAYERS]
    return sum(((a - b).square().sum() / b.square().sum()).item() for a, b in grams) / len(grams)


def worth(curve: list[float], total: float) -> int | None:
    """Equivalent iterations: the first at which optimization's loss, `curve[i]` after i iterations, is at most `total`.

    None: the curve ends above `total`.
    """
    return next((step for step, value in enumerate(curve) if value <= total), None)


def checkerboard(picture: Tensor) -> float:
    """Energy at the upsampling frequencies against their neighbourhood, in dB: the worst of them.

    Two enlargements by 2 can leave patterns of period 2 and 4 px: peaks of the power spectrum where both frequencies are
    multiples of 1/4 per px. The luminance is windowed (Hann), and the mean power within 2 bins of each such point compared
    with that of the ring 5 to 9 bins away. Around 2 without such a pattern, as the worst of several noisy points.
    Threshold: a net leaves a checkerboard if its results lie more than 3 dB above the photographs.
    """
    gray = picture.mean((0, 1)).double()
    height, width = (side - side % 4 for side in gray.shape)
    gray = gray[:height, :width] - gray[:height, :width].mean()
    window = torch.hann_window(height, dtype=torch.double)[:, None] * torch.hann_window(width, dtype=torch.double)
    power = torch.fft.fft2(gray.cpu() * window).abs().square()
    row, column = torch.arange(height)[:, None], torch.arange(width)
    worst = 0.0
    for a in range(3):  # the other half of the spectrum mirrors this one
        for b in range(4):
            if (a, b) in ((0, 0), (0, 3), (2, 3)):  # no frequency at all, and mirrored ones
                continue
            dy, dx = row - a * height // 4, column - b * width // 4
            dy, dx = torch.minimum(dy.abs(), height - dy.abs()), torch.minimum(dx.abs(), width - dx.abs())
            distance = (dy.square() + dx.square()).sqrt()
            ring = power[(distance >= 5) & (distance <= 9)].mean()
            worst = max(worst, (power[distance <= 2].mean() / ring.clamp_min(1e-30)).item())
    return 10 * math.log10(max(worst, 1e-3))


def border(picture: Tensor, width: int = 16) -> float:
    """How far the outer `width` px differ from the inside: |mean - mean| / std + |ln(std / std)|, mean over channels.

    Padding can darken, brighten or flatten a result's rim. Photographs themselves show 0.2 to 0.8, as skies and grounds lie
    at their rims. Threshold: a net makes a border if its results lie more than 0.25 above the photographs.
    """
    rim = torch.ones(picture.shape[-2:], dtype=torch.bool, device=picture.device)
    rim[width:-width, width:-width] = False
    outer, inner = picture[0][:, rim], picture[0][:, ~rim]
    spread = inner.std(1).clamp_min(1e-3)
    shift = (outer.mean(1) - inner.mean(1)).abs() / spread
    return (shift + (outer.std(1).clamp_min(1e-3) / spread).log().abs()).mean().item()


def spots(picture: Tensor) -> float:
    """Isolated saturated blobs per megapixel.

    A blob is a place whose 5 x 5 px mean differs from that of the ring between 9 x 9 and 17 x 17 px about it by over 0.35 in
    some channel, is saturated (its channels more than 0.5 apart, or one of them below 0.05 or above 0.95), and whose ring
    is calm (standard deviation below 0.1 in every channel). Threshold: a net makes spots if its results show more than 40
    above the photographs, two in a picture of 256 x 192 px.
    """

    def box(x: Tensor, size: int) -> Tensor:
        return F.avg_pool2d(F.pad(x, [size // 2] * 4, mode="reflect"), size, stride=1)

    def ring(x: Tensor) -> Tensor:
        return (17**2 * box(x, 17) - 9**2 * box(x, 9)) / (17**2 - 9**2)

    center, around = box(picture, 5), ring(picture)
    calm = ((ring(picture.square()) - around.square()).clamp_min(0).sqrt() < 0.1).all(1)
    high, low = center.amax(1), center.amin(1)
    saturated = (high - low > 0.5) | (low < 0.05) | (high > 0.95)
    response = (center - around).abs().amax(1) * calm * saturated
    peak = (response > 0.35) & (response == F.max_pool2d(response, 17, stride=1, padding=8))
    return peak.sum().item() / (picture.shape[-1] * picture.shape[-2] / 1e6)


@torch.no_grad()
def flicker(restyle: Callable[[Tensor], Tensor], photograph: Tensor, frames: int = 6, noise: float = 0.01) -> float:
    """Mean absolute difference of consecutive results after undoing a known camera motion, in 0-1.

    restyle: pictures to results. The clip is a window that moves over the photograph by (1, 2) px a frame, with a camera's
    noise (its standard deviation, in 0-1). The rim of 16 px, where reflections differ, is left out. A photograph that is
    not restyled shows the noise alone, 2 noise / sqrt(pi).
    """
    height, width = photograph.shape[-2] - frames, photograph.shape[-1] - 2 * frames
    random = torch.Generator().manual_seed(0)
    differences, before = [], None
    for i in range(frames):
        window = photograph[..., i : i + height, 2 * i : 2 * i + width]
        result = restyle(window + noise * torch.randn(window.shape, generator=random).to(window))
        if before is not None:
            here, there = result[..., 16 : height - 17, 16 : width - 18], before[..., 17 : height - 16, 18 : width - 16]
            differences.append((here - there).abs().mean().item())
        before = result
    return sum(differences) / len(differences)


ARTEFACTS = {
    "checkerboard": (checkerboard, 3.0),
    "border": (border, 0.25),
    "spots": (spots, 40.0),
}  # name: figure, threshold
