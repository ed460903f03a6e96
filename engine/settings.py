"""The knobs of what stands around the flow; see config."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.models import Natural, Positive, Section, Seed, Word

Address = Word  # a folder or file, local or any fsspec address
Port = Annotated[int, Field(ge=0, le=65535)]  # that is listened at
Distance = Literal["cosine", "l2", "correlation"]
Negatives = Literal["published", "others"]
Scored = Literal[
    "robustness", "alignment", "lidar", "uniformity", "rankme", "effective_rank",
    "linear_probe", "knn", "logme", "h_score", "shrunken_h_score",
]  # fmt: skip
Watched = Literal[Scored, "ranks", "vote"]


class StoreConfig(Section):
    """Where the store is."""

    uri: Address = "store"  # folder or object store address


class UpkeepConfig(Section):
    """What `maintain` does to a store that is in use."""

    keep_hours: Annotated[float, Field(gt=0)] = 24.0  # an old version, and a file of a dead run, stays: longer than a reader takes
    file_bytes: Positive = 2**28  # smaller files are merged up to that: one is in memory at a time, and a deletion rewrites one
    round_bytes: Positive = 2**29  # merged while an ingest beside it waits to commit: about two seconds on a disk
    index_rows: Positive = 100_000  # from here on a filter by index is faster than reading the column
    vector_rows: Positive = 100_000  # from here on comparing with every vector takes more than 0.1 s

    @model_validator(mode="after")
    def holds_a_file(self) -> Self:
        if self.round_bytes < self.file_bytes:
            raise ValueError(f"round_bytes={self.round_bytes} is less than one file of file_bytes={self.file_bytes}")
        return self


class WatchConfig(Section):
    """How `watch` takes in what arrives below videos.uri; no more than videos.batch at a time. Our choices."""

    look_s: Annotated[float, Field(gt=0)] = 10.0  # between two looks; of a bucket each costs a request for 1,000 objects
    settle_s: Annotated[float, Field(ge=0)] = 30.0  # a file has arrived when it was the same so long: a copy over a network may stall
    batch_bytes: Positive = 2**32  # taken in at once: what a death costs, and how long others wait
    batch_s: Annotated[float, Field(ge=0)] = 60.0  # that what has arrived may wait for more: a batch is three versions, on Ray models anew
    tries: Positive = 3  # of a file that ends the process, hangs or fails while it is alone, before it is set aside
    patience_s: Annotated[float, Field(gt=0)] = 900.0  # without a sign of life before it counts as hanging; hashing 100 GB takes that long
    backoff_s: Annotated[float, Field(gt=0)] = 2.0  # at most before the first repetition, doubled for each further one
    backoff_most_s: Annotated[float, Field(gt=0)] = 300.0  # however often it was repeated
    grace_s: Annotated[float, Field(gt=0)] = 25.0  # from SIGTERM to the end; Kubernetes kills after 30
    upkeep_s: Annotated[float, Field(gt=0)] = 3600.0  # between two rounds of `maintain`, by whomever; a day makes thousands of versions
    # What follows a batch. Selections that are kept current, each method:budget or method:budget:unit; the rest is as selection.* says.
    selections: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+:[0-9.e+-]+(:[a-z_]+)?$")], ...] = ()
    keep_selections: Annotated[int, Field(ge=2)] = 3  # of each, the newest; older ones that nothing was trained on are removed
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01  # share of days of a source like all before that drift says are not
    gain: Annotated[float, Field(ge=0)] = 0.1  # estimated, over what the newest model was trained on, from which to train again pays
    retrain: bool = False  # whether it is trained then, by the first of `selections`
    once: bool = False  # end when nothing is left to take in, for a job that is started by the clock
    port: Port = 0  # of /healthz and /metrics; 0: none, since two watchers would want the same
    host: Word = "127.0.0.1"  # that it listens at, this machine alone; 0.0.0.0 in a container, whose probes come from outside
    log: Literal["text", "json"] = "text"  # json: an object a line; by word, as of Ray and Prometheus: people read what is no terminal, too
    seed: Seed = 0  # of the waits, which are drawn by lot so that many watchers do not ask at the same moment

    @model_validator(mode="after")
    def waits_longer(self) -> Self:
        if self.backoff_most_s < self.backoff_s:
            raise ValueError(f"backoff_most_s={self.backoff_most_s:g} is less than backoff_s={self.backoff_s:g}")
        return self


class LookupConfig(Section):
    """What `nearest` and `hardest` give back."""

    k: Positive = 10  # rows
    where: str = ""  # a Lance filter, as in "difficulty > 0.5 AND time_ms < 60000"


class OutputConfig(Section):
    """How rows are given to a person or to another program."""

    format: Literal["table", "json", "parquet"] = "table"  # json: an object a line
    path: str = ""  # "": the terminal

    @model_validator(mode="after")
    def fits_a_terminal(self) -> Self:
        if self.format == "parquet" and not self.path:
            raise ValueError("format=parquet needs output.path: a terminal cannot show it")
        return self


class ExportConfig(Section):
    """How the training images of a selection are given to other trainers: as files in a folder of the selection's name."""

    path: Address = "export"  # of the folder that holds this folder, local or any fsspec address
    selection: str = ""  # its id; "": the newest that selection.* names
    format: Literal["folder", "webdataset"] = "folder"  # pictures, or tar files of them
    shard: Positive = 1000  # images of one tar file, which is in memory while it is made


class PlanConfig(Section):
    """What `plan` measures on, and the cluster and the video that it plans for."""

    videos: Positive = 4  # measured, spread evenly over all
    frames: Positive = 128  # measured, shared out over these; they wait in memory together: 0.4 GB at 1024 px
    cpus: Annotated[float, Field(ge=0)] = 0.0  # of the cluster; 0: this machine, with its GPUs
    gpus: Annotated[float, Field(ge=0)] = 0.0  # the same
    hours: Annotated[float, Field(ge=0)] = 100.0  # of video
    cpu_hour: Annotated[float, Field(ge=0)] = 0.05  # money per hour, a round figure; put your own, in any currency
    gpu_hour: Annotated[float, Field(ge=0)] = 2.5  # the same


class BenchmarkConfig(Section):
    """How a matrix of methods, budgets, data sets, seeds and architectures is run; what is in it stands in its YAML file."""

    data: Address = "data"  # what $data stands for in that file: the folder of the test sets
    stores: Address = "stores"  # the same of $stores: the folder of the pools
    at_once: Natural = 0  # models trained, or measured, at the same time; 0: as many as there are GPUs, or processors
    estimate: bool = False  # say what it would cost and end
    # For the estimate, where nothing of the matrix is done yet; 0: as measured before with these settings, else by a short trial.
    images_per_s: Annotated[float, Field(ge=0)] = 0.0  # of one device in pre-training
    speeds: tuple[Annotated[str, Field(pattern=r"^.+:\d+(\.\d+)?$")], ...] = ()  # the same by architecture, as in mae:900,simclr:1500
    iterations_per_s: Annotated[float, Field(ge=0)] = 0.0  # of one device in fine-tuning
    frames: Natural = 0  # of a pool; 0: what its store holds


class StudyConfig(Section):
    """What `transfer-study` looks at."""

    uri: Address = "transferability"  # folder of the two CSVs in results/ of aielte-research/MedSegPretrainImageNet
    picture: str = ""  # SVG of regret and TIS over the epochs paid, rule by rule; "": none is drawn


class TheoryConfig(Section):
    """How the pruned perceptron is simulated beside its theory; our choice, the notebook beside OptiDEL takes 30 and 50."""

    dimensions: Annotated[int, Field(ge=3)] = 100  # N; the theory is that of very many
    draws: Annotated[int, Field(ge=2)] = 20  # of every pool, for the intervals


class BrowseConfig(Section):
    """Where the job `browse` shows its page; our choices."""

    host: Word = "127.0.0.1"  # other addresses are reached from outside, and ask for a token
    port: Port = 8420  # 0: any that is free
    write: bool = False  # tags and selections may be made; on the command line also --write


class TrackingConfig(Section):
    """Where runs are told to."""

    uri: str = ""  # of MLflow; "": a sqlite file beside the store
    experiment: Word = "endocurate"  # its name in MLflow


class ReportConfig(Section):
    """What the report shows, and where it is written."""

    path: str = ""  # of the HTML file; "": report.html in the store's folder
    pictures: Positive = 24  # hardest, easiest and synthetic ones each


class TransferConfig(Section):
    """When pre-training has been enough: how the encoder is scored on target images, and what ends the run.

    Of the score the defaults are those of the code of arXiv 2410.18677, which has no stopping rule: all from `every` on is our choice.
    """

    uri: str = ""  # folder of target images, or with images/ and masks/, which scores that take labels need; "": nobody looks
    images: Annotated[int, Field(ge=2)] = 128  # of them, drawn by seed; even, as with "published" one of an odd number is its own negative
    # Of transfer.SCORES all that can be had of an encoder, target images and their masks. Or all at once, ours: ranks, of those without
    # labels; vote, of those with labels too where there are masks. See monitor.
    score: Watched = "robustness"
    distance: Distance = "cosine"  # of robustness, like the next two
    margin: Annotated[float, Field(ge=0)] = 0.5  # by which a negative is to be farther than its positive, in units of the distance
    negatives: Negatives = "published"  # (1 - i) mod n for image i; others: every other image
    augmentation: Literal["published", "per_image"] = "published"  # one draw of colours for all queries and one for all keys, or one each
    blocks: Literal["quarters", "every"] = "quarters"  # of a ViT, which are its levels; those of others are their stages
    level: int = -2  # counted as Python does: the second deepest
    levels: tuple[int, ...] = ()  # all of these instead, heard together as several scores are; none: `level` alone
    pooled: bool = True  # the mean over places; scores that take labels see single places in any case
    seed: Seed = 0  # of the images drawn and their augmentation
    every: Positive = 1  # epochs from one look to the next, the untrained encoder's being the first; the last epoch has one always
    looks: tuple[Natural, ...] = ()  # after these epochs instead, and after the last; none: as `every` says
    warmup: Natural = 1  # epochs before which looks do not count towards the end; 1: that of the untrained encoder
    patience: Positive = 3  # looks without a better one that end the run
    # By more than this a look must surpass the last that counted as better; in the score's unit, so of one score at one level.
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    wait: bool = False  # for every score, so that a run repeated ends at the same epoch; else training goes on meanwhile
    keep: bool = False  # the model of every look, which the job transfer compares

    @model_validator(mode="after")
    def looks_where_something_counts(self) -> Self:
        if self.looks != tuple(sorted(set(self.looks))):
            raise ValueError(f"looks={self.looks} must rise, each epoch once")
        if self.looks and self.looks[-1] < self.warmup:
            raise ValueError(f"warmup={self.warmup} leaves nothing of looks={self.looks}")
        return self

    @model_validator(mode="after")
    def hears_each_level_once_and_in_one_unit(self) -> Self:
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels={self.levels} names one twice")
        if self.min_delta and (self.score in ("ranks", "vote") or len(self.levels) > 1):
            raise ValueError(
                f"min_delta={self.min_delta} is in one score's unit, where score={self.score} levels={self.levels} are several"
            )
        return self

    def due(self, epoch: int, last: int | None = None) -> bool:
        """Whether there is a look after so many epochs of a training that has at most `last`; None: it has no end.

        After the last there always is, which we add to `looks` rather than refuse a list without it: that model is what a training ends in
        that nobody looks at, to be held against all others, and one list then serves trainings of any length.
        """
        return epoch == last or (epoch in self.looks if self.looks else epoch % self.every == 0)

    @property
    def heard_levels(self) -> tuple[int, ...]:
        """The levels of the encoder that are scored, negative ones counted from the last."""
        return self.levels or (self.level,)
