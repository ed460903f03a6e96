"""When the frames of a DICOM object are shown, exactly, by the tags of its Cine and Multi-frame modules (PS3.3 C.7.6.5)."""

import struct
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import accumulate
from math import lcm

from engine.clip import Clock
from engine.dicom.elements import CINE_RATE, DISPLAY_RATE, FRAME_TIME, FRAME_TIMES, INCREMENT, Tags

SHORTEST, LONGEST = Decimal(1), Decimal(3_600_000)  # milliseconds from frame to frame that are believed: our choice
LAST = 2**62  # ticks: they are stored in 64 bits


def clock_of(tags: Tags, count: int | None = None) -> Clock | None:
    """Of the tags that can be used the first: Frame Time, Frame Time Vector, Cine Rate, Recommended Display Frame Rate.

    The vector comes first where Frame Increment Pointer names it, and has to have a time for each of `count` frames where that is known.
    What is no number, not positive or beyond a millisecond to an hour from frame to frame is passed over.
    """
    step, vector = milliseconds(tags.text(FRAME_TIME)), vector_clock(tags.text(FRAME_TIMES), count)
    if vector is not None and (step is None or points_at_vector(tags)):
        return vector
    rates = [rate for rate in (milliseconds(tags.text(tag), rate=True) for tag in (CINE_RATE, DISPLAY_RATE)) if rate is not None]
    step = step or next(iter(rates), None)
    return None if step is None else Clock(step / 1000)


def even(rate: Fraction | None) -> Clock | None:
    """The clock of so many frames a second; None where that is nothing to believe."""
    return Clock(1 / Fraction(rate)) if rate and SHORTEST <= 1000 / Fraction(rate) <= LONGEST else None


def milliseconds(text: str, rate: bool = False) -> Fraction | None:
    """From frame to frame; `rate`: the text is a number of frames a second."""
    number = decimal(text)
    if number is None or not (1000 / LONGEST if rate else SHORTEST) <= number <= (1000 / SHORTEST if rate else LONGEST):
        return None
    return 1000 / Fraction(number) if rate else Fraction(number)


def decimal(text: str) -> Decimal | None:
    """A DICOM decimal string; None where it is no finite number."""
    try:
        number = Decimal(text.strip()) if text.isascii() else Decimal("nan")
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def vector_clock(text: str, count: int | None) -> Clock | None:
    """From the times between frames, the first of them before the first frame."""
    numbers = [decimal(part) for part in text.split("\\")]
    if len(numbers) < 2 or len(numbers) != (count or len(numbers)):
        return None
    if not all(number is not None and (number == 0 or SHORTEST <= number <= LONGEST) for number in numbers):
        return None
    steps = [Fraction(number) for number in numbers if number is not None]
    base = lcm(*(step.denominator for step in steps))
    ticks = tuple(int(total) for total in accumulate(step * base for step in steps))
    return Clock(Fraction(1, 1000 * base), ticks) if ticks[0] < ticks[-1] < LAST else None


def points_at_vector(tags: Tags) -> bool:
    """Whether the object says that its frames' times are listed one by one (Frame Time Vector)."""
    pointers = tags.values.get(INCREMENT, b"")
    found = struct.iter_unpack(f"{tags.order}HH", pointers[: len(pointers) - len(pointers) % 4])
    return any(group << 16 | number == FRAME_TIMES for group, number in found)
