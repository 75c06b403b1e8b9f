"""Restyles a picture, a folder or a glob with a checkpoint."""

from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from fastnst.cli import check_whole, fail, run
from fastnst.errors import UserError
from fastnst.images import is_folder
from fastnst.inference import LEAST, Stylizer, find_pictures, stylize_file


def infer(cfg: DictConfig) -> None:
    """Restyles what `cfg` (configs/infer.yaml) names. A bad picture among many is reported and skipped; exit status 2 then.

    Raises UserError if nothing can be done at all.
    """
    check_whole(cfg, {"size": LEAST}, optional=["size"])
    checkpoint = Path(cfg.ckpt)
    root, pictures = find_pictures(str(cfg.img))
    out = Path(cfg.out).expanduser()
    into_folder = is_folder(out)
    if len(pictures) > 1 and not into_folder:
        raise UserError(f"out={out}: {len(pictures)} pictures need a folder to go to, not a file")
    stylizer = Stylizer(checkpoint)

    failed = 0
    for picture in tqdm(pictures, unit="picture", disable=len(pictures) == 1):
        target = out / picture.relative_to(root).with_stem(f"{picture.stem}_{checkpoint.stem}")
        try:
            stylize_file(stylizer, picture, target if into_folder else out, cfg.size)
        except UserError as error:
            failed = fail(str(error))
        else:
            tqdm.write(str(target if into_folder else out))
    if failed:
        raise SystemExit(failed)


def main() -> None:
    run(infer, "infer")
