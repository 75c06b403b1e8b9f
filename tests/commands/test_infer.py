"""The command that restyles pictures."""

import numpy as np
import pytest
import torch
from conftest import picture, random_multi
from PIL import Image, ImageCms
from safetensors.torch import save_file

import fastnst
from fastnst.checkpoint import export
from fastnst.commands.entry import infer as main
from fastnst.images import load_rgb
from fastnst.inference.stylizer import Stylizer
from fastnst.models.transform_net import TransformNet


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


def test_masks_choose_styles(command, tmp_path):
    (tmp_path / "masks").mkdir()
    export(tmp_path / "multi.safetensors", random_multi(), {"style": {"name": "a+b"}})
    picture(0).save(tmp_path / "photo.png")
    for i, name in enumerate(("one.png", "the other.png")):
        picture(1 + i, 20, 30).convert("L").save(tmp_path / "masks" / name)
    status, out, err = command(
        main, "ckpt=multi.safetensors", "img=photo.png", "style={a: masks/one.png, b: 'masks/the other.png'}"
    )
    assert status == 0 and out == "outputs/photo_multi_a+b.png\n", err
    masks = {"a": tmp_path / "masks/one.png", "b": tmp_path / "masks/the other.png"}
    expected = fastnst.load(tmp_path / "multi.safetensors", style=masks)(picture(0))
    with Image.open(tmp_path / "outputs/photo_multi_a+b.png") as result:
        assert np.array_equal(result, expected)


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


def test_each_picture_has_a_result_of_its_own(command, checkpoint, tmp_path):
    for name in ("a.bmp", "a.gif", "a.png", "b.bmp"):
        picture(0).save(tmp_path / name)
    status, out, err = command(main, f"ckpt={checkpoint}", "img=*.[bgp][min][gpf]")
    assert status == 0, err
    names = {"a.bmp_style.png", "a.gif_style.png", "a.png_style.png", "b_style.png"}
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == names
    assert {line.removeprefix("outputs/") for line in out.splitlines()} == names
    (tmp_path / "a.bmp.png").write_bytes((tmp_path / "a.png").read_bytes())
    status, out, err = command(main, f"ckpt={checkpoint}", "img=a.*", "out=more")
    assert status == 2 and "a.bmp_style.png: 2 pictures would" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "more").exists()


def test_no_result_takes_a_photographs_place(command, checkpoint, tmp_path):
    (tmp_path / "p").mkdir()
    for name in ("beach.png", f"beach_{checkpoint.stem}.png"):
        picture(1).save(tmp_path / "p" / name)
    before = {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}
    status, _, err = command(main, f"ckpt={checkpoint}", "img=p", "out=p")
    assert status == 2 and "is one of the pictures to restyle" in err and len(err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()} == before


def test_large_pictures_are_limited_by_memory_alone(command, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's: more than twice as many are refused
    picture(0, 100, 80).save(tmp_path / "large.png")
    assert command(main, f"ckpt={checkpoint}", "img=large.png")[0] == 0
    for module in ("fastnst.commands.infer", "fastnst.inference.stylizer"):
        monkeypatch.setattr(f"{module}.free_memory", lambda device=None: 100_000)
    status, _, err = command(main, f"ckpt={checkpoint}", "img=large.png", "out=none")
    assert status == 2 and "large.png: cannot be restyled (100 x 80 px take 0.0 GB" in err and len(err.splitlines()) == 1
    assert command(main, f"ckpt={checkpoint}", "img=large.png", "size=50")[0] == 0
    status, _, err = command(main, f"ckpt={checkpoint}", "img=large.png", "size=50", "style_scale=0.2")
    assert status == 2 and "give a size=" in err


def test_a_folder_is_taken_under_any_name(command, checkpoint, tmp_path):
    picture(0).save(tmp_path / "photo.png")
    (tmp_path / "~nobody").mkdir()
    status, _, err = command(main, f"ckpt={checkpoint}", "img=photo.png", "out=~nobody")
    assert status == 0 and len(list((tmp_path / "~nobody").iterdir())) == 1, err


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_alone_is_restyled(command, checkpoint, tmp_path, kind):
    picture(0).save(tmp_path / f"still.{kind}", lossless=True)
    picture(0).save(tmp_path / f"moves.{kind}", save_all=True, append_images=[picture(1)], lossless=True)
    status, _, err = command(main, f"ckpt={checkpoint}", f"img=*.{kind}", "out=out.d")
    assert status == 0 and f"moves.{kind}: its first frame alone is restyled" in err and "still" not in err
    still, moves = (load_rgb(path).tobytes() for path in sorted((tmp_path / "out.d").iterdir(), reverse=True))
    assert still == moves


def test_exif_too_long_for_a_jpeg_is_left_out(command, checkpoint, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker" * 14000
    picture(0).save(tmp_path / "long.png", exif=exif)
    for suffix, kept in (("png", True), ("jpg", False)):
        assert command(main, f"ckpt={checkpoint}", "img=long.png", f"out=out.{suffix}")[0] == 0
        with Image.open(tmp_path / f"out.{suffix}") as result:
            assert (0x010F in result.getexif()) == kept


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


def test_a_folder_never_stops_for_one_file(command, checkpoint, photographs, monkeypatch):
    call = Stylizer.__call__

    def fails_at_the_third(self, image, *arguments, **controls):
        if image.filename.endswith("02.jpg"):
            raise MemoryError
        return call(self, image, *arguments, **controls)

    monkeypatch.setattr(Stylizer, "__call__", fails_at_the_third)
    status, out, err = command(main, f"ckpt={checkpoint}", "img=photographs")
    assert status == 2 and len(out.splitlines()) == 11
    assert "02.jpg: cannot be restyled (MemoryError)" in err and "Traceback" not in err


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
        (["ckpt=style.safetensors", "weights=5", "img=a.png"], "weights=5: give one for each"),
        (["ckpt=[]", "img=a.png"], "ckpt=[]: give a checkpoint"),
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
        (["ckpt=style.safetensors", "img=a.png", "style={}"], "style={}: give shares"),
        (["ckpt=multi.safetensors", "img=a.png", "style={a: text.ckpt, b: a.png}"], "text.ckpt: cannot be read"),
        (["ckpt=multi.safetensors", "img=a.png", "style={a: none.png, b: a.png}"], "none.png: no such picture file"),
        (["ckpt=multi.safetensors", "img=a.png", "style={a: 1, b: a.png}"], "a number for each, or a mask for each"),
        (["ckpt=multi.safetensors", "img=a.png", "style={c: a.png}"], "style=c: this checkpoint has a, b"),
        (["ckpt=style.safetensors", "img=a.png", "style={a: a.png}"], "holds one style; leave style out"),
    ],
)
def test_bad_input_gets_one_line(command, checkpoint, tmp_path, arguments, message):
    for name in ("a.png", "b.png"):
        picture(0).save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "truncated.safetensors").write_bytes(checkpoint.read_bytes()[:-100])
    export(tmp_path / "multi.safetensors", random_multi(), {"style": {"name": "a+b"}})
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = command(main, *arguments)
    assert status == 2
    assert message in err and len(err.splitlines()) == 1 and out == ""
    assert sorted(tmp_path.rglob("*")) == before
