import pickle
import threading
import time
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from engine import loader, pictures, schema
from engine.loader import Share
from engine.store import PatchStore
from tests import rows


def as_bytes(positions):
    return [str(position).encode() for position in positions]


def see(jpeg, key):
    return (*key, int(jpeg))


@st.composite
def epochs(draw):
    """Images, images per process and batch, processes, seed."""
    processes = draw(st.integers(1, 4))
    return draw(st.integers(0, 60)), draw(st.integers(1, 7)) * processes, draw(st.integers(0, 3)), processes


def shares(count, batch, seed, processes):
    return [Share(count, batch, seed, index, processes) for index in range(processes)]


@given(epochs(), st.integers(0, 2))
def test_all_processes_together_see_every_image_once_but_for_what_does_not_split(asked, epoch):
    seen = [[key for keys in share.batches(epoch) for key in keys] for share in shares(*asked)]
    count, batch, _, processes = asked
    positions = sorted(position for keys in seen for _, position in keys)
    assert len(set(positions)) == len(positions)
    assert set(positions) <= set(range(count))
    assert len(positions) == count - count % batch % processes
    assert len({len(keys) for keys in seen}) == 1
    assert {told for keys in seen for told, _ in keys} <= {epoch}


@given(epochs(), st.integers(0, 2))
def test_the_global_batches_are_those_of_one_process(asked, epoch):
    count, batch, seed, processes = asked
    alone = list(Share(count, batch, seed).batches(epoch))
    together = zip(*[share.batches(epoch) for share in shares(*asked)], strict=True)
    for one, parts in zip(alone, together, strict=False):
        assert set().union(*parts) == set(one[: len(one) - len(one) % processes])


@given(epochs(), st.integers(0, 2))
def test_who_stands_in_for_others_has_their_images_one_worker_after_the_other(asked, epoch):
    count, batch, seed, workers = asked
    for processes in (some for some in range(1, workers + 1) if workers % some == 0):
        every = zip(*[Share(count, batch, seed, index, workers, workers).batches(epoch) for index in range(workers)], strict=True)
        there = zip(*[Share(count, batch, seed, index, processes, workers).batches(epoch) for index in range(processes)], strict=True)
        for parts, larger in zip(every, there, strict=True):
            each = workers // processes
            assert [list(chain(*parts[start : start + each])) for start in range(0, workers, each)] == list(larger)


@given(epochs(), st.integers(1, 5))
def test_numbers_that_do_not_divide_the_workers_share_evenly_what_those_would_have_had(asked, processes):
    count, batch, seed, workers = asked
    whole = list(Share(count, batch * processes, seed, 0, 1, workers).batches(0))
    there = list(
        zip(*[Share(count, batch * processes, seed, index, processes, workers).batches(0) for index in range(processes)], strict=True)
    )
    assert len(there) == len([keys for keys in whole if len(keys) >= processes])
    for keys, parts in zip(whole, there, strict=False):
        assert list(chain(*parts)) == keys[: len(keys) - len(keys) % processes]
        assert len({len(part) for part in parts}) == 1


@given(epochs(), st.integers(1, 4))
def test_the_parts_of_a_batch_are_those_that_all_workers_would_take_whoever_stands_in_for_them(asked, parts):
    """By numbers that divide the workers to the image; by others no part is of two, since one part is then cut between two processes."""
    count, batch, seed, workers = asked
    for processes in (some for some in range(1, workers + 1) if batch % some == 0):
        every, there = (cuts(Share(count, batch, seed, 0, some, workers), parts) for some in (workers, processes))
        for theirs, found in zip(every, there, strict=False):
            if workers % processes == 0:
                assert found == theirs
            assert all(any(set(part) <= set(one) for one in theirs) for part in found)


def cuts(share, parts):
    """The parts of every batch, those of all its processes one after the other."""
    every = [replace(share, index=index) for index in range(share.processes)]
    return [
        list(chain(*(one.cut(keys, parts) for one, keys in zip(every, batch, strict=True))))
        for batch in zip(*(one.batches(0) for one in every), strict=True)
    ]


def test_a_worker_cuts_its_images_into_parts_of_which_the_last_may_be_smaller():
    """Ten images of two workers in two parts each, by one process and by two; and a worker with fewer images than parts."""
    assert Share(10, 10, 0, 0, 1, 2).cut("abcdefghij", 2) == [list("abc"), list("de"), list("fgh"), list("ij")]
    assert Share(10, 10, 0, 1, 2, 2).cut("fghij", 2) == [list("fgh"), list("ij")]
    assert Share(10, 10, 0, 0, 1, 2).cut("ab", 4) == [["a"], ["b"]]
    assert Share(12, 6, 0, 1, 2, 3).cut("def", 1) == [["d"], ["e", "f"]]  # a third worker's two, and the other half of the second's


@given(epochs(), st.integers(0, 12))
def test_a_resumed_epoch_is_exactly_the_rest(asked, first):
    for share in shares(*asked):
        whole = list(share.batches(1))
        assert len(share) == len(whole)
        assert all(whole)
        assert list(share.batches(1, first)) == whole[first:]


def test_the_order_is_another_in_every_epoch_and_for_every_seed():
    orders = {tuple(p for keys in Share(50, 5, seed).batches(epoch) for _, p in keys) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_a_batch_that_does_not_split_and_a_process_that_is_not_there_are_refused():
    with pytest.raises(ValueError, match="a batch of 5 images does not split over 2 processes"):
        Share(10, 5, 0, 0, 2)
    with pytest.raises(ValueError, match="process 2 is none of 0 to 1"):
        Share(10, 4, 0, 2, 2)


@given(epochs(), st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_what_threads_make_is_what_a_plain_loop_makes(asked, first):
    for share in shares(*asked):
        plain = [[(*key, key[1]) for key in keys] for keys in share.batches(2, first)]
        assert list(loader.load(as_bytes, see, share, 2, first)) == plain


def test_batches_of_many_parts_come_out_whole_and_in_order_whichever_thread_is_slow():
    def slow(jpeg, key):
        time.sleep(0.002 * (key[1] % 3))
        return key

    share = Share(150, 50, 0)
    assert list(loader.load(as_bytes, slow, share, 0)) == list(share.batches(0))


class Counting:
    """Counts what is read; fails at the batch of number `fails`."""

    def __init__(self, fails=None):
        self.read, self.batches, self.fails, self.lock = 0, 0, fails, threading.Lock()

    def __call__(self, positions):
        with self.lock:
            self.read, self.batches = self.read + len(positions), self.batches + 1
            if self.batches - 1 == self.fails:
                raise OSError("the disk is gone")
        return as_bytes(positions)


def test_what_is_read_ahead_is_bounded():
    read, seen = Counting(), []
    batches = loader.load(read, lambda jpeg, key: seen.append(key), Share(10_000, 20, 0), 0)
    next(batches)
    time.sleep(0.3)  # time enough to read all of it
    ahead = 20 + loader.PART * (2 * loader.THREADS + 3)
    assert len(seen) <= 20 + ahead
    assert read.read <= 20 + ahead + 20 * (loader.READERS + 1)
    batches.close()


def test_threads_end_with_the_loop_that_they_work_for():
    before = threading.active_count()
    batches = loader.load(as_bytes, see, Share(10_000, 20, 0), 0)
    next(batches)
    assert threading.active_count() > before
    del batches
    assert threading.active_count() == before


def test_an_error_of_the_reader_and_of_the_decoder_reaches_the_loop():
    with pytest.raises(OSError, match="the disk is gone"):
        list(loader.load(Counting(fails=3), see, Share(100, 5, 0), 0))
    with pytest.raises(ValueError, match="are not a picture"):
        list(loader.load(as_bytes, lambda jpeg, key: pictures.decode(jpeg), Share(100, 5, 0), 0))


def test_decoding_is_spread_over_threads():
    together = threading.Barrier(2, timeout=10)

    def meet(jpeg, key):
        if key[1] < 2:
            together.wait()
        return key

    share = next(share for seed in range(999) if split_up(share := Share(2 * loader.PART, 2 * loader.PART, seed)))
    assert len(list(loader.load(as_bytes, meet, share, 0))) == 1


def split_up(share):
    """Whether the images 0 and 1 fall to two parts of the first batch."""
    order = [position for _, position in next(share.batches(0))]
    return (order.index(0) < loader.PART) != (order.index(1) < loader.PART)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("loader") / "store"))
    made.create(rows.WIDTH)
    one = {"selection_id": "s", "method": "random", "budget": 0.5, "retained": 0.4, "seed": 0, "patches_version": 1}
    chosen = [one | {"rank": 0, "patch_id": "p", "weight": 1.0, "bytes": 3, "unit": "bytes", "embedding": ""}]
    whole = {"patch_ids": ["a", "b", "c", "d"], "height": 32, "width": 40, "bytes": 3, "selection_id": "s", "layout": ""}
    images = [whole | {"image_id": f"i{p}", "position": p, "pixels": pictures.encode(rows.picture(p), 95)} for p in range(23)]
    made.save(pa.Table.from_pylist(chosen, schema.SELECTION), [pa.Table.from_pylist(images, schema.IMAGE)])
    return made


def drawn(seed, jpeg, key):
    """The pixels that chance picks of a picture, and the picture's place."""
    rng = np.random.default_rng([seed, *key])
    return pictures.decode(jpeg)[rng.integers(0, 32, 5), rng.integers(0, 40, 5)], key[1]


@pytest.mark.processes
def test_torchs_dataloader_with_spawned_workers_gives_what_threads_give(store):
    read, share = store.reader("s"), Share(23, 4, 7)
    order, images = loader.Order(share), loader.Images(read, partial(drawn, 7))
    data = DataLoader(images, batch_sampler=order, num_workers=2, multiprocessing_context="spawn", persistent_workers=True)
    for epoch, first in ((0, 0), (1, 0), (1, 3)):
        order.begin(epoch, first)
        threaded = list(loader.load(read, partial(drawn, 7), share, epoch, first))
        processed = list(data)
        assert len(processed) == len(data) == len(threaded) == 6 - first
        for (pixels, positions), batch in zip(processed, threaded, strict=True):
            assert positions.tolist() == [position for _, position in batch]
            assert torch.equal(pixels, torch.from_numpy(np.stack([view for view, _ in batch])))


def test_many_threads_may_open_and_read_one_reader(store):
    expected = store.reader("s")([3, 1])
    for _ in range(5):
        reader = pickle.loads(pickle.dumps(store.reader("s")))
        assert list(loader.ahead([[3, 1]] * 16, reader, 8, 16)) == [expected] * 16


def test_a_reader_that_was_used_pickles_as_an_address(store):
    reader = store.reader("s")
    reader([0])
    assert len(pickle.dumps(reader)) < 1000


def test_a_single_image_is_seen_as_in_its_batch(store):
    images = loader.Images(store.reader("s"), partial(drawn, 7))
    keys = [(0, 5), (0, 2)]
    assert [images[key][0].tolist() for key in keys] == [view.tolist() for view, _ in images.__getitems__(keys)]
