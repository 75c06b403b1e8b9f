"""The page: what it does without a browser, and all of it in a real one."""

import contextlib
import http.client
import http.server
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import EllipsisType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, picture, random_arbitrary
from omegaconf import OmegaConf
from PIL import Image

from fastnst.checkpoint import export
from fastnst.commands.entry import serve as main
from fastnst.commands.entry import train
from fastnst.commands.serve import serve, trainings_of
from fastnst.images import load_rgb
from fastnst.inference.stylizer import Stylizer
from fastnst.models.transform_net import TransformNet
from fastnst.web.page import build_page
from fastnst.web.parts import MOST_BLOB, VISITORS, brush
from fastnst.web.server import ENVELOPE, temporary_folder
from fastnst.web.studio import Studio
from fastnst.web.training_tab import describe

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_what_visitors_sent_goes_with_the_server(tmp_path, monkeypatch):
    serving = """
import os, signal, sys
from fastnst.web.server import clear_on_sigterm, temporary_folder
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
        (["train=maybe"], "train=maybe"),
        (["train_options=[a]"], "in braces"),
        (["trainings=/dev/null/here"], "trainings=/dev/null/here"),
        (["port=99999"], "port=99999: give a whole number from 1 to 65535"),
        (["host=nowhere.invalid"], "host=nowhere.invalid, port=None: cannot be served at"),
        (["host=192.0.2.1"], "host=192.0.2.1, port=None: cannot be served at"),
    ],
)
def test_bad_input_gets_one_line(command, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    status, _, err = command(main, *arguments)
    assert status == 2 and message in err and len(err.splitlines()) == 1


@pytest.fixture
def browser():
    if BROWSER is None:
        pytest.skip("there is no Chromium here (on Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without a graphics card pictures are drawn by the CPU: in a process of its own that takes half as long again.
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--in-process-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for all of these: small nets, a small training, small bounds. Its address, its page and its folder."""
    folder = tmp_path_factory.mktemp("served")
    for seed, name in enumerate(("ink", "sea")):
        torch.manual_seed(seed)
        export(folder / "checkpoints" / f"{name}.safetensors", TransformNet(width=4), {"style": {"name": name}})
    random_arbitrary(folder / "checkpoints")
    for i in range(4):
        (folder / "photographs").mkdir(exist_ok=True)
        picture(i).save(folder / "photographs" / f"{i}.jpg")
    options = {
        "model.width": 4, "init": None, "data.size": 32, "style.size": 48, "loss.scales": [1], "stability.weight": 0,
        "trainer.accelerator": "cpu", "checkpoint_every": 5, "trainer.val_check_interval": 5,
    }  # fmt: skip
    changes = {
        "checkpoints": str(folder / "checkpoints"), "max_megabytes": 0.1, "max_megapixels": 1, "train_options": options,
        "trainings": str(folder / "trainings"), "photographs": str(folder / "photographs"),
    }  # fmt: skip
    cfg = OmegaConf.merge(OmegaConf.load(ROOT / "configs" / "serve.yaml"), changes)
    page, address = serve(cfg, block=False)
    yield SimpleNamespace(page=page, address=address, folder=folder)
    if page.trainings.unfinished():  # of a test that failed
        page.trainings.cancel()
    page.close()
    page.folder.cleanup()


@pytest.fixture(scope="module")
def client(served):
    gradio_client = pytest.importorskip("gradio_client")
    return gradio_client.Client(
        served.address, verbose=False, download_files=str(served.folder / "downloads"), analytics_enabled=False
    )


def sent(path: Path) -> dict:
    from gradio_client import handle_file

    return handle_file(str(path))


def test_each_action_is_an_endpoint(client, served, tmp_path):
    with urllib.request.urlopen(served.address + "healthz") as answer:
        assert json.load(answer) == {"status": "ok", "styles": 3}
    styles = client.predict(api_name="/styles")
    assert [style["style"] for style in styles] == ["ink", "sea", "any: your painting"] and styles[2]["takes_painting"]
    picture(0, 700, 200).save(tmp_path / "photo.png")
    picture(9, 80, 72).save(tmp_path / "painting.png")
    mask = Image.new("L", (70, 20))
    mask.paste(255, (0, 0, 35, 20))
    mask.save(tmp_path / "mask.png")
    photograph, painting = sent(tmp_path / "photo.png"), sent(tmp_path / "painting.png")
    before, after = client.predict(photograph, "sea", api_name="/preview")
    assert load_rgb(before).size == load_rgb(after).size == (640, 183)
    expected = Stylizer(served.folder / "checkpoints" / "sea.safetensors")(picture(0, 700, 200), strength=0.5)
    _, file = client.predict(photograph, "sea", strength=0.5, api_name="/restyle")
    assert np.array_equal(load_rgb(file), expected) and Path(file).name == "photo_sea.png"
    bold = Stylizer(served.folder / "checkpoints" / "sea.safetensors")(picture(0, 700, 200), brushwork=12)
    _, file = client.predict(photograph, "sea", brushwork=12, api_name="/restyle")
    assert np.array_equal(load_rgb(file), bold)
    _, file = client.predict(
        photograph, "ink", second="sea", strength=0.5, api_name="/restyle",
        mask={"background": None, "layers": [sent(tmp_path / "mask.png")], "composite": None},
    )  # fmt: skip
    assert np.array_equal(np.asarray(load_rgb(file))[:, :300], np.asarray(expected)[:, :300])
    assert not np.array_equal(load_rgb(file), expected)
    looks = [{"painting": painting}, {"painting": photograph}, {"painting": painting, "style_size": 96}]
    files = [client.predict(photograph, "any: your painting", **look, api_name="/restyle")[1] for look in looks]
    assert len({load_rgb(file).tobytes() for file in files}) == 3
    assert load_rgb(client.predict(photograph, painting, api_name="/sheet")).size == (256 + 16, 4 * (73 + 14 + 8) + 8)
    assert load_rgb(client.predict(painting, photograph, api_name="/try_painting")).size == (640, 183)
    for arguments, message in (
        ((photograph, "nothing"), "Choose a style"),
        ((None, "sea"), "Drop a photograph"),
        ((sent(ROOT / "LICENSE"), "sea"), "cannot be restyled"),
        ((photograph, "sea", painting, "", painting, 0.5, 7), "greater than maximum"),
    ):
        with pytest.raises(Exception, match=message) as error:
            client.predict(*arguments, api_name="/restyle")
        assert served.page.folder.name not in str(error.value)


def test_clients_at_once_get_their_own_in_order(client, served, tmp_path):
    def calls(number: int) -> list[tuple[str, Image.Image]]:
        return [(name, picture(number, 64 + 8 * number, 48 + 8 * turn)) for turn, name in enumerate(("ink", "sea", "ink"))]

    def visit(number: int) -> list[np.ndarray]:
        own = type(client)(served.address, verbose=False, download_files=str(tmp_path / "got"), analytics_enabled=False)
        found = []
        for turn, (name, photograph) in enumerate(calls(number)):
            photograph.save(tmp_path / f"{number}_{turn}.png")
            found.append(load_rgb(own.predict(sent(tmp_path / f"{number}_{turn}.png"), name, api_name="/restyle")[1]))
        return found

    nets = {name: Stylizer(served.folder / "checkpoints" / f"{name}.safetensors") for name in ("ink", "sea")}
    with ThreadPoolExecutor(4) as visitors:
        for number, found in enumerate(visitors.map(visit, range(4))):
            for (name, photograph), result in zip(calls(number), found, strict=True):
                assert np.array_equal(result, nets[name](photograph))


def test_curl_restyles_as_the_documentation_says(served, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    text = (ROOT / "docs" / "web-and-export.md").read_text()
    script = text.split("```sh\nhost=")[1].split("```")[0]
    picture(0).save(tmp_path / "photo.jpg")
    script = f"host={script}".replace("http://127.0.0.1:7860", served.address.rstrip("/")).replace("great_wave", "sea")
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, check=True, timeout=60)
    assert load_rgb(tmp_path / "styled.png").size == (64, 48)


def test_a_painting_becomes_a_style_while_pictures_are_restyled(client, served, tmp_path):
    picture(0).save(tmp_path / "photo.png")
    picture(9, 80, 72).save(tmp_path / "painting.png")
    painting = sent(tmp_path / "painting.png")
    assert client.predict(api_name="/training")["status"] == "none"
    client.predict(painting, "mine", 2000, api_name="/train")
    with pytest.raises(Exception, match="still learning"):
        client.predict(painting, "other", api_name="/train")
    for _ in range(300):
        training = client.predict(api_name="/training")
        assert training["status"] == "running", training["message"]
        if training["step"] >= 15:
            break
        client.predict(sent(tmp_path / "photo.png"), "sea", api_name="/preview")
        time.sleep(0.2)
    assert training["steps"] == 2000 and training["left"] > 0 and training["terms"]["content"] > 0
    assert [step for step, _ in training["losses"]][:3] == [5, 10, 15]
    progress = served.page.trainings.progress()
    assert progress.pictures and "step" in describe(progress)
    assert client.predict(api_name="/keep") == "mine"
    assert client.predict(api_name="/training")["status"] == "none"
    assert client.predict(api_name="/styles")[-1] == {
        "style": "mine", "title": "Mine", "group": "Trained here", "takes_painting": False,
    }  # fmt: skip
    _, file = client.predict(sent(tmp_path / "photo.png"), "mine", api_name="/restyle")
    kept = served.folder / "trainings" / "mine" / "mine.safetensors"
    assert np.array_equal(load_rgb(file), Stylizer(kept)(picture(0)))


@pytest.mark.parametrize("host, trains", [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)])
def test_strangers_do_not_train_unless_they_may(host, trains, tmp_path):
    cfg = OmegaConf.load(ROOT / "configs" / "serve.yaml")
    cfg = OmegaConf.merge(cfg, {"host": host, "trainings": str(tmp_path / "trainings")})
    assert (trainings_of(cfg) is not None) == trains
    assert (trainings_of(OmegaConf.merge(cfg, {"train": not trains})) is None) == trains
    assert not (tmp_path / "trainings").exists()


def test_without_trainings_there_is_nothing_to_train_with(checkpoints, tmp_path):
    page = build_page(Studio(checkpoints, tmp_path, 1e6))
    names = {function.api_name for function in page.fns.values() if function.api_visibility == "public"}
    assert names >= {"preview", "restyle", "sheet", "styles"} and not names & {
        "train",
        "keep",
        "cancel",
        "resume",
        "training",
    }


def test_a_mask_takes_little_memory():
    mask = brush()

    def send(number: int, index: str = "0", size: int = 10) -> None:
        data = {"type": "layer", "index": index, "id": f"{number}"}
        mask.accept_blobs(SimpleNamespace(data=data, files=[("file", b"a" * size)]))

    send(0, index="999999999")
    send(0, size=MOST_BLOB + 1)
    assert not mask.blob_storage
    for number in range(3 * VISITORS):
        send(number)
    assert len(mask.blob_storage) == VISITORS
    last = f"{3 * VISITORS - 1}"
    assert mask.preprocess(SimpleNamespace(id=last)) == b"a" * 10 and last not in mask.blob_storage
    assert mask.preprocess(None) is None and mask.preprocess(SimpleNamespace(id="0")) is None


def test_a_request_is_bounded_and_not_its_files_alone(served):
    def send(*sizes: int, chunked: bool = False) -> int:
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body = b"".join(part + b"a" * size + b"\r\n" for size in sizes) + b"--x--\r\n"
        connection = http.client.HTTPConnection(served.address.split("/")[2], timeout=60)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        with contextlib.closing(connection):
            connection.request("POST", "/gradio_api/upload", iter([body]) if chunked else body, headers)
            return connection.getresponse().status

    folder = Path(served.page.folder.name)
    before = set(folder.rglob("*"))
    assert send(90_000) == 200 and len({*folder.rglob("*.png")} - before) == 1
    after = set(folder.rglob("*"))
    assert send(100_001) == 413  # Gradio's own bound
    assert send(*[90_000] * 3) == 413 and send(ENVELOPE + 100_000) == 413
    assert send(10, chunked=True) == 413
    assert set(folder.rglob("*")) == after


def test_drop_choose_compare_download(browser, served, tmp_path):
    picture(0, 120, 80).save(tmp_path / "photo.png")
    Image.new("L", (1200, 1000)).save(tmp_path / "large.png")
    picture(9, 80, 72).save(tmp_path / "painting.png")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(served.address)
    page.wait_for_selector("#left .styles img", timeout=120_000)

    def shown() -> list[np.ndarray]:
        """The photograph and the result, as they are on the page; nothing while one of them loads."""
        pixels = page.eval_on_selector_all(
            "#result img",
            """images => !images.every(image => image.complete && image.naturalWidth) ? [] : images.map(image => {
                const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext('2d');
                canvas.drawImage(image, 0, 0);
                return [...canvas.getImageData(0, 0, image.naturalWidth, image.naturalHeight).data];
            })""",
        )
        return [np.array(values).reshape(-1, 120, 4)[..., :3] for values in pixels]

    def result_is(expected: Image.Image, where: np.ndarray | EllipsisType = ...) -> bool:
        """Waits until the result is that picture, within 1 of 255."""
        for _ in range(100):
            pictures = shown()
            if len(pictures) == 2 and np.abs(pictures[1] - np.asarray(expected, int))[where].max() <= 1:
                return True
            page.wait_for_timeout(100)
        return False

    def styled(name: str, **controls) -> Image.Image:
        return Stylizer(served.folder / "checkpoints" / f"{name}.safetensors")(picture(0, 120, 80), **controls)

    def drop(where: str, file: Path) -> None:
        page.set_input_files(f"{where} input[type=file]", file)
        page.wait_for_selector(f"{where} img")

    drop("#photograph", tmp_path / "photo.png")  # it shows, and its result by itself
    assert result_is(styled("ink")) and np.abs(shown()[0] - np.asarray(picture(0, 120, 80), int)).max() <= 1
    button = page.locator("#download").bounding_box()
    assert button["y"] + button["height"] <= 900  # without scrolling
    page.locator(".styles:visible button", has_text="Sea").click()
    assert result_is(styled("sea"))
    assert page.get_by_label("Style", exact=True).input_value() == "Sea"
    page.locator("input[type=number]:visible").first.fill("0.5")
    page.keyboard.press("Tab")
    assert result_is(styled("sea", strength=0.5))
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "result.png")
    assert np.array_equal(load_rgb(tmp_path / "result.png"), styled("sea", strength=0.5))
    assert download.value.suggested_filename == "photo_sea.png"

    page.get_by_role("tab", name="Any painting").click()
    assert page.locator("#painting").count() == 0
    page.locator(".styles:visible button").first.click()
    page.wait_for_selector("#painting img")  # asked for where the style needs one, with one to begin with
    page.locator("#painting").get_by_label("Remove Image").click()
    drop("#painting", tmp_path / "painting.png")
    expected = Stylizer(served.folder / "checkpoints/any.safetensors", style=tmp_path / "painting.png")
    assert result_is(expected(picture(0, 120, 80), strength=0.5, style_size=64))  # the least of the dial

    page.get_by_label("Style", exact=True).click()
    page.get_by_role("option", name="Ink").first.click()
    page.locator("#left .selected", has_text="Ink").wait_for()  # marked, however it is chosen
    page.wait_for_selector("#painting", state="detached")
    page.set_viewport_size({"width": 390, "height": 800})
    page.locator("#second button.label-wrap").click()
    page.locator("#second input").first.click()
    page.get_by_role("option", name="Sea").last.click()
    weights = Stylizer(*(served.folder / "checkpoints" / f"{name}.safetensors" for name in ("ink", "sea")))
    assert result_is(weights(picture(0, 120, 80), strength=0.5))
    page.locator("#mask", has_text=re.compile(r"\d{3}%")).wait_for()  # it has the picture, which is small, and is enlarged
    canvas = page.locator("#mask canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 5, box["y"] + box["height"] / 2)
    page.mouse.up()
    distance = np.hypot(np.arange(80)[:, None] - 40, np.arange(120) - 60)  # px; the brush has a radius of 40
    painted = Image.fromarray(distance < 40)
    sides = Image.composite(styled("sea", strength=0.5), styled("ink", strength=0.5), painted)
    assert result_is(sides, np.abs(distance - 40) > 4)
    page.locator("#mask").get_by_label("Clear canvas").click()
    assert result_is(weights(picture(0, 120, 80), strength=0.5))
    page.locator("#mask", has_text=re.compile(r"\d{3}%")).wait_for()  # the picture is there again

    page.locator("#photograph").get_by_label("Remove Image").click()
    drop("#photograph", tmp_path / "large.png")
    page.get_by_text("1 is the most").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


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
