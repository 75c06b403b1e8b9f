"""Each loss against its definition, written out as float64 loops."""

import itertools

import numpy as np
import pytest
import torch

from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.losses.objective import Objective
from fastnst.losses.terms import (
    coarse_colors,
    color_quantiles,
    lab,
    median_filtered,
    reference_picture,
    style_loss,
    tone_loss,
)
from fastnst.losses.vgg import LossNetwork


@pytest.fixture(scope="module")
def network():
    return LossNetwork()


def test_the_painting_itself_has_no_style_loss_and_the_photograph_no_content_loss(network):
    painting, photograph = torch.rand(1, 3, 48, 64), torch.rand(1, 3, 40, 40)
    objective = Objective(network, [painting])
    assert objective(painting, objective.target(painting))["style"].item() < 1e-8
    assert objective(photograph, objective.target(photograph))["content"].item() == 0


def test_terms_add_up(network):
    objective = Objective(
        network, [torch.rand(1, 3, 48, 64)], style_layers={"relu1_2": 1, "relu3_3": 3},
        content_weight=2, style_weight=7, tv_weight=0.5, palette_weight=3, tone_weight=4,
    )  # fmt: skip
    pictures, target = torch.rand(2, 3, 32, 32), objective.target(torch.rand(2, 3, 32, 32))
    terms = objective(pictures, target)
    assert terms["style"].item() == pytest.approx((terms["style/relu1_2"] + 3 * terms["style/relu3_3"]).item() / 4)
    assert terms["style"].item() == pytest.approx(terms["style/1"].item())
    total = 2 * terms["content"] + 4 * terms["tone"] + 7 * terms["style"] + 0.5 * terms["tv"] + 3 * terms["palette"]
    assert terms["total"].item() == pytest.approx(total.item())
    total = (
        (2 * terms["content"] + 4 * terms["tone"]) / 3 + 3 * (7 * terms["style"] + 3 * terms["palette"]) + 0.5 * terms["tv"]
    )
    assert objective(pictures, target, style_factor=9)["total"].item() == pytest.approx(total.item())


def test_style_loss_is_one_for_no_features_whatever_the_painting(network):
    for contrast in (0.05, 1.0):
        objective = Objective(network, [0.5 + contrast * (torch.rand(1, 3, 64, 64) - 0.5)])
        for gram in objective.paintings().values():
            assert (style_loss(torch.zeros_like(gram), gram) / gram.square().sum()).item() == pytest.approx(1)


def test_a_painting_counts_as_its_median(network):
    painting = torch.rand(1, 3, 64, 48)
    broad = median_filtered(painting, 5)
    objective = Objective(network, [painting], median=5)
    for name, statistics in Objective(network, [broad]).paintings().items():
        torch.testing.assert_close(objective.paintings()[name], statistics)
        torch.testing.assert_close(objective.style_of(painting)[name], statistics)
    target = objective.target(painting)
    assert objective(broad, target)["style"] < 1e-8 < 1e-2 < objective(painting, target)["style"]
    for median in (0, 4, 17, 1.5, "half"):
        with pytest.raises(UserError, match="loss.median="):
            Objective(network, [painting], median=median)


def test_style_at_several_scales_against_loops(network):
    """The style term over scales and layers, the means over 2 x 2 px and all sums written out in float64."""
    painting, picture = torch.rand(1, 3, 40, 48), torch.rand(1, 3, 32, 40)
    layers, scales = {"relu1_2": 1.0, "relu2_2": 3.0}, {1: 1.0, 2: 0.5}
    terms = Objective(network, [painting], style_layers=layers, scales=scales)(
        picture, {"content": torch.zeros(1, 256, 8, 10)}
    )

    def grams(image):
        found = {}
        for scale in scales:
            pixels = image[0].double().numpy()
            small = np.zeros((3, pixels.shape[1] // scale, pixels.shape[2] // scale))
            for y, x in itertools.product(range(small.shape[1]), range(small.shape[2])):
                small[:, y, x] = pixels[:, scale * y : scale * (y + 1), scale * x : scale * (x + 1)].mean((1, 2))
            features = network(torch.from_numpy(small).float().unsqueeze(0), layers)
            for layer in layers:
                f = features[layer][0].flatten(1).double().numpy()
                found[layer, scale] = f @ f.T / f.size
        return found

    mine, theirs = grams(picture), grams(painting)
    expected = {key: ((mine[key] - theirs[key]) ** 2).sum() / (theirs[key] ** 2).sum() for key in mine}
    style = sum(layers[layer] / 4 * scales[scale] / 1.5 * value for (layer, scale), value in expected.items())
    assert terms["style"].item() == pytest.approx(style, rel=1e-4)
    assert terms["style/2"].item() == pytest.approx((expected["relu1_2", 2] + 3 * expected["relu2_2", 2]) / 4, rel=1e-4)
    assert terms["style/relu1_2"].item() == pytest.approx(
        (expected["relu1_2", 1] + expected["relu1_2", 2] / 2) / 1.5, rel=1e-4
    )


def test_a_picture_too_small_for_the_scales_is_refused(network):
    objective = Objective(network, [torch.rand(1, 3, 64, 64)], scales=[1, 4])
    with pytest.raises(UserError, match="64 px"):
        objective(torch.rand(1, 3, 48, 80), {"content": torch.zeros(1, 256, 12, 20)})


def test_palette_sees_colours_and_not_where_they_are(network):
    painting = torch.rand(1, 3, 64, 64)
    objective = Objective(network, [painting], palette_weight=1.0)
    target = objective.target(painting)

    def palette(picture):
        return objective(picture, target)["palette"].item()

    assert palette(painting.flip(2, 3)) < 1e-6 < 0.05 < palette(0.5 * painting)
    # All colours moved by one vector: in every direction the quantiles move by its length there.
    moved = color_quantiles(painting) + 10.0
    assert (moved - color_quantiles(painting)).square().mean().item() == pytest.approx(100, rel=1e-3)


def test_tone_against_loops(network):
    """Means over 16 x 16 px, CIELab and the regressions in float64."""
    picture, photograph = torch.rand(2, 3, 64, 80), torch.rand(2, 3, 64, 80).cumsum(3) / 80
    objective = Objective(network, [torch.rand(1, 3, 64, 64)], tone_weight=1.0)

    def colors(image):
        found = np.zeros((4, 5, 3))
        for row, column in itertools.product(range(4), range(5)):
            block = image[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].double().mean((1, 2))
            found[row, column] = lab(block.view(1, 3, 1, 1)).flatten().tolist()
        found = found.reshape(20, 3)
        return found - found.mean(0)

    unexplained = 0.0
    for y, x in zip(map(colors, picture), map(colors, photograph), strict=True):
        slope = max(0, (x[:, 0] * y[:, 0]).mean() / ((x[:, 0] ** 2).mean() + 25))
        unexplained += ((y[:, 0] - slope * x[:, 0]) ** 2).mean()
        hues = np.linalg.inv(x.T @ x / 20 + 25 * np.eye(3)) @ (x.T @ y[:, 1:] / 20)
        unexplained += ((y[:, 1:] - x @ hues) ** 2).sum(1).mean()
    unit = coarse_colors(reference_picture())[:, 0].var(correction=0).item()
    tone = objective(picture, objective.target(photograph))["tone"].item()
    assert tone == pytest.approx(unexplained / 2 / unit, rel=1e-3)


def test_tone_sees_light_and_dark_exchanged_and_clouds_in_a_flat_area():
    columns, flat = torch.linspace(20, 80, 9).expand(1, 1, 9, 9), torch.full((1, 1, 9, 9), 50.0)
    clouds, gray = columns.transpose(2, 3), torch.zeros(1, 1, 9, 9)
    whole = columns.var(correction=0).item()

    def tone(colors, photograph):
        return tone_loss(torch.cat(colors, 1), torch.cat(photograph, 1)).item() / whole

    slope = [columns, gray, gray]
    assert tone([0.4 * columns + 30, gray, gray], slope) < 0.01  # less contrast is no fault
    assert tone([90 - columns, gray, gray], slope) == pytest.approx(1)
    assert tone([clouds, gray, gray], slope) == pytest.approx(1)
    assert tone([clouds, gray, gray], [flat, gray, gray]) == pytest.approx(1)
    assert tone([clouds, gray, gray], [50 + 0.01 * (clouds - 50), gray, gray]) > 0.9  # what is faint is not to be enlarged
    assert tone([flat, clouds, gray], [flat, gray, gray]) == pytest.approx(1)  # clouds of another hue
    assert tone([flat, -clouds, clouds], [flat, gray, clouds]) < 0.01  # other hues, each in its place
    assert tone([flat, columns, gray], slope) < 0.01  # a hue for what is dark


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
    from fastnst.images import load_rgb, to_tensor

    objective = Objective(network, [reference_picture()])
    scores = []
    for path in [*itertools.chain(*sample_photographs())][::3]:
        photograph = to_tensor(load_rgb(path, 256)).unsqueeze(0)
        flat = photograph.mean((2, 3), keepdim=True).expand_as(photograph)
        scores.append(objective(flat, objective.target(photograph))["content"].item())
    assert 0.5 < np.median(scores) < 2.5


@pytest.mark.parametrize(
    "arguments",
    [{"content_layer": "relu9_9"}, {"style_layers": {"relu9_9": 1}}, {"style_layers": {"relu1_2": 0.0}},
     {"style_layers": {"relu1_2": 1.0, "relu2_2": -1.0}}, {"scales": []}, {"scales": [0]}, {"scales": [1.5]},
     {"scales": {1: 0.0}}, {"scales": {1: 1.0, 2: -1.0}}, {"palette_weight": -1}, {"tone_weight": -1}],
)  # fmt: skip
def test_wrong_layers_scales_and_weights_are_refused(network, arguments):
    with pytest.raises(UserError):
        Objective(network, [torch.rand(1, 3, 32, 32)], **arguments)


def test_the_objective_compares_each_picture_with_its_own_painting():
    network = LossNetwork()
    paintings = [torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 32) ** 3]
    objective, images = Objective(network, paintings), torch.cat([p[..., :32, :32] for p in paintings])
    target = objective.target(images)
    crossed, own = (objective(images, target, objective.paintings(torch.tensor(i)))["style"] for i in ((1, 0), (0, 1)))
    one = [
        Objective(network, [p])(images[i : i + 1], {"content": target["content"][i : i + 1]})["style"]
        for i, p in enumerate(paintings)
    ]
    assert own.item() == pytest.approx(sum(one).item() / 2, rel=1e-4)
    assert crossed > 2 * own
