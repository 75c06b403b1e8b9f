"""Zero-shot nets."""

import pytest
import torch
from conftest import random_arbitrary

from fastnst.checkpoint import load_style
from fastnst.errors import UserError
from fastnst.losses.vgg import LossNetwork
from fastnst.losses.vgg_layers import STYLE_LAYERS
from fastnst.models.arbitrary import AXES, POOLED, ArbitraryNet, Painted, Pooling


def test_paintings_are_told_by_how_they_differ():
    net, scale = ArbitraryNet(width=4), torch.logspace(0, -3, POOLED)
    pooled = 5 + torch.randn(300, POOLED, generator=torch.Generator().manual_seed(0)) * scale
    net.survey(pooled)
    seen = net.seen(pooled)
    torch.testing.assert_close(seen.mean(0), torch.zeros(AXES), atol=0.02, rtol=0)
    torch.testing.assert_close(seen.T @ seen / len(seen), torch.eye(AXES), atol=0.1, rtol=0)
    far = 5 + 100 * (pooled[:2] - 5)
    assert not torch.equal(net.predict(far), net.predict(pooled[:2]))
    assert (net.seen(far).abs() <= 3).all() and (net.seen(far).abs() == 3).any()  # at the rim of what was learnt from
    net.survey(pooled[:, :1] * torch.linspace(0.5, 1, POOLED))  # that differ in one way alone
    assert net.seen(pooled[:2]).isfinite().all()
    with pytest.raises(UserError, match="all alike"):
        net.survey(torch.ones(128, POOLED))


def test_a_row_is_predicted_from_the_painting(tmp_path, paintings):
    net, network = random_arbitrary(tmp_path), LossNetwork()
    files = [str(paintings / f"{i}.png") for i in range(2)]
    one, other, both = (Painted(net, network, shares, 48).row for shares in (
        {files[0]: 1}, {files[1]: 1}, {files[0]: 1, files[1]: 1}))  # fmt: skip
    torch.testing.assert_close(both, (one + other) / 2)
    assert (one - other).abs().max() > 0.01
    styled, _ = load_style(tmp_path / "any.safetensors", files[0])
    torch.testing.assert_close(styled.row, one)
    photographs = torch.rand(1, 3, 32, 32)
    pooled = Pooling(network)(network(torch.rand(1, 3, 48, 48), STYLE_LAYERS))
    folded = net.fold(net.predict(pooled)[0])
    torch.testing.assert_close(net(photographs, pooled), folded(photographs), atol=1e-5, rtol=0)
