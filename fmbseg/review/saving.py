"""What the page sends of an image is checked, and on the disk before it is answered."""

from typing import Annotated

from pydantic import Field

from fmbseg.corrections.store import (
    Change,
    ConflictError,
    CorrectedRegion,
    Correction,
    now,
    read_correction,
    save_correction,
)
from fmbseg.review.images import Labelled, labelled
from fmbseg.review.runs import rle_of
from fmbseg.section import Section
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError
from fmbseg.types import Origin

_MOST_REGIONS = 5_000
_A_DAY_S = 86_400.0


class SentRegion(Section):
    """A mask as the page sends it."""

    class_name: str
    runs: list[Annotated[int, Field(ge=0, le=2**31)]]
    origin: Origin
    score: Annotated[float, Field(ge=0, le=1)] | None


class Sent(Section):
    """All that is left standing on an image, and the change that led to it."""

    image: str
    revision: Annotated[int, Field(ge=0)]
    accepted: bool
    regions: Annotated[list[SentRegion], Field(max_length=_MOST_REGIONS)]
    what: Annotated[str, Field(max_length=2_000)]
    seconds: Annotated[float, Field(ge=0, le=_A_DAY_S)]


def save(workspace: Workspace, sent: Sent, by: str, class_names: tuple[str, ...]) -> Correction:
    """Write what was sent as the image's correction.

    What was saved before already, by a request whose answer was lost, is not saved again.

    Args:
        workspace: whose image.
        sent: from the page.
        by: the person.
        class_names: that can be chosen from.

    Returns:
        What is on the disk.

    Raises:
        ConflictError: somebody else has saved the image since the page read it.
        StoreError: a mask does not fit the image, or its class is none of the names; see also
            `labelled`.
    """
    image = labelled(workspace, sent.image)
    stored = read_correction(workspace.corrections, sent.image)
    history = () if stored is None else stored.history
    known = {*class_names, *image.class_names}
    known |= set() if stored is None else {one.class_name for one in stored.regions}
    regions = tuple(_region(one, image, known) for one in sent.regions)
    change = Change(by, now(), "review", sent.what, round(sent.seconds, 1))
    wanted = Correction(
        sent.image, image.image_sha, image.image_hw, class_names, regions, sent.accepted,
        (*history, change), sent.revision,
    )  # fmt: skip
    try:
        return save_correction(workspace.corrections, wanted)
    except ConflictError:
        there = read_correction(workspace.corrections, sent.image)
        if there is not None and there.revision == sent.revision + 1 and _same(there, wanted):
            return there
        raise


def _same(there: Correction, wanted: Correction) -> bool:
    return (there.regions, there.accepted, there.image_sha) == (
        wanted.regions, wanted.accepted, wanted.image_sha
    )  # fmt: skip


def _region(sent: SentRegion, image: Labelled, known: set[str]) -> CorrectedRegion:
    if sent.class_name not in known:
        raise StoreError(
            f"{image.image}: found class {sent.class_name!r}; wanted one of the class file"
        )
    try:
        rle = rle_of(sent.runs, image.image_hw)
    except ValueError as error:
        raise StoreError(f"{image.image}: {error}") from None
    score = None if sent.origin == "person" else sent.score
    return CorrectedRegion(sent.class_name, rle, sent.origin, score)
