"""What trainings leave in a store beside its tables, and where: models under models/, scorers, checkpoints of trainings under way in runs/.

A pre-training is named by its key, the id of its selection and behind a dash a hash of its recipe. Its model is models/KEY.safetensors;
the folder models/KEY has the encoder for others and, after how many epochs, the models of its looks that are kept. A probe is named by a
hash of the settings of its training.
"""

import re
from collections.abc import Iterable

from engine.store.tables import Tables, filesystem

OF_A_SCORER = re.compile(r"(?:scorers/|runs/probe-)(?P<key>[^/.]+?)(?:-early|-here)?(?:\.safetensors|\.arrow|/step-\d+(?:/[^/]+)?)?")
OF_A_KEY = re.compile(r"(?:models/|runs/pretrain-)(?P<key>[^/.][^/]*?)(?:-here|\.safetensors)?(?:/.*)?")
EPOCHS = re.compile(r"epoch-(\d{5,})\.safetensors")


def model(key: str) -> str:
    """Where the model of a pre-training lies in the store."""
    return f"models/{key}.safetensors"


def folder(key: str) -> str:
    """Where what else there is of it lies."""
    return f"models/{key}"


def after(key: str, epoch: int) -> str:
    """Where its model of after so many epochs lies, while it is kept."""
    return f"{folder(key)}/epoch-{epoch:05}.safetensors"


def readings(key: str, epoch: int) -> str:
    """Where what target images say of that model lies."""
    return f"{folder(key)}/readings-{epoch:05}.json"


def key_of(path: str) -> str:
    """The pre-training that something in the store is of; "" for what is of none."""
    found = OF_A_KEY.fullmatch(path)
    return found["key"] if found else ""


def selection_of(key: str) -> str:
    """The selection of a pre-training."""
    return key.rpartition("-")[0]


def epoch_of(path: str) -> int | None:
    """After how many epochs a model was kept that lies where `after` says; None for what lies elsewhere."""
    found = EPOCHS.fullmatch(path.rpartition("/")[2])
    return int(found[1]) if found else None


def scorer(key: str, early: bool = False) -> str:
    """Where the model of a probe lies in the store, or that of early in its training."""
    return f"scorers/{key}{'-early' * early}.safetensors"


def scorer_of(path: str) -> str:
    """The probe that something in the store is of; "" for what is of none."""
    found = OF_A_SCORER.fullmatch(path)
    return found["key"] if found else ""


def keys(tables: Tables) -> list[str]:
    """The pre-trainings of which there is a model or a checkpoint."""
    return sorted({key for path in listed(tables, "models", "runs") if (key := key_of(path)) and selection_of(key)})


def epochs(tables: Tables, key: str) -> list[int]:
    """After how many epochs models of a pre-training are kept, rising."""
    found = map(epoch_of, listed(tables, folder(key)))
    return sorted(epoch for epoch in found if epoch is not None)


def trained_on(tables: Tables, selection_ids: Iterable[str]) -> list[str]:
    """What there is of pre-trainings on these selections: models, their folders, checkpoints."""
    begins = tuple(start.format(name) for name in selection_ids for start in ("models/{}-", "runs/pretrain-{}-"))
    return [path for path in listed(tables, "models", "runs") if path.startswith(begins)]


def model_of(run: str) -> str:
    """The model that a training run ends in; "" for a folder that is none of ours."""
    job, _, key = run.removeprefix("runs/").removesuffix("-here").partition("-")
    lies = {"pretrain": model, "probe": scorer}.get(job)
    return lies(key) if lies and key else ""


def listed(tables: Tables, *folders: str) -> list[str]:
    """What lies directly in these folders of the store, by its name in the store."""
    fs = filesystem(tables.uri)
    fs.invalidate_cache()
    root = fs._strip_protocol(tables.uri).rstrip("/")
    found = [path for folder in folders for path in fs.glob(f"{root}/{folder}/*" if folder else f"{root}/*")]
    return sorted(str(path).removeprefix(f"{root}/") for path in found)
