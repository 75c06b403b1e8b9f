"""A windy night in impasto: a river of light winds between whirlpools and ringed stars over dark hills and tree flames.

A small sketch is made first: a colour, a direction and a region (sky, hills, trees) for each of its cells. Curved strokes
then follow the directions, laid from coarse to fine and each as a bundle of bristles. The picture's alpha channel holds the
height of the paint, by which a light from the upper left brings out the relief at the end.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from artworks.brush import SUPERSAMPLING, fractal, points

CELL = 4  # px of the supersampled picture per cell of the sketch
SKY = np.array([(9, 13, 40), (16, 30, 92), (28, 58, 160), (52, 104, 200), (128, 178, 222), (226, 234, 226)], float)
GLOW = np.array([(255, 252, 236), (255, 236, 130), (252, 196, 34), (228, 140, 24), (250, 214, 96), (176, 200, 170)], float)
HILL = np.array([(7, 11, 26), (14, 28, 58), (20, 56, 66), (44, 92, 62), (176, 142, 52)], float)
TREE = np.array([(5, 8, 14), (10, 26, 30), (22, 56, 40), (70, 98, 44), (190, 150, 50)], float)
# Passes from coarse to fine: distance between strokes, their length and width, in parts of the height, and bristles.
PASSES = ((0.020, 0.130, 0.026, 9), (0.0135, 0.085, 0.0150, 6), (0.0095, 0.052, 0.0085, 4), (0.0085, 0.030, 0.0046, 3))


def draw(seed: int = 0, width: int = 1152, height: int = 864) -> Image.Image:
    """The artwork as RGB, width x height px; another seed gives another night."""
    rng = np.random.default_rng(seed)
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    sketch = Sketch(rng, w // CELL, h // CELL)
    canvas = Image.new("RGBA", (w, h), (12, 18, 52, 60))
    for number, (gap, length, thickness, bristles) in enumerate(PASSES):
        # The last passes leave more and more of the coarse strokes to be seen.
        paint(canvas, rng, sketch, gap * h, length * h, thickness * h, bristles, share=(1, 1, 0.62, 0.40)[number])
    return lit(canvas).resize((width, height), Image.Resampling.LANCZOS)


class Sketch:
    """Maps (rows, columns) of what is to be painted: `color` (and 3), `angle` of the strokes in radians and `region`.

    Lengths in here are parts of the picture's height, so x runs from 0 to `wide`.
    """

    def __init__(self, rng: np.random.Generator, columns: int, rows: int):
        self.wide = columns / rows
        self.y, self.x = np.mgrid[0:rows, 0:columns] / rows
        self.rng = rng
        self.noise = fractal(rng, columns, rows, 6)
        self.region = np.zeros((rows, columns), int)
        self.stream()
        mirrored = 1 if rng.random() < 0.5 else -1
        for across, down, radius, sense in ((0.40, 0.36, 0.27, 1), (0.655, 0.50, 0.19, -1), (0.93, 0.40, 0.17, 1),
                                            (0.12, 0.60, 0.15, -1)):  # fmt: skip
            self.whirl(*self.near(across, down), radius, sense * mirrored)
        for across, down, radius in ((0.735, 0.20, 0.155), (0.10, 0.22, 0.10), (0.255, 0.10, 0.06), (0.51, 0.11, 0.07),
                                     (0.95, 0.13, 0.06), (0.245, 0.55, 0.055), (0.52, 0.62, 0.045), (0.83, 0.56, 0.06)):  # fmt: skip
            self.star(*self.near(across, down), radius * rng.uniform(0.9, 1.1))
        for layer in range(3):
            self.hill(0.74 + 0.085 * layer, 0.05, layer)
        for across, top, half in ((0.885, 0.36, 0.075), (0.80, 0.60, 0.05), (0.965, 0.62, 0.05), (0.33, 0.70, 0.036),
                                  (0.38, 0.77, 0.03), (0.05, 0.72, 0.04)):  # fmt: skip
            self.tree((across + rng.normal(0, 0.012)) * self.wide, top + rng.normal(0, 0.02), half)

    def near(self, across: float, down: float) -> tuple[float, float]:
        """A place about there, both in parts of the canvas, as x and y."""
        return (across + self.rng.normal(0, 0.018)) * self.wide, down + self.rng.normal(0, 0.018)

    def stream(self) -> None:
        """The sky: bands of light and dark along a winding current."""
        phase = self.rng.uniform(-0.6, 0.6)
        bed = self.y + 0.10 * np.sin(self.x * 5.0 + phase) + 0.05 * np.sin(self.x * 9 - self.y * 6) + 0.015 * self.noise
        down, across = np.gradient(bed)
        self.angle = np.arctan2(-across, down)
        river = np.exp(-(((bed - 0.42) / 0.07) ** 2))
        self.color = mix(SKY, 1.5 + 0.9 * np.sin(bed * 42) + 2.4 * river + 0.5 * self.noise)

    def whirl(self, x: float, y: float, radius: float, sense: int) -> None:
        """A whirlpool whose arms of light are logarithmic spirals, along which the strokes run too."""
        d, around = self.polar(x, y)
        pitch = 0.30
        self.blend(around + sense * (math.pi / 2 + pitch), np.exp(-((d / radius) ** 4)))
        arms = np.sin(3 * (sense * around + np.log(d + 0.01) / math.tan(pitch)))
        share = np.exp(-((d / radius) ** 6))[..., None]
        self.color = self.color * (1 - share) + mix(SKY, 2.2 + 2.4 * arms - 0.6 * d / radius + 0.3 * self.noise) * share

    def star(self, x: float, y: float, radius: float) -> None:
        """A star: a white heart in rings of yellow and orange, and a halo that fades into the sky."""
        d, around = self.polar(x, y)
        d = d / radius
        self.blend(around + math.pi / 2, np.exp(-((d / 1.5) ** 6)))
        rings = mix(GLOW, 3.4 * d + 0.75 * np.sin(d * 17))
        halo = np.exp(-((d / 1.25) ** 8))[..., None] * (0.62 + 0.38 * np.cos(d * 13) * (d > 0.9) + 0.38 * (d <= 0.9))[..., None]
        self.color = self.color * (1 - halo) + rings * halo

    def hill(self, top: float, swell: float, layer: int) -> None:
        """A ridge at about `top`, with furrows that follow it."""
        ridge = top + sum(swell / n * np.sin(self.x * 2.6 * n + self.rng.uniform(0, 6)) for n in (1, 2, 3))
        depth = self.y - ridge
        down, across = np.gradient(depth - 0.02 * np.sin(self.x * 11 + depth * 20))
        inside = depth > 0
        furrow = mix(HILL, 1.3 + 1.5 * np.sin(depth * 75 + 2 * self.noise) + 1.4 * np.exp(-((depth / 0.012) ** 2)))
        self.color = np.where(inside[..., None], furrow, self.color)
        self.angle = np.where(inside, np.arctan2(-across, down), self.angle)
        self.region[inside] = 1 + layer

    def tree(self, x: float, top: float, half: float) -> None:
        """A tree like a flame, 2 x `half` wide: tongues that lick upwards from the lower edge to `top`."""
        up = ((1.05 - self.y) / (1.05 - top)).clip(0, 1.2)
        sway = 0.5 * half * np.sin(self.y * 13 + x * 9) * up
        body = half * (1 - up.clip(0, 1)) ** 0.55 * (1.1 + 0.30 * np.sin(self.y * 34 + 3 * (self.x > x + sway)))
        side = (self.x - x - sway) / (body + 1e-3)
        inside = (np.abs(side) < 1) & (self.y > top)
        lean = 0.75 * side + 0.5 * np.sin(self.y * 30 + side * 3)
        tongue = mix(TREE, 1.2 + 1.5 * np.sin(side * 7 + self.y * 26) + 0.5 * self.noise)
        self.color = np.where(inside[..., None], tongue, self.color)
        self.angle = np.where(inside, -math.pi / 2 + lean, self.angle)
        self.region[inside] = 9

    def polar(self, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Distance from x, y and the angle around it."""
        return np.hypot(self.x - x, self.y - y), np.arctan2(self.y - y, self.x - x)

    def blend(self, angle: np.ndarray, share: np.ndarray) -> None:
        """Turns the strokes to `angle` by `share` (0 to 1); a stroke has no front, hence the doubled angles."""
        turned = (1 - share) * np.exp(2j * self.angle) + share * np.exp(2j * angle)
        self.angle = np.angle(turned) / 2


def paint(canvas, rng, sketch: Sketch, gap: float, length: float, thickness: float, bristles: int, share: float) -> None:
    """Lays one pass of strokes, `gap` px apart and about length x thickness px large, on `share` of the canvas."""
    rows, columns = sketch.region.shape
    y, x = (axis.ravel() for axis in np.mgrid[0 : rows * CELL : gap, 0 : columns * CELL : gap])
    kept = rng.permutation(len(x))[: round(share * len(x))]
    x, y = x[kept] + rng.normal(0, 0.4 * gap, len(kept)), y[kept] + rng.normal(0, 0.4 * gap, len(kept))

    def cell(x, y):
        return (y / CELL).astype(int).clip(0, rows - 1), (x / CELL).astype(int).clip(0, columns - 1)

    home = sketch.region[cell(x, y)]
    color = sketch.color[cell(x, y)] * rng.normal(1, 0.13, (len(x), 1)) + rng.normal(0, 9, (len(x), 3))
    steps, reach = 10, length * rng.uniform(0.6, 1.25, len(x))
    ahead = np.stack([np.cos(sketch.angle[cell(x, y)]), np.sin(sketch.angle[cell(x, y)])])
    halves = []
    for sense in (-1, 1):
        at, heading, half = np.stack([x, y]), sense * ahead, []
        for _ in range(steps // 2):
            angle = sketch.angle[cell(*at)]
            turn = np.stack([np.cos(angle), np.sin(angle)])
            heading = turn * np.where((turn * heading).sum(0) < 0, -1, 1)
            further = at + heading * reach / steps
            at = np.where(sketch.region[cell(*further)] == home, further, at)  # a stroke ends where its region does
            half.append(at)
        halves.append(half)
    paths = np.stack([*halves[0][::-1], np.stack([x, y]), *halves[1]]).transpose(2, 1, 0)
    pen = ImageDraw.Draw(canvas)
    for path, tint, thick in zip(paths, color, thickness * rng.uniform(0.65, 1.2, len(x)), strict=True):
        stroke(pen, rng, path, tint, thick, bristles)


def stroke(pen, rng, path: np.ndarray, tint: np.ndarray, thick: float, bristles: int) -> None:
    """One stroke, `thick` px wide, along `path` (2, P): bristles side by side, each with its own tint, ends and height."""
    along = np.gradient(path, axis=1)
    across = np.stack([-along[1], along[0]]) / (np.hypot(*along) + 1e-6)
    taper = np.sin(np.linspace(0.25, math.pi - 0.25, path.shape[1])) ** 0.5
    places = np.linspace(-0.5, 0.5, bristles)
    tones = rng.normal(1, 0.13, bristles)
    # Paint is pushed to the rims of a stroke, where it stands high.
    heights = 90 + 110 * (2 * np.abs(places)) ** 2 + rng.normal(0, 26, bristles)
    starts, ends = rng.integers(0, 3, bristles), path.shape[1] - rng.integers(0, 3, bristles)
    for i in rng.permutation(bristles):
        line = (path + across * taper * places[i] * thick)[:, starts[i] : ends[i]]
        fill = (*(tint * tones[i]).clip(0, 255).astype(int).tolist(), int(heights[i].clip(0, 255)))
        pen.line(points(*line), fill=fill, width=max(2, round(1.5 * thick / bristles)))


def lit(canvas: Image.Image) -> Image.Image:
    """The canvas in slanting light from the upper left: its alpha channel is the height of the paint."""
    height = np.asarray(canvas.getchannel("A").filter(ImageFilter.GaussianBlur(1.2)), np.float32)
    down, across = np.gradient(height)
    slope = ((down + across) / 26).clip(-1, 1)[..., None]
    color = np.asarray(canvas.convert("RGB"), np.float32)
    color = color * (1 + 0.34 * slope) + 26 * slope.clip(0, None) ** 2
    return Image.fromarray(color.clip(0, 255).astype(np.uint8))


def mix(palette: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Colours between the rows of `palette` (P, 3) at `level`, from 0 to P - 1: the shape of `level` and 3."""
    level = level.clip(0, len(palette) - 1.001)
    low, part = level.astype(int), (level % 1)[..., None]
    return palette[low] * (1 - part) + palette[low + 1] * part
