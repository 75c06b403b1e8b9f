"""An exported ONNX file is restyled with by ONNX Runtime, without torch, and gives what its checkpoint gives."""

import copy
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, picture, random_multi
from PIL import Image

import fastnst
from fastnst.checkpoint import export as write_checkpoint
from fastnst.commands.entry import infer
from fastnst.errors import UserError
from fastnst.inference import stylizer as inference
from fastnst.inference.export import Product, export_product
from fastnst.models.transform_net import TransformNet


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A folder with a net as a checkpoint and as ONNX, and a photograph."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[export]'")
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(0)
    net = TransformNet(width=4, upsample="antialiased").eval()
    for name, own in {"net": {}, "brushed": {"brushwork": 9.0}}.items():
        info = {"style": {"name": name}, **own}
        write_checkpoint(folder / f"{name}.safetensors", net, info)
        export_product(Product(copy.deepcopy(net), True, False).eval(), "onnx", folder / f"{name}.onnx", info | {"width": 4})
    picture(3, 75, 50).save(folder / "photo.png")
    return folder


def run(folder, *options, data=None):
    """The command in a process of its own: (status, stdout, stderr, the modules that it has loaded)."""
    code = (
        "import sys\nfrom fastnst.commands.entry import infer\ntry:\n    infer()\n"
        "finally:\n    open('modules', 'w').write(' '.join(sys.modules))"
    )
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *options], cwd=folder, env=variables, input=data, capture_output=True)
    return done.returncode, done.stdout, done.stderr.decode(), set((folder / "modules").read_text().split())


def test_it_runs_without_torch_from_input_to_output(nets):
    photograph = (nets / "photo.png").read_bytes()
    status, out, err, modules = run(nets, "ckpt=net.onnx", "img=-", "out=-", data=photograph)
    assert status == 0 and err == "", err
    assert "onnxruntime" in modules and not {"torch", "onnx", "pytorch_lightning", "scipy"} & modules
    expected = fastnst.load(nets / "net.safetensors")(picture(3, 75, 50))
    with Image.open(io.BytesIO(out)) as result:
        assert result.format == "PNG"
        assert abs(np.asarray(result, int) - np.asarray(expected, int)).max() <= 1


def test_a_checkpoint_loads_nothing_that_only_training_takes(nets):
    status, out, err, modules = run(nets, "ckpt=net.safetensors", "img=photo.png", "json=true")
    assert status == 0 and json.loads(out)["result"] == "outputs/photo_net.png", err
    unused = {
        "pytorch_lightning",
        "tensorboard",
        "matplotlib",
        "torchvision",
        "onnx",
        "onnxruntime",
        "gradio",
        "av",
        "scipy",
    }
    assert "torch" in modules and not unused & modules


@pytest.mark.parametrize(
    "controls",
    [{}, {"size": 40}, {"strength": 0.4}, {"preserve_color": True}, {"style_scale": 1.5}, {"brushwork": 20}],
    ids=str,
)
def test_it_gives_what_the_checkpoint_gives(nets, controls):
    photograph = picture(3, 75, 50)
    ours, theirs = (
        np.asarray(fastnst.load(nets / name)(photograph, **controls), int) for name in ("net.safetensors", "net.onnx")
    )
    assert ours.shape == theirs.shape
    limit = 2 if "preserve_color" in controls else 1  # which goes through YCbCr, rounded there and back
    assert abs(ours - theirs).max() <= limit


def test_it_has_the_brushwork_of_its_checkpoint(nets):
    photograph = picture(3, 75, 50)
    ours, theirs = (fastnst.load(nets / f"brushed.{kind}") for kind in ("safetensors", "onnx"))
    assert abs(np.asarray(ours(photograph), int) - np.asarray(theirs(photograph), int)).max() <= 1
    assert theirs(photograph).tobytes() == theirs(photograph, brushwork=9).tobytes()
    assert theirs(photograph).tobytes() != theirs(photograph, brushwork=0).tobytes()
    mixed = fastnst.load(nets / "net.onnx", nets / "brushed.onnx", weights=[2, 1])
    assert mixed.brushwork == pytest.approx(3)


def test_several_are_mixed(nets):
    photograph = picture(3, 75, 50)
    one = np.asarray(fastnst.load(nets / "net.onnx")(photograph), int)
    both = fastnst.load(nets / "net.onnx", nets / "net.onnx", weights=[1, 3])
    assert both.info["style"]["name"] == "net" and abs(np.asarray(both(photograph), int) - one).max() <= 1


def test_what_takes_too_much_memory_is_refused(nets, monkeypatch):
    style = fastnst.load(nets / "net.onnx")
    monkeypatch.setattr(inference, "free_memory", lambda device=None: 10**6)
    with pytest.raises(UserError, match="in one pass of an ONNX file; give a size"):
        style(picture(3, 120, 90))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["style=wave"], "net.onnx holds one style; leave style out"),
        (["style=all"], "net.onnx holds one style; leave style out"),
        (["style_size=200"], "one zero-shot net has these dials"),
        (["tile=32"], "tile=32: an ONNX file has no strips"),
        (["ckpt=[net.onnx,net.safetensors]"], "mixed with ONNX files alone"),
        (["ckpt=text.onnx"], "text.onnx: not a net that scripts/export.py wrote"),
        (["ckpt=none.onnx"], "none.onnx: no such checkpoint"),
        (["out=-", "json=true"], "both would go to standard output"),
        (["img=*.png", "out=-"], "2 pictures need a folder"),
        (["json=2"], "json=2: give true or false"),
    ],
)
def test_bad_input_gets_one_line(command, nets, tmp_path, arguments, message):
    for name in ("net.onnx", "net.safetensors", "photo.png"):
        (tmp_path / name).symlink_to(nets / name)
    (tmp_path / "other.png").symlink_to(nets / "photo.png")
    (tmp_path / "text.onnx").write_text("no net")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = command(infer, "ckpt=net.onnx", "img=photo.png", *arguments)
    assert status == 2 and message in err and len(err.splitlines()) == 1 and out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_line_of_json_for_each_picture(command, nets, photographs, tmp_path):
    for number in range(3, 12):
        (photographs / f"{number:02}.jpg").unlink()
    (photographs / "01.jpg").write_text("no picture")
    status, out, err = command(infer, f"ckpt={nets}/net.onnx", "img=photographs", "size=32", "json=true")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 2 and [line["source"] for line in lines] == [f"photographs/0{n}.jpg" for n in range(3)]
    assert [line["result"] for line in lines] == ["outputs/00_net.jpg", None, "outputs/02_net.jpg"]
    assert (lines[0]["width"], lines[0]["height"], lines[0]["error"]) == (32, 24, None) and lines[0]["seconds"] > 0
    assert lines[1]["width"] is None and "01.jpg: cannot be restyled" in lines[1]["error"] and lines[1]["error"] in err


def test_a_contact_sheet_of_every_style(command, tmp_path):
    write_checkpoint(tmp_path / "multi.safetensors", random_multi(("a", "b" * 90, "c")), {"style": {"name": "a"}})
    picture(0).save(tmp_path / "photo.png")
    status, out, err = command(infer, "ckpt=multi.safetensors", "img=photo.png", "style=all")
    assert status == 0 and out == "outputs/photo_multi_all.png\n", err
    sheet = np.asarray(Image.open(tmp_path / out.strip()), int)
    label = 14
    assert sheet.shape == (2 * (48 + label + 8) + 8, 2 * (64 + 8) + 8, 3)
    for (down, across), style in zip(((0, 1), (1, 0), (1, 1)), ("a", "b" * 90, "c"), strict=True):
        top, left = 8 + down * 70 + label, 8 + across * 72
        expected = np.asarray(fastnst.load(tmp_path / "multi.safetensors", style=style)(picture(0)), int)
        assert abs(sheet[top : top + 48, left : left + 64] - expected).max() <= 1
        assert sheet[top - label : top, left : left + 64].min() < 100  # its name
    assert np.array_equal(sheet[8 + label : 56 + label, 8:72], np.asarray(picture(0)))
    assert sheet[:, 72:80].min() == 255  # a long name stays in its cell


def test_input_that_is_no_picture(command, checkpoint, tmp_path, monkeypatch):
    for data, message in ((b"", "standard input is empty"), (b"text", "standard input: cannot be restyled")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status, out, err = command(infer, f"ckpt={checkpoint}", "img=-", "out=out.png")
        assert status == 2 and message in err and len(err.splitlines()) == 1 and out == ""
    assert not (tmp_path / "out.png").exists()
