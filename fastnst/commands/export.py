"""Exports a checkpoint to another runtime, and tries what it has written: read `export` from top to bottom."""

import copy

from omegaconf import DictConfig

from fastnst.checkpoint import choose_style, load_net
from fastnst.commands.options import check_flags, path_of, style_of, title_of
from fastnst.errors import UserError
from fastnst.files import check_writable, write_bytes
from fastnst.inference.card import card
from fastnst.inference.export import (
    SUFFIX,
    Product,
    export_checkpoint,
    export_product,
    largest_difference,
    load_exported,
    sizes_of,
    time_a_pass,
)
from fastnst.models.regions import Regions
from fastnst.shipped import checkpoint_file
from fastnst.web.browser.bundle import export_page


def export(cfg: DictConfig) -> None:
    """Does what `cfg` (configs/inference/export.yaml) describes. Raises UserError for anything in it that cannot be used."""
    if cfg.format not in SUFFIX:
        raise UserError(f"format={cfg.format}: give {', '.join(SUFFIX)}")
    if cfg.processing not in ("inside", "outside"):
        raise UserError(f"processing={cfg.processing}: give inside or outside")
    check_flags(cfg, "half", "page")
    if cfg.format == "executorch" and cfg.half:
        raise UserError("half=true: ExecuTorch's results are wrong then; leave it out")
    if cfg.page and (cfg.format, cfg.processing) != ("onnx", "inside"):
        raise UserError("page=true: the page runs format=onnx with processing=inside")
    checkpoint, path, suffix = path_of(cfg, "ckpt"), path_of(cfg, "out"), SUFFIX[cfg.format]
    style = style_of(cfg)
    whole, info = load_net(checkpoint)
    if cfg.format == "safetensors" and style is None:
        net = whole.fold(whole.first_row())  # one of its styles, to try the file with
    else:
        net = choose_style(whole, info, checkpoint, style).at(1.0)
    if isinstance(net, Regions):
        raise UserError("style: an exported file takes no masks; give a style, or shares of several")
    if path.suffix in SUFFIX.values() and path.suffix != suffix:
        raise UserError(f"out={path}: a file of format={cfg.format} ends in {suffix}")
    if path.suffix != suffix:
        path = path / f"{checkpoint.stem}{suffix}"
    check_writable(path.parent)
    if cfg.format == "safetensors":
        inside = False  # a checkpoint holds the net alone
        if style is None:
            export_checkpoint(copy.deepcopy(whole), cfg.half, path, info)
        else:
            export_checkpoint(copy.deepcopy(net), cfg.half, path, info, title_of(style))
    else:
        inside = cfg.processing == "inside"
        product = Product(copy.deepcopy(net), inside, cfg.half).eval()
        export_product(
            product, cfg.format, path, info | {"processing": cfg.processing, "half": cfg.half, "width": net.channels}
        )
    call, _ = load_exported(path, cfg.format)
    difference = f"{largest_difference(call, net, inside, sizes_of(cfg.format)):.3g} / 255"
    print(f"largest difference from the checkpoint in float32: {difference}")
    known = info if style is None else info | {"style": info.get("style", {}) | {"name": title_of(style)}}
    measured = {"largest difference from the checkpoint": difference, "time of a pass": time_a_pass(call, inside)}
    about = path.with_name(f"{path.name}.md")
    write_bytes(about, card(checkpoint_file(checkpoint), path, cfg.format, known, measured).encode())
    print(f"{about}: its card")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if cfg.page:
        folder = path.with_name(f"{path.stem}_page")
        export_page(path, folder)
        print(f"{folder}: serve it with python -m http.server --directory {folder}")
