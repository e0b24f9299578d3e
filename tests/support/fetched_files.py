"""A file to fetch, another of its size, and how tests fetch and look."""

import hashlib
from pathlib import Path

import numpy as np

from fmbseg.fetch import Remote, fetch, http

CONTENT = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
CUT = 400_000
"""Where a connection breaks off, in bytes."""


def get(file: Path, *urls: str, attempts: int = 1, **facts: object):
    """Fetch without a bar, trying so often."""
    http.ATTEMPTS = attempts
    return fetch(Remote(urls, **facts), file)


def names(folder: Path) -> set[str]:
    """What lies in a folder, locks aside."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}
