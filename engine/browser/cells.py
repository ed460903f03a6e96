"""Values of a table as a page can read them, in JSON."""

import json
import math
from collections.abc import Callable
from typing import Any

from engine import plain as values

SAFE = 2**53 - 1  # Number.MAX_SAFE_INTEGER
CELL = 400  # letters of a cell of an answer to SQL


def exact(number: int) -> int | str:
    """A whole number as a page can read it: its digits as text where they are more than a number of JavaScript holds."""
    return number if abs(number) <= SAFE else str(number)


def plain(value: Any, whole: Callable[[int], int | str] = exact) -> Any:
    """The same as JSON knows it: bytes are told by their count, and numbers are as short as a page shows them."""
    return values.plain(value, lambda held: f"<{len(held)} bytes>", rounded, whole)


def rounded(number: float) -> float:
    """Six digits behind the point are enough for a page; small numbers stay as they are."""
    return round(number, 6) if abs(number) >= 1e-3 else number


def cell(value: Any) -> Any:
    """A value of an answer to SQL, as short as a page shows it.

    Lists and structs are the text of their JSON, which keeps all digits; inf and nan are words, null is what is not there.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    held = json.dumps(plain(value, int), ensure_ascii=False) if isinstance(value, dict | list) else plain(value)
    return f"{held[:CELL]}… ({len(held):,} letters)" if isinstance(held, str) and len(held) > CELL else held
