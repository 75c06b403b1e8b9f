"""Writes down what each process of a training does: FOLDER=... torchrun ... tests/training/ddp_record.py OVERRIDE...

FOLDER gets, for each rank, the positions and photographs read (read0.txt), the gradients of each step (gradients0.pt) and
what was written (written0.txt). With SPOIL=RANK,STEP the loss of that rank is not finite at that step, counted from 0.
"""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastnst.commands.entry import train  # noqa: E402
from fastnst.data import crops  # noqa: E402
from fastnst.training import failures as faults  # noqa: E402
from fastnst.training import module as training  # noqa: E402

folder = Path(os.environ["FOLDER"])
rank = next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "0")
spoiled = os.environ.get("SPOIL", "-1,-1").split(",")
gradients = []
read_item, training_step = crops.Photographs.__getitem__, training.StyleTransfer.training_step
before_step = faults.BadSteps.on_before_optimizer_step


def recorded_read(self, item):
    if self.seed is not None:  # not to validate
        with open(folder / f"read{rank}.txt", "a") as file:
            file.write(f"{item[0]} {item[1]}\n")
    return read_item(self, item)


def recorded_step(self, batch, index):
    loss = training_step(self, batch, index)
    return loss * float("nan") if [rank, str(self.global_step)] == spoiled else loss


def recorded_gradients(self, trainer, module, optimizer):
    gradients.append([parameter.grad.clone() for parameter in module.net.parameters()])
    return before_step(self, trainer, module, optimizer)


def note_writing(event, arguments):
    if event == "os.rename" or (event == "open" and set(str(arguments[1])) & set("wax+")):
        written.add(f"{event} {arguments}")


written: set[str] = set()
sys.addaudithook(note_writing)
crops.Photographs.__getitem__ = recorded_read
training.StyleTransfer.training_step = recorded_step
faults.BadSteps.on_before_optimizer_step = recorded_gradients
try:
    train()
finally:
    (folder / f"written{rank}.txt").write_text("\n".join(sorted(written)))
    torch.save(gradients, folder / f"gradients{rank}.pt")
