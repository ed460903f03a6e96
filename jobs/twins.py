"""What the training images of a selection, and those of a data set itself, have in common with the images that a model is tested on."""

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby

import pyarrow as pa

from engine import datasets, files, leaks, pictures, schema, videos
from engine.datasets import Pair, Split
from engine.leaks import Grids, Leaks
from engine.store import PatchStore

log = logging.getLogger("jobs.twins")
PATCHES = 2048  # read at once
MOST = 10_000  # images of a set that are compared with each other: three minutes of a core


def between(store: PatchStore, selection_id: str, tested: Sequence[Pair]) -> Leaks:
    """The test images that look like frames the chosen patches come from; ValueError where a file that is tested on was ingested."""
    rows = store.ranked(selection_id, ["patch_id", "patches_version"])
    patch_ids = sorted(set(rows["patch_id"].to_pylist()))
    refuse_same(store, set(map(schema.video_of, patch_ids)), tested)
    grids = leaks.whole((pair.name, datasets.image_of(pair)) for pair in tested)
    parts = [leaks.between(frames, grids) for frames in trained_on(store, patch_ids, rows["patches_version"][0].as_py())]
    found = sorted((leak for part in parts for leak in part.found), key=lambda leak: -leak.likeness)
    made = Leaks(tuple(found), sum(part.unjudged for part in parts))
    if made.found:
        log.info("%d of %d test images have a near-duplicate among the frames that were trained on", made.tested, len(tested))
    return made


def refuse_same(store: PatchStore, ingested: Collection[str], tested: Sequence[Pair]) -> None:
    """ValueError where test images are among the ingested files, by video_id: a model that saw one is measured on its memory.

    A folder of images has one id for all that is in it, so its files are compared as they lie there now. Of a folder that is gone, or an
    image that was taken out of it, nobody knows the bytes any more: then only `between` tells, by what the images look like.
    """
    marks = {pair.image: videos.content_hash(str(pair.image)) for pair in tested}
    known = {*ingested, *in_folders(store, ingested, {image.stat().st_size for image in marks})}
    if both := [pair.image for pair in tested if marks[pair.image] in known]:
        raise ValueError(
            f"{len(both)} of {len(tested)} test images of evaluate.uri were ingested, byte for byte, the first is {both[0]}: "
            "ingest none that are tested on, or test on others"
        )


def in_folders(store: PatchStore, ingested: Collection[str], sizes: Collection[int]) -> set[str]:
    """The hashes, as long as a video_id, of the images of one of these sizes (bytes) in the folders of images that were ingested."""
    found, lost = set[str](), 0
    for uri in folders(store, ingested):
        fs, path = files.locate(uri)
        try:
            images = files.images_of(fs, path) if fs.isdir(path) else []
            lost += not images and not fs.exists(path)
            found |= {videos.file_hash(fs, image)[:32] for image in images if fs.size(image) in sizes}
        except files.unreadable():
            lost += 1
    if lost:
        log.warning("%d ingested sources that may be folders of images are gone: whether an image of theirs is tested on, byte for byte, "
                    "is not known", lost)  # fmt: skip
    return found


def folders(store: PatchStore, ingested: Collection[str]) -> list[str]:
    """The addresses of what of it may be a folder of images: their clock goes by seconds, so a million videos need not be asked."""
    slow = store.open("frames").to_table(columns=["video_id"], filter="time_base = '1/1'")["video_id"].unique().to_pylist()
    wanted = {*slow} & {*ingested}
    rows = store.ledger().select(["video_id", "uri"]).to_pylist() if wanted else []
    return [row["uri"] for row in rows if row["video_id"] in wanted]


def trained_on(store: PatchStore, patch_ids: Sequence[str], version: int) -> Iterator[Grids]:
    """The grids of the frames that patches, sorted by id, were cut from; in parts, the patches of a frame together."""
    content = {row["frame_id"]: row["content"] for row in store.open("frames").to_table(columns=["frame_id", "content"]).to_pylist()}
    offsets = store.offsets(patch_ids, version)
    for start in range(0, len(patch_ids), PATCHES):
        rows = store.take(offsets[start : start + PATCHES], ["frame_id", "patch_id", "box", "pixels"], version)
        yield leaks.joined(of_frames(rows, content))


def of_frames(rows: pa.Table, content: dict[str, list[int] | None]) -> Iterator[Grids]:
    """Grids of the patches of each frame, put back where they were in it; `content` are the frames' pictures by id."""
    for frame_id, patches in groupby(rows.to_pylist(), key=lambda row: str(row["frame_id"])):
        if where := content.get(frame_id):
            yield leaks.pieced(frame_id, [(pictures.patch(row["patch_id"], row["pixels"]), share(row["box"], where)) for row in patches])


def share(box: Sequence[int], content: Sequence[int]) -> tuple[float, float, float, float]:
    """A box in the picture of its frame, both in pixels of the source, as shares of that picture."""
    top, left, bottom, right = content
    y0, y1 = (min(max((edge - top) / (bottom - top), 0.0), 1.0) for edge in box[::2])
    x0, x1 = (min(max((edge - left) / (right - left), 0.0), 1.0) for edge in box[1::2])
    return y0, x0, y1, x1


def of_split(found: Leaks | None, tested: Sequence[Pair]) -> Leaks | None:
    """What of it concerns one split's test images."""
    names = {pair.name for pair in tested}
    return found._replace(found=tuple(leak for leak in found.found if leak.test in names)) if found else None


def within(splits: Mapping[int, Split]) -> dict[int, Leaks]:
    """Near-duplicates between the two parts of a set that tells no patients, by seed; {} where it tells them, or is too large to look.

    Such a set is parted by bytes alone, so moments of one scene may lie on both sides. About 18 ms of a core for an image of 256 px.
    """
    every = sorted({pair for split in splits.values() for pair in (*split.train, *split.test)})
    if all(pair.group for pair in every):
        return {}
    if len(every) > MOST:
        log.warning("the set tells no patients, and %d images are too many to look for near-duplicates among them", len(every))
        return {}
    grids = leaks.whole((pair.name, datasets.image_of(pair)) for pair in every)
    found = {seed: leaks.between(of_pairs(grids, split.train), of_pairs(grids, split.test)) for seed, split in splits.items()}
    for seed, one in found.items():
        if one.found:
            log.warning(
                "seed %d: %d of %d test images have a near-duplicate among the %d that are fine-tuned on, the first is %s beside %s; "
                "the set tells no patients, so they count",
                seed, one.tested, len(splits[seed].test), len(splits[seed].train), one.found[0].test, one.found[0].pool,
            )  # fmt: skip
    return found


def of_pairs(grids: Grids, pairs: Sequence[Pair]) -> Grids:
    """The grids of these pairs alone."""
    names = {pair.name for pair in pairs}
    places = [place for place, name in enumerate(grids.names) if name in names]
    return Grids(tuple(grids.names[place] for place in places), grids.values[places], grids.known[places])


def told(found: Leaks) -> bytes:
    """What was found, as JSON for a run to keep."""
    return json.dumps({"unjudged": found.unjudged, "twins": [leak._asdict() for leak in found.found]}).encode()
