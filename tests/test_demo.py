"""The demo, with tiny settings: what it trains it shows, for any painting."""

import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT, picture
from forked import script
from PIL import Image

TINY = ("init=null", "stability.weight=0", "trainer.max_steps=2", "trainer.val_check_interval=2")


@pytest.fixture
def demo(fork, tmp_path):
    pytest.importorskip("skimage", reason="the demo restyles a sample photograph")

    def run(*arguments: str) -> np.ndarray:
        """The sheet that the demo prints the path of."""
        process = fork(script, ROOT / "scripts" / "demo.py", *arguments, *TINY)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return np.asarray(Image.open(tmp_path / out.splitlines()[-1]), int)

    return run


def beside(sheet: np.ndarray, painting: Image.Image) -> float:
    """The mean difference, in 255ths, of the sheet's first picture from the painting."""
    height = sheet.shape[0]
    shown = painting.resize((round(painting.width * height / painting.height), height), Image.Resampling.LANCZOS)
    return np.abs(sheet[:, : shown.width] - np.asarray(shown, int)).mean()


def test_a_painting_of_ones_own(demo, small_training, tmp_path):
    arguments = [argument for argument in small_training if not argument.startswith("style.image=")]
    sheet = demo(*arguments, "style.image=painting.png")
    assert beside(sheet, picture(99, 80, 72)) < 1 and sheet.shape[0] == 384
    assert (tmp_path / "outputs/demo/small.png").is_file() and (tmp_path / "outputs/demo/small.safetensors").is_file()


def test_several_paintings(demo, several, paintings):
    assert beside(demo(*several, "out=both.safetensors"), Image.open(paintings / "0.png")) < 1


def test_make_hands_options_to_the_demo(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    arguments = ["make", "-n", "demo", "style=custom", "style.image=painting.jpg", "PYTHON=python3"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    (line,) = (line for line in done.stdout.splitlines() if "demo.py" in line)
    assert set(line.split()[2:]) == {"style=custom", "style.image=painting.jpg"}
