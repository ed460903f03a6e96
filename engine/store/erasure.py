"""Forgetting a video for good: its rows, what was made from them, and every byte of both in older versions, indices and files.

The tombstone in the ledger comes first, so that a crash never loses the wish: whoever comes next, the same command or upkeep, finishes.
Erasure goes before readers: what reads an older version meanwhile fails, and is started again.
"""

import re
from collections import Counter
from typing import Any

import lance
import pyarrow as pa

from engine import schema
from engine.store import alike, journal, orphans
from engine.store.commits import committing
from engine.store.journal import deed
from engine.store.lock import Lease, locked
from engine.store.tables import ALIKE, COMPLETE, DRIFT, NEIGHBOURS, TABLES, TAGS, Tables, filesystem, quoted
from engine.store.tombstones import FORGOTTEN, forgotten
from engine.store.trainings import listed, trained_on
from engine.store.versions import mark_complete
from engine.store.writers import WRITER, living

JOB = "forget"
SHORTEST = 8  # letters of an id that is not written out; fewer could be a slip
# Reports, torn ones too, rendered notebooks, and crops that no longer say whose.
PICTURES = re.compile(r"^(notebooks/)?[^/]+\.html(\.[0-9a-f]{32})?$|^scorers/.+\.arrow$")


def forget(tables: Tables, name: str, commit: str) -> pa.Table:
    """Erase the video of this id, or of this unique beginning of one; returns what went and what was made from it, as journal.DEEDS.

    Run again after a crash it finishes; run again after that it changes nothing. LookupError for an unknown video, ValueError where a
    tag or a branch of somebody else holds it: then nothing is changed.
    """
    with locked(tables, "upkeep"), committing(tables) as lease:
        return erase(tables, resolved(tables, name), commit, lease)


def finish(tables: Tables, commit: str) -> list[dict[str, Any]]:
    """End every erasure that was begun and not ended; returns what went."""
    if not unfinished(tables):
        return []
    with locked(tables, "upkeep"), committing(tables) as lease:
        return [row for video_id in unfinished(tables) for row in erase(tables, video_id, commit, lease).to_pylist()]


def unfinished(tables: Tables) -> list[str]:
    """The forgotten videos of which something may be left on disk."""
    ended = {subject for subject, detail in journal.entries(tables, JOB) if detail["step"] == "done"}
    return sorted(forgotten(tables) - ended)


def resolved(tables: Tables, name: str) -> str:
    """The id of a video by itself or its beginning. LookupError where none, or more than one, is meant."""
    known = tables.ledger()["video_id"].to_pylist()
    if name in known:
        return name
    found = [video_id for video_id in known if len(name) >= SHORTEST and video_id.startswith(name)]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise LookupError(f"{len(found)} videos of {tables.uri} begin with {name}: {', '.join(sorted(found)[:4])}; name one of them")
    shorter = f"; a beginning has {SHORTEST} letters or more" if len(name) < SHORTEST else ""
    raise LookupError(f"the ledger of {tables.uri} has no video {name!r}{shorter}: nothing was changed")


def erase(tables: Tables, video_id: str, commit: str, lease: Lease) -> pa.Table:
    """The erasure itself, under the locks."""
    orphans.refuse_incomplete(tables)
    refuse_blocked(tables, video_id)
    present = {table: tables.open(table).count_rows(where) for table, where in places(tables, video_id).items()}
    if video_id in forgotten(tables) and video_id not in unfinished(tables) and not any(present.values()):
        return journal.rows_of(told_before(tables, video_id))
    bury(tables, video_id, lease)
    affected = consequences(tables, video_id)
    journal.enter(tables, JOB, video_id, {"step": "begun", "affected": affected}, commit)
    went = [deed("rows removed", table, count) for table, count in present.items()]
    for table, where in places(tables, video_id).items():
        purge(tables, table, where, lease)
    purge(tables, "videos", None, lease)
    went += pictures_removed(tables)
    told = went + [row for row in told_before(tables, video_id) if row["what"].startswith("made")]
    pending = living(tables, WRITER)
    if pending:
        note = f"jobs are writing ({', '.join(pending)}); files they have not committed may hold it: run this or maintain when they ended"
        journal.enter(tables, JOB, video_id, {"step": "pending", "rows": told}, commit)
        return journal.rows_of([*told, deed("still to do", video_id, note=note)])
    told += [row for table in tables_of(tables) if (row := orphans.collect(tables, table))["count"]]
    journal.enter(tables, JOB, video_id, {"step": "done", "rows": told}, commit)
    return journal.rows_of(told)


def places(tables: Tables, video_id: str) -> dict[str, str]:
    """For every table that may hold rows of the video, the filter that finds them; it names no patch, since a version keeps its words."""
    mine = quoted([video_id])
    found = {"patches": f"video_id IN ({mine})"}
    found |= {name: f"video_id IN ({mine})" for name, columns in TABLES.items() if "video_id" in columns.names and name != "videos"}
    begins = quoted([f"{video_id}@"])
    found |= dict.fromkeys(("selections", *tables.scores()), f"starts_with(patch_id, {begins})")
    found |= dict.fromkeys((*tables.clusterings(), *tables.roundings(), TAGS, NEIGHBOURS), f"video_id IN ({mine})")
    found["images"] = f"contains(concat(' ', array_to_string(patch_ids, ' ')), {quoted([f' {video_id}@'])})"
    found = {name: where for name, where in found.items() if tables.has(name)}
    if tables.is_made(ALIKE):
        found[ALIKE] = alike.erased(tables, video_id)
    if tables.is_made(DRIFT):
        found[DRIFT] = f"contains(video_ids, {mine})"  # what was said of a day with it; the next look says it without
    return found


def tables_of(tables: Tables) -> list[str]:
    """The tables that hold anything of videos."""
    return [name for name in tables.names() if name not in ("locks", "journal") and tables.has(name)]


# -- refused ----------------------------------------------------------------------------------------------------------------------


def refuse_blocked(tables: Tables, video_id: str) -> None:
    """ValueError that names the tags and branches of others under which Lance would keep the video's bytes."""
    where = places(tables, video_id) | {"videos": f"video_id IN ({quoted([video_id])}) AND uri != ''"}
    held = [f"the {kind} {name!r} of the table {table}" for table in where for kind, name in holders(tables, table, where[table])]
    if held:
        raise ValueError(f"video {video_id} is held by {', '.join(held)}: remove what is named and run this again; nothing was changed")


def holders(tables: Tables, table: str, where: str) -> list[tuple[str, str]]:
    """Branches, which keep all that they were made from, and tags of others on versions that hold such rows, deleted ones too."""
    dataset = tables.open(table)
    tags = [(name, tag["version"]) for name, tag in dataset.tags.list().items() if name != COMPLETE]
    return [("branch", name) for name in dataset.branches.list()] + [
        ("tag", name) for name, version in tags if holds(tables.lance(table, version), where)
    ]


def holds(dataset: lance.LanceDataset, where: str) -> bool:
    """Whether a version holds such rows, deleted ones that still lie in its files included."""
    found = dataset.scanner(columns=[dataset.schema.names[0]], filter=where, include_deleted_rows=True, with_row_id=True)
    return bool(found.to_table().num_rows)


# -- done -------------------------------------------------------------------------------------------------------------------------


def bury(tables: Tables, video_id: str, lease: Lease) -> None:
    """Put the tombstone in place of the ledger row: of the video the id stays alone, so that it is known if it comes again.

    When and by which settings, commit and version it was taken in stays, too.
    """
    row = tables.open("videos").to_table(filter=f"video_id IN ({quoted([video_id])})").to_pylist()[0]
    blank = {"uri": "", "size": 0, "modified": "", "reason": FORGOTTEN, "detail": None, "frames": 0, "kept": 0, "patches": 0}
    tombstone = pa.Table.from_pylist([row | blank], schema.VIDEOS_TABLE)
    ledger = tables.open("videos")
    lease.check()
    ledger.merge_insert("video_id").when_matched_update_all().conflict_retries(0).execute(tombstone)


def consequences(tables: Tables, video_id: str) -> list[dict[str, Any]]:
    """What was made from the video, as far as the store knows: selections, images, models, checkpoints, scorers."""
    where = places(tables, video_id)
    made = []
    for table in ("selections", "images"):
        ids = tables.open(table).to_table(columns=["selection_id"], filter=where[table])["selection_id"].to_pylist()
        made += [deed(f"made from it: {table}", name, count) for name, count in sorted(Counter(ids).items())]
    selections = {row["name"] for row in made}
    trained = trained_on(tables, selections)
    made += [deed("made from it: model", path, 1, note="trained on its images; remove it and train again") for path in trained]
    means = [name for name in tables.clusterings() if tables.open(name).count_rows(where[name])]
    made += [
        deed("made from it: centroids", name, 1, note="means of embeddings, its own too; remove the table to be rid") for name in means
    ]
    scorers = [path for path in listed(tables, "scorers") if path.endswith(".safetensors")]
    return made + [deed("made from it, maybe: scorer", path, 1, note="trained on crops that no longer say whose") for path in scorers]


def told_before(tables: Tables, video_id: str) -> list[dict[str, Any]]:
    """What earlier runs wrote into the journal: the result of the last that ended, else what they found affected, each once."""
    mine = [detail for subject, detail in journal.entries(tables, JOB) if subject == video_id]
    if mine and mine[-1]["step"] == "done":
        return list(mine[-1]["rows"])
    rows = [row for detail in mine if detail["step"] == "begun" for row in detail["affected"]]
    largest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = (row["what"], row["name"])
        largest[key] = max(largest.get(key, row), row, key=lambda one: one["count"])
    return list(largest.values())


def purge(tables: Tables, table: str, where: str | None, lease: Lease) -> None:
    """Delete rows of a table, and leave no file that still holds them: deleting marks, compaction rewrites, only cleaning removes."""
    dataset = tables.open(table)
    lease.check()
    if where and dataset.count_rows(where):
        dataset.delete(where, conflict_retries=0)
    # Row ids are stable, so compaction need not touch an index, and the deleted values stay in it: seen with BTREE on patch_id.
    for index in dataset.describe_indices():
        dataset.drop_index(index.name)
    materialise(dataset, lease)
    if table == "patches":
        mark_complete(tables, lease)
    lease.check()  # what is newest by now may be another's that is not complete
    dataset.cleanup_old_versions(retain_versions=1, error_if_tagged_old_versions=False)


def materialise(dataset: lance.LanceDataset, lease: Lease) -> None:
    """Rewrite every file that has deleted rows, one at a time: one is in memory. RuntimeError where Lance left some."""
    while marked := [one.fragment_id for one in dataset.get_fragments() if one.num_deletions]:
        lease.check()
        others = [one.fragment_id for one in dataset.get_fragments() if one.fragment_id != marked[0]]
        dataset.optimize.compact_files(materialize_deletions_threshold=0.0, excluded_fragment_ids=others, num_threads=1)
        dataset.checkout_latest()
        if marked[0] in [one.fragment_id for one in dataset.get_fragments() if one.num_deletions]:
            raise RuntimeError(f"Lance left deleted rows in a file of {dataset.uri}: the erasure is not done, run it again")


def pictures_removed(tables: Tables) -> list[dict[str, Any]]:
    """Remove the files beside the tables that may show it: reports, copies of notebooks, and the samples that scorers were trained on."""
    fs = filesystem(tables.uri)
    found = [path for path in listed(tables, "", "notebooks", "scorers") if PICTURES.search(path)]
    for path in found:
        fs.rm(tables.address(path))
    return [deed("file removed", path, 1, note="it may show the video; the next report, notebook or probe makes it anew") for path in found]
