"""Trains a style: python scripts/train.py style=wave. See configs/train.yaml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

if __name__ == "__main__":  # the processes that it starts may import this file, too
    from fastnst.commands.entry import train

    train()
