"""Our training step and the textbook's side by side, each in a process of its own, for `fastnst.benchmark.measurements`.

The processes import this module, and so it imports little.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from fastnst.benchmark import textbook
from fastnst.images import best_device
from fastnst.losses.objective import Objective
from fastnst.losses.terms import reference_picture
from fastnst.losses.vgg import LossNetwork
from fastnst.memory import PeakMemory, keep_freed_memory
from fastnst.models.transform_net import TransformNet

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Step:
    """One training step at a time, as `fastnst.training.module.StyleTransfer` has it, without Lightning's own work.

    Call it with photographs, (N, 3, H, W) in 0-1; it returns the terms of the objective, scalars by name.
    """

    def __init__(self, net: TransformNet, objective: Objective, dtype: torch.dtype = torch.float32):
        self.net = net.to(memory_format=torch.channels_last)
        self.objective = objective.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        self.dtype = dtype

    def autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def losses(self, photographs: Tensor) -> dict[str, Tensor]:
        x = photographs.contiguous(memory_format=torch.channels_last)
        with self.autocast(x):
            return self.objective(self.net(x), self.objective.target(x))

    def __call__(self, photographs: Tensor) -> dict[str, Tensor]:
        terms = self.losses(photographs)
        terms["total"].backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return terms


def make_step(kind: str, width: int, device: torch.device) -> "Step | textbook.Step":
    """A step from the same weights whatever its kind: `textbook`, `float32` or `bfloat16`, or `compiled` (bfloat16)."""
    torch.manual_seed(0)
    net, style_image = TransformNet(width=width), reference_picture()
    objective = Objective(LossNetwork(), [style_image]).to(device)
    if kind == "textbook":
        return textbook.Step(net, objective, style_image.to(device))
    if kind == "compiled":
        for part in (net, objective, objective.loss_network):
            part.compile()
    return Step(net.to(device), objective, torch.float32 if kind == "float32" else torch.bfloat16)


@contextmanager
def contenders(batch: Tensor, width: int) -> Iterator[Callable[[str], float]]:
    """Takes a step of a kind (see `make_step`) when asked, and tells its seconds.

    The textbook's step has a process of its own, as ours sets how a process keeps its memory.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        arguments = (theirs, batch.numpy(), width, torch.get_num_threads())
        processes.append(context.Process(target=_contend, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)

    def ask(kind: str) -> float:
        pipe = pipes[kind == "textbook"]
        try:
            pipe.send(kind)
            return pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"the process of the {kind} step has died; its own error stands above") from None

    try:
        yield ask
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(30)
            process.kill()


def _contend(pipe, batch: np.ndarray, width: int, threads: int) -> None:
    torch.set_num_threads(threads)
    device = best_device()
    photographs, steps = torch.from_numpy(batch).to(device), {}
    while True:
        try:
            kind = pipe.recv()
        except (EOFError, OSError):
            return  # the parent has what it wants
        if kind not in steps:
            if kind != "textbook":
                keep_freed_memory()
                torch.set_float32_matmul_precision("high")
            steps[kind] = make_step(kind, width, device)
        pipe.send(clock(lambda kind=kind: steps[kind](photographs), device))


def clock(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes, on the device too."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def interleaved(contest: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of what each gives in `rounds` rounds, in each of which all have their turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    for _ in range(rounds):
        for name, measure in contest.items():
            seconds[name].append(measure())
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_memory(batch: int, side: int, width: int) -> dict:
    """Peak memory in MB of a process before it takes one float32 training step, and while it does."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        before, peak = pool.apply(_peak, (batch, side, width, torch.get_num_threads()))
    return {"batch_size": batch, "size": side, "before_mb": before, "peak_mb": peak}


def _peak(batch: int, side: int, width: int, threads: int) -> tuple[int | None, int | None]:
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = best_device()
    step, photographs = make_step("float32", width, device), torch.rand(batch, 3, side, side, device=device)
    with PeakMemory(device) as before:
        pass
    with PeakMemory(device) as during:
        clock(lambda: step(photographs), device)
    return before.megabytes, during.megabytes
