"""The first run: trains style=wave on the sample photographs, restyles a held-out one, lays the three side by side.

Further arguments go to the training, such as style=mosaic.
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import fastnst  # noqa: E402
from fastnst.data.files import sample_photographs  # noqa: E402
from fastnst.images import load_rgb  # noqa: E402

HEIGHT = 384  # px, of the three pictures


def main() -> None:
    style = next((a.removeprefix("style=") for a in sys.argv[1:] if a.startswith("style=")), "wave")
    train = [sys.executable, str(ROOT / "scripts" / "train.py"), "experiment=demo", *sys.argv[1:]]
    status = subprocess.run(train).returncode
    if status:
        sys.exit(status)
    photograph = load_rgb(sample_photographs()[1][0])
    result = fastnst.load(f"outputs/demo/{style}.safetensors")(photograph)
    artwork = load_rgb(ROOT / "fastnst" / "assets" / "artworks" / f"{style}.jpg")
    pictures = [p.resize((round(p.width * HEIGHT / p.height), HEIGHT), Image.Resampling.LANCZOS)
                for p in (artwork, photograph, result)]  # fmt: skip
    sheet = Image.new("RGB", (sum(p.width for p in pictures) + 16, HEIGHT), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + 8
    path = Path(f"outputs/demo/{style}.png")
    sheet.save(path)
    print(path.resolve())


if __name__ == "__main__":
    main()
