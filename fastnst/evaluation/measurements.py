"""What a checkpoint is measured by: its own objective, its artefacts against the photographs', its speed."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fastnst.checkpoint import load_net
from fastnst.errors import UserError
from fastnst.evaluation.figures import ARTEFACTS
from fastnst.images import fit, load_rgb, to_tensor
from fastnst.losses import recipes
from fastnst.losses.objective import Objective
from fastnst.losses.vgg import LossNetwork
from fastnst.memory import PeakMemory
from fastnst.models.transform_net import TransformNet

# Each kind under the name that checkpoints of version 0.1 have for it, whatever its class is called now.
OBJECTIVES = {
    "fastnst.losses.Objective": Objective,
    "fastnst.recipes.Isotropic": recipes.Isotropic,
    "fastnst.recipes.Gatys": recipes.Gatys,
    "fastnst.recipes.PyTorch": recipes.PyTorch,
    "fastnst.recipes.TensorFlow": recipes.TensorFlow,
    "fastnst.recipes.D2L": recipes.D2L,
}
OBJECTIVES |= {f"{kind.__module__}.{kind.__qualname__}": kind for kind in OBJECTIVES.values()}


def read(path: Path, device: torch.device, long_side: int | None = None, short_side: int | None = None) -> Tensor:
    """A picture as (1, 3, H, W) in 0-1, of that size in px."""
    image = load_rgb(path, short_side)
    return to_tensor(fit(image, long_side) if long_side else image).unsqueeze(0).to(device)


def load_painting(checkpoint: Path, style: str, painting: Path) -> tuple[TransformNet, dict]:
    """A checkpoint's net for a style, or for a painting's file if it takes any, and its info.

    Raises UserError if it was trained on other styles.
    """
    net, info = load_net(checkpoint)
    return net.pick_painting(style, painting, info, checkpoint), info


def trained_objective(info: dict, painting: Path, device: torch.device) -> Objective:
    """The objective that a checkpoint says it was trained on, for a painting. Raises UserError if it does not say."""
    try:
        arguments, size = dict(info["objective"]), info["style"]["size"]
        kind = OBJECTIVES[arguments.pop("_target_")]
        layers = [arguments["content_layer"], *arguments["style_layers"]]
        network = arguments.pop("loss_network")
        weights, network = network["weights"], network["network"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the checkpoint does not say what objective it was trained on ({error!r})") from None
    network = LossNetwork(weights, network, layers).to(device, memory_format=torch.channels_last)
    return kind(network, [read(painting, device, short_side=size)], **arguments).to(device)


def artefact(name: str, results: list[dict]) -> dict:
    """Medians over the photographs and over the net's results, and whether the threshold is kept."""
    photographs, network = (statistics.median(r["artefacts"][name][of] for r in results) for of in ("photograph", "network"))
    threshold = ARTEFACTS[name][1]
    return {
        "photographs": photographs,
        "network": network,
        "threshold": threshold,
        "kept": network <= photographs + threshold,
    }


def speed(net: nn.Module, descend: Callable, photograph: Tensor, side: int, steps: int) -> dict:
    """Seconds and peak memory of one pass, and of `steps` iterations of optimization reckoned from a few timed ones.

    The few leave out that L-BFGS's own work grows with its history: the true ratio is a little higher.
    """

    def seconds(work: Callable[[], object]) -> float:
        started = time.perf_counter()
        work()
        if photograph.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    @torch.inference_mode()
    def restyle() -> None:
        net(photograph)

    restyle()
    with PeakMemory(photograph.device) as pass_memory:
        one_pass = statistics.median(seconds(restyle) for _ in range(3))
    iterates = descend(photograph, max(steps, 4))
    next(iterates)
    with PeakMemory(photograph.device) as optimization_memory:
        iteration = statistics.median(seconds(lambda: next(iterates)) for _ in range(3))
    return {
        "size": side,
        "pass_seconds": one_pass,
        "optimization_seconds": iteration * steps,
        "ratio": iteration * steps / one_pass,
        "pass_memory_mb": pass_memory.megabytes,
        "optimization_memory_mb": optimization_memory.megabytes,
    }
