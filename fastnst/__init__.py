"""fastnst: fast neural style transfer (Johnson et al. 2016)."""

__version__ = "0.1.0"


def load(path: str):
    """A checkpoint as an object that restyles pictures: `fastnst.load("wave.safetensors")(image)` gives a PIL image.

    See `fastnst.inference.Stylizer`.
    """
    from fastnst.inference import Stylizer  # here, so that the version can be read without importing torch

    return Stylizer(path)
