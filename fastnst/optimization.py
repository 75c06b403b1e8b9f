"""The slow method: one picture, optimized itself (Gatys et al. 2015; the baseline of Johnson et al. 2016, section 4.1)."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.errors import UserError
from fastnst.losses import Objective


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
    from the optimizer and the number of steps.

    As the paper's baseline, an iteration ends with clipping the pixels to their range: projected L-BFGS. Raises UserError
    if the loss is not finite.
    """
    target, unit = objective.target(photograph), objective.pixel_unit
    pixels = (start / unit).contiguous().requires_grad_()  # L-BFGS views it as one vector
    stepper = optimizer([pixels])
    scheduler = schedule(stepper, steps)
    for step in range(steps + 1):
        evaluations = []

        def evaluate() -> Tensor:
            stepper.zero_grad()
            terms = objective(pixels * unit, target)
            terms["total"].backward()
            evaluations.append({name: value.detach() for name, value in terms.items()})  # noqa: B023
            return terms["total"]

        picture = pixels.detach() * unit
        if step < steps:
            stepper.step(evaluate)
            scheduler.step()
            with torch.no_grad():
                pixels.clamp_(0, 1 / unit)
        else:
            evaluate()
        # An optimizer that searches along a line evaluates more than once: the first time at the iterate itself.
        terms = evaluations[0]
        if not (terms["total"].isfinite() and pixels.isfinite().all()):
            raise UserError(f"the loss is not finite at step {step}; give a lower optimizer.lr, or optimizer=adam")
        yield Iterate(step, picture, terms)


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """A picture, (1, 3, H, W) in 0-1, enlarged or reduced to height x width px."""
    if picture.shape[-2:] == (height, width):
        return picture
    return F.interpolate(picture, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
