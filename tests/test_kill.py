"""A run that is killed at any moment loses nothing that was finished.

Undisturbed and killed runs lie in different folders and have to leave the same bytes; see
`tests.system.outputs` for the measured times that are left out.
"""

import random
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from fmbseg.store import read_json
from fmbseg.store.journal import Journal
from tests import system
from tests.forked import run_step
from tests.system import STEPS

pytestmark = [pytest.mark.weights, pytest.mark.slow]
KILLS = {"download": 3, "pseudo_masks": 5, "subsample": 2, "train": 4, "evaluate": 4, "report": 2}


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to.

    Attributes:
        root: its workspace.
        before: step to a copy of the workspace as it was before the step.
        changes: step to how many changes it made to files.
    """

    root: Path
    before: dict[str, Path]
    changes: dict[str, int]


@dataclass(frozen=True)
class Left:
    """What a killed run left behind.

    Attributes:
        lines: of the journal.
        units: folders of the finished units.
        images: shard to finished images of a shard that is not finished.
        step: of the training's last checkpoint.
    """

    lines: list[str]
    units: set[str]
    images: dict[str, int]
    step: int | None

    @staticmethod
    def by(root: Path) -> "Left":
        units = {
            manifest.parent.relative_to(root).as_posix()
            for unit in system.UNITS
            for manifest in [root / unit / "manifest.json", *(root / unit).glob("*/manifest.json")]
            if manifest.is_file() and not manifest.parent.name.startswith(".")
        }
        return Left(
            system.computed_units(root), units, system.finished_images(root),
            system.checkpoint_step(root),
        )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    root, before, changes = folder / "run", {}, {}
    root.mkdir()
    system.set_params(root, system.QUICK)
    for step in STEPS:
        before[step] = folder / f"before {step}"
        shutil.copytree(root, before[step])
        ended = run_step(root, step)
        assert ended.code == 0, ended.error
        changes[step] = ended.changes
    return Undisturbed(root, before, changes)


def assert_nothing_was_lost(root: Path, left: Left) -> None:
    """What was finished at the kill was not computed again after it."""
    journal = Journal(root / ".scratch" / "journal.jsonl").lines()
    units = [line["unit"] for line in journal]
    assert len(units) == len(set(units)), "a unit was computed twice"
    assert units[: len(left.lines)] == left.lines
    new = {line["unit"]: line for line in journal[len(left.lines) :]}
    assert not left.units & set(new), "a unit was in place and was computed again"
    for shard, images in left.images.items():
        line = new.get(f"data/pseudo_masks/{shard}", {})
        if "computed" in line:  # else it was complete, and adopted
            assert line["reused"] == images, shard
    if left.step is not None and "models/train" in new:
        total = read_json(root / "models/train/history.json")[-1]["step"]
        assert read_json(root / "models/train/timing.json")["steps"] == total - left.step


def moments(step: str, changes: int) -> list[int]:
    """Seeded changes of a step, one from each equal part of them."""
    rng, kills = random.Random(step), KILLS[step]
    edges = [changes * part // kills for part in range(kills + 1)]
    return [rng.randint(low + 1, high) for low, high in zip(edges, edges[1:], strict=False)]


def kill_and_run_again(undisturbed: Undisturbed, root: Path, step: str, at: int) -> None:
    shutil.copytree(undisturbed.before[step], root)
    assert run_step(root, step, at).code == -signal.SIGKILL
    left = Left.by(root)
    ended = run_step(root, step)
    assert ended.code == 0, ended.error
    assert_nothing_was_lost(root, left)
    done = tuple(system.UNITS[: STEPS.index(step) + 1])
    wanted = {k: v for k, v in system.outputs(undisturbed.root).items() if k.startswith(done)}
    assert system.outputs(root) == wanted, f"{step} killed at change {at}"


@pytest.mark.parametrize("step", STEPS)
def test_a_step_killed_while_it_changes_a_file_goes_on_to_the_same_bytes(
    undisturbed: Undisturbed, tmp_path: Path, step: str
):
    for at in moments(step, undisturbed.changes[step]):
        kill_and_run_again(undisturbed, tmp_path / f"at {at}", step, at)
