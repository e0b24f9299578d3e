import csv

import numpy as np
import PIL.Image

from tests.support.export_images import CLASSES, NAMES, export, files, many_classes, pixels


def test_the_pixels_of_label_pngs_are_class_indices_and_255_where_there_is_no_class(tmp_path):
    out, images, _ = export("png", tmp_path)
    for one in images:
        expected = np.where(one.labels == -1, 255, one.labels)
        assert np.array_equal(pixels(out / f"labels/{one.stem}.png"), expected), one.name
        placed = out / "images" / (one.stem + one.file.suffix)
        assert placed.read_bytes() == one.file.read_bytes()
    assert (out / "classes.txt").read_text().split("\n")[:-1] == list(CLASSES)


def test_viewers_show_every_class_in_its_own_colour(tmp_path):
    out, *_ = export("png", tmp_path)
    with PIL.Image.open(out / "labels/plain.png") as picture:
        colours = np.array(picture.convert("RGB"))
        values = np.array(picture)
    seen = {int(value): tuple(colours[values == value][0]) for value in np.unique(values)}
    assert len(seen) == len(set(seen.values())) == 3
    with PIL.Image.open(out / "legend.png") as legend:
        assert legend.mode == "RGB"


def test_the_table_lists_every_image_with_its_labels_and_split(tmp_path):
    out, images, _ = export("png", tmp_path)
    with (out / "images.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["split"] for row in rows] == [one.split for one in images]
    assert len(rows) == len(NAMES)
    for row in rows:
        assert (out / row["labels"]).is_file()
        assert (out / "images" / row["image"]).is_file()


def test_confidence_is_a_png_of_16_bits_where_it_is_known(tmp_path):
    out, images, _ = export("png", tmp_path)
    for one in images:
        path = out / f"confidence/{one.stem}.png"
        assert path.is_file() == (one.confidence is not None)
        if one.confidence is not None:
            assert np.abs(pixels(path) / 65535 - one.confidence).max() < 1e-5


def test_300_classes_get_16_bits(tmp_path):
    out, labels = many_classes(tmp_path, "png")
    assert np.array_equal(pixels(out / "labels/long.png"), np.where(labels < 0, 65535, labels))


def test_no_temporary_file_is_left(tmp_path):
    out, *_ = export("png", tmp_path)
    assert not [name for name in files(out) if ".tmp" in name]
