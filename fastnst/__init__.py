"""fastnst: fast neural style transfer (Johnson et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnst.checkpoint import Style
    from fastnst.inference.stylizer import Stylizer

__version__ = "0.2.0"


def load(*paths: str | Path, weights: Sequence[float] | None = None, style: Style = None) -> Stylizer:
    """A checkpoint as an object that restyles pictures: `fastnst.load("wave")(image)` gives a PIL image.

    paths: a file or the name of a shipped checkpoint; several are mixed by `weights`. style: the name of one of a
    checkpoint's styles, or the painting for a zero-shot one, as a file or a PIL image; or shares or masks of several, as
    {"a.jpg": "mask_a.png", ...}. See `fastnst.inference.stylizer.Stylizer`.
    """
    from fastnst.inference.stylizer import Stylizer  # here, as it imports torch, which takes seconds

    return Stylizer(*paths, weights=weights, style=style)
