"""Our training step and the textbook's, in processes of their own, as ours sets how a process keeps its memory.

The processes import this module, and so it imports little.
"""

import functools
import multiprocessing
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor

import torch
from torch import Tensor

from fastnst.benchmark import textbook
from fastnst.images import best_device
from fastnst.losses.objective import Objective
from fastnst.losses.terms import reference_picture
from fastnst.losses.vgg import LossNetwork
from fastnst.memory import PeakMemory, keep_freed_memory
from fastnst.models.transform_net import TransformNet
from fastnst.timing import clock

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


def interleaved(contest: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of what each gives in `rounds` rounds, in each of which all have their turn."""
    values = [{name: measure() for name, measure in contest.items()} for _ in range(rounds)]
    return {name: statistics.median(round[name] for round in values) for name in contest}


def time_steps(batch: int, side: int, width: int, rounds: int) -> list[dict]:
    """Seconds of a training step of each kind, and how many times as fast as the textbook's it is; without the data."""
    kinds = ["textbook", *DTYPES] + (["compiled"] if best_device().type != "cpu" else [])
    with process() as theirs, process() as ours:

        def ask(kind: str) -> Future:
            pool = theirs if kind == "textbook" else ours
            return pool.submit(_seconds, kind, batch, side, width)

        for first in [ask(kind) for kind in kinds]:  # slower than those that follow
            first.result()

        def answer(kind: str) -> float:
            return ask(kind).result()

        seconds = interleaved({kind: functools.partial(answer, kind) for kind in kinds}, rounds)
    return [
        {"step": kind, "seconds": s, "images_per_second": batch / s, "times_the_textbook": seconds["textbook"] / s}
        for kind, s in seconds.items()
    ]


def measure_memory(batch: int, side: int, width: int) -> dict:
    """Peak memory in MB of a process before it takes one float32 training step, and while it does."""
    with process() as own:
        before, peak = own.submit(_peak, batch, side, width).result()
    return {"batch": batch, "px": side, "before_mb": before, "peak_mb": peak}


def process() -> ProcessPoolExecutor:
    """A new process, which starts with the first thing that it is given."""
    context, threads = multiprocessing.get_context("spawn"), torch.get_num_threads()
    return ProcessPoolExecutor(1, context, initializer=torch.set_num_threads, initargs=(threads,))


@functools.cache
def _prepared(kind: str, width: int) -> "Step | textbook.Step":
    if kind != "textbook":
        keep_freed_memory()  # as training does
        torch.set_float32_matmul_precision("high")
    return make_step(kind, width, best_device())


def _seconds(kind: str, batch: int, side: int, width: int) -> float:
    step = _prepared(kind, width)
    photographs = torch.rand(batch, 3, side, side).to(best_device())
    return clock(lambda: step(photographs))


def _peak(batch: int, side: int, width: int) -> tuple[int | None, int | None]:
    step = _prepared("float32", width)
    photographs = torch.rand(batch, 3, side, side).to(best_device())
    with PeakMemory(best_device()) as before:
        pass
    with PeakMemory(best_device()) as during:
        step(photographs)
    return before.megabytes, during.megabytes
