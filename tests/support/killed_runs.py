"""What a killed run left behind, and that nothing of it was lost when the next one is done."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors import safe_open

from fmbseg.store import read_json, write_json
from fmbseg.store.journal import Journal
from fmbseg.store.lines import read_lines
from tests.support import checkouts
from tests.support.forked_steps import run_step
from tests.support.shared_folder import shared_folder


@dataclass(frozen=True)
class Undisturbed:
    """A small run, step by step, that nothing happened to; not to be changed.

    Attributes:
        folder: holds all of it.
    """

    folder: Path

    @property
    def root(self) -> Path:
        """Its workspace."""
        return self.folder / "run"

    def before(self, step: str) -> Path:
        """A copy of the workspace as it was before the step."""
        return self.folder / f"before {step}"

    def changes(self, step: str) -> int:
        """How many changes the step made to files."""
        return int(read_json(self.folder / "changes.json")[step])

    def assert_same_until(self, step: str, root: Path) -> None:
        """A workspace's outputs are this run's, up to those of the step and with no later ones."""
        done = tuple(f"{unit}/" for unit in checkouts.UNITS[: checkouts.STEPS.index(step) + 1])
        wanted = {k: v for k, v in checkouts.outputs(self.root).items() if k.startswith(done)}
        assert checkouts.outputs(root) == wanted, step


def undisturbed_run(factory: pytest.TempPathFactory) -> Undisturbed:
    """The session's."""

    def make(folder: Path) -> None:
        root, changes = folder / "run", {}
        root.mkdir()
        checkouts.set_params(root, checkouts.QUICK)
        for step in checkouts.STEPS:
            shutil.copytree(root, folder / f"before {step}")
            ended = run_step(root, step)
            assert ended.code == 0, ended.error
            changes[step] = ended.changes
        assert len(checkouts.computed_units(root)) == 13
        write_json(folder / "changes.json", changes)

    return Undisturbed(shared_folder(factory, "undisturbed", make))


@dataclass(frozen=True)
class Left:
    """What a killed run left behind.

    Attributes:
        lines: of the journal.
        units: folders of the finished units.
        images: folder of a unit that is not finished to the images that are: of a shard, or of an
            evaluation.
        step: of the last checkpoint of a training that is not complete.
    """

    lines: list[str]
    units: set[str]
    images: dict[str, int]
    step: int | None

    @staticmethod
    def by(root: Path) -> "Left":
        units = {
            manifest.parent.relative_to(root).as_posix()
            for unit in checkouts.UNITS
            for pattern in ("manifest.json", "*/manifest.json")
            for manifest in (root / unit).glob(pattern)
            if manifest.is_file() and not manifest.parent.name.startswith(".")
        }
        complete = any((root / "models").glob(".train.partial-*/manifest.json"))  # to be adopted
        return Left(
            checkouts.computed_units(root), units, finished_images(root),
            None if complete else checkpoint_step(root),
        )  # fmt: skip

    def row(self, root: Path) -> str:
        """For people: what was there, and what was under way."""
        folders = {root / unit for unit in checkouts.UNITS} | {
            (root / u).parent for u in checkouts.UNITS
        }
        begun = sorted(
            path.name.split(".")[1]
            for folder in folders
            if folder.is_dir()
            for path in folder.iterdir()
            if ".partial-" in path.name
        )
        return (
            f"{len(self.units)} units, images {self.images}, checkpoint {self.step}, "
            f"under way: {', '.join(begun) or 'none'}"
        )


def finished_images(root: Path) -> dict[str, int]:
    """Unit to how many of its images lie finished where a cut stage 1 or evaluation keeps them."""
    shards = (root / ".scratch" / "pseudo_masks").glob("*/*-[0-9]*")
    found = {
        f"data/pseudo_masks/{folder.name}": len(list(folder.glob("[!.]*.json")))
        for folder in shards
    }
    for file in (root / ".scratch" / "evaluate").glob("*/*/images.jsonl"):
        found[f"reports/evaluate/{file.parents[1].name}"] = len(read_lines(file))
    return found


def checkpoint_step(root: Path) -> int | None:
    """Finished steps of a cut training at its last checkpoint; None without one."""
    for path in (root / ".scratch" / "train").glob("*/checkpoint.safetensors"):
        with safe_open(path, framework="pt") as file:
            return int(json.loads(file.metadata()["progress"])["step"])
    return None


def assert_nothing_was_lost(root: Path, left: Left) -> None:
    """What was finished at the kill was not computed again after it."""
    journal = Journal(root / ".scratch" / "journal.jsonl").lines()
    units = [line["unit"] for line in journal]
    assert len(units) == len(set(units)), "a unit was computed twice"
    assert units[: len(left.lines)] == left.lines
    new = {line["unit"]: line for line in journal[len(left.lines) :]}
    assert not left.units & set(new), "a unit was in place and was computed again"
    for unit, images in left.images.items():
        line = new.get(unit, {})
        if "computed" in line:  # else it was complete, and adopted
            assert line["reused"] == images, unit
    if left.step is not None and "models/train" in new:
        total = read_json(root / "models/train/history.json")[-1]["step"]
        assert read_json(root / "models/train/timing.json")["steps"] == total - left.step
