"""The paintings and photographs of an evaluation."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fastnst.data.files import Photograph, first_readable, sample_photographs
from fastnst.errors import UserError
from fastnst.images import fit, load_rgb, to_tensor

LEAST = 64  # px; below it the figures say nothing


def find_paintings(folder: Path) -> dict[str, Path]:
    """The readable pictures in and below a folder, by their names without suffix.

    Raises UserError if there are none, or two of one name.
    """
    if not folder.is_dir():
        raise UserError(f"paintings={folder}: no such folder")
    paintings: dict[str, Path] = {}
    for file in first_readable(folder):
        assert isinstance(file, Path)  # in a folder, not in a zip
        if paintings.setdefault(file.stem, file) != file:
            raise UserError(f"paintings={folder}: two files are called {file.stem}; give each painting a name of its own")
    return paintings


def choose_photographs(root: Path | None, count: int) -> Sequence[Photograph]:
    """The first `count` readable photographs by name in a folder or zip; None: of the held-out samples.

    Raises UserError if there are none.
    """
    return sample_photographs()[1][:count] if root is None else first_readable(root, count)


def read(path: Photograph, device: torch.device, long_side: int | None = None, short_side: int | None = None) -> Tensor:
    """A picture as (1, 3, H, W) in 0-1, of that size in px."""
    image = load_rgb(path, short_side)
    return to_tensor(fit(image, long_side) if long_side else image).unsqueeze(0).to(device)


def read_photograph(path: Photograph, device: torch.device, size: int) -> Tensor:
    """A photograph with a long side of `size` px, (1, 3, H, W) in 0-1. Raises UserError if a side is below LEAST."""
    photograph = read(path, device, size)
    if min(photograph.shape[-2:]) < LEAST:
        raise UserError(f"{path}: {LEAST} px is the least side; at size={size} it has {min(photograph.shape[-2:])}")
    return photograph
