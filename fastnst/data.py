"""Photographs for training and for validation: a folder of them, or the samples that scikit-image ships.

Every crop depends on the seed and on its position in the stream of training photographs alone, so that the number of
workers changes nothing and a resumed run sees what an uninterrupted one would have.
"""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

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


def find_photographs(root: str | Path) -> list[Path]:
    """All jpg, jpeg, png and webp files below `root`, sorted. Raises UserError if there is no such folder or none in it."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give data.root=/path/of/photographs")
    paths = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths += [Path(folder, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    if not paths:
        raise UserError(f"{root}: no photographs ({', '.join(SUFFIXES)}) in it or below it")
    return sorted(paths)


def crop(path: Path, side: float, across: float, down: float, flip: bool, size: int) -> Tensor:
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


class Photographs(Dataset):
    """Square crops of photographs. Indexed by (position in the stream, index of the photograph).

    paths: the files. size: px. seed: with the position, decides the crop.
    scale: smallest and largest side of a crop, as fractions of the photograph's short side; (1, 1) with no `seed` gives
    the same centred crop, unflipped, every time.

    An item is {"image": float32 (3, size, size) RGB in 0-1, "bad": [paths that could not be read]}: in place of a file
    that is not a whole picture comes the next one that is. Raises UserError if none is.
    """

    def __init__(self, paths: list[Path], size: int, scale: tuple[float, float] = (1, 1), seed: int | None = None):
        self.paths, self.size, self.scale, self.seed = paths, size, scale, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, int]) -> dict:
        position, index = item
        bad = []
        for offset in range(len(self.paths)):
            path = self.paths[(index + offset) % len(self.paths)]
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
        low, high = self.scale
        random = np.random.default_rng((self.seed, 0, position)).random(4)
        return low + (high - low) * random[0], random[1], random[2], random[3] < 0.5


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


class PhotoData(pl.LightningDataModule):
    """Training crops and fixed held-out photographs.

    root: a folder (any tree of jpg, jpeg, png, webp), or None for scikit-image's samples.
    val_root: a folder to validate on; None holds out `val_count` photographs of `root`, the same ones in every run.
    size: side of the crops in px. scale: see `Photographs`. batch_size: per device. seed: of the order and the crops.
    workers: decoding processes; None takes one for each core that is left, at most 8.
    """

    def __init__(
        self,
        root: str | None = None,
        val_root: str | None = None,
        val_count: int = 8,
        size: int = 256,
        scale: tuple[float, float] = (0.5, 1.0),
        batch_size: int = 4,
        seed: int = 0,
        workers: int | None = None,
    ):
        super().__init__()
        if root is None:
            self.train_paths, self.val_paths = sample_photographs()
        else:
            self.train_paths, self.val_paths = split(find_photographs(root), val_count, val_root)
        self.size, self.scale, self.batch_size, self.seed = size, tuple(scale), batch_size, seed
        self.workers = min(8, max(1, (os.cpu_count() or 1) - 1)) if workers is None else workers
        for paths in (self.train_paths, self.val_paths):
            if not any(map(is_readable, paths)):
                raise UserError(f"{paths[0].parent if paths else root}: none of the files can be read as a photograph")

    def train_dataloader(self) -> DataLoader:
        trainer = self.trainer
        photographs = Photographs(self.train_paths, self.size, self.scale, self.seed)
        per_step = self.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        stream = Stream(
            len(photographs),
            total=trainer.max_steps * per_step,
            seed=self.seed,
            start=trainer.global_step * per_step,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        return DataLoader(
            photographs,
            self.batch_size,
            sampler=stream,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader:
        photographs = Photographs(self.val_paths, self.size)
        order = [(0, index) for index in range(len(photographs))]
        return DataLoader(photographs, 1, sampler=order, collate_fn=collate)


def split(paths: list[Path], val_count: int, val_root: str | None) -> tuple[list[Path], list[Path]]:
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


def is_readable(path: Path) -> bool:
    """Whether the file is a whole picture."""
    try:
        crop(path, 1.0, 0.5, 0.5, False, 16)
    except UNREADABLE:
        return False
    return True
