"""Figures of a trained net: equivalent L-BFGS iterations, measures that compare across implementations, and artefacts.

Pictures are RGB in 0-1, (1, 3, H, W).
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from fastnst.brushwork import luminance
from fastnst.losses.layer_names import STYLE_LAYERS
from fastnst.losses.terms import coarse_colors, gram_matrix, lab, rising
from fastnst.losses.vgg import LossNetwork

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
    return style_distance(gram_matrices(network, restyled), gram_matrices(network, painting))


def style_distance(grams: Sequence[Tensor], painting: Sequence[Tensor]) -> float:
    """`relative_style` of a result, given the `gram_matrices` of both."""
    pairs = zip(grams, painting, strict=True)
    return sum(((a - b).square().sum() / b.square().sum()).item() for a, b in pairs) / len(STYLE_LAYERS)


@torch.no_grad()
def gram_matrices(network: LossNetwork, picture: Tensor) -> list[Tensor]:
    """The picture's Gram matrices at relu1_2, relu2_2, relu3_3, relu4_3, (1, C, C) each."""
    features = network(picture, STYLE_LAYERS)
    return [gram_matrix(features[layer]) for layer in STYLE_LAYERS]


@torch.no_grad()
def strokes(network: LossNetwork, restyled: Tensor, painting: Tensor) -> float:
    """How far the result's forms are from the nearest ones of the painting: 0, the painting's own, to 1, nothing alike.

    The mean over three parts: relu3_1 and relu4_1 of both pictures reduced to a half, and relu3_1 of both reduced to a
    quarter (means of 2 x 2 and of 4 x 4 px). Each part is the mean, over all patches of 3 x 3 places of the result's
    features (every position, unpadded), of the cosine distance, 1 - cosine similarity, to the nearest such patch of the
    painting's: what Li and Wand 2016 match. In px of the picture a patch covers 24 (relu3_1) or 48 (relu4_1) at a half,
    and 48 at a quarter, the features' own field of view not counted in.

    painting: with a short side of PAINTING_SIZE px. Raises UserError for a picture with a side below 64 px.
    """
    parts = []
    for reduction, layers in ((2, ("relu3_1", "relu4_1")), (4, ("relu3_1",))):
        y, s = (network(F.avg_pool2d(picture, reduction), layers) for picture in (restyled, painting))
        parts += [_distance_to_nearest(y[layer], s[layer]) for layer in layers]
    return sum(parts) / len(parts)


def _distance_to_nearest(features: Tensor, others: Tensor, at_once: int = 2048) -> float:
    """Mean cosine distance of each 3 x 3 patch of features, (1, C, H, W), to the nearest patch of others, (1, C, h, w)."""
    candidates = F.normalize(F.unfold(others, 3)[0], dim=0)
    windows = features[0].unfold(1, 3, 1).unfold(2, 3, 1)  # (C, H - 2, W - 2, 3, 3), a view
    nearest = []
    for rows in windows.split(max(1, at_once // windows.shape[2]), dim=1):  # patches at once: their copies are large
        patches = rows.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
        nearest.append((F.normalize(patches, dim=1) @ candidates).amax(1))
    return (1 - torch.cat(nearest)).mean().item()


def palette(restyled: Tensor, painting: Tensor) -> float:
    """Sliced Wasserstein distance of the colours of both pictures, reduced eightfold (means of 8 x 8 px), in units of Lab.

    The mean over 64 fixed directions, unit vectors drawn with a seed, of the mean absolute difference between the sorted
    projections on them of the colours in CIELab. Where the pictures differ in size, quantiles are
    compared: as many as the larger has pixels. So a shift of all colours by d units of Lab gives about d / 2, the mean of
    |cos| over directions. 0: the same colours, wherever they stand.
    """
    directions = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).to(restyled)
    directions = F.normalize(directions, dim=1)
    y, s = (directions @ lab(F.avg_pool2d(p, 8))[0].flatten(1) for p in (restyled, painting))
    count = max(y.shape[1], s.shape[1])
    y, s = (_quantiles(projections, count) for projections in (y, s))
    return (y - s).abs().mean().item()


def contrast(restyled: Tensor, painting: Tensor) -> float:
    """How far the result's spread of lightness is from the painting's: |s(result) / s(painting) - 1|. 0: the same.

    s is the standard deviation of L, in CIELab, of a picture, (1, 3, H, W) in 0-1, reduced fourfold (means of 4 x 4 px). A
    result that is paler than its painting is nearer to the photograph in content and no farther in strokes, and worse to the
    eye (docs/notebook.md): so this is looked at beside them. 1 for a painting of one lightness.
    """
    result, aim = (lab(F.avg_pool2d(p, 4))[:, 0].std(correction=0).item() for p in (restyled, painting))
    return abs(result / aim - 1) if aim > 1e-3 else 1.0


def _quantiles(values: Tensor, count: int) -> Tensor:
    """The quantiles at (i + 1/2) / count of each row of values, (N, M). Returns (N, count)."""
    at = (torch.arange(count, device=values.device) + 0.5) * (values.shape[1] / count)
    return values.sort(1).values[:, at.long().clamp_max(values.shape[1] - 1)]


def tone(restyled: Tensor, photograph: Tensor) -> float:
    """How much of the result's coarse light and dark is not the photograph's: 0, none, to 1, all.

    The share of the variance of its lightness, reduced 16-fold, that a linear regression on the photograph's leaves
    (`rising`); a variance below 1 is not seen.
    Contrast and colours do not count. A night that has become day has 1, and so have clouds in an even sky. Pictures of the
    same size, with sides from 32 px.
    """
    y, x = (coarse_colors(picture)[:, :1].flatten(2) for picture in (restyled, photograph))
    y, x = y - y.mean(), x - x.mean()
    return ((y - rising(y, x)).square().mean() / y.square().mean().clamp_min(1)).item()


@torch.no_grad()
def motif(restyled: Tensor, photograph: Tensor) -> float:
    """How strongly one small motif repeats where the photograph is flat: 0, nothing repeats, to 1, a perfect pattern.

    Windows of 64 x 64 px, one every 32 px from the top left, are flat where the photograph's luminance (0.299 R + 0.587 G +
    0.114 B) has a standard deviation below 6 / 255. Of the result's luminance, the detail finer than 16 px is looked at:
    what a Gaussian of 16 px (sigma 4 px) takes away. The figure is the mean over flat windows of the highest local maximum
    (no lower than its 8 neighbours) of the detail's autocorrelation at lags whose length is from 4 to 24 px; 0 for a window
    without one, or whose detail's standard deviation is below 0.5 / 255, which 8 bits do not show. At each lag the
    correlation is that of the two parts of the window that overlap, so it does not fall with the overlap.

    Pictures of the same size, with sides from 64 px. nan if no window is flat: leave it out of means.
    """
    y, x = luminance(restyled), luminance(photograph)
    detail = y - gaussian_blur(y, kernel_size=33, sigma=4.0)
    detail, x = (F.unfold(picture, 64, stride=32)[0].T for picture in (detail, x))
    detail = detail[x.std(1, correction=0) < 6 / 255].view(-1, 64, 64)
    if not len(detail):
        return math.nan
    return torch.cat([_repetition(windows.double()) for windows in detail.split(64)]).mean().item()


def _repetition(windows: Tensor) -> Tensor:
    """`motif` of each window of detail, (N, 64, 64). Returns (N,)."""
    windows = windows - windows.mean((1, 2), keepdim=True)
    ones = torch.ones_like(windows)

    def correlate(a: Tensor, b: Tensor) -> Tensor:
        """Sums over the overlap, (N, 64, 64), at lags of -32 to 31 px down and across."""
        a, b = (torch.fft.rfft2(x, (128, 128)) for x in (a, b))
        return torch.fft.fftshift(torch.fft.irfft2(a.conj() * b, (128, 128)), (1, 2))[:, 32:96, 32:96]

    # Divided by the energies of both parts it cannot pass 1, as Pearson's coefficient cannot.
    energies = correlate(windows.square(), ones) * correlate(ones, windows.square())
    r = correlate(windows, windows) / energies.clamp_min(1e-30).sqrt()
    lag = torch.arange(-32, 32, device=r.device)
    length = (lag[:, None].square() + lag.square()).sqrt()
    peak = (r == F.max_pool2d(r, 3, 1, 1)) & (length >= 4) & (length <= 24)
    seen = windows.std((1, 2), correction=0) >= 0.5 / 255
    return r.where(peak, 0).amax((1, 2)).where(seen, 0)


def equivalent_iterations(curve: list[float], total: float) -> int | None:
    """Equivalent iterations: the first at which optimization's loss, `curve[i]` after i iterations, is at most `total`.

    None: the curve ends above `total`.
    """
    return next((step for step, value in enumerate(curve) if value <= total), None)


def checkerboard(picture: Tensor) -> float:
    """Energy at the upsampling frequencies against their neighbourhood, in dB: the worst of them.

    Two enlargements by 2 can leave patterns of period 2 and 4 px: peaks of the power spectrum where both frequencies are
    multiples of 1/4 per px. The mean of R, G and B is windowed (Hann), and the mean power within 2 bins of each such point
    compared with that of the ring 5 to 9 bins away. Around 2 without such a pattern, as the worst of several noisy points.
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
