"""The loss network: VGG16, frozen (Johnson et al. 2016, section 3.2; Simonyan and Zisserman 2014), or VGG19 for the recipes.

Everywhere in fastnst a picture is RGB in 0-1. What a particular set of weights wants instead (a range, a mean, a channel
order) is known to `WeightSet` alone.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst.errors import UserError
from fastnst.losses.layer_names import STYLE_LAYERS, up_to
from fastnst.losses.vgg_weights import WeightSet


class LossNetwork(nn.Module):
    """VGG's features by the paper's layer names: `relu1_2`, and `conv1_2` for the same before its ReLU.

    The weights are non-persistent buffers, not parameters: no optimizer can train them, no checkpoint holds them, and
    `.to()` still moves them. There is nothing in VGG's convolutions that behaves differently in training.

    weights: a `WeightSet`, or the name or path of one (see `WeightSet.load`).
    network: `vgg16` or `vgg19`. layers: those that will be asked for; the network is loaded no further than these.
    Raises UserError for weights or layers that are not there.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | WeightSet = "oxford", network: str = "vgg16", layers: Collection[str] = STYLE_LAYERS):
        super().__init__()
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
        for name in up_to(layers, self.network):
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
        return features
