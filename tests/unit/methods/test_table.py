"""The table of methods: what each entry says of its method is true of the method it builds."""

import subprocess
import sys

import pytest

from fmbseg.methods.segmentation import needs_image_labels
from fmbseg.methods.table import METHODS
from tests.support.method_fakes import (
    NAMES,
    OPTIONS,
    ColourClip,
    ColourSam,
    ColourVision,
    identity_head,
    image,
)


class Counted:
    """Parts that note what is asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def clip(self, projection=None, *, whole_crops=False):
        self.asked.add("clip")
        return ColourClip()

    def sam(self):
        self.asked.add("sam")
        return ColourSam()

    def vision(self):
        self.asked.add("vision")
        return ColourVision()

    def head(self):
        self.asked.add("head")
        return identity_head()

    def stage1(self):
        return OPTIONS


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_says_which_models_labels_and_training_its_method_needs(name: str):
    entry, parts = METHODS[name], Counted()
    built = entry.build(parts, name)
    assert built.name == name
    assert parts.asked == {*entry.models, *(["head"] if entry.trained else [])}
    assert needs_image_labels(built) == entry.needs_image_labels
    if not entry.needs_image_labels:
        assert built.segment(image(), NAMES).labels.shape == (24, 16)
    assert name.replace("_", "").isalnum(), "units are named <method>-<data set>"
    assert entry.summary.endswith(".")
    assert len(entry.summary) > 20


def test_the_table_and_the_parameters_are_read_without_torch():
    code = "import sys, fmbseg; fmbseg.load_params('params.yaml'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
