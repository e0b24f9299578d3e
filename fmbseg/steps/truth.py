"""Ground truth of the workspace's own images, where label files exist."""

from collections.abc import Mapping
from pathlib import Path

from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.datasets.folder import FolderDataset
from fmbseg.image_size import size_problem
from fmbseg.steps.workspace import Listing, Workspace
from fmbseg.store import UnreadableImageError, file_sha
from fmbseg.vocabulary import read_classes


def labelled(workspace: Workspace, split: str = "train") -> Dataset | None:
    """The workspace's own images with their labels; None where no label files are named.

    Of the training images the method reads them nowhere: the report's gallery does, and
    `train.labels: truth`.

    Args:
        workspace: whose images.
        split: of the miniature; a folder has just one.

    Raises:
        DatasetError: label files are missing or do not fit.
    """
    class_names, data = read_classes(workspace.classes_path()).names, workspace.params.data
    if workspace.data_set == "miniature":
        return FolderDataset(workspace.download / split, split, class_names=class_names)
    if data.labels is None:
        return None
    return FolderDataset(
        data.images, "", class_names=class_names, labels=data.labels,
        ignore_label=data.ignore_label,
    )  # fmt: skip


def usable(samples: Dataset, index: int, bad: list[dict[str, str]]) -> Sample | None:
    """An image with labels; None without them, and where it cannot be used, which `bad` gets."""
    try:
        sample = samples[index]
    except (UnreadableImageError, DatasetError) as error:
        bad.append({"image": samples.names[index], "reason": str(error)})
        return None
    if sample.target is None:
        return None
    if problem := size_problem(sample.image.shape[:2]):
        bad.append({"image": sample.name, "reason": problem})
        return None
    return sample


def truth_inputs(workspace: Workspace) -> Mapping[str, str]:
    """Name to content hash of what figures on the workspace's own labelled images depend on."""
    classes = {"classes": file_sha(workspace.classes_path())}
    if workspace.data_set == "miniature":
        return {**classes, "download": file_sha(workspace.download / "manifest.json")}
    labels = Listing.scan(Path(str(workspace.params.data.labels))).images
    return {
        **classes,
        **Listing.read(workspace.download).images,
        **{f"labels/{label}": sha for label, sha in labels.items()},
    }
