"""The page: what it does without a browser, and all of it in a real one."""

import contextlib
import http.client
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, picture, random_arbitrary, random_multi
from omegaconf import OmegaConf
from PIL import Image
from safetensors import safe_open

from fastnst import checkpoint
from fastnst.checkpoint import export
from fastnst.commands.entry import serve as main
from fastnst.commands.entry import train
from fastnst.commands.serve import serve
from fastnst.errors import UserError
from fastnst.images import load_rgb
from fastnst.inference.stylizer import Controls, Stylizer
from fastnst.models.arbitrary import ArbitraryNet, Painted
from fastnst.models.transform_net import TransformNet
from fastnst.web.page import ENVELOPE, Studio, build_page, temporary_folder, title_of

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def checkpoints(tmp_path):
    for seed, name in enumerate(("ink", "sea")):
        torch.manual_seed(seed)
        export(tmp_path / "checkpoints" / f"{name}.safetensors", TransformNet(width=4), {"style": {"name": name}})
    return tmp_path / "checkpoints"


@pytest.fixture
def studio(checkpoints, tmp_path):
    (tmp_path / "temporary").mkdir()
    return Studio(checkpoints, tmp_path / "temporary", 1e6)


def test_restyle_gives_full_resolution(studio, tmp_path):
    picture(0, 1800, 400).save(tmp_path / "photo.png")
    (before, after), file = studio.restyle(str(tmp_path / "photo.png"), "sea", Controls())
    assert before.size == after.size == (1600, 356)
    assert load_rgb(file).size == (1800, 400) and file.endswith("photo_sea.png")
    assert np.array_equal(load_rgb(file), studio.stylizer("sea")(picture(0, 1800, 400)))
    assert tmp_path / "temporary" in Path(file).parents


def test_thumbnails_name_the_styles(studio):
    thumbnails = studio.thumbnails()
    assert [name for _, name in thumbnails] == ["Ink", "Sea"]
    assert thumbnails[0][0].size == (160, 120) and not np.array_equal(thumbnails[0][0], thumbnails[1][0])


def test_what_strangers_send_gets_a_message(studio, tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (1001, 1000)).save(tmp_path / "large.png")
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    Image.new("L", (900, 900)).save(tmp_path / "bomb.png")
    for name, message in (("text", "cannot be restyled"), ("large", "1 is the most"), ("small", "too small")):
        with pytest.raises(UserError, match=message):
            studio.restyle(str(tmp_path / f"{name}.png"), "sea", Controls())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="decompression bomb"):
        studio.restyle(str(tmp_path / "bomb.png"), "sea", Controls())
    with pytest.raises(UserError, match="Drop a photograph"):
        studio.restyle(None, "sea", Controls())
    with pytest.raises(UserError, match="Choose a style"):
        studio.restyle(str(tmp_path / "small.png"), "../sea", Controls())
    assert not list((tmp_path / "temporary").iterdir())


def test_ten_visitors_take_turns(studio, tmp_path, monkeypatch):
    picture(0).save(tmp_path / "photo.png")
    working, most = [], []

    class Slow:
        def __call__(self, image, controls):
            working.append(1)
            most.append(len(working))
            time.sleep(0.01)
            working.pop()
            return image

    monkeypatch.setattr(studio, "stylizer", lambda *style: Slow())
    visit = threading.Thread
    visitors = [visit(target=studio.restyle, args=(str(tmp_path / "photo.png"), "sea", Controls())) for _ in range(10)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert len(most) == 10 and max(most) == 1


def test_what_visitors_sent_goes_with_the_server(tmp_path, monkeypatch):
    serving = """
import os, signal, sys
from fastnst.web.page import clear_on_sigterm, temporary_folder
folder = temporary_folder()
open(os.path.join(folder.name, "photo.jpg"), "w").close()
clear_on_sigterm(folder)
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
"""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = temporary_folder()
    (tmp_path / "fastnst-page-of-somebody").mkdir()
    kept = {path.name for path in tmp_path.iterdir()}
    assert subprocess.run([sys.executable, "-c", serving, "SIGTERM"]).returncode == 128 + signal.SIGTERM
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert subprocess.run([sys.executable, "-c", serving, "SIGKILL"]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 3  # nothing can clear up then, but the next server does
    temporary_folder().cleanup()
    assert {path.name for path in tmp_path.iterdir()} == kept
    ours.cleanup()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["checkpoints=missing"], "missing: no such checkpoint"),
        (["checkpoints=empty"], "no .safetensors in it"),
        (["port=no"], "port=no"),
        (["max_megapixels=0"], "max_megapixels=0"),
        (["port=99999"], "port=99999: give a whole number from 1 to 65535"),
        (["host=nowhere.invalid"], "host=nowhere.invalid, port=None: cannot be served at"),
        (["host=192.0.2.1"], "host=192.0.2.1, port=None: cannot be served at"),
    ],
)
def test_bad_input_gets_one_line(command, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    status, _, err = command(main, *arguments)
    assert status == 2 and message in err and len(err.splitlines()) == 1


def test_names_are_as_people_write_them():
    assert title_of("great_wave") == "Great Wave" and title_of("composition_vii") == "Composition VII"
    assert title_of("painters: van_gogh_auvers") == "Painters: Van Gogh Auvers" and title_of("Éos") == "Éos"
    assert title_of("any: your painting") == "Any: Your Painting" and title_of("__mix_") == "  Mix "


def test_the_page_shows_what_is_chosen_what_failed_and_what_is_done(studio, tmp_path):
    page = build_page(studio)
    parts = {part["props"].get("elem_id"): part["props"] for part in page.get_config_file()["components"]}
    assert parts["styles"]["selected_index"] == 0 and parts["style"]["choices"] == [("Ink", "ink"), ("Sea", "sea")]
    assert not parts["download"]["visible"] and not parts["message"]["visible"]
    calls = {function.name: function.fn for function in page.fns.values()}
    gallery, painting, size = calls["mark"]("sea")
    assert gallery["selected_index"] == 1 and not painting["visible"] and not size["visible"]

    (tmp_path / "<b>.png").write_text("no picture")
    picture(0).save(tmp_path / "photo.png")
    rest = ("sea", 1.0, False, 1.0, None, 256)
    pictures, download, message = calls["restyle"](str(tmp_path / "<b>.png"), *rest)
    assert "value" not in pictures and "visible" not in download  # what is there stays
    assert message["visible"] and "cannot be restyled" in message["value"] and "<b>" not in message["value"]
    pictures, download, message = calls["restyle"](str(tmp_path / "photo.png"), *rest)
    assert len(pictures) == 2 and download["visible"] and Path(download["value"]).name == "photo_sea.png"
    assert not message["visible"] and message["value"] == ""


def test_a_request_is_bounded_and_not_its_files_alone(checkpoints):
    cfg = OmegaConf.load(ROOT / "configs" / "serve.yaml")
    served, address = serve(OmegaConf.merge(cfg, {"checkpoints": str(checkpoints), "max_megabytes": 0.1}), block=False)

    def send(*sizes: int, chunked: bool = False) -> int:
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body = b"".join(part + b"a" * size + b"\r\n" for size in sizes) + b"--x--\r\n"
        connection = http.client.HTTPConnection(address.split("/")[2], timeout=60)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        with contextlib.closing(connection):
            connection.request("POST", "/gradio_api/upload", iter([body]) if chunked else body, headers)
            return connection.getresponse().status

    try:
        before = set(Path(served.folder.name).rglob("*"))
        assert send(90_000) == 200 and len(set(Path(served.folder.name).rglob("*.png")) - before) == 1
        sent = set(Path(served.folder.name).rglob("*"))
        assert send(100_001) == 413  # Gradio's own bound
        assert send(*[90_000] * 3) == 413 and send(ENVELOPE + 100_000) == 413
        assert send(10, chunked=True) == 413
        assert set(Path(served.folder.name).rglob("*")) == sent
    finally:
        served.close()
        served.folder.cleanup()


@pytest.fixture
def browser():
    if BROWSER is None:
        pytest.skip("there is no Chromium here (on Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


def upload(page, file: Path) -> None:
    """Gives the page a file; again if that was before its script listened."""
    for _ in range(8):
        page.wait_for_selector("#photograph input[type=file]", state="attached", timeout=120_000)
        page.set_input_files("#photograph input[type=file]", file)
        with contextlib.suppress(Exception):
            return page.get_by_text(file.name).first.wait_for(timeout=8_000)
    raise AssertionError(f"{file.name} never arrived")


def test_upload_restyle_compare_download(browser, checkpoints, tmp_path):
    objective = {"loss_network": {"network": "vgg16", "weights": "oxford"}}
    export(checkpoints / "any.safetensors", ArbitraryNet(width=4), {"style": {"size": 64}, "objective": objective})
    cfg = OmegaConf.load(ROOT / "configs" / "serve.yaml")
    cfg = OmegaConf.merge(cfg, {"checkpoints": str(checkpoints), "max_megapixels": 1})
    served, address = serve(cfg, block=False)
    try:
        picture(0, 300, 200).save(tmp_path / "photo.png")
        Image.new("L", (1200, 1000)).save(tmp_path / "large.png")
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        upload(page, tmp_path / "photo.png")
        restyle = page.locator("#restyle").bounding_box()
        assert restyle["y"] + restyle["height"] <= 800  # without scrolling
        assert page.locator("#download").count() == 0  # there is nothing yet
        page.locator("#styles button", has_text="any").click()
        page.wait_for_selector("#painting input[type=file]", state="attached")  # asked for where the style needs one
        page.get_by_label("Size of the painting, in px").first.wait_for()
        page.wait_for_function("[...document.querySelectorAll('input')].some(i => i.value == '64')")  # as in training
        page.locator("#styles button", has_text="sea").click()
        page.wait_for_selector("#painting", state="detached")
        page.get_by_label("Size of the painting, in px").first.wait_for(state="hidden")
        assert page.get_by_label("Style", exact=True).input_value() == "Sea"
        page.get_by_label("Style", exact=True).click()
        page.get_by_role("option", name="Ink").click()
        page.locator("#styles .selected", has_text="Ink").wait_for()  # marked, however it is chosen
        page.locator("#styles button", has_text="sea").click()
        page.locator("#styles .selected", has_text="Sea").wait_for()
        page.click("#restyle")
        page.wait_for_selector("#result img", timeout=60_000)
        page.wait_for_function("[...document.querySelectorAll('#result img')].every(i => i.complete && i.naturalWidth > 0)")
        shown = page.eval_on_selector_all(
            "#result img",
            """images => images.map(image => {
                const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext('2d');
                canvas.drawImage(image, 0, 0);
                return [...canvas.getImageData(0, 0, image.naturalWidth, image.naturalHeight).data];
            })""",
        )
        before, after = (np.array(pixels).reshape(200, 300, 4)[..., :3] for pixels in shown)
        expected = np.asarray(Stylizer(checkpoints / "sea.safetensors")(picture(0, 300, 200)), int)
        assert np.abs(before - np.asarray(picture(0, 300, 200), int)).max() <= 1
        assert np.abs(after - expected).max() <= 1 and np.abs(after - before).mean() > 5
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(tmp_path / "result.png")
        assert np.array_equal(load_rgb(tmp_path / "result.png"), expected)

        page.reload()
        upload(page, tmp_path / "large.png")
        page.click("#restyle")
        page.get_by_text("1 is the most").first.wait_for()
        assert page.locator("#download").count() == 0
        page.locator("#photograph").get_by_label("Clear").click()
        upload(page, tmp_path / "photo.png")
        page.click("#restyle")
        page.wait_for_selector("#download")
        page.get_by_text("1 is the most").wait_for(state="detached")
    finally:
        served.close()
        served.folder.cleanup()


def test_tensorboard_shows_its_pictures(browser, command, small_training, tmp_path):
    assert command(train, *small_training)[0] == 0
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    board = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "runs"), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address = f"http://localhost:{port}/"
        for _ in range(120):
            try:
                urllib.request.urlopen(address).close()
                break
            except OSError:
                time.sleep(0.5)
        page = browser.new_page()
        page.goto(f"{address}#images")
        image = page.locator("tf-image-loader img").first
        image.wait_for(timeout=60_000)
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert page.get_by_text("photograph | result").first.is_visible()
    finally:
        board.terminate()
        board.wait()


def test_the_page_offers_every_style(tmp_path, paintings, photographs):
    random_arbitrary(tmp_path)
    export(tmp_path / "many.safetensors", random_multi(), {"style": {"name": "a+b"}})
    folder = tmp_path / "page"
    folder.mkdir()
    studio = Studio(tmp_path, folder, 1e6)
    assert list(studio.styles) == ["any: your painting", "many: a", "many: b"] and len(studio.thumbnails()) == 3
    photograph, rest = str(photographs / "00.jpg"), (Controls(),)
    files = [studio.restyle(photograph, style, *rest)[1] for style in ("many: a", "many: b")]
    files += [studio.restyle(photograph, "any: your painting", *rest, str(paintings / f"{i}.png"))[1] for i in range(2)]
    assert len({Image.open(file).tobytes() for file in files}) == 4
    with pytest.raises(UserError, match="Drop a painting too"):
        studio.restyle(photograph, "any: your painting", *rest)
    picture(0, 3000, 4).save(tmp_path / "long.png")  # enlarged to the net's 48 px it would have 36000 x 48
    with pytest.raises(UserError, match="too long"):
        studio.restyle(photograph, "any: your painting", *rest, str(tmp_path / "long.png"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="cannot be"):
        studio.restyle(photograph, "any: your painting", *rest, str(tmp_path / "text.png"))


def test_the_last_paintings_are_looked_at_once(tmp_path, paintings, photographs, monkeypatch):
    random_arbitrary(tmp_path)
    looked = []
    look = Painted.look
    monkeypatch.setattr(Painted, "look", lambda self, p: looked.append(p.size) or look(self, p))
    (tmp_path / "page").mkdir()
    studio = Studio(tmp_path, tmp_path / "page", 1e6)

    def restyle(painting: Path, controls: Controls) -> bytes:
        (_, result), _ = studio.restyle(str(photographs / "00.jpg"), "any: your painting", controls, str(painting))
        return result.tobytes()

    copy = tmp_path / "upload.png"
    copy.write_bytes((paintings / "0.png").read_bytes())
    first = restyle(copy, Controls())
    copy.unlink()
    assert restyle(paintings / "0.png", Controls()) == first and len(looked) == 1
    assert restyle(paintings / "0.png", Controls(style_size=64)) != first and len(looked) == 2  # the upload is gone
    others = [restyle(paintings / f"{i}.png", Controls()) for i in (1, 2)]
    assert first not in others and len(studio.kept) == 2 and len(looked) == 4
    assert restyle(paintings / "0.png", Controls()) == first and len(looked) == 5


def test_each_checkpoint_is_read_once(tmp_path, paintings, photographs, monkeypatch):
    random_arbitrary(tmp_path)
    export(tmp_path / "many.safetensors", random_multi(("a", "b", "c")), {"style": {"name": "a+b+c"}})
    export(tmp_path / "one.safetensors", TransformNet(width=4), {"style": {"name": "one"}})
    read = []
    monkeypatch.setattr(checkpoint, "safe_open", lambda file, **options: read.append(file) or safe_open(file, **options))
    (tmp_path / "page").mkdir()
    studio = Studio(tmp_path, tmp_path / "page", 1e6)
    studio.thumbnails()
    for name in studio.styles:
        studio.restyle(str(photographs / "00.jpg"), name, Controls(), str(paintings / "0.png"))
    assert len(studio.styles) == 5 and sorted(file.stem for file in read) == ["any", "many", "one"]
