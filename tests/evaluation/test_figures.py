"""Equivalent iterations, and artefact figures on pictures that have the artefact and on ones that lack it."""

import numpy as np
import pytest
import torch
from conftest import picture

from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.evaluation.figures import (
    ARTEFACTS,
    border,
    checkerboard,
    contrast,
    equivalent_iterations,
    flicker,
    gram_matrices,
    motif,
    palette,
    relative_content,
    relative_style,
    spots,
    strokes,
    tone,
)
from fastnst.evaluation.measurements import nearest, share_own
from fastnst.images import fit, load_rgb, to_tensor
from fastnst.losses.vgg import LossNetwork


@pytest.fixture(scope="module")
def samples():
    return [to_tensor(fit(load_rgb(path), 256)).unsqueeze(0) for path in sample_photographs()[1]]


@pytest.fixture(scope="module")
def network():
    return LossNetwork()


def test_relative_measures_at_their_ends(network, samples):
    photograph, other = (sample[..., :96, :128] for sample in samples)
    flat = photograph.mean((2, 3), keepdim=True).expand_as(photograph)
    assert relative_content(network, photograph, photograph) == 0
    assert relative_content(network, flat, photograph) == pytest.approx(1)
    assert relative_style(network, photograph, photograph) == 0
    assert relative_style(network, other, photograph) > 0.05


def test_the_nearest_painting_is_that_of_the_same_forms(network, samples):
    """Another part of a picture is nearest to that picture, though it shows something else."""
    parts = {str(i): sample[..., :128, :128] for i, sample in enumerate(samples)}
    grams = {name: gram_matrices(network, part) for name, part in parts.items()}
    found = [nearest(gram_matrices(network, sample[..., -128:, -128:]), grams) for sample in samples]
    assert found == list(parts)
    results = [{"painting": name, "nearest": other} for name, other in zip(parts, ("0", "0"), strict=True)]
    assert share_own(results) == 0.5


def test_relative_measures_against_numpy(network):
    y, x = (to_tensor(picture(i, 24, 16)).unsqueeze(0) for i in (0, 1))
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


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_strokes(network, samples):
    painting = samples[0]
    assert strokes(network, painting, painting) == pytest.approx(0, abs=1e-4)
    grain = noise(*painting.shape)
    part, grainy, noisy, other, only_noise = (
        strokes(network, y, painting)
        for y in (painting[..., 64:192], painting.lerp(grain, 0.2), painting.lerp(grain, 0.7), samples[1], grain)
    )
    assert max(part, grainy) < 0.1 < noisy < only_noise and 0.3 < other < 0.7 and 0.3 < only_noise < 0.7
    with pytest.raises(UserError, match="16 px is the least"):
        strokes(network, painting[..., :60], painting)


def test_strokes_against_a_loop(network):
    pictures = [to_tensor(picture(i, 96, 72)).unsqueeze(0) for i in (0, 1)]
    expected = []
    for reduction, layer in ((2, "relu3_1"), (2, "relu4_1"), (4, "relu3_1")):
        patches = []
        for p in pictures:
            reduced = p.numpy()[0].reshape(3, 72 // reduction, reduction, 96 // reduction, reduction).mean((2, 4))
            f = network(torch.from_numpy(reduced)[None], [layer])[layer][0].double().numpy()
            places = [(i, j) for i in range(f.shape[1] - 2) for j in range(f.shape[2] - 2)]
            patches.append([f[:, i : i + 3, j : j + 3].ravel() for i, j in places])
        cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in patches[1]] for a in patches[0]]
        expected.append(np.mean([1 - max(row) for row in cosines]))
    assert strokes(network, *pictures) == pytest.approx(np.mean(expected), abs=1e-5)


def gray(lightness):
    """(1, 3, 64, 64) of that L*."""
    return (1.055 * ((lightness + 16) / 116) ** (3 / 2.4) - 0.055).expand(1, 3, 64, 64)


def test_palette(samples):
    photograph = samples[0][..., :160, :240]
    blocks = photograph.unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)  # (1, 3, 600, 8, 8)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    moved = blocks[:, :, order].view(1, 3, 30, 20, 8, 8).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, 240, 160)
    assert palette(moved, photograph) == pytest.approx(0, abs=1e-4)
    assert palette(photograph.repeat(1, 1, 2, 3), photograph) == pytest.approx(0, abs=1e-4)  # so often, the same colours
    assert palette(samples[1], photograph) > 5
    shares = [torch.tensor([0.2, 0.3, 0.8]).view(1, 3, 1, 1).expand(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)]
    quarter, half = torch.cat([shares[0]] + 3 * [shares[1]], 3), torch.cat(shares, 3)
    assert palette(quarter, half) == pytest.approx(palette(*shares) / 4, rel=1e-4)  # a quarter of the pixels has to move


def test_contrast(samples):
    photograph = samples[0]
    assert contrast(photograph, photograph) == pytest.approx(0, abs=1e-6)
    assert contrast(photograph.repeat(1, 1, 2, 1), photograph) == pytest.approx(0, abs=0.01)
    lightness = torch.tensor([40.0, 60.0]).repeat_interleave(32).expand(64, 64)
    narrow, wide = gray(lightness), gray(50 + 2 * (lightness - 50))
    assert contrast(narrow, wide) == pytest.approx(0.5, abs=1e-3) and contrast(wide, narrow) == pytest.approx(1, abs=1e-3)
    speckled = gray(lightness + 5 * (torch.arange(64) % 2 * 2 - 1))  # what is finer than 4 px does not count
    assert contrast(speckled, gray(lightness)) == pytest.approx(0, abs=0.01)
    assert contrast(photograph, torch.full_like(photograph, 0.5)) == 1


def test_palette_rises_by_half_the_shift():
    lightness = 30 + 40 * torch.nn.functional.interpolate(noise(1, 1, 8, 8), scale_factor=8)
    one, two = (palette(gray(lightness + shift), gray(lightness)) for shift in (5, 10))
    assert two == pytest.approx(2 * one, rel=1e-3) and two == pytest.approx(10 / 2, rel=0.15)


def test_tone(samples):
    # Stretched to full contrast: faint differences explain little.
    photograph = ((samples[0][..., :160, :240] - 0.5) * 3 + 0.5).clamp(0, 1)
    assert tone(photograph, photograph) < 0.02
    assert tone(0.3 + 0.4 * photograph.flip(1), photograph) < 0.1  # less contrast, other colours
    assert tone(1 - photograph, photograph) == pytest.approx(1)  # night for day
    grain = photograph + 0.2 * (torch.arange(240) % 2 - 0.5)
    assert tone(grain, photograph) < 0.1  # strokes are no clouds
    flat = torch.full((1, 3, 160, 240), 0.5)
    clouds = flat + 0.2 * torch.sin(torch.arange(240) / 20)
    assert tone(clouds, flat) == pytest.approx(1) and tone(flat, flat) < 1e-6
    half = (flat + 0.2 * (torch.arange(240) < 120) - 0.1, clouds)  # the photograph's light and dark, and as much of clouds
    assert 0.2 < tone((half[0] + half[1]) / 2, half[0]) < 0.7


def dots(spacing: float, height: int = 192, width: int = 256) -> torch.Tensor:
    """Gray with dots on a hexagonal lattice of that spacing in px, (1, 3, height, width)."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    across = [x * np.cos(angle) + y * np.sin(angle) for angle in (0, np.pi / 3, -np.pi / 3)]
    waves = sum(torch.cos(4 * torch.pi / 3**0.5 / spacing * distance) for distance in across)
    return (0.5 + 0.05 * waves).expand(1, 3, height, width)


def test_motif():
    flat = torch.full((1, 3, 192, 256), 0.5)
    grain = 0.5 + 0.1 * (noise(1, 1, 192, 256) - 0.5).expand(1, 3, -1, -1)
    assert motif(dots(9), flat) > 0.9
    assert motif(grain, flat) < 0.15
    share = 3 / 2 * 0.05**2 / (3 / 2 * 0.05**2 + 0.1**2 / 12)  # of the dots' energy in dots and grain
    assert motif(dots(9) + grain - 0.5, flat) == pytest.approx(share, abs=0.03)
    assert motif(flat, flat) == 0 and motif(0.5 + 0.01 * (dots(9) - 0.5), flat) == 0  # nothing, and nothing to be seen
    assert motif(flat + torch.linspace(-0.3, 0.3, 256), flat) < 0.1  # a slope
    assert motif(dots(60), flat) < 0.3 < motif(dots(20), flat)  # shapes larger than the lags are no motif


def test_motif_counts_flat_windows_alone():
    flat, dotted = torch.full((1, 3, 192, 256), 0.5), dots(9)
    photograph = flat.clone()
    photograph[..., 128:] = noise(1, 3, 192, 128)
    sound = torch.where(torch.arange(256) < 120, dotted, 0.5 + 0.1 * (noise(1, 1, 192, 256) - 0.5))
    assert motif(dotted, photograph) > 0.9
    assert motif(sound, photograph) > 0.7 > motif(sound, photograph.flip(-1))
    assert np.isnan(motif(dotted, noise(1, 3, 192, 256)))


def test_worth():
    assert equivalent_iterations([5, 4, 3, 2], 4.5) == 1
    assert equivalent_iterations([5, 4, 3, 2], 2) == 3
    assert equivalent_iterations([5, 4, 3, 2], 1) is None
    assert equivalent_iterations([5, 4], 6) == 0


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
