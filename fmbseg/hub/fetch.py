"""Fetch a published model into the Hugging Face cache, or find it there."""

import logging
import os
import re
from pathlib import Path

from fmbseg.hub.files import CONFIG, MAX_BYTES, MODEL
from fmbseg.hub.names import HubError, HubName
from fmbseg.models.weights import offline_flags
from fmbseg.store import write_bytes

_log = logging.getLogger(__name__)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetched(name: HubName, endpoint: str | None = None) -> Path:
    """The folder of the cache that holds a published model, after fetching what is missing.

    Only config.json and model.safetensors are fetched, both of one commit. Without a network, or
    where a flag such as HF_HUB_OFFLINE forbids one, what was fetched before serves.

    Args:
        name: of the repository; a revision that is no commit is looked up each time.
        endpoint: address of the hub; None for that of HF_ENDPOINT, or the client's own.

    Raises:
        HubError: it is not here and cannot be fetched, lacks a file, or a file is too large.
    """
    endpoint = endpoint or os.environ.get("HF_ENDPOINT") or None
    flags = offline_flags()
    if flags:
        kept = _kept(name)
        if kept is None:
            raise HubError(
                f"{name} is not in this machine's cache, and {flags[0]} is set in this shell, so "
                f"it was not fetched; unset it: env -u {' -u '.join(flags)} ..."
            )
        return kept
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi(endpoint=endpoint, library_name="fmbseg")
        found = api.model_info(name.repo, revision=name.revision, files_metadata=True, timeout=30)
    except Exception as error:  # whatever the network or the hub's client raises
        kept = None if isinstance(error, HfHubHTTPError) else _kept(name)
        if kept is None:
            raise HubError(f"{name}: not fetched; {said_of(error)}") from None
        _log.warning("%s: the hub does not answer (%s); using %s", name, said_of(error), kept)
        return kept
    _require_files(name, {one.rfilename: one.size for one in found.siblings or ()})
    commit = str(found.sha)
    if not _COMMIT.fullmatch(commit):
        raise HubError(f"{name}: the hub names the commit {commit[:80]!r}; wanted 40 digits")
    try:
        paths = [
            Path(hf_hub_download(
                name.repo, file, revision=commit, endpoint=endpoint, library_name="fmbseg"
            ))
            for file in MAX_BYTES
        ]  # fmt: skip
    except Exception as error:
        raise HubError(f"{name}: not fetched; {said_of(error)}") from None
    _remember(name, commit)
    return paths[0].parent


def _require_files(name: HubName, sizes: dict[str, int | None]) -> None:
    for file, limit in MAX_BYTES.items():
        if file not in sizes:
            raise HubError(f"{name}: found no {file}; wanted a model that fmbseg push-to-hub sent")
        size = sizes[file]
        if size is None or size > limit:
            found = "no size" if size is None else f"{size:,} bytes"
            raise HubError(f"{name}: {file}: found {found}; wanted at most {limit:,} bytes")


def _kept(name: HubName) -> Path | None:
    """The folder of the cache that holds both files."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(name.repo, CONFIG, revision=name.revision)
    if not isinstance(found, str) or not (Path(found).parent / MODEL).is_file():
        return None
    return Path(found).parent


def _remember(name: HubName, commit: str) -> None:
    """Note which commit a branch or tag stood for, so that it is found without a network."""
    import huggingface_hub

    revision = name.revision or "main"
    if revision != commit:
        cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
        folder = cache / f"models--{name.repo.replace('/', '--')}"
        write_bytes(folder / "refs" / revision, commit.encode())


def said_of(error: Exception) -> str:
    """The first line of what the client says, with the kind of error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:200]}"
