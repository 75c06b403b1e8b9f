"""Serves the page on localhost."""

import ipaddress
import json
import socket
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fastnst.commands.options import check_flags, check_numbers, check_whole, path_of
from fastnst.errors import UserError, line_of
from fastnst.files import check_file
from fastnst.shipped import CHECKPOINTS
from fastnst.web.server import clear_on_sigterm, launch
from fastnst.web.training import Trainings


def serve(cfg: DictConfig, block: bool = True):
    """Serves what `cfg` (configs/serve.yaml) describes. Returns the page and its address, once it is up if not `block`.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_numbers(cfg, {"max_megabytes": (0.1, 1e4), "max_megapixels": (0.1, 1e3), "max_seconds": (0, 1e4)})
    check_whole(cfg, {"port": 1}, optional=["port"])
    check_address(cfg.host, cfg.port or 0)
    here = Path("checkpoints")
    folder = (here if here.is_dir() else CHECKPOINTS) if cfg.checkpoints is None else path_of(cfg, "checkpoints")
    trainings = trainings_of(cfg)
    limits = int(cfg.max_megabytes * 1e6), cfg.max_megapixels * 1e6, cfg.max_seconds
    page, address = launch(folder, cfg.host, cfg.port, *limits, trainings)
    print(f"fastnst is at {address}", flush=True)
    if block:
        clear_on_sigterm(page.folder, trainings)
        try:
            page.block_thread()
        finally:
            if trainings is not None:
                trainings.close()
    return page, address


def trainings_of(cfg: DictConfig) -> Trainings | None:
    """What trains on the page; None if `train` is false, or null and the host is not local."""
    if cfg.train is not None:
        check_flags(cfg, "train")
    if not (is_local(cfg.host) if cfg.train is None else cfg.train):
        return None
    folder = path_of(cfg, "trainings")
    check_file(folder / "painting.png", "trainings")
    if cfg.train_options is not None and not OmegaConf.is_dict(cfg.train_options):
        raise UserError(f"train_options={cfg.train_options}: give options of scripts/train.py with their values, in braces")
    values: Any = OmegaConf.to_container(cfg.train_options or OmegaConf.create({}))
    options = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    if cfg.photographs is not None:
        options = ["data=folder", f"data.root={path_of(cfg, 'photographs').absolute()}", *options]
    return Trainings(folder.absolute(), options)


def is_local(host: object) -> bool:
    """Whether nobody but this machine reaches the host."""
    try:
        return all(
            ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
            for *_, address in socket.getaddrinfo(str(host), None)
        )
    except (OSError, UnicodeError, ValueError):
        return False


def check_address(host: object, port: int) -> None:
    """Raises UserError if nothing can be served there; port 0: at none."""
    if port > 65535:  # the system would take the rest of a division
        raise UserError(f"port={port}: give a whole number from 1 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(str(host), port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        raise UserError(f"host={host}, port={port or None}: cannot be served at ({line_of(error)})") from None
