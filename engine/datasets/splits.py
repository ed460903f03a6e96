"""Who is trained on and who is tested on: by the set's own lists, by named groups, or drawn by content; no group is ever split."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from engine.datasets.pair import Pair, Split

Groups = Sequence[str]


def digest(seed: int, content: bytes) -> str:
    """The lot of some bytes, 64 hex digits of the seed and of them: who is drawn is decided by the order of these."""
    return hashlib.sha256(f"{seed}:".encode() + content).hexdigest()


def drawn(pairs: Sequence[Pair], seed: int, limit: int) -> tuple[Pair, ...]:
    """At most `limit` pairs (0: all) by (seed, name): what is drawn stays when the limit grows."""
    found = sorted(pairs, key=lambda pair: digest(seed, pair.name.encode()))
    return tuple(sorted(found[:limit] if limit else found))


def by_groups(pairs: Sequence[Pair], test: Groups, train: Groups) -> Split:
    """Some groups are tested on, others (none named: all others) trained on; ValueError for a group that is not there, or on both sides."""
    have = Counter(pair.group for pair in pairs if pair.group)
    for knob, named in (("evaluate.test_groups", test), ("evaluate.train_groups", train)):
        if unknown := sorted(set(named) - set(have)):
            told = ", ".join(f"{name} ({count})" for name, count in sorted(have.items())) or "none"
            raise ValueError(f"{knob}={','.join(named)}: there is no group {unknown[0]}; the groups of these pairs are {told}")
    if both := sorted(set(test) & set(train)):
        raise ValueError(f"evaluate.test_groups and evaluate.train_groups both name {both[0]}; a group is trained on or tested on")
    trained = [pair for pair in pairs if (pair.group in train if train else pair.group not in test)]
    return apart(trained, [pair for pair in pairs if pair.group in test])


def by_part(pairs: Sequence[Pair]) -> Split:
    """The set's own parts."""
    return apart([pair for pair in pairs if pair.part != "test"], [pair for pair in pairs if pair.part == "test"])


def apart(train: list[Pair], test: list[Pair]) -> Split:
    """Both parts, without the training images that are byte for byte tested on."""
    seen = {content(pair) for pair in test}
    twice = {pair.name for pair in train if content(pair) in seen}
    return Split(tuple(pair for pair in train if pair.name not in twice), tuple(test), left_out=tuple(sorted(twice)))


def content(pair: Pair) -> bytes:
    """What an image is told by: its bytes, and of a volume the slice."""
    return pair.image.read_bytes() + (f"@{pair.at}".encode() if pair.coding == "volume" else b"")


def by_content(pairs: Sequence[Pair], test_share: float, seed: int) -> Split:
    """Drawn by (seed, bytes of the images), whatever the files are called and in whatever order they come.

    The test part holds round(test_share * pairs), at least one. What shares a group or is byte-identical stays on one side, so it may be
    larger by a group. ValueError for fewer than two that may part.
    """
    parts = units(pairs, [digest(seed, content(pair)) for pair in pairs])
    if len(parts) < 2:
        raise ValueError(f"{len(parts)} different {'groups' if any(pair.group for pair in pairs) else 'images'}")
    return cut(parts, max(1, round(test_share * len(pairs))))


def units(pairs: Sequence[Pair], digests: Sequence[str]) -> list[list[Pair]]:
    """What cannot be parted, in an order that only the contents decide: pairs of one group, or of one image, and so on."""
    links = [pair.group or f"\0{place}" for place, pair in enumerate(pairs)]
    nodes = [np.unique(of, return_inverse=True)[1] for of in (links, digests)]
    count, mine = len(pairs), np.arange(len(pairs))
    ends = np.concatenate([count + nodes[0], 2 * count + nodes[1]])
    graph = coo_array((np.ones(2 * count), (np.concatenate([mine, mine]), ends)), shape=(3 * count, 3 * count))
    members = connected_components(graph, directed=False)[1][:count]
    made: dict[int, list[int]] = {}
    for place, member in enumerate(members):
        made.setdefault(int(member), []).append(place)
    keyed = sorted((together(sorted({digests[place] for place in places})), places) for places in made.values())
    return [[pairs[place] for place in places] for _, places in keyed]


def together(digests: list[str]) -> str:
    """One key of many: a large unit comes as early or as late as a small one."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def cut(parts: list[list[Pair]], wanted: int) -> Split:
    """The first units, until `wanted` pairs are in the test part; the last one always trains."""
    test: list[Pair] = []
    train: list[Pair] = []
    for unit in parts[:-1]:
        (test if len(test) < wanted else train).extend(unit)
    return Split(tuple(sorted([*train, *parts[-1]])), tuple(sorted(test)))
