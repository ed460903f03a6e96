"""Memory that is freed and stays with the process, so that what streams through it needs no new pages from the kernel all the time."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # parameters of glibc's mallopt
KEPT = 2**30  # bytes at most that are free and not given back; larger arrays have pages of their own


def keep_freed() -> None:
    """Let glibc keep up to KEPT bytes, for all threads together; nothing where the C library is another one.

    Two million embeddings that are read in batches of 6 MB take 0.5 s of a processor instead of 1.0 to 1.3 (notebooks/LOG.md): a virtual
    machine needs microseconds for each new page.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change:
        change(MMAP_THRESHOLD, KEPT)
        change(TRIM_THRESHOLD, KEPT)
        change(ARENA_MAX, 1)
