"""What the report says of corrections."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassPutRight:
    """Of a class's pixels, as people left them, what the pseudo masks had said.

    Attributes:
        name: of the class.
        pixels: in all corrected images.
        wrong: share of them that had no or another pseudo label, 0 to 1.
        taken_for: other class, or "no answer", and its share, the largest first.
    """

    name: str
    pixels: int
    wrong: float
    taken_for: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CorrectionFacts:
    """Corrections and what they changed.

    Attributes:
        trained: number of corrected images that are trained on.
        held_out: number of those that are not, on which models are scored.
        weight: of their patches in the loss.
        method: whose mIoU `before` and `after` are; None where no trained method was scored.
        before: mIoU on the held-out images of the last model that was trained without any
            correction; None where there is none.
        after: the same of this run's model.
        classes: what pseudo masks had wrong, the worst class first.
        right: share of the pixels with a class that the pseudo masks had right, 0 to 1.
        invented: share of all pixels that had a pseudo label where people left none, 0 to 1.
        said: what was not used, and why.
    """

    trained: int
    held_out: int
    weight: float
    method: str | None
    before: float | None
    after: float | None
    classes: tuple[ClassPutRight, ...]
    right: float
    invented: float
    said: tuple[str, ...] = ()
