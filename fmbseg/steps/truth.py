"""The training images' own labels, where files of them exist: to look at, and for a ceiling."""

from fmbseg.datasets import Dataset, load
from fmbseg.steps.workspace import Workspace
from fmbseg.vocabulary import read_classes


def training_truth(workspace: Workspace) -> Dataset | None:
    """The training images with their labels; None where no label files are named.

    The method reads them nowhere: the report's gallery does, and `train.labels: truth`.

    Raises:
        DatasetError: label files are missing or do not fit.
    """
    class_names, data = read_classes(workspace.classes_path()).names, workspace.params.data
    if workspace.data_set == "miniature":
        return load("folder", workspace.download / "train", "train", class_names=class_names)
    if data.labels is None:
        return None
    return load(
        "folder", data.images, "", class_names=class_names, labels=data.labels,
        ignore_label=data.ignore_label,
    )  # fmt: skip
