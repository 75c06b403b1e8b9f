"""VGG16 against ONNX Runtime, and each source of weights."""

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import oxford_state
from onnx import TensorProto, helper, numpy_helper
from torchvision.models.vgg import cfgs, make_layers

from fastnst.errors import UserError
from fastnst.losses import vgg
from fastnst.losses.layer_names import convolutions, torchvision_index
from fastnst.losses.vgg import LossNetwork

CONVOLUTIONS = convolutions("vgg16")
LAYERS = tuple(name.replace("conv", "relu") for name in CONVOLUTIONS)


def caffe_model() -> bytes:
    """The shipped weights as the ONNX graph of Oxford's network: input B, G, R in 0-255 less the mean."""
    weights = oxford_state()
    nodes, tensors, x = [], [], "bgr"
    for name in CONVOLUTIONS:
        weight, bias = weights[f"{name}.weight"].float().numpy(), weights[f"{name}.bias"].float().numpy()
        if name == "conv1_1":
            weight = np.ascontiguousarray(weight[:, ::-1])
        if name in ("conv2_1", "conv3_1", "conv4_1", "conv5_1"):
            nodes.append(helper.make_node("MaxPool", [x], [f"pool{name}"], kernel_shape=[2, 2], strides=[2, 2]))
            x = f"pool{name}"
        layer = name.replace("conv", "relu")
        tensors += [numpy_helper.from_array(weight, f"{name}.w"), numpy_helper.from_array(bias, f"{name}.b")]
        nodes.append(helper.make_node("Conv", [x, f"{name}.w", f"{name}.b"], [name], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [name], [layer]))
        x = layer
    ends = [helper.make_tensor_value_info(layer, TensorProto.FLOAT, None) for layer in (*LAYERS, *CONVOLUTIONS)]
    start = helper.make_tensor_value_info("bgr", TensorProto.FLOAT, [1, 3, None, None])
    graph = helper.make_graph(nodes, "vgg16", [start], ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def test_features_equal_onnxruntimes():
    images = torch.rand(1, 3, 50, 67, generator=torch.Generator().manual_seed(0))
    bgr = images.numpy()[:, ::-1] * 255 - np.array([103.939, 116.779, 123.68], np.float32)[:, None, None]
    session = onnxruntime.InferenceSession(caffe_model(), providers=["CPUExecutionProvider"])
    layers = [*LAYERS, *CONVOLUTIONS]
    expected = dict(zip(layers, session.run(layers, {"bgr": bgr.astype(np.float32)}), strict=True))
    for layer, features in LossNetwork(layers=layers)(images, layers).items():
        error = np.linalg.norm(features.numpy() - expected[layer]) / np.linalg.norm(expected[layer])
        assert error < 1e-4, layer


def test_a_pass_stops_at_the_deepest_layer_it_needs(monkeypatch):
    network, calls = LossNetwork(), []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(vgg.F, "conv2d", lambda *a, **k: calls.append(1) or convolve(*a, **k))
    assert set(network(torch.rand(1, 3, 16, 16), ["relu3_3"])) == {"relu3_3"}
    assert len(calls) == 7


def test_frozen_and_never_saved():
    network = LossNetwork()
    assert not list(network.parameters())
    assert not network.state_dict()
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    network(images, ["relu4_3"])["relu4_3"].sum().backward()
    assert images.grad.abs().sum() > 0


def test_unknown_layers():
    with pytest.raises(UserError, match="relu5_1.*up to conv4_3"):
        LossNetwork()(torch.rand(1, 3, 16, 16), ["relu5_1"])
    with pytest.raises(UserError, match="vgg16 has no layer 'conv4_4'"):
        LossNetwork(layers=["conv4_4"])


def test_a_layer_before_its_relu():
    images = torch.rand(1, 3, 16, 16)
    features = LossNetwork()(images, ["conv2_2", "relu2_2", "relu3_1"])
    assert features["conv2_2"].min() < 0
    torch.testing.assert_close(features["conv2_2"].relu(), features["relu2_2"])
    torch.testing.assert_close(features["relu3_1"], LossNetwork()(images, ["relu3_1"])["relu3_1"])


def test_vgg19_equals_torchvisions(tmp_path):
    torch.manual_seed(0)
    features = make_layers(cfgs["E"], batch_norm=False).eval()
    found = [i for i, module in enumerate(features) if isinstance(module, torch.nn.Conv2d)]
    assert list(torchvision_index("vgg19").values()) == found
    assert [torchvision_index("vgg19")[f"conv{b}_1"] for b in range(1, 6)] == [0, 5, 10, 19, 28]
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, tmp_path / "vgg19.pth")
    layers = ["conv1_1", "conv4_4", "relu4_4", "relu5_4"]
    network = LossNetwork(str(tmp_path / "vgg19.pth"), "vgg19", layers)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        x = (images - network.mean) / network.std
        for layer, end in zip(layers, (1, 26, 27, 36), strict=True):
            torch.testing.assert_close(network(images, [layer])[layer], features[:end](x.clone()))
    with pytest.raises(UserError, match="not a vgg16"):
        LossNetwork(str(tmp_path / "vgg19.pth"), "vgg16")
