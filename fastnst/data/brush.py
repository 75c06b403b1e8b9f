"""Shared by the artworks and the synthetic paintings: curves, smooth noise, the paper's grain, mixtures of a palette."""

import numpy as np
from PIL import Image, ImageFilter

SUPERSAMPLING = 2  # drawn at twice the size and reduced, which smooths Pillow's hard edges


def spline(knots: np.ndarray, samples: int = 40) -> np.ndarray:
    """A Catmull-Rom curve through `knots` (K, 2): ((K - 1) * samples, 2)."""
    p = np.concatenate([knots[:1] * 2 - knots[1:2], knots, knots[-1:] * 2 - knots[-2:-1]])
    t = np.linspace(0, 1, samples, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate(pieces)


def points(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Pillow's list of points."""
    return list(zip(x.tolist(), y.tolist(), strict=True))


def fractal(rng: np.random.Generator, width: int, height: int, cells: int, octaves: int = 4) -> np.ndarray:
    """Smooth noise (height, width), mean 0, about 1 strong: `cells` blobs across, and finer ones half as strong each."""
    noise = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        across = cells * 2**octave
        down = max(2, round(across * height / width))
        coarse = Image.fromarray(rng.normal(0, 1, (down, across)).astype(np.float32))
        noise += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 2**octave
    return noise


def grain(rng: np.random.Generator, image: Image.Image, streaks: float = 7, tooth: float = 8) -> Image.Image:
    """Long horizontal streaks and a fine tooth, so many levels of brightness strong."""
    w, h = image.size
    long = Image.fromarray(rng.integers(0, 256, (h, w // 48), dtype=np.uint8)).resize((w, h), Image.Resampling.BICUBIC)
    fine = Image.fromarray(rng.integers(0, 256, (h, w), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    shade = (np.asarray(long, float) - 128) / 128 * streaks + (np.asarray(fine, float) - 128) / 128 * tooth
    return Image.fromarray((np.asarray(image, float) + shade[..., None]).clip(0, 255).astype(np.uint8))


def mix(palette: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Colours between the rows of `palette` (P, 3) at `level`, from 0 to P - 1: the shape of `level` and 3."""
    level = level.clip(0, len(palette) - 1.001)
    low, part = level.astype(int), (level % 1)[..., None]
    return palette[low] * (1 - part) + palette[low + 1] * part
