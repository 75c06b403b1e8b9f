"""Times fastnst against what tutorials do, and each part of it: python scripts/benchmark.py. See configs/benchmark.yaml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

if __name__ == "__main__":  # the processes that it starts import this file, too
    from fastnst.commands.entry import benchmark

    benchmark()
