"""Training steps: the textbook's, and ours in each precision, at one scale and at three, in one process and in two.

They are taken in processes of their own, which import this module: so it imports little.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, nullcontext
from functools import cache, partial
from multiprocessing import get_context

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from fastnst.benchmark import textbook
from fastnst.images import best_device
from fastnst.losses.objective import Objective
from fastnst.losses.terms import reference_picture
from fastnst.losses.vgg import LossNetwork
from fastnst.memory import PeakMemory, keep_freed_memory
from fastnst.models.transform_net import TransformNet
from fastnst.timing import clock

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or else the profiler talks on stderr
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
GRAM = "_Gram", "_GramBackward"  # as the profiler names the Gram matrices
ONE, TWO, APART = "float32, one thread", "float32, two processes of one thread", "float32, two that exchange no gradients"
KINDS = {  # of steps, and beside which other each is seen
    "textbook": "textbook", "float32": "textbook", "bfloat16": "textbook",
    "float32, three scales": "float32", "bfloat16, three scales": "bfloat16", ONE: "float32", TWO: ONE, APART: TWO,
}  # fmt: skip


class Step:
    """One training step at a time, as `fastnst.training.module.StyleTransfer` has it, without Lightning's own work.

    Call it with photographs, (N, 3, H, W) in 0-1; it returns the terms of the objective, scalars by name.
    """

    def __init__(self, kind: str, width: int, device: torch.device):
        torch.manual_seed(0)
        scales = (1, 2, 4) if "scales" in kind else (1,)
        self.net = TransformNet(width=width).to(device).to(memory_format=torch.channels_last)
        self.forward: nn.Module = self.net  # or what DDP makes of it
        self.objective = Objective(LossNetwork(), [reference_picture()], scales=scales).to(device)
        self.objective.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, fused=True)
        self.half = kind.startswith("bfloat16")

    def __call__(self, photographs: Tensor) -> dict[str, Tensor]:
        self.optimizer.zero_grad()
        x = photographs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            with record_function("transform net"):
                restyled = self.forward(x)
            with record_function("VGG, photographs"):
                target = self.objective.target(x)
            with record_function("VGG and losses, results"):
                terms = self.objective(restyled, target)
        with record_function("VGG and losses, backward"):
            (gradient,) = torch.autograd.grad(terms["total"], restyled)
        with record_function("transform net, backward"):
            restyled.backward(gradient)
        self.optimizer.step()
        return terms


def make_step(kind: str, width: int, device: torch.device) -> Step | textbook.Step:
    """A `Step`, or the textbook's from the same weights."""
    step = Step(kind, width, device)
    return textbook.Step(step.net, step.objective, reference_picture().to(device)) if kind == "textbook" else step


def compare(contest: Mapping[str, Callable], rounds: int, images: int, beside: Mapping[str, str]) -> list[dict]:
    """Seconds of each work of `contest`: medians of `rounds` rounds, in each of which all have their turn.

    A round before these, slower than they are, is not counted. images: how many a work is done with. beside: the other work
    whose seconds one's own are divided by; the first where it names none.
    """

    def measured(work: Callable) -> float:
        time.sleep(0.05)  # threads of the work before wait busily for more: ONNX Runtime's for 0.03 s
        return clock(work)

    times = [{name: measured(work) for name, work in contest.items()} for _ in range(rounds + 1)][1:]
    seconds = {name: statistics.median(round[name] for round in times) for name in contest}
    rows = []
    for name, s in seconds.items():
        other = beside.get(name, next(iter(contest)))
        row = {"what": name, "seconds": s, "images_per_second": images / s}
        rows.append(row | {"ratio": s / seconds[other], "beside": other})
    return rows


def time_steps(batch: int, side: int, width: int, rounds: int) -> list[dict]:
    """Steps of each kind, without the data. Two processes share the batch, by DDP with gloo.

    Beside the seconds: the first step's loss, which in one process and at one scale is the textbook's but for rounding, and
    the peak memory in MB of its process, with what that keeps of kinds before.
    """
    batch += batch % 2
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        # The textbook's has a process of its own, as ours sets how a process keeps its memory.
        theirs, ours, second = (stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"))) for _ in range(3))

        def take(kind: str) -> dict[str, float | None]:
            group = {"textbook": [theirs], TWO: [ours, second], APART: [ours, second]}.get(kind, [ours])
            threads = 1 if kind in (ONE, TWO, APART) else torch.get_num_threads()
            step = kind, batch // len(group), side, width, f"{folder}/meeting"
            taken = [one.submit(_take, threads, *step, rank) for rank, one in enumerate(group)]
            return [future.result() for future in taken][0]

        first = [take(kind) for kind in KINDS]
        rows = compare({kind: partial(take, kind) for kind in KINDS}, rounds, batch, KINDS)
    return [row | more for row, more in zip(rows, first, strict=True)]


def _take(threads: int, kind: str, *settings) -> dict[str, float | None]:
    torch.set_num_threads(threads)
    step, photographs = _step(TWO if kind == APART else kind, *settings)
    with PeakMemory(best_device()) as memory, step.forward.no_sync() if kind == APART else nullcontext():
        terms = step(photographs)
    return {"loss": terms["total"].item(), "peak_mb": memory.megabytes}


@cache
def _step(kind: str, batch: int, side: int, width: int, meeting: str, rank: int):
    """A step and what it is taken on, noise that is the same for all kinds."""
    if kind != "textbook":
        keep_freed_memory()  # as training does
        torch.set_float32_matmul_precision("high")
    device = torch.device("cpu") if kind in (ONE, TWO) else best_device()
    step = make_step(kind, width, device)
    if isinstance(step, Step) and kind == TWO:
        torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
        step.forward = DistributedDataParallel(step.net)
    return step, torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)


def profile_step(batch: int, side: int, width: int, rounds: int, kind: str) -> list[dict]:
    """Where our step's seconds go, and its operations a second beside those of a matrix product. kind: of DTYPES.

    The product is written as a convolution of 1 x 1, as torch's own is slower in float32. Of a GPU's step no parts are told,
    as they end later than Python's calls.
    """
    device, dtype = best_device(), DTYPES[kind]
    c = 1024 if device.type == "cpu" else 8192
    maps = torch.randn(16, c, 16, 16, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    product = partial(nn.functional.conv2d, maps, torch.randn(c, c, 1, 1, device=device, dtype=dtype))
    step = partial(Step(kind, width, device), torch.rand(batch, 3, side, side, device=device))
    works: dict[str, Callable[[], object]] = {"step": step, "matrix product": product}
    gflop = {}
    for name, work in works.items():
        with FlopCounterMode(display=False) as counter:
            work()
        gflop[name] = counter.get_total_flops() / 1e9
    with profile(acc_events=True) as profiler:
        for _ in range(rounds):
            for name, work in works.items():
                with record_function(name):
                    clock(work)
    events = profiler.key_averages()
    seconds = {event.key: event.cpu_time_total / 1e6 / rounds for event in events}
    speed = {name: gflop[name] / seconds[name] for name in works}
    parts = [e.key for e in events if e.is_user_annotation or e.key in GRAM] if device.type == "cpu" else works
    return [
        {
            "precision": kind, "part": part, "seconds": seconds[part], "of_the_step": seconds[part] / seconds["step"],
            "gflop_per_second": speed.get(part), "of_the_peak": speed[part] / max(speed.values()) if part in speed else None,
        }
        for part in parts
    ]  # fmt: skip
