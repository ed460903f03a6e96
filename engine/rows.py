"""Rows by number: the key of each, a hash of its patch's id, and their orders, by values or labels.

What is drawn by lot goes by keys, and so does what is equal in an order by values: then nothing depends on where a row stands.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Rows = NDArray[np.int64]  # places in a pool, or in a table
Keys = NDArray[np.uint64]  # a hash of an id each
Words = NDArray[np.uint64]  # any 64 bits
Counts = NDArray[np.int64]  # of bytes

ROWS = 1 << 16  # ids hashed, or embeddings read, at a time
BEGINNING = 32  # bytes of an id: the hash of its video
STRIDE = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64 (Steele et al., OOPSLA 2014), as is the mixing of bits
PRIME = np.uint64(0x100000001B3)  # of FNV-1a in 64 bits (Fowler, Noll and Vo)


def hashed(ids: pa.ChunkedArray, seed: int = 0) -> Keys:
    """64 bits of every id (N,) in UTF-8 and the seed. Ids are not secrets, so a hash that is quick will do.

    Among ten million ids two are equal in one of 370,000 pools; then their order is that of the rows.
    """
    chunks = [chunk.slice(start, ROWS) for chunk in ids.chunks for start in range(0, len(chunk), ROWS)]
    return np.concatenate([np.zeros(0, np.uint64), *(hashed_some(chunk, seed) for chunk in chunks)])


def hashed_some(ids: pa.Array, seed: int) -> Keys:
    """A hash (N,) of each id with the seed: FNV-1a over its bytes, begun and ended by the mixer of splitmix64."""
    ids = ids.cast(pa.large_string())
    offsets = np.frombuffer(ids.buffers()[1], np.int64)[ids.offset : ids.offset + len(ids) + 1]
    words = eights(np.frombuffer(ids.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]])
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    first = mixed(np.array([seed], np.uint64) + STRIDE)
    state, begun = alike_beginnings(words, starts, lengths, np.full(len(ids), first))
    longest_first = np.argsort(begun - lengths, kind="stable")
    state, starts, left = state[longest_first], (starts + begun)[longest_first], (lengths - begun)[longest_first]
    found = np.empty(len(ids), np.uint64)
    found[longest_first] = mixed(digested(words, starts, left, state))
    return found


def alike_beginnings(words: Words, starts: Counts, lengths: Counts, state: Words) -> tuple[Words, Counts]:
    """The states (N,), in place, after the beginnings of ids, and how many bytes of each that is: BEGINNING, or none.

    Patches of a video, whose ids begin with its hash, are stored together: a beginning is digested once for all that follow each other,
    unless that saves less than half of the work.
    """
    long = np.flatnonzero(lengths >= BEGINNING)
    heads = np.stack([words[starts[long] + place] for place in range(0, BEGINNING, 8)])
    other = np.flatnonzero(np.append(True, (heads[:, 1:] != heads[:, :-1]).any(axis=0))[: len(long)])
    begun = np.zeros(len(state), np.int64)
    if 2 * len(other) <= len(long):
        one = long[other]
        made = digested(words, starts[one], np.full(len(one), BEGINNING), state[one])
        state[long], begun[long] = np.repeat(made, np.diff(other, append=len(long))), BEGINNING
    return state, begun


def digested(words: Words, starts: Counts, lengths: Counts, state: Words) -> Words:
    """The states (N,), in place, after `lengths` (N,) bytes of ids from `starts` on, the longest first; `words` are those of `eights`."""
    reach = np.searchsorted(-lengths, -np.arange(lengths.max(initial=0)), side="left")
    for place, count in enumerate(reach.tolist()):  # the ids that have a byte at this place
        if place % 8 == 0:
            word = words[starts[:count] + place]
        mine, rest = state[:count], word[:count]
        mine ^= rest & np.uint64(255)
        mine *= PRIME
        rest >>= np.uint64(8)
    return state


def eights(content: NDArray[np.uint8]) -> Words:
    """For every byte (n,) it and the seven after it, the first one lowest; zeros after the last."""
    padded = np.append(content, np.zeros(7, np.uint8))
    return np.ndarray(len(content), np.dtype("<u8"), padded, strides=(1,))


def mixed(bits: Words) -> Words:
    """Each of 64 bits in changes half of those out."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def rising(values: NDArray[np.floating], keys: Keys) -> Rows:
    """Rows by `values` (N,), smallest first; equal ones by key, and last what is no number.

    Half the time of an argsort of ten million: whole numbers of 64 bits are sorted, of which the last ones say the row, so that nothing is
    looked up; of a value that float32 holds the first bits of the key are in them too. What is equal in all others is sorted again.
    """
    single = values.astype(np.float32, copy=False)
    short = values.dtype == np.float32 or bool(np.array_equal(single, values, equal_nan=True))
    beginnings = keys >> np.uint64(32)
    numbers = numbered(single).astype(np.uint64) << np.uint64(32) | beginnings if short else numbered(values.astype(np.float64))
    leading, order = with_rows(numbers, 64)
    equal = leading[1:] == leading[:-1]
    before = np.append(False, equal)
    tied = np.flatnonzero(before | np.append(equal, False))
    some = order[tied]
    order[tied] = some[np.lexsort([keys[some], numbers[some], np.cumsum(~before[tied])])]
    return order


def together(labels: NDArray[np.integer], largest: int) -> Rows:
    """Rows by `labels` (N,), whole numbers of 0 to `largest`, smallest first; equal ones in their order."""
    if (length := max(largest, 1).bit_length()) + len(labels).bit_length() > 64:
        return np.argsort(labels, kind="stable")
    return with_rows(labels.astype(np.uint64), length)[1]


def with_rows(numbers: Words, length: int) -> tuple[Words, Rows]:
    """Numbers (N,) of `length` bits in order, those bits of them for which a row's number leaves room, and the row of each."""
    wide = max(len(numbers) - 1, 1).bit_length()
    cut = np.uint64(max(length + wide - 64, 0))
    rows = np.arange(len(numbers), dtype=np.uint64)
    ordered = np.sort(numbers >> cut << np.uint64(wide) | rows)
    return ordered >> np.uint64(wide), (ordered & np.uint64(2**wide - 1)).astype(np.int64)


def numbered(values: NDArray[np.floating]) -> NDArray[np.unsignedinteger]:
    """Whole numbers of as many bits in the order of `values`, the same for both zeros, and the largest for what is no number. (N,)."""
    kind = np.dtype(f"u{values.itemsize}").type
    bits = (values + values.dtype.type(0)).view(kind)
    top = kind(2 ** (8 * values.itemsize - 1))
    return np.asarray(np.where(np.isnan(values), ~kind(0), np.where(bits >= top, ~bits, bits | top)))
