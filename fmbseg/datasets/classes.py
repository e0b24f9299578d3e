"""What a data set's class indices mean: names, and which of them is background."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassTable:
    """The classes of one evaluation protocol, in the order of their indices.

    Attributes:
        names: as mmsegmentation has them; `fmbseg.vocabulary.Vocabulary(names)` takes them.
        background_index: the class "none of the others"; None where no class means that.
        background_names: stuff that stands for the background as text, since "background" is no
            thing a picture shows; empty where there is no background class.
    """

    names: tuple[str, ...]
    background_index: int | None = None
    background_names: tuple[str, ...] = ()
