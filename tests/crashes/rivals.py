"""python -m tests.crashes.rivals: what becomes of the rows on the two obvious routes from Ray Data into a Lance table, as markdown.

lance_ray's `write_lance` as it comes, and the same with Ray Data's checkpointing. (Ray Data's own Lance sink does not run with this
Lance: Ray 2.60 hands it an argument that it no longer has.) lance_ray is no dependency of endocurate: run this from the root of the
repository in an environment that has ray[data], pylance and lance-ray. Each case is a process of its own, struck down, then the same
command again; 400 rows are due. Steps that these routes have and no more: they keep no ledger and compact nothing.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import wraps
from pathlib import Path

ROWS, BLOCKS = 400, 8
CASES = [
    "nothing",
    *[f"worker killed@{step} the fragments" for step in ("before", "during", "after")],
    "OSError once@during the fragments",
    "driver killed@before the commit",
    "driver killed@after the commit",
]
ROUTES = {"lance_ray": "`lance_ray.write_lance`", "checkpoint": "the same with Ray Data checkpointing"}


def once(mark: str) -> bool:
    """True for the first who asks."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def struck(case: str, mark: str):
    """`write_fragments` of a worker, struck before, after or in the middle of it: when it has taken a part of the rows."""
    import pyarrow as pa
    from lance import fragment

    write = fragment.write_fragments

    def torn(data):
        for batch in data:
            half = batch.num_rows // 2
            yield batch.slice(0, half)
            fall(case, "during the fragments", mark)
            yield batch.slice(half)

    @wraps(write)
    def writing(data, *arguments, **options):
        fall(case, "before the fragments", mark)
        if case.startswith("OSError"):
            interrupt(data, mark)
        elif case.endswith("during the fragments"):
            data = pa.RecordBatchReader.from_batches(data.schema, torn(data))
        made = write(data, *arguments, **options)
        fall(case, "after the fragments", mark)
        return made

    return writing


def fall(case: str, step: str, mark: str) -> None:
    """Kill this worker, if the case says so, once."""
    if case.endswith(f"killed@{step}") and once(mark):
        os.kill(os.getpid(), signal.SIGKILL)


def interrupt(data, mark: str) -> None:
    """What Lance raises where an object store breaks off in the middle of a write, when a part of the rows is taken."""
    if once(mark):
        data.read_next_batch()
        raise OSError("LanceError(IO): Generic S3 error: connection reset (injected)")


def arming(case: str, mark: str):
    """What every worker does when it starts: have its writer struck."""

    def arm() -> None:
        from lance import fragment

        fragment.write_fragments = struck(case, mark)

    return arm


def pipeline(route: str, case: str, folder: str) -> None:
    """One run of the job: read Parquet, append to the table."""
    import lance_ray
    import ray

    local = {"num_cpus": 3, "include_dashboard": False, "object_store_memory": 200 * 2**20}
    armed = {"worker_process_setup_hook": arming(case, f"{folder}/struck")}
    ray.init("local", runtime_env=armed, logging_level="error", log_to_driver=False, **local)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if route == "checkpoint":
        from ray.data.checkpoint import CheckpointConfig

        context.checkpoint_config = CheckpointConfig(
            id_column="id", checkpoint_path=f"{folder}/checkpoint", delete_checkpoint_on_success=False
        )
    rows = ray.data.read_parquet(f"{folder}/in")
    if case.startswith("driver"):
        die_around_commit(case.rpartition("@")[2], f"{folder}/struck")
    lance_ray.write_lance(rows, f"{folder}/out.lance", mode="append")


def die_around_commit(step: str, mark: str) -> None:
    import lance

    commit = lance.LanceDataset.commit

    def dying(*arguments, **options):
        if step.startswith("after"):
            commit(*arguments, **options)
        if once(mark):
            os.kill(os.getpid(), signal.SIGKILL)
        return None if step.startswith("after") else commit(*arguments, **options)

    lance.LanceDataset.commit = staticmethod(dying)


def prepare(folder: str) -> None:
    import lance
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = pa.schema([("id", pa.int64()), ("pixels", pa.large_binary())])
    Path(f"{folder}/in").mkdir(parents=True)
    for block in range(BLOCKS):
        ids = list(range(block * ROWS // BLOCKS, (block + 1) * ROWS // BLOCKS))
        pq.write_table(pa.table({"id": ids, "pixels": [bytes(2000)] * len(ids)}, columns), f"{folder}/in/{block}.parquet")
    lance.write_dataset(columns.empty_table(), f"{folder}/out.lance")


def told(folder: str) -> str:
    import lance

    ids = lance.dataset(f"{folder}/out.lance").to_table(columns=["id"])["id"].to_pylist()
    lost, doubled = ROWS - len(set(ids)), len(ids) - len(set(ids))
    return "equal" if not lost and not doubled else f"{lost} rows lost, {doubled} doubled, of {ROWS}"


def again(folder: str, route: str, case: str, patience: float = 150.0) -> str:
    """Run the job once as a process; how it ended."""
    command = [sys.executable, "-m", "tests.crashes.rivals", route, case, folder]
    with open(f"{folder}/said", "ab") as said:
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "RAY_USAGE_STATS_ENABLED": "0"}
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True, env=environment)
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"did not end in {patience:g} s"
    return "went through" if code == 0 else "was killed" if code < 0 else "failed"


def main() -> None:
    print("| route | step | what struck | first run | rows after it | same run again | rows in the end |\n|---|---|---|---|---|---|---|")
    for route, title in ROUTES.items():
        for case in CASES:
            folder = tempfile.mkdtemp(prefix="rv")
            prepare(folder)
            first, between = again(folder, route, case), told(folder)
            second = again(folder, route, case)
            who, _, step = case.partition("@")
            assert case == "nothing" or Path(f"{folder}/struck").exists(), f"{case} never struck"
            print(f"| {title} | {step} | {who} | {first} | {between} | {second} | {told(folder)} |", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    pipeline(*sys.argv[1:]) if len(sys.argv) > 1 else main()
