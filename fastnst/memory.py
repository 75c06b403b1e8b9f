"""How much memory a process takes, and how it keeps it. Torch is imported for a GPU alone."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fastnst.errors import UserError

if TYPE_CHECKING:
    import torch

try:
    LIBC: ctypes.CDLL | None = ctypes.CDLL("libc.so.6")
except OSError:
    LIBC = None  # not glibc

SHARED = "cpu", "mps"  # devices whose memory is the machine's


# Bytes that a step takes for each px at the least. Measured: training in bfloat16 with a net of width 4 and one scale 2018,
# as configured 6220; recipe=johnson 2798, before L-BFGS has a history.
STEP = 2000


class PeakMemory:
    """The most memory in use at once inside a `with`, in MB: the GPU's, or the process's; None where neither is told."""

    def __init__(self, device: torch.device):
        self.device, self.told = device, True
        self.megabytes: int | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type not in SHARED:
            import torch

            torch.get_device_module(self.device).reset_peak_memory_stats(self.device)
        else:
            try:
                Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts anew
            except OSError:
                self.told = False
        return self

    def __exit__(self, *_) -> None:
        if not self.told:
            return
        if self.device.type not in SHARED:
            import torch

            self.megabytes = round(torch.get_device_module(self.device).max_memory_allocated(self.device) / 1e6)
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


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that are free on the device, or in the machine's memory where it has none of its own, and for None."""
    if device is not None and device.type not in SHARED:
        import torch

        return torch.get_device_module(device).mem_get_info(device)[0]
    give_back_freed_memory()  # what this process keeps of the picture before is free, too
    return psutil.virtual_memory().available


def check_step(option: str, pixels: int, device: torch.device) -> None:
    """Raises UserError, which names the option, if a step on so many px takes more memory than the device has free.

    A step of training or of optimization, for which STEP is counted: nothing is refused that would do.
    """
    needed, free = pixels * STEP, free_memory(device)
    if needed > free:
        raise UserError(f"{option}: a step takes {needed / 1e9:.1f} GB of memory at the least, {free / 1e9:.1f} GB are free")


@contextmanager
def short_of_memory() -> Iterator[None]:
    """Within it nothing that is freed is kept: slower, and no memory is lost to gaps."""
    before = kept
    keep_freed_memory(False)
    try:
        yield
    finally:
        keep_freed_memory(before)
