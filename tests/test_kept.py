"""Which model others get of a watched pre-training, and that no more of them lie about than need be, whatever befalls it."""

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from engine import cards, objectives
from engine.config import Config
from engine.knobs import amend
from engine.models import SimCLRConfig
from engine.monitor import WAITING, Looker
from engine.transfer import Readings
from jobs import looks, pretrain
from jobs.kept import Export, Kept
from jobs.recipes import tiny

SMALL = SimCLRConfig(encoder="test_vit", side=32, projection=16)


def config_of(folder: str, *knobs: str) -> Config:
    made = amend(tiny(), ["where=here", f"store.uri={folder}", "transfer.uri=targets", "transfer.patience=99", *knobs])
    return made.model_copy(update={"pretrain": made.pretrain.model_copy(update={"architecture": "simclr", "simclr": SMALL})})


def model_of(config: Config, epoch: float) -> torch.nn.Module:
    """A model that tells after how many epochs it was had."""
    made = objectives.model(config.pretrain)
    with torch.no_grad():
        next(made.parameters()).fill_(epoch)
    return made


def epoch_of(model: torch.nn.Module) -> int:
    return int(next(model.parameters()).flatten()[0])


def look(score: float | tuple[float, ...] | None) -> Readings:
    """One score, several, or why there is none."""
    if score is None:
        return Readings({}, {"robustness": "the encoder has collapsed"})
    several = score if isinstance(score, tuple) else (score,)
    return Readings(dict(zip(("robustness", "rankme", "lidar"), several, strict=False)), {})


class KilledError(Exception):
    pass


def train(
    config: Config,
    curve: Sequence[Any],
    state: tuple[int, dict] | None = None,
    kill: int = -1,
    most: int = 3,
    logged: dict[str, float] | None = None,
) -> list[tuple[int, dict]]:
    """Go on after the checkpoint `state` as the loop does, with one before every look; its checkpoints, or KilledError with them."""
    record = SimpleNamespace(log=lambda told, step: (logged if logged is not None else {}).update(told))
    watched = looks.Watched(Looker(config.transfer, lambda model: look(curve[epoch_of(model)])), record, Kept(config, "k"))
    begin, found = state or (0, watched.state_dict())
    if state:
        watched.load_state_dict(found)
    saved = [(begin, found)]
    for epoch in range(begin, len(curve)):
        if epoch > begin:
            saved.append((epoch, watched.state_dict()))
        watched(epoch, model_of(config, epoch))
        assert len(watched.kept.epochs) <= most + WAITING
        if epoch == kill:
            raise KilledError(saved)
    watched.drain()
    return saved


def exported(config: Config, curve: list[float]) -> Export:
    model, told = pretrain.chosen_of(config, "k", model_of(config, len(curve) - 1))
    assert epoch_of(model) == told.epoch
    return told


CURVES = st.lists(st.integers(0, 9).map(lambda tenths: tenths / 10), min_size=2, max_size=7)


@settings(deadline=None, max_examples=15)
@example([0.9, 0.1, 0.5, 0.0], [0.6, 0.7], 3, 1, True)
@example([0.9, 0.1, 0.5, 0.0], [0.6, 0.7], 3, 2, True)  # the best until the checkpoint before was surpassed by an epoch that was lost
@given(CURVES, CURVES, st.integers(0, 6), st.integers(1, 2), st.booleans())
def test_others_get_the_best_that_was_trained_though_it_was_killed(
    curve: list[float], other: list[float], kill: int, back: int, wait: bool
) -> None:
    """Killed at an epoch, it goes on from the last checkpoint or the one before, as Ray Train may, and not quite as it would have."""
    with TemporaryDirectory() as folder:
        config = config_of(folder, f"transfer.wait={str(wait).lower()}")
        try:
            train(config, curve, kill=kill)
        except KilledError as error:
            saved = error.args[0]
            begin = saved[max(0, len(saved) - back)]
            curve = curve[: begin[0] + 1] + other
            train(config, curve, begin)
        best = min(range(1, len(curve)), key=lambda epoch: curve[epoch])
        assert exported(config, curve).epoch == best
        assert len(Kept(config, "k").epochs) <= 3
        Kept(config, "k").clear()
        assert Kept(config, "k").epochs == []


def test_the_untrained_encoder_may_be_best_but_is_not_exported_and_that_is_said(tmp_path) -> None:
    config, curve = config_of(tmp_path), [0.1, 0.5, 0.3, 0.4]
    train(config, curve)
    told = exported(config, curve)
    assert told.epoch == 2
    assert "of 3 looks at trained models in 3 epochs its robustness, 0.3, is the best (lower is better)" in told.why
    assert "the untrained encoder has 0.1, so by this score no pre-training is best" in told.why


def test_one_look_at_a_trained_model_is_told_as_one(tmp_path) -> None:
    config, curve = config_of(tmp_path), [0.9, 0.5]
    train(config, curve)
    assert exported(config, curve).why == "of 1 look at a trained model in 1 epoch its robustness, 0.5, is the best (lower is better)"


def test_where_the_best_is_gone_others_get_the_best_that_is_left_and_that_is_said(tmp_path) -> None:
    config, curve = config_of(tmp_path, "transfer.keep=true"), [0.9, 0.5, 0.2, 0.4, 0.6]
    train(config, curve)
    kept = Kept(config, "k")
    assert kept.epochs == [0, 1, 2, 3, 4]
    (tmp_path / "models/k/epoch-00002.safetensors").unlink()
    told = exported(config, curve)
    assert told.epoch == 3
    assert "but for 0.2 after 2, of which no model is left" in told.why
    kept.clear()
    assert kept.epochs == [0, 1, 3, 4]  # all were to stay


def test_of_a_training_whose_best_look_was_not_trained_others_get_the_last(tmp_path) -> None:
    config = config_of(tmp_path, "transfer.looks=0,3")
    train(config, [0.5, 0.1, 0.1])
    assert exported(config, [0.5, 0.1, 0.1]).epoch == 2


def test_the_card_says_which_epoch_it_is_and_why(tmp_path) -> None:
    config, curve = config_of(tmp_path), [0.9, 0.5, 0.2, 0.4]
    train(config, curve)
    model, told = pretrain.chosen_of(config, "k", model_of(config, 3))
    cards.export(model, cards.Origin({}, config.pretrain, "c", {}, *told), str(tmp_path / "out"))
    text = (tmp_path / "out/README.md").read_text()
    assert "## Which epoch\n\nThe model after epoch 2: of 3 looks at trained models in 3 epochs its robustness, 0.2, is the best" in text
    assert "best_look" not in text  # nothing else is claimed to be the best
    assert f"- epochs: 3 of {config.pretrain.epochs}, ended by its monitor" in text
    whole = config.pretrain.model_copy(update={"epochs": 3})
    cards.export(model, cards.Origin({}, whole, "c", {}, *told), str(tmp_path / "whole"))
    assert "- epochs: 3\n" in (tmp_path / "whole/README.md").read_text()
    blind = amend(config, ["transfer.uri="])
    assert pretrain.chosen_of(blind, "k", model) == (
        model,
        (blind.pretrain.epochs, "the last; nobody looked at those before", blind.pretrain.epochs),
    )


def test_the_card_has_the_scores_of_the_exported_model_and_not_of_the_last_look(tmp_path) -> None:
    config = config_of(tmp_path, "transfer.score=ranks")
    curve = [(0.9, 1.0), (0.5, 2.0), (0.2, 5.0), (0.4, 4.0)]
    train(config, curve)
    model, told = pretrain.chosen_of(config, "k", model_of(config, 3))
    assert told.epoch == 2
    last = {"transfer/robustness": 0.4, "transfer/rankme": 4.0, "transfer/gaps": 0.0, "transfer/gpu_hours": 0.5, "train/loss": 0.1}
    for scores in (Kept(config, "k").scores(told.epoch), {}, None):
        cards.export(model, cards.Origin({}, config.pretrain, "c", last, *told, scores), str(tmp_path / "out"))
        text = (tmp_path / "out/README.md").read_text()
        said = {None: "", 0: "Nothing: there is no score of it."}.get(
            None if scores is None else len(scores), "- robustness: 0.2\n- rankme: 5.0"
        )
        assert text.partition("## What target images said of it\n\n")[2].partition("\n\n")[0] == said
        assert text.partition("## At the end of the training\n\n")[2].startswith("- transfer/gpu_hours: 0.5\n- train/loss: 0.1\n\n")
    last_level = {"transfer/robustness/level -2": 0.4, "transfer/exported_epochs": 2.0, cards.BEST: 2.0}
    assert [name for name in last_level if cards.of_a_look(name)] == ["transfer/robustness/level -2"]


def test_the_card_tells_the_exported_model_from_the_best_of_all_looks(tmp_path) -> None:
    config, curve = config_of(tmp_path), [0.1, 0.5, 0.3, 0.4]
    train(config, curve)
    model, told = pretrain.chosen_of(config, "k", model_of(config, 3))
    metrics = {"transfer/best_look_epochs": 0.0, "transfer/exported_epochs": 2.0}
    cards.export(model, cards.Origin({}, config.pretrain, "c", metrics, *told), str(tmp_path / "out"))
    text = (tmp_path / "out/README.md").read_text()
    assert "The model after epoch 2: of 3 looks" in text
    assert (
        "`transfer/best_look_epochs` is that of the best of all looks, the untrained encoder; this is not the model of this card." in text
    )
    assert "- transfer/exported_epochs: 2.0" in text
    cards.export(model, cards.Origin({}, config.pretrain, "c", {"transfer/best_look_epochs": 2.0}, *told), str(tmp_path / "same"))
    assert "not the model" not in (tmp_path / "same/README.md").read_text()


@pytest.mark.parametrize("wait", ["true", "false"])
def test_what_looks_took_is_written_down_beside_their_scores(tmp_path, wait: str) -> None:
    config, curve = config_of(tmp_path, f"transfer.wait={wait}"), [0.9, 0.5, 0.2, 0.4]
    train(config, curve)
    noted = Kept(config, "k").noted()
    assert noted["scores"] == {"robustness": {str(epoch): score for epoch, score in enumerate(curve)}}
    assert all(seconds > 0 for seconds in noted["seconds"].values())
    assert noted["seconds"].keys() == noted["scores"]["robustness"].keys()


PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=7)


@settings(deadline=None, max_examples=15)
@given(PAIRS, PAIRS, st.integers(0, 6), st.integers(1, 2))
def test_of_several_scores_others_get_the_best_by_ranks_though_it_was_killed(curve, other, kill: int, back: int) -> None:
    """Ranks change as looks come, so a model that was not the best at any moment before may have to be there at the end."""
    with TemporaryDirectory() as folder:
        config = config_of(folder, "transfer.score=ranks")
        try:
            train(config, curve, kill=kill, most=99)
        except KilledError as error:
            saved = error.args[0]
            begin = saved[max(0, len(saved) - back)]
            curve = curve[: begin[0] + 1] + other
            train(config, curve, begin, most=99)
        columns = list(zip(*curve[1:], strict=True))
        ranks = np.mean([rankdata(columns[0]), *(rankdata([-one for one in column]) for column in columns[1:])], axis=0)
        assert exported(config, curve).epoch == 1 + int(ranks.argmin())


def test_a_look_that_fails_is_no_end_and_others_get_the_best_of_the_others(tmp_path) -> None:
    config, curve = config_of(tmp_path), [0.9, 0.5, None, 0.4, None]
    train(config, curve)
    assert exported(config, curve).epoch == 3
    assert Kept(config, "k").noted()["gaps"]["2"] == {"robustness": "the encoder has collapsed"}


def test_where_every_look_failed_others_get_the_last_and_the_end_says_so(tmp_path, caplog) -> None:
    config, curve = config_of(tmp_path), [None, None, None]
    with caplog.at_level("WARNING"):
        train(config, curve)
    assert "after 1 epochs there is no robustness, and the training goes on: the encoder has collapsed" in caplog.text
    said = "none of 3 looks could be scored; the last says: the encoder has collapsed"
    assert caplog.messages[-1] == said
    assert exported(config, curve) == (2, f"the last of 2 epochs, because {said}", 2)


def test_a_vote_says_when_and_others_get_the_last(tmp_path) -> None:
    config, curve = config_of(tmp_path, "transfer.score=vote"), [(0.9, 1, 1), (0.1, 9, 9), (0.5, 2, 2)]
    train(config, curve)
    assert exported(config, curve) == (
        2,
        "the last of 2 epochs, because the vote of all scores says when to end and not which model is best",
        2,
    )


def test_a_vote_names_no_best_model_and_says_by_which_rank_the_untrained_one_is(tmp_path, caplog) -> None:
    worse, better = [(0.1, 9, 9), (0.1, 9, 9), (0.5, 2, 2)], [(0.9, 1, 1), (0.1, 9, 9), (0.5, 2, 2)]
    said = []
    with caplog.at_level("INFO", "jobs.looks"):
        for curve in (worse, better):
            config, logged = config_of(f"{tmp_path}/{len(said)}", "transfer.score=vote", "transfer.levels=-1,-2"), dict[str, float]()
            train(config, curve, logged=logged)
            assert "transfer/best_look_epochs" not in logged
            said.append((caplog.messages[-1], exported(config, curve).why))
    begun = "the vote of all scores at levels -1, -2 names no model; by the mean rank of all scores at levels -1, -2 the untrained encoder "
    assert [log for log, _ in said] == [f"{begun}is best: no pre-training at all", f"{begun}is not the best"]
    told = "; the untrained encoder has 1.5 among all looks, so by the mean rank of all scores at levels -1, -2 no pre-training is best"
    assert told in said[0][1]
    assert "this is the last that was trained, and the job evaluate measures an untrained one beside it" in said[0][1]
    assert "untrained" not in said[1][1]


def test_the_trained_model_that_is_best_by_ranks_is_one_in_the_log_and_as_exported(tmp_path) -> None:
    """Each of two trained models is the better by one score; with the untrained one between them by another the later would be best."""
    config, curve, logged = config_of(tmp_path, "transfer.score=ranks"), [(0.2, 1), (0.3, 3), (0.1, 2)], dict[str, float]()
    train(config, curve, logged=logged)
    assert exported(config, curve).epoch == logged["transfer/best_look_epochs"] == 1
