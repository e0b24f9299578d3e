"""A lot that every name draws for itself, so that others may come and go."""

import hashlib


def lot(name: str, seed: int) -> float:
    """A number from 0 up to, not including, 1 that follows from a name and a seed alone.

    Names whose lot lies below a share make up that share on average, and a larger share only adds
    names to it.
    """
    digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
