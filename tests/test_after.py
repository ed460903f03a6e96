"""What follows a batch: done by what the store has, told and not raised, once, and never by a file's name."""

import hashlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import schema, selection, tracking
from engine.difficulty import colours_of
from engine.followed import Followed, drawn
from engine.judge import information
from engine.knobs import amend
from engine.pool import Pool
from engine.report import Findings, render
from engine.selection import in_process
from engine.settings import UpkeepConfig
from engine.store import PatchStore, WriteRows, journal
from engine.store import drift as table
from engine.store.vectors import StoredVectors
from jobs import after, alike, aside, choices, choose, drift, line, named, outdated, pretrain, selections, standing, thrift, worth
from jobs.after import After
from jobs.line import Past, Setback, beating
from jobs.recipes import tiny
from jobs.upkeep import due_in
from tests import rows
from tests.crashes import workers
from tests.test_report import Page

DAYS = [f"2026-01-{number:02d}" for number in range(1, 29)]
ROOT = Path(__file__).resolve().parent.parent
FOLDER = "/data/MARKER-ward-7"


def video(number):
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def take_in(store, numbers, day, folder=FOLDER, **frame):
    """Videos of a day, whose frames are sharp, light and of tissue, each video a little otherwise."""
    written, sources = [], []
    for number in numbers:
        rng, made = np.random.default_rng(number), rows.scored(video(number), frames=4).to_pylist()
        base = {"sharpness": 50 + 10 * rng.normal(), "brightness": 0.5, "glare": 0.01, "tissue": 0.8 + 0.02 * rng.normal(), "change": 0.3}
        for row in made:
            if row["frame_id"]:
                row |= base | {"sharpness": base["sharpness"] + rng.normal()} | frame
            if row["patch_id"]:
                row |= {"difficulty": float(rng.random()) / 10, "embedding": rng.random(rows.WIDTH).astype(np.float16).tolist()}
        written += WriteRows(store.uri)(pa.Table.from_pylist(made, rows.wide()))
        sources += [row | {"uri": f"{folder}/MARKER-{number}.mp4"} for row in rows.videos(video(number)).to_pylist()]
    stamp = rows.STAMP | {"ingested_at": f"{day}T10:00:00+00:00"}
    store.commit(pa.concat_tables(written), pa.Table.from_pylist(sources, schema.VIDEO), stamp)


class Line:
    """The end of a line, and what was told."""

    def __init__(self):
        self.heard = []

    def tell(self, word, said=""):
        self.heard.append((word, said))

    def beat(self):
        pass


ROWS = schema.VIDEOS_TABLE.empty_table()
SETTINGS = ["where=here", "selection.clusters=4", "selection.unit=patches", "watch.false_alarms=0.05"]
SETTINGS += ["watch.selections=semdedup:0.5,random:20:patches,optidel:0.3"]


def settings(folder):
    return amend(tiny(), [f"store.uri={folder}/store", *SETTINGS])


def copied(made, folder):
    """The same store in a folder of a test's own."""
    shutil.copytree(made.store.uri, f"{folder}/store")
    return settings(folder)


# Each of these states is made once, on top of the one before, and never changed: a test has a copy of it.


@pytest.fixture(scope="module")
def first_day(tmp_path_factory):
    made = settings(tmp_path_factory.mktemp("first"))
    store = PatchStore(made.store.uri)
    store.create(rows.WIDTH)
    take_in(store, range(30), DAYS[0])
    return made


@pytest.fixture(scope="module")
def second_day(first_day, tmp_path_factory):
    made = copied(first_day, tmp_path_factory.mktemp("second"))
    follower = After(made, Line())
    follower.follow(ROWS)
    take_in(PatchStore(made.store.uri), range(30, 33), DAYS[1])
    follower.follow(ROWS)
    return made


@pytest.fixture(scope="module")
def fourth_day(second_day, tmp_path_factory):
    made = copied(second_day, tmp_path_factory.mktemp("fourth"))
    look_at_two_days(made)
    return made


def look_at_two_days(config):
    """A day of video like that of before, and one of blurred video from another folder."""
    store = PatchStore(config.store.uri)
    take_in(store, range(40, 43), DAYS[2])
    take_in(store, range(50, 53), DAYS[3], f"{FOLDER}/other", sharpness=3.0)
    drift.run(config)


@pytest.fixture
def config(first_day, tmp_path):
    """The store with the video of a day."""
    return copied(first_day, tmp_path)


@pytest.fixture
def followed(second_day, tmp_path):
    """With three videos of the next day, and all that follows both."""
    return copied(second_day, tmp_path)


@pytest.fixture
def drifted(fourth_day, tmp_path):
    """With those of two more days, the last of which are blurred, looked at for drift."""
    return copied(fourth_day, tmp_path)


def seen(store):
    """All that following wrote, but for what tells the time."""
    tables = {name: store.open(name).to_table() for name in ("alike", "drift", "selections")}
    return {name: sorted(map(str, found.to_pylist())) for name, found in tables.items()}


def test_a_batch_is_followed_by_what_the_store_has_and_twice_is_once(config, caplog):
    store, follower = PatchStore(config.store.uri), After(config, Line())
    follower.follow(ROWS)  # whatever rows it is told
    assert {one.method for one in choices.current(config)} == {"semdedup", "random", "optidel"}  # kept current, and chosen once
    chosen = store.open("selections").to_table()
    assert set(chosen["method"].to_pylist()) == {"semdedup", "random", "optidel"}
    assert store.query("SELECT count(*) AS many FROM alike").to_pylist()[0]["many"] > 5
    assert not store.has("drift")  # nothing before the first day
    take_in(store, range(30, 33), DAYS[1])
    with caplog.at_level(logging.INFO):
        follower.follow(ROWS)
    assert "of the reads of embeddings" in caplog.text
    first, runs = seen(store), len(tracking.runs(config, "choose"))
    follower.follow(ROWS)
    assert seen(store) == first
    assert len(tracking.runs(config, "choose")) == runs == 6
    assert not follower.aside.is_busy
    for one in selections.each(config):
        assert selections.made_from(one) == store.complete_version()


@pytest.mark.parametrize("method", ["random", "optidel"])
def test_a_selection_that_is_kept_current_is_that_of_solving_anew(second_day, method):
    store = PatchStore(second_day.store.uri)
    one = next(one for one in selections.each(second_day) if one.selection.method == method)
    pool = Pool(store.patches(selection.columns(one.selection)))
    expected = selection.choose(pool, one.selection, group=4).patch_ids
    made = named.newest(one)["tags"]["selection"]
    found = store.open("selections").to_table(filter=f"selection_id = '{made}'").sort_by("rank")["patch_id"].to_pylist()
    assert found == expected


def test_the_report_says_what_of_the_work_was_avoided(second_day):
    told = {one.method: one for one in choices.current(second_day)}
    assert set(told) == {"semdedup", "random", "optidel"}
    mine = told["semdedup"]
    assert (mine.new, mine.patches % 4) == (24, 0)
    assert 0 < mine.avoided_read < 1
    assert 0 < mine.avoided_pairs < 1
    assert mine.seconds > 0 < mine.full_seconds
    assert told["random"].avoided_read is None
    page = Page(render(Findings("t", "now", arrivals=Followed(choices.current(second_day)))))
    assert any("semdedup" in row[0] and "24" in row for row in page.table())


def test_the_shares_that_are_said_to_be_avoided_are_those_of_what_the_tables_were_asked_for(second_day, tmp_path, monkeypatch):
    """Embeddings as the tables gave them, beside those of a full solve of the same pool; pairs by loops over the clusters."""
    made = copied(second_day, tmp_path)
    one = next(one for one in selections.each(made) if one.selection.method == "semdedup")
    store, read, found = PatchStore(made.store.uri), [], StoredVectors.found
    take_in(store, range(60, 62), DAYS[2])
    monkeypatch.setattr(StoredVectors, "found", lambda self, places: (read.append(len(places)), found(self, places))[1])
    pool = choose.pool_of(one, store, store.complete_version())

    def solve(pool):
        read.clear()
        told = thrift.measured(one, pool, in_process, lambda pool, run: selection.choose(pool, one.selection, group=4, run=run))
        return *told, sum(read)

    (chosen, told, asked), (_, _, asked_in_full) = solve(pool), solve(replace(pool, clustering=None, rounded=None))
    assert told["choose/read"] == asked
    assert told["choose/avoided_read"] == pytest.approx(1 - asked / asked_in_full, abs=0.05)
    new, labels = pool.clustering.labels < 0, chosen.clustering.labels
    assert 0 < new.sum() < len(new)
    pairs = [(a, b) for a in range(len(new)) for b in range(a) if labels[a] == labels[b]]
    done = [new[a] or new[b] for a, b in pairs]
    assert told["choose/avoided_pairs"] == pytest.approx(1 - np.mean(done))


def test_video_like_the_pool_is_no_alarm_and_blurred_video_is_one_with_a_reason_and_without_a_name(followed, caplog):
    store = PatchStore(followed.store.uri)
    with caplog.at_level(logging.INFO):
        look_at_two_days(followed)
    found = {(row["day"], row["quantity"]): row for row in table.found(store).to_pylist()}
    assert [row["alarm"] for (day, _), row in found.items() if day == DAYS[2]].count(True) == 0
    blurred = found[DAYS[3], "sharpness"]
    assert blurred["alarm"]
    source = table.source(table.key(store), f"{FOLDER}/other")
    many = f"3 videos ({min(map(video, range(50, 53)))[:8]}…) of source {source}, {DAYS[3]}: "
    assert blurred["reason"] == f"{many}100 % of its frames have a sharpness of at most 3, of the pool's 0 %"
    assert blurred["pool"] == 36
    assert blurred["reason"] in caplog.text
    assert "MARKER" not in caplog.text + str(found)
    (run,) = tracking.runs(followed, "drift")[-1:]
    assert run["metrics"][f"drift/alarms/{source}"] >= 1
    assert "MARKER" not in str(run["metrics"]) + str(run["tags"])
    page = Page(render(Findings("t", "now", arrivals=Followed(days=table.found(store).to_pylist()))))
    assert blurred["reason"] in page.words()
    assert drawn(table.found(store).to_pylist()).alarms[0].startswith(many)
    sql = store.query("SELECT DISTINCT day, source FROM drift WHERE alarm").to_pylist()
    assert sql == [{"day": DAYS[3], "source": source}]


def test_it_is_told_which_sources_are_unlike_now_and_what_training_again_is_worth(drifted, monkeypatch):
    config, store = drifted, PatchStore(drifted.store.uri)
    source = table.source(table.key(store), f"{FOLDER}/other")
    found = table.found(store).to_pylist()
    assert list(table.standing(store, drift.today())) == [source]
    assert table.standing(store, DAYS[2]) == {}  # to which the day of the alarm is one to come
    told = standing.told(config)
    assert (told["unlike"], told["gain"], told["worth"]) == (1, None, False)
    assert told["drift"] in [row["reason"] for row in found if row["source"] == source]
    monkeypatch.setattr(table, "LATELY", timedelta(days=-1))
    assert table.standing(store, drift.today()) == {}
    monkeypatch.setattr(standing.worth, "pair", lambda config: ("older", "newer"))
    for gain, is_worth in ((0.19, False), (0.2, True)):
        monkeypatch.setattr(standing.worth, "told", lambda config, both, gain=gain: gain)
        assert standing.told(amend(config, ["watch.gain=0.2"]))["worth"] == is_worth


def test_what_was_said_of_a_day_with_a_forgotten_video_goes_and_is_said_without_it(drifted):
    store = PatchStore(drifted.store.uri)
    key = table.key(store)
    store.forget(video(51))
    assert table.key(store) == key
    assert video(51) not in str(table.found(store).to_pylist())
    assert (DAYS[3] in [row["day"] for row in table.found(store).to_pylist()]) is False
    drift.run(drifted)
    assert {row["videos"] for row in table.found(store).to_pylist() if row["day"] == DAYS[3]} == {2}


def stripped(store):
    """The table as an older engine left it: sources by their bare hashes, no key, and nothing of looks."""
    names = {table.source(table.key(store), folder): table.bare(folder) for folder in (FOLDER, f"{FOLDER}/other")}
    table.rename(store, names)
    store.open("drift").drop_columns(list(table.LATER))
    store.open("drift").update_schema_metadata({table.KEY.decode(): None})


def test_the_names_that_an_older_engine_gave_to_folders_become_those_of_the_key_and_their_days_are_spent(drifted):
    store = PatchStore(drifted.store.uri)
    before = table.found(store).to_pylist()
    stripped(store)
    assert table.bare(FOLDER) == hashlib.sha256(FOLDER.encode()).hexdigest()[:12] in str(table.found(store).to_pylist())
    drift.run(drifted)
    after = table.found(store).to_pylist()
    names = {table.bare(folder) for folder in (FOLDER, f"{FOLDER}/other")}
    assert not names & set(str(after).replace("'", " ").split())
    assert {row["source"] for row in after} == {table.source(table.key(store), folder) for folder in (FOLDER, f"{FOLDER}/other")}
    assert not any(name in row["reason"] for row in after if row["reason"] for name in names)
    kept = [{name: row[name] for name in ("day", "quantity", "distance", "alarm", "videos")} for row in before]
    key = ["day", "quantity", "distance", "alarm", "videos"]
    assert sorted(map(str, kept)) == sorted(str({name: row[name] for name in key}) for row in after)
    assert all(row["over"] and row["allowed"] == 0 for row in after)


KEYS = """
import sys
from engine.store import PatchStore
from engine.store import drift as table
from engine.store.vectors import StoredVectors
print(table.key(PatchStore(sys.argv[1])).hex())
"""


def test_a_store_has_one_key_whoever_asks_first_and_another_has_another(tmp_path):
    stores = [PatchStore(str(tmp_path / name)) for name in ("one", "two")]
    for store in stores:
        store.create(rows.WIDTH)
    command = [sys.executable, "-c", KEYS, stores[0].uri]
    asked = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {one.communicate()[0].strip() for one in asked}
    assert found == {table.key(stores[0]).hex()}
    assert len(bytes.fromhex(found.pop())) == 32
    assert table.source(table.key(stores[0]), FOLDER) != table.source(table.key(stores[1]), FOLDER) != table.bare(FOLDER)


def test_a_day_that_grows_is_looked_at_when_it_doubled_and_when_it_is_over_and_an_alarm_of_it_stays(tmp_path, monkeypatch):
    config = amend(tiny(), [f"store.uri={tmp_path}/store", "where=here", "watch.false_alarms=0.4"])
    store, seen = PatchStore(config.store.uri), []
    store.create(rows.WIDTH)
    take_in(store, range(40), DAYS[0])
    monkeypatch.setattr(drift, "today", lambda: DAYS[1])
    for number in range(100, 105):
        take_in(store, [number], DAYS[1], **({"sharpness": 3.0} if number == 100 else {}))
        drift.run(config)
        row = next(row for row in table.found(store).to_pylist() if row["quantity"] == "sharpness")
        seen.append((row["looks"], row["videos"], row["alarm"], row["over"]))
    assert seen == [(1, 1, True, False), (2, 2, True, False), (2, 2, True, False), (3, 4, True, False), (3, 4, True, False)]
    assert row["chance"] > row["allowed"]  # the later look was none
    assert row["reason"].startswith(f"video {video(100)[:8]}…")
    monkeypatch.setattr(drift, "today", lambda: DAYS[2])
    drift.run(config)
    row = next(row for row in table.found(store).to_pylist() if row["quantity"] == "sharpness")
    assert (row["looks"], row["videos"], row["over"], row["allowed"]) == (4, 5, True, pytest.approx(0.4 / 4))
    last = table.found(store).to_pylist()
    drift.run(config)
    assert table.found(store).to_pylist() == last
    take_in(store, [105], DAYS[1], sharpness=3.0)  # by another clock
    drift.run(config)
    late = [row for row in table.found(store).to_pylist() if row["quantity"] == "sharpness"]
    assert [(one["videos"], one["allowed"]) for one in late] == [(6, 0.0)]


def test_one_video_of_a_day_that_is_still_to_come_keeps_no_alarm_from_others_and_is_told(tmp_path, monkeypatch, caplog):
    config = amend(tiny(), [f"store.uri={tmp_path}/store", "where=here", "watch.false_alarms=0.4"])
    store = PatchStore(config.store.uri)
    store.create(rows.WIDTH)
    take_in(store, range(40), DAYS[0])
    take_in(store, [99], "2099-01-01", f"{FOLDER}/other")
    monkeypatch.setattr(drift, "today", lambda: DAYS[1])
    monkeypatch.setattr(standing, "today", lambda: DAYS[1])
    for number in range(100, 109):
        take_in(store, [number], DAYS[1], **({"sharpness": 3.0} if number > 100 else {}))
        drift.run(config)
    source = table.source(table.key(store), FOLDER)
    assert list(table.standing(store, DAYS[1])) == [source]
    assert standing.told(config)["unlike"] == 1
    assert caplog.text.count("a clock is wrong: videos of source") == 1
    assert f"were taken in on 2099-01-01, which is after today, {DAYS[1]}: 1;" in caplog.text
    assert not any(row["over"] for row in table.found(store).to_pylist() if row["day"] in (DAYS[1], "2099-01-01"))


def test_upkeep_reaches_the_tables_of_what_followed(followed):
    store = PatchStore(followed.store.uri)
    before, key = seen(store), table.key(store)
    told = store.maintain(UpkeepConfig(keep_hours=1e-9)).to_pylist()
    assert table.key(store) == key
    assert {"alike", "drift"} <= {row["name"] for row in told}
    assert seen(store) == before


def trained(config, made):
    with tracking.running(config, "pretrain", "m", {"selection": made}):
        pass


def trained_on_lots(config):
    """The selection by lot, of which a model is there."""
    made = [run["tags"]["selection"] for run in tracking.runs(config, "choose") if run["params"]["selection.method"] == "random"][-1]
    trained(config, made)
    return made


def test_the_gain_is_that_of_its_formula_and_a_model_of_the_same_selection_leaves_nothing(followed):
    store, one = PatchStore(followed.store.uri), selections.each(followed)[0]
    assert worth.pair(followed) is None  # no model yet
    old = trained_on_lots(followed)
    worth.run(followed)
    (run,) = tracking.runs(followed, "worth")
    told = {name.removeprefix("worth/"): value for name, value in run["metrics"].items()}
    now = named.newest(one)["tags"]["selection"]
    assert (run["tags"]["trained"], run["tags"]["selection"]) == (old, now)
    patches = {row["patch_id"]: row for row in store.patches(["patch_id", "pixels", "difficulty"]).to_pylist()}
    kept = store.clustering("kinds", pa.chunked_array([list(patches)]))
    labels = dict(zip(patches, kept.labels.tolist(), strict=True))
    parts = []
    for name in (old, now):
        ids = store.open("selections").to_table(filter=f"selection_id = '{name}'")["patch_id"].to_pylist()
        seen = np.stack([colours_of(one, patches[one]["pixels"], followed.difficulty) for one in ids])
        mine = information(seen, np.array([patches[one]["difficulty"] for one in ids]))
        parts.append(len({labels[one] for one in ids}) / len(set(labels.values())) * mine)
    assert run["tags"]["reason"] == ""
    assert told["gain"] == pytest.approx(parts[1] / parts[0] - 1, rel=1e-4)
    worth.run(followed)
    assert len(tracking.runs(followed, "worth")) == 1
    allowed = amend(followed, ["watch.retrain=true", f"watch.gain={abs(told['gain']) + 1}"])
    assert not worth.is_due(allowed)


def made_ahead(config, version):
    """All runs that are of an older version of the patches, a day later: by the clock of a machine that is ahead."""
    with closing(sqlite3.connect(f"{config.store.uri}/mlflow.db")) as runs, runs:
        older = "SELECT run_uuid FROM tags WHERE key = 'patches_version' AND CAST(value AS INTEGER) < ?"
        moved = runs.execute(f"UPDATE runs SET start_time = start_time + 86400000 WHERE run_uuid IN ({older})", [version]).rowcount
    assert moved >= 3


def test_a_clock_that_was_ahead_makes_no_older_selection_or_model_the_newest(followed, caplog):
    store, mine = PatchStore(followed.store.uri), selections.each(followed)
    version, now = store.complete_version(), [named.newest(one)["tags"]["selection"] for one in mine]
    before = [one["tags"] for one in tracking.runs(followed, "choose")]
    for made in (before[0], before[-1]):
        with tracking.running(followed, "pretrain", made["selection"], {name: made[name] for name in ("selection", "patches_version")}):
            pass
    made_ahead(followed, version)
    assert [named.newest(one)["tags"]["selection"] for one in mine] == now
    assert [selections.made_from(one) for one in mine] == [version] * 3
    selections.run(followed)
    assert len(tracking.runs(followed, "choose")) == len(before)
    assert worth.pair(followed) == (before[-1]["selection"], now[0])
    take_in(store, range(33, 36), DAYS[1])
    with caplog.at_level(logging.INFO):
        selections.run(followed)
    assert [selections.made_from(one) for one in mine] == [store.complete_version()] * 3
    assert caplog.text.count(f"of version {version} ") == 3


def test_a_training_is_submitted_once_for_a_selection_and_gone_on_with_after_a_death(followed, monkeypatch):
    store, calls = PatchStore(followed.store.uri), []
    allowed = amend(followed, ["watch.retrain=true", "watch.gain=0"])
    trained_on_lots(followed)
    monkeypatch.setattr(worth, "told", lambda config, both: 0.5)
    now = worth.pair(allowed)[1]
    model = pretrain.model(worth.target(allowed), now)

    def dies(config, name, retained):
        calls.append(name)
        raise KeyboardInterrupt

    def ends(config, name, retained):
        calls.append(name)
        (tmp := Path(store.address(model))).parent.mkdir(exist_ok=True)
        tmp.write_bytes(b"weights")

    assert not worth.is_due(followed)  # it is not allowed
    monkeypatch.setattr(pretrain, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        worth.train(allowed)
    assert worth.due(allowed) == worth.pending(allowed) == now
    monkeypatch.setattr(pretrain, "train", ends)
    worth.train(allowed)
    worth.train(allowed)
    assert calls == [now, now]
    assert [name for name, _ in journal.entries(store, "retrain")] == [now]
    assert not worth.is_due(allowed)


PATIENT = ["watch.backoff_s=1000", "watch.backoff_most_s=1000"]  # seconds at most until it is tried again, drawn by lot: hundreds
HASTY = ["watch.backoff_s=1e-9", "watch.backoff_most_s=1e-9"]


def steps(monkeypatch, **made):
    monkeypatch.setattr(after, "STEPS", made)
    monkeypatch.setattr(after, "DUE", {})


def refuses(config):
    raise ValueError("no such thing")


def broken(config):
    return {}["x"]


def test_what_fails_and_what_is_a_bug_is_told_once_and_the_rest_is_done(tmp_path, monkeypatch, caplog):
    done = []
    steps(monkeypatch, one=refuses, two=broken, three=done.append)
    follower = After(amend(settings(tmp_path), HASTY), Line())
    for _ in range(3):
        follower.follow(ROWS)
    assert len(done) == 3
    assert caplog.text.count("one: no such thing; it is tried again later") == 1
    assert caplog.text.count("two: a bug, which ends this step only: KeyError at test_after.py:") == 1
    assert "broken < " in caplog.text
    heard = follower.line.heard
    assert [said for word, said in heard if word == "follows" and said] == ["one", "two", "three"] * 3
    assert heard.count(("setback", {"step": "two", "reason": "KeyError"})) == 3
    assert follower.setbacks.found == {"one": Setback(3, 0, "ValueError: no such thing"), "two": Setback(3, 0, "KeyError: 'x'")}


def test_what_failed_lately_is_put_off_and_made_up_for_and_told_when_it_is_done(tmp_path, monkeypatch, caplog):
    tried = []

    def fails_at_first(config):
        tried.append(1)
        if len(tried) < 2:
            raise ValueError("not yet")

    steps(monkeypatch, one=fails_at_first)
    follower = After(amend(settings(tmp_path), PATIENT), Line())
    follower.follow(ROWS)
    assert not follower.owed  # no batch came since
    follower.follow(ROWS)
    assert len(tried) == 1
    assert (follower.owed, follower.is_due, follower.is_over) == ({"one"}, False, False)
    follower.setbacks.until["one"] = 0.0
    assert follower.is_due
    with caplog.at_level(logging.INFO):
        follower.make_up()
    assert (len(tried), follower.owed, follower.is_over, follower.setbacks.found) == (2, set(), True, {})
    assert "one: done again; tries in vain: 1" in caplog.text
    assert follower.line.heard[-1] == ("setbacks", {})


def test_a_step_that_ended_the_process_too_often_is_left_out_and_who_is_told_to_stop_stops(tmp_path, monkeypatch):
    done = []
    steps(monkeypatch, one=done.append, two=done.append)
    before = {"one": Setback(3, 3, "it was silent"), "two": Setback(2, 2, "it was silent")}
    follower = After(amend(settings(tmp_path), [*HASTY, "watch.tries=3"]), Line(), Past(setbacks=before))
    follower.follow(ROWS)
    assert len(done) == 1
    assert follower.setbacks.found == {"one": before["one"]}
    assert (follower.is_due, follower.is_over) == (False, True)

    def interrupted(config):
        raise KeyboardInterrupt

    steps(monkeypatch, one=interrupted)
    follower = After(settings(tmp_path), Line())
    with pytest.raises(KeyboardInterrupt):
        follower.follow(ROWS)
    assert follower.line.heard[-1] == ("follows", "")  # so that nobody blames the step
    assert not follower.setbacks.found


@pytest.mark.processes
def test_what_fails_beside_is_a_setback_with_its_step_and_reason_told_once_and_put_off(tmp_path, monkeypatch, caplog):
    steps(monkeypatch)
    monkeypatch.setattr(after, "DUE", {"rescore": lambda config: True})
    follower = After(amend(settings(tmp_path), PATIENT), Line())  # of a store that is not there

    def end_beside():
        deadline = time.monotonic() + 200
        while not follower.has_ended_beside() and time.monotonic() < deadline:
            time.sleep(0.1)

    follower.follow(ROWS)
    end_beside()
    reason = follower.setbacks.found["beside"].reason
    assert reason.startswith("rescore: ")
    assert str(tmp_path) in reason
    assert ("setback", {"step": "beside", "reason": "rescore"}) in follower.line.heard
    assert caplog.text.count(f"beside: {reason}; it is tried again later") == 1
    assert (follower.owed, follower.is_due, follower.is_over) == (set(), False, True)
    follower.follow(ROWS)  # a batch too early
    assert (follower.aside.is_free, follower.owed, follower.is_due, follower.is_over) == (True, {"beside"}, False, False)
    follower.setbacks.until["beside"] = 0.0
    assert follower.is_due
    follower.aside.work = workers.does_nothing
    follower.make_up()
    end_beside()
    assert (follower.setbacks.found, follower.is_due) == ({}, True)


def test_what_a_step_leaves_is_done_beside_also_where_the_step_was_made_up_for(tmp_path, monkeypatch):
    answers, started = [ValueError("not yet"), True, False], []

    def leaves(config):
        answer = answers.pop(0)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    steps(monkeypatch, one=leaves)
    follower = After(amend(settings(tmp_path), PATIENT), Line())
    monkeypatch.setattr(follower.aside, "start", lambda: started.append(list(answers)))
    for _ in range(2):  # it fails, and is put off
        follower.follow(ROWS)
    assert not started
    follower.setbacks.until["one"] = 0.0
    follower.make_up()
    assert started == [[False]]
    follower.follow(ROWS)
    assert (answers, len(started)) == ([], 1)


def test_after_every_batch_it_is_asked_what_is_due_beside(tmp_path, monkeypatch):
    steps(monkeypatch)
    asked = []
    monkeypatch.setattr(after, "DUE", {"rescore": lambda config: bool(asked.append("rescore"))})
    follower = After(settings(tmp_path), Line())
    for _ in range(3):
        follower.follow(ROWS)
    assert asked == ["rescore"] * 3


def test_to_train_again_is_worth_it_from_the_very_gain_that_is_asked_for():
    bound = amend(tiny(), ["watch.gain=0.2"])
    assert [" not worth training" in worth.verdict(gain, bound) for gain in (0.19, 0.2, 0.21)] == [True, False, False]


def test_of_what_a_step_took_the_slowest_is_told(tmp_path, monkeypatch):
    follower, clock, seconds = After(settings(tmp_path), Line()), [0.0], [20.0, 15.0, 30.0, 5.0]
    monkeypatch.setattr(after, "monotonic", lambda: clock[0])
    monkeypatch.setitem(after.STEPS, "drift", lambda config: clock.__setitem__(0, clock[0] + seconds.pop(0)))
    while seconds:
        follower.timed("drift")
    assert follower.took == {"drift": 30.0}
    assert [word for word, _ in follower.line.heard] == ["took", "took"]


def test_a_process_beside_gives_way_to_what_takes_video_in():
    command = "import os, multiprocessing as m\nfrom jobs import aside\na, b = m.Pipe()\naside.begin(a)\nprint(os.nice(0), flush=True)"
    found = subprocess.run([sys.executable, "-c", f"{command}\nos._exit(0)"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(found.stdout) == os.nice(0) + aside.NICE


def test_that_near_duplicates_wait_for_clusters_is_said_once_however_many_batches_come(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    made = settings(tmp_path)
    PatchStore(made.store.uri).create(rows.WIDTH)
    for number in range(3):
        take_in(PatchStore(made.store.uri), [number], DAYS[0])
        alike.soon(made)
    assert caplog.text.count("near-duplicates are told once there are clusters: the job choose makes them") == 1


def test_upkeep_is_due_so_long_after_the_last_whoever_did_it(tmp_path):
    made = amend(settings(tmp_path), ["watch.upkeep_s=1000"])
    store = PatchStore(made.store.uri)
    store.create(rows.WIDTH)
    assert due_in(made) == 1000  # nothing to keep
    take_in(store, [1], DAYS[0])
    assert due_in(made) == 0  # months ago
    store.maintain(UpkeepConfig())
    assert 900 < due_in(made) <= 1000


def test_upkeep_by_a_machine_whose_clock_is_ahead_puts_off_the_next_no_longer_than_its_time(tmp_path):
    made = amend(settings(tmp_path), ["watch.upkeep_s=1000"])
    store = PatchStore(made.store.uri)
    store.create(rows.WIDTH)
    take_in(store, [1], "2999-01-01")
    assert due_in(made) == 1000


@pytest.mark.parametrize(
    ("took", "deaths", "seconds"),
    [(None, 0, 3600), (0.1, 0, 600), (30, 0, 600), (60, 0, 1200), (600, 0, 12000), (0.1, 1, 3600), (600, 1, 12000)],
)
def test_a_step_may_take_many_times_what_it_took_and_an_hour_where_that_is_not_known_or_was_too_little(tmp_path, took, deaths, seconds):
    past = Past(setbacks={"drift": Setback(deaths, deaths, "")} if deaths else {}, took={} if took is None else {"drift": took})
    assert After(settings(tmp_path), Line(), past).longest("drift") == seconds


def test_a_step_gives_signs_of_life_for_as_long_as_it_may_take_and_the_next_process_hears_what_it_took(tmp_path, monkeypatch):
    pauses, beats = [0.0, 0.2, 0.0, 1.5], []
    for module, name, value in ((line, "BEAT", 0.02), (after, "LEAST", 0.1), (after, "SLOWER", 2.0), (after, "TELLING", 0.1)):
        monkeypatch.setattr(module, name, value)
    steps(monkeypatch, one=lambda config: time.sleep(pauses.pop(0)))
    follower = After(settings(tmp_path), Line())
    follower.line.beat = lambda: beats.append(1)
    for _ in range(3):
        follower.follow(ROWS)
    told = [said["one"] for word, said in follower.line.heard if word == "took"]
    assert len(told) == 1  # the two that had nothing to do say nothing
    assert told[-1] == pytest.approx(0.2, abs=0.1)
    beats.clear()
    follower.follow(ROWS)
    assert 2 * 0.2 / 0.02 <= len(beats) <= 2 * (told[-1] + 0.1) / 0.02  # silent for the rest


def test_signs_of_life_are_given_while_it_works_and_not_for_ever(monkeypatch):
    beats = []
    monkeypatch.setattr(line, "BEAT", 0.01)
    with beating(lambda: beats.append(1), 0.05):
        time.sleep(0.5)
    assert len(beats) == 5


def test_the_jobs_can_be_run_by_hand(followed):
    for job in (alike, drift, selections, worth):
        job.run(followed)
    assert choose.selection.clustering_of(followed.selection) == ""


BESIDE = """
import os, signal, sys, time
from pathlib import Path
from engine.knobs import amend
from jobs.aside import Aside
from jobs.recipes import tiny
from tests.crashes import workers

if __name__ == "__main__":
    aside = Aside(amend(tiny(), [f"store.uri={sys.argv[1]}"]), workers.lingers)
    aside.start()
    while not Path(sys.argv[1], "aside").exists():
        time.sleep(0.1)
    if sys.argv[2] == "ends":
        aside.end()
        assert not aside.is_busy
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["ends", "killed"])
@pytest.mark.processes
def test_what_goes_on_beside_ends_with_the_watcher_however_that_ends(tmp_path, how):
    (tmp_path / "beside.py").write_text(BESIDE)
    done = subprocess.run([sys.executable, tmp_path / "beside.py", tmp_path, how], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == (0 if how == "ends" else -9)
    pid, deadline = int((tmp_path / "aside").read_text()), time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def held(store, table="selections"):
    return set(store.open(table).to_table(columns=["selection_id"])["selection_id"].to_pylist())


KILLED = """
import os, signal, sys
from engine.knobs import amend
from engine.store import PatchStore, selections
from jobs import outdated
from jobs.recipes import tiny

def dies_at_images(tables, table, *rest):
    if table == "images":
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(tables, table, *rest)

replace, selections.replace = selections.replace, dies_at_images
config = amend(tiny(), sys.argv[1:])
outdated.prune(config, PatchStore(config.store.uri))
"""


@pytest.mark.processes
def test_of_selections_kept_current_the_newest_stay_and_those_in_use_and_a_death_in_the_middle_leaves_nothing(tmp_path):
    words = [f"store.uri={tmp_path}/store", "where=here", "watch.selections=random:0.5", "watch.keep_selections=2"]
    config = amend(tiny(), words)
    store, made = PatchStore(config.store.uri), []
    store.create(rows.WIDTH)
    one = selections.each(config)[0]
    for turn in range(6):
        take_in(store, [300 + 2 * turn, 301 + 2 * turn], DAYS[0])
        if turn < 5:
            selections.run(config)
            made.append(named.newest(one)["tags"]["selection"])
        if turn == 0:
            trained(config, made[0])
        if turn == 1:
            choose.run(one)  # by a person, who has the same settings
        assert held(store) == held(store, "images") == {*made[:2], *made[-2:]}
    choose.run(one, selections.name_of(one))  # and nobody pruned
    assert held(store) == held(store, "images") > {made[3]}
    done = subprocess.run([sys.executable, "-c", KILLED, *words], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -9
    assert made[3] not in held(store)
    assert made[3] in held(store, "images")
    selections.run(config)
    assert made[3] not in held(store) | held(store, "images")
    gone = [name for name, detail in journal.entries(store, "selections") if detail["step"] == "removed"]
    assert gone == made[2:4]
    before = store.open("selections").version
    selections.run(config)
    assert store.open("selections").version == before


def test_what_is_old_is_what_the_journal_says_of_each_settings():
    def made(name, by="a"):
        return name, {"step": "made", "by": by}

    assert outdated.old([made("1"), made("2"), made("3")], 2) == ["1"]
    assert outdated.old([made("1"), made("2"), made("1"), made("3")], 2) == ["2"]  # chosen again
    assert outdated.old([made("1"), made("2"), made("3"), ("1", {"step": "removed"})], 2) == []
    assert outdated.old([made("1"), ("1", {"step": "removed"}), made("1"), made("2"), made("3")], 2) == ["1"]
    assert outdated.old([made("1"), made("2"), made("3"), made("1", "b")], 2) == []  # the newest of others


def test_of_several_selections_one_that_cannot_be_made_keeps_no_other_from_being_made(config):
    store = PatchStore(config.store.uri)
    take_in(store, [70], DAYS[9])
    with pytest.raises(ValueError, match="holds no image of 4"):
        selections.run(amend(config, ["watch.selections=random:0.001:patches,random:24:patches"]))
    one = amend(config, ["watch.selections=random:24:patches"])
    assert selections.made_from(selections.each(one)[0]) == store.complete_version()
