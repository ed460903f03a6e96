"""Names of files as others may write them: quoted for a URL, escaped as Python and C do, composed or not, in other cases, cut short."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePath
from typing import TypeVar

from jobs.news import REASONS

SHORT = 4  # letters: a name with fewer is found in every second sentence, and tells nobody
DATE = 8  # digits: shorter numbers come up in hashes, and a line of a video has one
LONG = 6  # digits: shorter numbers are days and months of a folder for each day
NOUNS = ("video", "clip", "film", "frame", "image", "picture", "file", "recording")
ORDINARY = {*NOUNS, *(f"{noun}s" for noun in NOUNS), "patch", "patches", "store", "inbox", "data", *REASONS, "kept"}
DAY = re.compile(r"(\d{4})[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])")
BYTES = re.compile(r"(?:%[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}|\\[0-3][0-7]{2}|[\udc80-\udcff])+")
ONE = re.compile(r"%([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|\\([0-3][0-7]{2})|([\udc80-\udcff])")
LETTER, SPOKEN = re.compile(r"[^\W\d_]"), re.compile(r"[^\W\d_]{3}")  # fewer between digits are in every second hash
# Of scripts that part words by blanks a run of letters and digits; of those that do not, and have no cases either, each letter.
WORD = re.compile(r"(?:(?![\u0590-\u1dff\u2000-\U0010ffff])[^\W_])+|[^\W_]")
SMALL, CAPITAL = "a-zß-öø-ÿ", "A-ZÀ-ÖØ-Þ"
SEAM = re.compile(rf"(?<=[{SMALL}])(?=[{CAPITAL}])|(?<=[{CAPITAL}])(?=[{CAPITAL}][{SMALL}])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")
BLANKS = re.compile(r"\\+[abfnrtv]")  # as Python and C escape them; in the path of a file of Windows it is the first letter of a name
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # of a terminal
ODD = re.compile(r"[^\x20-\x7e]|[%\\+/]")
POINT = re.compile(r"\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})")


def plain(text: str) -> str:
    """One spelling for all: what was quoted or escaped is itself, letters are composed, every separator is one slash, every + a space."""
    if not ODD.search(text):
        return text
    for _ in range(2):  # an escape may be escaped, as in the repr of a repr
        text = POINT.sub(point, text.replace("\\\\", "\\"))
        text = re.sub(r"\\(['\" ])", r"\1", BYTES.sub(meant, text))
    text = re.sub(r"[/\\]+", "/", COLOUR.sub(" ", text).replace("+", " "))
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


Key = TypeVar("Key", str, int)


class Names:
    """The names of files that wait, to be looked up by the words of a line: what that costs does not grow with how many wait.

    A name is found as whole words, as a stranger reads them, in whatever spelling and whatever parts them: `endo` is not in "endocurate".
    Where letters meet digits, and small letters capital ones, a word may end, too: `Zebedee` is in "tmp1Zebedee2".
    """

    def __init__(self, parts: Iterable[str] = ()) -> None:
        self.counts, self.lengths = Counter[str](), Counter[int]()  # of each key, and of how many words it has
        for part in parts:
            self.told(part, True)

    def told(self, path: str, waits: bool) -> None:
        """Of a file, by its path below the inbox, that it waits or does no more; of a folder it counts how many of its files do."""
        for key in (key for part in path.split("/") for key in keys(part)):
            count(self.counts, key, waits)
            count(self.lengths, len(WORD.findall(key)), waits)

    def are_in(self, text: str) -> bool:
        """Whether a text holds one of them."""
        said = plain(text)
        readings = {text, said, plain(BLANKS.sub(" ", text))}
        return any(self.stand_in(one) for one in readings) or any(self.stand_in(SEAM.sub(" ", one), True) for one in readings)

    def stand_in(self, text: str, is_cut: bool = False) -> bool:
        """Whether one of them stands in a text as it is; of one that was cut at seams, which has digits of every hash, no short number."""
        folded, lengths = text.casefold(), (*self.lengths,)  # at once: another thread may log
        words = [*WORD.finditer(folded)]
        for start, first in enumerate(words):
            for last in (start + length for length in lengths if start + length <= len(words)):
                key = " ".join(one[0] for one in words[start:last])
                key = folded[first.start() : words[last - 1].end()] if is_number(key) else key
                if key in self.counts and not (is_cut and is_number(key) and len(key) < DATE):
                    return True
        return False


def count(counts: Counter[Key], key: Key, more: bool) -> None:
    """One more of a key, or one less: what is not there any more takes no room."""
    counts[key] += 1 if more else -1
    if counts[key] <= 0:
        del counts[key]


@lru_cache(maxsize=4096)  # a folder has many files
def keys(part: str) -> tuple[str, ...]:
    """What a name of a file or folder is found by, with and without what follows a dot: its words, or as it is where it has no letters."""
    told = {one for one in (part, PurePath(part).stem, part.partition(".")[0]) if tells(one)}
    spelled = {one for name in told for one in (name, plain(name))}
    found = {key_of(one) for one in spelled} | {key_of(SEAM.sub(" ", one)) for one in spelled if SPOKEN.search(one)}
    found = {key for key in found if key not in ORDINARY and (" " in key or tells(key))}
    return tuple(key for key in found if not any(key.startswith(f"{other} ") for other in found))


def key_of(name: str) -> str:
    """The words of a name with one blank between; digits with what parts them, for "10: 12" is no day."""
    bare = re.sub(r"^[\W_]+|[\W_]+$", "", name.casefold())
    return bare if is_number(bare) else " ".join(WORD.findall(bare))


def is_number(text: str) -> bool:
    """Whether there is no letter in a text."""
    return LETTER.search(text) is None


def tells(name: str) -> bool:
    """False for a few letters, a few digits, words of ours, and a day of this year or the last: video is taken in then, nobody is born."""
    if len(name) < (LONG if name.isdigit() else SHORT) or name.casefold() in ORDINARY:
        return False
    day = DAY.fullmatch(name)
    return not (day and 0 <= datetime.now(UTC).year - int(day[1]) <= 1)


def names_below(root: str, text: str, but: Iterable[str] = ()) -> bool:
    """Whether a text holds the address of something below `root`, in whatever spelling, and not only its own or one at or below `but`."""
    told = plain(text).casefold()
    for one in but:
        told = re.sub(re.escape(plain(one).casefold()) + r"(?=/|['\"]|[:;,.)]?(\s|$))", "", told)
    return re.search(re.escape(plain(root.rstrip("/")).casefold()) + r"/[^/\s'\"]", told) is not None
