"""The page as a service: bounded requests, a temporary folder, a health check."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from fastnst.errors import UserError
from fastnst.web.page import CSS, build_page
from fastnst.web.studio import Studio
from fastnst.web.training import Trainings

ENVELOPE = 100_000  # bytes that a request may have beside a picture


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


def clear_on_sigterm(folder: tempfile.TemporaryDirectory, trainings: Trainings | None = None) -> None:
    """Has SIGTERM, by which services are stopped, end the process at once, and the folder with it; a training is saved."""

    def stop(number: int, frame: object) -> None:
        if trainings is not None:
            trainings.close()
        folder.cleanup()
        os._exit(128 + number)  # a picture in the making is not waited for

    signal.signal(signal.SIGTERM, stop)


def launch(
    checkpoints: Path,
    host: str,
    port: int | None,
    max_bytes: int,
    max_pixels: float,
    max_seconds: float,
    trainings: Trainings | None = None,
):
    """Serves the page of a folder of checkpoints, and returns it, once it is up, and its address.

    port: None takes the first free one from 7860 on. max_bytes, max_pixels: the largest picture that strangers may send, and
    but one in a request. max_seconds: of the longest film. trainings: None if none may be started.
    Raises UserError if Gradio is not installed, or there is no checkpoint.
    """
    folder = temporary_folder()
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
        from starlette.middleware import Middleware
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError:
        raise UserError("the page needs Gradio: pip install 'fastnst[page]'") from None
    studio = Studio(checkpoints, Path(folder.name), max_pixels, max_seconds)
    page = build_page(studio, trainings)
    page.folder, page.trainings = folder, trainings
    health = Route("/healthz", lambda request: JSONResponse({"status": "ok", "styles": len(studio.styles)}))
    _, address, _ = page.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, show_error=True, share=False,
        max_file_size=max_bytes,
        app_kwargs={"routes": [health], "middleware": [Middleware(Bounded, most=max_bytes + ENVELOPE)]},
        allowed_paths=[folder.name], ssr_mode=False, footer_links=["api"], css=CSS,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # no fonts from elsewhere
    )  # fmt: skip
    threading.Thread(target=studio.thumbnails, daemon=True).start()  # so that the first visitor need not wait for them
    return page, address
