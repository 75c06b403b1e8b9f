"""An evaluation as Markdown tables, curves and a sheet of pictures."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from fastnst.evaluation.measurements import FIGURES, means
from fastnst.images import to_image
from fastnst.plots import save_figure
from fastnst.tables import table


def markdown(summary: dict, marks: list[int]) -> str:
    """The results as Markdown tables. marks: iterations of L-BFGS that were reported; empty without optimization."""
    results, styles = summary["results"], summary["styles"]
    lines = [f"# {summary['checkpoint']} ({summary['checkpoint_mb']:.1f} MB), {', '.join(styles)}", ""]
    if marks:
        count = count_of(summary["equivalent_iterations"], marks)
        lines += [f"Equivalent to **{count}** L-BFGS iterations from the photograph (median).", ""]
    lines += [f"Photographs with a long side of {summary['size']} px. Flicker {255 * summary['flicker']:.2f} / 255.", ""]
    rows = []
    for style in styles:
        own = [r for r in results if r["painting"] == style]
        rows += [(style, r["photograph"], *figure_cells(r)) for r in own]
        rows.append((style, "**mean**", *figure_cells(means(own))))
    if len(styles) > 1:
        rows.append(("**all**", "**mean**", *figure_cells(summary)))
    lines += table(("painting", "photograph", *FIGURES), rows)
    if len(styles) > 1:
        lines += ["", f"Nearest to their own painting, of {len(styles)}: {summary['nearest_is_own']:.0%} of the results."]
    if marks:
        terms = ("photograph", "picture", *results[0]["terms"]["network"], "equivalent iterations")
        lines += ["", *table(terms, _term_rows(results, marks))]
    rows = [(name, *a.values()) for name, a in summary["artefacts"].items()]
    lines += ["", *table(("artefact", "photographs", "network", "threshold above", "kept"), rows)]
    heads = ["size (px)", "one pass (s)", "process, pass (MB)"]
    if marks:
        heads += [f"{max(marks)} iterations (s)", "times faster", "iterations (MB)"]
    return "\n".join([*lines, "", *table(heads, (s.values() for s in summary["speed"])), ""])


def _term_rows(results: list[dict], marks: list[int]) -> Iterator[tuple[str, ...]]:
    """The objective's terms: of each photograph, of the net's result, and after each of the reported iterations."""
    for result in results:
        for name, terms in result["terms"].items():
            yield (
                result["photograph"] if name == "photograph" else "",
                f"{name} iterations" if name.isdigit() else name,
                *(f"{value:.4g}" for value in terms.values()),
                count_of(result["equivalent_iterations"], marks) if name == "network" else "",
            )


def figure_cells(figures: Mapping[str, float | None]) -> list[str | None]:
    return [None if figures[name] is None else f"{figures[name]:.3f}" for name in FIGURES]


def figure_line(figures: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {cell or '-'}" for name, cell in zip(FIGURES, figure_cells(figures), strict=True))


def count_of(iterations: int | None, marks: list[int]) -> str:
    return f"over {max(marks)}" if iterations is None else str(iterations)


def draw_curves(path: Path, results: list[dict]) -> None:
    """The paper's Figure 5: optimization's total loss over its iterations against the network's, means over photographs."""
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    curves = torch.tensor([r["curve"] for r in results])
    steps = range(curves.shape[1])
    axes.plot(steps, curves.mean(0), label="L-BFGS from the photograph")
    if len(results) > 1:
        axes.fill_between(steps, curves.amin(0), curves.amax(0), alpha=0.15, linewidth=0)
    for name, color in (("network", "C1"), ("photograph", "C7")):
        values = [r["terms"][name]["total"] for r in results]
        axes.axhline(statistics.mean(values), color=color, linestyle="--", label=name)
    axes.set(yscale="log", xlabel="iteration", ylabel="total loss")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def contact_sheet(rows: Mapping[str, Sequence[Tensor | None]]) -> Image.Image:
    """Rows of as many pictures each, (1, 3, H, W) or None for an empty place, under their titles."""
    gap, top = 6, 18
    images = [[picture if picture is None else to_image(picture[0]) for picture in row] for row in rows.values()]
    widths = [max(image.width for image in column if image) for column in zip(*images, strict=True)]
    heights = [top + max(image.height for image in row if image) for row in images]
    sheet = Image.new("RGB", (sum(widths) + gap * (len(widths) - 1), sum(heights) + gap * (len(heights) - 1)), "white")
    pen, down = ImageDraw.Draw(sheet), 0
    for title, row, height in zip(rows, images, heights, strict=True):
        pen.text((0, down + 2), title, fill="black")
        across = 0
        for image, width in zip(row, widths, strict=True):
            if image:
                sheet.paste(image, (across, down + top))
            across += width + gap
        down += height + gap
    return sheet
