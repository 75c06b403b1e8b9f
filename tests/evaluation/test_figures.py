"""What a net is worth, and artefact figures on pictures that have the artefact and on ones that lack it."""

import json

import numpy as np
import pytest
import torch
from conftest import picture

from fastnst.checkpoint import load_net
from fastnst.commands.evaluate import main
from fastnst.commands.train import main as train
from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.evaluation.figures import (
    ARTEFACTS,
    border,
    checkerboard,
    flicker,
    relative_content,
    relative_style,
    spots,
    worth,
)
from fastnst.evaluation.measurements import trained_objective
from fastnst.images import fit, load_rgb, to_tensor
from fastnst.losses import recipes
from fastnst.losses.vgg import LossNetwork


@pytest.fixture(scope="module")
def samples():
    return [to_tensor(fit(load_rgb(path), 256)).unsqueeze(0) for path in sample_photographs()[1]]


def test_relative_measures_at_their_ends(samples):
    network, photograph = LossNetwork(), samples[0]
    flat = photograph.mean((2, 3), keepdim=True).expand_as(photograph)
    assert relative_content(network, photograph, photograph) == 0
    assert relative_content(network, flat, photograph) == pytest.approx(1)
    assert relative_style(network, photograph, photograph) == 0
    assert relative_style(network, samples[1], photograph) > 0.05


def test_relative_measures_against_numpy(samples):
    network, (y, x) = LossNetwork(), (to_tensor(picture(i, 24, 16)).unsqueeze(0) for i in (0, 1))
    flat = x.mean((2, 3), keepdim=True).expand_as(x)
    fy, fx, fm = (network(p, ["relu3_3"])["relu3_3"].double().numpy() for p in (y, x, flat))
    assert relative_content(network, y, x) == pytest.approx(((fy - fx) ** 2).sum() / ((fm - fx) ** 2).sum(), rel=1e-4)
    expected = []
    for layer in ("relu1_2", "relu2_2", "relu3_3", "relu4_3"):
        grams = []
        for p in (y, x):
            f = network(p, [layer])[layer][0].flatten(1).double().numpy()
            grams.append(f @ f.T / f.size)
        expected.append(((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum())
    assert relative_style(network, y, x) == pytest.approx(np.mean(expected), rel=1e-4)


def test_worth():
    assert worth([5, 4, 3, 2], 4.5) == 1
    assert worth([5, 4, 3, 2], 2) == 3
    assert worth([5, 4, 3, 2], 1) is None
    assert worth([5, 4], 6) == 0


def exceeds(name: str, spoiled: torch.Tensor, sound: torch.Tensor) -> bool:
    figure, threshold = ARTEFACTS[name]
    return figure(spoiled) > figure(sound) + threshold


@pytest.mark.parametrize("period", [2, 4])
def test_checkerboard(samples, period):
    for photograph in samples:
        height, width = photograph.shape[-2:]
        pattern = (torch.arange(height)[:, None] + torch.arange(width)) % period < period // 2
        assert exceeds("checkerboard", photograph + 0.03 * (pattern.float() - 0.5), photograph)
        grain = 0.03 * torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(0))
        assert not exceeds("checkerboard", photograph + grain, photograph)
        stripes = torch.sin(2 * torch.pi * torch.arange(width) / 7)  # strokes of another period
        assert not exceeds("checkerboard", photograph + 0.1 * stripes, photograph)


def test_checkerboard_of_columns_alone(samples):
    stripes = 0.03 * (torch.arange(samples[0].shape[-1]) % 4 < 2).float()
    assert exceeds("checkerboard", samples[0] + stripes, samples[0])
    assert np.isfinite(checkerboard(torch.zeros(1, 3, 64, 64)))


def test_border(samples):
    for photograph in samples:
        dark, gray = photograph.clone(), photograph.clone()
        rim = torch.ones_like(photograph, dtype=torch.bool)
        rim[..., 16:-16, 16:-16] = False
        dark[rim] *= 0.3
        gray[rim] = 0.5 + 0.1 * (gray[rim] - 0.5)
        assert max(border(gray), border(dark)) > border(photograph) + 0.25
        assert not exceeds("border", 1 - photograph, photograph)
        assert not exceeds("border", photograph * 0.5 + 0.2, photograph)
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert border(noise) < 0.05
    noise[..., :16] *= 0.3
    assert border(noise) > 0.25


def test_spots(samples):
    for photograph in samples:
        calm = torch.nn.functional.avg_pool2d(photograph, 9, 1, 4)
        assert not exceeds("spots", calm, photograph)
        spotted = calm.clone()
        for y, x in ((40, 50), (60, 120), (100, 180), (120, 30)):
            spotted[0, :, y : y + 7, x : x + 7] = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
        assert exceeds("spots", spotted, photograph)
        wide = calm.clone()
        wide[0, :, :, 100:150] = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)  # a broad stroke is no spot
        assert not exceeds("spots", wide, photograph)
    single = torch.full((1, 3, 100, 100), 0.5)
    single[..., 50:55, 50:55] = 0
    assert spots(single) == pytest.approx(100)


def test_flicker(samples):
    photograph = samples[0]
    noise = flicker(lambda picture: picture, photograph)
    assert noise == pytest.approx(2 * 0.01 / np.pi**0.5, rel=0.05)
    assert flicker(lambda picture: picture, photograph, noise=0.0) == 0

    def screen(picture):  # a pattern that stays on the screen while the picture moves
        return picture + 0.1 * torch.sin(torch.arange(picture.shape[-1]))

    assert flicker(screen, photograph, noise=0.0) > 0.05


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


def test_the_objective_is_the_checkpoints_own(command, small_training, tmp_path):
    assert command(train, *small_training, "loss._target_=fastnst.losses.recipes.Isotropic", "loss.tv_weight=0.7")[0] == 0
    objective = trained_objective(
        load_net(tmp_path / "checkpoints/small.safetensors")[1], tmp_path / "painting.png", torch.device("cpu")
    )
    assert type(objective) is recipes.Isotropic and objective.weights["tv"] == 0.7
    for info in ({}, {"objective": {"_target_": "os.system"}, "style": {"name": "small", "size": 48}}):
        with pytest.raises(UserError, match="does not say what objective"):
            trained_objective(info, tmp_path / "painting.png", torch.device("cpu"))


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
