"""Jobs on the clips of `crashes.trials` that are submitted to a cluster of `raylets`: their words, and how far they are."""

from contextlib import suppress

from engine.knobs import flat
from engine.store import PatchStore
from jobs.__main__ import parse
from tests.crashes.ingest import config_of

BATCH_IN_HAND = r"MapWorker\(MapBatches\((ProposePatches|ScoreDifficulty)\)\)\.submit"  # see `raylets.Node.works_on`


def asked(job, clips, store, videos="videos"):
    """The knobs of a job on Ray as the words of a command: what the folder `clips` has in `videos`, into `store`."""
    config = config_of(f"{clips}/{videos}", str(store), f"{clips}/scorer.safetensors", "ray")
    usual = flat(parse([job, "tiny"])[1])
    return [f"{name}={value}" for name, value in flat(config).items() if value != usual[name]]


def committed(store):
    """How many videos the ledger knows by now."""
    with suppress(LookupError):
        return PatchStore(str(store)).ledger().num_rows
    return 0


def at_work(cluster, title=BATCH_IN_HAND):
    """A node of which a worker is in the middle of something, or None."""
    return next((one for one in cluster.workers if one.works_on(title)), None)
