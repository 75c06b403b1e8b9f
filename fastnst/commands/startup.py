"""How a command starts and ends soon: Python does not look for garbage where there is none."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Within it no garbage is collected: Hydra and torch make a million objects when they are imported, and all stay.

    As Python ends it would look through all of them, too, several times; then it takes them for permanent.
    """
    gc.disable()
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.enable()
