"""What there is to ingest: every file below an address as a row, and its identity, the hash of its bytes.

The kind of a file is told by its content, never by its name; a folder that holds nothing but images is one sequence.
"""

import hashlib
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa

from engine import growth, schema
from engine.files import images_of, locate, unreadable
from engine.ledger import REPLACED
from engine.listing import ETAGS, is_among, modified, reached, sources

CHUNK = 8 << 20  # bytes per read while hashing
EMPTY = hashlib.sha256(b"").hexdigest()[:32]  # the id of what has no bytes
OTHER = {"reason": REPLACED, "detail": "The file was written anew while it was read."}


def find(uri: str, but: Collection[str] = ()) -> pa.Table:
    """Every source at or below `uri` (file or folder; local path or fsspec address) as a table of schema.SOURCE, sorted by uri.

    Hidden files and folders are left out, and links to folders. A folder with two or more files directly in it, all of them
    images, is one source. A folder that may not be listed is a row, too: it will be reported as unreadable. What lies at or below the
    addresses `but` is left out.
    FileNotFoundError or OSError says in one sentence what could not be listed.
    """
    with reached(uri) as (fs, root):
        found = list(sources(fs, root, lambda row: is_among(row["uri"], but)))
    return pa.Table.from_pylist(sorted(found, key=lambda row: str(row["uri"])), schema.SOURCE)


def content_hash(uri: str) -> str:
    """32 hex digits of the sha256 of a file's bytes; of an image folder: of its images' hashes in the order of their names."""
    *_, last = EMPTY, *ids_of(uri)
    return last


def holds(uri: str, video_id: str) -> bool:
    """Whether a file has this content hash, or an image folder had it when it ended with one of the images that it has now."""
    return any(one == video_id for one in ids_of(uri))


def ids_of(uri: str) -> Iterator[str]:
    """The content hash of a file; of an image folder those that it has with its first image, its first two, to all of them."""
    fs, path = locate(uri)
    images = images_of(fs, path) if fs.isdir(path) else [path]
    return growth.ids(file_hash(fs, image) for image in images)


@schema.stage(reads=schema.SOURCE, writes=schema.VIDEO)
class IdentifyVideos:
    """Give every source its content hash as `video_id`; what is empty or cannot be read gets a reason.

    A folder of images also gets `heads`, by which the job that knows the ledger finds what of it is known.
    """

    def __call__(self, sources: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([identified(source) for source in sources.to_pylist()], schema.VIDEO)


@schema.stage(reads=schema.VIDEO, writes=schema.VIDEO)
class ConfirmVideos:
    """Give the reason REPLACED to every video whose file holds other bytes by now than those that it was named by."""

    def __call__(self, videos: pa.Table) -> pa.Table:
        rows = [{**video, **OTHER} if is_replaced(video) else video for video in videos.to_pylist()]
        return pa.Table.from_pylist(rows, schema.VIDEO)


def is_replaced(video: dict[str, Any]) -> bool:
    """Whether the file was written anew; one that is gone or cannot be read any more says nothing.

    Where the store of objects gives an etag, which changes with the bytes, that is asked; other files are read and hashed again.
    """
    if video["reason"] is not None:
        return False
    fs, path = locate(video["uri"])
    try:
        fs.invalidate_cache()
        info = {} if fs.isdir(path) else fs.info(path)
        if any(info.get(name) for name in ETAGS):
            return bool(modified(info) != video["modified"])
        return bool(content_hash(video["uri"]) != video["video_id"])
    except unreadable():
        return False


def identified(source: dict[str, Any]) -> dict[str, Any]:
    """A row of schema.VIDEO from one of schema.SOURCE."""
    try:
        *heads, video_id = [*ids_of(source["uri"])] or [EMPTY]
    except unreadable() as error:
        return unread(source, f"The file could not be read ({type(error).__name__}).")  # the error's own text would hold the path
    empty = video_id == EMPTY
    verdict = {"reason": "empty", "detail": "The file has no bytes."} if empty else {"reason": None, "detail": None}
    return {**source, "video_id": video_id, "heads": heads or None, **verdict}


def unread(source: dict[str, Any], detail: str) -> dict[str, Any]:
    """A source whose bytes nobody knows: its id is that of its address."""
    name = "unread-" + hashlib.sha256(source["uri"].encode()).hexdigest()[:25]
    return {**source, "video_id": name, "reason": "unreadable", "detail": detail}


def file_hash(fs: Any, path: str) -> str:
    """The sha256 of a file as 64 hex digits, CHUNK bytes in memory."""
    digest = hashlib.sha256()
    with fs.open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
