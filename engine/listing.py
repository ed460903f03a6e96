"""What lies below an address, one source at a time as it is listed: of a million names no more are in memory than a page.

A folder with two or more files directly in it, all of them images, is one source. That is known when all of the folder was listed; of one
with more than HELD files only sums are kept meanwhile, and it is listed again where they do not tell.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from engine.files import address, is_file, is_still, locate, unreadable

HELD = 1000  # files of a folder that wait for its end
PEEKED = 8  # of these, when there are more: a folder of video is known for one without waiting
PAGE = 1000  # names that are asked for at once; what S3 gives at most
ETAGS = ("ETag", "etag")  # the names of a mark that is another one for other bytes
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

Row = dict[str, Any]  # of schema.SOURCE
Told = Callable[[Row], bool]


class Found(NamedTuple):
    """A file, or a folder that refused to be listed."""

    folder: str
    path: str
    size: int
    modified: str
    closed: bool = False


@contextmanager
def reached(uri: str) -> Iterator[tuple[Any, str]]:
    """File system and path of videos.uri; FileNotFoundError or OSError, in one sentence, where it is not there or cannot be listed."""
    try:
        fs, root = locate(uri)
        fs.invalidate_cache()
        if there := fs.exists(root):
            yield fs, root
    except unreadable() as error:
        raise OSError(f"videos.uri={uri!r} cannot be listed: {error or type(error).__name__}") from error
    if not there:
        raise FileNotFoundError(f"videos.uri={uri!r} does not exist; expected a folder or a file with video")


def sources(fs: Any, root: str, known: Told) -> Iterator[Row]:
    """The sources at or below `root` of which `known` does not say that they are; hidden files and folders, and links to folders, are none.

    Files are opened only in folders that hold one that is not known. What the file system raises is let through.
    """
    open_folders: list[Folder] = []
    for found in below(fs, root):
        while open_folders and not is_within(found.folder, open_folders[-1].path):
            yield from open_folders.pop().rest()
        if found.closed:
            yield from unknown(fs, [found], known)
            continue
        if not open_folders or open_folders[-1].path != found.folder:
            open_folders.append(Folder(fs, found.folder, root, known))
        yield from open_folders[-1].add(found)
    while open_folders:
        yield from open_folders.pop().rest()


class Folder:
    """The files directly in one folder, as they come."""

    def __init__(self, fs: Any, path: str, root: str, known: Told) -> None:
        self.fs, self.path, self.root, self.known = fs, path, root, known
        self.count = self.size = 0
        self.modified = ""
        self.held: list[Found] = []
        self.apart = False  # it is known by now that each file is a source

    def add(self, found: Found) -> Iterator[Row]:
        """Take a file; gives what is a source for certain."""
        self.count, self.size, self.modified = self.count + 1, self.size + found.size, max(self.modified, found.modified)
        if self.apart:
            yield from unknown(self.fs, [found], self.known)
        elif self.count <= HELD:
            self.held.append(found)
        elif self.held:
            self.apart = not all(is_still(self.fs, one.path) for one in islice(likeliest(self.held), PEEKED))
            yield from unknown(self.fs, [*self.held, found] if self.apart else [], self.known)
            self.held = []

    def rest(self) -> Iterator[Row]:
        """What is still to be told when the last file has come."""
        if self.apart:
            return
        if self.count < 2:
            yield from unknown(self.fs, self.held, self.known)
            return
        whole = {"uri": address(self.fs, self.path), "size": self.size, "modified": self.modified}
        if self.known(whole) or not any(True for _ in unknown(self.fs, self.files(), self.known)):
            return
        if all(is_still(self.fs, one.path) for one in likeliest(self.files())):
            yield whole
        else:
            yield from unknown(self.fs, self.files(), self.known)

    def files(self) -> Iterable[Found]:
        """Its files; listed again where there are too many to hold."""
        if self.held:
            return self.held
        return (found for found in below(self.fs, self.path, self.root, deep=False) if found.folder == self.path and not found.closed)


def key_of(row: Row) -> int:
    """64 bits of the hash of a source's address, size and mark."""
    told = "\0".join((row["uri"], str(row["size"]), row["modified"]))
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=8).digest(), "big")


def name_of(key: int) -> str:
    """A source's key as 16 hex digits."""
    return f"{key:016x}"


def likeliest(files: Iterable[Found]) -> Iterable[Found]:
    """Held ones in an order in which what is no picture comes early: a name does not say what a file is, but where to look first."""
    return sorted(files, key=lambda one: one.path.lower().endswith(PICTURES)) if isinstance(files, list) else files


def unknown(fs: Any, files: Iterable[Found], known: Told) -> Iterator[Row]:
    """Rows of the files that are not known, in the order of the listing."""
    for found in files:
        row = {"uri": address(fs, found.path), "size": found.size, "modified": found.modified}
        if not known(row):
            yield row


def is_within(folder: str, outer: str) -> bool:
    """Whether a folder is another one or lies below it."""
    return folder == outer or folder.startswith(outer.rstrip("/") + "/")


def below_it(uri: str, places: Iterable[str]) -> tuple[str, ...]:
    """Those of some addresses that lie below another one, however either is spelled, as a listing of that one tells them.

    OSError where there is no such kind of address.
    """
    fs, root = locate(uri)
    found = []
    for other, place in map(locate, places):
        if type(other) is type(fs):
            under = beneath(place, root, isinstance(fs, LocalFileSystem))
            found += [address(fs, f"{root.rstrip('/')}/{under}")] if under else []
    return tuple(found)


def beneath(place: str, root: str, local: bool) -> str:
    """The path from `root` to what lies below it, "" where it does not; local ones as their links lead."""
    place, root = (os.path.realpath(one) if local else one.rstrip("/") for one in (place, root))
    return place.removeprefix(root).strip("/") if is_within(place, root) else ""


def is_among(uri: str, places: Collection[str]) -> bool:
    """Whether an address is one of these, or lies below one."""
    return any(is_within(uri, one) for one in places)


# -- listing --------------------------------------------------------------------------------------------------------------------


def below(fs: Any, folder: str, root: str = "", deep: bool = True) -> Iterator[Found]:
    """The files below a folder, those of each folder with nothing but deeper ones in between; `folder` may be a file itself."""
    if isinstance(fs, LocalFileSystem):
        return scanned(fs, folder, deep) if not os.path.isfile(folder) else iter([found_of(fs, folder)])
    return (
        Found(info["name"].rpartition("/")[0], info["name"], info["size"], modified(info))
        for info in (paged if hasattr(fs, "_iterdir") else walked)(fs, folder, deep)
        if is_file(info) and not hidden(info["name"], root or folder) and not info["name"].endswith("/")
    )


def scanned(fs: Any, folder: str, deep: bool, top: bool = True) -> Iterator[Found]:
    """Of a local folder; one below it that may not be listed is told of."""
    try:
        entries = os.scandir(folder)
    except OSError:
        if top:
            raise
        yield Found(os.path.dirname(folder), folder, 0, "", closed=True)
        return
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                info = told(fs, entry.path if entry.is_symlink() else entry)  # of a link the time of what it leads to
                if is_file(info | {"name": entry.path}):
                    yield Found(folder, entry.path, info["size"], modified(info))
            elif deep:
                yield from scanned(fs, entry.path, deep, top=False)


def found_of(fs: Any, path: str) -> Found:
    """A single file as a listing would tell of it."""
    info = told(fs, path)
    return Found(os.path.dirname(path), path, info["size"], modified(info))


def told(fs: Any, path: Any) -> dict[str, Any]:
    """What the file system says of a path; a file it says nothing of is reported as unreadable when it is identified."""
    try:
        return dict(fs.info(path))
    except OSError:
        return {"type": "file", "size": 0}


def paged(fs: Any, folder: str, deep: bool) -> Iterator[dict[str, Any]]:
    """Of a bucket of s3fs, page by page in the order of the keys: its public ways give a list of all, and keep it."""
    bucket, _, key = folder.strip("/").partition("/")
    listing = fs._iterdir(bucket, delimiter="" if deep else "/", prefix=f"{key}/" if key else "")
    empty = True
    while page := sync(fs.loop, taken, listing):
        empty = False
        yield from page
    if empty and key and fs.isfile(folder):
        yield fs.info(folder)


async def taken(listing: Any) -> list[dict[str, Any]]:
    """The next page of a listing, PAGE at most; empty at its end."""
    page: list[dict[str, Any]] = []
    async for info in listing:
        page.append(info)
        if len(page) == PAGE:
            break
    return page


def walked(fs: Any, folder: str, deep: bool) -> Iterator[dict[str, Any]]:
    """Of any other file system, a folder at a time; what it would remember of each is thrown away."""
    for path, folders, files in fs.walk(folder, maxdepth=None if deep else 1, detail=True):
        for name in [name for name in folders if name.startswith(".")]:
            del folders[name]
        yield from files.values()
        fs.invalidate_cache(path)


def hidden(path: str, root: str) -> bool:
    """True when a name below `root` starts with a dot; the root itself may."""
    return any(part.startswith(".") for part in path.removeprefix(root).strip("/").split("/"))


def modified(info: dict[str, Any]) -> str:
    """The file system's own mark of a version; etags first, because two writes may share a second."""
    mark = next((info[key] for key in (*ETAGS, "mtime", "LastModified", "updated", "created") if info.get(key)), "")
    return mark.isoformat() if isinstance(mark, datetime) else str(mark)
