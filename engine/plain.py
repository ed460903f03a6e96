"""Values as JSON knows them, for an answer to a page or a line of a file."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any


def plain(
    value: Any, binary: Callable[[bytes], str], number: Callable[[float], float] = float, whole: Callable[[int], int | str] = int
) -> Any:
    """The same as JSON knows it: a number that is none is null.

    Bytes, numbers with a fraction and whole numbers are what `binary`, `number` and `whole` make of them.
    """
    if isinstance(value, dict):
        return {str(name): plain(held, binary, number, whole) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held, binary, number, whole) for held in value]
    if isinstance(value, bytes):
        return binary(value)
    if isinstance(value, Decimal) and value.is_finite():
        return whole(int(value)) if value == value.to_integral_value() else number(float(value))
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return whole(value)
    return value if isinstance(value, str | bool | None) else str(value)
