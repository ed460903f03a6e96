"""The memory that there is for this process beside that of a GPU: the machine's, or less where a container allows less."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # Linux: what a container may take, by its files of version 2 or 1
LIMITS = "memory.max", "memory/memory.limit_in_bytes"  # no number, "max", or one beyond all memory: as much as there is


def there_is(cgroup: Path = CGROUP) -> int:
    """Bytes, of the machine or of its container, whichever is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    told = [path.read_text().strip() for path in (cgroup / name for name in LIMITS) if path.exists()]
    return min([machine, *(int(one) for one in told if one.isdecimal())])
