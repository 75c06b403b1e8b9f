"""Trainings that begin at another net's weights."""

import pytest
import torch
from conftest import ROOT

from fastnst.checkpoint import load_net, load_style
from fastnst.commands.entry import infer, train
from fastnst.losses.terms import reference_picture
from fastnst.models.conditional import MultiStyleNet
from fastnst.models.transform_net import TransformNet
from fastnst.training.warm_start import start_from

SHIPPED = ROOT / "checkpoints" / "arbitrary.safetensors"


def test_norms_alone_are_learnt_for_a_new_painting(command, several, small_training, tmp_path):
    assert command(train, *several, "out=base.safetensors")[0] == 0
    new = (*small_training, "model=multi", "train=norms", "out=new.safetensors", "optimizer.lr=0.0005")
    status, _, err = command(train, *new, "model.width=4", "init=base.safetensors")
    assert status == 0, err
    base, _ = load_net(tmp_path / "base.safetensors")
    net, info = load_net(tmp_path / "new.safetensors")
    assert net.styles == ["small"]
    for name, weight in net.body.state_dict().items():
        assert torch.equal(weight, base.body.state_dict()[name])
    assert (net.embeddings[0] - base.embeddings.mean(0)).abs().max() > 0.01
    status, out, err = command(infer, "ckpt=new.safetensors", "img=photographs/00.jpg")  # its one style need not be named
    assert status == 0, err
    (tmp_path / "base.safetensors").unlink()  # a run that is resumed needs it no more
    status, _, err = command(train, *new, "model.width=4", "init=base.safetensors", "ckpt=last", "trainer.max_steps=7")
    assert status == 0, err
    net, again = load_net(tmp_path / "new.safetensors")
    assert again["steps"] == 7 and again["ancestor"] == info["ancestor"]
    for name, weight in net.body.state_dict().items():
        assert torch.equal(weight, base.body.state_dict()[name])
    for arguments, message in ((new, "init=FILE"), ((*small_training, "train=norms"), "model=multi"),
                               ((*small_training, "train=some"), "all or norms")):  # fmt: skip
        status, _, err = command(train, *arguments)
        assert status == 2 and message in err and len(err.splitlines()) == 1


def test_an_embedding_of_ones_own_begins_at_the_predicted_one(command, small_training, tmp_path):
    few = [argument for argument in small_training if not argument.startswith("model")]
    status, _, err = command(train, "experiment=embedding", *few, "run_dir=runs/x", "out=mine.safetensors")
    assert status == 0, err
    net, info = load_net(tmp_path / "runs/x/last.ckpt")  # as training left it: not lit
    start = load_style(SHIPPED, str(tmp_path / "painting.png"))[0]
    assert net.styles == ["small"] and info["steps"] == 6
    assert all(torch.equal(weight, start.net.body.state_dict()[name]) for name, weight in net.body.state_dict().items())
    moved = (net.embeddings[0] - start.embedding).abs().max()
    assert 0.01 < moved < 0.3  # six steps of at most 0.04 from where it began


def test_several_begin_at_their_predictions_and_embeddings_learn_faster(command, several, paintings, tmp_path):
    few = [argument for argument in several if not argument.startswith("model")]
    files = {name: paintings / f"{number}.png" for number, name in enumerate("ab")}
    for rate in (60, 5):
        schedule = "optimizer.schedule._target_=fastnst.training.schedules.constant"
        faster = (f"embedding_rate={rate}", schedule, "stability.weight=0", "trainer.max_steps=1", "out=both.safetensors")
        status, _, err = command(train, "experiment=several", *few, *faster, f"run_dir=runs/{rate}")
        assert status == 0, err
        net, _ = load_net(tmp_path / f"runs/{rate}/last.ckpt")
        expected = MultiStyleNet(["a", "b"], 32, "antialiased")
        start_from(expected, SHIPPED, files)
        weights = expected.body.state_dict()
        moved = max((weight - weights[name]).abs().max().item() for name, weight in net.body.state_dict().items())
        assert moved == pytest.approx(1e-4, rel=0.01)  # Adam's first step is its learning rate
        assert (net.embeddings - expected.embeddings).abs().max().item() == pytest.approx(rate * 1e-4, rel=0.01)


def test_a_net_of_ones_own_begins_on_the_shipped_one(command, small_training, tmp_path):
    few = [argument for argument in small_training if not argument.startswith("model")]
    to = ("run_dir=runs/x", "out=mine.safetensors")
    status, _, err = command(train, "experiment=finetune", *few, "stability.weight=0", *to)
    assert status == 0, err
    net, info = load_net(tmp_path / "runs/x/last.ckpt")
    assert isinstance(net, TransformNet) and info["steps"] == 6
    start = TransformNet(upsample="antialiased")
    start_from(start, SHIPPED, {"small": tmp_path / "painting.png"})
    for name, weight in net.state_dict().items():
        assert (weight - start.state_dict()[name]).abs().max() < 0.01  # six steps of 1e-3 from where it began
    assert not torch.equal(weight, start.state_dict()[name])
    predicted = load_style(SHIPPED, str(tmp_path / "painting.png"))[0].at(1.0)
    picture = reference_picture(64)
    torch.testing.assert_close(start(picture), predicted(picture), atol=1 / 255, rtol=0)


def test_init_starts_from_another_styles_weights(command, small_training, weights, tmp_path):
    assert command(train, *small_training, "out=first.safetensors")[0] == 0
    still = ("optimizer.lr=0.0", "trainer.max_steps=1", "run_dir=runs/second", "out=second.safetensors")
    assert command(train, *small_training, *still, "init=first.safetensors", "seed=7")[0] == 0
    first, second = weights("first.safetensors"), weights("runs/second/last.ckpt")
    assert all(torch.equal(first[key], second[key]) for key in first)
    status, _, err = command(train, *small_training, "model.width=5", "init=first.safetensors")
    assert status == 2 and "'width': 4" in err and len(err.splitlines()) == 1
