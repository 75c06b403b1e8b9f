"""What is chosen after training: shares of styles, and how much a style counts. It is imported without torch."""

from collections.abc import Iterable
from typing import Any

from fastnst.errors import UserError, is_number

MOST_BRUSHWORK = 20.0  # levels of 255
MOST_WEIGHT = 3.0  # the dial's range: style counts from a third of what it does in training to three times that


def brushwork_of(info: dict) -> float:
    """The brushwork, in levels of 255, that a net was trained with, by its checkpoint's info; 0 if it says none."""
    own: Any = info.get("brushwork")
    return float(own) if is_number(own, 0, MOST_BRUSHWORK) else 0.0


def scaled(shares: Iterable[float], option: str) -> list[float]:
    """Shares with a sum of 1. Raises UserError, which names the `option`, unless they are numbers from 0, and not all 0."""
    shares = list(shares)
    if not all(is_number(share, 0, 1e9) for share in shares) or sum(shares) <= 0:
        raise UserError(f"{option}: give a number from 0 for each, not all 0")
    return [share / sum(shares) for share in shares]
