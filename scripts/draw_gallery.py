"""Draws a sheet of paintings, each beside what its net makes of two sample photographs.

    python scripts/draw_gallery.py docs/styles.jpg wave=wave.jpg base:mosaic=mosaic.jpg arbitrary:munch.jpg=munch.jpg

One row for each CHECKPOINT=PAINTING, or CHECKPOINT:STYLE=PAINTING for a net of several styles or of any painting.
"""

import sys
from pathlib import Path

from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastnst
from fastnst.data.files import sample_photographs
from fastnst.images import load_rgb

CELL = (432, 324)  # px; photographs are restyled at this size, so that strokes are seen as they come out
GAP = 8
PHOTOGRAPHS = ("astronaut", "chelsea")


def draw_gallery(rows: list[tuple[str, Path]]) -> Image.Image:
    """The sheet: photographs on top, then painting and results, row by row."""
    files = {path.stem: path for path in sample_photographs()[0] + sample_photographs()[1]}
    photographs = [ImageOps.fit(load_rgb(files[name]), CELL) for name in PHOTOGRAPHS]
    lines: list[list[Image.Image | None]] = [[None, *photographs]]
    for name, painting in rows:
        checkpoint, _, style = name.partition(":")
        net = fastnst.load(checkpoint, style=style or None)
        lines.append([ImageOps.fit(load_rgb(painting), CELL), *map(net, photographs)])
    width, height = (side + GAP for side in CELL)
    sheet = Image.new("RGB", (width * (1 + len(photographs)) - GAP, height * len(lines) - GAP), "white")
    for down, line in enumerate(lines):
        for across, picture in enumerate(line):
            if picture is not None:
                sheet.paste(picture, (across * width, down * height))
    return sheet


if __name__ == "__main__":
    pairs = [argument.split("=", 1) for argument in sys.argv[2:]]
    draw_gallery([(name, Path(painting)) for name, painting in pairs]).save(sys.argv[1], quality=88)
