"""Photographs are found in folders and zips, and shared out between training and validation."""

import zipfile

import pytest
from conftest import picture, zipped

from fastnst.data.datamodule import PhotoData
from fastnst.data.files import find_photographs, first_readable, sample_photographs, split
from fastnst.errors import UserError


def test_folders_without_photographs(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        PhotoData(str(tmp_path / "missing"))
    with pytest.raises(UserError, match="no photographs"):
        PhotoData(str(tmp_path))
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("not a picture")
    with pytest.raises(UserError, match="none of the files"):
        PhotoData(str(tmp_path))


def test_any_tree_is_searched(tmp_path):
    for name in ("a.JPG", "deep/er/b.jpeg", "deep/c.webp", "notes.txt", ".hidden.jpg", ".git/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [p.name for p in find_photographs(tmp_path)] == ["a.JPG", "c.webp", "b.jpeg"]


def test_held_out_photographs_are_never_trained_on(photographs):
    paths = find_photographs(photographs)
    train, val = split(paths, 3, None)
    assert not set(train) & set(val)
    assert sorted([*train, *val]) == paths
    assert split(paths, 3, None) == (train, val)
    with pytest.raises(UserError, match="hold out"):
        split(paths[:1], 3, None)
    train, val = sample_photographs()
    assert not set(train) & set(val)


def test_zips_that_cannot_be_used(photographs, tmp_path):
    archive = zipped(photographs)
    whole = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_text("not a zip")
    encrypted, at = bytearray(whole), -1
    while (at := encrypted.find(b"PK\1\2", at + 1)) >= 0:
        encrypted[at + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(encrypted)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as none:
        none.writestr("notes.txt", "no pictures")
    for name, message in (
        ("cut", "neither a folder nor a whole zip"), ("text", "neither a folder nor a whole zip"),
        ("secret", "encrypted"), ("none", "no photographs"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message) as error:
            PhotoData(str(tmp_path / f"{name}.zip"))
        assert f"{name}.zip" in str(error.value) and "\n" not in str(error.value)


def test_samples_are_there():
    module = PhotoData(size=32)
    assert len(module.train_paths) == 12
    assert len(list(module.val_dataloader())) == 2


def test_the_first_that_can_be_read(tmp_path):
    for i in (1, 3, 4):
        picture(i).save(tmp_path / f"{i}.jpg")
    (tmp_path / "2.jpg").write_text("no picture")
    assert [path.name for path in first_readable(tmp_path, 2)] == ["1.jpg", "3.jpg"]
    assert [path.name for path in first_readable(tmp_path)] == ["1.jpg", "3.jpg", "4.jpg"]
    for i in (1, 3, 4):
        (tmp_path / f"{i}.jpg").unlink()
    with pytest.raises(UserError, match="none of the files can be read as a picture"):
        first_readable(tmp_path)
