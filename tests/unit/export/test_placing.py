from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import NONE, ExportError, ExportPlan, LabelledImage
from fmbseg.export.placing import escaped_folders
from fmbseg.store import read_image
from tests.support.export_images import export, files


def lying(path, kind: str, orientation: int = 6) -> LabelledImage:
    """An image of 30 x 20 px that its EXIF data turn to 20 x 30."""
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[:, 15:] = 200
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(rgb).save(path, kind, exif=exif)
    hw = read_image(path).shape[:2]
    return LabelledImage(path.name, path.stem, path, hw, (), np.full(hw, NONE, np.int32))


@pytest.mark.parametrize("how", ["copy", "link"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_with_an_exif_orientation_is_written_upright_for_tools_that_ignore_it(
    tmp_path, kind, how
):
    one = lying(tmp_path / f"x.{kind.lower()}", kind)
    assert one.image_hw == (30, 20)
    notes = write_dataset("png", tmp_path / "out", ExportPlan(["a"], how), [one])
    assert notes == {"images_with_exif_orientation": 1}
    with PIL.Image.open(tmp_path / f"out/images/{one.name}") as placed:
        assert placed.size == (20, 30)
        assert placed.format == kind
        assert placed.getexif().get(0x0112, 1) == 1
        off = np.abs(np.array(placed.convert("RGB")).astype(int) - read_image(one.file))
    assert off.mean() < (2 if kind == "JPEG" else 0.001)


def test_a_link_leads_to_the_image_and_leaving_places_none(tmp_path):
    out, images, _ = export("png", tmp_path, lambda plan: replace(plan, images="link"))
    for one in images:
        placed = out / "images" / (one.stem + one.file.suffix)
        assert placed.is_symlink()
        assert placed.resolve() == one.file.resolve()
    left = tmp_path / "left"
    write_dataset("png", left, ExportPlan(["a"] * 4, images="leave"), images)
    assert not (left / "images").exists()
    assert "same.jpg,labels/same-jpg.png,val" in (left / "images.csv").read_text()


def test_two_images_of_one_name_lie_side_by_side(tmp_path):
    out, *_ = export("png", tmp_path)
    assert {"images/same.png", "images/same-jpg.jpg"} <= files(out)


def test_folders_with_a_reserved_name_are_renamed_and_stay_unlike_any_other():
    stems = ["images/a", "images_/a", "images__/a", "a/images/b", "images", "my images/a"]
    found = [escaped_folders(stem, "images") for stem in stems]
    assert len(set(found)) == len(stems)
    assert not [one for one in found if "images" in one.split("/")[:-1]]
    assert found[4:] == stems[4:]


@pytest.mark.parametrize("how", ["copy", "link", "leave"])
def test_an_image_that_has_gone_is_named(tmp_path, how):
    one = lying(tmp_path / "x.png", "PNG")
    one.file.unlink()
    with pytest.raises(ExportError, match=r"x\.png: no such file; wanted the image"):
        write_dataset("png", tmp_path / "out", ExportPlan(["a"], how), [one])
