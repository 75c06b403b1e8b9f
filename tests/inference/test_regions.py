"""Regions: each style where its mask is white, as in its own pass."""

import numpy as np
import pytest
import torch
from conftest import picture, random_arbitrary, random_multi
from PIL import Image, ImageFilter, ImageOps

import fastnst
from fastnst.checkpoint import export
from fastnst.errors import UserError
from fastnst.images import to_tensor

FIELD = 72  # px; no pixel's field of view reaches further


def left(width: int, height: int, edge: int) -> Image.Image:
    """A mask that is white as far as the column `edge`."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, edge, height))
    return mask


def difference(a: Image.Image, b: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(a, int) - np.asarray(b, int))


@pytest.fixture
def multi(tmp_path):
    torch.manual_seed(0)
    export(tmp_path / "multi.safetensors", random_multi(), {"style": {"name": "a+b"}})
    return tmp_path / "multi.safetensors"


@pytest.mark.parametrize("controls", [{}, {"tile": 16}, {"style_scale": 2.0}, {"strength": 0.5, "preserve_color": True}])
def test_a_mask_of_ones_is_the_ordinary_pass(multi, controls):
    photograph, white, black = picture(0, 70, 51), Image.new("L", (5, 7), 255), Image.new("L", (9, 3))
    for style in "ab":
        expected = fastnst.load(multi, style=style)(photograph, **controls)
        for masks in ({"a": black, "b": black} | {style: white}, {style: black}):  # one style has all of the picture
            assert difference(fastnst.load(multi, style=masks)(photograph, **controls), expected).max() <= 1


@pytest.mark.parametrize("upsample", ["antialiased", "nearest", "transposed"])
@torch.inference_mode()
def test_each_side_equals_its_own_pass_beyond_the_field_of_view(upsample):
    torch.manual_seed(0)
    net, edge, mask = random_multi(upsample=upsample), 110, left(219, 33, 110)
    photograph = to_tensor(picture(0, 219, 33)).unsqueeze(0)
    a, b = (net.choose({style: 1})(photograph) for style in "ab")
    result = net.divide(net.embeddings_of("ab"), [mask, ImageOps.invert(mask)]).sized(33, 219)(photograph)
    for own, other, side in ((a, b, slice(0, edge - FIELD)), (b, a, slice(edge + FIELD, None))):
        torch.testing.assert_close(result[..., side], own[..., side], atol=1e-5, rtol=0)
        assert (result[..., side] - other[..., side]).abs().mean() > 0.02
    between = (result - torch.cat([a[..., :edge], b[..., edge:]], -1))[..., edge - 8 : edge + 8]
    assert between.abs().max() > 0.02  # in the field of view one style flows into the other


@torch.inference_mode()
def test_where_styles_are_alike_no_mask_shows():
    net = random_multi()
    net.embeddings[1] = net.embeddings[0]
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 31), np.uint8)
    photographs = torch.stack([to_tensor(picture(i, 70, 51)) for i in range(2)])
    result = net.divide(net.embeddings_of("ab"), [Image.fromarray(mask) for mask in noise]).sized(51, 70)(photographs)
    torch.testing.assert_close(result, net.choose({"a": 1})(photographs), atol=1e-5, rtol=0)


def test_masks_are_scaled_to_a_sum_of_one(multi):
    photograph = picture(0)

    def shared(a: int, b: int) -> Image.Image:
        return fastnst.load(multi, style={"a": Image.new("L", (4, 4), a), "b": Image.new("L", (4, 4), b)})(photograph)

    assert difference(shared(40, 80), shared(100, 200)).max() <= 1
    assert difference(shared(0, 0), shared(90, 90)).max() <= 1
    assert difference(shared(40, 80), shared(90, 90)).mean() > 1


@pytest.mark.parametrize("size", [(120, 51), (51, 120)])
def test_strips_equal_the_whole(multi, size):
    photograph, mask = picture(0, *size), picture(1, 30, 50).convert("L")
    stylizer = fastnst.load(multi, style={"a": mask, "b": left(70, 50, 20)})
    whole = stylizer(photograph, tile=None)
    assert difference(stylizer(photograph, tile=16), whole).max() <= 1
    assert difference(whole, fastnst.load(multi, style="a")(photograph)).mean() > 1


def test_frames_of_one_batch_have_their_own_statistics(multi):
    stylizer = fastnst.load(multi, style={"a": left(64, 48, 30), "b": ImageOps.invert(left(64, 48, 30))})
    frames = [picture(0), picture(1)]
    for frame, result in zip(frames, stylizer.restyle(frames), strict=True):
        assert difference(stylizer(frame), result).max() <= 1


def test_a_soft_edge_has_no_seam():
    # Of trained styles: no step from one column to the next is greater in the transition than in the styles themselves.
    photograph, edge = picture(2, 320, 64), 160
    mask = left(320, 64, edge).filter(ImageFilter.GaussianBlur(12))
    result = fastnst.load("base", style={"wave": mask, "mosaic": ImageOps.invert(mask)})(photograph)
    steps = np.abs(np.diff(np.asarray(result, float), axis=1)).mean((0, 2))
    assert steps[edge - 24 : edge + 24].max() <= np.delete(steps, range(edge - 24, edge + 24)).max()


def test_paintings_have_regions_and_strength(tmp_path, paintings):
    random_arbitrary(tmp_path)
    left(64, 48, 32).save(tmp_path / "left.png")
    files, photograph = [str(paintings / f"{i}.png") for i in range(2)], picture(0)
    regions = {files[0]: tmp_path / "left.png", files[1]: ImageOps.invert(left(64, 48, 32))}
    styled = fastnst.load(tmp_path / "any.safetensors", style=regions)
    swapped = fastnst.load(tmp_path / "any.safetensors", style=dict(zip(files, [*regions.values()][::-1], strict=True)))
    assert difference(styled(photograph), swapped(photograph)).mean() > 1
    # At 0 both are the photograph's own style.
    assert difference(styled(photograph, strength=0), swapped(photograph, strength=0)).max() <= 1
    assert difference(styled(photograph, strength=0), styled(photograph)).mean() > 1


def test_regions_of_several_checkpoints_are_mixed(multi, tmp_path):
    torch.manual_seed(1)
    export(tmp_path / "other.safetensors", random_multi(width=5), {"style": {"name": "a+b"}})
    files, style = (multi, tmp_path / "other.safetensors"), {"a": left(64, 48, 30), "b": Image.new("L", (8, 8), 99)}
    each = [np.asarray(fastnst.load(file, style=style)(picture(0)), int) for file in files]
    assert np.abs(np.asarray(fastnst.load(*files, style=style)(picture(0)), int) - sum(each) / 2).max() <= 1


def test_bad_masks_are_told(multi, checkpoint):
    for file, style, message in (
        (multi, {"a": left(8, 8, 4), "b": 0.5}, "style=a, b: give a number for each, or a mask for each"),
        (multi, {"a": left(8, 8, 4), "c": left(8, 8, 4)}, "style=c: this checkpoint has a, b"),
        (multi, {"a": Image.new("F", (8, 8))}, "the mask of a: a floating-point picture has no defined range"),
        (multi, {"a": "missing.png"}, "missing.png: no such picture file"),
        (checkpoint, {"a": left(8, 8, 4)}, "holds one style; leave style out"),
    ):
        with pytest.raises(UserError, match=message):
            fastnst.load(file, style=style)
