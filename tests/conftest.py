"""Small pictures and a small training, so that the whole path runs in seconds."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Forked, be_ready
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import fastnst
from fastnst.checkpoint import export
from fastnst.losses.vgg_weights import OXFORD
from fastnst.models.arbitrary import POOLED, ArbitraryNet
from fastnst.models.conditional import MultiStyleNet
from fastnst.models.transform_net import TransformNet

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


# What starts trainings, processes, exports or servers.
SLOW = (
    "benchmark", "commands", "gpu", "training", "web", "test_cluster", "test_demo", "test_export", "test_film", "test_fuzz",
    "test_packing", "test_scripts", "test_shards", "test_shipped", "test_synthetic", "test_workers",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {item.path.parent.name, item.path.stem} & set(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def float32_by_default():
    """`precision=auto` is float32 in tests, whatever the CPU; those of bfloat16 ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        yield


def picture(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A smooth random RGB picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def one_colour_each(folder: Path, count: int) -> Path:
    """A new folder of `count` PNGs, each of one colour, by which any crop of it is known: see `colour_of`."""
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", (40, 30), (10 * i, 10 * i, 10 * i)).save(folder / f"{i:02}.png")
    return folder


def colour_of(image: Tensor) -> int:
    """Which of the pictures of `one_colour_each` the crop is from."""
    assert image.max() - image.min() < 1e-6
    return round(image.mean().item() * 25.5)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of twelve JPEGs."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(12):
        picture(i).save(folder / f"{i:02}.jpg")
    return folder


@pytest.fixture
def paintings(tmp_path: Path) -> Path:
    """A folder of four PNGs."""
    folder = tmp_path / "paintings"
    folder.mkdir()
    for i in range(4):
        picture(50 + i, 80, 72).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def two_paintings(paintings):
    """The folder of `paintings` with the first two of them."""
    for name in ("2", "3"):
        (paintings / f"{name}.png").unlink()
    return paintings


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs a main function as from a command line standing in tmp_path: (exit status, stdout, stderr)."""

    def run(main, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fastnst", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def ready():
    be_ready()


@pytest.fixture
def fork(ready, tmp_path):
    """Starts a process that stands in tmp_path and calls a function: see `Forked`. It ends with the test."""
    started = []

    def start(work, *arguments: object, **variables: str) -> Forked:
        started.append(Forked(tmp_path, work, *arguments, **variables))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def small_training(photographs, tmp_path):
    """Overrides for a training of seconds: 32 px crops, a net of width 4."""
    painting = tmp_path / "painting.png"
    picture(99, 80, 72).save(painting)
    return (
        "style=custom", "style.name=small", f"style.image={painting}", "style.size=48",
        "data=folder", f"data.root={photographs}", "data.size=32", "data.batch_size=2", "data.val_count=2",
        "model.width=4", "loss.scales=[1]",
        "trainer=cpu", "trainer.max_steps=6", "trainer.log_every_n_steps=1", "checkpoint_every=2",
    )  # fmt: skip


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x["image"], y["image"]) for x, y in zip(a, b, strict=True))


def zipped(folder: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of the folder, as COCO's are: everything in one folder of its own."""
    path = folder.with_name(f"{folder.name}_{method}.zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, Path("top", file.relative_to(folder)))
    return path


@pytest.fixture
def several(small_training, paintings):
    """Overrides for a small training of two styles."""
    dropped = ("style.image=", "style.name=")
    return (
        *(argument for argument in small_training if not argument.startswith(dropped)),
        f"style.images={{a: '{paintings}/0.png', b: '{paintings}/1.png'}}", "model=multi",
    )  # fmt: skip


def random_multi(styles=("a", "b"), width=4, upsample="nearest"):
    net = MultiStyleNet(styles, width, upsample)
    torch.nn.init.normal_(net.embeddings, 0.5, 0.5)
    return net.eval()


def random_arbitrary(tmp_path):
    torch.manual_seed(0)
    net = ArbitraryNet(width=4)
    net.survey(0.1 * torch.rand(128, POOLED))
    torch.nn.init.normal_(net.head[2].weight, 0, 0.2)
    info = {"style": {"name": "x", "size": 48}, "objective": {"loss_network": {"network": "vgg16", "weights": "oxford"}}}
    export(tmp_path / "any.safetensors", net, info)
    return net


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    export(tmp_path / "style.safetensors", TransformNet(width=4), {"style": {"name": "style"}, "steps": 0})
    return tmp_path / "style.safetensors"


@pytest.fixture
def stylizer(checkpoint):
    return fastnst.load(checkpoint)


@pytest.fixture
def checkpoints(tmp_path):
    """A folder of two nets of one style each, ink and sea."""
    for seed, name in enumerate(("ink", "sea")):
        torch.manual_seed(seed)
        export(tmp_path / "checkpoints" / f"{name}.safetensors", TransformNet(width=4), {"style": {"name": name}})
    return tmp_path / "checkpoints"


class Pixels(torch.nn.Module):
    """A loss network whose one layer is the picture itself, in units of its `std`."""

    network = "vgg16"

    def __init__(self, std: float):
        super().__init__()
        self.std = torch.full((1, 3, 1, 1), std, dtype=torch.float64)

    def forward(self, images, layers):
        return {layer: images / self.std for layer in layers}


def random(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def oxford_state() -> dict[str, torch.Tensor]:
    return {key: tensor for file in OXFORD for key, tensor in load_file(file).items()}
