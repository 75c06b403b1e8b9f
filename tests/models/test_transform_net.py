"""The transform net's shape, sizes and options."""

import pytest
import torch

from fastnst.errors import UserError
from fastnst.models.transform_net import InstanceNorm, ReflectedConv2d, TransformNet

SIZES = [(16, 16), (16, 17), (17, 16), (19, 23), (31, 64), (65, 18), (100, 101), (16, 200)]


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("upsample", ["antialiased", "nearest", "transposed"])
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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalization_is_torchs_in_the_layout_it_is_given(layout):
    torch.manual_seed(0)
    theirs = torch.nn.InstanceNorm2d(5, affine=True)
    torch.nn.init.normal_(theirs.weight)
    torch.nn.init.normal_(theirs.bias)
    ours = InstanceNorm(5, affine=True)
    ours.load_state_dict(theirs.state_dict())
    x, weights = 3 + torch.randn(3, 5, 9, 12), torch.randn(3, 5, 9, 12)
    gradients = []
    for module in (theirs, ours):
        input = x.contiguous(memory_format=layout).requires_grad_()
        result = module(input)
        gradients.append(torch.autograd.grad((result * weights).sum(), [input, module.weight, module.bias]))
        torch.testing.assert_close(result, theirs(x), atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(module(x.contiguous(memory_format=layout)), theirs(x), atol=1e-5, rtol=1e-5)
    assert result.is_contiguous(memory_format=layout)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (9, 1)])
def test_convolutions_reflect_as_torchs_and_in_half_precision(kernel, stride):
    torch.manual_seed(0)
    theirs = torch.nn.Conv2d(3, 4, kernel, stride, kernel // 2, padding_mode="reflect")
    ours = ReflectedConv2d(3, 4, kernel, stride, kernel // 2, padding_mode="reflect")
    ours.load_state_dict(theirs.state_dict())
    x, dtypes = torch.rand(2, 3, 16, 20), []
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.autocast("cpu", torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: dtypes.append(tensor.dtype) or tensor, lambda tensor: tensor
    ):  # fmt: skip
        result = ours(x.bfloat16().requires_grad_())
    torch.testing.assert_close(result.float(), theirs(x), atol=0.05, rtol=0.05)
    assert set(dtypes) == {torch.bfloat16}


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
