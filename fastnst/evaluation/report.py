"""An evaluation as Markdown tables, curves and a sheet of pictures."""

import statistics
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from fastnst.images import to_image
from fastnst.plots import save_figure


def markdown(summary: dict, marks: list[int]) -> str:
    """The results as Markdown tables."""
    names = list(summary["photographs"][0]["terms"]["network"])
    lines = [
        f"# {summary['checkpoint']} ({summary['checkpoint_mb']:.1f} MB), {summary['style']}",
        "",
        f"{len(summary['photographs'])} photographs, long side {summary['size']} px. Equivalent to "
        f"**{count_of(summary['worth_median'], marks)}** L-BFGS iterations from the photograph (median); "
        f"relative_content {summary['relative_content']:.3f}, relative_style {summary['relative_style']:.3f}; "
        f"flicker {255 * summary['flicker']:.2f} / 255.",
        "",
        f"| photograph | picture | {' | '.join(names)} | equivalent iterations |",
        "| --- " * (len(names) + 3) + "|",
    ]
    for result in summary["photographs"]:
        for name, terms in result["terms"].items():
            cells = [
                result["photograph"] if name == "photograph" else "",
                name if not name.isdigit() else f"{name} iterations",
            ]
            cells += [f"{terms[term]:.4g}" for term in names]
            cells.append(count_of(result["worth"], marks) if name == "network" else "")
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| artefact | photographs | network | threshold above | kept |", "| --- | --- | --- | --- | --- |"]
    for name, a in summary["artefacts"].items():
        kept = "yes" if a["kept"] else "no"
        lines.append(f"| {name} | {a['photographs']:.3g} | {a['network']:.3g} | {a['threshold']:g} | {kept} |")
    lines += [
        "",
        f"| size (px) | one pass (s) | {max(marks)} iterations (s) | times faster | process, pass (MB) | iterations (MB) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for s in summary["speed"]:
        memory = [s[key] if s[key] is not None else "not told" for key in ("pass_memory_mb", "optimization_memory_mb")]
        lines.append(
            f"| {s['size']} | {s['pass_seconds']:.3g} | {s['optimization_seconds']:.3g} | {s['ratio']:.0f} | "
            f"{memory[0]} | {memory[1]} |"
        )
    return "\n".join(lines) + "\n"


def count_of(worth: int | None, marks: list[int]) -> str:
    return f"over {max(marks)}" if worth is None else str(worth)


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


def contact_sheet(rows: list[list[Tensor]], titles: list[str]) -> Image.Image:
    """Rows of pictures, (1, 3, H, W) each, under titles."""
    gap, top = 6, 18
    width = max(picture.shape[-1] for row in rows for picture in row)
    heights = [max(picture.shape[-2] for picture in row) for row in rows]
    sheet = Image.new("RGB", (len(titles) * (width + gap) - gap, top + sum(heights) + gap * (len(rows) - 1)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.text((column * (width + gap), 2), title, fill="black")
    down = top
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(to_image(picture[0]), (column * (width + gap), down))
        down += height + gap
    return sheet
