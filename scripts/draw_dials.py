"""Draws what dials of inference do to a sample photograph:

    python scripts/draw_dials.py docs/dials.jpg painting.jpg
    python scripts/draw_dials.py docs/brushwork.jpg starry_night photograph=rocket brushwork=0,6,12

A painting stands for the zero-shot net and its style, any other name or file is a checkpoint. One row for each dial. Unless
dials are given, they are the zero-shot net's.
"""

import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastnst
from fastnst.commands.cli import one_line_errors
from fastnst.data.files import sample_photograph
from fastnst.errors import UserError
from fastnst.images import SUFFIXES, check_suffix, load_rgb
from fastnst.inference.stylizer import Controls

CELL = (384, 288)  # px; the photograph is restyled at this size, so that strokes are seen as they come out
GAP, LABEL = 8, 22
DIALS = {"style_size": "96,176,256,400", "style_weight": "0.34,0.6,1,3", "strength": "0.25,0.5,0.75,1"}


def draw_dials(source: str, photograph: str, dials: dict[str, str]) -> Image.Image:
    """The sheet: the painting or the photograph, then a row of results for each dial.

    Raises UserError for a photograph or a checkpoint that is not there.
    """
    picture = ImageOps.fit(load_rgb(sample_photograph(photograph)), CELL)
    is_painting = Path(source).suffix.lower() in SUFFIXES
    net = fastnst.load("arbitrary", style=source) if is_painting else fastnst.load(source)
    rows = {dial: numbers(dial, values) for dial, values in dials.items()}
    width, height = CELL[0] + GAP, CELL[1] + LABEL + GAP
    sheet = Image.new("RGB", (width * (1 + max(map(len, rows.values()))) - GAP, height * len(rows) - GAP), "white")
    label = ImageDraw.Draw(sheet)
    sheet.paste(ImageOps.fit(load_rgb(source), CELL) if is_painting else picture, (0, LABEL))
    for down, (dial, values) in enumerate(rows.items()):
        for across, value in enumerate(values, 1):
            label.text((across * width, down * height), f"{dial}={value}", fill="black", font=ImageFont.load_default(18))
            turned: dict[str, Any] = {dial: value}
            sheet.paste(net(picture, **turned), (across * width, down * height + LABEL))
    return sheet


def numbers(dial: str, values: str) -> list[int | float]:
    """The values of a dial. Raises UserError for what is no dial, or no numbers."""
    try:
        if dial in Controls.__dataclass_fields__:
            return [int(value) if value.isdecimal() else float(value) for value in values.split(",")]
    except ValueError:
        pass
    raise UserError(f"{dial}={values}: give a dial of scripts/infer.py with numbers, such as brushwork=0,6,12")


def main(arguments: list[str]) -> None:
    """Raises UserError for arguments that cannot be used."""
    if len(arguments) < 2 or not all("=" in argument for argument in arguments[2:]):
        raise UserError(f"give a file to write, a painting or a checkpoint, and DIAL=VALUES; see the top of {__file__}")
    out, source, *given = arguments
    options = dict(argument.split("=", 1) for argument in given)
    photograph = options.pop("photograph", "chelsea")
    check_suffix(out)
    draw_dials(source, photograph, options or DIALS).save(out, quality=88)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
