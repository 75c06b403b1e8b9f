"""Puts together the paintings that Debian's gcompris-qt-data holds as puzzles. painters was trained on 18 of them.

apt-get download gcompris-qt-data && dpkg -x gcompris-qt-data_*.deb puzzles
python scripts/gather_puzzles.py puzzles/usr/share/gcompris-qt/rcc/paintings.rcc paintings/

It writes a PNG for each, named after the pieces. paintings.rcc is a binary resource file of Qt: a tree of names, and the
files' contents.
"""

import io
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

GRAY = (128, 128, 128)  # between the pieces of a puzzle that leave gaps
MARGIN = 50  # px, for pieces that lie partly beside the board
FOLDER, DEFLATED = 2, 1  # flags of Qt's tree


def resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Each file's path in a resource file of Qt (version 2 or 3, as its compiler rcc writes it), and what it holds."""
    if data[:4] != b"qres":
        raise ValueError("no resource file of Qt")
    _, tree, contents, names = struct.unpack_from(">4I", data, 4)

    def walk(node: int, folder: str) -> Iterator[tuple[str, bytes]]:
        name, flags, first, second = struct.unpack_from(">IHII", data, tree + 22 * node)
        (length,) = struct.unpack_from(">H", data, names + name)
        path = folder + data[names + name + 6 :][: 2 * length].decode("utf-16-be")
        if flags & FOLDER:
            for child in range(second, second + first):
                yield from walk(child, f"{path}/" if node else "")
            return
        (size,) = struct.unpack_from(">I", data, contents + second)
        content = data[contents + second + 4 :][:size]
        yield path, zlib.decompress(content[4:]) if flags & DEFLATED else content

    return walk(0, "")


def assemble(board: str, pieces: dict[str, bytes]) -> tuple[str, Image.Image] | None:
    """A puzzle's name and picture; None if it has no pieces. board: where each piece's centre is, in shares of the board."""
    size = re.search(r'"width"\s*:\s*(\d+),\s*"height"\s*:\s*(\d+)', board)
    placed = re.findall(r'image/([^"]*\.webp)",\s*"x"\s*:\s*"([\d.]+)",\s*"y"\s*:\s*"([\d.]+)"', board)
    if not size or not placed:
        return None
    width, height = int(size[1]), int(size[2])
    picture = Image.new("RGBA", (width + 2 * MARGIN, height + 2 * MARGIN))
    for file, x, y in placed:
        piece = Image.open(io.BytesIO(pieces[file])).convert("RGBA")
        left, top = round(float(x) * width - piece.width / 2), round(float(y) * height - piece.height / 2)
        picture.alpha_composite(piece, (max(0, left + MARGIN), max(0, top + MARGIN)))
    picture = picture.crop(picture.getbbox())
    whole = Image.new("RGB", picture.size, GRAY)
    whole.paste(picture, mask=picture.getchannel("A"))
    return re.sub(r"[_-][a-z]?\d+$", "", Path(placed[0][0]).stem), whole


def main() -> None:
    try:
        source, out = map(Path, sys.argv[1:])
        files = {path.rsplit("/", 1)[-1]: content for path, content in resources(source.read_bytes())}
        found = [assemble(content.decode(), files) for name, content in files.items() if re.fullmatch(r"board.*\.qml", name)]
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in filter(None, found):
            picture.save(out / f"{name}.png")
            print(out / f"{name}.png", *picture.size)
    except (OSError, ValueError, struct.error, zlib.error, KeyError) as error:
        print(f"gather_puzzles: {error!r}; see the top of {__file__}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
