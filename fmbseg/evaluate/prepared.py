"""A method under a protocol on one list of classes: its labels, and figures that name both."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int32, UInt8

from fmbseg.evaluate.metrics import Tally
from fmbseg.evaluate.protocol import EvaluationProtocol
from fmbseg.image_size import row_bands
from fmbseg.methods.segmentation import (
    PatchSegmentation,
    Segmentation,
    ask,
    needs_image_labels,
)
from fmbseg.types import IGNORE, Image, Images, LabelMap
from fmbseg.vocabulary import Vocabulary

if TYPE_CHECKING:
    from fmbseg.methods.upsampling import SimilarityMap


class PreparedMethod:
    """The only way from a method to a figure, so that no figure lacks its protocol.

    Attributes:
        protocol: the rules.
        asked: the names a method is asked for; a class has none, one or several of them.
        needs_image_labels: whether `predict` must be told the classes of the image; the figures
            then use labels.
    """

    def __init__(
        self,
        protocol: EvaluationProtocol,
        method: Segmentation,
        classes: Vocabulary,
        background_index: int | None = None,
    ) -> None:
        """Put the protocol's prompts and windows on the method and list the names to ask for.

        Args:
            protocol: the rules.
            method: any.
            classes: of the data set; their order is the evaluation's indices.
            background_index: the class "none of the others"; None where there is no such class,
                and then the protocol's background plays no part.

        Raises:
            ValueError: no such background class, or no name is left to ask for.
        """
        if background_index is not None and not 0 <= background_index < len(classes):
            raise ValueError(
                f"background_index: found {background_index}; wanted 0 to {len(classes) - 1}"
            )
        self.protocol = protocol
        self._classes, self._background = classes, background_index
        synonyms = dict(zip(classes.names, classes.synonyms, strict=True))
        self._method = protocol.segmenter_for(method, synonyms)
        self.needs_image_labels = needs_image_labels(self._method)
        owned = [(word, index) for index in range(len(classes)) for word in self._words(index)]
        if not owned:
            raise ValueError(f"protocol {protocol.name}: found no name to ask for in {classes}")
        self.asked = tuple(word for word, _ in owned)
        self._owner = np.array([index for _, index in owned], np.int32)

    def predict(
        self, image: Image, present: Sequence[int] | None = None
    ) -> Int32[np.ndarray, "height width"]:
        """Label an image at its own size.

        Args:
            image: RGB.
            present: classes in the image, as `classes_in` finds them in its labels; only for a
                method that needs them.

        Returns:
            Evaluation index per pixel; IGNORE where the method has no answer.

        Raises:
            ValueError: image labels are missing, or given to a method that cannot use them.
        """
        empty = self._background if self._background is not None else IGNORE
        told: list[int] | None = None
        if present is not None:
            told = np.flatnonzero(np.isin(self._owner, list(present))).tolist()
            if not told:
                return np.full(image.shape[:2], empty, np.int32)
        compared = self._doubtful is not None
        if compared and told is None and (cosines := self._similarity_map(image)) is not None:
            return self._thresholded(cosines, image)
        return self._evaluated(
            ask(self._method, image, self.asked, similarities=compared, present=told)
        )

    @property
    def images_at_once(self) -> int:
        """So many images `predict_each` is glad of; 1 where it gains nothing."""
        return self._method.images_at_once if isinstance(self._method, PatchSegmentation) else 1

    def predict_each(self, images: Images) -> list[Int32[np.ndarray, "_height _width"]]:
        """`predict` of several images in order; their encoder takes them together where it can."""
        if len(images) == 1 or not isinstance(self._method, PatchSegmentation):
            return [self.predict(image) for image in images]
        from fmbseg.methods.pixels import label_pixels  # who only looks does not wait for torch
        from fmbseg.methods.upsampling import Grid

        grids = self._method.similarity_grids(images, self.asked)
        return [
            self._evaluated(label_pixels(grid, image.shape[:2], self.asked))
            if self._doubtful is None
            else self._thresholded(Grid(grid), image)
            for image, grid in zip(images, grids, strict=True)
        ]

    @property
    def _doubtful(self) -> int | None:
        """The class of pixels whose similarities are below a threshold; None without one."""
        return self._background if self.protocol.background.threshold is not None else None

    def _similarity_map(self, image: Image) -> "SimilarityMap | None":
        """Of a method that can make its similarities some rows at a time; None of another."""
        from fmbseg.evaluate.sliding import SlidingSegmentation
        from fmbseg.methods.upsampling import Grid

        if isinstance(self._method, SlidingSegmentation):
            return self._method.similarity_map(image, self.asked)
        if isinstance(self._method, PatchSegmentation):
            return Grid(self._method.similarity_grids([image], self.asked)[0])
        return None

    def _thresholded(
        self, cosines: "SimilarityMap", image: Image
    ) -> Int32[np.ndarray, "height width"]:
        """Evaluation index per pixel: the best name's class, or the background below a threshold.

        Some rows at a time, so that the similarities of a large image are never held.
        """
        from fmbseg.methods.pixels import best_name, row_similarities

        answer = np.empty(image.shape[:2], np.int32)
        for rows, band in row_similarities(cosines, image.shape[:2]):
            labels = self._owner[best_name(band)[1].cpu().numpy()]
            below = self.protocol.background.below(band.cpu().numpy())
            answer[rows] = np.where(below, self._doubtful, labels)
        return answer

    def _evaluated(self, found: LabelMap) -> Int32[np.ndarray, "height width"]:
        """Evaluation index per pixel of what the method answered to the names it was asked for."""
        doubtful = self._doubtful
        if doubtful is not None and found.similarities is None:
            raise ValueError(
                f"{self._method.name} has no similarities to compare with a threshold; use "
                "background ignore or stuff_names"
            )
        answer = np.empty(found.labels.shape, np.int32)
        for rows in row_bands(answer.shape):
            asked = found.labels[rows]
            silent = asked == IGNORE if len(self.asked) <= IGNORE else np.False_
            labels = self._owner[np.where(silent, 0, asked)]
            if doubtful is not None and found.similarities is not None:
                below = self.protocol.background.below(found.similarities[:, rows])
                labels = np.where(below, doubtful, labels)
            answer[rows] = np.where(silent, IGNORE, labels)
        return answer

    def truth(self, target: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
        """The labels that are scored: background counts as unlabelled where it is ignored."""
        if self._background is None or self.protocol.background.mode != "ignore":
            return target
        return np.where(target == self._background, IGNORE, target).astype(np.uint8)

    def metrics(
        self,
        tally: Tally,
        *,
        data_set: str,
        split: str,
        seed: int,
        images: int,
        seconds_per_image: float,
    ) -> dict[str, Any]:
        """A metric file's content, always with the protocol's facts and hash.

        Args:
            tally: of the predictions and the truth.
            data_set: its name.
            split: of the data set.
            seed: of the run.
            images: how many were scored.
            seconds_per_image: of `predict`.

        Returns:
            Figures as fractions of 1, ready for JSON; a class with an empty union has null.

        Raises:
            ValueError: another number of classes was counted.
        """
        names, confusion, figures = self._classes.names, tally.confusion(), tally.figures()
        if confusion.num_classes != len(names):
            raise ValueError(
                f"confusion matrix: found {confusion.num_classes} classes; wanted {len(names)}"
            )
        return {
            "method": self._method.name,
            "data_set": data_set,
            "split": split,
            "protocol": self.protocol.facts(),
            "protocol_hash": self.protocol.digest,
            "background_class": None if self._background is None else names[self._background],
            "uses_image_labels": self.needs_image_labels,
            "seed": seed,
            "miou": figures.pop("miou"),
            "iou": {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(names, confusion.iou(), strict=True)
            },
            **figures,
            "images": images,
            "seconds_per_image": seconds_per_image,
        }

    def _words(self, index: int) -> tuple[str, ...]:
        """The names that are asked for on behalf of a class."""
        if index == self._background:
            others = (group for k, group in enumerate(self._classes.groups) if k != index)
            taken = {_folded(word) for group in others for word in group}
            names = {_folded(name): name for name in self.protocol.background.names}
            return tuple(name for folded, name in names.items() if folded not in taken)
        group = self._classes.groups[index]
        return group if self.protocol.synonyms == "max" else group[:1]


def classes_in(target: UInt8[np.ndarray, "height width"]) -> list[int]:
    """The classes that an image's labels show, ascending; IGNORE is none."""
    return [int(label) for label in np.unique(target) if label != IGNORE]


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()
