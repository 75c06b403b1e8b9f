"""What the tests of long runs share."""

import pytest
import torch

from fastnst.checkpoint import load_net
from fastnst.commands.entry import train
from fastnst.training import module as training


@pytest.fixture
def same_weights(tmp_path):
    def same(*names: str) -> bool:
        return equal(*(load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in names))

    return same


def equal(first: dict, second: dict) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


WHOLE: dict[str, torch.Tensor] = {}


@pytest.fixture
def same_as_whole(command, small_training, tmp_path):
    """Whether an export has the weights of the small training that nothing has interrupted. That one runs once."""
    if not WHOLE:
        status, _, err = command(train, *small_training, "out=whole.safetensors", "run_dir=runs/whole/x")
        assert status == 0, err
        WHOLE.update(load_net(tmp_path / "whole.safetensors")[0].state_dict())
    return lambda name: equal(WHOLE, load_net(tmp_path / f"{name}.safetensors")[0].state_dict())


@pytest.fixture
def at_step(monkeypatch):
    """Has the training call something just before a step."""
    step = training.StyleTransfer.training_step

    def arrange(number: int, call) -> None:
        def interrupted(self, batch, index):
            if self.global_step == number:
                call()
            return step(self, batch, index)

        monkeypatch.setattr(training.StyleTransfer, "training_step", interrupted)

    return arrange


@pytest.fixture
def weights(tmp_path):
    return lambda name: load_net(tmp_path / name)[0].state_dict()
