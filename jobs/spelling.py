"""Names of files as others may write them: quoted for a URL, escaped as Python and C do, composed or not, in other cases, cut short."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import PurePath

from jobs.news import REASONS

SHORT = 4  # letters: a name with fewer is found in every second sentence, and tells nobody
LONG = 6  # digits: shorter numbers are days and months of a folder for each day
NOUNS = ("video", "clip", "film", "frame", "image", "picture", "file", "recording")
ORDINARY = {*NOUNS, *(f"{noun}s" for noun in NOUNS), "patch", "patches", "store", "inbox", "data", *REASONS, "kept"}
DAY = re.compile(r"(\d{4})[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])")
BYTES = re.compile(r"(?:%[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}|\\[0-3][0-7]{2}|[\udc80-\udcff])+")
ONE = re.compile(r"%([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|\\([0-3][0-7]{2})|([\udc80-\udcff])")
POINT = re.compile(r"\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})")


def plain(text: str) -> str:
    """One spelling for all: what was quoted or escaped is itself, letters are composed, every separator is one slash, every + a space."""
    for _ in range(2):  # an escape may be escaped, as in the repr of a repr
        text = POINT.sub(point, text.replace("\\\\", "\\"))
        text = re.sub(r"\\(['\" ])", r"\1", BYTES.sub(meant, text))
    text = re.sub(r"[/\\]+", "/", text.replace("+", " "))
    return unicodedata.normalize("NFC", text)


def point(found: re.Match[str]) -> str:
    """The character that an escape stands for; the escape itself where it stands for none."""
    number = int(found[1] or found[2], 16)
    return chr(number) if number <= 0x10FFFF else found[0]


def meant(found: re.Match[str]) -> str:
    """The letters of bytes, which are UTF-8 or, where they cannot be, Latin-1."""
    said = bytes(number(one) for one in ONE.finditer(found[0]))
    try:
        return said.decode()
    except UnicodeDecodeError:
        return said.decode("latin-1")


def number(one: re.Match[str]) -> int:
    """The byte that an escape stands for."""
    if hexadecimal := one[1] or one[2]:
        return int(hexadecimal, 16)
    return int(one[3], 8) if one[3] else ord(one[4]) - 0xDC00  # by which Python stands for a byte that is no letter


def names(parts: Iterable[str]) -> set[str]:
    """What tells of a file: the names of it and its folders, with and without what follows a dot, but for what everybody says."""
    found: set[str] = set()
    for part in set(parts):
        found |= {part, PurePath(part).stem, part.partition(".")[0]}
    return {one for one in found if tells(one)}


def tells(name: str) -> bool:
    """False for a few letters, a few digits, words of ours, and a day of this year or the last: video is taken in then, nobody is born."""
    if len(name) < (LONG if name.isdigit() else SHORT) or name.casefold() in ORDINARY:
        return False
    day = DAY.fullmatch(name)
    return not (day and 0 <= datetime.now(UTC).year - int(day[1]) <= 1)


def holds(text: str, names: Iterable[str]) -> bool:
    """Whether a text holds one of the names in whatever spelling; in other cases than its own only as a whole word, or most texts would."""
    told = plain(text)
    folded = told.casefold()
    return any(name in text or (one := plain(name)) in told or is_word(one.casefold(), folded) for name in names)


def is_word(name: str, text: str) -> bool:
    """Whether a name stands in a text as a word, no letter or digit beside it."""
    return name in text and re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", text) is not None


def names_below(root: str, text: str, but: Iterable[str] = ()) -> bool:
    """Whether a text holds the address of something below `root`, in whatever spelling, and not only its own or one at or below `but`."""
    told = plain(text).casefold()
    for one in but:
        told = re.sub(re.escape(plain(one).casefold()) + r"(?=/|['\"]|[:;,.)]?(\s|$))", "", told)
    return re.search(re.escape(plain(root.rstrip("/")).casefold()) + r"/[^/\s'\"]", told) is not None
