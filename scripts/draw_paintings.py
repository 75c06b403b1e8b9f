"""Draws synthetic paintings for data.styles: python scripts/draw_paintings.py FOLDER COUNT [PHOTOGRAPHS]

Each number is one painting, the same in every run with the same photographs. Existing files are kept. With photographs, in
a folder or a zip, every second painting is made after one of them.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

from fastnst.commands.cli import one_line_errors  # noqa: E402
from fastnst.data.files import Photograph, find_photographs  # noqa: E402
from fastnst.data.synthetic import draw  # noqa: E402
from fastnst.data.workers import cores  # noqa: E402
from fastnst.errors import UserError  # noqa: E402
from fastnst.files import check_writable  # noqa: E402
from fastnst.images import load_rgb, save  # noqa: E402


def paint(folder: Path, photographs: list[Photograph], number: int) -> None:
    """Writes one painting, unless it is there. Raises UserError for a photograph that cannot be read."""
    path = folder / f"{number:05}.jpg"
    if path.exists():
        return
    photograph = load_rgb(photographs[number // 2 % len(photographs)]) if photographs and number % 2 else None
    save(draw(number, photograph=photograph), path)


def main(arguments: list[str]) -> None:
    """Raises UserError for arguments that cannot be used."""
    if len(arguments) not in (2, 3) or not arguments[1].isdecimal():
        raise UserError(__doc__.splitlines()[0])
    folder, count = Path(arguments[0]), int(arguments[1])
    photographs = find_photographs(arguments[2]) if len(arguments) == 3 else []
    check_writable(folder, "FOLDER")
    with ProcessPoolExecutor(cores()) as pool:
        for _ in tqdm(
            pool.map(partial(paint, folder, photographs), range(count), chunksize=4), total=count, unit="painting"
        ):
            pass


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
