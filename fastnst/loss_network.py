"""The loss network: VGG16 up to relu4_3, frozen (Johnson et al. 2016, section 3.2; Simonyan and Zisserman 2014).

Everywhere in fastnst a picture is RGB in 0-1. What a particular set of weights wants instead (a range, a mean, a channel
order) is known to `WeightSet` alone.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from fastnst.errors import UserError

# Name and output channels of each convolution; a pooling precedes the first convolution of blocks 2 to 4.
CONVOLUTIONS = {
    "conv1_1": 64, "conv1_2": 64,
    "conv2_1": 128, "conv2_2": 128,
    "conv3_1": 256, "conv3_2": 256, "conv3_3": 256,
    "conv4_1": 512, "conv4_2": 512, "conv4_3": 512,
}  # fmt: skip
LAYERS = tuple(name.replace("conv", "relu") for name in CONVOLUTIONS)
# The indices that the same convolutions have in torchvision's `vgg16().features`.
TORCHVISION_INDEX = dict(zip(CONVOLUTIONS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21), strict=True))

OXFORD_FILE = Path(__file__).parent / "assets" / "loss_network" / "vgg16_oxford.safetensors"
OXFORD_SHA256 = "5caa0aae8ca12fa9eea6013b2cc9586712d01b54c4c9c602b09793e5c977044c"
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
    OXFORD: ClassVar = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255))
    IMAGENET: ClassVar = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's IMAGENET1K_V1

    @classmethod
    def load(cls, source: str) -> "WeightSet":
        """`oxford` (shipped), `torchvision` (IMAGENET1K_V1), `torchvision_features` (IMAGENET1K_FEATURES) or a file.

        A file is safetensors or a torch state dict (.pth, read with weights_only), its names ours (`conv1_1.weight`) or
        torchvision's (`features.0.weight`). Raises UserError for anything else.
        """
        if source == "oxford":
            return cls.from_state_dict(_read_oxford(), source)
        if source in ("torchvision", "torchvision_features"):
            return cls.from_state_dict(_download(source), source)
        return cls.from_state_dict(_read_file(Path(source)), source)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], source: str) -> "WeightSet":
        """Takes either layout; `source` is named in errors."""
        prefixes = {name: name for name in CONVOLUTIONS}
        if "features.0.weight" in state:
            prefixes = {name: f"features.{index}" for name, index in TORCHVISION_INDEX.items()}
        weights, channels = {}, 3
        for name, width in CONVOLUTIONS.items():
            for kind, shape in (("weight", (width, channels, 3, 3)), ("bias", (width,))):
                key = f"{prefixes[name]}.{kind}"
                if key not in state or tuple(state[key].shape) != shape:
                    raise UserError(
                        f"loss_network.weights={source}: not a VGG16 (no tensor {key} of shape {shape}); "
                        "give oxford, torchvision, torchvision_features or a VGG16 file"
                    )
                weights[f"{name}.{kind}"] = state[key].float()
            channels = width
        is_oxford = abs(weights["conv1_1.bias"][0].item() - OXFORD_FIRST_BIAS) < 1e-3
        mean, std = cls.OXFORD if is_oxford else cls.IMAGENET
        return cls(weights, mean, std)


class LossNetwork(nn.Module):
    """VGG16's rectified features by the paper's layer names.

    The weights are non-persistent buffers, not parameters: no optimizer can train them, no checkpoint holds them, and
    `.to()` still moves them. There is nothing in VGG16 below relu4_3 that behaves differently in training.

    weights: a `WeightSet`, or the name or path of one (see `WeightSet.load`).
    """

    def __init__(self, weights: str | WeightSet = "oxford"):
        super().__init__()
        loaded = weights if isinstance(weights, WeightSet) else WeightSet.load(str(weights))
        for key, tensor in loaded.weights.items():
            self.register_buffer(key.replace(".", "_"), tensor, persistent=False)
        self.register_buffer("mean", torch.tensor(loaded.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(loaded.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Features of `layers`, computed no further than the deepest of them.

        images: (N, 3, H, W), RGB in 0-1, H and W at least 8.
        Returns {layer: (N, C, H / 2^k, W / 2^k)} with k = 0 for relu1_*, 1 for relu2_*, and so on.
        """
        check_layers(layers)
        features, x = {}, (images - self.mean) / self.std
        for name in CONVOLUTIONS:
            if name in ("conv2_1", "conv3_1", "conv4_1"):
                x = F.max_pool2d(x, 2)
            x = F.conv2d(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"), padding=1).relu_()
            layer = name.replace("conv", "relu")
            if layer in layers:
                features[layer] = x
            if len(features) == len(layers):
                break
        return features


def check_layers(layers: Collection[str]) -> None:
    """Raises UserError unless every name is one of LAYERS."""
    for layer in layers:
        if layer not in LAYERS:
            raise UserError(f"the loss network has no layer {layer!r}; it has {', '.join(LAYERS)}")


def _read_oxford() -> dict[str, Tensor]:
    try:
        data = OXFORD_FILE.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{OXFORD_FILE} is missing; rebuild it with scripts/build_loss_network.py") from None
    if hashlib.sha256(data).hexdigest() != OXFORD_SHA256:
        raise UserError(f"{OXFORD_FILE} is damaged (wrong SHA-256); restore it or rerun scripts/build_loss_network.py")
    return load_safetensors(data)


def _download(source: str) -> dict[str, Tensor]:
    from torchvision.models import VGG16_Weights  # here, as it takes a second that the shipped weights need not cost

    weights = VGG16_Weights.IMAGENET1K_V1 if source == "torchvision" else VGG16_Weights.IMAGENET1K_FEATURES
    try:
        return weights.get_state_dict(progress=True)
    except OSError as error:  # urllib's errors are OSErrors
        raise UserError(
            f"loss_network.weights={source}: {weights.url} cannot be downloaded ({error}); "
            "give loss_network.weights=oxford, which is shipped, or the path of a file"
        ) from None


def _read_file(path: Path) -> dict[str, Tensor]:
    choices = "give oxford, torchvision, torchvision_features or the path of a VGG16 file"
    if not path.is_file():
        raise UserError(f"loss_network.weights={path}: no such file; {choices}")
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(path.read_bytes())
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {k: v for k, v in state.items() if isinstance(v, Tensor)}
    except Exception:  # torch.load raises nearly anything on a file that is not its own
        raise UserError(f"loss_network.weights={path}: not a safetensors file or a torch state dict; {choices}") from None
