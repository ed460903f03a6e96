"""What a selection is worth before anything is trained on it: measured on the store and its images, and kept in MLflow."""

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import difficulty, judge, schema, tracking
from engine.config import Config, SelectionConfig
from engine.difficulty import ScoreContrast, ScoreDifficulty, colours_of
from engine.judge import IMAGES, MEASURES, Case, Colours, Judgement, UnknownError
from engine.pool import Held, Part, Pool, candidates, whole_frames
from engine.rows import Rows, hashed
from engine.selection import METHODS, Selection
from engine.selection.clustering import clustered
from engine.store import PatchStore
from jobs import named, places, probe
from jobs.choices import NOTED, OF, POOLS, PREFIX

log = logging.getLogger("jobs.judging")
CLUSTERS, ITERATIONS = 1000, 10  # at most, for what is covered: a minute of a processor for a million patches, and no finer than is read
KINDS = "kinds"  # what their clustering is called in the store
COLUMNS = ["patch_id", "video_id", "time_ms", "proposer", "difficulty", "black", "glare", "foreign"]  # of those what the table has
AT_ONCE = 256  # patches whose pixels are in memory
DRAWN = 16_384  # patches of a pool, drawn by their ids, that its variety is measured on, our choice: a second whatever the pool


def judged(config: Config, store: PatchStore, chosen: Selection, version: int) -> Judgement:
    """A selection from a version of the patch table, beside all that it could have been chosen from."""
    there = store.open("patches", version).schema.names
    columns = store.patches([name for name in COLUMNS if name in there], version=version)
    whole, rows = Pool(columns, store.vectors(version)), store.offsets(chosen.patch_ids, version)
    mine = candidates(columns, rows)
    pool = whole if len(mine) == len(whole) else whole.part(mine)
    case = Case(
        pool,
        np.searchsorted(mine, rows),
        rebuilds=difficulty.rebuilds(config.difficulty),
        colours=colours(config, store, version, mine),
        nested=nested(config, store),
    )
    try:
        case = replace(case, labels=kinds(store, whole, version)[mine])
    except ValueError as error:
        log.warning("judged without embeddings: %s", error)
        return beside_pool(replace(case, pool=replace(pool, vectors=None)))
    try:
        case = with_features(case, config, store, chosen.selection_id, version)
    except UnknownError as error:
        case = replace(case, featureless=str(error))
    return beside_pool(case)


def beside_pool(case: Case) -> Judgement:
    """The judgement of a case, with what its pool comes to."""
    return replace(judge.judge(case), pool=of_pool(case), of=kind(case.pool.columns))


def with_features(case: Case, config: Config, store: PatchStore, selection_id: str, version: int) -> Case:
    """The case with the features of training images, and what they are held against; UnknownError where they have none."""
    synthetic, net = features(config, store, selection_id, version)
    frames = np.flatnonzero(whole_frames(store.patches(["proposer"], version=version)))
    real = Part(store.vectors(version), frames) if len(frames) else case.pool.vectors
    compared = f"{IMAGES} training images against the {'whole frames' if len(frames) else 'patches'} of the pool, by the features of {net}"
    return replace(case, synthetic=synthetic, real=real, compared=compared)


def of_pool(case: Case) -> dict[str, float]:
    """What a pool itself comes to, to hold the figures of a selection against: the artefacts of all, the variety of DRAWN.

    What cannot be had of the pool cannot be had of what was chosen from it, and that tells the reason.
    """
    every = np.arange(len(case.pool))
    drawn = np.argsort(case.pool.keys(), kind="stable")[:DRAWN]
    found = {}
    for name, rows in {"artefacts": every, "distance": drawn, "vendi": drawn}.items():
        with suppress(UnknownError):
            found[name] = MEASURES[name](replace(case, chosen=rows))
    return found


def kind(patches: pa.Table) -> str:
    """What patches are, by the column proposer: patches, frames, or both."""
    whole = whole_frames(patches)
    return "patches and frames" if whole.any() and not whole.all() else "frames" if whole.all() else "patches"


def nested(config: Config, store: PatchStore) -> bool:
    """Whether smaller sets by the same method begin what was chosen; what a person chose in `browse` has no smaller sets."""
    one = config.selection
    method = str(named.made(store, one.named)["method"]) if one.named else one.method
    return method in METHODS and METHODS[method].nested


def colours(config: Config, store: PatchStore, version: int, mine: Rows) -> Colours:
    """For rows of the patches at the places `mine` what the error of one colour is made of (n, 4); each is looked at once."""
    section, known = probe.at_hand(config) or config.difficulty, dict[int, NDArray[np.float64]]()

    def look(rows: Rows) -> NDArray[np.float64]:
        new = np.sort(mine[rows[[row not in known for row in mine[rows].tolist()]]])
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            taken = store.take(some, ["patch_id", "pixels"], version)
            ids, jpegs = (taken[name].to_pylist() for name in ("patch_id", "pixels"))
            seen = (colours_of(patch_id, jpeg, section) for patch_id, jpeg in zip(ids, jpegs, strict=True))
            known.update(zip(some.tolist(), seen, strict=True))
        return np.stack([known[row] for row in mine[rows].tolist()])

    return look


def kinds(store: PatchStore, pool: Pool, version: int) -> NDArray[np.int32]:
    """The cluster of every patch, whatever they were chosen by: kept in the store, so that the next time only new patches are looked at.

    Shape: (N,), of the pool's rows.
    """
    ids = pool.columns["patch_id"]
    count = min(CLUSTERS, max(1, round(len(pool) ** 0.5)))
    keys = pool.keys()
    known = replace(pool, clustering=store.clustering(KINDS, ids, keys), hashes=keys)
    found = clustered(known, SelectionConfig(clusters=count, iterations=ITERATIONS))
    store.keep(KINDS, known, found, version)
    return found.labels


def features(config: Config, store: PatchStore, selection_id: str, version: int) -> tuple[Held, str]:
    """Embeddings of IMAGES of a selection's training images, drawn by lot, by the scorer of its patches, and its name.

    UnknownError where that is not at hand, or there are fewer images.
    """
    scorers = store.patches(["scorer"], version=version)["scorer"].unique().to_pylist()
    embed, net = scorer(config, scorers)
    reader = store.reader(selection_id)
    if len(reader) < IMAGES:
        raise UnknownError(f"the FID is of {IMAGES} training images, since fewer make it larger, and there are {len(reader)}")
    names = pa.chunked_array([[f"{selection_id}:{position}" for position in range(len(reader))]])
    positions = np.sort(np.argsort(hashed(names), kind="stable")[:IMAGES]).tolist()
    rows = [{"patch_id": names[position].as_py(), "pixels": jpeg} for position, jpeg in zip(positions, reader(positions), strict=True)]
    made = pa.concat_tables(embed(pa.Table.from_pylist(rows, schema.PATCH)))
    return Held(np.array(made["embedding"].to_pylist(), np.float32)), net


def scorer(config: Config, scorers: list[str]) -> tuple[Any, str]:
    """The stage that embedded the patches, and its name; UnknownError where there were several, or it cannot be had."""
    section = probe.at_hand(config)
    if not section or places.is_missing(section.checkpoint):
        raise UnknownError("the scorer that embedded the patches is not at hand")
    stage: Any = ScoreContrast if section.scorer == "simclr" else ScoreDifficulty
    try:
        found = stage(section).scorer
    except ValueError as error:
        raise UnknownError(str(error)) from error
    if scorers != [found]:
        raise UnknownError(f"the patches were embedded by {', '.join(scorers)}, and the scorer at hand is {found}")
    kind = f"simclr-{section.simclr.encoder}" if section.scorer == "simclr" else f"mae-{section.mae.size}"
    return stage(section.model_copy(update={"draws": 1})), f"{kind}-{found}"  # an embedding takes no draws


def keep(found: Judgement, record: tracking.Run) -> None:
    """The values, and the pool's, as metrics of a run; as tags the reasons for those that there are not, and what a value is of."""
    record.log({PREFIX + name: value for name, value in found.values.items()}, step=0)
    record.note({PREFIX + name: reason for name, reason in found.reasons.items()})
    record.log({POOLS + name: value for name, value in found.pool.items()}, step=0)
    record.note({NOTED + name: note for name, note in found.notes.items()} | {OF: found.of})
