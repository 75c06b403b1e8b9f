"""Restyles pictures: python scripts/infer.py ckpt=checkpoints/wave.safetensors img=photo.jpg. See configs/infer.yaml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone works from anywhere, installed or not

from fastnst.infer import main  # noqa: E402

main()
