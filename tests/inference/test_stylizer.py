"""What comes out of inference keeps what the photograph brought, and nothing a stranger hands over runs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import picture, random_arbitrary
from PIL import Image

import fastnst
from fastnst.brushwork import brushed_picture
from fastnst.checkpoint import load_net
from fastnst.commands.entry import train
from fastnst.errors import UserError
from fastnst.images import to_image, to_tensor
from fastnst.inference import stylizer as inference
from fastnst.inference import tiling
from fastnst.inference.stylizer import Controls, Stylizer


def test_a_call_is_one_pass_of_the_net(stylizer):
    result = stylizer(picture(0), precision="float32")
    with torch.no_grad():
        expected = to_image(stylizer.nets[0](to_tensor(picture(0)).unsqueeze(0))[0])
    assert (result.mode, result.size) == ("RGB", (64, 48))
    assert np.abs(np.asarray(result, int) - np.asarray(expected, int)).max() <= 1


def test_size_limits_the_long_side(stylizer):
    assert stylizer(picture(0), size=32).size == (32, 24)
    assert stylizer(picture(0), size=500).size == (64, 48)


def test_alpha_survives(stylizer):
    image = picture(0).convert("RGBA")
    alpha = picture(1).convert("L")
    image.putalpha(alpha)
    result = stylizer(image)
    assert result.mode == "RGBA"
    assert result.getchannel("A").tobytes() == alpha.tobytes()
    assert stylizer(image, size=32).size == (32, 24)


def test_every_mode(stylizer):
    sixteen = Image.fromarray(np.asarray(picture(0).convert("L")).astype(np.uint16) * 257)
    for image in (*(picture(0).convert(m) for m in ("L", "1", "P", "CMYK", "LA", "RGBA", "YCbCr", "HSV")), sixteen):
        assert stylizer(image).size == stylizer(image, size=64).size == (64, 48)
        assert stylizer(image, size=32).size == (32, 24)


def test_strength_goes_from_photograph_to_result(stylizer):
    photograph = picture(0)
    result = np.asarray(stylizer(photograph), int)
    assert np.array_equal(stylizer(photograph, strength=0.0), photograph)
    half = np.asarray(stylizer(photograph, strength=0.5), int)
    assert np.abs(half - (result + np.asarray(photograph, int)) / 2).max() <= 1


def test_preserve_color_keeps_chroma(stylizer):
    photograph = Image.fromarray(np.asarray(picture(0)) // 2 + 64)  # far from where mixing would clip
    kept, result = stylizer(photograph, preserve_color=True), stylizer(photograph)
    ours, theirs, styled = (np.asarray(p.convert("YCbCr"), int) for p in (kept, photograph, result))
    unclipped = ((np.asarray(kept) > 0) & (np.asarray(kept) < 255)).all(2)
    assert unclipped.mean() > 0.5
    assert np.abs(ours - theirs)[unclipped][:, 1:].max() <= 3
    assert np.abs(ours - styled)[unclipped][:, 0].max() <= 3


def test_style_scale_works_at_another_size(stylizer):
    photograph = picture(0, 64, 48)
    small = stylizer(photograph.resize((32, 24), Image.Resampling.LANCZOS))
    expected = small.resize((64, 48), Image.Resampling.LANCZOS)
    assert np.array_equal(stylizer(photograph, style_scale=2), expected)
    assert stylizer(photograph, style_scale=0.5).size == (64, 48)


def test_strips_and_auto(stylizer, monkeypatch):
    photograph = picture(0, 120, 90)
    whole = np.asarray(stylizer(photograph, tile=None, precision="float32"), int)
    assert np.abs(np.asarray(stylizer(photograph, tile=16), int) - whole).max() <= 1
    asked = []
    in_strips = tiling.restyle_in_strips
    monkeypatch.setattr(tiling, "restyle_in_strips", lambda *a: asked.append(a[2]) or in_strips(*a))
    stylizer(photograph)
    assert asked == []
    monkeypatch.setattr(inference, "free_memory", lambda device=None: 10**6)
    assert np.abs(np.asarray(stylizer(photograph), int) - whole).max() <= 1 and {*asked} == {16}


def test_brushwork_is_the_nets_own_or_the_dials(checkpoint):
    net, info = load_net(checkpoint)
    plain, own = Stylizer((net, info)), Stylizer((net, info | {"brushwork": 8.0}))
    photograph = picture(0)
    for levels in (4, 8, 16):
        expected = plain(Image.fromarray(brushed_picture(photograph, levels))).tobytes()
        assert own(photograph, brushwork=levels).tobytes() == plain(photograph, brushwork=levels).tobytes() == expected
        assert expected != plain(photograph).tobytes()
    assert own(photograph).tobytes() == own(photograph, brushwork=8).tobytes()
    assert own(photograph, brushwork=0).tobytes() == plain(photograph).tobytes()
    mixed = Stylizer((net, info | {"brushwork": 8.0}), (net, info), weights=[1, 3])
    assert mixed.brushwork == 2
    for wrong in ("8", -1, 21, True, None, [8]):
        assert Stylizer((net, info | {"brushwork": wrong})).brushwork == 0


def test_controls_are_given_together_or_one_by_one(stylizer):
    photograph, controls = picture(0), Controls(strength=0.5, preserve_color=True)
    expected = stylizer(photograph, strength=0.5, preserve_color=True, style_scale=0.5)
    assert stylizer(photograph, controls=controls, style_scale=0.5).tobytes() == expected.tobytes()
    (alone,) = stylizer.restyle([photograph], Controls(0.5, True, 0.5))
    assert alone.tobytes() == expected.tobytes()
    with pytest.raises(TypeError, match="strenght"):
        stylizer(photograph, strenght=0.5)


@pytest.mark.parametrize(
    "name, values",
    [
        ("strength", (-0.1, 1.1, "1", None, True, float("nan"))),
        ("style_scale", (0, 11, float("inf"))),
        ("brushwork", (-0.1, 20.1, True, "1")),
        ("preserve_color", (1, None, "true")),
        ("tile", (15, 20.0, "automatic", True)),
        ("precision", ("float16", None, 32)),
    ],
)
def test_controls_are_checked(name, values):
    for value in values:
        with pytest.raises(UserError, match=f"{name}={value}: give"):
            Controls(**{name: value})


def test_controls_hold_plain_numbers():
    controls = Controls(np.float32(0.5), style_scale=np.int8(2), tile=np.uint8(16))  # which would overflow in a sum
    assert [type(value) for value in (controls.strength, controls.style_scale, controls.tile)] == [float, float, int]
    assert controls == Controls(0.5, False, 2, 16)
    assert Controls(preserve_color=np.bool_(True)).preserve_color is True


def test_numpy_scalars_are_numbers(stylizer, checkpoint):
    photograph = picture(0)
    plain = stylizer(photograph, 32, strength=0.5, style_scale=0.5, tile=16)
    assert stylizer(
        photograph, np.int64(32), strength=np.float32(0.5), style_scale=np.float16(0.5), tile=np.int64(16)
    ).tobytes() == plain.tobytes()  # fmt: skip
    mixed = fastnst.load(checkpoint, checkpoint, weights=np.array([1, 3], np.float32))
    assert np.abs(np.asarray(mixed(photograph), int) - np.asarray(stylizer(photograph), int)).max() <= 1
    for size in (0, 15, 20.0, "32", True, np.float64(32)):
        with pytest.raises(UserError, match="size=.*whole number from 16"):
            stylizer(photograph, size)


@pytest.mark.slow  # four trainings
def test_relatives_are_mixed_by_their_weights(command, small_training, tmp_path):
    """Nets trained on from one net, and that net itself; others are mixed by their results."""
    few = (*small_training, "trainer.max_steps=2", "data.workers=0")
    assert command(train, *few, "out=first.safetensors")[0] == 0
    for name in ("a", "b"):
        again = ("init=first.safetensors", f"seed={ord(name)}", "optimizer.lr=1e-2", f"out={name}.safetensors")
        assert command(train, *few, *again)[0] == 0
    photograph = picture(4)
    for pair in (("a", "b"), ("first", "a")):
        files = [tmp_path / f"{name}.safetensors" for name in pair]
        (net,) = fastnst.load(*files, weights=[3, 1]).nets
        states = [load_net(file)[0].state_dict() for file in files]
        for name, tensor in net.state_dict().items():
            torch.testing.assert_close(tensor, 0.75 * states[0][name] + 0.25 * states[1][name])
        assert np.asarray(fastnst.load(*files, weights=[1, 0])(photograph)).tolist() == np.asarray(
            fastnst.load(files[0])(photograph)).tolist()  # fmt: skip
    assert command(train, *few, "seed=9", "out=stranger.safetensors")[0] == 0
    assert len(fastnst.load(tmp_path / "a.safetensors", tmp_path / "stranger.safetensors").nets) == 2


def test_strength_moves_between_the_photographs_own_style_and_the_paintings(tmp_path, paintings):
    random_arbitrary(tmp_path)
    style = fastnst.load(tmp_path / "any.safetensors", style=str(paintings / "0.png"))
    photograph = picture(3)
    full, half, none = (np.asarray(style(photograph, strength=s, precision="float32"), int) for s in (1.0, 0.5, 0.0))
    own = style.styles[0].at(0.0, photograph)
    expected = own(torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None] / 255).clamp(0, 1)[0] * 255
    assert abs(expected.permute(1, 2, 0).detach().numpy().round() - none).max() <= 1
    blend = (full + none) / 2
    assert abs(half - full).mean() > 0.5 and abs(half - blend).mean() > 0.1  # not a mixture of the two pictures


def test_a_long_photographs_own_style_is_its_middles(tmp_path, paintings, monkeypatch):
    random_arbitrary(tmp_path)
    style = fastnst.load(tmp_path / "any.safetensors", style=str(paintings / "0.png"))
    asked = []
    looked = style.styles[0].look(picture(0, 48, 48))
    monkeypatch.setattr(style.styles[0], "look", lambda p: asked.append(p.size) or looked)
    assert style(picture(3, 2000, 16), strength=0.5).size == (2000, 16)
    assert asked == [(768, 48)]


def test_dials_of_a_zero_shot_net(tmp_path, paintings, checkpoint, monkeypatch):
    net = random_arbitrary(tmp_path)
    painting, photograph = str(paintings / "0.png"), picture(3, 64, 48)
    style = fastnst.load(tmp_path / "any.safetensors", style=painting)
    plain = np.asarray(style(photograph), int)
    (painted,) = style.styles
    asked = []
    look = painted.look
    monkeypatch.setattr(painted, "look", lambda p: asked.append(min(p.size)) or look(p))
    heavy, small = style(photograph, style_weight=3), style(photograph, style_size=64)
    style(photograph, style_size=64, style_weight=2)
    assert asked == [64]  # a painting is looked at once for each size
    for changed in (heavy, small):
        assert abs(np.asarray(changed, int) - plain).mean() > 0.5
    pooled, image = painted.looked[48][painting]
    assert min(image.shape[2:]) == 48
    embedding = net.colored(net.predict(pooled, 3.0)[0], image)
    torch.testing.assert_close(painted.embeddings_at(48, 3.0)[painting], embedding)
    np.testing.assert_array_equal(style(photograph), plain)  # a dial turned once does not stay turned
    for changes in (
        {"style_size": 63},
        {"style_size": 64.5},
        {"style_size": 513},
        {"style_weight": 0.3},
        {"style_weight": 4},
    ):
        with pytest.raises(UserError, match="style_"):
            style(photograph, **changes)
    for other in (fastnst.load(checkpoint), Stylizer(*[tmp_path / "any.safetensors"] * 2, style=painting)):
        with pytest.raises(UserError, match="zero-shot"):
            other(photograph, style_weight=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_processes_use_what_the_parent_has_used(checkpoint, tmp_path):
    picture(0, 80, 64).save(tmp_path / "photo.png")
    script = """
import multiprocessing, sys
from PIL import Image
import fastnst
style, photograph = fastnst.load(sys.argv[1]), Image.open(sys.argv[2])
def restyle(_=None):
    return style(photograph, precision="float32")  # bfloat16's rounding depends on the number of threads
before = restyle().tobytes()
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = pool.map_async(restyle, range(3)).get(60)
assert max(abs(a - b) for result in results for a, b in zip(result.tobytes(), before)) <= 1
"""
    threads = os.environ | {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    command = [sys.executable, "-c", script, checkpoint, tmp_path / "photo.png"]
    done = subprocess.run(command, env=threads, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_what_a_program_gives(stylizer, checkpoint, tmp_path, paintings):
    photograph = picture(0)
    expected = stylizer(photograph, size=32, strength=0.5)
    assert stylizer(photograph, size=np.int64(32), strength=np.float32(0.5)) == expected
    assert fastnst.load(checkpoint, checkpoint, weights=np.ones(2)).weights == [1.0]
    for wrong in (np.asarray(photograph), checkpoint, b"bytes", None):
        with pytest.raises(TypeError, match="give a PIL image, such as Image.open"):
            stylizer(wrong)
    random_arbitrary(tmp_path)
    path = paintings / "0.png"
    one, other = (fastnst.load(tmp_path / "any.safetensors", style=style) for style in (path, str(path)))
    assert one(photograph) == other(photograph)
