"""A zero-shot net: the embedding is predicted from the painting (Ghiasi et al. 2017)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from fastnst.errors import UserError, is_whole
from fastnst.images import load_rgb, middle, short_side, to_tensor
from fastnst.losses.terms import reference_picture
from fastnst.losses.vgg import LossNetwork
from fastnst.losses.vgg_layers import STYLE_LAYERS, WIDTHS
from fastnst.models.conditional import StyledNet, scaled
from fastnst.models.net import Net, Shares
from fastnst.models.regions import Regions
from fastnst.models.transform_net import TransformNet

AXES = 100  # principal components of a painting (as many as in Ghiasi et al. 2017): the head's input
MOST_SIZE = 2048  # px, of the short side at which a painting is seen
HIDDEN = 128  # the head's hidden units
POOLED = 2 * sum(WIDTHS[int(layer[4]) - 1] for layer in STYLE_LAYERS)


class ArbitraryNet(StyledNet):
    """One net for any painting: a head predicts the embedding from the loss network's features (Ghiasi et al. 2017).

    The paper trains an Inception network to look at the painting. Here the frozen loss network does, and only a small head
    is trained: the checkpoint stays small, and training needs no second network.

    The pooled features of all paintings have most in common. So the head's input is whitened: the difference from the mean
    painting along the principal axes, in standard deviations. See `survey`. docs/notebook.md has what that gains.
    """

    kind = "arbitrary"
    any_painting = True
    mean: Tensor
    axes: Tensor

    def __init__(self, width: int = 32, upsample: str = "nearest"):
        super().__init__(width, upsample)
        self.register_buffer("mean", torch.zeros(POOLED))
        self.register_buffer("axes", torch.zeros(POOLED, AXES))
        self.head = nn.Sequential(nn.Linear(AXES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, self.numbers))
        with torch.no_grad():  # at first every painting has nearly the same embedding
            self.head[2].get_parameter("weight").mul_(0.1)
            self.head[2].get_parameter("bias").copy_(self.neutral)
        self.architecture = {"kind": self.kind, "width": width, "upsample": upsample}

    def forward(self, photographs: Tensor, pooled: Tensor) -> Tensor:
        """photographs: (N, 3, H, W) in 0-1. pooled: (N, 1920), `Pooling` of each one's painting. Returns the same shape."""
        return self.restyle(photographs, self.predict(pooled))

    def predict(self, pooled: Tensor) -> Tensor:
        """Embeddings, (N, numbers), of paintings given by `Pooling`, (N, 1920)."""
        return self.head(self.seen(pooled))

    def seen(self, pooled: Tensor) -> Tensor:
        """The head's input, (N, AXES) in -3 to 3, in standard deviations of the paintings it was trained on."""
        # Clamped, as embeddings for a painting far from all of those are of no use.
        return ((pooled - self.mean) @ self.axes).clamp(-3, 3)

    @property
    def surveyed(self) -> bool:
        return bool(self.axes.any())

    @torch.no_grad()
    def survey(self, pooled: Tensor) -> None:
        """Computes the mean and the principal axes of paintings, (P, 1920) with P from AXES on.

        Raises UserError if they are all the same.
        """
        pooled = pooled.cpu().double()
        _, spread, axes = torch.linalg.svd((pooled - pooled.mean(0)) / len(pooled) ** 0.5, full_matrices=False)
        if spread[0] < 1e-6:
            raise UserError("data.styles: the paintings are all alike; give some that differ")
        spread = spread.clamp_min(1e-3 * spread[0])  # paintings that hardly differ have no more axes
        self.mean.copy_(pooled.mean(0))
        self.axes.copy_((axes[:AXES] / spread[:AXES, None]).T)

    def first_row(self, style: str | None = None) -> Tensor:
        """The prediction for the mean painting."""
        return self.predict(self.mean[None])[0].detach()

    def first_rows(self, paintings: Mapping[str, Path], info: dict, path: Path) -> dict[str, Tensor]:
        painted = self.pick({str(file): 1.0 for file in paintings.values()}, info, path)
        return {style: painted.rows[str(file)] for style, file in paintings.items()}

    def begin_from(self, other: Net, rows: Callable[[], Mapping[str, Tensor]]) -> None:
        """Takes all of another zero-shot net, or another's convolutions and its embedding or the mean of its embeddings."""
        self.load_body(other)
        if other.any_painting:
            self.load_state_dict(other.state_dict())
            return
        with torch.no_grad():
            self.head[2].get_parameter("bias").copy_(other.first_row())

    def name_of(self, paintings: Collection[str]) -> str:
        """It has no style of its own: those that `style=` names are held out."""
        return "any"

    def pick(
        self, shares: Shares | None, info: dict, path: str | Path, masks: Sequence[Image.Image] | None = None
    ) -> "Painted":
        if shares is None:
            raise UserError(f"{path} takes any painting: give style=painting.jpg")
        try:
            network, size = info["objective"]["loss_network"], info["style"]["size"]
            if not is_whole(size, 16) or size > MOST_SIZE:
                raise UserError(f"{path}: wants paintings of {str(size):.20} px; from 16 to {MOST_SIZE} are possible")
            network = LossNetwork(network["weights"], network["network"], STYLE_LAYERS)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: does not say what loss network it was trained with ({error!r})") from None
        return Painted(self, network, shares, size, masks)

    def pick_painting(self, style: str, painting: Path, info: dict, path: Path) -> TransformNet:
        net = self.pick({str(painting): 1.0}, info, path).at(1.0)
        assert isinstance(net, TransformNet)  # as there are no masks
        return net


class Pooling(nn.Module):
    """Pooled features of a painting: each channel's mean and root mean square at the style layers.

    Both are in units of the layer's root mean square on `reference_picture`, compressed by log(1 + x), and divided by the
    root of the layer's width. Features of the layers differ a thousandfold; so they count alike, colours as much as forms.
    """

    def __init__(self, loss_network: LossNetwork):
        super().__init__()
        with torch.no_grad():
            features = loss_network(reference_picture().to(loss_network.mean), STYLE_LAYERS)
        for layer in STYLE_LAYERS:
            self.register_buffer(layer, features[layer].square().mean().sqrt(), persistent=False)

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
    `rows`: each painting's embedding, (numbers,); `row`: all of them mixed.
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
        self.net, self.loss_network, self.pool, self.size = net, loss_network, Pooling(loss_network), size
        parts = scaled(shares.values(), f"style={dict(shares)}")
        self.rows = {path: self.row_of(load_rgb(path, size)) for path in shares}
        self.row = sum((part * row for part, row in zip(parts, self.rows.values(), strict=True)), torch.zeros(()))

    @torch.no_grad()
    def row_of(self, picture: Image.Image) -> Tensor:
        """The embedding, (numbers,), of this picture's style."""
        return self.net.predict(self.pool(self.loss_network(to_tensor(picture).unsqueeze(0), STYLE_LAYERS)))[0]

    def at(self, strength: float, photograph: Image.Image | None = None) -> TransformNet | Regions:
        """The ordinary net between the photograph's own style, at 0, and the paintings', at 1 (Ghiasi et al. 2017, 4.3)."""
        rows = [self.row] if self.masks is None else [*self.rows.values()]
        if photograph is not None and strength < 1:
            own = self.row_of(short_side(middle(photograph), self.size))
            rows = [torch.lerp(own, row, strength) for row in rows]
        return self.net.fold(rows[0]) if self.masks is None else self.net.divide(rows, self.masks)
