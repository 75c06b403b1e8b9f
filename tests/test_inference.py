"""What comes out of inference keeps what the photograph brought, and nothing a stranger hands over runs."""

import json
import pickle

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image, ImageCms
from safetensors.torch import load_file, save_file

import fastnst
from fastnst.checkpoint import FORMAT, export, load_net
from fastnst.errors import UserError
from fastnst.images import load_rgb, to_image, to_tensor
from fastnst.infer import main
from fastnst.transform_net import TransformNet


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    export(tmp_path / "style.safetensors", TransformNet(width=4), {"style": {"name": "style"}, "steps": 0})
    return tmp_path / "style.safetensors"


@pytest.fixture
def stylizer(checkpoint):
    return fastnst.load(checkpoint)


def test_a_call_is_one_pass_of_the_net(stylizer):
    result = stylizer(picture(0))
    with torch.no_grad():
        expected = to_image(stylizer.net(to_tensor(picture(0)).unsqueeze(0))[0])
    assert (result.mode, result.size) == ("RGB", (64, 48))
    assert np.abs(np.asarray(result, int) - np.asarray(expected, int)).max() <= 1


def test_size_limits_the_long_side(stylizer):
    assert stylizer(picture(0), size=32).size == (32, 24)
    assert stylizer(picture(0), size=500).size == (64, 48)


def test_alpha_survives(stylizer):
    image = picture(0).convert("RGBA")
    alpha = picture(1).convert("L")
    image.putalpha(alpha)
    result = stylizer(image)
    assert result.mode == "RGBA"
    assert result.getchannel("A").tobytes() == alpha.tobytes()
    assert stylizer(image, size=32).size == (32, 24)


def test_every_mode(stylizer):
    sixteen = Image.fromarray(np.asarray(picture(0).convert("L")).astype(np.uint16) * 257)
    for image in (*(picture(0).convert(m) for m in ("L", "1", "P", "CMYK", "LA", "RGBA", "YCbCr", "HSV")), sixteen):
        assert stylizer(image).size == stylizer(image, size=64).size == (64, 48)
        assert stylizer(image, size=32).size == (32, 24)


def test_orientation_profile_and_exif_survive(command, checkpoint, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for suffix in ("jpg", "png", "webp"):
        picture(0).save(tmp_path / f"turned.{suffix}", exif=exif, icc_profile=profile)
        assert command(main, f"ckpt={checkpoint}", f"img=turned.{suffix}", f"out=out.{suffix}")[0] == 0
        with Image.open(tmp_path / f"out.{suffix}") as result:
            assert result.size == (48, 64)
            assert result.info["icc_profile"] == profile
            assert result.getexif().get(0x0112, 1) == 1
            assert result.getexif()[0x010F] == "Maker"


def test_folders_globs_and_names(command, checkpoint, photographs, tmp_path):
    (photographs / "deep").mkdir()
    (photographs / "00.jpg").rename(photographs / "deep" / "a (1), b=[2].jpg")
    status, out, _ = command(main, f"ckpt={checkpoint}", "img=photographs")
    assert status == 0 and len(out.splitlines()) == 12
    assert (tmp_path / "outputs" / "deep" / "a (1), b=[2]_style.jpg").is_file()
    status, out, _ = command(main, f"ckpt={checkpoint}", "img=photographs/0*.jpg", "out=some")
    assert status == 0 and len(list((tmp_path / "some").iterdir())) == 9
    status, out, _ = command(main, f"ckpt={checkpoint}", "img=photographs/deep/a (1), b=[2].jpg", "out=it's.png")
    assert status == 0 and out.strip() == "it's.png" and load_rgb(tmp_path / "it's.png").size == (64, 48)


def test_one_bad_file_among_many_is_reported_and_skipped(command, checkpoint, photographs, tmp_path):
    (photographs / "05.jpg").write_text("no picture")
    picture(0, 64, 8).save(photographs / "06.jpg")
    status, out, err = command(main, f"ckpt={checkpoint}", "img=photographs")
    assert status == 2
    assert len(out.splitlines()) == 10 == len(list((tmp_path / "outputs").iterdir()))
    assert "05.jpg: cannot be restyled" in err and "06.jpg" in err and "16 px" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["img=a.png"], "ckpt is missing; give ckpt="),
        (["ckpt=style.safetensors"], "img is missing; give img="),
        (["ckpt=style.safetensors", "img=missing.png"], "no such picture or folder"),
        (["ckpt=style.safetensors", "img=*.tiff"], "nothing matches"),
        (["ckpt=style.safetensors", "img=empty"], "no pictures"),
        (["ckpt=missing.safetensors", "img=a.png"], "no such checkpoint"),
        (["ckpt=a.png", "img=a.png"], "not a fastnst checkpoint"),
        (["ckpt=other.safetensors", "img=a.png"], "not a fastnst checkpoint"),
        (["ckpt=truncated.safetensors", "img=a.png"], "not a fastnst checkpoint, or a damaged one"),
        (["ckpt=text.ckpt", "img=a.png"], "not a checkpoint of fastnst's training"),
        (["ckpt=style.safetensors", "img=a.png", "size=7"], "a whole number from 16"),
        (["ckpt=style.safetensors", "img=a.png", "size=big"], "a whole number from 16"),
        (["ckpt=style.safetensors", "img=a.png", "out=a.png"], "the photograph itself"),
        (["ckpt=style.safetensors", "img=*.png", "out=b.jpg"], "need a folder"),
        (["ckpt=style.safetensors", "img=a.png", "out=text.ckpt/b"], "cannot be written"),
        (["ckpt=style.safetensors", "img=a.png", "sise=3"], "sise"),
    ],
)
def test_bad_input_gets_one_line(command, checkpoint, tmp_path, arguments, message):
    for name in ("a.png", "b.png"):
        picture(0).save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "truncated.safetensors").write_bytes(checkpoint.read_bytes()[:-100])
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = command(main, *arguments)
    assert status == 2
    assert message in err and len(err.splitlines()) == 1 and out == ""
    assert sorted(tmp_path.rglob("*")) == before


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
    ],
    ids=["missing", "shape", "nan", "json", "huge", "unknown", "list", "no info"],
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
