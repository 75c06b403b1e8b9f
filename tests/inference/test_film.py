"""A clip made here goes through inference: times, sound, rotation and colours are kept, flicker is damped."""

import os
import sys
from contextlib import closing
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import picture
from PIL import Image, ImageFilter

import fastnst
from fastnst.checkpoint import export
from fastnst.commands.entry import infer as main
from fastnst.errors import UserError
from fastnst.images import to_rgb
from fastnst.inference.damping import Damping
from fastnst.inference.film import ahead, restyle_film
from fastnst.inference.stylizer import Controls
from fastnst.models.transform_net import TransformNet


@pytest.fixture(scope="module")
def samples():
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut()), Image.fromarray(data.coffee())


FRAMES, WIDTH, HEIGHT, RATE = 11, 96, 64, 24
FULL, LIMITED, BT709, BT601 = 2, 1, 1, 5  # FFmpeg's numbers


class Same:
    """A style that changes nothing. Frames come without brushwork."""

    def restyle(self, pictures, controls):
        assert controls.brushwork == 0
        return pictures


def make_clip(path: Path, color_range: int = LIMITED, matrix: int = BT709, pts=range(FRAMES), suffix_sound: bool = True):
    """A camera that moves over a picture, one px a frame, and a tone."""
    scene = np.asarray(picture(4, 2 * WIDTH, 2 * HEIGHT))
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=RATE, options={"crf": "5"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = Fraction(1, 12 * RATE)
        video.codec_context.color_range, video.codec_context.colorspace = color_range, matrix
        sound = film.add_stream("aac", rate=44100, layout="mono") if suffix_sound else None
        for i, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(scene[i : i + HEIGHT, i : i + WIDTH]))
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=color_range)
            frame.pts, frame.time_base = round(12 * time), Fraction(1, 12 * RATE)
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


def test_pixels_become_square(tmp_path):
    with av.open(str(tmp_path / "clip.mp4"), "w") as film:
        video = film.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(16, 12)
        film.mux(video.encode(av.VideoFrame.from_image(picture(4, WIDTH, HEIGHT))))
        film.mux(video.encode())
    restyle_film(Same(), tmp_path / "clip.mp4", tmp_path / "out.mp4")
    _, (frame,), *_ = read_clip(tmp_path / "out.mp4")
    assert frame.shape == (HEIGHT, WIDTH * 16 // 12, 3)
    wanted = np.asarray(picture(4, WIDTH, HEIGHT).resize((WIDTH * 16 // 12, HEIGHT)), int)
    assert np.abs(frame - wanted).mean() < 12


def test_uneven_times_are_kept(tmp_path):
    make_clip(tmp_path / "clip.mp4", pts=[0, 1, 2, 5, 6, 9], suffix_sound=False)
    restyle_film(Same(), tmp_path / "clip.mp4", tmp_path / "out.mkv")
    times = read_clip(tmp_path / "out.mkv")[0]
    assert [float(t) for t in times] == pytest.approx([n / RATE for n in (0, 1, 2, 5, 6, 9)], abs=2e-3)


def test_a_film_has_no_brushwork(tmp_path):
    make_clip(tmp_path / "clip.mp4", suffix_sound=False)
    with pytest.raises(UserError, match="brushwork=6"):
        restyle_film(Same(), tmp_path / "clip.mp4", tmp_path / "out.mp4", controls=Controls(brushwork=6))
    assert not (tmp_path / "out.mp4").exists()


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
    status, out, err = command(
        main, checkpoint, "img=clip.mp4", "size=48", "strength=0.5", *["temporal=0.5"] * bool(find_spec("cv2"))
    )
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


def moved(pixels: np.ndarray, x: float, y: float) -> np.ndarray:
    """Pixels (H, W, C) moved by (x, y) px, to the right and down."""
    height, width = pixels.shape[:2]
    down, right = torch.meshgrid(torch.arange(height) - y, torch.arange(width) - x, indexing="ij")
    where = torch.stack([2 * right / (width - 1) - 1, 2 * down / (height - 1) - 1], -1)[None].float()
    source = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    return F.grid_sample(source, where, "bicubic", "reflection", align_corners=True)[0].permute(1, 2, 0).numpy()


def still_damping(share: float):
    """What `temporal` did in 0.1.0: the result before is mixed in where the photograph stands still."""
    before: list = []

    def damp(photograph: Image.Image, result: Image.Image) -> Image.Image:
        blurred = np.asarray(photograph.filter(ImageFilter.GaussianBlur(2)), np.float32)
        pixels = np.asarray(result, np.float32)
        if before:
            difference = np.abs(blurred - before[0]).max(2, keepdims=True)
            weight = share * np.exp(-((difference / 12) ** 2))
            pixels = (1 - weight) * pixels + weight * before[1]
        before[:] = blurred, pixels
        return Image.fromarray(pixels.round().astype(np.uint8))

    return damp


def test_flicker_where_things_move(samples):
    """A camera pans by (-1.3, -0.6) px a frame over a photograph, a disc moves over it by (-2.3, 0.8), then there is a cut.

    FASTNST_FILM=256 prints the figures at that width: flicker is the mean difference, of 255, of each frame from the one
    before moved by the true motion, where both show the same; sharpness the variance of the Laplacian.
    """
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install 'fastnst[film]'")
    width, frames, cut = int(os.environ.get("FASTNST_FILM", 128)), 8, 5
    height, rim = width * 3 // 4, 12
    pan, step = (-1.3, -0.6), (-2.3, 0.8)
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0)
    photographs, discs = [], []
    for i in range(frames):
        under, over = samples if i < cut else samples[::-1]
        t = i % cut

        def window(scene, left, top):
            area = (1, 0, left, 0, 1, top)
            return np.asarray(scene.transform((width, height), Image.Transform.AFFINE, area, Image.Resampling.BICUBIC))

        distance = np.hypot(x - 0.7 * width - step[0] * t, y - 0.35 * height - step[1] * t)
        disc = (0.2 * height + 0.5 - distance).clip(0, 1)[..., None]
        scene = window(under, 20 - pan[0] * t, 20 - pan[1] * t) * (1 - disc)
        scene += window(over, 100 - step[0] * t, 100 - step[1] * t) * disc + noise.normal(0, 2, disc.shape)
        photographs.append(Image.fromarray(scene.clip(0, 255).round().astype(np.uint8)))
        discs.append(distance - 0.2 * height)  # px from its edge
    net = fastnst.load("base", style="wave")  # sharp and unsteady strokes
    results = [*net.restyle(photographs[:4]), *net.restyle(photographs[4:])]

    def measure(name: str, shown: list) -> np.ndarray:
        pixels = [np.asarray(frame) for frame in shown]
        differences = []
        for i in {*range(1, frames)} - {cut}:
            inner = np.zeros((height, width), bool)
            inner[rim:-rim, rim:-rim] = True
            places = {pan: inner & (np.minimum(discs[i], discs[i - 1]) > 5), step: inner & (discs[i] < -4)}
            differences.append([np.abs(pixels[i] - moved(pixels[i - 1], *by))[at].mean() for by, at in places.items()])
        flicker = np.mean(differences, 0)
        sharpness = np.mean([cv2.Laplacian(np.asarray(frame.convert("L"), np.float32), -1).var() for frame in shown[2:]])
        print(f"{name}: flicker {flicker[0]:.2f} of the scene, {flicker[1]:.2f} of the disc; sharpness {sharpness:.0f}")
        return np.array([*flicker, sharpness])

    pairs = list(zip(photographs, results, strict=True))
    measure("photographs", photographs)
    measure("no damping", results)
    still, flow = still_damping(0.7), Damping(0.7)
    before = measure("damping where all stands still", [still(*pair) for pair in pairs])
    damped = [flow(*pair) for pair in pairs]
    after = measure("along the flow", damped)
    assert (after[:2] <= before[:2] / 2).all() and after[2] > before[2]
    # Nothing is carried across a cut.
    assert damped[0] == results[0] and damped[cut] == results[cut] and damped[cut - 1] != results[cut - 1]


def test_damping_of_a_still_scene():
    pytest.importorskip("cv2", reason="needs OpenCV: pip install 'fastnst[film]'")
    random = np.random.default_rng(0)
    results = [Image.fromarray(random.integers(100, 140, (48, 64, 3), dtype=np.uint8)) for _ in range(4)]
    damping = Damping(1.0)
    shown = [damping(picture(0), result) for result in results]
    assert all(np.abs(np.asarray(frame, int) - np.asarray(results[0], int)).max() <= 1 for frame in shown)
    assert damping(picture(0).resize((32, 16)), results[0].resize((32, 16))).size == (32, 16)  # another size is a cut


def test_temporal_without_opencv(command, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    status, _, err = command(main, checkpoint, "img=clip.mp4", "temporal=0.5", "out=film.mp4")
    assert status == 2 and "temporal needs OpenCV: pip install 'fastnst[film]'" in err
    assert not (tmp_path / "film.mp4").exists()


def make_gif(path: Path, count: int = 4) -> list[int]:
    """A square that moves over nothing; the frames' durations, in ms."""
    durations = [100, 50, 300, 200][:count]
    frames = [Image.new("RGBA", (61, 47)) for _ in durations]
    for i, frame in enumerate(frames):
        frame.paste((200, 40 * i, 10, 255), (5 + 8 * i, 5, 25 + 8 * i, 30))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=3, disposal=2)
    return durations


def test_gifs_and_webm(command, checkpoint, tmp_path):
    durations = make_gif(tmp_path / "x.gif")
    starts = [sum(durations[:i]) / 1000 for i in range(4)]
    restyle_film(Same(), tmp_path / "x.gif", tmp_path / "same.gif")
    with Image.open(tmp_path / "x.gif") as before, Image.open(tmp_path / "same.gif") as after:
        assert after.size == (61, 47) and after.n_frames == 4 and after.info["loop"] == 3
        for i in range(4):
            before.seek(i), after.seek(i)
            assert after.info["duration"] == durations[i]
            assert np.abs(np.asarray(to_rgb(before), int) - np.asarray(to_rgb(after), int)).max() <= 8
    restyle_film(Same(), tmp_path / "x.gif", tmp_path / "same.webm")
    times, pictures, _, _ = read_clip(tmp_path / "same.webm")
    assert [float(t) for t in times] == pytest.approx(starts) and pictures[0].shape == (46, 60, 3)
    assert np.abs(pictures[0][0, 0] - 255).max() < 8  # nothing has become white
    # A GIF that moves is a film, unless it goes to a still picture.
    status, out, err = command(main, checkpoint, "img=x.gif")
    assert status == 0 and out == "outputs/x_style.gif\n", err
    with Image.open(tmp_path / "outputs/x_style.gif") as image:
        assert image.n_frames == 4
    status, out, err = command(main, checkpoint, "img=x.gif", "out=x.png")
    assert status == 0 and out == "x.png\n" and "its first frame alone" in err
    make_gif(tmp_path / "still.gif", 1)
    assert command(main, checkpoint, "img=still.gif")[1] == "outputs/still_style.png\n"
    # And back: sound that WebM does not take is encoded anew, a GIF has none, and none of its frames is too short.
    assert command(main, checkpoint, "img=clip.mp4", "out=clip.webm")[0] == 0
    times, pictures, sound, _ = read_clip(tmp_path / "clip.webm")
    assert [float(t) for t in times] == pytest.approx([i / RATE for i in range(FRAMES)], abs=1e-3) and sound
    make_clip(tmp_path / "fast.mp4", pts=[i / 4 for i in range(FRAMES)], suffix_sound=False)
    restyle_film(Same(), tmp_path / "fast.mp4", tmp_path / "fast.gif")
    assert [*read_clip(tmp_path / "fast.gif")[0]] == [Fraction(i, 50) for i in range(6)]


def test_work_ahead():
    made = []

    def items(broken: bool):
        try:
            for i in range(1, 9):
                made.append(i)
                if broken and i == 3:
                    raise ValueError("broken")
                yield i
        finally:
            made.append("closed")

    assert list(ahead(items(False))) == [*range(1, 9)] and made.pop() == "closed"
    with pytest.raises(ValueError, match="broken"):
        list(ahead(items(True)))
    made.clear()
    with closing(ahead(items(False))) as started:
        assert next(started) == 1
    assert made == [1, 2, "closed"]  # one item ahead, no more


def test_kinds_of_films_and_of_results(command, checkpoint, tmp_path):
    make_clip(tmp_path / "clip.avi")
    status, out, err = command(main, checkpoint, "img=clip.avi")
    assert status == 0 and out == "outputs/clip_style.mkv\n", err
    assert len(read_clip(tmp_path / "outputs/clip_style.mkv")[0]) == FRAMES
    for name in ("x.png", "x.tiff", "x.avi"):
        status, _, err = command(main, checkpoint, "img=clip.avi", f"out={name}")
        assert status == 2 and f"out={name}: a film goes to a folder" in err and not (tmp_path / name).exists()
    (tmp_path / "films").mkdir()
    status, _, err = command(main, checkpoint, "img=films")
    assert status == 2 and "films are taken one at a time" in err
    picture(0).save(tmp_path / "clip.png")
    status, out, err = command(main, checkpoint, "img=clip.*", "out=both")
    assert status == 2 and out == "both/clip.png_style.png\n"
    assert "clip.avi: films are taken one at a time; give img=clip.avi" in err
