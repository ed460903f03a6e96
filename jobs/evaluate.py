"""Fine-tune the pre-trained encoder on a folder of images/ and masks/, and say how good it got, beside an untrained one."""

import logging
from typing import Any

import torch

from engine import datasets, evaluate, mae, theory, tracking
from engine.config import Config
from engine.store import PatchStore
from jobs import pretrain

MEASURES = ("miou", "iou", "dice", "precision", "recall", "seconds")
log = logging.getLogger("jobs.evaluate")


def run(config: Config) -> None:
    """Measure for every seed the model of selection.* and pretrain.*, and the same network without pre-training.

    A MAE pre-trains the ViT of a DPT; the CNN of a U-Net is measured from random weights, as the baseline it is.
    """
    if not config.evaluate.uri:
        raise ValueError("evaluate.uri is empty: name a folder with images/ and masks/")
    encoders = (
        [pretrained(config), untrained(config)]
        if config.evaluate.architecture == "dpt"
        else [({"method": "no pre-training", "retained": 0.0}, None)]
    )
    for seed in config.evaluate.seeds:
        for what, encoder in encoders:
            measure(config, seed, encoder, what)


def pretrained(config: Config) -> tuple[dict[str, Any], Any]:
    """The encoder that pre-training left in the store, and what it was trained on."""
    store = PatchStore(config.store.uri)
    selection_id, retained = pretrain.chosen(config)
    model = pretrain.model(config, selection_id)
    if not store.holds(model):
        raise LookupError(f"the store {config.store.uri} has no model of {selection_id} with this recipe: run the job pretrain first")
    encoder = mae.timm_state(mae.load(store.address(model), config.pretrain.mae))
    return {"method": config.selection.method, "selection": selection_id, "retained": retained}, encoder


def untrained(config: Config) -> tuple[dict[str, Any], Any]:
    """The same encoder as it is before its first step, from the same seed."""
    torch.manual_seed(config.pretrain.seed)
    return {"method": "no pre-training", "retained": 0.0}, mae.timm_state(mae.MAE(config.pretrain.mae))


def measure(config: Config, seed: int, encoder: Any, what: dict[str, Any]) -> None:
    """One MLflow run; what was measured before with the same settings is not measured again."""
    model = f"{what.get('selection', 'untrained')}-{config.pretrain.fingerprint()}"
    key = f"{model}-{config.evaluate.fingerprint()}-{seed}"
    if any(one["tags"].get("key") == key for one in tracking.runs(config, "evaluate")):
        log.info("%s, seed %d: measured before", what["method"], seed)
        return
    split = datasets.pairs(config.evaluate.uri, config.evaluate.test_share, seed, config.evaluate.limit)
    tags = what | {"budget": config.selection.budget, "seed": seed, "pairs": len(split.train) + len(split.test)}
    record = tracking.start(config, "evaluate", key, tags)
    result = evaluate.evaluate(encoder, config.pretrain.mae, split, config.evaluate, seed, lambda step, metrics: record.log(metrics, step))
    metrics = {name: getattr(result, name) for name in MEASURES} | {"miou_low": result.interval[0], "miou_high": result.interval[1]}
    if what["retained"]:
        metrics["normdel"] = theory.normdel(result.miou, what["retained"])
    record.log({f"evaluate/{name}": value for name, value in metrics.items()}, step=config.evaluate.iterations)
    record.end()
    log.info("%s, seed %d: mIoU %.4f, Dice %.4f on %d test images", what["method"], seed, result.miou, result.dice, len(split.test))
