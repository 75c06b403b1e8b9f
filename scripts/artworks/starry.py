"""A night of swirling strokes: stars ringed in yellow over a sky of blue streams, dark hills and cypresses below.

A field of directions (vortices in a stream, rings about the stars, slopes below) is followed by thousands of short strokes,
laid from coarse to fine, each with lighter and darker bristles along it; what colour a stroke has, its middle decides.
"""

import numpy as np
from PIL import Image, ImageDraw

from artworks.brush import SUPERSAMPLING, fractal, grain, points

BLUES = np.array([(14, 20, 52), (24, 42, 110), (38, 74, 158), (70, 118, 190), (132, 176, 212), (196, 214, 214)], float)
STAR = np.array([(255, 250, 222), (252, 222, 92), (240, 178, 40), (216, 190, 92), (150, 178, 150), (96, 146, 190)], float)
EARTH = np.array([(10, 14, 28), (18, 32, 52), (30, 62, 66), (52, 92, 72), (104, 112, 60)], float)
CYPRESS = np.array([(6, 12, 14), (16, 34, 26), (34, 60, 36), (66, 72, 34)], float)


class Scene:
    """Where things are, in px: stars (S, 3) as x, y and radius, vortices (V, 4) with a sense of turning, and the ground."""

    def __init__(self, rng: np.random.Generator, w: int, h: int):
        self.w, self.h = w, h
        spots = [(0.84, 0.17, 0.135), (0.13, 0.14, 0.075), (0.36, 0.10, 0.06), (0.60, 0.12, 0.055), (0.22, 0.42, 0.065),
                 (0.52, 0.52, 0.05), (0.94, 0.50, 0.06), (0.70, 0.40, 0.045)]  # fmt: skip
        self.stars = (np.array(spots) + rng.normal(0, 0.012, (8, 3)) * [1, 1, 0.2]) * [w, h, h]
        turns = [(0.42, 0.33, 0.24, 1), (0.62, 0.30, 0.15, -1), (0.12, 0.62, 0.16, -1), (0.82, 0.60, 0.17, 1)]
        self.vortices = np.array(turns) * [w, h, h, 1]
        x = np.arange(w)
        wave = sum(np.sin(x / w * f + rng.uniform(0, 6)) / f for f in (3.0, 7.0, 13.0))
        self.ridge = h * (0.74 + 0.10 * wave)
        self.trees = [(0.09 * w, 0.30 * h, 0.085 * w), (0.19 * w, 0.56 * h, 0.05 * w), (0.97 * w, 0.55 * h, 0.06 * w)]
        self.tone = fractal(rng, w // 8, h // 8, 5)

    def tree(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How far inside a cypress: above 0 within."""
        inside = np.full(x.shape, -1.0)
        for centre, top, half in self.trees:
            down = ((y - top) / (self.h - top)).clip(0, 1)
            body = half * np.sqrt(down) * (1.1 - 0.35 * down) * (1 + 0.25 * np.sin(y / self.h * 60))
            sway = centre + 0.25 * half * np.sin(y / self.h * 14)
            inside = np.maximum(inside, np.where(y > top, 1 - np.abs(x - sway) / (body + 1), -1))
        return inside

    def direction(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Angle of the strokes in radians."""
        u = np.ones_like(x)
        v = 0.55 * np.cos(x / self.w * 9) * np.sin(y / self.h * 5 + 1)
        for cx, cy, r, sense in self.vortices:
            near = 5 * np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / r**2))
            # A little inwards, so that the strokes spiral.
            u += near * (-sense * (y - cy) - 0.25 * (x - cx)) / r
            v += near * (sense * (x - cx) - 0.25 * (y - cy)) / r
        for cx, cy, r in self.stars:
            near = 14 * np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / (1.2 * r) ** 2))
            u, v = u - near * (y - cy) / r, v + near * (x - cx) / r
        angle = np.arctan2(v, u)
        column = x.clip(0, self.w - 2).astype(int)
        slope = np.arctan2(self.ridge[column + 1] - self.ridge[column], 1)
        ground = y > self.ridge[column]
        angle = np.where(ground, slope * 2 + 0.5 * np.sin(y / self.h * 40), angle)
        return np.where(self.tree(x, y) > 0, -np.pi / 2 + 0.5 * np.sin(y / self.h * 30 + x / self.w * 40), angle)

    def colors(self, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Colour of the strokes whose middles are here, (N, 3)."""
        tone = self.tone[(y // 8).clip(0, self.h // 8 - 1).astype(int), (x // 8).clip(0, self.w // 8 - 1).astype(int)]
        swirl = np.zeros_like(x)
        for cx, cy, r, _ in self.vortices:
            d = np.hypot(x - cx, y - cy) / r
            swirl += np.exp(-(d**2)) * np.cos(d * 14)
        level = 2.0 + 0.9 * tone + 1.8 * swirl + rng.normal(0, 0.75, len(x))
        color = mix(BLUES, level)
        for cx, cy, r in self.stars:
            d = np.hypot(x - cx, y - cy) / r
            ring = mix(STAR, d * 3.1 + 0.5 * np.sin(d * 16) + rng.normal(0, 0.35, len(x)))
            share = (d < 1.0 + rng.uniform(0, 0.55, len(x)))[:, None]
            color = np.where(share, ring, color)
        column = x.clip(0, self.w - 1).astype(int)
        depth = (y - self.ridge[column]) / self.h
        earth = mix(EARTH, 1.6 + 1.5 * np.sin(depth * 55 + tone) + rng.normal(0, 0.7, len(x)))
        color = np.where((depth > 0)[:, None], earth, color)
        tree = self.tree(x, y)
        return np.where((tree > 0)[:, None], mix(CYPRESS, 1.1 + rng.normal(0, 0.8, len(x))), color)


def draw(seed: int = 0, width: int = 1152, height: int = 864) -> Image.Image:
    """The artwork as RGB, width x height px; another seed gives another night."""
    rng = np.random.default_rng(seed)
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    scene = Scene(rng, w, h)
    image = Image.new("RGB", (w, h), (20, 34, 84))
    pen = ImageDraw.Draw(image)
    for count, length, thickness in ((3500, 0.10, 0.022), (6000, 0.065, 0.013), (7500, 0.042, 0.0075)):
        strokes(pen, rng, scene, count, length * h, thickness * h)
    return grain(rng, image.resize((width, height), Image.Resampling.LANCZOS), streaks=0, tooth=7)


def strokes(pen, rng: np.random.Generator, scene: Scene, count: int, length: float, thickness: float) -> None:
    """Lays `count` strokes along the field, about `length` px long and `thickness` px wide."""
    x, y = rng.uniform(0, scene.w, count), rng.uniform(0, scene.h, count)
    color = scene.colors(rng, x, y)
    reach = length * rng.uniform(0.6, 1.3, count)
    width = thickness * rng.uniform(0.6, 1.3, count)
    steps = 9
    path = np.empty((steps, 2, count))
    for sense, turn in ((-1, range(steps // 2, -1, -1)), (1, range(steps // 2, steps))):
        px, py = x.copy(), y.copy()
        for i in turn:
            path[i] = px, py
            angle = scene.direction(px, py)
            px, py = px + sense * np.cos(angle) * reach / steps, py + sense * np.sin(angle) * reach / steps
    for i in range(count):
        line = path[:, :, i]
        across = np.gradient(line, axis=0)[:, ::-1] * [1, -1]
        across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
        # Bristles: a dark edge, the body, and light ridges, each its own line beside the last.
        for offset, share, light in (
            (0.42, 0.4, 0.62),
            (0, 0.9, 1.0),
            (-0.2, 0.22, 1.22),
            (0.16, 0.14, 0.82),
            (-0.4, 0.14, 1.4),
        ):
            shade = tuple((color[i] * light + (8 if light > 1 else 0)).clip(0, 255).astype(int))
            shifted = line + across * offset * width[i]
            pen.line(points(*shifted.T), fill=shade, width=max(1, round(share * width[i])), joint="curve")


def mix(palette: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Colours between the rows of `palette` (P, 3) at `level` in 0..P-1, (N, 3)."""
    level = level.clip(0, len(palette) - 1.001)
    low, part = level.astype(int), (level % 1)[:, None]
    return palette[low] * (1 - part) + palette[low + 1] * part
