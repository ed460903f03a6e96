"""Folders of images and masks, matched by file stem, and lists that say who trains and who is tested on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.datasets.groups import grouped, stem, text_of
from engine.datasets.pair import Pair
from engine.datasets.pixels import ENDINGS, is_picture

UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".aria2")  # endings of what browsers and downloaders have not finished
TESTED = ("test.txt", "val.txt")  # the list of a set without its own test part is its validation list


def folder(uri: str) -> Path:
    """The local folder of that name; ValueError or FileNotFoundError where it is not one with images/ and masks/ in it."""
    if not uri:
        raise ValueError("evaluate.uri is empty: name a folder with images/ and masks/")
    root = local(uri)
    for part in (root, root / "images", root / "masks"):
        if not part.is_dir():
            raise FileNotFoundError(f"evaluate.uri={uri}: there is no folder {part}; expected one with images/ and masks/")
    return root


@contextmanager
def read_from(knob: str, uri: str) -> Iterator[None]:
    """What is wrong with a file as a ValueError that begins with the knob that names its folder."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{knob}={uri}: {error}") from error


def local(uri: str) -> Path:
    """The local path of an address, without file:// and with ~ as the home; it need not be there."""
    return Path(uri.removeprefix("file://")).expanduser()


def listed(root: Path) -> list[Pair]:
    """The pairs of images/ and masks/, with the groups that an index.csv names and the parts that lists name."""
    return parted(grouped(matched(root), root / "index.csv"), root)


def matched(root: Path, knob: str = "evaluate.uri") -> list[Pair]:
    """The pairs of a folder; ValueError, which names `knob`, for none, for one without a partner, and for two of one stem."""
    return beside(root / "images", root / "masks", knob=knob)


def beside(images: Path, masks: Path, bare: Callable[[str], str] = str, knob: str = "evaluate.uri") -> list[Pair]:
    """The pictures of one folder with those of another; `bare` makes of a mask's stem its image's. ValueError as in `matched`."""
    refuse_unfinished(images, masks, f"{knob}={images.parent}")
    return paired(by_stem(images), by_stem(masks, bare), f"{knob}={images.parent}", images.name)


def refuse_unfinished(images: Path, masks: Path, where: str) -> None:
    """ValueError for what a download leaves of files that it did not finish: lacking on both sides, they would leave no gap."""
    left = {part: [path for path in sorted(part.iterdir()) if path.suffix.lower() in UNFINISHED] for part in (images, masks)}
    if both := [path for paths in left.values() for path in paths if not path.with_suffix("").is_file()]:
        counts = " and ".join(
            f"{len(paths)} beside {sum(map(is_picture, part.iterdir()))} pictures in {part.name}/" for part, paths in left.items()
        )
        raise ValueError(f"{where}: downloads were not finished, {counts}; the first is {both[0]}")


def paired(images: Mapping[str, Path], masks: Mapping[str, Path], where: str, folder: str) -> list[Pair]:
    """The pairs of equal stems; ValueError where there is no image, or one of a pair is lacking."""
    if not images:
        raise ValueError(f"{where}: {folder}/ holds no picture ({', '.join(sorted(ENDINGS))})")
    for has, part, lacks in ((images, "mask", masks), (masks, "image", images)):
        alone = sorted(set(has) - set(lacks))
        if alone:
            raise ValueError(f"{where}: {len(alone)} of {len(has)} have no {part} of the same stem, the first is {has[alone[0]]}")
    return [Pair(stem, images[stem], masks[stem]) for stem in images]


def by_stem(part: Path, bare: Callable[[str], str] = str) -> dict[str, Path]:
    """Every picture of a folder under its stem; other files (indices, hidden ones) are none of ours. ValueError where two have one stem."""
    found: dict[str, Path] = {}
    for path in sorted(part.iterdir()):
        if not is_picture(path):
            continue
        stem = bare(path.stem)
        if stem in found:
            raise ValueError(f"{found[stem]} and {path} have the same stem; one picture for each is expected")
        found[stem] = path
    return found


def parted(pairs: list[Pair], root: Path) -> list[Pair]:
    """The pairs with the parts that train.txt, and test.txt or val.txt, put them in; as they were where there are no such lists.

    A list names stems or file names, one a line. Beside a test.txt a val.txt trains. ValueError where lists and pictures differ, or one of
    the two is not there.
    """
    tested = next((name for name in TESTED if (root / name).is_file()), "")
    trains = (root / "train.txt").is_file()
    if not tested and not trains:
        return pairs
    if not tested or not trains:
        has, lacks = ("train.txt", "test.txt or val.txt") if trains else (tested, "train.txt")
        raise ValueError(f"{root} has {has} and no {lacks}: both say who trains and who is tested on; without either a part is drawn")
    lists = {name: names(root / name) for name in ("train.txt", *TESTED) if (root / name).is_file()}
    put = {stem: "test" if name == tested else "train" for name, stems in lists.items() for stem in stems}
    missing = sorted(set(put) - {pair.name for pair in pairs})
    unnamed = [pair.name for pair in pairs if pair.name not in put]
    if twice := sum(map(len, lists.values())) - len(put):
        raise ValueError(f"{root}: {', '.join(lists)} name {twice} pictures twice")
    if missing:
        raise ValueError(f"{root}: {len(missing)} of {len(put)} that {', '.join(lists)} name are not there, the first is {missing[0]}")
    if unnamed:
        raise ValueError(f"{root}: {len(unnamed)} of {len(pairs)} are in none of {', '.join(lists)}, the first is {unnamed[0]}")
    return [pair._replace(part="test" if put[pair.name] == "test" else "train") for pair in pairs]


def names(path: Path) -> list[str]:
    """The stems that a list names, with folders before them or not."""
    return [stem(line) for line in text_of(path).splitlines() if line.strip()]


def first(root: Path, choices: Sequence[tuple[str, str]]) -> tuple[Path, Path]:
    """The first of several pairs of folder names that is there; FileNotFoundError names all."""
    for images, masks in choices:
        if (root / images).is_dir() and (root / masks).is_dir():
            return root / images, root / masks
    wanted = ", or ".join(f"{images}/ with {masks}/" for images, masks in choices)
    raise FileNotFoundError(f"{root} has none of {wanted}")
