import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import Config
from engine.knobs import FORMS, amend, build, flat, of_now
from engine.methods import EndocurateConfig
from jobs.__main__ import parse
from jobs.recipes import EVALUATIONS, RECIPES, TRAININGS, tiny


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("patches.min_aera=3", "there is no knob 'patches.min_aera'; did you mean patches.min_area"),
        ("patches=3", "there is no knob 'patches'; did you mean patches."),
        ("selection.budget=2.5", "selection: budget=2.5 is neither a share, which is at most 1, nor a whole number of bytes"),
        ("selection.budget=0", "selection.budget=0: Input should be greater than 0"),
        ("selection.budget=nan", "selection.budget=nan: Input should be a finite number"),
        ("selection.method=best", "selection.method=best: Input should be 'random', 'optidel', 'optidel_s'"),
        ("pretrain.workers=3", "pretrain: batch=16 does not split over workers=3"),
        ("pretrain.mae.side=225", "pretrain.mae: side=225 is not a multiple of token=16"),
        ("patches.min_area=0.9", "patches: min_area=0.9 leaves nothing below max_area=0.6"),
        ("patches.proposer=sam", "patches: proposer=sam needs patches.checkpoint"),
        ("probe.train.mae.size=large", "probe.train.mae differs from difficulty.mae"),
        ("patches.per_frame=many", "patches.per_frame=many: Input should be a valid integer"),
        ("evaluate.seeds=[]", "evaluate: seeds is empty"),
        ("watch.selections=best:0.1", "watch.selections=best:0.1: Input should be 'random', 'optidel'"),
        ("watch.selections=optidel:2.5", "watch.selections=optidel:2.5: budget=2.5 is neither a share"),
        ("watch.selections=optidel", "watch.selections.0=optidel: expected method:budget or method:budget:unit"),
        ("selection.named=a b", "selection.named=a b: expected the id of a selection: letters, digits, _, . and -"),
        ("score.by=nonsense", "score.by=nonsense: expected early, checkpoint, medsam-lite, sam, or timm: and the name of a model"),
        ("pretrain.mae.size=Tiny!", "pretrain.mae.size=Tiny!: expected the size of a ViT of timm, such as tiny"),
        ("benchmark.speeds=mae", "benchmark.speeds.0=mae: expected architecture:images a second, more than 0, such as mae:900"),
        ("benchmark.paces=mae:0", "benchmark.paces.0=mae:0: expected architecture:steps a second, more than 0, such as mae:9"),
        ("watch.retrain=true", "watch.retrain=True trains on the first of watch.selections, and there is none"),
        ("selection.endocurate.start=2", "selection.endocurate.start=2: expected a number from 0 to 1, or theory"),
        ("selection.endocurate.start=late", "selection.endocurate.start=late: expected a number from 0 to 1, or theory"),
        ("selection.endocurate.by=theory", "there is no knob 'selection.endocurate.by'; did you mean selection.endocurate."),
        ("just words", "'just words' is not of the form knob=value"),
        ("store.uri=", "store.uri='': String should have at least 1 character"),
        ("pretrain.epochs=true", "pretrain.epochs=true: Input should be a valid integer"),
        ("evaluate.side=100", "evaluate.side=100 must be a multiple of 32 for tokens of 16 px"),
        ("evaluate.uri=s3://bucket/pairs", "evaluate: uri='s3://bucket/pairs' must be a local folder"),
        ("evaluate.encoder=resnet51", "evaluate.encoder=resnet51: Input should be 'resnet18', 'resnet34', 'resnet50'"),
        ("evaluate.seeds=1,1", "evaluate: seeds=(1, 1) names one twice"),
        ("patches.box_sides=[1e-9]", "patches.box_sides.0=1e-9: Input should be greater than or equal to 0.02"),
        ("frames.min_side=2000", "frames: min_side=2000 leaves nothing of frames scaled down to longest_side=1024"),
        ("pretrain.mae.mask_ratio=0.999", "pretrain.mae: mask_ratio=0.999 leaves 0 of 196 tokens visible"),
        ("pretrain.mae.decoder_width=66", "pretrain.mae: decoder_width=66 is not a multiple of decoder_heads=16"),
    ],
)
def test_a_wrong_knob_is_refused_with_knob_value_and_rule(change, sentence):
    with pytest.raises(ValueError, match=r".") as refusal:
        amend(Config(), [change])
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_pattern_of_a_knob_has_its_words():
    sections = Config.model_json_schema()["$defs"].values()
    knobs = {
        name
        for section in sections
        for name, told in section.get("properties", {}).items()
        if "pattern" in told or "pattern" in told.get("items", {})
    }
    assert {"named", "speeds", "paces"} < knobs == set(FORMS)


@pytest.mark.parametrize("asked", ["selection.method=rded", "watch.selections=rded:0.1"])
def test_what_rded_deals_out_is_not_dealt_out_again(asked):
    with pytest.raises(ValueError, match=rf"^{asked} deals its patches out over the images, and synthesis.order=spread would do so again"):
        amend(Config(), [asked, "synthesis.order=spread"])
    for order in ("rank", "random", "diverse"):
        amend(Config(), [asked, f"synthesis.order={order}"])
    assert amend(Config(), ["selection.method=rded", "selection.named=random-1", "synthesis.order=spread"])  # the method is not looked at


@pytest.mark.parametrize(("word", "value"), [("videos.uri=2024", "2024"), ("videos.uri=*.mp4", "*.mp4"), ("pretrain.precision=no", "no")])
def test_a_word_is_taken_as_it_is_written(word, value):
    assert flat(amend(Config(), [word]))[word.partition("=")[0]] == value


OURS, ACCELERATES = ("float32", "bfloat16", "float16"), ("no", "bf16", "fp16")
PRECISIONS = {  # of each knob what is stored, as it is hashed into names
    "patches.precision": OURS[:2], "difficulty.precision": OURS[:2], "evaluate.precision": OURS[:2],
    "pretrain.precision": ACCELERATES, "probe.train.precision": ACCELERATES,
}  # fmt: skip


def test_every_precision_takes_both_spellings_and_keeps_the_word_of_its_own():
    assert {knob for knob in flat(Config()) if knob.endswith(".precision")} == set(PRECISIONS)
    for knob, kept in PRECISIONS.items():
        for word, *spellings in zip(kept, OURS, ACCELERATES, strict=False):
            made = [amend(Config(), [f"{knob}={said}"]) for said in spellings]
            assert [flat(one)[knob] for one in made] == [word, word]
            assert made[0].fingerprint() == made[1].fingerprint()


@pytest.mark.parametrize("knob", PRECISIONS)
@pytest.mark.parametrize("word", ["half", "fp16", "float16", "bf16 ", ""])
def test_a_precision_that_is_none_is_refused_with_all_words_that_are_taken(knob, word):
    kept = PRECISIONS[knob]
    if word in ("fp16", "float16") and len(kept) == 3:
        return
    with pytest.raises(ValueError, match=rf"^{knob}=.*: expected ") as told:
        amend(Config(), [f"{knob}={word}"])
    said = str(told.value).partition("expected ")[2]
    assert set(re.findall(r"\w+", said)) - {"or", "also", "spelt"} == {*OURS[: len(kept)], *ACCELERATES[: len(kept)]}


def test_our_method_has_three_knobs_at_most():
    assert sorted(EndocurateConfig.model_fields) == ["alike", "balance", "start"]
    starts = [amend(Config(), [f"selection.endocurate.start={said}"]).selection.endocurate.start for said in ("0.3", "theory")]
    assert starts == [0.3, "theory"]


def test_the_knobs_of_an_older_run_are_read_by_the_names_of_now():
    old = {"selection.endocurate.start": "0.5", "selection.endocurate.by": "start", "selection.endocurate.degrees": "45.0", "where": "here"}
    by_theory = old | {"selection.endocurate.by": "theory"}
    assert of_now(old) == {"selection.endocurate.start": "0.5", "where": "here"}
    assert of_now(by_theory) == {"selection.endocurate.start": "theory", "where": "here"}
    assert of_now(by_theory | {"selection.endocurate.degrees": "10.0"})["selection.endocurate.start"] == "theory of 10.0 degrees"
    assert of_now(of_now(by_theory)) == of_now(by_theory)


def test_changes_reach_their_knob_and_no_other():
    changed = flat(amend(Config(), ["patches.per_frame=3", "evaluate.seeds=[1, 2]", "store.uri=s3://bucket/a=b"]))
    differing = {name: value for name, value in changed.items() if value != flat(Config())[name]}
    assert amend(Config(), ["evaluate.seeds=(1,2)"]) == amend(Config(), ["evaluate.seeds=1,2"])
    assert differing == {"patches.per_frame": 3, "evaluate.seeds": (1, 2), "store.uri": "s3://bucket/a=b"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_survives_being_written_down_and_read_again(recipe):
    config = RECIPES[recipe]()
    assert build(config.model_dump(mode="json")) == config


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_the_fingerprint_changes_exactly_with_the_knobs(one, other):
    first, second = (amend(Config(), [f"patches.per_frame={n}"]).fingerprint() for n in (one, other))
    assert (first == second) == (one == other)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["watch.selections=random:3:patches"], r"random:3:patches never holds an image of synthesis\.patches=4"),
        (["watch.selections=random:0.1,random:8:patches", "synthesis.patches=9"], "random:8:patches never holds"),
        (["watch.selections=optidel_s:0.1"], r"optidel_s:0\.1 ranks random crops, and patches\.proposer=medsam-lite makes others"),
    ],
)
def test_a_selection_that_can_never_be_kept_current_is_refused_at_the_start_and_one_that_waits_for_patches_is_not(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        amend(Config(), words)
    amend(Config(), ["watch.selections=random:4:patches,random:3:images,random:0.001,optidel_s:0.1", "patches.proposer=crops"])


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        Config().where = "here"


@pytest.mark.parametrize("recipe", TRAININGS)
def test_every_training_by_name_can_be_taken_whole_with_knobs_that_come_last(recipe):
    written = TRAININGS[recipe]().model_dump(mode="json")
    assert build({"pretrain": written}).pretrain == TRAININGS[recipe]()
    for words in (["pretrain.seed=7", f"pretrain={recipe}"], ["pretrain=small", f"pretrain={recipe}", "pretrain.seed=7"]):
        _, config, _ = parse(["pretrain", "tiny", *words])
        assert config == tiny().model_copy(update={"pretrain": TRAININGS[recipe]().model_copy(update={"seed": 7})})


def test_the_trainings_are_those_of_their_papers():
    """OptiDEL, arXiv 2408.07107; facebookresearch/mae PRETRAIN.md; SimCLR, arXiv 2002.05709, section 2."""
    optidel, mae, simclr = (TRAININGS[name]() for name in ("optidel", "mae", "simclr"))
    assert (optidel.mae.size, optidel.mae.side, optidel.mae.mask_ratio, optidel.batch, optidel.epochs) == ("base", 224, 0.75, 16, 100)
    for one in (optidel, mae):
        assert (one.base_lr, one.weight_decay, one.warmup_epochs, one.min_crop, one.mae.norm_pix) == (1.5e-4, 0.05, 40, 0.2, True)
    assert optidel.base_lr * optidel.batch / 256 == pytest.approx(9.4e-6, rel=0.01)
    assert (mae.mae.size, mae.mae.mask_ratio, mae.batch, mae.epochs, mae.batch // mae.accumulate) == ("large", 0.75, 4096, 800, 64)
    assert (mae.mae.decoder_width, mae.mae.decoder_depth, mae.mae.decoder_heads) == (512, 8, 16)
    shape = simclr.simclr
    assert (shape.encoder, shape.projection, shape.temperature, shape.side) == ("resnet50", 128, 0.1, 224)
    assert (simclr.batch, simclr.epochs, simclr.warmup_epochs, simclr.weight_decay) == (4096, 100, 10, 1e-6)


def test_a_training_that_has_no_name_is_refused_with_those_that_have_one():
    with pytest.raises(ValueError, match=r"^pretrain='dino' is none of optidel, mae, simclr, small; its single knobs are pretrain\.epochs"):
        parse(["pretrain", "tiny", "pretrain=dino"])


def test_a_file_may_name_a_training(tmp_path):
    (tmp_path / "a.yaml").write_text("recipe: tiny\npretrain: mae\n")
    _, config, _ = parse(["pretrain", str(tmp_path / "a.yaml"), "pretrain.accumulate=8"])
    assert config.pretrain == TRAININGS["mae"]().model_copy(update={"accumulate": 8})


@pytest.mark.parametrize("recipe", EVALUATIONS)
def test_an_evaluation_by_name_is_taken_whole_but_for_what_is_measured_on(recipe):
    for words in (["evaluate.seeds=7", f"evaluate={recipe}"], ["evaluate=small", f"evaluate={recipe}", "evaluate.seeds=7"]):
        _, config, _ = parse(["evaluate", "tiny", *words])
        named = {"seeds": (7,), "limit": tiny().evaluate.limit}
        assert config == tiny().model_copy(update={"evaluate": EVALUATIONS[recipe]().model_copy(update=named)})


def test_the_evaluations_are_those_of_their_papers():
    """mmsegmentation's dpt_vit-b16; configurations of aielte-research/MedSegPretrainImageNet."""
    optidel, robustness = (EVALUATIONS[name]() for name in ("optidel", "robustness"))
    assert (optidel.architecture, optidel.iterations, optidel.batch, optidel.optimiser) == ("dpt", 20000, 16, "adamw")
    assert (optidel.lr, optidel.weight_decay, optidel.warmup, optidel.power, optidel.loss) == (6e-5, 0.01, 1500, 1.0, "cross_entropy")
    assert (robustness.architecture, robustness.encoder, robustness.loss) == ("attention_unet", "resnet50", "dice")
    assert (robustness.optimiser, robustness.momentum, robustness.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (robustness.lr, robustness.power, robustness.warmup, robustness.batch, robustness.epochs, robustness.side) == (
        (0.05, 0.9, 0, 24, 150, 224)
    )  # fmt: skip
    assert robustness.seeds == tuple(range(123124, 123129))


def test_an_evaluation_that_has_no_name_is_refused_with_those_that_have_one():
    with pytest.raises(ValueError, match=r"^evaluate='best' is none of optidel, robustness, small; its single knobs are evaluate\.epochs"):
        parse(["evaluate", "tiny", "evaluate=best"])


def test_a_file_may_name_an_evaluation_and_keeps_what_is_measured_on(tmp_path):
    (tmp_path / "a.yaml").write_text("recipe: tiny\nevaluate: robustness\n")
    _, config, _ = parse(["evaluate", str(tmp_path / "a.yaml"), "evaluate.uri=pairs", "evaluate.frozen=true"])
    named = {"uri": "pairs", "limit": tiny().evaluate.limit, "frozen": True}
    assert config.evaluate == EVALUATIONS["robustness"]().model_copy(update=named)
