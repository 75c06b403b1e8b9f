"""Times the parts of a training step, decoding and inference. Each function gives the rows of a table.

What is compared runs in turn, round after round, and the medians are compared, so that other load on the machine affects all
alike.
"""

import copy
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

from fastnst.benchmark import textbook
from fastnst.benchmark.steps import DTYPES, Step, interleaved, make_step
from fastnst.data.crops import Photographs
from fastnst.data.files import Photograph, sample_photographs
from fastnst.images import best_device, load_rgb, native_bfloat16, to_tensor
from fastnst.inference.export import Product, export_product
from fastnst.inference.stylizer import Controls, Stylizer
from fastnst.losses.terms import content_loss
from fastnst.models.transform_net import TransformNet
from fastnst.timing import clock

SCALE = (0.5, 1.0)  # of the training crops, as configs/data has it


def write_samples(folder: Path) -> Path:
    """scikit-image's photographs as JPEGs of 640 x 480 px, about as large as COCO's are. Returns the folder."""
    for path in (path for paths in sample_photographs() for path in paths):
        ImageOps.fit(load_rgb(path), (640, 480)).save(folder / f"{path.stem}.jpg", quality=90)
    return folder


def compare_losses(batch: Tensor, width: int) -> list[dict]:
    """Relative differences of our losses from the textbook's with the same weights. batch: (N, 3, H, W) in 0-1."""
    with torch.no_grad():
        theirs, *ours = (make_step(kind, width, batch.device).losses(batch) for kind in ("textbook", *DTYPES))
    return [
        {"precision": kind, **{name: abs(losses[name].item() / theirs[name].item() - 1) for name in theirs}}
        for kind, losses in zip(DTYPES, ours, strict=True)
    ]


def time_parts(batch: Tensor, width: int, rounds: int, kind: str) -> list[dict]:
    """Seconds, floating-point operations and achieved fraction of the matrix-product peak of each part of our step.

    batch: (N, 3, H, W) in 0-1. kind: of DTYPES.
    """
    step = make_step(kind, width, batch.device)
    assert isinstance(step, Step)  # of DTYPES
    objective, parameters = step.objective, list(step.net.parameters())
    x = batch.contiguous(memory_format=torch.channels_last)
    optimizer = copy.deepcopy(step.optimizer)  # its own weights: those of the net are part of a graph
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)

    def backward(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Callable[[], object]:
        # Times do not depend on the gradients' values.
        return partial(torch.autograd.grad, outputs, inputs, [torch.ones_like(y) for y in outputs], retain_graph=True)

    with step.autocast(x):
        restyled, target = step.net(x), objective.target(x)
        image = restyled.detach().requires_grad_()
        features = objective.features(image, {objective.content_layer, *objective.style_layers})
        leaves = {layer: f.detach().requires_grad_() for layer, f in features.items()}
        styles = [leaves[layer] for layer in objective.style_layers]

        def content_and_tv() -> None:
            content = leaves[objective.content_layer]
            torch.autograd.grad(content_loss(content, target) + objective.variation(image), [content, image])

        parts = {
            "transform net, forward": lambda: step.net(x),
            "VGG to relu3_3, photographs": lambda: objective.target(x),
            "VGG to relu4_3, results": lambda: objective.features(image, features),
            "Gram matrices": lambda: [objective.gram(f) for f in styles],
            "content and tv, with gradients": content_and_tv,
            "Gram matrices, backward": backward([objective.gram(f) for f in styles], styles),
            "VGG to relu4_3, backward": backward(list(features.values()), [image]),
            "transform net, backward": backward([restyled], parameters),
            "Adam": optimizer.step,
        }
        products = matrix_products(DTYPES[kind], batch)
        operations = {}
        for name, part in (parts | products).items():
            with FlopCounterMode(display=False) as counter:
                part()
            operations[name] = counter.get_total_flops() / 1e9
        seconds = interleaved({name: partial(clock, part) for name, part in (parts | products).items()}, rounds)
    speed = {name: operations[name] / s for name, s in seconds.items()}
    peak, whole = max(speed[name] for name in products), sum(seconds[name] for name in parts)
    return [
        {
            "part": name,
            "seconds": s,
            "share": s / whole if name in parts else None,
            "gflop": operations[name],
            "gflop_per_second": speed[name],
            "of_the_peak": speed[name] / peak,
        }
        for name, s in seconds.items()
    ]


def matrix_products(dtype: torch.dtype, batch: Tensor) -> dict[str, Callable[[], Tensor]]:
    """A product of (4096, c) and (c, c), and the same as a convolution of 1 x 1, which other code computes.

    The faster of both is the machine's peak. For a small batch, as in a trial, c is small.
    """
    c = 8192 if batch.device.type != "cpu" else 4 * min(batch.shape[-1], 256)
    a = torch.randn(16, c, 16, 16, device=batch.device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    b = torch.randn(c, c, 1, 1, device=batch.device, dtype=dtype)
    flat = a.permute(0, 2, 3, 1).reshape(-1, c)
    return {
        "matrix product": lambda: flat @ b[:, :, 0, 0],
        "matrix product, as a convolution": lambda: torch.nn.functional.conv2d(a, b),
    }


def time_decoding(paths: list[Photograph], size: int, rounds: int) -> list[dict]:
    """Images per second on one core: torchvision's Resize, CenterCrop and ToTensor; our training crops; our centred ones."""
    transform = Compose([Resize(size), CenterCrop(size), ToTensor()])
    training, centred = Photographs(paths, size, SCALE, seed=0), Photographs(paths, size)

    def theirs(i: int) -> Tensor:
        with paths[i].open("rb") as file:
            return transform(Image.open(file).convert("RGB"))  # as torchvision's ImageFolder reads it

    readers = {"torchvision": theirs, "training crops": lambda i: training[i, i], "centred crops": lambda i: centred[0, i]}

    def read_all(reader: Callable[[int], object]) -> None:
        for i in range(len(paths)):
            reader(i)

    contest = {name: partial(clock, partial(read_all, reader)) for name, reader in readers.items()}
    for work in contest.values():
        work()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = interleaved(contest, rounds)
    torch.set_num_threads(threads)
    return [
        {"decoder": name, "images_per_second": len(paths) / s, "times_torchvision": seconds["torchvision"] / s}
        for name, s in seconds.items()
    ]


def time_inference(side: int, width: int, rounds: int) -> dict:
    """Seconds to restyle one square picture, RGB bytes in and out: the textbook's net, ours, and ONNX Runtime (CPU)."""
    torch.manual_seed(0)
    net, device = TransformNet(width=width, upsample="antialiased").eval(), best_device()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8))
    picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    plain, stylizer = textbook.Net(net).eval().to(device), Stylizer((copy.deepcopy(net), {}))

    @torch.no_grad()
    def theirs() -> None:
        result = plain(to_tensor(picture).unsqueeze(0).contiguous().to(device))[0]
        Image.fromarray(result.clamp(0, 1).mul(255).byte().permute(1, 2, 0).cpu().numpy())

    with tempfile.TemporaryDirectory() as temporary:
        session = onnx_session(net, Path(temporary, "net.onnx"))
    contest: dict[str, Callable[[], object]] = {"textbook": theirs}
    for precision in DTYPES if device.type != "cpu" or native_bfloat16() else ["float32"]:
        contest[precision] = partial(stylizer.restyle, [picture], Controls(precision=precision, tile=None))
    if session is not None:
        contest["onnx_runtime"] = lambda: session.run(None, {"pictures": np.asarray(picture)[None]})
    for work in contest.values():
        work()
    rounds = rounds if side < 1024 else min(3, rounds)
    seconds = interleaved({name: partial(clock, work) for name, work in contest.items()}, rounds)
    row = {"width": width, "px": side} | {f"{name}_seconds": s for name, s in seconds.items()}
    row["times_the_textbook"] = seconds["textbook"] / seconds["float32"]
    if session is not None:
        row["share_of_onnx_runtime"] = seconds["float32"] / seconds["onnx_runtime"]
    if "bfloat16" in seconds:
        row["bfloat16_times_float32"] = seconds["float32"] / seconds["bfloat16"]
    return row


def onnx_session(net: TransformNet, path: Path):
    """ONNX Runtime's session of the exported net, with as many threads as torch has; None without its packages."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    export_product(Product(net, inside=True, half=False).eval(), "onnx", path, {})
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
