"""A cut of power: what is on the disk by then, and that no damage to a file outlives a re-run.

A cut can leave a file short, empty, or full of zeros at its right size and date; each of these is
done here to every file that a run leaves.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fmbseg.steps.plan import STEPS, units_of
from fmbseg.steps.plan import run_step as run_step_here
from fmbseg.steps.step import Unit
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, run_unit, unit_problem, write_bytes, write_json
from tests.support import checkouts
from tests.support.forked_steps import killed, run_step
from tests.support.killed_runs import Undisturbed, undisturbed_run


def shortened(path: Path) -> None:
    """Its second half is gone."""
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    """Nothing is left in it."""
    os.truncate(path, 0)


def clipped(path: Path) -> None:
    """Its last byte is gone."""
    os.truncate(path, path.stat().st_size - 1)


def zeroed(path: Path) -> None:
    """Of the same size and date, but all zeros."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def zeroed_at_its_end(path: Path) -> None:
    """Of the same size and date; its last eighth, a block at most, is zeros."""
    status = path.stat()
    content = path.read_bytes()
    lost = min(4096, len(content) // 8 + 1)
    path.write_bytes(content[:-lost] + bytes(lost))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


DAMAGES = (shortened, emptied, clipped, zeroed, zeroed_at_its_end)
Damage = Callable[[Path], None]


class Disk:
    """What would be left after a cut of power: the files that were flushed as they are now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._flushed: dict[int, int] = {}
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            status = os.fstat(descriptor)
            self._flushed[status.st_ino] = status.st_mtime_ns

        monkeypatch.setattr(os, "fsync", fsync)

    def holds(self, path: Path) -> bool:
        """Whether a file's content, or the names in a folder, are on it."""
        status = path.stat()
        return self._flushed.get(status.st_ino) == status.st_mtime_ns


def test_all_that_a_manifest_vouches_for_is_on_the_disk_before_the_folder_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk, seen = Disk(monkeypatch), []
    real_replace, real_rename = os.replace, os.rename

    def replace(source: Path, target: Path) -> None:
        if target.name == "manifest.json":
            seen.append("manifest")
            files = [path for path in target.parent.rglob("*") if path != source]
            assert [path.name for path in files if not disk.holds(path)] == []
            assert {path.name for path in files} == {"a.txt", "below", "b.json"}
        real_replace(source, target)

    def rename(source: Path, target: Path) -> None:
        seen.append("folder")
        assert disk.holds(source / "manifest.json")
        assert disk.holds(source), "the manifest's name, too"
        real_rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "rename", rename)

    def compute(out: Path) -> None:
        (out / "a.txt").write_text("a")
        write_json(out / "below" / "b.json", {})

    assert run_unit(tmp_path / "unit", UnitKey(params={"a": 1}), compute)
    assert seen == ["manifest", "folder"]
    assert disk.holds(tmp_path), "the folder's own name"


def test_a_single_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk, real, seen = Disk(monkeypatch), os.replace, []

    def replace(source: Path, target: Path) -> None:
        seen.append(disk.holds(source))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_bytes(tmp_path / "checkpoint", b"x")
    assert disk.holds(tmp_path)
    write_bytes(tmp_path / "record", b"x", flush=False)
    assert seen == [True, False]


@contextlib.contextmanager
def put_back(path: Path) -> Iterator[None]:
    content, status = path.read_bytes(), path.stat()
    yield
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A finished run, to damage."""
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def all_units(root: Path) -> list[Unit]:
    workspace = Workspace.open(root)
    return [unit for step in STEPS for unit in units_of(workspace, step)]


def files_of(unit: Unit) -> list[Path]:
    return [path for path in sorted(unit.folder.rglob("*")) if path.is_file()]


@pytest.mark.weights
@pytest.mark.slow
def test_damage_to_any_file_of_a_run_is_noticed_also_at_the_same_size_and_date(run: Path):
    looked_at = 0
    for unit in all_units(run):
        key = unit.key()
        assert unit_problem(unit.folder, key) is None
        for path in files_of(unit):
            whole = path.read_bytes()
            for damage in DAMAGES:
                with put_back(path):
                    damage(path)
                    changed = path.read_bytes() != whole
                    problem = unit_problem(unit.folder, key)
                assert not changed or problem is not None, f"{path}: {damage.__name__}"
                looked_at += changed
        assert unit_problem(unit.folder, key) is None
    assert looked_at > 400


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize("damage", [shortened, zeroed])
def test_a_run_whose_every_file_is_damaged_is_run_again_to_the_same_bytes(
    run: Path, small_run: Path, damage: Damage
):
    for unit in all_units(run):
        for path in files_of(unit):
            damage(path)
    for step in STEPS:
        run_step_here(Workspace.open(run), step)
    checkouts.assert_same_outputs(run, small_run)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed_run(tmp_path_factory)


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "damage"),
    [
        ("pseudo_masks", shortened), ("pseudo_masks", zeroed), ("train", shortened),
        ("train", zeroed_at_its_end), ("evaluate", shortened), ("evaluate", zeroed_at_its_end),
    ],
)  # fmt: skip
def test_damage_to_what_a_cut_step_goes_on_from_changes_no_byte_of_its_result(
    undisturbed: Undisturbed, tmp_path: Path, step: str, damage: Damage
):
    root = tmp_path / "run"
    shutil.copytree(undisturbed.before(step), root)
    late = undisturbed.changes(step) * 2 // 3
    assert run_step(root, step, late, killed).code == -signal.SIGKILL
    kept = [path for path in (root / ".scratch" / step).rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        damage(path)
    ended = run_step(root, step)
    assert ended.code == 0, ended.error
    undisturbed.assert_same_until(step, root)
