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
from fastnst.commands.infer import main
from fastnst.commands.train import main as train
from fastnst.errors import UserError
from fastnst.images import load_rgb, to_image, to_tensor
from fastnst.inference import stylizer as inference
from fastnst.inference import tiling
from fastnst.models.transform_net import TransformNet


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
        expected = to_image(stylizer.nets[0](to_tensor(picture(0)).unsqueeze(0))[0])
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


def test_strength_goes_from_photograph_to_result(stylizer):
    photograph = picture(0)
    result = np.asarray(stylizer(photograph), int)
    assert np.array_equal(stylizer(photograph, strength=0.0), photograph)
    half = np.asarray(stylizer(photograph, strength=0.5), int)
    assert np.abs(half - (result + np.asarray(photograph, int)) / 2).max() <= 1


def test_preserve_color_keeps_chroma(stylizer):
    photograph = Image.fromarray(np.asarray(picture(0)) // 2 + 64)  # far from where mixing would clip
    kept, result = stylizer(photograph, preserve_color=True), stylizer(photograph)
    ours, theirs, styled = (np.asarray(p.convert("YCbCr"), int) for p in (kept, photograph, result))
    unclipped = ((np.asarray(kept) > 0) & (np.asarray(kept) < 255)).all(2)
    assert unclipped.mean() > 0.5
    assert np.abs(ours - theirs)[unclipped][:, 1:].max() <= 3
    assert np.abs(ours - styled)[unclipped][:, 0].max() <= 3


def test_style_scale_works_at_another_size(stylizer):
    photograph = picture(0, 64, 48)
    small = stylizer(photograph.resize((32, 24), Image.Resampling.LANCZOS))
    expected = small.resize((64, 48), Image.Resampling.LANCZOS)
    assert np.array_equal(stylizer(photograph, style_scale=2), expected)
    assert stylizer(photograph, style_scale=0.5).size == (64, 48)


def test_strips_and_auto(stylizer, monkeypatch):
    photograph = picture(0, 120, 90)
    whole = np.asarray(stylizer(photograph, tile=None), int)
    assert np.abs(np.asarray(stylizer(photograph, tile=16), int) - whole).max() <= 1
    asked = []
    monkeypatch.setattr(inference, "restyle_in_strips", lambda *a: asked.append(a[2]) or tiling.restyle_in_strips(*a))
    stylizer(photograph)
    assert asked == []
    monkeypatch.setattr(inference, "free_memory", lambda device: 10**6)
    assert np.abs(np.asarray(stylizer(photograph), int) - whole).max() <= 1 and asked == [16]


def test_several_checkpoints_are_mixed(command, checkpoint, tmp_path):
    torch.manual_seed(5)
    export(tmp_path / "other.safetensors", TransformNet(width=5), {"style": {"name": "other"}})
    photograph = picture(0)
    photograph.save(tmp_path / "photo.png")
    a, b = (np.asarray(fastnst.load(tmp_path / f"{n}.safetensors")(photograph), int) for n in ("style", "other"))
    mixed = fastnst.load(checkpoint, tmp_path / "other.safetensors", weights=[3, 1])(photograph)
    assert np.abs(np.asarray(mixed, int) - (0.75 * a + 0.25 * b)).max() <= 1
    arguments = ("ckpt=[style.safetensors,other.safetensors]", "weights=[0.75,0.25]", "img=photo.png")
    assert command(main, *arguments)[0] == 0
    with Image.open(tmp_path / "outputs/photo_style+other.png") as image:
        assert np.array_equal(image, mixed)


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


def test_a_picture_too_long_for_its_format(command, checkpoint, tmp_path):
    Image.new("RGB", (16400, 16)).save(tmp_path / "long.png")
    status, _, err = command(main, f"ckpt={checkpoint}", "img=long.png", "out=long.webp")
    assert status == 2 and "16400 x 16 px cannot be written as .webp" in err and not (tmp_path / "long.webp").exists()


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
        (["ckpt=null", "img=a.png"], "ckpt=None: give a path"),
        (["ckpt=style.safetensors", "img="], "img=: give a path"),
        (["ckpt=style.safetensors", "img=a.png", "out=null"], "out=None: give a path"),
        (["ckpt=style.safetensors", "img=**a"], "img=**a"),
        (["--cfg", "nothing"], "--cfg"),
        (["ckpt=[style.safetensors,missing.safetensors]", "img=a.png"], "no such checkpoint"),
        (["ckpt=[style.safetensors,style.safetensors]", "weights=[1]", "img=a.png"], "one for each"),
        (["ckpt=style.safetensors", "weights=[0]", "img=a.png"], "not all 0"),
        (["ckpt=style.safetensors", "img=a.png", "strength=2"], "strength=2: give a number from 0 to 1"),
        (["ckpt=style.safetensors", "img=a.png", "style_scale=0"], "style_scale=0: give a number from 0.1 to 10"),
        (["ckpt=style.safetensors", "img=a.png", "preserve_color=2"], "give true or false"),
        (["ckpt=style.safetensors", "img=a.png", "tile=3"], "tile=3: give auto, null or"),
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


def test_relatives_are_mixed_by_their_weights(command, small_training, tmp_path):
    """Nets trained on from one net, and that net itself; others are mixed by their results."""
    assert command(train, *small_training, "out=first.safetensors")[0] == 0
    for name in ("a", "b"):
        again = ("init=first.safetensors", f"seed={ord(name)}", "optimizer.lr=1e-2", f"out={name}.safetensors")
        assert command(train, *small_training, *again)[0] == 0
    photograph = picture(4)
    for pair in (("a", "b"), ("first", "a")):
        files = [tmp_path / f"{name}.safetensors" for name in pair]
        (net,) = fastnst.load(*files, weights=[3, 1]).nets
        states = [load_net(file)[0].state_dict() for file in files]
        for name, tensor in net.state_dict().items():
            torch.testing.assert_close(tensor, 0.75 * states[0][name] + 0.25 * states[1][name])
        assert np.asarray(fastnst.load(*files, weights=[1, 0])(photograph)).tolist() == np.asarray(
            fastnst.load(files[0])(photograph)).tolist()  # fmt: skip
    assert command(train, *small_training, "seed=9", "out=stranger.safetensors")[0] == 0
    assert len(fastnst.load(tmp_path / "a.safetensors", tmp_path / "stranger.safetensors").nets) == 2
