"""Restyles a picture, a folder or a glob with a checkpoint."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from fastnst.cli import check_whole, fail, run
from fastnst.errors import UserError
from fastnst.images import is_folder
from fastnst.inference import LEAST, Stylizer, check_controls, find_pictures, stylize_file


def infer(cfg: DictConfig) -> None:
    """Restyles what `cfg` (configs/infer.yaml) names. A bad picture among many is reported and skipped; exit status 2 then.

    Raises UserError if nothing can be done at all.
    """
    check_whole(cfg, {"size": LEAST}, optional=["size"])
    controls = {key: cfg[key] for key in ("strength", "preserve_color", "style_scale", "tile")}
    check_controls(**controls)
    checkpoints = [Path(str(path)) for path in (cfg.ckpt if OmegaConf.is_list(cfg.ckpt) else [cfg.ckpt])]
    root, pictures = find_pictures(str(cfg.img))
    out = Path(cfg.out).expanduser()
    into_folder = is_folder(out)
    if len(pictures) > 1 and not into_folder:
        raise UserError(f"out={out}: {len(pictures)} pictures need a folder to go to, not a file")
    stylizer = Stylizer(*checkpoints, weights=cfg.weights)

    failed = 0
    name = "+".join(path.stem for path in checkpoints)
    for picture in tqdm(pictures, unit="picture", disable=len(pictures) == 1):
        target = out / picture.relative_to(root).with_stem(f"{picture.stem}_{name}") if into_folder else out
        try:
            with tqdm(total=100, unit="%", leave=False, desc=picture.name, delay=2) as bar:  # shows itself for large ones

                def show(share: float) -> None:
                    bar.update(round(100 * share) - bar.n)  # noqa: B023

                stylize_file(stylizer, picture, target, cfg.size, **controls, progress=show)
        except UserError as error:
            failed = fail(str(error))
        else:
            tqdm.write(str(target))
    if failed:
        raise SystemExit(failed)


def main() -> None:
    run(infer, "infer")
