"""Files wherever they lie: local paths and fsspec addresses, what a file system raises and how it is told, and what is a still image."""

import os
import re
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import fsspec
from fsspec.implementations.local import LocalFileSystem

RAW_NAME = "file-bytes:"  # in front of a quoted local path that is not valid text: Arrow strings hold nothing else
STILLS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*", b"P5\n", b"P6\n")  # JPEG, PNG, BMP, TIFF, PNM
TORN = re.compile(r"(^|/)\.[^/]+\.[0-9a-f]{32}$")  # ends the path of what `put` has begun and not finished
UNFINISHED = ".mlflow-"  # begins the name of a folder in which MLflow's file is made: tracking makes it, the store sweeps what is left
PLACE = re.compile(r",?( location:)? (rust)?/\S+\.rs:\d+(:\d+)?")  # in the source of Lance, or of what it is made of


def locate(uri: str) -> tuple[Any, str]:
    """File system and path of an address; OSError says in one sentence that there is no such kind of address."""
    if uri.startswith(RAW_NAME):
        return LocalFileSystem(), os.fsdecode(unquote_to_bytes(uri.removeprefix(RAW_NAME)))
    if "://" not in uri:
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))  # fsspec would read "::" in a name as a chain
    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise OSError(f"the address {uri!r} cannot be opened: {error}") from error
    return fs, path


def address(fs: Any, path: str) -> str:
    """The address by which `locate` finds the path again; local ones stay plain paths."""
    if not isinstance(fs, LocalFileSystem):
        return str(fs.unstrip_protocol(path))
    try:
        path.encode()
    except UnicodeEncodeError:
        return RAW_NAME + quote_from_bytes(os.fsencode(path))
    return path


def put(content: bytes, uri: str) -> None:
    """Write a file at a path or address, whole or not at all: a reader sees the old one or the new one, never a part.

    Object stores show an object only once it is complete; on a disk the file is written beside its place and renamed, a link stays one,
    and a device or a pipe is written into. OSError where the place cannot be written. IsADirectoryError where it is a folder.
    """
    fs, place = locate(uri)
    if not isinstance(fs, LocalFileSystem):
        try:
            fs.pipe_file(place, content)
        except unreadable() as error:
            raise OSError(f"{uri} cannot be written: {error}") from error
        return
    if os.path.isdir(place):
        raise IsADirectoryError(f"{uri} is a folder; expected the name of a file")
    if os.path.exists(place) and not os.path.isfile(place):
        Path(place).write_bytes(content)
        return
    target = Path(os.path.realpath(place))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def unreadable() -> tuple[type[BaseException], ...]:
    """What a file system raises when it cannot deliver; object stores have errors of their own beside OSError."""
    own = {"botocore.exceptions": "BotoCoreError", "google.auth.exceptions": "GoogleAuthError", "aiohttp": "ClientError"}
    return OSError, *(getattr(sys.modules[module], name) for module, name in own.items() if module in sys.modules)


def placeless(told: str) -> str:
    """What an error says, without the places in the source of Lance that stand behind each part of it."""
    return PLACE.sub("", told)


def is_file(info: dict[str, Any]) -> bool:
    """True for a file and for a link to one or to nothing (which is then reported as unreadable); a pipe would block for ever."""
    if info.get("islink"):
        return os.path.isfile(info["name"]) or not os.path.exists(info["name"])
    return bool(info["type"] == "file")


def is_still(fs: Any, path: str) -> bool:
    """True for a still image, by its first bytes; what cannot be read is none, nor is a DICOM object, whose first 128 may be anything."""
    try:
        with fs.open(path, "rb", block_size=1 << 12) as file:
            head = file.read(132)
    except unreadable():
        return False
    return head[128:] != b"DICM" and bool(head.startswith(STILLS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"))


def images_of(fs: Any, folder: str) -> list[str]:
    """The files directly in an image folder, hidden ones left out, in the order of their names."""
    fs.invalidate_cache(folder)
    names = [info["name"] for info in fs.ls(folder, detail=True) if is_file(info)]
    return sorted(name for name in names if not name.rpartition("/")[2].startswith("."))
