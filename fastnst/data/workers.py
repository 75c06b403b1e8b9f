"""The data loader's worker processes: each notes what it reads, so that one that dies leaves word of it."""

import os
import signal
import threading

import torch
from torch import Tensor

STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # what ends a run: SLURM's two signals and Ctrl-C

_slot: Tensor | None = None  # this process's, if it is a worker


class Reading:
    """What each of `workers` processes, of all loaders, is reading, in memory that they share with the main process."""

    def __init__(self, workers: int):
        self.slots = torch.zeros(workers, 4096, dtype=torch.uint8).share_memory_()

    def start_worker(self, worker: int, first: int = 0) -> None:
        """A DataLoader's worker_init_fn. first: the number of its first worker among those of all loaders."""
        global _slot
        _slot = self.slots[first + worker]
        # Sent to every process of a job, they are the main process's to answer; but with SIGTERM it ends its workers.
        for number in {*STOPS} - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)
        if hasattr(signal, "sigwaitinfo"):  # macOS has none
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_end_with_parent, daemon=True).start()

    def of(self, process: int) -> str | None:
        """The path that the worker with this process id noted last."""
        for slot in self.slots:
            owner, _, path = bytes(slot.tolist()).partition(b"\0")[0].decode(errors="replace").partition(" ")
            if owner == str(process):
                return path
        return None


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def note(path: object) -> None:
    """Called before `path` is read, in a worker or elsewhere, where it does nothing."""
    if _slot is not None:
        text = f"{os.getpid()} {path}".encode(errors="replace")[: len(_slot) - 1] + b"\0"
        _slot[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)


def cores() -> int:
    """The cores that this process may run on: of a shared machine, a job has only some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
