"""Unit `predict`: the label map of one image, with its overlay and scores; docs/predict.md."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fmbseg.align.settings import CONFIG, DESCRIPTION, WEIGHTS
from fmbseg.errors import UserError
from fmbseg.hub import files as hub
from fmbseg.hub.layout import read_published
from fmbseg.methods.refined import Refine
from fmbseg.models.settings import ModelsParams
from fmbseg.models.status import weights_fingerprint
from fmbseg.models.trust import trusted_overrides
from fmbseg.pictures.answers import CONFIDENCE_SCALE, SIMILARITY_SCALE, fractions_png, overlay_png
from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import save_label_png
from fmbseg.pictures.large import label_counts
from fmbseg.segmenter import Segmenter
from fmbseg.steps.code import code_of
from fmbseg.store import file_sha, read_json, sha_of, write_bytes
from fmbseg.store.names import printable
from fmbseg.types import Image, LabelMap
from fmbseg.vocabulary import Vocabulary

MAX_SIMILARITIES = 2**30
"""Classes x pixels of one image that `--similarities npz` holds in memory: 4 GB."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of every image.

    Attributes:
        classes: names with synonyms.
        background: names that compete with them; None for none.
        min_similarity: cosine below which a pixel is none of the classes.
        similarities: "png" for the best class's cosine, "npz" for every class's.
        confidence: also write the winner's share.
        refine: "none", or "fast" for borders at the image's edges.
    """

    classes: Vocabulary
    background: Vocabulary | None = None
    min_similarity: float | None = None
    similarities: Literal["png", "npz"] | None = None
    confidence: bool = False
    refine: Refine = "none"

    @property
    def endings(self) -> tuple[str, ...]:
        """What is written for an image: endings of the files' names."""
        scores = {"png": (".similarity.png",), "npz": (".similarities.npz",), None: ()}
        sure = (".confidence.png",) if self.confidence else ()
        return (".png", ".overlay.png", *scores[self.similarities], *sure)


def settings(model: Path, wanted: Wanted, run: str, *, allow_paths: bool) -> dict[str, Any]:
    """All that decides the files of an image besides the image itself, as JSON values.

    Args:
        model: trained folder or published model, of which a segmenter was made.
        wanted: of every image.
        run: device and precision of the encoders.
        allow_paths: as in `Segmenter.load`.
    """
    code = code_of("predict")
    files = [model / name for name in (WEIGHTS, CONFIG, DESCRIPTION, hub.CONFIG, hub.MODEL)]
    return {
        "model": {file.name: file_sha(file) for file in files if file.is_file()},
        "weights": _weights(model, allow_paths),
        "classes": list(wanted.classes.lines()),
        "background": list(wanted.background.lines()) if wanted.background else [],
        "min_similarity": wanted.min_similarity,
        "refine": wanted.refine,
        "files": list(wanted.endings),
        "encoders": run,
        "code": sha_of([code.files, code.packages]),
    }


def _weights(model: Path, allow_paths: bool) -> dict[str, str]:
    """Role of each frozen encoder to the hash of its weights."""
    if (model / DESCRIPTION).is_file():
        described = read_json(model / DESCRIPTION)
    else:
        _, described = read_published(model)
    section = ModelsParams.model_validate(described["models"])
    own = section.model_dump(include={"clip", "vision"}, exclude_none=True)
    overrides = trusted_overrides(own, model, allow_paths=allow_paths)
    found = weights_fingerprint(section.profile, overrides)
    return {role: found[role] for role in ("clip", "vision")}


def make(segmenter: Segmenter, image: Image, wanted: Wanted, target: Path) -> dict[int, int]:
    """Write the files of one image.

    Args:
        segmenter: the trained model.
        image: the image.
        wanted: of every image.
        target: path of the files without their endings; its folder is there.

    Returns:
        How many pixels have each of the labels that occur.

    Raises:
        UserError: more similarities than memory should hold.
    """
    scores = wanted.confidence or wanted.similarities == "png"
    if wanted.similarities == "npz":
        _require_room(image, wanted.classes, target)
    answer = segmenter.predict(
        image, wanted.classes, wanted.similarities == "npz", background=wanted.background or (),
        min_similarity=wanted.min_similarity, scores=scores, refine=wanted.refine,
    )  # fmt: skip
    labels, names, colours = answer.labels, answer.class_names, palette(len(wanted.classes))
    save_label_png(Path(f"{target}.png"), labels, colours)
    _write_scores(target, answer, wanted)
    del answer  # a large image's scores take more memory than the image
    counts = label_counts(labels)
    shown = overlay_png(image, labels, names, colours, list(counts))
    write_bytes(Path(f"{target}.overlay.png"), shown)
    return counts


def _require_room(image: Image, vocabulary: Vocabulary, target: Path) -> None:
    if image.shape[0] * image.shape[1] * len(vocabulary) > MAX_SIMILARITIES:
        raise UserError(
            f"--similarities npz: {printable(target.name)} has {image.shape[1]}x{image.shape[0]} "
            f"px and there are {len(vocabulary)} classes, more than {MAX_SIMILARITIES:,} values; "
            "use --similarities png, fewer classes or a smaller image"
        )


def _write_scores(target: Path, answer: LabelMap, wanted: Wanted) -> None:
    if answer.similarities is not None:
        data = io.BytesIO()
        similarities = answer.similarities.astype(np.float16)
        np.savez_compressed(data, similarities=similarities, classes=np.array(answer.class_names))
        write_bytes(Path(f"{target}.similarities.npz"), data.getvalue())
    if wanted.similarities == "png" and answer.best_similarity is not None:
        content = fractions_png(answer.best_similarity, SIMILARITY_SCALE, least=-1)
        write_bytes(Path(f"{target}.similarity.png"), content)
    if wanted.confidence and answer.confidence is not None:
        content = fractions_png(answer.confidence, CONFIDENCE_SCALE)
        write_bytes(Path(f"{target}.confidence.png"), content)
