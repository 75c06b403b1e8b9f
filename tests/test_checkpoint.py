"""Checkpoints: what is shipped, and files that are none."""

import json
import pickle

import numpy as np
import pytest
import torch
from conftest import ROOT, picture, random_arbitrary, random_multi
from PIL import Image
from safetensors.torch import load_file, save_file

import fastnst
from fastnst.checkpoint import FORMAT, export, load_net, load_style
from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.models.arbitrary import ArbitraryNet
from fastnst.models.conditional import MultiStyleNet
from fastnst.models.transform_net import TransformNet


def test_what_is_shipped_restyles(tmp_path):
    photograph = Image.open(sample_photographs()[1][0]).convert("RGB").resize((96, 64))
    results = []
    for file in sorted((ROOT / "checkpoints").glob("*.safetensors")):
        assert file.stat().st_size < 10e6
        net, _ = load_net(file)
        names = net.styles if isinstance(net, MultiStyleNet) else [None]
        if isinstance(net, ArbitraryNet):
            picture(1).save(tmp_path / "painting.png")
            names = [str(tmp_path / "painting.png"), str(ROOT / "fastnst/assets/artworks/mosaic.jpg")]
        results += [fastnst.load(file, style=name)(photograph) for name in names]
    pictures = [np.asarray(photograph, int), *(np.asarray(result, int) for result in results)]
    for i, one in enumerate(pictures):
        assert all(abs(one - other).mean() > 10 for other in pictures[:i])  # from the photograph and from each other


def test_a_checkpoint_of_one_style_refuses_a_name(tmp_path):
    export(tmp_path / "one.safetensors", TransformNet(width=4), {"style": {"name": "one"}})
    with pytest.raises(UserError, match="holds one style"):
        load_style(tmp_path / "one.safetensors", "wave")
    random_arbitrary(tmp_path)
    with pytest.raises(UserError, match="give shares"):
        load_style(tmp_path / "any.safetensors", {})


@pytest.mark.parametrize("kind", [bytes, np.ndarray, torch.Tensor, int, list])
def test_what_is_no_picture_is_a_type_error(tmp_path, stylizer, kind):
    random_arbitrary(tmp_path)
    array = np.asarray(picture(0))
    given = {bytes: b"x", np.ndarray: array, torch.Tensor: torch.from_numpy(array.copy()), int: 5, list: [1]}[kind]
    with pytest.raises(TypeError, match=f"style is a {kind.__name__}; give .* a PIL image"):
        fastnst.load(tmp_path / "any.safetensors", style=given)
    with pytest.raises(TypeError, match=f"give a PIL image, .* not a {kind.__name__}"):
        stylizer(given)
    with pytest.raises(TypeError, match=f"give a checkpoint's file, .* not a {kind.__name__}"):
        fastnst.load(given)


def test_a_painting_is_a_path_or_a_picture(tmp_path):
    random_arbitrary(tmp_path)
    picture(1, 80, 60).rotate(90, expand=True).save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 8  # a quarter turn
    picture(1, 80, 60).save(tmp_path / "turned.png", exif=exif)
    files = [str(tmp_path / "upright.png"), tmp_path / "upright.png", {tmp_path / "upright.png": 1.0}]
    files += [Image.open(tmp_path / "upright.png"), Image.open(tmp_path / "turned.png")]
    results = [fastnst.load(tmp_path / "any.safetensors", style=style)(picture(0)).tobytes() for style in files]
    assert len(set(results)) == 1
    other = fastnst.load(tmp_path / "any.safetensors", style=picture(2))
    assert other(picture(0)).tobytes() != results[0]
    for name, net in (("one", TransformNet(width=4)), ("many", random_multi())):
        export(tmp_path / f"{name}.safetensors", net, {})
        with pytest.raises(UserError, match="style=a picture: "):
            fastnst.load(tmp_path / f"{name}.safetensors", style=picture(2))


def test_pickles_do_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    for name in ("bomb.ckpt", "bomb.safetensors"):
        torch.save({"state_dict": Bomb()}, tmp_path / name)
        with pytest.raises(UserError):
            load_net(tmp_path / name)
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(UserError):
            load_net(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda weights, meta: weights.pop("layers.0.weight"),
        lambda weights, meta: weights.update({"layers.0.weight": torch.zeros(2, 2)}),
        lambda weights, meta: weights["layers.0.weight"].fill_(float("nan")),
        lambda weights, meta: meta.update(architecture="{"),
        lambda weights, meta: meta.update(architecture='{"width": 99999999}'),
        lambda weights, meta: meta.update(architecture='{"depth": 3}'),
        lambda weights, meta: meta.update(architecture="[1]"),
        lambda weights, meta: meta.pop("info"),
        lambda weights, meta: meta.update(info=100_000 * "[" + 100_000 * "]"),
        lambda weights, meta: weights["layers.0.weight"].fill_(3e38),
        lambda weights, meta: weights.update({"layers.0.weight": weights["layers.0.weight"].to(torch.int8)}),
        lambda weights, meta: weights.update({"layers.0.weight": weights["layers.0.weight"] > 0}),
        lambda weights, meta: meta.update(info="7"),
        lambda weights, meta: meta.update(info='{"style": "wave"}'),
        lambda weights, meta: meta.update(info='{"style": {"name": "x/../../y"}}'),
        lambda weights, meta: meta.update(info='{"style": {"name": "a+\\u001b[2J"}}'),
    ],
    ids=[
        "missing",
        "shape",
        "nan",
        "json",
        "huge",
        "unknown",
        "list",
        "no_info",
        "nested",
        "overflow",
        "int8",
        "bool",
        "number",
        "style",
        "slashes",
        "escape",
    ],
)
def test_spoiled_checkpoints_are_refused(checkpoint, tmp_path, change):
    weights = load_file(checkpoint)
    meta = {"format": FORMAT, "architecture": json.dumps(TransformNet(width=4).architecture), "info": "{}"}
    change(weights, meta)
    save_file(weights, tmp_path / "spoiled.safetensors", meta)
    with pytest.raises(UserError, match="spoiled"):
        load_net(tmp_path / "spoiled.safetensors")


def test_half_precision_files_load(checkpoint, tmp_path, stylizer):
    meta = {"format": FORMAT, "architecture": json.dumps(TransformNet(width=4).architecture), "info": "{}"}
    save_file({k: v.half() for k, v in load_file(checkpoint).items()}, tmp_path / "half.safetensors", meta)
    assert (
        np.abs(
            np.asarray(fastnst.load(tmp_path / "half.safetensors")(picture(0)), int) - np.asarray(stylizer(picture(0)), int)
        ).max()
        <= 1
    )


@pytest.mark.parametrize("name", ["x/../../y", "..", "a\\b", "two\nlines", "\x1b[31m", "n" * 300, " ", "\udc80"])
def test_names_that_no_file_can_have_are_refused(tmp_path, name):
    export(tmp_path / "many.safetensors", random_multi(["a", name]), {"style": {"name": "many"}})
    with pytest.raises(UserError, match="many.safetensors: .* cannot be the name of a style") as error:
        load_net(tmp_path / "many.safetensors")
    assert str(error.value).isprintable() and len(str(error.value)) < 300


def test_a_zero_shot_net_that_asks_for_huge_paintings_is_refused(tmp_path, paintings):
    net = random_arbitrary(tmp_path)
    network = {"loss_network": {"network": "vgg16", "weights": "oxford"}}
    for size in (10**6, 3, "48", None):
        export(tmp_path / "any.safetensors", net, {"style": {"size": size}, "objective": network})
        with pytest.raises(UserError, match="px; from 16 to 2048 are possible"):
            load_style(tmp_path / "any.safetensors", str(paintings / "0.png"))
