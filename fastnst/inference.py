"""Inference: a checkpoint restyles pictures, one forward pass each."""

from pathlib import Path

import torch
from PIL import Image, ImageOps

from fastnst.checkpoint import load_net
from fastnst.errors import UserError
from fastnst.images import SUFFIXES, UNREADABLE, best_device, check_suffix, fit, save, to_image, to_rgb, to_tensor

LEAST = 16  # px; the transform net's smallest side


class Stylizer:
    """A trained style, called with a PIL image.

    path: an exported .safetensors or a Lightning .ckpt. Raises UserError if it is neither.
    `info` holds what the checkpoint says of itself: style, objective, steps, version.
    """

    def __init__(self, path: str | Path):
        self.net, self.info = load_net(path)
        self.device = best_device()
        self.net.to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, image: Image.Image, size: int | None = None) -> Image.Image:
        """Restyles any picture; the result is upright RGB, or RGBA where the picture has transparency.

        size: the long side in px is reduced to it if it is longer. ICC profile and EXIF (less the orientation, which is
        carried out) are in the result's `info`. Raises ValueError for a picture with a side below 16 px.
        """
        profile = image.info.get("icc_profile")
        image = ImageOps.exif_transpose(image)
        exif = image.getexif()
        image = image.convert("RGBA") if image.has_transparency_data else to_rgb(image)
        if size is not None and max(image.size) > size:
            image = fit(image, size)
        if min(image.size) < LEAST:
            raise ValueError(f"{image.width} x {image.height} px is too small; {LEAST} px is the least side")
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        batch = to_tensor(to_rgb(image)).unsqueeze(0).to(self.device, memory_format=torch.channels_last)
        result = to_image(self.net(batch)[0])
        if alpha is not None:
            result.putalpha(alpha)
        # A profile for CMYK or grayscale values says nothing of the RGB ones that come out.
        if profile and profile[16:20] == b"RGB ":
            result.info["icc_profile"] = profile
        if len(exif):
            result.info["exif"] = exif.tobytes()
        return result


def find_pictures(img: str) -> tuple[Path, list[Path]]:
    """The pictures that `img`, a file, a folder (all below it) or a glob, names, and the folder their names start from.

    Raises UserError if there are none.
    """
    path = Path(img).expanduser()
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise UserError(f"img={img}: no pictures ({', '.join(SUFFIXES)}) in this folder or below it")
        return path, found
    if any(character in img for character in "*?["):
        root = Path(path.anchor) if path.is_absolute() else Path()
        found = sorted(p for p in root.glob(str(path.relative_to(path.anchor))) if p.is_file())
        if found:
            parents = {p.parent for p in found}
            return (parents.pop() if len(parents) == 1 else _common_parent(found)), found
        raise UserError(f"img={img}: nothing matches this pattern")
    raise UserError(f"img={img}: no such picture or folder")


def _common_parent(paths: list[Path]) -> Path:
    return next(parent for parent in paths[0].parents if all(p.is_relative_to(parent) for p in paths))


def stylize_file(stylizer: Stylizer, source: Path, target: Path, size: int | None = None) -> None:
    """Restyles one file into another, written whole or not at all; the suffix of `target` chooses the format.

    Raises UserError, naming the file, if it is not a whole picture, is too small, or `target` cannot be written.
    """
    check_suffix(target)
    if target.resolve() == source.resolve():
        raise UserError(f"out={target}: this is the photograph itself; give another name")
    try:
        with Image.open(source) as image:
            image.load()
            result = stylizer(image, size)
    except UNREADABLE as error:
        raise UserError(f"{source}: cannot be restyled ({error})") from None
    save(result, target, **{key: value for key, value in result.info.items() if key in ("icc_profile", "exif")})
