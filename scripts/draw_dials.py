"""Draws what the dials of a zero-shot net do to a sample photograph, for one painting:

    python scripts/draw_dials.py docs/dials.jpg painting.jpg

One row for each dial, from its least to its greatest value; the painting stands before the first.
"""

import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastnst
from fastnst.data.files import sample_photographs
from fastnst.images import load_rgb

CELL = (384, 288)  # px; the photograph is restyled at this size, so that strokes are seen as they come out
GAP, LABEL = 8, 22
DIALS = {"style_size": (96, 176, 256, 400), "style_weight": (0.34, 0.6, 1.0, 3.0), "strength": (0.25, 0.5, 0.75, 1.0)}


def draw_dials(painting: str) -> Image.Image:
    files = {path.stem: path for path in sample_photographs()[0] + sample_photographs()[1]}
    photograph = ImageOps.fit(load_rgb(files["chelsea"]), CELL)
    net = fastnst.load("arbitrary", style=painting)
    width, height = CELL[0] + GAP, CELL[1] + LABEL + GAP
    sheet = Image.new("RGB", (width * (1 + max(map(len, DIALS.values()))) - GAP, height * len(DIALS) - GAP), "white")
    label = ImageDraw.Draw(sheet)
    sheet.paste(ImageOps.fit(load_rgb(painting), CELL), (0, LABEL))
    for down, (dial, values) in enumerate(DIALS.items()):
        for across, value in enumerate(values, 1):
            label.text((across * width, down * height), f"{dial}={value}", fill="black", font=ImageFont.load_default(18))
            turned: dict[str, Any] = {dial: value}
            sheet.paste(net(photograph, **turned), (across * width, down * height + LABEL))
    return sheet


if __name__ == "__main__":
    draw_dials(sys.argv[2]).save(sys.argv[1], quality=88)
