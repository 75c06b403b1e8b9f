"""The training objective (Johnson et al. 2016, section 3.2), scaled so that its weights mean the same everywhere.

Pictures are RGB in 0-1. Each loss is a mean over the batch.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastnst.errors import UserError, is_number, is_whole
from fastnst.losses.layer_names import STYLE_LAYERS, check_layers
from fastnst.losses.terms import (
    coarse_colors,
    color_quantiles,
    content_loss,
    gram_matrix,
    median_filtered,
    reduced,
    reference_picture,
    style_loss,
    tone_loss,
    total_variation,
)
from fastnst.losses.vgg import LossNetwork


class Objective(nn.Module):
    r"""The sum of content, style, palette, tone and tv, each times its weight. Each term is a pure number.

    Raw losses depend on the painting (a Gram matrix's squared norm differs a hundredfold between paintings and between
    layers), on the loss network's weights and its range. So each is divided by its own natural unit:

    - content: ||phi(y) - phi(x)||^2 / (C H W) over V, the variance of phi over the positions of `reference_picture`. As V
      belongs to the network alone, this is the paper's content loss times a constant: the picture of a photograph's mean
      colour scores about 1 to 2 for a photograph of usual contrast, less for an empty sky, as in the paper.
    - style: sum over layers of w_l ||G_l(y) - G_l(s)||_F^2 / ||G_l(s)||_F^2, over sum w_l. A picture without features
      scores 1, one with the painting's statistics 0, for any painting and contrast. Each layer counts by its weight, not
      by the size of its features. With several `scales` style is the mean over the picture and the painting, both reduced
      by each scale. At one scale a small motif everywhere is the cheapest way to match Gram matrices; at several only
      strokes and forms as large as the painting's match them.
    - palette: the squared sliced Wasserstein distance of colours in CIELab (`color_quantiles`), over their variance in
      `reference_picture`.
    - tone: the variance of the coarse colours that the photograph's do not explain (`tone_loss`), over that of the
      lightness in `reference_picture`.
    - tv: the total variation over that of `reference_picture`.

    G, phi's distance and tv are means over positions, so none depends on the picture's size. One pair of weights therefore
    trades a photograph's content for a painting's statistics alike for any painting.

    loss_network: takes (images, layers), gives features by layer.
    style_images: the paintings, each (1, 3, H, W), RGB in 0-1: one, or several for a net of several styles. Their statistics
        are computed here, once, and kept as buffers.
    median: each painting counts as the median of so many px by so many about each pixel; an odd number, 1 for the painting
        itself. So its strokes and edges stay, and what is finer does not: a net meets that by a pattern as fine as its own
        grid.
    content_layer: name. style_layers: {name: weight}. scales: whole numbers, each with its weight, or a list of them that
        count alike; [1] is the paper's. Raises UserError for an unknown layer or an invalid weight.
    """

    # The unit in which optimization moves a pixel's value, as a part of the range 0-1 (the recipes have others).
    pixel_unit = 1.0
    content_unit: Tensor
    tv_unit: Tensor
    palette_unit: Tensor
    tone_unit: Tensor

    def __init__(
        self,
        loss_network: LossNetwork,
        style_images: Sequence[Tensor],
        content_layer: str = "relu3_3",
        style_layers: Mapping[str, float] | None = None,
        content_weight: float = 1.0,
        style_weight: float = 5.0,
        tv_weight: float = 0.1,
        palette_weight: float = 0.0,
        tone_weight: float = 0.0,
        scales: Mapping[int, float] | Sequence[int] = (1,),
        median: int = 1,
    ):
        super().__init__()
        style_layers = style_layers or dict.fromkeys(STYLE_LAYERS, 1.0)
        check_layers([content_layer, *style_layers], loss_network.network)
        _check_shares(style_layers, "loss.style_layers")
        self.loss_network = loss_network
        self.content_layer = content_layer
        self.style_layers = self.layer_weights({k: v for k, v in style_layers.items() if v > 0})
        scales = dict(scales) if isinstance(scales, Mapping) else dict.fromkeys(scales, 1.0)
        if not scales or not all(is_whole(scale, 1) for scale in scales):
            raise UserError(f"loss.scales={[*scales]}: give whole numbers from 1, such as loss.scales=[1,2,4]")
        _check_shares(scales, "loss.scales")
        self.scales = {scale: weight / sum(scales.values()) for scale, weight in scales.items() if weight > 0}
        self.weights = {"content": content_weight, "style": style_weight}
        self.weights |= {"palette": palette_weight, "tone": tone_weight, "tv": tv_weight}
        for name, weight in self.weights.items():
            if not is_number(weight, 0, sys.float_info.max):
                raise UserError(f"loss.{name}_weight={weight}: give a number from 0")
        if not is_whole(median, 1) or median % 2 == 0 or median > 15:
            raise UserError(f"loss.median={median}: give an odd number of px from 1 to 15")
        self.median = int(median)
        with torch.no_grad():
            paintings = [self.style_of(image) for image in style_images]
            self.names = list(paintings[0])
            for name in self.names:
                self.register_buffer(_buffer(name), torch.cat([p[name] for p in paintings]), persistent=False)
            self.measure_units(reference_picture().to(style_images[0]))

    @property
    def least(self) -> int:
        """The shortest side in px that pictures may have: the loss network wants 16 px at every scale."""
        return 16 * max(self.scales)

    @torch.no_grad()
    def target(self, photographs: Tensor) -> dict[str, Tensor]:
        """What `forward` is to keep of photographs, (N, 3, H, W) in 0-1.

        `content`: their features at the content layer. `tone`, if it has a weight: their `coarse_colors`.
        """
        target = {"content": self.features(photographs, [self.content_layer])[self.content_layer]}
        return target | ({"tone": coarse_colors(photographs)} if self.weights["tone"] else {})

    def paintings(self, index: Tensor | slice = slice(None)) -> dict[str, Tensor]:
        """The `statistics` of the style images that `index` chooses."""
        return {name: getattr(self, _buffer(name))[index] for name in self.names}

    def counted(self, paintings: Tensor) -> Tensor:
        """Paintings, (N, 3, H, W) in 0-1, as their style counts: their median, or themselves where `median` is 1."""
        return median_filtered(paintings, self.median)

    def style_of(self, paintings: Tensor) -> dict[str, Tensor]:
        """The `statistics` of paintings, (N, 3, H, W) in 0-1, as they are `counted`."""
        paintings = self.counted(paintings)
        return self.statistics(paintings, self.pyramid(paintings, self.style_layers))

    def pyramid(self, images: Tensor, layers: Collection[str]) -> dict[int, dict[str, Tensor]]:
        """By scale, the features at `layers` of the pictures, (N, 3, H, W), reduced by it.

        Raises UserError if a picture is too small for that.
        """
        if max(self.scales) > 1 and min(images.shape[-2:]) < self.least:
            size, scales = f"{images.shape[-1]} x {images.shape[-2]} px", [*self.scales]
            raise UserError(f"{size} is too small for loss.scales={scales}: {self.least} px is the least; or give [1]")
        return {scale: self.features(reduced(images, scale), layers) for scale in self.scales}

    def statistics(self, images: Tensor, pyramid: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """A picture's style: the Gram matrices, (N, C, C), by `<layer>/<scale>`, and its `color_quantiles`.

        images: (N, 3, H, W) in 0-1. pyramid: their features at the style layers.
        """
        found = {
            f"{layer}/{scale}": self.gram(features[layer])
            for scale, features in pyramid.items()
            for layer in self.style_layers
        }
        return found | ({"palette": color_quantiles(images)} if self.weights["palette"] else {})

    def forward(
        self,
        images: Tensor,
        target: Mapping[str, Tensor],
        paintings: Mapping[str, Tensor] | None = None,
        style_factor: float = 1.0,
    ) -> dict[str, Tensor]:
        """Terms by name, each unweighted, a scalar: `total`, those of `weights` (`palette` and `tone` only if they have
        one), and the parts of style: `style/<layer>`, over the scales, and `style/<scale>`, over the layers.

        images: the restyled pictures, (N, 3, H, W) in 0-1. target: `target` of what they were made of.
        paintings: `statistics`, of one painting for each picture or of one for all; the (one) style image's if left out.
        style_factor: in `total`, style and palette count so many times more against content and tone. Its root multiplies
        them and divides these, so that gradients keep their size.
        """
        paintings = self.paintings() if paintings is None else paintings
        pyramid = self.pyramid(images, {self.content_layer, *self.style_layers})
        terms: dict[str, Any] = dict.fromkeys(  # numbers until a tensor is added
            [*(f"style/{layer}" for layer in self.style_layers), *(f"style/{s}" for s in self.scales)], 0.0
        )
        statistics = self.statistics(images, pyramid)
        for scale, share in self.scales.items():
            for layer, weight in self.style_layers.items():
                name = f"{layer}/{scale}"
                distance = self.style(statistics[name], paintings[name])
                terms[f"style/{layer}"] += share * distance
                terms[f"style/{scale}"] += weight * distance
        features = pyramid[1] if 1 in pyramid else self.features(images, [self.content_layer])
        terms["content"] = self.content(features[self.content_layer], target["content"])
        terms["style"] = sum(share * terms[f"style/{scale}"] for scale, share in self.scales.items())
        if "palette" in statistics:
            terms["palette"] = (statistics["palette"] - paintings["palette"]).square().mean() / self.palette_unit
        if "tone" in target:
            terms["tone"] = tone_loss(coarse_colors(images), target["tone"]) / self.tone_unit
        terms["tv"] = self.variation(images)
        root = style_factor**0.5
        factors = {"content": 1 / root, "tone": 1 / root, "style": root, "palette": root}
        terms["total"] = sum(
            factors.get(name, 1.0) * weight * terms[name] for name, weight in self.weights.items() if name in terms
        )
        return terms

    # The parts of the terms. The recipes of optimization-based style transfer replace them by other formulas.

    def layer_weights(self, weights: dict[str, float]) -> dict[str, float]:
        return {layer: weight / sum(weights.values()) for layer, weight in weights.items()}

    def measure_units(self, reference: Tensor) -> None:
        spread = self.target(reference)["content"].var(dim=(2, 3), correction=0).mean()
        self.register_buffer("content_unit", spread, persistent=False)
        self.register_buffer("tv_unit", self.total_variation(reference), persistent=False)
        self.register_buffer("tone_unit", coarse_colors(reference)[:, 0].var(correction=0), persistent=False)
        self.register_buffer("palette_unit", color_quantiles(reference).var(dim=2).mean(), persistent=False)

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


def without_parts(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """`total`, then the other terms of an objective, as numbers, without the parts of style."""
    return {name: terms[name].item() for name in ("total", *(n for n in terms if n != "total" and "/" not in n))}


def _buffer(name: str) -> str:
    return f"painting_{name.replace('/', '_')}"


def _check_shares(shares: Mapping, option: str) -> None:
    values = shares.values()
    if not all(is_number(value, 0, sys.float_info.max) for value in values) or sum(values) <= 0:
        raise UserError(f"{option}={dict(shares)}: weights must not be negative, and one positive")
