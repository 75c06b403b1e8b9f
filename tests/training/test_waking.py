"""Silent channels are woken."""

import pytest
import torch
from conftest import random_arbitrary, random_multi

from fastnst.losses.terms import reference_picture
from fastnst.models.transform_net import UPSAMPLES, TransformNet
from fastnst.training.waking import wake

SILENT = ((0, 1), (3, 2), (13, 5), (14, 0))  # normalizations by their number, and a channel of each


def silence(numbers, net, norm, channel):
    """A shift that no scale makes up for. numbers: (..., numbers), embeddings."""
    start, count = sum(net.parts[: 2 * norm]), net.parts[2 * norm]
    numbers.data[..., start + count + channel] = -100.0


@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_a_channel_without_a_gradient_gets_one(upsample):
    torch.manual_seed(0)
    net, photographs = TransformNet(width=4, upsample=upsample), torch.rand(1, 3, 48, 48)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.InstanceNorm2d)]
    with torch.no_grad():
        for norm, channel in SILENT:
            norms[norm].bias[channel] = -100
        norms[4].bias[3] = norms[2].bias[3] = -100  # a block's end, and what the blocks add to: they are no dead ends
    before = net(reference_picture())

    def learn():
        """Whether each silent channel's scale has a gradient after a step."""
        optimizer = torch.optim.SGD(net.parameters(), 1e-3)
        for _ in range(2):  # in the first one only the weights of what comes next have
            optimizer.zero_grad()
            net(photographs).square().mean().backward()
            optimizer.step()
        return [bool(norms[norm].weight.grad[channel]) for norm, channel in SILENT]

    assert wake(net) == len(SILENT)
    torch.testing.assert_close(net(reference_picture()), before)
    begun = [(norms[norm].weight[channel].item(), norms[norm].bias[channel].item()) for norm, channel in SILENT]
    assert begun == [(1, 0)] * 4
    assert norms[4].bias[3] == norms[2].bias[3] == -100
    assert all(learn())
    with torch.no_grad():
        for norm, channel in SILENT:
            norms[norm].bias[channel] = -100
    assert not any(learn())


def test_what_one_style_of_several_uses_stays():
    net = random_multi()
    wake(net)
    silence(net.embeddings[0], net, 0, 1)
    silence(net.embeddings, net, 1, 2)
    before = net.embeddings.detach().clone()
    assert wake(net) == 1
    assert (net.embeddings[:, 8 + 2] == 0.1).all() and (net.embeddings[:, 8 + 8 + 2] == 0).all()
    changed = (net.embeddings != before).any(0).nonzero().flatten().tolist()
    assert changed == [8 + 2, 8 + 8 + 2]


def test_a_zero_shot_nets_channels_are_silent_for_every_painting(tmp_path):
    net = random_arbitrary(tmp_path)
    wake(net)
    silence(net.head[2].bias, net, 14, 3)
    last = -12 - 1  # the shift of the last normalization's last channel
    assert all(embedding[last] < -50 for embedding in net.sample_embeddings())
    assert wake(net) == 1
    assert all(embedding[last] == 0 and embedding[last - 4] == pytest.approx(0.1) for embedding in net.sample_embeddings())
    assert not net.body.layers[-1].weight[:, 3].any()


def test_batch_normalization_stays_as_it_is():
    net = TransformNet("batch", width=4)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    assert wake(net) == 0
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
