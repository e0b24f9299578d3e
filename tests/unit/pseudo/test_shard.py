import contextlib
import io
import json
import sys

import numpy as np
import PIL.Image
import pytest
from pycocotools.coco import COCO

from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.pseudo.shard import compute_shard
from fmbseg.pseudo.stage1 import ImagePseudoMasks, pseudo_masks_of_image
from fmbseg.pseudo.teacher import ClipSamTeacher, Teacher
from fmbseg.store import list_images, read_coco, read_image, read_json
from fmbseg.types import IGNORE, PseudoMask, SamMask
from tests.support.masks import encode_rle
from tests.support.pseudo_fakes import COLOURS, NAMES, OPTIONS, ColourClip, ColourSam, painted

TEXTS = ColourClip().encode_text(NAMES)
GOOD = {
    "a.png": ("red", "green"),
    "b.png": ("blue", "red", "yellow"),
    "sub/größe 1.png": ("green", "blue"),
}
FILES = ["looks.npy", "presence.json", "quarantine.json", "stage11.json", "stage12.json"]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for index, (name, colours) in enumerate(GOOD.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(painted(*colours, seed=index)).save(folder / name)
    return folder


def run(images, tmp_path, out="out", sam=None, names=None, options=OPTIONS, **more):
    sam = sam or ColourSam()
    compute_shard(
        list_images(images) if names is None else names,
        lambda name: read_image(images / name),
        ClipSamTeacher(ColourClip(), sam, TEXTS, NAMES, options),
        tmp_path / out,
        tmp_path / "scratch",
        **more,
    )
    return sam


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    assert listed(folder) == FILES
    return {name: (folder / name).read_bytes() for name in FILES}


def test_one_image_is_encoded_once_and_both_stages_find_its_regions():
    clip, sam = ColourClip(), ColourSam()
    image = painted("red", "green", "blue")
    found = pseudo_masks_of_image(image, "a.png", clip, sam, TEXTS, NAMES, OPTIONS)
    assert (clip.calls, sam.embeds) == (1, 1)
    assert sum(found.votes) == 9
    assert set(found.present) <= {0, 1, 2}
    assert [mask.class_index for mask in found.masks_11] == found.present
    assert {mask.class_index for mask in found.masks_12} <= set(found.present)
    labels = label_map_of([*found.masks_11, *found.masks_12], image.shape[:2])
    for index in found.present:
        np.testing.assert_allclose(
            image[labels == index].mean(axis=0), list(COLOURS.values())[index], atol=8
        )


def test_texts_must_fit_the_class_names():
    with pytest.raises(ValueError, match="4 text features for 3"):
        pseudo_masks_of_image(
            painted("red"), "a", ColourClip(), ColourSam(), TEXTS, NAMES[:3], OPTIONS
        )


def test_a_shard_writes_coco_files_that_pycocotools_loads(images, tmp_path):
    run(images, tmp_path)
    contents(tmp_path / "out")
    for file, stage in (("stage11.json", "1.1"), ("stage12.json", "1.2")):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(tmp_path / "out" / file)
        assert [image["file_name"] for image in coco.imgs.values()] == sorted(GOOD)
        assert len(coco.anns) >= 5
        for annotation in coco.anns.values():
            assert annotation["stage"] == stage
            assert coco.annToMask(annotation).sum() == annotation["area"]
            pixels = coco.annToMask(annotation).astype(bool)
            image = read_image(images / coco.imgs[annotation["image_id"]]["file_name"])
            name = coco.cats[annotation["category_id"]]["name"]
            np.testing.assert_allclose(image[pixels].mean(axis=0), COLOURS[name], atol=8)
    presence = read_json(tmp_path / "out/presence.json")
    assert presence["a.png"]["present"] == ["red", "green"]
    assert sum(presence["a.png"]["votes"].values()) == 9
    assert read_json(tmp_path / "out/quarantine.json") == []


def test_every_class_of_the_vocabulary_is_reached(images, tmp_path):
    run(images, tmp_path)
    for file in ("stage11.json", "stage12.json"):
        masks = read_coco(tmp_path / "out" / file).masks
        assert {mask.class_name for mask in masks} == set(NAMES)


def test_label_maps_are_exclusive_and_every_label_has_a_mask_under_it(images, tmp_path):
    run(images, tmp_path)
    first, second = (read_coco(tmp_path / f"out/stage1{n}.json") for n in (1, 2))
    for name, size_hw in first.image_sizes_hw.items():
        masks = [mask for mask in first.masks + second.masks if mask.image == name]
        labels = label_map_of(masks, size_hw)
        assert labels.shape == size_hw
        assert set(np.unique(labels)) <= {mask.class_index for mask in masks} | {IGNORE}
        assert (labels != IGNORE).mean() > 0.9


def test_bad_images_are_set_aside_with_reasons_and_good_ones_processed(images, tmp_path):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(buffer, "jpeg")
    (images / "cut.jpg").write_bytes(buffer.getvalue()[:1500])
    (images / "empty.jpg").touch()
    (images / "text.png").write_text("not a picture")
    PIL.Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(images / "dot.png")
    PIL.Image.fromarray(painted("red")).convert("CMYK").save(images / "cmyk.jpg")
    deep = np.full((40, 40), 40000, np.uint16)
    deep[:, 20:] = 3000
    PIL.Image.fromarray(deep).save(images / "deep.png")
    PIL.Image.fromarray(painted("green")).save(images / "name with äöü ß.png")
    run(images, tmp_path)
    reasons = {
        entry["image"]: entry["reason"] for entry in read_json(tmp_path / "out/quarantine.json")
    }
    assert set(reasons) == {"cut.jpg", "empty.jpg", "text.png", "dot.png"}
    assert "truncated" in reasons["cut.jpg"]
    assert reasons["empty.jpg"] == "empty file"
    assert "not a picture" in reasons["text.png"]
    assert reasons["dot.png"] == "1x1 px is smaller than 8 px"
    found = read_coco(tmp_path / "out/stage11.json")
    assert set(found.image_sizes_hw) == {*GOOD, "cmyk.jpg", "deep.png", "name with äöü ß.png"}
    assert {mask.image for mask in found.masks} == set(found.image_sizes_hw)


def test_a_shard_of_bad_images_only_still_writes_its_files(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").touch()
    run(tmp_path / "images", tmp_path)
    assert len(read_json(tmp_path / "out/quarantine.json")) == 1
    assert read_coco(tmp_path / "out/stage12.json").masks == []


def test_after_a_cut_only_the_missing_images_are_computed_and_the_bytes_are_the_same(
    images, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path, sam=ColourSam(fail_after=2))
    assert not (tmp_path / "out").exists()
    assert len(listed(tmp_path / "scratch")) == 2
    assert run(images, tmp_path).embeds == 1
    resumed = contents(tmp_path / "out")
    for path in (tmp_path / "scratch").iterdir():
        path.unlink()
    assert run(images, tmp_path, out="again").embeds == 3
    assert contents(tmp_path / "again") == resumed
    names = list_images(images)[::-1]
    assert run(images, tmp_path, out="reversed", names=names).embeds == 0
    assert contents(tmp_path / "reversed") == resumed


def test_a_damaged_scratch_file_is_computed_again(images, tmp_path):
    run(images, tmp_path)
    before = contents(tmp_path / "out")
    first, second, third = sorted((tmp_path / "scratch").iterdir())
    first.write_text("")
    second.write_text('{"size": [1, 2]}')
    third.write_text("[]")
    assert run(images, tmp_path).embeds == 3
    assert contents(tmp_path / "out") == before


def test_finished_images_count_only_for_the_same_pixels_options_and_key(images, tmp_path):
    run(images, tmp_path)
    assert run(images, tmp_path).embeds == 0
    PIL.Image.fromarray(painted("yellow", "blue")).save(images / "a.png")
    assert run(images, tmp_path).embeds == 1
    options = OPTIONS.changed(prompt_points=3)
    assert run(images, tmp_path, options=options).embeds == 3
    assert run(images, tmp_path, key="other models").embeds == 3


def test_a_name_given_twice_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match="twice"):
        run(images, tmp_path, names=["a.png", "a.png"])


class ColourTeacher:
    """Another teacher: the pixels near a class's colour, with neither CLIP nor SAM."""

    class_names, settings, images_at_once = NAMES, "colours", 2

    def prepare(self, image):
        return image

    def pseudo_masks(self, prepared, names):
        return map(self.masks_of, prepared, names)

    def masks_of(self, image, name):
        masks = []
        for index, colour in enumerate(COLOURS.values()):
            inside = np.abs(image.astype(int) - colour).max(axis=2) < 30
            if inside.any():
                area = int(inside.sum())
                mask = SamMask(encode_rle(inside), area, (0.0, 0.0, 1.0, 1.0), 0.9, 1.0, ())
                masks.append(PseudoMask(name, index, NAMES[index], "1.1", 0.5, mask))
        present = [mask.class_index for mask in masks]
        return ImagePseudoMasks(masks, [], present, [0] * len(NAMES))


def test_a_shard_asks_whatever_teacher_it_is_given(images, tmp_path):
    assert isinstance(ColourTeacher(), Teacher)
    assert isinstance(ClipSamTeacher(ColourClip(), ColourSam(), TEXTS, NAMES, OPTIONS), Teacher)
    scratch = tmp_path / "scratch"
    found = [
        compute_shard(
            list_images(images), lambda name: read_image(images / name), ColourTeacher(),
            tmp_path / out, scratch,
        )
        for out in ("out", "again")
    ]  # fmt: skip
    assert found == [{"computed": 3, "reused": 0}, {"computed": 0, "reused": 3}]
    assert contents(tmp_path / "out") == contents(tmp_path / "again")
    prompted = read_coco(tmp_path / "out/stage11.json").masks
    assert {mask.image: mask.class_name for mask in prompted if mask.class_index == 0} == {
        "a.png": "red", "b.png": "red",
    }  # fmt: skip
    assert {mask.clip_similarity for mask in prompted} == {0.5}
    assert read_coco(tmp_path / "out/stage12.json").masks == []


class SeveralSam(ColourSam):
    """Takes several images, as on an accelerator."""

    images_at_once = 2

    def __init__(self, fail_after=None):
        super().__init__(fail_after)
        self.together = []

    def prepare(self, image):
        return image.copy()

    def encode_prepared(self, prepared):
        self.together.append(len(prepared))
        return [self.embed(image) for image in prepared]


def test_images_go_through_the_encoders_together_and_the_bytes_are_the_same(images, tmp_path):
    run(images, tmp_path)
    (tmp_path / "scratch").rename(tmp_path / "kept")
    assert run(images, tmp_path, "together", SeveralSam()).together == [2, 1]
    assert contents(tmp_path / "together") == contents(tmp_path / "out")
    for path in sorted((tmp_path / "scratch").iterdir())[:2]:
        path.unlink()
    assert run(images, tmp_path, "again", SeveralSam()).together == [2]
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_the_progress_bar_is_on_standard_error_of_a_terminal(
    images, tmp_path, capsys, monkeypatch, stream
):
    shown = stream()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    compute_shard(
        ["a.png"],
        lambda name: read_image(images / name),
        ClipSamTeacher(ColourClip(), ColourSam(), TEXTS, NAMES, OPTIONS),
        tmp_path / "0007",
        tmp_path / "scratch",
        label="shard 7",
    )
    assert ("shard 7" in shown.getvalue()) == shown.isatty()
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "0007/quarantine.json").read_text()) == []
