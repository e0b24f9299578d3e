import re
import textwrap
import typing
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fmbseg.export.formats import FORMATS, write_dataset
from fmbseg.export.labelled import NONE, ExportPlan, LabelledImage
from fmbseg.export.settings import FormatName
from fmbseg.store import encode_image
from fmbseg.types import Origin
from tests.conftest import REPOSITORY
from tests.support.export_images import CLASSES, box, files, hard_images, region

every = pytest.mark.parametrize("kind", sorted(FORMATS))


@every
def test_an_export_of_no_image_is_whole(tmp_path, kind):
    write_dataset(kind, tmp_path / "out", ExportPlan(CLASSES), [])
    assert files(tmp_path / "out")


@every
def test_images_are_asked_for_one_by_one_and_none_is_kept(tmp_path, kind):
    import weakref

    images = hard_images(tmp_path / "photographs")
    alive: list[weakref.ref[LabelledImage]] = []

    def one_by_one():
        while images:
            assert sum(ref() is not None for ref in alive) <= 1, "the last one, which is at work"
            one = images.pop()
            alive.append(weakref.ref(one))
            yield one

    write_dataset(kind, tmp_path / "out", ExportPlan(CLASSES, has_val=True), one_by_one())


@every
def test_the_same_labels_give_the_same_bytes(tmp_path, kind):
    images = hard_images(tmp_path / "photographs")
    plan = ExportPlan(CLASSES, has_val=True)
    found = []
    for name in ("first", "second"):
        write_dataset(kind, tmp_path / name, plan, images)
        found.append(
            {path: (tmp_path / name / path).read_bytes() for path in files(tmp_path / name)}
        )
    assert found[0] == found[1]


@every
def test_leaving_images_writes_labels_alone_and_says_which_go_by_another_name(tmp_path, kind):
    images = hard_images(tmp_path / "photographs")
    plan = ExportPlan(CLASSES, images="leave", has_val=True)
    notes = write_dataset(kind, tmp_path / "out", plan, images)
    assert notes["images_called_unlike_their_labels"] == 1, "same.jpg, beside same.png"
    pictures = {one.file.read_bytes() for one in images}
    assert not [
        f for f in files(tmp_path / "out") if (tmp_path / "out" / f).read_bytes() in pictures
    ]


@every
def test_a_photograph_of_16_bits_is_placed_as_it_is(tmp_path, kind):
    one = hard_images(tmp_path / "photographs")[0]
    deep = np.random.default_rng(0).integers(0, 65536, one.image_hw, np.uint16)
    one.file.write_bytes(encode_image(PIL.Image.fromarray(deep)))
    write_dataset(kind, tmp_path / "out", ExportPlan(CLASSES), [one])
    found = [tmp_path / "out" / name for name in files(tmp_path / "out")]
    (placed,) = [path for path in found if path.read_bytes() == one.file.read_bytes()]
    with PIL.Image.open(placed) as picture:
        assert np.array_equal(np.asarray(picture), deep)


@every
def test_all_origins_and_pixels_without_a_region_can_be_written(tmp_path, kind):
    one = hard_images(tmp_path / "photographs")[0]
    regions = tuple(
        region(box(5 * place, 0, 4, 9), place, 0.5, origin)
        for place, origin in enumerate(typing.get_args(Origin))
    )
    labels = np.full(one.image_hw, 2, np.int32)
    for each in reversed(regions):
        left, top, width, height = each.box_xywh_px
        labels[top : top + height, left : left + width] = each.class_index
    labels[20:] = NONE
    write_dataset(
        kind, tmp_path / "out", ExportPlan(CLASSES), [replace(one, regions=regions, labels=labels)]
    )


def test_the_page_of_formats_and_the_parameters_list_every_format():
    text = (REPOSITORY / "docs/export.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)
    assert rows == list(FORMATS) == list(typing.get_args(FormatName))


def test_the_format_of_the_guide_for_contributors_writes_what_it_says(tmp_path):
    text = (REPOSITORY / "CONTRIBUTING.md").read_text().split("### Add an export format")[1]
    (block,) = re.findall(r"^    ```python\n(.*?)^    ```$", text, re.MULTILINE | re.DOTALL)
    made: dict[str, Any] = {}
    exec(textwrap.dedent(block), made)
    one = hard_images(tmp_path / "photographs")[0]
    made["FORMAT"].write(tmp_path / "out", ExportPlan(CLASSES), [one])
    first = (tmp_path / "out/labels/plain.txt").read_text().splitlines()[0]
    assert first == f"0 {10 / 37:.6f} 0.500000 {20 / 37:.6f} 1.000000"
