"""A disk that fills up: one clear line, nothing half-written, and the rest once there is room."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmbseg.store.journal import Journal
from tests import system
from tests.forked import Ended, crowded, run_step
from tests.killed import Left, assert_nothing_was_lost
from tests.small_disk import Disk, mounted
from tests.system import STEPS, UNITS, Checkout

pytestmark = [pytest.mark.weights, pytest.mark.slow]
LEAVES = (0, 100_000, 400_000, 1_000_000, 4_500_000)
"""Free bytes when one run after the other begins."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", megabytes=64) as found:
        if found is None:
            pytest.skip("no small disk can be mounted: user namespaces (unshare) are not allowed")
        yield found


def says_that_the_disk_is_full(line: str) -> bool:
    line = line.lower()
    return "no space left on device" in line or "disk is full" in line or "are free" in line


def refused(ended: Ended) -> bool:
    """Whether a step ended with one line that says the disk is full."""
    assert "Traceback" not in ended.error
    assert says_that_the_disk_is_full(ended.error.splitlines()[-1]), ended.error[-2000:]
    return ended.code == 1


def test_each_step_on_a_disk_that_is_full_or_fills_up_says_so_and_ends_well_once_there_is_room(
    disk: Disk, tmp_path: Path
):
    run, calm = disk.outside / "run", tmp_path / "calm"
    for root in (run, calm):
        root.mkdir()
        system.set_params(root, system.QUICK)
    for step, unit in zip(STEPS, UNITS, strict=True):
        undisturbed = run_step(calm, step)
        assert undisturbed.code == 0
        disk.leave(0)
        assert refused(run_step(run, step))
        disk.empty()
        assert not any(name.startswith(unit) for name in Left.by(run).units)
        assert refused(run_step(run, step, undisturbed.changes // 2, crowded))
        disk.empty()
        left = Left.by(run)
        finished = [name for name in left.units if name.startswith(unit)]
        assert len(finished) < len(computed_by(calm, step)), "it looks finished"
        assert (left.images != {}) == (step == "pseudo_masks")
        assert (left.step is not None) == (step == "train")
        ended = run_step(run, step)
        assert ended.code == 0, ended.error
        assert_nothing_was_lost(run, left)
        system.assert_same_outputs(run, calm)


def computed_by(root: Path, step: str) -> list[str]:
    lines = Journal(root / ".scratch" / "journal.jsonl").lines()
    return [line["unit"] for line in lines if line["step"] == step]


def run_with_little_room(disk: Disk, copy: Checkout, workspace: Path, *arguments: str) -> int:
    """Run the flow with more and more room; how often it ended for want of it."""
    cut = 0
    for free_bytes in LEAVES:
        disk.leave(free_bytes)
        done = copy.run("-m", "flows.run", *arguments)
        disk.empty()
        system.outputs(workspace)  # nothing half-written is left behind
        if done.code == 0:
            break
        cut += 1
        told = [line for line in done.error.splitlines() if line.startswith("fmbseg: ")]
        assert any(map(says_that_the_disk_is_full, told)), done.error[-3000:]
    return cut


@pytest.fixture
def calm(tmp_path: Path) -> Path:
    root = tmp_path / "calm"
    root.mkdir()
    system.set_params(root, system.QUICK)
    for step in STEPS:
        assert run_step(root, step).code == 0
    return root


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_a_flow_whose_workspace_is_on_a_full_disk_goes_on_once_there_is_room(
    disk: Disk, calm: Path, tmp_path: Path
):
    copy = system.checkout(tmp_path / "checkout", tmp_path / "outside", {})
    copy = dataclasses.replace(copy, prefix=disk.prefix)
    workspace = disk.outside / "run"
    workspace.mkdir()
    system.set_params(workspace, system.QUICK)
    arguments = ("--workspace", str(disk.inside / "run"))
    assert run_with_little_room(disk, copy, workspace, *arguments) >= 3
    copy.flow(*arguments)
    system.assert_same_outputs(workspace, calm)


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_a_checkout_on_a_full_disk_goes_on_once_there_is_room(
    disk: Disk, calm: Path, tmp_path: Path
):
    """Here the databases of Prefect and MLflow, and DVC's cache, want room as well."""
    root = disk.outside / "checkout"
    system.checkout(root, disk.outside / "outside", system.QUICK)
    inside = disk.inside / "checkout"
    variables = system.environment(inside, disk.inside / "outside")
    copy = Checkout(inside, variables, tmp_path, disk.prefix)
    assert run_with_little_room(disk, copy, root) >= 3
    copy.flow()
    system.assert_same_outputs(root, calm)
    assert "up to date" in copy.run("-m", "dvc", "status").out
