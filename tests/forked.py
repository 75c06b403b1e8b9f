"""Processes of a test's own that need no time to start: forked from one that has imported what a training takes.

That one never computes, as torch's autograd cannot be forked once it has. Where nothing forks, on Windows, they begin anew.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT = multiprocessing.get_context("forkserver" if FORKS else "spawn")


def be_ready() -> None:
    """Starts the process that the others are forked from."""
    if not FORKS:
        return
    from multiprocessing import forkserver

    CONTEXT.set_forkserver_preload(["fastnst.commands.train", "torch.distributed.run"])
    before = os.getcwd()
    os.chdir(ROOT)  # whose fastnst it is to import
    forkserver.ensure_running()
    os.chdir(before)


class Forked:
    """Calls `work`, a function of a module, with the arguments in a process of its own, which stands in `folder`.

    variables: of its environment, besides the test's. What it writes goes to files, for `communicate` to read.
    """

    def __init__(self, folder: Path, work: Callable, *arguments: object, **variables: str):
        self.files = [folder / f"{name}-{os.urandom(4).hex()}" for name in ("out", "err")]
        environment = dict(os.environ) | variables
        self.process = CONTEXT.Process(target=_run, args=(folder, self.files, environment, work, *map(str, arguments)))
        self.process.start()
        self.pid: int = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def communicate(self, timeout: float = 200) -> tuple[str, str]:
        """Waits for its end. Returns what it has written to stdout and stderr."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it goes on and on"
        out, err = (file.read_text() for file in self.files)
        return out, err

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        """Kills it and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL) if FORKS else self.process.kill()
        self.process.join()


def _run(folder: Path, files: list[Path], environment: dict[str, str], work: Callable, *arguments: str) -> None:
    if FORKS:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in a shell's background
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    work(*arguments)


def script(path: str, *arguments: str) -> None:
    """Runs a Python file, as `python path arguments` does."""
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


def spawning(path: str, *arguments: str) -> None:
    """Runs a Python file whose own processes begin anew, as on macOS and Windows."""
    multiprocessing.set_start_method("spawn", force=True)
    script(path, *arguments)


def torchrun_anew(*arguments: str) -> None:
    """`torchrun arguments`, whose own processes begin anew, as users' do."""
    from torch.distributed.run import main

    main(arguments)


def torchrun(*arguments: str) -> None:
    """`torchrun arguments`, whose own processes are forked, too."""
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    config, _, (_, path, *rest) = config_from_args(parse_args(arguments))
    config.start_method = "fork"
    elastic_launch(config, script)(path, *rest)
