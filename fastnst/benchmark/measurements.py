"""Times a training step, its parts, decoding and inference.

What is compared runs in turn, round after round, and the medians are compared, so that other load on the machine affects all
alike.
"""

import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fastnst.benchmark import textbook
from fastnst.benchmark.steps import DTYPES, clock, contenders, interleaved, make_step
from fastnst.checkpoint import export as write_checkpoint
from fastnst.data.crops import Photographs, collate
from fastnst.data.files import find_photographs, is_readable, sample_photographs
from fastnst.errors import UserError
from fastnst.images import best_device, load_rgb, to_tensor
from fastnst.inference.export import Product, export_product
from fastnst.inference.stylizer import Stylizer
from fastnst.losses.terms import content_loss
from fastnst.models.transform_net import TransformNet

SCALE = (0.5, 1.0)  # of the training crops, as configs/data has it


def machine(device: torch.device) -> dict:
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"threads": torch.get_num_threads(), "cpu": platform.machine(), "gpu": gpu, "torch": torch.__version__}


@contextmanager
def photographs(root: Path | None, count: int) -> Iterator[Path]:
    """A folder that holds `count` photographs of `root` in one subfolder, as ImageFolder wants it.

    None stands for scikit-image's samples, cut to 640 x 480 px, about as large as COCO's photographs are.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "all")
        folder.mkdir()
        if root is None:
            samples = [path for paths in sample_photographs() for path in paths][:count]
            for path in samples:
                ImageOps.fit(load_rgb(path), (640, 480)).save(folder / f"{path.stem}.jpg", quality=90)
        else:
            readable = (path for path in find_photographs(root) if is_readable(path))
            for i, path in zip(range(count), readable, strict=False):
                (folder / f"{i:06}{path.suffix}").symlink_to(path.resolve())
            if not any(folder.iterdir()):
                raise UserError(f"data.root={root}: none of the files can be read as a photograph")
        yield Path(temporary)


# The training step.


def compare_losses(batch: Tensor, width: int) -> dict[str, dict[str, float]]:
    """Relative differences of our losses from the textbook's, on the same batch with the same weights."""
    with torch.no_grad():
        losses = {kind: make_step(kind, width, batch.device).losses(batch) for kind in ("textbook", *DTYPES)}
    theirs = {name: value.item() for name, value in losses["textbook"].items()}
    return {kind: {name: abs(losses[kind][name].item() / value - 1) for name, value in theirs.items()} for kind in DTYPES}


def time_steps(batch: Tensor, settings: dict, device: torch.device) -> dict[str, dict[str, float]]:
    """Seconds of a training step of each kind, and how many times as fast as the textbook's it is.

    Without Lightning's own work, and without the data: `fastnst.benchmark.steps`.
    """
    kinds = ["textbook", *DTYPES] + (["compiled"] if device.type == "cuda" else [])
    with contenders(batch, settings["width"]) as ask:
        for kind in kinds:
            ask(kind)  # the first step is slower
        seconds = interleaved({kind: lambda kind=kind: ask(kind) for kind in kinds}, settings["rounds"])
    images = len(batch)
    return {
        kind: {"seconds": s, "images_per_second": images / s, "ratio": seconds["textbook"] / s}
        for kind, s in seconds.items()
    }


# Its parts.


def time_parts(batch: Tensor, crops: Photographs, settings: dict, dtype: torch.dtype) -> dict:
    """Seconds, floating-point operations and achieved fraction of the matrix-product peak of each part of our step."""
    device = batch.device
    step = make_step(str(dtype).removeprefix("torch."), settings["width"], device)
    objective, parameters = step.objective, list(step.net.parameters())
    x = batch.contiguous(memory_format=torch.channels_last)
    layers = {objective.content_layer, *objective.style_layers}
    made: dict[str, object] = {}

    def data() -> None:
        made["batch"] = collate([crops[i, i % len(crops)] for i in range(len(batch))])

    def net() -> None:
        made["restyled"] = step.net(x)

    def net_backward() -> None:
        made["gradients"] = torch.autograd.grad(made["restyled"], parameters, made["image_gradient"])

    def content_pass() -> None:
        made["target"] = objective.target(x)

    def style_pass() -> None:
        made["image"] = made["restyled"].detach().requires_grad_()
        made["features"] = objective.features(made["image"], layers)

    def style_pass_backward() -> None:
        kept = list(made["features"].values())
        gradients = [made["feature_gradients"][layer] for layer in made["features"]]
        (made["image_gradient"],) = torch.autograd.grad(kept, made["image"], gradients)

    def grams() -> None:
        made["leaves"] = {layer: f.detach().requires_grad_() for layer, f in made["features"].items()}
        made["grams"] = [objective.gram(made["leaves"][layer]) for layer in objective.style_layers]

    def grams_backward() -> None:
        leaves = [made["leaves"][layer] for layer in objective.style_layers]
        gradients = torch.autograd.grad(made["grams"], leaves, [gram.detach() for gram in made["grams"]])
        made["feature_gradients"] |= dict(zip(objective.style_layers, gradients, strict=True))

    def content_and_tv() -> None:
        leaf, image = made["leaves"][objective.content_layer], made["image"]
        total = content_loss(leaf, made["target"]) + objective.variation(image)
        gradients = torch.autograd.grad(total, [leaf, image])
        made["feature_gradients"] = {objective.content_layer: gradients[0]}

    def optimizer() -> None:
        for parameter, gradient in zip(parameters, made["gradients"], strict=True):
            parameter.grad = gradient
        step.optimizer.step()
        step.optimizer.zero_grad()

    parts = {
        "data (one core)": data, "transform net, forward": net, "VGG to relu3_3, photographs": content_pass,
        "VGG to relu4_3, results": style_pass, "Gram matrices": grams, "content and tv, with gradients": content_and_tv,
        "Gram matrices, backward": grams_backward, "VGG to relu4_3, backward": style_pass_backward,
        "transform net, backward": net_backward, "Adam": optimizer,
    }  # fmt: skip
    peaks = matrix_products(dtype, device, settings["size"])
    operations = {}
    with step.autocast(x):
        for product in peaks.values():
            product()
        for name, part in parts.items():  # in this order each has what it needs
            with FlopCounterMode(display=False) as counter:
                part()
            operations[name] = counter.get_total_flops()

        def timed(name: str, part: Callable[[], object]) -> Callable[[], float]:
            return (
                (lambda: one_thread(lambda: clock(part, device))) if name.startswith("data") else lambda: clock(part, device)
            )

        contest = {name: timed(name, part) for name, part in (parts | peaks).items()}
        seconds = interleaved(contest, settings["rounds"])
    peak = max(product.operations / seconds[name] for name, product in peaks.items())
    whole = sum(seconds[name] for name in parts if not name.startswith("data"))
    return {
        "peak_gflops": peak / 1e9,
        "seconds": whole,
        "parts": [
            {
                "part": name,
                "seconds": seconds[name],
                "share": None if name.startswith("data") else seconds[name] / whole,
                "gflop": operations[name] / 1e9,
                "gflops": operations[name] / seconds[name] / 1e9,
                "fraction_of_peak": operations[name] / seconds[name] / peak,
            }
            for name in parts
        ],
    }


class MatrixProduct:
    """A product of (p, c) and (c, c) by torch's matmul, or as a convolution of 1 x 1, which other code computes: the faster
    of both is the machine's peak. p: 16 positions squared, times 16 pictures.
    """

    def __init__(self, channels: int, dtype: torch.dtype, device: torch.device, convolve: bool):
        self.convolve = convolve
        self.a = torch.randn(16, channels, 16, 16, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        self.b = torch.randn(channels, channels, 1, 1, device=device, dtype=dtype)
        self.operations = 2 * self.a.numel() * channels

    def __call__(self) -> Tensor:
        if self.convolve:
            return torch.nn.functional.conv2d(self.a, self.b)
        return self.a.permute(0, 2, 3, 1).reshape(-1, len(self.b)) @ self.b[:, :, 0, 0]


def matrix_products(dtype: torch.dtype, device: torch.device, size: int) -> dict[str, MatrixProduct]:
    """What the machine's peak is measured with. size: of the crops in px; small ones are a trial, where little will do."""
    channels = 8192 if device.type == "cuda" else 4 * min(size, 256)
    return {f"matrix product {c}": MatrixProduct(channels, dtype, device, c) for c in (False, True)}


def one_thread(work: Callable[[], float]) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work()
    finally:
        torch.set_num_threads(threads)


# Decoding.


def time_decoding(folder: Path, settings: dict) -> dict[str, dict[str, float]]:
    """Images per second on one core: ImageFolder with Resize, CenterCrop, ToTensor; our training crops; our centred ones."""
    from torchvision.datasets import ImageFolder  # here, as it takes a second
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    size = settings["size"]
    theirs = ImageFolder(str(folder), Compose([Resize(size), CenterCrop(size), ToTensor()]))
    paths = find_photographs(folder)
    training, centred = Photographs(paths, size, SCALE, seed=0), Photographs(paths, size)

    def all_of(read: Callable[[int], object]) -> Callable[[], float]:
        def decode() -> None:
            for i in range(len(paths)):
                read(i)

        return lambda: one_thread(lambda: clock(decode, torch.device("cpu")))

    contest = {
        "torchvision": all_of(lambda i: theirs[i]),
        "training crops": all_of(lambda i: training[i, i]),
        "centred crops": all_of(lambda i: centred[0, i]),
    }
    for decode in contest.values():
        decode()
    seconds = interleaved(contest, settings["rounds"])
    return {name: {"images_per_second": len(paths) / s, "ratio": seconds["torchvision"] / s} for name, s in seconds.items()}


# Inference.


def time_inference(side: int, settings: dict) -> dict:
    """Seconds to restyle one square picture, RGB bytes in and out: the textbook's net, ONNX Runtime (CPU), and ours."""
    torch.manual_seed(0)
    net = TransformNet(width=settings["width"]).eval()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8))
    picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    device = best_device()
    plain = textbook.Net(net).eval().to(device)

    @torch.no_grad()
    def theirs() -> None:
        result = plain(to_tensor(picture).unsqueeze(0).contiguous().to(device))[0]
        Image.fromarray(result.clamp(0, 1).mul(255).byte().permute(1, 2, 0).cpu().numpy())

    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = Path(temporary, "net.safetensors")
        write_checkpoint(checkpoint, net, {})
        stylizer = Stylizer(checkpoint)
        contest = {"textbook": theirs, "ours": lambda: stylizer.restyle([picture])}
        session = onnx_session(net, Path(temporary, "net.onnx"))
    if session is not None:
        contest["ONNX Runtime"] = lambda: session.run(None, {"pictures": np.asarray(picture)[None]})
    for work in contest.values():
        work()
    rounds = settings["rounds"] if side < 1024 else min(3, settings["rounds"])
    seconds = interleaved({name: lambda work=work: clock(work, device) for name, work in contest.items()}, rounds)
    return {
        "size": side,
        "seconds": seconds,
        "ratio": {name: seconds["textbook"] / s for name, s in seconds.items()},
    }


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
