"""Names and values as MLflow can hold and show them."""

import unicodedata
from collections.abc import Iterable

from fmbseg.store.names import printable

_LONGEST = 200
"""MLflow takes 250 characters, a few of which go before the name."""


def metric_names(names: Iterable[str]) -> dict[str, str]:
    """Each name in the characters that a metric's name may have; no two become one.

    Upper and lower case count as one, as they do in some databases. A name that can stay as it is
    keeps its place before one that would become it.
    """
    wanted = {name: _allowed(name) for name in names}
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(wanted, key=lambda one: one != wanted[one]):
        found[name], number = wanted[name], 2
        while found[name].casefold() in taken:
            found[name], number = f"{wanted[name]}-{number}", number + 1
        taken.add(found[name].casefold())
    return {name: found[name] for name in wanted}


def shown(value: object, longest: int) -> str:
    """A value on one line, without characters that break or turn a line, cut to a length."""
    return printable(str(value))[:longest]


def _allowed(name: str) -> str:
    kept = unicodedata.normalize("NFC", name)
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in kept)[:_LONGEST]
