"""Optimization-based style transfer: python scripts/optimize.py content=photo.jpg style=wave. See configs/optimize.yaml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

if __name__ == "__main__":
    from fastnst.commands.entry import optimize

    optimize()
