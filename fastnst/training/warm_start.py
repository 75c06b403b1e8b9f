"""Starting weights from another net, and which of them are trained."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fastnst.checkpoint import ancestor, load_net, load_style
from fastnst.errors import UserError
from fastnst.models.arbitrary import ArbitraryNet, first_row
from fastnst.models.conditional import MultiStyleNet, StyledNet
from fastnst.models.transform_net import TransformNet, check_alike


def start_from(net: TransformNet | StyledNet, init: Path | None, trained: str, paintings: Mapping[str, Path]) -> str | None:
    """Loads the weights of the checkpoint `init`, if there is one. Returns its ancestor.

    trained: `all`, or `norms`, which freezes all but the styles' embeddings. paintings: each style's file by its name.
    Raises UserError if the nets do not fit, or for another value of `trained`.
    """
    parent = None
    if init is not None:
        start, info = load_net(init)
        parent = ancestor(start, info)
        if isinstance(net, ArbitraryNet):
            net.start(start)
        elif isinstance(net, MultiStyleNet):
            net.start(start, first_rows(start, init, paintings))
        else:
            if isinstance(start, StyledNet):
                (row,) = first_rows(start, init, paintings).values()
                start = start.fold(row)
            check_alike(start, net)
            net.load_state_dict(start.state_dict())
    if trained not in ("all", "norms"):
        raise UserError(f"train={trained}: give all or norms")
    if trained == "norms":
        if not isinstance(net, StyledNet) or init is None:
            raise UserError("train=norms: learns embeddings for a trained net of several styles; give model=multi init=FILE")
        net.body.requires_grad_(False)
    return parent


def first_rows(start: TransformNet | StyledNet, init: Path, paintings: Mapping[str, Path]) -> dict[str, Tensor]:
    """Each style's initial embedding, (numbers,): the prediction of a zero-shot net, or see `first_row`."""
    if not isinstance(start, ArbitraryNet):
        return {name: first_row(start, name) for name in paintings}
    painted, _ = load_style(init, {str(file): 1.0 for file in paintings.values()})
    return {name: painted.rows[str(file)] for name, file in paintings.items()}
