"""What is scored and under which rules: the section `evaluate` of params.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from fmbseg.methods.table import METHODS
from fmbseg.section import Positive, Section


def _known_method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(f"wanted one of {', '.join(METHODS)}")
    return name


MethodName = Annotated[
    str, AfterValidator(_known_method), WithJsonSchema({"type": "string", "enum": list(METHODS)})
]
"""A name in `fmbseg.methods.table.METHODS`."""


class EvaluateParams(Section):
    """Methods and the protocol their figures belong to."""

    methods: Annotated[tuple[MethodName, ...], Field(min_length=1)]
    """what is scored: names in fmbseg/methods/table.py"""
    data_sets: Annotated[tuple[Annotated[str, Field(pattern=r"^\w+$")], ...], Field(min_length=1)]
    """home: the data at hand; miniature_things, ... (5 views); voc21, ade150, ...
    (docs/benchmarks.md)"""
    split: Literal["val", "test"]
    """miniature: val to choose settings, test for figures"""
    view_images: Positive
    """images of a view of the miniature"""
    protocol: Literal["whole", "tcl", "sclip", "sclip_stuff", "sclip_city"]
    """whole | tcl | sclip | sclip_stuff | sclip_city (docs/benchmarks.md)"""
    templates: Literal["protocol", "model"]
    """protocol: its own; model: models.template, as in training; auto: model with the profile
    paper, else protocol (whole always takes models.template)"""
    background: Literal["protocol", "ignore", "stuff_names"]
    """of data sets that have one: protocol | ignore | stuff_names"""
    synonyms: Literal["protocol", "none", "mean", "max"]
    """of class files: protocol | none | mean (of their text features) | max (the best name
    counts)"""
    examples: Annotated[int, Field(ge=0)]
    """pictures kept of each evaluation: the worst half and the best half"""
