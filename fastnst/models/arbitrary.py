"""A zero-shot net: the embedding is predicted from the painting (Ghiasi et al. 2017)."""

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from fastnst.errors import UserError, is_whole
from fastnst.images import load_rgb, middle, native_bfloat16, short_side, to_tensor
from fastnst.losses.layer_names import STYLE_LAYERS, WIDTHS
from fastnst.losses.terms import reference_picture
from fastnst.losses.vgg import LossNetwork
from fastnst.losses.vgg_weights import WeightSet
from fastnst.models.colors import moments, transport
from fastnst.models.conditional import StyledNet
from fastnst.models.dials import MOST_WEIGHT, scaled
from fastnst.models.net import Net, Shares
from fastnst.models.regions import Regions
from fastnst.models.transform_net import TransformNet

AXES = 100  # principal components of a painting (as many as in Ghiasi et al. 2017): the head's input
MOST_SIZE = 2048  # px, of the short side at which a painting is seen
HIDDEN = 128  # the head's hidden units
LEAST_SPREAD = 0.05  # of the largest: no axis of `Whitened` is stretched further
FAR = 3  # standard deviations, the farthest that the head sees a painting from the mean one
# The dial's input to the head runs from -DIAL to DIAL. It is one among a hundred, which all embeddings are to obey: at 1
# training hardly heeded it.
DIAL = 4
SAMPLES = 96  # paintings that stand for all
UNITS = {"relu1_2": 251.32533, "relu2_2": 591.20996, "relu3_3": 441.67773, "relu4_3": 52.178925}  # Oxford's, of `Pooling`
POOLED = 2 * sum(WIDTHS[int(layer[4]) - 1] for layer in STYLE_LAYERS)


class ArbitraryNet(StyledNet):
    """One net for any painting: a head predicts the embedding from the loss network's features (Ghiasi et al. 2017).

    The paper trains an Inception network to look at the painting. Here the frozen loss network does, and only a small head
    is trained: the checkpoint stays small, and training needs no second network.

    The pooled features of all paintings have most in common. So the head's input is whitened: the difference from the mean
    painting along the principal axes, in standard deviations: see `survey`. Its hidden units are whitened too: see
    `Whitened`. docs/notebook.md has what both gain.

    The head's last input is the style weight, which training draws at random (Babaeizadeh and Ghiasi 2020): so it can be
    chosen afterwards.
    """

    kind = "arbitrary"
    any_painting = True
    mean: Tensor
    axes: Tensor

    def __init__(self, width: int = 32, upsample: str = "nearest"):
        super().__init__(width, upsample)
        self.register_buffer("mean", torch.zeros(POOLED))
        self.register_buffer("axes", torch.zeros(POOLED, AXES))
        self.head = nn.Sequential(nn.Linear(AXES + 1, HIDDEN), nn.ReLU(), Whitened(HIDDEN, self.numbers))
        with torch.no_grad():  # at first every painting has nearly the same embedding
            self.last.weight.mul_(0.1)
            self.last.bias.copy_(self.neutral)
        self.head[0].register_load_state_dict_pre_hook(_without_dial)
        self.architecture = {"kind": self.kind, "width": width, "upsample": upsample}

    def forward(
        self, photographs: Tensor, pooled: Tensor, style_weight: float = 1.0, colors: Tensor | None = None
    ) -> Tensor:
        """photographs: (N, 3, H, W) in 0-1. pooled, style_weight: as in `predict`. Returns the same shape.

        colors: (N, 12), matrices and shifts in place of those that are predicted.
        """
        embeddings = self.predict(pooled, style_weight)
        if colors is not None:
            embeddings = torch.cat([embeddings[:, : -colors.shape[1]], colors], dim=1)
        return self.restyle(photographs, embeddings)

    def predict(self, pooled: Tensor, style_weight: float | Tensor = 1.0) -> Tensor:
        """Embeddings, (N, numbers), of paintings given by `Pooling`, (N, 1920).

        style_weight: how much the paintings' style counts against the photographs' content, in units of the weight in
        training, from 1 / MOST_WEIGHT to MOST_WEIGHT; a number, or a tensor of one.
        """
        logarithm = style_weight.log() if isinstance(style_weight, Tensor) else math.log(style_weight)
        dial = pooled.new_ones(len(pooled), 1) * (DIAL / math.log(MOST_WEIGHT) * logarithm)
        return self.head(torch.cat([self.seen(pooled), dial], dim=1))

    @torch.no_grad()
    def colored(self, embedding: Tensor, painting: Tensor, reference: Tensor | None = None) -> Tensor:
        """The embedding, (numbers,), with other colours: on the reference picture their mean and covariance become the
        painting's, (1, 3, H, W) in 0-1. reference: that picture, where it is at hand.

        What the head predicts is paler than the painting. The last convolution's input is normalized, and so its colours
        hardly depend on the photograph. So one picture tells the linear map from them to the painting's, which is that of
        Pitie and Kokaram 2007, and the embedding's colour matrix and shift take it up: a pass costs what it did.
        docs/notebook.md has what that gains.
        """
        reference = reference_picture().to(embedding) if reference is None else reference
        found = moments(self.layers(embedding, (reference * 2 - 1).contiguous(memory_format=torch.channels_last)))
        return self.turned(embedding, *transport(found, moments(self.body.before_output(painting))))

    def seen(self, pooled: Tensor) -> Tensor:
        """The head's view of paintings, (N, AXES) in -3 to 3, in standard deviations of the paintings it was trained on."""
        # Clamped, as embeddings for a painting far from all of those are of no use.
        return ((pooled - self.mean) @ self.axes).clamp(-FAR, FAR)

    @property
    def surveyed(self) -> bool:
        return bool(self.axes.any())

    @torch.no_grad()
    def survey(self, pooled: Tensor) -> None:
        """Computes the mean and the principal axes of paintings, (P, 1920) with P from AXES on.

        Raises UserError if they are all the same.
        """
        mean, spread, axes = _principal_axes(pooled)
        if spread[0] < 1e-6:
            raise UserError("data.styles: the paintings are all alike; give some that differ")
        spread = spread.clamp_min(1e-3 * spread[0])  # paintings that hardly differ have no more axes
        self.mean.copy_(mean)
        self.axes.copy_((axes[:AXES] / spread[:AXES, None]).T)

    @property
    def last(self) -> "Whitened":
        """The head's last layer."""
        last = self.head[2]
        assert isinstance(last, Whitened)
        return last

    @torch.no_grad()
    def whiten(self, pooled: Tensor) -> None:
        """Whitens what the head's last layer sees of paintings, (P, 1920). What is predicted stays as it was."""
        dials = _dials(len(pooled), torch.Generator().manual_seed(0)).to(pooled)
        self.last.whiten(self.head[:2](torch.cat([self.seen(pooled), dials], dim=1)))

    def first_embedding(self, style: str | None = None) -> Tensor:
        """The prediction for the mean painting."""
        return self.predict(self.mean[None])[0].detach()

    def first_embeddings(self, paintings: Mapping[str, Path], info: dict, path: Path) -> dict[str, Tensor]:
        painted = self.pick({str(file): 1.0 for file in paintings.values()}, info, path)
        return {style: painted.embeddings[str(file)] for style, file in paintings.items()}

    @torch.no_grad()
    def sample_embeddings(self) -> list[Tensor]:
        """Those of made-up paintings: what the head sees of real ones has mean 0 and standard deviation 1, too."""
        generator = torch.Generator().manual_seed(0)
        seen = torch.randn(SAMPLES, AXES, generator=generator).clamp(-FAR, FAR)
        return [*self.head(torch.cat([seen, _dials(SAMPLES, generator)], dim=1))]

    def set_numbers(self, which: Tensor, value: float) -> None:
        self.last.weight[which] = 0
        self.last.bias[which] = value

    def light(self, paintings: Sequence[Tensor]) -> None:
        """Nothing: embeddings are `colored` as they are predicted."""

    def begin_from(self, other: Net, embeddings: Callable[[], Mapping[str, Tensor]]) -> None:
        """Takes all of another zero-shot net, or another's convolutions and its embedding or the mean of its embeddings."""
        self.load_body(other)
        if other.any_painting:
            self.load_state_dict(other.state_dict())
            return
        with torch.no_grad():
            self.last.bias.copy_(other.first_embedding())

    def name_of(self, paintings: Collection[str]) -> str:
        """It has no style of its own: those that `style=` names are held out."""
        return "any"

    def pick(
        self, shares: Shares | None, info: dict, path: str | Path, masks: Sequence[Image.Image] | None = None
    ) -> "Painted":
        if shares is None:
            raise UserError(f"{path} takes any painting: give style=painting.jpg")
        network, size = self.eye(info, path)
        return Painted(self, network, shares, size, masks)

    def eye(self, info: dict, path: str | Path) -> tuple[LossNetwork, int]:
        """What it looks at paintings with: the loss network of its training, and px of their short side there.

        info, path: the checkpoint's. Raises UserError if that does not say so.
        """
        try:
            network, size = info["objective"]["loss_network"], info["style"]["size"]
            if not is_whole(size, 16) or size > MOST_SIZE:
                raise UserError(f"{path}: wants paintings of {str(size):.20} px; from 16 to {MOST_SIZE} are possible")
            return LossNetwork(network["weights"], network["network"], STYLE_LAYERS), size
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: does not say what loss network it was trained with ({error!r})") from None

    def pick_painting(self, style: str, painting: Path, info: dict, path: Path) -> TransformNet:
        net = self.pick({str(painting): 1.0}, info, path).at(1.0)
        assert isinstance(net, TransformNet)  # as there are no masks
        return net


class Whitened(nn.Linear):
    """A linear layer that takes off its inputs' mean, and gives their principal axes about the same spread.

    The head's hidden units are about as large for one painting as for another: three quarters of their square is their mean.
    With them as they are, a step for one painting moves all embeddings, and what tells paintings apart is learnt last.
    """

    center: Tensor
    axes: Tensor

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("axes", torch.eye(inputs))
        self.register_load_state_dict_pre_hook(_as_they_are)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, inputs). Returns (N, outputs)."""
        return super().forward((x - self.center) @ self.axes)

    @property
    def whitened(self) -> bool:
        return bool(self.center.any())

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """x: what comes in, (N, inputs) with N from `inputs` on. Once in a layer's life. Its results stay as they were."""
        center, spread, axes = _principal_axes(x)
        spread, weight = spread.clamp_min(LEAST_SPREAD * spread[0]), self.weight.cpu().double()
        self.bias.copy_(self.bias.cpu() + weight @ center)
        self.weight.copy_(weight @ axes.T * spread)
        self.center.copy_(center)
        self.axes.copy_(axes.T / spread)


def _make_room(kept: dict, most: int) -> None:
    """Takes away what came first, so that one more makes at most `most`."""
    while len(kept) >= most:
        kept.pop(next(iter(kept)), None)  # None, as another thread may take the same away


def quickly() -> torch.autocast:
    """Within it the CPU computes in bfloat16 if it has instructions for it; for what counts by its moments alone."""
    return torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16())


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of x, (N, C): its mean, (C,), the spread along K principal axes, (K,), and the axes, (K, C); K: the lesser of N, C."""
    x = x.cpu().double()  # Apple's GPUs have no float64
    mean = x.mean(0)
    _, spread, axes = torch.linalg.svd((x - mean) / len(x) ** 0.5, full_matrices=False)
    return mean, spread, axes


def _dials(count: int, generator: torch.Generator) -> Tensor:
    """What the head sees of style weights drawn as in training, (count, 1)."""
    return DIAL * (2 * torch.rand(count, 1, generator=generator) - 1)


def _as_they_are(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Nets of before have no whitened layer: theirs takes its inputs as they are."""
    weight = state.get(f"{prefix}weight")
    if weight is not None:
        state.setdefault(f"{prefix}center", weight.new_zeros(weight.shape[1]))
        state.setdefault(f"{prefix}axes", torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device))


def _without_dial(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Nets of 0.1.0 have no dial: for them it changes nothing."""
    weight = state.get(f"{prefix}weight")
    if weight is not None and weight.shape == (HIDDEN, AXES):
        state[f"{prefix}weight"] = torch.cat([weight, weight.new_zeros(HIDDEN, 1)], dim=1)


class Pooling(nn.Module):
    """Pooled features of a painting: each channel's mean and root mean square at the style layers.

    Both are in units of the layer's root mean square on `reference_picture`, compressed by log(1 + x), and divided by the
    root of the layer's width. Features of the layers differ a thousandfold; so they count alike, colours as much as forms.
    """

    def __init__(self, loss_network: LossNetwork):
        super().__init__()
        oxford = torch.allclose(loss_network.mean.flatten().cpu(), torch.tensor(WeightSet.CAFFE[0]))
        units = UNITS if oxford else self.measured(loss_network)
        for layer in STYLE_LAYERS:
            self.register_buffer(layer, torch.tensor(units[layer]).to(loss_network.mean), persistent=False)

    @staticmethod
    @torch.no_grad()
    def measured(loss_network: LossNetwork) -> dict[str, float]:
        features = loss_network(reference_picture().to(loss_network.mean), STYLE_LAYERS)
        return {layer: x.square().mean().sqrt().item() for layer, x in features.items()}

    @torch.no_grad()
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """features: (N, C, H, W) by layer. Returns (N, 1920)."""
        pooled = []
        for layer in STYLE_LAYERS:
            x = features[layer].float() / getattr(self, layer)
            pooled += [y.log1p() / x.shape[1] ** 0.5 for y in (x.mean((2, 3)), x.square().mean((2, 3)).sqrt())]
        return torch.cat(pooled, dim=1)


class Painted:
    """A zero-shot net with its paintings chosen.

    shares: each painting's file, and its share; they are scaled to a sum of 1. size: px of the paintings' short side, as in
    training. masks: choose the paintings for each pixel, instead of their shares.
    `embeddings`: each painting's embedding, (numbers,); `embedding`: all of them mixed.
    Raises UserError for a file that is no picture, or invalid shares.
    """

    def __init__(
        self,
        net: ArbitraryNet,
        loss_network: LossNetwork,
        shares: Shares,
        size: int,
        masks: Sequence[Image.Image] | None = None,
    ):
        self.masks = masks
        self.net, self.pool, self.size = net, Pooling(loss_network), size
        self.loss_network = loss_network.to(memory_format=torch.channels_last)
        self.parts = dict(zip(shares, scaled(shares.values(), f"style={dict(shares)}"), strict=True))
        # By size, and by size and style weight: a film asks again for each few frames.
        self.looked: dict[int, dict[Any, tuple[Tensor, Tensor]]] = {}
        self.predicted: dict[tuple[int, float], dict[Any, Tensor]] = {}
        self.embeddings = self.embeddings_at(size)
        self.embedding = self.mixed(self.embeddings)

    def embeddings_at(self, size: int, style_weight: float = 1.0) -> dict[Any, Tensor]:
        """Each painting's embedding, (numbers,), seen with its short side at `size` px. style_weight: see `predict`."""
        key = size, style_weight
        if key not in self.predicted:
            if size not in self.looked:
                _make_room(self.looked, 2)  # they have the paintings' pixels
                self.looked[size] = {path: self.look(load_rgb(path, size)) for path in self.parts}
            _make_room(self.predicted, 100)
            self.predicted[key] = {path: self.embed(*seen, style_weight) for path, seen in self.looked[size].items()}
        return self.predicted[key]

    @torch.no_grad()
    def embed(self, pooled: Tensor, picture: Tensor, style_weight: float = 1.0) -> Tensor:
        """The embedding, (numbers,), of the style of a picture that was looked at."""
        embedding = self.net.predict(pooled, style_weight)[0]
        with quickly():
            return self.net.colored(embedding, picture)

    def mixed_as(self, shares: Shares, masks: Sequence[Image.Image] | None = None) -> "Painted":
        """The same paintings, already looked at, with other shares or masks."""
        other = copy.copy(self)
        other.parts = dict(zip(shares, scaled(shares.values(), "shares"), strict=True))
        other.masks, other.embedding = masks, other.mixed(self.embeddings)
        return other

    def mixed(self, embeddings: Mapping[Any, Tensor]) -> Tensor:
        return sum((part * embeddings[path] for path, part in self.parts.items()), torch.zeros(()))

    @torch.no_grad()
    def look(self, picture: Image.Image) -> tuple[Tensor, Tensor]:
        """The picture's `Pooling`, (1, 1920), and itself in 0-1, (1, 3, H, W)."""
        image = to_tensor(picture).unsqueeze(0).contiguous(memory_format=torch.channels_last)
        with quickly():
            features = self.loss_network(image, STYLE_LAYERS)
        return self.pool(features), image

    def at(
        self,
        strength: float,
        photograph: Image.Image | None = None,
        style_size: int | None = None,
        style_weight: float = 1.0,
    ) -> TransformNet | Regions:
        """The ordinary net between the photograph's own style, at 0, and the paintings', at 1 (Ghiasi et al. 2017, 4.3).

        style_size: px of the paintings' short side; None: as in training. style_weight: see `predict`.
        """
        found = self.embeddings_at(style_size or self.size, style_weight)
        embeddings = [self.mixed(found)] if self.masks is None else [*found.values()]
        if photograph is not None and strength < 1:
            own = self.embed(*self.look(short_side(middle(photograph), self.size)), style_weight)
            embeddings = [torch.lerp(own, embedding, strength) for embedding in embeddings]
        return self.net.fold(embeddings[0]) if self.masks is None else self.net.divide(embeddings, self.masks)
