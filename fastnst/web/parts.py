"""Parts of the page: errors as it shows them, and uploads that strangers cannot abuse."""

import functools
import html
from collections.abc import Callable
from typing import Any

from fastnst.errors import UserError

VISITORS = 50  # who may wait at once
MOST_BLOB = 2_000_000  # bytes of a mask


def told(function: Callable) -> Callable:
    """Has a UserError reach the page, and clients, as Gradio's own."""
    import gradio as gr

    @functools.wraps(function)
    def call(*arguments):
        try:
            return function(*arguments)
        except UserError as error:  # a result that is there stays
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None

    return call


def by_path(component: Any) -> Any:
    """Has a component give its file as it came: Gradio opens it before its size is checked, and tells where it lies."""
    component.preprocess = lambda payload: payload.path if payload else None
    return component


def upload(label: str, elem_id: str, **options):
    """An upload of a picture."""
    import gradio as gr

    return by_path(gr.Image(label=label, type="filepath", elem_id=elem_id, height=240, **options))


def brush():
    """A picture to paint a mask on, whose value is the mask's file, or its bytes."""
    import gradio as gr

    mask: Any = gr.ImageMask(
        label="Paint where the second style is wanted", elem_id="mask", height=380, sources=[], transforms=[],
        layers=False, brush=gr.Brush(default_size=40, colors=["#ff5500"], color_mode="fixed"),
    )  # fmt: skip
    accept = mask.accept_blobs

    def accept_blobs(data):
        """Gradio's own, bounded: it keeps what it gets until a picture is asked for, and trusts the number of a layer."""
        if str(data.data.get("index")) not in ("null", "None", "0") or len(data.files[0][1]) > MOST_BLOB:
            return
        accept(data)
        while len(mask.blob_storage) > VISITORS:
            mask.blob_storage.pop(next(iter(mask.blob_storage)))

    def preprocess(payload):
        blobs = payload and (mask.blob_storage.pop(payload.id, None) if payload.id else payload)
        layer = blobs.layers[0] if blobs and blobs.layers else None
        return getattr(layer, "path", layer)

    accept_blobs._is_server_fn = True  # type: ignore[attr-defined]  # how Gradio marks them
    mask.accept_blobs, mask.preprocess = accept_blobs, preprocess
    return mask
