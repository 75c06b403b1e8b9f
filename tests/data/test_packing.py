"""Photographs are packed into shards, and packing goes on where it stopped."""

import json
import signal
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, picture, zipped
from forked import script
from PIL import Image

from fastnst.commands.entry import pack
from fastnst.data import packing
from fastnst.data.files import find_photographs
from fastnst.data.packing import pack_shard
from fastnst.data.shards import find_shards, read_shard


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def test_packed_photographs_are_the_files_themselves(command, photographs, tmp_path):
    (photographs / "bad.jpg").write_text("no picture")
    picture(50).save(photographs / "50.PNG")
    status, out, err = command(pack, f"root={photographs}", "out=shards", "count=5")
    assert status == 0, err
    assert out.splitlines() == [
        "13 photographs in 3 shards, 1 files skipped",
        "data=webdataset data.urls='shards/{000000..000002}.tar'",
    ]
    assert f"{photographs}/bad.jpg cannot be read as a photograph and is skipped" in err
    packed = [photograph for url in find_shards("shards/{000000..000002}.tar") for photograph in read_shard(url)]
    files = find_photographs(photographs)
    assert len(packed) == 13
    for photograph in packed:
        source = files[int(photograph.name.partition(".")[0])]
        assert photograph.data == source.read_bytes()
        assert Path(photograph.name).suffix == source.suffix.lower()
    assert [photograph.name for photograph in packed] != sorted(photograph.name for photograph in packed)

    (photographs / "bad.jpg").unlink()
    assert command(pack, f"root={photographs}", "out=again", "count=5")[0] == 0
    assert command(pack, f"root={zipped(photographs)}", "out=zip", "count=5")[0] == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "zip")


def test_large_photographs_are_reduced_when_packed(command, tmp_path):
    (tmp_path / "photographs").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(0, 200, 90).save(tmp_path / "photographs/large.png")
    picture(1, 200, 90).save(tmp_path / "photographs/turned.jpg", exif=turned)
    picture(2, 60, 40).save(tmp_path / "photographs/small.png")
    assert command(pack, "root=photographs", "out=shards", "size=45")[0] == 0
    packed = {photograph.name: Image.open(photograph.open()) for photograph in read_shard("shards/000000.tar")}
    large, small, upright = (packed[name] for name in ("000000000.jpg", "000000001.png", "000000002.jpg"))
    assert (large.size, small.size, upright.size) == ((100, 45), (60, 40), (45, 100))
    assert not upright.getexif()


def test_packing_again_keeps_what_is_there(command, photographs, tmp_path, monkeypatch):
    arguments = (f"root={photographs}", "out=shards", "count=3", "workers=1")
    assert command(pack, *arguments)[0] == 0
    whole = contents(tmp_path / "shards")
    (tmp_path / "shards/000001.tar").unlink()
    (tmp_path / "shards/000002.tar").write_bytes(whole["000002.tar"][:1000])
    (tmp_path / "shards/.000001.tar.abc").touch()
    kept = (tmp_path / "shards/000000.tar").stat().st_mtime_ns
    status, out, _ = command(pack, *arguments)
    assert status == 0 and out.startswith("12 photographs in 4 shards, 0 files skipped")
    assert contents(tmp_path / "shards") == whole
    assert (tmp_path / "shards/000000.tar").stat().st_mtime_ns == kept
    assert not list((tmp_path / "shards").glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_packing_goes_on_after_a_signal(command, fork, tmp_path, number):
    (tmp_path / "photographs").mkdir()
    Image.effect_noise((1600, 1200), 90).save(tmp_path / "photographs/00.jpg")
    for i in range(1, 40):
        (tmp_path / f"photographs/{i:02}.jpg").hardlink_to(tmp_path / "photographs/00.jpg")
    arguments = ("root=photographs", "out=shards", "count=1", "size=200")
    process, shards = fork(script, ROOT / "scripts/pack.py", *arguments), tmp_path / "shards"
    while len(list(shards.glob("*.tar"))) < 3 and process.returncode is None:
        time.sleep(0.001)
    workers = psutil.Process(process.pid).children()
    process.send_signal(number)
    err = process.communicate()[1]
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1] == "fastnst: stopped; the same command goes on with the shards that are not done"
        assert "Traceback" not in err
    assert workers and not psutil.wait_procs(workers, timeout=60)[1]
    done = {path: path.stat().st_mtime_ns for path in shards.glob("*.tar")}
    assert 3 <= len(done) < 40
    status, out, err = command(pack, *arguments)
    assert status == 0, err
    assert out.startswith("40 photographs in 40 shards, 0 files skipped")
    assert len(list(shards.iterdir())) == 41
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())


def test_a_shard_is_written_whole_or_not_at_all(command, photographs, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    files = [(f"{i:09}", path) for i, path in enumerate(find_photographs(photographs))]
    with pytest.raises(OSError, match="No space"):
        pack_shard(tmp_path / "000000.tar", files, None)
    assert not list(tmp_path.glob("*.tar*")) and not list(tmp_path.glob(".*"))
    monkeypatch.setattr(packing, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    status, _, err = command(pack, f"root={photographs}", "out=shards")
    assert status == 2
    assert "fastnst: out=shards: cannot be written (No space left on device); the same command goes on" in err.splitlines()
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["pack.json"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["root=missing"], "missing: no such folder"),
        (["root=text.zip"], "neither a folder nor a whole zip"),
        (["root=unreadable"], "none of the files can be read"),
        (["out=other"], "out=other: holds tar files already"),
        (["count=4"], "out=shards: holds shards of count=3"),
        (["root=photographs.zip"], "out=shards: holds shards of root="),
        (["count=0"], "count=0"),
        (["size=8"], "size=8"),
        (["workers=0"], "workers=0"),
        (["out=text.zip"], "out=text.zip: cannot be written to"),
    ],
)
def test_bad_input_of_packing_gets_one_line(command, photographs, tmp_path, arguments, message):
    for name in ("unreadable", "other", "shards"):
        (tmp_path / name).mkdir()
    (tmp_path / "unreadable/a.jpg").write_text("no picture")
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "other/000000.tar").touch()
    zipped(photographs).rename(tmp_path / "photographs.zip")
    record = {"root": str(photographs), "photographs": 12, "names": "", "size": None, "count": 3}
    (tmp_path / "shards/pack.json").write_text(json.dumps(record))
    before = sorted(tmp_path.rglob("*"))
    status, out, err = command(pack, f"root={photographs}", "out=shards", "count=3", *arguments)
    assert status == 2 and out == ""
    assert message in err and len(err.splitlines()) == 1, err
    assert sorted(tmp_path.rglob("*")) == before
