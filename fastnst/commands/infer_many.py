"""Restyles very many pictures by Ray: infer.py with engine=ray."""

import hashlib
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from tqdm import tqdm

from fastnst.checkpoint import load_style
from fastnst.errors import UserError, printable
from fastnst.images import SUFFIXES
from fastnst.inference.cluster import (
    check_reached,
    find_sources,
    finished,
    installed,
    located,
    note,
    plan,
    restyle_all,
    shown,
)
from fastnst.inference.film import READ
from fastnst.inference.stylizer import Controls, Stylizer


def infer_many(cfg: DictConfig, name: str, checkpoints: Sequence[Path], style: Any, controls: Controls) -> None:
    """Restyles what `cfg` names. name: what results are called after their pictures' names. Exit status 2 if any is bad.

    Raises UserError if nothing can be done at all.
    """
    img, out = str(cfg.img), str(cfg.out)
    if out.lower().endswith((*Image.registered_extensions(), *READ)):
        raise UserError(f"out={out}: engine=ray writes to a folder")
    if img.lower().endswith(tuple(READ)):
        raise UserError(f"img={img}: engine=ray takes no films")
    installed()
    if cfg.ray_address is not None:
        check_reached(str(cfg.ray_address))
    loaded = [load_style(path, style) for path in checkpoints]
    stylizer = Stylizer(*loaded, weights=cfg.weights)
    stylizer.check(controls)
    sources = find_sources(img, SUFFIXES)
    options = {"img": img, "size": cfg.size, "weights": str(cfg.weights), "style": str(style), "ckpt": digest(stylizer)}
    options |= asdict(controls)
    tasks, count, skipped = plan(sources, name, SUFFIXES, finished(out, name, options))
    note(out, name, options)
    out = shown(*located(out))  # whole, as actors may stand elsewhere
    if skipped:
        print(f"{skipped} pictures are done already")
    if not tasks:
        return
    bad, own = 0, sys.stdout
    # What Ray says, of a worker that is lost, goes to stderr, and results' names alone to stdout.
    with redirect_stdout(sys.stderr), tqdm(total=count, unit="picture") as bar:

        def tell(row: dict) -> None:
            nonlocal bad
            bar.update()
            if row["error"]:
                bad += 1
                tqdm.write(f"fastnst: {printable(row['source'])}: cannot be restyled ({row['error']})", file=sys.stderr)
            else:
                tqdm.write(row["target"], file=own)

        restyle_all(tasks, (loaded, cfg.weights, cfg.size, controls, out), cfg.workers, cfg.ray_address, tell)
    if bad:
        print(f"fastnst: {bad} pictures could not be restyled", file=sys.stderr)
        raise SystemExit(2)


def digest(stylizer: Stylizer) -> str:
    """Of the weights of its nets."""
    found = hashlib.sha256()
    for net in stylizer.nets:
        for tensor in net.state_dict().values():
            found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
