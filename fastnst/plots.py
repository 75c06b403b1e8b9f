"""Curves as PNG files."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from fastnst.files import write_bytes


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, bbox_inches="tight")
    write_bytes(path, data.getvalue())


def loss_curves(path: str | Path, history: list[dict[str, float]], passes: list[int]) -> None:
    """Each weighted term and their total over the iterations, logarithmic.

    history: those of each iteration by name, `total` among them.
    passes: iterations at which another pass began, marked by a line.
    """
    figure = Figure(figsize=(7, 4.2))
    axes, shown = figure.subplots(), []
    for name in history[0]:
        values = [terms[name] for terms in history]
        if max(values) > 0:  # a term of weight 0 has no curve on a logarithmic scale
            shown.append(values[-1])
            axes.plot(values, label=name, linewidth=2.2 if name == "total" else 1.3)
    for start in passes:
        axes.axvline(start, color="gray", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", xlabel="iteration", ylabel="weighted loss")
    # From the photograph itself, content starts at nothing: its first values would squeeze all other curves together.
    if shown:
        axes.set_ylim(bottom=max(axes.get_ylim()[0], 0.1 * min(shown)))
        axes.legend()
    axes.grid(alpha=0.3)
    save_figure(figure, path)
