"""A trained folder becomes an ONNX file, checked against the model it was made of."""

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from onnx import ModelProto
from torch import Tensor

from fmbseg import runtime
from fmbseg.align.settings import DESCRIPTION
from fmbseg.model_export.describe import facts_of, text_encoder
from fmbseg.model_export.graph import (
    ModelExportError,
    features_graph,
    labelling_graph,
    save_model,
)
from fmbseg.model_export.int8 import quantize
from fmbseg.model_export.measure import Labels, drawn, measured
from fmbseg.models.settings import ModelsParams
from fmbseg.models.vision import TimmVision
from fmbseg.segmenter import Segmenter
from fmbseg.store import list_images, read_json, write_bytes, write_json
from fmbseg.types import Image
from fmbseg.vocabulary import Vocabulary

MODEL, WORDS, FACTS, RUNNER = "model.onnx", "words.npz", "model.json", "runtime.py"
"""Files of an exported folder; `words.npz` only where the words are open."""
GraphPrecision = Literal["float32", "float16", "int8"]
AGREEMENT = {"float32": 0.999, "float16": 0.995, "int8": 0.0}
"""Share of the pixels that must have the label that torch gives them, by precision."""
_SIDES_PX = ((96, 128), (250, 333), (201, 97))
"""Of the drawn pictures that a file is checked on; the last one is upright."""


@dataclass(frozen=True)
class ModelExport:
    """How a model is exported.

    Attributes:
        precision: of the encoder's weights and arithmetic; the head and the comparison with the
            texts are float32 unless it is int8, which covers the head too.
        window_px: side of the one square that the graph takes; None: any size in whole patches.
        words_are_open: leave the classes to a file of text vectors beside the model.
        calibrated_on: folder of images, for int8: the activations' ranges are measured on them
            once, not at every image.
        measured_on: folder with `images/` and `labels/`, whose numbers are indices into the
            classes; mIoU and speed beside float32's go into the facts.
        standard: operators of the ONNX standard alone and no loops, for other programs than
            onnxruntime; else attention is onnxruntime's own, and in float32 patches go through in
            chunks, which is faster.
        registered: name/version under which a registry holds the model; it goes into the lineage.
    """

    precision: GraphPrecision = "float32"
    window_px: int | None = None
    words_are_open: bool = False
    calibrated_on: str | None = None
    measured_on: str | None = None
    registered: str | None = None
    standard: bool = False


def write_model(folder: Path, classes: Vocabulary, plan: ModelExport, out: Path) -> dict[str, Any]:
    """Write model, runner, facts and, where the words are open, text vectors into a folder.

    Args:
        folder: trained; holds segmenter.json and alignment.safetensors.
        classes: that are built in, or that the file of text vectors holds.
        plan: how.
        out: an empty folder.

    Returns:
        The facts that model.json holds.

    Raises:
        ModelExportError: the model cannot be exported, or the file answers otherwise than torch.
    """
    segmenter = Segmenter.load(folder, device="cpu", precision="float32")
    segmentation, vision = segmenter.segmentation, segmenter.segmentation.vision
    if not isinstance(vision, TimmVision):
        raise ModelExportError(
            f"the vision encoder is a {type(vision).__name__}; wanted a ViT of timm, the one kind "
            "that is exported"
        )
    if segmenter.temperature is None:
        raise ModelExportError(
            f"{folder / DESCRIPTION}: found no temperature, which confidence is measured in; train "
            "again"
        )
    texts = segmentation.encode_names(classes if any(classes.synonyms) else classes.names)
    facts = facts_of(
        folder, segmentation, () if plan.words_are_open else classes.groups,
        temperature=segmenter.temperature, window_px=plan.window_px, precision=plan.precision,
    )  # fmt: skip
    facts["lineage"]["registered"] = plan.registered

    def write(path: Path, features: ModelProto, *, chunks: bool = False) -> None:
        built_in = None if plan.words_are_open else texts
        model = labelling_graph(
            features, built_in, facts["temperature"], texts.shape[1], chunks=chunks
        )
        save_model(path, model, facts)

    def traced(*, half: bool) -> ModelProto:
        return features_graph(
            vision, segmentation.head, window_px=plan.window_px, half=half, standard=plan.standard
        )

    if plan.words_are_open:
        save_words(out / WORDS, classes, texts, facts["text_encoder"])
    words = out / WORDS if plan.words_are_open else None
    float32 = out / (MODEL if plan.precision == "float32" else "float32.onnx")
    if plan.precision != "float16" or plan.measured_on:
        features = traced(half=False)
        if plan.precision == "float32" or plan.measured_on:
            write(float32, features, chunks=not plan.standard)
    if plan.precision == "float16":
        write(out / MODEL, traced(half=True))
    if plan.precision == "int8":
        source = Path(plan.calibrated_on) if plan.calibrated_on else None
        images = [source / name for name in list_images(source)] if source else []
        whole = out / "whole.onnx"
        write(whole, features)
        quantize(whole, out / MODEL, runtime.Runner(whole, words), images)
        whole.unlink()
    shutil.copyfile(runtime.__file__, out / RUNNER)
    runner = runtime.Runner(out / MODEL, words)
    told = {**facts, "bytes": (out / MODEL).stat().st_size}
    if plan.window_px is None:
        told["agreement"] = _checked(segmenter, classes, runner, AGREEMENT[plan.precision])
    if plan.measured_on:
        ways = {"torch float32": lambda image: segmenter.predict(image, classes).labels}
        ways["onnx float32"] = _labels_of(runtime.Runner(float32, words))
        ways[f"onnx {plan.precision}"] = _labels_of(runner)
        told["measured"] = measured(ways, Path(plan.measured_on), classes)
    if plan.precision != "float32":
        float32.unlink(missing_ok=True)
    write_json(out / FACTS, told)
    return told


def write_words(folder: Path, classes: Vocabulary, path: Path) -> None:
    """Write text vectors of other words for a model that was exported with open words.

    Args:
        folder: the trained one that the model was exported from.
        classes: the words.
        path: of the new .npz file.
    """
    segmenter = Segmenter.load(folder, device="cpu", precision="float32")
    texts = segmenter.segmentation.encode_names(classes if any(classes.synonyms) else classes.names)
    section = ModelsParams.model_validate(read_json(folder / DESCRIPTION)["models"])
    save_words(path, classes, texts, text_encoder(section))


def save_words(path: Path, classes: Vocabulary, texts: Tensor, encoder: str) -> None:
    """Text vectors as `fmbseg.runtime` reads them: `names`, `vectors`, `lines`, `text_encoder`."""
    vectors: Float32[np.ndarray, "category dim"] = texts.float().numpy()
    content = io.BytesIO()
    np.savez(
        content, names=np.array(classes.names), vectors=vectors, lines=np.array(classes.lines()),
        text_encoder=np.array(encoder),
    )  # fmt: skip
    write_bytes(path, content.getvalue())


def _checked(
    segmenter: Segmenter, classes: Vocabulary, runner: runtime.Runner, least: float
) -> float:
    """Share of the pixels of drawn pictures that file and torch label alike."""
    equal = total = 0
    for number, size_hw in enumerate(_SIDES_PX):
        image = drawn(size_hw, number)
        wanted = segmenter.predict(image, classes).labels
        equal += int((runner(image).labels == wanted).sum())
        total += wanted.size
    if equal < least * total:
        raise ModelExportError(
            f"the exported file gives {equal / total:.2%} of the pixels of drawn pictures the "
            f"label that torch gives them; wanted {least:.1%}; it is not kept"
        )
    return equal / total


def _labels_of(runner: runtime.Runner) -> Callable[[Image], Labels]:
    return lambda image: runner(image).labels
