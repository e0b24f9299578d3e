import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMALL
from tests.support.running_server import Served, served_copy

pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.timeout(900)]
TINY = {
    **SMALL,
    "data": {"train_images": 6, "val_images": 2, "test_images": 2, "shard_images": 3},
    "evaluate": {"methods": ["maskclip", "fmbseg"], "examples": 1},
    "drops": {"interval_seconds": 3600},
}
UNCACHED = {"version", "track", "summarise"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root, outside = tmp_path_factory.mktemp("served") / "copy", tmp_path_factory.mktemp("outside")
    with served_copy(root, outside, TINY) as made, made.serving():
        yield made


def step_states(served: Served, run: dict[str, object]) -> set[str]:
    """States of the run's cached tasks."""
    states = served.tasks(run)
    return {state for name, state in states.items() if name.rpartition("-")[0] not in UNCACHED}


def test_a_request_is_run_and_the_second_finds_all_units_cached(
    served: Served, capsys: pytest.CaptureFixture[str]
):
    first = served.full()
    assert first.code == 0, first.out + first.error
    run = served.runs("fmbseg")[-1]
    assert run["state_name"] == "Completed"
    assert step_states(served, run) == {"Completed"}
    lines = served.logs(run)
    assert any(line.startswith("pseudo_masks images-0000: 3 images computed, 0 reused, ")
               for line in lines)  # fmt: skip
    assert any(line.startswith("evaluate maskclip-miniature: mIoU 0.") for line in lines)
    assert not any("image/s" in line or "it/s" in line for line in lines), "no bars among the lines"

    began = time.monotonic()
    second = served.full()
    with capsys.disabled():
        print(f"\nall units cached, from request to end: {time.monotonic() - began:.1f} s")
    assert second.code == 0
    assert step_states(served, served.runs("fmbseg")[-1]) == {"Cached"}


def test_a_value_out_of_bounds_is_refused_before_a_run_exists(served: Served):
    before = len(served.runs("fmbseg"))
    refused = served.full({"epochs": -1})
    assert refused.code == 1
    assert "-1 is less than the minimum of 1" in refused.out + refused.error
    assert len(served.runs("fmbseg")) == before


def test_a_failing_run_says_why_before_any_trace_and_the_next_request_holds_for_its_run(
    served: Served,
):
    before = (served.copy.root / "params.yaml").read_bytes()
    photos = served.copy.root / "photos"
    photos.mkdir()
    (photos / "a.png").write_text("no picture")
    (served.copy.root / "words.txt").write_text("sky\n")
    failed = served.full({"images": "photos", "classes": "words.txt"})
    assert failed.code == 1, "the request's own exit code"
    run = served.runs("fmbseg")[-1]
    assert run["state_name"] == "Failed"
    errors = served.logs(run, least=40)
    assert errors[0].startswith("TooManyQuarantinedError: 1 of 1 images cannot be used")
    assert "\n" not in errors[0]
    assert (served.copy.root / "params.yaml").read_bytes() == before

    assert served.full({"epochs": 1}).code == 0, "the next run is not spoilt"
    run = served.runs("fmbseg")[-1]
    assert any("own parameters: train.epochs 1 (params.yaml: 2)" in o for o in served.logs(run))
    history = json.loads((served.copy.root / "models/train/history.json").read_text())
    assert max(point["epoch"] for point in history) == 0, "counted from 0"
    assert (served.copy.root / "params.yaml").read_bytes() == before


def test_a_request_is_kept_if_wanted_and_holds_for_no_place_outside_the_checkout(served: Served):
    outside = served.request("fmbseg/full", "--watch", "-p", "root=/tmp")
    assert outside.code == 1
    run = served.runs("fmbseg")[-1]
    assert run["state_name"] == "Failed"
    said = served.logs(run, least=40)[0]
    assert said == "RequestError: root: found '/tmp'; wanted '.' or a workspace below runs/"
    kept = served.full({"epochs": 1, "keep": True})
    assert kept.code == 0, kept.out + kept.error
    after = yaml.safe_load((served.copy.root / "params.yaml").read_text())
    assert after["train"]["epochs"] == 1


def test_a_second_serve_of_the_same_checkout_is_refused(served: Served):
    second = served.copy.run("-m", "flows.serve", seconds=120)
    assert second.code == 1
    assert "serves this checkout already" in second.error


def test_without_a_server_serve_says_how_to_start_one(tmp_path: Path):
    from tests.support.checkouts import checkout

    copy = checkout(tmp_path / "copy", tmp_path / "outside", TINY)
    alone = copy.run("-m", "flows.serve", seconds=120)
    assert alone.code == 1
    assert "no Prefect server answers at http://127.0.0.1:9/api" in alone.error
    assert "make server" in alone.error
