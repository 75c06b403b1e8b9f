"""What training, checkpoints, evaluation and the page ask of a net, whatever its kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

Shares = Mapping[Any, float]  # by the names of styles, or by paintings: their files, or `Held`


class Net(nn.Module, ABC):
    """A net of one style (`TransformNet`), of several (`MultiStyleNet`) or for any painting (`ArbitraryNet`).

    architecture: what `fastnst.checkpoint.build` makes it from. body: the `TransformNet` with its convolutions; itself in a
    net of one style. styles: the names to choose from. any_painting: whether it is zero-shot. woken: see `reset`.
    An embedding has the shape (numbers,): see fastnst.models.conditional.
    """

    architecture: dict
    styles: Collection[str] = ()
    any_painting = False
    woken = 1.0

    def name_of(self, paintings: Collection[str]) -> str:
        """What a checkpoint calls the styles that it is trained on. Raises UserError if they are more than it can learn."""
        return "+".join(paintings)

    @abstractmethod
    def first_embedding(self, style: str | None = None) -> Tensor:
        """An initial embedding for a net that begins from this one."""

    def first_embeddings(self, paintings: Mapping[str, Path], info: dict, path: Path) -> dict[str, Tensor]:
        """The same for each style by its name, for its painting's file. info, path: this net's checkpoint's."""
        return {style: self.first_embedding(style) for style in paintings}

    @abstractmethod
    def sample_embeddings(self) -> list[Tensor]:
        """Embeddings that stand for all that this net can have."""

    @abstractmethod
    def reset(self, norm: int, channels: Tensor) -> None:
        """Gives channels, (K,), of a normalization the scale `woken` and no shift, in each style.

        norm: its number, from the input on.
        """

    @abstractmethod
    def light(self, paintings: Sequence[Tensor]) -> None:
        """Moves the mean colour of each style's results to its painting's, and stretches luminance to its painting's spread.

        What a net cannot match costs less in pale: after training the shipped nets' was up to 30 % short (docs/notebook.md).
        It stretches by at most half, and never shrinks.
        paintings: (1, 3, H, W) in 0-1 each, in the styles' order.
        """

    @abstractmethod
    def fold(self, embedding: Tensor) -> Any:
        """The ordinary net of one embedding."""

    @abstractmethod
    def begin_from(self, other: "Net", embeddings: Callable[[], Mapping[str, Tensor]]) -> None:
        """Takes another net's weights. embeddings: gives its `first_embeddings`. Raises UserError for another shape."""

    @abstractmethod
    def pick(self, shares: Shares | None, info: dict, path: str | Path, masks: Sequence[Image.Image] | None = None) -> Any:
        """One style of a checkpoint: the shares of its styles' names, or of paintings' files; None in a net of one style.

        info, path: the checkpoint's. masks: one for each of the styles, which then count by these and not by their shares:
        see `fastnst.models.regions.Regions`. Returns what has `at`. Raises UserError if the shares do not fit.
        """

    @abstractmethod
    def pick_painting(self, style: str, painting: Path, info: dict, path: Path) -> Any:
        """The ordinary net for a painting by its style's name. Raises UserError if that is not the style learnt.

        `custom`, as style=custom is called unless it is named, stands for the one style of a net.
        """
