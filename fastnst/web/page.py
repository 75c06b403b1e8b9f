"""A page on localhost: drop a photograph, choose a style, compare, download."""

import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import psutil
from PIL import Image

from fastnst.checkpoint import choose_style, load_net
from fastnst.errors import UserError, line_of
from fastnst.images import UNREADABLE, fit, save, to_rgb, upright
from fastnst.inference.stylizer import Controls, Stylizer
from fastnst.shipped import ARTWORKS, checkpoint_file

THUMBNAIL = 160  # px
VISITORS = 50  # who may wait at once


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
        """
        stem, style = self.styles[name]
        net, info = self.nets[stem]
        return Stylizer((choose_style(net, info, stem, painting or style), info))

    def thumbnails(self) -> list[tuple[Image.Image, str]]:
        """Each style at work on the same picture, with its name."""
        with Image.open(ARTWORKS / "inkwash.jpg") as file:
            sample = fit(file.convert("RGB"), 2 * THUMBNAIL)
        return [(self.stylizer(name)(sample).resize((THUMBNAIL, THUMBNAIL * 3 // 4)), name) for name in self.styles]

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

    def restyle(file, style, strength, preserve_color, style_scale, painting):
        try:
            return studio.restyle(file, style, Controls(strength, preserve_color, style_scale), painting)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    names = list(studio.styles)
    ready = [name for name in names if name not in studio.any_painting]  # these need nothing but the photograph
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
                )  # fmt: skip
                style = gr.Dropdown(names, value=(ready or names)[0], label="Style", elem_id="style")
                painting = gr.File(
                    label="Your painting", file_types=["image"], type="filepath", elem_id="painting", height=120,
                    visible=not ready,
                )  # fmt: skip
                strength = gr.Slider(0, 1, 1.0, step=0.05, label="Strength")
                style_scale = gr.Slider(0.5, 2, 1.0, step=0.1, label="Size of strokes")
                preserve_color = gr.Checkbox(label="Keep the photograph's colours")
                button = gr.Button("Restyle", variant="primary", elem_id="restyle")
            with gr.Column():
                slider = gr.ImageSlider(label="Before and after", interactive=False, elem_id="result", format="png")
                download = gr.DownloadButton("Download at full resolution", elem_id="download")

        def choose(event: gr.SelectData) -> str:
            return names[event.index]

        def ask_for_painting(name: str) -> dict:
            return gr.update(visible=name in studio.any_painting)

        gallery.select(choose, None, style)
        style.change(ask_for_painting, style, painting)
        button.click(
            restyle,
            [photograph, style, strength, preserve_color, style_scale, painting],
            [slider, download],
            concurrency_limit=1,
        )
    return page.queue(max_size=VISITORS)


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

    port: None takes the first free one from 7860 on. max_bytes, max_pixels: the largest picture that strangers may send.
    Raises UserError if Gradio is not installed, or there is no checkpoint.
    """
    folder = temporary_folder()
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
    except ImportError:
        raise UserError("the page needs Gradio: pip install 'fastnst[page]'") from None
    page = build_page(Studio(checkpoints, Path(folder.name), max_pixels))
    page.folder = folder
    _, address, _ = page.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, show_error=True, share=False,
        max_file_size=max_bytes, allowed_paths=[folder.name], ssr_mode=False, footer_links=[],
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # no fonts from elsewhere
    )  # fmt: skip
    return page, address
