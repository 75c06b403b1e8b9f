"""Markdown tables."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table. Floats have three digits; None, which could not be measured, is a dash."""
    return [f"| {' | '.join(map(_cell, cells))} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "-" if value is None else str(value)
