"""The scripts that stand alone: a zip of paintings, the sheets of the docs."""

import io
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
from conftest import ROOT
from forked import script
from PIL import Image


@pytest.fixture
def run(fork):
    def run(name, *arguments) -> tuple[int, str, str]:
        process = fork(script, ROOT / "scripts" / name, *arguments)
        out, err = process.communicate()
        return process.returncode, out, err

    return run


def test_gather_paintings(run, tmp_path):
    for number, name in enumerate(("a/one.jpg", "b/one.png", "b/kept_aside.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (900, 600), (80 * number, 0, 0)).save(tmp_path / name)
    (tmp_path / "held_out.txt").write_text("b/kept_aside.jpg\n")
    (tmp_path / "alone.png").write_bytes((tmp_path / "b/one.png").read_bytes())
    sources = (f"{tmp_path}/a=1", f"{tmp_path}/b=2", f"{tmp_path}/alone.png=3")
    status, out, err = run("gather_paintings.py", tmp_path / "all.zip", *sources, f"except={tmp_path}/held_out.txt")
    assert status == 0 and "6 paintings" in out, err
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = archive.namelist()
        assert len(set(names)) == 6 and not any("kept_aside" in name for name in names)
        sizes = {Image.open(archive.open(name)).size for name in names}
    assert sizes == {(600, 400)}
    status, _, err = run("gather_paintings.py", tmp_path / "none.zip", f"{tmp_path}/missing=1")
    assert status == 2 and len(err.splitlines()) == 1 and not (tmp_path / "none.zip").exists()


def resource_file(files: dict[str, tuple[bytes, bool]]) -> bytes:
    """What Qt's rcc writes: files of one folder, each deflated or not."""
    tree, names, contents = struct.pack(">IHIIQ", 0, 2, 1, 1, 0), b"\0\0" + bytes(4), b""
    tree += struct.pack(">IHIIQ", len(names), 2, len(files), 2, 0)
    names += struct.pack(">HI", 5, 0) + "board".encode("utf-16-be")
    for name, (content, deflated) in files.items():
        content = struct.pack(">I", len(content)) + zlib.compress(content) if deflated else content
        tree += struct.pack(">IHHHIQ", len(names), int(deflated), 0, 0, len(contents), 0)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        contents += struct.pack(">I", len(content)) + content
    places = (3, 24, 24 + len(tree), 24 + len(tree) + len(contents), 0)
    return b"qres" + struct.pack(">5I", *places) + tree + contents + names


def test_gather_puzzles(run, tmp_path):
    colors, pieces = ((250, 0, 0), (0, 0, 250)), {}
    for number, color in enumerate(colors, 1):
        data = io.BytesIO()
        Image.new("RGB", (40, 60), color).save(data, "WEBP", lossless=True)
        pieces[f"Two_a{number}.webp"] = data.getvalue(), number == 2
    place = '"pixmapfile": "image/Two_a%d.webp", "x": "%s", "y": "0.5"'
    board = '"width": 200,\n "height": 100\n' + place % (1, "0.3") + place % (2, "0.5")
    (tmp_path / "p.rcc").write_bytes(resource_file(pieces | {"board1.qml": (board.encode(), True)}))
    status, out, err = run("gather_puzzles.py", tmp_path / "p.rcc", tmp_path / "out")
    assert status == 0 and "Two.png 80 60" in out, err
    picture = Image.open(tmp_path / "out" / "Two.png")
    assert (picture.getpixel((5, 30)), picture.getpixel((75, 30))) == colors
    (tmp_path / "none.rcc").write_bytes(b"nothing")
    status, _, err = run("gather_puzzles.py", tmp_path / "none.rcc", tmp_path / "none")
    assert status == 2 and len(err.splitlines()) == 1 and not (tmp_path / "none").exists()


def test_draw_gallery(run, tmp_path):
    painting = ROOT / "fastnst/assets/artworks/wave.jpg"
    wave, mosaic = (
        f"{ROOT}/checkpoints/wave.safetensors={painting}",
        f"{ROOT}/checkpoints/base.safetensors:mosaic={painting}",
    )
    status, _, err = run("draw_gallery.py", tmp_path / "sheet.jpg", wave, mosaic)
    assert status == 0, err
    sheet = np.asarray(Image.open(tmp_path / "sheet.jpg"), dtype=np.float32)
    assert sheet.shape == (3 * 332 - 8, 3 * 440 - 8, 3)
    wave, mosaic = sheet[332:656, 440:872], sheet[664:988, 440:872]
    assert sheet[:320, :424].min() > 240  # nothing stands beside the photographs
    assert abs(wave - sheet[:324, 440:872]).mean() > 10 and abs(wave - mosaic).mean() > 10


def test_a_gallery_of_a_folder_of_paintings(run, tmp_path):
    paintings = tmp_path / "paintings"
    paintings.mkdir()
    for name in ("starry", "wave", "mosaic"):
        shutil.copy(ROOT / f"fastnst/assets/artworks/{name}.jpg", paintings)
    options = ("columns=2", "width=64", "photographs=chelsea")
    status, _, err = run("draw_gallery.py", tmp_path / "sheet.png", f"arbitrary={paintings}", *options)
    assert status == 0, err
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"), dtype=np.float32)
    assert sheet.shape == (3 * 56 - 8, 4 * 72 - 8, 3)
    assert np.array_equal(sheet[:48, 72:136], sheet[:48, 216:280])  # the photograph, on top of each column
    mosaic, starry, wave = sheet[56:104, 72:136], sheet[112:160, 72:136], sheet[56:104, 216:280]
    assert sheet[112:, 144:].min() == 255  # three paintings: the last place stays empty
    assert abs(mosaic - starry).mean() > 5 and abs(starry - wave).mean() > 5
    status, _, err = run("draw_gallery.py", tmp_path / "none.png", f"arbitrary={paintings}", "photographs=chelsee")
    assert status == 2 and "chelsee: " in err and len(err.splitlines()) == 1 and not (tmp_path / "none.png").exists()


def test_draw_dials(run, tmp_path):
    status, _, err = run("draw_dials.py", tmp_path / "dials.png", ROOT / "fastnst/assets/artworks/starry.jpg")
    assert status == 0, err
    sheet = np.asarray(Image.open(tmp_path / "dials.png"), dtype=np.float32)
    assert sheet.shape == (3 * 318 - 8, 5 * 392 - 8, 3)
    small, large = (sheet[22:310, left : left + 384] for left in (392, 4 * 392))
    faint, full = (sheet[658:946, left : left + 384] for left in (392, 4 * 392))
    assert abs(small - large).mean() > 5 and abs(faint - full).mean() > 10
    assert sheet[340:628, :384].min() == 255  # the painting stands beside the first row alone


def test_draw_the_dials_of_a_checkpoint(run, tmp_path):
    status, _, err = run("draw_dials.py", tmp_path / "dials.png", "wave", "photograph=rocket", "brushwork=0,20")
    assert status == 0, err
    sheet = np.asarray(Image.open(tmp_path / "dials.png"), dtype=np.float32)
    assert sheet.shape == (318 - 8, 3 * 392 - 8, 3)
    photograph, without, brushed = (sheet[22:, left : left + 384] for left in (0, 392, 2 * 392))
    assert abs(photograph - without).mean() > 10 and abs(without - brushed).mean() > 3
    for wrong in (("photograph=rockets",), ("brushwork=much",), ("brush=6",), ("brushwork=21",)):
        status, _, err = run("draw_dials.py", tmp_path / "none.png", "wave", *wrong)
        assert status == 2 and len(err.splitlines()) == 1 and not (tmp_path / "none.png").exists(), err
