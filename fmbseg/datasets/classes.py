"""What a data set's class indices mean: names, colours, and which of them is background."""

from dataclasses import dataclass

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """The classes of one evaluation protocol, in the order of their indices.

    Attributes:
        names: as mmsegmentation has them; `fmbseg.vocabulary.Vocabulary(names)` takes them.
        palette: RGB, 0 to 255, one colour a class.
        background_index: the class "none of the others"; None where no class means that.
        background_names: stuff that stands for the background as text, since "background" is no
            thing a picture shows; empty where there is no background class.
    """

    names: tuple[str, ...]
    palette: tuple[Rgb, ...]
    background_index: int | None = None
    background_names: tuple[str, ...] = ()


def voc_palette(count: int, *, first: int = 0) -> tuple[Rgb, ...]:
    """Colours by the rule of the PASCAL VOC development kit.

    The bits of the label are dealt out to red, green and blue in turn, lowest bit to the highest
    place of each colour: 0 is black, 1 dark red, 255 (the border) a pale yellow.

    Args:
        count: number of colours.
        first: label of the first of them.
    """
    return tuple(_voc_colour(label) for label in range(first, first + count))


def _voc_colour(label: int) -> Rgb:
    red, green, blue = (
        sum(((label >> (3 * place + channel)) & 1) << (7 - place) for place in range(8))
        for channel in range(3)
    )
    return red, green, blue
