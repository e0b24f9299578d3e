"""What a client asks for: its query, checked, and the class names in it. Opens no file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from fmbseg.section import Section
from fmbseg.serving.refused import RefusedError
from fmbseg.serving.settings import Limits
from fmbseg.typed_names import typed_names
from fmbseg.vocabulary import Vocabulary, VocabularyError, joined

AnswerFormat = Literal["png", "coco", "overlay", "confidence", "similarity"]

_INSTEAD = "; wanted a class name: the server opens no file"


class Query(Section):
    """The query of `POST /segment`."""

    classes: list[str] = Field([], examples=[["road=street=asphalt, car, sky"]])
    """Commas part the classes, `=` parts the names of one; without it those of `GET /classes`."""
    background: list[str] = Field([], examples=[["wall, floor"]])
    """Names that compete with the classes; a pixel that one of them wins is none of the classes."""
    min_similarity: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    """A cosine; a pixel whose best class is below is none of them."""
    format: AnswerFormat = "png"
    """png: label map with palette; coco: run lengths in JSON; overlay: the picture in colours;
    confidence: 16-bit PNG, confidence = value / 65535; similarity: 16-bit PNG, cosine of the best
    class = value / 65535 x 2 - 1, of one class its heat map."""
    confidence: bool = False
    """With `format=coco`: each annotation has a `score`, the mean confidence of its pixels."""


@dataclass(frozen=True)
class Asked:
    """A request that can be answered.

    Attributes:
        query: as sent.
        classes: asked for, or the server's own.
        background: names that compete with them.
    """

    query: Query
    classes: Vocabulary
    background: Vocabulary | None

    @property
    def confidence(self) -> bool:
        """Whether confidences are wanted."""
        return self.query.confidence or self.query.format == "confidence"

    @property
    def scores(self) -> bool:
        """Whether confidences or similarities are wanted."""
        return self.confidence or self.query.format == "similarity"


def asked_of(query: Query, own: Vocabulary, limits: Limits) -> Asked:
    """The class names of a query.

    Args:
        query: of a client.
        own: the server's classes.
        limits: of their number.

    Raises:
        RefusedError: bad names, too many of them, or a combination that has no answer.
    """
    if query.confidence and query.format not in ("coco", "confidence"):
        raise RefusedError(
            422, "confidence", f"format={query.format}",
            "format=confidence (a PNG), or format=coco&confidence=true",
        )  # fmt: skip
    classes = _vocabulary(query.classes, "classes", limits) if query.classes else own
    background = _vocabulary(query.background, "background", limits) if query.background else None
    every = classes.groups + (() if background is None else background.groups)
    if len(every) > limits.max_classes:
        _too_many("classes and background", len(every), limits.max_classes)
    names = sum(map(len, every))
    if names > limits.max_names:
        _too_many("names with synonyms", names, limits.max_names)
    if background is not None:
        try:
            joined(classes, background)
        except VocabularyError as error:
            raise _bad("background", error) from None
    return Asked(query, classes, background)


def _vocabulary(texts: Sequence[str], what: str, limits: Limits) -> Vocabulary:
    text = ",".join(texts)
    if text.count(",") >= limits.max_classes:
        _too_many(what, text.count(",") + 1, limits.max_classes)
    try:
        return Vocabulary.of(typed_names(text, _INSTEAD))
    except VocabularyError as error:
        raise _bad(what, error) from None


def _bad(what: str, error: VocabularyError) -> RefusedError:
    return RefusedError(
        422, what, str(error), 'names such as "road=street, sky": commas part the classes'
    )


def _too_many(what: str, found: int, most: int) -> None:
    raise RefusedError(422, what, f"{found} of them", f"at most {most}")
