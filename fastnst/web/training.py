"""Trainings that visitors of the page ask for: one at a time, in a process of its own, which `scripts/train.py` could be."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from fastnst.checkpoint import export, load_training
from fastnst.errors import UserError, is_name
from fastnst.files import whole
from fastnst.images import load_rgb, save
from fastnst.inference.card import write_card
from fastnst.shipped import PACKAGE

PATIENCE = 120  # s, that a process which was told to stop may take to finish its step and save it
RECENT = 10  # logged steps that the time left is estimated from
COMMAND = [sys.executable, "-c", "from fastnst.commands.entry import train; train()"]
# As short as the page needs: losses, held-out pictures and checkpoints come every minute or so on two cores.
OFTEN = ["trainer.log_every_n_steps=5", "trainer.val_check_interval=25", "checkpoint_every=25", "ckpt=last"]


@dataclass
class Progress:
    """What is known of a training. status: none, running, or stopped, which can go on.

    left: seconds, or None where nothing tells. losses: the objective's total by step. terms: the last step's.
    pictures: held-out photographs beside their results. message: what the process said last, if it failed.
    """

    name: str = ""
    status: str = "none"
    step: int = 0
    steps: int = 0
    left: float | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    terms: dict[str, float] = field(default_factory=dict)
    pictures: list[Image.Image] = field(default_factory=list)
    message: str = ""


class Trainings:
    """Below `root` each training has a folder, called after its style: painting.png, run/ as `scripts/train.py` writes it,
    and NAME.safetensors once it is done. One that has none yet is unfinished, and there is at most one.

    options: further ones of `scripts/train.py`, such as data=folder.
    """

    def __init__(self, root: Path, options: Sequence[str] = ()):
        self.root, self.options, self.lock = root, list(options), threading.Lock()
        self.child: subprocess.Popen | None = None
        self.events: Any = None

    def finished(self) -> list[Path]:
        """The checkpoints of trainings that are done; the painting of each lies beside it."""
        return sorted(path for path in self.root.glob("*/*.safetensors") if path.stem == path.parent.name)

    def unfinished(self) -> Path | None:
        """The folder of the training that is not done, running or not."""
        done = {path.parent for path in self.finished()}
        return next((path.parent for path in sorted(self.root.glob("*/painting.png")) if path.parent not in done), None)

    def begin(self, name: str, painting: str, steps: int, taken: Sequence[str] = ()) -> None:
        """Starts a training. taken: names that styles have.

        Raises UserError for a name that none can have or one has, a painting that is no picture, and while another training
        is unfinished.
        """
        with self.lock:
            before = self.unfinished()
            if before is not None:
                raise UserError(f"{before.name} is still learning: keep it or cancel it first.")
            folder = self.root / name
            if not re.fullmatch(r"\w[\w -]{0,40}", name) or not is_name(name) or name in taken or folder.exists():
                raise UserError("Give the style a short name of letters and digits that is not taken yet.")
            picture = load_rgb(painting)
            folder.mkdir(parents=True)
            (folder / "steps.txt").write_text(str(int(steps)))
            save(picture, folder / "painting.png")
            self._start(folder)

    def resume(self) -> None:
        """Has the unfinished training go on. Raises UserError if there is none."""
        with self.lock:
            folder = self._current()
            if not self._alive(folder):
                self._start(folder)

    def keep(self) -> Path:
        """Stops the unfinished training, and makes what it has learnt a checkpoint. Raises UserError if that is nothing."""
        with self.lock:
            folder = self._current()
            self._stop(folder, signal.SIGTERM)
            out = folder / f"{folder.name}.safetensors"
            if not out.exists():  # it may have come to its end meanwhile
                last = next(filter(Path.is_file, (folder / "run" / f"{name}.ckpt" for name in ("last", "previous"))), None)
                if last is None:
                    raise UserError(f"{folder.name} has learnt nothing yet: resume it or cancel it.")
                net, info = load_training(last)
                export(out, net, info)
                write_card(out, out, "safetensors", info, {})
            return out

    def cancel(self) -> None:
        """Ends the unfinished training, and takes all of it away. Raises UserError if there is none."""
        with self.lock:
            folder = self._current()
            self._stop(folder, signal.SIGKILL)
            shutil.rmtree(folder)
            self.events = None

    def close(self) -> None:
        """Tells a running training to save its step and end, as the page does."""
        folder = self.unfinished()
        process = None if folder is None else self._process(folder)
        if process is not None:
            process.terminate()

    def progress(self) -> Progress:
        """How the unfinished training fares, from TensorBoard's events of its run."""
        with self.lock:
            folder = self.unfinished()
            if folder is None:
                return Progress()
            alive = self._alive(folder)
            if (folder / f"{folder.name}.safetensors").exists():  # done meanwhile
                return Progress()
            found = Progress(folder.name, "running" if alive else "stopped", steps=int((folder / "steps.txt").read_text()))
            self._read(folder, found)
            if not alive:
                said = (folder / "errors.txt").read_text(errors="replace").splitlines()
                lines = [line.removeprefix("fastnst: ") for line in said if line.startswith("fastnst: ")]
                found.message = lines[-1] if lines else ""
            return found

    def _current(self) -> Path:
        folder = self.unfinished()
        if folder is None:
            raise UserError("Nothing is being learnt.")
        return folder

    def _start(self, folder: Path) -> None:
        options = [
            "experiment=finetune", "style=custom", f"style.name={json.dumps(folder.name, ensure_ascii=False)}",
            f"style.image={folder / 'painting.png'}", f"run_dir={folder / 'run'}", f"out={folder / folder.name}.safetensors",
            f"trainer.max_steps={(folder / 'steps.txt').read_text()}", *OFTEN, *self.options,
        ]  # fmt: skip
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        with open(folder / "errors.txt", "wb") as errors:
            self.child = subprocess.Popen(
                COMMAND + options, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                start_new_session=True,  # Ctrl-C in the page's terminal is the page's
            )  # fmt: skip
        process = psutil.Process(self.child.pid)
        if os.name == "posix":
            process.nice(10)  # restyling goes first
        # The page may be killed and start again: it then knows the process by these.
        with whole(folder / "process.json") as part:
            part.write_text(json.dumps([process.pid, process.create_time()]))

    def _process(self, folder: Path) -> psutil.Process | None:
        """The process that trains, if it is there."""
        if self.child is not None:
            self.child.poll()  # a child that has ended is there until it is asked
        try:
            number, created = json.loads((folder / "process.json").read_text())
            process = psutil.Process(number)
            if abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (OSError, ValueError, psutil.Error):
            pass
        return None

    def _alive(self, folder: Path) -> bool:
        return self._process(folder) is not None

    def _stop(self, folder: Path, number: int) -> None:
        process = self._process(folder)
        if process is None:
            return
        try:
            helpers = process.children(recursive=True)
            process.send_signal(number)
            process.wait(PATIENCE)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired:
            raise UserError(f"{folder.name} does not stop.") from None
        for helper in helpers if number == signal.SIGKILL else ():
            if helper.is_running():
                helper.kill()

    def _read(self, folder: Path, found: Progress) -> None:
        """What the run's events tell."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = str(folder / "run")
        if not (folder / "run").is_dir():
            return
        if self.events is None or self.events.path != run:
            self.events = EventAccumulator(run, {"scalars": 0, "images": 1})
        events = self.events
        events.Reload()
        tags = events.Tags()
        if "train/total" in tags["scalars"]:
            logged = events.Scalars("train/total")
            found.losses = [(event.step + 1, event.value) for event in logged]
            found.step = logged[-1].step + 1
            recent = logged[-RECENT:]
            if found.status == "running" and recent[-1].step > recent[0].step:
                pace = (recent[-1].wall_time - recent[0].wall_time) / (recent[-1].step - recent[0].step)
                found.left = pace * (found.steps - found.step)
            names = [tag for tag in tags["scalars"] if tag.startswith("train/") and tag.count("/") == 1]
            found.terms = {tag.removeprefix("train/"): events.Scalars(tag)[-1].value for tag in names}
        for tag in sorted(tag for tag in tags["images"] if tag.startswith("photograph")):
            found.pictures.append(Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string)))
