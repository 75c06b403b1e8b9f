"""Very many pictures: what is found and read, what is done already, and a worker of Ray's that is killed."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pytest
from conftest import ROOT, picture
from PIL import Image

import fastnst
from fastnst.checkpoint import load_style
from fastnst.commands import infer_many
from fastnst.commands.entry import infer
from fastnst.errors import UserError
from fastnst.images import SUFFIXES
from fastnst.inference.cluster import Restyle, check_reached, find_sources, finished, note, plan, read
from fastnst.inference.stylizer import DEFAULTS


def jpeg(seed: int, *size: int) -> bytes:
    data = io.BytesIO()
    picture(seed, *size).save(data, "JPEG")
    return data.getvalue()


def write_sources(folder: Path, count: int, *size: int) -> None:
    """`count` pictures in a folder, and two in a zip and in a tar file each; one in each that is none."""
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:02}.jpg").write_bytes(jpeg(i, *size))
    (folder / "bad.png").write_bytes(b"no picture")
    members = {
        "top/a.jpg": jpeg(50, *size),
        "top/b.JPG": jpeg(51, *size),
        "../out.jpg": jpeg(1),
        "c.jpg": b"none",
        "d.txt": b"",
    }
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with tarfile.open(folder / "000001.tar", "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def rows_of(tasks: list[dict]) -> dict[str, dict]:
    rows = [row for task in tasks for row in read({"task": json.dumps(task)})]
    assert len({row["result"] for row in rows}) == len(rows)
    return {row["result"]: row for row in rows}


def test_what_is_found_and_read(tmp_path):
    write_sources(tmp_path / "in", 5)
    for img in (f"{tmp_path}/in/*", f"file://{tmp_path}/in/*"):
        tasks, count, skipped = plan(
            find_sources(img, SUFFIXES), "s", SUFFIXES, {"03_s.jpg", "more/top/a_s.jpg", "000001/top/b_s.JPG"}
        )
        assert (count, skipped) == (None, 3)
        rows = rows_of(tasks)
        loose = {f"0{i}_s.jpg" for i in (0, 1, 2, 4)} | {"bad_s.png"}
        assert {*rows} == loose | {"more/top/b_s.JPG", "more/c_s.jpg", "000001/top/a_s.jpg", "000001/c_s.jpg"}
        assert rows["more/top/b_s.JPG"]["data"] == jpeg(51) and rows["000001/top/a_s.jpg"]["data"] == jpeg(50)
        assert not any(row["error"] for row in rows.values())
    assert len(find_sources(str(tmp_path / "in"), SUFFIXES)) == 6  # in a folder, no archives
    assert find_sources(f"{tmp_path}/in/{{000000..000002}}.tar", SUFFIXES) == [(f"{tmp_path}/in/000001.tar", "000001.tar")]
    ((_, name),) = find_sources(f"{tmp_path}/in/more.zip", SUFFIXES)
    assert name == "more.zip"
    for img in ("none", "none*", f"{tmp_path}/none.tar", "what://x"):
        with pytest.raises(UserError):
            find_sources(img, SUFFIXES)


def test_a_tar_file_that_breaks_off(tmp_path):
    write_sources(tmp_path / "in", 0)
    whole = (tmp_path / "in/000001.tar").read_bytes()
    for damaged in (whole[:1500], whole[:512] + b"x" * 5000):
        (tmp_path / "in/000001.tar").write_bytes(damaged)
        tasks, *_ = plan([(f"{tmp_path}/in/000001.tar", "000001.tar")], "s", SUFFIXES, set())
        rows = [row for task in tasks for row in read({"task": json.dumps(task)})]
        assert rows[-1]["error"] in ("unexpected end of data", "damaged") and not rows[-1]["data"]


def test_results_are_written_at_any_address(checkpoint):
    restyle = Restyle([load_style(checkpoint, None)], None, None, DEFAULTS, "memory://styled")
    row = restyle({"source": "x", "result": "deep/a_s.png", "data": jpeg(3), "error": ""})
    assert row == {"source": "x", "target": "memory:///styled/deep/a_s.png", "error": ""}
    with fsspec.open(row["target"]) as file:
        expected = fastnst.load(checkpoint)(Image.open(io.BytesIO(jpeg(3))))
        assert np.abs(np.asarray(Image.open(file)).astype(int) - np.asarray(expected)).max() <= 1
    for data, error in ((b"no picture", "not a picture"), (jpeg(3)[:-300], "truncated"), (jpeg(3, 9, 9), "too small")):
        assert error in restyle({"source": "x", "result": "b_s.png", "data": data, "error": ""})["error"]
    assert "lost" in restyle({"source": "x", "result": "", "data": b"", "error": "lost"})["error"]
    note("memory://styled", "s", {"size": None})
    assert finished("memory://styled", "s", {"size": None}) == {"deep/a_s.png"}


def test_another_commands_results_are_not_taken_for_its_own(tmp_path):
    out, options = str(tmp_path / "out"), {"size": 512} | asdict(DEFAULTS)
    assert finished(out, "s", options) == set() and not (tmp_path / "out").exists()
    note(out, "s", options)
    (tmp_path / "out/a_s.jpg").write_bytes(b"done")
    (tmp_path / "out/a_t.jpg").write_bytes(b"of another style")
    assert finished(out, "s", options) == {"a_s.jpg"}
    with pytest.raises(UserError, match="results of another size, strength"):
        finished(out, "s", options | {"size": 256, "strength": 0.5})
    with pytest.raises(UserError, match="a_t.jpg, which is another command's"):
        finished(out, "t", options)
    note(out, "of_t", options)
    (tmp_path / "out/a_t.jpg").rename(tmp_path / "out/a_of_t.jpg")
    assert finished(out, "t", options) == set() and finished(out, "of_t", options) == {"a_of_t.jpg"}


def test_a_cluster_that_is_not_there_is_told_at_once():
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"):
        with pytest.raises(UserError, match=f"ray_address={address}: nobody answers"):
            check_reached(address)


def test_bad_input_gets_one_line(command, checkpoint, photographs, monkeypatch, tmp_path):
    given = (f"ckpt={checkpoint}", f"img={photographs}")
    monkeypatch.setitem(sys.modules, "ray", None)
    status, _, err = command(infer, *given, "engine=ray")
    assert status == 2 and err == "fastnst: engine=ray needs more packages: pip install 'fastnst[cluster]'\n"
    monkeypatch.setattr(infer_many, "installed", lambda: None)
    for arguments, message in (
        (["engine=dask"], "engine=dask: give ray or null"),
        (["engine=ray", "out=x.png"], "writes to a folder"),
        (["engine=ray", "img=clip.mp4"], "takes no films"),
        (["engine=ray", "img=none"], "no such picture"),
        (["engine=ray", "ray_address=127.0.0.1:1"], "ray_address=127.0.0.1:1: nobody answers there"),
        (["engine=ray", "workers=0"], "workers=0: give a whole number"),
    ):
        status, _, err = command(infer, *given, *arguments)
        assert status == 2 and message in err and len(err.splitlines()) == 1
        assert not (tmp_path / "outputs").exists()


@pytest.mark.timeout(600)
def test_a_killed_workers_pictures_are_there_once_and_whole(checkpoint, tmp_path):
    """A local Ray of two workers, one of which is killed in mid-run."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'fastnst[cluster]'")
    write_sources(tmp_path / "in", 20, 480, 360)
    script = [
        sys.executable,
        ROOT / "scripts/infer.py",
        f"ckpt={checkpoint}",
        "img=in/*",
        "out=out",
        "engine=ray",
        "workers=2",
    ]
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(script, **options)
    try:
        while len(list(tmp_path.glob("out/**/*.jpg"))) < 3:
            assert run.poll() is None, run.communicate()
            time.sleep(0.05)
        actors = [p for p in psutil.Process(run.pid).children(recursive=True) if "Restyle" in " ".join(p.cmdline())]
        assert len(actors) == 2
        actors[0].kill()
        out, err = run.communicate(timeout=250)
    finally:
        run.kill()
    bad = [line for line in err.splitlines() if "cannot be restyled" in line]
    assert run.returncode == 2 and len(bad) == 3 and "3 pictures could not be restyled" in err, err
    results = sorted(path for path in (tmp_path / "out").rglob("*") if path.suffix in (".jpg", ".JPG"))
    assert len(results) == 24
    assert sorted(out.splitlines()) == sorted(map(str, results))
    style = fastnst.load(checkpoint)
    for result in results[::5] + results[-4:]:
        inside = str(result.relative_to(tmp_path / "out")).replace("_style", "")
        seed = {"a.jpg": 50, "b.JPG": 51}.get(Path(inside).name) or int(Path(inside).stem)
        expected = np.asarray(style(Image.open(io.BytesIO(jpeg(seed, 480, 360))))).astype(int)
        assert np.abs(np.asarray(Image.open(result)).astype(int) - expected).mean() < 3  # a JPEG
    for path in (results[0], *(tmp_path / "in").glob("bad.png")):
        os.remove(path)
    before = {path: path.stat().st_mtime_ns for path in results[1:]}
    again = subprocess.run(script, **options)
    assert "23 pictures are done already" in again.stdout and str(results[0]) in again.stdout
    assert all(path.stat().st_mtime_ns == before[path] for path in results[1:])
