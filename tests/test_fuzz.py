"""Broken files by the thousand: each is restyled or refused with a UserError, in bounded memory, and leaves nothing behind.

FASTNST_FUZZ=10000 python -m pytest -q tests/test_fuzz.py -n 0 --timeout 0   tries so many. Each test prints its counts, and
the most memory that one of its inputs took. Every file is tried whole, and then at random, whole or broken.
"""

import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from fastnst.checkpoint import export, load_net
from fastnst.errors import UserError
from fastnst.images import SUFFIXES, decode, load_rgb
from fastnst.inference.stylizer import Controls, Stylizer, stylize_file
from fastnst.memory import PeakMemory, give_back_freed_memory
from fastnst.models.transform_net import TransformNet
from fastnst.web.studio import Look, Studio

EXAMPLES = int(os.environ.get("FASTNST_FUZZ", "400"))
# MB that an input may take, and bytes for each px that the net works on besides: of a GIF of 3 KB one changed byte makes a
# whole picture of many megapixels. In one pass a net of width 2 takes 80.
MOST_MEMORY, FOR_EACH_PIXEL = 256, 100


def examples(share: float) -> int:
    return max(10, round(EXAMPLES * share))


def fuzz(share: float):
    return settings(
        max_examples=examples(share), deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def corpus() -> list[bytes]:
    rgb, gray = picture(0, 40, 30), picture(1, 33, 21).convert("L")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    sixteen = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    transparent = rgb.copy()
    transparent.putalpha(gray.resize(rgb.size))
    files = [
        encoded(rgb, "PNG"), encoded(rgb, "JPEG", exif=exif), encoded(rgb, "WEBP", exif=exif), encoded(rgb, "BMP"),
        encoded(rgb, "TIFF"), encoded(rgb, "TIFF", compression="tiff_lzw"), encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(gray, "JPEG", progressive=True), encoded(sixteen, "PNG"), encoded(rgb.convert("P"), "PNG", exif=exif),
        encoded(transparent, "PNG"), encoded(transparent, "WEBP"), encoded(gray.convert("1"), "PNG"), encoded(rgb, "ICO"),
        encoded(rgb, "GIF", save_all=True, append_images=[gray.convert("RGB").resize(rgb.size)] * 3),
        encoded(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)] * 2), encoded(rgb, "PPM"), encoded(rgb, "TGA"),
        encoded(picture(0, 9, 5), "PNG"), encoded(picture(0, 16, 900), "PNG"), encoded(picture(0, 1200, 17), "JPEG"),
        encoded(picture(0, 500, 1), "PNG"), b"", b"\0" * 500, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4",
    ]  # fmt: skip
    files += [encoded(rgb, kind, exif=tags) for kind in ("JPEG", "PNG", "WEBP") for tags in broken_exifs()]
    return [*files, *shapes(), *broken_palettes(), *metadata(), bomb(100_000, 100_000), bomb(12_000, 12_000)]


def shapes() -> list[bytes]:
    """Pictures of odd shapes: lines, points, hardly any px in one direction."""
    sizes = [(1, 1), (1, 500), (2, 300), (300, 3), (4, 3000), (3000, 4), (20_000, 16), (16, 20_000), (65_500, 1), (17, 17)]
    sizes += [(16, 256), (256, 16)]  # the longest that a painting may be
    return [encoded(Image.new("RGB", size, "teal"), kind) for size in sizes for kind in ("PNG", "JPEG")]


def broken_palettes() -> list[bytes]:
    """Indexed pictures whose palette is missing, short, uneven, too long, or which say too much of its transparency."""
    pixels = b"".join(b"\0" + bytes((i * 20 + j) % 256 for j in range(20)) for i in range(20))
    palettes = [None, b"", b"\1\2\3", b"\1\2\3\4", bytes(range(255)) * 3, bytes(1000)]
    files = [png(20, 20, 3, pixels, b"" if p is None else chunk(b"PLTE", p)) for p in palettes]
    files += [png(20, 20, 3, pixels, chunk(b"PLTE", b"\1\2\3") + chunk(b"tRNS", bytes(n))) for n in (0, 1, 300)]
    files += [png(20, 20, 2, b"\0" * 61 * 20, chunk(b"tRNS", bytes(n))) for n in (1, 6, 300)]  # of RGB it is one colour
    indexed = picture(0, 40, 30).convert("P")
    gif, bmp = bytearray(encoded(indexed, "GIF")), bytearray(encoded(indexed, "BMP"))
    gif[10] &= 0x7F  # no palette for all frames
    files.append(bytes(gif))
    for colours in (1, 257, 2**31):
        bmp[46:50] = struct.pack("<I", colours)
        files.append(bytes(bmp))
    return [*files, encoded(indexed, "TIFF"), encoded(indexed, "TGA"), encoded(indexed, "GIF", transparency=300 % 256)]


def metadata() -> list[bytes]:
    """Whole pictures that say odd things of themselves: profiles, XMP, texts, comments, resolutions, gamma."""
    rgb = picture(0, 40, 30)
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf tiff:Orientation='%s'/></x:xmpmeta>"
    files = [encoded(rgb, kind, icc_profile=profile) for kind in ("JPEG", "PNG", "WEBP") for profile in (b"no", bytes(4000))]
    files += [encoded(rgb, kind, xmp=xmp % turn) for kind in ("JPEG", "WEBP") for turn in (b"6", b"9", b"\xff", b"<" * 999)]
    files += [encoded(rgb, "JPEG", dpi=(0, 65535)), encoded(rgb, "JPEG", comment=b"\xff\0" * 20_000)]
    deep = b"<a>" * 10_000
    for kind, body in (
        (b"tEXt", b"no end"), (b"zTXt", b"bomb\0\0" + zlib.compress(bytes(10**8), 9)), (b"zTXt", b"a\0\0no zlib"),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + deep), (b"iTXt", b""), (b"iCCP", b"a\0\0no zlib"), (b"iCCP", b""),
        (b"gAMA", bytes(4)), (b"gAMA", b"\1"), (b"cHRM", b"\xff" * 32), (b"cHRM", b""), (b"pHYs", bytes(9)), (b"pHYs", b""),
        (b"eXIf", b"II*\0"), (b"eXIf", b"Exif\0\0"), (b"acTL", bytes(8)), (b"acTL", b"\xff" * 8), (b"sRGB", b""),
    ):  # fmt: skip
        files.append(png(20, 20, 2, b"\0" * 61 * 20, chunk(kind, body)))
    jpeg = encoded(rgb, "JPEG")
    for number, body in (
        (0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\xff\xff"),
        (0xEE, b"Adobe\0\x64\0\0\0\0\2"),
        (0xE2, b"MPF\0II*\0"),
    ):
        files.append(jpeg[:2] + struct.pack(">BBH", 0xFF, number, len(body) + 2) + body + jpeg[2:])
    return files


def broken_exifs() -> list[bytes]:
    """EXIF of one tag each, of a wrong type: the orientation, the resolution, a pointer to nowhere and one to itself."""
    orientation, resolution, pointer, behind = 0x0112, 0x011A, 0x8769, struct.pack("<I", 26)
    ratio, negative = struct.pack("<ii", 6, 0), struct.pack("<ii", -72, 1)
    # As BYTE, ASCII, LONG, UNDEFINED, IFD, LONG8 and what there is not; then FLOAT and SLONG.
    tags = [(orientation, kind, b"\6\0\0\0", b"") for kind in (1, 2, 4, 7, 13, 16, 99)]
    tags += [(orientation, 11, struct.pack("<f", 6), b""), (orientation, 9, struct.pack("<i", -6), b"")]
    tags += [(orientation, 5, behind, ratio), (resolution, 10, behind, negative), (resolution, 2, b"72\0\0", b"")]
    tags += [(pointer, 4, b"\xff" * 4, b""), (pointer, 4, b"\x08\0\0\0", b"")]
    head = b"Exif\0\0II*\0\x08\0\0\0"
    return [head + struct.pack("<HHHI", 1, tag, kind, 1) + value + b"\0" * 4 + more for tag, kind, value, more in tags]


def chunk(kind: bytes, body: bytes) -> bytes:
    """A piece of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, colours: int, pixels: bytes, before: bytes = b"") -> bytes:
    """A PNG whose header may claim more than there is, such as colours from a palette (3). before: chunks that go first."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A PNG whose few bytes claim a huge picture."""
    return png(width, height, 2, b"\0" * 999)


@st.composite
def broken(draw, files: list[bytes]) -> bytes:
    """One of `files`, whole, cut short, with bytes changed, or with a piece left out or doubled."""
    data = bytearray(draw(st.sampled_from(files)))
    way = draw(st.sampled_from(["whole", "cut", "bytes", "head", "piece"]))
    if way == "cut":
        del data[draw(st.integers(0, len(data))) :]
    elif way in ("bytes", "head") and data:
        last = min(len(data), 64 if way == "head" else len(data)) - 1
        for _ in range(draw(st.integers(1, 8))):
            data[draw(st.integers(0, last))] = draw(st.integers(0, 255))
    elif way == "piece" and data:
        first = draw(st.integers(0, len(data) - 1))
        piece = data[first : first + draw(st.integers(1, 60))]
        data[first : first + len(piece)] = piece * draw(st.sampled_from([0, 2, 5]))
    return bytes(data)


def memory_taken(work) -> int | None:
    """The most memory, in MB, that the process had at once during `work`, less what it had before; None: it is not told."""
    give_back_freed_memory()  # else work would take what was freed before, unseen
    with PeakMemory(torch.device("cpu")) as before:
        pass
    with PeakMemory(torch.device("cpu")) as during:
        work()
    return None if during.megabytes is None or before.megabytes is None else during.megabytes - before.megabytes


@pytest.fixture
def attempt(capsys):
    """Whether some work succeeds; it may raise a UserError of one line, and nothing else, and its memory is bounded.

    pixels: how many the net works on. The counts are printed.
    """
    counts, most = collections.Counter(done=0, refused=0), [0]

    def attempt(work, pixels: float = 0) -> bool:
        refusal: list[UserError] = []

        def guarded() -> None:
            try:
                work()
            except UserError as error:
                refusal.append(error)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            taken = memory_taken(guarded)
        if taken is not None:
            assert taken <= MOST_MEMORY + FOR_EACH_PIXEL * pixels / 1e6, f"took {taken} MB"
            most.append(taken)
        counts["refused" if refusal else "done"] += 1
        for error in refusal:
            assert str(error).strip() and len(str(error)) < 1000  # a long path may be in it twice
        return not refusal

    attempt.counts = counts
    yield attempt
    with capsys.disabled():
        print(f" {counts['done']} done, {counts['refused']} refused, {max(most)} MB at the most ", end="")


def pixels_of(data: bytes, most: float = float("inf")) -> int:
    """How many px a picture's file has; 0 if it is no whole one, or has more than `most`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > most:
                    return 0
                image.load()
                return image.width * image.height
        except Exception:
            return 0


def test_an_input_that_takes_too_much_memory_is_told(attempt):
    if memory_taken(lambda: None) is None:
        pytest.skip("this system does not tell a process's peak of memory anew (/proc/self/clear_refs, of Linux)")
    assert attempt(lambda: np.ones(10**6 * MOST_MEMORY * 3 // 4, np.uint8))
    for _ in range(2):  # the second time, too, though memory was freed before
        with pytest.raises(AssertionError, match=r"took 3\d\d MB"):
            attempt(lambda: np.ones(10**6 * MOST_MEMORY * 5 // 4, np.uint8))


def check_both(attempt, share: float) -> None:
    """That so many were tried, and that there were some of each kind."""
    assert attempt.counts.total() >= 0.95 * examples(share) and min(attempt.counts.values()) > 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("fuzz")
    torch.manual_seed(0)
    export(place / "checkpoints" / "style.safetensors", TransformNet(width=2), {"style": {"name": "style"}, "steps": 0})
    return place


@pytest.fixture(scope="module")
def stylizer(place):
    return Stylizer(place / "checkpoints" / "style.safetensors")


def test_inference(place, stylizer, attempt):
    folder = place / "inference"
    folder.mkdir()

    def check(data, suffix, written_as, size):
        for left in folder.iterdir():
            left.unlink()
        source, target = folder / f"in{suffix}", folder / f"out{written_as}"
        source.write_bytes(data)
        done = attempt(lambda: stylize_file(stylizer, source, target, size), pixels_of(data))
        assert target.exists() == done
        if done:
            load_rgb(target)
        assert {p.name for p in folder.iterdir()} == {source.name} | ({target.name} if done else set())

    for data in (files := corpus()):
        check(data, ".png", ".png", None)
    suffixes = st.sampled_from(SUFFIXES)
    fuzz(0.5)(given(broken(files), suffixes, suffixes, st.sampled_from([None, 24]))(check))()
    check_both(attempt, 0.5)


def test_page(place, attempt):
    folder = place / "page"
    folder.mkdir()
    studio, source = Studio(place / "checkpoints", folder, 1e6), place / "upload.png"

    def check(data, strength, preserve_color, style_scale):
        source.write_bytes(data)
        before = set(folder.rglob("*"))
        look = Look("style", controls=Controls(strength, preserve_color, style_scale))
        done = attempt(lambda: studio.restyle(str(source), look), pixels_of(data, 1e6) / style_scale**2)
        assert len(set(folder.rglob("*")) - before) == (2 if done else 0)  # a picture in a folder of its own

    for data in (files := corpus()):
        check(data, 0.5, True, 0.5)
    fuzz(0.2)(given(broken(files), st.floats(0, 1), st.booleans(), st.floats(0.5, 2))(check))()
    check_both(attempt, 0.2)


def test_paintings(place, attempt):
    """As a zero-shot net and training take them: enlarged."""
    source = place / "painting.png"

    def check(data):
        source.write_bytes(data)
        attempt(lambda: load_rgb(source, 256))

    for data in (files := corpus()):
        check(data)
    fuzz(0.1)(given(broken(files))(check))()
    check_both(attempt, 0.1)


def test_every_kind_of_metadata_and_palette(place, stylizer, attempt):
    """Those whose picture is whole are restyled, upright where that can be told; a palette that is missing is said."""
    for kind in ("JPEG", "PNG", "WEBP"):
        for tags in broken_exifs():
            (place / "metadata.img").write_bytes(encoded(picture(0, 40, 30), kind, exif=tags))
            assert attempt(lambda: stylize_file(stylizer, place / "metadata.img", place / "metadata.png"))
            decode((place / "metadata.img").read_bytes(), 16)  # as training reads it
    (place / "metadata.img").write_bytes(png(20, 20, 3, b"\0" * 21 * 20))
    with pytest.raises(UserError, match="without a palette"):
        stylize_file(stylizer, place / "metadata.img", place / "metadata.png")
    with pytest.raises(UserError, match="without a palette"):
        load_rgb(place / "metadata.img")
    for left in place.glob("metadata.*"):
        left.unlink()


class Code:
    """What a pickle can hold: a command that runs when it is read."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def test_checkpoints(place, stylizer, attempt):
    folder, marker = place / "broken", place / "executed"
    folder.mkdir()
    weights = {key: value.contiguous() for key, value in stylizer.nets[0].state_dict().items()}
    whole = (place / "checkpoints" / "style.safetensors").read_bytes()
    good = {"format": "fastnst transform net 1", "architecture": json.dumps(stylizer.nets[0].architecture), "info": "{}"}
    first, many = next(iter(weights)), {"kind": "multi", "width": 512, "styles": [f"{i}" for i in range(9999)]}
    code = io.BytesIO()
    torch.save({"state_dict": Code(marker), "fastnst": {"architecture": {}, "info": {}}}, code)
    files = [
        whole, whole, whole, save(weights, {}), save(weights, good | {"info": "["}), save(weights, good | {"info": "7"}),
        save(weights, good | {"architecture": "7"}),
        save({**weights, first: torch.zeros(3)}, good), save({**weights, "more": torch.zeros(3)}, good),
        save({**weights, first: torch.full_like(weights[first], float("nan"))}, good), save({}, good),
        *(save(weights, good | {"architecture": json.dumps(net)}) for net in ({"width": 10**9}, {"width": 512}, many)),
        pickle.dumps(Code(marker)), code.getvalue(), struct.pack("<Q", 2**60) + b"{}", b"", b"\0" * 300,
    ]  # fmt: skip

    def check(data, suffix):
        path = folder / f"net{suffix}"
        path.write_bytes(data)
        if attempt(lambda: load_net(path)):
            load_net(path)[0](torch.zeros(1, 3, 16, 16))
        assert not marker.exists()
        path.unlink()

    for data in files:
        check(data, ".safetensors")
    fuzz(0.3)(given(broken(files), st.sampled_from([".safetensors", ".ckpt", ".pth", ""]))(check))()
    check_both(attempt, 0.3)


def test_links(place, stylizer, attempt):
    for suffix, read in (
        (".safetensors", load_net),
        (".png", load_rgb),
        (".jpg", lambda path: stylize_file(stylizer, path, place / "links" / "out.png")),
    ):
        links = {"loop": place / f"loop{suffix}", "folder": place, "gone": place / "nowhere", "device": "/dev/zero"}
        for name, target in links.items():
            path = place / f"{name}{suffix}"
            path.symlink_to(target)
            assert not attempt(lambda read=read, path=path: read(path))
            path.unlink()
    assert not (place / "links").exists()

    picture(0, 24, 20).save(place / "photo.png")
    (place / "itself.png").symlink_to(place / "itself.png")
    assert attempt(lambda: stylize_file(stylizer, place / "photo.png", place / "itself.png"))
    assert load_rgb(place / "itself.png").size == (24, 20)  # in the link's place
    (place / "within").symlink_to(place / "within")
    assert not attempt(lambda: stylize_file(stylizer, place / "photo.png", place / "within" / "out.png"))


def test_names(place, stylizer, attempt):
    """A picture's name, on a disk and on the page, may be anything that the system takes."""
    folder = place / "names"
    folder.mkdir()
    odd = [
        "'a'",
        '"',
        "${x}",
        "$(x)",
        "a\\",
        "~",
        "-rf",
        " ",
        "..a",
        "[0]",
        "*?",
        "a\nb",
        "\x1b[2J",
        "%s%n",
        "é",
        "e\u0301",
        "\u202e",
    ]
    names = [
        *odd,
        "a" * 240,
        "画" * 80,
        b"\xff\xfe".decode("utf-8", "surrogateescape"),
        "a,b=c",
        "{a: 1}",
        "null",
        "CON",
        "<b>",
    ]
    (folder / "page").mkdir()
    studio = Studio(place / "checkpoints", folder / "page", 1e6)
    for name in names:
        source, target = folder / f"{name}.png", folder / f"{name}.jpg"
        works = partial(stylize_file, stylizer, source, target), partial(studio.restyle, str(source), Look("style"))
        picture(0, 24, 20).save(source)
        assert all([attempt(work) for work in works]) and load_rgb(target).size == (24, 20)
        source.write_bytes(b"no picture")
        assert not any([attempt(work) for work in works])
    made = [path.relative_to(folder / "page") for path in (folder / "page").rglob("*.png")]
    assert len(made) == len(names) and all(len(path.parts) == 2 for path in made)


def test_a_name_is_told_on_one_line_and_printed_as_it_is(place, tmp_path):
    (tmp_path / "a\nb\x1b[2J.png").write_bytes(b"no picture")
    picture(0, 24, 20).save(tmp_path / os.fsdecode(b"\xff.png"))
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/infer.py", f"ckpt={place}/checkpoints/style.safetensors", "img=.", "out=out"],
        cwd=tmp_path, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"}, capture_output=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == b"out/\xff_style.png\n" and b"Traceback" not in done.stderr
    assert rb"fastnst: a\nb\x1b[2J.png: cannot be" in done.stderr and b"\x1b[2J" not in done.stderr
