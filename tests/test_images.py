"""Pictures of every kind, in and out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image

from fastnst.data.crops import crop
from fastnst.errors import UserError
from fastnst.images import UNREADABLE, best_device, decode, has_alpha, load_rgb, middle, to_image, to_rgb, to_tensor
from fastnst.memory import free_memory


def save_variants(folder: Path) -> dict[str, Path]:
    """The same picture in every mode a photograph comes in."""
    image = picture(5)
    gray = image.convert("L")
    sixteen = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.new("L", image.size, 255))
    variants = {}
    for name, variant, suffix in (
        ("rgb", image, "png"), ("gray", gray, "png"), ("cmyk", image.convert("CMYK"), "jpg"),
        ("palette", image.convert("P", palette=Image.Palette.ADAPTIVE), "png"), ("alpha", alpha, "png"),
        ("gray_alpha", gray.convert("LA"), "png"), ("sixteen", sixteen, "png"), ("bilevel", gray.convert("1"), "png"),
        ("webp", image, "webp"), ("progressive", image, "jpeg"),
    ):  # fmt: skip
        variants[name] = folder / f"{name}.{suffix}"
        variant.save(variants[name], **({"lossless": True} if suffix == "webp" else {"quality": 100}))
    return variants


def test_every_mode_becomes_the_same_picture(tmp_path):
    variants = save_variants(tmp_path)
    color = to_tensor(picture(5))
    gray = to_tensor(picture(5).convert("L").convert("RGB"))
    for name, path in variants.items():
        expected = gray if name in ("gray", "gray_alpha", "sixteen", "bilevel") else color
        got = to_tensor(load_rgb(path))
        assert got.shape == (3, 48, 64), name
        limit = {"palette": 0.05, "cmyk": 0.03, "progressive": 0.03, "bilevel": 0.6}.get(name, 0.005)
        assert (got - expected).abs().mean() < limit, name
        assert crop(path, 0.9, 0.5, 0.5, False, 24).shape == (3, 24, 24), name


def test_transparency_falls_on_white():
    image = picture(1).convert("RGBA")
    image.putalpha(0)
    assert to_rgb(image).getextrema() == ((255, 255),) * 3


def test_16_bit_gray_with_a_transparent_value_stays_gray(tmp_path):
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "sixteen.png", transparency=0)
    with Image.open(tmp_path / "sixteen.png") as image:
        assert image.has_transparency_data and not has_alpha(image)
        found = np.asarray(to_rgb(image))[..., 0]
    assert np.abs(found - values / 257).max() <= 1


def test_exif_orientation(tmp_path):
    image = picture(2)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 270 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    assert load_rgb(tmp_path / "turned.png").tobytes() == upright.tobytes()
    upright.save(tmp_path / "upright.png")
    arguments = (0.7, 0.2, 0.9, True, 24)
    torch.testing.assert_close(crop(tmp_path / "turned.png", *arguments), crop(tmp_path / "upright.png", *arguments))


def test_decoding_gives_what_pillow_gives(tmp_path):
    image, exif = picture(8, 150, 101), Image.Exif()
    exif[0x0112] = 6
    for variant, options in (
        (image, {}), (image, {"progressive": True}), (image, {"subsampling": 0}), (image.convert("L"), {}),
        (image.convert("CMYK"), {}), (image, {"exif": exif}),
    ):  # fmt: skip
        variant.save(tmp_path / "a.jpg", **options)
        data = (tmp_path / "a.jpg").read_bytes()
        expected = np.asarray(load_rgb(tmp_path / "a.jpg")).astype(int)
        assert np.abs(decode(data, 101) - expected).max() <= 1
        half = decode(data, 50)
        assert min(half.shape[:2]) == 51 and half.shape[2] == 3
        with pytest.raises(UNREADABLE):
            decode(data[: len(data) // 2], 101)
        # Bytes that do not belong there are no reason to lose a photograph, as long as Pillow reads it.
        assert np.abs(decode(data + b"more", 101) - expected).max() <= 1


def test_image_and_tensor_are_inverse():
    assert to_image(to_tensor(picture(7))).tobytes() == picture(7).tobytes()


def test_a_painting_is_never_enlarged_to_a_huge_one(tmp_path):
    picture(0, 3000, 4).save(tmp_path / "long.png")
    with pytest.raises(UserError, match="long.png: 3000 x 4 px is too long"):
        load_rgb(tmp_path / "long.png", 256)
    picture(0, 80, 10).save(tmp_path / "wide.png")
    with pytest.raises(UserError, match="wide.png: 80 x 10 px are too many at a short side of 2048 px"):
        load_rgb(tmp_path / "wide.png", 2048)
    assert load_rgb(tmp_path / "wide.png", 1000).size == (8000, 1000)
    assert load_rgb(tmp_path / "long.png").size == (3000, 4)  # as a photograph it keeps its size
    picture(0, 5, 80).save(tmp_path / "scroll.png")
    assert load_rgb(tmp_path / "scroll.png", 10).size == (10, 160)
    assert middle(picture(0, 100, 5)).tobytes() == picture(0, 100, 5).crop((10, 0, 90, 5)).tobytes()
    assert middle(picture(0, 80, 5)).tobytes() == picture(0, 80, 5).tobytes()


def test_the_accelerator_is_whichever_torch_finds(monkeypatch):
    for found in (torch.device("cuda"), torch.device("mps"), torch.device("xpu"), None):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available, found=found: found)
        assert best_device() == (found or torch.device("cpu"))
    assert free_memory(torch.device("mps")) > 0  # which is the machine's own
