"""Serves the page on localhost."""

import socket

from omegaconf import DictConfig

from fastnst.commands.cli import run
from fastnst.commands.options import check_numbers, check_whole, path_of
from fastnst.errors import UserError, line_of
from fastnst.web.page import clear_on_sigterm, launch


def serve(cfg: DictConfig, block: bool = True):
    """Serves what `cfg` (configs/serve.yaml) describes. Returns the page and its address, once it is up if not `block`.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_numbers(cfg, {"max_megabytes": (0.1, 1e4), "max_megapixels": (0.1, 1e3)})
    check_whole(cfg, {"port": 1}, optional=["port"])
    check_address(cfg.host, cfg.port or 0)
    page, address = launch(
        path_of(cfg, "checkpoints"), cfg.host, cfg.port, int(cfg.max_megabytes * 1e6), cfg.max_megapixels * 1e6
    )
    print(f"fastnst is at {address}", flush=True)
    if block:
        clear_on_sigterm(page.folder)
        page.block_thread()
    return page, address


def check_address(host: object, port: int) -> None:
    """Raises UserError if nothing can be served there; port 0: at none."""
    if port > 65535:  # the system would take the rest of a division
        raise UserError(f"port={port}: give a whole number from 1 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(str(host), port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        raise UserError(f"host={host}, port={port or None}: cannot be served at ({line_of(error)})") from None


def main() -> None:
    run(serve, "serve")
