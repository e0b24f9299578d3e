"""Every public data set by its name. To add one: a file here with `ENTRIES`, and its name below."""

from fmbseg.datasets import ade, cityscapes, coco, context, voc
from fmbseg.datasets.entry import Entry

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for family in (voc, context, coco, cityscapes, ade)
    for entry in family.ENTRIES
}
