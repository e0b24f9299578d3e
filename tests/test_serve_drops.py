"""New images against a real server, unattended: one run for them, and none for anything else."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmbseg.miniature.world import generate
from fmbseg.store import read_json
from fmbseg.store.journal import Journal
from tests.conftest import SMALL
from tests.served import ACTIVE, Served, served_copy, until

pytestmark = [pytest.mark.weights, pytest.mark.e2e, pytest.mark.timeout(1800)]
TINY = {
    **SMALL,
    "data": {"train_images": 6, "val_images": 2, "test_images": 2, "shard_images": 3},
    "evaluate": {"methods": ["fmbseg"], "examples": 1},
    "drops": {"interval_seconds": 3, "settle_seconds": 1.0},
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with served_copy(tmp_path / "copy", tmp_path / "outside", TINY) as made, made.serving():
        yield made


def finished(served: Served, count: int) -> list[dict[str, object]]:
    """The full runs, once there are `count` and none is under way."""

    def there() -> list[dict[str, object]]:
        runs = served.runs("fmbseg")
        active = [run for run in runs if run["state_type"] in ACTIVE]
        return runs if len(runs) >= count and not active else []

    return until(there, 600)


def stage_1(served: Served) -> list[str]:
    """The shards computed so far, in order."""
    lines = Journal(served.copy.root / ".scratch" / "journal.jsonl").lines()
    return [Path(line["unit"]).name for line in lines if line["step"] == "pseudo_masks"]


def test_new_images_lead_to_one_run_and_only_their_shards_are_computed(served: Served):
    drops = served.copy.root / "data" / "drops"
    assert served.full().code == 0
    assert sorted(stage_1(served)) == ["images-0000", "images-0001"]

    drawn = [one.image for one in generate(11, 8, "test")]
    for index in range(6):
        Image.fromarray(drawn[index]).save(drops / f"new {index}.png")
    until(lambda: len(served.runs("fmbseg")) == 2, 120)
    for index in range(5):  # touches while it runs: times, the same bytes, what is no image
        path = drops / f"new {index}.png"
        path.write_bytes(path.read_bytes())
        os.utime(path)
        (drops / f"coming {index}.png.part").write_bytes(b"half")
        time.sleep(0.5)
    runs = finished(served, 2)
    time.sleep(12)  # four further looks
    assert [run["state_name"] for run in served.runs("fmbseg")] == ["Completed"] * 2
    assert sorted(stage_1(served)[2:]) == ["drops-0000", "drops-0001"]
    states = served.tasks(runs[1])
    assert states["pseudo_masks images-0000"] == states["pseudo_masks images-0001"] == "Cached"

    (drops / "bad.png").write_text("no picture")
    until((served.copy.root / "reports" / "drops-quarantine.json").is_file, 60)
    listed = read_json(served.copy.root / "reports" / "drops-quarantine.json")
    assert [one["image"] for one in listed] == ["bad.png"]
    (drops / "new 0.png").unlink()
    assert finished(served, 3)[2]["state_name"] == "Completed"
    computed = stage_1(served)[4:]
    assert computed
    assert set(computed) <= {"drops-0000", "drops-0001"}
    times = [(run["start_time"], run["end_time"]) for run in served.runs("fmbseg")]
    assert all(before[1] <= after[0] for before, after in pairwise(times))


def test_a_killed_run_is_closed_when_serving_starts_again_and_the_images_get_their_run(
    tmp_path: Path,
):
    with served_copy(tmp_path / "copy", tmp_path / "outside", TINY) as served:
        drops = served.copy.root / "data" / "drops"
        with served.serving() as serve:
            assert served.full().code == 0
            for index, one in enumerate(generate(12, 3, "test")):
                Image.fromarray(np.ascontiguousarray(one.image)).save(drops / f"{index}.png")
            until(lambda: served.runs("fmbseg")[-1]["state_name"] == "Running", 120)
            serve.send(signal.SIGKILL)
        with served.serving():
            runs = finished(served, 3)
    assert [run["state_name"] for run in runs] == ["Completed", "Crashed", "Completed"]
