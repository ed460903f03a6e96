"""The memory that there is for this process beside that of a GPU: the machine's, or less where a container or the process allows less."""

import os
import resource
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # Linux: what a container may take, by its files of version 2 or 1
STATUS = Path("/proc/self/status")
LIMITS = "memory.max", "memory/memory.limit_in_bytes"  # no number, "max", or one beyond all memory: as much as there is


def there_is(cgroup: Path = CGROUP) -> int:
    """Bytes, of the machine or of its container, whichever is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    told = [path.read_text().strip() for path in (cgroup / name for name in LIMITS) if path.exists()]
    return min([machine, *(int(one) for one in told if one.isdecimal())])


def limit(more: int) -> None:
    """Let this process take so many bytes beside what it holds now: what asks for more fails as where there is none. Linux counts so."""
    resource.setrlimit(resource.RLIMIT_DATA, (held() + more, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def left() -> int:
    """Bytes until the limit of this process."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0] - held()


def held() -> int:
    """Bytes that this process may write to, touched or not; 0 where the system does not tell."""
    told = [line.split() for line in STATUS.read_text().splitlines() if line.startswith("VmData:")] if STATUS.exists() else []
    return int(told[0][1]) * 1024 if told else 0
