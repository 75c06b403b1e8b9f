"""The fast pass computes what the net does."""

import numpy as np
import pytest
import torch
from conftest import picture

import fastnst
from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.images import fit, load_rgb
from fastnst.inference import stylizer as inference
from fastnst.inference.folded import Folded, folds
from fastnst.inference.stylizer import Stylizer
from fastnst.models.transform_net import TransformNet

SIZES = [(16, 16), (17, 22), (64, 48), (35, 90)]


def random_net(upsample="antialiased", output="tanh", width=4):
    """With scales of both signs and one of zero, and shifts that leave some channels without any value above zero."""
    torch.manual_seed(0)
    net = TransformNet(width=width, upsample=upsample, output=output)
    for module in net.modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            torch.nn.init.normal_(module.weight, 0.3, 1)
            torch.nn.init.normal_(module.bias, 0, 1)
            module.weight.data[0], module.weight.data[1], module.bias.data[1] = 0, 1, -9
    last = net.layers[-1]
    last.weight.data *= 0.3  # within the tanh's range
    if output == "linear":
        last.bias.data += 0.5
    return net.eval()


def difference(net, dtype, photograph):
    pixels = np.asarray(photograph)
    with torch.inference_mode():
        expected = net(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255)[0].clamp(0, 1) * 255
    result = Folded(net, dtype)(pixels)
    assert result.shape == pixels.shape and result.dtype == np.uint8
    assert expected.std() > 10  # not a gray picture
    return np.abs(result.astype(float) - expected.permute(1, 2, 0).numpy().round())


@pytest.mark.parametrize("upsample, output", [("antialiased", "tanh"), ("nearest", "linear")])
def test_float32_is_the_nets_within_one_level(upsample, output):
    net = random_net(upsample, output)
    assert folds(net)
    assert max(difference(net, torch.float32, picture(1, *size)).max() for size in SIZES) <= 1


@pytest.mark.parametrize("name, style", [("wave", None), ("starry_night", None), ("base", "mosaic")])
def test_bfloat16_stays_within_two_levels_in_99_percent_and_four_in_all(name, style):
    (net,) = fastnst.load(name, style=style).nets
    found = difference(net, torch.bfloat16, fit(load_rgb(sample_photographs()[0][0]), 160))
    assert 0 < np.percentile(found, 99) <= 2 and found.max() <= 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_picture_of_one_colour_stays_one(dtype):
    net, black = random_net(), np.zeros((40, 30, 3), np.uint8)
    shown = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():  # normalization takes all that is the same everywhere away, and leaves its shift
        for norm in net.instance_norms():
            norm.register_forward_hook(lambda norm, _, y: norm.bias.view(1, -1, 1, 1).expand_as(y).clone())
        expected = net.double()(shown)[0, :, 8, 8].clamp(0, 1) * 255
    net = random_net()
    result = Folded(net, dtype)(black)
    assert (result == result[0, 0]).all() and np.abs(result[0, 0] - expected.numpy()).max() <= 1


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"upsample": "transposed"}])
def test_nets_that_do_not_keep_constants_are_computed_as_they_are(options):
    net = TransformNet(width=2, **options).eval()
    assert not folds(net)
    photograph = picture(0)
    plain = np.asarray(Stylizer((net, {}))(photograph), int)
    rounded = np.asarray(Stylizer((net, {}))(photograph, precision="bfloat16"), int)
    assert 0 < np.abs(rounded - plain).max() < 40


def test_precision_is_chosen(monkeypatch):
    net, photograph = random_net(), picture(0)
    style = Stylizer((net, {}))
    results = {name: style(photograph, precision=name) for name in ("float32", "bfloat16")}
    assert results["float32"] != results["bfloat16"] and len(style.folded) == 2
    for native, name in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(inference, "native_bfloat16", lambda native=native: native)
        assert style(photograph) == results[name]
    with pytest.raises(UserError, match="precision=half: give auto, float32 or bfloat16"):
        style(photograph, precision="half")


def test_several_pictures_are_each_computed_alone():
    style = Stylizer((random_net(), {}))
    photographs = [picture(0), picture(1)]
    assert style.restyle(photographs) == [style(photograph) for photograph in photographs]
