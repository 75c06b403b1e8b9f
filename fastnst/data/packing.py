"""Packs photographs into sharded tar files, for fastnst.data.shards to read."""

import io
import json
import multiprocessing
import os
import signal
import sys
import tarfile
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fastnst.data.files import Loaded, Photograph, is_readable
from fastnst.errors import UserError
from fastnst.files import whole, write_bytes
from fastnst.images import UNREADABLE, to_rgb, upright

QUALITY = 95  # of JPEGs that are reduced


def pack_shards(photographs: list[Photograph], out: Path, size: int | None, count: int, workers: int) -> tuple[int, int]:
    """Writes shards of at most `count` photographs into the folder `out`, those that are there already left as they are.

    Photographs come in a random order, the same each time, so that each shard is like the whole. size: see `packed`.
    workers: processes. Returns how many photographs and how many shards there are. Names on stderr what cannot be read.
    Raises UserError if a process was killed or `out` cannot be written.
    """
    order = np.random.default_rng(0).permutation(len(photographs)).tolist()
    parts = np.array_split(order, -(-len(order) // count))
    for left in out.glob(".*.tar.*"):  # of a run that was killed
        left.unlink()
    written = 0
    try:
        with ProcessPoolExecutor(workers, initializer=_start_worker) as pool, tqdm(total=len(order), unit="file") as bar:
            try:
                work = {}
                for i, part in enumerate(parts):
                    files = [(f"{j:09}", photographs[j]) for j in part]
                    work[pool.submit(pack_shard, out / f"{i:06}.tar", files, size)] = len(part)
                for done in as_completed(work):
                    done_here, bad = done.result()
                    for name in bad:
                        bar.write(f"{name} cannot be read as a photograph and is skipped", file=sys.stderr)
                    written += done_here
                    bar.update(work[done])
            finally:
                pool.shutdown(cancel_futures=True)
    except BrokenProcessPool:
        raise UserError("a process was killed, perhaps for want of memory; the same command goes on") from None
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror}); the same command goes on") from None
    return written, len(parts)


def _start_worker() -> None:
    """Ctrl-C is the parent's to answer, and a parent that was killed leaves no workers behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def claim(out: Path, options: dict) -> None:
    """Writes what the shards in `out` are made of beside them. Raises UserError if they are made of something else."""
    record = out / "pack.json"
    if record.is_file():
        try:
            there = json.loads(record.read_bytes())
        except ValueError:
            there = {}
        if there != options:
            other = ", ".join(
                f"{key}={there.get(key)}" for key in ("root", "size", "count") if there.get(key) != options[key]
            )
            raise UserError(f"out={out}: holds shards of {other or 'other photographs'}; give another folder")
    elif any(out.glob("*.tar")):
        raise UserError(f"out={out}: holds tar files already that are none of this program's; give another folder")
    write_bytes(record, json.dumps(options, indent=1).encode())


def pack_shard(path: Path, photographs: list[tuple[str, Photograph]], size: int | None) -> tuple[int, list[str]]:
    """Writes one shard, whole or not at all, unless it is there. Returns how many it holds and what could not be read.

    photographs: under which key each is written.
    """
    try:
        with tarfile.open(path) as archive:
            return len(archive.getnames()), []
    except (FileNotFoundError, tarfile.TarError):
        pass  # one that was damaged since is written anew
    written, bad = 0, []
    with whole(path) as part, tarfile.open(part, mode="w") as archive:
        for key, photograph in photographs:
            try:
                suffix, data = packed(photograph, size)
            except UNREADABLE:
                bad.append(str(photograph))
            else:
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
                written += 1
    return written, bad


def packed(photograph: Photograph, size: int | None) -> tuple[str, bytes]:
    """A photograph's suffix and bytes: its own, or a JPEG of short side `size` px if it is larger.

    Raises one of UNREADABLE if the file is not a whole picture.
    """
    with photograph.open("rb") as file:
        data = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on odd but readable metadata
        with Image.open(io.BytesIO(data)) as image:
            short = min(image.size)
            if size is not None and short > size:
                turned = to_rgb(upright(image))
                small = turned.resize([round(side * size / short) for side in turned.size], Image.Resampling.LANCZOS)
                buffer = io.BytesIO()
                small.save(buffer, "JPEG", quality=QUALITY)
                return "jpg", buffer.getvalue()
        if not is_readable(Loaded("", "", data)):
            raise OSError(f"{photograph}: not a whole picture")
    return Path(photograph.name).suffix[1:].lower(), data
