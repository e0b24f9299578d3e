"""The estimate of a whole run: from the journal, honest where it has nothing."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from fmbseg.steps.time_left import TimeLeft, time_left
from fmbseg.steps.workspace import Workspace

pytestmark = pytest.mark.weights


@pytest.fixture
def done(small_run: Path, tmp_path: Path) -> Path:
    """A finished run whose journal says how long each unit took."""
    root = tmp_path / "ws"
    shutil.copytree(small_run, root)
    file = root / ".scratch" / "journal.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["seconds"] = {"pseudo_masks": 10.0 * line.get("computed", 0), "train": 60.0}.get(
            line["step"], 4.0
        )
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def change(root: Path, section: str, **values: object) -> Workspace:
    path = root / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    tree[section] |= values
    path.write_text(yaml.safe_dump(tree))
    return Workspace.open(root)


def test_a_run_with_nothing_to_do_has_nothing_left(done: Path):
    assert time_left(Workspace.open(done)).words() == ""


def test_what_is_missing_is_estimated_from_the_journal_and_what_follows_it_too(done: Path):
    workspace = Workspace.open(done)
    shutil.rmtree(sorted(workspace.pseudo_masks.iterdir())[0])
    left = time_left(workspace)
    assert left.unknown == ()
    assert left.seconds == {
        "pseudo_masks": 50.0, "review": 4.0, "subsample": 4.0, "train": 60.0, "evaluate": 4.0,
        "report": 4.0,
    }  # fmt: skip
    assert left.words().startswith(
        "about 2:06 left: pseudo_masks 0:50, review 0:04, subsample 0:04"
    )


def test_shards_are_spread_over_the_workers(done: Path):
    workspace = Workspace.open(done)
    shutil.rmtree(workspace.pseudo_masks)
    assert time_left(workspace).seconds["pseudo_masks"] == 120.0 / 2, "12 images at 10 s"


def test_a_run_with_other_settings_says_that_it_has_no_estimate(done: Path):
    workspace = change(done, "pseudo_masks", points_per_side=7)
    left = time_left(workspace)
    assert "pseudo_masks" in left.unknown
    timed = {"review", "subsample", "train", "report"}
    assert set(left.seconds) == timed, "timed with these settings before"
    assert "not timed yet" in left.words()


def test_training_grows_with_the_images(done: Path):
    file = done / ".scratch" / "journal.jsonl"
    file.write_text(file.read_text().replace('"of_images": 12', '"of_images": 3'))
    workspace = Workspace.open(done)
    shutil.rmtree(workspace.train)
    assert time_left(workspace).seconds["train"] == 240.0


def test_before_anything_was_computed_the_first_shard_tells():
    assert TimeLeft({}, ("pseudo_masks", "train")).words() == (
        "no estimate yet: the first shard tells (pseudo_masks, train to do)"
    )
