"""Selections that are kept current: each is solved again when the patches changed, from what the choice before found out."""

import logging

from engine.config import Config
from engine.store import PatchStore, rescoring
from jobs import choose, named, outdated

log = logging.getLogger("jobs.selections")


def run(config: Config) -> None:
    """Choose anew, by the job choose, what watch.selections says and is not of the newest complete version.

    ValueError, after all others are made, for those that cannot be.
    """
    store = PatchStore(config.store.uri)
    version = store.complete_version()
    if not config.watch.selections or not store.open("patches", version).count_rows():
        return
    if rescoring.mixed(store, version):
        log.info("selections stay as they are while the patches have scores by several scorers")
        return
    refused = []
    for one in each(config):
        try:
            if made_from(one) < version:
                choose.run(one, name_of(one))
        except ValueError as error:
            refused.append(str(error))
    outdated.prune(config, store)
    if refused:
        raise ValueError("; ".join(refused))


def each(config: Config) -> list[Config]:
    """The configuration of every one."""
    return [config.model_copy(update={"selection": one}) for one in config.maintained()]


def name_of(config: Config) -> str:
    """By what its choices are told from those of other settings."""
    return f"{config.selection.method}-{config.selection.fingerprint()}-{config.synthesis.fingerprint()}"


def made_from(config: Config) -> int:
    """The version of the patch table that the newest selection of these settings is from; 0 where there is none."""
    one = named.newest(config)
    return int(one["tags"]["patches_version"]) if one else 0
