"""The tables as Arrow schemas; a stage declares what it reads and writes, and every batch is checked.

Rows travel through the whole flow, rejected ones too: a row whose `patch_id` is null is the verdict on a frame, a row whose
`frame_id` is null the verdict on a video, and `reason` says in one word why nothing of it was kept. Lengths are pixels, times
milliseconds, colours 8-bit RGB, boxes `y0, x0, y1, x1` (half open).
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import pyarrow as pa

VERSION = 4  # of the stored tables; the job maintain migrates older ones, a newer one is refused with a sentence
PATCHES_PER_IMAGE = 4  # OptiDEL: M = 4, two by two; other settings of the synthesis may say otherwise
FRAME_PROPOSER = "frame"  # of a patch that is all of a frame: see patches.whole_frames

BOX = pa.list_(pa.int32(), 4)  # y0, x0, y1, x1 in pixels of the source video, half open


def text(name: str, nullable: bool = True) -> pa.Field:
    """A column of text."""
    return pa.field(name, pa.string(), nullable)


SOURCE = pa.schema(
    [
        text("uri", nullable=False),
        pa.field("size", pa.int64(), False),  # bytes; of an image folder: their sum
        text("modified", nullable=False),  # time stamp or etag as the file system tells it; "" where it tells none
    ]
)

VERDICT = [
    text("reason"),  # one word or two, counted in reports; null: kept
    text("detail"),  # the sentence behind it; never holds a path or a name
]

# Of a folder of images, on its way only (see growth.py): the ids that it had with its first image, its first two, and so on; the number of
# the first image that is not known, null: 0; that of the last one before it that was kept, null: there is none.
GROWTH = [pa.field("heads", pa.list_(pa.string())), pa.field("start", pa.int64()), pa.field("before", pa.int64())]
VIDEO = pa.schema([text("video_id", nullable=False), *SOURCE, *VERDICT, *GROWTH])

MOMENT = [
    text("video_id", nullable=False),  # sha256 of the bytes, 32 hex digits
    text("frame_id"),  # video_id@milliseconds; null: the row is about the whole video
    pa.field("time_ms", pa.int64()),  # presentation time, rounded down
    pa.field("pts", pa.int64()),  # presentation time, exact: pts * time_base seconds
    text("time_base"),  # "1/12800"
]

QUALITY = [
    pa.field("sharpness", pa.float32()),  # variance of the Laplacian of the grey frame scaled to 256 px
    pa.field("brightness", pa.float32()),  # mean of the grey frame, 0 to 1
    pa.field("glare", pa.float32()),  # share of blown-out pixels
    pa.field("tissue", pa.float32()),  # share of pixels with the colour of mucosa
    pa.field("change", pa.float32()),  # mean absolute difference to the last kept frame, 0 to 1
]

# Of a frame its patches, of a video its frames: by it whoever collects the rows, which come in any order, knows when all of them are there.
EXPECTED = pa.field("expected", pa.int32())

FRAME = pa.schema(
    [
        *MOMENT,
        pa.field("content", BOX),  # the endoscope's picture inside the source frame; all else was cut
        pa.field("frame_height", pa.int32()),  # of `image`: the content, scaled down to frames.longest_side
        pa.field("frame_width", pa.int32()),
        *QUALITY,
        *VERDICT,
        pa.field("image", pa.large_binary()),  # frame_height x frame_width x 3 RGB bytes; null when rejected
        EXPECTED,
    ]
)

REGION = [
    text("patch_id"),  # frame_id:y0,x0,y1,x1:proposer-settings; null: the row is about the whole frame
    pa.field("box", BOX),
    pa.field("area", pa.int64()),  # of the mask, in pixels of the source video
    pa.field("predicted_iou", pa.float32()),  # 0 to 1, by the proposer's own head; null where it has none
    pa.field("stability", pa.float32()),  # 0 to 1; null where the proposer has no logits
    text("proposer"),
    text("settings"),  # hash of the proposer's settings and weights
    pa.field("height", pa.int32()),  # of the decoded `pixels`
    pa.field("width", pa.int32()),
    pa.field("bytes", pa.int32()),  # length of `pixels`: what a budget counts
]

SCORE = [
    pa.field("difficulty", pa.float32()),  # mean squared rebuild error, or SimCLR's loss in nats: see difficulty.py
    pa.field("embedding", pa.list_(pa.float16(), 1)),  # mean token or pooled features; the width is the scorer's
    text("scorer"),  # hash of the scorer's weights and settings
]

# What the picture shows, whatever the scorer: see appearance.py. On its way a patch carries it as one column, because the `glare` of
# its frame travels in the same row; the stored patches have the four apart.
APPEARANCE = [
    pa.field("variance", pa.float32()),  # squared error of the best constant picture, in units of the rebuild error
    pa.field("black", pa.float32()),  # share of hidden pixels: border, insets, text
    pa.field("glare", pa.float32()),  # share of blown-out pixels
    pa.field("foreign", pa.float32()),  # share without the colour of mucosa of all that is neither: metal, insets, letters
]
SEEN = pa.field("appearance", pa.struct(APPEARANCE))

PIXELS = pa.field("pixels", pa.large_binary())  # JPEG
MASK = pa.field("mask", pa.binary())  # of the region, inside `box`: COCO's compressed run lengths, see outlines.py; null: none was drawn
CARRIED = [field for field in FRAME if field.name not in ("image", "expected")]
PATCH = pa.schema([*CARRIED, *REGION, MASK, PIXELS, EXPECTED])
SCORED = pa.schema([*CARRIED, *REGION, *SCORE, SEEN, MASK, PIXELS, EXPECTED])

# What the store keeps: the same columns, each fact once.
FRAMES_TABLE = pa.schema([*CARRIED, pa.field("patches", pa.int32(), False)])
WRITTEN = pa.schema([*FRAMES_TABLE, EXPECTED, text("fragment")])  # JSON of the Lance fragment; once per written fragment


def patches_table(width: int) -> pa.Schema:
    """The stored patches for embeddings of `width` numbers."""
    score = [SCORE[0], pa.field("embedding", pa.list_(pa.float16(), width)), SCORE[2]]
    size = [pa.field("frame_height", pa.int32()), pa.field("frame_width", pa.int32())]
    return pa.schema([*MOMENT, *size, *REGION, *score, PIXELS, *APPEARANCE, MASK])


def scores_table(width: int) -> pa.Schema:
    """What another scorer says of stored patches; the difficulty is null where it only makes embeddings."""
    return pa.schema([text("patch_id", nullable=False), SCORE[0], pa.field("embedding", pa.list_(pa.float16(), width))])


SCORES = scores_table(1)  # of any width


def clustering_table(width: int) -> pa.Schema:
    """Of pool.Clustering: a row for every patch, one for every cluster, without a key, and one of label -1 for what was compared anew."""
    of_patches = [pa.field("key", pa.uint64()), text("video_id")]  # the key is a hash of the patch's id: rows.hashed
    of_patches += [pa.field(name, pa.float32()) for name in ("nearness", "order", "likeness", "reach")]
    counts = [pa.field(name, pa.int64()) for name in ("members", "fitted", "patches_version")]
    of_clusters = [pa.field("centroid", pa.list_(pa.float32(), width)), *counts, pa.field("level", pa.float32())]  # the last three alike
    return pa.schema([pa.field("label", pa.int32(), False), *of_patches, *of_clusters])


def rounded_table(width: int) -> pa.Schema:
    """Embeddings as they are compared (clusters.whole), of the patches that a choice compared."""
    return pa.schema([pa.field("key", pa.uint64(), False), text("video_id"), pa.field("embedding", pa.list_(pa.int16(), width), False)])


# Sums in a sketch of an embedding (engine/sketches.py), our choice: of 192 numbers of noise around their centroid one pair in eight hundred
# is so near by 64 that it is looked at, by 32 every other one.
SKETCH = 64
PLACES = pa.schema([pa.field("places", pa.list_(pa.int64()), False)])  # in the patch table; a row are those that are read together
STORED = pa.schema([text("patch_id"), PIXELS])  # of a patch what any model needs

VIDEOS_TABLE = pa.schema(
    [
        *(field for field in VIDEO if field not in GROWTH),
        pa.field("frames", pa.int64(), False),  # sampled
        pa.field("kept", pa.int64(), False),  # frames that passed the gate
        pa.field("patches", pa.int64(), False),
        pa.field("patches_version", pa.int64(), False),  # of the patch table that holds them: readers go by this
        text("ingested_at", nullable=False),  # UTC, ISO 8601
        text("fingerprint", nullable=False),  # of the configuration
        text("commit", nullable=False),  # of the code
    ]
)

SELECTION = pa.schema(
    [
        text("selection_id", nullable=False),  # method and hash of the settings and the ranked patch ids
        text("method", nullable=False),
        pa.field("budget", pa.float64(), False),  # how much was asked for, in units of `unit`
        pa.field("retained", pa.float64(), False),  # share of the stored bytes taken
        pa.field("seed", pa.int64(), False),
        pa.field("patches_version", pa.int64(), False),
        pa.field("rank", pa.int64(), False),  # 0 is the first choice
        text("patch_id", nullable=False),
        pa.field("weight", pa.float64(), False),  # how often it counts in a training set; 1 where the method weighs nothing
        pa.field("bytes", pa.int32(), False),
        text("unit", nullable=False),  # of the budget; "bytes": share of the stored ones
        text("embedding", nullable=False),  # whose vectors were compared, a name of the store's scorers; "": those of the patch table
    ]
)

IMAGE = pa.schema(
    [
        text("image_id", nullable=False),  # hash of its patch ids and its layout
        text("selection_id", nullable=False),
        pa.field("position", pa.int64(), False),  # 0 holds the first choice
        pa.field("patch_ids", pa.list_(pa.string()), False),  # reading order: left to right, then down
        text("layout", nullable=False),  # JSON of the settings of the synthesis; "" where they are the paper's
        *(pa.field(name, pa.int32(), False) for name in ("height", "width", "bytes")),
        PIXELS,
    ]
)

# A cell of a matrix of the job benchmark: a training set, the model it pre-trained, and how that did on one data set. Of a cell that
# failed there is what stands before `reason`; of no pre-training there is no pool and no selection, and its budget is 0.
RESULT = pa.schema(
    [
        text("fingerprint", nullable=False),  # of all that decides the result: settings, seed, what the pool holds, and the test data
        text("matrix", nullable=False),
        text("protocol", nullable=False),  # hash of what all methods share: the recipes, and every byte of the test data
        *(text(name, nullable=False) for name in ("architecture", "method", "pool")),
        pa.field("budget", pa.float64(), False),
        pa.field("seed", pa.int64(), False),
        text("dataset", nullable=False),
        text("model", nullable=False),  # the same in all cells that share one; behind its dash what the pool held
        text("at", nullable=False),  # UTC, ISO 8601
        text("commit", nullable=False),  # of the code
        text("reason"),  # why there is no result; null: there is one
        text("setting"),  # a sentence: what was trained and tested on, and how
        text("selection"),
        text("run"),  # of MLflow
        pa.field("retained", pa.float64()),  # what NormDEL counts: the budget where it is a share, as in the papers, else that of the bytes
        pa.field("images", pa.int64()),  # trained on in pre-training
        pa.field("miou", pa.float64()),
        text("metrics"),  # JSON: all that was measured on the data set
        text("measures"),  # JSON: what the selection was judged by, and the mean difficulty of its patches
        pa.field("names", pa.list_(pa.string())),  # of the test images
        # Of each the four counts of pixels of every class, one after the other: see scores.counted.
        pa.field("counts", pa.list_(pa.int64())),
        pa.field("choose_s", pa.float64()),  # seconds; null: it was chosen before
        pa.field("images_per_s", pa.float64()),  # of the pre-training, the median of its epochs
        text("unit"),  # of the budget; "": no pre-training; null: of before it was told. Last, since older tables get it behind the others
    ]
)

# What was done to the store that is no intake: who asked what and when, for the audit. `subject` is an id, never a path.
JOURNAL = pa.schema(
    [
        text("at", nullable=False),  # UTC, ISO 8601
        text("job", nullable=False),
        text("subject", nullable=False),
        text("detail", nullable=False),  # JSON
        text("commit", nullable=False),  # of the code
    ]
)

# What the job watch is about to take in, written before it tries: what is there after a death was under way. It names no source.
ATTEMPTS = pa.schema(
    [
        pa.field("key", pa.string(), False, metadata={"lance-schema:unenforced-primary-key": "true"}),  # see attempts.of
        pa.field("tries", pa.int64(), False),  # alone, since it was last taken in or abandoned by will; 0: with others
        text("at", nullable=False),  # UTC, ISO 8601: of the last try
    ]
)

# What a person says of a patch in the browser, a row for each tag; `at` is UTC, ISO 8601.
TAG = pa.schema([text(name, nullable=False) for name in ("patch_id", "video_id", "tag", "at")])

LOCKS = pa.schema(
    [
        # With this mark Lance lets only one of many insert the same name; without it each of them does.
        pa.field("name", pa.string(), False, metadata={"lance-schema:unenforced-primary-key": "true"}),
        text("owner", nullable=False),  # host/process/random
        pa.field("until", pa.float64(), False),  # seconds since 1970; later it is anybody's
    ]
)


def video_of(patch_id: str) -> str:
    """The id of the video that a patch, or a frame, is of."""
    return patch_id.partition("@")[0]


def check(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Return `table` with the columns of `schema` in its order; ValueError names what is missing or of another type."""
    if missing := [name for name in schema.names if name not in table.column_names]:
        raise ValueError(f"{where}: the columns {missing} are missing; found {table.column_names}")
    for field in schema:
        found = table.schema.field(field.name).type
        if not same_type(field.type, found):
            raise ValueError(f"{where}: column {field.name} is {found}, expected {field.type}")
    return table.select(schema.names)


def same_type(declared: pa.DataType, found: pa.DataType) -> bool:
    """Equal, or embeddings of two widths: the width is the scorer's to choose."""
    if pa.types.is_fixed_size_list(declared) and pa.types.is_fixed_size_list(found) and declared.list_size == 1:
        return bool(declared.value_type == found.value_type)
    return bool(declared == found)


def stage(reads: pa.Schema, writes: pa.Schema) -> Callable[[type], type]:
    """Check every table that goes into and comes out of a stage against what it declares.

    The stage's `__call__` takes one table and returns one, or yields several; the wrapped one always yields tables.
    """

    def declare(work: type) -> type:
        bare = work.__call__

        @wraps(bare)
        def checked(self: Any, table: pa.Table) -> Iterator[pa.Table]:
            made = bare(self, check(table, reads, f"into {work.__name__}"))
            for out in [made] if isinstance(made, pa.Table) else made:
                yield check(out, writes, f"out of {work.__name__}")

        work.__call__ = checked  # type: ignore[method-assign]
        work.reads, work.writes = reads, writes  # type: ignore[attr-defined]
        return work

    return declare
