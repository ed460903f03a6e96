"""The knobs of what stands around the flow; see config."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.models import Natural, Numbered, Positive, Section, Seed, Word

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

    uri: Address = "store"  # folder or object store address. Default: our choice, because the folder then lies beside where one stands


class UpkeepConfig(Section):
    """What `maintain` does to a store that is in use."""

    # [h] that an old version, and a file of a dead run, stays. Default: our choice, because that is longer than a reader takes
    keep_hours: Annotated[float, Field(gt=0)] = 24.0
    # [bytes] smaller files are merged up to that. Default: our choice, because one is in memory at a time, and a deletion rewrites one
    file_bytes: Positive = 2**28
    # [bytes] merged while an ingest beside it waits to commit. Default: our choice, because that takes about two seconds on a disk
    round_bytes: Positive = 2**29
    # [rows] from which a table has scalar indices. Default: our choice, because at 100,000 `hardest` took half as long with them, though
    # the patches of a video did not (notebooks/LOG.md: benchmarks of store and loader)
    index_rows: Positive = 100_000
    # [rows] from which embeddings have an index. Default: our choice, because at 100,000 `nearest` took 383 ms without and 92 with it
    # (notebooks/LOG.md: benchmarks of store and loader)
    vector_rows: Positive = 100_000

    @model_validator(mode="after")
    def holds_a_file(self) -> Self:
        if self.round_bytes < self.file_bytes:
            raise ValueError(f"round_bytes={self.round_bytes} is less than one file of file_bytes={self.file_bytes}")
        return self


class WatchConfig(Section):
    """How `watch` takes in what arrives below videos.uri; no more than videos.batch at a time."""

    # [s] between two looks. Default: our choice, because of a bucket each costs a request for 1,000 objects
    look_s: Annotated[float, Field(gt=0)] = 10.0
    # [s] a file has arrived when it was the same so long. Default: our choice, because a copy over a network may stall
    settle_s: Annotated[float, Field(ge=0)] = 30.0
    batch_bytes: Positive = 2**32  # [bytes] taken in at once. Default: our choice, because a death costs so much, and others wait so long
    # [s] that what has arrived may wait for more. Default: our choice, because a batch is three versions, on Ray models anew
    batch_s: Annotated[float, Field(ge=0)] = 60.0
    # [tries] of a file that ends the process, hangs or fails while it is alone, before it is set aside. Default: our choice, because what
    # fails once may be chance
    tries: Positive = 3
    # [s] without a sign of life before it counts as hanging. Default: our choice, because hashing 100 GB takes that long
    patience_s: Annotated[float, Field(gt=0)] = 900.0
    # [s] at most before the first repetition, doubled for each further one. Default: our choice, because most of what is away is back at
    # once
    backoff_s: Annotated[float, Field(gt=0)] = 2.0
    # [s] at most, however often it was repeated. Default: our choice, because who mends something wants to see it go on
    backoff_most_s: Annotated[float, Field(gt=0)] = 300.0
    grace_s: Annotated[float, Field(gt=0)] = 25.0  # [s] from SIGTERM to the end. Default: our choice, because Kubernetes kills after 30
    # [s] between two rounds of `maintain`, by whomever. Default: our choice, because a day makes thousands of versions
    upkeep_s: Annotated[float, Field(gt=0)] = 3600.0
    # that are kept current after each batch, each method:budget or method:budget:unit; the rest is as selection.* says. Default: our
    # choice, because each costs work after every batch
    selections: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+:[0-9.e+-]+(:[a-z_]+)?$")], ...] = ()
    # [selections] of each, the newest; older ones that nothing was trained on are removed. Default: our choice, because every batch makes
    # one
    keep_selections: Annotated[int, Field(ge=2)] = 3
    # [share of days] of a source like all before that drift says are not. Default: our choice, because ten sources then give one in ten
    # days
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01
    # [share] estimated, over what the newest model was trained on, from which to train again pays. Default: our choice, because the
    # estimate is rough
    gain: Annotated[float, Field(ge=0)] = 0.1
    retrain: bool = False  # whether it is trained then, by the first of `selections`. Default: our choice, because it takes hours of a GPU
    # end when nothing is left to take in, for a job that is started by the clock. Default: our choice, because `ingest` does that too
    once: bool = False
    port: Port = 0  # of /healthz and /metrics; 0: none. Default: our choice, because two watchers would want the same
    # that it listens at; 0.0.0.0 in a container, whose probes come from outside. Default: our choice, because it is this machine alone
    host: Word = "127.0.0.1"
    # json: an object a line. Default: our choice, because people read what is no terminal, too
    log: Literal["text", "json"] = "text"
    # of the waits, drawn by lot so that many watchers do not ask at the same moment. Default: our choice, because any number will do
    seed: Seed = 0

    @model_validator(mode="after")
    def waits_longer(self) -> Self:
        if self.backoff_most_s < self.backoff_s:
            raise ValueError(f"backoff_most_s={self.backoff_most_s:g} is less than backoff_s={self.backoff_s:g}")
        return self


class LookupConfig(Section):
    """What `nearest` and `hardest` give back."""

    k: Positive = 10  # [rows] given back. Default: our choice, because they fit a terminal
    where: str = ""  # a Lance filter, as in "difficulty > 0.5 AND time_ms < 60000". Default: our choice, because without one all are asked


class OutputConfig(Section):
    """How rows are given to a person or to another program."""

    # json: an object a line. Default: our choice, because most questions are asked by a person
    format: Literal["table", "json", "parquet"] = "table"
    path: str = ""  # "": the terminal. Default: our choice, because most questions are asked by a person

    @model_validator(mode="after")
    def fits_a_terminal(self) -> Self:
        if self.format == "parquet" and not self.path:
            raise ValueError("format=parquet needs output.path: a terminal cannot show it")
        return self


class ExportConfig(Section):
    """How the training images of a selection are given to other trainers: as files in a folder of the selection's name."""

    # of the folder that holds this folder, local or any fsspec address. Default: our choice, because it then lies beside where one stands
    path: Address = "export"
    selection: str = ""  # its id; "": the newest that selection.* and synthesis.* made. Default: our choice, because it was just chosen
    # pictures, or tar files of them. Default: our choice, because every trainer reads pictures
    format: Literal["folder", "webdataset"] = "folder"
    shard: Positive = 1000  # [images] of one tar file. Default: our choice, because it is in memory while it is made


class PlanConfig(Section):
    """What `plan` measures on, and the cluster and the video that it plans for."""

    # [videos] measured, spread evenly over all. Default: our choice, because one may be unlike the others, and each takes time
    videos: Positive = 4
    # [frames] measured, shared out over these. Default: our choice, because they wait in memory together: 0.4 GB at 1024 px
    frames: Positive = 128
    # [processors] of the cluster; 0: this machine, with its GPUs. Default: our choice, because this machine is known
    cpus: Annotated[float, Field(ge=0)] = 0.0
    gpus: Annotated[float, Field(ge=0)] = 0.0  # [GPUs] the same. Default: our choice, because this machine is known
    hours: Annotated[float, Field(ge=0)] = 100.0  # [h] of video. Default: our choice, because it is a round figure: put your own
    # [money/h] of a processor, in any currency. Default: our choice, because it is a round figure: put your own
    cpu_hour: Annotated[float, Field(ge=0)] = 0.05
    gpu_hour: Annotated[float, Field(ge=0)] = 2.5  # [money/h] of a GPU. Default: our choice, because it is a round figure: put your own


class BenchmarkConfig(Section):
    """How a matrix of methods, budgets, data sets, seeds and architectures is run; what is in it stands in its YAML file."""

    # what $data stands for in that file: the folder of the test sets. Default: our choice, because it then lies beside where one stands
    data: Address = "data"
    # what $stores stands for: the folder of the pools. Default: our choice, because it then lies beside where one stands
    stores: Address = "stores"
    # [models] trained, or measured, at once; 0: as many as there are GPUs, or processors. Default: our choice, because it uses the machine
    at_once: Natural = 0
    estimate: bool = False  # say what it would cost and end. Default: our choice, because the matrix is what the job is for
    # [images/s] of one device in pre-training, for the estimate before anything is done; 0: as measured before with these settings, else
    # by a short trial. Default: our choice, because a measurement knows better
    images_per_s: Annotated[float, Field(ge=0)] = 0.0
    # [images/s] the same by architecture, as in mae:900,simclr:1500. Default: our choice, because a measurement knows better
    speeds: tuple[Numbered, ...] = ()
    # [steps/s] of one device in fine-tuning, for the same. Default: our choice, because a measurement knows better
    iterations_per_s: Annotated[float, Field(ge=0)] = 0.0
    # [steps/s] the same by architecture, as in mae:9,simclr:20. Default: our choice, because a measurement knows better
    paces: tuple[Numbered, ...] = ()
    frames: Natural = 0  # [frames] of a pool, for the estimate; 0: what its store holds. Default: our choice, because the store knows them


class StudyConfig(Section):
    """What `transfer-study` looks at."""

    # folder of the two CSVs in results/ of aielte-research/MedSegPretrainImageNet. Default: our choice, because it then lies beside where
    # one stands
    uri: Address = "transferability"
    # SVG of regret and TIS over the epochs paid, rule by rule; "": none is drawn. Default: our choice, because the tables say the same
    picture: str = ""

    @model_validator(mode="after")
    def draws_svg(self) -> Self:
        if self.picture and not self.picture.lower().endswith(".svg"):
            raise ValueError(f"picture={self.picture!r} would be an SVG: expected a name that ends with .svg")
        return self


class TheoryConfig(Section):
    """How the pruned perceptron is simulated beside its theory."""

    # [dimensions] N; the theory is that of very many. Default: our choice, because finite size shows less than at the 30 of the notebook
    # beside OptiDEL (notebooks/LOG.md: whether the theory misses by finite size)
    dimensions: Annotated[int, Field(ge=3)] = 100
    # [draws] of every pool, for the intervals. Default: our choice, because each is dearer than one of the notebook's 50 in 30 dimensions
    draws: Annotated[int, Field(ge=2)] = 20


class BrowseConfig(Section):
    """Where the job `browse` shows its page."""

    # other addresses are reached from outside, and ask for a token. Default: our choice, because pictures of patients stay on this machine
    host: Word = "127.0.0.1"
    port: Port = 8420  # 0: any that is free. Default: our choice, because an address that stays can be bookmarked
    # tags and selections may be made; on the command line also --write. Default: our choice, because who looks should change nothing
    write: bool = False


class TrackingConfig(Section):
    """Where runs are told to."""

    uri: str = ""  # of MLflow; "": a sqlite file beside the store. Default: our choice, because it needs no server
    experiment: Word = "endocurate"  # its name in MLflow. Default: our choice, because it is the program's


class ReportConfig(Section):
    """What the report shows, and where it is written."""

    path: str = ""  # of the HTML file; "": report.html in the store's folder. Default: our choice, because it is then found with the store
    # [pictures] hardest, easiest and synthetic ones each. Default: our choice, because they fit a page that can be sent
    pictures: Positive = 24


class TransferConfig(Section):
    """When pre-training has been enough: how the encoder is scored on target images, and what ends the run.

    The paper's code has no rule of when to stop.
    Defaults: the code of arXiv 2410.18677 (aielte-research/MedSegPretrainImageNet)
    """

    # folder of target images, or with images/ and masks/, which scores that take labels need; "": nobody looks. Default: our choice,
    # because only you have target images
    uri: str = ""
    # [images] of them, drawn by seed; even, as with "published" one of an odd number is its own negative. Default: our choice, because the
    # paper does not say how many
    images: Annotated[int, Field(ge=2)] = 128
    # of transfer.SCORES all that can be had of an encoder, target images and their masks. Or all at once, ours: ranks, of those without
    # labels; vote, of those with labels too where there are masks. See monitor
    score: Watched = "robustness"
    distance: Distance = "cosine"  # of robustness
    margin: Annotated[float, Field(ge=0)] = 0.5  # [of `distance`] by which a negative is to be farther than its positive
    negatives: Negatives = "published"  # (1 - i) mod n for image i; others: every other image
    augmentation: Literal["published", "per_image"] = "published"  # one draw of colours for all queries and one for all keys, or one each
    # of a ViT, which are its levels; those of others are their stages. Default: our choice, because the paper has no plain ViT and its Swin
    # four stages
    blocks: Literal["quarters", "every"] = "quarters"
    level: int = -2  # [levels] counted as Python does: the second deepest
    levels: tuple[int, ...] = ()  # [levels] all of these instead, heard together as several scores are; none: `level` alone
    pooled: bool = True  # the mean over places; scores that take labels see single places in any case
    seed: Seed = 0  # of the images drawn and their augmentation. Default: our choice, because any number will do
    # [epochs] from one look to the next, the untrained encoder's being the first; the last epoch has one always. Default: our choice,
    # because a short training has few epochs to look after
    every: Positive = 1
    # [epochs] after these instead, and after the last; none: as `every` says. Default: our choice, because the best epochs are not known
    # before
    looks: tuple[Natural, ...] = ()
    # [epochs] before which looks do not count towards the end; 1: the untrained encoder's does not. Default: our choice, because that one
    # is there to be held against
    warmup: Natural = 1
    # [looks] without a better one that end the run. Default: our choice, because of 1, 2 and 3 the vote's regret is least with it on the
    # released scores (README, Results)
    patience: Positive = 3
    # [of the score] by more than this a look must surpass the last that counted as better; of one score at one level. Default: our choice,
    # because scores have no common unit
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    # for every score, so that a run repeated ends at the same epoch; else training goes on meanwhile. Default: our choice, because waiting
    # holds the GPU
    wait: bool = False
    # the model of every look, which the job transfer compares. Default: our choice, because each is as large as the encoder
    keep: bool = False

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
