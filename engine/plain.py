"""Values as JSON knows them, for an answer to a page or a line of a file."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any


def plain(value: Any, binary: Callable[[bytes], str], number: Callable[[float], float] = float) -> Any:
    """The same as JSON knows it: a number that is none is null, bytes and numbers with a fraction are what `binary` and `number` make."""
    if isinstance(value, dict):
        return {str(name): plain(held, binary, number) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held, binary, number) for held in value]
    if isinstance(value, bytes):
        return binary(value)
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else number(float(value))
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
