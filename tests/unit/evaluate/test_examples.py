"""Which images an evaluation keeps, and which classes it names as confused."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fmbseg.datasets import DatasetError
from fmbseg.evaluate.confusions import NO_ANSWER, Confusion, most_confused
from fmbseg.evaluate.examples import MAX_SIDE_PX, Extremes, ScoredImage
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.pictures.colours import palette
from fmbseg.steps import evaluate, evaluation_sets
from fmbseg.steps.evaluation_sets import EvaluationSet
from fmbseg.steps.image_records import ImageRecords
from fmbseg.steps.scoring import IMAGE_SCORES
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from fmbseg.types import IGNORE, LabelMap
from fmbseg.vocabulary import Vocabulary
from tests.conftest import REPOSITORY


def answered(name: str) -> ScoredImage:
    dot = np.zeros((1, 1), np.uint8)
    return ScoredImage(name, np.zeros((1, 1, 3), np.uint8), dot, dot)


def names_of(extremes: Extremes[ScoredImage]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"worst": [], "best": []}
    for side, rank, one in extremes.chosen():
        found[side].append(one.name)
        assert rank == len(found[side])
    return found


@pytest.mark.parametrize("wanted", [0, 1, 2, 5, 8])
@pytest.mark.parametrize("count", [0, 1, 3, 8, 9, 40])
def test_the_lowest_and_the_highest_scores_are_kept_as_sorting_all_would(wanted: int, count: int):
    rng = np.random.default_rng(count)
    scores = (rng.integers(0, 7, count) / 7).tolist()  # many equal ones
    ordered = [str(i) for i in sorted(range(count), key=lambda i: (scores[i], i))]
    kept = min(wanted, count)
    low = kept // 2
    high = kept - low
    for positions in (range(count), rng.permutation(count).tolist()):
        extremes: Extremes[ScoredImage] = Extremes(wanted)
        for position in positions:
            extremes.add(scores[position], position, answered(str(position)))
            assert len(extremes.chosen()) <= wanted, "memory is bounded"
        found = names_of(extremes)
        assert found["worst"] == ordered[:low]
        assert found["best"] == ordered[::-1][:high]
        assert len({*found["worst"], *found["best"]}) == kept, "none twice"


def test_a_large_image_is_kept_small_with_labels_that_occur_in_it():
    labels = np.zeros((1000, 4 * MAX_SIDE_PX), np.int32)
    labels[:, 9:] = 7
    labels[500:] = IGNORE
    image = np.full((*labels.shape, 3), 80, np.uint8)
    small = ScoredImage.reduced("x", image, labels, labels)
    assert small.image.shape == (250, MAX_SIDE_PX, 3)
    assert small.predicted.shape == small.truth.shape == (250, MAX_SIDE_PX)
    assert set(np.unique(small.predicted)) == {0, 7, IGNORE}
    as_it_is = ScoredImage.reduced("x", image[:9, :11], labels[:9, :11], labels[:9, :11])
    assert as_it_is.image.shape == (9, 11, 3)
    assert (as_it_is.truth == labels[:9, :11]).all()


def test_confused_pairs_are_those_of_a_double_loop_by_share_then_pixels():
    matrix = np.random.default_rng(4).integers(0, 9, (5, 6))
    matrix[2] = 0  # a class without a pixel
    matrix[3] = matrix[4] * 2  # equal shares, more pixels
    names = [f"class {i}" for i in range(5)]
    pairs = []
    for i, j in itertools.product(range(5), range(6)):
        if i != j and matrix[i, j]:
            share = matrix[i, j] / matrix[i].sum()
            answer = names[j] if j < 5 else NO_ANSWER
            pairs.append(Confusion(names[i], answer, share, int(matrix[i, j])))
    pairs.sort(key=lambda pair: (-pair.share, -pair.pixels))
    found = most_confused(matrix, names, 7)
    assert [(p.share, p.pixels) for p in found] == [(p.share, p.pixels) for p in pairs[:7]]
    assert {*most_confused(matrix, names, 99)} == {*pairs}
    assert most_confused(np.eye(3, 4, dtype=np.int64), ["a", "b", "c"], 5) == ()


class Drawn:
    """Twelve images; the label of image i is wrong on i pixels of its last row."""

    class_names = ("ground", "thing")
    background_index = None
    names = tuple(f"{i}.png" for i in range(12))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int):
        from fmbseg.datasets.base import Sample

        target = np.zeros((12, 12), np.uint8)
        target[-1, :index] = 1
        if index == 5:
            target[:] = IGNORE
        image = np.full((12, 12, 3), 10 * index, np.uint8)
        return Sample(image, target, self.names[index])


class Grounded:
    """Answers class 0 everywhere."""

    name = "maskclip"

    def segment(self, image, class_names, *, similarities=False):
        return LabelMap(np.zeros(image.shape[:2], np.int32), tuple(class_names))

    def prompted(self, prompts):
        return self


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The drawn images, four examples wanted."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["evaluate"] |= {"examples": 4, "methods": ["maskclip"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    column = EvaluationSet("drawn", "test", Drawn(), Vocabulary(Drawn.class_names))
    monkeypatch.setattr(evaluation_sets, "open_evaluation_set", lambda *_: column)
    monkeypatch.setattr(evaluation_sets, "inputs", lambda *_: {})
    monkeypatch.setattr(evaluate, "build", lambda *_: Grounded())
    return Workspace.open(tmp_path)


@pytest.fixture
def scored(workspace: Workspace) -> Path:
    """The output of `evaluate`."""
    assert evaluate.run(workspace, "maskclip-drawn")
    return workspace.evaluate / "maskclip-drawn"


def test_every_image_has_its_own_score_and_the_extremes_have_pictures(scored: Path):
    scores = {one["image"]: one for one in read_json(scored / IMAGE_SCORES)}
    assert list(scores) == list(Drawn.names)
    for index, name in enumerate(Drawn.names):
        sample, counted = Drawn()[index], ConfusionMatrix(2)
        counted.update(np.zeros((12, 12), int), sample.target)
        found = (scores[name]["miou"], scores[name]["pixel_accuracy"])
        if index == 5:
            assert found == (None, None), "no pixel is labelled"
        else:
            assert found == pytest.approx((counted.miou(), counted.pixel_accuracy()), abs=1e-6)
    pictured = {name: one["example"] for name, one in scores.items() if one["example"]}
    assert pictured == {
        "11.png": {"side": "worst", "rank": 1, "file": "examples/worst-1.png", "classes": [0, 1]},
        "10.png": {"side": "worst", "rank": 2, "file": "examples/worst-2.png", "classes": [0, 1]},
        "0.png": {"side": "best", "rank": 1, "file": "examples/best-1.png", "classes": [0]},
        "1.png": {"side": "best", "rank": 2, "file": "examples/best-2.png", "classes": [0, 1]},
    }
    files = sorted(f"examples/{path.name}" for path in (scored / "examples").iterdir())
    assert files == sorted(one["file"] for one in pictured.values())
    with Image.open(scored / "examples/worst-1.png") as picture:
        assert picture.size == (36, 12), "image, prediction and truth"
        assert picture.getpixel((0, 0)) == (110, 110, 110)
        colours = [tuple(colour) for colour in palette(2).tolist()]
        assert picture.getpixel((12, 11)) == colours[0], "predicted, the class's own colour"
        assert picture.getpixel((24, 11)) == colours[1], "true"


def test_the_matrix_of_all_images_is_the_sum_of_theirs(scored: Path):
    matrix = np.array(read_json(scored / "confusion.json"))
    wrong = sum(index for index in range(12) if index != 5)
    assert matrix.tolist() == [[11 * 144 - wrong, 0, 0], [wrong, 0, 0]]
    metrics = read_json(scored / "metrics.json")
    assert metrics["images"] == 12
    assert metrics["pixel_accuracy"] == pytest.approx(1 - wrong / (11 * 144))


def test_labels_that_all_mean_none_are_told_and_leave_no_figure(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    labelled = Drawn.__getitem__

    def blank(self: Drawn, index: int):
        sample = labelled(self, index)
        sample.target[:] = IGNORE
        return sample

    monkeypatch.setattr(Drawn, "__getitem__", blank)
    with pytest.raises(DatasetError, match=r"drawn test: found no labelled pixel in 12 .* 2 class"):
        evaluate.run(workspace, "maskclip-drawn")
    assert not (workspace.evaluate / "maskclip-drawn").exists()


def test_a_cut_evaluation_goes_on_after_its_last_finished_image_to_the_same_bytes(
    workspace: Workspace, scored: Path, monkeypatch: pytest.MonkeyPatch
):
    """Cut at every image: nothing is asked twice but the pictures that are kept."""
    wanted = {path.name: path.read_bytes() for path in scored.rglob("*") if path.is_file()}
    for last in (0, 4, 11):
        shutil.rmtree(scored)
        asked: list[int] = []

        def cut(self, image, class_names, *, last=last, asked=asked, similarities=False):
            if len(asked) == last and image[0, 0, 0] // 10 == last:
                raise KeyboardInterrupt
            asked.append(int(image[0, 0, 0]) // 10)
            return LabelMap(np.zeros(image.shape[:2], np.int32), tuple(class_names))

        monkeypatch.setattr(Grounded, "segment", cut)
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(workspace, "maskclip-drawn")
        assert asked == list(range(last))
        asked.append(-1)
        assert evaluate.run(workspace, "maskclip-drawn")
        assert asked[last + 1 :][: 12 - last] == list(range(last, 12))
        again = asked[last + 1 :][12 - last :]
        assert set(again) <= {0, 1, 10, 11}, "pictures of images finished before the cut"
        assert all(index < last for index in again)
        line = workspace.journal.lines()[-1]
        assert (line["computed"], line["reused"]) == (12 - last, last)
        found = {path.name: path.read_bytes() for path in scored.rglob("*") if path.is_file()}
        assert found.keys() == wanted.keys()
        timed = {"metrics.json", "manifest.json"}
        assert {k: v for k, v in found.items() if k not in timed} == {
            k: v for k, v in wanted.items() if k not in timed
        }
        metrics = read_json(scored / "metrics.json")
        assert 0 < metrics.pop("seconds_per_image") < 60
        before = json.loads(wanted["metrics.json"])
        del before["seconds_per_image"]
        assert metrics == before


def test_seconds_an_image_are_those_measured_on_both_sides_of_a_cut(tmp_path: Path):
    records = ImageRecords(tmp_path, ["a.png", "b.png", "c.png"])
    records.add(0, {"seconds": 0.1})
    records.add(2, {"seconds": 1 / 3})
    with (tmp_path / "images.jsonl").open("a") as cut:
        cut.write('{"index": 1, "image": "b.p')
    again = ImageRecords(tmp_path, ["a.png", "b.png", "c.png"])
    assert len(again) == 2
    known = dict(again.each("evaluate"))
    assert known[1] is None
    assert known[2]["seconds"] == 1 / 3, "to the last bit"
    again.add(1, {"seconds": 2.0})
    assert len(ImageRecords(tmp_path, ["a.png", "b.png", "c.png"])) == 3
    assert len(ImageRecords(tmp_path, ["a.png", "other.png"])) == 1, "by place and name"
