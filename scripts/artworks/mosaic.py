"""A floor of tesserae: suns, flowers and whirls of stones laid in rings, with dark grout between them.

The canvas is shared out among centres (each point to the one nearest in that one's own measure). About each centre stones
are set ring by ring, as the rows of opus vermiculatum follow a figure's outline; ring and angle choose their colour.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from artworks.brush import SUPERSAMPLING, grain, points

GROUT = (38, 34, 34)
TERRACOTTA, RUST, OCHRE, GOLD, CREAM = (186, 88, 52), (140, 52, 38), (208, 150, 66), (236, 192, 84), (238, 226, 196)
NAVY, BLUE, TURQUOISE, GREEN, BLACK = (24, 42, 92), (40, 88, 150), (64, 164, 166), (38, 84, 62), (32, 30, 40)
# Bands of rings from the centre outwards: (rings, colour, colour of every other petal).
SUN = ((3, GOLD, GOLD), (2, RUST, RUST), (7, GOLD, TERRACOTTA), (1, BLACK, BLACK), (5, OCHRE, CREAM), (2, NAVY, NAVY),
       (4, TURQUOISE, CREAM), (2, NAVY, NAVY), (6, BLUE, TURQUOISE), (2, CREAM, CREAM))  # fmt: skip
FLOWER = ((2, OCHRE, OCHRE), (1, BLACK, BLACK), (4, CREAM, TERRACOTTA), (1, RUST, RUST), (3, GREEN, TURQUOISE),
          (2, CREAM, CREAM), (3, NAVY, BLUE))  # fmt: skip
WHIRL = ((2, CREAM, CREAM), (3, NAVY, TURQUOISE), (3, BLUE, CREAM), (4, NAVY, TURQUOISE), (2, GOLD, OCHRE), (4, BLUE, NAVY))
# x, y and weight of a centre in parts of the canvas, its bands, petals, twist (petals leaned per ring) and size of stones.
CENTRES = (
    (0.40, 0.46, 1.75, SUN, 16, 0.0, 1.15),
    (0.86, 0.20, 1.0, WHIRL, 6, 0.16, 0.85),
    (0.84, 0.78, 1.2, FLOWER, 8, 0.0, 1.0),
    (0.07, 0.10, 0.9, FLOWER, 6, 0.0, 0.8),
    (0.08, 0.92, 1.0, WHIRL, 5, -0.18, 0.9),
    (0.55, 0.97, 0.7, FLOWER, 5, 0.0, 0.7),
    (0.62, 0.05, 0.7, FLOWER, 7, 0.1, 0.7),
)


def draw(seed: int = 0, width: int = 1152, height: int = 864) -> Image.Image:
    """The artwork as RGB, width x height px; another seed sets other stones about other centres."""
    rng = np.random.default_rng(seed)
    w, h = width * SUPERSAMPLING, height * SUPERSAMPLING
    image = Image.new("RGB", (w, h), GROUT)
    pen = ImageDraw.Draw(image)
    places = np.array([c[:3] for c in CENTRES])
    places[:, :2] += rng.normal(0, 0.0 if seed == 0 else 0.05, (len(CENTRES), 2))
    places = places * [w, h, 1]
    for index, (_, _, _, bands, petals, twist, scale) in enumerate(CENTRES):
        ring(pen, rng, places, index, bands, petals, twist, 0.0265 * h * scale)
    return grain(rng, image.resize((width, height), Image.Resampling.LANCZOS), streaks=0, tooth=9)


def ring(pen, rng: np.random.Generator, places: np.ndarray, index: int, bands, petals: int, twist: float, side: float):
    """Sets the stones about one centre, `side` px large, as far as its share of the canvas goes."""
    x0, y0, _ = places[index]
    order = [(color, other) for rings, color, other in bands for _ in range(rings)]
    for k in range(90):
        radius = (k + 0.5) * side
        count = max(1, round(2 * math.pi * radius / side / rng.uniform(0.9, 1.15)))
        start = rng.uniform(0, 2 * math.pi)
        color, other = order[k % len(order)]
        for i in range(count):
            angle = start + 2 * math.pi * i / count
            x, y = x0 + radius * math.cos(angle), y0 + radius * math.sin(angle)
            distance = np.hypot(places[:, 0] - x, places[:, 1] - y) / places[:, 2]
            if distance.argmin() != index:
                continue
            # The outermost ring of a share is its frame.
            rivals = np.delete(distance, index)
            edge = rivals.min() * places[index, 2] - radius
            petal = math.floor(petals * (angle / (2 * math.pi) + twist * k)) % 2
            chosen = CREAM if edge < 1.1 * side else BLACK if edge < 2.2 * side else other if petal else color
            stone(pen, rng, x, y, angle, side * 0.86, 2 * math.pi * radius / count * 0.86, chosen)


def stone(pen, rng: np.random.Generator, x: float, y: float, angle: float, deep: float, wide: float, color) -> None:
    """One tessera, deep x wide px, turned to `angle`: an uneven quadrilateral, lit along one edge, dark along the other."""
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) * [deep, wide]
    corners = corners + rng.normal(0, 0.045 * deep, (4, 2))
    turn = angle + rng.normal(0, 0.05)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    corners = corners @ rotation + [x, y]
    shade = np.array(color) * rng.normal(1, 0.10) + rng.normal(0, 5, 3)
    pen.polygon(points(*corners.T), fill=tuple(shade.clip(0, 255).astype(int)))
    by_light = np.argsort(corners.sum(axis=1))
    for ends, gain in ((by_light[:2], 1.22), (by_light[2:], 0.72)):
        line = corners[ends] * 0.94 + corners.mean(axis=0) * 0.06
        pen.line(points(*line.T), fill=tuple((shade * gain).clip(0, 255).astype(int)), width=max(2, round(0.09 * deep)))
