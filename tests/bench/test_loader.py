"""Random batches of training images: from a store, from a folder of JPEGs and from Parquet, both by torch's DataLoader; cold and warm.

Cold: the files were dropped from the page cache (posix_fadvise) just before; names and inodes of the folder's files stay, in its favour.
Contenders take turns in every round, and ratios are those of a round. BENCH_SCALE=0.1 is a quick run.
"""

import os
import random
import statistics
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from engine import loader, pictures, pretrain, schema
from engine.config import TrainConfig
from engine.loader import Share
from engine.models import MAEConfig
from engine.store import PatchStore
from tests.bench import rows

COUNT, SIDES = int(50_000 * rows.SCALE), (240, 280)  # images of about 20 kB
BATCH, BATCHES, DECODED, FEW = 256, 24, 6, 2  # images; batches a turn, with decoding, and where one takes a second
ROUNDS = 7
TRAINED = min(COUNT, 512)  # images of an epoch of training
LEAST = 0.95  # of the images a second from memory that a training from the store must have: the promise
VIT = MAEConfig(size="tiny", side=128, token=16, decoder_width=96, decoder_depth=2, decoder_heads=3)  # that of the recipe tiny
GROUP = 100  # rows of a row group, as image sets in Parquet have them: one is read for each image


class Folder:
    """The bytes of a folder's files, by position."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, positions):
        return [Path(self.folder, f"{position:06}.jpg").read_bytes() for position in positions]


class Groups:
    """The bytes of the rows of a Parquet file, by position."""

    def __init__(self, file):
        self.file = file

    def __getstate__(self):
        return {"file": self.file}

    def __call__(self, positions):
        if not hasattr(self, "opened"):
            self.opened = pq.ParquetFile(self.file)
        return [self.opened.read_row_group(p // GROUP, columns=["pixels"])["pixels"][p % GROUP].as_py() for p in positions]


def as_bytes(jpeg, key):
    return jpeg


def as_pixels(jpeg, key):
    """What every training run does at least."""
    return cv2.resize(pictures.decode(jpeg), (224, 224), interpolation=cv2.INTER_CUBIC)


def ours(read, see):
    """Batches from the engine's own loader, in threads of this process."""

    def batches(share, epoch, first):
        if see is as_bytes:
            return (jpegs for _, jpegs in loader.read_ahead(read, share.batches(epoch, first)))
        return (np.stack(seen) for seen in loader.load(read, see, share, epoch, first))

    return batches


def torchs(read, see, workers):
    """Batches from torch's DataLoader; its processes stay from turn to turn."""
    order = loader.Order(Share(COUNT, BATCH, 0))
    kept = {"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
    join = list if see is as_bytes else np.stack
    data = DataLoader(loader.Images(read, see), batch_sampler=order, num_workers=workers, collate_fn=join, **kept)

    def batches(share, epoch, first):
        order.begin(epoch, first)
        return iter(data)

    return batches


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The same images as a store, as a folder and as Parquet."""
    folder = tmp_path_factory.mktemp("images")
    rows.room_for(3.2 * rows.SCALE, folder)
    store = PatchStore(str(folder / "store"))
    store.create(8)
    (folder / "jpegs").mkdir()
    one = {"selection_id": "s", "method": "random", "budget": 0.5, "retained": 0.4, "seed": 0, "patches_version": 1}
    chosen = pa.Table.from_pylist(
        [one | {"rank": 0, "patch_id": "p", "weight": 1.0, "bytes": 3, "unit": "bytes", "embedding": ""}], schema.SELECTION
    )
    with pq.ParquetWriter(folder / "images.parquet", pa.schema([schema.PIXELS])) as parquet:
        store.save(chosen, (written(first, folder, parquet) for first in range(0, COUNT, 1000)))
    os.sync()
    return store, folder


def written(first, folder, parquet):
    """1000 images, also as files and as rows of the Parquet file; returns their rows (schema.IMAGE)."""
    count = min(1000, COUNT - first)
    pixels = rows.jpegs(count, first, SIDES, 90)
    for number, jpeg in enumerate(pixels, first):
        Path(folder, "jpegs", f"{number:06}.jpg").write_bytes(jpeg)
    parquet.write_table(pa.table({"pixels": pa.array(pixels, pa.large_binary())}), row_group_size=GROUP)
    whole = {"patch_ids": ["a", "b", "c", "d"], "height": SIDES[0], "width": SIDES[1], "selection_id": "s", "layout": ""}
    found = enumerate(pixels, first)
    made = [whole | {"image_id": str(n), "position": n, "bytes": len(jpeg), "pixels": jpeg} for n, jpeg in found]
    return pa.Table.from_pylist(made, schema.IMAGE)


def drop(path):
    """Take the files out of the page cache."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            opened = os.open(file, os.O_RDONLY)
            os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(opened)


def rate(batches, epoch, count):
    """Images per second over the last `count` batches of an epoch."""
    share = Share(COUNT, BATCH, 0)
    began = time.perf_counter()
    images = sum(len(batch) for batch in islice(batches(share, epoch, max(len(share) - count, 0)), count))
    return images / (time.perf_counter() - began)


@pytest.mark.bench
@pytest.mark.timeout(0)
@pytest.mark.parametrize("see", [as_bytes, as_pixels], ids=["bytes", "pixels"])
def test_random_batches(places, see):
    store, folder = places
    reader, files, groups = store.reader("s"), Folder(str(folder / "jpegs")), Groups(str(folder / "images.parquet"))
    assert reader([7, 3]) == files([7, 3]) == groups([7, 3])
    many, workers = (BATCHES, DECODED)[see is as_pixels], os.cpu_count()
    contenders = {
        "store, the engine's loader": (ours(reader, see), folder / "store" / "images.lance", many),
        f"store, DataLoader of {workers} processes": (torchs(reader, see, workers), folder / "store" / "images.lance", many),
        "folder, DataLoader of this process": (torchs(files, see, 0), folder / "jpegs", many),
        f"folder, DataLoader of {workers} processes": (torchs(files, see, workers), folder / "jpegs", many),
        "Parquet, DataLoader of this process": (torchs(groups, see, 0), folder / "images.parquet", FEW),
    }
    for batches, _, _ in contenders.values():
        rate(batches, 0, 2)  # processes start, tables open
    found = {(name, state): [] for name in contenders for state in ("cold", "warm")}
    for number in range(ROUNDS):
        for name, (batches, path, count) in sorted(contenders.items(), key=lambda item: hash((item[0], number))):
            drop(path)
            for state in ("cold", "warm"):  # the same images again
                found[name, state].append(rate(batches, number + 1, count))
    report(found, contenders, see)


def report(found, contenders, see):
    size = "decoded and scaled to 224 px" if see is as_pixels else "as bytes"
    print(f"\n\n{COUNT:,} images of {SIDES[0]}x{SIDES[1]}, random batches of {BATCH}, {size}; {rows.load()}")
    print(f"{'images/s, median of ' + str(ROUNDS):42}{'cold':>10}{'warm':>10}   least and most")
    for name in contenders:
        both = [found[name, state] for state in ("cold", "warm")]
        ranges = ", ".join(f"{min(one):,.0f} to {max(one):,.0f}" for one in both)
        print(f"{name:42}{statistics.median(both[0]):10,.0f}{statistics.median(both[1]):10,.0f}   {ranges}")
    mine = next(iter(contenders))
    for state in ("cold", "warm"):
        best = [max(rates) for rates in zip(*[found[name, state] for name in contenders if "folder" in name], strict=True)]
        ratios = [one / other for one, other in zip(found[mine, state], best, strict=True)]
        print(f"the engine's loader against the faster of the two folders, {state}: {statistics.median(ratios):.2f} (median of ratios)")


def trained(read):
    """Images a second of the second epoch of a training; in the first everything is met for the first time."""
    speeds = []
    config = TrainConfig(mae=VIT, epochs=2, warmup_epochs=0, batch=64, checkpoint_every=2)
    pretrain.fit(read, TRAINED, config, resume=None, report=lambda metrics, folder: speeds.append(metrics["images_per_s"]))
    return speeds[-1]


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_training_from_the_store_and_from_memory(places):
    """The bytes in memory are decoded and augmented just as those of the store: what differs is where they come from."""
    store, folder = places
    kept = Folder(str(folder / "jpegs"))(range(TRAINED))
    sources = {"store": store.reader("s"), "memory": lambda positions: [kept[position] for position in positions]}
    found = {name: [] for name in sources}
    for number in range(ROUNDS):
        for name in random.Random(number).sample(list(sources), 2):
            found[name].append(trained(sources[name]))
    ratios = [one / other for one, other in zip(found["store"], found["memory"], strict=True)]
    print(f"\n\nViT-{VIT.size} on {VIT.side} px, {TRAINED:,} images an epoch; {rows.load()}")
    for name, speeds in found.items():
        print(f"{name:8}{statistics.median(speeds):10,.0f} images/s, {min(speeds):,.0f} to {max(speeds):,.0f}")
    print(f"training from the store against from memory: {statistics.median(ratios):.3f} (median of {ROUNDS}), {min(ratios):.3f} least")
    assert statistics.median(ratios) >= LEAST
