"""Files that are written whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fastnst.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]


def check_writable(folder: Path, key: str = "out") -> None:
    """Makes the folder if need be. Raises UserError, naming the key, if no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{key}={folder}: cannot be written to ({error.strerror})") from None


def check_file(path: Path, key: str = "out") -> None:
    """Raises UserError, naming the key, if no file of that name can be written. Leaves nothing, and makes no folder."""
    try:
        if path.is_dir():
            raise UserError(f"{key}={path}: is a folder; give a file")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{key}={path}: cannot be written ({error.strerror})") from None


@contextmanager
def whole(path: str | Path, suffix: str = "", part: Path | None = None) -> Iterator[Path]:
    """Gives another name beside `path` to write under, then renames: readers see the old file or the whole new one.

    The folder is made if need be. After an exception nothing is left. suffix: what the other name ends in, for a writer
    that goes by it. part: the other name itself, for a file so large that killed writers must not leave more than one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if part is None:
        shortened = os.fsdecode(os.fsencode(path.name)[:200])  # names have at most 255 bytes
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{shortened}.", suffix=suffix)
        os.close(descriptor)
        part = Path(name)
    try:
        yield part
        os.chmod(part, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # which a full disk does not tell
        raise


def locked(file: IO) -> bool:
    """Locks a file until it is closed, or its process ends however. False if another process has locked it.

    Where there are no locks, as on Windows or some file systems, it is as if nobody had.
    """
    if fcntl is None:
        return True
    try:
        # No flock, which processes that were forked from this one would hold after its end.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file, whole or not at all."""
    with whole(path) as part:
        part.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
