"""What a checkpoint is measured by: figures of its results, its own objective, its artefacts, its speed."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastnst.errors import UserError
from fastnst.evaluation.figures import (
    ARTEFACTS,
    contrast,
    equivalent_iterations,
    gram_matrices,
    motif,
    palette,
    relative_content,
    strokes,
    style_distance,
    tone,
)
from fastnst.evaluation.pictures import read
from fastnst.losses import recipes
from fastnst.losses.objective import Objective, without_parts
from fastnst.losses.vgg import LossNetwork
from fastnst.memory import PeakMemory
from fastnst.timing import clock

Grams = Mapping[str, Sequence[Tensor]]  # the `gram_matrices` of paintings, by name
FIGURES = ("relative_content", "relative_style", "strokes", "palette", "contrast", "tone", "motif")
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


def measure(
    network: LossNetwork, restyled: Tensor, photograph: Tensor, painting: str, paintings: Mapping[str, Tensor], grams: Grams
) -> dict[str, Any]:
    """The painting a result is `nearest` to, and each of FIGURES; None for motif where no window of the photograph is flat.

    painting: its name among `paintings`, which have a short side of PAINTING_SIZE px. grams: their `gram_matrices`.
    """
    repeated, own = motif(restyled, photograph), gram_matrices(network, restyled)
    return {
        "nearest": nearest(own, grams),
        "relative_content": relative_content(network, restyled, photograph),
        "relative_style": style_distance(own, grams[painting]),
        "strokes": strokes(network, restyled, paintings[painting]),
        "palette": palette(restyled, paintings[painting]),
        "contrast": contrast(restyled, paintings[painting]),
        "tone": tone(restyled, photograph),
        "motif": None if math.isnan(repeated) else repeated,  # JSON has no nan
    }


def nearest(grams: Sequence[Tensor], paintings: Grams) -> str:
    """The painting, of those given by their `gram_matrices`, whose Gram matrices a result's are nearest to.

    As `relative_style`, but over the sum of both squared norms, so that no painting is near to all. A net that has learnt
    the paintings' mean, and not the paintings, names the right one no more often than chance.
    """

    def distance(name: str) -> float:
        pairs = zip(grams, paintings[name], strict=True)
        return sum(((a - b).square().sum() / (a.square().sum() + b.square().sum())).item() for a, b in pairs)

    return min(paintings, key=distance)


def share_own(results: Iterable[Mapping]) -> float:
    """The share of results that are `nearest` to their own painting."""
    return statistics.mean(r["nearest"] == r["painting"] for r in results)


def means(results: Iterable[Mapping]) -> dict[str, float | None]:
    """The mean of each of FIGURES over the results that have it; None if none has."""
    columns = {name: [r[name] for r in results if r[name] is not None] for name in FIGURES}
    return {name: statistics.mean(values) if values else None for name, values in columns.items()}


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
    loss_network = LossNetwork(weights, network, layers).to(device).to(memory_format=torch.channels_last)
    return kind(loss_network, [read(painting, device, short_side=size)], **arguments).to(device)


def beside_optimization(
    objective: Objective, photograph: Tensor, restyled: Tensor, descend: Callable, marks: list[int]
) -> tuple[dict, dict[int, Tensor]]:
    """A result beside L-BFGS on the same objective, and L-BFGS's pictures after 100 and the last of `marks` iterations.

    descend: see `speed`. marks: the iterations whose terms are kept.
    """
    with torch.no_grad():
        target = objective.target(photograph)
        terms = {
            "photograph": without_parts(objective(photograph, target)),
            "network": without_parts(objective(restyled, target)),
        }
    curve, pictures = [], {}
    for step, picture, values in descend(photograph, max(marks)):
        curve.append(values["total"].item())
        if step in marks:
            terms[str(step)] = without_parts(values)
        if step in (100, max(marks)):
            pictures[step] = picture
    return {
        "terms": terms,
        "curve": curve,
        "equivalent_iterations": equivalent_iterations(curve, terms["network"]["total"]),
    }, pictures


def median_iterations(results: Iterable[Mapping], most: int) -> int | None:
    """The median of equivalent iterations; None: more than the `most` that were run."""
    median = statistics.median_low(
        most + 1 if r["equivalent_iterations"] is None else r["equivalent_iterations"] for r in results
    )
    return None if median > most else median


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


def speed(net: nn.Module, photograph: Tensor, side: int, descend: Callable, steps: int) -> dict:
    """Seconds and peak memory of one pass, and of `steps` iterations of optimization, reckoned from a few timed ones.

    descend: photograph and number of steps to the iterates of `fastnst.optimization.optimize`. steps: 0 for the pass alone.
    The few leave out that L-BFGS's own work grows with its history: the true ratio is a little higher.
    """

    @torch.inference_mode()
    def restyle() -> None:
        net(photograph)

    restyle()
    with PeakMemory(photograph.device) as memory:
        one_pass = statistics.median(clock(restyle) for _ in range(3))
    measured = {"size": side, "pass_seconds": one_pass, "pass_memory_mb": memory.megabytes}
    if not steps:
        return measured
    iterates = descend(photograph, max(steps, 4))
    next(iterates)
    with PeakMemory(photograph.device) as memory:
        iteration = statistics.median(clock(lambda: next(iterates)) for _ in range(3))
    return measured | {
        "optimization_seconds": iteration * steps,
        "ratio": iteration * steps / one_pass,
        "optimization_memory_mb": memory.megabytes,
    }
