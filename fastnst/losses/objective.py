"""The training objective (Johnson et al. 2016, section 3.2), scaled so that its weights mean the same everywhere.

Pictures are RGB in 0-1. Each loss is a mean over the batch.
"""

import sys
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from fastnst.errors import UserError, is_number
from fastnst.losses.terms import content_loss, gram_matrix, reference_picture, style_loss, total_variation
from fastnst.losses.vgg import LossNetwork
from fastnst.losses.vgg_layers import STYLE_LAYERS, check_layers


class Objective(nn.Module):
    r"""content_weight * content + style_weight * style + tv_weight * tv, each term a pure number.

    Raw losses depend on the painting (a Gram matrix's squared norm differs a hundredfold between paintings and between
    layers), on the loss network's weights and its range. So each is divided by its own natural unit:

    - content: ||phi(y) - phi(x)||^2 / (C H W) over V, the variance of phi over the positions of `reference_picture`. As V
      belongs to the network alone, this is the paper's content loss times a constant: the picture of a photograph's mean
      colour scores about 1 to 2 for a photograph of usual contrast, less for an empty sky, as in the paper.
    - style: sum over layers of w_l ||G_l(y) - G_l(s)||_F^2 / ||G_l(s)||_F^2, over sum w_l. A picture without features
      scores 1, one with the painting's statistics 0, whatever the painting and its contrast; each layer counts as its
      weight says, and not by the size of its features.
    - tv: the total variation over that of `reference_picture`.

    G is a mean over positions, phi's distance and tv are too: none depends on the picture's size. What follows is that
    one pair of weights trades a photograph's content for a painting's statistics at the same rate for any painting.

    loss_network: takes (images, layers), gives features by layer.
    style_images: the paintings, each (1, 3, H, W), RGB in 0-1: one, or several for a net of several styles. Their Gram
        matrices are computed here, once, and kept as buffers, (number of paintings, C, C).
    content_layer: name. style_layers: {name: weight}. Raises UserError for a layer that is not there.
    """

    # What the slow method's optimizer moves a pixel's value in, as a part of the range 0-1 (recipes.py has others).
    pixel_unit = 1.0

    def __init__(
        self,
        loss_network: LossNetwork,
        style_images: Sequence[Tensor],
        content_layer: str = "relu3_3",
        style_layers: Mapping[str, float] | None = None,
        content_weight: float = 1.0,
        style_weight: float = 5.0,
        tv_weight: float = 0.1,
    ):
        super().__init__()
        style_layers = style_layers or dict.fromkeys(STYLE_LAYERS, 1.0)
        check_layers([content_layer, *style_layers], loss_network.network)
        if sum(style_layers.values()) <= 0 or min(style_layers.values()) < 0:
            raise UserError(f"loss.style_layers={dict(style_layers)}: weights must not be negative, and one positive")
        self.loss_network = loss_network
        self.content_layer = content_layer
        self.style_layers = self.layer_weights({k: v for k, v in style_layers.items() if v > 0})
        for name, weight in (("content", content_weight), ("style", style_weight), ("tv", tv_weight)):
            if not is_number(weight, 0, sys.float_info.max):
                raise UserError(f"loss.{name}_weight={weight}: give a number from 0")
        self.weights = {"content": content_weight, "style": style_weight, "tv": tv_weight}
        with torch.no_grad():
            paintings = [self.grams(self.features(image, self.style_layers)) for image in style_images]
            for layer in self.style_layers:
                self.register_buffer(f"gram_{layer}", torch.cat([grams[layer] for grams in paintings]), persistent=False)
            self.measure_units(reference_picture().to(style_images[0]))

    @torch.no_grad()
    def target(self, photographs: Tensor) -> Tensor:
        """The content layer's features of the photographs, (N, 3, H, W) in 0-1: what `forward` compares results with."""
        return self.features(photographs, [self.content_layer])[self.content_layer]

    def paintings(self, index: Tensor | slice = slice(None)) -> dict[str, Tensor]:
        """The Gram matrices of the style images that `index` chooses, (N, C, C) by layer."""
        return {layer: getattr(self, f"gram_{layer}")[index] for layer in self.style_layers}

    def grams(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The Gram matrices, (N, C, C) by layer, of features at the style layers."""
        return {layer: self.gram(features[layer]) for layer in self.style_layers}

    def forward(self, images: Tensor, target: Tensor, paintings: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Terms by name: `total`, `content`, `style`, `tv`, and `style/<layer>` (each unweighted, a scalar).

        images: the restyled pictures, (N, 3, H, W) in 0-1. target: `target` of what they were made of.
        paintings: Gram matrices by layer, one for each picture or one for all; those of the (one) style image if left out.
        """
        paintings = self.paintings() if paintings is None else paintings
        features = self.features(images, {self.content_layer, *self.style_layers})
        terms = {}
        for layer, gram in self.grams(features).items():
            terms[f"style/{layer}"] = self.style(gram, paintings[layer])
        terms["content"] = self.content(features[self.content_layer], target)
        terms["style"] = sum(weight * terms[f"style/{layer}"] for layer, weight in self.style_layers.items())
        terms["tv"] = self.variation(images)
        terms["total"] = sum(weight * terms[name] for name, weight in self.weights.items())
        return terms

    # What the terms are made of. The recipes of the slow method put other formulas in the place of these.

    def layer_weights(self, weights: dict[str, float]) -> dict[str, float]:
        return {layer: weight / sum(weights.values()) for layer, weight in weights.items()}

    def measure_units(self, reference: Tensor) -> None:
        spread = self.target(reference).var(dim=(2, 3), correction=0).mean()
        self.register_buffer("content_unit", spread, persistent=False)
        self.register_buffer("tv_unit", self.total_variation(reference), persistent=False)

    def features(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        return self.loss_network(images, layers)

    def content(self, features: Tensor, target: Tensor) -> Tensor:
        return content_loss(features, target) / self.content_unit

    def gram(self, features: Tensor) -> Tensor:
        return gram_matrix(features)

    def style(self, gram: Tensor, target: Tensor) -> Tensor:
        unit = target.square().sum((1, 2), keepdim=True).sqrt()
        return style_loss(gram / unit, target / unit)

    def total_variation(self, images: Tensor) -> Tensor:
        return total_variation(images)

    def variation(self, images: Tensor) -> Tensor:
        return self.total_variation(images) / self.tv_unit
