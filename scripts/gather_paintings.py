"""Gathers paintings into one zip for data.styles, each source a given number of times:

python scripts/gather_paintings.py paintings.zip painters/PeopleArt=2 painters/wikiart-224=1 artworks=20 except=held_out.txt

Each argument is a folder or a picture, and how often its pictures go into the zip: training should meet a source of better
scans, or one with few paintings, more often. `except` is a text file of paths, one a line, to leave out: paintings to
evaluate the net on. Larger pictures are reduced to a short side of SIZE px, more than training needs.
"""

import io
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastnst.data.files import find_photographs
from fastnst.errors import UserError
from fastnst.files import whole
from fastnst.images import load_rgb, short_side

SIZE = 400


def gather(out: Path, sources: dict[Path, int], held_out: set[str]) -> int:
    """Writes the zip. Returns the number of paintings in it. Raises UserError for what cannot be read."""
    count = 0
    with whole(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for source, times in sources.items():
            for path in [source] if source.is_file() else find_photographs(source):
                if any(f"/{Path(str(path)).as_posix()}".endswith(f"/{name}") for name in held_out):
                    continue
                image = load_rgb(path)
                image = short_side(image, SIZE) if min(image.size) > SIZE else image
                data = io.BytesIO()
                image.save(data, "JPEG", quality=92, subsampling=0)
                for number in range(times):
                    # Numbered, as pictures of two folders may have the same name.
                    archive.writestr(f"{source.stem}/{count + number:06d}_{Path(path.name).stem}.jpg", data.getvalue())
                count += times
    return count


def main() -> None:
    try:
        out, *arguments = sys.argv[1:]
        pairs = dict(argument.rsplit("=", 1) for argument in arguments)
        held_out = set(Path(pairs.pop("except")).read_text().splitlines()) - {""} if "except" in pairs else set()
        sources = {Path(source): int(times) for source, times in pairs.items()}
        print(f"{out}: {gather(Path(out), sources, held_out)} paintings")
    except (UserError, OSError, ValueError) as error:
        print(f"gather_paintings: {error}; see the top of {__file__}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
