"""Each loss against its definition, written out as float64 loops."""

import itertools

import numpy as np
import pytest
import torch

from fastnst.errors import UserError
from fastnst.losses.objective import Objective
from fastnst.losses.terms import content_loss, gram_matrix, reference_picture, style_loss, total_variation
from fastnst.losses.vgg import LossNetwork


@pytest.fixture(scope="module")
def network():
    return LossNetwork()


def random(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_gram_of_the_worked_example():
    # Pixels 1..12 as a 2 x 2 x 3 image; the figures divide by its 4 positions, the paper's by C H W = 12.
    image = torch.arange(1.0, 13).reshape(2, 2, 3).permute(2, 0, 1).unsqueeze(0)
    expected = torch.tensor([[41.5, 47, 52.5], [47, 53.5, 60], [52.5, 60, 67.5]])
    torch.testing.assert_close(gram_matrix(image)[0] * 3, expected)


def test_gram_matrix_against_loops():
    features = random(2, 3, 4, 5)
    n, c, h, w = features.shape
    expected = np.zeros((n, c, c))
    for b, i, j, y, x in itertools.product(range(n), range(c), range(c), range(h), range(w)):
        expected[b, i, j] += features[b, i, y, x].item() * features[b, j, y, x].item() / (c * h * w)
    np.testing.assert_allclose(gram_matrix(features).numpy(), expected, rtol=1e-12)


def test_content_loss_against_loops():
    a, b = random(2, 3, 4, 5), random(2, 3, 4, 5) ** 2
    sums = [0.0, 0.0]
    for n, c, y, x in itertools.product(range(2), range(3), range(4), range(5)):
        sums[n] += (a[n, c, y, x].item() - b[n, c, y, x].item()) ** 2 / (3 * 4 * 5)
    assert content_loss(a, b).item() == pytest.approx(sum(sums) / 2, rel=1e-12)


def test_style_loss_against_loops():
    gram, target = random(2, 3, 3), random(1, 3, 3) ** 2
    sums = [0.0, 0.0]
    for n, i, j in itertools.product(range(2), range(3), range(3)):
        sums[n] += (gram[n, i, j].item() - target[0, i, j].item()) ** 2
    assert style_loss(gram, target).item() == pytest.approx(sum(sums) / 2, rel=1e-12)


def test_total_variation_against_loops():
    images = random(2, 3, 4, 5)
    sums = [0.0, 0.0]
    for n, c, y, x in itertools.product(range(2), range(3), range(4), range(5)):
        here = images[n, c, y, x].item()
        if y + 1 < 4:
            sums[n] += (images[n, c, y + 1, x].item() - here) ** 2 / (3 * 4 * 5)
        if x + 1 < 5:
            sums[n] += (images[n, c, y, x + 1].item() - here) ** 2 / (3 * 4 * 5)
    assert total_variation(images).item() == pytest.approx(sum(sums) / 2, rel=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        gram_matrix,
        total_variation,
        lambda x: style_loss(gram_matrix(x), random(1, 2, 2)),
        lambda x: content_loss(x, random(2, 2, 3, 4)),
    ],
    ids=["gram_matrix", "total_variation", "style_loss", "content_loss"],
)
def test_gradients(loss):
    x = random(2, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(loss, x)


def test_gram_matrix_is_float32_under_autocast():
    features = torch.rand(1, 8, 64, 64) * 300  # sums of 4096 products of 90,000 leave half precision's range
    with torch.autocast("cpu", torch.bfloat16):
        gram = gram_matrix(features)
        from_half = gram_matrix(features.bfloat16())
    assert gram.dtype == from_half.dtype == torch.float32
    torch.testing.assert_close(gram, gram_matrix(features), rtol=0, atol=0)


def test_gram_gradient_keeps_channels_last_and_dtype():
    features = torch.rand(2, 4, 6, 5).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    gram_matrix(features).square().sum().backward()
    assert features.grad.dtype == torch.bfloat16
    assert features.grad.is_contiguous(memory_format=torch.channels_last)


def test_the_painting_itself_has_no_style_loss_and_the_photograph_no_content_loss(network):
    painting, photograph = torch.rand(1, 3, 48, 64), torch.rand(1, 3, 40, 40)
    objective = Objective(network, [painting])
    assert objective(painting, objective.target(painting))["style"].item() < 1e-8
    assert objective(photograph, objective.target(photograph))["content"].item() == 0


def test_terms_add_up(network):
    objective = Objective(
        network, [torch.rand(1, 3, 48, 64)], style_layers={"relu1_2": 1, "relu3_3": 3},
        content_weight=2, style_weight=7, tv_weight=0.5,
    )  # fmt: skip
    terms = objective(torch.rand(2, 3, 32, 32), objective.target(torch.rand(2, 3, 32, 32)))
    assert terms["style"].item() == pytest.approx((terms["style/relu1_2"] + 3 * terms["style/relu3_3"]).item() / 4)
    total = 2 * terms["content"] + 7 * terms["style"] + 0.5 * terms["tv"]
    assert terms["total"].item() == pytest.approx(total.item())


def test_style_loss_is_one_for_no_features_whatever_the_painting(network):
    for contrast in (0.05, 1.0):
        objective = Objective(network, [0.5 + contrast * (torch.rand(1, 3, 64, 64) - 0.5)])
        for layer in objective.style_layers:
            gram = getattr(objective, f"gram_{layer}")
            assert (style_loss(torch.zeros_like(gram), gram) / gram.square().sum()).item() == pytest.approx(1)


def test_units_do_not_depend_on_the_loss_networks_scale(network):
    # Doubling relu3_3's convolution doubles its features; neither term may notice.
    x, y, painting = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    layers = {"content_layer": "relu3_3", "style_layers": {"relu3_3": 1.0}}

    def terms(network):
        objective = Objective(network, [painting], **layers)
        return objective(x, objective.target(y))

    before = terms(network)
    doubled = LossNetwork()
    doubled.conv3_3_weight *= 2
    doubled.conv3_3_bias *= 2
    after = terms(doubled)
    for name in ("content", "style"):
        torch.testing.assert_close(before[name], after[name], rtol=1e-4, atol=0)


def test_content_unit_suits_photographs(network):
    # A photograph against the picture of its mean colour scores about one.
    from fastnst.data.files import sample_photographs
    from fastnst.images import load_rgb, to_tensor

    objective = Objective(network, [reference_picture()])
    scores = []
    for path in itertools.chain(*sample_photographs()):
        photograph = to_tensor(load_rgb(path, 256)).unsqueeze(0)
        flat = photograph.mean((2, 3), keepdim=True).expand_as(photograph)
        scores.append(objective(flat, objective.target(photograph))["content"].item())
    assert 0.5 < np.median(scores) < 2.5


@pytest.mark.parametrize(
    "arguments",
    [{"content_layer": "relu9_9"}, {"style_layers": {"relu9_9": 1}}, {"style_layers": {"relu1_2": 0.0}},
     {"style_layers": {"relu1_2": 1.0, "relu2_2": -1.0}}],
)  # fmt: skip
def test_wrong_layers_are_refused(network, arguments):
    with pytest.raises(UserError):
        Objective(network, [torch.rand(1, 3, 32, 32)], **arguments)
