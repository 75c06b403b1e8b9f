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
from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.images import SUFFIXES, load_rgb

CELL = (384, 288)  # px; the photograph is restyled at this size, so that strokes are seen as they come out
GAP, LABEL = 8, 22
DIALS = {"style_size": "96,176,256,400", "style_weight": "0.34,0.6,1,3", "strength": "0.25,0.5,0.75,1"}


def draw_dials(source: str, photograph: str, dials: dict[str, str]) -> Image.Image:
    """The sheet: the painting or the photograph, then a row of results for each dial.

    Raises UserError for a photograph or a checkpoint that is not there.
    """
    files = {path.stem: path for path in sample_photographs()[0] + sample_photographs()[1]}
    if photograph not in files:
        raise UserError(f"photograph={photograph}: of scikit-image's samples there are {', '.join(sorted(files))}")
    picture = ImageOps.fit(load_rgb(files[photograph]), CELL)
    is_painting = Path(source).suffix.lower() in SUFFIXES
    net = fastnst.load("arbitrary", style=source) if is_painting else fastnst.load(source)
    rows = {dial: values.split(",") for dial, values in dials.items()}
    width, height = CELL[0] + GAP, CELL[1] + LABEL + GAP
    sheet = Image.new("RGB", (width * (1 + max(map(len, rows.values()))) - GAP, height * len(rows) - GAP), "white")
    label = ImageDraw.Draw(sheet)
    sheet.paste(ImageOps.fit(load_rgb(source), CELL) if is_painting else picture, (0, LABEL))
    for down, (dial, values) in enumerate(rows.items()):
        for across, value in enumerate(values, 1):
            label.text((across * width, down * height), f"{dial}={value}", fill="black", font=ImageFont.load_default(18))
            number = float(value)
            turned: dict[str, Any] = {dial: int(number) if number.is_integer() else number}
            result = net(picture, **turned)
            sheet.paste(result, (across * width, down * height + LABEL))
    return sheet


def main() -> None:
    try:
        if len(sys.argv) < 3 or not all("=" in argument for argument in sys.argv[3:]):
            raise UserError("give a file to write, a painting or a checkpoint, and DIAL=VALUES")
        out, source, *arguments = sys.argv[1:]
        options = dict(argument.split("=", 1) for argument in arguments)
        photograph = options.pop("photograph", "chelsea")
        draw_dials(source, photograph, options or DIALS).save(out, quality=88)
    except (UserError, OSError, TypeError, ValueError) as error:
        print(f"draw_dials: {error}; see the top of {__file__}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
