"""The command that measures a checkpoint."""

import json

import numpy as np
import pytest
import torch
from conftest import picture, random_arbitrary, random_multi
from PIL import Image

import fastnst
from fastnst.brushwork import brushed
from fastnst.checkpoint import export, load_net
from fastnst.commands.entry import evaluate as main
from fastnst.commands.entry import train
from fastnst.evaluation.figures import relative_content
from fastnst.images import fit, load_rgb, to_tensor
from fastnst.losses.vgg import LossNetwork
from fastnst.models.transform_net import TransformNet

FIGURES = ("relative_content", "relative_style", "strokes", "palette", "contrast", "tone", "motif")


@pytest.fixture
def small(tmp_path):
    """Arguments for a checkpoint of one painting, with random weights and an objective as training writes it."""
    torch.manual_seed(0)
    objective = {
        "_target_": "fastnst.losses.objective.Objective", "content_layer": "relu2_2", "style_layers": {"relu1_2": 1.0},
        "loss_network": {"network": "vgg16", "weights": "oxford"}, "palette_weight": 1.0,
    }  # fmt: skip
    info = {"style": {"name": "small", "size": 48}, "objective": objective, "steps": 6, "brushwork": 9.0}
    export(tmp_path / "small.safetensors", TransformNet(width=4), info)
    picture(99, 80, 72).save(tmp_path / "painting.png")
    return ("ckpt=small.safetensors", "style=custom", "style.name=small", "style.image=painting.png")


def test_the_command(command, small, photographs, tmp_path):
    (photographs / "00.jpg").write_text("no picture")
    status, out, err = command(
        main, *small, f"data.root={photographs}", "data.count=2", "size=96", "iterations=[1,3]", "speed_sizes=[64,96]"
    )
    assert status == 0, err
    folder = tmp_path / "outputs/evaluation/small"
    assert {p.name for p in folder.iterdir()} == {"table.md", "results.json", "curves.png", "contact.png"}
    results = json.loads((folder / "results.json").read_text())
    assert [(r["painting"], r["photograph"]) for r in results["results"]] == [("small", "01.jpg"), ("small", "02.jpg")]
    first = results["results"][0]
    assert set(first["terms"]) == {"photograph", "network", "1", "3"} and len(first["curve"]) == 4
    assert first["curve"][0] == pytest.approx(first["terms"]["photograph"]["total"], rel=1e-4)
    assert first["curve"][3] == pytest.approx(first["terms"]["3"]["total"])
    assert first["terms"]["photograph"]["content"] == 0
    photograph = to_tensor(fit(load_rgb(photographs / "01.jpg"), 96)).unsqueeze(0)
    with torch.no_grad():
        restyled = load_net(tmp_path / "small.safetensors")[0](brushed(photograph, 9.0)).clamp(0, 1)
    assert first["relative_content"] == pytest.approx(relative_content(LossNetwork(), restyled, photograph), rel=1e-3)
    for speed in results["speed"]:
        assert speed["ratio"] == pytest.approx(speed["optimization_seconds"] / speed["pass_seconds"])
    table = (folder / "table.md").read_text()
    assert "| picture | total | content | style | palette | tv |" in table
    assert table in out and "| checkerboard |" in table and "3 iterations" in table
    assert f"({results['checkpoint_mb']:.1f} MB)" in table and results["checkpoint_mb"] > 0
    # A column for the painting, one for each photograph; rows of photographs, results, and pictures after 3 iterations.
    painting = load_rgb(tmp_path / "painting.png", 256)
    across, down = painting.width + 2 * (6 + 96), 3 * 18 + 2 * 6 + 72 + painting.height + 72
    assert load_rgb(folder / "contact.png").size == (across, down)
    assert load_rgb(folder / "curves.png").width > 300


def test_fast(command, small, tmp_path):
    status, out, err = command(main, *small, "--fast", "out=here")
    assert status == 0, err
    results = json.loads((tmp_path / "here/fast/results.json").read_text())
    assert results["size"] == 128 and len(results["results"]) == 1 and len(results["results"][0]["curve"]) == 5


def test_scales_that_a_photograph_is_too_small_for_are_told_first(command, small, photographs, tmp_path):
    whole, info = load_net(tmp_path / "small.safetensors")
    info["objective"]["scales"], info["style"]["size"] = [1, 4], 64
    export(tmp_path / "small.safetensors", whole, info)
    status, _, err = command(main, *small, "--fast", "out=here")
    assert status == 0, err
    status, out, err = command(main, *small, f"data.root={photographs}", "data.count=1", "size=96", "speed_sizes=[64]")
    assert status == 2 and "less than 64 px" in err and len(err.splitlines()) == 1
    assert out == ""


def test_figures_of_one_painting(command, small, photographs, tmp_path):
    """Without optimization, and without the checkpoint's name for its style."""
    arguments = (f"data.root={photographs}", "data.count=2", "size=96", "iterations=null", "speed_sizes=[64]")
    status, out, err = command(main, small[0], "style=custom", "style.image=painting.png", *arguments)
    assert status == 0, err
    folder = tmp_path / "outputs/evaluation/custom"
    assert {p.name for p in folder.iterdir()} == {"table.md", "results.json", "contact.png"}
    results = json.loads((folder / "results.json").read_text())
    assert "equivalent_iterations" not in results and "terms" not in results["results"][0]
    table = (folder / "table.md").read_text()
    assert "iteration" not in table and f"| painting | photograph | {' | '.join(FIGURES)} |" in table
    assert results["motif"] is None and table.count("| - |\n") == 3  # no photograph has a flat window
    for name in FIGURES[:-1]:
        values = [r[name] for r in results["results"]]
        assert results[name] == pytest.approx(np.mean(values)) and values[0] != values[1]
        assert f"| {values[1]:.3f} |" in table and f"| {results[name]:.3f} |" in table
    assert f"strokes {results['results'][1]['strokes']:.3f}" in out and "motif -" in out


def test_a_folder_of_paintings(command, two_paintings, photographs, tmp_path):
    random_arbitrary(tmp_path)
    (two_paintings / "none.jpg").write_text("no picture")
    grain = np.random.default_rng(0).integers(120, 130, (48, 64, 3), dtype=np.uint8)  # its windows are flat
    Image.fromarray(grain).save(photographs / "01.jpg", quality=100)
    arguments = ["ckpt=any.safetensors", f"paintings={two_paintings}", f"data.root={photographs}", "data.count=2", "size=96"]
    status, out, err = command(main, *arguments, "speed_sizes=[64]")
    assert status == 0, err
    folder = tmp_path / "outputs/evaluation/paintings"
    assert {p.name for p in folder.iterdir()} == {"table.md", "results.json", "contact.png"}
    results = json.loads((folder / "results.json").read_text())
    pairs = [(r["painting"], r["photograph"]) for r in results["results"]]
    assert pairs == [(painting, photograph) for painting in "01" for photograph in ("00.jpg", "01.jpg")]
    assert len({r["strokes"] for r in results["results"]}) == 4
    repeated = [r["motif"] for r in results["results"]]
    assert [r is not None for r in repeated] == [False, True, False, True]
    assert results["motif"] == pytest.approx(np.mean(repeated[1::2])) and 0 < results["motif"] <= 1
    own = np.mean([r["nearest"] == r["painting"] for r in results["results"]])
    assert {r["nearest"] for r in results["results"]} <= {"0", "1"} and results["nearest_is_own"] == own
    table = (folder / "table.md").read_text()
    assert f"Nearest to their own painting, of 2: {own:.0%} of the results." in table
    assert table in out and table.count("**mean**") == 3 and table.count("| - |\n") == 2
    # As the checkpoint itself restyles it: the pictures on the sheet, painting by painting.
    sheet = load_rgb(folder / "contact.png")
    painting = load_rgb(two_paintings / "1.png", 256)
    assert sheet.size == (painting.width + 2 * (6 + 96), 3 * 18 + 2 * 6 + 72 + 2 * painting.height)
    left, top = painting.width + 6, 2 * (18 + 6) + 72 + painting.height + 18
    own = fastnst.load(str(tmp_path / "any.safetensors"), style=str(two_paintings / "1.png"))
    expected = own(fit(load_rgb(photographs / "00.jpg"), 96))
    shown = sheet.crop((left, top, left + 96, top + 72))
    assert np.abs(np.asarray(shown, int) - np.asarray(expected, int)).max() <= 1


def test_a_folder_for_several_styles(command, two_paintings, tmp_path):
    export(tmp_path / "multi.safetensors", random_multi(["0", "1"]), {})
    arguments = ("ckpt=multi.safetensors", f"paintings={two_paintings}", "--fast")
    status, _, err = command(main, *arguments)
    assert status == 0, err
    results = json.loads((tmp_path / "outputs/evaluation/paintings/fast/results.json").read_text())
    assert results["styles"] == ["0", "1"] and len({r["palette"] for r in results["results"]}) == 2
    (two_paintings / "1.png").rename(two_paintings / "other.png")
    status, _, err = command(main, *arguments)
    assert status == 2 and "style=other: this checkpoint has 0, 1" in err and len(err.splitlines()) == 1


def test_one_iteration_is_enough(command, small, photographs, tmp_path):
    arguments = (f"data.root={photographs}", "data.count=1", "size=96", "iterations=[1]", "speed_sizes=[64]", "out=one")
    status, _, err = command(main, *small, *arguments)
    assert status == 0, err
    results = json.loads((tmp_path / "one/results.json").read_text())
    beyond = results["results"][0]["equivalent_iterations"] is None
    assert (results["equivalent_iterations"] is None) == beyond


def test_a_lightning_checkpoint_is_measured_too(command, small_training, photographs, tmp_path):
    assert command(train, *small_training, "trainer.max_steps=2")[0] == 0
    (last,) = tmp_path.glob("runs/small/*/last.ckpt")
    arguments = ("style=custom", "style.name=small", "style.image=painting.png", f"data.root={photographs}", "data.count=1")
    status, _, err = command(main, f"ckpt={last}", *arguments, "size=96", "iterations=[1]", "speed_sizes=[64]")
    assert status == 0, err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["ckpt=missing.safetensors"], "no such checkpoint"),
        (["style.image=missing.png"], "no such picture file"),
        (["data.root=missing"], "no such folder"),
        (["data.root=empty"], "no photographs"),
        (["size=8"], "size=8"),
        (["iterations=[]"], "iterations=[]"),
        (["iterations=[0]"], "iterations=[0]"),
        (["paintings=missing"], "paintings=missing: no such folder"),
        (["paintings=empty"], "empty: no photographs"),
        (["paintings=photographs"], "the checkpoint's style is small, not 00"),
        (["paintings=twice"], "two files are called 0;"),
        (["iterations=5"], "iterations=5: give whole numbers"),
        (["speed_sizes=[8]"], "speed_sizes=[8]"),
        (["data.root=photographs", "size=64"], "64 px is the least side; at size=64 it has 48"),
        (["style.name=other"], "the checkpoint's style is small, not other"),
        (["ckpt=null"], "ckpt=None: give a path"),
        (["fast=maybe"], "fast=maybe: give true or false"),
        (["out=painting.png/x"], "out=painting.png/x: cannot be written to"),
    ],
)
def test_bad_input_gets_one_line(command, small, paintings, photographs, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "twice").mkdir()
    for name in ("0.png", "0.jpg"):
        picture(0).save(tmp_path / "twice" / name)
    status, out, err = command(main, *small, *arguments)
    assert status == 2, err
    assert message in err and len(err.splitlines()) == 1
