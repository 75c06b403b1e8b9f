"""Serves the page on localhost."""

from pathlib import Path

from omegaconf import DictConfig

from fastnst.commands.options import check_numbers, check_whole, path_of
from fastnst.shipped import CHECKPOINTS
from fastnst.web.page import launch


def serve(cfg: DictConfig, block: bool = True):
    """Serves what `cfg` (configs/serve.yaml) describes. Returns the page and its address, once it is up if not `block`.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_numbers(cfg, {"max_megabytes": (0.1, 1e4), "max_megapixels": (0.1, 1e3)})
    check_whole(cfg, {"port": 1}, optional=["port"])
    here = Path("checkpoints")
    folder = (here if here.is_dir() else CHECKPOINTS) if cfg.checkpoints is None else path_of(cfg, "checkpoints")
    page, address = launch(folder, cfg.host, cfg.port, int(cfg.max_megabytes * 1e6), cfg.max_megapixels * 1e6)
    print(f"fastnst is at {address}", flush=True)
    if block:
        page.block_thread()
    return page, address
