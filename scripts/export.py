"""Exports a checkpoint to another runtime: python scripts/export.py ckpt=... format=onnx. See fastnst/export.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

from fastnst.export import main  # noqa: E402

main()
