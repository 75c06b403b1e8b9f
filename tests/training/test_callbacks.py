"""What is seen of a run: its lines, and what TensorBoard is given."""

import logging
import subprocess
import sys
import warnings

from conftest import ROOT
from forked import script
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from pytorch_lightning.utilities.warnings import PossibleUserWarning
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.commands.entry import train
from fastnst.training.callbacks import own_lines


def test_tensorboard_shows_the_run(command, small_training, tmp_path):
    _, out, _ = command(train, *small_training, "trainer.val_check_interval=3")
    events = EventAccumulator(str(tmp_path / out.splitlines()[-2].removeprefix("run: "))).Reload()
    tags = events.Tags()
    layers = ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    names = ["total", "content", "style", "palette", "tone", "tv", "style/1", *(f"style/{layer}" for layer in layers)]
    expected = {f"{side}/{name}" for side in ("train", "val") for name in names}
    assert expected | {"images_per_second", "lr-Adam", "data/bad_files"} <= set(tags["scalars"])
    assert {"style/small", "photograph | result/0"} <= set(tags["images"])
    assert len(events.Images("photograph | result/0")) >= 2
    assert "config/text_summary" in tags["tensors"]
    assert [e.step for e in events.Scalars("val/total")][:2] == [2, 5]  # Lightning counts from 0
    last = {
        name: f"{events.Scalars(f'train/{name}')[-1].value:.3f}" for name in ("content", "style", "palette", "tone", "tv")
    }
    assert "6/6" in out and ", ".join(f"{name}={value}" for name, value in last.items()) in out  # the progress bar


def test_a_training_prints_its_own_lines(fork, small_training, tmp_path):
    """Also that the script, started as users start it, trains to the end: the second is no fork."""
    first = fork(script, ROOT / "scripts/train.py", *small_training, "trainer.max_steps=3")
    out, err = first.communicate()
    assert first.returncode == 0, err
    assert "device: cpu\n" in out and "resumes" not in out and "ended early" not in out
    again = ("ckpt=last", "trainer.max_steps=9999", "trainer.max_time=00:00:00:01")
    command = [sys.executable, ROOT / "scripts/train.py", *small_training, *again]
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert second.returncode == 0, second.stderr
    (last,) = (path.relative_to(tmp_path) for path in tmp_path.glob("runs/small/*/last.ckpt"))
    assert f"resumes: {last}\n" in second.stdout and " of 9999 steps\n" in second.stdout
    for words in ("ightning", "available", "weights_only", "workers", "Restor", "stopped", "resuming"):
        assert words not in err + second.stderr


def test_warnings_that_a_user_needs_are_told(caplog):
    levels = [logging.getLogger(name).level for name in ("pytorch_lightning", "lightning_fabric")]
    with warnings.catch_warnings(record=True) as caught, own_lines():
        rank_zero_info("an advertisement")
        rank_zero_warn("needed")
        rank_zero_warn("perhaps", category=PossibleUserWarning)
    assert [str(warning.message) for warning in caught] == ["needed"] and not caplog.records
    assert levels == [logging.getLogger(name).level for name in ("pytorch_lightning", "lightning_fabric")]
