"""A disk that fills up: one clear line, nothing half-written, and the rest once there is room."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import checkouts
from tests.support.checkouts import STEPS, UNITS, Checkout
from tests.support.forked_steps import Ended, crowded, run_step
from tests.support.killed_runs import Left, Undisturbed, assert_nothing_was_lost, undisturbed_run
from tests.support.small_disk import Disk, mounted

pytestmark = [pytest.mark.weights, pytest.mark.slow]
LEAVES = (0, 100_000, 400_000, 1_000_000, 4_500_000)
"""Free bytes when one run after the other begins."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", megabytes=64) as found:
        if found is None:
            pytest.skip("no small disk can be mounted: user namespaces (unshare) are not allowed")
        yield found


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed_run(tmp_path_factory)


def says_that_the_disk_is_full(line: str) -> bool:
    line = line.lower()
    return "no space left on device" in line or "disk is full" in line or "are free" in line


def refused(ended: Ended) -> bool:
    """Whether a step ended with one line that says the disk is full."""
    assert "Traceback" not in ended.error
    assert says_that_the_disk_is_full(ended.error.splitlines()[-1]), ended.error[-2000:]
    return ended.code == 1


def test_each_step_on_a_disk_that_is_full_or_fills_up_says_so_and_ends_well_once_there_is_room(
    disk: Disk, undisturbed: Undisturbed
):
    run = disk.outside / "run"
    run.mkdir()
    checkouts.set_params(run, checkouts.QUICK)
    for step, unit in zip(STEPS, UNITS, strict=True):
        disk.leave(0)
        assert refused(run_step(run, step))
        disk.empty()
        assert not finished_below(unit, run), "it looks finished"
        assert refused(run_step(run, step, undisturbed.changes(step) // 2, crowded))
        disk.empty()
        left = Left.by(run)
        assert len(finished_below(unit, run)) < len(finished_below(unit, undisturbed.root))
        assert (left.images != {}) == (step in ("pseudo_masks", "evaluate"))
        assert (left.step is not None) == (step == "train")
        ended = run_step(run, step)
        assert ended.code == 0, ended.error
        assert_nothing_was_lost(run, left)
        undisturbed.assert_same_until(step, run)


def finished_below(unit: str, root: Path) -> list[str]:
    """The finished units of a step."""
    return [name for name in Left.by(root).units if name.startswith(unit)]


def run_with_little_room(disk: Disk, copy: Checkout, workspace: Path, *arguments: str) -> int:
    """Run the flow with more and more room; how often it ended for want of it."""
    cut = 0
    for free_bytes in LEAVES:
        disk.leave(free_bytes)
        done = copy.run("-m", "flows.run", *arguments)
        disk.empty()
        checkouts.outputs(workspace)  # nothing half-written is left behind
        if done.code == 0:
            break
        cut += 1
        told = [line for line in done.error.splitlines() if line.startswith("fmbseg: ")]
        assert any(map(says_that_the_disk_is_full, told)), done.error[-3000:]
    return cut


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_a_flow_whose_workspace_is_on_a_full_disk_goes_on_once_there_is_room(
    disk: Disk, undisturbed: Undisturbed, tmp_path: Path
):
    copy = checkouts.checkout(tmp_path / "checkout", tmp_path / "outside", {})
    copy = dataclasses.replace(copy, prefix=disk.prefix)
    workspace = disk.outside / "run"
    workspace.mkdir()
    checkouts.set_params(workspace, checkouts.QUICK)
    arguments = ("--workspace", str(disk.inside / "run"))
    assert run_with_little_room(disk, copy, workspace, *arguments) >= 3
    copy.flow(*arguments)
    checkouts.assert_same_outputs(workspace, undisturbed.root)


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_a_checkout_on_a_full_disk_goes_on_once_there_is_room(
    disk: Disk, undisturbed: Undisturbed, tmp_path: Path
):
    """Here the databases of Prefect and MLflow, and DVC's cache, want room as well."""
    root = disk.outside / "checkout"
    checkouts.checkout(root, disk.outside / "outside", checkouts.QUICK)
    inside = disk.inside / "checkout"
    variables = checkouts.environment(inside, disk.inside / "outside")
    variables["PYTHONDONTWRITEBYTECODE"] = "1"  # Python itself leaves cut bytecode on a full disk
    copy = Checkout(inside, variables, tmp_path, disk.prefix)
    assert run_with_little_room(disk, copy, root) >= 3
    copy.flow()
    checkouts.assert_same_outputs(root, undisturbed.root)
    assert "up to date" in copy.run("-m", "dvc", "status").out
