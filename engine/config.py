"""Every knob of the flow in its order: frozen, validated, with unit and source of the default.

Those of the models and their training stand in models.py, those of single methods of selection in methods.py, those of what is around
the flow in settings.py.

A run is one `Config`; recipes in `jobs/recipes.py` return whole ones, `knobs.amend` changes single knobs. Nothing heavy is imported
here, so a wrong knob is refused before any hardware is touched.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from engine.methods import D4Config, DensityConfig, EndocurateConfig, HierarchicalConfig, refuse_dealt_twice
from engine.models import (
    EvaluateConfig,
    MAEConfig,
    Natural,
    Positive,
    ProbeConfig,
    ScoreConfig,
    Section,
    Seed,
    Share,
    SimCLRConfig,
    TrainConfig,
    check_dpt,
)
from engine.precision import Precision
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

    # folder or any fsspec address: file, s3, gs. Default: our choice, because the folder then lies beside where one stands
    uri: Address = "videos"
    # [videos] a commit: how often the table gets a version; a crash costs these, and what was under way behind them. Default: our choice,
    # because that much is cheap to do again
    batch: Positive = 16


class FramesConfig(Section):
    """Which moments are looked at, and which of them are worth keeping.

    Defaults: our choice, because with these nearly all of Kvasir-SEG and PolypGen passes and no hand
    (notebooks/LOG.md: what the gate keeps at the defaults)
    """

    # one frame every_s, those the codec stored whole, or each one. Default: our choice, because it is the same of every codec
    sampling: Literal["seconds", "keyframes", "all"] = "seconds"
    # [s] from one sample to the next. Default: EndoViT's rate (DominikBatic/EndoViT); neighbours nearer than that differ little
    every_s: Annotated[float, Field(gt=0)] = 1.0
    # [px] larger frames are scaled down. Default: the input side of SAM (facebookresearch/segment-anything)
    longest_side: Annotated[int, Field(ge=64)] = 1024
    # [px] of the content area. Default: our choice, because smaller ones hold no region worth a patch
    min_side: Annotated[int, Field(ge=16)] = 64
    min_sharpness: Annotated[float, Field(ge=0)] = 10.0  # [grey levels²] variance of the Laplacian at 256 px; below: blurred
    min_brightness: Share = 0.08  # [share of white] mean grey; below: dark
    max_glare: Share = 0.20  # [share of the content area] that is burnt out; above: glare
    min_tissue: Share = 0.45  # [share of the content area] in the colours of mucosa; below: outside the body
    # [share of white] mean difference to the last kept frame; below: a near-duplicate in time. Default: our choice, because all frames of
    # a colonoscopy pass, and 1 of 10 of a laryngoscopy that hardly changes (notebooks/LOG.md: what the gate keeps at the defaults)
    min_change: Share = 0.02

    @model_validator(mode="after")
    def leaves_room(self) -> Self:
        if self.min_side > self.longest_side:
            raise ValueError(f"min_side={self.min_side} leaves nothing of frames scaled down to longest_side={self.longest_side}")
        return self


class PatchesConfig(Section):
    """Regions of a frame: who proposes them, which survive, how they are cut."""

    # sam: automatic masks; medsam-lite: LiteMedSAM on a grid of boxes; crops: random; regions: of even colour. Default: our choice, because
    # its weights come with its package, and SAM's have to be fetched
    proposer: Literal["sam", "medsam-lite", "crops", "regions"] = "medsam-lite"
    # of proposer=sam. Default: our choice, because it is the smallest of SAM's; OptiDEL (arXiv 2408.07107) does not say
    sam_size: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    # of SAM: a path, or "official" to fetch it and check its sha256. Default: our choice, because nothing is fetched that nobody asked for
    checkpoint: str = ""
    # [points] of SAM's automatic masks, along each side. Default: SAM's own (facebookresearch/segment-anything)
    points_per_side: Positive = 32
    min_predicted_iou: Share = 0.88  # [IoU] of a mask with the object, as guessed. Default: SAM's own (facebookresearch/segment-anything)
    # [IoU] of a mask cut a little lower and a little higher. Default: SAM's own (facebookresearch/segment-anything)
    min_stability: Share = 0.95
    max_overlap: Share = 0.7  # [IoU] of two boxes; the weaker one goes. Default: SAM's own (facebookresearch/segment-anything)
    # [share of the frame's shorter side] of LiteMedSAM's boxes, and the range of random crops. Default: our choice, because 48, 80 and 128
    # of LiteMedSAM's 256 px take in the small and the large
    box_sides: tuple[Annotated[float, Field(ge=0.02, le=1)], ...] = (0.19, 0.31, 0.5)
    min_area: Share = 0.005  # [share of the frame] of a region, at least. Default: our choice, because a smaller region shows little
    # [share of the frame] of a region, at most. Default: our choice, because above is the frame itself
    max_area: Annotated[float, Field(gt=0, le=1)] = 0.6
    margin: Share = 0.1  # [share of the box side] on every side. Default: our choice, because a rebuild needs context
    # [patches] at most, the most certain ones. Default: our choice, because OptiDEL (arXiv 2408.07107) does not say how many
    per_frame: Positive = 12
    # [px] larger patches are scaled down. Default: our choice, because it is more than twice the 224 px that a ViT sees
    max_side: Annotated[int, Field(ge=16)] = 512
    # [JPEG quality] of the stored pixels. Default: our choice, because its loss is hardly seen, and without loss they would be several
    # times as large
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    # of SAM and LiteMedSAM. Default: our choice, because bfloat16 changes which masks stay (notebooks/LOG.md: bfloat16 beside float32)
    precision: Precision = "float32"
    # every kept frame is a row as well, for methods that choose among frames. Default: our choice, because it stores whole frames
    whole_frames: bool = False
    seed: Seed = 0  # of random crops. Default: our choice, because any number will do

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

    scorer: Literal["mae", "simclr"] = "mae"  # OptiDEL's two. Default: OptiDEL (arXiv 2408.07107, Eq. 4)
    mae: MAEConfig = MAEConfig()
    simclr: SimCLRConfig = SimCLRConfig()
    # of the scorer; "": the store's own, trained by the job `probe`. Default: our choice, because that one has seen video of this kind
    checkpoint: str = ""
    # [masks, or pairs of views] a patch, averaged. Default: our choice, because the error under one mask is much by luck, and each more
    # costs a pass
    draws: Positive = 4
    # [patches] a forward pass, without a GPU at most 16; filled up, so that a score does not depend on its neighbours. Default: our choice,
    # because what fills up a larger one is computed for nothing
    batch: Positive = 32
    # of the scorer's products; in another one it is another scorer. Default: our choice, because scores are to be the same everywhere
    precision: Precision = "float32"
    seed: Seed = 0  # of masks and views. Default: our choice, because any number will do


class SelectionConfig(Section):
    """Which patches a training set is made of, and how much of them."""

    FREE: ClassVar[frozenset[str]] = frozenset({"named"})  # it names what was chosen and chooses nothing

    # the id of a selection that is there, as one made of a view in `browse`: the other knobs of the section are not looked at then.
    # Default: our choice, because most are chosen by a method
    named: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    # who is hard, who is like whom, or by lot: docs/choosing.md tells them apart. Default: OptiDEL (arXiv 2408.07107)
    method: Method = "optidel"
    # [of `unit`] up to 1 a share, above a whole number; of gpu_hours: hours. Default: the headline of arXiv 2408.07107 and 2401.17542
    budget: Annotated[float, Field(gt=0)] = 0.05
    # images: synthesised ones, a share is of the frames. Default: our choice, because the papers speak of storage
    unit: Literal["bytes", "patches", "images", "gpu_hours"] = "bytes"
    seed: Seed = 0  # of what is drawn, k-means included. Default: our choice, because any number will do
    # what is chosen from: regions of frames, or whole ones. Default: OptiDEL (arXiv 2408.07107)
    of: Literal["patches", "frames"] = "patches"
    embedding: str = ""  # which of the store's; "": the scorer's own. Default: our choice, because that one is always there
    clusters: Natural = 0  # [clusters] of k-means; 0: the root of the number of patches. Default: our choice, because no paper fits so few
    # [iterations] of k-means. Default: our choice, because the later ones of SemDeDup's 100 (facebookresearch/SemDeDup) change little
    iterations: Positive = 20
    # [images/s] of one device in pre-training, for unit=gpu_hours; 0: as measured. Default: our choice, because a measurement knows better
    images_per_s: Annotated[float, Field(ge=0)] = 0.0
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
    """How chosen patches become training images."""

    patches: int = 4  # [patches] an image, a square of them. Default: OptiDEL's M (arXiv 2408.07107)
    # rank: consecutive ones; spread: j, j+n, j+2n, ... of n images, as RDED deals out (a choice by rded is in that order already); random:
    # by seed and id; diverse: far apart in video and time. Default: OptiDEL (arXiv 2408.07107)
    order: Literal["rank", "random", "diverse", "spread"] = "rank"
    # a patch covers its place and is cut, or is whole with black around it. Default: our choice, because black is nothing to learn
    fill: Literal["crop", "pad"] = "crop"
    # [JPEG quality] of the training images. Default: our choice, because patches have it too; OptiDEL does not say
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    seed: Seed = 0  # of order=random. Default: our choice, because any number will do

    @model_validator(mode="after")
    def is_a_square(self) -> Self:
        if self.patches not in (1, 4, 9):
            raise ValueError(f"patches={self.patches} must be 1, 4 or 9: an image is a square of patches")
        return self


class Config(Section):
    """All knobs of the flow, a section for each part of it; what one section says against another is refused here."""

    # in this process, or on the Ray cluster (a local one if there is none). Default: our choice, because it uses all processors
    where: Literal["here", "ray"] = "ray"
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
        if not self.selection.named:
            refuse_dealt_twice(self.selection.method, self.synthesis.order, f"selection.method={self.selection.method}")
        for told, one in zip(self.watch.selections, self.maintained(), strict=True):
            if one.unit == "patches" and 1 < one.budget < self.synthesis.patches:
                raise ValueError(f"watch.selections={told} never holds an image of synthesis.patches={self.synthesis.patches}")
            refuse_dealt_twice(one.method, self.synthesis.order, f"watch.selections={told}")
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
        seen = [epoch for epoch in range(1, last + 1) if watch.due(epoch, end)]
        if watch.uri and not any(epoch >= watch.warmup for epoch in seen):
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
