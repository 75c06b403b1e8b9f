"""The slow method on one photograph: python scripts/optimize.py content=photo.jpg style=wave. See fastnst/optimize.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

from fastnst.optimize import main  # noqa: E402

main()
