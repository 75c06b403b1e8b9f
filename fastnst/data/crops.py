"""Crops of photographs and of paintings, and the order that they come in.

A crop depends only on the seed and on its position in the stream of training photographs. So the number of workers changes
nothing, and a resumed run sees what an uninterrupted one would have.
"""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation

from fastnst.data.files import Photograph
from fastnst.data.workers import note
from fastnst.errors import UserError
from fastnst.images import UNREADABLE, decode


def crop(path: Photograph, side: float, across: float, down: float, flip: bool, size: int) -> Tensor:
    """One square crop of a photograph as float32 (3, size, size) in 0-1.

    side: the crop's side as a fraction of the photograph's short side; across, down: where it lies in what is left, 0-1.
    Raises one of UNREADABLE if the file is not a whole picture.
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
    """Random arguments of `crop`: side, across, down and flip. scale: smallest and largest side. seed: numbers from 0."""
    low, high = scale
    random = np.random.default_rng(seed).random(4)
    return low + (high - low) * random[0], random[1], random[2], random[3] < 0.5


# Crops of paintings are larger than those of photographs: from an enlarged painting a net learns blurred strokes.
PAINTING_SCALE = (0.7, 1.0)


class Photographs(Dataset):
    """Square crops of photographs. Indexed by (position in the stream, index of the photograph).

    paths: the files. size: px. seed: with the position, decides the crop.
    scale: smallest and largest side of a crop, as fractions of the photograph's short side; (1, 1) with no `seed` gives
    the same centred crop, unflipped, every time.

    An item is {"image": float32 (3, size, size) RGB in 0-1, "bad": [paths that could not be read]}: in place of a file
    that is not a whole picture comes the next one that is. Raises UserError if none is.
    """

    def __init__(self, paths: Sequence[Photograph], size: int, scale: tuple[float, float] = (1, 1), seed: int | None = None):
        self.paths, self.size, self.scale, self.seed = paths, size, scale, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, int]) -> dict:
        position, index = item
        bad: list[str] = []
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

    seed: int

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
