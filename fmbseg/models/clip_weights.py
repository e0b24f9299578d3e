"""Where the weights of an open_clip name lie, and whether they fit the name."""

import zipfile
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from fmbseg.models.weights import (
    MINIATURE_FOLDER,
    MissingWeightsError,
    fetch_hub_file,
    fetch_url_file,
    find_hub_file,
)

_HUB_FILES: tuple[str, ...] = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_PLACE = (
    "set models.clip.pretrained to the file's path, or copy the Hugging Face cache of a machine "
    "that has it"
)


def clip_folder(name: str, cache_dir: Path | None = None) -> Path | None:
    """The folder that a name stands for, or None for a name of open_clip's own list.

    Raises:
        MissingWeightsError: the folder lacks its config or weights.
    """
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:")
        fetch_hub_file(name, repo, _HUB_FILES, _PLACE, cache_dir)
        config = fetch_hub_file(name, repo, ("open_clip_config.json",), _PLACE, cache_dir)
        return config.parent
    if name == "miniature":
        folder, source = MINIATURE_FOLDER / "clip", "the fmbseg package itself; reinstall it"
    elif name.startswith("local-dir:"):
        folder, source = Path(name.removeprefix("local-dir:")), "that folder"
    else:
        return None
    if not (folder / "open_clip_config.json").is_file() or _folder_weights(folder) is None:
        place = f"put open_clip_config.json and open_clip_model.safetensors into {folder}"
        raise MissingWeightsError(f"CLIP {name}", source, place)
    return folder


def check_clip_name(name: str, tag: str | None) -> dict[str, Any] | None:
    """Check a name of open_clip's list and its weights' tag; return what open_clip knows of it.

    Returns:
        The tag's entry; None when `tag` is None or a file.

    Raises:
        ValueError: unknown name or tag, or QuickGELU mismatch.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        raise ValueError(
            f"models.clip.name: found {name!r}, wanted miniature, local-dir:<folder> or a name of "
            "open_clip.list_models()"
        )
    if tag is None:
        return None
    base = name.removesuffix("-quickgelu")
    entry = get_pretrained_cfg(name, tag) or get_pretrained_cfg(base, tag)
    quick = bool(config.get("quick_gelu", False))
    if entry:
        trained_quick = bool(entry.get("quick_gelu", False))
    elif Path(tag).is_file():
        trained_quick = True if is_torchscript(Path(tag)) else quick
    else:
        tags = ", ".join(list_pretrained_tags_by_model(name)) or "none"
        raise ValueError(
            f"models.clip.pretrained: found {tag!r}, which is neither a file nor a tag of {name} "
            f"({tags})"
        )
    if trained_quick != quick:
        words = {True: "with", False: "without"}
        raise ValueError(
            f"models.clip: QuickGELU mismatch; {tag!r} was trained {words[trained_quick]} it and "
            f"{name} is built {words[quick]} it; use name {base}{'-quickgelu' * trained_quick}"
        )
    return dict(entry) if entry else None


def find_clip_checkpoint(name: str, tag: str | None, cache_dir: Path | None = None) -> Path | None:
    """The checkpoint of a name of open_clip's list; None for random weights.

    Raises:
        MissingWeightsError: it is not here and may not or cannot be fetched.
        ValueError: see `check_clip_name`.
    """
    entry = check_clip_name(name, tag)
    if tag is None:
        return None
    if entry is None:
        return Path(tag)
    what = f"CLIP {name} ({tag})"
    if entry.get("hf_hub"):
        repo, filenames = _hub_location(entry)
        return fetch_hub_file(what, repo, filenames, _PLACE, cache_dir)
    folder = cache_dir or Path.home() / ".cache" / "clip"
    return fetch_url_file(what, entry["url"], folder, f"put it into {folder}")


def tag_preprocessing(name: str, tag: str | None) -> dict[str, Any]:
    """Mean, std and interpolation a tag's weights were trained with; empty if nothing is known."""
    entry = check_clip_name(name, tag) or {}
    return {key: entry[key] for key in ("mean", "std", "interpolation") if key in entry}


def locate_clip(name: str, tag: str | None, cache_dir: Path | None = None) -> tuple[bool, str]:
    """Whether the weights are here, and where they are or would come from; never downloads."""
    try:
        if name.startswith("hf-hub:"):
            repo, filenames = name.removeprefix("hf-hub:"), _HUB_FILES
        else:
            folder = clip_folder(name, cache_dir)
            if folder is not None:
                return True, str(_folder_weights(folder))
            entry = check_clip_name(name, tag)
            if entry is None:
                return tag is not None, str(tag)
            if not entry.get("hf_hub"):
                path = (cache_dir or Path.home() / ".cache" / "clip") / Path(entry["url"]).name
                return path.is_file(), str(path) if path.is_file() else str(entry["url"])
            repo, filenames = _hub_location(entry)
    except (MissingWeightsError, ValueError) as error:
        return False, str(error)
    found = find_hub_file(repo, filenames, cache_dir)
    return found is not None, str(found or f"https://huggingface.co/{repo}; {_PLACE}")


def is_torchscript(path: Path) -> bool:
    """Whether a checkpoint is an archive of TorchScript, as OpenAI published its CLIP weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(entry).name == "constants.pkl" for entry in archive.namelist())


def _hub_location(entry: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Split open_clip's "owner/name/file" (the file may be left out)."""
    files: tuple[str, ...] = _HUB_FILES
    repo, _, filename = entry["hf_hub"].rpartition("/")
    if filename:
        files = (str(Path(filename).with_suffix(".safetensors")), filename)
    return repo, files


def _folder_weights(folder: Path) -> Path | None:
    """The weights inside a folder, in open_clip's order of preference."""
    files = [folder / name for name in _HUB_FILES if (folder / name).is_file()]
    return files[0] if files else next(iter(sorted(folder.glob("*.safetensors"))), None)
