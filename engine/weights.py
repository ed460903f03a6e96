"""The weights of a masked autoencoder as files of three origins: ours, the official ones, Hugging Face's; those of SimCLR are ours.

Everything comes out under the official names of facebookresearch/mae; `mae.load` or `simclr.load` makes a model of it.
"""

import argparse
import hashlib
import json
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import fsspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from engine import files
from engine.models import Section

State = dict[str, Tensor]

# What the two readers were seen to raise on damaged files and on files of another kind.
UNREADABLE = (safetensors.SafetensorError, pickle.UnpicklingError, struct.error, RuntimeError, EOFError, LookupError, ValueError)

# Hugging Face's ViTMAE names, old and new, as patterns, and what the official weights call them; applied in this order.
OFFICIAL_NAMES = {
    r"^(vit\.)?embeddings\.position_embeddings": "pos_embed",
    r"^(vit\.)?embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    r"^(vit\.)?embeddings\.": "",
    r"^(vit\.)?(encoder\.layer|layers)\.": "blocks.",
    r"^(vit\.)?layernorm\.": "norm.",
    r"^decoder\.decoder_(encoder\.layer|layers)\.": "decoder_blocks.",
    r"^decoder\.": "",
    r"attention\.(attention\.query|q_proj)": "attn.q",
    r"attention\.(attention\.key|k_proj)": "attn.k",
    r"attention\.(attention\.value|v_proj)": "attn.v",
    r"attention\.(output\.dense|o_proj)": "attn.proj",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"intermediate\.dense": "mlp.fc1",
    r"(?<!attention\.)output\.dense": "mlp.fc2",
}


class DamagedError(ValueError):
    """A file of weights, or of what goes with them, that cannot be read or holds what are no numbers."""


def read(path: str, kind: str = "mae") -> tuple[State, dict[str, object]]:
    """Weights under their official names, and the knobs that the file tells: all of ours if it is of this `kind`, Hugging Face's heads."""
    file = fetched(path) if "://" in path else weights_file(Path(path))
    state, told = tensors(file, path, kind)
    if any("layernorm_before" in name for name in state):
        return official(state), heads(file.with_name("config.json"))
    return state, told


def fetched(uri: str) -> Path:
    """A copy of a file in a bucket, kept until the process ends. FileNotFoundError where there is none."""
    try:
        return Path(fsspec.open_local(f"simplecache::{uri}"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no checkpoint at {uri}") from error


def weights_file(path: Path) -> Path:
    """The file itself, or the one inside a Hugging Face folder; FileNotFoundError where there is none."""
    inside = [path / name for name in ("model.safetensors", "pytorch_model.bin")] if path.is_dir() else [path]
    for file in inside:
        if file.is_file():
            return file
    said = ": the folder holds neither model.safetensors nor pytorch_model.bin" if path.is_dir() else ""
    raise FileNotFoundError(f"no checkpoint at {path}{said}")


def tensors(file: Path, path: str, kind: str) -> tuple[State, dict[str, object]]:
    """Weights of a safetensors or a torch file, told apart by content, and our knobs where it has them; none of its code is run.

    DamagedError for a file that cannot be read, ValueError for one that holds something else.
    """
    with file.open("rb") as stream:
        is_safetensors = stream.read(9)[8:] == b"{"
    try:
        if is_safetensors:
            with safetensors.safe_open(file, "pt") as stored:
                state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                return state, json.loads((stored.metadata() or {}).get(kind, "{}"))
        content = unpickled(file)
    except UNREADABLE as error:
        raise DamagedError(f"the checkpoint {path} cannot be read, expected safetensors or torch weights") from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not is_state(state):
        raise ValueError(f"the checkpoint {path} holds something else than weights, expected names and tensors")
    return state, {}


def unpickled(file: Path) -> Any:
    """What torch wrote to a file, on the CPU; DamagedError for what cannot be read, or is more than tensors and plain values.

    None of its code is run.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # official training checkpoints carry their arguments
            return torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise DamagedError(f"{file} cannot be read, or holds more than torch weights, so it is not loaded") from error


def is_state(content: Any) -> TypeGuard[State]:
    """Whether it is weights by their names."""
    return isinstance(content, dict) and all(isinstance(weight, Tensor) for weight in content.values())


def heads(file: Path) -> dict[str, object]:
    """The numbers of heads, which weights do not tell, from a ViTMAE config.json; it leaves out what is Hugging Face's default."""
    if not file.exists():
        return {}
    stored = json.loads(file.read_text())
    return {"heads": stored.get("num_attention_heads", 12), "decoder_heads": stored.get("decoder_num_attention_heads", 16)}


def official(state: State) -> State:
    """Hugging Face's weights under the official names, with query, key and value in one matrix again."""
    renamed = {}
    for name, weight in state.items():
        for pattern, replacement in OFFICIAL_NAMES.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = weight
    for name in [name for name in renamed if ".attn.q." in name]:
        parts = [renamed.pop(name.replace(".q.", f".{part}."), None) for part in "qkv"]
        renamed[name.replace(".q.", ".qkv.")] = torch.cat([part for part in parts if part is not None])
    return renamed


def same(found: Mapping[str, object], expected: Mapping[str, object], path: str) -> None:
    """ValueError that names, in one sentence, everything found that is not as expected."""
    wrong = [f"{name}={found[name]}, expected {expected.get(name)}" for name in found if found[name] != expected.get(name)]
    if wrong:
        raise ValueError(f"the checkpoint {path} is of another model: {'; '.join(wrong)}")


def fits(state: State, expected: State, path: str) -> None:
    """ValueError, in one sentence, unless names and shapes are the expected ones."""
    if not any(name.startswith("decoder_") for name in state):
        raise ValueError(f"the checkpoint {path} holds no decoder, expected encoder and decoder: without one no pixels are rebuilt")
    same(architecture(state), architecture(expected), path)
    complete(state, expected, path)


def complete(state: State, expected: State, path: str) -> None:
    """ValueError, in one sentence, unless these are the expected names with the expected shapes, no more and no less.

    DamagedError where a value is not finite.
    """
    for names, fault in ((expected.keys() - state.keys(), "lacks"), (state.keys() - expected.keys(), "holds the unexpected")):
        if names:
            raise ValueError(f"the checkpoint {path} {fault} {', '.join(sorted(names)[:3])} ({len(names)} weights in all)")
    for name, weight in expected.items():
        if state[name].shape != weight.shape:
            raise ValueError(f"the checkpoint {path} holds {name} of shape {tuple(state[name].shape)}, expected {tuple(weight.shape)}")
        if not state[name].to(weight.dtype).isfinite().all():  # one of double precision may hold more than ours can
            raise DamagedError(
                f"the checkpoint {path} holds {name} with values that are no finite numbers, expected a training that converged"
            )


def save(model: nn.Module, kind: str, config: Section, uri: str) -> None:
    """Write weights and knobs as safetensors to a path or address, whole or not at all: a crash leaves the file that was there before."""
    files.put(safetensors.torch.save(separate(model.state_dict()), {kind: knobs_of(config)}), uri)


def separate(state: Mapping[str, Tensor]) -> State:
    """The weights on the CPU, none in the memory of another, as safetensors wants them: what a model has twice is written twice."""
    found, taken = State(), set[int]()
    for name, weight in state.items():
        own = weight.detach().cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        found[name] = own.clone() if memory in taken else own
        taken.add(memory)
    return found


def knobs_of(config: Section) -> str:
    """The knobs of a model as its file tells them."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=True)


def fingerprint(state: State, settings: str) -> str:
    """Twelve hex digits that change when any weight or setting does."""
    digest = hashlib.sha256(settings.encode())
    for name, weight in sorted(state.items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        exact = weight.detach().cpu()
        digest.update((exact.float() if exact.is_floating_point() else exact).contiguous().numpy().data)
    return digest.hexdigest()[:12]


def architecture(state: State) -> dict[str, int]:
    """What the shapes tell of a model; 0 where a weight is missing."""

    def length(name: str, axis: int) -> int:
        return (0, 0, *state[name].shape)[axis] if name in state else 0

    def depth(stem: str) -> int:
        return len({name.split(".")[1] for name in state if name.startswith(stem)})

    return {
        "width": length("cls_token", -1),
        "depth": depth("blocks."),
        "token": length("patch_embed.proj.weight", -1),
        "positions": length("pos_embed", -2),
        "decoder_width": length("mask_token", -1),
        "decoder_depth": depth("decoder_blocks."),
    }
