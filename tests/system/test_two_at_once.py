"""Two runs at once in one checkout: each unit is computed once, and both succeed."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import checkouts
from tests.support.checkouts import Checkout

pytestmark = [pytest.mark.weights, pytest.mark.slow]
FLOW = ("-m", "flows.run")
REPRO = ("-m", "dvc", "repro")
ALL_STEPS = """
import sys
from fmbseg.steps.plan import STEPS, run_step
from fmbseg.steps.workspace import Workspace

for step in STEPS:
    run_step(Workspace.open(sys.argv[1]), step)
"""


def at_once(copy: Checkout, *commands: tuple[str, ...]) -> None:
    with ThreadPoolExecutor(len(commands)) as pool:
        for done in pool.map(lambda command: copy.run(*command, seconds=900), commands):
            assert done.code == 0, done.error[-3000:]


def assert_each_once(root: Path) -> None:
    units = checkouts.computed_units(root)
    assert len(units) == 13
    assert len(units) == len(set(units)), "a unit was computed twice"
    checkouts.outputs(root)  # nothing half-written lies about


def assert_done_once(copy: Checkout) -> None:
    assert_each_once(copy.root)
    assert "up to date" in copy.run("-m", "dvc", "status").out


def test_two_runs_step_by_step_at_once_share_the_units(tmp_path: Path):
    root = tmp_path / "Prüf stand"
    root.mkdir()
    checkouts.set_params(root, checkouts.QUICK)
    runs = [subprocess.Popen([sys.executable, "-c", ALL_STEPS, str(root)]) for _ in range(2)]
    assert [run.wait(300) for run in runs] == [0, 0]
    assert_each_once(root)


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_two_runs_at_once_share_the_units_and_leave_one_mlflow_run(tmp_path: Path):
    copy = checkouts.checkout(tmp_path / "Prüf stand", tmp_path / "outside", checkouts.QUICK)
    at_once(copy, FLOW, FLOW)
    assert_done_once(copy)
    checkouts.assert_databases_are_whole(copy)


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_a_run_and_dvc_repro_at_once_share_the_units(tmp_path: Path):
    copy = checkouts.checkout(tmp_path / "checkout", tmp_path / "outside", checkouts.QUICK)
    at_once(copy, FLOW, REPRO)
    assert_done_once(copy)
    checkouts.assert_databases_are_whole(copy)


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_two_runs_at_once_after_a_change_replace_what_is_outdated_once(tmp_path: Path):
    """More images move the chunks of the shards: masks are kept, old shards dropped."""
    copy = checkouts.checkout(tmp_path / "checkout", tmp_path / "outside", checkouts.QUICK)
    copy.flow()
    before = checkouts.computed_units(copy.root)
    checkouts.set_params(copy.root, {"data": {"shard_images": 4}, "train": {"epochs": 3}})
    at_once(copy, FLOW, FLOW)
    after = checkouts.computed_units(copy.root)[len(before) :]
    assert len(after) == len(set(after)), "a unit was computed twice"
    assert {"models/train", "reports/report", "reports/evaluate/fmbseg-miniature"} <= set(after)
    assert "up to date" in copy.run("-m", "dvc", "status").out
