"""The command that judges a checkpoint."""

import json

import pytest

from fastnst.commands.entry import evaluate as main
from fastnst.commands.entry import train
from fastnst.images import load_rgb


@pytest.fixture
def trained(command, small_training):
    assert command(train, *small_training)[0] == 0
    return ("ckpt=checkpoints/small.safetensors", "style=custom", "style.name=small", "style.image=painting.png")


def test_the_command(command, trained, photographs, tmp_path):
    (photographs / "00.jpg").write_text("no picture")
    status, out, err = command(
        main, *trained, f"data.root={photographs}", "data.count=2", "size=96", "iterations=[1,3]", "speed_sizes=[64,96]"
    )
    assert status == 0, err
    folder = tmp_path / "outputs/evaluation/small"
    assert {p.name for p in folder.iterdir()} == {"table.md", "results.json", "curves.png", "contact.png"}
    results = json.loads((folder / "results.json").read_text())
    assert [r["photograph"] for r in results["photographs"]] == ["01.jpg", "02.jpg"]
    first = results["photographs"][0]
    assert set(first["terms"]) == {"photograph", "network", "1", "3"} and len(first["curve"]) == 4
    assert first["curve"][0] == pytest.approx(first["terms"]["photograph"]["total"], rel=1e-4)
    assert first["curve"][3] == pytest.approx(first["terms"]["3"]["total"])
    assert first["terms"]["photograph"]["content"] == 0 and first["relative_content"] > 0
    for speed in results["speed"]:
        assert speed["ratio"] == pytest.approx(speed["optimization_seconds"] / speed["pass_seconds"])
    table = (folder / "table.md").read_text()
    assert "| picture | total | content | style | palette | tv |" in table
    assert table in out and "| checkerboard |" in table and "3 iterations" in table
    assert f"({results['checkpoint_mb']:.1f} MB)" in table and results["checkpoint_mb"] > 0
    assert load_rgb(folder / "contact.png").width == 3 * (96 + 6) - 6
    assert load_rgb(folder / "curves.png").width > 300


def test_fast(command, trained, tmp_path):
    status, out, err = command(main, *trained, "--fast", "out=here")
    assert status == 0, err
    results = json.loads((tmp_path / "here/fast/results.json").read_text())
    assert results["size"] == 128 and len(results["photographs"]) == 1 and len(results["photographs"][0]["curve"]) == 5


def test_one_iteration_is_enough(command, trained, photographs, tmp_path):
    arguments = (f"data.root={photographs}", "data.count=1", "size=96", "iterations=[1]", "speed_sizes=[64]", "out=one")
    status, _, err = command(main, *trained, *arguments)
    assert status == 0, err
    results = json.loads((tmp_path / "one/results.json").read_text())
    beyond = results["photographs"][0]["worth"] is None
    assert (results["worth_median"] is None) == beyond


def test_a_lightning_checkpoint_is_judged_too(command, trained, tmp_path):
    (last,) = tmp_path.glob("runs/small/*/last.ckpt")
    assert command(main, f"ckpt={last}", *trained[1:], "--fast")[0] == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["ckpt=missing.safetensors"], "no such checkpoint"),
        (["style.image=missing.png"], "no such picture file"),
        (["data.root=missing"], "no such folder"),
        (["data.root=runs"], "no photographs"),
        (["size=8"], "size=8"),
        (["iterations=[]"], "iterations=[]"),
        (["iterations=[0]"], "iterations=[0]"),
        (["iterations=5"], "iterations=5: give whole numbers"),
        (["speed_sizes=[8]"], "speed_sizes=[8]"),
        (["data.root=photographs", "size=64"], "64 px is the least side; at size=64 it has 48"),
        (["style.name=other"], "the checkpoint's style is small, not other"),
        (["ckpt=null"], "ckpt=None: give a path"),
        (["fast=maybe"], "fast=maybe: give true or false"),
        (["out=painting.png/x"], "out=painting.png/x: cannot be written to"),
    ],
)
def test_bad_input_gets_one_line(command, trained, arguments, message):
    status, out, err = command(main, *trained, *arguments)
    assert status == 2, err
    assert message in err and len(err.splitlines()) == 1
