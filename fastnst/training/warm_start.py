"""Starting weights from another net, and which of them are trained."""

from collections.abc import Mapping
from pathlib import Path

from fastnst.checkpoint import ancestor, load_net
from fastnst.errors import UserError
from fastnst.models.net import Net
from fastnst.training.waking import wake


def start_from(net: Net, init: Path | None, trained: str, paintings: Mapping[str, Path]) -> str | None:
    """Loads the weights of the checkpoint `init`, if there is one. Returns its ancestor.

    Its silent channels are woken, unless they are frozen.

    trained: `all`, or `norms`, which freezes all but the styles' embeddings. paintings: each style's file by its name.
    Raises UserError if the nets do not fit, or for another value of `trained`.
    """
    parent = None
    if init is not None:
        start, info = load_net(init)
        parent = ancestor(start, info)
        net.begin_from(start, lambda: start.first_embeddings(paintings, info, init))
        if trained == "all":  # frozen convolutions stay as they are
            wake(net)
    if trained not in ("all", "norms"):
        raise UserError(f"train={trained}: give all or norms")
    if trained == "norms":
        if net.body is net or init is None:
            raise UserError("train=norms: learns embeddings for a trained net of several styles; give model=multi init=FILE")
        net.body.requires_grad_(False)
    return parent
