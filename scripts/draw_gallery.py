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
from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.evaluation.pictures import find_paintings
from fastnst.images import load_rgb

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
    files = {path.stem: path for path in sample_photographs()[0] + sample_photographs()[1]}
    if unknown := [name for name in names if name not in files]:
        raise UserError(f"photographs={','.join(unknown)}: of scikit-image's samples there are {', '.join(sorted(files))}")
    photographs = [ImageOps.fit(load_rgb(files[name]), cell) for name in names]
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


def main() -> None:
    try:
        if len(sys.argv) < 3 or not all("=" in argument for argument in sys.argv[2:]):
            raise UserError("give a file to write, and CHECKPOINT=PAINTING for each row")
        out, *arguments = sys.argv[1:]
        given = [argument.split("=", 1) for argument in arguments]
        options = OPTIONS | {name: value for name, value in given if name in OPTIONS}
        pairs = [(name, Path(value)) for name, value in given if name not in OPTIONS]
        sheet = draw_gallery(pairs, int(options["columns"]), int(options["width"]), options["photographs"].split(","))
        sheet.save(out, quality=88)
    except (UserError, OSError, ValueError) as error:
        print(f"draw_gallery: {error}; see the top of {__file__}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
