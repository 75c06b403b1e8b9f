"""Seconds that something takes."""

import time
from collections.abc import Callable

import torch


def clock(work: Callable[[], object]) -> float:
    """Seconds that `work` takes, on the GPU too."""
    # torch.utils.benchmark has such a timer, but warns on stderr where CUDA's compiler is installed without a GPU.
    started = _now()
    work()
    return _now() - started


def _now() -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
