"""Linear maps that give results the painting's lightness, or all of its colours. A net's last convolution takes them up.

They act before `TransformNet.output`. Each is a matrix, (3, 3), and a shift, (3,), in float64.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.brushwork import LUMINANCE

MOST_STRETCH = 2.5  # how much the painting's colours may stretch or shrink the predicted ones
MOST_LIGHT = 1.5  # how much the painting's lightness may stretch that of results
SIDE = 256  # px of the reference picture, and of a painting's short side, at which lightness is measured
SWEEPS = 3  # of `eigh`: an exported file has some hundred nodes for each
Moments = tuple[Tensor, Tensor]


def moments(pictures: Tensor) -> Moments:
    """Mean, (3,), and covariance, (3, 3), of the colours of areas of 4 x 4 px, in float64. pictures: (1, 3, H, W)."""
    colors = F.avg_pool2d(pictures, 4)[0].flatten(1).double()
    mean = colors.mean(1)
    centred = colors - mean[:, None]
    return mean, centred @ centred.T / colors.shape[1]


def coarse(painting: Tensor) -> Tensor:
    """A painting, (1, 3, H, W), with a short side of at most SIDE px: the reference picture has no finer detail."""
    scale = SIDE / min(painting.shape[-2:])
    size = [round(side * scale) for side in painting.shape[-2:]]
    return F.interpolate(painting, size, mode="area") if scale < 1 else painting


def transport(found: Moments, wanted: Moments) -> tuple[Tensor, Tensor]:
    """The map that gives colours of the moments `found` those `wanted`, and moves them least (Pitie and Kokaram 2007)."""
    covariance = found[1] + 1e-3 * _unit(found[1])
    root, inverse = _spectral(covariance, torch.sqrt, torch.rsqrt)
    (between,) = _spectral(root @ wanted[1] @ root, lambda x: x.clamp_min(0).sqrt())
    (linear,) = _spectral(inverse @ between @ inverse, lambda x: x.clamp(1 / MOST_STRETCH, MOST_STRETCH))
    return linear, wanted[0] - linear @ found[0]


def lighting(found: Moments, wanted: Moments) -> tuple[Tensor, Tensor]:
    """The map that gives colours the mean that is wanted, and stretches luminance to the standard deviation that is.

    It stretches by at most MOST_LIGHT, and never less than 1. Differences from grey keep their spread: stretched as well,
    they show as coloured fringes along edges.
    """
    weights = found[0].new_tensor(LUMINANCE)
    variance, aim = (weights @ covariance @ weights for _, covariance in (found, wanted))
    gain = (aim / variance.clamp_min(1e-12)).sqrt().clamp(1, MOST_LIGHT)
    linear = _unit(found[1]) + (gain - 1) * weights.expand(3, 3)
    return linear, wanted[0] - linear @ found[0]


def behind(weight: Tensor, bias: Tensor, linear: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The weight and bias of a last convolution, (3, C, K, K) and (3,), with a map of its colours behind it."""
    return (linear @ weight.flatten(1)).view_as(weight), linear @ bias + shift


def _spectral(matrix: Tensor, *functions: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """For each function the symmetric matrix, (3, 3), whose eigenvalues are the function's of the given one's."""
    values, axes = eigh(matrix)
    return [(axes * function(values)) @ axes.T for function in functions]


def _unit(matrix: Tensor) -> Tensor:
    """The unit matrix, (3, 3), made where the given one is: a GPU is not waited for."""
    return torch.eye(3, dtype=matrix.dtype, device=matrix.device)


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, (3,), in no order, and eigenvectors of a symmetric matrix, (3, 3), by Jacobi's rotations.

    ONNX has no operator for torch.linalg.eigh. Three sweeps give six digits.
    """
    axes = one = _unit(matrix)
    turns = {}  # in the plane of two axes: its unit matrix, and a quarter turn
    for p, q in ((0, 1), (0, 2), (1, 2)):
        x, y = one[p], one[q]
        turns[p, q] = torch.outer(x, x) + torch.outer(y, y), torch.outer(x, y) - torch.outer(y, x)
    for p, q in SWEEPS * [*turns]:
        plane, quarter = turns[p, q]
        difference, twice = matrix[q, q] - matrix[p, p], 2 * matrix[p, q]
        length = difference.abs() + (difference.square() + twice.square() + 1e-300).sqrt()
        tangent = torch.where(difference < 0, -twice, twice) / length
        cosine = 1 / (tangent.square() + 1).sqrt()
        rotation = one + (cosine - 1) * plane + tangent * cosine * quarter
        matrix, axes = rotation.T @ matrix @ rotation, axes @ rotation
    return matrix.diagonal(), axes
