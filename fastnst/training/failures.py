"""What a long run meets and how it goes on: signals, kills, full disks, spoiled steps and files, workers that die.

Callbacks save, stop, skip and count; `one_line` tells what ended a run. With several processes all decide alike, as what one
of them has met is exchanged first.
"""

import errno
import io
import os
import re
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer

from fastnst.commands.cli import explain, fail
from fastnst.data.workers import STOPS, Reading
from fastnst.errors import SharedError, UserError
from fastnst.files import whole

LAST, BEFORE = "last.ckpt", "previous.ckpt"


class Stopped(Exception):
    """A signal has ended the run, whose last checkpoint holds the step that the message names. number: the signal's."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


def due(trainer: pl.Trainer) -> bool:
    """Whether what is counted on the devices is to be read after this step, and exchanged between processes.

    A CPU need not wait for itself. A GPU must, and does so only when Lightning waits for it anyway, to log.
    """
    return trainer.strategy.root_device.type == "cpu" or trainer.global_step % trainer.log_every_n_steps == 0


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
        found = sorted({str(path or "nothing") for path in _gather(self.resume)})
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
        # Lightning asks at each step whether the first process has had a signal, and a GPU waits for the answer.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None

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


class BadSteps(pl.Callback):
    """Skips each step whose gradient is not finite, weights and optimizer left as they were, and counts it for TensorBoard.

    limit: how many are borne. Raises SharedError, with the last step's losses, once there are more.
    """

    def __init__(self, limit: int):
        self.limit, self.count, self.told = limit, torch.tensor(0), 0

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer) -> None:
        # By now DDP has averaged the gradients, so that one process's spoiled step is everyone's.
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        bad = ~torch.stack(torch._foreach_norm(gradients)).isfinite().all()
        self.count = self.count.to(bad.device) + bad
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = bad.float()  # a fused optimizer reads it on the device, which nobody waits for
        elif bad:
            optimizer.zero_grad(set_to_none=True)  # parameters without a gradient are passed over

    def on_train_batch_end(self, trainer: pl.Trainer, module, outputs, batch: dict, batch_index: int) -> None:
        if not due(trainer):
            return
        count = int(self.count)
        module.log("train/bad_steps", float(count))
        if count > self.limit:
            terms = {k.removeprefix("train/"): v for k, v in trainer.callback_metrics.items() if k.startswith("train/")}
            values = ", ".join(f"{name} {float(value):.3g}" for name, value in terms.items() if name != "bad_steps")
            raise SharedError(
                f"the gradient was not finite in {count} steps up to step {trainer.global_step}, more than "
                f"max_bad_steps={self.limit} ({values}); the last good checkpoint is kept: "
                "resume from it with a lower optimizer.lr"
            )
        if count > self.told:
            rank_zero_warn(
                f"a gradient was not finite: step {trainer.global_step} or one shortly before is skipped ({count} so far)"
            )
            self.told = count

    def state_dict(self) -> dict:
        return {"count": int(self.count)}

    def load_state_dict(self, state: dict) -> None:
        self.count, self.told = torch.tensor(state["count"]), state["count"]


class BadFiles(pl.Callback):
    """Names each file that could not be read once, whichever process met it, and counts them for TensorBoard."""

    def __init__(self):
        self.known, self.new = set(), set()

    def on_train_batch_end(self, trainer: pl.Trainer, module, outputs, batch: dict, batch_index: int) -> None:
        self.new |= set(batch["bad"]) - self.known
        if not due(trainer):
            return
        for path in sorted(set().union(*_gather(self.new)) - self.known):
            self.known.add(path)
            rank_zero_warn(f"{path} cannot be read as a photograph and is skipped ({len(self.known)} so far)")
        self.new = set()
        module.log("data/bad_files", float(len(self.known)))

    def state_dict(self) -> dict:
        return {"known": sorted(self.known)}

    def load_state_dict(self, state: dict) -> None:
        self.known = set(state["known"])


@contextmanager
def one_line(trainer: pl.Trainer, folder: Path, reading: Reading) -> Iterator[None]:
    """Around a training: tells in one line what ended it, and exits, with 2 for what can be put right, 128 + N for signal N.

    folder: of the checkpoints. A bug keeps its traceback. Other processes that Lightning started here end too.
    """
    try:
        yield
    except BaseException as error:
        children = getattr(trainer.strategy.launcher, "procs", [])
        for child in children:
            child.kill()
        children.clear()  # Lightning watches over them, and would kill this process after them
        message = _explain(error, folder, reading)
        if message is None:
            raise
        status = 128 + error.number if isinstance(error, Stopped) else 2
        if trainer.local_rank == 0 or not (isinstance(error, (Stopped, SharedError)) or _is_severed(error)):
            fail(message)
        elif isinstance(trainer.strategy.cluster_environment, LightningEnvironment):
            status = 0  # the process that started this one tells; any other status has Lightning kill it before that
        sys.exit(status)


def _explain(error: BaseException, folder: Path, reading: Reading) -> str | None:
    """One line for what ended a training, or None if it is a bug."""
    again = "the same command with ckpt=last goes on from the last checkpoint"
    if isinstance(error, (Stopped, UserError)):
        # A worker's comes with its traceback, whose last line it is.
        return str(error).strip().splitlines()[-1].removeprefix("fastnst.errors.UserError: ")
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"the disk of {folder} is full; make room: {again}" if full else explain(error)
    died = re.match(r"DataLoader worker \(pid(?:\(s\))? (\d+).*?\) (.*?)(?:\.|$)", str(error))
    if died:
        return (
            f"a worker {died[2]} while it read {reading.of(int(died[1])) or 'photographs'}; take that file away if it is to "
            f"blame, give fewer data.workers if memory was short: {again}"
        )
    if _is_severed(error):
        return f"another process of this training is gone; {again}"
    return None


def _is_severed(error: BaseException) -> bool:
    """Whether an exchange between processes failed because one of them is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _gather(mine: object) -> list:
    """Every process's value, in the order of ranks."""
    if not dist.is_initialized():
        return [mine]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, mine)
    return values
