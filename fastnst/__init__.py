"""fastnst: fast neural style transfer (Johnson et al. 2016)."""

__version__ = "0.2.0"


def load(*paths: str, weights: list[float] | None = None, style: str | dict[str, float] | None = None):
    """A checkpoint as an object that restyles pictures: `fastnst.load("wave.safetensors")(image)` gives a PIL image.

    Several are mixed by `weights`. `style` chooses one of a checkpoint of several, or the painting. See
    `fastnst.inference.stylizer.Stylizer`.
    """
    from fastnst.inference.stylizer import Stylizer  # here, so that the version can be read without importing torch

    return Stylizer(*paths, weights=weights, style=style)
