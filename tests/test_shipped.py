"""Checkpoints that are shipped are found by name, wherever the user stands."""

import pytest
import torch.nn.functional as F
from conftest import ROOT, picture
from PIL import Image

import fastnst
from fastnst.commands.entry import infer
from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.evaluation.figures import relative_content
from fastnst.images import fit, load_rgb, to_tensor
from fastnst.losses.vgg import LossNetwork
from fastnst.shipped import ARTWORKS, CHECKPOINTS, checkpoint_file, is_shipped


def test_a_name_is_a_shipped_checkpoint(command, tmp_path):
    picture(0).save(tmp_path / "photo.png")
    status, out, err = command(infer, "ckpt=wave", "img=photo.png")
    assert status == 0 and out.strip() == "outputs/photo_wave.png", err
    by_file = fastnst.load(ROOT / "checkpoints" / "wave.safetensors")(picture(0))
    assert fastnst.load("wave")(picture(0)).tobytes() == by_file.tobytes()


def test_a_file_of_that_name_wins(monkeypatch, checkpoint, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wave").mkdir()
    assert checkpoint_file("wave") == ROOT / "checkpoints" / "wave.safetensors"
    (tmp_path / "wave").rmdir()
    checkpoint.rename(tmp_path / "wave")
    assert fastnst.load("wave").info["style"]["name"] == "style"


@pytest.mark.parametrize("name", ["waves", "", "../checkpoints/wave", "checkpoints/wave", "wave.safetensors"])
def test_an_unknown_name_gets_the_names_there_are(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="arbitrary, base, .*, wave$") as error:
        fastnst.load(name)
    assert len(str(error.value).splitlines()) == 1


def fine(picture: Image.Image) -> float:
    """What is finer than 4 px."""
    y = to_tensor(picture)[None]
    return (y - F.interpolate(F.avg_pool2d(y, 4), y.shape[-2:], mode="bilinear")).std().item()


def test_the_dials_of_the_zero_shot_net_are_monotone():
    network, photograph = LossNetwork(), fit(load_rgb(sample_photographs()[1][0]), 128)
    target = to_tensor(photograph)[None]
    unseen = ARTWORKS.parent / "paintings" / "udnie.jpg"
    tried = {"wave": "weight", "starry": "weight, size", "mosaic": "weight", "inkwash": "size", "udnie": "size"}
    for name, dials in tried.items():
        style = fastnst.load("arbitrary", style=unseen if name == "udnie" else ARTWORKS / f"{name}.jpg")
        if "weight" in dials:
            results = [style(photograph, style_weight=weight) for weight in (0.34, 1.0, 3.0)]
            lost = [relative_content(network, to_tensor(result)[None], target) for result in results]
            assert lost == sorted(lost) and lost[2] > 1.1 * lost[0]
        if "size" in dials:
            detail = [fine(style(photograph, style_size=size)) for size in (256, 176, 96)]
            # Of starry what is fine falls by an eighth alone.
            assert detail == sorted(detail) and detail[2] > (1.1 if name == "starry" else 1.2) * detail[0]


def test_shipped_checkpoints_are_known_by_their_bytes():
    """`sha256sum *.safetensors > SHA256SUMS`, in checkpoints/, after a change."""
    assert all(map(is_shipped, CHECKPOINTS.glob("*.safetensors")))
    assert len((CHECKPOINTS / "SHA256SUMS").read_text().splitlines()) == len([*CHECKPOINTS.glob("*.safetensors")])
