"""Folders of images that grew after they were taken in: of these only the images that are new are read.

The id of an image folder is a hash of its images' hashes one after the other, so that every id which it had with fewer images comes by
while it is made. The longest of these that is known says which images were taken in, or forgotten, before; one that came in between by its
name, changed or went leaves none that is.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any


def ids(hashes: Iterable[str]) -> Iterator[str]:
    """Of image after image the id (32 hex digits) of the folder that ends with it; `hashes` (64) are those of its images by name.

    A folder of one image is that file, and has its id.
    """
    digest, first = hashlib.sha256(), True
    for found in hashes:
        digest.update((found if first else f"\n{found}").encode())
        yield found[:32] if first else digest.hexdigest()[:32]
        first = False


def known(heads: Sequence[str], *among: Collection[str]) -> int:
    """How many of a folder's first images are known: as many as had the longest id of `heads` that is in one of `among`; 0 for none."""
    return next((number for number in range(len(heads), 0, -1) if any(heads[number - 1] in some for some in among)), 0)


def continued(video: dict[str, Any], taken: Collection[str], forgotten: Collection[str]) -> dict[str, Any]:
    """A row of schema.VIDEO that begins behind the first images that were taken in, or forgotten, under one of these ids, and says so."""
    heads = video["heads"] or []
    number = known(heads, taken, forgotten)
    if not number or video["reason"] is not None:
        return video | {"heads": None}  # they have done their part
    head = heads[number - 1]
    images, how = "image was" if number == 1 else f"{number} images were", "forgotten" if head in forgotten else "taken in before"
    return video | {"heads": None, "start": number, "detail": f"Its first {images} {how}, under the id {head}."}
