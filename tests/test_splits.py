"""Properties of splits: nothing that belongs together is parted, and neither order nor names matter."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets import Pair, splits

GROUPED = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.integers(0, 9)), min_size=3, max_size=25)


def made(root: Path, rows: list[tuple[str, int]]) -> list[Pair]:
    """Pairs by (group, content)."""
    for _, content in rows:
        (root / f"{content}.png").write_bytes(f"image {content}".encode())
    return [Pair(f"n{place}", root / f"{content}.png", root / "mask.png", group) for place, (group, content) in enumerate(rows)]


def bound(pairs: list[Pair]) -> list[set[str]]:
    """What belongs together, by joining until nothing more joins: the definition, written out."""
    sets = [{pair.name} for pair in pairs]
    by_name = {pair.name: pair for pair in pairs}
    joined = True
    while joined:
        joined = False
        for one in sets:
            for other in sets:
                if one is not other and any(
                    (by_name[a].group and by_name[a].group == by_name[b].group) or by_name[a].image == by_name[b].image
                    for a in one
                    for b in other
                ):
                    one |= other
                    sets.remove(other)
                    joined = True
                    break
            if joined:
                break
    return sets


@settings(max_examples=60, deadline=None)
@given(rows=GROUPED, share=st.floats(0.1, 0.9), seed=st.integers(0, 99), order=st.randoms())
def test_groups_and_copies_stay_together_and_order_and_names_do_not_matter(rows, share, seed, order, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("split")
    pairs = made(root, rows)
    together = bound(pairs)
    if len(together) < 2:
        return
    split = splits.by_content(pairs, share, seed)
    train, test = ({pair.name for pair in part} for part in (split.train, split.test))
    assert train | test == {pair.name for pair in pairs}
    assert train
    assert test
    assert all(some <= train or some <= test for some in together)
    largest = max(map(len, together))
    assert len(test) < max(1, round(share * len(pairs))) + largest
    shuffled = list(pairs)
    order.shuffle(shuffled)
    assert splits.by_content(shuffled, share, seed) == split
    renamed = [pair._replace(name=f"other {pair.name}", group=pair.group and f"of {pair.group}") for pair in pairs]
    again = splits.by_content(renamed, share, seed)
    assert {pair.name.removeprefix("other ") for pair in again.test} == test


@settings(max_examples=40, deadline=None)
@given(rows=GROUPED, seed=st.integers(0, 99))
def test_no_image_is_trained_on_that_is_tested_on_by_group(rows, seed, tmp_path_factory) -> None:
    pairs = made(tmp_path_factory.mktemp("groups"), rows)
    groups = sorted({pair.group for pair in pairs if pair.group})
    if not groups:
        return
    split = splits.by_groups(pairs, groups[:1], [])
    assert {pair.group for pair in split.test} == {groups[0]}
    assert not {pair.image for pair in split.train} & {pair.image for pair in split.test}
    assert len(split.train) + len(split.test) + len(split.left_out) == len(pairs)


def test_a_large_group_comes_into_the_test_part_as_often_as_a_small_one(tmp_path: Path) -> None:
    rows = [("large", content) for content in range(40)] + [(f"small {content}", content) for content in range(40, 49)]
    pairs = made(tmp_path, rows)
    first = sum(
        splits.units(pairs, [splits.digest(seed, pair.image.read_bytes()) for pair in pairs])[0][0].group == "large" for seed in range(300)
    )
    assert 10 < first < 55  # of 300 draws a tenth; the smallest hash of forty would win four of five
