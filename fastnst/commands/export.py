"""Exports a checkpoint to another runtime, and tries what it has written: read `export` from top to bottom."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from fastnst.checkpoint import choose_style, load_net
from fastnst.commands.options import as_path, by_name, check_flags, path_of, style_of, title_of
from fastnst.errors import UserError, is_name
from fastnst.evaluation.pictures import read
from fastnst.files import check_writable
from fastnst.inference.card import write_card
from fastnst.inference.export import (
    SUFFIX,
    Predictor,
    Product,
    export_checkpoint,
    export_predictor,
    export_product,
    largest_difference,
    load_exported,
    sizes_of,
    time_a_pass,
)
from fastnst.models.arbitrary import ArbitraryNet
from fastnst.models.colors import SIDE
from fastnst.models.conditional import StyledNet
from fastnst.models.net import Net
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
    if cfg.page:
        return _page(cfg)
    checkpoint, path, suffix = path_of(cfg, "ckpt"), path_of(cfg, "out"), SUFFIX[cfg.format]
    style = style_of(cfg)
    whole, info = load_net(checkpoint)
    if cfg.painting is not None:
        whole.light(_paintings(cfg.painting, whole, info))
        info["lit"] = True
        info.pop("validation", None)  # that of paler results
    # With the embedding as an input, and all styles in one file.
    styled = whole if cfg.format == "onnx" and style is None and isinstance(whole, StyledNet) else None
    if styled is not None or (cfg.format == "safetensors" and style is None):
        net = whole.fold(whole.first_embedding())  # one of its styles, to try the file with
    else:
        net = choose_style(whole, info, checkpoint, style).at(1.0)
    if isinstance(net, Regions):
        raise UserError("style: an exported file takes no masks; give a style, or shares of several")
    if path.suffix in SUFFIX.values() and path.suffix != suffix:
        raise UserError(f"out={path}: a file of format={cfg.format} ends in {suffix}")
    if path.suffix != suffix:
        path = path / f"{checkpoint.stem}{suffix}"
    if cfg.format == "safetensors" and style is not None and not is_name(title_of(style)):
        raise UserError(f"style={title_of(style)}: cannot be the name of a style; rename the file")
    if path.exists() and path.samefile(checkpoint_file(checkpoint)):
        raise UserError(f"out={path}: would replace the checkpoint itself; give another name")
    check_writable(path.parent)
    if style is not None:
        info |= {"style": _told(info.get("style", {}), title_of(style))}
    if cfg.format == "safetensors":
        inside = False  # a checkpoint holds the net alone
        if style is None:
            export_checkpoint(copy.deepcopy(whole), cfg.half, path, info)
        else:
            export_checkpoint(copy.deepcopy(net), cfg.half, path, info, title_of(style))
    else:
        inside = cfg.processing == "inside"
        info |= {"processing": cfg.processing, "half": cfg.half, "width": net.channels}
        if styled is not None:
            info["embeddings"] = {name: styled.first_embedding(name).tolist() for name in styled.styles}
        exported = net if styled is None else styled
        export_product(Product(copy.deepcopy(exported), inside, cfg.half).eval(), cfg.format, path, info)
    call, _ = load_exported(path, cfg.format)
    if styled is not None:
        call = _with(call, styled.first_embedding())
    difference = f"{largest_difference(call, net, inside, sizes_of(cfg.format)):.3g} / 255"
    original = "the checkpoint" if cfg.painting is None else "the checkpoint with that lightness"
    print(f"largest difference from {original} in float32: {difference}")
    measured = {f"largest difference from {original}": difference, "time of a pass": time_a_pass(call, inside)}
    about = write_card(checkpoint_file(checkpoint), path, cfg.format, info, measured)
    print(f"{about}: its card")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if isinstance(styled, ArbitraryNet):
        path = path.with_name(f"{path.stem}_painting.onnx")
        export_predictor(Predictor(styled, info, checkpoint, inside).eval(), path, info)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, from a painting to its embedding")


def _paintings(given: object, net: Net, info: dict) -> list[Tensor]:
    """The pictures of `painting=`, (1, 3, H, W) in 0-1, in the order of the net's styles.

    Raises UserError if they do not fit.
    """
    if net.any_painting:
        raise UserError("painting: a zero-shot net gives results its paintings' lightness by itself; leave it out")
    if info.get("lit"):
        raise UserError("painting: the results of this checkpoint have their paintings' lightness already; leave it out")
    names = [*net.styles] or [str(info.get("style", {}).get("name", "custom"))]
    files = by_name(given) if isinstance(given, DictConfig) else {names[0]: given}
    if {*files} != {*names}:
        raise UserError(f"painting={given}: give the painting of each style: {', '.join(names)}")
    return [read(as_path(files[name], "painting"), torch.device("cpu"), short_side=SIDE) for name in names]


def _told(style: dict, name: str) -> dict:
    """Of what a checkpoint tells of its styles what holds for the one of that name, or for a painting of that name."""
    images = style.get("image")
    own = images.get(name) if isinstance(images, dict) else None
    return style | {"name": name, "image": {} if own is None else {name: own}}


def _with(call: Callable[..., np.ndarray], embedding: Tensor) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pictures: call(pictures, embedding.numpy())


def _page(cfg: DictConfig) -> None:
    if cfg.painting is not None:
        raise UserError("painting: is for one file; export a safetensors first, and the page from that")
    if (cfg.format, cfg.processing, cfg.half) != ("onnx", "inside", False):
        raise UserError("page=true: the page runs format=onnx with processing=inside, and its weights are in half precision")
    paths = [as_path(path, "ckpt") for path in (cfg.ckpt if OmegaConf.is_list(cfg.ckpt) else [cfg.ckpt])]
    style, out = style_of(cfg), path_of(cfg, "out")
    nets: dict[str, tuple[Net, dict]] = {}
    for path in paths:
        net, info = load_net(path)
        if style is not None:
            one = choose_style(net, info, path, style).at(1.0)
            if isinstance(one, Regions):
                raise UserError("style: an exported file takes no masks; give a style, or shares of several")
            net = one
        if path.stem in nets:
            raise UserError(f"ckpt={path}: two checkpoints are called {path.stem}; rename one")
        nets[path.stem] = net, info
    if not nets:
        raise UserError("ckpt=[]: give a checkpoint")
    folder = out.with_name(f"{out.stem}_page") if out.suffix == ".onnx" else out / f"{'+'.join(nets)}_page"
    check_writable(folder)
    export_page(nets, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB; serve it with python {folder / 'serve.py'}")
