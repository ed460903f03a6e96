"""Train a masked autoencoder or SimCLR on the images of a selection, under Ray Train."""

import hashlib
import logging
from functools import partial
from math import ceil

from engine import cards, flow, footprint, objectives, pretrain, tracking
from engine.charts import amount
from engine.config import Config
from engine.monitor import title
from engine.store import ImageReader, PatchStore, trainings
from jobs import looks, named, needs, training
from jobs.kept import Export, Kept
from jobs.troubles import typed

log = logging.getLogger("jobs.pretrain")


def chosen(config: Config) -> tuple[str, float]:
    """The id of the selection that selection.* and synthesis.* name, and the share of the stored bytes it kept."""
    selection_id = named.asked(config)
    return selection_id, named.made(PatchStore(config.store.uri), selection_id)["retained"]


def key(config: Config, selection_id: str) -> str:
    """Names the model: the same selection, recipe and watch are the same model, so a second run goes on or is done at once.

    Weights that it begins with and target images are told by what they are: another file in the same place is another recipe, the same one
    elsewhere is not. Knobs on which the model does not depend (TrainConfig.FREE) tell nothing: they may change amid a training.
    """
    recipe = config.pretrain
    if recipe.checkpoint:
        recipe = recipe.model_copy(update={"checkpoint": objectives.fingerprint(objectives.load(recipe.checkpoint, recipe))})
    made = recipe.fingerprint() + (looks.fingerprint(config) if config.transfer.uri else "")
    return f"{selection_id}-{hashlib.sha256(made.encode()).hexdigest()[:8]}"


def model(config: Config, selection_id: str) -> str:
    """The name of the model in the store."""
    return trainings.model(key(config, selection_id))


def run(config: Config) -> None:
    """Pre-train on the selection that selection.* names; its model lies under models/ in the store, the encoder for others in a folder."""
    train(config, *chosen(config))


def train(config: Config, selection_id: str, retained: float) -> None:
    """The same on a selection of the store, which kept that share of the stored bytes."""
    store = PatchStore(config.store.uri)
    with typed():
        objectives.check(config.pretrain)
    name = key(config, selection_id)
    file = trainings.model(name)
    if store.holds(file):
        Kept(config, name).clear()  # of a job that was killed at its very end
        log.info("%s: trained before with this recipe", selection_id)
        return
    needs.await_nodes("pretrain", config)
    reader = store.reader(selection_id)
    made = named.made(store, selection_id)
    tags = {"selection": selection_id, "retained": retained, "patches_version": made["patches_version"]}
    tags |= {"images": len(reader), "images_version": reader.version}
    if config.transfer.uri:
        score = looks.Score(config)
        tags |= {"watched": f"{title(config.transfer)} of {len(score.targets.images)} target images"}
        with typed():
            score.check()
    with typed():  # what is bad before a run begins is refused before it
        training.check(config, config.pretrain, len(reader))
        if config.where == "here":  # the workers of a cluster have memory of their own
            footprint.check(config.pretrain)
    log.info("pre-training %s on %d images of %s", objectives.title(config.pretrain), len(reader), selection_id)
    with store.reading("images", reader.version), tracking.running(config, "pretrain", name, tags) as record:
        best, export = chosen_of(config, name, trained_on(config, reader, name, record))
        if config.transfer.uri:
            record.log({"transfer/exported_epochs": export.epoch}, step=export.epoch)
        data = {"budget": amount(made["budget"], made["unit"]), **tags}
        scores = Kept(config, name).scores(export.epoch) if config.transfer.uri else None
        origin = cards.Origin(data, config.pretrain, tracking.code_commit(), record.latest(), *export, scores)
        cards.export(best, origin, store.address(trainings.folder(name)))
        objectives.save(best, store.address(file))  # last: from then on it counts as trained
        record.note({"model": objectives.fingerprint(best), "exported": f"after epoch {export.epoch}: {export.why}"})
    Kept(config, name).clear()


def trained_on(config: Config, reader: ImageReader, name: str, record: tracking.Run) -> objectives.Trained:
    """The model that the images make of the recipe; looked at while it is trained where transfer.uri names target images."""
    recipe, watch, validate = config.pretrain, None, None
    loop = partial(pretrain.fit, reader, len(reader), recipe)
    if config.transfer.uri:
        run, steps = f"{training.runs(config)}/pretrain-{name}" if config.where == "ray" else "", ceil(len(reader) / recipe.batch)
        watch = partial(looks.watch, config, name, record, steps, run)
        validate = flow.Validate(looks.Score(config).of, partial(looks.due, config, steps)) if run else None
    work = partial(training.fit, loop, recipe.epochs, record, watch=watch)
    with training.left(config, f"pretrain-{name}", "pretrain.checkpoint"):
        trained = training.carry_out(config, recipe, work, f"pretrain-{name}", validate)
    if watch and validate:
        looks.end(watch())
    return trained


def chosen_of(config: Config, name: str, trained: objectives.Trained) -> tuple[objectives.Trained, Export]:
    """The model that others get, and which it is: by its score the best that was trained, without one the last."""
    if not config.transfer.uri:
        return trained, Export(config.pretrain.epochs, "the last; nobody looked at those before", config.pretrain.epochs)
    models = Kept(config, name)
    export = models.export()
    model = objectives.load(models.address(export.epoch), config.pretrain) if export.epoch in models.epochs else trained
    log.info("what is exported is the model after epoch %d: %s", export.epoch, export.why)
    return model, export
