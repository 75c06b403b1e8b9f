"""A GPU computes what the CPU does: a training step, resumed runs, several processes, strips, exported files.

The bodies run on the CPU too, so that their code is known to run where there is no GPU.
"""

import copy
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT, picture
from torch.export.passes import move_to_device_pass
from torch.utils.data import DataLoader

import fastnst
from fastnst.checkpoint import load_net
from fastnst.commands.entry import export, train
from fastnst.data.crops import collate
from fastnst.images import best_device, to_tensor
from fastnst.inference.export import load_exported
from fastnst.inference.stylizer import Stylizer
from fastnst.losses.objective import Objective
from fastnst.losses.vgg import LossNetwork
from fastnst.models.transform_net import TransformNet
from fastnst.training.failures import BadSteps
from fastnst.training.module import StyleTransfer
from fastnst.training.schedules import constant

GPU = best_device()
ON_GPU = (pytest.mark.gpu, pytest.mark.skipif(GPU.type == "cpu", reason="torch finds no GPU on this machine"))
TOLERANCE = {"32-true": 1e-3, "bf16-mixed": 0.05, "16-mixed": 0.02}  # of a term; by the number's bits, and not yet measured
STEPS = 24  # in 16-mixed the first ones are skipped, until the loss's scale suits its gradients


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=ON_GPU)])
def device(request) -> torch.device:
    return torch.device("cpu") if request.param == "cpu" else GPU


@pytest.fixture
def trainer_of(device) -> str:
    """The option of training for it."""
    return "trainer=cpu" if device.type == "cpu" else "trainer=gpu"


class Gradients(pl.Callback):
    """Keeps the first finite gradient, as one vector, and the terms of its step; has a GPU refuse to be waited for."""

    gradient: torch.Tensor | None = None

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        if index > 1 and module.device.type == "cuda":  # by then all is compiled and allocated
            torch.cuda.set_sync_debug_mode("error")

    def on_after_backward(self, trainer, module) -> None:
        if module.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        gradient = torch.cat([weight.grad.flatten() for weight in module.net.parameters()]).cpu() / scale
        if self.gradient is None and gradient.isfinite().all():
            self.gradient = gradient
            self.terms = {name: float(value) for name, value in trainer.callback_metrics.items()}


@cache
def objective() -> Objective:
    painting = to_tensor(picture(99, 80, 72)).unsqueeze(0)
    return Objective(LossNetwork(), [painting], style_weight=27.0, palette_weight=3.0, scales=[1, 2])


def a_step(device: torch.device, precision: str, compiled: bool = False) -> Gradients:
    """A training's first step on a fixed batch."""
    torch.manual_seed(0)
    net, own = TransformNet(width=8, upsample="antialiased"), copy.deepcopy(objective())
    if compiled:
        for part in (net, own, own.loss_network):
            part.compile()
    optimizer = lambda groups: torch.optim.Adam(groups, lr=1e-4, fused=True)  # noqa: E731
    module = StyleTransfer(net, own, optimizer, constant, {}, {"weight": 0.0}, {})
    batch = [{"image": to_tensor(picture(seed, 64, 64)), "bad": []} for seed in (1, 2)]
    found = Gradients()
    pl.Trainer(
        accelerator="cpu" if device.type == "cpu" else "gpu", devices=1, precision=precision,
        max_steps=1 if device.type == "cpu" else STEPS, log_every_n_steps=1000, logger=False,
        callbacks=[found, BadSteps(10)], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, DataLoader(batch * STEPS, 2, collate_fn=collate))  # fmt: skip
    return found


@pytest.fixture
def exact():
    """float32 as it is: TF32, which training allows, keeps ten bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.filterwarnings("ignore")  # Lightning's, on so small a training
@pytest.mark.parametrize(
    "device, precision, compiled",
    [
        *(("cpu", precision, False) for precision in ("32-true", "bf16-mixed")),  # the CPU has no 16-mixed
        *(pytest.param("gpu", p, c, marks=ON_GPU) for p in TOLERANCE for c in (False, True)),
    ],
    indirect=["device"],
)
def test_a_step_equals_the_cpus(device, exact, precision, compiled):
    expected, found = a_step(torch.device("cpu"), "32-true"), a_step(device, precision, compiled)
    assert found.gradient is not None and "train/total" in found.terms
    for name, value in expected.terms.items():
        assert found.terms[name] == pytest.approx(value, rel=TOLERANCE[precision]), name
    # As a whole: single weights of small gradient are rounded by more.
    assert (found.gradient - expected.gradient).norm() <= 4 * TOLERANCE[precision] * expected.gradient.norm()


def test_a_resumed_run_equals_an_uninterrupted_one(command, device, trainer_of, small_training, tmp_path):
    options = [*(a for a in small_training if a != "trainer=cpu"), trainer_of, "trainer.precision=32-true"]
    options += ["trainer.max_steps=4", "checkpoint_every=3", "data.workers=0"]
    assert command(train, *options, "out=whole.safetensors", "run_dir=runs/small/x")[0] == 0
    before = tmp_path / "runs/small/x/previous.ckpt"
    assert torch.load(before, weights_only=True)["global_step"] == 3
    status, _, err = command(train, *options, "out=again.safetensors", f"ckpt={before}")
    assert status == 0, err
    whole, again = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("whole", "again"))
    for key in whole:
        torch.testing.assert_close(again[key], whole[key], atol=1e-4, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="ddp on GPUs needs CUDA; tests/training/test_ddp.py has it on CPUs"
)
def test_ddp_equals_one_process(small_training, tmp_path):
    """As many processes as there are GPUs, with SGD, whose step follows the gradient."""
    count = torch.cuda.device_count()
    options = [*(a for a in small_training if not a.startswith(("trainer=", "data.batch_size"))), "trainer.max_steps=4"]
    options += ["trainer.precision=32-true", "optimizer.optimizer._target_=torch.optim.SGD", "~optimizer.optimizer.betas"]
    options += ["~optimizer.optimizer.eps", "data.workers=0"]
    for name, trainer, devices, batch in (("one", "gpu", 1, count), ("all", "ddp", count, 1)):
        given = (f"trainer={trainer}", f"trainer.devices={devices}", f"data.batch_size={batch}", f"out={name}.safetensors")
        script = [sys.executable, ROOT / "scripts/train.py", *options, *given, f"run_dir=runs/{name}/x"]
        done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, all_ = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("one", "all"))
    for key in one:
        torch.testing.assert_close(all_[key], one[key], atol=1e-4, rtol=1e-3)


def on(device: torch.device, checkpoint, monkeypatch) -> Stylizer:
    monkeypatch.setattr("fastnst.inference.stylizer.best_device", lambda: device)
    return fastnst.load(checkpoint)


def test_pictures_equal_the_cpus_whole_and_in_strips(device, checkpoint, monkeypatch):
    image = picture(3, 203, 130)
    expected = np.asarray(on(torch.device("cpu"), checkpoint, monkeypatch)(image, tile=None)).astype(int)
    stylizer = on(device, checkpoint, monkeypatch)
    assert next(stylizer.nets[0].parameters()).device.type == device.type
    for tile in (None, "auto", 16, 64):
        assert np.abs(np.asarray(stylizer(image, tile=tile)).astype(int) - expected).max() <= 2  # TF32


def test_an_exported_program_runs_there(command, device, checkpoint, tmp_path):
    """What is exported names the CPU as its device; torch moves it."""
    assert command(export, f"ckpt={checkpoint}", "format=pt2")[0] == 0
    pictures = np.stack([np.asarray(picture(4, 64, 48))])
    expected = load_exported(tmp_path / "exported/style.pt2", "pt2")[0](pictures)
    program = move_to_device_pass(torch.export.load(tmp_path / "exported/style.pt2"), str(device))
    result = program.module()(torch.from_numpy(pictures).to(device))
    assert result.device.type == device.type
    assert np.abs(result.cpu().numpy().astype(int) - expected).max() <= 2
