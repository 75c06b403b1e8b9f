"""Judges a checkpoint by the slow method: python scripts/evaluate.py ckpt=... style=... See fastnst/evaluate.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

from fastnst.evaluate import main  # noqa: E402

main()
