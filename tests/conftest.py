"""Small pictures and a small training, so that the whole path runs in seconds."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


def picture(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A smooth random RGB picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def one_colour_each(folder: Path, count: int) -> Path:
    """A new folder of `count` PNGs, each of one colour, by which any crop of it is known: see `colour_of`."""
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", (40, 30), (10 * i, 10 * i, 10 * i)).save(folder / f"{i:02}.png")
    return folder


def colour_of(image: Tensor) -> int:
    """Which of the pictures of `one_colour_each` the crop is from."""
    assert image.max() - image.min() < 1e-6
    return round(image.mean().item() * 25.5)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of twelve JPEGs."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(12):
        picture(i).save(folder / f"{i:02}.jpg")
    return folder


@pytest.fixture
def paintings(tmp_path: Path) -> Path:
    """A folder of four PNGs."""
    folder = tmp_path / "paintings"
    folder.mkdir()
    for i in range(4):
        picture(50 + i, 80, 72).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs a main function as from a command line standing in tmp_path: (exit status, stdout, stderr)."""

    def run(main, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fastnst", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def small_training(photographs, tmp_path):
    """Overrides for a training of seconds: 32 px crops, a net of width 4."""
    painting = tmp_path / "painting.png"
    picture(99, 80, 72).save(painting)
    return (
        "style=custom", "style.name=small", f"style.image={painting}", "style.size=48",
        "data=folder", f"data.root={photographs}", "data.size=32", "data.batch_size=2", "data.val_count=2",
        "model.width=4", "loss.scales=[1]",
        "trainer=cpu", "trainer.max_steps=6", "trainer.log_every_n_steps=1", "checkpoint_every=2",
    )  # fmt: skip
