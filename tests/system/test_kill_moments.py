"""Runs that are killed with all their processes at random moments, and then simply run again."""

import functools
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import checkouts
from tests.support.checkouts import STEPS, Checkout
from tests.support.killed_runs import Left, assert_nothing_was_lost

pytestmark = [pytest.mark.weights, pytest.mark.e2e, pytest.mark.timeout(1800)]
PARAMS = {
    **checkouts.QUICK,
    "data": {"train_images": 24, "val_images": 2, "test_images": 12, "shard_images": 8},
}
_EACH_STEP = f"""
import subprocess, sys
for step in {STEPS}:
    subprocess.run([sys.executable, "-m", "fmbseg.steps", step], check=True)
"""
WAYS = {
    "flow": ("-m", "flows.run"),
    "steps": ("-c", _EACH_STEP),
    "repro": ("-m", "dvc", "repro"),
}
MOMENTS = {"flow": 20, "steps": 20, "repro": 5}


@dataclass(frozen=True)
class Undisturbed:
    """A run of one way that nothing happened to.

    Attributes:
        root: its checkout.
        seconds: that it took.
    """

    root: Path
    seconds: float


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's and DVC's folders, which live through all the kills."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, outside: Path
) -> Callable[[str], Undisturbed]:
    @functools.cache
    def of(way: str) -> Undisturbed:
        copy = checkouts.checkout(tmp_path_factory.mktemp(way) / "checkout", outside, PARAMS)
        began = time.monotonic()
        done = copy.run(*WAYS[way], seconds=900)
        assert done.code == 0, done.error[-3000:]
        return Undisturbed(copy.root, time.monotonic() - began)

    return of


def moment(way: str, number: int, seconds: float) -> float:
    """Seeded moment in the `number`-th of as many equal parts of a run as there are kills."""
    share = random.Random(f"{way} {number}").random()
    return seconds * (number + share) / MOMENTS[way]


@pytest.mark.parametrize(
    ("way", "number"), [(way, number) for way in WAYS for number in range(MOMENTS[way])]
)
def test_a_run_killed_at_a_random_moment_is_run_again_to_the_same_bytes(
    undisturbed: Callable[[str], Undisturbed], outside: Path, tmp_path: Path, way: str, number: int
):
    calm = undisturbed(way)
    fresh = number % 10 == 0  # here the kill may also hit Prefect while it makes its database
    copy = checkouts.checkout(tmp_path / "checkout", tmp_path if fresh else outside, PARAMS)
    at = moment(way, number, calm.seconds)
    with copy.started(*WAYS[way]) as run:
        try:
            run.process.wait(at)
        except subprocess.TimeoutExpired:
            run.send(signal.SIGKILL)
        code = run.wait().code
    left = Left.by(copy.root)
    print(f"{way}\t{at:.1f} of {calm.seconds:.1f} s\tcode {code}\t{left.row(copy.root)}", end="")
    done = copy.run(*WAYS[way], seconds=900)
    assert done.code == 0, done.error[-3000:]
    print(f"\tthen {Left.by(copy.root).row(copy.root)}")
    assert_nothing_was_lost(copy.root, left)
    checkouts.assert_same_outputs(copy.root, calm.root)
    if way != "steps":
        assert_versioned(copy)
    if way == "flow":
        checkouts.assert_databases_are_whole(copy)


def assert_versioned(copy: Checkout) -> None:
    assert "up to date" in copy.run("-m", "dvc", "status").out
