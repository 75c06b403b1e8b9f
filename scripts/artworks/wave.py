"""A woodblock sea: outlined crests with foam claws over rows of swell, in a few Prussian blues on warm paper.

Every wave is a family of curves between its back and its hollow, filled as alternating stripes and outlined, so that the
strokes follow the water. Foam is a crowd of discs drawn twice, wider in indigo and then in cream, which outlines their
union; a claw is such a crowd along a tightening hook.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from fastnst.data.brush import SUPERSAMPLING, grain, points, spline

INDIGO, PRUSSIAN, MID, PALE = (16, 27, 58), (25, 58, 112), (74, 122, 168), (158, 190, 204)
CREAM, OCHRE, HAZE, CLOUD = (243, 234, 210), (222, 198, 150), (196, 190, 172), (232, 216, 180)
BODY = (PRUSSIAN, MID, PRUSSIAN, PALE, INDIGO, MID, PRUSSIAN, CREAM)  # stripes, from the back of a wave to its hollow


def draw(seed: int = 0, width: int = 1152, height: int = 864) -> Image.Image:
    """The artwork as RGB, width x height px; another seed gives another sea."""
    rng = np.random.default_rng(seed)
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    image = sky(rng, size)
    pen = ImageDraw.Draw(image)
    w, h = size
    unit = h / 1728  # px of a line that is 1 px wide in the drawing's own measure
    swell(pen, rng, w, 0.30 * h, 0.055 * h, 0.22 * w, unit)
    crest(pen, rng, np.array([0.86 * w, 0.42 * h]), 0.30 * h, -1, unit)
    swell(pen, rng, w, 0.47 * h, 0.06 * h, 0.26 * w, unit)
    crest(pen, rng, np.array([0.30 * w, 0.50 * h]), 0.52 * h, 1, unit)
    for row in range(4):
        swell(pen, rng, w, (0.66 + 0.10 * row) * h, (0.05 + 0.012 * row) * h, (0.20 + 0.03 * row) * w, unit)
        if row == 1:
            crest(pen, rng, np.array([0.83 * w, 0.80 * h]), 0.26 * h, -1, unit)
    return grain(rng, image.resize((width, height), Image.Resampling.LANCZOS))


def sky(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Ochre paper that darkens upwards, with long flat clouds and the grain of the block."""
    w, h = size
    image = Image.new("RGB", size, OCHRE)
    pen = ImageDraw.Draw(image)
    x = np.linspace(0, w, 80)
    for i in range(26):
        y = h * (0.008 + 0.021 * i) + 0.008 * h * np.sin(x / w * rng.uniform(3, 9) + rng.uniform(0, 6))
        thickness = h * rng.uniform(0.004, 0.013)
        color = (HAZE, CLOUD, MID, PALE, CREAM)[rng.choice(5, p=(0.3, 0.25, 0.1, 0.2, 0.15))]
        band = thickness * (0.6 + 0.4 * np.sin(x / w * rng.uniform(5, 14) + rng.uniform(0, 6)))
        pen.polygon(points(np.r_[x, x[::-1]], np.r_[y - band, (y + band)[::-1]]), fill=color)
    return image


def crest(pen, rng: np.random.Generator, at: np.ndarray, size: float, facing: int, unit: float) -> None:
    """A breaking wave about `at` (px), `size` px high, that curls to the right (facing=1) or to the left (-1)."""
    scale = np.array([facing * size, size])
    jitter = rng.normal(0, 0.025, (8, 2))
    back = spline(np.array([(-2.1, 1.3), (-1.3, 0.75), (-0.75, 0.1), (-0.2, -0.52), (0.35, -0.72), (0.8, -0.5),
                            (0.95, -0.14), (0.86, 0.06)]) + jitter) * scale + at  # fmt: skip
    hollow = hollow_curve(jitter) * scale + at
    bands = 26
    shares = np.linspace(0, 1, bands + 1) ** 1.15
    edges = [(1 - t) * back + t * hollow + wobble(rng, len(back), 0.006 * size) for t in shares]
    for i in range(bands):
        outline = np.concatenate([edges[i], edges[i + 1][::-1]])
        pen.polygon(points(*outline.T), fill=BODY[i % len(BODY)])
    for edge in edges:
        pen.line(points(*edge.T), fill=INDIGO, width=round(3.5 * unit), joint="curve")
    along = len(back)
    foam = [(back[int(along * s)] + rng.normal(0, 0.02, 2) * size, size * rng.uniform(0.02, 0.05))
            for s in rng.uniform(0.36, 0.99, 90)]  # fmt: skip
    foam += [(hollow[int(along * s)] + rng.normal(0, 0.012, 2) * size, size * rng.uniform(0.015, 0.04))
             for s in rng.uniform(0.62, 0.99, 40)]  # fmt: skip
    discs(pen, foam, 4 * unit)
    for s in np.linspace(0.42, 0.995, 30):
        start, before = back[int(along * s)], back[int(along * s) - 6]
        heading = math.atan2(*(start - before)[::-1]) + facing * rng.uniform(-0.5, 0.1)
        claw(pen, rng, start, heading, size * rng.uniform(0.13, 0.24), facing, unit)
    for s in np.linspace(0.66, 0.99, 14):
        claw(pen, rng, hollow[int(along * s)], math.pi / 2 + facing * rng.uniform(-0.6, 0.2),
             size * rng.uniform(0.10, 0.18), facing, unit)  # fmt: skip
    spray(pen, rng, at + scale * [0.75, -0.35], 0.75 * size, 170, unit)


def hollow_curve(jitter: np.ndarray) -> np.ndarray:
    """The inner edge of a crest, in its own measure: from the trough up under the lip to the tip that the back ends in."""
    knots = [
        (1.5, 1.3),
        (0.75, 0.95),
        (0.22, 0.62),
        (0.02, 0.22),
        (0.12, -0.12),
        (0.42, -0.3),
        (0.68, -0.18),
        (0.86, 0.06),
    ]
    return spline(np.array(knots) + jitter)


def swell(pen, rng: np.random.Generator, w: float, y: float, height: float, length: float, unit: float) -> None:
    """A row of pointed waves across the picture at `y` px, `height` px high and `length` px long, striped below."""
    t = np.linspace(-0.1, 1.1, 900) * w
    phase = t / length * 2 * math.pi + rng.uniform(0, 6) + 0.8 * np.sin(t / length * 1.7 + rng.uniform(0, 6))
    # A trochoid leans its crests into points; the slower sine makes some of them higher.
    lift = (np.abs(np.cos(phase / 2)) ** 0.7 - 0.4) * (1 + 0.45 * np.sin(t / length * 2.3 + rng.uniform(0, 6)))
    x = t + 0.35 * height * np.sin(phase)
    top = y - height * 1.5 * (1 - lift)
    bands, step = 13, height * 0.3
    fade = np.linspace(1, 0.35, bands)
    offset = rng.integers(len(BODY))
    for i in range(bands):
        line = y + (top - y) * fade[i] + i * step + wobble(rng, len(x), 0.05 * step)[:, 0]
        floor = np.full_like(line, y + 8 * height)
        color = CREAM if i == 0 else BODY[(i + offset) % len(BODY)]
        pen.polygon(points(np.r_[x, x[::-1]], np.r_[line, floor]), fill=color)
        pen.line(points(x, line), fill=INDIGO, width=round((5 if i == 0 else 3) * unit), joint="curve")
    peaks = [i for i in range(2, len(top) - 2) if top[i] < top[i - 1] and top[i] <= top[i + 1]]
    foam = []
    for peak in peaks:
        for _ in range(16):
            i = int(np.clip(peak + rng.normal(0, 26), 0, len(x) - 1))
            foam.append((np.array([x[i], top[i] + rng.uniform(0, 0.2) * height]), height * rng.uniform(0.08, 0.2)))
    discs(pen, foam, 4 * unit)
    for peak in peaks:
        for i in np.clip(peak + np.arange(-36, 40, 12), 0, len(x) - 1):
            facing = 1 if i >= peak else -1
            claw(pen, rng, np.array([x[i], top[i]]), -math.pi / 2 + facing * rng.uniform(0.2, 0.8),
                 height * rng.uniform(0.6, 1.1), facing, unit)  # fmt: skip
        spray(pen, rng, np.array([x[peak], top[peak] - 0.5 * height]), 1.6 * height, 24, unit)


def claw(pen, rng: np.random.Generator, start, heading: float, length: float, facing: int, unit: float) -> None:
    """A foam finger of `length` px that sets out at `heading` (radians, y down) and hooks over, with smaller ones on it."""
    crowd = []

    def finger(at: np.ndarray, angle: float, reach: float, depth: int) -> None:
        steps, bend = 18, facing * rng.uniform(1.6, 2.6)
        for i in range(steps):
            part = i / steps
            crowd.append((at.copy(), max(1.5 * unit, 0.15 * reach * (1 - part) ** 0.8)))
            at = at + reach / steps * np.array([math.cos(angle), math.sin(angle)])
            angle += bend * (0.4 + 1.2 * part) / steps
            if depth and i in (5, 9, 13):
                finger(at.copy(), angle - facing * rng.uniform(0.6, 1.1), reach * rng.uniform(0.4, 0.55), depth - 1)

    finger(np.asarray(start, float), heading, length, 1)
    discs(pen, crowd, 3.5 * unit)


def discs(pen, crowd: list, line: float) -> None:
    """Cream discs [(centre, radius)], their union outlined in indigo `line` px wide."""
    for color, extra in ((INDIGO, line), (CREAM, 0)):
        for (x, y), radius in crowd:
            r = radius + extra
            pen.ellipse((x - r, y - r, x + r, y + r), fill=color)


def spray(pen, rng: np.random.Generator, at: np.ndarray, reach: float, count: int, unit: float) -> None:
    """Drops strewn about `at`, most of them within `reach` px."""
    for x, y in at + rng.normal(0, 0.42 * reach, (count, 2)):
        r = unit * rng.choice((3, 4, 6, 9), p=(0.4, 0.3, 0.2, 0.1))
        pen.ellipse((x - r - 2 * unit, y - r - 2 * unit, x + r + 2 * unit, y + r + 2 * unit), fill=INDIGO)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=CREAM)


def wobble(rng: np.random.Generator, count: int, size: float) -> np.ndarray:
    """The cutter's hand: a slow wander of `size` px, (count, 2)."""
    knots = rng.normal(0, size, (12, 2))
    return np.stack([np.interp(np.linspace(0, 11, count), np.arange(12), knots[:, i]) for i in (0, 1)], axis=1)
