"""The synthetic paintings for zero-shot nets."""

import numpy as np
import pytest
from conftest import ROOT, picture
from forked import script
from PIL import Image

from fastnst.data import synthetic


@pytest.mark.parametrize("technique", synthetic.TECHNIQUES, ids=lambda technique: technique.__name__)
def test_each_technique_makes_something_else_of_the_sketch(technique):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        colors = synthetic.palette(rng)
        sketch = synthetic.compose(rng, colors, 96, 64)
        result = technique(rng, sketch, colors)
        assert result.shape == sketch.shape and np.isfinite(result).all()
        assert abs(result - sketch).mean() > 2


def test_each_seed_is_one_painting():
    one, again, other = (synthetic.draw(seed, 64, 48) for seed in (1, 1, 2))
    assert one.size == (64, 48) and one.mode == "RGB"
    assert one.tobytes() == again.tobytes() != other.tobytes()
    after = synthetic.draw(1, 64, 48, picture(5, 80, 60))
    assert after.tobytes() != one.tobytes()


def test_the_script_fills_a_folder(fork, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    picture(1).save(photographs / "0.png")

    def draw(*arguments):
        run = fork(script, ROOT / "scripts" / "draw_paintings.py", *arguments)
        _, err = run.communicate()
        return run.returncode, err

    assert draw("paintings", "1")[0] == 0
    kept = (tmp_path / "paintings" / "00000.jpg").stat().st_mtime_ns
    status, err = draw("paintings", "2", "photographs")
    assert status == 0, err
    assert sorted(p.name for p in (tmp_path / "paintings").iterdir()) == ["00000.jpg", "00001.jpg"]
    assert (tmp_path / "paintings" / "00000.jpg").stat().st_mtime_ns == kept
    plain, painted_after = synthetic.draw(1), Image.open(tmp_path / "paintings" / "00001.jpg")
    assert plain.size == painted_after.size
    assert np.abs(np.asarray(plain, int) - np.asarray(painted_after, int)).mean() > 10  # more than a JPEG changes
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.jpg").write_text("no picture")
    for arguments, message in (
        ((), "FOLDER COUNT"),
        (("x", "many"), "FOLDER COUNT"),
        (("x", "1", "none"), "no such folder"),
        (("x", "2", "broken"), "0.jpg: cannot be read as a picture"),
    ):
        status, err = draw(*arguments)
        assert status == 2 and "Traceback" not in err
        assert message in next(line for line in err.splitlines() if line.startswith("fastnst: "))
