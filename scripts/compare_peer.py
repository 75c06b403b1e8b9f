"""A zero-shot net beside Magenta's: python scripts/compare_peer.py paintings=FOLDER. See configs/compare_peer.yaml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

if __name__ == "__main__":
    from fastnst.commands.entry import compare_peer

    compare_peer()
