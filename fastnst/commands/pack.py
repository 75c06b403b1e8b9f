"""Packs photographs into sharded tar files for data=webdataset: read `pack` from top to bottom."""

import hashlib
import signal
import sys

from omegaconf import DictConfig

from fastnst.commands.options import check_whole, path_of
from fastnst.data.files import find_photographs, is_readable
from fastnst.data.packing import claim, pack_shards
from fastnst.data.workers import cores
from fastnst.errors import UserError, fail
from fastnst.files import check_writable


def pack(cfg: DictConfig) -> dict[str, int]:
    """Writes the shards that `cfg` (configs/pack.yaml) describes. Returns the number of photographs, shards and bad files.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_whole(cfg, {"size": 16, "count": 1, "workers": 1}, optional=("size", "workers"))
    root, out = path_of(cfg, "root").resolve(), path_of(cfg, "out")
    photographs = find_photographs(root)
    if not any(map(is_readable, photographs)):
        raise UserError(f"root={root}: none of the files can be read as a photograph")
    check_writable(out)
    names = hashlib.sha256("\n".join(map(str, photographs)).encode(errors="surrogateescape")).hexdigest()
    claim(out, {"root": str(root), "photographs": len(photographs), "names": names, "size": cfg.size, "count": cfg.count})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        written, shards = pack_shards(photographs, out, cfg.size, cfg.count, cfg.workers or cores())
    except KeyboardInterrupt:
        fail("stopped; the same command goes on with the shards that are not done")
        sys.exit(130)
    bad = len(photographs) - written
    print(f"{written} photographs in {shards} shards, {bad} files skipped")
    print(f"data=webdataset data.urls='{out}/{{000000..{shards - 1:06}}}.tar'")
    return {"photographs": written, "shards": shards, "bad": bad}
