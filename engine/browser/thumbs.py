"""A part of a view as it travels to the page: what its rows say, and their pictures small enough to scroll through."""

import json

import cv2
import numpy as np

from engine.browser.cells import plain
from engine.browser.looks import View
from engine.refusals import RefusedError

LEAST = 160  # px: of a picture whose sides are all twice as long, half is sent, and so on
MOST = 240  # rows at a time
QUALITY = 85  # of the smaller picture
HALVED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
SHOWN = {
    "patches": ["patch_id", "video_id", "time_ms", "difficulty", "variance", "black", "glare", "foreign", "box", "height", "width"],
    "frames": ["frame_id", "video_id", "time_ms", "reason", "detail", "sharpness", "brightness", "glare", "tissue", "change", "patches"],
}


def part(view: View, first: int, count: int) -> bytes:
    """Rows of a view from the `first` on: 4 bytes with the length of a JSON, the JSON, and the JPEGs whose lengths it tells.

    Rejected frames have no pictures: the store keeps none of them. RefusedError for a part that cannot be.
    """
    if first < 0 or not 0 < count <= MOST:
        raise RefusedError(f"rows {first} and {count} on are no part of a view; {MOST} rows at most are sent at a time")
    table = view.asked.table
    columns = [*SHOWN[table], *(["pixels"] if table == "patches" else [])]
    rows = view.sheet.take(view.rows[first : first + count], columns)
    jpegs = [
        small(row.pop("pixels"), max(row["height"], row["width"]), min(row["height"], row["width"])) for row in rows if "pixels" in row
    ]
    told = {"rows": plain(rows), "sizes": [len(jpeg) for jpeg in jpegs]}
    head = json.dumps(told, ensure_ascii=False).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, *jpegs])


def small(jpeg: bytes, longer: int, shorter: int) -> bytes:
    """The picture at half its size, or less, where that is enough to look at; as it is stored else, or where it cannot be decoded."""
    times = next((one for one in (8, 4, 2) if longer >= one * LEAST and shorter >= one * LEAST // 2), 1)
    if times == 1:
        return jpeg
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), HALVED[times])
    if picture is None:
        return jpeg
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
