"""Nets that other projects have trained, read without running code, as `TransformNet`s with the same results.

They have the same layers by other names. What else differs is folded into the weights. Their input is 0-255 where ours is u
in -1 to 1: as 255 (u + 1) / 2 = 127.5 u + 127.5, the first filters are scaled by 127.5. The 127.5 that is added, like a bias
before any instance normalization, shifts each map by one number, which is subtracted again. Their output is 0-255 where ours
is 0-1: the last filters are divided by 255. If their colours are in another order, the filters' channels are exchanged.

For sides that are not multiples of 4 px their results are larger than the photograph. Ours have its size.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastnst.checkpoint import LARGEST
from fastnst.errors import UserError, line_of
from fastnst.models.transform_net import TransformNet

DARK = 8 / 255  # what a net reaches somewhere, unless it is to be followed by a tanh, whose argument is a few units at most


@dataclass(frozen=True)
class Published:
    """How a project names the layers of its net.

    convolutions, norms: their names, from the input on. upsample: as `TransformNet` takes it. bgr: colours in and out are in
    the order blue, green, red. running: whether its files may hold running statistics, which it never used. ordered: whether
    only the order of the keys tells its net from another of its own.
    """

    project: str
    convolutions: tuple[str, ...]
    norms: tuple[str, ...]
    upsample: str
    bgr: bool = False
    running: bool = False
    ordered: bool = False

    @property
    def keys(self) -> list[str]:
        """Of its state_dict, in its order."""
        layers = [layer for pair in zip_longest(self.convolutions, self.norms) for layer in pair if layer is not None]
        return [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]

    @property
    def unused(self) -> set[str]:
        """Keys that its files may hold besides."""
        return {f"{norm}.running_{part}" for norm in self.norms for part in ("mean", "var")} if self.running else set()


BLOCKS = [(block, layer) for block in range(1, 6) for layer in (1, 2)]
PUBLISHED = (
    Published(
        "pytorch/examples",  # fast_neural_style/neural_style/transformer_net.py
        ("conv1.conv2d", "conv2.conv2d", "conv3.conv2d", *(f"res{block}.conv{layer}.conv2d" for block, layer in BLOCKS),
         "deconv1.conv2d", "deconv2.conv2d", "deconv3.conv2d"),
        ("in1", "in2", "in3", *(f"res{block}.in{layer}" for block, layer in BLOCKS), "in4", "in5"),
        upsample="nearest",
        running=True,
    ),
    Published(
        "rrmina/fast-neural-style-pytorch",  # transformer.py, without its tanh; utils.py: OpenCV's order of colours
        (*(f"ConvBlock.{place}.conv_layer" for place in (0, 2, 4)),
         *(f"ResidualBlock.{block - 1}.conv{layer}.conv_layer" for block, layer in BLOCKS),
         *(f"DeconvBlock.{place}.conv_transpose" for place in (0, 2)), "DeconvBlock.4.conv_layer"),
        (*(f"ConvBlock.{place}.norm_layer" for place in (0, 2, 4)),
         *(f"ResidualBlock.{block - 1}.conv{layer}.norm_layer" for block, layer in BLOCKS),
         *(f"DeconvBlock.{place}.norm_layer" for place in (0, 2))),
        upsample="transposed",
        bgr=True,
        ordered=True,
    ),
)  # fmt: skip


def converted(weights: Mapping[str, Tensor]) -> tuple[TransformNet, str]:
    """The net with these weights, in eval mode, and the project that it is of. Raises UserError unless it is known."""
    published = _recognised(weights)
    with torch.device("meta"):
        net = TransformNet("instance", _width(weights[published.keys[0]]), published.upsample, "linear")
    biases = {f"{layer}.bias" for layer in published.convolutions[:-1]}
    used = [key for key in published.keys if key not in biases]
    state = {}
    for (name, wanted), key in zip(net.state_dict().items(), used, strict=True):
        if weights[key].shape != wanted.shape:
            raise UserError(f"its {key} is of shape {tuple(weights[key].shape)}, not {tuple(wanted.shape)}")
        state[name] = weights[key].detach().to(torch.float32, copy=True)  # one tensor may have two names
    first, *_, last, colors = state
    state[first] = 127.5 * state[first]
    state[last], state[colors] = state[last] / 255, state[colors] / 255
    if published.bgr:
        state[first], state[last], state[colors] = state[first].flip(1), state[last].flip(0), state[colors].flip(0)
    if not all((tensor.abs() < LARGEST).all() for tensor in state.values()):
        raise UserError("it holds weights that are not finite numbers, or huge")
    net.load_state_dict(state, assign=True)
    net.eval()
    with torch.inference_mode():
        brightest = net(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))).max().item()
    if not brightest >= DARK:
        raise UserError("its pictures are black; perhaps it is one of those nets that end in a tanh, which are not read")
    return net, published.project


def _recognised(weights: Mapping[str, Tensor]) -> Published:
    for published in PUBLISHED:
        keys = [key for key in weights if key not in published.unused]
        if set(keys) == set(published.keys):
            if published.ordered and keys != published.keys:
                raise UserError("its residual blocks normalize before they convolve; such nets are not read")
            return published
    projects = " or ".join(published.project for published in PUBLISHED)
    raise UserError(f"its keys are not those of a net of {projects}")


def _width(filters: Tensor) -> int:
    if filters.dim() != 4 or not 1 <= len(filters) <= 512:
        raise UserError(f"its first convolution is of shape {tuple(filters.shape)}")
    return len(filters)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of torch.save or, if it is called .onnx, in an ONNX model. Runs no code that is in the file.

    Raises UserError for anything else: a whole module, a TorchScript archive, a damaged file.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    weights = _read_onnx(path) if path.suffix.lower() == ".onnx" else _read_torch(path)
    for key, tensor in weights.items():
        plain = isinstance(key, str) and isinstance(tensor, Tensor) and tensor.layout == torch.strided
        if not plain or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
            raise UserError(f"{path}: holds more than plain tensors by their names; give a file of the net's state_dict")
    return weights


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, before it refuses a file
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises nearly anything on a file that is not its own
        raise UserError(f"{path}: not a file of tensors alone that torch.save wrote, or a damaged one") from None
    if not isinstance(weights, dict):
        raise UserError(f"{path}: holds a {type(weights).__name__}; give a file of the net's state_dict")
    return weights


def _read_onnx(path: Path) -> dict[str, Tensor]:
    """The initializers by their names, which torch's exporter takes from the state_dict."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise UserError("an ONNX file needs more packages: pip install 'fastnst[export]'") from None
    try:
        graph = onnx.load(path, load_external_data=False).graph
        if not _is_of_pytorch_examples(graph):
            raise UserError(f"{path}: its operators are not those of a net of pytorch/examples")
        if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in graph.initializer):
            raise UserError(f"{path}: its weights lie in other files")
        known = [tensor for tensor in graph.initializer if tensor.name in PUBLISHED[0].keys]
        return {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in known}
    except (DecodeError, ValueError, TypeError, LookupError, OSError) as error:
        raise UserError(f"{path}: not an ONNX model, or a damaged one ({line_of(error)})") from None


def _is_of_pytorch_examples(graph: Any) -> bool:
    """Whether a graph has that net's layers, whichever version of torch's exporter wrote it."""
    makers = {output: node for node in graph.node for output in node.output}
    operators = [node.op_type for node in graph.node]
    wanted = {"Conv": 16, "InstanceNormalization": 15, "Relu": 10}  # as many, and a picture straight in and straight out
    if any(operators.count(operator) != count for operator, count in wanted.items()) or len(graph.output) != 1:
        return False
    first, last = graph.node[operators.index("Conv")], makers.get(graph.output[0].name)
    padding = makers.get(first.input[0])
    if last is None or padding is None or (padding.op_type, last.op_type) != ("Pad", "Conv"):
        return False
    if padding.input[0] not in {given.name for given in graph.input}:
        return False
    modes = {"Pad": b"reflect", "Upsample": b"nearest", "Resize": b"nearest"}
    given = {(node.op_type, part.s) for node in graph.node for part in node.attribute if part.name == "mode"}
    return ("Pad", b"reflect") in given and given <= set(modes.items())
