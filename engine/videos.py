"""What there is to ingest: every file below an address as a row, and its identity, the hash of its bytes.

The kind of a file is told by its content, never by its name; a folder that holds nothing but images is one sequence.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from engine import schema
from engine.config import VideosConfig
from engine.files import address, images_of, is_file, is_still, locate, unreadable

CHUNK = 8 << 20  # bytes per read while hashing


def find(uri: str) -> pa.Table:
    """Every source at or below `uri` (file or folder; local path or fsspec address) as a table of schema.SOURCE, sorted by uri.

    Hidden files and folders are left out, and links to folders. A folder with two or more files directly in it, all of them
    images, is one source. A folder that may not be listed is a row, too: it will be reported as unreadable.
    FileNotFoundError or OSError says in one sentence what could not be listed.
    """
    fs, root = locate(uri)
    try:
        fs.invalidate_cache()
        found, closed = listed(fs, root) if fs.exists(root) else (None, [])
    except unreadable() as error:
        raise OSError(f"videos.uri={uri!r} cannot be listed: {error or type(error).__name__}") from error
    if found is None:
        raise FileNotFoundError(f"videos.uri={uri!r} does not exist; expected a folder or a file with video")
    files = {path: info for path, info in found.items() if is_file(info) and not hidden(path, root)}
    rows = [*rows_of(fs, files), *({"uri": address(fs, path), "size": 0, "modified": ""} for path in closed if not hidden(path, root))]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["uri"])), schema.SOURCE)


def content_hash(uri: str) -> str:
    """32 hex digits of the sha256 of a file's bytes; of an image folder: of its images' hashes in the order of their names."""
    fs, path = locate(uri)
    if not fs.isdir(path):
        return file_hash(fs, path)[:32]
    hashes = "\n".join(file_hash(fs, image) for image in images_of(fs, path))
    return hashlib.sha256(hashes.encode()).hexdigest()[:32]


@schema.stage(reads=schema.SOURCE, writes=schema.VIDEO)
class IdentifyVideos:
    """Give every source its content hash as `video_id`; what is empty or cannot be read gets a reason."""

    def __init__(self, config: VideosConfig) -> None:
        self.config = config

    def __call__(self, sources: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([identified(source) for source in sources.to_pylist()], schema.VIDEO)


def identified(source: dict[str, Any]) -> dict[str, Any]:
    try:
        video_id = content_hash(source["uri"])
    except unreadable() as error:
        unread = "unread-" + hashlib.sha256(source["uri"].encode()).hexdigest()[:25]
        detail = f"The file could not be read ({type(error).__name__})."  # the error's own text would hold the path
        return {**source, "video_id": unread, "reason": "unreadable", "detail": detail}
    empty = video_id == hashlib.sha256(b"").hexdigest()[:32]
    verdict = {"reason": "empty", "detail": "The file has no bytes."} if empty else {"reason": None, "detail": None}
    return {**source, "video_id": video_id, **verdict}


def listed(fs: Any, root: str) -> tuple[dict[str, Any], list[str]]:
    """What lies below `root` by path, and the local folders that refused to be listed: fsspec would leave them out in silence."""
    if not isinstance(fs, LocalFileSystem) or os.path.isfile(root):
        return fs.find(root, detail=True, withdirs=False), []
    refused: list[OSError] = []
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(root, onerror=refused.append) for name in names]
    closed = [str(error.filename) for error in refused]
    if root in closed:
        raise refused[0]
    return {path: told(fs, path) for path in paths}, closed


def told(fs: Any, path: str) -> dict[str, Any]:
    """What the file system says of a path; a file it says nothing of is reported as unreadable when it is identified."""
    try:
        return dict(fs.info(path))
    except OSError:
        return {"type": "file", "size": 0}


def hidden(path: str, root: str) -> bool:
    """True when a name below `root` starts with a dot; the root itself may."""
    return any(part.startswith(".") for part in path.removeprefix(root).strip("/").split("/"))


def rows_of(fs: Any, files: dict[str, Any]) -> Iterator[dict[str, Any]]:
    folders: dict[str, list[str]] = defaultdict(list)
    for path in sorted(files):
        folders[path.rpartition("/")[0]].append(path)
    for folder, paths in folders.items():
        if len(paths) >= 2 and all(is_still(fs, path) for path in paths):
            size = sum(files[path]["size"] for path in paths)
            yield {"uri": address(fs, folder), "size": size, "modified": max(modified(files[path]) for path in paths)}
        else:
            yield from ({"uri": address(fs, path), "size": files[path]["size"], "modified": modified(files[path])} for path in paths)


def modified(info: dict[str, Any]) -> str:
    """The file system's own mark of a version; etags first, because two writes may share a second."""
    mark = next((info[key] for key in ("ETag", "etag", "mtime", "LastModified", "updated", "created") if info.get(key)), "")
    return mark.isoformat() if isinstance(mark, datetime) else str(mark)


def file_hash(fs: Any, path: str) -> str:
    digest = hashlib.sha256()
    with fs.open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
