"""Our training step and the textbook's."""

import pytest
import torch
from conftest import picture

from fastnst.benchmark import textbook
from fastnst.benchmark.steps import compare, make_step
from fastnst.images import to_tensor
from fastnst.models.transform_net import TransformNet


def test_the_textbooks_step_is_ours():
    """Losses and gradients, from the same weights on the same photographs."""
    batch = torch.stack([to_tensor(picture(i, 32, 32)) for i in range(2)])
    losses, gradients = [], []
    for kind in ("textbook", "float32"):
        step = make_step(kind, 4, torch.device("cpu"))
        losses.append(step(batch))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in step.net.parameters()]))
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss, rtol=1e-3, atol=0)
    assert torch.linalg.norm(gradients[1] - gradients[0]) < 1e-3 * torch.linalg.norm(gradients[0])


@pytest.mark.parametrize("upsample", ["antialiased", "nearest"])
def test_the_textbooks_net_is_ours(upsample):
    net, photographs = TransformNet(width=4, upsample=upsample), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(textbook.Net(net)(photographs), net(photographs), atol=1e-4, rtol=0)


def test_all_have_their_turn_in_each_round():
    asked = []
    contest = {name: lambda name=name: asked.append(name) for name in "abc"}
    rows = compare(contest, 2, 6, {"c": "b"})
    assert asked == ["a", "b", "c"] * 3  # the first round is not counted
    assert [(row["what"], row["beside"]) for row in rows] == [("a", "a"), ("b", "a"), ("c", "b")]
    assert rows[2]["ratio"] == rows[2]["seconds"] / rows[1]["seconds"]
    assert rows[2]["images_per_second"] == 6 / rows[2]["seconds"]
