"""A run that is killed at any moment loses nothing that was finished.

Undisturbed and killed runs lie in different folders and have to leave the same bytes; see
`tests.support.checkouts.outputs` for the measured times that are left out.
"""

import itertools
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support import checkouts
from tests.support.checkouts import STEPS
from tests.support.forked_steps import Event, interrupted, killed, run_step, terminated
from tests.support.killed_runs import (
    Left,
    Undisturbed,
    assert_nothing_was_lost,
    finished_images,
    undisturbed_run,
)

pytestmark = [pytest.mark.weights, pytest.mark.slow]
KILLS = {"download": 3, "pseudo_masks": 5, "subsample": 2, "train": 4, "evaluate": 4, "report": 2,
         "export": 2,
         "review": 2}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed_run(tmp_path_factory)


def moments(step: str, changes: int) -> list[int]:
    """Seeded changes of a step, one from each equal part of them."""
    rng, kills = random.Random(step), KILLS[step]
    edges = [changes * part // kills for part in range(kills + 1)]
    return [rng.randint(low + 1, high) for low, high in itertools.pairwise(edges)]


def kill_and_run_again(undisturbed: Undisturbed, root: Path, step: str, at: int) -> None:
    shutil.copytree(undisturbed.before(step), root)
    assert run_step(root, step, at, killed).code == -signal.SIGKILL
    left = Left.by(root)
    ended = run_step(root, step)
    assert ended.code == 0, ended.error
    assert_nothing_was_lost(root, left)
    undisturbed.assert_same_until(step, root)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_killed_while_it_changes_a_file_goes_on_to_the_same_bytes(
    undisturbed: Undisturbed, tmp_path: Path, step: str
):
    for at in moments(step, undisturbed.changes(step)):
        kill_and_run_again(undisturbed, tmp_path / f"at {at}", step, at)


@pytest.mark.e2e
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_killed_at_each_of_its_changes_goes_on_to_the_same_bytes(
    undisturbed: Undisturbed, tmp_path: Path, step: str
):
    for at in range(1, undisturbed.changes(step) + 1):
        kill_and_run_again(undisturbed, tmp_path / "run", step, at)
        shutil.rmtree(tmp_path / "run")


def test_a_flow_killed_in_the_middle_of_stage_1_goes_on_where_it_was(
    undisturbed: Undisturbed, tmp_path: Path
):
    copy = checkouts.checkout(tmp_path / "checkout", tmp_path / "outside", checkouts.QUICK)
    with copy.started("-m", "flows.run") as run:
        while len(checkouts.computed_units(copy.root)) < 2 or not any(
            finished_images(copy.root).values()
        ):
            assert run.process.poll() is None, "ended before stage 1 was seen under way"
            time.sleep(0.02)
        run.send(signal.SIGKILL)
        assert run.wait().code == -signal.SIGKILL
    left = Left.by(copy.root)
    copy.flow()
    assert_nothing_was_lost(copy.root, left)
    checkouts.assert_same_outputs(copy.root, undisturbed.root)
    checkouts.assert_databases_are_whole(copy)
    assert "up to date" in copy.run("-m", "dvc", "status").out


@pytest.mark.parametrize(
    ("event", "number"), [(interrupted, signal.SIGINT), (terminated, signal.SIGTERM)]
)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_asked_to_stop_says_so_and_leaves_nothing_half_written(
    undisturbed: Undisturbed, tmp_path: Path, step: str, event: Event, number: signal.Signals
):
    shutil.copytree(undisturbed.before(step), tmp_path / "run")
    before = checkouts.outputs(tmp_path / "run")
    ended = run_step(tmp_path / "run", step, undisturbed.changes(step) // 2, event)
    assert ended.code == 128 + number
    assert ended.error.endswith(f"{step}: stopped; the same command goes on\n")
    assert "Traceback" not in ended.error
    after = checkouts.outputs(tmp_path / "run")
    assert all(after[name] == content for name, content in before.items())
