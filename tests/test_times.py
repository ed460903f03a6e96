"""What `python -m jobs.fleet` takes: times of which a table can be drawn that means something, all else is told in a sentence; and the
pass in which video is read before it is decoded.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine import fleet, flow
from engine.plan import Prices
from jobs import fleet as forecasts
from jobs import ingest
from jobs.recipes import RECIPES
from tests.test_fleet import SERVICES

HELD = Path(__file__).parent.parent / "cluster" / "times.json"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected a file of times"),
        (["no-such-file.json"], "no-such-file.json holds no times as cluster/times.json does: [Errno 2] No such file"),
        (["pyproject.toml"], "Invalid JSON"),
        (["list.json"], "Input should be an object"),
        (["empty.json"], "services: Field required"),
    ],
)
def test_without_a_file_of_times_there_is_a_sentence_and_no_table(words, sentence, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in (("pyproject.toml", "[project]"), ("list.json", "[]"), ("empty.json", "{}")):
        Path(name).write_text(text)
    assert forecasts.main(words) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert sentence in told.err


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("sizes", "small", "gpus_each"), 0, "sizes.small.gpus_each=0"),
        (("sizes", "small", "gpus_each"), 7, "4 GPUs do not make whole nodes of 7"),
        (("sizes", "small", "gpus"), None, "sizes.small.gpus=None"),
        (("video_frames",), 0, "video_frames=0"),
        (("video_frames",), "1800", "video_frames=1800: Input should be a valid integer"),
        (("video_frames",), 2, "video_frames=2"),
        (("block_frames",), 0, "block_frames=0"),
        (("commit_s",), -1, "commit_s=-1"),
        (("services",), [], "services=[]"),
        (("services", 1, "gpus"), 2, "the smallest pools, one processor beside them, need 2.25 GPUs and has 1"),
        (("services", 1, "start_up"), -1, "ProposePatches: start_up=-1"),
        (("services", 0, "batch"), 0, "DecodeFrames: batch=0, expected 1 or more"),
        (("services", 1, "batch"), -3, "ProposePatches: batch=-3, expected 1 or more"),
        (("services", 0, "stage"), "", "a stage has no name"),
        (("services", 2, "stage"), "DecodeFrames", "two are of the stage DecodeFrames"),
        (("services", 1, "stage"), "Propose", "none is of the stage ProposePatches"),
        (("services", 1, "out_per_row"), 11.0, "ProposePatches makes 11 rows of a frame (rows_per_frame, out_per_row) and ScoreDifficulty"),
        (("services", 1, "seconds"), 3.0, "services.1.seconds"),
        (("services", 0, "seconds_per_row"), 1e9, "DecodeFrames: 1 GPUs would want 1.62e+08 actors of it, expected fewer than 20,000"),
        (("sizes", "small", "recipe"), "clustre", "sizes.small.recipe=clustre: Input should be 'tiny', 'one_gpu' or 'cluster'"),
        (("sizes", "small", "gpu"), 4, "sizes.small.gpu"),
        (("sizes", "small", "gpus"), 10**7, "DecodeFrames: 10000000 GPUs would want 4.95e+05 actors of it, expected fewer than 20,000"),
        (("sizes", "small", "gpus"), 10**400, "sizes.small.gpus="),
        (("blok_s",), 0.04, "blok_s"),
        (("reader_mb_s",), 0.0, "reader_mb_s=0"),
    ],
)
def test_times_of_which_no_table_can_be_drawn_are_told_by_the_number_that_is_wrong(place, value, sentence, tmp_path, capsys):
    held = json.loads(HELD.read_text())
    *way, last = place
    inner = held
    for part in way:
        inner = inner[part]
    inner[last] = value
    (tmp_path / "times.json").write_text(json.dumps(held))
    assert forecasts.main([str(tmp_path / "times.json")]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert sentence in told.err


def told_of(held, tmp_path, capsys):
    (tmp_path / "times.json").write_text(json.dumps(held))
    assert forecasts.main([str(tmp_path / "times.json")]) == 2
    return capsys.readouterr().err


def test_stages_in_another_order_than_the_pipeline_s_are_told_of(tmp_path, capsys):
    held = json.loads(HELD.read_text())
    held["services"].reverse()
    assert "and ScoreDifficulty after it has 12: name them in the order of the pipeline" in told_of(held, tmp_path, capsys)


def test_a_pipeline_without_gpus_is_told_of_and_not_counted_without_end(tmp_path, capsys):
    held = json.loads(HELD.read_text())
    for service in held["services"]:
        service["gpus"] = 0.0
    assert "no stage takes time on a GPU (gpus, seconds_per_row)" in told_of(held, tmp_path, capsys)


# -- what is read before it is decoded ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("videos", "turns"), [(1, 1), (7, 1), (8, 2), (20, 3), (21, 4), (27, 4), (28, 5), (40, 6)])
def test_before_a_round_is_decoded_all_of_it_is_read_by_a_reader_on_each_processor_but_one(videos, turns):
    made = replace(fleet.widest(SERVICES, 4), cpus=8.25)
    assert fleet.reading(made, videos, 3.0, together=20, most=100) == 3.0 * turns
    assert fleet.reading(made, videos, 3.0, together=20, most=1) == 3.0 * videos


def test_what_is_read_before_is_paid_for_and_is_the_bottleneck_where_it_takes_longer_than_the_rest():
    made, prices = fleet.widest(SERVICES, 4), Prices(0.05, 2.5)
    line = fleet.stations(made, 4, 10**6, [])
    at_once = fleet.forecast(line, made, 10**5, 4, prices)
    waited, most = (fleet.delayed(at_once, made, seconds, prices) for seconds in (2.0e4, 3.0e4))
    assert waited.cost.hours == pytest.approx(at_once.cost.hours + 2.0e4 / 3600)
    assert waited.gpu_use == pytest.approx(at_once.gpu_use * at_once.cost.hours / waited.cost.hours)
    assert waited.cost.money == pytest.approx(at_once.cost.money * waited.cost.hours / at_once.cost.hours)
    assert [one.bottleneck for one in (at_once, waited, most)] == ["model", "model", fleet.HASHING]


def test_the_tables_have_the_readers_rounds_and_recipes_that_there_are():
    assert forecasts.Size.__annotations__["recipe"].__args__ == tuple(RECIPES)
    assert (forecasts.READERS, forecasts.ROUND) == (ingest.READERS, ingest.ROUND)
    assert [flow.widest(ingest.identify(), cpus) for cpus in (6.0, 158.0, 10_000.0)] == [[5], [157], [ingest.READERS]]
    times = forecasts.read(HELD)
    slow, no = (forecasts.foreseen(replace(times, frame_mb=mb), 1000, 10**7) for mb in (2000.0, 0.0))
    assert slow.bottleneck == fleet.HASHING
    turns = 2 + 1  # of 4,096 videos, and of the 1,460 after them, by the 2,048 readers of 2,233 processors
    assert (slow.cost.hours - no.cost.hours) * 3600 == pytest.approx(turns * 1800 * 2000 / 100)
