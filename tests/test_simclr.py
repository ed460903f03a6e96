"""SimCLR as a scorer: the loss against its definition, views and scores that depend on their patch alone, files, and the whole job."""

import hashlib
import math
from copy import deepcopy
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation

from engine import difficulty, mae, pictures, pretrain, schema, simclr, simulate, views, weights
from engine.config import Config, DifficultyConfig
from engine.difficulty import ScoreContrast
from engine.knobs import amend
from engine.models import MAEConfig, SimCLRConfig, TrainConfig
from engine.store import PatchStore
from jobs import ingest, probe, score, training
from jobs.recipes import tiny
from tests.scoring import ROWS, BelongsToItsPatch, bits, noise, row

TINY = SimCLRConfig(encoder="test_resnet", side=32, projection=16, bank=6)
RECIPE = TrainConfig(architecture="simclr", simclr=TINY, epochs=5, warmup_epochs=1, batch=6, base_lr=1e-2)
CONFIG = DifficultyConfig(scorer="simclr", simclr=TINY, draws=2, batch=4)


def texture(number, side=64):
    """One of six patterns that stay themselves in any crop and colour, in one of many colours."""
    y, x = np.mgrid[:side, :side]
    rough = np.random.default_rng(number).random((side, side))
    patterns = [x * 0 + 0.5, x // 3 % 2, y // 3 % 2, rough, (x // 6 + y // 6) % 2, (x // 3 + y // 3) % 2]
    return (patterns[number % 6][..., None] * [250, 120, 110] * (1 - number / 100)).astype(np.uint8)


def jpegs_of(seeds, make=noise):
    return [pictures.encode(make(seed), 95) for seed in seeds]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = simclr.SimCLR(TINY)
    with torch.no_grad():  # statistics of these pictures, so that an untrained encoder tells them apart
        made.train()(mae.normalise(np.stack([noise(seed, 32, 32) for seed in range(16)])))
    simclr.remember(made, jpegs_of(range(100, 110)), seed=0)
    return made


def scored(model, rows, config=CONFIG):
    (out,) = ScoreContrast(config, model)(pa.Table.from_pylist(rows, schema.PATCH))
    return out


def unit(seed, *shape):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def equation_1(z, i, j, temperature):
    """The paper's l(i, j), term by term."""

    def sim(u, v):
        return float(u @ v / (u.norm() * v.norm()))

    below = sum(math.exp(sim(z[i], z[k]) / temperature) for k in range(len(z)) if k != i)
    return -math.log(math.exp(sim(z[i], z[j]) / temperature) / below)


class TestTheLoss:
    @given(st.integers(1, 6), st.sampled_from([0.07, 0.5, 2.0]), st.integers(0, 1000))
    @settings(max_examples=25, deadline=None)
    def test_is_equation_1_of_the_paper(self, count, temperature, seed):
        a, b = unit(seed, 2, count, 5)
        z, pairs = torch.cat([a, b]), [(i, i + count) for i in range(count)]
        expected = [equation_1(z, i, j, temperature) for i, j in [*pairs, *((j, i) for i, j in pairs)]]
        assert simclr.nt_xent(a, b, temperature).tolist() == pytest.approx(expected, abs=1e-12)

    def test_is_a_cross_entropy_over_the_other_views(self):
        """The second formulation: a classifier of 2N - 1 classes, the logits without the diagonal, the positive put first."""
        a, b = unit(3, 2, 8, 5)
        z = torch.cat([a, b])
        similar, same = z @ z.T / 0.5, torch.arange(8).repeat(2)
        others = ~torch.eye(16, dtype=torch.bool)
        positive = (same[:, None] == same) & others
        logits = torch.cat([similar[positive].view(16, 1), similar[others & ~positive].view(16, 14)], dim=1)
        expected = cross_entropy(logits, torch.zeros(16, dtype=torch.long), reduction="none")
        torch.testing.assert_close(simclr.nt_xent(a, b, 0.5), expected)

    def test_against_a_bank_is_that_of_a_batch_which_holds_the_bank(self):
        a, b, bank = unit(1, 3, 5), unit(2, 3, 5), unit(3, 7, 2, 5)
        found = simclr.against(a, b, bank, torch.zeros(3, 7, dtype=torch.bool), 0.5)
        for i in range(3):
            batch = simclr.nt_xent(torch.cat([a[i : i + 1], bank[:, 0]]), torch.cat([b[i : i + 1], bank[:, 1]]), 0.5)
            assert found[i].item() == pytest.approx(batch[[0, 8]].mean().item(), abs=1e-12)

    def test_does_not_count_a_picture_as_its_own_negative(self):
        a, b, bank = unit(1, 3, 5), unit(2, 3, 5), unit(3, 7, 2, 5)
        known = torch.zeros(3, 7, dtype=torch.bool)
        known[1, 4] = True
        without = simclr.against(a, b, torch.cat([bank[:4], bank[5:]]), known[:, :6] & False, 0.5)
        found = simclr.against(a, b, bank, known, 0.5)
        assert found[1].item() == pytest.approx(without[1].item(), abs=1e-12)
        assert (found[[0, 2]] > without[[0, 2]]).all()

    @pytest.mark.parametrize("first", [0, 1, 3])
    def test_of_some_pairs_of_a_batch_is_what_it_is_in_the_whole(self, first):
        a, b = unit(1, 6, 5), unit(2, 6, 5)
        whole = simclr.nt_xent(a, b, 0.5).view(2, 6)
        some = simclr.nt_xent(a[first : first + 2], b[first : first + 2], 0.5, (a, b), first)
        torch.testing.assert_close(some, whole[:, first : first + 2].flatten())

    def test_of_a_pair_alone_is_nothing(self):
        assert simclr.nt_xent(unit(1, 1, 5), unit(2, 1, 5), 0.5).abs().max() < 1e-12


class TestViews:
    @given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 10**6), st.sampled_from([0.01, 0.08, 1.0]))
    @settings(max_examples=200, deadline=None)
    def test_a_crop_lies_in_the_picture(self, height, width, seed, least):
        y, x, h, w = views.crop(height, width, least, np.random.default_rng(seed))
        assert 0 <= y < y + h <= height
        assert 0 <= x < x + w <= width

    def test_a_view_of_the_inside_never_shows_the_outside(self):
        around = np.zeros((60, 70, 3), np.uint8)
        around[20:50, 30:60] = 200
        for seed in range(50):
            seen = views.resized_crop(around[20:50, 30:60], 16, 0.08, np.random.default_rng(seed))
            assert seen.shape == (16, 16, 3)
            assert (seen == 200).all()

    @given(st.text(), st.integers(0, 2**62), st.integers(1, 50), st.integers(1, 50))
    @settings(max_examples=40, deadline=None)
    def test_they_are_pictures_that_depend_on_seed_patch_and_draw(self, name, seed, height, width):
        picture = noise(1, height, width)
        first = views.pair(picture, 32, seed, name, 0)
        assert (first.shape, first.dtype) == ((2, 32, 32, 3), np.uint8)
        assert (first == views.pair(picture, 32, seed, name, 0)).all()

    def test_another_seed_patch_draw_or_view_is_another_view(self):
        picture = noise(1)
        made = [views.pair(picture, 32, *what) for what in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]]
        assert len({one.tobytes() for pair in made for one in pair}) == 8

    def test_chance_is_a_hash_of_the_words(self):
        number = int.from_bytes(hashlib.sha256(b"5:2:1:v@0:patch").digest(), "little")
        assert views.chance(5, "v@0:patch", 2, 1).random() == np.random.default_rng(number).random()

    @pytest.mark.parametrize("by", [-0.75, -0.2, 0.1, 0.6])
    def test_colours_change_as_in_torchvision(self, by):
        colours = (noise(2, 16, 16) / 255).astype(np.float32)
        tensor = torch.from_numpy(colours).permute(2, 0, 1)
        pairs = [(views.brightened, adjust_brightness), (views.contrasted, adjust_contrast), (views.saturated, adjust_saturation)]
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours(colours, by).clip(0, 1), theirs(tensor, 1 + by).permute(1, 2, 0), atol=2e-3)
        turn = by / 4  # as shares of the circle
        np.testing.assert_allclose(views.turned(colours, turn), adjust_hue(tensor, turn).permute(1, 2, 0), atol=2e-3)

    def test_distortions_are_as_frequent_as_in_the_paper(self):
        picture, count = texture(4), 1500
        grey = sum((np.ptp(views.view(picture, 32, np.random.default_rng(i)).astype(int), axis=2) == 0).all() for i in range(count))
        assert abs(grey / count - views.GREY) < 4 * math.sqrt(0.16 / count)


class TestAScoreBelongsToItsPatchAlone(BelongsToItsPatch):
    scored = staticmethod(scored)

    @pytest.mark.parametrize("batch", [1, 3, 16])
    def test_with_another_batch_it_is_the_same_but_for_rounding(self, model, alone, batch):
        found = bits(scored(model, ROWS, CONFIG.model_copy(update={"batch": batch})))
        numbers = np.array([np.frombuffer(score[0], np.float32)[0] for score in alone.values()])
        np.testing.assert_allclose([np.frombuffer(found[name][0], np.float32)[0] for name in alone], numbers, rtol=1e-5)


def test_difficulty_is_equation_1_over_the_draws_with_the_bank_as_the_batch(model):
    """From the pixels to the score without any code of the stage."""
    name, image, losses = "v@0:a", noise(3, 32, 32), []
    picture = pictures.decode(pictures.encode(image, 95))
    for draw in range(2):
        with torch.inference_mode():
            z = model.eval()(mae.normalise(views.pair(picture, 32, 0, name, draw))).double()
        whole = torch.cat([z, model.bank.flatten(0, 1).double()])
        losses += [equation_1(whole, 0, 1, 0.5), equation_1(whole, 1, 0, 0.5)]
    assert scored(model, [row(name, image)])["difficulty"][0].as_py() == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_embedding_is_the_pooled_features_at_length_one(model):
    image = noise(5, 32, 32)
    with torch.inference_mode():
        features = model.eval().encode(mae.normalise(pictures.decode(pictures.encode(image, 95))[None]))[0].numpy()
    found = np.array(scored(model, [row("p", image)])["embedding"][0].as_py(), np.float32)
    np.testing.assert_allclose(found, features / np.linalg.norm(features), atol=5e-4)


@pytest.mark.parametrize("rows", [[], [dict.fromkeys(schema.PATCH.names) | {"video_id": "v", "reason": "dark"}], ROWS[:5]])
def test_the_columns_are_those_of_the_schema(model, rows):
    out = scored(model, rows)
    assert out.column_names == schema.SCORED.names
    assert out.schema.field("embedding").type == pa.list_(pa.float16(), model.width)
    assert out["scorer"].is_valid().to_pylist() == out["difficulty"].is_valid().to_pylist() == out["patch_id"].is_valid().to_pylist()
    out.validate(full=True)


def test_the_scorer_is_told_by_weights_bank_and_settings_but_not_by_the_batch(model):
    first = ScoreContrast(CONFIG, model).scorer
    assert ScoreContrast(CONFIG.model_copy(update={"batch": 7}), model).scorer == first
    other = deepcopy(model)
    other.bank = -other.bank
    changed = [CONFIG.model_copy(update={"draws": 3}), CONFIG.model_copy(update={"seed": 1})]
    marks = {ScoreContrast(one, model).scorer for one in changed} | {ScoreContrast(CONFIG, other).scorer, first}
    assert len(marks) == 4


def test_the_bank_is_chosen_by_hash_whatever_the_order(model):
    again = deepcopy(model)
    again.bank, again.keys = torch.zeros(0, 2, 16), torch.zeros(0, dtype=torch.int64)
    jpegs = jpegs_of(range(100, 110))
    simclr.remember(again, [*jpegs[::-1], jpegs[3]], seed=0, batch=4)
    assert again.keys.tolist() == sorted(map(simclr.key, jpegs))[:6] == model.keys.tolist()
    torch.testing.assert_close(again.bank, model.bank, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def trained():
    """How to train for seconds on six pictures, a model that was, its curve, and the pictures, which are its bank."""
    jpegs = jpegs_of(range(6), texture)
    recipe = RECIPE.model_copy(update={"epochs": 60, "warmup_epochs": 2, "base_lr": 0.2, "checkpoint_every": 60})

    def fit():
        curve = []

        def report(metrics, _):
            curve.append(metrics["loss"])

        made = pretrain.fit(lambda at: [jpegs[i] for i in at], 6, recipe, resume=None, report=report)
        simclr.remember(made, jpegs, recipe.seed, recipe.batch)
        return made, curve

    return fit, *fit(), jpegs


def test_training_lowers_the_loss_below_that_of_guessing(trained):
    _, _, curve, _ = trained
    guessing = math.log(11)  # one positive and ten negatives, all alike
    assert np.mean(curve[-20:]) < 0.75 * guessing < curve[0]


def test_training_twice_gives_the_same_curve_and_model(trained):
    fit, model, curve, _ = trained
    again, same = fit()
    assert same == curve
    assert simclr.fingerprint(again) == simclr.fingerprint(model)


def test_the_early_and_the_last_model_can_score_when_they_are_put_where_scorers_are(trained, tmp_path):
    _, _, _, jpegs = trained
    read, uris = (lambda at: [jpegs[i] for i in at]), [str(tmp_path / name) for name in ("early", "last")]

    def loop(resume, report):
        last = pretrain.fit(read, 6, RECIPE, resume=resume, report=report)
        probe.place(last, RECIPE, read, 6, uris[1])

    training.kept(loop, probe.early_epochs(RECIPE), partial(probe.keep, RECIPE, read, 6, uris[0]), None, lambda metrics, folder: None)
    early, last = (difficulty.load_contrast(CONFIG.model_copy(update={"checkpoint": uri})) for uri in uris)
    assert early.keys.tolist() == last.keys.tolist() == sorted(map(simclr.key, jpegs))
    assert not torch.equal(early.bank, last.bank)


def test_a_patch_that_meets_its_copy_in_the_bank_is_harder(trained):
    """Five of six pictures of the bank count each time: all but the patch's own, or all but another one."""
    _, model, _, jpegs = trained
    rows, config = [row(f"p{i}", jpeg) for i, jpeg in enumerate(jpegs)], CONFIG.model_copy(update={"draws": 8})
    mistaken = deepcopy(model)
    mistaken.keys = mistaken.keys.roll(1)
    without, beside = (np.mean(scored(one, rows, config)["difficulty"].to_pylist()) for one in (model, mistaken))
    assert beside > without + 0.1


def test_a_copy_of_a_picture_in_the_bank_is_harder_than_an_odd_one():
    bank, odd = unit(3, 7, 2, 8), unit(4, 200, 8)
    unknown = torch.zeros(1, 7, dtype=torch.bool)
    copy = simclr.against(bank[2, :1], bank[2, :1], bank, unknown, 0.5)
    others = [simclr.against(one[None], one[None], bank, unknown, 0.5).item() for one in odd]
    assert copy.item() > np.quantile(others, 0.9)


class TestFiles:
    def test_a_checkpoint_scores_like_the_model_it_was_made_of(self, model, tmp_path):
        simclr.save(model, str(tmp_path / "scorer"))
        before = torch.get_rng_state()
        (out,) = ScoreContrast(CONFIG.model_copy(update={"checkpoint": str(tmp_path / "scorer")}))(pa.Table.from_pylist(ROWS, schema.PATCH))
        assert out.equals(scored(model, ROWS))
        assert torch.equal(before, torch.get_rng_state())

    def test_one_of_other_settings_is_refused(self, model, tmp_path):
        simclr.save(model, str(tmp_path / "scorer"))
        with pytest.raises(ValueError, match=r"is of another model: bank=6, expected 7; temperature=0\.5, expected 0\.1"):
            simclr.load(str(tmp_path / "scorer"), TINY.model_copy(update={"temperature": 0.1, "bank": 7}))

    def test_one_that_is_cut_or_garbled_is_refused(self, model, tmp_path):
        simclr.save(model, str(tmp_path / "scorer"))
        whole = (tmp_path / "scorer").read_bytes()
        for damaged in (whole[:1000], whole[:-1], b"", b"words", whole[:9] + b"\xff" + whole[10:]):
            (tmp_path / "scorer").write_bytes(damaged)
            with pytest.raises(ValueError, match=r"^the checkpoint .* (cannot be read|holds something else|is no SimCLR)"):
                simclr.load(str(tmp_path / "scorer"), TINY)

    def test_one_that_is_not_there_is_said_so(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            simclr.load(str(tmp_path / "nothing"), TINY)

    def test_the_two_kinds_are_not_taken_for_each_other(self, model, tmp_path):
        knobs = MAEConfig(size="tiny", side=32, token=8, decoder_width=64, decoder_depth=1, decoder_heads=2)
        mae.save(mae.MAE(knobs), str(tmp_path / "mae"))
        simclr.save(model, str(tmp_path / "simclr"))
        with pytest.raises(ValueError, match="is no SimCLR model of ours, expected one that the job probe"):
            simclr.load(str(tmp_path / "mae"), TINY)
        with pytest.raises(ValueError, match="holds no decoder"):
            mae.load(str(tmp_path / "simclr"), knobs)

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda state: state.pop("head.0.bias"), r"lacks head\.0\.bias"),
            (lambda state: state.update({"more": torch.zeros(1)}), "holds the unexpected more"),
            (lambda state: state.update({"bank": torch.zeros(6, 2, 5)}), r"holds bank of shape \(6, 2, 5\), expected \(6, 2, 16\)"),
        ],
    )
    def test_one_with_other_weights_is_refused(self, model, tmp_path, change, sentence):
        state = dict(model.state_dict())
        change(state)
        (tmp_path / "scorer").write_bytes(safetensors.torch.save(state, {"simclr": weights.knobs_of(TINY)}))
        with pytest.raises(ValueError, match=sentence):
            simclr.load(str(tmp_path / "scorer"), TINY)


def test_a_model_without_a_bank_scores_nothing(tmp_path):
    simclr.save(simclr.SimCLR(TINY), str(tmp_path / "model"))
    with pytest.raises(ValueError, match=r"the checkpoint .*model holds an empty bank, expected pictures"):
        ScoreContrast(CONFIG.model_copy(update={"checkpoint": str(tmp_path / "model")}))


def test_a_score_that_is_no_number_names_patch_and_scorer(model):
    broken = simclr.SimCLR(TINY, 6)
    with torch.no_grad():
        broken.head[2].bias[3] = float("nan")
    stage = ScoreContrast(CONFIG, broken)
    with pytest.raises(ValueError, match=rf"patch v@0:.* got the difficulty nan from scorer {stage.scorer}"):
        list(stage(pa.Table.from_pylist(ROWS[:1], schema.PATCH)))


def test_pixels_that_cannot_be_decoded_are_a_bug_that_names_the_patch(model):
    with pytest.raises(ValueError, match=r"patch v@7:bad: 10 bytes are not a picture"):
        scored(model, [ROWS[0], row("v@7:bad", b"no picture")])


def test_without_a_checkpoint_it_says_what_to_do():
    with pytest.raises(ValueError, match=r"^difficulty.checkpoint is empty: run the job probe with difficulty.scorer=simclr"):
        ScoreContrast(CONFIG)


def test_an_encoder_that_timm_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"^simclr\.encoder=resnet51 is no model of timm"):
        probe.width(amend(Config(), ["difficulty.scorer=simclr", "difficulty.simclr.encoder=resnet51"]))


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("test_vit", 64), ("test_efficientnet", 256)])
def test_an_encoder_makes_as_many_numbers_as_it_says(name, width):
    made = simclr.SimCLR(SimCLRConfig(encoder=name, side=48)).eval()
    assert made.encode(torch.zeros(1, 3, 48, 48)).shape == (1, made.width) == (1, width)


@pytest.mark.parametrize("word", ["probe.train.architecture=simclr", "probe.train.simclr.side=64"])
def test_what_scores_is_said_in_one_place(word):
    with pytest.raises(ValueError, match=r"^probe\.train\.architecture and probe\.train\.simclr are as difficulty\.scorer and"):
        amend(tiny(), ["difficulty.scorer=simclr", word])


def test_an_ingest_trains_the_scorer_and_scores_with_it(tmp_path):
    (tmp_path / "videos").mkdir()
    simulate.write_clip(tmp_path / "videos" / "a.mp4", 1, seconds=4.0, height=240, width=280)
    knobs = """where=here patches.proposer=crops patches.per_frame=3 probe.frames=4 probe.crops=6 probe.train.epochs=2 probe.train.batch=4
        difficulty.scorer=simclr difficulty.draws=1 difficulty.batch=4 difficulty.simclr.encoder=test_resnet difficulty.simclr.side=48
        difficulty.simclr.bank=5"""
    config = amend(tiny(), [*knobs.split(), f"videos.uri={tmp_path}/videos", f"store.uri={tmp_path}/store"])
    ingest.run(config)
    rows = PatchStore(config.store.uri).patches(["patch_id", "difficulty", "embedding", "scorer", "pixels"]).sort_by("patch_id")
    assert len(rows) >= 3
    (file,) = (tmp_path / "store" / "scorers").glob("*[0-9a-f].safetensors")
    again = ScoreContrast(config.difficulty.model_copy(update={"checkpoint": str(file)}))
    assert set(rows["scorer"].to_pylist()) == {again.scorer}
    (out,) = again(pa.Table.from_pylist([row(one["patch_id"], one["pixels"]) for one in rows.to_pylist()], schema.PATCH))
    assert bits(out) == bits(rows)
    assert len(again.model.keys) == 5
    score.run(amend(config, ["score.by=early"]))
    store = PatchStore(config.store.uri)
    (early,) = store.scorers(store.complete_version())
    assert (early.covers, early.rated) == (len(rows), len(rows))
    (losses,) = store.earlier(store.complete_version(), [early.name])
    assert set(losses.tolist()).isdisjoint(rows["difficulty"].to_pylist())
