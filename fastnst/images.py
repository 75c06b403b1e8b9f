"""Pictures in and out: any file Pillow reads becomes RGB. Torch is imported where tensors are made, and not before."""

from __future__ import annotations

import io
import math
import struct
import sys
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np
import simplejpeg
from PIL import ExifTags, Image

from fastnst.errors import UserError, line_of
from fastnst.files import write_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
STANDARD = Path("-")  # standard input or output, where a picture's file could stand
LONGEST_EXIF = 65533  # bytes, of a JPEG's segment
LONGEST = 16  # how many times as long as wide a painting may be: its short side is enlarged to what training takes
LARGEST = 8.4e6  # px of a painting then; the loss network takes some 750 bytes for each
# What Pillow raises on a file that is not a whole picture: some of it is said nowhere, and comes from deep within.
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, AssertionError, TypeError, LookupError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
TURNS = {  # what an EXIF orientation asks for
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What the picture's orientation asks for; None if it is upright, or the orientation is none."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises nearly anything on tags of a wrong type
        return None


def upright(image: Image.Image) -> Image.Image:
    """The picture as it is to be seen: itself, or turned. Its EXIF is as before."""
    image.load()
    turn = turn_of(image)
    return image if turn is None else image.transpose(turn)


def exif_of(image: Image.Image) -> bytes | None:
    """The picture's EXIF less the orientation; None if there is none that can be written."""
    try:
        exif = image.getexif()
        exif.pop(ExifTags.Base.Orientation, None)
        return exif.tobytes() if len(exif) else None
    except Exception:  # Pillow raises nearly anything on tags of a wrong type
        return None


def is_animated(image: Image.Image) -> bool:
    """Whether the file has further pictures to be seen; those that a camera adds to a JPEG are none."""
    return image.format != "MPO" and getattr(image, "is_animated", False)


def has_alpha(image: Image.Image) -> bool:
    """Whether the picture has transparency. Raises ValueError for an indexed one without a palette.

    16-bit gray has none here: a PNG's one transparent value stays gray, as Pillow would clip all the others.
    """
    if image.mode == "P" and image.palette is None:
        raise ValueError("an indexed picture without a palette")
    return image.has_transparency_data and not image.mode.startswith("I")


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode: grayscale, palette, CMYK, 16-bit (scaled: Pillow's own convert clips), alpha (on white)."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32) / 257
        image = Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("a floating-point picture has no defined range")
    if has_alpha(image):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


class Readable(Protocol):
    """A picture's path, or what stands where one would: `Held`, and what fastnst.data.files has."""

    def open(self, mode: str, /) -> IO[bytes]: ...


def load_rgb(path: str | Readable, size: int | None = None) -> Image.Image:
    """Opens a picture upright in RGB, its short side reduced or enlarged to `size` px if given.

    Raises UserError if there is no such file, it is not a whole picture, or it is to have a `size` and is more than LONGEST
    times as long as wide, or would have more than LARGEST px.
    """
    path = Path(path) if isinstance(path, str) else path
    if isinstance(path, Path) and not path.is_file():
        raise UserError(f"{path}: no such picture file")
    try:
        with path.open("rb") as file, Image.open(file) as opened:
            image = to_rgb(upright(opened))
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as a picture ({line_of(error)})") from None
    if size is None:
        return image
    if max(image.size) > LONGEST * min(image.size):
        raise UserError(
            f"{path}: {image.width} x {image.height} px is too long; give a part, at most {LONGEST} times as long as wide"
        )
    if size**2 * max(image.size) > LARGEST * min(image.size):
        raise UserError(f"{path}: {image.width} x {image.height} px are too many at a short side of {size} px; give a part")
    return short_side(image, size)


def short_side(image: Image.Image, size: int) -> Image.Image:
    """The picture enlarged or reduced until its short side has so many px."""
    return _scaled(image, size / min(image.size))


def middle(image: Image.Image) -> Image.Image:
    """The picture, or, where it is more than LONGEST times as long as wide, the part in its middle that is not."""
    width, height = (min(side, LONGEST * min(image.size)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def decode(data: bytes, short_side: float) -> np.ndarray:
    """A photograph's file as upright RGB, (H, W, 3) uint8: what Pillow gives, sooner.

    A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4, 1/8 that leaves its short side at least `short_side` px.
    Raises one of UNREADABLE if the file is not a whole picture.
    """
    with Image.open(io.BytesIO(data)) as image:
        reduction = max((r for r in (2, 4, 8) if min(image.size) / r >= short_side), default=1)
        if image.format == "JPEG" and image.mode in ("RGB", "L") and turn_of(image) is None:
            least = {"min_width": math.ceil(image.width / reduction), "min_height": math.ceil(image.height / reduction)}
            try:
                return simplejpeg.decode_jpeg(data, "RGB", **least)
            except ValueError:
                pass  # it is stricter than Pillow, which decides below
        image.draft(None, (image.width // reduction, image.height // reduction))
        return np.array(to_rgb(upright(image)))


def fit(image: Image.Image, long_side: int) -> Image.Image:
    """The picture enlarged or reduced until its long side has so many px."""
    return _scaled(image, long_side / max(image.size))


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def to_tensor(image: Image.Image | np.ndarray) -> Tensor:
    """RGB picture, or its (H, W, 3) uint8 array, to a float32 tensor (3, H, W) in 0-1."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)


class Held:
    """A picture, or its file's bytes, in memory: it stands where its path would, in `load_rgb` and in a mixture's shares."""

    def __init__(self, picture: Image.Image | bytes, name: str = "a picture"):
        if isinstance(picture, Image.Image):
            data = io.BytesIO()
            to_rgb(upright(picture)).save(data, "PNG")
            picture = data.getvalue()
        self.data, self.name = picture, name

    def __repr__(self) -> str:
        return self.name

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.data)


def best_device() -> torch.device:
    """The accelerator that torch finds, CUDA, MPS (Apple) or XPU (Intel), or else the CPU."""
    import torch

    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def native_bfloat16() -> bool:
    """Whether the CPU has instructions for convolutions in bfloat16: AVX-512's, which those with AMX have, too."""
    import torch

    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()


def to_image(tensor: Tensor) -> Image.Image:
    """Tensor (3, H, W), clamped to 0-1 and rounded to 8 bits, to an RGB picture."""
    pixels = tensor.detach().float().clamp(0, 1).mul(255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def save(image: Image.Image, path: str | Path, **extras: bytes) -> None:
    """Writes a picture, whole or not at all, in the format that the suffix names; extras: icc_profile, exif.

    path: STANDARD is standard output, to which a PNG goes. EXIF that is too long for a JPEG is left out.
    Raises UserError if the suffix is none of SUFFIXES, the format cannot hold the picture or the file cannot be written.
    """
    if path == STANDARD:
        data = io.BytesIO()
        image.save(data, "PNG", **extras)
        sys.stdout.buffer.write(data.getvalue())
        sys.stdout.buffer.flush()
        return
    check_suffix(path)
    suffix, data = Path(path).suffix.lower(), io.BytesIO()
    try:
        if suffix in (".jpg", ".jpeg"):
            if len(extras.get("exif", b"")) > LONGEST_EXIF:
                del extras["exif"]
            image.convert("RGB").save(data, "JPEG", quality=95, subsampling=0, **extras)
        else:
            image.save(data, Image.registered_extensions()[suffix], **extras)
    except (OSError, ValueError) as error:  # such as WebP's limit of 16383 px
        raise UserError(f"out={path}: {image.width} x {image.height} px cannot be written as {suffix} ({error})") from None
    try:
        write_bytes(path, data.getvalue())
    except OSError as error:
        raise UserError(f"out={path}: cannot be written ({error.strerror})") from None


def check_suffix(path: str | Path) -> None:
    """Raises UserError if `path` does not end in one of SUFFIXES."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"out={path}: give a name that ends in {', '.join(SUFFIXES)}, or a folder")


def is_folder(out: Path) -> bool:
    """Whether results are meant to go into the folder `out`, there already or not, rather than into a file of that name.

    Raises UserError for the name of a picture of a kind that is not written.
    """
    if out.suffix.lower() in Image.registered_extensions() and not out.is_dir():
        check_suffix(out)
        return False
    return True
