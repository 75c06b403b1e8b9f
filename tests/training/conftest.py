"""What the tests of long runs share."""

import pytest
import torch

from fastnst.checkpoint import load_net
from fastnst.training import module as training


@pytest.fixture
def same_weights(tmp_path):
    def same(*names: str) -> bool:
        first, second = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in names)
        return all(torch.equal(first[key], second[key]) for key in first)

    return same


@pytest.fixture
def one_thread():
    """Sums do not depend on how many threads share them out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
