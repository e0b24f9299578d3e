"""The images of a workspace with the labels that an export is made of, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmbseg.corrections.store import Correction
from fmbseg.export.classes import ClassMap, class_map
from fmbseg.export.labelled import NONE, LabelledImage, Region, Split
from fmbseg.export.regions import (
    chosen,
    in_classes,
    paint,
    region_of,
    regions_of_map,
    regions_of_masks,
)
from fmbseg.export.split import listed_splits, splits, stems
from fmbseg.progress import progress
from fmbseg.steps.corrections import Corrections
from fmbseg.steps.export_calibration import (
    Calibration,
    Regions,
    calibration_inputs,
    calibration_of,
)
from fmbseg.steps.foundation_models import precision_of
from fmbseg.steps.kept_masks import kept_masks
from fmbseg.steps.shards import quarantined, shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnreadableImageError, decode_rle, file_sha, read_coco
from fmbseg.types import IGNORE
from fmbseg.vocabulary import read_classes


@dataclass(frozen=True)
class Found:
    """What a source has of an image.

    Attributes:
        name: of the image.
        image_hw: its height and width, px.
        regions: in the workspace's classes, the most important first.
    """

    name: str
    image_hw: tuple[int, int]
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Labels:
    """All that is exported of a workspace.

    Attributes:
        classes: from the workspace's classes to the export's.
        split: of every image.
        images: makes them one by one, shard by shard.
        refused: `{"image", "reason"}` of those that could not be read; complete once `images`
            has come to its end.
        calibration: what was done to confidences; None where nothing was.
        corrected: images whose regions are those that people left standing.
    """

    classes: ClassMap
    split: dict[str, Split]
    images: Callable[[], Iterator[LabelledImage]]
    refused: list[dict[str, str]]
    calibration: Calibration | None
    corrected: frozenset[str]


def labels_of(workspace: Workspace) -> Labels:
    """What `params.export` asks for; no image is opened yet but those of a calibration.

    Raises:
        ExportError: the classes or the list of val do not fit.
        StoreError: the step that makes the labels has not run.
    """
    p = workspace.params.export
    names = read_classes(workspace.classes_path()).names
    classes = class_map(names, p.classes, p.unlabelled)
    predicted = p.source == "predictions"
    refused = list(workspace.listing().refused) if predicted else quarantined(workspace)
    bad = {entry["image"] for entry in refused}
    parts = {
        shard: [name for name in part if name not in bad]
        for shard, part in shards(workspace).items()
    }
    every = [name for part in parts.values() for name in part]
    split = (
        splits(every, p.val_fraction, workspace.params.seed) if p.val_list is None
        else listed_splits(every, workspace.root / p.val_list)
    )  # fmt: skip
    called = stems(every)
    corrections = Corrections.of(workspace)
    corrected = frozenset(every) & corrections.contents.keys() if p.corrections else frozenset()

    calibration = calibration_of(workspace, every, _finder(workspace)) if p.calibrate else None

    def images() -> Iterator[LabelledImage]:
        found = (
            _predictions(workspace, every, refused) if predicted
            else _pseudo_masks(workspace, parts)
        )  # fmt: skip
        with progress(f"export {p.source}", total=len(every)) as bar:
            for one in found:
                least = p.min_area_fraction * one.image_hw[0] * one.image_hw[1]
                revision = 0
                if one.name in corrected:
                    correction = corrections.of_image(one.name)
                    revision = correction.revision
                    own = chosen(_regions_of(correction, names), classes, 0.0, least)
                else:
                    sure = one.regions if calibration is None else map(calibration.of, one.regions)
                    own = chosen(sure, classes, p.min_confidence, least)
                regions = in_classes(own, classes)
                labels, confidence = paint(regions, one.image_hw, classes.rest)
                if one.name in corrected:
                    confidence.fill(1.0)  # a person looked at every pixel
                yield LabelledImage(
                    one.name, called[one.name], workspace.image_path(one.name).absolute(),
                    one.image_hw, regions, labels, confidence, split[one.name],
                    tuple(region.class_index for region in own), revision,
                )  # fmt: skip
                bar.update()

    return Labels(classes, split, images, refused, calibration, corrected)


def _regions_of(one: Correction, names: Sequence[str]) -> Iterator[Region]:
    """What a person left standing, without classes that the class file does not have."""
    for region in one.regions:
        if region.class_name in names:
            index = names.index(region.class_name)
            yield region_of(decode_rle(region.rle), index, region.score, region.origin)


def _finder(workspace: Workspace) -> Regions:
    """Finds the regions of some of the images."""

    def find(names: list[str]) -> Iterator[tuple[str, tuple[int, int], tuple[Region, ...]]]:
        if workspace.params.export.source == "predictions":
            found = _predictions(workspace, names, [])
        else:
            wanted = set(names)
            parts = {
                shard: [name for name in part if name in wanted]
                for shard, part in shards(workspace).items()
                if not wanted.isdisjoint(part)
            }
            found = _pseudo_masks(workspace, parts)
        for one in found:
            yield one.name, one.image_hw, one.regions

    return find


def _pseudo_masks(workspace: Workspace, parts: dict[str, list[str]]) -> Iterator[Found]:
    source = workspace.params.export.source
    for shard, names in parts.items():
        folder = workspace.pseudo_masks / shard
        first, second = (read_coco(folder / file) for file in ("stage11.json", "stage12.json"))
        stages = {"1.1": first.by_image(), "1.2": second.by_image()}
        kept = kept_masks(workspace, shard).by_image() if source == "kept" else {}
        for name in names:
            every = [mask for stage in stages.values() for mask in stage.get(name, [])]
            wanted = {"kept": kept, "all": {name: every}, **stages}[source].get(name, [])
            yield Found(name, first.image_sizes_hw[name], regions_of_masks(wanted, every))


def _predictions(
    workspace: Workspace, names: list[str], refused: list[dict[str, str]]
) -> Iterator[Found]:
    from fmbseg.segmenter import Segmenter

    vocabulary = read_classes(workspace.classes_path())
    segmenter = Segmenter.load(
        model_folder(workspace), workspace.params.device, precision=precision_of(workspace)
    )
    for name in names:
        try:
            image = workspace.read_image(name)
        except UnreadableImageError as error:
            refused.append({"image": name, "reason": str(error)})
            continue
        answer = segmenter.predict(image, vocabulary, scores=True)
        labels = answer.labels.astype(np.int32)  # of large images they are uint8, without NONE
        labels[labels == IGNORE] = NONE
        regions = regions_of_map(labels, answer.confidence)
        yield Found(name, (image.shape[0], image.shape[1]), regions)


def model_folder(workspace: Workspace) -> Path:
    """The trained folder whose predictions are exported."""
    named = workspace.params.export.model
    return workspace.train if named is None else Path(named)


def inputs_of(workspace: Workspace) -> dict[str, str]:
    """Name to hash of everything that an export is made of.

    Raises:
        StoreError: the step that makes the labels has not run.
    """
    p, files = workspace.params.export, {"classes": workspace.classes_path()}
    if p.val_list is not None:
        files["val_list"] = workspace.root / p.val_list
    if p.source == "predictions":
        for name in ("alignment.safetensors", "segmenter.json"):
            files[name] = model_folder(workspace) / name
    else:
        for shard in shards(workspace):
            files[f"pseudo_masks/{shard}"] = workspace.pseudo_masks / shard / "manifest.json"
    if p.source == "kept":
        files["subsample"] = workspace.subsample / "manifest.json"
    hashes = {name: file_sha(path) for name, path in files.items()}
    labels = calibration_inputs(workspace) if p.calibrate else {}
    people = Corrections.of(workspace).contents if p.corrections else {}
    corrections = {f"/corrections/{name}": said for name, said in people.items()}
    return {**workspace.listing().images, **labels, **hashes, **corrections}
