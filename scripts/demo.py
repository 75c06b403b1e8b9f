"""The first run: trains style=wave on the sample photographs, restyles a held-out one, lays the three side by side.

Further arguments go to the training, such as style=mosaic, or style=custom style.image=painting.jpg. Of several styles the
first is shown.
"""

import subprocess
import sys
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fastnst.checkpoint import load_net  # noqa: E402
from fastnst.commands.options import paintings_of  # noqa: E402
from fastnst.data.files import sample_photographs  # noqa: E402
from fastnst.images import load_rgb  # noqa: E402
from fastnst.inference.stylizer import Stylizer  # noqa: E402

HEIGHT = 384  # px, of the three pictures


def main() -> None:
    run = Path(f"outputs/demo/{datetime.now():%Y-%m-%d_%H-%M-%S-%f}")
    train = [sys.executable, str(ROOT / "scripts" / "train.py"), "experiment=demo", *sys.argv[1:], f"run_dir={run}"]
    status = subprocess.run(train).returncode
    if status:
        sys.exit(status)
    trained = OmegaConf.load(run / "config.yaml")
    style, file = next(iter(paintings_of(trained.style).items()))
    photograph, painting = load_rgb(sample_photographs()[1][0]), load_rgb(file)
    out = Path(trained.out)
    net, info = load_net(out)
    result = Stylizer((net.pick_painting(style, file, info, out), info))(photograph)
    pictures = [p.resize((round(p.width * HEIGHT / p.height), HEIGHT), Image.Resampling.LANCZOS)
                for p in (painting, photograph, result)]  # fmt: skip
    sheet = Image.new("RGB", (sum(p.width for p in pictures) + 16, HEIGHT), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + 8
    path = out.with_suffix(".png")
    sheet.save(path)
    print(path.resolve())


if __name__ == "__main__":
    main()
