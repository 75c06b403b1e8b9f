"""From a command line to a composed config, and from a user's mistake to one line on stderr and exit status 2."""

import argparse
import io
import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import hydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from fastnst.commands.options import names_of
from fastnst.commands.startup import importing
from fastnst.errors import UserError, fail, line_of
from fastnst.shipped import ARTWORKS, CONFIGS

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
    "data.styles",
    "paintings",
    "photographs",
    "trainings",
)


def run(task: str, config_name: str) -> None:
    """Calls `task` with configs/<config_name>.yaml and sys.argv's overrides; exits with 2 on a user's mistake.

    task: a function of the config by its dotted name. It is imported when the options are composed and none is missing.
    Groups are the folders beside that file: from configs/inference none can be chosen, and `style` is a key there.
    """
    file = CONFIGS / config_name
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names that are not UTF-8 are printed as they are
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, and leaves the telling to us
    resolvers = {
        "artwork": lambda name: str(ARTWORKS / name),
        "styles": names_of,
        "title": lambda style: "+".join(names_of(style)),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    paths = PATH_KEYS if (file.parent / "style").is_dir() else (*PATH_KEYS, "style")
    sys.argv[1:] = [quote(argument, paths) for argument in sys.argv[1:]]

    composed = False

    def guarded(cfg: DictConfig) -> None:
        nonlocal composed
        composed = True
        with one_line_errors():
            for key in map(str, cfg):
                if OmegaConf.is_missing(cfg, key):
                    raise UserError(f"{key} is missing; give {key}=VALUE")
            with importing():
                command = get_method(task)
            command(cfg)

    guarded.__module__ = task.rpartition(".")[0]  # whose name Hydra gives to its jobs

    try:
        with one_line_errors(), parser_of_hydra():
            hydra.main(version_base="1.3", config_path=str(file.parent), config_name=file.name)(guarded)()
    except (ValueError, TypeError) as error:
        if composed:
            raise
        sys.exit(fail(f"the options cannot be put together: {line_of(error)}"))  # such as data=null


@contextmanager
def parser_of_hydra() -> Iterator[None]:
    """Has Hydra's parser raise a UserError where it would print its usage, many lines of it, and start on Python 3.14."""

    def refuse(self: argparse.ArgumentParser, message: str) -> None:
        raise UserError(f"{message}; see --help")

    changes: dict[str, Any] = {"error": refuse}
    if hasattr(argparse.ArgumentParser, "_check_help"):
        # Python 3.14 looks into help texts, and one of Hydra 1.3's is not a text (facebookresearch/hydra#3121).
        changes["_check_help"] = lambda self, action: None
    with mock.patch.multiple(argparse.ArgumentParser, **changes):
        yield


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors that the user can fix into one line on stderr and exit status 2; a bug keeps its traceback."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (UserError, HydraException, OmegaConfBaseException, OSError)) and not from_trainer(error):
            raise
        # Of the processes that torchrun or SLURM started on a machine, all of which meet the same, the first tells.
        rank = os.environ.get("LOCAL_RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_LOCALID", "0")
        sys.exit(fail(explain(error)) if rank == "0" else 2)


def quote(argument: str, paths: Collection[str] = PATH_KEYS) -> str:
    """Quotes the value of an override that is a path, so that Hydra's grammar leaves its =, (, [ and spaces alone.

    paths: the keys that hold one. What is there under that very name is taken as it is, with quotes, brackets and ${}.
    """
    key, _, value = argument.partition("=")
    if key.lstrip("+") not in paths or value in ("", "null", "???"):
        return argument
    if os.path.exists(value):
        value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # OmegaConf would look up what is in the brackets
    elif value[0] in "'\"" or value[0] + value[-1] == {"ckpt": "[]", "style": "{}"}.get(key):
        return argument
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def from_trainer(error: BaseException) -> bool:
    """Whether Lightning raised it over the trainer's settings; told by its name, as importing Lightning takes seconds."""
    return type(error).__name__ == "MisconfigurationException"


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
        if from_trainer(cause):
            return f"{line_of(cause)} Give another trainer, such as trainer=cpu, or other trainer settings"
        cause = cause.__cause__
    return line_of(error)
