"""python -m tests.crashes.rivals: what becomes of the rows on the two obvious routes from Ray Data into a Lance table, as markdown.

lance_ray's `write_lance` as it comes, and Ray Data's checkpointing with Ray Data's own Lance sink. lance_ray is no dependency of
endocurate: run this from the root of the repository in an environment that has ray[data], pylance and lance-ray. Each case is a process
of its own, struck down, then the same command again; 400 rows are due.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial, wraps
from pathlib import Path

ROWS, BLOCKS = 400, 8
CASES = ("nothing", "worker killed in the middle of a write", "driver killed after the commit", "IO error in a write, once")
ROUTES = {"lance_ray": "lance_ray.write_lance, as it comes", "checkpoint": "Ray Data checkpointing and its Lance sink"}


def once(mark: str) -> bool:
    """True for the first who asks."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def struck(case: str, mark: str):
    """`write_fragments` of a worker, struck in the middle: after half of the rows went to the file."""
    import pyarrow as pa
    from lance import fragment

    write = fragment.write_fragments

    @wraps(write)
    def writing(data, *arguments, **options):
        def torn():
            for batch in data:
                half = batch.num_rows // 2
                yield batch.slice(0, half)
                if once(mark):
                    if case.startswith("worker"):
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise OSError("injected IO error")
                yield batch.slice(half)

        if case.startswith(("worker", "IO")):
            data = pa.RecordBatchReader.from_batches(data.schema, torn())
        return write(data, *arguments, **options)

    return writing


def strike(table, case: str, mark: str):
    """A stage that changes nothing but the writer of the worker, which runs the write behind it too."""
    from lance import fragment

    if not hasattr(fragment.write_fragments, "__wrapped__"):
        fragment.write_fragments = struck(case, mark)
    return table


def pipeline(route: str, case: str, folder: str) -> None:
    """One run of the job: read parquet, pass on, append to the table."""
    import ray

    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=200 * 2**20, logging_level="error", log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if route == "checkpoint":
        from ray.data.checkpoint import CheckpointConfig

        context.checkpoint_config = CheckpointConfig(id_column="id", checkpoint_path=f"{folder}/checkpoint")
    stage = partial(strike, case=case, mark=f"{folder}/struck")
    rows = ray.data.read_parquet(f"{folder}/in").map_batches(stage, batch_format="pyarrow", batch_size=None)
    if case.startswith("driver"):
        die_after_commit(f"{folder}/struck")
    if route == "lance_ray":
        import lance_ray

        lance_ray.write_lance(rows, f"{folder}/out.lance", mode="append")
    else:
        rows.write_lance(f"{folder}/out.lance", mode=ray.data.SaveMode.APPEND)


def die_after_commit(mark: str) -> None:
    import lance

    commit = lance.LanceDataset.commit

    def dying(*arguments, **options):
        commit(*arguments, **options)
        if once(mark):
            os.kill(os.getpid(), signal.SIGKILL)

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
    print("| route | what struck | first run | rows after it | same run again | rows in the end |\n|---|---|---|---|---|---|")
    for route, title in ROUTES.items():
        for case in CASES:
            folder = tempfile.mkdtemp(prefix="rv")
            prepare(folder)
            first, between = again(folder, route, case), told(folder)
            second = again(folder, route, case)
            print(f"| {title} | {case} | {first} | {between} | {second} | {told(folder)} |", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    pipeline(*sys.argv[1:]) if len(sys.argv) > 1 else main()
