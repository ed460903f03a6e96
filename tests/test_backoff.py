"""Waits drawn by lot within a doubling bound, and what is said of something that is away."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backoff import Outage, delay, is_full


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(1, 10_000))
def test_a_wait_is_a_function_of_seed_and_try_within_a_bound_that_doubles(seed, tries):
    waits = delay(seed, tries, 2.0, 300.0)
    assert 0 <= waits <= min(300.0, 2.0 ** min(tries, 300))
    assert waits == delay(seed, tries, 2.0, 300.0)


def test_waits_fill_their_range_evenly():
    waits = sorted(delay(seed, 4, 1.0, 100.0) for seed in range(400))
    distance = max(max(abs(w / 8 - n / 400), abs(w / 8 - (n + 1) / 400)) for n, w in enumerate(waits))
    assert distance < 1.63 / 20  # Kolmogorov and Smirnov at 1 %


def test_an_outage_is_told_of_once_and_once_when_it_is_over():
    said, now = [], [0.0]
    outage = Outage(lambda: now[0], said.append, lambda tries: 10.0 * tries)
    for _ in range(3):
        outage.failed("the store is away")
        assert outage.lasts
        now[0] = outage.until
        assert not outage.lasts
    outage.over()
    outage.over()
    assert said == ["the store is away; waiting, nothing is lost", "back after 60 s and 3 tries in vain"]


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError("LanceError(IO): Generic LocalFileSystem error: No space left on device (os error 28)"), True),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), True),
        (OSError(errno.ENOENT, "No such file"), False),
    ],
)
def test_a_full_disk_is_known_by_whoever_says_it(error, full):
    assert is_full(error) is full
    outer = ValueError("wrapped")
    outer.__cause__ = error
    assert is_full(outer) is full
