"""The knobs of the models that score and are trained, and of how; and what every section of knobs is. config.py says where others are."""

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator

from engine.precision import Mixed, Precision


def share_or_theory(value: object, check: Callable[[object], object]) -> object:
    """What pydantic makes of a value that may be either; one ValueError in place of one for each."""
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError("expected a number from 0 to 1, or theory") from error


Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareOrTheory = Annotated[Share | Literal["theory"], WrapValidator(share_or_theory)]
Word = Annotated[str, Field(min_length=1)]  # a name or an address: anything but nothing
Numbered = Annotated[str, Field(pattern=r"^.+:(\d*[1-9]\d*(\.\d+)?|0+\.\d*[1-9]\d*)$")]  # a number above 0 by name, as in mae:900
Seed = Annotated[int, Field(ge=0, lt=2**63)]
ViTSize = Annotated[str, Field(pattern=r"^[a-z0-9]+$")]  # tiny, small, base, large, huge and every other one of timm: see vits.py


CNN = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "densenet121", "efficientnet-b0", "mobilenet_v2", "vgg16"]
Swin = Literal["swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224", "swin_base_patch4_window7_224"]
DataSet = Literal[
    "folder", "coco", "kvasir_seg", "kvasir_sessile", "kvasir_instrument", "imageclefmed", "etis_larib", "polypgen", "polypgen_sequences",
    "cvc_300", "endoscene", "cvc_clinicdb", "cvc_colondb", "cvc_12k", "ead2019", "edd2020", "acdc", "covid_qu_ex", "idrid",
]  # fmt: skip
# Token side -> what the image side must be a multiple of, so that the coarsest of DPT's four maps comes out whole.
DPT_SIDES = {8: 32, 14: 28, 16: 32, 32: 32}


class Section(BaseModel):
    """A group of knobs: frozen, no unknown ones, every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    FREE: ClassVar[frozenset[str]] = frozenset()  # knobs on which what comes of the section does not depend

    def fingerprint(self) -> str:
        """Twelve hex digits that change when any knob does, but for FREE ones of this very section."""
        canonical = json.dumps(self.model_dump(mode="json", exclude=set(self.FREE)), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


class MAEConfig(Section):
    """A masked autoencoder. Defaults: the paper's (arXiv 2111.06377)"""

    # of the encoder: tiny, small, base, large, huge and every other plain one of timm. Default: OptiDEL's (arXiv 2408.07107)
    size: ViTSize = "base"
    side: Annotated[int, Field(ge=16)] = 224  # [px] of the input
    token: Annotated[int, Field(ge=2)] = 16  # [px] side of one token
    decoder_width: Positive = 512  # [numbers] of a token in it
    decoder_depth: Positive = 8  # [blocks] of it
    decoder_heads: Positive = 16  # [heads] of attention in each block. Default: models_mae.py of facebookresearch/mae
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75  # [share of the tokens] hidden
    # a token is rebuilt less its mean, over its deviation. Default: our choice for scoring, because it cancels contrast and turns flat,
    # noisy tokens into the hardest ones
    norm_pix: bool = False

    @model_validator(mode="after")
    def divides(self) -> Self:
        if self.side % self.token:
            raise ValueError(f"side={self.side} is not a multiple of token={self.token}")
        if self.decoder_width % self.decoder_heads:
            raise ValueError(f"decoder_width={self.decoder_width} is not a multiple of decoder_heads={self.decoder_heads}")
        if self.decoder_width % 4:
            raise ValueError(f"decoder_width={self.decoder_width} is not a multiple of 4: sine and cosine of two axes share it")
        if not 0 < self.visible < self.tokens:
            raise ValueError(f"mask_ratio={self.mask_ratio} leaves {self.visible} of {self.tokens} tokens visible, expected some, not all")
        return self

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return (self.side // self.token) ** 2

    @property
    def visible(self) -> int:
        """Tokens that are left visible: rounded down, as the official code does."""
        return int(self.tokens * (1 - self.mask_ratio))


class SimCLRConfig(Section):
    """A contrastive model and what it is measured against. Defaults: the paper's (arXiv 2002.05709)"""

    encoder: Word = "resnet50"  # any of timm; on a CPU resnet18
    side: Annotated[int, Field(ge=32)] = 224  # [px] of a view
    projection: Positive = 128  # [numbers] in what the loss compares
    # [of cosine] they are divided by it. Default: the paper's for CIFAR-10 (arXiv 2002.05709, appendix B.9); for ImageNet it takes 0.1
    temperature: Annotated[float, Field(gt=0)] = 0.5
    # [pictures] others in the loss, two views each. Default: our choice, because it is twice the paper's smallest batch
    bank: Positive = 512


class ScoreConfig(Section):
    """Which other model the job `score` asks what it makes of the stored patches."""

    # early: the scorer early in its training; checkpoint: the one of difficulty.checkpoint; the others only make embeddings. Default: our
    # choice, because `probe` keeps that one
    by: Annotated[str, Field(pattern=r"^(early|checkpoint|medsam-lite|sam|timm:[a-z0-9_.]+)$")] = "early"
    # of a model of timm: its own, which takes a network, a local file, or "random" as a control. Default: our choice, because who names a
    # model wants what it learnt
    checkpoint: Word = "pretrained"
    # [patches] a forward pass of an encoder; fixed, as that of the difficulty. Default: our choice, because it is that of the difficulty
    batch: Positive = 32


class TrainConfig(Section):
    """A pre-training. `jobs/recipes.py` has others by name.

    Some knobs have other words than in EvaluateConfig: `base_lr`, which a batch of 256 would take, is not the rate `lr`, `warmup_epochs`
    are not the iterations `warmup`, `precision` is kept in accelerate's words. They stay, because stored models, cells and
    scorers are named by hashes of these very words (`fingerprint`).
    """

    architecture: Literal["mae", "simclr"] = "mae"  # what is trained. Default: OptiDEL (arXiv 2408.07107)
    mae: MAEConfig = MAEConfig(norm_pix=True)  # Default: PRETRAIN.md of facebookresearch/mae, which trains with --norm_pix_loss
    simclr: SimCLRConfig = SimCLRConfig()
    # weights to start from, of the same architecture; "": random ones. Default: OptiDEL (arXiv 2408.07107), from scratch
    checkpoint: str = ""
    epochs: Positive = 100  # [epochs] passes over the images. Default: OptiDEL (arXiv 2408.07107)
    batch: Positive = 16  # [images] a step over all workers. Default: OptiDEL (arXiv 2408.07107)
    # [parts] in which a worker takes its share of a batch, one after the other: less memory, the same steps. Default: our choice, because
    # more parts only take longer
    accumulate: Positive = 1
    # [rate for 256 images] lr = base_lr * batch / 256. Default: PRETRAIN.md of facebookresearch/mae
    base_lr: Annotated[float, Field(gt=0)] = 1.5e-4
    # [share a step, times the rate] of AdamW, but for biases and norms. Default: main_pretrain.py of facebookresearch/mae
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    # [epochs] over which the rate rises in a line, before its cosine. Default: main_pretrain.py of facebookresearch/mae
    warmup_epochs: Natural = 40
    # [norm of the gradient] at most; 0: no limit. Default: main_pretrain.py of facebookresearch/mae, which has none
    clip: Annotated[float, Field(ge=0)] = 0.0
    # [share] of the mean of weights that is kept and exported, what stays a step, once it is under way (optimiser.decay); 0: no mean.
    # Default: main_pretrain.py of facebookresearch/mae, which has none
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # [share of the area] of RandomResizedCrop for MAE; SimCLR's views are its paper's. Default: main_pretrain.py of facebookresearch/mae
    min_crop: Annotated[float, Field(gt=0, le=1)] = 0.2
    # mixed precision, kept in accelerate's words, whose no is float32. Default: our choice, because every device has it
    precision: Mixed = "no"
    workers: Positive = 1  # [processes] that train. Default: our choice, because one device is what everybody has
    # [processes] with which a training on Ray goes on where nodes are lost, until there is room for all; they take the parts of those that
    # are missing one after the other, SimCLR all at once, which takes their memory, too. 0: all are needed. Default: our choice, because it
    # is then as fast as was asked for
    least_workers: Natural = 0
    # [epochs] from one checkpoint to the next. Default: our choice, because a kill then costs an epoch at most
    checkpoint_every: Positive = 1
    # [steps] so many and each checkpoint_every epochs leave one. 0: the epochs only. Default: our choice, because epochs over a small set
    # are short
    checkpoint_steps: Natural = 0
    # [steps] between two sheets of rebuilt images; one more comes at the end. 0: none. Default: our choice, because a sheet costs a pass
    # and its picture
    picture_steps: Natural = 1000
    # [deaths] of workers on Ray, which spot nodes make a matter of course, with which a job goes on by itself. Default: our choice, because
    # what kills more often is a fault of the job
    max_failures: Natural = 3
    seed: Seed = 0  # of first weights, order, crops and masks. Default: our choice, because any number will do

    # How often it is saved and shown changes nothing; in how many parts a batch is taken, and for how many workers, rounding at most, and
    # the images that do not split at the end of an epoch, fewer than `workers`. They may change amid a training, which is the same one.
    # Rounding grows: from 1e-8 to .2 % in 120 steps (LOG). Who of the workers is there changes the order of their sum: of two with
    # accumulate=1 nothing.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"accumulate", "workers", "least_workers", "max_failures", "checkpoint_every", "checkpoint_steps", "picture_steps"}
    )

    @model_validator(mode="after")
    def splits(self) -> Self:
        if self.least_workers > self.workers:
            raise ValueError(f"least_workers={self.least_workers} are more than workers={self.workers}")
        for some in range(self.least_workers or self.workers, self.workers + 1):
            if self.batch % some:
                raise ValueError(f"batch={self.batch} does not split over workers={some}")
        if self.accumulate > self.batch // self.workers:
            raise ValueError(f"accumulate={self.accumulate} parts of the {self.batch // self.workers} images that a worker has of a batch")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} leaves nothing of epochs={self.epochs}")
        return self

    @model_validator(mode="after")
    def contrasts(self) -> Self:
        if self.architecture == "simclr" and self.batch < 2:
            raise ValueError("batch=1 leaves SimCLR nothing to contrast; two at least")
        if self.architecture == "simclr" and self.accumulate > 1:
            raise ValueError(f"accumulate={self.accumulate}: SimCLR contrasts a whole batch, take more workers or a smaller batch")
        return self


class ProbeConfig(Section):
    """The scorer that is trained when there is no checkpoint: a small sample is enough for a first one."""

    # [frames] sampled from the videos, at random by seed. Default: our choice, because a small sample is enough for a first scorer
    frames: Positive = 2000
    crops: Positive = 4  # [crops] at random a frame. Default: our choice, because frames cost more to decode than crops to cut
    train: TrainConfig = TrainConfig(
        mae=MAEConfig(norm_pix=False),  # Default: our choice, because what is trained is the scorer, the model of difficulty.mae
        epochs=20,  # Default: our choice, because a first scorer should take minutes
        warmup_epochs=2,  # Default: our choice, because the forty of facebookresearch/mae are more than all of these epochs
        batch=64,  # Default: our choice, because sixteen would take four times the steps over the same crops
    )


class EvaluateConfig(Section):
    """Fine-tuning on image and mask pairs. `jobs/recipes.py` has others by name."""

    # folder with images/ and masks/, of another data set as it comes, or a COCO file. Default: our choice, because only you know it
    uri: str = ""
    dataset: DataSet = "folder"  # what lies there: the job datasets lists them. Default: our choice, because it needs no known layout
    # [pairs] that must be there, of a known set a part; 0: all that were published. Default: our choice, because a part is not the known
    # set
    pairs: Natural = 0
    # patients, videos or centres that are tested on; none: by the set's lists, else by test_share. Default: our choice, because only the
    # set knows them
    test_groups: tuple[str, ...] = ()
    train_groups: tuple[str, ...] = ()  # that are trained on; none: all others. Default: our choice, because only the set knows them
    architecture: Literal["dpt", "unet", "attention_unet"] = "dpt"  # what stands on the encoder. Default: OptiDEL (arXiv 2408.07107)
    encoder: Literal[CNN, Swin] = "resnet50"  # of a U-Net; the DPT's is the pre-trained ViT. Default: arXiv 2410.18677
    side: Annotated[int, Field(ge=32)] = 224  # [px] of what goes in. Default: our choice, because it is the ViT's; OptiDEL says none
    loss: Literal["cross_entropy", "dice"] = "cross_entropy"  # dice: that of arXiv 2410.18677. Default: DPT's in open-mmlab/mmsegmentation
    iterations: Positive = 20000  # [steps] of fine-tuning. Default: OptiDEL (arXiv 2408.07107)
    # [epochs] passes over the training part, which then say how many iterations; 0: `iterations`. Default: our choice, because OptiDEL
    # counts in iterations
    epochs: Natural = 0
    batch: Positive = 16  # [images] a step. Default: DPT's in open-mmlab/mmsegmentation, two on each of eight GPUs
    optimiser: Literal["adamw", "sgd"] = "adamw"  # sgd: that of arXiv 2410.18677. Default: OptiDEL (arXiv 2408.07107)
    lr: Annotated[float, Field(gt=0)] = 6e-5  # [rate] the highest, after the warm-up. Default: DPT's in open-mmlab/mmsegmentation
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # [share that stays a step] of sgd. Default: arXiv 2410.18677
    # [share a step, times the rate] of adamw but for norms, biases and embeddings, of sgd for all weights. Default: DPT's in
    # open-mmlab/mmsegmentation
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Natural = 1500  # [steps] over which the rate rises. Default: DPT's in open-mmlab/mmsegmentation
    # [exponent] of the polynomial by which the rate falls; 1: a line. Default: DPT's in open-mmlab/mmsegmentation
    power: Annotated[float, Field(gt=0)] = 1.0
    # of training; measured is in float32 always. Default: our choice, because what is compared should not hang on rounding
    precision: Precision = "float32"
    frozen: bool = False  # the encoder stays as it was pre-trained. Default: our choice, because DPT's recipe trains it too
    # [share of the pairs] tested on, where the set does not say who is. Default: our choice, because a fifth is usual
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    # [pairs] trained on at most, drawn by seed, 0: all; of the test part none is ever left out. Default: our choice, because all that there
    # is trains best
    limit: Natural = 0
    # one measurement each: of the split where it is drawn, first weights and order. Default: our choice, because one is the cheapest; a
    # comparison needs several
    seeds: tuple[Seed, ...] = (0,)

    @model_validator(mode="after")
    def can_be_run(self) -> Self:
        if not self.epochs and self.warmup >= self.iterations:
            raise ValueError(f"warmup={self.warmup} leaves nothing of iterations={self.iterations}")
        if not self.seeds:
            raise ValueError("seeds is empty; one number at least")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds} names one twice")
        return self

    @model_validator(mode="after")
    def can_be_split(self) -> Self:
        if "://" in self.uri.removeprefix("file://"):
            raise ValueError(f"uri={self.uri!r} must be a local folder or file")
        if self.train_groups and not self.test_groups:
            raise ValueError(f"train_groups={','.join(self.train_groups)} without test_groups says of nobody that it is tested on")
        return self

    @model_validator(mode="after")
    def suits_a_unet(self) -> Self:
        if self.architecture == "dpt":
            return self
        if self.side % 32:
            raise ValueError(f"side={self.side} must be a multiple of 32 for a U-Net")
        if self.batch < 2:
            raise ValueError("batch=1 leaves the batch norms of a U-Net nothing to compare; two at least")
        return self

    def steps(self, images: int) -> int:
        """Iterations over so many training images; ValueError where the warm-up leaves nothing of them."""
        steps = -(-self.epochs * images // self.batch) if self.epochs else self.iterations
        if self.warmup >= steps:
            raise ValueError(
                f"evaluate.warmup={self.warmup} leaves nothing of the {steps} iterations that evaluate.epochs={self.epochs} are"
            )
        return steps


def check_dpt(token: int, side: int) -> None:
    """ValueError where a DPT on tokens of `token` px cannot take images of `side` px."""
    if token not in DPT_SIDES:
        raise ValueError(f"token={token} has no DPT: tokens of {', '.join(map(str, DPT_SIDES))} px do")
    if side % DPT_SIDES[token]:
        raise ValueError(f"evaluate.side={side} must be a multiple of {DPT_SIDES[token]} for tokens of {token} px")
