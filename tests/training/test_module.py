"""The whole path on small pictures: training, TensorBoard, checkpoints, resuming, failing."""

import pytest
import pytorch_lightning as pl
import torch
from conftest import picture
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.checkpoint import load_net
from fastnst.commands.entry import train
from fastnst.evaluation.figures import flicker
from fastnst.images import to_tensor
from fastnst.losses.objective import Objective
from fastnst.training import module as training
from fastnst.training.schedules import cosine

# float64 and SGD: a net of four channels blows up float32's rounding, and Adam the sign of a gradient near 0.
EXACT = (
    "trainer.precision=64-true", "optimizer.optimizer._target_=torch.optim.SGD", "~optimizer.optimizer.betas",
    "~optimizer.optimizer.eps",
)  # fmt: skip


def test_loss_falls_and_seeds_repeat(command, small_training, same_as_whole, tmp_path):
    status, _, err = command(train, *small_training, "out=a.safetensors", "run_dir=runs/a/x")
    assert status == 0 and same_as_whole("a"), err
    events = EventAccumulator(str(tmp_path / "runs/a/x")).Reload().Scalars("train/total")
    assert events[-1].value < events[0].value


def test_a_resumed_run_equals_an_uninterrupted_one(command, small_training, same_as_whole, monkeypatch):
    step = training.StyleTransfer.training_step

    def interrupted(self, batch, index):
        if self.global_step == 5:
            raise OSError("the machine went away")
        return step(self, batch, index)

    monkeypatch.setattr(training.StyleTransfer, "training_step", interrupted)
    assert command(train, *small_training, "out=part.safetensors", "run_dir=runs/part/x")[0] == 2
    monkeypatch.undo()
    status, out, err = command(train, *small_training, "out=part.safetensors", "run_dir=runs/part/y", "ckpt=last")
    assert status == 0, err
    assert "run: runs/part/x" in out  # it goes on where it was
    assert same_as_whole("part")


def test_a_resumed_run_has_the_learning_rate_of_its_command(command, small_training, monkeypatch):
    """As the advice on a run that diverged has it: resume it with a lower one."""
    falling = "optimizer.schedule._target_=fastnst.training.schedules.cosine"
    assert command(train, *small_training, falling, "trainer.max_steps=3", "run_dir=runs/part/x")[0] == 0
    step, rates = training.StyleTransfer.training_step, []

    def watched(self, batch, index):
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return step(self, batch, index)

    monkeypatch.setattr(training.StyleTransfer, "training_step", watched)
    again = ("trainer.max_steps=5", "run_dir=runs/part/x", "ckpt=last", "optimizer.lr=2e-4")
    status, _, err = command(train, *small_training, falling, *again)
    assert status == 0, err
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 2e-4)
    factor = cosine(optimizer, 5).lr_lambdas[0]
    assert rates[1:] == [pytest.approx(2e-4 * factor(4))]


def test_weights_that_are_not_finite_are_never_saved(command, small_training, monkeypatch, tmp_path):
    save = training.StyleTransfer.on_save_checkpoint

    def spoiled(self, checkpoint):
        if self.global_step == 4:
            self.net.layers[0].weight.data[0] = float("nan")
        save(self, checkpoint)

    monkeypatch.setattr(training.StyleTransfer, "on_save_checkpoint", spoiled)
    status, _, err = command(train, *small_training)
    assert status == 2 and "not finite at step 4" in err
    (last,) = tmp_path.glob("runs/small/*/last.ckpt")
    assert load_net(last)[1]["steps"] == 2


def test_stability_is_learnt(command, small_training, tmp_path):
    longer = (*small_training, "data.size=48", "trainer.max_steps=16", "optimizer.lr=1e-2")
    figures = {}
    photograph = to_tensor(picture(5, 96, 80)).unsqueeze(0)
    for weight in (0, 200):
        status, _, err = command(
            train, *longer, f"stability.weight={weight}", f"out={weight}.safetensors", f"run_dir=runs/{weight}/x"
        )
        assert status == 0, err
        net = load_net(tmp_path / f"runs/{weight}/x/last.ckpt")[0]  # not lit: what is paler flickers less as well
        figures[weight] = flicker(net, photograph, noise=0.02)
        tags = EventAccumulator(str(tmp_path / f"runs/{weight}/x")).Reload().Tags()["scalars"]
        assert ("train/stability" in tags) == (weight > 0)
    assert figures[200] < 0.5 * figures[0]
    status, _, err = command(train, *small_training, "stability.weight=1")
    assert status == 2 and "stability.shift=6: data.size=32" in err


def test_brushwork_is_drawn_for_each_step_and_counts_as_content(command, small_training, monkeypatch, tmp_path):
    amounts, given, targets = [], [], []
    brushed, target = training.brushed, Objective.target

    def watched(pictures, amount, seed=0):
        amounts.append(amount)
        given.append(brushed(pictures, amount, seed))
        return given[-1]

    monkeypatch.setattr(training, "brushed", watched)
    monkeypatch.setattr(Objective, "target", lambda self, pictures: targets.append(pictures) or target(self, pictures))
    assert command(train, *small_training, "brushwork=5", "out=brushed.safetensors")[0] == 0
    *drawn, validated = amounts
    assert len(drawn) == 6 and validated == 5 and 0 <= min(drawn) < 2.5 < 7.5 < max(drawn) <= 10
    assert [*map(id, given)] == [*map(id, targets[-7:])]
    assert load_net(tmp_path / "brushed.safetensors")[1]["brushwork"] == 5
    amounts.clear()
    assert command(train, *small_training, "brushwork=0", "out=plain.safetensors", "run_dir=runs/plain/x")[0] == 0
    assert {*amounts} == {0}
    status, _, err = command(train, *small_training, "brushwork=21")
    assert status == 2 and "brushwork=21" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_agrees(command, small_training, precision, weights, tmp_path):
    losses = []
    for name in ("32-true", precision):
        # At the usual rate the first steps of so small a net magnify any rounding: by seed, up to 3.5 % either way.
        few = ("trainer.max_steps=2", "optimizer.lr=1e-4", "out=x.safetensors")
        command(train, *small_training, *few, f"trainer.precision={name}")
        losses.append(load_net(tmp_path / "x.safetensors")[1]["validation"]["val/total"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize(
    "model, kind, backend", [("johnson", "TransformNet", "eager"), ("multi", "MultiStyleNet", "aot_eager")]
)
def test_a_compiled_step_agrees(command, small_training, weights, monkeypatch, model, kind, backend):
    """With the graphs that a compiler is given run as they are: what makes code of them is torch's.

    Once as they are captured, to the end of the training; once with those of the gradients, which take longer, without the
    validation.
    """
    compiled, compile_module = [], torch.nn.Module.compile

    def record(self, **options):
        compiled.append(type(self).__name__)
        compile_module(self, backend=backend, **options)

    monkeypatch.setattr(torch.nn.Module, "compile", record)
    if backend == "aot_eager":
        monkeypatch.setattr(pl.Trainer, "validate", lambda *_, **__: [{}])
    for name in ("true", "false"):
        arguments = ("trainer.max_steps=3", f"model={model}", f"compile={name}", f"out={name}.safetensors")
        status, _, err = command(train, *small_training, *EXACT, *arguments)
        assert status == 0, err
    assert compiled == [kind, "Objective", "LossNetwork"]
    a, b = weights("true.safetensors"), weights("false.safetensors")
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=1e-5, rtol=1e-5)
