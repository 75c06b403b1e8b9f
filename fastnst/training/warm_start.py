"""Starting weights from another net, and which of them are trained."""

from collections.abc import Mapping
from pathlib import Path

from fastnst.checkpoint import ancestor, load_net
from fastnst.errors import UserError
from fastnst.models.net import Net
from fastnst.training.waking import wake


def start_from(net: Net, init: Path, paintings: Mapping[str, Path]) -> str | None:
    """Loads the weights of the checkpoint `init`. Returns its ancestor.

    Silent channels are woken, unless the convolutions are frozen. paintings: each style's file by its name.
    Raises UserError if the nets do not fit.
    """
    start, info = load_net(init)
    net.begin_from(start, lambda: start.first_embeddings(paintings, info, init))
    if all(weight.requires_grad for weight in net.parameters()):
        wake(net)
    return ancestor(start, info)


def freeze(net: Net, trained: str, init: Path | None) -> None:
    """Freezes what is not trained. trained: `all`, or `norms`, which leaves but the styles' embeddings.

    Raises UserError for another value, or if there is no trained net of several styles to begin at.
    """
    if trained not in ("all", "norms"):
        raise UserError(f"train={trained}: give all or norms")
    if trained == "norms":
        if net.body is net or init is None:
            raise UserError("train=norms: learns embeddings for a trained net of several styles; give model=multi init=FILE")
        net.body.requires_grad_(False)
