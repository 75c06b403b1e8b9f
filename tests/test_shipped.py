"""Checkpoints that are shipped are found by name, wherever the user stands."""

import pytest
from conftest import ROOT, picture

import fastnst
from fastnst.commands.entry import infer
from fastnst.errors import UserError
from fastnst.shipped import checkpoint_file


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
