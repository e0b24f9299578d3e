"""A model's pass over images: several at once where the model takes them, prepared ahead."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from fmbseg.ahead import ahead
from fmbseg.models.protocols import TakesSeveral
from fmbseg.types import Image

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Encoder(Generic[R]):
    """A model's pass over images, in two parts; `encoder_of` makes one.

    Attributes:
        images_at_once: so many images are worth handing over together.
        prepare: the part before the model, on an image; any thread may do it.
        encode: the model, on what `prepare` gave of some images.
    """

    images_at_once: int
    prepare: Callable[[Image], Any]
    encode: Callable[[Sequence[Any]], list[R]]

    def over(self, items: Iterable[T], read: Callable[[T], Image]) -> Iterator[tuple[T, R]]:
        """Each item with what the model answers to its image, in order.

        Where the model takes several images, background threads read and prepare the next ones
        meanwhile.

        Args:
            items: such as names of images.
            read: from an item to its image.
        """
        count = self.images_at_once
        if count == 1:
            for item in items:
                yield item, self.encode([self.prepare(read(item))])[0]
            return
        prepared = ahead(items, lambda item: self.prepare(read(item)), count)
        with contextlib.closing(prepared):
            while some := list(islice(prepared, count)):
                answers = self.encode([one for _, one in some])
                yield from zip([item for item, _ in some], answers, strict=True)


def encoder_of(model: object, one: Callable[[Image], R]) -> Encoder[R]:
    """The two parts of a model's pass.

    Args:
        model: any; one that does not take several images is asked for one after the other.
        one: the model's own method, from an image to its answer.
    """
    if isinstance(model, TakesSeveral):
        return Encoder(model.images_at_once, model.prepare, model.encode_prepared)
    return Encoder(1, lambda image: image, lambda images: [one(image) for image in images])
