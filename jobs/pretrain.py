"""Train a masked autoencoder or SimCLR on the images of a selection, under Ray Train."""

import hashlib
import logging
from functools import partial
from math import ceil
from typing import Any

from engine import cards, flow, objectives, pretrain, tracking
from engine.config import Config
from engine.knobs import flat
from engine.store import ImageReader, PatchStore, quoted
from jobs import looks, training

log = logging.getLogger("jobs.pretrain")


def chosen(config: Config) -> tuple[str, float]:
    """The id of the selection that selection.* and synthesis.* made, and the share of the stored bytes it kept.

    The newest whose run of the job choose had these very knobs; where no run tells, that of the same method, budget, unit and seed.
    """
    if (one := choice(config)) is not None:
        return one["tags"]["selection"], one["metrics"]["choose/retained"]
    asked = config.selection
    rows = PatchStore(config.store.uri).selection(asked.method, asked.budget, asked.seed, asked.unit)
    return rows["selection_id"][0].as_py(), rows["retained"][0].as_py()


def choice(config: Config) -> dict[str, Any] | None:
    """The newest run of the job choose by the knobs selection.* and synthesis.* of `config` whose selection the store holds."""
    store = PatchStore(config.store.uri)
    knobs = {name: str(value) for name, value in flat(config).items() if name.startswith(("selection.", "synthesis."))}
    runs = [one for one in tracking.runs(config, "choose") if knobs.items() <= one["params"].items()]
    held = store.open("selections") if runs and store.has("selections") else None
    mine = (one for one in reversed(runs) if held and held.count_rows(f"selection_id = {quoted([one['tags']['selection']])}"))
    return next(mine, None)


def key(config: Config, selection_id: str) -> str:
    """Names the model: the same selection, recipe and watch are the same model, so a second run goes on or is done at once."""
    made = config.pretrain.fingerprint() + (config.transfer.fingerprint() if config.transfer.uri else "")
    return f"{selection_id}-{hashlib.sha256(made.encode()).hexdigest()[:8]}"


def model(config: Config, selection_id: str) -> str:
    """The name of the model in the store."""
    return f"models/{key(config, selection_id)}.safetensors"


def run(config: Config) -> None:
    """Pre-train on the selection that selection.* names; its model lies under models/ in the store, the encoder for others in a folder."""
    store = PatchStore(config.store.uri)
    selection_id, retained = chosen(config)
    if store.holds(model(config, selection_id)):
        log.info("%s: trained before with this recipe", selection_id)
        return
    reader = store.reader(selection_id)
    tags = {"selection": selection_id, "retained": retained, "images": len(reader), "images_version": reader.version}
    name = key(config, selection_id)
    if config.transfer.uri:
        targets = len(looks.Score(config).targets.images)  # bad ones are refused before a run begins
        tags |= {"watched": f"{config.transfer.score} of {targets} target images"}
    log.info("pre-training %s on %d images of %s", objectives.title(config.pretrain), len(reader), selection_id)
    with store.reading("images", reader.version), tracking.running(config, "pretrain", name, tags) as record:
        trained = trained_on(config, reader, name, record)
        origin = cards.Origin({"budget": config.selection.budget, **tags}, config.pretrain, tracking.code_commit(), record.latest())
        cards.export(trained, origin, store.address(f"models/{name}"))
        objectives.save(trained, store.address(model(config, selection_id)))  # last: from then on it counts as trained
        record.note({"model": objectives.fingerprint(trained)})


def trained_on(config: Config, reader: ImageReader, name: str, record: tracking.Run) -> training.Trained:
    """The model that the images make of the recipe; looked at while it is trained where transfer.uri names target images."""
    recipe, watch, validate = config.pretrain, None, None
    loop = partial(pretrain.fit, reader, len(reader), recipe)
    if config.transfer.uri:
        run = f"{training.runs(config)}/pretrain-{name}" if config.where == "ray" else ""
        watch = partial(looks.watch, config, name, record, ceil(len(reader) / recipe.batch), run)
        validate = flow.Validate(looks.Score(config).of) if run else None
    work = partial(training.fit, loop, recipe.epochs, record, watch=watch)
    trained = training.carry_out(config, recipe, work, f"pretrain-{name}", validate)
    if watch and validate:
        watch().drain()  # the last scores came after the workers had ended
    return trained
