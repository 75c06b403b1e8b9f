"""The command that trains, for each kind of net, from its options to restyled photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from forked import script
from PIL import Image
from safetensors import safe_open

import fastnst
from fastnst.checkpoint import load_net, load_style
from fastnst.commands.entry import evaluate, infer, train
from fastnst.images import load_rgb, to_tensor
from fastnst.inference.folded import folds


def test_several_styles_in_one_net(command, several, tmp_path, photographs):
    status, out, err = command(train, *several)
    assert status == 0, err
    net, info = load_net(tmp_path / "checkpoints" / "a+b.safetensors")
    assert net.styles == ["a", "b"] and info["style"]["name"] == "a+b"
    assert "| style | a+b |" in (tmp_path / "checkpoints" / "a+b.safetensors.md").read_text()
    totals = info["validation"]
    assert totals["val/total"] == pytest.approx((totals["val/total/a"] + totals["val/total/b"]) / 2)
    assert not torch.equal(net.embeddings[0], net.embeddings[1])
    last = next(tmp_path.glob("runs/a+b/*/last.ckpt"))
    assert load_net(last)[0].styles == ["a", "b"]

    results = {}
    photograph = photographs / "00.jpg"
    for style in ("a", "b", "{a: 0.5, b: 0.5}"):
        status, out, err = command(infer, "ckpt=checkpoints/a+b.safetensors", f"img={photograph}", f"style={style}")
        assert status == 0, err
        results[style] = np.asarray(Image.open(tmp_path / out.strip()), int)
    assert set(p.name for p in (tmp_path / "outputs").iterdir()) == {"00_a+b_a.jpg", "00_a+b_b.jpg", "00_a+b_a+b.jpg"}
    expected = fastnst.load(tmp_path / "checkpoints/a+b.safetensors", style="a")(Image.open(photograph))
    exactly = ("ckpt=checkpoints/a+b.safetensors", f"img={photograph}", "style=a", "out=a.png")
    assert command(infer, *exactly)[0] == 0
    assert Image.open(tmp_path / "a.png").tobytes() == expected.tobytes()
    assert not np.array_equal(results["a"], results["b"])
    for arguments, message in (((), "holds a, b: give style=NAME"), (("style=c",), "this checkpoint has a, b")):
        status, _, err = command(infer, "ckpt=checkpoints/a+b.safetensors", f"img={photograph}", *arguments)
        assert status == 2 and message in err and len(err.splitlines()) == 1


def test_a_model_of_one_style_refuses_several(command, several):
    status, _, err = command(train, *several, "model=johnson", "model.width=4")
    assert status == 2 and "model=multi" in err and len(err.splitlines()) == 1


def test_artworks_are_listed_by_name(command, small_training, tmp_path):
    arguments = [a for a in small_training if not a.startswith("style")]
    status, _, err = command(
        train, *arguments, "style=[wave,inkwash]", "style.size=32", "model=multi", "trainer.max_steps=1"
    )
    assert status == 0, err
    assert load_net(tmp_path / "checkpoints/wave+inkwash.safetensors")[0].styles == ["wave", "inkwash"]


def test_the_small_net_is_small(command, small_training, tmp_path):
    arguments = [a for a in small_training if not a.startswith("model")]
    status, _, err = command(
        train, "experiment=mobile", *arguments, "data.size=48", "trainer.max_steps=1", "out=m.safetensors"
    )
    assert status == 0, err
    net, _ = load_net(tmp_path / "m.safetensors")
    assert net.styles == ["small"] and sum(weight.numel() for weight in net.parameters()) <= 200_000
    chosen, _ = load_style(tmp_path / "m.safetensors")  # its one style need not be named
    assert folds(chosen)


def test_any_painting_in_one_pass(command, fork, several, paintings, photographs, tmp_path):
    arguments = (*several, "model=arbitrary", "model.width=4", "out=any.safetensors")
    status, _, err = command(train, *arguments)
    assert status == 2 and "data.styles=/folder" in err
    whole = fork(script, ROOT / "scripts/train.py", *arguments, f"data.styles={paintings}", "run_dir=runs/any/x")
    _, err = whole.communicate()  # all its processes end
    assert whole.returncode == 0, err
    _, info = load_net(tmp_path / "any.safetensors")
    assert {"val/total/a", "val/total/b"} <= set(info["validation"])

    embeddings = [load_style(tmp_path / "any.safetensors", str(paintings / f"{i}.png"))[0].embedding for i in (2, 3)]
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-3

    again = (*arguments, f"data.styles={paintings}", "trainer.max_steps=4", "run_dir=runs/any/y", "out=part.safetensors")
    # A schedule that knows nothing of the number of steps: four, and then two more, are the same as six.
    assert command(train, *again)[0] == 0
    status, _, err = command(train, *again, "trainer.max_steps=6", "ckpt=runs/any/y/last.ckpt")
    assert status == 0, err
    whole, part = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("any", "part"))
    assert all(torch.equal(whole[key], part[key]) for key in whole)

    for style in (paintings / "2.png", f"{{{paintings}/2.png: 1, {paintings}/3.png: 2}}"):
        status, out, err = command(infer, "ckpt=any.safetensors", f"img={photographs}/00.jpg", f"style={style}")
        assert status == 0, err
    # A net of the painting's own, or a new embedding, begins at the one that is predicted for it.
    embedding = load_style(tmp_path / "any.safetensors", str(paintings / "2.png"))[0].embedding
    first = ("init=any.safetensors", "style=custom", f"style.image={paintings}/2.png", "style.name=c", "optimizer.lr=0")
    few = [argument for argument in several if not argument.startswith(("style", "model"))]
    for model in ("johnson", "multi"):
        to = (f"run_dir=runs/{model}", f"out={model}.safetensors")
        status, _, err = command(train, *few, *first, f"model={model}", "model.width=4", *to)
        assert status == 0, err
    own, multi = (load_net(tmp_path / f"runs/{model}/last.ckpt")[0] for model in ("johnson", "multi"))
    torch.testing.assert_close(multi.embeddings[0], embedding)
    photograph = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(own(photograph), multi.choose({"c": 1})(photograph))
    for arguments, message in (((), "style=painting.jpg"), (("style=none.png",), "no such picture")):
        status, _, err = command(infer, "ckpt=any.safetensors", f"img={photographs}/00.jpg", *arguments)
        assert status == 2 and message in err and len(err.splitlines()) == 1
    status, _, err = command(
        evaluate, "ckpt=any.safetensors", "style=custom", f"style.image={paintings}/2.png", f"data.root={photographs}",
        "data.count=1", "size=96", "iterations=null", "speed_sizes=[64]",
    )  # fmt: skip
    assert status == 0, err


def test_a_zero_shot_net_may_learn_from_one_painting(command, several, paintings, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/painting.png").write_bytes((paintings / "0.png").read_bytes())
    alone = ("model=arbitrary", "model.width=4", "data.styles=one", "trainer.max_steps=1", "out=one.safetensors")
    status, _, err = command(train, *several, *alone)
    assert status == 0, err


def test_train_export_infer(command, small_training, tmp_path):
    status, out, _ = command(train, *small_training)
    assert status == 0
    run = Path(tmp_path, out.splitlines()[-2].removeprefix("run: "))
    assert {p.name for p in run.iterdir() if "tfevents" not in p.name} == {
        "last.ckpt", "previous.ckpt", "config.yaml", "hparams.yaml",
    }  # fmt: skip

    with safe_open(tmp_path / "checkpoints/small.safetensors", "pt") as file:
        metadata = file.metadata()
    info = json.loads(metadata["info"])
    architecture = {"norm": "instance", "width": 4, "upsample": "antialiased", "output": "tanh"}
    assert json.loads(metadata["architecture"]) == architecture
    assert info["style"]["name"] == "small" and info["steps"] == 6 and info["objective"]["style_weight"] == 27.0
    assert info["validation"]["val/total"] > 0

    state = torch.load(run / "last.ckpt", weights_only=True)
    assert all(key.startswith("net.") for key in state["state_dict"])
    assert (run / "last.ckpt").stat().st_size < 1e6

    photograph = next((tmp_path / "photographs").iterdir())
    for checkpoint in ("checkpoints/small.safetensors", run / "last.ckpt"):
        assert command(infer, f"ckpt={checkpoint}", f"img={photograph}", "out=result.png")[0] == 0
    # last.ckpt is as training left it, and the export has the painting's spread of lightness.
    (own, _), (net, info) = load_net(run / "last.ckpt"), load_net(tmp_path / "checkpoints/small.safetensors")
    state = own.state_dict()
    last = [*state][-1]
    assert info["lit"] and not torch.equal(state[last], net.state_dict()[last])
    own.light([to_tensor(load_rgb(tmp_path / "painting.png", info["style"]["size"])).unsqueeze(0)])
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(state[name], weight)
    # A run that had ended, and is told to go on, is the same as one that never ended.
    constant = "optimizer.schedule._target_=fastnst.training.schedules.constant"
    for steps, name, resumed in ((6, "whole", "null"), (4, "part", "null"), (6, "part", "runs/part/last.ckpt")):
        going_on = (f"trainer.max_steps={steps}", f"run_dir=runs/{name}", f"out={name}.safetensors", constant)
        assert command(train, *small_training, *going_on, f"ckpt={resumed}")[0] == 0
    whole, part = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)
