"""Crops, and the order that they come in."""

import torch
from conftest import picture
from PIL import Image

from fastnst.data import crops
from fastnst.data.crops import Photographs, Stream, crop
from fastnst.data.files import find_photographs
from fastnst.images import decode, to_tensor


def test_ranks_share_the_stream_without_overlap():
    whole = list(Stream(7, total=28, seed=0))
    parts = [list(Stream(7, total=28, seed=0, rank=r, world=2)) for r in range(2)]
    assert [item for pair in zip(*parts, strict=True) for item in pair] == whole
    assert [len(Stream(7, 28, 0, rank=r, world=2)) for r in range(2)] == [14, 14]
    for epoch in range(4):
        assert sorted(index for _, index in whole[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_crops_differ_between_epochs(photographs):
    dataset = Photographs(find_photographs(photographs), 24, (0.5, 1.0), seed=0)
    assert not torch.equal(dataset[0, 3]["image"], dataset[12, 3]["image"])


def test_a_photograph_smaller_than_the_crop_is_enlarged(tmp_path):
    picture(3, 20, 17).save(tmp_path / "small.png")
    assert crop(tmp_path / "small.png", 1.0, 0.5, 0.5, False, 64).shape == (3, 64, 64)


def test_jpegs_are_decoded_at_the_smallest_sufficient_scale(tmp_path, monkeypatch):
    picture(4, 1600, 1200).save(tmp_path / "large.jpg", quality=95)
    decoded = []

    def recorded(*arguments):
        pixels = decode(*arguments)
        decoded.append(pixels.shape)
        return pixels

    monkeypatch.setattr(crops, "decode", recorded)
    for side in (1.0, 0.5, 0.25):
        small = crop(tmp_path / "large.jpg", side, 0.3, 0.6, False, 256)
        with Image.open(tmp_path / "large.jpg") as image:
            edge = side * 1200
            left, top = 0.3 * (1600 - edge), 0.6 * (1200 - edge)
            box = (left, top, left + edge, top + edge)
            full = to_tensor(image.resize((256, 256), Image.Resampling.BICUBIC, box=box))
        assert (small - full).abs().mean() < 0.01
    assert decoded == [(300, 400, 3), (600, 800, 3), (1200, 1600, 3)]


def test_flip_and_range(tmp_path):
    picture(6).save(tmp_path / "a.png")
    plain = crop(tmp_path / "a.png", 1.0, 0.0, 0.0, False, 48)
    torch.testing.assert_close(crop(tmp_path / "a.png", 1.0, 0.0, 0.0, True, 48), plain.flip(-1))
    torch.testing.assert_close(plain, to_tensor(picture(6))[:, :, :48], atol=0.01, rtol=0)
    assert plain.min() >= 0 and plain.max() <= 1
