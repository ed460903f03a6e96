"""Whole configurations by name, and pre-trainings by name: start from one, change single knobs on the command line."""

from collections.abc import Callable

from engine.config import Config, DifficultyConfig, FramesConfig, PatchesConfig, SelectionConfig, VideosConfig
from engine.models import EvaluateConfig, MAEConfig, ProbeConfig, SimCLRConfig, TrainConfig


def tiny() -> Config:
    """Two processors, no GPU, minutes: small models, few patches; the demo and the first look at new video."""
    mae = small().mae
    return Config(
        videos=VideosConfig(batch=8),
        frames=FramesConfig(longest_side=512),
        patches=PatchesConfig(per_frame=8, max_side=256, box_sides=(0.31, 0.5)),
        difficulty=DifficultyConfig(mae=mae, draws=4),
        probe=ProbeConfig(frames=300, crops=4, train=TrainConfig(mae=mae, epochs=8, warmup_epochs=1, batch=64, base_lr=2e-3)),
        selection=SelectionConfig(budget=0.25),
        pretrain=small(),
        evaluate=EvaluateConfig(side=96, iterations=160, warmup=10, batch=4, lr=1e-3, limit=120),
    )


def one_gpu() -> Config:
    """One GPU, few processors: regions by SAM's smallest model, OptiDEL's pre-training (ViT-B, 100 epochs) in bf16. Not run on a GPU."""
    return Config(
        patches=PatchesConfig(proposer="sam", checkpoint="official"),
        pretrain=optidel().model_copy(update={"precision": "bf16"}),
        evaluate=EvaluateConfig(side=224, iterations=20000, seeds=(0, 1, 2)),
    )


def cluster() -> Config:
    """Ray with four GPUs: regions by SAM's largest model, OptiDEL's pre-training (ViT-B, batch 16, 100 epochs) in bf16. Not run on GPUs."""
    return Config(
        videos=VideosConfig(batch=256),
        patches=PatchesConfig(proposer="sam", sam_size="vit_h", checkpoint="official"),
        probe=ProbeConfig(
            frames=20000, train=TrainConfig(mae=MAEConfig(), epochs=50, warmup_epochs=5, batch=256, workers=4, precision="bf16")
        ),
        pretrain=optidel().model_copy(update={"workers": 4, "precision": "bf16"}),
        evaluate=EvaluateConfig(side=224, iterations=20000, seeds=(0, 1, 2)),
    )


RECIPES: dict[str, Callable[[], Config]] = {"tiny": tiny, "one_gpu": one_gpu, "cluster": cluster}


def optidel() -> TrainConfig:
    """OptiDEL's (arXiv 2408.07107): ViT-B, batch 16, 100 epochs, AdamW, cosine; of the rest it says nothing, so it is MAE's."""
    return TrainConfig(mae=MAEConfig(size="base", norm_pix=True), epochs=100, batch=16)


def mae() -> TrainConfig:
    """MAE's own (facebookresearch/mae PRETRAIN.md): ViT-L, batch 4096, 800 epochs, 40 of warm-up; 64 images at a time on one GPU.

    But for one thing: it leaves out the last images of an epoch that fill no batch; ours are a batch of their own, since curated sets are
    small.
    """
    return TrainConfig(
        mae=MAEConfig(size="large", norm_pix=True),
        epochs=800,
        batch=4096,
        accumulate=64,
        warmup_epochs=40,
        base_lr=1.5e-4,
        precision="fp16",
    )


def simclr() -> TrainConfig:
    """SimCLR's own (arXiv 2002.05709): ResNet50, batch 4096, 100 epochs, 10 of warm-up; AdamW at MAE's rate for its LARS.

    It fits no single GPU: 4096 images, two views each, keep 350 GB for their gradients in bf16. Set pretrain.workers to as many GPUs as
    hold it (the paper has 32 to 128 TPU cores), or lower pretrain.batch. pretrain.accumulate cannot help: every view is told from all
    others of the batch, so the parts of one would be another loss, with fewer others, and not the same in less memory.
    """
    shape = SimCLRConfig(encoder="resnet50", projection=128, temperature=0.1)
    return TrainConfig(architecture="simclr", simclr=shape, epochs=100, batch=4096, warmup_epochs=10, weight_decay=1e-6, precision="bf16")


def small() -> TrainConfig:
    """For two processors without a GPU, minutes: ViT-Tiny of 128 px, batch 4, since a demo has nine images, 10 epochs."""
    shape = MAEConfig(size="tiny", side=128, token=16, decoder_width=96, decoder_depth=2, decoder_heads=3)
    return TrainConfig(mae=shape, epochs=10, warmup_epochs=1, batch=4, base_lr=2.4e-2, picture_steps=100)


TRAININGS: dict[str, Callable[[], TrainConfig]] = {"optidel": optidel, "mae": mae, "simclr": simclr, "small": small}


def dpt() -> EvaluateConfig:
    """OptiDEL's (arXiv 2408.07107): DPT, 20,000 iterations, AdamW; of the rest it says nothing, so it is mmsegmentation's, at 224 px."""
    return EvaluateConfig(
        architecture="dpt", side=224, iterations=20000, batch=16, lr=6e-5, weight_decay=0.01, warmup=1500, seeds=(0, 1, 2)
    )


def robustness() -> EvaluateConfig:
    """That of arXiv 2410.18677: attention U-Net on ResNet50, Dice loss, SGD, 150 epochs of batch 24, five seeds.

    It turns its images, ours are cropped and flipped. Its U-Net has an encoder of its own, its Swin U-Net a decoder of Swin blocks:
    nearest to them here are evaluate.architecture=unet and, with it, evaluate.encoder=swin_tiny_patch4_window7_224.
    """
    return EvaluateConfig(
        architecture="attention_unet",
        encoder="resnet50",
        side=224,
        loss="dice",
        epochs=150,
        batch=24,
        optimiser="sgd",
        lr=0.05,
        weight_decay=1e-4,
        warmup=0,
        power=0.9,
        seeds=(123124, 123125, 123126, 123127, 123128),
    )


def quick() -> EvaluateConfig:
    """For two processors without a GPU, about a minute each: DPT at 96 px, 250 iterations of 16 in bfloat16, three seeds."""
    return EvaluateConfig(side=96, iterations=250, warmup=25, batch=16, lr=1e-3, precision="bfloat16", seeds=(0, 1, 2))


EVALUATIONS: dict[str, Callable[[], EvaluateConfig]] = {"optidel": dpt, "robustness": robustness, "small": quick}
