"""Draws paintings by chance, for data.styles: python scripts/draw_paintings.py FOLDER COUNT [PHOTOGRAPHS]

Each number is one painting, the same in every run; those that are there are kept. With a folder of photographs every second
one is painted after one of them.
"""

import io
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from artworks.anything import draw  # noqa: E402
from fastnst.data import find_photographs  # noqa: E402
from fastnst.errors import UserError  # noqa: E402
from fastnst.images import write_bytes  # noqa: E402


def paint(folder: Path, photographs: list, number: int) -> None:
    """Writes one painting, unless it is there."""
    path = folder / f"{number:05}.jpg"
    if path.exists():
        return
    photograph = None
    if photographs and number % 2:
        with photographs[number // 2 % len(photographs)].open("rb") as file:
            photograph = Image.open(file).convert("RGB")
    data = io.BytesIO()
    draw(number, photograph=photograph).save(data, "JPEG", quality=92)
    write_bytes(path, data.getvalue())


def refuse(why: object) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(2)


def main() -> None:
    try:
        folder, count, *root = sys.argv[1:]
        photographs, numbers = find_photographs(*root) if root else [], range(int(count))
        Path(folder).mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError):
        refuse(__doc__.splitlines()[0])
    except (UserError, OSError) as error:
        refuse(error)
    with ProcessPoolExecutor() as pool:
        painted = pool.map(partial(paint, Path(folder), photographs), numbers, chunksize=4)
        for _ in tqdm(painted, total=len(numbers), unit="painting"):
            pass


if __name__ == "__main__":
    main()
