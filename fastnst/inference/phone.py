"""Exported files for phones: ExecuTorch's (.pte), whose runtime is in Android and iOS apps, and in Python to try them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fastnst.errors import UserError

MOST = 1024  # px, the longest side: memory for it is set aside whatever the picture


def _installed() -> None:
    try:
        import executorch.exir  # noqa: F401
    except ImportError:
        raise UserError("format=executorch needs more packages: pip install 'fastnst[phone]'") from None


def written(module: nn.Module, example: Tensor, axes: dict[int, str], least: int, metadata: str) -> bytes:
    """`module` as a file that takes one picture of any sides from `least` to MOST, like `example`, (1, ...).

    axes: which of the example's are height and width. The file's method "fastnst" gives `metadata`. XNNPACK computes the
    convolutions. Raises UserError without ExecuTorch.
    """
    _installed()
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    dims = {axis: torch.export.Dim(name, min=least, max=MOST) for axis, name in axes.items()}
    program = torch.export.export(module, (example,), dynamic_shapes=(dims,))
    lowered = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()], constant_methods={"fastnst": metadata}
    )
    return lowered.to_executorch().buffer


def loaded(path: Path) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """Such a file as a function of arrays, and its metadata."""
    _installed()
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    method, told = program.load_method("forward"), program.load_method("fastnst")
    assert method is not None and told is not None  # `written` has both

    def call(pictures: np.ndarray) -> np.ndarray:
        return method.execute([torch.from_numpy(pictures)])[0].numpy()

    return call, told.execute([])[0]
