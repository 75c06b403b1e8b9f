"""Nets of many styles: conditional instance normalization, a scale and a shift for each picture.

Dumoulin, Shlens and Kudlur 2017 found that these numbers alone can hold a style, as its embedding. `MultiStyleNet` keeps an
embedding for each style. Ghiasi et al. 2017 predict it from the painting: see fastnst.models.arbitrary. For inference
`fold` writes it into an ordinary `TransformNet`, so that tiles, films and exports need no code of their own for these nets.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from fastnst.errors import UserError
from fastnst.losses.terms import reference_picture
from fastnst.models.colors import SIDE, behind
from fastnst.models.dials import scaled
from fastnst.models.net import Net, Shares
from fastnst.models.regions import Regions
from fastnst.models.transform_net import ReflectedConv2d, Residual, TransformNet, check_alike


class ConditionalNorm(nn.Module):
    """Instance normalization with each picture's own scale and shift."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
        """x: (N, C, H, W). scales, shifts: (N, C). Returns the shape of x."""
        pictures = zip(x.split(1), scales, shifts, strict=True)
        return torch.cat([F.batch_norm(picture, None, None, scale, shift, True) for picture, scale, shift in pictures])


class ConditionalColors(ReflectedConv2d):
    """The last convolution, then a colour matrix and shift for each picture.

    Dumoulin et al. scale and shift the output like all other maps. A matrix can also turn the colours, so that a palette
    need not come from the strokes' channels.
    """

    def __init__(self, last: nn.Conv2d):
        kernel = last.kernel_size[0]
        super().__init__(last.in_channels, last.out_channels, kernel, padding=kernel // 2, padding_mode=last.padding_mode)

    def forward(self, x: Tensor, *numbers: Tensor) -> Tensor:
        """x: (N, C, H, W). numbers: matrices, (N, 9), line by line, and shifts, (N, 3). Returns (N, 3, H, W)."""
        matrices, shifts = numbers
        x = super().forward(x)
        return torch.einsum("nij,njhw->nihw", matrices.view(-1, 3, 3), x.to(matrices)) + shifts[..., None, None]


def conditioned(layers: nn.Sequential, x: Tensor, numbers: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
    """What `layers` make of x, (N, C, H, W), where each conditional layer takes the next scales and shifts of `numbers`."""
    for layer in layers:
        if isinstance(layer, (ConditionalNorm, ConditionalColors)):
            x = layer(x, *next(numbers))
        elif isinstance(layer, Residual):
            x = x + conditioned(layer.layers, x, numbers)
        else:
            x = layer(x)
    return x


class StyledNet(Net):
    """A transform net, `body`, that takes an embedding for each picture, which holds its style.

    An embedding has, for each normalization from the input on, its C scales and then its C shifts; last come the matrix and
    the shift of the colours. That is 100 times the width, and 12: 1612 numbers for a width of 16, 3212 for 32.
    width, upsample: as in `TransformNet`.
    """

    kind: str  # the value of `architecture` that says which of the classes below it is
    woken = 0.1  # each step pulls at the next convolution for other styles: at 1 the first hundred steps undo the net

    def __init__(self, width: int = 16, upsample: str = "nearest"):
        super().__init__()
        self.body = TransformNet("instance", width, upsample)
        self.neutral = self.body.first_embedding()
        for parent in list(self.body.modules()):
            for name, module in list(parent.named_children()):
                if isinstance(module, nn.InstanceNorm2d):
                    setattr(parent, name, ConditionalNorm(module.num_features))
        last = self.body.layers[-1]
        assert isinstance(last, nn.Conv2d)
        self.body.layers[-1] = ConditionalColors(last)
        norms = [module for module in self.body.modules() if isinstance(module, ConditionalNorm)]
        self.parts = [norm.channels for norm in norms for _ in range(2)] + [9, 3]
        self.numbers = sum(self.parts)
        with torch.device("meta"):  # in a list: no part of this net, and without weights
            self.plain = [TransformNet(**self.body.architecture)]

    def restyle(self, photographs: Tensor, embeddings: Tensor) -> Tensor:
        """photographs: (N, 3, H, W) in 0-1. embeddings: (N, numbers). Returns the same as `TransformNet` does."""
        parts = embeddings.split(self.parts, dim=1)
        numbers = zip(parts[::2], parts[1::2], strict=True)
        return self.body.framed(photographs, lambda x: conditioned(self.body.layers, x, numbers))

    def fold(self, embedding: Tensor) -> TransformNet:
        """The ordinary net of one embedding, (numbers,), in eval mode."""
        with torch.device("meta"):  # all weights are given below: random ones take longer than a small pass
            net = TransformNet(**self.body.architecture)
        net.to_empty(device=embedding.device).load_state_dict(self.body.state_dict(), strict=False)
        net.load_state_dict(self.weights(embedding.detach()), strict=False)
        return net.eval()

    def layers(self, embedding: Tensor, x: Tensor) -> Tensor:
        """What the layers of that net make of x, (N, 3, H, W) in -1 to 1: the same shape, before `TransformNet.output`."""
        state = dict(self.body.named_parameters()) | self.weights(embedding)
        return functional_call(self.plain[0].layers, {key.removeprefix("layers."): w for key, w in state.items()}, (x,))

    def weights(self, embedding: Tensor) -> dict[str, Tensor]:
        """What an embedding, (numbers,), decides of the ordinary net's state: each normalization, the last convolution."""
        *parts, matrix, colors = embedding.split(self.parts)
        norms = [name for name, module in self.body.named_modules() if isinstance(module, ConditionalNorm)]
        numbers = zip(norms, parts[::2], parts[1::2], strict=True)
        folded = {f"{name}.{part}": x for name, *both in numbers for part, x in zip(("weight", "bias"), both, strict=True)}
        last, matrix = f"layers.{len(self.body.layers) - 1}", matrix.view(3, 3)
        weight, bias = self.body.get_parameter(f"{last}.weight"), self.body.get_parameter(f"{last}.bias")
        turned = behind(weight.detach(), bias.detach(), matrix, colors)
        return folded | {f"{last}.weight": turned[0], f"{last}.bias": turned[1]}

    def turned(self, embedding: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
        """The embedding, (numbers,), with a further map of its colours: linear, (3, 3), and shift, (3,)."""
        *numbers, matrix, own = embedding.split(self.parts)
        parts = (linear @ matrix.view(3, 3).to(linear)).flatten(), linear @ own.to(linear) + shift
        return torch.cat([*numbers, *(part.to(embedding) for part in parts)])

    def divide(self, embeddings: Iterable[Tensor], masks: Sequence[Image.Image]) -> Regions:
        """The net of several embeddings, (numbers,) each, that are chosen for each pixel by their masks."""
        return Regions(self.body, self.parts, torch.stack([*embeddings]), masks)

    @torch.no_grad()
    def reset(self, norm: int, channels: Tensor) -> None:
        start, count = sum(self.parts[: 2 * norm]), self.parts[2 * norm]
        self.set_numbers(start + channels, self.woken)
        self.set_numbers(start + count + channels, 0)

    @abstractmethod
    def set_numbers(self, which: Tensor, value: float) -> None:
        """Sets numbers, (K,), of every embedding."""

    def load_body(self, other: Net) -> None:
        """Takes the convolutions of another net, plain or styled. Raises UserError if it has another shape."""
        body = other.body
        assert isinstance(body, TransformNet)  # of every `Net`
        check_alike(body, self.body)
        self.body.load_state_dict(body.state_dict(), strict=False)


class MultiStyleNet(StyledNet):
    """One net for several styles, an embedding each (Dumoulin et al. 2017).

    styles: their names. Raises UserError if there are none.
    """

    kind = "multi"
    styles: list[str]

    def __init__(self, styles: Sequence[str], width: int = 16, upsample: str = "nearest"):
        super().__init__(width, upsample)
        self.styles = list(styles)
        if not self.styles or not all(isinstance(style, str) for style in self.styles):
            raise UserError(f"styles={self.styles}: give the names of one style or more")
        self.embeddings = nn.Parameter(self.neutral.repeat(len(self.styles), 1))
        self.architecture = {"kind": self.kind, "styles": self.styles, "width": width, "upsample": upsample}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        if f"{prefix}rows" in state_dict:  # what checkpoints before 0.2.0 call it
            state_dict[f"{prefix}embeddings"] = state_dict.pop(f"{prefix}rows")
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def light(self, paintings: Sequence[Tensor]) -> None:
        reference = (reference_picture(SIDE) * 2 - 1).to(self.embeddings)
        for embedding, painting in zip(self.embeddings, paintings, strict=True):
            turn = self.body.lighting(self.layers(embedding, reference), painting)
            embedding.copy_(self.turned(embedding.cpu(), *turn))

    def forward(self, photographs: Tensor, styles: Tensor) -> Tensor:
        """photographs: (N, 3, H, W) in 0-1. styles: (N,), the number of each picture's style. Returns the same shape."""
        return self.restyle(photographs, self.embeddings[styles])

    def choose(self, shares: Shares) -> TransformNet:
        """The ordinary net of a style, or of several whose embeddings are mixed by their shares, scaled to a sum of 1.

        Raises UserError for a style that is not there.
        """
        parts = scaled(shares.values(), f"style={dict(shares)}")
        weighted = (part * embedding for part, embedding in zip(parts, self.embeddings_of(shares), strict=True))
        return self.fold(sum(weighted, torch.zeros(())))

    def embeddings_of(self, styles: Iterable[str]) -> list[Tensor]:
        """Their embeddings, (numbers,) each. Raises UserError for a style that is not there."""
        for style in styles:
            if style not in self.styles:
                raise UserError(f"style={style}: this checkpoint has {', '.join(self.styles)}")
        return [self.embeddings[self.styles.index(style)] for style in styles]

    def pick(
        self, shares: Shares | None, info: dict, path: str | Path, masks: Sequence[Image.Image] | None = None
    ) -> TransformNet | Regions:
        if shares is None and len(self.styles) > 1:
            raise UserError(f"{path} holds {', '.join(self.styles)}: give style=NAME, or shares of several")
        shares = shares or {self.styles[0]: 1.0}
        return self.choose(shares) if masks is None else self.divide(self.embeddings_of(shares), masks)

    def pick_painting(self, style: str, painting: Path, info: dict, path: Path) -> TransformNet:
        return self.choose({style: 1.0})

    def first_embedding(self, style: str | None = None) -> Tensor:
        """The embedding of the style of that name, or else the mean of all."""
        embeddings = self.embeddings.detach()
        return embeddings[self.styles.index(style)] if style in self.styles else embeddings.mean(0)

    def sample_embeddings(self) -> list[Tensor]:
        return [*self.embeddings.detach()]

    def set_numbers(self, which: Tensor, value: float) -> None:
        self.embeddings[:, which] = value

    def begin_from(self, other: Net, embeddings: Callable[[], Mapping[str, Tensor]]) -> None:
        """Takes another net's convolutions, and an embedding, (numbers,), for each style."""
        self.load_body(other)
        known = embeddings()
        with torch.no_grad():
            for style, embedding in zip(self.styles, self.embeddings, strict=True):
                embedding.copy_(known[style])
