"""The benchmark runs, at tiny sizes, and what it compares computes the same."""

import json

import pytest
from forked import CONTEXT

from fastnst.benchmark.steps import KINDS
from fastnst.commands.entry import benchmark as main

SMALL = (
    "width=4", "batch_size=2", "size=64", "rounds=1", "inference_widths=[4]", "inference_sizes=[64]", "data.count=4",
    "out=here",
)  # fmt: skip


def test_tables(command, ready, photographs, monkeypatch, tmp_path):
    monkeypatch.setattr("fastnst.benchmark.steps.get_context", lambda _: CONTEXT)  # they start at once
    status, out, err = command(main, f"data.root={photographs}", *SMALL)
    assert status == 0, err
    table = (tmp_path / "here/table.md").read_text()
    results = json.loads((tmp_path / "here/results.json").read_text())
    assert table in out and "| textbook |" in table and "Width 4, batch 2, 64 px" in results.pop("about")
    assert [*results] == ["steps", "parts", "decoding", "folder", "inference"]
    for name in ("steps", "decoding", "folder", "inference"):
        seconds = {row["what"]: row["seconds"] for row in results[name]}
        for row in results[name]:
            assert row["ratio"] == pytest.approx(row["seconds"] / seconds[row["beside"]])
            images = {"inference": 1, "steps": 2}.get(name, 4)
            assert row["images_per_second"] == pytest.approx(images / row["seconds"])

    steps = {row["what"]: row for row in results["steps"]}
    assert [*steps] == [*KINDS] and steps["bfloat16, three scales"]["beside"] == "bfloat16"
    losses = {kind: row["loss"] for kind, row in steps.items()}
    assert losses["float32"] == pytest.approx(losses["textbook"], rel=1e-3) == losses["float32, one thread"]
    assert losses["bfloat16"] == pytest.approx(losses["textbook"], rel=2e-2)
    assert losses["bfloat16, three scales"] == pytest.approx(losses["float32, three scales"], rel=2e-2)
    assert losses["float32, three scales"] != pytest.approx(losses["float32"], rel=1e-2)

    for precision in ("float32", "bfloat16"):
        parts = {row["part"]: row for row in results["parts"] if row["precision"] == precision}
        top = [part for part in parts if not part.startswith(("step", "_Gram", "matrix"))]
        assert {"transform net", "VGG, photographs", "VGG and losses, backward", "Optimizer.step#Adam.step"} < {*top}
        assert sum(parts[part]["of_the_step"] for part in top) < 1.001 and {"_Gram", "_GramBackward"} < {*parts}
        product = parts["matrix product"]
        assert product["gflop_per_second"] * product["seconds"] == pytest.approx(2 * 4096 * 1024**2 / 1e9)
        step = parts["step"]
        assert step["of_the_peak"] * max(row["gflop_per_second"] or 0 for row in parts.values()) == pytest.approx(
            step["gflop_per_second"]
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["width=0"], "width=0"),
        (["size=63"], "size=63: give a whole number from 64"),
        (["size=66"], "size=66: give a multiple of 4"),
        (["rounds=none"], "rounds=none"),
        (["inference_sizes=[8]"], "inference_sizes=[8]"),
        (["tables=[steps,colours]"], "give some of steps, parts, decoding, folder, inference, such as tables=[steps]"),
        (["tables=5"], "tables=5: give some of"),
        (["data.root=missing"], "no such folder"),
        (["data.count=0"], "data.count=0"),
    ],
)
def test_bad_input_gets_one_line(command, arguments, message):
    status, out, err = command(main, *arguments)
    assert status == 2, err
    assert message in err and len(err.splitlines()) == 1
