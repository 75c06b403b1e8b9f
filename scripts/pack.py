"""Packs photographs into sharded tar files: python scripts/pack.py root=... out=... See fastnst/pack.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

from fastnst.pack import main  # noqa: E402

main()
