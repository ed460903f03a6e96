"""What the scorer makes of a patch: what it is shown of it, and what it rebuilds from that.

A patch has the mark of its scorer, a hash of its weights and settings (`difficulty.scorer_id`), which need not be those of this command. So
the files of scorers are tried with every setting that may have been until one gives that mark. The mask is the first of those that the
score was measured with.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from pydantic import ValidationError

from engine import difficulty, mae, pictures, simclr, weights
from engine.browser import sheets
from engine.config import DifficultyConfig
from engine.explain import Runs, scorers
from engine.files import locate, unreadable
from engine.inference import inference
from engine.listing import modified
from engine.models import MAEConfig
from engine.objectives import pictured
from engine.precision import Precision
from engine.store import PatchStore
from engine.store.trainings import listed

QUALITY = 92  # of the JPEG
DRAWS = 64  # masks a patch that are tried, up to which
SCORER, MODEL = "difficulty.scorer", "difficulty.mae."  # a knob, and how those of the model begin
SCORING = ("ingest", "watch", "rescore")  # jobs whose runs tell with what patches were scored


class File(NamedTuple):
    """A file of weights as it lies there now: one that is written anew is another one.

    Not one in a bucket: what was read of it once stays the same until the process ends (`weights.fetched`).
    """

    place: str
    size: int
    modified: str


class Scorers:
    """The masked autoencoders that patches were scored with: those in the store and that of `config`; `runs` tells of settings of then."""

    def __init__(self, store: PatchStore, config: DifficultyConfig, runs: Callable[[], Runs]) -> None:
        self.store, self.config, self.runs = store, config, runs
        self.prints: dict[tuple[File, MAEConfig], dict[str, MAEConfig]] = {}  # what `prints_of` says of each file
        self.contrasts: dict[File, str] = {}  # of each file that was asked whether it is a SimCLR the fingerprint, "" of what is none
        self.last: tuple[File, MAEConfig, mae.MAE] | None = None  # the model that was asked for last
        self.lock = threading.Lock()

    def sheet(self, patch_id: str) -> bytes:
        """The patch as the scorer sees it, what is left of it unmasked, and what is rebuilt, side by side as JPEG.

        LookupError, in one sentence, where the patch or its scorer is not there.
        """
        row = sheets.one(self.store, patch_id, ["scorer", "pixels"])
        with self.lock:  # a large model is read once, whoever asks
            model, seed = self.found(row["scorer"])
        config = model.config
        images = mae.normalise(pictures.square(pictures.decode(row["pixels"]), config.side)[None])
        noise = torch.from_numpy(difficulty.masks_of(patch_id, seed, 1, config.tokens))
        with inference("float32"):
            return pictures.encode(pictured(model, config, images, noise)[0], QUALITY)

    def found(self, mark: str) -> tuple[mae.MAE, int]:
        """The model of this mark and the seed of its masks; LookupError, in one sentence, says why there is none."""
        files = self.files()
        self.prints = {key: told for key, told in self.prints.items() if key[0] in files}
        self.contrasts = {file: told for file, told in self.contrasts.items() if file in files}
        for then in self.settings():
            for file in files:
                for told, shape in self.prints_in(file, then.mae).items():
                    if mark in marks(told, then):
                        return self.model(file, shape), then.seed
        raise LookupError(self.why(mark, files))

    def files(self) -> list[File]:
        """The files that may hold a scorer, as they are now: a training or a person may have put one there meanwhile."""
        places = [self.store.address(path) for path in listed(self.store, "scorers") if path.endswith(".safetensors")]
        found = []
        for place in [*places, *filter(None, [self.config.checkpoint])]:
            try:
                fs, path = locate(place)
                info = fs.info(path if "://" in place else str(weights.weights_file(Path(path))))  # of a folder the file inside
            except unreadable():
                continue
            found.append(File(place, info.get("size") or 0, modified(info)))
        return found

    def settings(self) -> Iterator[DifficultyConfig]:
        """With what patches may have been scored: the knobs of this command, then those of each run that did, as far as MLflow knows it."""
        tried = [self.config]
        yield self.config
        for params in self.params():
            then = of_run(self.config, params)
            if then and then not in tried:
                tried.append(then)
                yield then

    def params(self) -> Iterator[Any]:
        """The knobs of each run that scored patches, as MLflow has them: words by name."""
        return (run["params"] for job in SCORING for run in self.runs().get(job, ()))

    def prints_in(self, file: File, shape: MAEConfig) -> dict[str, MAEConfig]:
        """What `prints_of` says of a file, none of one that cannot be read; each is read once."""
        if (file, shape) not in self.prints:
            try:
                self.prints[file, shape] = prints_of(file.place, shape)
            except strange():
                self.prints[file, shape] = {}
        return self.prints[file, shape]

    def is_contrast(self, file: File, mark: str) -> bool:
        """Whether a file holds a SimCLR that has this mark with any of the settings."""
        if file not in self.contrasts:
            try:
                self.contrasts[file] = simclr.fingerprint_of(file.place)
            except strange():
                self.contrasts[file] = ""
        told = self.contrasts[file]
        return bool(told) and any(mark in marks(told, then, difficulty.VIEWED) for then in self.settings())

    def model(self, file: File, shape: MAEConfig) -> mae.MAE:
        """The model in a file; the last one stays in memory."""
        if self.last is None or self.last[:2] != (file, shape):
            self.last = file, shape, mae.load(file.place, shape).eval()
        return self.last[2]

    def why(self, mark: str, files: list[File]) -> str:
        """Why nothing is shown of what a scorer makes of a patch."""
        names = [name.removeprefix("early-") for name in scorers.named(self.store, self.runs(), mark)]
        kinds = {params[SCORER] for params in self.params() if SCORER in params} or {self.config.scorer}
        told = any(name.startswith("simclr-") for name in names) or any(self.is_contrast(file, mark) for file in files)
        if told or (kinds == {"simclr"} and not any(name.startswith("mae-") for name in names)):
            by = "" if told else f", by {SCORER} of what scored here"
            return f"its scorer {mark} is a SimCLR{by}, which tells pictures from each other and rebuilds none"
        there = f"none of the {len(files)} files of scorers here is it" if files else "the store has no file of a scorer"
        other = f"; or it is a SimCLR, which rebuilds none: {SCORER} of some runs says so" if "simclr" in kinds else ""
        return (
            f"the weights of its scorer {mark} were not found: {there}; difficulty.checkpoint names one that lies elsewhere, and "
            f"difficulty.seed and difficulty.mae.* are to be those of then where MLflow does not know them any more{other}"
        )


def strange() -> tuple[type[BaseException], ...]:
    """What reading a file raises that may hold anything."""
    return ValueError, *unreadable()


def prints_of(place: str, shape: MAEConfig) -> dict[str, MAEConfig]:
    """By its fingerprint what the masked autoencoder in a file is: as the file tells, else of `shape`; with the mask ratio of either.

    Of a file that holds something else it is a number that no scorer has. ValueError and OSError for what is no file of weights.
    """
    state, told = mae.read(place, shape)
    found = MAEConfig.model_validate({knob: told[knob] for knob in MAEConfig.model_fields})
    both = (found.model_copy(update={"mask_ratio": ratio}) for ratio in {found.mask_ratio, shape.mask_ratio})
    return {weights.fingerprint(state, weights.knobs_of(one)): one for one in both}


def marks(told: str, then: DifficultyConfig, rule: str = "") -> Iterator[str]:
    """The marks of weights of this fingerprint with the seed of `then`, any precision, and as many masks as there may be."""
    for draws in {then.draws, *range(1, DRAWS + 1)}:
        for precision in get_args(get_args(Precision)[0]):
            yield difficulty.marked(told, then.model_copy(update={"draws": draws, "precision": precision}), rule)


def of_run(config: DifficultyConfig, params: Any) -> DifficultyConfig | None:
    """`config` with the knobs of a run that a mark hangs on and that are not tried one by one; None where they are none of now."""
    shape = {knob: params[f"{MODEL}{knob}"] for knob in MAEConfig.model_fields if f"{MODEL}{knob}" in params}
    told = {"seed": params.get("difficulty.seed", config.seed), "draws": params.get("difficulty.draws", config.draws)}
    try:
        return DifficultyConfig.model_validate(config.model_dump() | told | {"mae": config.mae.model_dump() | shape})
    except ValidationError:
        return None
