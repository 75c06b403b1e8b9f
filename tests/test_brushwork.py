"""Faint strokes on a photograph: along its forms, the same each time, and no more than asked for."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastnst.brushwork import brushed, brushed_picture, strokes


def stripes(angle: float, side: int = 128) -> torch.Tensor:
    """A grey picture of soft stripes, (1, 1, side, side), which run at `angle` from the x axis."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    across = -x * np.sin(angle) + y * np.cos(angle)
    return (0.5 + 0.3 * torch.sin(across / 6)).float()[None, None]


def smoothness(maps: torch.Tensor, angle: float, reach: int = 6) -> float:
    """The correlation of maps, (1, 1, H, W), with themselves `reach` px further on."""
    dx, dy = round(reach * np.cos(angle)), round(reach * np.sin(angle))
    moved = torch.roll(maps, (dy, dx), (2, 3))
    a, b = (m[..., 10:-10, 10:-10].flatten() for m in (maps, moved))
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


@pytest.mark.parametrize("angle", [0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4])
def test_strokes_run_along_the_forms(angle):
    laid = strokes(stripes(angle))
    assert smoothness(laid, angle) > 0.6 > 0.2 > abs(smoothness(laid, angle + np.pi / 2))


def test_strokes_wander_where_there_is_no_form():
    flat = torch.full((1, 1, 224, 224), 0.5)
    laid = strokes(flat)
    # Whichever way one goes, strokes run along it somewhere and across it somewhere else.
    quarters = [[smoothness(laid[..., y : y + 64, x : x + 64], angle) for y in (0, 80, 160) for x in (0, 80, 160)]
                for angle in (0.0, np.pi / 2)]  # fmt: skip
    assert all(max(places) > 0.5 and min(places) < 0.3 for places in quarters)


def test_strokes_are_as_strong_as_asked_and_the_same_each_time():
    pictures = torch.rand(2, 3, 67, 90)
    laid = strokes(pictures[:, :1])
    assert laid.shape == (2, 1, 67, 90)
    assert laid.std().item() == pytest.approx(1, abs=0.1) and abs(laid.mean().item()) < 0.3
    assert torch.equal(laid, strokes(pictures[:, :1])) and not torch.equal(laid, strokes(pictures[:, :1], seed=1))
    torch.testing.assert_close(strokes(pictures[:1, :1]), laid[:1])  # a picture's do not depend on the others
    grey = torch.full((1, 3, 64, 64), 0.5)
    assert (255 * (brushed(grey, 6.0) - grey)).std().item() == pytest.approx(6, abs=0.6)
    assert torch.equal(brushed(pictures, 0.0), pictures)
    result = brushed(pictures, 20.0)
    assert result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("size", [(16, 16), (17, 300), (301, 33), (640, 480)])
def test_a_picture_of_bytes_gets_the_same(size):
    photograph = Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 60).convert("RGB")
    pixels = np.asarray(photograph)
    expected = brushed(torch.tensor(pixels).permute(2, 0, 1)[None] / 255, 6.0)[0].permute(1, 2, 0).numpy() * 255
    found = brushed_picture(photograph, 6.0)
    assert found.dtype == np.uint8 and found.shape == pixels.shape
    assert np.abs(found - expected).max() < 2 and np.abs(found.astype(int) - pixels).max() > 6
