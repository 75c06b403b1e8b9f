"""The demo, with tiny settings: what it trains it shows, for any painting."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, picture
from PIL import Image

TINY = ("init=null", "stability.weight=0", "trainer.max_steps=2", "trainer.val_check_interval=2")


def demo(folder, *arguments: str) -> np.ndarray:
    """The sheet that the demo prints the path of."""
    script = [sys.executable, ROOT / "scripts" / "demo.py", *arguments, *TINY]
    done = subprocess.run(script, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(done.stdout.splitlines()[-1]), int)


def beside(sheet: np.ndarray, painting: Image.Image) -> float:
    """The mean difference, in 255ths, of the sheet's first picture from the painting."""
    height = sheet.shape[0]
    shown = painting.resize((round(painting.width * height / painting.height), height), Image.Resampling.LANCZOS)
    return np.abs(sheet[:, : shown.width] - np.asarray(shown, int)).mean()


def test_a_painting_of_ones_own(small_training, tmp_path):
    pytest.importorskip("skimage", reason="the demo restyles a sample photograph")
    arguments = [argument for argument in small_training if not argument.startswith("style.image=")]
    sheet = demo(tmp_path, *arguments, "style.image=painting.png")
    assert beside(sheet, picture(99, 80, 72)) < 1 and sheet.shape[0] == 384
    assert (tmp_path / "outputs/demo/small.png").is_file() and (tmp_path / "outputs/demo/small.safetensors").is_file()


def test_several_paintings(several, paintings, tmp_path):
    pytest.importorskip("skimage", reason="the demo restyles a sample photograph")
    assert beside(demo(tmp_path, *several, "out=both.safetensors"), Image.open(paintings / "0.png")) < 1


def test_make_hands_options_to_the_demo(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    arguments = ["make", "-n", "demo", "style=custom", "style.image=painting.jpg", "PYTHON=python3"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    (line,) = (line for line in done.stdout.splitlines() if "demo.py" in line)
    assert set(line.split()[2:]) == {"style=custom", "style.image=painting.jpg"}
