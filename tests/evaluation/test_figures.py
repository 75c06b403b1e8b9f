"""Equivalent iterations, and artefact figures on pictures that have the artefact and on ones that lack it."""

import numpy as np
import pytest
import torch
from conftest import picture

from fastnst.data.files import sample_photographs
from fastnst.evaluation.figures import (
    ARTEFACTS,
    border,
    checkerboard,
    flicker,
    relative_content,
    relative_style,
    spots,
    worth,
)
from fastnst.images import fit, load_rgb, to_tensor
from fastnst.losses.vgg import LossNetwork


@pytest.fixture(scope="module")
def samples():
    return [to_tensor(fit(load_rgb(path), 256)).unsqueeze(0) for path in sample_photographs()[1]]


def test_relative_measures_at_their_ends(samples):
    network, photograph = LossNetwork(), samples[0]
    flat = photograph.mean((2, 3), keepdim=True).expand_as(photograph)
    assert relative_content(network, photograph, photograph) == 0
    assert relative_content(network, flat, photograph) == pytest.approx(1)
    assert relative_style(network, photograph, photograph) == 0
    assert relative_style(network, samples[1], photograph) > 0.05


def test_relative_measures_against_numpy(samples):
    network, (y, x) = LossNetwork(), (to_tensor(picture(i, 24, 16)).unsqueeze(0) for i in (0, 1))
    flat = x.mean((2, 3), keepdim=True).expand_as(x)
    fy, fx, fm = (network(p, ["relu3_3"])["relu3_3"].double().numpy() for p in (y, x, flat))
    assert relative_content(network, y, x) == pytest.approx(((fy - fx) ** 2).sum() / ((fm - fx) ** 2).sum(), rel=1e-4)
    expected = []
    for layer in ("relu1_2", "relu2_2", "relu3_3", "relu4_3"):
        grams = []
        for p in (y, x):
            f = network(p, [layer])[layer][0].flatten(1).double().numpy()
            grams.append(f @ f.T / f.size)
        expected.append(((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum())
    assert relative_style(network, y, x) == pytest.approx(np.mean(expected), rel=1e-4)


def test_worth():
    assert worth([5, 4, 3, 2], 4.5) == 1
    assert worth([5, 4, 3, 2], 2) == 3
    assert worth([5, 4, 3, 2], 1) is None
    assert worth([5, 4], 6) == 0


def exceeds(name: str, spoiled: torch.Tensor, sound: torch.Tensor) -> bool:
    figure, threshold = ARTEFACTS[name]
    return figure(spoiled) > figure(sound) + threshold


@pytest.mark.parametrize("period", [2, 4])
def test_checkerboard(samples, period):
    for photograph in samples:
        height, width = photograph.shape[-2:]
        pattern = (torch.arange(height)[:, None] + torch.arange(width)) % period < period // 2
        assert exceeds("checkerboard", photograph + 0.03 * (pattern.float() - 0.5), photograph)
        grain = 0.03 * torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(0))
        assert not exceeds("checkerboard", photograph + grain, photograph)
        stripes = torch.sin(2 * torch.pi * torch.arange(width) / 7)  # strokes of another period
        assert not exceeds("checkerboard", photograph + 0.1 * stripes, photograph)


def test_checkerboard_of_columns_alone(samples):
    stripes = 0.03 * (torch.arange(samples[0].shape[-1]) % 4 < 2).float()
    assert exceeds("checkerboard", samples[0] + stripes, samples[0])
    assert np.isfinite(checkerboard(torch.zeros(1, 3, 64, 64)))


def test_border(samples):
    for photograph in samples:
        dark, gray = photograph.clone(), photograph.clone()
        rim = torch.ones_like(photograph, dtype=torch.bool)
        rim[..., 16:-16, 16:-16] = False
        dark[rim] *= 0.3
        gray[rim] = 0.5 + 0.1 * (gray[rim] - 0.5)
        assert max(border(gray), border(dark)) > border(photograph) + 0.25
        assert not exceeds("border", 1 - photograph, photograph)
        assert not exceeds("border", photograph * 0.5 + 0.2, photograph)
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert border(noise) < 0.05
    noise[..., :16] *= 0.3
    assert border(noise) > 0.25


def test_spots(samples):
    for photograph in samples:
        calm = torch.nn.functional.avg_pool2d(photograph, 9, 1, 4)
        assert not exceeds("spots", calm, photograph)
        spotted = calm.clone()
        for y, x in ((40, 50), (60, 120), (100, 180), (120, 30)):
            spotted[0, :, y : y + 7, x : x + 7] = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
        assert exceeds("spots", spotted, photograph)
        wide = calm.clone()
        wide[0, :, :, 100:150] = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)  # a broad stroke is no spot
        assert not exceeds("spots", wide, photograph)
    single = torch.full((1, 3, 100, 100), 0.5)
    single[..., 50:55, 50:55] = 0
    assert spots(single) == pytest.approx(100)


def test_flicker(samples):
    photograph = samples[0]
    noise = flicker(lambda picture: picture, photograph)
    assert noise == pytest.approx(2 * 0.01 / np.pi**0.5, rel=0.05)
    assert flicker(lambda picture: picture, photograph, noise=0.0) == 0

    def screen(picture):  # a pattern that stays on the screen while the picture moves
        return picture + 0.1 * torch.sin(torch.arange(picture.shape[-1]))

    assert flicker(screen, photograph, noise=0.0) > 0.05
