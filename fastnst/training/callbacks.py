"""What is seen of a run while it trains: its lines, the progress bar, TensorBoard's pictures, images per second."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.utilities.warnings import PossibleUserWarning

from fastnst.training.failures import due


@contextmanager
def own_lines() -> Iterator[None]:
    """Within it Lightning is silent but for its warnings, less those that it calls possibly false: here they are.

    They are advice on loaders and intervals, and that a run resumed within an epoch is unreliable, which the project's own
    stream of photographs is not.
    """
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning|lightning_fabric")  # of its code
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class Progress(TQDMProgressBar):
    """Steps, time left and the terms of the objective.

    Lightning's way, `self.log(..., prog_bar=True)`, would have a GPU waited for at each step.
    """

    def __init__(self):
        super().__init__()
        self.losses: dict[str, str] = {}

    def get_metrics(self, trainer: pl.Trainer, module) -> dict:
        if due(trainer):
            logged = trainer.callback_metrics
            names = [name for name in module.objective.weights if f"train/{name}" in logged]
            self.losses = {name: f"{logged[f'train/{name}'].item():.3f}" for name in names}
        return self.losses


class Panels(pl.Callback):
    """TensorBoard's pictures: each held-out photograph beside its restyled self, and once the style images."""

    def on_train_start(self, trainer, module) -> None:
        if trainer.logger:
            for name, image in module.style_images.items():
                trainer.logger.experiment.add_image(f"style/{name}", image[0], trainer.global_step)

    def on_validation_batch_end(self, trainer, module, outputs, batch: dict, batch_index: int, *_) -> None:
        if trainer.logger and trainer.is_global_zero and not trainer.sanity_checking:
            pair = torch.cat([batch["image"][0], outputs[0]], dim=2)
            trainer.logger.experiment.add_image(f"photograph | result/{batch_index}", pair, trainer.global_step)


class Throughput(pl.Callback):
    """Logs images per second over all devices, since the value before it, less the time of validations."""

    def __init__(self):
        self.images, self.since, self.paused = 0, 0.0, 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.images, self.since = 0, time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch: dict, batch_index: int) -> None:
        self.images += len(batch["image"]) * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:
            now = time.perf_counter()
            module.log("images_per_second", self.images / (now - self.since))
            self.images, self.since = 0, now

    def on_validation_start(self, trainer, module) -> None:
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer, module) -> None:
        self.since += time.perf_counter() - self.paused
