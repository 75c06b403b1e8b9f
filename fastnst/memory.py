"""How much memory a process takes, and how it keeps it."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

try:
    LIBC: ctypes.CDLL | None = ctypes.CDLL("libc.so.6")
except OSError:
    LIBC = None  # not glibc


class PeakMemory:
    """The most memory in use at once inside a `with`, in MB: the GPU's, or the process's; None where neither is told."""

    def __init__(self, device: torch.device):
        self.device, self.told = device, True
        self.megabytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            try:
                Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts anew
            except OSError:
                self.told = False
        return self

    def __exit__(self, *_) -> None:
        if not self.told:
            return
        if self.device.type == "cuda":
            self.megabytes = round(torch.cuda.max_memory_allocated(self.device) / 1e6)
        else:
            status = Path("/proc/self/status").read_text().splitlines()
            line = next(line for line in status if line.startswith("VmHWM"))
            self.megabytes = round(int(line.split()[1]) * 1024 / 1e6)


kept = False  # whether this process keeps what it frees


def keep_freed_memory(keep: bool = True) -> None:
    """Has glibc keep what is freed: given back, it is faulted in again, page by page, a quarter of a CPU step's time."""
    global kept
    if LIBC is not None:
        kept = keep
        LIBC.mallopt(-4, 0 if keep else 65536)  # M_MMAP_MAX: no block of its own mapping, or glibc's default
        LIBC.mallopt(-1, 2**31 - 1 if keep else 2**17)  # M_TRIM_THRESHOLD: the heap does not shrink
        give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Gives the system what glibc keeps."""
    if LIBC is not None:
        LIBC.malloc_trim(0)


@contextmanager
def short_of_memory() -> Iterator[None]:
    """Within it nothing that is freed is kept: slower, and no memory is lost to gaps."""
    before = kept
    keep_freed_memory(False)
    try:
        yield
    finally:
        keep_freed_memory(before)
