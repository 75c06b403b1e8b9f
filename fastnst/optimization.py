"""Optimization-based style transfer of one picture (Gatys et al. 2015; the baseline of Johnson et al. 2016, section 4.1)."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.errors import UserError
from fastnst.losses.objective import Objective

STEP = (1e-5, 0.03)  # the least and the most that an L-BFGS iteration moves pixels by on average, in 0-1


class Iterate(NamedTuple):
    """The picture after `step` iterations, (1, 3, H, W) in 0-1, and its terms of the objective (scalar tensors)."""

    step: int
    picture: Tensor
    terms: dict[str, Tensor]


def initial(init: str, photograph: Tensor, init_noise: float = 0.7, seed: int = 0) -> Tensor:
    """Where the optimization starts: `content` (the photograph), `noise` (uniform in 0-1), or `blend`.

    init_noise: the noise's share of a blend, 0-1. photograph: (1, 3, H, W) in 0-1; returns the same shape. Raises
    UserError for another `init` or share.
    """
    if init not in ("content", "noise", "blend"):
        raise UserError(f"init={init}: give content, noise or blend")
    if not 0 <= init_noise <= 1:
        raise UserError(f"init_noise={init_noise}: give the noise's share, from 0 to 1")
    share = {"content": 0.0, "noise": 1.0, "blend": init_noise}[init]
    noise = torch.rand(photograph.shape, generator=torch.Generator().manual_seed(seed)).to(photograph)
    return torch.lerp(photograph, noise, share)


def optimize(
    objective: Objective, photograph: Tensor, start: Tensor, optimizer: Callable, schedule: Callable, steps: int
) -> Iterator[Iterate]:
    """Minimizes `objective` over the pixels of `start`, giving every iterate from 0 (`start` itself) to `steps`.

    photograph, start: (1, 3, H, W) in 0-1. optimizer: makes one from parameters. schedule: makes a learning-rate scheduler
    from the optimizer and the number of steps. Raises UserError for settings that the optimizer does not take, and if the
    loss is not finite.

    As in the paper's baseline, each iteration clips the pixels to their range: projected L-BFGS. Beyond the paper, L-BFGS's
    steps are bounded in length (STEP). On raw losses of 1e13 its first full steps would turn all pixels black or white, or
    would be so small that it learns from rounding errors and never moves.
    """
    target, unit = objective.target(photograph), objective.pixel_unit
    pixels = (start / unit).contiguous().requires_grad_()  # L-BFGS views it as one vector
    try:
        stepper = optimizer([pixels])
        scheduler = schedule(stepper, steps)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"optimizer: {error}") from None
    return _descend(objective, target, pixels, stepper, scheduler, steps)


def _descend(
    objective: Objective, target: dict[str, Tensor], pixels: Tensor, stepper, scheduler, steps: int
) -> Iterator[Iterate]:
    unit = objective.pixel_unit
    for step in range(steps + 1):
        evaluations = []

        def evaluate() -> Tensor:
            stepper.zero_grad()
            terms = objective(pixels * unit, target)
            terms["total"].backward()
            evaluations.append({name: value.detach() for name, value in terms.items()})  # noqa: B023
            return terms["total"]

        before = pixels.detach().clone()
        if step < steps:
            stepper.step(evaluate)
            scheduler.step()
            with torch.no_grad():
                memory = stepper.state[pixels] if isinstance(stepper, torch.optim.LBFGS) else {}
                if "d" in memory:
                    _bound_step(memory, pixels, before, unit)
                pixels.clamp_(0, 1 / unit)
                if "d" in memory:  # L-BFGS learns curvature from its steps: let it see the one that was taken
                    memory["d"] = ((pixels - before) / memory["t"]).view(-1)
        else:
            evaluate()
        # An optimizer that searches along a line evaluates more than once: the first time at the iterate itself.
        terms = evaluations[0]
        if not (terms["total"].isfinite() and pixels.isfinite().all()):
            values = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
            raise UserError(f"the loss is not finite at step {step} ({values}); give a lower optimizer.lr or other weights")
        yield Iterate(step, before * unit, terms)


def _bound_step(memory: dict, pixels: Tensor, before: Tensor, unit: float) -> None:
    """Replaces the step that L-BFGS has just taken by one of bounded length, in its memory too."""
    direction = memory["d"].view_as(pixels)
    length = direction.abs().mean().item() * abs(memory["t"]) * unit
    if length > 0 and not STEP[0] <= length <= STEP[1]:
        memory["t"] *= min(max(length, STEP[0]), STEP[1]) / length
        pixels.copy_(before + memory["t"] * direction)


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """A picture, (1, 3, H, W) in 0-1, enlarged or reduced to height x width px."""
    if picture.shape[-2:] == (height, width):
        return picture
    return F.interpolate(picture, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
