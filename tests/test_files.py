"""Files are written whole or not at all."""

import pytest

from fastnst.errors import UserError
from fastnst.files import check_writable, whole, write_bytes


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
