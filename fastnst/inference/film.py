"""Films: frames in and out through PyAV, their sound beside them."""

import itertools
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from fastnst.errors import UserError
from fastnst.files import check_writable, whole
from fastnst.images import SUFFIXES as STILL
from fastnst.images import UNREADABLE, fit, is_animated, to_rgb
from fastnst.inference.damping import Damping
from fastnst.inference.stylizer import DEFAULTS, Controls, Stylizer

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".gif")
READ = (*SUFFIXES[:-1], ".avi")  # and GIFs that move: see `is_film`
KINDS = {".webm": ".webm", ".gif": ".gif", ".avi": ".mkv"}  # what a film becomes in a folder; others .mp4
BATCH = 4  # frames in one pass
H264 = "libx264", "yuv420p", {"crf": "17"}
CODECS = {  # codec, px, options
    ".webm": ("libvpx-vp9", "yuv420p", {"crf": "24", "deadline": "good", "cpu-used": "5", "row-mt": "1"}),
    ".gif": ("gif", "pal8", {}),
}
MOST_ASPECT = 8  # how much wider than high, or higher than wide, a film's pixels may be
HUNDREDTH = Fraction(1, 100)  # s: what a GIF counts in. Viewers show a frame of less than two of them for ten.
Item = TypeVar("Item")


def is_film(source: Path, out: Path) -> bool:
    """Whether a file is to be restyled as a film. A GIF is if it moves and `out` does not name a still picture."""
    if source.suffix.lower() != ".gif":
        return source.suffix.lower() in READ
    if out.suffix.lower() in STILL and not out.is_dir():
        return False
    try:
        with Image.open(source) as image:
            return is_animated(image)
    except UNREADABLE:
        return False


def restyle_film(
    stylizer: Stylizer,
    source: Path,
    target: Path,
    size: int | None = None,
    controls: Controls = DEFAULTS,
    temporal: float = 0.0,
    progress: Callable[[int, int | None], object] = lambda done, total: None,
) -> None:
    """Restyles a film frame by frame, written whole or not at all, with the times of the source's frames.

    The suffix of `target` says how: .gif, .webm (VP9), or one of the others (H.264). A GIF has no sound, its times are
    rounded to 0.01 s, and frames that follow sooner than 0.02 s are left out. What is transparent becomes white. Pixels that
    are not square become square ones.
    size: the long side in px is reduced to it if it is longer. temporal: see `Damping`. progress: called with the frames
    done and, where the file tells, how many there are. A rotation is carried out; the range and matrix of the colours stay
    the source's. Raises UserError for a file that is not a whole film, cannot be written, or needs what is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError("films need PyAV: pip install 'fastnst[film]'") from None
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"out={target}: give a name that ends in {', '.join(SUFFIXES)}, or a folder")
    if controls.brushwork:
        raise UserError(f"brushwork={controls.brushwork}: films have none, as strokes would dance; leave it out")
    controls = replace(controls, brushwork=0.0)
    damping = Damping(temporal) if temporal else None
    check_writable(target.parent)
    try:
        with (
            whole(target, suffix) as part,
            av.open(str(source)) as film,
            av.open(str(part), "w", options={"loop": str(_loops(source))} if suffix == ".gif" else {}) as result,
        ):
            _restyle(stylizer, film, result, suffix, size, controls, damping, progress)
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise UserError(f"{source}: cannot be restyled as a film ({error})") from None


def _loops(source: Path) -> int:
    """How often a film is repeated, as FFmpeg's GIFs count it: 0 is for ever, as films are unless they are GIFs that say."""
    if source.suffix.lower() != ".gif":
        return 0
    with Image.open(source) as image:
        return image.info.get("loop", -1)


def _restyle(stylizer, film, result, suffix: str, size: int | None, controls: Controls, damping, progress) -> None:
    from av.codec.context import Flags

    video = film.streams.video[0]  # IndexError: a file of sound alone
    video.thread_type = "AUTO"
    rate = video.average_rate or 25
    total = video.frames or (int(film.duration / 1e6 * rate) if film.duration else None)
    sounds = _sounds(film, result)
    codec, pixels, options = CODECS.get(suffix, H264)
    base, even = (HUNDREDTH, 1) if suffix == ".gif" else (video.time_base, 2)  # yuv420p halves both sides for its chroma

    def restyled(batches: Iterator) -> Generator[tuple, None, None]:
        for times, photographs, packets in batches:
            yield times, photographs, stylizer.restyle(list(photographs), controls) if photographs else (), packets

    encoder: Any = None
    done = 0
    # Decoding, the net and encoding work side by side, each on frames of its own.
    with (
        closing(ahead(_batches(film, video, sounds, base, size, even))) as decoded,
        closing(ahead(restyled(decoded))) as batches,
    ):
        for times, photographs, pictures, packets in batches:
            if encoder is None and photographs:
                encoder = result.add_stream(codec, rate=rate, options=options)
                encoder.width, encoder.height = photographs[0].size
                encoder.pix_fmt = pixels
                encoder.codec_context.time_base = base
                encoder.codec_context.flags |= Flags.frame_duration
                for name in ("color_range", "colorspace", "color_primaries", "color_trc") if suffix != ".gif" else ():
                    setattr(encoder.codec_context, name, getattr(video.codec_context, name))
            for time, photograph, picture in zip(times, photographs, pictures, strict=True):
                if damping is not None:
                    picture = damping(photograph, picture)
                frame = _indexed(picture) if suffix == ".gif" else _converted(picture, video)
                (frame.pts, frame.duration), frame.time_base = time, base
                result.mux(encoder.encode(frame))
                done += 1
                progress(done, total)
            for packet in packets if encoder else ():  # a container's header names all its streams: pictures come first
                _mux_sound(result, packet, *sounds[packet.stream])
    if encoder is None:
        raise ValueError("no frame in it can be decoded")
    result.mux(encoder.encode())
    for sound, copied in sounds.values():
        if not copied:
            result.mux(sound.encode())


def ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """The items, each made in a thread while the one before it is used. Closing it ends the thread, then `items`."""
    pool = ThreadPoolExecutor(1)
    try:
        future = pool.submit(next, items, None)
        while (item := future.result()) is not None:
            future = pool.submit(next, items, None)
            yield item
    finally:
        pool.shutdown()
        items.close()


def _batches(film, video, sounds: dict, base: Fraction, size: int | None, even: int) -> Generator[tuple, None, None]:
    """(times, photographs, packets of sound): a few frames at a time, upright RGB, with sides that are multiples of `even`.

    A time is (when a frame is shown, for how long, 0 if that is not told) in units of `base`.
    """
    packets: list = []

    def frames() -> Iterator:
        for packet in film.demux(video, *sounds):
            if packet.stream is video:
                yield from packet.decode()
            else:
                packets.append(packet)

    def timed() -> Iterator[tuple[tuple[int, int], Image.Image]]:
        time = None
        for frame in frames():
            pts, length = (round((n or 0) * frame.time_base / base) for n in (frame.pts, frame.duration))
            if base == HUNDREDTH and time is not None and time <= pts < time + 2:
                continue
            # AVI does not tell when a frame is shown, and FFmpeg's guess may go back.
            time = pts if time is None or pts > time else time + 1
            yield (time, length), upright(frame)

    aspect = video.sample_aspect_ratio or 1
    if not 1 / MOST_ASPECT <= aspect <= MOST_ASPECT:  # a damaged header's
        aspect = 1

    def upright(frame) -> Image.Image:
        alpha = any(component.is_alpha for component in frame.format.components)
        # The pixels of old cameras and DVDs are not square. Those of the result are.
        pixels = frame.to_ndarray(format="rgba" if alpha else "rgb24", width=round(frame.width * aspect))
        picture = to_rgb(Image.fromarray(np.rot90(pixels, frame.rotation // 90)))
        if size is not None and max(picture.size) > size:
            picture = fit(picture, size)
        width, height = (side // even * even for side in picture.size)
        return picture.crop((0, 0, width, height))

    decoded = timed()
    while batch := list(itertools.islice(decoded, BATCH)):
        yield *zip(*batch, strict=True), packets[:]
        packets.clear()
    yield (), (), packets


def _converted(picture: Image.Image, video) -> Any:
    """A frame in the colours of the source's."""
    import av

    return av.VideoFrame.from_image(picture).reformat(
        format="yuv420p", dst_colorspace=_matrix(video), dst_color_range=video.codec_context.color_range or 1
    )


def _matrix(video) -> int:
    """The matrix from RGB that the source's frames were made with; ITU-R BT.601 where it does not say, as decoders do."""
    known = video.codec_context.colorspace
    return known if known not in (0, 2) else 5


def _indexed(picture: Image.Image) -> Any:
    """A frame with 256 colours of its own. They are chosen from a quarter of its px, in a fifth of the time."""
    import av

    half = [max(1, side // 2) for side in picture.size]
    chosen = picture.resize(half, Image.Resampling.NEAREST).quantize(256)
    colors = np.full((256, 4), 255, np.uint8)  # ARGB
    used = np.reshape(chosen.getpalette() or [], (-1, 3))
    colors[: len(used), 1:] = used
    # Without dithering, whose grain would flicker.
    pixels = np.array(picture.quantize(palette=chosen, dither=Image.Dither.NONE))
    indexed: Any = pixels, colors  # PyAV's types do not know of pal8
    return av.VideoFrame.from_ndarray(indexed, format="pal8")


def _sounds(film, result) -> dict:
    """For each stream of sound what it becomes: the result's stream, and whether its packets are copied.

    They are where the result's container takes them. Where it takes none, the sound is left out.
    """
    sounds = {}
    for sound in film.streams.audio:
        if sound.codec_context.codec.canonical_name in result.supported_codecs:
            sounds[sound] = result.add_stream_from_template(sound), True
        elif (codec := result.default_audio_codec) != "none":
            codec = {"opus": "libopus"}.get(codec, codec)  # FFmpeg's own is experimental
            sounds[sound] = result.add_stream(codec, rate=48000, layout=sound.layout.name), False
    return sounds


def _mux_sound(result, packet, sound, copied: bool) -> None:
    if not copied:
        for frame in packet.decode():
            result.mux(sound.encode(frame))
    elif packet.dts is not None:
        packet.stream = sound
        result.mux(packet)
