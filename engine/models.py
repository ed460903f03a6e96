"""The knobs of the models that score and are trained, and of how; and what every section of knobs is. config.py holds all the others."""

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator


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
Seed = Annotated[int, Field(ge=0, lt=2**63)]
ViTSize = Annotated[str, Field(pattern=r"^[a-z0-9]+$")]  # tiny, small, base, large, huge and every other one of timm: see vits.py
Precision = Literal["float32", "bfloat16"]  # of a model's products; sums and what is stored stay float32
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
    """A masked autoencoder: the paper's settings (arXiv 2111.06377)."""

    size: ViTSize = "base"  # of the encoder: tiny, small, base, large, huge and every other plain one of timm
    side: Annotated[int, Field(ge=16)] = 224  # px of the input
    token: Annotated[int, Field(ge=2)] = 16  # px, side of one token
    decoder_width: Positive = 512  # numbers of a token in it
    decoder_depth: Positive = 8  # blocks
    decoder_heads: Positive = 16  # of attention in each
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75  # of the tokens, hidden
    norm_pix: bool = False  # a token is rebuilt less its mean, over its deviation

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
    """A contrastive model and what it is measured against: the paper's settings (arXiv 2002.05709) where it has one."""

    encoder: Word = "resnet50"  # any of timm; on a CPU resnet18
    side: Annotated[int, Field(ge=32)] = 224  # px of a view
    projection: Positive = 128  # numbers in what the loss compares
    temperature: Annotated[float, Field(gt=0)] = 0.5  # the paper's for CIFAR-10 (appendix B.9); for ImageNet it takes 0.1
    bank: Positive = 512  # other pictures in the loss, two views each. Our choice; the paper's smallest batch is 256


class TrainConfig(Section):
    """A pre-training (facebookresearch/mae main_pretrain.py; batch and epochs: OptiDEL). `jobs/recipes.py` has others by name."""

    architecture: Literal["mae", "simclr"] = "mae"  # what is trained
    mae: MAEConfig = MAEConfig(norm_pix=True)
    simclr: SimCLRConfig = SimCLRConfig()
    checkpoint: str = ""  # weights to start from, of the same architecture; "": random ones
    epochs: Positive = 100  # passes over the images
    batch: Positive = 16  # images per step over all workers
    accumulate: Positive = 1  # parts in which a worker takes its share of a batch, one after the other: less memory, the same steps
    base_lr: Annotated[float, Field(gt=0)] = 1.5e-4  # lr = base_lr * batch / 256
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # of AdamW, but for biases and norms
    warmup_epochs: Natural = 40  # over which the rate rises in a line, before its cosine
    clip: Annotated[float, Field(ge=0)] = 0.0  # the most that the gradient's norm may be; 0: none, as in the original
    # Of the mean of weights that is kept and exported, what stays a step, once it is under way (optimiser.decay); 0: no mean.
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    min_crop: Annotated[float, Field(gt=0, le=1)] = 0.2  # RandomResizedCrop of mae; SimCLR's views are its paper's
    precision: Literal["no", "bf16", "fp16"] = "no"  # mixed precision by accelerate; no: float32
    workers: Positive = 1  # training processes
    # With which a training on Ray goes on where nodes are lost, until there is room for all; they take the parts of those that are missing
    # one after the other, SimCLR all at once, which takes their memory, too. 0: all are needed.
    least_workers: Natural = 0
    checkpoint_every: Positive = 1  # epochs
    checkpoint_steps: Natural = 0  # steps; so many and each checkpoint_every epochs leave one. 0: the epochs only
    picture_steps: Natural = 1000  # between two sheets of rebuilt images; one more comes at the end. 0: none. Our choice
    max_failures: Natural = 3  # deaths of workers on Ray, which spot nodes make a matter of course, with which a job goes on by itself
    seed: Seed = 0  # of first weights, order, crops and masks

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


class EvaluateConfig(Section):
    """Fine-tuning on image and mask pairs (DPT: mmsegmentation's recipe; iterations: OptiDEL). `jobs/recipes.py` has others by name."""

    uri: str = ""  # folder with images/ and masks/, of another data set as it comes, or a COCO file
    dataset: DataSet = "folder"  # what lies there: the job datasets lists them
    pairs: Natural = 0  # that must be there, of a known set a part; 0: all that were published
    test_groups: tuple[str, ...] = ()  # patients, videos or centres that are tested on; none: by the set's lists, else by test_share
    train_groups: tuple[str, ...] = ()  # that are trained on; none: all others
    architecture: Literal["dpt", "unet", "attention_unet"] = "dpt"  # what stands on the encoder
    encoder: Literal[CNN, Swin] = "resnet50"  # of a U-Net; the DPT's is the pre-trained ViT
    side: Annotated[int, Field(ge=32)] = 224  # px of what goes in; OptiDEL says none, this is its ViT's
    loss: Literal["cross_entropy", "dice"] = "cross_entropy"  # dice: that of arXiv 2410.18677
    iterations: Positive = 20000  # steps
    epochs: Natural = 0  # passes over the training part, which then say how many iterations; 0: `iterations`
    batch: Positive = 16  # images a step
    optimiser: Literal["adamw", "sgd"] = "adamw"  # sgd: that of arXiv 2410.18677
    lr: Annotated[float, Field(gt=0)] = 6e-5  # the highest, after the warm-up
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of sgd
    weight_decay: Annotated[float, Field(ge=0)] = 0.01  # of adamw but for norms, biases and embeddings, of sgd for all weights
    warmup: Natural = 1500  # iterations
    power: Annotated[float, Field(gt=0)] = 1.0  # of the polynomial by which the rate falls; 1: a line
    precision: Precision = "float32"  # of training; measured is in float32 always
    frozen: bool = False  # the encoder stays as it was pre-trained
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2  # tested on, where the set does not say who is
    limit: Natural = 0  # pairs trained on at most, drawn by seed, 0: all; of the test part none is ever left out
    seeds: tuple[Seed, ...] = (0,)  # one measurement each: of the split where it is drawn, first weights and order

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
