"""Our training step and the textbook's."""

import pytest
import torch
from conftest import picture

from fastnst.benchmark.steps import contenders, make_step
from fastnst.images import to_tensor


def test_the_textbooks_step_is_ours():
    """Losses and gradients, from the same weights on the same photographs."""
    batch = torch.stack([to_tensor(picture(i, 32, 32)) for i in range(2)])
    gradients = []
    for kind in ("textbook", "float32"):
        step = make_step(kind, 4, torch.device("cpu"))
        step.losses(batch)["total"].backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in step.net.parameters()]))
    assert torch.linalg.norm(gradients[1] - gradients[0]) < 1e-3 * torch.linalg.norm(gradients[0])


def test_a_step_that_fails_is_not_waited_for():
    with (
        contenders(torch.rand(1, 3, 8, 8), 4) as ask,
        pytest.raises(RuntimeError, match="float32 step has died"),
    ):
        ask("float32")
