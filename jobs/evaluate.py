"""Fine-tune the pre-trained encoder on a folder of images/ and masks/, and say how good it got, beside an untrained one."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from engine import cards, datasets, evaluate, objectives, segmenters, theory, tracking
from engine.config import Config
from engine.datasets import Split
from engine.entries import NONE
from engine.evaluate import Result
from engine.leaks import Leaks
from engine.models import MAEConfig, check_dpt
from engine.segmenters import ViT
from engine.store import PatchStore
from engine.text import FindText
from jobs import named, pretrain, twins

MEASURES = ("miou", "iou", "dice", "precision", "recall", "hd95", "missing", "seconds")
NETWORKS = {"dpt": "DPT", "unet": "U-Net", "attention_unet": "attention U-Net"}
log = logging.getLogger("jobs.evaluate")


class Contender(NamedTuple):
    """An encoder that is measured, and what it was trained on."""

    method: str
    selection: str  # "": none
    retained: float  # share of the stored bytes
    weights: str  # their fingerprint
    encoder: Mapping[str, Any] | None  # None: random weights
    leaks: Leaks | None = None  # between what it was trained on and what is tested on; None: not looked for
    twins: Leaks | None = None  # between what it is fine-tuned on and what is tested on, where no patients are told; None: not looked for


def run(config: Config) -> None:
    """Measure for every seed the model of selection.* and pretrain.*, and the same network without pre-training.

    A masked autoencoder pre-trains the ViT of a DPT, SimCLR that or the CNN or Swin of a U-Net; a U-Net beside a masked autoencoder is
    measured from random weights, as the baseline it is.
    """
    alone = config.evaluate.architecture != "dpt" and config.pretrain.architecture == "mae"
    contenders = [Contender(NONE, "", 0.0, "random", None)] if alone else [pretrained(config), untrained(config)]
    data = datasets.fingerprint(config.evaluate.uri, config.evaluate.dataset)
    splits = {seed: datasets.chosen(config.evaluate, seed) for seed in config.evaluate.seeds}
    for split in splits.values():
        datasets.check(split)
        datasets.require_classes(split)
    inside = twins.within(splits)
    tested = sorted({pair for split in splits.values() for pair in split.test})
    found = None if alone else twins.between(PatchStore(config.store.uri), contenders[0].selection, tested)
    for seed, split in splits.items():
        for contender in contenders:
            contender = contender._replace(leaks=twins.of_split(found, split.test) if contender.selection else None, twins=inside.get(seed))
            measure(config, seed, (data, split), contender)


def pretrained(config: Config) -> Contender:
    """The encoder that pre-training left in the store; ValueError for one that the network does not take.

    LookupError where it left none.
    """
    check_fits(config)
    store = PatchStore(config.store.uri)
    selection_id, retained = pretrain.chosen(config)
    name = pretrain.model(config, selection_id)
    if not store.holds(name):
        raise LookupError(f"the store {config.store.uri} has no model of {selection_id} with this recipe: run the job pretrain first")
    model = objectives.load(store.address(name), config.pretrain)
    method = named.made(store, selection_id)["method"]
    return Contender(method, selection_id, retained, objectives.fingerprint(model), cards.encoder(model))


def check_fits(config: Config) -> None:
    """ValueError where what is pre-trained is not what the network is built around."""
    how, recipe = config.evaluate, config.pretrain
    if how.architecture == "dpt":
        if (vit := segmenters.vit_of(recipe)) is None:
            raise ValueError(
                f"pretrain.simclr.encoder={recipe.simclr.encoder}: a DPT is fine-tuned on a plain ViT such as vit_tiny_patch16_224; "
                "take evaluate.architecture=unet"
            )
        check_dpt(vit.token, how.side)
    elif recipe.architecture == "mae":
        raise ValueError(
            f"evaluate.architecture={how.architecture} is fine-tuned on what SimCLR trained; for a masked autoencoder take dpt"
        )
    elif how.encoder != recipe.simclr.encoder:
        raise ValueError(
            f"evaluate.encoder={how.encoder} is not what was trained, expected pretrain.simclr.encoder={recipe.simclr.encoder}"
        )


def stood_on(config: Config) -> MAEConfig | ViT:
    """The ViT that a DPT stands on; a U-Net asks for none."""
    return segmenters.vit_of(config.pretrain) or config.pretrain.mae


def untrained(config: Config) -> Contender:
    """The same encoder as it is before its first step, from the same seed; random, whatever the training began with."""
    torch.manual_seed(config.pretrain.seed)
    model = objectives.model(config.pretrain.model_copy(update={"checkpoint": ""}))
    return Contender(NONE, "", 0.0, objectives.fingerprint(model), cards.encoder(model))


def measure(config: Config, seed: int, images: tuple[str, Split], contender: Contender, job: str = "evaluate") -> dict[str, float]:
    """One MLflow run, and its metrics; what was measured before with the same weights, data and settings is not measured again."""
    data, split = images
    key = key_of(config, seed, images, contender)
    if (before := tracking.finished(config, job, key)) is not None:
        log.info("%s, seed %d: measured before", contender.method, seed)
        return dict(before["metrics"])
    tags = {name: getattr(contender, name) for name in ("method", "selection", "retained", "weights")}
    tags |= dict(zip(("budget", "unit"), budget(config), strict=True))
    tags |= {"seed": seed, "data": data, "comparison": comparison(config, data, split)}
    with tracking.running(config, job, key, tags) as record:
        result = evaluate.evaluate(
            contender.encoder, stood_on(config), split, config.evaluate, seed, lambda step, metrics: record.log(metrics, step)
        )
        metrics = {f"evaluate/{name}": value for name, value in metrics_of(result, contender).items()}
        record.log(metrics, result.curve[-1][0])
        keep(record, result)
        if contender.leaks:
            record.keep("leaks.json", twins.told(contender.leaks))
        if contender.twins:
            record.keep("twins.json", twins.told(contender.twins))
    log.info(
        "%s, seed %d: mIoU %.4f, Dice %.4f, HD95 %.1f px on %d test images; %d of them or of their classes were missed or made up whole",
        contender.method, seed, result.miou, result.dice, result.hd95, len(split.test), result.missing,
    )  # fmt: skip
    return metrics


def budget(config: Config) -> tuple[float, str]:
    """How much was to be chosen of what is measured, and of what is measured beside it, and its unit."""
    if not config.selection.named:
        return config.selection.budget, config.selection.unit
    made = named.chosen(config)
    return made["budget"], made["unit"]


def key_of(config: Config, seed: int, images: tuple[str, Split], contender: Contender) -> str:
    """Names a measurement: the same weights, images and settings give the same numbers.

    A limit once cut the test part too, so beside one the key says how many were tested.
    """
    tested = f"-{len(images[1].test)}" if config.evaluate.limit else ""
    return f"{contender.method}-{contender.selection}-{contender.weights}-{images[0]}-{settings(config)}-{seed}{tested}"


def settings(config: Config) -> str:
    """Names how it is measured, whatever the folder is called and whichever seeds are run."""
    return config.evaluate.model_copy(update={"uri": "", "seeds": (0,)}).fingerprint()


def comparison(config: Config, data: str, split: Split) -> str:
    """What results have in common that may stand side by side."""
    how, name = config.evaluate, Path(config.evaluate.uri.removeprefix("file://")).resolve().name
    name += f", tested on {', '.join(how.test_groups)}" if how.test_groups else ""
    network = f"{NETWORKS[how.architecture]} on {f'vit_{stood_on(config).size}' if how.architecture == 'dpt' else how.encoder}"
    return (
        f"{name}: {len(split.train)} images trained, {len(split.test)} tested · {network}{', frozen' * how.frozen}, {how.side} px, "
        f"{how.steps(len(split.train))} iterations · "
        f"data {data}, evaluate {settings(config)}, pretrain {config.pretrain.fingerprint()}"
    )


def metrics_of(result: Result, contender: Contender) -> dict[str, float]:
    """What MLflow is told of a result: means, intervals, every class where there are several, leaks, twins, NormDEL."""
    metrics = {name: float(getattr(result, name)) for name in MEASURES}
    for name, (low, high) in {"miou": result.interval, **result.intervals}.items():
        metrics |= {f"{name}_low": low, f"{name}_high": high}
    if len(result.classes) > 1:
        metrics |= {f"{name}/{measure}": value for name, one in result.classes.items() for measure, value in one.items()}
    metrics |= {"leaked_images": float(contender.leaks.tested)} if contender.leaks else {}
    metrics |= {"twins_in_training": float(contender.twins.tested)} if contender.twins else {}
    return metrics | ({"normdel": theory.normdel(result.miou, contender.retained)} if contender.retained else {})


def keep(record: tracking.Run, result: Result) -> None:
    """Counts of every test image, and the best and worst as pictures; letters burnt into them are blacked out first."""
    find_text = FindText()
    for number, example in enumerate(result.examples):
        for y0, x0, y1, x1 in find_text(example.image):
            example.image[y0:y1, x0:x1] = 0
        record.keep(f"examples/{number}.jpg", evaluate.overlay(example.image, example.truth, example.drawn))
    told = {"names": result.marks.names, "counts": result.marks.counts.tolist(), "examples": [one.iou for one in result.examples]}
    told["hd95"] = result.per_image["hd95"].tolist()
    record.keep("tested.json", json.dumps(told).encode())
