"""A trained encoder for others to use: its weights under timm's names, and a card that says what they are and are not.

The card follows Mitchell et al., Model Cards for Model Reporting (arXiv 1810.03993), as far as a training knows the answers.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from engine import files, mae, pictures, simclr, transfer, vits, weights
from engine.models import Section, SimCLRConfig
from engine.objectives import Trained, fingerprint

WEIGHTS = "encoder.safetensors"
DPT_TOKENS = (8, 16, 32)  # px: smp's DPT draws token / 16 of a feature map's size, which it needs to be a power of two
SMP = "segmentation-models-pytorch"
# smp asks timm for feature maps, in whose names of weights some dots are underscores, some have the whole network behind "model.", and
# which lack what comes behind the last map.
RENAMED = f"""given = {{name.replace(".", "_"): weight for name, weight in load_file("{WEIGHTS}").items()}}
own = model.encoder.model.state_dict()
model.encoder.model.load_state_dict({{name: given[name.removeprefix("model.").replace(".", "_")] for name in own}})"""
RESNETS = re.compile(r"resnet(18|34|50|101|152)")  # smp has these under the same names as timm
USE = (
    "A starting point for networks that see endoscopic images: fine-tune it, or train a small head on its features, and measure the "
    "result on images of your own that it has not seen."
)
BEST = "transfer/best_look_epochs"  # the metric: of all looks, the untrained encoder's too
HOURS = {  # the metrics that are called hours, and what each is
    "train/gpu_hours": "devices times the hours that the training held them, with loading, checkpoints and reports, not waits for looks; "
    "where there is no GPU, a worker's processors are a device",
    "train/look_hours": "devices times the hours that the training waited for looks at its encoder, none of them above",
    "transfer/gpu_hours": "the hours of one device that these looks took, beside the training or while it waited: do not add up",
}
LIMITS = (
    "It is no medical device and draws no conclusion about a patient; nobody has examined it for clinical use.",
    "It knows the hospitals, instruments and patients of the videos that its selection was taken from, and what the weights that it began "
    "with had seen; others may look different to it.",
    "It was trained without labels: what it is good for is measured after fine-tuning, and a lower loss here need not be better there.",
    "A model can keep traces of what it was trained on: who may not see the images should not be given the weights.",
)


@dataclass(frozen=True)
class Origin:
    """What a model comes from."""

    data: Mapping[str, Any]  # the selection's id, the table's version, the budget, how many images
    recipe: Section  # every knob of the training
    commit: str  # of the code
    metrics: Mapping[str, float]  # at the end of the training; empty: not known
    epochs: int  # after how many the training had this model
    why: str  # this one, in a sentence
    trained: int | None = None  # epochs until the training ended; None: all of the recipe's
    scores: Mapping[str, float] | None = None  # by reading, of the look at this very model; None: nobody looked at the training


def export(model: Trained, origin: Origin, uri: str) -> None:
    """Write the encoder and its card, as README.md and card.json, into the folder at `uri`; the card comes last."""
    told = facts(model, origin)
    files.put(safetensors.torch.save(weights.separate(encoder(model)), {"timm": json.dumps(told["model"])}), f"{uri}/{WEIGHTS}")
    files.put(json.dumps(told, indent=1).encode(), f"{uri}/card.json")
    files.put(card(told).encode(), f"{uri}/README.md")


def encoder(model: Trained) -> dict[str, Tensor]:
    """The encoder's weights by timm's names, all that `timm.create_model(name, num_classes=0)` has."""
    return mae.timm_state(model) if isinstance(model, mae.MAE) else dict(model.encoder.state_dict())


def network(model: Trained) -> tuple[str, dict[str, Any]]:
    """The name of the encoder in timm, and what else `timm.create_model` must be told for the weights to fit."""
    config = model.config
    if isinstance(config, SimCLRConfig):
        return config.encoder, {"num_classes": 0, **simclr.sized(config)}
    shape = vits.shape(config.size)
    return shape.network, {"num_classes": 0, "img_size": config.side, "patch_size": config.token, **shape.arguments}


def facts(model: Trained, origin: Origin) -> dict[str, Any]:
    """All that the card says, for programs."""
    name, told = network(model)
    given = encoder(model)
    return {
        "model": {
            "kind": "masked autoencoder (arXiv 2111.06377)" if isinstance(model, mae.MAE) else "SimCLR (arXiv 2002.05709)",
            "timm": name,
            "arguments": told,
            "numbers": sum(weight.numel() for weight in given.values()),
            "fingerprint": fingerprint(model),
        },
        "input": {"side_px": model.config.side, "colours": "RGB, 0 to 1", "mean": pictures.MEAN, "deviation": pictures.STD},
        "data": dict(origin.data),
        "chosen": {"epochs": origin.epochs, "why": origin.why, "trained": origin.trained},
        "scores": None if origin.scores is None else dict(origin.scores),
        "recipe": {"fingerprint": origin.recipe.fingerprint(), **origin.recipe.model_dump(mode="json")},
        "commit": origin.commit,
        "metrics": {name: value for name, value in origin.metrics.items() if not of_a_look(name)},
        "use": USE,
        "limits": LIMITS,
        "load": loading(name, told),
    }


def of_a_look(metric: str) -> bool:
    """Whether a metric is of one look, so at the end of the training of the last, which may be at another model than the card's."""
    found = metric.removeprefix("transfer/")
    return found != metric and (found == "gaps" or found.partition("/")[0] in transfer.SCORES)


def loading(name: str, told: Mapping[str, Any]) -> dict[str, str]:
    """Lines of Python that load the weights, by library: always of timm, of SMP where it has a network for the encoder.

    These are a U-Net on ResNets and on all else of which timm makes feature maps that halve, and DPT on plain ViTs but for tokens of 14 px.
    """
    given = written(told)
    lines = {"timm": f'import timm\nmodel = timm.create_model("{name}", checkpoint_path="{WEIGHTS}"{given})'}
    read, begin = "from safetensors.torch import load_file\n", "import segmentation_models_pytorch as smp\n"
    plain = vits.PLAIN.fullmatch(name) or vits.MADE_PLAIN.items() <= told.items()
    if RESNETS.fullmatch(name):
        unet = f'model = smp.Unet("{name}", encoder_weights=None)\nmodel.encoder.load_state_dict(load_file("{WEIGHTS}"))'
        lines[SMP] = read + begin + unet
    elif plain and tokens_of(name, told) in DPT_TOKENS:
        lines[SMP] = f'{begin}model = smp.DPT("tu-{name}", encoder_weights=None, checkpoint_path="{WEIGHTS}"{given})'
    elif not plain and halves(name, told):
        lines[SMP] = f'{read}{begin}model = smp.Unet("tu-{name}", encoder_weights=None{written(maps(told))})\n{RENAMED}'
    return lines


def written(told: Mapping[str, Any]) -> str:
    """Arguments as they follow others in a call, each behind a comma."""
    return "".join(f", {key}={value!r}" for key, value in told.items())


def maps(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a network of feature maps is told: it has no classifier that could be left out."""
    return {key: value for key, value in told.items() if key != "num_classes"}


def tokens_of(name: str, told: Mapping[str, Any]) -> int:
    """The side of a plain ViT's tokens in px: as it was told, else by its name."""
    named = vits.NAME.fullmatch(name)
    return int(told.get("patch_size") or (named[2] if named else 0))


def halves(name: str, told: Mapping[str, Any]) -> bool:
    """Whether timm makes feature maps of the network, by its own weights, that halve down to 1/32: what smp's U-Net wants of timm."""
    try:
        with torch.device("meta"):
            made, whole = timm.create_model(name, features_only=True, **maps(told)), timm.create_model(name, **told)
    except (RuntimeError, TypeError, AssertionError):  # what timm raises for networks that have no such maps
        return False
    found: list[int] = made.feature_info.reduction()
    return found in ([2, 4, 8, 16, 32], [4, 8, 16, 32]) and renamed(made) <= renamed(whole)


def renamed(made: nn.Module) -> set[str]:
    """The names of weights as the lines of a card compare them."""
    return {name.removeprefix("model.").replace(".", "_") for name in made.state_dict()}


def card(told: Mapping[str, Any]) -> str:
    """The facts as markdown."""
    model, seen = told["model"], told["input"]
    end = rows(told["metrics"]) if told["metrics"] else "Not known: the tracking server was out of reach when the training ended."
    end += "".join(f"\n\n`{name}`: {what}." for name, what in HOURS.items() if name in told["metrics"])
    parts = {
        f"{model['timm']}, pre-trained on endoscopic images": f"The encoder of a {model['kind']}: {model['numbers']:,} numbers.",
        "Intended use": told["use"],
        "Limits": "\n".join(f"- {limit}" for limit in told["limits"]),
        "How to load it": "\n\n".join(f"With {name}:\n\n```python\n{lines}\n```" for name, lines in told["load"].items())
        + f"\n\n{SMP} has no network for this encoder." * (SMP not in told["load"]),
        "What it is to be shown": f"Images of {seen['side_px']} x {seen['side_px']} px, {seen['colours']}, less the mean {seen['mean']} "
        f"and divided by the deviation {seen['deviation']}.",
        "Data": rows(told["data"]),
        "Which epoch": f"The model after epoch {told['chosen']['epochs']}: {told['chosen']['why']}.{beside(told)}",
        **(
            {} if told["scores"] is None else {"What target images said of it": rows(told["scores"]) or "Nothing: there is no score of it."}
        ),
        "At the end of the training": end,
        "Recipe": rows(told["recipe"] | ended(told)),
        "Origin": f"Commit {told['commit']} of endocurate; fingerprint of the weights {model['fingerprint']}.",
    }
    return "".join(f"{'#' if number == 0 else '##'} {title}\n\n{text}\n\n" for number, (title, text) in enumerate(parts.items()))


def ended(told: Mapping[str, Any]) -> dict[str, str]:
    """The epochs of the recipe, where the training was ended before them."""
    trained, epochs = told["chosen"]["trained"], told["recipe"].get("epochs")
    return {} if trained in (None, epochs) else {"epochs": f"{trained} of {epochs}, ended by its monitor"}


def beside(told: Mapping[str, Any]) -> str:
    """What keeps a reader from taking the best of all looks, which may be that at the untrained encoder, for this model."""
    best = told["metrics"].get(BEST)
    if best is None or best == told["chosen"]["epochs"]:
        return ""
    what = "the untrained encoder" if best == 0 else f"the model after epoch {best:.0f}"
    return f" Below, `{BEST}` is that of the best of all looks, {what}; this is not the model of this card."


def rows(values: Mapping[str, Any], prefix: str = "") -> str:
    """A line for each value, sections within a mapping by dotted names."""
    lines = [
        rows(value, f"{prefix}{name}.") if isinstance(value, Mapping) else f"- {prefix}{name}: {value}" for name, value in values.items()
    ]
    return "\n".join(lines)
