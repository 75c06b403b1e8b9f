"""Exported files run in their own runtimes and give what the checkpoint gives."""

import json
import math
import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import picture, random_arbitrary, random_multi

import fastnst
from fastnst.checkpoint import export as write_checkpoint
from fastnst.checkpoint import load_net
from fastnst.commands.entry import export as main
from fastnst.images import load_rgb, to_tensor
from fastnst.inference.card import card
from fastnst.inference.export import largest_difference, load_exported
from fastnst.models.colors import SIDE
from fastnst.models.transform_net import TransformNet
from fastnst.shipped import CHECKPOINTS

INSTANCE, BATCH = ("instance", "nearest"), ("batch", "transposed")


@pytest.fixture
def checkpoint(request, tmp_path):
    torch.manual_seed(0)
    norm, upsample = getattr(request, "param", INSTANCE)
    net = TransformNet(norm, 4, upsample)
    write_checkpoint(tmp_path / "small.safetensors", net, {"style": {"name": "small"}, "steps": 7})
    return "ckpt=small.safetensors"


@pytest.mark.parametrize(
    "checkpoint, form, processing",
    [(INSTANCE, "onnx", "inside"), (BATCH, "onnx", "inside"), (BATCH, "pt2", "outside")],
    indirect=["checkpoint"],
)
def test_exported_files_agree(command, checkpoint, tmp_path, form, processing):
    status, out, err = command(main, checkpoint, f"format={form}", f"processing={processing}")
    assert status == 0, err
    (file,) = (tmp_path / "exported").glob("*[!d]")
    assert out.splitlines()[-1].startswith("exported/small.")
    call, info = load_exported(file, form)
    assert info == {"style": {"name": "small"}, "steps": 7, "processing": processing, "half": False, "width": 4}
    difference = largest_difference(call, load_net(tmp_path / "small.safetensors")[0], processing == "inside")
    assert difference <= (1 if processing == "inside" else 0.1)
    assert f"{difference:.3g} / 255" in out
    about = file.with_name(f"{file.name}.md").read_text()
    assert f"| largest difference from the checkpoint | {difference:.3g} / 255 |" in about
    assert "| style | small |" in about and "| training steps | 7 |" in about and "| validation | not recorded |" in about
    assert re.search(r"\| time of a pass \| \d+ ms a megapixel at 512 x 512 px, measured at export", about)
    if form == "onnx":  # which inference takes, too
        ours, theirs = (fastnst.load(path)(picture(0)) for path in (tmp_path / "small.safetensors", file))
        assert abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def test_half_precision_and_named_axes(command, checkpoint, tmp_path):
    file = tmp_path / "deep/half.onnx"
    assert command(main, checkpoint, "half=true", "out=deep/half.onnx")[0] == 0
    call, _ = load_exported(file, "onnx")
    assert largest_difference(call, load_net(tmp_path / "small.safetensors")[0], True) <= 4
    weights = onnx.load(file).graph.initializer
    assert {w.data_type for w in weights if math.prod(w.dims) > 100} == {onnx.TensorProto.FLOAT16}
    session = onnxruntime.InferenceSession(str(file))
    (pictures,), (restyled,) = session.get_inputs(), session.get_outputs()
    assert (pictures.name, pictures.type, pictures.shape) == ("pictures", "tensor(uint8)", ["batch", "height", "width", 3])
    assert restyled.name == "restyled" and restyled.type == "tensor(uint8)"
    assert json.loads(session.get_modelmeta().custom_metadata_map["fastnst"])["steps"] == 7
    assert session.run(None, {"pictures": np.zeros((5, 33, 18, 3), np.uint8)})[0].shape == (5, 33, 18, 3)


def test_for_phones_without_the_package(command, checkpoint, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "executorch", None)
    status, _, err = command(main, checkpoint, "format=executorch")
    assert status == 2 and err == "fastnst: format=executorch needs more packages: pip install 'fastnst[phone]'\n"
    assert not [*tmp_path.glob("exported/*")]


@pytest.mark.parametrize("processing", ["inside", "outside"])
def test_for_phones(command, tmp_path, processing):
    pytest.importorskip("executorch", reason="ExecuTorch is not installed: pip install 'fastnst[phone]'")
    write_checkpoint(tmp_path / "small.safetensors", TransformNet("instance", 4, "antialiased"), {"steps": 7})
    status, out, err = command(main, "ckpt=small.safetensors", "format=executorch", f"processing={processing}")
    assert status == 0, err
    assert float(out.split(": ")[1].split(" /")[0]) <= (1 if processing == "inside" else 0.1)
    call, info = load_exported(tmp_path / "exported/small.pte", "executorch")
    assert info["steps"] == 7
    net, sizes = load_net(tmp_path / "small.safetensors")[0], [(1, 64, 80), (1, 203, 130), (1, 1024, 16)]
    assert largest_difference(call, net, processing == "inside", sizes) <= 1


def test_a_card_tells_what_is_known_and_no_more(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(bytes(10**6))
    info = {
        "version": "1", "steps": 5, "style": {"name": "a|b", "size": 320, "image": {"mine": "01ab"}},
        "validation": {"val/total": 1.5, "val/style/1": 2.0}, "data": {"root": "train2017", "batch_size": 4},
    }  # fmt: skip
    text = card(tmp_path / "mine.safetensors", path, "onnx", info, {"speed": "3"})
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE))
    assert rows["style"] == "a\\|b" and rows["validation"] == "total 1.500" and rows["speed"] == "3"
    assert rows["painting and licence"] == "mine (SHA-256 01ab...); licence not recorded"
    assert rows["photographs"] == "root train2017, batch_size 4" and rows["loss network"] == "not recorded"
    assert "1.0 MB" in rows["file"] and "converted" not in text
    assert "Hokusai" in card(CHECKPOINTS / "great_wave.safetensors", path, "onnx", {}, {})
    (tmp_path / "great_wave.safetensors").write_bytes(b"trained here under the name of a shipped one")
    assert "painting and licence | not recorded" in card(tmp_path / "great_wave.safetensors", path, "onnx", {}, {})


def test_masks_are_refused(command, tmp_path):
    write_checkpoint(tmp_path / "multi.safetensors", random_multi(), {"style": {"name": "a+b"}})
    picture(0).save(tmp_path / "mask.png")
    status, _, err = command(main, "ckpt=multi.safetensors", "style={a: mask.png, b: mask.png}", "out=none")
    assert status == 2 and "an exported file takes no masks" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["format=coreml"], "format=coreml: give onnx, pt2, executorch"),
        (["processing=both"], "give inside or outside"),
        (["half=some"], "give true or false"),
        (["page=true", "format=pt2"], "the page runs format=onnx"),
        (["page=true", "painting=a.png"], "painting: is for one file"),
        (["ckpt=missing.safetensors"], "no such checkpoint"),
        (["out=net.pt2"], "a file of format=onnx ends in .onnx"),
        (["format=safetensors", "half=true", "out=."], "out=small.safetensors: would replace the checkpoint itself"),
        (["format=executorch", "half=true"], "ExecuTorch's results are wrong then"),
        (["out=small.safetensors/x"], "cannot be written to"),
    ],
)
def test_bad_input_gets_one_line(command, checkpoint, tmp_path, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    status, _, err = command(main, checkpoint, *arguments)
    assert status == 2
    assert message in err and len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_of_one_style(command, tmp_path):
    net = random_multi()
    style = {"name": "a+b", "size": 48, "image": {"a": "aa11", "b": "bb22"}}
    write_checkpoint(tmp_path / "multi.safetensors", net, {"style": style})
    options = ("ckpt=multi.safetensors", "format=safetensors", "style=b")
    for half in ("true", "false"):
        status, out, err = command(main, *options, f"half={half}", f"out={half}.safetensors")
        assert status == 0, err
        own, info = load_net(tmp_path / f"{half}.safetensors")
        photograph = torch.rand(1, 3, 32, 32)
        own_pass, expected = own(photograph), net.choose({"b": 1.0})(photograph)
        torch.testing.assert_close(own_pass, expected, atol=1 / 255 if half == "true" else 1e-6, rtol=0)
        assert info["style"]["name"] == "b" and "/ 255" in out
        told = (tmp_path / f"{half}.safetensors.md").read_text()
        assert "bb22" in told and "aa11" not in told  # its own painting alone
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in ("true", "false")]
    assert sizes[0] < 0.7 * sizes[1]
    # Both go back to one net, and are mixed by their weights.
    mixed = fastnst.load(*(tmp_path / f"{half}.safetensors" for half in ("true", "false")))
    assert len(mixed.nets) == 1


def test_a_checkpoint_of_all_styles_in_half_precision(command, tmp_path, paintings):
    write_checkpoint(tmp_path / "multi.safetensors", random_multi(), {"style": {"name": "a+b", "size": 48}})
    random_arbitrary(tmp_path)
    photograph = picture(3, 64, 48)
    for name, style in (("multi", "b"), ("any", str(paintings / "0.png"))):
        status, out, err = command(
            main, f"ckpt={name}.safetensors", "format=safetensors", "half=true", f"out=half_{name}.safetensors"
        )
        assert status == 0 and "/ 255" in out, err
        files = [tmp_path / f"{name}.safetensors", tmp_path / f"half_{name}.safetensors"]
        assert files[1].stat().st_size < 0.7 * files[0].stat().st_size
        whole, half = (np.asarray(fastnst.load(file, style=style)(photograph), int) for file in files)
        assert abs(whole - half).max() <= 3


def test_results_get_their_paintings_lightness(command, checkpoint, paintings, tmp_path):
    write_checkpoint(tmp_path / "multi.safetensors", random_multi(), {"style": {"name": "a+b", "size": 48}})
    random_arbitrary(tmp_path)
    files = [str(paintings / f"{number}.png") for number in range(2)]
    both = f"{{b: {files[1]}, a: {files[0]}}}"
    for name, given in (("multi", both), ("small", files[0])):
        to = (f"ckpt={name}.safetensors", "format=safetensors", f"out=lit_{name}.safetensors")
        status, _, err = command(main, *to, f"painting={given}")
        assert status == 0, err
        expected, lit = (load_net(tmp_path / f"{part}{name}.safetensors")[0] for part in ("", "lit_"))
        photograph = torch.rand(1, 3, 32, 32)
        pale = [expected.fold(e)(photograph) for e in expected.sample_embeddings()]
        expected.light([to_tensor(load_rgb(file, SIDE)).unsqueeze(0) for file in files[: len(pale)]])
        for before, *embeddings in zip(pale, expected.sample_embeddings(), lit.sample_embeddings(), strict=True):
            one, other = (net.fold(e)(photograph) for net, e in zip((expected, lit), embeddings, strict=True))
            torch.testing.assert_close(one, other)
            assert (one - before).abs().mean() > 0.01
        assert "validation" not in load_net(tmp_path / f"lit_{name}.safetensors")[1]
    for name, given, message in (
        ("lit_small", files[0], "have their paintings' lightness already"),
        ("multi", files[0], "give the painting of each style: a, b"),
        ("multi", f"{{a: {files[0]}}}", "give the painting of each style: a, b"),
        ("small", "none.png", "none.png: no such picture"),
        ("any", files[0], "by itself; leave it out"),
    ):
        to = (f"ckpt={name}.safetensors", "format=safetensors", "out=none.safetensors")
        status, _, err = command(main, *to, f"painting={given}")
        assert status == 2 and message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "none.safetensors").exists()


def test_onnx_takes_an_embedding(command, tmp_path):
    net = random_multi()
    write_checkpoint(tmp_path / "multi.safetensors", net, {"style": {"name": "a+b", "size": 48}})
    status, out, err = command(main, "ckpt=multi.safetensors", "out=net.onnx")
    assert status == 0 and "/ 255" in out, err
    call, info = load_exported(tmp_path / "net.onnx", "onnx")
    embedding = 0.5 * (np.array(info["embeddings"]["a"]) + np.array(info["embeddings"]["b"]))
    photograph = picture(3, 50, 34)
    result = call(np.asarray(photograph)[None], embedding.astype(np.float32))[0]
    expected = fastnst.load(tmp_path / "multi.safetensors", style={"a": 0.5, "b": 0.5})(photograph)
    assert abs(np.asarray(expected, int) - result).max() <= 1
