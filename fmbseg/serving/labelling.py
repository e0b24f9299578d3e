"""Pictures that wait for their labels: decoded, encoded together where that helps, and answered."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fmbseg.methods.aligned import EncodedImage
from fmbseg.segmenter import Segmenter
from fmbseg.serving.answers import Answer, answer_of
from fmbseg.serving.asked import Asked
from fmbseg.serving.refused import RefusedError
from fmbseg.store import UnreadableImageError, decode_image
from fmbseg.types import Image

KEPT_BYTES = 64_000_000
"""Memory for the features of the pictures seen last, at most."""


@dataclass(frozen=True)
class Job:
    """A request whose body has been read.

    Attributes:
        body: a PNG, JPEG, BMP, TIFF or WebP file.
        asked: of it.
    """

    body: bytes
    asked: Asked


@dataclass(frozen=True)
class _Opened:
    """A job whose features are known, or whose picture is decoded, or both."""

    job: Job
    key: bytes
    known: EncodedImage | None
    image: Image | None


class Labeller:
    """Answers jobs with one model; for one thread at a time.

    What a model sees in a picture hangs on no word, so the features of the pictures seen last are
    kept: the same picture asked about again costs the words alone.

    Attributes:
        at_once: so many jobs are worth handing over together; 1 on a processor.
        encoded: pictures that have gone through the encoder.
        known: answers made from features that were kept.
    """

    def __init__(self, segmenter: Segmenter, max_pixels: int, kept_bytes: int = KEPT_BYTES) -> None:
        """Nothing is kept yet.

        Args:
            segmenter: the model.
            max_pixels: a larger picture is refused before it is decoded; pictures go through the
                encoder together as long as all of them have no more.
            kept_bytes: memory for features.
        """
        self._segmenter, self._max_pixels, self._kept_bytes = segmenter, max_pixels, kept_bytes
        self._kept = OrderedDict[bytes, EncodedImage]()
        self.at_once, self.encoded, self.known = segmenter.images_at_once, 0, 0

    def answers(self, jobs: Sequence[Job]) -> Iterator[Answer | Exception]:
        """What is answered to each job, in order, as soon as it is there; or why it is not.

        Args:
            jobs: pictures of one size go through the encoder together where it takes several.
        """
        some: list[_Opened] = []
        pixels = 0
        for job in jobs:
            opened = self._opened(job)
            if isinstance(opened, Exception):
                yield from self._answered(some)
                some, pixels = [], 0
                yield opened
                continue
            more = 0 if opened.image is None else opened.image.shape[0] * opened.image.shape[1]
            if pixels + more > self._max_pixels:
                yield from self._answered(some)
                some, pixels = [], 0
            some.append(opened)
            pixels += more
        yield from self._answered(some)

    def _opened(self, job: Job) -> _Opened | RefusedError:
        key = hashlib.sha256(job.body).digest()
        known = self._kept.get(key)
        if known is not None and job.asked.query.format != "overlay":
            return _Opened(job, key, known, None)
        try:
            image = decode_image(job.body, max_pixels=self._max_pixels)
        except UnreadableImageError as error:
            wanted = f"a png, jpg, bmp, tif or webp file of at most {self._max_pixels} pixels"
            return RefusedError(422, "image", error.reason, wanted)
        return _Opened(job, key, known, image)

    def _answered(self, some: Sequence[_Opened]) -> Iterator[Answer | Exception]:
        """Encode what is not known, together; then answer one after the other."""
        new = {one.key: one.image for one in some if one.known is None and one.image is not None}
        try:
            encoded = self._segmenter.encode(list(new.values())) if new else ()
            fresh = dict(zip(new, encoded, strict=True))
        except Exception as error:  # of all of them alike; each is told
            yield from (error for _ in some)
            return
        self.encoded += len(fresh)
        self.known += sum(one.known is not None for one in some)
        for one in some:
            features = one.known or fresh[one.key]
            self._keep(one.key, features)
            try:
                yield answer_of(self._segmenter, features, one.job.asked, one.image)
            except Exception as error:
                yield error

    def _keep(self, key: bytes, features: EncodedImage) -> None:
        self._kept[key] = features
        self._kept.move_to_end(key)
        held = sum(one.features.nbytes for one in self._kept.values())
        while held > self._kept_bytes:
            held -= self._kept.popitem(last=False)[1].features.nbytes
