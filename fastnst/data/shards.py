"""Photographs in sharded tar files, by the webdataset library: read from front to back, from a disk or over a network.

Every epoch gives each photograph to one worker of one process, whatever the numbers of shards, workers and processes. The
order depends on the seed, the epoch and these numbers alone: a resumed run sees what an uninterrupted one would have.
"""

import contextlib
import itertools
import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fastnst.data.crops import crop, draw
from fastnst.data.datamodule import CropData
from fastnst.data.files import Loaded, is_readable, split
from fastnst.data.workers import note
from fastnst.errors import UserError, is_whole
from fastnst.images import SUFFIXES, UNREADABLE

Place = tuple[int, int, int]  # epoch, shard, place in it
MOST_SHARDS = 100_000
EXAMPLE = "data.urls='/path/{000000..000099}.tar'"


def webdataset():
    """The library. Raises UserError if it is not installed."""
    try:
        import webdataset
    except ImportError:
        raise UserError("sharded tar files need webdataset: pip install 'fastnst[shards]'") from None
    return webdataset


def find_shards(urls: str) -> list[str]:
    """The shards that `urls` names: {000..099} counts, {a,b} lists, and :: separates several.

    Raises UserError if it cannot be made out, names more than MOST_SHARDS, or one that would be a file here is not.
    """
    if not isinstance(urls, str) or not urls.strip():
        raise UserError(f"data.urls={urls}: give the shards, such as {EXAMPLE}")
    try:
        library = webdataset()
        from braceexpand import braceexpand  # which the library brings

        # Counted first: it would make a list of however many there are.
        counted = itertools.islice(itertools.chain.from_iterable(map(braceexpand, urls.split("::"))), MOST_SHARDS + 1)
        if _is_long(urls) or sum(1 for _ in counted) > MOST_SHARDS:
            raise UserError(f"data.urls={urls}: names more than {MOST_SHARDS} shards; pack more photographs in each")
        found = library.shardlists.expand_urls(urls)
    except (ValueError, RecursionError) as error:
        raise UserError(f"data.urls={urls}: {error}; give the shards, such as {EXAMPLE}") from None
    found = [url if urlparse(url).scheme else str(Path(url).expanduser()) for url in found]
    missing = [url for url in found if not urlparse(url).scheme and not Path(url).is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such shard ({len(missing)} of {len(found)} are missing); give {EXAMPLE}")
    return found


def _is_long(urls: str) -> bool:
    """Whether one range alone is too long."""
    ranges = re.findall(r"{(-?\d+)\.\.(-?\d+)", urls)
    return any(abs(int(last) - int(first)) >= MOST_SHARDS for first, last in ranges)


def read_shard(url: str) -> Iterator[Loaded]:
    """A shard's photographs in their order. One without bytes stands for what is damaged, or is no photograph."""
    source: dict[str, Any] = {"url": url}
    damage: list[Exception] = []

    def go_on(error: Exception) -> bool:
        damage.append(error)
        return True  # the library goes on with the next member

    try:
        for sample in webdataset().tariterators.tarfile_samples([source], handler=go_on):
            suffix = next((suffix for suffix in SUFFIXES if suffix[1:] in sample), "")
            yield Loaded(url, sample["__key__"] + suffix, sample.get(suffix[1:], b""))
        # At a damaged header tarfile stops as if it were the end; behind the end there are zeros alone.
        if damage or source["stream"].read(1 << 16).strip(b"\0"):
            yield Loaded(url, "the rest of it", b"")
    except OSError:  # a download that ended badly
        yield Loaded(url, "the rest of it", b"")
    finally:
        if "stream" in source:
            with contextlib.suppress(OSError):  # of a download that is given up
                source["stream"].close()


class Shards(IterableDataset):
    """Square crops of the photographs in tar files: `batches` batches, shared out among `world` processes.

    urls: the shards. held_out: (shard, name) of photographs to leave out. size: px. scale: see `Photographs`.
    seed: of the order and, with a photograph's epoch and place in its shard, of its crop.
    shuffle: size of a worker's shuffle buffer, in photographs.
    batches, batch_size: of this process in the whole run. done: how many an interrupted run has had of them.

    An item is {"image": float32 (3, size, size) RGB in 0-1, "bad": [names that could not be read]}: in place of what is not
    a whole picture comes the next one that is. Raises UserError if none is.
    """

    def __init__(
        self,
        urls: list[str],
        held_out: set[tuple[str | Path, str]],
        size: int,
        scale: tuple[float, float],
        seed: int,
        shuffle: int,
        batches: int,
        batch_size: int,
        done: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        self.urls, self.held_out, self.size, self.scale, self.seed, self.shuffle = urls, held_out, size, scale, seed, shuffle
        self.batches, self.batch_size, self.done, self.rank, self.world = batches, batch_size, done, rank, world

    def __iter__(self) -> Iterator[dict]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        # Batch n comes from worker n % workers. A resumed run starts again with worker 0, which then does the work of the
        # one whose turn it is, and passes over what that one has read.
        worker = (worker + self.done) % workers
        past, end = (len(range(worker, n, workers)) * self.batch_size for n in (self.done, self.batches))
        consumers = self.world * workers
        order = self.order(self.rank * workers + worker, consumers)
        return itertools.islice(self._crops(itertools.islice(order, past, None), consumers), end - past)

    def order(self, consumer: int, consumers: int) -> Iterator[tuple[Place, Loaded]]:
        """What one of all processes' workers reads, without end: (epoch, shard, place in it) and the photograph."""
        idle = 0
        for epoch in itertools.count():
            chance = random.Random(f"{self.seed} {epoch} {consumer}")
            idle += 1
            for item in webdataset().shuffle(self.shuffle, rng=chance)(self._share(epoch, consumer, consumers)):
                idle = 0
                yield item
            if idle == consumers:
                raise self._nothing()

    def _share(self, epoch: int, consumer: int, consumers: int) -> Iterator[tuple[Place, Loaded]]:
        # An epoch is `consumers` pieces of each shard, of which each consumer takes as many as there are shards, in a row:
        # whole shards if they can be shared out so. Of a shard that it has in part it passes over what is others'.
        count = len(self.urls)
        order = np.random.default_rng((self.seed, 1, epoch)).permutation(count).tolist()
        for turn in range(consumer * count // consumers, -(-(consumer + 1) * count // consumers)):
            url = self.urls[order[turn]]
            for place, photograph in enumerate(read_shard(url)):
                piece = turn * consumers + (place + epoch) % consumers
                if piece // count == consumer and (url, photograph.name) not in self.held_out:
                    yield (epoch, order[turn], place), photograph

    def _crops(self, order: Iterator[tuple[Place, Loaded]], consumers: int) -> Iterator[dict]:
        waiting, bad = [], []
        for place, photograph in order:
            waiting.append(place)
            try:
                note(photograph)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow's, on odd but readable metadata
                    drawn = (draw(self.scale, (self.seed, 2, *place)) for place in waiting)
                    images = [crop(photograph, *box, self.size) for box in drawn]
            except UNREADABLE:
                bad.append(str(photograph))
                if place[0] - waiting[0][0] > consumers:
                    raise self._nothing() from None
                continue
            for image in images:
                yield {"image": image, "bad": bad}
                bad = []
            waiting = []

    def _nothing(self) -> UserError:
        return UserError(f"{self.urls[0]}: in none of the {len(self.urls)} shards is there a photograph to train on")


class ShardData(CropData):
    """Training crops from sharded tar files, and fixed held-out photographs.

    urls: see `find_shards`. val_root: a folder or a zip to validate on; None holds out `val_count` of the shards' first
    photographs, the same ones in every run. shuffle: see `Shards`. arguments: see `CropData`.

    A resumed run goes on exactly, with as many processes and workers as before; it reads again, undecoded, what it has had.
    """

    def __init__(self, urls: str, val_root: str | None = None, val_count: int = 8, shuffle: int = 500, **arguments):
        if not is_whole(shuffle, 1):
            raise UserError(f"data.shuffle={shuffle}: give a whole number from 1")
        shards = find_shards(urls)
        readable = (photograph for url in shards for photograph in read_shard(url) if is_readable(photograph))
        first = list(itertools.islice(readable, max(2, 10 * val_count)))
        if not first:
            raise UserError(f"data.urls={urls}: there is no file in it that can be read as a photograph")
        _, val_paths = split(first, val_count, val_root)
        if not any(map(is_readable, val_paths)):
            raise UserError(f"data.val_root={val_root}: none of the files can be read as a photograph")
        super().__init__(val_paths, **arguments)
        self.urls, self.shuffle = shards, shuffle
        self.held_out = set() if val_root else {(photograph.parent, photograph.name) for photograph in val_paths}

    def train_dataloader(self) -> DataLoader:
        trainer = self.trainer
        shards = Shards(
            self.urls,
            self.held_out,
            self.size,
            self.scale,
            self.seed,
            self.shuffle,
            batches=trainer.max_steps * trainer.accumulate_grad_batches,
            batch_size=self.batch_size,
            done=trainer.global_step * trainer.accumulate_grad_batches,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        return self.train_loader(shards)
