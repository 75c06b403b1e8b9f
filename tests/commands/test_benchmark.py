"""The benchmark runs, at tiny sizes, and what it compares computes the same."""

import json
from types import SimpleNamespace

import pytest
from forked import CONTEXT

from fastnst.benchmark import steps
from fastnst.commands.benchmark import FAST
from fastnst.commands.entry import benchmark as main

PARTS = [
    "transform net, forward", "VGG to relu3_3, photographs", "VGG to relu4_3, results", "Gram matrices",
    "content and tv, with gradients", "Gram matrices, backward", "VGG to relu4_3, backward", "transform net, backward",
    "Adam", "matrix product", "matrix product, as a convolution",
]  # fmt: skip


def test_fast(command, ready, photographs, monkeypatch, tmp_path):
    monkeypatch.setattr(steps, "multiprocessing", SimpleNamespace(get_context=lambda _: CONTEXT))  # they start at once
    status, out, err = command(main, "--fast", f"data.root={photographs}", "out=here")
    assert status == 0, err
    table = (tmp_path / "here/fast/table.md").read_text()
    results = json.loads((tmp_path / "here/fast/results.json").read_text())
    assert table in out and "| textbook |" in table and "| batch | px | before mb | peak mb |" in table
    assert results["settings"] == FAST
    for losses, most in zip(results["losses"], (1e-3, 2e-2), strict=True):
        assert losses.keys() == {"precision", "total", "content", "style", "tv"}
        assert max(losses[term] for term in ("total", "content", "style", "tv")) < most
    by_kind = {step["step"]: step for step in results["step"]}
    assert set(by_kind) >= {"textbook", "float32", "bfloat16"}
    for step in by_kind.values():
        assert step["times_the_textbook"] == pytest.approx(by_kind["textbook"]["seconds"] / step["seconds"])
        assert step["images_per_second"] == pytest.approx(FAST["batch_size"] / step["seconds"])
    for kind in ("float32", "bfloat16"):
        parts = results[f"parts_{kind}"]
        assert [part["part"] for part in parts] == PARTS
        assert sum(part["share"] for part in parts[:-2]) == pytest.approx(1)
        assert max(part["of_the_peak"] for part in parts[-2:]) == 1
        gflop = {part["part"]: part["gflop"] for part in parts}
        n, c = FAST["batch_size"], (64, 128, 256, 512)
        sides = [FAST["size"] // 2**block for block in range(4)]
        assert gflop["Gram matrices"] == pytest.approx(
            n * sum(2 * w * w * s * s for w, s in zip(c, sides, strict=True)) / 1e9
        )
        assert gflop["Gram matrices, backward"] == pytest.approx(gflop["Gram matrices"])
        assert gflop["VGG to relu3_3, photographs"] < gflop["VGG to relu4_3, results"]
        assert gflop["VGG to relu4_3, backward"] == pytest.approx(gflop["VGG to relu4_3, results"])
        assert gflop["matrix product"] == gflop["matrix product, as a convolution"] == 2 * 4096 * 128**2 / 1e9
    assert [row["decoder"] for row in results["decoding"]] == ["torchvision", "training crops", "centred crops"]
    (inference,) = results["inference"]
    assert (inference["width"], inference["px"]) == (4, 32)
    seconds = {name: inference[f"{name}_seconds"] for name in ("textbook", "float32", "onnx_runtime")}
    assert inference["times_the_textbook"] == pytest.approx(seconds["textbook"] / seconds["float32"])
    assert inference["share_of_onnx_runtime"] == pytest.approx(seconds["float32"] / seconds["onnx_runtime"])
    (memory,) = results["memory"]
    assert memory.keys() == {"batch", "px", "before_mb", "peak_mb"}


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
