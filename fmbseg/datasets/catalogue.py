"""Facts of the public data sets: what they hold, where they come from, on which terms."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fmbseg.datasets import ade, cityscapes, coco, context, voc
from fmbseg.datasets.classes import ClassTable

_MB = 1_000_000


@dataclass(frozen=True)
class Archive:
    """One file to fetch.

    Attributes:
        url: official address; with `login` the page that leads to the file.
        file_name: as it is saved.
        unpack_to: folder below the data set's root where it is unpacked, or put when it is no
            archive; "." is the root.
        about_bytes: size to reckon with; None where nothing is known.
        size_bytes: exact size, where it is published.
        md5: hexadecimal, where published.
        sha256: hexadecimal, where published. Without md5 and sha256, that of the first good
            download is to be recorded beside the file and compared from then on.
        splits: the splits that need it.
        holds: what is in it; images alone are enough for what needs no labels, as training does.
        instead_of: file name of the archive it can stand in for; "" when it is needed itself.
        login: only an account on the site opens it.
    """

    url: str
    file_name: str
    unpack_to: str
    about_bytes: int | None
    size_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    splits: tuple[str, ...] = ("train", "val")
    holds: Literal["images", "labels", "both"] = "both"
    instead_of: str = ""
    login: bool = False


@dataclass(frozen=True)
class Entry:
    """One data set under one evaluation protocol.

    Attributes:
        name: as `fmbseg.datasets.load` takes it.
        title: for people.
        classes: names, colours, background.
        splits: name and number of images as published, to compare a tree with; count what is
            loaded before a figure is called comparable.
        licence: of images and annotations, in short.
        home: page of the data set.
        archives: everything to fetch, alternatives among it.
        column: of the paper's table; None when the paper has none.
        background: what becomes of pixels that belong to none of the things named.
        notes: what to know before fetching or comparing; one sentence each.
    """

    name: str
    title: str
    classes: ClassTable
    splits: tuple[tuple[str, int], ...]
    licence: str
    home: str
    archives: tuple[Archive, ...]
    column: str | None
    background: str
    notes: tuple[str, ...] = ()

    @property
    def class_count(self) -> int:
        """Number of classes, the background among them where it is one."""
        return len(self.classes.names)

    def needed(self, splits: Iterable[str], *, with_labels: bool = True) -> tuple[Archive, ...]:
        """The archives that these splits need, alternatives left out."""
        wanted = set(splits)
        return tuple(
            archive
            for archive in self.archives
            if not archive.instead_of
            and wanted & {*archive.splits}
            and (with_labels or archive.holds != "labels")
        )

    def disk_bytes(self, splits: Iterable[str], *, with_labels: bool = True) -> int:
        """Room these splits take, about: the archives and as much again, unpacked.

        Photographs and label pictures hardly shrink in an archive. Archives of unknown size count
        as nothing.
        """
        needed = self.needed(splits, with_labels=with_labels)
        return 2 * sum(archive.about_bytes or 0 for archive in needed)


_VOC2012 = Archive(
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    "VOCtrainval_11-May-2012.tar", ".", 1_999_639_040, 1_999_639_040,
    md5="6cd6e144f989b92b3379bac3b3de84fd",
    sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    splits=("train", "val", "trainval"),
)  # fmt: skip
_CONTEXT = (
    Archive(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
        "VOCtrainval_03-May-2010.tar", ".", 1_300 * _MB,
        md5="da459979d0c395079b5c75ee67908abb",
        holds="images",
    ),
    Archive(
        "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
        "trainval_merged.json", "VOCdevkit/VOC2010", None, holds="labels",
    ),
    Archive(
        "https://roozbehm.info/pascal-context/trainval.tar.gz",
        "trainval.tar.gz", "VOCdevkit/VOC2010", None, holds="labels",
        instead_of="trainval_merged.json",
    ),
)  # fmt: skip
_COCO = (
    Archive(
        "http://images.cocodataset.org/zips/val2017.zip",
        "val2017.zip", "coco_stuff164k/images", 815_585_330, 815_585_330,
        sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        splits=("val",), holds="images",
    ),
    Archive(
        "http://images.cocodataset.org/zips/train2017.zip",
        "train2017.zip", "coco_stuff164k/images", 19_336_861_798, 19_336_861_798,
        sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        splits=("train",), holds="images",
    ),
    Archive(
        "https://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
        "stuffthingmaps_trainval2017.zip",
        "stuffthingmaps_trainval2017.zip", "coco_stuff164k/annotations", 659 * _MB,
        holds="labels",
    ),
)  # fmt: skip
_COCO_INSTANCES = Archive(
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    "annotations_trainval2017.zip", "coco_stuff164k", 250 * _MB, holds="labels",
    instead_of="stuffthingmaps_trainval2017.zip",
)  # fmt: skip
_CITYSCAPES = (
    Archive(
        "https://www.cityscapes-dataset.com/downloads/",
        "leftImg8bit_trainvaltest.zip", ".", 11_600 * _MB, holds="images", login=True,
    ),
    Archive(
        "https://www.cityscapes-dataset.com/downloads/",
        "gtFine_trainvaltest.zip", ".", 250 * _MB, holds="labels", login=True,
    ),
)  # fmt: skip
_ADE = Archive(
    "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    "ADEChallengeData2016.zip", ".", 1_000 * _MB,
)  # fmt: skip

_FLICKR = "images: Flickr's terms of use"
_VOC_SPLITS = (("train", 1_464), ("val", 1_449), ("trainval", 2_913))
_CONTEXT_SPLITS = (("train", 4_998), ("val", 5_105))
_COCO_SPLITS = (("train", 118_287), ("val", 5_000))
_CITYSCAPES_SPLITS = (("train", 2_975), ("val", 500))
_VOC_HOME = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
_CONTEXT_HOME = "https://roozbehm.info/pascal-context/"
_COCO_HOME = "https://github.com/nightrome/cocostuff"
_CITYSCAPES_HOME = "https://www.cityscapes-dataset.com/"
_CONTEXT_NOTES = (
    "The annotations are converted after fetching.",
    "The splits here are VOC 2010's own lists; sources differ by some images, so count them.",
    "Should the JSON's host not answer, the 459-class .mat archive serves as well.",
)
_CITYSCAPES_NOTES = (
    "Needs an account: register on the home page, log in, fetch leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip by hand, unpack both in one folder.",
)
_CITYSCAPES_LICENCE = "Cityscapes' own terms, accepted on registration"
_COCO_LICENCE = f"{_FLICKR}; annotations: CC BY 4.0"
_STUFF_BEHIND = "is class 0; its text is the stuff names of COCO-Stuff"
_IGNORED = "ignored"

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "voc21", "PASCAL VOC 2012, 20 objects and background", voc.CLASSES["voc21"],
            _VOC_SPLITS, _FLICKR, _VOC_HOME, (_VOC2012,), "PV-21", _STUFF_BEHIND,
        ),
        Entry(
            "voc20", "PASCAL VOC 2012, 20 objects", voc.CLASSES["voc20"],
            _VOC_SPLITS, _FLICKR, _VOC_HOME, (_VOC2012,), "PV-20", _IGNORED,
        ),
        Entry(
            "context59", "PASCAL Context, 59 classes", context.CLASSES["context59"],
            _CONTEXT_SPLITS, f"{_FLICKR}; annotations: not stated", _CONTEXT_HOME, _CONTEXT,
            "PC-59", _IGNORED, _CONTEXT_NOTES,
        ),
        Entry(
            "context60", "PASCAL Context, 59 classes and background", context.CLASSES["context60"],
            _CONTEXT_SPLITS, f"{_FLICKR}; annotations: not stated", _CONTEXT_HOME, _CONTEXT,
            None, f"{_STUFF_BEHIND} that are no kind of the 59", _CONTEXT_NOTES,
        ),
        Entry(
            "coco_stuff171", "COCO-Stuff 164k, 80 things and 91 stuff classes",
            coco.CLASSES["coco_stuff171"], _COCO_SPLITS, _COCO_LICENCE, _COCO_HOME, _COCO,
            "CS-171", "there is none; void is ignored",
        ),
        Entry(
            "coco_object81", "COCO-Object, 80 things and background",
            coco.CLASSES["coco_object81"], _COCO_SPLITS, _COCO_LICENCE, _COCO_HOME,
            (*_COCO, _COCO_INSTANCES), None, _STUFF_BEHIND,
        ),
        Entry(
            "coco_things80", "COCO-Object, 80 things", coco.CLASSES["coco_things80"],
            _COCO_SPLITS, _COCO_LICENCE, _COCO_HOME, (*_COCO, _COCO_INSTANCES), "CO-80", _IGNORED,
        ),
        Entry(
            "cityscapes19", "Cityscapes fine, the 19 evaluated classes",
            cityscapes.CLASSES["cityscapes19"], _CITYSCAPES_SPLITS, _CITYSCAPES_LICENCE,
            _CITYSCAPES_HOME, _CITYSCAPES, "City", "there is none; the other labels are ignored",
            _CITYSCAPES_NOTES,
        ),
        Entry(
            "cityscapes30", "Cityscapes fine, all 30 defined classes",
            cityscapes.CLASSES["cityscapes30"], _CITYSCAPES_SPLITS, _CITYSCAPES_LICENCE,
            _CITYSCAPES_HOME, _CITYSCAPES, "City", "there is none; unlabelled pixels are ignored",
            (*_CITYSCAPES_NOTES, "The paper says 30 categories; the usual protocol has 19."),
        ),
        Entry(
            "ade150", "ADE20K scene parsing, 150 classes", ade.CLASSES["ade150"],
            (("train", 20_210), ("val", 2_000)), "research use",
            "http://sceneparsing.csail.mit.edu/", (_ADE,), "ADE", _IGNORED,
        ),
    )
}  # fmt: skip
"""Every public data set by its name."""
