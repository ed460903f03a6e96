"""Training images for a training loop: in an order that (seed, epoch) fix, shared out over processes, read and decoded ahead in threads.

Where a run stands is told by two numbers, the epoch and how many of its batches are done; `first` begins there. Nothing else is to be
kept, and what was read ahead and not taken is read again. `load` is enough for plain torch; `Images` and `Order` fit torch's DataLoader.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

Key = tuple[int, int]  # epoch and position of an image: all that chance may depend on
Read = Callable[[Sequence[int]], list[bytes]]  # JPEG bytes of the images at these positions
Task = TypeVar("Task")
Done = TypeVar("Done")
Seen = TypeVar("Seen")

READERS = 2  # batches that are read at the same time: one waits for the disk while the other is copied
PART = 8  # images that one thread looks at in one go
THREADS = 8  # at most; beyond it decoding outruns any model
NAMED = 5  # images that a sentence names


@runtime_checkable
class Named(Protocol):
    """A `Read` that also knows what its images are called."""

    def ids(self, positions: Sequence[int]) -> list[str]:
        """The names of images at these positions."""


@dataclass(frozen=True)
class Share:
    """What process `index` of `processes` sees of `count` images: of every `batch` that all see together one run of images.

    `workers` is how many there would be if all were: a process that stands in for two of them has the images of both, in their order, and
    what does not split over all of them is left out whoever is there.
    """

    count: int
    batch: int
    seed: int
    index: int = 0
    processes: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        for some in (self.processes, self.workers):
            if some < 1 or self.batch < 1 or self.batch % some:
                raise ValueError(f"a batch of {self.batch} images does not split over {some} processes")
        if not 0 <= self.index < self.processes:
            raise ValueError(f"process {self.index} is none of 0 to {self.processes - 1}")

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.count // self.batch + (self.split(self.count % self.batch) > 0)

    def split(self, images: int) -> int:
        """How many of a batch a process gets: all the same, or they wait for each other for ever."""
        return (images - images % self.workers) // self.processes

    def batches(self, epoch: int, first: int = 0) -> Iterator[list[Key]]:
        """The batches of an epoch from number `first` on. All processes together see a permutation of the images.

        Fewer than `workers` images may be left out at the end, and fewer than `processes` more where these do not divide those. ValueError
        for a `first` below 0.
        """
        if first < 0:
            raise ValueError(f"a run cannot begin at batch {first}")
        order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        for start in range(first * self.batch, len(self) * self.batch, self.batch):
            together = order[start : start + self.batch]
            mine = self.split(len(together))
            yield [(epoch, position) for position in together[self.index * mine :][:mine].tolist()]

    def cut(self, batch: Sequence[Seen], parts: int) -> list[list[Seen]]:
        """What the process has of a batch as its workers would take it: each one's images in so many parts, but for the last all as large.

        No part holds images of two workers; one of a worker whose images two processes have is cut there, too.
        """
        each = math.ceil(len(batch) * self.processes / self.workers)  # a worker's images, if all are there
        size = math.ceil(each / parts)
        places = enumerate(batch, self.index * len(batch))  # in what all processes have
        return [[one for _, one in part] for _, part in groupby(places, lambda placed: (placed[0] // each, placed[0] % each // size))]


def load(read: Read, see: Callable[[bytes, Key], Seen], share: Share, epoch: int, first: int = 0) -> Iterator[list[Seen]]:
    """see(jpeg, key) of every image, batch by batch from number `first` on, made in threads while the caller is busy.

    About one batch and a few images per thread are made ahead, and two batches of bytes: of all that the process has of a batch, in however
    many parts it is taken then, so that one that stands in for others holds their images in the machine's memory, too.
    """
    threads = min(THREADS, os.cpu_count() or 1)
    depth = math.ceil(share.batch / share.processes / PART) + 2 * threads

    def look(part: tuple[bool, list[Key], list[bytes]]) -> tuple[bool, list[Seen]]:
        last, keys, jpegs = part
        return last, [see(jpeg, key) for jpeg, key in zip(jpegs, keys, strict=True)]

    batch: list[Seen] = []
    for last, seen in ahead(parts(read_ahead(read, share.batches(epoch, first))), look, threads, depth):
        batch += seen
        if last:
            yield batch
            batch = []


def parts(batches: Iterable[tuple[list[Key], list[bytes]]]) -> Iterator[tuple[bool, list[Key], list[bytes]]]:
    """Batches in parts, and whether a part is the last of its batch."""
    for keys, jpegs in batches:
        for start in range(0, len(keys), PART):
            end = start + PART
            yield end >= len(keys), keys[start:end], jpegs[start:end]


def read_ahead(read: Read, batches: Iterable[list[Key]]) -> Iterator[tuple[list[Key], list[bytes]]]:
    """The batches with their bytes; the next ones are read while the caller is busy."""
    return ahead(batches, lambda keys: (keys, read([position for _, position in keys])), READERS, READERS)


def ahead(tasks: Iterable[Task], work: Callable[[Task], Done], threads: int, depth: int) -> Iterator[Done]:
    """work(task) of every task in order, done in threads; at most `depth` are begun beyond the one that was taken last."""
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class UnseenError(ValueError):
    """A training image is no picture that can be decoded."""


def named(read: Read, positions: Sequence[int]) -> str:
    """The images at these positions by their ids, where the reader knows them; a few of many."""
    ids = read.ids(positions[:NAMED]) if isinstance(read, Named) else [str(position) for position in positions[:NAMED]]
    more = f" and {len(positions) - NAMED} more" if len(positions) > NAMED else ""
    return f"the training image{'s' * (len(positions) > 1)} {', '.join(ids)}{more}"


class Order:
    """The batches of one process as torch's DataLoader wants its `batch_sampler`; `begin` says which."""

    def __init__(self, share: Share) -> None:
        self.share, self.epoch, self.first = share, 0, 0

    def begin(self, epoch: int, first: int = 0) -> None:
        """What the next pass over the DataLoader is: an epoch from batch number `first` on."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return max(len(self.share) - self.first, 0)

    def __iter__(self) -> Iterator[list[Key]]:
        return self.share.batches(self.epoch, self.first)


class Images(Generic[Seen]):
    """see(jpeg, key) of images by key, as torch's DataLoader wants its dataset: one read per batch, in its own processes if it has any.

    `read` and `see` must pickle; start the processes by spawn, since Lance does not survive a fork.
    """

    def __init__(self, read: Read, see: Callable[[bytes, Key], Seen]) -> None:
        self.read, self.see = read, see

    def __getitem__(self, key: Key) -> Seen:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Seen]:
        jpegs = self.read([position for _, position in keys])
        return [self.see(jpeg, key) for jpeg, key in zip(jpegs, keys, strict=True)]
