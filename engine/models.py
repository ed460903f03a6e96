"""The knobs of the models that score and are trained, and what every section of knobs is; config.py holds all the others."""

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
ViTSize = Literal["tiny", "small", "base", "large", "huge"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def fingerprint(self) -> str:
        """Twelve hex digits that change when any knob does."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


class MAEConfig(Section):
    """A masked autoencoder: the paper's settings (arXiv 2111.06377)."""

    size: ViTSize = "base"
    side: Annotated[int, Field(ge=16)] = 224  # px of the input
    token: Annotated[int, Field(ge=2)] = 16  # px, side of one token
    decoder_width: Positive = 512
    decoder_depth: Positive = 8
    decoder_heads: Positive = 16
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
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
    """A contrastive model and what it is measured against: the paper's settings (arXiv 2002.05709) where it has one."""

    encoder: Annotated[str, Field(min_length=1)] = "resnet50"  # any of timm; on a CPU resnet18
    side: Annotated[int, Field(ge=32)] = 224  # px of a view
    projection: Positive = 128  # numbers in what the loss compares
    temperature: Annotated[float, Field(gt=0)] = 0.5  # the paper's for CIFAR-10 (appendix B.9); for ImageNet it takes 0.1
    bank: Positive = 512  # other pictures in the loss, two views each. Our choice; the paper's smallest batch is 256
