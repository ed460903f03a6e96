"""One HTML file of what the store and its runs hold."""

import logging
import platform
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import files, report, tracking
from engine.charts import amount, share
from engine.config import Config
from engine.followed import Followed
from engine.gate import PASSED
from engine.outcomes import Picture
from engine.report import Findings, LossCurve
from engine.store import PatchStore, drift
from jobs import choices, findings, matrices

log = logging.getLogger("jobs.report")
CURVES = 12  # of a kind: a matrix trains dozens of models
SHOWN = ["video_id", "time_ms", "box", "difficulty", "pixels"]


def address(config: Config) -> str:
    """Where the report is written: report.path, else beside the tables."""
    return config.report.path or PatchStore(config.store.uri).address("report.html")


def run(config: Config) -> None:
    """Write the report of the store and of the MLflow runs beside it."""
    store = PatchStore(config.store.uri)
    ledger, version = store.ledger(), store.complete_version()
    frames = store.query("SELECT reason FROM frames")  # of videos in the ledger alone, as everywhere
    patches = store.patches(["patch_id", "difficulty", "bytes"], version=version)
    selections = chosen(store)
    evaluated = findings.outcomes(config, store)
    order = rising(patches["difficulty"].to_numpy())
    told = Findings(
        title=f"{counted(len(patches), 'patch', 'patches')} from {counted(len(ledger), 'video', 'videos')}",
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        provenance=provenance(config, store, ledger, version),
        funnel=funnel(ledger, patches, selections, store),
        reasons={"videos": reasons(ledger.filter(pc.equal(ledger["frames"], 0))), "frames": reasons(frames)},
        videos=ledger.to_pylist(),
        difficulty=patches["difficulty"].to_numpy(),
        chosen={title(method, rows): values(patches, rows) for method, rows in selections.items()},
        hardest=gallery(store, order[::-1][: config.report.pictures], version),
        easiest=gallery(store, order[: config.report.pictures], version),
        synthetic=synthetic(store, selections, config.report.pictures),
        judged=choices.judgements(config),
        curves=curves(config),
        trails=findings.trails(config),
        matrices=matrices.of_store(store),
        theory=findings.theory(config),
        outcomes=[outcome for outcome, _ in evaluated],
        advantages=findings.advantages(evaluated),
        arrivals=Followed(choices.current(config), drift.found(store).to_pylist(), findings.worth(config)),
        sources=sources(config, version),
        notebooks=[] if config.report.path else notebooks(store),
    )
    report.write(told, address(config))
    log.info("the report is %s", address(config))


def provenance(config: Config, store: PatchStore, ledger: pa.Table, version: int) -> dict[str, str]:
    """What the report was made of: versions, commits, settings, scorer, machine."""
    newest = ledger.sort_by("ingested_at").to_pylist()[-1] if len(ledger) else {}
    settings = store.patches(["proposer", "settings", "scorer"], version=version)
    used = {name: ", ".join(sorted(set(settings[name].to_pylist()))) for name in settings.column_names}
    return {
        "patch table": f"version {version}",
        "taken in by": f"commit {newest.get('commit', '?')}, configuration {newest.get('fingerprint', '?')}",
        "reported by": f"commit {tracking.code_commit()}",
        "proposer": f"{used['proposer']}, settings {used['settings']}",
        "scorer": used["scorer"],
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def counted(count: int, one: str, several: str) -> str:
    """A number of things in words."""
    return f"{count:,} {one if count == 1 else several}"


def notebooks(store: PatchStore) -> list[str]:
    """The copies that `python -m notebooks` left beside the report."""
    fs, folder = files.locate(store.address("notebooks"))
    return sorted(path.rpartition("/")[2].removesuffix(".html") for path in fs.glob(f"{folder}/*.html"))


def chosen(store: PatchStore) -> dict[str, pa.Table]:
    """The newest selection of every method, by method."""
    if not store.has("selections"):
        return {}
    rows = store.open("selections").to_table(with_row_id=True).sort_by("_rowid")  # in the order they were written
    newest = dict(zip(rows["method"].to_pylist(), rows["selection_id"].to_pylist(), strict=True))
    return {method: rows.filter(pc.equal(rows["selection_id"], selection_id)) for method, selection_id in sorted(newest.items())}


def funnel(ledger: pa.Table, patches: pa.Table, selections: dict[str, pa.Table], store: PatchStore) -> list[tuple[str, int, str]]:
    """What was left after each stage: name, number, note; the last two of the largest selection."""
    read = ledger.filter(pc.greater(ledger["frames"], 0))
    stages = [
        ("videos found", len(ledger), ""),
        ("videos read", len(read), "gave at least one frame"),
        ("frames sampled", sum(ledger["frames"].to_pylist()), ""),
        ("frames kept", sum(ledger["kept"].to_pylist()), "passed the gate"),
        ("patches", len(patches), f"{sum(patches['bytes'].to_pylist()):,} bytes"),
    ]
    largest = max(selections.values(), key=len, default=None)
    if largest is not None:
        selection_id, retained = (largest[name][0].as_py() for name in ("selection_id", "retained"))
        stages.append(("selected", len(largest), f"{selection_id}, {share(retained)} of the bytes"))
        images = findings.sizes(store, selection_id)[1]
        stages.append(("images", images, f"{len(largest) / max(images, 1):g} patches each"))
    return stages


def title(method: str, rows: pa.Table) -> str:
    """Method and budget of a selection's rows."""
    return f"{method}, budget {amount(*(rows[name][0].as_py() for name in ('budget', 'unit')))}"


def reasons(table: pa.Table) -> dict[str, int]:
    """Why rows were lost; a frame without a region was kept by the gate."""
    return dict(Counter(reason for reason in table["reason"].to_pylist() if reason not in PASSED).most_common())


def values(patches: pa.Table, rows: pa.Table) -> np.ndarray:
    """The difficulty of what a selection chose. (n,)."""
    mine = pc.is_in(patches["patch_id"], rows["patch_id"].combine_chunks())
    return np.asarray(patches["difficulty"].filter(mine).to_numpy())


def rising(difficulty: np.ndarray) -> np.ndarray:
    """The places of the patches that have a score, the easiest first. (N,) to (n,)."""
    order = np.argsort(difficulty, kind="stable")
    return np.asarray(order[np.isfinite(difficulty[order])])


def gallery(store: PatchStore, offsets: np.ndarray, version: int) -> list[Picture]:
    """Patches at these places of a version, each with what it is. `offsets` (n,)."""
    return [
        Picture(
            row["pixels"],
            f"difficulty {row['difficulty']:.3f}",
            f"{row['video_id'][:8]}… at {row['time_ms'] / 1000:.1f} s, box {row['box']}",
        )
        for row in store.take(offsets, SHOWN, version).to_pylist()
    ]


def synthetic(store: PatchStore, selections: dict[str, pa.Table], count: int) -> list[Picture]:
    """The first training images of every selection: for OptiDEL those of the hardest patches."""
    pictures = []
    for method, rows in selections.items():
        reader = store.reader(rows["selection_id"][0].as_py())
        positions = range(min(len(reader), count // len(selections)))
        images = reader(positions) if positions else []
        pictures += [
            Picture(jpeg, f"{title(method, rows)}, image {position}", "patches in order of choice") for position, jpeg in enumerate(images)
        ]
    return pictures


def curves(config: Config) -> list[LossCurve]:
    """The loss of the scorers and of the newest pre-training runs."""
    made = []
    for job in ("probe", "pretrain"):
        for one in tracking.runs(config, job)[-CURVES:]:
            if not (points := one["run"].curve("train/loss")):
                continue  # it found its training done
            what = "scorer" if job == "probe" else f"pre-training on {one['tags'].get('selection', '?')}"
            contrasts = one["params"].get("pretrain.architecture" if job == "pretrain" else "difficulty.scorer") == "simclr"
            unit = "NT-Xent" if contrasts else "mean squared error"
            made.append(LossCurve(f"{what}: loss", [epoch + 1 for epoch, _ in points], [value for _, value in points], unit))
    return made


def sources(config: Config, version: int) -> list[tuple[str, str]]:
    """Which part of the report comes from where."""
    experiment = f"MLflow experiment {config.tracking.experiment}"
    return [
        ("videos, frames, reasons", "tables videos and frames, newest version"),
        ("patches, difficulty", f"table patches, version {version}"),
        ("selections and images", "tables selections and images, newest version; the newest selection of each method"),
        ("judged without training", f"{experiment}, the newest run of the job choose of all the same settings"),
        ("curves, mIoU, Dice, NormDEL", f"{experiment}, runs of the jobs probe, pretrain and evaluate"),
        ("benchmark", "table results of this store, newest settings of every matrix"),
        ("as video arrives", f"table drift, and {experiment}, runs of the jobs choose and worth"),
        ("when to stop", f"{experiment}, runs of the job transfer"),
        ("theory", f"{experiment}, runs of the jobs theory and choose"),
    ]
