"""Restyles a picture, a folder, a glob or a film with a checkpoint."""

import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tqdm import tqdm

from fastnst.commands.options import as_path, check_flags, check_numbers, check_whole, path_of, style_of, title_of
from fastnst.commands.startup import importing
from fastnst.errors import UserError, line_of, printable
from fastnst.images import STANDARD, SUFFIXES, Held, is_folder
from fastnst.inference import film
from fastnst.inference.pipeline import Line, Picture
from fastnst.inference.stylizer import LEAST, Controls, Stylizer
from fastnst.memory import free_memory, keep_freed_memory

ALL = "all"  # what `style` says for a contact sheet


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
    check_flags(cfg, "json")
    name = "+".join(path.stem for path in checkpoints)
    source, out = path_of(cfg, "img"), path_of(cfg, "out")
    if out == STANDARD:
        if cfg.json:
            raise UserError("json=true, out=-: both would go to standard output; give another out")
        if sys.stdout.isatty():
            raise UserError("out=-: standard output is a terminal; send it to a file or a program")
    # Pillow's limit is for servers. It refuses twice so many px, of four bytes, before it reads a picture or a painting.
    Image.MAX_IMAGE_PIXELS = free_memory() // 8
    style = style_of(cfg)
    if style is not None:
        name += f"_{title_of(style)}"
    if cfg.engine == "ray":
        if STANDARD in (source, out) or cfg.json:
            raise UserError("engine=ray: img=-, out=- and json=true are for this process alone; leave engine out")
        from fastnst.commands.infer_many import infer_many  # with fsspec, which nothing else needs

        return infer_many(cfg, name, checkpoints, style, controls)
    if source.is_file() and film.is_film(source, out):
        no_film = {*Image.registered_extensions(), *film.READ} - {*film.SUFFIXES}
        if out.suffix.lower() in no_film and not out.is_dir():
            raise UserError(f"out={out}: a film goes to a folder, or to a name that ends in {', '.join(film.SUFFIXES)}")
        suffix = film.KINDS.get(source.suffix.lower(), ".mp4")
        target = out if out.suffix.lower() in film.SUFFIXES else out / f"{source.stem}_{name}{suffix}"
        if out == STANDARD or style == ALL:
            raise UserError(f"{source}: a film goes to a file, in one style")
        infer_film(load(checkpoints, cfg, style), source, target, cfg.size, controls, cfg.temporal)
        print(json.dumps({"source": str(source), "result": str(target), "error": None}) if cfg.json else target)
        return
    sources: list[Any]
    if source == STANDARD:
        sources, root, names = [Held(read_input(), "standard input")], Path(), [Path("stdin.png")]
    else:
        root, names = find_pictures(str(source))
        sources = names
    into_folder = out != STANDARD and is_folder(out)
    if len(names) > 1 and not into_folder:
        raise UserError(f"out={out}: {len(names)} pictures need a folder to go to, not a file")
    targets = name_results(names, root, out, name) if into_folder else [out]
    stylizer = load(checkpoints, cfg, style)
    stylizer.check(controls)
    pictures = [Picture(source, target) for source, target in zip(sources, targets, strict=True)]
    for picture in pictures:
        if isinstance(picture.source, Path) and picture.source.suffix.lower() in film.READ:
            picture.error = UserError(f"{picture.source}: films are taken one at a time; give img={picture.source}")
    if restyle(stylizer, pictures, cfg.size, controls, cfg.json):
        raise SystemExit(2)


def load(checkpoints: list[Path], cfg: DictConfig, style: str | dict | None) -> Stylizer:
    """What restyles the pictures: a style of the checkpoints, or, for style=all, every style of a net that has several."""
    with importing():
        if style == ALL and len(checkpoints) == 1 and checkpoints[0].suffix.lower() != ".onnx":
            from fastnst.checkpoint import load_net  # with torch
            from fastnst.inference.sheet import ContactSheet

            net, info = load_net(checkpoints[0])
            if net.styles and ALL not in net.styles:
                return ContactSheet(net, info, checkpoints[0])
        return Stylizer(*checkpoints, weights=cfg.weights, style=style)


def restyle(stylizer: Stylizer, pictures: list[Picture], size: int | None, controls: Controls, as_json: bool) -> bool:
    """Restyles the pictures and says of each what came of it. Returns whether one could not be restyled."""
    alone, failed = len(pictures) == 1, False

    @contextmanager
    def showing(picture: Picture) -> Iterator[Callable[[float], object]]:
        shown = printable(Path(str(picture.source)).name)
        with ExitStack() as stack:
            part = None

            def show(share: float) -> None:  # of a picture in one pass it is not called
                nonlocal part
                if part is None:
                    part = stack.enter_context(tqdm(total=100, unit="%", leave=False, desc=shown, delay=2))
                part.update(round(100 * share) - part.n)

            yield show

    def told(picture: Picture) -> None:
        nonlocal failed
        failed = failed or picture.error is not None
        tell(picture, as_json, alone)
        bar.update()

    with tqdm(total=len(pictures), unit="picture", disable=alone) as bar:
        Line(stylizer, size, controls, told).run(pictures, showing)
    return failed


def tell(picture: Picture, as_json: bool, alone: bool) -> None:
    """Prints where the result is, on stderr what went wrong. A bug with a picture that is `alone` keeps its traceback."""
    error, message = picture.error, None
    if error is not None:
        if not isinstance(error, UserError) and alone:
            raise error
        message = str(error) if isinstance(error, UserError) else f"{picture.source}: cannot be restyled ({line_of(error)})"
        tqdm.write(f"fastnst: {printable(message)}", file=sys.stderr)  # above the progress bar
    elif picture.animated:
        tqdm.write(f"fastnst: {printable(str(picture.source))}: its first frame alone is restyled", file=sys.stderr)
    if as_json:
        width, height = picture.size or (None, None)
        line = {"source": str(picture.source), "result": None if error else str(picture.target), "width": width,
                "height": height, "seconds": round(picture.seconds, 3), "error": message}  # fmt: skip
        tqdm.write(json.dumps(line))
    elif error is None and picture.target != STANDARD:
        tqdm.write(str(picture.target))


def read_input() -> bytes:
    """All of standard input. Raises UserError for nothing, or more than a quarter of the free memory."""
    data, most = io.BytesIO(), free_memory() // 4
    while piece := sys.stdin.buffer.read(1 << 20):
        data.write(piece)
        if data.tell() > most:
            raise UserError(f"img=-: more than {most / 1e9:.1f} GB; give a file")
    if not data.tell():
        raise UserError("img=-: standard input is empty; send a picture's file to it")
    return data.getvalue()


def name_results(pictures: list[Path], root: Path, out: Path, name: str) -> list[Path]:
    """Where in the folder `out` each picture's result goes: as it lies below `root`, with `name` behind its own.

    A kind that is not written becomes PNG. Where two results would have one name, each keeps its picture's suffix in it.
    Raises UserError if that does not help, or if a result would replace one of the pictures.
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
    given = {os.path.realpath(picture) for picture in pictures}
    replaced = next((target for target in targets if os.path.realpath(target) in given), None)
    if replaced is not None:
        raise UserError(f"out={replaced}: is one of the pictures to restyle; give a folder of its own for the results")
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
