"""The static page in a real browser, with a camera that is a file: one export and one browser for all tests."""

import shutil
import sys
import threading

import numpy as np
import pytest
import torch
from conftest import picture, random_arbitrary, random_multi
from PIL import Image

from fastnst.checkpoint import export
from fastnst.commands.entry import export as export_main
from fastnst.images import to_rgb
from fastnst.inference.stylizer import Stylizer
from fastnst.models import colors
from fastnst.models.transform_net import TransformNet
from fastnst.web.browser.serve import Handler, server

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
READY = "Choose what to paint"
LATEST = """async () => {
    const { state: { latest } } = await import('./page.js');
    return [latest.source, latest.result].map(({ width, height, data }) => [width, height, [...data]]);
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of width 4: of one style, of two, and for any painting."""
    folder = tmp_path_factory.mktemp("live")
    torch.manual_seed(0)
    export(folder / "one.safetensors", TransformNet(width=4), {"style": {"name": "one"}})
    export(folder / "many.safetensors", random_multi(), {"style": {"name": "a+b"}, "brushwork": 12.0})
    random_arbitrary(folder)
    return folder


@pytest.fixture(scope="module")
def site(folder):
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here to fetch onnxruntime-web with")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(colors, "SWEEPS", 1)  # colours that are nearly right, in a third of the time
        patch.setattr(sys, "argv", ["fastnst", "ckpt=[one.safetensors,many.safetensors,any.safetensors]", "page=true"])
        try:
            export_main()
        except SystemExit:
            pytest.skip("npm's registry cannot be reached")
    return folder / "exported/one+many+any_page"


@pytest.fixture(scope="module")
def address(site):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handler, "log_message", lambda *_: None)
        served = server(site, 0)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()


@pytest.fixture(scope="module")
def browser(folder, address):
    if BROWSER is None:
        pytest.skip("there is no Chromium here (on Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    film = folder / "camera.y4m"
    luminance = np.add.outer(np.arange(120), np.arange(160)).astype(np.uint8).tobytes()
    frames = [b"FRAME\n" + luminance + bytes([100 + 40 * i]) * 4800 + bytes([150]) * 4800 for i in range(2)]
    film.write_bytes(b"YUV4MPEG2 W160 H120 F15:1 Ip A1:1 C420jpeg\n" + b"".join(frames))
    camera = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
    gpu = ["--in-process-gpu", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *camera, *gpu])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page, and waits until its runtime has started."""
    contexts = []

    def visit(engine="wasm", permissions=("camera",), script=""):
        contexts.append(browser.new_context(permissions=[*permissions], viewport={"width": 390, "height": 844}))
        page = contexts[-1].new_page()
        page.add_init_script(script)
        page.goto(f"{address}?engine={engine}")
        page.get_by_text(READY).wait_for(timeout=60_000)
        return page

    yield visit
    for context in contexts:
        context.close()


def latest(page, words="frames a second"):
    """The newest frame as the page took it and as it shows it, (H, W, 3) each."""
    script = "words => document.getElementById('status').textContent.includes(words)"
    page.wait_for_function(script, arg=words, timeout=60_000)
    return [np.array(data, int).reshape(height, width, 4)[..., :3] for width, height, data in page.evaluate(LATEST)]


def next_after(page, before):
    """The first result that is another."""
    for _ in range(300):
        _, result = latest(page, "")
        if not np.array_equal(result, before):
            return result
        page.wait_for_timeout(200)
    raise AssertionError("the picture stays as it was")


def difference(folder, source, result):
    expected = Stylizer(folder / "one.safetensors")(Image.fromarray(source.astype(np.uint8)))
    return np.abs(np.asarray(expected, int) - result).max()


def test_the_camera_is_painted_as_python_does(visit, folder, address, tmp_path):
    page, asked = visit(), []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#size").select_option("256")
    page.get_by_role("button", name="Camera").click()
    source, result = latest(page)
    assert source.shape == (120, 160, 3) and difference(folder, source, result) <= 2
    assert "WebAssembly" in page.locator("#status").inner_text()
    assert page.evaluate("crossOriginIsolated") and page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(500)
    with page.expect_download() as download:
        page.get_by_role("button", name="Stop recording").click()
    download.value.save_as(tmp_path / "film.webm")
    assert (tmp_path / "film.webm").read_bytes()[:4] == b"\x1a\x45\xdf\xa3"  # a Matroska file's first bytes
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").click()
    download.value.save_as(tmp_path / "picture.png")
    assert Image.open(tmp_path / "picture.png").size == (160, 120)
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)  # nothing from elsewhere


def test_a_painting_dropped_changes_the_picture(visit, folder, tmp_path):
    picture(0, 150, 101).save(tmp_path / "photo.png")
    picture(7, 80, 72).save(tmp_path / "painting.png")
    page = visit()
    page.locator("#size").select_option("256")
    page.set_input_files("#file", tmp_path / "photo.png")
    source, before = latest(page, "150 x 101 px")
    assert np.abs(source - np.asarray(picture(0, 150, 101), int)).max() == 0
    assert difference(folder, source, before) <= 2
    page.set_input_files("#painting", tmp_path / "painting.png")
    page.get_by_label("painting", exact=True).wait_for(state="attached", timeout=60_000)
    page.get_by_label("Painting's size").wait_for()
    after = next_after(page, before)
    assert np.abs(after - before).mean() > 5
    page.locator("#style-size").fill("96")
    resized = next_after(page, after)
    picture(8, 80, 72).save(tmp_path / "other.png")
    page.set_input_files("#painting", tmp_path / "other.png")
    page.get_by_label("other", exact=True).wait_for(state="attached", timeout=60_000)
    page.wait_for_function("document.getElementById('style-size').value !== '96'")  # a painting has dials of its own
    other = next_after(page, resized)
    page.get_by_label("painting", exact=True).check(force=True)
    assert page.locator("#style-size").input_value() == "96"
    after = next_after(page, other)
    page.get_by_label("Second style").select_option(label="B")  # half of it, by another net
    assert np.abs(next_after(page, after) - after).mean() > 1
    (tmp_path / "text.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "text.png")
    page.get_by_text("text.png is not a picture.").wait_for()


def test_a_transparent_still_lies_on_white_and_grows(visit, tmp_path):
    image = picture(0, 300, 200).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "photo.png")
    page = visit()
    page.locator("#size").select_option("256")
    page.set_input_files("#file", tmp_path / "photo.png")
    latest(page, "256 x 171 px")
    page.locator("#size").select_option("384")
    source, _ = latest(page, "300 x 200 px")
    assert np.abs(source - np.asarray(to_rgb(image), int)).max() <= 2


def test_a_still_gets_the_brushwork_of_its_net(visit, folder, tmp_path):
    stripes = 128 + 80 * np.sin(np.arange(300)[:, None] / 6) + np.zeros((300, 400))
    Image.fromarray(stripes.round().astype(np.uint8)).convert("RGB").save(tmp_path / "photo.png")
    page = visit()
    page.locator("#size").select_option("512")
    page.set_input_files("#file", tmp_path / "photo.png")
    source, plain = latest(page, "400 x 300 px")
    assert difference(folder, source, plain) <= 2
    page.get_by_text("A", exact=True).first.click()
    result = next_after(page, plain)
    given, laid = page.evaluate("""async () => {
        const { brushed, strokes } = await import('./brushwork.js'), { state: { latest } } = await import('./page.js');
        return [[...brushed(latest.source, 12).data], [...strokes(latest.source).data]];
    }""")
    given, laid = np.array(given, np.uint8).reshape(300, 400, 4)[..., :3], np.array(laid).reshape(300, 400)
    net = Stylizer(folder / "many.safetensors", style="a")
    expected, without = (np.asarray(net(Image.fromarray(x), brushwork=0), int) for x in (given, source.astype(np.uint8)))
    assert np.abs(expected - result).max() <= 2 < np.abs(without - result).max()
    assert laid.std() == pytest.approx(1, abs=0.15)  # which enlarging takes a little of
    assert np.abs(given - (source + 12 * laid[..., None]).clip(0, 255)).max() <= 1
    along, across = (np.abs(laid - np.roll(laid, 8, axis)).mean() for axis in (1, 0))
    assert along < 0.7 * across


@pytest.mark.parametrize("name, words", [("NotFoundError", "There is no camera here."), (None, "The camera was refused.")])
def test_without_a_camera_the_page_says_so(visit, name, words):
    none = f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{name}'))"
    page = visit(permissions=(), script=none if name else "")
    page.get_by_role("button", name="Camera").click()
    page.get_by_text(words).wait_for()


def test_webgpu_paints_the_same(visit, folder, tmp_path):
    page = visit(engine="webgpu")
    if "WebGPU" not in page.locator("#status").inner_text():
        pytest.skip("this Chromium has no WebGPU, not by SwiftShader either")
    picture(0, 64, 48).save(tmp_path / "photo.png")
    page.set_input_files("#file", tmp_path / "photo.png")
    source, result = latest(page, "64 x 48 px")
    assert difference(folder, source, result) <= 2
