"""Exceptions that users see as one line, and checks of the values that they give."""

import re
import sys
from numbers import Integral, Real  # NumPy's scalars are of these kinds, too


class UserError(Exception):
    """An error that the user can fix. The message is one line: what was wrong, and what to do.

    The command line prints it on stderr and exits with status 2 (see `fastnst.commands.cli`).
    """


class SharedError(UserError):
    """A UserError that all processes of a training raise at the same step: one of each machine tells it."""


def is_whole(value: object, least: int) -> bool:
    """Whether a value that a user gave is a whole number from `least` on; true and false are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_number(value: object, least: float, most: float) -> bool:
    """Whether a value that a user gave is a number from `least` to `most`, both included; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and not value < least and value <= most


def is_name(value: object) -> bool:
    """Whether a value can be a style's name, which files are called after: short, on one line, without slashes."""
    if not isinstance(value, str) or not value.isprintable() or set(value) & set("/\\"):
        return False
    return value.strip() != "" and value[0] != "." and len(value.encode()) <= 100


def printable(message: str) -> str:
    """The message on one line, with what a terminal would obey, such as from a file's name, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def fail(message: str) -> int:
    """Prints one line on stderr. Returns the exit status for bad input."""
    print(f"fastnst: {printable(message)}", file=sys.stderr)
    return 2


def line_of(error: BaseException) -> str:
    """What an exception says, as one line; its kind, if it says nothing."""
    return re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
