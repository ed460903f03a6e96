"""Pre-train on one selection of the store by its id, here or on a cluster: what `watch` does where training again is worth it."""

import logging
from typing import Any

from engine.config import Config
from engine.flow import submission
from engine.settings import WatchConfig
from engine.store import PatchStore
from jobs import needs, pretrain, submit

log = logging.getLogger("jobs.retrain")


def begin(config: Config, selection_id: str, tries: int) -> None:
    """On the cluster whose job server RAY_ADDRESS names, or else in this process; back when it is over.

    There it has the id of what is asked: whoever asks again, after a death too, follows the one that runs. LookupError where the store
    has no such selection; RuntimeError where it failed there: one that did so `tries` times is not begun again.
    """
    if not submission.is_named():
        pretrain.run(on(config, selection_id))
        return
    asked = request(config, selection_id)
    client = submission.server()
    needs.refuse_small("pretrain", config, submission.room())
    code = submit.submitted(client, asked, again=False, tell=pass_on, most=tries)
    store = PatchStore(config.store.uri)
    if code:
        raise RuntimeError(f"the job {asked.id} of the cluster ended with code {code}; its log there tells why")
    if not store.holds(pretrain.model(config, selection_id)):
        raise RuntimeError(f"the job {asked.id} of the cluster succeeded without a model in {store.uri}: it sees another store")


def on(config: Config, selection_id: str) -> Config:
    """The same configuration with a selection named."""
    return config.model_copy(update={"selection": config.selection.model_copy(update={"named": selection_id})})


def request(config: Config, selection_id: str) -> submission.Request:
    """What a job server is asked for: all knobs but those of watching, on which the model does not depend."""
    store = config.store.model_copy(update={"uri": PatchStore(config.store.uri).uri})  # a path as it is from any folder
    return submit.whole("pretrain", [], on(config, selection_id).model_copy(update={"store": store, "watch": WatchConfig()}))


def pass_on(text: Any) -> None:
    """Log what a part of the process says, line by line."""
    for line in str(text).splitlines():
        log.info("%s", line)
