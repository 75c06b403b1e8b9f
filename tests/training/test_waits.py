"""A training step never has a GPU waited for: what is on the device is neither read nor copied to the host.

On the meta device values do not exist, and so whatever reads one is told at once. On the CPU a whole trainer's steps are
listened to, as it was on a GPU.
"""

import copy
from contextlib import nullcontext, suppress
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from conftest import random
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastnst.commands import train as train_command
from fastnst.commands.entry import train
from fastnst.losses.objective import Objective
from fastnst.losses.vgg import LossNetwork
from fastnst.models.arbitrary import POOLED, ArbitraryNet
from fastnst.models.conditional import MultiStyleNet
from fastnst.models.transform_net import TransformNet
from fastnst.training import callbacks, checkpointing, failures
from fastnst.training import module as training
from fastnst.training.failures import BadSteps

READ = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "repeat_interleave"}
MADE = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}  # of numbers; no dispatcher sees them go to the device


class Waits(TorchDispatchMode):
    """Notes each operation within it that would wait, if `device` was a GPU."""

    def __init__(self, device: str):
        super().__init__()
        self.device, self.met = device, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {torch.device(x).type for x in (*(x.device for x in given), kwargs.get("device")) if x is not None}
        by_mask = name == "index" and any(x.dtype in (torch.bool, torch.uint8) for x in given[1:])
        if (name in READ or by_mask) and given[0].device.type == self.device:
            self.met.append(name)
        if name in ("copy_", "_to_copy") and len(devices) > 1 and not (kwargs.get("non_blocking") or args[2:] == (True,)):
            self.met.append(name)
        return func(*args, **kwargs)

    def __enter__(self):
        self.made = _Made(self)
        self.made.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.made.__exit__(*error)


class _Made(TorchFunctionMode):
    def __init__(self, waits: Waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in MADE and result.device.type == self.waits.device != "cpu":
            self.waits.met.append(func.__name__)
        return result


PAINTINGS = {name: random(1, 3, 64, 64).float() for name in ("a", "b")}


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """The meta device has none."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(torch, "autocast", lambda device, enabled: nullcontext())


@cache
def the_objective() -> Objective:
    return Objective(LossNetwork(), [*PAINTINGS.values()], palette_weight=1.0, scales=[1, 2])


def module_of(net):
    """A training of the net on the meta device, with its trainer's part."""
    objective = copy.deepcopy(the_objective())
    stability = {"weight": 0.0}
    module = training.MODULES[type(net)](net, objective, torch.optim.Adam, None, {}, stability, PAINTINGS)
    data = SimpleNamespace(next_paintings=lambda: {"image": random(2, 3, 64, 64).float(), "bad": []})
    strategy = SimpleNamespace(batch_to_device=lambda b: b | {"image": b["image"].to("meta", non_blocking=True)})
    module._trainer = SimpleNamespace(
        global_step=3, global_rank=0, world_size=1, datamodule=data, strategy=strategy, precision_plugin=None
    )
    module.log_dict = lambda terms: None
    return module.to("meta")


def listened(module) -> list[str]:
    batch = {"image": torch.rand(2, 3, 64, 64, device="meta"), "bad": []}
    optimizer, bad_steps = torch.optim.SGD(module.net.parameters()), BadSteps(1)
    optimizer._step_supports_amp_scaling = True  # as Adam's with fused=true
    bad_steps.count = bad_steps.count.to("meta")  # from the first step on
    with Waits("meta") as waits:
        module.training_step(batch, 0).backward()
        bad_steps.on_before_optimizer_step(module._trainer, module, optimizer)
    return waits.met


def any_painting():
    net = ArbitraryNet(width=4)
    net.survey(0.1 * random(128, POOLED))
    return net


@pytest.mark.parametrize("make", [lambda: TransformNet(width=4), lambda: MultiStyleNet(("a", "b"), 4), any_painting])
def test_a_step_reads_nothing_from_the_device(make):
    assert listened(module_of(make())) == []


@pytest.mark.parametrize(
    "wait, name",
    [
        (lambda x: x.mean().item(), "_local_scalar_dense"),
        (lambda x: x[x > 0.5], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x.mean().cpu(), "_to_copy"),
        (lambda x: x.copy_(torch.ones(64)), "copy_"),
        (lambda x: x.new_tensor([1.0, 2.0]), "new_tensor"),
        (lambda x: torch.tensor(1.0, device=x.device), "tensor"),
        (lambda x: bool((x > 0).any()), "_local_scalar_dense"),
    ],
)
def test_what_would_wait_is_heard(wait, name):
    module = module_of(TransformNet(width=4))
    step = module.training_step

    def waiting(batch, index):
        with suppress(RuntimeError, NotImplementedError):  # on the meta device most cannot be done at all
            wait(batch["image"])
        return step(batch, index)

    module.training_step = waiting
    assert listened(module) == [name]


def test_a_trainers_steps_read_nothing_until_one_logs(command, small_training, at_step, monkeypatch):
    """Its optimizer, callbacks and loop, from one batch's start to the next one's, as they are on a GPU: see `due`.

    In the fourth of them the test itself reads a number.
    """
    met = []
    at_step(4, torch.ones(1).item)

    class Listener(callbacks.Panels):  # in the place of one, as the trainer's callbacks are given
        def on_train_batch_start(self, trainer, *_):
            self.stop()
            if (trainer.global_step + 1) % trainer.log_every_n_steps:
                self.waits = Waits("cpu")
                self.waits.__enter__()

        def on_validation_start(self, *_):
            self.stop()

        def stop(self):
            if self.waits is not None:
                self.waits.__exit__(None, None, None)
                met.append(self.waits.met)
            self.waits = None

        waits = None

    monkeypatch.setattr(train_command, "Panels", Listener)
    for module in (callbacks, checkpointing, failures):
        monkeypatch.setattr(module, "due", lambda trainer: trainer.global_step % trainer.log_every_n_steps == 0)
    few = ("trainer.max_steps=6", "trainer.log_every_n_steps=3", "data.workers=1", "checkpoint_every=100")
    status, _, err = command(train, *small_training, *few)
    assert status == 0, err
    assert met == [[], [], [], ["_local_scalar_dense"]]
