"""Nets of several styles and zero-shot nets: training, choosing, mixing, and what they fold into."""

import pytest
import torch
import torch.nn.functional as F
from conftest import random_multi

from fastnst.errors import UserError
from fastnst.models.arbitrary import ArbitraryNet
from fastnst.models.conditional import ConditionalNorm, MultiStyleNet
from fastnst.models.transform_net import TransformNet


def test_conditional_normalization_scales_and_shifts_each_picture():
    x, scales, shifts = torch.randn(3, 4, 6, 5), torch.randn(3, 4), torch.randn(3, 4)
    expected = F.instance_norm(x) * scales[..., None, None] + shifts[..., None, None]
    torch.testing.assert_close(ConditionalNorm(4)(x, scales, shifts), expected)


def test_each_picture_is_given_its_own_style():
    net, photographs = random_multi(), torch.rand(3, 3, 32, 40)
    with torch.no_grad():
        together = net(photographs, torch.tensor([0, 1, 0]))
        alone = [net.choose({net.styles[i]: 1.0})(photographs[n : n + 1]) for n, i in enumerate((0, 1, 0))]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    assert (together[0] - net(photographs[:1], torch.tensor([1]))[0]).abs().mean() > 0.01
    assert net.numbers == 412 and MultiStyleNet(["a"], 32).numbers == 3212  # 100 times the width, and 12


def test_an_embedding_holds_an_ordinary_nets_scales_and_shifts():
    plain, net = TransformNet(width=4).eval(), MultiStyleNet(["a", "b"], 4)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, 0.2, 0.3)
    net.begin_from(plain, lambda: dict.fromkeys("ab", plain.first_embedding()))
    photographs = torch.rand(1, 3, 32, 32)
    for style in ("a", "b"):
        torch.testing.assert_close(net.choose({style: 1})(photographs), plain(photographs))
    net = random_multi()
    embedding = net.choose({"b": 1}).first_embedding()
    torch.testing.assert_close(embedding[:-12], net.embeddings[1, :-12].detach())  # the colours are folded in


def test_styles_mix_by_their_embeddings():
    net = random_multi()
    torch.testing.assert_close(
        net.choose({"a": 1, "b": 3}).first_embedding()[:-12],
        (0.25 * net.embeddings[0] + 0.75 * net.embeddings[1]).detach()[:-12],
    )
    for shares, message in (({"c": 1}, "has a, b"), ({"a": -1}, "from 0"), ({"a": 0}, "not all 0")):
        with pytest.raises(UserError, match=message):
            net.choose(shares)


def test_starting_keeps_the_embeddings_of_styles_it_knows():
    net, new = random_multi(), MultiStyleNet(["b", "new"], 4)
    new.begin_from(net, lambda: {style: net.first_embedding(style) for style in new.styles})
    torch.testing.assert_close(new.embeddings[0], net.embeddings[1])
    torch.testing.assert_close(new.embeddings[1], net.embeddings.mean(0))
    with pytest.raises(UserError, match="'width': 4"):
        MultiStyleNet(["b"], 5).begin_from(net, lambda: {"b": net.embeddings[0]})
    batch = TransformNet("batch", 4)
    with pytest.raises(UserError, match="'norm': 'batch'"):
        MultiStyleNet(["b"], 4).begin_from(batch, lambda: {"b": batch.first_embedding()})
    predicted = ArbitraryNet(width=4)
    predicted.begin_from(net, dict)
    torch.testing.assert_close(predicted.head[2].bias, net.embeddings.mean(0))
