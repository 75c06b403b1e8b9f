"""What happens to long runs: signals, kills, full disks, damaged checkpoints, spoiled steps and files, dying workers."""

import multiprocessing
import os
import signal
import subprocess

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from fastnst.checkpoint import load_net
from fastnst.commands.entry import train
from fastnst.data import crops
from fastnst.errors import SharedError
from fastnst.losses.objective import Objective
from fastnst.training.failures import BadSteps


def told(err: str) -> list[str]:
    """What a run has told of its end, of all that is on stderr."""
    assert "Traceback" not in err
    return [line for line in err.splitlines() if line.startswith("fastnst: ")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(
    command, small_training, at_step, monkeypatch, same_as_whole, tmp_path, number
):
    def stop():
        for worker in multiprocessing.active_children():  # a scheduler signals every process of a job
            os.kill(worker.pid, number)
        os.kill(os.getpid(), number)

    again = (*small_training, "checkpoint_every=100", "data.workers=2", "ckpt=last")
    before = signal.getsignal(number)
    at_step(3, stop)
    status, _, err = command(train, *again, "out=part.safetensors")
    (line,) = told(err)
    (last,) = tmp_path.glob("runs/small/*/last.ckpt")
    assert status == 128 + number
    assert f"stopped by {number.name} after step 4" in line and str(last.relative_to(tmp_path)) in line
    assert torch.load(last, weights_only=True)["global_step"] == 4
    assert signal.getsignal(number) == before
    monkeypatch.undo()
    status, out, err = command(train, *again, "out=part.safetensors")
    assert status == 0 and f"run: {last.parent.relative_to(tmp_path)}" in out, err
    assert same_as_whole("part")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(
    command, small_training, at_step, monkeypatch, same_as_whole, small_disk
):
    filler = small_disk / "filler"

    def fill():
        with open(filler, "wb") as file:
            for size in (1 << 16, 1 << 12):
                while True:
                    try:
                        os.write(file.fileno(), bytes(size))
                    except OSError:
                        break

    at_step(3, fill)
    arguments = (*small_training, f"run_dir={small_disk}/small/x", "ckpt=last")
    status, _, err = command(train, *arguments, "out=part.safetensors")
    (line,) = told(err)
    assert status == 2 and f"the disk of {small_disk}/small/x is full" in line
    assert torch.load(small_disk / "small/x/last.ckpt", weights_only=True)["global_step"] == 2
    assert not list(small_disk.rglob("*.part"))
    monkeypatch.undo()
    filler.unlink()
    assert command(train, *arguments, "out=part.safetensors")[0] == 0
    assert same_as_whole("part")


def test_files_that_vanish_or_are_spoiled_in_mid_run_are_skipped_and_counted(
    command, small_training, at_step, photographs, tmp_path
):
    def spoil():
        for path in sorted(photographs.iterdir())[:4]:
            path.unlink()
        for path in sorted(photographs.iterdir())[:4]:
            path.write_bytes(path.read_bytes()[:100])

    at_step(2, spoil)
    arguments = (*small_training, "data.val_root=held", "data.workers=0", "trainer.max_steps=16")
    assert command(train, *arguments)[0] == 2
    (tmp_path / "held").mkdir()
    for path in list(photographs.iterdir())[:1]:
        (tmp_path / "held" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "held/damaged.jpg").write_bytes(b"no picture")
    status, _, err = command(train, *arguments)
    assert status == 0, err
    named = [line for line in err.splitlines() if "is skipped" in line]
    assert len(named) == len({line.split()[1] for line in named}) == 9
    assert any("held/damaged.jpg" in line for line in named)
    assert all(line.startswith("warning: ") for line in named)
    (run,) = (path.parent for path in tmp_path.glob("runs/small/*/last.ckpt"))
    assert EventAccumulator(str(run)).Reload().Scalars("data/bad_files")[-1].value >= 8


def spoil_losses(monkeypatch, steps: set[int]) -> None:
    """Makes the loss of these training steps, counted from 0, not finite."""
    forward, calls = Objective.forward, []

    def spoiled(self, *arguments):
        terms = forward(self, *arguments)
        if torch.is_grad_enabled():
            calls.append(1)
            if len(calls) - 1 in steps:
                return terms | {"total": terms["total"] * float("nan")}
        return terms

    monkeypatch.setattr(Objective, "forward", spoiled)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_is_not_finite_is_skipped_and_counted(
    command, small_training, monkeypatch, same_weights, tmp_path, fused
):
    arguments = (*small_training, f"++optimizer.optimizer.fused={fused}", "optimizer.lr=1e-2")
    assert command(train, *arguments, "trainer.max_steps=4", "out=four.safetensors", "run_dir=runs/four/x")[0] == 0
    spoil_losses(monkeypatch, {4, 5})
    status, _, err = command(train, *arguments, "out=six.safetensors", "run_dir=runs/six/x")
    assert status == 0, err
    assert same_weights("four", "six")  # weights are left as they were
    four, six = (
        torch.load(tmp_path / f"runs/{name}/x/last.ckpt", weights_only=True)["optimizer_states"][0]["state"][0]
        for name in ("four", "six")
    )
    assert all(torch.equal(four[key], six[key]) for key in four)  # and so is the optimizer
    counts = [e.value for e in EventAccumulator(str(tmp_path / "runs/six/x")).Reload().Scalars("train/bad_steps")]
    assert counts == [0, 0, 0, 0, 1, 2]


def test_too_many_steps_that_are_not_finite_stop_the_run(command, small_training, monkeypatch, tmp_path):
    spoil_losses(monkeypatch, {1, 4, 5})
    status, _, err = command(train, *small_training, "max_bad_steps=1")
    (line,) = told(err)
    assert status == 2
    assert "not finite in 2 steps up to step 5" in line and "max_bad_steps=1" in line
    assert "total nan" in line and "content" in line and "style/relu1_2" in line
    (last,) = tmp_path.glob("runs/small/*/last.ckpt")
    assert load_net(last)[1]["steps"] == 4
    assert not (tmp_path / "checkpoints").exists()
    # It is the run that has so many to spare, however often it is resumed.
    monkeypatch.undo()
    spoil_losses(monkeypatch, {0})
    status, _, err = command(train, *small_training, "max_bad_steps=1", "ckpt=last")
    assert status == 2 and "not finite in 2 steps up to step 5" in err


class Halves(pl.LightningModule):
    """Learns one number in half precision. spoiled: whether its loss is not finite."""

    def __init__(self, spoiled: bool, fused: bool):
        super().__init__()
        self.layer, self.spoiled, self.fused = torch.nn.Linear(1, 1), spoiled, fused

    def training_step(self, batch, index):
        return self.layer(batch["image"]).square().mean() * (float("nan") if self.spoiled else 1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.1, fused=self.fused)


@pytest.mark.parametrize("fused", [False, True])
def test_overflows_of_16_mixed_do_not_count(fused, tmp_path):
    def fit(spoiled: bool, scale: float) -> tuple[Halves, BadSteps, torch.amp.GradScaler]:
        module, bad_steps = Halves(spoiled, fused), BadSteps(2)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer = pl.Trainer(
            accelerator="cpu", max_steps=40, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, callbacks=[bad_steps],
            plugins=[MixedPrecision("16-mixed", "cpu", scaler)],
        )  # fmt: skip
        batches = [{"image": torch.ones(2, 1)}] * 40
        trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
        return module, bad_steps, scaler

    torch.manual_seed(0)
    before = Halves(False, fused).layer.weight.item()
    torch.manual_seed(0)
    module, bad_steps, scaler = fit(False, 2.0**30)
    assert scaler.get_scale() < 2.0**20 and bad_steps.count == 0  # it has overflown more than ten times
    assert module.layer.weight.item() != before
    with pytest.raises(SharedError, match="not finite in 3 steps up to step 5"):  # those at scales of 4 and 2 did not count
        fit(True, 4.0)


@pytest.mark.parametrize("death", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(3)])
def test_a_worker_that_dies_is_reported_with_the_file_it_was_reading(command, small_training, monkeypatch, death):
    crop = crops.crop

    def deadly(path, *arguments):
        if path.name == "07.jpg" and multiprocessing.parent_process():
            death()
        return crop(path, *arguments)

    monkeypatch.setattr(crops, "crop", deadly)
    waiting = _MultiProcessingDataLoaderIter._try_get_data  # looks at its workers after each five seconds without a batch
    monkeypatch.setattr(waiting, "__defaults__", (0.1,))
    status, _, err = command(train, *small_training, "trainer.max_steps=12", "data.workers=2")
    (line,) = told(err)
    assert status == 2 and "a worker " in line and "07.jpg" in line and "ckpt=last" in line


def test_a_workers_error_is_one_line(command, small_training, at_step, photographs):
    at_step(1, lambda: [path.unlink() for path in photographs.iterdir()])
    status, _, err = command(train, *small_training, "trainer.max_steps=40", "data.workers=1")
    (line,) = told(err)
    assert status == 2 and "none of the 11 files" in line
