"""The loss network's weights, shipped, downloaded or from a file, and the preprocessing that each set of them wants."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from fastnst.errors import UserError
from fastnst.losses.layer_names import STYLE_LAYERS, WIDTHS, check_layers, torchvision_index, up_to

ASSETS = Path(__file__).parents[1] / "assets" / "loss_network"
# Oxford's VGG16 in two files: the paper's layers want the first alone.
OXFORD = {
    ASSETS / "vgg16_oxford.safetensors": "0c6eb3f4a0be60fcd01c040b604216fcdc2207b8bcd1e7eea3cd5e8b94f3ede9",
    ASSETS / "vgg16_oxford_block5.safetensors": "9f677438dbee9b4e431f70584635f7cd60bff2ea73356f10d675fc5cbb6836a8",
}
# conv1_1's first bias tells Oxford's network from a retrained one: torchvision keeps both in the same layout.
OXFORD_FIRST_BIAS = 0.73429835


@dataclass(frozen=True)
class WeightSet:
    """Convolution weights and the preprocessing they were trained with: `(rgb - mean) / std`, rgb in 0-1.

    weights: `conv1_1.weight` (64, 3, 3, 3), input channels in the order R, G, B, `conv1_1.bias` (64,), and so on, float32.
    mean, std: one number for each of R, G, B, in 0-1.
    """

    weights: dict[str, Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    # Oxford's Caffe network takes B, G, R in 0-255 less a mean colour. Its file here was written with conv1_1's input
    # channels reversed, so that it takes R, G, B, and dividing by 1/255 restores the range.
    CAFFE: ClassVar = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255))
    IMAGENET: ClassVar = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's IMAGENET1K_V1

    @classmethod
    def load(cls, source: str, network: str = "vgg16", layers: Collection[str] = STYLE_LAYERS) -> "WeightSet":
        """`oxford` (VGG16, shipped), `torchvision` (IMAGENET1K_V1), `torchvision_features` (IMAGENET1K_FEATURES) or a file.

        A file is safetensors or a torch state dict (.pth, read with weights_only), its names ours (`conv1_1.weight`) or
        torchvision's (`features.0.weight`). Oxford's VGG16 is recognised in it; anything else is taken to have been trained
        with torchvision's preprocessing. Only what `layers` take is kept. Raises UserError for anything else.
        """
        check_layers(layers, network)
        needed = up_to(layers, network)
        if source == "oxford":
            if network != "vgg16":
                raise UserError(f"loss_network.weights=oxford is VGG16 alone; for {network} give torchvision or a file")
            state: dict[str, Tensor] = {}
            for file, digest in OXFORD.items():
                if not set(state) >= {f"{name}.weight" for name in needed}:
                    state |= _read_oxford(file, digest)
        elif source in ("torchvision", "torchvision_features"):
            state = _download(source, network)
        else:
            state = _read_file(Path(source))
        return cls.from_state_dict(state, source, network, needed)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], source: str, network: str, needed: Collection[str]) -> "WeightSet":
        """The convolutions `needed` from either layout; `source` is named in errors."""
        prefixes = {name: name for name in needed}
        if "features.0.weight" in state:
            prefixes = {name: f"features.{index}" for name, index in torchvision_index(network).items()}
        weights, channels = {}, 3
        for name in needed:
            width = WIDTHS[int(name[4]) - 1]
            for kind, shape in (("weight", (width, channels, 3, 3)), ("bias", (width,))):
                key = f"{prefixes[name]}.{kind}"
                if key not in state or tuple(state[key].shape) != shape:
                    raise UserError(
                        f"loss_network.weights={source}: not a {network} (no tensor {key} of shape {shape}); "
                        f"give torchvision, a file of a {network}, or for VGG16 oxford"
                    )
                weights[f"{name}.{kind}"] = state[key].float()
            channels = width
        is_oxford = network == "vgg16" and abs(weights["conv1_1.bias"][0].item() - OXFORD_FIRST_BIAS) < 1e-3
        mean, std = cls.CAFFE if is_oxford else cls.IMAGENET
        return cls(weights, mean, std)


def _read_oxford(file: Path, digest: str) -> dict[str, Tensor]:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file} is missing; install fastnst again") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise UserError(f"{file} is damaged (wrong SHA-256); install fastnst again")
    return load_safetensors(data)


def _download(source: str, network: str) -> dict[str, Tensor]:
    from torchvision.models import VGG16_Weights, VGG19_Weights  # here, as it takes a second that Oxford's need not cost

    name = "IMAGENET1K_V1" if source == "torchvision" else "IMAGENET1K_FEATURES"
    weights = (VGG16_Weights if network == "vgg16" else VGG19_Weights).__members__.get(name)
    if weights is None:
        raise UserError(f"loss_network.weights={source}: torchvision has no such {network}; give torchvision or a file")
    try:
        return weights.get_state_dict(progress=True)
    except OSError as error:  # urllib's errors are OSErrors
        shipped = (
            "loss_network.weights=oxford" if network == "vgg16" else "loss_network=vgg16, with layers of the same names,"
        )
        raise UserError(
            f"loss_network.weights={source}: {weights.url} cannot be downloaded ({error}); "
            f"give {shipped} which is shipped, or loss_network.weights=FILE"
        ) from None


def _read_file(path: Path) -> dict[str, Tensor]:
    choices = "give oxford, torchvision, torchvision_features or the path of a file"
    if not path.is_file():
        raise UserError(f"loss_network.weights={path}: no such file; {choices}")
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(path.read_bytes())
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {k: v for k, v in state.items() if isinstance(v, Tensor)}
    except Exception:  # torch.load raises nearly anything on a file that is not its own
        raise UserError(f"loss_network.weights={path}: not a safetensors file or a torch state dict; {choices}") from None
