"""What there is to take in below videos.uri, without the part of a known source that a test set holds."""

import logging
from collections.abc import Sequence

import pyarrow as pa

from engine import videos
from engine.datasets import sources
from engine.files import address, locate

log = logging.getLogger("jobs.found")


def find(uri: str, but: Sequence[str] = ()) -> pa.Table:
    """The sources at or below videos.uri (schema.SOURCE), by address; parts of a known source that are tested on are left out, and told of.
    So is what lies below one of `but`, in silence.

    They are known by the source's other parts beside them: a folder of such images that is named itself is taken in. FileNotFoundError or
    OSError as of videos.find.
    """
    found = videos.find(uri, but)
    root = address(*locate(uri)).rstrip("/") + "/"
    names = [name.removeprefix(root) for name in found["uri"].to_pylist()]
    held = sources.tested_on(names)
    kept = [not any(sources.is_within(name, folder) for folder in held) for name in names]
    if held:
        log.warning(
            "%s below videos.uri=%s are left out, as a test set holds these images; to take them in, name their folder itself",
            " and ".join(held), uri,
        )  # fmt: skip
    return found.filter(pa.array(kept, pa.bool_()))
