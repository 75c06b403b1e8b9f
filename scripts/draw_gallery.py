"""Draws a sheet of paintings, each beside what its net makes of sample photographs.

    python scripts/draw_gallery.py docs/styles.jpg wave=wave.jpg base:mosaic=mosaic.jpg arbitrary:munch.jpg=munch.jpg
    python scripts/draw_gallery.py docs/held_out.jpg arbitrary=PAINTINGS columns=2 width=224 \
        photographs=astronaut,chelsea,rocket

One row for each CHECKPOINT=PAINTING, or CHECKPOINT:STYLE=PAINTING for a net of several styles or a zero-shot one. With a
folder for PAINTING there is one for each painting in it, by a zero-shot net.
"""

import sys
from pathlib import Path

from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastnst
from fastnst.commands.cli import one_line_errors
from fastnst.data.files import sample_photograph
from fastnst.errors import UserError
from fastnst.evaluation.pictures import find_paintings
from fastnst.images import check_suffix, load_rgb

LEAST = 22  # px of a picture's width: 16 px of its height

GAP = 8  # px
# columns: of paintings with their results. width: of a picture in px, at which photographs are restyled, so that strokes are
# seen as they come out; its height is three quarters of that.
OPTIONS = {"columns": "1", "width": "432", "photographs": "astronaut,chelsea"}


def find_rows(pairs: list[tuple[str, Path]]) -> list[tuple[str, str | Path | None, Path]]:
    """Checkpoint, style and painting of each row."""
    rows: list[tuple[str, str | Path | None, Path]] = []
    for name, path in pairs:
        checkpoint, _, style = name.partition(":")
        if path.is_dir():
            rows += [(checkpoint, painting, painting) for painting in find_paintings(path).values()]
        else:
            rows.append((checkpoint, style or None, path))
    return rows


def draw_gallery(pairs: list[tuple[str, Path]], columns: int, width: int, names: list[str]) -> Image.Image:
    """The sheet: photographs on top of each column, then painting and results, row by row.

    Raises UserError for a name that no sample photograph has.
    """
    cell = (width, width * 3 // 4)
    photographs = [ImageOps.fit(load_rgb(sample_photograph(name)), cell) for name in names]
    lines: list[list[Image.Image]] = []
    for checkpoint, style, painting in find_rows(pairs):
        net = fastnst.load(checkpoint, style=style)
        lines.append([ImageOps.fit(load_rgb(painting), cell), *map(net, photographs)])
    across, down = cell[0] + GAP, cell[1] + GAP
    rows, column = -(-len(lines) // columns), across * (1 + len(photographs))
    sheet = Image.new("RGB", (column * columns - GAP, down * (1 + rows) - GAP), "white")
    for left in range(0, column * columns, column):
        for i, picture in enumerate(photographs, 1):
            sheet.paste(picture, (left + i * across, 0))
    for number, line in enumerate(lines):
        for i, picture in enumerate(line):
            sheet.paste(picture, (number // rows * column + i * across, (1 + number % rows) * down))
    return sheet


def main(arguments: list[str]) -> None:
    """Raises UserError for arguments that cannot be used."""
    out, *rows = arguments or [""]
    given = [row.split("=", 1) for row in rows if "=" in row]
    options = OPTIONS | {name: value for name, value in given if name in OPTIONS}
    pairs = [(name, Path(value)) for name, value in given if name not in OPTIONS]
    columns, width = options["columns"], options["width"]
    if not pairs or len(given) < len(rows) or not (columns.isdecimal() and width.isdecimal()):
        raise UserError(f"give a file to write, and CHECKPOINT=PAINTING for each row; see the top of {__file__}")
    if int(columns) < 1 or int(width) < LEAST:
        raise UserError(f"columns={columns}, width={width}: give one column at least, and {LEAST} px")
    check_suffix(out)
    draw_gallery(pairs, int(columns), int(width), options["photographs"].split(",")).save(out, quality=88)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
