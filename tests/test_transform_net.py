"""The transform net's shape, sizes and options."""

import pytest
import torch

from fastnst.errors import UserError
from fastnst.transform_net import TransformNet

SIZES = [(16, 16), (16, 17), (17, 16), (19, 23), (31, 64), (65, 18), (100, 101), (16, 200)]


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("upsample", ["nearest", "transposed"])
def test_output_has_the_inputs_size(norm, upsample):
    net = TransformNet(norm, 4, upsample).eval()
    with torch.no_grad():
        for height, width in SIZES:
            y = net(torch.rand(1, 3, height, width))
            assert y.shape == (1, 3, height, width)
            assert y.isfinite().all()


def test_every_size_from_16():
    net = TransformNet(width=2).eval()
    with torch.no_grad():
        for side in range(16, 49):
            assert net(torch.rand(1, 3, side, 64 - side + 16)).shape == (1, 3, side, 80 - side)


def test_too_small():
    with pytest.raises(ValueError, match="16 px"):
        TransformNet(width=2)(torch.rand(1, 3, 15, 40))


def test_layers_are_the_papers():
    convolutions = [m for m in TransformNet().modules() if isinstance(m, torch.nn.Conv2d)]
    table = [(m.kernel_size[0], m.out_channels, m.stride[0]) for m in convolutions]
    assert table == [(9, 32, 1), (3, 64, 2), (3, 128, 2), *[(3, 128, 1)] * 10, (3, 64, 1), (3, 32, 1), (9, 3, 1)]
    assert all(m.padding_mode == "reflect" for m in convolutions)


def test_range_is_a_scaled_tanh_that_holds_black_and_white():
    net = TransformNet(width=2)
    net.layers[-1].weight.data.zero_()
    for bias, expected in ((-100.0, 0.5 - 150 / 255), (0.0, 0.5), (100.0, 0.5 + 150 / 255)):
        net.layers[-1].bias.data.fill_(bias)
        torch.testing.assert_close(net(torch.rand(1, 3, 16, 16)), torch.full((1, 3, 16, 16), expected))


def test_instance_norm_treats_each_picture_alone_and_batch_norm_does_not():
    x = torch.rand(3, 3, 24, 24)
    for norm, alone in (("instance", True), ("batch", False)):
        net = TransformNet(norm, 4)
        with torch.no_grad():
            assert torch.allclose(net(x)[:1], net(x[:1]), atol=1e-5) is alone


def test_a_flat_picture_has_no_border():
    # Reflection continues a flat picture as it is, so every position must see the same.
    torch.manual_seed(0)
    net = TransformNet(width=8).eval()
    with torch.no_grad():
        y = net(torch.full((1, 3, 50, 61), 0.3))
    assert (y - y[..., 25:26, 30:31]).abs().max() < 1e-3


@pytest.mark.parametrize("arguments", [{"norm": "layer"}, {"upsample": "cubic"}, {"width": 0}, {"width": "wide"}])
def test_wrong_options(arguments):
    with pytest.raises(UserError, match=f"model.{next(iter(arguments))}"):
        TransformNet(**arguments)
