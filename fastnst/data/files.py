"""Photographs as files: a folder of them, a zip, or the samples that scikit-image ships."""

import functools
import io
import itertools
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from fastnst.errors import UserError, is_whole
from fastnst.images import SUFFIXES, UNREADABLE, decode

MOST_BYTES = 256_000_000  # of a photograph's file in a zip
# scikit-image's photographs. The two that validate are never trained on; motorcycle_right, nearly the same picture as
# motorcycle_left, stands on the training side with it.
SAMPLES_TRAIN = (
    "astronaut.png", "camera.png", "coffee.png", "motorcycle_left.png", "motorcycle_right.png", "coins.png",
    "hubble_deep_field.jpg", "moon.png", "brick.png", "grass.png", "gravel.png", "ihc.png",
)  # fmt: skip
SAMPLES_VAL = ("chelsea.png", "rocket.jpg")


def sample_photographs() -> tuple[list[Path], list[Path]]:
    """Paths of the training and of the held-out sample photographs. Raises UserError if scikit-image is not installed."""
    try:
        import skimage
    except ImportError:
        raise UserError(
            "data=samples needs scikit-image: pip install 'fastnst[samples]', or give data=folder data.root=/path"
        ) from None
    folder = Path(skimage.__file__).parent / "data"
    train, val = ([folder / name for name in names] for names in (SAMPLES_TRAIN, SAMPLES_VAL))
    for path in (*train, *val):
        if not path.is_file():
            raise UserError(f"{path} is missing from scikit-image; install the version that constraints.txt names")
    return train, val


def sample_photograph(name: str) -> Path:
    """The path of a sample photograph, such as `chelsea`. Raises UserError, with the names that there are, for another."""
    files = {path.stem: path for paths in sample_photographs() for path in paths}
    if name not in files:
        raise UserError(f"photograph={name}: of scikit-image's samples there are {', '.join(sorted(files))}")
    return files[name]


class Zipped(NamedTuple):
    """A photograph in a zip, read in place: it stands where a Path does, and any process or thread may open it."""

    parent: Path  # the zip
    inside: str

    def __str__(self) -> str:
        return f"{self.parent}/{self.inside}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.inside).name

    def open(self, mode: str = "rb") -> io.BytesIO:
        """All its bytes, whose checksum is right. Raises OSError if they cannot be had, or are more than MOST_BYTES."""
        data = io.BytesIO()
        try:
            with _opened(self.parent, os.getpid()).open(self.inside) as member:
                # Piece by piece, as a few bytes can unpack to gigabytes, whatever the zip says of them.
                while data.tell() <= MOST_BYTES and (piece := member.read(1 << 14)):
                    data.write(piece)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError) as error:  # Runtime: unknown compression
            raise OSError(f"{self}: {error}") from None
        if data.tell() > MOST_BYTES:
            raise OSError(f"{self}: unpacks to more than {MOST_BYTES / 1e6:.0f} MB")
        data.seek(0)
        return data


class Loaded(NamedTuple):
    """A photograph whose bytes are in memory; it stands where a Path does."""

    parent: str  # the shard
    name: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.parent}: {self.name}"

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.data)


Photograph = Path | Zipped | Loaded


@functools.cache
def _opened(path: Path, process: int) -> zipfile.ZipFile:
    # Of its own for each process, as those that are forked would move one another's position in the file.
    return zipfile.ZipFile(path)


def find_photographs(root: str | Path) -> list[Photograph]:
    """All jpg, jpeg, png and webp files below the folder `root` or in the zip `root`, sorted.

    Links are followed, to each folder once and to regular files alone.
    Raises UserError if it is neither, has none in it, or is a zip that cannot be read.
    """
    root = Path(root).expanduser()
    if root.is_file():
        paths = _find_in_zip(root)
    elif root.is_dir():
        paths = [*sorted(_find_below(root))]
    else:
        raise UserError(f"{root}: no such folder; give data.root=/path/of/photographs, or a zip of them")
    if not paths:
        raise UserError(f"{root}: no photographs ({', '.join(SUFFIXES)}) in it or below it")
    return paths


def _find_below(root: Path) -> Iterator[Path]:
    waiting, visited = [root], set()
    while waiting:
        # Links to folders wait until all else is found, so that a photograph has its own path.
        for folder, subfolders, names in os.walk(waiting.pop(0)):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                subfolders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            waiting += [Path(folder, name) for name in subfolders if Path(folder, name).is_symlink()]
            paths = (Path(folder, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))
            yield from filter(Path.is_file, paths)


def _find_in_zip(root: Path) -> list[Photograph]:
    try:
        with zipfile.ZipFile(root) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"{root}: neither a folder nor a whole zip ({error}); give photographs, or fetch it again") from None
    names = [n for n in members if n.lower().endswith(SUFFIXES) and not n.startswith(".") and "/." not in n]
    if any(members[name].flag_bits & 1 for name in names):
        raise UserError(f"{root}: its photographs are encrypted; unpack it with the password, and give the folder")
    return [Zipped(root, name) for name in sorted(names, key=lambda name: name.split("/"))]  # as paths are sorted


def first_readable(root: str | Path, count: int | None = None) -> list[Photograph]:
    """The first `count` of `find_photographs` that are whole pictures; None: all. Raises UserError if none is."""
    paths = list(itertools.islice(filter(is_readable, find_photographs(root)), count))
    if not paths:
        raise UserError(f"{root}: none of the files can be read as a picture")
    return paths


def split(
    paths: Sequence[Photograph], val_count: int, val_root: str | None
) -> tuple[Sequence[Photograph], Sequence[Photograph]]:
    """Training and validation photographs: none is both, even where `val_root` lies inside the folder of the others.

    Raises UserError if fewer than two are there to be split, if `val_root` has them all, or for a `val_count` of none.
    """
    if not is_whole(val_count, 1):
        raise UserError(f"data.val_count={val_count}: give a whole number from 1")
    if val_root is not None:
        val_paths = find_photographs(val_root)
        kept_aside = {_identity(path) for path in val_paths}
        train_paths = [path for path in paths if _identity(path) not in kept_aside]
        if not train_paths:
            raise UserError(f"data.val_root={val_root}: it has every photograph of data.root; give photographs of its own")
        return train_paths, val_paths[:val_count]
    if len(paths) < 2:
        raise UserError(f"{paths[0].parent}: one photograph to train on and one to hold out are the least; add another")
    held_out: set[int] = set()
    for index in np.random.default_rng(0).permutation(len(paths)).tolist():
        if len(held_out) == min(val_count, max(1, len(paths) // 10)):
            break
        if is_readable(paths[index]):
            held_out.add(index)
    return [p for i, p in enumerate(paths) if i not in held_out], [paths[i] for i in sorted(held_out)]


def _identity(path: Photograph) -> object:
    """Equal for two names of one file, by whatever links."""
    if not isinstance(path, Path):
        return path
    status = path.stat()
    return status.st_dev, status.st_ino


def is_readable(path: Photograph) -> bool:
    """Whether the file is a whole picture."""
    try:
        with path.open("rb") as file:
            decode(file.read(), 16)
    except UNREADABLE:
        return False
    return True
