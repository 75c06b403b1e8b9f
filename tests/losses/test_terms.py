"""Each term against loops over its formula."""

import itertools

import numpy as np
import pytest
import torch
from conftest import random
from PIL import Image, ImageFilter

from fastnst.images import to_tensor
from fastnst.losses.terms import (
    content_loss,
    gram_matrix,
    isotropic_total_variation,
    lab,
    median_filtered,
    style_loss,
    total_variation,
)


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


def test_the_median_is_pillows_and_keeps_edges():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (44, 60, 3), np.uint8))
    expected = np.asarray(image.filter(ImageFilter.MedianFilter(5)), int)[2:-2, 2:-2]
    found = median_filtered(to_tensor(image)[None], 5)[0].permute(1, 2, 0).numpy() * 255
    assert found.shape == (44, 60, 3) and np.abs(found[2:-2, 2:-2] - expected).max() < 1e-3

    dots, edge = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    dots[..., ::4, ::4], edge[..., 16:] = 1, 1
    assert median_filtered(dots, 5).max() == 0 and torch.equal(median_filtered(edge, 5), edge)
    assert median_filtered(dots, 1) is dots


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


def test_isotropic_total_variation_against_loops():
    images, total = random(2, 3, 4, 5), 0.0
    for image in images.numpy():
        for c, y, x in np.ndindex(image.shape):
            dx = image[c, y, x + 1] - image[c, y, x] if x + 1 < 5 else 0
            dy = image[c, y + 1, x] - image[c, y, x] if y + 1 < 4 else 0
            total += np.hypot(dx, dy) / (3 * 4 * 5)
    assert isotropic_total_variation(images).item() == pytest.approx(total / 2, rel=1e-6)
    assert torch.autograd.gradcheck(isotropic_total_variation, random(1, 2, 3, 4).requires_grad_())
    flat = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    isotropic_total_variation(flat).backward()
    assert flat.grad.isfinite().all()


def test_lab_is_as_exact_in_mixed_precision():
    picture = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = lab(picture)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, lab(picture))


def test_lab_is_scikit_images():
    colors = torch.rand(1, 3, 30, 20, generator=torch.Generator().manual_seed(0))
    colors[..., :2] = torch.tensor([0.0, 1.0])
    expected = pytest.importorskip("skimage.color").rgb2lab(colors[0].permute(1, 2, 0).double().numpy())
    np.testing.assert_allclose(lab(colors.double())[0].permute(1, 2, 0).numpy(), expected, atol=0.05)


def test_palette_has_a_finite_gradient_beyond_the_range():
    picture = torch.tensor([-0.2, 0.0, 0.02, 1.0, 1.2]).view(1, 1, 1, 5).expand(1, 3, 5, 5).clone().requires_grad_()
    lab(picture).sum().backward()
    assert picture.grad.isfinite().all() and (picture.grad != 0).any()
