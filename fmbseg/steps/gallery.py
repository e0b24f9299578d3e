"""Training images with all that was found in them, for the report's pictures."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from fmbseg.report.content import FileLink, GalleryRow
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.kept_masks import KeptMasks
from fmbseg.steps.shards import quarantined
from fmbseg.steps.truth import labelled
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco
from fmbseg.vocabulary import read_classes

COCO = "COCO JSON, masks as RLE"


def rows(workspace: Workspace, remarks: Mapping[str, str]) -> tuple[GalleryRow, ...]:
    """What was found in images; truth where label files exist, for looking only.

    Args:
        workspace: of a run whose training is done.
        remarks: name of each image to what is said of it, in order.
    """
    if not remarks:
        return ()
    from fmbseg.segmenter import Segmenter

    class_names = list(read_classes(workspace.classes_path()).names)
    kept = KeptMasks(workspace)
    models = models_of(workspace)
    segmenter = Segmenter.load(workspace.train, workspace.params.device, models=models)
    truths, found = labelled(workspace), []
    at = {name: index for index, name in enumerate(truths.names)} if truths is not None else {}
    for name, remark in remarks.items():
        image = workspace.read_image(name)
        folder = workspace.pseudo_masks / kept.shard_of(name)
        files = {"stage 1.1": folder / "stage11.json", "stage 1.2": folder / "stage12.json"}
        first, second = (read_coco(file).by_image().get(name, []) for file in files.values())
        target = truths[at[name]].target if truths is not None and name in at else None
        found.append(
            GalleryRow(
                name=name,
                image=image,
                stage_11=tuple(first),
                stage_12=tuple(second),
                kept=tuple(kept.of(name).masks),
                prediction=segmenter.predict(image, class_names).labels,
                truth=target,
                files=tuple(
                    FileLink(what, link(workspace, file), COCO) for what, file in files.items()
                ),
                remark=remark,
            )
        )
    return tuple(found)


def spread(workspace: Workspace, wanted: int) -> dict[str, str]:
    """Of each of `wanted` stretches of the sorted images the first that has a mask; no remarks."""
    if wanted == 0:
        return {}
    kept = KeptMasks(workspace)
    bad = {entry["image"] for entry in quarantined(workspace)}
    names = sorted(set(workspace.listing().images) - bad)
    length = max(1, len(names) // wanted)
    firsts = (
        next((name for name in names[start : start + length] if kept.of(name).masks), None)
        for start in range(0, len(names), length)
    )
    return dict.fromkeys(islice((name for name in firsts if name is not None), wanted), "")


def link(workspace: Workspace, path: Path) -> str:
    """The path of a file of the workspace as seen from the report's folder."""
    return "../../" + path.relative_to(workspace.root).as_posix()
