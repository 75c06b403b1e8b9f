"""Exports a checkpoint to other runtimes, ONNX, torch.export's archive or ExecuTorch, or to a checkpoint of one style.

What is written is run, too.
"""

import io
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fastnst.checkpoint import ancestor, load_net
from fastnst.checkpoint import export as write_checkpoint
from fastnst.errors import UserError
from fastnst.files import write_bytes
from fastnst.inference import phone
from fastnst.inference.card import machine
from fastnst.losses.layer_names import STYLE_LAYERS
from fastnst.losses.terms import reference_picture
from fastnst.models.arbitrary import ArbitraryNet, Pooling
from fastnst.models.conditional import StyledNet
from fastnst.models.net import Net
from fastnst.models.transform_net import TransformNet
from fastnst.timing import clock

SUFFIX = {"onnx": ".onnx", "pt2": ".pt2", "executorch": ".pte", "safetensors": ".safetensors"}
SIZES = ((1, 16, 16), (1, 51, 70), (3, 64, 33), (2, 130, 97))  # batch, height and width that an exported file is tried at
LEAST, MOST = 16, 32768  # px, the sides that an exported file takes


class Product(nn.Module):
    """A net with all that a product would have to do around it, for any batch, height and width.

    net: an ordinary net, or one of several styles or for any painting: then it takes an embedding, (numbers,), besides.
    inside: takes and gives RGB in 0-255, (N, H, W, 3) uint8; otherwise RGB in 0-1, (N, 3, H, W) float32. half: the net
    computes in half precision. The reflection to multiples of 4 is written as a choice of rows and columns, which every
    exporter keeps for sizes other than the one it sees.
    """

    def __init__(self, net: TransformNet | StyledNet, inside: bool, half: bool):
        super().__init__()
        self.net = net.half() if half else net
        self.inside, self.half_precision = inside, half

    def forward(self, pictures: Tensor, embedding: Tensor | None = None) -> Tensor:
        x = _as_planes(pictures) if self.inside else pictures
        height, width = x.shape[2], x.shape[3]
        x = x.index_select(2, _mirrored(height, x.device)).index_select(3, _mirrored(width, x.device)) * 2 - 1
        y = self.net.body.output(self.layers(x, embedding)).clamp(0, 1)
        rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        y = y.index_select(2, rows).index_select(3, columns)
        return (y * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous() if self.inside else y

    def layers(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        if self.half_precision:
            x, embedding = x.half(), None if embedding is None else embedding.half()
        if isinstance(self.net, StyledNet):
            assert embedding is not None
            return self.net.layers(embedding, x)
        return self.net.layers(x)


class Predictor(nn.Module):
    """What a zero-shot net makes of a painting, with the loss network that looks at it: its embedding.

    inside: takes RGB in 0-255, (1, H, W, 3) uint8; otherwise RGB in 0-1, (1, 3, H, W) float32. The short side is to have as
    many px as in training for strokes as in training. It computes in float32: the loss network's features are large.
    """

    reference: Tensor

    def __init__(self, net: ArbitraryNet, info: dict, path: Path, inside: bool):
        super().__init__()
        self.net, self.inside = net, inside
        self.loss_network, self.size = net.eye(info, path)
        self.pool = Pooling(self.loss_network)
        self.register_buffer("reference", reference_picture())

    def forward(self, painting: Tensor, style_weight: Tensor) -> Tensor:
        """style_weight: (1,), see `ArbitraryNet.predict`. Returns (numbers,)."""
        x = _as_planes(painting) if self.inside else painting
        pooled = self.pool(self.loss_network(x, STYLE_LAYERS))
        return self.net.colored(self.net.predict(pooled, style_weight)[0], x, self.reference)


def _as_planes(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2).contiguous().float() / 255


def _mirrored(side: int, device: torch.device) -> Tensor:
    index = torch.arange((side + 3) // 4 * 4, device=device)
    return torch.where(index < side, index, 2 * (side - 1) - index)


def export_product(product: Product, form: str, path: Path, info: dict) -> None:
    """Writes `product`, whole or not at all, as `form` (a key of SUFFIX), `info` in its metadata under "fastnst".

    One that takes embeddings is written as ONNX alone.
    """
    example = _pictures((2, 64, 68), product.inside)
    metadata, data = json.dumps(info), io.BytesIO()
    sides = _sides(product.inside)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        if form == "executorch":
            data.write(
                phone.written(
                    product,
                    _pictures((1, 64, 68), product.inside),
                    sides,
                    LEAST,
                    metadata,
                )
            )
        elif form == "pt2":
            dims = {0: torch.export.Dim("batch", min=1, max=4096)}
            dims |= {axis: torch.export.Dim(name, min=LEAST, max=MOST) for axis, name in sides.items()}
            program = torch.export.export(product, (example,), dynamic_shapes=(dims,))
            torch.export.save(program, data, extra_files={"fastnst": metadata})
        else:
            inputs = {"pictures": (example, {0: "batch", **sides})}
            if isinstance(product.net, StyledNet):
                inputs["embedding"] = product.net.first_embedding(), {}
            data.write(_onnx(product, inputs, "restyled", metadata))
    write_bytes(path, data.getvalue())


def export_predictor(predictor: Predictor, path: Path, info: dict) -> None:
    """Writes `predictor` as ONNX, whole or not at all, with `info` in its metadata under "fastnst"."""
    inputs = {
        "painting": (_pictures((1, 64, 68), predictor.inside), _sides(predictor.inside)),
        "style_weight": (torch.ones(1), {}),
    }
    with torch.no_grad():
        write_bytes(path, _onnx(predictor, inputs, "embedding", json.dumps(info)))


def _sides(inside: bool) -> dict[int, str]:
    return {1: "height", 2: "width"} if inside else {2: "height", 3: "width"}


def _onnx(module: nn.Module, inputs: dict[str, tuple[Tensor, dict[int, str]]], output: str, metadata: str) -> bytes:
    """`module` as an ONNX file. inputs: of each by its name an example, and the names of axes of any length."""
    try:
        import onnx
        import onnxruntime  # noqa: F401 (tries the file)
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError:
        raise UserError("format=onnx needs more packages: pip install 'fastnst[export]'") from None
    examples, shapes = zip(*inputs.values(), strict=True)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        file = str(Path(folder, "net.onnx"))
        torch.onnx.export(
            module, examples, file, dynamo=True, verbose=False, external_data=False,
            input_names=[*inputs], output_names=[output], dynamic_shapes=shapes,
        )  # fmt: skip
        model = onnx.load(file)
    onnx.helper.set_model_props(model, {"fastnst": metadata})
    return model.SerializeToString()


def with_half_weights(data: bytes) -> bytes:
    """An ONNX file with its weights in half precision, half the size, that computes in float32 as before."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(data)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) >= 64:  # constants stay exact
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    return model.SerializeToString()


def export_checkpoint(net: Net, half: bool, path: Path, info: dict, style: str | None = None) -> None:
    """Writes a net as a checkpoint. half: in half precision, half the size; a pass computes as before.

    style: its name, if it is one of several or a painting's; None: `info` has it, or the net has several or takes any.
    """
    info = info | {"ancestor": ancestor(net, info)}  # before weights are rounded
    if style is not None:
        info["style"] = {"name": style, "size": info["style"]["size"]}
    write_checkpoint(path, net.half() if half else net, info)


def load_exported(path: Path, form: str) -> tuple[Callable[..., np.ndarray], dict]:
    """An exported file as a function of arrays, run by its own runtime, and the info in its metadata.

    A checkpoint of a net of several styles, or of any, is tried with its first embedding.
    """
    if form == "safetensors":
        whole, info = load_net(path)
        net = whole.fold(whole.first_embedding())
        return _of_arrays(lambda pictures: net(pictures).clamp(0, 1)), info
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        metadata = session.get_modelmeta().custom_metadata_map["fastnst"]
        names = [entry.name for entry in session.get_inputs()]
        return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0], json.loads(metadata)
    if form == "executorch":
        call, metadata = phone.loaded(path)
        return call, json.loads(metadata)
    extra = {"fastnst": ""}
    module = torch.export.load(str(path), extra_files=extra).module()
    return _of_arrays(module), json.loads(extra["fastnst"])


def _of_arrays(module: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    def call(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(pictures)).numpy()

    return call


def sizes_of(form: str) -> list[tuple[int, int, int]]:
    """Those of SIZES that a file of this form takes: on phones one picture at a time."""
    return [size for size in SIZES if form != "executorch" or size[0] == 1]


def largest_difference(
    call: Callable[[np.ndarray], np.ndarray],
    net: TransformNet,
    inside: bool,
    sizes: Sequence[tuple[int, int, int]] = SIZES,
) -> float:
    """Between an exported file and the net in float32, over pictures of these sizes, in parts of 255."""
    worst = 0.0
    for size in sizes:
        pictures = _pictures(size, inside)
        x = _as_planes(pictures) if inside else pictures
        with torch.no_grad():
            expected = net(x).clamp(0, 1) * 255
        result = torch.from_numpy(call(pictures.numpy())).float()
        if inside:
            expected, result = expected.round(), result.permute(0, 3, 1, 2)
        else:
            result = result * 255
        if result.shape != expected.shape:
            raise RuntimeError(f"an exported net gives {tuple(result.shape)} for {tuple(expected.shape)}")
        worst = max(worst, (result - expected).abs().max().item())
    return worst


def time_a_pass(call: Callable[[np.ndarray], np.ndarray], inside: bool) -> str:
    """Milliseconds a megapixel of an exported file here, from the faster of two passes over a picture of 512 x 512 px."""
    pictures = _pictures((1, 512, 512), inside).numpy()
    seconds = min(clock(lambda: call(pictures)) for _ in range(2))
    return f"{1e3 * seconds / (512 * 512 / 1e6):.0f} ms a megapixel at 512 x 512 px, measured at export ({machine()})"


def _pictures(size: tuple[int, int, int], inside: bool) -> Tensor:
    """Smooth random pictures of (batch, height, width)."""
    generator = torch.Generator().manual_seed(sum(size))
    coarse = torch.rand(size[0], 3, 5, 7, generator=generator)
    pictures = nn.functional.interpolate(coarse, size[1:], mode="bilinear")
    return (pictures * 255).round().byte().permute(0, 2, 3, 1).contiguous() if inside else pictures
