"""The terms of objectives (Johnson et al. 2016, section 3.2), each a formula.

Pictures are RGB in 0-1. Each loss is a mean over the batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FAINT = 5.0  # units of Lab: a flat area of a photograph differs no more


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Squared distance of features, ||phi(y) - phi(x)||^2 / (C H W), mean over N (section 3.2, feature reconstruction loss).

    features, target: (N, C, H, W). Returns a scalar.
    """
    return (_at_least_float32(features) - _at_least_float32(target)).square().mean()


def gram_matrix(features: Tensor) -> Tensor:
    """G = F F^T / (C H W), with F the features as a (C, H W) matrix (section 3.2, style reconstruction loss).

    features: (N, C, H, W). Returns (N, C, C), float32 or wider also under autocast: sums of H W products of large numbers
    leave half precision's range.
    """
    n, c, h, w = features.shape
    return _Gram.apply(features.permute(0, 2, 3, 1).reshape(n, h * w, c)) / (c * h * w)


class _Gram(torch.autograd.Function):
    """X^T X of (N, positions, C), whose gradient is X (g + g^T): one product, where autograd would take two and add them."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        with torch.autocast(x.device.type, enabled=False):
            x = _at_least_float32(x)
            return x.transpose(1, 2) @ x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # The gradient is rounded to x's type in any case. bfloat16 holds whatever float32 does; half precision does not.
        wide = x if x.dtype == torch.bfloat16 else _at_least_float32(x)
        with torch.autocast(x.device.type, enabled=False):
            return (wide @ (grad + grad.transpose(1, 2)).to(wide.dtype)).to(x.dtype)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def style_loss(gram: Tensor, target: Tensor) -> Tensor:
    """Squared Frobenius distance ||G(y) - G(s)||_F^2, mean over N (section 3.2, style reconstruction loss).

    gram: (N, C, C). target: (1, C, C) or (N, C, C). Returns a scalar.
    """
    return (gram - target).square().sum(dim=(1, 2)).mean()


def total_variation(images: Tensor) -> Tensor:
    """Squared differences of neighbouring pixels, sum / (C H W), mean over N (section 3.2, total variation regularization).

    images: (N, C, H, W). Returns a scalar.
    """
    down = (images[..., 1:, :] - images[..., :-1, :]).square().sum()
    across = (images[..., 1:] - images[..., :-1]).square().sum()
    return (down + across) / images.numel()


def stability_loss(images: Tensor, others: Tensor) -> Tensor:
    """Mean squared difference of what should be the same picture, over 0.25^2, about a photograph's variance.

    images, others: the same shape, in 0-1. Returns a scalar.
    """
    return (images - others).square().mean() / 0.25**2


def reduced(images: Tensor, scale: int) -> Tensor:
    """Pictures, (N, 3, H, W), at 1 / scale of their size: means over scale x scale px."""
    return images if scale == 1 else F.avg_pool2d(images, scale)


def median_filtered(images: Tensor, size: int) -> Tensor:
    """Each pixel is the median of the size x size px about it, in each channel; the picture is reflected at its border.

    What is narrower than half of `size` goes, and edges stay sharp. images: (N, 3, H, W), each side more than size // 2 px.
    size: odd; 1 gives the pictures themselves. Returns the same shape.
    """
    if size == 1:
        return images
    n, c, h, w = images.shape
    framed = F.pad(images, [size // 2] * 4, mode="reflect")
    return F.unfold(framed, size).view(n, c, size * size, h, w).median(dim=2).values


def lab(images: Tensor) -> Tensor:
    """CIELab of sRGB pictures (white D65): L in 0-100, a and b about -100 to 100.

    images: (N, 3, H, W) in 0-1; values a little outside are continued, with a finite gradient. Returns float32 or wider.
    """
    images = _at_least_float32(images)
    linear = torch.where(images > 0.04045, ((images.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4, images / 12.92)
    to_xyz = torch.tensor(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    ).to(linear, non_blocking=True)  # a GPU is not waited for
    with torch.autocast(images.device.type, enabled=False):  # half precision would round L to steps of a half
        xyz = torch.einsum("ij,njhw->nihw", to_xyz / to_xyz.sum(1, keepdim=True), linear)
    cubic, edge = xyz.clamp_min(216 / 24389) ** (1 / 3), xyz * (24389 / 27 / 116) + 16 / 116
    x, y, z = torch.where(xyz > 216 / 24389, cubic, edge).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def coarse_colors(images: Tensor, scale: int = 16) -> Tensor:
    """CIELab, (N, 3, H / scale, W / scale), of pictures reduced so far. images: (N, 3, H, W) in 0-1."""
    return lab(F.avg_pool2d(_at_least_float32(images), min(scale, *images.shape[-2:])))


def rising(y: Tensor, x: Tensor) -> Tensor:
    """What a linear regression on x, whose slope is not negative, explains of y: both (N, 1, M), of mean 0, in units of Lab.

    Differences below FAINT explain little.
    """
    slope = (x * y).mean(dim=2, keepdim=True) / (x.square().mean(dim=2, keepdim=True) + FAINT**2)
    return slope.clamp_min(0) * x


def tone_loss(colors: Tensor, photograph: Tensor) -> Tensor:
    """The variance of a picture's colours that the photograph's do not explain, the sum of L, a and b, mean over N.

    That of what linear regressions on the photograph leave. L depends on the photograph's L alone, and never falls with it:
    dark stays dark, at the painting's contrast. a and b may depend on all three: one hue becomes another, but what has one
    hue is not to have several. Differences of the photograph below FAINT explain little: a flat area is to stay flat.
    colors, photograph: (N, 3, H, W), in units of Lab. Returns a scalar.
    """
    y, x = (values.flatten(2) - values.flatten(2).mean(dim=2, keepdim=True) for values in (colors, photograph))
    with torch.autocast(x.device.type, enabled=False):
        spread = x @ x.transpose(1, 2) / x.shape[2] + FAINT**2 * torch.eye(3, device=x.device, dtype=x.dtype)
        hues = torch.linalg.solve(spread, y[:, 1:] @ x.transpose(1, 2) / x.shape[2], left=False)
        explained = torch.cat([rising(y[:, :1], x[:, :1]), hues @ x], dim=1)
    return (y - explained).square().sum(1).mean()


def color_quantiles(images: Tensor, directions: int = 32, quantiles: int = 128) -> Tensor:
    """The distribution of a picture's colours: quantiles along `directions` in CIELab.

    The mean squared difference of two pictures' quantiles is their squared sliced Wasserstein distance (Bonneel et al.
    2015). images: (N, 3, H, W) in 0-1. They are reduced fourfold first, so that areas count and speckle does not.
    Returns (N, directions, quantiles), in units of Lab.
    """
    scale = min(4, *images.shape[-2:])
    colors = lab(F.avg_pool2d(_at_least_float32(images), scale)).flatten(2)
    # Points of a Fibonacci spiral: evenly spread over half the sphere, the same in every run.
    height = (torch.arange(directions, device=colors.device) + 0.5) / directions
    angle = torch.arange(directions, device=colors.device) * (math.pi * (3 - 5**0.5))
    radius = (1 - height.square()).sqrt()
    unit = torch.stack([height, radius * angle.cos(), radius * angle.sin()], dim=1).to(colors.dtype)
    return F.adaptive_avg_pool1d((unit @ colors).sort(dim=2).values, quantiles)


def reference_picture(size: int = 256) -> Tensor:
    """A picture with the average statistics of photographs: (1, 3, size, size) in 0-1.

    Noise whose amplitude falls as 1 / frequency (Field 1987), the same in each channel, mean 0.45 and standard deviation
    0.25, about those of photographs. Always the same picture.
    """
    frequency = torch.fft.fftfreq(size).square()
    frequency = (frequency[:, None] + frequency[None, :]).sqrt()
    spectrum = torch.fft.fft2(torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    noise = torch.fft.ifft2(spectrum / frequency.clamp_min(1 / size)).real
    noise = (noise - noise.mean()) / noise.std()
    return (0.45 + 0.25 * noise).clamp(0, 1).float().expand(1, 3, size, size).contiguous()


def isotropic_total_variation(images: Tensor) -> Tensor:
    """Lengths of the gradients, sum of sqrt(dx^2 + dy^2) / (C H W), mean over N (Rudin, Osher and Fatemi 1992).

    images: (N, C, H, W). Returns a scalar. Gradients reach to the next pixel and are 0 at the last row and column; 1e-12
    under the root keeps its derivative finite where there is none.
    """
    dx, dy = torch.zeros_like(images), torch.zeros_like(images)
    dx[..., :, :-1] = images[..., 1:] - images[..., :-1]
    dy[..., :-1, :] = images[..., 1:, :] - images[..., :-1, :]
    return (dx.square() + dy.square() + 1e-12).sqrt().mean()
