"""Every knob of the flow in its order: frozen, validated, with unit and source of the default.

Those of the models and their training stand in models.py, those of what is around the flow in settings.py.

A run is one `Config`; recipes in `jobs/recipes.py` return whole ones, `knobs.amend` changes single knobs. Nothing heavy is imported
here, so a wrong knob is refused before any hardware is touched.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from engine.models import (
    EvaluateConfig,
    MAEConfig,
    Natural,
    Positive,
    Precision,
    Section,
    Seed,
    Share,
    ShareOrTheory,
    SimCLRConfig,
    TrainConfig,
    check_dpt,
)
from engine.settings import (
    Address,
    BenchmarkConfig,
    BrowseConfig,
    ExportConfig,
    LookupConfig,
    OutputConfig,
    PlanConfig,
    ReportConfig,
    StoreConfig,
    StudyConfig,
    TheoryConfig,
    TrackingConfig,
    TransferConfig,
    UpkeepConfig,
    WatchConfig,
)

Method = Literal[
    "random", "optidel", "optidel_s", "easy", "meddel", "semdedup", "ssl_prototypes", "density", "hierarchical", "d4", "kcenter",
    "el2n_like", "forgetting_like", "rded", "endocurate",
]  # fmt: skip


class VideosConfig(Section):
    """Where the video comes from."""

    uri: Address = "videos"  # folder or any fsspec address: file, s3, gs
    batch: Positive = 16  # videos per commit: how often the table gets a version; a crash costs these, and what was under way behind them


class FramesConfig(Section):
    """Which moments are looked at, and which of them are worth keeping. Thresholds: our choice, see notebooks/LOG.md."""

    sampling: Literal["seconds", "keyframes", "all"] = "seconds"  # one frame every_s, those the codec stored whole, or each one
    every_s: Annotated[float, Field(gt=0)] = 1.0  # EndoViT's rate; neighbours nearer than that differ little
    longest_side: Annotated[int, Field(ge=64)] = 1024  # px, the input side of SAM; larger frames are scaled down
    min_side: Annotated[int, Field(ge=16)] = 64  # px of the content area; smaller ones hold no region worth a patch
    min_sharpness: Annotated[float, Field(ge=0)] = 10.0  # variance of the Laplacian at 256 px
    min_brightness: Share = 0.08  # mean grey; below: dark
    max_glare: Share = 0.20  # of the content area that is burnt out
    min_tissue: Share = 0.45  # below: outside the body
    min_change: Share = 0.02  # to the last kept frame; below: a near-duplicate in time

    @model_validator(mode="after")
    def leaves_room(self) -> Self:
        if self.min_side > self.longest_side:
            raise ValueError(f"min_side={self.min_side} leaves nothing of frames scaled down to longest_side={self.longest_side}")
        return self


class PatchesConfig(Section):
    """Regions of a frame: who proposes them, which survive, how they are cut."""

    # sam: automatic masks; medsam-lite: LiteMedSAM on a grid of boxes, without weights to fetch; crops: random; regions: of even colour
    proposer: Literal["sam", "medsam-lite", "crops", "regions"] = "medsam-lite"
    sam_size: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"  # of proposer=sam; OptiDEL: vit_h
    checkpoint: str = ""  # of SAM: a path, or "official" to fetch it and check its sha256
    points_per_side: Positive = 32  # SAM's automatic masks: the original's default, like the next three
    min_predicted_iou: Share = 0.88  # of a mask with the object, as SAM guesses it
    min_stability: Share = 0.95  # IoU of a mask cut a little lower and a little higher
    max_overlap: Share = 0.7  # IoU of two boxes; the weaker one goes
    # MedSAM's prompts as shares of the frame's shorter side: 48, 80, 128 of 256 px.
    box_sides: tuple[Annotated[float, Field(ge=0.02, le=1)], ...] = (0.19, 0.31, 0.5)
    min_area: Share = 0.005  # share of the frame
    max_area: Annotated[float, Field(gt=0, le=1)] = 0.6  # share of the frame; our choice: above is the frame itself
    margin: Share = 0.1  # of the box side, on every side: context a rebuild needs
    per_frame: Positive = 12  # the most certain ones
    max_side: Annotated[int, Field(ge=16)] = 512  # px; larger patches are scaled down
    quality: Annotated[int, Field(ge=1, le=100)] = 95  # of the JPEG
    precision: Precision = "float32"  # of SAM and LiteMedSAM
    whole_frames: bool = False  # every kept frame is a row as well, for methods that choose among frames
    seed: Seed = 0  # of random crops

    @model_validator(mode="after")
    def leaves_room(self) -> Self:
        if self.min_area >= self.max_area:
            raise ValueError(f"min_area={self.min_area} leaves nothing below max_area={self.max_area}")
        if self.proposer == "sam" and not self.checkpoint:
            raise ValueError('proposer=sam needs patches.checkpoint: the path of a SAM checkpoint, or "official"')
        if not self.box_sides:
            raise ValueError("box_sides is empty; one share of the frame's shorter side at least")
        return self


class DifficultyConfig(Section):
    """How hard a patch is for a model: to rebuild (OptiDEL, Eq. 4), or to tell from others (SimCLR, Eq. 1)."""

    scorer: Literal["mae", "simclr"] = "mae"  # OptiDEL's two
    # norm_pix stays off: normalising every token cancels contrast and turns flat, noisy tokens into the hardest ones.
    mae: MAEConfig = MAEConfig()
    simclr: SimCLRConfig = SimCLRConfig()
    checkpoint: str = ""  # of the scorer; "": the store's own, trained by the job `probe`
    draws: Positive = 4  # masks, or pairs of views, per patch, averaged
    batch: Positive = 32  # patches per forward pass, without a GPU at most 16; filled up, so that a score does not depend on its neighbours
    precision: Precision = "float32"  # of the scorer's products; in another one it is another scorer
    seed: Seed = 0  # of masks and views


class ProbeConfig(Section):
    """The scorer that is trained when there is no checkpoint: a small sample is enough for a first one."""

    frames: Positive = 2000  # sampled from the videos, at random by seed
    crops: Positive = 4  # random crops per frame
    train: TrainConfig = TrainConfig(mae=MAEConfig(norm_pix=False), epochs=20, warmup_epochs=2, batch=64)


class DensityConfig(Section):
    """Density-Based Pruning (amro-kamal/effective_pruning: its defaults)."""

    tau: Annotated[float, Field(gt=0)] = 0.5  # temperature of the softmax over clusters
    balance: Share = 0.5  # of an even share that every cluster keeps at least


class D4Config(Section):
    """Knobs of the method d4."""

    dedup: Annotated[float, Field(gt=0, le=1)] = 0.75  # share of the patches that SemDeDup leaves


class HierarchicalConfig(Section):  # facebookresearch/ssl-data-curation: its small example
    """Knobs of the method hierarchical."""

    levels: Positive = 2  # the first has selection.clusters, each further one 3/10 of those below it
    sample: Annotated[float, Field(gt=0, le=1)] = 0.5  # of a mean cluster: so many nearest ones of each are clustered anew


class EndocurateConfig(Section):  # our own; the values were not tuned, the meaning of `alike` was changed once after a look at real images
    """Knobs of our own method, endocurate."""

    # Quantile of worth in its cluster of the patch that is taken first: the median. Or theory: where that of pruning begins on such a pool
    start: ShareOrTheory = 0.5
    balance: Share = 0.5  # clusters of n patches are taken from at a rate of n^balance: 0 all alike, 1 by size
    alike: Share = 0.5  # of the clean patches, those likest to others, which come after the rest; D4: 0.25, of texts


class ScoreConfig(Section):
    """Which other model the job `score` asks what it makes of the stored patches."""

    # early: the scorer early in its training; checkpoint: the one of difficulty.checkpoint; the others only make embeddings
    by: Annotated[str, Field(pattern=r"^(early|checkpoint|medsam-lite|sam|timm:[a-z0-9_.]+)$")] = "early"
    checkpoint: Address = "pretrained"  # of a model of timm: its own, which takes a network, a local file, or "random" as a control
    batch: Positive = 32  # patches per forward pass of an encoder; fixed, as that of the difficulty


class SelectionConfig(Section):
    """Which patches a training set is made of, and how much of them."""

    FREE: ClassVar[frozenset[str]] = frozenset({"named"})  # it names what was chosen and chooses nothing

    # The id of a selection that is there, as one made of a view in `browse`: the other knobs of the section are not looked at then.
    named: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    method: Method = "optidel"  # who is hard, who is like whom, or by lot: docs/choosing.md tells them apart
    budget: Annotated[float, Field(gt=0)] = 0.05  # up to 1 a share, above a whole number; the papers' headline
    unit: Literal["bytes", "patches", "images", "gpu_hours"] = "bytes"  # images: synthesised ones, a share is of the frames
    seed: Seed = 0  # of what is drawn, k-means included
    of: Literal["patches", "frames"] = "patches"  # what is chosen from: regions of frames, or whole ones
    embedding: str = ""  # which of the store's; "": the scorer's own
    clusters: Natural = 0  # of k-means; 0: the root of the number of patches (no paper fits so few)
    iterations: Positive = 20  # of k-means; SemDeDup: 100, of which the later ones change next to nothing
    images_per_s: Annotated[float, Field(ge=0)] = 0.0  # of one device in pre-training, for unit=gpu_hours; 0: as measured
    density: DensityConfig = DensityConfig()
    d4: D4Config = D4Config()
    hierarchical: HierarchicalConfig = HierarchicalConfig()
    endocurate: EndocurateConfig = EndocurateConfig()

    @model_validator(mode="after")
    def counts_whole_things(self) -> Self:
        if self.unit != "gpu_hours" and self.budget > 1 and self.budget % 1:
            raise ValueError(f"budget={self.budget} is neither a share, which is at most 1, nor a whole number of {self.unit}")
        return self


class SynthesisConfig(Section):
    """How chosen patches become training images. The defaults are OptiDEL's; of `fill` and `quality` the paper says nothing."""

    patches: int = 4  # per image: OptiDEL's M, a square of them
    # rank: consecutive ones, as in OptiDEL; spread: j, j+n, j+2n, ... of n images, as in RDED; random: by seed and id;
    # diverse: far apart in video and time.
    order: Literal["rank", "random", "diverse", "spread"] = "rank"
    fill: Literal["crop", "pad"] = "crop"  # a patch covers its place and is cut, or is whole with black around it
    quality: Annotated[int, Field(ge=1, le=100)] = 95  # of the JPEG
    seed: Seed = 0  # of order=random

    @model_validator(mode="after")
    def is_a_square(self) -> Self:
        if self.patches not in (1, 4, 9):
            raise ValueError(f"patches={self.patches} must be 1, 4 or 9: an image is a square of patches")
        return self


class Config(Section):
    """All knobs of the flow, a section for each part of it; what one section says against another is refused here."""

    where: Literal["here", "ray"] = "ray"  # in this process, or on the Ray cluster (a local one if there is none)
    videos: VideosConfig = VideosConfig()
    frames: FramesConfig = FramesConfig()
    patches: PatchesConfig = PatchesConfig()
    difficulty: DifficultyConfig = DifficultyConfig()
    probe: ProbeConfig = ProbeConfig()
    store: StoreConfig = StoreConfig()
    upkeep: UpkeepConfig = UpkeepConfig()
    watch: WatchConfig = WatchConfig()
    lookup: LookupConfig = LookupConfig()
    output: OutputConfig = OutputConfig()
    browse: BrowseConfig = BrowseConfig()
    export: ExportConfig = ExportConfig()
    plan: PlanConfig = PlanConfig()
    score: ScoreConfig = ScoreConfig()
    selection: SelectionConfig = SelectionConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    pretrain: TrainConfig = TrainConfig()
    transfer: TransferConfig = TransferConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    benchmark: BenchmarkConfig = BenchmarkConfig()
    study: StudyConfig = StudyConfig()
    theory: TheoryConfig = TheoryConfig()
    tracking: TrackingConfig = TrackingConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def keeps_selections_that_can_be_made(self) -> Self:
        for told, one in zip(self.watch.selections, self.maintained(), strict=True):
            if one.unit == "patches" and 1 < one.budget < self.synthesis.patches:
                raise ValueError(f"watch.selections={told} never holds an image of synthesis.patches={self.synthesis.patches}")
            if one.method == "optidel_s" and self.patches.proposer != "crops":
                raise ValueError(f"watch.selections={told} ranks random crops, and patches.proposer={self.patches.proposer} makes others")
        if self.watch.retrain and not self.watch.selections:
            raise ValueError("watch.retrain=True trains on the first of watch.selections, and there is none")
        return self

    def maintained(self) -> list[SelectionConfig]:
        """The selections that the job watch keeps current; ValueError for one that is none."""
        found = []
        for one in self.watch.selections:
            named = dict(zip(("method", "budget", "unit"), one.split(":"), strict=False))
            try:
                found.append(SelectionConfig.model_validate(self.selection.model_dump() | named | {"named": ""}))
            except ValidationError as error:
                told = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"watch.selections={one}: {told}; expected method:budget or method:budget:unit") from error
        return found

    @model_validator(mode="after")
    def probe_trains_the_scorer(self) -> Self:
        if self.difficulty.checkpoint:
            return self
        if self.probe.train.architecture != "mae" or self.probe.train.simclr != SimCLRConfig():
            raise ValueError(
                "probe.train.architecture and probe.train.simclr are as difficulty.scorer and difficulty.simclr say: set these"
            )
        if self.difficulty.scorer == "mae" and self.probe.train.mae != self.difficulty.mae:
            raise ValueError("probe.train.mae differs from difficulty.mae, so the probe would train another model than the scorer")
        return self

    @model_validator(mode="after")
    def looks_while_it_trains(self) -> Self:
        watch, last = self.transfer, self.pretrain.epochs
        end = None if watch.looks else last  # a list of which nothing is within is a mistake, though the last epoch is looked at
        seen = [epoch for epoch in range(watch.warmup, last + 1) if watch.due(epoch, end)]
        if watch.uri and not seen:
            raise ValueError(f"none of the looks of transfer.* is within pretrain.epochs={last} and past transfer.warmup={watch.warmup}")
        kept = self.pretrain.checkpoint_every
        without = [epoch for epoch in seen if epoch % kept and epoch != last]
        if watch.uri and without and self.where == "ray":
            raise ValueError(f"pretrain.checkpoint_every={kept} leaves no checkpoint of epoch {without[0]}: on Ray looks see these")
        return self

    @model_validator(mode="after")
    def evaluates_what_is_pretrained(self) -> Self:
        if self.evaluate.architecture == "dpt" and self.pretrain.architecture == "mae":
            check_dpt(self.pretrain.mae.token, self.evaluate.side)
        return self
