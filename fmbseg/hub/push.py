"""Send a published model's files to a hub: one repository, one commit."""

import os
from dataclasses import dataclass
from pathlib import Path

from fmbseg.hub.fetch import said_of
from fmbseg.hub.files import FILES
from fmbseg.hub.names import HubError
from fmbseg.models.weights import offline_flags


@dataclass(frozen=True)
class Sent:
    """What a push made.

    Attributes:
        url: address of the repository.
        commit: hexadecimal; the newest one where nothing had changed.
        private: whether only its owner sees it, as the hub says afterwards.
    """

    url: str
    commit: str
    private: bool


def require_online() -> None:
    """Refuse to send where a flag of the shell forbids the network.

    Raises:
        HubError: one of them is set; the text says what to unset.
    """
    flags = offline_flags()
    if flags:
        raise HubError(
            f"nothing is sent, since {' and '.join(flags)} is set in this shell (make sets "
            f"HF_HUB_OFFLINE for what it runs); unset it: env -u {' -u '.join(flags)} fmbseg "
            "push-to-hub ... ; --dry-run OUT writes the files without a network"
        )


def require_token() -> str:
    """The token of HF_TOKEN, or of the hub client's own login.

    Raises:
        HubError: there is none.
    """
    import huggingface_hub

    token = os.environ.get("HF_TOKEN") or huggingface_hub.get_token()
    if not token:
        raise HubError("found no token of the hub; set HF_TOKEN to one that may write")
    return token


def endpoint_of(given: str | None) -> str:
    """Address of the hub: as given, that of HF_ENDPOINT, or the client's own.

    Raises:
        HubError: it is no address.
    """
    import huggingface_hub

    url = given or os.environ.get("HF_ENDPOINT") or huggingface_hub.constants.ENDPOINT
    if not url.startswith(("https://", "http://")):
        raise HubError(f"--endpoint: found {url[:200]!r}; wanted https://HOST")
    return url.rstrip("/")


def push(
    folder: Path, repo: str, *, endpoint: str, token: str, private: bool, message: str
) -> Sent:
    """Make the repository where there is none, and commit the folder's files to it.

    Other files of the repository stay. A repository that everybody sees is never written to when
    a private one is asked for.

    Args:
        folder: holds `FILES`.
        repo: owner/name.
        endpoint: address of the hub.
        token: that may write there.
        private: make a new repository private.
        message: of the commit.

    Raises:
        HubError: the hub refuses, does not answer, or the repository is public.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, token=token, library_name="fmbseg")
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        is_private = bool(api.model_info(repo).private)
        if is_private or not private:
            files = [CommitOperationAdd(name, folder / name) for name in FILES]
            made = api.create_commit(repo, files, commit_message=message)
            return Sent(f"{endpoint}/{repo}", made.oid, is_private)
    except Exception as error:  # whatever the network or the hub's client raises
        raise HubError(
            f"{repo}: {endpoint} did not take it: {said_of(error)}{_advice(error)}"
        ) from None
    raise HubError(
        f"{repo}: found a repository that everybody sees, and --private was given; nothing was "
        "sent; make it private there first, or name another one"
    )


def _advice(error: Exception) -> str:
    if "xet" in f"{type(error).__module__} {error}".lower():
        return "; a hub without xet storage wants HF_HUB_DISABLE_XET=1"
    return ""
