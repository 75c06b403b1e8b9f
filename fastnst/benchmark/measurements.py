"""Times decoding, a folder of pictures and inference. Each function gives the rows of a table."""

import io
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import decode_image
from torchvision.transforms import CenterCrop, Compose, ConvertImageDtype, Resize, ToTensor

from fastnst.benchmark.steps import DTYPES, compare
from fastnst.data.crops import Photographs, crop
from fastnst.data.files import Loaded, sample_photographs
from fastnst.data.packing import pack_shard
from fastnst.data.shards import read_shard
from fastnst.images import Held, best_device, load_rgb, native_bfloat16
from fastnst.inference.export import Product, export_product
from fastnst.inference.pipeline import Line, Picture
from fastnst.inference.stylizer import Controls, Stylizer
from fastnst.models.transform_net import TransformNet

PRECISIONS = [*DTYPES] if best_device().type != "cpu" or native_bfloat16() else ["float32"]  # of inference


def samples() -> Iterator[Loaded]:
    """scikit-image's photographs as JPEGs of 640 x 480 px, about as large as COCO's are."""
    for path in itertools.chain(*sample_photographs()):
        data = io.BytesIO()
        ImageOps.fit(load_rgb(path), (640, 480)).save(data, "JPEG", quality=90)
        yield Loaded("", f"{path.stem}.jpg", data.getvalue())


def time_decoding(files: Sequence[Loaded], size: int, rounds: int) -> list[dict]:
    """Photographs' files to squares of `size` px on one core: torchvision's ways, ours, and from webdataset's shards."""
    cut = Resize(size), CenterCrop(size)
    from_pillow, from_bytes = Compose([*cut, ToTensor()]), Compose([*cut, ConvertImageDtype(torch.float32)])
    crops = Photographs(files, size, (0.5, 1.0), seed=0)
    contest: dict[str, Callable[[], list]] = {
        "torchvision, by Pillow": lambda: [from_pillow(Image.open(file.open()).convert("RGB")) for file in files],
        "torchvision, by decode_jpeg": lambda: [from_bytes(decode_image(as_tensor(file), "RGB")) for file in files],
        "ours": lambda: [crops[i, i] for i in range(len(files))],
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("webdataset"):
            from webdataset import WebDataset

            shard = f"{folder}/0.tar"
            pack_shard(Path(shard), [(f"{i:06}", file) for i, file in enumerate(files)], None)
            theirs = WebDataset(shard, shardshuffle=False).decode("pil").to_tuple("jpg;jpeg;png;webp")
            contest["webdataset, by Pillow"] = lambda: [from_pillow(image) for (image,) in theirs]
            contest["ours, from that shard"] = lambda: [crop(file, 1, 0.5, 0.5, False, size) for file in read_shard(shard)]
        rows = compare(contest, rounds, len(files), {})
    torch.set_num_threads(threads)
    return rows if find_spec("webdataset") else [*rows, dict.fromkeys(rows[0]) | {"what": "webdataset is not installed"}]


def as_tensor(file: Loaded) -> Tensor:
    return torch.frombuffer(bytearray(file.data), dtype=torch.uint8)


def time_folder(files: Sequence[Loaded], width: int, rounds: int) -> list[dict]:
    """The net alone on photographs that are decoded, and all of decoding, restyling and writing them, overlapped."""
    stylizer = Stylizer((TransformNet(width=width, upsample="antialiased").eval(), {}))
    sources, photographs = [Held(file.data) for file in files], [load_rgb(file) for file in files]

    def alone(controls: Controls) -> None:
        for photograph in photographs:
            stylizer(photograph, controls=controls)

    def whole(controls: Controls, folder: str) -> None:
        pictures = [Picture(source, Path(folder, f"{i}.jpg")) for i, source in enumerate(sources)]
        Line(stylizer, None, controls, lambda picture: None).run(pictures, lambda picture: nullcontext(lambda share: None))
        assert all(picture.error is None for picture in pictures)

    with tempfile.TemporaryDirectory() as folder:
        contest, beside = {}, {}
        for precision in PRECISIONS:
            controls = Controls(precision=precision)
            contest[f"{precision}, the net alone"] = partial(alone, controls)
            contest[f"{precision}, files"] = partial(whole, controls, folder)
            beside[f"{precision}, files"] = f"{precision}, the net alone"
        return compare(contest, rounds, len(files), beside)


def time_inference(side: int, width: int, rounds: int) -> list[dict]:
    """One square picture, RGB bytes in and out: by ONNX Runtime (CPU), and ours in each precision."""
    torch.manual_seed(0)
    net, beside = TransformNet(width=width, upsample="antialiased").eval(), {"bfloat16": "float32"}
    noise = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    pictures = [Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)]
    contest: dict[str, Callable[[], object]] = {}
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        with tempfile.TemporaryDirectory() as folder:
            export_product(Product(net, inside=True, half=False).eval(), "onnx", Path(folder, "net.onnx"), {})
            contest["ONNX Runtime"] = partial(Stylizer(Path(folder, "net.onnx")).restyle, pictures, Controls(tile=None))
    stylizer = Stylizer((net, {}))
    for precision in PRECISIONS:
        contest[precision] = partial(stylizer.restyle, pictures, Controls(precision=precision, tile=None))
    rows = compare(contest, rounds if side < 1024 else min(3, rounds), 1, beside)
    return [{"width": width, "px": side} | row for row in rows]
