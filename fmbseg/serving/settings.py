"""What one server takes on: limits of a request and of all requests together."""

from typing import Annotated

from pydantic import Field

from fmbseg.section import Positive, Section
from fmbseg.types import IGNORE

_NAMES_A_CLASS = 8


class Limits(Section):
    """Limits of a server; a request beyond one of them is refused with words."""

    max_megabytes: Annotated[float, Field(gt=0, le=1024)] = 32
    """Of a picture as it is sent."""
    max_megapixels: Annotated[float, Field(gt=0, le=100)] = 32
    """Of a picture; a larger one is refused before it is decoded."""
    max_classes: Annotated[int, Field(ge=1, le=IGNORE)] = IGNORE
    """Classes and background of a request together; 8 times as many names with all synonyms."""
    at_once: Positive = 16
    """Requests that are read, wait or are computed; one more is told to come again."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60
    """Seconds for a request's body to arrive, and again for its answer."""

    @property
    def max_bytes(self) -> int:
        """`max_megabytes` in bytes."""
        return int(self.max_megabytes * 1e6)

    @property
    def max_pixels(self) -> int:
        """`max_megapixels` in pixels."""
        return int(self.max_megapixels * 1e6)

    @property
    def max_names(self) -> int:
        """All names of a request, synonyms included."""
        return self.max_classes * _NAMES_A_CLASS
