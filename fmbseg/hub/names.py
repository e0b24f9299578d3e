"""Names of published models: `hf-hub:owner/name`, or `hf-hub:owner/name@revision`."""

import re
from dataclasses import dataclass
from pathlib import Path

PREFIX = "hf-hub:"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPO = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


class HubError(ValueError):
    """A published model cannot be named, sent, fetched or read; the text is one short line."""


@dataclass(frozen=True)
class HubName:
    """A repository on a hub.

    Attributes:
        repo: owner/name.
        revision: branch, tag or commit; None for the main branch.
    """

    repo: str
    revision: str | None = None

    @staticmethod
    def parse(text: str) -> "HubName":
        """Read `hf-hub:owner/name`, with or without `@revision`.

        Raises:
            HubError: it is no such name.
        """
        repo, at, revision = text.removeprefix(PREFIX).partition("@")
        named = HubName(checked_repo(repo), revision if at else None)
        if at and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise HubError(
                f"{PREFIX}{repo}@: found the revision {revision[:80]!r}; wanted a branch, a tag or "
                "a commit"
            )
        return named

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(given: str | Path) -> bool:
    """Whether a model is named by its place on a hub, and not by a folder."""
    return str(given).startswith(PREFIX)


def checked_repo(repo: str) -> str:
    """The name of a repository as it came.

    Raises:
        HubError: it is not owner/name.
    """
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith(".git"):
        raise HubError(
            f"found {repo[:200]!r}; wanted owner/name: letters, digits, single dots and dashes"
        )
    return repo
