"""A view for other programs, as a zip that is made while it is sent: FiftyOne's and COCO's layouts, and a plain folder.

Pictures are the patches as they are stored. Ids may hold anything, so files are named by a number and what is harmless of the id.
"""

import base64
import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from engine import outlines
from engine.browser.cells import plain
from engine.browser.looks import View
from engine.pictures import Mask, bounds
from engine.refusals import RefusedError

AT_ONCE = 256  # patches in memory
HARMLESS = re.compile(r"[^A-Za-z0-9_.-]+")
COLUMNS = [
    "patch_id",
    "video_id",
    "time_ms",
    "box",
    "difficulty",
    "proposer",
    "height",
    "width",
    "bytes",
    "variance",
    "black",
    "glare",
    "foreign",
]
Row = Mapping[str, Any]
FIELDS = {  # what FiftyOne is to make of each: it refuses samples with a field that its metadata does not name
    "id": "ObjectIdField",
    "filepath": "StringField",
    "tags": "ListField(fiftyone.core.fields.StringField)",
    "metadata": "EmbeddedDocumentField(fiftyone.core.metadata.ImageMetadata)",
    "proposer": "EmbeddedDocumentField(fiftyone.core.labels.Classification)",
    "region": "EmbeddedDocumentField(fiftyone.core.labels.Detections)",
    **dict.fromkeys(("patch_id", "video_id"), "StringField"),
    "time_ms": "IntField",
    "box": "ListField(fiftyone.core.fields.IntField)",
    **dict.fromkeys(("difficulty", "variance", "black", "glare", "foreign"), "FloatField"),
}


class Pipe(io.RawIOBase):
    """What was written since it was last emptied; a zip is written into it and sent on."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def writable(self) -> bool:
        """Always: for zipfile, which asks before it writes."""
        return True

    def write(self, content: Any) -> int:
        """Keep what is written; how many bytes that was, as a file says it."""
        self.held.append(bytes(content))
        return len(content)

    def emptied(self) -> bytes:
        """What was written since this was last called; the pipe is empty then."""
        content, self.held = b"".join(self.held), []
        return content


def zipped(view: View, layout: str, tags: Mapping[str, list[str]]) -> Iterator[bytes]:
    """The bytes of a zip with the patches of a view; `tags` are theirs by id. RefusedError for a layout there is none of."""
    if layout not in LAYOUTS or view.asked.table != "patches":
        raise RefusedError(f"there is no export {layout[:40]!r} of {view.asked.table}; of patches there are {', '.join(LAYOUTS)}")
    return parts(view, layout, tags)


def parts(view: View, layout: str, tags: Mapping[str, list[str]]) -> Iterator[bytes]:
    """The bytes of the zip, AT_ONCE pictures at a time, whose pixels alone are in memory; `tags` by patch id."""
    pipe, rows = Pipe(), []
    folder, described = LAYOUTS[layout]
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # JPEGs do not become smaller
        for start in range(0, len(view.rows), AT_ONCE):
            for number, row in enumerate(view.sheet.take(view.rows[start : start + AT_ONCE], [*COLUMNS, "mask", "pixels"]), start):
                name = f"{number:07d}-{HARMLESS.sub('_', row['patch_id'])[:120]}.jpg"
                archive.writestr(zipfile.ZipInfo(f"{folder}/{name}"), row.pop("pixels"))
                runs = row.pop("mask")  # as short as they came: a view may have a million
                rows.append(plain(row, int) | {"file": name, "tags": tags.get(row["patch_id"], []), "mask": runs})
            yield pipe.emptied()
        for name, content in described(rows).items():
            archive.writestr(zipfile.ZipInfo(name), content)
    yield pipe.emptied()


def as_folder(rows: list[dict[str, Any]]) -> dict[str, str]:
    """A CSV beside the pictures; boxes have blanks between their numbers, and tags, which may hold blanks, a semicolon."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", *COLUMNS, "tags"], extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        joined = {"box": " ".join(map(str, row["box"])), "tags": ";".join(row["tags"])}
        writer.writerow({name: harmless(value) for name, value in (row | joined).items()})
    return {"patches.csv": text.getvalue()}


def harmless(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def as_coco(rows: list[dict[str, Any]]) -> dict[str, str]:
    """A picture for each patch, and on it the mask of its region, or all of it where there is none, as of the category that proposed it.

    Where the picture was in the source is `source_box` (y0, x0, y1, x1).
    """
    kinds = {name: number for number, name in enumerate(sorted({row["proposer"] for row in rows}), 1)}
    images = [
        {"id": number, "file_name": row["file"], "height": row["height"], "width": row["width"]}
        | {name: row[name] for name in ("patch_id", "video_id", "time_ms", "difficulty", "tags")}
        for number, row in enumerate(rows, 1)
    ]
    annotations = [
        {"id": number, "image_id": number, "category_id": kinds[row["proposer"]], "iscrowd": 0, "source_box": row["box"]} | outlined(row)
        for number, row in enumerate(rows, 1)
    ]
    categories = [{"id": number, "name": name, "supercategory": "patch"} for name, number in kinds.items()]
    whole = {"info": {"description": "patches of endocurate"}, "licenses": [], "images": images, "annotations": annotations}
    return {"labels.json": json.dumps(whole | {"categories": categories}, ensure_ascii=False)}


def outlined(row: Row) -> dict[str, Any]:
    """What of a patch's picture is its region, in COCO's words: all of it where no mask was drawn."""
    found, high, wide = region(row), row["height"], row["width"]
    if found is None:
        return {"bbox": [0, 0, wide, high], "area": wide * high, "segmentation": [[0, 0, wide, 0, wide, high, 0, high]]}
    y0, x0, y1, x1 = bounds(found)
    runs = {"size": [high, wide], "counts": (outlines.packed(found) or b"").decode()}
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(found.sum()), "segmentation": runs}


def region(row: Row) -> Mask | None:
    """The mask of a patch in the pixels of its picture; None where there is none, or nothing of it in so small a picture."""
    if row["mask"] is None:
        return None
    found = outlines.resized(outlines.unpacked(row["mask"], row["box"]), (row["height"], row["width"]))
    return found if found.any() else None


def detected(row: Row) -> dict[str, Any]:
    """The same in FiftyOne's words: shares of the picture, and what lies in the box as it keeps arrays, NumPy's format through zlib."""
    found = region(row)
    if found is None:
        return {}
    y0, x0, y1, x1 = bounds(found)
    array = io.BytesIO()
    np.save(array, found[y0:y1, x0:x1])
    held = {"$binary": {"base64": base64.b64encode(zlib.compress(array.getvalue())).decode(), "subType": "00"}}
    high, wide = row["height"], row["width"]
    one = {"_cls": "Detection", "label": row["proposer"], "bounding_box": [x0 / wide, y0 / high, (x1 - x0) / wide, (y1 - y0) / high]}
    return {"region": {"_cls": "Detections", "detections": [one | {"mask": held, "tags": [], "attributes": {}}]}}


def as_fiftyone(rows: list[dict[str, Any]]) -> dict[str, str]:
    """FiftyOne's JSON dataset: `fo.Dataset.from_dir(folder, dataset_type=fo.types.LegacyFiftyOneDataset)`."""
    samples = [
        {
            "filepath": f"data/{row['file']}",
            "tags": row["tags"],
            "_media_type": "image",
            "metadata": {"_cls": "ImageMetadata", "size_bytes": row["bytes"], "mime_type": "image/jpeg"}
            | {"width": row["width"], "height": row["height"], "num_channels": 3},
            "proposer": {"_cls": "Classification", "label": row["proposer"], "tags": []},
        }
        | {name: row[name] for name in COLUMNS if name not in ("proposer", "height", "width", "bytes")}
        | detected(row)
        for row in rows
    ]
    fields = {name: f"fiftyone.core.fields.{kind}" for name, kind in FIELDS.items()}
    about = {"name": "endocurate", "media_type": "image", "sample_fields": fields, "info": {"columns": COLUMNS}}
    return {"metadata.json": json.dumps(about), "samples.json": json.dumps({"samples": samples}, ensure_ascii=False)}


Describe = Callable[[list[dict[str, Any]]], dict[str, str]]
LAYOUTS: dict[str, tuple[str, Describe]] = {"folder": ("patches", as_folder), "coco": ("data", as_coco), "fiftyone": ("data", as_fiftyone)}
