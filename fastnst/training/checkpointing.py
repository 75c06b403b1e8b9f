"""A run's own checkpoints: each written whole, the one before it kept, and the newest found again to resume."""

import io
import os
import signal
import threading
import zipfile
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fastnst.checkpoint import load_training
from fastnst.data.workers import STOPS
from fastnst.errors import SharedError, UserError
from fastnst.files import whole
from fastnst.training.failures import Stopped, due, gather

LAST, BEFORE = "last.ckpt", "previous.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint under another name first, and keeps the one before it as previous.ckpt.

    Killed at any moment, or out of space, it leaves one of the two, whole.
    """

    def save_checkpoint(self, checkpoint: dict, path: str | Path, storage_options: object = None) -> None:
        path, buffer = Path(path), io.BytesIO()
        torch.save(checkpoint, buffer)
        with whole(path, part=path.with_suffix(".part")) as part:
            with open(part, "wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())  # else a machine that loses power may have renamed a file it has not written
            if zipfile.is_zipfile(path):  # as torch.save's files are; a damaged one must not take a whole one's place
                os.replace(path, path.with_name(BEFORE))


class Checkpoints(Checkpoint):
    """Writes last.ckpt into `folder` after each `every` steps, and when a signal ends the run: then raises Stopped.

    folder: the first process's counts. resume: the checkpoint that the run goes on from, or None. Raises SharedError if the
    processes have not found the same one.
    """

    def __init__(self, folder: Path, every: int, resume: Path | None):
        self.folder, self.every, self.resume = folder, every, resume
        self.signal = 0

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        found = sorted({str(path or "nothing") for path in gather(self.resume)})
        if len(found) > 1:
            raise SharedError(
                f"ckpt: the processes would resume different checkpoints ({', '.join(found)}); "
                "give the path of one that every machine can read"
            )
        self.folder = trainer.strategy.broadcast(self.folder)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                signal.signal(number, self._note)  # for Lightning's, which it puts back what was there after fit
        # Lightning asks at each step whether the first process has had a signal, and a GPU waits for the answer. This
        # trainer's loop does not, until its training ends.
        vars(trainer.fit_loop.epoch_loop)["_broadcast_sigterm_tensor"] = lambda: None

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        vars(trainer.fit_loop.epoch_loop).pop("_broadcast_sigterm_tensor", None)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, module)

    def _note(self, number: int, frame: object) -> None:
        self.signal = number
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)  # a second Ctrl-C does not wait

    def on_train_batch_end(self, trainer: pl.Trainer, module, outputs, batch: dict, batch_index: int) -> None:
        if (batch_index + 1) % trainer.accumulate_grad_batches:
            return
        number = 0
        if due(trainer):
            mine = torch.tensor(self.signal, device=trainer.strategy.root_device)
            number = int(trainer.strategy.reduce(mine, reduce_op="max"))
        if number or trainer.global_step % self.every == 0:
            trainer.save_checkpoint(self.folder / LAST)
        if number:
            raise Stopped(
                f"stopped by {signal.Signals(number).name} after step {trainer.global_step}, which {self.folder / LAST} "
                "holds; the same command with ckpt=last goes on from there",
                number,
            )


def read_last(path: Path) -> tuple[dict, dict]:
    """Of a .ckpt the net's architecture, and its info. Raises UserError if it is damaged, and offers the one before it."""
    try:
        net, info = load_training(path)
        return net.architecture, info
    except UserError as error:
        before = path.with_name(BEFORE)
        try:
            load_training(before)
        except UserError:
            raise error from None
        raise UserError(f"{error}; the one before it is whole: give ckpt={before}") from None


def check_same(path: Path, architecture: dict, info: dict) -> dict:
    """Raises UserError, which says what differs, unless the run of the .ckpt has this net, these paintings and objective.

    What only one of the two tells, such as an option that an older version had not, is not compared. Returns its info.
    """
    before, told = read_last(path)
    if before != architecture:
        raise UserError(f"{path}: its net is {before}, not {architecture}; give the same model")
    parts = [(name, told.get(part, {}), info[part]) for name, part in (("style", "style"), ("loss", "objective"))]
    differ = [f"{n}.{key}" for n, a, b in parts for key in b if key in a and key != "_target_" and a[key] != b[key]]
    differ += ["brushwork"] * (told.get("brushwork", info.get("brushwork")) != info.get("brushwork"))
    if differ:
        raise UserError(
            f"{path}: its run differs in {', '.join(differ)}; give the same to resume it, "
            f"or ckpt=null to start another, from its weights with init={path}"
        )
    return told


def newest(run_dir: Path) -> Path | None:
    """The checkpoint of `run_dir`, or, where it has none, the newest of the runs beside it; None if there is none."""
    for folders in ([run_dir], [path for path in run_dir.parent.glob("*") if path.is_dir()]):
        # A run killed between two renamings has none but previous.ckpt. Of one that has both, clocks are not asked.
        found = [folder / (LAST if (folder / LAST).exists() else BEFORE) for folder in folders]
        if found := [path for path in found if path.exists()]:
            return max(found, key=lambda path: path.stat().st_mtime_ns)
    return None
