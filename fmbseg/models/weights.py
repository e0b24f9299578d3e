"""Where a model's weights may lie, which of them are there, and where they would come from."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

from fmbseg.store.hashes import file_hash, file_sha

OFFLINE_FLAGS = ("FMBSEG_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
MINIATURE_FOLDER = Path(__file__).parents[1] / "miniature" / "weights"


class ModelError(ValueError):
    """A model's name, setting or weights cannot serve; the text is one short line."""


class MissingWeightsError(RuntimeError):
    """A model's weights are not on this machine."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"weights of {what} are not on this machine; {remedy}")
        self.what, self.remedy = what, remedy

    def of_profile(self, profile: str) -> "MissingWeightsError":
        """The same with the profile's name in the command that fetches them."""
        return MissingWeightsError(self.what, self.remedy.replace("PROFILE", profile))


@dataclass(frozen=True)
class Source:
    """Where the weights of one model may lie.

    Attributes:
        what: the model, for messages.
        files: paths to look at, in order of preference.
        hub: owner/name of a Hugging Face repository, whose cache is looked at first.
        hub_files: names in that repository, in order of preference.
        address: where they would come from; empty when they are the user's own.
        md5: published for the file of the last of `files`, hexadecimal.
        sha256: published start of it, for the last of `files`.
        about_bytes: its size to reckon with before it is fetched; 0 where none is known.
        remedy: what to do when nothing is there.
    """

    what: str
    files: tuple[Path, ...] = ()
    hub: str | None = None
    hub_files: tuple[str, ...] = ()
    address: str = ""
    md5: str = ""
    sha256: str = ""
    about_bytes: int = 0
    remedy: str = "fetch them once: fmbseg download --weights PROFILE"

    def find(self) -> Path | None:
        """The file that is used, or None."""
        if self.hub is not None:
            found = find_hub_file(self.hub, self.hub_files)
            if found is not None:
                return found
        return next((path for path in self.files if path.is_file()), None)

    def require(self) -> Path:
        """The file that is used.

        Raises:
            MissingWeightsError: none is there.
        """
        found = self.find()
        if found is None:
            raise MissingWeightsError(self.what, self.remedy)
        return found

    def searched(self) -> list[str]:
        """Every path that is looked at, in that order."""
        folder = Path(huggingface_hub.constants.HF_HUB_CACHE)
        owner = f"models--{(self.hub or '').replace('/', '--')}"
        hub = [str(folder / owner / "snapshots" / "*" / name) for name in self.hub_files]
        return (hub if self.hub else []) + [str(path) for path in self.files]

    def checksum_problem(self, path: Path) -> str | None:
        """What a published checksum says against a file; None when it fits or none is known.

        Files of a Hugging Face cache are named by their SHA-256.
        """
        real = path.resolve()
        published = [("sha256", real.name)] if _is_blob(real) else []
        if self.files and path == self.files[-1]:
            published += [("md5", self.md5), ("sha256", self.sha256)]
        for kind, wanted in published:
            found = file_hash(path, kind) if wanted else ""
            if not found.startswith(wanted):
                return f"{path}: {kind} {found} is not the published {wanted}"
        return None


def _is_blob(path: Path) -> bool:
    return path.parent.name == "blobs" and len(path.name) == 64


def offline_flags() -> list[str]:
    """Names of the environment variables that forbid downloads at this moment."""
    truths = {"1", "true", "yes", "on"}
    return [name for name in OFFLINE_FLAGS if os.environ.get(name, "").lower() in truths]


def named_folder(
    name: str, what: str, miniature: str, files: str, whole: Callable[[Path], bool]
) -> Path | None:
    """The folder that `miniature` or `local-dir:<folder>` stands for; None for any other name.

    Args:
        name: of a model.
        what: the model, for messages.
        miniature: folder of the miniature's model of that kind.
        files: what belongs into a folder, for messages.
        whole: whether a folder holds that.

    Raises:
        MissingWeightsError: it does not.
    """
    if name == "miniature":
        folder = MINIATURE_FOLDER / miniature
        place = "they belong to the package: reinstall fmbseg"
    elif name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        place = f"put {files} into {folder}"
    else:
        return None
    if not whole(folder):
        raise MissingWeightsError(what, place)
    return folder


def hub_checkpoints() -> Path:
    """Torch hub's folder of published files."""
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints"


def find_hub_file(repo: str, filenames: Sequence[str]) -> Path | None:
    """The first of `filenames` that lies in the Hugging Face cache, or None."""
    for filename in filenames:
        found = huggingface_hub.try_to_load_from_cache(repo, filename)
        if isinstance(found, str):
            return Path(found)
    return None


def fetch_hub_file(what: str, repo: str, filenames: Sequence[str]) -> Path:
    """Find a file of a Hugging Face repository, or download it; runs never do.

    Args:
        what: the model, for the message.
        repo: owner/name.
        filenames: in order of preference.

    Raises:
        MissingWeightsError: it is not in the cache, and downloads are forbidden or failed.
    """
    found = find_hub_file(repo, filenames)
    if found is not None:
        return found
    source = f"https://huggingface.co/{repo} ({' or '.join(filenames)})"
    flags = offline_flags()
    if flags:
        why = f"not fetched from {source}, since {flags[0]} is set in this shell"
        raise MissingWeightsError(what, f"{why}; unset it")
    causes = []
    for filename in filenames:
        try:
            return Path(huggingface_hub.hf_hub_download(repo, filename))
        except Exception as error:  # whatever the network or the hub's client raises
            causes.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    raise MissingWeightsError(what, f"{source} does not give them: {causes[-1]}")


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    if path.is_file():
        return file_sha(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {content_sha256(file)}\n".encode())
    return digest.hexdigest()
