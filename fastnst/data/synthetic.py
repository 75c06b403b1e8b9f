"""Synthetic paintings to train zero-shot nets on: `draw(seed)` draws another one for each seed.

A painting is a sketch (a colour and a direction at each place), drawn in one or two of the techniques below with random
sizes, densities and shapes. The result of the first technique is the sketch of the second.
"""

import colorsys
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from fastnst.data.brush import SUPERSAMPLING, fractal, grain, mix, points

Colors = np.ndarray  # (height, width, 3) float32 in 0-255


def draw(seed: int = 0, width: int = 448, height: int = 336, photograph: Image.Image | None = None) -> Image.Image:
    """One painting as RGB, width x height px. photograph: what to paint, in its colours; None: a random composition."""
    rng = np.random.default_rng(seed)
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    colors = palette(rng)
    canvas = compose(rng, colors, w, h) if photograph is None else after(photograph, rng, w, h)
    for technique in rng.choice(len(TECHNIQUES), rng.choice((1, 2, 2)), replace=False, p=SHARES):
        canvas = TECHNIQUES[technique](rng, canvas, colors)
    if rng.random() < 0.3:
        canvas = canvas * (1 + rng.uniform(0.03, 0.15) * fractal(rng, w, h, int(rng.integers(20, 120)), 3)[..., None])
    image = image_of(canvas).resize((width, height), Image.Resampling.LANCZOS)
    return grain(rng, image, rng.uniform(0, 10), rng.uniform(0, 18)) if rng.random() < 0.4 else image


def palette(rng: np.random.Generator) -> np.ndarray:
    """Four to seven colours, (P, 3) in 0-255, from dark to light: a few hues, sometimes one against the rest."""
    count, hue, spread = int(rng.integers(4, 8)), rng.random(), rng.choice((0.03, 0.12, 0.5))
    strong, low, high = rng.beta(2, 2), rng.uniform(0, 0.35), rng.uniform(0.7, 1)
    colors = []
    for value in np.linspace(low, high, count):
        turned = hue + 0.5 * (rng.random() < 0.2) + rng.normal(0, spread)
        colors.append(colorsys.hsv_to_rgb(turned % 1, min(1, strong * rng.uniform(0.4, 1.4)), value))
    return 255 * np.array(colors, np.float32)


def image_of(canvas: Colors) -> Image.Image:
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8))


def compose(rng: np.random.Generator, colors: np.ndarray, w: int, h: int) -> Colors:
    """Clouds or bands of colour, and figures on them: discs, polygons and spikes."""
    level = 0.5 + 0.22 * fractal(rng, w, h, int(rng.integers(2, 7)), int(rng.integers(1, 5)))
    if rng.random() < 0.5:
        level = (np.linspace(0, 1, h)[:, None] * rng.choice((-1, 1)) + level) % 1
    if rng.random() < 0.5:
        steps = rng.integers(3, 9)
        level = np.floor(level * steps) / steps
    image = image_of(mix(colors, level.clip(0, 1) * (len(colors) - 1.001)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.choice((0, 6, 14, 40)))):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), h * rng.uniform(0.03, 0.25)
        fill = tuple(colors[rng.integers(len(colors))].astype(int).tolist())
        outline = tuple(colors[0].astype(int).tolist()) if rng.random() < 0.5 else None
        figure = rng.integers(3)
        if figure == 0:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline, width=round(h * rng.uniform(0.002, 0.012)))
            continue
        corners = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 7))))
        reach = r * (1.5 if figure == 1 else np.array([0.12, 1])[np.arange(len(corners)) % 2] * 2)
        pen.polygon(points(x + reach * np.cos(corners), y + reach * np.sin(corners)), fill=fill, outline=outline)
    return np.asarray(image, np.float32)


def after(photograph: Image.Image, rng: np.random.Generator, w: int, h: int) -> Colors:
    """A photograph as the sketch: blurred, as a painter squints, and stronger in colour."""
    sketch = ImageOps.fit(photograph.convert("RGB"), (w, h))
    blurred = sketch.filter(ImageFilter.GaussianBlur(h * rng.uniform(0.002, 0.012)))
    canvas = np.asarray(blurred, np.float32)
    gray = canvas.mean(2, keepdims=True)
    return 128 + rng.uniform(1, 1.4) * (gray + rng.uniform(0.6, 2) * (canvas - gray) - 128)


def directions(rng: np.random.Generator, canvas: Colors) -> np.ndarray:
    """An angle at each place, (height, width): along the sketch's edges, in whirls, or nearly parallel."""
    h, w, _ = canvas.shape
    manner = rng.integers(3)
    if manner == 0:
        gray = image_of(canvas).convert("L").filter(ImageFilter.GaussianBlur(h / 80))
        down, across = np.gradient(np.asarray(gray, np.float32))
        return np.arctan2(across, -down) + 0.2 * fractal(rng, w, h, 5, 2)
    turning = fractal(rng, w, h, int(rng.integers(2, 6)), 2)
    return rng.uniform(0, math.pi) + (1.6 if manner == 1 else 0.25) * turning


def shaded(rng: np.random.Generator, color: np.ndarray) -> tuple[int, int, int]:
    """A colour as the brush takes it up: a little lighter or darker, and not quite the same."""
    return tuple((color * rng.normal(1, 0.1) + rng.normal(0, 8, 3)).clip(0, 255).astype(int).tolist())


def strokes(rng: np.random.Generator, canvas: Colors, colors: np.ndarray) -> Colors:
    """Brush strokes along `directions`, in two passes, bristle by bristle; the paint may stand out and catch the light."""
    h, w, _ = canvas.shape
    angle, image = directions(rng, canvas), image_of(canvas)
    pen = ImageDraw.Draw(image)
    relief = Image.new("L", (w, h), 128)
    edge = ImageDraw.Draw(relief)
    thick, long, bristles = h * rng.uniform(0.008, 0.03), rng.uniform(2, 8), int(rng.integers(1, 5))
    touches = rng.choice((0, 0.05))
    for size in (1.6, 1):
        for _ in range(int(1.3 * w * h / (size * thick) ** 2 / long)):
            at, bend = np.array([rng.uniform(0, w), rng.uniform(0, h)]), rng.normal(0, 0.04)
            place = int(at[1]), int(at[0])
            color = colors[rng.integers(len(colors))] if rng.random() < touches else canvas[place]
            turn = angle[place] + bend * np.arange(-3, 4)
            path = at + np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1), 0) * size * thick * long / 7
            normal = np.array([-math.sin(angle[place]), math.cos(angle[place])]) * size * thick
            for offset in (np.arange(bristles) + 0.5) / bristles - 0.5:
                line = points(*(path + offset * normal).T)
                across = max(2, round(size * thick / bristles))
                pen.line(line, fill=shaded(rng, color), width=across, joint="curve")
                edge.line(line, fill=int(rng.integers(60, 200)), width=across)
    if rng.random() < 0.5:
        return np.asarray(image, np.float32)
    height = np.asarray(relief.filter(ImageFilter.GaussianBlur(1.2)), np.float32)
    down, across = np.gradient(height)
    return np.asarray(image, np.float32) * (1 + 0.5 * ((down + across) / 40).clip(-1, 1)[..., None])


def dots(rng: np.random.Generator, canvas: Colors, colors: np.ndarray) -> Colors:
    """Points of nearly pure colour, as the pointillists set them."""
    h, w, _ = canvas.shape
    image = image_of(canvas if rng.random() < 0.5 else np.broadcast_to(colors[-1], canvas.shape))
    pen, r = ImageDraw.Draw(image), h * rng.uniform(0.004, 0.014)
    for _ in range(int(0.5 * w * h / r**2)):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        color = canvas[int(y), int(x)] + rng.normal(0, 30, 3)
        size = r * rng.uniform(0.6, 1.2)
        pen.ellipse((x - size, y - size, x + size, y + size), fill=shaded(rng, color))
    return np.asarray(image, np.float32)


def cells(rng: np.random.Generator, canvas: Colors, colors: np.ndarray) -> Colors:
    """Glass or stones: each place goes to the nearest of scattered points, with leading or grout between them."""
    h, w, _ = canvas.shape
    side, loose = h * rng.uniform(0.02, 0.10), rng.uniform(0.1, 0.5)
    rows, columns = math.ceil(h / side) + 2, math.ceil(w / side) + 2
    middle = np.stack([*np.mgrid[0:rows, 0:columns]], 2) + 0.5 + rng.uniform(-loose, loose, (rows, columns, 2)) - 1
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) / np.float32(side)
    row, column = y.astype(int) + 1, x.astype(int) + 1
    nearest, second = np.full((2, h, w), np.inf, np.float32)
    owner = np.zeros((h, w), int)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r, c = row + dy, column + dx
            distance = np.hypot(y - middle[r, c, 0], x - middle[r, c, 1]).astype(np.float32)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            owner, nearest = np.where(closer, r * columns + c, owner), np.where(closer, distance, nearest)
    at = (middle.reshape(-1, 2) * side).astype(int).clip(0, [h - 1, w - 1])
    tints = canvas[at[:, 0], at[:, 1]] * rng.normal(1, 0.12, (len(at), 1))
    gap = rng.uniform(0, 0.16)
    between = ((second - nearest) < gap)[..., None]
    return np.where(between, colors[rng.choice((0, -1))], tints[owner]).astype(np.float32)


def contours(rng: np.random.Generator, canvas: Colors, colors: np.ndarray) -> Colors:
    """Stripes between level lines, outlined, as in woodcuts and marbled paper; some keep the sketch's colour."""
    h, w, _ = canvas.shape
    level = fractal(rng, w, h, int(rng.integers(2, 6)), int(rng.integers(1, 4))) * rng.uniform(2, 7)
    level += rng.uniform(0, 3) * canvas.mean(2) / 128
    stripe = np.floor(level).astype(int)
    kept = rng.random(64) < rng.uniform(0, 0.8)
    flat = colors[rng.integers(len(colors), size=64)[stripe % 64]]
    result = np.where(kept[stripe % 64][..., None], canvas, flat)
    if rng.random() < 0.7:
        down, across = np.gradient(level)
        line = np.minimum(level % 1, 1 - level % 1) / (np.hypot(down, across) + 1e-6) < h * rng.uniform(0.001, 0.004)
        result = np.where(line[..., None], colors[0], result)
    return result.astype(np.float32)


def hatching(rng: np.random.Generator, canvas: Colors, colors: np.ndarray) -> Colors:
    """Pen or crayon: thin lines on paper, closer where the sketch is darker, crossed or not."""
    h, w, _ = canvas.shape
    pale, own = rng.uniform(0.2, 1), rng.random() < 0.5
    image = image_of(colors[-1] + pale * (canvas - colors[-1]))
    pen, angle = ImageDraw.Draw(image), directions(rng, canvas)
    length, dark = h * rng.uniform(0.02, 0.08), 1 - canvas.mean(2).clip(0, 255) / 255
    crossed, width = rng.random() < 0.5, max(2, round(h * rng.uniform(0.001, 0.006)))
    for _ in range(int(40 * w / length)):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        place = int(y), int(x)
        if rng.random() > dark[place] ** 0.7:
            continue
        turn = angle[place] + (math.pi / 2 if crossed and rng.random() < 0.4 else 0) + rng.normal(0, 0.08)
        dx, dy = 0.5 * length * math.cos(turn), 0.5 * length * math.sin(turn)
        ink = 0.7 * canvas[place] if own else colors[0]
        pen.line((x - dx, y - dy, x + dx, y + dy), fill=shaded(rng, ink), width=width)
    return np.asarray(image, np.float32)


def washes(rng: np.random.Generator, canvas: Colors, colors: np.ndarray) -> Colors:
    """Watercolour: glazes on light paper that darken at their drying edges and granulate."""
    h, w, _ = canvas.shape
    ink = -np.log((canvas.clip(8, 250)) / 255) * rng.uniform(0.3, 0.8)
    for _ in range(int(rng.integers(2, 6))):
        level = fractal(rng, w, h, int(rng.integers(2, 8)), 3)
        slope = np.hypot(*np.gradient(level)) + 1e-6
        wash = (level > 0.3) * (1 + rng.uniform(0.5, 2) * np.exp(-(level - 0.3).clip(0, None) / slope / (0.006 * h)))
        ink = ink - 0.35 * wash[..., None] * np.log(colors[rng.integers(len(colors))].clip(8, 250) / 255)
    ink = ink * (1 + rng.uniform(0, 0.4) * fractal(rng, w, h, 120, 2).clip(-2, 2)[..., None])
    return (255 * np.exp(-ink.clip(0, None))).astype(np.float32)


def planes(rng: np.random.Generator, canvas: Colors, colors: np.ndarray) -> Colors:
    """Cubism: large facets over each other, straight or bowed, each modelled from a dark edge to a light one."""
    h, w, _ = canvas.shape
    result = canvas * rng.uniform(0.4, 1)
    largest, deep, own = h * rng.uniform(0.25, 0.6), rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.9)
    outlined, bow = rng.random() < 0.5, rng.uniform(0, 0.5)
    for r in np.geomspace(largest, largest * rng.uniform(0.12, 0.4), int(rng.integers(30, 160))):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        turns = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 6))))
        corners = np.array([x, y]) + r * np.stack([np.cos(turns), np.sin(turns)], 1)
        following = np.roll(corners, -1, 0)
        side = following - corners
        middle = (corners + following) / 2 + rng.normal(0, bow, (len(side), 1)) * side[:, ::-1] * [1, -1]
        t = np.linspace(0, 1, 12, endpoint=False)[:, None, None]
        path = (1 - t) ** 2 * corners + 2 * t * (1 - t) * middle + t**2 * following
        path = path.transpose(1, 0, 2).reshape(-1, 2)
        left, top = path.min(0).astype(int).clip(0, [w - 1, h - 1])
        right, bottom = (path.max(0).astype(int) + 1).clip([left + 1, top + 1], [w, h])
        mask = Image.new("L", (int(right - left), int(bottom - top)), 0)
        outline = points(*(path - [left, top]).T)
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        color = canvas[int(y), int(x)] if rng.random() < own else colors[rng.integers(len(colors))]
        across, down = np.arange(left, right) - x, np.arange(top, bottom)[:, None] - y
        toward = rng.uniform(0, 2 * math.pi)
        light = deep * (across * math.cos(toward) + down * math.sin(toward)) / r
        facet = color * (1 + light[..., None]) + rng.normal(0, 6, 3)
        box = result[top:bottom, left:right]
        if outlined:
            edge = Image.new("L", mask.size, 0)
            ImageDraw.Draw(edge).line([*outline, outline[0]], fill=255, width=max(2, round(h * 0.004)))
            facet = np.where(np.asarray(edge)[..., None] > 0, colors[0], facet)
        box[:] = np.where(np.asarray(mask)[..., None] > 0, facet, box)
    return result.astype(np.float32)


Technique = Callable[[np.random.Generator, Colors, np.ndarray], Colors]
TECHNIQUES: tuple[Technique, ...] = (strokes, dots, cells, contours, hatching, washes, planes)
SHARES = (0.28, 0.08, 0.1, 0.13, 0.12, 0.12, 0.17)
