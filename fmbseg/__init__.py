"""FMbSeg: images and class names in; pseudo masks and an open-vocabulary segmenter out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmbseg.params import Params, load_params
    from fmbseg.segmenter import Segmenter
    from fmbseg.vocabulary import Vocabulary, read_classes

__all__ = ["Params", "Segmenter", "Vocabulary", "load_params", "read_classes"]

_HOMES = {
    "Params": "fmbseg.params",
    "load_params": "fmbseg.params",
    "Segmenter": "fmbseg.segmenter",
    "Vocabulary": "fmbseg.vocabulary",
    "read_classes": "fmbseg.vocabulary",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import fmbseg` stays light."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'fmbseg' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
