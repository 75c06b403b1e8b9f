"""The benchmark runs, at tiny sizes, and what it compares computes the same."""

import json

import pytest

from fastnst.commands.benchmark import FAST
from fastnst.commands.entry import benchmark as main

PARTS = [
    "data (one core)", "transform net, forward", "VGG to relu3_3, photographs", "VGG to relu4_3, results", "Gram matrices",
    "content and tv, with gradients", "Gram matrices, backward", "VGG to relu4_3, backward", "transform net, backward",
    "Adam",
]  # fmt: skip


def test_fast(command, photographs, tmp_path):
    status, out, err = command(main, "--fast", f"data.root={photographs}", "out=here")
    assert status == 0, err
    table = (tmp_path / "here/fast/table.md").read_text()
    results = json.loads((tmp_path / "here/fast/results.json").read_text())
    assert table in out and "| textbook |" in table
    assert results["settings"] == FAST
    assert results["losses"]["float32"].keys() == {"total", "content", "style", "tv"}
    assert max(results["losses"]["float32"].values()) < 1e-3
    assert max(results["losses"]["bfloat16"].values()) < 2e-2
    step = results["step"]
    assert set(step) >= {"textbook", "float32", "bfloat16"}
    for kind in step.values():
        assert kind["ratio"] == pytest.approx(step["textbook"]["seconds"] / kind["seconds"])
        assert kind["images_per_second"] == pytest.approx(FAST["batch_size"] / kind["seconds"])
    for parts in results["parts"].values():
        assert [part["part"] for part in parts["parts"]] == PARTS
        assert parts["seconds"] == pytest.approx(sum(part["seconds"] for part in parts["parts"][1:]))
        gflop = {part["part"]: part["gflop"] for part in parts["parts"]}
        n, c = FAST["batch_size"], (64, 128, 256, 512)
        sides = [FAST["size"] // 2**block for block in range(4)]
        assert gflop["Gram matrices"] == pytest.approx(
            n * sum(2 * w * w * s * s for w, s in zip(c, sides, strict=True)) / 1e9
        )
        assert gflop["Gram matrices, backward"] == pytest.approx(gflop["Gram matrices"])
        assert gflop["VGG to relu3_3, photographs"] < gflop["VGG to relu4_3, results"]
        assert gflop["VGG to relu4_3, backward"] == pytest.approx(gflop["VGG to relu4_3, results"])
    assert set(results["decoding"]) == {"torchvision", "training crops", "centred crops"}
    (inference,) = results["inference"]
    assert inference["size"] == 32 and set(inference["seconds"]) >= {"textbook", "ours"}
    (memory,) = results["memory"]
    assert memory.keys() == {"batch_size", "size", "before_mb", "peak_mb"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["width=0"], "width=0"),
        (["size=31"], "size=31: give a whole number from 32"),
        (["size=33"], "give multiples of 4"),
        (["rounds=none"], "rounds=none"),
        (["inference_sizes=[8]"], "inference_sizes=[8]"),
        (["memory_steps=[4,256]"], "memory_steps=[4, 256]: give pairs"),
        (["memory_steps=5"], "memory_steps=5: give pairs"),
        (["memory_steps=[[0,256]]"], "give pairs"),
        (["data.root=missing"], "no such folder"),
        (["data.count=0"], "data.count=0"),
        (["fast=maybe"], "fast=maybe: give true or false"),
    ],
)
def test_bad_input_gets_one_line(command, arguments, message):
    status, out, err = command(main, *arguments)
    assert status == 2, err
    assert message in err and len(err.splitlines()) == 1
