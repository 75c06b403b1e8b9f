"""A windy night in impasto: a crescent, ringed stars and whirlpools of light over dark hills and trees like flames.

A small sketch is made first: a colour, a direction and a region (sky, hills, trees) for each of its cells. Curved
strokes then follow the directions, laid from coarse to fine and each as a bundle of bristles. The canvas's alpha
channel holds the height of the paint, and a light from the upper left brings out its relief at the end.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fastnst.data.brush import SUPERSAMPLING, fractal, mix, points

CELL = 4  # px of the supersampled picture per cell of the sketch
# Palettes from dark to light, and a star's from its heart outwards.
SKY = np.array([(9, 13, 40), (16, 30, 92), (28, 58, 160), (52, 104, 200), (128, 178, 222), (226, 234, 226)], float)
HILL = np.array([(6, 10, 28), (12, 30, 66), (18, 72, 84), (60, 122, 70), (206, 168, 62)], float)
TREE = np.array([(5, 8, 14), (8, 26, 28), (20, 66, 44), (88, 124, 46), (222, 176, 58)], float)
STAR = np.array([(255, 252, 236), (255, 236, 130), (252, 196, 34), (228, 140, 24), (250, 214, 96), (176, 200, 170.0)])
TOUCHES = np.array([(206, 160, 74), (92, 132, 190)], float)  # now and then ochre in the sky and blue on the ground
# The composition: x in parts of the width, all else in parts of the height.
MOON = (0.205, 0.235, 0.125)  # x, y, radius
STARS = ((0.79, 0.15, 0.095), (0.49, 0.09, 0.050), (0.63, 0.09, 0.045), (0.93, 0.39, 0.050), (0.645, 0.60, 0.050),
         (0.125, 0.585, 0.050), (0.375, 0.62, 0.040))  # x, y, radius  # fmt: skip
WHIRLS = ((0.50, 0.40, 0.27, 1), (0.77, 0.43, 0.19, -1), (0.245, 0.63, 0.15, -1), (0.03, 0.52, 0.14, 1),
          (0.985, 0.12, 0.13, 1))  # x, y, radius, sense of turning  # fmt: skip
HILLS = (0.73, 0.82, 0.91)  # height of the ridges
TREES = ((0.815, 0.60, 0.050), (0.965, 0.56, 0.060), (0.885, 0.33, 0.080), (0.045, 0.66, 0.050),
         (0.105, 0.76, 0.038), (0.52, 0.80, 0.034))  # x, top, half the width  # fmt: skip
# Passes from coarse to fine: distance between strokes, their length and thickness, bristles, part of the places taken.
# The last passes leave more and more of the coarse strokes to be seen.
PASSES = ((0.0220, 0.150, 0.0340, 10, 1), (0.0165, 0.100, 0.0210, 8, 1), (0.0130, 0.066, 0.0130, 6, 0.60),
          (0.0095, 0.034, 0.0062, 3, 0.26))  # fmt: skip


def draw(seed: int = 0, width: int = 1152, height: int = 864) -> Image.Image:
    """The artwork as RGB, width x height px; another seed gives another night."""
    rng = np.random.default_rng(seed)
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    sketch = Sketch(rng, w // CELL, h // CELL)
    canvas = Image.new("RGBA", (w, h), (12, 18, 52, 60))
    for gap, length, thickness, bristles, share in PASSES:
        paint(canvas, rng, sketch, gap * h, length * h, thickness * h, bristles, share)
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
        flip = rng.choice((1, -1))
        for x, y, radius, sense in WHIRLS:
            self.whirl(*self.near(x, y), radius, sense * flip)
        for x, y, radius in STARS:
            self.star(*self.near(x, y), radius * rng.uniform(0.9, 1.15))
        self.moon(*self.near(*MOON[:2]), MOON[2])
        for layer, ridge in enumerate(HILLS):
            self.hill(ridge, 0.055, 1 + layer)
        for x, top, half in TREES:
            self.tree(*self.near(x, top), half)

    def near(self, x: float, y: float) -> tuple[float, float]:
        """A place about there, x now in parts of the height too."""
        return (x + self.rng.normal(0, 0.016)) * self.wide, y + self.rng.normal(0, 0.018)

    def stream(self) -> None:
        """The sky: bands of light and dark along a winding current."""
        phase = self.rng.uniform(-0.6, 0.6)
        bed = self.y + 0.10 * np.sin(self.x * 5.0 + phase) + 0.05 * np.sin(self.x * 9 - self.y * 6) + 0.015 * self.noise
        down, across = np.gradient(bed)
        self.angle = np.arctan2(-across, down)
        river = np.exp(-(((bed - 0.42) / 0.07) ** 2))
        self.color = mix(SKY, 1.6 + 1.2 * np.sin(bed * 46) + 2.2 * river + 0.35 * self.noise)

    def whirl(self, x: float, y: float, radius: float, sense: int) -> None:
        """A whirlpool whose arms of light are logarithmic spirals, along which the strokes run too."""
        d, around = self.polar(x, y)
        pitch = 0.30
        self.blend(around + sense * (math.pi / 2 + pitch), np.exp(-((d / radius) ** 4)))
        arms = np.sin(3 * (sense * around + np.log(d + 0.01) / math.tan(pitch)))
        share = np.exp(-((d / radius) ** 6))[..., None]
        self.color = self.color * (1 - share) + mix(SKY, 2.2 + 2.4 * arms - 0.6 * d / radius + 0.3 * self.noise) * share

    def star(self, x: float, y: float, radius: float) -> None:
        """A star: a white heart in yellow and orange, then rings of light that part and pale into the night."""
        d, around = self.polar(x, y)
        d = d / radius
        self.blend(around + math.pi / 2, np.exp(-((d / 1.9) ** 8)))
        # The rings waver a little, and drift outwards as they turn, so that no two sides are alike.
        ring = np.sin(d * 15 + 0.9 * np.sin(3 * around + radius * 90))
        body = mix(STAR, 3.2 * d + 0.9 * ring)
        share = np.where(d < 0.72, 1, (ring > 0.1 + 0.55 * (d - 0.72)) & (d < 1.75))[..., None]
        night = self.color * (1 - 0.45 * np.exp(-((d / 1.7) ** 8)))[..., None]
        self.color = night * (1 - share) + body * share

    def moon(self, x: float, y: float, radius: float) -> None:
        """A crescent on a disc of dusky ochre, in rings like a star's."""
        self.star(x, y, radius * 1.35)
        d = self.polar(x, y)[0] / radius
        bite = self.polar(x + 0.38 * radius, y - 0.22 * radius)[0] / (0.78 * radius)
        ball = mix(STAR, 0.2 + 1.7 * (1 - d) + 0.7 * np.sin(bite * 22))
        shadow = mix(SKY, 1.4 + 1.3 * np.sin(bite * 16))
        self.color = np.where((d < 1)[..., None], np.where((bite < 1)[..., None], shadow, ball), self.color)

    def hill(self, top: float, swell: float, region: int) -> None:
        """A ridge that swells about `top`, with furrows that follow it."""
        ridge = top + sum(swell / n * np.sin(self.x * 2.6 * n + self.rng.uniform(0, 6)) for n in (1, 2, 3))
        depth = self.y - ridge
        down, across = np.gradient(depth - 0.02 * np.sin(self.x * 11 + depth * 20))
        inside = depth > 0
        furrow = mix(HILL, 1.4 + 1.7 * np.sin(depth * 70 + 1.2 * self.noise) + 1.5 * np.exp(-((depth / 0.016) ** 2)))
        self.color = np.where(inside[..., None], furrow, self.color)
        self.angle = np.where(inside, np.arctan2(-across, down), self.angle)
        self.region[inside] = region

    def tree(self, x: float, top: float, half: float) -> None:
        """A tree like a flame, 2 x `half` wide: tongues that lick upwards from the lower edge to `top`."""
        up = ((1.05 - self.y) / (1.05 - top)).clip(0, 1.2)
        sway = 0.5 * half * np.sin(self.y * 13 + x * 9) * up
        body = half * (1 - up.clip(0, 1)) ** 0.55 * (1.1 + 0.30 * np.sin(self.y * 34 + 3 * (self.x > x + sway)))
        side = (self.x - x - sway) / (body + 1e-3)
        inside = (np.abs(side) < 1) & (self.y > top)
        lean = 0.75 * side + 0.5 * np.sin(self.y * 30 + side * 3)
        tongue = mix(TREE, 1.1 + 1.8 * np.sin(side * 6 + self.y * 30 + x * 40))
        self.color = np.where(inside[..., None], tongue, self.color)
        self.angle = np.where(inside, -math.pi / 2 + lean, self.angle)
        self.region[inside] = 1 + len(HILLS)

    def polar(self, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Distance from x, y and the angle around it."""
        return np.hypot(self.x - x, self.y - y), np.arctan2(self.y - y, self.x - x)

    def blend(self, angle: np.ndarray, share: np.ndarray) -> None:
        """Turns the strokes to `angle` by `share` (0 to 1); a stroke has no front, hence the doubled angles."""
        turned = (1 - share) * np.exp(2j * self.angle) + share * np.exp(2j * angle)
        self.angle = np.angle(turned) / 2


def paint(canvas, rng, sketch: Sketch, gap: float, length: float, thickness: float, bristles: int, share: float):
    """Lays one pass of strokes, `gap` px apart and about length x thickness px large, at `share` of the places."""
    rows, columns = sketch.region.shape
    y, x = (axis.ravel() for axis in np.mgrid[0 : rows * CELL : gap, 0 : columns * CELL : gap])
    kept = rng.permutation(len(x))[: round(share * len(x))]
    x, y = x[kept] + rng.normal(0, 0.4 * gap, len(kept)), y[kept] + rng.normal(0, 0.4 * gap, len(kept))

    def cell(x, y):
        """Index into the sketch for places in px."""
        return (y / CELL).astype(int).clip(0, rows - 1), (x / CELL).astype(int).clip(0, columns - 1)

    home = sketch.region[cell(x, y)]
    # Looking for the colour a little beside the stroke breaks up the sketch's smooth edges.
    beside = rng.normal(0, 0.45 * thickness, (2, len(x)))
    color = sketch.color[cell(x + beside[0], y + beside[1])]
    color = color * rng.normal(1, 0.17, (len(x), 1)) + rng.normal(0, 11, (len(x), 3))
    touched = rng.random(len(x)) < np.where(home > 0, 0.02, 0.03)
    color[touched] = 0.35 * color[touched] + 0.65 * TOUCHES[home[touched].clip(0, 1)]
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
    """One stroke, `thick` px wide, along `path` (2, P) in px: bristles, each with its own tint, ends and height."""
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
