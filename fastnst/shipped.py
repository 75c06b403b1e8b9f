"""What comes with the code, wherever the user stands: configs, artworks, and checkpoints by name."""

import re
from pathlib import Path

from fastnst.errors import UserError

PACKAGE = Path(__file__).resolve().parent
# In a wheel configs and checkpoints lie inside the package, in a clone beside it.
HOME = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent
CONFIGS, CHECKPOINTS = HOME / "configs", HOME / "checkpoints"
ARTWORKS = PACKAGE / "assets" / "artworks"  # the project's own
PAINTINGS = PACKAGE / "assets" / "paintings"  # in the public domain, by the names of shipped styles: 432 x 324 px of each


def painting_of(checkpoint: Path) -> str | None:
    """What checkpoints/README.md says that a shipped checkpoint's painting is; None for any other file."""
    readme = CHECKPOINTS / "README.md"
    if checkpoint.resolve().parent != CHECKPOINTS.resolve() or not readme.is_file():
        return None
    found = re.search(rf"^\| `{re.escape(checkpoint.name)}` \| (.*?) \|", readme.read_text(), re.MULTILINE)
    return found[1] if found else None


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
