"""Photographs for training and for validation: a folder of them, a zip, or the samples that scikit-image ships.

Every crop depends on the seed and on its position in the stream of training photographs alone, so that the number of
workers changes nothing and a resumed run sees what an uninterrupted one would have.
"""

import functools
import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from multiprocessing import get_start_method
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation

from fastnst.data.workers import Reading, note
from fastnst.errors import UserError
from fastnst.images import SUFFIXES, UNREADABLE, decode

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


class Zipped(NamedTuple):
    """A photograph in a zip, read in place: it stands where a Path does, and any process or thread may open it."""

    parent: Path  # the zip
    inside: str

    def __str__(self) -> str:
        return f"{self.parent}/{self.inside}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.inside).name

    def is_file(self) -> bool:
        return True

    def open(self, mode: str = "rb") -> io.BytesIO:
        """All its bytes, whose checksum is right. Raises OSError if they cannot be had."""
        try:
            return io.BytesIO(_opened(self.parent, os.getpid()).read(self.inside))
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError) as error:  # Runtime: unknown compression
            raise OSError(f"{self}: {error}") from None


Photograph = Path | Zipped


@functools.cache
def _opened(path: Path, process: int) -> zipfile.ZipFile:
    # Of its own for each process, as those that are forked would move one another's position in the file.
    return zipfile.ZipFile(path)


def find_photographs(root: str | Path) -> list[Photograph]:
    """All jpg, jpeg, png and webp files below the folder `root` or in the zip `root`, sorted.

    Raises UserError if it is neither, has none in it, or is a zip that cannot be read.
    """
    root = Path(root).expanduser()
    if root.is_file():
        paths = _find_in_zip(root)
    elif root.is_dir():
        paths = []
        for folder, subfolders, names in os.walk(root, followlinks=True):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            paths += [Path(folder, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        paths.sort()
    else:
        raise UserError(f"{root}: no such folder; give data.root=/path/of/photographs, or a zip of them")
    if not paths:
        raise UserError(f"{root}: no photographs ({', '.join(SUFFIXES)}) in it or below it")
    return paths


def _find_in_zip(root: Path) -> list[Zipped]:
    try:
        with zipfile.ZipFile(root) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"{root}: neither a folder nor a whole zip ({error}); give photographs, or fetch it again") from None
    names = [n for n in members if n.lower().endswith(SUFFIXES) and not n.startswith(".") and "/." not in n]
    if any(members[name].flag_bits & 1 for name in names):
        raise UserError(f"{root}: its photographs are encrypted; unpack it with the password, and give the folder")
    return [Zipped(root, name) for name in sorted(names, key=lambda name: name.split("/"))]  # as paths are sorted


def crop(path: Photograph, side: float, across: float, down: float, flip: bool, size: int) -> Tensor:
    """One square crop of a photograph as float32 (3, size, size) in 0-1.

    side: the crop's side as a fraction of the photograph's short side; across, down: where it lies in what is left, 0-1.
    Raises OSError, ValueError or SyntaxError (from Pillow) if the file is not a whole picture.
    """
    with path.open("rb") as file:
        pixels = decode(file.read(), size / side)
    height, width, _ = pixels.shape
    edge = max(1, round(side * min(height, width)))
    top, left = round(down * (height - edge)), round(across * (width - edge))
    square = torch.from_numpy(pixels[top : top + edge, left : left + edge]).permute(2, 0, 1).unsqueeze(0)
    # On bytes torch's resampling is several times as fast as Pillow's.
    square = F.interpolate(square, (size, size), mode="bicubic", antialias=True)[0].float().div_(255)
    return square.flip(-1) if flip else square


def draw(scale: tuple[float, float], seed: tuple[int, ...]) -> tuple[float, float, float, bool]:
    """`crop`'s side, across, down and flip, by chance. scale: smallest and largest side; seed: whole numbers from 0."""
    low, high = scale
    random = np.random.default_rng(seed).random(4)
    return low + (high - low) * random[0], random[1], random[2], random[3] < 0.5


class Photographs(Dataset):
    """Square crops of photographs. Indexed by (position in the stream, index of the photograph).

    paths: the files. size: px. seed: with the position, decides the crop.
    scale: smallest and largest side of a crop, as fractions of the photograph's short side; (1, 1) with no `seed` gives
    the same centred crop, unflipped, every time.

    An item is {"image": float32 (3, size, size) RGB in 0-1, "bad": [paths that could not be read]}: in place of a file
    that is not a whole picture comes the next one that is. Raises UserError if none is.
    """

    def __init__(self, paths: list[Photograph], size: int, scale: tuple[float, float] = (1, 1), seed: int | None = None):
        self.paths, self.size, self.scale, self.seed = paths, size, scale, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, int]) -> dict:
        position, index = item
        bad = []
        for offset in range(len(self.paths)):
            path = self.paths[(index + offset) % len(self.paths)]
            note(path)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow's, on odd but readable metadata
                    return {"image": crop(path, *self._draw(position), self.size), "bad": bad}
            except UNREADABLE:
                bad.append(str(path))
        raise UserError(f"none of the {len(self.paths)} files in {self.paths[0].parent} can be read as a photograph")

    def _draw(self, position: int) -> tuple[float, float, float, bool]:
        if self.seed is None:
            return 1.0, 0.5, 0.5, False
        return draw(self.scale, (self.seed, 0, position))


class Paintings(Photographs):
    """Square crops of paintings in varied colours, so that few paintings teach many palettes.

    Hue is turned by any angle for every second one; saturation, contrast and brightness vary for all.
    """

    def __getitem__(self, item: tuple[int, int]) -> dict:
        crop = super().__getitem__(item)
        hue, saturation, contrast, brightness = np.random.default_rng((self.seed, 2, item[0])).random(4).tolist()
        image = adjust_hue(crop["image"], 2 * hue - 0.5) if hue < 0.5 else crop["image"]
        image = adjust_contrast(adjust_saturation(image, 0.5 + saturation), 0.75 + 0.5 * contrast)
        return crop | {"image": adjust_brightness(image, 0.75 + 0.5 * brightness)}


class Stream(Sampler):
    """The run's photographs in order: one seeded permutation after another, of which rank r takes every world-th.

    photographs, total: how many there are, and how many positions the whole run has over all ranks.
    start: the first position, in a resumed run. The length stays that of the whole run, as Lightning counts it.
    """

    def __init__(self, photographs: int, total: int, seed: int, start: int = 0, rank: int = 0, world: int = 1):
        self.photographs, self.total, self.seed = photographs, total, seed
        self.start, self.rank, self.world = start, rank, world

    def __len__(self) -> int:
        return self.total // self.world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, order = -1, []
        for position in range(self.start + self.rank, self.total, self.world):
            if position // self.photographs != epoch:
                epoch = position // self.photographs
                order = np.random.default_rng((self.seed, 1, epoch)).permutation(self.photographs).tolist()
            yield position, order[position % self.photographs]


def collate(items: list[dict]) -> dict:
    """Stacks the pictures of a batch, (N, 3, H, W), and joins its lists of bad files."""
    return {"image": torch.stack([i["image"] for i in items]), "bad": [path for i in items for path in i["bad"]]}


class CropData(pl.LightningDataModule):
    """What the kinds of data share: their crops' arguments, their loaders, the validation.

    val_paths: the held-out photographs. size: side of the crops in px. scale: see `Photographs`. batch_size: per device.
    seed: of the order and the crops. workers: decoding processes; None takes one for each core that is left, at most 8.
    styles: a folder or a zip of paintings, for a net of any painting.
    """

    def __init__(
        self,
        val_paths: list[Photograph],
        size: int = 256,
        scale: tuple[float, float] = (0.5, 1.0),
        batch_size: int = 4,
        seed: int = 0,
        workers: int | None = None,
        styles: str | None = None,
    ):
        super().__init__()
        self.paintings = [] if styles is None else find_photographs(styles)
        if self.paintings and not any(map(is_readable, self.paintings)):
            raise UserError(f"data.styles={styles}: none of the files can be read as a painting")
        self.val_paths, self.size, self.scale, self.batch_size, self.seed = val_paths, size, tuple(scale), batch_size, seed
        self.workers = min(8, max(1, cores() - 1)) if workers is None else workers
        self.reading = Reading(self.workers)
        self.painting_batches: Iterator[dict] | None = None

    def train_loader(self, dataset: Dataset, sampler: Sampler | None = None) -> DataLoader:
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            worker_init_fn=self.reading.start_worker,
            # A fork server, Linux's default from Python 3.14, would be ended by a job's signals, and its workers with it.
            multiprocessing_context="fork" if self.workers and get_start_method() == "forkserver" else None,
            pin_memory=torch.cuda.is_available(),
        )

    def stream(self, count: int, seed: int) -> Stream:
        """The whole run's order of `count` pictures, from the step that the run is at."""
        trainer = self.trainer
        per_step = self.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        return Stream(
            count,
            total=trainer.max_steps * per_step,
            seed=seed,
            start=trainer.global_step * per_step,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )

    def next_paintings(self) -> dict:
        """A painting for each photograph of the next training batch. Raises UserError if there are none."""
        if self.painting_batches is None:
            crops = self._painting_crops()
            self.painting_batches = iter(self.train_loader(crops, self.stream(len(crops), crops.seed)))
        return next(self.painting_batches)

    def some_paintings(self, count: int = 512) -> DataLoader:
        """Batches of paintings as training sees them, the same ones in every process. Raises UserError if there are none."""
        crops = self._painting_crops()
        return self.train_loader(crops, Stream(len(crops), count, crops.seed + 1))

    def _painting_crops(self) -> Paintings:
        if not self.paintings:
            raise UserError("a net of any painting learns from many: give data.styles=/folder/of/paintings")
        return Paintings(self.paintings, self.size, self.scale, self.seed + 1)  # another order than that of the photographs

    def teardown(self, stage: str) -> None:
        # Python ends processes that are left over by SIGTERM, and these answer to no signal (fastnst.data.workers).
        if self.painting_batches is not None and self.workers:
            self.painting_batches._shutdown_workers()
        self.painting_batches = None

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    def val_dataloader(self) -> DataLoader:
        photographs = Photographs(self.val_paths, self.size)
        order = [(0, index) for index in range(len(photographs))]
        return DataLoader(photographs, 1, sampler=order, collate_fn=collate)


class PhotoData(CropData):
    """Training crops and fixed held-out photographs.

    root: a folder or a zip (any tree of jpg, jpeg, png, webp), or None for scikit-image's samples.
    val_root: the same, to validate on; None holds out `val_count` photographs of `root`, the same ones in every run.
    arguments: see `CropData`.
    """

    def __init__(
        self,
        root: str | None = None,
        val_root: str | None = None,
        val_count: int = 8,
        **arguments,
    ):
        train_paths, val_paths = sample_photographs() if root is None else split(find_photographs(root), val_count, val_root)
        super().__init__(val_paths, **arguments)
        self.train_paths = train_paths
        for paths in (train_paths, val_paths):
            if not any(map(is_readable, paths)):
                raise UserError(f"{paths[0].parent if paths else root}: none of the files can be read as a photograph")

    def train_dataloader(self) -> DataLoader:
        photographs = Photographs(self.train_paths, self.size, self.scale, self.seed)
        return self.train_loader(photographs, self.stream(len(photographs), self.seed))


def split(paths: list[Photograph], val_count: int, val_root: str | None) -> tuple[list[Photograph], list[Photograph]]:
    """Training and validation photographs. Raises UserError if fewer than two are there to be split."""
    if val_root is not None:
        return paths, find_photographs(val_root)[:val_count]
    if len(paths) < 2:
        raise UserError(f"{paths[0].parent}: one photograph to train on and one to hold out are the least; add another")
    held_out = set()
    for index in np.random.default_rng(0).permutation(len(paths)).tolist():
        if len(held_out) == min(val_count, max(1, len(paths) // 10)):
            break
        if is_readable(paths[index]):
            held_out.add(index)
    return [p for i, p in enumerate(paths) if i not in held_out], [paths[i] for i in sorted(held_out)]


def cores() -> int:
    """The cores that this process may run on: of a shared machine, a job has only some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_readable(path: Photograph) -> bool:
    """Whether the file is a whole picture."""
    try:
        crop(path, 1.0, 0.5, 0.5, False, 16)
    except UNREADABLE:
        return False
    return True
