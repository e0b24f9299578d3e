"""Finding weight files: on this machine first, and over the network only when it is allowed."""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import huggingface_hub
import torch
from safetensors.torch import load_file
from torch import Tensor

OFFLINE_FLAGS = ("FMBSEG_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
MINIATURE_FOLDER = Path(__file__).parents[1] / "miniature" / "weights"


class MissingWeightsError(RuntimeError):
    """A model's weights are not on this machine and were not fetched."""

    def __init__(self, what: str, source: str, place: str, cause: str = "") -> None:
        flags = offline_flags()
        why = f"offline ({', '.join(flags)} set)" if flags else "not offline"
        super().__init__(
            f"weights of {what} are missing; {why}{': ' + cause if cause else ''}. "
            f"They would come from {source}. By hand: {place}"
        )


def offline_flags() -> list[str]:
    """Names of the environment variables that forbid downloads at this moment."""
    truths = {"1", "true", "yes", "on"}
    return [name for name in OFFLINE_FLAGS if os.environ.get(name, "").lower() in truths]


def find_hub_file(
    repo: str, filenames: Sequence[str], cache_dir: Path | None = None
) -> Path | None:
    """The first of `filenames` that lies in the Hugging Face cache, or None."""
    for filename in filenames:
        found = huggingface_hub.try_to_load_from_cache(repo, filename, cache_dir=cache_dir)
        if isinstance(found, str):
            return Path(found)
    return None


def fetch_hub_file(
    what: str, repo: str, filenames: Sequence[str], place: str, cache_dir: Path | None = None
) -> Path:
    """Find a file of a Hugging Face repository, or download it.

    Args:
        what: the model, for the message.
        repo: owner/name.
        filenames: in order of preference.
        place: what the user can do by hand, for the message.
        cache_dir: of the Hugging Face cache; None is its default.

    Raises:
        MissingWeightsError: it is not in the cache, and downloads are forbidden or failed.
    """
    found = find_hub_file(repo, filenames, cache_dir)
    if found is not None:
        return found
    source = f"https://huggingface.co/{repo} ({' or '.join(filenames)})"
    cause = ""
    if not offline_flags():
        for filename in filenames:
            try:
                return Path(huggingface_hub.hf_hub_download(repo, filename, cache_dir=cache_dir))
            except Exception as error:  # whatever the network or the hub's client raises
                cause = f"{type(error).__name__}: {error}"
    raise MissingWeightsError(what, source, place, cause)


def fetch_url_file(what: str, url: str, folder: Path, place: str) -> Path:
    """Find the file of a URL in a folder, or download it there.

    Raises:
        MissingWeightsError: it is not in the folder, and downloads are forbidden or failed.
    """
    path = folder / url.rsplit("/", 1)[1]
    if path.is_file():
        return path
    cause = ""
    if not offline_flags():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
            return path
        except (OSError, RuntimeError) as error:
            cause = f"{type(error).__name__}: {error}"
    raise MissingWeightsError(what, url, place, cause)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Load a state dict from safetensors, or from a torch file without running its code."""
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    state = torch.load(path, map_location="cpu", weights_only=True)
    return dict(state.get("state_dict", state.get("model", state)))


def load_all_weights(
    model: torch.nn.Module,
    state: dict[str, Tensor],
    what: str,
    ignorable: Callable[[str], bool] = lambda key: False,
) -> None:
    """Load a state dict and refuse one that leaves a part of the model at random values.

    Raises:
        ValueError: keys are missing or unexpected (but for ignorable ones), or shapes differ.
    """
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{what}: the weights do not fit the architecture; {error}") from error
    missing = [key for key in result.missing_keys if not ignorable(key)]
    unexpected = [key for key in result.unexpected_keys if not ignorable(key)]
    if missing or unexpected:
        raise ValueError(
            f"{what}: the weights do not fit the architecture; missing {missing[:3]} "
            f"({len(missing)} keys), unexpected {unexpected[:3]} ({len(unexpected)} keys)"
        )


def content_sha256(path: Path) -> str:
    """Sha256 of a file, or of all files of a folder with their names."""
    if path.is_file():
        status = path.stat()
        return _file_sha256(path, status.st_size, status.st_mtime_ns)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {content_sha256(file)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _file_sha256(path: Path, size_bytes: int, modified_ns: int) -> str:
    """Hash once per state of the file; size and time are part of the cache's key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
