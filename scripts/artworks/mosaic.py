"""A floor of tesserae: fish that circle a sun, in water whose ripples follow their outlines (opus vermiculatum).

Figures are closed outlines, the later ones over the earlier. Stones are set in rows at even distances from them, inside
and outside, and gaps where rows meet are filled. Each point then goes to the stone that it is nearest to, in that
stone's own square measure: so the stones touch all over, and grout is drawn where they do.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fastnst.data.brush import SUPERSAMPLING, fractal, points, spline

CELL = 8  # px of the supersampled picture per cell of the map of distances
GROUT = np.array((66, 58, 52.0))
TERRACOTTA, RUST, OCHRE, GOLD, CREAM = (200, 88, 46), (146, 44, 32), (216, 146, 54), (248, 202, 70), (242, 230, 200)
NAVY, BLUE, TURQUOISE, GREEN, BLACK = (22, 38, 98), (34, 92, 166), (58, 172, 174), (30, 96, 68), (26, 25, 34)
# Colours row by row from the outline on.
WATER = (CREAM, TURQUOISE, BLUE, NAVY, NAVY, BLUE, TURQUOISE)
SUN, RAY = (BLACK, GOLD, GOLD, TERRACOTTA, RUST, CREAM, GOLD), (RUST, OCHRE, GOLD, CREAM)
WARM, COOL = (NAVY, CREAM, TERRACOTTA, TERRACOTTA, OCHRE, CREAM, RUST), (BLACK, OCHRE, CREAM, GREEN, GREEN, CREAM)
BUBBLE, STARFISH = (BLACK, GOLD, TERRACOTTA), (TERRACOTTA, GOLD, CREAM, TERRACOTTA)
# All lengths below are parts of the picture's height; x and y count from its middle.
TINY, SMALL, MIDDLE, LARGE = 0.0115, 0.0165, 0.0215, 0.027  # sides of stones
SHELLS = ((-0.66, -0.50), (0.66, 0.50), (0.67, -0.49), (-0.67, 0.49))  # x, y
BUBBLES = ((-0.31, -0.465, 0.035), (0.33, 0.465, 0.035), (0.65, 0.02, 0.045), (-0.65, -0.02, 0.05))  # x, y, radius
SPINE, LENGTH = np.array((0.52, 0.36)), 1.65  # half-axes of the ellipse that the fish swim on, angle that one takes up
# Knots: place along a fish (0 at the nose, 1 at the root of the tail), and distance to the outside of its ellipse.
TAIL = ((0.95, 0.015), (1.08, 0.05), (1.30, 0.135), (1.22, 0.03), (1.20, -0.01), (1.24, -0.05), (1.34, -0.12),
        (1.08, -0.045), (0.95, -0.015))  # fmt: skip
FINS = (((0.34, 0.07), (0.50, 0.135), (0.66, 0.145), (0.80, 0.12), (0.72, 0.04)),
        ((0.44, -0.10), (0.60, -0.155), (0.74, -0.145), (0.66, -0.07)))  # fmt: skip


class Figure(NamedTuple):
    """A closed `outline` (P, 2) in px, the `side` of its stones in px, and what colour a stone has.

    `color` is given the stone's row, counted from the nearest outline, and its place along that outline, from 0 to 1.
    """

    outline: np.ndarray
    side: float
    color: Callable[[int, float], tuple[int, int, int]]


class Stone(NamedTuple):
    """A tessera: its middle and half its size in px, the angle across its row in radians, its figure's number."""

    x: float
    y: float
    angle: float
    across: float
    along: float
    figure: int


def draw(seed: int = 0, width: int = 1152, height: int = 864) -> Image.Image:
    """The artwork as RGB, width x height px; another seed turns the fish and sets other stones."""
    rng = np.random.default_rng(seed)
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    floor = Floor(figures(rng, w, h), w, h)
    stones = floor.rows(rng)
    owner, _ = floor.share_out(stones)
    area = np.bincount(owner[owner >= 0], minlength=len(stones))
    stones = [s for s, a in zip(stones, area, strict=True) if a > 1.5 * s.across * s.along]  # of 4: no slivers
    stones += floor.fillers(stones)
    return floor.render(rng, stones).resize((width, height), Image.Resampling.LANCZOS)


def figures(rng: np.random.Generator, w: int, h: int) -> list[Figure]:
    """The design, from the water up; outlines in px of a canvas of w x h."""

    def figure(outline: np.ndarray, side: float, color) -> Figure:
        return Figure(even(np.array([w, h]) / 2 + h * outline, 4), side * h, color)

    def disc(x: float, y: float, radius: float, side: float, color, wave: float = 0, rays: int = 1) -> Figure:
        """A disc, or if its edge waves by a part of the radius, so many rays that lean a little."""
        turn = np.linspace(0, 2 * math.pi, 400, endpoint=False)
        lean = turn + 3.6 * wave / rays * np.sin(rays * turn + 0.8)
        reach = radius * (1 + wave * np.cos(rays * turn))
        return figure(np.stack([x + reach * np.cos(lean), y + reach * np.sin(lean)], 1), side, color)

    design = [Figure(np.empty((0, 2)), LARGE * h, banded(WATER))]
    for (x, y), palette in zip(SHELLS, rng.permutation([0, 0, 1, 1]), strict=True):
        design.append(disc(x, y, rng.uniform(0.20, 0.24), MIDDLE, banded((WARM, COOL)[palette], 12)))
    for x, y, radius in BUBBLES:
        design.append(disc(x + rng.normal(0, 0.012), y, radius, SMALL, banded(BUBBLE)))
    sense = 1 if rng.random() < 0.5 else -1
    for side in (-1, 1):
        design.append(disc(side * 0.415, side * sense * 0.025, 0.075, SMALL, banded(STARFISH), 0.27, 5))
    start = math.pi / 2 + sense * (rng.uniform(-0.08, 0.12) - 1.0)
    for half, skin in ((0, (OCHRE, TERRACOTTA)), (math.pi, (TERRACOTTA, RUST))):
        design += fish(figure, disc, start + half, sense, *skin)
    design.append(disc(0, 0, 0.170, SMALL, banded(RAY), 0.25, int(rng.integers(10, 14))))
    design.append(disc(0, 0, 0.115, SMALL, banded(SUN)))
    return design


def banded(palette, petals: int = 0):
    """Colours row by row; with petals, every other one a row ahead."""
    return lambda row, place: palette[(row + int(place * petals) % 2) % len(palette)]


def fish(figure, disc, start: float, sense: int, back, scale) -> list[Figure]:
    """A fish bent along the ellipse, its nose at the angle `start` in radians; `sense` 1 swims counter-clockwise."""

    def bent(s, t) -> np.ndarray:
        """Places (P, 2) on the canvas of places along and beside the fish."""
        angle = start + sense * LENGTH * np.asarray(s)
        spine = np.stack([np.cos(angle), np.sin(angle)], -1)
        normal = spine / SPINE
        # A fish is not quite as bent as its course.
        beside = np.asarray(t) - 0.035 * np.sin(math.pi * np.clip(s, 0, 1))
        return spine * SPINE + normal / np.linalg.norm(normal, axis=-1, keepdims=True) * beside[..., None]

    def smooth(knots) -> np.ndarray:
        return bent(*spline(np.array([*knots, knots[0]], float), 24).T)

    belly = TURQUOISE, CREAM, OCHRE
    s = np.linspace(0, 1, 15)
    thick = 0.110 * np.sin(math.pi * s**0.76) + 0.02 * s
    body = [*zip(s, thick, strict=True), *zip(s[:0:-1], -thick[:0:-1], strict=True)]
    head = [*body[:4], (0.27, 0.05), (0.285, 0), (0.27, -0.05), *body[-3:]]

    def skin(row: int, place: float):
        """Slanting scales on the back, which is the outline's first half, and stripes on the belly."""
        if row < 2:
            return (BLACK, GOLD if place < 0.5 else CREAM)[row]
        return (back, back, scale, CREAM)[(row + int(place * 20)) % 4] if place < 0.5 else belly[row % 3]

    def fin(row: int, place: float):
        return NAVY if row == 0 else (TURQUOISE, CREAM)[int(place * 40) % 2]

    return [
        *(figure(smooth(knots), SMALL, fin) for knots in (TAIL, *FINS)),
        figure(smooth(body), SMALL, skin),
        figure(smooth(head), TINY, banded((BLACK, RUST, back, back, OCHRE, GOLD))),
        disc(*bent(0.14, 0.02), 0.032, TINY, banded((CREAM, CREAM, BLACK))),
    ]


def even(curve: np.ndarray, step: float) -> np.ndarray:
    """The closed curve through `curve` (P, 2) in steps of about `step` px."""
    curve = np.concatenate([curve, curve[:1]])
    length = np.concatenate([[0], np.hypot(*np.diff(curve, axis=0).T).cumsum()])
    at = np.linspace(0, length[-1], max(8, round(length[-1] / step)), endpoint=False)
    return np.stack([np.interp(at, length, axis) for axis in curve.T], axis=1)


def crowded(x: float, y: float, stones: list[Stone], gap: float) -> bool:
    """Whether the middle of a stone is less than `gap` px from x, y."""
    return any(abs(x - s.x) < gap and math.hypot(x - s.x, y - s.y) < gap for s in reversed(stones))


def blurred(mask: np.ndarray, radius: float) -> np.ndarray:
    """A mask of truths softened over `radius` px, from 0 to 255."""
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius)), np.float32)


class Floor:
    """Which figure is seen at each px, how far its outlines are, and the laying of stones upon it."""

    def __init__(self, design: list[Figure], w: int, h: int):
        self.design, self.w, self.h = design, w, h
        plan = Image.new("L", (w, h), 0)
        for i, figure in enumerate(design[1:], 1):
            ImageDraw.Draw(plan).polygon(points(*figure.outline.T), fill=i)
        self.figure = np.asarray(plan).astype(int)
        # By cell: px to the nearest outline that bounds its figure, the direction away from it, and the place along it.
        seen = self.figure[CELL // 2 :: CELL, CELL // 2 :: CELL]
        self.distance, self.angle, self.place = np.zeros((3, *seen.shape), np.float32)
        for i in np.unique(seen):
            outlines = [figure.outline for figure in design[max(i, 1) :]]
            edge = np.concatenate(outlines).astype(np.float32)
            place = np.concatenate([np.arange(len(o)) / len(o) for o in outlines])
            y, x = np.nonzero(seen == i)
            for part in np.array_split(np.arange(len(x)), 1 + len(x) // 2000):  # by parts, to spare the memory
                at = y[part], x[part]
                dx, dy = ((np.float32(at[axis][:, None] + 0.5) * CELL - edge[:, 1 - axis]) for axis in (1, 0))
                square = dx**2 + dy**2
                best = np.arange(len(part)), square.argmin(1)
                self.distance[at] = np.sqrt(square[best])
                self.angle[at] = np.arctan2(dy[best], dx[best])
                self.place[at] = place[best[1]]

    def cell(self, x, y):
        """Index into the maps of cells for places in px."""
        rows, columns = self.distance.shape
        return np.clip(np.int_(y) // CELL, 0, rows - 1), np.clip(np.int_(x) // CELL, 0, columns - 1)

    def rows(self, rng: np.random.Generator) -> list[Stone]:
        """Stones along every outline, row by row, as far as that outline is the nearest."""
        stones: list[Stone] = []
        for i, figure in enumerate(self.design):
            first = len(stones)
            for j in range(max(i, 1), len(self.design)):
                outline = self.design[j].outline
                ahead = np.roll(outline, -1, 0) - np.roll(outline, 1, 0)
                normal = np.stack([ahead[:, 1], -ahead[:, 0]], 1) / np.hypot(*ahead.T)[:, None]
                twice_area = (outline[:, 0] * ahead[:, 1]).sum()
                normal *= math.copysign(1, twice_area) * (-1 if i == j else 1)  # into this figure
                for row in range(30):
                    deep = (row + 0.5) * figure.side
                    x, y = (outline + normal * deep).T
                    kept = (x > 0) & (x < self.w) & (y > 0) & (y < self.h)
                    kept &= self.figure[np.int_(y.clip(0, self.h - 1)), np.int_(x.clip(0, self.w - 1))] == i
                    kept &= np.abs(self.distance[self.cell(x, y)] - deep) < 0.3 * figure.side
                    pace = np.hypot(np.diff(x, append=x[:1]), np.diff(y, append=y[:1]))
                    count = max(3, round(pace.sum() / figure.side / rng.uniform(0.95, 1.25)))
                    number = np.floor((pace.cumsum() / pace.sum() + rng.random()) * count)
                    for n in np.nonzero(kept & (number != np.roll(number, 1)))[0]:
                        if not crowded(x[n], y[n], stones[first:], 0.72 * figure.side):
                            angle, half = math.atan2(normal[n, 1], normal[n, 0]), pace.sum() / count / 2
                            stones.append(Stone(x[n], y[n], angle, figure.side / 2, half, i))
        return stones

    def fillers(self, stones: list[Stone]) -> list[Stone]:
        """Stones for the places which none of `stones` reaches, each in the middle of the row that it is in."""
        _, nearness = self.share_out(stones)
        added: list[Stone] = []
        for y, x in 4 * np.argwhere(nearness[::4, ::4] > 1.25):
            i, cell = self.figure[y, x], self.cell(x, y)
            side, angle, distance = self.design[i].side, self.angle[cell], self.distance[cell]
            off = (distance // side + 0.5) * side - distance
            x, y = x + off * math.cos(angle), y + off * math.sin(angle)
            if not crowded(x, y, added, 0.95 * side):
                added.append(Stone(x, y, angle, side / 2, side / 2, i))
        return added

    def share_out(self, stones: list[Stone]) -> tuple[np.ndarray, np.ndarray]:
        """For every px the number of its stone (-1: none) and how near that is, 1 at the edge of its own size."""
        owner, nearness = np.full((self.h, self.w), -1), np.full((self.h, self.w), np.inf, np.float32)
        for n, s in enumerate(stones):
            reach = 1.8 * max(s.across, s.along)
            window = tuple(slice(max(0, int(v - reach)), max(0, int(v + reach))) for v in (s.y, s.x))
            near, (dy, dx) = nearness[window], (np.arange(v.start, v.stop, dtype=np.float32) for v in window)
            dy, dx = dy[: near.shape[0], None] - s.y, dx[: near.shape[1]] - s.x
            cos, sin = math.cos(s.angle), math.sin(s.angle)
            d = np.maximum(np.abs(dx * cos + dy * sin) / s.across, np.abs(dy * cos - dx * sin) / s.along)
            won = (d < np.minimum(near, 1.7)) & (self.figure[window] == s.figure)
            near[won] = d[won]
            owner[window][won] = n
        return owner, nearness

    def render(self, rng: np.random.Generator, stones: list[Stone]) -> Image.Image:
        """The stones with their grout, each tilted its own way, lit from the upper left."""
        owner, _ = self.share_out(stones)
        edge = owner < 0
        edge[1:] |= owner[1:] != owner[:-1]
        edge[:, 1:] |= owner[:, 1:] != owner[:, :-1]
        grain = fractal(rng, self.w, self.h, 110, 3)
        # A threshold on blurred lines rounds the stones' corners, and noise makes their edges uneven.
        stone = blurred(edge, 2.3) + 3.5 * grain < 17
        bevel = (np.add(*np.gradient(blurred(stone, 2.2))) / 56).clip(-1, 1)
        x, y, size = np.array([(s.x, s.y, s.across) for s in stones], np.float32).T
        row, place = (self.distance[self.cell(x, y)] / (2 * size)).astype(int), self.place[self.cell(x, y)]
        colors = [self.design[s.figure].color(r, p) for s, r, p in zip(stones, row, place, strict=True)]
        color = np.array(colors) * rng.normal(1, 0.12, (len(stones), 1)) + rng.normal(0, 9, (len(stones), 3))
        tilt_x, tilt_y = rng.normal(0, 0.10, (2, len(stones))) / size
        py, px = np.mgrid[0 : self.h, 0 : self.w].astype(np.float32)
        light = 1 + tilt_x[owner] * (px - x[owner]) + tilt_y[owner] * (py - y[owner]) + 0.06 * grain + 0.38 * bevel
        face = color[owner] * light[..., None] + 10 * bevel.clip(0, None)[..., None]
        ground = GROUT * (1 + 0.12 * grain + 0.25 * bevel.clip(-1, 0))[..., None]
        return Image.fromarray(np.where(stone[..., None], face, ground).clip(0, 255).astype(np.uint8))
