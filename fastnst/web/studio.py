"""What the page does, without the page: styles and their cards, pictures, contact sheets, films."""

import hashlib
import html
import io
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from PIL import Image, ImageOps

from fastnst.checkpoint import load_net
from fastnst.data.files import sample_photographs
from fastnst.errors import UserError, line_of
from fastnst.images import UNREADABLE, Held, decode, fit, has_alpha, load_rgb, save, to_rgb, upright
from fastnst.inference.film import restyle_film
from fastnst.inference.sheet import in_rows
from fastnst.inference.stylizer import DEFAULTS, STYLE_SIZES, Controls, Stylizer
from fastnst.models.arbitrary import Painted
from fastnst.models.net import Net
from fastnst.shipped import ARTWORKS, PAINTINGS, checkpoint_file, figures_of, is_shipped, painting_of

PREVIEW = 640  # px of the long side
SHOWN = 1600  # px, of a result on the page
THUMBNAIL = 160  # px
CELL = 256  # px, of a contact sheet's pictures
SAMPLES = ("astronaut", "coffee", "motorcycle_left", "chelsea", "rocket")  # those of sample_photographs() that are shown
KEPT = 2  # paintings whose nets are kept, about 40 MB each
YOURS = "your painting"
SINGLE, ANY, TRAINED = "One style each", "Any painting", "Trained here"  # headings; nets of several styles have their own


@dataclass(frozen=True)
class Look:
    """What a picture is to look like. All files are those of strangers, or bytes of theirs.

    style: its name on the page. painting: for a style that takes any, a picture's file. second: another style, mixed in by
    its `share`, 0-1; or where the `mask` is opaque, or, if it has no transparency, white.
    """

    style: str
    painting: str | None = None
    second: str | None = None
    second_painting: str | None = None
    share: float = 0.5
    mask: str | bytes | None = None
    controls: Controls = DEFAULTS


class Divided:
    """Two styles of nets that share no convolutions, the second one where the mask is white: each restyles the picture."""

    def __init__(self, first: Stylizer, second: Stylizer, mask: Image.Image):
        self.stylizers, self.mask = (first, second), mask

    def __call__(self, image: Image.Image, size: int | None = None, controls: Controls = DEFAULTS) -> Image.Image:
        first, second = (stylizer(image, size, controls) for stylizer in self.stylizers)
        return Image.composite(second, first, self.mask.resize(first.size, Image.Resampling.BILINEAR))

    def restyle(self, photographs: list[Image.Image], controls: Controls = DEFAULTS) -> list[Image.Image]:
        return [self(photograph, None, controls) for photograph in photographs]


@contextmanager
def restylable() -> Iterator[None]:
    """Turns what Pillow and nets raise over a file that was sent into a UserError for the page."""
    try:
        yield
    except UNREADABLE as error:
        reason = re.sub(r" ?'.*'", "", line_of(error))  # Pillow names the file where it lies here
        raise UserError(f"This file cannot be restyled ({reason}).") from None


def title_of(name: str) -> str:
    """A style's name as people write it, such as Great Wave or Base: Composition VII."""
    words = name.replace("_", " ").split(" ")
    return " ".join(word.upper() if re.fullmatch("[ivx]+", word) else word[:1].upper() + word[1:] for word in words)


class Studio:
    """The checkpoints of a folder, or one, and what the page does with them: one picture at a time, whoever asks.

    folder: of results. max_pixels: of any picture that is sent. max_seconds: of any film.
    Raises UserError if there is no checkpoint.
    """

    def __init__(self, checkpoints: Path, folder: Path, max_pixels: float, max_seconds: float = 20.0):
        self.folder, self.max_pixels, self.max_seconds, self.lock = folder, max_pixels, max_seconds, threading.Lock()
        files = sorted(checkpoints.glob("*.safetensors")) if checkpoints.is_dir() else [checkpoint_file(checkpoints)]
        if not files:
            raise UserError(f"checkpoints={checkpoints}: no .safetensors in it; give another folder, or a checkpoint")
        self.nets: dict[str, tuple[Net, dict]] = {}
        self.files: dict[str, Path] = {}
        # Of each, by its name on the page: its checkpoint, and its name there.
        self.styles: dict[str, tuple[str, str | None]] = {}
        self.any_painting: list[str] = []
        self.groups: dict[str, list[str]] = {SINGLE: [], ANY: []}
        self.paintings: dict[str, Path] = {}  # of the styles whose painting is here
        self.kept: dict[tuple, Painted] = {}
        self.made: dict[str, Image.Image] = {}
        self.making = threading.Lock()
        try:
            self.samples = [path for half in sample_photographs() for path in half if path.stem in SAMPLES]
        except UserError:  # scikit-image is an extra
            self.samples = [ARTWORKS / "inkwash.jpg"]
        self.sample = self.samples[-2:][0]
        for file in files:
            self.add(file)

    def add_trained(self, files: Sequence[Path]) -> None:
        """Adds the checkpoints of trainings that are done, unless they are here."""
        with self.lock:
            for file in files:
                if file.stem not in self.nets:
                    self.add(file, file.with_name("painting.png"), TRAINED)

    def add(self, file: Path, painting: Path | None = None, group: str | None = None) -> None:
        """Adds a checkpoint's styles. painting: that of its one style. group: the heading that it goes under."""
        net, info = load_net(file)
        stem = file.stem
        if net.any_painting:
            names: dict[str, str | None] = {f"{stem}: {YOURS}": None}
            self.any_painting += names
            painting = ARTWORKS / "wave.jpg"
        else:
            names = {f"{stem}: {style}": style for style in net.styles} or {stem: None}
        known_here = is_shipped(file)
        for name, style in names.items():
            shipped = [folder / f"{style or stem}.jpg" for folder in (ARTWORKS, PAINTINGS)]
            known = next((path for path in shipped if known_here and path.is_file()), painting)
            if known is not None:
                self.paintings[name] = known
        heading = group or (ANY if net.any_painting else title_of(stem) if net.styles else SINGLE)
        self.groups.setdefault(heading, []).extend(names)
        self.nets[stem], self.files[stem] = (net, info), file
        self.styles |= {name: (stem, style) for name, style in names.items()}

    @property
    def first(self) -> str:
        """The style to begin with: one that needs nothing but the photograph, if there is one."""
        names = [name for heading, group in self.groups.items() for name in group if heading != ANY]
        return (names or self.any_painting)[0]

    def style_size(self, name: str) -> int:
        """Px of the short side at which a style saw paintings in training, or the nearest that may be chosen."""
        _, info = self.nets[self.styles[name][0]]
        least, most = STYLE_SIZES
        return min(max(info["style"]["size"], least), most)

    def card(self, name: str) -> str:
        """What is known of a style, in Markdown."""
        if name not in self.styles:
            return ""
        stem, painting = self.styles[name][0], self.paintings.get(name)
        _, info = self.nets[stem]
        lines = [f"**{html.escape(title_of(name))}**"]
        own = painting is not None and painting.parent == ARTWORKS and name not in self.any_painting
        told = "the project's own artwork (MIT licence)" if own else painting_of(self.files[stem])
        lines += [f"Painting: {told}."] if told else []
        size, steps, losses = info.get("style", {}).get("size"), info.get("steps"), info.get("validation", {})
        if isinstance(steps, int) and isinstance(size, int):
            lines.append(f"Trained for {steps} steps, with the painting at {size} px.")
        figures = figures_of(self.files[stem])
        if figures and stem == name:
            lines.append(f"Over ten held-out photographs, lower is better: {figures}.")
        shown = [
            f"{term} {losses[f'val/{term}']:.3g}" for term in ("content", "style", "palette") if f"val/{term}" in losses
        ]
        if shown:
            lines.append(f"On held-out photographs: {', '.join(shown)}.")
        return "  \n".join(lines)

    def listing(self) -> list[dict[str, Any]]:
        """Every style: its name, its title, the heading that it is under, and whether it takes a painting."""
        return [
            {"style": name, "title": title_of(name), "group": group, "takes_painting": name in self.any_painting}
            for group, names in self.groups.items()
            for name in names
        ]

    def stylizer(self, look: Look) -> Stylizer | Divided:
        """The look at work. Raises UserError for a style that is not there, or a painting that is wanting or no picture.

        Made anew each time, in milliseconds: kept, the nets of all styles would take many times the checkpoints' memory.
        Those of the last paintings are kept, as looking at one takes the loss network.
        """
        shares: dict[tuple[str, Any], float] = {}
        chosen = [(look.style, look.painting, 1.0)]
        if look.second:
            chosen = [(look.style, look.painting, 1 - look.share), (look.second, look.second_painting, look.share)]
        for style, painting, share in chosen:
            if style not in self.styles:
                raise UserError("Choose a style first.")
            stem, key = cast(tuple[str, Any], self.styles[style])
            if style in self.any_painting:
                # Its bytes: the file may be gone when the next picture comes.
                key = Path(self.checked(painting, "Drop a painting too: this style takes any.")).read_bytes()
            shares[stem, key] = shares.get((stem, key), 0.0) + share
        mask = None if look.mask is None or len(shares) < 2 else self._mask(look.mask)
        masks = None if mask is None else [ImageOps.invert(mask), mask]
        stems = {stem for stem, _ in shares}
        if len(stems) == 1:
            (stem,) = stems
            net, info = self.nets[stem]
            parts = {key: share for (_, key), share in shares.items()}
            if net.any_painting:
                return Stylizer((self._painted(stem, parts, masks), info))
            return Stylizer((net.pick(parts if net.styles else None, info, stem, masks), info))
        loaded = []
        for stem, key in shares:
            net, info = self.nets[stem]
            if net.any_painting:  # as one of two it is an ordinary net, with the dials that only such a one has
                dials = look.controls.style_size, look.controls.style_weight
                picked: Any = self._painted(stem, {key: 1.0}).at(1.0, None, *dials)
            else:
                picked = net.pick({key: 1.0} if net.styles else None, info, stem)
            loaded.append((picked, info))
        if mask is None:
            return Stylizer(*loaded, weights=[*shares.values()])
        first, second = map(Stylizer, loaded)
        return Divided(first, second, mask)

    def _painted(self, stem: str, parts: dict[bytes, float], masks: Sequence[Image.Image] | None = None) -> Painted:
        """A zero-shot net with paintings, by their bytes."""
        digests = tuple(hashlib.sha256(data).digest() for data in parts)
        painted = self.kept.get((stem, *digests))
        if painted is None:
            net, info = self.nets[stem]
            painted = net.pick({Held(data): 1.0 for data in parts}, info, stem)
            self.kept = dict([*self.kept.items()][1 - KEPT :]) | {(stem, *digests): painted}
        return painted.mixed_as(dict(zip(painted.parts, parts.values(), strict=True)), masks)

    def _controls(self, look: Look) -> Controls:
        """The controls that the look has: `style_size` and `style_weight` are those of zero-shot nets alone."""
        stems = {self.styles[name][0] for name in (look.style, look.second) if name}
        if len(stems) == 1 and look.style in self.any_painting:
            return look.controls
        return replace(look.controls, style_size=None, style_weight=1.0)

    def preview(self, file: str | None, look: Look) -> tuple[Image.Image, Image.Image]:
        """The photograph and its result, reduced to PREVIEW px. Raises UserError as `restyle` does."""
        with restylable():
            photograph = self.reduced(file, PREVIEW)
            return photograph, self._restyled(photograph, look)

    def restyle(self, file: str | None, look: Look) -> tuple[tuple[Image.Image, Image.Image], str]:
        """The photograph and its result for the slider, and the result's PNG, at full resolution.

        Raises UserError, with a message for the page, for what is not a picture, is too large or too small.
        """
        with restylable(), Image.open(self.checked(file)) as image:
            image.load()
            result = self._restyled(image, look)
            photograph = to_rgb(upright(image))
        path = self._path(file, look.style, ".png")
        save(result, path)
        before, after = (fit(picture.convert("RGB"), min(SHOWN, max(picture.size))) for picture in (photograph, result))
        return (before, after), str(path)

    def _restyled(self, image: Image.Image, look: Look) -> Image.Image:
        with self.lock:  # ten visitors at once wait for each other, and do not share out the memory
            stylizer = self.stylizer(look)
            return stylizer(image, controls=self._controls(look))

    def _path(self, file: str | None, name: str, suffix: str) -> Path:
        """A new file for what is made of a stranger's."""
        return Path(
            tempfile.mkdtemp(dir=self.folder), f"{Path(file or '').stem[:40]}_{name.replace(': ', '_')[:40]}{suffix}"
        )

    def checked(self, file: str | None, wanting: str = "Drop a photograph first.") -> str:
        """A picture that was sent, not yet decoded."""
        if file is None:
            raise UserError(wanting)
        with restylable(), Image.open(file) as image:
            self._check_pixels(image)
        return file

    def _check_pixels(self, image: Image.Image) -> None:
        if image.width * image.height > self.max_pixels:
            megapixels = image.width * image.height / 1e6
            raise UserError(f"This picture has {megapixels:.0f} megapixels; {self.max_pixels / 1e6:.0f} is the most.")

    def reduced(self, file: str | None, size: int) -> Image.Image:
        """The photograph with a long side of at most `size` px."""
        photograph = Image.fromarray(decode(Path(self.checked(file)).read_bytes(), size))
        return fit(photograph, size) if max(photograph.size) > size else photograph

    def _mask(self, given: str | bytes) -> Image.Image | None:
        """The mask in gray; None if nothing is painted on it."""
        with restylable(), Image.open(io.BytesIO(given) if isinstance(given, bytes) else given) as image:
            self._check_pixels(image)
            mask = image.convert("RGBA").getchannel("A") if has_alpha(image) else to_rgb(image).convert("L")
        return mask if mask.getbbox() else None

    def thumbnails(self) -> dict[str, Image.Image]:
        """By style: its painting, if it is here, beside what it does; an artwork for one that takes any. Computed once."""
        with Image.open(self.sample) as file:
            sample = ImageOps.fit(to_rgb(file), (2 * THUMBNAIL, 2 * THUMBNAIL))
        with self.making:  # two visitors at once do not do it twice
            return self._made(sample)

    def _made(self, sample: Image.Image) -> dict[str, Image.Image]:
        for name in [name for name in self.styles if name not in self.made]:
            painting = self.paintings.get(name)
            result = self._restyled(sample, Look(name, str(painting)))
            pair = Image.new("RGB", (2 * THUMBNAIL, THUMBNAIL))
            if painting is None:
                pair = ImageOps.fit(result, pair.size)
            else:
                for left, picture in enumerate((load_rgb(painting), result)):
                    pair.paste(ImageOps.fit(picture, (THUMBNAIL, THUMBNAIL)), (left * THUMBNAIL, 0))
            self.made[name] = pair
        return self.made

    def sheet(
        self, file: str | None, painting: str | None = None, progress: Callable[[float], object] = lambda s: None
    ) -> str:
        """A contact sheet: the photograph, and it in every style, as a PNG. painting: for the styles that take any."""
        with restylable():
            photograph = self.reduced(file, CELL)
        names = [name for name in self.styles if painting is not None or name not in self.any_painting]

        def pictures() -> Iterator[tuple[str, Image.Image]]:
            yield "Photograph", photograph
            for number, name in enumerate(names):
                progress(number / len(names))
                yield title_of(name), self._restyled(photograph, Look(name, painting))

        path = self._path(file, "sheet", ".png")
        save(in_rows([*pictures()]), path)
        return str(path)

    def film(
        self, file: str | None, look: Look, progress: Callable[[int, int | None], object] = lambda done, total: None
    ) -> str:
        """A film in the look, its long side at most PREVIEW px. Others' pictures take turns with its frames.

        Raises UserError for what is no film, or one that is too large or too long.
        """
        if file is None:
            raise UserError("Drop a film first.")
        import av

        try:
            with av.open(file) as film:
                video = film.streams.video[0]
                if video.width * video.height > self.max_pixels:
                    raise UserError(f"This film has {video.width} x {video.height} px; {self.max_pixels:.0f} are the most.")
                most = self.max_seconds * float(video.average_rate or 25)
        except (av.FFmpegError, IndexError) as error:
            raise UserError(f"This file cannot be restyled as a film ({line_of(error).replace(file, 'file')}).") from None
        with self.lock:
            stylizer = self.stylizer(look)
        studio = self

        class Turns:
            done = 0

            def restyle(self, photographs: list[Image.Image], controls: Controls) -> list[Image.Image]:
                self.done += len(photographs)
                if self.done > most:  # counted, as a file need not say how long it is
                    raise UserError(f"This film is longer than {studio.max_seconds:g} s.")
                with studio.lock:
                    return stylizer.restyle(photographs, controls)

        path = self._path(file, look.style, ".mp4")
        try:
            controls = replace(self._controls(look), brushwork=None)  # films have none, whatever the pictures have
            restyle_film(cast(Stylizer, Turns()), Path(file), path, PREVIEW, controls, 0.0, progress)
        except UserError as error:
            raise UserError(line_of(error).replace(file, "this file")) from None
        return str(path)
