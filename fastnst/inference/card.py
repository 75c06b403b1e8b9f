"""The model card beside a checkpoint or an exported file: what is known of the net, and what was measured."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastnst.data.workers import cores
from fastnst.files import write_bytes
from fastnst.shipped import figures_of, painting_of

UNKNOWN = "not recorded"
USE = {
    "onnx": "ONNX Runtime, or any other runtime of ONNX",
    "pt2": "torch.export.load",
    "executorch": "ExecuTorch, in an app or in Python",
    "safetensors": "fastnst.load, or scripts/infer.py",
}


def write_card(checkpoint: Path, path: Path, form: str, info: Mapping[str, Any], measured: Mapping[str, str]) -> Path:
    """Writes the `card` of the file `path` beside it, and returns where."""
    about = path.with_name(f"{path.name}.md")
    write_bytes(about, card(checkpoint, path, form, info, measured).encode())
    return about


def card(checkpoint: Path, path: Path, form: str, info: Mapping[str, Any], measured: Mapping[str, str]) -> str:
    """Markdown. info: the checkpoint's own. measured: what was measured at export, by what it is.

    Nothing is guessed: what the checkpoint does not tell is said to be not recorded.
    """
    style, data = info.get("style", {}), info.get("data")
    rows = {
        "style": style.get("name", UNKNOWN),
        "painting and licence": _painting(checkpoint, style),
        "seen in training at": f"a short side of {style['size']} px" if "size" in style else UNKNOWN,
        "photographs": ", ".join(f"{name} {value}" for name, value in data.items()) if data else UNKNOWN,
        "training steps": info.get("steps", UNKNOWN),
        "validation": _validation(info),
        "figures over ten held-out photographs": figures_of(checkpoint),
        "loss network": _loss_network(info),
        "converted from a net of": info.get("converted"),
        "fastnst": info.get("version", UNKNOWN),
        "file": f"`{path.name}`, {path.stat().st_size / 1e6:.1f} MB, for {USE[form]}",
        **measured,
    }
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items() if value is not None)
    return f"# {_cell(path.name)}\n\nA net that restyles pictures in one pass.\n\n| | |\n| --- | --- |\n{table}\n"


def machine() -> str:
    """Where something was measured."""
    return f"{platform.machine()} CPU with {cores()} cores"


def _painting(checkpoint: Path, style: Mapping[str, Any]) -> str:
    """What the table of the shipped checkpoints says, or the hashes of the files that training saw."""
    shipped = painting_of(checkpoint)
    if shipped is not None:
        return shipped
    images = style.get("image")
    if not isinstance(images, Mapping) or not images:
        return UNKNOWN
    return ", ".join(f"{name} (SHA-256 {digest}...)" for name, digest in images.items()) + f"; licence {UNKNOWN}"


def _validation(info: Mapping[str, Any]) -> str:
    values = {name.removeprefix("val/"): value for name, value in info.get("validation", {}).items()}
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items() if "/" not in name) or UNKNOWN


def _loss_network(info: Mapping[str, Any]) -> str:
    used = info.get("objective", {}).get("loss_network", {})
    return ", ".join(map(str, used.values())) or UNKNOWN


def _cell(value: object) -> str:
    """Text that leaves its cell of a table in one piece."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
