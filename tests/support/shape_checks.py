"""Check the library's calls against the shapes and types that its signatures state."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from beartype import BeartypeConf, BeartypeHintOverrides, beartype
from jaxtyping import install_import_hook

_LIBRARY = Path(__file__).parents[2] / "fmbseg"
_SHAPES = r"^from jaxtyping import|^from fmbseg\.types import .*\bImage\b"
_CHECKED = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int is a float
        hint_overrides=BeartypeHintOverrides({Self: object}),  # no class is known while methods are
    )
)


def typechecker(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype, as the import hook applies it to every function."""
    return _CHECKED(function)


def modules_with_shapes() -> list[str]:
    """The library's modules whose signatures state shapes."""
    return [
        ".".join(path.relative_to(_LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(_LIBRARY.rglob("*.py"))
        if re.search(_SHAPES, path.read_text(), re.MULTILINE)
    ]


def install() -> None:
    """Check every call of these modules; before the library is imported."""
    install_import_hook(modules_with_shapes(), f"{__name__}.typechecker")
