"""Exported files run in their own runtimes and give what the checkpoint gives."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import picture, random_multi

from fastnst.checkpoint import export as write_checkpoint
from fastnst.checkpoint import load_net
from fastnst.commands.entry import export as main
from fastnst.inference.export import largest_difference, load_exported
from fastnst.models.transform_net import TransformNet


@pytest.fixture(params=[("instance", "nearest"), ("batch", "transposed")], ids="-".join)
def checkpoint(request, tmp_path):
    torch.manual_seed(0)
    net = TransformNet(request.param[0], 4, request.param[1])
    write_checkpoint(tmp_path / "small.safetensors", net, {"style": {"name": "small"}, "steps": 7})
    return "ckpt=small.safetensors"


@pytest.mark.parametrize("processing", ["inside", "outside"])
@pytest.mark.parametrize("form", ["onnx", "torchscript", "pt2"])
def test_exported_files_agree(command, checkpoint, tmp_path, form, processing):
    status, out, err = command(main, checkpoint, f"format={form}", f"processing={processing}")
    assert status == 0, err
    (file,) = (tmp_path / "exported").iterdir()
    assert out.splitlines()[-1].startswith("exported/small.")
    call, info = load_exported(file, form)
    assert info == {"style": {"name": "small"}, "steps": 7, "processing": processing, "half": False}
    difference = largest_difference(call, load_net(tmp_path / "small.safetensors")[0], processing == "inside")
    assert difference <= (1 if processing == "inside" else 0.1)
    assert f"{difference:.3g} / 255" in out


@pytest.mark.parametrize("form", ["onnx", "torchscript", "pt2"])
def test_half_precision(command, checkpoint, tmp_path, form):
    sizes = []
    for half in ("true", "false"):
        assert command(main, checkpoint, f"format={form}", f"half={half}", f"out={half}")[0] == 0
        (file,) = (tmp_path / half).iterdir()
        call, _ = load_exported(file, form)
        assert largest_difference(call, load_net(tmp_path / "small.safetensors")[0], True) <= 4
        sizes.append(file.stat().st_size)
    assert sizes[0] < sizes[1]


def test_masks_are_refused(command, tmp_path):
    write_checkpoint(tmp_path / "multi.safetensors", random_multi(), {"style": {"name": "a+b"}})
    picture(0).save(tmp_path / "mask.png")
    status, _, err = command(main, "ckpt=multi.safetensors", "style={a: mask.png, b: mask.png}", "out=none")
    assert status == 2 and "an exported file takes no masks" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_onnx_names_its_axes(command, checkpoint, tmp_path):
    assert command(main, checkpoint, "out=deep/net.onnx")[0] == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "deep/net.onnx"))
    (pictures,), (restyled,) = session.get_inputs(), session.get_outputs()
    assert (pictures.name, pictures.type, pictures.shape) == ("pictures", "tensor(uint8)", ["batch", "height", "width", 3])
    assert restyled.name == "restyled" and restyled.type == "tensor(uint8)"
    assert json.loads(session.get_modelmeta().custom_metadata_map["fastnst"])["steps"] == 7
    assert session.run(None, {"pictures": np.zeros((5, 33, 18, 3), np.uint8)})[0].shape == (5, 33, 18, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["format=coreml"], "format=coreml: give onnx, torchscript, pt2"),
        (["processing=both"], "give inside or outside"),
        (["half=some"], "give true or false"),
        (["page=true", "format=pt2"], "the page runs format=onnx"),
        (["ckpt=missing.safetensors"], "no such checkpoint"),
        (["out=net.pt"], "a file of format=onnx ends in .onnx"),
        (["out=small.safetensors/x"], "cannot be written to"),
    ],
)
def test_bad_input_gets_one_line(command, checkpoint, tmp_path, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    status, _, err = command(main, checkpoint, *arguments)
    assert status == 2
    assert message in err and len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
