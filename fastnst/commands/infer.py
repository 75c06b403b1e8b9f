"""Restyles a picture, a folder, a glob or a film with a checkpoint."""

import os
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tqdm import tqdm

from fastnst.commands.options import as_path, check_numbers, check_whole, path_of, style_of, title_of
from fastnst.errors import UserError, line_of, printable
from fastnst.images import SUFFIXES, is_animated, is_folder
from fastnst.inference import film
from fastnst.inference.stylizer import LEAST, Controls, Stylizer, stylize_file
from fastnst.memory import free_memory, keep_freed_memory


def infer(cfg: DictConfig) -> None:
    """Restyles what `cfg` (configs/inference/infer.yaml) names. A bad picture among many is skipped; exit status 2 then.

    Raises UserError if nothing can be done at all.
    """
    keep_freed_memory()
    check_whole(cfg, {"size": LEAST, "workers": 1}, optional=["size", "workers"])
    if cfg.engine not in (None, "ray"):
        raise UserError(f"engine={cfg.engine}: give ray or null")
    controls = Controls(**{field.name: cfg[field.name] for field in fields(Controls)})
    checkpoints = [as_path(path, "ckpt") for path in (cfg.ckpt if OmegaConf.is_list(cfg.ckpt) else [cfg.ckpt])]
    check_numbers(cfg, {"temporal": (0, 1)})
    name = "+".join(path.stem for path in checkpoints)
    source, out = path_of(cfg, "img"), path_of(cfg, "out")
    # Pillow's limit is for servers. It refuses twice so many px, of four bytes, before it reads a picture or a painting.
    Image.MAX_IMAGE_PIXELS = free_memory(torch.device("cpu")) // 8
    style = style_of(cfg)
    if style is not None:
        name += f"_{title_of(style)}"
    if cfg.engine == "ray":
        from fastnst.commands.infer_many import infer_many  # with fsspec, which nothing else needs

        return infer_many(cfg, name, checkpoints, style, controls)
    if source.is_file() and film.is_film(source, out):
        no_film = {*Image.registered_extensions(), *film.READ} - {*film.SUFFIXES}
        if out.suffix.lower() in no_film and not out.is_dir():
            raise UserError(f"out={out}: a film goes to a folder, or to a name that ends in {', '.join(film.SUFFIXES)}")
        suffix = film.KINDS.get(source.suffix.lower(), ".mp4")
        target = out if out.suffix.lower() in film.SUFFIXES else out / f"{source.stem}_{name}{suffix}"
        infer_film(
            Stylizer(*checkpoints, weights=cfg.weights, style=style), source, target, cfg.size, controls, cfg.temporal
        )
        return
    root, pictures = find_pictures(str(source))
    into_folder = is_folder(out)
    if len(pictures) > 1 and not into_folder:
        raise UserError(f"out={out}: {len(pictures)} pictures need a folder to go to, not a file")
    targets = name_results(pictures, root, out, name) if into_folder else [out]
    stylizer = Stylizer(*checkpoints, weights=cfg.weights, style=style)
    stylizer.check(controls)

    failed = 0
    for picture, target in zip(tqdm(pictures, unit="picture", disable=len(pictures) == 1), targets, strict=True):
        try:
            shown = printable(picture.name)
            with tqdm(total=100, unit="%", leave=False, desc=shown, delay=2) as bar:  # shows itself for large ones

                def show(share: float) -> None:
                    bar.update(round(100 * share) - bar.n)  # noqa: B023

                if picture.suffix.lower() in film.READ:
                    raise UserError(f"{picture}: films are taken one at a time; give img={picture}")
                stylize_file(stylizer, picture, target, cfg.size, controls, show)
                with Image.open(picture) as image:
                    if is_animated(image):
                        tqdm.write(f"fastnst: {printable(str(picture))}: its first frame alone is restyled", file=sys.stderr)
        except Exception as error:  # whatever one file raises, the others are restyled
            if not isinstance(error, UserError) and len(pictures) == 1:
                raise
            message = error if isinstance(error, UserError) else f"{picture}: cannot be restyled ({line_of(error)})"
            tqdm.write(f"fastnst: {printable(str(message))}", file=sys.stderr)  # above the progress bar
            failed = 2
        else:
            tqdm.write(str(target))
    if failed:
        raise SystemExit(failed)


def name_results(pictures: list[Path], root: Path, out: Path, name: str) -> list[Path]:
    """Where in the folder `out` each picture's result goes: as it lies below `root`, with `name` behind its own.

    A kind that is not written becomes PNG. Where two results would have one name, each keeps its picture's suffix in it.
    Raises UserError if that does not help.
    """

    def result(picture: Path, stem: str) -> Path:
        suffix = picture.suffix if picture.suffix.lower() in SUFFIXES else ".png"
        return out / picture.relative_to(root).with_name(f"{stem}_{name}{suffix}")

    targets = [result(picture, picture.stem) for picture in pictures]
    count = Counter(targets)
    targets = [t if count[t] == 1 else result(p, p.name) for p, t in zip(pictures, targets, strict=True)]
    ((target, most),) = Counter(targets).most_common(1)
    if most > 1:
        raise UserError(f"out={target}: {most} pictures would be written to it; rename them, or restyle them one by one")
    return targets


def infer_film(
    stylizer: Stylizer, source: Path, target: Path, size: int | None, controls: Controls, temporal: float
) -> None:
    """Restyles a film, with a progress bar. Raises UserError if it cannot be done."""
    if os.path.realpath(target) == os.path.realpath(source):
        raise UserError(f"out={target}: this is the film itself; give another name")
    with tqdm(unit="frame", desc=printable(source.name)) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        film.restyle_film(stylizer, source, target, size, controls, temporal, show)
    print(target)


def find_pictures(img: str) -> tuple[Path, list[Path]]:
    """The pictures that `img`, a file, a folder (all below it) or a glob, names, and the folder their names start from.

    Raises UserError if there are none.
    """
    path = Path(img)
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            kinds = ", ".join(SUFFIXES)
            raise UserError(f"img={img}: no pictures ({kinds}) in this folder or below it; films are taken one at a time")
        return path, found
    if any(character in img for character in "*?["):
        root = Path(path.anchor) if path.is_absolute() else Path()
        try:
            found = sorted(p for p in root.glob(str(path.relative_to(path.anchor))) if p.is_file())
        except ValueError as error:
            raise UserError(f"img={img}: {error}") from None
        if found:
            parents = {p.parent for p in found}
            return (parents.pop() if len(parents) == 1 else _common_parent(found)), found
        raise UserError(f"img={img}: nothing matches this pattern")
    raise UserError(f"img={img}: no such picture or folder")


def _common_parent(paths: list[Path]) -> Path:
    return next(parent for parent in paths[0].parents if all(p.is_relative_to(parent) for p in paths))
