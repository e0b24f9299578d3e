"""Numbers of pseudo masks, and the classes that no image seems to show."""

import shutil
from pathlib import Path

import pytest

from fmbseg.evaluate.counts import MaskCount, NeverFound
from fmbseg.steps import figures
from fmbseg.steps.plan import run_step
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, write_json


@pytest.mark.slow
@pytest.mark.weights
def test_mask_counts_say_found_and_kept_of_both_stages_like_the_files(small_run: Path) -> None:
    workspace = Workspace.open(small_run)
    counts = figures.mask_counts(workspace)
    kept = read_json(workspace.subsample / "counts.json")["kept"]
    for stage, found, name in (("1.1", "found_11", "stage11.json"),
                               ("1.2", "found_12", "stage12.json")):  # fmt: skip
        files = [workspace.pseudo_masks / s / name for s in shards(workspace)]
        offered = [a["category_id"] - 1 for f in files for a in read_json(f)["annotations"]]
        for index, one in enumerate(counts):
            assert getattr(one, found) == offered.count(index)
            kept_here = one.kept_11 if stage == "1.1" else one.kept_12
            assert kept_here == kept[stage].get(one.class_name, 0)
    total = figures.mask_total(counts)
    assert total.found_12 > total.kept_12, "or the test tells the two numbers apart by nothing"
    assert figures.mask_words(counts) in figures.summary(workspace)


@pytest.mark.slow
@pytest.mark.weights
def test_a_class_without_a_mask_in_either_stage_is_named_as_never_found(
    small_run: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(small_run, tmp_path / "run"))
    workspace = Workspace.open(root)
    names = [one.class_name for one in figures.mask_counts(workspace)]
    before = figures.never_found(workspace)
    gone = next(name for name in names if name not in before.classes)
    for shard in shards(workspace):
        for file in ("stage11.json", "stage12.json"):
            path = workspace.pseudo_masks / shard / file
            coco = read_json(path)
            wanted = [a for a in coco["annotations"] if names[a["category_id"] - 1] != gone]
            write_json(path, {**coco, "annotations": wanted})
    run_step(workspace, "subsample")
    after = figures.never_found(workspace)
    assert set(after.classes) == {*before.classes, gone}
    assert (after.total, after.images) == (len(names), 12)
    assert after.words() in figures.summary(workspace)


def test_never_found_classes_are_one_line_with_the_next_step() -> None:
    names = ("building", "pole", "a\nb", "\u202efig")
    assert NeverFound((), 11, 60).words() == ""
    assert NeverFound(names, 11, 60).words() == (
        "4 of 11 classes were never found in 60 images: "
        "building, pole, a\\nb, \\u202efig; try synonyms"
    )
    many = tuple(f"c{i}" for i in range(30))
    assert NeverFound(many, 171, 1500).words(most=2) == (
        "30 of 171 classes were never found in 1,500 images: c0, c1, … (28 more); try synonyms"
    )


def test_the_sum_over_the_classes_adds_each_column() -> None:
    total = figures.mask_total([MaskCount("sky", 1, 2, 1, 1), MaskCount("sea", 10, 20, 10, 5)])
    assert (total.found_11, total.found_12, total.kept_11, total.kept_12) == (11, 22, 11, 6)
    assert (total.found, total.kept) == (33, 17)
