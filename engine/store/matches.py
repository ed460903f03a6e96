"""Where the patches of one table stand in another: their keys, 64-bit hashes of their ids, looked up among millions of others."""

import numpy as np

from engine.rows import Keys, Rows

BITS = 22  # of a key, by which most are told apart: a table of so many bytes stays in the cache


def matched(ours: Keys, theirs: Keys) -> Rows:
    """The place of each of our keys (N,) among theirs, all distinct, -1 where it is not among them."""
    if np.array_equal(ours[: len(theirs)], theirs[: len(ours)]):  # rows were added, or none; in ten million saves two sorts
        return np.where(np.arange(len(ours)) < len(theirs), np.arange(len(ours)), -1)
    some = possible(ours, theirs) if 16 * len(ours) < len(theirs) else np.arange(len(theirs))  # of the few alone, the others need no sort
    found = searched(ours, theirs[some])
    return np.where(found >= 0, np.append(some, -1)[found], -1)


def searched(ours: Keys, theirs: Keys) -> Rows:
    """The same by sorts of both."""
    if not len(theirs):
        return np.full(len(ours), -1, np.int64)
    mine, order = np.argsort(ours), np.argsort(theirs)
    near = np.empty(len(ours), np.int64)
    near[mine] = np.searchsorted(theirs[order], ours[mine])  # in order: unordered it takes four times as long for ten million
    near = order[np.minimum(near, len(theirs) - 1)]
    return np.where(theirs[near] == ours, near, -1)


def possible(ours: Keys, theirs: Keys) -> Rows:
    """Which of their keys begin with the same BITS bits as one of ours, rising."""
    begun, rest = np.zeros(2**BITS, np.bool_), np.uint64(64 - BITS)
    begun[ours >> rest] = True
    return np.flatnonzero(begun[theirs >> rest])


def is_distinct(found: Keys) -> bool:
    """Whether no key is there twice."""
    ordered = np.sort(found)
    return bool((ordered[1:] != ordered[:-1]).all())
