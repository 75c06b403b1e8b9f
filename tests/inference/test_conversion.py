"""Nets of other projects: written out here from their definitions, and compared with what they are converted to."""

import pickle
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from conftest import picture
from onnx import TensorProto, helper

import fastnst
from fastnst.checkpoint import load_net
from fastnst.commands.entry import convert, export, infer
from fastnst.errors import UserError
from fastnst.inference.export import largest_difference, load_exported
from fastnst.inference.tiling import restyle_in_strips
from fastnst.models.transform_net import TransformNet
from fastnst.web.studio import Look, Studio

PYTORCH, RRMINA = "pytorch/examples", "rrmina/fast-neural-style-pytorch"
# Each convolution and, of all but the last, its normalization, by the names of the project's own state_dict.
LAYERS = {
    PYTORCH: [(f"conv{i}.conv2d", f"in{i}") for i in (1, 2, 3)]
    + [(f"res{i}.conv{j}.conv2d", f"res{i}.in{j}") for i in (1, 2, 3, 4, 5) for j in (1, 2)]
    + [("deconv1.conv2d", "in4"), ("deconv2.conv2d", "in5"), ("deconv3.conv2d", None)],
    RRMINA: [(f"ConvBlock.{i}.conv_layer", f"ConvBlock.{i}.norm_layer") for i in (0, 2, 4)]
    + [(f"ResidualBlock.{i}.conv{j}.conv_layer", f"ResidualBlock.{i}.conv{j}.norm_layer")
       for i in range(5) for j in (1, 2)]
    + [(f"DeconvBlock.{i}.conv_transpose", f"DeconvBlock.{i}.norm_layer") for i in (0, 2)]
    + [("DeconvBlock.4.conv_layer", None)],
}  # fmt: skip


def state_of(project: str, width: int = 8) -> dict[str, torch.Tensor]:
    """A state_dict of the project with random weights, that gives pictures of some contrast about mid-grey."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    sides = [3, width, 2 * width, *[4 * width] * 11, 2 * width, width, 3]
    state = {}
    for i, (convolution, norm) in enumerate(LAYERS[project]):
        inputs, outputs = sides[i : i + 2]
        kernel = 9 if i in (0, 15) else 3
        shape = (inputs, outputs) if convolution.endswith("transpose") else (outputs, inputs)
        state[f"{convolution}.weight"] = normal(*shape, kernel, kernel) / (inputs * kernel**2) ** 0.5
        state[f"{convolution}.bias"] = 3 * normal(outputs)
        if norm is not None:
            state[f"{norm}.weight"], state[f"{norm}.bias"] = 1 + 0.3 * normal(outputs), 0.3 * normal(outputs)
    last = LAYERS[project][-1][0]
    state[f"{last}.weight"] *= 60
    state[f"{last}.bias"] = torch.tensor([90.0, 120.0, 160.0])
    return state


def result_of(project: str, state: dict[str, torch.Tensor], image) -> np.ndarray:
    """What the project's own net makes of a picture: RGB in 0-255, before it is rounded, (H, W, 3)."""

    def convolve(x, i, stride=1):
        weight, bias = (state[f"{LAYERS[project][i][0]}.{part}"] for part in ("weight", "bias"))
        return F.conv2d(F.pad(x, [weight.shape[-1] // 2] * 4, mode="reflect"), weight, bias, stride)

    def enlarge(x, i):
        if project == PYTORCH:
            return convolve(F.interpolate(x, scale_factor=2, mode="nearest"), i)
        weight, bias = (state[f"{LAYERS[project][i][0]}.{part}"] for part in ("weight", "bias"))
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)

    def normalize(x, i):
        scale, shift = (state[f"{LAYERS[project][i][1]}.{part}"] for part in ("weight", "bias"))
        return F.instance_norm(x, weight=scale, bias=shift, eps=1e-5)

    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    x = x.flip(1) if project == RRMINA else x  # OpenCV's blue, green, red
    for i, stride in enumerate((1, 2, 2)):
        x = F.relu(normalize(convolve(x, i, stride), i))
    for i in range(3, 13, 2):
        x = x + normalize(convolve(F.relu(normalize(convolve(x, i), i)), i + 1), i + 1)
    for i in (13, 14):
        x = F.relu(normalize(enlarge(x, i), i))
    x = convolve(x, 15)
    x = x.flip(1) if project == RRMINA else x
    return x[0].permute(1, 2, 0).numpy()


def shown(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).round().astype(int)


@pytest.fixture(params=[PYTORCH, RRMINA])
def project(request):
    return request.param


@pytest.fixture
def converted(project, command, tmp_path):
    torch.save(state_of(project), tmp_path / "their.pth")
    status, out, err = command(convert, "ckpt=their.pth", "out=ours.safetensors")
    assert status == 0 and err == "", err
    assert out == f"ours.safetensors: a net of {project}, 0.4 MB\n"
    return tmp_path / "ours.safetensors"


def test_a_converted_net_gives_what_the_published_gives(project, converted):
    style, image = fastnst.load(converted), picture(3, 72, 56)
    expected = shown(result_of(project, state_of(project), image))
    assert expected.std() > 30
    assert np.abs(np.asarray(style(image, precision="float32")).astype(int) - expected).max() <= 1
    assert style.info["style"] == {"name": "ours"} and style.info["converted"] == project


@pytest.mark.parametrize("zipped", [True, False])  # torch's format from 1.6 on, and before
def test_running_statistics_are_left_out(command, tmp_path, zipped):
    state = state_of(PYTORCH, 32)
    running = {f"{norm}.running_{part}": 7 * torch.ones(3) for _, norm in LAYERS[PYTORCH][:-1] for part in ("mean", "var")}
    torch.save(state | running, tmp_path / "mosaic.model", _use_new_zipfile_serialization=zipped)
    assert command(convert, "mosaic.model", "out=deep/mosaic.safetensors")[0] == 0
    image = picture(4, 48, 64)
    result = np.asarray(fastnst.load(tmp_path / "deep/mosaic.safetensors")(image, precision="float32")).astype(int)
    assert np.abs(result - shown(result_of(PYTORCH, state, image))).max() <= 1


def test_one_tensor_under_two_names(command, tmp_path):
    state = state_of(RRMINA)
    first, second = (f"ResidualBlock.3.conv{j}.norm_layer.weight" for j in (1, 2))
    torch.save(state | {first: state[second]}, tmp_path / "tied.pth")
    status, _, err = command(convert, "ckpt=tied.pth", "out=tied.safetensors")
    assert status == 0, err
    weights = load_net(tmp_path / "tied.safetensors")[0].layers[12].layers
    assert torch.equal(weights[1].weight, weights[4].weight) and torch.equal(weights[1].weight, state[second])


@pytest.mark.parametrize("size", [(34, 51), (130, 97), (66, 203)])
@torch.inference_mode()
def test_strips_equal_the_whole(converted, size):
    image = picture(3, *size)
    whole = np.asarray(fastnst.load(converted)(image, tile=None, precision="float32")).astype(int)
    for strip in (16, 21, 1000):
        assert np.abs(restyle_in_strips(load_net(converted)[0], np.asarray(image), strip) - whole).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("project, form", [(PYTORCH, "onnx"), (RRMINA, "pt2")])
def test_exports_agree(command, converted, tmp_path, form):
    status, _, err = command(export, "ckpt=ours.safetensors", f"format={form}")
    assert status == 0, err
    (file,) = (tmp_path / "exported").glob("*[!d]")
    assert largest_difference(load_exported(file, form)[0], load_net(converted)[0], True) <= 1


def test_results_are_mixed(converted, checkpoint):
    image = picture(5)
    alone = [np.asarray(fastnst.load(path)(image)).astype(float) for path in (converted, checkpoint)]
    mixed = np.asarray(fastnst.load(converted, checkpoint, weights=[3, 1])(image))
    assert np.abs(alone[0] - alone[1]).mean() > 20
    assert np.abs(mixed - (0.75 * alone[0] + 0.25 * alone[1])).max() <= 1


def test_a_film(command, converted, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seed in (1, 2):
            film.mux(stream.encode(av.VideoFrame.from_image(picture(seed))))
        film.mux(stream.encode())
    status, _, err = command(infer, "ckpt=ours.safetensors", "img=clip.mp4", "out=styled.mp4")
    assert status == 0, err
    with av.open(str(tmp_path / "clip.mp4")) as film, av.open(str(tmp_path / "styled.mp4")) as result:
        pairs = list(zip(film.decode(video=0), result.decode(video=0), strict=True))
    assert len(pairs) == 2
    for before, after in pairs:
        expected = fastnst.load(converted)(before.to_image())  # in luminance, as H.264 halves the chroma
        result, expected = (np.asarray(image.convert("L")).astype(float) for image in (after.to_image(), expected))
        assert np.abs(result - expected).mean() < 8 < expected.std()


def test_the_page_offers_it(converted, checkpoint, tmp_path):
    page = Studio(tmp_path, tmp_path, 1e6)
    assert set(page.styles) == {"ours", "style"}
    image = picture(5)
    assert np.array_equal(page.stylizer(Look("ours"))(image), fastnst.load(converted)(image))


def test_training_goes_on_from_a_converted_net(converted):
    start, _ = load_net(converted)
    net = TransformNet(width=8, upsample=start.architecture["upsample"], output="linear")
    net.begin_from(start, lambda: {"mine": start.first_embedding()})
    assert all(torch.equal(weight, start.state_dict()[name]) for name, weight in net.state_dict().items())
    other = TransformNet(width=8, upsample=start.architecture["upsample"])
    with pytest.raises(UserError, match="'output': 'linear'}, not .*'output': 'tanh'}; give the same model"):
        other.begin_from(start, lambda: {"mine": start.first_embedding()})


def zoo(state: dict[str, torch.Tensor], size: int = 64) -> onnx.ModelProto:
    """The model that torch's exporter of 2019 made of pytorch/examples' net: opset 9, one size, weights among the inputs."""
    nodes, last = [], "input1"

    def node(operator, *more, **attributes):
        nonlocal last
        nodes.append(helper.make_node(operator, [last, *more], [f"n{len(nodes)}"], **attributes))
        last = nodes[-1].output[0]

    def convolve(i, stride=1):
        name = LAYERS[PYTORCH][i][0]
        kernel = state[f"{name}.weight"].shape[-1]
        node("Pad", mode="reflect", pads=[0, 0, *[kernel // 2] * 2] * 2)
        node("Conv", f"{name}.weight", f"{name}.bias", strides=[stride] * 2, kernel_shape=[kernel] * 2)

    def normalize(i):
        name = LAYERS[PYTORCH][i][1]
        node("InstanceNormalization", f"{name}.weight", f"{name}.bias", epsilon=1e-5)

    for i, stride in enumerate((1, 2, 2)):
        convolve(i, stride), normalize(i), node("Relu")
    for i in range(3, 13, 2):
        before = last
        convolve(i), normalize(i), node("Relu"), convolve(i + 1), normalize(i + 1), node("Add", before)
    for i in (13, 14):
        node("Upsample", "scales", mode="nearest"), convolve(i), normalize(i), node("Relu")
    convolve(15)
    arrays = {name: tensor.numpy() for name, tensor in state.items()} | {"scales": np.array([1, 1, 2, 2], np.float32)}
    given = {"input1": (1, 3, size, size)} | {name: array.shape for name, array in arrays.items()}
    graph = helper.make_graph(
        nodes, "torch-jit-export",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, (1, 3, size, size))],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=4, opset_imports=[helper.make_opsetid("", 9)])


def test_an_onnx_model_of_the_zoo(command, tmp_path):
    onnx.save(zoo(state_of(PYTORCH)), tmp_path / "candy-9.onnx")
    assert command(convert, "ckpt=candy-9.onnx", "out=candy.safetensors")[0] == 0
    image = picture(6, 64, 64)
    session = onnxruntime.InferenceSession(str(tmp_path / "candy-9.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input1": np.asarray(image, np.float32).transpose(2, 0, 1)[None]})
    result = np.asarray(fastnst.load(tmp_path / "candy.safetensors")(image, precision="float32")).astype(int)
    assert np.abs(result - shown(expected[0].transpose(1, 2, 0))).max() <= 1


def changed(model: onnx.ModelProto, kind: str, **to: object) -> onnx.ModelProto:
    """The model with the last node of that kind changed: its operator, or an attribute."""
    node = [node for node in model.graph.node if node.op_type == kind][-1]
    for name, value in to.items():
        if name == "operator":
            node.op_type = value
        for attribute in node.attribute:
            if attribute.name == name:
                attribute.CopyFrom(helper.make_attribute(name, value))
    return model


def elsewhere(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a weight that lies in another file, here one of the user's."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    return model


def appended(model: onnx.ModelProto) -> onnx.ModelProto:
    output = model.graph.output[0]
    model.graph.node.append(helper.make_node("Tanh", [output.name], ["end"]))
    output.name = "end"
    return model


def scaled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its input doubled."""
    model.graph.node.insert(0, helper.make_node("Add", ["input1", "input1"], ["doubled"]))
    model.graph.node[1].input[0] = "doubled"
    return model


@pytest.mark.parametrize(
    "make, message",
    [
        (scaled, "operators are not those"),
        (appended, "operators are not those"),
        (lambda model: changed(model, "Relu", operator="Elu"), "operators are not those"),
        (lambda model: changed(model, "Pad", mode="edge"), "operators are not those"),
        (lambda model: changed(model, "Upsample", mode="linear"), "operators are not those"),
        (elsewhere, "weights lie in other files"),
        (lambda model: model.SerializeToString()[:1000], "not an ONNX model, or a damaged one"),
    ],
)
def test_other_onnx_models_are_refused(command, tmp_path, make, message):
    (tmp_path / "secret").write_bytes(bytes(10**6))
    model = make(zoo(state_of(PYTORCH)))
    (tmp_path / "net.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    refused(command, tmp_path, "net.onnx", message)


def refused(command, tmp_path, name, message):
    before = sorted(tmp_path.rglob("*"))
    with warnings.catch_warnings(record=True) as told:
        status, out, err = command(convert, f"ckpt={name}", "out=ours.safetensors")
    assert told == []  # each would be lines on stderr
    assert status == 2 and out == "" and len(err.splitlines()) == 1 and message in err, err
    assert sorted(tmp_path.rglob("*")) == before


class Code:
    """What leaves a file when it is unpickled."""

    def __reduce__(self):
        return open, ("ran", "w")


def edited(project: str, edit) -> dict:
    state = state_of(project)
    edit(state)
    return state


def batch_normalized(state):
    norms = [norm for _, norm in LAYERS[RRMINA][:-1]]
    state.update({f"{norm}.running_{part}": state[f"{norm}.weight"] for norm in norms for part in ("mean", "var")})


def for_a_tanh(state):
    for part in ("weight", "bias"):
        state[f"{LAYERS[RRMINA][-1][0]}.{part}"] /= 100


def norms_first(state):
    """As the project's net of pre-activated residual blocks has them: the same names in another order."""
    moved = {key: state.pop(key) for key in list(state) if key.startswith(("ResidualBlock", "DeconvBlock"))}
    state.update(sorted(moved.items(), key=lambda item: (*item[0].split(".")[:3], "conv_layer" in item[0])))


@pytest.mark.parametrize(
    "made, message",
    [
        (state_of(PYTORCH) | {"epoch": 3}, "holds more than plain tensors"),
        ({7: torch.ones(1)}, "holds more than plain tensors"),
        (state_of(PYTORCH) | {"in1.bias": torch.ones(8).to_sparse()}, "holds more than plain tensors"),
        (state_of(PYTORCH) | {"in1.bias": torch.ones(8, dtype=torch.complex64)}, "holds more than plain tensors"),
        ({"state_dict": state_of(PYTORCH)}, "holds more than plain tensors"),
        (list(state_of(PYTORCH).values()), "holds a list; give a file of the net's state_dict"),
        ({}, "its keys are not those of a net of pytorch/examples or rrmina"),
        (TransformNet(width=4).state_dict(), "its keys are not those of a net of"),
        (edited(PYTORCH, lambda state: state.pop("res3.in2.bias")), "its keys are not those of a net of"),
        (state_of(PYTORCH) | {"in6.weight": torch.ones(1)}, "its keys are not those of a net of"),
        (state_of(PYTORCH) | {"in4.bias": torch.ones(5)}, "in4.bias is of shape (5,), not (16,)"),
        (state_of(PYTORCH) | {"conv1.conv2d.weight": torch.ones(9)}, "its first convolution is of shape (9,)"),
        (state_of(PYTORCH) | {"in5.weight": torch.full((8,), torch.nan)}, "holds weights that are not finite numbers"),
        (edited(RRMINA, batch_normalized), "its keys are not those of a net of"),
        (edited(RRMINA, norms_first), "normalize before they convolve"),
        (edited(RRMINA, for_a_tanh), "its pictures are black"),
        (TransformNet(width=4), "not a file of tensors alone"),
        (state_of(PYTORCH) | {"more": Code()}, "not a file of tensors alone"),
        (pickle.dumps(Code()), "not a file of tensors alone"),
        (b"", "not a file of tensors alone"),
        (b"no net", "not a file of tensors alone"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_anything_else_is_refused(command, tmp_path, made, message):
    if isinstance(made, bytes):
        (tmp_path / "net.pth").write_bytes(made)
    else:
        torch.save(made, tmp_path / "net.pth")
    refused(command, tmp_path, "net.pth", message)  # which stands in tmp_path, where Code would leave a file


def test_a_torchscript_archive_is_refused(command, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "net.pth")
    refused(command, tmp_path, "net.pth", "not a file of tensors alone")


def test_wrong_options_are_refused(command, tmp_path):
    refused(command, tmp_path, "missing.pth", "missing.pth: there is no such file")
    torch.save(state_of(PYTORCH), tmp_path / "net.pth")
    for out, message in (("net.pt", "a name that ends in .safetensors"), ("net.pth/x.safetensors", "cannot be written")):
        status, _, err = command(convert, "ckpt=net.pth", f"out={out}")
        assert status == 2 and message in err and len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
