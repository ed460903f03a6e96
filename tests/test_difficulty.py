"""Scores of patches: what they measure, what they depend on, and that nothing else moves a bit of them."""

import hashlib
import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import difficulty, mae, pictures, schema
from engine.config import DifficultyConfig, MAEConfig
from engine.difficulty import ScoreDifficulty
from tests.scoring import ROWS, BelongsToItsPatch, bits, noise, row, table

TINY = MAEConfig(size="tiny", side=32, token=8, decoder_width=64, decoder_depth=1, decoder_heads=2)
CONFIG = DifficultyConfig(mae=TINY, draws=2, batch=4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return mae.MAE(TINY)


def verdict(reason):
    return dict.fromkeys(schema.PATCH.names) | {"video_id": "v", "reason": reason}


def scored(model, rows, config=CONFIG):
    (out,) = ScoreDifficulty(config, model)(table(rows))
    return out


def test_difficulty_is_the_mean_squared_error_over_removed_tokens_and_draws(model):
    """Against the definition (OptiDEL, Eq. 4), written out in numpy for a patch that needs no resizing."""
    image = noise(3, 32, 32)
    name, config = "v@0:a", CONFIG.model_copy(update={"draws": 3})
    pixels = pictures.decode(pictures.encode(image, 95)) / 255
    normal = ((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)
    errors = []
    for draw in difficulty.masks_of(name, 0, 3, 16):
        with torch.inference_mode():
            _, prediction, _ = model.eval()(torch.tensor(normal.transpose(2, 0, 1)[None]), torch.tensor(draw[None]))
        for token in np.argsort(draw)[4:]:
            y, x = divmod(token, 4)
            square = normal[8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
            errors.append(((prediction[0, token].numpy().reshape(8, 8, 3) - square) ** 2).mean())
    found = scored(model, [row(name, image)], config)["difficulty"][0].as_py()
    assert found == pytest.approx(np.mean(errors), rel=1e-5)


def test_a_trained_scorer_finds_a_flat_patch_easier_than_noise(model):
    flat = np.full((32, 32, 3), (180, 90, 80), np.uint8)
    torch.manual_seed(1)
    trained = mae.MAE(TINY)
    step, images = torch.optim.AdamW(trained.parameters(), 1e-3), mae.normalise(np.stack([flat, noise(7, 32, 32)]))
    for _ in range(10):
        step.zero_grad()
        trained(images, torch.rand(2, 16))[0].mean().backward()
        step.step()
    easy, hard = scored(trained, [row("flat", flat), row("noise", noise(8, 32, 32))])["difficulty"].to_pylist()
    assert easy < 0.5 * hard


class TestAScoreBelongsToItsPatchAlone(BelongsToItsPatch):
    scored = staticmethod(scored)

    def test_beside_other_patches_it_is_the_same_to_the_bit(self, model, alone):
        for i in range(2):
            beside = [row(f"other{j}", noise(100 + 3 * i + j)) for j in range(3)]
            assert bits(scored(model, [*beside, ROWS[i]]))[ROWS[i]["patch_id"]] == alone[ROWS[i]["patch_id"]]

    def test_in_a_column_of_several_chunks_it_is_the_same_to_the_bit(self, model, alone):
        chunks = pa.concat_tables([table(ROWS[:2]), table(ROWS[2:])])
        (out,) = ScoreDifficulty(CONFIG, model)(chunks)
        assert bits(out) == alone


class TestMasks:
    @given(st.text(), st.integers(0, 2**40), st.integers(1, 5), st.integers(2, 200))
    @settings(max_examples=40, deadline=None)
    def test_every_draw_is_an_order_of_all_tokens(self, name, seed, draws, tokens):
        masks = difficulty.masks_of(name, seed, draws, tokens)
        assert (masks.shape, masks.dtype) == ((draws, tokens), np.float32)
        for mask in masks:
            assert len(np.unique(mask)) == tokens
            assert 0 <= mask.min() < mask.max() < 1

    def test_they_depend_on_seed_patch_and_draw(self):
        first = difficulty.masks_of("a", 0, 2, 49)
        assert (first == difficulty.masks_of("a", 0, 2, 49)).all()
        assert (first == difficulty.masks_of("a", 0, 3, 49)[:2]).all()  # more draws keep the first ones
        for other in (first[::-1], difficulty.masks_of("b", 0, 2, 49), difficulty.masks_of("a", 1, 2, 49)):
            assert (first != other).any(axis=1).all()

    def test_they_are_these_on_every_machine(self):
        stream = hashlib.shake_256(b"5:0:v@0:patch").digest(8 * 6)
        numbers = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(6)]
        ranks = [sorted(numbers).index(number) for number in numbers]
        assert difficulty.masks_of("v@0:patch", 5, 1, 6)[0].tolist() == np.float32(np.array(ranks) / 6).tolist()

    def test_every_token_is_removed_equally_often(self):
        removed = sum((difficulty.masks_of(f"p{i}", 0, 4, 16) >= 4 / 16).sum(0) for i in range(1000))
        assert np.abs(removed / 4000 - 0.75).max() < 4 * (0.75 * 0.25 / 4000) ** 0.5


def test_rows_without_a_patch_pass_through_with_nulls(model):
    rows = [verdict("dark"), ROWS[0], verdict("truncated"), ROWS[1]]
    out = scored(model, rows)
    assert out.drop_columns(["difficulty", "embedding", "scorer", "appearance"]).to_pylist() == table(rows).to_pylist()
    for column in ("difficulty", "embedding", "scorer", "appearance"):
        assert out[column].is_valid().to_pylist() == [False, True, False, True]


@pytest.mark.parametrize("rows", [[], [verdict("dark")], ROWS[:5]], ids=["no row", "no patch", "patches"])
def test_the_columns_are_those_of_the_schema(model, rows):
    out = scored(model, rows)
    assert out.column_names == schema.SCORED.names
    assert out.num_rows == len(rows)
    assert out.schema.field("embedding").type == pa.list_(pa.float16(), 192)
    assert [out.schema.field(field.name).nullable for field in schema.SCORED] == [field.nullable for field in schema.SCORED]
    out.validate(full=True)


def test_the_embedding_is_the_mean_token_at_length_one(model):
    image = noise(5, 32, 32)
    pixels = pictures.decode(pictures.encode(image, 95))
    with torch.inference_mode():
        mean = model.eval().encode(mae.normalise(pixels[None]))[0, 1:].mean(0).numpy()
    found = np.array(scored(model, [row("p", image)])["embedding"][0].as_py(), np.float32)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=5e-4)


def test_a_patch_is_shrunk_by_area_and_enlarged_bilinearly():
    image = noise(0, 64, 16)
    halves = image.reshape(32, 2, 16, 3).mean(1)
    made = difficulty.square(image, 32).astype(float)
    assert made.shape == (32, 32, 3)
    np.testing.assert_allclose(made[:, 0], halves[:, 0], atol=1)  # the outer columns of an enlargement by two stay as they are
    np.testing.assert_allclose(made[:, 2], 0.25 * halves[:, 0] + 0.75 * halves[:, 1], atol=1.5)


def test_the_scorer_is_told_by_weights_and_settings_but_not_by_the_batch(model):
    first = ScoreDifficulty(CONFIG, model).scorer
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert ScoreDifficulty(CONFIG.model_copy(update={"batch": 7}), model).scorer == first
    others = [CONFIG.model_copy(update={"draws": 3}), CONFIG.model_copy(update={"seed": 1})]
    torch.manual_seed(5)
    marks = {ScoreDifficulty(other, model).scorer for other in others} | {ScoreDifficulty(CONFIG, mae.MAE(TINY)).scorer, first}
    assert len(marks) == 4
    assert set(scored(model, ROWS[:2])["scorer"].to_pylist()) == {first}


def test_another_seed_gives_other_scores(model):
    assert bits(scored(model, ROWS[:1])) != bits(scored(model, ROWS[:1], CONFIG.model_copy(update={"seed": 1})))


@pytest.mark.parametrize("pixels", [b"no picture", b"", None, pictures.encode(noise(0), 90)[:60]])
def test_pixels_that_cannot_be_decoded_are_a_bug_that_names_the_patch(model, pixels):
    with pytest.raises(ValueError, match=r"patch v@7:bad: \d+ bytes are not a picture"):
        scored(model, [ROWS[0], row("v@7:bad", pixels)])


def test_a_score_that_is_no_number_names_patch_and_scorer(model):
    torch.manual_seed(0)
    broken = mae.MAE(TINY)
    with torch.no_grad():
        broken.decoder_pred.bias[3] = float("nan")
    stage = ScoreDifficulty(CONFIG, broken)
    with pytest.raises(ValueError, match=rf"patch {re.escape(ROWS[0]['patch_id'])} got the difficulty nan from scorer {stage.scorer}"):
        list(stage(table(ROWS[:1])))


def test_without_a_checkpoint_it_says_what_to_do():
    with pytest.raises(ValueError, match=r"^difficulty.checkpoint is empty: run the job probe first"):
        ScoreDifficulty(CONFIG)


def test_scores_are_the_same_when_a_gpu_runs_out_of_memory(model, monkeypatch, caplog):
    patches = [row(f"v@{index}:0,0,9,9:x", noise(index)) for index in range(7)]
    expected = scored(model, patches)
    stage = ScoreDifficulty(CONFIG, model)
    measured = stage.measured

    def small(squares, draws):
        if len(squares) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measured(squares, draws)

    monkeypatch.setattr(stage, "measured", small)
    (found,) = stage(table(patches))
    assert found["patch_id"] == expected["patch_id"]
    np.testing.assert_allclose(found["difficulty"].to_numpy(), expected["difficulty"].to_numpy(), rtol=1e-5)
    assert [record.getMessage()[:44] for record in caplog.records] == [
        "out of GPU memory: 2 patches at a time from ",
        "out of GPU memory: 1 patches at a time from ",
    ]


def test_bfloat16_scores_are_near_and_told_apart(model):
    patches = [row(f"v@{index}:0,0,9,9:x", noise(index)) for index in range(12)]
    quick = CONFIG.model_copy(update={"precision": "bfloat16"})
    exact, near = (scored(model, patches, config) for config in (CONFIG, quick))
    one, other = (np.array(out["difficulty"]) for out in (exact, near))
    np.testing.assert_allclose(other, one, rtol=0.01)
    assert not np.array_equal(one, other)
    assert set(exact["scorer"].to_pylist()).isdisjoint(near["scorer"].to_pylist())


def test_a_checkpoint_scores_like_the_model_it_was_made_of(model, tmp_path):
    mae.save(model, str(tmp_path / "scorer"))
    (out,) = ScoreDifficulty(CONFIG.model_copy(update={"checkpoint": str(tmp_path / "scorer")}))(table(ROWS))
    assert out.equals(scored(model, ROWS))


def test_a_model_of_other_settings_is_refused(model):
    with pytest.raises(ValueError, match=r"expected difficulty.mae=.*mask_ratio=0.5"):
        ScoreDifficulty(CONFIG.model_copy(update={"mae": TINY.model_copy(update={"mask_ratio": 0.5})}), model)
