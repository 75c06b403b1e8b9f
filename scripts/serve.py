"""Serves a page that restyles pictures: python scripts/serve.py. See fastnst/serve.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

from fastnst.serve import main  # noqa: E402

main()
