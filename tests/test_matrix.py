"""One YAML file in, cells out: which there are, what each is told, and what a wrong file says."""

from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from engine import entries
from engine.config import Config
from engine.knobs import amend
from jobs import layers, matrix
from jobs.__main__ import main, parse
from jobs.recipes import tiny

TREE = {
    "name": "trial",
    "budgets": ["0.1", "0.5"],
    "seeds": ["0", "3"],
    "architectures": {"mae": {}, "simclr": {"pretrain": {"architecture": "simclr"}, "evaluate": {"architecture": "unet"}}},
    "pools": {"frames": {"selection": {"of": "frames"}, "synthesis": {"patches": "1"}}, "crops": {"store": {"uri": "other"}}},
    "methods": {
        "no pre-training": "",
        "random": {"pool": "frames"},
        "ours": {"pool": "crops", "selection": {"method": "endocurate"}},
        "full data": {"pool": "frames", "budgets": ["1"], "selection": {"method": "random"}},
    },
    "sets": {"one": {"evaluate": {"uri": "/one"}}, "two": {"evaluate": {"uri": "/two", "limit": "7"}}},
}


def made(config=None, **changes):
    return matrix.cells(config or tiny(), matrix.matrix_of(deepcopy(TREE) | changes))


def test_every_method_meets_every_budget_seed_architecture_and_set_once():
    found = [(one.method, one.budget, one.seed, one.architecture, one.dataset) for one in made()]
    spots = [("no pre-training", 0), *product(("random", "ours"), (0.1, 0.5)), ("full data", 1)]
    assert sorted(found) == sorted((*spot, *rest) for spot, rest in product(spots, product((0, 3), ("mae", "simclr"), ("one", "two"))))


def test_all_methods_of_a_seed_come_before_the_next_seed():
    assert [one.seed for one in made()] == sorted(one.seed for one in made())


def test_a_cell_is_told_of_its_pool_its_method_its_set_and_its_seed():
    one = next(one for one in made() if (one.method, one.budget, one.seed, one.dataset) == ("ours", 0.5, 3, "two"))
    config = one.config
    assert (config.selection.method, config.selection.budget, config.selection.of) == ("endocurate", 0.5, "patches")
    assert (config.store.uri, config.evaluate.uri, config.evaluate.limit) == ("other", "/two", 7)
    assert (config.selection.seed, config.pretrain.seed, config.evaluate.seeds, config.where) == (3, 3, (3,), "here")


def test_runs_of_all_pools_are_kept_in_one_place():
    assert {one.config.tracking.uri for one in made(amend(tiny(), ["store.uri=/home"]))} == {"sqlite:////home/mlflow.db"}


def test_cells_that_differ_in_the_data_set_share_a_model_and_no_others_do():
    found = made()
    models = {}
    for one in found:
        models.setdefault(one.model, set()).add((one.method, one.budget, one.seed, one.architecture))
    assert all(len(some) == 1 for some in models.values())
    assert len(models) == len(found) / 2
    assert len({one.fingerprint for one in found}) == len(found)


@pytest.mark.parametrize("knob", ["pretrain.epochs=11", "evaluate.iterations=170", "selection.unit=images", "synthesis.quality=90"])
def test_a_knob_of_the_run_changes_the_fingerprint(knob):
    before, after = made(), made(amend(tiny(), [knob]))
    assert not {one.fingerprint for one in before if one.pool} & {one.fingerprint for one in after if one.pool}


def test_what_does_not_decide_the_result_changes_no_fingerprint_and_a_pool_that_grew_does():
    before, after = made(), made(amend(tiny(), ["report.pictures=3", "plan.cpus=9", "where=here"]))
    assert [one.fingerprint for one in before] == [one.fingerprint for one in after]
    for what in ("contents", "data"):
        assert len({replace(before[1], **{what: told}).fingerprint for told in ("", "a", "b")}) == 3


def test_other_data_is_another_protocol_of_the_same_model_and_another_pool_is_another_model():
    one = made()[1]
    assert replace(one, data="a").protocol != replace(one, data="b").protocol
    assert replace(one, data="a").model == replace(one, data="b").model
    assert replace(one, contents="a").model != replace(one, contents="b").model


def test_only_what_all_methods_share_is_the_protocol():
    protocols = {(one.architecture, one.dataset): one.protocol for one in made()}
    assert len({one.protocol for one in made()}) == len(set(protocols.values())) == 4
    longer = made(amend(tiny(), ["pretrain.epochs=11"]))
    assert not {one.protocol for one in longer} & set(protocols.values())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budgets": []}, r"the matrix: matrix\.budgets=\[\]: Tuple should have at least 1 item"),
        ({"budgets": ["0.1", "0"]}, r"matrix\.budgets\.1=0: Input should be greater than 0"),
        ({"budgets": ["0.1", "0.10"]}, r"matrix\.budgets=0\.1, 0\.1 names one twice"),
        ({"seeds": ["one"]}, r"matrix\.seeds\.0=one: Input should be a valid integer"),
        ({"bugdets": ["1"]}, r"there is no knob matrix\.bugdets"),
        ({"methods": {"random": {"pool": "frame"}}}, r"matrix\.methods\.random\.pool=frame is none of the pools: frames, crops"),
        ({"methods": {"random": {"budgets": ["1"]}}}, r"matrix\.methods\.random names budgets and no pool"),
        ({"methods": {"optidel": {}}}, r"matrix\.methods\.optidel names no pool to choose from \(frames, crops\); without one .* no pre-t"),
        (
            {"methods": {"no pre-training": {"pool": "crops"}}},
            r"matrix\.methods\.no pre-training\.pool=crops: what is called so has no pool",
        ),
        (
            {"methods": {"full data": {"pool": "frames", "selection": {"method": "random"}}}},
            r"full data is run at budgets=0\.1, 0\.5, where",
        ),
        (
            {"methods": {"random": {"pool": "frames", "selection": {"budget": "0.3"}}}},
            r"matrix\.methods\.random\.selection\.budget: budgets and",
        ),
        (
            {"methods": {"random": {"pool": "frames", "selection": {"named": "a"}}}},
            r"random\.selection\.named: budgets and seeds are those",
        ),
        ({"methods": {"random": {"pool": "frames", "pretrain": {"seed": "7"}}}}, r"random\.pretrain\.seed: budgets and seeds are those"),
        ({"sets": {"one": {"evaluate": {"seeds": ["1", "2"]}}}}, r"matrix\.sets\.one\.evaluate\.seeds: budgets and seeds are those"),
        ({"architectures": {"mae": {"selection.seed": "2"}}}, r"matrix\.architectures\.mae\.selection\.seed: budgets and seeds are those"),
        (
            {"methods": {"random": {"pool": "frames", "evaluate": {"iterations": "9"}}}},
            r"random\.evaluate\.iterations: all methods are fine-",
        ),
        (
            {"methods": {"random": {"pool": "frames", "evaluate": "small"}}},
            r"random\.evaluate: all methods are fine-tuned and tested alike",
        ),
        ({"pools": {"crops": {}, "frames": {"evaluate": {"lr": "1"}}}}, r"matrix\.pools\.frames\.evaluate\.lr: all methods are fine-tuned"),
        ({"methods": {"optidell": {"pool": "crops"}}}, r"matrix\.methods\.optidell is no way to choose .*; did you mean optidel\?"),
        ({"methods": {"Random": {"pool": "frames"}}}, r"matrix\.methods\.Random is no way to choose .*; did you mean random\?"),
        ({"methods": {"random": "frames"}}, r"matrix\.methods\.random='frames': expected sections, as in \{pool: frames\}"),
        ({"budgets": ["ten"]}, r"^the matrix: matrix\.budgets\.0=ten: Input should be a valid number, (?!.*at least 1 item)"),
        ({"budgets": ["10%"]}, r"matrix\.budgets\.0=10%: Input should be a valid number, .*; a share of a tenth is written 0\.1$"),
        ({"budgets": [".inf"]}, r"matrix\.budgets\.0=\.inf: Input should be a valid number, .*; a share of a tenth is written 0\.1$"),
        ({"budgets": ["inf"]}, r"matrix\.budgets\.0=inf: Input should be a finite number$"),
        ({"seeds": ["0,1"]}, r"matrix\.seeds\.0=0,1: Input should be a valid integer, (?!.*commas)"),
        ({"budgets": "0.1"}, r"matrix\.budgets=0\.1: Input should be a list"),
        (
            {"methods": {"best": {"pool": "frames", "selection": {"method": "best"}}}},
            r"matrix\..*methods\.best: selection\.method=best: Input",
        ),
        (
            {"pools": {"frames": {"selection": {"off": "frames"}}, "crops": {}}},
            r"matrix\.pools\.frames: there is no knob 'selection\.off'; did you",
        ),
        (
            {"sets": {"one": {"evaluate": {"side": "31"}}}},
            r"matrix\..*sets\.one.*: evaluate\.side=31: Input should be greater than or equal to 32",
        ),
        ({"architectures": {"mae": {"pretrain": "huge"}}}, r"matrix\.architectures\.mae: there is no knob 'pretrain'"),
    ],
)
def test_a_wrong_matrix_is_one_sentence_with_its_place(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        made(**changes)


def test_a_pool_may_say_how_it_is_chosen_from():
    pools = TREE["pools"] | {"hard": {"selection": {"method": "optidel"}}}
    assert made(pools=pools, methods={"by its pool": {"pool": "hard"}})[0].config.selection.method == "optidel"


@pytest.mark.parametrize("word", ["selection.seed=7", "selection.budget=0.3", "pretrain.seed=7", "evaluate.seeds=5,6"])
def test_a_knob_that_the_matrix_sets_is_refused(word):
    with pytest.raises(ValueError, match=rf"{word}: budgets and seeds are those that the section matrix of small names"):
        matrix.read("small", [word])


@pytest.mark.parametrize("line", ["selection: {budget: 0.3}", "evaluate: {seeds: [1]}", "selection: {named: a}"])
def test_a_knob_that_the_matrix_sets_is_refused_in_the_sections_beside_it_too(line, tmp_path):
    file = tmp_path / "m.yaml"
    file.write_text(
        f"recipe: tiny\n{line}\nmatrix: {{name: a, budgets: [0.1], pools: {{p: }}, methods: {{random: {{pool: p}}}}, sets: {{s: }}}}\n"
    )
    with pytest.raises(ValueError, match=r"m\.yaml: \w+\.\w+: budgets and seeds are those that the section matrix of .*m\.yaml names"):
        matrix.read(str(file))


def test_a_section_by_name_brings_its_seeds_along_and_is_no_knob_of_the_matrix():
    one = made(sets={"one": {"evaluate": "robustness"}})[0]
    assert (one.config.evaluate.architecture, one.config.evaluate.seeds) == ("attention_unet", (0,))


def test_all_data_is_a_share_and_no_hours():
    with pytest.raises(ValueError, match=r"matrix\.methods\.full data has a budget in gpu hours, of which 1 is not all there is"):
        made(amend(tiny(), ["selection.unit=gpu_hours"]))


def test_the_names_that_the_report_knows_are_those_that_a_matrix_holds_to_what_they_say():
    assert (layers.FULL, layers.NONE) == (entries.FULL, entries.NONE)


def test_two_names_of_the_same_choice_are_two_cells():
    same = {"random": {"pool": "frames"}, "the same": {"pool": "frames", "selection": {"method": "random"}, "budgets": ["0.1"]}}
    assert len({one.fingerprint for one in made(methods=same)}) == len(made(methods=same))


def test_a_pre_training_by_name_is_all_its_knobs():
    one = made(architectures={"big": {"pretrain": "optidel"}})[0]
    assert (one.config.pretrain.epochs, one.config.pretrain.mae.size) == (100, "base")


@pytest.mark.parametrize("name", matrix.PROTOCOLS)
def test_a_protocol_of_the_package_holds_all_that_the_comparison_needs(name):
    config, found = matrix.read(name, ["benchmark.data=/d", "benchmark.stores=/s"])
    assert {"random", "meddel", "optidel_s", "optidel", "endocurate", "endocurate by theory", "full data", "no pre-training"} == set(
        found.methods
    )
    assert len(found.budgets) >= 3
    assert len(found.seeds) >= 3
    every = matrix.cells(config, found)
    assert all(one.config.store.uri.startswith("/s/") and one.config.evaluate.uri.startswith("/d/") for one in every)
    assert {one.config.selection.unit for one in every} == {"images"}  # the papers' R: of as many images as that share of the frames


STUDIES = sorted((Path(__file__).parent / "bench").glob("study*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_behind_the_readme_can_still_be_run(path):
    config, found = matrix.read(str(path), ["benchmark.data=/d", "benchmark.stores=/s"])
    every = matrix.cells(config, found)
    assert {one.method for one in every} >= {"no pre-training", "random", "optidel", "endocurate", "full data"}
    assert {one.seed for one in every} == {0, 1, 2}
    assert all(one.config.store.uri.startswith("/s/") and one.config.evaluate.uri.startswith("/d/") for one in every)


def test_the_papers_protocol_is_that_of_optidel():
    config, found = matrix.read("paper")
    mae = next(one.config for one in matrix.cells(config, found) if one.architecture == "mae" and one.method == "optidel")
    assert (mae.pretrain.mae.size, mae.pretrain.batch, mae.pretrain.epochs, mae.evaluate.iterations) == ("base", 16, 100, 20000)
    assert {0.05, 0.1, 0.25, 0.5, 1.0} == {one.budget for one in matrix.cells(config, found) if one.pool}
    assert len(found.sets) == 8
    assert config.benchmark.frames == 2_857_772


def test_a_knob_has_the_last_word_and_a_matrix_stands_in_a_file(tmp_path):
    text = (
        "recipe: tiny\npretrain: {epochs: 5}\nmatrix: {name: a, budgets: [0.1], pools: {p: }, methods: {random: {pool: p}}, sets: {s: }}\n"
    )
    (tmp_path / "m.yaml").write_text(text)
    _, config, asked = parse(["benchmark", str(tmp_path / "m.yaml"), "pretrain.epochs=6"])
    assert config.pretrain.epochs == 6
    assert asked == [str(tmp_path / "m.yaml"), "pretrain.epochs=6"]
    (tmp_path / "n.yaml").write_text("recipe: tiny\n")
    with pytest.raises(ValueError, match=r"n\.yaml has no section matrix"):
        parse(["benchmark", str(tmp_path / "n.yaml")])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["benchmark"], "benchmark takes one matrix: small, paper, or a YAML file"),
        (["benchmark", "large.yaml"], "No such file"),
        (["benchmark", "small", "benchmark.atonce=2"], "there is no knob 'benchmark.atonce'; did you mean benchmark.at_once"),
        (["benchmark", "small", "store.uri=/nowhere"], "store.uri='/nowhere' holds no store of endocurate: run the job ingest first"),
    ],
)
def test_a_wrong_command_is_one_sentence(words, sentence, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("unit", "said"), [("images", "10 % of the frames in images"), ("gpu_hours", "0.1 gpu hours")])
def test_a_cell_says_its_budget_with_the_unit(unit, said):
    methods = {name: TREE["methods"][name] for name in ("random", "no pre-training")}
    found = [str(one) for one in made(amend(tiny(), [f"selection.unit={unit}"]), methods=methods)]
    assert f"random at {said}, seed 0, mae, one" in found
    assert "no pre-training, seed 0, mae, one" in found


def test_the_knobs_of_a_plain_configuration_are_left_alone():
    assert made(Config())[0].config.frames == Config().frames
