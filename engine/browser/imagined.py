"""What the scorer makes of a patch: what it is shown of it, and what it rebuilds from that.

Torch and the model are loaded when the first patch is asked for. The mask is the first of those that the score was measured with.
"""

from functools import cached_property

import torch

from engine import difficulty, mae, pictures, weights
from engine.browser import sheets
from engine.config import DifficultyConfig
from engine.files import unreadable
from engine.inference import inference
from engine.models import MAEConfig
from engine.objectives import pictured
from engine.store import PatchStore
from engine.store.trainings import listed

QUALITY = 92  # of the JPEG


class Scorers:
    """The masked autoencoders that lie in a store, by the mark that the patches have which they scored."""

    def __init__(self, store: PatchStore, config: DifficultyConfig) -> None:
        self.store, self.config = store, config

    @cached_property
    def models(self) -> dict[str, mae.MAE]:
        """Those that can be read; others, as SimCLR's, are left out."""
        places = [self.store.address(path) for path in listed(self.store, "scorers") if path.endswith(".safetensors")]
        if self.config.checkpoint:
            places.append(self.config.checkpoint)
        found = {}
        strange: tuple[type[BaseException], ...] = (ValueError, *unreadable())
        for place in places:
            try:
                model = self.opened(place)
            except strange:
                continue  # no masked autoencoder of ours
            found[difficulty.scorer_id(model, self.config)] = model.eval()
        return found

    def opened(self, place: str) -> mae.MAE:
        """The model in a file with the knobs that the file tells, else with those set. ValueError where it holds no such model."""
        told = weights.read(place)[1]
        return mae.load(place, MAEConfig.model_validate(told) if told else self.config.mae)

    def sheet(self, patch_id: str) -> bytes:
        """The patch as the scorer sees it, what is left of it unmasked, and what is rebuilt, side by side as JPEG.

        LookupError, in one sentence, where the patch or its scorer is not there.
        """
        row = sheets.one(self.store, patch_id, ["scorer", "pixels"])
        model = self.models.get(row["scorer"])
        if model is None:
            raise LookupError(f"the scorer {row['scorer']} of this patch lies not in the store, or is no masked autoencoder")
        config = model.config
        images = mae.normalise(pictures.square(pictures.decode(row["pixels"]), config.side)[None])
        noise = torch.from_numpy(difficulty.masks_of(patch_id, self.config.seed, 1, config.tokens))
        with inference("float32"):
            return pictures.encode(pictured(model, config, images, noise)[0], QUALITY)
