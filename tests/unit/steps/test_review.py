"""The queue of images to look at: doubt, looks, and the order that follows from both."""

import json
from pathlib import Path

import numpy as np
import pytest

from fmbseg.errors import UserError
from fmbseg.pseudo.looks import ALIKE, Looks, spread
from fmbseg.steps.plan import run_step
from fmbseg.steps.review import QueueEntry, in_turn, queue_of
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, decode_rle, read_coco


def scenes(count: int, frames: int, dim: int = 16, noise: float = 0.02) -> np.ndarray:
    """Features of so many scenes, each filmed in so many frames; far from the origin, as CLIP's."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(count, dim))
    near = np.repeat(middles, frames, 0) + noise * rng.normal(size=(count * frames, dim))
    found: np.ndarray = near + 3 * rng.normal(size=dim)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


def test_frames_of_one_scene_share_a_look_and_scenes_do_not():
    features = scenes(5, 8)
    numbers = Looks.among(features).of(features).reshape(5, 8)
    assert (numbers == numbers[:, :1]).all()
    assert len(set(numbers[:, 0].tolist())) == 5


def test_the_spread_takes_what_is_least_like_all_before_and_ends_when_all_are_alike_one():
    features = scenes(4, 3)
    order = spread(features, 12).tolist()
    assert sorted(place // 3 for place in order) == [0, 1, 2, 3], "one of every scene, then nothing"
    seen = features - features.mean(0)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    for place in range(1, len(order)):
        nearest = [max(float(seen[i] @ seen[j]) for j in order[:place]) for i in range(12)]
        assert order[place] == int(np.argmin(nearest))
        assert min(nearest) < ALIKE
    assert spread(features, 2).tolist() == order[:2]


@pytest.mark.parametrize("features", [np.ones((6, 4)), np.ones((1, 4)), scenes(1, 9, noise=1e-4)])
def test_images_that_are_all_the_same_have_one_look(features: np.ndarray):
    features = features.astype(np.float32)
    assert Looks.among(features).of(features).tolist() == [0] * len(features)


def test_the_most_doubtful_goes_first_but_near_copies_take_turns_with_other_looks():
    copies = [QueueEntry(f"copy-{n:02d}", 0.9 - n / 1000, 0) for n in range(20)]
    others = [QueueEntry(f"other-{n}", 0.5 - n / 100, 1 + n) for n in range(10)]
    order = in_turn([*others, *copies])
    assert order[0] == copies[0]
    assert [one for one in order if one.look == 0] == copies, "inside a look by doubt"
    assert {one.look for one in order[:12]} == set(range(11))
    value = {one.image: one.doubt / (1 + copies.index(one)) if one in copies else one.doubt
             for one in order}  # fmt: skip
    assert [value[one.image] for one in order] == sorted(value.values(), reverse=True)


@pytest.mark.weights
def test_every_image_is_in_the_queue_with_the_lack_of_confidence_of_its_masks(small_run: Path):
    from fmbseg.pseudo.confidence import mask_confidences

    workspace = Workspace.open(small_run)
    queue = queue_of(workspace)
    assert {entry.image for entry in queue} == set(workspace.listing().images)
    assert list(queue) == in_turn(reversed(queue))
    by_name = {entry.image: entry for entry in queue}
    for shard in shards(workspace):
        folder = workspace.pseudo_masks / shard
        first, second = (read_coco(folder / f"stage1{n}.json") for n in (1, 2))
        for name, image_hw in first.image_sizes_hw.items():
            masks = [m for m in first.masks + second.masks if m.image == name]
            confidences = mask_confidences(masks, masks)
            rank = [(m.stage, -m.mask.predicted_iou, m.mask.area_px) for m in masks]
            sure, bare = np.zeros(image_hw), np.ones(image_hw, bool)
            for index in sorted(range(len(masks)), key=lambda i: rank[i], reverse=True):
                inside = decode_rle(masks[index].mask.rle)
                sure[inside], bare[inside] = confidences[index], False
            assert by_name[name].doubt == pytest.approx(1 - sure.mean(), abs=1e-5)
            assert by_name[name].unlabelled == pytest.approx(bare.mean(), abs=1e-5)
            assert 0 < len(by_name[name].classes) <= 3


@pytest.mark.weights
def test_a_queue_that_is_missing_or_damaged_is_one_clear_error(
    small_run: Path, small_workspace: Path
):
    workspace = Workspace.open(small_workspace)
    with pytest.raises(UserError, match=r"queue\.json: no such file; wanted .*steps review"):
        queue_of(workspace)
    workspace.review.mkdir(parents=True)
    for damaged in ("[]", '{"images": [{"image": "a"}]}', '{"images": [[]]}'):
        (workspace.review / "queue.json").write_text(damaged)
        with pytest.raises(StoreError, match="not a queue of images"):
            queue_of(workspace)


@pytest.mark.weights
def test_the_report_shows_the_most_doubtful_images_with_a_remark_and_links_the_queue(
    small_run: Path,
):
    workspace = Workspace.open(small_run)
    html = (workspace.report / "index.html").read_text()
    part = html[html.index('<section id="doubtful">') : html.index('<section id="gallery">')]
    shown = workspace.params.report.gallery_images
    for entry in queue_of(workspace)[:shown]:
        assert entry.image in part
        assert f"doubt {entry.doubt:.2f}, most of it {entry.classes[0]}" in part
    assert part.count("<article") == shown
    assert '<a href="../review/queue.json">' in part
    assert json.loads((workspace.report / "../review/queue.json").read_text())["images"]
    assert run_step(workspace, "report") == {"": False}
