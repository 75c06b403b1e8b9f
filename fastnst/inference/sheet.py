"""A contact sheet: one picture in every style of a net that has several."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from fastnst.checkpoint import choose_style
from fastnst.images import fit, to_rgb, upright
from fastnst.inference.stylizer import DEFAULTS, Controls, Stylizer
from fastnst.models.net import Net

CELL = 384  # px, a cell's long side if no size is given
GAP = 8


class ContactSheet(Stylizer):
    """A Stylizer whose result is the sheet: the photograph, then it in each style of `net`, each with its name above.

    net, info, path: as `fastnst.checkpoint.load_net` gives them, and where from.
    """

    def __init__(self, net: Net, info: dict, path: str | Path):
        super().__init__((choose_style(net, info, path, next(iter(net.styles))), info))
        self.stylizers = {name: Stylizer((choose_style(net, info, path, name), info)) for name in net.styles}

    def __call__(
        self,
        image: Image.Image,
        size: int | None = None,
        controls: Controls = DEFAULTS,
        *,
        progress: Callable[[float], object] = lambda share: None,
        **changes: Any,
    ) -> Image.Image:
        """As `Stylizer` does; size: px of a cell's long side, CELL if left out."""
        controls = replace(controls, **changes)
        photograph = to_rgb(upright(image))
        if max(photograph.size) > (size or CELL):
            photograph = fit(photograph, size or CELL)
        pictures = [("photograph", photograph)]
        for done, (name, stylizer) in enumerate(self.stylizers.items(), 1):
            pictures.append((name, stylizer(photograph, controls=controls)))
            progress(done / len(self.stylizers))
        return in_rows(pictures)


def in_rows(pictures: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Named pictures, all of one size, in rows, about as wide as high, each below its name."""
    first = pictures[0][1]
    letters = max(10, min(first.size) // 16)
    font, label = ImageFont.load_default(letters), round(1.4 * letters)
    width, height = first.width + GAP, first.height + label + GAP
    columns = max(1, round(math.sqrt(len(pictures) * height / width)))
    sheet = Image.new("RGB", (columns * width + GAP, math.ceil(len(pictures) / columns) * height + GAP), "white")
    for number, (name, picture) in enumerate(pictures):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        written = Image.new("RGB", (first.width, label), "white")  # a long name ends with its cell
        ImageDraw.Draw(written).text((0, 0), name, fill="black", font=font)
        sheet.paste(written, (left, top))
        sheet.paste(picture, (left, top + label))
    return sheet
