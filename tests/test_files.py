"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from fastnst.errors import UserError
from fastnst.files import check_file, check_writable, whole, write_bytes


def test_a_file_is_replaced_at_the_end_alone(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_bytes(path, b"old")
    with whole(path, ".xyz") as part:
        part.write_bytes(b"new")
        assert part.suffix == ".xyz" and part.parent == path.parent
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("part", [None, "file.part"])
def test_after_an_exception_nothing_is_left(tmp_path, part):
    path = tmp_path / "file.txt"
    write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), whole(path, part=part and tmp_path / part) as other:
        other.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="run_dir=.*cannot be written to"):
        check_writable(tmp_path / "file" / "folder", "run_dir")


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left on device: .*result.bin"), whole(tmp_path / "result.bin"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_told_before(tmp_path):
    check_file(tmp_path / "new" / "deep" / "net.safetensors")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    names = ("", "file/net.safetensors", "n" * 300)
    for path in (*(tmp_path / name for name in names), Path("/proc/none/net.safetensors")):
        with pytest.raises(UserError, match="^out="):
            check_file(path)


@pytest.mark.parametrize("letter", ["n", "\u00e9", "\U0001f30a"])
def test_a_long_name_can_be_written(tmp_path, letter):
    name = letter * (248 // len(letter.encode())) + ".safe"
    write_bytes(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]
