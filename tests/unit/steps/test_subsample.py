"""Which masks are kept, whatever the shards; written and read shard by shard."""

import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fmbseg.params_edit import write_params
from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.pseudo.subsample import Choice, choose, in_order, random_rank
from fmbseg.steps.figures import mask_counts
from fmbseg.steps.kept_masks import SHARDS_HELD, kept_masks
from fmbseg.steps.label_maps import NothingToTrainOnError, label_maps
from fmbseg.steps.plan import run_step
from fmbseg.steps.shards import shards
from fmbseg.steps.subsample import run
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco, read_json, write_coco, write_json
from fmbseg.types import PseudoMask, SamMask
from tests.support.masks import encode_rle

CLASSES = ("road", "car", "sky", "tree", "dog")
SIZE_HW = (4, 6)


def pseudo(number: int, stage: str, image: str) -> PseudoMask:
    """A mask whose prompt no other has, and whose score says which it is."""
    pixels = np.zeros(SIZE_HW, bool)
    pixels[: 1 + number % 4, : 1 + number % 6] = True
    area, score = int(pixels.sum()), 0.5 + number / 1e5
    sam = SamMask(
        encode_rle(pixels), area, (0.0, 0.0, 1.0, 1.0), score, 1.0, ((float(number), 0.0),)
    )
    index = number % len(CLASSES)
    return PseudoMask(image, index, CLASSES[index], stage, 0.5, sam)


def many(count: int, stage: str) -> list[PseudoMask]:
    return [pseudo(number, stage, f"{number % 40}.png") for number in range(count)]


def chosen(
    second: Sequence[PseudoMask], number_11: int, fraction: object, seed: int = 0
) -> tuple[Choice, list[PseudoMask]]:
    ranks = np.array([random_rank(mask, seed) for mask in second], np.uint64)
    choice = choose(ranks, number_11, fraction)
    return choice, [mask for mask, kept in zip(second, choice.kept, strict=True) if kept]


def at_once(
    first: Sequence[PseudoMask], second: Sequence[PseudoMask], fraction: object, seed: int
) -> list[PseudoMask]:
    """What is kept, in order, with all masks in memory: the former way."""
    share = fraction if isinstance(fraction, float) else min(1.0, len(first) / len(second))
    wanted = int(share * len(second) + 0.5)
    drawn = sorted(second, key=lambda mask: random_rank(mask, seed))[:wanted]
    return sorted(
        [*first, *drawn],
        key=lambda mask: (mask.image, mask.stage, mask.class_index, random_rank(mask, seed)),
    )


def test_balance_keeps_as_many_of_one_two_as_there_are_of_one_one_or_all():
    choice, kept = chosen(many(200, "1.2"), 30, "balance")
    assert len(kept) == 30
    assert choice.fraction == pytest.approx(0.15)
    choice, kept = chosen(many(20, "1.2"), 30, "balance")
    assert (len(kept), choice.fraction) == (20, 1.0)
    assert chosen([], 30, "balance")[1] == []


@pytest.mark.parametrize(("fraction", "number"), [(0.0, 0), (0.25, 50), (1.0, 200), (0.3333, 67)])
def test_a_fraction_keeps_that_part(fraction: float, number: int):
    choice, kept = chosen(many(200, "1.2"), 3, fraction)
    assert (len(kept), choice.fraction) == (number, fraction)


def test_the_choice_depends_on_the_seed_and_not_on_the_order():
    second = many(200, "1.2")
    kept = in_order(chosen(second, 30, "balance", 3)[1], 3)
    mixed = second[:]
    random.Random(1).shuffle(mixed)
    assert in_order(chosen(mixed, 30, "balance", 3)[1], 3) == kept
    assert in_order(chosen(second, 30, "balance", 4)[1], 4) != kept


def test_the_choice_is_fair_to_classes():
    counts = Counter(mask.class_name for mask in chosen(many(4000, "1.2"), 0, 0.5, 1)[1])
    assert set(counts) == set(CLASSES)
    assert all(340 < number < 460 for number in counts.values())


def test_a_bad_fraction_is_refused():
    for fraction in (-0.1, 1.1):
        with pytest.raises(ValueError, match="keep_fraction"):
            chosen([], 0, fraction)


def finished_stage1(
    root: Path, images: int, masks: tuple[int, int] = (2, 5), fraction: object = "balance"
) -> Workspace:
    """A workspace with made-up masks of stage 1, four images a shard in two folders."""
    names = [f"{'ab'[index % 2]}/{index:03d}.png" for index in range(images)]
    params = Path(__file__).parents[3] / "params.yaml"
    (root / "params.yaml").write_text(params.read_text())
    (root / "classes.txt").write_text("\n".join(CLASSES))
    write_json(root / "data/download/folder/listing.json",
               {"images": dict.fromkeys(names, "sha"), "refused": []})  # fmt: skip
    write_params(root / "params.yaml", {
        "data.images": str(root), "data.classes": str(root / "classes.txt"),
        "data.shard_images": 4, "subsample.keep_fraction": fraction,
    })  # fmt: skip
    workspace, number = Workspace.open(root), 0
    for shard, members in shards(workspace).items():
        folder, found = workspace.pseudo_masks / shard, {"1.1": [], "1.2": []}  # type: ignore[var-annotated]
        for image in members:
            for stage, count in zip(("1.1", "1.2"), masks, strict=True):
                # the last image of a shard has no mask
                for _ in range(count if image != members[-1] else 0):
                    found[stage].append(pseudo(number, stage, image))
                    number += 1
        sizes = dict.fromkeys(members, SIZE_HW)
        write_coco(folder / "stage11.json", found["1.1"], sizes, CLASSES)
        write_coco(folder / "stage12.json", found["1.2"], sizes, CLASSES)
        write_json(folder / "quarantine.json", [])
    return workspace


def masks_of(workspace: Workspace, file: str) -> list[PseudoMask]:
    files = [workspace.pseudo_masks / shard / file for shard in shards(workspace)]
    return [mask for one in files for mask in read_coco(one).masks]


@pytest.mark.parametrize("fraction", ["balance", 0.3, 0.0])
def test_shard_by_shard_the_same_masks_are_kept_as_with_all_in_memory(
    tmp_path: Path, fraction: object
):
    workspace = finished_stage1(tmp_path, 18, fraction=fraction)
    first, second = (masks_of(workspace, f"stage1{end}.json") for end in (1, 2))
    assert run(workspace)
    kept = at_once(first, second, fraction, workspace.params.seed)
    parts = [kept_masks(workspace, shard) for shard in shards(workspace)]
    assert [mask for part in parts for mask in part.masks] == kept
    counts = read_json(workspace.subsample / "counts.json")
    assert counts["fraction"] == (fraction if fraction != "balance" else len(first) / len(second))
    for what, masks in (("found", first + second), ("kept", kept)):
        for stage in ("1.1", "1.2"):
            of_stage = Counter(mask.class_name for mask in masks if mask.stage == stage)
            assert counts[what][stage] == of_stage
            assert list(counts[what][stage]) == sorted(of_stage, key=CLASSES.index)
    for one in mask_counts(workspace):
        assert one.found == sum(mask.class_name == one.class_name for mask in first + second)
        assert one.kept == sum(mask.class_name == one.class_name for mask in kept)
    assert not run(workspace)


def test_the_label_map_of_any_image_comes_from_its_shard(tmp_path: Path):
    workspace = finished_stage1(tmp_path, 90)
    run(workspace)
    assert len(shards(workspace)) > 2 * SHARDS_HELD
    maps, kept = label_maps(workspace), dict[str, list[PseudoMask]]()
    for shard in shards(workspace):
        kept |= kept_masks(workspace, shard).by_image()
    assert maps.names == sorted(workspace.listing().images), "also those without a mask"
    for index in np.random.default_rng(0).permutation(90).tolist():
        expected = label_map_of(kept.get(maps.names[index], []), SIZE_HW)
        np.testing.assert_array_equal(maps.map_of(index), expected)


def test_a_shard_is_read_once_for_all_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace, asked = finished_stage1(tmp_path, 40), Counter[Path]()
    run(workspace)

    def counted(path: Path):
        asked[path] += 1
        return read_coco(path)

    monkeypatch.setattr("fmbseg.steps.kept_masks.read_coco", counted)
    maps = label_maps(workspace)
    for index in range(len(maps.names)):
        maps.map_of(index)
    assert set(asked.values()) == {1}
    assert len(asked) == len(shards(workspace))


def test_without_a_kept_mask_there_is_nothing_to_train_on(tmp_path: Path):
    workspace = finished_stage1(tmp_path, 8, masks=(0, 3))
    run(workspace)
    with pytest.raises(NothingToTrainOnError, match="no pseudo mask was kept"):
        label_maps(workspace)


def test_memory_does_not_grow_with_the_number_of_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fmbseg.steps.kept_masks.SHARDS_HELD", 1)
    peaks = []
    for images in (8, 48):
        (tmp_path / str(images)).mkdir()
        workspace = finished_stage1(tmp_path / str(images), images, masks=(5, 10))
        tracemalloc.start()
        run(workspace)
        maps = label_maps(workspace)
        for index in range(images):
            maps.map_of(index)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks


def test_a_run_that_is_cut_leaves_the_former_masks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = finished_stage1(tmp_path, 18)
    run_step(workspace, "subsample")
    before = {path.name: path.read_bytes() for path in workspace.subsample.iterdir()}
    write_params(tmp_path / "params.yaml", {"subsample.keep_fraction": 0.1})
    written: list[Path] = []

    def cut(path: Path, *content: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write_coco(path, *content)

    monkeypatch.setattr("fmbseg.steps.subsample.write_coco", cut)
    with pytest.raises(KeyboardInterrupt):
        run(Workspace.open(tmp_path))
    assert {path.name: path.read_bytes() for path in workspace.subsample.iterdir()} == before
    monkeypatch.undo()
    assert run(Workspace.open(tmp_path))
    kept = json.loads((workspace.subsample / "counts.json").read_text())["kept"]
    assert sum(kept["1.2"].values()) < sum(kept["1.1"].values())
