"""Nets of many styles: a transform net whose normalizations are given their scale and shift with each picture.

Dumoulin, Shlens and Kudlur 2017 found that a style can be told to a net by these numbers alone (conditional instance
normalization): `MultiStyleNet` keeps a row of them for each style. Ghiasi et al. 2017 predict the row from the painting:
`ArbitraryNet`. Once a row is chosen it is written into an ordinary `TransformNet` (`fold`), and so tiles, films, exports
and all that comes after training know nothing of this file.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fastnst.errors import UserError
from fastnst.images import load_rgb, short_side, to_tensor
from fastnst.loss_network import STYLE_LAYERS, WIDTHS, LossNetwork
from fastnst.losses import reference_picture
from fastnst.transform_net import TransformNet

HIDDEN = 128  # the width of what a painting is reduced to, before its row is predicted


class ConditionalNorm(nn.Module):
    """Instance normalization with each picture's own scale and shift, (N, C) each, which `StyledNet` sets for a pass."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.given: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        pictures = zip(x.split(1), *self.given, strict=True)
        return torch.cat([F.batch_norm(picture, None, None, scale, shift, True) for picture, scale, shift in pictures])


class StyledNet(nn.Module):
    """A transform net, `body`, that takes a row of numbers for each picture: all scales and shifts of its normalizations.

    A row holds, for each normalization from the input on, its C scales and then its C shifts: 1600 numbers for the default
    width, 100 times the width. width, upsample: as in `TransformNet`.
    """

    kind: str  # the value of `architecture` that says which of the classes below it is

    def __init__(self, width: int = 16, upsample: str = "nearest"):
        super().__init__()
        self.body = TransformNet("instance", width, upsample)
        self.neutral = row_of(self.body)
        for parent in list(self.body.modules()):
            for name, module in list(parent.named_children()):
                if isinstance(module, nn.InstanceNorm2d):
                    setattr(parent, name, ConditionalNorm(module.num_features))
        self.norms = [module for module in self.body.modules() if isinstance(module, ConditionalNorm)]
        self.numbers = 2 * sum(norm.channels for norm in self.norms)

    def restyle(self, photographs: Tensor, rows: Tensor) -> Tensor:
        """photographs: (N, 3, H, W) in 0-1. rows: (N, numbers). Returns the same shape as `TransformNet` does."""
        parts = rows.split([norm.channels for norm in self.norms for _ in range(2)], dim=1)
        for norm, scale, shift in zip(self.norms, parts[::2], parts[1::2], strict=True):
            norm.given = scale, shift
        try:
            return self.body(photographs)
        finally:
            for norm in self.norms:
                norm.given = None

    def fold(self, row: Tensor) -> TransformNet:
        """The ordinary net of one row, (numbers,), in eval mode."""
        architecture = self.body.architecture
        net = TransformNet(**architecture).to(row.device)
        net.load_state_dict(self.body.state_dict(), strict=False)
        norms = [module for module in net.modules() if isinstance(module, nn.InstanceNorm2d)]
        parts = row.detach().split([norm.num_features for norm in norms for _ in range(2)])
        with torch.no_grad():
            for norm, scale, shift in zip(norms, parts[::2], parts[1::2], strict=True):
                norm.weight.copy_(scale)
                norm.bias.copy_(shift)
        return net.eval()

    def load_body(self, start: nn.Module) -> None:
        """Takes the convolutions of another net, plain or styled. Raises UserError if it has another shape."""
        body = start.body if isinstance(start, StyledNet) else start
        if body.architecture != self.body.architecture:
            raise UserError(f"init: its net is {body.architecture}, not {self.body.architecture}; give the same model")
        self.body.load_state_dict(body.state_dict(), strict=False)


def row_of(net: TransformNet) -> Tensor:
    """The row of an ordinary net, (numbers,): what `StyledNet.fold` would write into it."""
    norms = [module for module in net.modules() if isinstance(module, nn.InstanceNorm2d)]
    return torch.cat([numbers.detach() for norm in norms for numbers in (norm.weight, norm.bias)])


def first_row(other: nn.Module) -> Tensor:
    """The row, (numbers,), that a new style begins at: an ordinary net's own, or about the mean of a styled one's."""
    if isinstance(other, MultiStyleNet):
        return other.rows.detach().mean(0)
    return other.head[2].bias.detach() if isinstance(other, ArbitraryNet) else row_of(other)


class MultiStyleNet(StyledNet):
    """One net for several styles, a row each (Dumoulin et al. 2017).

    styles: their names. Raises UserError if there are none.
    """

    kind = "multi"

    def __init__(self, styles: Sequence[str], width: int = 16, upsample: str = "nearest"):
        super().__init__(width, upsample)
        self.styles = list(styles)
        if not self.styles or not all(isinstance(style, str) for style in self.styles):
            raise UserError(f"styles={self.styles}: give the names of one style or more")
        self.rows = nn.Parameter(self.neutral.repeat(len(self.styles), 1))
        self.architecture = {"kind": self.kind, "styles": self.styles, "width": width, "upsample": upsample}

    def forward(self, photographs: Tensor, styles: Tensor) -> Tensor:
        """photographs: (N, 3, H, W) in 0-1. styles: (N,), the number of each picture's style. Returns the same shape."""
        return self.restyle(photographs, self.rows[styles])

    def choose(self, shares: Mapping[str, float]) -> TransformNet:
        """The ordinary net of a style, or of several whose rows are mixed by their shares, scaled to a sum of 1.

        Raises UserError for a style that is not there.
        """
        for style in shares:
            if style not in self.styles:
                raise UserError(f"style={style}: this checkpoint has {', '.join(self.styles)}")
        return self.fold(sum(share * self.rows[self.styles.index(style)] for style, share in scaled(shares).items()))

    def start(self, other: nn.Module) -> None:
        """Takes another net's weights: styles of the same name keep their rows, new ones begin at the mean of all."""
        self.load_body(other)
        rows = dict(zip(other.styles, other.rows, strict=True)) if isinstance(other, MultiStyleNet) else {}
        first = first_row(other)
        with torch.no_grad():
            for style, row in zip(self.styles, self.rows, strict=True):
                row.copy_(rows.get(style, first))


class ArbitraryNet(StyledNet):
    """One net for any painting, whose row is predicted from the loss network's features of it (Ghiasi et al. 2017).

    The paper trains an Inception network to look at the painting; here the frozen loss network does, and what is learnt is
    a small head: the checkpoint stays small, and training needs no second network.
    """

    kind = "arbitrary"

    def __init__(self, width: int = 16, upsample: str = "nearest"):
        super().__init__(width, upsample)
        pooled = 2 * sum(WIDTHS[int(layer[4]) - 1] for layer in STYLE_LAYERS)
        self.head = nn.Sequential(nn.Linear(pooled, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, self.numbers))
        with torch.no_grad():  # to begin with, every painting has nearly the same row
            self.head[2].weight.mul_(0.1)
            self.head[2].bias.copy_(self.neutral)
        self.architecture = {"kind": self.kind, "width": width, "upsample": upsample}

    def forward(self, photographs: Tensor, pooled: Tensor) -> Tensor:
        """photographs: (N, 3, H, W) in 0-1. pooled: (N, 1920), `pool` of each one's painting. Returns the same shape."""
        return self.restyle(photographs, self.head(pooled))

    def start(self, other: nn.Module) -> None:
        """Takes another net's convolutions, and its row, or the mean of its rows, as the one to begin at."""
        self.load_body(other)
        if isinstance(other, ArbitraryNet):
            self.head.load_state_dict(other.head.state_dict())
            return
        with torch.no_grad():
            self.head[2].bias.copy_(first_row(other))


KINDS = {net.kind: net for net in (MultiStyleNet, ArbitraryNet)}


class Pooling(nn.Module):
    """A painting in the eyes of the loss network: each channel's mean and root mean square at the style layers.

    Both are in units of the layer's root mean square on `reference_picture`, and compressed by log(1 + x), so that layers,
    whose features differ a thousandfold, count alike.
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
            pooled += [x.mean((2, 3)), x.square().mean((2, 3)).sqrt()]
        return torch.cat(pooled, dim=1).log1p()


class Painted:
    """An arbitrary net with paintings chosen for it.

    shares: each painting's file, and its share; they are scaled to a sum of 1. size: px of the paintings' short side, as in
    training. Raises UserError for a file that is no picture, or shares that are none.
    """

    def __init__(self, net: ArbitraryNet, loss_network: LossNetwork, shares: Mapping[str, float], size: int):
        self.net, self.loss_network, self.pool, self.size = net, loss_network, Pooling(loss_network), size
        self.row = sum(share * self.row_of(load_rgb(path, size)) for path, share in scaled(shares).items())

    @torch.no_grad()
    def row_of(self, picture: Image.Image) -> Tensor:
        """The row, (numbers,), that would restyle photographs as this picture."""
        return self.net.head(self.pool(self.loss_network(to_tensor(picture).unsqueeze(0), STYLE_LAYERS)))[0]

    def at(self, strength: float, photograph: Image.Image | None = None) -> TransformNet:
        """The ordinary net between the photograph's own style, at 0, and the paintings', at 1 (Ghiasi et al. 2017, 4.3)."""
        if photograph is None or strength == 1:
            return self.net.fold(self.row)
        own = self.row_of(short_side(photograph, self.size))
        return self.net.fold(torch.lerp(own, self.row, strength))


def scaled(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares with a sum of 1. Raises UserError unless they are numbers from 0, and not all 0."""
    numbers = [share for share in shares.values() if isinstance(share, (int, float)) and 0 <= share < float("inf")]
    if len(numbers) < len(shares) or sum(numbers) <= 0:
        raise UserError(f"style={dict(shares)}: give a number from 0 for each, not all 0")
    return {name: share / sum(numbers) for name, share in shares.items()}
