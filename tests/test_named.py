"""A selection that somebody made by hand is trained on by its id, and all that is made of it says so."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import rebuild, schema, synthesis, tracking
from engine.browser import asking, writes
from engine.browser.looks import Looks
from engine.config import SelectionConfig, SynthesisConfig
from engine.knobs import amend
from engine.selection import Selection
from engine.store import PatchStore, WriteRows
from jobs import choices, choose, evaluate, export, named, pretrain
from jobs.recipes import tiny
from tests import rows
from tests.browsed import A, take_in

MADE = "browse-0a1b2c"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A store of 24 patches and a selection of eight of them, whose method no settings name."""
    folder = tmp_path_factory.mktemp("named")
    made = amend(tiny(), ["where=here", f"store.uri={folder}/store", f"selection.named={MADE}", "transfer.uri="])
    store = PatchStore(made.store.uri)
    store.create(rows.WIDTH)
    take_in(store, A)
    save(store, MADE)
    return made


def save(store, name, count=8):
    ids = store.sample(count, 1)["patch_id"].to_pylist()
    table = Selection(name, ids, np.full(count, 700, np.int32), 0.5).rows(
        SelectionConfig(budget=count, unit="patches"), store.complete_version()
    )
    place = table.schema.get_field_index("method")
    table = table.set_column(place, table.schema.field(place), [["browse"] * count])
    store.save(table, [synthesis.synthesise(store.patches(synthesis.READ.names), ids, name, 0, SynthesisConfig())])


def held(config, name):
    return PatchStore(config.store.uri).open("selections").to_table(filter=f"selection_id = '{name}'").sort_by("rank").to_pylist()


def test_what_is_named_is_chosen_and_stays_as_it_is(config):
    before = held(config, MADE)
    choose.run(config)
    assert held(config, MADE) == before
    assert pretrain.chosen(config) == (MADE, 0.5)
    run = tracking.runs(config, "choose")[-1]
    assert (run["tags"]["selection"], run["tags"]["named"], run["metrics"]["choose/images"]) == (MADE, MADE, 2)


def test_another_layout_of_it_is_another_training_set_of_the_same_patches(config):
    single = amend(config, ["synthesis.patches=1"])
    with pytest.raises(LookupError, match=f"run the job choose with selection.named={MADE} and the same synthesis"):
        pretrain.chosen(single)
    choose.run(single)
    name, retained = pretrain.chosen(single)
    assert name == named.training_set(single) == synthesis.named(MADE, single.synthesis) != MADE
    assert [row["patch_id"] for row in held(config, name)] == [row["patch_id"] for row in held(config, MADE)]
    assert {(row["method"], row["budget"], row["unit"]) for row in held(config, name)} == {("browse", 8, "patches")}
    assert 0 < retained < 1
    assert len(PatchStore(config.store.uri).reader(name)) == 8
    assert len(rebuild.faults(PatchStore(config.store.uri), name)) == 0
    assert named.training_set(amend(single, [f"selection.named={name}"])) == name


def test_a_name_that_is_none_is_refused_with_those_there_are(config):
    for job in (pretrain, choose):
        with pytest.raises(LookupError, match=f"has no selection no-such .it has {MADE}"):
            job.run(amend(config, ["selection.named=no-such"]))
    with pytest.raises(ValueError, match=r"selection\.named"):
        amend(config, ["selection.named=' OR 1=1"])


def test_what_was_named_does_not_pass_for_a_choice_by_the_knobs_that_were_not_looked_at(config):
    """The newest run of `choose` has these very knobs, and looked at none of them."""
    mine = amend(config, ["selection.named=", "selection.method=random", "selection.budget=0.5"])
    choose.run(mine)
    (made,) = (one["tags"]["selection"] for one in tracking.runs(mine, "choose") if "named" not in one["tags"])
    choose.run(amend(mine, [f"selection.named={MADE}"]))
    assert named.newest(amend(mine, [f"selection.named={MADE}"]))["tags"]["selection"] == MADE
    assert pretrain.chosen(mine)[0] == named.newest(mine)["tags"]["selection"] == made


def exported(config, folder):
    export.run(amend(config, [f"export.path={folder}"]))
    return sorted(path.name for path in folder.iterdir())


def test_pretrain_and_export_take_the_set_of_these_very_knobs_or_none(config, tmp_path):
    """Three sets of one method, budget, unit and seed: whoever names them gets the one that was made so, newest or not."""
    mine = amend(config, ["selection.named=", "selection.method=random", "selection.budget=18", "selection.unit=patches"])
    others = [["synthesis.patches=9"], ["synthesis.order=diverse"], []]
    made = {}
    for number, knobs in enumerate(others):
        choose.run(amend(mine, knobs))
        made[number] = tracking.runs(mine, "choose")[-1]["tags"]["selection"]
    assert len(set(made.values())) == 3
    for number, knobs in enumerate(others):
        one = amend(mine, knobs)
        assert pretrain.chosen(one)[0] == made[number]
        assert exported(one, tmp_path / str(number)) == [made[number]]
    for knobs in (["selection.clusters=5"], ["synthesis.patches=1"], ["synthesis.patches=9", "synthesis.fill=pad"]):
        never = amend(mine, knobs)
        for ask in (pretrain.chosen, lambda one: exported(one, tmp_path)):
            with pytest.raises(LookupError, match=r"none by all these knobs .* run the job choose with the same knobs first, or name one"):
                ask(never)


def test_a_set_of_which_no_run_tells_is_taken_by_its_method_and_budget_and_that_is_said(config, tmp_path, caplog):
    mine = amend(config, ["selection.named=", "selection.method=easy", "selection.budget=8", "selection.unit=patches"])
    choose.run(mine)
    (made,) = (one["tags"]["selection"] for one in tracking.newest(mine, "choose") if one["params"]["selection.method"] == "easy")
    away = amend(mine, [f"tracking.uri=sqlite:///{tmp_path}/other.db", "selection.clusters=5"])
    with caplog.at_level(logging.WARNING, "jobs.named"):
        assert pretrain.chosen(away)[0] == made
    assert f"no run of the job choose tells how {made} was made" in caplog.text


def test_a_choice_by_rded_that_is_named_is_not_dealt_out_again(config):
    mine = amend(config, ["selection.named=", "selection.method=rded", "selection.budget=4", "selection.unit=patches"])
    choose.run(mine)
    spread = amend(mine, [f"selection.named={named.asked(mine)}", "synthesis.order=spread"])
    with pytest.raises(ValueError, match=r"selection.named=rded-\w+ deals its patches out over the images"):
        choose.run(spread)


def test_the_report_says_how_a_named_selection_was_made_and_not_what_the_knobs_say(config):
    """They say optidel and a share, of which nobody took notice."""
    save(PatchStore(config.store.uri), "browse-12ab", 12)
    mine = amend(config, ["selection.named=browse-12ab"])
    choose.run(mine)
    assert ("browse", "12 patches", "browse-12ab") in {(one.method, one.budget, one.selection) for one in choices.judgements(mine)}
    assert not [one for one in choices.judgements(mine) if one.method == mine.selection.method]


def test_a_name_changes_no_id_of_what_is_chosen_and_is_not_kept_current(config):
    assert SelectionConfig(named=MADE).fingerprint() == SelectionConfig().fingerprint()
    (one,) = amend(config, ["watch.selections=random:0.5"]).maintained()
    assert (one.named, one.method) == ("", "random")


def test_the_images_of_a_name_are_exported(config, tmp_path):
    export.run(amend(config, [f"export.path={tmp_path}"]))
    assert len(list((tmp_path / MADE).rglob("*.jpg"))) == 2


def test_the_same_patches_retain_the_same_share_whether_knobs_a_name_or_a_view_chose_them(tmp_path):
    """Of a store that holds the whole frames too, which nobody chose among."""
    mine = amend(tiny(), ["where=here", f"store.uri={tmp_path}/store", "selection.method=random", "selection.unit=patches"])
    store = PatchStore(mine.store.uri)
    store.create(rows.WIDTH)
    taken = rows.scored("a" * 32, 6, 3).to_pylist()
    for row in taken:
        if (row["patch_id"] or "").endswith(":2,0,32,40:crops-0"):
            row |= {"proposer": schema.FRAME_PROPOSER, "patch_id": f"{row['frame_id']}:0,0,96,128:frame-0", "bytes": 9000}
    store.commit(pa.concat_tables(WriteRows(store.uri)(pa.Table.from_pylist(taken, rows.wide()))), rows.videos("a" * 32), rows.STAMP)

    choose.run(amend(mine, ["selection.budget=8"]))
    (made,) = (one["tags"]["selection"] for one in tracking.runs(mine, "choose"))
    share = held(mine, made)[0]["retained"]
    patches = {row["patch_id"]: row["bytes"] for row in store.patches(["patch_id", "bytes"], "proposer != 'frame'").to_pylist()}
    assert share == pytest.approx(sum(patches[row["patch_id"]] for row in held(mine, made)) / sum(patches.values()))

    single = amend(mine, [f"selection.named={made}", "synthesis.patches=1"])
    choose.run(single)
    assert pretrain.chosen(single) == (named.training_set(single), share)

    view = Looks(store).view(asking.read({"sql": f"SELECT patch_id FROM selections WHERE selection_id = '{made}'"}))
    seen = writes.chosen(store, view, mine.synthesis)["selection"]
    assert held(mine, seen)[0]["retained"] == share


@pytest.mark.slow
def test_a_model_of_it_says_which_patches_and_how_many_and_is_evaluated_as_made_by_hand(config):
    small = amend(config, ["pretrain.epochs=1", "pretrain.warmup_epochs=0", "pretrain.batch=2"])
    pretrain.run(small)
    run = tracking.runs(small, "pretrain")[-1]
    assert run["tags"]["selection"] == MADE
    contender = evaluate.pretrained(small)
    assert (contender.method, contender.selection, contender.retained) == ("browse", MADE, 0.5)
    assert evaluate.budget(small) == (8, "patches")
    (card,) = Path(small.store.uri, "models").rglob("*.md")
    assert "8 patches" in card.read_text()
