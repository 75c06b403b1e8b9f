"""Many pictures, one after the other: while the net works on one, the next is decoded and the one before is written."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fastnst.images import Held, is_animated
from fastnst.inference.stylizer import Controls, Stylizer, check_target, naming, open_file, save_result
from fastnst.memory import free_memory

AHEAD = 64  # a picture is decoded ahead if its px take at most that part of the free memory


@dataclass
class Picture:
    """One picture's way: its file, where the result goes, and what came of it.

    size: (width, height) of the result. seconds: what decoding, restyling and writing took, waiting not counted.
    animated: whether the file has further pictures, which are left out. error: None if the result was written.
    """

    source: Path | Held
    target: Path
    size: tuple[int, int] | None = None
    seconds: float = 0.0
    animated: bool = False
    error: Exception | None = None


class Line:
    """Restyles pictures in order. `run` gives each to `told`, from a thread of its own, as soon as it is written or refused.

    At most one picture is decoded ahead and one waits to be written, and large ones are not decoded ahead: memory does not
    grow with their number. An exception in `told`, or from without, such as KeyboardInterrupt, ends it; the picture that is
    being written is written whole.
    """

    def __init__(self, stylizer: Stylizer, size: int | None, controls: Controls, told: Callable[[Picture], object]):
        self.stylizer, self.size, self.controls, self.told = stylizer, size, controls, told

    def run(
        self, pictures: Sequence[Picture], showing: Callable[[Picture], AbstractContextManager[Callable[[float], object]]]
    ) -> None:
        """showing: a picture is restyled within what it gives; that is entered with the `progress` that `Stylizer` takes."""
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            try:
                written: Future | None = None
                following = reader.submit(self._read, pictures[0], True) if pictures else None
                for number, picture in enumerate(pictures):
                    assert following is not None
                    image = following.result()
                    if number + 1 < len(pictures):
                        following = reader.submit(self._read, pictures[number + 1], True)
                    with showing(picture) as progress:
                        result = self._restyle(picture, image, progress)
                    del image
                    if written is not None:
                        written.result()
                    written = writer.submit(self._write, picture, result)
                    del result
                if written is not None:
                    written.result()
            except BaseException:
                for pool in (reader, writer):
                    pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _read(self, picture: Picture, ahead: bool) -> Image.Image | None:
        """The decoded file; None if it cannot be read, is refused already, or is too large to be read `ahead`."""
        if picture.error is not None:
            return None
        started = time.perf_counter()
        try:
            check_target(picture.source, picture.target)
            most = free_memory() / AHEAD / 4 if ahead else float("inf")
            image = open_file(self.stylizer, picture.source, self.size, self.controls, most)
            picture.animated = image is not None and is_animated(image)
            return image
        except Exception as error:  # whatever one file raises, the others are restyled
            picture.error = error
            return None
        finally:
            picture.seconds += time.perf_counter() - started

    def _restyle(
        self, picture: Picture, image: Image.Image | None, progress: Callable[[float], object]
    ) -> Image.Image | None:
        if image is None and picture.error is None:
            image = self._read(picture, ahead=False)
        if image is None:
            return None
        started = time.perf_counter()
        try:
            with naming(picture.source), image:
                return self.stylizer(image, self.size, self.controls, progress=progress)
        except Exception as error:
            picture.error = error
            return None
        finally:
            picture.seconds += time.perf_counter() - started

    def _write(self, picture: Picture, result: Image.Image | None) -> None:
        started = time.perf_counter()
        if result is not None:
            try:
                save_result(result, picture.target)
                picture.size = result.size
            except Exception as error:
                picture.error = error
        picture.seconds += time.perf_counter() - started
        self.told(picture)
