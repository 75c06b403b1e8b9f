"""Strips equal the whole: over sizes, strips, norms and ways to enlarge."""

import numpy as np
import pytest
import torch
from conftest import picture
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastnst.images import to_image, to_tensor
from fastnst.inference.stylizer import rows_at_a_time
from fastnst.inference.tiling import restyle_in_strips
from fastnst.models.transform_net import TransformNet


def net(norm: str, upsample: str) -> TransformNet:
    """A net with norms that do something."""
    torch.manual_seed(1)
    made = TransformNet(norm, 6, upsample)
    for module in made.modules():
        if isinstance(module, (torch.nn.InstanceNorm2d, torch.nn.BatchNorm2d)):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.1, 0.5)
    return made.eval()


@pytest.mark.parametrize("upsample", ["antialiased", "nearest", "transposed"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("size", [(16, 16), (17, 18), (51, 34), (97, 130), (203, 66)])
@torch.inference_mode()
def test_strips_equal_the_whole(norm, upsample, size):
    made, image = net(norm, upsample), picture(3, size[1], size[0])
    whole = np.asarray(to_image(made(to_tensor(image).unsqueeze(0))[0])).astype(int)
    assert whole.std() > 5
    for strip in (16, 21, 64, 1000):
        shares = []
        result = restyle_in_strips(made, np.asarray(image), strip, shares.append)
        assert result.dtype == np.uint8 and np.abs(result - whole).max() <= 1
        assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


@torch.inference_mode()
def test_strips_keep_the_whole_pictures_statistics():
    # Dark above and bright below: normalized strip by strip, both would come out alike.
    made = net("instance", "nearest")
    image = np.concatenate([np.full((64, 64, 3), 20, np.uint8), np.full((64, 64, 3), 230, np.uint8)])
    whole = np.asarray(to_image(made(to_tensor(image).unsqueeze(0))[0])).astype(int)
    alone = np.asarray(to_image(made(to_tensor(image[:64]).unsqueeze(0))[0])).astype(int)
    result = restyle_in_strips(made, image, 16)
    assert np.abs(result - whole).max() <= 1 < np.abs(alone - whole[:64]).max()


def test_rows_at_a_time():
    assert rows_at_a_time((1, 1000, 1000, 3), 16, 8 * 10**9) is None
    strip = rows_at_a_time((1, 10000, 10000, 3), 16, 8 * 10**9)
    assert 16 <= strip <= 512 and strip * 10000 * 40 * 16 <= 256e6
    assert rows_at_a_time((1, 30000, 100000, 3), 16, 10**9) == 16
    for long in ((1, 19, 2_000_000, 3), (1, 2_000_000, 19, 3)):
        assert rows_at_a_time(long, 16, 8 * 10**9) == 512


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that is made."""

    bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        made = [leaf.numel() * leaf.element_size() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.bytes = max(self.bytes, *made, 0)
        return result


@torch.inference_mode()
@pytest.mark.parametrize("size", [(20, 8000), (8000, 20), (400, 400)])
def test_memory_is_the_same_for_any_shape(size):
    """160,000 px each: no tensor is larger than the map that is kept, or than a strip of a few kilobytes."""
    made = net("instance", "antialiased")
    with Largest() as largest:
        result = restyle_in_strips(made, np.asarray(picture(3, size[1], size[0])), 16)
    assert result.shape == (*size, 3)
    kept = size[0] * size[1] // 16 * 4 * 6 * 2
    strip = (4 * 16 + 40) * (min(size) + 8) * 6 * 8
    assert kept <= largest.bytes <= max(kept, strip)
