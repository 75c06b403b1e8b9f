"""Kills a training twenty times: python tests/training/killed.py RUNS OVERRIDE...; prints the last checkpoint's step.

One process, which never computes, forks all those that train: imports are paid for once.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import fastnst.commands.train  # noqa: E402, F401
from fastnst.checkpoint import load_training  # noqa: E402
from fastnst.commands.entry import train  # noqa: E402


def start(arguments: list[str]) -> int:
    """Forks a process that trains. Returns its id."""
    process = os.fork()
    if process == 0:
        status = 1
        os.dup2(2, 1)  # the parent's result is alone on stdout
        try:
            sys.argv[1:] = arguments
            train()
            status = 0
        finally:
            os._exit(status)
    return process


def newest(runs: Path) -> Path | None:
    """What ckpt=last would resume."""
    found = [path for name in ("last.ckpt", "previous.ckpt") for path in runs.glob(f"*/{name}")]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def kill_twenty_times(runs: Path, arguments: list[str]) -> None:
    torch.set_num_threads(1)
    moments, steps = random.Random(0), 0
    for _ in range(20):
        process, before = start(arguments), newest(runs) and newest(runs).stat().st_mtime_ns
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # until it has saved something
            try:
                if newest(runs) and newest(runs).stat().st_mtime_ns != before:
                    break
            except FileNotFoundError:  # renamed meanwhile
                pass
            time.sleep(0.005)
        time.sleep(0.1 * moments.random())
        os.kill(process, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL
        step = load_training(newest(runs))[1]["steps"]  # raises if it is damaged
        assert step > steps
        steps = step
    print(steps)


if __name__ == "__main__":
    kill_twenty_times(Path(sys.argv[1]), sys.argv[2:])
