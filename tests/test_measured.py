"""What drift takes from videos: the very rows of the tables, however much of it an earlier look had read."""

from collections import Counter

import numpy as np
import pytest

from engine import clusters
from engine.pool import Clustering, Held, Pool
from engine.store import PatchStore, parts
from jobs import judging, measured
from tests import rows
from tests.test_after import DAYS, take_in, video


@pytest.fixture(autouse=True)
def as_a_process_begins():
    measured.KNOWN.clear()
    parts.VIDEOS.known.clear()


@pytest.fixture
def store(tmp_path):
    """Nine videos, clusters that six of them are in, and a merge of files in between."""
    made = PatchStore(f"{tmp_path}/store")
    made.create(rows.WIDTH)
    take_in(made, range(3), DAYS[0])
    take_in(made, range(3, 6), DAYS[1])
    made.open("patches").optimize.compact_files()
    cluster(made, 3)
    take_in(made, range(6, 9), DAYS[2])
    return made


def cluster(store, count):
    pool = store.patches(["patch_id"])
    vectors, nothing = store.vectors(store.complete_version()), np.full(len(pool), np.nan, np.float32)
    centroids = clusters.fit(vectors, count, np.arange(len(pool), dtype=np.uint64), 5)
    labels, near = clusters.assigned(vectors, centroids)
    found = Clustering(centroids, len(pool), labels, near, nothing, nothing, np.zeros(count, np.int64), nothing)
    store.keep(judging.KINDS, Pool(pool), found, store.complete_version())
    return centroids


def taken(store, numbers):
    """(video, value) of every column as it is taken, counted: order says nothing."""
    ids = [video(number) for number in numbers]
    found = {}
    for columns, owners in (measured.frames(store, ids), measured.patches(store, ids, store.complete_version())):
        for name, values in columns.items():
            assert len(values) == len(owners)
            found[name] = Counter((ids[owner], str(value)) for owner, value in zip(owners, values, strict=True))
    return found


def by_definition(store, numbers, centroids):
    ids = {video(number) for number in numbers}
    frames = [row for row in store.open("frames").to_table().to_pylist() if row["video_id"] in ids]
    patches = [row for row in store.patches(["video_id", "difficulty", "embedding"]).to_pylist() if row["video_id"] in ids]
    labels, _ = clusters.assigned(Held(np.array([row["embedding"] for row in patches], np.float16)), centroids)
    found = {"reason": Counter((row["video_id"], row["reason"] or "kept") for row in frames)}
    for name in measured.MEASURED:
        values = [np.float32(np.nan if row[name] is None else row[name]) for row in frames]
        found[name] = Counter((row["video_id"], str(value)) for row, value in zip(frames, values, strict=True))
    found["difficulty"] = Counter((row["video_id"], str(np.float32(row["difficulty"]))) for row in patches)
    found["label"] = Counter((row["video_id"], str(label)) for row, label in zip(patches, labels, strict=True))
    return found


@pytest.mark.parametrize("few", [0, measured.FEW])
def test_what_is_taken_is_what_the_tables_hold_whatever_was_looked_at_before(store, few, monkeypatch):
    monkeypatch.setattr(measured, "FEW", few)
    centroids = store_centroids(store)
    for numbers in ([0, 4, 7], [4, 7, 0], [1, 2, 8, 4], [4], range(9)):
        assert taken(store, numbers) == by_definition(store, numbers, centroids)
    again = cluster(store, 4)  # other clusters: nothing that is kept is by those of before
    assert taken(store, range(9)) == by_definition(store, range(9), again)


def store_centroids(store):
    return store.clustering(judging.KINDS, store.patches(["patch_id"])["patch_id"]).centroids


def test_a_look_reads_what_the_one_before_did_not(store, monkeypatch):
    read, whole = [], parts.rows
    monkeypatch.setattr(parts, "rows", lambda dataset, columns, videos: read.append(sorted(videos)) or whole(dataset, columns, videos))
    taken(store, [0, 1, 6])
    read.clear()
    taken(store, [0, 6, 7])
    assert {one for some in read for one in some} == {video(7)}
    read.clear()
    taken(store, [7, 0])
    assert read == []
    taken(store, [1])
    assert read  # it was let go
    assert {len(known) for _, known in measured.KNOWN.values()} == {1}


def test_rows_of_videos_come_from_the_files_that_have_them_and_from_no_other(store, monkeypatch):
    dataset, read = store.open("patches"), []
    assert len(dataset.get_fragments()) == 4  # three of one video each
    whole = parts.VIDEOS.read
    monkeypatch.setattr(parts.VIDEOS, "read", lambda fragment: read.append(fragment.fragment_id) or whole(fragment))
    for numbers in ([0], [7], [2, 8], [], [77]):
        ids = [video(number) for number in numbers]
        found = parts.rows(dataset, ["patch_id", "video_id"], ids).to_pylist()
        assert found == [row for row in dataset.to_table(columns=["patch_id", "video_id"]).to_pylist() if row["video_id"] in ids]
    assert len(read) == 4
    take_in(store, [9], DAYS[3])
    assert len(parts.rows(store.open("patches"), ["patch_id"], [video(9)])) == 8
    assert len(read) == 5
    store.forget(video(7))
    assert parts.rows(store.open("patches"), ["patch_id"], [video(7)]).num_rows == 0
    assert parts.rows(store.open("patches"), ["patch_id"], [video(8)]).num_rows == 8
