"""The data loader's worker processes: each notes what it reads, so that one that dies leaves word of it."""

import os
import signal
from pathlib import Path

import torch
from torch import Tensor

STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # what ends a run: SLURM's two signals and Ctrl-C

_slot: Tensor | None = None  # this process's, if it is a worker


class Reading:
    """What each of `workers` processes is reading, in memory that they share with the main process."""

    def __init__(self, workers: int):
        self.slots = torch.zeros(workers, 4096, dtype=torch.uint8).share_memory_()

    def start_worker(self, worker: int) -> None:
        """The DataLoader's worker_init_fn."""
        global _slot
        _slot = self.slots[worker]
        for number in STOPS:  # sent to a whole process group, they are the main process's to answer
            signal.signal(number, signal.SIG_IGN)

    def of(self, process: int) -> str | None:
        """The path that the worker with this process id noted last."""
        for slot in self.slots:
            owner, _, path = bytes(slot.tolist()).partition(b"\0")[0].decode(errors="replace").partition(" ")
            if owner == str(process):
                return path
        return None


def note(path: str | Path) -> None:
    """Called before `path` is read, in a worker or elsewhere, where it does nothing."""
    if _slot is not None:
        text = f"{os.getpid()} {path}".encode(errors="replace")[: len(_slot) - 1] + b"\0"
        _slot[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
