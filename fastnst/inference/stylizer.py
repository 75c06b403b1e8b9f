"""Inference: a checkpoint restyles pictures, one forward pass each.

Torch is imported when a checkpoint is loaded that needs it: an ONNX file runs without.
"""

from __future__ import annotations

import copy
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fastnst.errors import UserError, is_number, is_whole, line_of
from fastnst.images import (
    STANDARD,
    UNREADABLE,
    Held,
    best_device,
    check_suffix,
    exif_of,
    fit,
    has_alpha,
    native_bfloat16,
    save,
    to_rgb,
    upright,
)
from fastnst.memory import free_memory, short_of_memory
from fastnst.models.dials import MOST_BRUSHWORK, MOST_WEIGHT, brushwork_of, scaled

if TYPE_CHECKING:
    import torch

    from fastnst.checkpoint import Style
    from fastnst.inference.folded import Folded
    from fastnst.models.arbitrary import Painted
    from fastnst.models.regions import Regions
    from fastnst.models.transform_net import TransformNet

    Loaded = tuple[TransformNet | Regions | Painted, dict]  # a style of a net, and its checkpoint's info

# A forked process has none of its parent's threads, and torch would wait for them without end: it computes on its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: "torch" in sys.modules and sys.modules["torch"].set_num_threads(1))

LEAST = 16  # px; the transform net's smallest side
STYLE_SIZES = 64, 512  # px that a painting's short side may have; training shows a net those from 0.6 of its own on
# Bytes of memory that one pass takes for each px and each channel of the net's width, with a margin; a folded one.
BYTES, FOLDED_BYTES = 40, 20
PRECISIONS = "auto", "float32", "bfloat16"


@dataclass(frozen=True)
class Controls:
    """How a picture is restyled.

    strength: from 0, the photograph, to 1, the result; with a zero-shot net, from the photograph's own style to the
    painting's. preserve_color: the photograph's chroma (Cb, Cr) with the result's luminance (Y).
    style_scale: the strokes' size, 0.1-10; the net works on a picture so many times smaller.
    style_size, style_weight: of a zero-shot net alone: px of the painting's short side, at which the net looks at it (a
    larger painting has larger strokes; None: as in training); and how much its style counts, from 1 / MOST_WEIGHT to
    MOST_WEIGHT.
    tile: rows of the picture computed at a time, or columns where it is wider than high (see `tiling`: the same result in
    less memory); None: all at once; `auto`: all at once if there is memory for it.
    brushwork: how strong the faint strokes are that the photograph gets first (fastnst/brushwork.py), levels of 255 from 0
    to MOST_BRUSHWORK; None: as the net was trained, of several the mean. Films have none.
    precision: `float32`, or `bfloat16`, which changes a result by a level or two of 255; `auto`: bfloat16 where the CPU has
    instructions for it. Strips are computed in float32 always.
    Raises UserError for any other value.
    """

    strength: float = 1.0
    preserve_color: bool = False
    style_scale: float = 1.0
    tile: int | str | None = "auto"
    style_size: int | None = None
    style_weight: float = 1.0
    brushwork: float | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        weights = round(1 / MOST_WEIGHT, 2), MOST_WEIGHT
        limits = [("strength", 0, 1), ("style_scale", 0.1, 10), ("style_weight", *weights)]
        limits += [("brushwork", 0, MOST_BRUSHWORK)] if self.brushwork is not None else []
        for name, least, most in limits:
            if not is_number(getattr(self, name), least, most):
                raise UserError(f"{name}={getattr(self, name)}: give a number from {least} to {most}")
            object.__setattr__(self, name, float(getattr(self, name)))  # NumPy's scalars overflow
        if not isinstance(self.preserve_color, (bool, np.bool_)):
            raise UserError(f"preserve_color={self.preserve_color}: give true or false")
        object.__setattr__(self, "preserve_color", bool(self.preserve_color))
        least, most = STYLE_SIZES
        if self.style_size is not None:
            if not is_whole(self.style_size, least) or self.style_size > most:
                raise UserError(f"style_size={self.style_size}: give a whole number from {least} to {most}, or null")
            object.__setattr__(self, "style_size", int(self.style_size))
        if self.tile not in ("auto", None):
            if not is_whole(self.tile, LEAST):
                raise UserError(f"tile={self.tile}: give auto, null or a number of rows from {LEAST}")
            object.__setattr__(self, "tile", int(self.tile))
        if self.precision not in PRECISIONS:
            raise UserError(f"precision={self.precision}: give {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")


DEFAULTS = Controls()
NO_DIALS = DEFAULTS.style_size, DEFAULTS.style_weight


class Stylizer:
    """A trained style, called with a PIL image; or several, mixed: by their weights if they have one ancestor, or else by
    their results.

    checkpoints: each an exported .safetensors, a Lightning .ckpt, the name of a shipped one, or what `load_style` gives for
    one, (net, info); or all of them ONNX files, see `fastnst.inference.onnx_net.OnnxNet`. weights: the share of each, scaled
    to a sum of 1; the same for all if left out. style: which of a checkpoint's styles, see `fastnst.checkpoint.load_style`.
    Raises UserError if a file is neither, or for weights or styles that do not fit.
    `info` holds what the (first) checkpoint says of itself: style, objective, steps, version.
    """

    def __init__(self, *checkpoints: str | Path | Loaded, weights: Sequence[float] | None = None, style: Style = None):
        if not checkpoints:
            raise UserError("ckpt=[]: give a checkpoint")
        weights = [1.0] * len(checkpoints) if weights is None else weights
        if not isinstance(weights, (Sequence, np.ndarray)) or isinstance(weights, str) or len(weights) != len(checkpoints):
            raise UserError(f"weights={weights}: give one for each of the {len(checkpoints)} checkpoints")
        self.weights = scaled(weights, f"weights={weights}")
        onnx = [isinstance(given, (str, Path)) and Path(given).suffix.lower() == ".onnx" for given in checkpoints]
        self.nets: list[Any] = []
        self.device: Any = None  # a torch.device; without torch None
        self.inference: Callable[[], AbstractContextManager] = nullcontext
        if any(onnx):
            self._run_onnx(checkpoints, style, all(onnx))
            return
        import torch

        from fastnst.checkpoint import load_style
        from fastnst.models.arbitrary import Painted

        self.device, self.inference = best_device(), torch.inference_mode
        loaded = [given if isinstance(given, tuple) else load_style(given, style) for given in checkpoints]
        self.styles = [style for style, _ in loaded]
        self._heed([info for _, info in loaded])
        self.nets = [self._ready(style.at(1.0)) for style in self.styles]
        if are_relatives(loaded):
            self.nets, self.weights = [interpolated(self.nets, self.weights)], [1.0]
        self.folded: dict[tuple[int, torch.dtype], Folded] = {}  # by the net's number and the precision
        painted = self.styles[0]  # whose dials can be turned, if it is alone
        self.painted = painted if len(self.nets) == 1 and isinstance(painted, Painted) else None

    def _run_onnx(self, checkpoints: Sequence[Any], style: Style, alone: bool) -> None:
        from fastnst.inference.onnx_net import OnnxNet

        if not alone:
            raise UserError("ckpt: an ONNX file is mixed with ONNX files alone; give the checkpoints that they come from")
        if style is not None:
            raise UserError(f"style: {checkpoints[0]} holds one style; leave style out, or give the checkpoint")
        self.nets = [OnnxNet(path) for path in checkpoints]
        self.styles, self.painted = [], None
        self._heed([net.info for net in self.nets])

    def _heed(self, infos: Sequence[dict]) -> None:
        """Takes what the checkpoints, or ONNX files, say of themselves."""
        self.info = infos[0]
        self.brushwork = sum(w * brushwork_of(info) for w, info in zip(self.weights, infos, strict=True))  # levels of 255

    def _ready(self, net: TransformNet | Regions) -> Any:
        import torch

        return net.to(self.device).to(memory_format=torch.channels_last)

    def __call__(
        self,
        image: Image.Image,
        size: int | None = None,
        controls: Controls = DEFAULTS,
        *,
        progress: Callable[[float], object] = lambda share: None,
        **changes: Any,
    ) -> Image.Image:
        """Restyles any picture; the result is upright RGB, or RGBA where the picture has transparency.

        size: the long side in px is reduced to it if it is longer. ICC profile and EXIF (less the orientation, which is
        carried out; all of it, where a tag of a wrong type cannot be written) are in the result's `info`.
        changes: of single controls, such as strength=0.7. progress: called with the share done of a picture in strips.
        Raises TypeError for anything but a PIL image, ValueError for a picture with a side below 16 px, there or at the
        working size, UserError for other values.
        """
        if not isinstance(image, Image.Image):
            raise TypeError(
                f"give a PIL image, such as Image.open(file) or Image.fromarray(array), not a {type(image).__name__}"
            )
        if size is not None and not is_whole(size, LEAST):
            raise UserError(f"size={size}: give a whole number from {LEAST}")
        controls = replace(controls, **changes)
        profile = image.info.get("icc_profile")
        # Copies are avoided where nothing changes: a picture may be a good part of the memory.
        image = upright(image)
        exif = exif_of(image)
        image = image.convert("RGBA") if has_alpha(image) else to_rgb(image)
        if size is not None and max(image.size) > size:
            image = fit(image, int(size))
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        (result,) = self.restyle([to_rgb(image)], controls, progress)
        if alpha is not None:
            result.putalpha(alpha)
        # A profile for CMYK or grayscale values says nothing of the RGB ones that come out.
        if profile and profile[16:20] == b"RGB ":
            result.info["icc_profile"] = profile
        if exif:
            result.info["exif"] = exif
        return result

    def restyle(
        self,
        photographs: list[Image.Image],
        controls: Controls = DEFAULTS,
        progress: Callable[[float], object] = lambda share: None,
    ) -> list[Image.Image]:
        """Restyles RGB pictures of one size in one pass, as `__call__` does one."""
        size = photographs[0].size
        working, strength = photographs, controls.strength
        if controls.style_scale != 1:
            working = [fit(photograph, max(1, round(max(size) / controls.style_scale))) for photograph in photographs]
        if min(working[0].size) < LEAST:
            raise ValueError(f"{working[0].width} x {working[0].height} px is too small; {LEAST} px is the least side")
        self.check(controls)
        nets, results = self.nets, []
        dials = controls.style_size, controls.style_weight
        amount = self.brushwork if controls.brushwork is None else controls.brushwork
        if amount:
            from fastnst.brushwork import brushed_picture  # which imports torch, also for ONNX files

            pixels = [brushed_picture(picture, amount) for picture in working]
        else:
            pixels = [np.asarray(picture) for picture in working]
        with self.inference():
            if self.painted is not None and (strength < 1 or dials != NO_DIALS):
                # Between two styles, and not between two pictures: strokes fade without a double image.
                nets, strength = [self._ready(self.painted.at(strength, photographs[0], *dials))], 1.0
            mixed = self._mixed(nets, np.stack(pixels) if len(pixels) > 1 else pixels[0][None], controls, progress)
        del pixels
        for photograph, pixels in zip(photographs, mixed, strict=True):
            result = Image.fromarray(pixels)
            if result.size != size:
                result = result.resize(size, Image.Resampling.LANCZOS)
            if controls.preserve_color:
                luminance, _, _ = result.convert("YCbCr").split()
                _, *chroma = photograph.convert("YCbCr").split()
                result = Image.merge("YCbCr", (luminance, *chroma)).convert("RGB")
            results.append(Image.blend(photograph, result, strength) if strength < 1 else result)
        return results

    def check(self, controls: Controls) -> None:
        """Raises UserError for controls that this style does not have."""
        if self.painted is None and (controls.style_size, controls.style_weight) != NO_DIALS:
            raise UserError("style_size, style_weight: one zero-shot net has these dials, such as ckpt=arbitrary")
        if self.device is None and controls.tile not in ("auto", None):
            raise UserError(f"tile={controls.tile}: an ONNX file has no strips; give tile=auto, or the checkpoint")
        if self.device is None and controls.precision == "bfloat16":
            raise UserError("precision=bfloat16: an ONNX file has its own; export it with half=true, or give the checkpoint")

    def _mixed(self, nets: list[Any], pictures: np.ndarray, controls: Controls, progress) -> np.ndarray:
        """The nets' results for pictures, (N, H, W, 3) uint8, mixed by their weights."""
        if len(nets) == 1:
            return self._pass(nets[0], pictures, controls, progress)
        mixed = np.zeros(pictures.shape, np.float32)
        for i, (net, weight) in enumerate(zip(nets, self.weights, strict=True)):
            mixed += weight * self._pass(net, pictures, controls, lambda share, i=i: progress((i + share) / len(nets)))
        return mixed.round().astype(np.uint8)

    def _pass(self, net: Any, pictures: np.ndarray, controls: Controls, progress) -> np.ndarray:
        folded = None if self.device is None else self._folded(net, controls.precision)
        tile = controls.tile
        if isinstance(tile, str):  # auto
            taken = BYTES if folded is None else FOLDED_BYTES
            tile = rows_at_a_time(pictures.shape, net.channels, free_memory(self.device), taken)
        if self.device is None:
            if tile is not None:
                size = f"{pictures.shape[2]} x {pictures.shape[1]} px"
                raise UserError(f"{size} take too much memory in one pass of an ONNX file; give a size=, or the checkpoint")
            return net(pictures)
        import torch

        from fastnst.inference.tiling import restyle_in_strips

        if tile is not None:
            net = net.sized(*pictures.shape[1:3])
            with short_of_memory():
                results = [restyle_in_strips(net, picture, tile, progress) for picture in pictures]
        elif folded is not None:
            results = [folded(picture) for picture in pictures]
        else:
            net = net.sized(*pictures.shape[1:3])
            batch = torch.tensor(pictures, device=self.device).permute(0, 3, 1, 2).float() / 255
            with torch.autocast(self.device.type, torch.bfloat16, enabled=controls.precision == "bfloat16"):
                restyled = net(batch.contiguous(memory_format=torch.channels_last))
            return restyled.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return np.stack(results) if len(results) > 1 else results[0][None]

    def _folded(self, net: TransformNet, precision: str) -> Folded | None:
        """The net's fast form, if it has one; those of the Stylizer's own nets are kept."""
        import torch

        from fastnst.inference.folded import Folded, folds

        if not folds(net):
            return None
        half = precision == "bfloat16" or (precision == "auto" and native_bfloat16())
        dtype = torch.bfloat16 if half else torch.float32
        if net not in self.nets:
            return Folded(net, dtype)
        key = self.nets.index(net), dtype
        if key not in self.folded:
            self.folded[key] = Folded(net, dtype)
        return self.folded[key]


def are_relatives(loaded: Sequence[Loaded]) -> bool:
    """Whether nets, each with its checkpoint's info, go back to one net by training, so that their weights can be mixed."""
    from fastnst.checkpoint import ancestor
    from fastnst.models.transform_net import TransformNet

    nets = [(net, info) for net, info in loaded if isinstance(net, TransformNet)]
    if len(loaded) < 2 or len(nets) < len(loaded):
        return False
    return len({(str(net.architecture), ancestor(net, info)) for net, info in nets}) == 1


def interpolated(nets: Sequence[TransformNet], shares: Sequence[float]) -> TransformNet:
    """The net with the mean of the nets' weights: one pass for all, and sharper than the mean of their results."""
    net = copy.deepcopy(nets[0])
    states = [other.state_dict() for other in nets]
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():  # batch normalization counts its batches too
            tensor.copy_(sum(share * state[name] for share, state in zip(shares, states, strict=True)))
    return net


def rows_at_a_time(shape: tuple[int, ...], width: int, free: int, taken: int = BYTES) -> int | None:
    """None if pictures of `shape` (N, H, W, 3) take at most half of the `free` bytes in one pass, or else rows that do.

    width: the net's channels. taken: bytes that one pass takes for each px and channel. In strips a few hundred MB are
    enough, and larger ones are hardly faster. Of a picture wider than high columns are counted, as strips run across the
    longer side.
    """
    row = min(shape[1:3]) * BYTES * width
    if np.prod(shape[:3]) * taken * width <= free / 2:
        return None
    return max(LEAST, min(512, int(min(free / 8, 256e6) / row)))


def check_memory(stylizer: Stylizer, shape: tuple[int, int], size: int | None = None, style_scale: float = 1.0) -> None:
    """Raises UserError if a picture of (width, height) px takes more memory than there is, even in strips.

    size, style_scale: as `Stylizer` takes them.
    """
    width = max(net.channels for net in stylizer.nets)
    masks = max(len(getattr(net, "masks", ())) for net in stylizer.nets)
    pixels = shape[0] * shape[1]
    result = pixels if size is None else pixels * min(1.0, size / max(shape)) ** 2
    # Pillow holds four bytes for each px. Beside the bytes in and out, strips keep two maps of width / 2. A mask is kept as
    # float32 in three sizes, twice where the net is turned.
    needed = 4 * pixels + 8 * result + (6 + width + 12 * masks) * result / style_scale**2
    free = free_memory()
    if needed > free:
        raise UserError(
            f"{shape[0]} x {shape[1]} px take {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; give a size="
        )


def open_file(
    stylizer: Stylizer, source: Path | Held, size: int | None, controls: Controls, most: float = math.inf
) -> Image.Image | None:
    """A photograph's file, held against memory and decoded; whoever asks closes it. None if it has more than `most` px.

    Raises UserError, naming the file, if it is not a whole picture.
    """
    with naming(source), ExitStack() as stack:
        image = stack.enter_context(Image.open(source if isinstance(source, Path) else source.open()))
        if image.width * image.height > most:
            return None
        check_memory(stylizer, image.size, size, controls.style_scale)
        image.load()
        stack.pop_all()
        return image


@contextmanager
def naming(source: Path | Held) -> Iterator[None]:
    """Whatever a picture's file makes Pillow raise becomes a UserError that names it."""
    try:
        yield
    except (*UNREADABLE, UserError) as error:
        raise UserError(f"{source}: cannot be restyled ({line_of(error)})") from None


def check_target(source: Path | Held, target: Path) -> None:
    """Raises UserError if `target` is no name for a result, or the photograph itself."""
    if target == STANDARD:
        return
    check_suffix(target)
    if isinstance(source, Path) and os.path.realpath(target) == os.path.realpath(
        source
    ):  # resolve() raises on a link to itself
        raise UserError(f"out={target}: this is the photograph itself; give another name")


def save_result(result: Image.Image, target: Path) -> None:
    """Writes what a Stylizer gave, with its profile and EXIF. Raises UserError if it cannot be written."""
    save(result, target, **{key: value for key, value in result.info.items() if key in ("icc_profile", "exif")})


def stylize_file(
    stylizer: Stylizer,
    source: Path,
    target: Path,
    size: int | None = None,
    controls: Controls = DEFAULTS,
    progress: Callable[[float], object] = lambda share: None,
) -> None:
    """Restyles one file into another, written whole or not at all; the suffix of `target` chooses the format.

    size, progress: as `Stylizer` takes them. Raises UserError, naming the file, if it is not a whole picture, is too small,
    or `target` cannot be written.
    """
    check_target(source, target)
    image = open_file(stylizer, source, size, controls)
    assert image is not None
    with naming(source), image:
        result = stylizer(image, size, controls, progress=progress)
    save_result(result, target)
