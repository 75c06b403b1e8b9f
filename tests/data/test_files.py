"""Photographs are found in folders and zips, and shared out between training and validation."""

import os
import shutil
import struct
import tracemalloc
import zipfile

import pytest
from conftest import picture, zipped

from fastnst.data import files
from fastnst.data.datamodule import PhotoData
from fastnst.data.files import Zipped, find_photographs, first_readable, sample_photographs, split
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


def test_each_real_folder_is_visited_once_and_regular_files_alone_are_taken(photographs, tmp_path):
    (photographs / "deep").mkdir()
    (photographs / "deep/x.jpg").write_bytes((photographs / "00.jpg").read_bytes())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/y.png").touch()
    for link, target in (("l1", "."), ("l2", "."), ("deep/up", ".."), ("a_deep", "deep"), ("other", "../elsewhere"),
                         ("gone.jpg", "nowhere"), ("zero.jpg", "/dev/zero"), ("link.jpg", "00.jpg")):  # fmt: skip
        (photographs / link).symlink_to(target)
    os.mkfifo(photographs / "pipe.jpg")
    names = [path.relative_to(photographs).as_posix() for path in find_photographs(photographs)]
    assert names == [*(f"{i:02}.jpg" for i in range(12)), "deep/x.jpg", "link.jpg", "other/y.png"]


def test_held_out_photographs_are_never_trained_on(photographs):
    paths = find_photographs(photographs)
    train, val = split(paths, 3, None)
    assert not set(train) & set(val)
    assert sorted([*train, *val]) == paths
    assert split(paths, 3, None) == (train, val)
    with pytest.raises(UserError, match="hold out"):
        split(paths[:1], 3, None)
    (photographs / "val").mkdir()
    for name in ("00.jpg", "01.jpg"):
        shutil.copy(photographs / name, photographs / "val" / f"copy of {name}")
    (photographs / "val" / "link.jpg").symlink_to(photographs / "02.jpg")
    train, val = split(find_photographs(photographs), 2, str(photographs / "val"))
    assert [path.name for path in val] == ["copy of 00.jpg", "copy of 01.jpg"]
    assert [path.name for path in train] == [f"{i:02}.jpg" for i in range(12) if i != 2]
    with pytest.raises(UserError, match="it has every photograph"):
        split(paths, 2, str(photographs))
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


def test_a_bomb_in_a_zip_is_given_up_early(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 100_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(30_000_000))
        archive.writestr("fine.png", bytes(100_000))
    whole = (tmp_path / "bomb.zip").read_bytes()
    lying = whole.replace(struct.pack("<I", 30_000_000), struct.pack("<I", 90_000))  # of the size it unpacks to
    assert lying != whole
    (tmp_path / "lying.zip").write_bytes(lying)
    assert len(Zipped(tmp_path / "bomb.zip", "fine.png").open().read()) == 100_000
    for name in ("bomb", "lying"):
        Zipped(tmp_path / f"{name}.zip", "fine.png").open()  # modules that are loaded meanwhile are not counted
        tracemalloc.start()
        with pytest.raises(OSError, match=f"{name}.zip/bomb.png"):
            Zipped(tmp_path / f"{name}.zip", "bomb.png").open()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


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
