"""Checkpoints for inference: a safetensors file with a net's weights, and what they are, as metadata.

Nothing here unpickles: a Lightning .ckpt is read by torch's weights_only loader, which makes tensors and plain containers.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fastnst.errors import UserError, is_name, line_of
from fastnst.files import write_bytes
from fastnst.images import UNREADABLE, Held, load_rgb, to_rgb, upright
from fastnst.models.arbitrary import ArbitraryNet, Painted
from fastnst.models.conditional import MultiStyleNet
from fastnst.models.net import Net, Shares
from fastnst.models.regions import Regions
from fastnst.models.transform_net import TransformNet
from fastnst.shipped import checkpoint_file

FORMAT = "fastnst transform net 1"
LARGEST = 1e12  # weight; products of larger ones overflow
KINDS = {net.kind: net for net in (MultiStyleNet, ArbitraryNet)}
Mask = str | Path | Image.Image
Mixture = Mapping[str, Any] | Mapping[Path, Any] | Mapping[str | Path, Any]  # shares, or masks
Style = str | Path | Image.Image | Mixture | None  # which style of a checkpoint: see `load_style`


def export(path: str | Path, net: Net, info: dict) -> None:
    """Writes `net` and `info` (anything JSON holds: style, objective, steps, version), whole or not at all."""
    metadata = {"format": FORMAT, "architecture": json.dumps(net.architecture), "info": json.dumps(info)}
    write_bytes(path, save({k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}, metadata))


def load_net(path: str | Path) -> tuple[Net, dict]:
    """The net, in eval mode on the CPU, and its info, from an exported file or a Lightning .ckpt.

    path: a file, or the name of a shipped checkpoint, see `fastnst.shipped.checkpoint_file`. Raises UserError, with a line
    that says what is wrong, for anything else.
    """
    path = checkpoint_file(path)
    return load_training(path) if path.suffix == ".ckpt" else _assembled(path, *_read_exported(path))


def load_training(path: Path) -> tuple[Net, dict]:
    """The same from a Lightning .ckpt, whatever its name."""
    return _assembled(path, *_read_training(path))


def _assembled(path: Path, weights: dict[str, Tensor], architecture: dict, info: dict) -> tuple[Net, dict]:
    try:
        if not isinstance(architecture, dict):
            raise TypeError("no architecture")
        if not all(tensor.is_floating_point() or tensor.dtype == torch.int64 for tensor in weights.values()):
            raise TypeError("they are not floating-point numbers")  # int64: batch normalization counts its batches
        with torch.device("meta"):  # without memory: a few bytes can name a net of gigabytes
            build(architecture).load_state_dict(weights, assign=True)
        net = build(architecture)
        net.load_state_dict(weights)  # half-precision files save space, not time: a CPU computes in float32
    except (RuntimeError, TypeError, KeyError, UserError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: its weights are not those of the transform net it names ({reason})") from None
    if not isinstance(info, dict) or not all(isinstance(info.get(part, {}), dict) for part in ("style", "objective")):
        raise UserError(f"{path}: what it says of itself is not what training writes")
    # Files are called after them. A net of several styles has their names joined by plus signs as its own.
    names = [*net.styles, *filter(None, str(info.get("style", {}).get("name", "")).split("+"))]
    for name in names:
        if not is_name(name):
            raise UserError(f"{path}: {ascii(name)[:100]} cannot be the name of a style")
    if not all((tensor.float().abs() < LARGEST).all() for tensor in weights.values()):
        raise UserError(f"{path}: holds weights that are not finite numbers, or huge; its training had failed")
    return net.eval(), info


def load_style(path: str | Path, style: Style = None) -> tuple[TransformNet | Regions | Painted, dict]:
    """One style of a checkpoint, and the checkpoint's info.

    style: for a checkpoint of several styles a name, for a zero-shot one a picture, as a file or a PIL image; or {name or
    file: share} to mix them, or {name or file: mask} to have each where its mask, a picture's file or a PIL image, is white:
    see `fastnst.models.regions.Regions`. A checkpoint of one style wants none. Raises UserError where the two do not fit,
    TypeError for anything else, such as a tensor.
    """
    net, info = load_net(path)
    return choose_style(net, info, path, style), info


def choose_style(net: Net, info: dict, path: str | Path, style: Style = None) -> TransformNet | Regions | Painted:
    """`load_style` from what `load_net` has read from `path`."""
    masks = None
    if isinstance(style, Mapping) and any(isinstance(value, Mask) for value in style.values()):
        masks, style = _masks(style), dict.fromkeys(style, 1.0)
    return net.pick(_shares(style), info, path, masks)


def _masks(regions: Mixture) -> list[Image.Image]:
    """The masks of a style that has regions, in gray."""
    if not all(isinstance(value, Mask) for value in regions.values()):
        raise UserError(f"style={', '.join(map(str, regions))}: give a number for each, or a mask for each")
    return [_mask(name, mask) for name, mask in regions.items()]


def _mask(name: str | Path, mask: Mask) -> Image.Image:
    try:
        picture = to_rgb(upright(mask)) if isinstance(mask, Image.Image) else load_rgb(mask)
    except UNREADABLE as error:
        raise UserError(f"the mask of {name}: {line_of(error)}") from None
    return picture.convert("L")


def _shares(style: Style) -> Shares | None:
    if style is None:
        return None
    if isinstance(style, Image.Image):
        return {Held(style): 1.0}
    if isinstance(style, (str, Path)):
        return {str(style): 1.0}
    if not isinstance(style, Mapping):
        raise TypeError(
            f"style is a {type(style).__name__}; give a name, a picture's file, a PIL image, or shares of several"
        )
    if not style:
        raise UserError("style={}: give shares, such as {wave: 0.5, starry: 0.5}")
    return {str(name): share for name, share in style.items()}


def ancestor(net: Net, info: dict) -> str:
    """The net that this one goes back to, over all `init`; itself if it was trained from scratch.

    Nets of one ancestor are close enough for their weights to be interpolated.
    """
    if "ancestor" in info:
        return str(info["ancestor"])
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        name = "rows" if name == "embeddings" else name  # as checkpoints before 0.2.0 call it, and were hashed
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def build(architecture: dict) -> Net:
    """A net of that `architecture` with random weights. Raises TypeError, KeyError or UserError for an invalid one."""
    arguments = dict(architecture)
    return KINDS[arguments.pop("kind")](**arguments) if "kind" in arguments else TransformNet(**arguments)


def _read_exported(path: Path) -> tuple[dict[str, Tensor], dict, dict]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path}: a safetensors file, but not a fastnst checkpoint")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return weights, json.loads(metadata["architecture"]), json.loads(metadata["info"])
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: not a fastnst checkpoint, or a damaged one ({error})") from None


def _read_training(path: Path) -> tuple[dict[str, Tensor], dict, dict]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = {k.removeprefix("net."): v for k, v in state["state_dict"].items() if k.startswith("net.")}
        return weights, state["fastnst"]["architecture"], state["fastnst"]["info"]
    except Exception:  # torch.load raises nearly anything on a file that is not its own
        raise UserError(f"{path}: not a checkpoint of fastnst's training, or a damaged one") from None
