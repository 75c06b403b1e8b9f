"""Results get their painting's lightness, and the colours of zero-shot results are matched in few operations."""

import pytest
import torch
import torch.nn.functional as F
from conftest import random, random_multi

from fastnst.brushwork import LUMINANCE
from fastnst.losses.terms import reference_picture
from fastnst.models.colors import MOST_LIGHT, coarse, eigh, lighting
from fastnst.models.transform_net import TransformNet


def moments_of(colours):
    return colours.mean(1), torch.cov(colours, correction=0)


def luminance(colours):
    return colours.new_tensor(LUMINANCE) @ colours


def test_lightness_is_stretched_and_hues_stay():
    found = random(3, 200)
    for spread, gain in ((1.2, 1.2), (0.5, 1), (9, MOST_LIGHT)):
        wanted = spread * found.flip(1) + 0.3
        linear, shift = lighting(moments_of(found), moments_of(wanted))
        lit = linear @ found + shift[:, None]
        torch.testing.assert_close(lit.mean(1), wanted.mean(1))
        torch.testing.assert_close(luminance(lit).std(), gain * luminance(found).std())
        for colours in (lit, found):
            colours -= colours.mean(1, keepdim=True)
        torch.testing.assert_close(lit - luminance(lit), found - luminance(found))


def test_what_is_finer_than_the_reference_picture_shows_is_no_contrast():
    pictures = torch.rand(1, 3, 512, 768)
    assert coarse(pictures).shape == (1, 3, 256, 384)
    torch.testing.assert_close(coarse(pictures), F.avg_pool2d(pictures, 2))
    assert coarse(pictures[..., :200, :]).shape == (1, 3, 200, 768)


def spreads(net, embeddings):
    results = (net.fold(embedding).layers(reference_picture() * 2 - 1).detach() for embedding in embeddings)
    return [luminance(F.avg_pool2d(x, 4)[0].flatten(1)).std(correction=0).item() for x in results]


@pytest.mark.parametrize("kind", ["instance", "batch", "several"])
def test_a_nets_results_have_the_spread_of_lightness_of_their_paintings(kind):
    torch.manual_seed(0)
    net = random_multi() if kind == "several" else TransformNet(kind, width=4)
    learnt = [buffer.clone() for buffer in net.buffers()]  # batch normalization's statistics
    net.eval()
    before = spreads(net, net.embeddings if kind == "several" else [net.first_embedding()])
    aims = [1.2 * before[0], 1.4 * before[-1]][: len(before)]
    colours = F.interpolate(torch.randn(1, 3, 16, 16), 128, mode="bicubic")
    unit = luminance(F.avg_pool2d(colours, 4)[0].flatten(1)).std(correction=0)
    paintings = [net.body.output(colours * aim / unit) for aim in aims]
    for _ in range(2):  # the second time there is nothing left to do
        net.train()
        net.light(paintings)
        assert net.training
        net.eval()
        after = spreads(net, net.embeddings if kind == "several" else [net.first_embedding()])
        assert after == pytest.approx(aims, rel=1e-3)
    assert all(map(torch.equal, net.buffers(), learnt))


def test_eigenvectors_of_symmetric_matrices():
    for matrix in (
        random(3, 3),
        torch.eye(3, dtype=torch.float64),
        random(3, 1) @ random(1, 3),
        torch.zeros(3, 3, dtype=torch.float64),
    ):
        matrix = matrix @ matrix.T
        values, axes = eigh(matrix)
        torch.testing.assert_close((axes * values) @ axes.T, matrix, atol=1e-9, rtol=0)
        torch.testing.assert_close(axes @ axes.T, torch.eye(3).to(matrix), atol=1e-6, rtol=0)
