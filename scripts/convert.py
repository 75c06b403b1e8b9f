"""Converts a net of another project: python scripts/convert.py ckpt=... out=... See configs/convert.yaml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

if __name__ == "__main__":
    from fastnst.commands.entry import convert

    convert()
