"""One method's answers compared with the labels of a data set, image by image."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from fmbseg.ahead import ahead
from fmbseg.datasets import DatasetError
from fmbseg.datasets.base import Sample
from fmbseg.evaluate.examples import Extremes, ScoredImage
from fmbseg.evaluate.metrics import METRICS, Tally
from fmbseg.evaluate.prepared import PreparedMethod, classes_in
from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import colourise, save_png
from fmbseg.steps.evaluation_sets import EvaluationSet
from fmbseg.steps.image_records import ImageRecords
from fmbseg.steps.truth import Record, usable_ahead
from fmbseg.store import write_json
from fmbseg.types import IGNORE

IMAGE_SCORES = "image_scores.json"
"""Of a unit: `[{"image", <every metric>, "example"}]`, an image of the data set each.

An image's mIoU is over the classes of its labels and its prediction. `example` is null, or for
the images with the worst and the best mIoU `{"side", "rank", "file", "classes"}`.
"""


@dataclass(frozen=True)
class Evaluation:
    """A method on a data set.

    Attributes:
        method: with the protocol's prompts and windows on it.
        data_set: the data set.
        examples: pictures to keep, of the worst and the best images.
        seed: of the run.
        threads: that answer images, where the method takes them one by one.
    """

    method: PreparedMethod
    data_set: EvaluationSet
    examples: int
    seed: int
    threads: int = 1

    def answer(self, sample: Sample) -> "Answer":
        """What one image shows, its counts, and the seconds that the method took."""
        return self.answers([sample])[0]

    def answers(self, samples: Sequence[Sample]) -> "list[Answer]":
        """Of some images; where the method takes them together, seconds are their mean."""
        if not samples:
            return []
        began = time.perf_counter()
        if self.method.needs_image_labels:
            predicted = [self.method.predict(one.image, classes_in(_truth(one))) for one in samples]
        else:
            predicted = self.method.predict_each([one.image for one in samples])
        seconds = (time.perf_counter() - began) / len(samples)
        found = []
        for sample, labels in zip(samples, predicted, strict=True):
            truth = self.method.truth(_truth(sample))
            scored = ScoredImage.reduced(sample.name, sample.image, labels, truth)
            found.append((scored, Tally.of_image(labels, truth, self.classes), seconds))
        return found

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.data_set.classes)


Answer = tuple[ScoredImage, Tally, float]
Some = list[tuple[int, Record, Sample | None]]
"""Images that are answered together: index, what is known, and what is to be answered."""


def score(evaluation: Evaluation, out: Path, scratch: Path, title: str) -> dict[str, int]:
    """Write `metrics.json`, `confusion.json`, `quarantine.json`, image scores and examples.

    Each finished image is noted in `scratch` at once. A cut evaluation goes on after the last of
    them and writes the same bytes, but for `seconds_per_image`, the mean of the measured times.

    Args:
        evaluation: what to score.
        out: for the files.
        scratch: for finished images; outlives a killed run, belongs to one content key.
        title: of the progress bar.

    Returns:
        How many images were `computed` and how many `reused`.

    Raises:
        DatasetError: no pixel is labelled.
    """
    data_set = evaluation.data_set
    finished = ImageRecords(scratch, data_set.samples.names)
    reused, computed, seconds = len(finished), 0, 0.0
    tally, scores = Tally(), list[dict[str, Any]]()
    extremes: Extremes[ScoredImage | int] = Extremes(evaluation.examples)
    bad: list[dict[str, str]] = []
    for index, record, answered in _answered(evaluation, finished.each(title), bad):
        kept: ScoredImage | int = index
        if answered is not None:
            kept, counts, took = answered
            record = finished.add(index, {"cells": _cells(counts), "seconds": took})
            computed += 1
        if record is None:
            continue
        seconds += record["seconds"]
        counted = _counts(record["cells"])
        tally.add(counted)
        scores.append(_image_score(record["image"], counted))
        if (rank := scores[-1][METRICS[0].name]) is not None:
            extremes.add(rank, index, kept)
    if not scores or not tally.confusion().matrix.any():
        raise DatasetError(
            f"{data_set.name} {data_set.split}: found no labelled pixel in {len(scores)} scored "
            f"images ({len(bad)} could not be used); wanted labels of its {evaluation.classes} "
            "classes, see data.labels and data.ignore_label"
        )
    metrics = evaluation.method.metrics(
        tally, data_set=data_set.name, split=data_set.split, seed=evaluation.seed,
        images=len(scores), seconds_per_image=seconds / max(len(scores), 1),
    )  # fmt: skip
    write_json(out / "metrics.json", metrics)
    write_json(out / "confusion.json", tally.confusion().matrix.tolist())
    write_json(out / "quarantine.json", bad)
    examples = _save_examples(out, extremes, evaluation)
    scores = [one | {"example": examples.get(one["image"])} for one in scores]
    write_json(out / IMAGE_SCORES, scores, compact=True)
    return {"computed": computed, "reused": reused}


def _answered(
    evaluation: Evaluation, known: Iterable[tuple[int, Record]], bad: list[dict[str, str]]
) -> Iterator[tuple[int, Record, Answer | None]]:
    """Index, record and answer of every image; neither of one that cannot be used."""
    count = evaluation.method.images_at_once
    images = usable_ahead(evaluation.data_set.samples, known, bad, count)
    together = iter(lambda: list(islice(images, count)), [])
    for some, answered in _in_threads(evaluation, together, evaluation.threads // count):
        answers = iter(answered)
        for index, record, sample in some:
            yield index, record, None if sample is None else next(answers)


def _in_threads(
    evaluation: Evaluation, together: Iterable[Some], threads: int
) -> Iterator[tuple[Some, list[Answer]]]:
    def answers(some: Some) -> list[Answer]:
        return evaluation.answers([one for _, _, one in some if one is not None])

    if threads > 1:
        return ahead(together, answers, threads)
    return ((some, answers(some)) for some in together)


def _truth(sample: Sample) -> UInt8[np.ndarray, "height width"]:
    assert sample.target is not None
    return sample.target


def _cells(counted: Tally) -> dict[str, Any]:
    """Shape, positions and values of the counts that are not zero: few of them, in an image."""
    return {
        name: [counts.shape, np.flatnonzero(counts).tolist(), counts[counts != 0].tolist()]
        for name, counts in counted.sums.items()
    }


def _counts(cells: dict[str, Any]) -> Tally:
    """The inverse of `_cells`."""
    counted = Tally()
    for name, (shape, places, values) in cells.items():
        counted.sums[name] = np.zeros(shape, np.int64)
        counted.sums[name].flat[places] = values
    return counted


def _image_score(name: str, counted: Tally) -> dict[str, Any]:
    """One image's figures; null where none of its pixels is labelled."""
    rounded = {key: round(v, 6) if np.isfinite(v) else None for key, v in counted.figures().items()}
    return {"image": name, **rounded}


def _save_examples(
    out: Path, extremes: Extremes[ScoredImage | int], evaluation: Evaluation
) -> dict[str, dict[str, Any]]:
    """Write image, prediction and truth side by side, both maps in the palette's own colours.

    An image that was answered before a cut is kept by its place alone, and answered again.

    Returns:
        Image to side, rank, file below `out`, and the class indices of both maps.
    """
    saved: dict[str, dict[str, Any]] = {}
    colours, samples = palette(evaluation.classes), evaluation.data_set.samples
    for side, rank, kept in extremes.chosen():
        answered = evaluation.answer(samples[kept])[0] if isinstance(kept, int) else kept
        labels = (answered.predicted, answered.truth)
        pair = [colourise(one, colours) for one in labels]
        classes = sorted({int(index) for index in np.unique(labels)} - {IGNORE})
        file = f"examples/{side}-{rank}.png"
        save_png(out / file, np.hstack([answered.image, *pair]))
        saved[answered.name] = {
            "side": side, "rank": rank, "file": file, "classes": classes,
        }  # fmt: skip
    return saved
