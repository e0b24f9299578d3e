"""What else may happen to a workspace: nothing of it is worse than computing one unit again."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from flows.api import own_server
from fmbseg.miniature.world import generate
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, run_unit, unit_is_valid
from fmbseg.store.journal import Journal
from tests.support import checkouts
from tests.support.checkouts import STEPS, UNITS
from tests.support.forked_steps import robbed, run_step
from tests.support.killed_runs import undisturbed_run
from tests.support.small_disk import mounted

pytestmark = [pytest.mark.weights, pytest.mark.slow]
KEY = UnitKey(params={"epochs": 3})


def run_all(root: Path) -> list[str]:
    """Run every step; the units that were computed."""
    before = len(checkouts.computed_units(root))
    for step in STEPS:
        ended = run_step(root, step)
        assert ended.code == 0, ended.error
    return checkouts.computed_units(root)[before:]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory).root


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def empty(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"")


def halve(folder: Path) -> None:
    content = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(content[: len(content) // 2])


def replace_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def replace_by_a_broken_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.parent / "nowhere")


def move_and_edit(folder: Path) -> None:
    """To another disk, with a link in its place; then something is added there."""
    there = folder.parent.parent / "other disk"
    folder.rename(there)
    folder.symlink_to(there)
    (there / "more.txt").touch()


@pytest.mark.parametrize(
    "damage", [empty, halve, replace_by_a_file, replace_by_a_broken_link, move_and_edit]
)
def test_a_damaged_unit_alone_is_computed_again_to_the_same_bytes(
    copied: Path, finished: Path, damage: Callable[[Path], None]
):
    damage(copied / "data" / "subsample")
    damage(copied / "reports" / "evaluate" / "foundation-miniature")
    assert run_all(copied) == ["data/subsample", "reports/evaluate/foundation-miniature"]
    checkouts.assert_same_outputs(copied, finished)


def test_a_path_with_spaces_and_umlauts_gives_the_same_bytes(finished: Path, tmp_path: Path):
    root = tmp_path / "Übung am See – Kopie (2)" / "run"
    root.mkdir(parents=True)
    checkouts.set_params(root, checkouts.QUICK)
    assert len(run_all(root)) == 13
    checkouts.assert_same_outputs(root, finished)


def test_scratch_may_be_removed_while_a_step_runs(finished: Path, tmp_path: Path):
    root = tmp_path / "run"
    root.mkdir()
    checkouts.set_params(root, checkouts.QUICK)
    moments = {"download": 20, "pseudo_masks": 50, "subsample": 16, "train": 17}
    for step, first in moments.items():
        for at in range(first, first + 3):
            shutil.rmtree(root / UNITS[STEPS.index(step)], ignore_errors=True)
            ended = run_step(root, step, at, robbed)
            assert ended.code == 0, f"{step} at {at}: {ended.error}"
    run_all(root)
    checkouts.assert_same_outputs(root, finished)


def test_dates_play_no_part(copied: Path):
    for path in copied.rglob("*"):
        os.utime(path, (2**32, 2**32))
    assert run_all(copied) == []


def test_a_lock_file_that_was_left_behind_holds_nobody_up(tmp_path: Path):
    (tmp_path / "unit.lock").write_text("4711")
    assert run_unit(tmp_path / "unit", KEY, lambda out: (out / "a").touch())


def test_what_a_run_killed_after_its_last_rename_resumed_from_is_removed(tmp_path: Path):
    run_unit(tmp_path / "unit", KEY, lambda out: (out / "a").touch())
    keep = tmp_path / "keep"
    keep.mkdir()
    assert not run_unit(tmp_path / "unit", KEY, lambda out: None, keep=keep)
    assert not keep.exists()


def test_a_unit_that_is_replaced_while_it_is_checked_is_not_valid(tmp_path: Path):
    unit = tmp_path / "unit"
    run_unit(unit, KEY, lambda out: (out / "a").touch())
    (unit / "a").unlink()
    (unit / "a").symlink_to("gone")  # listed, and not there when it is opened
    assert not unit_is_valid(unit, KEY)


def test_a_line_after_a_cut_one_is_not_lost(tmp_path: Path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.path.write_text('{"step": "tra')
    for unit in ("a", "b"):
        with journal.entry("train", unit, "key") as entry:
            entry.computed = True
    assert [line["unit"] for line in journal.lines()] == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [b"", b"seed: [1", b"seed: 0\n", b"\xff\xfe\x00", b"- a\n- b\n", b"seed: 0\nseed 1\n", None],
)
def test_a_damaged_params_yaml_is_named_in_one_line(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], content: bytes | None,
):  # fmt: skip
    from flows import run

    root = tmp_path / "run"
    root.mkdir()
    if content is None:
        (root / "params.yaml").mkdir()
    else:
        (root / "params.yaml").write_bytes(content)
    ended = run_step(root, "download")
    assert ended.code == 1
    monkeypatch.setattr(sys, "argv", ["python -m flows.run", "--workspace", str(root)])
    assert run.main() == 2
    for error in (ended.error, capsys.readouterr().err):
        assert len(error.splitlines()) == 1, error
        assert "params.yaml" in error


def test_weights_that_are_not_there_are_named_without_a_trace(copied: Path):
    checkouts.set_params(copied, {"models": {"profile": "paper"}})
    ended = run_step(copied, "pseudo_masks")
    assert ended.code == 1
    assert "weights" in ended.error
    assert "Traceback" not in ended.error


def test_a_folder_that_cannot_be_written_to_is_named(finished: Path, tmp_path: Path):
    with mounted(tmp_path / "disk", megabytes=16) as disk:
        if disk is None:
            pytest.skip("no small disk can be mounted: user namespaces (unshare) are not allowed")
        root = disk.outside / "run"
        root.mkdir()
        checkouts.set_params(root, checkouts.QUICK)
        disk.read_only(True)
        ended = run_step(root, "download")
        assert ended.code == 1
        assert "read-only file system" in ended.error.lower()
        assert str(root / "data") in ended.error
        disk.read_only(False)
        assert run_step(root, "download").code == 0


def test_images_of_any_two_folders_lie_in_different_shards(tmp_path: Path):
    folders = (".", "images", "a/b", "a__b", "a_/b", "a/_b", "Ä" * 60, "x-0000", "x", "d/" * 80)
    root, photos = tmp_path / "run", tmp_path / "photos"
    root.mkdir()
    picture = Image.fromarray(next(iter(generate(1, 1, "test"))).image)
    for folder in folders:
        (photos / folder).mkdir(parents=True, exist_ok=True)
        picture.save(photos / folder / "one.png")
    (tmp_path / "classes.txt").write_text("sky\ngrass\n")
    data = {"images": str(photos), "classes": str(tmp_path / "classes.txt"), "shard_images": 1}
    checkouts.set_params(root, {"data": data})
    assert run_step(root, "download").code == 0
    found = shards(Workspace.open(root))
    assert sorted(name for names in found.values() for name in names) == sorted(
        (Path(folder) / "one.png").as_posix() for folder in folders
    )
    assert {"images-0000", "a__b-0000", "x-0000-0000", "x-0000"} <= set(found)
    assert max(len(name.encode()) for name in found) < 120


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nowhere = f"sqlite+aiosqlite:///{tmp_path / 'missing' / 'prefect.db'}"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", nowhere)
    wanted = r"own Prefect server ended with code \d+: OperationalError: .*unable to open"
    with own_server() as server, pytest.raises(RuntimeError, match=wanted):
        server.wait()
