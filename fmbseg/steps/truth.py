"""Ground truth of the workspace's own images, where label files exist."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fmbseg.ahead import ahead
from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.datasets.folder import FolderDataset
from fmbseg.image_size import size_problem
from fmbseg.steps.workspace import Listing, Workspace
from fmbseg.store import UnreadableImageError, file_sha
from fmbseg.vocabulary import read_classes

Record = dict[str, Any] | None


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


def usable_ahead(
    samples: Dataset, known: Iterable[tuple[int, Record]], bad: list[dict[str, str]], count: int = 1
) -> Iterator[tuple[int, Record, Sample | None]]:
    """Images as `usable` gives them, read by background threads while those before are used.

    Args:
        samples: the data set.
        known: indices, each with what is known of the image; one that is known is not read.
        bad: gets what cannot be used, in order.
        count: so many images are read ahead.

    Yields:
        The index, what is known, and the image.
    """

    def read(one: tuple[int, Record]) -> tuple[Sample | None, list[dict[str, str]]]:
        index, record = one
        problems: list[dict[str, str]] = []
        return (usable(samples, index, problems) if record is None else None), problems

    with contextlib.closing(ahead(known, read, count)) as pairs:
        for (index, record), (sample, problems) in pairs:
            bad.extend(problems)
            yield index, record, sample


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
