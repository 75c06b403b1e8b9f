"""Films: frames in and out through PyAV, the sound copied as it is."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from fastnst.errors import UserError
from fastnst.files import check_writable, whole
from fastnst.images import fit
from fastnst.inference.stylizer import DEFAULTS, Controls, Stylizer

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")
READ = (*SUFFIXES, ".webm", ".avi")  # mkv takes their sound
BATCH = 4  # frames in one pass


def restyle_film(
    stylizer: Stylizer,
    source: Path,
    target: Path,
    size: int | None = None,
    controls: Controls = DEFAULTS,
    temporal: float = 0.0,
    progress: Callable[[int, int | None], object] = lambda done, total: None,
) -> None:
    """Restyles a film frame by frame, written whole or not at all, as H.264 with the times of the source's frames.

    size: the long side in px is reduced to it if it is longer. temporal: see `Damping`. progress: called with the frames
    done and, where the file tells, how many there are. A rotation is carried out; the range and matrix of the colours stay
    the source's. Raises UserError for a file that is not a whole film, or cannot be written.
    """
    try:
        import av
    except ImportError:
        raise UserError("films need PyAV: pip install 'fastnst[film]'") from None
    if target.suffix.lower() not in SUFFIXES:
        raise UserError(f"out={target}: give a name that ends in {', '.join(SUFFIXES)}, or a folder")
    check_writable(target.parent)
    try:
        with (
            whole(target, target.suffix.lower()) as part,
            av.open(str(source)) as film,
            av.open(str(part), "w") as result,
        ):
            _restyle(stylizer, film, result, size, controls, Damping(temporal), progress)
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise UserError(f"{source}: cannot be restyled as a film ({error})") from None


def _restyle(stylizer: Stylizer, film, result, size: int | None, controls: Controls, damping: "Damping", progress) -> None:
    video = film.streams.video[0]  # IndexError: a file of sound alone
    video.thread_type = "AUTO"
    rate = video.average_rate or 25
    total = video.frames or (int(film.duration / 1e6 * rate) if film.duration else None)
    sounds = {sound: result.add_stream_from_template(sound) for sound in film.streams.audio}
    encoder, done, time = None, 0, None
    packets: list = []  # of sound, held until the stream of pictures is there: a container's header names all its streams
    for frames in _batches(film, video, sounds, packets):
        upright = [Image.fromarray(np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90)) for f in frames]
        if size is not None and max(upright[0].size) > size:
            upright = [fit(picture, size) for picture in upright]
        width, height = (side // 2 * 2 for side in upright[0].size)  # H.264 halves both for its chroma
        upright = [picture.crop((0, 0, width, height)) for picture in upright]
        if encoder is None:
            encoder = result.add_stream("libx264", rate=rate, options={"crf": "17"})
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.codec_context.time_base = video.time_base
            for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
                setattr(encoder.codec_context, name, getattr(video.codec_context, name))
        for frame, photograph, restyled in zip(frames, upright, stylizer.restyle(upright, controls), strict=True):
            picture = type(frame).from_image(damping(photograph, restyled))
            picture = picture.reformat(
                format="yuv420p", dst_colorspace=_matrix(video), dst_color_range=video.codec_context.color_range or 1
            )
            # AVI does not tell when a frame is shown, and FFmpeg's guess may go back.
            time = frame.pts if time is None or (frame.pts or time) > time else time + 1
            picture.pts, picture.time_base = time, frame.time_base
            result.mux(encoder.encode(picture))
            done += 1
            progress(done, total)
        while packets:
            result.mux(packets.pop(0))
    if encoder is None:
        raise ValueError("no frame in it can be decoded")
    result.mux(encoder.encode())
    result.mux(packets)


def _matrix(video) -> int:
    """The matrix from RGB that the source's frames were made with; ITU-R BT.601 where it does not say, as decoders do."""
    known = video.codec_context.colorspace
    return known if known not in (0, 2) else 5


def _batches(film, video, sounds: dict, packets: list) -> Iterator[list]:
    """The film's frames, a few at a time; packets of sound are added to `packets` as they come."""

    def frames() -> Iterator:
        for packet in film.demux(video, *sounds):
            if packet.stream is video:
                yield from packet.decode()
            elif packet.dts is not None:
                packet.stream = sounds[packet.stream]
                packets.append(packet)

    decoded = frames()
    while batch := list(itertools.islice(decoded, BATCH)):
        yield batch


class Damping:
    """Damps flicker: where the photograph stands still, the result before is mixed in.

    share: from 0, none, to 1, all of it where nothing changes. A place is held to stand still as far as its blurred
    difference from the frame before is below a few levels of 255: out_t = (1 - w) y_t + w out_(t-1), with
    w = share exp(-(d / 12)^2). Nothing is carried across a cut, as everything changes there.
    """

    def __init__(self, share: float):
        self.share = share
        self.before: tuple[np.ndarray, np.ndarray] | None = None  # the blurred photograph, and the result

    def __call__(self, photograph: Image.Image, result: Image.Image) -> Image.Image:
        if self.share == 0:
            return result
        blurred = np.asarray(photograph.filter(ImageFilter.GaussianBlur(2)), np.float32)
        pixels = np.asarray(result, np.float32)
        if self.before is not None:
            difference = np.abs(blurred - self.before[0]).max(2, keepdims=True)
            weight = self.share * np.exp(-((difference / 12) ** 2))
            pixels = (1 - weight) * pixels + weight * self.before[1]
        self.before = blurred, pixels
        return Image.fromarray(pixels.round().astype(np.uint8))
