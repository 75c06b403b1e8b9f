"""What comes with the code, wherever the user stands: configs, artworks, and checkpoints by name."""

import functools
import hashlib
import re
from pathlib import Path

from fastnst.errors import UserError

PACKAGE = Path(__file__).resolve().parent
# In a wheel configs and checkpoints lie inside the package, in a clone beside it.
HOME = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent
CONFIGS, CHECKPOINTS = HOME / "configs", HOME / "checkpoints"
ARTWORKS = PACKAGE / "assets" / "artworks"  # the project's own
FIGURES = "content", "strokes", "palette", "motif"  # the last columns of checkpoints/README.md's table of figures
PAINTINGS = PACKAGE / "assets" / "paintings"  # in the public domain, by the names of shipped styles: 432 x 324 px of each


def is_shipped(checkpoint: Path) -> bool:
    """Whether a file is, byte for byte, the shipped checkpoint of its name: one that was trained under that name is not."""
    sums = CHECKPOINTS / "SHA256SUMS"
    if not checkpoint.is_file() or not sums.is_file():
        return False
    return f"{_digest(checkpoint, checkpoint.stat().st_mtime_ns)}  {checkpoint.name}" in sums.read_text().splitlines()


@functools.lru_cache
def _digest(file: Path, changed: int) -> str:
    """SHA-256 of a file last changed then, computed once: the page asks for each card that it shows."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def painting_of(checkpoint: Path) -> str | None:
    """What checkpoints/README.md says that a shipped checkpoint's painting is; None for any other file."""
    row = _row(checkpoint, checkpoint.name)
    return row[0] if row else None


def figures_of(checkpoint: Path) -> str | None:
    """The figures of today's net that checkpoints/README.md has for a shipped checkpoint; None where it has none."""
    row = _row(checkpoint, checkpoint.stem)
    if row is None or len(row) < 8:
        return None
    return ", ".join(f"{figure} {value}" for figure, value in zip(FIGURES, row[-4:], strict=True))


def _row(checkpoint: Path, name: str) -> list[str] | None:
    """The cells after the name in the first row of that name in checkpoints/README.md; None if the file is not shipped."""
    readme = CHECKPOINTS / "README.md"
    if not is_shipped(checkpoint):
        return None
    found = re.search(rf"^\| `{re.escape(name)}` \|(.*)\|$", readme.read_text(), re.MULTILINE)
    return [cell.strip() for cell in found[1].split("|")] if found else None


def checkpoint_file(name: str | Path) -> Path:
    """The file of that name, or else the shipped checkpoint of that name, such as `wave`.

    Raises UserError, which lists the shipped names, if there is neither, and TypeError for what is no path.
    """
    if not isinstance(name, (str, Path)):
        raise TypeError(f"give a checkpoint's file, or the name of a shipped one, not a {type(name).__name__}")
    shipped = {file.stem: file for file in sorted(CHECKPOINTS.glob("*.safetensors"))}
    path = Path(name)
    if path.is_file():
        return path
    if str(path) in shipped:
        return shipped[str(path)]
    raise UserError(f"{path}: no such checkpoint; give a file, or the name of a shipped one: {', '.join(shipped)}")
