"""Score every patch by how hard it is for a model: to rebuild (OptiDEL, arXiv 2408.07107, Eq. 4), or to tell from others (SimCLR).

For a masked autoencoder difficulty is the mean squared error over the removed tokens, in units of normalised pixels, averaged over
several masks; the paper names neither the mask ratio nor the number of masks: MAE's 0.75 and four of them are our choice. `norm_pix`
stays off: dividing every token by its own deviation cancels contrast, and flat, noisy tokens would be the hardest. For SimCLR, the
paper's second scorer, it is NT-Xent (arXiv 2002.05709, Eq. 1) in nats, averaged over several pairs of views, against a bank of
pictures that is stored with the model.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from engine import appearance, devices, mae, pictures, schema, simclr, views
from engine.config import DifficultyConfig
from engine.inference import inference
from engine.packing import packed
from engine.pictures import square
from engine.room import Room, filled

Pictures = NDArray[np.uint8]  # (B, S, S, 3) RGB
VIEWED = " appendix-a"  # of SimCLR's paper, which tells how its views are made: in the mark of a contrastive scorer
REBUILT = "squared error"  # the scale of what a masked autoencoder rebuilds without norm_pix: in the units of a patch's variance
CACHED = 16  # patches at a time on a CPU: of ViT-B in bfloat16 32 took an eighth longer each, since they leave the cache
Scores = tuple[NDArray[np.float32], NDArray[np.float16]]  # (B,) difficulties and (B, D) embeddings
Score = Callable[[list[str], list[bytes], list[Pictures]], Scores]  # of a batch: the patches' ids, their JPEGs, and these decoded


@schema.stage(reads=schema.PATCH, writes=schema.SCORED)
class ScoreDifficulty:
    """Give every patch its difficulty, an embedding and the mark of the scorer; rows without a patch get nulls.

    The embedding is the mean patch token of the unmasked patch after the last norm, scaled to length one: our choice, so that
    MedDEL's cosine is a dot product and float16 cannot overflow. A patch is stretched to the model's square input. ValueError
    names a patch that cannot be decoded or whose score is not finite: both are bugs, since the pixels are our own.
    """

    def __init__(self, config: DifficultyConfig, model: mae.MAE | None = None) -> None:
        self.config = config
        self.device = devices.kind()
        self.model = (model or load_scorer(config)).to(self.device).eval()
        if self.model.config != config.mae:
            raise ValueError(f"the scorer's model is {self.model.config!r}, expected difficulty.mae={config.mae!r}")
        self.scorer = scorer_id(self.model, config)
        self.model, self.width = packed(self.model, config.precision), int(self.model.norm.normalized_shape[0])
        self.room = Room(config.batch if self.device == "cuda" else min(config.batch, CACHED), "patches")

    def __call__(self, patches: pa.Table) -> pa.Table:
        return scored(patches, self)

    def score(self, ids: list[str], jpegs: list[bytes], whole: list[Pictures]) -> Scores:
        """Difficulty and embedding of at most `batch` patches."""
        squares = np.stack([square(picture, self.config.mae.side) for picture in whole])
        noise = np.stack([masks_of(name, self.config.seed, self.config.draws, self.config.mae.tokens) for name in ids])
        return self.measured(squares, noise)

    def measured(self, squares: Pictures, noise: NDArray[np.float32]) -> Scores:
        """The draws' errors and one pass without a mask; `noise` is (B, draws, L)."""
        images = mae.normalise(filled(squares, self.room.size), self.device)
        draws = torch.from_numpy(filled(noise, self.room.size)).to(self.device)
        with inference(self.config.precision):
            errors = self.model.errors(images, draws).double()
            vectors = normalize(self.model.encode(images)[:, 1:].mean(1), dim=-1)
        count = len(squares)
        return first(errors.mean(1).float(), count), first(vectors.half(), count)


@schema.stage(reads=schema.PATCH, writes=schema.SCORED)
class ScoreContrast:
    """Give every patch SimCLR's loss as its difficulty, an embedding and the mark of the scorer; rows without a patch get nulls.

    The embedding is the encoder's pooled features of the whole patch, undistorted and stretched to the model's square input, scaled to
    length one. What is refused is what ScoreDifficulty refuses.
    """

    def __init__(self, config: DifficultyConfig, model: simclr.SimCLR | None = None) -> None:
        self.config = config
        self.device = devices.kind()
        self.model = (model or load_contrast(config)).to(self.device).eval()
        if self.model.config != config.simclr:
            raise ValueError(f"the scorer's model is {self.model.config!r}, expected difficulty.simclr={config.simclr!r}")
        self.scorer, self.width = contrast_id(self.model, config), self.model.width
        self.room = Room(config.batch, "patches")

    def __call__(self, patches: pa.Table) -> pa.Table:
        return scored(patches, self)

    def score(self, ids: list[str], jpegs: list[bytes], whole: list[Pictures]) -> Scores:
        """Difficulty and embedding of at most `batch` patches."""
        side, seed, draws = self.config.simclr.side, self.config.seed, range(self.config.draws)
        squares = np.stack([square(picture, side) for picture in whole])
        pairs = [np.stack([views.pair(one, side, seed, name, draw) for name, one in zip(ids, whole, strict=True)]) for draw in draws]
        keys = np.array([simclr.key(jpeg) for jpeg in jpegs], np.int64)
        return self.measured(squares, pairs, keys)

    def measured(self, squares: Pictures, pairs: list[NDArray[np.uint8]], keys: NDArray[np.int64]) -> Scores:
        """Two forward passes per draw and one without distortion; each of `pairs` is (B, 2, S, S, 3)."""
        known = torch.from_numpy(filled(keys, self.room.size)).to(self.device)
        with inference(self.config.precision):
            losses = [self.model.contrast(self.seen(pair[:, 0]), self.seen(pair[:, 1]), known) for pair in pairs]
            vectors = normalize(self.model.encode(self.seen(squares)), dim=-1)
        count = len(squares)
        return first(torch.stack(losses).mean(0).float(), count), first(vectors.half(), count)

    def seen(self, images: Pictures) -> Tensor:
        """Pictures as they are shown to SimCLR: (B, 3, side, side) on the device, filled up to the room's size."""
        return mae.normalise(filled(images, self.room.size), self.device)


@schema.stage(reads=schema.STORED, writes=schema.SCORES)
class ScoreAgain:
    """Score stored patches by another checkpoint; refused is what ScoreDifficulty and ScoreContrast refuse."""

    def __init__(self, config: DifficultyConfig) -> None:
        self.work = ScoreContrast(config) if config.scorer == "simclr" else ScoreDifficulty(config)

    def __call__(self, patches: pa.Table) -> pa.Table:
        difficulty, embedding, _ = scores_of(patches["patch_id"].to_pylist(), patches["pixels"].to_pylist(), self.work)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel()), self.work.width)
        return pa.table([patches["patch_id"], difficulty, vectors], schema=schema.scores_table(self.work.width))


@schema.stage(reads=schema.FRAME, writes=schema.SCORED)
class PassVerdicts:
    """Carry the verdicts on rejected frames and videos to the store without a scorer; ValueError for a frame that was kept."""

    def __init__(self, width: int) -> None:
        self.embedding = pa.list_(pa.float16(), width)

    def __call__(self, frames: pa.Table) -> pa.Table:
        if frames["image"].null_count < len(frames):
            raise ValueError("a frame passed the gate: it needs patches and a scorer")
        made = frames.drop_columns(["image"])
        for field in [field for field in schema.SCORED if field.name not in made.column_names]:
            made = made.append_column(field.name, pa.nulls(len(made), self.embedding if field.name == "embedding" else field.type))
        return made


def load_scorer(config: DifficultyConfig) -> mae.MAE:
    """The masked autoencoder that scores; ValueError where difficulty.checkpoint is empty."""
    if not config.checkpoint:
        raise ValueError("difficulty.checkpoint is empty: run the job probe first, or give the path of a MAE checkpoint")
    return mae.load(config.checkpoint, config.mae)


def load_contrast(config: DifficultyConfig) -> simclr.SimCLR:
    """The SimCLR that scores, with its bank; ValueError where difficulty.checkpoint is empty or the bank is."""
    if not config.checkpoint:
        raise ValueError("difficulty.checkpoint is empty: run the job probe with difficulty.scorer=simclr first")
    model = simclr.load(config.checkpoint, config.simclr)
    if not len(model.keys):
        raise ValueError(f"the checkpoint {config.checkpoint} holds an empty bank, expected pictures that a loss can be measured against")
    return model


def scored(patches: pa.Table, work: "ScoreDifficulty | ScoreContrast") -> pa.Table:
    """The table with the columns of a score; ValueError names a patch whose score is not finite."""
    there = patches["patch_id"].is_valid()
    ids, pixels = (patches[name].filter(there).to_pylist() for name in ("patch_id", "pixels"))
    return with_scores(patches, there.to_numpy(), scores_of(ids, pixels, work), work.scorer)


def scores_of(ids: list[str], pixels: list[bytes | None], work: "ScoreDifficulty | ScoreContrast") -> tuple[*Scores, appearance.Numbers]:
    """Difficulties, embeddings and what is seen of patches, made as far as there is room at a time.

    ValueError where a score is not finite.
    """
    scores = [(np.zeros(0, np.float32), np.zeros((0, work.width), np.float16), appearance.rows([]))]
    scores += work.room.over(len(ids), lambda part: looked_at(ids[part], pixels[part], work.score))
    difficulty, embedding, seen = (np.concatenate(part) for part in zip(*scores, strict=True))
    for name, loss, vector in zip(ids, difficulty, embedding, strict=True):
        if not np.isfinite(loss) or not np.isfinite(vector).all():
            raise ValueError(f"patch {name} got the difficulty {loss} from scorer {work.scorer}, expected finite scores")
    return difficulty, embedding, seen


def looked_at(ids: list[str], pixels: list[bytes | None], score: Score) -> tuple[*Scores, appearance.Numbers]:
    """The scores of some patches, and what they show: each is decoded once."""
    whole = [pictures.patch(name, jpeg) for name, jpeg in zip(ids, pixels, strict=True)]
    return *score(ids, [jpeg or b"" for jpeg in pixels], whole), appearance.rows(map(appearance.measure, whole))


def scale(config: DifficultyConfig) -> str:
    """What difficulties are measured in: those of two scales are not averaged."""
    error = "squared error of normalised tokens" if config.mae.norm_pix else REBUILT
    return "contrastive loss" if config.scorer == "simclr" else error


def rebuilds(config: DifficultyConfig) -> bool:
    """Whether that is the error of a rebuilt picture in the units of its variance, so that the one can be divided by the other."""
    return scale(config) == REBUILT


def scorer_of(config: DifficultyConfig) -> str:
    """The mark of the scorer in a checkpoint, after the kind of its model."""
    if config.scorer == "simclr":
        return f"simclr-{config.simclr.encoder}-{contrast_id(load_contrast(config), config)}"
    return f"mae-{config.mae.size}-{scorer_id(load_scorer(config), config)}"


def scorer_id(model: mae.MAE, config: DifficultyConfig) -> str:
    """Twelve hex digits over all that a score depends on: weights, model settings, masks and the rule of resizing."""
    return marked(mae.fingerprint(model), config)


def marked(weights: str, config: DifficultyConfig, rule: str = "") -> str:
    """The same of weights and model settings whose fingerprint is known; of `config` the draws, the seed and the precision count.

    `rule` is VIEWED for a contrastive model.
    """
    settings = f"{weights} draws={config.draws} seed={config.seed} {config.precision} {pictures.RESIZED}{rule}"
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


def contrast_id(model: simclr.SimCLR, config: DifficultyConfig) -> str:
    """The same for a contrastive model, whose bank is among its weights."""
    return marked(simclr.fingerprint(model), config, VIEWED)


def masks_of(patch_id: str, seed: int, draws: int, tokens: int) -> NDArray[np.float32]:
    """The noise (draws, L) whose order says which tokens are removed: a hash of seed, draw and patch_id, and of nothing else.

    A hash of any length instead of a generator, because its bits are the same in every version of every library; and ranks
    instead of numbers between 0 and 1, because no two of them are equal.
    """
    streams = [hashlib.shake_256(f"{seed}:{draw}:{patch_id}".encode()).digest(8 * tokens) for draw in range(draws)]
    numbers = np.stack([np.frombuffer(stream, "<u8") for stream in streams])
    ranks = numbers.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return (ranks / tokens).astype(np.float32)


def colours_of(patch_id: str, jpeg: bytes | None, config: DifficultyConfig) -> NDArray[np.float64]:
    """What tells the error of any one colour on a patch, over the very pixels whose rebuilding is its difficulty: (4,).

    The mean of each channel, then the mean of all squares, in normalised pixels at the model's size, over the tokens that each draw
    removes: for a colour m (3,) the error is the last number less 2 mean(m * the first three) plus mean(m * m).
    """
    side, token, visible = config.mae.side, config.mae.token, config.mae.visible
    pixels = (square(pictures.patch(patch_id, jpeg), side) / 255 - pictures.MEAN) / pictures.STD
    tokens = pixels.reshape(side // token, token, side // token, token, 3).swapaxes(1, 2).reshape(-1, token**2, 3)
    noise = masks_of(patch_id, config.seed, config.draws, len(tokens))
    removed = noise.argsort(axis=1, kind="stable")[:, visible:].ravel()
    means, squares = tokens.mean(axis=1)[removed].mean(axis=0), (tokens**2).mean(axis=(1, 2))[removed].mean()
    return np.append(means, squares)


def first(rows: Tensor, count: int) -> NDArray[Any]:
    """The first rows, in the memory of the processor. (N, ...) to (count, ...)."""
    return rows[:count].cpu().numpy()


def with_scores(patches: pa.Table, there: NDArray[np.bool_], found: tuple[*Scores, appearance.Numbers], scorer: str) -> pa.Table:
    """The table with the columns of a score; what was `found` belongs to the rows that are `there`, in order. `there` (N,) of N patches."""
    difficulty, embedding, seen = (spread(rows, there) for rows in found)
    absent, columns = ~there, {name: patches[name] for name in patches.column_names}
    columns["difficulty"] = pa.array(difficulty, mask=absent)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel()), embedding.shape[1], mask=pa.array(absent))
    columns["scorer"] = pa.array([scorer if row else None for row in there], pa.string())
    columns["appearance"] = appearance.column(seen, absent)
    fields = [pa.field(field.name, columns[field.name].type, field.nullable) for field in schema.SCORED]
    return pa.Table.from_arrays([columns[field.name] for field in fields], schema=pa.schema(fields))


def spread(rows: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[Any]:
    """The rows at the places that are `there`, zeros between them. (n, ...) to (N, ...) by `there` (N,)."""
    wide = np.zeros((len(there), *rows.shape[1:]), rows.dtype)
    wide[there] = rows
    return wide
