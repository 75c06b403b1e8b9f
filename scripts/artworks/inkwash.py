"""Ink on warm paper: mountains in wet washes, dry-brush slopes, a pine and bamboo in black, splatter and a vermilion seal.

Washes and strokes are layers of ink density that add up as glazes do: the paper's light falls off exponentially with the
ink on it. A wash is darkest at its ridge and its drying edges; a dry brush is a bundle of bristles that lift off the paper.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fastnst.data.brush import SUPERSAMPLING, fractal, grain, points, spline

PAPER, INK, SEAL = np.array((240, 228, 202.0)), np.array((24, 24, 30.0)), (196, 52, 36)


def draw(seed: int = 0, width: int = 1152, height: int = 864) -> Image.Image:
    """The artwork as RGB, width x height px; another seed gives another landscape."""
    rng = np.random.default_rng(seed)
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    density = 0.10 + 0.05 * fractal(rng, w, h, 4).clip(-1.5, 2)
    for layer in range(5):
        density = density + mountain(rng, w, h, 0.10 + 0.155 * layer, 0.16 + 0.02 * layer, 0.35 + 0.22 * layer)
    strokes = Image.new("L", (w, h), 0)
    pen = ImageDraw.Draw(strokes)
    pine(pen, rng, w, h)
    bamboo(pen, rng, w, h)
    splatter(pen, rng, w, h)
    bleeding = strokes.filter(ImageFilter.GaussianBlur(h / 600))
    speckle = 1 + 0.18 * fractal(rng, w, h, 160, 2).clip(-2, 2)
    density = density + 3.2 * np.asarray(bleeding, np.float32) / 255 * speckle
    light = np.exp(-density.clip(0, None))[..., None]
    image = Image.fromarray((INK + (PAPER - INK) * light).clip(0, 255).astype(np.uint8))
    seal(ImageDraw.Draw(image), 0.905 * w, 0.075 * h, 0.035 * h)
    return grain(rng, image.resize((width, height), Image.Resampling.LANCZOS), streaks=4, tooth=9)


def mountain(rng: np.random.Generator, w: int, h: int, top: float, height: float, ink: float) -> np.ndarray:
    """Ink density (h, w) of one range: a wash below its ridge, fading into mist, and dry strokes down its slopes."""
    x = np.linspace(0, 1, w)
    ridge = sum((np.abs(np.sin(x * f * rng.uniform(0.8, 1.2) + rng.uniform(0, 6))) / f**0.8 for f in (4, 9, 21, 47)), 0 * x)
    ridge = h * (top + height * (1.6 - ridge / ridge.max() * 1.6))
    below = (np.arange(h)[:, None] - ridge[None, :]) / h
    wet = 1 + 0.35 * fractal(rng, w, h, 10)
    wash = ink * wet * np.exp(-(below.clip(0, None)) / 0.11) + 0.7 * ink * np.exp(-(below.clip(0, None)) / 0.006)
    layer = np.where(below > 0, wash, 0)
    dry = Image.new("L", (w, h), 0)
    pen = ImageDraw.Draw(dry)
    for _ in range(170):
        i = int(rng.integers(20, w - 20))
        y = ridge[i] + abs(rng.normal(0, 0.06)) * h
        slope = math.atan2(ridge[i + 15] - ridge[i - 15], 30)
        angle = (math.pi / 2 + 0.5 * slope) + rng.normal(0, 0.35)
        brush(pen, rng, i, y, angle, h * rng.uniform(0.03, 0.10), h * rng.uniform(0.004, 0.014), 0.5 * rng.normal())
    return layer + 1.5 * ink * np.asarray(dry, np.float32) / 255


def brush(pen, rng, x: float, y: float, angle: float, length: float, thickness: float, bend: float) -> None:
    """A dry stroke from x, y px: bristles side by side that leave the paper one by one."""
    steps = np.linspace(0, 1, 12)
    headings = angle + bend * steps
    path = np.stack([x + np.cumsum(np.cos(headings)) * length / 12, y + np.cumsum(np.sin(headings)) * length / 12])
    normal = np.array([-math.sin(angle), math.cos(angle)])[:, None]
    bristles = max(3, round(thickness / 3))
    for offset in np.linspace(-0.5, 0.5, bristles):
        first, last = sorted(rng.integers(0, 12, 2))
        if rng.uniform() < 0.6:
            first, last = 0, int(rng.integers(6, 12))
        if last - first > 1:
            line = (path + normal * offset * thickness)[:, first : last + 1]
            pen.line(points(*line), fill=int(rng.uniform(110, 255)), width=max(2, round(thickness / bristles * 0.8)))


def taper(pen, knots, thick: float, thin: float, ink: int = 255) -> np.ndarray:
    """A wet stroke through `knots` (K, 2), from `thick` to `thin` px. Returns its curve."""
    curve = spline(np.array(knots, float), 40)
    for i, (x, y) in enumerate(curve):
        r = (thick + (thin - thick) * i / len(curve)) / 2 * (1 + 0.12 * math.sin(i * 0.23))
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    return curve


def pine(pen, rng: np.random.Generator, w: int, h: int) -> None:
    """A trunk from the lower left that leans in, with boughs and fans of needles."""
    trunk = taper(pen, [(-0.03 * w, 1.02 * h), (0.08 * w, 0.80 * h), (0.06 * w, 0.62 * h), (0.17 * w, 0.44 * h),
                        (0.15 * w, 0.30 * h), (0.24 * w, 0.18 * h)], 0.075 * h, 0.018 * h)  # fmt: skip
    for part, reach, lift in (
        (0.35, 0.22, -0.02),
        (0.52, 0.34, -0.05),
        (0.66, -0.16, -0.07),
        (0.78, 0.27, 0.03),
        (0.97, 0.2, -0.06),
    ):
        x, y = trunk[int(part * (len(trunk) - 1))]
        ends = [
            (x, y),
            (x + 0.4 * reach * w, y + lift * h),
            (x + 0.7 * reach * w, y + 0.2 * lift * h),
            (x + reach * w, y + lift * h),
        ]
        bough = taper(pen, ends, 0.022 * h, 0.006 * h)
        for px, py in bough[12::7]:
            centre = np.array([px, py]) + rng.normal(0, 0.012 * h, 2)
            for angle in np.linspace(-math.pi * 1.05, 0.05 * math.pi, 22) + rng.normal(0, 0.06, 22):
                tip = centre + 0.05 * h * rng.uniform(0.7, 1.15) * np.array([math.cos(angle), math.sin(angle)])
                pen.line([*centre, *tip], fill=int(rng.uniform(130, 255)), width=round(0.0022 * h))


def bamboo(pen, rng: np.random.Generator, w: int, h: int) -> None:
    """Jointed canes at the right with blades that hang from them."""
    for base, lean, thick in ((0.80, 0.05, 0.024), (0.90, -0.03, 0.030), (0.70, 0.03, 0.014)):
        joints = np.linspace(1.02, 0.16, 8) * h
        for low, high in zip(joints, joints[1:], strict=False):
            ends = [((base + lean * (1 - y / h)) * w, y) for y in (low - 0.006 * h, high + 0.006 * h)]
            pen.line([*ends[0], *ends[1]], fill=int(rng.uniform(150, 230)), width=round(thick * h))
            pen.line(
                [ends[1][0] - 0.6 * thick * h, ends[1][1], ends[1][0] + 0.6 * thick * h, ends[1][1]],
                fill=255,
                width=round(0.006 * h),
            )
            for _ in range(5):
                blade(pen, rng, *ends[1], h)


def blade(pen, rng: np.random.Generator, x: float, y: float, h: int) -> None:
    """A leaf: a stroke that swells and runs out in a point."""
    angle = rng.choice((0.25, 2.6)) + rng.normal(0, 0.45)
    length, thick = h * rng.uniform(0.07, 0.15), h * rng.uniform(0.009, 0.016)
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    t = np.linspace(0, 1, 16)[:, None]
    middle = [x, y] + along * t * length + across * 0.12 * length * t**2
    swell = thick * np.sin(math.pi * t**0.6) ** 1.2
    outline = np.concatenate([middle + across * swell, (middle - across * swell)[::-1]])
    pen.polygon(points(*outline.T), fill=int(rng.uniform(150, 255)))


def splatter(pen, rng: np.random.Generator, w: int, h: int) -> None:
    """Drops, many small and few large."""
    for _ in range(260):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), h * 0.0012 * rng.pareto(1.6)
        r = min(r, 0.008 * h)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=int(rng.uniform(90, 255)))


def seal(pen, x: float, y: float, half: float) -> None:
    """A vermilion square of 2 * half px with strokes left blank in it."""
    pen.rectangle((x - half, y - half, x + half, y + half), fill=SEAL)
    blank, line = tuple(PAPER.astype(int)), round(half * 0.14)
    for part in (-0.55, 0.0, 0.55):
        pen.line((x - 0.65 * half, y + part * half, x + 0.65 * half, y + part * half), fill=blank, width=line)
    pen.line((x, y - 0.75 * half, x, y + 0.75 * half), fill=blank, width=line)
