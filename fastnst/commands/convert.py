"""Converts a net that another project has trained into a checkpoint: read `convert` from top to bottom."""

from omegaconf import DictConfig

from fastnst import __version__
from fastnst.checkpoint import export
from fastnst.commands.options import path_of
from fastnst.errors import UserError, is_name
from fastnst.files import check_file
from fastnst.inference.conversion import converted, read_weights


def convert(cfg: DictConfig) -> None:
    """Does what `cfg` (configs/convert.yaml) describes. Raises UserError for anything in it that cannot be used."""
    source, out = path_of(cfg, "ckpt"), path_of(cfg, "out")
    if out.suffix != ".safetensors" or not is_name(out.stem):
        raise UserError(f"out={out}: give a name that ends in .safetensors; the style is called after it")
    check_file(out)
    weights = read_weights(source)
    try:
        net, project = converted(weights)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    export(out, net, {"version": __version__, "style": {"name": out.stem}, "converted": project})
    print(f"{out}: a net of {project}, {out.stat().st_size / 1e6:.1f} MB")
