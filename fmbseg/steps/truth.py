"""Ground truth of the training images, where label files exist: for pictures and ceilings."""

from collections.abc import Mapping
from pathlib import Path

from fmbseg.datasets.base import Dataset
from fmbseg.datasets.folder import FolderDataset
from fmbseg.steps.workspace import Listing, Workspace
from fmbseg.store import file_sha
from fmbseg.vocabulary import read_classes


def training_truth(workspace: Workspace) -> Dataset | None:
    """The training images with their labels; None where no label files are named.

    The method reads them nowhere: the report's gallery does, and `train.labels: truth`.

    Raises:
        DatasetError: label files are missing or do not fit.
    """
    class_names, data = read_classes(workspace.classes_path()).names, workspace.params.data
    if workspace.data_set == "miniature":
        return FolderDataset(workspace.download / "train", "train", class_names=class_names)
    if data.labels is None:
        return None
    return FolderDataset(
        data.images, "", class_names=class_names, labels=data.labels,
        ignore_label=data.ignore_label,
    )  # fmt: skip


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
