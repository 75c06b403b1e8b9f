"""A page on localhost: drop a photograph, choose a style, compare, download."""

import hashlib
import html
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from fastnst.checkpoint import choose_style, load_net
from fastnst.errors import UserError, line_of
from fastnst.images import UNREADABLE, Held, fit, save, to_rgb, upright
from fastnst.inference.stylizer import STYLE_SIZES, Controls, Stylizer
from fastnst.shipped import ARTWORKS, checkpoint_file

THUMBNAIL = 160  # px
KEPT = 2  # paintings whose nets are kept, about 40 MB each
VISITORS = 50  # who may wait at once
ENVELOPE = 100_000  # bytes that a request may have beside a picture
CSS = """
#styles .caption-label { white-space: normal; max-width: 100%; padding: 2px 6px; line-height: 1.2; }
#styles .thumbnail-item.selected { outline: 3px solid var(--color-accent); }
#message p { color: var(--error-text-color); background: var(--error-background-fill); padding: 8px 12px; }
"""


def title_of(name: str) -> str:
    """A style's name as people write it, such as Great Wave or Base: Composition VII."""
    words = name.replace("_", " ").split(" ")
    return " ".join(word.upper() if re.fullmatch("[ivx]+", word) else word[:1].upper() + word[1:] for word in words)


class Studio:
    """The checkpoints of a folder, or one, and what the page does with them: one picture at a time, whoever asks.

    Raises UserError if there is no checkpoint.
    """

    def __init__(self, checkpoints: Path, folder: Path, max_pixels: float):
        self.folder, self.max_pixels, self.lock = folder, max_pixels, threading.Lock()
        files = sorted(checkpoints.glob("*.safetensors")) if checkpoints.is_dir() else [checkpoint_file(checkpoints)]
        if not files:
            raise UserError(f"checkpoints={checkpoints}: no .safetensors in it; give another folder, or a checkpoint")
        self.nets = {file.stem: load_net(file) for file in files}
        # Of each, by its name on the page: its checkpoint, and its name there.
        self.styles: dict[str, tuple[str, str | Path | None]] = {}
        self.any_painting: set[str] = set()
        self.kept: dict[tuple[str, bytes], Stylizer] = {}
        for stem, (net, _) in self.nets.items():
            if net.styles:
                self.styles |= {f"{stem}: {style}": (stem, style) for style in net.styles}
            elif net.any_painting:
                self.styles[f"{stem}: your painting"] = stem, ARTWORKS / "wave.jpg"
                self.any_painting.add(f"{stem}: your painting")
            else:
                self.styles[stem] = stem, None

    def stylizer(self, name: str, painting: str | None = None) -> Stylizer:
        """A style by its name on the page, at work with the painting, a picture's file, if it takes any.

        Made anew each time, in milliseconds: kept, the nets of all styles would take many times the checkpoints' memory.
        Those of the last paintings are kept, as looking at one takes the loss network.
        """
        stem, style = self.styles[name]
        net, info = self.nets[stem]
        if painting is None:
            return Stylizer((choose_style(net, info, stem, style), info))
        data = Path(painting).read_bytes()  # its file may be gone when the next picture comes
        key = stem, hashlib.sha256(data).digest()
        if key not in self.kept:
            stylizer = Stylizer((net.pick({Held(data): 1.0}, info, stem), info))
            self.kept = dict([*self.kept.items()][1 - KEPT :]) | {key: stylizer}
        return self.kept[key]

    def style_size(self, name: str) -> int:
        """Px of the short side at which a style saw paintings in training, or the nearest that may be chosen."""
        _, info = self.nets[self.styles[name][0]]
        least, most = STYLE_SIZES
        return min(max(info["style"]["size"], least), most)

    def thumbnails(self) -> list[tuple[Image.Image, str]]:
        """Each style at work on the same picture, with its title."""
        with Image.open(ARTWORKS / "inkwash.jpg") as file:
            sample = fit(file.convert("RGB"), 2 * THUMBNAIL)
        size = THUMBNAIL, THUMBNAIL * 3 // 4
        return [(self.stylizer(name)(sample).resize(size), title_of(name)) for name in self.styles]

    def restyle(self, file: str | None, style: str, controls: Controls, painting: str | None = None):
        """The photograph and its result for the slider, and the result's PNG, at full resolution.

        painting: a picture's file, for a style that takes any.
        Raises UserError, with a message for the page, for what is not a picture, is too large or too small.
        """
        if file is None:
            raise UserError("Drop a photograph first.")
        if style not in self.styles:
            raise UserError("Choose a style first.")
        try:
            with Image.open(file) as image:
                self._check_pixels(image)
                image.load()
                with self.lock:  # ten visitors at once wait for each other, and do not share out the memory
                    stylizer = self.stylizer(style, self._checked(painting) if style in self.any_painting else None)
                    result = stylizer(image, controls=controls)
                photograph = to_rgb(upright(image))
        except UNREADABLE as error:
            raise UserError(f"This file cannot be restyled ({line_of(error)}).") from None
        path = Path(tempfile.mkdtemp(dir=self.folder), f"{Path(file).stem[:40]}_{style.replace(': ', '_')[:40]}.png")
        save(result, path)
        shown = [fit(picture.convert("RGB"), min(1600, max(picture.size))) for picture in (photograph, result)]
        return tuple(shown), str(path)

    def _check_pixels(self, image: Image.Image) -> None:
        if image.width * image.height > self.max_pixels:
            megapixels = image.width * image.height / 1e6
            raise UserError(f"This picture has {megapixels:.0f} megapixels; {self.max_pixels / 1e6:.0f} is the most.")

    def _checked(self, painting: str | None) -> str:
        if painting is None:
            raise UserError("Drop a painting too: this style takes any.")
        with Image.open(painting) as image:
            self._check_pixels(image)
        return painting


def build_page(studio: Studio):
    """The Gradio page of a studio."""
    import gradio as gr

    def restyle(file, style, strength, preserve_color, style_scale, painting, style_size):
        try:
            controls = Controls(strength, preserve_color, style_scale)
            if style in studio.any_painting:
                controls = replace(controls, style_size=round(style_size))
            pictures, result = studio.restyle(file, style, controls, painting)
        except UserError as error:  # a result that is there stays
            return gr.skip(), gr.skip(), gr.update(value=f'<p role="alert">{html.escape(str(error))}</p>', visible=True)
        return pictures, gr.update(value=result, visible=True), gr.update(value="", visible=False)

    names = list(studio.styles)
    ready = [name for name in names if name not in studio.any_painting]  # these need nothing but the photograph
    first = (ready or names)[0]
    size = STYLE_SIZES[0] if ready else studio.style_size(first)
    with gr.Blocks(title="fastnst", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# fastnst\nDrop a photograph, choose a style, compare, download.")
        with gr.Row():
            with gr.Column():
                photograph = gr.File(
                    label="Photograph", file_types=["image"], type="filepath", elem_id="photograph", height=120
                )
                gallery = gr.Gallery(
                    studio.thumbnails(), label="Styles", columns=4, height=300 if len(names) > 4 else 165,
                    object_fit="cover", allow_preview=False, interactive=False, buttons=[], elem_id="styles",
                    selected_index=names.index(first), show_label=False,
                )  # fmt: skip
                style = gr.Dropdown([(title_of(name), name) for name in names], value=first, label="Style", elem_id="style")
                painting = gr.File(
                    label="Your painting", file_types=["image"], type="filepath", elem_id="painting", height=120,
                    visible=not ready,
                )  # fmt: skip
                style_size = gr.Slider(*STYLE_SIZES, size, step=16, label="Size of the painting, in px", visible=not ready)
                strength = gr.Slider(0, 1, 1.0, step=0.05, label="Strength")
                style_scale = gr.Slider(0.5, 2, 1.0, step=0.1, label="Size of strokes")
                preserve_color = gr.Checkbox(label="Keep the photograph's colours")
            with gr.Column():
                with gr.Row():  # at the top, where they are seen without scrolling however many styles there are
                    button = gr.Button("Restyle", variant="primary", elem_id="restyle")
                    download = gr.DownloadButton("Download at full resolution", elem_id="download", visible=False)
                message = gr.HTML(visible=False, elem_id="message")
                slider = gr.ImageSlider(label="Before and after", interactive=False, elem_id="result", format="png")

        def choose(event: gr.SelectData) -> str:
            return names[event.index]

        def mark(name: str) -> tuple[dict, ...]:
            asks = name in studio.any_painting
            size: dict[str, Any] = {"value": studio.style_size(name)} if asks else {}
            return gr.update(selected_index=names.index(name)), gr.update(visible=asks), gr.update(visible=asks, **size)

        gallery.select(choose, None, style)
        style.change(mark, style, [gallery, painting, style_size])
        button.click(
            restyle,
            [photograph, style, strength, preserve_color, style_scale, painting, style_size],
            [slider, download, message],
            concurrency_limit=1,
        )
    return page.queue(max_size=VISITORS)


class Bounded:
    """ASGI middleware that refuses, unread, a request of more than `most` bytes, or that does not say how many it has.

    Gradio bounds each of a request's files, of which there may be a thousand.
    """

    def __init__(self, app: Callable, most: int):
        self.app, self.most = app, most

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        headers = dict(scope.get("headers", ()))
        if int(headers.get(b"content-length", 0)) <= self.most and b"transfer-encoding" not in headers:
            return await self.app(scope, receive, send)
        body = f"A request may have {self.most} bytes in all, and says how many it has.".encode()
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})


def temporary_folder() -> tempfile.TemporaryDirectory:
    """A folder for all that is uploaded and made, which goes with the process. Those of servers that were killed go now."""
    for left in Path(tempfile.gettempdir()).glob("fastnst-page-*-*"):
        process = left.name.split("-")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"fastnst-page-{os.getpid()}-", ignore_cleanup_errors=True)


def clear_on_sigterm(folder: tempfile.TemporaryDirectory) -> None:
    """Has SIGTERM, by which services are stopped, end the process at once, and the folder with it."""

    def stop(number: int, frame: object) -> None:
        folder.cleanup()
        os._exit(128 + number)  # a picture in the making is not waited for

    signal.signal(signal.SIGTERM, stop)


def launch(checkpoints: Path, host: str, port: int | None, max_bytes: int, max_pixels: float):
    """Serves the page of a folder of checkpoints, and returns it, once it is up, and its address.

    port: None takes the first free one from 7860 on. max_bytes, max_pixels: the largest picture that strangers may send, and
    but one in a request.
    Raises UserError if Gradio is not installed, or there is no checkpoint.
    """
    folder = temporary_folder()
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
        from starlette.middleware import Middleware
    except ImportError:
        raise UserError("the page needs Gradio: pip install 'fastnst[page]'") from None
    page = build_page(Studio(checkpoints, Path(folder.name), max_pixels))
    page.folder = folder
    _, address, _ = page.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, show_error=True, share=False,
        max_file_size=max_bytes, app_kwargs={"middleware": [Middleware(Bounded, most=max_bytes + ENVELOPE)]},
        allowed_paths=[folder.name], ssr_mode=False, footer_links=[], css=CSS,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # no fonts from elsewhere
    )  # fmt: skip
    return page, address
