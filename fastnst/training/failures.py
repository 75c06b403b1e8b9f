"""What a long run meets and how it goes on: signals, kills, full disks, spoiled steps and files, workers that die.

Callbacks skip and count; `one_line` tells what ended a run. With several processes all decide alike, as what one
of them has met is exchanged first.
"""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities import rank_zero_only
from torch.optim import Optimizer
from tqdm import tqdm

from fastnst.data.workers import Reading
from fastnst.errors import SharedError, UserError, fail, line_of, printable


class Stopped(Exception):
    """A signal has ended the run, whose last checkpoint holds the step that the message names. number: the signal's."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


def due(trainer: pl.Trainer) -> bool:
    """Whether what is counted on the devices is to be read after this step, and exchanged between processes.

    A CPU need not wait for itself. A GPU must, and does so only when Lightning waits for it anyway, to log.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it, undeclared
    return trainer.strategy.root_device.type == "cpu" or trainer.global_step % every == 0


@rank_zero_only
def tell(message: str) -> None:
    """One line on stderr, above the progress bar, of the first process alone."""
    tqdm.write(f"warning: {printable(message)}", file=sys.stderr)


class BadSteps(pl.Callback):
    """Skips each step whose gradient is not finite, weights and optimizer left as they were, and counts it for TensorBoard.

    limit: how many are borne. Raises SharedError, with the last step's losses, once there are more.
    With precision=16-mixed GradScaler skips such steps, and finds its scale by them. They count only once its scale is down
    to 1, which leaves the gradient as it is.
    """

    def __init__(self, limit: int):
        self.limit, self.count, self.told = limit, torch.tensor(0), 0

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer) -> None:
        # By now DDP has averaged the gradients, so that one process's spoiled step is everyone's.
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        bad = ~torch.nn.utils.get_total_norm(gradients).isfinite()
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            scale = scaler.scale(torch.ones((), device=bad.device))  # get_scale() would wait for a GPU
            self.count = self.count.to(bad.device) + (bad & (scale <= 1))
            return
        self.count = self.count.to(bad.device) + bad
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            # A fused optimizer reads it on the device, which nobody waits for. Torch does not declare it.
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
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
            tell(f"a gradient was not finite: step {trainer.global_step} or one shortly before is skipped ({count} so far)")
            self.told = count

    def state_dict(self) -> dict:
        return {"count": int(self.count)}

    def load_state_dict(self, state: dict) -> None:
        self.count, self.told = torch.tensor(state["count"]), state["count"]


class BadFiles(pl.Callback):
    """Names each file that could not be read once, whichever process met it, and counts them for TensorBoard."""

    def __init__(self):
        self.known, self.new = set(), set()

    def on_validation_batch_end(self, trainer: pl.Trainer, module, outputs, batch: dict, batch_index: int, *_) -> None:
        self.new |= set(batch["bad"]) - self.known

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._tell()

    def on_train_batch_end(self, trainer: pl.Trainer, module, outputs, batch: dict, batch_index: int) -> None:
        self.new |= set(batch["bad"]) - self.known
        if due(trainer):
            self._tell()
            module.log("data/bad_files", float(len(self.known)))

    def _tell(self) -> None:
        """Of what any process has met since."""
        for path in sorted(set().union(*gather(self.new)) - self.known):
            self.known.add(path)
            tell(f"{path} cannot be read as a photograph and is skipped ({len(self.known)} so far)")
        self.new = set()

    def state_dict(self) -> dict:
        return {"known": sorted(self.known)}

    def load_state_dict(self, state: dict) -> None:
        self.known = set(state["known"])


@contextmanager
def one_line(trainer: pl.Trainer, folder: Path, reading: Reading) -> Iterator[None]:
    """Around a training: says in one line what ended it, and exits: with 2 for what a user can fix, 128 + N for signal N.

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
        elif isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment):
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
        return f"the disk of {folder} is full; make room: {again}" if full else line_of(error)
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


def gather(mine: object) -> list:
    """Every process's value, in the order of ranks."""
    if not dist.is_initialized():
        return [mine]
    values: list = [None] * dist.get_world_size()
    dist.all_gather_object(values, mine)
    return values
