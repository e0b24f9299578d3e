import json
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest

from fmbseg.export.label_studio import brush_rle
from tests.support.export_images import CLASSES, export, many_classes


def decoded(rle: list[int], hw: tuple[int, int]) -> np.ndarray:
    """A mask from thi.ng's packed runs: the reader of Label Studio's page, bit by bit."""
    text = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def read(bits: int) -> int:
        nonlocal at
        at += bits
        return int(text[at - bits : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        if repeated:
            values += [read(word)] * length
        else:
            values += [read(word) for _ in range(length)]
    assert len(values) == count
    assert len(text) - at < 8
    channels = np.array(values).reshape(*hw, 4)
    assert set(np.unique(channels)) <= {0, 255}
    return np.asarray(channels[..., 3] == 255)


def test_brush_masks_give_the_label_map(tmp_path):
    out, images, _ = export("label-studio", tmp_path)
    tasks = json.loads((out / "tasks.json").read_text())
    assert [task["data"]["name"] for task in tasks] == [one.name for one in images]
    for task, one in zip(tasks, images, strict=True):
        path = unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
        assert (out / path).read_bytes() == one.file.read_bytes()
        (prediction,) = task["predictions"]
        labels = np.full(one.image_hw, -1)
        for result in prediction["result"]:
            assert (result["original_height"], result["original_width"]) == one.image_hw
            inside = decoded(result["value"]["rle"], one.image_hw)
            (label,) = result["value"]["brushlabels"]
            labels[inside] = CLASSES.index(label)
        assert np.array_equal(labels, one.labels), one.name


def test_the_labelling_form_names_the_classes_and_what_the_results_speak_of(tmp_path):
    out, *_ = export("label-studio", tmp_path)
    form = ElementTree.parse(out / "config.xml").getroot()
    assert [label.get("value") for label in form.iter("Label")] == list(CLASSES)
    brush = form.find("BrushLabels")
    task = json.loads((out / "tasks.json").read_text())[0]
    for result in task["predictions"][0]["result"]:
        assert (result["from_name"], result["to_name"]) == (brush.get("name"), brush.get("toName"))
    assert form.find("Image").get("value") == "$image"


def test_score_and_origin_stand_at_each_mask_and_a_mean_at_the_image(tmp_path):
    out, *_ = export("label-studio", tmp_path)
    (prediction,) = json.loads((out / "tasks.json").read_text())[0]["predictions"]
    found = [(r.get("score"), r["meta"]["text"]) for r in prediction["result"]]
    assert found == [(None, ["1.2"]), (0.75, ["1.1"])]
    assert prediction["score"] == 0.75


@pytest.mark.parametrize("hw", [(1, 1), (3, 700), (300, 400)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_runs_of_any_length_are_packed(hw, share):
    inside = np.random.default_rng(1).random(hw) < share
    assert np.array_equal(decoded(brush_rle(inside), hw), inside)


def test_300_classes_fit(tmp_path):
    out, _ = many_classes(tmp_path, "label-studio")
    (task,) = json.loads((out / "tasks.json").read_text())
    assert len(task["predictions"][0]["result"]) == 300
