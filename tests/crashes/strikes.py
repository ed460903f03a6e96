"""Where a run can be struck down, and how: the engine's functions are swapped in the process that is to die, the engine knows nothing.

A strike is `kind@step`. Kinds: `kill` (SIGKILL of this process), `8` (the same, so many milliseconds later), `error` (OSError once), `stop`
(SIGSTOP), `raylet` (SIGKILL of the raylet
this worker belongs to), `quota` (no file may grow beyond 4 kB any more). It strikes once: a file says that it did.
"""

import os
import resource
import signal
import threading
from pathlib import Path

import pyarrow as pa

from engine.store import PatchStore, WriteRows, commits, intake, upkeep

WRITING = ("before the fragments", "during the fragments", "after the fragments")
COMMITTING = (
    "before the patches", "after the patches", "before the frames", "after the frames", "before the ledger", "after the ledger",
)  # fmt: skip
LANDING = tuple(f"at the commit of {table}" for table in ("patches", "frames", "videos"))  # the lock was asked for, nothing has landed
STEPS = (*WRITING, *COMMITTING, *LANDING)
MERGING = ("before the compaction", "during the compaction", "after the compaction")  # during: new files are there, no version has them


class Strike:
    """What comes down at one step; `ENDOCURATE_STRIKE` is kind@step@file, so that workers know of it too."""

    def __init__(self, told: str) -> None:
        self.kind, self.step, self.done = told.split("@")

    def at(self, step: str) -> None:
        if step != self.step:
            return
        try:
            os.close(os.open(self.done, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        self.fall()

    def fall(self) -> None:
        if self.kind == "error":
            raise OSError(28, "No space left on device")
        if self.kind.isdigit():
            threading.Timer(int(self.kind) / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return
        if self.kind == "quota":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            return
        whom = os.getppid() if self.kind == "raylet" else os.getpid()
        os.kill(whom, signal.SIGSTOP if self.kind == "stop" else signal.SIGKILL)
        if self.kind == "raylet":
            signal.pause()  # its workers go with it


def planned() -> Strike:
    return Strike(os.environ.get("ENDOCURATE_STRIKE", "none@nowhere@/"))


class StruckWriteRows(WriteRows):
    """The writer of fragments, struck down around or in the middle of the writing."""

    def __call__(self, scored: pa.Table):
        strike = planned()
        strike.at("before the fragments")
        written = intake.fragments_of

        def torn(address: str, rows: pa.Table):
            if len(rows) and strike.step == "during the fragments":
                reader = pa.RecordBatchReader.from_batches(rows.schema, half_of(rows, strike))
                return list(intake_write(reader, address, mode="append"))
            return written(address, rows)

        intake.fragments_of = torn
        try:
            made = list(super().__call__(scored))
        finally:
            intake.fragments_of = written
        strike.at("after the fragments")
        yield from made


def intake_write(*arguments, **options):
    from lance.fragment import write_fragments

    return write_fragments(*arguments, **options)


def half_of(rows: pa.Table, strike: Strike):
    """The batches of a table; it comes down after the first half."""
    middle = max(len(rows) // 2, 1)
    yield from rows.slice(0, middle).to_batches()
    strike.at("during the fragments")
    yield from rows.slice(middle).to_batches()


def arm_committer() -> None:
    """Swap the committer's steps of this process for struck ones."""
    strike, replace, enter = planned(), intake.replace, intake.enter

    def replacing(tables, table, *rest):
        strike.at(f"before the {table}")
        version = replace(tables, table, *rest)
        strike.at(f"after the {table}")
        return version

    def entering(*arguments):
        strike.at("before the ledger")
        enter(*arguments)
        strike.at("after the ledger")

    intake.replace, intake.enter = replacing, entering


def arm_upkeep() -> None:
    """Swap the compaction of this process for a struck one."""
    strike, merging = planned(), upkeep.Compaction

    class StruckCompaction:
        @staticmethod
        def plan(dataset, options):
            strike.at("before the compaction")
            return merging.plan(dataset, options)

        @staticmethod
        def commit(dataset, rewrites):
            strike.at("during the compaction")
            done = merging.commit(dataset, rewrites)
            strike.at("after the compaction")
            return done

    upkeep.Compaction = StruckCompaction


def arm_lance() -> None:
    """Strike between the question whether the lock is held and the commit: the worst moment to be paused."""
    strike, land = planned(), commits.land

    def landing(dataset, operation, lease, **told):
        check = lease.check

        class Late:
            def check(self):
                check()
                strike.at(f"at the commit of {Path(dataset.uri).stem}")

        return land(dataset, operation, Late(), **told)

    commits.land = landing
    intake.land = landing


def rows_of(uri: str) -> dict[str, list]:
    """All of a store that a run decides, in an order of its own; what tells the time or counts commits is left out."""
    store = PatchStore(uri)
    version = store.complete_version()
    ledger = store.ledger().drop_columns(["ingested_at", "patches_version", "fingerprint"])  # which knows where the store lies
    return {
        "patches": store.open("patches", version).to_table().sort_by("patch_id").to_pylist(),
        "patches, newest": store.open("patches").to_table(columns=["patch_id"]).sort_by("patch_id").to_pylist(),
        "frames": store.open("frames").to_table().sort_by("frame_id").to_pylist(),
        "ledger": ledger.sort_by("video_id").to_pylist(),
    }


def orphans_of(uri: str) -> list[str]:
    """Files of the tables that no version refers to."""
    tables = [PatchStore(uri).open(name) for name in ("patches", "frames", "videos")]
    files = [
        set(one.all_files().read_all()["path"].to_pylist()) - set(one.tracked_files().read_all()["path"].to_pylist()) for one in tables
    ]
    return sorted(path for loose in files for path in loose if path.startswith(("data/", "_deletions/")))


def verdict(found: dict[str, list], expected: dict[str, list]) -> str:
    """`equal`, or what is wrong, table by table."""
    wrong = []
    for table, rows in expected.items():
        if found[table] != rows:
            change = len(found[table]) - len(rows)
            wrong.append(f"{table}: {f'{change} rows too many' if change > 0 else f'{-change} rows lost' if change else 'other rows'}")
    return "; ".join(wrong) or "equal"
