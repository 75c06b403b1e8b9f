"""A training that kills itself: python tests/training/killed.py MOMENT OVERRIDE...; after its second checkpoint has begun.

MOMENT: half or written, of the new file; moved, when the last checkpoint is the one before; renamed, when the new one is the
last; step, within the next step.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastnst.commands.entry import train  # noqa: E402
from fastnst.training import module as training  # noqa: E402

moment = sys.argv.pop(1)
flush, rename, training_step = os.fsync, os.replace, training.StyleTransfer.training_step
writings = 0


def reach(name: str) -> None:
    if writings == 2 and name == moment:
        os.kill(os.getpid(), signal.SIGKILL)


def flushed(file: int) -> None:
    global writings
    writings += 1
    whole = os.fstat(file).st_size
    os.ftruncate(file, whole // 2 if moment == "half" and writings == 2 else whole)
    flush(file)
    reach("half")
    reach("written")


def renamed(source: Path, target: Path) -> None:
    rename(source, target)
    reach({"previous.ckpt": "moved", "last.ckpt": "renamed"}.get(Path(target).name, ""))


def stepped(self, batch, index):
    loss = training_step(self, batch, index)
    reach("step")
    return loss


os.fsync, os.replace, training.StyleTransfer.training_step = flushed, renamed, stepped
train()
