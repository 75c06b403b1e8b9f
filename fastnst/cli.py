"""From a command line to a composed config, and from a user's mistake to one line on stderr and exit status 2."""

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

from fastnst.errors import UserError

PACKAGE = Path(__file__).resolve().parent
# In a wheel the configs lie inside the package, in a clone beside it.
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
PATH_KEYS = (
    "ckpt",
    "img",
    "content",
    "out",
    "run_dir",
    "style.image",
    "data.root",
    "data.val_root",
    "loss_network.weights",
    "init",
)


def run(task: Callable[[DictConfig], object], config_name: str) -> None:
    """Calls `task` with configs/<config_name>.yaml and sys.argv's overrides; exits with 2 on a user's mistake."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, and leaves the telling to us
    OmegaConf.register_new_resolver("artwork", lambda name: str(PACKAGE / "assets" / "artworks" / name), replace=True)
    sys.argv[1:] = [quote(argument) for argument in sys.argv[1:]]

    @functools.wraps(task)
    def guarded(cfg: DictConfig) -> None:
        with one_line_errors():
            task(cfg)

    with one_line_errors():
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(guarded)()


def check_whole(cfg: DictConfig, least: Mapping[str, int], optional: Collection[str] = ()) -> None:
    """Raises UserError unless each key of `least` holds a whole number from that on, or null where it is `optional`."""
    for key, smallest in least.items():
        value = OmegaConf.select(cfg, key)
        if value is None and key in optional:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            raise UserError(f"{key}={value}: give a whole number from {smallest}")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what a user can put right into one line on stderr and exit status 2; a bug keeps its traceback."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException, MisconfigurationException, OSError) as error:
        sys.exit(fail(explain(error)))


def fail(message: str) -> int:
    """Prints one line on stderr. Returns the exit status for bad input."""
    print(f"fastnst: {message}", file=sys.stderr)
    return 2


def quote(argument: str) -> str:
    """Quotes the value of an override that is a path, so that Hydra's grammar leaves its =, (, [ and spaces alone."""
    key, equals, value = argument.partition("=")
    is_list = key == "ckpt" and value[:1] == "[" and value[-1:] == "]"
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
