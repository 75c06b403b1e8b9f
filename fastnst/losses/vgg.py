"""The loss network: VGG16, frozen (Johnson et al. 2016, section 3.2; Simonyan and Zisserman 2014), or VGG19 for the recipes.

Everywhere in fastnst a picture is RGB in 0-1. What a particular set of weights wants instead (a range, a mean, a channel
order) is known to `WeightSet` alone.
"""

import functools
import hashlib
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastnst.errors import UserError

WIDTHS = (64, 128, 256, 512, 512)  # channels of the convolutions of each block
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions in each block; a pooling stands between blocks
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")  # the paper's; its content layer is relu3_3

ASSETS = Path(__file__).parents[1] / "assets" / "loss_network"
# Oxford's VGG16 in two files: the paper's layers want the first alone.
OXFORD = {
    ASSETS / "vgg16_oxford.safetensors": "0c6eb3f4a0be60fcd01c040b604216fcdc2207b8bcd1e7eea3cd5e8b94f3ede9",
    ASSETS / "vgg16_oxford_block5.safetensors": "9f677438dbee9b4e431f70584635f7cd60bff2ea73356f10d675fc5cbb6836a8",
}
# conv1_1's first bias tells Oxford's network from a retrained one: torchvision keeps both in the same layout.
OXFORD_FIRST_BIAS = 0.73429835


def convolutions(network: str) -> tuple[str, ...]:
    """Names of a network's convolutions from the input on: conv1_1, conv1_2, conv2_1, ... Raises UserError if unknown."""
    if network not in BLOCKS:
        raise UserError(f"loss_network.network={network}: give {' or '.join(BLOCKS)}")
    return tuple(f"conv{b}_{i}" for b, count in enumerate(BLOCKS[network], 1) for i in range(1, count + 1))


def torchvision_index(network: str) -> dict[str, int]:
    """The index of each convolution in torchvision's `features`: a ReLU follows each, a pooling each block."""
    return {name: 2 * i + int(name[4]) - 1 for i, name in enumerate(convolutions(network))}


def check_layers(layers: Collection[str], network: str = "vgg16") -> None:
    """Raises UserError unless every name is a layer: `relu1_2`, or `conv1_2` for what that ReLU is given."""
    names = convolutions(network)
    for layer in layers:
        if layer.replace("relu", "conv") not in names:
            raise UserError(
                f"{network} has no layer {layer!r}; it has {', '.join(n.replace('conv', 'relu') for n in names)}, "
                "and conv1_1 and so on for the same before the ReLU"
            )


def up_to(layers: Collection[str], network: str) -> tuple[str, ...]:
    """The convolutions that `layers` take: all up to the deepest of them."""
    names = convolutions(network)
    return names[: 1 + max(names.index(layer.replace("relu", "conv")) for layer in layers)]


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
            state = {}
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


class LossNetwork(nn.Module):
    """VGG's features by the paper's layer names: `relu1_2`, and `conv1_2` for the same before its ReLU.

    The weights are non-persistent buffers, not parameters: no optimizer can train them, no checkpoint holds them, and
    `.to()` still moves them. There is nothing in VGG's convolutions that behaves differently in training.

    weights: a `WeightSet`, or the name or path of one (see `WeightSet.load`).
    network: `vgg16` or `vgg19`. layers: those that will be asked for; the network is loaded no further than these.
    recompute: of each block (the convolutions between two poolings) only what goes in and the layers asked for are kept for
    the gradient, and the rest is computed again when that comes: less memory, more time, the same gradients.
    Raises UserError for weights or layers that are not there.
    """

    def __init__(
        self,
        weights: str | WeightSet = "oxford",
        network: str = "vgg16",
        layers: Collection[str] = STYLE_LAYERS,
        recompute: bool = False,
    ):
        super().__init__()
        if not isinstance(recompute, bool):
            raise UserError(f"loss_network.recompute={recompute}: give true or false")
        self.recompute = recompute
        loaded = weights if isinstance(weights, WeightSet) else WeightSet.load(str(weights), network, layers)
        self.network, self.convolutions = network, up_to(layers, network)
        for key, tensor in loaded.weights.items():
            self.register_buffer(key.replace(".", "_"), tensor, persistent=False)
        self.register_buffer("mean", torch.tensor(loaded.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(loaded.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Features of `layers`, computed no further than the deepest of them.

        images: (N, 3, H, W), RGB in 0-1. Raises UserError for H or W below 16.
        Returns {layer: (N, C, H / 2^k, W / 2^k)} with k = 0 for block 1, 1 for block 2, and so on.
        """
        if min(images.shape[-2:]) < 16:
            raise UserError(
                f"{images.shape[-1]} x {images.shape[-2]} px is too small for the loss network; 16 px is the least"
            )
        for layer in layers:
            if layer.replace("relu", "conv") not in self.convolutions:
                raise UserError(f"{layer!r} is not among the layers up to {self.convolutions[-1]} of this {self.network}")
        features, x = {}, (images - self.mean) / self.std
        for _, names in itertools.groupby(up_to(layers, self.network), key=lambda name: name[4]):
            block = functools.partial(self._block, list(names), layers)
            if self.recompute and x.requires_grad:
                block = functools.partial(checkpoint, block, use_reentrant=False, preserve_rng_state=False)
            x, found = block(x)
            features |= found
        return features

    def _block(self, names: list[str], layers: Collection[str], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        features = {}
        for name in names:
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = F.conv2d(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"), padding=1)
            if name in layers:
                features[name] = x
                x = x.relu()
            else:
                x = x.relu_()
            layer = name.replace("conv", "relu")
            if layer in layers:
                features[layer] = x
        return x, features


def _read_oxford(file: Path, digest: str) -> dict[str, Tensor]:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file} is missing; rebuild it with scripts/build_loss_network.py") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise UserError(f"{file} is damaged (wrong SHA-256); restore it or rerun scripts/build_loss_network.py")
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
