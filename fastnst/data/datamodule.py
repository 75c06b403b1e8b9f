"""Loaders of crops for training and of photographs for validation."""

from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_start_method

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from fastnst.data.crops import PAINTING_SCALE, Paintings, Photographs, Stream, collate
from fastnst.data.files import Photograph, find_photographs, is_readable, sample_photographs, split
from fastnst.data.workers import Reading, cores
from fastnst.errors import UserError, is_number
from fastnst.images import best_device


class CropData(pl.LightningDataModule):
    """The base of the data modules: arguments of the crops, loaders, validation.

    val_paths: the held-out photographs. size: side of the crops in px. scale: see `Photographs`. batch_size: per device.
    seed: of the order and the crops. workers: decoding processes; None: one for each core but one, at most 8.
    styles: a folder or a zip of paintings, for a zero-shot net.
    """

    trainer: pl.Trainer  # Lightning's, before it asks for a loader

    def __init__(
        self,
        val_paths: Sequence[Photograph],
        size: int = 256,
        scale: tuple[float, float] = (0.5, 1.0),
        batch_size: int = 4,
        seed: int = 0,
        workers: int | None = None,
        styles: str | None = None,
    ):
        super().__init__()
        self.paintings = [] if styles is None else find_photographs(styles)
        if self.paintings and not any(map(is_readable, self.paintings)):
            raise UserError(f"data.styles={styles}: none of the files can be read as a painting")
        self.val_paths, self.size, self.batch_size, self.seed = val_paths, size, batch_size, seed
        sides = [*scale] if isinstance(scale, Sequence) else [scale]
        if len(sides) != 2 or not all(is_number(side, 0, 1) and side for side in sides) or sides[0] > sides[1]:
            raise UserError(f"data.scale={scale}: give the smallest and the largest side, such as data.scale=[0.5,1]")
        self.scale = sides[0], sides[1]
        self.workers = min(8, max(1, cores() - 1)) if workers is None else workers
        self.reading = Reading(2 * self.workers)  # of photographs, and of paintings
        self.painting_batches: Iterator[dict] | None = None

    def train_loader(self, dataset: Dataset, sampler: Sampler | None = None) -> DataLoader:
        of_paintings = isinstance(dataset, Paintings)
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            worker_init_fn=partial(self.reading.start_worker, first=self.workers * of_paintings),
            # A fork server, Linux's default from Python 3.14, would be ended by a job's signals, and its workers with it.
            multiprocessing_context="fork" if self.workers and get_start_method() == "forkserver" else None,
            pin_memory=best_device().type in ("cuda", "xpu"),
        )

    def stream(self, count: int, seed: int) -> Stream:
        """The whole run's order of `count` pictures, from the step that the run is at."""
        trainer = self.trainer
        per_step = self.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        return Stream(
            count,
            total=trainer.max_steps * per_step,
            seed=seed,
            start=trainer.global_step * per_step,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )

    def next_paintings(self) -> dict:
        """A painting for each photograph of the next training batch. Raises UserError if there are none."""
        if self.painting_batches is None:
            crops = self._painting_crops()
            self.painting_batches = iter(self.train_loader(crops, self.stream(len(crops), crops.seed)))
        return next(self.painting_batches)

    def some_paintings(self, least: int) -> DataLoader:
        """Batches of paintings as training sees them, `least` or more, the same ones in every process.

        Raises UserError if there are none.
        """
        crops = self._painting_crops()
        count = max(least, min(1024, 32 * len(crops)))  # more crops of few paintings tell no more of them
        return self.train_loader(crops, Stream(len(crops), count, crops.seed + 1))

    def _painting_crops(self) -> Paintings:
        if not self.paintings:
            raise UserError("a zero-shot net learns from many paintings: give data.styles=/folder/of/paintings")
        # Another seed, and so another order, than that of the photographs.
        return Paintings(self.paintings, self.size, PAINTING_SCALE, self.seed + 1)

    def teardown(self, stage: str) -> None:
        # Python ends processes that are left over by SIGTERM, and these answer to no signal (fastnst.data.workers).
        if isinstance(self.painting_batches, _MultiProcessingDataLoaderIter):
            self.painting_batches._shutdown_workers()
        self.painting_batches = None

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    def val_dataloader(self) -> DataLoader:
        photographs = Photographs(self.val_paths, self.size)
        order = [(0, index) for index in range(len(photographs))]
        return DataLoader(photographs, 1, sampler=order, collate_fn=collate)


class PhotoData(CropData):
    """Training crops and fixed held-out photographs.

    root: a folder or a zip (any tree of jpg, jpeg, png, webp), or None for scikit-image's samples.
    val_root: the same, to validate on; None holds out `val_count` photographs of `root`, the same ones in every run.
    arguments: see `CropData`.
    """

    def __init__(
        self,
        root: str | None = None,
        val_root: str | None = None,
        val_count: int = 8,
        **arguments,
    ):
        train_paths, val_paths = sample_photographs() if root is None else split(find_photographs(root), val_count, val_root)
        super().__init__(val_paths, **arguments)
        self.train_paths = train_paths
        for paths in (train_paths, val_paths):
            if not any(map(is_readable, paths)):
                raise UserError(f"{paths[0].parent if paths else root}: none of the files can be read as a photograph")

    def train_dataloader(self) -> DataLoader:
        photographs = Photographs(self.train_paths, self.size, self.scale, self.seed)
        return self.train_loader(photographs, self.stream(len(photographs), self.seed))
