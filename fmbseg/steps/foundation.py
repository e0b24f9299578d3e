"""Figures of the frozen models themselves, where labels allow: CLIP's presence, SAM's masks."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from fmbseg.datasets import Dataset
from fmbseg.models.build import FoundationModels
from fmbseg.pseudo.presence import count_votes, present_classes
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.steps.image_records import ImageRecords
from fmbseg.steps.truth import usable_ahead
from fmbseg.store import write_json
from fmbseg.types import IGNORE, Image

MIN_PRESENT_FRACTION = 0.005
"""A class covers at least this share of an image to count as present in the truth."""


def score(
    samples: Dataset,
    models: FoundationModels,
    options: PseudoMasksParams,
    seed: int,
    path: Path,
    scratch: Path,
) -> dict[str, int]:
    """Write presence precision / recall / F1 and the IoU of SAM's mask from one random point.

    The point is a labelled pixel drawn uniformly from the image; its true mask is the connected
    region of equal label around it (8-connected). Each finished image is noted in `scratch` at
    once; a cut evaluation goes on after the last of them and writes the same bytes.

    Returns:
        How many images were `computed` and how many `reused`.
    """
    texts = models.clip.encode_text(samples.class_names)
    rng = np.random.default_rng([seed, 7])
    finished = ImageRecords(scratch, samples.names)
    reused, records = len(finished), list[dict[str, Any]]()
    known = finished.each("evaluate: presence and SAM's masks")
    for index, record, sample in usable_ahead(samples, known, []):
        if record is not None:
            if record["labelled"]:
                rng.integers(record["labelled"])  # so that the next image draws what it would have
            records.append(record)
            continue
        if sample is None or sample.target is None:
            continue
        found = _presence(sample.image, sample.target, models, texts, options.presence_votes)
        found |= _random_point(sample.image, sample.target, models, rng)
        records.append(finished.add(index, found))
    hits, misses, false_alarms = (
        sum(one[name] for one in records) for name in ("hits", "misses", "false_alarms")
    )
    top = [one["top"] for one in records if one["labelled"]]
    best = [one["best"] for one in records if one["labelled"]]
    precision = hits / max(hits + false_alarms, 1)
    recall = hits / max(hits + misses, 1)
    write_json(
        path,
        {
            "presence": {
                "precision": precision,
                "recall": recall,
                "f1": 2 * precision * recall / max(precision + recall, 1e-12),
                "min_present_fraction": MIN_PRESENT_FRACTION,
            },
            "sam_random_point": {
                "top_scored_iou": float(np.mean(top)) if top else None,
                "best_of_3_iou": float(np.mean(best)) if best else None,
                "points": len(top),
            },
            "seed": seed,
        },
    )
    return {"computed": len(records) - reused, "reused": reused}


def _presence(
    image: Image,
    target: UInt8[np.ndarray, "height width"],
    models: FoundationModels,
    texts: Float[Tensor, "category dim"],
    votes: int,
) -> dict[str, Any]:
    """How many classes CLIP finds rightly, misses, and finds though they are not there."""
    found = set(present_classes(count_votes(models.clip.encode_dense(image).cls, texts), votes))
    values, counts = np.unique(target[target != IGNORE], return_counts=True)
    true = {int(v) for v, n in zip(values, counts, strict=True)
            if n >= MIN_PRESENT_FRACTION * target.size}  # fmt: skip
    return {
        "hits": len(found & true), "misses": len(true - found), "false_alarms": len(found - true),
    }  # fmt: skip


def _random_point(
    image: Image,
    target: UInt8[np.ndarray, "height width"],
    models: FoundationModels,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Number of labelled pixels; IoU of SAM's masks from one of them, if there is one."""
    from scipy import ndimage

    ys, xs = np.nonzero(target != IGNORE)
    if len(ys) == 0:
        return {"labelled": 0}
    pick = rng.integers(len(ys))
    y, x = int(ys[pick]), int(xs[pick])
    components, _ = ndimage.label(target == target[y, x], structure=np.ones((3, 3), int))
    region = components == components[y, x]
    embedding = models.sam.embed(image)
    points = np.array([[[x + 0.5, y + 0.5]]], np.float32)
    prediction = models.sam.predict_points(embedding, points)
    masks = (models.sam.upscale(embedding, prediction.logits) > 0).cpu().numpy()
    ious = [float((mask & region).sum() / max((mask | region).sum(), 1)) for mask in masks]
    top = ious[int(prediction.predicted_iou[0].argmax())]
    return {"labelled": len(ys), "top": top, "best": max(ious)}
