"""From a command line to a composed config, and from a user's mistake to one line on stderr and exit status 2."""

import argparse
import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from fastnst.errors import UserError, is_number, is_whole

PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel configs and checkpoints lie inside the package, in a clone beside it.
HOME = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent
CONFIGS = HOME / "configs"
PATH_KEYS = (
    "ckpt",
    "img",
    "content",
    "out",
    "run_dir",
    "style.image",
    "data.root",
    "data.val_root",
    "data.urls",
    "root",
    "checkpoints",
    "loss_network.weights",
    "init",
    "chosen_style",
    "data.styles",
)


def run(task: Callable[[DictConfig], object], config_name: str) -> None:
    """Calls `task` with configs/<config_name>.yaml and sys.argv's overrides; exits with 2 on a user's mistake.

    A `chosen_style` in that config is given as `style=`, which Hydra would take for a choice from the folder configs/style.
    """
    if "\nchosen_style:" in (CONFIGS / f"{config_name}.yaml").read_text():
        sys.argv[1:] = [re.sub("^style=", "chosen_style=", argument) for argument in sys.argv[1:]]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, and leaves the telling to us
    resolvers = {
        "artwork": lambda name: str(PACKAGE / "assets" / "artworks" / name),
        "shipped": lambda name: str(HOME / "checkpoints" / name),  # wherever the user stands
        "styles": names_of,
        "title": lambda style: "+".join(names_of(style)),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    sys.argv[1:] = [quote(argument) for argument in sys.argv[1:]]

    composed = False

    @functools.wraps(task)
    def guarded(cfg: DictConfig) -> None:
        nonlocal composed
        composed = True
        with one_line_errors():
            task(cfg)

    def refuse(self: argparse.ArgumentParser, message: str) -> None:
        raise UserError(f"{message}; see --help")

    argparse.ArgumentParser.error = refuse  # Hydra's parser would print its usage, many lines of it
    # Python 3.14 looks into help texts, and one of Hydra 1.3's is not a text (facebookresearch/hydra#3121).
    argparse.ArgumentParser._check_help = lambda self, action: None
    try:
        with one_line_errors():
            hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(guarded)()
    except (ValueError, TypeError) as error:
        if composed:
            raise
        sys.exit(fail(f"the options cannot be put together: {_line(error)}"))  # such as data=null


def check_whole(cfg: DictConfig, least: Mapping[str, int], optional: Collection[str] = ()) -> None:
    """Raises UserError unless each key of `least` holds a whole number from that on, or null where it is `optional`."""
    for key, smallest in least.items():
        value = OmegaConf.select(cfg, key)
        if not (value is None and key in optional) and not is_whole(value, smallest):
            raise UserError(f"{key}={value}: give a whole number from {smallest}")


def whole_numbers(cfg: DictConfig, key: str, least: int) -> list[int]:
    """The list that `key` holds. Raises UserError unless it is one of whole numbers from `least`, and not empty."""
    values = OmegaConf.select(cfg, key)
    if not OmegaConf.is_list(values) or not len(values) or not all(is_whole(value, least) for value in values):
        raise UserError(f"{key}={values}: give whole numbers from {least} in brackets, such as {key}=[256,512]")
    return list(values)


def check_numbers(cfg: DictConfig, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises UserError unless each key of `ranges` holds a number in its range, both ends included."""
    for key, (least, most) in ranges.items():
        value = OmegaConf.select(cfg, key)
        if not is_number(value, least, most):
            raise UserError(f"{key}={value}: give a number from {least:g} to {most:g}")


def check_flags(cfg: DictConfig, *keys: str) -> None:
    """Raises UserError unless each key holds true or false."""
    for key in keys:
        if not isinstance(OmegaConf.select(cfg, key), bool):
            raise UserError(f"{key}={OmegaConf.select(cfg, key)}: give true or false")


def path_of(cfg: DictConfig, key: str) -> Path:
    """The path that `key` holds, a leading ~ expanded. Raises UserError if it holds none."""
    return as_path(OmegaConf.select(cfg, key, throw_on_missing=True), key)


def as_path(value: object, key: str) -> Path:
    """`value` as a path, a leading ~ expanded; `key` is named in the UserError if it is none."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key}={value}: give a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"{key}={value}: {error}") from None


def names_of(style: DictConfig) -> list[str]:
    """The styles' names, which files are called after: `style.name`, or the keys of `style.images` (style=[wave,mosaic]).

    Raises UserError for a name that no file can be called after.
    """
    several = style.images and (len(style.images) > 1 or OmegaConf.is_missing(style, "image"))
    names = list(style.images) if several else [style.name]
    for name in names:
        if not isinstance(name, str) or not name.strip() or set(name) & set("/\\\0"):
            raise UserError(f"style.name={name}: give a name for files, without slashes")
    return names


def paintings_of(style: DictConfig) -> dict[str, Path]:
    """Each painting's file by the style's name. Raises UserError for a name or a path that is none."""
    names = names_of(style)
    images = [style.image] if names == [style.name] else [style.images[name] for name in names]
    return {name: as_path(image, "style.image") for name, image in zip(names, images, strict=True)}


def painting_of(style: DictConfig) -> tuple[str, Path]:
    """The style's name and its painting's file. Raises UserError if it has several."""
    paintings = paintings_of(style)
    if len(paintings) > 1:
        raise UserError(f"style={', '.join(paintings)}: give one style")
    return next(iter(paintings.items()))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what a user can put right into one line on stderr and exit status 2; a bug keeps its traceback."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException, MisconfigurationException, OSError) as error:
        # Of the processes that torchrun or SLURM started on a machine, all of which meet the same, the first tells.
        rank = os.environ.get("LOCAL_RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_LOCALID", "0")
        sys.exit(fail(explain(error)) if rank == "0" else 2)


def fail(message: str) -> int:
    """Prints one line on stderr. Returns the exit status for bad input."""
    print(f"fastnst: {message}", file=sys.stderr)
    return 2


def quote(argument: str) -> str:
    """Quotes the value of an override that is a path, so that Hydra's grammar leaves its =, (, [ and spaces alone."""
    key, equals, value = argument.partition("=")
    is_list = value[:1] + value[-1:] == {"ckpt": "[]", "chosen_style": "{}"}.get(key)
    if key.lstrip("+") not in PATH_KEYS or not value or value[0] in "'\"" or value in ("null", "???") or is_list:
        return argument
    escaped = value.replace("\\'", "\\\\'").replace("'", "\\'")
    return f"{key}{equals}'{escaped}'"


def explain(error: BaseException) -> str:
    """One line for an error: a UserError's own wherever it was wrapped, and what there is to choose from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, MissingConfigException) and cause.options:
            group, _, name = (cause.missing_cfg_file or "").rpartition("/")
            return f"{group}={name}: there is no such {group}; there are {', '.join(sorted(cause.options))}"
        if isinstance(cause, MissingMandatoryValue):
            return f"{cause.full_key} is missing; give {cause.full_key}=VALUE"
        if isinstance(cause, MisconfigurationException):
            return f"{_line(cause)} Give another trainer, such as trainer=cpu, or other trainer settings"
        cause = cause.__cause__
    return _line(error) or type(error).__name__


def _line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()
