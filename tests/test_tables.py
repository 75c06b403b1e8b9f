"""Markdown tables."""

from fastnst.tables import table


def test_cells():
    assert table(("a", 2), [("x", None), (3356.2, 0.012345), (True, 1e-5)]) == [
        "| a | 2 |", "| --- | --- |", "| x | - |", "| 3356 | 0.0123 |", "| True | 1e-05 |",
    ]  # fmt: skip
