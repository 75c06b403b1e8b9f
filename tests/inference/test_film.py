"""A clip made here goes through inference: times, sound, rotation and colours are kept, flicker is damped."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image

from fastnst.checkpoint import export
from fastnst.commands.entry import infer as main
from fastnst.errors import UserError
from fastnst.inference.film import Damping, restyle_film
from fastnst.models.transform_net import TransformNet

FRAMES, WIDTH, HEIGHT, RATE = 11, 96, 64, 24
FULL, LIMITED, BT709, BT601 = 2, 1, 1, 5  # FFmpeg's numbers


class Same:
    """A style that changes nothing."""

    def restyle(self, pictures, controls):
        return pictures


def make_clip(path: Path, color_range: int = LIMITED, matrix: int = BT709, pts=range(FRAMES), suffix_sound: bool = True):
    """A camera that moves over a picture, one px a frame, and a tone."""
    scene = np.asarray(picture(4, 2 * WIDTH, 2 * HEIGHT))
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=RATE, options={"crf": "5"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.color_range, video.codec_context.colorspace = color_range, matrix
        sound = film.add_stream("aac", rate=44100, layout="mono") if suffix_sound else None
        for i, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(scene[i : i + HEIGHT, i : i + WIDTH]))
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=color_range)
            frame.pts, frame.time_base = time, Fraction(1, RATE)
            film.mux(video.encode(frame))
        film.mux(video.encode())
        if sound:
            tone = np.sin(np.arange(44100 * FRAMES // RATE) * 0.05).astype(np.float32)[None]
            for start in range(0, tone.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(tone[:, start : start + 1024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
                film.mux(sound.encode(frame))
            film.mux(sound.encode())


def read_clip(path: Path):
    """Times, pictures, sound packets, and the codec's colour range and matrix."""
    with av.open(str(path)) as film:
        context = film.streams.video[0].codec_context
        frames = [(f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in film.decode(video=0)]
        colors = context.color_range, context.colorspace
    with av.open(str(path)) as film:
        sound = [bytes(p) for p in film.demux(film.streams.audio[0]) if p.size] if film.streams.audio else []
    return [t for t, _ in frames], [p.astype(int) for _, p in frames], sound, colors


@pytest.mark.parametrize("color_range, matrix", [(LIMITED, BT709), (FULL, BT601)])
def test_a_style_that_changes_nothing_changes_nothing(tmp_path, color_range, matrix):
    make_clip(tmp_path / "clip.mp4", color_range, matrix)
    seen = []
    restyle_film(
        Same(), tmp_path / "clip.mp4", tmp_path / "out.mp4", progress=lambda done, total: seen.append((done, total))
    )
    before, after = read_clip(tmp_path / "clip.mp4"), read_clip(tmp_path / "out.mp4")
    assert before[0] == after[0] and len(after[0]) == FRAMES
    assert max(np.abs(a - b).mean() for a, b in zip(before[1], after[1], strict=True)) < 3
    assert before[2] == after[2] and before[2]
    assert before[3] == after[3] == (color_range, matrix)
    assert seen == [(i + 1, FRAMES) for i in range(FRAMES)]
    assert {p.name for p in tmp_path.iterdir()} == {"clip.mp4", "out.mp4"}


def test_uneven_times_are_kept(tmp_path):
    make_clip(tmp_path / "clip.mp4", pts=[0, 1, 2, 5, 6, 9], suffix_sound=False)
    restyle_film(Same(), tmp_path / "clip.mp4", tmp_path / "out.mkv")
    times = read_clip(tmp_path / "out.mkv")[0]
    assert [float(t) for t in times] == pytest.approx([n / RATE for n in (0, 1, 2, 5, 6, 9)], abs=2e-3)


def test_rotation_is_carried_out(tmp_path):
    make_clip(tmp_path / "clip.mp4", suffix_sound=False)
    data = bytearray((tmp_path / "clip.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44  # the track header's display matrix: a quarter turn clockwise
    turn = [0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turn)
    (tmp_path / "turned.mp4").write_bytes(data)
    restyle_film(Same(), tmp_path / "turned.mp4", tmp_path / "out.mp4")
    upright, turned = read_clip(tmp_path / "clip.mp4")[1], read_clip(tmp_path / "out.mp4")[1]
    assert turned[0].shape == (WIDTH, HEIGHT, 3)
    assert np.abs(np.rot90(upright[0], -1) - turned[0]).mean() < 3


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    export(tmp_path / "style.safetensors", TransformNet(width=4), {"style": {"name": "style"}, "steps": 0})
    make_clip(tmp_path / "clip.mp4")
    return "ckpt=style.safetensors"


def test_the_command(command, checkpoint, tmp_path):
    status, out, err = command(main, checkpoint, "img=clip.mp4", "size=48", "strength=0.5", "temporal=0.5")
    assert status == 0, err
    assert out.strip() == "outputs/clip_style.mp4"
    times, pictures, sound, _ = read_clip(tmp_path / "outputs/clip_style.mp4")
    assert len(times) == FRAMES and pictures[0].shape == (32, 48, 3) and sound
    assert command(main, checkpoint, "img=clip.mp4", "out=film.mov")[0] == 0
    assert read_clip(tmp_path / "film.mov")[1][0].shape == (HEIGHT, WIDTH, 3)
    (tmp_path / "plain").touch()
    assert (tmp_path / "film.mov").stat().st_mode == (tmp_path / "plain").stat().st_mode  # for others to see, too


def test_broken_films_leave_nothing_behind(command, checkpoint, tmp_path):
    data = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 3])
    (tmp_path / "text.mp4").write_text("no film")
    with av.open(str(tmp_path / "sound.mp4"), "w") as film:
        sound = film.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        film.mux(sound.encode(frame))
        film.mux(sound.encode())
    before = sorted(tmp_path.rglob("*"))
    for name in ("cut.mp4", "text.mp4", "sound.mp4"):
        status, out, err = command(main, checkpoint, f"img={name}", "out=result.mp4")
        assert status == 2 and out == ""
        assert f"fastnst: {name}: cannot be restyled as a film" in err.splitlines()[-1] and "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["temporal=2"], "temporal=2: give a number from 0 to 1"),
        (["out=clip.mp4"], "this is the film itself"),
        (["img=missing.mp4"], "no such picture or folder"),
    ],
)
def test_bad_input(command, checkpoint, arguments, message):
    status, _, err = command(main, checkpoint, "img=clip.mp4", *arguments)
    assert status == 2 and message in err


def test_a_film_of_another_kind_is_not_written(tmp_path):
    with pytest.raises(UserError, match="give a name that ends in .mp4"):
        restyle_film(Same(), tmp_path / "clip.mp4", tmp_path / "out.avi")


def test_damping():
    still, random = picture(0), np.random.default_rng(0)
    results = [Image.fromarray(random.integers(100, 140, (48, 64, 3), dtype=np.uint8)) for _ in range(6)]

    def flicker(share: float, photographs: list) -> float:
        damped = [np.asarray(d, int) for d in map(Damping(share), photographs, results)]
        return np.mean([np.abs(a - b).mean() for a, b in zip(damped, damped[1:], strict=False)])

    # Where nothing moves flicker falls by the share; where all does nothing is carried over.
    assert flicker(0.0, [still] * 6) > 10 > 2 * flicker(0.7, [still] * 6) > 2 * flicker(1.0, [still] * 6) == 0
    cuts = [picture(i) for i in range(6)]
    assert flicker(0.7, cuts) > 0.8 * flicker(0.0, cuts)


def test_kinds_of_films_and_of_results(command, checkpoint, tmp_path):
    make_clip(tmp_path / "clip.avi")
    status, out, err = command(main, checkpoint, "img=clip.avi")
    assert status == 0 and out == "outputs/clip_style.mkv\n", err
    assert len(read_clip(tmp_path / "outputs/clip_style.mkv")[0]) == FRAMES
    for name in ("x.png", "x.tiff", "x.webm"):
        status, _, err = command(main, checkpoint, "img=clip.avi", f"out={name}")
        assert status == 2 and f"out={name}: a film goes to a folder" in err and not (tmp_path / name).exists()
    (tmp_path / "films").mkdir()
    status, _, err = command(main, checkpoint, "img=films")
    assert status == 2 and "films are taken one at a time" in err
    picture(0).save(tmp_path / "clip.png")
    status, out, err = command(main, checkpoint, "img=clip.*", "out=both")
    assert status == 2 and out == "both/clip.png_style.png\n"
    assert "clip.avi: films are taken one at a time; give img=clip.avi" in err
