"""Where the weights of an open_clip name lie, and whether they fit the name."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from fmbseg.models.clip_config import CONFIG
from fmbseg.models.weights import ModelError, Source, named_folder

HUB_FILES: tuple[str, ...] = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
_WORDS = {True: "with", False: "without"}


def clip_folder(name: str) -> Path | None:
    """The folder that a name stands for, or None for a name of open_clip's own list.

    Raises:
        MissingWeightsError: the folder lacks its config or weights.
    """
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:")
        config = Source(f"CLIP {name}", hub=repo, hub_files=(CONFIG,)).require()
        clip_source(name, None).require()
        return config.parent
    return named_folder(
        name, f"CLIP {name}", "clip", f"{CONFIG} and {HUB_FILES[0]}",
        lambda folder: (folder / CONFIG).is_file() and _folder_weights(folder) is not None,
    )  # fmt: skip


def clip_source(name: str, tag: str | None, quick_gelu: bool | None = None) -> Source:
    """Where a model's weights may lie.

    Raises:
        MissingWeightsError: a folder lacks its files.
        ModelError: see `clip_config_of`.
    """
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:")
        address = f"https://huggingface.co/{repo}"
        return Source(f"CLIP {name}", hub=repo, hub_files=HUB_FILES, address=address)
    folder = clip_folder(name)
    if folder is not None:
        weights = _folder_weights(folder)
        return Source(f"CLIP {name}", () if weights is None else (weights,))
    what = f"CLIP {name} ({tag})"
    entry = clip_config_of(name, tag, quick_gelu)[1]
    if entry is None:
        own = () if tag is None else (Path(tag),)
        return Source(what, own, remedy="set models.clip.pretrained to a file or a tag")
    url = str(entry.get("url", ""))
    files: tuple[Path, ...] = ()
    if url:
        files = (Path.home() / ".cache" / "clip" / url.rsplit("/", 1)[1],)
    if not entry.get("hf_hub"):
        return Source(what, files, address=url, sha256=_published_sha256(url))
    repo, filenames = _hub_location(entry)
    return Source(
        what, files, hub=repo, hub_files=filenames,
        address=f"https://huggingface.co/{repo}", sha256=_published_sha256(url),
    )  # fmt: skip


def clip_config_of(
    name: str, tag: str | None, quick_gelu: bool | None = None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The architecture of a name of open_clip's list, with the activation of its weights.

    Args:
        name: of open_clip's list.
        tag: of open_clip, a file, or None.
        quick_gelu: whether the weights were trained with QuickGELU, which a file of unknown
            origin does not tell; None where a tag, TorchScript or the file's published name does.

    Returns:
        Arguments of `open_clip.CLIP`, and open_clip's entry of the tag; None for a file or None.

    Raises:
        ModelError: unknown name or tag, QuickGELU mismatch, or a file that does not tell.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    config = open_clip.get_model_config(name)
    if config is None:
        raise ModelError(
            f"models.clip.name: found {name!r}, wanted miniature, local-dir:<folder> or a name of "
            "open_clip.list_models()"
        )
    named = bool(config.get("quick_gelu", False))
    base = name.removesuffix("-quickgelu")
    entry = None
    if tag is not None:
        entry = get_pretrained_cfg(name, tag) or get_pretrained_cfg(base, tag) or None
        trained = bool(entry.get("quick_gelu", False)) if entry else _of_file(name, tag)
        if trained is None and quick_gelu is None:
            raise ModelError(
                f"models.clip.pretrained: {tag} does not tell whether it was trained with "
                "QuickGELU; set models.clip.quick_gelu to true (OpenAI, MetaCLIP, DFN) or false "
                "(most of LAION and DataComp)"
            )
        wanted = named if quick_gelu is None else quick_gelu
        if trained is not None and trained != wanted:
            raise ModelError(
                f"models.clip: QuickGELU mismatch; {tag!r} was trained {_WORDS[trained]} it and "
                f"{name} is built {_WORDS[wanted]} it; use name {base}{'-quickgelu' * trained}"
            )
    if quick_gelu is not None:
        config["quick_gelu"] = quick_gelu
    return config, dict(entry) if entry else None


def _of_file(name: str, tag: str) -> bool | None:
    """Whether a file's weights were trained with QuickGELU; None when nothing tells."""
    path = Path(tag)
    if not path.is_file():
        from open_clip.pretrained import list_pretrained_tags_by_model

        tags = ", ".join(list_pretrained_tags_by_model(name)) or "none"
        raise ModelError(
            f"models.clip.pretrained: found {tag!r}, which is neither a file nor a tag of {name} "
            f"({tags})"
        )
    status = path.stat()
    return _activation(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _activation(path: Path, size_bytes: int, modified_ns: int) -> bool | None:
    """The same, once per state of the file."""
    from fmbseg.models.tensor_files import read_weights
    from fmbseg.models.torchscript import is_torchscript, written_with_quick_gelu

    if is_torchscript(path):
        return written_with_quick_gelu(path)
    for known in (path.name, *path.parts):
        if known in _published():
            return _published()[known]
    # OpenAI's own state dict, however it was saved again, holds these three sizes as tensors.
    openai = {"input_resolution", "context_length", "vocab_size"} <= set(read_weights(path, "meta"))
    return True if openai else None


@lru_cache(maxsize=1)
def _published() -> dict[str, bool]:
    """Published file names and folders of the Hugging Face cache to their activation.

    Left out are names that were published with both.
    """
    from open_clip.pretrained import _PRETRAINED

    found: dict[str, set[bool]] = {}
    for entry in (entry for tags in _PRETRAINED.values() for entry in tags.values()):
        url = entry.get("url")
        names = [str(url).rsplit("/", 1)[1]] if url else []
        if entry.get("hf_hub"):
            names.append(f"models--{_hub_location(entry)[0].replace('/', '--')}")
        for name in names:
            found.setdefault(name, set()).add(bool(entry.get("quick_gelu", False)))
    return {name: quick.pop() for name, quick in found.items() if len(quick) == 1}


def _published_sha256(url: str) -> str:
    """The start of a file's SHA-256 that its address holds, as open_clip reads it."""
    if "openaipublic" in url:
        return url.split("/")[-2]
    return Path(url).stem.split("-")[-1] if "mlfoundations" in url else ""


def _hub_location(entry: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Split open_clip's "owner/name/file" (the file may be left out)."""
    files: tuple[str, ...] = HUB_FILES
    repo, _, filename = entry["hf_hub"].rpartition("/")
    if filename:
        files = (str(Path(filename).with_suffix(".safetensors")), filename)
    return repo, files


def _folder_weights(folder: Path) -> Path | None:
    """The weights inside a folder, in open_clip's order of preference."""
    files = [folder / name for name in HUB_FILES if (folder / name).is_file()]
    for suffix in _SUFFIXES:
        files += sorted(path for path in folder.glob(f"*{suffix}") if path.is_file())
    return files[0] if files else None
