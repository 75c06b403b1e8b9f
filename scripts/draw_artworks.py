"""Draws the project's own artworks into fastnst/assets/artworks: python scripts/draw_artworks.py [name ...]."""

import io
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from fastnst.files import write_bytes  # noqa: E402

for name in sys.argv[1:] or ("wave", "mosaic", "starry", "inkwash"):
    data = io.BytesIO()
    import_module(f"artworks.{name}").draw().save(data, "JPEG", quality=92, subsampling=0)
    write_bytes(ROOT / "fastnst" / "assets" / "artworks" / f"{name}.jpg", data.getvalue())
    print(f"{name}.jpg: {len(data.getvalue()) / 1e3:.0f} kB")
