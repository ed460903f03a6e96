"""What people say of patches: a row for each tag, in a table that the first one makes."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from engine import schema
from engine.refusals import RefusedError
from engine.store.commits import committing, exchange, replace
from engine.store.tables import TAGS, Tables, among, quoted
from engine.store.tombstones import forgotten

TAG = re.compile(r"[\w][\w .:-]{0,39}")  # a word or a few


def tag(tables: Tables, patch_ids: Sequence[str], word: str) -> int:
    """Give patches a tag, each once; returns how many have it now of those named. LookupError for one that is not there."""
    check(word)
    version = tables.complete_version()
    known = set(tables.patches(["patch_id"], where=among(patch_ids), version=version)["patch_id"].to_pylist())
    if lost := sorted(set(patch_ids) - known):
        raise LookupError(f"the store {tables.uri} has no patch {lost[0][:120]!r}")
    if not tables.is_made(TAGS):
        tables.make(TAGS, schema.TAG)
    with committing(tables) as lease:
        gone, now = forgotten(tables), datetime.now(UTC).isoformat(timespec="seconds")
        videos = {patch_id: schema.video_of(patch_id) for patch_id in sorted(known)}
        kept = [one for one, video in videos.items() if video not in gone]
        rows = [{"patch_id": one, "video_id": videos[one], "tag": word, "at": now} for one in kept]
        exchange(tables, TAGS, pa.Table.from_pylist(rows, schema.TAG), f"tag = {quoted([word])} AND {among(patch_ids)}", lease)
    return len(rows)


def untag(tables: Tables, patch_ids: Sequence[str], word: str) -> int:
    """Take a tag from patches; those that have it not stay as they are. Returns from how many it was taken."""
    check(word)
    if not tables.is_made(TAGS):
        return 0
    where = f"tag = {quoted([word])} AND {among(patch_ids)}"
    with committing(tables) as lease:
        had = tables.open(TAGS).count_rows(filter=where)
        replace(tables, TAGS, [], where, lease)
    return int(had)


def tags(tables: Tables) -> pa.Table:
    """All rows (schema.TAG), oldest first, equal ones by their ids."""
    if not tables.is_made(TAGS):
        return schema.TAG.empty_table()
    return tables.open(TAGS).to_table().sort_by([("at", "ascending"), ("patch_id", "ascending")])


def check(word: str) -> None:
    """RefusedError where a word is no tag."""
    if not TAG.fullmatch(word):
        raise RefusedError(f"{word[:60]!r} is no tag: expected 1 to 40 letters, digits, spaces or _ . : -, the first one no sign")
