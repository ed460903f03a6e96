"""The scores that the authors of the robustness transferability score released (arXiv 2410.18677), checked and put in order.

`results/downstream_scores.csv` and `results/robustness_scores.csv` of aielte-research/MedSegPretrainImageNet. A setup is a data set, a
model, a scheme of pre-training and whether the encoder stayed frozen; a length is so many epochs of pre-training.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv

DOWNSTREAM, ROBUSTNESS = "downstream_scores.csv", "robustness_scores.csv"
ENCODERS = {"ResNet50 Attention U-Net": "resnet50", "Swin U-Net": "swin_transformer", "basic U-Net": "u-net_encoder"}
DATASETS = {"COVIDQUDataset": "COVID-QU"}  # one data set, two names
DEPTHS = np.linspace(0, 1, 5)  # shares of the way from an encoder's first level to its deepest: see depths
DICE = ("dice index", "mean dice index")  # one of them holds the Dice: that of one class, or the mean of many
DOWNSTREAM_COLUMNS = {
    "model": pa.string(),
    "dataset": pa.string(),
    "pretraining length": pa.int64(),
    "ImageNet accuracy": pa.float64(),
    "freeze encoder": pa.bool_(),
    "pretraining scheme": pa.string(),
    "seed": pa.int64(),
    **dict.fromkeys(DICE, pa.float64()),
}
ROBUSTNESS_COLUMNS = {
    "dataset": pa.string(),
    "metric": pa.string(),
    "margin": pa.float64(),
    "encoder": pa.string(),
    "pretraining_scheme": pa.string(),
    "pooled": pa.bool_(),
    "level": pa.int64(),
    "pretraining_length": pa.int64(),
    "robustness": pa.float64(),
}


class Setup(NamedTuple):
    """What was pre-trained how, and used for what."""

    dataset: str
    encoder: str
    scheme: str
    frozen: bool


class Variant(NamedTuple):
    """One of the ways in which the score was computed; the defaults are those of the authors' code."""

    metric: str = "cosine_distance"
    margin: float = 0.5
    pooled: bool = True
    level: int = -2  # of the encoder's, counted from the deepest


@dataclass(frozen=True)
class Release:
    """S setups, L lengths from 0 epochs up, K seeds."""

    setups: tuple[Setup, ...]
    lengths: np.ndarray  # (L,) epochs
    dice: np.ndarray  # (S, L, K); NaN where a seed was not run
    accuracy: np.ndarray  # (S, L) on ImageNet, from 0 to 1
    robustness: Mapping[Variant, np.ndarray]  # (S, L - 1), lower is more robust; NaN where the encoder has no such level

    @property
    def performance(self) -> np.ndarray:
        """(S, L) Dice, the mean over the seeds that were run."""
        return np.asarray(np.nanmean(self.dice, axis=-1))


def depths(release: Release) -> dict[tuple[str, float, bool], np.ndarray]:
    """By distance, margin and whether it was pooled (D, S, L - 1) robustness at DEPTHS, which all encoders have, however many their levels.

    A depth has the level nearest to it, of two the one with an even number of levels before it: of five levels 1, 2, 3, 4 and 5, of four
    1, 2, 3, 3 and 4. An earlier study of these scores says five levels of every encoder: that it means these its figures told (LOG).
    """
    found = {}
    for kind, alike in groupby(sorted(release.robustness), key=lambda one: one[:3]):
        levels = np.stack([release.robustness[one] for one in alike])  # from the shallowest; NaN before the first that an encoder has
        first = np.isnan(levels[..., 0]).sum(axis=0)
        nearest = first + np.round(DEPTHS[:, None] * (len(levels) - 1 - first)).astype(int)  # half to even
        found[kind] = np.take_along_axis(levels, nearest[..., None], axis=0)
    return found


def completed(dice: np.ndarray) -> np.ndarray:
    """Dice (..., K) where a seed that was not run counts as the mean of those that were."""
    return np.where(np.isnan(dice), np.nanmean(dice, axis=-1, keepdims=True), dice)


def numbered(setups: Sequence[Setup], fields: Sequence[str]) -> np.ndarray:
    """(S,) numbers from 0 up, the same for setups that are alike in all `fields`."""
    cells = [tuple(getattr(one, field) for field in fields) for one in setups]
    kinds = sorted(set(cells))
    return np.array([kinds.index(cell) for cell in cells])


def read(folder: str | Path) -> Release:
    """The release in a folder; FileNotFoundError or ValueError says what is missing, damaged or told twice.

    The robustness of 0 epochs is left out: for two of the three data sets it is a copy of that of 300, so who saw it saw the future.
    """
    scores = [named(row) for row in rows(Path(folder) / DOWNSTREAM, DOWNSTREAM_COLUMNS)]
    setups = tuple(sorted({row["setup"] for row in scores if row["length"]}))
    lengths = np.array(sorted({row["length"] for row in scores}))
    if not setups or lengths[0] != 0:
        raise ValueError(f"{DOWNSTREAM} tells of {len(setups)} setups at lengths {lengths.tolist()}; expected some from 0 epochs up")
    dice = downstream(scores, setups, lengths)
    accuracy = accuracies(scores, setups, lengths)
    return Release(setups, lengths, dice, accuracy, robustness(rows(Path(folder) / ROBUSTNESS, ROBUSTNESS_COLUMNS), setups, lengths))


def rows(path: Path, columns: Mapping[str, pa.DataType]) -> list[dict[str, Any]]:
    """The rows of a CSV file in the given columns and types.

    FileNotFoundError, or ValueError where it cannot be read, lacks a column or a value.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected the scores released with arXiv 2410.18677")
    try:
        table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=columns, strings_can_be_null=True))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; found {', '.join(table.column_names)}")
    if empty := [name for name in columns if table[name].null_count and name not in DICE]:
        raise ValueError(f"{path} has {table[empty[0]].null_count} rows without {empty[0]}; expected none")
    found: list[dict[str, Any]] = table.select(list(columns)).to_pylist()
    return found


def named(row: dict[str, Any]) -> dict[str, Any]:
    """A row of downstream scores by our names. ValueError for a model that we do not know."""
    if row["model"] not in ENCODERS:
        raise ValueError(f"{DOWNSTREAM} tells of the model {row['model']!r}; expected one of {', '.join(ENCODERS)}")
    one, many = (row[name] for name in DICE)
    dataset = DATASETS.get(row["dataset"], row["dataset"])
    setup = Setup(dataset, ENCODERS[row["model"]], row["pretraining scheme"], row["freeze encoder"])
    return {
        "setup": setup,
        "length": row["pretraining length"],
        "seed": row["seed"],
        "dice": many if one is None else one,
        "accuracy": row["ImageNet accuracy"],
    }


def downstream(scores: list[dict[str, Any]], setups: tuple[Setup, ...], lengths: np.ndarray) -> np.ndarray:
    """(S, L, K) Dice. Without pre-training there is no scheme: what was run once stands for every one.

    ValueError for cells that are missing or above 1.
    """
    seeds = sorted({row["seed"] for row in scores})
    found = once(DOWNSTREAM, (((unschemed(row["setup"], row["length"]), row["length"], row["seed"]), row["dice"]) for row in scores))
    cells = [(unschemed(setup, length), length) for setup in setups for length in lengths.tolist()]
    dice = np.array([[found.get((*cell, seed), np.nan) for seed in seeds] for cell in cells])
    if empty := [cell for cell, told in zip(cells, dice, strict=True) if np.isnan(told).all()]:
        raise ValueError(f"{DOWNSTREAM} tells of {len(cells) - len(empty)} of {len(cells)} setups and lengths; no Dice of {said(empty[0])}")
    if (dice > 1).any():
        raise ValueError(f"{DOWNSTREAM} has a Dice of {np.nanmax(dice):g}; expected at most 1")
    return dice.reshape(len(setups), len(lengths), len(seeds))


def accuracies(scores: list[dict[str, Any]], setups: tuple[Setup, ...], lengths: np.ndarray) -> np.ndarray:
    """(S, L) accuracy on ImageNet, which is that of a pre-training, whatever it was used for."""
    told = (((row["setup"].encoder, row["setup"].scheme if row["length"] else "", row["length"]), row["accuracy"]) for row in scores)
    found = once(DOWNSTREAM, told)
    return np.array([[found[one.encoder, one.scheme if length else "", length] for length in lengths.tolist()] for one in setups])


def unschemed(setup: Setup, length: int) -> Setup:
    """The setup; without its scheme where there was no pre-training, since all schemes start there."""
    return setup if length else setup._replace(scheme="")


def robustness(scores: list[dict[str, Any]], setups: tuple[Setup, ...], lengths: np.ndarray) -> dict[Variant, np.ndarray]:
    """(S, L - 1) robustness by variant, of 1 epoch and more. ValueError for scores that are missing. `lengths` (L,) epochs."""
    found = once(ROBUSTNESS, ((place(row), row["robustness"]) for row in scores if row["pretraining_length"]))
    deepest: dict[str, int] = {}
    for row in scores:
        deepest[row["encoder"]] = max(row["level"], deepest.get(row["encoder"], 0))
    kinds = {(row["metric"], row["margin"], row["pooled"]) for row in scores}
    variants = [Variant(*kind, level) for kind in sorted(kinds) for level in range(-max(deepest.values(), default=0), 0)]

    def told(setup: Setup, variant: Variant, length: int) -> float:
        level = deepest.get(setup.encoder, 0) + 1 + variant.level
        wanted = (*setup[:3], *variant[:3], level, length)
        if level >= 1 and wanted not in found:
            raise ValueError(f"{ROBUSTNESS} tells of {len(found)} scores after 0 epochs, but not of {said(wanted)}")
        return found.get(wanted, np.nan)

    if missing := {setup.encoder for setup in setups} - set(deepest):
        raise ValueError(f"{ROBUSTNESS} does not tell of {', '.join(sorted(missing))}")
    tables = {one: np.array([[told(setup, one, length) for length in lengths[1:].tolist()] for setup in setups]) for one in variants}
    if np.isnan(tables.get(Variant(), np.nan)).any():
        raise ValueError(f"{ROBUSTNESS} lacks the score by the authors' defaults, {said(Variant())}, for one encoder at least")
    return tables


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    """Where a released row stands in order: what tells it apart, the setup first."""
    scheme = row["pretraining_scheme"].removesuffix("_training")
    return row["dataset"], row["encoder"], scheme, row["metric"], row["margin"], row["pooled"], row["level"], row["pretraining_length"]


def once(file: str, told: Iterable[tuple[tuple[Any, ...], float | None]]) -> dict[tuple[Any, ...], float]:
    """Values by place; ValueError where a place has two that differ, or one that is no number of at least 0."""
    found: dict[tuple[Any, ...], float] = {}
    for where, value in told:
        if value is None or not 0 <= value < np.inf:
            raise ValueError(f"{file} has {value} of {said(where)}; expected a number of at least 0")
        if found.setdefault(where, value) != value:
            raise ValueError(f"{file} has both {found[where]:g} and {value:g} of {said(where)}")
    return found


def said(where: tuple[Any, ...]) -> str:
    """A place in words: its parts, those of a setup too."""
    flat = [part for one in where for part in (one if isinstance(one, tuple) else (one,))]
    return " ".join(str(part) for part in flat if part != "")
