"""Who is of one patient, video or centre, by a table beside the images: index.csv, of whatever separator and spelling."""

import csv
import io
import logging
from functools import lru_cache
from pathlib import Path

from engine.datasets.pair import Pair
from engine.datasets.pixels import ENDINGS

log = logging.getLogger("jobs.datasets")
GROUPS = (
    "patient", "patient_id", "patient_name", "subject", "subject_id", "case", "case_id", "video", "video_id", "sequence", "sequence_id",
    "centre", "center", "group",
)  # fmt: skip
# the finest first
SEPARATORS = ",;\t"


def grouped(pairs: list[Pair], index: Path) -> list[Pair]:
    """The pairs with the groups of a table whose first column names them; as they were, with a warning, where it names none of GROUPS.

    ValueError where it cannot be read, tells of some images only, or puts one into two groups.
    """
    if not index.is_file():
        return pairs
    text = text_of(index)
    head = text.partition("\n")[0]
    if not head.strip():
        raise ValueError(f"{index} is empty, expected a line of columns: was its download interrupted?")
    columns, rows = table(index, text, max(SEPARATORS, key=head.count))
    spelt = {plain(name): name for name in columns[::-1]}
    column = next((spelt[plain(name)] for name in GROUPS if plain(name) in spelt), "")
    if not column:
        warn(index, columns)
        return pairs
    return told(pairs, index, column, [(row[columns[0]], row[column].strip()) for row in rows])


def table(path: Path, text: str, separator: str = ",") -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The columns and the rows of a table, "" where a row is too short; ValueError, with file and line, where one cannot be read.

    As where a quote is never closed: all that follows is one field then, and longer than Python's csv reads.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="")
    try:
        return tuple(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read at line {reader.reader.line_num}: {error}; is a quote before it never closed?") from error


def told(pairs: list[Pair], index: Path, column: str, rows: list[tuple[str, str]]) -> list[Pair]:
    """The pairs with the groups of rows of (image, group); ValueError where one has none, or two."""
    known, groups = {pair.name for pair in pairs}, dict[str, set[str]]()
    for image, group in rows:
        name = stem(image) if stem(image) in known else Path(image).stem
        groups.setdefault(name, set()).update([group] if group else [])
    if several := [pair.name for pair in pairs if len(groups.get(pair.name, ())) > 1]:
        both = " and ".join(sorted(groups[several[0]])[:2])
        raise ValueError(f"{index} gives {len(several)} of {len(pairs)} images more than one {column}, the first is {several[0]}: {both}")
    if unknown := [pair.name for pair in pairs if not groups.get(pair.name)]:
        raise ValueError(
            f"{index} tells the {column} of {len(pairs) - len(unknown)} of {len(pairs)} images, not that of {unknown[0]}; "
            "its first column names the images"
        )
    return [pair._replace(group=next(iter(groups[pair.name]))) for pair in pairs]


def plain(name: str) -> str:
    """The name of a column in small letters and digits alone: Patient ID is patient_id."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def stem(line: str) -> str:
    """The stem that a line of a list names, without folders and the ending of a picture; other dots belong to the name."""
    name = line.strip().replace("\\", "/").rpartition("/")[2]
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in ENDINGS else name


def text_of(path: Path) -> str:
    """What a text file holds; ValueError, which names it, where it is none in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8, at byte {error.start:,}: save it as such") from error


@lru_cache(maxsize=64)
def warn(index: Path, columns: tuple[str, ...]) -> None:
    """Say once that a table tells nothing of who belongs together."""
    log.warning(
        "%s has the columns %s and none of %s: it tells no groups, so images of one patient may be on both sides of a split",
        *(index, ", ".join(columns), ", ".join(GROUPS)),
    )
